// SPDX-License-Identifier: MIT
/**
 * Memory of a space read and written from outside, as a debugger does: through the tables and the
 * direct map.
 *
 *     look at the page, lock shared
 *         it serves the access      move the bytes while the lock is held
 *         it does not               leave, fault it in, look again
 *         it may be given up        have the lock alone: take the mark away, move the bytes
 *         it may be exchanged       have the lock alone, read or write: see below
 *
 * What may be written through the leaf may be written behind it: a leaf that is writable is of a
 * frame that is nobody else's. That stays so while the lock is shared, because to share the frame
 * anew (clone, make_cow) takes the lock alone; so the bytes are moved under it, and never into a
 * frame that a child has as well. Each further turn is one that another CPU was faster than.
 *
 * A leaf that is not writable may be exchanged by who shares the lock: a write fault puts a copy
 * there and gives up the frame, which a relative, now alone with it, may write or free while its
 * bytes are moved. So such a leaf is read, and by force written, with the lock alone. No fault of
 * the space is half done then, so that no flush of a copy is owed either. The zero page is exchanged
 * too, but its bytes stay.
 *
 * No accessed or dirty bit is set: those are what the hardware says of the space's own accesses,
 * and private memory is written back to nothing. The one that asks for dirty is
 * mm_space_reclaim(); a page that was given up is kept by taking its mark away instead.
 */
#include "fault.h"

#include <mm/paging_slots.h>

/** Bytes on their way. */
struct transfer {
    struct mm_space *space;
    uint64_t at; /* the next byte, in the space */
    uint64_t left;
    uint8_t *to;         /* read: the next byte; else NULL */
    const uint8_t *from; /* write: the next byte; NULL: zeros */
    uint32_t fault_flags;
    bool force;
    bool alone; /* the lock is held alone */
};

/** Bytes of the transfer that lie in the page that comes next. */
static uint64_t in_page(const struct transfer *t)
{
    uint64_t room = MM_PAGE_SIZE - (t->at & (MM_PAGE_SIZE - 1));

    return t->left < room ? t->left : room;
}

static void move(const struct transfer *t, uint8_t *page)
{
    uint64_t len = in_page(t);

    if (t->to != NULL) {
        memcpy(t->to, page, len);
    } else if (t->from != NULL) {
        memcpy(page, t->from, len);
    } else {
        memset(page, 0, len);
    }
}

/** The leaf of a page, of whatever size, is not given up. Lock held alone. */
static void keep(struct mm_space *space, uint64_t page)
{
    struct mm_mapping leaf;

    mmi_space_must(space, mm_paging_translate(space->table, mm_vaddr(page), &leaf),
                   "a page is gone that was there", page);
    mmi_space_must(space,
                   mm_paging_set_software(space->table, leaf.page, 0, MMI_SOFTWARE_GIVEN_UP, 0),
                   "a page cannot be kept", page);
}

/** Whether a device's memory may be moved as other memory is. */
static bool is_reachable(const struct mm_space *space, const struct mmi_region *region,
                         mm_paddr_t paddr)
{
    return !mmi_region_is_device(region) ||
           (mmi_region_type(region) == MM_MEMTYPE_WB &&
            mm_physmap_covers(&space->spaces->physmap, mm_prange(paddr, MM_PAGE_SIZE)));
}

/** Whether who shares the lock may exchange the frame that was seen, because a relative has it too:
 * then it is no more ours, whoever else it has. The zero page stays what it is. */
static bool may_be_given_up(const struct mm_space *space, const struct mmi_page *seen)
{
    return seen->kind == MMI_PAGE_LEAF && (seen->prot & MM_PROT_WRITE) == 0 &&
           mm_pfn_of(seen->paddr).raw != space->spaces->zero_page.raw;
}

/** MM_OK: moved | MM_ERR_NOT_MAPPED: it must be faulted in | MM_ERR_BUSY: it must be done alone
 * | MM_ERR_UNSUPPORTED */
