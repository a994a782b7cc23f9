// SPDX-License-Identifier: MIT
/**
 * Seeing what is allocated: the walk, callers, marks and leaks, the table; of heaps and of caches.
 */
#include "heap_tiers.h"

static struct told told;
static struct t_guards guards;

static PLACE void *made_there(struct mm_heap *heap, uint64_t size)
{
    void *object = mm_heap_alloc(heap, size);

    __asm__ volatile("" : "+r"(object)::"memory");
    return object;
}

static PLACE void *taken_here(struct mm_cache *cache)
{
    void *object = mm_cache_alloc(cache);

    __asm__ volatile("" : "+r"(object));
    return object;
}

/* --- the walk ---------------------------------------------------------------------------------- */

struct seen {
    struct mm_heap_object objects[400];
    unsigned nr;
    unsigned stop_at;
    struct mm_heap *frees;
};

static bool on_visit(void *ctx, const struct mm_heap_object *object)
{
    struct seen *seen = ctx;

    assert_true(seen->nr < 400);
    seen->objects[seen->nr++] = *object;
    if (seen->frees != NULL) {
        mm_heap_free(seen->frees, (void *)(uintptr_t)object->object);
    }
    return seen->nr != seen->stop_at;
}

static void walk_all(const struct mm_heap_config *config, bool asked)
{
    static const uint64_t sizes[] = {1, 24, 64, 100, 1000, 8000, 9000, 100000};
    struct world *world = tiers_world(false);
    static struct seen seen;
    void *objects[96];
    bool records = config->tier == MM_HEAP_HARDENED || config->flags != 0;

    tiers_start(world, 1, config);
    for (unsigned i = 0; i < 96; i++) {
        objects[i] = made_here(&world->heap, sizes[i % 8]);
    }
    for (unsigned i = 0; i < 96; i += 3) {
        freed_here(&world->heap, objects[i]);
    }
    memset(&seen, 0, sizeof(seen));
    assert_int_equal(mm_heap_walk(&world->heap, on_visit, &seen), MM_OK);
    assert_int_equal(seen.nr, 64);
    for (unsigned i = 0; i < 96; i++) {
        unsigned nr = 0;

        for (unsigned n = 0; n < seen.nr; n++) {
            if (seen.objects[n].object == objects[i]) {
                nr++;
                assert_true(seen.objects[n].size >= sizes[i % 8]);
                assert_true(!asked || seen.objects[n].size == sizes[i % 8]);
                assert_true(seen.objects[n].room >= seen.objects[n].size);
                assert_true(!records || IN_PLACE(seen.objects[n].allocated_by, made_here));
            }
        }
        assert_int_equal(nr, i % 3 == 0 ? 0 : 1);
    }
    memset(&seen, 0, sizeof(seen));
    seen.stop_at = 10;
    assert_int_equal(mm_heap_walk(&world->heap, on_visit, &seen), MM_OK);
    assert_int_equal(seen.nr, 10);
    /* Whoever is visited may be freed. */
    memset(&seen, 0, sizeof(seen));
    seen.frees = &world->heap;
    assert_int_equal(mm_heap_walk(&world->heap, on_visit, &seen), MM_OK);
    assert_int_equal(seen.nr, 64);
    assert_int_equal(world_stats(world).nr_objects, 0);
    world_stop(world);
    world_delete(world);
}

static void test_walk(void **state)
{
    struct mm_heap_config config = {.name = "things"};

    (void)state;
    walk_all(&config, false);
    config.flags = MM_HEAP_CALLERS;
    walk_all(&config, true);
    config.tier = MM_HEAP_HARDENED;
    walk_all(&config, true);
    config = (struct mm_heap_config){.sample_every = 3, .flags = MM_HEAP_CALLERS};
    config.guards = t_guards_new(&guards, 10);
    walk_all(&config, true);
    t_guards_delete(&guards);
}

/* --- callers, marks, leaks --------------------------------------------------------------------- */

