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

#include "frame_memory.h"

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

/* --- where the machine ends --------------------------------------------------------------------- */

/* A block of the last line, of which not all is there, is not the caller's; nor has it been freed. */
static void block_beyond_the_end(void **state)
{
    static const uint64_t ranges[] = {BASE, 3 * MIB, 0, 0};
    struct t_trap_info info;
    struct rig rig;
    mm_pfn_t last = mm_pfn((BASE + 2 * MIB) / 4096);

    (void)state;
    rig_start(&rig, ranges, 1, 0);
    assert_int_equal(mm_frame_alloc_at(&rig.frames, last, 256), MM_OK);
    T_EXPECT_PANIC(mm_frame_free(&rig.frames, last, 9), &info);
    assert_string_equal(info.what, "free of a frame that is not managed");
    assert_int_equal(info.address, BASE + 3 * MIB);
    assert_int_equal(rig_stats(&rig).nr_free, 512);
    mm_frame_free(&rig.frames, last, 8);
    rig_stop(&rig);
}

/* A block of 2 MiB of a span that is not the longest, and one that begins in the middle of a line. */
static void block_of_another_span(void **state)
{
    static const uint64_t ranges[] = {BASE, 4 * MIB, BASE + 64 * MIB, 8 * MIB, 0, 0};
    struct t_trap_info info;
    struct rig rig;
    mm_pfn_t first = mm_pfn(BASE / 4096);

    (void)state;
    rig_start(&rig, ranges, 1, 0);
    assert_int_equal(mm_frame_alloc_at(&rig.frames, first, 512), MM_OK);
    mm_frame_free(&rig.frames, first, 9);
    T_EXPECT_PANIC(mm_frame_free(&rig.frames, mm_pfn((BASE + 65 * MIB) / 4096), 9), &info);
    assert_string_equal(info.what, "free of a block that is not aligned to its size");
    assert_int_equal(rig_stats(&rig).nr_allocated, 0);
    rig_stop(&rig);
}

/* A list goes over the end of a span to the next one, which lies in the same 64 frames. */
static void list_over_two_spans(void **state)
{
    static const uint64_t ranges[] = {MIB, 40 * KIB, MIB + 80 * KIB, 40 * KIB, 0, 0};
    mm_pfn_t list[] = {{256}, {257}, {276}, {265}, {285}};
    struct rig rig;

    (void)state;
    for (uint32_t flags = 0; flags <= RIG_RECORDS; flags += RIG_RECORDS) {
        rig_start(&rig, ranges, 1, flags);
        for (unsigned i = 0; i < 5; i++) {
            assert_int_equal(mm_frame_alloc_at(&rig.frames, list[i], 1), MM_OK);
        }
        mm_frame_free_bulk(&rig.frames, list, 5);
        assert_int_equal(rig_stats(&rig).nr_free, 20);
        /* Without references, to drop the last one is to free. */
        for (unsigned i = 0; i < 5; i++) {
            assert_int_equal(mm_frame_alloc_at(&rig.frames, list[i], 1), MM_OK);
        }
        assert_int_equal(mm_frame_put_bulk(&rig.frames, list, 5), 5);
        assert_int_equal(rig_stats(&rig).nr_free, 20);
        rig_stop(&rig);
    }
}

/* Nothing but frame 0: no search has a place to begin. */
static void nothing_to_search(void **state)
{
    static const uint64_t ranges[] = {0, 4096, 0, 0};
    struct mm_frame_request zeroed = {.order = 9, .flags = MM_FRAME_ZERO};
    struct memory m;
    mm_pfn_t pfn = {77};

    (void)state;
    memory_start(&m, ranges, NULL, MM_FRAMES_KNOWN_ZERO);
    assert_int_equal(mm_frame_alloc(&m.rig.frames, &zeroed, &pfn), MM_ERR_NO_MEMORY);
    assert_int_equal(pfn.raw, 77);
    memory_stop(&m);
}

/* Frame 0 is of a zone, though no search finds it: it is taken and freed while zones are watched, and
 * comes later, when a CPU looks for memory far from home. */
