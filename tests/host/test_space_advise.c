// SPDX-License-Identifier: MIT
/**
 * mm_space_advise(), mm_space_reclaim(), mm_space_resident(): what goes and what stays, over holes
 * and borders of regions, of large leaves and of pages that are shared.
 */
#include "space_scarce.h"

#define AT  (UINT64_C(0x40000000) - 4 * PAGE) /* four pages below 1 GiB */
#define P2M UINT64_C(0x200000)

static mm_status_t advise(struct mm_space *s, uint64_t at, uint64_t len,
                          enum mm_space_advice advice)
{
    return mm_space_advise(s, mm_vrange(mm_vaddr(at), len), advice);
}

static void refused(struct fixture *f, struct mm_space *s, mm_status_t want, uint64_t at,
                    uint64_t len, enum mm_space_advice advice)
{
    uint64_t before = state_hash(f, s);

    assert_int_equal(advise(s, at, len, advice), want);
    assert_int_equal(state_hash(f, s), before);
}

static void fill(struct fixture *f, struct mm_space *s, uint64_t at, uint64_t nr, uint64_t base)
{
    for (uint64_t i = 0; i < nr; i++) {
        assert_true(store(f, s, at + i * PAGE, base + i));
    }
}

static void holds(struct fixture *f, struct mm_space *s, uint64_t at, uint64_t nr, uint64_t base)
{
    for (uint64_t i = 0; i < nr; i++) {
        assert_int_equal(loaded(f, s, at + i * PAGE), base + i);
    }
    assert_int_equal(mm_space_check(s), MM_OK);
    nothing_stale(f);
}

static uint64_t reclaim(struct fixture *f, struct mm_space *s, uint64_t nr)
{
    uint64_t out = 12345;

    run_in(f, s);
    assert_int_equal(mm_space_reclaim(s, nr, &out), MM_OK);
    assert_int_equal(mm_space_check(s), MM_OK);
    nothing_stale(f);
    return out;
}

static uint64_t large_leaves(struct mm_space *s)
{
    struct mm_paging_stats stats;

    assert_int_equal(mm_paging_get_stats(mm_space_table(s), &stats), MM_OK);
    return stats.nr_leaves[1];
}

/* Eight pages, a hole of two, four pages, a guard of two, two pages to read, all touched. */
static struct mm_space *several(struct fixture *f)
{
    struct mm_space *s = new_space(f);

    assert_int_equal(map_at(s, AT, 8 * PAGE, RW, 0), MM_OK);
    assert_int_equal(map_at(s, AT + 10 * PAGE, 4 * PAGE, RW, 0), MM_OK);
    assert_int_equal(map_at(s, AT + 14 * PAGE, 2 * PAGE, MM_PROT_NONE, MM_SPACE_GUARD), MM_OK);
    assert_int_equal(map_at(s, AT + 16 * PAGE, 2 * PAGE, MM_PROT_READ, MM_SPACE_POPULATE), MM_OK);
    fill(f, s, AT, 8, 1);
    fill(f, s, AT + 10 * PAGE, 4, 11);
    return s;
}

/* --- pages that go ---------------------------------------------------------------------------- */

static void test_dont_need(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = several(f);
    uint64_t free_before = t_machine_free_frames(&f->m);

    (void)state;
    assert_int_equal(advise(s, AT + PAGE, 2 * PAGE - 1, MM_ADVICE_DONT_NEED), MM_OK);
    assert_int_equal(t_machine_free_frames(&f->m), free_before + 2);
    assert_int_equal(loaded(f, s, AT + PAGE), 0);
    assert_int_equal(loaded(f, s, AT + 2 * PAGE), 0);
    holds(f, s, AT + 3 * PAGE, 5, 4);
    /* Behind a hole, over a guard; the hole is told at the end. */
    assert_int_equal(advise(s, AT + 6 * PAGE, 11 * PAGE, MM_ADVICE_DONT_NEED), MM_ERR_NOT_MAPPED);
    for (unsigned i = 6; i < 17; i++) {
        assert_int_equal(frame_at(s, AT + i * PAGE), 0);
    }
    assert_true(frame_at(s, AT + 17 * PAGE) != 0);
    assert_int_equal(nr_regions(s), 4);
    assert_int_equal(advise(s, AT + 10 * PAGE, 8 * PAGE, MM_ADVICE_DONT_NEED), MM_OK);
    refused(f, s, MM_ERR_NOT_MAPPED, AT + 8 * PAGE, 2 * PAGE, MM_ADVICE_DONT_NEED);
    /* A wired region, wherever in the range: nothing at all. */
    assert_int_equal(mm_space_wire(s, mm_vrange(mm_vaddr(AT + 12 * PAGE), PAGE)), MM_OK);
    refused(f, s, MM_ERR_PERMISSION_DENIED, AT, 18 * PAGE, MM_ADVICE_DONT_NEED);
    refused(f, s, MM_ERR_PERMISSION_DENIED, AT + 12 * PAGE, PAGE, MM_ADVICE_FREE);
    holds(f, s, AT + 3 * PAGE, 3, 4);
    put_last(f, s);
    fixture_stop(f);
}

