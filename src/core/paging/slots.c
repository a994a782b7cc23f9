// SPDX-License-Identifier: MIT
/**
 * The public calls on single slots, on what leaves say besides, and on cursors: what is common to
 * all architectures is checked here, and the rest is the backend's.
 */
#include "internal.h"

static bool is_leaf_size(uint64_t len)
{
    return len == MM_SIZE_4K || len == MM_SIZE_2M || len == MM_SIZE_1G;
}

/* --- slots ------------------------------------------------------------------------------------ */

mm_status_t mm_paging_slot_get(const struct mm_pagetable *pt, mm_vaddr_t at, struct mm_slot *out)
{
    mm_status_t status = mmi_pagetable_check(pt);

    if (status == MM_OK && out == NULL) {
        status = MM_ERR_INVALID_ARGUMENT;
    }
    return status != MM_OK ? status : pt->backend.ops->slot_get(pt, at, out);
}

/** What is to be written makes sense. */
static mm_status_t check_slot(const struct mm_pagetable *pt, const struct mm_slot *slot,
                              uint64_t len)
{
    mm_status_t status;

    switch (slot->kind) {
    case MM_SLOT_EMPTY:
        return MM_OK;
    case MM_SLOT_SOFT:
        return (slot->soft_kind < MM_SOFT_KINDS && slot->payload >> MM_SOFT_PAYLOAD_BITS == 0) ||
                       (slot->soft_kind == MM_SOFT_GUARD && slot->payload == 0)
                   ? MM_OK
                   : MM_ERR_INVALID_ARGUMENT;
    case MM_SLOT_LEAF:
        break;
    default:
        return MM_ERR_INVALID_ARGUMENT;
    }
    if ((uint32_t)slot->type >= MM_MEMTYPE_COUNT || slot->software > MM_SOFTWARE_ALL ||
        slot->key > 15) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    status = mmi_paging_check_prot(pt, slot->prot);
    if (status == MM_OK && !mm_is_aligned(slot->paddr.raw, len)) {
        status = MM_ERR_NOT_ALIGNED;
    }
    return status != MM_OK ? status : mmi_paging_check_paddr(pt, slot->paddr, len);
}

mm_status_t mm_paging_slot_cas(struct mm_pagetable *pt, mm_vaddr_t at, uint64_t len,
                               struct mm_slot *seen, const struct mm_slot *now,
                               struct mm_gather *gather)
{
    mm_status_t status = mmi_pagetable_check(pt);
    struct mm_slot written;

    if (status != MM_OK) {
        return status;
    }
    if (seen == NULL || now == NULL || (gather != NULL && !mmi_gather_is_for(gather, pt)) ||
        (gather == NULL && seen->kind == MM_SLOT_LEAF)) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (!is_leaf_size(len)) {
        return MM_ERR_INVALID_SIZE;
    }
    if (!mm_is_aligned(at.raw, len)) {
        return MM_ERR_NOT_ALIGNED;
    }
    status = mmi_paging_check_range(pt, mm_vrange(at, len));
    if (status == MM_OK) {
        status = check_slot(pt, now, len);
    }
    if (status != MM_OK) {
        return status;
    }
    written = *now;
    written.prot = mmi_paging_prot(pt, now->prot);
    return pt->backend.ops->slot_cas(pt, at, len, seen, &written, gather);
}

/* --- guards ----------------------------------------------------------------------------------- */

mm_status_t mm_paging_guard(struct mm_pagetable *pt, struct mm_vrange range)
{
    mm_status_t status = mmi_pagetable_check(pt);

    if (status == MM_OK) {
        status = mmi_paging_check_range(pt, range);
    }
    return status != MM_OK ? status : pt->backend.ops->guard(pt, range);
}

/* --- what leaves say besides ------------------------------------------------------------------ */

mm_status_t mm_paging_set_software(struct mm_pagetable *pt, struct mm_vrange range, uint32_t set,
                                   uint32_t clear, uint32_t flags)
{
    mm_status_t status = mmi_pagetable_check(pt);

    if (status == MM_OK && (((set | clear) & ~MM_SOFTWARE_ALL) != 0 || (set & clear) != 0)) {
        status = MM_ERR_INVALID_ARGUMENT;
    }
    if (status == MM_OK && (flags & ~MM_PAGING_SKIP_HOLES) != 0) {
        status = MM_ERR_INVALID_FLAGS;
    }
    if (status == MM_OK) {
        status = mmi_paging_check_range(pt, range);
    }
    return status != MM_OK ? status : pt->backend.ops->set_software(pt, range, set, clear, flags);
}

