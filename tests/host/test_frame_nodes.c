// SPDX-License-Identifier: MIT
/**
 * Nodes and zones: which frames a request may get, and in which order.
 *
 * The model knows the node and the zone of each frame from the tables that it made itself, and how
 * many frames of each are free. A request may get a frame of the nodes that it names; among those,
 * of the nearest that has one, and memory below 16 MiB only if nothing else is left.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "frame_rig.h"
#include "numa_blob.h"
#include "prng.h"

#define NODES_MAX  8u
#define PIECES_MAX 64u
#define HELD_MAX   400000u

struct piece {
    uint64_t start;
    uint64_t len;
    uint32_t node;
};

struct world {
    struct rig rig;
    struct mm_numa numa;
    struct mm_numa_range ranges[MM_NUMA_CAPACITY(PIECES_MAX)];
    struct mm_numa_cpu cpus[8];
    const struct piece *pieces;
    uint32_t nr_nodes;
    uint32_t cpu_nodes[NODES_MAX];
    uint64_t nr_free[NODES_MAX][MM_ZONE_COUNT];
    mm_pfn_t held[HELD_MAX];
    uint32_t nr_held;
};

static uint32_t zone_of(uint64_t pfn)
{
    return pfn < 4096 ? MM_ZONE_DMA : pfn < 1048576 ? MM_ZONE_DMA32 : MM_ZONE_NORMAL;
}

/* The node of a frame, by the first byte of it; no frame lies outside of the pieces. */
static uint32_t node_of(const struct world *w, uint64_t pfn)
{
    for (const struct piece *p = w->pieces; p->len != 0; p++) {
        if (pfn * 4096 >= p->start && pfn * 4096 - p->start < p->len) {
            return p->node;
        }
    }
    fail_msg("frame %llx is nowhere", (unsigned long long)pfn);
    return 0;
}

/* Tables that say what the pieces are; distances[from * nr_nodes + to], or NULL. */
static void make_numa(struct world *w, const uint8_t *distances)
{
    static struct numa_blob blob;
    struct mm_numa_error error;

    assert_int_equal(mm_numa_init(&w->numa, w->ranges, MM_NUMA_CAPACITY(PIECES_MAX), w->cpus, 8),
                     MM_OK);
    numa_srat(&blob, 3);
    for (uint32_t node = 0; node < w->nr_nodes; node++) {
        (void)numa_apic(&blob, node, (uint8_t)node, 1); /* nodes are numbered as domains are */
    }
    for (const struct piece *p = w->pieces; p->len != 0; p++) {
        (void)numa_memory(&blob, p->node, p->start, p->len, 1);
    }
    numa_end(&blob);
    assert_int_equal(mm_numa_read_srat(&w->numa, blob.bytes, blob.len, &error), MM_OK);
    assert_int_equal(w->numa.nr_nodes, w->nr_nodes);
    if (distances != NULL) {
        numa_slit(&blob, w->nr_nodes);
        memcpy(&blob.bytes[44], distances, (size_t)w->nr_nodes * w->nr_nodes);
        numa_end(&blob);
        assert_int_equal(mm_numa_read_slit(&w->numa, blob.bytes, blob.len, &error), MM_OK);
    }
}

