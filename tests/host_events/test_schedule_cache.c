// SPDX-License-Identifier: MIT
/**
 * Two CPUs in an object cache, under every schedule of few switches and many others.
 *
 * Slabs of two objects make every free a matter of the slab: it is dropped, listed, taken up, kept
 * or retired (slab.c has the drawing), and each race meets one CPU in one of these steps with the
 * other in another.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "heap_race.h"

#define SMALL 64u   /* 64 objects a page: two words */
#define BIG   2048u /* two objects a page */

static void test_same_word(void **state)
{
    (void)state;
    prepare(16, SMALL);
    fill(0, 0, 2, 0);
    for (unsigned cpu = 0; cpu < 2; cpu++) {
        unsigned own = 10 + 10 * cpu;

        SCRIPT(w->steps[cpu], {ALLOC, own, 0, true}, {ALLOC, own + 1, 0, true}, {FREE, own, 0, 0},
               {FREE, cpu, 0, 0}, {FREE, own + 1, 0, 0});
    }
    race("cache.same-word", 2);
}

/* A handler allocates and frees in the same cache, at every point of both CPUs. */
static void test_interrupted(void **state)
{
    (void)state;
    prepare(16, BIG);
    SCRIPT(w->steps[0], {ALLOC, 10, 0, true}, {ALLOC, 11, 0, true}, {FREE, 10, 0, 0},
           {FREE, 11, 0, 0});
    SCRIPT(w->handler, {ALLOC, 30, 0, true}, {ALLOC, 31, 0, true}, {FREE, 30, 0, 0},
           {FREE, 31, 0, 0});
    race("cache.interrupted", 1);
    prepare(16, BIG);
    fill(0, 0, 3, 0);
    SCRIPT(w->steps[0], {FREE, 0, 0, 0}, {ALLOC, 10, 0, true}, {FREE, 1, 0, 0});
    SCRIPT(w->steps[1], {FREE, 2, 0, 0}, {BOTH_OF, 20, 0, true});
    SCRIPT(w->handler, {ALLOC, 30, 0, true}, {RECLAIM, 0, 0, 0}, {FREE, 30, 0, 0});
    race("cache.interrupted-on-two", 2);
}

/* Both need a slab at once, and there are pages for both. */
static void test_both_grow(void **state)
{
    (void)state;
    prepare(16, BIG);
    for (unsigned cpu = 0; cpu < 2; cpu++) {
        unsigned own = 10 + 10 * cpu;

        SCRIPT(w->steps[cpu], {ALLOC, own, 0, true}, {ALLOC, own + 1, 0, true},
               {ALLOC, own + 2, 0, true});
    }
    race("cache.both-grow", 2);
    /* One page left: one grows, and what is free in its slab is for both. */
    prepare(16, BIG);
    fill(0, 0, 1, 0);
    leave_pages(1);
    SCRIPT(w->steps[0], {ALLOC, 10, 0, true});
    SCRIPT(w->steps[1], {ALLOC, 20, 0, true});
    race("cache.last-page", 2);
}

/* The last two objects of a slab, freed by the CPU that has it and by another. */
static void test_last_objects(void **state)
{
    (void)state;
    prepare(16, BIG);
    fill(0, 0, 6, 0);
    SCRIPT(w->steps[0], {FREE, 0, 0, 0}, {FREE, 2, 0, 0}, {FREE, 4, 0, 0});
    SCRIPT(w->steps[1], {FREE, 1, 0, 0}, {FREE, 3, 0, 0}, {FREE, 5, 0, 0});
    race("cache.last-objects", 2);
    prepare(32, SMALL);
    fill(0, 0, 64, 0);
    for (unsigned i = 1; i < 63; i++) {
        free_one(0, forget_object(i));
    }
    SCRIPT(w->steps[0], {FREE, 0, 0, 0}, {BOTH_OF, 10, 0, true});
    SCRIPT(w->steps[1], {FREE, 63, 0, 0}, {BOTH_OF, 20, 0, true});
    race("cache.last-objects-of-words", 2);
}

