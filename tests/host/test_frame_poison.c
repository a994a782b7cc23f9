// SPDX-License-Identifier: MIT
/**
 * Poison: what is written to after it was freed is found by whoever gets it next, by whichever way;
 * and nobody else hears of it. Hazards 2, 16.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "check.h"
#include "frame_memory.h"

#define POISON MM_FRAME_POISON
#define FIRST  1024u /* of memory of two lines */

static const uint64_t ranges[] = {FIRST * FRAME, 4 * MIB, 0, 0};

static bool poisoned(const struct memory *m, mm_pfn_t first, uint64_t nr)
{
    return memory_holds(m, first, nr, POISON);
}

/* ---- filling ----------------------------------------------------------------------------------- */

static void test_what_is_freed_is_filled(void **state)
{
    struct memory m;
    mm_pfn_t list[40];
    size_t done;

    (void)state;
    for (unsigned by_ops = 0; by_ops < 2; by_ops++) {
        memory_make(&m, ranges, NULL);
        if (by_ops != 0) {
            memory_by_ops(&m);
        }
        memory_up(&m, MM_FRAMES_POISON | MM_FRAMES_REFCOUNTS);
        for (uint32_t order = 0; order <= 10; order++) {
            list[0] = memory_alloc(&m, order, 0);
            memory_fill(&m, list[0], UINT64_C(1) << order, order);
            mm_frame_free(&m.rig.frames, list[0], order);
            assert_true(poisoned(&m, list[0], UINT64_C(1) << order));
            rig_check(&m.rig);
        }
        list[0] = memory_alloc(&m, 8, 0);
        memory_fill(&m, list[0], 256, 1);
        mm_frame_free_run(&m.rig.frames, list[0], 200);
        assert_true(poisoned(&m, list[0], 200));
        assert_true(memory_holds(&m, mm_pfn(list[0].raw + 200), 56, 1)); /* not freed */
        assert_int_equal(mm_frame_alloc_bulk(&m.rig.frames, 0, list, 40, &done), MM_OK);
        for (unsigned i = 0; i < 40; i++) {
            memory_fill(&m, list[i], 1, i);
        }
        mm_frame_free_bulk(&m.rig.frames, list, 20);
        for (unsigned i = 20; i < 40; i++) {
            mm_frame_get(&m.rig.frames, list[i]);
            assert_false(mm_frame_put(&m.rig.frames, list[i]));
            assert_true(memory_holds(&m, list[i], 1, i));
            assert_true(mm_frame_put(&m.rig.frames, list[i]));
        }
        for (unsigned i = 0; i < 40; i++) {
            assert_true(poisoned(&m, list[i], 1));
        }
        memory_stop(&m);
    }
}

/* What was never freed holds whatever it likes. */
static void test_fresh_memory(void **state)
{
    struct memory m;
    mm_pfn_t pfn;

    (void)state;
    memory_start(&m, ranges, NULL, MM_FRAMES_POISON);
    pfn = memory_alloc(&m, 10, 0);
    assert_int_equal(pfn.raw, FIRST);
    mm_frame_free_run(&m.rig.frames, pfn, 100);
    mm_frame_free_run(&m.rig.frames, mm_pfn(FIRST + 100), 924);
    for (uint32_t order = 0; order <= 10; order++) {
        pfn = memory_alloc(&m, order, order % 2 != 0 ? MM_FRAME_ZERO : 0);
        memory_fill(&m, pfn, UINT64_C(1) << order, 3);
        mm_frame_free(&m.rig.frames, pfn, order);
    }
    memory_stop(&m);
}

/* ---- finding ----------------------------------------------------------------------------------- */

#define NR_WAYS 21u

/* Ways to get hold of frame `pfn` of the upper line, of which it is the last that is free, or of all
 * of that line, which is free. Leaves by a panic if the frame was written to. */
