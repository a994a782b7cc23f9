// SPDX-License-Identifier: MIT
/**
 * Cursors: a part of radix.h, which includes it.
 *
 * A cursor remembers the table of level 0 that it was in, by the address at which a direct map
 * shows it. Such a table leaves the tree only by being unlinked, which counts up; nothing else makes
 * the memory void. With a physmap that has ops nothing stays mapped between calls, and nothing is
 * remembered. What a remembered table cannot do (large leaves, missing tables, tables that become
 * empty) is left to the calls that work on ranges.
 */
#ifndef MMI_PAGING_RADIX_CURSOR_H
#define MMI_PAGING_RADIX_CURSOR_H

#include "radix.h"

_Static_assert(RADIX_SLOTS == 512 && CODEC_SHIFT == MM_PAGE_SHIFT,
               "mm_paging_cursor_translate(), which is inline");

static inline bool cursor_knows(const struct mm_paging_cursor *c, uint64_t at)
{
    return at - c->first < c->len && c->nr_unlinked == c->pt->nr_unlinked;
}

static inline uint64_t *cursor_slot(const struct mm_paging_cursor *c, uint64_t at)
{
    return &c->slots[slot_index(at, 0)];
}

/** Walk to an address of the range, and remember the table if it is one of level 0. What hangs from
 * the kernel's entries of a user root is not: its tables go without a word to this root. */
static void cursor_walk(struct mm_paging_cursor *c, const codec_t *cx, uint64_t at, struct probe *p)
{
    probe_to(c->pt, cx, at, p);
    if (p->level == 0 && c->pt->physmap.ops == NULL &&
        root_slot_is_own(c->pt, cx, slot_index(at, root_level(cx)))) {
        uint64_t first = slot_first(at, 1);
        uint64_t last = slot_last(at, 1);
        uint64_t end = mm_vrange_last(c->range).raw;

        c->first = first > c->range.start.raw ? first : c->range.start.raw;
        c->len = (last < end ? last : end) - c->first + 1;
        c->slots = p->slots;
        c->nr_unlinked = c->pt->nr_unlinked;
        c->rights = p->rights;
        c->address = codec_page_mask(cx);
        c->alike = c->address;
    }
}

/** The slot of an address of the remembered table. */
static inline void cursor_recall(const struct mm_paging_cursor *c, uint64_t at, struct probe *p)
{
    p->slots = c->slots;
    p->slot = mmi_load(cursor_slot(c, at));
    p->rights = c->rights;
    p->level = 0;
    p->index = slot_index(at, 0);
}

/** The slot of an address of the range: out of the remembered table, or by a walk. */
static inline void cursor_look(struct mm_paging_cursor *c, const codec_t *cx, uint64_t at,
                               struct probe *p)
{
    if (!cursor_knows(c, at)) {
        cursor_walk(c, cx, at, p);
        table_put(c->pt, p->slots);
        return;
    }
    cursor_recall(c, at, p);
}

/** Put the place behind the slot that ends with `last`. */
static inline void cursor_go_on(struct mm_paging_cursor *c, uint64_t last)
{
    if (last >= mm_vrange_last(c->range).raw) {
        c->at_end = 1;
    } else {
        c->place = mm_vaddr(last + 1);
    }
}

static mm_status_t radix_cursor_find(struct mm_paging_cursor *c, mm_vaddr_t at,
                                     struct mm_mapping *out)
{
    const codec_t *cx = codec_of(c->pt);
    struct probe p;
    mm_status_t status;

    cursor_look(c, cx, at.raw, &p);
    status = translate_end(cx, at.raw, p.slot, p.level, p.rights, out);
    if (status == MM_OK && p.level == 0 && cursor_knows(c, at.raw) && out->prot != MM_PROT_NONE) {
        c->alike = p.slot & ~c->address;
        c->known = *out;
    }
    return status;
}

static mm_status_t radix_cursor_next(struct mm_paging_cursor *c, struct mm_slot *out)
{
    const codec_t *cx = codec_of(c->pt);
    struct probe p;

    while (c->at_end == 0) {
        uint64_t at = c->place.raw;

        cursor_look(c, cx, at, &p);
        cursor_go_on(c, slot_last(at, p.level));
        if (p.slot != 0) {
            slot_describe(cx, at, p.slot, p.level, p.rights, out);
            return MM_OK;
        }
    }
    return MM_ERR_NOT_MAPPED;
}

/* --- edits: one that fails has not changed the cursor ----------------------------------------- */

/** Remember the table of an address, after an edit that could not do with memory. */
RADIX_APART void cursor_learn(struct mm_paging_cursor *c, const codec_t *cx, uint64_t at)
{
    struct probe p;

    cursor_walk(c, cx, at, &p);
    table_put(c->pt, p.slots);
}

