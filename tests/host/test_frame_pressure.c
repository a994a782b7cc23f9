// SPDX-License-Identifier: MIT
/**
 * Pressure: watermarks, who is told, and how late. What is free is known from outside: all that is
 * there less what the test holds. The allocator may be late by a 256th of the zone, and take 512
 * frames for each hint of a CPU as gone.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "frame_rig.h"
#include "prng.h"

#define HELD_MAX  70000u
#define CALLS_MAX 64u

struct call {
    uint32_t node;
    uint32_t zone;
    enum mm_pressure level;
    uint64_t nr_free;
};

struct world {
    struct rig rig;
    struct call calls[CALLS_MAX];
    unsigned nr_calls;
    unsigned inside; /* calls of the op in progress */
    bool nested;     /* it was called for a zone that it was being told of */
    void (*then)(struct world *w, const struct call *call);
    mm_pfn_t held[HELD_MAX];
    uint32_t orders[HELD_MAX];
    unsigned nr_held;
    uint64_t nr_frames; /* held, in frames */
};

static void told(void *ctx, uint32_t node, enum mm_zone zone, enum mm_pressure level,
                 uint64_t nr_free)
{
    struct world *w = ctx;
    struct call *call = &w->calls[w->nr_calls % CALLS_MAX];

    w->nested = w->nested || w->inside != 0;
    w->inside++;
    *call = (struct call){node, zone, level, nr_free};
    w->nr_calls++;
    if (w->then != NULL) {
        w->then(w, call);
    }
    w->inside--;
}

static struct world *start(const uint64_t *ranges, uint32_t nr_cpus, uint32_t flags)
{
    static const struct mm_frame_ops ops = {.pressure = told};
    struct world *w = calloc(1, sizeof(*w));

    assert_non_null(w);
    rig_map(&w->rig, ranges);
    rig_config(&w->rig, nr_cpus, flags);
    w->rig.config.ops = &ops;
    w->rig.config.ops_ctx = w;
    assert_int_equal(mm_frame_init(&w->rig.frames, &w->rig.config), MM_OK);
    return w;
}

static void set(struct world *w, uint32_t node, uint32_t zone, uint64_t min, uint64_t low,
                uint64_t high)
{
    struct mm_frame_watermarks marks = {min, low, high};

    assert_int_equal(mm_frame_set_watermarks(&w->rig.frames, node, zone, &marks), MM_OK);
}

static enum mm_pressure level(const struct world *w, uint32_t zone)
{
    return mm_frame_pressure(&w->rig.frames, 0, zone);
}

static bool take(struct world *w, uint32_t order)
{
    struct mm_frame_request request = {.order = order};

    mm_pfn_t pfn;

    if (mm_frame_alloc(&w->rig.frames, &request, &pfn) != MM_OK) {
        return false;
    }
    assert_true(w->nr_held < HELD_MAX);
    w->held[w->nr_held] = pfn; /* the op may have changed the list meanwhile */
    w->orders[w->nr_held++] = order;
    w->nr_frames += UINT64_C(1) << order;
    return true;
}

static void give_at(struct world *w, unsigned at)
{
    mm_pfn_t pfn = w->held[at];
    uint32_t order = w->orders[at];

    w->nr_held--;
    w->held[at] = w->held[w->nr_held];
    w->orders[at] = w->orders[w->nr_held];
    w->nr_frames -= UINT64_C(1) << order;
    mm_frame_free(&w->rig.frames, pfn, order);
}

static void give(struct world *w)
{
    give_at(w, w->nr_held - 1);
}

static void stop(struct world *w)
{
    w->then = NULL;
    while (w->nr_held != 0) {
        give(w);
    }
    rig_stop(&w->rig);
    free(w);
}

static const uint64_t one_gib[] = {4 * GIB, GIB, 0, 0};

#define FRAMES (GIB / 4096)
#define LATE   (FRAMES / 256 + 1 + 2 * 512) /* with the hints of one CPU for two orders */

/* ---- levels ------------------------------------------------------------------------------------ */

/* Down and up again in blocks of one order: each level is where it should be, and each change is
 * told once. */
