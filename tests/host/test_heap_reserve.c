// SPDX-License-Identifier: MIT
/**
 * What a heap sets aside: served when nothing else is left, and never to anybody else.
 */
#include "heap_world.h"

#define NR   3u
#define SIZE UINT64_C(5000)

static struct world *world;
static struct mm_heap heap;
static void *filler[4096];
static unsigned nr_filled;

static struct mm_heap_config config_of(enum mm_heap_tier tier)
{
    return (struct mm_heap_config){
        .name = "spare", .tier = tier, .reserve_size = SIZE, .nr_reserve = NR};
}

static int start_world(void **state, struct world *made)
{
    (void)state;
    world = made;
    world_start(world, 2);
    memset(&heap, 0, sizeof(heap));
    nr_filled = 0;
    return 0;
}

static int start_range(void **state)
{
    return start_world(state, world_of_range(1 * MiB));
}

static int start_frames(void **state)
{
    return start_world(state, world_of_frames(1 * MiB));
}

static int stop(void **state)
{
    (void)state;
    world_stop(world);
    world_delete(world);
    return 0;
}

/** Take all that the source has. */
static void fill(void)
{
    for (uint64_t size = 64 * KiB; size >= 16; size /= 2) {
        while (nr_filled < sizeof(filler) / sizeof(filler[0]) &&
               (filler[nr_filled] = mm_heap_alloc(&heap, size)) != NULL) {
            nr_filled++;
        }
    }
}

static void empty(void)
{
    while (nr_filled > 0) {
        mm_heap_free(&heap, filler[--nr_filled]);
    }
}

/* In every tier: all of it at the same time, again and again, and for nobody who did not ask. */
static void test_served(void **state)
{
    static const enum mm_heap_tier tiers[] = {MM_HEAP_CHECKED, MM_HEAP_FAST, MM_HEAP_HARDENED};

    (void)state;
    for (unsigned t = 0; t < 3; t++) {
        struct mm_heap_config config = config_of(tiers[t]);
        char *objects[NR];

        memset(&heap, 0, sizeof(heap));
        assert_int_equal(mm_heap_init(&heap, &world->pool, &config), MM_OK);
        fill();
        assert_null(mm_heap_alloc(&heap, SIZE));
        assert_null(mm_heap_alloc_with(&heap, SIZE, 0, MM_HEAP_ATOMIC | MM_HEAP_ZEROED));
        for (unsigned round = 0; round < 3; round++) {
            for (unsigned i = 0; i < NR; i++) {
                objects[i] =
                    mm_heap_alloc_with(&heap, SIZE - i, 0, MM_HEAP_RESERVE | MM_HEAP_ZEROED);
                assert_non_null(objects[i]);
                assert_true(mm_heap_usable_size(&heap, objects[i]) >= SIZE - i);
                for (uint64_t at = 0; at < SIZE - i; at++) {
                    assert_int_equal(objects[i][at], 0);
                }
                memset(objects[i], 0x70 + (int)i, SIZE - i);
            }
            assert_null(mm_heap_alloc_with(&heap, 16, 0, MM_HEAP_RESERVE));
            assert_null(mm_heap_alloc(&heap, SIZE));
            assert_int_equal(mm_heap_check(&heap), MM_OK);
            for (unsigned i = 0; i < NR; i++) {
                for (uint64_t at = 0; at < SIZE - i; at++) {
                    assert_int_equal(objects[i][at], 0x70 + i);
                }
                mm_heap_free_sized(&heap, objects[i], SIZE - i, 0);
            }
        }
        assert_null(mm_heap_alloc(&heap, SIZE)); /* it went back to where it was */
        /* What is too large, or aligned to more than a page, is not served. */
        assert_null(mm_heap_alloc_with(&heap, 3 * MM_PAGE_SIZE, 0, MM_HEAP_RESERVE));
        assert_null(mm_heap_alloc_with(&heap, 16, 2 * MM_PAGE_SIZE, MM_HEAP_RESERVE));
        assert_int_equal(mm_heap_check(&heap), MM_OK);
        empty();
        assert_int_equal(mm_heap_destroy(&heap), MM_OK);
    }
}

/* Reclaim leaves it; an object of it is resized where it lies, or moves out. */
static void test_kept_and_resized(void **state)
{
    struct mm_heap_config config = config_of(MM_HEAP_CHECKED);
    char *objects[NR];
    char *moved;

    (void)state;
    assert_int_equal(mm_heap_init(&heap, &world->pool, &config), MM_OK);
    mm_heap_reclaim(&heap);
    fill();
    for (unsigned i = 0; i < NR; i++) {
        objects[i] = mm_heap_alloc_with(&heap, SIZE, 0, MM_HEAP_RESERVE);
        assert_non_null(objects[i]);
    }
    memset(objects[0], 0x33, SIZE);
    assert_ptr_equal(mm_heap_realloc(&heap, objects[0], 8192), objects[0]);
    assert_ptr_equal(mm_heap_realloc(&heap, objects[0], 10), objects[0]);
    assert_ptr_equal(mm_heap_realloc(&heap, objects[0], SIZE), objects[0]);
    assert_null(mm_heap_realloc(&heap, objects[0], 8193));
    empty();
    assert_ptr_equal(mm_heap_realloc(&heap, objects[1], 10), objects[1]); /* it was set aside so */
    moved = mm_heap_realloc(&heap, objects[0], 20000);
    assert_non_null(moved);
    assert_ptr_not_equal(moved, objects[0]);
    for (unsigned i = 0; i < 10; i++) {
        assert_int_equal(moved[i], 0x33);
    }
    mm_heap_free(&heap, moved);
    fill();
    objects[0] = mm_heap_alloc_with(&heap, SIZE, 0, MM_HEAP_RESERVE); /* its place is back */
    assert_non_null(objects[0]);
    empty();
    assert_int_equal(mm_heap_destroy(&heap), MM_ERR_BUSY);
    assert_non_null(strstr(world->log.last, "were not freed"));
    for (unsigned i = 0; i < NR; i++) {
        mm_heap_free(&heap, objects[i]);
    }
    assert_int_equal(mm_heap_destroy(&heap), MM_OK);
}

