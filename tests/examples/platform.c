// SPDX-License-Identifier: MIT
// Calls the example of docs/getting-started.md: it tells of a double free.
#include <mm/frame.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char said[512];

void kernel_print(const char *text, size_t len)
{
    if (strlen(said) + len < sizeof(said))
        strncat(said, text, len);
}

void kernel_print_number(uint64_t value)
{
    char text[20];

    kernel_print(text, (size_t)snprintf(text, sizeof(text), "%llx", (unsigned long long)value));
}

void kernel_halt(void)
{
    bool right = strstr(said, "frame: double free of a frame at 0x") != NULL &&
                 strstr(said, "on record: free") != NULL &&
                 strstr(said, "found in a call from 0x") != NULL &&
                 strstr(said, ", allocated by 0x0, freed by 0x0\n") != NULL;

    printf("%s%s\n", said, right ? "told" : "not told");
    exit(right ? 0 : 1);
}

int main(void)
{
    static struct mm_boot_entry entries[MM_BOOTMAP_CAPACITY(4)];
    static struct mm_bootmap map;
    static struct mm_frames frames;
    static _Alignas(64) unsigned char metadata[1 << 20];
    struct mm_frames_config config = {.map = &map,
                                      .nr_cpus = 1,
                                      .metadata = metadata,
                                      .metadata_len = sizeof(metadata),
                                      .platform = my_platform()};
    mm_status_t status = mm_bootmap_init(&map, entries, MM_BOOTMAP_CAPACITY(4));
    mm_pfn_t frame;

    if (status == MM_OK)
        status = mm_bootmap_add(&map, mm_prange(mm_paddr(0), 16 << 20), MM_BOOT_USABLE);
    if (status == MM_OK)
        status = mm_frame_init(&frames, &config);
    if (status == MM_OK)
        status = mm_frame_alloc(&frames, NULL, &frame);
    if (status != MM_OK)
        return 2;
    mm_frame_free(&frames, frame, 0);
    mm_frame_free(&frames, frame, 0);
    return 3; /* the second did not come back */
}
