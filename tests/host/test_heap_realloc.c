// SPDX-License-Identifier: MIT
/**
 * What mm_heap_realloc() promises, in every tier: an alignment that was asked for is kept, none that
 * was not; who has a place that is large enough is never refused; runs grow where they are.
 */
#include "heap_tiers.h"

static struct told told;
static struct t_guards guards;

static const struct {
    enum mm_heap_tier tier;
    uint32_t flags;
    uint32_t sample_every;
} kinds[] = {
    {MM_HEAP_CHECKED, 0, 0},  {MM_HEAP_CHECKED, MM_HEAP_CALLERS, 0},
    {MM_HEAP_FAST, 0, 0},     {MM_HEAP_HARDENED, 0, 0},
    {MM_HEAP_CHECKED, 0, 3},  {MM_HEAP_CHECKED, 0, 1},
    {MM_HEAP_HARDENED, 0, 2},
};

#define NR_KINDS (sizeof(kinds) / sizeof(kinds[0]))

static struct mm_heap_config config_of(unsigned kind)
{
    struct mm_heap_config config = {.name = "things",
                                    .tier = kinds[kind].tier,
                                    .flags = kinds[kind].flags,
                                    .quarantine = 8,
                                    .sample_every = kinds[kind].sample_every,
                                    .report = told_report,
                                    .report_ctx = &told,
                                    .guards = t_guards_new(&guards, 8)};

    memset(&told, 0, sizeof(told));
    return config;
}

static struct world *start(unsigned kind)
{
    struct world *world = world_of_range(8 * MiB);
    struct mm_heap_config config = config_of(kind);

    world_start_plain_as(world, 1, &config);
    return world;
}

static void end(struct world *world)
{
    assert_int_equal(told.nr, 0);
    world_stop(world);
    world_delete(world);
    t_guards_delete(&guards);
}

static bool is_sample(const void *object)
{
    return (uint64_t)(uintptr_t)object - (uint64_t)(uintptr_t)guards.window < guards.len;
}

/* --- alignment --------------------------------------------------------------------------------- */

static const uint64_t sizes[] = {1, 48, 64, 80, 100, 500, 1024, 3000, 8000, 8192, 9000, 30000};

#define NR_SIZES (sizeof(sizes) / sizeof(sizes[0]))

static uint64_t natural(uint64_t size)
{
    return size >= 16 && (size & (size - 1)) == 0 ? (size > 4096 ? 4096 : size) : 16;
}

/** Through every pair of sizes, one object with this alignment between others without. */
static void keeps(struct mm_heap *heap, uint64_t align)
{
    for (unsigned i = 0; i < NR_SIZES * NR_SIZES; i++) {
        uint64_t from = sizes[i % NR_SIZES];
        void *before = mm_heap_alloc(heap, from);
        unsigned char *object = mm_heap_alloc_aligned(heap, align, from);
        void *behind = mm_heap_alloc(heap, from);
        uint64_t to = from;

        for (unsigned n = 0; n < 4; n++) {
            uint64_t had = to;

            memset(object, (int)n, had);
            to = sizes[(i / NR_SIZES + n * 5) % NR_SIZES];
            object = mm_heap_realloc(heap, object, to);
            assert_non_null(object);
            assert_int_equal((uintptr_t)object % align, 0);
            assert_int_equal((uintptr_t)object % natural(to), 0);
            assert_int_equal(object[(had < to ? had : to) - 1], n);
        }
        mm_heap_free_sized(heap, object, to, align);
        before = mm_heap_realloc(heap, before, to);
        assert_int_equal((uintptr_t)before % natural(to), 0);
        mm_heap_free_sized(heap, before, to, 0);
        mm_heap_free(heap, behind);
    }
}

static void test_asked_is_kept(void **state)
{
    (void)state;
    for (unsigned kind = 0; kind < NR_KINDS; kind++) {
        struct world *world = start(kind);

        for (uint64_t align = 16; align <= 65536; align *= 4) {
            keeps(&world->heap, align);
            mm_heap_reclaim(&world->heap);
        }
        end(world);
    }
}

