// SPDX-License-Identifier: MIT
/**
 * Memory types of leaves: a part of radix.h, which includes it.
 *
 * Where the hardware may walk, a leaf changes its type in two steps with a flush between them, so
 * that no two CPUs, nor two entries of one TLB, ever have one page with two types:
 *
 *     leaf, old type  ->  broken: not present, all but the type kept  ->  flush  ->  leaf, new type
 *
 * The first step is a compare-and-exchange: accessed and dirty bits that come until then are kept,
 * and none come after, because the hardware finds no leaf (SDM vol. 3A, 4.8).
 */
#ifndef MMI_PAGING_RADIX_TYPE_H
#define MMI_PAGING_RADIX_TYPE_H

#include "radix.h"

struct retype {
    mm_memtype_t type;
    bool live;
    bool broken;       /**< a leaf was made not present */
    unsigned smallest; /**< level of the smallest leaf that a CPU may know */
    uint64_t first;    /**< what to flush: the range, and large leaves that stuck out of it */
    uint64_t last;
};

static mm_status_t retype_slots(struct sweep *s, unsigned i, unsigned end, unsigned *nr, void *arg)
{
    struct retype *r = arg;
    unsigned n = 0;

    for (; i + n <= end; n++) {
        uint64_t *at = &s->slots[i + n];
        uint64_t old = mmi_load(at);
        uint64_t now;

        if (old == 0) {
            continue;
        }
        if (codec_is_table(old, s->level)) {
            break;
        }
        if (!codec_is_leaf(old)) {
            continue;
        }
        now = codec_retype(s->cx, old, s->level, r->type);
        if (now == old) {
            continue;
        }
        if (!r->live || !codec_is_present(old)) {
            mmi_store(at, now);
            continue;
        }
        r->broken = true;
        r->smallest = s->level < r->smallest ? s->level : r->smallest;
        while (!mmi_cas(at, &old, codec_break(s->cx, old, s->level))) {
        }
    }
    *nr = n;
    return MM_OK;
}

static mm_status_t mend_slots(struct sweep *s, unsigned i, unsigned end, unsigned *nr, void *arg)
{
    const struct retype *r = arg;
    unsigned n = 0;

    for (; i + n <= end; n++) {
        uint64_t *at = &s->slots[i + n];
        uint64_t slot = mmi_load(at);

        if (codec_is_table(slot, s->level)) {
            break;
        }
        if (codec_is_broken(slot)) {
            mmi_store_release(at, codec_mend(s->cx, slot, s->level, r->type));
        }
    }
    *nr = n;
    return MM_OK;
}

RADIX_APART void retype_sweep(const struct mm_pagetable *pt, struct retype *r,
                              struct mm_vrange range)
{
    const struct sweep_hooks hooks = {.slots = retype_slots};
    struct sweep s;

    sweep_begin(&s, pt, range.start.raw, mm_vrange_last(range).raw);
    (void)sweep_run(&s, hooks, r);
}

RADIX_APART void mend_sweep(const struct mm_pagetable *pt, struct retype *r, struct mm_vrange range)
{
    const struct sweep_hooks hooks = {.slots = mend_slots};
    struct sweep s;

    sweep_begin(&s, pt, range.start.raw, mm_vrange_last(range).raw);
    (void)sweep_run(&s, hooks, r);
}

/** Flush the leaf at `at` whole: it may be about to be split. */
static void retype_widen(const struct mm_pagetable *pt, const codec_t *cx, struct retype *r,
                         uint64_t at)
{
    struct probe p;

    probe_to(pt, cx, at, &p);
    table_put(pt, p.slots);
    if (p.slot != 0) {
        r->first = slot_first(at, p.level) < r->first ? slot_first(at, p.level) : r->first;
        r->last = slot_last(at, p.level) > r->last ? slot_last(at, p.level) : r->last;
    }
}

static mm_status_t radix_set_type(struct mm_pagetable *pt, struct mm_vrange range,
                                  mm_memtype_t type, uint32_t flags)
{
    const codec_t *cx = codec_of(pt);
    struct retype r = {
        .type = type,
        .live = radix_is_live(pt),
        .smallest = CODEC_LEAF_LEVELS - 1,
        .first = range.start.raw,
        .last = mm_vrange_last(range).raw,
    };
    struct plan plan;
    bool split;
    mm_status_t status;

    if (!codec_has_type(cx, type)) {
        return MM_ERR_UNSUPPORTED;
    }
    status = edit_prepare(pt, cx, range, flags | EDIT_SOFT_STAYS, 0, &plan);
    if (status != MM_OK) {
        return status;
    }
    split = plan.nr_spare != 0;
    if (split) {
        r.smallest = 0; /* a CPU may find what is there between one split and the next below it */
        retype_widen(pt, cx, &r, range.start.raw);
        retype_widen(pt, cx, &r, mm_vrange_last(range).raw);
    }
    split_ends(pt, cx, range, &plan, NULL);
    retype_sweep(pt, &r, range);
    if (r.live && (split || r.broken)) {
        mmi_paging_flush_now(pt, mm_vrange(mm_vaddr(r.first), r.last - r.first + 1),
                             level_shift(r.smallest));
    }
    if (r.broken) {
        mend_sweep(pt, &r, range);
    }
    return MM_OK;
}

#endif
