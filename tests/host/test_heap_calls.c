// SPDX-License-Identifier: MIT
/**
 * Allocations with flags, arrays, and frees with a size, on both page sources. The large pool is in
 * test_heap_large.c.
 */
#include "heap_world.h"

#define CLASSES                                                                                    \
    16, 32, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 640, 768, 896, 1024, \
        1280, 1536, 1792, 2048, 2560, 3072, 3584, 4096, 5120, 6144, 7168, 8192

static const uint64_t class_sizes[MM_HEAP_NR_CLASSES] = {CLASSES};

/** Around the edges of the classes, of pages and of runs. */
static const uint64_t some_sizes[] = {0,     1,     15,    16,    17,    100,   128,  129,
                                      1000,  4095,  4096,  4097,  8191,  8192,  8193, 12288,
                                      12289, 20000, 65535, 65536, 65537, 100000};

#define NR_SOME (sizeof(some_sizes) / sizeof(some_sizes[0]))

static struct world *world;
static struct mm_heap *heap;

static int start_range(void **state)
{
    (void)state;
    world = world_of_range(64 * MiB);
    world_start(world, 2);
    heap = &world->heap;
    return 0;
}

static int start_frames(void **state)
{
    (void)state;
    world = world_of_frames(32 * MiB);
    world_start(world, 2);
    heap = &world->heap;
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

static bool aligned(const void *object, uint64_t align)
{
    return ((uintptr_t)object & (align - 1)) == 0;
}

/* --- with flags --------------------------------------------------------------------------------*/

/** Memory of this size that was somebody's, and is full of what he left there. */
static void make_dirty(uint64_t size, uint64_t align)
{
    void *objects[8];

    for (unsigned i = 0; i < 8; i++) {
        objects[i] = mm_heap_alloc_with(heap, size, align, 0);
        assert_non_null(objects[i]);
        memset(objects[i], 0xd1, mm_heap_usable_size(heap, objects[i]));
    }
    for (unsigned i = 0; i < 8; i++) {
        mm_heap_free(heap, objects[i]);
    }
}

/* Every alignment that can be asked for, with sizes below and above it, dirty before. */
static void test_alignments(void **state)
{
    (void)state;
    for (uint64_t align = 1; align <= MM_HEAP_MAX_ALIGN; align *= 2) {
        for (unsigned s = 0; s < NR_SOME; s++) {
            uint64_t size = some_sizes[s];
            unsigned flags = (s + (unsigned)__builtin_ctzll(align)) % 4;
            unsigned char *object;

            make_dirty(size, align);
            object = mm_heap_alloc_with(heap, size, align, flags);
            assert_non_null(object);
            assert_true(aligned(object, align));
            assert_true(aligned(object, natural(size)));
            assert_true(mm_heap_usable_size(heap, object) >= size);
            if ((flags & MM_HEAP_ZEROED) != 0) {
                T_LEGAL(t_mheap_zeroed(object, size));
            }
            memset(object, 0xee, size);
            mm_heap_free_sized(heap, object, size, align);
        }
    }
    assert_int_equal(world_stats(world).nr_objects, 0);
    assert_int_equal(world_stats(world).nr_failed, 0);
    assert_int_equal(mm_heap_check(heap), MM_OK);
}

/* Alignment 0 is that of mm_heap_alloc(): the same class, the same promise. */
static void test_no_alignment(void **state)
{
    (void)state;
    for (unsigned s = 0; s < NR_SOME; s++) {
        void *plain = mm_heap_alloc(heap, some_sizes[s]);
        void *with = mm_heap_alloc_with(heap, some_sizes[s], 0, MM_HEAP_ATOMIC);

        assert_non_null(plain);
        assert_non_null(with);
        assert_true(aligned(with, natural(some_sizes[s])));
        assert_int_equal(mm_heap_usable_size(heap, plain), mm_heap_usable_size(heap, with));
        mm_heap_free(heap, plain);
        mm_heap_free(heap, with);
    }
}

/* What cannot be asked for is NULL, whatever the rest is, and the page source is not asked. */
static void test_refused(void **state)
{
    static const uint64_t bad_aligns[] = {3,
                                          5,
                                          6,
                                          17,
                                          24,
                                          4095,
                                          4097,
                                          MM_HEAP_MAX_ALIGN - 1,
                                          MM_HEAP_MAX_ALIGN + 1,
                                          2 * MM_HEAP_MAX_ALIGN,
                                          UINT64_C(1) << 47,
                                          UINT64_C(1) << 63,
                                          UINT64_MAX};
    static struct mm_heap none;
    uint64_t asked = world->inject.asked;

    (void)state;
    for (unsigned s = 0; s < NR_SOME; s++) {
        for (unsigned a = 0; a < sizeof(bad_aligns) / sizeof(bad_aligns[0]); a++) {
            for (uint32_t flags = 0; flags <= MM_HEAP_FLAGS_ALL; flags++) {
                assert_null(mm_heap_alloc_with(heap, some_sizes[s], bad_aligns[a], flags));
            }
        }
        for (unsigned bit = 3; bit < 32; bit++) {
            assert_null(mm_heap_alloc_with(heap, some_sizes[s], 0, UINT32_C(1) << bit));
            assert_null(
                mm_heap_alloc_with(heap, some_sizes[s], 64, (UINT32_C(1) << bit) | MM_HEAP_ZEROED));
            assert_null(mm_heap_alloc_array(heap, 3, some_sizes[s], UINT32_C(1) << bit));
        }
        assert_null(mm_heap_alloc_with(NULL, some_sizes[s], 0, 0));
        assert_null(mm_heap_alloc_with(&none, some_sizes[s], 0, 0));
        assert_null(mm_heap_alloc_array(NULL, 1, some_sizes[s], 0));
        assert_null(mm_heap_alloc_array(&none, 1, some_sizes[s], 0));
    }
    assert_int_equal(world->inject.asked, asked);
    assert_int_equal(world_stats(world).nr_objects, 0);
    /* Nothing was short. */
    assert_int_equal(world_stats(world).nr_failed, 0);
}

/* The page source hears of it, for every kind of page that the allocation needs, and only then. */
static void test_atomic(void **state)
{
    static const uint64_t sizes[] = {48, 3000, 8192, 9000, 200000};
    void *objects[sizeof(sizes) / sizeof(sizes[0])];

    (void)state;
    for (unsigned round = 0; round < 2; round++) {
        uint32_t flags = round == 0 ? MM_HEAP_ATOMIC : 0;

        for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
            uint64_t before = world->nr_flags[1 - round];
            uint64_t others = world->nr_flags[round];

            objects[i] = mm_heap_alloc_with(heap, sizes[i], 0, flags);
            assert_non_null(objects[i]);
            assert_true(world->nr_flags[1 - round] > before);
            assert_int_equal(world->nr_flags[round], others);
        }
        for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
            mm_heap_free(heap, objects[i]);
        }
        mm_heap_reclaim(heap);
    }
}