static void frame_zero_is_no_line(void **state)
{
    static const uint64_t ranges[] = {4 * MIB, 2 * MIB, 16 * MIB, 2 * MIB, 0, 0};
    static const uint64_t later[] = {0, 4096, 0, 0};
    struct mm_frame_watermarks marks = {0, 2000, 3000};
    struct memory m;
    uint64_t nr = 0;

    (void)state;
    memory_start(&m, ranges, later, 0);
    for (unsigned i = 0; i < 600; i++) {
        (void)rig_alloc(&m.rig, 0); /* from below 16 MiB at last */
    }
    assert_int_equal(mm_frame_add(&m.rig.frames, mm_prange(mm_paddr(0), 4096), &nr), MM_OK);
    assert_int_equal(nr, 1);
    assert_int_equal(mm_frame_set_watermarks(&m.rig.frames, MM_NODE_ALL, MM_ZONE_ALL, &marks),
                     MM_OK);
    assert_int_equal(mm_frame_pressure(&m.rig.frames, 0, MM_ZONE_DMA), MM_PRESSURE_LOW);
    assert_int_equal(mm_frame_alloc_at(&m.rig.frames, mm_pfn(0), 1), MM_OK);
    mm_frame_free(&m.rig.frames, mm_pfn(0), 0);
    assert_int_equal(mm_frame_pressure(&m.rig.frames, 0, MM_ZONE_DMA), MM_PRESSURE_LOW);
    memory_stop(&m);
}

/* The window ends in the middle of the line that is withheld: what is below it is not looked at. */
static void window_over_withheld_memory(void **state)
{
    static const uint64_t ranges[] = {16 * MIB, 4 * MIB, 0, 0};
    struct mm_frame_request run = {.nr_frames = 3, .lowest = {17 * MIB}, .highest = {19 * MIB - 1}};
    struct rig rig;
    mm_pfn_t pfn;

    (void)state;
    rig_map(&rig, ranges);
    rig.config.nr_reserve = 100;
    rig_config(&rig, 1, 0);
    assert_int_equal(mm_frame_init(&rig.frames, &rig.config), MM_OK);
    assert_int_equal(mm_frame_alloc_at(&rig.frames, mm_pfn(18 * MIB / 4096), 256), MM_OK);
    assert_int_equal(mm_frame_alloc(&rig.frames, &run, &pfn), MM_ERR_NO_MEMORY);
    run.flags = MM_FRAME_ATOMIC;
    assert_int_equal(mm_frame_alloc(&rig.frames, &run, &pfn), MM_OK);
    assert_int_equal(pfn.raw, 18 * MIB / 4096 - 3);
    rig_stop(&rig);
}

/* A run that lies over the border of withheld memory is none, and no reason to look again: below
 * what is withheld, above it, and on both sides. */
static void run_over_the_border(uint64_t start, uint64_t border, uint64_t withheld)
{
    const uint64_t ranges[] = {start, 4 * MIB, 0, 0};
    struct mm_frame_request run = {.nr_frames = 16};
    uint64_t first = border / 4096;
    uint64_t other = withheld == border ? first - 512 : first;
    struct rig rig;
    mm_pfn_t pfn;

    rig_map(&rig, ranges);
    rig.config.nr_reserve = 100;
    rig_config(&rig, 1, 0);
    assert_int_equal(mm_frame_init(&rig.frames, &rig.config), MM_OK);
    /* Its rows are to tell, and so are those beside it. */
    assert_int_equal(mm_frame_alloc_at(&rig.frames, mm_pfn(withheld / 4096 + 100), 1), MM_OK);
    mm_frame_free(&rig.frames, mm_pfn(withheld / 4096 + 100), 0);
    assert_int_equal(mm_frame_alloc_at(&rig.frames, mm_pfn(other), 512), MM_OK);
    mm_frame_free_run(&rig.frames, mm_pfn(withheld == border ? first - 8 : first), 8);
    assert_int_equal(mm_frame_alloc(&rig.frames, &run, &pfn), MM_ERR_NO_MEMORY);
    run.flags = MM_FRAME_ATOMIC;
    assert_int_equal(mm_frame_alloc(&rig.frames, &run, &pfn), MM_OK);
    rig_stop(&rig);
}

static void runs_over_the_border(void **state)
{
    (void)state;
    run_over_the_border(32 * MIB, 34 * MIB, 32 * MIB);
    /* Below 16 MiB nothing is withheld as long as there is anything else. */
    run_over_the_border(14 * MIB, 16 * MIB, 16 * MIB);
}

/* --- nodes -------------------------------------------------------------------------------------- */

