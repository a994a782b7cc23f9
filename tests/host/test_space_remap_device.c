// SPDX-License-Identifier: MIT
/**
 * mm_space_remap() of physical ranges: they move and shrink, and the claims of their memory with
 * them.
 */
#include "space_devices.h"
#include "space_scarce.h"

#include <mm/paging_slots.h>

#define TO    (UINT64_C(1) << 40)
#define P2M   UINT64_C(0x200000)
#define THERE (MM_SPACE_REMAP_MOVE | MM_SPACE_REMAP_FIXED)

static mm_status_t remap(struct mm_space *s, uint64_t at, uint64_t len, uint64_t new_len,
                         uint32_t flags, uint64_t to)
{
    mm_vaddr_t out;

    return mm_space_remap(s, mm_vrange(mm_vaddr(at), len), new_len, flags, mm_vaddr(to), &out);
}

static void is_at(struct fixture *f, struct mm_space *s, uint64_t at, uint64_t nr, uint64_t paddr)
{
    struct mm_region_info info;

    assert_int_equal(mm_space_find(s, mm_vaddr(at), &info), MM_OK);
    assert_int_equal(info.range.start.raw, at);
    assert_int_equal(info.range.len, nr * PAGE);
    assert_int_equal(info.offset, paddr);
    assert_int_equal(info.type, UC);
    for (uint64_t i = 0; i < nr; i++) {
        assert_int_equal(reached(f, s, at + i * PAGE, T_MMU_WRITE), paddr + i * PAGE);
    }
    all_well(f, s);
}

static void test_moves(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);

    (void)state;
    assert_int_equal(map_device(s, AT, 10 * PAGE, REGISTERS, UC, 0), MM_OK);
    assert_int_equal(remap(s, AT, 10 * PAGE, 11 * PAGE, THERE, TO), MM_ERR_PERMISSION_DENIED);
    assert_int_equal(remap(s, AT, 10 * PAGE, 11 * PAGE, 0, 0), MM_ERR_PERMISSION_DENIED);
    /* The whole, its middle, its end, and back. */
    assert_int_equal(remap(s, AT, 10 * PAGE, 10 * PAGE, THERE, TO), MM_OK);
    is_at(f, s, TO, 10, REGISTERS);
    assert_int_equal(remap(s, TO + 3 * PAGE, 4 * PAGE, 4 * PAGE, THERE, AT), MM_OK);
    is_at(f, s, AT, 4, REGISTERS + 3 * PAGE);
    is_at(f, s, TO, 3, REGISTERS);
    is_at(f, s, TO + 7 * PAGE, 3, REGISTERS + 7 * PAGE);
    assert_int_equal(device_bytes(s), 10 * PAGE);
    assert_false(could_map(f, REGISTERS + 4 * PAGE, PAGE, WC));
    /* Shrinks as it moves; what is cut off may be mapped with another type, the rest not. */
    run_in(f, s);
    assert_int_equal(remap(s, AT, 4 * PAGE, 2 * PAGE, THERE, TO + 40 * PAGE), MM_OK);
    is_at(f, s, TO + 40 * PAGE, 2, REGISTERS + 3 * PAGE);
    assert_int_equal(device_bytes(s), 8 * PAGE);
    assert_true(could_map(f, REGISTERS + 5 * PAGE, 2 * PAGE, WC));
    assert_false(could_map(f, REGISTERS + 4 * PAGE, PAGE, WC));
    assert_false(could_map(f, REGISTERS + 2 * PAGE, PAGE, WC));
    assert_false(could_map(f, REGISTERS + 7 * PAGE, PAGE, WC));
    run_in(f, s);
    assert_int_equal(remap(s, TO + 7 * PAGE, 3 * PAGE, PAGE, 0, 0), MM_OK);
    is_at(f, s, TO + 7 * PAGE, 1, REGISTERS + 7 * PAGE);
    /* Over another: that one is given up. */
    assert_int_equal(remap(s, TO + 40 * PAGE, 2 * PAGE, 2 * PAGE, THERE, TO + PAGE), MM_OK);
    is_at(f, s, TO + PAGE, 2, REGISTERS + 3 * PAGE);
    is_at(f, s, TO, 1, REGISTERS);
    assert_true(could_map(f, REGISTERS + PAGE, 2 * PAGE, WC));
    run_in(f, s);
    assert_int_equal(unmap(s, TO, 64 * PAGE), MM_OK);
    assert_int_equal(device_bytes(s), 0);
    assert_true(could_map(f, REGISTERS, 10 * PAGE, WC));
    put_last(f, s);
    fixture_stop(f);
}

