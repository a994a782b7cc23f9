// SPDX-License-Identifier: MIT
//
// Descriptors: Intel SDM vol. 3A, 3.4.5 (segments), 8.2.3 (TSS descriptor), 8.7 (64-bit TSS).

#include "gdt.h"

#include <stddef.h>
#include <stdint.h>

_Static_assert(sizeof(struct tss) == 104, "the hardware defines the size");

struct gdt_pointer {
    uint16_t limit;
    uint64_t base;
} __attribute__((packed));

static void set_ist(struct tss *tss, unsigned number, uint64_t top)
{
    uint32_t *entry = &tss->ist[2 * (size_t)(number - 1)];
    entry[0] = (uint32_t)top;
    entry[1] = (uint32_t)(top >> 32);
}

static void set_tss_descriptor(struct gdt *gdt)
{
    uint64_t base = (uintptr_t)&gdt->tss;
    uint64_t limit = sizeof(gdt->tss) - 1;
    gdt->entries[GDT_TSS / 8] =
        limit | (base & 0xffffff) << 16 | 0x89ull << 40 | (base >> 24 & 0xff) << 56;
    gdt->entries[GDT_TSS / 8 + 1] = base >> 32;
}

void gdt_load(struct gdt *gdt)
{
    set_ist(&gdt->tss, GDT_IST_DOUBLE_FAULT,
            (uintptr_t)gdt->double_fault_stack + sizeof(gdt->double_fault_stack));
    gdt->tss.io_bitmap = sizeof(gdt->tss);
    gdt->entries[GDT_KERNEL_CODE / 8] = 0x00af9a000000ffff;
    gdt->entries[GDT_KERNEL_DATA / 8] = 0x00cf92000000ffff;
    gdt->entries[GDT_USER_DATA / 8] = 0x00cff2000000ffff;
    gdt->entries[GDT_USER_CODE / 8] = 0x00affa000000ffff;
    set_tss_descriptor(gdt);

    struct gdt_pointer pointer = {.limit = sizeof(gdt->entries) - 1,
                                  .base = (uintptr_t)gdt->entries};
    __asm__ volatile("lgdt %0\n\t"
                     "pushq %1\n\t" // a far return is how 64-bit code loads cs
                     "leaq 1f(%%rip), %%rax\n\t"
                     "pushq %%rax\n\t"
                     "lretq\n\t"
                     "1:\n\t"
                     "movw %2, %%ax\n\t"
                     "movw %%ax, %%ds\n\t"
                     "movw %%ax, %%es\n\t"
                     "movw %%ax, %%ss\n\t"
                     "movw %3, %%ax\n\t"
                     "ltr %%ax"
                     :
                     : "m"(pointer), "i"(GDT_KERNEL_CODE), "i"(GDT_KERNEL_DATA), "i"(GDT_TSS)
                     : "rax", "memory");
}
