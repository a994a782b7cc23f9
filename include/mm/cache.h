// SPDX-License-Identifier: MIT
/**
 * Object caches over a page source: slabs with metadata out of line, allocated in place by bit.
 *
 * A *page source* hands out runs of pages. A *pool* joins a page source with the one table that
 * finds the slab of an address; caches and heaps are made over a pool, and any number may share
 * one. A *slab* is a run of pages cut into objects of one size; its free bits are the truth, a CPU
 * holds only a hint to a slab and a word. Allocation clears a bit in place, freeing sets it, and
 * the old value tells every double free; an address that is not the start of an object of this
 * cache is told as exactly. Nothing lies in or beside the objects.
 *
 *     page source ──> pool ──┬──> cache "region"
 *     (range or frames)      ├──> cache "space"
 *                            └──> heap (heap.h)
 *
 * Context: but for init, destroy and check, every call is safe on any CPU and in any context,
 * interrupts on or off, and takes no lock; an interrupt handler may make any of them while the
 * interrupted code is inside the same one. A wrong CPU number costs time, never correctness.
 *
 * Misuse is only to free what one does not own: an object that is free, the inside of an object, an
 * address that holds none, an object of another cache. Each is a panic that names the address, what
 * is on record and what the caller claims, or a report (heap_report.h).
 */
#ifndef MM_CACHE_H
#define MM_CACHE_H

#include <mm/frame.h>
#include <mm/heap_report.h>
#include <mm/physmap.h>
#include <mm/platform.h>

MM_BEGIN_DECLS

/* --- page sources ----------------------------------------------------------------------------- */

/** For a request that cannot wait and may take what was set aside for such. */
#define MM_PAGES_ATOMIC (1u << 0)

struct mm_page_source_ops {
    /**
     * `nr_pages` contiguous pages of 4 KiB, aligned to `align` pages (a power of two), readable and
     * writable. `flags` is 0 or MM_PAGES_ATOMIC; bits that the source does not know are to be
     * ignored. MM_OK, or any error: reported as MM_ERR_NO_MEMORY or NULL. Called in any context in
     * which the kernel allocates, with no lock held. It may itself allocate, also from the pool
     * that asks, if it bounds its own recursion.
     */
    mm_status_t (*alloc)(void *ctx, uint64_t nr_pages, uint64_t align, uint32_t flags, void **out);
    /** Give back all or some pages, in one run, of what alloc() returned. Cannot fail. */
    void (*free)(void *ctx, void *pages, uint64_t nr_pages);
    /**
     * Make what alloc() returned longer where it lies: `more` pages behind its `nr_pages`. MM_OK,
     * or any error, and nothing is changed. May be NULL: objects then grow by moving.
     */
    mm_status_t (*extend)(void *ctx, void *pages, uint64_t nr_pages, uint64_t more, uint32_t flags);
};

/** All pages lie in [base, base + len): a direct map, or a buffer. Passed by value. */
struct mm_page_source {
    const struct mm_page_source_ops *ops;
    void *ctx;
    uint64_t base; /**< virtual address, page-aligned */
    uint64_t len;  /**< bytes, whole pages; how long it is costs next to nothing */
};

/** A page source over one fixed, mapped range. Storage and range are the caller's. */
struct mm_page_range {
    uint32_t magic;
    uint64_t base;      /**< first page, address */
    uint64_t nr_pages;  /**< with those of the bitmap */
    uint64_t *bitmap;   /**< atomic; 1 = free; in the first pages of the range */
    uint64_t nr_words;  /**< of the bitmap */
    uint64_t first_bit; /**< of `base`; bits stand as the page numbers do, so that they align */
    uint64_t nr_bitmap_pages; /**< with those of the bins */
    uint64_t *fits;           /**< atomic; behind the bitmap: the words in which long runs begin */
    uint64_t *tops;           /**< atomic; behind those: where there are any */
    uint64_t nr_groups;       /**< of words */
    uint64_t nr_tops;         /**< words, a length of runs */
    uint64_t nr_free;         /**< atomic */
    uint64_t unsettled;       /**< atomic: bins that are being emptied, and how many were */
    uint64_t nr_given;        /**< atomic: how often pages were given back */
};

