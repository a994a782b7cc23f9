// SPDX-License-Identifier: MIT
/**
 * A heap with a second pool for what is large: the threshold, want of memory in either, resizing
 * across it, misuse, and what is left when it goes. The pools lie over both kinds of page source,
 * the one over the one and the other over the other.
 */
#include "heap_world.h"

#define LARGE (64 * KiB)

static struct world *world; /**< of the own pool, and the heap */
static struct world *large; /**< of the large pool; its own heap is another one */
static struct mm_heap *heap;

static void begin(struct world *own, struct world *other)
{
    struct mm_heap_config config = {.name = "two", .large_size = LARGE};

    world = own;
    large = other;
    world_start(large, 2);
    config.large = &large->pool;
    world_start_as(world, 2, &config);
    heap = &world->heap;
}

static int start_range(void **state)
{
    (void)state;
    begin(world_of_range(8 * MiB), world_of_frames(4 * MiB));
    return 0;
}

static int start_frames(void **state)
{
    (void)state;
    begin(world_of_frames(4 * MiB), world_of_range(8 * MiB));
    return 0;
}

static int stop(void **state)
{
    (void)state;
    world_stop(world);
    world_stop(large);
    world_delete(world);
    world_delete(large);
    return 0;
}

static bool is_large(const void *object)
{
    return (uintptr_t)object - large->inner.base < large->inner.len;
}

static uint64_t out_of(struct world *which)
{
    return which->nr_out - world_meta(which);
}

/* --- where an object comes from -----------------------------------------------------------------*/

static void test_threshold(void **state)
{
    static const struct {
        uint64_t size;
        uint64_t align;
        bool large;
    } cases[] = {{1, 0, false},
                 {8192, 0, false},
                 {8193, 0, false},
                 {LARGE - 4096, 0, false},
                 {LARGE - 1, 0, false},
                 {LARGE - 1, 65536, false},
                 {LARGE, 0, true},
                 {LARGE, 16, true},
                 {LARGE, 65536, true},
                 {LARGE + 1, 4096, true},
                 {LARGE + 5000, MM_HEAP_MAX_ALIGN, true},
                 {MiB, 0, true}};

    (void)state;
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (uint32_t flags = 0; flags <= MM_HEAP_FLAGS_ALL; flags++) {
            bool expected = cases[i].large && (flags & MM_HEAP_ATOMIC) == 0;
            uint64_t pages = (cases[i].size + 4095) / 4096;
            void *object = mm_heap_alloc_with(heap, cases[i].size, cases[i].align, flags);
            struct mm_heap_stats stats = world_stats(world);

            assert_non_null(object);
            assert_int_equal(is_large(object), expected);
            assert_int_equal((uintptr_t)object & (cases[i].align == 0 ? 15 : cases[i].align - 1),
                             0);
            assert_int_equal(out_of(large), expected ? pages : 0);
            assert_int_equal(large->nr_flags[1], 0);
            if ((flags & MM_HEAP_ZEROED) != 0) {
                T_LEGAL(t_mheap_zeroed(object, cases[i].size));
            }
            memset(object, 0xc7, cases[i].size);
            assert_int_equal(stats.nr_objects, 1);
            if (cases[i].size > 8192) {
                assert_int_equal(mm_heap_usable_size(heap, object), pages * 4096);
                assert_int_equal(stats.nr_runs, 1);
                assert_int_equal(stats.run_bytes, pages * 4096);
                assert_int_equal(stats.object_bytes, pages * 4096);
            }
            assert_int_equal(mm_heap_check(heap), MM_OK);
            switch (i % 3) {
            case 0:
                mm_heap_free(heap, object);
                break;
            case 1:
                mm_heap_free_on(heap, flags, object);
                break;
            default:
                mm_heap_free_sized(heap, object, cases[i].size, cases[i].align);
                break;
            }
            assert_int_equal(out_of(large), 0);
        }
    }
    /* Each way to ask. */
    void *objects[5] = {mm_heap_alloc(heap, LARGE), mm_heap_alloc_on(heap, 1, LARGE),
                        mm_heap_alloc_zeroed(heap, LARGE), mm_heap_alloc_aligned(heap, 64, LARGE),
                        mm_heap_alloc_array(heap, LARGE / 32, 32, 0)};

    for (unsigned i = 0; i < 5; i++) {
        assert_true(is_large(objects[i]));
        mm_heap_free(heap, objects[i]);
    }
}