/* --- arrays ------------------------------------------------------------------------------------*/

static void test_arrays(void **state)
{
    static const struct {
        uint64_t nr;
        uint64_t size;
    } good[] = {{0, 0},    {0, 8},    {8, 0},     {0, UINT64_MAX}, {UINT64_MAX, 0},
                {1, 1},    {1, 8192}, {8192, 1},  {3, 3},          {7, 512},
                {512, 16}, {513, 16}, {100, 1000}};

    (void)state;
    for (unsigned i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        uint64_t bytes = good[i].nr * good[i].size;
        void *array;
        void *grown;

        make_dirty(bytes, 0);
        array = mm_heap_alloc_array(heap, good[i].nr, good[i].size, MM_HEAP_ZEROED);
        assert_non_null(array);
        assert_true(mm_heap_usable_size(heap, array) >= bytes);
        T_LEGAL(t_mheap_zeroed(array, bytes));
        memset(array, 0x3c, bytes);
        grown = mm_heap_realloc_array(heap, array, good[i].nr, good[i].size);
        assert_ptr_equal(grown, array);
        grown = mm_heap_realloc_array(heap, array, bytes + 1, 3);
        assert_non_null(grown);
        for (uint64_t at = 0; at < bytes; at++) {
            assert_int_equal(((unsigned char *)grown)[at], 0x3c);
        }
        mm_heap_free_sized(heap, grown, (bytes + 1) * 3, 0);
    }
    assert_int_equal(world_stats(world).nr_objects, 0);
}

