// SPDX-License-Identifier: MIT
/**
 * Copy-on-write on demand: a picture of memory that others hold by references of their own stays as
 * it was, and nothing else changes.
 */
#include "space_fixture.h"

#define AT  (64 * PAGE)
#define P2M UINT64_C(0x200000)

static const struct t_machine_config large = {.ram_len = 16 * P2M};

static mm_status_t make_cow(struct mm_space *s, uint64_t at, uint64_t len)
{
    return mm_space_make_cow(s, mm_vrange(mm_vaddr(at), len));
}

static uint64_t seen(struct fixture *f, mm_pfn_t frame)
{
    return *(const uint64_t *)t_machine_ptr(&f->m, mm_pfn_addr(frame).raw);
}

static struct mm_mapping leaf_at(struct mm_space *s, uint64_t at)
{
    struct mm_mapping leaf;

    assert_int_equal(mm_paging_translate(mm_space_table(s), mm_vaddr(at), &leaf), MM_OK);
    return leaf;
}

static bool is_writable(struct mm_space *s, uint64_t at)
{
    return (leaf_at(s, at).prot & MM_PROT_WRITE) != 0;
}

/* A frame that somebody else holds is copied by the next write, one that nobody holds is taken. */
static void test_picture(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    mm_pfn_t held[4];

    (void)state;
    assert_int_equal(map_at(s, AT, 8 * PAGE, RW, 0), MM_OK);
    for (uint64_t i = 0; i < 8; i++) {
        assert_true(store(f, s, AT + i * PAGE, i + 1));
    }
    for (unsigned i = 0; i < 4; i++) {
        held[i] = mm_pfn(frame_at(s, AT + i * PAGE));
        mm_frame_get(&f->m.frames, held[i]);
    }
    assert_int_equal(make_cow(s, AT, 6 * PAGE), MM_OK);
    for (uint64_t i = 0; i < 8; i++) {
        uint64_t frame = frame_at(s, AT + i * PAGE);

        assert_int_equal(is_writable(s, AT + i * PAGE), i >= 6);
        assert_int_equal(loaded(f, s, AT + i * PAGE), i + 1);
        assert_true(store(f, s, AT + i * PAGE, 100 + i));
        /* No CPU still knows the page as writable: the store has faulted. */
        assert_int_equal(f->nr_faults, i < 6 ? 1 : 0);
        assert_int_equal(frame_at(s, AT + i * PAGE) == frame, i >= 4);
        assert_int_equal(loaded(f, s, AT + i * PAGE), 100 + i);
    }
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(seen(f, held[i]), i + 1);
        assert_true(mm_frame_put(&f->m.frames, held[i]));
    }
    assert_int_equal(nr_regions(s), 1);
    assert_int_equal(mm_space_check(s), MM_OK);
    put_last(f, s);
    fixture_stop(f);
}

/* What a device has pinned stays writable, and where it is. */
static void test_pinned(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    mm_pfn_t pinned;

    (void)state;
    assert_int_equal(map_at(s, AT, 5 * PAGE, RW, MM_SPACE_POPULATE), MM_OK);
    pinned = mm_pfn(frame_at(s, AT + 2 * PAGE));
    mm_frame_pin(&f->m.frames, pinned);
    mm_frame_get(&f->m.frames, pinned); /* and somebody refers to it */
    assert_int_equal(make_cow(s, AT, 5 * PAGE), MM_OK);
    for (uint64_t i = 0; i < 5; i++) {
        assert_int_equal(is_writable(s, AT + i * PAGE), i == 2);
    }
    assert_int_equal(mm_space_check(s), MM_OK);
    assert_false(mm_frame_put(&f->m.frames, pinned));
    assert_true(store(f, s, AT + 2 * PAGE, 6));
    assert_int_equal(f->nr_faults, 0);
    assert_int_equal(seen(f, pinned), 6);
    assert_false(mm_frame_unpin(&f->m.frames, pinned));
    assert_int_equal(make_cow(s, AT + 2 * PAGE, PAGE), MM_OK);
    assert_false(is_writable(s, AT + 2 * PAGE));
    assert_int_equal(mm_space_check(s), MM_OK);
    put_last(f, s);
    fixture_stop(f);
}

