// SPDX-License-Identifier: MIT
/**
 * What of the physmap is too long to be inlined: which part of memory, of a boot map or of an
 * allocator, the direct map reaches. It stands on this floor because the boot map knows of no
 * virtual address.
 */
#include "state.h"

#include <mm/bootmap.h>
#include <mm/physmap.h>

bool mmi_physmap_reachable(const struct mm_physmap *physmap, struct mm_prange within,
                           struct mm_prange *out)
{
    uint64_t start = physmap->len == 0 ? 0 : physmap->first.raw;
    uint64_t last = physmap->len == 0 ? UINT64_MAX : start + (physmap->len - 1);
    uint64_t virt = physmap->base + start;

    if (last - start > UINT64_MAX - virt) {
        last = start + (UINT64_MAX - virt); /* virtual memory ends here */
    }
    if (start < MM_PAGE_SIZE) {
        start = MM_PAGE_SIZE;
    }
    if (within.len == 0) {
        return false;
    }
    if (start < within.start.raw) {
        start = within.start.raw;
    }
    if (last > within.start.raw + (within.len - 1)) {
        last = within.start.raw + (within.len - 1);
    }
    if (start > last) {
        return false;
    }
    *out = mm_prange(mm_paddr(start), last - start + 1); /* no 2^64: frame 0 is out */
    return true;
}

struct mm_prange mmi_frames_extent(const struct mm_frames *f)
{
    const struct mm_frame_span *last = &f->spans[f->nr_spans - 1];
    uint64_t first = f->spans[0].first;

    return mm_prange(mm_pfn_addr(mm_pfn(first)), (last->first + last->nr - first) << MM_PAGE_SHIFT);
}

bool mmi_physmap_reaches(const struct mm_physmap *physmap, const struct mm_frames *f)
{
    struct mm_prange all = mmi_frames_extent(f);

    return mm_physmap_covers(physmap, all) &&
           mm_range_fits((uint64_t)(uintptr_t)mm_physmap_ptr(physmap, all.start), all.len);
}

mm_status_t mm_bootmap_largest_mapped(struct mm_bootmap *map, const struct mm_physmap *physmap,
                                      struct mm_prange within, void **out_base, uint64_t *out_len)
{
    mm_status_t status = mm_bootmap_normalize(map);
    struct mm_prange found;

    if (status != MM_OK) {
        return status;
    }
    if (physmap == NULL || out_base == NULL || out_len == NULL ||
        !mm_range_fits(physmap->first.raw, physmap->len)) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (physmap->ops != NULL) {
        return MM_ERR_UNSUPPORTED;
    }
    if (!mm_prange_valid(within)) {
        return MM_ERR_INVALID_SIZE;
    }
    if (!mmi_physmap_reachable(physmap, within, &within)) {
        return MM_ERR_REGION_NOT_FOUND;
    }
    status = mm_bootmap_largest(map, within, &found);
    if (status != MM_OK) {
        return status;
    }
    *out_base = mm_physmap_ptr(physmap, found.start);
    *out_len = found.len;
    return MM_OK;
}
