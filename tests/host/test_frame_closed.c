// SPDX-License-Identifier: MIT
/**
 * Whole lines of 2 MiB, which are kept by their marks and not by their rows: whatever is asked for, the
 * frames of such a line are free exactly once, and what is freed of it a second time is found.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "frame_rig.h"

/* Eight lines, and a piece at either end that is no line. */
static const uint64_t machine[] = {62 * MIB + 40 * KIB, 18 * MIB, 0, 0};

#define FIRST     (64 * MIB / 4096) /* the first line */
#define NR_LINES  8u
#define LAST      (FIRST + (NR_LINES - 1) * 512)
#define PIECE_END (FIRST + NR_LINES * 512 + 10)

static uint64_t nr_free(const struct rig *rig)
{
    return rig_stats(rig).nr_free;
}

/* The statement is found to be a double free of this frame, and changes nothing. */
#define DOUBLE_FREE(rig_, stmt_, pfn_)                                                             \
    do {                                                                                           \
        struct t_trap_info info_;                                                                  \
        uint64_t free_ = nr_free(&(rig_));                                                         \
                                                                                                   \
        T_EXPECT_PANIC(stmt_, &info_);                                                             \
        assert_string_equal(info_.what, "double free of a frame");                                 \
        assert_int_equal(info_.address, (uint64_t)(pfn_) << 12);                                   \
        assert_int_equal(nr_free(&(rig_)), free_);                                                 \
        rig_check(&(rig_));                                                                        \
    } while (0)

static void free_each_way(struct rig *rig, uint64_t pfn)
{
    mm_pfn_t frame = mm_pfn(pfn);
    mm_pfn_t line = mm_pfn(pfn / 512 * 512);
    mm_pfn_t list[] = {mm_pfn(pfn & ~UINT64_C(1)), mm_pfn(pfn | 1)};

    DOUBLE_FREE(*rig, mm_frame_free(&rig->frames, frame, 0), pfn);
    DOUBLE_FREE(*rig, mm_frame_free(&rig->frames, mm_pfn(pfn & ~UINT64_C(7)), 3), pfn & ~7ull);
    DOUBLE_FREE(*rig, mm_frame_free(&rig->frames, line, 9), line.raw);
    DOUBLE_FREE(*rig, mm_frame_free_run(&rig->frames, frame, 3), pfn);
    DOUBLE_FREE(*rig, mm_frame_free_run(&rig->frames, line, 512), line.raw);
    DOUBLE_FREE(*rig, mm_frame_free_bulk(&rig->frames, list, 2), pfn & ~1ull);
}

/* Frames of a line that was never touched; of one that came back as a block; of one that was opened, and
 * came back as a block; and of one that came back frame by frame. */
static void double_free_in_a_line(void **state)
{
    static struct rig rig;

    (void)state;
    for (uint32_t flags = 0; flags <= RIG_RECORDS; flags++) {
        mm_pfn_t block;

        rig_start(&rig, machine, 2, flags);
        free_each_way(&rig, FIRST + 512 + 100);
        block = rig_alloc(&rig, 9);
        mm_frame_free(&rig.frames, block, 9);
        free_each_way(&rig, block.raw + 64);
        for (unsigned i = 0; i < 512; i++) {
            assert_int_equal(mm_frame_alloc_at(&rig.frames, mm_pfn(LAST + i), 1), MM_OK);
        }
        mm_frame_free(&rig.frames, mm_pfn(LAST), 9);
        free_each_way(&rig, LAST + 448);
        assert_int_equal(mm_frame_alloc_at(&rig.frames, mm_pfn(LAST), 512), MM_OK);
        for (unsigned i = 512; i-- > 0;) {
            mm_frame_free(&rig.frames, mm_pfn(LAST + i), 0);
        }
        free_each_way(&rig, LAST + 449);
        rig_stop(&rig);
    }
}

/* A line is known for a free frame, is used up, and comes back as a whole: it is known no more. */
static void known_no_more(void **state)
{
    static struct rig rig;
    mm_pfn_t first;

    (void)state;
    rig_start(&rig, machine, 1, 0);
    first = rig_alloc(&rig, 0);
    first = mm_pfn(first.raw / 512 * 512);
    for (unsigned i = 1; i < 512; i++) {
        (void)rig_alloc(&rig, 0);
    }
    mm_frame_free(&rig.frames, first, 9);
    free_each_way(&rig, first.raw + 17);
    /* And when it is opened, it is known again. */
    assert_int_equal(mm_frame_alloc_at(&rig.frames, mm_pfn(first.raw + 17), 1), MM_OK);
    mm_frame_free(&rig.frames, mm_pfn(first.raw + 17), 0);
    free_each_way(&rig, first.raw + 17);
    rig_stop(&rig);
}

