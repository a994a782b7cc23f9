// SPDX-License-Identifier: MIT
/**
 * What each processor has of its own: a number, segments, a stack with a guard page, and the record
 * by which trap_try() comes back. The base of GS points at it: that is how code that every processor
 * runs finds out where it is.
 */
#ifndef MINIKERNEL_PERCPU_H
#define MINIKERNEL_PERCPU_H

#include <stdint.h>

#include <mm/addr.h>

#include "gdt.h"
#include "trap.h"

/** More are not started. */
#define PERCPU_MAX 12

struct percpu {
    struct trap_recovery recovery; /**< first: trap_entry.S finds it at the base of GS */
    struct percpu *self;           /**< percpu_self() reads it through GS */
    uint32_t number;               /**< from 0: the processor that the firmware started */
    uint32_t apic_id;
    uint32_t nr_deaf_locks;      /**< locks held that others wait for with interrupts off: lock.h */
    uint64_t nr_interrupts;      /**< that others sent and this one took, but for those that wake */
    uint64_t nr_user_interrupts; /**< of those, taken in ring 3 */
    struct trap_user *user;      /**< what runs in ring 3; NULL: nothing */
    struct gdt gdt;
};

extern struct percpu percpus[PERCPU_MAX];

/**
 * Make the calling processor number `number`: GS, segments, interrupt table. Exceptions are caught
 * from here on.
 */
void percpu_enter(uint32_t number);

/** The calling processor's. */
struct percpu *percpu_self(void);

/** The page below the stack of a processor, and the top of that stack. */
mm_vaddr_t percpu_stack_guard(uint32_t number);
mm_vaddr_t percpu_stack_top(uint32_t number);

#endif
