// SPDX-License-Identifier: MIT
/**
 * mm_space_remap(): mappings grow, shrink and move, and keep their pages, whatever is in the way.
 */
#include "space_scarce.h"

#include <mm/paging_slots.h>

#define AT    (UINT64_C(0x40000000) - 4 * PAGE) /* four pages below 1 GiB */
#define TO    (UINT64_C(1) << 40)
#define P2M   UINT64_C(0x200000)
#define MOVE  MM_SPACE_REMAP_MOVE
#define THERE (MM_SPACE_REMAP_MOVE | MM_SPACE_REMAP_FIXED)

static uint64_t moved_to; /* by the last call that succeeded */

static mm_status_t remap(struct mm_space *s, uint64_t at, uint64_t len, uint64_t new_len,
                         uint32_t flags, uint64_t to)
{
    mm_vaddr_t out = {7};
    mm_status_t status =
        mm_space_remap(s, mm_vrange(mm_vaddr(at), len), new_len, flags, mm_vaddr(to), &out);

    assert_true((out.raw == 7) == (status != MM_OK));
    moved_to = out.raw;
    return status;
}

/* It fails, and changes nothing. */
static void refused(struct fixture *f, struct mm_space *s, mm_status_t want, uint64_t at,
                    uint64_t len, uint64_t new_len, uint32_t flags, uint64_t to)
{
    uint64_t before = state_hash(f, s);

    assert_int_equal(remap(s, at, len, new_len, flags, to), want);
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

static void is_region(struct mm_space *s, uint64_t at, uint64_t len)
{
    struct mm_region_info info;

    assert_int_equal(mm_space_find(s, mm_vaddr(at), &info), MM_OK);
    assert_int_equal(info.range.start.raw, at);
    assert_int_equal(info.range.len, len);
}

static void is_hole(struct fixture *f, struct mm_space *s, uint64_t at)
{
    uint64_t value;

    assert_false(load(f, s, at, &value));
    assert_int_equal(f->last, MM_FAULT_SIGNAL_MAP);
}

static uint64_t large_leaves(struct mm_space *s)
{
    struct mm_paging_stats stats;

    assert_int_equal(mm_paging_get_stats(mm_space_table(s), &stats), MM_OK);
    return stats.nr_leaves[1];
}

/* --- in place --------------------------------------------------------------------------------- */

static void test_shrinks(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);

    (void)state;
    assert_int_equal(map_at(s, AT, 8 * PAGE, RW, 0), MM_OK);
    assert_int_equal(map_at(s, AT + 8 * PAGE, 2 * PAGE, MM_PROT_READ, 0), MM_OK);
    fill(f, s, AT, 8, 1);
    assert_int_equal(remap(s, AT, 8 * PAGE, 8 * PAGE, 0, 0), MM_OK);
    assert_int_equal(moved_to, AT);
    /* In the middle of a region, and over two: what is told goes, and no more. */
    assert_int_equal(remap(s, AT + PAGE, 3 * PAGE, 2 * PAGE - 5, 0, 0), MM_OK);
    is_hole(f, s, AT + 3 * PAGE);
    assert_int_equal(loaded(f, s, AT + 4 * PAGE), 5);
    assert_int_equal(remap(s, AT + 6 * PAGE, 4 * PAGE, 1, MOVE, 0), MM_OK);
    assert_int_equal(moved_to, AT + 6 * PAGE);
    is_region(s, AT + 4 * PAGE, 3 * PAGE);
    assert_int_equal(resident(s), 6 * PAGE);
    /* It begins in a hole, or has one: also where nothing would change. */
    refused(f, s, MM_ERR_NOT_MAPPED, AT + 2 * PAGE, 3 * PAGE, PAGE, 0, 0);
    refused(f, s, MM_ERR_NOT_MAPPED, AT + 2 * PAGE, 3 * PAGE, 3 * PAGE, 0, 0);
    refused(f, s, MM_ERR_NOT_MAPPED, AT + 3 * PAGE, 2 * PAGE, PAGE, 0, 0);
    refused(f, s, MM_ERR_NOT_MAPPED, AT + 6 * PAGE, 2 * PAGE, 3 * PAGE, MOVE, 0);
    holds(f, s, AT, 3, 1);
    put_last(f, s);
    fixture_stop(f);
}

