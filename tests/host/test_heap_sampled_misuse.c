// SPDX-License-Identifier: MIT
/**
 * Sampled allocations, and what must not be: faults while a page is being closed or opened, frees
 * and resizes of what is free already, and frees into another heap.
 */
#include "heap_tiers.h"

#include <pthread.h>

static struct told told;
static struct t_guards guards;

static struct world *sampled_world(uint64_t nr_places)
{
    struct world *world = tiers_world(false);
    struct mm_heap_config config = {.name = "things",
                                    .sample_every = 1,
                                    .report = told_report,
                                    .report_ctx = &told,
                                    .guards = t_guards_new(&guards, nr_places)};

    memset(&told, 0, sizeof(told));
    tiers_start(world, 1, &config);
    return world;
}

static void end(struct world *world)
{
    world_stop(world);
    world_delete(world);
    t_guards_delete(&guards);
}

/* --- while a page is closed and opened ---------------------------------------------------------- */

/** Another CPU that accesses an object while its page is being closed or opened. */
static struct stray {
    struct mm_heap *heap;
    uint64_t address; /* 0: nobody does */
    mm_status_t first;
    mm_status_t status; /* the last */
    struct mm_heap_report report;
    unsigned nr;
} stray;

static void *explain_stray(void *ctx)
{
    (void)ctx;
    stray.status = mm_heap_explain_fault(stray.heap, stray.address, &stray.report);
    stray.first = stray.nr == 0 ? stray.status : stray.first;
    stray.nr++;
    return NULL;
}

static void stray_access(void)
{
    pthread_t other;

    if (stray.address != 0) {
        assert_int_equal(pthread_create(&other, NULL, explain_stray, NULL), 0);
        assert_int_equal(pthread_join(other, NULL), 0);
    }
}

/** The page is closed still. */
static mm_status_t open_later(void *ctx, void *page)
{
    stray_access();
    return t_guards_open(ctx, page);
}

/** The page is closed already. */
static void close_first(void *ctx, void *page)
{
    t_guards_close(ctx, page);
    stray_access();
}

static const struct mm_heap_guard_ops slow_ops = {.open = open_later, .close = close_first};

static struct world *slow_world(void)
{
    struct world *world = tiers_world(false);
    struct mm_heap_config config = {.name = "things",
                                    .sample_every = 1,
                                    .report = told_report,
                                    .report_ctx = &told,
                                    .guards = t_guards_new(&guards, 1)};

    memset(&told, 0, sizeof(told));
    config.guards.ops = &slow_ops;
    tiers_start(world, 1, &config);
    stray = (struct stray){.heap = &world->heap};
    return world;
}

/** The last stray access was a use of this object of 64 bytes after its free. */
static void expect_stray_use(const void *object)
{
    assert_int_equal(stray.status, MM_OK);
    assert_int_equal(stray.report.kind, MM_HEAP_USE_AFTER_FREE);
    assert_int_equal(stray.report.object, (uint64_t)(uintptr_t)object);
    assert_int_equal(stray.report.size, 64);
    assert_int_equal(stray.report.offset, 8);
    assert_true(IN_PLACE(stray.report.allocated_by, made_here));
    assert_true(IN_PLACE(stray.report.freed_by, freed_here));
    stray.status = MM_ERR_NOT_INITIALIZED;
}

/** What an access is told as that faults while its object is freed, or its place is used again. */
static void test_fault_while_freed(void **state)
{
    struct world *world = slow_world();
    struct mm_heap *heap = &world->heap;
    char *object = made_here(heap, 64);
    char *next = NULL;

    (void)state;
    stray.address = (uint64_t)(uintptr_t)object + 8;
    for (unsigned i = 0; i < 2; i++) {
        if (i == 0) {
            freed_here(heap, object);
        } else {
            next = made_here(heap, 48);
        }
        assert_int_equal(stray.nr, i + 1);
        expect_stray_use(object);
    }
    assert_true((uint64_t)(uintptr_t)next - (uint64_t)(uintptr_t)guards.window < guards.len);
    explain_stray(NULL); /* its page is open, for another object */
    assert_int_equal(stray.status, MM_ERR_INVALID_ADDRESS);
    stray.address = 0;
    freed_here(heap, next);
    assert_int_equal(told.nr, 0);
    end(world);
}