static void test_callers(void **state)
{
    struct mm_heap_config config = {.name = "things", .flags = MM_HEAP_CALLERS};
    struct world *world = tiers_world(false);
    struct mm_heap *heap = &world->heap;
    struct mm_heap_caller callers[4];
    void *objects[50];
    uint32_t nr = 77;
    uint64_t mark;

    (void)state;
    tiers_start(world, 1, &config);
    assert_int_equal(mm_heap_callers(heap, 0, callers, 4, &nr), MM_OK);
    assert_int_equal(nr, 0);
    for (unsigned i = 0; i < 50; i++) {
        objects[i] = i % 5 == 0 ? made_there(heap, 1000) : made_here(heap, 40);
    }
    assert_int_equal(mm_heap_callers(heap, 0, callers, 4, &nr), MM_OK);
    assert_int_equal(nr, 2);
    assert_true(IN_PLACE(callers[0].allocated_by, made_there));
    assert_int_equal(callers[0].nr_objects, 10);
    assert_int_equal(callers[0].bytes, 10000);
    assert_true(IN_PLACE(callers[1].allocated_by, made_here));
    assert_int_equal(callers[1].nr_objects, 40);
    assert_int_equal(callers[1].bytes, 1600);
    /* No room for all: the last is for everybody else. */
    assert_int_equal(mm_heap_callers(heap, 0, callers, 1, &nr), MM_OK);
    assert_int_equal(nr, 1);
    assert_int_equal(callers[0].allocated_by, 0);
    assert_int_equal(callers[0].nr_objects, 50);
    assert_int_equal(callers[0].bytes, 11600);
    mark = mm_heap_mark(heap);
    assert_int_equal(mark, 1);
    freed_here(heap, objects[1]);
    objects[1] = made_here(heap, 7);
    assert_int_equal(mm_heap_callers(heap, mark, callers, 4, &nr), MM_OK);
    assert_int_equal(nr, 1);
    assert_int_equal(callers[0].bytes, 7);
    objects[1] =
        mm_heap_realloc(heap, objects[1], 9); /* in place: as it was allocated, but larger */
    assert_int_equal(mm_heap_callers(heap, mark, callers, 4, &nr), MM_OK);
    assert_int_equal(callers[0].bytes, 9);
    for (unsigned i = 0; i < 50; i++) {
        freed_here(heap, objects[i]);
    }
    world_stop(world);
    world_delete(world);
}

static void test_leaks(void **state)
{
    struct mm_heap_config config = {.name = "things", .tier = MM_HEAP_HARDENED};
    struct world *world = tiers_world(false);
    struct mm_heap *heap = &world->heap;
    void *old = NULL;
    void *leak;
    void *large;
    uint64_t mark;
    char text[400];

    (void)state;
    tiers_start(world, 1, &config);
    old = made_here(heap, 10);
    assert_int_equal(mm_heap_mark(heap), 1);
    mark = mm_heap_mark(heap);
    assert_int_equal(mark, 2);
    freed_here(heap, made_here(heap, 11));
    told.text[0] = '\0';
    assert_int_equal(mm_heap_leaks(heap, mark, told_line, &told), MM_OK);
    assert_string_equal(told.text, "heap things: 0 objects of 0 bytes in all since mark 2\n");
    leak = made_here(heap, 12);
    large = made_here(heap, 20000);
    told.text[0] = '\0';
    assert_int_equal(mm_heap_leaks(heap, mark, told_line, &told), MM_OK);
    snprintf(text, sizeof(text),
             "heap things: 2 objects of 20012 bytes in all since mark 2\n"
             "  0x%llx, 12 bytes, allocated by 0x",
             (unsigned long long)(uintptr_t)leak);
    assert_memory_equal(told.text, text, strlen(text));
    snprintf(text, sizeof(text), "  0x%llx, 20000 bytes, allocated by 0x",
             (unsigned long long)(uintptr_t)large);
    assert_non_null(strstr(told.text, text));
    told.text[0] = '\0';
    assert_int_equal(mm_heap_leaks(heap, 0, told_line, &told), MM_OK);
    assert_non_null(strstr(told.text, "3 objects of 20022 bytes in all since mark 0\n"));
    /* 65,535 marks are kept apart. */
    while (mark < 65535) {
        mark = mm_heap_mark(heap);
    }
    told.text[0] = '\0';
    assert_int_equal(mm_heap_leaks(heap, 3, told_line, &told), MM_OK);
    assert_non_null(strstr(told.text, ": 0 objects"));
    freed_here(heap, old);
    freed_here(heap, leak);
    freed_here(heap, large);
    world_stop(world);
    world_delete(world);
}

/* --- caches ------------------------------------------------------------------------------------ */

