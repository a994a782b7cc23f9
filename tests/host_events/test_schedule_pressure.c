// SPDX-License-Identifier: MIT
/**
 * CPUs that take and free across watermarks, under every schedule of few switches and many others:
 * when all is quiet, the level is that of the truth, as late as it may be; the op was told of the
 * level that is; and it was never called for a zone that it was being told of.
 *
 * Memory is four lines, two on each side of 4 GiB: two zones. Frames are taken by their numbers, so
 * no hint hides any.
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

#define ZONE_FRAMES 1024u
#define BORDER      (UINT64_C(4) * GIB / 4096)
#define STEPS       6u
#define LATE        (ZONE_FRAMES / 256 + 1 + T_SCHEDULE_CPUS)

enum what { DONE, TAKE, GIVE, GIVE_ONE, SET_LOW };

/* `zone` 0: below 4 GiB, 1: above; `first` counts from the zone's first frame. */
struct step {
    enum what what;
    unsigned zone;
    unsigned first;
    unsigned nr;
};

struct zone {
    unsigned nr_used;
    unsigned inside;
    unsigned nr_calls;
    uint32_t told; /* the level that was told last */
};

struct changed {
    struct mm_frames frames;
    struct zone zones[2];
};

struct world {
    struct rig rig;
    struct changed now;
    struct changed at_start;
    void *metadata_at_start;
    struct step steps[T_SCHEDULE_CPUS][STEPS];
    struct step in_interrupt;
    struct step in_op; /* once, when a zone becomes LOW */
    struct mm_frame_watermarks marks[2];
};

static struct world *world;

static mm_pfn_t pfn_of(const struct step *step)
{
    return mm_pfn(BORDER - (step->zone == 0 ? ZONE_FRAMES : 0) + step->first);
}

/* As a list, of which each row is counted; a short run in one row may be missed as a whole. */
static void give_list(const struct step *step)
{
    mm_pfn_t list[64];

    for (unsigned i = 0; i < step->nr; i++) {
        list[i] = mm_pfn(pfn_of(step).raw + i);
    }
    world->now.zones[step->zone].nr_used -= step->nr;
    mm_frame_free_bulk(&world->now.frames, list, step->nr);
}

static void do_step(const struct step *step)
{
    struct mm_frames *f = &world->now.frames;
    struct zone *zone = &world->now.zones[step->zone];

    switch (step->what) {
    case TAKE:
        zone->nr_used += step->nr;
        if (mm_frame_alloc_at(f, pfn_of(step), step->nr) != MM_OK) {
            t_schedule_fail("a free frame was not to be had");
        }
        break;
    case GIVE:
        give_list(step);
        break;
    case GIVE_ONE:
        for (unsigned i = 0; i < step->nr; i++) {
            zone->nr_used--;
            mm_frame_free(f, mm_pfn(pfn_of(step).raw + i), 0);
        }
        break;
    case SET_LOW: {
        struct mm_frame_watermarks marks = {0, step->first, step->nr};

        world->marks[step->zone] = marks;
        if (mm_frame_set_watermarks(f, 0, MM_ZONE_DMA32 + step->zone, &marks) != MM_OK) {
            t_schedule_fail("watermarks were refused");
        }
        break;
    }
    case DONE:
        break;
    }
}

static void told(void *ctx, uint32_t node, enum mm_zone zone, enum mm_pressure level,
                 uint64_t nr_free)
{
    struct zone *z = &world->now.zones[zone - MM_ZONE_DMA32];

    (void)ctx;
    (void)node;
    (void)nr_free;
    if (z->inside != 0) {
        t_schedule_fail("the op was called for a zone that it was being told of");
    }
    z->inside++;
    z->nr_calls++;
    t_schedule_point();
    if (level == MM_PRESSURE_LOW && z->nr_calls == 1) {
        do_step(&world->in_op);
    }
    t_schedule_point();
    z->told = (uint32_t)level;
    z->inside--;
}

static void run(void *ctx, unsigned cpu)
{
    (void)ctx;
    for (unsigned i = 0; i < STEPS && world->steps[cpu][i].what != DONE; i++) {
        do_step(&world->steps[cpu][i]);
    }
}

