// SPDX-License-Identifier: MIT
/**
 * Copy-on-write clone between two user roots: a part of radix.h, which includes it.
 *
 * Prepare takes a table for each that the copy lacks. Commit takes the right to write from each
 * leaf in one step and copies what it found, so the copy has the accessed and dirty bits too.
 * Pages go two at a time. Soft slots are copied as they are.
 */
#ifndef MMI_PAGING_RADIX_CLONE_H
#define MMI_PAGING_RADIX_CLONE_H

#include "radix.h"

struct clone {
    struct mm_pagetable *from;
    struct mm_pagetable *to;
    struct plan *plan;
    mm_paging_share_fn share;
    void *ctx;
    uint64_t first; /**< frames from here on were not yet reported */
    uint64_t end;   /**< up to, not including, here */
    bool live;
    bool changed;
    unsigned shift; /**< of the smallest leaf that there may be */
};

/** Anything in the way? */
static mm_status_t vacant_slots(struct sweep *s, unsigned i, unsigned end, unsigned *nr, void *arg)
{
    unsigned n = 0;

    (void)arg;
    for (; i + n <= end; n++) {
        uint64_t slot = mmi_load(&s->slots[i + n]);

        if (n > 0 && codec_is_table(slot, s->level)) {
            break;
        }
        if (slot != 0) {
            return MM_ERR_ALREADY_MAPPED;
        }
    }
    *nr = n;
    return MM_OK;
}

/** The tables of the copy that the leaves of this table need. */
static mm_status_t clone_reserve(struct sweep *s, unsigned i, unsigned end, unsigned *nr, void *arg)
{
    struct clone *c = arg;
    bool reserved = false;
    unsigned n = 0;

    for (; i + n <= end && !(s->level == 0 && reserved); n++) {
        uint64_t slot = mmi_load(&s->slots[i + n]);
        uint64_t at = sweep_address(s, i + n);
        struct probe p;
        mm_status_t status;

        if (slot == 0) {
            continue;
        }
        if (codec_is_table(slot, s->level)) {
            break;
        }
        if (at < s->first || slot_last(at, s->level) > s->last) {
            return MM_ERR_HUGE_PAGE;
        }
        probe_to(c->to, s->cx, at, &p);
        table_put(c->to, p.slots);
        if (p.level < s->level) {
            return MM_ERR_ALREADY_MAPPED; /* an empty table that an exchange of slots left */
        }
        status = plan_path(c->to, c->plan, at, p.level, s->level);
        if (status != MM_OK) {
            return status;
        }
        reserved = true;
    }
    *nr = s->level == 0 ? end - i + 1 : n; /* no page sticks out: the first one tells */
    return MM_OK;
}

/** The table of a level on the way to `at`, mapped; what is missing comes out of the plan. */
static uint64_t *path_make(struct mm_pagetable *pt, const codec_t *cx, struct plan *plan,
                           uint64_t at, unsigned level)
{
    uint64_t *slots = table_get(pt, root_pfn(pt));

    for (unsigned l = root_level(cx); l > level; l--) {
        uint64_t *slot = &slots[slot_index(at, l)];
        uint64_t was = mmi_load(slot);

        if (codec_is_table(was, l)) {
            slots = table_down(pt, slots, codec_table_pfn(cx, was));
        } else {
            mm_pfn_t table;
            uint64_t *below = plan_take(pt, plan, &table);

            table_link(cx, pt, slot, table);
            table_put(pt, slots);
            slots = below;
        }
    }
    return slots;
}

static void clone_report(struct clone *c)
{
    if (c->first != c->end && c->share != NULL) {
        c->share(c->ctx, mm_pfn(c->first), c->end - c->first);
    }
}

static inline void clone_shared(struct clone *c, uint64_t first, uint64_t nr)
{
    if (MMI_UNLIKELY(c->end != first)) {
        clone_report(c);
        c->first = first;
    }
    c->end = first + nr;
}

/** One leaf of any level. */
static void clone_leaf(struct sweep *s, struct clone *c, uint64_t *slot, uint64_t *copy)
{
    uint64_t old = mmi_load(slot);

    if (codec_is_soft(old)) {
        mmi_store_release(copy, old);
        c->to->nr_soft++;
        return;
    }
    while (codec_write_protect(old) != old) {
        c->changed = true;
        if (slot_change(slot, &old, codec_write_protect(old), c->live)) {
            break;
        }
    }
    mmi_store_release(copy, codec_write_protect(old));
    c->to->nr_leaves[s->level]++;
    clone_shared(c, mm_pfn_of(codec_paddr(s->cx, old, s->level)).raw,
                 level_size(s->level) >> CODEC_SHIFT);
}

/**
 * Pages that allow something, two neighbours at a time, in one exchange of 16 bytes where the
 * table is live: it is as much one step as one of 8 bytes (SDM vol. 3A, 9.1.2.2), and costs hardly
 * more. Up to the first pair that is not of that kind; returns how many pages were copied.
 */
