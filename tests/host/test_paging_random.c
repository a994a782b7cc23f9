// SPDX-License-Identifier: MIT
/**
 * Random operations on page tables against the flat model, on kernel and user roots of 48 and 57
 * bits, with and without 1 GiB leaves, PCIDs and INVPCID, in use and not. Hazards 7 to 10, 13 to 18.
 *
 * One to eight simulated CPUs run beside them: they change roots, leave, go offline and come back,
 * make accesses of every kind and look ahead at random, also in the middle of an operation and of a
 * shootdown (t_tlb.h). After each operation the sweep finds nothing that a CPU could use and that
 * disagrees with the tables; each frame that is freed is in no cache at that moment. Some of the
 * operations run out of frames at a random point, and change nothing then.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>

#include "paging_random.h"
#include "paging_random_cpus.h"
#include "paging_random_ops.h"

#define NR_WORLDS 16u

static struct run the_run;
static uint64_t all_operations;
/* Of all worlds, for in one alone there may be none: larger leaves, soft slots, labelled leaves. */
static uint64_t all_merged, all_soft, all_labelled;
static double all_seconds; /* of CPU time, for these */

/* --- one operation after the other ------------------------------------------------------------ */

static void sweep(struct run *r, enum t_sweep how)
{
    const char *wrong = t_cpus_sweep(&r->m->cpus, how);

    if (wrong != NULL) {
        fail_msg("%s", wrong);
    }
}

static void empty_everything(struct run *r, uint64_t nr_tables)
{
    for (unsigned w = 0; w < r->nr_windows; w++) {
        choose_cpu(r);
        assert_int_equal(
            t_unmap(r->pt, r->windows[w].start, r->windows[w].len, MM_PAGING_SKIP_HOLES), MM_OK);
        T_LEGAL(t_mpages_unmap(&r->model, r->windows[w].start, r->windows[w].len, T_MPAGES_HOLES) ==
                        T_MPAGES_OK
                    ? NULL
                    : "cannot unmap");
    }
    assert_int_equal(r->pt->nr_tables, nr_tables);
    sweep(r, T_SWEEP_SAME);
}

/* Returns whether it failed and was seen to change nothing. */
static bool operate_once(struct run *r, struct mm_vrange range)
{
    struct mm_gather gather;
    bool injected = t_prng_chance(&r->prng, 1, every(r, 10));
    bool hashed = injected || r->operation % every(r, 24) == 0; /* it reads every table */
    unsigned noise = r->m->cpus.noise;
    uint64_t before;
    mm_status_t status;
    bool unchanged = false;

    choose_cpu(r);
    assert_int_equal(mm_gather_begin(&gather, r->pt), MM_OK);
    r->m->cpus.noise = hashed ? 0 : noise; /* looking ahead sets accessed: another state */
    before = hashed ? t_state(r->m, NULL) : 0;
    if (injected) {
        t_inject_from(&r->m->inject, 1 + t_prng_below(&r->prng, 6));
    }
    r->cloned = false;
    status = one_operation(r, range, &gather);
    injected = injected && r->m->inject.fired > 0;
    t_inject_never(&r->m->inject);
    assert_int_equal(status == MM_ERR_NO_MEMORY, injected);
    if (status != MM_OK && !r->cloned) {
        assert_int_equal(gather.nr_ranges + gather.nr_tables, 0);
        if (hashed) {
            unchanged = true;
            assert_int_equal(before, t_state(r->m, NULL));
        }
    }
    r->m->cpus.noise = noise;
    if (status == MM_OK && t_prng_chance(&r->prng, 1, 4)) { /* two in one gather */
        assert_int_not_equal(one_operation(r, random_range(r), &gather), MM_ERR_NO_MEMORY);
    }
    if (r->operation % 8 == 0) { /* tables may differ now, but nothing is free yet */
        sweep(r, T_SWEEP_FREED);
    }
    mm_gather_end(&gather);
    sweep(r, T_SWEEP_SAME);
    return unchanged;
}