/* A product that does not fit is NULL, not a short array; the old object is as it was. */
static void test_array_overflow(void **state)
{
    static const struct {
        uint64_t nr;
        uint64_t size;
    } bad[] = {{UINT64_MAX, 2},
               {2, UINT64_MAX},
               {UINT64_C(1) << 32, UINT64_C(1) << 32}, /* the product is 0 */
               {(UINT64_C(1) << 60) + 1, 16},          /* 16 */
               {16, (UINT64_C(1) << 60) + 1},
               {(UINT64_C(1) << 63) + 1, 2}, /* 2 */
               {UINT64_MAX / 16 + 1, 16},    /* 0 */
               {UINT64_MAX / 24 + 1, 24},
               {UINT64_MAX, UINT64_MAX}};
    char *object = mm_heap_alloc_array(heap, 10, 10, 0);
    uint64_t asked = world->inject.asked;

    (void)state;
    strcpy(object, "as it was");
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        for (uint32_t flags = 0; flags <= MM_HEAP_FLAGS_ALL; flags++) {
            assert_null(mm_heap_alloc_array(heap, bad[i].nr, bad[i].size, flags));
        }
        assert_null(mm_heap_realloc_array(heap, object, bad[i].nr, bad[i].size));
        assert_null(mm_heap_realloc_array(heap, NULL, bad[i].nr, bad[i].size));
        assert_string_equal(object, "as it was");
    }
    /* It fits, and no memory does. */
    assert_null(mm_heap_alloc_array(heap, UINT64_MAX / 16, 16, 0));
    assert_null(mm_heap_realloc_array(heap, object, UINT64_MAX, 1));
    assert_string_equal(object, "as it was");
    assert_int_equal(world->inject.asked, asked);
    assert_int_equal(world_stats(world).nr_objects, 1);
    mm_heap_free(heap, mm_heap_realloc_array(heap, object, 3, 5));
    object = mm_heap_realloc_array(heap, NULL, 12, 12);
    assert_non_null(object);
    assert_int_equal(mm_heap_usable_size(heap, object), 160);
    mm_heap_free(heap, object);
}

/* --- frees with a size ------------------------------------------------------------------------- */

/** A size that did not give the object: told, named, and nothing is done. */
static void expect_told(void *object, uint64_t size, uint64_t align)
{
    uint64_t usable = mm_heap_usable_size(heap, object);
    uint64_t nr = world_stats(world).nr_objects;
    struct t_trap_info info;

    T_EXPECT_PANIC(mm_heap_free_sized(heap, object, size, align), &info);
    assert_string_equal(info.room, "heap");
    assert_string_equal(info.what, "free of an object with the size of another");
    assert_int_equal(info.address, (uintptr_t)object);
    assert_string_equal(info.recorded, "bytes at most");
    assert_int_equal(info.recorded_value, usable);
    assert_string_equal(info.claimed, "heap");
    assert_int_equal(info.claimed_value, size);
    assert_int_equal(world_stats(world).nr_objects, nr);
    assert_int_equal(mm_heap_usable_size(heap, object), usable);
}

/* Both ends of every class are right, one byte beyond either is not. */
static void test_sized_classes(void **state)
{
    uint64_t below = 0; /* the largest size of the class before */

    (void)state;
    for (unsigned i = 0; i < MM_HEAP_NR_CLASSES; i++) {
        uint64_t least = i == 0 ? 0 : below + 1;
        uint64_t most = class_sizes[i];

        for (uint64_t size = least; size <= most; size += size == least ? most - least : 1) {
            void *object = mm_heap_alloc(heap, size);

            assert_int_equal(mm_heap_usable_size(heap, object), most);
            if (i > 0) {
                expect_told(object, below, 0);
                expect_told(object, 0, 0);
            }
            expect_told(object, most + 1, 0);
            expect_told(object, UINT64_MAX, 0);
            expect_told(object, 2 * most + 1, 0);
            /* Any size of its class is as good as the one that was asked for. */
            mm_heap_free_sized(heap, object, size == least ? most : least, 0);
            assert_int_equal(world_stats(world).nr_objects, 0);
            if (least == most) {
                break;
            }
        }
        below = most;
    }
    assert_int_equal(mm_heap_check(heap), MM_OK);
}