static void test_grows_in_place(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);

    (void)state;
    assert_int_equal(map_at(s, AT, 4 * PAGE, RW, 0), MM_OK);
    assert_int_equal(map_at(s, AT + 10 * PAGE, 2 * PAGE, RW, 0), MM_OK);
    fill(f, s, AT, 4, 1);
    assert_int_equal(remap(s, AT + 2 * PAGE, 2 * PAGE, 4 * PAGE, 0, 0), MM_OK);
    assert_int_equal(moved_to, AT + 2 * PAGE);
    is_region(s, AT, 6 * PAGE);
    assert_int_equal(loaded(f, s, AT + 5 * PAGE), 0);
    holds(f, s, AT, 4, 1);
    /* Too far, or not to the end of its region. */
    refused(f, s, MM_ERR_NO_MEMORY, AT, 6 * PAGE, 11 * PAGE, 0, 0);
    refused(f, s, MM_ERR_NO_MEMORY, AT, 5 * PAGE, 6 * PAGE, 0, 0);
    /* Up to the next, which agrees with it. */
    assert_int_equal(remap(s, AT, 6 * PAGE, 10 * PAGE, 0, 0), MM_OK);
    is_region(s, AT, 12 * PAGE);
    /* The last page of the range is nobody's. */
    assert_int_equal(map_at(s, USER_LAST - 2 * PAGE, PAGE, RW, 0), MM_OK);
    assert_int_equal(remap(s, USER_LAST - 2 * PAGE, PAGE, 2 * PAGE, 0, 0), MM_OK);
    refused(f, s, MM_ERR_NO_MEMORY, USER_LAST - 2 * PAGE, 2 * PAGE, 3 * PAGE, 0, 0);
    refused(f, s, MM_ERR_NO_MEMORY, USER_LAST - 2 * PAGE, 2 * PAGE, UINT64_MAX - PAGE, 0, 0);
    refused(f, s, MM_ERR_REGION_NOT_FOUND, AT, 12 * PAGE, T_USER_LEN, MOVE, 0);
    put_last(f, s);
    fixture_stop(f);
}

/* What lies below a stack leaves it its gap. A stack that moves has room for one too. */
static void test_stacks(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    struct mm_region_info info;

    (void)state;
    assert_int_equal(map_at(s, AT, PAGE, RW, 0), MM_OK);
    assert_int_equal(map_at(s, AT + 320 * PAGE, 2 * PAGE, RW, MM_SPACE_STACK), MM_OK);
    assert_int_equal(map_at(s, AT + 330 * PAGE, PAGE, RW, 0), MM_OK);
    assert_int_equal(remap(s, AT, PAGE, 64 * PAGE, 0, 0), MM_OK);
    refused(f, s, MM_ERR_NO_MEMORY, AT, 64 * PAGE, 65 * PAGE, 0, 0);
    /* The stack itself grows at its end, and moves. */
    fill(f, s, AT + 320 * PAGE, 2, 7);
    assert_int_equal(remap(s, AT + 320 * PAGE, 2 * PAGE, 4 * PAGE, 0, 0), MM_OK);
    assert_int_equal(remap(s, AT + 320 * PAGE, 4 * PAGE, 32 * PAGE, MOVE, 0), MM_OK);
    holds(f, s, moved_to, 2, 7);
    assert_int_equal(mm_space_find(s, mm_vaddr(moved_to), &info), MM_OK);
    assert_int_equal(info.flags, MM_SPACE_STACK);
    assert_true(store(f, s, moved_to - PAGE, 9));
    is_region(s, moved_to - PAGE, 33 * PAGE);
    put_last(f, s);
    fixture_stop(f);
}

/* --- moving ----------------------------------------------------------------------------------- */

