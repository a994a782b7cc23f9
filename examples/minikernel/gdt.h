// SPDX-License-Identifier: MIT
/**
 * Segments: flat, ring 0, and a task state segment for the stack of double faults.
 */
#ifndef MINIKERNEL_GDT_H
#define MINIKERNEL_GDT_H

#define GDT_KERNEL_CODE 0x08
#define GDT_KERNEL_DATA 0x10
#define GDT_TSS         0x18

/** Interrupt stack of double faults: what caused one may be that there is no stack left. */
#define GDT_IST_DOUBLE_FAULT 1

void gdt_init(void);

#endif
