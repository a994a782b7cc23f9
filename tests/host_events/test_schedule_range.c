// SPDX-License-Identifier: MIT
/**
 * Two CPUs in one page range, under every schedule of few switches and many others: bins that a word
 * leaves while another CPU frees into it, runs over the border of two words, and runs that grow into
 * what the other takes.
 *
 * A script holds runs in places of its own. Whatever the order, there are enough pages for each step
 * that says so; and at the end all are back, and can be had as one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "check.h"
#include "schedule.h"
#include "schedule_mm.h"

#include <mm/heap.h>

#include <stdlib.h>
#include <string.h>

#define PLACES 8u
#define STEPS  6u

enum what {
    DONE,
    TAKE,   /* `nr` pages to place `n` */
    GIVE,   /* those of place `n`, if it has any */
    EXTEND, /* place `n` by `nr` */
};

struct step {
    enum what what;
    unsigned n;
    unsigned nr;
    bool must; /* they are there at every moment */
};

struct range_race {
    struct mm_page_range range;
    struct {
        char *pages; /* NULL: none */
        uint64_t nr;
    } places[PLACES];
    struct step steps[T_SCHEDULE_CPUS][STEPS];
    struct step handler[STEPS];
    uint64_t len;
    void *at_start;
    _Alignas(4096) char memory[];
};

static struct range_race *w;

static void stamp(unsigned place, uint64_t from)
{
    for (uint64_t i = from; i < w->places[place].nr; i++) {
        char *page = w->places[place].pages + i * 4096;

        if (page < w->memory || page + 4096 > w->memory + w->len || *page != 0) {
            t_schedule_fail("place %u gets a page that is another's, or none", place);
        }
        *page = (char)(1 + place);
    }
}

static void do_step(const struct step *step)
{
    struct mm_page_source source = mm_page_source_range(&w->range);
    uint64_t had = w->places[step->n].nr;
    mm_status_t status = MM_OK;
    void *pages = w->places[step->n].pages;

    switch (step->what) {
    case TAKE:
        status = source.ops->alloc(source.ctx, step->nr, 1, 0, &pages);
        if (status == MM_OK) {
            w->places[step->n].pages = pages;
            w->places[step->n].nr = step->nr;
            stamp(step->n, 0);
        }
        break;
    case EXTEND:
        status = pages == NULL ? MM_OK : source.ops->extend(source.ctx, pages, had, step->nr, 0);
        if (status == MM_OK && pages != NULL) {
            w->places[step->n].nr += step->nr;
            stamp(step->n, had);
        }
        break;
    case GIVE:
        w->places[step->n].pages = NULL;
        for (uint64_t i = 0; pages != NULL && i < had; i++) {
            ((char *)pages)[i * 4096] = 0;
        }
        if (pages != NULL) {
            source.ops->free(source.ctx, pages, had);
        }
        break;
    case DONE:
        break;
    }
    if (step->must && status != MM_OK) {
        t_schedule_fail("%u pages are refused, and were there all the time", step->nr);
    }
}

static void do_script(const struct step *steps)
{
    for (unsigned i = 0; i < STEPS && steps[i].what != DONE; i++) {
        do_step(&steps[i]);
    }
}

static void run(void *ctx, unsigned cpu)
{
    (void)ctx;
    do_script(w->steps[cpu]);
}

static void interrupt(void *ctx, unsigned cpu)
{
    (void)ctx;
    (void)cpu;
    do_script(w->handler);
}

static void start(void *ctx)
{
    (void)ctx;
    memcpy(w, w->at_start, sizeof(*w) + w->len);
}

static const char *finish(void *ctx)
{
    struct mm_page_source source = mm_page_source_range(&w->range);
    uint64_t nr_all = w->range.nr_pages - w->range.nr_bitmap_pages;
    void *pages;

    (void)ctx;
    for (unsigned i = 0; i < PLACES; i++) {
        do_step(&(struct step){.what = GIVE, .n = i});
    }
    if (w->range.nr_free != nr_all) {
        return "all is given back, and the number of free pages is another";
    }
    if ((uint32_t)w->range.unsettled != 0) {
        return "nobody is at it, and a bin is being emptied";
    }
    for (uint64_t nr = nr_all; nr > 0; nr -= nr > 64 ? nr - 64 : 1) {
        if (source.ops->alloc(source.ctx, nr, 1, 0, &pages) != MM_OK) {
            return "all is free, and a run is refused";
        }
        source.ops->free(source.ctx, pages, nr);
    }
    return NULL;
}