/* An allocator over all pieces, with a CPU on each node. */
static struct world *start(const struct piece *pieces, uint32_t nr_nodes, const uint8_t *distances,
                           uint64_t nr_reserve)
{
    struct world *w = calloc(1, sizeof(*w));
    uint64_t ranges[2 * PIECES_MAX + 2] = {0};
    uint64_t len;
    unsigned nr = 0;

    assert_non_null(w);
    w->pieces = pieces;
    w->nr_nodes = nr_nodes;
    for (; pieces[nr].len != 0; nr++) {
        ranges[2 * nr] = pieces[nr].start;
        ranges[2 * nr + 1] = pieces[nr].len;
    }
    rig_map(&w->rig, ranges);
    make_numa(w, distances);
    w->rig.config = (struct mm_frames_config){.map = &w->rig.map,
                                              .nr_cpus = nr_nodes,
                                              .platform = rig_platform(&w->rig),
                                              .numa = &w->numa,
                                              .cpu_nodes = w->cpu_nodes,
                                              .nr_reserve = nr_reserve};
    for (uint32_t i = 0; i < nr_nodes; i++) {
        w->cpu_nodes[i] = nr_nodes - 1 - i; /* CPU and node are not the same number */
    }
    assert_int_equal(mm_frame_metadata_size(&w->rig.config, &len), MM_OK);
    w->rig.config.metadata = aligned_alloc(MM_CACHE_LINE, len);
    w->rig.config.metadata_len = len;
    assert_non_null(w->rig.config.metadata);
    memset(w->rig.config.metadata, 0, len);
    assert_int_equal(mm_frame_init(&w->rig.frames, &w->rig.config), MM_OK);
    rig_check(&w->rig);
    for (unsigned i = 0; i < nr; i++) {
        for (uint64_t pfn = pieces[i].start / 4096; pfn < (pieces[i].start + pieces[i].len) / 4096;
             pfn++) {
            w->nr_free[node_of(w, pfn)][zone_of(pfn)] += pfn != 0 ? 1 : 0;
        }
    }
    return w;
}

static void keep(struct world *w, mm_pfn_t pfn)
{
    assert_true(w->nr_held < HELD_MAX);
    w->held[w->nr_held++] = pfn;
    w->nr_free[node_of(w, pfn.raw)][zone_of(pfn.raw)]--;
}

static void give(struct world *w, uint32_t at)
{
    mm_pfn_t pfn = w->held[at];

    w->held[at] = w->held[--w->nr_held];
    w->nr_free[node_of(w, pfn.raw)][zone_of(pfn.raw)]++;
    mm_frame_free(&w->rig.frames, pfn, 0);
}

static void stop(struct world *w)
{
    while (w->nr_held != 0) {
        give(w, w->nr_held - 1);
    }
    rig_stop(&w->rig);
    free(w);
}

static uint32_t distance(const struct world *w, uint32_t from, uint32_t to)
{
    return from == to ? 0 : mm_numa_distance(&w->numa, from, to);
}

static uint64_t free_of(const struct world *w, uint32_t node, bool low)
{
    return low ? w->nr_free[node][MM_ZONE_DMA]
               : w->nr_free[node][MM_ZONE_DMA32] + w->nr_free[node][MM_ZONE_NORMAL];
}

/* Where the next frame should come from: the node, and whether from below 16 MiB; false: nowhere. */
static bool nearest(const struct world *w, uint32_t from, uint64_t nodes, uint32_t *node, bool *low)
{
    for (unsigned i = 0; i < 2; i++) {
        bool found = false;

        for (uint32_t n = 0; n < w->nr_nodes; n++) {
            if ((nodes >> n & 1) != 0 && free_of(w, n, i == 1) != 0 &&
                (!found || distance(w, from, n) < distance(w, from, *node))) {
                *node = n;
                *low = i == 1;
                found = true;
            }
        }
        if (found) {
            return true;
        }
    }
    return false;
}

/* One frame, which must come from where the model says. */
static bool ask(struct world *w, const struct mm_frame_request *request, uint32_t from,
                uint64_t nodes)
{
    mm_pfn_t pfn;
    uint32_t node = 0;
    bool low = false;
    bool any = nearest(w, from, nodes, &node, &low);
    mm_status_t status = mm_frame_alloc(&w->rig.frames, request, &pfn);

    assert_int_equal(status, any ? MM_OK : MM_ERR_NO_MEMORY);
    if (!any) {
        return false;
    }
    assert_int_equal(node_of(w, pfn.raw), node);
    assert_int_equal(zone_of(pfn.raw) == MM_ZONE_DMA, low);
    /* In a node from high memory to low. */
    assert_true(low || zone_of(pfn.raw) == MM_ZONE_NORMAL || w->nr_free[node][2] == 0);
    keep(w, pfn);
    return true;
}

