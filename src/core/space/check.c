// SPDX-License-Identifier: MIT
/**
 * Whether a space contradicts itself: its tree, its tables, and what each says of the other; and
 * whether the manager does. Mends nothing.
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

/* --- pages ------------------------------------------------------------------------------------ */

static const struct mmi_region *region_of(struct checking *c, uint64_t at)
{
    if (c->region == NULL || at > mmi_region_last(c->region)) {
        c->region = mmi_regions_find(&c->space->regions, at);
    }
    return c->region;
}

static const char shared[] = "leaf writable, and its frame shared";

/** What is wrong with one frame of a leaf; NULL: nothing. */
static const char *wrong_with(const struct mm_spaces *spaces, mm_pfn_t frame, bool writable)
{
    uint32_t refs = mm_frame_refs(spaces->frames, frame);

    if (refs == 0) {
        return mm_frame_allocated(spaces->frames, frame)
                   ? "leaf with a frame that only pins keep"
                   : "leaf with a frame that is not allocated";
    }
    if (writable && frame.raw == spaces->zero_page.raw && frame.raw != 0) {
        return "zero page writable";
    }
    /* How many refer to an immortal frame nobody knows: it may be one that was pinned too often. */
    return writable && refs > 1 && refs != MM_FRAME_REF_IMMORTAL ? shared : NULL;
}

static void check_frames(struct checking *c, const struct mm_mapping *leaf)
{
    bool writable = (leaf->prot & MM_PROT_WRITE) != 0;
    uint64_t first = mm_pfn_of(leaf->paddr).raw;
    const char *wrong = NULL;
    bool pinned = false;

    for (uint64_t i = 0; i < leaf->page.len >> MM_PAGE_SHIFT; i++) {
        const char *what = wrong_with(c->space->spaces, mm_pfn(first + i), writable);

        wrong = wrong == NULL ? what : wrong;
        pinned = pinned || mmi_space_is_pinned(c->space->spaces, mm_pfn(first + i));
    }
    /* A leaf with a pinned page stays writable, whoever refers to it (mm_space_make_cow()). */
    if (wrong == shared && pinned) {
        wrong = NULL;
    }
    if (wrong != NULL) {
        complain(c, wrong, leaf->page.start.raw);
    }
}

/** Whether a page may be given up, and reclaim would find it. */
static void check_mark(struct checking *c, const struct mm_mapping *leaf,
                       const struct mmi_region *region)
{
    if ((leaf->software & MMI_SOFTWARE_GIVEN_UP) == 0) {
        return;
    }
    if (mmi_load(&c->space->nr_given_up) == 0) {
        complain(c, "page given up, and none is counted", leaf->page.start.raw);
    }
    if ((region->attr.flags & MM_SPACE_WIRED) != 0) {
        complain(c, "page given up, and its region is wired", leaf->page.start.raw);
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
        check_frames(c, leaf); /* a device's memory is nobody's frames */
        check_mark(c, leaf, region);
    }
    if ((leaf->prot & MM_PROT_EXEC) == 0) {
        c->can_forbid_exec = true;
    } else if (region != NULL && (region->attr.prot & MM_PROT_EXEC) == 0) {
        c->wrong_exec = true;
        c->wrong_exec_at = at;
    }
    return true;
}

/* --- what is counted -------------------------------------------------------------------------- */

static void check_region(struct checking *c, const struct mmi_region *n)
{
    const uint32_t both = MM_SPACE_HUGE | MM_SPACE_NO_HUGE;
    uint32_t promised = n->attr.flags & MMI_REGION_COMMITTED;

    if (mmi_region_is_guard(n) && n->attr.prot != MM_PROT_NONE) {
        complain(c, "guard that allows something", n->start);
    }
    if ((n->attr.flags & both) == both) {
        complain(c, "region for large leaves, and against them", n->start);
    }
    if (promised != mmi_space_commit_flag(c->space, n->attr.prot, n->attr.flags)) {
        complain(c, "region promises not what it allows", n->start);
    }
}

/** Regions one by one, and what the space counts of them. */
static void check_regions(struct checking *c)
{
    const struct mm_space *space = c->space;
    uint64_t promised = 0;

    for (const struct mmi_region *n = mmi_regions_first(&space->regions); n != NULL;
         n = mmi_region_next(n)) {
        check_region(c, n);
        promised += (n->attr.flags & MMI_REGION_COMMITTED) != 0 ? n->len >> MM_PAGE_SHIFT : 0;
    }
    if (promised != space->nr_committed) {
        complain(c, "pages promised are counted wrongly", space->id);
    }
}

/** Only a space with a limit or a group is charged. */
static void check_charges(struct checking *c)
{
    struct mm_space *space = c->space;

    if (space->is_limited == 0) {
        return;
    }
    if (space->charged_bytes != space->regions.bytes) {
        complain(c, "bytes charged are not those of the regions", space->id);
    }
    if (mmi_load(&space->nr_resident) != mmi_space_nr_resident(space)) {
        complain(c, "pages charged are not those that are there", space->id);
    }
}