static void drain_and_fill(uint32_t order)
{
    static const enum mm_pressure expected[] = {MM_PRESSURE_LOW, MM_PRESSURE_MIN, MM_PRESSURE_LOW,
                                                MM_PRESSURE_NONE};
    struct world *w = start(one_gib, 1, 0);
    uint64_t min = FRAMES / 8;
    uint64_t low = FRAMES / 4;
    uint64_t high = FRAMES / 2;

    /* Room for as many blocks as there are of small orders. */
    if (order < 3) {
        for (unsigned i = 0; i < 3; i++) {
            assert_true(take(w, 16)); /* 3/4 of it */
        }
        min = FRAMES / 16;
        low = FRAMES / 8;
        high = FRAMES / 5;
    }
    set(w, 0, MM_ZONE_NORMAL, min, low, high);
    assert_int_equal(w->nr_calls, 0);
    while (w->nr_held < HELD_MAX && take(w, order)) {
        uint64_t nr_free = FRAMES - w->nr_frames;

        if (nr_free >= low + LATE) {
            assert_int_equal(level(w, MM_ZONE_NORMAL), MM_PRESSURE_NONE);
        } else if (nr_free + LATE < min) {
            assert_int_equal(level(w, MM_ZONE_NORMAL), MM_PRESSURE_MIN);
        } else if (nr_free >= min + LATE && nr_free + LATE < low) {
            assert_int_equal(level(w, MM_ZONE_NORMAL), MM_PRESSURE_LOW);
        }
    }
    assert_int_equal(level(w, MM_ZONE_NORMAL), MM_PRESSURE_MIN);
    while (w->nr_held != 0) {
        uint64_t nr_free;

        give(w);
        nr_free = FRAMES - w->nr_frames;
        if (nr_free < min) {
            assert_int_equal(level(w, MM_ZONE_NORMAL), MM_PRESSURE_MIN);
        } else if (nr_free >= high + LATE) {
            assert_int_equal(level(w, MM_ZONE_NORMAL), MM_PRESSURE_NONE);
        } else if (nr_free >= min + LATE && nr_free < high) {
            assert_int_equal(level(w, MM_ZONE_NORMAL), MM_PRESSURE_LOW);
        }
    }
    assert_int_equal(w->nr_calls, 4);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(w->calls[i].level, expected[i]);
        assert_int_equal(w->calls[i].node, 0);
        assert_int_equal(w->calls[i].zone, MM_ZONE_NORMAL);
    }
    assert_true(w->calls[0].nr_free < low && w->calls[0].nr_free + LATE >= low);
    assert_true(w->calls[1].nr_free < min && w->calls[1].nr_free + LATE >= min);
    assert_true(w->calls[2].nr_free >= min && w->calls[2].nr_free < min + LATE + 65536);
    assert_true(w->calls[3].nr_free >= high);
    assert_int_equal(w->rig.frames.flags, 0);
    stop(w);
}

static void levels_by_single_frames(void **state)
{
    (void)state;
    drain_and_fill(0);
}

static void levels_by_blocks(void **state)
{
    (void)state;
    drain_and_fill(2);
    drain_and_fill(5);
    drain_and_fill(8);
    drain_and_fill(9);
    drain_and_fill(11);
}

/* Lists, runs and known frames count as well. */
static void every_way_of_taking_counts(void **state)
{
    struct world *w = start(one_gib, 1, MM_FRAMES_REFCOUNTS);
    struct mm_frames *f = &w->rig.frames;
    struct mm_frame_request run = {.nr_frames = 10007};
    uint64_t nr_list = FRAMES / 2;
    mm_pfn_t *list = calloc(nr_list, sizeof(*list));
    mm_pfn_t runs[16];
    size_t done = 0;
    (void)state;

    assert_non_null(list);
    set(w, 0, MM_ZONE_NORMAL, 1000, FRAMES / 2 + 5000, FRAMES - 5000);
    for (unsigned turn = 0; turn < 3; turn++) {
        /* as a list, in pieces; and back, in three ways */
        for (uint64_t i = 0; i < nr_list; i += 4096) {
            assert_int_equal(mm_frame_alloc_bulk(f, 0, list + i, 4096, &done), MM_OK);
        }
        assert_int_equal(level(w, MM_ZONE_NORMAL), MM_PRESSURE_LOW);
        if (turn == 0) {
            mm_frame_free_bulk(f, list, nr_list);
        }
        for (uint64_t i = 0; i < nr_list && turn == 1; i++) {
            mm_frame_free(f, list[i], 0);
        }
        for (uint64_t i = 0; i < nr_list && turn == 2; i++) {
            assert_true(mm_frame_put(f, list[i]));
        }
        assert_int_equal(level(w, MM_ZONE_NORMAL), MM_PRESSURE_NONE);
    }
    for (unsigned i = 0; i < 14; i++) {
        assert_int_equal(mm_frame_alloc(f, &run, &runs[i]), MM_OK);
    }
    assert_int_equal(level(w, MM_ZONE_NORMAL), MM_PRESSURE_LOW);
    for (unsigned i = 0; i < 14; i++) {
        mm_frame_free_run(f, runs[i], 10007);
    }
    assert_int_equal(level(w, MM_ZONE_NORMAL), MM_PRESSURE_NONE);
    assert_int_equal(mm_frame_alloc_at(f, mm_pfn(4 * GIB / 4096 + 77), FRAMES / 2), MM_OK);
    assert_int_equal(level(w, MM_ZONE_NORMAL), MM_PRESSURE_LOW);
    mm_frame_free_run(f, mm_pfn(4 * GIB / 4096 + 77), FRAMES / 2);
    assert_int_equal(level(w, MM_ZONE_NORMAL), MM_PRESSURE_NONE);
    assert_int_equal(w->nr_calls, 10);
    free(list);
    stop(w);
}

