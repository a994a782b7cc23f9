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
 * Two sorts of pages are not shared so: a device's, which the child maps as the parent does, and
 * pinned ones (clone_pinned.c). Where a space has neither, the page tables are cloned in one call,
 * which is all or nothing itself. Else all that can fail comes first, on the child, which nobody
 * knows yet, and then the tables are cloned piece by piece, between those pages. Either way a
 * failure leaves the parent's leaves as they were.
 */
#include "clone.h"

#include "core/frame/state.h"

/* --- regions ---------------------------------------------------------------------------------- */

/** What a region is in the child: locks of memory are not inherited. */
static struct mmi_region_attr inherited(const struct mmi_region *n)
{
    struct mmi_region_attr attr = n->attr;

    attr.flags &= ~(uint32_t)MM_SPACE_WIRED;
    return attr;
}

/** Regions of the parent, again in the child. There are nodes. */
static void copy_regions(struct mmi_clone *clone)
{
    struct mmi_regions *regions = &clone->child->regions;
    struct mmi_region *last = NULL;

    for (const struct mmi_region *n = mmi_regions_first(&clone->parent->regions); n != NULL;
         n = mmi_region_next(n)) {
        struct mmi_region_attr attr = inherited(n);

        /* Neighbours that only a lock told apart are one. */
        if (last != NULL && last->start + last->len == n->start &&
            mmi_region_attr_continues(&last->attr, last->len, &attr)) {
            mmi_regions_resize(regions, last, last->start, last->len + n->len);
            continue;
        }
        last = mmi_region_pop(&clone->nodes.regions);
        last->start = n->start;
        last->len = n->len;
        last->attr = attr;
        mmi_regions_append(regions, last);
        if (mmi_region_is_device(n)) {
            mmi_space_devices_claim_again(clone->child, last, &clone->nodes.claims);
        }
    }
    clone->child->device_bytes = clone->parent->device_bytes;
}

static struct mmi_space_need nodes_for(const struct mm_space *parent)
{
    struct mmi_space_need need = {.regions = parent->regions.nr};

    if (parent->device_bytes != 0) {
        for (const struct mmi_region *n = mmi_regions_first(&parent->regions); n != NULL;
             n = mmi_region_next(n)) {
            need.claims += mmi_region_is_device(n) ? 1 : 0;
        }
    }
    return need;
}

bool mmi_clone_between_devices(const struct mm_space *space, uint64_t *at, uint64_t *start,
                               uint64_t *len)
{
    uint64_t end = space->regions.window.start.raw + space->regions.window.len;
    const struct mmi_region *n = NULL;

    if (space->device_bytes != 0 && *at != end) {
        n = mmi_regions_from(&space->regions, *at);
    }
    for (; n != NULL; n = mmi_region_next(n)) {
        if (mmi_region_is_device(n) && n->start != *at) {
            break;
        }
        *at = mmi_region_is_device(n) ? n->start + n->len : *at;
    }
    *start = *at;
    *len = (n != NULL ? n->start : end) - *at;
    *at = n != NULL ? n->start + n->len : end;
    return *len != 0;
}

/* --- pages ------------------------------------------------------------------------------------ */

static void share(void *ctx, mm_pfn_t first, uint64_t nr)
{
    struct mm_space *parent = ctx;
    struct mm_frames *frames = parent->spaces->frames;

    mmi_frame_share(frames, first, nr);
    if ((frames->flags & MM_FRAMES_OWNERS) != 0) {
        mmi_space_must(parent, mm_frame_set_owner(frames, first, nr, MM_OWNER_ANONYMOUS, 0),
                       "a frame of the space is not allocated", first.raw);
    }
}

static mm_status_t clone_range(struct mmi_clone *clone, uint64_t start, uint64_t end,
                               struct mm_gather *gather)
{
    return start == end ? MM_OK
                        : mm_paging_clone(clone->parent->table, clone->child->table,
                                          mm_vrange(mm_vaddr(start), end - start), share,
                                          clone->parent, gather);
}

/** A range without devices: what is pinned cannot be written for the time being, the rest is
 * shared. The first copy that is not in it yet is left in `*copy`. */