/* --- all -------------------------------------------------------------------------------------- */

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
    if (c.good) {
        check_regions(&c);
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
    if (c.good) {
        check_charges(&c);
    }
    if (c.wrong_exec && c.can_forbid_exec) {
        complain(&c, "leaf executable, and its region is not", c.wrong_exec_at);
    }
    mmi_space_unlock(space);
    return c.good ? MM_OK : MM_ERR_CORRUPTED;
}

/* --- the manager ------------------------------------------------------------------------------ */

/** Tell what is wrong. Returns that it is not well. */
static bool tell(const struct mm_spaces *spaces, const char *what, uint64_t value)
{
    mmi_complain(&spaces->platform, "space", what, value);
    return false;
}

/** A cache is well formed; how many of its objects are allocated is in `*nr`. */
static bool check_cache(const struct mm_spaces *spaces, const struct mm_cache *cache, uint64_t *nr)
{
    mm_status_t status = mm_cache_check(cache);
    struct mm_cache_stats stats;

    if (status == MM_OK) {
        status = mm_cache_get_stats(cache, &stats);
    }
    if (status == MM_OK) {
        *nr = stats.nr_objects;
    } else if (status != MM_ERR_CORRUPTED) { /* which it has told */
        (void)tell(spaces, "a cache is none any more", (uint64_t)(uintptr_t)cache);
    }
    return status == MM_OK;
}

/** Where no user space is alive, whatever there is is the kernel space's. */
static bool check_leftovers(const struct mm_spaces *spaces, uint64_t nr_regions,
                            uint64_t nr_buckets, uint64_t nr_claims)
{
    static const struct mmi_regions none;
    const struct mm_space *kernel = spaces->kernel_space;
    const struct mmi_regions *regions = kernel != NULL ? &kernel->regions : &none;

    if (nr_regions != regions->nr) {
        return tell(spaces, "regions allocated are not those of the kernel's space", nr_regions);
    }
    if (nr_buckets != regions->nr_buckets + regions->nr_spare) {
        return tell(spaces, "buckets allocated are not those of the kernel's space", nr_buckets);
    }
    if (nr_claims != 0) {
        return tell(spaces, "claims of devices are allocated, and no space has one", nr_claims);
    }
    if (mmi_load(&spaces->nr_committed) != (kernel != NULL ? kernel->nr_committed : 0)) {
        return tell(spaces, "pages promised are not those of the kernel's space",
                    mmi_load(&spaces->nr_committed));
    }
    return true;
}

static bool check_nodes(struct mm_spaces *spaces)
{
    uint64_t nr_alive = mmi_load(&spaces->nr_spaces);
    uint64_t nr_spaces;
    uint64_t nr_regions;
    uint64_t nr_buckets;
    uint64_t nr_claims;

    if (!check_cache(spaces, &spaces->space_cache, &nr_spaces) ||
        !check_cache(spaces, &spaces->region_cache, &nr_regions) ||
        !check_cache(spaces, &spaces->bucket_cache, &nr_buckets) ||
        !check_cache(spaces, &spaces->claim_cache, &nr_claims)) {
        return false;
    }
    if (nr_spaces != nr_alive + (spaces->kernel_space != NULL ? 1 : 0)) {
        return tell(spaces, "spaces allocated are not those counted", nr_spaces);
    }
    return mmi_spaces_devices_check(spaces, nr_claims) &&
           (nr_alive != 0 || check_leftovers(spaces, nr_regions, nr_buckets, nr_claims));
}

static bool check_zero_page(const struct mm_spaces *spaces)
{
    const uint64_t *word;

    if ((spaces->zero_page.raw != 0) != (spaces->user_range.len != 0)) {
        return tell(spaces, "zero page missing, or for nobody", spaces->zero_page.raw);
    }
    if (spaces->zero_page.raw == 0) {
        return true;
    }
    if (mm_frame_refs(spaces->frames, spaces->zero_page) != MM_FRAME_REF_IMMORTAL) {
        return tell(spaces, "zero page mortal", spaces->zero_page.raw);
    }
    word = mm_physmap_ptr(&spaces->physmap, mm_pfn_addr(spaces->zero_page));
    for (unsigned i = 0; i < MM_PAGE_SIZE / sizeof(*word); i++) {
        if (word[i] != 0) {
            return tell(spaces, "zero page not zero", word[i]);
        }
    }
    return true;
}

static bool check_promises(const struct mm_spaces *spaces)
{
    uint64_t nr = mmi_load(&spaces->nr_committed);

    return nr <= (spaces->commit == MM_COMMIT_NEVER ? spaces->commit_pages : 0) ||
           tell(spaces, "more is promised than may be", nr);
}

mm_status_t mm_spaces_check(struct mm_spaces *spaces)
{
    if (spaces == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (spaces->magic != MMI_SPACES_MAGIC) {
        return MM_ERR_NOT_INITIALIZED;
    }
    return check_nodes(spaces) && check_zero_page(spaces) && check_promises(spaces)
               ? MM_OK
               : MM_ERR_CORRUPTED;
}