static void test_sized_runs(void **state)
{
    (void)state;
    for (uint64_t pages = 3; pages <= 40; pages = pages * 3 / 2 + 1) {
        void *object = mm_heap_alloc(heap, pages * 4096 - 7);

        expect_told(object, (pages - 1) * 4096, 0);
        expect_told(object, pages * 4096 + 1, 0);
        expect_told(object, 8192, 0);
        expect_told(object, 100, 0);
        expect_told(object, 0, 0);
        expect_told(object, UINT64_MAX, 0);
        expect_told(object, pages * 4096, 2 * 4096);
        mm_heap_free_sized(heap, object, (pages - 1) * 4096 + 1, 0);
        object = mm_heap_alloc(heap, pages * 4096);
        mm_heap_free_sized(heap, object, pages * 4096, 4096);
    }
    assert_int_equal(world_stats(world).nr_objects, 0);
}

/* The alignment is part of what was asked for. */
static void test_sized_aligned(void **state)
{
    (void)state;
    for (uint64_t align = 16; align <= MM_HEAP_MAX_ALIGN; align *= 2) {
        for (unsigned s = 0; s < NR_SOME; s++) {
            uint64_t size = some_sizes[s];
            void *object = mm_heap_alloc_aligned(heap, align, size);
            void *again;

            assert_non_null(object);
            /* No such alignment can be asked for, so nothing was allocated with it. */
            expect_told(object, size, 3);
            expect_told(object, size, align + 1);
            expect_told(object, size, 2 * MM_HEAP_MAX_ALIGN);
            expect_told(object, size, UINT64_MAX);
            if (size < 8192 || align > 4096) {
                expect_told(object, size + 3 * align + 9000, align);
            }
            again = mm_heap_alloc_with(heap, size, align, 0);
            mm_heap_free_sized(heap, object, size, align);
            mm_heap_free_sized(heap, again, size, align);
        }
    }
    /* Without its alignment, 100 bytes at 256 are an object of 112. */
    void *object = mm_heap_alloc_aligned(heap, 256, 100);

    expect_told(object, 100, 0);
    mm_heap_free_sized(heap, object, 100, 256);
    object = mm_heap_alloc_aligned(heap, 8192, 100); /* a run */
    expect_told(object, 100, 0);
    expect_told(object, 100, 4096);
    expect_told(object, 100, 16384);
    expect_told(object, 4097, 8192);
    mm_heap_free_sized(heap, object, 100, 8192);
    assert_int_equal(world_stats(world).nr_objects, 0);
}

/* What was resized is freed with its last size, whatever path it took there: every size from every
 * other, in place or moved, with and without an alignment of its own. */
static void test_sized_resized(void **state)
{
    static const uint64_t sizes[] = {1,    16,   48,    80,    100,   128,  150,  200,
                                     256,  1000, 1500,  3000,  4096,  5000, 6000, 8000,
                                     8192, 9000, 12000, 12288, 20000, 50000};
    const unsigned nr = sizeof(sizes) / sizeof(sizes[0]);

    (void)state;
    for (uint64_t align = 0; align <= 16384; align = align == 0 ? 16 : align * 4) {
        for (unsigned a = 0; a < nr; a++) {
            for (unsigned b = 0; b < nr; b++) {
                for (unsigned c = 0; c < nr; c += 3) {
                    char *object = mm_heap_alloc_with(heap, sizes[a], align, 0);

                    assert_non_null(object);
                    object[0] = 'x';
                    object = mm_heap_realloc(heap, object, sizes[b]);
                    assert_non_null(object);
                    if (c % 2 == 0) {
                        object = mm_heap_realloc(heap, object, sizes[c]);
                        assert_non_null(object);
                    }
                    assert_int_equal(object[0], 'x');
                    assert_true(aligned(object, align == 0 ? 16 : align));
                    mm_heap_free_sized(heap, object, c % 2 == 0 ? sizes[c] : sizes[b], align);
                }
            }
        }
        /* Each alignment begins with slabs that nothing was resized in. */
        mm_heap_reclaim(heap);
    }
    assert_int_equal(world_stats(world).nr_objects, 0);
    assert_int_equal(mm_heap_check(heap), MM_OK);
}

