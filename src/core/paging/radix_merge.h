// SPDX-License-Identifier: MIT
/**
 * Merging leaves into larger ones, and taking empty tables out: a part of radix.h, which includes
 * it.
 *
 * Where the hardware may walk, a table is merged in three steps, for all tables of a range and one
 * size at a time, so that a range costs one flush a size:
 *
 *     entry -> table of 512 leaves      they agree
 *     entry not present, names the table    nothing new gets into a TLB or a paging-structure cache
 *     flush                             nothing old is left: neither small leaves nor a way to them
 *     entry = larger leaf               with accessed and dirty of all 512, read again: a CPU could
 *                                       set them up to the flush, by the way that it had cached
 *
 * The table is in no CPU's caches after the flush and goes straight back to the source.
 *
 * Tables behind the root's entries never merge: no leaf is that large.
 */
#ifndef MMI_PAGING_RADIX_MERGE_H
#define MMI_PAGING_RADIX_MERGE_H

#include "radix.h"

/* --- merge ------------------------------------------------------------------------------------ */

struct merge {
    struct mm_pagetable *pt;
    uint64_t within_first; /**< the declared range */
    uint64_t within_last;
    unsigned level; /**< of the tables that merge; the larger leaves are one above */
    bool live;
    bool unlinked; /**< a table was: [first, last] is to be flushed */
    uint64_t first;
    uint64_t last;
    uint64_t nr; /**< larger leaves made */
};

/** The leaf of the next level that the leaves of a table are; 0 if they disagree. */
static uint64_t table_joined(const codec_t *cx, uint64_t *slots, unsigned level)
{
    uint64_t first = mmi_load(&slots[0]);
    uint64_t seen = first;
    uint64_t used;
    uint64_t want;
    uint64_t step;

    /* The last slot tells early that a table is not yet full. */
    if (first == 0 || mmi_load(&slots[RADIX_SLOTS - 1]) == 0 || codec_is_table(first, level) ||
        !codec_is_leaf(first) ||
        (codec_paddr(cx, first, level).raw & (level_size(level + 1) - 1)) != 0) {
        return 0;
    }
    used = codec_used(first);
    want = first & ~used;
    step = codec_step(want, level);
    for (unsigned i = 1; i < RADIX_SLOTS; i++) {
        uint64_t slot = mmi_load(&slots[i]);

        want = step != 0 ? want + step : codec_next(want, level);
        if ((slot & ~used) != want) {
            return 0;
        }
        seen |= slot & used;
    }
    return codec_join(first | (seen & used), level + 1);
}

/** Leaves were changed under a call that its owner serialises. */
_Noreturn static void merge_torn(const struct merge *m, mm_pfn_t table)
{
    struct mm_panic_info info = {
        .room = "paging",
        .what = "a table was edited while it was merged",
        .address = mm_pfn_addr(table).raw,
        .recorded = "leaves that agree",
        .recorded_value = RADIX_SLOTS,
        .claimed = "leaves that do not",
    };

    mmi_panic(&m->pt->platform, &info);
}

/** Put the leaf in the place of the table, which nobody can reach any more. */
static void merge_put(struct merge *m, struct sweep *s, uint64_t *slot, uint64_t at, uint64_t leaf,
                      mm_pfn_t table)
{
    mmi_store_release(slot, leaf);
    m->pt->nr_tables--;
    m->pt->nr_unlinked++;
    leaves_gone(m->pt, m->level, RADIX_SLOTS);
    m->pt->nr_leaves[m->level + 1]++;
    m->nr++;
    table_free(m->pt, table);
    mmi_event(&m->pt->platform, MM_EVENT_LEAF_MERGE, m->pt, at, level_size(s->level));
}

static void merge_table(struct merge *m, struct sweep *s, uint64_t entry)
{
    uint64_t at = slot_first(s->at, s->level);
    uint64_t last = slot_last(s->at, s->level);
    uint64_t *slot = &s->slots[slot_index(s->at, s->level)];
    mm_pfn_t table = codec_table_pfn(s->cx, entry);
    uint64_t *below;
    uint64_t leaf;

    if (!codec_is_owned(entry) || at < m->within_first || last > m->within_last) {
        return;
    }
    below = table_get(s->pt, table);
    leaf = table_joined(s->cx, below, m->level);
    table_put(s->pt, below);
    /* What the entry does not allow, the leaf must not bring back. */
    if (leaf == 0 || !codec_rights_allow(codec_rights_below(codec_rights_all(), entry), leaf)) {
        return;
    }
    if (!m->live) {
        merge_put(m, s, slot, at, leaf, table);
        return;
    }
    mmi_store_release(slot, codec_chain(table));
    m->first = m->unlinked ? m->first : at;
    m->last = last;
    m->unlinked = true;
}

