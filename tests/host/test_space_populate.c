// SPDX-License-Identifier: MIT
/**
 * Pages that are put there because of advice, what is there, and which leaves a region gets.
 */
#include "space_scarce.h"

#define AT  (UINT64_C(0x40000000) - 4 * PAGE) /* four pages below 1 GiB */
#define P2M UINT64_C(0x200000)

static mm_status_t advise(struct mm_space *s, uint64_t at, uint64_t len,
                          enum mm_space_advice advice)
{
    return mm_space_advise(s, mm_vrange(mm_vaddr(at), len), advice);
}

/* Which pages are there, as digits; `nr` at most 32. "?": a hole. */
static const char *there(struct mm_space *s, uint64_t at, unsigned nr)
{
    static char text[33];
    uint8_t bytes[34];
    mm_status_t status;

    memset(bytes, 7, sizeof(bytes));
    status = mm_space_resident(s, mm_vrange(mm_vaddr(at), nr * PAGE), bytes + 1);
    assert_int_equal(bytes[0], 7);
    assert_int_equal(bytes[nr + 1], 7);
    for (unsigned i = 0; i < nr && status == MM_OK; i++) {
        assert_in_range(bytes[i + 1], 0, 1);
        text[i] = (char)('0' + bytes[i + 1]);
        text[i + 1] = '\0';
    }
    assert_true(status == MM_OK || status == MM_ERR_NOT_MAPPED);
    return status == MM_OK ? text : "?";
}

/* Four pages, a hole of two, two pages to read, a guard, one of no right, two to write. */
static struct mm_space *several(struct fixture *f)
{
    struct mm_space *s = new_space(f);

    assert_int_equal(map_at(s, AT, 4 * PAGE, RW, 0), MM_OK);
    assert_int_equal(map_at(s, AT + 6 * PAGE, 2 * PAGE, MM_PROT_READ, 0), MM_OK);
    assert_int_equal(map_at(s, AT + 8 * PAGE, PAGE, MM_PROT_NONE, MM_SPACE_GUARD), MM_OK);
    assert_int_equal(map_at(s, AT + 9 * PAGE, PAGE, MM_PROT_NONE, 0), MM_OK);
    assert_int_equal(map_at(s, AT + 10 * PAGE, 2 * PAGE, MM_PROT_WRITE, 0), MM_OK);
    return s;
}

static void test_there(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = several(f);
    uint8_t byte = 7;

    (void)state;
    assert_string_equal(there(s, AT, 4), "0000");
    assert_true(store(f, s, AT + PAGE, 1));
    assert_int_equal(loaded(f, s, AT + 3 * PAGE), 0);
    assert_int_equal(loaded(f, s, AT + 7 * PAGE), 0);
    assert_true(store(f, s, AT + 11 * PAGE, 1));
    assert_string_equal(there(s, AT, 4), "0101");
    assert_string_equal(there(s, AT + PAGE, 1), "1");
    assert_string_equal(there(s, AT + 6 * PAGE, 6), "010001");
    assert_string_equal(there(s, AT, 5), "?");
    assert_string_equal(there(s, AT + 5 * PAGE, 2), "?");
    /* Of no right, and there. */
    assert_int_equal(protect(s, AT, 2 * PAGE, MM_PROT_NONE), MM_OK);
    assert_string_equal(there(s, AT, 4), "0101");
    assert_int_equal(mm_space_resident(s, mm_vrange(mm_vaddr(AT + PAGE), 1), &byte), MM_OK);
    assert_int_equal(byte, MM_SPACE_RESIDENT);
    put_last(f, s);
    fixture_stop(f);
}

static void test_will_need(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = several(f);
    uint64_t free_before;

    (void)state;
    assert_int_equal(advise(s, AT, PAGE, MM_ADVICE_WILL_NEED), MM_OK);
    free_before = t_machine_free_frames(&f->m);
    assert_string_equal(there(s, AT, 4), "1000");
    assert_int_equal(advise(s, AT + PAGE, 11 * PAGE, MM_ADVICE_WILL_NEED), MM_ERR_NOT_MAPPED);
    assert_string_equal(there(s, AT, 4), "1111");
    assert_string_equal(there(s, AT + 6 * PAGE, 6), "110011");
    assert_int_equal(t_machine_free_frames(&f->m), free_before - 2); /* tables */
    assert_int_equal(advise(s, AT + 6 * PAGE, 6 * PAGE, MM_ADVICE_WILL_NEED), MM_OK);
    /* Without memory as much as there is, and no error. */
    assert_int_equal(map_at(s, 2 * AT, 8 * PAGE, RW, 0), MM_OK);
    t_machine_leave_frames(&f->m, 0);
    assert_int_equal(advise(s, 2 * AT, 8 * PAGE, MM_ADVICE_WILL_NEED), MM_OK);
    t_machine_leave_frames(&f->m, UINT64_MAX);
    assert_string_equal(there(s, 2 * AT, 8), "00000000");
    assert_int_equal(mm_space_check(s), MM_OK);
    put_last(f, s);
    fixture_stop(f);
}

