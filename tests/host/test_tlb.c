// SPDX-License-Identifier: MIT
/**
 * Shootdown on simulated CPUs (hazards 13, 14, 20): who flushes what and when, PCIDs on and off,
 * INVPCID there or not, generations near the ends of their numbers, interrupts at once or late. The
 * sweep looks at every CPU after each step; a frame that comes back is in no cache that can be used.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "t_tlb.h"

#define AT    P1G
#define LEAF  (T_LEAVES * P4K)
#define KPAGE T_KERNEL_LOW

struct variant {
    bool pcid, invpcid, later;
    unsigned nr_cpus;
    uint64_t first;
};

static const struct variant variants[] = {
    {true, true, false, 2, 0},
    {true, false, true, 4, UINT64_MAX - 5},
    {true, false, false, 8, INT64_MAX - 5},
    {true, true, true, 3, INT64_MAX - 20},
    {false, true, true, 2, 0},
    {false, false, false, 4, UINT64_MAX - 3},
};

static struct t_tlb *new_tlb(const struct variant *v)
{
    struct t_tlb *t = calloc(1, sizeof(*t));

    assert_non_null(t);
    t->m = t_paging_new_cpus(v->nr_cpus);
    t->m->cpus.has.pcid = v->pcid;
    t->m->cpus.has.invpcid = v->invpcid;
    t->later = v->later;
    t_tlb_start(t, v->first);
    assert_int_equal(t->m->arch.enabled.pcid, v->pcid);
    return t;
}

static void delete_tlb(struct t_tlb *t)
{
    t_tlb_delete(t);
    free(t);
}

/* A test for each variant. */
#define EACH(t)                                                                                    \
    for (unsigned variant_ = 0; variant_ < sizeof(variants) / sizeof(variants[0]); variant_++)     \
        for (struct t_tlb *t = new_tlb(&variants[variant_]); t != NULL; delete_tlb(t), t = NULL)

static uint32_t access_on(struct t_tlb *t, unsigned cpu, uint64_t at, unsigned access)
{
    return t_cpu_access(&t->m->cpus.cpu[cpu], at, access, NULL);
}

static void all_access(struct t_tlb *t, uint64_t at, unsigned access, uint32_t answer)
{
    for (unsigned i = 0; i < t->m->cpus.nr; i++) {
        assert_int_equal(access_on(t, i, at, access), answer);
    }
}

static void all_enter(struct t_tlb *t, struct mm_pagetable *pt)
{
    for (unsigned i = t->m->cpus.nr; i-- > 0;) {
        t_tlb_enter(t, i, pt);
    }
}

static struct mm_tlb_stats stats_of(const struct t_tlb *t)
{
    struct mm_tlb_stats stats;

    assert_int_equal(mm_tlb_get_stats(&t->tlb, &stats), MM_OK);
    return stats;
}

/* --- who is told ------------------------------------------------------------------------------- */

static void test_every_cpu_forgets(void **state)
{
    static const uint64_t lengths[] = {1, 3, 33, 34, 600};

    (void)state;
    EACH(t)
    {
        struct t_paging *m = t->m;

        t_cpus_noise(&m->cpus, 7, 8);
        all_enter(t, &m->user);
        for (unsigned round = 0; round < 40; round++) {
            uint64_t len = lengths[round % 5] * P4K;
            uint64_t nr = m->nr_released;

            assert_int_equal(t_map(&m->user, AT, LEAF, len, T_URW), MM_OK);
            for (unsigned i = 0; i < 5; i++) {
                all_access(t, AT + i * (len / 5), T_MMU_USER | T_MMU_WRITE, T_CPU_DONE);
            }
            t_nothing_stale(m);
            m->cpus.now = round % m->cpus.nr;
            assert_int_equal(t_protect(&m->user, AT, len, T_UR, 0), MM_OK);
            t_nothing_stale(m);
            all_access(t, AT, T_MMU_USER | T_MMU_WRITE, T_MMU_ERR_P | T_MMU_ERR_W | T_MMU_ERR_U);
            all_access(t, AT + len - 1, T_MMU_USER, T_CPU_DONE);
            assert_int_equal(t_unmap(&m->user, AT, len, MM_PAGING_RELEASE), MM_OK);
            assert_int_equal(m->nr_released, nr + len / P4K);
            t_nothing_stale(m);
            all_access(t, AT, T_MMU_USER, T_MMU_ERR_U);
        }
        assert_true(stats_of(t).nr_shootdowns >= 80);
        assert_true(stats_of(t).nr_full > 0 && stats_of(t).nr_pages > 0);
        assert_int_equal(stats_of(t).nr_interrupts, t->nr_sent);
    }
}

