// SPDX-License-Identifier: MIT
/**
 * The general heap: sizes, alignment, resizing, growing and giving back. What must be refused is in
 * test_heap_bad_input.c.
 */
#include "heap_world.h"

static const uint64_t class_sizes[MM_HEAP_NR_CLASSES] = {
    16,  32,  48,  64,   80,   96,   112,  128,  160,  192,  224,  256,  320,  384,  448,  512,
    640, 768, 896, 1024, 1280, 1536, 1792, 2048, 2560, 3072, 3584, 4096, 5120, 6144, 7168, 8192};

static struct world *world;

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

static uint64_t natural(uint64_t size)
{
    return size >= 16 && (size & (size - 1)) == 0 ? (size > 4096 ? 4096 : size) : 16;
}

/* Each size up to 8 KiB gets the smallest class that holds it, aligned as promised. */
static void test_sizes(void **state)
{
    unsigned class = 0;

    (void)state;
    for (uint64_t size = 0; size <= 8192; size++) {
        void *object = mm_heap_alloc(&world->heap, size);

        assert_non_null(object);
        class += size > class_sizes[class] ? 1 : 0;
        assert_int_equal(mm_heap_usable_size(&world->heap, object), class_sizes[class]);
        assert_int_equal((uintptr_t)object % natural(size), 0);
        memset(object, 0xff, size);
        mm_heap_free(&world->heap, object);
    }
    assert_int_equal(world_stats(world).nr_objects, 0);
}

/* Several of each class at once do not overlap, keep their bytes, and are aligned. */
static void test_many_of_each(void **state)
{
    struct t_mheap model;

    (void)state;
    t_mheap_init(&model, world->inner.base, world->inner.base + world->inner.len);
    for (unsigned i = 0; i < MM_HEAP_NR_CLASSES; i++) {
        for (unsigned k = 0; k < 300; k++) {
            void *object = mm_heap_alloc_on(&world->heap, k % 2, class_sizes[i]);

            T_LEGAL(t_mheap_add(&model, object, class_sizes[i], natural(class_sizes[i])));
        }
    }
    assert_int_equal(mm_heap_check(&world->heap), MM_OK);
    assert_int_equal(world_stats(world).nr_objects, 300 * MM_HEAP_NR_CLASSES);
    T_LEGAL(t_mheap_verify_all(&model));
    while (model.nr > 0) {
        void *object = (void *)(uintptr_t)model.blocks[model.nr / 2].address;

        T_LEGAL(t_mheap_remove(&model, object));
        mm_heap_free_on(&world->heap, (uint32_t)model.nr % 3, object);
    }
    t_mheap_destroy(&model);
    assert_int_equal(mm_heap_check(&world->heap), MM_OK);
}

static void test_zero_size(void **state)
{
    void *a = mm_heap_alloc(&world->heap, 0);
    void *b = mm_heap_alloc_zeroed(&world->heap, 0);
    void *c = mm_heap_alloc_aligned(&world->heap, 64, 0);
    void *d;

    (void)state;
    assert_non_null(a);
    assert_non_null(b);
    assert_non_null(c);
    assert_ptr_not_equal(a, b);
    assert_ptr_not_equal(b, c);
    assert_int_equal(mm_heap_usable_size(&world->heap, a), 16);
    d = mm_heap_realloc(&world->heap, a, 0);
    assert_ptr_equal(d, a);
    assert_int_equal(world_stats(world).nr_objects, 3);
    mm_heap_free(&world->heap, d);
    mm_heap_free(&world->heap, b);
    mm_heap_free(&world->heap, c);
    mm_heap_free(&world->heap, NULL);
    mm_heap_free_on(&world->heap, 0, NULL);
    mm_heap_free_on(&world->heap, 77, NULL);
}