/* Holes, guards, pages that nobody touched or that may not be written: nothing changes. */
static void test_passed_over(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    uint64_t hash;

    (void)state;
    assert_int_equal(map_at(s, AT, 2 * PAGE, RX, MM_SPACE_POPULATE), MM_OK);
    assert_int_equal(map_at(s, AT + 3 * PAGE, 2 * PAGE, RW, 0), MM_OK);
    assert_int_equal(map_at(s, AT + 6 * PAGE, PAGE, MM_PROT_NONE, MM_SPACE_GUARD), MM_OK);
    assert_int_equal(map_at(s, AT + 8 * PAGE, PAGE, RWX, MM_SPACE_POPULATE), MM_OK);
    assert_int_equal(loaded(f, s, AT + 3 * PAGE), 0); /* the zero page */
    hash = state_hash(f, s);
    assert_int_equal(make_cow(s, AT - 4 * PAGE, 12 * PAGE), MM_OK);
    assert_int_equal(make_cow(s, AT + 20 * PAGE, PAGE), MM_OK);
    assert_true(state_hash(f, s) == hash);
    assert_int_equal(make_cow(s, AT - 4 * PAGE, 20 * PAGE), MM_OK);
    assert_int_equal(leaf_at(s, AT + 8 * PAGE).prot, RX | MM_PROT_USER);
    assert_true(fetch(f, s, AT + 8 * PAGE));
    assert_true(store(f, s, AT + 8 * PAGE, 1));
    assert_int_equal(mm_space_check(s), MM_OK);
    put_last(f, s);
    fixture_stop(f);
}

static void test_large_leaves(void **state)
{
    struct fixture *f = fixture_start(&large);
    struct mm_space *s = new_space(f);
    mm_pfn_t held;
    mm_pfn_t pinned;

    (void)state;
    assert_int_equal(map_at(s, P2M, 3 * P2M, RW, MM_SPACE_HUGE | MM_SPACE_POPULATE), MM_OK);
    for (uint64_t at = P2M; at < 4 * P2M; at += 32 * PAGE) {
        assert_true(store(f, s, at, at));
    }
    held = mm_pfn(frame_at(s, P2M) + 32);
    pinned = mm_pfn(frame_at(s, 2 * P2M) + 7);
    mm_frame_get(&f->m.frames, held);
    mm_frame_pin(&f->m.frames, pinned);
    assert_int_equal(make_cow(s, P2M, 2 * P2M + 64 * PAGE), MM_OK);
    assert_false(is_writable(s, P2M));
    assert_int_equal(leaf_at(s, P2M).page.len, P2M);
    assert_true(is_writable(s, 2 * P2M)); /* all of a leaf with a pinned page */
    assert_int_equal(leaf_at(s, 2 * P2M).page.len, P2M);
    assert_false(is_writable(s, 3 * P2M + 63 * PAGE));
    assert_true(is_writable(s, 3 * P2M + 64 * PAGE));
    for (uint64_t at = P2M; at < 4 * P2M; at += 32 * PAGE) {
        assert_int_equal(loaded(f, s, at), at);
        assert_true(store(f, s, at, at + 1));
        assert_int_equal(loaded(f, s, at), at + 1);
    }
    assert_int_equal(seen(f, held), P2M + 32 * PAGE);
    assert_true(mm_frame_put(&f->m.frames, held));
    assert_false(mm_frame_unpin(&f->m.frames, pinned));
    assert_int_equal(mm_space_check(s), MM_OK);
    put_last(f, s);
    fixture_stop(f);
}

/* A clone has it as its parent has; what its relatives share is as it was. */
static void test_with_clone(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    struct mm_space *child;
    uint64_t hash;

    (void)state;
    assert_int_equal(map_at(s, AT, 2 * PAGE, RW, 0), MM_OK);
    assert_true(store(f, s, AT, 1));
    child = clone_of(s);
    hash = state_hash(f, child);
    assert_int_equal(make_cow(s, AT, 2 * PAGE), MM_OK);
    assert_true(state_hash(f, child) == hash);
    put_last(f, child);
    assert_true(store(f, s, AT, 2));
    assert_int_equal(make_cow(s, AT, 2 * PAGE), MM_OK);
    child = clone_of(s);
    assert_true(store(f, child, AT, 3));
    assert_int_equal(loaded(f, s, AT), 2);
    put_last(f, child);
    put_last(f, s);
    fixture_stop(f);
}

static void test_bad_input(void **state)
{
    struct fixture *f = fixture_start(NULL);

    (void)state;
    assert_int_equal(make_cow(NULL, AT, PAGE), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(make_cow(mm_space_kernel(&f->spaces), T_ARENA, PAGE), MM_ERR_UNSUPPORTED);
    fixture_stop(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_picture),     cmocka_unit_test(test_pinned),
        cmocka_unit_test(test_passed_over), cmocka_unit_test(test_large_leaves),
        cmocka_unit_test(test_with_clone),  cmocka_unit_test(test_bad_input),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
