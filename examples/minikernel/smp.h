// SPDX-License-Identifier: MIT
/**
 * The other processors: started, given work together with the first, and halted.
 */
#ifndef MINIKERNEL_SMP_H
#define MINIKERNEL_SMP_H

#include "memory.h"

/**
 * Start the processors of `m->processors`. They come up on the root of boot.S, whose identity map
 * must still be there, and go to the kernel's root, which must be active here.
 */
void smp_start(struct memory *m);

/**
 * Give each processor a stack of `m->kva`, with a red zone below. The others move to theirs; the
 * first takes its own with smp_on_own_stack().
 */
void smp_take_stacks(struct memory *m);

/** Call `function` on the stack that this processor, the first, has in the arena. */
void smp_on_own_stack(struct memory *m, void (*function)(void *), void *argument);

/** The others have halted: the stacks go back. */
void smp_give_stacks(struct memory *m);

/** Processors that run, the first included. */
uint32_t smp_nr(void);

/**
 * Have all processors call `work` at the same time, the caller among them; back when all are done.
 *
 * @param work  is told the number of its processor
 */
void smp_run(void (*work)(void *ctx, uint32_t cpu), void *ctx);

/** From inside `work`: wait until all processors are here. */
void smp_barrier(void);

/**
 * Halt the other processors for good. They leave the kernel's root first, so that it can be
 * destroyed.
 */
void smp_stop(void);

#endif