/* Four nodes, the first with low memory; ranges alternate, and two borders lie inside of 2 MiB. */
static const struct piece four[] = {
    {0, 8 * MIB, 0},
    {8 * MIB, 4 * MIB, 1},
    {14 * MIB, 6 * MIB, 0},
    {64 * MIB, 5 * MIB, 2},
    {69 * MIB, 5 * MIB, 3}, /* at 1 MiB of a line */
    {74 * MIB, 3 * MIB + 12 * KIB, 2},
    {77 * MIB + 12 * KIB, 3 * MIB - 12 * KIB, 1},
    {4 * GIB - 2 * MIB, 6 * MIB, 3},
    {5 * GIB, 4 * MIB, 0},
    {5 * GIB + 4 * MIB, 4 * MIB, 2},
    {0, 0, 0},
};

static const uint8_t four_far[] = {
    10, 20, 30, 40, /**/
    20, 10, 40, 30, /**/
    30, 40, 10, 20, /**/
    40, 30, 15, 10, /**/
};

/* ---- policies ---------------------------------------------------------------------------------- */

/* From each CPU, all memory in order: its own node, the others by distance, low memory last. */
static void local_first(void **state)
{
    struct mm_frame_request plain = {0};
    (void)state;

    for (unsigned with_slit = 0; with_slit < 2; with_slit++) {
        for (uint32_t cpu = 0; cpu < 4; cpu++) {
            struct world *w = start(four, 4, with_slit != 0 ? four_far : NULL, 0);

            w->rig.cpu = cpu;
            while (ask(w, &plain, w->cpu_nodes[cpu], UINT64_MAX)) {
            }
            assert_int_equal(rig_stats(&w->rig).nr_free, 1); /* frame 0 */
            stop(w);
        }
    }
}

/* A CPU whose own memory was used up took its frames elsewhere, or from below 16 MiB; once there is
 * own memory again, it comes back, in the middle of the other line. */
static void hints_come_home(void **state)
{
    struct mm_frame_request plain = {0};

    (void)state;
    for (uint32_t node = 0; node <= 2; node += 2) {
        struct world *w = start(four, 4, four_far, 0);
        uint32_t cpu = 3 - node; /* node 0 has low memory, and falls back to it last */
        mm_pfn_t pfn;

        w->rig.cpu = cpu;
        while (free_of(w, node, false) != 0 ||
               (node == 0 &&
                (free_of(w, 1, false) | free_of(w, 2, false) | free_of(w, 3, false)) != 0)) {
            assert_true(ask(w, &plain, node, UINT64_MAX));
        }
        for (unsigned i = 0; i < 10; i++) {
            assert_true(ask(w, &plain, node, UINT64_MAX)); /* from elsewhere: the hint follows */
        }
        for (uint32_t i = w->nr_held; i-- > 0;) {
            if (node_of(w, w->held[i].raw) == node && zone_of(w->held[i].raw) != MM_ZONE_DMA) {
                give(w, i);
            }
        }
        for (unsigned i = 0; i < 100; i++) {
            assert_int_equal(mm_frame_alloc_on(&w->rig.frames, cpu, &pfn), MM_OK);
            assert_int_equal(node_of(w, pfn.raw), node);
            assert_int_not_equal(zone_of(pfn.raw), MM_ZONE_DMA);
            mm_frame_free(&w->rig.frames, pfn, 0);
            assert_true(ask(w, &plain, node, UINT64_MAX));
        }
        rig_check(&w->rig);
        stop(w);
    }
}