static bool merge_enter(struct sweep *s, uint64_t slot, void *arg)
{
    struct merge *m = arg;

    if (s->level > m->level + 1) {
        return true;
    }
    merge_table(m, s, slot);
    return false;
}

static bool finish_enter(struct sweep *s, uint64_t slot, void *arg)
{
    const struct merge *m = arg;

    (void)slot;
    return s->level > m->level + 1;
}

static mm_status_t finish_slots(struct sweep *s, unsigned i, unsigned end, unsigned *nr, void *arg)
{
    struct merge *m = arg;
    unsigned n = 0;

    for (; i + n <= end; n++) {
        uint64_t *at = &s->slots[i + n];
        uint64_t slot = mmi_load(at);

        if (codec_is_table(slot, s->level)) {
            break;
        }
        if (codec_is_chained(slot)) {
            mm_pfn_t table = codec_chain_pfn(slot);
            uint64_t *below = table_get(s->pt, table);
            uint64_t leaf = table_joined(s->cx, below, m->level);

            table_put(s->pt, below);
            if (leaf == 0) {
                merge_torn(m, table);
            }
            merge_put(m, s, at, sweep_address(s, i + n), leaf, table);
        }
    }
    *nr = n;
    return MM_OK;
}

RADIX_APART void merge_sweep(struct merge *m, uint64_t first, uint64_t last)
{
    const struct sweep_hooks hooks = {.slots = skip_slots, .enter = merge_enter};
    struct sweep s;

    sweep_begin(&s, m->pt, first, last);
    (void)sweep_run(&s, hooks, m);
}

RADIX_APART void finish_sweep(struct merge *m)
{
    const struct sweep_hooks hooks = {.slots = finish_slots, .enter = finish_enter};
    struct sweep s;

    sweep_begin(&s, m->pt, m->first, m->last);
    (void)sweep_run(&s, hooks, m);
}

static uint64_t radix_merge(struct mm_pagetable *pt, struct mm_vrange range,
                            struct mm_vrange within, uint32_t flags)
{
    unsigned max = codec_max_leaf(codec_of(pt));
    struct merge m = {
        .pt = pt,
        .within_first = within.start.raw,
        .within_last = mm_vrange_last(within).raw,
        .live = radix_is_live(pt),
    };

    if ((flags & MM_PAGING_ONLY_4K) != 0) {
        max = 0;
    } else if ((flags & MM_PAGING_MAX_2M) != 0 && max > 1) {
        max = 1;
    }
    for (m.level = 0; m.level < max; m.level++) {
        m.unlinked = false;
        merge_sweep(&m, slot_first(range.start.raw, m.level + 1),
                    slot_last(mm_vrange_last(range).raw, m.level + 1));
        if (m.unlinked) {
            mmi_paging_flush_now(pt, mm_vrange(mm_vaddr(m.first), m.last - m.first + 1),
                                 level_shift(m.level));
            finish_sweep(&m);
        }
    }
    return m.nr;
}

/* --- reclaim ---------------------------------------------------------------------------------- */

static bool reclaim_leave(struct sweep *s, void *arg)
{
    (void)arg;
    if (s->level + 1 == root_level(s->cx) && s->pt->is_user == 0) {
        return false; /* user roots hold copies of the entry */
    }
    return table_is_empty(s->slots);
}

static void reclaim_unlinked(struct sweep *s, mm_pfn_t table, void *arg)
{
    struct unmap *u = arg;

    unmap_unlinked(s, table, u);
    /* Dropping one page drops all ways to tables at its address (SDM vol. 3A, 4.10.4.1). */
    mm_gather_add_range(u->gather, mm_vrange(mm_vaddr(slot_first(s->at, s->level)), MM_PAGE_SIZE));
}

static void radix_reclaim(struct mm_pagetable *pt, struct mm_vrange range, struct mm_gather *gather)
{
    const struct sweep_hooks hooks = {
        .slots = skip_slots, .leave = reclaim_leave, .unlinked = reclaim_unlinked};
    struct unmap u = {.pt = pt, .gather = gather};
    struct sweep s;

    sweep_begin(&s, pt, range.start.raw, mm_vrange_last(range).raw);
    (void)sweep_run(&s, hooks, &u);
}

#endif
