// SPDX-License-Identifier: MIT
/**
 * Two CPUs in the general heap, under every schedule of few switches and many others: classes of
 * several sizes over one source of pages, runs, realloc, and what is taken back from one size for
 * another. The slabs themselves are the matter of test_schedule_cache.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "heap_race.h"

#define BIG   2048u       /* two objects a page */
#define RUN   (3u * 4096) /* three pages, no slab */
#define SHORT (2u * 4096 + 1000)

static void test_alloc_and_free(void **state)
{
    (void)state;
    prepare(32, 0);
    fill(0, 0, 3, BIG);
    SCRIPT(w->steps[0], {ALLOC, 10, BIG, true}, {FREE, 0, 0, 0}, {ALLOC, 11, 100, true},
           {FREE, 10, 0, 0});
    SCRIPT(w->steps[1], {FREE, 1, 0, 0}, {ALLOC, 20, 100, true}, {FREE, 2, 0, 0},
           {ALLOC, 21, BIG, true});
    race("heap.alloc-free", 2);
    prepare(32, 0);
    fill(0, 0, 3, BIG);
    fill(0, 3, 1, RUN);
    SCRIPT(w->steps[0], {FREE_SIZED, 0, 0, 0}, {ALLOC, 10, BIG, true}, {FREE_SIZED, 3, 0, 0},
           {FREE_SIZED, 10, 0, 0});
    SCRIPT(w->steps[1], {REALLOC, 1, 1100, true}, {FREE_SIZED, 1, 0, 0}, {FREE_SIZED, 2, 0, 0},
           {ALLOC, 21, BIG, true});
    race("heap.sized", 2);
    prepare(32, 0);
    fill(0, 0, 3, BIG);
    SCRIPT(w->steps[0], {FREE, 0, 0, 0}, {ALLOC, 10, BIG, true}, {FREE, 2, 0, 0});
    SCRIPT(w->steps[1], {FREE, 1, 0, 0}, {BOTH_OF, 20, BIG, true});
    SCRIPT(w->handler, {ALLOC, 30, BIG, true}, {ALLOC, 31, RUN, true}, {FREE, 30, 0, 0},
           {FREE, 31, 0, 0});
    race("heap.interrupted", 2);
    /* The first of all: both make the table's node and a page of descriptors. */
    prepare(48, 0);
    SCRIPT(w->steps[0], {ALLOC, 10, BIG, true}, {ALLOC, 11, RUN, true});
    SCRIPT(w->steps[1], {ALLOC, 20, 100, true}, {FREE, 20, 0, 0});
    race("heap.first", 2);
}

/* The word that a CPU freed last to is guessed; its slab ends and begins again meanwhile. */
static void test_guessed_word(void **state)
{
    (void)state;
    prepare(32, 0);
    fill(0, 0, 6, BIG);
    fill(1, 6, 2, BIG);
    free_one(0, forget_object(0));
    free_one(1, forget_object(2));
    SCRIPT(w->steps[0], {FREE, 1, 0, 0}, {RECLAIM, 0, 0, 0}, {ALLOC, 10, BIG, true},
           {FREE, 10, 0, 0});
    SCRIPT(w->steps[1], {FREE, 3, 0, 0}, {ALLOC, 20, BIG, true}, {FREE, 4, 0, 0}, {FREE, 20, 0, 0});
    race("heap.guess", 2);
    prepare(32, 0);
    fill(0, 0, 2, 8192);
    free_one(0, forget_object(0));
    SCRIPT(w->steps[0], {RECLAIM, 0, 0, 0}, {ALLOC, 10, 8192, true}, {FREE, 10, 0, 0});
    SCRIPT(w->steps[1], {FREE, 1, 0, 0}, {FREE, 2, 0, 0}, {ALLOC, 20, 8192, true});
    race("heap.guess-large", 2);
}

static void test_runs(void **state)
{
    (void)state;
    prepare(32, 0);
    fill(0, 0, 1, RUN);
    SCRIPT(w->steps[0], {ALLOC, 10, RUN, true}, {FREE, 0, 0, 0}, {ALLOC, 11, RUN, true},
           {FREE, 10, 0, 0});
    SCRIPT(w->steps[1], {ALLOC, 20, RUN, true}, {ALLOC, 21, BIG, true}, {FREE, 20, 0, 0},
           {ALLOC, 22, RUN, true});
    race("heap.runs", 2);
    /* Memory for one run: the other gets it once it is back, or nothing; no page is lost. */
    prepare(32, 0);
    fill(0, 0, 1, RUN);
    leave_pages(3);
    SCRIPT(w->steps[0], {FREE, 0, 0, 0}, {ALLOC, 10, RUN, false}, {FREE, 10, 0, 0});
    SCRIPT(w->steps[1], {ALLOC, 20, RUN, false}, {ALLOC, 21, BIG, false}, {FREE, 20, 0, 0});
    race("heap.few-pages", 2);
}

