// SPDX-License-Identifier: MIT
/**
 * One slot, read and exchanged: a part of radix.h, which includes it.
 *
 * Exchanges may run on several CPUs at once. What is missing above a slot is built apart, the slot
 * in it, and linked in one step where the tree ends; if another was faster there, it is taken apart
 * again and the walk begins anew. So a call that fails has linked nothing, and no table is linked
 * that is empty. Nothing is unlinked: who walks may go on through any table.
 */
#ifndef MMI_PAGING_RADIX_SLOT_H
#define MMI_PAGING_RADIX_SLOT_H

#include "radix.h"

static void slot_describe(const codec_t *cx, uint64_t at, uint64_t slot, unsigned level,
                          uint64_t rights, struct mm_slot *out)
{
    struct mm_mapping leaf;

    *out = mm_slot_empty();
    if (codec_is_leaf(slot)) {
        codec_decode(cx, slot, level, rights, &leaf);
        out->kind = MM_SLOT_LEAF;
        out->paddr = leaf.paddr;
        out->prot = leaf.prot;
        out->type = leaf.type;
        out->software = leaf.software;
        out->key = leaf.key;
        out->accessed = leaf.accessed;
        out->dirty = leaf.dirty;
    } else if (slot != 0) {
        out->kind = MM_SLOT_SOFT;
        out->soft_kind = (uint8_t)codec_soft_kind(slot);
        out->payload = codec_soft_payload(slot);
    }
    out->page = mm_vrange(mm_vaddr(slot_first(at, level)), level_size(level));
    out->raw = slot;
}

static mm_status_t radix_slot_get(const struct mm_pagetable *pt, mm_vaddr_t at, struct mm_slot *out)
{
    const codec_t *cx = codec_of(pt);
    struct probe p;

    if (!codec_canonical(cx, at.raw)) {
        return MM_ERR_INVALID_ADDRESS;
    }
    probe_to(pt, cx, at.raw, &p);
    table_put(pt, p.slots);
    slot_describe(cx, at.raw, p.slot, p.level, p.rights, out);
    return MM_OK;
}

/* --- all of a range --------------------------------------------------------------------------- */

struct list {
    mm_paging_slot_fn visit;
    void *ctx;
};

static mm_status_t list_slots(struct sweep *s, unsigned i, unsigned end, unsigned *nr, void *arg)
{
    const struct list *l = arg;
    unsigned n = 0;

    for (; i + n <= end && !s->stop; n++) {
        uint64_t slot = mmi_load(&s->slots[i + n]);
        struct mm_slot told;

        if (slot == 0) {
            continue;
        }
        if (codec_is_table(slot, s->level)) {
            break;
        }
        slot_describe(s->cx, sweep_address(s, i + n), slot, s->level, s->rights[s->level], &told);
        s->stop = !l->visit(l->ctx, &told);
    }
    *nr = n;
    return MM_OK;
}

static void radix_list(const struct mm_pagetable *pt, struct mm_vrange range,
                       mm_paging_slot_fn visit, void *ctx)
{
    const struct sweep_hooks hooks = {.slots = list_slots};
    struct list l = {visit, ctx};
    struct sweep s;

    sweep_begin(&s, pt, range.start.raw, mm_vrange_last(range).raw);
    (void)sweep_run(&s, hooks, &l);
}

/* --- exchange --------------------------------------------------------------------------------- */

struct exchange {
    uint64_t at;
    unsigned level; /**< of the slot that is meant */
    uint64_t seen;
    uint64_t now;
    uint64_t bits; /**< of the new leaf: what the tables above must allow */
    mm_memtype_t type;
};

static uint64_t slot_encode(const codec_t *cx, const struct mm_slot *slot, unsigned level)
{
    uint64_t leaf;

    if (slot->kind == MM_SLOT_EMPTY) {
        return 0;
    }
    if (slot->kind == MM_SLOT_SOFT) {
        return codec_soft(slot->soft_kind, slot->payload);
    }
    leaf = codec_leaf(cx, level, slot->paddr, codec_prot(cx, slot->prot), slot->type);
    leaf = codec_set_used(leaf, slot->accessed, slot->dirty);
    return codec_set_key(codec_set_software(leaf, slot->software), slot->key);
}

/** The level whose leaves are of this size. */
static unsigned size_level(uint64_t len)
{
    unsigned level = 0;

    while (level_size(level) < len) {
        level++;
    }
    return level;
}

/** Whether the slot that a walk found may be exchanged; what it is, if it changed. */
static mm_status_t exchange_allowed(const codec_t *cx, const struct exchange *e,
                                    const struct probe *p, struct mm_slot *seen)
{
    if (p->level < e->level) {
        return MM_ERR_ALREADY_MAPPED;
    }
    if (p->slot != e->seen) {
        slot_describe(cx, e->at, p->slot, p->level, p->rights, seen);
        return MM_ERR_BUSY;
    }
    if (p->slot != 0 && p->level > e->level) {
        return MM_ERR_HUGE_PAGE;
    }
    if (codec_is_leaf(e->now) && !codec_rights_allow(p->rights, e->bits)) {
        return MM_ERR_PERMISSION_DENIED;
    }
    if (codec_is_leaf(e->now) && codec_is_leaf(p->slot) &&
        codec_type(cx, p->slot, p->level) != e->type) {
        return MM_ERR_UNSUPPORTED;
    }
    return MM_OK;
}

