// SPDX-License-Identifier: MIT
/**
 * Two CPUs at the ledger of one frame, under every schedule of few switches and many others.
 *
 * Each race is a script for each CPU about the references and pins of one frame. Whatever the order,
 * what is left afterwards is the same: so many references and pins, and so many frees, of which none
 * came too early: the frame is free at the end exactly if one call said that it freed it. Where both
 * CPUs drop the same last reference, one of them panics.
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

#define FIRST     512u /* the memory begins at 2 MiB */
#define NR_FRAMES 512u
#define STEPS     5u

static const mm_pfn_t it = {FIRST + 70};

enum what {
    DONE,
    GET,
    PUT,
    PUT_LIST, /* in a list of two: a frame beside it, which no other CPU knows, is dropped too */
    PIN,
    UNPIN,
    IMMORTAL,
    FREE_OWNED,
};

/* All that a run changes lies in here or in the metadata, and is put back before the next. */
struct changed {
    struct mm_frames frames;
    unsigned nr_freed;
    unsigned nr_panics;
};

struct world {
    struct rig rig;
    struct changed now;
    struct changed at_start;
    void *metadata_at_start;
    enum what steps[T_SCHEDULE_CPUS][STEPS];
    struct changed want; /* the figures */
    uint32_t refs, pins;
};

static struct world *world;

struct call {
    enum what what;
    unsigned cpu;
};

static unsigned put_list(unsigned cpu)
{
    const mm_pfn_t list[2] = {{FIRST + 80 + cpu}, it};

    return (unsigned)mm_frame_put_bulk(&world->now.frames, list, 2) - 1;
}

static void do_call(void *ctx)
{
    const struct call *call = ctx;
    struct mm_frames *frames = &world->now.frames;
    unsigned freed = 0;

    switch (call->what) {
    case GET:
        mm_frame_get(frames, it);
        break;
    case PUT:
        freed = mm_frame_put(frames, it) ? 1 : 0;
        break;
    case PUT_LIST:
        freed = put_list(call->cpu);
        break;
    case PIN:
        mm_frame_pin(frames, it);
        break;
    case UNPIN:
        freed = mm_frame_unpin(frames, it) ? 1 : 0;
        break;
    case IMMORTAL:
        mm_frame_make_immortal(frames, it);
        break;
    case FREE_OWNED:
        mm_frame_free_owned(frames, it, 1, MM_OWNER_HEAP, 7);
        freed = 1;
        break;
    case DONE:
        break;
    }
    world->now.nr_freed += freed;
}

static void run(void *ctx, unsigned cpu)
{
    (void)ctx;
    for (unsigned i = 0; i < STEPS && world->steps[cpu][i] != DONE; i++) {
        struct call call = {world->steps[cpu][i], cpu};

        world->now.nr_panics += t_schedule_catch(do_call, &call) ? 1 : 0;
    }
}

static void start(void *ctx)
{
    (void)ctx;
    memcpy(&world->now, &world->at_start, sizeof(world->now));
    memcpy(world->rig.config.metadata, world->metadata_at_start, world->rig.config.metadata_len);
}

static const char *finish(void *ctx)
{
    const struct mm_frames *frames = &world->now.frames;

    (void)ctx;
    if (mm_frame_check(frames) != MM_OK) {
        return "the check of the frames";
    }
    if (world->now.nr_freed != world->want.nr_freed) {
        return "the last was dropped, and the frame was not freed once";
    }
    if (world->now.nr_panics != world->want.nr_panics) {
        return "what was dropped once too often did not lead to one panic";
    }
    if (mm_frame_allocated(frames, it) != (world->now.nr_freed == 0)) {
        return "the frame is free, and nobody freed it, or the other way round";
    }
    if (mm_frame_refs(frames, it) != world->refs || mm_frame_pins(frames, it) != world->pins) {
        return "references or pins were lost";
    }
    return NULL;
}

/* One frame with so many references and pins, 0 and 0 being the one that is free. */
static void prepare(uint32_t refs, uint32_t pins)
{
    uint32_t *word;

    world = calloc(1, sizeof(*world));
    assert_non_null(world);
    rig_map(&world->rig, (const uint64_t[]){FIRST * 4 * KIB, NR_FRAMES * 4 * KIB, 0, 0});
    rig_config(&world->rig, 2, MM_FRAMES_REFCOUNTS | MM_FRAMES_OWNERS);
    world->rig.config.platform = t_race_platform();
    assert_int_equal(mm_frame_init(&world->now.frames, &world->rig.config), MM_OK);
    assert_int_equal(mm_frame_alloc_at(&world->now.frames, mm_pfn(FIRST + 64), 64), MM_OK);
    assert_int_equal(mm_frame_set_owner(&world->now.frames, it, 1, MM_OWNER_HEAP, 7), MM_OK);
    word = &world->now.frames.refs[it.raw - world->now.frames.main_bias];
    *word = pins << 22 | (refs + pins - 1);
    world->now.frames.nr_pins = pins;
    assert_int_equal(mm_frame_refs(&world->now.frames, it), refs);
    assert_int_equal(mm_frame_pins(&world->now.frames, it), pins);
}

#define SCRIPT(cpu, ...)                                                                           \
    memcpy(world->steps[cpu], ((const enum what[]){__VA_ARGS__}),                                  \
           sizeof((const enum what[]){__VA_ARGS__}))