/* One empties a listed slab, which retires; the other takes it off the list meanwhile. */
static void test_retire_against_alloc(void **state)
{
    (void)state;
    prepare(32, BIG);
    fill(0, 0, 8, 0);
    free_one(0, forget_object(0)); /* listed, and one object left */
    free_one(0, forget_object(2)); /* the same */
    SCRIPT(w->steps[0], {FREE, 1, 0, 0}, {FREE, 3, 0, 0});
    SCRIPT(w->steps[1], {ALLOC, 20, 0, true}, {ALLOC, 21, 0, true}, {ALLOC, 22, 0, true},
           {FREE, 20, 0, 0});
    race("cache.retire-alloc", 2);
    /* No other page: what is not given back is to be had. */
    prepare(32, BIG);
    fill(0, 0, 8, 0);
    free_one(0, forget_object(0));
    leave_pages(0);
    SCRIPT(w->steps[0], {FREE, 1, 0, 0}, {ALLOC, 10, 0, false});
    SCRIPT(w->steps[1], {ALLOC, 20, 0, false}, {FREE, 2, 0, 0}, {ALLOC, 21, 0, false},
           {FREE, 3, 0, 0});
    race("cache.retire-alloc-no-pages", 2);
    /* All other slabs are full: who takes the retiring one off the list finds its object after
     * that, in the sweep, and it does not end. It is one of those that are not kept. */
    prepare(32, BIG);
    fill(0, 0, 10, 0);
    free_one(0, forget_object(2));
    free_one(0, forget_object(3));
    free_one(0, forget_object(4));
    leave_pages(0);
    SCRIPT(w->steps[0], {FREE, 5, 0, 0});
    SCRIPT(w->steps[1], {ALLOC, 20, 0, false}, {FREE, 20, 0, 0});
    race("cache.retire-sweep", 2);
    /* The same, and both objects are found so: the first of them that is freed lists the slab. */
    prepare(32, BIG);
    fill(0, 0, 10, 0);
    free_one(0, forget_object(2));
    free_one(0, forget_object(3));
    free_one(0, forget_object(4));
    leave_pages(0);
    SCRIPT(w->steps[0], {FREE, 5, 0, 0});
    SCRIPT(w->steps[1], {ALLOC, 20, 0, false}, {ALLOC, 21, 0, false}, {FREE, 20, 0, 0});
    race("cache.retire-sweep-both", 2);
}

static void test_reclaim(void **state)
{
    (void)state;
    prepare(32, BIG);
    fill(0, 0, 4, 0);
    fill(1, 4, 2, 0);
    SCRIPT(w->steps[0], {FREE, 0, 0, 0}, {FREE, 1, 0, 0}, {ALLOC, 10, 0, true});
    SCRIPT(w->steps[1], {RECLAIM, 0, 0, 0}, {ALLOC, 20, 0, true}, {RECLAIM, 0, 0, 0});
    race("cache.reclaim-alloc", 2);
    prepare(32, BIG);
    fill(0, 0, 4, 0);
    fill(1, 4, 2, 0);
    free_one(0, forget_object(0));
    free_one(0, forget_object(1)); /* the one that is kept */
    SCRIPT(w->steps[0], {RECLAIM, 0, 0, 0}, {FREE, 2, 0, 0});
    SCRIPT(w->steps[1], {FREE, 3, 0, 0}, {RECLAIM, 0, 0, 0});
    race("cache.reclaim-reclaim", 2);
    prepare(32, BIG);
    fill(0, 0, 4, 0);
    free_one(0, forget_object(0));
    free_one(0, forget_object(1));
    SCRIPT(w->steps[0], {ALLOC, 10, 0, true}, {ALLOC, 11, 0, true}, {FREE, 10, 0, 0},
           {FREE, 11, 0, 0});
    SCRIPT(w->steps[1], {RECLAIM, 0, 0, 0}, {FREE, 2, 0, 0}, {FREE, 3, 0, 0});
    race("cache.kept", 2);
}

/* A slab ends and begins again while another CPU acts on an old hint to it. */
static void test_next_life(void **state)
{
    (void)state;
    prepare(32, BIG);
    fill(0, 0, 1, 0);
    SCRIPT(w->steps[0], {FREE, 0, 0, 0}, {RECLAIM, 0, 0, 0}, {ALLOC, 10, 0, true},
           {ALLOC, 11, 0, true});
    SCRIPT(w->steps[1], {ALLOC, 20, 0, true}, {RECLAIM, 0, 0, 0}, {ALLOC, 21, 0, true},
           {FREE, 20, 0, 0});
    race("cache.next-life", 2);
    prepare(32, BIG);
    fill(0, 0, 2, 0);
    SCRIPT(w->steps[0], {BOTH_OF, 10, 0, true}, {BOTH_OF, 11, 0, true});
    SCRIPT(w->steps[1], {FREE, 0, 0, 0}, {FREE, 1, 0, 0}, {RECLAIM, 0, 0, 0}, {ALLOC, 20, 0, true});
    SCRIPT(w->steps[2], {RECLAIM, 0, 0, 0}, {ALLOC, 30, 0, true});
    race("cache.three", 3);
}

