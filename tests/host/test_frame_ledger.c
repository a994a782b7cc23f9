// SPDX-License-Identifier: MIT
/**
 * The ledger of frames, first part: references and pins. What they count, what saturates, who frees,
 * and every panic with its words and values.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ledger_rig.h"

/* --- what is counted -------------------------------------------------------------------------- */

static void references_and_pins(void **state)
{
    static struct rig rig;
    mm_pfn_t pfn;

    (void)state;
    ledger_start(&rig, MM_FRAMES_REFCOUNTS);
    pfn = rig_alloc(&rig, 0);
    COUNTS(rig, pfn, 1, 0);
    mm_frame_pin(&rig.frames, pfn);
    COUNTS(rig, pfn, 1, 1);
    mm_frame_get(&rig.frames, pfn);
    mm_frame_pin(&rig.frames, pfn);
    COUNTS(rig, pfn, 2, 2);
    assert_false(mm_frame_unpin(&rig.frames, pfn));
    assert_false(mm_frame_put(&rig.frames, pfn));
    COUNTS(rig, pfn, 1, 1);
    /* A pin alone keeps the frame. */
    assert_false(mm_frame_put(&rig.frames, pfn));
    COUNTS(rig, pfn, 0, 1);
    assert_true(mm_frame_allocated(&rig.frames, pfn));
    mm_frame_get(&rig.frames, pfn); /* who has a pin may make a reference */
    COUNTS(rig, pfn, 1, 1);
    assert_false(mm_frame_put(&rig.frames, pfn));
    assert_true(mm_frame_unpin(&rig.frames, pfn));
    COUNTS(rig, pfn, 0, 0);
    assert_false(mm_frame_allocated(&rig.frames, pfn));
    /* It comes back with one reference. */
    assert_int_equal(mm_frame_alloc_at(&rig.frames, pfn, 1), MM_OK);
    COUNTS(rig, pfn, 1, 0);
    mm_frame_free(&rig.frames, pfn, 0);
    COUNTS(rig, mm_pfn(LEDGER_HOLE), 0, 0);
    COUNTS(rig, mm_pfn(LEDGER_ABSENT), 0, 0);
    COUNTS(rig, mm_pfn(UINT64_MAX), 0, 0);
    rig_stop(&rig);

    /* Without counts: one reference, no pin. */
    ledger_start(&rig, 0);
    pfn = rig_alloc(&rig, 0);
    COUNTS(rig, pfn, 1, 0);
    assert_true(mm_frame_put(&rig.frames, pfn));
    COUNTS(rig, pfn, 0, 0);
    rig_stop(&rig);
    assert_int_equal(mm_frame_pins(NULL, pfn), 0);
}

/* References, and pins beside them, near the top: the last step makes the frame immortal. */
static void saturation(void **state)
{
    static struct rig rig;
    mm_pfn_t pfn;

    (void)state;
    ledger_start(&rig, MM_FRAMES_REFCOUNTS);
    for (uint32_t pins = 0; pins < 3; pins++) {
        for (unsigned by_pin = 0; by_pin < 2; by_pin++) {
            pfn = rig_alloc(&rig, 0);
            ledger_poke(&rig, pfn, MM_FRAME_REFS_MAX - 1 - pins, pins);
            COUNTS(rig, pfn, MM_FRAME_REFS_MAX - 1 - pins, pins);
            mm_frame_get(&rig.frames, pfn);
            COUNTS(rig, pfn, MM_FRAME_REFS_MAX - pins, pins);
            rig_check(&rig);
            assert_false(mm_frame_put(&rig.frames, pfn)); /* down from the top */
            COUNTS(rig, pfn, MM_FRAME_REFS_MAX - 1 - pins, pins);
            mm_frame_pin(&rig.frames, pfn);
            COUNTS(rig, pfn, MM_FRAME_REFS_MAX - 1 - pins, pins + 1);
            (by_pin != 0 ? mm_frame_pin : mm_frame_get)(&rig.frames, pfn);
            COUNTS(rig, pfn, MM_FRAME_REF_IMMORTAL, MM_FRAME_REF_IMMORTAL);
        }
    }
    /* Pins alone, and beside one reference. */
    for (uint32_t refs = 0; refs < 3; refs++) {
        pfn = rig_alloc(&rig, 0);
        ledger_poke(&rig, pfn, refs, MM_FRAME_PINS_MAX - 1);
        mm_frame_pin(&rig.frames, pfn);
        COUNTS(rig, pfn, refs, MM_FRAME_PINS_MAX);
        rig_check(&rig);
        mm_frame_get(&rig.frames, pfn); /* pins are full, references are not */
        COUNTS(rig, pfn, refs + 1, MM_FRAME_PINS_MAX);
        assert_false(mm_frame_put(&rig.frames, pfn));
        assert_false(mm_frame_unpin(&rig.frames, pfn));
        COUNTS(rig, pfn, refs, MM_FRAME_PINS_MAX - 1);
        mm_frame_pin(&rig.frames, pfn);
        mm_frame_pin(&rig.frames, pfn);
        COUNTS(rig, pfn, MM_FRAME_REF_IMMORTAL, MM_FRAME_REF_IMMORTAL);
    }
    rig_stop(&rig);
}

