// SPDX-License-Identifier: MIT
/**
 * Map, unmap, protect.
 *
 * Each call prepares, then commits. What can fail comes first: the place is found, the nodes that
 * splits need are taken from the cache, and pages that must be there now are put there (and taken
 * out again if one is missing). Then regions and leaves change together, and nothing of that can
 * fail: a user space has only leaves of 4 KiB, so no huge leaf is ever split.
 *
 * Leaves never say more than their region, and less for shared frames: a frame with more than one
 * reference is read-only in every table, and only a write fault (fault.c) makes it writable.
 */
#include "internal.h"

/* --- checking arguments ----------------------------------------------------------------------- */

static bool rights_only(mm_prot_t prot)
{
    return (prot & ~(mm_prot_t)MMI_SPACE_PROT) == 0;
}

/** A range of whole pages inside the space. */
static mm_status_t whole_pages(const struct mm_space *space, struct mm_vrange range, uint64_t *len)
{
    if (!mm_is_aligned(range.start.raw, MM_PAGE_SIZE)) {
        return MM_ERR_NOT_ALIGNED;
    }
    if (range.len == 0 || !mm_align_up(range.len, MM_PAGE_SIZE, len) ||
        !mm_range_fits(range.start.raw, *len)) {
        return MM_ERR_INVALID_SIZE;
    }
    return mm_vrange_covers(space->regions.window, mm_vrange(range.start, *len))
               ? MM_OK
               : MM_ERR_INVALID_ADDRESS;
}

static mm_status_t check_request(const struct mm_space *space,
                                 const struct mm_space_request *request, uint64_t *len)
{
    uint64_t align = request->align == 0 ? MM_PAGE_SIZE : request->align;
    bool fixed = (request->flags & MM_SPACE_FIXED) != 0;

    if ((request->flags & ~MM_SPACE_FLAGS_ALL) != 0 || !rights_only(request->prot) ||
        ((request->flags & MM_SPACE_GUARD) != 0 && request->prot != MM_PROT_NONE)) {
        return MM_ERR_INVALID_FLAGS;
    }
    if (!mm_is_pow2(align) || align < MM_PAGE_SIZE ||
        !mm_is_aligned(request->at.raw, fixed ? align : MM_PAGE_SIZE)) {
        return MM_ERR_NOT_ALIGNED;
    }
    if (request->len == 0 || !mm_align_up(request->len, MM_PAGE_SIZE, len)) {
        return MM_ERR_INVALID_SIZE;
    }
    if (fixed && !mm_vrange_covers(space->regions.window, mm_vrange(request->at, *len))) {
        return MM_ERR_INVALID_ADDRESS;
    }
    return MM_OK;
}

/* --- map -------------------------------------------------------------------------------------- */

static mm_status_t choose_place(const struct mm_space *space,
                                const struct mm_space_request *request, uint64_t len, uint64_t *at)
{
    struct mm_vrange asked = mm_vrange(request->at, len);
    uint64_t align = request->align == 0 ? MM_PAGE_SIZE : request->align;

    if (mm_vrange_covers(space->regions.window, asked) && mm_is_aligned(asked.start.raw, align) &&
        mmi_regions_free(&space->regions, asked.start.raw, len)) {
        *at = asked.start.raw;
        return MM_OK;
    }
    if ((request->flags & MM_SPACE_FIXED) != 0) {
        return MM_ERR_ALREADY_MAPPED;
    }
    return mmi_regions_room(&space->regions, len, align, at) ? MM_OK : MM_ERR_REGION_NOT_FOUND;
}

/** Put a page everywhere in a range that has none; all or none. */
static mm_status_t populate(struct mm_space *space, uint64_t start, uint64_t len, mm_prot_t prot)
{
    mm_status_t status = MM_OK;
    uint64_t done;

    if (len >> MM_PAGE_SHIFT > space->spaces->frames->nr_frames) {
        return MM_ERR_NO_MEMORY; /* or all memory would be taken, only to be given back */
    }
    for (done = 0; done < len && status == MM_OK; done += MM_PAGE_SIZE) {
        status = mmi_space_put_zeroed(space, start + done, prot);
    }
    if (status != MM_OK && done > MM_PAGE_SIZE) {
        mmi_space_drop_pages(space, start, done - MM_PAGE_SIZE);
    }
    return status;
}

static bool wants_pages(const struct mm_space *space, const struct mm_space_request *request)
{
    if ((request->flags & MM_SPACE_GUARD) != 0) {
        return false;
    }
    /* The kernel's pages are there even without any right, so that protect never needs memory. */
    return space->is_kernel != 0 ||
           ((request->flags & MM_SPACE_POPULATE) != 0 && request->prot != MM_PROT_NONE);
}

static mm_status_t map_locked(struct mm_space *space, const struct mm_space_request *request,
                              uint64_t len, uint64_t *out)
{
    const struct mmi_region_attr attr = {
        .tag = request->tag, .prot = request->prot, .flags = request->flags & MM_SPACE_GUARD};
    struct mmi_region_list nodes = {NULL, 0};
    uint64_t at = 0;
    mm_status_t status = choose_place(space, request, len, &at);

    if (status != MM_OK) {
        return status;
    }
    if (!mmi_space_take_nodes(space, &nodes,
                              mmi_regions_need_insert(&space->regions, at, len, &attr))) {
        return MM_ERR_NO_MEMORY;
    }
    if (wants_pages(space, request)) {
        status = populate(space, at, len, request->prot);
    }
    if (status == MM_OK) {
        mmi_regions_insert(&space->regions, at, len, &attr, &nodes);
        *out = at;
    }
    mmi_space_give_nodes(space, &nodes);
    return status;
}