/* What is left after every order. */
static void race(const char *name, uint32_t refs, uint32_t pins, unsigned nr_freed,
                 unsigned nr_panics)
{
    const struct t_race race = {.name = name,
                                .nr_cpus = 2,
                                .start = start,
                                .run = run,
                                .finish = finish,
                                .ctx = world,
                                .ordered = true};
    const struct t_race_plan plan = {
        .nr_random = 400, .nr_pct = 400, .nr_search = 2500, .preemptions = 2};

    world->refs = refs;
    world->pins = pins;
    world->want.nr_freed = nr_freed;
    world->want.nr_panics = nr_panics;
    world->at_start = world->now;
    world->metadata_at_start = malloc(world->rig.config.metadata_len);
    assert_non_null(world->metadata_at_start);
    memcpy(world->metadata_at_start, world->rig.config.metadata, world->rig.config.metadata_len);
    T_LEGAL(t_race_explore(&race, &plan));
    free(world->metadata_at_start);
    free(world->rig.config.metadata);
    free(world);
}

/* ---- each drops what it holds ------------------------------------------------------------------ */

static void test_put_against_put(void **state)
{
    (void)state;
    prepare(2, 0);
    SCRIPT(0, PUT);
    SCRIPT(1, PUT);
    race("ledger.put-put", 0, 0, 1, 0);
    prepare(2, 0);
    SCRIPT(0, PUT_LIST);
    SCRIPT(1, PUT_LIST);
    race("ledger.list-list", 0, 0, 1, 0);
    prepare(2, 0);
    SCRIPT(0, GET, PUT_LIST, PUT);
    SCRIPT(1, GET, PUT, PUT);
    race("ledger.list-put", 0, 0, 1, 0);
}

static void test_get_against_put_of_another(void **state)
{
    (void)state;
    prepare(2, 0);
    SCRIPT(0, GET, GET, PUT);
    SCRIPT(1, PUT);
    race("ledger.get-put", 2, 0, 0, 0);
    prepare(2, 3);
    SCRIPT(0, GET, PUT, PUT);
    SCRIPT(1, PUT);
    race("ledger.get-put-pinned", 0, 3, 0, 0);
}

static void test_pin_against_unpin(void **state)
{
    (void)state;
    prepare(1, 1);
    SCRIPT(0, PIN, PIN, UNPIN);
    SCRIPT(1, UNPIN);
    race("ledger.pin-unpin", 1, 1, 0, 0);
    prepare(1, 1);
    SCRIPT(0, GET, PIN, PUT);
    SCRIPT(1, UNPIN);
    race("ledger.pin-get-unpin", 1, 1, 0, 0);
}

/* The last reference and the last pins go: who comes last frees. */
static void test_last_of_all(void **state)
{
    (void)state;
    prepare(1, 1);
    SCRIPT(0, PUT);
    SCRIPT(1, UNPIN);
    race("ledger.put-unpin", 0, 0, 1, 0);
    prepare(0, 2);
    SCRIPT(0, UNPIN);
    SCRIPT(1, UNPIN);
    race("ledger.unpin-unpin", 0, 0, 1, 0);
    prepare(1, 1);
    SCRIPT(0, PUT_LIST);
    SCRIPT(1, PIN, UNPIN, UNPIN);
    race("ledger.list-unpin", 0, 0, 1, 0);
}

/* ---- saturation --------------------------------------------------------------------------------- */

#define TOP MM_FRAME_REF_IMMORTAL

static void test_saturation(void **state)
{
    (void)state;
    prepare(MM_FRAME_REFS_MAX - 1, 0);
    SCRIPT(0, GET);
    SCRIPT(1, GET);
    race("ledger.references-full", TOP, TOP, 0, 0);
    prepare(MM_FRAME_REFS_MAX - 2, 1);
    SCRIPT(0, GET);
    SCRIPT(1, PIN);
    race("ledger.both-full", TOP, TOP, 0, 0);
    prepare(2, MM_FRAME_PINS_MAX - 1);
    SCRIPT(0, PIN, PUT);
    SCRIPT(1, PIN, GET);
    race("ledger.pins-full", TOP, TOP, 0, 0);
    prepare(2, 1);
    SCRIPT(0, GET, PUT, UNPIN);
    SCRIPT(1, IMMORTAL, PUT);
    race("ledger.immortal", TOP, TOP, 0, 0);
}

/* ---- both believe that the last is theirs ------------------------------------------------------- */

static void test_dropped_twice(void **state)
{
    static const enum what last[] = {PUT, PUT_LIST, FREE_OWNED};

    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        for (unsigned j = 0; j <= i; j++) {
            prepare(1, 0);
            SCRIPT(0, last[i]);
            SCRIPT(1, last[j]);
            race("ledger.last-twice", 0, 0, 1, 1);
        }
    }
    prepare(0, 1);
    SCRIPT(0, UNPIN);
    SCRIPT(1, UNPIN);
    race("ledger.last-pin-twice", 0, 0, 1, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_put_against_put),   cmocka_unit_test(test_get_against_put_of_another),
        cmocka_unit_test(test_pin_against_unpin), cmocka_unit_test(test_last_of_all),
        cmocka_unit_test(test_saturation),        cmocka_unit_test(test_dropped_twice),
    };

    return cmocka_run_group_tests_name("schedule_frame_ledger", tests, NULL, NULL);
}
