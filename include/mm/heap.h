// SPDX-License-Identifier: MIT
/**
 * The general heap: objects of any size, over the slabs of cache.h.
 *
 * Up to 8 KiB an object comes from the slabs of its size class: steps of 16 bytes to 128, then four
 * a doubling. Above, it is a run of whole pages. Every object is aligned to 16, and one whose size
 * is a power of two to its size, up to 4096; more is had by asking. Size 0 counts as 1: the result
 * is an object of its own, to be freed like any other.
 *
 *     size   1 .. 8192   ──> class ──> slab (a bit an object) ──┐
 *            8193 ..     ──> run of pages ──────────────────────┴──> page source of the pool
 *            large_size .. ──> run of pages ──────────────────────> page source of the large pool
 *
 * Pages go back to the page source when they become empty. A heap keeps one small empty slab of
 * each class, each CPU the one that it allocates from, and of freed runs of up to 64 KiB together
 * 256 KiB, and 4 KiB more for each 8 runs that are live; mm_heap_reclaim() gives those back too, and
 * is tried before an allocation fails.
 *
 * Context: but for init, destroy and check, every call is safe on any CPU and in any context,
 * interrupts on or off, and takes no lock; an interrupt handler may make any of them while the
 * interrupted code is inside the same one. A wrong CPU number costs time, never correctness. The one
 * exception are objects of a large pool: they come and go in the contexts of its page source.
 *
 * Bound: an allocation within a slab is one step, that of another word up to 8; who needs another slab
 * takes up to 8 off the lists that turn out to be gone or to have no free object, looks at a list of
 * each CPU that has any (a word says which may), at 4 slabs that are not listed and at up to 28
 * descriptors between them. It calls the page source once for each size of slab that it tries
 * (at most 5); then, where they are not at hand, for a page of descriptors, for up to two leaves of
 * the table and the nodes above them, and, if the heap records, for a page of records. Only what is
 * tried before NULL, and a free by which the number of a class's slabs falls through a power of two
 * (each CPU's slab is looked at), cost more.
 *
 * Misuse is only to free (or to resize) what one does not own: an object that is free, the inside
 * of an object, an address that holds none, an object of a cache or of another heap. Each is a
 * panic that names the address, what is on record and what the caller claims, or a report
 * (heap_report.h).
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

/**
 * Of a CPU: a word, a slab and a list of slabs a class, the object of the last free and its word, the
 * countdown to the next sample, and up to whole cache lines.
 */
#define MM_HEAP_CPU_HINTS 104

/** CPUs whose hints need no page. */
#define MM_HEAP_CPUS_INLINE 4

/** Freed runs of up to so many pages are kept for the next, within bounds. */
#define MM_HEAP_RUN_BINS 16

/** Largest object of the reserve. */
#define MM_HEAP_MAX_RESERVE_SIZE (MM_HEAP_RUN_BINS * UINT64_C(4096) - 64)

/** All zero is a good one. */
struct mm_heap_config {
    const char *name;       /**< for reports; lives as long as the heap; NULL: "heap" */
    uint32_t flags;         /**< MM_HEAP_CALLERS */
    enum mm_heap_tier tier; /**< what is checked: heap_report.h */
    uint32_t quarantine;    /**< hardened: objects that wait before reuse; 0: MM_HEAP_QUARANTINE */
    uint32_t sample_every;  /**< one allocation in so many lies between guards; 0: none */
    mm_heap_report_fn report; /**< hears of misuse; NULL: that is a panic */
    void *report_ctx;
    struct mm_heap_guards guards; /**< of sampled objects */
    /**
     * Where objects of `large_size` bytes and more come from, unless MM_HEAP_ATOMIC is asked for:
     * usually a pool over the kernel virtual arena, whose runs need not be contiguous in memory.
     * Outlives the heap. NULL: they are runs of the heap's own pool. It is tried first; where it
     * has no memory, the own pool is tried.
     */
    struct mm_pool *large;
    uint64_t large_size; /**< bytes, above MM_HEAP_MAX_SLAB_SIZE; 0 without `large` */
    /**
     * What is set aside for MM_HEAP_RESERVE: so many such requests of up to `reserve_size` bytes
     * (1 to MM_HEAP_MAX_RESERVE_SIZE) are served at the same time, whatever happens. Each takes
     * whole pages; they stay the heap's until it is destroyed. 0: nothing.
     */
    uint64_t reserve_size;
    uint32_t nr_reserve;
    uint32_t zero; /**< always 0 */
};

