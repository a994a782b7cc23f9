// SPDX-License-Identifier: MIT
/**
 * DMA regions: a run of frames that a device can reach, with the address of its alias in the direct
 * map.
 *
 * What a device demands is turned into a frame request, where the search is done; this file checks
 * the demands, keeps count, and makes sure that a region is released whole or not at all. A region
 * is marked with a magic word that its manager's address is mixed into: one that was freed, never
 * allocated, or comes from another manager is told from a live one.
 */
#include <mm/dma.h>

#include "core/base/atomic.h"
#include "core/base/mem.h"
#include "core/frame/state.h"

#define DMA_MAGIC    UINT32_C(0x6d6d444d) /* "mmDM" */
#define REGION_MAGIC UINT32_C(0x6d6d4452) /* "mmDR" */

static uint32_t region_magic(const struct mm_dma *dma)
{
    uint64_t at = (uint64_t)(uintptr_t)dma;

    return REGION_MAGIC ^ (uint32_t)(at >> 3) ^ (uint32_t)(at >> 35);
}

mm_status_t mm_dma_init(struct mm_dma *dma, const struct mm_dma_config *config)
{
    if (dma == NULL || config == NULL || config->frames == NULL || config->physmap == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (dma->magic == DMA_MAGIC) {
        return MM_ERR_ALREADY_INITIALIZED;
    }
    if (config->frames->magic != MMI_FRAME_MAGIC) {
        return MM_ERR_NOT_INITIALIZED;
    }
    if (config->physmap->ops != NULL) {
        return MM_ERR_UNSUPPORTED;
    }
    if (!mmi_physmap_reaches(config->physmap, config->frames)) {
        return MM_ERR_INVALID_ADDRESS;
    }
    dma->frames = config->frames;
    dma->physmap = *config->physmap;
    dma->platform = config->platform;
    dma->nr_regions = 0;
    dma->nr_bytes = 0;
    dma->magic = DMA_MAGIC;
    return MM_OK;
}

mm_status_t mm_dma_destroy(struct mm_dma *dma)
{
    if (dma == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (dma->magic != DMA_MAGIC) {
        return MM_ERR_NOT_INITIALIZED;
    }
    if (mmi_load_acquire(&dma->nr_regions) != 0) {
        return MM_ERR_BUSY;
    }
    memset(dma, 0, sizeof(*dma));
    return MM_OK;
}

/*
 * The last byte that the frames of a region may have, so that the last of the region's own `len`
 * bytes is at most `highest`: the rest of its last frame may be out of the device's reach. 0 stays
 * no limit.
 */
static mm_paddr_t highest_of_frames(mm_paddr_t highest, uint64_t len, uint64_t whole)
{
    uint64_t last_start;

    if (highest.raw == 0) {
        return highest;
    }
    last_start = mm_align_down(highest.raw - (len - 1), MM_PAGE_SIZE);
    /* At most 2^64 - len, rounded down: that is 2^64 - whole, so the sum does not wrap. */
    return mm_paddr(last_start + (whole - 1));
}

/** What a device demands, as a request for a run of whole frames. */
static mm_status_t make_request(uint64_t len, const struct mm_dma_constraints *c,
                                struct mm_frame_request *out)
{
    uint64_t whole;

    if (c != NULL && ((c->align != 0 && !mm_is_pow2(c->align)) ||
                      (c->boundary != 0 && !mm_is_pow2(c->boundary)))) {
        return MM_ERR_NOT_ALIGNED;
    }
    if (len == 0 || !mm_align_up(len, MM_PAGE_SIZE, &whole) || whole >> MM_PADDR_BITS_MAX != 0 ||
        (c != NULL && c->boundary != 0 && len > c->boundary)) {
        return MM_ERR_INVALID_SIZE;
    }
    if (c != NULL && c->highest.raw != 0 && c->highest.raw < len - 1) {
        return MM_ERR_INVALID_ADDRESS;
    }
    *out = (struct mm_frame_request){.nr_frames = whole >> MM_PAGE_SHIFT, .owner = MM_OWNER_DMA};
    if (c != NULL) {
        out->highest = highest_of_frames(c->highest, len, whole);
        out->align = c->align > MM_PAGE_SIZE ? c->align : 0;
        /* A region smaller than a page begins on one, so it can't cross a smaller boundary. */
        out->boundary = c->boundary >= MM_PAGE_SIZE ? c->boundary : 0;
    }
    return MM_OK;
}

mm_status_t mm_dma_alloc(struct mm_dma *dma, uint64_t len,
                         const struct mm_dma_constraints *constraints, uint32_t flags,
                         struct mm_dma_region *out)
{
    struct mm_frame_request request;
    mm_pfn_t first = {0};
    mm_status_t status;

    if (dma == NULL || out == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (dma->magic != DMA_MAGIC) {
        return MM_ERR_NOT_INITIALIZED;
    }
    if ((flags & ~MM_DMA_FLAGS_ALL) != 0) {
        return MM_ERR_INVALID_FLAGS;
    }
    if (out->magic == region_magic(dma)) {
        return MM_ERR_ALREADY_INITIALIZED;
    }
    status = make_request(len, constraints, &request);
    if (status == MM_OK) {
        status = mm_frame_alloc(dma->frames, &request, &first);
    }
    if (status != MM_OK) {
        return status;
    }
    out->range = mm_prange(mm_pfn_addr(first), len);
    out->addr = mm_physmap_ptr(&dma->physmap, out->range.start);
    out->nr_frames = request.nr_frames;
    if ((flags & MM_DMA_ZERO) != 0) {
        memset(out->addr, 0, out->nr_frames << MM_PAGE_SHIFT);
    }
    (void)mmi_fetch_add(&dma->nr_bytes, out->nr_frames << MM_PAGE_SHIFT);
    (void)mmi_fetch_add(&dma->nr_regions, 1);
    out->magic = region_magic(dma);
    return MM_OK;
}

mm_status_t mm_dma_free(struct mm_dma *dma, struct mm_dma_region *region)
{
    uint64_t nr_frames;
    mm_pfn_t first;

    if (dma == NULL || region == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (dma->magic != DMA_MAGIC || region->magic != region_magic(dma)) {
        return MM_ERR_NOT_INITIALIZED;
    }
    first = mm_pfn_of(region->range.start);
    nr_frames = region->nr_frames;
    /* First the frames: if they are not allocated, the panic finds the region as it was. */
    mm_frame_free_run(dma->frames, first, nr_frames);
    memset(region, 0, sizeof(*region));
    (void)mmi_fetch_sub(&dma->nr_bytes, nr_frames << MM_PAGE_SHIFT);
    (void)mmi_fetch_sub(&dma->nr_regions, 1);
    return MM_OK;
}

mm_status_t mm_dma_get_stats(const struct mm_dma *dma, struct mm_dma_stats *out)
{
    if (dma == NULL || out == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (dma->magic != DMA_MAGIC) {
        return MM_ERR_NOT_INITIALIZED;
    }
    out->nr_regions = mmi_load(&dma->nr_regions);
    out->nr_bytes = mmi_load(&dma->nr_bytes);
    return MM_OK;
}
