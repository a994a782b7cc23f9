// SPDX-License-Identifier: MIT
/**
 * Zeroing: what is asked for as zero is zero, past the caches or not, and what is believed to be
 * zero is. Hazards 2, 16, 33.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "check.h"
#include "frame_memory.h"

#include <mm/arch/x86_64.h>

#define PAST  MM_FRAME_ZERO_PAST_CACHE
#define ORDER 9u

static uint32_t order_of(uint64_t len)
{
    uint32_t order = 0;

    while (FRAME << order < len) {
        order++;
    }
    return order;
}

static uint64_t prezero(struct memory *m, uint64_t nr)
{
    uint64_t done = UINT64_MAX;

    assert_int_equal(mm_frame_prezero(&m->rig.frames, nr, &done), MM_OK);
    rig_check(&m->rig);
    return done;
}

/* ---- the ways of zeroing ----------------------------------------------------------------------- */

static void test_zeroing(void **state)
{
    const uint64_t ranges[] = {4 * MIB, 16 * MIB, 0, 0};
    const uint32_t from = order_of(PAST);
    struct memory m;

    (void)state;
    for (unsigned by_ops = 0; by_ops < 2; by_ops++) {
        memory_make(&m, ranges, NULL);
        if (by_ops != 0) {
            memory_by_ops(&m);
        }
        memory_up(&m, 0);
        for (uint32_t order = 0; order <= 11; order++) {
            mm_pfn_t pfn;

            m.nr_zeroed = 0;
            m.nr_calls = 0;
            pfn = memory_alloc(&m, order, MM_FRAME_ZERO);
            assert_true(memory_holds(&m, pfn, UINT64_C(1) << order, 0));
            assert_int_equal(m.nr_zeroed, order < from ? 0 : FRAME << order);
            assert_int_equal(m.nr_calls,
                             order < from ? 0 : (by_ops != 0 ? UINT64_C(1) << order : 1));
            memory_fill(&m, pfn, UINT64_C(1) << order, 5);
            mm_frame_free(&m.rig.frames, pfn, order);
        }
        memory_stop(&m);
    }
}

/* Without the op, large blocks are zeroed like others; with no room to map, none is taken. */
static void test_without_ops(void **state)
{
    const uint64_t ranges[] = {4 * MIB, 4 * MIB, 0, 0};
    struct mm_frame_request request = {.order = ORDER, .flags = MM_FRAME_ZERO};
    struct memory m;
    mm_pfn_t pfn = {3};

    (void)state;
    memory_make(&m, ranges, NULL);
    m.ops.zero = NULL;
    memory_up(&m, 0);
    pfn = memory_alloc(&m, ORDER, MM_FRAME_ZERO);
    assert_true(memory_holds(&m, pfn, LINE, 0));
    mm_frame_free(&m.rig.frames, pfn, ORDER);
    memory_stop(&m);

    memory_make(&m, ranges, NULL);
    memory_by_ops(&m);
    memory_up(&m, MM_FRAMES_KNOWN_ZERO);
    pfn.raw = 3;
    for (m.maps_left = 0; m.maps_left < LINE; m.maps_left += 73) {
        m.nr_maps = 0;
        assert_int_equal(mm_frame_alloc(&m.rig.frames, &request, &pfn), MM_ERR_FAULT);
        assert_int_equal(pfn.raw, 3);
        assert_int_equal(rig_stats(&m.rig).nr_allocated, 0);
        rig_check(&m.rig);
    }
    m.nr_maps = 0;
    m.maps_left = LINE;
    pfn = memory_alloc(&m, ORDER, MM_FRAME_ZERO);
    assert_true(memory_holds(&m, pfn, LINE, 0));
    memory_stop(&m);
}

