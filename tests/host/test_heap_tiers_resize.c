// SPDX-License-Identifier: MIT
/**
 * Heaps that look closer: that nothing is lost when an object is resized, neither what is broken
 * nor its alignment; that a finding is told once; and what a sized free is told of.
 */
#include "heap_tiers.h"

static struct told told;

static struct world *start(enum mm_heap_tier tier, uint32_t flags)
{
    struct world *world = tiers_world(false);
    struct mm_heap_config config = {.name = "things",
                                    .tier = tier,
                                    .flags = flags,
                                    .quarantine = 8,
                                    .report = told_report,
                                    .report_ctx = &told};

    memset(&told, 0, sizeof(told));
    tiers_start(world, 1, &config);
    return world;
}

static void end(struct world *world)
{
    world_stop(world);
    world_delete(world);
}

static PLACE void *resized_here(struct mm_heap *heap, void *object, uint64_t size)
{
    void *resized = mm_heap_realloc(heap, object, size);

    __asm__ volatile("" : "+r"(resized));
    return resized;
}

/* --- resizing ---------------------------------------------------------------------------------- */

/** Bytes behind an object are broken, and it is resized where it is: told then, and once. */
static void broken_and_resized(struct mm_heap *heap, uint64_t size, uint64_t nr, uint64_t to)
{
    unsigned char *object = made_here(heap, size);
    const struct mm_heap_report *report = &told.reports[0];

    told.nr = 0;
    memset(object + size, 1, nr);
    assert_ptr_equal(resized_here(heap, object, to), object);
    assert_int_equal(told.nr, 1);
    assert_int_equal(report->kind, MM_HEAP_OVERFLOW);
    assert_int_equal(report->object, (uint64_t)(uintptr_t)object);
    assert_int_equal(report->offset, size);
    assert_int_equal(report->size, size);
    assert_int_equal(report->freed_by, 0);
    assert_true(IN_PLACE(report->allocated_by, made_here));
    assert_true(IN_PLACE(report->caller, resized_here));
    assert_int_equal(mm_heap_check(heap), MM_OK); /* it is mended */
    freed_here(heap, object);
    assert_int_equal(told.nr, 1);
}

static void test_resize_tells_overflow(void **state)
{
    struct world *world = start(MM_HEAP_HARDENED, 0);
    struct mm_heap *heap = &world->heap;

    (void)state;
    broken_and_resized(heap, 20, 1, 24);
    broken_and_resized(heap, 20, 28, 24); /* up to the end of its place */
    broken_and_resized(heap, 100, 4, 90);
    broken_and_resized(heap, 100, 1, 100);
    broken_and_resized(heap, 10000, 1, 10100);
    broken_and_resized(heap, 10000, 2000, 9000);
    end(world);
}

/** A resized object is as well guarded as before, at its new end. */
static void test_resized_is_guarded(void **state)
{
    struct world *world = start(MM_HEAP_HARDENED, 0);
    unsigned char *object = made_here(&world->heap, 20);

    (void)state;
    assert_ptr_equal(resized_here(&world->heap, object, 30), object);
    memset(object, 1, 30);
    assert_int_equal(mm_heap_check(&world->heap), MM_OK);
    object[30] = 1;
    freed_here(&world->heap, object);
    assert_int_equal(told.nr, 1);
    assert_int_equal(told.reports[0].offset, 30);
    end(world);
}

/** Runs stay where they are, and give their tails back; told of each step. */
static void shrink(struct mm_heap *heap, uint64_t from, uint64_t to)
{
    unsigned char *object = made_here(heap, from);
    struct mm_heap_stats before;
    struct mm_heap_stats after;
    uint64_t saved = to > MM_HEAP_MAX_SLAB_SIZE ? (from - to) / 4096 * 4096 : 0;

    memset(object, 0x5a, from);
    assert_int_equal(mm_heap_get_stats(heap, &before), MM_OK);
    assert_ptr_equal(resized_here(heap, object, to), object);
    assert_int_equal(mm_heap_check(heap), MM_OK);
    assert_int_equal(mm_heap_get_stats(heap, &after), MM_OK);
    assert_in_range(before.run_bytes - after.run_bytes, saved, saved + 4096);
    assert_true(mm_heap_usable_size(heap, object) >= to);
    for (uint64_t i = 0; i < to; i += 1000) {
        assert_int_equal(object[i], 0x5a);
    }
    mm_heap_free_sized(heap, object, to, 0);
    assert_int_equal(told.nr, 0);
}