/** What was not asked for is not kept: the place is that of the new size. */
static void test_unasked_is_not_kept(void **state)
{
    static const uint64_t pairs[][2] = {{64, 80},     {8192, 1},     {4096, 20}, {1024, 1100},
                                        {8192, 1000}, {100000, 100}, {32, 33},   {20000, 5000}};

    (void)state;
    for (unsigned kind = 0; kind < 3; kind++) {
        struct world *world = start(kind);
        struct mm_heap *heap = &world->heap;

        for (unsigned i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
            void *as = mm_heap_alloc(heap, pairs[i][1]);
            void *object = mm_heap_alloc(heap, pairs[i][0]);

            object = mm_heap_realloc(heap, object, pairs[i][1]);
            assert_int_equal(mm_heap_usable_size(heap, object), mm_heap_usable_size(heap, as));
            mm_heap_free_sized(heap, object, pairs[i][1], 0);
            mm_heap_free(heap, as);
        }
        end(world);
    }
}

/** A slab, or a run, that is used again remembers nothing of what was asked for in it. */
static void test_asked_is_forgotten(void **state)
{
    static const uint64_t pairs[][2] = {{64, 80}, {16384, 100}};

    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        struct world *world = start(i % 2);
        struct mm_heap *heap = &world->heap;
        void *object = mm_heap_alloc_aligned(heap, 64, pairs[i / 2][0]);

        object = mm_heap_realloc(heap, object, pairs[i / 2][1]);
        assert_int_equal(mm_heap_usable_size(heap, object), 128);
        mm_heap_free(heap, object);
        object = mm_heap_alloc_aligned(heap, 64, pairs[i / 2][0]);
        mm_heap_free(heap, object);
        if (i < 2) {
            mm_heap_reclaim(heap); /* of runs the next takes the one that is kept */
        }
        object = mm_heap_realloc(heap, mm_heap_alloc(heap, pairs[i / 2][0]), pairs[i / 2][1]);
        assert_int_equal(mm_heap_usable_size(heap, object), i < 2 ? 80 : 112);
        mm_heap_free(heap, object);
        end(world);
    }
}

/** Runs of the large pool remember too. */
static void test_asked_of_the_large_pool(void **state)
{
    struct world *large = world_of_range(8 * MiB);
    struct world *world = world_of_range(8 * MiB);
    struct mm_heap_config config = config_of(0);
    void *object;

    (void)state;
    world_start_plain(large, 1);
    config.large = &large->pool;
    config.large_size = 16384;
    world_start_plain_as(world, 1, &config);
    object = mm_heap_alloc_aligned(&world->heap, 1024, 20000);
    assert_true((uintptr_t)object - large->inner.base < large->inner.len);
    for (unsigned i = 0; i < 8; i++) {
        object = mm_heap_realloc(&world->heap, object, i % 2 == 0 ? 1100 : 17);
        assert_int_equal((uintptr_t)object % 1024, 0);
        assert_int_equal(mm_heap_usable_size(&world->heap, object), i % 2 == 0 ? 2048 : 1024);
    }
    mm_heap_free_sized(&world->heap, object, 17, 1024);
    end(world);
    world_stop(large);
    world_delete(large);
}

/* --- no memory --------------------------------------------------------------------------------- */

/** Fill all memory with objects that chain, least sizes last. */
static void *fill(struct mm_heap *heap)
{
    void *all = NULL;
    void *next;

    for (uint64_t size = 60000; size >= 8; size = size * 2 / 3) {
        while ((next = mm_heap_alloc(heap, size)) != NULL) {
            *(void **)next = all;
            all = next;
        }
    }
    return all;
}

static void empty(struct mm_heap *heap, void *all)
{
    while (all != NULL) {
        void *next = *(void **)all;

        mm_heap_free(heap, all);
        all = next;
    }
}