static mm_status_t move_locked(const struct transfer *t)
{
    struct mm_space *space = t->space;
    struct mmi_space_fault access = {.space = space,
                                     .page = mm_align_down(t->at, MM_PAGE_SIZE),
                                     .flags = t->fault_flags,
                                     .force = t->force};
    const struct mmi_region *region = mmi_regions_find(&space->regions, access.page);
    struct mmi_page seen;

    if (region == NULL) {
        return MM_ERR_NOT_MAPPED;
    }
    mmi_page_look(space->table, access.page, &seen);
    if ((seen.kind != MMI_PAGE_LEAF && seen.kind != MMI_PAGE_LARGE) ||
        !mmi_space_serves(&access, seen.prot, seen.paddr)) {
        return MM_ERR_NOT_MAPPED;
    }
    if (!is_reachable(space, region, seen.paddr)) {
        return MM_ERR_UNSUPPORTED;
    }
    if (!t->alone && may_be_given_up(space, &seen)) {
        return MM_ERR_BUSY;
    }
    if (t->to == NULL && mmi_load(&space->nr_given_up) != 0) {
        if (!t->alone) {
            return MM_ERR_BUSY;
        }
        keep(space, access.page);
    }
    move(t, mm_physmap_ptr(&space->spaces->physmap,
                           mm_paddr(seen.paddr.raw + (t->at & (MM_PAGE_SIZE - 1)))));
    return MM_OK;
}

static mm_status_t move_page(struct transfer *t)
{
    struct mm_space *space = t->space;
    struct mmi_space_slot *slot = mmi_space_share(space);
    mm_status_t status = move_locked(t);

    mmi_space_unshare(slot);
    if (status == MM_ERR_BUSY) {
        mmi_space_lock(space);
        t->alone = true;
        status = move_locked(t);
        t->alone = false;
        mmi_space_unlock(space);
    }
    return status;
}

static mm_status_t fault_in(const struct transfer *t)
{
    enum mm_fault_result result = mmi_space_fault_in(t->space, t->at, t->fault_flags, t->force);

    if (mm_fault_resolved(result)) {
        return MM_OK;
    }
    return result == MM_FAULT_NO_MEMORY || result == MM_FAULT_LIMIT ? MM_ERR_NO_MEMORY
                                                                    : MM_ERR_FAULT;
}

/** Move all, or up to the first page that cannot be. */
static mm_status_t move_all(struct transfer *t)
{
    while (t->left != 0) {
        uint64_t len = in_page(t);
        mm_status_t status = move_page(t);

        if (status == MM_ERR_NOT_MAPPED) {
            status = fault_in(t);
            len = 0;
        }
        if (status != MM_OK) {
            return status;
        }
        t->to = t->to != NULL ? t->to + len : NULL;
        t->from = t->from != NULL ? t->from + len : NULL;
        t->at += len;
        t->left -= len;
    }
    return MM_OK;
}

static mm_status_t access_space(struct transfer *t, uint32_t flags, uint64_t *residue)
{
    mm_status_t status = MM_OK;

    if ((flags & ~MM_SPACE_FORCE) != 0) {
        return MM_ERR_INVALID_FLAGS;
    }
    t->force = (flags & MM_SPACE_FORCE) != 0;
    if (t->space->is_kernel != 0) {
        status = MM_ERR_UNSUPPORTED;
    } else if (t->left != 0) {
        status = mm_vrange_covers(t->space->regions.window, mm_vrange(mm_vaddr(t->at), t->left))
                     ? move_all(t)
                     : MM_ERR_INVALID_ADDRESS;
    }
    if (residue != NULL) {
        *residue = t->left;
    }
    return status;
}

mm_status_t mm_space_read(struct mm_space *space, void *to, mm_vaddr_t from, uint64_t len,
                          uint32_t flags, uint64_t *residue)
{
    struct transfer t = {
        .space = space, .at = from.raw, .left = len, .to = to, .fault_flags = MM_FAULT_USER};

    return space == NULL || to == NULL ? MM_ERR_INVALID_ARGUMENT : access_space(&t, flags, residue);
}

mm_status_t mm_space_write(struct mm_space *space, mm_vaddr_t to, const void *from, uint64_t len,
                           uint32_t flags, uint64_t *residue)
{
    struct transfer t = {.space = space,
                         .at = to.raw,
                         .left = len,
                         .from = from,
                         .fault_flags = MM_FAULT_USER | MM_FAULT_WRITE};

    return space == NULL || from == NULL ? MM_ERR_INVALID_ARGUMENT
                                         : access_space(&t, flags, residue);
}

mm_status_t mm_space_clear(struct mm_space *space, mm_vaddr_t to, uint64_t len, uint32_t flags,
                           uint64_t *residue)
{
    struct transfer t = {
        .space = space, .at = to.raw, .left = len, .fault_flags = MM_FAULT_USER | MM_FAULT_WRITE};

    return space == NULL ? MM_ERR_INVALID_ARGUMENT : access_space(&t, flags, residue);
}
