// SPDX-License-Identifier: MIT
/**
 * The frame allocator, call by call: what it promises, and every status that it can answer.
 * Panics are in test_frame_panic.c, init in test_frame_init.c, counts, owners, zeroing and the check
 * in test_frame_records.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/frame/state.h"
#include "frame_rig.h"
#include "hash.h"

/* Memory as on a small PC, and some above 4 GiB that begins and ends inside of 2 MiB. */
static const uint64_t machine[] = {0,       636 * KIB, 1 * MIB, 30 * MIB, 4 * GIB + 20 * KIB,
                                   9 * MIB, 0,         0};
#define MACHINE_FRAMES ((636 * KIB + 30 * MIB + 9 * MIB) / 4096)

static const uint64_t blocks[] = {2 * GIB, 3 * GIB, 0, 0};

/* --- orders ---------------------------------------------------------------------------------- */

static void every_order(void **state)
{
    struct rig rig;

    (void)state;
    rig_start(&rig, blocks, 2, RIG_RECORDS);
    for (uint32_t order = 0; order <= MM_FRAME_MAX_ORDER; order++) {
        uint64_t size = UINT64_C(1) << order;
        mm_pfn_t a = rig_alloc(&rig, order);
        mm_pfn_t b = rig_alloc(&rig, order);

        assert_int_equal(a.raw % size, 0);
        assert_int_equal(b.raw % size, 0);
        assert_true(a.raw + size <= b.raw || b.raw + size <= a.raw);
        assert_int_equal(rig_stats(&rig).nr_allocated, 2 * size);
        assert_true(mm_frame_allocated(&rig.frames, a));
        assert_true(mm_frame_allocated(&rig.frames, mm_pfn(a.raw + size - 1)));
        mm_frame_free(&rig.frames, a, order);
        mm_frame_free(&rig.frames, b, order);
        rig_check(&rig);
        assert_int_equal(rig_stats(&rig).nr_allocated, 0);
    }
    assert_int_equal(rig_stats(&rig).nr_free_2m, 1536);
    rig_stop(&rig);
}

/* Any aligned part of what was allocated may be freed. */
static void free_in_parts(void **state)
{
    struct rig rig;

    (void)state;
    rig_start(&rig, blocks, 1, 0);
    for (uint32_t order = 1; order <= 11; order++) {
        uint64_t first = rig_alloc(&rig, order).raw;

        /* A frame, then halves that double: 1, 1, 2, 4, ... */
        mm_frame_free(&rig.frames, mm_pfn(first), 0);
        for (uint32_t part = 0; part < order; part++) {
            assert_true(mm_frame_allocated(&rig.frames, mm_pfn(first + (1u << part))));
            mm_frame_free(&rig.frames, mm_pfn(first + (1u << part)), part);
            rig_check(&rig);
        }
        assert_int_equal(rig_stats(&rig).nr_allocated, 0);
    }
    rig_stop(&rig);
}

/* Every block of an order is found, then there is none, whatever the order. */
static void every_block(void **state)
{
    struct rig rig;
    mm_pfn_t pfn = {77};

    (void)state;
    for (uint32_t order = 0; order <= 13; order++) {
        const uint64_t ranges[] = {32 * MIB, 64 * MIB, 0, 0};
        struct mm_frame_request request = {.order = order};
        uint64_t nr = (64 * MIB / 4096) >> order;

        rig_start(&rig, ranges, 3, 0);
        for (uint64_t i = 0; i < nr; i++) {
            rig.cpu = (uint32_t)(i % 3);
            (void)rig_alloc(&rig, order);
        }
        rig_check(&rig);
        pfn.raw = 77;
        assert_int_equal(mm_frame_alloc(&rig.frames, &request, &pfn), MM_ERR_NO_MEMORY);
        assert_int_equal(pfn.raw, 77);
        assert_int_equal(rig_stats(&rig).nr_free, 0);
        mm_frame_free_run(&rig.frames, mm_pfn(32 * MIB / 4096), 64 * MIB / 4096);
        rig_stop(&rig);
    }
}