/* The kernel's pages are in every CPU, whatever root it has loaded; global ones and others. */
static void test_kernel_pages(void **state)
{
    (void)state;
    EACH(t)
    {
        struct t_paging *m = t->m;

        t_cpus_noise(&m->cpus, 9, 8);
        for (unsigned round = 0; round < 32; round++) {
            uint64_t len = (round % 3 == 0 ? 40 : 2) * P4K;
            mm_prot_t prot = MM_PROT_RW | (round % 2 == 0 ? MM_PROT_GLOBAL : 0);

            assert_int_equal(t_map(&m->kernel, KPAGE, LEAF, len, prot), MM_OK);
            for (unsigned i = 0; i < m->cpus.nr; i++) { /* in both roots, and stay in one */
                t_tlb_enter(t, i, &m->user);
                assert_int_equal(access_on(t, i, KPAGE, T_MMU_WRITE), T_CPU_DONE);
                t_tlb_enter(t, i, &m->kernel);
                assert_int_equal(access_on(t, i, KPAGE + len - 1, T_MMU_WRITE), T_CPU_DONE);
                t_tlb_enter(t, i, (round + i) % 2 == 0 ? &m->user : &m->kernel);
            }
            m->cpus.now = round % m->cpus.nr;
            t->nr_sent = 0;
            assert_int_equal(t_unmap(&m->kernel, KPAGE, len, MM_PAGING_RELEASE), MM_OK);
            assert_int_equal(t->nr_sent, m->cpus.nr - 1);
            t_nothing_stale(m);
            all_access(t, KPAGE, 0, 0);
            for (unsigned i = 0; i < m->cpus.nr; i++) { /* and nothing waits in the other root */
                t_tlb_enter(t, i, (round + i) % 2 == 0 ? &m->kernel : &m->user);
                t_nothing_stale(m);
                assert_int_equal(access_on(t, i, KPAGE, 0), 0);
            }
        }
    }
}

/* A CPU that has left is not interrupted, and has not the old translations when it comes back. */
static void test_leaving(void **state)
{
    (void)state;
    EACH(t)
    {
        struct t_paging *m = t->m;
        struct mm_cpu_mask cpus;

        for (unsigned round = 0; round < 20; round++) {
            all_enter(t, &m->user);
            assert_int_equal(t_map(&m->user, AT, LEAF + round * P4K, P4K, T_URW), MM_OK);
            all_access(t, AT, T_MMU_USER | T_MMU_WRITE, T_CPU_DONE);
            t_tlb_enter(t, 1, &m->kernel);
            assert_int_equal(mm_tlb_cpus(&m->user, &cpus), MM_OK);
            assert_int_equal(cpus.bits[0], (1u << m->cpus.nr) - 1 - 2);
            m->cpus.now = 0;
            t->nr_sent = 0;
            assert_int_equal(t_unmap(&m->user, AT, P4K, MM_PAGING_RELEASE), MM_OK);
            assert_int_equal(t->nr_sent, m->cpus.nr - 2);
            t_nothing_stale(m);
            t_tlb_enter(t, 1, &m->user);
            t_nothing_stale(m);
            assert_int_equal(access_on(t, 1, AT, T_MMU_USER), T_MMU_ERR_U);
        }
        /* With PCIDs, what was not flushed is still there. */
        assert_int_equal(t_map(&m->user, AT, LEAF, P4K, T_URW), MM_OK);
        for (unsigned i = 0; i < 3; i++) {
            uint64_t walks;

            t_tlb_enter(t, 1, &m->user);
            walks = m->cpus.cpu[1].nr_walks;
            assert_int_equal(access_on(t, 1, AT, T_MMU_USER), T_CPU_DONE);
            assert_int_equal(m->cpus.cpu[1].nr_walks - walks,
                             i > 0 && variants[variant_].pcid ? 0 : 1);
            t_tlb_enter(t, 1, &m->kernel);
        }
        /* Nobody is in it: nobody is waited for, and the CPU that unmaps does nothing either. */
        all_enter(t, &m->kernel);
        t->nr_sent = 0;
        assert_int_equal(t_unmap(&m->user, AT, P4K, 0), MM_OK);
        assert_int_equal(t->nr_sent, 0);
        t_tlb_enter(t, 1, &m->user);
        t_nothing_stale(m);
        t_tlb_enter(t, 1, &m->kernel);
    }
}

/* The root that is loaded already is not loaded again; the kernel's is, by activate, afresh. */
static void test_the_same_root_again(void **state)
{
    (void)state;
    EACH(t)
    {
        struct t_cpu *cpu = &t->m->cpus.cpu[1];
        uint64_t loads;

        t_tlb_enter(t, 1, &t->m->user);
        loads = cpu->nr_cr3;
        t_tlb_enter(t, 1, &t->m->user);
        assert_int_equal(cpu->nr_cr3, loads);
        t_tlb_enter(t, 1, &t->m->kernel);
        t_tlb_enter(t, 1, &t->m->kernel);
        assert_int_equal(cpu->nr_cr3, loads + 1);
        assert_int_equal(t_map(&t->m->kernel, KPAGE, LEAF, P4K, MM_PROT_RW | MM_PROT_GLOBAL),
                         MM_OK);
        assert_int_equal(access_on(t, 1, KPAGE, 0), T_CPU_DONE);
        assert_int_equal(cpu->tlb_nr[0], 1);
        assert_int_equal(mm_paging_activate(&t->m->kernel), MM_OK);
        assert_int_equal(cpu->tlb_nr[0], 0);
    }
}