/* A world of two words, of which so many pages are free, from this bit on. */
static void prepare(unsigned first, unsigned nr)
{
    uint64_t len = 129 * 4096; /* and one more, for the bitmap */
    struct mm_page_source source;
    void *all = NULL;

    w = aligned_alloc(4096, sizeof(*w) + len + 64 * 4096);
    assert_non_null(w);
    memset(w, 0, sizeof(*w) + len);
    w->len = len;
    assert_int_equal(mm_page_range_init(&w->range, w->memory, len), MM_OK);
    source = mm_page_source_range(&w->range);
    /* Place 7 has what lies before, place 6 what lies behind. */
    assert_int_equal(source.ops->alloc(source.ctx, w->range.nr_free, 1, 0, &all), MM_OK);
    first = (unsigned)(64 - w->range.first_bit % 64 + first) % 64 + 1;
    w->places[7].pages = all;
    w->places[7].nr = first;
    w->places[6].pages = (char *)all + (uint64_t)(first + nr) * 4096;
    w->places[6].nr = 128 - first - nr;
    source.ops->free(source.ctx, (char *)all + (uint64_t)first * 4096, nr);
    memset(w->memory + w->range.nr_bitmap_pages * 4096, 0, len - w->range.nr_bitmap_pages * 4096);
}

#define SCRIPT(steps_, ...)                                                                        \
    memcpy(steps_, ((const struct step[]){__VA_ARGS__}), sizeof((const struct step[]){__VA_ARGS__}))

static void race(const char *name)
{
    struct t_race race = {
        .name = name, .nr_cpus = 2, .start = start, .run = run, .finish = finish, .ordered = true};
    const struct t_race_plan plan = {
        .nr_random = 400, .nr_pct = 400, .nr_search = 3000, .preemptions = 2};

    if (w->handler[0].what != DONE) {
        race.interrupt = interrupt;
        race.nr_interrupts = 1;
    }
    w->at_start = malloc(sizeof(*w) + w->len);
    assert_non_null(w->at_start);
    memcpy(w->at_start, w, sizeof(*w) + w->len);
    T_LEGAL(t_race_explore(&race, &plan));
    free(w->at_start);
    free(w);
}

/* The last page of a word is taken while another one is given: there is one for each. */
static void test_last_page(void **state)
{
    (void)state;
    prepare(10, 2);
    do_step(&(struct step){TAKE, 1, 1, true});
    SCRIPT(w->steps[0], {TAKE, 0, 1, true}, {GIVE, 0, 0, 0}, {TAKE, 0, 1, true});
    SCRIPT(w->steps[1], {GIVE, 1, 0, 0}, {TAKE, 1, 1, true});
    race("range.last-page");
    prepare(10, 3);
    do_step(&(struct step){TAKE, 1, 1, true});
    SCRIPT(w->steps[0], {TAKE, 0, 1, true});
    SCRIPT(w->steps[1], {GIVE, 1, 0, 0}, {TAKE, 1, 1, true});
    SCRIPT(w->handler, {TAKE, 2, 1, true}, {GIVE, 2, 0, 0});
    race("range.last-page-interrupted");
}

/* What both give makes one run, in one word and over the border of two. */
static void test_joined(void **state)
{
    (void)state;
    for (unsigned first = 10; first < 64; first += 52) {
        prepare(first, 4);
        do_step(&(struct step){TAKE, 0, 2, true});
        do_step(&(struct step){TAKE, 1, 2, true});
        SCRIPT(w->steps[0], {GIVE, 0, 0, 0}, {TAKE, 2, 4, false}, {GIVE, 2, 0, 0});
        SCRIPT(w->steps[1], {GIVE, 1, 0, 0}, {TAKE, 3, 4, false}, {GIVE, 3, 0, 0});
        race(first == 10 ? "range.joined" : "range.joined-over-the-border");
    }
}

/* Two runs over the border, and pages of it taken singly. */
static void test_border(void **state)
{
    (void)state;
    prepare(60, 9);
    SCRIPT(w->steps[0], {TAKE, 0, 6, false}, {GIVE, 0, 0, 0}, {TAKE, 0, 3, true});
    SCRIPT(w->steps[1], {TAKE, 1, 1, true}, {TAKE, 2, 2, false}, {GIVE, 1, 0, 0});
    race("range.border");
}

/* Both grow: one into what the other gives, the other into what is taken. */
static void test_extend(void **state)
{
    (void)state;
    prepare(58, 12);
    do_step(&(struct step){TAKE, 0, 4, true});
    do_step(&(struct step){TAKE, 1, 4, true});
    SCRIPT(w->steps[0], {EXTEND, 0, 4, false}, {EXTEND, 0, 1, false}, {GIVE, 0, 0, 0});
    SCRIPT(w->steps[1], {EXTEND, 1, 2, false}, {GIVE, 1, 0, 0}, {TAKE, 2, 4, false});
    race("range.extend");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_last_page),
        cmocka_unit_test(test_joined),
        cmocka_unit_test(test_border),
        cmocka_unit_test(test_extend),
    };

    return cmocka_run_group_tests_name("schedule_range", tests, NULL, NULL);
}
