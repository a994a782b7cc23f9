// SPDX-License-Identifier: MIT
/**
 * Mapping: a part of radix.h, which includes it.
 *
 * Prepare walks to each missing table once. Missing tables of level 0 are taken and filled with
 * their leaves right away, while they are in the cache; those above are only taken. Commit walks
 * the same way and links: what is below 512 leaves costs one walk and one store.
 *
 * One page whose tables exist, which is what faults ask for, is mapped by one walk that checks and
 * stores. Whatever else it finds, the long way finds out anew, and tells.
 */
#ifndef MMI_PAGING_RADIX_MAP_H
#define MMI_PAGING_RADIX_MAP_H

#include "radix.h"

struct map_job {
    uint64_t first; /**< of the range; `last` is its last byte */
    uint64_t last;
    uint64_t paddr;
    uint64_t bits; /**< codec_prot() */
    mm_memtype_t type;
    unsigned max; /**< the highest level that may hold leaves */
    bool guard; /**< guards instead of leaves; `paddr` is `first`, so that no alignment is asked */
};

static inline mm_paddr_t job_paddr(const struct map_job *job, uint64_t at)
{
    return mm_paddr(job->paddr + (at - job->first));
}

/** The highest level up to `max` at which a leaf may begin at `at`. */
static inline unsigned best_level(const struct map_job *job, uint64_t at, unsigned max)
{
    uint64_t both = at | job_paddr(job, at).raw;
    unsigned level = max;

    while (level > 0 &&
           ((both & (level_size(level) - 1)) != 0 || job->last - at < level_size(level) - 1)) {
        level--;
    }
    return level;
}

/** What the slot of a level at `at` is to hold. */
static inline uint64_t job_slot(const codec_t *cx, const struct map_job *job, uint64_t at,
                                unsigned level)
{
    return job->guard ? codec_soft(MM_SOFT_GUARD, 0)
                      : codec_leaf(cx, level, job_paddr(job, at), job->bits, job->type);
}

static inline void job_count(struct mm_pagetable *pt, const struct map_job *job, unsigned level,
                             unsigned nr)
{
    if (job->guard) {
        pt->nr_soft += nr;
    } else {
        pt->nr_leaves[level] += nr;
    }
}

/** Write `nr` leaves of neighbours; slots that the hardware may see are empty until then. */
static void fill_leaves(uint64_t *slots, unsigned nr, uint64_t slot, unsigned level)
{
    uint64_t step = codec_step(slot, level);

    if (step != 0) {
#pragma GCC unroll 8
        for (unsigned i = 0; i < nr; i++) {
            mmi_store_release(&slots[i], slot + i * step);
        }
        return;
    }
    for (unsigned i = 0; i < nr; i++, slot = codec_next(slot, level)) {
        mmi_store_release(&slots[i], slot);
    }
}

/** Whole leaves of a level from `at` on in one table: up to its end or the job's. */
static inline unsigned job_run(const struct map_job *job, uint64_t at, unsigned level)
{
    uint64_t left = (job->last - at + 1) >> level_shift(level);
    unsigned room = RADIX_SLOTS - slot_index(at, level);

    return left < room ? (unsigned)left : room;
}

/** How many of `nr` slots, the first of which is empty, lead to the first that is not. */
static inline unsigned empty_run(const uint64_t *slots, unsigned nr)
{
    unsigned n = 1;

    while (n < nr && mmi_load(&slots[n]) == 0) {
        n++;
    }
    return n;
}

/** Take a table of level 0 and write its leaves; slot 0 is the chain's until it is linked. */
static mm_status_t plan_filled(const struct mm_pagetable *pt, const codec_t *cx, struct plan *plan,
                               const struct map_job *job, uint64_t at)
{
    mm_pfn_t table;
    uint64_t *slots;
    unsigned nr = job_run(job, at, 0);
    mm_status_t status = table_alloc(pt, nr != RADIX_SLOTS, &table);

    if (status != MM_OK) {
        return status;
    }
    slots = table_get(pt, table);
    fill_leaves(&slots[slot_index(at, 0)], nr, job_slot(cx, job, at, 0), 0);
    slots[0] = codec_chain(mm_pfn(0));
    table_put(pt, slots);
    if (plan->nr_filled == 0) {
        plan->filled_first = table;
    } else {
        slots = table_get(pt, plan->filled_last);
        slots[0] = codec_chain(table);
        table_put(pt, slots);
    }
    plan->filled_last = table;
    plan->nr_filled++;
    return MM_OK;
}

