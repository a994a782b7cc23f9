// SPDX-License-Identifier: MIT
/**
 * The rig of frame_rig.h with real memory behind the frames: what the allocator zeroes, poisons or
 * is told to be gone is looked at through the simulated RAM. What is not backed traps.
 */
#ifndef FRAME_MEMORY_H
#define FRAME_MEMORY_H

#include "frame_rig.h"
#include "sim_ram.h"

#define FRAME UINT64_C(4096)
#define LINE  512u
#define WORDS (FRAME / 8)

struct memory {
    struct rig rig;
    struct t_ram *ram;
    struct mm_physmap physmap;
    struct mm_frame_ops ops;
    uint64_t nr_zeroed; /**< bytes, through the op */
    uint64_t nr_calls;  /**< of the op */
    uint64_t nr_maps;   /**< of the physmap's op */
    uint64_t maps_left; /**< after so many it cannot map */
    uint64_t nr_mapped; /**< now */
};

static inline void memory_zero(void *ctx, void *at, uint64_t len)
{
    struct memory *m = ctx;

    assert_int_equal(len % FRAME, 0);
    m->nr_zeroed += len;
    m->nr_calls++;
    memset(at, 0, len);
}

static inline void *memory_map(void *ctx, mm_pfn_t frame)
{
    struct memory *m = ctx;

    if (m->nr_maps == m->maps_left) {
        return NULL;
    }
    m->nr_maps++;
    m->nr_mapped++;
    return t_ram_ptr(m->ram, frame.raw * FRAME);
}

static inline void memory_unmap(void *ctx, void *mapped)
{
    struct memory *m = ctx;

    assert_int_equal(t_ram_paddr(m->ram, mapped) % FRAME, 0);
    m->nr_mapped--;
}

static const struct mm_physmap_ops memory_physmap_ops = {.map = memory_map, .unmap = memory_unmap};

/** Memory of these usable ranges and of those that come later (MM_BOOT_ACPI_RECLAIM), all of it
 * junk. What else is to be configured is in `m->rig.config` before memory_up(). */
static inline void memory_make(struct memory *m, const uint64_t *ranges, const uint64_t *later)
{
    struct t_ram_range all[RIG_RANGES_MAX];
    unsigned nr = 0;

    memset(m, 0, sizeof(*m));
    rig_map(&m->rig, ranges);
    for (; ranges[1] != 0; ranges += 2) {
        all[nr++] = (struct t_ram_range){ranges[0], ranges[1]};
    }
    for (; later != NULL && later[1] != 0; later += 2) {
        all[nr++] = (struct t_ram_range){later[0], later[1]};
        assert_int_equal(mm_bootmap_add(&m->rig.map, mm_prange(mm_paddr(later[0]), later[1]),
                                        MM_BOOT_ACPI_RECLAIM),
                         MM_OK);
        m->rig.config.later_kinds = MM_BOOT_BIT(MM_BOOT_ACPI_RECLAIM);
    }
    m->ram = t_ram_new_ranges(all, nr);
    assert_non_null(m->ram);
    for (unsigned i = 0; i < nr; i++) {
        t_ram_junk(m->ram, all[i].start, all[i].len, 7);
    }
    m->maps_left = UINT64_MAX;
    m->physmap = mm_physmap_direct(t_ram_base(m->ram));
    m->ops.zero = memory_zero;
}

/** Frames are reached through ops. */
static inline void memory_by_ops(struct memory *m)
{
    m->physmap = (struct mm_physmap){.ops = &memory_physmap_ops, .ctx = m};
}

static inline void memory_up(struct memory *m, uint32_t flags)
{
    struct mm_frames_config *config = &m->rig.config;
    uint64_t len = 0;

    config->map = &m->rig.map;
    config->physmap = &m->physmap;
    config->platform = rig_platform(&m->rig);
    config->nr_cpus = 2;
    config->flags = flags;
    config->ops = &m->ops;
    config->ops_ctx = m;
    assert_int_equal(mm_frame_metadata_size(config, &len), MM_OK);
    config->metadata = aligned_alloc(MM_CACHE_LINE, len);
    assert_non_null(config->metadata);
    memset(config->metadata, 0, len);
    config->metadata_len = len;
    assert_int_equal(mm_frame_init(&m->rig.frames, config), MM_OK);
}

static inline void memory_start(struct memory *m, const uint64_t *ranges, const uint64_t *later,
                                uint32_t flags)
{
    memory_make(m, ranges, later);
    memory_up(m, flags);
}

static inline void memory_stop(struct memory *m)
{
    assert_int_equal(m->nr_mapped, 0);
    rig_stop(&m->rig);
    t_ram_delete(m->ram);
}

static inline uint64_t *memory_words(const struct memory *m, mm_pfn_t frame)
{
    return t_ram_ptr(m->ram, frame.raw * FRAME);
}

/** Whether all words of a run of frames are `word`. */
static inline bool memory_holds(const struct memory *m, mm_pfn_t first, uint64_t nr, uint64_t word)
{
    for (uint64_t i = 0; i < nr * WORDS; i++) {
        if (memory_words(m, first)[i] != word) {
            return false;
        }
    }
    return true;
}

static inline void memory_fill(const struct memory *m, mm_pfn_t first, uint64_t nr, uint64_t word)
{
    for (uint64_t i = 0; i < nr * WORDS; i++) {
        memory_words(m, first)[i] = word;
    }
}

static inline mm_pfn_t memory_alloc(struct memory *m, uint32_t order, uint32_t flags)
{
    struct mm_frame_request request = {.order = order, .flags = flags};
    mm_pfn_t pfn = {UINT64_MAX};

    assert_int_equal(mm_frame_alloc(&m->rig.frames, &request, &pfn), MM_OK);
    return pfn;
}

#endif
