// SPDX-License-Identifier: MIT
/**
 * Remap: a mapping grows, shrinks or moves.
 *
 * A mapping that moves takes its leaves along. Each is read out of its slot by an exchange, so that
 * what the hardware set up to that moment moves too, and written where it belongs:
 *
 *     old place    |..A..B.....CCCC...|          A, B: pages; C: a leaf of 2 MiB
 *     new place           |..A..B.....CCCC...|   if both places lie alike in 2 MiB
 *                         |..A..B.....cccc...|   else it is cut into 512 slots
 *
 * Before the first slot changes there are tables for all that will be written, counted from the
 * leaves that are there; nodes; and frames, if what is new must be there at once. So nothing can
 * fail half-way. One flush ends it, before the lock is left: no CPU reaches the old place when
 * somebody else can map something there.
 */
#include "internal.h"

#include <mm/paging_slots.h>

/** What moves where. */
struct move {
    struct mm_space *space;
    uint64_t old;
    uint64_t old_len;
    uint64_t moved; /* bytes from `old` that are mapped after too */
    uint64_t to;
    uint64_t new_len;
    struct mmi_region_attr attr; /* of the region that `old` lies in */
    struct mmi_space_edit edit;
    struct mmi_space_spare pages;
};

/* --- checking a request ----------------------------------------------------------------------- */

static mm_status_t check(const struct mm_space *space, struct mm_vrange old, uint32_t flags,
                         uint64_t to, struct move *m)
{
    const struct mm_space_layout *layout = &space->layout;
    mm_status_t status;

    if ((flags & ~MM_SPACE_REMAP_FLAGS_ALL) != 0 ||
        (flags & MM_SPACE_REMAP_FLAGS_ALL) == MM_SPACE_REMAP_FIXED) {
        return MM_ERR_INVALID_FLAGS;
    }
    if (m->new_len == 0 || !mm_align_up(m->new_len, MM_PAGE_SIZE, &m->new_len)) {
        return MM_ERR_INVALID_SIZE;
    }
    status = mmi_space_whole_pages(space, old, &m->old_len);
    if (status != MM_OK || (flags & MM_SPACE_REMAP_FIXED) == 0) {
        return status;
    }
    if (!mm_is_aligned(to, MM_PAGE_SIZE)) {
        return MM_ERR_NOT_ALIGNED;
    }
    if (!mm_range_covers(layout->lowest, layout->top - layout->lowest, to, m->new_len) ||
        (to < m->old + m->old_len && m->old < to + m->new_len)) {
        return MM_ERR_INVALID_ADDRESS;
    }
    return MM_OK;
}

/** The region that holds all of `old`, or why there is none. */
static mm_status_t find_one(const struct move *m, const struct mmi_region **out)
{
    const struct mmi_region *n = mmi_regions_find(&m->space->regions, m->old);
    uint64_t hole;

    if (!mmi_space_covered(m->space, m->old, m->old_len, &hole)) {
        return MM_ERR_NOT_MAPPED;
    }
    if (!mm_range_covers(n->start, n->len, m->old, m->old_len) ||
        (mmi_region_is_device(n) && m->new_len > m->old_len)) {
        return MM_ERR_PERMISSION_DENIED;
    }
    *out = n;
    return MM_OK;
}

/** Whether what is new must be there at once. */
static bool populates(const struct mmi_region_attr *attr)
{
    return (attr->flags & MM_SPACE_WIRED) != 0 && attr->prot != MM_PROT_NONE;
}

/* --- in place --------------------------------------------------------------------------------- */

static mm_status_t shrink(const struct move *m)
{
    struct mm_space *space = m->space;
    uint64_t start = m->old + m->new_len;
    uint64_t len = m->old_len - m->new_len;
    uint64_t hole;

    if (!mmi_space_covered(space, m->old, m->old_len, &hole)) {
        return MM_ERR_NOT_MAPPED;
    }
    return len == 0 ? MM_OK : mmi_space_remove_range(space, start, len);
}

static bool may_grow(const struct move *m, const struct mmi_region *n)
{
    return mmi_region_last(n) == m->old + (m->old_len - 1) &&
           mmi_space_is_free(m->space, m->old + m->old_len, m->new_len - m->old_len, false);
}

/* --- the new place ---------------------------------------------------------------------------- */

