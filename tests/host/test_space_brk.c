// SPDX-License-Identifier: MIT
/**
 * brk() and sbrk(): every byte of a break around pages, what is in the way, what fails.
 */
#include "space_scarce.h"

#define START UINT64_C(0x400000)

static mm_status_t brk_to(struct mm_space *s, uint64_t at, uint64_t *out)
{
    mm_vaddr_t now = {7};
    mm_status_t status = mm_space_brk(s, mm_vaddr(at), &now);

    *out = now.raw;
    return status;
}

/* It moves there. */
static void moves(struct mm_space *s, uint64_t at)
{
    uint64_t now;

    assert_int_equal(brk_to(s, at, &now), MM_OK);
    assert_int_equal(now, at);
    assert_int_equal(mm_space_check(s), MM_OK);
}

/* It stays, and is told. */
static void refused(struct fixture *f, struct mm_space *s, mm_status_t want, uint64_t at)
{
    uint64_t before = state_hash(f, s);
    uint64_t was;
    uint64_t now;

    assert_int_equal(brk_to(s, 0, &was), MM_OK);
    assert_int_equal(brk_to(s, at, &now), want);
    assert_int_equal(now, was);
    assert_int_equal(state_hash(f, s), before);
}

static uint64_t heap_bytes(struct mm_space *s)
{
    struct mm_space_stats stats;

    assert_int_equal(mm_space_get_stats(s, &stats), MM_OK);
    return stats.mapped_bytes;
}

static struct mm_space *with_heap(struct fixture *f, uint64_t start)
{
    struct mm_space *s = new_space(f);

    assert_int_equal(mm_space_set_brk_start(s, mm_vaddr(start)), MM_OK);
    return s;
}

static void test_bytes(void **state)
{
    struct fixture *f = fixture_start(NULL);

    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        uint64_t start = START + (i == 0 ? 0 : i == 1 ? 1 : PAGE - 1);
        uint64_t first = START + (i == 0 ? 0 : PAGE); /* page of the heap */
        struct mm_space *s = with_heap(f, start);
        struct mm_region_info info;
        uint64_t now;

        assert_int_equal(brk_to(s, 0, &now), MM_OK);
        assert_int_equal(now, start);
        moves(s, start);
        assert_int_equal(nr_regions(s), 0);
        moves(s, first);
        assert_int_equal(nr_regions(s), 0);
        moves(s, first + 1);
        assert_int_equal(heap_bytes(s), PAGE);
        assert_int_equal(mm_space_find(s, mm_vaddr(first), &info), MM_OK);
        assert_int_equal(info.kind, MM_REGION_HEAP);
        assert_int_equal(info.prot, RW);
        assert_int_equal(info.flags, 0);
        assert_true(store(f, s, first, 1));
        moves(s, first + PAGE);
        assert_int_equal(heap_bytes(s), PAGE);
        moves(s, first + PAGE + 1);
        assert_int_equal(heap_bytes(s), 2 * PAGE);
        assert_int_equal(nr_regions(s), 1);
        assert_true(store(f, s, first + PAGE, 2));
        moves(s, first + 5 * PAGE - 1);
        assert_int_equal(heap_bytes(s), 5 * PAGE);
        assert_int_equal(nr_regions(s), 1);
        moves(s, first + PAGE + 1);
        assert_int_equal(heap_bytes(s), 2 * PAGE);
        assert_int_equal(loaded(f, s, first + PAGE), 2);
        moves(s, first + PAGE);
        assert_int_equal(resident(s), PAGE);
        assert_int_equal(loaded(f, s, first), 1);
        refused(f, s, MM_ERR_INVALID_ADDRESS, start - 1);
        refused(f, s, MM_ERR_INVALID_ADDRESS, 1);
        /* What comes back is zero. */
        moves(s, start);
        assert_int_equal(nr_regions(s), 0);
        moves(s, first + PAGE);
        assert_int_equal(loaded(f, s, first), 0);
        put_last(f, s);
    }
    fixture_stop(f);
}

