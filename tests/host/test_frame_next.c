// SPDX-License-Identifier: MIT
/**
 * Single frames by the number of the CPU: where the next one comes from when a line, that is 512
 * frames, is used up. The short way there must lead to where a search would have led.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "frame_rig.h"

#define LINE 512u

static const uint64_t high[] = {4 * GIB, 128 * MIB, 0, 0}; /* 64 lines: one group */

/* The line of the next frame of a CPU. */
static uint64_t next(struct rig *rig, uint32_t cpu)
{
    mm_pfn_t pfn;

    assert_int_equal(mm_frame_alloc_on(&rig->frames, cpu, &pfn), MM_OK);
    return pfn.raw / LINE;
}

/* The next frames of a CPU, which come from one line. */
static uint64_t next_of_one(struct rig *rig, uint32_t cpu, unsigned nr)
{
    uint64_t line = next(rig, cpu);

    while (--nr != 0) {
        assert_int_equal(next(rig, cpu), line);
    }
    return line;
}

static void free_line(struct rig *rig, uint64_t line)
{
    mm_frame_free_run(&rig->frames, mm_pfn(line * LINE), LINE);
}

/* Lines are used up one after the other, downwards; what came back above is found at last. */
static void downwards(void **state)
{
    struct rig rig;
    uint64_t top;

    (void)state;
    rig_start(&rig, high, 1, 0);
    top = next_of_one(&rig, 0, LINE);
    for (uint64_t i = 1; i < 64; i++) {
        assert_int_equal(next_of_one(&rig, 0, LINE), top - i);
        if (i == 1) {
            mm_frame_free(&rig.frames, mm_pfn(top * LINE + 7), 0);
        }
        rig_check(&rig);
    }
    assert_int_equal(next(&rig, 0), top);
    rig_stop(&rig);
}

/* A few frames in each line, some of them side by side: all of them are found. */
static void scattered(void **state)
{
    struct rig rig;
    mm_pfn_t pfn;
    uint64_t nr = 0;

    (void)state;
    rig_start(&rig, high, 1, 0);
    while (mm_frame_alloc_on(&rig.frames, 0, &pfn) == MM_OK) {
        nr++;
    }
    assert_int_equal(nr, 64 * LINE);
    for (unsigned turn = 0; turn < 5; turn++) {
        nr = 0;
        for (uint64_t at = turn; at + 6 < 64 * LINE; at += 41 + turn) {
            mm_frame_free_run(&rig.frames, mm_pfn(4 * GIB / 4096 + at), at % 7 + 1);
            nr += at % 7 + 1;
        }
        for (; nr != 0; nr--) {
            (void)next(&rig, 0);
        }
        assert_int_equal(mm_frame_alloc_on(&rig.frames, 0, &pfn), MM_ERR_NO_MEMORY);
        rig_check(&rig);
    }
    rig_stop(&rig);
}

/* Another CPU's line is left alone. */
static void hinted(void **state)
{
    struct rig rig;
    uint64_t top;

    (void)state;
    rig_start(&rig, high, 2, 0);
    top = next(&rig, 0);
    assert_int_equal(next(&rig, 1), top - 1);
    assert_int_equal(next_of_one(&rig, 0, LINE - 1), top);
    assert_int_equal(next_of_one(&rig, 0, LINE), top - 2);
    assert_int_equal(next_of_one(&rig, 1, LINE - 1), top - 1);
    assert_int_equal(next(&rig, 1), top - 3);
    rig_stop(&rig);
}

/* So is one that another lifetime has opened. */
static void lifetimes(void **state)
{
    struct mm_frame_request request = {.lifetime = MM_LIFETIME_SHORT};
    struct rig rig;
    mm_pfn_t pfn;
    uint64_t top;

    (void)state;
    rig_start(&rig, high, 1, 0);
    top = next(&rig, 0);
    for (unsigned i = 0; i <= LINE; i++) {
        assert_int_equal(mm_frame_alloc(&rig.frames, &request, &pfn), MM_OK);
    }
    assert_int_equal(pfn.raw / LINE, top - 2);
    mm_frame_free(&rig.frames, rig_alloc(&rig, 9), 9); /* the lines are known not to be whole */
    mm_frame_free(&rig.frames, mm_pfn((top - 1) * LINE), 0);
    assert_int_equal(next_of_one(&rig, 0, LINE - 1), top);
    assert_int_equal(next(&rig, 0), top - 3);
    rig_stop(&rig);
}

/* Memory below 16 MiB comes last, though it lies beside the rest. */
static void areas(void **state)
{
    static const uint64_t low[] = {0, 64 * MIB, 0, 0};
    struct rig rig;

    (void)state;
    rig_start(&rig, low, 1, 0);
    for (uint64_t line = 32; line-- > 8;) {
        assert_int_equal(next_of_one(&rig, 0, LINE), line);
    }
    free_line(&rig, 20);
    assert_int_equal(next_of_one(&rig, 0, LINE), 20);
    assert_int_equal(next(&rig, 0), 7);
    rig_stop(&rig);
}

/* Lines stand side by side that lie apart in memory. */
static void spans(void **state)
{
    static const uint64_t apart[] = {32 * MIB, 6 * MIB, GIB, 4 * MIB, 0, 0};
    struct rig rig;

    (void)state;
    rig_start(&rig, apart, 1, 0);
    for (uint64_t line = GIB / 4096 / LINE + 2; line-- > GIB / 4096 / LINE;) {
        assert_int_equal(next_of_one(&rig, 0, LINE), line);
    }
    for (uint64_t line = 19; line-- > 16;) {
        assert_int_equal(next_of_one(&rig, 0, LINE), line);
    }
    rig_stop(&rig);
}

/* What is withheld is not taken. */
static void withheld(void **state)
{
    struct rig rig;
    mm_pfn_t pfn;

    (void)state;
    rig_map(&rig, high);
    rig_config(&rig, 1, 0);
    rig.config.nr_reserve = 2048;
    assert_int_equal(mm_frame_init(&rig.frames, &rig.config), MM_OK);
    while (mm_frame_alloc_on(&rig.frames, 0, &pfn) == MM_OK) {
    }
    assert_in_range(rig_stats(&rig).nr_free, 2048, 2048 + LINE);
    rig_stop(&rig);
}

/* Frames that are taken are counted where somebody wants to know. */
static void counted(void **state)
{
    struct mm_frame_watermarks marks = {8192, 8192, 8192};
    struct rig rig;

    (void)state;
    rig_start(&rig, high, 1, 0);
    assert_int_equal(mm_frame_set_watermarks(&rig.frames, 0, MM_ZONE_NORMAL, &marks), MM_OK);
    for (unsigned i = 0; i < 46; i++) {
        (void)next_of_one(&rig, 0, LINE);
    }
    assert_int_equal(mm_frame_pressure(&rig.frames, 0, MM_ZONE_NORMAL), MM_PRESSURE_NONE);
    for (unsigned i = 0; i < 4; i++) {
        (void)next_of_one(&rig, 0, LINE);
    }
    assert_int_not_equal(mm_frame_pressure(&rig.frames, 0, MM_ZONE_NORMAL), MM_PRESSURE_NONE);
    rig_stop(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(downwards), cmocka_unit_test(scattered), cmocka_unit_test(hinted),
        cmocka_unit_test(lifetimes), cmocka_unit_test(areas),     cmocka_unit_test(spans),
        cmocka_unit_test(withheld),  cmocka_unit_test(counted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