/** Where large leaves can move whole, if that may matter. */
static bool find_place(struct move *m)
{
    const struct mm_space *space = m->space;
    bool stack = (m->attr.flags & MM_SPACE_STACK) != 0;
    struct mmi_space_place place = {.len = m->new_len, .align = MM_PAGE_SIZE};

    if (m->new_len >= MM_SIZE_2M && ((m->attr.flags & MM_SPACE_HUGE) != 0 ||
                                     (space->table->nr_leaves[1] | space->table->nr_leaves[2]))) {
        struct mmi_space_place alike = place;

        alike.align = MM_SIZE_2M;
        alike.residue = m->old & (MM_SIZE_2M - 1);
        if (mmi_space_find_place(space, &alike, stack, &m->to)) {
            return true;
        }
    }
    return mmi_space_find_place(space, &place, stack, &m->to);
}

/** The size of the leaves that a leaf becomes where it moves by a distance: its own, or that of the
 * largest that both places can have. */
static uint64_t piece_size(uint64_t len, uint64_t by)
{
    if (len >= MM_SIZE_1G && mm_is_aligned(by, MM_SIZE_1G)) {
        return MM_SIZE_1G;
    }
    return len >= MM_SIZE_2M && mm_is_aligned(by, MM_SIZE_2M) ? MM_SIZE_2M : MM_PAGE_SIZE;
}

/* --- tables that will be needed --------------------------------------------------------------- */

#define TABLE_LEVELS 4u /* that can be missing: all but the root, with five levels */

struct need {
    uint64_t first; /* of what moves */
    uint64_t last;
    uint64_t by;
    uint64_t nr;
    uint64_t next[TABLE_LEVELS]; /* by level: the first table that was not counted yet */
};

/** Count the tables of a part of the new place, in ascending order. */
static void count(struct need *need, uint64_t first, uint64_t last, uint64_t piece)
{
    for (unsigned level = 0; level < TABLE_LEVELS; level++) {
        unsigned shift = 21 + 9 * level;
        uint64_t from = first >> shift;
        uint64_t end = (last >> shift) + 1;

        if (piece >> shift != 0) {
            continue; /* it is a leaf of such a table's size, or larger */
        }
        from = from > need->next[level] ? from : need->next[level];
        if (from < end) {
            need->nr += end - from;
            need->next[level] = end;
        }
    }
}

static bool count_leaf(void *ctx, const struct mm_mapping *leaf)
{
    struct need *need = ctx;
    uint64_t start = leaf->page.start.raw;
    uint64_t end = mm_vrange_last(leaf->page).raw;
    uint64_t piece = piece_size(leaf->page.len, need->by);

    if (start < need->first || end > need->last) {
        piece = MM_PAGE_SIZE; /* it will be cut first */
        start = start > need->first ? start : need->first;
        end = end < need->last ? end : need->last;
    }
    count(need, start + need->by, end + need->by, piece);
    return true;
}

/** Tables for the leaves that move, for what is new if it is populated, and for what is cut. */
static uint64_t need_tables(const struct move *m)
{
    const struct mm_space *space = m->space;
    struct need need = {.first = m->old, .last = m->old + (m->moved - 1), .by = m->to - m->old};

    mmi_space_must(
        space,
        mm_paging_walk(space->table, mm_vrange(mm_vaddr(m->old), m->moved), count_leaf, &need),
        "pages of a region cannot be walked", m->old);
    if (m->new_len > m->moved && populates(&m->attr)) {
        count(&need, m->to + m->moved, m->to + (m->new_len - 1), MM_PAGE_SIZE);
    }
    need.nr += mmi_space_need_tables(space, m->old, m->moved);
    if (m->old_len > m->moved) {
        need.nr += mmi_space_need_tables(space, m->old + m->moved, m->old_len - m->moved);
    }
    return need.nr;
}

static void add(struct mmi_space_need *need, struct mmi_space_need more)
{
    need->regions += more.regions;
    need->claims += more.claims;
}

/** What is unmapped at the new place, what is cut off at the old one, two cuts, the new region; and
 * for the claims of a device at both places. */
static struct mmi_space_need need_nodes(const struct move *m)
{
    const struct mm_space *space = m->space;
    uint64_t claims = mmi_space_devices_need(space, m->old, m->moved);
    struct mmi_space_need need = {mmi_regions_need_take(&space->regions, m->old, m->moved) + 1,
                                  claims != 0 ? claims + 1 : 0};