/* Leaves move as they are: frame, what the hardware set, the kernel's bits. Their frames belong to
 * the new page. */
static void test_leaves_move(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    struct mm_pagetable *table = mm_space_table(s);
    struct mm_mapping was[8];
    struct mm_frame_record record;
    struct mm_mapping now;

    (void)state;
    assert_int_equal(map_at(s, AT, 8 * PAGE, RW, 0), MM_OK);
    fill(f, s, AT, 2, 1);                                            /* dirty */
    assert_int_equal(loaded(f, s, AT + 2 * PAGE), 0);                /* the zero page */
    assert_int_equal(map_at(s, AT + 20 * PAGE, PAGE, RW, 0), MM_OK); /* in the way */
    assert_int_equal(
        mm_space_advise(s, mm_vrange(mm_vaddr(AT + 4 * PAGE), 2 * PAGE), MM_ADVICE_POPULATE_WRITE),
        MM_OK);
    assert_int_equal(
        mm_paging_set_software(table, mm_vrange(mm_vaddr(AT + 4 * PAGE), PAGE), 6, 0, 0), MM_OK);
    fill(f, s, AT + 7 * PAGE, 1, 8);
    for (uint64_t i = 0; i < 8; i++) {
        (void)!mm_paging_translate(table, mm_vaddr(AT + i * PAGE), &was[i]);
    }
    assert_int_equal(remap(s, AT, 8 * PAGE, 32 * PAGE, MOVE, 0), MM_OK);
    assert_int_not_equal(moved_to, AT);
    is_region(s, moved_to, 32 * PAGE);
    for (uint64_t i = 0; i < 8; i++) {
        assert_int_equal(frame_at(s, AT + i * PAGE), 0);
        (void)!mm_paging_translate(table, mm_vaddr(moved_to + i * PAGE), &now);
        assert_int_equal(now.kind, was[i].kind);
        assert_int_equal(now.paddr.raw, was[i].paddr.raw);
        assert_int_equal(now.prot, was[i].prot);
        assert_int_equal(now.dirty, was[i].dirty);
        assert_int_equal(now.accessed, was[i].accessed);
        assert_int_equal(now.software, was[i].software);
        if (now.dirty && mm_frame_owner(&f->m.frames, mm_pfn_of(now.paddr), &record) == MM_OK) {
            assert_int_equal(record.number, mm_space_id(s));
            assert_int_equal(record.index, moved_to / PAGE + i);
        }
    }
    holds(f, s, moved_to, 2, 1);
    is_hole(f, s, AT);
    is_hole(f, s, AT + 7 * PAGE);
    fill(f, s, moved_to, 32, 100);
    holds(f, s, moved_to, 32, 100);
    assert_int_equal(resident(s), 32 * PAGE);
    put_last(f, s);
    fixture_stop(f);
}

/* No table is left where nothing is. */
static void test_tables_go(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    uint64_t to = UINT64_C(1) << 44;
    struct mm_space_stats before;
    struct mm_space_stats after;

    (void)state;
    assert_int_equal(map_at(s, AT, 8 * PAGE, RW, MM_SPACE_POPULATE), MM_OK);
    assert_int_equal(mm_space_get_stats(s, &before), MM_OK);
    for (unsigned i = 0; i < 8; i++) {
        /* From boundary to boundary. */
        assert_int_equal(remap(s, i == 0 ? AT : to, 8 * PAGE, 8 * PAGE, THERE,
                               i == 0 ? to : to + (UINT64_C(1) << 39) - 4 * PAGE),
                         MM_OK);
        to = moved_to;
    }
    assert_int_equal(remap(s, to, 8 * PAGE, 8 * PAGE, THERE, AT), MM_OK);
    assert_int_equal(mm_space_get_stats(s, &after), MM_OK);
    assert_int_equal(after.nr_tables, before.nr_tables);
    assert_int_equal(mm_space_check(s), MM_OK);
    put_last(f, s);
    fixture_stop(f);
}