/* Both fields at their top, without a poke: the steps up and the way down. */
static void all_the_way(void **state)
{
    static struct rig rig;
    mm_pfn_t pfn;

    (void)state;
    ledger_start(&rig, MM_FRAMES_REFCOUNTS);
    pfn = rig_alloc(&rig, 0);
    for (uint32_t i = 0; i < MM_FRAME_PINS_MAX; i++) {
        mm_frame_pin(&rig.frames, pfn);
    }
    assert_false(mm_frame_put(&rig.frames, pfn));
    COUNTS(rig, pfn, 0, MM_FRAME_PINS_MAX);
    for (uint32_t i = 0; i < MM_FRAME_PINS_MAX; i++) {
        assert_int_equal(mm_frame_unpin(&rig.frames, pfn), i + 1 == MM_FRAME_PINS_MAX);
    }
    pfn = rig_alloc(&rig, 0);
    for (uint32_t i = 1; i < MM_FRAME_REFS_MAX; i++) {
        mm_frame_get(&rig.frames, pfn);
    }
    COUNTS(rig, pfn, MM_FRAME_REFS_MAX, 0);
    rig_check(&rig);
    for (uint32_t i = 1; i < MM_FRAME_REFS_MAX; i++) {
        assert_false(mm_frame_put(&rig.frames, pfn));
    }
    assert_true(mm_frame_put(&rig.frames, pfn));
    assert_int_equal(rig_stats(&rig).nr_allocated, 0);
    rig_stop(&rig);
}

/* Nothing that is done to an immortal frame changes it. */
static void immortal(void **state)
{
    static struct rig rig;
    mm_pfn_t list[3];
    mm_pfn_t pfn;

    (void)state;
    ledger_start(&rig, MM_FRAMES_REFCOUNTS | MM_FRAMES_OWNERS);
    for (unsigned before = 0; before < 4; before++) {
        pfn = rig_alloc(&rig, 0);
        for (unsigned i = 0; i < before; i++) {
            (i % 2 != 0 ? mm_frame_get : mm_frame_pin)(&rig.frames, pfn);
        }
        mm_frame_make_immortal(&rig.frames, pfn);
        mm_frame_make_immortal(&rig.frames, pfn);
        mm_frame_get(&rig.frames, pfn);
        mm_frame_pin(&rig.frames, pfn);
        for (unsigned i = 0; i < 5; i++) {
            assert_false(mm_frame_put(&rig.frames, pfn));
            assert_false(mm_frame_unpin(&rig.frames, pfn));
            list[0] = list[1] = list[2] = pfn;
            assert_int_equal(mm_frame_put_bulk(&rig.frames, list, 3), 0);
        }
        COUNTS(rig, pfn, MM_FRAME_REF_IMMORTAL, MM_FRAME_REF_IMMORTAL);
        PANICS(rig, mm_frame_free(&rig.frames, pfn, 0), "free of an immortal frame", pfn.raw,
               "allocated, immortal", MM_FRAME_REF_IMMORTAL, "allocated, a block of order", 0);
        PANICS(rig, mm_frame_free_owned(&rig.frames, pfn, 1, MM_OWNER_NONE, 0),
               "free of an immortal frame", pfn.raw, "allocated, immortal", MM_FRAME_REF_IMMORTAL,
               "allocated, no owner", 0);
    }
    rig_stop(&rig);
}

