// SPDX-License-Identifier: MIT
/**
 * Protection over regions of several kinds, over large leaves that it cuts, and what it promises.
 */
#include "space_fixture.h"

#define AT   (64 * PAGE)
#define P2M  UINT64_C(0x200000)
#define NONE MM_PROT_NONE

static const struct t_machine_config large = {.ram_len = 16 * P2M};

static void map_kind(struct mm_space *s, uint64_t at, uint64_t len, mm_prot_t prot,
                     enum mm_region_kind kind)
{
    struct mm_space_request request = {
        .at = mm_vaddr(at), .len = len, .prot = prot, .flags = MM_SPACE_FIXED, .kind = kind};
    mm_vaddr_t out;

    assert_int_equal(mm_space_map(s, &request, &out), MM_OK);
}

static struct mm_region_info region_at(struct mm_space *s, uint64_t at)
{
    struct mm_region_info info;

    assert_int_equal(mm_space_find(s, mm_vaddr(at), &info), MM_OK);
    return info;
}

static struct mm_mapping leaf_at(struct mm_space *s, uint64_t at)
{
    struct mm_mapping leaf;

    assert_int_equal(mm_paging_translate(mm_space_table(s), mm_vaddr(at), &leaf), MM_OK);
    return leaf;
}

static uint64_t committed(struct mm_space *s)
{
    struct mm_space_stats stats;

    assert_int_equal(mm_space_get_stats(s, &stats), MM_OK);
    return stats.committed_bytes;
}

/* Kinds stay what they are, and apart; the same call again changes nothing. */
static void test_kinds(void **state)
{
    static const enum mm_region_kind kinds[] = {MM_REGION_CODE, MM_REGION_DATA, MM_REGION_HEAP,
                                                MM_REGION_ANONYMOUS};
    static const mm_prot_t prots[] = {NONE, MM_PROT_READ, RX, RW, MM_PROT_WRITE, RWX, NONE, RW};
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);

    (void)state;
    for (uint64_t i = 0; i < 4; i++) {
        map_kind(s, AT + 2 * i * PAGE, 2 * PAGE, RW, kinds[i]);
        assert_true(store(f, s, AT + 2 * i * PAGE, 5 + i));
    }
    for (unsigned p = 0; p < sizeof(prots) / sizeof(prots[0]); p++) {
        bool reads = prots[p] != NONE;
        bool writes = (prots[p] & MM_PROT_WRITE) != 0;

        assert_int_equal(protect(s, AT + PAGE, 6 * PAGE, prots[p]), MM_OK);
        assert_int_equal(protect(s, AT + PAGE, 6 * PAGE, prots[p]), MM_OK);
        assert_int_equal(nr_regions(s), prots[p] == RW ? 4 : 6);
        for (uint64_t i = 0; i < 8; i++) {
            struct mm_region_info info = region_at(s, AT + i * PAGE);
            bool inside = i >= 1 && i < 7;
            uint64_t value = 0;

            assert_int_equal(info.kind, kinds[i / 2]);
            assert_int_equal(info.prot, inside ? prots[p] : RW);
            assert_true(load(f, s, AT + i * PAGE, &value) == (!inside || reads));
            assert_true(store(f, s, AT + i * PAGE, value) == (!inside || writes));
            assert_int_equal(fetch(f, s, AT + i * PAGE), inside && (prots[p] & MM_PROT_EXEC) != 0);
            assert_int_equal(value, i % 2 == 0 && (!inside || reads) ? 5 + i / 2 : 0);
        }
        assert_int_equal(mm_space_check(s), MM_OK);
    }
    put_last(f, s);
    fixture_stop(f);
}

