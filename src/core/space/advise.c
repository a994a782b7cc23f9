// SPDX-License-Identifier: MIT
/**
 * Advice, what is taken because of it, and what is there.
 *
 * Pages that are given up (MM_ADVICE_FREE) stay where they are, with a mark:
 *
 *     leaf of a page        mark   dirty     mm_space_reclaim()
 *     as it was             no     any       leaves it
 *     given up              yes    no        takes it
 *     written since         yes    yes       leaves it, and takes the mark away
 *
 * The hardware sets dirty, so a write to a page that was given up costs nothing. Dirty is cleared
 * and flushed before the call that gives up returns: no CPU then holds a translation by which it
 * could write without setting it again. A page is taken by exchanging the leaf that was seen clean:
 * if a CPU wrote meanwhile, the leaf is another, and the page stays. A CPU that writes after the
 * exchange must set dirty first, finds no leaf, and faults.
 *
 * Who writes by another way than the space's addresses sets nothing, and takes the mark away
 * before (mmi_space_keep()).
 */
#include "fault.h"

#include <mm/paging_slots.h>

/* --- what regions say ------------------------------------------------------------------------- */

/** Whether no region of the range forbids it. POPULATE asks later, page after page. */
static bool all_allow(const struct mm_space *space, uint64_t start, uint64_t last,
                      enum mm_space_advice advice)
{
    bool gives = advice == MM_ADVICE_DONT_NEED || advice == MM_ADVICE_FREE;

    if (advice == MM_ADVICE_WILL_NEED) {
        return true;
    }
    for (const struct mmi_region *n = mmi_regions_from(&space->regions, start);
         n != NULL && n->start <= last; n = mmi_region_next(n)) {
        if (mmi_region_is_device(n) || (gives && (n->attr.flags & MM_SPACE_WIRED) != 0)) {
            return false;
        }
    }
    return true;
}

/* --- pages that are given up ------------------------------------------------------------------ */

static void begin(struct mm_space *space, struct mm_paging_cursor *cursor, uint64_t start,
                  uint64_t len)
{
    mmi_space_must(space,
                   mm_paging_cursor_begin(cursor, space->table, mm_vrange(mm_vaddr(start), len)),
                   "pages cannot be walked", start);
}

static bool is_marked(const struct mm_slot *slot)
{
    return slot->kind == MM_SLOT_LEAF && (slot->software & MMI_SOFTWARE_GIVEN_UP) != 0;
}

static void unmark(struct mm_space *space, const struct mm_slot *slot)
{
    mmi_space_must(space,
                   mm_paging_set_software(space->table, slot->page, 0, MMI_SOFTWARE_GIVEN_UP, 0),
                   "a page cannot be kept", slot->page.start.raw);
}

void mmi_space_keep(struct mm_space *space, uint64_t start, uint64_t len)
{
    struct mm_paging_cursor cursor;
    struct mm_slot slot;

    if (mmi_load(&space->nr_given_up) == 0) {
        return;
    }
    begin(space, &cursor, start, len);
    while (mm_paging_cursor_next(&cursor, &slot) == MM_OK) {
        if (is_marked(&slot)) {
            unmark(space, &slot);
        }
    }
}

/** Whether all frames of a leaf are this space's alone, and no device writes to them. */
static bool is_ours(const struct mm_space *space, const struct mm_slot *slot)
{
    const struct mm_frames *frames = space->spaces->frames;
    mm_pfn_t first = mm_pfn_of(slot->paddr);

    for (uint64_t i = 0; i < slot->page.len >> MM_PAGE_SHIFT; i++) {
        mm_pfn_t frame = mm_pfn(first.raw + i);

        if (mm_frame_refs(frames, frame) != 1 || mm_frame_pins(frames, frame) != 0) {
            return false;
        }
    }
    return true;
}

static void mark(struct mm_space *space, struct mm_slot *slot, struct mm_gather *gather)
{
    mm_status_t status;

    do {
        struct mm_slot now = *slot;

        now.software |= MMI_SOFTWARE_GIVEN_UP;
        now.dirty = false;
        status =
            mm_paging_slot_cas(space->table, slot->page.start, slot->page.len, slot, &now, gather);
    } while (status == MM_ERR_BUSY);
    mmi_space_must(space, status, "a page cannot be given up", slot->page.start.raw);
}

