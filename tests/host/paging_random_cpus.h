// SPDX-License-Identifier: MIT
/**
 * The random test of page tables: what the simulated CPUs do beside the operations. Include after
 * paging_random.h.
 */
#ifndef PAGING_RANDOM_CPUS_H
#define PAGING_RANDOM_CPUS_H

#include "paging_random.h"

/* --- what the CPUs do meanwhile --------------------------------------------------------------- */

static inline bool runs(const struct run *r, unsigned cpu, const struct mm_pagetable *pt)
{
    return (r->m->cpus.cpu[cpu].mmu.cr3 & T_MMU_ADDRESS) == pt->root.raw;
}

static inline bool is_online(const struct run *r, unsigned cpu)
{
    return (r->offline >> cpu & 1) == 0;
}

static inline unsigned any_online(struct run *r)
{
    unsigned cpu = (unsigned)t_prng_below(&r->prng, r->nr_cpus);

    while (!is_online(r, cpu)) {
        cpu = (cpu + 1) % r->nr_cpus;
    }
    return cpu;
}

/* The CPU that operates next: any. Without a tlb only the CPU that runs is flushed: one that is in
 * the root. */
static inline void choose_cpu(struct run *r)
{
    unsigned first = any_online(r);

    for (unsigned i = 0; i < r->nr_cpus && r->user && !r->shoots; i++) {
        if (runs(r, (first + i) % r->nr_cpus, r->pt)) {
            first = (first + i) % r->nr_cpus;
            break;
        }
    }
    r->m->cpus.now = first;
}

static inline void enter(struct run *r, unsigned cpu, struct mm_pagetable *pt)
{
    r->m->cpus.now = cpu;
    if (r->shoots && pt->is_user == 0 && t_prng_chance(&r->prng, 7, 8)) {
        assert_int_equal(mm_paging_leave(pt), MM_OK);
    } else {
        assert_int_equal(mm_paging_activate(pt), MM_OK);
    }
    assert_true(runs(r, cpu, pt));
}

/* Whether the CPU's root shows what is mapped. */
static inline bool sees(const struct run *r, unsigned cpu)
{
    if (!is_online(r, cpu)) {
        return false;
    }
    return r->user ? runs(r, cpu, r->pt) : r->shoots || !runs(r, cpu, &r->stranger);
}

static inline struct mm_pagetable *random_root(struct run *r)
{
    uint64_t random = t_prng_u64(&r->prng);
    struct mm_pagetable *other = &r->other[(random >> 8) % NR_OTHER];

    switch (random % 8) {
    case 0:
        return &r->m->kernel;
    case 1:
        return r->idle ? other : &r->m->user;
    case 2:
        return other;
    case 3:
        return r->shoots ? other : &r->stranger;
    default:
        return r->idle ? other : r->pt;
    }
}

static inline void random_switch(struct run *r)
{
    unsigned cpu = any_online(r);

    enter(r, cpu, random_root(r));
}

/* A CPU goes, with what it had in its caches, or comes back. */
static inline void come_or_go(struct run *r, unsigned cpu)
{
    r->m->cpus.now = cpu;
    if (!is_online(r, cpu)) {
        assert_int_equal(mm_tlb_online(&r->tlb.tlb), MM_OK);
        r->offline &= ~(1u << cpu);
        enter(r, cpu, random_root(r));
    } else if ((r->offline | 1u << cpu) != (1u << r->nr_cpus) - 1) {
        assert_int_equal(mm_paging_leave(&r->m->kernel), MM_OK);
        assert_int_equal(
            mm_paging_load_root(mm_x86_64_backend(&r->m->arch), mm_paddr(T_TABLES * P4K)), MM_OK);
        assert_int_equal(mm_tlb_offline(&r->tlb.tlb), MM_OK);
        r->offline |= 1u << cpu;
    }
}

/* In a turn of a loop that waits for others: they switch, in the midst of the shootdown, and touch
 * what they can. What that comes to is not compared, for the tables have changed already. */
