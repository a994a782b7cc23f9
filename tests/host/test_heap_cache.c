// SPDX-License-Identifier: MIT
/**
 * Object caches: geometry, constructors, many over one pool, destruction.
 */
#include "heap_world.h"

static struct world *world;

static int start(void **state)
{
    (void)state;
    world = world_of_range(16 * MiB);
    world_start(world, 3);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    world_stop(world);
    world_delete(world);
    return 0;
}

/* Every size and alignment: objects apart, aligned, and the pages that they take are in measure. */
static void test_geometry(void **state)
{
    enum { NR = 200 };

    (void)state;
    for (uint64_t align = 0; align <= 4096; align = align == 0 ? 1 : align * 2) {
        for (uint64_t size = 1; size <= 8192; size = size + size / 2 + 1) {
            struct mm_cache_config config = {.size = size, .align = align};
            static struct mm_cache cache;
            struct mm_cache_stats stats;
            struct t_mheap model;
            void *objects[NR];
            uint64_t want = align != 0 ? align : size >= 16 ? 16 : size >= 8 ? 8 : 4;

            want = want > size && align == 0 ? 1 : want;
            t_mheap_init(&model, world->inner.base, world->inner.base + world->inner.len);
            assert_int_equal(mm_cache_init(&cache, &world->pool, &config), MM_OK);
            for (unsigned i = 0; i < NR; i++) {
                objects[i] = mm_cache_alloc_on(&cache, i % 4);
                T_LEGAL(t_mheap_add(&model, objects[i], size, want));
            }
            assert_int_equal(mm_cache_get_stats(&cache, &stats), MM_OK);
            assert_int_equal(stats.nr_objects, NR);
            assert_true(stats.object_size >= size && stats.object_size < size + 16 + align);
            /* Who asks for 8 or less saves what 16 would cost. */
            assert_true(align == 0 || align > 8 || size < 16 || stats.object_size < size + 8);
            assert_true((stats.nr_free + NR) * stats.object_size >= stats.slab_bytes * 3 / 4 ||
                        stats.object_size > 2048);
            assert_int_equal(mm_cache_check(&cache), MM_OK);
            for (unsigned i = 0; i < NR; i++) {
                T_LEGAL(t_mheap_remove(&model, objects[i]));
                mm_cache_free(&cache, objects[i]);
            }
            assert_int_equal(mm_cache_check(&cache), MM_OK);
            assert_int_equal(mm_cache_destroy(&cache), MM_OK);
            assert_int_equal(world->nr_out, world_meta(world));
            t_mheap_destroy(&model);
        }
    }
    /* All these caches used the same descriptors again. */
    assert_true(world_meta(world) < 30);
}

struct thing {
    uint64_t magic;
    uint64_t uses;
    char rest[84];
};

static void construct(void *ctx, void *object)
{
    struct thing *thing = object;

    thing->magic = UINT64_C(0x7468696e67);
    thing->uses = 0;
    (*(unsigned *)ctx)++;
}

/* Each object is constructed once for each time that its slab is made, before anybody has it. */
static void test_constructor(void **state)
{
    unsigned nr_made = 0;
    struct mm_cache_config config = {
        .name = "thing", .size = sizeof(struct thing), .construct = construct, .ctx = &nr_made};
    struct mm_cache_stats stats;
    static struct mm_cache cache;
    struct thing *things[1000];

    (void)state;
    assert_int_equal(mm_cache_init(&cache, &world->pool, &config), MM_OK);
    for (unsigned round = 0; round < 5; round++) {
        for (unsigned i = 0; i < 1000; i++) {
            world->log.cpu = i;
            things[i] = mm_cache_alloc(&cache);
            assert_non_null(things[i]);
            assert_int_equal(things[i]->magic, UINT64_C(0x7468696e67));
            things[i]->uses++;
            memset(things[i]->rest, (int)i, sizeof(things[i]->rest));
        }
        assert_int_equal(mm_cache_get_stats(&cache, &stats), MM_OK);
        assert_int_equal(stats.nr_objects, 1000);
        assert_true(nr_made >= stats.nr_objects + stats.nr_free);
        for (unsigned i = 0; i < 1000; i++) {
            mm_cache_free(&cache, things[(i * 77) % 1000]);
        }
    }
    assert_true(nr_made >= 1000);
    mm_cache_reclaim(&cache);
    assert_int_equal(mm_cache_get_stats(&cache, &stats), MM_OK);
    assert_int_equal(stats.nr_slabs, 0);
    assert_int_equal(stats.slab_bytes, 0);
    assert_int_equal(mm_cache_destroy(&cache), MM_OK);
}

/* Out of memory is the truth, and counted; nothing is constructed twice for it. */
static void test_exhaustion(void **state)
{
    struct mm_cache_config config = {.size = 512};
    struct world *small = world_of_range(256 * KiB);
    struct mm_cache_stats stats;
    static struct mm_cache cache;
    void *objects[600];
    unsigned nr = 0;

    (void)state;
    world_start(small, 1);
    assert_int_equal(mm_cache_init(&cache, &small->pool, &config), MM_OK);
    while ((objects[nr] = mm_cache_alloc(&cache)) != NULL) {
        nr++;
    }
    assert_int_equal(mm_cache_get_stats(&cache, &stats), MM_OK);
    assert_int_equal(stats.nr_failed, 1);
    assert_int_equal(stats.nr_free, 0);
    assert_int_equal(stats.nr_objects, nr);
    assert_int_equal(small->range.nr_free, 0);
    assert_true(nr >= 480);
    for (unsigned i = 0; i < nr; i += 9) {
        mm_cache_free(&cache, objects[i]);
    }
    for (unsigned i = 0; i < nr; i += 9) {
        objects[i] = mm_cache_alloc(&cache);
        assert_non_null(objects[i]);
    }
    assert_null(mm_cache_alloc(&cache));
    for (unsigned i = 0; i < nr; i++) {
        mm_cache_free(&cache, objects[i]);
    }
    assert_int_equal(mm_cache_destroy(&cache), MM_OK);
    world_stop(small);
    world_delete(small);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_geometry, start, stop),
        cmocka_unit_test_setup_teardown(test_constructor, start, stop),
        cmocka_unit_test(test_exhaustion),
    };

    return cmocka_run_group_tests_name("heap_cache", tests, NULL, NULL);
}