static void interrupt(void *ctx, unsigned cpu)
{
    (void)ctx;
    (void)cpu;
    do_step(&world->in_interrupt);
}

static void start(void *ctx)
{
    (void)ctx;
    memcpy(&world->now, &world->at_start, sizeof(world->now));
    memcpy(world->rig.config.metadata, world->metadata_at_start, world->rig.config.metadata_len);
}

static const char *finish(void *ctx)
{
    struct mm_frames *f = &world->now.frames;

    (void)ctx;
    if (mm_frame_check(f) != MM_OK) {
        return "the check of the frames";
    }
    for (uint32_t i = 0; i < 2; i++) {
        const struct mm_frame_watermarks *m = &world->marks[i];
        uint32_t level = (uint32_t)mm_frame_pressure(f, 0, MM_ZONE_DMA32 + i);
        uint64_t nr_free = ZONE_FRAMES - world->now.zones[i].nr_used;

        if (nr_free >= m->high + LATE && level != MM_PRESSURE_NONE) {
            return "pressure that is over was not taken back";
        }
        if (nr_free + LATE < m->low && level == MM_PRESSURE_NONE) {
            return "pressure was not noticed";
        }
        if (nr_free + LATE < m->min && level != MM_PRESSURE_MIN) {
            return "that memory is very short was not noticed";
        }
        if (nr_free >= m->min + LATE && level == MM_PRESSURE_MIN) {
            return "memory that is not so short any more was not noticed";
        }
        if (world->now.zones[i].told != level) {
            return "the op was not told of the level that is";
        }
    }
    return NULL;
}

/* Both zones with these watermarks, and so many free frames from the start of each on. */
static void prepare(struct mm_frame_watermarks marks, unsigned nr_free)
{
    static const struct mm_frame_ops ops = {.pressure = told};

    world = calloc(1, sizeof(*world));
    assert_non_null(world);
    rig_map(&world->rig, (const uint64_t[]){4 * GIB - 4 * MIB, 8 * MIB, 0, 0});
    rig_config(&world->rig, 2, 0);
    world->rig.config.platform = t_race_platform();
    world->rig.config.ops = &ops;
    assert_int_equal(mm_frame_init(&world->now.frames, &world->rig.config), MM_OK);
    for (unsigned i = 0; i < 2; i++) {
        do_step(&(struct step){TAKE, i, nr_free, ZONE_FRAMES - nr_free});
        world->marks[i] = marks;
    }
    assert_int_equal(mm_frame_set_watermarks(&world->now.frames, 0, MM_ZONE_ALL, &marks), MM_OK);
    world->now.zones[0].nr_calls = 0;
    world->now.zones[1].nr_calls = 0;
}