/* A run over the border of two zones is charged to both. */
static void a_run_in_two_zones(void **state)
{
    static const uint64_t border[] = {4 * GIB - 256 * MIB, 512 * MIB, 0, 0};
    struct world *w = start(border, 1, 0);
    struct mm_frame_request run = {.nr_frames = 90000, .highest = {4 * GIB + 200 * MIB}};
    mm_pfn_t pfn;
    (void)state;

    set(w, MM_NODE_ALL, MM_ZONE_ALL, 100, 30000, 60000);
    assert_int_equal(w->rig.frames.watched, 2); /* there is nothing below 16 MiB */
    assert_int_equal(mm_frame_alloc(&w->rig.frames, &run, &pfn), MM_OK);
    assert_int_equal(level(w, MM_ZONE_NORMAL), MM_PRESSURE_LOW);
    assert_int_equal(level(w, MM_ZONE_DMA32), MM_PRESSURE_LOW);
    rig_check(&w->rig);
    mm_frame_free_run(&w->rig.frames, pfn, 90000);
    assert_int_equal(level(w, MM_ZONE_NORMAL), MM_PRESSURE_NONE);
    assert_int_equal(level(w, MM_ZONE_DMA32), MM_PRESSURE_NONE);
    assert_int_equal(w->nr_calls, 4);
    stop(w);
}

/* One zone is short, the other is not: frees are counted until both are fine. */
static void several_zones_at_once(void **state)
{
    static const uint64_t two[] = {64 * MIB, 64 * MIB, 4 * GIB, 64 * MIB, 0, 0};
    struct world *w = start(two, 1, 0);
    struct mm_frame_request low = {.order = 13, .highest = {128 * MIB - 1}};
    struct mm_frame_request high = {.order = 13, .lowest = {4 * GIB}};
    mm_pfn_t a, b;
    (void)state;

    set(w, 0, MM_ZONE_DMA32, 10, 9000, 12000);
    set(w, 0, MM_ZONE_NORMAL, 10, 9000, 12000);
    assert_int_equal(mm_frame_alloc(&w->rig.frames, &low, &a), MM_OK);
    assert_int_equal(level(w, MM_ZONE_DMA32), MM_PRESSURE_LOW);
    assert_int_equal(level(w, MM_ZONE_NORMAL), MM_PRESSURE_NONE);
    assert_int_equal(mm_frame_alloc(&w->rig.frames, &high, &b), MM_OK);
    assert_int_equal(level(w, MM_ZONE_NORMAL), MM_PRESSURE_LOW);
    rig_check(&w->rig);
    mm_frame_free(&w->rig.frames, a, 13);
    assert_int_equal(level(w, MM_ZONE_DMA32), MM_PRESSURE_NONE);
    assert_int_equal(level(w, MM_ZONE_NORMAL), MM_PRESSURE_LOW);
    rig_check(&w->rig);
    mm_frame_free(&w->rig.frames, b, 13);
    assert_int_equal(level(w, MM_ZONE_NORMAL), MM_PRESSURE_NONE);
    assert_int_equal(w->nr_calls, 4);
    stop(w);
}

/* ---- the op ------------------------------------------------------------------------------------ */

static void reclaim(struct world *w, const struct call *call)
{
    if (call->level != MM_PRESSURE_NONE) {
        for (unsigned i = 0; i < 20000 && w->nr_held != 0; i++) {
            give(w);
        }
    }
}