/** A heap. Storage is the caller's; fields are the library's. */
struct mm_heap {
    uint32_t magic;
    uint32_t nr_cpus;                  /**< 0: every call takes the long way */
    uint32_t (*cpu_number)(void *ctx); /**< a copy of the pool's op; NULL: there is one CPU */
    void *cpu_ctx;
    uint64_t *hints;            /**< atomic; MM_HEAP_CPU_HINTS a CPU */
    struct mm_slab_table table; /**< a copy of the pool's; empty: the same */
    const char *name;
    struct mm_pool *pool;
    uint64_t hint_pages; /**< 0: the hints are hints_inline */
    uint64_t nr_failed;  /**< atomic */
    uint64_t large_size; /**< UINT64_MAX: there is no large pool */
    struct mm_slab_class classes[MM_HEAP_NR_CLASSES];
    struct mm_slab_class runs;
    struct mm_slab_class large;              /**< runs of the large pool */
    struct mm_slab_class reserve;            /**< runs that were set aside */
    uint64_t run_bins[MM_HEAP_RUN_BINS];     /**< atomic lists: freed runs of 1, 2, .. pages */
    uint64_t reserve_bins[MM_HEAP_RUN_BINS]; /**< the same: the reserve that is not in use */
    uint64_t reserve_size;
    struct mm_heap_watch watch;
    /** From a cache line on: two CPUs share none. */
    uint64_t hints_inline[MM_HEAP_CPUS_INLINE * MM_HEAP_CPU_HINTS + MM_CACHE_LINE / 8 - 1];
};

/**
 * Make a heap.
 *
 * @param heap    zeroed storage
 * @param config  copied; NULL: all zero
 * @return MM_OK | MM_ERR_ALREADY_INITIALIZED | MM_ERR_INVALID_ARGUMENT (heap or pool null; `zero`;
 *         tier; a quarantine above MM_HEAP_QUARANTINE_MAX; sample_every without ops of guards;
 *         `large` is `pool`; one of `large` and `large_size`, or of `nr_reserve` and
 *         `reserve_size`, without the other) | MM_ERR_INVALID_SIZE (large_size up to
 *         MM_HEAP_MAX_SLAB_SIZE; reserve_size above MM_HEAP_MAX_RESERVE_SIZE; the window of the
 *         guards) | MM_ERR_NOT_ALIGNED (the window of the guards) | MM_ERR_NOT_INITIALIZED (a pool)
 *         | MM_ERR_INVALID_FLAGS | MM_ERR_NO_MEMORY (only with more than MM_HEAP_CPUS_INLINE CPUs,
 *         hardened, sampled, with a reserve, or as one of more than MM_POOL_USERS_INLINE caches and
 *         heaps of a pool)
 * Owner:  the pools outlive the heap.
 * Locks:  none; any context. Cost: O(1), and the reserve; no other page is taken for objects yet.
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
 * Locks:  none; no other CPU uses the heap, and no other cache or heap of the pool is told a misuse
 *         meanwhile: it might name this one (heap_report.h). Cost: O(slabs).
 */
MM_MUST_CHECK
mm_status_t mm_heap_destroy(struct mm_heap *heap);

/**
 * Allocate `size` bytes. The CPU's number comes from the platform's op.
 *
 * @return the object, or NULL: the page source has no pages for it and no slab has a free object,
 *         no memory is that large, or the heap is null or not initialised
 * Owner:  the caller, until mm_heap_free(). Contents: unspecified.
 * Locks:  none; any context, but for `large_size` bytes and more the contexts in which the large
 *         pool's source allocates. Sleeps: never.
 * Cost:   one word of 64 bits where the CPU's last has a free object; else the 8 words of its slab;
 *         else those of up to 13 slabs, and a list for each CPU that has partial slabs; then a call of
 *         the page source for a new slab or a run. Only before NULL: O(slabs + CPUs), up to 4 times
 *         if somebody else gave pages back meanwhile.
 */