/**
 * Make a page source of a buffer. Its first pages hold a bitmap, one bit a page, and bins of the
 * free runs by length: 4 KiB for 100 MiB.
 *
 * @param range  zeroed storage
 * @param base   any address; rounded up to a page
 * @param len    bytes; the end is rounded down to a page
 * @return MM_OK | MM_ERR_ALREADY_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null) | MM_ERR_INVALID_SIZE
 *         (fewer than two pages, or wraps)
 * Owner:  the caller keeps the range mapped until mm_page_range_destroy().
 * Locks:  none; one CPU.
 * Cost:   O(pages / 64) stores, in the range.
 */
MM_MUST_CHECK
mm_status_t mm_page_range_init(struct mm_page_range *range, void *base, uint64_t len);

/**
 * Take it down; the range is the caller's again, and the storage is zeroed.
 *
 * @return MM_OK | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null) | MM_ERR_BUSY (pages are
 *         out: nothing was done)
 * Locks:  none; no other CPU uses the source. Cost: O(1).
 */
MM_MUST_CHECK
mm_status_t mm_page_range_destroy(struct mm_page_range *range);

/**
 * The source over a range, which must outlive it. Its alloc() answers MM_OK, MM_ERR_NO_MEMORY, or
 * MM_ERR_INVALID_ARGUMENT (no page, or an alignment that is no power of two); its extend() the same
 * (a run that is not of the range, or nothing more); its free() panics (an illegal instruction) at a
 * page that is free or was never there.
 *
 * @return all zero if `range` is null or not initialised
 * Locks:  none; any context.
 * Cost:   O(1); of its calls, for runs of 1 to 16, 32 and 64 pages that need no alignment, also if
 *         there are none: O(1) in each 16 GiB, a few tens of loads and at most 40 writes. Others go
 *         to the places at which a run of the next shorter of these lengths begins, at worst
 *         O(pages / 64). So does what fails while another CPU takes the last run of a place.
 */
struct mm_page_source mm_page_source_range(struct mm_page_range *range);

/** A page source that takes frames and reaches them by direct map. Storage is the caller's. */
struct mm_page_frames {
    uint32_t magic;
    struct mm_frames *frames;
    struct mm_physmap physmap;
    uint64_t base;         /**< of the lowest frame, in the direct map */
    uint64_t len;          /**< bytes, to the end of the highest */
    uint64_t nr_pages_out; /**< atomic */
};

/**
 * Make a page source of a frame allocator. Frames are taken as they are asked for, for the owner
 * MM_OWNER_HEAP, and given back.
 *
 * @param pages   zeroed storage
 * @param frames  outlives it
 * @param physmap a direct map of all memory that `frames` manages; copied
 * @return MM_OK | MM_ERR_ALREADY_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null)
 *         | MM_ERR_NOT_INITIALIZED (frames) | MM_ERR_UNSUPPORTED (physmap with ops)
 *         | MM_ERR_INVALID_ADDRESS (the direct map does not reach all frames)
 * Locks:  none; one CPU. Cost: O(1).
 */
MM_MUST_CHECK
mm_status_t mm_page_frames_init(struct mm_page_frames *pages, struct mm_frames *frames,
                                const struct mm_physmap *physmap);

/**
 * Take it down; the storage is zeroed.
 *
 * @return MM_OK | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null) | MM_ERR_BUSY (pages are
 *         out: nothing was done)
 * Locks:  none; no other CPU uses the source. Cost: O(1).
 */
MM_MUST_CHECK
mm_status_t mm_page_frames_destroy(struct mm_page_frames *pages);

/**
 * The source over frames; base and length are what the frames span in the direct map. Its alloc()
 * answers as mm_frame_alloc(), and so does its extend(), which asks for exactly the frames behind
 * (also MM_ERR_INVALID_ARGUMENT: no page, or more than there are); its free() panics as
 * mm_frame_free_run().
 *
 * @return all zero if `pages` is null or not initialised
 * Locks:  none; any context.
 * Cost:   O(1); of its calls, as mm_frame_alloc() and mm_frame_free_run().
 */
