// SPDX-License-Identifier: MIT
/**
 * "No memory" is the truth: races in which there is something at every moment, but never long in one
 * place, or in which a summary is corrected by one CPU while another one needs it.
 */
#include "frame_race.h"

/* --- what comes back behind a search ------------------------------------------------------------ */

/* Two places that CPUs keep hints to, so that a search sees them once, at its end. What CPU 1 holds in
 * the upper line comes back, and what is free in the lower one goes: there is one at every moment. */
static void comes_back_behind(const char *name, unsigned nr, struct step asks)
{
    prepare(FREE_FRAMES(0, 0), 0);
    reserve_line(2, MM_LIFETIME_SHORT);
    reserve_line(0, MM_LIFETIME_KERNEL);
    hand_out_fresh(1, 1024 + 256, nr);
    let_free(256, nr);
    SCRIPT(0, asks);
    SCRIPT(1, {FREE, 0, false}, {ALLOC_AT, 256, false});
    race(name, false);
}

static void test_comes_back(void **state)
{
    (void)state;
    comes_back_behind("frame.back-order-0", 1, (struct step){ALLOC_ON, 0, true});
    comes_back_behind("frame.back-order-1", 2, (struct step){ALLOC, 1, true});
    comes_back_behind("frame.back-order-3", 8, (struct step){ALLOC, 3, true});
    comes_back_behind("frame.back-order-6", 64, (struct step){ALLOC, 6, true});
    comes_back_behind("frame.back-order-8", 256, (struct step){ALLOC, 8, true});
    comes_back_behind("frame.back-run-3", 3, (struct step){ALLOC_RUN, 3, true});
    comes_back_behind("frame.back-run-16", 16, (struct step){ALLOC_RUN, 16, true});
    comes_back_behind("frame.back-bulk", 1, (struct step){BULK_OF, 1, true});
}

/* The same where it is a whole line that comes back, which is closed, and less that is wanted. */
static void block_comes_back_behind(const char *name, unsigned nr, struct step asks)
{
    prepare(FREE_FRAMES(0, 0), 0);
    reserve_line(2, MM_LIFETIME_SHORT);
    reserve_line(0, MM_LIFETIME_KERNEL);
    hand_out_fresh(1, 1024, 512);
    let_free(256, nr);
    SCRIPT(0, asks);
    SCRIPT(1, {FREE, 0, false}, {ALLOC_AT, 256, false});
    race(name, false);
}

static void test_block_comes_back(void **state)
{
    (void)state;
    block_comes_back_behind("frame.back-block-order-0", 1, (struct step){ALLOC_ON, 0, true});
    block_comes_back_behind("frame.back-block-order-3", 8, (struct step){ALLOC, 3, true});
    block_comes_back_behind("frame.back-block-run-16", 16, (struct step){ALLOC_RUN, 16, true});
    block_comes_back_behind("frame.back-block-bulk", 1, (struct step){BULK_OF, 1, true});
}

/* The same with whole lines. */
static void test_line_comes_back(void **state)
{
    (void)state;
    prepare(FREE_FRAMES(0, 0), 0);
    reserve_line(2, MM_LIFETIME_SHORT);
    reserve_line(0, MM_LIFETIME_KERNEL);
    let_free(1024, 512);
    assert_int_equal(mm_frame_alloc_at(&world->now.frames, PFN(1024), 512), MM_OK);
    hand_out(1, 1024, 512);
    let_free(0, 512);
    SCRIPT(0, {ALLOC, 9, true});
    SCRIPT(1, {FREE, 0, false}, {ALLOC_AT, 64, false});
    race("frame.back-order-9", false);
}

/* It goes round and round between three places. */
static void test_goes_round(void **state)
{
    (void)state;
    prepare(FREE_FRAMES(0, 0), 0);
    hand_out_fresh(1, 1024 + 64, 1);
    hand_out_fresh(1, 512 + 64, 1);
    let_free(64, 1);
    SCRIPT(0, {ALLOC_ON, 0, true});
    SCRIPT(1, {FREE, 0, false}, {ALLOC_AT, 64, false}, {FREE, 0, false},
           {ALLOC_AT, 1024 + 64, false});
    race("frame.round", false);
    prepare(FREE_FRAMES(0, 0), 0);
    hand_out_fresh(1, 1024 + 64, 8);
    hand_out_fresh(1, 512 + 64, 8);
    let_free(64, 8);
    SCRIPT(0, {ALLOC, 3, true});
    SCRIPT(1, {FREE, 0, false}, {ALLOC_AT, 67, false}, {FREE, 0, false},
           {ALLOC_AT, 1024 + 67, false});
    race("frame.round-order-3", false);
}