/* The same for blocks of 2 MiB. */
static void block_hints_come_home(void **state)
{
    struct mm_frame_request block = {.order = 9};
    struct world *w = start(four, 4, four_far, 0);
    mm_pfn_t near[8];
    mm_pfn_t far;
    unsigned nr = 0;

    (void)state;
    w->rig.cpu = 3; /* on node 0 */
    for (;; nr++) {
        assert_true(nr < 8);
        assert_int_equal(mm_frame_alloc(&w->rig.frames, &block, &near[nr]), MM_OK);
        if (node_of(w, near[nr].raw) != 0) {
            break; /* what is above 16 MiB of node 0 is used up */
        }
    }
    assert_true(nr > 0);
    mm_frame_free(&w->rig.frames, near[nr], 9);
    while (nr-- > 0) {
        mm_frame_free(&w->rig.frames, near[nr], 9);
    }
    for (unsigned i = 0; i < 10; i++) {
        assert_int_equal(mm_frame_alloc(&w->rig.frames, &block, &far), MM_OK);
        assert_int_equal(node_of(w, far.raw), 0);
        mm_frame_free(&w->rig.frames, far, 9);
    }
    stop(w);
}

static void preferred_and_required(void **state)
{
    (void)state;
    for (uint32_t node = 0; node < 4; node++) {
        struct world *w = start(four, 4, four_far, 0);
        struct mm_frame_request one = {.node_policy = MM_NODE_REQUIRED, .node = node};
        struct mm_frame_stats s;

        w->rig.cpu = 1;
        while (ask(w, &one, node, UINT64_C(1) << node)) {
        }
        assert_int_equal(rig_stats(&w->rig).nr_failed_by[MM_FAILED_CONSTRAINED], 1);
        assert_int_equal(mm_frame_get_stats_of(&w->rig.frames, node, MM_ZONE_ALL, &s), MM_OK);
        assert_int_equal(s.nr_free, node == 0 ? 1 : 0);
        assert_int_equal(s.nr_allocated, w->nr_held);
        one.node_policy = MM_NODE_PREFERRED;
        while (w->nr_held > 100) {
            give(w, 50);
        }
        while (ask(w, &one, node, UINT64_MAX)) {
        }
        stop(w);
    }
}

static void bound_to_some(void **state)
{
    (void)state;
    for (uint64_t nodes = 1; nodes < 16; nodes++) {
        struct world *w = start(four, 4, four_far, 0);
        struct mm_frame_request bind = {.node_policy = MM_NODE_BIND, .nodes = nodes};

        w->rig.cpu = (uint32_t)(nodes % 4);
        while (ask(w, &bind, w->cpu_nodes[w->rig.cpu], nodes)) {
        }
        stop(w);
    }
}

/* Turn by turn, each CPU by itself; who has nothing is passed over for the nearest of the others. */
static void interleaved(void **state)
{
    static const uint64_t masks[] = {0, 15, 5, 10, 7, 8};
    (void)state;

    for (unsigned i = 0; i < 6; i++) {
        struct world *w = start(four, 4, four_far, 0);
        struct mm_frame_request request = {.node_policy = MM_NODE_INTERLEAVE, .nodes = masks[i]};
        uint64_t nodes = masks[i] == 0 ? 15 : masks[i];
        uint32_t turn[2] = {3, 3};

        for (unsigned step = 0; step < 3000; step++) {
            uint32_t cpu = step % 3 == 0 ? 1 : 0;

            w->rig.cpu = cpu;
            do {
                turn[cpu] = (turn[cpu] + 1) % 4;
            } while ((nodes >> turn[cpu] & 1) == 0);
            if (!ask(w, &request, turn[cpu], nodes)) {
                break;
            }
        }
        stop(w);
    }
}

