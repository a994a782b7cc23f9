// SPDX-License-Identifier: MIT
/**
 * The checks of heaps and caches: each contradiction that they look for is made, and the check must
 * name it. Descriptors are internal, so their header is included from the sources.
 */
#define _GNU_SOURCE /* memmem() */
#include "heap_world.h"

#include "heap/slab.h"

#define SIZE       64u
#define NR_OBJECTS 256u
#define NR_SLABS   3u /**< of 64, 128 and 128 objects */

struct fixture {
    struct world *world;
    struct mm_cache cache;
    void *objects[NR_OBJECTS];
    unsigned nr_objects;
    struct mmi_slab *unlisted; /**< all of it is allocated */
    struct mmi_slab *listed;   /**< most of a word of it is free */
    struct mmi_slab *owned;    /**< by CPU 0 */
    struct mmi_slab *dead;     /**< a descriptor without pages */
    const char *sentence;      /**< what is to be said */
    bool named;
};

static void listen(void *ctx, const char *line, size_t len)
{
    struct fixture *f = ctx;

    f->named |= f->sentence != NULL && memmem(line, len, f->sentence, strlen(f->sentence)) != NULL;
}

static const struct mm_platform_ops listening = {.panic = t_platform_panic, .log = listen};

static struct mmi_slab *slab_of(struct fixture *f, unsigned object)
{
    return mmi_table_find(&f->world->pool.table, (uint64_t)(uintptr_t)f->objects[object]);
}

/* The entry of a page in the pool's table, which has one level below its root. */
static uint64_t *entry_of(struct fixture *f, uint64_t page)
{
    const struct mm_slab_table *table = &f->world->pool.table;
    uint64_t index = (page - table->base) >> MM_PAGE_SHIFT;
    uint64_t *node = (uint64_t *)(uintptr_t)table->root[index >> MMI_TABLE_BITS];

    assert_int_equal(table->shift, MMI_TABLE_BITS);
    return &node[index & MMI_TABLE_MASK];
}

static int start(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct mm_cache_config config = {.name = "checked", .size = SIZE};

    assert_non_null(f);
    f->world = world_of_range(1 * MiB);
    world_start(f->world, 2);
    f->world->pool.platform = (struct mm_platform){&listening, f};
    assert_int_equal(mm_cache_init(&f->cache, &f->world->pool, &config), MM_OK);
    while (f->cache.objects.nr_slabs < NR_SLABS) {
        assert_in_range(f->nr_objects, 0, NR_OBJECTS - 1);
        f->objects[f->nr_objects++] = mm_cache_alloc_on(&f->cache, 0);
    }
    f->unlisted = slab_of(f, 0);
    f->listed = slab_of(f, f->nr_objects - 2);
    f->owned = slab_of(f, f->nr_objects - 1);
    while (f->listed->state != MMI_SLAB_LISTED) {
        assert_in_range(f->nr_objects, 2, NR_OBJECTS);
        mm_cache_free(&f->cache, f->objects[--f->nr_objects - 1]);
        f->objects[f->nr_objects - 1] = f->objects[f->nr_objects];
    }
    f->dead = mmi_class_get_slab(&f->cache.objects, 0);
    assert_non_null(f->dead);
    mmi_list_push(&f->world->pool, &f->cache.objects.unused, f->dead);
    assert_int_equal(f->unlisted->state, MMI_SLAB_UNLISTED);
    assert_int_equal(f->listed->state, MMI_SLAB_LISTED);
    assert_int_equal(f->owned->state, MMI_SLAB_OWNED);
    assert_int_equal(f->dead->state, MMI_SLAB_DEAD);
    assert_int_equal(mm_cache_check(&f->cache), MM_OK);
    *state = f;
    return 0;
}

static int stop(void **state)
{
    struct fixture *f = *state;

    while (f->nr_objects > 0) {
        mm_cache_free(&f->cache, f->objects[--f->nr_objects]);
    }
    assert_int_equal(mm_cache_check(&f->cache), MM_OK);
    assert_int_equal(mm_cache_destroy(&f->cache), MM_OK);
    world_stop(f->world);
    world_delete(f->world);
    free(f);
    return 0;
}

/* One field gets a value, and the check names what is wrong. */
#define NAMES(f, check, words_, field, value)                                                      \
    do {                                                                                           \
        __typeof__(field) kept_ = (field);                                                         \
        (f)->named = false;                                                                        \
        (f)->sentence = (words_);                                                                  \
        (field) = (__typeof__(field))(value);                                                      \
        assert_int_equal(check, MM_ERR_CORRUPTED);                                                 \
        assert_true((f)->named);                                                                   \
        (field) = kept_;                                                                           \
        assert_int_equal(check, MM_OK);                                                            \
    } while (0)

