// SPDX-License-Identifier: MIT
/**
 * Shootdown on simulated CPUs: the machine of t_paging.h with a struct mm_tlb, whose interrupts run
 * mm_tlb_service() on the other CPUs. Each of them executes its own instructions, nothing is
 * broadcast.
 *
 * An interrupt is delivered at once, or waits until a CPU runs: then one is delivered in each turn
 * of a waiting loop (the op relax), or by t_tlb_run(). Include after <cmocka.h>.
 */
#ifndef T_TLB_H
#define T_TLB_H

#include "t_paging.h"

struct t_tlb {
    struct t_paging *m;
    struct mm_tlb tlb;
    struct mm_tlb_cpu cpu[T_CPUS_MAX];
    struct mm_x86_64_cpu_ops ops;
    bool later;         /**< interrupts wait until a CPU runs */
    bool may_not;       /**< what may_wait answers: no */
    uint32_t pending;   /**< CPUs that an interrupt waits for */
    uint64_t nr_sent;   /**< CPUs that were interrupted */
    uint64_t nr_waited; /**< turns of waiting loops */
    uint64_t nr_idle;   /**< those since an interrupt was last delivered */
    uint64_t nr_off;    /**< interrupt_save without interrupt_restore */
    uint64_t lost;      /**< turns for which no interrupt is delivered in a waiting loop */
    char logged[96];    /**< the last line of the log */
    uint64_t nr_logged;
    /** Called in each turn of a waiting loop, before an interrupt is delivered; NULL: nothing. */
    void (*turn)(struct t_tlb *t);
};

/** Run the handler on another CPU, in the midst of what this one does. */
static inline void t_tlb_run(struct t_tlb *t, unsigned cpu)
{
    unsigned now = t->m->cpus.now;

    assert_int_equal(t->nr_off, 0);
    t->pending &= ~(1u << cpu);
    t->nr_idle = 0;
    t->m->cpus.now = cpu;
    mm_tlb_service(&t->tlb);
    t->m->cpus.now = now;
}

static inline uint32_t t_tlb_this_cpu(void *ctx)
{
    struct t_tlb *t = ctx;

    return t->m->cpus.now;
}

static inline void t_tlb_interrupt(void *ctx, const struct mm_cpu_mask *cpus)
{
    struct t_tlb *t = ctx;

    for (unsigned word = 1; word < MM_MAX_CPUS / 64; word++) {
        assert_int_equal(cpus->bits[word], 0);
    }
    assert_true(cpus->bits[0] != 0 && cpus->bits[0] >> t->m->cpus.nr == 0);
    assert_int_equal((cpus->bits[0] >> t->m->cpus.now) & 1, 0);
    assert_int_equal(t->nr_off, 0);
    t->pending |= (uint32_t)cpus->bits[0];
    t->nr_sent += (uint64_t)__builtin_popcountll(cpus->bits[0]);
    for (unsigned i = 0; i < t->m->cpus.nr && !t->later; i++) {
        if (((t->pending >> i) & 1) != 0) {
            t_tlb_run(t, i);
        }
    }
}

static inline bool t_tlb_may_wait(void *ctx)
{
    const struct t_tlb *t = ctx;

    return !t->may_not;
}

static inline void t_tlb_relax(void *ctx)
{
    struct t_tlb *t = ctx;

    assert_true(++t->nr_idle < t->lost + 100000); /* somebody waits for ever */
    t->nr_waited++;
    if (t->nr_waited < t->lost) {
        return;
    }
    t_cpus_drift(&t->m->cpus);
    if (t->turn != NULL) {
        t->turn(t);
    }
    if (t->pending != 0) {
        t_tlb_run(t, (unsigned)__builtin_ctz(t->pending));
    }
}

static inline uintptr_t t_tlb_interrupt_save(void *ctx)
{
    struct t_tlb *t = ctx;

    return (uintptr_t)t->nr_off++;
}

static inline void t_tlb_interrupt_restore(void *ctx, uintptr_t saved)
{
    struct t_tlb *t = ctx;

    t->nr_off--;
    assert_int_equal(t->nr_off, saved);
}

static inline void t_tlb_log(void *ctx, const char *line, size_t len)
{
    struct t_tlb *t = ctx;

    len = len < sizeof(t->logged) ? len : sizeof(t->logged) - 1;
    memcpy(t->logged, line, len);
    t->logged[len] = 0;
    t->nr_logged++;
}

static inline struct mm_platform t_tlb_platform(struct t_tlb *t)
{
    static const struct mm_platform_ops ops = {.panic = t_platform_panic,
                                               .log = t_tlb_log,
                                               .relax = t_tlb_relax,
                                               .interrupt_save = t_tlb_interrupt_save,
                                               .interrupt_restore = t_tlb_interrupt_restore};
    struct mm_platform platform = {&ops, t};

    return platform;
}