static void test_populate(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = several(f);
    struct mm_space *child;

    (void)state;
    assert_int_equal(advise(s, AT, 3 * PAGE, MM_ADVICE_POPULATE_READ), MM_OK);
    assert_string_equal(there(s, AT, 4), "1110");
    assert_int_equal(frame_at(s, AT), f->spaces.zero_page.raw);
    assert_int_equal(advise(s, AT + PAGE, PAGE, MM_ADVICE_POPULATE_WRITE), MM_OK);
    assert_int_equal(frame_at(s, AT + 2 * PAGE), f->spaces.zero_page.raw);
    f->nr_faults = 0;
    assert_true(store(f, s, AT + PAGE, 5));
    assert_int_equal(f->nr_faults, 0);
    /* Up to the first page that cannot be had: a hole, a guard, what forbids it. */
    assert_int_equal(advise(s, AT + 3 * PAGE, 4 * PAGE, MM_ADVICE_POPULATE_READ),
                     MM_ERR_NOT_MAPPED);
    assert_string_equal(there(s, AT, 4), "1111");
    assert_string_equal(there(s, AT + 6 * PAGE, 6), "000000");
    assert_int_equal(advise(s, AT + 7 * PAGE, 5 * PAGE, MM_ADVICE_POPULATE_READ),
                     MM_ERR_PERMISSION_DENIED);
    assert_int_equal(advise(s, AT + 9 * PAGE, 3 * PAGE, MM_ADVICE_POPULATE_READ),
                     MM_ERR_PERMISSION_DENIED);
    assert_string_equal(there(s, AT + 6 * PAGE, 6), "010000");
    assert_int_equal(advise(s, AT + 6 * PAGE, PAGE, MM_ADVICE_POPULATE_WRITE),
                     MM_ERR_PERMISSION_DENIED);
    assert_int_equal(advise(s, AT + 10 * PAGE, 2 * PAGE, MM_ADVICE_POPULATE_WRITE), MM_OK);
    assert_string_equal(there(s, AT + 6 * PAGE, 6), "010011");
    assert_int_equal(advise(s, AT + 4 * PAGE, PAGE, MM_ADVICE_POPULATE_WRITE), MM_ERR_NOT_MAPPED);
    /* A shared page becomes private. */
    child = clone_of(s);
    run_in(f, s);
    assert_int_equal(advise(s, AT, 4 * PAGE, MM_ADVICE_POPULATE_WRITE), MM_OK);
    assert_int_not_equal(frame_at(s, AT + PAGE), frame_at(child, AT + PAGE));
    assert_int_equal(loaded(f, s, AT + PAGE), 5);
    assert_int_equal(mm_space_check(s), MM_OK);
    put_last(f, child);
    put_last(f, s);
    fixture_stop(f);
}

/* What is put there before memory, or the limit, ends. */
static void test_populate_runs_out(void **state)
{
    struct mm_space_limits limits = {.resident_bytes = 3 * PAGE};
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = several(f);

    (void)state;
    assert_true(store(f, s, AT, 1));
    t_machine_leave_frames(&f->m, 2);
    assert_int_equal(advise(s, AT, 4 * PAGE, MM_ADVICE_POPULATE_WRITE), MM_ERR_NO_MEMORY);
    t_machine_leave_frames(&f->m, UINT64_MAX);
    assert_string_equal(there(s, AT, 4), "1110");
    assert_int_equal(mm_space_set_limits(s, &limits), MM_OK);
    assert_int_equal(advise(s, AT, 4 * PAGE, MM_ADVICE_POPULATE_WRITE), MM_ERR_LIMIT);
    assert_int_equal(advise(s, AT, 4 * PAGE, MM_ADVICE_POPULATE_READ), MM_ERR_LIMIT);
    assert_int_equal(advise(s, AT, 4 * PAGE, MM_ADVICE_WILL_NEED), MM_OK);
    assert_string_equal(there(s, AT, 4), "1110");
    assert_int_equal(mm_space_check(s), MM_OK);
    put_last(f, s);
    fixture_stop(f);
}

/* --- large leaves ----------------------------------------------------------------------------- */

static uint64_t large_leaves(struct mm_space *s)
{
    struct mm_paging_stats stats;

    assert_int_equal(mm_paging_get_stats(mm_space_table(s), &stats), MM_OK);
    return stats.nr_leaves[1];
}

static uint32_t flags_at(struct mm_space *s, uint64_t at)
{
    struct mm_region_info info;

    assert_int_equal(mm_space_find(s, mm_vaddr(at), &info), MM_OK);
    return info.flags;
}

