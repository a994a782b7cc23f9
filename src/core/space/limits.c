// SPDX-License-Identifier: MIT
/**
 * Limits and charges.
 *
 *     what               counted by          asked when                     given back
 *     bytes of regions   space and group     mapped                         at the unlock after
 *     pages there        space and group     put there (sharers too)        at the unlock after
 *     pages promised     manager and space   mapped, made writable          where they go
 *
 * Charges are asked before anything changes. What goes is not counted down page by page: whoever
 * leaves the lock compares what the space was charged with what it has, and refunds the difference.
 * So a step that fails half-way, or unmaps more than it put, needs no bookkeeping of its own. Pages
 * there are charged only in spaces that have a limit or a group; the others write no common line.
 */
#include "internal.h"

#include "core/paging/page.h"

/* --- counters with a limit -------------------------------------------------------------------- */

/** What a limit allows, in bytes. */
static uint64_t most(const uint64_t *limit)
{
    uint64_t bytes = mmi_load(limit);

    return bytes == 0 ? UINT64_MAX : bytes;
}

/** Add if the sum is not above `limit`. */
static bool add_below(uint64_t *counter, uint64_t by, uint64_t limit)
{
    uint64_t now = mmi_load(counter);
    uint64_t sum;

    do {
        if (__builtin_add_overflow(now, by, &sum) || sum > limit) {
            return false;
        }
    } while (!mmi_cas(counter, &now, sum));
    return true;
}

static void take_off(uint64_t *counter, uint64_t by)
{
    (void)mmi_fetch_sub(counter, by);
}

/* --- promises --------------------------------------------------------------------------------- */

static bool commit(struct mm_space *space, uint64_t nr_pages)
{
    struct mm_spaces *spaces = space->spaces;

    if (nr_pages == 0 || spaces->commit == MM_COMMIT_ALWAYS) {
        return true;
    }
    if (spaces->commit == MM_COMMIT_HEURISTIC) {
        return nr_pages <= spaces->frames->nr_frames;
    }
    if (!add_below(&spaces->nr_committed, nr_pages, spaces->commit_pages)) {
        return false;
    }
    space->nr_committed += nr_pages;
    return true;
}

void mmi_space_uncommit(struct mm_space *space, uint64_t nr_pages)
{
    if (nr_pages != 0 && space->spaces->commit == MM_COMMIT_NEVER) {
        space->nr_committed -= nr_pages;
        take_off(&space->spaces->nr_committed, nr_pages);
    }
}

uint64_t mmi_space_committed_in(const struct mm_space *space, uint64_t start, uint64_t len)
{
    uint64_t last = start + (len - 1);
    uint64_t bytes = 0;

    if (space->nr_committed == 0) {
        return 0;
    }
    for (const struct mmi_region *n = mmi_regions_from(&space->regions, start);
         n != NULL && n->start <= last; n = mmi_region_next(n)) {
        uint64_t first = n->start > start ? n->start : start;
        uint64_t end = mmi_region_last(n) < last ? mmi_region_last(n) : last;

        bytes += (n->attr.flags & MMI_REGION_COMMITTED) != 0 ? end - first + 1 : 0;
    }
    return bytes >> MM_PAGE_SHIFT;
}

/* --- regions ---------------------------------------------------------------------------------- */

mm_status_t mmi_space_charge(struct mm_space *space, uint64_t bytes, uint64_t nr_committed)
{
    struct mm_space_group *group = space->group;
    uint64_t limit = most(&space->limits.mapped_bytes);

    if (bytes != 0 && (space->regions.bytes > limit || bytes > limit - space->regions.bytes)) {
        return MM_ERR_LIMIT;
    }
    if (group != NULL && bytes != 0 &&
        !add_below(&group->mapped_bytes, bytes, most(&group->limits.mapped_bytes))) {
        return MM_ERR_LIMIT;
    }
    space->charged_bytes += bytes;
    if (!commit(space, nr_committed)) {
        mmi_space_uncharge(space, bytes, 0);
        return MM_ERR_NO_MEMORY;
    }
    return MM_OK;
}

void mmi_space_uncharge(struct mm_space *space, uint64_t bytes, uint64_t nr_committed)
{
    space->charged_bytes -= bytes;
    if (space->group != NULL) {
        take_off(&space->group->mapped_bytes, bytes);
    }
    mmi_space_uncommit(space, nr_committed);
}

/* --- pages there ------------------------------------------------------------------------------ */

bool mmi_space_charge_pages(struct mm_space *space, uint64_t nr_pages)
{
    struct mm_space_group *group = space->group;

    /* Nothing more is allowed also where a limit was lowered below what is there. */
    if (nr_pages == 0 || mmi_load(&space->is_limited) == 0) {
        return true;
    }
    if (!add_below(&space->nr_resident, nr_pages,
                   most(&space->limits.resident_bytes) >> MM_PAGE_SHIFT)) {
        return false;
    }
    if (group != NULL && !add_below(&group->resident_bytes, nr_pages << MM_PAGE_SHIFT,
                                    most(&group->limits.resident_bytes))) {
        take_off(&space->nr_resident, nr_pages);
        return false;
    }
    return true;
}

void mmi_space_refund_pages(struct mm_space *space, uint64_t nr_pages)
{
    if (mmi_load(&space->is_limited) != 0) {
        take_off(&space->nr_resident, nr_pages);
        if (space->group != NULL) {
            take_off(&space->group->resident_bytes, nr_pages << MM_PAGE_SHIFT);
        }
    }
}