/* --- PCIDs ------------------------------------------------------------------------------------- */

/* More roots than PCIDs, each with another frame at one address; some go and come while others stay:
 * at the same place in memory, and with the same table as root. */
static void test_more_roots_than_pcids(void **state)
{
    (void)state;
    EACH(t)
    {
        struct t_paging *m = t->m;
        struct mm_pagetable *roots = calloc(14, sizeof(*roots));
        struct t_prng prng;
        uint64_t paddr;

        assert_non_null(roots);
        t_prng_start(&prng, "pcids");
        t_cpus_noise(&m->cpus, 3, 16);
        for (unsigned step = 0; step < 3000; step++) {
            unsigned i = (unsigned)t_prng_below(&prng, 14);
            unsigned cpu = (unsigned)t_prng_below(&prng, m->cpus.nr);
            struct mm_cpu_mask in = {{0}};

            m->cpus.now = cpu;
            if (roots[i].magic == 0) {
                assert_int_equal(mm_paging_init_user(&roots[i], &m->kernel), MM_OK);
                assert_int_equal(t_map(&roots[i], AT, LEAF + step * P4K, P4K, T_URW), MM_OK);
            }
            t_tlb_enter(t, cpu, &roots[i]);
            t_nothing_stale(m);
            assert_int_equal(mm_paging_current_root(mm_x86_64_backend(&m->arch)).raw,
                             roots[i].root.raw);
            assert_int_equal(t_cpu_access(&m->cpus.cpu[cpu], AT, T_MMU_USER, &paddr), T_CPU_DONE);
            assert_int_equal(paddr, t_paddr(&roots[i], AT));
            if (t_prng_chance(&prng, 1, 3)) {
                assert_int_equal(t_unmap(&roots[i], AT, P4K, MM_PAGING_RELEASE), MM_OK);
                t_nothing_stale(m);
                assert_int_equal(t_map(&roots[i], AT, LEAF + step * P4K, P4K, T_URW), MM_OK);
            }
            if (t_prng_chance(&prng, 1, 3)) {
                t_tlb_enter(t, cpu, &m->kernel);
            }
            assert_int_equal(mm_tlb_cpus(&roots[i], &in), MM_OK);
            if (t_prng_chance(&prng, 1, 4)) {
                assert_int_equal(mm_paging_destroy(&roots[i]),
                                 in.bits[0] != 0 ? MM_ERR_BUSY : MM_OK);
            }
        }
        all_enter(t, &m->kernel);
        for (unsigned i = 0; i < 14; i++) {
            assert_true(roots[i].magic == 0 || mm_paging_destroy(&roots[i]) == MM_OK);
        }
        assert_true(variants[variant_].pcid == (stats_of(t).nr_asid_hits > 0));
        free(roots);
    }
}

/* A root of somebody else, by mm_paging_load_root(), walks under PCID 0, as the kernel's does. */
static void test_root_of_somebody_else(void **state)
{
    (void)state;
    EACH(t)
    {
        struct t_paging *m = t->m;
        struct mm_paging_backend backend = mm_x86_64_backend(&m->arch);
        uint64_t foreign = mm_paging_root(&m->user).raw; /* any tables will do */

        assert_int_equal(t_map(&m->user, AT, LEAF, P4K, T_URW), MM_OK);
        assert_int_equal(t_map(&m->kernel, KPAGE, LEAF + P1G, P4K, MM_PROT_RW), MM_OK);
        for (unsigned round = 0; round < 4; round++) {
            t_tlb_enter(t, 1, &m->kernel);
            assert_int_equal(access_on(t, 1, KPAGE, 0), T_CPU_DONE);
            assert_int_equal(mm_paging_load_root(backend, mm_paddr(foreign)), MM_OK);
            assert_int_equal(access_on(t, 1, AT, T_MMU_USER), T_CPU_DONE); /* in PCID 0 */
            t_tlb_enter(t, 1, round % 2 == 0 ? &m->kernel : &m->user);
            t_nothing_stale(m);
            t_tlb_enter(t, 1, &m->kernel);
            t_nothing_stale(m);
            assert_int_equal(access_on(t, 1, AT, T_MMU_USER), T_MMU_ERR_U);
        }
        m->cpus.now = 0;
        assert_int_equal(t_unmap(&m->kernel, KPAGE, P4K, 0), MM_OK);
        assert_int_equal(t_unmap(&m->user, AT, P4K, 0), MM_OK);
        t_nothing_stale(m);
    }
}

/* --- records ----------------------------------------------------------------------------------- */

static struct mm_gather nested;