void *mm_heap_alloc(struct mm_heap *heap, size_t size);

/**
 * The same for a caller that knows its CPU's number: the hot path. No op is called, but for a new
 * slab or a run.
 *
 * @param cpu  taken modulo nr_cpus
 * @return as mm_heap_alloc()
 * Owner:  as mm_heap_alloc(). Contents: unspecified.
 * Locks:  none; contexts as mm_heap_alloc(). Sleeps: never.
 * Cost:   as mm_heap_alloc().
 */
void *mm_heap_alloc_on(struct mm_heap *heap, uint32_t cpu, size_t size);

/**
 * As mm_heap_alloc(); the `size` bytes are zero.
 *
 * @return as mm_heap_alloc()
 * Owner:  as mm_heap_alloc(). Contents: zero.
 * Locks:  none; contexts as mm_heap_alloc(). Sleeps: never.
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
 * Locks:  none; contexts as mm_heap_alloc(). Sleeps: never.
 * Cost:   as mm_heap_alloc().
 */
void *mm_heap_alloc_aligned(struct mm_heap *heap, size_t align, size_t size);

/* Flags of an allocation. */
#define MM_HEAP_ATOMIC    (1u << 0) /**< any context, whatever the size; MM_PAGES_ATOMIC */
#define MM_HEAP_ZEROED    (1u << 1) /**< the bytes that are asked for are zero */
#define MM_HEAP_RESERVE   (1u << 2) /**< may take what the heap has set aside, where all else fails */
#define MM_HEAP_FLAGS_ALL 7u

/**
 * As mm_heap_alloc_aligned(), with flags.
 *
 * @param align  0: as mm_heap_alloc()
 * @param flags  MM_HEAP_ATOMIC (never from the large pool, and its page source is told),
 *               MM_HEAP_ZEROED, MM_HEAP_RESERVE (where all else fails, what was set aside: up to
 *               `reserve_size` bytes, aligned to a page at most)
 * @return as mm_heap_alloc_aligned(); NULL also for an unknown flag
 * Owner:  as mm_heap_alloc(). Contents: unspecified, or zero.
 * Locks:  none; contexts as mm_heap_alloc(), any with MM_HEAP_ATOMIC. Sleeps: never.
 * Cost:   as mm_heap_alloc(), and O(size) for zeroes.
 */
void *mm_heap_alloc_with(struct mm_heap *heap, size_t size, size_t align, uint32_t flags);

/**
 * As mm_heap_alloc_with() for `nr` elements of `size` bytes.
 *
 * @return as mm_heap_alloc_with(); NULL also if nr * size overflows
 * Owner:  as mm_heap_alloc(). Contents: unspecified, or zero.
 * Locks:  none; contexts as mm_heap_alloc_with(). Sleeps: never.
 * Cost:   as mm_heap_alloc_with().
 */
void *mm_heap_alloc_array(struct mm_heap *heap, size_t nr, size_t size, uint32_t flags);

/**
 * Make an object larger or smaller: in place where it fits, else in a new place to which the first
 * bytes, as many as fit, are copied.
 *
 * The result has the alignment that mm_heap_alloc() gives for `size`, and that which was asked for
 * when the object was allocated, by mm_heap_alloc_aligned() or mm_heap_alloc_with(), however often
 * it is resized. Nothing else is kept: of 64 bytes that become 80 the place is that of any 80.
 *
 * An object moves to a smaller place only if half of it or less would be used, or if where it lies
 * has not that alignment; but a sampled one, which ends or begins at its guard, whenever its size
 * changes. Whoever makes an object smaller, or as large as its usable size, is never refused: where
 * there is no memory for the better place it stays in its own, which has the alignment that was
 * asked for, but perhaps not the one of the new size.
 *
 * @param object  NULL: as mm_heap_alloc(), also if the heap is null or not initialised. Panics as
 *                mm_heap_free() if it is no object of this heap, or there is no heap
 * @param size    0 counts as 1: the object is not freed
 * @return the object, or NULL as mm_heap_alloc(), if it does not fit; then the old object is as it
 *         was. NULL also where a misuse was told and the report op returned
 * Owner:  the caller; the old object is gone unless the result is NULL.
 * Locks:  none; contexts as mm_heap_alloc() and mm_heap_free(). Cost: that of the allocation, the
 *         copy and the free, or O(1).
 */
