// SPDX-License-Identifier: MIT
/**
 * One interrupt at each instruction of a call in turn, which does the one thing that this call can
 * least bear just then. test_heap_reentry.c does anything, at random and all the time.
 */
#define _GNU_SOURCE /* the names of registers in <ucontext.h> */

#include "heap_steps_one.h"

/* --- freeing what is being freed ----------------------------------------------------------------
 *
 * What was the object's slab may end, and begin again elsewhere, before the interrupted free goes
 * on. One of the two frees is told, and only one.
 */

static struct {
    void *object;
    uint64_t size;
    bool rebirth;
    volatile unsigned nr_told;
    sigjmp_buf *volatile landing;
    void *heirs[4];
} twice;

static void told(void *ctx, const struct mm_panic_info *info)
{
    (void)ctx;
    (void)info;
    twice.nr_told++;
    siglongjmp(*twice.landing, 1);
}

/** Free it, and let the slab end; then let its descriptor begin again with other pages. */
static void free_it_and_more(void)
{
    sigjmp_buf *before = twice.landing;
    const struct mm_page_source *source = &step.world->inner;
    sigjmp_buf here;
    void *pages = NULL;

    twice.landing = &here;
    if (sigsetjmp(here, 0) == 0) {
        mm_heap_free(&step.world->heap, twice.object);
        mm_heap_reclaim(&step.world->heap);
        if (twice.rebirth) {
            uintptr_t old = (uintptr_t)twice.object & ~(uintptr_t)MM_PAGE_MASK;

            /* Its page goes to somebody else: else it might come back as the same object. */
            do {
                assert_int_equal(source->ops->alloc(source->ctx, 1, 1, 0, &pages), MM_OK);
            } while ((uintptr_t)pages != old);
            for (unsigned i = 0; i < 4; i++) {
                twice.heirs[i] = mm_heap_alloc(&step.world->heap, twice.size);
            }
        }
    }
    twice.landing = before;
}

/** `how`: which size; whether the word is guessed; whether the slab begins again. */
static void free_at(uint64_t at, uint64_t how)
{
    static const uint64_t sizes[] = {8192, 64, 30000};
    static const struct mm_platform_ops ops = {.panic = told};
    struct world *world = world_of_range(MiB);
    struct mm_pool_config config = {.source = world->inner, .platform = {&ops, NULL}, .nr_cpus = 1};
    sigjmp_buf here;

    memset(&twice, 0, sizeof(twice));
    twice.size = sizes[how / 4];
    twice.rebirth = how % 2 == 1;
    begin(world, at, free_it_and_more);
    assert_int_equal(mm_pool_init(&world->pool, &config), MM_OK);
    assert_int_equal(mm_heap_init(&world->heap, &world->pool, NULL), MM_OK);
    if (how / 2 % 2 == 1) {
        mm_heap_free_on(&world->heap, 0, mm_heap_alloc_on(&world->heap, 0, twice.size));
    }
    twice.object = mm_heap_alloc_on(&world->heap, 0, twice.size);
    assert_non_null(twice.object);
    twice.landing = &here;
    if (sigsetjmp(here, 1) == 0) {
        step_on();
        mm_heap_free_on(&world->heap, 0, twice.object);
    }
    step_off();
    if (step.acted) {
        assert_int_equal(twice.nr_told, 1);
    }
    /* Who inherited the slab still has it: nobody freed it for them. */
    for (unsigned i = 0; i < 4 && twice.heirs[i] != NULL; i++) {
        assert_int_not_equal(mm_heap_usable_size(&world->heap, twice.heirs[i]), 0);
    }
    munmap(world->memory, world->memory_len); /* the interrupted call did not end: not taken down */
    free(world);
}

static void test_free_while_freeing(void **state)
{
    (void)state;
    if (SIGNALS_ARE_LATE) {
        skip();
    }
    for (uint64_t how = 0; how < 12; how++) {
        at_every_instruction(free_at, how);
    }
}

/* --- allocating while allocating ----------------------------------------------------------------
 *
 * The call finds its word empty: it takes another word, a listed slab, or makes one. The handler
 * wants objects of the same size, so everything that the call is about to use may be gone.
 */

static struct {
    void *objects[500];
    unsigned nr;
    uint64_t size;
    unsigned nr_wanted;
} crowd;

static void allocate_some(void)
{
    for (unsigned i = 0; i < crowd.nr_wanted; i++) {
        void *object = mm_heap_alloc_on(&step.world->heap, 0, crowd.size);

        if (object != NULL) {
            memset(object, 0x11, crowd.size);
            crowd.objects[crowd.nr++] = object;
        }
    }
}

/** Free objects [first, first + nr) of the crowd. */
static void free_some(unsigned first, unsigned nr)
{
    for (unsigned i = first; i < first + nr; i++) {
        mm_heap_free_on(&step.world->heap, 0, crowd.objects[i]);
    }
    crowd.nr -= nr;
    memmove(&crowd.objects[first], &crowd.objects[first + nr],
            (crowd.nr - first) * sizeof(crowd.objects[0]));
}

/*
 * Of 64 bytes, the first slab has 64 objects, the next two have 128; of 2048, they have 2, 4 and 4.
 * `how`: which of the two; whether the second slab is listed; how much the handler takes.
 */