static void test_x86_64(void **state)
{
    const uint64_t lengths[] = {0, 64, 128, FRAME, FRAME + 64, 60 * KIB};
    const uint64_t len = 64 * KIB;
    uint8_t *at = aligned_alloc(FRAME, len);

    (void)state;
    assert_non_null(at);
    for (unsigned which = 0; which < sizeof(lengths) / sizeof(lengths[0]); which++) {
        uint64_t nr = lengths[which];

        memset(at, 0xa5, len);
        mm_x86_64_zero_past_cache(NULL, at + 64, nr);
        for (uint64_t i = 0; i < len; i++) {
            assert_int_equal(at[i], i >= 64 && i < 64 + nr ? 0 : 0xa5);
        }
    }
    memset(at, 0xa5, len);
    mm_x86_64_zero_past_cache(NULL, at, len);
    for (uint64_t i = 0; i < len; i++) {
        assert_int_equal(at[i], 0);
    }
    free(at);
}

/* ---- ahead of time ----------------------------------------------------------------------------- */

static void test_prezero(void **state)
{
    const uint64_t ranges[] = {4 * MIB, 8 * MIB, 16 * MIB, 1 * MIB, 0, 0};
    struct memory m;
    mm_pfn_t pfn;

    (void)state;
    memory_start(&m, ranges, NULL, MM_FRAMES_KNOWN_ZERO);
    assert_int_equal(prezero(&m, 0), 0);
    assert_int_equal(m.nr_zeroed, 0);
    assert_int_equal(prezero(&m, 1), 1);
    assert_int_equal(m.nr_zeroed, 2 * MIB);
    assert_int_equal(prezero(&m, 2), 2);
    assert_int_equal(prezero(&m, 9), 1); /* and no half line */
    assert_int_equal(prezero(&m, 9), 0);
    assert_int_equal(m.nr_zeroed, 8 * MIB);
    assert_int_equal(rig_stats(&m.rig).nr_allocated, 0);
    /* Found done. */
    pfn = memory_alloc(&m, ORDER + 1, MM_FRAME_ZERO);
    assert_true(memory_holds(&m, pfn, 2 * LINE, 0));
    assert_int_equal(m.nr_zeroed, 8 * MIB);
    /* Used, and given back: zeroed again, and then no longer known. */
    memory_fill(&m, pfn, 2 * LINE, 1);
    mm_frame_free(&m.rig.frames, pfn, ORDER + 1);
    assert_int_equal(prezero(&m, 9), 2);
    assert_int_equal(m.nr_zeroed, 12 * MIB);
    for (unsigned i = 0; i < 4; i++) {
        pfn = memory_alloc(&m, ORDER, MM_FRAME_ZERO);
        assert_true(memory_holds(&m, pfn, LINE, 0));
        memory_fill(&m, pfn, LINE, 1);
        assert_int_equal(prezero(&m, 9), 0); /* a block in use is nobody else's */
        assert_true(memory_holds(&m, pfn, LINE, 1));
    }
    assert_int_equal(m.nr_zeroed, 12 * MIB);
    memory_stop(&m);
}

