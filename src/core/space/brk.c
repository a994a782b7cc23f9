// SPDX-License-Identifier: MIT
/**
 * The break: a heap that grows and shrinks at its end, as brk() and sbrk() have it.
 *
 *     brk_start        brk
 *        v              v
 *     ...|##############...|          whole pages, from the first boundary at or above the start
 *         <-- a region -->            to the first at or above the break
 *
 * Only the break is kept: what lies below it belongs to whoever mapped it, and the user may have
 * unmapped some of it. So moving the break down unmaps whatever is there, and moving it up needs
 * only what is new to be free.
 */
#include "internal.h"

/** Where the pages of a heap end that ends at this byte. The range of a space ends at a page. */
static uint64_t pages_end(uint64_t brk)
{
    return mm_align_down(brk + (MM_PAGE_SIZE - 1), MM_PAGE_SIZE);
}

/** Where the space's range ends: of user spaces, far below 2^64. */
static uint64_t range_end(const struct mm_space *space)
{
    return space->regions.window.start.raw + space->regions.window.len;
}

static mm_status_t grow(struct mm_space *space, uint64_t end, uint64_t len)
{
    const struct mmi_region *below = mmi_regions_before(&space->regions, end);
    struct mmi_region_attr attr = {.prot = MM_PROT_READ | MM_PROT_WRITE,
                                   .flags = (uint32_t)MM_REGION_HEAP << MMI_REGION_KIND_SHIFT};

    if (!mmi_space_is_free(space, end, len, false)) {
        return MM_ERR_ALREADY_MAPPED;
    }
    /* A heap whose end is wired grows wired. */
    if (below != NULL && mmi_region_last(below) + 1 == end &&
        mmi_region_kind(below) == MM_REGION_HEAP) {
        attr.flags |= below->attr.flags & MM_SPACE_WIRED;
    }
    attr.flags |= mmi_space_commit_flag(space, attr.prot, attr.flags);
    return mmi_space_add_region(space, mmi_regions_spot(&space->regions, end), end, len, &attr,
                                (attr.flags & MM_SPACE_WIRED) != 0);
}

/** Move the break, or leave it and say why not. */
static mm_status_t move(struct mm_space *space, uint64_t at)
{
    uint64_t was = pages_end(space->brk);
    mm_status_t status = MM_OK;
    uint64_t end;

    if (at < space->brk_start || at > range_end(space)) {
        return MM_ERR_INVALID_ADDRESS;
    }
    end = pages_end(at);
    if (end < was) {
        status = mmi_space_remove_range(space, end, was - end);
    } else if (end > was) {
        status = grow(space, was, end - was);
    }
    if (status == MM_OK) {
        space->brk = at;
    }
    return status;
}

mm_status_t mm_space_set_brk_start(struct mm_space *space, mm_vaddr_t start)
{
    mm_status_t status = MM_OK;

    if (space == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (space->is_kernel != 0) {
        return MM_ERR_UNSUPPORTED;
    }
    if (!mm_vrange_covers(space->regions.window, mm_vrange(start, 1))) {
        return MM_ERR_INVALID_ADDRESS;
    }
    mmi_space_lock(space);
    if (space->brk != space->brk_start) {
        status = MM_ERR_BUSY;
    } else {
        space->brk_start = start.raw;
        space->brk = start.raw;
    }
    mmi_space_unlock(space);
    return status;
}

mm_status_t mm_space_brk(struct mm_space *space, mm_vaddr_t at, mm_vaddr_t *out)
{
    mm_status_t status = MM_ERR_REGION_NOT_FOUND;

    if (space == NULL || out == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (space->is_kernel != 0) {
        return MM_ERR_UNSUPPORTED;
    }
    mmi_space_lock(space);
    if (space->brk_start != 0) {
        status = at.raw == 0 ? MM_OK : move(space, at.raw);
        *out = mm_vaddr(space->brk);
    }
    mmi_space_unlock(space);
    return status;
}

mm_status_t mm_space_sbrk(struct mm_space *space, int64_t by, mm_vaddr_t *out)
{
    mm_status_t status = MM_ERR_REGION_NOT_FOUND;
    uint64_t was;
    uint64_t at;

    if (space == NULL || out == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (space->is_kernel != 0) {
        return MM_ERR_UNSUPPORTED;
    }
    mmi_space_lock(space);
    was = space->brk;
    if (space->brk_start != 0) {
        status = __builtin_add_overflow(was, by, &at) ? MM_ERR_INVALID_ADDRESS : move(space, at);
    }
    if (status == MM_OK) {
        *out = mm_vaddr(was);
    }
    mmi_space_unlock(space);
    return status;
}