struct mm_page_source mm_page_source_frames(struct mm_page_frames *pages);

/* --- pools ------------------------------------------------------------------------------------ */

/** Entries of the table's root that need no page: enough for a source of 64 MiB. */
#define MM_POOL_ROOT_INLINE 32

/** From an address to its slab: a radix tree over the pages of the source. Internal. */
struct mm_slab_table {
    uint64_t base;
    uint64_t len;
    uint64_t *root; /**< entries are atomic: a node below, or in leaves a slab; 0: none */
    uint32_t shift; /**< bits of the page's index below those that the root takes */
};

/** Caches and heaps of a pool that are listed without a page. */
#define MM_POOL_USERS_INLINE 24

/** A page source and the table that finds a slab by address. Fields are the library's. */
struct mm_pool {
    uint32_t magic;
    uint32_t nr_cpus;
    uint32_t nr_users;   /**< atomic: caches and heaps alive */
    uint32_t slab_bits;  /**< of a list's head; those above are its tag */
    uint64_t root_pages; /**< 0: the root is root_inline */
    struct mm_page_source source;
    struct mm_platform platform;
    struct mm_slab_table table;
    uint64_t slabs;         /**< atomic list: descriptors that no cache has used yet */
    uint64_t slab_pages;    /**< atomic list: pages of descriptors */
    uint64_t nr_meta_pages; /**< atomic: pages of descriptors, table and hints */
    uint64_t nr_watched;    /**< atomic: caches and heaps ever made that have a canary */
    uint64_t nr_given;      /**< atomic: how often pages that held objects were given back */
    uint64_t root_inline[MM_POOL_ROOT_INLINE];
    uint64_t users[MM_POOL_USERS_INLINE]; /**< atomic: caches and heaps */
    uint64_t more_users;                  /**< atomic: a page of more; its first word is the next */
};

struct mm_pool_config {
    struct mm_page_source source;
    struct mm_platform platform;
    uint32_t nr_cpus; /**< CPU numbers are below this; 1 to MM_MAX_CPUS */
    uint32_t flags;   /**< 0 */
};

/**
 * Make a pool.
 *
 * What describes the slabs, and the table, is taken from the source as it is needed (see
 * mm_pool_get_stats()), kept for reuse, and given back by mm_pool_destroy().
 *
 * @param pool  zeroed storage
 * @return MM_OK | MM_ERR_ALREADY_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null, nr_cpus, a source
 *         without ops) | MM_ERR_INVALID_FLAGS | MM_ERR_NOT_ALIGNED (base or length of the source)
 *         | MM_ERR_INVALID_SIZE (length 0, above 2^52, or wraps) | MM_ERR_NO_MEMORY
 * Owner:  the source, and what stands behind it, outlives the pool.
 * Locks:  none; one CPU.
 * Cost:   O(1); a source of more than 64 MiB costs 1 to 8 pages for the root of the table.
 */
MM_MUST_CHECK
mm_status_t mm_pool_init(struct mm_pool *pool, const struct mm_pool_config *config);

/**
 * Take a pool down: every page is back at the source, and the storage is zeroed.
 *
 * @return MM_OK | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null) | MM_ERR_BUSY (a cache or
 *         heap is alive: nothing was done)
 * Locks:  none; no other CPU uses the pool. Cost: O(pages of metadata).
 */
MM_MUST_CHECK
mm_status_t mm_pool_destroy(struct mm_pool *pool);

struct mm_pool_stats {
    uint64_t nr_meta_pages; /**< taken from the source for metadata */
    uint32_t nr_users;      /**< caches and heaps */
};

/**
 * What the pool itself has taken.
 *
 * @param[out] out  untouched on error
 * @return MM_OK | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null)
 * Locks:  none; any context. Cost: O(1).
 */
