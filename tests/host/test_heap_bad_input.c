// SPDX-License-Identifier: MIT
/**
 * What the heap room must refuse or tell: every status, sizes without end, and each way to free
 * what one does not own, which panics and names both parties.
 */
#include "heap_world.h"

static struct world *world;
static struct mm_cache cache;

static int start(void **state)
{
    struct mm_cache_config config = {.name = "sixty", .size = 60};

    (void)state;
    world = world_of_range(16 * MiB);
    world_start(world, 2);
    assert_int_equal(mm_cache_init(&cache, &world->pool, &config), MM_OK);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    assert_int_equal(mm_cache_check(&cache), MM_OK);
    assert_int_equal(mm_cache_destroy(&cache), MM_OK);
    world_stop(world);
    world_delete(world);
    return 0;
}

/* --- releasing what one does not own -----------------------------------------------------------*/

static void expect(const struct t_trap_info *info, const void *address, const char *what,
                   const char *recorded, uint64_t recorded_value, const char *claimed)
{
    assert_string_equal(info->room, "heap");
    assert_string_equal(info->what, what);
    assert_int_equal(info->address, (uintptr_t)address);
    assert_string_equal(info->recorded, recorded);
    assert_int_equal(info->recorded_value, recorded_value);
    assert_string_equal(info->claimed, claimed);
    assert_int_equal(mm_heap_check(&world->heap), MM_OK);
    assert_int_equal(mm_cache_check(&cache), MM_OK);
}

/* Each size, right after the free and with others freed and allocated between. */
static void test_double_free(void **state)
{
    struct t_trap_info info;

    (void)state;
    for (uint64_t size = 16; size <= 8192; size = size * 5 / 4 + 16) {
        char *a = mm_heap_alloc(&world->heap, size);
        char *b = mm_heap_alloc(&world->heap, size);
        uint64_t usable = mm_heap_usable_size(&world->heap, a);

        assert_non_null(a);
        assert_non_null(b);
        mm_heap_free(&world->heap, a);
        T_EXPECT_PANIC(mm_heap_free(&world->heap, a), &info);
        expect(&info, a, "double free of an object", "free, an object of", usable, "heap");
        T_EXPECT_PANIC(mm_heap_free_on(&world->heap, 0, a), &info);
        expect(&info, a, "double free of an object", "free, an object of", usable, "heap");
        /* A, B, A: nothing that is freed between covers it up. */
        mm_heap_free_on(&world->heap, 0, b);
        T_EXPECT_PANIC(mm_heap_free_on(&world->heap, 0, a), &info);
        assert_int_equal(info.address, (uintptr_t)a);
        T_EXPECT_PANIC(mm_heap_free_on(&world->heap, 1, b), &info);
        T_EXPECT_PANIC((void)!mm_heap_realloc(&world->heap, a, 10), &info);
        assert_int_equal(mm_heap_check(&world->heap), MM_OK);
        /* It was not handed out twice for it. */
        a = mm_heap_alloc(&world->heap, size);
        b = mm_heap_alloc(&world->heap, size);
        assert_ptr_not_equal(a, b);
        mm_heap_free(&world->heap, a);
        mm_heap_free(&world->heap, b);
    }
}

/* A double free long after, when the slab itself is gone. */
static void test_double_free_of_a_slab_that_is_gone(void **state)
{
    void *a = mm_heap_alloc(&world->heap, 64);
    struct t_trap_info info;

    (void)state;
    mm_heap_free(&world->heap, a);
    mm_heap_reclaim(&world->heap);
    T_EXPECT_PANIC(mm_heap_free(&world->heap, a), &info);
    expect(&info, a, "free of an address that holds no object", "nothing", 0, "heap");
    T_EXPECT_PANIC(mm_heap_free_on(&world->heap, 0, a), &info);
    expect(&info, a, "free of an address that holds no object", "nothing", 0, "heap");
}

/* Every address inside an object, and in the unused end of its slab. */
static void test_inner_pointer(void **state)
{
    struct t_trap_info info;

    (void)state;
    for (uint64_t size = 16; size <= 8192; size = size * 2 + size / 4) {
        char *a = mm_heap_alloc(&world->heap, size);
        uint64_t usable = mm_heap_usable_size(&world->heap, a);

        for (uint64_t in = 1; in < usable; in += size < 200 ? 1 : size / 16 - 1) {
            T_EXPECT_PANIC(mm_heap_free(&world->heap, a + in), &info);
            expect(&info, a + in, "free of the inside of an object", "an object that begins at",
                   (uintptr_t)a, "heap");
            T_EXPECT_PANIC(mm_heap_free_on(&world->heap, 0, a + in), &info);
            assert_int_equal(mm_heap_usable_size(&world->heap, a + in), 0);
        }
        mm_heap_free(&world->heap, a);
    }
}