static void test_runs_shrink_in_place(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct world *world = start(i == 0 ? MM_HEAP_CHECKED : MM_HEAP_HARDENED, MM_HEAP_CALLERS);
        struct mm_heap *heap = &world->heap;
        unsigned char *object = made_here(heap, 200000);
        void *all = NULL;
        void *next;

        shrink(heap, 200000, 180000);
        shrink(heap, 40960, 28000);
        shrink(heap, 40960, 20000);
        shrink(heap, 10000, 7000);
        while ((next = mm_heap_alloc(heap, 4000)) != NULL) {
            *(void **)next = all;
            all = next;
        }
        assert_ptr_equal(resized_here(heap, object, 190000), object); /* without memory */
        freed_here(heap, object);
        while (all != NULL) {
            next = *(void **)all;
            freed_here(heap, all);
            all = next;
        }
        assert_int_equal(told.nr, 0);
        end(world);
    }
}

/* --- sized frees ------------------------------------------------------------------------------- */

/** Whatever the caller asked for agrees with the free, also after it was resized. */
static void agrees(struct mm_heap *heap, uint64_t align, uint64_t size, uint64_t to)
{
    void *object = mm_heap_alloc_with(heap, size, align, 0);

    object = mm_heap_realloc(heap, object, to);
    assert_non_null(object);
    assert_true(align == 0 || (uint64_t)(uintptr_t)object % align == 0);
    mm_heap_free_sized(heap, object, to, align);
    assert_int_equal(told.nr, 0);
}

static void disagrees(struct mm_heap *heap, uint64_t size, uint64_t align)
{
    void *object = made_here(heap, size);
    const struct mm_heap_report *report = &told.reports[0];

    mm_heap_free_sized(heap, object, size, align);
    assert_int_equal(told.nr, 1);
    assert_int_equal(report->kind, MM_HEAP_SIZE_MISMATCH);
    assert_int_equal(report->object, (uint64_t)(uintptr_t)object);
    assert_int_equal(report->claimed, size);
    freed_here(heap, object);
    assert_int_equal(told.nr, 1);
    told.nr = 0;
}

static void sized_frees(struct mm_heap *heap, bool hardened)
{
    static const uint64_t aligns[] = {0,   1,    16,   32,      64,
                                      128, 1024, 4096, 1 << 14, MM_HEAP_MAX_ALIGN};
    static const uint64_t sizes[] = {1, 48, 64, 70, 192, 1000, 4096, 8000, 8192, 10000, 70000};

    for (unsigned i = 0; i < 10 * 11 * 11; i++) {
        agrees(heap, aligns[i % 10], sizes[i / 10 % 11], sizes[i / 110]);
    }
    disagrees(heap, 48, 3);
    disagrees(heap, hardened ? 70 : 48, 64); /* 48 with its canary lies at a multiple of 64 */
    disagrees(heap, 48, 4096);
    disagrees(heap, 48, 2 * MM_HEAP_MAX_ALIGN);
    disagrees(heap, 48, UINT64_MAX);
    disagrees(heap, 1000, 4096);
    disagrees(heap, 10000, 1 << 14);
    disagrees(heap, 10000, 24);
}

static void test_sized_free_with_align(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        struct world *world =
            start(i < 2 ? MM_HEAP_CHECKED : MM_HEAP_HARDENED, i % 2 == 0 ? MM_HEAP_CALLERS : 0);

        sized_frees(&world->heap, i >= 2);
        end(world);
    }
}