/** Build tables from below `level` down to the slot, out of the plan; the highest of them. */
static mm_pfn_t exchange_build(const struct mm_pagetable *pt, const codec_t *cx,
                               const struct exchange *e, unsigned level, struct plan *plan)
{
    mm_pfn_t table = {0};
    uint64_t slot = e->now;

    for (unsigned l = e->level; l < level; l++) {
        uint64_t *slots = plan_take(pt, plan, &table);

        mmi_store(&slots[slot_index(e->at, l)], slot);
        table_put(pt, slots);
        slot = codec_table(cx, table, pt->is_user != 0);
    }
    return table;
}

/** Take apart what was built from `table`, which is right below `level`. */
static void exchange_unbuild(const struct mm_pagetable *pt, const codec_t *cx,
                             const struct exchange *e, unsigned level, mm_pfn_t table,
                             struct plan *plan)
{
    while (level > e->level) {
        uint64_t *slots = table_get(pt, table);
        uint64_t *slot = &slots[slot_index(e->at, level - 1)];
        mm_pfn_t below = codec_table_pfn(cx, mmi_load(slot));

        mmi_store(slot, 0);
        slots[0] = codec_chain(plan->spare);
        table_put(pt, slots);
        plan->spare = table;
        plan->nr_spare++;
        table = below;
        level--;
    }
}

/** Write the slot where the walk ended; false: another was faster. */
static bool exchange_write(struct mm_pagetable *pt, const codec_t *cx, const struct exchange *e,
                           const struct probe *p, struct plan *plan)
{
    uint64_t old = p->slot;
    mm_pfn_t table;

    if (p->level == e->level) {
        return mmi_cas(&p->slots[p->index], &old, e->now);
    }
    table = exchange_build(pt, cx, e, p->level, plan);
    if (!mmi_cas(&p->slots[p->index], &old, codec_table(cx, table, pt->is_user != 0))) {
        exchange_unbuild(pt, cx, e, p->level, table, plan);
        return false;
    }
    (void)mmi_fetch_add(&pt->nr_tables, p->level - e->level);
    return true;
}

static mm_status_t exchange_run(struct mm_pagetable *pt, const codec_t *cx,
                                const struct exchange *e, struct mm_slot *seen, struct plan *plan)
{
    for (;;) {
        struct probe p;
        mm_status_t status;
        unsigned missing;
        bool written = false;

        probe_to(pt, cx, e->at, &p);
        status = exchange_allowed(cx, e, &p, seen);
        missing = status == MM_OK ? p.level - e->level : 0;
        if (status == MM_OK && p.slot == 0 && e->now == 0) {
            table_put(pt, p.slots);
            return MM_OK; /* a hole it is and stays */
        }
        if (status == MM_OK && plan->nr_spare >= missing) {
            written = exchange_write(pt, cx, e, &p, plan);
        }
        table_put(pt, p.slots);
        if (status != MM_OK || written) {
            return status;
        }
        while (plan->nr_spare < missing) {
            status = plan_spare(pt, plan);
            if (status != MM_OK) {
                return status;
            }
        }
    }
}

/** Exchange, with all tables that are missing, or change nothing. */
static mm_status_t exchange_make(struct mm_pagetable *pt, const codec_t *cx,
                                 const struct exchange *e, struct mm_slot *seen)
{
    struct plan plan;
    mm_status_t status;

    plan_begin(&plan);
    status = exchange_run(pt, cx, e, seen, &plan);
    plan_abandon(pt, &plan);
    if (status == MM_OK) {
        pair_up(pt, e->at, e->at); /* whoever linked it: this slot is in it */
    }
    return status;
}

/** The table of a slot may hold nothing any more. Mostly that is known of its range. */
static void exchange_emptied(struct mm_pagetable *pt, uint64_t at)
{
    uint32_t bits = mmi_paging_sparse_bits(pt, at, at);

    if ((mmi_load(&pt->sparse) & bits) != bits) {
        (void)mmi_fetch_or(&pt->sparse, bits);
    }
}

/** Count what is there now instead of what was; others may count at the same time. */
static void exchange_count(struct mm_pagetable *pt, const struct exchange *e)
{
    if (codec_is_leaf(e->seen)) {
        (void)mmi_fetch_sub(&pt->nr_leaves[e->level], 1);
    } else if (e->seen != 0) {
        (void)mmi_fetch_sub(&pt->nr_soft, 1);
    }
    if (codec_is_leaf(e->now)) {
        (void)mmi_fetch_add(&pt->nr_leaves[e->level], 1);
    } else if (e->now != 0) {
        (void)mmi_fetch_add(&pt->nr_soft, 1);
    }
    if (e->now == 0 && e->seen != 0) {
        exchange_emptied(pt, e->at);
    }
}

static mm_status_t radix_slot_cas(struct mm_pagetable *pt, mm_vaddr_t at, uint64_t len,
                                  struct mm_slot *seen, const struct mm_slot *now,
                                  struct mm_gather *gather)
{
    const codec_t *cx = codec_of(pt);
    unsigned level = size_level(len);
    bool leaf = now->kind == MM_SLOT_LEAF;
    struct exchange e = {.at = at.raw, .level = level, .seen = seen->raw};
    mm_status_t status;

    if (level > codec_max_leaf(cx) ||
        (leaf && (!codec_has_type(cx, now->type) || (now->key != 0 && !codec_has_keys(cx))))) {
        return MM_ERR_UNSUPPORTED;
    }
    if (codec_is_leaf(e.seen) && gather == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    e.now = slot_encode(cx, now, level);
    e.bits = leaf ? codec_prot(cx, now->prot) : 0;
    e.type = now->type;
    status = exchange_make(pt, cx, &e, seen);
    if (status != MM_OK) {
        return status;
    }
    exchange_count(pt, &e);
    if (codec_is_leaf(e.seen)) {
        mmi_gather_add(gather, mm_vrange(at, len), level_shift(level));
    }
    return MM_OK;
}

#endif