static mm_status_t radix_cursor_map(struct mm_paging_cursor *c, mm_paddr_t paddr, uint64_t len,
                                    mm_prot_t prot, mm_memtype_t type)
{
    struct mm_pagetable *pt = c->pt;
    const codec_t *cx = codec_of(pt);
    uint64_t at = c->place.raw;
    unsigned level = size_level(len);
    mm_status_t status;

    if (level > codec_max_leaf(cx) || !codec_has_type(cx, type)) {
        return MM_ERR_UNSUPPORTED;
    }
    if (level == 0 && cursor_knows(c, at)) {
        uint64_t bits = codec_prot(cx, prot);
        uint64_t *slot = cursor_slot(c, at);

        if (mmi_load(slot) != 0) {
            return MM_ERR_ALREADY_MAPPED;
        }
        if (!codec_rights_allow(c->rights, bits)) {
            return MM_ERR_PERMISSION_DENIED;
        }
        mmi_store_release(slot, codec_leaf(cx, 0, paddr, bits, type));
        pt->nr_leaves[0]++;
    } else {
        status = radix_map(pt, mm_vrange(c->place, len), paddr, prot, type, 0);
        if (status != MM_OK) {
            return status;
        }
        cursor_learn(c, cx, at);
    }
    cursor_go_on(c, at + (len - 1));
    return MM_OK;
}

/** The leaf or soft slot at the place, if it is to be edited whole. */
static mm_status_t cursor_take(const struct mm_paging_cursor *c, const codec_t *cx, struct probe *p)
{
    uint64_t at = c->place.raw;

    if (cursor_knows(c, at)) {
        cursor_recall(c, at, p);
    } else {
        probe_to(c->pt, cx, at, p);
        table_put(c->pt, p->slots);
    }
    if (p->slot == 0) {
        return MM_ERR_NOT_MAPPED;
    }
    return slot_first(at, p->level) != at || slot_last(at, p->level) > mm_vrange_last(c->range).raw
               ? MM_ERR_HUGE_PAGE
               : MM_OK;
}

/** Whether a table holds nothing; looks first where ascending work finds something. */
static bool empty_but(const uint64_t *slots, unsigned index)
{
    for (unsigned n = 1; n < RADIX_SLOTS; n++) {
        if (mmi_load(&slots[(index + n) % RADIX_SLOTS]) != 0) {
            return false;
        }
    }
    return true;
}

static mm_status_t radix_cursor_unmap(struct mm_paging_cursor *c, uint32_t flags,
                                      struct mm_gather *gather)
{
    struct mm_pagetable *pt = c->pt;
    const codec_t *cx = codec_of(pt);
    uint64_t at = c->place.raw;
    uint64_t last;
    struct probe p;
    mm_status_t status = cursor_take(c, cx, &p);

    if (status != MM_OK) {
        return status;
    }
    last = slot_last(at, p.level);
    if (p.level != 0 || !cursor_knows(c, at) || empty_but(c->slots, p.index)) {
        status = radix_unmap(pt, mm_vrange(c->place, last - at + 1), flags, gather);
        if (status == MM_OK) {
            cursor_learn(c, cx, at);
        }
    } else {
        mmi_store(cursor_slot(c, at), 0);
        if (codec_is_soft(p.slot)) {
            pt->nr_soft--;
        } else {
            pt->nr_leaves[0]--;
            mm_gather_add_range(gather, mm_vrange(c->place, MM_PAGE_SIZE));
            if ((flags & MM_PAGING_RELEASE) != 0) {
                mm_gather_add_frames(gather, mm_pfn_of(codec_paddr(cx, p.slot, 0)), 1);
            }
        }
    }
    if (status == MM_OK) {
        cursor_go_on(c, last);
    }
    return status;
}

static mm_status_t radix_cursor_protect(struct mm_paging_cursor *c, mm_prot_t prot,
                                        struct mm_gather *gather)
{
    struct mm_pagetable *pt = c->pt;
    const codec_t *cx = codec_of(pt);
    uint64_t at = c->place.raw;
    struct probe p;
    mm_status_t status = cursor_take(c, cx, &p);

    if (status == MM_OK && codec_is_soft(p.slot)) {
        status = MM_ERR_NOT_MAPPED;
    }
    if (status != MM_OK) {
        return status;
    }
    if (p.level != 0 || !cursor_knows(c, at)) {
        status = radix_protect(pt, mm_vrange(c->place, level_size(p.level)), prot, 0, gather);
        if (status == MM_OK) {
            cursor_learn(c, cx, at);
        }
    } else if (!codec_rights_allow(c->rights, codec_prot(cx, prot))) {
        status = MM_ERR_PERMISSION_DENIED;
    } else {
        uint64_t bits = codec_prot(cx, prot);
        uint64_t old = p.slot;
        uint64_t now = codec_reprotect(cx, old, 0, bits);

        while (now != old && !slot_change(cursor_slot(c, at), &old, now, radix_is_live(pt))) {
            now = codec_reprotect(cx, old, 0, bits);
        }
        if (now != old) {
            mm_gather_add_range(gather, mm_vrange(c->place, MM_PAGE_SIZE));
        }
    }
    if (status == MM_OK) {
        cursor_go_on(c, slot_last(at, p.level));
    }
    return status;
}

#endif