static void refused(void **state)
{
    struct world *w = start(four, 4, NULL, 0);
    const struct {
        struct mm_frame_request request;
        mm_status_t status;
    } rows[] = {
        {{.node = 1}, MM_ERR_INVALID_ARGUMENT},
        {{.nodes = 1}, MM_ERR_INVALID_ARGUMENT},
        {{.node_policy = MM_NODE_PREFERRED, .node = 4}, MM_ERR_NODE_NOT_FOUND},
        {{.node_policy = MM_NODE_REQUIRED, .node = UINT32_MAX}, MM_ERR_NODE_NOT_FOUND},
        {{.node_policy = MM_NODE_REQUIRED, .nodes = 1}, MM_ERR_INVALID_ARGUMENT},
        {{.node_policy = MM_NODE_BIND}, MM_ERR_INVALID_ARGUMENT},
        {{.node_policy = MM_NODE_BIND, .nodes = 16}, MM_ERR_NODE_NOT_FOUND},
        {{.node_policy = MM_NODE_BIND, .nodes = 1, .node = 1}, MM_ERR_INVALID_ARGUMENT},
        {{.node_policy = MM_NODE_INTERLEAVE, .nodes = UINT64_MAX}, MM_ERR_NODE_NOT_FOUND},
        {{.node_policy = MM_NODE_INTERLEAVE + 1}, MM_ERR_INVALID_ARGUMENT},
    };
    struct mm_frame_stats s;
    mm_pfn_t pfn = {77};
    (void)state;

    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_int_equal(mm_frame_alloc(&w->rig.frames, &rows[i].request, &pfn), rows[i].status);
        assert_int_equal(pfn.raw, 77);
    }
    assert_int_equal(mm_frame_get_stats_of(&w->rig.frames, 4, 0, &s), MM_ERR_NODE_NOT_FOUND);
    assert_int_equal(mm_frame_get_stats_of(&w->rig.frames, 0, 3, &s), MM_ERR_INVALID_ARGUMENT);
    stop(w);
}

/* Blocks, runs and lists know nodes too. */
static void more_than_one_frame(void **state)
{
    struct world *w = start(four, 4, four_far, 0);
    struct mm_frame_request request = {0};
    mm_pfn_t list[700];
    size_t done;
    (void)state;

    for (uint32_t node = 0; node < 4; node++) {
        for (unsigned kind = 0; kind < 8; kind++) {
            static const uint32_t orders[] = {1, 4, 8, 9};
            static const uint64_t runs[] = {3, 64, 300, 513};
            mm_pfn_t pfn;
            uint64_t nr = kind < 4 ? UINT64_C(1) << orders[kind] : runs[kind - 4];

            request = (struct mm_frame_request){.order = kind < 4 ? orders[kind] : 0,
                                                .nr_frames = kind < 4 ? 0 : nr,
                                                .node_policy = MM_NODE_REQUIRED,
                                                .node = node};
            assert_int_equal(mm_frame_alloc(&w->rig.frames, &request, &pfn), MM_OK);
            for (uint64_t i = 0; i < nr; i++) {
                assert_int_equal(node_of(w, pfn.raw + i), node);
            }
            mm_frame_free_run(&w->rig.frames, pfn, nr);
        }
        assert_int_equal(mm_frame_alloc_bulk(&w->rig.frames, 3 - node, list, 700, &done), MM_OK);
        for (unsigned i = 0; i < 700; i++) {
            assert_int_equal(node_of(w, list[i].raw), node);
        }
        mm_frame_free_bulk(&w->rig.frames, list, 700);
    }
    stop(w);
}

/* ---- figures ----------------------------------------------------------------------------------- */

