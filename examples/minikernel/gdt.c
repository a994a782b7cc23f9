// SPDX-License-Identifier: MIT
//
// Descriptors: Intel SDM vol. 3A, 3.4.5 (segments), 8.2.3 (TSS descriptor), 8.7 (64-bit TSS).

#include "gdt.h"

#include <stddef.h>
#include <stdint.h>

#define DOUBLE_FAULT_STACK_SIZE 8192

struct tss {
    uint32_t reserved0;
    uint32_t rsp[6]; // three pointers as halves: the hardware does not align them
    uint32_t reserved1[2];
    uint32_t ist[14];
    uint32_t reserved2[2];
    uint16_t reserved3;
    uint16_t io_bitmap;
};

_Static_assert(sizeof(struct tss) == 104, "the hardware defines the size");

struct gdt_pointer {
    uint16_t limit;
    uint64_t base;
} __attribute__((packed));

static struct tss tss;
static uint64_t gdt[5];
static _Alignas(16) uint8_t double_fault_stack[DOUBLE_FAULT_STACK_SIZE];

static void set_ist(unsigned number, uint64_t top)
{
    uint32_t *entry = &tss.ist[2 * (size_t)(number - 1)];
    entry[0] = (uint32_t)top;
    entry[1] = (uint32_t)(top >> 32);
}

static void set_tss_descriptor(void)
{
    uint64_t base = (uintptr_t)&tss;
    uint64_t limit = sizeof(tss) - 1;
    gdt[GDT_TSS / 8] = limit | (base & 0xffffff) << 16 | 0x89ull << 40 | (base >> 24 & 0xff) << 56;
    gdt[GDT_TSS / 8 + 1] = base >> 32;
}

void gdt_init(void)
{
    set_ist(GDT_IST_DOUBLE_FAULT, (uintptr_t)double_fault_stack + sizeof(double_fault_stack));
    tss.io_bitmap = sizeof(tss);
    gdt[GDT_KERNEL_CODE / 8] = 0x00af9a000000ffff;
    gdt[GDT_KERNEL_DATA / 8] = 0x00cf92000000ffff;
    set_tss_descriptor();

    struct gdt_pointer pointer = {.limit = sizeof(gdt) - 1, .base = (uintptr_t)gdt};
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