/* --- told once, and of whom -------------------------------------------------------------------- */

/** Two objects of this size with nothing between them but what belongs to the first's place. */
static void neighbours(struct mm_heap *heap, uint64_t size, uint64_t place, unsigned char **first,
                       unsigned char **second)
{
    unsigned char *objects[64];

    *first = NULL;
    for (unsigned i = 0; i < 64; i++) {
        objects[i] = made_here(heap, size);
    }
    for (unsigned i = 0; i < 64; i++) {
        for (unsigned n = 0; *first == NULL && n < 64; n++) {
            if (objects[n] == objects[i] + place) {
                *first = objects[i];
                *second = objects[n];
            }
        }
    }
    assert_non_null(*first);
    for (unsigned i = 0; i < 64; i++) {
        if (objects[i] != *first && objects[i] != *second) {
            freed_here(heap, objects[i]);
        }
    }
    assert_int_equal(told.nr, 0);
}

static void test_overflow_is_told_once(void **state)
{
    (void)state;
    for (unsigned resize = 0; resize < 2; resize++) {
        struct world *world = start(MM_HEAP_HARDENED, 0);
        struct mm_heap *heap = &world->heap;
        unsigned char *first;
        unsigned char *second;

        neighbours(heap, 20, 48, &first, &second);
        memset(first + 20, 0xaa, 28);
        freed_here(heap, second);
        assert_int_equal(told.nr, 1);
        assert_int_equal(told.reports[0].kind, MM_HEAP_OVERFLOW);
        assert_int_equal(told.reports[0].object, (uint64_t)(uintptr_t)first);
        assert_int_equal(told.reports[0].offset, 20);
        if (resize != 0) {
            assert_ptr_equal(resized_here(heap, first, 24), first);
            assert_int_equal(told.nr, 1);
            assert_int_equal(mm_heap_check(heap), MM_OK);
            first[24] = 0; /* a new one */
        }
        freed_here(heap, first);
        assert_int_equal(told.nr, 1 + resize);
        end(world);
    }
}

/** Of an object whose overflow was told nobody says that it was freed. */
static void test_told_is_not_freed(void **state)
{
    struct world *world = start(MM_HEAP_HARDENED, 0);
    struct mm_heap *heap = &world->heap;
    unsigned char *first;
    unsigned char *second;

    (void)state;
    neighbours(heap, 20, 48, &first, &second);
    memset(first + 20, 0xaa, 28);
    freed_here(heap, second);
    mm_heap_free_sized(heap, first, 21, 0);
    assert_int_equal(told.nr, 2);
    assert_int_equal(told.reports[1].kind, MM_HEAP_SIZE_MISMATCH);
    assert_int_equal(told.reports[1].freed_by, 0);
    freed_here(heap, first);
    assert_int_equal(told.nr, 2);
    end(world);
}

/** An underflow is its object's, also if what lies before lives and has room behind its end. */
static void test_underflow_is_its_own(void **state)
{
    static const uint64_t sizes[] = {20, 112};
    static const uint64_t places[] = {48, 128};

    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        struct world *world = start(MM_HEAP_HARDENED, 0);
        struct mm_heap *heap = &world->heap;
        unsigned char *first;
        unsigned char *second;

        neighbours(heap, sizes[i / 2], places[i / 2], &first, &second);
        second[-1] = 0xff;
        freed_here(heap, i % 2 != 0 ? first : second);
        assert_int_equal(told.nr, 1);
        assert_int_equal(told.reports[0].kind, MM_HEAP_UNDERFLOW);
        assert_int_equal(told.reports[0].object, (uint64_t)(uintptr_t)second);
        assert_int_equal(told.reports[0].offset, -1);
        freed_here(heap, i % 2 != 0 ? second : first);
        assert_int_equal(told.nr, 1);
        end(world);
    }
}

