// SPDX-License-Identifier: MIT
/**
 * Wrappers that pass their own caller on: it is the one that is recorded and told, in every tier, of
 * small objects, runs and samples, and of caches; and without one it is who makes the call.
 */
#include "heap_tiers.h"

static struct told told;
static struct t_guards guards;

/** Callers of a wrapper, far from any code: they are never called. */
#define MAKER  ((const void *)UINT64_C(0xffffffff81000011))
#define MOVER  ((const void *)UINT64_C(0xffffffff82000022))
#define FREER  ((const void *)UINT64_C(0xffffffff83000033))
#define AGAIN  ((const void *)UINT64_C(0xffffffff84000044))
#define RAW(x) ((uint64_t)(uintptr_t)(x))

/** In a slab, and in a run. */
static const uint64_t sizes[] = {1, 24, 64, 100, 1000, 4096, 8000, 9000, 100000};

#define NR_SIZES (sizeof(sizes) / sizeof(sizes[0]))

enum kind { PLAIN, CALLERS, FAST, HARDENED, SAMPLED, NR_KINDS };

static struct mm_heap_config config_of(enum kind kind)
{
    struct mm_heap_config config = {.name = "things", .report = told_report, .report_ctx = &told};

    config.flags = kind == PLAIN ? 0 : MM_HEAP_CALLERS;
    config.tier = kind == FAST       ? MM_HEAP_FAST
                  : kind == HARDENED ? MM_HEAP_HARDENED
                                     : MM_HEAP_CHECKED;
    if (kind == SAMPLED) {
        config.sample_every = 2;
        config.guards = t_guards_new(&guards, 20);
    }
    return config;
}

static struct world *start(enum kind kind)
{
    struct mm_heap_config config = config_of(kind);
    struct world *world = tiers_world(kind % 2 != 0);

    memset(&told, 0, sizeof(told));
    tiers_start(world, 2, &config);
    return world;
}

static void stop(struct world *world, enum kind kind)
{
    assert_int_equal(mm_heap_check(&world->heap), MM_OK);
    world_stop(world);
    world_delete(world);
    if (kind == SAMPLED) {
        t_guards_delete(&guards);
    }
}

static const struct mm_heap_report *last(void)
{
    assert_in_range(told.nr, 1, TOLD_MAX);
    return &told.reports[told.nr - 1];
}

/* --- who allocated ----------------------------------------------------------------------------- */

struct wanted {
    const void *object;
    struct mm_heap_object found;
};

static bool on_visit(void *ctx, const struct mm_heap_object *object)
{
    struct wanted *wanted = ctx;

    if (object->object == wanted->object) {
        wanted->found = *object;
    }
    return true;
}

static uint64_t allocated_by(const struct mm_heap *heap, const void *object)
{
    struct wanted wanted = {.object = object};

    assert_int_equal(mm_heap_walk(heap, on_visit, &wanted), MM_OK);
    assert_ptr_equal(wanted.found.object, object);
    return wanted.found.allocated_by;
}

static uint64_t taken_by(const struct mm_cache *cache, const void *object)
{
    struct wanted wanted = {.object = object};

    assert_int_equal(mm_cache_walk(cache, on_visit, &wanted), MM_OK);
    assert_ptr_equal(wanted.found.object, object);
    return wanted.found.allocated_by;
}

/** One object through its life, each call on behalf of another. */
static void live_and_die(struct mm_heap *heap, enum kind kind, uint64_t size, uint64_t align)
{
    uint64_t twice = 2 * size + 17;
    unsigned before = told.nr;
    unsigned char *object = mm_heap_alloc_from(heap, size, align, MM_HEAP_ZEROED, MAKER);
    unsigned char *moved;

    assert_non_null(object);
    assert_true(align == 0 || RAW(object) % align == 0);
    assert_true(object[0] == 0 && object[size - 1] == 0);
    assert_int_equal(allocated_by(heap, object), kind == PLAIN ? 0 : RAW(MAKER));
    object[0] = 77;

    moved = mm_heap_realloc_from(heap, object, twice, MOVER);
    assert_non_null(moved);
    assert_int_equal(moved[0], 77);
    assert_true(align == 0 || RAW(moved) % align == 0);
    if (moved != object) {
        assert_int_equal(allocated_by(heap, moved), kind == PLAIN ? 0 : RAW(MOVER));
    }
    assert_int_equal(told.nr, before);
    if (size % 2 == 0) {
        mm_heap_free_from(heap, moved, FREER);
    } else {
        mm_heap_free_sized_from(heap, moved, twice, align, FREER);
    }
    assert_int_equal(told.nr, before);

    mm_heap_free_from(heap, moved, AGAIN);
    assert_int_equal(told.nr, before + 1);
    assert_int_equal(last()->caller, RAW(AGAIN));
    if (last()->kind == MM_HEAP_DOUBLE_FREE && kind != PLAIN) {
        assert_int_equal(last()->freed_by, RAW(FREER));
        assert_int_equal(last()->allocated_by, RAW(moved != object ? MOVER : MAKER));
    }
    told.nr = before;
}