/** Every object can be made smaller, in any steps, and to the size that it has. */
static void test_smaller_is_never_refused(void **state)
{
    (void)state;
    for (unsigned kind = 0; kind < NR_KINDS; kind++) {
        struct world *world = start(kind);
        struct mm_heap *heap = &world->heap;
        unsigned char *objects[4 * NR_SIZES];
        uint64_t nr_failed;
        void *all;

        for (unsigned i = 0; i < 4 * NR_SIZES; i++) {
            objects[i] = i % 4 == 3 ? mm_heap_alloc_aligned(heap, 256, sizes[i / 4])
                                    : mm_heap_alloc(heap, sizes[i / 4]);
            assert_non_null(objects[i]);
            memset(objects[i], (int)i, sizes[i / 4]);
        }
        all = fill(heap);
        assert_null(mm_heap_alloc(heap, 1));
        nr_failed = world_stats(world).nr_failed;
        for (unsigned i = 0; i < 4 * NR_SIZES; i++) {
            uint64_t align = i % 4 == 3 ? 256 : 0;
            uint64_t size = sizes[i / 4];
            unsigned step = i % 4;

            for (unsigned n = 1 + i / 4; n-- > 0; n -= n < step ? n : step) {
                size = sizes[n] < size ? sizes[n] : size;
                objects[i] = mm_heap_realloc(heap, objects[i], size);
                assert_non_null(objects[i]);
                assert_true(mm_heap_usable_size(heap, objects[i]) >= size);
                assert_int_equal((uintptr_t)objects[i] % (align == 0 ? 16 : align), 0);
                for (uint64_t at = 0; at < size; at++) {
                    assert_int_equal(objects[i][at], i);
                }
            }
            assert_int_equal(mm_heap_check(heap), MM_OK);
            mm_heap_free_sized(heap, objects[i], size, align);
            assert_int_equal(told.nr, 0);
            if (step == 2) {
                void *next;

                while ((next = mm_heap_alloc(heap, 8)) != NULL) {
                    *(void **)next = all; /* as full as before */
                    all = next;
                }
                nr_failed++;
            }
            assert_int_equal(world_stats(world).nr_failed, nr_failed);
        }
        empty(heap, all);
        end(world);
    }
}

/** A sample that had to stay is as well guarded at its new end. */
static void test_sample_that_stays_is_guarded(void **state)
{
    (void)state;
    for (unsigned side = 0; side < 2; side++) {
        struct world *world = start(5);
        struct mm_heap *heap = &world->heap;
        unsigned char *object = mm_heap_alloc(heap, 100);
        void *all;

        if (side != 0) {
            mm_heap_free(heap, object);
            object = mm_heap_alloc(heap, 100);
        }
        assert_true(is_sample(object));
        memset(object, 1, 100);
        all = fill(heap);
        assert_ptr_equal(mm_heap_realloc(heap, object, 100), object);
        assert_ptr_equal(mm_heap_realloc(heap, object, 64), object);
        assert_int_equal(mm_heap_usable_size(heap, object), 64);
        assert_null(mm_heap_realloc(heap, object, 80)); /* that is no more its own */
        assert_int_equal(mm_heap_check(heap), MM_OK);
        object[64] = 0;
        assert_int_equal(mm_heap_check(heap), MM_ERR_CORRUPTED);
        assert_int_equal(told.nr, 1); /* by the check */
        assert_int_equal(told.reports[0].offset, 64);
        told.nr = 0;
        mm_heap_free(heap, object);
        assert_int_equal(told.nr, 1);
        assert_int_equal(told.reports[0].kind, MM_HEAP_OVERFLOW);
        assert_int_equal(told.reports[0].offset, 64);
        told.nr = 0;
        empty(heap, all);
        end(world);
    }
}

/* --- runs -------------------------------------------------------------------------------------- */

/** A run with room behind it: what the heap takes for itself it has taken, further on. */
static unsigned char *lone_run(struct mm_heap *heap, uint64_t size)
{
    mm_heap_free(heap, mm_heap_alloc(heap, 20 * size));
    mm_heap_reclaim(heap);
    return mm_heap_alloc(heap, size);
}