static void test_end_of_a_slab(void **state)
{
    /* 4096 bytes hold 36 objects of 112 and 64 bytes more. */
    char *a = mm_heap_alloc(&world->heap, 112);
    char *end = (char *)(((uintptr_t)a & ~UINT64_C(4095)) + UINT64_C(36) * 112);
    struct t_trap_info info;

    (void)state;
    T_EXPECT_PANIC(mm_heap_free(&world->heap, end), &info);
    expect(&info, end, "free of an address that holds no object",
           "the unused end of a slab, objects of", 112, "heap");
    mm_heap_free(&world->heap, a);
}

static void test_runs(void **state)
{
    char *run = mm_heap_alloc(&world->heap, 50000);
    struct t_trap_info info;

    (void)state;
    for (uint64_t in = 1; in < 13 * 4096; in += 1365) {
        T_EXPECT_PANIC(mm_heap_free(&world->heap, run + in), &info);
        expect(&info, run + in, "free of the inside of an object", "an object that begins at",
               (uintptr_t)run, "heap");
        T_EXPECT_PANIC((void)!mm_heap_realloc(&world->heap, run + in, 10), &info);
    }
    T_EXPECT_PANIC(mm_heap_free(&world->heap, run + UINT64_C(13) * 4096), &info);
    expect(&info, run + UINT64_C(13) * 4096, "free of an address that holds no object", "nothing",
           0, "heap");
    mm_heap_free(&world->heap, run);
    T_EXPECT_PANIC(mm_heap_free(&world->heap, run), &info);
    expect(&info, run, "double free of an object", "free, a run of pages", UINT64_C(13) * 4096,
           "heap");
    T_EXPECT_PANIC(mm_heap_free_on(&world->heap, 1, run), &info);
    T_EXPECT_PANIC(mm_heap_free(&world->heap, run + 4096), &info);
    expect(&info, run + 4096, "free of an address that holds no object", "nothing", 0, "heap");
    T_EXPECT_PANIC((void)!mm_heap_realloc(&world->heap, run, 60000), &info);
    /* Once its pages are back at the source, nothing is known of it. */
    assert_int_equal(mm_heap_reclaim(&world->heap) >= 13, 1);
    T_EXPECT_PANIC(mm_heap_free(&world->heap, run), &info);
    expect(&info, run, "free of an address that holds no object", "nothing", 0, "heap");
}

static void test_wild(void **state)
{
    static char elsewhere[64];
    uint64_t base = world->inner.base;
    const uint64_t wild[] = {1,
                             4096,
                             base,
                             base - 4096,
                             base + world->inner.len,
                             base + world->inner.len - 4096,
                             (uintptr_t)elsewhere,
                             UINT64_C(1) << 47,
                             UINT64_C(0xffff800000000000),
                             UINT64_MAX,
                             UINT64_MAX - 4095};
    struct t_trap_info info;

    (void)state;
    for (unsigned i = 0; i < sizeof(wild) / sizeof(wild[0]); i++) {
        void *address = (void *)(uintptr_t)wild[i];

        T_EXPECT_PANIC(mm_heap_free(&world->heap, address), &info);
        expect(&info, address, "free of an address that holds no object", "nothing", 0, "heap");
        T_EXPECT_PANIC(mm_heap_free_on(&world->heap, 0, address), &info);
        T_EXPECT_PANIC((void)!mm_heap_realloc(&world->heap, address, 100), &info);
        T_EXPECT_PANIC(mm_cache_free(&cache, address), &info);
        expect(&info, address, "free of an address that holds no object", "nothing", 0, "sixty");
        assert_int_equal(mm_heap_usable_size(&world->heap, address), 0);
    }
}