/* --- a first one who is interrupted ------------------------------------------------------------- */

/* CPU 0 stops between the bit and the summary, and CPU 1 frees in the same line after it: whatever
 * CPU 0 has not done yet, CPU 1 finds what it has just freed. */
static void stopped_half_way(const char *name, unsigned nr, struct step asks, unsigned flags)
{
    prepare(FREE_FRAMES(0, 0), flags);
    hand_out(0, 640, 1);
    hand_out(1, 768, nr);
    SCRIPT(0, {FREE, 0, false});
    SCRIPT(1, asks, {FREE, 0, false}, {asks.what, asks.n, true}, {FREE, 0, false},
           {asks.what, asks.n, true});
    world->steps[1][0].must = false; /* it finds none, and says so in the summaries */
    race(name, false);
}

static void test_stopped_half_way(void **state)
{
    (void)state;
    stopped_half_way("frame.half-order-0", 2, (struct step){ALLOC_ON, 0, false}, 0);
    stopped_half_way("frame.half-order-2", 4, (struct step){ALLOC, 2, false}, 0);
    stopped_half_way("frame.half-order-7", 128, (struct step){ALLOC, 7, false}, 0);
    stopped_half_way("frame.half-run-16", 16, (struct step){ALLOC_RUN, 16, false}, 0);
    stopped_half_way("frame.half-recorded", 4, (struct step){ALLOC, 2, false}, RIG_RECORDS);
}

/* Two halves of what a third one looks for come back at a time; whatever the order was, a search
 * finds the whole afterwards. */
static const char *is_found(const struct world *w)
{
    struct mm_frames *frames = &world->now.frames;
    const struct step *wanted = &w->steps[0][STEPS - 1];
    struct mm_frame_request request = {.order = wanted->what == ALLOC ? wanted->n : 0,
                                       .nr_frames = wanted->what == ALLOC_RUN ? wanted->n : 0};
    mm_pfn_t pfn;

    if (w->now.hands[2].nr != 0) {
        return NULL; /* CPU 2 has got it */
    }
    return mm_frame_alloc(frames, &request, &pfn) == MM_OK ? NULL : "it is there, and not found";
}

static void two_halves(const char *name, unsigned at, unsigned nr, struct step wanted)
{
    prepare(FREE_FRAMES(0, 0), 0);
    world->nr_cpus = 3;
    world->also = is_found;
    let_free(at + nr / 2 - 1, 1);
    hand_out_fresh(0, at, nr / 2 - 1);
    hand_out_fresh(1, at + nr / 2, nr - nr / 2);
    SCRIPT(0, {FREE, 0, false});
    SCRIPT(1, {FREE, 0, false});
    SCRIPT(2, wanted, wanted);
    world->steps[0][STEPS - 1] = wanted;
    race(name, false);
}

static void test_two_halves(void **state)
{
    (void)state;
    two_halves("frame.halves-order-3", 640, 8, (struct step){ALLOC, 3, false});
    two_halves("frame.halves-order-8", 768, 256, (struct step){ALLOC, 8, false});
    two_halves("frame.halves-order-9", 512, 512, (struct step){ALLOC, 9, false});
    /* Over the end of a line. */
    two_halves("frame.halves-run-16", 504, 16, (struct step){ALLOC_RUN, 16, false});
    two_halves("frame.halves-run-200", 924, 200, (struct step){ALLOC_RUN, 200, false});
}

/* --- corrections that meet ---------------------------------------------------------------------- */