/* A heap that set nothing aside has nothing to give, not of any size. */
static void test_none(void **state)
{
    (void)state;
    assert_int_equal(mm_heap_init(&heap, &world->pool, NULL), MM_OK);
    fill();
    for (uint64_t size = 0; size < 3 * MM_PAGE_SIZE; size += 64) {
        void *object = mm_heap_alloc_with(&heap, size, 0, MM_HEAP_RESERVE);

        assert_true(object == NULL || size <= 16); /* a slab may still have one of the smallest */
        mm_heap_free(&heap, object);
    }
    t_inject_from(&world->inject, 1);
    while (mm_heap_alloc(&world->heap, 0) != NULL) {
    }
    assert_null(mm_heap_alloc_with(&world->heap, 0, 0, MM_HEAP_RESERVE));
    t_inject_never(&world->inject);
    empty();
    assert_int_equal(mm_heap_destroy(&heap), MM_OK);
}

static void test_misuse(void **state)
{
    struct mm_heap_config config = config_of(MM_HEAP_CHECKED);
    struct t_trap_info info;
    char *object;

    (void)state;
    assert_int_equal(mm_heap_init(&heap, &world->pool, &config), MM_OK);
    fill();
    object = mm_heap_alloc_with(&heap, SIZE, 0, MM_HEAP_RESERVE);
    assert_non_null(object);
    T_EXPECT_PANIC(mm_heap_free(&heap, object + 16), &info);
    assert_string_equal(info.what, "free of the inside of an object");
    T_EXPECT_PANIC(mm_heap_free(&world->heap, object), &info);
    assert_string_equal(info.what, "free of an object of another cache or heap");
    mm_heap_free(&heap, object);
    T_EXPECT_PANIC(mm_heap_free(&heap, object), &info);
    assert_string_equal(info.what, "double free of an object");
    empty();
    assert_int_equal(mm_heap_destroy(&heap), MM_OK);
}

/* A reserve that cannot be had, at each page of it: nothing is taken. */
static void test_init(void **state)
{
    struct mm_heap_config config = config_of(MM_HEAP_CHECKED);
    uint64_t nr_out;
    mm_status_t status = MM_ERR_NO_MEMORY;

    (void)state;
    config.nr_reserve = 0;
    assert_int_equal(mm_heap_init(&heap, &world->pool, &config), MM_ERR_INVALID_ARGUMENT);
    config = config_of(MM_HEAP_CHECKED);
    config.reserve_size = 0;
    assert_int_equal(mm_heap_init(&heap, &world->pool, &config), MM_ERR_INVALID_ARGUMENT);
    config.reserve_size = MM_HEAP_MAX_RESERVE_SIZE + 1;
    assert_int_equal(mm_heap_init(&heap, &world->pool, &config), MM_ERR_INVALID_SIZE);
    config.reserve_size = MM_HEAP_MAX_RESERVE_SIZE;
    config.zero = 1;
    assert_int_equal(mm_heap_init(&heap, &world->pool, &config), MM_ERR_INVALID_ARGUMENT);
    config.zero = 0;
    assert_int_equal(mm_heap_init(&heap, &world->pool, &config), MM_OK);
    assert_int_equal(mm_heap_destroy(&heap), MM_OK);
    nr_out = world->nr_out; /* descriptors and nodes stay with the pool */
    for (uint64_t nth = 1; status != MM_OK; nth++) {
        assert_in_range(nth, 1, 20);
        t_inject_nth(&world->inject, nth);
        status = mm_heap_init(&heap, &world->pool, &config);
        t_inject_never(&world->inject);
        if (status != MM_OK) {
            assert_int_equal(status, MM_ERR_NO_MEMORY);
            assert_int_equal(world->nr_out, nr_out);
            assert_int_equal(heap.magic, 0);
        }
    }
    assert_int_equal(mm_heap_destroy(&heap), MM_OK);
    config.nr_reserve = 10000;
    assert_int_equal(mm_heap_init(&heap, &world->pool, &config), MM_ERR_NO_MEMORY);
    assert_int_equal(heap.magic, 0);
}

#define BOTH(test)                                                                                 \
    cmocka_unit_test_setup_teardown(test, start_range, stop),                                      \
        cmocka_unit_test_setup_teardown(test, start_frames, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(test_served), BOTH(test_kept_and_resized), BOTH(test_none), BOTH(test_misuse),
        BOTH(test_init),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