/* While CPU 0 waits for CPU 2, CPU 1 flushes eight ranges more, which CPU 2 has to catch up with. */
static void flush_more(struct t_tlb *t)
{
    struct t_paging *m = t->m;

    t->turn = NULL; /* once */
    m->cpus.now = 1;
    mm_tlb_service(&t->tlb);
    for (unsigned round = 0; round < 2; round++) {
        assert_int_equal(mm_gather_begin(&nested, &m->user), MM_OK);
        for (unsigned i = 0; i < MM_GATHER_MAX_RANGES; i++) {
            mm_gather_add_range(&nested, t_range(AT + P2M + i * 4 * P4K, P4K));
        }
        mm_gather_end(&nested);
    }
    m->cpus.now = 0;
}

static void test_two_initiators(void **state)
{
    (void)state;
    EACH(t)
    {
        struct t_paging *m = t->m;
        struct mm_gather gather;
        struct mm_tlb_stats before;

        if (m->cpus.nr < 3) {
            continue;
        }
        all_enter(t, &m->user);
        t->later = true;
        assert_int_equal(t_map(&m->user, AT, LEAF, 64 * P4K, T_URW), MM_OK);
        all_access(t, AT, T_MMU_USER, T_CPU_DONE);
        all_access(t, AT + 63 * P4K, T_MMU_USER, T_CPU_DONE);
        before = stats_of(t);
        m->cpus.now = 0;
        assert_int_equal(mm_gather_begin(&gather, &m->user), MM_OK);
        assert_int_equal(mm_paging_unmap(&m->user, t_range(AT, P4K), MM_PAGING_RELEASE, &gather),
                         MM_OK);
        assert_int_equal(
            mm_paging_unmap(&m->user, t_range(AT + 63 * P4K, P4K), MM_PAGING_RELEASE, &gather),
            MM_OK);
        t->nr_waited = 0;
        t->turn = flush_more;
        mm_gather_end(&gather);
        t->turn = NULL;
        t_nothing_stale(m);
        all_access(t, AT, T_MMU_USER, T_MMU_ERR_U);
        assert_true(stats_of(t).nr_shootdowns == before.nr_shootdowns + 3);
        assert_int_equal(t_unmap(&m->user, AT, 64 * P4K, MM_PAGING_SKIP_HOLES), MM_OK);
    }
}

/* 18 generations in one go, for a CPU whose interrupts come late: more than there are records. */
static void test_more_than_the_records(void **state)
{
    (void)state;
    EACH(t)
    {
        struct t_paging *m = t->m;
        uint64_t full;

        all_enter(t, &m->user);
        assert_int_equal(t_map(&m->user, AT, LEAF, 2 * P4K, T_URW), MM_OK);
        all_access(t, AT, T_MMU_USER, T_CPU_DONE);
        /* As if CPU 1 had seen nothing for long. */
        t->cpu[1].seen -= MM_TLB_RING;
        m->cpus.now = 0;
        full = t->cpu[1].stats.nr_full;
        assert_int_equal(t_unmap(&m->user, AT, P4K, MM_PAGING_RELEASE), MM_OK);
        assert_int_equal(t->cpu[1].stats.nr_full, full + 1);
        t_nothing_stale(m);
        /* And a record that a slow writer holds: nobody waits for it. */
        all_access(t, AT + P4K, T_MMU_USER, T_CPU_DONE);
        m->user.ring[(m->user.gen + 1) % MM_TLB_RING].seq |= 1;
        assert_int_equal(t_unmap(&m->user, AT + P4K, P4K, MM_PAGING_RELEASE), MM_OK);
        assert_int_equal(t->cpu[1].stats.nr_full, full + 2);
        t_nothing_stale(m);
        m->user.ring[m->user.gen % MM_TLB_RING].seq &= ~UINT64_C(1);
    }
}

/* --- sizes ------------------------------------------------------------------------------------- */