static void get_hold_of(struct memory *m, unsigned way, mm_pfn_t pfn)
{
    struct mm_frames *frames = &m->rig.frames;
    struct mm_frame_request request = {0};
    mm_pfn_t list[2 * LINE];
    uint64_t ignored;
    size_t done;

    switch (way) {
    case 0:
        (void)!mm_frame_alloc_on(frames, 0, list);
        return;
    case 1:
        (void)!mm_frame_alloc(frames, NULL, list);
        return;
    case 2:
        (void)!mm_frame_alloc_bulk(frames, 0, list, 1, &done);
        return;
    case 3:
        (void)!mm_frame_alloc_bulk(frames, 1, list, LINE, &done);
        return;
    case 4:
        (void)!mm_frame_alloc_at(frames, pfn, 1);
        return;
    case 5:
        request.nr_frames = 1;
        break;
    case 6:
        request.lowest = mm_paddr(pfn.raw * FRAME);
        break;
    case 7:
        request.highest = mm_paddr(pfn.raw * FRAME + 4095);
        break;
    /* From here on the line is free as a whole. */
    case 8:
        (void)!mm_frame_alloc_at(frames, mm_pfn(FIRST + LINE), LINE);
        return;
    case 9:
        (void)!mm_frame_remove(frames, mm_prange(mm_paddr((FIRST + LINE) * FRAME), LINE * FRAME));
        return;
    case 10:
        request.nr_frames = LINE;
        break;
    case 11:
        (void)!mm_frame_prezero(frames, 1, &ignored);
        return;
    default:
        request.order = way - 11; /* 1 to 9: the frame is one of the lowest, or in all of it */
        break;
    }
    (void)!mm_frame_alloc(frames, &request, list);
}

static void test_written_after_free(void **state)
{
    static const unsigned words[] = {0, 1, 255, 510, 511};
    struct t_trap_info info;
    struct memory m;

    (void)state;
    for (unsigned way = 0; way < NR_WAYS; way++) {
        for (unsigned i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
            mm_pfn_t pfn = {FIRST + LINE + (way < 8 ? 300 : 0)};
            uint64_t word = words[i];

            memory_start(&m, ranges, NULL, MM_FRAMES_POISON | MM_FRAMES_KNOWN_ZERO);
            assert_int_equal(mm_frame_alloc_at(&m.rig.frames, mm_pfn(FIRST), 2 * LINE), MM_OK);
            if (way < 8) {
                mm_frame_free(&m.rig.frames, pfn, 0);
            } else {
                mm_frame_free_run(&m.rig.frames, mm_pfn(FIRST + LINE), LINE);
            }
            memory_words(&m, pfn)[word] ^= UINT64_C(1) << (8 * i);
            T_EXPECT_PANIC(get_hold_of(&m, way, pfn), &info);
            assert_string_equal(info.room, "frame");
            assert_string_equal(info.what, "written to after it was freed");
            assert_int_equal(info.address, pfn.raw * FRAME + word * 8);
            assert_int_equal(info.recorded_value, POISON);
            assert_int_equal(info.claimed_value, POISON ^ UINT64_C(1) << (8 * i));
            /* The same without the fault. */
            assert_int_equal(mm_frame_destroy(&m.rig.frames), MM_OK);
            memset(m.rig.config.metadata, 0, m.rig.config.metadata_len);
            assert_int_equal(mm_frame_init(&m.rig.frames, &m.rig.config), MM_OK);
            assert_int_equal(mm_frame_alloc_at(&m.rig.frames, mm_pfn(FIRST), 2 * LINE), MM_OK);
            mm_frame_free_run(&m.rig.frames, way < 8 ? pfn : mm_pfn(FIRST + LINE),
                              way < 8 ? 1 : LINE);
            get_hold_of(&m, way, pfn);
            memory_stop(&m);
        }
    }
}

/* The last look, past all summaries: as when others correct them all the time, so that they hide
 * what there is. */
static void test_last_look(void **state)
{
    struct t_trap_info info;
    struct memory m;

    (void)state;
    for (unsigned way = 0; way < NR_WAYS; way++) {
        mm_pfn_t pfn = {FIRST + LINE + (way < 8 ? 300 : LINE - 1)}; /* from the top down */

        if (way == 4 || way == 8 || way == 9 || way == 11) {
            continue; /* these search for nothing */
        }
        memory_start(&m, ranges, NULL, MM_FRAMES_POISON);
        assert_int_equal(mm_frame_alloc_at(&m.rig.frames, mm_pfn(FIRST), 2 * LINE), MM_OK);
        mm_frame_free_run(&m.rig.frames, way < 8 ? pfn : mm_pfn(FIRST + LINE), way < 8 ? 1 : LINE);
        memory_words(&m, pfn)[5] = 0;
        m.rig.frames.groups[0] = 0; /* no line has a free frame, */
        m.rig.frames.groups[1] = 0; /* and none is whole */
        m.rig.frames.unsettled = 1;
        T_EXPECT_PANIC(get_hold_of(&m, way, pfn), &info);
        assert_string_equal(info.what, "written to after it was freed");
        assert_int_equal(info.address, pfn.raw * FRAME + 40);
        assert_int_equal(mm_frame_destroy(&m.rig.frames), MM_OK);
        free(m.rig.config.metadata);
        t_ram_delete(m.ram);
    }
}