MM_MUST_CHECK
mm_status_t mm_pool_get_stats(const struct mm_pool *pool, struct mm_pool_stats *out);

/* --- caches ----------------------------------------------------------------------------------- */

/** Largest object of a cache, and its largest alignment. */
#define MM_CACHE_MAX_SIZE  UINT64_C(8192)
#define MM_CACHE_MAX_ALIGN UINT64_C(4096)

/** CPUs whose hints need no page. */
#define MM_CACHE_CPUS_INLINE 4

struct mm_cache_config {
    const char *name; /**< lives as long as the cache; NULL: "cache" */
    uint64_t size;    /**< bytes of an object, 1 to MM_CACHE_MAX_SIZE */
    /**
     * Bytes, a power of two up to MM_CACHE_MAX_ALIGN; 0: 16. Less than 8 is 8, and in a hardened
     * cache less than 16 is 16.
     */
    uint64_t align;
    /**
     * Called once for each object when its slab is made; objects must be freed in the state it
     * made. NULL: none.
     */
    void (*construct)(void *ctx, void *object);
    void *ctx;
    uint32_t flags;         /**< MM_HEAP_CALLERS */
    enum mm_heap_tier tier; /**< MM_HEAP_HARDENED: without a constructor only */
    uint32_t quarantine;    /**< hardened: objects that wait before reuse; 0: MM_HEAP_QUARANTINE */
    mm_heap_report_fn report; /**< hears of misuse; NULL: that is a panic */
    void *report_ctx;
};

/** Lists of partial slabs for all CPUs: those that were half free, or three quarters, when listed. */
#define MM_CACHE_LISTS 2

/** The slabs of one size of object. Internal: a cache has one, a heap has one a size. */
struct mm_slab_class {
    struct mm_pool *pool;
    const char *name;            /**< of the cache or heap, for panics and events */
    const void *owner;           /**< the cache or heap, for events */
    struct mm_heap_watch *watch; /**< NULL: nothing is recorded */
    uint64_t *hints;             /**< atomic: CPU 0's word; the next CPU's is `stride` on */
    uint64_t *owned;             /**< atomic: CPU 0's slab, in the same way */
    uint64_t *own;               /**< atomic list: its partial slabs, in the same way */
    uint64_t listed; /**< atomic: bit n: CPU n, n + 64 and so on may have partial slabs */
    uint64_t partial[MM_CACHE_LISTS]; /**< atomic lists: partial slabs for all CPUs */
    uint64_t unused;                  /**< atomic list: descriptors without pages */
    uint64_t all;                     /**< atomic list: every descriptor; only grows */
    uint64_t probe;                   /**< atomic: of those, the next to look at for free objects */
    void (*construct)(void *ctx, void *object);
    void *ctx;
    uint64_t nr_slabs; /**< atomic: slabs with pages */
    uint32_t nr_kept;  /**< atomic: empty slabs that stay, 0 or 1 */
    uint32_t next_cpu; /**< atomic: of `listed`, the bit to look at next */
    uint32_t stride;
    uint32_t size;       /**< bytes from object to object */
    uint32_t reciprocal; /**< 2^32 / size, rounded up */
    uint8_t min_order;   /**< of a slab: log2 of its pages */
    uint8_t max_order;
    uint16_t nr_cpus;
    uint32_t number;    /**< in the heap */
    uint32_t nr_freed;  /**< atomic; of runs that are recorded: numbers them as they are freed */
    uint32_t keeps_all; /**< of runs: those that are freed stay, however many */
    uint32_t lead;      /**< bytes of a slab before its first object */
    uint32_t nr_words;  /**< of a descriptor, that hold bits */
};

/** An object cache. Storage is the caller's; fields are the library's. */
struct mm_cache {
    uint32_t magic;
    uint32_t nr_cpus;           /**< 0: every call takes the long way */
    struct mm_slab_table table; /**< a copy of the pool's; empty: the same */
    struct mm_slab_class objects;
    struct mm_heap_watch watch;
    uint64_t size;       /**< bytes of an object, as asked for */
    uint64_t hint_pages; /**< 0: the hints are hints_inline */
    uint64_t nr_failed;  /**< atomic */
    /** From a cache line on: two CPUs share none. */
    uint64_t hints_inline[(MM_CACHE_CPUS_INLINE + 1) * (MM_CACHE_LINE / 8) - 1];
};

