// SPDX-License-Identifier: MIT
/**
 * The checks, one function a theme, in the order in which kmain() runs them. What they need they
 * take, and they leave memory as they found it.
 */
#ifndef MINIKERNEL_CHECKS_H
#define MINIKERNEL_CHECKS_H

#include "memory.h"

/** Exceptions are caught and the kernel goes on; a broken stack has another to land on. */
void checks_trap(void);

/** The normalised map is one to allocate from; what the boot loader holds is not for allocation yet. */
void checks_boot(struct memory *m);

/** What the boot loader held is for allocation, and nothing else has become so. */
void checks_reclaimed(struct memory *m);

/** What protects memory is on as far as the CPU has it, and the timer is off. */
void checks_cpu(struct memory *m);

/**
 * Every processor is protected as the first; all of them in the frame allocator, a cache and the heap
 * at once.
 */
void checks_smp(struct memory *m);

/** All processors unmap what others have touched, and nobody sees what is gone. */
void checks_shootdown(struct memory *m, const struct options *options);

/** Processors that wait for each other to flush, with interrupts off and locks held: nobody hangs. */
void checks_standoff(struct memory *m, const struct options *options);

/** A space is cloned while all other processors store to it. */
void checks_fork(struct memory *m, const struct options *options);

/** Programs in ring 3 on all processors: spaces, clones, what is refused, what is taken away. */
void checks_ring3(struct memory *m, const struct options *options);

/** Stacks of the kernel virtual arena, per-CPU areas, memory, devices, a heap over the arena. */
void checks_kva(struct memory *m);

/** Measures what it costs to flush page by page, and all at once: only if it is asked for. */
void checks_threshold(struct memory *m);

/** The kernel's own root: rights of the image, direct map, no identity map, guards, devices. */
void checks_paging(struct memory *m);

/** Leaves of each size; splitting, unmapping and protecting, as the TLB sees them. */
void checks_leaf(struct memory *m);

/** Frames: half of memory at once, zeroing, alignment. */
void checks_frame(struct memory *m);

/** Nodes: every policy gives frames of the right one, and the figures of all add up. */
void checks_nodes(struct memory *m);

/** The part of checks_smp() that is about nodes. */
void checks_nodes_together(struct memory *m);

/** The heap under a random load. */
void checks_heap(struct memory *m);

/** Spaces: lazy memory, two at once, clones; the kernel's own with a guard page. */
void checks_space(struct memory *m);

/** User copy, and what keeps the kernel from touching user memory otherwise. */
void checks_user(struct memory *m);

/** DMA regions. */
void checks_dma(struct memory *m);

/** The permission truth table, as much of it as the options ask for. */
void checks_truth(struct memory *m, const struct options *options);

/** The tests that the host runs from the same files. */
void checks_both(struct memory *m);

/** Takes down what is left, step by step: every frame is back, then every byte of the map. */
void checks_balance(struct memory *m);

/** All of it again with mm_system_init(), from the map that is left. */
void checks_system(struct memory *m);

#endif