static void figures_add_up(void **state)
{
    struct world *w = start(four, 4, four_far, 700);
    struct mm_frame_request plain = {0};
    uint64_t sum_frames = 0, sum_free = 0, sum_withheld = 0;
    struct mm_frame_stats s;
    struct t_prng rng;
    (void)state;

    t_prng_seed(&rng, 7);
    for (unsigned i = 0; i < 3000; i++) {
        mm_pfn_t pfn;

        w->rig.cpu = (uint32_t)t_prng_below(&rng, 4);
        assert_int_equal(mm_frame_alloc(&w->rig.frames, &plain, &pfn), MM_OK);
        keep(w, pfn);
    }
    for (uint32_t node = 0; node < 4; node++) {
        for (uint32_t zone = 0; zone < MM_ZONE_COUNT; zone++) {
            uint64_t zero = node == 0 && zone == 0 ? 1 : 0;

            assert_int_equal(mm_frame_get_stats_of(&w->rig.frames, node, zone, &s), MM_OK);
            assert_int_equal(s.nr_free, w->nr_free[node][zone] + zero);
            assert_int_equal(s.nr_allocated, s.nr_frames - s.nr_free);
            assert_int_equal(s.nr_peak, s.nr_allocated);
            sum_frames += s.nr_frames;
            sum_free += s.nr_free;
            sum_withheld += s.nr_withheld;
        }
    }
    s = rig_stats(&w->rig);
    assert_int_equal(s.nr_frames, sum_frames);
    assert_int_equal(s.nr_free, sum_free);
    assert_int_equal(s.nr_withheld, sum_withheld);
    assert_int_equal(s.nr_nodes, 4);
    assert_int_equal(s.nr_spans, 5); /* where nodes meet there is no gap */
    assert_int_equal(s.nr_reserved, (5 * GIB + 8 * MIB) / 4096 - sum_frames);
    /* Memory of other nodes in between is managed. */
    assert_int_equal(mm_frame_get_stats_of(&w->rig.frames, 0, MM_ZONE_DMA, &s), MM_OK);
    assert_int_equal(s.nr_frames, 10 * MIB / 4096);
    assert_int_equal(s.nr_reserved, 2 * MIB / 4096);
    assert_int_equal(mm_frame_get_stats_of(&w->rig.frames, 2, MM_ZONE_DMA32, &s), MM_OK);
    assert_int_equal(s.nr_reserved, 0);
    stop(w);
}

/* Watermarks are of one node's zone. */
static void pressure_of_one_node(void **state)
{
    struct world *w = start(four, 4, NULL, 0);
    struct mm_frame_request one = {.node_policy = MM_NODE_REQUIRED, .node = 2, .order = 9};
    struct mm_frame_watermarks marks = {10, 600, 700};
    mm_pfn_t pfns[3];
    (void)state;

    assert_int_equal(mm_frame_set_watermarks(&w->rig.frames, 2, MM_ZONE_ALL, &marks), MM_OK);
    assert_int_equal(w->rig.frames.watched, 2); /* node 2 has nothing below 16 MiB */
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(mm_frame_pressure(&w->rig.frames, 2, MM_ZONE_NORMAL), MM_PRESSURE_NONE);
        assert_int_equal(mm_frame_alloc(&w->rig.frames, &one, &pfns[0]), MM_OK);
        assert_int_equal(mm_frame_pressure(&w->rig.frames, 2, MM_ZONE_NORMAL), MM_PRESSURE_LOW);
        assert_int_equal(mm_frame_pressure(&w->rig.frames, 2, MM_ZONE_DMA32), MM_PRESSURE_NONE);
        assert_int_equal(mm_frame_pressure(&w->rig.frames, 0, MM_ZONE_NORMAL), MM_PRESSURE_NONE);
        rig_check(&w->rig);
        mm_frame_free(&w->rig.frames, pfns[0], 9);
    }
    assert_int_equal(mm_frame_pressure(&w->rig.frames, 2, MM_ZONE_NORMAL), MM_PRESSURE_NONE);
    stop(w);
}

/* Of several zones the highest level is told, whichever of them it is: */
static const struct short_zone {
    uint32_t node;
    uint32_t zone;
    uint64_t min;
    enum mm_pressure level;
} short_zones[] = {
    {0, MM_ZONE_DMA, 1, MM_PRESSURE_LOW},
    {2, MM_ZONE_DMA32, UINT64_MAX, MM_PRESSURE_MIN},
    {3, MM_ZONE_NORMAL, 1, MM_PRESSURE_LOW},
    {1, MM_ZONE_DMA, UINT64_MAX, MM_PRESSURE_MIN},
};