/* What comes first of a hole and a guard is told, and nothing has changed. */
static void test_first_obstacle(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    uint64_t hash;

    (void)state;
    assert_int_equal(map_at(s, AT, 2 * PAGE, RW, 0), MM_OK);
    assert_int_equal(map_at(s, AT + 2 * PAGE, PAGE, NONE, MM_SPACE_GUARD), MM_OK);
    assert_int_equal(map_at(s, AT + 3 * PAGE, PAGE, RW, 0), MM_OK);
    assert_int_equal(map_at(s, AT + 5 * PAGE, PAGE, RW, 0), MM_OK);
    assert_true(store(f, s, AT, 1));
    hash = state_hash(f, s);
    assert_int_equal(protect(s, AT, 6 * PAGE, NONE), MM_ERR_PERMISSION_DENIED);
    assert_int_equal(protect(s, AT + 2 * PAGE, PAGE, NONE), MM_ERR_PERMISSION_DENIED);
    assert_int_equal(protect(s, AT + 3 * PAGE, 3 * PAGE, NONE), MM_ERR_NOT_MAPPED);
    assert_int_equal(protect(s, AT + 4 * PAGE, 2 * PAGE, NONE), MM_ERR_NOT_MAPPED);
    assert_int_equal(protect(s, AT + 5 * PAGE, 2 * PAGE, NONE), MM_ERR_NOT_MAPPED);
    assert_int_equal(protect(s, AT - PAGE, 6 * PAGE, NONE), MM_ERR_NOT_MAPPED);
    assert_true(state_hash(f, s) == hash);
    assert_int_equal(protect(s, AT + 3 * PAGE, 1, NONE), MM_OK);
    put_last(f, s);
    fixture_stop(f);
}

/* --- large leaves ----------------------------------------------------------------------------- */

static struct mm_space *with_leaves(struct fixture *f)
{
    struct mm_space *s = new_space(f);

    assert_int_equal(map_at(s, P2M, 3 * P2M, RW, MM_SPACE_HUGE | MM_SPACE_POPULATE), MM_OK);
    for (uint64_t at = P2M; at < 4 * P2M; at += 32 * PAGE) {
        assert_true(store(f, s, at, at));
    }
    return s;
}

static void test_large_leaves(void **state)
{
    struct fixture *f = fixture_start(&large);
    struct mm_space *s = with_leaves(f);

    (void)state;
    assert_int_equal(protect(s, P2M + 64 * PAGE, 3 * P2M - 128 * PAGE, MM_PROT_READ), MM_OK);
    assert_int_equal(leaf_at(s, P2M).page.len, PAGE);
    assert_int_equal(leaf_at(s, 2 * P2M).page.len, P2M);
    assert_int_equal(leaf_at(s, 3 * P2M).page.len, PAGE);
    for (uint64_t at = P2M; at < 4 * P2M; at += 32 * PAGE) {
        bool inside = at >= P2M + 64 * PAGE && at < 4 * P2M - 64 * PAGE;

        assert_int_equal(loaded(f, s, at), at);
        assert_true(store(f, s, at, at) == !inside);
    }
    assert_int_equal(protect(s, P2M, 3 * P2M, NONE), MM_OK);
    assert_int_equal(protect(s, P2M, 3 * P2M, RW), MM_OK);
    assert_true(store(f, s, 2 * P2M + PAGE, 9));
    assert_int_equal(f->nr_faults, 0);
    assert_int_equal(nr_regions(s), 1);
    assert_int_equal(mm_space_check(s), MM_OK);
    put_last(f, s);
    fixture_stop(f);
}

/* One frame of a leaf that is somebody else's too: all of the leaf waits for a write. */
static void test_large_leaf_shared(void **state)
{
    struct fixture *f = fixture_start(&large);
    struct mm_space *s = with_leaves(f);
    mm_pfn_t frame = mm_pfn(frame_at(s, P2M) + 5);

    (void)state;
    mm_frame_get(&f->m.frames, frame);
    assert_int_equal(protect(s, P2M, 2 * P2M, MM_PROT_READ), MM_OK);
    assert_int_equal(protect(s, P2M, 2 * P2M, RW), MM_OK);
    assert_int_equal(leaf_at(s, P2M).prot & MM_PROT_WRITE, 0);
    assert_int_not_equal(leaf_at(s, 2 * P2M).prot & MM_PROT_WRITE, 0);
    assert_int_equal(mm_space_check(s), MM_OK);
    assert_false(mm_frame_put(&f->m.frames, frame));
    put_last(f, s);
    fixture_stop(f);
}

