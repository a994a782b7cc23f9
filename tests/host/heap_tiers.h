// SPDX-License-Identifier: MIT
/**
 * Heaps of every tier for tests, with a report op that remembers, and places in the code whose
 * return addresses are known. No test lives here.
 */
#ifndef HEAP_TIERS_H
#define HEAP_TIERS_H

#include "heap_world.h"

#include "guard_pages.h"

#define TOLD_MAX 32

/** What the report op was told. */
struct told {
    struct mm_heap_report reports[TOLD_MAX];
    unsigned nr; /**< atomic */
    char text[1000];
};

static inline void told_report(void *ctx, const struct mm_heap_report *report)
{
    struct told *told = ctx;
    unsigned n = __atomic_fetch_add(&told->nr, 1u, __ATOMIC_RELAXED);

    if (n < TOLD_MAX) {
        told->reports[n] = *report;
    }
}

static inline void told_line(void *ctx, const char *line, size_t len)
{
    struct told *told = ctx;
    size_t at = strlen(told->text);

    snprintf(told->text + at, sizeof(told->text) - at, "%.*s\n", (int)len, line);
}

/** The text of the last report. */
static inline const char *told_text(struct told *told)
{
    assert_in_range(told->nr, 1, TOLD_MAX);
    told->text[0] = '\0';
    assert_int_equal(mm_heap_report_lines(&told->reports[told->nr - 1], told_line, told), MM_OK);
    return told->text;
}

/* Not inlined and not left by a jump: so their return addresses lie in them. */
#define PLACE __attribute__((noinline, unused))

static PLACE void *made_here(struct mm_heap *heap, uint64_t size)
{
    void *object = mm_heap_alloc(heap, size);

    __asm__ volatile("" : "+r"(object));
    return object;
}

static PLACE void freed_here(struct mm_heap *heap, void *object)
{
    mm_heap_free(heap, object);
    __asm__ volatile("");
}

static PLACE void freed_there(struct mm_heap *heap, void *object)
{
    mm_heap_free(heap, object);
    __asm__ volatile("" ::: "memory");
}

/** Whether an address is in one of the places above. */
#define IN_PLACE(address, place) ((address) - (uint64_t)(uintptr_t)(place)-1 < 300)

/** A pool and a heap over the world's source. */
static inline void tiers_start(struct world *world, uint32_t nr_cpus,
                               const struct mm_heap_config *config)
{
    struct mm_pool_config pool = world_pool_config(world, nr_cpus);

    assert_int_equal(mm_pool_init(&world->pool, &pool), MM_OK);
    assert_int_equal(mm_heap_init(&world->heap, &world->pool, config), MM_OK);
}

static inline struct world *tiers_world(bool frames)
{
    return frames ? world_of_frames(8 * MiB) : world_of_range(16 * MiB);
}

#endif
