// SPDX-License-Identifier: MIT
// Calls the example of docs/getting-started.md with the smallest information that a loader could
// hand over.
#include <stdio.h>

int main(void)
{
    static _Alignas(8) uint32_t data[] = {
        /* total size, reserved */
        56,
        0,
        /* memory map: type, size, entry size, version, one usable entry */
        6,
        40,
        24,
        0,
        0x100000,
        0,
        0x400000,
        0,
        1,
        0,
        /* end */
        0,
        8,
    };
    mm_status_t status =
        read_multiboot2(data, sizeof(data), mm_paddr(0x8000), UINT64_C(0xffffffff80000000));

    printf("multiboot2: %s, %llu bytes usable\n", mm_status_str(status),
           (unsigned long long)mm_bootmap_usable_bytes(&map));
    return status == MM_OK && mm_bootmap_usable_bytes(&map) == 0x400000 ? 0 : 1;
}
