// SPDX-License-Identifier: MIT
/**
 * Random operations on page tables against the flat model: map, unmap, protect, replace and clone,
 * on kernel and user roots of 48 and 57 bits, with and without 1 GiB leaves, in use and not.
 *
 * Four simulated CPUs run beside them: they change roots, make accesses of every kind and look
 * ahead at random, also in the middle of an operation. Flushes are broadcast (sim_cpu_mm.h says
 * what that stands for). After each operation the sweep finds nothing in any cache that disagrees
 * with the tables; each frame that is freed is in no cache at that moment. Some of the operations
 * run out of frames at a random point, and change nothing then.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>

#include "ledger_mm.h"
#include "paging_random.h"

static struct run the_run;
static uint64_t all_operations;
static double all_seconds; /* of CPU time, for these */

/* --- operations ------------------------------------------------------------------------------ */

static mm_status_t op_map(struct run *r, struct mm_vrange range)
{
    static const struct {
        uint32_t flags;
        unsigned largest;
    } sizes[] = {{0, 0}, {0, 0}, {MM_PAGING_MAX_2M, 21}, {MM_PAGING_ONLY_4K, 12}};
    uint64_t paddr = random_paddr(r, range.start.raw);
    mm_prot_t prot = random_prot(r);
    mm_memtype_t type = (mm_memtype_t)t_prng_below(&r->prng, MM_MEMTYPE_COUNT);
    unsigned size = (unsigned)t_prng_below(&r->prng, 4);
    mm_status_t status;

    if (size == 3 && range.len > 64 * P2M) {
        size = 0; /* no thousands of tables */
    }
    status = mm_paging_map(r->pt, range, mm_paddr(paddr), prot, type, sizes[size].flags);
    if (status != MM_ERR_NO_MEMORY) {
        assert_int_equal(
            status, t_mpages_status_mm(t_mpages_map(&r->model, range.start.raw, paddr, range.len,
                                                    prot, (uint16_t)type, sizes[size].largest)));
    }
    return status;
}

static mm_status_t op_unmap(struct run *r, struct mm_vrange range, struct mm_gather *gather)
{
    uint32_t flags = (uint32_t)t_prng_below(&r->prng, 4);
    mm_status_t status = mm_paging_unmap(r->pt, range, flags, gather);

    if (status != MM_ERR_NO_MEMORY) {
        assert_int_equal(status,
                         t_mpages_status_mm(t_mpages_unmap(&r->model, range.start.raw, range.len,
                                                           t_mpages_flags_mm(flags))));
    }
    return status;
}

static mm_status_t op_protect(struct run *r, struct mm_vrange range, struct mm_gather *gather)
{
    uint32_t flags = (uint32_t)t_prng_below(&r->prng, 4);
    mm_prot_t prot = random_prot(r);
    mm_status_t status = mm_paging_protect(r->pt, range, prot, flags, gather);

    if (status != MM_ERR_NO_MEMORY) {
        assert_int_equal(status,
                         t_mpages_status_mm(t_mpages_protect(&r->model, range.start.raw, range.len,
                                                             prot, t_mpages_flags_mm(flags))));
    }
    return status;
}

static mm_status_t op_replace(struct run *r, struct mm_vrange range, struct mm_gather *gather)
{
    uint64_t at = range.start.raw;
    uint64_t paddr = random_paddr(r, at) & ~(P4K - 1);
    mm_prot_t prot = random_prot(r);
    mm_status_t status = mm_paging_replace(r->pt, mm_vaddr(at), mm_paddr(paddr), prot, 0, gather);
    const struct t_mpage *page = t_mpages_at(&r->model, at);
    uint16_t type;

    if (page == NULL) {
        assert_int_equal(status, MM_ERR_NOT_MAPPED);
    } else if (page->leaf != 12) {
        assert_int_equal(status, MM_ERR_HUGE_PAGE);
    } else {
        assert_int_equal(status, MM_OK);
        type = page->type;
        assert_int_equal(t_mpages_unmap(&r->model, at, P4K, 0), T_MPAGES_OK);
        assert_int_equal(t_mpages_map(&r->model, at, paddr, P4K, prot, type, 12), T_MPAGES_OK);
    }
    return status;
}

static void count_shared(void *ctx, mm_pfn_t first, uint64_t nr)
{
    uint64_t *frames = ctx;

    (void)first;
    *frames += nr;
}

static uint32_t refs_of_source(const void *ctx, uint64_t frame)
{
    return ((const struct t_paging *)ctx)->used[frame] ? 1 : 0;
}

/* Each frame that the source has given is a table of one of the roots. */
static void audit(const struct run *r, const struct mm_pagetable *copy)
{
    const struct t_paging *m = r->m;
    struct t_ledger *ledger = t_ledger_open_of(refs_of_source, m, t_ram_base(m->ram), T_TABLES);
    struct mm_vrange none = {{0}, 0};

    t_ledger_root(ledger, &m->kernel, NULL, none);
    t_ledger_root(ledger, &r->stranger, NULL, none);
    t_ledger_root(ledger, &m->user, &m->kernel, none);
    t_ledger_root(ledger, &r->other, &m->kernel, none);
    if (copy != NULL) {
        t_ledger_root(ledger, copy, &m->kernel, none);
    }
    T_LEGAL(t_ledger_close(ledger, 0));
}