/* Back among the others, with one reference, whatever it had before. */
static void mortal(void **state)
{
    static struct rig rig;
    mm_pfn_t pfn;

    (void)state;
    ledger_start(&rig, MM_FRAMES_REFCOUNTS);
    for (unsigned before = 0; before < 4; before++) {
        pfn = rig_alloc(&rig, 0);
        for (unsigned i = 0; i < before; i++) {
            (i % 2 != 0 ? mm_frame_get : mm_frame_pin)(&rig.frames, pfn);
        }
        mm_frame_make_immortal(&rig.frames, pfn);
        mm_frame_get(&rig.frames, pfn);
        mm_frame_pin(&rig.frames, pfn);
        rig_check(&rig);
        mm_frame_make_mortal(&rig.frames, pfn);
        COUNTS(rig, pfn, 1, 0);
        rig_check(&rig);
        mm_frame_get(&rig.frames, pfn);
        COUNTS(rig, pfn, 2, 0);
        PANICS(rig, mm_frame_make_mortal(&rig.frames, pfn),
               "a frame that is not immortal is made mortal", pfn.raw, "allocated, references", 2,
               "allocated, immortal until now", 0);
        assert_false(mm_frame_put(&rig.frames, pfn));
        assert_true(mm_frame_put(&rig.frames, pfn));
    }
    assert_int_equal(rig_stats(&rig).nr_allocated, 0);
    rig_stop(&rig);
}

/* --- lists ------------------------------------------------------------------------------------ */

static void puts_by_list(void **state)
{
    static struct rig rig;

    (void)state;
    for (uint32_t flags = 0; flags < 4; flags++) {
        mm_pfn_t list[300];
        size_t nr = 0;

        ledger_start(&rig, flags);
        assert_int_equal(mm_frame_put_bulk(&rig.frames, NULL, 0), 0);
        assert_int_equal(mm_frame_put_bulk(&rig.frames, list, 0), 0);
        assert_int_equal(mm_frame_alloc_bulk(&rig.frames, 0, list, 100, &nr), MM_OK);
        list[nr++] = mm_pfn(0); /* frame 0 has a span of its own; the next is not far */
        list[nr++] = mm_pfn(1);
        assert_int_equal(mm_frame_alloc_at(&rig.frames, mm_pfn(0), 2), MM_OK);
        if ((flags & MM_FRAMES_REFCOUNTS) == 0) {
            assert_int_equal(mm_frame_put_bulk(&rig.frames, list, nr), 102);
        } else {
            /* Each twice, once beside itself and once far from it; every third is pinned. */
            for (unsigned i = 0; i < 102; i++) {
                mm_frame_get(&rig.frames, list[i]);
                mm_frame_get(&rig.frames, list[i]);
                list[nr++] = list[i];
                if (i % 3 == 0) {
                    mm_frame_pin(&rig.frames, list[i]);
                }
            }
            assert_int_equal(mm_frame_put_bulk(&rig.frames, list, nr), 0);
            for (unsigned i = 0; i < 102; i++) {
                COUNTS(rig, list[i], 1, i % 3 == 0 ? 1 : 0);
            }
            assert_int_equal(mm_frame_put_bulk(&rig.frames, list, 102), 68);
            for (unsigned i = 0; i < 102; i++) {
                COUNTS(rig, list[i], 0, i % 3 == 0 ? 1 : 0);
                if (i % 3 == 0) {
                    assert_true(mm_frame_unpin(&rig.frames, list[i]));
                }
            }
        }
        assert_int_equal(rig_stats(&rig).nr_allocated, 0);
        rig_stop(&rig);
    }
    /* The last references of one frame, side by side: dropped, then freed. */
    ledger_start(&rig, MM_FRAMES_REFCOUNTS);
    {
        mm_pfn_t pfn = rig_alloc(&rig, 0);
        mm_pfn_t list[3] = {pfn, pfn, pfn};

        mm_frame_get(&rig.frames, pfn);
        mm_frame_get(&rig.frames, pfn);
        assert_int_equal(mm_frame_put_bulk(&rig.frames, list, 3), 1);
        assert_false(mm_frame_allocated(&rig.frames, pfn));
    }
    rig_stop(&rig);
}

