// SPDX-License-Identifier: MIT
/**
 * Two CPUs in the frame allocator, under every schedule of few switches and many others.
 *
 * Each race is a script for each CPU over a memory of a few lines, of which only some frames are
 * free. A ledger says whose each frame is: a frame that is handed out twice fails at once. After
 * the run the allocator's check passes, and what it says is free is what nobody holds. Where the
 * script leaves enough memory at every moment, an allocation that fails is a failure too: that
 * memory is exhausted must be the truth.
 */
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
#define STEPS      6u
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
static void prepare(const unsigned *free_frames, uint32_t flags)
{
    world = calloc(1, sizeof(*world));
    assert_non_null(world);
    rig_map(&world->rig, (const uint64_t[]){FIRST * 4 * KIB, NR_FRAMES * 4 * KIB, 0, 0});
    rig_config(&world->rig, 2, flags);
    world->rig.config.platform = t_race_platform();
    assert_int_equal(mm_frame_init(&world->now.frames, &world->rig.config), MM_OK);
    assert_int_equal(mm_frame_alloc_at(&world->now.frames, PFN(0), NR_FRAMES), MM_OK);
    memset(world->now.owner, RESERVED, NR_FRAMES);
    for (; free_frames[1] != 0; free_frames += 2) {
        mm_frame_free_run(&world->now.frames, PFN(free_frames[0]), free_frames[1]);
        give(PFN(free_frames[0]), free_frames[1]);
    }
}

/* Hand a run of frames to a CPU, before the race. */
static void hand_out(unsigned cpu, unsigned index, unsigned nr)
{
    give(PFN(index), nr);
    keep_run(cpu, PFN(index), nr);
}

