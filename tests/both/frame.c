// SPDX-License-Identifier: MIT
//
// Frames over memory that is there: orders, runs, windows, references, and the last frame.

#include "both.h"

#include <mm/frame.h>

#define FRAMES  (BOTH_MEMORY / MM_PAGE_SIZE)
#define ENTRIES MM_BOOTMAP_CAPACITY(4)

static struct mm_boot_entry entries[ENTRIES];
static struct mm_bootmap map;
static struct mm_frames frames;
static mm_pfn_t held[FRAMES];

static uint64_t nr_free(void)
{
    struct mm_frame_stats stats;
    BOTH_MUST(mm_frame_get_stats(&frames, &stats));
    return stats.nr_free;
}

static uint64_t *words(const struct both_world *world, mm_pfn_t frame)
{
    return mm_physmap_ptr(&world->physmap, mm_pfn_addr(frame));
}

static void start(const struct both_world *world)
{
    struct mm_frames_config config = {
        .map = &map,
        .physmap = &world->physmap,
        .nr_cpus = 2,
        .flags = MM_FRAMES_REFCOUNTS | MM_FRAMES_OWNERS,
    };

    BOTH_MUST(mm_bootmap_init(&map, entries, ENTRIES));
    BOTH_MUST(mm_bootmap_add(&map, world->memory, MM_BOOT_USABLE));
    BOTH_MUST(mm_frame_init_from_map(&frames, &config, world->memory));
}

static void check_orders(const struct both_world *world)
{
    uint64_t before = nr_free();
    bool aligned = true;
    bool zeroed = true;

    for (uint32_t order = 0; order <= 7; order++) {
        struct mm_frame_request request = {.order = order, .flags = MM_FRAME_ZERO};
        mm_pfn_t block;
        BOTH_MUST(mm_frame_alloc(&frames, &request, &block));
        uint64_t nr = MM_PAGE_SIZE / sizeof(uint64_t) << order;
        aligned = aligned && mm_is_aligned(block.raw, UINT64_C(1) << order);
        for (uint64_t i = 0; i < nr; i++) {
            zeroed = zeroed && words(world, block)[i] == 0;
            words(world, block)[i] = UINT64_MAX;
        }
        mm_frame_free(&frames, block, order);
    }
    BOTH_CHECK("blocks of each order are aligned to their size", aligned);
    BOTH_CHECK("blocks of each order are zeroed when asked, again after use", zeroed);
    BOTH_CHECK("blocks of each order are back", nr_free() == before);
}

// Every frame there is: each holds its own number until the end.
static void check_all(const struct both_world *world)
{
    uint64_t before = nr_free();
    uint64_t nr = 0;
    bool kept = true;
    mm_pfn_t more = {77};

    while (nr < FRAMES && mm_frame_alloc_on(&frames, (uint32_t)nr, &held[nr]) == MM_OK) {
        words(world, held[nr])[0] = held[nr].raw;
        words(world, held[nr])[511] = nr;
        nr++;
    }
    BOTH_CHECK("every free frame is to be had, and then no more",
               nr == before && nr_free() == 0 &&
                   mm_frame_alloc(&frames, NULL, &more) == MM_ERR_NO_MEMORY && more.raw == 77);
    for (uint64_t i = 0; i < nr; i++) {
        kept = kept && words(world, held[i])[0] == held[i].raw && words(world, held[i])[511] == i;
    }
    BOTH_CHECK("no frame is handed out twice", kept);
    mm_frame_free_bulk(&frames, held, nr);
    BOTH_CHECK("all are back", nr_free() == before && mm_frame_check(&frames) == MM_OK);
}

