// SPDX-License-Identifier: MIT
/**
 * DMA memory: physically contiguous regions for devices, with what the device demands of their
 * address.
 *
 * A region has its physical base (what the device is told) and its kernel alias (what the driver
 * uses), together. x86 keeps DMA coherent with the caches, so the alias is ordinary write-back
 * memory of the direct map.
 *
 * Locks: none; any context. Nothing sleeps.
 */
#ifndef MM_DMA_H
#define MM_DMA_H

#include <mm/frame.h>

MM_BEGIN_DECLS

struct mm_dma_config {
    struct mm_frames *frames;
    const struct mm_physmap *physmap; /**< copied: a direct map of all that `frames` manages */
    struct mm_platform platform;
};

/** Hands out regions. Storage is the caller's; fields are the library's. */
struct mm_dma {
    uint32_t magic;
    struct mm_frames *frames;
    struct mm_physmap physmap;
    struct mm_platform platform;
    uint64_t nr_regions; /**< atomic */
    uint64_t nr_bytes;   /**< atomic: whole frames */
};

/** What a device can reach. All zero: anything. */
struct mm_dma_constraints {
    mm_paddr_t highest; /**< last byte the device can address (its DMA mask); 0: no limit */
    uint64_t align;     /**< bytes, a power of two; 0: a page */
    uint64_t boundary;  /**< bytes, a power of two: no multiple of it lies inside; 0: none */
};

#define MM_DMA_ZERO      1u /**< contents are zero */
#define MM_DMA_FLAGS_ALL 1u

/** A region, owned by whom it was handed to. */
struct mm_dma_region {
    struct mm_prange range; /**< what the device is told; len as it was asked for */
    void *addr;             /**< what the driver uses */
    uint64_t nr_frames;     /**< frames held */
    uint32_t magic;
};

/**
 * Make a manager of regions over a frame allocator.
 *
 * @param dma  zeroed storage
 * @return MM_OK | MM_ERR_ALREADY_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null)
 *         | MM_ERR_NOT_INITIALIZED (frames) | MM_ERR_UNSUPPORTED (physmap with ops)
 *         | MM_ERR_INVALID_ADDRESS (physmap: does not reach all frames)
 * Owner:  `frames` outlives the manager.
 * Locks:  none; one CPU. Cost: O(1).
 */
MM_MUST_CHECK
mm_status_t mm_dma_init(struct mm_dma *dma, const struct mm_dma_config *config);

/**
 * Take the manager down; the storage is zeroed.
 *
 * @return MM_OK | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null) | MM_ERR_BUSY (a region
 *         is out: nothing was done)
 * Locks:  none; no other CPU uses the manager. Cost: O(1).
 */
MM_MUST_CHECK
mm_status_t mm_dma_destroy(struct mm_dma *dma);

/**
 * Allocate a region that satisfies the constraints.
 *
 * @param len          bytes; whole frames are taken
 * @param constraints  NULL: none
 * @param flags        MM_DMA_ZERO
 * @param[out] out     zeroed storage, or a region that was freed; untouched on error
 * @return MM_OK | MM_ERR_NO_MEMORY | MM_ERR_INVALID_SIZE (len 0, too large, larger than the
 *         boundary) | MM_ERR_NOT_ALIGNED (align or boundary: not a power of two)
 *         | MM_ERR_INVALID_ADDRESS (highest leaves no room for len) | MM_ERR_INVALID_FLAGS
 *         | MM_ERR_ALREADY_INITIALIZED (out holds a live region) | MM_ERR_NOT_INITIALIZED
 *         | MM_ERR_INVALID_ARGUMENT (null)
 * Owner:  the caller, until mm_dma_free(). Contents: unspecified unless MM_DMA_ZERO.
 * Locks:  none; any context. Sleeps: never.
 * Cost:   as mm_frame_alloc() for a run.
 */
MM_MUST_CHECK
mm_status_t mm_dma_alloc(struct mm_dma *dma, uint64_t len,
                         const struct mm_dma_constraints *constraints, uint32_t flags,
                         struct mm_dma_region *out);

/**
 * Give a region back, whole. `region` is zeroed. Panics (as mm_frame_free()) if its frames are not
 * allocated.
 *
 * @return MM_OK | MM_ERR_NOT_INITIALIZED (dma, or the region is not live)
 *         | MM_ERR_INVALID_ARGUMENT (null)
 * Locks:  none; any context. Sleeps: never.
 * Cost:   as mm_frame_free_run().
 */
MM_MUST_CHECK
mm_status_t mm_dma_free(struct mm_dma *dma, struct mm_dma_region *region);

struct mm_dma_stats {
    uint64_t nr_regions;
    uint64_t nr_bytes; /**< whole frames */
};

/**
 * What is out.
 *
 * @param[out] out  untouched on error
 * @return MM_OK | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null)
 * Locks:  none; any context. Cost: O(1).
 */
MM_MUST_CHECK
mm_status_t mm_dma_get_stats(const struct mm_dma *dma, struct mm_dma_stats *out);

MM_END_DECLS

#endif