static void race(const char *name)
{
    struct t_race race = {.name = name,
                          .nr_cpus = world->steps[2][0].what != DONE ? 3 : 2,
                          .start = start,
                          .run = run,
                          .finish = finish,
                          .ctx = world,
                          .ordered = true};
    const struct t_race_plan plan = {
        .nr_random = 400, .nr_pct = 400, .nr_search = 1500, .preemptions = 2};

    if (world->in_interrupt.what != DONE) {
        race.interrupt = interrupt;
        race.nr_interrupts = 1;
    }
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
#define MARKS(min, low, high) ((struct mm_frame_watermarks){(min), (low), (high)})

/* ---- up ---------------------------------------------------------------------------------------- */

/* Two free as much as is needed only together. */
static void test_up_together(void **state)
{
    (void)state;
    prepare(MARKS(0, 30, 40), 20);
    SCRIPT(0, {GIVE, 0, 100, 15});
    SCRIPT(1, {GIVE, 0, 200, 15});
    race("pressure.up");
    prepare(MARKS(0, 30, 40), 20);
    SCRIPT(0, {GIVE_ONE, 0, 100, 10});
    SCRIPT(1, {GIVE_ONE, 0, 200, 10});
    SCRIPT(2, {GIVE, 0, 300, 10});
    race("pressure.up-by-three");
    prepare(MARKS(30, 40, 60), 20);
    SCRIPT(0, {GIVE, 0, 100, 25}, {GIVE, 0, 130, 5});
    SCRIPT(1, {GIVE, 0, 200, 10});
    race("pressure.up-from-min");
}

/* ---- down -------------------------------------------------------------------------------------- */

static void test_down_together(void **state)
{
    (void)state;
    prepare(MARKS(0, 30, 40), 50);
    SCRIPT(0, {TAKE, 0, 0, 15});
    SCRIPT(1, {TAKE, 0, 15, 15});
    race("pressure.down");
    prepare(MARKS(20, 40, 60), 60);
    SCRIPT(0, {TAKE, 0, 0, 20}, {TAKE, 0, 40, 5});
    SCRIPT(1, {TAKE, 0, 20, 10}, {TAKE, 0, 30, 10});
    SCRIPT(2, {TAKE, 0, 45, 7});
    race("pressure.down-to-min");
}

/* ---- both -------------------------------------------------------------------------------------- */

/* What is freed while the level falls pays nothing: the zone is counted once more. */
static void test_freed_while_it_falls(void **state)
{
    (void)state;
    prepare(MARKS(0, 30, 40), 50);
    SCRIPT(0, {TAKE, 0, 0, 30});
    SCRIPT(1, {GIVE, 0, 100, 40});
    race("pressure.freed-while-it-falls");
    prepare(MARKS(0, 30, 40), 50);
    SCRIPT(0, {TAKE, 0, 0, 30}, {GIVE, 0, 0, 30});
    SCRIPT(1, {TAKE, 0, 30, 15}, {GIVE_ONE, 0, 30, 15});
    world->in_interrupt = (struct step){GIVE_ONE, 0, 500, 1};
    race("pressure.there-and-back");
}

/* One zone recovers while the other falls. */
static void test_two_zones(void **state)
{
    (void)state;
    prepare(MARKS(0, 30, 40), 50);
    do_step(&(struct step){TAKE, 0, 0, 40});
    SCRIPT(0, {GIVE, 0, 0, 40}, {GIVE, 0, 100, 5});
    SCRIPT(1, {TAKE, 1, 0, 40}, {GIVE, 1, 0, 40});
    race("pressure.two-zones");
    prepare(MARKS(0, 30, 40), 50);
    do_step(&(struct step){TAKE, 0, 0, 40});
    do_step(&(struct step){TAKE, 1, 0, 40});
    SCRIPT(0, {GIVE, 0, 0, 40}, {GIVE, 1, 20, 20});
    SCRIPT(1, {GIVE, 1, 0, 20}, {TAKE, 1, 0, 20}, {GIVE, 1, 0, 20});
    race("pressure.two-zones-up");
}

/* ---- the op ------------------------------------------------------------------------------------ */

/* Who is told frees, or takes, while the others go on. */
static void test_in_the_op(void **state)
{
    (void)state;
    prepare(MARKS(0, 30, 40), 50);
    world->in_op = (struct step){GIVE, 0, 100, 40};
    SCRIPT(0, {TAKE, 0, 0, 25});
    SCRIPT(1, {TAKE, 0, 25, 10}, {GIVE, 0, 200, 5});
    race("pressure.op-frees");
    prepare(MARKS(20, 30, 40), 50);
    world->in_op = (struct step){TAKE, 0, 35, 10};
    SCRIPT(0, {TAKE, 0, 0, 25});
    SCRIPT(1, {TAKE, 0, 25, 10});
    race("pressure.op-takes");
}

/* Watermarks are set while others take and free. */
static void test_set(void **state)
{
    (void)state;
    prepare(MARKS(0, 0, 0), 50);
    SCRIPT(0, {SET_LOW, 0, 60, 80});
    SCRIPT(1, {GIVE, 0, 100, 40});
    race("pressure.set-while-freed");
    prepare(MARKS(0, 30, 40), 50);
    SCRIPT(0, {SET_LOW, 0, 60, 70}, {SET_LOW, 0, 0, 0});
    SCRIPT(1, {TAKE, 0, 0, 25}, {GIVE, 0, 0, 25});
    race("pressure.set-and-cleared");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_up_together),
        cmocka_unit_test(test_down_together),
        cmocka_unit_test(test_freed_while_it_falls),
        cmocka_unit_test(test_two_zones),
        cmocka_unit_test(test_in_the_op),
        cmocka_unit_test(test_set),
    };

    return cmocka_run_group_tests_name("schedule_pressure", tests, NULL, NULL);
}
