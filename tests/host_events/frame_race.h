// SPDX-License-Identifier: MIT
/**
 * What the races of the frame allocator share: a script for each CPU over a memory of a few lines,
 * of which only some frames are free, and a ledger that says whose each frame is.
 *
 * A frame that is handed out twice fails at once. After the run the allocator's check passes, and
 * what it says is free is what nobody holds. Where the script leaves enough memory at every moment,
 * an allocation that fails is a failure too: that memory is exhausted must be the truth.
 */
#ifndef FRAME_RACE_H
#define FRAME_RACE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "check.h"
#include "frame_rig.h"
#include "schedule.h"
#include "schedule_mm.h"

#define FIRST      512u /* the memory begins at 2 MiB */
#define LINES      3u
#define NR_FRAMES  (LINES * 512u)
#define STEPS      8u
#define BULK       64u
#define NOT_HELD   0
#define RESERVED   99
#define PFN(index) mm_pfn(FIRST + (index))

enum what {
    DONE,
    ALLOC,     /* a block of order `n`, with the request */
    ALLOC_ON,  /* one frame, the hot path */
    ALLOC_RUN, /* `n` frames side by side */
    ALLOC_AT,  /* exactly frame `n` */
    BULK_OF,   /* `n` single frames */
    FREE,      /* the oldest thing held */
    TWICE,     /* free frame `n`, which both CPUs believe to be theirs */
    PUT_TWICE, /* the same, with put */
    LINE_OF,   /* free the line of frame `n`, of which some frame is free: a panic */
    LINE_TOO,  /* free the line of frame `n`, which another CPU believes to be its own */
    GET,       /* a reference to frame `n` more */
    PUT,       /* one less */
};

struct step {
    enum what what;
    unsigned n;
    bool must; /* there is memory for it at every moment */
};

struct held {
    mm_pfn_t pfns[BULK];
    unsigned nr;
    uint64_t run; /* a block or run of so many frames at pfns[0]; 0: single ones */
};

struct hand {
    struct held held[STEPS];
    unsigned nr;
};

/* All that a run changes lies in here or in the metadata, and is put back before the next. */
struct changed {
    struct mm_frames frames;
    uint8_t owner[NR_FRAMES];
    struct hand hands[T_SCHEDULE_CPUS + 1]; /* the last is what interrupts hold */
    unsigned nr_panics;
    unsigned nr_freed;   /* by put */
    unsigned nr_refused; /* alloc_at that came too late */
};

struct world {
    unsigned nr_cpus;
    struct rig rig;
    struct changed now;
    struct changed at_start;
    void *metadata_at_start;
    struct step steps[T_SCHEDULE_CPUS][STEPS];
    const char *(*also)(const struct world *world);
};

static struct world *world;

/* ---- the ledger -------------------------------------------------------------------------------- */

static void take(unsigned owner, mm_pfn_t first, uint64_t nr)
{
    for (uint64_t i = 0; i < nr; i++) {
        uint64_t at = first.raw + i - FIRST;

        if (at >= NR_FRAMES || world->now.owner[at] != NOT_HELD) {
            t_schedule_fail("frame %llu is handed out to CPU %u; owner was %u",
                            (unsigned long long)(first.raw + i), owner,
                            at < NR_FRAMES ? world->now.owner[at] - 1u : 0u);
        }
        world->now.owner[at] = (uint8_t)(owner + 1);
    }
}

static void give(mm_pfn_t first, uint64_t nr)
{
    memset(&world->now.owner[first.raw - FIRST], NOT_HELD, nr);
}

static void keep_run(unsigned owner, mm_pfn_t first, uint64_t nr)
{
    struct hand *hand = &world->now.hands[owner];

    take(owner, first, nr);
    hand->held[hand->nr].pfns[0] = first;
    hand->held[hand->nr].nr = 1;
    hand->held[hand->nr++].run = nr;
}

static void let_go(unsigned owner)
{
    struct hand *hand = &world->now.hands[owner];
    struct held held;

    if (hand->nr == 0) {
        return; /* an allocation that was allowed to fail did */
    }
    held = hand->held[0];
    memmove(&hand->held[0], &hand->held[1], --hand->nr * sizeof(held));
    if (held.run == 0) {
        for (unsigned i = 0; i < held.nr; i++) {
            give(held.pfns[i], 1);
        }
        mm_frame_free_bulk(&world->now.frames, held.pfns, held.nr);
    } else {
        give(held.pfns[0], held.run);
        mm_frame_free_run(&world->now.frames, held.pfns[0], held.run);
    }
}

