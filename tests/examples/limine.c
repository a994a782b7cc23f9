// SPDX-License-Identifier: MIT
// Calls the example of docs/getting-started.md with a small map as Limine would hand it over.
#include <stdio.h>

int main(void)
{
    static struct mm_boot_entry storage[MM_BOOTMAP_CAPACITY(8)];
    static struct mm_bootmap map;
    struct limine_entry low = {0, 0x9f000, 0}, image = {0x100000, 0x100000, 6},
                        high = {0x200000, 0x800000, 0}, odd = {0x300000, 0x1000, 99};
    struct limine_entry *list[] = {&high, &low, &image, &odd};
    mm_status_t status = mm_bootmap_init(&map, storage, MM_BOOTMAP_CAPACITY(8));

    if (status == MM_OK)
        status = read_limine(&map, list, 4);
    printf("limine: %s, %llu bytes usable\n", mm_status_str(status),
           (unsigned long long)mm_bootmap_usable_bytes(&map));
    return status == MM_OK && mm_bootmap_usable_bytes(&map) == 0x9f000 + 0x800000 - 0x1000 ? 0 : 1;
}
