// SPDX-License-Identifier: MIT
/**
 * Many objects of a cache at once: all of them apart and in bounds, in every number and order, in
 * want, and lists that hold what they must not. Several threads: test_heap_threads.c.
 */
#include "heap_world.h"

#define MOST 1000u

static struct world *world;
static struct mm_cache cache;
static struct t_mheap model;
static uint64_t object_size;

/** Around a word, two, a slab of one page, and beyond. */
static const unsigned numbers[] = {0,  1,  2,  3,   7,   31,  32,  33,  63,  64,
                                   65, 96, 97, 127, 128, 129, 255, 256, 257, 1000};

static void begin(struct world *of, uint64_t size)
{
    struct mm_cache_config config = {.name = "bulk", .size = size};

    world = of;
    object_size = size;
    world_start(world, 2);
    assert_int_equal(mm_cache_init(&cache, &world->pool, &config), MM_OK);
    t_mheap_init(&model, world->inner.base, world->inner.base + world->inner.len);
}

static void end(void)
{
    assert_int_equal(model.nr, 0);
    t_mheap_destroy(&model);
    assert_int_equal(mm_cache_check(&cache), MM_OK);
    mm_cache_reclaim(&cache);
    assert_int_equal(world->nr_out, world_meta(world));
    assert_int_equal(mm_cache_destroy(&cache), MM_OK);
    world_stop(world);
    world_delete(world);
}

static int start(void **state)
{
    (void)state;
    begin(world_of_range(32 * MiB), 64);
    return 0;
}

static int start_frames(void **state)
{
    (void)state;
    begin(world_of_frames(16 * MiB), 64);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    end();
    return 0;
}

static struct mm_cache_stats stats(void)
{
    struct mm_cache_stats out;

    assert_int_equal(mm_cache_get_stats(&cache, &out), MM_OK);
    return out;
}

/** Allocate, and give each to the model; places from the number that came on are untouched. */
static uint64_t take(uint32_t cpu, uint64_t nr, void **objects)
{
    uint64_t before = stats().nr_objects;
    uint64_t got;

    memset(objects, 0x99, (nr + 4) * sizeof(*objects));
    got = mm_cache_alloc_bulk(&cache, cpu, nr, objects);
    assert_true(got <= nr);
    for (uint64_t i = 0; i < got; i++) {
        T_LEGAL(t_mheap_add(&model, objects[i], object_size, 16));
    }
    for (uint64_t i = got; i < nr + 4; i++) {
        assert_int_equal((uintptr_t)objects[i], UINT64_C(0x9999999999999999));
    }
    assert_int_equal(stats().nr_objects, before + got);
    assert_int_equal(mm_cache_check(&cache), MM_OK);
    return got;
}

static void give(uint64_t nr, void *const *objects)
{
    uint64_t before = stats().nr_objects;
    uint64_t nr_given = 0;

    for (uint64_t i = 0; i < nr; i++) {
        if (objects[i] != NULL) {
            T_LEGAL(t_mheap_remove(&model, objects[i]));
            nr_given++;
        }
    }
    mm_cache_free_bulk(&cache, nr, objects);
    assert_int_equal(stats().nr_objects, before - nr_given);
    assert_int_equal(mm_cache_check(&cache), MM_OK);
}

static void reverse(void **objects, uint64_t nr)
{
    for (uint64_t i = 0; i < nr / 2; i++) {
        void *other = objects[nr - 1 - i];

        objects[nr - 1 - i] = objects[i];
        objects[i] = other;
    }
}

static void shuffle(struct t_prng *prng, void **objects, uint64_t nr)
{
    for (uint64_t i = nr; i > 1; i--) {
        uint64_t k = t_prng_below(prng, i);
        void *other = objects[k];

        objects[k] = objects[i - 1];
        objects[i - 1] = other;
    }
}

/* Every number, freed in order, backwards, at random, with holes; one by one what came in bulk, and
 * in bulk what came one by one. */
static void test_numbers(void **state)
{
    void *objects[2 * MOST + 8];
    struct t_prng prng;

    (void)state;
    t_prng_start(&prng, "heap bulk");
    for (unsigned how = 0; how < 6; how++) {
        for (unsigned i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
            uint64_t nr = numbers[i];

            assert_int_equal(take(how % 3, nr, objects), nr);
            switch (how) {
            case 1:
                reverse(objects, nr);
                break;
            case 2:
                shuffle(&prng, objects, nr);
                break;
            case 3: /* a NULL before, behind and between */
                for (uint64_t k = nr; k > 0; k--) {
                    objects[2 * k] = NULL;
                    objects[2 * k - 1] = objects[k - 1];
                }
                objects[0] = NULL;
                nr = 2 * nr + 1;
                break;
            case 4:
                for (uint64_t k = 0; k < nr; k++) {
                    T_LEGAL(t_mheap_remove(&model, objects[k]));
                    mm_cache_free(&cache, objects[k]);
                }
                nr = 0;
                break;
            case 5:
                for (uint64_t k = 0; k < nr; k++) {
                    T_LEGAL(t_mheap_remove(&model, objects[k]));
                }
                mm_cache_free_bulk(&cache, nr, objects);
                for (uint64_t k = 0; k < nr; k++) {
                    objects[k] = mm_cache_alloc_on(&cache, (uint32_t)k);
                    T_LEGAL(t_mheap_add(&model, objects[k], object_size, 16));
                }
                break;
            default:
                break;
            }
            give(nr, objects);
        }
        if (how % 2 == 0) {
            mm_cache_reclaim(&cache);
        }
    }
    mm_cache_free_bulk(&cache, 0, NULL);
    assert_int_equal(stats().nr_failed, 0);
}