static void test_zeroed(void **state)
{
    (void)state;
    for (uint64_t size = 1; size < 40000; size = size * 3 / 2 + 1) {
        void *object = mm_heap_alloc(&world->heap, size);

        assert_non_null(object);
        memset(object, 0xee, size);
        mm_heap_free(&world->heap, object);
        object = mm_heap_alloc_zeroed(&world->heap, size);
        assert_non_null(object);
        T_LEGAL(t_mheap_zeroed(object, size));
        mm_heap_free(&world->heap, object);
    }
}

static void test_aligned(void **state)
{
    (void)state;
    for (uint64_t align = 1; align <= MM_HEAP_MAX_ALIGN; align *= 2) {
        for (uint64_t size = 1; size <= 3 * MiB; size = size * 5 / 3 + 1) {
            void *a = mm_heap_alloc_aligned(&world->heap, align, size);
            void *b = mm_heap_alloc_aligned(&world->heap, align, size);

            assert_non_null(a);
            assert_non_null(b);
            assert_int_equal((uintptr_t)a % align, 0);
            assert_int_equal((uintptr_t)b % align, 0);
            assert_true(mm_heap_usable_size(&world->heap, a) >= size);
            memset(a, 1, size);
            memset(b, 2, size);
            assert_int_equal(((unsigned char *)a)[size - 1], 1);
            mm_heap_free(&world->heap, a);
            mm_heap_free(&world->heap, b);
        }
    }
    assert_int_equal(world_stats(world).nr_objects, 0);
}

/* Page-aligned objects of a page cost a page. */
static void test_pages_cost_pages(void **state)
{
    void *objects[512];
    uint64_t before;

    (void)state;
    before = world->nr_out - world_meta(world);
    for (unsigned i = 0; i < 512; i++) {
        objects[i] = mm_heap_alloc(&world->heap, 4096);
        assert_non_null(objects[i]);
        assert_int_equal((uintptr_t)objects[i] % 4096, 0);
    }
    assert_true(world->nr_out - world_meta(world) - before <= 512 + 15);
    for (unsigned i = 0; i < 512; i++) {
        mm_heap_free(&world->heap, objects[i]);
    }
}

/* Contents and alignment survive every change of size. */
static void test_resize(void **state)
{
    static const uint64_t aligns[] = {16, 32, 64, 256, 1024, 4096, 8192, 65536};
    struct t_mheap model;

    (void)state;
    t_mheap_init(&model, 0, 0);
    for (unsigned a = 0; a < sizeof(aligns) / sizeof(aligns[0]); a++) {
        for (uint64_t from = 1; from <= 70000; from = from * 2 + 1) {
            for (uint64_t to = 1; to <= 70000; to = to * 3 - 1 + (to == 1)) {
                void *object = mm_heap_alloc_aligned(&world->heap, aligns[a], from);
                void *moved;

                T_LEGAL(t_mheap_add(&model, object, from, aligns[a]));
                moved = mm_heap_realloc(&world->heap, object, to);
                assert_non_null(moved);
                T_LEGAL(t_mheap_resize(&model, object, moved, to, aligns[a]));
                assert_int_equal((uintptr_t)moved % natural(to), 0);
                assert_true(mm_heap_usable_size(&world->heap, moved) >= to);
                T_LEGAL(t_mheap_remove(&model, moved));
                mm_heap_free(&world->heap, moved);
            }
        }
    }
    t_mheap_destroy(&model);
    assert_int_equal(world_stats(world).nr_objects, 0);
}

/* Not only of the first object of a slab, which is aligned to anything. */
static void test_resize_aligns(void **state)
{
    (void)state;
    for (uint64_t from = 1; from <= 8 * KiB; from += from < 512 ? 1 : 61) {
        for (uint64_t to = 16; to <= 8 * KiB; to *= 2) {
            unsigned char *objects[5];

            for (unsigned i = 0; i < 5; i++) {
                objects[i] = mm_heap_alloc(&world->heap, from);
                assert_non_null(objects[i]);
                memset(objects[i], (int)i + 1, from);
            }
            for (unsigned i = 0; i < 5; i++) {
                objects[i] = mm_heap_realloc(&world->heap, objects[i], to);
                assert_non_null(objects[i]);
                assert_int_equal((uintptr_t)objects[i] % natural(to), 0);
                assert_int_equal(objects[i][(from < to ? from : to) - 1], i + 1);
            }
            for (unsigned i = 0; i < 5; i++) {
                mm_heap_free(&world->heap, objects[i]);
            }
        }
    }
    assert_int_equal(world_stats(world).nr_objects, 0);
}

