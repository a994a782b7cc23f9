// SPDX-License-Identifier: MIT
/**
 * A free that is overtaken several times: CPU 0 frees what it holds, and before each choice of its
 * accesses CPU 1 makes the next calls of its script. All choices are tried. So lines are closed,
 * opened and closed again between two steps of one free.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "events.h"
#include "frame_rig.h"

#define FIRST      512u /* the memory begins at 2 MiB */
#define NR_FRAMES  1536u
#define POINTS_MAX 6u
#define PFN(index) mm_pfn(FIRST + (index))

struct overtaken {
    uint64_t index, nr;                  /* CPU 0 frees this run */
    void (*calls[POINTS_MAX + 1])(void); /* what CPU 1 does at each point; ended by NULL */
    const char *(*finish)(void);
    unsigned at[POINTS_MAX];
    unsigned nr_done; /* points that were come to */
    unsigned nr_seen; /* accesses of CPU 0 */
};

static struct rig rig;
static struct mm_frames frames_at_start;
static void *metadata_at_start;
static bool line_was_had;
static bool lost; /* something that must be seen, or be there */
static bool panicked;
static bool watched; /* CPU 0 is in its call */

static void before(void *ctx, const struct t_event *event)
{
    struct overtaken *o = ctx;

    if (!event->atomic) {
        return;
    }
    while (o->calls[o->nr_done] != NULL && o->at[o->nr_done] == o->nr_seen) {
        o->calls[o->nr_done++]();
    }
    o->nr_seen++;
}

/* One try; points beyond the end of the free come after it. */
static void once(struct overtaken *o)
{
    static const struct t_events_hooks hooks = {.before = before};
    struct t_trap_info trap;

    rig.frames = frames_at_start;
    memcpy(rig.config.metadata, metadata_at_start, rig.config.metadata_len);
    o->nr_done = 0;
    o->nr_seen = 0;
    line_was_had = false;
    lost = false;
    t_events_watch(&hooks, o);
    watched = true;
    T_CATCH(T_TRAP_PANIC, mm_frame_free_run(&rig.frames, PFN(o->index), o->nr), &trap);
    watched = false;
    t_events_watch(NULL, NULL);
    panicked = trap.kind == T_TRAP_PANIC;
    while (o->calls[o->nr_done] != NULL) {
        o->calls[o->nr_done++]();
    }
}

/* All places of the points from number `from` on; how many tries ended badly. */
static unsigned explore(struct overtaken *o, unsigned from)
{
    unsigned bad = 0;
    unsigned nr;

    if (o->calls[from] == NULL) {
        const char *text;

        once(o);
        text = o->finish();
        if (text != NULL) {
            print_error("%s: points %u %u %u %u %u\n", text, o->at[0], o->at[1], o->at[2], o->at[3],
                        o->at[4]);
        }
        return text != NULL ? 1 : 0;
    }
    for (unsigned i = from; i < POINTS_MAX; i++) {
        o->at[i] = UINT32_MAX;
    }
    once(o);
    nr = o->nr_seen;
    for (unsigned at = from == 0 ? 0 : o->at[from - 1]; at < nr && bad == 0; at++) {
        o->at[from] = at;
        bad += explore(o, from + 1);
    }
    return bad;
}

/* All of memory is allocated but for what is freed here. */
static void prepare(void)
{
    rig_start(&rig, (const uint64_t[]){FIRST * 4 * KIB, NR_FRAMES * 4 * KIB, 0, 0}, 1, 0);
    assert_int_equal(mm_frame_alloc_at(&rig.frames, PFN(0), NR_FRAMES), MM_OK);
}

static void run(struct overtaken *o)
{
    unsigned bad;

    frames_at_start = rig.frames;
    metadata_at_start = malloc(rig.config.metadata_len);
    assert_non_null(metadata_at_start);
    memcpy(metadata_at_start, rig.config.metadata, rig.config.metadata_len);
    bad = explore(o, 0);
    free(metadata_at_start);
    free(rig.config.metadata);
    assert_int_equal(bad, 0);
}

static const char *check(void)
{
    return panicked                               ? "a panic, and nobody did anything wrong"
           : mm_frame_check(&rig.frames) == MM_OK ? NULL
                                                  : "the check of the frames";
}

