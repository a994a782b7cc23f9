// SPDX-License-Identifier: MIT
/**
 * What the tests of the heap room stand on: a page source of either kind, behind one that counts,
 * can fail and can call back, and a pool over it. No test lives here.
 */
#ifndef HEAP_WORLD_H
#define HEAP_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <mm/heap.h>

#include "check.h"
#include "inject.h"
#include "model_heap.h"
#include "prng.h"
#include "sim_ram.h"
#include "trap.h"
#include "trap_mm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define KiB UINT64_C(1024)
#define MiB (1024 * KiB)

/** The lines of the log op. */
struct world_log {
    char last[200];
    unsigned nr_lines;
    unsigned nr_grow;
    unsigned nr_shrink;
    uint64_t grown; /**< bytes, by the events */
    uint64_t shrunk;
    int64_t held; /**< now: grown less shrunk; events of one slab may overtake each other */
    int64_t peak; /**< the most that was ever held */
    uint32_t cpu;
};

static inline void world_line(void *ctx, const char *line, size_t len)
{
    struct world_log *log = ctx;

    snprintf(log->last, sizeof(log->last), "%.*s", (int)len, line);
    log->nr_lines++;
}

static inline void world_event(void *ctx, const struct mm_event *event)
{
    struct world_log *log = ctx;

    if (event->kind == MM_EVENT_HEAP_GROW) {
        __atomic_fetch_add(&log->nr_grow, 1u, __ATOMIC_RELAXED);
        __atomic_fetch_add(&log->grown, event->len, __ATOMIC_RELAXED);
        int64_t held = __atomic_add_fetch(&log->held, (int64_t)event->len, __ATOMIC_RELAXED);
        int64_t peak = __atomic_load_n(&log->peak, __ATOMIC_RELAXED);

        while (held > peak && !__atomic_compare_exchange_n(&log->peak, &peak, held, false,
                                                           __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
        }
    } else if (event->kind == MM_EVENT_HEAP_SHRINK) {
        __atomic_fetch_add(&log->nr_shrink, 1u, __ATOMIC_RELAXED);
        __atomic_fetch_add(&log->shrunk, event->len, __ATOMIC_RELAXED);
        __atomic_fetch_sub(&log->held, (int64_t)event->len, __ATOMIC_RELAXED);
    }
}

static inline uint32_t world_cpu(void *ctx)
{
    return ((struct world_log *)ctx)->cpu;
}

struct world {
    /* The range. */
    void *memory;
    uint64_t memory_len;
    struct mm_page_range range;
    /* The frames. */
    struct t_ram *ram;
    struct mm_boot_entry entries[MM_BOOTMAP_CAPACITY(4)];
    struct mm_bootmap map;
    struct mm_frames frames;
    struct mm_page_frames pages;
    void *metadata;
    uint64_t nr_free_frames;
    /* The source in front of either. */
    struct mm_page_source inner;
    struct t_inject inject;
    uint64_t nr_out;      /**< atomic, as what follows */
    uint64_t nr_refused;  /**< requests that failed */
    uint64_t nr_flags[2]; /**< atomic: requests without and with MM_PAGES_ATOMIC */
    void (*on_alloc)(struct world *world);
    unsigned depth;
    void *hook;
    /* Above it. */
    struct world_log log;
    struct mm_pool pool;
    struct mm_heap heap;
};

static inline mm_status_t world_alloc_pages(void *ctx, uint64_t nr, uint64_t align, uint32_t flags,
                                            void **out)
{
    struct world *world = ctx;
    mm_status_t status;

    assert_int_equal(flags & ~MM_PAGES_ATOMIC, 0);
    __atomic_fetch_add(&world->nr_flags[flags & MM_PAGES_ATOMIC], UINT64_C(1), __ATOMIC_RELAXED);
    if (t_inject_fails(&world->inject)) {
        __atomic_fetch_add(&world->nr_refused, UINT64_C(1), __ATOMIC_RELAXED);
        return MM_ERR_NO_MEMORY;
    }
    if (world->on_alloc != NULL) {
        world->on_alloc(world);
    }
    status = world->inner.ops->alloc(world->inner.ctx, nr, align, flags, out);
    if (status == MM_OK) {
        /* Pages come as they are: the heap must not rely on zeroes. */
        memset(*out, 0xa5, nr * MM_PAGE_SIZE);
        __atomic_fetch_add(&world->nr_out, nr, __ATOMIC_RELAXED);
    } else {
        __atomic_fetch_add(&world->nr_refused, UINT64_C(1), __ATOMIC_RELAXED);
    }
    return status;
}

static inline void world_free_pages(void *ctx, void *pages, uint64_t nr)
{
    struct world *world = ctx;

    memset(pages, 0x5a, nr * MM_PAGE_SIZE);
    __atomic_fetch_sub(&world->nr_out, nr, __ATOMIC_RELAXED);
    world->inner.ops->free(world->inner.ctx, pages, nr);
}

static const struct mm_page_source_ops world_source_ops = {.alloc = world_alloc_pages,
                                                           .free = world_free_pages};

static inline struct mm_platform world_platform(struct world *world)
{
    static const struct mm_platform_ops ops = {.panic = t_platform_panic,
                                               .log = world_line,
                                               .event = world_event,
                                               .cpu_number = world_cpu};

    return (struct mm_platform){&ops, &world->log};
}

/** With a source that does not count, for threads; and a heap that is configured so. */
static inline void world_start_plain_as(struct world *world, uint32_t nr_cpus,
                                        const struct mm_heap_config *heap)
{
    struct mm_pool_config config = {
        .source = world->inner, .platform = world_platform(world), .nr_cpus = nr_cpus};

    assert_int_equal(mm_pool_init(&world->pool, &config), MM_OK);
    assert_int_equal(mm_heap_init(&world->heap, &world->pool, heap), MM_OK);
}

static inline void world_start_plain(struct world *world, uint32_t nr_cpus)
{
    world_start_plain_as(world, nr_cpus, NULL);
}

static inline struct mm_pool_config world_pool_config(struct world *world, uint32_t nr_cpus)
{
    return (struct mm_pool_config){
        .source = {&world_source_ops, world, world->inner.base, world->inner.len},
        .platform = world_platform(world),
        .nr_cpus = nr_cpus};
}

/** With a heap that is configured so; NULL: as usual. */
static inline void world_start_as(struct world *world, uint32_t nr_cpus,
                                  const struct mm_heap_config *heap)
{
    struct mm_pool_config config = world_pool_config(world, nr_cpus);

    assert_int_equal(mm_pool_init(&world->pool, &config), MM_OK);
    assert_int_equal(mm_heap_init(&world->heap, &world->pool, heap), MM_OK);
}

static inline void world_start(struct world *world, uint32_t nr_cpus)
{
    world_start_as(world, nr_cpus, NULL);
}

/** A world over a fixed range of `len` bytes. */
static inline struct world *world_of_range(uint64_t len)
{
    struct world *world = calloc(1, sizeof(*world));

    assert_non_null(world);
    world->memory_len = len;
    world->memory =
        mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert_ptr_not_equal(world->memory, MAP_FAILED);
    assert_int_equal(mm_page_range_init(&world->range, world->memory, len), MM_OK);
    world->inner = mm_page_source_range(&world->range);
    return world;
}

/** A world over frames: two ranges of memory with a hole between, `len` bytes each. */
static inline struct world *world_of_frames(uint64_t len)
{
    struct world *world = calloc(1, sizeof(*world));
    struct t_ram_range ranges[2] = {{16 * MiB, len}, {16 * MiB + 3 * len, len}};
    struct mm_frames_config config = {.map = &world->map, .nr_cpus = 2};
    struct mm_frame_stats stats;
    struct mm_physmap physmap;
    uint64_t size;

    assert_non_null(world);
    world->ram = t_ram_new_ranges(ranges, 2);
    assert_non_null(world->ram);
    assert_int_equal(mm_bootmap_init(&world->map, world->entries, MM_BOOTMAP_CAPACITY(4)), MM_OK);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(mm_bootmap_add(&world->map,
                                        mm_prange(mm_paddr(ranges[i].start), ranges[i].len),
                                        MM_BOOT_USABLE),
                         MM_OK);
    }
    assert_int_equal(
        mm_frame_metadata_size(
            &(struct mm_frames_config){.map = &world->map, .nr_cpus = 2, .flags = 0}, &size),
        MM_OK);
    world->metadata = aligned_alloc(MM_CACHE_LINE, (size + 63) / 64 * 64);
    assert_non_null(world->metadata);
    memset(world->metadata, 0, size);
    physmap = mm_physmap_direct(t_ram_base(world->ram));
    config.physmap = &physmap;
    config.platform = t_platform();
    config.metadata = world->metadata;
    config.metadata_len = size;
    assert_int_equal(mm_frame_init(&world->frames, &config), MM_OK);
    assert_int_equal(mm_frame_get_stats(&world->frames, &stats), MM_OK);
    world->nr_free_frames = stats.nr_free;
    assert_int_equal(mm_page_frames_init(&world->pages, &world->frames, &physmap), MM_OK);
    world->inner = mm_page_source_frames(&world->pages);
    return world;
}