static void test_huge(void **state)
{
    static const struct t_machine_config machine = {.ram_len = 16 << 20};
    struct fixture *f = fixture_start(&machine);
    struct mm_space *s = new_space(f);
    uint8_t bytes[1024];

    (void)state;
    assert_int_equal(map_at(s, 2 * P2M, 3 * P2M, RW, 0), MM_OK);
    assert_int_equal(map_at(s, 5 * P2M, PAGE, MM_PROT_NONE, MM_SPACE_GUARD), MM_OK);
    assert_int_equal(advise(s, 2 * P2M, 3 * P2M + PAGE, MM_ADVICE_HUGE), MM_OK);
    assert_int_equal(flags_at(s, 2 * P2M), MM_SPACE_HUGE);
    assert_int_equal(flags_at(s, 5 * P2M), MM_SPACE_GUARD);
    assert_int_equal(advise(s, 2 * P2M, 2 * P2M, MM_ADVICE_POPULATE_WRITE), MM_OK);
    assert_int_equal(large_leaves(s), 2);
    assert_int_equal(mm_space_resident(s, mm_vrange(mm_vaddr(3 * P2M + PAGE), P2M), bytes), MM_OK);
    assert_int_equal(bytes[510], 1);
    assert_int_equal(bytes[511], 0);
    /* Leaves that are there stay, if they are not cut. */
    assert_int_equal(advise(s, 3 * P2M, 2 * P2M, MM_ADVICE_NO_HUGE), MM_OK);
    assert_int_equal(large_leaves(s), 2);
    assert_int_equal(flags_at(s, 3 * P2M), MM_SPACE_NO_HUGE);
    assert_int_equal(flags_at(s, 2 * P2M), MM_SPACE_HUGE);
    assert_int_equal(nr_regions(s), 3);
    assert_true(store(f, s, 4 * P2M, 1));
    assert_int_equal(large_leaves(s), 2);
    assert_int_equal(mm_space_check(s), MM_OK);
    assert_int_equal(advise(s, 2 * P2M + PAGE, PAGE, MM_ADVICE_NO_HUGE), MM_OK);
    assert_int_equal(large_leaves(s), 1);
    assert_int_equal(mm_space_check(s), MM_OK);
    nothing_stale(f);
    /* They are one again; a hole behind is told, and all else done. */
    assert_int_equal(advise(s, 2 * P2M, 4 * P2M, MM_ADVICE_HUGE), MM_ERR_NOT_MAPPED);
    assert_int_equal(nr_regions(s), 2);
    put_last(f, s);
    fixture_stop(f);
}

/* --- nonsense --------------------------------------------------------------------------------- */

static void test_nonsense(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = several(f);
    struct mm_space *kernel = mm_space_kernel(&f->spaces);
    uint64_t before = state_hash(f, s);
    uint8_t byte = 7;
    uint64_t out = 7;

    (void)state;
    for (unsigned i = 0; i < MM_ADVICE_COUNT; i++) {
        enum mm_space_advice a = (enum mm_space_advice)i;

        assert_int_equal(advise(NULL, AT, PAGE, a), MM_ERR_INVALID_ARGUMENT);
        assert_int_equal(advise(kernel, T_ARENA, PAGE, a), MM_ERR_UNSUPPORTED);
        assert_int_equal(advise(s, AT + 1, PAGE, a), MM_ERR_NOT_ALIGNED);
        assert_int_equal(advise(s, AT, 0, a), MM_ERR_INVALID_SIZE);
        assert_int_equal(advise(s, AT, UINT64_MAX, a), MM_ERR_INVALID_SIZE);
        assert_int_equal(advise(s, 0, PAGE, a), MM_ERR_INVALID_ADDRESS);
        assert_int_equal(advise(s, USER_LAST, PAGE, a), MM_ERR_INVALID_ADDRESS);
        assert_int_equal(advise(s, USER_LAST - PAGE, PAGE, a), MM_ERR_NOT_MAPPED);
    }
    assert_int_equal(advise(s, AT, PAGE, (enum mm_space_advice)MM_ADVICE_COUNT),
                     MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_space_resident(s, mm_vrange(mm_vaddr(AT), PAGE), NULL),
                     MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_space_resident(s, mm_vrange(mm_vaddr(AT + 1), PAGE), &byte),
                     MM_ERR_NOT_ALIGNED);
    assert_int_equal(mm_space_resident(s, mm_vrange(mm_vaddr(USER_LAST), PAGE), &byte),
                     MM_ERR_INVALID_ADDRESS);
    assert_int_equal(mm_space_reclaim(NULL, 1, &out), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_space_reclaim(s, 1, NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_space_reclaim(kernel, 1, &out), MM_ERR_UNSUPPORTED);
    assert_true(byte == 7 && out == 7);
    assert_int_equal(state_hash(f, s), before);
    put_last(f, s);
    fixture_stop(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_there),    cmocka_unit_test(test_will_need),
        cmocka_unit_test(test_populate), cmocka_unit_test(test_populate_runs_out),
        cmocka_unit_test(test_huge),     cmocka_unit_test(test_nonsense),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