mm_status_t mm_space_map(struct mm_space *space, const struct mm_space_request *request,
                         mm_vaddr_t *out)
{
    mm_status_t status;
    uint64_t len = 0;

    if (space == NULL || request == NULL || out == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    status = check_request(space, request, &len);
    if (status != MM_OK) {
        return status;
    }
    mmi_space_lock(space);
    status = map_locked(space, request, len, &out->raw);
    mmi_space_unlock(space);
    return status;
}

/* --- unmap ------------------------------------------------------------------------------------ */

static mm_status_t unmap_locked(struct mm_space *space, uint64_t start, uint64_t len)
{
    struct mmi_region_list nodes = {NULL, 0};

    if (mmi_regions_free(&space->regions, start, len)) {
        return MM_OK;
    }
    if (!mmi_space_take_nodes(space, &nodes,
                              mmi_regions_need_remove(&space->regions, start, len))) {
        return MM_ERR_NO_MEMORY;
    }
    mmi_regions_remove(&space->regions, start, len, &nodes);
    mmi_space_drop_pages(space, start, len);
    mmi_space_give_nodes(space, &nodes);
    return MM_OK;
}

mm_status_t mm_space_unmap(struct mm_space *space, struct mm_vrange range)
{
    mm_status_t status;
    uint64_t len = 0;

    if (space == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    status = whole_pages(space, range, &len);
    if (status != MM_OK) {
        return status;
    }
    mmi_space_lock(space);
    status = unmap_locked(space, range.start.raw, len);
    mmi_space_unlock(space);
    return status;
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
        if ((n->attr.flags & MM_SPACE_GUARD) != 0) {
            return MM_ERR_PERMISSION_DENIED;
        }
        if (mmi_region_last(n) >= last) {
            return MM_OK;
        }
        start = mmi_region_last(n) + 1;
        n = mmi_region_next(n);
    }
}

/** Leaves in a row whose frames are all shared, or all not. */
struct run {
    const struct mm_frames *frames;
    bool any;
    bool shared;
    uint64_t end; /* where the first leaf of the other sort begins */
};

static bool extend_run(void *ctx, const struct mm_mapping *m)
{
    struct run *run = ctx;
    bool shared = mm_frame_refs(run->frames, mm_pfn_of(m->paddr)) > 1;

    if (run->any && shared != run->shared) {
        run->end = m->page.start.raw;
        return false;
    }
    run->any = true;
    run->shared = shared;
    return true;
}

static void set_leaves(struct mm_space *space, uint64_t start, uint64_t len, mm_prot_t prot,
                       struct mm_gather *gather)
{
    mmi_space_must(space,
                   mm_paging_protect(space->table, mm_vrange(mm_vaddr(start), len),
                                     mmi_space_leaf_prot(space, prot), MM_PAGING_SKIP_HOLES,
                                     gather),
                   "pages of a region cannot be protected", start);
}

/** Give writable leaves to frames that are nobody else's, read-only ones to the rest. */
static void set_leaves_unshared(struct mm_space *space, uint64_t start, uint64_t len,
                                mm_prot_t prot, struct mm_gather *gather)
{
    uint64_t end = start + len;
    struct run run = {.frames = space->spaces->frames, .end = start};

    while (run.end != end) {
        uint64_t from = run.end;

        run.any = false;
        run.end = end;
        mmi_space_must(
            space,
            mm_paging_walk(space->table, mm_vrange(mm_vaddr(from), end - from), extend_run, &run),
            "pages of a region cannot be walked", from);
        if (run.any) {
            mm_prot_t allowed = run.shared ? prot & ~(mm_prot_t)MM_PROT_WRITE : prot;

            /* What may be written may be read, also while it may not be written yet. */
            set_leaves(space, from, run.end - from, allowed | MM_PROT_READ, gather);
        }
    }
}

static mm_status_t protect_locked(struct mm_space *space, uint64_t start, uint64_t len,
                                  mm_prot_t prot)
{
    const struct mmi_region_change change = {.sets_prot = true, .prot = prot};
    struct mmi_region_list nodes = {NULL, 0};
    struct mm_gather *gather;
    mm_status_t status = all_protectable(space, start, len);

    if (status != MM_OK) {
        return status;
    }
    if (!mmi_space_take_nodes(space, &nodes,
                              mmi_regions_need_change(&space->regions, start, len, &change))) {
        return MM_ERR_NO_MEMORY;
    }
    gather = mmi_space_gather(space);
    if ((prot & MM_PROT_WRITE) != 0) {
        set_leaves_unshared(space, start, len, prot, gather);
    } else {
        set_leaves(space, start, len, prot, gather);
    }
    mmi_regions_change(&space->regions, start, len, &change, &nodes);
    mm_gather_end(gather);
    mmi_space_give_nodes(space, &nodes);
    return MM_OK;
}

mm_status_t mm_space_protect(struct mm_space *space, struct mm_vrange range, mm_prot_t prot)
{
    mm_status_t status;
    uint64_t len = 0;

    if (space == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (!rights_only(prot)) {
        return MM_ERR_INVALID_FLAGS;
    }
    status = whole_pages(space, range, &len);
    if (status != MM_OK) {
        return status;
    }
    mmi_space_lock(space);
    status = protect_locked(space, range.start.raw, len, prot);
    mmi_space_unlock(space);
    return status;
}