/* Who is told frees enough, from within: the level is back when the call returns, and the op was
 * told of that afterwards. */
static void the_op_reclaims(void **state)
{
    struct world *w = start(one_gib, 1, 0);
    mm_pfn_t most;
    struct mm_frame_request request = {.order = 17};
    (void)state;

    assert_int_equal(mm_frame_alloc(&w->rig.frames, &request, &most), MM_OK);
    set(w, 0, MM_ZONE_NORMAL, 50000, 90000, 100000);
    w->then = reclaim;
    for (unsigned i = 0; i < 200000 && w->nr_calls < 8; i++) {
        assert_true(take(w, 0));
        assert_int_equal(level(w, MM_ZONE_NORMAL), MM_PRESSURE_NONE);
    }
    assert_int_equal(w->nr_calls, 8);
    assert_false(w->nested);
    for (unsigned i = 0; i < 8; i++) {
        assert_int_equal(w->calls[i].level, i % 2 == 0 ? MM_PRESSURE_LOW : MM_PRESSURE_NONE);
    }
    mm_frame_free(&w->rig.frames, most, 17);
    stop(w);
}

static void allocate_on(struct world *w, const struct call *call)
{
    if (call->level == MM_PRESSURE_LOW) {
        for (unsigned i = 0; i < 30; i++) {
            assert_true(take(w, 10));
        }
        assert_int_equal(level(w, MM_ZONE_NORMAL), MM_PRESSURE_LOW); /* not yet noticed */
    }
}

/* Who is told takes memory itself: it is told of that when it has returned. */
static void the_op_allocates(void **state)
{
    struct world *w = start(one_gib, 1, 0);
    (void)state;

    set(w, 0, MM_ZONE_NORMAL, 30000, 40000, 50000);
    w->then = allocate_on;
    while (w->nr_calls == 0) {
        assert_true(take(w, 10));
    }
    assert_int_equal(w->nr_calls, 2);
    assert_false(w->nested);
    assert_int_equal(w->calls[1].level, MM_PRESSURE_MIN);
    assert_int_equal(level(w, MM_ZONE_NORMAL), MM_PRESSURE_MIN);
    stop(w);
}

static void move_marks(struct world *w, const struct call *call)
{
    if (call->level == MM_PRESSURE_LOW) {
        set(w, 0, MM_ZONE_NORMAL, 0, 0, 0);
    }
}

/* Watermarks may be changed by who is told. */
static void the_op_sets_watermarks(void **state)
{
    struct world *w = start(one_gib, 1, 0);
    (void)state;

    w->then = move_marks;
    set(w, 0, MM_ZONE_NORMAL, 0, FRAMES + 1, FRAMES + 1);
    assert_int_equal(w->nr_calls, 2);
    assert_false(w->nested);
    assert_int_equal(level(w, MM_ZONE_NORMAL), MM_PRESSURE_NONE);
    assert_int_equal(w->rig.frames.watched, 0);
    stop(w);
}

/* ---- watermarks -------------------------------------------------------------------------------- */

static void setting_tells_at_once(void **state)
{
    struct world *w = start(one_gib, 1, 0);
    (void)state;

    assert_int_equal(level(w, MM_ZONE_NORMAL), MM_PRESSURE_NONE);
    set(w, 0, MM_ZONE_NORMAL, 1, 2, FRAMES); /* not below `low`: nothing */
    assert_int_equal(w->nr_calls, 0);
    set(w, 0, MM_ZONE_NORMAL, 1, FRAMES + 1, FRAMES + 1);
    assert_int_equal(w->nr_calls, 1);
    assert_int_equal(w->calls[0].level, MM_PRESSURE_LOW);
    assert_int_equal(w->calls[0].nr_free, FRAMES);
    set(w, 0, MM_ZONE_NORMAL, FRAMES + 1, FRAMES + 1, FRAMES + 1);
    assert_int_equal(w->calls[1].level, MM_PRESSURE_MIN);
    set(w, 0, MM_ZONE_NORMAL, 0, 0, 0);
    assert_int_equal(w->calls[2].level, MM_PRESSURE_NONE);
    assert_int_equal(w->nr_calls, 3);
    assert_int_equal(w->rig.frames.watched, 0);
    assert_int_equal(w->rig.frames.flags, 0);
    /* Between `low` and `high` the level stays what it was. */
    set(w, 0, MM_ZONE_NORMAL, 0, FRAMES + 1, FRAMES + 2);
    set(w, 0, MM_ZONE_NORMAL, 0, FRAMES - 1, FRAMES + 2);
    assert_int_equal(level(w, MM_ZONE_NORMAL), MM_PRESSURE_LOW);
    set(w, 0, MM_ZONE_NORMAL, 0, FRAMES - 1, FRAMES);
    assert_int_equal(level(w, MM_ZONE_NORMAL), MM_PRESSURE_NONE);
    assert_int_equal(w->nr_calls, 5);
    /* watermarks that can never be reached */
    set(w, 0, MM_ZONE_NORMAL, UINT64_MAX, UINT64_MAX, UINT64_MAX);
    set(w, 0, MM_ZONE_NORMAL, 0, UINT64_MAX, UINT64_MAX);
    set(w, 0, MM_ZONE_NORMAL, 0, 0, 0);
    assert_int_equal(w->nr_calls, 8);
    /* exactly at a watermark */
    set(w, 0, MM_ZONE_NORMAL, FRAMES, FRAMES, FRAMES);
    assert_int_equal(w->nr_calls, 8);
    stop(w);
}