/* Of every size: objects of several slabs at once, pieces given back, taken again. */
static void test_sizes(void **state)
{
    static const uint64_t sizes[] = {1, 16, 17, 100, 1000, 2048, 4096, 5000, 8192};
    void *objects[MOST + 8];
    struct t_prng prng;

    (void)state;
    t_prng_start(&prng, "heap bulk sizes");
    for (unsigned s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
        begin(s % 2 == 0 ? world_of_range(32 * MiB) : world_of_frames(16 * MiB), sizes[s]);
        for (unsigned round = 0; round < 30; round++) {
            uint64_t nr = t_prng_below(&prng, MOST / 2);
            uint64_t first = t_prng_below(&prng, nr + 1);

            assert_int_equal(take(round % 2, nr, objects), nr);
            shuffle(&prng, objects, nr / 2);
            give(nr - first, objects + first);
            assert_int_equal(take(round % 3, nr - first, objects + first), nr - first);
            give(nr, objects);
        }
        end();
    }
}

/* Memory ends in the middle: the number says how many there are, and the rest of the list is as it
 * was. */
static void exhaust(struct world *of, uint64_t size)
{
    void *objects[MOST + 8];
    uint64_t most;
    uint64_t got;

    begin(of, size);
    most = take(0, MOST, objects);
    assert_true(most > 50 && most < MOST);
    assert_int_equal(stats().nr_failed, 1);
    assert_int_equal(stats().nr_free, 0);
    assert_null(mm_cache_alloc(&cache));
    for (unsigned nr = 1; nr < 10; nr++) {
        /* As many as were given back, wherever they are. */
        for (unsigned i = 0; i < nr; i++) {
            void *object = objects[most * i / nr];

            T_LEGAL(t_mheap_remove(&model, object));
            mm_cache_free(&cache, object);
            objects[most * i / nr] = NULL;
        }
        void *again[16 + 4];

        got = take(nr % 2, 16, again);
        assert_int_equal(got, nr);
        for (unsigned i = 0; i < nr; i++) {
            objects[most * i / nr] = again[i];
        }
        assert_int_equal(take(0, 1, again), 0);
        assert_int_equal(take(1, 0, again), 0);
    }
    give(most, objects);
    end();
}

static void test_exhaustion(void **state)
{
    (void)state;
    exhaust(world_of_range(256 * KiB), 512);
    exhaust(world_of_frames(128 * KiB), 512);
    exhaust(world_of_range(512 * KiB), 3000);
    exhaust(world_of_frames(512 * KiB), 8192);
}

/* Each page that a call needs fails: what it has is given out, and it is well formed. */
static void injected(struct world *of, bool onward)
{
    void *objects[MOST + 8];

    begin(of, 200);
    for (uint64_t n = 1;; n++) {
        uint64_t fired;
        uint64_t got;

        mm_cache_reclaim(&cache);
        if (onward) {
            t_inject_from(&world->inject, n);
        } else {
            t_inject_nth(&world->inject, n);
        }
        got = take(0, 600, objects);
        fired = world->inject.fired;
        t_inject_never(&world->inject);
        /* A slab that cannot have many pages has fewer: so one failure may go unseen. */
        assert_true(got == 600 || fired != 0);
        assert_true(!onward || fired == 0 || got < 600);
        give(got, objects);
        if (fired == 0) {
            assert_true(n > 5);
            break;
        }
    }
    end();
}

static void test_injected(void **state)
{
    (void)state;
    injected(world_of_range(8 * MiB), false);
    injected(world_of_range(8 * MiB), true);
    injected(world_of_frames(4 * MiB), false);
    injected(world_of_frames(4 * MiB), true);
}

/* --- misuse -------------------------------------------------------------------------------------*/

/* Wherever in the list the wrong one is: what is before it is free, what is behind it is not. */
static void expect_told_at(uint64_t nr, void *const *objects, uint64_t at, const char *what)
{
    struct t_trap_info info;

    T_EXPECT_PANIC(mm_cache_free_bulk(&cache, nr, objects), &info);
    assert_string_equal(info.room, "heap");
    assert_string_equal(info.what, what);
    assert_string_equal(info.claimed, "bulk");
    assert_int_equal(info.address, (uintptr_t)objects[at]);
    for (uint64_t i = 0; i < at; i++) {
        T_LEGAL(t_mheap_remove(&model, objects[i]));
    }
    assert_int_equal(stats().nr_objects, model.nr);
    assert_int_equal(mm_cache_check(&cache), MM_OK);
}

