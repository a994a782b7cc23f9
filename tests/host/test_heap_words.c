// SPDX-License-Identifier: MIT
/**
 * Which word a CPU goes on with: its own, round them all, and no longer one of a slab that it lost.
 * Two CPUs that share a word share a cache line: nothing is wrong, and all is slow.
 */
#define _GNU_SOURCE
#include "heap_steps_one.h"

#define SIZE     16u
#define NR       256u /* objects of a page: eight words */
#define A_WORD   32u
#define NR_FIRST 5u
#define HALF     (3 * A_WORD) /* to a word before the last, which CPU 0 is at */

static struct world *world;
static char *objects[NR];

static int start(void **state)
{
    (void)state;
    world = world_of_range(MiB);
    world_start_plain(world, 2);
    for (unsigned i = 0; i < NR; i++) {
        objects[i] = mm_heap_alloc_on(&world->heap, 0, SIZE);
        assert_ptr_equal(objects[i], objects[0] + (size_t)i * SIZE);
    }
    return 0;
}

static int stop(void **state)
{
    (void)state;
    for (unsigned i = 0; i < NR; i++) {
        mm_heap_free(&world->heap, objects[i]);
    }
    world_stop(world);
    world_delete(world);
    return 0;
}

static uint64_t page_of(const void *object)
{
    return (uint64_t)(uintptr_t)object / MM_PAGE_SIZE;
}

/** By no CPU that there is: so none remembers the words. */
static void free_some(unsigned from, unsigned nr)
{
    for (unsigned i = from; i < from + nr; i++) {
        mm_heap_free_on(&world->heap, 77, objects[i]);
        objects[i] = NULL;
    }
}

/** So that any CPU may go on with the slab. */
static void free_half(void)
{
    free_some(HALF, NR / 2);
}

static char *alloc_back(uint32_t cpu)
{
    char *object = mm_heap_alloc_on(&world->heap, cpu, SIZE);

    assert_non_null(object);
    if (page_of(object) == page_of(objects[NR - 1])) {
        objects[(uint64_t)(uintptr_t)object % MM_PAGE_SIZE / SIZE] = object;
    }
    return object;
}

/* A word is used up, and then the one after it comes, however long others have been free. */
static void test_round(void **state)
{
    (void)state;
    free_some(4 * A_WORD, 2);
    (void)alloc_back(0); /* now at this word */
    (void)alloc_back(0);
    free_some(0, 2);
    free_some(6 * A_WORD, 2);
    free_some(2 * A_WORD, 1);
    for (unsigned i = 0; i < 5; i++) {
        static const unsigned order[] = {6 * A_WORD, 6 * A_WORD + 1, 0, 1, 2 * A_WORD};
        char *object = alloc_back(0);

        assert_ptr_equal(object, objects[NR - 1] - (size_t)(NR - 1 - order[i]) * SIZE);
    }
}

/* What one CPU frees into the slab of another is not where it goes on. */
static void test_of_another(void **state)
{
    char *mine;
    char *next;

    (void)state;
    mm_heap_free_on(&world->heap, 1, objects[3]);
    objects[3] = NULL;
    mine = mm_heap_alloc_on(&world->heap, 1, SIZE);
    assert_int_not_equal(page_of(mine), page_of(objects[0]));
    mm_heap_free_on(&world->heap, 1, objects[4]);
    objects[4] = NULL;
    next = mm_heap_alloc_on(&world->heap, 1, SIZE);
    assert_int_equal(page_of(next), page_of(mine));
    mm_heap_free_on(&world->heap, 1, next);
    mm_heap_free_on(&world->heap, 1, mine);
    for (unsigned i = 3; i < 5; i++) {
        next = alloc_back(0);
        assert_ptr_equal(next, objects[0] + (size_t)i * SIZE);
    }
}

/* The same in a cache. */
static void test_of_another_in_a_cache(void **state)
{
    struct mm_cache_config config = {.name = "words", .size = 64};
    struct mm_cache cache = {0};
    void *first;
    void *second;
    void *mine;

    (void)state;
    assert_int_equal(mm_cache_init(&cache, &world->pool, &config), MM_OK);
    first = mm_cache_alloc_on(&cache, 0);
    second = mm_cache_alloc_on(&cache, 0);
    assert_int_equal(page_of(first), page_of(second));
    mm_cache_free_on(&cache, 1, first);
    mine = mm_cache_alloc_on(&cache, 1);
    assert_int_not_equal(page_of(mine), page_of(second));
    mm_cache_free_on(&cache, 0, second);
    assert_ptr_equal(mm_cache_alloc_on(&cache, 0), first); /* the lowest of the word */
    mm_cache_free(&cache, first);
    mm_cache_free(&cache, mine);
    assert_int_equal(mm_cache_destroy(&cache), MM_OK);
}