static inline void meanwhile(struct t_tlb *t)
{
    struct run *r = (struct run *)(void *)((char *)t - offsetof(struct run, tlb));
    unsigned now = r->m->cpus.now;
    unsigned cpu = (unsigned)t_prng_below(&r->prng, r->nr_cpus);

    if (cpu == now || t_prng_chance(&r->prng, 1, 2)) {
        return;
    }
    if (!is_online(r, cpu) || t_prng_chance(&r->prng, 1, 64)) {
        come_or_go(r, cpu);
    } else if (t_prng_chance(&r->prng, 1, 4)) {
        enter(r, cpu, random_root(r));
    } else {
        (void)t_cpu_access(&r->m->cpus.cpu[cpu], r->hot[t_prng_below(&r->prng, NR_HOT)],
                           r->user ? T_MMU_USER : 0, NULL);
    }
    r->m->cpus.now = now;
}

/* Everybody out, and entries are changed as in a root that was never used; or back in. */
static inline void toggle_idle(struct run *r)
{
    r->idle = !r->idle;
    for (unsigned i = 0; i < r->nr_cpus; i++) {
        if (is_online(r, i)) {
            enter(r, i, r->idle ? &r->m->kernel : r->pt);
        }
    }
    r->pt->active = r->idle ? 0 : 1;
}

/* What the access must answer, by the model: SMAP, SMEP, WP and NX are on. */
static inline uint32_t expected(const struct run *r, unsigned cpu, const struct t_mpage *page,
                                unsigned access)
{
    mm_prot_t prot = page == NULL ? MM_PROT_NONE : t_mpages_reported(page->prot);
    uint32_t error = ((access & T_MMU_WRITE) != 0 ? T_MMU_ERR_W : 0) |
                     ((access & T_MMU_USER) != 0 ? T_MMU_ERR_U : 0) |
                     ((access & T_MMU_FETCH) != 0 ? T_MMU_ERR_I : 0);
    bool by_user = (access & T_MMU_USER) != 0;
    bool open =
        by_user == r->user || (r->user && (access & T_MMU_AC) != 0 && (access & T_MMU_FETCH) == 0);

    if (prot == MM_PROT_NONE || !sees(r, cpu)) {
        return error;
    }
    if (!open || ((access & T_MMU_WRITE) != 0 && (prot & MM_PROT_WRITE) == 0) ||
        ((access & T_MMU_FETCH) != 0 && (prot & MM_PROT_EXEC) == 0)) {
        return error | T_MMU_ERR_P;
    }
    return T_CPU_DONE;
}

/* A page of the range, one that is mapped if a few tries find it. */
static inline uint64_t choose_page(struct run *r, struct mm_vrange range)
{
    uint64_t at = range.start.raw;

    for (unsigned i = 0; i < 8; i++) {
        at = range.start.raw + t_prng_u64(&r->prng) % range.len;
        if (t_mpages_at(&r->model, at) != NULL) {
            break;
        }
    }
    return at;
}

static inline void random_access(struct run *r, uint64_t at)
{
    static const unsigned kinds[] = {0, T_MMU_WRITE, T_MMU_FETCH, T_MMU_WRITE};
    uint64_t random = t_prng_u64(&r->prng);
    unsigned cpu = (unsigned)(random % r->nr_cpus);
    unsigned access = kinds[(random >> 8) & 3] | ((random >> 16 & 7) == 0 ? T_MMU_AC : 0);
    const struct t_mpage *page = t_mpages_at(&r->model, at);
    uint64_t paddr = 0;
    uint32_t answer;

    if (((random >> 24) % 16 != 0) == r->user) {
        access |= T_MMU_USER;
    }
    if (!sees(r, cpu) && (random >> 32) % 4 != 0) {
        cpu = (cpu + 1) % r->nr_cpus;
    }
    if (!is_online(r, cpu)) {
        return;
    }
    answer = t_cpu_access(&r->m->cpus.cpu[cpu], at, access, &paddr);
    if (answer != expected(r, cpu, page, access)) {
        fail_msg("CPU %u, access %u at %#llx: %#x, not %#x", cpu, access, (unsigned long long)at,
                 answer, expected(r, cpu, page, access));
    }
    if (answer == T_CPU_DONE) {
        assert_int_equal(paddr, page->paddr + at % P4K);
        ((struct t_mpage *)(uintptr_t)page)->marks |=
            MARK_ACCESSED | ((access & T_MMU_WRITE) != 0 ? MARK_DIRTY : 0);
        r->hot[r->nr_hot++ % NR_HOT] = at;
    }
}

#endif
