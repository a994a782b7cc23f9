// SPDX-License-Identifier: MIT
/**
 * Leaves of 2 MiB: made by one fault, cut by whatever edits a part of them, shared and broken by
 * clones; always the same to user code as 512 pages would be (hazard 25).
 */
#include "space_fixture.h"

#define AT       (UINT64_C(64) << 20)
#define HUGE_LEN (UINT64_C(2) << 20)
#define NR       512u

static struct fixture *start_machine(void)
{
    static const struct t_machine_config machine = {.ram_len = UINT64_C(24) << 20, .nr_cpus = 2};

    return fixture_start(&machine);
}

static struct mm_space_stats stats_of(struct mm_space *s)
{
    struct mm_space_stats stats;

    assert_int_equal(mm_space_get_stats(s, &stats), MM_OK);
    return stats;
}

static uint64_t leaf_at(struct mm_space *s, uint64_t at)
{
    struct mm_mapping m;

    return mm_paging_translate(mm_space_table(s), mm_vaddr(at), &m) == MM_OK ? m.page.len : 0;
}

static uint32_t refs_at(struct fixture *f, struct mm_space *s, uint64_t at)
{
    return mm_frame_refs(&f->m.frames, mm_pfn(frame_at(s, at)));
}

/* A space with `nr` times 2 MiB, each page written to. */
static struct mm_space *start_huge(struct fixture *f, uint64_t nr)
{
    struct mm_space *s = new_space(f);

    assert_int_equal(map_at(s, AT, nr * HUGE_LEN, RW, MM_SPACE_HUGE), MM_OK);
    for (uint64_t i = 0; i < nr * NR; i++) {
        assert_true(store(f, s, AT + i * PAGE, 1000 + i));
        assert_int_equal(f->nr_faults, i % NR == 0 ? 1 : 0);
    }
    return s;
}

static void all_good(struct fixture *f, struct mm_space *a, struct mm_space *b)
{
    struct mm_space *spaces[2] = {a, b};
    const char *wrong = t_machine_audit(&f->m, spaces, 2, mm_space_kernel(&f->spaces), 0);

    assert_int_equal(mm_space_check(a), MM_OK);
    assert_int_equal(b == NULL ? MM_OK : mm_space_check(b), MM_OK);
    if (wrong != NULL) {
        fail_msg("%s", wrong);
    }
    nothing_stale(f);
}

/* Hazard 29, too: all of RAM holds junk. */
static void test_made_by_one_fault(void **state)
{
    struct fixture *f = start_machine();
    struct mm_space *s = new_space(f);
    struct mm_space_stats stats;

    (void)state;
    assert_int_equal(map_at(s, AT, 3 * HUGE_LEN, RW, MM_SPACE_HUGE), MM_OK);
    for (unsigned i = 0; i < 3; i++) {
        uint64_t at = AT + i * HUGE_LEN + i * 77 * PAGE;
        uint64_t *p = NULL;

        assert_true(touch(f, s, at, T_MMU_USER | (i == 1 ? 0 : T_MMU_WRITE), &p));
        assert_int_equal(f->nr_faults, 1);
        assert_int_equal(f->last, MM_FAULT_HUGE);
        assert_int_equal(leaf_at(s, at), HUGE_LEN);
        p -= i * 77 * 512;
        for (unsigned w = 0; w < HUGE_LEN / 8; w++) {
            assert_int_equal(p[w], 0);
        }
        memset(p, 0xdb, HUGE_LEN);
    }
    stats = stats_of(s);
    assert_int_equal(stats.resident_bytes, 3 * HUGE_LEN);
    assert_int_equal(stats.nr_faults[MM_FAULT_HUGE], 3);
    assert_int_equal(stats.nr_faults[MM_FAULT_ZERO], 0);
    assert_true(store(f, s, AT + HUGE_LEN, 1)); /* what was read may be written */
    assert_int_equal(f->nr_faults, 0);
    assert_int_equal(frame_at(s, AT) % NR, 0);
    all_good(f, s, NULL);
    put_last(f, s);
    fixture_stop(f);
}

/* Not advised, not all of 2 MiB in the region, forbidden, something there: pages of 4 KiB, and no
 * other answer. */
