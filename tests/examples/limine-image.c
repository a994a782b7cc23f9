// SPDX-License-Identifier: MIT
// Calls the example of docs/getting-started.md with symbols as a linker script would place them.
#include <stdio.h>

__asm__(".pushsection .data\n"
        ".globl text_start, text_end, rodata_start, rodata_end, data_start, data_end\n"
        "text_start: .skip 48\n"
        "text_end:\n"
        "rodata_start: .skip 32\n"
        "rodata_end:\n"
        "data_start: .skip 16\n"
        "data_end:\n"
        ".popsection\n");

int main(void)
{
    struct mm_boot_section image[3];
    uint64_t virt = (uintptr_t)text_start, phys = 0x7000000;

    read_image(image, virt, phys);
    printf("limine-image: %llu, %llu, %llu bytes\n", (unsigned long long)image[0].range.len,
           (unsigned long long)image[1].range.len, (unsigned long long)image[2].range.len);
    return image[0].range.len == 48 && image[0].paddr.raw == phys && image[1].range.len == 32 &&
                   image[2].range.len == 16 && image[2].range.start.raw == virt + 80 &&
                   image[2].paddr.raw == phys + 80
               ? 0
               : 1;
}