/** Leaves that lie in the range, whole, and that nobody else has. */
static void give_up(struct mm_space *space, uint64_t start, uint64_t len)
{
    struct mm_gather *gather = mmi_space_gather(space);
    struct mm_paging_cursor cursor;
    struct mm_slot slot;
    uint64_t nr = 0;

    begin(space, &cursor, start, len);
    while (mm_paging_cursor_next(&cursor, &slot) == MM_OK) {
        if (slot.kind == MM_SLOT_LEAF &&
            mm_range_covers(start, len, slot.page.start.raw, slot.page.len) &&
            is_ours(space, &slot)) {
            mark(space, &slot, gather);
            nr++;
        }
    }
    mm_gather_end(gather);
    (void)mmi_fetch_add(&space->nr_given_up, nr);
}

/* --- taking them ------------------------------------------------------------------------------ */

/** Take a leaf with a mark if it has at most so many pages: how many went. `stays`: it has its mark
 * still. */
static uint64_t take(struct mm_space *space, struct mm_slot *slot, uint64_t nr_pages,
                     struct mm_gather *gather, bool *stays)
{
    const struct mm_slot empty = mm_slot_empty();
    uint64_t nr = slot->page.len >> MM_PAGE_SHIFT;
    mm_pfn_t first = mm_pfn_of(slot->paddr);
    mm_status_t status = MM_ERR_BUSY;

    *stays = nr > nr_pages;
    for (uint64_t i = 0; i < nr && !*stays; i++) {
        *stays = mm_frame_pins(space->spaces->frames, mm_pfn(first.raw + i)) != 0;
    }
    if (*stays) {
        return 0;
    }
    while (status == MM_ERR_BUSY && !slot->dirty) {
        status = mm_paging_slot_cas(space->table, slot->page.start, slot->page.len, slot, &empty,
                                    gather);
    }
    if (status == MM_ERR_BUSY) {
        unmark(space, slot);
        return 0;
    }
    mmi_space_must(space, status, "a page cannot be taken", slot->page.start.raw);
    mm_gather_add_frames(gather, first, nr);
    return nr;
}

static uint64_t reclaim_locked(struct mm_space *space, uint64_t nr_pages)
{
    const struct mm_vrange all = space->regions.window;
    struct mm_gather *gather = mmi_space_gather(space);
    struct mm_paging_cursor cursor;
    struct mm_slot slot;
    uint64_t nr_marked = 0;
    uint64_t nr = 0;

    begin(space, &cursor, all.start.raw, all.len);
    while (mm_paging_cursor_next(&cursor, &slot) == MM_OK) {
        bool stays = false;

        if (is_marked(&slot)) {
            nr += take(space, &slot, nr_pages - nr, gather, &stays);
        }
        nr_marked += stays ? 1 : 0;
    }
    mmi_store(&space->nr_given_up, nr_marked);
    if (nr != 0) {
        mmi_space_must(space, mm_paging_reclaim(space->table, all, gather),
                       "empty tables cannot be given back", space->id);
    }
    mm_gather_end(gather);
    return nr;
}

