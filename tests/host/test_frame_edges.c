// SPDX-License-Identifier: MIT
/**
 * Edges between what the parts of the allocator each do right: firmware that cuts up a node, memory
 * that goes while a zone is watched, long runs among short holes. Hazards 2, 16, 33.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "frame_rig.h"

#define BASE (4 * GIB)

static struct mm_numa_range numa_ranges[MM_FRAME_MAX_SPANS + 1];
static struct mm_numa_cpu numa_cpus[1];

static void start_numa(struct mm_numa *numa, uint32_t nr_ranges, uint32_t nr_nodes)
{
    memset(numa, 0, sizeof(*numa));
    assert_int_equal(mm_numa_init(numa, numa_ranges, MM_FRAME_MAX_SPANS + 1, numa_cpus, 1), MM_OK);
    numa->nr_ranges = nr_ranges;
    numa->nr_nodes = nr_nodes;
}

/* "A block lies in one range of the map and one node": two entries of the firmware, which differ in
 * their flags alone, and a hole beside them part no memory. */
static void flags_and_holes_part_no_memory(void **state)
{
    static const uint64_t ranges[] = {BASE, GIB, 0, 0};
    struct mm_frame_request run = {.nr_frames = GIB / MM_PAGE_SIZE};
    struct mm_numa numa;
    struct rig rig;
    mm_pfn_t pfn;

    (void)state;
    start_numa(&numa, 2, 1);
    numa_ranges[0] = (struct mm_numa_range){{mm_paddr(BASE), 300 * MIB + 12}, 0, 0};
    numa_ranges[1] =
        (struct mm_numa_range){{mm_paddr(BASE + 300 * MIB + 12), MIB}, 0, MM_NUMA_HOTPLUG};
    rig_map(&rig, ranges);
    rig.config.numa = &numa;
    rig_config(&rig, 1, 0);
    assert_int_equal(mm_frame_init(&rig.frames, &rig.config), MM_OK);
    pfn = rig_alloc(&rig, 18);
    assert_int_equal(pfn.raw, BASE / MM_PAGE_SIZE);
    mm_frame_free(&rig.frames, pfn, 18);
    assert_int_equal(mm_frame_alloc(&rig.frames, &run, &pfn), MM_OK);
    mm_frame_free_run(&rig.frames, pfn, run.nr_frames);
    rig_stop(&rig);
}

/* "On error the map is as it was but for its order": also where the metadata would cut the last
 * piece that there is room for. */
static void too_many_pieces_take_nothing(void **state)
{
    static const uint64_t ranges[] = {0, MM_PAGE_SIZE, BASE, 32 * MIB, 0, 0};
    uint8_t *ram = aligned_alloc(2 * MIB, 32 * MIB);
    struct mm_physmap physmap = mm_physmap_direct((uint64_t)(uintptr_t)ram - BASE);
    struct mm_numa numa;
    struct rig rig;
    uint64_t usable;

    (void)state;
    assert_non_null(ram);
    start_numa(&numa, MM_FRAME_MAX_SPANS, 2);
    for (uint32_t i = 0; i < MM_FRAME_MAX_SPANS; i++) {
        numa_ranges[i] = (struct mm_numa_range){
            {mm_paddr(BASE + i * (uint64_t)MM_PAGE_SIZE),
             i == MM_FRAME_MAX_SPANS - 1 ? 32 * MIB : MM_PAGE_SIZE},
            i % 2,
            0,
        };
    }
    rig_map(&rig, ranges);
    rig.config.map = &rig.map;
    rig.config.platform = rig_platform(&rig);
    rig.config.nr_cpus = 1;
    rig.config.numa = &numa;
    rig.config.physmap = &physmap;
    usable = mm_bootmap_usable_bytes(&rig.map);
    /* From the middle of the last piece. */
    assert_int_equal(
        mm_frame_init_from_map(&rig.frames, &rig.config, mm_prange(mm_paddr(BASE), 24 * MIB)),
        MM_ERR_LIMIT);
    assert_int_equal(mm_bootmap_usable_bytes(&rig.map), usable);
    free(ram);
}

/* "The most that was ever found allocated": memory that was removed was not. */
static void removed_memory_was_not_allocated(void **state)
{
    static const uint64_t ranges[] = {BASE, GIB, 0, 0};
    struct mm_frame_watermarks marks = {100000, 200000, 250000};
    struct mm_frame_stats stats;
    struct rig rig;

    (void)state;
    rig_start(&rig, ranges, 1, 0);
    assert_int_equal(mm_frame_set_watermarks(&rig.frames, 0, MM_ZONE_NORMAL, &marks), MM_OK);
    assert_int_equal(mm_frame_remove(&rig.frames, mm_prange(mm_paddr(BASE), GIB / 2)), MM_OK);
    assert_int_equal(mm_frame_pressure(&rig.frames, 0, MM_ZONE_NORMAL), MM_PRESSURE_LOW);
    assert_int_equal(mm_frame_get_stats_of(&rig.frames, 0, MM_ZONE_NORMAL, &stats), MM_OK);
    assert_int_equal(stats.nr_peak, 0);
    rig_stop(&rig);
}

/* Whether [first, first + nr) can be had by a request, of all those that its limits leave. */
static void expect_run(struct rig *rig, uint64_t nr, uint64_t align, uint64_t first)
{
    struct mm_frame_request run = {.nr_frames = nr, .align = align * MM_PAGE_SIZE};
    mm_pfn_t pfn = {UINT64_MAX};

    assert_int_equal(mm_frame_alloc(&rig->frames, &run, &pfn),
                     first == UINT64_MAX ? MM_ERR_NO_MEMORY : MM_OK);
    assert_int_equal(pfn.raw, first);
    if (first != UINT64_MAX) {
        mm_frame_free_run(&rig->frames, pfn, nr);
    }
}

/* What a search has read it does not read again, and still it finds the highest place: a machine in
 * which every second line is taken, with two longer holes of which one is the wanted one. */
static void long_runs_among_short_holes(void **state)
{
    static const uint64_t ranges[] = {BASE, 16 * GIB, 0, 0};
    uint64_t base = BASE / MM_PAGE_SIZE;
    struct rig rig;

    (void)state;
    rig_start(&rig, ranges, 1, 0);
    for (uint64_t line = 0; line < 16 * GIB / (2 * MIB); line += 2) {
        assert_int_equal(mm_frame_alloc_at(&rig.frames, mm_pfn(base + line * 512), 512), MM_OK);
    }
    expect_run(&rig, UINT64_C(1) << 20, 1, UINT64_MAX);
    expect_run(&rig, 600, 1, UINT64_MAX);
    for (uint64_t line = 100; line < 106; line += 2) { /* 99 to 105: 7 lines */
        mm_frame_free_run(&rig.frames, mm_pfn(base + line * 512), 512);
    }
    mm_frame_free_run(&rig.frames, mm_pfn(base + 4000 * 512), 512); /* 3999 to 4001 */
    expect_run(&rig, 3 * 512, 1, base + 3999 * 512);
    expect_run(&rig, 3 * 512, 2048, base + 100 * 512);
    expect_run(&rig, 7 * 512, 1, base + 99 * 512);
    expect_run(&rig, 7 * 512 - 1, 1, base + 99 * 512 + 1);
    expect_run(&rig, 7 * 512 + 1, 1, UINT64_MAX);
    rig_stop(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flags_and_holes_part_no_memory),
        cmocka_unit_test(too_many_pieces_take_nothing),
        cmocka_unit_test(removed_memory_was_not_allocated),
        cmocka_unit_test(long_runs_among_short_holes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