static void test_prezero_arguments(void **state)
{
    const uint64_t ranges[] = {4 * MIB, 4 * MIB, 0, 0};
    struct mm_frames dead = {0};
    struct memory m;
    uint64_t done = 7;

    (void)state;
    memory_start(&m, ranges, NULL, 0);
    assert_int_equal(mm_frame_prezero(&m.rig.frames, 1, &done), MM_ERR_UNSUPPORTED);
    assert_int_equal(mm_frame_prezero(NULL, 1, &done), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_frame_prezero(&m.rig.frames, 1, NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_frame_prezero(&dead, 1, &done), MM_ERR_NOT_INITIALIZED);
    memory_stop(&m);

    /* The op maps one line and a half. */
    memory_make(&m, ranges, NULL);
    memory_by_ops(&m);
    memory_up(&m, MM_FRAMES_KNOWN_ZERO);
    m.maps_left = LINE + LINE / 2;
    assert_int_equal(mm_frame_prezero(&m.rig.frames, 2, &done), MM_ERR_FAULT);
    assert_int_equal(done, 7);
    assert_int_equal(rig_stats(&m.rig).nr_allocated, 0);
    m.nr_maps = 0;
    m.maps_left = UINT64_MAX;
    for (unsigned i = 0; i < 2; i++) {
        assert_true(memory_holds(&m, memory_alloc(&m, ORDER, MM_FRAME_ZERO), LINE, 0));
    }
    assert_int_equal(m.nr_maps, LINE); /* the first line was known to be zero, the second not */
    memory_stop(&m);
}

/* The reserve is there at every moment, and what a direct map does not reach is left alone. */
static void test_prezero_leaves_alone(void **state)
{
    const uint64_t ranges[] = {4 * MIB, 8 * MIB, 0, 0};
    struct memory m;

    (void)state;
    memory_make(&m, ranges, NULL);
    m.rig.config.nr_reserve = 1;
    memory_up(&m, MM_FRAMES_KNOWN_ZERO);
    assert_int_equal(prezero(&m, 9), 3);
    memory_stop(&m);

    memory_make(&m, ranges, NULL);
    m.physmap.first = mm_paddr(4 * MIB);
    m.physmap.len = 5 * MIB;
    memory_up(&m, MM_FRAMES_KNOWN_ZERO);
    assert_int_equal(prezero(&m, 9), 2);
    assert_int_equal(m.nr_zeroed, 4 * MIB);
    memory_stop(&m);
}

/* Whoever wants zeroes gets a block that is done, where there is one near. */
static void test_marked_lines_first(void **state)
{
    const uint64_t ranges[] = {4 * MIB, 8 * MIB, 0, 0};
    struct memory m;
    mm_pfn_t high;

    (void)state;
    memory_start(&m, ranges, NULL, MM_FRAMES_KNOWN_ZERO);
    high = memory_alloc(&m, ORDER, 0);
    assert_int_equal(prezero(&m, 1), 1); /* the second from above */
    mm_frame_free(&m.rig.frames, high, ORDER);
    m.nr_zeroed = 0;
    assert_int_equal(memory_alloc(&m, ORDER, MM_FRAME_ZERO).raw, high.raw - LINE);
    assert_int_equal(m.nr_zeroed, 0);
    assert_int_equal(memory_alloc(&m, ORDER, MM_FRAME_ZERO).raw, high.raw);
    assert_int_equal(m.nr_zeroed, 2 * MIB);
    memory_stop(&m);
}

/* ---- nobody believes too much ------------------------------------------------------------------ */

#define NR_TAKEN 64u

struct taken {
    mm_pfn_t pfns[NR_TAKEN];
    uint32_t nr;  /* pieces, */
    uint64_t len; /* of so many frames */
};

/* Ways to get frames of the only line there is. */
static void take(struct memory *m, unsigned way, struct taken *out)
{
    struct mm_frames *frames = &m->rig.frames;
    struct mm_frame_request request = {0};
    size_t done;

    out->nr = 1;
    out->len = 1;
    switch (way) {
    case 0:
        assert_int_equal(mm_frame_alloc_on(frames, 1, &out->pfns[0]), MM_OK);
        return;
    case 1:
        assert_int_equal(mm_frame_alloc_bulk(frames, 0, out->pfns, NR_TAKEN, &done), MM_OK);
        out->nr = NR_TAKEN;
        return;
    case 2:
        out->pfns[0] = mm_pfn(1024 + 70);
        out->len = 100;
        assert_int_equal(mm_frame_alloc_at(frames, out->pfns[0], out->len), MM_OK);
        return;
    case 3:
        request.nr_frames = out->len = 130;
        break;
    default:
        request.order = way - 4;
        out->len = UINT64_C(1) << request.order;
        break;
    }
    assert_int_equal(mm_frame_alloc(frames, &request, &out->pfns[0]), MM_OK);
}

#define NR_TAKES (4u + ORDER + 1u)

/* And to give them back. */
static void give(struct memory *m, unsigned way, const struct taken *taken)
{
    struct mm_frames *frames = &m->rig.frames;

    for (uint32_t i = 0; i < taken->nr; i++) {
        mm_pfn_t list[LINE];

        for (uint64_t j = 0; j < taken->len; j++) {
            list[j].raw = taken->pfns[i].raw + j;
        }
        switch (way) {
        case 0:
            for (uint64_t j = 0; j < taken->len; j++) {
                mm_frame_free(frames, list[j], 0);
            }
            break;
        case 1:
            mm_frame_free_run(frames, list[0], taken->len);
            break;
        case 2:
            mm_frame_free_bulk(frames, list, taken->len);
            break;
        default:
            for (uint64_t j = 0; j < taken->len; j++) {
                assert_true(mm_frame_put(frames, list[j]));
            }
            break;
        }
    }
}

#define NR_GIVES 4u

static void test_used_frames_are_not_zero(void **state)
{
    const uint64_t ranges[] = {4 * MIB, 2 * MIB, 0, 0};
    const uint32_t flags[] = {MM_FRAMES_KNOWN_ZERO,
                              MM_FRAMES_KNOWN_ZERO | MM_FRAMES_REFCOUNTS | MM_FRAMES_OWNERS,
                              MM_FRAMES_FLAGS_ALL};
    struct memory m;
    mm_pfn_t pfn;

    (void)state;
    for (unsigned which = 0; which < 3; which++) {
        memory_start(&m, ranges, NULL, flags[which]);
        for (unsigned i = 0; i < NR_TAKES * NR_GIVES; i++) {
            struct taken taken;

            (void)prezero(&m, 1);
            m.nr_zeroed = 0;
            take(&m, i / NR_GIVES, &taken);
            for (uint32_t j = 0; j < taken.nr; j++) {
                memory_fill(&m, taken.pfns[j], taken.len, i + 1);
            }
            give(&m, i % NR_GIVES, &taken);
            pfn = memory_alloc(&m, ORDER, MM_FRAME_ZERO);
            assert_true(memory_holds(&m, pfn, LINE, 0));
            assert_int_equal(m.nr_zeroed, 2 * MIB);
            memory_words(&m, pfn)[WORDS * LINE - 1] = 1;
            mm_frame_free(&m.rig.frames, pfn, ORDER);
        }
        memory_stop(&m);
    }
}

/* A claim that is given back unseen wrote nothing; a line that was removed is another one. */
static void test_marks_and_claims(void **state)
{
    const uint64_t ranges[] = {4 * MIB, 6 * MIB, 0, 0};
    struct memory m;
    mm_pfn_t pfn;

    (void)state;
    memory_start(&m, ranges, NULL, MM_FRAMES_KNOWN_ZERO);
    assert_int_equal(mm_frame_alloc_at(&m.rig.frames, mm_pfn(10 * MIB / FRAME - 1), 1), MM_OK);
    assert_int_equal(prezero(&m, 9), 2);
    assert_int_equal(mm_frame_alloc_at(&m.rig.frames, mm_pfn(1024), 3 * LINE), MM_ERR_BUSY);
    assert_int_equal(mm_frame_remove(&m.rig.frames, mm_prange(mm_paddr(4 * MIB), 6 * MIB)),
                     MM_ERR_BUSY);
    m.nr_zeroed = 0;
    pfn = memory_alloc(&m, ORDER, MM_FRAME_ZERO);
    assert_true(memory_holds(&m, pfn, LINE, 0));
    assert_int_equal(pfn.raw, 1024 + LINE);
    assert_int_equal(m.nr_zeroed, 0);
    assert_int_equal(mm_frame_remove(&m.rig.frames, mm_prange(mm_paddr(4 * MIB), 2 * MIB)), MM_OK);
    t_ram_junk(m.ram, 4 * MIB, 2 * MIB, 8);
    assert_int_equal(mm_frame_add(&m.rig.frames, mm_prange(mm_paddr(4 * MIB), 2 * MIB), NULL),
                     MM_OK);
    pfn = memory_alloc(&m, ORDER, MM_FRAME_ZERO);
    assert_int_equal(pfn.raw, 1024);
    assert_true(memory_holds(&m, pfn, LINE, 0));
    memory_stop(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_zeroing),
        cmocka_unit_test(test_without_ops),
        cmocka_unit_test(test_x86_64),
        cmocka_unit_test(test_prezero),
        cmocka_unit_test(test_prezero_arguments),
        cmocka_unit_test(test_prezero_leaves_alone),
        cmocka_unit_test(test_marked_lines_first),
        cmocka_unit_test(test_used_frames_are_not_zero),
        cmocka_unit_test(test_marks_and_claims),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