/* One INVLPG a leaf, whatever its size, and none of its pieces is left. */
static void test_large_leaves(void **state)
{
    static const struct {
        uint64_t len, pages;
    } rows[] = {{P1G, 1}, {20 * P2M, 20}, {P2M + P4K, 513}, {4 * P1G, 4}, {P4K, 1}};

    (void)state;
    EACH(t)
    {
        struct t_paging *m = t->m;

        t_cpus_noise(&m->cpus, 11, 4);
        all_enter(t, &m->user);
        for (unsigned i = 0; i < 3 * sizeof(rows) / sizeof(rows[0]); i++) {
            uint64_t len = rows[i / 3].len;
            uint64_t pages = rows[i / 3].pages;
            uint64_t before[T_CPUS_MAX];

            assert_int_equal(t_map(&m->user, AT, 8 * P1G, len, T_URW), MM_OK);
            for (uint64_t at = 0; at < len; at += len / 16 + 0x1357) {
                all_access(t, AT + at, T_MMU_USER | T_MMU_WRITE, T_CPU_DONE);
            }
            for (unsigned cpu = 0; cpu < m->cpus.nr; cpu++) {
                before[cpu] = m->cpus.cpu[cpu].nr_invlpg;
            }
            m->cpus.now = i % m->cpus.nr;
            if (i % 3 == 0) {
                assert_int_equal(t_unmap(&m->user, AT, len, 0), MM_OK);
            } else if (i % 3 == 1) {
                assert_int_equal(t_protect(&m->user, AT, len, T_UR, 0), MM_OK);
            } else {
                struct mm_pagetable copy = {0};
                struct mm_gather gather;

                assert_int_equal(mm_paging_init_user(&copy, &m->kernel), MM_OK);
                assert_int_equal(mm_gather_begin(&gather, &m->user), MM_OK);
                assert_int_equal(
                    mm_paging_clone(&m->user, &copy, t_range(AT, len), NULL, NULL, &gather), MM_OK);
                mm_gather_end(&gather);
                assert_int_equal(mm_paging_destroy(&copy), MM_OK);
            }
            t_nothing_stale(m);
            for (unsigned cpu = 0; cpu < m->cpus.nr; cpu++) {
                assert_int_equal(m->cpus.cpu[cpu].nr_invlpg - before[cpu],
                                 pages > MM_GATHER_FLUSH_PAGES ? 0 : pages);
            }
            if (i % 3 != 0) {
                assert_int_equal(t_unmap(&m->user, AT, len, 0), MM_OK);
            }
        }
    }
}

/* A hole in front of a leaf, in the table that both share, and a leaf that is split. */
static void test_smallest_leaf_counts(void **state)
{
    (void)state;
    EACH(t)
    {
        struct t_paging *m = t->m;

        t_cpus_noise(&m->cpus, 12, 4);
        all_enter(t, &m->user);
        for (unsigned i = 0; i < 24; i++) {
            uint64_t cut = i * 20 * P4K;

            assert_int_equal(t_map(&m->user, AT + P2M, 8 * P1G + P2M, P2M, T_URW), MM_OK);
            for (uint64_t at = P2M; at < 2 * P2M; at += 17 * P4K) {
                all_access(t, AT + at, T_MMU_USER | T_MMU_WRITE, T_CPU_DONE);
            }
            if (i % 4 != 3) {
                assert_int_equal(t_map(&m->user, AT + 2 * P2M, LEAF, 5 * P4K, T_URW), MM_OK);
                all_access(t, AT + 2 * P2M + 4 * P4K, T_MMU_USER | T_MMU_WRITE, T_CPU_DONE);
            }
            m->cpus.now = i % m->cpus.nr;
            if (i % 2 == 0) {
                assert_int_equal(t_unmap(&m->user, AT + P2M + cut, P4K, MM_PAGING_SPLIT), MM_OK);
                t_nothing_stale(m);
            }
            assert_int_equal(t_unmap(&m->user, AT + P4K, P1G - P4K, MM_PAGING_SKIP_HOLES), MM_OK);
            t_nothing_stale(m);
            all_access(t, AT + 2 * P2M + 4 * P4K, T_MMU_USER, T_MMU_ERR_U);
        }
    }
}

static void unmap_holes(struct t_tlb *t, uint64_t at, uint64_t len, uint64_t nr_interrupts)
{
    t->nr_sent = 0;
    assert_int_equal(t_unmap(&t->m->user, at, len, MM_PAGING_SKIP_HOLES), MM_OK);
    assert_int_equal(t->nr_sent, nr_interrupts);
    t_nothing_stale(t->m);
}

/* Where there was nothing, nobody is disturbed; a table that goes is told of, whatever it held: a
 * CPU may remember the way to it. */
static void test_holes_disturb_nobody(void **state)
{
    (void)state;
    EACH(t)
    {
        struct t_paging *m = t->m;
        uint64_t others = m->cpus.nr - 1;

        all_enter(t, &m->user);
        m->cpus.now = 0;
        assert_int_equal(t_map(&m->user, AT, LEAF, P4K, T_URW), MM_OK);
        all_access(t, AT, T_MMU_USER, T_CPU_DONE);
        unmap_holes(t, AT + P4K, P1G, 0);
        assert_int_equal(mm_paging_guard(&m->user, t_range(AT + P4K, 7 * P4K)), MM_OK);
        all_access(t, AT + P4K, T_MMU_USER, T_MMU_ERR_U);
        unmap_holes(t, AT + P4K, P1G, 0);
        unmap_holes(t, AT, P1G, others);
        assert_int_equal(mm_paging_guard(&m->user, t_range(AT, P4K)), MM_OK);
        all_access(t, AT, T_MMU_USER, T_MMU_ERR_U);
        unmap_holes(t, AT, P4K, others);
        unmap_holes(t, AT, P1G, 0);
    }
}

/* --- CPUs that come and go ---------------------------------------------------------------------- */