static void race(const char *name, bool with_interrupts)
{
    struct t_race race = {.name = name,
                          .nr_cpus = 2,
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

/* ---- single frames ----------------------------------------------------------------------------- */

/* Both take all of their frames from one row. */
static void test_same_row(void **state)
{
    (void)state;
    prepare(FREE_FRAMES(600, 5), 0);
    for (unsigned cpu = 0; cpu < 2; cpu++) {
        SCRIPT(cpu, {ALLOC_ON, 0, true}, {ALLOC_ON, 0, true}, {FREE, 0, false}, {FREE, 0, false});
    }
    race("frame.same-row", true);
}

/* The rows that the CPUs go to next differ, and meet. */
static void test_different_lines(void **state)
{
    (void)state;
    prepare(FREE_FRAMES(40, 1, 700, 1, 1100, 2), 0);
    for (unsigned cpu = 0; cpu < 2; cpu++) {
        SCRIPT(cpu, {ALLOC_ON, 0, true}, {ALLOC, 0, true}, {FREE, 0, false}, {ALLOC_ON, 0, true});
    }
    race("frame.different-lines", false);
}

/* As many allocations as frames, none to spare: each finds one, wherever it came back. */
static void test_last_frame(void **state)
{
    (void)state;
    prepare(FREE_FRAMES(0, 0), 0);
    hand_out(0, 5, 1);
    hand_out(1, 1400, 1);
    for (unsigned cpu = 0; cpu < 2; cpu++) {
        SCRIPT(cpu, {FREE, 0, false}, {ALLOC_ON, 0, true}, {FREE, 0, false}, {ALLOC_ON, 0, true});
    }
    race("frame.last", false);
}

static const char *one_got_it(const struct world *w)
{
    return w->now.hands[0].nr + w->now.hands[1].nr == 1 ? NULL : "one frame, and not one owner";
}

static void test_one_frame_for_two(void **state)
{
    (void)state;
    prepare(FREE_FRAMES(777, 1), 0);
    world->also = one_got_it;
    SCRIPT(0, {ALLOC_ON, 0, false});
    SCRIPT(1, {ALLOC_ON, 0, false});
    race("frame.one-for-two", false);
    prepare(FREE_FRAMES(777, 1), 0);
    world->also = one_got_it;
    SCRIPT(0, {ALLOC_AT, 777, false});
    SCRIPT(1, {ALLOC, 0, false});
    race("frame.at", false);
}

/* ---- more than one ----------------------------------------------------------------------------- */

static void test_order_9_and_order_0(void **state)
{
    (void)state;
    prepare(FREE_FRAMES(512, 512, 30, 2), 0);
    SCRIPT(0, {ALLOC, 9, false}, {FREE, 0, false});
    SCRIPT(1, {ALLOC_ON, 0, true}, {ALLOC_ON, 0, true}, {FREE, 0, false}, {FREE, 0, false});
    race("frame.order-9-and-0", false);
    /* A line comes back behind the search, before the one ahead of it is broken. */
    prepare(FREE_FRAMES(0, 512), 0);
    hand_out(0, 512, 512);
    SCRIPT(0, {FREE, 0, false}, {ALLOC_AT, 5, false});
    SCRIPT(1, {ALLOC, 9, true});
    race("frame.line-comes-back", false);
    /* Two whole lines for two: the summary of whole lines may not hide one. */
    prepare(FREE_FRAMES(0, 1024), 0);
    for (unsigned cpu = 0; cpu < 2; cpu++) {
        SCRIPT(cpu, {ALLOC, 9, true}, {FREE, 0, false}, {ALLOC, 9, true});
    }
    race("frame.order-9", false);
}

static void test_bulk(void **state)
{
    (void)state;
    prepare(FREE_FRAMES(0, 64, 600, 70), 0);
    for (unsigned cpu = 0; cpu < 2; cpu++) {
        SCRIPT(cpu, {BULK_OF, 64, true}, {FREE, 0, false}, {BULK_OF, 3, true});
    }
    race("frame.bulk", false);
    prepare(FREE_FRAMES(62, 6, 600, 2), 0);
    SCRIPT(0, {BULK_OF, 5, true}, {FREE, 0, false}, {BULK_OF, 4, true});
    SCRIPT(1, {ALLOC_ON, 0, true}, {ALLOC_ON, 0, true}, {FREE, 0, false});
    race("frame.bulk-and-single", true);
}

/* A run over the end of a row, and whoever takes a piece of it away. */
static void test_runs(void **state)
{
    (void)state;
    prepare(FREE_FRAMES(60, 8, 700, 1), 0);
    SCRIPT(0, {ALLOC_RUN, 7, false}, {FREE, 0, false}, {ALLOC, 2, false});
    SCRIPT(1, {ALLOC_ON, 0, false}, {ALLOC_AT, 66, false}, {FREE, 0, false});
    race("frame.runs", false);
    /* Order 8 takes four rows at once, and gives back what it had when the fourth is gone. */
    prepare(FREE_FRAMES(256, 256, 900, 1), 0);
    SCRIPT(0, {ALLOC, 8, false}, {FREE, 0, false});
    SCRIPT(1, {ALLOC, 6, false}, {ALLOC_ON, 0, false}, {FREE, 0, false});
    race("frame.order-8-and-6", false);
    /* What an order 7 takes and gives back again is no reason for the other to find nothing. */
    prepare(FREE_FRAMES(256, 128), 0);
    SCRIPT(0, {ALLOC, 7, false});
    SCRIPT(1, {ALLOC_AT, 383, false}, {ALLOC_ON, 0, false}, {FREE, 0, false}, {FREE, 0, false});
    race("frame.given-back", false);
}

/* ---- two who believe that a frame is theirs ---------------------------------------------------- */

static const char *one_panicked(const struct world *w)
{
    return w->now.nr_panics == 1 ? NULL : "a frame was freed twice, and not one panic told it";
}

static void test_double_free(void **state)
{
    (void)state;
    for (unsigned flags = 0; flags <= RIG_RECORDS; flags += RIG_RECORDS) {
        prepare(FREE_FRAMES(600, 1), flags);
        world->also = one_panicked;
        SCRIPT(0, {TWICE, 610, false});
        SCRIPT(1, {TWICE, 610, false});
        race(flags == 0 ? "frame.double-free" : "frame.double-free-recorded", false);
    }
    prepare(FREE_FRAMES(600, 1), MM_FRAMES_REFCOUNTS);
    world->also = one_panicked;
    SCRIPT(0, {PUT_TWICE, 610, false});
    SCRIPT(1, {PUT_TWICE, 610, false});
    race("frame.double-put", false);
}

/* ---- references -------------------------------------------------------------------------------- */

static const char *freed_once(const struct world *w)
{
    return w->now.nr_freed == 1 && mm_frame_refs(&w->now.frames, PFN(610)) == 0
               ? NULL
               : "the last reference was dropped, and the frame was not freed once";
}

static void test_references(void **state)
{
    (void)state;
    prepare(FREE_FRAMES(600, 1), MM_FRAMES_REFCOUNTS);
    mm_frame_get(&world->now.frames, PFN(610));
    world->now.owner[610] = NOT_HELD;
    world->also = freed_once;
    for (unsigned cpu = 0; cpu < 2; cpu++) {
        SCRIPT(cpu, {GET, 610, false}, {PUT, 610, false}, {PUT, 610, false});
    }
    race("frame.references", false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_row),
        cmocka_unit_test(test_different_lines),
        cmocka_unit_test(test_last_frame),
        cmocka_unit_test(test_one_frame_for_two),
        cmocka_unit_test(test_order_9_and_order_0),
        cmocka_unit_test(test_bulk),
        cmocka_unit_test(test_runs),
        cmocka_unit_test(test_double_free),
        cmocka_unit_test(test_references),
    };

    return cmocka_run_group_tests_name("schedule_frame", tests, NULL, NULL);
}
