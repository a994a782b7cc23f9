// SPDX-License-Identifier: MIT
/**
 * What the tests of the frame allocator share: an allocator over memory made up of ranges, whose
 * metadata is the host's, and which counts what it hears. Only setting up and taking down is here.
 */
#ifndef FRAME_RIG_H
#define FRAME_RIG_H

#include "trap_mm.h"

#include <mm/frame.h>

#include <stdlib.h>
#include <string.h>

#define RIG_RANGES_MAX 64

/** All that is kept about a frame, and needs no physmap. */
#define RIG_RECORDS (MM_FRAMES_REFCOUNTS | MM_FRAMES_OWNERS)

#define KIB 1024ull
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)
#define TIB (1024 * GIB)

struct rig {
    struct mm_boot_entry entries[MM_BOOTMAP_CAPACITY(RIG_RANGES_MAX)];
    struct mm_bootmap map;
    struct mm_frames_config config;
    struct mm_frames frames;
    uint32_t cpu;       /**< what the op answers */
    uint64_t nr_events; /**< MM_EVENT_FRAME_EXHAUSTED */
    uint64_t event_len; /**< of the last one */
    uint64_t nr_complaints;
};

static inline uint32_t rig_cpu_number(void *ctx)
{
    return ((struct rig *)ctx)->cpu;
}

static inline void rig_event(void *ctx, const struct mm_event *event)
{
    struct rig *rig = ctx;

    if (event->kind == MM_EVENT_FRAME_EXHAUSTED && event->who == &rig->frames) {
        __atomic_fetch_add(&rig->nr_events, 1, __ATOMIC_RELAXED);
        __atomic_store_n(&rig->event_len, event->len, __ATOMIC_RELAXED);
    }
}

static inline void rig_log(void *ctx, const char *line, size_t len)
{
    (void)line;
    (void)len;
    ((struct rig *)ctx)->nr_complaints++;
}

static inline struct mm_platform rig_platform(struct rig *rig)
{
    static const struct mm_platform_ops ops = {
        .panic = t_platform_panic,
        .log = rig_log,
        .event = rig_event,
        .cpu_number = rig_cpu_number,
    };
    struct mm_platform platform = {&ops, rig};

    return platform;
}

/** A map of usable ranges: pairs of start and length in bytes, ended by a length of 0. */
static inline void rig_map(struct rig *rig, const uint64_t *ranges)
{
    memset(rig, 0, sizeof(*rig));
    assert_int_equal(mm_bootmap_init(&rig->map, rig->entries, MM_BOOTMAP_CAPACITY(RIG_RANGES_MAX)),
                     MM_OK);
    for (; ranges[1] != 0; ranges += 2) {
        assert_int_equal(
            mm_bootmap_add(&rig->map, mm_prange(mm_paddr(ranges[0]), ranges[1]), MM_BOOT_USABLE),
            MM_OK);
    }
}

/** A configuration that is right for the map, with zeroed metadata. */
static inline void rig_config(struct rig *rig, uint32_t nr_cpus, uint32_t flags)
{
    uint64_t len = 0;

    assert_int_equal(
        mm_frame_metadata_size(
            &(struct mm_frames_config){.map = &rig->map, .nr_cpus = nr_cpus, .flags = flags}, &len),
        MM_OK);
    rig->config.map = &rig->map;
    rig->config.platform = rig_platform(rig);
    rig->config.nr_cpus = nr_cpus;
    rig->config.flags = flags;
    rig->config.metadata = aligned_alloc(MM_CACHE_LINE, len);
    rig->config.metadata_len = len;
    assert_non_null(rig->config.metadata);
    memset(rig->config.metadata, 0, len);
}

static inline void rig_start(struct rig *rig, const uint64_t *ranges, uint32_t nr_cpus,
                             uint32_t flags)
{
    rig_map(rig, ranges);
    rig_config(rig, nr_cpus, flags);
    assert_int_equal(mm_frame_init(&rig->frames, &rig->config), MM_OK);
}

static inline void rig_check(struct rig *rig)
{
    assert_int_equal(mm_frame_check(&rig->frames), MM_OK);
    assert_int_equal(rig->nr_complaints, 0);
}

static inline void rig_stop(struct rig *rig)
{
    rig_check(rig);
    assert_int_equal(mm_frame_destroy(&rig->frames), MM_OK);
    free(rig->config.metadata);
}

static inline struct mm_frame_stats rig_stats(const struct rig *rig)
{
    struct mm_frame_stats stats;

    assert_int_equal(mm_frame_get_stats(&rig->frames, &stats), MM_OK);
    return stats;
}

static inline mm_pfn_t rig_alloc(struct rig *rig, uint32_t order)
{
    struct mm_frame_request request = {.order = order};
    mm_pfn_t pfn = {UINT64_MAX};

    assert_int_equal(mm_frame_alloc(&rig->frames, &request, &pfn), MM_OK);
    return pfn;
}

#endif