/* --- what CPU 1 does ---------------------------------------------------------------------------- */

/* The line comes and goes as a whole, if it is free as a whole: it is closed then. */
static void line_comes_and_goes(void)
{
    const struct mm_frame_request request = {.order = 9};
    mm_pfn_t pfn;

    if (mm_frame_alloc(&rig.frames, &request, &pfn) == MM_OK) {
        mm_frame_free(&rig.frames, pfn, 9);
    }
}

/* A frame comes and goes, which opens a line. */
static void frame_comes_and_goes(void)
{
    mm_pfn_t pfn;

    if (mm_frame_alloc(&rig.frames, NULL, &pfn) == MM_OK) {
        mm_frame_free(&rig.frames, pfn, 0);
    }
}

static void free_the_rest(void)
{
    mm_frame_free_run(&rig.frames, PFN(513), 511);
    line_comes_and_goes();
}

/* --- cases -------------------------------------------------------------------------------------- */

static void free_twice(void)
{
    struct t_trap_info trap;

    if (watched) {
        mm_frame_free(&rig.frames, PFN(712), 0); /* who catches CPU 0's panic catches this one */
    } else if (!panicked) {
        T_CATCH(T_TRAP_PANIC, mm_frame_free(&rig.frames, PFN(712), 0), &trap);
        panicked = trap.kind == T_TRAP_PANIC;
    }
}

static const char *is_seen(void)
{
    return panicked ? NULL : "a double free was not seen";
}

/* CPU 0 tells a summary of a frame that has long gone with its line, which is closed. A frame of that
 * line that is freed once more at that moment is a double free as ever: if who frees it cannot see
 * that, CPU 0 does. */
static void test_double_free_behind_a_promise(void **state)
{
    struct overtaken o = {
        .index = 512, .nr = 1, .calls = {free_the_rest, free_twice}, .finish = is_seen};

    (void)state;
    prepare();
    run(&o);
}

static void line_again(void)
{
    const struct mm_frame_request request = {.order = 9};
    mm_pfn_t pfn;

    if (mm_frame_alloc(&rig.frames, &request, &pfn) == MM_OK) {
        mm_frame_free(&rig.frames, pfn, 9);
        line_was_had = true; /* CPU 0 has freed it */
    }
}

static void line_must_be_there(void)
{
    const struct mm_frame_request request = {.order = 9};
    mm_pfn_t pfn;

    if (!line_was_had) {
        return;
    }
    if (mm_frame_alloc(&rig.frames, &request, &pfn) != MM_OK) {
        lost = true;
    } else {
        mm_frame_free(&rig.frames, pfn, 9);
    }
}

static const char *is_found(void)
{
    return lost ? "CPU 1 has freed a line, nobody has taken it, and it is not there" : check();
}

/* CPU 0 has closed a line, and looks whether a frame of it was freed beside. By then the line was
 * CPU 1's: what that has freed is free. */
static void test_line_looked_at_too_late(void **state)
{
    struct overtaken o = {.index = 512,
                          .nr = 512,
                          .calls = {frame_comes_and_goes, line_again, line_must_be_there},
                          .finish = is_found};

    (void)state;
    prepare();
    mm_frame_free(&rig.frames, PFN(600), 0); /* the summary knows of the line */
    assert_int_equal(mm_frame_alloc_at(&rig.frames, PFN(600), 1), MM_OK);
    run(&o);
}

/* CPU 0 takes back a bit that is another state's, and sets it again: the line is whole by that. */
static void test_taken_back_and_set_again(void **state)
{
    struct overtaken o = {.index = 512,
                          .nr = 1,
                          .calls = {free_the_rest, frame_comes_and_goes, line_comes_and_goes,
                                    frame_comes_and_goes, line_comes_and_goes},
                          .finish = check};

    (void)state;
    prepare();
    run(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_double_free_behind_a_promise),
        cmocka_unit_test(test_line_looked_at_too_late),
        cmocka_unit_test(test_taken_back_and_set_again),
    };

    return cmocka_run_group_tests_name("overtaken_frame", tests, NULL, NULL);
}