/* Each frame of a block, of a row and of a list is looked at. */
static void test_each_frame(void **state)
{
    struct t_trap_info info;
    struct memory m;
    mm_pfn_t list[2 * LINE];
    size_t done;

    (void)state;
    for (uint64_t at = 0; at < 2 * LINE; at += 61) {
        for (unsigned bulk = 0; bulk < 2; bulk++) {
            memory_start(&m, ranges, NULL, MM_FRAMES_POISON);
            mm_frame_free(&m.rig.frames, memory_alloc(&m, 10, 0), 10);
            memory_words(&m, mm_pfn(FIRST + at))[7] = 0;
            if (bulk != 0) {
                T_EXPECT_PANIC((void)!mm_frame_alloc_bulk(&m.rig.frames, 0, list, 2 * LINE, &done),
                               &info);
            } else {
                T_EXPECT_PANIC((void)memory_alloc(&m, 10, 0), &info);
            }
            assert_int_equal(info.address, (FIRST + at) * FRAME + 56);
            assert_int_equal(mm_frame_destroy(&m.rig.frames), MM_OK);
            free(m.rig.config.metadata);
            t_ram_delete(m.ram);
        }
    }
}

/* ---- what is no reason to panic ---------------------------------------------------------------- */

/* A claim that is given back has neither looked nor forgotten. */
static void test_claims_given_back(void **state)
{
    struct t_trap_info info;
    struct memory m;
    mm_pfn_t pfn = {FIRST + 100};

    (void)state;
    memory_start(&m, ranges, NULL, MM_FRAMES_POISON);
    assert_int_equal(mm_frame_alloc_at(&m.rig.frames, mm_pfn(FIRST), 2 * LINE), MM_OK);
    mm_frame_free_run(&m.rig.frames, mm_pfn(FIRST), 2 * LINE - 1);
    memory_words(&m, pfn)[9] = 1;
    assert_int_equal(mm_frame_alloc_at(&m.rig.frames, mm_pfn(FIRST), 2 * LINE), MM_ERR_BUSY);
    assert_int_equal(
        mm_frame_remove(&m.rig.frames, mm_prange(mm_paddr(FIRST * FRAME), 2 * LINE * FRAME)),
        MM_ERR_BUSY);
    rig_check(&m.rig);
    T_EXPECT_PANIC((void)!mm_frame_alloc_at(&m.rig.frames, pfn, 1), &info);
    assert_int_equal(info.address, pfn.raw * FRAME + 72);
    memory_words(&m, pfn)[9] = POISON;
    assert_int_equal(mm_frame_alloc_at(&m.rig.frames, mm_pfn(FIRST), 100), MM_OK);
    assert_int_equal(mm_frame_destroy(&m.rig.frames), MM_OK);
    free(m.rig.config.metadata);
    t_ram_delete(m.ram);
}