/** What a live object writes into a freed one behind it is its overflow, whenever that is met. */
static void test_overflow_into_freed(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        struct world *world = start(MM_HEAP_HARDENED, 0);
        struct mm_heap *heap = &world->heap;
        const struct mm_heap_report *report = &told.reports[0];
        unsigned char *first;
        unsigned char *second;
        void *objects[200];

        neighbours(heap, 20, 48, &first, &second);
        freed_here(heap, second);
        if (i > 0) {
            mm_heap_reclaim(heap); /* it leaves the quarantine */
        }
        memset(first + 20, 0xaa, 40);
        world->log.nr_lines = 0;
        assert_int_equal(mm_heap_check(heap), MM_ERR_CORRUPTED);
        assert_int_equal(world->log.nr_lines, 3); /* one report, of the first */
        assert_int_equal(told.nr, 1);
        assert_int_equal(report->object, (uint64_t)(uintptr_t)first);
        told.nr = 0;
        mm_heap_reclaim(heap);
        for (unsigned n = 0; n < 200; n++) {
            objects[n] = made_here(heap, 20);
        }
        assert_int_equal(told.nr, 1);
        assert_int_equal(report->kind, MM_HEAP_OVERFLOW);
        assert_int_equal(report->object, (uint64_t)(uintptr_t)first);
        assert_int_equal(report->size, 20);
        assert_int_equal(report->offset, 20);
        assert_int_equal(report->freed_by, 0);
        assert_true(IN_PLACE(report->allocated_by, made_here));
        freed_here(heap, first);
        assert_int_equal(told.nr, 1);
        for (unsigned n = 0; n < 200; n++) {
            freed_here(heap, objects[n]);
        }
        mm_heap_reclaim(heap);
        assert_int_equal(told.nr, 1);
        end(world);
    }
}

/** What was told at the free of the one that did it is not told again of the freed ones that it ran
 * into, however far, whether they wait or have left. */
static void test_overflow_beyond_is_told_once(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 6; i++) {
        for (unsigned len = 8; len <= 28 + 48 + 8; len += 4) {
            struct world *world = start(MM_HEAP_HARDENED, 0);
            struct mm_heap *heap = &world->heap;
            unsigned char *first;
            unsigned char *second;
            void *objects[200];
            void *held;

            neighbours(heap, 20, 48, &first, &second);
            mm_heap_reclaim(heap); /* what lies behind the second one is free, or it is this one */
            held = made_here(heap, 20); /* so that the slab stays */
            freed_here(heap, second);
            if (i % 2 != 0) {
                mm_heap_reclaim(heap);
            }
            memset(first + 20, 1, len);
            if (i / 2 == 2 && len > 28) {
                second[28] = 1; /* another one */
            }
            if (i / 2 == 1) {
                assert_ptr_equal(resized_here(heap, first, 22), first);
            } else {
                freed_here(heap, first);
            }
            assert_int_equal(told.nr, 1);
            assert_int_equal(told.reports[0].kind, MM_HEAP_OVERFLOW);
            assert_int_equal(told.reports[0].object, (uint64_t)(uintptr_t)first);
            mm_heap_reclaim(heap);
            for (unsigned n = 0; n < 200; n++) {
                objects[n] = made_here(heap, 20);
            }
            if (i / 2 == 2 && len > 28 && len < 28 + 28) {
                assert_int_equal(told.nr, 2);
                assert_int_equal(told.reports[1].kind, MM_HEAP_WRITE_AFTER_FREE);
                assert_int_equal(told.reports[1].address, (uint64_t)(uintptr_t)(second + 28));
            } else {
                assert_int_equal(told.nr, 1);
            }
            assert_int_equal(mm_heap_check(heap), MM_OK);
            for (unsigned n = 0; n < 200; n++) {
                freed_here(heap, objects[n]);
            }
            mm_heap_free(heap, i / 2 == 1 ? first : NULL);
            freed_here(heap, held);
            end(world);
        }
    }
}