/* --- want of memory -----------------------------------------------------------------------------*/

/* Where the large pool has nothing, the own one serves; where that has nothing either, it is NULL,
 * counted once. */
static void test_fallback(void **state)
{
    void *objects[300];
    unsigned nr = 0;
    unsigned nr_own = 0;

    (void)state;
    while ((objects[nr] = mm_heap_alloc(heap, LARGE)) != NULL) {
        /* First all of the one, then all of the other. */
        assert_true(nr == 0 || is_large(objects[nr - 1]) || !is_large(objects[nr]));
        nr_own += is_large(objects[nr]) ? 0 : 1;
        nr++;
    }
    assert_true(nr_own >= 100 && nr - nr_own >= 100);
    assert_int_equal(world_stats(world).nr_failed, 1);
    assert_int_equal(world_stats(world).nr_objects, nr);
    assert_int_equal(mm_heap_check(heap), MM_OK);
    assert_null(mm_heap_alloc_with(heap, LARGE, 0, MM_HEAP_ATOMIC));
    assert_int_equal(world_stats(world).nr_failed, 2);
    /* What comes back to the large pool is used first, and none of it by an atomic request. */
    mm_heap_free(heap, objects[0]);
    assert_null(mm_heap_alloc_with(heap, LARGE, 0, MM_HEAP_ATOMIC));
    objects[0] = mm_heap_alloc(heap, LARGE);
    assert_true(is_large(objects[0]));
    while (nr > 0) {
        mm_heap_free_sized(heap, objects[--nr], LARGE, 0);
    }
    assert_int_equal(world_stats(world).nr_objects, 0);
}

/* Each request to either source fails once, in each call that may come by the large pool. */
static void test_injected(void **state)
{
    (void)state;
    for (unsigned call = 0; call < 4; call++) {
        for (uint64_t n = 1;; n++) {
            char *object = mm_heap_alloc(heap, 10000);
            struct mm_heap_stats before = world_stats(world);
            char *got = NULL;
            uint64_t fired;

            strcpy(object, "as it was");
            t_inject_from(&large->inject, n);
            t_inject_from(&world->inject, n);
            switch (call) {
            case 0:
                got = mm_heap_alloc(heap, 2 * LARGE);
                break;
            case 1:
                got = mm_heap_alloc_with(heap, LARGE, 2 * LARGE, MM_HEAP_ZEROED);
                break;
            case 2:
                got = mm_heap_alloc_array(heap, LARGE, 3, 0);
                break;
            default:
                got = mm_heap_realloc(heap, object, 3 * LARGE);
                break;
            }
            fired = large->inject.fired;
            assert_int_equal(got == NULL, world->inject.fired != 0);
            if (got == NULL) {
                struct mm_heap_stats after = world_stats(world);

                assert_int_equal(after.nr_failed, before.nr_failed + 1);
                assert_int_equal(after.nr_objects, before.nr_objects);
                assert_int_equal(after.object_bytes, before.object_bytes);
                assert_int_equal(out_of(large), 0);
            }
            t_inject_never(&large->inject);
            t_inject_never(&world->inject);
            assert_int_equal(mm_heap_check(heap), MM_OK);
            assert_string_equal(call == 3 && got != NULL ? got : object, "as it was");
            mm_heap_free(heap, got);
            if (call != 3 || got == NULL) {
                mm_heap_free(heap, object);
            }
            assert_int_equal(world_stats(world).nr_objects, 0);
            if (fired == 0) {
                break;
            }
            assert_true(n < 20);
        }
    }
}

/* --- resizing -----------------------------------------------------------------------------------*/