/* Every length at every place, over rows that are closed, open and of a piece that is no line. */
static void runs_over_lines(void **state)
{
    static const uint64_t lengths[] = {1, 2, 63, 64, 65, 511, 512, 513, 700, 1024, 1025};
    static struct rig rig;

    (void)state;
    rig_start(&rig, machine, 1, MM_FRAMES_OWNERS);
    for (unsigned i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        for (uint64_t at = LAST - 512 - 70; at + lengths[i] <= PIECE_END; at += 37) {
            uint64_t before = nr_free(&rig);

            assert_int_equal(mm_frame_alloc_at(&rig.frames, mm_pfn(at), lengths[i]), MM_OK);
            assert_int_equal(nr_free(&rig), before - lengths[i]);
            for (uint64_t j = 0; j < lengths[i]; j++) {
                assert_true(mm_frame_allocated(&rig.frames, mm_pfn(at + j)));
            }
            assert_false(mm_frame_allocated(&rig.frames, mm_pfn(at - 1)));
            assert_int_equal(mm_frame_alloc_at(&rig.frames, mm_pfn(at), 1), MM_ERR_BUSY);
            mm_frame_free_run(&rig.frames, mm_pfn(at), lengths[i]);
            assert_int_equal(nr_free(&rig), before);
            if (at % 5 == 0) { /* as a whole again, and closed */
                uint64_t first = at / 512 * 512;

                assert_int_equal(mm_frame_alloc_at(&rig.frames, mm_pfn(first), 512), MM_OK);
                mm_frame_free(&rig.frames, mm_pfn(first), 9);
            }
        }
        rig_check(&rig);
    }
    rig_stop(&rig);
}

/* All memory is closed lines: each kind of request is served from it, to the last frame. */
static void everything_is_closed(void **state)
{
    static const struct mm_frame_request requests[] = {
        {.order = 0},
        {.order = 1},
        {.order = 6},
        {.order = 7},
        {.order = 8},
        {.order = 9},
        {.nr_frames = 3},
        {.nr_frames = 64},
        {.nr_frames = 300},
        {.nr_frames = 512},
        {.align = 8192},
        {.lowest = {1 * MIB}},
        {.lifetime = MM_LIFETIME_KERNEL},
    };
    static struct rig rig;

    (void)state;
    for (unsigned i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
        const struct mm_frame_request *r = &requests[i];
        uint64_t nr = r->nr_frames != 0 ? r->nr_frames : UINT64_C(1) << r->order;
        uint64_t served = 0;
        mm_pfn_t pfn;

        rig_start(&rig, (const uint64_t[]){64 * MIB, 16 * MIB, 0, 0}, 2, 0);
        while (mm_frame_alloc(&rig.frames, r, &pfn) == MM_OK) {
            served += nr;
            rig.cpu ^= 1;
        }
        /* Runs that do not fill a line leave something. */
        assert_true(r->nr_frames == 0 && r->align == 0 ? served == 4096
                                                       : served > (r->align != 0 ? 2000u : 3500u));
        assert_int_equal(nr_free(&rig), 4096 - served);
        rig_stop(&rig);
    }
}

/* One lifetime uses up lines, and half of their frames come back; others leave those alone while there
 * are whole lines: however the frames were asked for. */
static void lifetimes_stay_apart(void **state)
{
    static mm_pfn_t had[2048];
    static struct rig rig;

    (void)state;
    for (unsigned how = 0; how < 3; how++) {
        const struct mm_frame_request kernel = {.lifetime = MM_LIFETIME_KERNEL};
        const struct mm_frame_request movable = {.lifetime = MM_LIFETIME_MOVABLE};
        size_t nr = 0;
        mm_pfn_t pfn;

        rig_start(&rig, (const uint64_t[]){64 * MIB, 16 * MIB, 0, 0}, 1, 0);
        for (unsigned i = 0; i < 2048; i++) {
            assert_int_equal(how == 0   ? mm_frame_alloc(&rig.frames, &kernel, &had[i])
                             : how == 1 ? mm_frame_alloc_on(&rig.frames, 0, &had[i])
                                        : mm_frame_alloc_bulk(&rig.frames, 0, &had[i], 1, &nr),
                             MM_OK);
        }
        for (unsigned i = 0; i < 2048; i += 2) {
            mm_frame_free(&rig.frames, had[i], 0);
        }
        for (unsigned i = 0; i < 3 * 512; i++) { /* the fourth line was opened by frame 2047 */
            assert_int_equal(mm_frame_alloc(&rig.frames, &movable, &pfn), MM_OK);
            for (unsigned j = 0; j < 2048; j += 256) {
                assert_int_not_equal(pfn.raw / 512, had[j].raw / 512);
            }
        }
        rig_stop(&rig);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(double_free_in_a_line), cmocka_unit_test(known_no_more),
        cmocka_unit_test(runs_over_lines),       cmocka_unit_test(everything_is_closed),
        cmocka_unit_test(lifetimes_stay_apart),
    };

    return cmocka_run_group_tests_name("frame_closed", tests, NULL, NULL);
}