static void test_coming_and_going(void **state)
{
    (void)state;
    EACH(t)
    {
        struct t_paging *m = t->m;
        struct mm_paging_backend backend = mm_x86_64_backend(&m->arch);
        mm_paddr_t elsewhere = mm_paddr(T_TABLES * P4K);

        for (unsigned round = 0; round < 6; round++) {
            assert_int_equal(t_map(&m->kernel, KPAGE, LEAF, P4K, MM_PROT_RW | MM_PROT_GLOBAL),
                             MM_OK);
            all_access(t, KPAGE, 0, T_CPU_DONE);
            t_tlb_enter(t, 1, &m->user);
            assert_int_equal(mm_tlb_offline(&t->tlb), MM_ERR_BUSY);
            t_tlb_enter(t, 1, &m->kernel);
            assert_int_equal(mm_paging_load_root(backend, elsewhere), MM_OK);
            assert_int_equal(mm_tlb_offline(&t->tlb), MM_OK);
            assert_int_equal(mm_tlb_offline(&t->tlb), MM_OK);
            assert_int_equal(mm_paging_activate(&m->user), MM_ERR_NOT_INITIALIZED);
            assert_int_equal(mm_paging_leave(&m->kernel), MM_ERR_NOT_INITIALIZED);
            m->cpus.now = 0;
            t->nr_sent = 0;
            assert_int_equal(t_unmap(&m->kernel, KPAGE, P4K, MM_PAGING_RELEASE), MM_OK);
            assert_int_equal(t->nr_sent, m->cpus.nr - 2);
            t_nothing_stale(m);
            /* A CPU that is not online unmaps: it flushes itself, and the others. */
            assert_int_equal(t_map(&m->kernel, KPAGE, LEAF, P4K, MM_PROT_RW), MM_OK);
            assert_int_equal(access_on(t, 0, KPAGE, 0), T_CPU_DONE);
            m->cpus.now = 1;
            mm_tlb_service(&t->tlb);
            assert_int_equal(t_unmap(&m->kernel, KPAGE, P4K, MM_PAGING_RELEASE), MM_OK);
            t_nothing_stale(m);
            assert_int_equal(mm_tlb_online(&t->tlb), MM_OK);
            assert_int_equal(mm_tlb_online(&t->tlb), MM_OK);
            assert_int_equal(mm_paging_leave(&m->kernel), MM_OK);
        }
    }
}

/* --- 1,024 CPUs --------------------------------------------------------------------------------- */

static uint32_t self;               /* the CPU that runs */
static struct mm_cpu_mask called;   /* that were interrupted */
static struct mm_tlb *the_tlb;      /* of all of them */
static struct mm_tlb_cpu *all_cpus; /* 1,024 */
static const uint32_t some[] = {0, 1, 62, 63, 64, 65, 127, 128, 511, 512, 960, 1022, 1023};
#define NR_SOME (sizeof(some) / sizeof(some[0]))

static uint32_t many_this_cpu(void *ctx)
{
    (void)ctx;
    return self;
}

static void many_interrupt(void *ctx, const struct mm_cpu_mask *cpus)
{
    uint32_t now = self;

    (void)ctx;
    called = *cpus;
    for (self = 0; self < MM_MAX_CPUS; self++) {
        if (((cpus->bits[self / 64] >> (self % 64)) & 1) != 0) {
            mm_tlb_service(the_tlb);
        }
    }
    self = now;
}

static bool is_called(uint32_t cpu)
{
    return ((called.bits[cpu / 64] >> (cpu % 64)) & 1) != 0;
}

static uint64_t nr_called(void)
{
    uint64_t nr = 0;

    for (unsigned word = 0; word < MM_MAX_CPUS / 64; word++) {
        nr += (uint64_t)__builtin_popcountll(called.bits[word]);
    }
    return nr;
}

static void flush_page(struct mm_pagetable *pt, uint64_t at)
{
    struct mm_gather gather;

    memset(&called, 0, sizeof(called));
    assert_int_equal(mm_gather_begin(&gather, pt), MM_OK);
    mm_gather_add_range(&gather, t_range(at, P4K));
    mm_gather_end(&gather);
}

