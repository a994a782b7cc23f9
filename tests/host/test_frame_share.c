// SPDX-License-Identifier: MIT
/**
 * What spaces ask of the ledger when one becomes two: a reference more for each frame of a run, and
 * whether any frame is pinned at all. Hazard 5.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/frame/state.h"

#include "ledger_rig.h"

#include <pthread.h>

#define NR 300u

/* Each of a run has one reference more, and no neighbour has; those that are immortal stay so. */
static void runs(void **state)
{
    static const uint64_t firsts[] = {LEDGER_MAIN + 1, LEDGER_MAIN + 64, 257, 1024};
    static const unsigned lens[] = {1, 2, 63, 64, 65, 127, 200};
    static struct rig rig;

    (void)state;
    for (unsigned i = 0; i < 4 * 7 * 2; i++) {
        uint64_t first = firsts[i / 2 % 4];
        unsigned len = lens[i / 8];

        ledger_start_with(&rig, MM_FRAMES_REFCOUNTS, i % 2 != 0);
        assert_int_equal(mm_frame_alloc_at(&rig.frames, mm_pfn(first - 1), len + 2), MM_OK);
        mm_frame_pin(&rig.frames, mm_pfn(first));
        mm_frame_make_immortal(&rig.frames, mm_pfn(first + len));
        ledger_poke(&rig, mm_pfn(first + len - 1), MM_FRAME_REFS_MAX - 1, 1);
        mmi_frame_share(&rig.frames, mm_pfn(first), len);
        mmi_frame_share(&rig.frames, mm_pfn(first), 0);
        for (unsigned n = 0; n < len; n++) {
            bool last = n + 1 == len;

            COUNTS(rig, mm_pfn(first + n), last ? MM_FRAME_REF_IMMORTAL : 2,
                   last     ? MM_FRAME_REF_IMMORTAL
                   : n == 0 ? 1
                            : 0);
        }
        assert_int_equal(mmi_frame_nr_pins(&rig.frames), len > 1 ? 1 : 0);
        assert_true(mmi_frame_any_pinned(&rig.frames));
        COUNTS(rig, mm_pfn(first - 1), 1, 0);
        mmi_frame_share(&rig.frames, mm_pfn(first), len + 1);
        COUNTS(rig, mm_pfn(first + len), MM_FRAME_REF_IMMORTAL, MM_FRAME_REF_IMMORTAL);
        rig_check(&rig);
        rig_stop(&rig);
    }
}

/* A run may cross from one span into the next; and what is no run of frames in use panics. */
static void edges(void **state)
{
    static struct rig rig;
    struct t_trap_info info;
    mm_pfn_t low = mm_pfn(256);
    mm_pfn_t last;
    const char *more = "allocated, one reference more";

    (void)state;
    ledger_start(&rig, MM_FRAMES_REFCOUNTS);
    assert_int_equal(mm_frame_alloc_at(&rig.frames, mm_pfn(0), 2), MM_OK);
    mmi_frame_share(&rig.frames, mm_pfn(0), 2); /* frame 0 has a span of its own */
    COUNTS(rig, mm_pfn(0), 2, 0);
    COUNTS(rig, mm_pfn(1), 2, 0);
    PANICS(rig, mmi_frame_share(&rig.frames, low, 1), "reference to a free frame", low.raw, "free",
           0, more, 0);
    assert_int_equal(mm_frame_alloc_at(&rig.frames, low, 70), MM_OK);
    mm_frame_free(&rig.frames, mm_pfn(low.raw + 5), 0);
    PANICS(rig, mmi_frame_share(&rig.frames, low, 70), "reference to a free frame", low.raw + 5,
           "free", 0, more, 0);
    PANICS(rig, mmi_frame_share(&rig.frames, mm_pfn(LEDGER_HOLE), 1),
           "reference to a frame that is not managed", LEDGER_HOLE, "reserved: not usable memory",
           0, more, 0);
    PANICS(rig, mmi_frame_share(&rig.frames, mm_pfn(LEDGER_ABSENT), 1),
           "reference to a frame that is not managed", LEDGER_ABSENT, "reserved: absent memory", 0,
           more, 0);
    last = mm_pfn(rig.frames.main_first + rig.frames.main_nr - 1);
    rig_stop(&rig);
    ledger_start_with(&rig, MM_FRAMES_REFCOUNTS, false);
    assert_int_equal(mm_frame_alloc_at(&rig.frames, last, 1), MM_OK);
    T_EXPECT_PANIC(mmi_frame_share(&rig.frames, last, 2), &info);
    assert_string_equal(info.what, "reference to a frame that is not managed");
    assert_int_equal(info.address, (last.raw + 1) * 4096);
    COUNTS(rig, last, 2, 0);
    rig_stop(&rig);
    ledger_start(&rig, 0);
    low = rig_alloc(&rig, 0);
    PANICS(rig, mmi_frame_share(&rig.frames, low, 1),
           "reference counts are asked of an allocator that has none", low.raw,
           "allocated, references", 1, more, 0);
    assert_int_equal(mmi_frame_nr_pins(&rig.frames), 0);
    rig_stop(&rig);
}