/** What is written into a freed object alone is its own, also beside a live one. */
static void test_write_after_free_beside_live(void **state)
{
    struct world *world = start(MM_HEAP_HARDENED, 0);
    struct mm_heap *heap = &world->heap;
    unsigned char *first;
    unsigned char *second;

    (void)state;
    neighbours(heap, 20, 48, &first, &second);
    freed_here(heap, second);
    second[0] = 1;
    first[20] = 1;
    mm_heap_reclaim(heap);
    assert_int_equal(told.nr, 1);
    assert_int_equal(told.reports[0].kind, MM_HEAP_WRITE_AFTER_FREE);
    assert_int_equal(told.reports[0].object, (uint64_t)(uintptr_t)second);
    freed_here(heap, first);
    assert_int_equal(told.nr, 2);
    assert_int_equal(told.reports[1].kind, MM_HEAP_OVERFLOW);
    end(world);
}

/** Bytes between two objects are blamed on the one that is nearer. */
static void test_nearer_is_blamed(void **state)
{
    static const struct {
        int at; /* from the second, which begins 28 bytes behind the end of the first */
        unsigned nr;
        bool second;
    } cases[] = {{-8, 4, true},   {-13, 1, true},  {-4, 1, true},
                 {-28, 1, false}, {-23, 1, false}, {-28, 28, false}};

    (void)state;
    for (unsigned i = 0; i < 12; i++) {
        struct world *world = start(MM_HEAP_HARDENED, 0);
        struct mm_heap *heap = &world->heap;
        const struct mm_heap_report *report = &told.reports[0];
        bool of_second = cases[i / 2].second;
        int at = cases[i / 2].at;
        unsigned char *first;
        unsigned char *second;

        neighbours(heap, 20, 48, &first, &second);
        memset(second + at, 0xff, cases[i / 2].nr);
        freed_here(heap, i % 2 != 0 ? first : second);
        freed_here(heap, i % 2 != 0 ? second : first);
        assert_int_equal(told.nr, 1);
        assert_int_equal(report->kind, of_second ? MM_HEAP_UNDERFLOW : MM_HEAP_OVERFLOW);
        assert_int_equal(report->object, (uint64_t)(uintptr_t)(of_second ? second : first));
        assert_int_equal(report->offset, of_second ? at : at + 48);
        end(world);
    }
}

/** In front of an object lies a freed one, that is as it must be but for its end. */
static void test_underflow_behind_freed(void **state)
{
    struct world *world = start(MM_HEAP_HARDENED, 0);
    struct mm_heap *heap = &world->heap;
    unsigned char *first;
    unsigned char *second;

    (void)state;
    neighbours(heap, 20, 48, &first, &second);
    freed_here(heap, first);
    memset(second - 16, 0xff, 16);
    mm_heap_reclaim(heap);
    assert_int_equal(told.nr, 1);
    assert_int_equal(told.reports[0].kind, MM_HEAP_UNDERFLOW);
    assert_int_equal(told.reports[0].object, (uint64_t)(uintptr_t)second);
    assert_int_equal(told.reports[0].offset, -16);
    freed_here(heap, second);
    assert_int_equal(told.nr, 1);
    end(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_resize_tells_overflow),
        cmocka_unit_test(test_resized_is_guarded),
        cmocka_unit_test(test_overflow_is_told_once),
        cmocka_unit_test(test_told_is_not_freed),
        cmocka_unit_test(test_underflow_is_its_own),
        cmocka_unit_test(test_sized_free_with_align),
        cmocka_unit_test(test_runs_shrink_in_place),
        cmocka_unit_test(test_overflow_into_freed),
        cmocka_unit_test(test_overflow_beyond_is_told_once),
        cmocka_unit_test(test_nearer_is_blamed),
        cmocka_unit_test(test_underflow_behind_freed),
        cmocka_unit_test(test_write_after_free_beside_live),
    };

    return cmocka_run_group_tests_name("heap_tiers_resize", tests, NULL, NULL);
}