/* What the CPUs have found in their caches, and put there ahead of time. */
static void count_hits(const struct run *r, uint64_t *nr_hits, uint64_t *nr_speculated)
{
    *nr_hits = 0;
    *nr_speculated = 0;
    for (unsigned i = 0; i < r->nr_cpus; i++) {
        *nr_hits += r->m->cpus.cpu[i].nr_hits;
        *nr_speculated += r->m->cpus.cpu[i].nr_speculated;
    }
}

static void operate(struct run *r, unsigned nr, unsigned rarity)
{
    uint64_t nr_tables = r->pt->nr_tables;
    uint64_t nr_hits[2];
    uint64_t nr_speculated[2];
    unsigned failed = 0;
    clock_t start = clock();

    r->rarity = rarity;
    count_hits(r, &nr_hits[0], &nr_speculated[0]);
    for (r->operation = 0; r->operation < nr; r->operation++) {
        struct mm_vrange range = random_range(r);

        for (unsigned i = 0; i < 6; i++) { /* in the range that is next; and where it was good */
            random_access(r,
                          i < 3 ? choose_page(r, range) : r->hot[t_prng_below(&r->prng, NR_HOT)]);
        }
        failed += operate_once(r, range) ? 1 : 0;
        compare_at(r, r->pt, range.start.raw, false);
        compare_at(r, r->pt, mm_vrange_last(range).raw, false);
        if (range.len <= 64 * P4K || r->operation % 32 == 0) {
            compare_range(r, range);
        }
        if (r->operation % every(r, 512) == 0) {
            compare_all(r, r->pt, false);
        }
        if (r->operation % 1000 == 0) {
            audit(r, NULL);
        }
        if (t_prng_chance(&r->prng, 1, 25)) {
            random_switch(r);
        }
        if (r->user && t_prng_chance(&r->prng, 1, r->idle ? 200 : 2000)) {
            toggle_idle(r);
        }
        if (r->shoots && t_prng_chance(&r->prng, 1, 400)) {
            come_or_go(r, (unsigned)t_prng_below(&r->prng, r->nr_cpus));
        }
        r->tlb.later = t_prng_chance(&r->prng, 1, 2);
        if (t_prng_chance(&r->prng, 1, every(r, 500))) {
            empty_everything(r, nr_tables);
        }
    }
    if (rarity != 1 || NR_SPARSE == 0) {
        all_seconds += (double)(clock() - start) / CLOCKS_PER_SEC;
        all_operations += nr;
    }
    compare_all(r, r->pt, false);
    audit(r, NULL);
    assert_true(failed > 0);
    count_hits(r, &nr_hits[1], &nr_speculated[1]);
    assert_true(nr_hits[1] - nr_hits[0] > nr / 20); /* the sweep saw something */
    assert_true(nr_speculated[1] - nr_speculated[0] > nr / 20);
    empty_everything(r, nr_tables);
}

/* --- worlds ---------------------------------------------------------------------------------- */

static void add_window(struct run *r, uint64_t start, uint64_t len)
{
    t_mpages_add_window(&r->model, start, len);
    r->windows[r->nr_windows++] = (struct window){start, len};
}

static void add_windows(struct run *r, uint64_t half)
{
    if (r->user) { /* a corner, across 1 GiB, the top of the half */
        add_window(r, 0, 16 * P2M);
        add_window(r, 3 * P1G - 4 * P2M, P1G + 8 * P2M);
        add_window(r, (half >> 1) - 8 * P2M, 16 * P2M); /* across entries of the root */
        add_window(r, half - 8 * P2M, 8 * P2M);
    } else {
        add_window(r, -half, 16 * P2M);
        add_window(r, -half + 7 * P1G - 4 * P2M, P1G + 8 * P2M);
        add_window(r, T_KERNEL_TOP, 4 * P2M);
        add_window(r, 0 - 16 * P2M, 16 * P2M);
    }
}

static struct t_paging *new_machine(struct run *r)
{
    const struct setup *setup = r->setup;
    struct t_paging *m = t_paging_new_cpus(setup->nr_cpus);

