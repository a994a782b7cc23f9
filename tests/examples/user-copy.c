// SPDX-License-Identifier: MIT
// Calls the example of docs/user-copy.md: a process's own memory is as good as a user's.
#include <stdio.h>

int main(void)
{
    char from[] = "user memory";
    char to[sizeof(from)] = {0};
    uint64_t got = bytes_read(to, (uint64_t)(uintptr_t)from, sizeof(from), false);
    uint64_t none = bytes_read(to, UINT64_C(0xffff800000000000), sizeof(from), true);

    printf("user-copy: %s\n", to);
    return got == sizeof(from) && none == 0 && to[0] == 'u' ? 0 : 1;
}