void mmi_space_fold(struct mm_space *space)
{
    uint64_t nr = 0;

    for (unsigned i = 0; i < MMI_SPACE_SLOTS; i++) {
        struct mmi_space_slot *slot = &space->lock.slots[i];
        uint64_t filled = mmi_load(&slot->word) >> MMI_SPACE_FILLED_SHIFT;

        if (filled != slot->nr_folded) {
            nr += (filled - slot->nr_folded) & (UINT64_MAX >> MMI_SPACE_FILLED_SHIFT);
            slot->nr_folded = filled;
        }
    }
    if (nr != 0) {
        mmi_page_count(space->table, nr);
        space->nr_folded += nr;
    }
}

uint64_t mmi_space_nr_resident(struct mm_space *space)
{
    const uint64_t *leaves = space->table->nr_leaves;

    mmi_space_fold(space);
    return (leaves[0] * MM_SIZE_4K + leaves[1] * MM_SIZE_2M + leaves[2] * MM_SIZE_1G -
            space->device_bytes) >>
           MM_PAGE_SHIFT;
}

mm_status_t mmi_space_charge_copy(struct mm_space *parent, struct mm_space *child)
{
    uint64_t nr_pages = mmi_space_nr_resident(parent);
    mm_status_t status;

    /* The group is asked. The child's own limits are not: the parent may be above them. */
    mmi_space_join(child, parent->group);
    status = mmi_space_charge(child, parent->regions.bytes, parent->nr_committed);
    if (status != MM_OK) {
        return status;
    }
    if (!mmi_space_charge_pages(child, nr_pages)) {
        mmi_space_uncharge(child, parent->regions.bytes, parent->nr_committed);
        return MM_ERR_LIMIT;
    }
    child->limits = parent->limits;
    if (child->limits.resident_bytes != 0) {
        child->is_limited = 1;
        child->nr_resident = nr_pages;
    }
    return MM_OK;
}

void mmi_space_settle(struct mm_space *space)
{
    struct mm_space_group *group = space->group;
    uint64_t was = space->nr_resident;
    uint64_t nr;

    if (space->is_limited == 0) {
        return;
    }
    nr = mmi_space_nr_resident(space);
    space->nr_resident = nr;
    if (group != NULL) {
        (void)mmi_fetch_add(&group->resident_bytes, (nr - was) << MM_PAGE_SHIFT);
        (void)mmi_fetch_add(&group->mapped_bytes, space->regions.bytes - space->charged_bytes);
    }
    space->charged_bytes = space->regions.bytes;
}

void mmi_space_unlock(struct mm_space *space)
{
    mmi_space_settle(space);
    mmi_space_lock_leave(&space->lock);
}

/* --- limits ----------------------------------------------------------------------------------- */

mm_status_t mm_space_set_limits(struct mm_space *space, const struct mm_space_limits *limits)
{
    static const struct mm_space_limits none;

    if (space == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (space->is_kernel != 0) {
        return MM_ERR_UNSUPPORTED;
    }
    limits = limits == NULL ? &none : limits;
    mmi_space_lock(space);
    mmi_store(&space->limits.mapped_bytes, limits->mapped_bytes);
    mmi_store(&space->limits.resident_bytes, limits->resident_bytes);
    if (limits->resident_bytes != 0 && space->is_limited == 0) {
        space->nr_resident = mmi_space_nr_resident(space);
        space->charged_bytes = space->regions.bytes;
        mmi_store(&space->is_limited, 1);
    }
    mmi_space_unlock(space);
    return MM_OK;
}

/* --- groups ----------------------------------------------------------------------------------- */

mm_status_t mm_space_group_init(struct mm_space_group *group, const struct mm_space_limits *limits)
{
    if (group == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (group->magic == MMI_GROUP_MAGIC) {
        return MM_ERR_ALREADY_INITIALIZED;
    }
    *group = (struct mm_space_group){.magic = MMI_GROUP_MAGIC};
    if (limits != NULL) {
        group->limits = *limits;
    }
    return MM_OK;
}

mm_status_t mm_space_group_destroy(struct mm_space_group *group)
{
    if (group == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (group->magic != MMI_GROUP_MAGIC) {
        return MM_ERR_NOT_INITIALIZED;
    }
    if (mmi_load_acquire(&group->nr_spaces) != 0) {
        return MM_ERR_BUSY;
    }
    memset(group, 0, sizeof(*group));
    return MM_OK;
}

mm_status_t mm_space_group_set_limits(struct mm_space_group *group,
                                      const struct mm_space_limits *limits)
{
    static const struct mm_space_limits none;

    if (group == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (group->magic != MMI_GROUP_MAGIC) {
        return MM_ERR_NOT_INITIALIZED;
    }
    limits = limits == NULL ? &none : limits;
    mmi_store(&group->limits.mapped_bytes, limits->mapped_bytes);
    mmi_store(&group->limits.resident_bytes, limits->resident_bytes);
    return MM_OK;
}

mm_status_t mm_space_group_get_stats(const struct mm_space_group *group,
                                     struct mm_space_group_stats *out)
{
    if (group == NULL || out == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (group->magic != MMI_GROUP_MAGIC) {
        return MM_ERR_NOT_INITIALIZED;
    }
    *out = (struct mm_space_group_stats){
        .limits = {.mapped_bytes = mmi_load(&group->limits.mapped_bytes),
                   .resident_bytes = mmi_load(&group->limits.resident_bytes)},
        .mapped_bytes = mmi_load(&group->mapped_bytes),
        .resident_bytes = mmi_load(&group->resident_bytes),
        .nr_spaces = mmi_load(&group->nr_spaces),
    };
    return MM_OK;
}
