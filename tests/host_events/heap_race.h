// SPDX-License-Identifier: MIT
/**
 * What the races of caches and of the heap share: a small range of pages with a pool, a cache and a
 * heap over it, scripts for the CPUs, and a ledger of objects.
 *
 * Objects lie in numbered places that all CPUs see, so one can free what the other has allocated.
 * Each is full of a stamp of its place from when it is allocated to when it is freed: two owners of
 * one byte are found when the first frees, and before that by the ledger, when the second one gets
 * it. Everything lies in one block of memory, which is put back as it was before each run.
 */
#ifndef HEAP_RACE_H
#define HEAP_RACE_H

#include "check.h"
#include "schedule.h"
#include "schedule_mm.h"

#include <mm/heap.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PLACES 64u
#define STEPS  8u

enum what {
    DONE,
    ALLOC,   /* an object of `size` to place `n` */
    FREE,    /* what is in place `n`; nothing, if the allocation failed */
    REALLOC, /* place `n` to `size` */
    RECLAIM,
    TWICE,      /* free place `n`, which both CPUs believe to be theirs */
    BOTH_OF,    /* allocate to `n` and free it at once */
    BULK,       /* objects of the cache to `size` places from `n` on, in one call */
    FREE_BULK,  /* what is in `size` places from `n` on, in one call */
    FREE_SIZED, /* as FREE, of the heap, with the size */
};

struct step {
    enum what what;
    unsigned n;
    unsigned size;
    bool must; /* there is memory for it at every moment */
};

struct object {
    unsigned char *at; /* NULL: none */
    unsigned size;
};

struct heap_race {
    struct mm_page_range range;
    struct mm_pool pool;
    struct mm_cache cache;
    struct mm_heap heap;
    struct object objects[PLACES];
    unsigned nr_panics;
    bool is_heap; /* else the cache */
    bool twice;   /* one panic is expected */
    unsigned cache_size;
    uint64_t nr_pages_held; /* taken from the source, to make them scarce */
    struct step steps[T_SCHEDULE_CPUS][STEPS];
    struct step handler[STEPS];
    /* Of the bytes that come after, all are put back. */
    uint64_t memory_len;
    void *at_start;
    _Alignas(4096) unsigned char memory[];
};

static struct heap_race *w;

/* ---- the ledger -------------------------------------------------------------------------------- */

static inline unsigned char stamp_of(unsigned place)
{
    return (unsigned char)(0x40 + place);
}

static inline void keep_object(unsigned place, void *at, unsigned size)
{
    unsigned char *bytes = at;

    for (unsigned i = 0; i < PLACES; i++) {
        const struct object *other = &w->objects[i];

        if (other->at != NULL && bytes < other->at + other->size && other->at < bytes + size) {
            t_schedule_fail("an object at +0x%lx is handed out, and lies in that of place %u",
                            (unsigned long)(bytes - w->memory), i);
        }
    }
    if (bytes < w->memory || bytes + size > w->memory + w->memory_len) {
        t_schedule_fail("an object outside of all memory");
    }
    memset(bytes, stamp_of(place), size);
    w->objects[place] = (struct object){bytes, size};
}

/* The object's bytes are what its owner wrote. */
static inline const char *look_at_object(unsigned place, unsigned size)
{
    static char text[100];
    const struct object *object = &w->objects[place];

    for (unsigned i = 0; i < size; i++) {
        if (object->at[i] != stamp_of(place)) {
            (void)snprintf(text, sizeof(text), "byte %u of the object of place %u was written to",
                           i, place);
            return text;
        }
    }
    return NULL;
}

static inline void *forget_object(unsigned place)
{
    void *at = w->objects[place].at;
    const char *wrong = at == NULL ? NULL : look_at_object(place, w->objects[place].size);

    if (wrong != NULL) {
        t_schedule_fail("%s", wrong);
    }
    w->objects[place].at = NULL;
    return at;
}

/* ---- a step ------------------------------------------------------------------------------------ */

static inline void *alloc_one(unsigned cpu, unsigned size)
{
    return w->is_heap ? mm_heap_alloc_on(&w->heap, cpu, size) : mm_cache_alloc_on(&w->cache, cpu);
}

static inline void free_one(unsigned cpu, void *at)
{
    if (w->is_heap) {
        mm_heap_free_on(&w->heap, cpu, at);
    } else {
        mm_cache_free(&w->cache, at);
    }
}

static inline void free_caught(void *at)
{
    free_one(t_schedule_cpu(), at);
}

