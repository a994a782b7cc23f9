// SPDX-License-Identifier: MIT
/**
 * Memory that comes and goes, and is zeroed ahead of time, while another CPU allocates and frees:
 * under every schedule of few switches and many others.
 *
 * A ledger says whose each frame is, or that it is gone: a frame that is handed out while it is, or
 * removed while it is held, fails at once. What a frame holds is one byte, which the op that zeroes
 * clears, and who gets a frame sets: so a block that was to be zero and is not is found, and so is
 * a frame that is zeroed under its holder.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "check.h"
#include "frame_rig.h"
#include "schedule.h"
#include "schedule_mm.h"

#define FIRST      512u /* the memory begins at 2 MiB */
#define LINE       512u
#define LINES      3u
#define NR_FRAMES  (LINES * LINE)
#define STEPS      6u
#define BASE       (UINT64_C(1) << 40) /* of a direct map that nobody follows */
#define NOT_HELD   0
#define RESERVED   98
#define GONE       99
#define PFN(index) mm_pfn(FIRST + (index))

enum what {
    DONE,
    ALLOC_ON,   /* one frame, the hot path */
    ALLOC_AT,   /* exactly frame `n` */
    ALLOC,      /* a block of order `n` */
    ALLOC_ZERO, /* the same, zeroed */
    FREE,       /* the oldest thing held */
    REMOVE,     /* `nr` lines from `n` on */
    ADD,
    PREZERO, /* `n` blocks */
};

struct step {
    enum what what;
    unsigned n;
    unsigned nr;
    bool must; /* there is memory for it at every moment */
};

struct hand {
    mm_pfn_t first[STEPS];
    uint64_t len[STEPS];
    unsigned nr;
};

/* All that a run changes lies in here or in the metadata, and is put back before the next. */
struct changed {
    struct mm_frames frames;
    uint8_t owner[NR_FRAMES];
    uint8_t holds[NR_FRAMES]; /* 0: zero */
    struct hand hands[T_SCHEDULE_CPUS];
    unsigned nr_removed;
};

struct world {
    struct rig rig;
    struct changed now;
    struct changed at_start;
    void *metadata_at_start;
    struct step steps[T_SCHEDULE_CPUS][STEPS];
    const char *(*also)(const struct world *world);
};

static struct world *world;

/* ---- the ledger -------------------------------------------------------------------------------- */

static void keep(unsigned cpu, mm_pfn_t first, uint64_t nr)
{
    struct hand *hand = &world->now.hands[cpu];

    for (uint64_t i = 0; i < nr; i++) {
        uint64_t at = first.raw + i - FIRST;

        if (at >= NR_FRAMES || world->now.owner[at] != NOT_HELD) {
            t_schedule_fail("frame %llu is handed out to CPU %u; owner was %u",
                            (unsigned long long)(first.raw + i), cpu,
                            at < NR_FRAMES ? world->now.owner[at] : 0u);
        }
        world->now.owner[at] = (uint8_t)(cpu + 1);
        world->now.holds[at] = 1;
    }
    hand->first[hand->nr] = first;
    hand->len[hand->nr++] = nr;
}

static void let_go(unsigned cpu)
{
    struct hand *hand = &world->now.hands[cpu];
    mm_pfn_t first = hand->first[0];
    uint64_t len = hand->len[0];

    if (hand->nr == 0) {
        return; /* an allocation that was allowed to fail did */
    }
    hand->nr--;
    memmove(&hand->first[0], &hand->first[1], hand->nr * sizeof(first));
    memmove(&hand->len[0], &hand->len[1], hand->nr * sizeof(len));
    for (uint64_t i = 0; i < len; i++) {
        if (world->now.holds[first.raw - FIRST + i] != 1) {
            t_schedule_fail("frame %llu was zeroed under its holder",
                            (unsigned long long)(first.raw + i));
        }
        world->now.owner[first.raw - FIRST + i] = NOT_HELD;
    }
    if (len == 1) {
        mm_frame_free(&world->now.frames, first, 0);
    } else {
        mm_frame_free_run(&world->now.frames, first, len);
    }
}

static void zero_op(void *ctx, void *at, uint64_t len)
{
    uint64_t first = ((uint64_t)(uintptr_t)at - BASE) / 4096 - FIRST;

    (void)ctx;
    t_schedule_point();
    for (uint64_t i = 0; i < len / 4096; i++) {
        world->now.holds[first + i] = 0;
        if (i == len / 8192) {
            t_schedule_point(); /* half of it is done */
        }
    }
}

/* ---- a step ------------------------------------------------------------------------------------ */

