// SPDX-License-Identifier: MIT
/**
 * Unmap, protect, replace and walk: a part of radix.h, which includes it.
 *
 * Only the two ends of a range can cut a large leaf; each cut needs at most one table for each
 * level that may hold leaves, less one. They are reserved first, then nothing can fail.
 *
 * The scan that looks for holes also notes what all slots have in common, and what any has. If the
 * range is pages that allow something and nothing else, then the commit need not look again.
 */
#ifndef MMI_PAGING_RADIX_EDIT_H
#define MMI_PAGING_RADIX_EDIT_H

#include "radix.h"

/* --- prepare ---------------------------------------------------------------------------------- */

/** A flag of edit_prepare() alone: a soft slot is a hole. */
#define EDIT_SOFT_STAYS (1u << 31)

struct scan {
    uint64_t bits; /**< what the tables above must allow */
    bool holes_ok;
    struct plan *plan;
    bool soft_stays; /**< a soft slot is a hole */
};

static mm_status_t scan_slots(struct sweep *s, unsigned i, unsigned end, unsigned *nr, void *arg)
{
    const struct scan *scan = arg;
    unsigned n = 0;

    if (s->level == 0 && codec_rights_allow(s->rights[0], scan->bits)) {
        uint64_t every = pages_look(&s->slots[i], end - i + 1, &scan->plan->any);

        if (codec_is_present(every)) {
            scan->plan->every &= every;
            *nr = end - i + 1;
            return MM_OK;
        }
    }
    scan->plan->every = 0; /* not pages alone */
    for (; i + n <= end; n++) {
        uint64_t slot = mmi_load(&s->slots[i + n]);
        bool hole = slot == 0 || (scan->soft_stays && codec_is_soft(slot));

        if (hole && !scan->holes_ok) {
            return MM_ERR_NOT_MAPPED;
        }
        if (!hole && !codec_rights_allow(s->rights[s->level], scan->bits)) {
            return MM_ERR_PERMISSION_DENIED;
        }
        if (n > 0 && codec_is_table(slot, s->level)) {
            break;
        }
    }
    *nr = n;
    return MM_OK;
}

/** Level of the large leaf that is cut by a range that begins or ends at `cut`, one of whose bytes
 * beside the cut is `at`; 0: none is. */
static unsigned cut_level(const struct mm_pagetable *pt, const codec_t *cx, uint64_t cut,
                          uint64_t at, bool soft_stays)
{
    struct probe p;

    probe_to(pt, cx, at, &p);
    table_put(pt, p.slots);
    if (soft_stays && codec_is_soft(p.slot)) {
        return 0;
    }
    return p.slot != 0 && (cut & (level_size(p.level) - 1)) != 0 ? p.level : 0;
}

/** Take the tables that splitting at both ends of the range needs. */
static mm_status_t plan_cuts(const struct mm_pagetable *pt, const codec_t *cx, uint64_t first,
                             uint64_t last, uint32_t flags, struct plan *plan)
{
    uint64_t cuts[2] = {first, last + 1}; /* the end of the address space, 0, cuts nothing */
    uint64_t beside[2] = {first, last};

    plan->whole = true; /* a split writes all slots */
    for (unsigned c = 0; c < 2; c++) {
        unsigned level = cut_level(pt, cx, cuts[c], beside[c], plan->soft_stays);
        unsigned lowest = level;
        mm_status_t status;

        if (level == 0) {
            continue;
        }
        if ((flags & MM_PAGING_SPLIT) == 0) {
            return MM_ERR_HUGE_PAGE;
        }
        while (lowest > 0 && (cuts[c] & (level_size(lowest) - 1)) != 0) {
            lowest--;
        }
        status = plan_path(pt, plan, cuts[c], level, lowest);
        if (status != MM_OK) {
            return status;
        }
    }
    return MM_OK;
}