static void test_resize_in_place(void **state)
{
    void *object = mm_heap_realloc(&world->heap, NULL, 100);
    uint64_t before;

    (void)state;
    assert_non_null(object);
    assert_int_equal(mm_heap_usable_size(&world->heap, object), 112);
    assert_ptr_equal(mm_heap_realloc(&world->heap, object, 112), object);
    assert_ptr_equal(mm_heap_realloc(&world->heap, object, 60), object);
    assert_ptr_not_equal(mm_heap_realloc(&world->heap, object, 40), object);
    mm_heap_reclaim(&world->heap);
    assert_int_equal(world_stats(world).nr_objects, 1);
    assert_int_equal(world_stats(world).object_bytes, 48);

    /* Of half of it or less a smaller place is made, of more it is not. */
    object = mm_heap_alloc(&world->heap, 8 * KiB);
    assert_ptr_equal(mm_heap_realloc(&world->heap, object, 4 * KiB + 1), object);
    object = mm_heap_realloc(&world->heap, object, 4 * KiB);
    assert_int_equal(mm_heap_usable_size(&world->heap, object), 4 * KiB);
    mm_heap_free(&world->heap, object);

    /* A run gives its tail back and stays. */
    object = mm_heap_alloc(&world->heap, 100 * KiB);
    before = world->nr_out;
    assert_ptr_equal(mm_heap_realloc(&world->heap, object, 20 * KiB), object);
    assert_int_equal(before - world->nr_out, 20);
    assert_int_equal(mm_heap_usable_size(&world->heap, object), 20 * KiB);
    assert_int_equal(mm_heap_check(&world->heap), MM_OK);
    mm_heap_free(&world->heap, object);
    /* The object of 48 bytes, wherever it went. */
    for (uint64_t at = world->inner.base; world_stats(world).nr_objects != 0; at += 16) {
        if (mm_heap_usable_size(&world->heap, (void *)(uintptr_t)at) != 0) {
            mm_heap_free(&world->heap, (void *)(uintptr_t)at);
        }
    }
}

static void test_runs(void **state)
{
    void *a = mm_heap_alloc(&world->heap, 8193);
    void *b = mm_heap_alloc(&world->heap, 10 * MiB);
    struct mm_heap_stats stats = world_stats(world);

    (void)state;
    assert_non_null(a);
    assert_non_null(b);
    assert_int_equal(mm_heap_usable_size(&world->heap, a), 12 * KiB);
    assert_int_equal(stats.nr_runs, 2);
    assert_int_equal(stats.run_bytes, 12 * KiB + 10 * MiB);
    assert_int_equal(stats.object_bytes, stats.run_bytes);
    assert_int_equal(mm_heap_check(&world->heap), MM_OK);
    mm_heap_free(&world->heap, b);
    mm_heap_free_on(&world->heap, 1, a);
    stats = world_stats(world);
    assert_int_equal(stats.nr_runs, 0);
    assert_int_equal(stats.run_bytes, 0);
}

/*
 * What is left when everything is freed: at most one slab of a page a class, and one of two pages
 * for the CPU. After reclaim only metadata is left.
 */