    for (unsigned i = 0; i < setup->nr_cpus; i++) {
        m->cpus.cpu[i].mmu.cr4 |= setup->la57 ? T_MMU_CR4_LA57 : 0;
    }
    m->cpus.has.page_1g = setup->page_1g;
    m->cpus.has.pcid = setup->pcid;
    m->cpus.has.invpcid = setup->invpcid;
    m->cpus.has.pku = setup->pku;
    r->tlb.m = m;
    if (setup->shoots) {
        t_tlb_cpus(&r->tlb);
    } else {
        t_paging_arch(m);
    }
    assert_int_equal(m->arch.enabled.pcid, setup->pcid);
    return m;
}

/* The generations of flushes begin anywhere, also shortly before they wrap. */
static void make_tlb(struct run *r, struct mm_paging_config *paging)
{
    struct mm_tlb_config config = t_tlb_config(&r->tlb);

    config.first_generation = t_prng_u64(&r->prng) % 5000 - 2500;
    assert_int_equal(mm_tlb_init(&r->tlb.tlb, &config), MM_OK);
    paging->tlb = &r->tlb.tlb;
    paging->platform = t_tlb_platform(&r->tlb);
    for (unsigned i = 0; i < r->nr_cpus; i++) {
        r->m->cpus.now = i;
        assert_int_equal(mm_tlb_online(&r->tlb.tlb), MM_OK);
    }
    r->tlb.turn = meanwhile;
}

static void make_roots(struct run *r, uint64_t half)
{
    struct t_paging *m = r->m;
    struct mm_vrange ranges[2] = {
        {{-half}, r->setup->la57 ? UINT64_C(1) << 50 : UINT64_C(16) << 30},
        {{T_KERNEL_TOP}, T_KERNEL_TOP_LEN},
    };
    struct mm_paging_config config = t_config(m);

    config.kernel_ranges = ranges;
    config.user.len = half;
    if (r->shoots) {
        make_tlb(r, &config);
    } else {
        assert_int_equal(mm_paging_init_kernel(&r->stranger, &config), MM_OK);
    }
    assert_int_equal(mm_paging_init_kernel(&m->kernel, &config), MM_OK);
    assert_int_equal(mm_paging_init_user(&m->user, &m->kernel), MM_OK);
    r->pt = r->user ? &m->user : &m->kernel;
    for (unsigned i = 0; i < NR_OTHER; i++) {
        assert_int_equal(mm_paging_init_user(&r->other[i], &m->kernel), MM_OK);
    }
}

/* What the CPUs sent and saw; and that they did. */
static void count_shootdowns(const struct run *r)
{
    struct mm_tlb_stats stats;

    assert_int_equal(mm_tlb_get_stats(&r->tlb.tlb, &stats), MM_OK);
    print_message(
        "%s: %llu shootdowns, %llu interrupts, %llu left instead; roots loaded: %llu kept, "
        "%llu anew\n",
        r->setup->name, (unsigned long long)stats.nr_shootdowns,
        (unsigned long long)stats.nr_interrupts, (unsigned long long)stats.nr_left,
        (unsigned long long)stats.nr_asid_hits, (unsigned long long)stats.nr_asid_misses);
    if (NR_SPARSE == 0) {
        return; /* a short run may miss some of it */
    }
    assert_true(r->nr_cpus == 1 || stats.nr_shootdowns > 0);
    /* Who leaves the kernel's root serves it first. */
    assert_true(r->nr_cpus == 1 || stats.nr_left > 0 || !r->user);
    assert_true(!r->setup->pcid || (stats.nr_asid_hits > 0 && stats.nr_asid_misses > 0));
}

static void take_down(struct run *r)
{
    for (unsigned i = 0; i < r->nr_cpus; i++) {
        if (!is_online(r, i)) {
            come_or_go(r, i);
        }
        enter(r, i, &r->m->kernel);
    }
    for (unsigned i = 0; i < NR_OTHER; i++) {
        assert_int_equal(mm_paging_destroy(&r->other[i]), MM_OK);
    }
    if (r->shoots) {
        count_shootdowns(r);
        t_tlb_delete(&r->tlb);
    } else {
        assert_int_equal(mm_paging_destroy(&r->stranger), MM_OK);
        t_paging_delete(r->m);
    }
    r->done = true;
}

