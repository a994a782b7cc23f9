// SPDX-License-Identifier: MIT
/**
 * Pages that a device has pinned, in a clone.
 *
 * A device knows a frame by its physical address. If the parent shared it, its next write would
 * move the parent to a copy, and what the device reads or writes would not be the parent's any
 * more. So the child gets the copy, now, and the parent keeps the frame with all its rights.
 *
 *     look for pins, have frames  ──>  take the right to write  ──>  flush  ──>  copy, give it back
 *     (all that can fail)              (with the rest of the clone)
 *
 * The copy is made while no CPU can write to the page, so that it is of one moment. A leaf of 2 MiB
 * with a pinned page in it is copied whole: shared in part, it could be writable nowhere.
 */
#include "clone.h"

/* --- what must be copied ---------------------------------------------------------------------- */

static bool has_pins(const struct mm_spaces *spaces, const struct mm_mapping *leaf)
{
    uint64_t first = mm_pfn_of(leaf->paddr).raw;

    for (uint64_t i = 0; i < leaf->page.len >> MM_PAGE_SHIFT; i++) {
        if (mmi_space_is_pinned(spaces, mm_pfn(first + i))) {
            return true;
        }
    }
    return false;
}

static void append(struct mmi_clone *clone, mm_pfn_t frame, const struct mmi_clone_copy *copy)
{
    *mmi_clone_copy_at(clone, frame.raw) = *copy;
    if (clone->first_copy == 0) {
        clone->first_copy = frame.raw;
    } else {
        mmi_clone_copy_at(clone, clone->last_copy)->next = frame.raw;
    }
    clone->last_copy = frame.raw;
}

/** 2 MiB in one piece. */
static bool copy_large(struct mmi_clone *clone, const struct mmi_clone_copy *copy)
{
    const struct mm_frame_request request = {
        .order = MM_ORDER_2M, .owner = MM_OWNER_ANONYMOUS, .lifetime = MM_LIFETIME_MOVABLE};
    mm_pfn_t frame = {0};

    if (copy->len != MM_SIZE_2M ||
        mm_frame_alloc(clone->parent->spaces->frames, &request, &frame) != MM_OK) {
        return false;
    }
    append(clone, frame, copy);
    return true;
}

/** Page by page. */
static mm_status_t copy_small(struct mmi_clone *clone, const struct mmi_clone_copy *leaf)
{
    struct mmi_clone_copy copy = *leaf;

    copy.len = MM_PAGE_SIZE;
    for (uint64_t done = 0; done < leaf->len; done += MM_PAGE_SIZE) {
        mm_pfn_t frame = {0};
        mm_status_t status = mmi_space_alloc_page(clone->child, copy.at, false, &frame);

        if (status != MM_OK) {
            return status;
        }
        append(clone, frame, &copy);
        copy.at += MM_PAGE_SIZE;
        copy.old++;
        copy.leaf_len = 0;
    }
    clone->nr_tables_more += leaf->len > MM_PAGE_SIZE ? 1 : 0;
    return MM_OK;
}

static bool find_one(void *ctx, const struct mm_mapping *leaf)
{
    struct mmi_clone *clone = ctx;
    const struct mmi_region *region;
    struct mmi_clone_copy copy;

    if (!has_pins(clone->parent->spaces, leaf)) {
        return true;
    }
    region = mmi_regions_find(&clone->parent->regions, leaf->page.start.raw);
    if (region == NULL) {
        return true; /* it is the kernel's own business */
    }
    copy = (struct mmi_clone_copy){.at = leaf->page.start.raw,
                                   .len = leaf->page.len,
                                   .old = mm_pfn_of(leaf->paddr).raw,
                                   .leaf_len = leaf->page.len,
                                   .prot = mmi_space_leaf_prot(clone->parent, region->attr.prot),
                                   .writable = (leaf->prot & MM_PROT_WRITE) != 0 ? 1 : 0};
    if (!copy_large(clone, &copy)) {
        clone->status = copy_small(clone, &copy);
    }
    return clone->status == MM_OK;
}

mm_status_t mmi_clone_find_pinned(struct mmi_clone *clone)
{
    struct mm_space *parent = clone->parent;
    uint64_t at = parent->regions.window.start.raw;
    uint64_t start;
    uint64_t len;

    clone->status = MM_OK;
    while (clone->status == MM_OK && mmi_clone_between_devices(parent, &at, &start, &len)) {
        mmi_space_must(
            parent, mm_paging_walk(parent->table, mm_vrange(mm_vaddr(start), len), find_one, clone),
            "pages cannot be walked for pins", start);
    }
    if (clone->status != MM_OK) {
        mmi_clone_drop_copies(clone);
    }
    return clone->status;
}

/* --- copies ----------------------------------------------------------------------------------- */

/** The first copy, as it is described, and its frame, which is in no list any more. */
static mm_pfn_t take_first(struct mmi_clone *clone, struct mmi_clone_copy *out)
{
    mm_pfn_t frame = mm_pfn(clone->first_copy);

    *out = *mmi_clone_copy_at(clone, frame.raw);
    clone->first_copy = out->next;
    return frame;
}

void mmi_clone_drop_copies(struct mmi_clone *clone)
{
    while (clone->first_copy != 0) {
        struct mmi_clone_copy copy;
        mm_pfn_t frame = take_first(clone, &copy);

        mm_frame_free(clone->parent->spaces->frames, frame,
                      copy.len == MM_SIZE_2M ? MM_ORDER_2M : 0);
    }
}

static void make_copy(struct mmi_clone *clone, mm_pfn_t frame, const struct mmi_clone_copy *copy)
{
    const struct mm_physmap *physmap = &clone->parent->spaces->physmap;

    memcpy(mm_physmap_ptr(physmap, mm_pfn_addr(frame)),
           mm_physmap_ptr(physmap, mm_pfn_addr(mm_pfn(copy->old))), copy->len);
    mmi_space_must(clone->child,
                   mm_paging_map(clone->child->table, mm_vrange(mm_vaddr(copy->at), copy->len),
                                 mm_pfn_addr(frame), copy->prot, MM_MEMTYPE_WB, MM_PAGING_MAX_2M),
                   "a copy of a pinned page cannot be mapped", copy->at);
}

/** The parent may write to a leaf again, if it could before. */
static void give_back(struct mm_space *parent, const struct mmi_clone_copy *leaf,
                      struct mm_gather *gather)
{
    if (leaf->writable != 0) {
        mmi_space_must(parent,
                       mm_paging_protect(parent->table,
                                         mm_vrange(mm_vaddr(leaf->at), leaf->leaf_len), leaf->prot,
                                         0, gather),
                       "a pinned page cannot be made writable again", leaf->at);
    }
}

void mmi_clone_make_copies(struct mmi_clone *clone)
{
    struct mmi_clone_copy leaf = {.writable = 0}; /* all parts of which are not copied yet */
    struct mm_gather *gather;

    if (clone->first_copy == 0) {
        return;
    }
    gather = mmi_space_gather(clone->parent);
    while (clone->first_copy != 0) {
        struct mmi_clone_copy copy;
        mm_pfn_t frame = take_first(clone, &copy);

        if (copy.leaf_len != 0) {
            give_back(clone->parent, &leaf, gather);
            leaf = copy;
        }
        make_copy(clone, frame, &copy);
    }
    give_back(clone->parent, &leaf, gather);
    mm_gather_end(gather);
}