static void test_foreign(void **state)
{
    void *object = mm_cache_alloc(&cache);
    void *mine = mm_heap_alloc(&world->heap, 64);
    struct t_trap_info info;

    (void)state;
    T_EXPECT_PANIC(mm_heap_free(&world->heap, object), &info);
    expect(&info, object, "free of an object of another cache or heap", "sixty", 64, "heap");
    T_EXPECT_PANIC(mm_heap_free_on(&world->heap, 0, object), &info);
    expect(&info, object, "free of an object of another cache or heap", "sixty", 64, "heap");
    T_EXPECT_PANIC((void)!mm_heap_realloc(&world->heap, object, 64), &info);
    T_EXPECT_PANIC(mm_cache_free(&cache, mine), &info);
    expect(&info, mine, "free of an object of another cache or heap", "heap", 64, "sixty");
    mm_heap_free(&world->heap, mine);
    mm_cache_free(&cache, object);
    T_EXPECT_PANIC(mm_cache_free(&cache, object), &info);
    expect(&info, object, "double free of an object", "free, an object of", 64, "sixty");
    T_EXPECT_PANIC(mm_cache_free(&cache, (char *)object + 16), &info);
    expect(&info, (char *)object + 16, "free of the inside of an object that is free",
           "free, an object that began at", (uintptr_t)object, "sixty");
}

/* --- sizes ------------------------------------------------------------------------------------ */

static void test_sizes_without_end(void **state)
{
    const uint64_t edges[] = {
        UINT64_MAX,        UINT64_MAX - 15,   UINT64_MAX - 4094, UINT64_MAX - 4095,
        UINT64_MAX - 4096, UINT64_C(1) << 63, UINT64_C(1) << 56, (UINT64_C(1) << 52) + 1,
        UINT64_C(1) << 52, UINT64_C(1) << 47, 16 * MiB + 1,      16 * MiB};
    void *object = mm_heap_alloc(&world->heap, 5);
    uint64_t nr_failed = world_stats(world).nr_failed;
    uint64_t nr_out = world->nr_out;

    (void)state;
    memcpy(object, "four", 5);
    for (unsigned i = 0; i < sizeof(edges) / sizeof(edges[0]); i++) {
        size_t size = edges[i];

        assert_null(mm_heap_alloc(&world->heap, size));
        assert_null(mm_heap_alloc_on(&world->heap, 1, size));
        assert_null(mm_heap_alloc_zeroed(&world->heap, size));
        assert_null(mm_heap_alloc_aligned(&world->heap, 64, size));
        assert_null(mm_heap_alloc_aligned(&world->heap, MM_HEAP_MAX_ALIGN, size));
        assert_null(mm_heap_realloc(&world->heap, object, size));
        assert_null(mm_heap_realloc(&world->heap, NULL, size));
        assert_string_equal(object, "four");
    }
    assert_int_equal(world_stats(world).nr_failed,
                     nr_failed + 7 * sizeof(edges) / sizeof(edges[0]));
    assert_int_equal(world_stats(world).nr_objects, 1);
    assert_true(world->nr_out <= nr_out + 2);
    mm_heap_free(&world->heap, object);
}

static void test_alignments(void **state)
{
    const uint64_t bad[] = {0, 3, 24, 4097, 2 * MiB + 1, 4 * MiB, UINT64_C(1) << 63, UINT64_MAX};

    (void)state;
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_null(mm_heap_alloc_aligned(&world->heap, bad[i], 64));
        assert_null(mm_heap_alloc_aligned(&world->heap, bad[i], 100000));
    }
    assert_int_equal(world_stats(world).nr_objects, 0);
}

/* --- statuses --------------------------------------------------------------------------------- */