static void test_lives(void **state)
{
    (void)state;
    for (enum kind kind = PLAIN; kind < NR_KINDS; kind++) {
        struct world *world = start(kind);

        for (unsigned i = 0; i < NR_SIZES; i++) {
            for (uint64_t align = 0; align <= 8192; align = align == 0 ? 64 : align * 2) {
                live_and_die(&world->heap, kind, sizes[i], align);
            }
        }
        stop(world, kind);
    }
}

/* --- wrappers ---------------------------------------------------------------------------------- */

static __attribute__((noinline)) void *kmalloc(struct mm_heap *heap, size_t size)
{
    void *object = mm_heap_alloc_from(heap, size, 0, 0, __builtin_return_address(0));

    __asm__ volatile("" : "+r"(object));
    return object;
}

static __attribute__((noinline)) void kfree(struct mm_heap *heap, void *object)
{
    mm_heap_free_from(heap, object, __builtin_return_address(0));
    __asm__ volatile("");
}

static PLACE void *one_driver(struct mm_heap *heap)
{
    void *object = kmalloc(heap, 100);

    __asm__ volatile("" : "+r"(object));
    return object;
}

static PLACE void *another_driver(struct mm_heap *heap)
{
    void *object = kmalloc(heap, 300);

    __asm__ volatile("" : "+r"(object)::"memory");
    return object;
}

static PLACE void one_gives_up(struct mm_heap *heap, void *object)
{
    kfree(heap, object);
    __asm__ volatile("");
}

static PLACE void another_gives_up(struct mm_heap *heap, void *object)
{
    kfree(heap, object);
    __asm__ volatile("" ::: "memory");
}

/** What the calls are for: two callers of one wrapper are two callers. */
static void test_callers_of_a_wrapper(void **state)
{
    struct world *world = start(HARDENED);
    struct mm_heap *heap = &world->heap;
    struct mm_heap_caller callers[4];
    void *objects[12];
    char text[200];
    uint32_t nr;

    (void)state;
    for (unsigned i = 0; i < 12; i++) {
        objects[i] = i % 3 == 0 ? another_driver(heap) : one_driver(heap);
        assert_non_null(objects[i]);
    }
    assert_int_equal(mm_heap_callers(heap, 0, callers, 4, &nr), MM_OK);
    assert_int_equal(nr, 2);
    assert_true(IN_PLACE(callers[0].allocated_by, another_driver));
    assert_int_equal(callers[0].bytes, 1200);
    assert_true(IN_PLACE(callers[1].allocated_by, one_driver));
    assert_int_equal(callers[1].bytes, 800);
    one_gives_up(heap, objects[0]);
    another_gives_up(heap, objects[0]);
    assert_int_equal(last()->kind, MM_HEAP_DOUBLE_FREE);
    assert_true(IN_PLACE(last()->allocated_by, another_driver));
    assert_true(IN_PLACE(last()->freed_by, one_gives_up));
    assert_true(IN_PLACE(last()->caller, another_gives_up));
    snprintf(text, sizeof(text), "\n  found by 0x%llx\n", (unsigned long long)last()->caller);
    assert_non_null(strstr(told_text(&told), text));
    for (unsigned i = 1; i < 12; i++) {
        kfree(heap, objects[i]);
    }
    assert_int_equal(told.nr, 1);
    stop(world, HARDENED);
}

static PLACE void *made_by_nobody(struct mm_heap *heap, uint64_t size)
{
    void *object = mm_heap_alloc_from(heap, size, 0, 0, NULL);

    __asm__ volatile("" : "+r"(object));
    return object;
}

