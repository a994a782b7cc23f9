// SPDX-License-Identifier: MIT
/**
 * Hardened heaps and caches beside others: that no two have one canary, and that a reclaim counts
 * the pages which what waited had held.
 */
#include "heap_tiers.h"

static struct told told;

static struct mm_heap_config config_of(enum mm_heap_tier tier)
{
    memset(&told, 0, sizeof(told));
    return (struct mm_heap_config){.name = "things",
                                   .tier = tier,
                                   .flags = MM_HEAP_CALLERS,
                                   .quarantine = 8,
                                   .report = told_report,
                                   .report_ctx = &told};
}

/** What a reclaim answers is what the page source got, whatever the quarantine held. */
static void test_reclaim_counts_what_waits(void **state)
{
    static const uint64_t sizes[] = {24, 200, 1000, 3000, 20000};
    struct mm_heap_config config = config_of(MM_HEAP_HARDENED);
    struct world *world = tiers_world(false);
    struct mm_heap *heap = &world->heap;
    void *objects[1200];

    (void)state;
    config.quarantine = 4096;
    tiers_start(world, 1, &config);
    for (unsigned i = 0; i < 40; i++) {
        unsigned nr = 1200 / (1 + i % 8);
        unsigned nr_keep = i % 3 == 0 ? 0 : nr / 50;
        uint64_t nr_pages;
        uint64_t meta;
        uint64_t out;

        for (unsigned n = 0; n < nr; n++) {
            objects[n] = made_here(heap, i < 30 ? sizes[i % 4] : sizes[n % 5]);
            assert_non_null(objects[n]);
        }
        for (unsigned n = nr_keep; n < nr; n++) {
            freed_here(heap, objects[n]);
        }
        meta = world_meta(world);
        out = world->nr_out;
        nr_pages = mm_heap_reclaim(heap);
        assert_int_equal(nr_pages, out - world->nr_out);
        assert_int_equal(world_meta(world), meta);
        assert_true(out > world->nr_out);
        for (unsigned n = 0; n < nr_keep; n++) {
            freed_here(heap, objects[n]);
        }
        out = world->nr_out;
        nr_pages = mm_heap_reclaim(heap);
        assert_int_equal(nr_pages, out - world->nr_out);
        assert_int_equal(world->nr_out, world_meta(world));
    }
    assert_int_equal(told.nr, 0);
    world_stop(world);
    world_delete(world);
}

static void test_cache_reclaim_counts_what_waits(void **state)
{
    struct mm_cache_config of_cache = {.name = "cells", .size = 400, .tier = MM_HEAP_HARDENED};
    struct world *world = tiers_world(false);
    static struct mm_cache cache;
    void *objects[300];
    uint64_t nr_pages;
    uint64_t out;

    (void)state;
    tiers_start(world, 1, NULL);
    assert_int_equal(mm_cache_init(&cache, &world->pool, &of_cache), MM_OK);
    for (unsigned i = 0; i < 300; i++) {
        objects[i] = mm_cache_alloc(&cache);
    }
    for (unsigned i = 0; i < 300; i++) {
        mm_cache_free(&cache, objects[i]);
    }
    out = world->nr_out;
    nr_pages = mm_cache_reclaim(&cache);
    assert_int_equal(nr_pages, out - world->nr_out);
    assert_true(out - world->nr_out >= 300 * 400 / 4096);
    assert_int_equal(mm_cache_destroy(&cache), MM_OK);
    world_stop(world);
    world_delete(world);
}

/** No two heaps or caches have one canary or one order, whether the platform has numbers or not. */
static uint64_t always_seven(void *ctx)
{
    (void)ctx;
    return 7;
}

