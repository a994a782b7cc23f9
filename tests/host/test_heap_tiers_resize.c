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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_resize_tells_overflow),
        cmocka_unit_test(test_resized_is_guarded),
    };

    return cmocka_run_group_tests_name("heap_tiers_resize", tests, NULL, NULL);
}