/* --- runs ------------------------------------------------------------------------------------- */

static void puts_by_run(void **state)
{
    static struct rig rig;

    (void)state;
    for (uint32_t flags = 0; flags < 4; flags++) {
        const struct mm_frame_request request = {.nr_frames = 150};
        struct t_trap_info info;
        mm_pfn_t first;

        ledger_start(&rig, flags);
        assert_int_equal(mm_frame_put_run(&rig.frames, mm_pfn(0), 0), 0);
        assert_int_equal(mm_frame_alloc(&rig.frames, &request, &first), MM_OK);
        if ((flags & MM_FRAMES_REFCOUNTS) != 0) {
            /* Of each five: one shared, one pinned, and the others ours alone. */
            for (uint64_t i = 0; i < 150; i += 5) {
                mm_frame_get(&rig.frames, mm_pfn(first.raw + i));
                mm_frame_pin(&rig.frames, mm_pfn(first.raw + i + 1));
            }
            assert_int_equal(mm_frame_put_run(&rig.frames, first, 150), 90);
            for (uint64_t i = 0; i < 150; i++) {
                assert_int_equal(mm_frame_allocated(&rig.frames, mm_pfn(first.raw + i)), i % 5 < 2);
            }
            for (uint64_t i = 0; i < 150; i += 5) {
                COUNTS(rig, mm_pfn(first.raw + i), 1, 0);
                COUNTS(rig, mm_pfn(first.raw + i + 1), 0, 1);
                assert_int_equal(mm_frame_put_run(&rig.frames, mm_pfn(first.raw + i), 1), 1);
                assert_true(mm_frame_unpin(&rig.frames, mm_pfn(first.raw + i + 1)));
            }
        } else {
            assert_int_equal(mm_frame_put_run(&rig.frames, first, 150), 150);
        }
        assert_int_equal(rig_stats(&rig).nr_allocated, 0);
        T_EXPECT_PANIC((void)mm_frame_put_run(&rig.frames, first, 150), &info);
        assert_string_equal(info.what, "double free of a frame");
        T_EXPECT_PANIC((void)mm_frame_put_run(&rig.frames, mm_pfn(LEDGER_HOLE), 1), &info);
        assert_string_equal(info.what, "free of a frame that is not managed");
        assert_int_equal(mm_frame_check(&rig.frames), MM_OK);
        rig_stop(&rig);
    }
}

#define MORE   "a frame more often in the list than it has references"
#define BYLIST "allocated, references less by a list"

