// SPDX-License-Identifier: MIT
/**
 * One page at a time under a shared lock (page.h): a part of radix.h, which includes it.
 *
 * Where the tables exist and a direct map shows them, a step is page_slot() and what follows it in
 * one line. All else goes the way of radix_slot.h, out of line.
 */
#ifndef MMI_PAGING_RADIX_PAGE_H
#define MMI_PAGING_RADIX_PAGE_H

#include "radix.h"

RADIX_INLINE void page_describe(const codec_t *cx, uint64_t at, uint64_t slot, unsigned level,
                                uint64_t rights, struct mmi_page *out)
{
    struct mm_mapping leaf;

    out->raw = slot;
    out->shift = (uint8_t)level_shift(level);
    if (MMI_LIKELY(codec_is_leaf(slot))) {
        codec_decode(cx, slot, level, rights, &leaf);
        out->kind = level == 0 ? MMI_PAGE_LEAF : MMI_PAGE_LARGE;
        out->paddr = mm_paddr(leaf.paddr.raw + (at - slot_first(at, level)));
        out->prot = leaf.prot;
        out->accessed = leaf.accessed;
        out->dirty = leaf.dirty;
        return;
    }
    out->kind = slot == 0 ? MMI_PAGE_HOLE : MMI_PAGE_SOFT;
    out->paddr = mm_paddr(0);
    out->prot = MM_PROT_NONE;
    out->accessed = false;
    out->dirty = false;
}

/* --- looking ---------------------------------------------------------------------------------- */

RADIX_APART void page_look_far(const struct mm_pagetable *pt, uint64_t at, struct mmi_page *out)
{
    const codec_t *cx = codec_of(pt);
    struct probe p;

    probe_to(pt, cx, at, &p);
    table_put(pt, p.slots);
    page_describe(cx, at, p.slot, p.level, p.rights, out);
}

static void radix_page_look(const struct mm_pagetable *pt, uint64_t at, struct mmi_page *out)
{
    uint64_t *slot;

    if (MMI_LIKELY(pt->page_root != 0 && page_slot(pt, at, PAGE_SHARED, &slot))) {
        page_describe(codec_of(pt), at, mmi_load_acquire(slot), 0, codec_rights_all(), out);
        return;
    }
    page_look_far(pt, at, out);
}

/* --- filling ---------------------------------------------------------------------------------- */

/** A table is missing, or this is no page that page_slot() can find. */
RADIX_APART mm_status_t page_fill_far(struct mm_pagetable *pt, uint64_t at, mm_paddr_t paddr,
                                      mm_prot_t prot)
{
    const codec_t *cx = codec_of(pt);
    uint64_t bits = codec_prot(cx, mmi_paging_prot(pt, prot));
    const struct exchange e = {
        .at = at,
        .now = codec_leaf(cx, 0, paddr, bits, MM_MEMTYPE_WB),
        .bits = bits,
        .type = MM_MEMTYPE_WB,
    };
    struct mm_slot there;

    return exchange_make(pt, cx, &e, &there);
}

static mm_status_t radix_page_fill(struct mm_pagetable *pt, uint64_t at, mm_paddr_t paddr,
                                   mm_prot_t prot)
{
    uint64_t bits = prot < MM_PROT_GLOBAL ? pt->page_bits[prot] : 0;
    uint64_t *slot;

    if (MMI_LIKELY(bits != 0 && page_slot(pt, at, PAGE_SHARED, &slot))) {
        uint64_t old = 0;

        if (MMI_UNLIKELY(!mmi_cas(slot, &old, paddr.raw | bits))) {
            return MM_ERR_BUSY;
        }
        pair_up(pt, at, at); /* whoever linked it: this page is in it */
        return MM_OK;
    }
    return page_fill_far(pt, at, paddr, prot);
}

/* --- exchanging ------------------------------------------------------------------------------- */

/** Exchange the slot, of level 0, if it holds what was seen. */
RADIX_INLINE mm_status_t page_exchange(const codec_t *cx, uint64_t at, uint64_t *slot,
                                       uint64_t rights, struct mmi_page *seen, mm_paddr_t paddr,
                                       uint64_t bits)
{
    uint64_t old = seen->raw;
    uint64_t now;

    if (codec_paddr(cx, old, 0).raw == paddr.raw) {
        now = codec_reprotect(cx, old, 0, bits);
    } else {
        /* A copy of what was written is as much written to. */
        now = codec_leaf(cx, 0, paddr, bits, codec_type(cx, old, 0));
        now = codec_set_used(now, false, codec_dirty(old));
        now = codec_set_key(codec_set_software(now, codec_software(old)), codec_key(old));
    }
    if (MMI_LIKELY(mmi_cas(slot, &old, now))) {
        return MM_OK;
    }
    page_describe(cx, at, old, 0, rights, seen);
    return MM_ERR_BUSY;
}

RADIX_APART mm_status_t page_swap_far(struct mm_pagetable *pt, uint64_t at, struct mmi_page *seen,
                                      mm_paddr_t paddr, mm_prot_t prot)
{
    const codec_t *cx = codec_of(pt);
    uint64_t bits = codec_prot(cx, mmi_paging_prot(pt, prot));
    mm_status_t status = MM_ERR_PERMISSION_DENIED;
    struct probe p;

    probe_to(pt, cx, at, &p);
    if (p.level != 0) {
        page_describe(cx, at, p.slot, p.level, p.rights, seen);
        status = MM_ERR_BUSY;
    } else if (codec_rights_allow(p.rights, bits)) {
        status = page_exchange(cx, at, &p.slots[p.index], p.rights, seen, paddr, bits);
    }
    table_put(pt, p.slots);
    return status;
}

static mm_status_t radix_page_swap(struct mm_pagetable *pt, uint64_t at, struct mmi_page *seen,
                                   mm_paddr_t paddr, mm_prot_t prot)
{
    const codec_t *cx = codec_of(pt);
    uint64_t *slot;

    if (MMI_LIKELY(pt->page_root != 0 && page_slot(pt, at, PAGE_SHARED, &slot))) {
        return page_exchange(cx, at, slot, codec_rights_all(), seen, paddr, codec_prot(cx, prot));
    }
    return page_swap_far(pt, at, seen, paddr, prot);
}

#endif