/* What a hardened cache is not made with. */
static void test_caches_refused(void **state)
{
    struct world *world = tiers_world(false);
    struct mm_cache_config config = {.name = "knots", .size = 40, .tier = MM_HEAP_HARDENED};
    static struct mm_cache cache;

    (void)state;
    tiers_start(world, 1, NULL);
    config.construct = (void (*)(void *, void *))(uintptr_t)1;
    assert_int_equal(mm_cache_init(&cache, &world->pool, &config), MM_ERR_UNSUPPORTED);
    config.construct = NULL;
    config.tier = (enum mm_heap_tier)3;
    assert_int_equal(mm_cache_init(&cache, &world->pool, &config), MM_ERR_INVALID_ARGUMENT);
    config.tier = MM_HEAP_HARDENED;
    config.quarantine = MM_HEAP_QUARANTINE_MAX + 1;
    assert_int_equal(mm_cache_init(&cache, &world->pool, &config), MM_ERR_INVALID_ARGUMENT);
    world_stop(world);
    world_delete(world);
}

static void test_cache(void **state)
{
    struct world *world = tiers_world(false);
    struct mm_cache_config config = {.name = "knots",
                                     .size = 40,
                                     .tier = MM_HEAP_HARDENED,
                                     .quarantine = 4,
                                     .report = told_report,
                                     .report_ctx = &told};
    static struct mm_cache cache;
    static struct seen seen;
    struct mm_heap_caller callers[2];
    struct mm_cache_stats stats;
    unsigned char *objects[20];
    void *bulk[10];
    uint32_t nr;

    (void)state;
    memset(&told, 0, sizeof(told));
    tiers_start(world, 1, NULL);
    assert_int_equal(mm_cache_init(&cache, &world->pool, &config), MM_OK);
    for (unsigned i = 0; i < 20; i++) {
        objects[i] = taken_here(&cache);
        memset(objects[i], 0, 40);
    }
    assert_int_equal(mm_cache_mark(&cache), 1);
    assert_int_equal(mm_cache_alloc_bulk(&cache, 0, 10, bulk), 10);
    memset(&seen, 0, sizeof(seen));
    assert_int_equal(mm_cache_walk(&cache, on_visit, &seen), MM_OK);
    assert_int_equal(seen.nr, 30);
    assert_int_equal(mm_cache_callers(&cache, 0, callers, 2, &nr), MM_OK);
    assert_int_equal(nr, 2);
    assert_int_equal(callers[0].bytes, 800);
    assert_true(IN_PLACE(callers[0].allocated_by, taken_here));
    assert_int_equal(mm_cache_callers(&cache, 1, callers, 2, &nr), MM_OK);
    assert_int_equal(callers[0].nr_objects, 10);
    told.text[0] = '\0';
    assert_int_equal(mm_cache_leaks(&cache, 1, told_line, &told), MM_OK);
    assert_non_null(strstr(told.text, "heap knots: 10 objects of 400 bytes in all since mark 1\n"));
    mm_cache_free_bulk(&cache, 10, bulk);
    assert_int_equal(mm_cache_get_stats(&cache, &stats), MM_OK);
    assert_int_equal(stats.nr_objects, 20);
    assert_int_equal(told.nr, 0);

    objects[0][40] = 1;
    mm_cache_free(&cache, objects[0]);
    assert_int_equal(told.nr, 1);
    assert_int_equal(told.reports[0].kind, MM_HEAP_OVERFLOW);
    assert_int_equal(told.reports[0].offset, 40);
    mm_cache_free(&cache, objects[0]);
    assert_int_equal(told.reports[1].kind, MM_HEAP_DOUBLE_FREE);
    objects[0][3] = 1;
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(told.nr, 2 + i); /* a check tells it, and the next one again */
        assert_int_equal(mm_cache_check(&cache), MM_ERR_CORRUPTED);
        assert_int_equal(told.reports[2 + i].kind, MM_HEAP_WRITE_AFTER_FREE);
        assert_int_equal(told.reports[2 + i].address, (uint64_t)(uintptr_t)&objects[0][3]);
    }
    mm_cache_reclaim(&cache);
    assert_int_equal(told.reports[4].kind, MM_HEAP_WRITE_AFTER_FREE);
    assert_int_equal(mm_cache_check(&cache), MM_OK);
    objects[1][-1] = 0;
    mm_cache_free(&cache, objects[1]);
    assert_int_equal(told.reports[5].kind, MM_HEAP_UNDERFLOW);
    assert_int_equal(told.nr, 6);
    for (unsigned i = 2; i < 20; i++) {
        mm_cache_free(&cache, objects[i]);
    }
    assert_int_equal(told.nr, 6);
    assert_int_equal(mm_cache_check(&cache), MM_OK);
    assert_int_equal(mm_cache_destroy(&cache), MM_OK);
    world_stop(world);
    world_delete(world);
}