static void panics_of_lists(void **state)
{
    static struct rig rig;
    struct t_trap_info info;

    (void)state;
    ledger_start(&rig, MM_FRAMES_REFCOUNTS);
    {
        mm_pfn_t a = rig_alloc(&rig, 0);
        mm_pfn_t twice[2] = {a, a};
        mm_pfn_t pinned[1] = {rig_alloc(&rig, 0)};
        mm_pfn_t absent[1] = {{LEDGER_ABSENT}};
        mm_pfn_t hole[1] = {{LEDGER_HOLE}};
        mm_pfn_t behind[3] = {{158}, {157}, {160}}; /* the last in the row, but in no span */

        PANICS(rig, (void)mm_frame_put_bulk(&rig.frames, twice, 2), MORE, a.raw,
               "allocated, references", 1, BYLIST, 2);
        mm_frame_pin(&rig.frames, pinned[0]);
        assert_int_equal(mm_frame_put_bulk(&rig.frames, pinned, 1), 0);
        PANICS(rig, (void)mm_frame_put_bulk(&rig.frames, pinned, 1),
               "put of a frame that only pins keep", pinned[0].raw, "allocated, pins", 1, BYLIST,
               1);
        PANICS(rig, (void)mm_frame_put_bulk(&rig.frames, NULL, 3),
               "put of a list of frames that is not there", 0, "free", 0, BYLIST, 3);
        PANICS(rig, (void)mm_frame_put_bulk(&rig.frames, absent, 1),
               "free of a frame that is not managed", LEDGER_ABSENT, "reserved: absent memory", 0,
               BYLIST, 1);
        PANICS(rig, (void)mm_frame_put_bulk(&rig.frames, hole, 1),
               "free of a frame that is not managed", LEDGER_HOLE, "reserved: not usable memory", 0,
               BYLIST, 1);
        mm_frame_free(&rig.frames, a, 0);
        PANICS(rig, (void)mm_frame_put_bulk(&rig.frames, twice, 2), "double free of a frame", a.raw,
               "free", 0, BYLIST, 2);
        assert_int_equal(mm_frame_alloc_at(&rig.frames, mm_pfn(157), 2), MM_OK);
        T_EXPECT_PANIC((void)mm_frame_put_bulk(&rig.frames, behind, 3), &info);
        assert_string_equal(info.what, "free of a frame that is not managed");
        assert_int_equal(info.address, 160 * 4096);
        assert_false(mm_frame_allocated(&rig.frames, mm_pfn(157))); /* those before are done */
    }
    rig_stop(&rig);
    T_EXPECT_SIGILL((void)mm_frame_put_bulk(NULL, NULL, 1), &info);
    T_EXPECT_SIGILL((void)mm_frame_put_bulk(NULL, &(mm_pfn_t){1}, 1), &info);
}

/* --- panics ----------------------------------------------------------------------------------- */

#define LESS "allocated, one reference less"

/* Free, reserved, absent and foreign frames, and an allocator without counts. */
static void nothing_to_refer_to(void **state)
{
    static struct rig rig;
    static const struct {
        uint64_t pfn;
        const char *what;
        const char *freed;
        const char *recorded;
    } cases[] = {
        {300, "reference to a free frame", "double free of a frame", "free"},
        {LEDGER_HOLE, "reference to a frame that is not managed",
         "free of a frame that is not managed", "reserved: not usable memory"},
        {LEDGER_ABSENT, "reference to a frame that is not managed",
         "free of a frame that is not managed", "reserved: absent memory"},
        {1ull << 51, "reference to a frame that is not managed",
         "free of a frame that is not managed", "foreign: outside of all memory"},
    };
    const char *none = "reference counts are asked of an allocator that has none";
    struct t_trap_info info;
    mm_pfn_t pfn;

    (void)state;
    ledger_start(&rig, MM_FRAMES_REFCOUNTS);
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        pfn.raw = cases[i].pfn;
        PANICS(rig, mm_frame_get(&rig.frames, pfn), cases[i].what, pfn.raw, cases[i].recorded, 0,
               "allocated, one reference more", 0);
        PANICS(rig, mm_frame_pin(&rig.frames, pfn), cases[i].what, pfn.raw, cases[i].recorded, 0,
               "allocated, one pin more", 0);
        PANICS(rig, (void)mm_frame_unpin(&rig.frames, pfn), cases[i].what, pfn.raw,
               cases[i].recorded, 0, "allocated, one pin less", 0);
        PANICS(rig, mm_frame_make_immortal(&rig.frames, pfn), cases[i].what, pfn.raw,
               cases[i].recorded, 0, "allocated, for ever", 0);
        PANICS(rig, mm_frame_make_mortal(&rig.frames, pfn), cases[i].what, pfn.raw,
               cases[i].recorded, 0, "allocated, immortal until now", 0);
        PANICS(rig, (void)mm_frame_put(&rig.frames, pfn), cases[i].freed, pfn.raw,
               cases[i].recorded, 0, LESS, 0);
    }
    rig_stop(&rig);
    ledger_start(&rig, 0);
    pfn = rig_alloc(&rig, 0);
    PANICS(rig, mm_frame_get(&rig.frames, pfn), none, pfn.raw, "allocated, references", 1,
           "allocated, one reference more", 0);
    PANICS(rig, mm_frame_pin(&rig.frames, pfn), none, pfn.raw, "allocated, references", 1,
           "allocated, one pin more", 0);
    PANICS(rig, (void)mm_frame_unpin(&rig.frames, pfn), none, pfn.raw, "allocated, references", 1,
           "allocated, one pin less", 0);
    PANICS(rig, mm_frame_make_immortal(&rig.frames, pfn), none, pfn.raw, "allocated, references", 1,
           "allocated, for ever", 0);
    PANICS(rig, mm_frame_make_mortal(&rig.frames, pfn), none, pfn.raw, "allocated, references", 1,
           "allocated, immortal until now", 0);
    rig_stop(&rig);
    T_EXPECT_SIGILL(mm_frame_get(NULL, pfn), &info);
    T_EXPECT_SIGILL((void)mm_frame_put(NULL, pfn), &info);
    T_EXPECT_SIGILL(mm_frame_pin(NULL, pfn), &info);
    T_EXPECT_SIGILL((void)mm_frame_unpin(NULL, pfn), &info);
    T_EXPECT_SIGILL(mm_frame_make_immortal(NULL, pfn), &info);
    T_EXPECT_SIGILL(mm_frame_make_mortal(NULL, pfn), &info);
}

