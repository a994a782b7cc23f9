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
    return r->m->cpus.cpu[cpu].mmu.cr3 == pt->root.raw;
}

/* The CPU that operates next: any; on a user root that CPUs are in, one of these. */
static inline void choose_cpu(struct run *r)
{
    unsigned first = (unsigned)t_prng_below(&r->prng, r->nr_cpus);

    for (unsigned i = 0; i < r->nr_cpus && r->user; i++) {
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
    assert_int_equal(mm_paging_activate(pt), MM_OK);
    assert_true(runs(r, cpu, pt));
}

/* Whether the CPU's root shows what is mapped. */
static inline bool sees(const struct run *r, unsigned cpu)
{
    return r->user ? runs(r, cpu, r->pt) : !runs(r, cpu, &r->stranger);
}

static inline void random_switch(struct run *r)
{
    struct mm_pagetable *roots[] = {&r->m->kernel, &r->m->user, &r->other, &r->stranger,
                                    r->pt,         r->pt,       r->pt,     r->pt};
    struct mm_pagetable *to = roots[t_prng_below(&r->prng, 8)];

    enter(r, (unsigned)t_prng_below(&r->prng, r->nr_cpus), r->idle && to == r->pt ? &r->other : to);
}

/* Everybody out, and entries are changed as in a root that was never used; or back in. */
static inline void toggle_idle(struct run *r)
{
    r->idle = !r->idle;
    for (unsigned i = 0; i < r->nr_cpus; i++) {
        enter(r, i, r->idle ? &r->m->kernel : r->pt);
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
    answer = t_cpu_access(&r->m->cpus.cpu[cpu], at, access, &paddr);
    if (answer != expected(r, cpu, page, access)) {
        fail_msg("CPU %u, access %u at %#llx: %#x, not %#x", cpu, access, (unsigned long long)at,
                 answer, expected(r, cpu, page, access));
    }
    if (answer == T_CPU_DONE) {
        assert_int_equal(paddr, page->paddr + at % P4K);
        r->hot[r->nr_hot++ % NR_HOT] = at;
    }
}

#endif
