// SPDX-License-Identifier: MIT
/**
 * Whether a space contradicts itself: its tree, its tables, and what each says of the other. Only
 * reads.
 */
#include "internal.h"

struct checking {
    struct mm_space *space;
    /* Of the leaf before: leaves ascend, so that the next is mostly in it too, and never below. */
    const struct mmi_region *region;
    /* Execution is not forbidden by every CPU. Where one leaf is not executable, this one does. */
    bool can_forbid_exec;
    bool wrong_exec;
    uint64_t wrong_exec_at;
    bool good;
};

static void complain(struct checking *c, const char *what, uint64_t at)
{
    c->good = false;
    mmi_complain(&c->space->spaces->platform, "space", what, at);
}

static const struct mmi_region *region_of(struct checking *c, uint64_t at)
{
    if (c->region == NULL || at > mmi_region_last(c->region)) {
        c->region = mmi_regions_find(&c->space->regions, at);
    }
    return c->region;
}

static void check_frame(struct checking *c, const struct mm_mapping *leaf)
{
    const struct mm_frames *frames = c->space->spaces->frames;
    uint32_t refs = mm_frame_refs(frames, mm_pfn_of(leaf->paddr));

    if (refs == 0) {
        complain(c,
                 mm_frame_allocated(frames, mm_pfn_of(leaf->paddr))
                     ? "leaf with a frame that only pins keep"
                     : "leaf with a frame that is not allocated",
                 leaf->page.start.raw);
    } else if (refs > 1 && (leaf->prot & MM_PROT_WRITE) != 0) {
        complain(c, "leaf writable, and its frame shared", leaf->page.start.raw);
    }
}

static bool check_leaf(void *ctx, const struct mm_mapping *leaf)
{
    struct checking *c = ctx;
    uint64_t at = leaf->page.start.raw;
    const struct mmi_region *region = region_of(c, at);

    if (region != NULL && leaf->page.len > MM_PAGE_SIZE &&
        !mm_range_covers(region->start, region->len, at, leaf->page.len)) {
        complain(c, "leaf sticks out of its region", at);
    } else if (region == NULL || (region->attr.flags & MM_SPACE_GUARD) != 0) {
        complain(c, "page outside of all regions, or in a guard", at);
    } else if ((leaf->prot & MM_PROT_WRITE) != 0 && (region->attr.prot & MM_PROT_WRITE) == 0) {
        complain(c, "leaf writable, and its region is not", at);
    } else if (region->attr.prot == MM_PROT_NONE && (leaf->prot & MMI_SPACE_PROT) != 0) {
        complain(c, "leaf readable, and its region is not", at);
    } else if (!mmi_region_is_device(region)) {
        check_frame(c, leaf); /* a device's memory is nobody's frames */
    }
    if ((leaf->prot & MM_PROT_EXEC) == 0) {
        c->can_forbid_exec = true;
    } else if (region != NULL && (region->attr.prot & MM_PROT_EXEC) == 0) {
        c->wrong_exec = true;
        c->wrong_exec_at = at;
    }
    return true;
}

mm_status_t mm_space_check(struct mm_space *space)
{
    struct checking c = {.space = space, .good = true};
    const struct mm_platform *platform;

    if (space == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    platform = &space->spaces->platform;
    mmi_space_lock(space);
    mmi_space_fold(space);
    if (!mmi_regions_check(&space->regions, platform)) {
        c.good = false;
    }
    if (c.good && mm_paging_check(space->table) != MM_OK) {
        c.good = false;
    }
    if (c.good && mm_paging_walk(space->table, space->regions.window, check_leaf, &c) != MM_OK) {
        complain(&c, "page table cannot be walked", space->id);
    }
    if (c.good && !mmi_space_devices_check(space)) {
        c.good = false;
    }
    if (c.wrong_exec && c.can_forbid_exec) {
        complain(&c, "leaf executable, and its region is not", c.wrong_exec_at);
    }
    mmi_space_unlock(space);
    return c.good ? MM_OK : MM_ERR_CORRUPTED;
}