/* The other side of a fork keeps what it has. */
static void test_dont_need_of_shared(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = several(f);
    struct mm_space *child = clone_of(s);

    (void)state;
    run_in(f, s);
    assert_int_equal(advise(s, AT, 8 * PAGE, MM_ADVICE_DONT_NEED), MM_OK);
    assert_int_equal(loaded(f, s, AT), 0);
    holds(f, child, AT, 8, 1);
    put_last(f, child);
    put_last(f, s);
    fixture_stop(f);
}

/* A large leaf of which a part goes. */
static void test_dont_need_of_large(void **state)
{
    static const struct t_machine_config machine = {.ram_len = 16 << 20};
    struct fixture *f = fixture_start(&machine);
    struct mm_space *s = new_space(f);

    (void)state;
    assert_int_equal(map_at(s, 2 * P2M, 2 * P2M, RW, MM_SPACE_HUGE), MM_OK);
    fill(f, s, 2 * P2M, 1024, 1);
    assert_int_equal(large_leaves(s), 2);
    assert_int_equal(advise(s, 2 * P2M + 5 * PAGE, 3 * PAGE, MM_ADVICE_DONT_NEED), MM_OK);
    assert_int_equal(large_leaves(s), 1);
    assert_int_equal(resident(s), 1021 * PAGE);
    holds(f, s, 2 * P2M, 5, 1);
    holds(f, s, 2 * P2M + 8 * PAGE, 1016, 9);
    assert_int_equal(advise(s, 2 * P2M, 2 * P2M, MM_ADVICE_DONT_NEED), MM_OK);
    assert_int_equal(resident(s), 0);
    put_last(f, s);
    fixture_stop(f);
}

static mm_status_t do_dont_need(struct fixture *f, struct mm_space *s)
{
    (void)f;
    return advise(s, 2 * P2M + 5 * PAGE, P2M, MM_ADVICE_DONT_NEED);
}

static mm_status_t do_no_huge(struct fixture *f, struct mm_space *s)
{
    (void)f;
    return advise(s, 2 * P2M + 5 * PAGE, P2M, MM_ADVICE_NO_HUGE);
}

static void test_runs_out(void **state)
{
    static const struct t_machine_config machine = {.ram_len = 16 << 20};
    static const scarce_fn calls[] = {do_dont_need, do_no_huge};

    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        struct fixture *f = fixture_start(&machine);
        struct mm_space *s = new_space(f);

        assert_int_equal(map_at(s, 2 * P2M, 2 * P2M, RW, MM_SPACE_HUGE), MM_OK);
        fill(f, s, 2 * P2M, 1024, 1);
        if (i / 2 == 0) {
            assert_true(scarce_frames(f, s, calls[i % 2]) != 0);
        } else {
            assert_int_equal(scarce_nodes(f, s, calls[i % 2]) != 0, i % 2);
        }
        put_last(f, s);
        fixture_stop(f);
    }
}

/* --- pages that are given up ------------------------------------------------------------------ */

static void test_given_up(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = several(f);
    uint64_t free_before;

    (void)state;
    assert_int_equal(reclaim(f, s, UINT64_MAX), 0);
    assert_int_equal(advise(s, AT, 8 * PAGE, MM_ADVICE_FREE), MM_OK);
    nothing_stale(f);
    free_before = t_machine_free_frames(&f->m);
    /* Reading changes nothing, writing takes it back. */
    holds(f, s, AT, 8, 1);
    fill(f, s, AT + 2 * PAGE, 1, 50);
    assert_int_equal(f->nr_faults, 0);
    assert_int_equal(reclaim(f, s, 0), 0);
    assert_int_equal(reclaim(f, s, 3), 3); /* 0, 1 and 3 */
    assert_int_equal(t_machine_free_frames(&f->m), free_before + 3);
    assert_int_equal(loaded(f, s, AT + PAGE), 0);
    assert_int_equal(loaded(f, s, AT + 2 * PAGE), 50);
    holds(f, s, AT + 4 * PAGE, 4, 5);
    assert_int_equal(reclaim(f, s, UINT64_MAX), 4);
    assert_int_equal(reclaim(f, s, UINT64_MAX), 0);
    assert_int_equal(loaded(f, s, AT + 2 * PAGE), 50);
    /* What was written once is no longer given up, also when it is clean again. */
    assert_int_equal(mm_space_protect(s, mm_vrange(mm_vaddr(AT), 8 * PAGE), RW), MM_OK);
    assert_int_equal(reclaim(f, s, UINT64_MAX), 0);
    /* Behind a hole and over a guard, also what may only be read. */
    assert_int_equal(advise(s, AT + 7 * PAGE, 11 * PAGE, MM_ADVICE_FREE), MM_ERR_NOT_MAPPED);
    assert_int_equal(reclaim(f, s, UINT64_MAX), 6);
    /* The zero page is nobody's to give up. */
    assert_int_equal(loaded(f, s, AT), 0);
    assert_int_equal(advise(s, AT, PAGE, MM_ADVICE_FREE), MM_OK);
    assert_int_equal(reclaim(f, s, UINT64_MAX), 0);
    put_last(f, s);
    fixture_stop(f);
}