static void test_heap_statuses(void **state)
{
    static struct mm_heap none;
    static struct mm_pool no_pool;
    struct mm_heap_stats stats;
    struct t_trap_info info;
    char before[sizeof(struct mm_heap_stats)];

    (void)state;
    assert_int_equal(mm_heap_init(NULL, &world->pool, NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_heap_init(&none, NULL, NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_heap_init(&none, &no_pool, NULL), MM_ERR_NOT_INITIALIZED);
    assert_int_equal(mm_heap_init(&world->heap, &world->pool, NULL), MM_ERR_ALREADY_INITIALIZED);
    assert_int_equal(mm_heap_destroy(NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_heap_destroy(&none), MM_ERR_NOT_INITIALIZED);
    assert_int_equal(mm_heap_check(NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_heap_check(&none), MM_ERR_NOT_INITIALIZED);
    memset(&stats, 0x77, sizeof(stats));
    memcpy(before, &stats, sizeof(stats));
    assert_int_equal(mm_heap_get_stats(NULL, &stats), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_heap_get_stats(&world->heap, NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_heap_get_stats(&none, &stats), MM_ERR_NOT_INITIALIZED);
    assert_memory_equal(before, &stats, sizeof(stats));

    assert_null(mm_heap_alloc(NULL, 1));
    assert_null(mm_heap_alloc(&none, 1));
    assert_null(mm_heap_alloc_on(NULL, 0, 1));
    assert_null(mm_heap_alloc_on(&none, 0, 1));
    assert_null(mm_heap_alloc_zeroed(NULL, 1));
    assert_null(mm_heap_alloc_zeroed(&none, 1));
    assert_null(mm_heap_alloc_aligned(NULL, 16, 1));
    assert_null(mm_heap_alloc_aligned(&none, 16, 1));
    assert_null(mm_heap_realloc(NULL, NULL, 1));
    assert_null(mm_heap_realloc(&none, NULL, 1));
    assert_int_equal(mm_heap_usable_size(NULL, &none), 0);
    assert_int_equal(mm_heap_usable_size(&none, &none), 0);
    assert_int_equal(mm_heap_usable_size(&world->heap, NULL), 0);
    assert_int_equal(mm_heap_reclaim(NULL), 0);
    assert_int_equal(mm_heap_reclaim(&none), 0);
    mm_heap_free(NULL, NULL);
    mm_heap_free(&none, NULL);
    /* Nobody was told of a panic hook: the CPU stops. */
    T_EXPECT_SIGILL(mm_heap_free(NULL, before), &info);
    T_EXPECT_SIGILL(mm_heap_free(&none, before), &info);
    T_EXPECT_SIGILL(mm_heap_free_on(&none, 0, before), &info);
    T_EXPECT_SIGILL((void)!mm_heap_realloc(&none, before, 1), &info);
}

/* A CPU guesses where the next object that it frees lies. It must not guess a slab that is gone,
 * whose base is 0: NULL and small addresses are in none. */
static void test_after_the_last_slab(void **state)
{
    struct t_trap_info info;
    void *object = mm_heap_alloc_on(&world->heap, 0, 64);

    (void)state;
    assert_non_null(object);
    mm_heap_free_on(&world->heap, 0, object);
    assert_true(mm_heap_reclaim(&world->heap) != 0);
    mm_heap_free_on(&world->heap, 0, NULL);
    mm_heap_free_on(&world->heap, 1, NULL); /* which has freed nothing yet */
    assert_int_equal(mm_heap_check(&world->heap), MM_OK);
    T_EXPECT_PANIC(mm_heap_free_on(&world->heap, 0, (void *)64), &info);
    T_EXPECT_PANIC(mm_heap_free_on(&world->heap, 0, object), &info);
    assert_int_equal(info.address, (uintptr_t)object);
    assert_int_equal(mm_heap_check(&world->heap), MM_OK);
    object = mm_heap_alloc_on(&world->heap, 0, 64);
    assert_non_null(object);
    mm_heap_free_on(&world->heap, 0, object);
}

static void test_heap_busy(void **state)
{
    void *a = mm_heap_alloc(&world->heap, 100);
    void *b = mm_heap_alloc(&world->heap, 100);
    void *run = mm_heap_alloc(&world->heap, 100000);

    (void)state;
    world->log.nr_lines = 0;
    assert_int_equal(mm_heap_destroy(&world->heap), MM_ERR_BUSY);
    assert_int_equal(world->log.nr_lines, 2);
    assert_string_equal(world->log.last, "heap: heap: 1 runs of pages were not freed");
    mm_heap_free(&world->heap, run);
    assert_int_equal(mm_heap_destroy(&world->heap), MM_ERR_BUSY);
    assert_string_equal(world->log.last, "heap: heap: 2 objects of 112 bytes were not freed");
    assert_int_equal(mm_heap_check(&world->heap), MM_OK);
    mm_heap_free(&world->heap, a);
    mm_heap_free(&world->heap, b);
}

static void test_cache_statuses(void **state)
{
    static struct mm_cache none;
    static struct mm_pool no_pool;
    struct mm_cache_config config = {.size = 100};
    struct mm_cache_stats stats;
    struct mm_cache_stats before;
    struct t_trap_info info;
    void *object;

    (void)state;
    assert_int_equal(mm_cache_init(NULL, &world->pool, &config), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_cache_init(&none, NULL, &config), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_cache_init(&none, &world->pool, NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_cache_init(&none, &no_pool, &config), MM_ERR_NOT_INITIALIZED);
    assert_int_equal(mm_cache_init(&cache, &world->pool, &config), MM_ERR_ALREADY_INITIALIZED);
    config.flags = 2;
    assert_int_equal(mm_cache_init(&none, &world->pool, &config), MM_ERR_INVALID_FLAGS);
    config.flags = 0;
    config.size = 0;
    assert_int_equal(mm_cache_init(&none, &world->pool, &config), MM_ERR_INVALID_SIZE);
    config.size = MM_CACHE_MAX_SIZE + 1;
    assert_int_equal(mm_cache_init(&none, &world->pool, &config), MM_ERR_INVALID_SIZE);
    config.size = UINT64_MAX;
    assert_int_equal(mm_cache_init(&none, &world->pool, &config), MM_ERR_INVALID_SIZE);
    config.size = 100;
    config.align = 3;
    assert_int_equal(mm_cache_init(&none, &world->pool, &config), MM_ERR_INVALID_ARGUMENT);
    config.align = 8192;
    assert_int_equal(mm_cache_init(&none, &world->pool, &config), MM_ERR_INVALID_ARGUMENT);

    memset(&stats, 0x77, sizeof(stats));
    before = stats;
    assert_int_equal(mm_cache_get_stats(NULL, &stats), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_cache_get_stats(&cache, NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_cache_get_stats(&none, &stats), MM_ERR_NOT_INITIALIZED);
    assert_memory_equal(&before, &stats, sizeof(stats));
    assert_int_equal(mm_cache_check(NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_cache_check(&none), MM_ERR_NOT_INITIALIZED);
    assert_int_equal(mm_cache_destroy(NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_cache_destroy(&none), MM_ERR_NOT_INITIALIZED);
    assert_null(mm_cache_alloc(NULL));
    assert_null(mm_cache_alloc(&none));
    assert_null(mm_cache_alloc_on(NULL, 0));
    assert_null(mm_cache_alloc_on(&none, 0));
    assert_int_equal(mm_cache_reclaim(NULL), 0);
    assert_int_equal(mm_cache_reclaim(&none), 0);
    mm_cache_free(NULL, NULL);
    mm_cache_free(&none, NULL);
    mm_cache_free(&cache, NULL);
    T_EXPECT_SIGILL(mm_cache_free(NULL, &none), &info);
    T_EXPECT_SIGILL(mm_cache_free(&none, &none), &info);

    object = mm_cache_alloc(&cache);
    assert_int_equal(mm_cache_destroy(&cache), MM_ERR_BUSY);
    assert_string_equal(world->log.last, "heap: sixty: 1 objects of 64 bytes were not freed");
    mm_cache_free(&cache, object);
}

static void test_pool_statuses(void **state)
{
    static struct mm_pool none;
    struct mm_pool_config good = world_pool_config(world, 1);
    struct mm_pool_config config = good;
    struct mm_page_source_ops half = {.alloc = world_alloc_pages};
    struct mm_pool_stats stats;

    (void)state;
    assert_int_equal(mm_pool_init(NULL, &config), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_pool_init(&none, NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_pool_init(&world->pool, &config), MM_ERR_ALREADY_INITIALIZED);
    config.nr_cpus = 0;
    assert_int_equal(mm_pool_init(&none, &config), MM_ERR_INVALID_ARGUMENT);
    config.nr_cpus = 1025;
    assert_int_equal(mm_pool_init(&none, &config), MM_ERR_INVALID_ARGUMENT);
    config = good;
    config.source.ops = NULL;
    assert_int_equal(mm_pool_init(&none, &config), MM_ERR_INVALID_ARGUMENT);
    config.source.ops = &half;
    assert_int_equal(mm_pool_init(&none, &config), MM_ERR_INVALID_ARGUMENT);
    half = (struct mm_page_source_ops){.free = world_free_pages};
    assert_int_equal(mm_pool_init(&none, &config), MM_ERR_INVALID_ARGUMENT);
    config = good;
    config.flags = 1;
    assert_int_equal(mm_pool_init(&none, &config), MM_ERR_INVALID_FLAGS);
    config = good;
    config.source.base += 16;
    assert_int_equal(mm_pool_init(&none, &config), MM_ERR_NOT_ALIGNED);
    config = good;
    config.source.len += 1;
    assert_int_equal(mm_pool_init(&none, &config), MM_ERR_NOT_ALIGNED);
    config.source.len = 0;
    assert_int_equal(mm_pool_init(&none, &config), MM_ERR_INVALID_SIZE);
    config.source.len = (UINT64_C(1) << 52) + 4096;
    assert_int_equal(mm_pool_init(&none, &config), MM_ERR_INVALID_SIZE);
    config.source.base = UINT64_MAX - 4095;
    config.source.len = 8192;
    assert_int_equal(mm_pool_init(&none, &config), MM_ERR_INVALID_SIZE);
    config = good;
    config.source.len = UINT64_C(1) << 40; /* needs pages for the root */
    t_inject_nth(&world->inject, 1);
    assert_int_equal(mm_pool_init(&none, &config), MM_ERR_NO_MEMORY);
    t_inject_never(&world->inject);

    assert_int_equal(mm_pool_destroy(NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_pool_destroy(&none), MM_ERR_NOT_INITIALIZED);
    assert_int_equal(mm_pool_destroy(&world->pool), MM_ERR_BUSY);
    assert_int_equal(mm_pool_get_stats(NULL, &stats), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_pool_get_stats(&world->pool, NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_pool_get_stats(&none, &stats), MM_ERR_NOT_INITIALIZED);
    assert_int_equal(mm_pool_get_stats(&world->pool, &stats), MM_OK);
    assert_int_equal(stats.nr_users, 2);
    for (unsigned i = 0; i < sizeof(none); i++) {
        assert_int_equal(((char *)&none)[i], 0);
    }
}

/* Init with many CPUs takes pages: a failure leaves nothing behind. */
static void test_init_without_memory(void **state)
{
    static struct mm_pool pool;
    static struct mm_heap heap;
    static struct mm_cache other;
    struct mm_pool_config config = world_pool_config(world, 1000);
    struct mm_cache_config cache_config = {.size = 100};
    uint64_t nr_out = world->nr_out;

    (void)state;
    assert_int_equal(mm_pool_init(&pool, &config), MM_OK);
    t_inject_nth(&world->inject, 1);
    assert_int_equal(mm_heap_init(&heap, &pool, NULL), MM_ERR_NO_MEMORY);
    t_inject_nth(&world->inject, 1);
    assert_int_equal(mm_cache_init(&other, &pool, &cache_config), MM_ERR_NO_MEMORY);
    t_inject_never(&world->inject);
    assert_int_equal(world->nr_out, nr_out);
    assert_int_equal(mm_cache_init(&other, &pool, &cache_config), MM_OK);
    assert_int_equal(mm_cache_destroy(&other), MM_OK);
    assert_int_equal(mm_heap_init(&heap, &pool, NULL), MM_OK);
    assert_int_equal(mm_heap_destroy(&heap), MM_OK);
    assert_int_equal(mm_pool_destroy(&pool), MM_OK);
    assert_int_equal(world->nr_out, nr_out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_double_free, start, stop),
        cmocka_unit_test_setup_teardown(test_double_free_of_a_slab_that_is_gone, start, stop),
        cmocka_unit_test_setup_teardown(test_inner_pointer, start, stop),
        cmocka_unit_test_setup_teardown(test_end_of_a_slab, start, stop),
        cmocka_unit_test_setup_teardown(test_runs, start, stop),
        cmocka_unit_test_setup_teardown(test_wild, start, stop),
        cmocka_unit_test_setup_teardown(test_foreign, start, stop),
        cmocka_unit_test_setup_teardown(test_sizes_without_end, start, stop),
        cmocka_unit_test_setup_teardown(test_alignments, start, stop),
        cmocka_unit_test_setup_teardown(test_heap_statuses, start, stop),
        cmocka_unit_test_setup_teardown(test_heap_busy, start, stop),
        cmocka_unit_test_setup_teardown(test_after_the_last_slab, start, stop),
        cmocka_unit_test_setup_teardown(test_cache_statuses, start, stop),
        cmocka_unit_test_setup_teardown(test_pool_statuses, start, stop),
        cmocka_unit_test_setup_teardown(test_init_without_memory, start, stop),
    };

    return cmocka_run_group_tests_name("heap_bad_input", tests, NULL, NULL);
}