mm_status_t mm_paging_set_key(struct mm_pagetable *pt, struct mm_vrange range, uint32_t key,
                              uint32_t flags, struct mm_gather *gather)
{
    mm_status_t status =
        mmi_paging_check_edit(pt, range, flags, MM_PAGING_SPLIT | MM_PAGING_SKIP_HOLES, gather);

    if (status == MM_OK && key > 15) {
        status = MM_ERR_INVALID_ARGUMENT;
    }
    return status != MM_OK ? status : pt->backend.ops->set_key(pt, range, key, flags, gather);
}

mm_status_t mm_paging_harvest(struct mm_pagetable *pt, struct mm_vrange range, uint32_t what,
                              mm_paging_visit_fn fn, void *ctx, struct mm_gather *gather)
{
    mm_status_t status =
        mmi_paging_check_edit(pt, range, what, MM_PAGING_ACCESSED | MM_PAGING_DIRTY, gather);

    if (status == MM_OK && what == 0) {
        status = MM_ERR_INVALID_FLAGS;
    }
    return status != MM_OK ? status : pt->backend.ops->harvest(pt, range, what, fn, ctx, gather);
}

mm_status_t mm_paging_take(struct mm_pagetable *pt, struct mm_vrange range, uint32_t flags,
                           mm_paging_taken_fn fn, void *ctx, struct mm_gather *gather)
{
    mm_status_t status = mmi_paging_check_edit(
        pt, range, flags, MM_PAGING_SPLIT | MM_PAGING_SKIP_HOLES | MM_PAGING_RELEASE, gather);

    if (status == MM_OK && fn == NULL) {
        status = MM_ERR_INVALID_ARGUMENT;
    }
    return status != MM_OK ? status : pt->backend.ops->take(pt, range, flags, fn, ctx, gather);
}

/* --- cursors ---------------------------------------------------------------------------------- */