static void start_on_nodes(struct rig *rig, const uint64_t *ranges, const struct mm_numa *numa)
{
    uint64_t len = 0;

    rig_map(rig, ranges);
    rig->config = (struct mm_frames_config){
        .map = &rig->map, .nr_cpus = 1, .platform = rig_platform(rig), .numa = numa};
    assert_int_equal(mm_frame_metadata_size(&rig->config, &len), MM_OK);
    rig->config.metadata = aligned_alloc(MM_CACHE_LINE, len);
    rig->config.metadata_len = len;
    assert_non_null(rig->config.metadata);
    memset(rig->config.metadata, 0, len);
    assert_int_equal(mm_frame_init(&rig->frames, &rig->config), MM_OK);
}

/* Memory that the firmware's tables do not speak of is on the node of the nearest that they do. */
static void memory_of_no_node(void **state)
{
    static const uint64_t ranges[] = {0, 4096, 4 * MIB, 4 * MIB, BASE, 16 * MIB, 0, 0};
    struct mm_frame_watermarks marks = {1, 2, 3};
    struct mm_frame_stats stats;
    struct mm_numa numa;
    struct rig rig;

    (void)state;
    start_numa(&numa, 2, 2);
    numa_ranges[0] = (struct mm_numa_range){{mm_paddr(0), 6 * MIB}, 0, 0};
    numa_ranges[1] = (struct mm_numa_range){{mm_paddr(6 * MIB), BASE}, 1, 0};
    start_on_nodes(&rig, ranges, &numa);
    assert_int_equal(mm_frame_get_stats_of(&rig.frames, 1, MM_ZONE_ALL, &stats), MM_OK);
    assert_int_equal(stats.nr_frames, 18 * MIB / 4096);
    /* Frame 0 counts for its own node alone. */
    assert_int_equal(mm_frame_set_watermarks(&rig.frames, 1, MM_ZONE_DMA, &marks), MM_OK);
    assert_int_equal(mm_frame_get_stats_of(&rig.frames, 1, MM_ZONE_DMA, &stats), MM_OK);
    assert_int_equal(stats.nr_peak, 0);
    rig_stop(&rig);
}

/* As many nodes as there may be: a mask of all of them is no constraint. */
static void sixty_four_nodes(void **state)
{
    static const uint64_t ranges[] = {BASE, 64 * 2 * MIB, 0, 0};
    struct mm_frame_request turns = {.node_policy = MM_NODE_INTERLEAVE};
    struct mm_frame_request all = {.node_policy = MM_NODE_BIND, .nodes = UINT64_MAX, .order = 9};
    uint64_t seen = 0;
    struct mm_numa numa;
    struct rig rig;
    mm_pfn_t pfn;

    (void)state;
    start_numa(&numa, 64, 64);
    for (uint32_t i = 0; i < 64; i++) {
        numa_ranges[i] = (struct mm_numa_range){{mm_paddr(BASE + i * 2 * MIB), 2 * MIB}, i, 0};
    }
    start_on_nodes(&rig, ranges, &numa);
    for (unsigned i = 0; i < 64; i++) {
        assert_int_equal(mm_frame_alloc(&rig.frames, &turns, &pfn), MM_OK);
        seen |= UINT64_C(1) << ((pfn.raw - BASE / 4096) / 512);
        mm_frame_free(&rig.frames, pfn, 0);
    }
    assert_int_equal(seen, UINT64_MAX);
    for (unsigned i = 0; i < 64; i++) {
        assert_int_equal(mm_frame_alloc(&rig.frames, &all, &pfn), MM_OK);
    }
    assert_int_equal(mm_frame_alloc(&rig.frames, &all, &pfn), MM_ERR_NO_MEMORY);
    rig_stop(&rig);
}

/* Two ranges of the map, which the firmware's tables cut into more pieces than there may be. */
static void too_many_pieces(void **state)
{
    static const uint64_t ranges[] = {0, 2 * MM_PAGE_SIZE, BASE, MM_FRAME_MAX_SPANS * 4096ull, 0,
                                      0};
    struct mm_numa numa;
    struct rig rig;
    uint64_t len = 77;

    (void)state;
    start_numa(&numa, MM_FRAME_MAX_SPANS, 2);
    for (uint32_t i = 0; i < MM_FRAME_MAX_SPANS; i++) {
        numa_ranges[i] = (struct mm_numa_range){
            {mm_paddr(BASE + i * (uint64_t)MM_PAGE_SIZE), MM_PAGE_SIZE}, i % 2, 0};
    }
    rig_map(&rig, ranges);
    rig.config = (struct mm_frames_config){.map = &rig.map, .nr_cpus = 1, .numa = &numa};
    assert_int_equal(mm_frame_metadata_size(&rig.config, &len), MM_ERR_LIMIT);
    assert_int_equal(len, 77);
}

