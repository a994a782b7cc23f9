// SPDX-License-Identifier: MIT
// Calls the example of docs/getting-started.md over 16 MiB of the host's memory.
#include <stdio.h>

static _Alignas(1 << 21) unsigned char memory[16 << 20];

int main(void)
{
    static struct mm_boot_entry entries[MM_BOOTMAP_CAPACITY(4)];
    static struct mm_bootmap map;
    mm_status_t status = mm_bootmap_init(&map, entries, MM_BOOTMAP_CAPACITY(4));

    if (status == MM_OK)
        status = mm_bootmap_add(&map, mm_prange(mm_paddr(0), sizeof(memory)), MM_BOOT_USABLE);
    if (status == MM_OK)
        status = start_frames(&map, (uint64_t)(uintptr_t)memory, (struct mm_platform){0});
    if (status == MM_OK)
        status = mm_frame_check(&frames);
    printf("frames: %s\n", mm_status_str(status));
    return status == MM_OK ? 0 : 1;
}
