// SPDX-License-Identifier: MIT
/**
 * Frees in patterns: what is free is found again, wherever in its word it lies, and what one heap
 * leaves behind in its pool is no other's trouble.
 */
#include "heap_world.h"

#define SIZE UINT64_C(128)
#define NR   16384u

static struct world *world;
static void *objects[NR];

static int start(void **state)
{
    (void)state;
    world = world_of_range(64 * MiB);
    world_start(world, 2);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    world_stop(world);
    world_delete(world);
    return 0;
}

/* One object in `step` lives long. As many as were freed are had again without more than a tenth of
 * the pages anew: in a slab with one long-lived object in 32, it is the first of a word. */
static void test_long_lived_ones_hide_nothing(void **state)
{
    static const unsigned steps[] = {2, 3, 4, 8, 16, 31, 32, 33};

    (void)state;
    for (unsigned s = 0; s < sizeof(steps) / sizeof(steps[0]); s++) {
        for (unsigned first = 0; first < steps[s]; first += steps[s] < 8 ? 1 : steps[s] - 1) {
            uint64_t had;

            for (unsigned i = 0; i < NR; i++) {
                objects[i] = mm_heap_alloc(&world->heap, SIZE);
                assert_non_null(objects[i]);
            }
            for (unsigned i = 0; i < NR; i++) {
                if (i % steps[s] != first) {
                    mm_heap_free(&world->heap, objects[i]);
                    objects[i] = NULL;
                }
            }
            had = world->nr_out;
            for (unsigned i = 0; i < NR; i++) {
                if (objects[i] == NULL) {
                    objects[i] = mm_heap_alloc(&world->heap, SIZE);
                    assert_non_null(objects[i]);
                }
            }
            assert_in_range(world->nr_out, had, had + had / 10);
            assert_int_equal(mm_heap_check(&world->heap), MM_OK);
            for (unsigned i = 0; i < NR; i++) {
                mm_heap_free(&world->heap, objects[i]);
            }
        }
    }
}

/** The pool has so many descriptors of slabs whose every word had objects. */
static void leave_full_descriptors(unsigned nr)
{
    static struct mm_heap heap;
    void *all = NULL;

    memset(&heap, 0, sizeof(heap));
    assert_int_equal(mm_heap_init(&heap, &world->pool, NULL), MM_OK);
    for (unsigned i = 0; i < 256 * nr; i++) {
        void **object = mm_heap_alloc(&heap, 16);

        assert_non_null(object);
        *object = all;
        all = object;
    }
    while (all != NULL) {
        void *next = *(void **)all;

        mm_heap_free(&heap, all);
        all = next;
    }
    assert_int_equal(mm_heap_destroy(&heap), MM_OK);
}

/* Descriptors of runs, with all that was recorded of them, become slabs of whoever comes next. */
static void test_descriptors_are_handed_on_clean(void **state)
{
    static const struct mm_heap_config configs[] = {
        {.tier = MM_HEAP_CHECKED},
        {.tier = MM_HEAP_HARDENED},
        {.flags = MM_HEAP_CALLERS},
        {.nr_reserve = 4, .reserve_size = 9000},
    };
    static struct mm_heap first;
    static struct mm_heap second;
    void *runs[40];

    (void)state;
    for (unsigned c = 0; c < 4; c++) {
        for (unsigned d = 0; d < 4; d++) {
            memset(&first, 0, sizeof(first));
            memset(&second, 0, sizeof(second));
            leave_full_descriptors(40);
            assert_int_equal(mm_heap_init(&first, &world->pool, &configs[c]), MM_OK);
            for (unsigned i = 0; i < 40; i++) {
                runs[i] = mm_heap_alloc(&first, 9000 + 500 * i);
                assert_non_null(runs[i]);
            }
            for (unsigned i = 0; i < 40; i++) {
                mm_heap_free(&first, runs[i]);
            }
            assert_int_equal(mm_heap_destroy(&first), MM_OK);
            assert_int_equal(mm_heap_init(&second, &world->pool, &configs[d]), MM_OK);
            /* Without pages there is a descriptor, and no object in it. */
            t_inject_from(&world->inject, 1);
            for (unsigned i = 0; i < 40; i++) {
                assert_null(mm_heap_alloc(&second, 16 + 100 * i));
            }
            t_inject_never(&world->inject);
            for (unsigned i = 0; i < 40; i++) {
                runs[i] = mm_heap_alloc(&second, 16 + 100 * i);
                assert_non_null(runs[i]);
            }
            assert_int_equal(mm_heap_check(&second), MM_OK);
            for (unsigned i = 0; i < 40; i++) {
                mm_heap_free(&second, runs[i]);
            }
            assert_int_equal(mm_heap_destroy(&second), MM_OK);
        }
    }
}