static void alloc(unsigned cpu, const struct step *step)
{
    bool zero = step->what == ALLOC_ZERO;
    struct mm_frame_request request = {.order = step->n, .flags = zero ? MM_FRAME_ZERO : 0};
    struct mm_frames *frames = &world->now.frames;
    mm_pfn_t pfn = PFN(step->n);
    uint64_t nr = 1;
    mm_status_t status;

    if (step->what == ALLOC_ON) {
        status = mm_frame_alloc_on(frames, cpu, &pfn);
    } else if (step->what == ALLOC_AT) {
        status = mm_frame_alloc_at(frames, pfn, 1);
    } else {
        status = mm_frame_alloc(frames, &request, &pfn);
        nr = UINT64_C(1) << step->n;
    }
    if (status != MM_OK) {
        if (step->must || (status != MM_ERR_NO_MEMORY && step->what != ALLOC_AT)) {
            t_schedule_fail("status %s", mm_status_str(status));
        }
        return;
    }
    for (uint64_t i = 0; i < nr && zero; i++) {
        if (world->now.holds[pfn.raw - FIRST + i] != 0) {
            t_schedule_fail("frame %llu was to be zero", (unsigned long long)(pfn.raw + i));
        }
    }
    keep(cpu, pfn, nr);
}

static void mark(const struct step *step, uint8_t from, uint8_t to)
{
    for (uint64_t i = step->n * LINE; i < (step->n + step->nr) * (uint64_t)LINE; i++) {
        if (world->now.owner[i] != from) {
            t_schedule_fail("frame %llu is not what it was believed to be: %u",
                            (unsigned long long)(FIRST + i), world->now.owner[i]);
        }
        world->now.owner[i] = to;
        world->now.holds[i] = 1; /* other memory, whatever it holds */
    }
}

static void change(const struct step *step)
{
    struct mm_prange range =
        mm_prange(mm_paddr((FIRST + step->n * LINE) * 4 * KIB), step->nr * LINE * 4 * KIB);
    mm_status_t status;

    if (step->what == REMOVE) {
        status = mm_frame_remove(&world->now.frames, range);
        if (status == MM_OK) {
            mark(step, NOT_HELD, GONE);
            world->now.nr_removed++;
        }
    } else {
        if (world->now.owner[step->n * LINE] != GONE) {
            return; /* it was not removed */
        }
        /* Whoever is quick has a frame of it before the call has returned. */
        mark(step, GONE, NOT_HELD);
        status = mm_frame_add(&world->now.frames, range, NULL);
        if (status != MM_OK) {
            mark(step, NOT_HELD, GONE);
        }
    }
    if (status != MM_OK && (status != MM_ERR_BUSY || step->must) &&
        status != MM_ERR_INVALID_ADDRESS) {
        t_schedule_fail("status %s", mm_status_str(status));
    }
}

static void run(void *ctx, unsigned cpu)
{
    uint64_t done;

    (void)ctx;
    for (unsigned i = 0; i < STEPS && world->steps[cpu][i].what != DONE; i++) {
        const struct step *step = &world->steps[cpu][i];

        switch (step->what) {
        case REMOVE:
        case ADD:
            change(step);
            break;
        case FREE:
            let_go(cpu);
            break;
        case PREZERO:
            if (mm_frame_prezero(&world->now.frames, step->n, &done) != MM_OK || done > step->n) {
                t_schedule_fail("prezero");
            }
            break;
        default:
            alloc(cpu, step);
            break;
        }
    }
}

/* ---- a race ------------------------------------------------------------------------------------ */

static void start(void *ctx)
{
    (void)ctx;
    memcpy(&world->now, &world->at_start, sizeof(world->now));
    memcpy(world->rig.config.metadata, world->metadata_at_start, world->rig.config.metadata_len);
}

static const char *finish(void *ctx)
{
    static char text[128];
    const struct mm_frames *frames = &world->now.frames;
    bool any = false;

    (void)ctx;
    if (mm_frame_check(frames) != MM_OK) {
        return "the check of the frames";
    }
    for (unsigned i = 0; i < NR_FRAMES; i++) {
        bool gone = world->now.owner[i] == GONE;

        any = any || gone;
        if (mm_frame_managed(frames, PFN(i)) == gone ||
            mm_frame_allocated(frames, PFN(i)) != (!gone && world->now.owner[i] != NOT_HELD)) {
            (void)snprintf(text, sizeof(text), "the ledger says of frame %u: %u", FIRST + i,
                           world->now.owner[i]);
            return text;
        }
    }
    if (!any && frames->flags != world->rig.config.flags) {
        return "all memory is there, and frees are slow";
    }
    return world->also != NULL ? world->also(world) : NULL;
}