static void test_to_a_place(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);

    (void)state;
    assert_int_equal(map_at(s, AT, 8 * PAGE, RW, 0), MM_OK);
    assert_int_equal(map_at(s, TO, 16 * PAGE, RX, 0), MM_OK);
    assert_int_equal(map_at(s, TO + 16 * PAGE, 4 * PAGE, MM_PROT_NONE, MM_SPACE_GUARD), MM_OK);
    fill(f, s, AT, 8, 1);
    assert_int_equal(loaded(f, s, TO + 5 * PAGE), 0);
    refused(f, s, MM_ERR_INVALID_ADDRESS, AT, 8 * PAGE, 8 * PAGE, THERE, AT);
    refused(f, s, MM_ERR_INVALID_ADDRESS, AT, 2 * PAGE, 2 * PAGE, THERE, AT + PAGE);
    refused(f, s, MM_ERR_INVALID_ADDRESS, AT + PAGE, PAGE, 2 * PAGE, THERE, AT);
    refused(f, s, MM_ERR_INVALID_ADDRESS, AT, 8 * PAGE, 2 * PAGE, THERE, AT + 7 * PAGE);
    refused(f, s, MM_ERR_INVALID_ADDRESS, AT, 8 * PAGE, 8 * PAGE, THERE, USER_LAST - 7 * PAGE);
    refused(f, s, MM_ERR_INVALID_ADDRESS, AT, 8 * PAGE, 8 * PAGE, THERE, 0);
    refused(f, s, MM_ERR_NOT_ALIGNED, AT, 8 * PAGE, 8 * PAGE, THERE, TO + 1);
    refused(f, s, MM_ERR_INVALID_FLAGS, AT, 8 * PAGE, 8 * PAGE, MM_SPACE_REMAP_FIXED, TO);
    refused(f, s, MM_ERR_INVALID_FLAGS, AT, 8 * PAGE, 8 * PAGE, 4 | MOVE, TO);
    refused(f, s, MM_ERR_PERMISSION_DENIED, TO + 14 * PAGE, 4 * PAGE, 4 * PAGE, THERE,
            TO + 64 * PAGE);
    refused(f, s, MM_ERR_PERMISSION_DENIED, TO + 14 * PAGE, 4 * PAGE, 9 * PAGE, MOVE, 0);
    /* A part, into the middle of another region; larger; what was there is gone. */
    assert_int_equal(remap(s, AT + 2 * PAGE, 2 * PAGE, 3 * PAGE, THERE, TO + 4 * PAGE), MM_OK);
    assert_int_equal(moved_to, TO + 4 * PAGE);
    is_region(s, TO, 4 * PAGE);
    is_region(s, TO + 4 * PAGE, 3 * PAGE);
    is_region(s, TO + 7 * PAGE, 9 * PAGE);
    is_region(s, AT, 2 * PAGE);
    is_region(s, AT + 4 * PAGE, 4 * PAGE);
    holds(f, s, TO + 4 * PAGE, 2, 3);
    assert_int_equal(loaded(f, s, TO + 6 * PAGE), 0);
    assert_int_equal(resident(s), 9 * PAGE);
    /* Smaller, over the end of one region, a guard and nothing: the rest is unmapped. */
    assert_int_equal(remap(s, AT + 4 * PAGE, 4 * PAGE, 2 * PAGE + 1, THERE, TO + 19 * PAGE), MM_OK);
    is_region(s, TO + 19 * PAGE, 3 * PAGE);
    holds(f, s, TO + 19 * PAGE, 3, 5);
    is_hole(f, s, AT + 7 * PAGE);
    is_region(s, TO + 16 * PAGE, 3 * PAGE);
    /* Beside what agrees with it: they are one. A guard moves too. */
    assert_int_equal(remap(s, TO + 19 * PAGE, 3 * PAGE, 3 * PAGE, THERE, AT + 2 * PAGE), MM_OK);
    is_region(s, AT, 5 * PAGE);
    holds(f, s, AT + 2 * PAGE, 3, 5);
    assert_int_equal(remap(s, TO + 16 * PAGE, 3 * PAGE, 6 * PAGE, THERE, TO + 40 * PAGE), MM_OK);
    is_region(s, TO + 40 * PAGE, 6 * PAGE);
    /* Within one region. */
    assert_int_equal(remap(s, AT, 2 * PAGE, 2 * PAGE, THERE, AT + 3 * PAGE), MM_OK);
    holds(f, s, AT + 3 * PAGE, 2, 1);
    is_region(s, AT + 2 * PAGE, 3 * PAGE);
    put_last(f, s);
    fixture_stop(f);
}

