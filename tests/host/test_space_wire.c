// SPDX-License-Identifier: MIT
/**
 * mm_space_wire() and mm_space_unwire(): pages that are there, and stay.
 */
#include "space_scarce.h"

#define AT  (UINT64_C(0x40000000) - 4 * PAGE) /* four pages below 1 GiB */
#define P2M UINT64_C(0x200000)

static mm_status_t wire(struct mm_space *s, uint64_t at, uint64_t len)
{
    return mm_space_wire(s, mm_vrange(mm_vaddr(at), len));
}

static mm_status_t unwire(struct mm_space *s, uint64_t at, uint64_t len)
{
    return mm_space_unwire(s, mm_vrange(mm_vaddr(at), len));
}

static bool is_wired(struct mm_space *s, uint64_t at)
{
    struct mm_region_info info;

    assert_int_equal(mm_space_find(s, mm_vaddr(at), &info), MM_OK);
    return (info.flags & MM_SPACE_WIRED) != 0;
}

/* The next access of this kind faults no more. */
static void is_ready(struct fixture *f, struct mm_space *s, uint64_t at, bool write)
{
    uint64_t value;

    assert_true(write ? store(f, s, at, at) : load(f, s, at, &value));
    assert_int_equal(f->nr_faults, 0);
}

static void test_pages_are_there(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    uint64_t zero_page = f->spaces.zero_page.raw;

    (void)state;
    assert_int_equal(map_at(s, AT, 6 * PAGE, RW, 0), MM_OK);
    assert_int_equal(map_at(s, AT + 6 * PAGE, 2 * PAGE, MM_PROT_READ, 0), MM_OK);
    assert_int_equal(map_at(s, AT + 8 * PAGE, 2 * PAGE, MM_PROT_NONE, 0), MM_OK);
    assert_int_equal(map_at(s, AT + 10 * PAGE, 2 * PAGE, MM_PROT_NONE, MM_SPACE_GUARD), MM_OK);
    assert_int_equal(map_at(s, AT + 12 * PAGE, 2 * PAGE, RX, 0), MM_OK);
    assert_int_equal(loaded(f, s, AT + 2 * PAGE), 0); /* the zero page: not enough */
    assert_int_equal(frame_at(s, AT + 2 * PAGE), zero_page);
    assert_int_equal(wire(s, AT + PAGE, 13 * PAGE - 5), MM_OK);
    assert_int_equal(frame_at(s, AT), 0);
    for (unsigned i = 1; i < 6; i++) {
        is_ready(f, s, AT + i * PAGE, true);
    }
    is_ready(f, s, AT + 6 * PAGE, false);
    assert_int_not_equal(frame_at(s, AT + 7 * PAGE), zero_page);
    is_ready(f, s, AT + 13 * PAGE, false);
    /* What has no right has no page, and what is a guard stays one. */
    assert_int_equal(frame_at(s, AT + 8 * PAGE), 0);
    assert_true(is_wired(s, AT + 8 * PAGE));
    assert_false(is_wired(s, AT + 10 * PAGE));
    assert_false(is_wired(s, AT));
    assert_true(is_wired(s, AT + 12 * PAGE));
    assert_int_equal(resident(s), 9 * PAGE);
    assert_int_equal(mm_space_check(s), MM_OK);
    /* Again, and no more: pages stay, and regions are one. */
    assert_int_equal(wire(s, AT + PAGE, 2 * PAGE), MM_OK);
    assert_int_equal(nr_regions(s), 6);
    assert_int_equal(unwire(s, AT, 14 * PAGE), MM_OK);
    assert_int_equal(nr_regions(s), 5);
    assert_false(is_wired(s, AT + 5 * PAGE));
    assert_int_equal(resident(s), 9 * PAGE);
    assert_int_equal(mm_space_advise(s, mm_vrange(mm_vaddr(AT), 14 * PAGE), MM_ADVICE_DONT_NEED),
                     MM_OK);
    assert_int_equal(resident(s), 0);
    put_last(f, s);
    fixture_stop(f);
}

