// SPDX-License-Identifier: MIT
/**
 * Two CPUs in the frame allocator, under every schedule of few switches and many others: single
 * frames, blocks and runs, misuse, references. What summaries hide is in test_schedule_frame_truth.c.
 */
#include "frame_race.h"

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
    /* A handler moves the hint from the same line to another one. */
    prepare(FREE_FRAMES(40, 2, 600, 2, 1100, 2), 0);
    SCRIPT(0, {ALLOC_ON, 0, true}, {ALLOC_ON, 0, true}, {ALLOC_ON, 0, true});
    SCRIPT(1, {ALLOC, 0, true}, {FREE, 0, false});
    race("frame.hint-interrupted", true);
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
    /* The last frame of a line is free: nobody gets one of the others while that is found out. */
    prepare(FREE_FRAMES(1023, 1), 0);
    world->also = one_panicked;
    SCRIPT(0, {LINE_OF, 1023, false});
    SCRIPT(1, {ALLOC_AT, 512, false}, {ALLOC, 3, false});
    race("frame.line-freed-twice", false);
}

/* ---- lines that are closed --------------------------------------------------------------------- */

/* A frame and its line are freed at once; `known`: the summary says that there are free frames. */
static void test_line_and_frame(void **state)
{
    (void)state;
    for (unsigned known = 0; known < 2; known++) {
        prepare(FREE_FRAMES(0, 0), 0);
        world->also = one_panicked;
        if (known != 0) {
            hand_out_fresh(0, 700, 1);
        }
        SCRIPT(0, {LINE_TOO, 512, false});
        SCRIPT(1, {TWICE, 610, false});
        race(known != 0 ? "frame.line-and-frame-known" : "frame.line-and-frame", false);
    }
    prepare(FREE_FRAMES(0, 0), 0);
    world->also = one_panicked;
    SCRIPT(0, {LINE_TOO, 512, false});
    SCRIPT(1, {LINE_TOO, 512, false});
    race("frame.line-and-line", false);
}

/* The last frame of a line comes back, by one who is slow to say so; others close the line and open it
 * meanwhile. Nobody has done anything wrong. */
static void test_closed_meanwhile(void **state)
{
    (void)state;
    prepare(FREE_FRAMES(0, 0), 0);
    hand_out(0, 610, 1);
    hand_out(1, 512, 98);
    hand_out(1, 611, 413);
    SCRIPT(0, {FREE, 0, false});
    SCRIPT(1, {FREE, 0, false}, {FREE, 0, false}, {ALLOC, 9, false}, {FREE, 0, false},
           {ALLOC_ON, 0, true}, {FREE, 0, false}, {ALLOC, 9, false}, {FREE, 0, false});
    race("frame.closed-meanwhile", false);
}

/* One wants a frame, and opens the line; there is enough for both all the time. */
static void test_opened(void **state)
{
    (void)state;
    prepare(FREE_FRAMES(512, 512), 0);
    SCRIPT(0, {ALLOC_ON, 0, true}, {FREE, 0, false});
    SCRIPT(1, {ALLOC_ON, 0, true}, {FREE, 0, false}, {ALLOC_ON, 0, true});
    race("frame.opened-by-two", true);
    prepare(FREE_FRAMES(512, 512), 0);
    SCRIPT(0, {ALLOC, 3, true}, {FREE, 0, false});
    SCRIPT(1, {ALLOC_RUN, 70, true}, {FREE, 0, false}, {ALLOC, 8, true});
    race("frame.opened-for-runs", false);
    prepare(FREE_FRAMES(512, 1024), 0);
    SCRIPT(0, {ALLOC, 9, false}, {FREE, 0, false}, {ALLOC, 9, false});
    SCRIPT(1, {BULK_OF, 3, true}, {ALLOC_RUN, 400, false}, {FREE, 0, false}, {FREE, 0, false});
    race("frame.opened-and-closed", false);
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
        cmocka_unit_test(test_line_and_frame),
        cmocka_unit_test(test_closed_meanwhile),
        cmocka_unit_test(test_opened),
        cmocka_unit_test(test_references),
    };

    return cmocka_run_group_tests_name("schedule_frame", tests, NULL, NULL);
}
