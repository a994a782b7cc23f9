// SPDX-License-Identifier: MIT
/**
 * What the files of the general heap share.
 */
#ifndef MMI_HEAP_HEAP_H
#define MMI_HEAP_HEAP_H

#include <mm/heap.h>

#include "run.h"
#include "watch.h"

/**
 * Behind a CPU's words for allocating: the word of the object that it freed last, that object, what a
 * sample waits for, the CPU's slabs, and its lists of partial ones, which other CPUs write to.
 */
#define MMI_HEAP_LAST_WORD      MM_HEAP_NR_CLASSES
#define MMI_HEAP_LAST_OBJECT    (MM_HEAP_NR_CLASSES + 1)
#define MMI_HEAP_COUNTDOWN      (MM_HEAP_NR_CLASSES + 2)
#define MMI_HEAP_FIRST_OWNED    (MM_HEAP_NR_CLASSES + 8)
#define MMI_HEAP_FIRST_OWN_LIST (MMI_HEAP_FIRST_OWNED + MM_HEAP_NR_CLASSES)
_Static_assert(MMI_HEAP_FIRST_OWN_LIST + MM_HEAP_NR_CLASSES <= MM_HEAP_CPU_HINTS, "a list a class");

/** Also of one that another CPU is making: it is in the pool's list before it is complete. */
static inline bool mmi_is_heap(const struct mm_heap *heap)
{
    return heap != NULL && mmi_load_acquire(&heap->magic) == MMI_HEAP_MAGIC;
}

static inline uint32_t mmi_heap_cpu(const struct mm_heap *heap)
{
    return heap->cpu_number != NULL ? heap->cpu_number(heap->cpu_ctx) : 0;
}

/** The class of a size, by 16ths of it, rounded up. Hidden, or it would be reached through a GOT. */
extern __attribute__((visibility("hidden")))
const uint8_t mmi_heap_class_by_16[MM_HEAP_MAX_SLAB_SIZE / 16 + 1];

/** The class that mm_heap_alloc() takes for a size up to MM_HEAP_MAX_SLAB_SIZE. */
static inline unsigned mmi_heap_class_of(uint64_t size)
{
    return mmi_heap_class_by_16[(size + 15) / 16];
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

/** What mm_heap_alloc() promises for a size. */
static inline uint64_t mmi_natural_align(uint64_t size)
{
    if (size < 16 || !mm_is_pow2(size)) {
        return 16;
    }
    return size < MM_PAGE_SIZE ? size : MM_PAGE_SIZE;
}

/** A class of runs by number: the own pool's, the large pool's, the reserve; NULL: there is none. */
#define MMI_HEAP_RUN_CLASSES 3u
_Static_assert(offsetof(struct mm_heap, large) ==
                       offsetof(struct mm_heap, runs) + sizeof(struct mm_slab_class) &&
                   offsetof(struct mm_heap, reserve) ==
                       offsetof(struct mm_heap, large) + sizeof(struct mm_slab_class),
               "the classes of runs lie side by side");
struct mm_slab_class *mmi_heap_runs(const struct mm_heap *heap, unsigned number);

/** Free the run that begins at the address. False: there is none, and nothing was done. */
bool mmi_heap_free_run(struct mm_heap *heap, uint64_t address);

/** An allocation as it was asked for. */
struct mmi_want {
    uint64_t size;
    uint64_t align;  /**< a power of two from 16 */
    uint64_t caller; /**< return address */
    uint32_t flags;  /**< MM_HEAP_ATOMIC, MM_HEAP_RESERVE */
};

/**
 * Allocate, at a multiple of `align` (a power of two from 16); `flags`: MM_HEAP_ATOMIC,
 * MM_HEAP_RESERVE.
 */
void *mmi_heap_alloc(struct mm_heap *heap, uint32_t cpu, uint64_t align, uint64_t size,
                     uint32_t flags, uint64_t caller);

/** Allocate when no object lies behind the hint: all that is tried before NULL, which is counted. */
void *mmi_heap_seek(struct mm_heap *heap, uint32_t cpu, uint64_t align, uint64_t size,
                    uint32_t flags);

/** The slab or run of the page at the address, in the pool or the large pool; NULL: none. */
static inline struct mmi_slab *mmi_heap_descriptor(const struct mm_heap *heap, uint64_t address)
{
    struct mmi_slab *slab = mmi_table_find(&heap->pool->table, address);

    return slab == NULL && heap->large.pool != NULL
               ? mmi_table_find(&heap->large.pool->table, address)
               : slab;
}

/** The live run that begins at the address; NULL: none of this heap. */
struct mmi_slab *mmi_heap_find_run(const struct mm_heap *heap, uint64_t address);

/**
 * Free an object that is not of the slabs of this size: a run, nothing, or one to complain of.
 * The alignment in `free` is what mmi_heap_align() made of it.
 */
void mmi_heap_free_unlike(struct mm_heap *heap, const struct mmi_free *free);

/** As mm_heap_free_on(). */
void mmi_heap_free_on(struct mm_heap *heap, uint32_t cpu, uint64_t address, uint64_t caller);

/** As mm_heap_free(). */
void mmi_heap_free(struct mm_heap *heap, uint64_t address, uint64_t caller);

/**
 * An alignment that was asked for an object: it keeps that when it is resized. The slab remembers the
 * largest, so that others in it may keep more than was asked for them; a run, and a sample, its own.
 */
void mmi_heap_mark_asked(const struct mm_heap *heap, const void *object, uint64_t align);
/** What the objects of this slab, or the run, are to keep: 16 at least. */
static inline uint64_t mmi_heap_asked(const struct mmi_slab *slab)
{
    unsigned asked = mmi_load(&slab->asked);

    return asked < 4 ? 16 : UINT64_C(1) << asked;
}

/** An object of this slab, or run, has a size now that alone may have given it another place. */
void mmi_heap_mark_resized(const struct mm_heap *heap, struct mmi_slab *slab, uint64_t size);

/** Whether an allocation of this size and alignment can have given an object of this slab. */
bool mmi_heap_may_have(const struct mm_heap *heap, const struct mmi_slab *slab, uint64_t size,
                       uint64_t align);
/** A sized free says another size than the object of this slab, or run, has. */
void mmi_heap_report_size(const struct mm_heap *heap, const struct mmi_slab *slab,
                          const struct mmi_free *free, uint64_t has);

/** The address cannot be freed: find out why, and tell. Returns only if there is a report op. */
void mmi_heap_misuse(const struct mm_heap *heap, uint64_t address, uint64_t caller);

/* --- the long way (watched.c) ----------------------------------------------------------------- */

void *mmi_watched_alloc(struct mm_heap *heap, uint32_t cpu, const struct mmi_want *want);
void mmi_watched_free(struct mm_heap *heap, const struct mmi_free *free);
void *mmi_watched_realloc(struct mm_heap *heap, uint64_t address, uint64_t size, uint64_t caller);
size_t mmi_watched_usable_size(const struct mm_heap *heap, uint64_t address);
/** Whether the object lies in a slab of the heap: not in a run, nor on a page of its own. */
bool mmi_watch_owns(const struct mm_heap *heap, const void *object);

#endif
