// SPDX-License-Identifier: MIT
/**
 * Runs: objects of a heap that are too large to share a slab. Each is a run of pages with a
 * descriptor out of line; only its first page is in the table. The `hints` of the class are
 * MM_HEAP_RUN_BINS lists: freed runs by length, kept for the next; or NULL: none is kept.
 */
#ifndef MMI_HEAP_RUN_H
#define MMI_HEAP_RUN_H

#include "slab.h"

#include <mm/heap.h>

/** Pages that `size` bytes take; 0 counts as 1. */
uint64_t mmi_heap_run_pages(uint64_t size);

/** Pages for `size` bytes, at a multiple of `align` bytes (a power of two). NULL: no memory. */
void *mmi_heap_run_alloc(struct mm_slab_class *runs, uint64_t size, uint64_t align, uint32_t flags);

/**
 * Set a run of `nr_pages` (1 to MM_HEAP_RUN_BINS) aside: it is kept, and so is every run of this
 * class that is freed. False: no memory.
 */
bool mmi_heap_run_set_aside(struct mm_slab_class *runs, uint64_t nr_pages);
/** Take one that was set aside; NULL: all are in use. */
void *mmi_heap_run_take_aside(struct mm_slab_class *runs, uint64_t nr_pages);

/** Free this run, which begins at the address. False: it does not (any more); nothing was done. */
bool mmi_heap_run_free(struct mmi_slab *run, uint64_t address);

/** Give back the pages of freed runs that were kept; returns how many. */
uint64_t mmi_heap_run_reclaim(struct mm_slab_class *runs);

/** Make room for `size` bytes in place. False: not possible, and nothing was done. */
bool mmi_heap_run_grow(struct mmi_slab *run, uint64_t size, uint32_t flags);

/** Give the pages behind the first `size` bytes back. */
void mmi_heap_run_shrink(struct mmi_slab *run, uint64_t size);

/** Hand all descriptors back to the pool. Nothing is allocated, and nobody else is there. */
void mmi_heap_run_destroy(struct mm_slab_class *runs);

#endif