static void test_gives_back(void **state)
{
    enum { NR = 200000 };
    void **objects = calloc(NR, sizeof(*objects));
    struct mm_heap_stats stats;

    (void)state;
    assert_non_null(objects);
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < NR; i++) {
            objects[i] = mm_heap_alloc_on(&world->heap, 0, 16 + i * 7 % 240);
            assert_non_null(objects[i]);
        }
        stats = world_stats(world);
        assert_int_equal(stats.nr_objects, NR);
        assert_true(stats.slab_bytes < stats.object_bytes / 10 * 11);
        for (unsigned i = 0; i < NR; i++) {
            /* All over, from the last to the first, from the first to the last. */
            mm_heap_free(&world->heap, objects[round == 0   ? i * UINT64_C(7919) % NR
                                               : round == 1 ? NR - 1 - i
                                                            : i]);
        }
        stats = world_stats(world);
        assert_int_equal(stats.nr_objects, 0);
        assert_true(stats.nr_slabs <= 2 * MM_HEAP_NR_CLASSES);
        assert_true(stats.slab_bytes <= 3 * 12 * 4 * KiB);
        assert_int_equal(stats.nr_empty_slabs, stats.nr_slabs);
        assert_int_equal(mm_heap_check(&world->heap), MM_OK);
    }
    assert_int_equal(mm_heap_reclaim(&world->heap), stats.slab_bytes / MM_PAGE_SIZE);
    assert_int_equal(world->nr_out, world_meta(world));
    assert_int_equal(world_stats(world).nr_slabs, 0);
    assert_int_equal(mm_heap_reclaim(&world->heap), 0);
    assert_int_equal(world->log.grown, world->log.shrunk);
    assert_true(world->log.nr_grow > 100);
    assert_int_equal(mm_heap_check(&world->heap), MM_OK);
    free(objects);
}

/* The last byte is handed out, and NULL is the truth; one object less, and there is one again. */
static void test_exhaustion(void **state)
{
    static const uint64_t sizes[] = {16, 48, 100, 1000, 4096, 5000, 8192, 20000};
    struct world *small = world_of_range(2 * MiB);
    void **objects = calloc(2 * MiB / 16, sizeof(*objects));

    (void)state;
    assert_non_null(objects);
    world_start(small, 2);
    for (unsigned s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
        unsigned nr = 0;
        uint64_t failed = world_stats(small).nr_failed;

        while ((objects[nr] = mm_heap_alloc_on(&small->heap, nr % 2, sizes[s])) != NULL) {
            nr++;
        }
        assert_int_equal(world_stats(small).nr_failed, failed + 1);
        assert_true(nr * sizes[s] > 2 * MiB * 7 / 10);
        assert_int_equal(mm_heap_check(&small->heap), MM_OK);
        /* Single holes all over, too few in a word to be listed, are found nonetheless. */
        for (unsigned i = 0; i < nr; i += 67) {
            mm_heap_free(&small->heap, objects[i]);
            objects[i] = NULL;
        }
        for (unsigned i = 0; i < nr; i += 67) {
            objects[i] = mm_heap_alloc(&small->heap, sizes[s]);
            assert_non_null(objects[i]);
        }
        assert_null(mm_heap_alloc(&small->heap, sizes[s]));
        for (unsigned i = 0; i < nr; i++) {
            mm_heap_free(&small->heap, objects[i]);
        }
        assert_int_equal(mm_heap_check(&small->heap), MM_OK);
    }
    /* Empty slabs of all these sizes lie about: none of them keeps larger objects from its pages.
     */
    for (unsigned i = 0; i < MM_HEAP_NR_CLASSES; i++) {
        mm_heap_free(&small->heap, mm_heap_alloc(&small->heap, class_sizes[i]));
    }
    assert_int_equal(world_stats(small).nr_slabs, MM_HEAP_NR_CLASSES);
    for (unsigned nr = 0;; nr++) {
        objects[nr] = mm_heap_alloc(&small->heap, 9 * KiB);
        if (objects[nr] == NULL) {
            assert_int_equal(world_stats(small).nr_slabs, 0);
            assert_true(small->range.nr_free < small->range.nr_pages / 10);
            while (nr-- > 0) {
                mm_heap_free(&small->heap, objects[nr]);
            }
            break;
        }
    }
    free(objects);
    world_stop(small);
    world_delete(small);
}

