// SPDX-License-Identifier: MIT
// Calls the example of docs/boot.md with the descriptors of a small machine, 48 bytes apart.
#include <stdio.h>

int main(void)
{
    static const uint64_t descriptors[] = {
        7, 0x100000, 0, 0x400, 8, 0, /* conventional */
        4, 0x500000, 0, 0x100, 8, 0, /* boot services data */
        2, 0x600000, 0, 0x100, 8, 0, /* loader data: the kernel lies in it */
    };
    static struct mm_boot_entry entries[MM_BOOTMAP_CAPACITY(8)];
    static struct mm_bootmap map;
    mm_status_t status = mm_bootmap_init(&map, entries, MM_BOOTMAP_CAPACITY(8));

    if (status == MM_OK)
        status = read_uefi(&map, descriptors, sizeof(descriptors), 48, 1,
                           mm_prange(mm_paddr(0x600000), 0x80000));
    if (status == MM_OK)
        status = mm_bootmap_reclaim(&map, MM_BOOT_BOOTLOADER);
    printf("uefi: %s, %llu bytes usable\n", mm_status_str(status),
           (unsigned long long)mm_bootmap_usable_bytes(&map));
    return status == MM_OK && mm_bootmap_usable_bytes(&map) == 0x600000 - 0x80000 ? 0 : 1;
}