static void allocate_at(uint64_t at, uint64_t how)
{
    struct world *world = world_of_range(MiB);
    unsigned per_slab = how % 2 == 0 ? 64 : 2;
    void *volatile object;

    memset(&crowd, 0, sizeof(crowd));
    crowd.size = how % 2 == 0 ? 64 : 2048;
    world_start_plain(world, 1);
    begin(world, at, allocate_some);
    crowd.nr_wanted = 5 * per_slab;
    allocate_some();
    assert_int_equal(world_stats(world).nr_slabs, 3);
    if (how / 2 % 2 == 1) {
        free_some(per_slab, per_slab);
    }
    crowd.nr_wanted = how / 4 == 0 ? 1 : 2 * per_slab;
    step_on();
    object = mm_heap_alloc_on(&world->heap, 0, crowd.size);
    step_off();
    assert_non_null(object);
    memset(object, 0x22, crowd.size);
    for (unsigned i = 0; i < crowd.nr; i++) {
        assert_ptr_not_equal(crowd.objects[i], object);
    }
    assert_int_equal(mm_heap_check(&world->heap), MM_OK);
    assert_int_equal(world_stats(world).nr_objects, crowd.nr + 1);
    mm_heap_free(&world->heap, object);
    free_some(0, crowd.nr);
    world_stop(world);
    world_delete(world);
}

static void test_allocate_while_allocating(void **state)
{
    (void)state;
    if (SIGNALS_ARE_LATE) {
        skip();
    }
    for (uint64_t how = 0; how < 8; how++) {
        at_every_instruction(allocate_at, how);
    }
}

/* --- the last free of a slab, and somebody who has no other memory ------------------------------
 *
 * The slab is about to be given back. The handler's allocation finds the page source empty and
 * sweeps: it may get an object of a word that was not taken yet, and then the slab stays. Or it
 * frees and allocates in another slab of the same size.
 */

static void retire_at(uint64_t at, uint64_t how)
{
    struct world *world = world_of_range(MiB);
    const struct mm_page_source *source = &world->inner;
    void *pages[256];
    unsigned nr_pages = 0;
    struct mm_heap_stats stats;
    void *last;

    memset(&crowd, 0, sizeof(crowd));
    world_start_plain(world, 1);
    begin(world, at, allocate_some);
    crowd.size = 64;
    crowd.nr_wanted = 320;
    allocate_some();
    assert_int_equal(world_stats(world).nr_slabs, 3);
    while (source->ops->alloc(source->ctx, 1, 1, 0, &pages[nr_pages]) == MM_OK) {
        nr_pages++;
    }
    /* The second slab is empty but for one object: to free that gives it back. */
    free_some(64, 127);
    last = crowd.objects[64];
    memmove(&crowd.objects[64], &crowd.objects[65], 128 * sizeof(crowd.objects[0]));
    crowd.nr--;
    crowd.nr_wanted = (unsigned)how;
    step_on();
    mm_heap_free_on(&world->heap, 0, last);
    step_off();
    assert_int_equal(mm_heap_check(&world->heap), MM_OK);
    stats = world_stats(world);
    assert_int_equal(stats.nr_objects, crowd.nr);
    /* What there is can be had to the last object, by way of the source or not. */
    crowd.nr_wanted = 200;
    allocate_some();
    assert_int_equal(crowd.nr, 320);
    assert_int_equal(mm_heap_check(&world->heap), MM_OK);
    free_some(0, crowd.nr);
    while (nr_pages > 0) {
        source->ops->free(source->ctx, pages[--nr_pages], 1);
    }
    world_stop(world);
    world_delete(world);
}

static void test_allocate_while_retiring(void **state)
{
    (void)state;
    if (SIGNALS_ARE_LATE) {
        skip();
    }
    at_every_instruction(retire_at, 1);
    at_every_instruction(retire_at, 40);
}

/* --- freeing nothing while a slab begins --------------------------------------------------------
 *
 * The CPU freed last in a slab that has ended and begins again: NULL is no object of it.
 */

static void free_nothing(void)
{
    mm_heap_free_on(&step.world->heap, 0, NULL);
}

static void begin_at(uint64_t at, uint64_t how)
{
    struct world *world = world_of_range(MiB);
    void *volatile object;

    world_start_plain(world, 1);
    begin(world, at, free_nothing);
    mm_heap_free_on(&world->heap, 0, mm_heap_alloc_on(&world->heap, 0, how));
    mm_heap_reclaim(&world->heap);
    assert_int_equal(world_stats(world).nr_slabs, 0);
    free_nothing();
    step_on();
    object = mm_heap_alloc_on(&world->heap, 0, how);
    step_off();
    assert_non_null(object);
    assert_int_equal(world_stats(world).nr_objects, 1);
    assert_int_equal(mm_heap_check(&world->heap), MM_OK);
    mm_heap_free_on(&world->heap, 0, object);
    world_stop(world);
    world_delete(world);
}

static void test_free_nothing_while_beginning(void **state)
{
    (void)state;
    if (SIGNALS_ARE_LATE) {
        skip();
    }
    at_every_instruction(begin_at, 8192);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_free_while_freeing),
        cmocka_unit_test(test_allocate_while_allocating),
        cmocka_unit_test(test_allocate_while_retiring),
        cmocka_unit_test(test_free_nothing_while_beginning),
    };

    return cmocka_run_group_tests_name("heap_steps", tests, NULL, NULL);
}