static void test_held_twice(void **state)
{
    void *objects[MOST + 8];

    (void)state;
    for (uint64_t first = 0; first < 70; first += 3) {
        for (uint64_t at = first + 1; at < 80; at += 7) {
            void *right;

            assert_int_equal(take(0, 80, objects), 80);
            right = objects[at];
            objects[at] = objects[first];
            expect_told_at(80, objects, at, "double free of an object");
            objects[at] = right;
            give(80 - at, objects + at);
        }
    }
}

static void test_wrong_ones(void **state)
{
    static const char *const what[] = {
        "double free of an object", "free of the inside of an object",
        "free of an object of another cache or heap", "free of an address that holds no object"};
    struct mm_cache_config config = {.name = "other", .size = 64};
    static struct mm_cache other;
    char *wrong[4];
    void *objects[MOST + 8];

    (void)state;
    assert_int_equal(mm_cache_init(&other, &world->pool, &config), MM_OK);
    wrong[2] = mm_cache_alloc(&other);
    wrong[3] = (char *)objects;
    for (unsigned w = 0; w < 4; w++) {
        for (uint64_t at = 0; at < 100; at += 9) {
            void *right;

            assert_int_equal(take(0, 101, objects), 101);
            wrong[0] = objects[100];
            give(1, &objects[100]);
            right = objects[at];
            wrong[1] = (char *)right + 16;
            objects[at] = wrong[w];
            expect_told_at(100, objects, at, what[w]);
            objects[at] = right;
            give(100 - at, objects + at);
        }
    }
    mm_cache_free_bulk(&other, 1, (void *const *)&wrong[2]);
    assert_int_equal(mm_cache_destroy(&other), MM_OK);
}

/* Long after: the slab is gone, or serves again. */
static void test_late(void **state)
{
    void *objects[MOST + 8];
    void *first[8];
    struct t_trap_info info;

    (void)state;
    assert_int_equal(take(0, 300, objects), 300);
    memcpy(first, objects, sizeof(first));
    give(300, objects);
    mm_cache_reclaim(&cache);
    T_EXPECT_PANIC(mm_cache_free_bulk(&cache, 8, first), &info);
    assert_string_equal(info.what, "free of an address that holds no object");
    assert_int_equal(info.address, (uintptr_t)first[0]);
    assert_int_equal(mm_cache_check(&cache), MM_OK);
}

static void test_nobody(void **state)
{
    static struct mm_cache none;
    void *objects[8];
    void *nulls[8] = {NULL};
    struct t_trap_info info;

    (void)state;
    memset(objects, 0x99, sizeof(objects));
    assert_int_equal(mm_cache_alloc_bulk(NULL, 0, 8, objects), 0);
    assert_int_equal(mm_cache_alloc_bulk(&none, 0, 8, objects), 0);
    assert_int_equal(mm_cache_alloc_bulk(&cache, 0, 8, NULL), 0);
    assert_int_equal(mm_cache_alloc_bulk(&cache, 0, 0, NULL), 0);
    assert_int_equal((uintptr_t)objects[0], UINT64_C(0x9999999999999999));
    assert_int_equal(stats().nr_slabs, 0);
    assert_int_equal(stats().nr_failed, 0);
    mm_cache_free_bulk(NULL, 8, nulls);
    mm_cache_free_bulk(&none, 8, nulls);
    mm_cache_free_bulk(&none, 0, NULL);
    mm_cache_free_bulk(&cache, 8, nulls);
    mm_cache_free_bulk(&cache, 8, NULL);
    mm_cache_free_bulk(&none, 8, NULL);
    T_EXPECT_SIGILL(mm_cache_free_bulk(NULL, 8, objects), &info);
    T_EXPECT_SIGILL(mm_cache_free_bulk(&none, 8, objects), &info);
    /* A wrong CPU number costs nothing. */
    static const uint32_t cpus[] = {2, 3, 1023, 1024, UINT32_MAX};

    for (unsigned i = 0; i < sizeof(cpus) / sizeof(cpus[0]); i++) {
        void *list[100 + 4];

        assert_int_equal(take(cpus[i], 100, list), 100);
        give(100, list);
    }
}

#define BOTH(test)                                                                                 \
    cmocka_unit_test_setup_teardown(test, start, stop),                                            \
        cmocka_unit_test_setup_teardown(test, start_frames, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(test_numbers),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_exhaustion),
        cmocka_unit_test(test_injected),
        BOTH(test_held_twice),
        BOTH(test_wrong_ones),
        BOTH(test_late),
        BOTH(test_nobody),
    };

    return cmocka_run_group_tests_name("heap_bulk", tests, NULL, NULL);
}