/* Clone all windows into a new root, compare, and take it down again. */
static mm_status_t op_clone(struct run *r, struct mm_gather *gather)
{
    struct mm_pagetable copy = {0};
    mm_status_t status = mm_paging_init_user(&copy, &r->m->kernel);
    uint64_t frames = 0;
    unsigned done = 0;

    r->cloned = true;
    if (status != MM_OK) {
        return status;
    }
    for (; done < r->nr_windows && status == MM_OK; done++) {
        const struct window *w = &r->windows[done];

        status =
            mm_paging_clone(r->pt, &copy, t_range(w->start, w->len), count_shared, &frames, gather);
        if (status == MM_OK) { /* both sides lose the right to write */
            for (uint64_t i = 0; i < w->len / P4K; i++) {
                struct t_mpage *page = &r->model.windows[done].pages[i];

                if (page->leaf != 0 && (page->prot & MM_PROT_WRITE) != 0) {
                    page->prot = t_mpages_reported(page->prot) & ~MM_PROT_WRITE;
                }
            }
        }
    }
    mm_gather_end(gather);
    if (status == MM_OK) {
        assert_int_equal(frames, t_mpages_count(&r->model, 0));
        compare_all(r, &copy, true);
    }
    assert_int_equal(mm_paging_check(&copy), MM_OK);
    audit(r, &copy);
    assert_int_equal(mm_paging_destroy(&copy), MM_OK);
    return status;
}

static mm_status_t one_operation(struct run *r, struct mm_vrange range, struct mm_gather *gather)
{
    switch (t_prng_below(&r->prng, 20)) {
    case 0:
    case 1:
    case 2:
    case 3:
    case 4:
    case 5:
    case 6:
    case 7:
        return op_map(r, range);
    case 8:
    case 9:
    case 10:
    case 11:
    case 12:
        return op_unmap(r, range, gather);
    case 13:
    case 14:
    case 15:
    case 16:
    case 17:
        return op_protect(r, range, gather);
    case 18:
        return op_replace(r, range, gather);
    default:
        return r->user && t_prng_chance(&r->prng, 1, every(r, 20)) ? op_clone(r, gather) : MM_OK;
    }
}

/* --- what the CPUs do meanwhile --------------------------------------------------------------- */

static bool runs(const struct run *r, unsigned cpu, const struct mm_pagetable *pt)
{
    return r->m->cpus.cpu[cpu].mmu.cr3 == pt->root.raw;
}

/* The CPU that operates next: any; on a user root that CPUs are in, one of these. */
static void choose_cpu(struct run *r)
{
    unsigned first = (unsigned)t_prng_below(&r->prng, NR_CPUS);

    for (unsigned i = 0; i < NR_CPUS && r->user; i++) {
        if (runs(r, (first + i) % NR_CPUS, r->pt)) {
            first = (first + i) % NR_CPUS;
            break;
        }
    }
    r->m->cpus.now = first;
}

static void enter(struct run *r, unsigned cpu, struct mm_pagetable *pt)
{
    r->m->cpus.now = cpu;
    assert_int_equal(mm_paging_activate(pt), MM_OK);
    assert_true(runs(r, cpu, pt));
}

/* Whether the CPU's root shows what is mapped. */
static bool sees(const struct run *r, unsigned cpu)
{
    return r->user ? runs(r, cpu, r->pt) : !runs(r, cpu, &r->stranger);
}

static void random_switch(struct run *r)
{
    struct mm_pagetable *roots[] = {&r->m->kernel, &r->m->user, &r->other, &r->stranger,
                                    r->pt,         r->pt,       r->pt,     r->pt};
    struct mm_pagetable *to = roots[t_prng_below(&r->prng, 8)];

    enter(r, (unsigned)t_prng_below(&r->prng, NR_CPUS), r->idle && to == r->pt ? &r->other : to);
}

/* Everybody out, and entries are changed as in a root that was never used; or back in. */
static void toggle_idle(struct run *r)
{
    r->idle = !r->idle;
    for (unsigned i = 0; i < NR_CPUS; i++) {
        enter(r, i, r->idle ? &r->m->kernel : r->pt);
    }
    r->pt->active = r->idle ? 0 : 1;
}

