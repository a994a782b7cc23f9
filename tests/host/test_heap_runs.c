// SPDX-License-Identifier: MIT
/**
 * Runs of pages as objects: how many of the freed ones a heap keeps, that these are what the next
 * allocations get, and how a run grows where it lies, over both sources.
 */
#include "heap_world.h"

/** Pages of `nr` objects of so many pages each, all live at once. */
#define MOST 200u

/** The most pages that are kept while so many runs are live. */
#define KEPT_LIVE(nr) (64 + (nr) / 4)

static void *objects[MOST];

static void alloc_runs(struct world *world, unsigned nr, uint64_t nr_pages)
{
    for (unsigned i = 0; i < nr; i++) {
        objects[i] = mm_heap_alloc(&world->heap, nr_pages * MM_PAGE_SIZE);
        assert_non_null(objects[i]);
        memset(objects[i], (int)i, nr_pages * MM_PAGE_SIZE);
    }
}

static void free_runs(struct world *world, unsigned nr)
{
    for (unsigned i = 0; i < nr; i++) {
        mm_heap_free(&world->heap, objects[i]);
    }
}

/* What freed runs keep, by what the source has given and what the pool has of it. */
static uint64_t kept(struct world *world)
{
    struct mm_heap_stats stats = world_stats(world);
    uint64_t nr =
        world->nr_out - world_meta(world) - (stats.run_bytes + stats.slab_bytes) / MM_PAGE_SIZE;

    assert_int_equal(stats.kept_bytes, nr * MM_PAGE_SIZE);
    return nr;
}

static void with_world(struct world *world, void (*test)(struct world *world))
{
    world_start(world, 2);
    test(world);
    assert_int_equal(mm_heap_check(&world->heap), MM_OK);
    world_stop(world);
    world_delete(world);
}

static void both(void (*test)(struct world *world))
{
    with_world(world_of_range(64 * MiB), test);
    with_world(world_of_frames(32 * MiB), test);
}

static void few_are_kept(struct world *world)
{
    /* 17 pages have no bin, and those of 10 make room for others. Of 16, none of the bins that have
     * to make room is their own. */
    static const uint64_t lens[] = {16, 3, 10, 17};
    uint64_t before;

    for (unsigned i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
        alloc_runs(world, MOST, lens[i]);
        assert_true(kept(world) <= KEPT_LIVE(MOST));
        free_runs(world, MOST);
        assert_true(kept(world) <= KEPT_LIVE(0));
        assert_int_equal(mm_heap_check(&world->heap), MM_OK);
    }
    before = kept(world);
    assert_true(before > 0);
    assert_int_equal(mm_heap_reclaim(&world->heap), before);
    assert_int_equal(kept(world), 0);
    assert_int_equal(mm_heap_reclaim(&world->heap), 0);
}

static void test_few_are_kept(void **state)
{
    (void)state;
    both(few_are_kept);
}

/* The next run of the length is the one that was freed last, without a word to the source; another
 * length, or an alignment, is none of it. */
static void kept_are_used(struct world *world)
{
    void *other;
    uint64_t nr_out;

    alloc_runs(world, 3, 5);
    mm_heap_free(&world->heap, objects[0]);
    mm_heap_free(&world->heap, objects[2]);
    nr_out = world->nr_out;
    t_inject_from(&world->inject, 1);
    assert_ptr_equal(mm_heap_alloc(&world->heap, 5 * MM_PAGE_SIZE), objects[2]);
    assert_ptr_equal(mm_heap_alloc(&world->heap, 4 * MM_PAGE_SIZE + 1), objects[0]);
    t_inject_never(&world->inject);
    assert_int_equal(world->nr_out, nr_out);
    mm_heap_free(&world->heap, objects[2]);
    other = mm_heap_alloc(&world->heap, 4 * MM_PAGE_SIZE);
    assert_ptr_not_equal(other, objects[2]);
    mm_heap_free(&world->heap, other);
    other = mm_heap_alloc_aligned(&world->heap, 2 * MM_PAGE_SIZE, 5 * MM_PAGE_SIZE);
    assert_non_null(other);
    assert_int_equal((uintptr_t)other % (2 * MM_PAGE_SIZE), 0);
    mm_heap_free(&world->heap, other);
    mm_heap_free(&world->heap, objects[0]);
    mm_heap_free(&world->heap, objects[1]);
}