RADIX_APART mm_status_t edit_prepare(const struct mm_pagetable *pt, const codec_t *cx,
                                     struct mm_vrange range, uint32_t flags, uint64_t bits,
                                     struct plan *plan)
{
    uint64_t last = mm_vrange_last(range).raw;
    struct scan scan = {.bits = bits,
                        .holes_ok = (flags & MM_PAGING_SKIP_HOLES) != 0,
                        .soft_stays = (flags & EDIT_SOFT_STAYS) != 0,
                        .plan = plan};
    mm_status_t status = MM_OK;

    plan_begin(plan);
    plan->soft_stays = scan.soft_stays;
    /* Without holes to find, only tables of others could object. */
    if (!scan.holes_ok || (pt->adopted != 0 && bits != 0)) {
        struct sweep s;
        const struct sweep_hooks hooks = {.slots = scan_slots};

        plan->every = UINT64_MAX;
        sweep_begin(&s, pt, range.start.raw, last);
        status = sweep_run(&s, hooks, &scan);
    }
    /* Where all is pages, none is cut. */
    if (status == MM_OK && !codec_is_present(plan->every)) {
        status = plan_cuts(pt, cx, range.start.raw, last, flags, plan);
    }
    if (status != MM_OK) {
        plan_abandon(pt, plan);
    }
    return status;
}

/* --- commit: splits --------------------------------------------------------------------------- */

/** Leaves of a level are no more; a level that has none is a malformed entry. */
static void leaves_gone(struct mm_pagetable *pt, unsigned level, uint64_t nr)
{
    struct mm_panic_info info = {
        .room = "paging",
        .what = "a leaf at a level that holds none",
        .address = pt->root.raw,
        .recorded = "levels with leaves",
        .recorded_value = CODEC_LEAF_LEVELS,
        .claimed = "level",
        .claimed_value = level,
    };

    if (level < CODEC_LEAF_LEVELS) {
        pt->nr_leaves[level] -= nr;
        return;
    }
    mmi_panic(&pt->platform, &info);
}

/** Put a table of leaves in the place of a large leaf. */
static void split_leaf(struct mm_pagetable *pt, const codec_t *cx, uint64_t *slot, unsigned level,
                       struct plan *plan)
{
    mm_pfn_t table;
    uint64_t *below = plan_take(pt, plan, &table);
    uint64_t old = mmi_load(slot);

    do {
        fill_leaves(below, RADIX_SLOTS, codec_split(old, level), level - 1);
    } while (!slot_change(slot, &old, codec_table(cx, table, pt->is_user != 0), radix_is_live(pt)));
    table_put(pt, below);
    pt->nr_tables++;
    if (codec_is_soft(old)) {
        pt->nr_soft += RADIX_SLOTS - 1;
        return;
    }
    leaves_gone(pt, level, 1);
    pt->nr_leaves[level - 1] += RADIX_SLOTS;
}

/** Split until no leaf that holds `at` is cut. What is split goes to the gather whole. */
static void split_at(struct mm_pagetable *pt, const codec_t *cx, uint64_t cut, uint64_t at,
                     struct plan *plan, struct mm_gather *gather)
{
    unsigned level = root_level(cx);
    uint64_t *slots = table_get(pt, root_pfn(pt));

    for (;;) {
        uint64_t *slot = &slots[slot_index(at, level)];
        uint64_t was = mmi_load(slot);

        if (!codec_is_table(was, level)) {
            struct mm_vrange leaf = mm_vrange(mm_vaddr(slot_first(at, level)), level_size(level));

            if (was == 0 || (cut & (level_size(level) - 1)) == 0 ||
                (plan->soft_stays && codec_is_soft(was))) {
                break;
            }
            split_leaf(pt, cx, slot, level, plan);
            if (codec_is_leaf(was)) {
                mm_gather_add_range(gather, leaf);
                mmi_event(&pt->platform, MM_EVENT_LEAF_SPLIT, pt, leaf.start.raw, leaf.len);
            }
            was = mmi_load(slot);
        }
        slots = table_down(pt, slots, codec_table_pfn(cx, was));
        level--;
    }
    table_put(pt, slots);
}