/* The descriptor of a slab, by itself. */
static void test_slabs(void **state)
{
    struct fixture *f = *state;
    const uint64_t other = (uint64_t)(uintptr_t)&f->world->heap.classes[0];

#define OF_CACHE(words_, field, value) NAMES(f, mm_cache_check(&f->cache), words_, field, value)
    OF_CACHE("a slab is of another class", f->unlisted->class, other);
    OF_CACHE("an object is free that does not exist", f->owned->words[4], f->owned->words[4] | 1);
    OF_CACHE("an object is free that does not exist", f->dead->words[0], f->dead->words[0] | 1);
    OF_CACHE("a word is of another life than its slab", f->owned->words[1],
             f->owned->words[1] + (UINT64_C(1) << 32));
    OF_CACHE("the geometry of a slab is wrong", f->owned->size, SIZE + 8);
    OF_CACHE("the geometry of a slab is wrong", f->owned->bytes, f->owned->bytes - SIZE);
    OF_CACHE("the geometry of a slab is wrong", f->owned->order, f->owned->order - 1);
    OF_CACHE("a slab is not listed that should be", f->unlisted->words[0],
             f->unlisted->words[0] | 1);
    OF_CACHE("a slab is in a state that nobody leaves it in", f->listed->state, MMI_SLAB_RETIRING);
    OF_CACHE("the state of a slab contradicts its pages", f->owned->state, MMI_SLAB_DEAD);
    OF_CACHE("the state of a slab contradicts its pages", f->owned->state, MMI_SLAB_DEAD_LISTED);
    OF_CACHE("the state of a slab contradicts its pages", f->dead->state, MMI_SLAB_UNLISTED);
}

/* What the class and the pool say of its slabs. */
static void test_lists_and_hints(void **state)
{
    struct fixture *f = *state;
    struct mm_slab_class *class = &f->cache.objects;
    const uint64_t other = (uint64_t)(uintptr_t)&f->world->heap.classes[0];
    uint64_t *entry = entry_of(f, f->listed->base + MM_PAGE_SIZE);
    uint64_t *list = class->own; /* of CPU 0, which had it: it is nearly full */

    OF_CACHE("a page of a slab is not in the table", *entry, 0);
    OF_CACHE("a list holds a slab that does not belong there", f->listed->class, other);
    OF_CACHE("a list holds a slab that does not belong there", f->listed->state, MMI_SLAB_DEAD);
    OF_CACHE("a list holds a slab that does not belong there", f->dead->state, MMI_SLAB_LISTED);
    OF_CACHE("a list misses a slab", *list, 0);
    OF_CACHE("a list misses a slab", class->unused, 0);
    /* The same in the list of all CPUs, which is empty. */
    OF_CACHE("a list misses a slab, or holds one twice", class->partial[0], *list);
    OF_CACHE("a list misses a slab, or holds one twice", class->partial[1], *list);
    OF_CACHE("a list misses a slab, or holds one twice", class->own[class->stride], *list);
    OF_CACHE("a CPU has partial slabs, and no bit says so", class->listed, class->listed & ~1ull);
    /* The list of partial slabs bites its tail. */
    OF_CACHE("a list misses a slab, or holds one twice", f->listed->next,
             *list & ((UINT64_C(1) << f->world->pool.slab_bits) - 1));
    OF_CACHE("a hint names a slab that is not its own", f->owned->class, other);
    OF_CACHE("a hint names a slab that is not its own", f->owned->state, MMI_SLAB_UNLISTED);
    OF_CACHE("a hint names a slab that is not its own", f->owned->cpu, 1);
    OF_CACHE("slabs are owned that no hint names", class->owned[0], 0);
    OF_CACHE("the number of slabs is wrong", class->nr_slabs, NR_SLABS + 1);
    OF_CACHE("the number of kept slabs is wrong", class->nr_kept, 1);
    OF_CACHE("the number of kept slabs is wrong", f->listed->state, MMI_SLAB_KEPT);
#undef OF_CACHE
}