/* --- large leaves ----------------------------------------------------------------------------- */

static void test_large_leaves(void **state)
{
    static const struct t_machine_config machine = {.ram_len = 16 << 20};
    struct fixture *f = fixture_start(&machine);
    struct mm_space *s = new_space(f);
    struct mm_space_stats before;
    struct mm_space_stats after;

    (void)state;
    assert_int_equal(map_at(s, 2 * P2M, 2 * P2M + PAGE, RW, MM_SPACE_HUGE), MM_OK);
    fill(f, s, 2 * P2M, 1025, 1);
    assert_int_equal(large_leaves(s), 2);
    assert_int_equal(mm_space_get_stats(s, &before), MM_OK);
    /* Alike: whole; also where nobody said where to. */
    assert_int_equal(remap(s, 2 * P2M, 2 * P2M + PAGE, 2 * P2M + PAGE, THERE, TO), MM_OK);
    assert_int_equal(large_leaves(s), 2);
    assert_int_equal(map_at(s, TO + 2 * P2M + PAGE, PAGE, RX, 0), MM_OK);
    assert_int_equal(remap(s, TO, 2 * P2M + PAGE, 3 * P2M, MOVE, 0), MM_OK);
    assert_int_equal(moved_to % P2M, 0);
    assert_int_equal(large_leaves(s), 2);
    holds(f, s, moved_to, 1025, 1);
    assert_int_equal(remap(s, moved_to, 3 * P2M, 2 * P2M + PAGE, THERE, 8 * P2M), MM_OK);
    /* A part of one: it is cut. */
    assert_int_equal(remap(s, 8 * P2M + 5 * PAGE, 3 * PAGE, 3 * PAGE, THERE, TO), MM_OK);
    assert_int_equal(large_leaves(s), 1);
    holds(f, s, TO, 3, 6);
    is_hole(f, s, 8 * P2M + 7 * PAGE);
    holds(f, s, 8 * P2M + 8 * PAGE, 1017, 9);
    /* From within one to the end: one is cut, and the rest is not alike. */
    assert_int_equal(remap(s, 9 * P2M - PAGE, P2M + PAGE, P2M + PAGE, THERE, TO + PAGE), MM_OK);
    assert_int_equal(large_leaves(s), 0);
    holds(f, s, TO + PAGE, 513, 512);
    assert_int_equal(loaded(f, s, 10 * P2M), 1025);
    assert_int_equal(mm_space_get_stats(s, &after), MM_OK);
    assert_int_equal(after.resident_bytes, before.resident_bytes - 2 * PAGE);
    put_last(f, s);
    fixture_stop(f);
}

/* A place between others, where an empty table stands. */
static void test_empty_table_in_the_way(void **state)
{
    static const struct t_machine_config machine = {.ram_len = 16 << 20};
    struct fixture *f = fixture_start(&machine);
    struct mm_space *s = new_space(f);
    struct mm_pagetable *table = mm_space_table(s);
    struct mm_slot slot = mm_slot_empty();
    struct mm_slot soft = mm_slot_soft(1, 1);

    (void)state;
    assert_int_equal(map_at(s, 2 * P2M, P2M, RW, MM_SPACE_HUGE), MM_OK);
    fill(f, s, 2 * P2M, 512, 1);
    assert_int_equal(large_leaves(s), 1);
    assert_int_equal(mm_paging_slot_cas(table, mm_vaddr(TO), PAGE, &slot, &soft, NULL), MM_OK);
    assert_int_equal(mm_paging_slot_get(table, mm_vaddr(TO), &soft), MM_OK);
    slot = mm_slot_empty();
    assert_int_equal(mm_paging_slot_cas(table, mm_vaddr(TO), PAGE, &soft, &slot, NULL), MM_OK);
    assert_int_equal(remap(s, 2 * P2M, P2M, P2M, THERE, TO), MM_OK);
    assert_int_equal(large_leaves(s), 0);
    holds(f, s, TO, 512, 1);
    put_last(f, s);
    fixture_stop(f);
}

