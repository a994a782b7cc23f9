// SPDX-License-Identifier: MIT
/**
 * What leaves say besides frame and protection: accessed and dirty harvested, software bits and
 * protection key changed. A part of radix.h, which includes it.
 */
#ifndef MMI_PAGING_RADIX_HARVEST_H
#define MMI_PAGING_RADIX_HARVEST_H

#include "radix.h"

/* --- accessed and dirty ----------------------------------------------------------------------- */

struct harvest {
    struct mm_gather *gather;
    mm_paging_visit_fn fn;
    void *ctx;
    bool accessed; /**< what is to be cleared */
    bool dirty;
    bool live;
    unsigned shift; /**< of the smallest leaf of the run */
    uint64_t first; /**< of a run of leaves that were cleared and that the gather was not told of */
    uint64_t len;
};

static void harvest_pass_on(struct harvest *h)
{
    if (h->len != 0) {
        mmi_gather_add(h->gather, mm_vrange(mm_vaddr(h->first), h->len), h->shift);
    }
    h->len = 0;
    h->shift = MMI_GATHER_NO_LEAF;
}

/** Read a leaf and clear its bits in one step; what it was. */
static uint64_t harvest_leaf(const struct harvest *h, uint64_t *at, uint64_t old)
{
    uint64_t now;

    do {
        now =
            codec_set_used(old, codec_accessed(old) && !h->accessed, codec_dirty(old) && !h->dirty);
    } while (now != old && !slot_change(at, &old, now, h->live));
    return old;
}

static mm_status_t harvest_slots(struct sweep *s, unsigned i, unsigned end, unsigned *nr, void *arg)
{
    struct harvest *h = arg;
    uint64_t size = level_size(s->level);
    unsigned n = 0;

    for (; i + n <= end && !s->stop; n++) {
        uint64_t *slot = &s->slots[i + n];
        uint64_t was = mmi_load(slot);
        struct mm_mapping leaf;

        if (codec_is_table(was, s->level)) {
            break;
        }
        if (!codec_is_leaf(was)) {
            continue;
        }
        was = harvest_leaf(h, slot, was);
        leaf.page = mm_vrange(mm_vaddr(sweep_address(s, i + n)), size);
        codec_decode(s->cx, was, s->level, s->rights[s->level], &leaf);
        if ((leaf.accessed && h->accessed) || (leaf.dirty && h->dirty)) {
            if (h->len == 0 || h->first + h->len != leaf.page.start.raw) {
                harvest_pass_on(h);
                h->first = leaf.page.start.raw;
            }
            h->len += size;
            see_leaf(&h->shift, s->level);
        }
        s->stop = h->fn != NULL && !h->fn(h->ctx, &leaf);
    }
    *nr = n;
    return MM_OK;
}

static mm_status_t radix_harvest(struct mm_pagetable *pt, struct mm_vrange range, uint32_t what,
                                 mm_paging_visit_fn fn, void *ctx, struct mm_gather *gather)
{
    const struct sweep_hooks hooks = {.slots = harvest_slots};
    struct harvest h = {
        .gather = gather,
        .fn = fn,
        .ctx = ctx,
        .accessed = (what & MM_PAGING_ACCESSED) != 0,
        .dirty = (what & MM_PAGING_DIRTY) != 0,
        .live = radix_is_live(pt),
        .shift = MMI_GATHER_NO_LEAF,
    };
    struct sweep s;
    mm_status_t status;

    sweep_begin(&s, pt, range.start.raw, mm_vrange_last(range).raw);
    status = sweep_run(&s, hooks, &h);
    harvest_pass_on(&h);
    return status;
}

/* --- software bits and keys ------------------------------------------------------------------- */

struct label {
    bool is_key;
    uint32_t key;
    uint32_t set;
    uint32_t clear;
    bool live;
    bool changed;
    unsigned shift; /**< of the smallest leaf that there may be */
};

static inline uint64_t label_leaf(const struct label *l, uint64_t slot)
{
    return l->is_key ? codec_set_key(slot, l->key)
                     : codec_set_software(slot, (codec_software(slot) & ~l->clear) | l->set);
}

static mm_status_t label_slots(struct sweep *s, unsigned i, unsigned end, unsigned *nr, void *arg)
{
    struct label *l = arg;
    unsigned n = 0;

    for (; i + n <= end; n++) {
        uint64_t *at = &s->slots[i + n];
        uint64_t old = mmi_load(at);
        uint64_t now;

        if (codec_is_table(old, s->level)) {
            break;
        }
        if (!codec_is_leaf(old)) {
            continue;
        }
        do {
            now = label_leaf(l, old);
            if (now == old) {
                break;
            }
            l->changed = true;
            see_leaf(&l->shift, s->level);
        } while (!slot_change(at, &old, now, l->live));
    }
    *nr = n;
    return MM_OK;
}

RADIX_APART mm_status_t label_sweep(const struct mm_pagetable *pt, struct label *l,
                                    struct mm_vrange range)
{
    const struct sweep_hooks hooks = {.slots = label_slots};
    struct sweep s;

    sweep_begin(&s, pt, range.start.raw, mm_vrange_last(range).raw);
    return sweep_run(&s, hooks, l);
}

static mm_status_t radix_set_software(struct mm_pagetable *pt, struct mm_vrange range, uint32_t set,
                                      uint32_t clear, uint32_t flags)
{
    struct label l = {.set = set, .clear = clear, .live = radix_is_live(pt)};
    struct plan plan;
    mm_status_t status = edit_prepare(pt, codec_of(pt), range, flags | EDIT_SOFT_STAYS, 0, &plan);

    return status != MM_OK ? status : label_sweep(pt, &l, range);
}

static mm_status_t radix_set_key(struct mm_pagetable *pt, struct mm_vrange range, uint32_t key,
                                 uint32_t flags, struct mm_gather *gather)
{
    const codec_t *cx = codec_of(pt);
    struct label l = {
        .is_key = true, .key = key, .live = radix_is_live(pt), .shift = MMI_GATHER_NO_LEAF};
    struct plan plan;
    mm_status_t status;

    if (key != 0 && !codec_has_keys(cx)) {
        return MM_ERR_UNSUPPORTED;
    }
    status = edit_prepare(pt, cx, range, flags | EDIT_SOFT_STAYS, 0, &plan);
    if (status != MM_OK) {
        return status;
    }
    split_ends(pt, cx, range, &plan, gather);
    status = label_sweep(pt, &l, range);
    if (l.changed) {
        mmi_gather_add(gather, range, l.shift);
    }
    return status;
}

#endif