static PLACE void *moved_by_nobody(struct mm_heap *heap, void *object, uint64_t size)
{
    object = mm_heap_realloc_from(heap, object, size, NULL);

    __asm__ volatile("" : "+r"(object));
    return object;
}

static PLACE void freed_by_nobody(struct mm_heap *heap, void *object)
{
    mm_heap_free_from(heap, object, NULL);
    __asm__ volatile("");
}

static PLACE void freed_sized_by_nobody(struct mm_heap *heap, void *object, uint64_t size)
{
    mm_heap_free_sized_from(heap, object, size, 0, NULL);
    __asm__ volatile("" ::: "memory");
}

/** NULL: it is as if the call had no caller to pass on. */
static void test_no_caller(void **state)
{
    (void)state;
    for (enum kind kind = CALLERS; kind < NR_KINDS; kind++) {
        struct world *world = start(kind);
        struct mm_heap *heap = &world->heap;

        for (unsigned i = 0; i < NR_SIZES; i++) {
            unsigned char *object = made_by_nobody(heap, sizes[i]);
            unsigned before = told.nr;

            assert_true(IN_PLACE(allocated_by(heap, object), made_by_nobody));
            mm_heap_free(heap, object);
            object = moved_by_nobody(heap, NULL, sizes[i] + 1000);
            assert_true(IN_PLACE(allocated_by(heap, object), moved_by_nobody));
            assert_null(moved_by_nobody(heap, object + 1, 7));
            assert_true(IN_PLACE(last()->caller, moved_by_nobody));
            freed_by_nobody(heap, object);
            freed_sized_by_nobody(heap, object, sizes[i] + 1000);
            assert_int_equal(told.nr, before + 2);
            assert_true(IN_PLACE(last()->caller, freed_sized_by_nobody));
            if (last()->kind == MM_HEAP_DOUBLE_FREE) {
                assert_true(IN_PLACE(last()->freed_by, freed_by_nobody));
            }
            told.nr = before;
        }
        stop(world, kind);
    }
}

/* --- misuse ------------------------------------------------------------------------------------ */

static void test_misuse_names_the_caller(void **state)
{
    (void)state;
    for (enum kind kind = PLAIN; kind < NR_KINDS; kind++) {
        struct world *world = start(kind);
        struct mm_heap *heap = &world->heap;

        for (unsigned i = 1; i < NR_SIZES; i++) {
            unsigned char *object = mm_heap_alloc_from(heap, sizes[i], 0, 0, MAKER);
            int here = 0;

            mm_heap_free_from(heap, object + 1, FREER);
            assert_int_equal(last()->kind, MM_HEAP_INNER_FREE);
            assert_int_equal(last()->caller, RAW(FREER));
            assert_null(mm_heap_realloc_from(heap, object + 1, 10, MOVER));
            assert_int_equal(last()->kind, MM_HEAP_INNER_FREE);
            assert_int_equal(last()->caller, RAW(MOVER));
            mm_heap_free_from(heap, &here, AGAIN);
            assert_int_equal(last()->kind, MM_HEAP_WILD_FREE);
            assert_int_equal(last()->caller, RAW(AGAIN));
            assert_int_equal(told.nr, 3);
            if (kind == HARDENED) {
                object[sizes[i]] = (unsigned char)~object[sizes[i]];
                assert_ptr_equal(mm_heap_realloc_from(heap, object, sizes[i], MOVER), object);
                assert_int_equal(last()->kind, MM_HEAP_OVERFLOW);
                assert_int_equal(last()->allocated_by, RAW(MAKER));
                assert_int_equal(last()->caller, RAW(MOVER));
            }
            if (kind != FAST) {
                told.nr = 0;
                mm_heap_free_sized_from(heap, object, sizes[i] + 50000, 0, FREER);
                assert_int_equal(told.nr, 1);
                assert_int_equal(last()->kind, MM_HEAP_SIZE_MISMATCH);
                assert_int_equal(last()->caller, RAW(FREER));
            }
            told.nr = 0;
            mm_heap_free_sized_from(heap, object, sizes[i], 0, FREER);
            assert_int_equal(told.nr, 0);
        }
        assert_int_equal(world_stats(world).nr_objects, 0);
        stop(world, kind);
    }
}