/* A heap that records, and runs out of pages, over a pool whose descriptors had more objects: what
 * it gives until then is its own, and then it is NULL. */
static void test_exhausted_with_descriptors_of_others(void **state)
{
    enum { NR_BEFORE = 200 * 256 };
    static const struct mm_heap_config configs[] = {{.flags = MM_HEAP_CALLERS},
                                                    {.tier = MM_HEAP_HARDENED}};
    const struct mm_cache_config of_16 = {.name = "before", .size = 16};
    static void *before[NR_BEFORE];
    static struct mm_cache other;
    static struct mm_heap heap;

    (void)state;
    for (unsigned c = 0; c < 2; c++) {
        for (unsigned seed = 0; seed < 8; seed++) {
            struct world *small = world_of_range(MiB);
            struct t_prng prng;
            unsigned nr = 0;

            t_prng_seed(&prng, seed);
            world_start_plain(small, 1);
            memset(&other, 0, sizeof(other));
            memset(&heap, 0, sizeof(heap));
            assert_int_equal(mm_cache_init(&other, &small->pool, &of_16), MM_OK);
            assert_int_equal(mm_cache_alloc_bulk(&other, 0, NR_BEFORE, before), NR_BEFORE);
            mm_cache_free_bulk(&other, NR_BEFORE, before);
            assert_int_equal(mm_cache_destroy(&other), MM_OK);
            assert_int_equal(mm_heap_init(&heap, &small->pool, &configs[c]), MM_OK);
            while ((objects[nr] = mm_heap_alloc(&heap, 1 + t_prng_below(&prng, 1500))) != NULL) {
                assert_int_not_equal(mm_heap_usable_size(&heap, objects[nr]), 0);
                nr++;
            }
            assert_in_range(nr, 100, NR - 1);
            assert_int_equal(mm_heap_check(&heap), MM_OK);
            while (nr > 0) {
                mm_heap_free(&heap, objects[--nr]);
            }
            assert_int_equal(mm_heap_destroy(&heap), MM_OK);
            world_stop(small);
            world_delete(small);
        }
    }
}

/* When memory is short, what is made smaller stays where it is, and is freed with its size. */
static void test_shrinking_never_fails(void **state)
{
    static const uint64_t from[] = {4096, 8192, 1000, 20000, 65536};
    static const uint64_t to[] = {1, 17, 100, 3000, 4097, 9000};

    (void)state;
    for (unsigned f = 0; f < sizeof(from) / sizeof(from[0]); f++) {
        for (unsigned t = 0; t < sizeof(to) / sizeof(to[0]); t++) {
            unsigned char *object = mm_heap_alloc(&world->heap, from[f]);
            unsigned char *now;

            assert_non_null(object);
            if (to[t] >= from[f]) {
                mm_heap_free(&world->heap, object);
                continue;
            }
            memset(object, 0x5c, from[f]);
            mm_heap_reclaim(&world->heap);
            t_inject_from(&world->inject, 1);
            now = mm_heap_realloc(&world->heap, object, to[t]);
            t_inject_never(&world->inject);
            assert_non_null(now);
            for (uint64_t i = 0; i < to[t]; i++) {
                assert_int_equal(now[i], 0x5c);
            }
            assert_true(mm_heap_usable_size(&world->heap, now) >= to[t]);
            mm_heap_free_sized(&world->heap, now, to[t], 0);
        }
    }
    assert_int_equal(mm_heap_check(&world->heap), MM_OK);
}

#define ONE(test) cmocka_unit_test_setup_teardown(test, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ONE(test_long_lived_ones_hide_nothing),
        ONE(test_exhausted_with_descriptors_of_others),
        ONE(test_descriptors_are_handed_on_clean),
        ONE(test_shrinking_never_fails),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