    if (!mmi_regions_free(&space->regions, m->to, m->new_len)) {
        add(&need, mmi_space_nodes_to_remove(space, m->to, m->new_len));
    }
    if (m->old_len > m->moved) {
        add(&need, mmi_space_nodes_to_remove(space, m->old + m->moved, m->old_len - m->moved));
    }
    return need;
}

/* --- moving: leaves --------------------------------------------------------------------------- */

static void tag(const struct move *m, uint64_t at, mm_paddr_t paddr)
{
    if (((m->attr.flags >> MMI_REGION_KIND_SHIFT) & 7u) != MM_REGION_DEVICE &&
        mm_frame_refs(m->space->spaces->frames, mm_pfn_of(paddr)) == 1) {
        mmi_space_tag_page(m->space, at, mm_pfn_of(paddr));
    }
}

/** Write a leaf that was taken out, whole or in pieces. A table that is there already, and empty,
 * wants pieces that fit into it; behind it they are as large as they were counted, because no table
 * was put aside for smaller ones. */
static void put(const struct move *m, const struct mm_slot *was)
{
    uint64_t at = was->page.start.raw + (m->to - m->old);
    uint64_t size = piece_size(was->page.len, m->to - m->old);
    uint64_t done = 0;

    while (done < was->page.len) {
        struct mm_slot seen = mm_slot_empty();
        struct mm_slot now = *was;
        mm_status_t status;

        now.paddr = mm_paddr(was->paddr.raw + done);
        status = mm_paging_slot_cas(m->space->table, mm_vaddr(at + done), size, &seen, &now, NULL);
        if (status == MM_ERR_ALREADY_MAPPED && size != MM_PAGE_SIZE) {
            size = size == MM_SIZE_1G ? MM_SIZE_2M : MM_PAGE_SIZE;
            continue;
        }
        mmi_space_must(m->space, status, "a page cannot be moved", at + done);
        if (size == MM_PAGE_SIZE) {
            tag(m, at + done, now.paddr);
        }
        done += size;
        if (mm_is_aligned(done, MM_SIZE_2M)) {
            size = piece_size(was->page.len - done, m->to - m->old);
        }
    }
}

/** Take a leaf out of its slot, as it is at that moment. */
static void take(const struct move *m, struct mm_slot *slot, struct mm_gather *gather)
{
    const struct mm_slot empty = mm_slot_empty();
    mm_status_t status;

    do {
        status = mm_paging_slot_cas(m->space->table, slot->page.start, slot->page.len, slot, &empty,
                                    gather);
    } while (status == MM_ERR_BUSY);
    mmi_space_must(m->space, status, "a page cannot be moved", slot->page.start.raw);
}

static void move_leaves(const struct move *m)
{
    const struct mm_vrange range = mm_vrange(mm_vaddr(m->old), m->moved);
    struct mm_space *space = m->space;
    struct mm_gather *gather = mmi_space_gather(space);
    struct mm_paging_cursor cursor;
    struct mm_slot slot;

    mmi_space_cut_leaves(space, m->old, m->moved, gather);
    mmi_space_must(space, mm_paging_cursor_begin(&cursor, space->table, range),
                   "pages of a region cannot be walked", m->old);
    while (mm_paging_cursor_next(&cursor, &slot) == MM_OK) {
        take(m, &slot, gather);
        put(m, &slot);
    }
    /* Tables that are empty now. */
    mmi_space_must(space, mm_paging_unmap(space->table, range, MM_PAGING_SKIP_HOLES, gather),
                   "pages of a region cannot be unmapped", m->old);
    mm_gather_end(gather);
}

/* --- moving: regions -------------------------------------------------------------------------- */

/** The part that moves becomes a region at its new place, with all that it has. */
static void move_region(struct move *m)
{
    struct mm_space *space = m->space;
    const struct mmi_region *n = mmi_regions_find(&space->regions, m->old);
    /* Pieces of a device's region name one claim: each gets its own, and then that one goes. */
    bool claims = mmi_region_is_device(n) && n->len != m->moved;
    struct mmi_region_list gone = {NULL, 0};

    mmi_regions_take(&space->regions, m->old, m->moved, &gone, &m->edit.nodes.regions);
    if (claims) {
        mmi_space_devices_claim_again(space, gone.head, &m->edit.nodes.claims);
    }
    m->attr = gone.head->attr;
    mmi_region_push(&m->edit.nodes.regions, mmi_region_pop(&gone));
    mmi_regions_insert(&space->regions, mmi_regions_spot(&space->regions, m->to), m->to, m->new_len,
                       &m->attr, &m->edit.nodes.regions);
    if (claims) {
        mmi_space_devices_settle(space, m->old, m->moved, &gone, &m->edit.nodes);
    }
}