static void clone_around_pinned(struct mmi_clone *clone, uint64_t start, uint64_t end,
                                uint64_t *copy, struct mm_gather *gather)
{
    while (*copy != 0 && mmi_clone_copy_at(clone, *copy)->at < end) {
        const struct mmi_clone_copy *c = mmi_clone_copy_at(clone, *copy);

        mmi_space_must(clone->parent, clone_range(clone, start, c->at, gather),
                       "pages between pinned ones cannot be cloned", start);
        if (c->leaf_len != 0 && c->writable != 0) {
            mmi_space_must(clone->parent,
                           mm_paging_protect(clone->parent->table,
                                             mm_vrange(mm_vaddr(c->at), c->leaf_len),
                                             c->prot & ~(mm_prot_t)MM_PROT_WRITE, 0, gather),
                           "a pinned page cannot be made read-only", c->at);
        }
        start = c->at + c->len;
        *copy = c->next;
    }
    mmi_space_must(clone->parent, clone_range(clone, start, end, gather), "pages cannot be cloned",
                   start);
}

static void map_devices(struct mmi_clone *clone)
{
    struct mm_space *child = clone->child;
    const struct mmi_region *n = mmi_regions_first(&child->regions);

    for (; child->device_bytes != 0 && n != NULL; n = mmi_region_next(n)) {
        if (mmi_region_is_device(n)) {
            mmi_space_must(child,
                           mm_paging_map(child->table, mm_vrange(mm_vaddr(n->start), n->len),
                                         mm_paddr(n->attr.offset),
                                         mmi_space_leaf_prot(child, n->attr.prot),
                                         mmi_region_type(n), 0),
                           "a device cannot be mapped again", n->start);
        }
    }
}

/** Nothing of this can fail: the child takes its tables from those put aside. */
static void clone_in_pieces(struct mmi_clone *clone, struct mm_gather *gather)
{
    struct mm_pagetable *table = clone->child->table;
    struct mm_frame_source source = table->source;
    uint64_t at = clone->parent->regions.window.start.raw;
    uint64_t copy = clone->first_copy;
    uint64_t start;
    uint64_t len;

    table->source = clone->tables.source;
    while (mmi_clone_between_devices(clone->parent, &at, &start, &len)) {
        clone_around_pinned(clone, start, start + len, &copy, gather);
    }
    map_devices(clone);
    mm_gather_end(gather);
    mmi_clone_make_copies(clone);
    table->source = source;
}

/* --- the call --------------------------------------------------------------------------------- */

static bool in_pieces(const struct mmi_clone *clone)
{
    return clone->first_copy != 0 || clone->parent->device_bytes != 0;
}

/** All that can fail, but for the tables of a space that is cloned in one piece. */
static mm_status_t prepare(struct mmi_clone *clone)
{
    struct mm_space *parent = clone->parent;
    mm_status_t status = MM_OK;

    if (!mmi_space_take_nodes_to_append(clone->child, &clone->nodes, nodes_for(parent))) {
        return MM_ERR_NO_MEMORY;
    }
    if (mmi_frame_any_pinned(parent->spaces->frames)) {
        status = mmi_clone_find_pinned(clone);
    }
    if (status == MM_OK && in_pieces(clone)) {
        status = mmi_space_spare_fill(&clone->tables, MM_OWNER_PAGE_TABLE,
                                      parent->table->nr_tables + clone->nr_tables_more);
    }
    return status == MM_OK ? mmi_space_charge_copy(parent, clone->child) : status;
}

static void inherit(const struct mm_space *parent, struct mm_space *child)
{
    child->layout = parent->layout;
    child->brk_start = parent->brk_start;
    child->brk = parent->brk;
    child->nr_given_up = mmi_load(&parent->nr_given_up);
}

static mm_status_t clone_locked(struct mm_space *parent, struct mm_space *child)
{
    struct mmi_clone clone = {.parent = parent, .child = child};
    struct mm_vrange all = parent->regions.window;
    mm_status_t status;

    mmi_space_spare_init(parent, &clone.tables);
    inherit(parent, child);
    status = prepare(&clone);
    if (status == MM_OK) {
        struct mm_gather *gather = mmi_space_gather(parent);

        copy_regions(&clone);
        if (in_pieces(&clone)) {
            clone_in_pieces(&clone, gather);
        } else {
            status = clone_range(&clone, all.start.raw, all.start.raw + all.len, gather);
            mm_gather_end(gather);
        }
    }
    mmi_clone_drop_copies(&clone);
    mmi_space_spare_drop(&clone.tables);
    mmi_space_give_nodes(child, &clone.nodes);
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