/** Whether all that the leaves at the probe take is free, `nr` slots at most: how many are. A table
 * among them ends the run: what it holds is looked at in turn. */
static mm_status_t map_vacant(const struct probe *p, unsigned level, unsigned *nr)
{
    const uint64_t *slots = &p->slots[p->index];
    unsigned n;

    if (p->slot != 0) {
        return MM_ERR_ALREADY_MAPPED;
    }
    if (p->level == level) {
        n = empty_run(slots, *nr);
        if (n < *nr && !codec_is_table(mmi_load(&slots[n]), level)) {
            return MM_ERR_ALREADY_MAPPED;
        }
        *nr = n;
    }
    return MM_OK;
}

static mm_status_t map_prepare(const struct mm_pagetable *pt, const codec_t *cx,
                               const struct map_job *job, struct plan *plan)
{
    uint64_t at = job->first;

    for (;;) {
        struct probe p;
        unsigned level;
        unsigned nr;
        mm_status_t status;

        probe_to(pt, cx, at, &p);
        level = best_level(job, at, p.level < job->max ? p.level : job->max);
        nr = job_run(job, at, level);
        status = map_vacant(&p, level, &nr);
        table_put(pt, p.slots);
        if (status == MM_OK && !codec_rights_allow(p.rights, job->bits)) {
            status = MM_ERR_PERMISSION_DENIED;
        }
        if (status == MM_OK && p.level > level) {
            status = plan_path(pt, plan, at, p.level, level == 0 ? 1 : level);
            if (status == MM_OK && level == 0) {
                status = plan_filled(pt, cx, plan, job, at);
            }
        }
        at += nr * level_size(level) - 1;
        if (status != MM_OK || at == job->last) {
            return status;
        }
        at++;
    }
}

/** Link the plan's next table of level 0; its first slot gets what it stands for. */
static void link_filled(struct mm_pagetable *pt, const codec_t *cx, const struct map_job *job,
                        struct plan *plan, uint64_t at, uint64_t *slot)
{
    mm_pfn_t table = plan->filled_first;
    uint64_t *slots = table_get(pt, table);

    plan->filled_first = codec_chain_pfn(slots[0]);
    plan->nr_filled--;
    slots[0] = slot_index(at, 0) != 0 ? 0 : job_slot(cx, job, at, 0);
    table_put(pt, slots);
    table_link(cx, pt, slot, table);
}

/** Map from `at` on as far as one table goes; returns the last byte that is mapped. */
static uint64_t map_step(struct mm_pagetable *pt, const codec_t *cx, const struct map_job *job,
                         struct plan *plan, uint64_t at)
{
    unsigned want = best_level(job, at, job->max);
    unsigned level = root_level(cx);
    uint64_t *slots = table_get(pt, root_pfn(pt));
    unsigned nr;

    for (;; level--) {
        uint64_t *slot = &slots[slot_index(at, level)];
        uint64_t was = mmi_load(slot);
        uint64_t *below;
        mm_pfn_t table;

        if (codec_is_table(was, level)) {
            slots = table_down(pt, slots, codec_table_pfn(cx, was));
            continue;
        }
        if (level <= want) {
            break;
        }
        if (level == 1) {
            nr = job_run(job, at, 0);
            link_filled(pt, cx, job, plan, at, slot);
            table_put(pt, slots);
            job_count(pt, job, 0, nr);
            return at + (nr * level_size(0) - 1);
        }
        below = plan_take(pt, plan, &table);
        table_link(cx, pt, slot, table);
        table_put(pt, slots);
        slots = below;
    }
    nr = job_run(job, at, level);
    if (level != 0) {
        nr = empty_run(&slots[slot_index(at, level)], nr); /* up to a table */
    }
    fill_leaves(&slots[slot_index(at, level)], nr, job_slot(cx, job, at, level), level);
    table_put(pt, slots);
    job_count(pt, job, level, nr);
    return at + (nr * level_size(level) - 1);
}

/** All of it, or nothing. */
static mm_status_t map_run(struct mm_pagetable *pt, const codec_t *cx, const struct map_job *job)
{
    struct plan plan;
    mm_status_t status;

    plan_begin(&plan);
    status = map_prepare(pt, cx, job, &plan);
    if (status != MM_OK) {
        plan_abandon(pt, &plan);
        return status;
    }
    for (uint64_t at = job->first;; at++) {
        at = map_step(pt, cx, job, &plan, at);
        if (at == job->last) {
            pair_up(pt, job->first, job->last);
            return MM_OK;
        }
    }
}

