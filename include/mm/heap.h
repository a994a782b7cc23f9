// SPDX-License-Identifier: MIT
/**
 * The general heap: objects of any size, over the slabs of cache.h.
 *
 * Up to 8 KiB an object comes from the slabs of its size class: steps of 16 bytes to 128, then four
 * a doubling. Above, it is a run of whole pages. Every object is aligned to 16, and one whose size
 * is a power of two to its size, up to 4096; more is had by asking. Size 0 counts as 1: the result
 * is an object of its own, to be freed like any other.
 *
 *     size   1 .. 8192 ──> class ──> slab (a bit an object) ──┐
 *            8193 ..   ──> run of pages ──────────────────────┴──> page source
 *
 * Pages go back to the page source when they become empty. A heap keeps one small empty slab of
 * each class, and each CPU the one that it allocates from; mm_heap_reclaim() gives those back too,
 * and is tried before an allocation fails.
 *
 * Context: but for init, destroy and check, every call is safe on any CPU and in any context,
 * interrupts on or off, and takes no lock; an interrupt handler may make any of them while the
 * interrupted code is inside the same one. A wrong CPU number costs time, never correctness.
 *
 * Misuse is only to free (or to resize) what one does not own: an object that is free, the inside
 * of an object, an address that holds none, an object of a cache or of another heap. Each is a
 * panic that names the address, what is on record and what the caller claims.
 */
#ifndef MM_HEAP_H
#define MM_HEAP_H

#include <mm/cache.h>

MM_BEGIN_DECLS

/** Largest object that shares a slab with others. */
#define MM_HEAP_MAX_SLAB_SIZE UINT64_C(8192)

/** Largest alignment that can be asked for. */
#define MM_HEAP_MAX_ALIGN (UINT64_C(1) << 21)

/** 16 to 128 in steps of 16, then four a doubling to 8192. */
#define MM_HEAP_NR_CLASSES 32

/** Hints of a CPU: one a class, one for freeing, and up to whole cache lines. */
#define MM_HEAP_CPU_HINTS 40

/** CPUs whose hints need no page. */
#define MM_HEAP_CPUS_INLINE 4

/** All zero is a good one. */
struct mm_heap_config {
    const char *name; /**< for reports; lives as long as the heap; NULL: "heap" */
    uint32_t flags;   /**< 0 */
};

/** A heap. Storage is the caller's; fields are the library's. */
struct mm_heap {
    uint32_t magic;
    uint32_t nr_cpus;
    const char *name;
    uint64_t *hints;            /**< atomic; MM_HEAP_CPU_HINTS a CPU */
    struct mm_slab_table table; /**< a copy of the pool's */
    struct mm_pool *pool;
    uint64_t hint_pages; /**< 0: the hints are hints_inline */
    uint64_t nr_failed;  /**< atomic */
    struct mm_slab_class classes[MM_HEAP_NR_CLASSES];
    struct mm_slab_class runs;
    uint64_t hints_inline[MM_HEAP_CPUS_INLINE * MM_HEAP_CPU_HINTS];
};

/**
 * Make a heap.
 *
 * @param heap    zeroed storage
 * @param config  copied; NULL: all zero
 * @return MM_OK | MM_ERR_ALREADY_INITIALIZED | MM_ERR_INVALID_ARGUMENT (heap or pool null)
 *         | MM_ERR_NOT_INITIALIZED (pool) | MM_ERR_INVALID_FLAGS | MM_ERR_NO_MEMORY (only with more
 *         than MM_HEAP_CPUS_INLINE CPUs)
 * Owner:  the pool outlives the heap.
 * Locks:  none; any context. Cost: O(1); no page is taken for objects yet.
 */
MM_MUST_CHECK
mm_status_t mm_heap_init(struct mm_heap *heap, struct mm_pool *pool,
                         const struct mm_heap_config *config);

/**
 * Take a heap down: all its pages are back at the page source, and the storage is zeroed.
 *
 * @return MM_OK | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null) | MM_ERR_BUSY (objects
 *         were not freed: nothing was done; the log op gets a line for each size that says how
 *         many)
 * Locks:  none; no other CPU uses the heap. Cost: O(slabs).
 */
MM_MUST_CHECK
mm_status_t mm_heap_destroy(struct mm_heap *heap);

/**
 * Allocate `size` bytes. The CPU's number comes from the platform's op.
 *
 * @return the object, or NULL: the page source has no pages for it and no slab has a free object,
 *         no memory is that large, or the heap is null or not initialised
 * Owner:  the caller, until mm_heap_free(). Contents: unspecified.
 * Locks:  none; any context. Sleeps: never.
 * Cost:   O(1) within the CPU's word; a few steps to the next word or slab; a call of the page
 *         source for a new slab or a run. Only before NULL: O(slabs).
 */
void *mm_heap_alloc(struct mm_heap *heap, size_t size);