static void test_1024_cpus(void **state)
{
    static const struct mm_tlb_ops ops = {.this_cpu = many_this_cpu, .interrupt = many_interrupt};
    struct t_tlb t = {.m = t_paging_new()};
    struct mm_tlb_config config;
    struct mm_paging_config paging;

    (void)state;
    t_tlb_cpus(&t);
    all_cpus = calloc(MM_MAX_CPUS, sizeof(*all_cpus));
    assert_non_null(all_cpus);
    config = t_tlb_config(&t);
    config.ops = &ops;
    config.cpus = all_cpus;
    config.nr_cpus = MM_MAX_CPUS;
    assert_int_equal(mm_tlb_init(&t.tlb, &config), MM_OK);
    the_tlb = &t.tlb;
    paging = t_config(t.m);
    paging.tlb = &t.tlb;
    assert_int_equal(mm_paging_init_kernel(&t.m->kernel, &paging), MM_OK);
    assert_int_equal(mm_paging_init_user(&t.m->user, &t.m->kernel), MM_OK);
    for (unsigned i = 0; i < NR_SOME; i++) {
        self = some[i];
        assert_int_equal(mm_tlb_online(&t.tlb), MM_OK);
        assert_int_equal(mm_paging_activate(i % 2 == 0 ? &t.m->user : &t.m->kernel), MM_OK);
    }
    for (unsigned i = 0; i < NR_SOME; i++) {
        self = some[i];
        flush_page(&t.m->user, AT);
        for (unsigned j = 0; j < NR_SOME; j++) {
            assert_int_equal(is_called(some[j]), j != i && j % 2 == 0);
        }
        assert_int_equal(nr_called(), i % 2 == 0 ? NR_SOME / 2 : NR_SOME / 2 + 1);
        flush_page(&t.m->kernel, KPAGE);
        for (unsigned j = 0; j < NR_SOME; j++) {
            assert_int_equal(is_called(some[j]), j != i);
        }
        assert_int_equal(nr_called(), NR_SOME - 1);
    }
    for (self = 0; self < MM_MAX_CPUS; self++) {
        assert_int_equal(mm_paging_destroy(&t.m->user), MM_ERR_BUSY);
        assert_int_equal(mm_paging_destroy(&t.m->kernel), MM_ERR_BUSY);
        assert_int_equal(mm_tlb_destroy(&t.tlb), MM_ERR_BUSY);
    }
    for (unsigned i = 0; i < NR_SOME; i++) {
        self = some[i];
        assert_int_equal(mm_paging_leave(&t.m->kernel), MM_OK);
        assert_int_equal(mm_tlb_offline(&t.tlb), MM_OK);
    }
    self = MM_MAX_CPUS; /* no such CPU */
    assert_int_equal(mm_tlb_online(&t.tlb), MM_ERR_LIMIT);
    assert_int_equal(mm_tlb_offline(&t.tlb), MM_ERR_LIMIT);
    assert_int_equal(mm_paging_activate(&t.m->user), MM_ERR_NOT_INITIALIZED);
    flush_page(&t.m->kernel, KPAGE);
    mm_tlb_service(&t.tlb);
    assert_int_equal(nr_called(), 0);
    assert_int_equal(mm_paging_load_root(mm_x86_64_backend(&t.m->arch), mm_paddr(T_TABLES * P4K)),
                     MM_OK);
    assert_int_equal(mm_paging_destroy(&t.m->user), MM_OK);
    assert_int_equal(mm_tlb_destroy(&t.tlb), MM_ERR_BUSY);
    assert_int_equal(mm_paging_destroy(&t.m->kernel), MM_OK);
    assert_int_equal(mm_tlb_destroy(&t.tlb), MM_OK);
    assert_int_equal(t.tlb.magic, 0);
    t_paging_delete(t.m);
    free(all_cpus);
}

/* --- rules and wrong input ---------------------------------------------------------------------- */

static void test_may_not_wait(void **state)
{
    struct t_tlb *t = new_tlb(&variants[0]);
    struct mm_gather gather;
    struct t_trap_info info;

    (void)state;
    all_enter(t, &t->m->user);
    t->m->cpus.now = 0;
    t->may_not = true;
    assert_int_equal(mm_gather_begin(&gather, &t->m->user), MM_OK);
    mm_gather_add_range(&gather, t_range(AT, P4K));
    T_EXPECT_PANIC(mm_gather_end(&gather), &info);
    assert_string_equal(info.room, "paging");
    assert_non_null(strstr(info.claimed, "may_wait"));
    assert_int_equal(info.recorded_value, 1);
    t_tlb_run(t, 1);
    /* Nobody else is in it: nothing is asked. */
    t_tlb_enter(t, 1, &t->m->kernel);
    t->m->cpus.now = 0;
    mm_gather_end(&gather);
    t->may_not = false;
    delete_tlb(t);
}

/* An interrupt that gets lost is said once, with the CPU; the wait goes on. */
static void test_lost_interrupt(void **state)
{
    struct t_tlb *t = new_tlb(&variants[3]);
    struct mm_gather gather;

    (void)state;
    t_tlb_enter(t, 2, &t->m->user);
    t->m->cpus.now = 0;
    t->later = true;
    t->lost = (UINT64_C(1) << 25) + 2;
    assert_int_equal(mm_gather_begin(&gather, &t->m->user), MM_OK);
    mm_gather_add_range(&gather, t_range(AT, P4K));
    mm_gather_end(&gather);
    assert_true(t->nr_waited >= t->lost);
    assert_int_equal(t->nr_logged, 1);
    assert_non_null(strstr(t->logged, "has not flushed for long"));
    assert_non_null(strstr(t->logged, "0x2"));
    t_tlb_enter(t, 2, &t->m->kernel);
    t->m->cpus.now = 0;
    delete_tlb(t);
}

