// SPDX-License-Identifier: MIT
/**
 * 100,000 random operations against the model of frames, which says of each answer whether it was
 * allowed, and of "no memory" whether it was true.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "check.h"
#include "frame_rig.h"
#include "ledger_mm.h"
#include "model_frames.h"
#include "prng.h"

#define OPERATIONS (MM_TEST_SANITIZED ? 10000 : 100000)
#define LIVE_MAX   20000

/* Odd edges, a hole inside of 2 MiB, lines that are whole, frame 0. */
static const uint64_t memory[] = {
    0,       636 * KIB, 1 * MIB, 5 * MIB + 4096, 7 * MIB, 1 * MIB, 14 * MIB,
    6 * MIB, 4 * GIB,   4 * MIB, 5 * GIB - 8192, 3 * MIB, 0,       0};

struct run {
    uint64_t first;
    uint64_t nr;
};

struct world {
    struct rig rig;
    struct t_mframes model;
    struct t_prng prng;
    struct run live[LIVE_MAX]; /* what is allocated, in pieces that may be freed as they are */
    size_t nr_live;
    bool counted;     /* with reference counts */
    uint64_t nr_none; /* how often there was no memory */
};

static uint64_t below(struct world *w, uint64_t n)
{
    return t_prng_below(&w->prng, n);
}

static void keep(struct world *w, uint64_t first, uint64_t nr)
{
    assert_true(w->nr_live < LIVE_MAX);
    w->live[w->nr_live++] = (struct run){first, nr};
}

static struct run pick(struct world *w)
{
    size_t i = (size_t)below(w, w->nr_live);
    struct run run = w->live[i];

    w->live[i] = w->live[--w->nr_live];
    return run;
}

/* "No memory" must be the truth; frame 0 does not count. */
static void must_be_full(struct world *w, struct t_mframe_search search)
{
    search.low = search.low == 0 ? 1 : search.low;
    assert_true(t_mframes_find(&w->model, &search) == T_MFRAMES_NONE);
    w->nr_none++;
}

static void do_alloc_order(struct world *w)
{
    struct mm_frame_request request = {
        .order = (uint32_t)below(w, below(w, 4) == 0 ? 12 : 4),
        .owner = (uint32_t)below(w, MM_OWNER_COUNT),
    };
    uint64_t size = UINT64_C(1) << request.order;
    mm_pfn_t pfn = {77};
    mm_status_t status;

    w->rig.cpu = (uint32_t)below(w, 4);
    status = mm_frame_alloc(&w->rig.frames, &request, &pfn);
    if (status == MM_OK) {
        T_LEGAL(t_mframes_alloc(&w->model, pfn.raw, request.order));
        keep(w, pfn.raw, size);
        return;
    }
    assert_int_equal(status, MM_ERR_NO_MEMORY);
    assert_int_equal(pfn.raw, 77);
    must_be_full(w, (struct t_mframe_search){.nr = size, .align = size});
}

static void do_alloc_one(struct world *w)
{
    mm_pfn_t pfn = {77};
    mm_status_t status = mm_frame_alloc_on(&w->rig.frames, (uint32_t)below(w, 5), &pfn);

    if (status == MM_OK) {
        T_LEGAL(t_mframes_alloc(&w->model, pfn.raw, 0));
        keep(w, pfn.raw, 1);
        return;
    }
    assert_int_equal(status, MM_ERR_NO_MEMORY);
    must_be_full(w, (struct t_mframe_search){.nr = 1});
}

/* A run in a window, aligned, with a boundary. */
static void do_alloc_run(struct world *w)
{
    uint64_t nr = 1 + t_prng_magnitude(&w->prng, below(w, 4) == 0 ? 10 : 5);
    uint64_t align = UINT64_C(1) << below(w, 8);
    uint64_t boundary = UINT64_C(1) << below(w, 12);
    uint64_t low = t_prng_magnitude(&w->prng, 21);
    uint64_t limit = low + t_prng_magnitude(&w->prng, 21);
    struct mm_frame_request request = {.nr_frames = nr};
    struct t_mframe_search search = {.nr = nr};
    mm_pfn_t pfn = {77};
    mm_status_t status;

    if (below(w, 2) == 0) {
        search.align = align;
        request.align = align * 4096;
    }
    if (below(w, 2) == 0 && boundary >= nr) {
        search.boundary = boundary;
        request.boundary = boundary * 4096;
    }
    if (below(w, 2) == 0 && limit > low) {
        search.low = low;
        search.limit = limit;
        request.lowest.raw = low * 4096 - (low == 0 ? 0 : below(w, 4096));
        request.highest.raw = limit * 4096 - 1 + below(w, 4096);
    }
    status = mm_frame_alloc(&w->rig.frames, &request, &pfn);
    if (status == MM_OK) {
        T_LEGAL(t_mframes_alloc_run(&w->model, pfn.raw, nr));
        assert_true(pfn.raw >= search.low);
        assert_true(search.limit == 0 || pfn.raw + nr <= search.limit);
        assert_true(search.align == 0 || pfn.raw % search.align == 0);
        assert_true(search.boundary == 0 ||
                    pfn.raw / search.boundary == (pfn.raw + nr - 1) / search.boundary);
        keep(w, pfn.raw, nr);
        return;
    }
    assert_int_equal(status, MM_ERR_NO_MEMORY);
    must_be_full(w, search);
}