/** Without a report op it is a panic, which names the same. */
static void test_panic_names_the_caller(void **state)
{
    struct mm_heap_config config = {.flags = MM_HEAP_CALLERS};
    struct world *world = tiers_world(false);
    struct mm_heap *heap = &world->heap;
    struct t_trap_info info;
    void *object;

    (void)state;
    tiers_start(world, 1, &config);
    object = mm_heap_alloc_from(heap, 60, 0, 0, MAKER);
    mm_heap_free_from(heap, object, FREER);
    T_EXPECT_PANIC(mm_heap_free_from(heap, object, AGAIN), &info);
    assert_string_equal(info.what, "double free of an object");
    assert_int_equal(info.allocated_by, RAW(MAKER));
    assert_int_equal(info.freed_by, RAW(FREER));
    assert_int_equal(info.caller, RAW(AGAIN));
    T_EXPECT_PANIC(mm_heap_free_sized_from(heap, object, 60, 0, AGAIN), &info);
    assert_int_equal(info.caller, RAW(AGAIN));
    T_EXPECT_PANIC(mm_heap_realloc_from(heap, object, 60, AGAIN), &info);
    assert_int_equal(info.caller, RAW(AGAIN));
    world_stop(world);
    world_delete(world);
}

/** What the calls without a caller refuse, these do; and any address is a caller. */
static void test_bad_input(void **state)
{
    static const uint64_t callers[] = {1,
                                       4095,
                                       4096,
                                       (UINT64_C(1) << 47) - 1,
                                       UINT64_C(1) << 47,
                                       (UINT64_C(1) << 47) + 1,
                                       (UINT64_C(1) << 56) - 1,
                                       (UINT64_C(1) << 56) + 1,
                                       UINT64_MAX - 4095,
                                       UINT64_MAX};
    static struct mm_heap none;
    struct t_trap_info info;
    int here = 0;

    (void)state;
    assert_null(mm_heap_alloc_from(NULL, 10, 0, 0, MAKER));
    assert_null(mm_heap_alloc_from(&none, 10, 0, 0, MAKER));
    assert_null(mm_heap_realloc_from(NULL, NULL, 10, MAKER));
    assert_null(mm_heap_realloc_from(&none, NULL, 10, MAKER));
    mm_heap_free_from(NULL, NULL, FREER);
    mm_heap_free_from(&none, NULL, FREER);
    mm_heap_free_sized_from(NULL, NULL, 10, 0, FREER);
    mm_heap_free_sized_from(&none, NULL, 10, 3, FREER);
    T_EXPECT_SIGILL(mm_heap_free_from(NULL, &here, FREER), &info);
    T_EXPECT_SIGILL(mm_heap_free_from(&none, &here, FREER), &info);
    T_EXPECT_SIGILL(mm_heap_free_sized_from(NULL, &here, 4, 0, FREER), &info);
    T_EXPECT_SIGILL(mm_heap_free_sized_from(&none, &here, 4, 0, FREER), &info);
    T_EXPECT_SIGILL((void)mm_heap_realloc_from(NULL, &here, 4, FREER), &info);
    for (enum kind kind = PLAIN; kind < NR_KINDS; kind++) {
        struct world *world = start(kind);
        struct mm_heap *heap = &world->heap;

        assert_null(mm_heap_alloc_from(heap, 10, 24, 0, MAKER));
        assert_null(mm_heap_alloc_from(heap, 10, 2 * MM_HEAP_MAX_ALIGN, 0, MAKER));
        assert_null(mm_heap_alloc_from(heap, 10, 0, MM_HEAP_FLAGS_ALL + 1, MAKER));
        assert_null(mm_heap_alloc_from(heap, SIZE_MAX, 0, 0, MAKER));
        mm_heap_free_from(heap, NULL, FREER);
        mm_heap_free_sized_from(heap, NULL, 100, 24, FREER);
        assert_int_equal(world_stats(world).nr_objects, 0);
        for (unsigned i = 0; i < sizeof(callers) / sizeof(callers[0]); i++) {
            const void *caller = (const void *)(uintptr_t)callers[i];
            void *object = mm_heap_alloc_from(heap, 100, 0, 0, caller);
            uint64_t by = allocated_by(heap, object);

            if (kind == PLAIN) {
                assert_int_equal(by, 0);
            } else if ((int64_t)(callers[i] << 16) >> 16 == (int64_t)callers[i]) {
                assert_int_equal(by, callers[i]);
            } else {
                assert_int_equal(by << 16, callers[i] << 16);
            }
            mm_heap_free_from(heap, object, caller);
            mm_heap_free_from(heap, object, caller);
            assert_int_equal(told.nr, i + 1);
            assert_int_equal(last()->caller, callers[i]);
        }
        stop(world, kind);
    }
    assert_int_equal(here, 0);
}