/* --- shared pages ----------------------------------------------------------------------------- */

static void test_forked(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    struct mm_space *child;
    struct mm_frame_record record;

    (void)state;
    assert_int_equal(map_at(s, AT, 6 * PAGE, RW, 0), MM_OK);
    fill(f, s, AT, 4, 1);
    assert_int_equal(loaded(f, s, AT + 4 * PAGE), 0);
    child = clone_of(s);
    run_in(f, s);
    assert_int_equal(remap(s, AT, 6 * PAGE, 6 * PAGE, THERE, TO), MM_OK);
    assert_int_equal(frame_at(s, TO), frame_at(child, AT));
    if (mm_frame_owner(&f->m.frames, mm_pfn(frame_at(s, TO)), &record) == MM_OK) {
        assert_int_not_equal(record.index, TO / PAGE); /* it is nobody's alone */
    }
    fill(f, s, TO, 1, 50);
    assert_int_equal(f->last, MM_FAULT_COW);
    fill(f, s, TO + 4 * PAGE, 1, 60); /* the zero page: a frame */
    assert_int_equal(f->last, MM_FAULT_COW);
    assert_int_equal(loaded(f, child, AT), 1);
    assert_int_equal(loaded(f, child, AT + 4 * PAGE), 0);
    run_in(f, child);
    assert_int_equal(remap(child, AT + PAGE, 2 * PAGE, 2 * PAGE, THERE, TO), MM_OK);
    fill(f, child, TO, 2, 70);
    holds(f, s, TO + PAGE, 3, 2);
    holds(f, child, TO, 2, 70);
    put_last(f, child);
    /* Pages of no right keep what they hold. */
    run_in(f, s);
    assert_int_equal(protect(s, TO, 6 * PAGE, MM_PROT_NONE), MM_OK);
    assert_int_equal(remap(s, TO, 6 * PAGE, 6 * PAGE, THERE, AT), MM_OK);
    assert_int_equal(protect(s, AT, 6 * PAGE, RW), MM_OK);
    assert_int_equal(loaded(f, s, AT), 50);
    holds(f, s, AT + PAGE, 3, 2);
    put_last(f, s);
    fixture_stop(f);
}

/* Another CPU that knows the old place learns that it is gone before the call returns. */
static void test_other_cpus(void **state)
{
    static const struct t_machine_config machine = {.nr_cpus = 2};
    struct fixture *f = fixture_start(&machine);
    struct mm_space *s = new_space(f);

    (void)state;
    assert_int_equal(map_at(s, AT, 8 * PAGE, RW, 0), MM_OK);
    for (f->m.cpus.now = 0; f->m.cpus.now < 2; f->m.cpus.now++) {
        fill(f, s, AT, 8, 1);
    }
    f->m.cpus.now = 0;
    assert_int_equal(remap(s, AT, 8 * PAGE, 8 * PAGE, THERE, TO), MM_OK);
    nothing_stale(f);
    f->m.cpus.now = 1;
    is_hole(f, s, AT + 3 * PAGE);
    holds(f, s, TO, 8, 1);
    put_last(f, s);
    fixture_stop(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shrinks),      cmocka_unit_test(test_grows_in_place),
        cmocka_unit_test(test_stacks),       cmocka_unit_test(test_leaves_move),
        cmocka_unit_test(test_tables_go),    cmocka_unit_test(test_to_a_place),
        cmocka_unit_test(test_large_leaves), cmocka_unit_test(test_empty_table_in_the_way),
        cmocka_unit_test(test_forked),       cmocka_unit_test(test_other_cpus),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