static void test_resized_across(void **state)
{
    static const uint64_t sizes[] = {100,       5000,  8192,      12000,     LARGE - 4096,
                                     LARGE - 1, LARGE, LARGE + 1, 2 * LARGE, 5 * LARGE + 7};
    const unsigned nr = sizeof(sizes) / sizeof(sizes[0]);
    struct t_mheap model;

    (void)state;
    t_mheap_init(&model, 0, 0);
    for (unsigned a = 0; a < nr; a++) {
        for (unsigned b = 0; b < nr; b++) {
            for (uint64_t align = 16; align <= 16384; align *= 32) {
                void *object = mm_heap_alloc_with(heap, sizes[a], align, 0);
                bool was_large = is_large(object);
                void *moved;

                T_LEGAL(t_mheap_add(&model, object, sizes[a], align));
                moved = mm_heap_realloc(heap, object, sizes[b]);
                T_LEGAL(t_mheap_resize(&model, object, moved, sizes[b], align));
                /* It grows into the large pool, and what shrinks by less than half stays there. */
                if (moved != object) {
                    assert_int_equal(is_large(moved), sizes[b] >= LARGE);
                } else {
                    assert_int_equal(is_large(moved), was_large);
                }
                assert_int_equal(out_of(large), !is_large(moved) ? 0 : (sizes[b] + 4095) / 4096);
                assert_int_equal(mm_heap_check(heap), MM_OK);
                T_LEGAL(t_mheap_remove(&model, moved));
                mm_heap_free_sized(heap, moved, sizes[b], align);
                assert_int_equal(out_of(large), 0);
            }
        }
    }
    t_mheap_destroy(&model);
    /* In want: the object that cannot move is as it was, in either pool. */
    for (unsigned i = 0; i < 2; i++) {
        char *object = mm_heap_alloc(heap, i == 0 ? 10000 : LARGE);

        strcpy(object, "as it was");
        t_inject_from(&large->inject, 1);
        t_inject_from(&world->inject, 1);
        assert_null(mm_heap_realloc(heap, object, 2 * LARGE));
        assert_string_equal(object, "as it was");
        t_inject_never(&world->inject);
        object = mm_heap_realloc(heap, object, 2 * LARGE); /* the own pool has some */
        assert_non_null(object);
        assert_false(is_large(object));
        assert_string_equal(object, "as it was");
        t_inject_never(&large->inject);
        mm_heap_free(heap, object);
    }
}

/* --- misuse -------------------------------------------------------------------------------------*/

static void expect(const struct t_trap_info *info, const void *address, const char *what,
                   const char *recorded, uint64_t recorded_value)
{
    assert_string_equal(info->what, what);
    assert_int_equal(info->address, (uintptr_t)address);
    assert_string_equal(info->recorded, recorded);
    assert_int_equal(info->recorded_value, recorded_value);
    assert_string_equal(info->claimed, "two");
    assert_int_equal(mm_heap_check(heap), MM_OK);
}