static uint64_t any_frame(struct world *w)
{
    const struct t_mframe_span *span = &w->model.spans[below(w, w->model.nr_spans)];

    return span->first + below(w, span->nr + 4) - (span->first == 0 ? 0 : below(w, 3));
}

static void do_alloc_at(struct world *w)
{
    uint64_t first = any_frame(w);
    uint64_t nr = 1 + t_prng_magnitude(&w->prng, 8);
    mm_status_t status = mm_frame_alloc_at(&w->rig.frames, mm_pfn(first), nr);
    bool present = true;

    for (uint64_t i = 0; i < nr; i++) {
        present = present && t_mframes_state(&w->model, first + i) != T_MFRAME_ABSENT;
    }
    if (!present) {
        assert_int_equal(status, MM_ERR_INVALID_ADDRESS);
    } else if (t_mframes_all(&w->model, first, nr, T_MFRAME_FREE)) {
        assert_int_equal(status, MM_OK);
        T_LEGAL(t_mframes_alloc_run(&w->model, first, nr));
        keep(w, first, nr);
    } else {
        assert_int_equal(status, MM_ERR_BUSY);
    }
}

static void do_alloc_bulk(struct world *w)
{
    static mm_pfn_t list[1024];
    size_t count = (size_t)t_prng_magnitude(&w->prng, 10);
    size_t done = 77777;
    mm_status_t status =
        mm_frame_alloc_bulk(&w->rig.frames, (uint32_t)below(w, 4), list, count, &done);

    assert_true(done <= count);
    for (size_t i = 0; i < done; i++) {
        assert_int_not_equal(list[i].raw, 0);
        T_LEGAL(t_mframes_alloc(&w->model, list[i].raw, 0));
    }
    assert_int_equal(status, done == count ? MM_OK : MM_ERR_NO_MEMORY);
    if (status != MM_OK) {
        must_be_full(w, (struct t_mframe_search){.nr = 1});
    }
    /* Back at once, in any order, but for some. */
    t_prng_shuffle(&w->prng, list, done, sizeof(list[0]));
    while (done > 0 && below(w, 4) != 0) {
        keep(w, list[--done].raw, 1);
    }
    for (size_t i = 0; i < done; i++) {
        T_LEGAL(t_mframes_free(&w->model, list[i].raw, 0));
    }
    mm_frame_free_bulk(&w->rig.frames, list, done);
}

/* Free a piece of what is live, whole or in parts. */
static void do_free(struct world *w)
{
    struct run run = pick(w);
    uint64_t nr = run.nr;

    if (nr > 1 && below(w, 3) == 0) {
        nr = 1 + below(w, nr);
        if (nr < run.nr) {
            keep(w, run.first + nr, run.nr - nr);
        }
    }
    if (nr == 1 && w->counted && below(w, 2) == 0) {
        T_LEGAL(t_mframes_put(&w->model, run.first));
        assert_true(mm_frame_put(&w->rig.frames, mm_pfn(run.first)));
        return;
    }
    T_LEGAL(t_mframes_free_run(&w->model, run.first, nr));
    if ((nr & (nr - 1)) == 0 && run.first % nr == 0) {
        mm_frame_free(&w->rig.frames, mm_pfn(run.first), (uint32_t)__builtin_ctzll(nr));
    } else {
        mm_frame_free_run(&w->rig.frames, mm_pfn(run.first), nr);
    }
}

/* References come and go, and are back to one. */
static void do_references(struct world *w)
{
    struct run run = w->live[below(w, w->nr_live)];
    uint64_t pfn = run.first + below(w, run.nr);
    uint64_t nr = below(w, 5);

    if (!w->counted) {
        return;
    }
    for (uint64_t i = 0; i < nr; i++) {
        T_LEGAL(t_mframes_get(&w->model, pfn));
        mm_frame_get(&w->rig.frames, mm_pfn(pfn));
        assert_int_equal(mm_frame_refs(&w->rig.frames, mm_pfn(pfn)),
                         t_mframes_refs(&w->model, pfn));
    }
    for (uint64_t i = 0; i < nr; i++) {
        T_LEGAL(t_mframes_put(&w->model, pfn));
        assert_false(mm_frame_put(&w->rig.frames, mm_pfn(pfn)));
    }
    assert_int_equal(mm_frame_refs(&w->rig.frames, mm_pfn(pfn)), 1);
}

