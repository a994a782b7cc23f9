// SPDX-License-Identifier: MIT
//
// The four functions that libmm needs from its kernel, and that a compiler may call on its own.
// String instructions do the work: a loop in C could be compiled into a call of the very function
// that it implements.

#include <stddef.h>
#include <stdint.h>

void *memcpy(void *restrict to, const void *restrict from, size_t len);
void *memmove(void *to, const void *from, size_t len);
void *memset(void *to, int value, size_t len);
int memcmp(const void *left, const void *right, size_t len);

void *memcpy(void *restrict to, const void *restrict from, size_t len)
{
    void *d = to;
    const void *s = from;
    size_t words = len / 8;
    size_t bytes = len % 8;
    __asm__ volatile("rep movsq" : "+D"(d), "+S"(s), "+c"(words) : : "memory");
    __asm__ volatile("rep movsb" : "+D"(d), "+S"(s), "+c"(bytes) : : "memory");
    return to;
}

void *memmove(void *to, const void *from, size_t len)
{
    // Distance as unsigned: overlap harms an upward copy only if the target starts inside the
    // source.
    if ((uintptr_t)to - (uintptr_t)from >= len) {
        return memcpy(to, from, len);
    }
    unsigned char *d = (unsigned char *)to + len - 1;
    const unsigned char *s = (const unsigned char *)from + len - 1;
    size_t bytes = len;
    __asm__ volatile("std\n\trep movsb\n\tcld" : "+D"(d), "+S"(s), "+c"(bytes) : : "memory", "cc");
    return to;
}

void *memset(void *to, int value, size_t len)
{
    void *d = to;
    size_t words = len / 8;
    size_t bytes = len % 8;
    uint64_t pattern = 0x0101010101010101u * (unsigned char)value;
    __asm__ volatile("rep stosq" : "+D"(d), "+c"(words) : "a"(pattern) : "memory");
    __asm__ volatile("rep stosb" : "+D"(d), "+c"(bytes) : "a"(pattern) : "memory");
    return to;
}

int memcmp(const void *left, const void *right, size_t len)
{
    const unsigned char *l = left;
    const unsigned char *r = right;
    for (size_t i = 0; i < len; i++) {
        if (l[i] != r[i]) {
            return l[i] < r[i] ? -1 : 1;
        }
    }
    return 0;
}