/* --- memory that comes and goes ----------------------------------------------------------------- */

/* A zone is short of memory; more comes, and it is not; one of two pieces goes, and it is again. */
static void memory_relieves(void **state)
{
    static const uint64_t ranges[] = {BASE, 4 * MIB, BASE + 64 * MIB, 4 * MIB, 0, 0};
    static const uint64_t later[] = {BASE + 128 * MIB, 8 * MIB, 0, 0};
    struct mm_frame_watermarks marks = {100, 2500, 3000};
    struct memory m;

    (void)state;
    memory_start(&m, ranges, later, 0);
    assert_int_equal(mm_frame_set_watermarks(&m.rig.frames, 0, MM_ZONE_NORMAL, &marks), MM_OK);
    assert_int_equal(mm_frame_pressure(&m.rig.frames, 0, MM_ZONE_NORMAL), MM_PRESSURE_LOW);
    assert_int_equal(
        mm_frame_add(&m.rig.frames, mm_prange(mm_paddr(BASE + 128 * MIB), 8 * MIB), NULL), MM_OK);
    assert_int_equal(mm_frame_pressure(&m.rig.frames, 0, MM_ZONE_NORMAL), MM_PRESSURE_NONE);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(
            mm_frame_remove(&m.rig.frames, mm_prange(mm_paddr(BASE + i * 64 * MIB), 4 * MIB)),
            MM_OK);
    }
    assert_int_equal(mm_frame_pressure(&m.rig.frames, 0, MM_ZONE_NORMAL), MM_PRESSURE_LOW);
    memory_stop(&m);
}

/* The lowest lines are not there yet: what is withheld is memory that is. */
static void absent_memory_is_not_withheld(void **state)
{
    static const uint64_t ranges[] = {20 * MIB, 8 * MIB, 0, 0};
    static const uint64_t later[] = {16 * MIB, 4 * MIB, 0, 0};
    struct memory m;
    uint64_t nr = 0;
    mm_pfn_t pfn;

    (void)state;
    memory_make(&m, ranges, later);
    m.rig.config.nr_reserve = 100;
    memory_up(&m, 0);
    while (mm_frame_alloc_on(&m.rig.frames, 0, &pfn) == MM_OK) {
        assert_true(pfn.raw >= 22 * MIB / 4096);
        nr++;
    }
    assert_int_equal(nr, 3 * 512);
    memory_stop(&m);
}

/* Frames that could not be mapped go back while their zone is short of memory, others are freed in
 * zones that are not, or that nobody watches: each counts for its own zone. */
static void given_back_under_pressure(void **state)
{
    static const uint64_t ranges[] = {4 * MIB, 4 * MIB, 16 * MIB, 8 * MIB, BASE, 4 * MIB, 0, 0};
    struct mm_frame_request block = {
        .order = 9, .flags = MM_FRAME_ZERO, .lowest = {4 * MIB}, .highest = {8 * MIB - 1}};
    struct mm_frame_watermarks scarce = {1, 2000, 3000};
    struct mm_frame_watermarks plenty = {1, 2, 3};
    struct memory m;
    mm_pfn_t pfn;

    (void)state;
    memory_make(&m, ranges, NULL);
    memory_by_ops(&m);
    memory_up(&m, 0);
    assert_int_equal(mm_frame_set_watermarks(&m.rig.frames, 0, MM_ZONE_DMA, &scarce), MM_OK);
    assert_int_equal(mm_frame_set_watermarks(&m.rig.frames, 0, MM_ZONE_DMA32, &plenty), MM_OK);
    m.maps_left = 5;
    assert_int_equal(mm_frame_alloc(&m.rig.frames, &block, &pfn), MM_ERR_FAULT);
    for (unsigned i = 0; i < 2; i++) {
        pfn = mm_pfn((i == 0 ? 16 * MIB : BASE) / 4096);
        assert_int_equal(mm_frame_alloc_at(&m.rig.frames, pfn, 512), MM_OK);
        mm_frame_free_run(&m.rig.frames, pfn, 512);
    }
    assert_int_equal(rig_stats(&m.rig).nr_allocated, 0);
    assert_int_equal(mm_frame_pressure(&m.rig.frames, 0, MM_ZONE_DMA), MM_PRESSURE_LOW);
    assert_int_equal(mm_frame_pressure(&m.rig.frames, 0, MM_ZONE_DMA32), MM_PRESSURE_NONE);
    memory_stop(&m);
}

