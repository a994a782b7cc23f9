// SPDX-License-Identifier: MIT
/**
 * A page source that takes frames as it needs them, and reaches them through the direct map.
 */
#include "slab.h"

#include "core/base/mem.h"
#include "core/frame/state.h"

#define MAGIC UINT32_C(0x6d6d5066) /* "mmPf" */

static bool is_frames(const struct mm_page_frames *pages)
{
    return pages != NULL && pages->magic == MAGIC;
}

static mm_status_t frames_alloc(void *ctx, uint64_t nr_pages, uint64_t align, uint32_t flags,
                                void **out)
{
    struct mm_page_frames *pages = ctx;
    struct mm_frame_request request = {
        .owner = MM_OWNER_HEAP, .flags = (flags & MM_PAGES_ATOMIC) != 0 ? MM_FRAME_ATOMIC : 0};
    mm_status_t status;
    mm_pfn_t first;

    if (nr_pages == 0 || nr_pages > UINT64_MAX / MM_PAGE_SIZE || !mm_is_pow2(align) ||
        align > UINT64_MAX / MM_PAGE_SIZE) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (mm_is_pow2(nr_pages) && align <= nr_pages && mmi_log2(nr_pages) <= MM_FRAME_MAX_ORDER) {
        request.order = mmi_log2(nr_pages);
    } else {
        request.nr_frames = nr_pages;
        request.align = align * MM_PAGE_SIZE;
    }
    status = mm_frame_alloc(pages->frames, &request, &first);
    if (status != MM_OK) {
        return status;
    }
    mmi_fetch_add(&pages->nr_pages_out, nr_pages);
    *out = mm_physmap_ptr(&pages->physmap, mm_pfn_addr(first));
    return MM_OK;
}

static void frames_free(void *ctx, void *address, uint64_t nr_pages)
{
    struct mm_page_frames *pages = ctx;
    mm_pfn_t first = mm_pfn_of(mm_physmap_paddr(&pages->physmap, address));

    if (mm_is_pow2(nr_pages) && mmi_log2(nr_pages) <= MM_FRAME_MAX_ORDER &&
        mm_is_aligned(first.raw, nr_pages)) {
        mm_frame_free(pages->frames, first, mmi_log2(nr_pages));
    } else {
        mm_frame_free_run(pages->frames, first, nr_pages);
    }
    mmi_fetch_sub(&pages->nr_pages_out, nr_pages);
}

static mm_status_t frames_extend(void *ctx, void *address, uint64_t nr_pages, uint64_t more,
                                 uint32_t flags)
{
    struct mm_page_frames *pages = ctx;
    uint64_t start = mm_physmap_paddr(&pages->physmap, address).raw;
    struct mm_frame_request request = {.nr_frames = more,
                                       .align = MM_PAGE_SIZE,
                                       .owner = MM_OWNER_HEAP,
                                       .flags =
                                           (flags & MM_PAGES_ATOMIC) != 0 ? MM_FRAME_ATOMIC : 0};
    mm_status_t status;
    mm_pfn_t first;

    if (nr_pages == 0 || more == 0 || nr_pages > pages->len / MM_PAGE_SIZE ||
        more > pages->len / MM_PAGE_SIZE) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    /* No other run of this length lies between these limits. */
    request.lowest = mm_paddr(start + nr_pages * MM_PAGE_SIZE);
    request.highest = mm_paddr(request.lowest.raw + more * MM_PAGE_SIZE - 1);
    status = mm_frame_alloc(pages->frames, &request, &first);
    if (status == MM_OK) {
        mmi_fetch_add(&pages->nr_pages_out, more);
    }
    return status;
}

static const struct mm_page_source_ops frames_ops = {
    .alloc = frames_alloc, .free = frames_free, .extend = frames_extend};

mm_status_t mm_page_frames_init(struct mm_page_frames *pages, struct mm_frames *frames,
                                const struct mm_physmap *physmap)
{
    struct mm_prange all;

    if (pages == NULL || frames == NULL || physmap == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (is_frames(pages)) {
        return MM_ERR_ALREADY_INITIALIZED;
    }
    if (frames->magic != MMI_FRAME_MAGIC) {
        return MM_ERR_NOT_INITIALIZED;
    }
    if (physmap->ops != NULL) {
        return MM_ERR_UNSUPPORTED;
    }
    if (!mmi_physmap_reaches(physmap, frames)) {
        return MM_ERR_INVALID_ADDRESS;
    }
    all = mmi_frames_extent(frames);
    memset(pages, 0, sizeof(*pages));
    pages->frames = frames;
    pages->physmap = *physmap;
    pages->base = (uint64_t)(uintptr_t)mm_physmap_ptr(physmap, all.start);
    pages->len = all.len;
    pages->magic = MAGIC;
    return MM_OK;
}

mm_status_t mm_page_frames_destroy(struct mm_page_frames *pages)
{
    if (pages == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (!is_frames(pages)) {
        return MM_ERR_NOT_INITIALIZED;
    }
    if (mmi_load(&pages->nr_pages_out) != 0) {
        return MM_ERR_BUSY;
    }
    memset(pages, 0, sizeof(*pages));
    return MM_OK;
}

struct mm_page_source mm_page_source_frames(struct mm_page_frames *pages)
{
    struct mm_page_source none = {NULL, NULL, 0, 0};

    return is_frames(pages) ? (struct mm_page_source){&frames_ops, pages, pages->base, pages->len}
                            : none;
}