static enum mm_pressure expected_of(unsigned nr_short, uint32_t node, uint32_t zone)
{
    enum mm_pressure highest = MM_PRESSURE_NONE;

    for (unsigned i = 0; i < nr_short; i++) {
        const struct short_zone *s = &short_zones[i];

        if ((node == MM_NODE_ALL || node == s->node) && (zone == MM_ZONE_ALL || zone == s->zone)) {
            highest = s->level > highest ? s->level : highest;
        }
    }
    return highest;
}

static void pressure_of_all(void **state)
{
    static const uint32_t nodes[] = {MM_NODE_ALL, 0, 1, 2, 3};
    static const uint32_t zones[] = {MM_ZONE_ALL, MM_ZONE_DMA, MM_ZONE_DMA32, MM_ZONE_NORMAL};
    const unsigned nr_all = sizeof(short_zones) / sizeof(short_zones[0]);
    struct world *w = start(four, 4, NULL, 0);
    (void)state;

    for (unsigned nr = 0; nr <= nr_all; nr++) {
        for (unsigned i = 0; i < 5 * 4; i++) {
            uint32_t node = nodes[i / 4];
            uint32_t zone = zones[i % 4];

            assert_int_equal(mm_frame_pressure(&w->rig.frames, node, zone),
                             expected_of(nr, node, zone));
        }
        if (nr < nr_all) {
            const struct short_zone *s = &short_zones[nr];
            struct mm_frame_watermarks marks = {s->min, UINT64_MAX, UINT64_MAX};

            assert_int_equal(mm_frame_set_watermarks(&w->rig.frames, s->node, s->zone, &marks),
                             MM_OK);
        }
    }
    stop(w);
}

/* The reserve lies in the farthest node's lowest memory, but for what lies below 16 MiB. */
static void the_reserve_of_several_nodes(void **state)
{
    struct world *w = start(four, 4, four_far, 700);
    struct mm_frame_request atomic = {.node_policy = MM_NODE_REQUIRED, .flags = MM_FRAME_ATOMIC};
    struct mm_frame_stats s;
    (void)state;

    for (uint32_t node = 0; node < 4; node++) {
        assert_int_equal(mm_frame_get_stats_of(&w->rig.frames, node, MM_ZONE_ALL, &s), MM_OK);
        assert_int_equal(s.nr_withheld != 0, node == 3);
    }
    assert_true(s.nr_withheld >= 700 && s.nr_withheld < 700 + 512);
    for (uint32_t node = 0; node < 4; node++) {
        atomic.node = node;
        while (ask(w, &atomic, node, UINT64_C(1) << node)) {
        }
    }
    stop(w);
}

/* ---- at random --------------------------------------------------------------------------------- */

/* Requests of all policies that do not ask near their CPU, so that no hint comes in between. */
static void at_random(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 8; seed++) {
        struct world *w = start(four, 4, seed % 2 != 0 ? four_far : NULL, 0);
        struct t_prng rng;
        bool filling = true;

        t_prng_seed(&rng, seed);
        for (unsigned step = 0; step < 20000; step++) {
            struct mm_frame_request request = {0};
            uint32_t node = (uint32_t)t_prng_below(&rng, 4);

            w->rig.cpu = (uint32_t)t_prng_below(&rng, 4);
            filling = t_prng_below(&rng, 9000) == 0 ? !filling : filling;
            if (w->nr_held != 0 && t_prng_below(&rng, 8) >= (filling ? 7u : 2u)) {
                give(w, (uint32_t)t_prng_below(&rng, w->nr_held));
            } else if (t_prng_below(&rng, 2) == 0) {
                request.node_policy = MM_NODE_REQUIRED;
                request.node = node;
                (void)ask(w, &request, node, UINT64_C(1) << node);
            } else if (node != w->cpu_nodes[w->rig.cpu]) {
                request.node_policy = MM_NODE_PREFERRED;
                request.node = node;
                (void)ask(w, &request, node, UINT64_MAX);
            } else {
                request.node_policy = MM_NODE_BIND;
                request.nodes = 1 + t_prng_below(&rng, 14);
                (void)ask(w, &request, node, request.nodes);
            }
        }
        rig_check(&w->rig);
        stop(w);
    }
}