/* ---- a step ------------------------------------------------------------------------------------ */

static void expect(mm_status_t status, bool must)
{
    if (status == MM_ERR_NO_MEMORY && must) {
        t_schedule_fail("no memory, and there was some all the time");
    }
    if (status != MM_OK && status != MM_ERR_NO_MEMORY) {
        t_schedule_fail("status %s", mm_status_str(status));
    }
}

static void alloc_bulk(unsigned owner, unsigned cpu, unsigned n, bool must)
{
    struct hand *hand = &world->now.hands[owner];
    struct held held = {.run = 0};
    size_t nr = 0;

    expect(mm_frame_alloc_bulk(&world->now.frames, cpu, held.pfns, n, &nr), must);
    for (size_t i = 0; i < nr; i++) {
        take(owner, held.pfns[i], 1);
    }
    held.nr = (unsigned)nr;
    if (nr != 0) {
        hand->held[hand->nr++] = held;
    }
}

static void free_it(void *pfn)
{
    mm_frame_free(&world->now.frames, *(mm_pfn_t *)pfn, 0);
}

static void free_line_of(void *pfn)
{
    mm_frame_free(&world->now.frames, mm_pfn(((mm_pfn_t *)pfn)->raw / 512 * 512), 9);
}

static void put_it(void *pfn)
{
    world->now.nr_freed += mm_frame_put(&world->now.frames, *(mm_pfn_t *)pfn) ? 1 : 0;
}

static void do_step(unsigned owner, unsigned cpu, const struct step *step)
{
    struct mm_frame_request request = {.order = step->what == ALLOC ? step->n : 0,
                                       .nr_frames = step->what == ALLOC_RUN ? step->n : 0};
    struct mm_frames *frames = &world->now.frames;
    mm_pfn_t pfn = PFN(step->n);
    mm_status_t status;

    switch (step->what) {
    case ALLOC:
    case ALLOC_RUN:
        status = mm_frame_alloc(frames, &request, &pfn);
        expect(status, step->must);
        if (status == MM_OK) {
            keep_run(owner, pfn, step->what == ALLOC ? 1u << step->n : step->n);
        }
        break;
    case ALLOC_ON:
        status = mm_frame_alloc_on(frames, cpu, &pfn);
        expect(status, step->must);
        if (status == MM_OK) {
            keep_run(owner, pfn, 1);
        }
        break;
    case ALLOC_AT:
        status = mm_frame_alloc_at(frames, pfn, 1);
        if (status == MM_OK) {
            keep_run(owner, pfn, 1);
        } else {
            world->now.nr_refused++;
            expect(status == MM_ERR_BUSY ? MM_OK : status, false);
        }
        break;
    case BULK_OF:
        alloc_bulk(owner, cpu, step->n, step->must);
        break;
    case FREE:
        let_go(owner);
        break;
    case TWICE:
    case PUT_TWICE:
        world->now.owner[step->n] = NOT_HELD;
        world->now.nr_panics +=
            t_schedule_catch(step->what == TWICE ? free_it : put_it, &pfn) ? 1 : 0;
        break;
    case LINE_TOO:
        world->now.nr_panics += t_schedule_catch(free_line_of, &pfn) ? 1 : 0;
        if (!mm_frame_allocated(frames, PFN(step->n / 512 * 512))) {
            give(PFN(step->n / 512 * 512), 512); /* with or without a panic */
        }
        break;
    case LINE_OF:
        world->now.nr_panics += t_schedule_catch(free_line_of, &pfn) ? 1 : 0;
        break;
    case GET:
        mm_frame_get(frames, pfn);
        break;
    case PUT:
        put_it(&pfn);
        break;
    case DONE:
        break;
    }
}

static void run(void *ctx, unsigned cpu)
{
    (void)ctx;
    for (unsigned i = 0; i < STEPS && world->steps[cpu][i].what != DONE; i++) {
        do_step(cpu, cpu, &world->steps[cpu][i]);
    }
}

/* A handler that takes a frame and gives it back, on whatever CPU it comes. */
static void interrupt(void *ctx, unsigned cpu)
{
    static const struct step steps[] = {{ALLOC_ON, 0, true}, {FREE, 0, false}};

    (void)ctx;
    do_step(T_SCHEDULE_CPUS, cpu, &steps[0]);
    do_step(T_SCHEDULE_CPUS, cpu, &steps[1]);
}

/* ---- a race ------------------------------------------------------------------------------------ */