static void test_kept_are_used(void **state)
{
    (void)state;
    both(kept_are_used);
}

/* A run that is kept is no reason for NULL: its pages are given back for another size. */
static void kept_are_given_back(struct world *world)
{
    uint64_t nr = 0;
    void **all = NULL;
    void *object;

    alloc_runs(world, 2, 12);
    while ((object = mm_heap_alloc(&world->heap, 2 * MM_PAGE_SIZE)) != NULL) {
        *(void **)object = all;
        all = object;
        nr++;
    }
    assert_true(nr > 100);
    free_runs(world, 2);
    assert_true(kept(world) == 24);
    for (unsigned i = 0; i < 4; i++) {
        object = mm_heap_alloc(&world->heap, 6 * MM_PAGE_SIZE);
        assert_non_null(object);
        *(void **)object = all;
        all = object;
    }
    while (all != NULL) {
        object = *all;
        mm_heap_free(&world->heap, all);
        all = object;
    }
}

static void test_kept_are_given_back(void **state)
{
    (void)state;
    with_world(world_of_range(4 * MiB), kept_are_given_back);
    with_world(world_of_frames(4 * MiB), kept_are_given_back);
}

/* It grows while what lies behind it is free, moves when it is not, and keeps its bytes. */
static void grows(struct world *world)
{
    unsigned char *run = mm_heap_alloc(&world->heap, 20 * MM_PAGE_SIZE);
    unsigned nr_in_place = 0;

    assert_non_null(run);
    memset(run, 7, 20 * MM_PAGE_SIZE);
    for (uint64_t nr_pages = 21; nr_pages < 60; nr_pages++) {
        unsigned char *now = mm_heap_realloc(&world->heap, run, nr_pages * MM_PAGE_SIZE);

        assert_non_null(now);
        nr_in_place += now == run ? 1 : 0;
        run = now;
        assert_int_equal(mm_heap_usable_size(&world->heap, run), nr_pages * MM_PAGE_SIZE);
        for (uint64_t i = 0; i < nr_pages - 1; i++) {
            assert_int_equal(run[i * MM_PAGE_SIZE + i], 7);
        }
        memset(run + (nr_pages - 1) * MM_PAGE_SIZE, 7, MM_PAGE_SIZE);
        assert_int_equal(mm_heap_check(&world->heap), MM_OK);
    }
    assert_true(nr_in_place > 10);
    mm_heap_free(&world->heap, run);
}

static void test_grows(void **state)
{
    struct world *world = world_of_range(8 * MiB);
    struct mm_page_source inner = world->inner;

    (void)state;
    world_start_plain(world, 1);
    grows(world);
    world_stop(world);
    world_delete(world);
    world = world_of_frames(8 * MiB);
    world_start_plain(world, 1);
    grows(world);
    world_stop(world);
    world_delete(world);
    /* A window that ends before its source does: what lies behind is not taken. */
    world = world_of_range(8 * MiB);
    inner = world->inner;
    world->inner.len = 4 * MiB;
    world_start_plain(world, 1);
    unsigned char *run = mm_heap_alloc(&world->heap, 40 * MM_PAGE_SIZE);
    unsigned char *now = run;

    for (uint64_t nr_pages = 41; now != NULL; nr_pages++) {
        run = now;
        assert_true(
            mm_range_covers(inner.base, 4 * MiB, (uintptr_t)run, (nr_pages - 1) * MM_PAGE_SIZE));
        now = mm_heap_realloc(&world->heap, run, nr_pages * MM_PAGE_SIZE);
    }
    assert_int_equal(mm_heap_check(&world->heap), MM_OK);
    mm_heap_free(&world->heap, run);
    world_stop(world);
    world->inner = inner;
    world_delete(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_few_are_kept),
        cmocka_unit_test(test_kept_are_used),
        cmocka_unit_test(test_kept_are_given_back),
        cmocka_unit_test(test_grows),
    };

    return cmocka_run_group_tests_name("heap_runs", tests, NULL, NULL);
}