void *mm_heap_realloc(struct mm_heap *heap, void *object, size_t size);

/**
 * As mm_heap_realloc() to `nr` elements of `size` bytes.
 *
 * @return as mm_heap_realloc(); NULL also if nr * size overflows: then the old object is as it was
 * Owner:  as mm_heap_realloc().
 * Locks:  none; contexts as mm_heap_realloc(). Cost: as mm_heap_realloc().
 */
void *mm_heap_realloc_array(struct mm_heap *heap, void *object, size_t nr, size_t size);

/**
 * Free an object; NULL is allowed and does nothing. Panics at an object that is free already, the
 * inside of an object, an address that holds none, or an object of a cache or another heap. An
 * object that is given to a heap that is null or not initialised is an illegal instruction, since
 * that has neither report op nor panic hook.
 *
 * Locks:  none; any context, but for objects of the large pool those in which its source frees; any
 *         CPU.
 * Cost:   O(1); when the slab becomes empty, or for a run, a call of the page source.
 */
void mm_heap_free(struct mm_heap *heap, void *object);

/**
 * The same for a caller that knows its CPU's number: no op is asked for it. Panics as
 * mm_heap_free(), also without a heap.
 *
 * @param cpu  may be any
 * Locks:  none; contexts as mm_heap_free(). Cost: as mm_heap_free().
 */
void mm_heap_free_on(struct mm_heap *heap, uint32_t cpu, void *object);

/**
 * As mm_heap_free(), also without a heap, for a caller that knows what it asked for. Panics also if
 * that cannot have given this object: another size class, another number of pages, an alignment
 * that it has not or that cannot be asked for. (A resized object may have a size that alone would
 * have given it another class. In its slab every size passes then with which mm_heap_realloc()
 * would leave an object where it is; if one had to stay for want of memory, every smaller one.)
 *
 * @param size   as given to the allocation or to the last mm_heap_realloc(); of an array nr * size
 * @param align  as given to the allocation, also if the object was resized since; 0: none was
 * Locks:  none; contexts as mm_heap_free(), any CPU. Cost: as mm_heap_free().
 */
void mm_heap_free_sized(struct mm_heap *heap, void *object, size_t size, size_t align);

/*
 * For a wrapper, which all callers would lie in otherwise: a kmalloc(), an adapter. The caller that it
 * passes on is what is recorded and reported as who allocated, freed, or found a misuse
 * (heap_report.h): an address of code, usually the wrapper's own __builtin_return_address(0). Records
 * keep 48 bits of it, with their sign; those of samples all. NULL: as if nothing was passed on.
 */

/**
 * As mm_heap_alloc_with(), on behalf of a caller. (An array is nr * size bytes: the wrapper looks at
 * the product.)
 *
 * @param caller  who allocates; NULL: who makes this call
 * @return as mm_heap_alloc_with()
 * Owner:  as mm_heap_alloc(). Contents: unspecified, or zero.
 * Locks:  none; contexts as mm_heap_alloc_with(). Sleeps: never.
 * Cost:   as mm_heap_alloc_with().
 */
void *mm_heap_alloc_from(struct mm_heap *heap, size_t size, size_t align, uint32_t flags,
                         const void *caller);

/**
 * As mm_heap_realloc(), on behalf of a caller.
 *
 * @param caller  who resizes; NULL: who makes this call
 * @return as mm_heap_realloc()
 * Owner:  as mm_heap_realloc().
 * Locks:  none; contexts as mm_heap_realloc(). Cost: as mm_heap_realloc().
 */
void *mm_heap_realloc_from(struct mm_heap *heap, void *object, size_t size, const void *caller);

/**
 * As mm_heap_free(), on behalf of a caller. Panics as that, also without a heap.
 *
 * @param caller  who frees; NULL: who makes this call
 * Locks:  none; contexts as mm_heap_free(), any CPU. Cost: as mm_heap_free().
 */
void mm_heap_free_from(struct mm_heap *heap, void *object, const void *caller);

