// SPDX-License-Identifier: MIT
/**
 * Wiring: pages that are there, and stay.
 *
 * A region that is wired keeps the flag, so that advice leaves its pages alone and what grows it
 * puts pages there. The pages that it has already are made as a write needs them, because a page
 * that is there to be read only would fault again. Guards and devices have nothing to wire.
 *
 * Flags of regions are changed here for advice too.
 */
#include "internal.h"

/* --- flags of regions ------------------------------------------------------------------------- */

static bool has_pages(const struct mmi_region *n)
{
    return !mmi_region_is_guard(n) && !mmi_region_is_device(n);
}

/** Nodes that a change may take; between regions nothing is split. */
static uint64_t nodes_for(const struct mm_space *space, uint64_t start, uint64_t len,
                          const struct mmi_region_change *change)
{
    uint64_t last = start + (len - 1);
    const struct mmi_region *low = mmi_regions_find(&space->regions, start);
    const struct mmi_region *high = mmi_regions_find(&space->regions, last);
    uint64_t need = 0;

    if (low != NULL && has_pages(low)) {
        need += mmi_regions_need_change(&space->regions, start,
                                        mmi_region_part_end(low, last) - start + 1, change);
    }
    if (high != NULL && high != low && has_pages(high)) {
        need +=
            mmi_regions_need_change(&space->regions, high->start, last - high->start + 1, change);
    }
    return need;
}

static void change_regions(struct mm_space *space, uint64_t start, uint64_t len,
                           const struct mmi_region_change *change, struct mmi_region_list *nodes)
{
    uint64_t last = start + (len - 1);
    uint64_t at = start;

    /* Regions may become one with their neighbours: the next is found anew by its address. */
    for (;;) {
        const struct mmi_region *n = mmi_regions_from(&space->regions, at);
        uint64_t first;
        uint64_t end;

        if (n == NULL || n->start > last) {
            return;
        }
        first = n->start > at ? n->start : at;
        end = mmi_region_part_end(n, last);
        if (has_pages(n)) {
            mmi_regions_change(&space->regions, first, end - first + 1, change, nodes);
        }
        if (end == last) {
            return;
        }
        at = end + 1;
    }
}

mm_status_t mmi_space_change_flags(struct mm_space *space, uint64_t start, uint64_t len,
                                   const struct mmi_region_change *change)
{
    const struct mmi_space_need need = {.regions = nodes_for(space, start, len, change)};
    struct mmi_space_nodes none = {0};
    struct mmi_space_edit edit;
    struct mm_gather *gather;
    mm_status_t status;

    if (need.regions == 0) { /* no region is cut, and no leaf */
        change_regions(space, start, len, change, &none.regions);
        mmi_space_give_nodes(space, &none);
        return MM_OK;
    }
    status = mmi_space_edit_begin(space, &edit, start, len, need, 0);
    if (status != MM_OK) {
        return status;
    }
    gather = mmi_space_gather(space);
    mmi_space_cut_leaves(space, start, len, gather);
    mm_gather_end(gather);
    change_regions(space, start, len, change, &edit.nodes.regions);
    mmi_space_edit_end(space, &edit);
    return MM_OK;
}

/* --- pages ------------------------------------------------------------------------------------ */

static mm_status_t status_of(enum mm_fault_result result)
{
    if (mm_fault_resolved(result)) {
        return MM_OK;
    }
    if (result == MM_FAULT_LIMIT) {
        return MM_ERR_LIMIT;
    }
    return result == MM_FAULT_NO_MEMORY ? MM_ERR_NO_MEMORY : MM_ERR_PERMISSION_DENIED;
}

mm_status_t mmi_space_fault_pages(struct mm_space *space, uint64_t first, uint64_t last,
                                  uint32_t flags)
{
    uint64_t at = first;

    for (;;) {
        enum mm_fault_result result = mmi_space_fault_in_alone(space, at, flags, false);
        uint64_t end = at + (MM_PAGE_SIZE - 1);

        if (!mm_fault_resolved(result)) {
            return status_of(result);
        }
        if (result == MM_FAULT_HUGE) {
            end = mm_align_down(at, MM_SIZE_2M) + (MM_SIZE_2M - 1);
        }
        if (end >= last) {
            return MM_OK;
        }
        at = end + 1;
    }
}

/** Every page of a range that is wired. It has no hole. */
static mm_status_t fill(struct mm_space *space, uint64_t start, uint64_t last)
{
    uint64_t at = start;

    for (;;) {
        const struct mmi_region *n = mmi_regions_find(&space->regions, at);
        uint64_t end = mmi_region_part_end(n, last);
        mm_status_t status = MM_OK;

        if (has_pages(n) && n->attr.prot != MM_PROT_NONE) {
            uint32_t write = (n->attr.prot & MM_PROT_WRITE) != 0 ? MM_FAULT_WRITE : 0;

            status = mmi_space_fault_pages(space, at, end, MM_FAULT_USER | write);
        }
        if (status != MM_OK || end == last) {
            return status;
        }
        at = end + 1;
    }
}

/* --- the calls -------------------------------------------------------------------------------- */

static mm_status_t wire_locked(struct mm_space *space, uint64_t start, uint64_t len)
{
    const struct mmi_region_change change = {.set = MM_SPACE_WIRED};
    uint64_t hole = start + len;
    bool covered = mmi_space_covered(space, start, len, &hole);
    mm_status_t status;

    len = hole - start;
    if (len == 0) {
        return MM_ERR_NOT_MAPPED;
    }
    status = mmi_space_change_flags(space, start, len, &change);
    if (status != MM_OK) {
        return status;
    }
    mmi_space_keep(space, start, len);
    status = fill(space, start, start + (len - 1));
    return status == MM_OK && !covered ? MM_ERR_NOT_MAPPED : status;
}

static mm_status_t unwire_locked(struct mm_space *space, uint64_t start, uint64_t len)
{
    const struct mmi_region_change change = {.clear = MM_SPACE_WIRED};
    uint64_t hole = start + len;
    bool covered = mmi_space_covered(space, start, len, &hole);
    mm_status_t status = MM_OK;

    if (hole != start) {
        status = mmi_space_change_flags(space, start, hole - start, &change);
    }
    return status == MM_OK && !covered ? MM_ERR_NOT_MAPPED : status;
}

static mm_status_t run(struct mm_space *space, struct mm_vrange range,
                       mm_status_t (*locked)(struct mm_space *, uint64_t, uint64_t))
{
    mm_status_t status;
    uint64_t len = 0;

    if (space == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (space->is_kernel != 0) {
        return MM_ERR_UNSUPPORTED;
    }
    status = mmi_space_whole_pages(space, range, &len);
    if (status != MM_OK) {
        return status;
    }
    mmi_space_lock(space);
    status = locked(space, range.start.raw, len);
    mmi_space_unlock(space);
    return status;
}

mm_status_t mm_space_wire(struct mm_space *space, struct mm_vrange range)
{
    return run(space, range, wire_locked);
}

mm_status_t mm_space_unwire(struct mm_space *space, struct mm_vrange range)
{
    return run(space, range, unwire_locked);
}