/* One frame of each block is in use: no block is left, and many frames are. */
static void fragmented(void **state)
{
    struct rig rig;
    const uint64_t ranges[] = {32 * MIB, 16 * MIB, 0, 0};
    mm_pfn_t pfn;

    (void)state;
    for (uint32_t order = 1; order <= 12; order++) {
        struct mm_frame_request request = {.order = order};
        uint64_t first = 32 * MIB / 4096;
        uint64_t size = UINT64_C(1) << order;

        rig_start(&rig, ranges, 1, 0);
        for (uint64_t at = first; at < first + 4096; at += size) {
            assert_int_equal(mm_frame_alloc_at(&rig.frames, mm_pfn(at + size / 2), 1), MM_OK);
        }
        assert_int_equal(mm_frame_alloc(&rig.frames, &request, &pfn), MM_ERR_NO_MEMORY);
        request.order = order - 1;
        assert_int_equal(mm_frame_alloc(&rig.frames, &request, &pfn), MM_OK);
        /* One comes free: that one is found. */
        mm_frame_free(&rig.frames, pfn, order - 1);
        mm_frame_free(&rig.frames, mm_pfn(first + 2048 / size * size + size / 2), 0);
        request.order = order;
        assert_int_equal(mm_frame_alloc(&rig.frames, &request, &pfn), MM_OK);
        assert_int_equal(pfn.raw, first + 2048 / size * size);
        rig_stop(&rig);
    }
}

/* --- requests -------------------------------------------------------------------------------- */

