// SPDX-License-Identifier: MIT
/**
 * Hazard 30: frames and nodes run out at every point of every call that needs them. What fails has
 * changed nothing: regions, leaves, their rights, reference counts, contents, tables, free frames.
 *
 * Frames are made scarce by taking all but k, for k from 0 until the call succeeds; nodes likewise,
 * one kind after the other (nodes_leave()).
 */
#include "space_fixture.h"
#include "space_nodes.h"

#include "core/space/internal.h"

#define AT        (UINT64_C(512) * 512 * PAGE - UINT64_C(3) * PAGE) /* three pages below 1 GiB */
#define MAX_STEPS 700

/* A call under test. It must be one that can be made again after it failed. */
struct victim {
    mm_status_t (*call)(struct fixture *f, struct mm_space *s);
    void (*prepare)(struct fixture *f, struct mm_space *s);
    bool needs_frames;
    bool needs_nodes;
};

static struct mm_space *made;       /* by the call, if it makes a space */
static struct mm_space_group group; /* of the space */
static mm_pfn_t pinned[8];
static unsigned nr_pinned;

#define P2M UINT64_C(0x200000)

static const struct t_machine_config machine = {.ram_len = 16 * P2M};

static struct fixture *start(struct mm_space **s)
{
    struct fixture *f = fixture_start_promising(&machine, MM_COMMIT_NEVER, 4096);
    const struct mm_space_config config = {.group = &group};

    assert_int_equal(mm_space_group_init(&group, NULL), MM_OK);
    assert_int_equal(mm_space_create_with(&f->spaces, &config, s), MM_OK);
    made = NULL;
    nr_pinned = 0;
    return f;
}

/* With what the group and the manager have counted. */
static uint64_t whole_hash(struct fixture *f, struct mm_space *s)
{
    struct mm_space_group_stats of_group;
    struct mm_spaces_stats of_all;
    uint64_t hash = state_hash(f, s);

    assert_int_equal(mm_space_group_get_stats(&group, &of_group), MM_OK);
    assert_int_equal(mm_spaces_get_stats(&f->spaces, &of_all), MM_OK);
    hash = t_hash_u64(hash, of_group.mapped_bytes);
    hash = t_hash_u64(hash, of_group.resident_bytes);
    hash = t_hash_u64(hash, of_group.nr_spaces);
    hash = t_hash_u64(hash, of_all.nr_spaces);
    return t_hash_finish(t_hash_u64(hash, of_all.nr_committed));
}

static void regions_with_pages(struct fixture *f, struct mm_space *s)
{
    for (uint64_t i = 0; i < 6; i++) {
        assert_int_equal(map_at(s, AT + i * 8 * PAGE, 5 * PAGE, i % 3 == 0 ? RWX : RW, 0), MM_OK);
        for (uint64_t j = 0; j < 4; j++) {
            assert_true(store(f, s, AT + (i * 8 + j) * PAGE, i * 10 + j));
        }
    }
    assert_int_equal(protect(s, AT + 16 * PAGE, 2 * PAGE, MM_PROT_READ), MM_OK);
}

static void regions_shared(struct fixture *f, struct mm_space *s)
{
    regions_with_pages(f, s);
    made = clone_of(s);
}

static void pin(struct fixture *f, struct mm_space *s, uint64_t at)
{
    pinned[nr_pinned] = mm_pfn(frame_at(s, at));
    mm_frame_pin(&f->m.frames, pinned[nr_pinned++]);
}

/* Pages that a clone copies at once: alone, in a row, and read-only. */
static void regions_pinned(struct fixture *f, struct mm_space *s)
{
    regions_with_pages(f, s);
    pin(f, s, AT);
    pin(f, s, AT + 8 * PAGE);
    pin(f, s, AT + 9 * PAGE);
    pin(f, s, AT + 16 * PAGE);
}

static void large_pinned(struct fixture *f, struct mm_space *s)
{
    const uint64_t at = UINT64_C(4) << 30;

    regions_pinned(f, s);
    assert_int_equal(map_at(s, at, 512 * PAGE, RW, MM_SPACE_HUGE | MM_SPACE_POPULATE), MM_OK);
    pin(f, s, at);
}

static void nothing(struct fixture *f, struct mm_space *s)
{
    (void)f;
    (void)s;
}

static mm_status_t do_populate(struct fixture *f, struct mm_space *s)
{
    (void)f;
    return map_at(s, AT, 12 * PAGE, RW, MM_SPACE_POPULATE); /* on both sides of 1 GiB */
}