/** Another CPU accesses the object while it is told of. */
static void report_slowly(void *ctx, const struct mm_heap_report *report)
{
    told_report(ctx, report);
    stray_access();
}

/** An object whose overflow is told is not free yet: its page is open. */
static void test_told_before_closed(void **state)
{
    struct world *world = slow_world();
    struct mm_heap *heap = &world->heap;
    char *object = made_here(heap, 30);

    (void)state;
    freed_here(heap, object); /* which ended its page: the next begins it */
    object = made_here(heap, 30);
    object[30] = 1;
    heap->watch.report = report_slowly;
    stray.address = (uint64_t)(uintptr_t)object;
    freed_there(heap, object);
    assert_int_equal(told.nr, 1);
    assert_int_equal(told.reports[0].kind, MM_HEAP_OVERFLOW);
    assert_int_equal(stray.nr, 2);
    assert_int_equal(stray.first, MM_ERR_INVALID_ADDRESS);
    assert_int_equal(stray.status, MM_OK);
    end(world);
}

/* --- frees and resizes that must not be ---------------------------------------------------------- */

static PLACE void *resized_there(struct mm_heap *heap, void *object, uint64_t size)
{
    void *moved = mm_heap_realloc(heap, object, size);

    __asm__ volatile("" : "+r"(moved));
    return moved;
}

/** The last report is of this object, which was freed. */
static void expect_freed(enum mm_heap_misuse kind, const void *object, uint64_t size,
                         int64_t offset)
{
    const struct mm_heap_report *report = &told.reports[told.nr - 1];

    assert_int_equal(report->kind, kind);
    assert_string_equal(report->owner, "things");
    assert_int_equal(report->object, (uint64_t)(uintptr_t)object);
    assert_int_equal(report->size, size);
    assert_int_equal(report->offset, offset);
    assert_true(IN_PLACE(report->allocated_by, made_here));
    assert_true(IN_PLACE(report->freed_by, freed_here));
}

/** A sample that is freed is resized, and its inside freed and resized: told with its history. */
static void test_freed_is_known(void **state)
{
    struct world *world = sampled_world(16);
    struct mm_heap *heap = &world->heap;
    char *object = made_here(heap, 100);

    (void)state;
    assert_null(resized_there(heap, object + 16, 200));
    assert_int_equal(told.reports[0].kind, MM_HEAP_INNER_FREE);
    assert_int_equal(told.reports[0].object, (uint64_t)(uintptr_t)object);
    assert_int_equal(told.reports[0].freed_by, 0);
    freed_here(heap, object);
    assert_null(resized_there(heap, object, 200));
    assert_int_equal(told.nr, 2);
    expect_freed(MM_HEAP_DOUBLE_FREE, object, 100, 0);
    assert_true(IN_PLACE(told.reports[1].caller, resized_there));
    freed_there(heap, object + 8);
    assert_int_equal(told.nr, 3);
    expect_freed(MM_HEAP_WILD_FREE, object, 100, 8);
    assert_non_null(strstr(told_text(&told), "free of the inside of an object that is free"));
    assert_null(resized_there(heap, object + 99, 200));
    assert_int_equal(told.nr, 4);
    expect_freed(MM_HEAP_WILD_FREE, object, 100, 99);
    assert_int_equal(mm_heap_usable_size(heap, object), 0);
    assert_int_equal(told.nr, 4);
    end(world);
}