/* Where nothing can be mapped there is no poison, and nothing is looked at. */
static void test_what_cannot_be_mapped(void **state)
{
    struct mm_frame_request zero = {.order = 3, .flags = MM_FRAME_ZERO};
    struct memory m;
    mm_pfn_t pfn;

    (void)state;
    memory_make(&m, ranges, NULL);
    memory_by_ops(&m);
    memory_up(&m, MM_FRAMES_POISON);
    pfn = memory_alloc(&m, 3, 0);
    memory_fill(&m, pfn, 8, 1);
    m.maps_left = m.nr_maps + 4;
    mm_frame_free(&m.rig.frames, pfn, 3);
    assert_true(poisoned(&m, pfn, 4));
    assert_true(memory_holds(&m, mm_pfn(pfn.raw + 4), 4, 1));
    rig_check(&m.rig);
    m.maps_left = UINT64_MAX;
    memory_words(&m, pfn)[4 * WORDS] = 2; /* not marked */
    assert_int_equal(memory_alloc(&m, 3, 0).raw, pfn.raw);
    mm_frame_free(&m.rig.frames, pfn, 3);
    /* Marked, and then it cannot be looked at. */
    m.maps_left = m.nr_maps;
    memory_words(&m, pfn)[1] = 2;
    assert_int_equal(memory_alloc(&m, 3, 0).raw, pfn.raw);
    m.maps_left = UINT64_MAX;
    mm_frame_free(&m.rig.frames, pfn, 3);
    /* Looked at, half zeroed, and given back. */
    m.maps_left = m.nr_maps + 8 + 4;
    assert_int_equal(mm_frame_alloc(&m.rig.frames, &zero, &pfn), MM_ERR_FAULT);
    m.maps_left = UINT64_MAX;
    rig_check(&m.rig);
    assert_int_equal(memory_alloc(&m, 3, 0).raw, pfn.raw);
    memory_stop(&m);

    /* A direct map of a part. */
    memory_make(&m, ranges, NULL);
    m.physmap.first = mm_paddr(FIRST * FRAME);
    m.physmap.len = 2 * MIB;
    memory_up(&m, MM_FRAMES_POISON);
    pfn = memory_alloc(&m, 10, 0);
    memory_fill(&m, pfn, 2 * LINE, 1);
    mm_frame_free(&m.rig.frames, pfn, 10);
    assert_true(poisoned(&m, pfn, LINE));
    assert_true(memory_holds(&m, mm_pfn(FIRST + LINE), LINE, 1));
    (void)memory_alloc(&m, 10, 0);
    memory_stop(&m);
}

/* Removed memory may hold anything when it comes back; so may what was zeroed ahead of time. */
static void test_other_contents(void **state)
{
    struct memory m;
    mm_pfn_t pfn;
    uint64_t done;

    (void)state;
    memory_start(&m, ranges, NULL, MM_FRAMES_POISON | MM_FRAMES_KNOWN_ZERO);
    mm_frame_free(&m.rig.frames, memory_alloc(&m, 10, 0), 10);
    assert_int_equal(mm_frame_remove(&m.rig.frames, mm_prange(mm_paddr(FIRST * FRAME), 2 * MIB)),
                     MM_OK);
    rig_check(&m.rig);
    t_ram_junk(m.ram, FIRST * FRAME, 2 * MIB, 9);
    assert_int_equal(mm_frame_add(&m.rig.frames, mm_prange(mm_paddr(FIRST * FRAME), 2 * MIB), NULL),
                     MM_OK);
    pfn = memory_alloc(&m, 10, 0);
    mm_frame_free(&m.rig.frames, pfn, 10);
    assert_int_equal(mm_frame_prezero(&m.rig.frames, 9, &done), MM_OK);
    assert_int_equal(done, 2);
    rig_check(&m.rig);
    m.nr_zeroed = 0;
    pfn = memory_alloc(&m, 10, MM_FRAME_ZERO);
    assert_int_equal(m.nr_zeroed, 0);
    assert_true(memory_holds(&m, pfn, 2 * LINE, 0));
    memory_stop(&m);
}

static void test_a_mark_of_a_frame_in_use(void **state)
{
    struct memory m;
    uint64_t row;

    (void)state;
    memory_start(&m, ranges, NULL, MM_FRAMES_POISON);
    mm_frame_free(&m.rig.frames, memory_alloc(&m, 6, 0), 6);
    rig_check(&m.rig);
    row = (memory_alloc(&m, 6, 0).raw - FIRST) / 64;
    m.rig.frames.poisoned[row] = 1;
    assert_int_equal(mm_frame_check(&m.rig.frames), MM_ERR_CORRUPTED);
    assert_int_equal(m.rig.nr_complaints, 1);
    m.rig.frames.poisoned[row] = 0;
    m.rig.nr_complaints = 0;
    memory_stop(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_freed_is_filled),
        cmocka_unit_test(test_fresh_memory),
        cmocka_unit_test(test_written_after_free),
        cmocka_unit_test(test_last_look),
        cmocka_unit_test(test_each_frame),
        cmocka_unit_test(test_claims_given_back),
        cmocka_unit_test(test_what_cannot_be_mapped),
        cmocka_unit_test(test_other_contents),
        cmocka_unit_test(test_a_mark_of_a_frame_in_use),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