RADIX_INLINE unsigned clone_pairs(struct clone *c, const codec_t *cx, uint64_t *slots,
                                  uint64_t *copy, unsigned nr, bool live)
{
    uint64_t mask = codec_page_mask(cx);
    uint64_t any = 0;
    uint64_t end = c->end << CODEC_SHIFT;
    unsigned n = 0;

    for (nr &= ~1u; n < nr; n += 2) {
        uint64_t a = mmi_load(&slots[n]);
        uint64_t b = mmi_load(&slots[n + 1]);

        if (MMI_UNLIKELY(!codec_is_present(a & b))) {
            break;
        }
        any |= a | b;
        while (codec_is_writable(a | b) && !slots_change(&slots[n], &a, &b, codec_without_write(a),
                                                         codec_without_write(b), live)) {
        }
        mmi_store_release(&copy[n], codec_without_write(a));
        mmi_store_release(&copy[n + 1], codec_without_write(b));
        if (MMI_UNLIKELY((a & mask) != end || (b & mask) != end + MM_PAGE_SIZE)) {
            c->end = end >> CODEC_SHIFT;
            clone_shared(c, (a & mask) >> CODEC_SHIFT, 1);
            clone_shared(c, (b & mask) >> CODEC_SHIFT, 1);
            end = (b & mask) - MM_PAGE_SIZE;
        }
        end += 2 * MM_PAGE_SIZE;
    }
    c->end = end >> CODEC_SHIFT;
    c->changed |= codec_is_writable(any);
    c->to->nr_leaves[0] += n;
    return n;
}

RADIX_APART unsigned clone_live_pairs(struct clone *c, const codec_t *cx, uint64_t *slots,
                                      uint64_t *copy, unsigned nr)
{
    return clone_pairs(c, cx, slots, copy, nr, true);
}

RADIX_APART unsigned clone_unused_pairs(struct clone *c, const codec_t *cx, uint64_t *slots,
                                        uint64_t *copy, unsigned nr)
{
    return clone_pairs(c, cx, slots, copy, nr, false);
}

static mm_status_t clone_slots(struct sweep *s, unsigned i, unsigned end, unsigned *nr, void *arg)
{
    struct clone *c = arg;
    uint64_t *copy = NULL;
    unsigned n = 0;

    see_leaf(&c->shift, s->level);
    while (i + n <= end) {
        uint64_t *at = &s->slots[i + n];
        uint64_t old = mmi_load(at);

        if (old != 0 && codec_is_table(old, s->level)) {
            break;
        }
        if (old != 0 && copy == NULL) {
            copy = path_make(c->to, s->cx, c->plan, sweep_address(s, i + n), s->level);
        }
        if (s->level == 0 && old != 0 && (i + n) % 2 == 0) {
            unsigned left = end - i - n + 1;

            n += c->live ? clone_live_pairs(c, s->cx, at, &copy[i + n], left)
                         : clone_unused_pairs(c, s->cx, at, &copy[i + n], left);
            if (i + n > end) {
                break;
            }
            at = &s->slots[i + n];
            old = mmi_load(at);
        }
        if (old != 0) {
            clone_leaf(s, c, at, &copy[i + n]);
        }
        n++;
    }
    if (copy != NULL) {
        table_put(c->to, copy);
    }
    *nr = n;
    return MM_OK;
}

RADIX_APART mm_status_t clone_sweep_vacant(const struct mm_pagetable *to, struct mm_vrange range)
{
    const struct sweep_hooks hooks = {.slots = vacant_slots};
    struct sweep s;

    sweep_begin(&s, to, range.start.raw, mm_vrange_last(range).raw);
    return sweep_run(&s, hooks, NULL);
}

RADIX_APART mm_status_t clone_sweep_reserve(struct clone *c, struct mm_vrange range)
{
    const struct sweep_hooks hooks = {.slots = clone_reserve};
    struct sweep s;

    sweep_begin(&s, c->from, range.start.raw, mm_vrange_last(range).raw);
    return sweep_run(&s, hooks, c);
}

RADIX_APART mm_status_t clone_sweep_commit(struct clone *c, struct mm_vrange range)
{
    const struct sweep_hooks hooks = {.slots = clone_slots};
    struct sweep s;

    sweep_begin(&s, c->from, range.start.raw, mm_vrange_last(range).raw);
    return sweep_run(&s, hooks, c);
}

static mm_status_t radix_clone(struct mm_pagetable *from, struct mm_pagetable *to,
                               struct mm_vrange range, mm_paging_share_fn share, void *ctx,
                               struct mm_gather *gather)
{
    struct plan plan;
    struct clone c = {
        .from = from,
        .to = to,
        .plan = &plan,
        .share = share,
        .ctx = ctx,
        .live = radix_is_live(from),
        .shift = MMI_GATHER_NO_LEAF,
    };
    mm_status_t status = clone_sweep_vacant(to, range);

    if (status != MM_OK) {
        return status;
    }
    plan_begin(&plan);
    status = clone_sweep_reserve(&c, range);
    if (status != MM_OK) {
        plan_abandon(to, &plan);
        return status;
    }
    status = clone_sweep_commit(&c, range);
    pair_up(to, range.start.raw, mm_vrange_last(range).raw);
    clone_report(&c);
    if (c.changed) {
        mmi_gather_add(gather, range, c.shift);
    }
    return status;
}

#endif