static void test_world(void **state)
{
    const struct setup *setup = *state;
    struct run *r = &the_run;
    uint64_t half = UINT64_C(1) << (setup->la57 ? 56 : 47);
    unsigned factor = getenv("MM_TEST_FULL") != NULL ? 20 : 1;

    memset(r, 0, sizeof(*r));
    t_prng_start(&r->prng, setup->name);
    t_mpages_init(&r->model, setup->page_1g ? 30 : 21);
    r->setup = setup;
    r->nr_cpus = setup->nr_cpus;
    r->user = setup->user;
    r->shoots = setup->shoots;
    r->m = new_machine(r);
    add_windows(r, half);
    make_roots(r, half);
    for (unsigned i = 0; i < r->nr_cpus; i++) {
        enter(r, i, r->pt);
    }
    t_cpus_noise(&r->m->cpus, t_prng_u64(&r->prng), 8);
    operate(r, NR_DENSE / NR_WORLDS * factor, 1);
    if (NR_SPARSE != 0) {
        operate(r, NR_SPARSE / NR_WORLDS * factor, RARITY);
    }
    all_merged += r->nr_merged;
    all_soft += r->nr_soft;
    all_labelled += r->nr_labelled;
    t_mpages_destroy(&r->model);
    take_down(r);
}

/* A run that was left half-way says where: the seed alone repeats all of it. */
static int say_where(void **state)
{
    (void)state;
    if (!the_run.done) {
        print_error("paging random: '%s' ended in operation %u of the %s part; the whole program "
                    "with MM_TEST_SEED does it again\n",
                    the_run.setup->name, the_run.operation,
                    the_run.rarity == 1 ? "dense" : "sparse");
    }
    return 0;
}

/* All of user and kernel, 48 and 57 bits, 1 GiB leaves or none, PCIDs or none; INVPCID with half of
 * each; and each number of CPUs twice. A CPU alone has a tlb once, and once not. */
static void choose_world(struct setup *setup, unsigned i)
{
    setup->la57 = (i & 1) != 0;
    setup->page_1g = (i & 2) != 0;
    setup->pcid = (i & 4) != 0;
    setup->user = (i & 8) != 0;
    setup->invpcid = setup->la57 != (setup->page_1g != setup->user);
    setup->pku = setup->pcid != (setup->la57 != setup->user);
    setup->nr_cpus = (i * 5 + i / 8 * 4) % T_CPUS_MAX + 1;
    setup->shoots = setup->nr_cpus > 1 || setup->pcid;
    (void)snprintf(setup->name, sizeof(setup->name), "%s %u%s%s%s%s, %u CPU%s",
                   setup->user ? "user" : "kernel", setup->la57 ? 57 : 48,
                   setup->page_1g ? " 1g" : "", setup->pcid ? " pcid" : "",
                   setup->invpcid ? " invpcid" : "", setup->pku ? " keys" : "", setup->nr_cpus,
                   setup->nr_cpus == 1 ? "" : "s");
}

int main(void)
{
    static struct setup setups[NR_WORLDS];
    struct CMUnitTest tests[NR_WORLDS];
    int failed;

    for (unsigned i = 0; i < NR_WORLDS; i++) {
        choose_world(&setups[i], i);
        tests[i] = (struct CMUnitTest){setups[i].name, test_world, NULL, say_where, &setups[i]};
    }
    failed = cmocka_run_group_tests_name("paging_random", tests, NULL, NULL);
    if (failed == 0 && (all_merged == 0 || all_soft == 0 || all_labelled == 0)) {
        print_error("paging random: nothing was ever merged, made soft, or labelled\n");
        failed = 1;
    }
    print_message("paging random: %llu operations, %.0f a second, 1 to %u CPUs in %u worlds, sweep "
                  "after each\n",
                  (unsigned long long)all_operations,
                  all_seconds > 0 ? (double)all_operations / all_seconds : 0, T_CPUS_MAX,
                  NR_WORLDS);
    return failed;
}