static void test_start(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    struct mm_space *child;
    mm_vaddr_t out = {7};
    uint64_t now;

    (void)state;
    assert_int_equal(brk_to(s, 0, &now), MM_ERR_REGION_NOT_FOUND);
    assert_int_equal(now, 7);
    assert_int_equal(brk_to(s, START, &now), MM_ERR_REGION_NOT_FOUND);
    assert_int_equal(mm_space_sbrk(s, 0, &out), MM_ERR_REGION_NOT_FOUND);
    assert_int_equal(mm_space_set_brk_start(s, mm_vaddr(0)), MM_ERR_INVALID_ADDRESS);
    assert_int_equal(mm_space_set_brk_start(s, mm_vaddr(PAGE - 1)), MM_ERR_INVALID_ADDRESS);
    assert_int_equal(mm_space_set_brk_start(s, mm_vaddr(USER_LAST)), MM_ERR_INVALID_ADDRESS);
    assert_int_equal(mm_space_set_brk_start(s, mm_vaddr(UINT64_MAX)), MM_ERR_INVALID_ADDRESS);
    assert_int_equal(mm_space_set_brk_start(s, mm_vaddr(PAGE)), MM_OK);
    assert_int_equal(mm_space_set_brk_start(s, mm_vaddr(START + 5)), MM_OK);
    moves(s, START + 2 * PAGE);
    assert_int_equal(mm_space_set_brk_start(s, mm_vaddr(START)), MM_ERR_BUSY);
    assert_true(store(f, s, START + PAGE, 4));
    /* A clone has the same heap, and its own break. */
    child = clone_of(s);
    run_in(f, child);
    moves(child, START + 3 * PAGE);
    assert_int_equal(loaded(f, child, START + PAGE), 4);
    refused(f, s, MM_ERR_INVALID_ADDRESS, START + 4);
    assert_int_equal(brk_to(s, 0, &now), MM_OK);
    assert_int_equal(now, START + 2 * PAGE);
    put_last(f, child);
    /* At the end of the range. */
    run_in(f, s);
    moves(s, START + 5);
    assert_int_equal(mm_space_set_brk_start(s, mm_vaddr(USER_LAST - 1)), MM_OK);
    moves(s, USER_LAST);
    assert_int_equal(nr_regions(s), 0);
    refused(f, s, MM_ERR_INVALID_ADDRESS, USER_LAST + 1);
    refused(f, s, MM_ERR_INVALID_ADDRESS, UINT64_MAX);
    assert_int_equal(mm_space_set_brk_start(NULL, mm_vaddr(START)), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_space_brk(NULL, mm_vaddr(0), &out), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_space_brk(s, mm_vaddr(0), NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_space_sbrk(NULL, 0, &out), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_space_sbrk(s, 0, NULL), MM_ERR_INVALID_ARGUMENT);
    put_last(f, s);
    s = mm_space_kernel(&f->spaces);
    assert_int_equal(mm_space_set_brk_start(s, mm_vaddr(T_ARENA)), MM_ERR_UNSUPPORTED);
    assert_int_equal(mm_space_brk(s, mm_vaddr(0), &out), MM_ERR_UNSUPPORTED);
    assert_int_equal(mm_space_sbrk(s, 0, &out), MM_ERR_UNSUPPORTED);
    assert_int_equal(out.raw, 7);
    fixture_stop(f);
}

static void test_in_the_way(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = with_heap(f, START);

    (void)state;
    assert_int_equal(map_at(s, START + 8 * PAGE, PAGE, RX, 0), MM_OK);
    refused(f, s, MM_ERR_ALREADY_MAPPED, START + 8 * PAGE + 1);
    refused(f, s, MM_ERR_ALREADY_MAPPED, START + 64 * PAGE);
    moves(s, START + 8 * PAGE);
    assert_int_equal(nr_regions(s), 2);
    assert_int_equal(unmap(s, START + 8 * PAGE, PAGE), MM_OK);
    /* A stack's gap. */
    assert_int_equal(map_at(s, START + 300 * PAGE, PAGE, RW, MM_SPACE_STACK), MM_OK);
    refused(f, s, MM_ERR_ALREADY_MAPPED, START + 44 * PAGE + 1);
    moves(s, START + 44 * PAGE);
    /* The user unmapped some of it, and mapped other things: they go, and what is gone may be. */
    assert_int_equal(unmap(s, START + 10 * PAGE, 20 * PAGE), MM_OK);
    assert_int_equal(map_at(s, START + 20 * PAGE, 2 * PAGE, RX, 0), MM_OK);
    assert_int_equal(nr_regions(s), 4);
    moves(s, START + 21 * PAGE);
    assert_int_equal(nr_regions(s), 3);
    moves(s, START + 15 * PAGE);
    moves(s, START + 12 * PAGE);
    moves(s, START + 13 * PAGE);
    assert_int_equal(nr_regions(s), 3);
    put_last(f, s);
    fixture_stop(f);
}

static void test_sbrk(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = with_heap(f, START);
    static const int64_t wrong[] = {
        -1, INT64_MIN, INT64_MAX, -(int64_t)START, -(int64_t)START - 1, (int64_t)T_USER_LEN};
    mm_vaddr_t out = {7};
    uint64_t now;

    (void)state;
    for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        uint64_t before = state_hash(f, s);

        assert_int_equal(mm_space_sbrk(s, wrong[i], &out), MM_ERR_INVALID_ADDRESS);
        assert_int_equal(state_hash(f, s), before);
        assert_int_equal(out.raw, 7);
    }
    assert_int_equal(mm_space_sbrk(s, 0, &out), MM_OK);
    assert_int_equal(out.raw, START);
    assert_int_equal(mm_space_sbrk(s, PAGE + 9, &out), MM_OK);
    assert_int_equal(out.raw, START);
    assert_int_equal(heap_bytes(s), 2 * PAGE);
    assert_int_equal(mm_space_sbrk(s, -10, &out), MM_OK);
    assert_int_equal(out.raw, START + PAGE + 9);
    assert_int_equal(heap_bytes(s), PAGE);
    assert_int_equal(brk_to(s, 0, &now), MM_OK);
    assert_int_equal(now, START + PAGE - 1);
    assert_int_equal(mm_space_sbrk(s, -(int64_t)PAGE, &out), MM_ERR_INVALID_ADDRESS);
    assert_int_equal(mm_space_sbrk(s, -(int64_t)PAGE + 1, &out), MM_OK);
    assert_int_equal(nr_regions(s), 0);
    put_last(f, s);
    fixture_stop(f);
}