/* Pages right before and right behind what is populated: they belong to others. */
static void neighbours(struct fixture *f, struct mm_space *s)
{
    assert_int_equal(map_at(s, AT - 2 * PAGE, 2 * PAGE, RWX, 0), MM_OK);
    assert_int_equal(map_at(s, AT + 12 * PAGE, 2 * PAGE, RWX, 0), MM_OK);
    for (uint64_t i = 0; i < 2; i++) {
        assert_true(store(f, s, AT - (i + 1) * PAGE, i));
        assert_true(store(f, s, AT + (12 + i) * PAGE, i));
    }
}

static mm_status_t do_map(struct fixture *f, struct mm_space *s)
{
    (void)f;
    return map_at(s, AT, 12 * PAGE, RW, 0);
}

static mm_status_t do_create(struct fixture *f, struct mm_space *s)
{
    struct mm_space *was = made;
    mm_status_t status = mm_space_create(&f->spaces, &made);

    (void)s;
    assert_true(status == MM_OK || made == was);
    return status;
}

static mm_status_t do_clone(struct fixture *f, struct mm_space *s)
{
    struct mm_space *was = made;
    mm_status_t status = mm_space_clone(s, &made);

    (void)f;
    assert_true(status == MM_OK || made == was);
    return status;
}

static mm_status_t do_fault_at(struct mm_space *s, uint64_t at, enum mm_fault_result want)
{
    struct mm_fault fault = {.at = mm_vaddr(at), .flags = MM_FAULT_USER | MM_FAULT_WRITE};
    enum mm_fault_result got = MM_FAULT_PENDING;

    assert_int_equal(mm_space_fault(s, &fault, &got), MM_OK);
    assert_true(got == want || got == MM_FAULT_NO_MEMORY);
    return got == want ? MM_OK : MM_ERR_NO_MEMORY;
}

static void far_region(struct fixture *f, struct mm_space *s)
{
    (void)f;
    assert_int_equal(map_at(s, UINT64_C(1) << 45, PAGE, RW, 0), MM_OK);
}

static mm_status_t do_fault_zero(struct fixture *f, struct mm_space *s)
{
    (void)f;
    return do_fault_at(s, UINT64_C(1) << 45, MM_FAULT_ZERO); /* a frame and three tables */
}

static mm_status_t do_fault_cow(struct fixture *f, struct mm_space *s)
{
    (void)f;
    return do_fault_at(s, AT, MM_FAULT_COW);
}

static mm_status_t do_unmap_split(struct fixture *f, struct mm_space *s)
{
    (void)f;
    return unmap(s, AT + 2 * PAGE, PAGE);
}

static mm_status_t do_protect_split(struct fixture *f, struct mm_space *s)
{
    (void)f;
    return protect(s, AT + PAGE, 2 * PAGE, MM_PROT_READ); /* two splits */
}

/* Regions of several kinds, two leaves of 2 MiB that the call cuts, a hole, and written pages. */
#define BIG     (P2M * 8)
#define CUT     (BIG + 300 * PAGE)
#define CUT_LEN (P2M + 16 * PAGE)

static void large_and_small(struct fixture *f, struct mm_space *s)
{
    assert_int_equal(map_at(s, BIG, 2 * P2M, RW, MM_SPACE_HUGE | MM_SPACE_POPULATE), MM_OK);
    assert_true(store(f, s, CUT, 5));
    assert_true(store(f, s, CUT + CUT_LEN, 6));
    assert_int_equal(map_at(s, BIG + 2 * P2M, 8 * PAGE, RW, 0), MM_OK);
    assert_true(store(f, s, BIG + 2 * P2M, 7));
}

static void over_a_hole(struct fixture *f, struct mm_space *s)
{
    regions_with_pages(f, s);
    assert_int_equal(map_at(s, AT + 5 * PAGE, PAGE, MM_PROT_NONE, MM_SPACE_GUARD), MM_OK);
}

static mm_status_t do_replace(struct fixture *f, struct mm_space *s)
{
    (void)f;
    return map_at(s, AT + 2 * PAGE, 17 * PAGE, MM_PROT_READ, MM_SPACE_REPLACE);
}

static mm_status_t do_replace_populated(struct fixture *f, struct mm_space *s)
{
    (void)f;
    return map_at(s, AT + 2 * PAGE, 17 * PAGE, RX, MM_SPACE_REPLACE | MM_SPACE_POPULATE);
}