/* Leaves of 1 GiB and of 2 MiB, to where they can be as large, or not. */
static void test_large(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);

    (void)state;
    assert_int_equal(map_device(s, LARGE_AT, MM_SIZE_1G + 2 * P2M, BUFFER, UC, 0), MM_OK);
    assert_int_equal(leaf_size(s, LARGE_AT), MM_SIZE_1G);
    assert_int_equal(remap(s, LARGE_AT, MM_SIZE_1G + 2 * P2M, MM_SIZE_1G + 2 * P2M, THERE, TO),
                     MM_OK);
    assert_int_equal(leaf_size(s, TO), MM_SIZE_1G);
    assert_int_equal(leaf_size(s, TO + MM_SIZE_1G), P2M);
    assert_int_equal(remap(s, TO, MM_SIZE_1G + P2M, MM_SIZE_1G + P2M, THERE, LARGE_AT + P2M),
                     MM_OK);
    assert_int_equal(leaf_size(s, LARGE_AT + P2M), P2M);
    assert_int_equal(reached(f, s, LARGE_AT + P2M + MM_SIZE_1G - 8, 0), BUFFER + MM_SIZE_1G - 8);
    assert_int_equal(reached(f, s, TO + MM_SIZE_1G + P2M, 0), BUFFER + MM_SIZE_1G + P2M);
    all_well(f, s);
    assert_int_equal(remap(s, LARGE_AT + 2 * P2M + PAGE, P2M, P2M, THERE, TO + 5 * P2M + 2 * PAGE),
                     MM_OK);
    assert_int_equal(leaf_size(s, TO + 5 * P2M + 2 * PAGE), PAGE);
    assert_int_equal(reached(f, s, TO + 5 * P2M + 2 * PAGE, 0), BUFFER + P2M + PAGE);
    all_well(f, s);
    put_last(f, s);
    fixture_stop(f);
}

/* A table that is there, with nothing in it: what is left of a page that came and went. */
static void leave_table(struct mm_space *s, uint64_t at)
{
    const struct mm_slot soft = mm_slot_soft(1, 1);
    const struct mm_slot none = mm_slot_empty();
    struct mm_pagetable *table = mm_space_table(s);
    struct mm_slot seen = none;

    assert_int_equal(mm_paging_slot_cas(table, mm_vaddr(at), PAGE, &seen, &soft, NULL), MM_OK);
    assert_int_equal(mm_paging_slot_get(table, mm_vaddr(at), &seen), MM_OK);
    assert_int_equal(mm_paging_slot_cas(table, mm_vaddr(at), PAGE, &seen, &none, NULL), MM_OK);
}

/* Only what such a table stands for is in small pieces; there is no memory for more tables. */
static void test_large_on_empty_table(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);

    (void)state;
    assert_int_equal(map_device(s, LARGE_AT, MM_SIZE_1G, BUFFER, UC, 0), MM_OK);
    leave_table(s, TO + 3 * P2M);
    assert_int_equal(remap(s, LARGE_AT, MM_SIZE_1G, MM_SIZE_1G, THERE, TO), MM_OK);
    for (uint64_t i = 0; i < MM_SIZE_1G / P2M; i++) {
        assert_int_equal(leaf_size(s, TO + i * P2M), i == 3 ? PAGE : P2M);
        assert_int_equal(reached(f, s, TO + i * P2M + 5 * PAGE, 0), BUFFER + i * P2M + 5 * PAGE);
    }
    all_well(f, s);
    put_last(f, s);
    fixture_stop(f);
}

/* Pages of a device are none that advice takes, and none that are wired. */
static void test_advice(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    uint8_t bytes[4];
    uint64_t out;

    (void)state;
    assert_int_equal(map_at(s, AT, 2 * PAGE, RW, MM_SPACE_POPULATE), MM_OK);
    assert_int_equal(map_device(s, AT + 2 * PAGE, 2 * PAGE, REGISTERS, UC, 0), MM_OK);
    for (unsigned i = 0; i < MM_ADVICE_COUNT; i++) {
        uint64_t before = state_hash(f, s);

        assert_int_equal(
            mm_space_advise(s, mm_vrange(mm_vaddr(AT), 4 * PAGE), (enum mm_space_advice)i),
            i == (unsigned)MM_ADVICE_WILL_NEED ? MM_OK : MM_ERR_PERMISSION_DENIED);
        assert_int_equal(state_hash(f, s), before);
    }
    assert_int_equal(mm_space_reclaim(s, UINT64_MAX, &out), MM_OK);
    assert_int_equal(out, 0);
    assert_int_equal(mm_space_wire(s, mm_vrange(mm_vaddr(AT + PAGE), 2 * PAGE)), MM_OK);
    assert_int_equal(nr_regions(s), 3);
    assert_int_equal(mm_space_resident(s, mm_vrange(mm_vaddr(AT), 4 * PAGE), bytes), MM_OK);
    assert_memory_equal(bytes, "\1\1\1\1", 4);
    assert_int_equal(resident(s), 2 * PAGE);
    is_at(f, s, AT + 2 * PAGE, 2, REGISTERS);
    put_last(f, s);
    fixture_stop(f);
}

/* --- what runs out ---------------------------------------------------------------------------- */

static mm_status_t do_move(struct fixture *f, struct mm_space *s)
{
    (void)f;
    return remap(s, AT + 3 * PAGE, 4 * PAGE, 2 * PAGE, THERE, TO + 3 * PAGE);
}

static void test_runs_out(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct fixture *f = fixture_start(NULL);
        struct mm_space *s = new_space(f);

        assert_int_equal(map_device(s, AT, 10 * PAGE, REGISTERS, UC, 0), MM_OK);
        assert_int_equal(map_device(s, TO, 10 * PAGE, BUFFER, UC, 0), MM_OK);
        assert_true((i == 0 ? scarce_frames(f, s, do_move) : scarce_nodes(f, s, do_move)) + i != 0);
        is_at(f, s, TO + 3 * PAGE, 2, REGISTERS + 3 * PAGE);
        is_at(f, s, TO, 3, BUFFER);
        is_at(f, s, AT + 7 * PAGE, 3, REGISTERS + 7 * PAGE);
        put_last(f, s);
        fixture_stop(f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_moves),
        cmocka_unit_test(test_large),
        cmocka_unit_test(test_large_on_empty_table),
        cmocka_unit_test(test_advice),
        cmocka_unit_test(test_runs_out),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