/**
 * Make a cache.
 *
 * @param cache  zeroed storage
 * @return MM_OK | MM_ERR_ALREADY_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null, align, tier, a
 *         quarantine above MM_HEAP_QUARANTINE_MAX) | MM_ERR_INVALID_SIZE (0, or above
 *         MM_CACHE_MAX_SIZE) | MM_ERR_INVALID_FLAGS | MM_ERR_NOT_INITIALIZED (pool)
 *         | MM_ERR_UNSUPPORTED (hardened, with a constructor) | MM_ERR_NO_MEMORY (only with more
 *         than MM_CACHE_CPUS_INLINE CPUs, hardened, or as one of more than MM_POOL_USERS_INLINE
 *         caches and heaps of the pool)
 * Owner:  the pool outlives the cache.
 * Locks:  none; any context. Cost: O(1); no page is taken for objects yet.
 */
MM_MUST_CHECK
mm_status_t mm_cache_init(struct mm_cache *cache, struct mm_pool *pool,
                          const struct mm_cache_config *config);

/**
 * Take a cache down: its slabs are back at the page source, and the storage is zeroed.
 *
 * @return MM_OK | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null) | MM_ERR_BUSY (objects
 *         were not freed: nothing was done; the log op gets a line that says how many)
 * Locks:  none; no other CPU uses the cache, and no other cache or heap of the pool is told a
 *         misuse meanwhile: it might name this one (heap_report.h). Cost: O(slabs).
 */
MM_MUST_CHECK
mm_status_t mm_cache_destroy(struct mm_cache *cache);

/**
 * Allocate an object. The CPU's number comes from the platform's op.
 *
 * @return the object, or NULL: the page source has no pages and no slab has a free object, or the
 *         cache is null or not initialised
 * Owner:  the caller, until mm_cache_free(). Contents: as the constructor or the last owner left
 *         it; without a constructor unspecified.
 * Locks:  none; any context. Sleeps: never.
 * Cost:   one word of 64 bits where the CPU's last has a free object; else the 8 words of its slab;
 *         else those of up to 13 slabs, and a list for each CPU that has partial slabs; then a call of
 *         the page source for a new slab. Only before NULL: O(slabs + CPUs), up to 4 times
 *         if somebody else gave pages back meanwhile.
 */
void *mm_cache_alloc(struct mm_cache *cache);

/**
 * The same for a caller that knows its CPU's number: the hot path. No op is called, but for a new
 * slab.
 *
 * @param cpu  taken modulo nr_cpus
 * @return as mm_cache_alloc()
 * Owner:  as mm_cache_alloc().
 * Locks:  none; any context. Sleeps: never.
 * Cost:   as mm_cache_alloc().
 */
void *mm_cache_alloc_on(struct mm_cache *cache, uint32_t cpu);

/**
 * Free an object; NULL is allowed and does nothing. Panics at an object that is free already, the
 * inside of an object, an address that holds none, or an object of another cache. An object that is
 * given to a cache that is null or not initialised is an illegal instruction, since that has
 * neither report op nor panic hook.
 *
 * Locks:  none; any context, any CPU.
 * Cost:   O(1); when the slab becomes empty, a call of the page source.
 */
void mm_cache_free(struct mm_cache *cache, void *object);

/**
 * The same for a caller that knows its CPU's number: the CPU's next object comes from where this one
 * was, so it is the faster one where a CPU frees what it allocated. Panics as mm_cache_free(), also
 * without a cache.
 *
 * @param cpu  may be any
 * Locks:  none; any context. Cost: as mm_cache_free().
 */
void mm_cache_free_on(struct mm_cache *cache, uint32_t cpu, void *object);