/** A cache without memory takes back what waits before it answers NULL. */
static void test_cache_drains_before_null(void **state)
{
    struct world *world = world_of_range(64 * KiB);
    struct mm_cache_config config = {.size = 2000, .tier = MM_HEAP_HARDENED};
    static struct mm_cache cache;
    void *objects[40];
    unsigned nr = 0;

    (void)state;
    tiers_start(world, 1, NULL);
    assert_int_equal(mm_cache_init(&cache, &world->pool, &config), MM_OK);
    while ((objects[nr] = mm_cache_alloc(&cache)) != NULL) {
        nr++;
    }
    assert_true(nr > 3);
    mm_cache_free(&cache, objects[0]);
    objects[0] = mm_cache_alloc(&cache);
    assert_non_null(objects[0]);
    for (unsigned i = 0; i < nr; i++) {
        mm_cache_free(&cache, objects[i]);
    }
    assert_int_equal(mm_cache_destroy(&cache), MM_OK);
    world_stop(world);
    world_delete(world);
}

/* --- the table --------------------------------------------------------------------------------- */

static void test_table(void **state)
{
    struct world *world = tiers_world(false);
    struct mm_heap_config config = {.name = "objects"};
    struct mm_cache_config knots = {.name = "knots", .size = 128};
    static struct mm_cache cache;
    void *objects[64];
    void *large;

    (void)state;
    tiers_start(world, 1, &config);
    assert_int_equal(mm_cache_init(&cache, &world->pool, &knots), MM_OK);
    told.text[0] = '\0';
    assert_int_equal(mm_pool_table(&world->pool, told_line, &told), MM_OK);
    assert_string_equal(
        told.text,
        "name                        active    total   use     size  a slab    slabs       KiB\n"
        "knots                            0        0    0%      128       0        0         0\n"
        "1 kinds                          0        0    0%                         0         0\n");
    for (unsigned i = 0; i < 64; i++) {
        objects[i] = i < 48 ? mm_heap_alloc(&world->heap, 64) : mm_cache_alloc(&cache);
    }
    large = mm_heap_alloc(&world->heap, 36000);
    told.text[0] = '\0';
    assert_int_equal(mm_pool_table(&world->pool, told_line, &told), MM_OK);
    assert_string_equal(
        told.text,
        "name                        active    total   use     size  a slab    slabs       KiB\n"
        "objects 64                      48       64   75%       64      64        1         4\n"
        "objects runs                     1        1  100%        -       -        -        36\n"
        "knots                           16       32   50%      128      32        1         4\n"
        "3 kinds                         65       97   67%                         2        44\n");
    for (unsigned i = 0; i < 64; i++) {
        if (i < 48) {
            mm_heap_free(&world->heap, objects[i]);
        } else {
            mm_cache_free(&cache, objects[i]);
        }
    }
    mm_heap_free(&world->heap, large);
    assert_int_equal(mm_cache_destroy(&cache), MM_OK);
    world_stop(world);
    world_delete(world);
}

static void count_line(void *ctx, const char *line, size_t len)
{
    (void)line;
    (void)len;
    (*(unsigned *)ctx)++;
}

/** More caches than the pool lists without a page; each is there once, and gone when it is gone. */
static void test_many_caches(void **state)
{
    static struct mm_cache caches[600];
    struct world *world = tiers_world(false);
    struct mm_cache_config config = {.size = 32};
    unsigned nr = 0;

    (void)state;
    tiers_start(world, 1, NULL);
    for (unsigned i = 0; i < 600; i++) {
        assert_int_equal(mm_cache_init(&caches[i], &world->pool, &config), MM_OK);
    }
    assert_int_equal(mm_pool_table(&world->pool, count_line, &nr), MM_OK);
    assert_int_equal(nr, 602);
    for (unsigned i = 0; i < 600; i += 2) {
        assert_int_equal(mm_cache_destroy(&caches[i]), MM_OK);
    }
    nr = 0;
    assert_int_equal(mm_pool_table(&world->pool, count_line, &nr), MM_OK);
    assert_int_equal(nr, 302);
    /* Without memory for the list no cache is made; where a place is free, one is. */
    t_inject_from(&world->inject, 1);
    assert_int_equal(mm_cache_init(&caches[0], &world->pool, &config), MM_OK);
    t_inject_never(&world->inject);
    assert_int_equal(mm_cache_destroy(&caches[0]), MM_OK);
    for (unsigned i = 1; i < 600; i += 2) {
        assert_int_equal(mm_cache_destroy(&caches[i]), MM_OK);
    }
    world_stop(world);
    world_delete(world);
}