static void request_statuses(void **state)
{
    struct rig rig;
    struct mm_frames unborn = {0};
    mm_pfn_t pfn = {77};
    uint64_t hash;

    (void)state;
    rig_start(&rig, machine, 2, RIG_RECORDS);
    hash = t_hash(rig.config.metadata, rig.config.metadata_len);
    assert_int_equal(mm_frame_alloc(NULL, NULL, &pfn), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_frame_alloc(&rig.frames, NULL, NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_frame_alloc(&unborn, NULL, &pfn), MM_ERR_NOT_INITIALIZED);

#define FAILS(status_, ...)                                                                        \
    do {                                                                                           \
        struct mm_frame_request r = {__VA_ARGS__};                                                 \
        assert_int_equal(mm_frame_alloc(&rig.frames, &r, &pfn), status_);                          \
        assert_int_equal(pfn.raw, 77);                                                             \
        assert_int_equal(t_hash(rig.config.metadata, rig.config.metadata_len), hash);              \
    } while (0)

    FAILS(MM_ERR_INVALID_ARGUMENT, .order = 19);
    FAILS(MM_ERR_INVALID_ARGUMENT, .order = UINT32_MAX);
    FAILS(MM_ERR_INVALID_ARGUMENT, .order = 1, .nr_frames = 2);
    FAILS(MM_ERR_INVALID_ARGUMENT, .owner = MM_OWNER_COUNT);
    FAILS(MM_ERR_INVALID_ARGUMENT, .node = 1);
    FAILS(MM_ERR_INVALID_ARGUMENT, .node_policy = 3);
    FAILS(MM_ERR_INVALID_ARGUMENT, .lifetime = 4);
    FAILS(MM_ERR_INVALID_FLAGS, .flags = 4);
    FAILS(MM_ERR_INVALID_SIZE, .nr_frames = (UINT64_C(1) << 40) + 1);
    FAILS(MM_ERR_INVALID_SIZE, .nr_frames = UINT64_MAX);
    FAILS(MM_ERR_INVALID_ADDRESS, .lowest = {2}, .highest = {1});
    FAILS(MM_ERR_NOT_ALIGNED, .align = 2048);
    FAILS(MM_ERR_NOT_ALIGNED, .align = 12288);
    FAILS(MM_ERR_NOT_ALIGNED, .boundary = 1);
    FAILS(MM_ERR_NOT_ALIGNED, .boundary = 12288);
    FAILS(MM_ERR_NOT_ALIGNED, .boundary = 8192, .order = 2);
    FAILS(MM_ERR_NOT_ALIGNED, .boundary = 8192, .nr_frames = 3);
    FAILS(MM_ERR_INVALID_ARGUMENT, .node = 1);
    FAILS(MM_ERR_INVALID_ARGUMENT, .nodes = 1);
    FAILS(MM_ERR_INVALID_ARGUMENT, .node_policy = MM_NODE_BIND);
    FAILS(MM_ERR_INVALID_ARGUMENT, .node_policy = MM_NODE_BIND, .nodes = 1, .node = 1);
    FAILS(MM_ERR_INVALID_ARGUMENT, .node_policy = MM_NODE_PREFERRED, .nodes = 1);
    FAILS(MM_ERR_INVALID_ARGUMENT, .node_policy = MM_NODE_INTERLEAVE + 1);
    FAILS(MM_ERR_INVALID_ARGUMENT, .tag = MM_FRAME_TAG_MAX + 1);
    FAILS(MM_ERR_NODE_NOT_FOUND, .node_policy = MM_NODE_PREFERRED, .node = 1);
    FAILS(MM_ERR_NODE_NOT_FOUND, .node_policy = MM_NODE_REQUIRED, .node = UINT32_MAX);
    FAILS(MM_ERR_NODE_NOT_FOUND, .node_policy = MM_NODE_BIND, .nodes = 2);
    FAILS(MM_ERR_NODE_NOT_FOUND, .node_policy = MM_NODE_INTERLEAVE, .nodes = UINT64_MAX);
    FAILS(MM_ERR_UNSUPPORTED, .flags = MM_FRAME_ZERO);
    assert_int_equal(rig_stats(&rig).nr_failed, 0);
    assert_int_equal(rig.nr_events, 0);
    FAILS(MM_ERR_NO_MEMORY, .nr_frames = UINT64_C(1) << 40);
    FAILS(MM_ERR_NO_MEMORY, .nr_frames = 7681);
    FAILS(MM_ERR_NO_MEMORY, .align = UINT64_C(1) << 63);
    FAILS(MM_ERR_NO_MEMORY, .lowest = {UINT64_MAX}, .highest = {UINT64_MAX});
    FAILS(MM_ERR_NO_MEMORY, .lowest = {UINT64_MAX});
    FAILS(MM_ERR_NO_MEMORY, .highest = {4095}); /* only frame 0 */
    FAILS(MM_ERR_NO_MEMORY, .lowest = {636 * KIB}, .highest = {1 * MIB - 1});
#undef FAILS
    assert_int_equal(rig_stats(&rig).nr_failed, 7);
    assert_int_equal(rig.nr_events, 7);
    assert_int_equal(rig.event_len, 4096);
    rig_stop(&rig);
}

/* The window, the alignment and the boundary, over all of memory. */
static void constraints(void **state)
{
    struct rig rig;
    mm_pfn_t pfn;
    uint64_t nr = 0;
    struct mm_frame_request below_16m = {.nr_frames = 3, .highest = {16 * MIB - 1}};
    struct mm_frame_request exact = {.lowest = {5 * MIB}, .highest = {5 * MIB + 4095}};
    struct mm_frame_request crossing = {.nr_frames = 5, .boundary = 32 * KIB, .lowest = {4 * GIB}};
    struct mm_frame_request aligned = {.nr_frames = 7, .align = 64 * KIB, .lowest = {4 * GIB}};
    struct mm_frame_request loose = {.order = 4, .align = 4096, .lowest = {4 * GIB + 8 * MIB}};

    (void)state;
    rig_start(&rig, machine, 2, 0);
    assert_int_equal(mm_frame_alloc(&rig.frames, &exact, &pfn), MM_OK);
    assert_int_equal(pfn.raw, 5 * MIB / 4096);
    assert_int_equal(mm_frame_alloc(&rig.frames, &exact, &pfn), MM_ERR_NO_MEMORY);
    mm_frame_free(&rig.frames, mm_pfn(5 * MIB / 4096), 0);

    while (mm_frame_alloc(&rig.frames, &below_16m, &pfn) == MM_OK) {
        assert_true(pfn.raw + 3 <= 16 * MIB / 4096);
        nr += 3;
    }
    /* 158 of the frames below 640 KiB, and 15 MiB. */
    assert_int_equal(nr, 156 + 3840);

    while (mm_frame_alloc(&rig.frames, &crossing, &pfn) == MM_OK) {
        assert_int_equal(pfn.raw / 8, (pfn.raw + 4) / 8);
        nr += 5;
    }
    /* Of each 8 frames 5; the span begins 5 frames and ends 5 frames after a multiple of 8. */
    assert_int_equal(nr, 156 + 3840 + 5 * (9 * MIB / 4096 / 8));
    rig_check(&rig);
    mm_frame_free_run(&rig.frames, pfn, 0); /* nothing happens */
    assert_int_equal(mm_frame_destroy(&rig.frames), MM_OK);
    memset(rig.config.metadata, 0, rig.config.metadata_len);

    assert_int_equal(mm_frame_init(&rig.frames, &rig.config), MM_OK);
    nr = 0;
    while (mm_frame_alloc(&rig.frames, &aligned, &pfn) == MM_OK) {
        assert_int_equal(pfn.raw % 16, 0);
        nr++;
    }
    assert_int_equal(nr, (9 * MIB - 44 * KIB) / (64 * KIB));
    /* Blocks with less than their own alignment fill what is left to the last frame but 5. */
    assert_int_equal(mm_frame_alloc(&rig.frames, &loose, &pfn), MM_ERR_NO_MEMORY);
    rig_stop(&rig);
}

/* Low memory is used last, wherever the search stands. */
static void low_memory_lasts(void **state)
{
    struct rig rig;
    mm_pfn_t pfn;

    (void)state;
    rig_start(&rig, machine, 1, 0);
    for (unsigned round = 0; round < 2; round++) {
        mm_pfn_t high[9 * MIB / 4096];

        for (unsigned i = 0; i < 9 * MIB / 4096; i++) {
            high[i] = rig_alloc(&rig, 0);
            assert_true(high[i].raw >= 4 * GIB / 4096);
        }
        for (unsigned i = 0; i < 15 * MIB / 4096 && round == 1; i++) {
            pfn = rig_alloc(&rig, 0);
            assert_true(pfn.raw >= 16 * MIB / 4096 && pfn.raw < 31 * MIB / 4096);
        }
        mm_frame_free_bulk(&rig.frames, high, sizeof(high) / sizeof(high[0]));
    }
    rig_stop(&rig);
}

/* --- out of memory --------------------------------------------------------------------------- */

/* Hazard 4: no frame hides behind another CPU's hint. */
static void last_frame_is_found(void **state)
{
    struct rig rig;
    mm_pfn_t list[8];
    mm_pfn_t pfn;
    uint64_t left = MACHINE_FRAMES - 1; /* frame 0 */

    (void)state;
    rig_start(&rig, machine, 8, 0);
    /* Each CPU keeps a hint, for frames and for blocks. */
    for (uint32_t cpu = 0; cpu < 8; cpu++) {
        assert_int_equal(mm_frame_alloc_on(&rig.frames, cpu, &list[cpu]), MM_OK);
        rig.cpu = cpu;
        mm_frame_free(&rig.frames, rig_alloc(&rig, 3), 3);
        left--;
    }
    rig_check(&rig);
    for (; left > 0; left--) {
        assert_int_equal(mm_frame_alloc_on(&rig.frames, 5, &pfn), MM_OK);
        assert_int_not_equal(pfn.raw, 0);
    }
    pfn.raw = 77;
    for (uint32_t cpu = 0; cpu < 8; cpu++) {
        assert_int_equal(mm_frame_alloc_on(&rig.frames, cpu, &pfn), MM_ERR_NO_MEMORY);
        assert_int_equal(pfn.raw, 77);
    }
    rig_check(&rig);
    /* Whatever single frame comes back, each CPU finds it. */
    for (uint32_t cpu = 0; cpu < 8; cpu++) {
        mm_frame_free(&rig.frames, list[cpu], 0);
        assert_int_equal(mm_frame_alloc_on(&rig.frames, (cpu + 3) % 8, &pfn), MM_OK);
        assert_int_equal(pfn.raw, list[cpu].raw);
        assert_int_equal(mm_frame_alloc_on(&rig.frames, cpu, &pfn), MM_ERR_NO_MEMORY);
    }
    assert_int_equal(rig_stats(&rig).nr_failed, 16);
    assert_int_equal(rig_stats(&rig).nr_free, 1);
    rig_stop(&rig);
}

/* Summaries that say too little, as they may for a moment, do not hide frames. */
static void rows_are_the_truth(void **state)
{
    struct rig rig;
    mm_pfn_t pfn;
    struct mm_frame_request request = {.order = 10};
    uint64_t nr = 0;

    (void)state;
    rig_start(&rig, machine, 2, 0);
    /* A clear that has begun on another CPU. */
    rig.frames.groups[MMI_HAS_FREE] = 0;
    rig.frames.unsettled = 1;
    while (mm_frame_alloc_on(&rig.frames, 0, &pfn) == MM_OK) {
        nr++;
    }
    assert_int_equal(nr, MACHINE_FRAMES - 1);
    assert_int_equal(mm_frame_destroy(&rig.frames), MM_OK);

    memset(rig.config.metadata, 0, rig.config.metadata_len);
    assert_int_equal(mm_frame_init(&rig.frames, &rig.config), MM_OK);
    rig.frames.groups[MMI_WHOLE] = 0;
    rig.frames.unsettled = 1;
    assert_int_equal(mm_frame_alloc(&rig.frames, &request, &pfn), MM_OK);
    assert_int_equal(pfn.raw % 1024, 0);
    assert_int_equal(mm_frame_destroy(&rig.frames), MM_OK);
    free(rig.config.metadata);
}

static void wrong_cpu_number(void **state)
{
    struct rig rig;
    mm_pfn_t pfn;
    size_t done;

    (void)state;
    rig_start(&rig, machine, 3, 0);
    for (uint32_t cpu = 0; cpu < 100; cpu++) {
        assert_int_equal(mm_frame_alloc_on(&rig.frames, cpu * 1000003u, &pfn), MM_OK);
        assert_int_equal(mm_frame_alloc_bulk(&rig.frames, UINT32_MAX - cpu, &pfn, 1, &done), MM_OK);
        rig.cpu = cpu * 77777u;
        (void)rig_alloc(&rig, cpu % 8);
    }
    rig_stop(&rig);
}

/* --- known frames ---------------------------------------------------------------------------- */

static void alloc_at(void **state)
{
    struct rig rig;
    struct mm_frames unborn = {0};
    uint64_t hash;
    mm_pfn_t first = {4 * GIB / 4096 + 5};

    (void)state;
    rig_start(&rig, machine, 1, RIG_RECORDS);
    assert_int_equal(mm_frame_alloc_at(&rig.frames, mm_pfn(700), 600), MM_OK);
    hash = t_hash(rig.config.metadata, rig.config.metadata_len);
#define FAILS(status_, first_, nr_)                                                                \
    do {                                                                                           \
        assert_int_equal(mm_frame_alloc_at(&rig.frames, mm_pfn(first_), nr_), status_);            \
        assert_int_equal(t_hash(rig.config.metadata, rig.config.metadata_len), hash);              \
    } while (0)
    assert_int_equal(mm_frame_alloc_at(NULL, first, 1), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_frame_alloc_at(&unborn, first, 1), MM_ERR_NOT_INITIALIZED);
    FAILS(MM_ERR_INVALID_SIZE, 1000, 0);
    FAILS(MM_ERR_INVALID_SIZE, UINT64_MAX, 2);
    FAILS(MM_ERR_INVALID_SIZE, (UINT64_C(1) << 40) - 1, 2);
    FAILS(MM_ERR_INVALID_SIZE, 1, UINT64_MAX);
    FAILS(MM_ERR_INVALID_ADDRESS, 159, 1);       /* just after a span */
    FAILS(MM_ERR_INVALID_ADDRESS, 0, 160);       /* runs out of one */
    FAILS(MM_ERR_INVALID_ADDRESS, 255, 2);       /* runs into one */
    FAILS(MM_ERR_INVALID_ADDRESS, 256, 1000000); /* across a hole */
    FAILS(MM_ERR_INVALID_ADDRESS, first.raw - 1, 1);
    FAILS(MM_ERR_BUSY, 700, 1);
    FAILS(MM_ERR_BUSY, 1299, 1);
    FAILS(MM_ERR_BUSY, 256, 445); /* its last frame */
    FAILS(MM_ERR_BUSY, 1299, 600);
    FAILS(MM_ERR_BUSY, 256, 30 * MIB / 4096);
#undef FAILS
    assert_int_equal(mm_frame_alloc_at(&rig.frames, mm_pfn(256), 444), MM_OK);
    assert_int_equal(mm_frame_alloc_at(&rig.frames, mm_pfn(1300), 7936 - 1300), MM_OK);
    assert_int_equal(mm_frame_alloc_at(&rig.frames, first, 9 * MIB / 4096), MM_OK);
    rig_check(&rig);
    assert_int_equal(rig_stats(&rig).nr_free, 159);
    mm_frame_free_run(&rig.frames, mm_pfn(256), 30 * MIB / 4096);
    mm_frame_free_run(&rig.frames, first, 9 * MIB / 4096);
    rig_stop(&rig);
}

/* Frame 0 is there, and is never handed out unasked. */
static void frame_zero(void **state)
{
    struct rig rig;
    mm_pfn_t zero = {0};
    mm_pfn_t pfn;
    mm_pfn_t list[4] = {{1}, {0}, {2}, {3}};
    struct mm_frame_request request = {.order = 0, .highest = {636 * KIB - 1}};
    const uint64_t only_zero[] = {0, 4096, 0, 0};

    (void)state;
    rig_start(&rig, machine, 1, RIG_RECORDS);
    assert_int_equal(rig_stats(&rig).nr_spans, 3);
    assert_true(mm_frame_managed(&rig.frames, zero));
    assert_false(mm_frame_allocated(&rig.frames, zero));
    assert_int_equal(mm_frame_refs(&rig.frames, zero), 0);
    assert_int_equal(mm_frame_alloc_at(&rig.frames, zero, 1), MM_OK);
    assert_int_equal(mm_frame_alloc_at(&rig.frames, zero, 1), MM_ERR_BUSY);
    assert_true(mm_frame_allocated(&rig.frames, zero));
    mm_frame_get(&rig.frames, zero);
    assert_int_equal(mm_frame_refs(&rig.frames, zero), 2);
    assert_false(mm_frame_put(&rig.frames, zero));
    assert_true(mm_frame_put(&rig.frames, zero));
    /* As part of a run, and as part of a list. */
    assert_int_equal(mm_frame_alloc_at(&rig.frames, mm_pfn(1), 3), MM_OK);
    assert_int_equal(mm_frame_alloc_at(&rig.frames, zero, 16), MM_ERR_BUSY);
    assert_false(mm_frame_allocated(&rig.frames, zero));
    assert_int_equal(mm_frame_alloc_at(&rig.frames, zero, 1), MM_OK);
    mm_frame_free_bulk(&rig.frames, list, 4);
    assert_int_equal(mm_frame_alloc_at(&rig.frames, zero, 16), MM_OK);
    mm_frame_free(&rig.frames, zero, 4);
    rig_check(&rig);
    /* It has been freed, and all the same nobody gets it. */
    while (mm_frame_alloc(&rig.frames, &request, &pfn) == MM_OK) {
        assert_int_not_equal(pfn.raw, 0);
    }
    while (mm_frame_alloc(&rig.frames, NULL, &pfn) == MM_OK) {
        assert_int_not_equal(pfn.raw, 0);
    }
    assert_int_equal(rig_stats(&rig).nr_free, 1);
    rig_stop(&rig);

    rig_start(&rig, only_zero, 1, RIG_RECORDS);
    assert_int_equal(rig_stats(&rig).nr_frames, 1);
    for (uint32_t order = 0; order <= MM_FRAME_MAX_ORDER; order++) {
        request = (struct mm_frame_request){.order = order};
        assert_int_equal(mm_frame_alloc(&rig.frames, &request, &pfn), MM_ERR_NO_MEMORY);
    }
    assert_int_equal(mm_frame_alloc_at(&rig.frames, zero, 1), MM_OK);
    mm_frame_free(&rig.frames, zero, 0);
    rig_stop(&rig);
}

/* --- bulk ------------------------------------------------------------------------------------ */

static int by_number(const void *a, const void *b)
{
    uint64_t x = ((const mm_pfn_t *)a)->raw;
    uint64_t y = ((const mm_pfn_t *)b)->raw;

    return x < y ? -1 : x > y ? 1 : 0;
}

static void bulk(void **state)
{
    static mm_pfn_t list[MACHINE_FRAMES];
    struct rig rig;
    struct mm_frames unborn = {0};
    size_t done = 77;
    size_t nr = 0;

    (void)state;
    rig_start(&rig, machine, 4, RIG_RECORDS);
    assert_int_equal(mm_frame_alloc_bulk(NULL, 0, list, 1, &done), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_frame_alloc_bulk(&rig.frames, 0, NULL, 1, &done), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_frame_alloc_bulk(&rig.frames, 0, list, 1, NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_frame_alloc_bulk(&unborn, 0, list, 1, &done), MM_ERR_NOT_INITIALIZED);
    assert_int_equal(done, 77);
    assert_int_equal(mm_frame_alloc_bulk(&rig.frames, 0, NULL, 0, &done), MM_OK);
    assert_int_equal(done, 0);

    for (size_t count = 1; nr + count <= 5000; nr += count, count += 7) {
        assert_int_equal(
            mm_frame_alloc_bulk(&rig.frames, (uint32_t)(count % 4), list + nr, count, &done),
            MM_OK);
        assert_int_equal(done, count);
    }
    rig_check(&rig);
    /* More than there is: all that there is. */
    assert_int_equal(mm_frame_alloc_bulk(&rig.frames, 1, list + nr, MACHINE_FRAMES - nr, &done),
                     MM_ERR_NO_MEMORY);
    assert_int_equal(done, MACHINE_FRAMES - 1 - nr);
    assert_int_equal(rig_stats(&rig).nr_failed, 1);
    assert_int_equal(rig.event_len, 4096);
    assert_int_equal(mm_frame_alloc_bulk(&rig.frames, 2, list + nr + done, 1, &done),
                     MM_ERR_NO_MEMORY);
    assert_int_equal(done, 0);
    rig_check(&rig);
    qsort(list, MACHINE_FRAMES - 1, sizeof(list[0]), by_number);
    for (size_t i = 0; i < MACHINE_FRAMES - 1; i++) {
        assert_int_not_equal(list[i].raw, 0);
        assert_true(i == 0 || list[i - 1].raw < list[i].raw);
    }
    /* Backwards, so that each row comes in an order that is not its own. */
    for (size_t i = 0; i < MACHINE_FRAMES / 2; i++) {
        mm_pfn_t swap = list[i];

        list[i] = list[MACHINE_FRAMES - 2 - i];
        list[MACHINE_FRAMES - 2 - i] = swap;
    }
    mm_frame_free_bulk(&rig.frames, list, 0);
    mm_frame_free_bulk(&rig.frames, list, MACHINE_FRAMES - 1);
    assert_int_equal(rig_stats(&rig).nr_allocated, 0);
    rig_stop(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_order),
        cmocka_unit_test(free_in_parts),
        cmocka_unit_test(every_block),
        cmocka_unit_test(fragmented),
        cmocka_unit_test(request_statuses),
        cmocka_unit_test(constraints),
        cmocka_unit_test(low_memory_lasts),
        cmocka_unit_test(last_frame_is_found),
        cmocka_unit_test(rows_are_the_truth),
        cmocka_unit_test(wrong_cpu_number),
        cmocka_unit_test(alloc_at),
        cmocka_unit_test(frame_zero),
        cmocka_unit_test(bulk),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
