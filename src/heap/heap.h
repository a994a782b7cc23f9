// SPDX-License-Identifier: MIT
/**
 * What the files of the general heap share.
 */
#ifndef MMI_HEAP_HEAP_H
#define MMI_HEAP_HEAP_H

#include <mm/heap.h>

#include "run.h"

static inline bool mmi_is_heap(const struct mm_heap *heap)
{
    return heap != NULL && heap->magic == MMI_HEAP_MAGIC;
}

/** The smallest class for `size` whose objects all lie at multiples of `align`, up to a page. */
unsigned mmi_heap_class(const struct mm_heap *heap, uint64_t align, uint64_t size);

/** What an alignment that is asked for means: 16 at least. 0: it is none. */
static inline uint64_t mmi_heap_align(uint64_t align)
{
    if ((align & (align - 1)) != 0 || align > MM_HEAP_MAX_ALIGN) {
        return 0;
    }
    return align < 16 ? 16 : align;
}

/** Whether objects of this size and alignment share slabs. */
static inline bool mmi_heap_in_slab(uint64_t align, uint64_t size)
{
    return size <= MM_HEAP_MAX_SLAB_SIZE && align <= MM_PAGE_SIZE;
}

/** Allocate, at a multiple of `align` (a power of two from 16); `flags` are MM_HEAP_ATOMIC. */
void *mmi_heap_alloc(struct mm_heap *heap, uint32_t cpu, uint64_t align, uint64_t size,
                     uint32_t flags);

/**
 * Free an object that is not of the slabs of this size: a run, nothing, or one to complain of.
 * `align` is what mmi_heap_align() made of it.
 */
void mmi_heap_free_unlike(struct mm_heap *heap, void *object, uint64_t size, uint64_t align);

/** The address cannot be freed: find out why, and panic. */
_Noreturn void mmi_heap_panic_free(const struct mm_heap *heap, uint64_t address);

#endif