RADIX_APART void split_ends(struct mm_pagetable *pt, const codec_t *cx, struct mm_vrange range,
                            struct plan *plan, struct mm_gather *gather)
{
    uint64_t last = mm_vrange_last(range).raw;

    if (plan->nr_spare != 0) {
        split_at(pt, cx, range.start.raw, range.start.raw, plan, gather);
        split_at(pt, cx, last + 1, last, plan, gather);
    }
}

/* --- unmap ------------------------------------------------------------------------------------ */

struct unmap {
    struct mm_pagetable *pt;
    struct mm_gather *gather;
    bool live;
    bool release;
    bool full;      /**< all that is in the range is pages that allow something */
    mm_pfn_t first; /**< frames not yet in the gather */
    uint64_t nr;
};

/** Hand the run of frames over; their slots are empty by now, and the range is in the gather. */
static void unmap_pass_on(struct unmap *u)
{
    if (u->nr != 0) {
        mm_gather_add_frames(u->gather, u->first, u->nr);
        u->nr = 0;
    }
}

static inline void unmap_frames(struct unmap *u, mm_pfn_t first, uint64_t nr)
{
    if (u->nr != 0 && u->first.raw + u->nr == first.raw) {
        u->nr += nr;
        return;
    }
    unmap_pass_on(u);
    u->first = first;
    u->nr = nr;
}

/** Whether the current table is of level 0, and all that it translates is in the range. */
static inline bool sweep_covers(const struct sweep *s)
{
    return s->level == 0 && slot_first(s->at, 1) >= s->first && slot_last(s->at, 1) <= s->last;
}

/** The leaf of slot `i` goes, or the table: tell the gather. */
static inline void unmap_told(const struct sweep *s, const struct unmap *u, unsigned i)
{
    uint64_t at = sweep_address(s, i);

    mmi_gather_leaf(u->gather, at > s->first ? at : s->first, level_shift(s->level));
}

/** Slots of any level and any kind, and frames that are handed over. */
static mm_status_t unmap_any(struct sweep *s, unsigned i, unsigned end, unsigned *nr,
                             struct unmap *u)
{
    bool release = u->release;
    uint64_t leaves = 0;
    uint64_t soft = 0;
    unsigned n = 0;

    for (; i + n <= end; n++) {
        uint64_t *at = &s->slots[i + n];
        uint64_t slot = mmi_load(at);

        if (slot == 0) {
            continue;
        }
        if (codec_is_table(slot, s->level)) {
            break;
        }
        mmi_store(at, 0);
        if (codec_is_soft(slot)) {
            soft++;
            continue;
        }
        if (leaves++ == 0) {
            unmap_told(s, u, i + n);
        }
        if (release) {
            unmap_frames(u, mm_pfn_of(codec_paddr(s->cx, slot, s->level)),
                         level_size(s->level) >> CODEC_SHIFT);
        }
    }
    if (leaves != 0) {
        leaves_gone(u->pt, s->level, leaves);
    }
    u->pt->nr_soft -= soft;
    *nr = n;
    return MM_OK;
}

/**
 * Pages that all allow something. Where the hardware does not walk, a table that goes away whole
 * keeps what it holds: no walk will come by before its frame is written anew.
 */
static void unmap_pages(struct sweep *s, uint64_t *slots, unsigned nr, struct unmap *u)
{
    if (u->live || !sweep_covers(s)) {
        pages_clear(slots, nr);
    }
    u->pt->nr_leaves[0] -= nr;
}

static mm_status_t unmap_slots(struct sweep *s, unsigned i, unsigned end, unsigned *nr, void *arg)
{
    struct unmap *u = arg;
    uint64_t *slots = &s->slots[i];

    if (s->level != 0 || u->release || !(u->full || pages_present(slots, end - i + 1))) {
        return unmap_any(s, i, end, nr, u);
    }
    *nr = end - i + 1;
    unmap_told(s, u, i);
    unmap_pages(s, slots, *nr, u);
    return MM_OK;
}