/* A block comes, goes and is searched for in vain, while another one comes. */
static void test_marks(void **state)
{
    (void)state;
    prepare(FREE_FRAMES(640, 1), 0);
    hand_out_fresh(0, 704, 8);
    SCRIPT(0, {FREE, 0, false});
    SCRIPT(1, {ALLOC, 3, false}, {ALLOC, 3, false}, {FREE, 0, false}, {ALLOC, 3, false});
    race("frame.marks-order-3", false);
    prepare(FREE_FRAMES(640, 1, 900, 3), 0);
    hand_out_fresh(0, 704, 16);
    hand_out_fresh(1, 1016, 16);
    SCRIPT(0, {FREE, 0, false}, {ALLOC_RUN, 16, false});
    SCRIPT(1, {ALLOC_RUN, 16, false}, {ALLOC_RUN, 9, false}, {FREE, 0, false},
           {ALLOC_RUN, 16, false});
    race("frame.marks-run-16", false);
    /* Different sizes mark and take back the same lines. */
    prepare(FREE_FRAMES(640, 2, 700, 4), 0);
    hand_out_fresh(0, 704, 8);
    SCRIPT(0, {ALLOC, 3, false}, {FREE, 0, false}, {ALLOC, 4, false});
    SCRIPT(1, {ALLOC_RUN, 5, false}, {ALLOC, 3, false}, {FREE, 0, false});
    race("frame.marks-mixed", false);
}

/* The last whole line, and the last line with a free frame, of a group. */
static void test_tops(void **state)
{
    (void)state;
    prepare(FREE_FRAMES(0, 512), 0);
    hand_out_fresh(0, 1024, 512);
    SCRIPT(0, {FREE, 0, false});
    SCRIPT(1, {ALLOC, 9, true}, {ALLOC, 9, false}, {FREE, 0, false}, {ALLOC, 9, true});
    race("frame.top-whole", false);
    prepare(FREE_FRAMES(5, 1), 0);
    hand_out_fresh(0, 1400, 1);
    SCRIPT(0, {FREE, 0, false});
    SCRIPT(1, {ALLOC_ON, 0, true}, {ALLOC_ON, 0, false}, {FREE, 0, false}, {ALLOC_ON, 0, true});
    race("frame.top-free", false);
}

/* A line is claimed from both ends, two words at a time, and given back. */
static void test_claims_of_a_line(void **state)
{
    (void)state;
    for (unsigned at = 0; at < 512; at += 200) {
        prepare(FREE_FRAMES(512, 512), 0);
        SCRIPT(0, {ALLOC, 9, false}, {FREE, 0, false}, {ALLOC, 9, false});
        SCRIPT(1, {ALLOC_AT, 512 + at, false}, {FREE, 0, false}, {ALLOC_AT, 512 + at, false});
        race("frame.claim-of-a-line", false);
    }
    prepare(FREE_FRAMES(512, 512), 0);
    SCRIPT(0, {ALLOC, 9, false}, {FREE, 0, false});
    SCRIPT(1, {BULK_OF, 64, false}, {FREE, 0, false}, {BULK_OF, 64, false});
    race("frame.line-and-bulk", false);
    prepare(FREE_FRAMES(512, 512), 0);
    SCRIPT(0, {ALLOC, 9, false}, {FREE, 0, false});
    SCRIPT(1, {ALLOC, 8, false}, {ALLOC, 3, false}, {FREE, 0, false}, {FREE, 0, false});
    race("frame.line-and-blocks", false);
}

/* Three CPUs and two frames for each; none may go short. */
static void test_three(void **state)
{
    (void)state;
    prepare(FREE_FRAMES(5, 1, 600, 1, 1400, 1), 0);
    world->nr_cpus = 3;
    for (unsigned cpu = 0; cpu < 3; cpu++) {
        SCRIPT(cpu, {ALLOC_ON, 0, true}, {FREE, 0, false}, {ALLOC_ON, 0, true});
    }
    race("frame.three", false);
    prepare(FREE_FRAMES(16, 16, 1040, 8), 0);
    world->nr_cpus = 3;
    for (unsigned cpu = 0; cpu < 3; cpu++) {
        SCRIPT(cpu, {ALLOC, 3, true}, {FREE, 0, false}, {ALLOC, 3, true});
    }
    race("frame.three-order-3", false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_comes_back),
        cmocka_unit_test(test_block_comes_back),
        cmocka_unit_test(test_line_comes_back),
        cmocka_unit_test(test_goes_round),
        cmocka_unit_test(test_stopped_half_way),
        cmocka_unit_test(test_two_halves),
        cmocka_unit_test(test_marks),
        cmocka_unit_test(test_tops),
        cmocka_unit_test(test_claims_of_a_line),
        cmocka_unit_test(test_three),
    };

    return cmocka_run_group_tests_name("schedule_frame_truth", tests, NULL, NULL);
}