/* --- caches ------------------------------------------------------------------------------------ */

static PLACE void *taken_by_nobody(struct mm_cache *cache)
{
    void *object = mm_cache_alloc_from(cache, NULL);

    __asm__ volatile("" : "+r"(object));
    return object;
}

static PLACE void put_back_by_nobody(struct mm_cache *cache, void *object)
{
    mm_cache_free_from(cache, object, NULL);
    __asm__ volatile("");
}

static void use_cache(struct mm_cache *cache, bool records)
{
    unsigned char *objects[100];

    for (unsigned i = 0; i < 100; i++) {
        objects[i] = mm_cache_alloc_from(cache, i % 2 == 0 ? MAKER : MOVER);
        assert_non_null(objects[i]);
    }
    for (unsigned i = 0; i < 100; i++) {
        const void *by = i % 2 == 0 ? MAKER : MOVER;

        assert_int_equal(taken_by(cache, objects[i]), records ? RAW(by) : 0);
        mm_cache_free_from(cache, objects[i] + 1, FREER);
        assert_int_equal(last()->kind, MM_HEAP_INNER_FREE);
        assert_int_equal(last()->caller, RAW(FREER));
        mm_cache_free_from(cache, objects[i], FREER);
        assert_int_equal(told.nr, 1);
        mm_cache_free_from(cache, objects[i], AGAIN);
        assert_int_equal(told.nr, 2);
        assert_int_equal(last()->caller, RAW(AGAIN));
        if (records && last()->kind == MM_HEAP_DOUBLE_FREE) {
            assert_int_equal(last()->allocated_by, RAW(by));
            assert_int_equal(last()->freed_by, RAW(FREER));
        }
        told.nr = 0;
    }
    objects[0] = taken_by_nobody(cache);
    assert_true(!records || IN_PLACE(taken_by(cache, objects[0]), taken_by_nobody));
    put_back_by_nobody(cache, objects[0]);
    put_back_by_nobody(cache, objects[0]);
    assert_true(IN_PLACE(last()->caller, put_back_by_nobody));
    told.nr = 0;
}

static void test_cache(void **state)
{
    static struct mm_cache none;
    static struct mm_cache cache;
    struct t_trap_info info;
    int here = 0;

    (void)state;
    for (enum kind kind = PLAIN; kind <= HARDENED; kind++) {
        struct mm_heap_config like = config_of(kind);
        struct mm_cache_config config = {.name = "knots",
                                         .size = 40,
                                         .flags = like.flags,
                                         .tier = like.tier,
                                         .report = told_report,
                                         .report_ctx = &told};
        struct world *world = start(PLAIN);

        assert_int_equal(mm_cache_init(&cache, &world->pool, &config), MM_OK);
        use_cache(&cache, kind != PLAIN);
        mm_cache_free_from(&cache, NULL, FREER);
        assert_int_equal(told.nr, 0);
        assert_int_equal(mm_cache_check(&cache), MM_OK);
        assert_int_equal(mm_cache_destroy(&cache), MM_OK);
        stop(world, PLAIN);
    }
    assert_null(mm_cache_alloc_from(NULL, MAKER));
    assert_null(mm_cache_alloc_from(&none, MAKER));
    mm_cache_free_from(NULL, NULL, FREER);
    mm_cache_free_from(&none, NULL, FREER);
    T_EXPECT_SIGILL(mm_cache_free_from(NULL, &here, FREER), &info);
    T_EXPECT_SIGILL(mm_cache_free_from(&none, &here, FREER), &info);
    assert_int_equal(here, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lives),
        cmocka_unit_test(test_callers_of_a_wrapper),
        cmocka_unit_test(test_no_caller),
        cmocka_unit_test(test_misuse_names_the_caller),
        cmocka_unit_test(test_panic_names_the_caller),
        cmocka_unit_test(test_bad_input),
        cmocka_unit_test(test_cache),
    };

    return cmocka_run_group_tests_name("heap_from", tests, NULL, NULL);
}