static mm_status_t check_cursor(const struct mm_paging_cursor *cursor)
{
    if (cursor == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    return cursor->magic == MM_PAGING_CURSOR_MAGIC ? mmi_pagetable_check(cursor->pt)
                                                   : MM_ERR_NOT_INITIALIZED;
}

mm_status_t mm_paging_cursor_begin(struct mm_paging_cursor *cursor, struct mm_pagetable *pt,
                                   struct mm_vrange range)
{
    static const struct mm_paging_cursor none;
    mm_status_t status = mmi_pagetable_check(pt);

    if (cursor == NULL || status != MM_OK) {
        return cursor == NULL ? MM_ERR_INVALID_ARGUMENT : status;
    }
    if (((range.start.raw | range.len) & MM_PAGE_MASK) != 0) {
        return MM_ERR_NOT_ALIGNED;
    }
    status = mmi_paging_check_walk(pt, range);
    if (status != MM_OK) {
        return status;
    }
    *cursor = none;
    cursor->magic = MM_PAGING_CURSOR_MAGIC;
    cursor->pt = pt;
    cursor->range = range;
    cursor->place = range.start;
    return MM_OK;
}

mm_status_t mm_paging_cursor_seek(struct mm_paging_cursor *cursor, mm_vaddr_t at)
{
    mm_status_t status = check_cursor(cursor);

    if (status != MM_OK) {
        return status;
    }
    if ((at.raw & MM_PAGE_MASK) != 0) {
        return MM_ERR_NOT_ALIGNED;
    }
    if (at.raw - cursor->range.start.raw >= cursor->range.len) {
        return MM_ERR_INVALID_ADDRESS;
    }
    cursor->place = at;
    cursor->at_end = 0;
    return MM_OK;
}

mm_status_t mm_paging_cursor_next(struct mm_paging_cursor *cursor, struct mm_slot *out)
{
    mm_status_t status = check_cursor(cursor);

    if (status == MM_OK && out == NULL) {
        status = MM_ERR_INVALID_ARGUMENT;
    }
    return status != MM_OK ? status : cursor->pt->backend.ops->cursor_next(cursor, out);
}

mm_status_t mm_paging_cursor_find(struct mm_paging_cursor *cursor, mm_vaddr_t at,
                                  struct mm_mapping *out)
{
    mm_status_t status = check_cursor(cursor);

    if (status == MM_OK && out == NULL) {
        status = MM_ERR_INVALID_ARGUMENT;
    }
    if (status == MM_OK && at.raw - cursor->range.start.raw >= cursor->range.len) {
        status = MM_ERR_INVALID_ADDRESS;
    }
    return status != MM_OK ? status : cursor->pt->backend.ops->cursor_find(cursor, at, out);
}

/** What edits of `len` bytes at the place have in common. */
static mm_status_t check_place(const struct mm_paging_cursor *cursor, uint64_t len)
{
    if (cursor->at_end != 0) {
        return MM_ERR_INVALID_ADDRESS;
    }
    if (cursor->range.len - (cursor->place.raw - cursor->range.start.raw) < len) {
        return MM_ERR_INVALID_SIZE;
    }
    return mmi_paging_check_range(cursor->pt, mm_vrange(cursor->place, len));
}

mm_status_t mm_paging_cursor_map(struct mm_paging_cursor *cursor, mm_paddr_t paddr, uint64_t len,
                                 mm_prot_t prot, mm_memtype_t type)
{
    mm_status_t status = check_cursor(cursor);

    if (status == MM_OK && (uint32_t)type >= MM_MEMTYPE_COUNT) {
        status = MM_ERR_INVALID_ARGUMENT;
    }
    if (status == MM_OK) {
        status = mmi_paging_check_prot(cursor->pt, prot);
    }
    if (status == MM_OK && !is_leaf_size(len)) {
        status = MM_ERR_INVALID_SIZE;
    }
    if (status == MM_OK) {
        status = check_place(cursor, len);
    }
    if (status == MM_OK && !mm_is_aligned(cursor->place.raw | paddr.raw, len)) {
        status = MM_ERR_NOT_ALIGNED;
    }
    if (status == MM_OK) {
        status = mmi_paging_check_paddr(cursor->pt, paddr, len);
    }
    return status != MM_OK ? status
                           : cursor->pt->backend.ops->cursor_map(
                                 cursor, paddr, len, mmi_paging_prot(cursor->pt, prot), type);
}

/** What unmap and protect have in common. A leaf that is changed goes whole: only an adopted root
 * can hold one that sticks out of what was declared. */
static mm_status_t check_cursor_edit(const struct mm_paging_cursor *cursor,
                                     const struct mm_gather *gather)
{
    mm_status_t status = check_cursor(cursor);
    struct mm_slot there;

    if (status == MM_OK && !mmi_gather_is_for(gather, cursor->pt)) {
        status = MM_ERR_INVALID_ARGUMENT;
    }
    if (status == MM_OK && cursor->pt->adopted != 0 && cursor->at_end == 0) {
        status = mm_paging_slot_get(cursor->pt, cursor->place, &there);
        if (status == MM_OK && there.kind != MM_SLOT_EMPTY) {
            status = mmi_paging_check_range(cursor->pt, there.page);
        }
    }
    return status;
}

mm_status_t mm_paging_cursor_unmap(struct mm_paging_cursor *cursor, uint32_t flags,
                                   struct mm_gather *gather)
{
    mm_status_t status = check_cursor_edit(cursor, gather);

    if (status == MM_OK && (flags & ~MM_PAGING_RELEASE) != 0) {
        status = MM_ERR_INVALID_FLAGS;
    }
    if (status == MM_OK) {
        status = check_place(cursor, MM_PAGE_SIZE);
    }
    return status != MM_OK ? status : cursor->pt->backend.ops->cursor_unmap(cursor, flags, gather);
}

mm_status_t mm_paging_cursor_protect(struct mm_paging_cursor *cursor, mm_prot_t prot,
                                     struct mm_gather *gather)
{
    mm_status_t status = check_cursor_edit(cursor, gather);

    if (status == MM_OK) {
        status = mmi_paging_check_prot(cursor->pt, prot);
    }
    if (status == MM_OK) {
        status = check_place(cursor, MM_PAGE_SIZE);
    }
    return status != MM_OK ? status
                           : cursor->pt->backend.ops->cursor_protect(
                                 cursor, mmi_paging_prot(cursor->pt, prot), gather);
}