/* Every way in which pins come and go. */
static void pins(void **state)
{
    static struct rig rig;
    mm_pfn_t a;
    mm_pfn_t b;

    (void)state;
    ledger_start(&rig, MM_FRAMES_REFCOUNTS);
#define PINS(nr)                                                                                   \
    do {                                                                                           \
        assert_int_equal(mmi_frame_nr_pins(&rig.frames), nr);                                      \
        rig_check(&rig);                                                                           \
    } while (0)
    a = rig_alloc(&rig, 0);
    b = rig_alloc(&rig, 0);
    PINS(0);
    mm_frame_pin(&rig.frames, a);
    mm_frame_pin(&rig.frames, b);
    mm_frame_pin(&rig.frames, b);
    PINS(3);
    assert_false(mm_frame_put(&rig.frames, a));
    PINS(3);
    assert_true(mm_frame_unpin(&rig.frames, a));
    PINS(2);
    assert_false(mm_frame_unpin(&rig.frames, b));
    PINS(1);
    mm_frame_make_immortal(&rig.frames, b);
    PINS(0);
    mm_frame_pin(&rig.frames, b);
    assert_false(mm_frame_unpin(&rig.frames, b));
    PINS(0);
    a = rig_alloc(&rig, 0);
    for (uint32_t i = 0; i < MM_FRAME_PINS_MAX; i++) {
        mm_frame_pin(&rig.frames, a);
    }
    PINS(MM_FRAME_PINS_MAX);
    mm_frame_pin(&rig.frames, a); /* one too many: immortal */
    PINS(0);
    a = rig_alloc(&rig, 0);
    ledger_poke(&rig, a, MM_FRAME_REFS_MAX - 2, 2);
    PINS(2);
    mm_frame_get(&rig.frames, a);
    PINS(0);
    rig.frames.nr_pins = 1; /* the check counts them itself */
    rig.nr_complaints = 0;
    assert_int_equal(mm_frame_check(&rig.frames), MM_ERR_CORRUPTED);
    assert_int_equal(rig.nr_complaints, 1);
    rig.nr_complaints = 0;
    rig.frames.nr_pins = 0;
    rig_stop(&rig);
}

struct worker {
    pthread_t thread;
    struct rig *rig;
    mm_pfn_t first;
};

static void *share(void *argument)
{
    struct worker *w = argument;

    for (unsigned i = 0; i < 200; i++) {
        mmi_frame_share(&w->rig->frames, w->first, NR);
        mm_frame_pin(&w->rig->frames, mm_pfn(w->first.raw + i));
        if (i % 2 != 0) {
            (void)mm_frame_unpin(&w->rig->frames, mm_pfn(w->first.raw + i));
        }
    }
    return NULL;
}

/* No reference and no pin is lost between threads. */
static void threads(void **state)
{
    static struct rig rig;
    struct worker workers[3];
    mm_pfn_t first = mm_pfn(LEDGER_MAIN + 30);

    (void)state;
    ledger_start(&rig, MM_FRAMES_REFCOUNTS);
    assert_int_equal(mm_frame_alloc_at(&rig.frames, first, NR), MM_OK);
    for (unsigned i = 0; i < 3; i++) {
        workers[i] = (struct worker){.rig = &rig, .first = first};
        assert_int_equal(pthread_create(&workers[i].thread, NULL, share, &workers[i]), 0);
    }
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
    }
    for (unsigned i = 0; i < NR; i++) {
        COUNTS(rig, mm_pfn(first.raw + i), 601, i < 200 && i % 2 == 0 ? 3 : 0);
    }
    assert_int_equal(mmi_frame_nr_pins(&rig.frames), 300);
    rig_check(&rig);
    rig_stop(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs),
        cmocka_unit_test(edges),
        cmocka_unit_test(pins),
        cmocka_unit_test(threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
