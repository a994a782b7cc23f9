// SPDX-License-Identifier: MIT
/**
 * References and pins of a few frames in random order, against a model that counts them in plain
 * integers and says which calls must panic.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ledger_rig.h"
#include "prng.h"

#define FRAMES     12
#define OPERATIONS (MM_TEST_SANITIZED ? 60000 : 300000)

struct counted {
    mm_pfn_t pfn;
    bool allocated;
    bool immortal;
    uint64_t refs;
    uint64_t pins;
};

struct world {
    struct rig rig;
    struct t_prng prng;
    struct counted frames[FRAMES];
    uint64_t nr_immortal;
};

/* What the call says; T_EXPECT_PANIC if the model says that it must. */
static bool call_frees(struct world *w, mm_pfn_t pfn, bool (*call)(struct mm_frames *, mm_pfn_t),
                       bool panics)
{
    struct t_trap_info info;

    if (panics) {
        T_EXPECT_PANIC((void)call(&w->rig.frames, pfn), &info);
        assert_int_equal(info.address, pfn.raw << 12);
        return false;
    }
    return call(&w->rig.frames, pfn);
}

static void call_adds(struct world *w, struct counted *c, bool pin)
{
    void (*call)(struct mm_frames *, mm_pfn_t) = pin ? mm_frame_pin : mm_frame_get;
    struct t_trap_info info;

    if (!c->allocated) {
        T_EXPECT_PANIC(call(&w->rig.frames, c->pfn), &info);
        return;
    }
    call(&w->rig.frames, c->pfn);
    if (!c->immortal) {
        *(pin ? &c->pins : &c->refs) += 1;
        c->immortal = c->pins > MM_FRAME_PINS_MAX || c->refs + c->pins > MM_FRAME_REFS_MAX;
    }
}

static void call_drops(struct world *w, struct counted *c, bool pin, bool by_list)
{
    uint64_t *count = pin ? &c->pins : &c->refs;
    bool panics = !c->allocated || (!c->immortal && *count == 0);
    bool last = !panics && !c->immortal && c->refs + c->pins == 1;
    bool freed;

    if (by_list && !pin && !panics) {
        freed = mm_frame_put_bulk(&w->rig.frames, &c->pfn, 1) == 1;
    } else {
        freed = call_frees(w, c->pfn, pin ? mm_frame_unpin : mm_frame_put, panics);
    }
    assert_int_equal(freed, last);
    if (!panics && !c->immortal) {
        --*count;
        c->allocated = !last;
    }
}

static void call_free(struct world *w, struct counted *c)
{
    struct t_trap_info info;

    if (!c->allocated || c->immortal || c->refs != 1 || c->pins != 0) {
        T_EXPECT_PANIC(mm_frame_free(&w->rig.frames, c->pfn, 0), &info);
        return;
    }
    mm_frame_free(&w->rig.frames, c->pfn, 0);
    *c = (struct counted){.pfn = c->pfn};
}

/* Near the top, or to the ground again: what else would never come. */
static void poke(struct world *w, struct counted *c)
{
    uint64_t kind = t_prng_below(&w->prng, 4);

    if (!c->allocated) {
        return;
    }
    w->nr_immortal += c->immortal ? 1 : 0;
    c->immortal = false;
    c->pins = kind < 2 ? t_prng_below(&w->prng, 3) : MM_FRAME_PINS_MAX - t_prng_below(&w->prng, 3);
    c->refs = kind % 2 == 0 ? 1 + t_prng_below(&w->prng, 3)
                            : MM_FRAME_REFS_MAX - c->pins - t_prng_below(&w->prng, 3);
    ledger_poke(&w->rig, c->pfn, (uint32_t)c->refs, (uint32_t)c->pins);
}

static void step(struct world *w)
{
    struct counted *c = &w->frames[t_prng_below(&w->prng, FRAMES)];
    uint64_t what = t_prng_below(&w->prng, 1000);

    if (what < 2) {
        poke(w, c);
    } else if (what < 3 && c->allocated) {
        mm_frame_make_immortal(&w->rig.frames, c->pfn);
        c->immortal = true;
    } else if (what < 4 && c->allocated && c->immortal) {
        mm_frame_make_mortal(&w->rig.frames, c->pfn);
        c->immortal = false;
        c->refs = 1;
        c->pins = 0;
    } else if (what < 150) {
        call_free(w, c);
    } else if (what < 300) {
        assert_int_equal(mm_frame_alloc_at(&w->rig.frames, c->pfn, 1),
                         c->allocated ? MM_ERR_BUSY : MM_OK);
        if (!c->allocated) {
            *c = (struct counted){.pfn = c->pfn, .allocated = true, .refs = 1};
        }
    } else if (what < 600) {
        call_adds(w, c, what % 2 == 0);
    } else {
        call_drops(w, c, what % 2 == 0, what % 3 == 0);
    }
    assert_int_equal(mm_frame_allocated(&w->rig.frames, c->pfn), c->allocated);
    COUNTS(w->rig, c->pfn,
           !c->allocated ? 0
           : c->immortal ? MM_FRAME_REF_IMMORTAL
                         : c->refs,
           !c->allocated ? 0
           : c->immortal ? MM_FRAME_REF_IMMORTAL
                         : c->pins);
}

static void random_order(void **state)
{
    struct world *w = calloc(1, sizeof(*w));

    (void)state;
    assert_non_null(w);
    t_prng_start(&w->prng, "frame_ledger");
    ledger_start_with(&w->rig, MM_FRAMES_REFCOUNTS, false);
    for (unsigned i = 0; i < FRAMES; i++) {
        /* In the longest span and in another, neighbours and not. */
        w->frames[i].pfn.raw = i % 3 == 0 ? 256 + i : LEDGER_MAIN + 20 + i * i;
    }
    for (unsigned i = 0; i < OPERATIONS; i++) {
        step(w);
        if (i % 1000 == 0) {
            rig_check(&w->rig);
        }
    }
    assert_true(w->nr_immortal > 10);
    rig_stop(&w->rig);
    free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