/* What lies below a hole is done. */
/* A page that was read before has a frame of its own after; one that gets a right later is there. */
static void test_later(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    uint64_t zero_page = f->spaces.zero_page.raw;

    (void)state;
    assert_int_equal(map_at(s, AT, PAGE, MM_PROT_READ, 0), MM_OK);
    assert_int_equal(map_at(s, AT + PAGE, PAGE, MM_PROT_NONE, 0), MM_OK);
    assert_int_equal(loaded(f, s, AT), 0);
    assert_int_equal(frame_at(s, AT), zero_page);
    assert_int_equal(wire(s, AT, 2 * PAGE), MM_OK);
    assert_int_not_equal(frame_at(s, AT), zero_page);
    assert_int_equal(loaded(f, s, AT), 0);
    assert_int_equal(frame_at(s, AT + PAGE), 0);
    assert_int_equal(protect(s, AT, 2 * PAGE, RW), MM_OK);
    is_ready(f, s, AT, true);
    is_ready(f, s, AT + PAGE, true);
    assert_int_equal(mm_space_check(s), MM_OK);
    put_last(f, s);
    fixture_stop(f);
}

static void test_holes(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    uint64_t before;

    (void)state;
    assert_int_equal(map_at(s, AT, 2 * PAGE, RW, 0), MM_OK);
    assert_int_equal(map_at(s, AT + 2 * PAGE, 2 * PAGE, RX, 0), MM_OK);
    assert_int_equal(map_at(s, AT + 5 * PAGE, 2 * PAGE, RW, 0), MM_OK);
    assert_int_equal(wire(s, AT + PAGE, 6 * PAGE), MM_ERR_NOT_MAPPED);
    assert_true(is_wired(s, AT + PAGE) && is_wired(s, AT + 3 * PAGE));
    assert_false(is_wired(s, AT) || is_wired(s, AT + 5 * PAGE));
    assert_int_equal(resident(s), 3 * PAGE);
    assert_int_equal(wire(s, AT + 5 * PAGE, 2 * PAGE), MM_OK);
    assert_int_equal(unwire(s, AT + 3 * PAGE, 4 * PAGE), MM_ERR_NOT_MAPPED);
    assert_true(is_wired(s, AT + 2 * PAGE) && is_wired(s, AT + 5 * PAGE));
    assert_false(is_wired(s, AT + 3 * PAGE));
    before = state_hash(f, s);
    assert_int_equal(wire(s, AT + 4 * PAGE, 2 * PAGE), MM_ERR_NOT_MAPPED);
    assert_int_equal(unwire(s, AT + 4 * PAGE, 2 * PAGE), MM_ERR_NOT_MAPPED);
    assert_int_equal(wire(s, AT + 1, PAGE), MM_ERR_NOT_ALIGNED);
    assert_int_equal(unwire(s, AT, 0), MM_ERR_INVALID_SIZE);
    assert_int_equal(wire(s, AT, UINT64_MAX), MM_ERR_INVALID_SIZE);
    assert_int_equal(unwire(s, USER_LAST, PAGE), MM_ERR_INVALID_ADDRESS);
    assert_int_equal(wire(s, 0, PAGE), MM_ERR_INVALID_ADDRESS);
    assert_int_equal(wire(NULL, AT, PAGE), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(unwire(NULL, AT, PAGE), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(wire(mm_space_kernel(&f->spaces), T_ARENA, PAGE), MM_ERR_UNSUPPORTED);
    assert_int_equal(unwire(mm_space_kernel(&f->spaces), T_ARENA, PAGE), MM_ERR_UNSUPPORTED);
    assert_int_equal(state_hash(f, s), before);
    put_last(f, s);
    fixture_stop(f);
}

/* Pages that cannot be had: all is wired, and what comes first is there. */
static void test_runs_out(void **state)
{
    struct mm_space_limits limits = {.resident_bytes = 4 * PAGE};
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);

    (void)state;
    assert_int_equal(map_at(s, AT, 8 * PAGE, RW, 0), MM_OK);
    assert_true(store(f, s, AT, 1));
    t_machine_leave_frames(&f->m, 2);
    assert_int_equal(wire(s, AT, 4 * PAGE), MM_ERR_NO_MEMORY);
    t_machine_leave_frames(&f->m, UINT64_MAX);
    assert_true(is_wired(s, AT + 3 * PAGE));
    assert_false(is_wired(s, AT + 4 * PAGE));
    assert_int_equal(resident(s), 3 * PAGE);
    assert_int_equal(mm_space_set_limits(s, &limits), MM_OK);
    assert_int_equal(wire(s, AT + 2 * PAGE, 4 * PAGE), MM_ERR_LIMIT);
    assert_int_equal(resident(s), 4 * PAGE);
    assert_true(is_wired(s, AT + 5 * PAGE));
    assert_int_equal(mm_space_check(s), MM_OK);
    put_last(f, s);
    fixture_stop(f);
}

static void test_forked(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    struct mm_space *child;

    (void)state;
    assert_int_equal(map_at(s, AT, 4 * PAGE, RW, 0), MM_OK);
    assert_true(store(f, s, AT, 9));
    child = clone_of(s);
    run_in(f, s);
    assert_int_equal(wire(s, AT, 4 * PAGE), MM_OK);
    nothing_stale(f);
    for (unsigned i = 1; i < 4; i++) {
        is_ready(f, s, AT + i * PAGE, true);
    }
    assert_int_not_equal(frame_at(s, AT), frame_at(child, AT));
    assert_int_equal(loaded(f, s, AT), 9);
    assert_int_equal(loaded(f, child, AT), 9);
    put_last(f, child);
    put_last(f, s);
    fixture_stop(f);
}

/* --- large leaves ----------------------------------------------------------------------------- */

static mm_status_t do_wire(struct fixture *f, struct mm_space *s)
{
    (void)f;
    return wire(s, 2 * P2M + 5 * PAGE, P2M);
}

static mm_status_t do_unwire(struct fixture *f, struct mm_space *s)
{
    (void)f;
    return unwire(s, 2 * P2M + 5 * PAGE, P2M);
}

/* A region that is cut cuts the leaf; no leaf lies in two regions. */
static void test_large_leaves(void **state)
{
    static const struct t_machine_config machine = {.ram_len = 16 << 20};

    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        struct fixture *f = fixture_start(&machine);
        struct mm_space *s = new_space(f);
        scarce_fn call = i % 2 == 0 ? do_wire : do_unwire;
        struct mm_paging_stats stats;

        assert_int_equal(map_at(s, 2 * P2M, 2 * P2M, RW, MM_SPACE_HUGE), MM_OK);
        assert_int_equal(wire(s, 2 * P2M, 2 * P2M), MM_OK);
        assert_int_equal(mm_paging_get_stats(mm_space_table(s), &stats), MM_OK);
        assert_int_equal(stats.nr_leaves[1], 2);
        if (i % 2 == 0) {
            assert_int_equal(unwire(s, 2 * P2M, 2 * P2M), MM_OK);
        } else {
            /* What is wired is so already: nothing is cut. */
            assert_int_equal(do_wire(f, s), MM_OK);
        }
        assert_int_equal(mm_paging_get_stats(mm_space_table(s), &stats), MM_OK);
        assert_int_equal(stats.nr_leaves[1], 2);
        assert_true((i / 2 == 0 ? scarce_frames(f, s, call) : scarce_nodes(f, s, call)) != 0);
        assert_int_equal(nr_regions(s), 3);
        assert_int_equal(mm_paging_get_stats(mm_space_table(s), &stats), MM_OK);
        assert_int_equal(stats.nr_leaves[1], 0);
        assert_int_equal(resident(s), 2 * P2M);
        put_last(f, s);
        fixture_stop(f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pages_are_there), cmocka_unit_test(test_later),
        cmocka_unit_test(test_holes),           cmocka_unit_test(test_runs_out),
        cmocka_unit_test(test_forked),          cmocka_unit_test(test_large_leaves),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