RADIX_INLINE bool unmap_leave(struct sweep *s, void *arg)
{
    const struct unmap *u = arg;

    if (s->level + 1 == root_level(s->cx) && u->pt->is_user == 0) {
        return false; /* user roots hold copies of the entry */
    }
    return sweep_covers(s) || table_is_empty(s->slots);
}

/** Chain a table, which nothing points to but stale caches of the hardware, to the gather. */
static void unmap_unlinked(struct sweep *s, mm_pfn_t table, void *arg)
{
    struct unmap *u = arg;
    uint64_t *slots = table_get(s->pt, table);

    unmap_told(s, u, slot_index(s->at, s->level));
    mmi_store_release(&slots[0], codec_chain(u->gather->tables));
    table_put(s->pt, slots);
    u->gather->tables = table;
    u->gather->nr_tables++;
    u->pt->nr_tables--;
    u->pt->nr_unlinked++;
}

RADIX_APART mm_status_t unmap_sweep(struct unmap *u, struct mm_vrange range)
{
    const struct sweep_hooks hooks = {
        .slots = unmap_slots, .leave = unmap_leave, .unlinked = unmap_unlinked};
    struct sweep s;

    sweep_begin(&s, u->pt, range.start.raw, mm_vrange_last(range).raw);
    return sweep_run(&s, hooks, u);
}

static mm_status_t radix_unmap(struct mm_pagetable *pt, struct mm_vrange range, uint32_t flags,
                               struct mm_gather *gather)
{
    const codec_t *cx = codec_of(pt);
    struct unmap u = {
        .pt = pt,
        .gather = gather,
        .live = radix_is_live(pt),
        .release = (flags & MM_PAGING_RELEASE) != 0,
    };
    struct plan plan;
    mm_status_t status = edit_prepare(pt, cx, range, flags, 0, &plan);

    if (status != MM_OK) {
        return status;
    }
    u.full = codec_is_present(plan.every);
    mmi_gather_add(gather, range, MMI_GATHER_NO_LEAF);
    split_ends(pt, cx, range, &plan, gather);
    status = unmap_sweep(&u, range);
    unmap_pass_on(&u);
    return status;
}

static mm_pfn_t radix_chain_next(const struct mm_pagetable *pt, mm_pfn_t table)
{
    return chain_next(pt, table);
}

/* --- protect ---------------------------------------------------------------------------------- */

struct protect {
    uint64_t bits;
    bool live;
    bool full; /**< all that is in the range is pages that allow something */
    bool changed;
    unsigned shift; /**< of the smallest leaf that there may be */
};

static mm_status_t protect_any(struct sweep *s, unsigned i, unsigned end, unsigned *nr,
                               struct protect *p)
{
    uint64_t bits = p->bits;
    bool live = p->live;
    bool changed = false;
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
        if (codec_is_soft(old)) {
            continue;
        }
        do {
            now = codec_reprotect(s->cx, old, s->level, bits);
            if (now == old) {
                break;
            }
            changed = true;
        } while (!slot_change(at, &old, now, live));
    }
    p->changed |= changed;
    *nr = n;
    return MM_OK;
}

static mm_status_t protect_slots(struct sweep *s, unsigned i, unsigned end, unsigned *nr, void *arg)
{
    struct protect *p = arg;

    see_leaf(&p->shift, s->level);
    if (s->level == 0 && codec_is_present(p->bits)) {
        *nr = end - i + 1;
        if (p->full && !p->live) {
            pages_reprotect(&s->slots[i], *nr, p->bits);
            return MM_OK;
        }
        if (p->live) {
            *nr = pages_reprotect_live(&s->slots[i], *nr, p->bits, &p->changed);
            if (*nr != 0) {
                return MM_OK;
            }
            end = i; /* one that is not so simple */
        }
    }
    return protect_any(s, i, end, nr, p);
}

RADIX_APART mm_status_t protect_sweep(const struct mm_pagetable *pt, struct protect *p,
                                      struct mm_vrange range)
{
    const struct sweep_hooks hooks = {.slots = protect_slots};
    struct sweep s;