/**
 * The same for a caller that knows its CPU's number: the hot path. No op is called, but for a new
 * slab or a run.
 *
 * @param cpu  taken modulo nr_cpus
 * @return as mm_heap_alloc()
 * Owner:  as mm_heap_alloc(). Contents: unspecified.
 * Locks:  none; any context. Sleeps: never.
 * Cost:   as mm_heap_alloc().
 */
void *mm_heap_alloc_on(struct mm_heap *heap, uint32_t cpu, size_t size);

/**
 * As mm_heap_alloc(); the `size` bytes are zero.
 *
 * @return as mm_heap_alloc()
 * Owner:  as mm_heap_alloc(). Contents: zero.
 * Locks:  none; any context. Sleeps: never.
 * Cost:   as mm_heap_alloc(), and O(size).
 */
void *mm_heap_alloc_zeroed(struct mm_heap *heap, size_t size);

/**
 * As mm_heap_alloc(), at a multiple of `align`.
 *
 * @param align  bytes, a power of two up to MM_HEAP_MAX_ALIGN; up to 4096 an object of up to 8 KiB
 *               still shares a slab, and takes at least `align` bytes
 * @return as mm_heap_alloc(); NULL also for an `align` that is no power of two or too large
 * Owner:  as mm_heap_alloc(). Contents: unspecified.
 * Locks:  none; any context. Sleeps: never.
 * Cost:   as mm_heap_alloc().
 */
void *mm_heap_alloc_aligned(struct mm_heap *heap, size_t align, size_t size);

/**
 * Make an object larger or smaller: in place where it fits, else in a new place to which the first
 * bytes, as many as fit, are copied.
 *
 * Alignment is never lost. The result has the alignment that mm_heap_alloc() gives for `size`, and
 * that of the old object: what was asked for, or the largest power of two up to 4096 that divides
 * its usable size. An object moves to a smaller place only if half of it or less would be used, or
 * if where it lies has not the alignment of the new size.
 *
 * @param object  NULL: as mm_heap_alloc(). Panics as mm_heap_free() if it is no object of this heap
 * @param size    0 counts as 1: the object is not freed
 * @return the object, or NULL as mm_heap_alloc(); then the old object is as it was
 * Owner:  the caller; the old object is gone unless the result is NULL.
 * Locks:  none; any context. Cost: that of the allocation, the copy and the free, or O(1).
 */
void *mm_heap_realloc(struct mm_heap *heap, void *object, size_t size);

/**
 * Free an object; NULL is allowed and does nothing. Panics at an object that is free already, the
 * inside of an object, an address that holds none, or an object of a cache or another heap.
 *
 * Locks:  none; any context, any CPU.
 * Cost:   O(1); when the slab becomes empty, or for a run, a call of the page source.
 */
void mm_heap_free(struct mm_heap *heap, void *object);

/**
 * The same for a caller that knows its CPU's number: faster where the CPU frees objects of one slab
 * in a row, as when it allocates and frees by turns. Panics as mm_heap_free().
 *
 * @param cpu  may be any
 * Locks:  none; any context. Cost: as mm_heap_free().
 */
void mm_heap_free_on(struct mm_heap *heap, uint32_t cpu, void *object);

/**
 * Bytes that the object may use: at least what was asked for.
 *
 * @return 0 for NULL, for what is no object of this heap or is free, and if the heap is null or not
 *         initialised
 * Locks:  none; any context. Cost: O(1).
 */
size_t mm_heap_usable_size(const struct mm_heap *heap, const void *object);

/**
 * Give all empty slabs back to the page source, also those that are kept or that a CPU holds.
 *
 * @return pages given back; 0 also if the heap is null or not initialised
 * Locks:  none; any context. Cost: O(CPUs + slabs).
 */
uint64_t mm_heap_reclaim(struct mm_heap *heap);

/** A snapshot; exact when no other CPU is in the heap. */
struct mm_heap_stats {
    uint64_t nr_objects;     /**< allocated, runs included */
    uint64_t object_bytes;   /**< their usable sizes */
    uint64_t nr_slabs;       /**< slabs with pages */
    uint64_t nr_empty_slabs; /**< of those, without an allocated object */
    uint64_t slab_bytes;     /**< pages of the slabs */
    uint64_t nr_runs;
    uint64_t run_bytes; /**< pages of the runs */
    uint64_t nr_failed; /**< allocations answered NULL */
};

/**
 * Count what is allocated, and report.
 *
 * @param[out] out  untouched on error
 * @return MM_OK | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null)
 * Locks:  none; any context. Cost: O(slabs + runs).
 */
MM_MUST_CHECK
mm_status_t mm_heap_get_stats(const struct mm_heap *heap, struct mm_heap_stats *out);

/**
 * Walk all slabs and runs and compare: free bits, states, lists, hints, table. Each contradiction
 * is one line to the log op.
 *
 * @return MM_OK | MM_ERR_CORRUPTED | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null)
 * Locks:  none; no other CPU is in the heap, or contradictions are told that are none.
 * Cost:   O(slabs + runs).
 */
MM_MUST_CHECK
mm_status_t mm_heap_check(const struct mm_heap *heap);

MM_END_DECLS

#endif
