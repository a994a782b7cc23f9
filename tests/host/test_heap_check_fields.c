// SPDX-License-Identifier: MIT
/**
 * The check of heaps and caches finds what it promises to find: in every class of a heap, field by
 * field, a wrong value is put where the right one was, reported, and taken back. Descriptors of
 * slabs are internal, so their header is included from the sources.
 */
#include "heap_world.h"

#include "heap/slab.h"

static struct world *world;

static int start(void **state)
{
    (void)state;
    world = world_of_range(16 * MiB);
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

typedef mm_status_t check_fn(void *whole);

static mm_status_t check_heap(void *heap)
{
    return mm_heap_check(heap);
}

static mm_status_t check_cache(void *cache)
{
    return mm_cache_check(cache);
}

/* A field is wrong for a while; whoever checks must say so, and tell the log of it. */
static void found(check_fn *check, void *whole, void *field, size_t size, uint64_t wrong)
{
    unsigned char right[8];

    assert_int_equal(check(whole), MM_OK);
    assert_true(size <= sizeof(right) && memcmp(field, &wrong, size) != 0);
    memcpy(right, field, size);
    memcpy(field, &wrong, size);
    world->log.nr_lines = 0;
    assert_int_equal(check(whole), MM_ERR_CORRUPTED);
    assert_true(world->log.nr_lines != 0);
    memcpy(field, right, size);
    assert_int_equal(check(whole), MM_OK);
}

#define FOUND(field, wrong) found(check, whole, &(field), sizeof(field), (uint64_t)(wrong))

/* What every class has. */
static void class_counts(check_fn *check, void *whole, struct mm_slab_class *class)
{
    struct mmi_slab *slab = mmi_slab_of(class->all);

    assert_non_null(slab);
    FOUND(class->nr_slabs, class->nr_slabs + 1);
    FOUND(class->nr_slabs, class->nr_slabs - 1);
    FOUND(slab->class, 0);
    FOUND(slab->base, slab->base + 16 * MiB); /* no page of it is in the table */
    FOUND(slab->base, 0);
}

/* One slab with pages, behind the hint of CPU 0, and what it says of itself. */
static void owned_slab(check_fn *check, void *whole, struct mm_slab_class *class)
{
    struct mmi_slab *slab = mmi_slab_of(class->all);
    uint32_t last = (slab->nr_objects - 1u) / MMI_SLAB_WORD_BITS;

    assert_int_equal(slab->state, MMI_SLAB_OWNED);
    class_counts(check, whole, class);
    FOUND(class->nr_kept, 1);
    FOUND(class->owned[0], 0);
    FOUND(class->owned[class->stride], class->owned[0]);
    FOUND(slab->cpu, 1);
    FOUND(slab->size, slab->size - 1u);
    FOUND(slab->bytes, slab->bytes + slab->size);
    FOUND(slab->nr_objects, slab->nr_objects - 1u);
    FOUND(slab->order, 14);
    FOUND(slab->life, slab->life + 1u);
    FOUND(slab->words[last], slab->words[last] + (UINT64_C(1) << 32));
    if (slab->nr_objects % MMI_SLAB_WORD_BITS != 0) {
        FOUND(slab->words[last], slab->words[last] | UINT64_C(1)
                                                         << slab->nr_objects % MMI_SLAB_WORD_BITS);
    }
    for (uint32_t state = MMI_SLAB_DEAD; state <= MMI_SLAB_DEAD_LISTED + 1; state++) {
        if (state != MMI_SLAB_OWNED) {
            FOUND(slab->state, state);
        }
    }
}

/* Every class of a heap, one after the other, and the runs: none is passed over. */
static void test_every_class_of_a_heap(void **state)
{
    check_fn *check = check_heap;
    void *whole = &world->heap;
    void *objects[MM_HEAP_NR_CLASSES];
    void *pages;

    (void)state;
    for (unsigned i = 0; i < MM_HEAP_NR_CLASSES; i++) {
        objects[i] = mm_heap_alloc(&world->heap, world->heap.classes[i].size);
        assert_non_null(objects[i]);
    }
    pages = mm_heap_alloc(&world->heap, 64 * KiB);
    assert_non_null(pages);
    for (unsigned i = 0; i < MM_HEAP_NR_CLASSES; i++) {
        owned_slab(check, whole, &world->heap.classes[i]);
    }
    class_counts(check, whole, &world->heap.runs);
    FOUND(mmi_slab_of(world->heap.runs.all)->words[MMI_RUN_PAGES], 0);
    for (unsigned i = 0; i < MM_HEAP_NR_CLASSES; i++) {
        mm_heap_free(&world->heap, objects[i]);
    }
    mm_heap_free(&world->heap, pages);
    mm_heap_reclaim(&world->heap);
    FOUND(world->heap.runs.unused, 0);
}

/* Slabs on lists: one that is partly free, one that is empty and kept, one that is full. */
static void test_lists_of_a_cache(void **state)
{
    enum { NR = 200 };
    static struct mm_cache cache;
    const struct mm_cache_config config = {.name = "check", .size = 256};
    check_fn *check = check_cache;
    void *whole = &cache;
    struct mm_slab_class *class = &cache.objects;
    void *objects[NR];
    uint64_t seen = 0;

    (void)state;
    assert_int_equal(mm_cache_init(&cache, &world->pool, &config), MM_OK);
    for (unsigned i = 0; i < NR; i++) {
        objects[i] = mm_cache_alloc(&cache);
        assert_non_null(objects[i]);
    }
    /* The first slab is free again, and each later one in part. */
    for (unsigned i = 0; i < NR; i++) {
        if (i < NR / 4 || i % 2 != 0) {
            mm_cache_free(&cache, objects[i]);
            objects[i] = NULL;
        }
    }
    for (struct mmi_slab *slab = mmi_slab_of(class->all); slab != NULL;
         seen |= UINT64_C(1) << slab->state, slab = mmi_slab_of(slab->all_next)) {
        if (slab->state == MMI_SLAB_LISTED) {
            FOUND(slab->state, MMI_SLAB_UNLISTED);
            FOUND(slab->state, MMI_SLAB_KEPT);
            FOUND(slab->state, MMI_SLAB_OWNED);
        } else if (slab->state == MMI_SLAB_KEPT) {
            FOUND(slab->state, MMI_SLAB_LISTED);
        }
    }
    assert_true((seen & (1u << MMI_SLAB_LISTED)) != 0);
    assert_int_not_equal(class->own[0], 0);
    FOUND(class->own[0], 0);
    FOUND(class->nr_kept, class->nr_kept + 1u);
    for (unsigned i = 0; i < NR; i++) {
        if (objects[i] != NULL) {
            mm_cache_free(&cache, objects[i]);
        }
    }
    mm_cache_reclaim(&cache);
    FOUND(class->nr_slabs, 1);
    assert_int_equal(mm_cache_destroy(&cache), MM_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_every_class_of_a_heap, start, stop),
        cmocka_unit_test_setup_teardown(test_lists_of_a_cache, start, stop),
    };

    return cmocka_run_group_tests_name("heap check", tests, NULL, NULL);
}