static void test_small_where_it_cannot_be(void **state)
{
    struct fixture *f = start_machine();
    struct mm_space *s = new_space(f);

    (void)state;
    assert_int_equal(map_at(s, AT, HUGE_LEN, RW, 0), MM_OK);
    assert_int_equal(map_at(s, AT + 2 * HUGE_LEN, HUGE_LEN - PAGE, RW, MM_SPACE_HUGE), MM_OK);
    assert_int_equal(map_at(s, AT + 4 * HUGE_LEN + PAGE, HUGE_LEN, RW, MM_SPACE_HUGE), MM_OK);
    assert_int_equal(map_at(s, AT + 6 * HUGE_LEN, HUGE_LEN, RW, MM_SPACE_NO_HUGE), MM_OK);
    for (unsigned i = 0; i < 8; i += 2) {
        assert_true(store(f, s, AT + i * HUGE_LEN + 5 * PAGE, 1));
        assert_int_equal(f->last, MM_FAULT_ZERO);
        assert_int_equal(leaf_at(s, AT + i * HUGE_LEN + 5 * PAGE), PAGE);
    }
    /* Advised where there is a page already. */
    assert_int_equal(unmap(s, AT, HUGE_LEN - PAGE), MM_OK);
    assert_true(store(f, s, AT + HUGE_LEN - PAGE, 1));
    assert_int_equal(map_at(s, AT, HUGE_LEN - PAGE, RW, MM_SPACE_HUGE), MM_OK);
    assert_true(store(f, s, AT, 1));
    assert_int_equal(f->last, MM_FAULT_ZERO);
    /* Forbidden accesses make nothing. */
    assert_int_equal(map_at(s, AT + 8 * HUGE_LEN, HUGE_LEN, MM_PROT_READ, MM_SPACE_HUGE), MM_OK);
    assert_false(store(f, s, AT + 8 * HUGE_LEN, 1));
    assert_int_equal(f->last, MM_FAULT_SIGNAL_ACCESS);
    assert_int_equal(leaf_at(s, AT + 8 * HUGE_LEN), 0);
    assert_int_equal(stats_of(s).nr_faults[MM_FAULT_HUGE], 0);
    all_good(f, s, NULL);
    put_last(f, s);
    fixture_stop(f);
}

/* No block, or a limit: the same. */
static void test_small_where_there_is_no_room(void **state)
{
    struct fixture *f = start_machine();
    struct mm_space *s = new_space(f);
    const struct mm_space_limits limits = {.resident_bytes = 16 * PAGE};
    const struct mm_space_limits exactly = {.resident_bytes = HUGE_LEN};
    struct mm_space *just;
    mm_pfn_t held[16];
    unsigned nr_held = 0;

    (void)state;
    /* A limit below 2 MiB, and above a page. */
    assert_int_equal(map_at(s, AT, HUGE_LEN, MM_PROT_READ, MM_SPACE_HUGE), MM_OK);
    assert_int_equal(mm_space_set_limits(s, &limits), MM_OK);
    assert_int_equal(loaded(f, s, AT), 0);
    assert_int_equal(f->last, MM_FAULT_ZERO);
    assert_int_equal(mm_space_set_limits(s, NULL), MM_OK);
    /* No block of 2 MiB is left. */
    while (nr_held < 16) {
        const struct mm_frame_request block = {.order = 9};

        if (mm_frame_alloc(&f->m.frames, &block, &held[nr_held]) != MM_OK) {
            break;
        }
        nr_held++;
    }
    assert_in_range(nr_held, 1, 15);
    assert_int_equal(map_at(s, AT + 2 * HUGE_LEN, HUGE_LEN, RW, MM_SPACE_HUGE), MM_OK);
    assert_true(store(f, s, AT + 2 * HUGE_LEN + 9 * PAGE, 1));
    assert_int_equal(f->last, MM_FAULT_ZERO);
    assert_int_equal(stats_of(s).nr_faults[MM_FAULT_HUGE], 0);
    /* Room for 2 MiB, and no more: what was asked for in vain leaves room for the page. */
    just = new_space(f);
    assert_int_equal(map_at(just, AT, HUGE_LEN, RW, MM_SPACE_HUGE), MM_OK);
    assert_int_equal(mm_space_set_limits(just, &exactly), MM_OK);
    assert_true(store(f, just, AT, 1));
    assert_int_equal(f->last, MM_FAULT_ZERO);
    put_last(f, just);
    while (nr_held != 0) {
        mm_frame_free(&f->m.frames, held[--nr_held], 9);
    }
    all_good(f, s, NULL);
    put_last(f, s);
    fixture_stop(f);
}