/* Advice that cuts a region cuts the leaf: what follows, over all of them, needs no table. */
static void test_regions_that_advice_cut(void **state)
{
    struct fixture *f = fixture_start(&large);

    (void)state;
    for (unsigned cow = 0; cow < 2; cow++) {
        struct mm_space *s = with_leaves(f);

        assert_int_equal(
            mm_space_advise(s, mm_vrange(mm_vaddr(P2M + 100 * PAGE), P2M), MM_ADVICE_NO_HUGE),
            MM_OK);
        assert_int_equal(nr_regions(s), 3);
        t_machine_leave_frames(&f->m, 0);
        assert_int_equal(cow != 0 ? mm_space_make_cow(s, mm_vrange(mm_vaddr(P2M), 3 * P2M))
                                  : protect(s, P2M, 3 * P2M, MM_PROT_READ),
                         MM_OK);
        t_machine_leave_frames(&f->m, UINT64_MAX);
        for (uint64_t at = P2M; at < 4 * P2M; at += 32 * PAGE) {
            assert_int_equal(loaded(f, s, at), at);
            assert_int_equal(leaf_at(s, at).prot & MM_PROT_WRITE, 0);
        }
        assert_int_equal(mm_space_check(s), MM_OK);
        put_last(f, s);
    }
    fixture_stop(f);
}

/* --- promises --------------------------------------------------------------------------------- */

static void test_promises(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s;
    uint64_t hash;

    (void)state;
    f->spaces.commit = MM_COMMIT_NEVER;
    f->spaces.commit_pages = 8;
    s = new_space(f);
    map_kind(s, AT, 4 * PAGE, RW, MM_REGION_DATA);
    map_kind(s, AT + 4 * PAGE, 6 * PAGE, MM_PROT_READ, MM_REGION_CODE);
    assert_int_equal(committed(s), 4 * PAGE);
    hash = state_hash(f, s);
    assert_int_equal(protect(s, AT, 9 * PAGE, RW), MM_ERR_NO_MEMORY);
    assert_true(state_hash(f, s) == hash);
    assert_int_equal(protect(s, AT, 8 * PAGE, RW), MM_OK);
    assert_int_equal(committed(s), 8 * PAGE);
    /* Once promised it stays so, as long as it is mapped. */
    assert_int_equal(protect(s, AT, 10 * PAGE, MM_PROT_READ), MM_OK);
    assert_int_equal(committed(s), 8 * PAGE);
    assert_int_equal(protect(s, AT + PAGE, 6 * PAGE, RW), MM_OK);
    assert_int_equal(committed(s), 8 * PAGE);
    assert_int_equal(protect(s, AT + 8 * PAGE, PAGE, RW), MM_ERR_NO_MEMORY);
    assert_int_equal(unmap(s, AT + 2 * PAGE, 4 * PAGE), MM_OK);
    assert_int_equal(committed(s), 4 * PAGE);
    assert_int_equal(protect(s, AT + 6 * PAGE, 4 * PAGE, RW), MM_OK);
    assert_int_equal(committed(s), 6 * PAGE);
    assert_int_equal(mm_space_check(s), MM_OK);
    put_last(f, s);
    fixture_stop(f);
}

/* By the heuristic only what the call asks for counts, not what was promised before. */
static void test_heuristic(void **state)
{
    struct fixture *f = fixture_start(NULL);
    uint64_t most = f->m.frames.nr_frames;
    struct mm_space *s;

    (void)state;
    f->spaces.commit = MM_COMMIT_HEURISTIC;
    s = new_space(f);
    assert_int_equal(map_at(s, AT, most * PAGE, RW, 0), MM_OK);
    assert_int_equal(map_at(s, AT + most * PAGE, most * PAGE, RW, 0), MM_OK);
    assert_int_equal(protect(s, AT, 2 * most * PAGE, RW), MM_OK);
    assert_int_equal(protect(s, AT, (most + 1) * PAGE, MM_PROT_READ), MM_OK);
    assert_int_equal(protect(s, AT, 2 * most * PAGE, RW), MM_ERR_NO_MEMORY);
    assert_int_equal(protect(s, AT + PAGE, (2 * most - 1) * PAGE, RW), MM_OK);
    put_last(f, s);
    fixture_stop(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_first_obstacle),
        cmocka_unit_test(test_large_leaves),
        cmocka_unit_test(test_large_leaf_shared),
        cmocka_unit_test(test_regions_that_advice_cut),
        cmocka_unit_test(test_promises),
        cmocka_unit_test(test_heuristic),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