/* Memory of which only these frames, pairs of index and number, are free. */
static void prepare(const unsigned *free_frames, uint32_t flags)
{
    static struct mm_physmap physmap;
    static const struct mm_frame_ops ops = {.zero = zero_op};

    physmap = mm_physmap_direct(BASE);
    world = calloc(1, sizeof(*world));
    assert_non_null(world);
    rig_map(&world->rig, (const uint64_t[]){FIRST * 4 * KIB, NR_FRAMES * 4 * KIB, 0, 0});
    rig_config(&world->rig, 2, flags);
    world->rig.config.platform = t_race_platform();
    world->rig.config.physmap = &physmap;
    world->rig.config.ops = &ops;
    assert_int_equal(mm_frame_init(&world->now.frames, &world->rig.config), MM_OK);
    assert_int_equal(mm_frame_alloc_at(&world->now.frames, PFN(0), NR_FRAMES), MM_OK);
    memset(world->now.owner, RESERVED, NR_FRAMES);
    memset(world->now.holds, 1, NR_FRAMES);
    for (; free_frames[1] != 0; free_frames += 2) {
        mm_frame_free_run(&world->now.frames, PFN(free_frames[0]), free_frames[1]);
        memset(&world->now.owner[free_frames[0]], NOT_HELD, free_frames[1]);
    }
}

/* Before the race: a frame goes to a CPU, a line is removed, blocks are zeroed. */
static void hand_out(unsigned cpu, unsigned index, unsigned nr)
{
    if (world->now.owner[index] == NOT_HELD) {
        assert_int_equal(mm_frame_alloc_at(&world->now.frames, PFN(index), nr), MM_OK);
    }
    memset(&world->now.owner[index], NOT_HELD, nr);
    keep(cpu, PFN(index), nr);
}

static void race(const char *name)
{
    const struct t_race race = {.name = name,
                                .nr_cpus = 2,
                                .start = start,
                                .run = run,
                                .finish = finish,
                                .ctx = world,
                                .ordered = true};
    const struct t_race_plan plan = {
        .nr_random = 300, .nr_pct = 300, .nr_search = 1500, .preemptions = 2};

    world->at_start = world->now;
    world->metadata_at_start = malloc(world->rig.config.metadata_len);
    assert_non_null(world->metadata_at_start);
    memcpy(world->metadata_at_start, world->rig.config.metadata, world->rig.config.metadata_len);
    T_LEGAL(t_race_explore(&race, &plan));
    free(world->metadata_at_start);
    free(world->rig.config.metadata);
    free(world);
}

#define SCRIPT(cpu, ...)                                                                           \
    memcpy(world->steps[cpu], ((const struct step[]){__VA_ARGS__}),                                \
           sizeof((const struct step[]){__VA_ARGS__}))
#define FREE_FRAMES(...) ((const unsigned[]){__VA_ARGS__, 0, 0})

/* ---- less and more ----------------------------------------------------------------------------- */

/* There is a frame in another line all the time. */
static void test_remove_and_allocate(void **state)
{
    (void)state;
    prepare(FREE_FRAMES(30, 2, 512, 512), 0);
    SCRIPT(0, {REMOVE, 1, 1, false}, {ADD, 1, 1, true});
    SCRIPT(1, {ALLOC_ON, 0, 0, true}, {FREE, 0, 0, false}, {ALLOC_ON, 0, 0, true});
    race("hotplug.remove-and-one");
    prepare(FREE_FRAMES(512, 512), 0);
    SCRIPT(0, {REMOVE, 1, 1, false}, {ADD, 1, 1, true});
    SCRIPT(1, {ALLOC, 9, 0, false}, {FREE, 0, 0, false}, {ALLOC, 3, 0, false});
    race("hotplug.remove-and-block");
    /* A frame that is asked for by number goes between two looks at it. */
    prepare(FREE_FRAMES(30, 2, 512, 512), 0);
    SCRIPT(0, {REMOVE, 1, 1, false});
    SCRIPT(1, {ALLOC_AT, 600, 0, false}, {FREE, 0, 0, false}, {ALLOC_ON, 0, 0, true});
    race("hotplug.remove-and-this");
}

/* The line's last frame comes back while the line is being removed, once with a hint that is on
 * it. */