static void test_misuse(void **state)
{
    char *object = mm_heap_alloc(heap, LARGE);
    struct t_trap_info info;
    char *small; /* objects of another heap, which is over the large pool */
    char *run;

    (void)state;
    assert_true(is_large(object));
    for (uint64_t in = 1; in < LARGE; in += 1365) {
        T_EXPECT_PANIC(mm_heap_free(heap, object + in), &info);
        expect(&info, object + in, "free of the inside of an object", "an object that begins at",
               (uintptr_t)object);
        assert_int_equal(mm_heap_usable_size(heap, object + in), 0);
        T_EXPECT_PANIC((void)!mm_heap_realloc(heap, object + in, 10), &info);
    }
    T_EXPECT_PANIC(mm_heap_free(heap, object + LARGE), &info);
    expect(&info, object + LARGE, "free of an address that holds no object", "nothing", 0);
    small = mm_heap_alloc(&large->heap, 64);
    run = mm_heap_alloc(&large->heap, 100000);
    T_EXPECT_PANIC(mm_heap_free(heap, small), &info);
    expect(&info, small, "free of an object of another cache or heap", "heap", 64);
    T_EXPECT_PANIC(mm_heap_free_sized(heap, small, 64, 0), &info);
    expect(&info, small, "free of an object of another cache or heap", "heap", 64);
    T_EXPECT_PANIC(mm_heap_free_on(heap, 0, run), &info);
    expect(&info, run, "free of an object of another cache or heap", "heap", 0);
    T_EXPECT_PANIC((void)!mm_heap_realloc(heap, run, 10), &info);
    expect(&info, run, "free of an object of another cache or heap", "heap", 0);
    assert_int_equal(mm_heap_usable_size(heap, run), 0);
    assert_int_equal(mm_heap_usable_size(heap, small), 0);
    /* And the other way round. */
    T_EXPECT_PANIC(mm_heap_free(&large->heap, object), &info);
    assert_string_equal(info.what, "free of an object of another cache or heap");
    assert_string_equal(info.recorded, "two");
    assert_string_equal(info.claimed, "heap");
    T_EXPECT_PANIC(mm_heap_free_sized(heap, object, LARGE + 1, 0), &info);
    assert_string_equal(info.what, "free of an object with the size of another");
    assert_int_equal(info.recorded_value, LARGE);
    T_EXPECT_PANIC(mm_heap_free_sized(heap, object, LARGE - 4096, 0), &info);
    T_EXPECT_PANIC(mm_heap_free_sized(heap, object, LARGE, 8192), &info);
    T_EXPECT_PANIC(mm_heap_free_sized(heap, object, 64, 0), &info);
    assert_int_equal(mm_heap_usable_size(heap, object), LARGE);
    mm_heap_free(heap, object);
    T_EXPECT_PANIC(mm_heap_free(heap, object), &info);
    expect(&info, object, "free of an address that holds no object", "nothing", 0);
    T_EXPECT_PANIC(mm_heap_free_sized(heap, object, LARGE, 0), &info);
    T_EXPECT_PANIC((void)!mm_heap_realloc(heap, object, LARGE), &info);
    /* A double free that comes when the place is somebody else's. */
    char *next = mm_heap_alloc(&large->heap, LARGE);

    if (next == object) {
        T_EXPECT_PANIC(mm_heap_free(heap, object), &info);
        expect(&info, object, "free of an object of another cache or heap", "heap", 0);
    }
    mm_heap_free(&large->heap, next);
    mm_heap_free(&large->heap, small);
    mm_heap_free(&large->heap, run);
}

/* --- init and destroy ---------------------------------------------------------------------------*/