/* One frame of a block has a word: every way to free finds it. */
static void cannot_be_freed(struct rig *rig, mm_pfn_t first, mm_pfn_t pfn, const char *what,
                            const char *recorded, uint64_t value)
{
    mm_pfn_t list[1] = {pfn};

    PANICS(*rig, mm_frame_free(&rig->frames, pfn, 0), what, pfn.raw, recorded, value,
           "allocated, a block of order", 0);
    PANICS(*rig, mm_frame_free(&rig->frames, first, 3), what, pfn.raw, recorded, value,
           "allocated, a block of order", 3);
    PANICS(*rig, mm_frame_free_run(&rig->frames, first, 7), what, pfn.raw, recorded, value,
           "allocated, a run of frames", 7);
    PANICS(*rig, mm_frame_free_bulk(&rig->frames, list, 1), what, pfn.raw, recorded, value,
           "allocated, in a list of frames", 1);
    PANICS(*rig, mm_frame_free_owned(&rig->frames, first, 8, MM_OWNER_HEAP, 77), what, pfn.raw,
           recorded, value, "allocated, heap", 77);
}

static void others_hold_it(void **state)
{
    static struct rig rig;

    (void)state;
    for (unsigned way = 0; way < 4; way++) {
        uint32_t flags = MM_FRAMES_REFCOUNTS | (way % 2 != 0 ? MM_FRAMES_OWNERS : 0);
        struct mm_frame_request request = {.order = 3, .owner = MM_OWNER_HEAP, .tag = 77};
        const char *alone = flags == 3 ? "allocated, heap" : "allocated, references";
        mm_pfn_t first = {0};
        mm_pfn_t pfn = {0};

        ledger_start_with(&rig, flags, way >= 2);
        assert_int_equal(mm_frame_alloc(&rig.frames, &request, &first), MM_OK);
        pfn.raw = first.raw + 5;
        mm_frame_get(&rig.frames, pfn);
        mm_frame_get(&rig.frames, pfn);
        cannot_be_freed(&rig, first, pfn, "free of a frame that others refer to",
                        "allocated, references", 3);
        mm_frame_pin(&rig.frames, pfn);
        mm_frame_pin(&rig.frames, pfn);
        cannot_be_freed(&rig, first, pfn, "free of a frame that is pinned", "allocated, pins", 2);
        for (unsigned i = 0; i < 3; i++) {
            assert_false(mm_frame_put(&rig.frames, pfn));
        }
        assert_false(mm_frame_unpin(&rig.frames, pfn));
        /* A pin alone: its word is not that of a reference alone. */
        cannot_be_freed(&rig, first, pfn, "free of a frame that is pinned", "allocated, pins", 1);
        PANICS(rig, (void)mm_frame_put(&rig.frames, pfn), "put of a frame that only pins keep",
               pfn.raw, "allocated, pins", 1, LESS, 0);
        mm_frame_get(&rig.frames, pfn);
        assert_false(mm_frame_unpin(&rig.frames, pfn));
        PANICS(rig, (void)mm_frame_unpin(&rig.frames, pfn), "unpin of a frame that is not pinned",
               pfn.raw, alone, flags == 3 ? 77 : 1, "allocated, one pin less", 0);
        mm_frame_get(&rig.frames, pfn);
        PANICS(rig, (void)mm_frame_unpin(&rig.frames, pfn), "unpin of a frame that is not pinned",
               pfn.raw, "allocated, references", 2, "allocated, one pin less", 0);
        assert_false(mm_frame_put(&rig.frames, pfn));
        mm_frame_free_owned(&rig.frames, first, 8, MM_OWNER_HEAP, 77);
        assert_int_equal(rig_stats(&rig).nr_allocated, 0);
        rig_stop(&rig);
    }
}