static void test_remove_and_free(void **state)
{
    (void)state;
    prepare(FREE_FRAMES(512, 512), 0);
    hand_out(1, 1023, 1);
    SCRIPT(0, {REMOVE, 1, 1, false});
    SCRIPT(1, {FREE, 0, 0, false});
    race("hotplug.remove-and-free");
    prepare(FREE_FRAMES(512, 512), 0);
    SCRIPT(0, {REMOVE, 1, 1, false}, {REMOVE, 1, 1, false});
    SCRIPT(1, {ALLOC_ON, 0, 0, false}, {FREE, 0, 0, false}, {ALLOC_ON, 0, 0, false},
           {FREE, 0, 0, false});
    race("hotplug.remove-and-hint");
}

static const char *none_was_removed(const struct world *w)
{
    return w->now.nr_removed == 0 ? NULL : "a line was removed that is in use";
}

/* All that was claimed of the lower line is given back, since the upper one is in use. */
static void test_refused(void **state)
{
    (void)state;
    prepare(FREE_FRAMES(0, 512, 512, 511), 0);
    world->also = none_was_removed;
    SCRIPT(0, {REMOVE, 0, 2, false});
    SCRIPT(1, {ALLOC_ON, 0, 0, false}, {ALLOC, 9, 0, false}, {FREE, 0, 0, false});
    race("hotplug.refused");
}

static const char *removed_once(const struct world *w)
{
    return w->now.nr_removed == 1 ? NULL : "one line was removed, and not once";
}

static void test_two_at_once(void **state)
{
    (void)state;
    prepare(FREE_FRAMES(512, 1024), 0);
    world->also = removed_once;
    SCRIPT(0, {REMOVE, 1, 1, false});
    SCRIPT(1, {REMOVE, 1, 2, false});
    race("hotplug.two-at-once");
}

static void test_add(void **state)
{
    (void)state;
    prepare(FREE_FRAMES(512, 1024), 0);
    change(&(struct step){REMOVE, 1, 2, true});
    SCRIPT(0, {ADD, 1, 1, true}, {ALLOC_ON, 0, 0, true}, {ADD, 2, 1, true});
    SCRIPT(1, {ALLOC, 2, 0, false}, {FREE, 0, 0, false}, {ALLOC_ON, 0, 0, false},
           {FREE, 0, 0, false});
    race("hotplug.add");
}

/* ---- zero ahead of time ------------------------------------------------------------------------ */

static void test_prezero(void **state)
{
    (void)state;
    prepare(FREE_FRAMES(512, 512), MM_FRAMES_KNOWN_ZERO);
    SCRIPT(0, {PREZERO, 1, 0, false}, {ALLOC_ZERO, 9, 0, false});
    SCRIPT(1, {ALLOC_AT, 600, 0, false}, {FREE, 0, 0, false}, {ALLOC_ZERO, 9, 0, false},
           {FREE, 0, 0, false});
    race("hotplug.prezero");
    prepare(FREE_FRAMES(512, 1024), MM_FRAMES_KNOWN_ZERO);
    SCRIPT(0, {PREZERO, 2, 0, false}, {ALLOC_ZERO, 9, 0, false});
    SCRIPT(1, {PREZERO, 2, 0, false}, {ALLOC_ON, 0, 0, false}, {FREE, 0, 0, false});
    race("hotplug.prezero-twice");
}

/* A frame of a line that is known to be zero was in use, and comes back as its last one. */
static void test_mark_and_free(void **state)
{
    uint64_t done;

    (void)state;
    prepare(FREE_FRAMES(512, 512), MM_FRAMES_KNOWN_ZERO);
    assert_int_equal(mm_frame_prezero(&world->now.frames, 1, &done), MM_OK);
    assert_int_equal(done, 1);
    hand_out(1, 700, 1);
    SCRIPT(0, {ALLOC_ZERO, 9, 0, false}, {ALLOC_ZERO, 9, 0, false}, {FREE, 0, 0, false},
           {PREZERO, 1, 0, false});
    SCRIPT(1, {FREE, 0, 0, false}, {ALLOC_ZERO, 9, 0, false});
    race("hotplug.mark-and-free");
}

static void test_prezero_and_remove(void **state)
{
    (void)state;
    prepare(FREE_FRAMES(512, 512), MM_FRAMES_KNOWN_ZERO);
    SCRIPT(0, {PREZERO, 1, 0, false}, {ALLOC_ZERO, 9, 0, false});
    SCRIPT(1, {REMOVE, 1, 1, false}, {ADD, 1, 1, true});
    race("hotplug.prezero-and-remove");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_remove_and_allocate),
        cmocka_unit_test(test_remove_and_free),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_two_at_once),
        cmocka_unit_test(test_add),
        cmocka_unit_test(test_prezero),
        cmocka_unit_test(test_mark_and_free),
        cmocka_unit_test(test_prezero_and_remove),
    };

    return cmocka_run_group_tests_name("schedule_hotplug", tests, NULL, NULL);
}