/* A heap over one small buffer: the smallest kernel. */
static void test_small_buffer(void **state)
{
    struct world *small = world_of_range(64 * KiB);
    void *object;

    (void)state;
    world_start(small, 1);
    object = mm_heap_alloc(&small->heap, 40);
    assert_non_null(object);
    /* The bitmap, the descriptors, the slab: the rest of 16 pages is free. */
    assert_int_equal(small->range.nr_free, 13);
    mm_heap_free(&small->heap, object);
    world_stop(small);
    world_delete(small);
}

/* More CPUs than have hints inline; any number is taken as a CPU. */
static void test_many_cpus(void **state)
{
    struct world *many = world_of_range(16 * MiB);
    void *objects[1024];

    (void)state;
    world_start(many, 1024);
    for (uint32_t i = 0; i < 1024; i++) {
        many->log.cpu = i * 5;
        objects[i] =
            i % 2 == 0 ? mm_heap_alloc(&many->heap, 64) : mm_heap_alloc_on(&many->heap, i * 7, 64);
        assert_non_null(objects[i]);
    }
    assert_int_equal(mm_heap_check(&many->heap), MM_OK);
    for (uint32_t i = 0; i < 1024; i++) {
        mm_heap_free_on(&many->heap, i * 3, objects[i]);
    }
    assert_int_equal(mm_heap_check(&many->heap), MM_OK);
    mm_heap_reclaim(&many->heap);
    assert_int_equal(many->nr_out, world_meta(many));
    world_stop(many);
    world_delete(many);
}

/* Two heaps and a cache share a pool; each only knows its own. */
static void test_two_heaps(void **state)
{
    static struct mm_heap other;
    void *a;
    void *b;

    (void)state;
    assert_int_equal(mm_heap_init(&other, &world->pool, NULL), MM_OK);
    a = mm_heap_alloc(&world->heap, 64);
    b = mm_heap_alloc(&other, 64);
    assert_int_equal(mm_heap_usable_size(&other, a), 0);
    assert_int_equal(mm_heap_usable_size(&other, b), 64);
    assert_int_equal(mm_pool_destroy(&world->pool), MM_ERR_BUSY);
    assert_int_equal(mm_heap_destroy(&other), MM_ERR_BUSY);
    mm_heap_free(&other, b);
    assert_int_equal(mm_heap_destroy(&other), MM_OK);
    mm_heap_free(&world->heap, a);
    /* Descriptors of the one that is gone serve the other. */
    a = mm_heap_alloc(&world->heap, 3000);
    assert_int_equal(mm_heap_check(&world->heap), MM_OK);
    mm_heap_free(&world->heap, a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_sizes, start, stop),
        cmocka_unit_test_setup_teardown(test_many_of_each, start, stop),
        cmocka_unit_test_setup_teardown(test_zero_size, start, stop),
        cmocka_unit_test_setup_teardown(test_zeroed, start, stop),
        cmocka_unit_test_setup_teardown(test_aligned, start, stop),
        cmocka_unit_test_setup_teardown(test_pages_cost_pages, start, stop),
        cmocka_unit_test_setup_teardown(test_resize, start, stop),
        cmocka_unit_test_setup_teardown(test_resize_aligns, start, stop),
        cmocka_unit_test_setup_teardown(test_resize_in_place, start, stop),
        cmocka_unit_test_setup_teardown(test_runs, start, stop),
        cmocka_unit_test_setup_teardown(test_gives_back, start, stop),
        cmocka_unit_test(test_exhaustion),
        cmocka_unit_test(test_small_buffer),
        cmocka_unit_test(test_many_cpus),
        cmocka_unit_test_setup_teardown(test_two_heaps, start, stop),
    };

    return cmocka_run_group_tests_name("heap", tests, NULL, NULL);
}