/* ---- real machines ----------------------------------------------------------------------------- */

/* All the memory that the firmware's tables tell of: each frame is on its node. */
static void a_machine(const char *name)
{
    static struct numa_blob blob;
    static struct mm_numa_range ranges[256];
    static struct mm_numa_cpu cpus[512];
    struct mm_numa numa = {0};
    struct mm_numa_error error;
    struct rig rig;
    uint64_t len;
    uint32_t cpu_node = 0;

    numa_load(&blob, "SRAT", name);
    assert_int_equal(mm_numa_init(&numa, ranges, 256, cpus, 512), MM_OK);
    assert_int_equal(mm_numa_read_srat(&numa, blob.bytes, blob.len, &error), MM_OK);
    rig_map(&rig, (const uint64_t[]){0, 0});
    for (uint32_t i = 0; i < numa.nr_ranges; i++) {
        assert_int_equal(mm_bootmap_add(&rig.map, numa.ranges[i].range, MM_BOOT_USABLE), MM_OK);
    }
    rig.config = (struct mm_frames_config){.map = &rig.map,
                                           .nr_cpus = 1,
                                           .platform = rig_platform(&rig),
                                           .numa = &numa,
                                           .cpu_nodes = &cpu_node};
    assert_int_equal(mm_frame_metadata_size(&rig.config, &len), MM_OK);
    rig.config.metadata = aligned_alloc(MM_CACHE_LINE, len);
    rig.config.metadata_len = len;
    assert_non_null(rig.config.metadata);
    memset(rig.config.metadata, 0, len);
    assert_int_equal(mm_frame_init(&rig.frames, &rig.config), MM_OK);
    assert_int_equal(rig.frames.nr_nodes, numa.nr_nodes);
    for (uint32_t node = 0; node < numa.nr_nodes; node++) {
        struct mm_frame_request block = {.node_policy = MM_NODE_REQUIRED, .node = node};
        struct mm_frame_stats s;
        uint64_t nr = 0;

        for (uint32_t i = 0; i < numa.nr_ranges; i++) {
            nr += numa.ranges[i].node == node ? numa.ranges[i].range.len / 4096 : 0;
        }
        assert_int_equal(mm_frame_get_stats_of(&rig.frames, node, MM_ZONE_ALL, &s), MM_OK);
        assert_int_equal(s.nr_frames, nr);
        for (block.order = 0; block.order <= 9; block.order += 3) {
            mm_pfn_t pfn;

            assert_int_equal(mm_frame_alloc(&rig.frames, &block, &pfn),
                             nr != 0 ? MM_OK : MM_ERR_NO_MEMORY);
            if (nr != 0) {
                assert_int_equal(mm_numa_node_of(&numa, mm_pfn_addr(pfn)), node);
                mm_frame_free(&rig.frames, pfn, block.order);
            }
        }
    }
    rig_stop(&rig);
}

static void machines(void **state)
{
    (void)state;
    a_machine(NUMA_ASROCK);
    a_machine(NUMA_MSI);
    a_machine(NUMA_R820);
    a_machine(NUMA_H8QG6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(local_first),
        cmocka_unit_test(hints_come_home),
        cmocka_unit_test(block_hints_come_home),
        cmocka_unit_test(preferred_and_required),
        cmocka_unit_test(bound_to_some),
        cmocka_unit_test(interleaved),
        cmocka_unit_test(refused),
        cmocka_unit_test(more_than_one_frame),
        cmocka_unit_test(figures_add_up),
        cmocka_unit_test(pressure_of_one_node),
        cmocka_unit_test(pressure_of_all),
        cmocka_unit_test(the_reserve_of_several_nodes),
        cmocka_unit_test(at_random),
        cmocka_unit_test(machines),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