/* Freed runs are kept: taken up by either, given back by the other, and made room of. */
static void test_kept_runs(void **state)
{
    (void)state;
    prepare(48, 0);
    fill(0, 0, 4, RUN);
    free_one(0, forget_object(3));
    SCRIPT(w->steps[0], {FREE, 0, 0, 0}, {ALLOC, 10, RUN, true}, {FREE, 1, 0, 0});
    SCRIPT(w->steps[1], {ALLOC, 20, RUN, true}, {FREE, 2, 0, 0}, {RECLAIM, 0, 0, 0},
           {ALLOC, 21, RUN, true});
    race("heap.kept-runs", 2);
    prepare(80, 0);
    fill(0, 0, 3, 65536);
    fill(0, 3, 2, RUN);
    SCRIPT(w->steps[0], {FREE, 0, 0, 0}, {FREE, 1, 0, 0}, {ALLOC, 10, 65536, true});
    SCRIPT(w->steps[1], {FREE, 3, 0, 0}, {FREE, 2, 0, 0}, {ALLOC, 20, RUN, true}, {FREE, 4, 0, 0});
    race("heap.kept-runs-make-room", 2);
    /* The second free meets a run that is kept, taken up again, or gone. */
    prepare(48, 0);
    fill(0, 0, 3, RUN);
    w->twice = true;
    SCRIPT(w->steps[0], {TWICE, 1, 0, 0}, {FREE, 0, 0, 0});
    SCRIPT(w->steps[1], {FREE, 2, 0, 0}, {TWICE, 1, 0, 0}, {RECLAIM, 0, 0, 0});
    race("heap.kept-runs-double-free", 2);
}

static void test_resizing(void **state)
{
    (void)state;
    prepare(48, 0);
    fill(0, 0, 2, BIG);
    fill(0, 2, 1, RUN);
    SCRIPT(w->steps[0], {REALLOC, 0, 100, true}, {REALLOC, 2, SHORT, true}, {REALLOC, 0, RUN, true},
           {FREE, 2, 0, 0});
    SCRIPT(w->steps[1], {REALLOC, 1, RUN, true}, {ALLOC, 20, BIG, true}, {REALLOC, 1, BIG, true},
           {FREE, 20, 0, 0});
    race("heap.realloc", 2);
    /* The tail that a run gives back is at once another's. */
    prepare(32, 0);
    fill(0, 0, 1, 5 * 4096);
    leave_pages(0);
    SCRIPT(w->steps[0], {REALLOC, 0, RUN, true}, {ALLOC, 10, BIG, false}, {FREE, 0, 0, 0});
    SCRIPT(w->steps[1], {ALLOC, 20, BIG, false}, {ALLOC, 21, RUN, false}, {FREE, 20, 0, 0});
    race("heap.realloc-tail", 2);
}

/* One takes back what is empty, for another size; the other is about to use it. */
static void test_reclaim(void **state)
{
    (void)state;
    prepare(32, 0);
    fill(0, 0, 3, BIG);
    SCRIPT(w->steps[0], {RECLAIM, 0, 0, 0}, {ALLOC, 10, BIG, true});
    SCRIPT(w->steps[1], {FREE, 0, 0, 0}, {FREE, 1, 0, 0}, {ALLOC, 20, BIG, true}, {FREE, 2, 0, 0});
    race("heap.reclaim", 2);
    /* No page is left but in an empty slab of another size. */
    prepare(32, 0);
    fill(0, 0, 4, BIG);
    fill(1, 4, 1, 1024);
    free_one(0, forget_object(0));
    free_one(0, forget_object(1));
    leave_pages(0);
    SCRIPT(w->steps[0], {ALLOC, 10, 8192, false}, {FREE, 2, 0, 0});
    SCRIPT(w->steps[1], {ALLOC, 20, BIG, false}, {FREE, 3, 0, 0}, {ALLOC, 21, 512, false});
    race("heap.reclaim-for-another-size", 2);
}

static void test_double_free(void **state)
{
    (void)state;
    for (unsigned size = BIG; size <= RUN; size += RUN - BIG) {
        prepare(32, 0);
        fill(0, 0, 4, size);
        w->twice = true;
        SCRIPT(w->steps[0], {TWICE, 1, 0, 0}, {RECLAIM, 0, 0, 0});
        SCRIPT(w->steps[1], {TWICE, 1, 0, 0}, {RECLAIM, 0, 0, 0});
        race(size == BIG ? "heap.double-free" : "heap.double-free-of-a-run", 2);
    }
}

/* The only room for a run lies across a border of the range's words: it is claimed word by word, and
 * given back if the other was faster in the second one. */
static void test_run_across_words(void **state)
{
    const unsigned nr_pages = 12;
    struct mm_page_source source;
    uint64_t first; /* page of the room, half of which lies before the border */

    (void)state;
    prepare(160, 0);
    fill(0, 0, 1, RUN);
    fill(0, 1, 1, BIG);
    fill(0, 2, 1, 100);
    leave_pages(0);
    source = mm_page_source_range(&w->range);
    first = w->range.base + (128 - w->range.first_bit - nr_pages / 2) * 4096;
    for (unsigned i = 0; i < nr_pages; i++) {
        source.ops->free(source.ctx, (void *)(uintptr_t)(first + i * 4096), 1);
        w->nr_pages_held--;
    }
    SCRIPT(w->steps[0], {ALLOC, 10, nr_pages * 4096, false}, {ALLOC, 11, 10 * 4096, false},
           {FREE, 10, 0, 0}, {FREE, 11, 0, 0});
    SCRIPT(w->steps[1], {ALLOC, 20, RUN, false}, {ALLOC, 21, 7 * 4096, false}, {FREE, 20, 0, 0},
           {ALLOC, 22, 10 * 4096, false});
    race("heap.run-across-words", 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alloc_and_free), cmocka_unit_test(test_guessed_word),
        cmocka_unit_test(test_runs),           cmocka_unit_test(test_kept_runs),
        cmocka_unit_test(test_resizing),       cmocka_unit_test(test_reclaim),
        cmocka_unit_test(test_double_free),    cmocka_unit_test(test_run_across_words),
    };

    return cmocka_run_group_tests_name("schedule_heap", tests, NULL, NULL);
}