static inline void do_realloc(const struct step *step)
{
    struct object *object = &w->objects[step->n];
    unsigned had = object->size;
    void *at = object->at;
    void *moved;
    const char *wrong;

    if (at == NULL) {
        return;
    }
    object->at = NULL; /* in the library's hands */
    moved = mm_heap_realloc(&w->heap, at, step->size);
    if (moved == NULL) {
        object->at = at;
        if (step->must) {
            t_schedule_fail("no memory, and there was some all the time");
        }
        return;
    }
    object->at = moved;
    wrong = look_at_object(step->n, step->size < had ? step->size : had);
    if (wrong != NULL) {
        t_schedule_fail("after a realloc, %s", wrong);
    }
    object->at = NULL;
    keep_object(step->n, moved, step->size);
}

/* Places hold NULL where nothing was allocated. */
static inline void do_bulk(unsigned cpu, const struct step *step)
{
    void *list[PLACES];
    uint64_t nr;

    if (step->what == FREE_BULK) {
        for (unsigned i = 0; i < step->size; i++) {
            list[i] = forget_object(step->n + i);
        }
        mm_cache_free_bulk(&w->cache, step->size, list);
        return;
    }
    nr = mm_cache_alloc_bulk(&w->cache, cpu, step->size, list);
    for (unsigned i = 0; i < nr; i++) {
        keep_object(step->n + i, list[i], w->cache_size);
    }
    if (step->must && nr != step->size) {
        t_schedule_fail("fewer objects than there was memory for all the time");
    }
}

static inline void do_step(unsigned cpu, const struct step *step)
{
    unsigned size = w->is_heap ? step->size : w->cache_size;
    void *at;

    switch (step->what) {
    case ALLOC:
    case BOTH_OF:
        at = alloc_one(cpu, size);
        if (at != NULL) {
            keep_object(step->n, at, size);
        } else if (step->must) {
            t_schedule_fail("no memory, and there was some all the time");
        }
        if (step->what == BOTH_OF) {
            free_one(cpu, forget_object(step->n));
        }
        break;
    case FREE:
        free_one(cpu, forget_object(step->n));
        break;
    case FREE_SIZED:
        size = w->objects[step->n].size;
        mm_heap_free_sized(&w->heap, forget_object(step->n), size, 0);
        break;
    case BULK:
    case FREE_BULK:
        do_bulk(cpu, step);
        break;
    case REALLOC:
        do_realloc(step);
        break;
    case RECLAIM:
        if (w->is_heap) {
            (void)mm_heap_reclaim(&w->heap);
        } else {
            (void)mm_cache_reclaim(&w->cache);
        }
        break;
    case TWICE:
        at = w->objects[step->n].at;
        w->objects[step->n].size = 0; /* nobody's from here on, but the place is remembered */
        w->nr_panics += t_schedule_catch(free_caught, at) ? 1 : 0;
        break;
    case DONE:
        break;
    }
}

static inline void do_script(unsigned cpu, const struct step *steps)
{
    for (unsigned i = 0; i < STEPS && steps[i].what != DONE; i++) {
        do_step(cpu, &steps[i]);
    }
}

static inline void heap_race_run(void *ctx, unsigned cpu)
{
    (void)ctx;
    do_script(cpu, w->steps[cpu]);
}

static inline void heap_race_interrupt(void *ctx, unsigned cpu)
{
    (void)ctx;
    do_script(cpu, w->handler);
}

/* ---- before and after -------------------------------------------------------------------------- */

static inline void heap_race_start(void *ctx)
{
    (void)ctx;
    memcpy(w, w->at_start, sizeof(*w) + w->memory_len);
}

static inline mm_status_t check_all(void)
{
    return w->is_heap ? mm_heap_check(&w->heap) : mm_cache_check(&w->cache);
}

static inline uint64_t objects_and_slabs(uint64_t *nr_slabs)
{
    struct mm_heap_stats heap;
    struct mm_cache_stats cache;

    if (w->is_heap) {
        *nr_slabs = mm_heap_get_stats(&w->heap, &heap) == MM_OK ? heap.nr_slabs + heap.nr_runs : 0;
        return heap.nr_objects;
    }
    *nr_slabs = mm_cache_get_stats(&w->cache, &cache) == MM_OK ? cache.nr_slabs : 0;
    return cache.nr_objects;
}