/* --- zeroing, and the last hole ----------------------------------------------------------------- */

/* A run over lines that are known to be zero, and pieces of others: all of it is. */
static void zeroed_run_over_lines(void **state)
{
    static const uint64_t ranges[] = {16 * MIB, 16 * MIB, 0, 0};
    struct mm_frame_request run = {.nr_frames = 1400, .flags = MM_FRAME_ZERO};
    struct memory m;
    uint64_t done = 0;
    mm_pfn_t pfn;

    (void)state;
    memory_start(&m, ranges, NULL, MM_FRAMES_KNOWN_ZERO);
    assert_int_equal(mm_frame_prezero(&m.rig.frames, 4, &done), MM_OK);
    assert_int_equal(done, 4);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(mm_frame_alloc(&m.rig.frames, &run, &pfn), MM_OK);
        assert_true(memory_holds(&m, pfn, 1400, 0));
    }
    memory_stop(&m);
}

/* A direct map that says where it ends, behind all memory. */
static void direct_map_of_more_than_all(void **state)
{
    static const uint64_t ranges[] = {16 * MIB, 4 * MIB, 0, 0};
    struct memory m;
    mm_pfn_t pfn;

    (void)state;
    memory_make(&m, ranges, NULL);
    m.physmap.len = 32 * MIB;
    memory_up(&m, 0);
    pfn = memory_alloc(&m, 3, MM_FRAME_ZERO);
    assert_true(memory_holds(&m, pfn, 8, 0));
    memory_stop(&m);
}

/* The hole that was freed last, and is no longer than what is asked for: the line is known no more. */
static void last_hole_is_filled(void **state)
{
    static const uint64_t ranges[] = {16 * MIB, 4 * MIB, 0, 0};
    struct mm_frame_request run = {.nr_frames = 3};
    struct rig rig;
    mm_pfn_t first;
    mm_pfn_t pfn;

    (void)state;
    rig_start(&rig, ranges, 1, 0);
    first = rig_alloc(&rig, 0);
    for (unsigned i = 1; i < 1024; i++) {
        (void)rig_alloc(&rig, 0);
    }
    for (unsigned i = 0; i < 2; i++) {
        mm_frame_free_run(&rig.frames, first, 3);
        assert_int_equal(mm_frame_alloc(&rig.frames, &run, &pfn), MM_OK);
        assert_int_equal(pfn.raw, first.raw);
        assert_int_equal(mm_frame_alloc(&rig.frames, &run, &pfn), MM_ERR_NO_MEMORY);
    }
    rig_stop(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flags_and_holes_part_no_memory),
        cmocka_unit_test(too_many_pieces_take_nothing),
        cmocka_unit_test(removed_memory_was_not_allocated),
        cmocka_unit_test(long_runs_among_short_holes),
        cmocka_unit_test(block_beyond_the_end),
        cmocka_unit_test(block_of_another_span),
        cmocka_unit_test(list_over_two_spans),
        cmocka_unit_test(nothing_to_search),
        cmocka_unit_test(frame_zero_is_no_line),
        cmocka_unit_test(window_over_withheld_memory),
        cmocka_unit_test(runs_over_the_border),
        cmocka_unit_test(memory_of_no_node),
        cmocka_unit_test(sixty_four_nodes),
        cmocka_unit_test(too_many_pieces),
        cmocka_unit_test(memory_relieves),
        cmocka_unit_test(absent_memory_is_not_withheld),
        cmocka_unit_test(given_back_under_pressure),
        cmocka_unit_test(zeroed_run_over_lines),
        cmocka_unit_test(direct_map_of_more_than_all),
        cmocka_unit_test(last_hole_is_filled),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