/* What the access must answer, by the model: SMAP, SMEP, WP and NX are on. */
static uint32_t expected(const struct run *r, unsigned cpu, const struct t_mpage *page,
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
static uint64_t choose_page(struct run *r, struct mm_vrange range)
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

static void random_access(struct run *r, uint64_t at)
{
    static const unsigned kinds[] = {0, T_MMU_WRITE, T_MMU_FETCH, T_MMU_WRITE};
    uint64_t random = t_prng_u64(&r->prng);
    unsigned cpu = (unsigned)(random % NR_CPUS);
    unsigned access = kinds[(random >> 8) & 3] | ((random >> 16 & 7) == 0 ? T_MMU_AC : 0);
    const struct t_mpage *page = t_mpages_at(&r->model, at);
    uint64_t paddr = 0;
    uint32_t answer;

    if (((random >> 24) % 16 != 0) == r->user) {
        access |= T_MMU_USER;
    }
    if (!sees(r, cpu) && (random >> 32) % 4 != 0) {
        cpu = (cpu + 1) % NR_CPUS;
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
    bool hashed = injected || r->operation % every(r, 16) == 0; /* it reads every table */
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
    for (unsigned i = 0; i < NR_CPUS; i++) {
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
        if (r->operation % every(r, 512) == 0) {
            compare_all(r, r->pt, false);
        }
        if (r->operation % 1000 == 0) {
            audit(r, NULL);
        }
        if (t_prng_chance(&r->prng, 1, 50)) {
            random_switch(r);
        }
        if (r->user && t_prng_chance(&r->prng, 1, r->idle ? 200 : 2000)) {
            toggle_idle(r);
        }
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

/* --- geometries ------------------------------------------------------------------------------ */

static void add_window(struct run *r, uint64_t start, uint64_t len)
{
    t_mpages_add_window(&r->model, start, len);
    r->windows[r->nr_windows++] = (struct window){start, len};
}

static void run_random(const char *name, bool user, bool la57, bool page_1g, bool invpcid)
{
    struct run *r = &the_run;
    struct t_paging *m = t_paging_new_cpus(NR_CPUS);
    uint64_t half = UINT64_C(1) << (la57 ? 56 : 47);
    unsigned factor = getenv("MM_TEST_FULL") != NULL ? 20 : 1;
    struct mm_vrange ranges[2] = {
        {{-half}, la57 ? UINT64_C(1) << 50 : UINT64_C(16) << 30},
        {{T_KERNEL_TOP}, T_KERNEL_TOP_LEN},
    };
    struct mm_paging_config config;

    memset(r, 0, sizeof(*r));
    t_prng_start(&r->prng, name);
    t_mpages_init(&r->model, page_1g ? 30 : 21);
    r->m = m;
    r->name = name;
    r->user = user;
    for (unsigned i = 0; i < NR_CPUS; i++) {
        m->cpus.cpu[i].mmu.cr4 |= la57 ? T_MMU_CR4_LA57 : 0;
    }
    m->cpus.has.page_1g = page_1g;
    m->cpus.has.invpcid = invpcid;
    t_paging_arch(m);
    config = t_config(m);
    config.kernel_ranges = ranges;
    config.user.len = half;
    if (user) { /* a corner, across 1 GiB, the top of the half */
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
    assert_int_equal(mm_paging_init_kernel(&m->kernel, &config), MM_OK);
    assert_int_equal(mm_paging_init_user(&m->user, &m->kernel), MM_OK);
    r->pt = user ? &m->user : &m->kernel;
    assert_int_equal(mm_paging_init_user(&r->other, &m->kernel), MM_OK);
    assert_int_equal(mm_paging_init_kernel(&r->stranger, &config), MM_OK);
    for (unsigned i = 0; i < NR_CPUS; i++) {
        enter(r, i, r->pt);
    }
    t_cpus_noise(&m->cpus, t_prng_u64(&r->prng), 8);
    operate(r, NR_DENSE / 4 * factor, 1);
    if (NR_SPARSE != 0) {
        operate(r, NR_SPARSE / 4 * factor, RARITY);
    }
    t_mpages_destroy(&r->model);
    for (unsigned i = 0; i < NR_CPUS; i++) {
        enter(r, i, &m->kernel);
    }
    assert_int_equal(mm_paging_destroy(&r->other), MM_OK);
    assert_int_equal(mm_paging_destroy(&r->stranger), MM_OK);
    r->done = true;
    t_paging_delete(m);
}

static void test_user_48(void **state)
{
    (void)state;
    run_random("user 48", true, false, true, false);
}

static void test_user_57(void **state)
{
    (void)state;
    run_random("user 57", true, true, false, true);
}

static void test_kernel_48(void **state)
{
    (void)state;
    run_random("kernel 48", false, false, false, false);
}

static void test_kernel_57(void **state)
{
    (void)state;
    run_random("kernel 57", false, true, true, true);
}

/* A run that was left half-way says where: the seed alone repeats all of it. */
static int say_where(void **state)
{
    (void)state;
    if (!the_run.done) {
        print_error("paging random: '%s' ended in operation %u of the %s part; the whole program "
                    "with MM_TEST_SEED does it again\n",
                    the_run.name, the_run.operation, the_run.rarity == 1 ? "dense" : "sparse");
    }
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_user_48, say_where),
        cmocka_unit_test_teardown(test_user_57, say_where),
        cmocka_unit_test_teardown(test_kernel_48, say_where),
        cmocka_unit_test_teardown(test_kernel_57, say_where),
    };
    int failed = cmocka_run_group_tests_name("paging_random", tests, NULL, NULL);

    print_message("paging random: %llu operations, %.0f a second, %u CPUs, sweep after each\n",
                  (unsigned long long)all_operations,
                  all_seconds > 0 ? (double)all_operations / all_seconds : 0, NR_CPUS);
    return failed;
}