static void test_wrong_input(void **state)
{
    struct t_tlb *t = calloc(1, sizeof(*t));
    struct mm_tlb_config good;
    struct mm_tlb_ops ops = *t_tlb_ops();
    struct mm_pagetable other = {0};
    struct mm_paging_config paging;
    struct mm_x86_64 arch = {0};
    struct mm_tlb_stats stats;
    struct mm_cpu_mask cpus;

    (void)state;
    assert_non_null(t);
    t->m = t_paging_new_cpus(2);
    t_tlb_cpus(t);
    good = t_tlb_config(t);
#define BAD(change)                                                                                \
    do {                                                                                           \
        struct mm_tlb_config config = good;                                                        \
        change;                                                                                    \
        assert_int_equal(mm_tlb_init(&t->tlb, &config), MM_ERR_INVALID_ARGUMENT);                  \
        assert_int_equal(t->tlb.magic, 0);                                                         \
    } while (0)
    BAD(config.backend.ops = NULL);
    BAD(config.cpus = NULL);
    BAD(config.nr_cpus = 0);
    BAD(config.nr_cpus = MM_MAX_CPUS + 1);
    BAD(config.ops = NULL);
    BAD(ops.this_cpu = NULL; config.ops = &ops);
    ops = *t_tlb_ops();
    BAD(ops.interrupt = NULL; config.ops = &ops);
    assert_int_equal(mm_tlb_init(NULL, &good), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_tlb_init(&t->tlb, NULL), MM_ERR_INVALID_ARGUMENT);
    paging = t_config(t->m);
    paging.tlb = &t->tlb;
    assert_int_equal(mm_paging_init_kernel(&t->m->kernel, &paging), MM_ERR_NOT_INITIALIZED);
    assert_int_equal(mm_tlb_online(&t->tlb), MM_ERR_NOT_INITIALIZED);
    assert_int_equal(mm_tlb_offline(&t->tlb), MM_ERR_NOT_INITIALIZED);
    assert_int_equal(mm_tlb_destroy(&t->tlb), MM_ERR_NOT_INITIALIZED);
    assert_int_equal(mm_tlb_get_stats(&t->tlb, &stats), MM_ERR_NOT_INITIALIZED);
    mm_tlb_service(&t->tlb);
    mm_tlb_service(NULL);
    t_tlb_roots(t, &good);
    assert_int_equal(mm_tlb_init(&t->tlb, &good), MM_ERR_ALREADY_INITIALIZED);
    assert_int_equal(mm_tlb_get_stats(&t->tlb, NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_tlb_get_stats(NULL, &stats), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_tlb_online(NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_tlb_offline(NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_tlb_destroy(NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_tlb_cpus(&t->m->kernel, NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_tlb_cpus(NULL, &cpus), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_tlb_cpus(&other, &cpus), MM_ERR_NOT_INITIALIZED);
    assert_int_equal(mm_paging_leave(NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_paging_leave(&other), MM_ERR_NOT_INITIALIZED);
    assert_int_equal(mm_paging_leave(&t->m->user), MM_ERR_INVALID_ARGUMENT);
    /* One kernel root at a time, of the same backend. */
    assert_int_equal(mm_paging_init_kernel(&other, &paging), MM_ERR_BUSY);
    assert_int_equal(mm_x86_64_init(&arch, &t_cpu_ops, &t->m->cpus), MM_OK);
    paging.backend = mm_x86_64_backend(&arch);
    assert_int_equal(mm_paging_init_kernel(&other, &paging), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(other.magic, 0);
    /* A page table without one. */
    paging.tlb = NULL;
    assert_int_equal(mm_paging_init_kernel(&other, &paging), MM_OK);
    assert_int_equal(mm_tlb_cpus(&other, &cpus), MM_ERR_NOT_INITIALIZED);
    assert_int_equal(mm_paging_leave(&other), MM_OK);
    assert_int_equal(mm_paging_current_root(paging.backend).raw, other.root.raw);
    assert_int_equal(mm_paging_leave(&t->m->kernel), MM_OK);
    assert_int_equal(mm_paging_destroy(&other), MM_OK);
    delete_tlb(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_cpu_forgets),
        cmocka_unit_test(test_kernel_pages),
        cmocka_unit_test(test_leaving),
        cmocka_unit_test(test_the_same_root_again),
        cmocka_unit_test(test_more_roots_than_pcids),
        cmocka_unit_test(test_root_of_somebody_else),
        cmocka_unit_test(test_two_initiators),
        cmocka_unit_test(test_more_than_the_records),
        cmocka_unit_test(test_large_leaves),
        cmocka_unit_test(test_smallest_leaf_counts),
        cmocka_unit_test(test_holes_disturb_nobody),
        cmocka_unit_test(test_coming_and_going),
        cmocka_unit_test(test_1024_cpus),
        cmocka_unit_test(test_may_not_wait),
        cmocka_unit_test(test_lost_interrupt),
        cmocka_unit_test(test_wrong_input),
    };

    return cmocka_run_group_tests_name("tlb", tests, NULL, NULL);
}