/* The same of a heap: of one class, and of the runs. */
static void test_heap(void **state)
{
    struct fixture *f = *state;
    struct mm_heap *heap = &f->world->heap;
    const struct mm_slab_table *table = &f->world->pool.table;
    void *small = mm_heap_alloc(heap, 100);
    void *large = mm_heap_alloc(heap, 5 * MM_PAGE_SIZE);
    struct mmi_slab *slab = mmi_table_find(table, (uint64_t)(uintptr_t)small);
    struct mmi_slab *run = mmi_table_find(table, (uint64_t)(uintptr_t)large);
    uint64_t *entry = entry_of(f, run->base);

    assert_int_equal(mm_heap_check(heap), MM_OK);
#define OF_HEAP(words_, field, value) NAMES(f, mm_heap_check(heap), words_, field, value)
    OF_HEAP("the geometry of a slab is wrong", slab->bytes, slab->bytes + slab->size);
    OF_HEAP("the number of slabs is wrong", mmi_slab_class(slab)->nr_slabs, 5);
    OF_HEAP("a run is of another class", run->class, (uintptr_t)&heap->classes[3]);
    OF_HEAP("a run has no pages", run->words[MMI_RUN_PAGES], 0);
    OF_HEAP("a run is not in the table", *entry, 0);
    OF_HEAP("the number of slabs is wrong", heap->runs.nr_slabs, 0);
    OF_HEAP("the state of a run contradicts its pages", run->base, 0);
    OF_HEAP("the state of a run contradicts its pages", run->state, MMI_SLAB_KEPT);
    OF_HEAP("a run begins at another page", run->words[MMI_RUN_FIRST], run->base + MM_PAGE_SIZE);
    mm_heap_free(heap, small);
    mm_heap_free(heap, large);
    /* The run is kept, in the bin of its length. */
    assert_int_equal(mm_heap_check(heap), MM_OK);
    assert_int_equal(run->state, MMI_SLAB_KEPT);
    OF_HEAP("a run has no pages", run->words[MMI_RUN_PAGES], 0);
    OF_HEAP("a bin holds a run that does not belong there", run->words[MMI_RUN_PAGES], 4);
    OF_HEAP("a bin holds a run that does not belong there", run->state, MMI_SLAB_DEAD);
    OF_HEAP("a run is not in the table", *entry, 0);
    OF_HEAP("the state of a run contradicts its pages", run->base, run->words[MMI_RUN_FIRST]);
    OF_HEAP("the number of kept pages is wrong", heap->runs.nr_kept, 4);
    OF_HEAP("the bins miss a run", heap->run_bins[4], 0);
    OF_HEAP("the bins miss a run, or hold one twice", run->next,
            heap->run_bins[4] & ((UINT64_C(1) << f->world->pool.slab_bits) - 1));
#undef OF_HEAP
}

/* --- what a free and a look make of a slab ---------------------------------------------------- */

/* A slab that is about to get its pages has bytes and no base yet: NULL does not lie in it, though a
 * CPU guesses it. */
static void test_null_is_in_no_slab(void **state)
{
    struct fixture *f = *state;
    struct mm_heap *heap = &f->world->heap;
    void *a = mm_heap_alloc_on(heap, 0, 100);
    void *b = mm_heap_alloc_on(heap, 0, 100);
    struct mmi_slab *slab = mmi_table_find(&f->world->pool.table, (uint64_t)(uintptr_t)a);
    uint64_t base = slab->base;

    mm_heap_free_on(heap, 0, a); /* guessed from here on */
    slab->base = 0;
    mm_heap_free_on(heap, 0, NULL);
    slab->base = base;
    assert_int_equal(mm_heap_check(heap), MM_OK);
    assert_int_equal(world_stats(f->world).nr_objects, 1);
    mm_heap_free_on(heap, 0, b);
}

/* The inside of an object of the slab that is guessed. */
static void test_inner_pointer_of_the_guessed_slab(void **state)
{
    struct fixture *f = *state;
    struct mm_heap *heap = &f->world->heap;
    char *a = mm_heap_alloc_on(heap, 0, 100);
    char *b = mm_heap_alloc_on(heap, 0, 100);
    struct t_trap_info trap;

    mm_heap_free_on(heap, 0, a);
    T_EXPECT_PANIC(mm_heap_free_on(heap, 0, b + 1), &trap);
    assert_string_equal(trap.what, "free of the inside of an object");
    assert_int_equal(trap.recorded_value, (uintptr_t)b);
    mm_heap_free_on(heap, 0, b);
}

/* The end of a slab in which no object fits holds none. */
static void test_end_of_a_slab(void **state)
{
    struct fixture *f = *state;
    struct mm_heap *heap = &f->world->heap;
    unsigned nr_tails = 0;

    for (unsigned i = 0; i < MM_HEAP_NR_CLASSES; i++) {
        char *object = mm_heap_alloc(heap, heap->classes[i].size);
        const struct mmi_slab *slab =
            mmi_table_find(&f->world->pool.table, (uint64_t)(uintptr_t)object);
        char *end = (char *)(uintptr_t)(slab->base + slab->bytes);

        assert_int_equal(mm_heap_usable_size(heap, object), heap->classes[i].size);
        if (slab->bytes < MM_PAGE_SIZE << slab->order) {
            struct t_trap_info trap;

            nr_tails++;
            assert_int_equal(mm_heap_usable_size(heap, end), 0);
            T_EXPECT_PANIC(mm_heap_free(heap, end), &trap);
            assert_string_equal(trap.recorded, "the unused end of a slab, objects of");
        }
        mm_heap_free(heap, object);
    }
    assert_true(nr_tails > 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_slabs, start, stop),
        cmocka_unit_test_setup_teardown(test_lists_and_hints, start, stop),
        cmocka_unit_test_setup_teardown(test_heap, start, stop),
        cmocka_unit_test_setup_teardown(test_null_is_in_no_slab, start, stop),
        cmocka_unit_test_setup_teardown(test_inner_pointer_of_the_guessed_slab, start, stop),
        cmocka_unit_test_setup_teardown(test_end_of_a_slab, start, stop),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