/** The heap and the pool go; every page must be back. */
static inline void world_stop(struct world *world)
{
    assert_int_equal(mm_heap_check(&world->heap), MM_OK);
    assert_int_equal(mm_heap_destroy(&world->heap), MM_OK);
    assert_int_equal(mm_pool_destroy(&world->pool), MM_OK);
    assert_int_equal(world->nr_out, 0);
    if (world->ram == NULL) {
        assert_int_equal(world->range.nr_free,
                         world->range.nr_pages - world->range.nr_bitmap_pages);
    } else {
        struct mm_frame_stats stats;

        assert_int_equal(mm_frame_get_stats(&world->frames, &stats), MM_OK);
        assert_int_equal(stats.nr_free, world->nr_free_frames);
        assert_int_equal(mm_frame_check(&world->frames), MM_OK);
    }
}

static inline void world_delete(struct world *world)
{
    if (world->ram == NULL) {
        assert_int_equal(mm_page_range_destroy(&world->range), MM_OK);
        munmap(world->memory, world->memory_len);
    } else {
        assert_int_equal(mm_page_frames_destroy(&world->pages), MM_OK);
        assert_int_equal(mm_frame_destroy(&world->frames), MM_OK);
        t_ram_delete(world->ram);
        free(world->metadata);
    }
    free(world);
}

/** Pages that the pool took for itself. */
static inline uint64_t world_meta(struct world *world)
{
    struct mm_pool_stats stats;

    assert_int_equal(mm_pool_get_stats(&world->pool, &stats), MM_OK);
    return stats.nr_meta_pages;
}

static inline struct mm_heap_stats world_stats(struct world *world)
{
    struct mm_heap_stats stats;

    assert_int_equal(mm_heap_get_stats(&world->heap, &stats), MM_OK);
    return stats;
}

#endif