static mm_status_t do_replace_cutting(struct fixture *f, struct mm_space *s)
{
    (void)f;
    return map_at(s, CUT, CUT_LEN, RW, MM_SPACE_REPLACE);
}

static mm_status_t do_replace_inside(struct fixture *f, struct mm_space *s)
{
    (void)f;
    return map_at(s, CUT, 3 * PAGE, RX, MM_SPACE_REPLACE | MM_SPACE_POPULATE);
}

static mm_status_t do_unmap_cutting(struct fixture *f, struct mm_space *s)
{
    (void)f;
    return unmap(s, CUT, CUT_LEN);
}

static mm_status_t do_protect_cutting(struct fixture *f, struct mm_space *s)
{
    (void)f;
    return protect(s, CUT, CUT_LEN, MM_PROT_READ);
}

static mm_status_t do_make_cow(struct fixture *f, struct mm_space *s)
{
    (void)f;
    return mm_space_make_cow(s, mm_vrange(mm_vaddr(CUT), CUT_LEN));
}

static mm_status_t do_write(struct fixture *f, struct mm_space *s)
{
    uint64_t value = 1;

    (void)f;
    return mm_space_write(s, mm_vaddr(UINT64_C(1) << 45), &value, sizeof(value), 0, NULL);
}

static mm_status_t do_clear_shared(struct fixture *f, struct mm_space *s)
{
    (void)f;
    return mm_space_clear(s, mm_vaddr(AT + 8), 8, 0, NULL);
}

/* In order, so that the last one has used the bucket that was to spare: a call that has one for itself,
 * and fails, keeps none. */
static void no_bucket_to_spare(struct fixture *f, struct mm_space *s)
{
    (void)f;
    for (uint64_t i = 0; i <= MMI_BUCKET_MAX; i++) {
        assert_int_equal(map_at(s, P2M + 2 * i * PAGE, PAGE, RW, 0), MM_OK);
    }
    assert_int_equal(s->regions.nr_buckets, 2);
    assert_int_equal(s->regions.nr_spare, 0);
}

static const struct victim victims[] = {
    {do_populate, nothing, true, true},
    {do_populate, neighbours, true, true},
    {do_populate, no_bucket_to_spare, true, true},
    {do_map, nothing, false, true},
    {do_create, nothing, true, true},
    {do_clone, regions_with_pages, true, true},
    {do_clone, regions_shared, true, true},
    {do_clone, regions_pinned, true, true},
    {do_clone, large_pinned, true, true},
    {do_fault_zero, far_region, true, false},
    {do_fault_cow, regions_shared, true, false},
    {do_unmap_split, regions_with_pages, false, true},
    {do_protect_split, regions_with_pages, false, true},
    {do_replace, regions_with_pages, false, true},
    {do_replace, over_a_hole, false, true},
    {do_replace_populated, regions_with_pages, true, true},
    {do_replace_populated, regions_shared, true, true},
    {do_replace_cutting, large_and_small, true, true},
    {do_replace_inside, large_and_small, true, true},
    {do_unmap_cutting, large_and_small, true, true},
    {do_protect_cutting, large_and_small, true, true},
    {do_make_cow, large_and_small, true, false},
    {do_write, far_region, true, false},
    {do_clear_shared, regions_shared, true, false},
};

#define NR_VICTIMS (sizeof(victims) / sizeof(victims[0]))

static void put_made(struct fixture *f, struct mm_space *was)
{
    while (nr_pinned != 0) {
        assert_false(mm_frame_unpin(&f->m.frames, pinned[--nr_pinned]));
    }
    if (made != NULL && made != was) {
        assert_int_equal(mm_space_check(made), MM_OK);
        assert_true(mm_space_put(made));
    }
    if (was != NULL) {
        assert_true(mm_space_put(was));
    }
    made = NULL;
}