    sweep_begin(&s, pt, range.start.raw, mm_vrange_last(range).raw);
    return sweep_run(&s, hooks, p);
}

static mm_status_t radix_protect(struct mm_pagetable *pt, struct mm_vrange range, mm_prot_t prot,
                                 uint32_t flags, struct mm_gather *gather)
{
    const codec_t *cx = codec_of(pt);
    struct protect p = {
        .bits = codec_prot(cx, prot), .live = radix_is_live(pt), .shift = MMI_GATHER_NO_LEAF};
    struct plan plan;
    mm_status_t status = edit_prepare(pt, cx, range, flags | EDIT_SOFT_STAYS, p.bits, &plan);

    if (status != MM_OK) {
        return status;
    }
    p.full = codec_is_present(plan.every);
    p.changed = p.full && !p.live && codec_reprotect_changes(plan.every, plan.any, p.bits);
    split_ends(pt, cx, range, &plan, gather);
    status = protect_sweep(pt, &p, range);
    if (p.changed) {
        mmi_gather_add(gather, range, p.shift);
    }
    return status;
}

/* --- replace ---------------------------------------------------------------------------------- */

static mm_status_t radix_replace(struct mm_pagetable *pt, mm_vaddr_t at, mm_paddr_t paddr,
                                 mm_prot_t prot, uint32_t flags, struct mm_gather *gather)
{
    const codec_t *cx = codec_of(pt);
    uint64_t bits = codec_prot(cx, prot);
    mm_status_t status = MM_OK;
    uint64_t old;
    struct probe p;

    probe_to(pt, cx, at.raw, &p);
    old = p.slot;
    if (!codec_is_leaf(old)) {
        status = MM_ERR_NOT_MAPPED;
    } else if (p.level != 0) {
        status = MM_ERR_HUGE_PAGE;
    } else if (!codec_rights_allow(p.rights, bits)) {
        status = MM_ERR_PERMISSION_DENIED;
    } else {
        uint64_t now = codec_leaf(cx, 0, paddr, bits, codec_type(cx, old, 0));

        now = codec_set_key(codec_set_software(now, codec_software(old)), codec_key(old));
        mmi_store_release(&p.slots[p.index], now); /* nobody is told of accessed and dirty */
    }
    table_put(pt, p.slots);
    if (status != MM_OK) {
        return status;
    }
    mm_gather_add_range(gather, mm_vrange(at, MM_PAGE_SIZE));
    if ((flags & MM_PAGING_RELEASE) != 0) {
        mm_gather_add_frames(gather, mm_pfn_of(codec_paddr(cx, old, 0)), 1);
    }
    return MM_OK;
}

/* --- walk ------------------------------------------------------------------------------------- */

struct walk {
    mm_paging_visit_fn visit;
    void *ctx;
};

static mm_status_t walk_slots(struct sweep *s, unsigned i, unsigned end, unsigned *nr, void *arg)
{
    const struct walk *w = arg;
    unsigned n = 0;

    for (; i + n <= end && !s->stop; n++) {
        uint64_t slot = mmi_load(&s->slots[i + n]);
        struct mm_mapping mapping;

        if (slot == 0) {
            continue;
        }
        if (codec_is_table(slot, s->level)) {
            break;
        }
        if (codec_is_soft(slot)) {
            continue;
        }
        mapping.page = mm_vrange(mm_vaddr(sweep_address(s, i + n)), level_size(s->level));
        codec_decode(s->cx, slot, s->level, s->rights[s->level], &mapping);
        s->stop = !w->visit(w->ctx, &mapping);
    }
    *nr = n;
    return MM_OK;
}

static mm_status_t radix_walk(const struct mm_pagetable *pt, struct mm_vrange range,
                              mm_paging_visit_fn visit, void *ctx)
{
    const struct sweep_hooks hooks = {.slots = walk_slots};
    struct walk w = {visit, ctx};
    struct sweep s;

    sweep_begin(&s, pt, range.start.raw, mm_vrange_last(range).raw);
    return sweep_run(&s, hooks, &w);
}

#endif
