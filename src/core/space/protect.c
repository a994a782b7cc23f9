// SPDX-License-Identifier: MIT
/**
 * Protection of what is mapped, and copy-on-write on demand.
 *
 * A leaf gets the right to write only if its frame is nobody else's; so ranges are gone over in runs
 * of leaves that are alike in this. A region that becomes writable is promised from then on, for as
 * long as it is mapped.
 */
#include "internal.h"

#include "core/frame/state.h"

/* --- runs of leaves --------------------------------------------------------------------------- */

/** Leaves in a row that answer a question alike. */
struct run {
    const struct mm_spaces *spaces;
    bool (*asks)(const struct mm_spaces *spaces, mm_pfn_t frame);
    bool any;
    bool answer;  /* of one frame of a leaf: of the leaf */
    uint64_t end; /* where the first leaf that answers otherwise begins */
};

static bool is_shared(const struct mm_spaces *spaces, mm_pfn_t frame)
{
    return mm_frame_refs(spaces->frames, frame) > 1;
}

static bool extend_run(void *ctx, const struct mm_mapping *leaf)
{
    struct run *run = ctx;
    mm_pfn_t first = mm_pfn_of(leaf->paddr);
    bool answer = false;

    for (uint64_t i = 0; i < leaf->page.len >> MM_PAGE_SHIFT && !answer; i++) {
        answer = run->asks(run->spaces, mm_pfn(first.raw + i));
    }
    if (run->any && answer != run->answer) {
        run->end = leaf->page.start.raw;
        return false;
    }
    run->any = true;
    run->answer = answer;
    return true;
}

static void protect_leaves(struct mm_space *space, uint64_t start, uint64_t len, mm_prot_t prot,
                           struct mm_gather *gather)
{
    mmi_space_must(space,
                   mm_paging_protect(space->table, mm_vrange(mm_vaddr(start), len),
                                     mmi_space_leaf_prot(space, prot),
                                     MM_PAGING_SKIP_HOLES | MM_PAGING_SPLIT, gather),
                   "pages of a region cannot be protected", start);
}

/** Runs that answer yes get one protection, the others another; MM_PROT_GLOBAL: they are left. */
static void protect_by(struct mm_space *space, uint64_t start, uint64_t len,
                       bool (*asks)(const struct mm_spaces *, mm_pfn_t), mm_prot_t yes,
                       mm_prot_t no, struct mm_gather *gather)
{
    uint64_t end = start + len;
    struct run run = {.spaces = space->spaces, .asks = asks, .end = start};

    while (run.end != end) {
        uint64_t from = run.end;
        mm_prot_t prot;

        run.any = false;
        run.end = end;
        mmi_space_must(
            space,
            mm_paging_walk(space->table, mm_vrange(mm_vaddr(from), end - from), extend_run, &run),
            "pages of a region cannot be walked", from);
        prot = run.answer ? yes : no;
        if (run.any && prot != MM_PROT_GLOBAL) {
            protect_leaves(space, from, run.end - from, prot, gather);
        }
    }
}

/** Give the leaves of a part of one region this protection: frames with other references, and the
 * zero page, without the right to write. */
static void set_leaves(struct mm_space *space, uint64_t start, uint64_t len, mm_prot_t prot,
                       struct mm_gather *gather)
{
    if ((prot & MM_PROT_WRITE) == 0) {
        protect_leaves(space, start, len, prot, gather);
        return;
    }
    /* What may be written may be read, also while it may not be written yet. */
    protect_by(space, start, len, is_shared, (prot & ~(mm_prot_t)MM_PROT_WRITE) | MM_PROT_READ,
               prot, gather);
}

/* --- protect ---------------------------------------------------------------------------------- */

/** Whether regions cover the range without a hole, and none of them is a guard. */
static mm_status_t all_protectable(const struct mm_space *space, uint64_t start, uint64_t len)
{
    uint64_t last = start + (len - 1);
    const struct mmi_region *n = mmi_regions_find(&space->regions, start);

    for (;;) {
        if (n == NULL || n->start > start) {
            return MM_ERR_NOT_MAPPED;
        }
        if (mmi_region_is_guard(n)) {
            return MM_ERR_PERMISSION_DENIED;
        }
        if (mmi_region_last(n) >= last) {
            return MM_OK;
        }
        start = mmi_region_last(n) + 1;
        n = mmi_region_next(n);
    }
}

/** Pages of the range that were not promised and must be. */
static uint64_t newly_committed(const struct mm_space *space, uint64_t start, uint64_t len,
                                mm_prot_t prot)
{
    uint64_t last = start + (len - 1);
    uint64_t nr = 0;

    if ((prot & MM_PROT_WRITE) == 0) {
        return 0;
    }
    for (const struct mmi_region *n = mmi_regions_find(&space->regions, start);
         n != NULL && n->start <= last; n = mmi_region_next(n)) {
        uint64_t first = n->start > start ? n->start : start;

        if (!mmi_space_commits(space, n->attr.prot, n->attr.flags) &&
            mmi_space_commits(space, prot, n->attr.flags)) {
            nr += (mmi_region_part_end(n, last) - first + 1) >> MM_PAGE_SHIFT;
        }
    }
    return nr;
}

static struct mmi_region_change change_for(const struct mm_space *space, const struct mmi_region *n,
                                           mm_prot_t prot)
{
    return (struct mmi_region_change){
        .sets_prot = true, .prot = prot, .set = mmi_space_commit_flag(space, prot, n->attr.flags)};
}