static void test_no_memory_for_the_list(void **state)
{
    static struct mm_cache caches[40];
    struct world *world = tiers_world(false);
    struct mm_cache_config config = {.size = 32};
    struct mm_pool_stats before;
    struct mm_pool_stats after;
    unsigned nr = 0;

    (void)state;
    tiers_start(world, 1, NULL);
    t_inject_from(&world->inject, 1);
    while (mm_cache_init(&caches[nr], &world->pool, &config) == MM_OK) {
        nr++;
        assert_int_equal(mm_pool_get_stats(&world->pool, &before), MM_OK);
    }
    assert_int_equal(nr, MM_POOL_USERS_INLINE - 1);
    assert_int_equal(mm_cache_init(&caches[nr], &world->pool, &config), MM_ERR_NO_MEMORY);
    assert_int_equal(mm_pool_get_stats(&world->pool, &after), MM_OK);
    assert_int_equal(before.nr_meta_pages, after.nr_meta_pages);
    assert_int_equal(before.nr_users, after.nr_users);
    t_inject_never(&world->inject);
    while (nr > 0) {
        assert_int_equal(mm_cache_destroy(&caches[--nr]), MM_OK);
    }
    world_stop(world);
    world_delete(world);
}

/* --- statuses ---------------------------------------------------------------------------------- */

static void test_statuses(void **state)
{
    static struct mm_heap no_heap;
    static struct mm_cache no_cache;
    static struct mm_pool no_pool;
    static struct seen seen;
    struct world *world = tiers_world(false);
    struct mm_heap_caller callers[1];
    struct mm_heap_report report = {.kind = MM_HEAP_WILD_FREE};
    uint32_t nr = 5;

    (void)state;
    tiers_start(world, 1, NULL);
    assert_int_equal(mm_heap_walk(NULL, on_visit, &seen), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_heap_walk(&world->heap, NULL, &seen), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_heap_walk(&no_heap, on_visit, &seen), MM_ERR_NOT_INITIALIZED);
    assert_int_equal(mm_cache_walk(NULL, on_visit, &seen), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_cache_walk(&no_cache, on_visit, &seen), MM_ERR_NOT_INITIALIZED);
    assert_int_equal(mm_heap_callers(&world->heap, 0, callers, 1, &nr), MM_ERR_UNSUPPORTED);
    assert_int_equal(mm_heap_callers(&world->heap, 0, NULL, 1, &nr), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_heap_callers(&world->heap, 0, callers, 0, &nr), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_heap_callers(&world->heap, 0, callers, 1, NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_heap_callers(NULL, 0, callers, 1, &nr), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_heap_callers(&no_heap, 0, callers, 1, &nr), MM_ERR_NOT_INITIALIZED);
    assert_int_equal(mm_cache_callers(&no_cache, 0, callers, 1, &nr), MM_ERR_NOT_INITIALIZED);
    assert_int_equal(nr, 5);
    assert_int_equal(mm_heap_mark(&world->heap), 0);
    assert_int_equal(mm_heap_mark(NULL), 0);
    assert_int_equal(mm_cache_mark(&no_cache), 0);
    assert_int_equal(mm_heap_leaks(&world->heap, 0, told_line, &told), MM_ERR_UNSUPPORTED);
    assert_int_equal(mm_heap_leaks(&world->heap, 0, NULL, &told), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_heap_leaks(&no_heap, 0, told_line, &told), MM_ERR_NOT_INITIALIZED);
    assert_int_equal(mm_pool_table(NULL, told_line, &told), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_pool_table(&world->pool, NULL, &told), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_pool_table(&no_pool, told_line, &told), MM_ERR_NOT_INITIALIZED);
    assert_int_equal(mm_heap_report_lines(NULL, told_line, &told), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_heap_report_lines(&report, NULL, &told), MM_ERR_INVALID_ARGUMENT);
    world_stop(world);
    world_delete(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_walk),
        cmocka_unit_test(test_callers),
        cmocka_unit_test(test_leaks),
        cmocka_unit_test(test_cache),
        cmocka_unit_test(test_caches_refused),
        cmocka_unit_test(test_cache_drains_before_null),
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_many_caches),
        cmocka_unit_test(test_no_memory_for_the_list),
        cmocka_unit_test(test_statuses),
    };

    return cmocka_run_group_tests_name("heap_walk", tests, NULL, NULL);
}
