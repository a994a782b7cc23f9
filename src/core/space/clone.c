// SPDX-License-Identifier: MIT
/**
 * Copy-on-write copies.
 *
 *     before            after the clone             after a write by the child
 *     parent            parent      child           parent      child
 *       | rw              | r-        | r-            | r-        | rw
 *       v                 +--> F <----+               v           v
 *       F (1 reference)      (2 references)           F (1)       copy of F (1)
 *
 * Every frame of the parent gets a reference and is read-only in both tables from then on. A frame
 * that was shared before is shared by three; nothing is special about depth. Who writes first gets
 * a copy; who writes when only one reference is left gets the frame (fault.c).
 *
 * All that can fail is done on the child, which nobody knows yet. The page tables are cloned in one
 * call, which is all or nothing itself, so a failure leaves the parent's leaves as they were.
 */
#include "internal.h"

#include "core/frame/state.h"

/** Regions of the parent, again in the child. */
static bool copy_regions(const struct mm_space *parent, struct mm_space *child)
{
    const struct mmi_region *n;
    struct mmi_region *copy;

    for (n = mmi_regions_first(&parent->regions); n != NULL; n = mmi_region_next(n)) {
        copy = mm_cache_alloc(&child->spaces->region_cache);
        if (copy == NULL) {
            return false;
        }
        copy->start = n->start;
        copy->len = n->len;
        copy->attr = n->attr;
        mmi_regions_link(&child->regions, copy);
    }
    return true;
}

static void share(void *ctx, mm_pfn_t first, uint64_t nr)
{
    mmi_frame_share(ctx, first, nr);
}

static mm_status_t clone_locked(struct mm_space *parent, struct mm_space *child)
{
    struct mm_gather *gather;
    mm_status_t status;

    child->layout = parent->layout;
    child->limits = parent->limits;
    child->brk_start = parent->brk_start;
    child->brk = parent->brk;
    child->nr_given_up = parent->nr_given_up;
    mmi_space_join(child, parent->group);
    mmi_space_fold(parent);
    status = mmi_space_charge(child, parent->regions.bytes, parent->nr_committed);
    if (status != MM_OK) {
        return status;
    }
    if (!mmi_space_charge_pages(child, mmi_space_nr_resident(parent))) {
        return MM_ERR_LIMIT;
    }
    if (!copy_regions(parent, child)) {
        return MM_ERR_NO_MEMORY;
    }
    gather = mmi_space_gather(parent);
    status = mm_paging_clone(parent->table, child->table, parent->regions.window, share,
                             parent->spaces->frames, gather);
    mm_gather_end(gather);
    return status;
}

mm_status_t mm_space_clone(struct mm_space *space, struct mm_space **out)
{
    struct mm_space *child;
    mm_status_t status = MM_OK;

    if (space == NULL || out == NULL || space->is_kernel != 0) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    child = mmi_space_new(space->spaces, false, &status);
    if (child == NULL) {
        return status;
    }
    mmi_space_lock(space);
    status = clone_locked(space, child);
    mmi_space_unlock(space);
    if (status != MM_OK) {
        mmi_space_free(child);
        return status;
    }
    mmi_space_announce(child);
    *out = child;
    return MM_OK;
}