/** Nodes for the ends of the range; between regions nothing is split. */
static uint64_t nodes_for(const struct mm_space *space, uint64_t start, uint64_t last,
                          mm_prot_t prot)
{
    const struct mmi_region *low = mmi_regions_find(&space->regions, start);
    const struct mmi_region *high = mmi_regions_find(&space->regions, last);
    struct mmi_region_change change = change_for(space, low, prot);
    uint64_t need = mmi_regions_need_change(&space->regions, start,
                                            mmi_region_part_end(low, last) - start + 1, &change);

    if (high != low) {
        change = change_for(space, high, prot);
        need +=
            mmi_regions_need_change(&space->regions, high->start, last - high->start + 1, &change);
    }
    return need;
}

/** One region after the other: leaves, then the region, which may become one with its neighbours.
 * The next is found anew by its address. */
static void protect_regions(struct mm_space *space, uint64_t start, uint64_t last, mm_prot_t prot,
                            struct mm_gather *gather, struct mmi_region_list *nodes)
{
    uint64_t at = start;

    for (;;) {
        const struct mmi_region *n = mmi_regions_find(&space->regions, at);
        const struct mmi_region_change change = change_for(space, n, prot);
        uint64_t end = mmi_region_part_end(n, last);

        if (mmi_region_is_device(n)) {
            protect_leaves(space, at, end - at + 1, prot, gather);
        } else {
            set_leaves(space, at, end - at + 1, prot, gather);
        }
        mmi_regions_change(&space->regions, at, end - at + 1, &change, nodes);
        if (end == last) {
            return;
        }
        at = end + 1;
    }
}

/** Wired pages that got a right are put there, as long as there is memory (as on Linux). */
static void fill_wired(struct mm_space *space, uint64_t start, uint64_t last)
{
    for (const struct mmi_region *n = mmi_regions_from(&space->regions, start);
         n != NULL && n->start <= last; n = mmi_region_next(n)) {
        uint32_t write = (n->attr.prot & MM_PROT_WRITE) != 0 ? MM_FAULT_WRITE : 0;

        if ((n->attr.flags & MM_SPACE_WIRED) != 0 && n->attr.prot != MM_PROT_NONE) {
            (void)!mmi_space_fault_pages(space, n->start > start ? n->start : start,
                                         mmi_region_part_end(n, last), MM_FAULT_USER | write);
        }
    }
}

static mm_status_t protect_locked(struct mm_space *space, uint64_t start, uint64_t len,
                                  mm_prot_t prot)
{
    struct mmi_region_list gone = {NULL, 0};
    struct mmi_space_need need;
    uint64_t last = start + (len - 1);
    struct mmi_space_edit edit;
    struct mm_gather *gather;
    uint64_t nr_committed;
    mm_status_t status = all_protectable(space, start, len);

    if (status != MM_OK) {
        return status;
    }
    nr_committed = newly_committed(space, start, len, prot);
    status = mmi_space_charge(space, 0, nr_committed);
    if (status != MM_OK) {
        return status;
    }
    need = (struct mmi_space_need){.regions = nodes_for(space, start, last, prot),
                                   .claims = mmi_space_devices_need(space, start, len)};
    status = mmi_space_edit_begin(space, &edit, start, len, need, 0);
    if (status != MM_OK) {
        mmi_space_uncharge(space, 0, nr_committed);
        return status;
    }
    gather = mmi_space_gather(space);
    protect_regions(space, start, last, prot, gather, &edit.nodes.regions);
    mm_gather_end(gather);
    mmi_space_devices_settle(space, start, len, &gone, &edit.nodes);
    mmi_space_edit_end(space, &edit);
    fill_wired(space, start, last);
    return MM_OK;
}

mm_status_t mm_space_protect(struct mm_space *space, struct mm_vrange range, mm_prot_t prot)
{
    mm_status_t status;
    uint64_t len = 0;

    if (space == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (!mmi_space_rights_only(prot)) {
        return MM_ERR_INVALID_FLAGS;
    }
    status = mmi_space_whole_pages(space, range, &len);
    if (status != MM_OK) {
        return status;
    }
    mmi_space_lock(space);
    status = protect_locked(space, range.start.raw, len, prot);
    mmi_space_unlock(space);
    return status;
}

/* --- copy-on-write on demand ------------------------------------------------------------------ */

static mm_status_t make_cow_locked(struct mm_space *space, uint64_t start, uint64_t len)
{
    uint64_t last = start + (len - 1);
    struct mmi_space_edit edit;
    struct mm_gather *gather;
    mm_status_t status =
        mmi_space_edit_begin(space, &edit, start, len, (struct mmi_space_need){0}, 0);

    if (status != MM_OK) {
        return status;
    }
    gather = mmi_space_gather(space);
    for (const struct mmi_region *n = mmi_regions_from(&space->regions, start);
         n != NULL && n->start <= last; n = mmi_region_next(n)) {
        uint64_t first = n->start > start ? n->start : start;
        mm_prot_t prot = (n->attr.prot & ~(mm_prot_t)MM_PROT_WRITE) | MM_PROT_READ;

        if ((n->attr.prot & MM_PROT_WRITE) != 0 && !mmi_region_is_device(n)) {
            protect_by(space, first, mmi_region_part_end(n, last) - first + 1, mmi_space_is_pinned,
                       MM_PROT_GLOBAL, prot, gather);
        }
    }
    mm_gather_end(gather);
    mmi_space_edit_end(space, &edit);
    return MM_OK;
}

mm_status_t mm_space_make_cow(struct mm_space *space, struct mm_vrange range)
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
    status = make_cow_locked(space, range.start.raw, len);
    mmi_space_unlock(space);
    return status;
}