static void test_frames_run_out(void **state)
{
    (void)state;
    for (size_t v = 0; v < NR_VICTIMS; v++) {
        struct mm_space *s = NULL;
        struct fixture *f = start(&s);
        struct mm_space *was;
        uint64_t nr = 0;

        victims[v].prepare(f, s);
        was = made;
        for (;; nr++) {
            uint64_t before;
            mm_status_t status;

            t_machine_leave_frames(&f->m, nr);
            before = whole_hash(f, s);
            status = victims[v].call(f, s);
            if (status == MM_OK) {
                break;
            }
            assert_int_equal(status, MM_ERR_NO_MEMORY);
            assert_int_equal(whole_hash(f, s), before);
            assert_int_equal(mm_space_check(s), MM_OK);
            assert_in_range(nr, 0, MAX_STEPS);
        }
        assert_true((nr > 0) == victims[v].needs_frames);
        t_machine_leave_frames(&f->m, UINT64_MAX);
        assert_int_equal(mm_space_check(s), MM_OK);
        put_made(f, was);
        put_last(f, s);
        assert_int_equal(mm_space_group_destroy(&group), MM_OK);
        fixture_stop(f);
    }
}

static void test_nodes_run_out(void **state)
{
    static struct nodes_taken taken[NR_NODE_KINDS];

    (void)state;
    for (size_t v = 0; v < NR_VICTIMS; v++) {
        struct mm_space *s = NULL;
        struct fixture *f = start(&s);
        struct mm_space *was;
        mm_status_t status = MM_ERR_NO_MEMORY;
        unsigned step = 0;

        victims[v].prepare(f, s);
        was = made;
        for (; status != MM_OK; step++) {
            uint64_t before = whole_hash(f, s);

            assert_in_range(step, 0, NR_NODE_KINDS * NODES_STEPS - 1);
            nodes_leave(f, taken, step);
            status = victims[v].call(f, s);
            nodes_return(f, taken);
            if (status != MM_OK) {
                assert_int_equal(status, MM_ERR_NO_MEMORY);
                assert_int_equal(whole_hash(f, s), before);
                assert_int_equal(mm_space_check(s), MM_OK);
            }
        }
        assert_true((step > 1) == victims[v].needs_nodes);
        assert_int_equal(mm_space_check(s), MM_OK);
        put_made(f, was);
        put_last(f, s);
        assert_int_equal(mm_space_group_destroy(&group), MM_OK);
        fixture_stop(f);
    }
}

/* Edits that need no node do not fail when there is none. */
static void test_no_node_needed(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    static struct nodes_taken taken[NR_NODE_KINDS];

    (void)state;
    assert_int_equal(map_at(s, AT, 8 * PAGE, RW, 0), MM_OK);
    nodes_leave(f, taken, 0);
    assert_int_equal(map_at(s, AT + 8 * PAGE, PAGE, RW, 0), MM_OK);
    assert_int_equal(map_at(s, AT - PAGE, PAGE, RW, 0), MM_OK);
    assert_int_equal(protect(s, AT - PAGE, 10 * PAGE, MM_PROT_READ), MM_OK);
    assert_int_equal(protect(s, AT, PAGE, MM_PROT_READ), MM_OK);
    assert_int_equal(unmap(s, AT - PAGE, 2 * PAGE), MM_OK);
    assert_int_equal(unmap(s, AT + 7 * PAGE, 2 * PAGE), MM_OK);
    assert_int_equal(map_at(s, AT + 64 * PAGE, PAGE, RW, 0), MM_ERR_NO_MEMORY);
    assert_int_equal(unmap(s, AT, 8 * PAGE), MM_OK);
    assert_int_equal(nr_regions(s), 0);
    nodes_return(f, taken);
    put_last(f, s);
    fixture_stop(f);
}

/* The manager itself: every page that the pool wants. */
static void test_init_runs_out(void **state)
{
    struct fixture *f = fixture_start(NULL);

    (void)state;
    for (uint64_t n = 1; n < MAX_STEPS; n++) {
        struct mm_spaces spaces = {0};
        struct mm_spaces zero = {0};
        struct mm_spaces_config config = fixture_config(f);
        mm_status_t status;

        config.kernel_range = mm_vrange(mm_vaddr(T_ARENA + T_ARENA_LEN / 2), PAGE);
        t_inject_from(&f->m.pool_inject, n);
        status = mm_spaces_init(&spaces, &config);
        if (status == MM_OK) {
            t_inject_never(&f->m.pool_inject);
            assert_true(n > 1);
            assert_int_equal(mm_spaces_destroy(&spaces), MM_OK);
            break;
        }
        assert_int_equal(status, MM_ERR_NO_MEMORY);
        assert_memory_equal(&spaces, &zero, sizeof(spaces));
    }
    fixture_stop(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frames_run_out),
        cmocka_unit_test(test_nodes_run_out),
        cmocka_unit_test(test_no_node_needed),
        cmocka_unit_test(test_init_runs_out),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
