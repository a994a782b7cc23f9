// SPDX-License-Identifier: MIT
/**
 * Segments: flat, ring 0 and ring 3, and a task state segment for the stacks of double faults and of
 * what comes from ring 3. Each processor has its own, because a task state segment can be loaded by
 * one.
 */
#ifndef MINIKERNEL_GDT_H
#define MINIKERNEL_GDT_H

#include <stdint.h>

#define GDT_KERNEL_CODE 0x08
#define GDT_KERNEL_DATA 0x10
#define GDT_USER_DATA   0x18 /**< below the code: where SYSRET looks for it */
#define GDT_USER_CODE   0x20
#define GDT_TSS         0x28

/** In a selector: the ring that it is for. */
#define GDT_RING_3 3

/** Interrupt stack of double faults: what caused one may be that there is no stack left. */
#define GDT_IST_DOUBLE_FAULT 1

#define GDT_DOUBLE_FAULT_STACK 8192

struct tss {
    uint32_t reserved0;
    uint32_t rsp[6]; // three pointers as halves: the hardware does not align them; of ring 0 first
    uint32_t reserved1[2];
    uint32_t ist[14];
    uint32_t reserved2[2];
    uint16_t reserved3;
    uint16_t io_bitmap;
};

struct gdt {
    uint64_t entries[7];
    struct tss tss;
    _Alignas(16) uint8_t double_fault_stack[GDT_DOUBLE_FAULT_STACK];
};

/** Fill it in, and make it that of this processor. */
void gdt_load(struct gdt *gdt);

#endif