/* Where something was resized, sizes that cannot be are still told. */
static void test_sized_still_told(void **state)
{
    char *object = mm_heap_alloc(heap, 512);

    (void)state;
    assert_ptr_equal(mm_heap_realloc(heap, object, 300), object);
    expect_told(object, 513, 0);
    expect_told(object, 600, 0);
    expect_told(object, 8192, 0);
    expect_told(object, 9000, 0);
    expect_told(object, 300, 1024);
    expect_told(object, 300, 8192);
    mm_heap_free_sized(heap, object, 300, 0);
    mm_heap_reclaim(heap);

    object = mm_heap_alloc(heap, 20000); /* five pages; 8192 bytes of them are worth a copy */
    assert_ptr_equal(mm_heap_realloc(heap, object, 9000), object);
    assert_ptr_equal(mm_heap_realloc(heap, object, 8000), object);
    expect_told(object, 4096, 0);
    expect_told(object, 100, 0);
    expect_told(object, 3 * 4096 + 1, 0);
    expect_told(object, 8000, 8192);
    mm_heap_free_sized(heap, object, 8000, 0);
    /* A slab begins anew without it. */
    object = mm_heap_alloc(heap, 512);
    expect_told(object, 300, 0);
    mm_heap_free_sized(heap, object, 512, 0);
}

/* What is no object of this heap is told as mm_heap_free() tells it, whatever the size. */
static void test_sized_misuse(void **state)
{
    static struct mm_heap none;
    static const uint64_t sizes[] = {0, 64, 100, 8192, 9000, UINT64_MAX};
    char *object = mm_heap_alloc(heap, 64);
    char *freed = mm_heap_alloc(heap, 64);
    char *run = mm_heap_alloc(heap, 9000);
    struct t_trap_info info;

    (void)state;
    mm_heap_free(heap, freed);
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        T_EXPECT_PANIC(mm_heap_free_sized(heap, freed, sizes[i], 0), &info);
        assert_string_equal(info.what, "double free of an object");
        assert_int_equal(info.address, (uintptr_t)freed);
        T_EXPECT_PANIC(mm_heap_free_sized(heap, object + 16, sizes[i], 0), &info);
        assert_string_equal(info.what, "free of the inside of an object");
        assert_int_equal(info.recorded_value, (uintptr_t)object);
        T_EXPECT_PANIC(mm_heap_free_sized(heap, run + 4096, sizes[i], 0), &info);
        assert_string_equal(info.what, "free of the inside of an object");
        assert_int_equal(info.recorded_value, (uintptr_t)run);
        T_EXPECT_PANIC(mm_heap_free_sized(heap, &info, sizes[i], 0), &info);
        assert_string_equal(info.what, "free of an address that holds no object");
        T_EXPECT_SIGILL(mm_heap_free_sized(&none, object, sizes[i], 0), &info);
        T_EXPECT_SIGILL(mm_heap_free_sized(NULL, object, sizes[i], 0), &info);
        mm_heap_free_sized(heap, NULL, sizes[i], 0);
        mm_heap_free_sized(heap, NULL, sizes[i], 3);
        mm_heap_free_sized(NULL, NULL, sizes[i], 0);
        mm_heap_free_sized(&none, NULL, sizes[i], 0);
    }
    assert_int_equal(mm_heap_check(heap), MM_OK);
    mm_heap_free_sized(heap, object, 64, 0);
    T_EXPECT_PANIC(mm_heap_free_sized(heap, object, 64, 0), &info);
    assert_string_equal(info.what, "double free of an object");
    mm_heap_free_sized(heap, run, 9000, 0);
    T_EXPECT_PANIC(mm_heap_free_sized(heap, run, 9000, 0), &info);
    assert_string_equal(info.what, "double free of an object"); /* the heap keeps the run */
    mm_heap_reclaim(heap);
    T_EXPECT_PANIC(mm_heap_free_sized(heap, run, 9000, 0), &info);
    assert_string_equal(info.what, "free of an address that holds no object");
}

#define BOTH(test)                                                                                 \
    cmocka_unit_test_setup_teardown(test, start_range, stop),                                      \
        cmocka_unit_test_setup_teardown(test, start_frames, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(test_alignments),    BOTH(test_no_alignment),     BOTH(test_refused),
        BOTH(test_atomic),        BOTH(test_arrays),           BOTH(test_array_overflow),
        BOTH(test_sized_classes), BOTH(test_sized_runs),       BOTH(test_sized_aligned),
        BOTH(test_sized_resized), BOTH(test_sized_still_told), BOTH(test_sized_misuse),
    };

    return cmocka_run_group_tests_name("heap_calls", tests, NULL, NULL);
}