/** A sample is freed into another heap of the pool, or into a cache: they say whose it is. */
static void test_foreign_sample(void **state)
{
    static struct mm_heap others[MM_POOL_USERS_INLINE + 1];
    static struct mm_cache cache;
    struct mm_heap_config config = {
        .name = "other", .report = told_report, .report_ctx = &told, .tier = MM_HEAP_HARDENED};
    struct mm_cache_config of_cache = {
        .name = "cache", .size = 64, .report = told_report, .report_ctx = &told};
    struct world *world = sampled_world(16);
    char *object = made_here(&world->heap, 100);

    (void)state;
    assert_int_equal(mm_cache_init(&cache, &world->pool, &of_cache), MM_OK);
    for (unsigned i = 0; i <= MM_POOL_USERS_INLINE; i++) {
        config.tier = i % 2 != 0 ? MM_HEAP_HARDENED : MM_HEAP_CHECKED;
        assert_int_equal(mm_heap_init(&others[i], &world->pool, &config), MM_OK);
    }
    for (unsigned i = 0; i < 3; i++) {
        unsigned before = told.nr;

        if (i == 0) {
            mm_cache_free(&cache, object);
        } else if (i == 1) {
            freed_there(&others[0], object + 1);
        } else {
            freed_there(&others[1], object);
        }
        assert_int_equal(told.nr, before + 1);
        assert_int_equal(told.reports[before].kind, MM_HEAP_FOREIGN_FREE);
        assert_string_equal(told.reports[before].owner, "things");
        assert_string_equal(told.reports[before].name, i == 0 ? "cache" : "other");
        assert_int_equal(told.reports[before].object, (uint64_t)(uintptr_t)object);
        assert_int_equal(told.reports[before].offset, i == 1);
        assert_int_equal(told.reports[before].size, 100);
        assert_true(IN_PLACE(told.reports[before].allocated_by, made_here));
    }
    assert_null(resized_there(&others[0], object, 200));
    assert_int_equal(told.reports[3].kind, MM_HEAP_FOREIGN_FREE);
    freed_there(&others[0], guards.window); /* where no object ever lay */
    assert_int_equal(told.reports[4].kind, MM_HEAP_WILD_FREE);
    assert_int_equal(told.reports[4].object, 0);
    freed_here(&world->heap, object);
    freed_there(&others[0], object);
    assert_int_equal(told.reports[5].kind, MM_HEAP_FOREIGN_FREE);
    assert_true(IN_PLACE(told.reports[5].freed_by, freed_here));
    assert_int_equal(told.nr, 6);
    for (unsigned i = 0; i <= MM_POOL_USERS_INLINE; i++) {
        assert_int_equal(mm_heap_destroy(&others[i]), MM_OK);
    }
    assert_int_equal(mm_cache_destroy(&cache), MM_OK);
    end(world);
}

/** A heap that is far down the pool's list is found as well. */
static void test_foreign_sample_of_the_last(void **state)
{
    static struct mm_heap others[MM_POOL_USERS_INLINE + 3];
    struct world *world = tiers_world(false);
    struct mm_heap_config config = {.name = "things", .report = told_report, .report_ctx = &told};
    unsigned last = MM_POOL_USERS_INLINE + 2;
    void *object;

    (void)state;
    memset(&told, 0, sizeof(told));
    tiers_start(world, 1, &config);
    for (unsigned i = 0; i <= last; i++) {
        config.sample_every = i == last;
        config.name = i == last ? "last" : "other";
        if (i == last) {
            config.guards = t_guards_new(&guards, 1);
        }
        assert_int_equal(mm_heap_init(&others[i], &world->pool, &config), MM_OK);
    }
    object = made_here(&others[last], 100);
    freed_there(&world->heap, object);
    assert_int_equal(told.nr, 1);
    assert_int_equal(told.reports[0].kind, MM_HEAP_FOREIGN_FREE);
    assert_string_equal(told.reports[0].owner, "last");
    freed_here(&others[last], object);
    for (unsigned i = 0; i <= last; i++) {
        assert_int_equal(mm_heap_destroy(&others[i]), MM_OK);
    }
    end(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fault_while_freed),
        cmocka_unit_test(test_told_before_closed),
        cmocka_unit_test(test_freed_is_known),
        cmocka_unit_test(test_foreign_sample),
        cmocka_unit_test(test_foreign_sample_of_the_last),
    };

    return cmocka_run_group_tests_name("heap_sampled_misuse", tests, NULL, NULL);
}