static void test_statuses(void **state)
{
    static struct mm_heap other;
    static struct mm_pool no_pool;
    struct mm_heap_config good = {.large = &large->pool, .large_size = 8193};
    struct mm_heap_config config;
    struct mm_pool_stats stats;

    (void)state;
    config = good;
    config.tier = (enum mm_heap_tier)3;
    assert_int_equal(mm_heap_init(&other, &world->pool, &config), MM_ERR_INVALID_ARGUMENT);
    config = good;
    config.large = &world->pool;
    assert_int_equal(mm_heap_init(&other, &world->pool, &config), MM_ERR_INVALID_ARGUMENT);
    config = good;
    config.large = NULL;
    assert_int_equal(mm_heap_init(&other, &world->pool, &config), MM_ERR_INVALID_ARGUMENT);
    config = good;
    config.large_size = 0;
    assert_int_equal(mm_heap_init(&other, &world->pool, &config), MM_ERR_INVALID_ARGUMENT);
    config = good;
    config.large = &no_pool;
    assert_int_equal(mm_heap_init(&other, &world->pool, &config), MM_ERR_NOT_INITIALIZED);
    config = good;
    config.large_size = MM_HEAP_MAX_SLAB_SIZE;
    assert_int_equal(mm_heap_init(&other, &world->pool, &config), MM_ERR_INVALID_SIZE);
    config.large_size = 1;
    assert_int_equal(mm_heap_init(&other, &world->pool, &config), MM_ERR_INVALID_SIZE);
    config = good;
    config.flags = UINT32_C(1) << 31;
    assert_int_equal(mm_heap_init(&other, &world->pool, &config), MM_ERR_INVALID_FLAGS);
    for (unsigned i = 0; i < sizeof(other); i++) {
        assert_int_equal(((char *)&other)[i], 0);
    }
    /* Both pools know that somebody is over them; and only while he is. */
    assert_int_equal(mm_pool_get_stats(&large->pool, &stats), MM_OK);
    assert_int_equal(stats.nr_users, 2);
    assert_int_equal(mm_heap_init(&other, &world->pool, &good), MM_OK);
    assert_int_equal(mm_pool_get_stats(&large->pool, &stats), MM_OK);
    assert_int_equal(stats.nr_users, 3);
    assert_int_equal(mm_pool_get_stats(&world->pool, &stats), MM_OK);
    assert_int_equal(stats.nr_users, 2);
    assert_int_equal(mm_heap_destroy(&large->heap), MM_OK);
    assert_int_equal(mm_pool_destroy(&large->pool), MM_ERR_BUSY);
    assert_int_equal(mm_heap_init(&large->heap, &large->pool, NULL), MM_OK);
    assert_int_equal(mm_heap_destroy(&other), MM_OK);
    assert_int_equal(mm_pool_get_stats(&large->pool, &stats), MM_OK);
    assert_int_equal(stats.nr_users, 2);
    /* The smallest threshold: the first run. */
    assert_int_equal(mm_heap_init(&other, &world->pool, &good), MM_OK);
    void *objects[2] = {mm_heap_alloc(&other, 8192), mm_heap_alloc(&other, 8193)};

    assert_false(is_large(objects[0]));
    assert_true(is_large(objects[1]));
    mm_heap_free(&other, objects[0]);
    mm_heap_free(&other, objects[1]);
    assert_int_equal(mm_heap_destroy(&other), MM_OK);
    /* A threshold that nothing reaches. */
    config = good;
    config.large_size = UINT64_MAX - 1;
    assert_int_equal(mm_heap_init(&other, &world->pool, &config), MM_OK);
    objects[0] = mm_heap_alloc(&other, MiB);
    assert_false(is_large(objects[0]));
    assert_null(mm_heap_alloc(&other, UINT64_MAX));
    mm_heap_free(&other, objects[0]);
    assert_int_equal(mm_heap_destroy(&other), MM_OK);
}

/* What was not freed is told, of each pool by its own log op. */
static void test_leaks(void **state)
{
    void *object = mm_heap_alloc(heap, LARGE);
    void *own = mm_heap_alloc(heap, 9000);

    (void)state;
    world->log.nr_lines = 0;
    large->log.nr_lines = 0;
    assert_int_equal(mm_heap_destroy(heap), MM_ERR_BUSY);
    assert_int_equal(world->log.nr_lines, 1);
    assert_int_equal(large->log.nr_lines, 1);
    assert_string_equal(world->log.last, "heap: two: 1 runs of pages were not freed");
    assert_string_equal(large->log.last, "heap: two: 1 runs of pages were not freed");
    mm_heap_free(heap, own);
    assert_int_equal(mm_heap_destroy(heap), MM_ERR_BUSY);
    assert_int_equal(world->log.nr_lines, 1);
    assert_int_equal(large->log.nr_lines, 2);
    mm_heap_free(heap, object);
    /* The events of large runs are those of their pool. */
    assert_int_equal(large->log.grown, large->log.shrunk);
    assert_int_equal(large->log.grown, LARGE);
}

/* A contradiction in a run of the large pool is told as any other. */
static void test_check(void **state)
{
    void *object = mm_heap_alloc(heap, LARGE);

    (void)state;
    heap->large.nr_slabs++;
    assert_int_equal(mm_heap_check(heap), MM_ERR_CORRUPTED);
    heap->large.nr_slabs--;
    assert_int_equal(mm_heap_check(heap), MM_OK);
    mm_heap_free(heap, object);
}

#define BOTH(test)                                                                                 \
    cmocka_unit_test_setup_teardown(test, start_range, stop),                                      \
        cmocka_unit_test_setup_teardown(test, start_frames, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(test_threshold), BOTH(test_fallback), BOTH(test_injected), BOTH(test_resized_across),
        BOTH(test_misuse),    BOTH(test_statuses), BOTH(test_leaks),    BOTH(test_check),
    };

    return cmocka_run_group_tests_name("heap_large", tests, NULL, NULL);
}