/* The slab goes on to another CPU: the one that had it forgets its word. */
static void test_lost_to_reclaim(void **state)
{
    char *other;
    char *mine;

    (void)state;
    free_some(NR - A_WORD, NR_FIRST); /* the word that CPU 0 is at */
    free_half();
    mm_heap_reclaim(&world->heap);
    other = alloc_back(1);
    assert_ptr_equal(other, objects[0] + (size_t)HALF * SIZE);
    mine = mm_heap_alloc_on(&world->heap, 0, SIZE);
    assert_int_not_equal(page_of(mine), page_of(other));
    mm_heap_free(&world->heap, mine);
}

/* It goes on with a word of a slab that was its own, by a free; then another CPU has the slab. The
 * next free of the first into it finds that out, also one into the word that it expects. */
static void test_lost_to_another(void **state)
{
    char *mine;
    char *other;

    (void)state;
    mine = mm_heap_alloc_on(&world->heap, 0, SIZE); /* another slab is its own now */
    assert_int_not_equal(page_of(mine), page_of(objects[0]));
    for (unsigned i = 0; i < NR_FIRST; i++) {
        mm_heap_free_on(&world->heap, 0, objects[i]);
        objects[i] = NULL;
    }
    free_half();
    other = alloc_back(1);
    assert_ptr_equal(other, objects[0]);
    mm_heap_free_on(&world->heap, 0, objects[NR_FIRST]);
    objects[NR_FIRST] = NULL;
    other = mm_heap_alloc_on(&world->heap, 0, SIZE);
    assert_int_equal(page_of(other), page_of(mine));
    mm_heap_free(&world->heap, other);
    mm_heap_free(&world->heap, mine);
}

/* The same, where that free is of the object that it freed last, which is not looked up. */
static void test_lost_to_another_while_guessed(void **state)
{
    char *mine;
    char *other;

    (void)state;
    mine = mm_heap_alloc_on(&world->heap, 0, SIZE); /* another slab is its own now */
    mm_heap_free_on(&world->heap, 0, objects[0]);
    assert_ptr_equal(alloc_back(0), objects[0]);
    free_some(A_WORD, NR_FIRST);
    free_half();
    other = alloc_back(1);
    assert_ptr_equal(other, objects[A_WORD]);
    mm_heap_free_on(&world->heap, 0, objects[0]);
    objects[0] = NULL;
    other = mm_heap_alloc_on(&world->heap, 0, SIZE);
    assert_int_equal(page_of(other), page_of(mine));
    mm_heap_free(&world->heap, other);
    mm_heap_free(&world->heap, mine);
}

/* --- an interrupt reclaims, after each instruction in turn ------------------------------------ */

static void reclaim(void)
{
    mm_heap_reclaim(&world->heap);
}

/** `how`: 0: the call takes a new slab; 1: another word of the CPU's. */
static void lose_at(uint64_t at, uint64_t how)
{
    void *volatile object;
    void *other;
    void *mine;

    if (how == 0) {
        world = world_of_range(MiB);
        world_start_plain(world, 2);
        mm_heap_free(&world->heap, mm_heap_alloc_on(&world->heap, 0, SIZE));
        reclaim(); /* descriptors there are: the way is short */
    } else {
        assert_int_equal(start(NULL), 0);
        free_some(0, NR_FIRST);
        free_some(A_WORD, 1);
        free_some(2 * A_WORD, 1);
        free_half();
    }
    begin(world, at, reclaim);
    step_on();
    object = mm_heap_alloc_on(&world->heap, 0, SIZE);
    step_off();
    assert_non_null(object);
    other = mm_heap_alloc_on(&world->heap, 1, SIZE);
    mine = mm_heap_alloc_on(&world->heap, 0, SIZE);
    assert_int_not_equal(page_of(other), page_of(mine));
    mm_heap_free(&world->heap, other);
    mm_heap_free(&world->heap, mine);
    mm_heap_free(&world->heap, object);
    assert_int_equal(mm_heap_check(&world->heap), MM_OK);
    if (how == 0) {
        world_stop(world);
        world_delete(world);
    } else {
        stop(NULL);
    }
}

static void test_lost_to_interrupt(void **state)
{
    (void)state;
    if (SIGNALS_ARE_LATE) {
        skip();
    }
    at_every_instruction(lose_at, 0);
    at_every_instruction(lose_at, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_round, start, stop),
        cmocka_unit_test_setup_teardown(test_of_another, start, stop),
        cmocka_unit_test_setup_teardown(test_of_another_in_a_cache, start, stop),
        cmocka_unit_test_setup_teardown(test_lost_to_reclaim, start, stop),
        cmocka_unit_test_setup_teardown(test_lost_to_another, start, stop),
        cmocka_unit_test_setup_teardown(test_lost_to_another_while_guessed, start, stop),
        cmocka_unit_test(test_lost_to_interrupt),
    };

    return cmocka_run_group_tests_name("heap_words", tests, NULL, NULL);
}