/** A run grows where it is while there is room behind it. */
static void test_runs_grow_in_place(void **state)
{
    (void)state;
    for (unsigned kind = 0; kind < NR_KINDS; kind++) {
        struct world *world = start(kind);
        struct mm_heap *heap = &world->heap;
        uint64_t size = 20000;
        unsigned char *run = lone_run(heap, size);

        memset(run, 1, size);
        for (unsigned i = 0; i < 10; i++) {
            uint64_t had = size;
            unsigned char *now;

            size += 5000;
            now = mm_heap_realloc(heap, run, size);
            assert_ptr_equal(now, run);
            assert_true(mm_heap_usable_size(heap, run) >= size);
            assert_int_equal(mm_heap_check(heap), MM_OK);
            assert_int_equal(run[had - 1], 1);
            memset(run, 1, size);
            assert_int_equal(mm_heap_check(heap), MM_OK);
        }
        assert_int_equal(world_stats(world).nr_objects, 1);
        mm_heap_free_sized(heap, run, size, 0);
        end(world);
    }
}

/** What it has broken before is told when it grows, once; and its new end is guarded. */
static void test_grown_run_is_guarded(void **state)
{
    struct world *world = start(3);
    struct mm_heap *heap = &world->heap;
    unsigned char *run = lone_run(heap, 20000);

    (void)state;
    run[20000] = 1;
    assert_ptr_equal(mm_heap_realloc(heap, run, 50000), run);
    assert_int_equal(told.nr, 1);
    assert_int_equal(told.reports[0].kind, MM_HEAP_OVERFLOW);
    assert_int_equal(told.reports[0].offset, 20000);
    assert_int_equal(mm_heap_check(heap), MM_OK);
    run[50000] = 1;
    mm_heap_free(heap, run);
    assert_int_equal(told.nr, 2);
    assert_int_equal(told.reports[1].offset, 50000);
    told.nr = 0;
    end(world);
}

/** A size that no memory has is refused, and changes nothing. */
static void test_too_large(void **state)
{
    static const uint64_t bad[] = {UINT64_MAX,        UINT64_MAX - 15,   UINT64_MAX - 16,
                                   UINT64_MAX - 4096, UINT64_C(1) << 63, UINT64_C(1) << 52};

    (void)state;
    for (unsigned kind = 0; kind < NR_KINDS; kind++) {
        struct world *world = start(kind);
        struct mm_heap *heap = &world->heap;
        unsigned char *objects[] = {mm_heap_alloc(heap, 100), mm_heap_alloc(heap, 20000)};

        for (unsigned i = 0; i < 2 * sizeof(bad) / sizeof(bad[0]); i++) {
            uint64_t usable = mm_heap_usable_size(heap, objects[i % 2]);

            objects[i % 2][99] = 9;
            assert_null(mm_heap_realloc(heap, objects[i % 2], bad[i / 2]));
            assert_int_equal(mm_heap_usable_size(heap, objects[i % 2]), usable);
            assert_int_equal(objects[i % 2][99], 9);
        }
        assert_int_equal(mm_heap_check(heap), MM_OK);
        mm_heap_free_sized(heap, objects[0], 100, 0);
        mm_heap_free_sized(heap, objects[1], 20000, 0);
        end(world);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_asked_is_kept),
        cmocka_unit_test(test_unasked_is_not_kept),
        cmocka_unit_test(test_asked_is_forgotten),
        cmocka_unit_test(test_asked_of_the_large_pool),
        cmocka_unit_test(test_smaller_is_never_refused),
        cmocka_unit_test(test_sample_that_stays_is_guarded),
        cmocka_unit_test(test_runs_grow_in_place),
        cmocka_unit_test(test_grown_run_is_guarded),
        cmocka_unit_test(test_too_large),
    };

    return cmocka_run_group_tests_name("heap_realloc", tests, NULL, NULL);
}
