// SPDX-License-Identifier: MIT
/**
 * A heap over a buffer and nothing else: how little is enough, where it may begin, what keeps it
 * from being taken down, and that nobody is called.
 */
#include "heap_world.h"

#define PAGE UINT64_C(4096)

static char buffer[64 * 4096] __attribute__((aligned(4096)));
static struct mm_heap_region region;

static int start(void **state)
{
    (void)state;
    memset(&region, 0, sizeof(region));
    memset(buffer, 0xbd, sizeof(buffer)); /* as it was somebody's */
    return 0;
}

static bool all(const void *at, uint64_t len, unsigned char byte)
{
    const unsigned char *bytes = at;

    for (uint64_t i = 0; i < len; i++) {
        if (bytes[i] != byte) {
            return false;
        }
    }
    return true;
}

static void test_statuses(void **state)
{
    (void)state;
    assert_int_equal(mm_heap_region_init(NULL, buffer, sizeof(buffer)), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_heap_region_init(&region, NULL, sizeof(buffer)), MM_ERR_INVALID_ARGUMENT);
    for (uint64_t len = 0; len < 2 * PAGE; len += len % PAGE == PAGE - 1 ? 1 : PAGE - 1) {
        assert_int_equal(mm_heap_region_init(&region, buffer, len), MM_ERR_INVALID_SIZE);
    }
    assert_int_equal(mm_heap_region_init(&region, buffer + 1, 3 * PAGE - 2), MM_ERR_INVALID_SIZE);
    assert_int_equal(mm_heap_region_init(&region, buffer, UINT64_MAX), MM_ERR_INVALID_SIZE);
    assert_int_equal(mm_heap_region_init(&region, buffer, UINT64_MAX - (uintptr_t)buffer + 2),
                     MM_ERR_INVALID_SIZE);
    assert_int_equal(mm_heap_region_init(&region, (void *)(UINT64_MAX - 5 * PAGE), 6 * PAGE),
                     MM_ERR_INVALID_SIZE);
    assert_int_equal(mm_heap_region_init(&region, (void *)UINT64_MAX, 1), MM_ERR_INVALID_SIZE);
    assert_int_equal(mm_heap_region_destroy(NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_heap_region_destroy(&region), MM_ERR_NOT_INITIALIZED);
    assert_true(all(&region, sizeof(region), 0));
    assert_true(all(buffer, sizeof(buffer), 0xbd));
    assert_int_equal(mm_heap_region_init(&region, buffer, sizeof(buffer)), MM_OK);
    assert_int_equal(mm_heap_region_init(&region, buffer, sizeof(buffer)),
                     MM_ERR_ALREADY_INITIALIZED);
    assert_int_equal(mm_heap_region_destroy(&region), MM_OK);
    assert_true(all(&region, sizeof(region), 0));
    assert_int_equal(mm_heap_region_destroy(&region), MM_ERR_NOT_INITIALIZED);
    assert_int_equal(mm_heap_region_init(&region, buffer, sizeof(buffer)), MM_OK);
    assert_int_equal(mm_heap_region_destroy(&region), MM_OK);
}

/** Objects of a page that fit, each of them written. */
static unsigned count_pages(void)
{
    void *objects[80];
    unsigned nr = 0;

    while ((objects[nr] = mm_heap_alloc(&region.heap, PAGE)) != NULL) {
        assert_true((char *)objects[nr] >= buffer);
        assert_true((char *)objects[nr] + PAGE <= buffer + sizeof(buffer));
        memset(objects[nr++], 0x42, PAGE);
    }
    for (unsigned i = 0; i < nr; i++) {
        assert_true(all(objects[i], PAGE, 0x42));
        mm_heap_free(&region.heap, objects[i]);
    }
    assert_int_equal(mm_heap_check(&region.heap), MM_OK);
    return nr;
}

/* The contract says what is spent: a page for the bitmap, one for descriptors, above 128 KiB one
 * for the table. What else there is can be had. */
static void test_smallest(void **state)
{
    (void)state;
    for (uint64_t pages = 2; pages <= 64; pages++) {
        uint64_t spent = pages <= 32 ? 2 : 3;
        uint64_t nr_slabs = 0;

        assert_int_equal(mm_heap_region_init(&region, buffer, pages * PAGE), MM_OK);
        assert_int_equal(mm_heap_alloc(&region.heap, 1) != NULL, pages >= 3);
        assert_int_equal(mm_heap_region_destroy(&region), pages >= 3 ? MM_ERR_BUSY : MM_OK);
        if (pages < 3) {
            continue;
        }
        memset(&region, 0, sizeof(region)); /* the object was not freed: begin again */
        assert_int_equal(mm_heap_region_init(&region, buffer, pages * PAGE), MM_OK);
        nr_slabs = count_pages();
        assert_int_equal(nr_slabs, pages - spent);
        assert_int_equal(mm_heap_region_destroy(&region), MM_OK);
        /* Nothing behind it was touched. */
        assert_true(all(buffer + pages * PAGE, sizeof(buffer) - pages * PAGE, 0xbd));
    }
}

/* From any address on, to any other: only whole pages are used, and all of them. */
static void test_unaligned(void **state)
{
    static const uint64_t offsets[] = {0, 1, 8, 16, 2048, 4095, 4096, 4097, 12345};
    const unsigned nr = sizeof(offsets) / sizeof(offsets[0]);

    (void)state;
    for (unsigned a = 0; a < nr; a++) {
        for (unsigned b = 0; b < nr; b++) {
            uint64_t len = 30 * PAGE - offsets[a] - offsets[b];
            uint64_t first = (offsets[a] + PAGE - 1) / PAGE;
            uint64_t end = (30 * PAGE - offsets[b]) / PAGE;
            void *object;

            memset(buffer, 0xbd, sizeof(buffer));
            assert_int_equal(mm_heap_region_init(&region, buffer + offsets[a], len), MM_OK);
            object = mm_heap_alloc(&region.heap, 100);
            assert_non_null(object);
            mm_heap_free_sized(&region.heap, object, 100, 0);
            mm_heap_reclaim(&region.heap);
            assert_int_equal(count_pages(), end - first - 2);
            assert_int_equal(mm_heap_region_destroy(&region), MM_OK);
            assert_true(all(buffer, first * PAGE, 0xbd));
            assert_true(all(buffer + end * PAGE, sizeof(buffer) - end * PAGE, 0xbd));
        }
    }
}

/* Everything that a heap can do, without one op; any CPU's number will do. */
static void test_complete(void **state)
{
    struct mm_heap_stats stats;
    struct t_mheap model;
    struct t_prng prng;

    (void)state;
    t_prng_start(&prng, "heap region");
    t_mheap_init(&model, (uintptr_t)buffer, (uintptr_t)buffer + sizeof(buffer));
    assert_int_equal(mm_heap_region_init(&region, buffer, sizeof(buffer)), MM_OK);
    for (unsigned i = 0; i < 20000; i++) {
        uint32_t cpu = (uint32_t)t_prng_magnitude(&prng, 32);
        uint64_t size = t_prng_magnitude(&prng, 14);
        void *object;

        if (model.nr > 0 && t_prng_chance(&prng, 1, 2)) {
            object = (void *)(uintptr_t)model.blocks[t_prng_below(&prng, model.nr)].address;
            if (t_prng_chance(&prng, 1, 3)) {
                void *moved = mm_heap_realloc(&region.heap, object, size);

                if (moved != NULL) {
                    T_LEGAL(t_mheap_resize(&model, object, moved, size, 16));
                }
                continue;
            }
            T_LEGAL(t_mheap_remove(&model, object));
            mm_heap_free_on(&region.heap, cpu, object);
        } else {
            object = t_prng_chance(&prng, 1, 2)
                         ? mm_heap_alloc_on(&region.heap, cpu, size)
                         : mm_heap_alloc_with(&region.heap, size, 0, MM_HEAP_ATOMIC);
            if (object != NULL) {
                T_LEGAL(t_mheap_add(&model, object, size, 16));
            }
        }
    }
    assert_int_equal(mm_heap_check(&region.heap), MM_OK);
    assert_int_equal(mm_heap_get_stats(&region.heap, &stats), MM_OK);
    assert_int_equal(stats.nr_objects, model.nr);
    assert_true(stats.nr_failed > 0);
    while (model.nr > 0) {
        void *object = (void *)(uintptr_t)model.blocks[0].address;

        T_LEGAL(t_mheap_remove(&model, object));
        mm_heap_free(&region.heap, object);
    }
    t_mheap_destroy(&model);
    assert_int_equal(mm_heap_region_destroy(&region), MM_OK);
}

/* Misuse stops the CPU: there is no panic op to tell. */
static void test_misuse(void **state)
{
    struct t_trap_info info;
    void *object;

    (void)state;
    assert_int_equal(mm_heap_region_init(&region, buffer, sizeof(buffer)), MM_OK);
    object = mm_heap_alloc(&region.heap, 100);
    mm_heap_free(&region.heap, object);
    T_EXPECT_SIGILL(mm_heap_free(&region.heap, object), &info);
    T_EXPECT_SIGILL(mm_heap_free(&region.heap, buffer), &info);
    assert_int_equal(mm_heap_check(&region.heap), MM_OK);
    assert_int_equal(mm_heap_region_destroy(&region), MM_OK);
}

/* --- what keeps it ------------------------------------------------------------------------------*/

static void expect_busy(void)
{
    static struct mm_heap_region before;
    static char contents[sizeof(buffer)];

    before = region;
    memcpy(contents, buffer, sizeof(buffer));
    assert_int_equal(mm_heap_region_destroy(&region), MM_ERR_BUSY);
    assert_memory_equal(&before, &region, sizeof(region));
    assert_memory_equal(contents, buffer, sizeof(buffer));
    assert_int_equal(mm_heap_check(&region.heap), MM_OK);
}

static void test_busy(void **state)
{
    struct mm_cache_config config = {.name = "guest", .size = 500};
    static const uint64_t sizes[] = {1, 500, 8192, 9000, 50000};
    static struct mm_cache cache;
    static struct mm_heap heap;
    struct mm_page_source source;
    void *objects[5];
    void *pages;

    (void)state;
    assert_int_equal(mm_heap_region_init(&region, buffer, sizeof(buffer)), MM_OK);
    for (unsigned i = 0; i < 5; i++) {
        objects[i] = mm_heap_alloc(&region.heap, sizes[i]);
        assert_non_null(objects[i]);
        expect_busy();
    }
    for (unsigned i = 0; i < 5; i++) {
        mm_heap_free(&region.heap, objects[i]);
        if (i < 4) {
            expect_busy();
        }
    }
    /* A cache over the pool, with objects and without. */
    assert_int_equal(mm_cache_init(&cache, &region.pool, &config), MM_OK);
    expect_busy();
    objects[0] = mm_cache_alloc(&cache);
    assert_non_null(objects[0]);
    expect_busy();
    mm_cache_free(&cache, objects[0]);
    expect_busy();
    assert_int_equal(mm_cache_destroy(&cache), MM_OK);
    /* Another heap. */
    assert_int_equal(mm_heap_init(&heap, &region.pool, NULL), MM_OK);
    expect_busy();
    assert_int_equal(mm_heap_destroy(&heap), MM_OK);
    /* Pages of the buffer, taken past the heap. */
    source = mm_page_source_range(&region.range);
    assert_int_equal(source.ops->alloc(source.ctx, 1, 1, 0, &pages), MM_OK);
    expect_busy();
    source.ops->free(source.ctx, pages, 1);
    assert_int_equal(source.ops->alloc(source.ctx, 7, 1, 0, &pages), MM_OK);
    expect_busy();
    source.ops->free(source.ctx, (char *)pages + PAGE, 6);
    expect_busy();
    source.ops->free(source.ctx, pages, 1);
    assert_int_equal(mm_heap_region_destroy(&region), MM_OK);
    assert_true(all(&region, sizeof(region), 0));
}

/* Empty slabs, descriptors and the table do not keep it. */
static void test_not_busy(void **state)
{
    void *objects[30];

    (void)state;
    assert_int_equal(mm_heap_region_init(&region, buffer, sizeof(buffer)), MM_OK);
    for (unsigned round = 0; round < 4; round++) {
        for (unsigned i = 0; i < 30; i++) {
            objects[i] = mm_heap_alloc(&region.heap, UINT64_C(16) << (i + round) % 9);
            assert_non_null(objects[i]);
        }
        for (unsigned i = 0; i < 30; i++) {
            mm_heap_free(&region.heap, objects[i]);
        }
    }
    mm_heap_free(&region.heap, mm_heap_alloc(&region.heap, 20000));
    assert_int_equal(mm_heap_region_destroy(&region), MM_OK);
}

/* The table of a large buffer has pages of its own: it finds room in a buffer of any size. */
static void test_large(void **state)
{
    static const uint64_t lens[] = {64 * MiB, 65 * MiB, 1024 * MiB, 8192 * MiB, 8193 * MiB};

    (void)state;
    for (unsigned i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
        void *memory = mmap(NULL, lens[i], PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        struct mm_pool_stats stats;
        char *last;
        void *object;

        assert_ptr_not_equal(memory, MAP_FAILED);
        assert_int_equal(mm_heap_region_init(&region, memory, lens[i]), MM_OK);
        assert_int_equal(mm_pool_get_stats(&region.pool, &stats), MM_OK);
        assert_true(stats.nr_meta_pages <= 8);
        assert_true(lens[i] > 64 * MiB || stats.nr_meta_pages == 0);
        /* All but little of it in one run, and an object beside it. */
        last = mm_heap_alloc(&region.heap, lens[i] - MiB);
        object = mm_heap_alloc(&region.heap, 100);
        assert_non_null(last);
        assert_non_null(object);
        last[lens[i] - MiB - 1] = 1;
        mm_heap_free_sized(&region.heap, last, lens[i] - MiB, 0);
        mm_heap_free(&region.heap, object);
        assert_int_equal(mm_heap_region_destroy(&region), MM_OK);
        munmap(memory, lens[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_statuses, start),  cmocka_unit_test_setup(test_smallest, start),
        cmocka_unit_test_setup(test_unaligned, start), cmocka_unit_test_setup(test_complete, start),
        cmocka_unit_test_setup(test_misuse, start),    cmocka_unit_test_setup(test_busy, start),
        cmocka_unit_test_setup(test_not_busy, start),  cmocka_unit_test_setup(test_large, start),
    };

    return cmocka_run_group_tests_name("heap_region", tests, NULL, NULL);
}