/* --- moving ----------------------------------------------------------------------------------- */

/** Have all that the move needs: charges, nodes, tables and pages; or nothing. */
static mm_status_t prepare(struct move *m, uint64_t bytes, uint64_t nr_committed)
{
    struct mm_space *space = m->space;
    uint64_t nr = populates(&m->attr) ? (m->new_len - m->moved) >> MM_PAGE_SHIFT : 0;
    mm_status_t status = mmi_space_charge(space, bytes, nr_committed);

    if (status != MM_OK) {
        return status;
    }
    status =
        mmi_space_edit_begin(space, &m->edit, m->to, m->new_len, need_nodes(m), need_tables(m));
    if (status == MM_OK) {
        mmi_space_spare_init(space, &m->pages);
        status = mmi_space_charge_pages(space, nr)
                     ? mmi_space_spare_fill(&m->pages, MM_OWNER_ANONYMOUS, nr)
                     : MM_ERR_LIMIT;
        if (status != MM_OK) {
            mmi_space_edit_cancel(space, &m->edit);
        }
    }
    if (status != MM_OK) {
        mmi_space_uncharge(space, bytes, nr_committed);
    }
    return status;
}

static mm_status_t move(struct move *m)
{
    struct mm_space *space = m->space;
    uint64_t more = m->new_len - m->moved;
    uint64_t replaced = mmi_space_bytes_in(space, m->to, m->new_len);
    mm_status_t status =
        prepare(m, more > replaced ? more - replaced : 0, mmi_space_promise(space, &m->attr, more));

    if (status != MM_OK) {
        return status;
    }
    mmi_space_remove(space, m->to, m->new_len, &m->edit);
    if (m->old_len > m->moved) {
        mmi_space_remove(space, m->old + m->moved, m->old_len - m->moved, &m->edit);
    }
    move_leaves(m);
    move_region(m);
    mmi_space_put_spares(space, m->to + m->moved, m->attr.prot, &m->pages);
    mmi_space_edit_end(space, &m->edit);
    return MM_OK;
}

/* --- the call --------------------------------------------------------------------------------- */

static mm_status_t remap_locked(struct move *m, uint32_t flags)
{
    bool fixed = (flags & MM_SPACE_REMAP_FIXED) != 0;
    const struct mmi_region *n = NULL;
    mm_status_t status;

    if (!fixed && m->new_len <= m->old_len) {
        m->to = m->old;
        return shrink(m);
    }
    status = find_one(m, &n);
    if (status != MM_OK) {
        return status;
    }
    m->attr = n->attr;
    m->moved = m->new_len < m->old_len ? m->new_len : m->old_len;
    if (fixed) {
        return move(m);
    }
    if (may_grow(m, n)) {
        m->to = m->old;
        return mmi_space_add_region(m->space, mmi_region_behind(n), m->old + m->old_len,
                                    m->new_len - m->old_len, &m->attr, populates(&m->attr));
    }
    if ((flags & MM_SPACE_REMAP_MOVE) == 0) {
        return MM_ERR_NO_MEMORY;
    }
    return find_place(m) ? move(m) : MM_ERR_REGION_NOT_FOUND;
}

mm_status_t mm_space_remap(struct mm_space *space, struct mm_vrange old, uint64_t new_len,
                           uint32_t flags, mm_vaddr_t to, mm_vaddr_t *out)
{
    struct move m = {.space = space, .old = old.start.raw, .new_len = new_len, .to = to.raw};
    mm_status_t status;

    if (space == NULL || out == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (space->is_kernel != 0) {
        return MM_ERR_UNSUPPORTED;
    }
    status = check(space, old, flags, to.raw, &m);
    if (status != MM_OK) {
        return status;
    }
    mmi_space_lock(space);
    status = remap_locked(&m, flags);
    mmi_space_unlock(space);
    if (status == MM_OK) {
        *out = mm_vaddr(m.to);
    }
    return status;
}