/* A free that the model forbids panics, and changes nothing. */
static void do_misuse(struct world *w)
{
    uint64_t pfn = any_frame(w);
    uint32_t order = (uint32_t)below(w, 5);
    struct t_trap_info info;

    pfn &= ~((UINT64_C(1) << order) - 1);
    if (t_mframes_all(&w->model, pfn, UINT64_C(1) << order, T_MFRAME_USED)) {
        return;
    }
    T_EXPECT_PANIC(mm_frame_free(&w->rig.frames, mm_pfn(pfn), order), &info);
    assert_int_not_equal(t_mframes_state(&w->model, info.address / 4096), T_MFRAME_USED);
    assert_true(info.address / 4096 - pfn < UINT64_C(1) << order);
}

/* Each frame in use is of the model, with as many references. */
static void audit(struct world *w)
{
    uint64_t nr = 6 * GIB / 4096;
    struct t_ledger *ledger = t_ledger_open(&w->rig.frames, 0, nr);

    for (size_t i = 0; i < w->nr_live; i++) {
        for (uint64_t pfn = w->live[i].first; pfn < w->live[i].first + w->live[i].nr; pfn++) {
            uint32_t refs = t_mframes_refs(&w->model, pfn);

            for (uint32_t r = 0; r < refs && refs != T_MFRAMES_IMMORTAL; r++) {
                t_ledger_hold(ledger, pfn, 1);
            }
        }
    }
    T_LEGAL(t_ledger_close(ledger, 0));
}

static void compare(struct world *w)
{
    struct mm_frame_stats stats = rig_stats(&w->rig);

    rig_check(&w->rig);
    assert_int_equal(stats.nr_free, t_mframes_count(&w->model, T_MFRAME_FREE));
    assert_int_equal(stats.nr_free_2m, t_mframes_count_blocks(&w->model, 9));
    for (unsigned i = 0; i < 64; i++) {
        uint64_t pfn = any_frame(w);
        enum t_mframe_state state = t_mframes_state(&w->model, pfn);

        assert_int_equal(mm_frame_managed(&w->rig.frames, mm_pfn(pfn)), state != T_MFRAME_ABSENT);
        assert_int_equal(mm_frame_allocated(&w->rig.frames, mm_pfn(pfn)), state == T_MFRAME_USED);
    }
}

static void step(struct world *w, bool filling)
{
    uint64_t dice = below(w, 100);

    if (dice < 3) {
        do_misuse(w);
    } else if (dice < 10 && w->nr_live != 0) {
        do_references(w);
    } else if (dice < (filling ? 35u : 65u) && w->nr_live != 0) {
        do_free(w);
    } else if (dice < 75) {
        do_alloc_one(w);
    } else if (dice < 88) {
        do_alloc_order(w);
    } else if (dice < 95) {
        do_alloc_run(w);
    } else if (dice < 98) {
        do_alloc_bulk(w);
    } else {
        do_alloc_at(w);
    }
}

static void run_world(uint32_t flags, const char *name)
{
    static struct world w;
    bool filling = true;

    memset(&w, 0, sizeof(w));
    t_prng_start(&w.prng, name);
    rig_start(&w.rig, memory, 4, flags);
    w.counted = (flags & MM_FRAMES_REFCOUNTS) != 0;
    t_mframes_init(&w.model);
    for (const uint64_t *range = memory; range[1] != 0; range += 2) {
        T_LEGAL(t_mframes_add(&w.model, range[0] / 4096, range[1] / 4096, T_MFRAME_FREE));
    }
    for (unsigned i = 0; i < OPERATIONS; i++) {
        if (below(&w, 700) == 0) {
            filling = !filling;
        }
        step(&w, filling);
        if (i % 64 == 0) {
            compare(&w);
        }
        if (i % 1000 == 0) {
            audit(&w);
        }
    }
    audit(&w);
    print_message("%u operations, %llu found no memory\n", (unsigned)OPERATIONS,
                  (unsigned long long)w.nr_none);
    assert_true(w.nr_none > OPERATIONS / 100);
    while (w.nr_live > 0) {
        do_free(&w);
    }
    compare(&w);
    assert_int_equal(rig_stats(&w.rig).nr_allocated, 0);
    rig_stop(&w.rig);
    t_mframes_destroy(&w.model);
}

static void bitmap_alone(void **state)
{
    (void)state;
    run_world(0, "frame_random");
}

static void with_counts_and_owners(void **state)
{
    (void)state;
    run_world(RIG_RECORDS, "frame_random_counted");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bitmap_alone),
        cmocka_unit_test(with_counts_and_owners),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