/* The check knows which words a frame in use can have. */
static void unsound_words(void **state)
{
    static const struct {
        uint32_t word;
        bool sound;
    } cases[] = {
        {0, true},
        {UINT32_C(1) << 22, true},                  /* a pin alone */
        {UINT32_C(2) << 22, false},                 /* two pins, one holder */
        {(UINT32_C(2) << 22) + 1, true},            /* two pins alone */
        {0x3ffffe, true},                           /* the most references */
        {0x3fffff, false},                          /* one more */
        {0xfffffffe, true},                         /* the most of both */
        {(UINT32_C(1023) << 22) + 1022, true},      /* the most pins, alone */
        {(UINT32_C(1023) << 22) + 1021, false},     /* one holder too few */
        {(UINT32_C(1022) << 22) + 0x3fffff, false}, /* one holder too many */
        {UINT32_MAX, true},
    };
    static struct rig rig;
    mm_pfn_t pfn;

    (void)state;
    ledger_start(&rig, MM_FRAMES_REFCOUNTS);
    pfn = rig_alloc(&rig, 0);
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        *ledger_word(&rig, pfn) = cases[i].word;
        rig.frames.nr_pins = cases[i].word == UINT32_MAX ? 0 : cases[i].word >> 22;
        rig.nr_complaints = 0;
        assert_int_equal(mm_frame_check(&rig.frames), cases[i].sound ? MM_OK : MM_ERR_CORRUPTED);
        assert_int_equal(rig.nr_complaints, cases[i].sound ? 0 : 1);
    }
    *ledger_word(&rig, pfn) = 0;
    rig.frames.nr_pins = 0;
    *ledger_word(&rig, mm_pfn(pfn.raw - 100)) = 1;
    assert_int_equal(mm_frame_check(&rig.frames), MM_ERR_CORRUPTED);
    *ledger_word(&rig, mm_pfn(pfn.raw - 100)) = 0;
    rig.nr_complaints = 0;
    rig_stop(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(references_and_pins),
        cmocka_unit_test(saturation),
        cmocka_unit_test(all_the_way),
        cmocka_unit_test(immortal),
        cmocka_unit_test(puts_by_list),
        cmocka_unit_test(puts_by_run),
        cmocka_unit_test(panics_of_lists),
        cmocka_unit_test(nothing_to_refer_to),
        cmocka_unit_test(others_hold_it),
        cmocka_unit_test(unsound_words),
        cmocka_unit_test(mortal),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