static void bad_watermarks(void **state)
{
    struct world *w = start(one_gib, 1, 0);
    struct mm_frames *f = &w->rig.frames;
    struct mm_frame_watermarks good = {1, 2, 3};
    struct mm_frame_watermarks min_above = {3, 2, 3};
    struct mm_frame_watermarks low_above = {1, 4, 3};
    struct mm_frames none = {0};
    (void)state;

    assert_int_equal(mm_frame_set_watermarks(NULL, 0, 0, &good), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_frame_set_watermarks(f, 0, 0, NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_frame_set_watermarks(&none, 0, 0, &good), MM_ERR_NOT_INITIALIZED);
    assert_int_equal(mm_frame_set_watermarks(f, 0, MM_ZONE_COUNT, &good), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_frame_set_watermarks(f, 1, 0, &good), MM_ERR_NODE_NOT_FOUND);
    assert_int_equal(mm_frame_set_watermarks(f, 0, 2, &min_above), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_frame_set_watermarks(f, 0, 2, &low_above), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(f->watched, 0);
    set(w, 0, MM_ZONE_NORMAL, 0, 0, 0); /* there were none */
    assert_int_equal(f->watched, 0);
    assert_int_equal(mm_frame_set_watermarks(f, 0, MM_ZONE_DMA, &good), MM_OK); /* no memory */
    assert_int_equal(f->watched, 0);
    assert_int_equal(mm_frame_pressure(NULL, 0, 0), MM_PRESSURE_NONE);
    assert_int_equal(mm_frame_pressure(&none, 0, 0), MM_PRESSURE_NONE);
    assert_int_equal(mm_frame_pressure(f, 1, 0), MM_PRESSURE_NONE);
    assert_int_equal(mm_frame_pressure(f, 0, MM_ZONE_COUNT), MM_PRESSURE_NONE);
    assert_int_equal(mm_frame_pressure(f, MM_NODE_ALL, MM_ZONE_ALL), MM_PRESSURE_NONE);
    set(w, 0, MM_ZONE_NORMAL, 1, FRAMES + 1, FRAMES + 1); /* nowhere else */
    assert_int_equal(mm_frame_pressure(f, MM_NODE_ALL, MM_ZONE_ALL), MM_PRESSURE_LOW);
    assert_int_equal(mm_frame_pressure(&none, MM_NODE_ALL, MM_ZONE_ALL), MM_PRESSURE_NONE);
    assert_int_equal(mm_frame_pressure(f, 1, MM_ZONE_ALL), MM_PRESSURE_NONE);
    assert_int_equal(mm_frame_pressure(f, MM_NODE_ALL, MM_ZONE_COUNT), MM_PRESSURE_NONE);
    assert_int_equal(mm_frame_pressure(f, MM_NODE_ALL, UINT32_MAX - 1), MM_PRESSURE_NONE);
    stop(w);
}

/* ---- peaks ------------------------------------------------------------------------------------- */

/* Where a zone is watched its peak is noticed though nobody asks at that time. */
static void peaks(void **state)
{
    struct world *w = start(one_gib, 1, 0);
    struct mm_frame_stats s;
    (void)state;

    set(w, 0, MM_ZONE_NORMAL, 100, FRAMES / 2, FRAMES * 3 / 4);
    for (unsigned i = 0; i < 200; i++) {
        assert_true(take(w, 10));
    }
    while (w->nr_held != 0) {
        give(w);
    }
    assert_int_equal(mm_frame_get_stats_of(&w->rig.frames, 0, MM_ZONE_NORMAL, &s), MM_OK);
    assert_int_equal(s.nr_allocated, 0);
    assert_true(s.nr_peak >= FRAMES / 2 && s.nr_peak <= 200 * 1024);
    /* And by each call for statistics, of what it asks for. */
    assert_int_equal(mm_frame_get_stats(&w->rig.frames, &s), MM_OK);
    assert_int_equal(s.nr_peak, 0);
    assert_true(take(w, 18 - 1));
    assert_int_equal(mm_frame_get_stats(&w->rig.frames, &s), MM_OK);
    assert_int_equal(s.nr_peak, 1 << 17);
    give(w);
    assert_int_equal(mm_frame_get_stats(&w->rig.frames, &s), MM_OK);
    assert_int_equal(s.nr_allocated, 0);
    assert_int_equal(s.nr_peak, 1 << 17);
    stop(w);
}

/* ---- at random --------------------------------------------------------------------------------- */

/* The level may be what it is: early where hints hide frames, late by as much as is allowed. */
static void judge(struct world *w, const struct mm_frame_watermarks *m, uint64_t nr, uint64_t late)
{
    uint64_t nr_free = nr - w->nr_frames;
    enum mm_pressure is = level(w, MM_ZONE_NORMAL);

    if (nr_free + late < m->min) {
        assert_int_equal(is, MM_PRESSURE_MIN);
    } else if (nr_free + late < m->low) {
        assert_int_not_equal(is, MM_PRESSURE_NONE);
    }
    if (nr_free >= m->high + late) {
        assert_int_equal(is, MM_PRESSURE_NONE);
    } else if (nr_free >= m->min + late) {
        assert_int_not_equal(is, MM_PRESSURE_MIN);
    }
}

static void one_at_random(uint64_t seed)
{
    static const uint64_t memory[] = {4 * GIB + MIB, 255 * MIB, 8 * GIB, 33 * MIB + 4096, 0, 0};
    uint64_t nr = (288 * MIB + 4096) / 4096;
    struct world *w = start(memory, 3, seed % 2 != 0 ? MM_FRAMES_REFCOUNTS : 0);
    struct t_prng rng;
    struct mm_frame_watermarks m = {0};
    uint64_t late = nr / 256 + 1 + 3 * 512 * 2;
    bool filling = true;

    t_prng_seed(&rng, seed);
    for (unsigned step = 0; step < 30000; step++) {
        if (step % 5000 == 0) {
            m.high = t_prng_below(&rng, nr);
            m.low = t_prng_below(&rng, m.high + 1);
            m.min = t_prng_below(&rng, m.low + 1);
            set(w, 0, MM_ZONE_NORMAL, m.min, m.low, m.high);
        }
        w->rig.cpu = (uint32_t)t_prng_below(&rng, 3);
        filling = t_prng_below(&rng, 3000) == 0 ? !filling : filling;
        if (t_prng_below(&rng, 8) < (filling ? 6u : 2u)) {
            static const uint32_t orders[] = {0, 0, 0, 3, 3, 9, 10, 0};

            if (w->nr_held < HELD_MAX) {
                (void)take(w, orders[t_prng_below(&rng, 8)]);
            }
        } else if (w->nr_held != 0) {
            give_at(w, (unsigned)t_prng_below(&rng, w->nr_held));
        }
        judge(w, &m, nr, late);
    }
    assert_false(w->nested);
    rig_check(&w->rig);
    stop(w);
}

static void at_random(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 12; seed++) {
        one_at_random(seed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(levels_by_single_frames),
        cmocka_unit_test(levels_by_blocks),
        cmocka_unit_test(every_way_of_taking_counts),
        cmocka_unit_test(a_run_in_two_zones),
        cmocka_unit_test(several_zones_at_once),
        cmocka_unit_test(the_op_reclaims),
        cmocka_unit_test(the_op_allocates),
        cmocka_unit_test(the_op_sets_watermarks),
        cmocka_unit_test(setting_tells_at_once),
        cmocka_unit_test(bad_watermarks),
        cmocka_unit_test(peaks),
        cmocka_unit_test(at_random),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