/* A CPU that wrote before the page was given up must say so again when it writes after. */
static void test_given_up_and_other_cpus(void **state)
{
    static const struct t_machine_config machine = {.nr_cpus = 2};
    struct fixture *f = fixture_start(&machine);
    struct mm_space *s = several(f);

    (void)state;
    f->m.cpus.now = 1;
    fill(f, s, AT, 8, 1);
    f->m.cpus.now = 0;
    assert_int_equal(advise(s, AT, 8 * PAGE, MM_ADVICE_FREE), MM_OK);
    nothing_stale(f);
    f->m.cpus.now = 1;
    fill(f, s, AT + 4 * PAGE, 4, 60);
    assert_int_equal(f->nr_faults, 0);
    f->m.cpus.now = 0;
    assert_int_equal(reclaim(f, s, UINT64_MAX), 4);
    f->m.cpus.now = 1;
    holds(f, s, AT + 4 * PAGE, 4, 60);
    assert_int_equal(loaded(f, s, AT), 0);
    put_last(f, s);
    fixture_stop(f);
}

static void test_given_up_and_fork(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = several(f);
    struct mm_space *child;

    (void)state;
    assert_int_equal(advise(s, AT, 4 * PAGE, MM_ADVICE_FREE), MM_OK);
    fill(f, s, AT, 2, 70); /* written since */
    child = clone_of(s);
    /* Shared pages are left alone: 4 to 7 are not given up. */
    run_in(f, s);
    assert_int_equal(advise(s, AT + 4 * PAGE, 4 * PAGE, MM_ADVICE_FREE), MM_OK);
    /* A copy is as dirty as what it is a copy of, before the access that wanted it is made. */
    run_in(f, child);
    {
        struct mm_fault fault = {.at = mm_vaddr(AT), .flags = MM_FAULT_WRITE | MM_FAULT_USER};
        enum mm_fault_result result;

        assert_int_equal(mm_space_fault(child, &fault, &result), MM_OK);
        assert_int_equal(result, MM_FAULT_COW);
        assert_int_not_equal(frame_at(child, AT), frame_at(s, AT));
    }
    assert_int_equal(reclaim(f, child, UINT64_MAX), 2);
    holds(f, child, AT, 2, 70);
    assert_int_equal(loaded(f, child, AT + 2 * PAGE), 0);
    holds(f, child, AT + 4 * PAGE, 4, 5);
    /* The parent's marks are its own. */
    holds(f, s, AT + 2 * PAGE, 6, 3);
    assert_int_equal(reclaim(f, s, UINT64_MAX), 2);
    holds(f, s, AT, 2, 70);
    holds(f, s, AT + 4 * PAGE, 4, 5);
    put_last(f, child);
    put_last(f, s);
    fixture_stop(f);
}

/* A device may write what is pinned: it is not given up, and not taken. */
static void test_given_up_of_pinned(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = several(f);
    mm_pfn_t frames[2] = {mm_pfn(frame_at(s, AT)), mm_pfn(frame_at(s, AT + PAGE))};

    (void)state;
    mm_frame_pin(&f->m.frames, frames[0]);
    assert_int_equal(advise(s, AT, 2 * PAGE, MM_ADVICE_FREE), MM_OK);
    mm_frame_pin(&f->m.frames, frames[1]);
    assert_int_equal(reclaim(f, s, UINT64_MAX), 0);
    assert_false(mm_frame_unpin(&f->m.frames, frames[0]));
    assert_false(mm_frame_unpin(&f->m.frames, frames[1]));
    assert_int_equal(reclaim(f, s, UINT64_MAX), 1);
    assert_int_equal(loaded(f, s, AT), 1);
    put_last(f, s);
    fixture_stop(f);
}