static void start(void *ctx)
{
    (void)ctx;
    memcpy(&world->now, &world->at_start, sizeof(world->now));
    memcpy(world->rig.config.metadata, world->metadata_at_start, world->rig.config.metadata_len);
}

static const char *finish(void *ctx)
{
    static char text[128];
    struct mm_frames *frames = &world->now.frames;

    (void)ctx;
    if (mm_frame_check(frames) != MM_OK) {
        return "the check of the frames";
    }
    for (unsigned i = 0; i < NR_FRAMES; i++) {
        if (mm_frame_allocated(frames, PFN(i)) != (world->now.owner[i] != NOT_HELD)) {
            (void)snprintf(text, sizeof(text), "frame %u is %s, and the ledger says otherwise",
                           FIRST + i, world->now.owner[i] != NOT_HELD ? "free" : "allocated, lost");
            return text;
        }
    }
    return world->also != NULL ? world->also(world) : NULL;
}

/* Memory of which only these frames, pairs of index and number, are free. */
static inline void prepare(const unsigned *free_frames, uint32_t flags)
{
    world = calloc(1, sizeof(*world));
    assert_non_null(world);
    rig_map(&world->rig, (const uint64_t[]){FIRST * 4 * KIB, NR_FRAMES * 4 * KIB, 0, 0});
    world->nr_cpus = 2;
    rig_config(&world->rig, T_SCHEDULE_CPUS, flags);
    world->rig.config.platform = t_race_platform();
    assert_int_equal(mm_frame_init(&world->now.frames, &world->rig.config), MM_OK);
    assert_int_equal(mm_frame_alloc_at(&world->now.frames, PFN(0), NR_FRAMES), MM_OK);
    memset(world->now.owner, RESERVED, NR_FRAMES);
    for (; free_frames[1] != 0; free_frames += 2) {
        mm_frame_free_run(&world->now.frames, PFN(free_frames[0]), free_frames[1]);
        give(PFN(free_frames[0]), free_frames[1]);
    }
}

/* A CPU keeps a hint to the line, of which nothing is free: searches come to it last. */
static inline void reserve_line(unsigned line, uint32_t lifetime)
{
    const struct mm_frame_request request = {.lifetime = lifetime};
    mm_pfn_t pfn;

    mm_frame_free(&world->now.frames, PFN(line * 512 + 11), 0);
    assert_int_equal(mm_frame_alloc(&world->now.frames, &request, &pfn), MM_OK);
    assert_int_equal(pfn.raw, PFN(line * 512 + 11).raw);
}

/* Free a run of frames, before the race. */
static inline void let_free(unsigned index, unsigned nr)
{
    mm_frame_free_run(&world->now.frames, PFN(index), nr);
    give(PFN(index), nr);
}

/* Hand a run of frames to a CPU, before the race. */
static inline void hand_out(unsigned cpu, unsigned index, unsigned nr)
{
    give(PFN(index), nr);
    keep_run(cpu, PFN(index), nr);
}

/* The same, and the summaries say that they are free. */
static inline void hand_out_fresh(unsigned cpu, unsigned index, unsigned nr)
{
    mm_frame_free_run(&world->now.frames, PFN(index), nr);
    assert_int_equal(mm_frame_alloc_at(&world->now.frames, PFN(index), nr), MM_OK);
    hand_out(cpu, index, nr);
}

static inline void race(const char *name, bool with_interrupts)
{
    struct t_race race = {.name = name,
                          .nr_cpus = world->nr_cpus,
                          .start = start,
                          .run = run,
                          .finish = finish,
                          .ctx = world,
                          .ordered = true};
    const struct t_race_plan plan = {
        .nr_random = 500, .nr_pct = 500, .nr_search = 2500, .preemptions = 2};

    if (with_interrupts) {
        race.interrupt = interrupt;
        race.nr_interrupts = 1;
    }
    world->at_start = world->now;
    world->metadata_at_start = malloc(world->rig.config.metadata_len);
    assert_non_null(world->metadata_at_start);
    memcpy(world->metadata_at_start, world->rig.config.metadata, world->rig.config.metadata_len);
    T_LEGAL(t_race_explore(&race, &plan));
    free(world->metadata_at_start);
    free(world->rig.config.metadata);
    free(world);
}

#define SCRIPT(cpu, ...)                                                                           \
    memcpy(world->steps[cpu], ((const struct step[]){__VA_ARGS__}),                                \
           sizeof((const struct step[]){__VA_ARGS__}))
#define FREE_FRAMES(...) ((const unsigned[]){__VA_ARGS__, 0, 0})

#endif