static inline const struct mm_tlb_ops *t_tlb_ops(void)
{
    static const struct mm_tlb_ops ops = {
        .this_cpu = t_tlb_this_cpu, .interrupt = t_tlb_interrupt, .may_wait = t_tlb_may_wait};

    return &ops;
}

static inline struct mm_tlb_config t_tlb_config(struct t_tlb *t)
{
    struct mm_tlb_config config = {.backend = mm_x86_64_backend(&t->m->arch),
                                   .cpus = t->cpu,
                                   .nr_cpus = t->m->cpus.nr,
                                   .ops = t_tlb_ops(),
                                   .ctx = t,
                                   .platform = t_tlb_platform(t)};

    return config;
}

/* Which root is loaded is looked at, and pages of it are flushed: nothing may come in between. */
static inline void t_tlb_invlpg(void *ctx, uint64_t at)
{
    const struct t_cpus *cpus = ctx;
    const struct t_tlb *t = ((const struct t_paging *)cpus->ctx)->tlb;

    assert_true(t->nr_off > 0);
    t_cpu_ops.invlpg(ctx, at);
}

/** CPUs with their features on, no tlb and no root yet. */
static inline void t_tlb_cpus(struct t_tlb *t)
{
    struct t_paging *m = t->m;

    t_cpus_configure(&m->cpus, NULL);
    m->cpus.asleep = true;
    m->tlb = t;
    t->ops = t_cpu_ops;
    t->ops.invlpg = t_tlb_invlpg;
    assert_int_equal(mm_x86_64_init(&m->arch, &t->ops, &m->cpus), MM_OK);
    for (m->cpus.now = m->cpus.nr; m->cpus.now-- > 0;) {
        assert_int_equal(mm_x86_64_enable(&m->arch), MM_OK);
    }
    m->cpus.now = 0;
}

/** As t_paging_start(), and each CPU is online: after t_tlb_cpus(). */
static inline void t_tlb_roots(struct t_tlb *t, const struct mm_tlb_config *config)
{
    struct t_paging *m = t->m;
    struct mm_paging_config paging = t_config(m);

    assert_int_equal(mm_tlb_init(&t->tlb, config), MM_OK);
    paging.tlb = &t->tlb;
    paging.platform = t_tlb_platform(t);
    assert_int_equal(mm_paging_init_kernel(&m->kernel, &paging), MM_OK);
    assert_int_equal(mm_paging_init_user(&m->user, &m->kernel), MM_OK);
    for (m->cpus.now = m->cpus.nr; m->cpus.now-- > 0;) {
        assert_int_equal(mm_tlb_online(&t->tlb), MM_OK);
        assert_int_equal(mm_paging_activate(&m->kernel), MM_OK);
    }
    m->cpus.now = 0;
}

/** All of it, on a machine of t_paging_new_cpus() whose features the test may have changed. */
static inline void t_tlb_start(struct t_tlb *t, uint64_t first_generation)
{
    struct mm_tlb_config config;

    t_tlb_cpus(t);
    config = t_tlb_config(t);
    config.first_generation = first_generation;
    t_tlb_roots(t, &config);
}

/** Load a root on one CPU. */
static inline void t_tlb_enter(struct t_tlb *t, unsigned cpu, struct mm_pagetable *pt)
{
    t->m->cpus.now = cpu;
    assert_int_equal(pt->is_user != 0 ? mm_paging_activate(pt) : mm_paging_leave(pt), MM_OK);
    assert_int_equal(t->nr_off, 0);
}

/** Each CPU leaves, the roots go, every frame is back. */
static inline void t_tlb_delete(struct t_tlb *t)
{
    struct t_paging *m = t->m;

    t_cpus_noise(&m->cpus, 0, 0);
    t->later = false;
    for (m->cpus.now = m->cpus.nr; m->cpus.now-- > 0;) {
        assert_int_equal(mm_paging_leave(&m->kernel), MM_OK);
        assert_int_equal(mm_paging_load_root(mm_x86_64_backend(&m->arch), mm_paddr(T_TABLES * P4K)),
                         MM_OK);
        assert_int_equal(mm_tlb_offline(&t->tlb), MM_OK);
    }
    m->cpus.now = 0;
    assert_int_equal(mm_paging_check(&m->user), MM_OK);
    assert_int_equal(mm_paging_check(&m->kernel), MM_OK);
    assert_int_equal(mm_paging_destroy(&m->user), MM_OK);
    assert_int_equal(mm_paging_destroy(&m->kernel), MM_OK);
    assert_int_equal(mm_tlb_destroy(&t->tlb), MM_OK);
    t_paging_delete(m);
}

#endif