/* Many slabs, so that the next would be larger: what a CPU owns is given up when it empties. */
static void test_larger_slabs(void **state)
{
    (void)state;
    prepare(64, BIG);
    fill(0, 0, 10, 0);
    SCRIPT(w->steps[0], {FREE, 2, 0, 0}, {FREE, 3, 0, 0}, {FREE, 6, 0, 0}, {FREE, 7, 0, 0});
    SCRIPT(w->steps[1], {FREE, 4, 0, 0}, {FREE, 5, 0, 0}, {FREE, 8, 0, 0}, {FREE, 9, 0, 0},
           {ALLOC, 20, 0, true});
    race("cache.larger-slabs", 2);
}

/* Many at once, against many and against one, from words that the other is in; a slab that one list
 * empties is given back while the other takes from it. */
static void test_bulk(void **state)
{
    (void)state;
    prepare(16, SMALL);
    fill(0, 0, 2, 0);
    SCRIPT(w->steps[0], {BULK, 10, 5, true}, {FREE_BULK, 10, 5, 0}, {BULK, 10, 2, true});
    SCRIPT(w->steps[1], {BULK, 20, 3, true}, {FREE, 0, 0, 0}, {ALLOC, 30, 0, true},
           {FREE_BULK, 20, 3, 0});
    race("cache.bulk", 2);
    prepare(32, BIG);
    fill(0, 0, 6, 0);
    SCRIPT(w->steps[0], {FREE_BULK, 0, 4, 0}, {BULK, 10, 3, true});
    SCRIPT(w->steps[1], {BULK, 20, 5, true}, {FREE_BULK, 20, 5, 0}, {RECLAIM, 0, 0, 0});
    race("cache.bulk-of-slabs", 2);
    prepare(32, BIG);
    fill(0, 0, 4, 0);
    SCRIPT(w->steps[0], {FREE_BULK, 0, 4, 0}, {BULK, 10, 4, true});
    SCRIPT(w->handler, {BULK, 30, 3, true}, {RECLAIM, 0, 0, 0}, {FREE_BULK, 30, 3, 0});
    race("cache.bulk-interrupted", 1);
    /* One page is left: what there is goes to whoever is first, and none of it to both. */
    prepare(32, BIG);
    fill(0, 0, 2, 0);
    leave_pages(1);
    SCRIPT(w->steps[0], {BULK, 10, 4, false}, {FREE_BULK, 10, 4, 0});
    SCRIPT(w->steps[1], {FREE_BULK, 0, 2, 0}, {BULK, 20, 4, false});
    race("cache.bulk-in-want", 2);
}

static void test_double_free(void **state)
{
    (void)state;
    prepare(16, SMALL);
    fill(0, 0, 2, 0);
    w->twice = true;
    SCRIPT(w->steps[0], {TWICE, 1, 0, 0});
    SCRIPT(w->steps[1], {TWICE, 1, 0, 0});
    race("cache.double-free", 2);
    /* The one that comes first gives the slab back, while the other is about to free. */
    prepare(32, BIG);
    fill(0, 0, 6, 0);
    free_one(0, forget_object(0));
    free_one(0, forget_object(2));
    free_one(0, forget_object(3)); /* the one that is kept */
    w->twice = true;
    SCRIPT(w->steps[0], {TWICE, 1, 0, 0});
    SCRIPT(w->steps[1], {TWICE, 1, 0, 0});
    race("cache.double-free-and-retire", 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_word),
        cmocka_unit_test(test_interrupted),
        cmocka_unit_test(test_both_grow),
        cmocka_unit_test(test_last_objects),
        cmocka_unit_test(test_retire_against_alloc),
        cmocka_unit_test(test_reclaim),
        cmocka_unit_test(test_next_life),
        cmocka_unit_test(test_larger_slabs),
        cmocka_unit_test(test_bulk),
        cmocka_unit_test(test_double_free),
    };

    return cmocka_run_group_tests_name("schedule_cache", tests, NULL, NULL);
}