/* Large leaves are given up whole, and written whole. */
static void test_given_up_of_large(void **state)
{
    static const struct t_machine_config machine = {.ram_len = 16 << 20};
    struct fixture *f = fixture_start(&machine);
    struct mm_space *s = new_space(f);

    (void)state;
    assert_int_equal(map_at(s, 2 * P2M, 2 * P2M, RW, MM_SPACE_HUGE), MM_OK);
    fill(f, s, 2 * P2M, 1024, 1);
    assert_int_equal(advise(s, 2 * P2M + PAGE, 2 * P2M - PAGE, MM_ADVICE_FREE), MM_OK);
    assert_int_equal(large_leaves(s), 2);
    assert_int_equal(reclaim(f, s, 511), 0);
    assert_int_equal(reclaim(f, s, 512), 512);
    holds(f, s, 2 * P2M, 512, 1);
    assert_int_equal(loaded(f, s, 3 * P2M), 0);
    assert_int_equal(advise(s, 2 * P2M, 2 * P2M, MM_ADVICE_FREE), MM_OK);
    fill(f, s, 2 * P2M + 7 * PAGE, 1, 8);
    /* A part of what was given up is not a reason to lose the rest. */
    assert_int_equal(advise(s, 2 * P2M, 4 * PAGE, MM_ADVICE_FREE), MM_OK);
    assert_int_equal(reclaim(f, s, UINT64_MAX), 512); /* the other one */
    assert_int_equal(reclaim(f, s, UINT64_MAX), 0);
    holds(f, s, 2 * P2M, 512, 1);
    put_last(f, s);
    fixture_stop(f);
}

/* Who makes pages stay takes them back. */
static void test_given_up_and_kept(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = several(f);
    mm_vaddr_t out;

    (void)state;
    assert_int_equal(advise(s, AT, 8 * PAGE, MM_ADVICE_FREE), MM_OK);
    assert_int_equal(advise(s, AT, PAGE, MM_ADVICE_POPULATE_WRITE), MM_OK);
    assert_int_equal(mm_space_wire(s, mm_vrange(mm_vaddr(AT + PAGE), PAGE)), MM_OK);
    assert_int_equal(mm_space_unwire(s, mm_vrange(mm_vaddr(AT + PAGE), PAGE)), MM_OK);
    assert_int_equal(advise(s, AT + 2 * PAGE, PAGE, MM_ADVICE_POPULATE_READ), MM_OK);
    /* They move as they are. */
    assert_int_equal(mm_space_remap(s, mm_vrange(mm_vaddr(AT + 4 * PAGE), 4 * PAGE), 4 * PAGE, 3,
                                    mm_vaddr(AT + 64 * PAGE), &out),
                     MM_OK);
    fill(f, s, AT + 64 * PAGE, 2, 80);
    assert_int_equal(reclaim(f, s, UINT64_MAX), 4);
    holds(f, s, AT, 2, 1);
    assert_int_equal(loaded(f, s, AT + 2 * PAGE), 0);
    holds(f, s, AT + 64 * PAGE, 2, 80);
    assert_int_equal(loaded(f, s, AT + 67 * PAGE), 0);
    put_last(f, s);
    fixture_stop(f);
}

/* No empty table is left. */
static void test_given_up_of_tables(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    struct mm_space_stats before;
    struct mm_space_stats after;

    (void)state;
    assert_int_equal(mm_space_get_stats(s, &before), MM_OK);
    assert_int_equal(map_at(s, AT, 8 * PAGE, RW, MM_SPACE_POPULATE), MM_OK);
    assert_int_equal(advise(s, AT, 8 * PAGE, MM_ADVICE_FREE), MM_OK);
    assert_int_equal(reclaim(f, s, UINT64_MAX), 8);
    assert_int_equal(mm_space_get_stats(s, &after), MM_OK);
    assert_int_equal(after.nr_tables, before.nr_tables);
    put_last(f, s);
    fixture_stop(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dont_need),          cmocka_unit_test(test_dont_need_of_shared),
        cmocka_unit_test(test_dont_need_of_large), cmocka_unit_test(test_runs_out),
        cmocka_unit_test(test_given_up),           cmocka_unit_test(test_given_up_and_other_cpus),
        cmocka_unit_test(test_given_up_and_fork),  cmocka_unit_test(test_given_up_of_pinned),
        cmocka_unit_test(test_given_up_of_large),  cmocka_unit_test(test_given_up_and_kept),
        cmocka_unit_test(test_given_up_of_tables),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