/* Nothing is lost: what is not held is free, and once all is free every page can be given back. */
static inline const char *heap_race_finish(void *ctx)
{
    uint64_t nr_slabs = 0;
    uint64_t nr_live = 0;

    (void)ctx;
    if (w->twice) {
        if (w->nr_panics != 1) {
            return "an object was freed twice, and not one panic told it";
        }
        for (unsigned i = 0; i < PLACES; i++) {
            w->objects[i].at = w->objects[i].size == 0 ? NULL : w->objects[i].at;
        }
    }
    if (check_all() != MM_OK) {
        return "the check, after the run";
    }
    for (unsigned i = 0; i < PLACES; i++) {
        nr_live += w->objects[i].at != NULL ? 1 : 0;
    }
    if (objects_and_slabs(&nr_slabs) != nr_live) {
        return "the number of allocated objects is not that of the ledger";
    }
    for (unsigned i = 0; i < PLACES; i++) {
        const char *wrong = w->objects[i].at == NULL ? NULL : look_at_object(i, w->objects[i].size);

        if (wrong != NULL) {
            return wrong;
        }
        free_one(0, w->objects[i].at);
        w->objects[i].at = NULL;
    }
    do_step(0, &(struct step){.what = RECLAIM});
    if (check_all() != MM_OK) {
        return "the check, after all was freed";
    }
    if (objects_and_slabs(&nr_slabs) != 0 || nr_slabs != 0) {
        return "all is free and reclaimed, and a slab is still there";
    }
    if ((w->is_heap ? mm_heap_destroy(&w->heap) : mm_cache_destroy(&w->cache)) != MM_OK ||
        mm_pool_destroy(&w->pool) != MM_OK) {
        return "all is free, and cannot be taken down";
    }
    if (w->range.nr_free + w->range.nr_bitmap_pages + w->nr_pages_held != w->range.nr_pages) {
        return "all is taken down, and a page is lost";
    }
    return NULL;
}

/* ---- a race ------------------------------------------------------------------------------------ */

/* A world over so many pages, with a cache of objects of this size; a heap, if that is 0. */
static inline void prepare(unsigned nr_pages, unsigned cache_size)
{
    uint64_t len = (uint64_t)nr_pages * 4096;
    struct mm_pool_config config = {.nr_cpus = 2, .platform = t_race_platform()};
    const struct mm_cache_config objects = {.name = "racers", .size = cache_size};

    w = aligned_alloc(4096, sizeof(*w) + len);
    assert_non_null(w);
    memset(w, 0, sizeof(*w) + len);
    w->memory_len = len;
    w->cache_size = cache_size;
    w->is_heap = cache_size == 0;
    assert_int_equal(mm_page_range_init(&w->range, w->memory, len), MM_OK);
    config.source = mm_page_source_range(&w->range);
    assert_int_equal(mm_pool_init(&w->pool, &config), MM_OK);
    if (w->is_heap) {
        assert_int_equal(mm_heap_init(&w->heap, &w->pool, NULL), MM_OK);
    } else {
        assert_int_equal(mm_cache_init(&w->cache, &w->pool, &objects), MM_OK);
    }
}

/* Allocate to places [first, first + nr) on a CPU, before the race. */
static inline void fill(unsigned cpu, unsigned first, unsigned nr, unsigned size)
{
    for (unsigned i = first; i < first + nr; i++) {
        do_step(cpu, &(struct step){ALLOC, i, size, false});
        assert_non_null(w->objects[i].at);
    }
}

/* Leave the source so many pages. */
static inline void leave_pages(uint64_t nr)
{
    struct mm_page_source source = mm_page_source_range(&w->range);
    void *page;

    while (w->range.nr_free > nr) {
        assert_int_equal(source.ops->alloc(source.ctx, 1, 1, 0, &page), MM_OK);
        w->nr_pages_held++;
    }
}

#define SCRIPT(steps_, ...)                                                                        \
    memcpy(steps_, ((const struct step[]){__VA_ARGS__}), sizeof((const struct step[]){__VA_ARGS__}))

static inline void race(const char *name, unsigned nr_cpus)
{
    struct t_race race = {.name = name,
                          .nr_cpus = nr_cpus,
                          .start = heap_race_start,
                          .run = heap_race_run,
                          .finish = heap_race_finish,
                          .ordered = true};
    const struct t_race_plan plan = {
        .nr_random = 400, .nr_pct = 400, .nr_search = 2000, .preemptions = 2};

    if (w->handler[0].what != DONE) {
        race.interrupt = heap_race_interrupt;
        race.nr_interrupts = 1;
    }
    w->at_start = malloc(sizeof(*w) + w->memory_len);
    assert_non_null(w->at_start);
    memcpy(w->at_start, w, sizeof(*w) + w->memory_len);
    T_LEGAL(t_race_explore(&race, &plan));
    free(w->at_start);
    free(w);
}

#endif
