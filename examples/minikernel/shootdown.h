// SPDX-License-Identifier: MIT
/**
 * Processors that make each other forget translations: what the library asks of a kernel for that,
 * and what the kernel's own loops owe to it. Interrupt handler, ops, nothing else.
 */
#ifndef MINIKERNEL_SHOOTDOWN_H
#define MINIKERNEL_SHOOTDOWN_H

#include "memory.h"

/** Make `m->tlb` for all processors. The kernel's root is made after, and names it. */
void shootdown_init(struct memory *m);

/** The calling processor goes to the kernel's root, and is told from there on what others unmap. */
void shootdown_enter(struct memory *m);

/** It goes to the root of boot.S, and is told no more. */
void shootdown_leave(struct memory *m);

/**
 * For every turn of a loop that waits, whatever it waits for: a processor that spins with interrupts
 * off forgets here what others have unmapped. The library's own loops come here as well.
 */
void shootdown_relax(void);

/** Interrupts that the library had this processor send. */
uint64_t shootdown_nr_sent(uint32_t cpu);

#endif