static void test_canaries_differ(void **state)
{
    (void)state;
    for (unsigned with_op = 0; with_op < 2; with_op++) {
        struct mm_heap_config config = config_of(MM_HEAP_HARDENED);
        struct mm_cache_config of_cache = {.name = "c", .size = 64, .tier = MM_HEAP_HARDENED};
        struct world *world = tiers_world(false);
        struct mm_pool_config pool = world_pool_config(world, 1);
        struct mm_platform_ops ops = *pool.platform.ops;
        static struct mm_heap heaps[8];
        static struct mm_cache cache;
        uint64_t canaries[32];
        uint64_t places[32];
        unsigned nr = 0;

        ops.random = with_op != 0 ? always_seven : NULL;
        pool.platform.ops = &ops;
        assert_int_equal(mm_pool_init(&world->pool, &pool), MM_OK);
        assert_int_equal(mm_heap_init(&world->heap, &world->pool, NULL), MM_OK);
        for (unsigned round = 0; round < 3; round++) { /* each time at the same addresses */
            for (unsigned i = 0; i < 8; i++, nr++) {
                void *objects[2];

                assert_int_equal(mm_heap_init(&heaps[i], &world->pool, &config), MM_OK);
                canaries[nr] = heaps[i].watch.canary;
                objects[0] = made_here(&heaps[i], 40);
                objects[1] = made_here(&heaps[i], 40);
                places[nr] = (uint64_t)((char *)objects[1] - (char *)objects[0]);
                freed_here(&heaps[i], objects[0]);
                freed_here(&heaps[i], objects[1]);
            }
            for (unsigned i = 0; i < 8; i++) {
                assert_int_equal(mm_heap_destroy(&heaps[i]), MM_OK);
            }
            assert_int_equal(mm_cache_init(&cache, &world->pool, &of_cache), MM_OK);
            places[nr] = 0;
            canaries[nr++] = cache.watch.canary;
            assert_int_equal(mm_cache_destroy(&cache), MM_OK);
        }
        for (unsigned i = 0; i < nr; i++) {
            unsigned nr_same = 0;

            for (unsigned n = 0; n < nr; n++) {
                assert_true(n == i || canaries[n] != canaries[i]);
                nr_same += places[n] == places[i] ? 1 : 0;
            }
            for (unsigned byte = 0; byte < 8; byte++) {
                uint64_t value = canaries[i] >> (8 * byte) & 0xff;

                assert_true(value != 0 && value != 0xff && value != MM_HEAP_POISON);
            }
            assert_in_range(nr_same, 1, 12);
        }
        world_stop(world);
        world_delete(world);
    }
}

/** A check looks behind every run that lives, also those of the large pool and of the reserve; and is
 * no panic if nobody is told. */
static void check_behind(struct world *world, bool op, uint64_t size, uint64_t at, bool reserve)
{
    struct mm_heap *heap = &world->heap;
    unsigned char *run;
    unsigned char was;

    if (reserve) {
        t_inject_from(&world->inject, 1);
        run = mm_heap_alloc_with(heap, size, 0, MM_HEAP_RESERVE);
        t_inject_never(&world->inject);
    } else {
        run = made_here(heap, size);
    }
    assert_non_null(run);
    assert_int_equal(mm_heap_check(heap), MM_OK);
    was = run[at];
    run[at] = 1;
    told.nr = 0;
    world->log.nr_lines = 0;
    assert_int_equal(mm_heap_check(heap), MM_ERR_CORRUPTED);
    assert_int_equal(world->log.nr_lines, 3);
    assert_int_equal(told.nr, op ? 1 : 0);
    if (op) {
        const struct mm_heap_report *report = &told.reports[0];

        assert_int_equal(report->kind, MM_HEAP_OVERFLOW);
        assert_string_equal(report->name, "things");
        assert_int_equal(report->object, (uint64_t)(uintptr_t)run);
        assert_int_equal(report->address, (uint64_t)(uintptr_t)&run[at]);
        assert_int_equal(report->offset, at);
        assert_int_equal(report->size, size);
        assert_int_equal(report->caller, 0);
        assert_int_equal(report->freed_by, 0);
        assert_true(reserve || IN_PLACE(report->allocated_by, made_here));
    }
    run[at] = was;
    assert_int_equal(mm_heap_check(heap), MM_OK);
    memset(run, 1, size); /* the run itself is its owner's */
    assert_int_equal(mm_heap_check(heap), MM_OK);
    freed_here(heap, run);
    assert_int_equal(told.nr, op ? 1 : 0);
    assert_int_equal(mm_heap_check(heap), MM_OK); /* what is freed has no canary */
}

static void test_check_looks_behind_runs(void **state)
{
    (void)state;
    for (unsigned op = 0; op < 2; op++) {
        struct mm_heap_config config = config_of(MM_HEAP_HARDENED);
        struct world *world = tiers_world(false);
        struct world *large = tiers_world(false);
        struct mm_pool_config pool = world_pool_config(large, 1);

        assert_int_equal(mm_pool_init(&large->pool, &pool), MM_OK);
        config.report = op != 0 ? told_report : NULL;
        config.large = &large->pool;
        config.large_size = 50000;
        config.nr_reserve = 1;
        config.reserve_size = 30000;
        tiers_start(world, 1, &config);
        check_behind(world, op != 0, 10000, 10000, false);
        check_behind(world, op != 0, 8192, 8192 + 4095, false);
        check_behind(world, op != 0, 12288 - 16, 12288 - 1, false);
        check_behind(world, op != 0, 60000, 61439, false);
        check_behind(world, op != 0, 25000, 25000, true);
        world_stop(world);
        world_delete(world);
        assert_int_equal(mm_pool_destroy(&large->pool), MM_OK);
        world_delete(large);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reclaim_counts_what_waits),
        cmocka_unit_test(test_cache_reclaim_counts_what_waits),
        cmocka_unit_test(test_canaries_differ),
        cmocka_unit_test(test_check_looks_behind_runs),
    };

    return cmocka_run_group_tests_name("heap_hardened", tests, NULL, NULL);
}