/* --- parts ------------------------------------------------------------------------------------ */

struct flat {
    uint8_t there[NR];
    uint8_t writable[NR];
};

/* What user code sees, page by page, is what the model says. */
static void agrees(struct fixture *f, struct mm_space *s, const struct flat *flat)
{
    for (uint64_t i = 0; i < NR; i++) {
        uint64_t value = 0;

        assert_int_equal(load(f, s, AT + i * PAGE, &value), flat->there[i]);
        assert_int_equal(f->nr_faults, flat->there[i] ? 0 : 1);
        if (flat->there[i]) {
            assert_int_equal(value, 1000 + i);
            assert_int_equal(store(f, s, AT + i * PAGE, 1000 + i), flat->writable[i]);
        }
    }
}

static void test_parts(void **state)
{
    static const struct {
        uint16_t first, nr;
        bool is_unmap;
    } edits[] = {{100, 1, false}, {0, 1, true},    {511, 1, false},
                 {96, 64, true},  {300, 3, false}, {256, 256, true}};
    struct fixture *f = start_machine();

    (void)state;
    for (unsigned from = 0; from < sizeof(edits) / sizeof(edits[0]); from++) {
        struct mm_space *s = start_huge(f, 2);
        struct flat flat;

        memset(&flat, 1, sizeof(flat));
        for (unsigned i = from; i < sizeof(edits) / sizeof(edits[0]); i++) {
            uint64_t at = AT + edits[i].first * PAGE;
            uint64_t len = edits[i].nr * PAGE;

            run_in(f, s);
            if (edits[i].is_unmap) {
                assert_int_equal(unmap(s, at, len), MM_OK);
                memset(&flat.there[edits[i].first], 0, edits[i].nr);
            } else {
                assert_int_equal(protect(s, at, len, MM_PROT_READ), MM_OK);
                memset(&flat.writable[edits[i].first], 0, edits[i].nr);
            }
            agrees(f, s, &flat);
            all_good(f, s, NULL);
        }
        assert_int_equal(leaf_at(s, AT + HUGE_LEN), HUGE_LEN); /* the neighbour is whole */
        put_last(f, s);
    }
    fixture_stop(f);
}

/* --- clones ----------------------------------------------------------------------------------- */

static void test_clone_and_write(void **state)
{
    struct fixture *f = start_machine();
    struct mm_space *parent = start_huge(f, 1);
    struct mm_space *child = clone_of(parent);
    uint64_t frame = frame_at(parent, AT);

    (void)state;
    assert_int_equal(leaf_at(child, AT), HUGE_LEN);
    assert_int_equal(loaded(f, parent, AT), 1000); /* it is cached, read-only */
    f->m.cpus.now = 1;
    assert_true(store(f, child, AT + 7 * PAGE, 5));
    assert_int_equal(f->last, MM_FAULT_COW);
    assert_int_equal(leaf_at(child, AT + 7 * PAGE), PAGE);
    assert_int_equal(leaf_at(parent, AT), HUGE_LEN);
    assert_int_not_equal(frame_at(child, AT + 7 * PAGE), frame + 7);
    assert_int_equal(refs_at(f, child, AT + 7 * PAGE), 1);
    assert_int_equal(refs_at(f, parent, AT + 7 * PAGE), 1);
    assert_int_equal(refs_at(f, parent, AT + 8 * PAGE), 2);
    assert_int_equal(stats_of(child).nr_reused, 0);
    for (uint64_t i = 0; i < NR; i++) {
        assert_int_equal(loaded(f, child, AT + i * PAGE), i == 7 ? 5 : 1000 + i);
    }
    assert_int_equal(resident(child), HUGE_LEN);
    all_good(f, parent, child);
    /* The parent takes what is its own without a copy; another page it copies. */
    f->m.cpus.now = 0;
    assert_true(store(f, parent, AT + 7 * PAGE, 6));
    assert_int_equal(f->last, MM_FAULT_COW);
    assert_int_equal(frame_at(parent, AT + 7 * PAGE), frame + 7);
    assert_int_equal(stats_of(parent).nr_reused, 1);
    assert_true(store(f, parent, AT + 9 * PAGE, 6));
    assert_int_not_equal(frame_at(parent, AT + 9 * PAGE), frame + 9);
    assert_int_equal(stats_of(parent).nr_reused, 1);
    assert_int_equal(loaded(f, child, AT + 9 * PAGE), 1009);
    assert_int_equal(loaded(f, child, AT + 7 * PAGE), 5);
    all_good(f, parent, child);
    put_last(f, parent);
    all_good(f, child, NULL);
    put_last(f, child);
    fixture_stop(f);
}