mm_status_t mm_space_reclaim(struct mm_space *space, uint64_t nr_pages, uint64_t *out)
{
    if (space == NULL || out == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (space->is_kernel != 0) {
        return MM_ERR_UNSUPPORTED;
    }
    if (mmi_load(&space->nr_given_up) == 0) {
        *out = 0;
        return MM_OK;
    }
    mmi_space_lock(space);
    *out = reclaim_locked(space, nr_pages);
    mmi_space_unlock(space);
    return MM_OK;
}

/* --- advice ----------------------------------------------------------------------------------- */

static mm_status_t dont_need(struct mm_space *space, uint64_t start, uint64_t len)
{
    struct mmi_space_edit edit;
    mm_status_t status =
        mmi_space_edit_begin(space, &edit, start, len, (struct mmi_space_need){0}, 0);

    if (status == MM_OK) {
        mmi_space_drop_pages(space, start, len);
        mmi_space_edit_end(space, &edit);
    }
    return status;
}

static mm_status_t set_huge(struct mm_space *space, uint64_t start, uint64_t len, uint32_t set,
                            uint32_t clear)
{
    const struct mmi_region_change change = {.set = set, .clear = clear};

    return mmi_space_change_flags(space, start, len, &change);
}

static bool allows(const struct mm_space *space, const struct mmi_region *n, uint32_t flags)
{
    return !mmi_region_is_guard(n) && !mmi_region_is_device(n) && mmi_space_allows(space, n, flags);
}

/** Until there is no more memory. */
static void read_ahead(struct mm_space *space, uint64_t start, uint64_t last)
{
    for (const struct mmi_region *n = mmi_regions_from(&space->regions, start);
         n != NULL && n->start <= last; n = mmi_region_next(n)) {
        uint64_t first = n->start > start ? n->start : start;

        if (allows(space, n, MM_FAULT_USER) &&
            mmi_space_fault_pages(space, first, mmi_region_part_end(n, last), MM_FAULT_USER) !=
                MM_OK) {
            return;
        }
    }
}

static mm_status_t populate(struct mm_space *space, uint64_t start, uint64_t last, uint32_t flags)
{
    uint64_t at = start;

    for (;;) {
        const struct mmi_region *n = mmi_regions_find(&space->regions, at);
        mm_status_t status;
        uint64_t end;

        if (n == NULL) {
            return MM_ERR_NOT_MAPPED;
        }
        if (!allows(space, n, flags)) {
            return MM_ERR_PERMISSION_DENIED;
        }
        end = mmi_region_part_end(n, last);
        if ((flags & MM_FAULT_WRITE) != 0) {
            mmi_space_keep(space, at, end - at + 1);
        }
        status = mmi_space_fault_pages(space, at, end, flags);
        if (status != MM_OK || end == last) {
            return status;
        }
        at = end + 1;
    }
}

static mm_status_t advise_locked(struct mm_space *space, uint64_t start, uint64_t len,
                                 enum mm_space_advice advice)
{
    uint64_t last = start + (len - 1);
    mm_status_t status = MM_OK;
    uint64_t hole;

    if (advice == MM_ADVICE_POPULATE_READ) {
        return populate(space, start, last, MM_FAULT_USER);
    }
    if (advice == MM_ADVICE_POPULATE_WRITE) {
        return populate(space, start, last, MM_FAULT_USER | MM_FAULT_WRITE);
    }
    if (!all_allow(space, start, last, advice)) {
        return MM_ERR_PERMISSION_DENIED;
    }
    if (advice == MM_ADVICE_DONT_NEED) {
        status = dont_need(space, start, len);
    } else if (advice == MM_ADVICE_FREE) {
        give_up(space, start, len);
    } else if (advice == MM_ADVICE_HUGE) {
        status = set_huge(space, start, len, MM_SPACE_HUGE, MM_SPACE_NO_HUGE);
    } else if (advice == MM_ADVICE_NO_HUGE) {
        status = set_huge(space, start, len, MM_SPACE_NO_HUGE, MM_SPACE_HUGE);
    } else {
        read_ahead(space, start, last);
    }
    return status == MM_OK && !mmi_space_covered(space, start, len, &hole) ? MM_ERR_NOT_MAPPED
                                                                           : status;
}

mm_status_t mm_space_advise(struct mm_space *space, struct mm_vrange range,
                            enum mm_space_advice advice)
{
    mm_status_t status;
    uint64_t len = 0;

    if (space == NULL || (unsigned)advice >= MM_ADVICE_COUNT) {
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
    status = advise_locked(space, range.start.raw, len, advice);
    mmi_space_unlock(space);
    return status;
}

/* --- what is there ---------------------------------------------------------------------------- */

struct there {
    uint64_t start;
    uint64_t last;
    uint8_t *out;
};

static bool note(void *ctx, const struct mm_mapping *leaf)
{
    const struct there *t = ctx;
    uint64_t first = leaf->page.start.raw > t->start ? leaf->page.start.raw : t->start;
    uint64_t end = mm_vrange_last(leaf->page).raw;

    end = end < t->last ? end : t->last;
    memset(t->out + ((first - t->start) >> MM_PAGE_SHIFT), MM_SPACE_RESIDENT,
           ((end - first) >> MM_PAGE_SHIFT) + 1);
    return true;
}

static mm_status_t resident_locked(struct mm_space *space, uint64_t start, uint64_t len,
                                   uint8_t *out)
{
    struct there there = {.start = start, .last = start + (len - 1), .out = out};
    uint64_t hole;

    if (!mmi_space_covered(space, start, len, &hole)) {
        return MM_ERR_NOT_MAPPED;
    }
    memset(out, 0, len >> MM_PAGE_SHIFT);
    mmi_space_must(space,
                   mm_paging_walk(space->table, mm_vrange(mm_vaddr(start), len), note, &there),
                   "pages cannot be walked", start);
    return MM_OK;
}

mm_status_t mm_space_resident(struct mm_space *space, struct mm_vrange range, uint8_t *out)
{
    mm_status_t status;
    uint64_t len = 0;

    if (space == NULL || out == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    status = mmi_space_whole_pages(space, range, &len);
    if (status != MM_OK) {
        return status;
    }
    mmi_space_lock(space);
    status = resident_locked(space, range.start.raw, len, out);
    mmi_space_unlock(space);
    return status;
}
