// SPDX-License-Identifier: MIT
/**
 * The four functions that the library needs from the kernel that links it, and nothing else.
 */
#ifndef MMI_BASE_MEM_H
#define MMI_BASE_MEM_H

#include <stddef.h>

void *memcpy(void *restrict to, const void *restrict from, size_t len);
void *memmove(void *to, const void *from, size_t len);
void *memset(void *to, int byte, size_t len);
int memcmp(const void *a, const void *b, size_t len);

#endif