static mm_status_t radix_map(struct mm_pagetable *pt, struct mm_vrange range, mm_paddr_t paddr,
                             mm_prot_t prot, mm_memtype_t type, uint32_t flags)
{
    const codec_t *cx = codec_of(pt);
    struct map_job job = {
        .first = range.start.raw,
        .last = mm_vrange_last(range).raw,
        .paddr = paddr.raw,
        .bits = codec_prot(cx, prot),
        .type = type,
        .max = codec_max_leaf(cx),
    };

    if (!codec_has_type(cx, type)) {
        return MM_ERR_UNSUPPORTED;
    }
    if ((flags & MM_PAGING_ONLY_4K) != 0) {
        job.max = 0;
    } else if ((flags & MM_PAGING_MAX_2M) != 0 && job.max > 1) {
        job.max = 1;
    }
    return map_run(pt, cx, &job);
}

/** The hardware never saw anything there, and sees nothing now: nothing is to be flushed. */
static mm_status_t radix_guard(struct mm_pagetable *pt, struct mm_vrange range)
{
    const codec_t *cx = codec_of(pt);
    struct map_job job = {
        .first = range.start.raw,
        .last = mm_vrange_last(range).raw,
        .paddr = range.start.raw,
        .max = codec_max_leaf(cx),
        .guard = true,
    };

    return map_run(pt, cx, &job);
}

/* --- a page of the user ------------------------------------------------------------------------ */

#define PAGE_LEVEL(n)                                                                              \
    if ((n) <= top) {                                                                              \
        entry = page_load(slot_at(base, entry, at, (n)), shared);                                  \
        if (MMI_UNLIKELY(!codec_is_user_table(entry))) {                                           \
            return false;                                                                          \
        }                                                                                          \
    }

/* How the owner's lock is held where page_slot() is called. */
#define PAGE_ALONE  false
#define PAGE_SHARED true

/** Who is alone loads plainly, which may be folded: nobody links a table meanwhile, and A, which the
 * hardware would set, is set in ours. */
RADIX_INLINE uint64_t page_load(const uint64_t *entry, bool shared)
{
    return shared ? mmi_load_acquire(entry) : *entry;
}

/** The slot of level 0 of an address of the user, through a direct map; false: there may be none.
 * What entries of tables have beside their address is the same in all, so it is in the base instead
 * of being masked out of each. */
RADIX_INLINE bool page_slot(const struct mm_pagetable *pt, uint64_t at, bool shared, uint64_t **out)
{
    uint64_t base = pt->page_base;
    uint64_t entry = pt->page_root;
    unsigned top = root_level(codec_of(pt));

    PAGE_LEVEL(4u)
    PAGE_LEVEL(3u)
    PAGE_LEVEL(2u)
    PAGE_LEVEL(1u)
    *out = slot_at(base, entry, at, 0);
    return true;
}

#undef PAGE_LEVEL

/** A page of memory: where its tables exist, one walk both checks and stores. */
static mm_status_t radix_map_page(struct mm_pagetable *pt, mm_vaddr_t at, uint64_t bits,
                                  mm_paddr_t paddr, mm_prot_t prot)
{
    uint64_t *slot;

    if (MMI_LIKELY(page_slot(pt, at.raw, PAGE_ALONE, &slot) && mmi_load(slot) == 0)) {
        mmi_store_release(slot, paddr.raw | bits);
        pt->nr_leaves[0]++;
        return MM_OK;
    }
    return radix_map(pt, mm_vrange(at, MM_PAGE_SIZE), paddr, prot, MM_MEMTYPE_WB, 0);
}

/** What radix_map_page() goes by. Tables that no direct map shows are not walked in this way, and a
 * leaf that allows nothing is not made of bits and an address. */
static void page_begin(struct mm_pagetable *pt, const codec_t *cx)
{
    if (pt->physmap.ops != NULL) {
        return;
    }
    pt->page_root = codec_table(cx, root_pfn(pt), true);
    pt->page_base = pt->physmap.base - codec_table(cx, mm_pfn(0), true);
    for (mm_prot_t prot = MM_PROT_USER + MM_PROT_READ; prot < MM_PROT_GLOBAL; prot++) {
        pt->page_bits[prot] = codec_leaf(cx, 0, mm_paddr(0), codec_prot(cx, prot), MM_MEMTYPE_WB);
    }
}

#endif