/* A heap whose end is wired grows wired; one that is wired elsewhere does not. */
static void test_wired(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = with_heap(f, START);

    (void)state;
    moves(s, START + 4 * PAGE);
    assert_int_equal(mm_space_wire(s, mm_vrange(mm_vaddr(START), PAGE)), MM_OK);
    moves(s, START + 6 * PAGE);
    assert_int_equal(resident(s), PAGE);
    assert_int_equal(mm_space_wire(s, mm_vrange(mm_vaddr(START), 6 * PAGE)), MM_OK);
    moves(s, START + 9 * PAGE);
    assert_int_equal(resident(s), 9 * PAGE);
    assert_int_equal(nr_regions(s), 1);
    /* A mapping that only touches the heap says nothing. */
    moves(s, START);
    assert_int_equal(map_at(s, START - PAGE, PAGE, RW, MM_SPACE_WIRED), MM_OK);
    moves(s, START + PAGE);
    assert_int_equal(resident(s), PAGE);
    put_last(f, s);
    fixture_stop(f);
}

/* --- what runs out ---------------------------------------------------------------------------- */

static void test_limits(void **state)
{
    struct mm_space_limits limits = {.mapped_bytes = 4 * PAGE};
    struct fixture *f = fixture_start(NULL);
    struct mm_spaces_config config = fixture_config(f);
    struct mm_space *s;

    (void)state;
    assert_int_equal(mm_spaces_destroy(&f->spaces), MM_OK);
    config.commit = MM_COMMIT_NEVER;
    config.commit_pages = 6;
    assert_int_equal(mm_spaces_init(&f->spaces, &config), MM_OK);
    s = with_heap(f, START);
    refused(f, s, MM_ERR_NO_MEMORY, START + 6 * PAGE + 1);
    moves(s, START + 6 * PAGE);
    moves(s, START + 2 * PAGE);
    assert_int_equal(mm_space_set_limits(s, &limits), MM_OK);
    refused(f, s, MM_ERR_LIMIT, START + 4 * PAGE + 1);
    moves(s, START + 4 * PAGE);
    assert_int_equal(nr_regions(s), 1);
    assert_int_equal(mm_space_set_limits(s, NULL), MM_OK);
    moves(s, START + 6 * PAGE);
    refused(f, s, MM_ERR_NO_MEMORY, START + 6 * PAGE + 1);
    put_last(f, s);
    fixture_stop(f);
}

static mm_status_t do_grow(struct fixture *f, struct mm_space *s)
{
    mm_vaddr_t was;
    mm_vaddr_t now;
    mm_status_t status;

    (void)f;
    assert_int_equal(mm_space_brk(s, mm_vaddr(0), &was), MM_OK);
    status = mm_space_brk(s, mm_vaddr(START + 8 * PAGE), &now);
    assert_int_equal(now.raw, status == MM_OK ? START + 8 * PAGE : was.raw);
    return status;
}

static mm_status_t do_shrink(struct fixture *f, struct mm_space *s)
{
    mm_vaddr_t out = {7};
    mm_status_t status = mm_space_sbrk(s, -(int64_t)PAGE, &out);

    (void)f;
    assert_true((out.raw == 7) == (status != MM_OK));
    return status;
}

static void test_runs_out(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = with_heap(f, START);

    (void)state;
    /* The first region of the space: a node and a bucket, whatever there is of nodes. */
    assert_int_equal(scarce_nodes(f, s, do_grow), NODES_STEPS + 1);
    assert_int_equal(mm_space_wire(s, mm_vrange(mm_vaddr(START), 8 * PAGE)), MM_OK);
    moves(s, START + 4 * PAGE);
    assert_true(scarce_frames(f, s, do_grow) >= 4);
    /* The break in the middle of a region that is another's. */
    assert_int_equal(unmap(s, START + 5 * PAGE, 3 * PAGE), MM_OK);
    assert_int_equal(map_at(s, START + 5 * PAGE, 8 * PAGE, RX, 0), MM_OK);
    assert_int_equal(scarce_nodes(f, s, do_shrink), 1);
    moves(s, START + 7 * PAGE - 3);
    assert_int_equal(scarce_nodes(f, s, do_shrink), 0);
    put_last(f, s);
    fixture_stop(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes),      cmocka_unit_test(test_start),
        cmocka_unit_test(test_in_the_way), cmocka_unit_test(test_sbrk),
        cmocka_unit_test(test_wired),      cmocka_unit_test(test_limits),
        cmocka_unit_test(test_runs_out),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