static void check_runs(const struct both_world *world)
{
    struct mm_frame_request request = {.nr_frames = 37, .align = 8 * MM_PAGE_SIZE};
    uint64_t before = nr_free();
    size_t done = 0;
    mm_pfn_t run;

    BOTH_MUST(mm_frame_alloc(&frames, &request, &run));
    BOTH_CHECK("a run of any length is aligned as asked",
               mm_is_aligned(run.raw, 8) && nr_free() == before - 37);
    BOTH_CHECK("part of what is out cannot be had",
               mm_frame_alloc_at(&frames, mm_pfn(run.raw - 1), 2) == MM_ERR_BUSY &&
                   nr_free() == before - 37);
    BOTH_CHECK("what is not managed cannot be had",
               mm_frame_alloc_at(&frames,
                                 mm_pfn_of(mm_paddr(world->memory.start.raw + world->memory.len)),
                                 1) == MM_ERR_INVALID_ADDRESS);
    mm_frame_free_run(&frames, mm_pfn(run.raw + 7), 30);
    BOTH_CHECK("a part that was freed is to be had again, by name",
               mm_frame_alloc_at(&frames, mm_pfn(run.raw + 7), 30) == MM_OK);
    mm_frame_free_run(&frames, run, 37);

    BOTH_MUST(mm_frame_alloc_bulk(&frames, 1, held, 100, &done));
    BOTH_CHECK("frames come in bulk", done == 100 && nr_free() == before - 100);
    mm_frame_free_bulk(&frames, held, done);
    BOTH_CHECK("runs are back", nr_free() == before);
}

static void check_windows(const struct both_world *world)
{
    uint64_t first = world->memory.start.raw;
    struct mm_frame_request request = {
        .nr_frames = 4,
        .lowest = mm_paddr(first + 16 * MM_PAGE_SIZE),
        .highest = mm_paddr(first + 24 * MM_PAGE_SIZE - 1),
        .boundary = 16 * MM_PAGE_SIZE,
    };
    mm_pfn_t a = {0};
    mm_pfn_t b = {0};
    mm_pfn_t c = {99};

    BOTH_MUST(mm_frame_alloc(&frames, &request, &a));
    BOTH_MUST(mm_frame_alloc(&frames, &request, &b));
    BOTH_CHECK("a window is kept to", a.raw >= (first >> MM_PAGE_SHIFT) + 16 &&
                                          a.raw + 4 <= (first >> MM_PAGE_SHIFT) + 24 &&
                                          b.raw >= (first >> MM_PAGE_SHIFT) + 16 &&
                                          b.raw + 4 <= (first >> MM_PAGE_SHIFT) + 24);
    BOTH_CHECK("a window that is full is told",
               mm_frame_alloc(&frames, &request, &c) == MM_ERR_NO_MEMORY && c.raw == 99);
    mm_frame_free_run(&frames, a, 4);
    mm_frame_free_run(&frames, b, 4);
}

static void check_references(void)
{
    uint64_t before = nr_free();
    mm_pfn_t frame;

    BOTH_MUST(
        mm_frame_alloc(&frames, &(struct mm_frame_request){.owner = MM_OWNER_ANONYMOUS}, &frame));
    mm_frame_get(&frames, frame);
    mm_frame_get(&frames, frame);
    BOTH_CHECK("references are counted", mm_frame_refs(&frames, frame) == 3);
    BOTH_CHECK("a frame is freed with its last reference, not before",
               !mm_frame_put(&frames, frame) && !mm_frame_put(&frames, frame) &&
                   mm_frame_allocated(&frames, frame) && mm_frame_put(&frames, frame) &&
                   !mm_frame_allocated(&frames, frame) && mm_frame_refs(&frames, frame) == 0 &&
                   nr_free() == before);
}

void both_frame(const struct both_world *world)
{
    start(world);
    check_orders(world);
    check_all(world);
    check_runs(world);
    check_windows(world);
    check_references();
    BOTH_CHECK("the allocator agrees with itself", mm_frame_check(&frames) == MM_OK);
    BOTH_CHECK("its metadata is usable memory again",
               mm_frame_destroy_to_map(&frames, &map) == MM_OK &&
                   mm_bootmap_usable_bytes(&map) == world->memory.len);
    map = (struct mm_bootmap){0};
}
