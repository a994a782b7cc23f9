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
 * Context: alloc and free are safe on any CPU and in any context, interrupts on or off; a wrong CPU
 * number costs time, never correctness. A cache that needs pages calls the page source, with no
 * lock held.
 */
#ifndef MM_CACHE_H
#define MM_CACHE_H

#include <mm/frame.h>
#include <mm/physmap.h>
#include <mm/platform.h>

MM_BEGIN_DECLS

/* --- page sources --------------------------------------------------------------------------------
 */

struct mm_page_source_ops {
    /**
     * `nr_pages` contiguous pages of 4 KiB, aligned to `align` pages (a power of two), readable and
     * writable. MM_OK, or any error: reported as MM_ERR_NO_MEMORY or NULL. May be called in any
     * context in which the kernel allocates. Must not allocate from the pool that asks.
     */
    mm_status_t (*alloc)(void *ctx, uint64_t nr_pages, uint64_t align, void **out);
    /** Give back all or an aligned part of what alloc() returned. Cannot fail. */
    void (*free)(void *ctx, void *pages, uint64_t nr_pages);
};

/** All pages lie in [base, base + len): a direct map, or a buffer. Passed by value. */
struct mm_page_source {
    const struct mm_page_source_ops *ops;
    void *ctx;
    uint64_t base; /**< virtual address, page-aligned */
    uint64_t len;  /**< bytes */
};

/** A page source over one fixed, mapped range. Storage and range are the caller's. */
struct mm_page_range {
    uint32_t magic;
    uint32_t zero;
    uint64_t base;
    uint64_t nr_pages;
    uint64_t *bitmap; /**< 1 = free; in the first pages of the range */
    uint64_t nr_free;
    uint64_t hint;
    uint64_t spare[4];
};

/**
 * @param range  zeroed storage
 * @param base   any address; rounded up to a page; len bytes, rounded down
 * @return MM_OK | MM_ERR_ALREADY_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null) | MM_ERR_INVALID_SIZE
 * (fewer than two pages, or wraps) Owner: the caller keeps the range until mm_page_range_destroy().
 * Cost: O(pages / 64) stores, in the range.
 */
MM_MUST_CHECK
mm_status_t mm_page_range_init(struct mm_page_range *range, void *base, uint64_t len);

/** @return MM_OK | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null) | MM_ERR_BUSY (pages are
 * out) */
MM_MUST_CHECK
mm_status_t mm_page_range_destroy(struct mm_page_range *range);

/** The source over a range, which must outlive it. */
struct mm_page_source mm_page_source_range(struct mm_page_range *range);

/** A page source that takes frames and reaches them through the direct map. Storage is the
 * caller's. */
struct mm_page_frames {
    uint32_t magic;
    uint32_t zero;
    struct mm_frames *frames;
    struct mm_physmap physmap;
    uint64_t nr_pages_out; /**< atomic */
    uint64_t spare[2];
};

/**
 * @param pages   zeroed storage
 * @param physmap a direct map of all memory that `frames` manages
 * @return MM_OK | MM_ERR_ALREADY_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null) |
 * MM_ERR_NOT_INITIALIZED (frames) | MM_ERR_UNSUPPORTED (physmap with ops)
 */
MM_MUST_CHECK
mm_status_t mm_page_frames_init(struct mm_page_frames *pages, struct mm_frames *frames,
                                const struct mm_physmap *physmap);

/** @return MM_OK | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null) | MM_ERR_BUSY (pages are
 * out) */
MM_MUST_CHECK
mm_status_t mm_page_frames_destroy(struct mm_page_frames *pages);

/** The source over frames; base and length are what the frames span in the direct map. */
struct mm_page_source mm_page_source_frames(struct mm_page_frames *pages);

/* --- pools
 * ------------------------------------------------------------------------------------------ */

/** A page source and the table that finds a slab by address. Fields are the library's. */
struct mm_pool {
    uint32_t magic;
    uint32_t nr_cpus;
    struct mm_page_source source;
    struct mm_platform platform;
    uint64_t spare[48];
};

struct mm_pool_config {
    struct mm_page_source source;
    struct mm_platform platform;
    uint32_t nr_cpus; /**< CPU numbers are below this; 1 to 1024 */
    uint32_t flags;   /**< 0 */
};

MM_MUST_CHECK
mm_status_t mm_pool_init(struct mm_pool *pool, const struct mm_pool_config *config);
MM_MUST_CHECK
mm_status_t mm_pool_destroy(struct mm_pool *pool);

/* --- caches
 * --------------------------------------------------------------------------------------------- */

struct mm_cache_config {
    const char *name; /**< lives as long as the cache */
    uint64_t size;    /**< bytes of an object */
    uint64_t align;   /**< bytes, a power of two up to 4096; 0: 16, or the largest power of two in a
                         smaller size */
    /** Called once for each object when its slab is made; objects must be freed in the state it
     * made. NULL: none. */
    void (*construct)(void *ctx, void *object);
    void *ctx;
    uint32_t flags; /**< 0 */
    uint32_t zero;
};

struct mm_cache {
    uint32_t magic;
    uint32_t zero;
    struct mm_pool *pool;
    const char *name;
    uint64_t size;
    uint64_t spare[60];
};

MM_MUST_CHECK
mm_status_t mm_cache_init(struct mm_cache *cache, struct mm_pool *pool,
                          const struct mm_cache_config *config);
MM_MUST_CHECK
mm_status_t mm_cache_destroy(struct mm_cache *cache);
void *mm_cache_alloc(struct mm_cache *cache);
void *mm_cache_alloc_on(struct mm_cache *cache, uint32_t cpu);
void mm_cache_free(struct mm_cache *cache, void *object);

MM_END_DECLS

#endif