/**
 * As mm_cache_alloc(), on behalf of a caller: for a wrapper, as mm_heap_alloc_from().
 *
 * @param caller  an address of code: who allocates; NULL: who makes this call
 * @return as mm_cache_alloc()
 * Owner:  as mm_cache_alloc().
 * Locks:  none; any context. Sleeps: never.
 * Cost:   as mm_cache_alloc().
 */
void *mm_cache_alloc_from(struct mm_cache *cache, const void *caller);

/**
 * As mm_cache_free(), on behalf of a caller. Panics as that, also without a cache.
 *
 * @param caller  an address of code: who frees; NULL: who makes this call
 * Locks:  none; any context, any CPU. Cost: as mm_cache_free().
 */
void mm_cache_free_from(struct mm_cache *cache, void *object, const void *caller);

/**
 * Allocate many objects: all that the CPU's word has at once, then those of the next.
 *
 * @param cpu           taken modulo nr_cpus
 * @param nr            objects wanted
 * @param[out] objects  `nr` elements; those from the returned number on are untouched
 * @return how many were allocated: fewer than `nr` where mm_cache_alloc() would answer NULL; 0 if
 *         the cache or `objects` is null or the cache not initialised
 * Owner:  the caller, until they are freed, one by one or in bulk. Contents: as mm_cache_alloc().
 * Locks:  none; any context. Sleeps: never.
 * Cost:   O(nr) stores; one atomic step for up to 32 objects of a fresh slab.
 */
uint64_t mm_cache_alloc_bulk(struct mm_cache *cache, uint32_t cpu, uint64_t nr, void **objects);

/**
 * Free many objects, in any order; those of one word that follow each other go in one step. NULL
 * elements are skipped. Panics as mm_cache_free(), also without a cache, and at an object that the
 * list holds twice; elements before it are free then.
 *
 * @param objects  `nr` elements; null: nothing is done
 * Locks:  none; any context, any CPU.
 * Cost:   O(nr); a call of the page source for each slab that becomes empty.
 */
void mm_cache_free_bulk(struct mm_cache *cache, uint64_t nr, void *const *objects);

/**
 * Give all empty slabs back to the page source, also those that are kept or that a CPU holds. What
 * waits in a hardened cache leaves the quarantine first.
 *
 * @return pages of slabs given back; 0 also if the cache is null or not initialised
 * Locks:  none; any context. Cost: O(CPUs + slabs + objects that wait).
 */
uint64_t mm_cache_reclaim(struct mm_cache *cache);

/** A snapshot; exact when no other CPU is in the cache. */
struct mm_cache_stats {
    uint64_t object_size;    /**< bytes from object to object */
    uint64_t nr_objects;     /**< allocated */
    uint64_t nr_free;        /**< objects of the slabs that are not */
    uint64_t nr_slabs;       /**< slabs with pages */
    uint64_t nr_empty_slabs; /**< of those, without an allocated object */
    uint64_t slab_bytes;     /**< pages of the slabs */
    uint64_t nr_failed;      /**< allocations answered NULL */
};

/**
 * Count what is allocated, and report.
 *
 * @param[out] out  untouched on error
 * @return MM_OK | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null)
 * Locks:  none; any context. Cost: O(slabs).
 */
MM_MUST_CHECK
mm_status_t mm_cache_get_stats(const struct mm_cache *cache, struct mm_cache_stats *out);

/**
 * Walk all slabs and compare: free bits, states, lists, hints, table. Each contradiction is one
 * line to the log op. Of a hardened cache also the bytes of all objects that must be as they were
 * left: each that is broken is told the report op, if there is one, and the log op
 * (mm/heap_report.h). Nothing is mended, and nothing is a panic.
 *
 * @return MM_OK | MM_ERR_CORRUPTED | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null)
 * Locks:  none; no other CPU is in the cache, or contradictions are told that are none.
 * Cost:   O(slabs); of a hardened cache O(bytes of them).
 */
MM_MUST_CHECK
mm_status_t mm_cache_check(const struct mm_cache *cache);

MM_END_DECLS

#endif