/**
 * As mm_heap_free_sized(), on behalf of a caller. Panics as that, also without a heap.
 *
 * @param caller  who frees; NULL: who makes this call
 * Locks:  none; contexts as mm_heap_free(), any CPU. Cost: as mm_heap_free_sized().
 */
void mm_heap_free_sized_from(struct mm_heap *heap, void *object, size_t size, size_t align,
                             const void *caller);

/**
 * Bytes that the object may use: at least what was asked for; in a hardened heap, and of a sampled
 * object, exactly that.
 *
 * @return 0 for NULL, for what is no object of this heap or is free, and if the heap is null or not
 *         initialised
 * Locks:  none; any context. Cost: O(1).
 */
size_t mm_heap_usable_size(const struct mm_heap *heap, const void *object);

/**
 * Give all empty slabs back to the page source, also those that are kept or that a CPU holds, and
 * all freed runs that are kept. What waits in a hardened heap leaves the quarantine first.
 *
 * @return pages of slabs and runs given back; 0 also if the heap is null or not initialised
 * Locks:  none; any context. Cost: O(CPUs + slabs + runs kept + objects that wait).
 */
uint64_t mm_heap_reclaim(struct mm_heap *heap);

/** A snapshot; exact when no other CPU is in the heap. */
struct mm_heap_stats {
    uint64_t nr_objects;   /**< allocated, runs included */
    uint64_t object_bytes; /**< their usable sizes; hardened: of their places, canaries included */
    uint64_t nr_slabs;     /**< slabs with pages */
    uint64_t nr_empty_slabs; /**< of those, without an allocated object */
    uint64_t slab_bytes;     /**< pages of the slabs */
    uint64_t nr_runs;
    uint64_t run_bytes;  /**< pages of the runs */
    uint64_t kept_bytes; /**< pages of freed runs that it keeps for the next, and of the reserve */
    uint64_t nr_failed;  /**< allocations answered NULL for want of memory */
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
 * is one line to the log op. Of a hardened heap the bytes of all objects and runs that must be as
 * they were left are looked at too, and around samples: each that is broken is told the report op, if
 * there is one, and the log op (mm/heap_report.h). Nothing is mended, and nothing is a panic.
 *
 * @return MM_OK | MM_ERR_CORRUPTED | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null)
 * Locks:  none; no other CPU is in the heap, or contradictions are told that are none.
 * Cost:   O(slabs + runs); of a hardened heap O(bytes of its slabs, and behind its runs).
 */
MM_MUST_CHECK
mm_status_t mm_heap_check(const struct mm_heap *heap);

/* --- a heap over a buffer --------------------------------------------------------------------- */

/** Page source, pool and heap in one: what a heap over a buffer needs. Storage is the caller's. */
struct mm_heap_region {
    struct mm_page_range range;
    struct mm_pool pool;
    struct mm_heap heap; /**< for the calls above */
};

/**
 * Make a heap of a buffer, and of nothing else: no op is called, and all CPUs share one hint.
 *
 * @param region  zeroed storage
 * @param base    any address; rounded up to a page
 * @param len     bytes; a heap of one small object needs 3 pages: one for the bitmap, one for
 *                descriptors and one for the slab; above 128 KiB one or two more for the table, and
 *                above 64 MiB up to 8 for its root
 * @return MM_OK | MM_ERR_ALREADY_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null) | MM_ERR_INVALID_SIZE
 *         (fewer than two pages, or wraps). On error nothing is changed.
 * Owner:  the caller keeps the buffer mapped until mm_heap_region_destroy().
 * Locks:  none; one CPU.
 * Cost:   O(pages / 64) stores, in the buffer.
 */
MM_MUST_CHECK
mm_status_t mm_heap_region_init(struct mm_heap_region *region, void *base, uint64_t len);

/**
 * Take it down; the buffer is the caller's again, and the storage is zeroed.
 *
 * @return MM_OK | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null) | MM_ERR_BUSY (objects
 *         were not freed, caches are over its pool, or its pages are out: nothing was done)
 * Locks:  none; no other CPU uses the heap. Cost: O(slabs).
 */
MM_MUST_CHECK
mm_status_t mm_heap_region_destroy(struct mm_heap_region *region);

MM_END_DECLS

#endif