/* The last one takes all of the leaf at once. */
static void test_last_one_takes_it_whole(void **state)
{
    struct fixture *f = start_machine();
    struct mm_space *s = start_huge(f, 1);
    struct mm_space *child = clone_of(s);
    uint64_t frame = frame_at(s, AT);
    uint64_t free_before;

    (void)state;
    put_last(f, child);
    free_before = t_machine_free_frames(&f->m);
    assert_true(store(f, s, AT + 100 * PAGE, 5));
    assert_int_equal(f->last, MM_FAULT_COW);
    assert_int_equal(leaf_at(s, AT), HUGE_LEN);
    assert_int_equal(frame_at(s, AT), frame);
    assert_int_equal(t_machine_free_frames(&f->m), free_before);
    assert_int_equal(stats_of(s).nr_reused, 1);
    assert_true(store(f, s, AT + 101 * PAGE, 5));
    assert_int_equal(f->nr_faults, 0);
    all_good(f, s, NULL);
    put_last(f, s);
    fixture_stop(f);
}

/* Tables and a frame are needed: with less, nothing has changed, with just as many it is done. */
static void test_all_or_nothing(void **state)
{
    const struct mm_fault fault = {.at = mm_vaddr(AT + 7 * PAGE),
                                   .flags = MM_FAULT_USER | MM_FAULT_WRITE};
    struct fixture *f = start_machine();
    struct mm_space *parent = start_huge(f, 1);
    enum mm_fault_result got = MM_FAULT_PENDING;
    unsigned nr_failed = 0;

    (void)state;
    for (unsigned round = 0; round < 2; round++) { /* a copy; then a page that is the parent's */
        struct mm_space *child = clone_of(parent);

        if (round == 1) {
            f->m.cpus.now = 1;
            assert_true(store(f, child, AT + 7 * PAGE, 1));
            f->m.cpus.now = 0;
        }
        for (uint64_t left = 0; got != MM_FAULT_COW; left++) {
            uint64_t before;

            t_machine_leave_frames(&f->m, left);
            before = state_hash(f, parent);
            assert_int_equal(mm_space_fault(parent, &fault, &got), MM_OK);
            if (got != MM_FAULT_COW) {
                assert_int_equal(got, MM_FAULT_NO_MEMORY);
                assert_int_equal(state_hash(f, parent), before);
                nr_failed++;
            }
            t_machine_leave_frames(&f->m, UINT64_MAX);
        }
        assert_in_range(nr_failed, round + 1, 12);
        assert_int_equal(leaf_at(parent, AT + 7 * PAGE), PAGE);
        all_good(f, parent, child);
        put_last(f, child);
        put_last(f, parent);
        parent = start_huge(f, 1);
        got = MM_FAULT_PENDING;
    }
    put_last(f, parent);
    fixture_stop(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_made_by_one_fault),
        cmocka_unit_test(test_small_where_it_cannot_be),
        cmocka_unit_test(test_small_where_there_is_no_room),
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_clone_and_write),
        cmocka_unit_test(test_last_one_takes_it_whole),
        cmocka_unit_test(test_all_or_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
