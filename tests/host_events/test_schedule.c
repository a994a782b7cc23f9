// SPDX-License-Identifier: MIT
/**
 * The scheduler itself, over toys: code with known races, whose accesses are told as the compiler
 * would tell them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "events.h"
#include "order.h"
#include "schedule.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint64_t __tsan_atomic64_load(const volatile uint64_t *at, int order);
void __tsan_atomic64_store(volatile uint64_t *at, uint64_t v, int order);
uint64_t __tsan_atomic64_exchange(volatile uint64_t *at, uint64_t v, int order);
uint64_t __tsan_atomic64_fetch_add(volatile uint64_t *at, uint64_t v, int order);
void __tsan_write8(void *at);
void __tsan_write4(void *at);
void __tsan_read4(void *at);
void __tsan_read8(void *at);

#define LOAD(at)     __tsan_atomic64_load((at), __ATOMIC_RELAXED)
#define STORE(at, v) __tsan_atomic64_store((at), (v), __ATOMIC_RELEASE)

#define TRACES_MAX 4096

struct toy {
    uint64_t counter;
    uint64_t locks[2];
    uint64_t flag;
    unsigned inside;
    unsigned nr_caught;
    char trace[64];
    unsigned len;
    char traces[TRACES_MAX][32];
    unsigned nr_traces;
};

static struct toy toy;
static const char *self;

static void start(void *ctx)
{
    struct toy *t = ctx;

    t->counter = 0;
    t->locks[0] = 0;
    t->locks[1] = 0;
    t->flag = 0;
    t->inside = 0;
    t->nr_caught = 0;
    t->len = 0;
}

static const char *both_counted(void *ctx)
{
    return ((struct toy *)ctx)->counter == 2 ? NULL : "an increment is lost";
}

/* ---- a race that is there ---------------------------------------------------------------------- */

static void racy(void *ctx, unsigned cpu)
{
    struct toy *t = ctx;
    uint64_t seen;

    (void)cpu;
    (void)LOAD(&t->flag);
    seen = LOAD(&t->counter);
    STORE(&t->counter, seen + 1);
    (void)LOAD(&t->flag);
}

static const struct t_race racy_race = {.name = "toy.racy",
                                        .nr_cpus = 2,
                                        .start = start,
                                        .run = racy,
                                        .finish = both_counted,
                                        .ctx = &toy};

/* Each strategy finds it; shrunk, there is one switch in the middle, and one at most to start with
 * the other CPU; it replays. */
static void expect_found(const struct t_race_plan *plan)
{
    struct t_race_result found;

    assert_string_equal(t_race_explore(&racy_race, plan), "afterwards: an increment is lost");
    found = *t_race_last();
    assert_in_range(strlen(found.schedule), 5, 11); /* "0@4>1", or "0@1>1 1@4>0" */
    assert_non_null(strstr(found.schedule, "@4>"));
    assert_string_equal(t_race_replay(&racy_race, found.schedule),
                        "afterwards: an increment is lost");
    assert_int_equal(t_race_last()->failed_at, found.failed_at);
    assert_int_equal(t_race_last()->nr_schedules, 1);
}

static void test_racy_counter_is_found(void **state)
{
    (void)state;
    expect_found(&(struct t_race_plan){.nr_random = 1000, .silent = true});
    expect_found(&(struct t_race_plan){.nr_pct = 1000, .silent = true});
    expect_found(&(struct t_race_plan){.nr_search = 1000, .preemptions = 1, .silent = true});
    /* No preemption, no race. */
    assert_null(
        t_race_explore(&racy_race, &(struct t_race_plan){.nr_search = 1000, .silent = true}));
    assert_true(t_race_last()->complete);
    assert_null(t_race_replay(&racy_race, ""));
    assert_non_null(strstr(t_race_replay(&racy_race, "0@99>1"), "does not fit"));
    assert_non_null(strstr(t_race_replay(&racy_race, "0@4>0x"), "not of the form"));
}

static bool child(const char *environment, const char *argument, char *text, size_t size)
{
    char command[512];
    size_t len;
    FILE *pipe;

    (void)snprintf(command, sizeof(command), "%s '%s' %s 2>&1", environment, self, argument);
    pipe = popen(command, "r");
    assert_non_null(pipe);
    len = fread(text, 1, size - 1, pipe);
    text[len] = '\0';
    return pclose(pipe) == 0;
}

/* What is printed, put into the environment, fails at the same point. */
static void test_environment_replays(void **state)
{
    static char text[16384];
    static char again[16384];
    char environment[128] = "";
    char *schedule;
    char *failure;

    (void)state;
    assert_false(child("", "racy", text, sizeof(text)));
    schedule = strstr(text, "MM_SCHEDULE=\"toy.racy:");
    assert_non_null(schedule);
    (void)snprintf(environment, sizeof(environment), "%.*s",
                   (int)(strchr(schedule + 13, '"') + 1 - schedule), schedule);
    failure = strstr(text, "after ");
    assert_non_null(failure);
    *strchr(failure, '\n') = '\0'; /* "after N points: what" */
    assert_false(child(environment, "racy", again, sizeof(again)));
    assert_non_null(strstr(again, "schedule 1, "));
    assert_non_null(strstr(again, failure));
    /* Another schedule passes, and says so; one of no race of the program is no success. */
    assert_true(child("MM_SCHEDULE=\"toy.racy:0@1>1\"", "racy", again, sizeof(again)));
    assert_non_null(strstr(again, "race toy.racy: this schedule passes"));
    assert_false(child("MM_SCHEDULE=\"toy:0@4>1\"", "racy", again, sizeof(again)));
    assert_non_null(strstr(again, "names no race of this program"));
}

/* An assertion of cmocka leaves by longjmp: the schedule is printed all the same. */
static void test_assertion_on_a_cpu(void **state)
{
    static char text[16384];

    (void)state;
    assert_false(child("", "assertion", text, sizeof(text)));
    assert_non_null(strstr(text, "MM_SCHEDULE=\"toy.assertion:0@3>1\" replays the failure above"));
    assert_false(child("", "fault", text, sizeof(text)));
    assert_non_null(strstr(text, "MM_SCHEDULE=\"toy.fault:0@3>1\" replays the failure above"));
}

/* ---- every interleaving, once ------------------------------------------------------------------ */

static void traced(void *ctx, unsigned cpu)
{
    struct toy *t = ctx;

    t->trace[t->len++] = (char)('0' + cpu);
    for (unsigned i = 0; i < 2; i++) {
        (void)__tsan_atomic64_fetch_add(&t->counter, 1, __ATOMIC_RELAXED);
        t->trace[t->len++] = (char)('0' + cpu);
    }
}

static const char *collect(void *ctx)
{
    struct toy *t = ctx;

    t->trace[t->len] = '\0';
    for (unsigned i = 0; i < t->nr_traces; i++) {
        if (strcmp(t->traces[i], t->trace) == 0) {
            return NULL;
        }
    }
    if (t->nr_traces == TRACES_MAX) {
        return "too many traces";
    }
    (void)snprintf(t->traces[t->nr_traces++], sizeof(t->traces[0]), "%.31s", t->trace);
    return NULL;
}

/* Three pieces on each of n CPUs: (3n)! / 3!^n ways to interleave them. */
static void test_search_is_complete(void **state)
{
    static const unsigned ways[] = {0, 1, 20, 1680};
    struct t_race race = {.name = "toy.traced", .start = start, .run = traced, .finish = collect};

    (void)state;
    (void)unsetenv("MM_TEST_FULL"); /* the numbers below are exact */
    race.ctx = &toy;
    for (race.nr_cpus = 1; race.nr_cpus <= 3; race.nr_cpus++) {
        toy.nr_traces = 0;
        assert_null(t_race_explore(
            &race, &(struct t_race_plan){.nr_search = 1000000, .preemptions = 10, .silent = true}));
        assert_true(t_race_last()->complete);
        assert_int_equal(toy.nr_traces, ways[race.nr_cpus]);
    }
    /* Of two CPUs, without a preemption: two ways; with one: a CPU is interrupted at each of its
     * points but the first, once for each order. */
    race.nr_cpus = 2;
    toy.nr_traces = 0;
    assert_null(t_race_explore(&race, &(struct t_race_plan){.nr_search = 1000, .silent = true}));
    assert_int_equal(toy.nr_traces, 1);
    assert_null(t_race_explore(
        &race, &(struct t_race_plan){.nr_search = 1000, .preemptions = 1, .silent = true}));
    assert_int_equal(toy.nr_traces, 4);
    assert_null(t_race_explore(
        &race, &(struct t_race_plan){.nr_search = 3, .preemptions = 1, .silent = true}));
    assert_false(t_race_last()->complete);
    assert_int_equal(t_race_last()->nr_schedules, 3);
    /* As many as there are without a preemption: none of those with one was seen. */
    assert_null(t_race_explore(
        &race, &(struct t_race_plan){.nr_search = 1, .preemptions = 1, .silent = true}));
    assert_int_equal(t_race_last()->nr_schedules, 1);
    assert_false(t_race_last()->complete);
}

/* ---- waiting ----------------------------------------------------------------------------------- */

static void lock(struct toy *t, unsigned which, bool relaxes)
{
    while (LOAD(&t->locks[which]) != 0 ||
           __tsan_atomic64_exchange(&t->locks[which], 1, __ATOMIC_ACQUIRE) != 0) {
        if (relaxes) {
            t_schedule_spin();
        }
    }
}

static void unlock(struct toy *t, unsigned which)
{
    STORE(&t->locks[which], 0);
}

static void locked(void *ctx, unsigned cpu)
{
    struct toy *t = ctx;
    uint64_t seen;

    lock(t, 0, cpu != 1);
    if (t->inside++ != 0) {
        t_schedule_fail("two CPUs hold the lock");
    }
    seen = LOAD(&t->counter);
    STORE(&t->counter, seen + 1);
    t->inside--;
    unlock(t, 0);
}

static void locks_crossed(void *ctx, unsigned cpu)
{
    lock(ctx, cpu, true);
    lock(ctx, 1 - cpu, true);
    unlock(ctx, 1 - cpu);
    unlock(ctx, cpu);
}

/* Spinning costs no schedules and never hangs, with the relax op or by looking alone. */
static void test_waiting(void **state)
{
    struct t_race race = {
        .name = "toy.locked", .nr_cpus = 2, .start = start, .run = locked, .finish = both_counted};
    const struct t_race_plan plan = {
        .nr_random = 500, .nr_pct = 500, .nr_search = 100000, .preemptions = 3, .silent = true};

    (void)state;
    race.ctx = &toy;
    assert_null(t_race_explore(&race, &plan));
    assert_true(t_race_last()->complete);
    race.run = locks_crossed;
    race.finish = NULL;
    assert_non_null(strstr(t_race_explore(&race, &plan), "deadlock"));
    assert_null(strchr(t_race_last()->schedule, ' '));
}

static void waits_for_nothing(void *ctx, unsigned cpu)
{
    (void)cpu;
    while (LOAD(&((struct toy *)ctx)->flag) == 0) {
    }
}

static void writes_for_ever(void *ctx, unsigned cpu)
{
    struct toy *t = ctx;

    for (uint64_t i = 1; cpu == 0 || t->flag == 0; i++) {
        STORE(&t->counter, i);
    }
}

static void test_no_end(void **state)
{
    struct t_race race = {.name = "toy.endless", .nr_cpus = 2, .start = start, .ctx = &toy};
    const struct t_race_plan plan = {.nr_search = 10, .silent = true};

    (void)state;
    race.run = waits_for_nothing;
    assert_non_null(strstr(t_race_explore(&race, &plan), "no end"));
    race.run = writes_for_ever;
    assert_non_null(strstr(t_race_explore(&race, &plan), "no end"));
}

/* ---- panics, interrupts, plain accesses -------------------------------------------------------- */

static void panics(void *arg)
{
    struct toy *t = arg;

    if (__tsan_atomic64_fetch_add(&t->counter, 1, __ATOMIC_RELAXED) != 0) {
        t_schedule_panic("freed twice");
    }
}

static void catches(void *ctx, unsigned cpu)
{
    struct toy *t = ctx;

    (void)cpu;
    t->nr_caught += t_schedule_catch(panics, t) ? 1 : 0;
    (void)LOAD(&t->flag);
}

static void catches_not(void *ctx, unsigned cpu)
{
    (void)cpu;
    panics(ctx);
}

static const char *one_caught(void *ctx)
{
    return ((struct toy *)ctx)->nr_caught == 1 ? NULL : "not one panic";
}

static void test_panics(void **state)
{
    struct t_race race = {
        .name = "toy.panics", .nr_cpus = 2, .start = start, .run = catches, .finish = one_caught};
    const struct t_race_plan plan = {.nr_search = 1000, .preemptions = 2, .silent = true};

    (void)state;
    race.ctx = &toy;
    assert_null(t_race_explore(&race, &plan));
    assert_true(t_race_last()->complete);
    race.run = catches_not;
    assert_non_null(strstr(t_race_explore(&race, &plan), "CPU 1: panic: freed twice"));
}

static void interrupted(void *ctx, unsigned cpu)
{
    racy(ctx, cpu);
}

static void handler(void *ctx, unsigned cpu)
{
    (void)cpu;
    (void)__tsan_atomic64_fetch_add(&((struct toy *)ctx)->counter, 1, __ATOMIC_RELAXED);
}

static const char *none_lost(void *ctx)
{
    /* The interrupt may not have come. */
    uint64_t counter = ((struct toy *)ctx)->counter;

    return counter == 1 || counter == 2 ? NULL : "a wrong count";
}

static const char *two_or_silent(void *ctx)
{
    struct toy *t = ctx;

    return t->counter == 1 && t->inside != 0 ? "the handler's increment is lost" : NULL;
}

static void marking_handler(void *ctx, unsigned cpu)
{
    handler(ctx, cpu);
    ((struct toy *)ctx)->inside = 1;
}

static void test_interrupts(void **state)
{
    struct t_race race = {.name = "toy.interrupted",
                          .nr_cpus = 1,
                          .start = start,
                          .run = interrupted,
                          .interrupt = handler,
                          .nr_interrupts = 1,
                          .finish = none_lost};
    const struct t_race_plan plan = {.nr_search = 1000, .preemptions = 1, .silent = true};

    (void)state;
    race.ctx = &toy;
    assert_null(t_race_explore(&race, &plan));
    /* No interrupt, or one at each of five points; and the bound of 0 before. */
    assert_int_equal(t_race_last()->nr_schedules, 1 + 6);
    race.interrupt = marking_handler;
    race.finish = two_or_silent;
    assert_non_null(strstr(t_race_explore(&race, &plan), "increment is lost"));
    assert_string_equal(t_race_last()->schedule, "0@4!");
    assert_non_null(t_race_replay(&race, "0@4!"));
    assert_null(t_race_replay(&race, "0@2!"));
    assert_non_null(
        t_race_explore(&race, &(struct t_race_plan){.nr_random = 1000, .silent = true}));
    assert_non_null(t_race_explore(&race, &(struct t_race_plan){.nr_pct = 1000, .silent = true}));
}

static void plainly(void *ctx, unsigned cpu)
{
    struct toy *t = ctx;
    uint64_t seen;

    (void)cpu;
    __tsan_read8(&t->counter);
    seen = t->counter;
    __tsan_write8(&t->counter);
    t->counter = seen + 1;
}

static void test_plain_accesses(void **state)
{
    struct t_race race = {
        .name = "toy.plain", .nr_cpus = 2, .start = start, .run = plainly, .finish = both_counted};
    const struct t_race_plan plan = {.nr_search = 1000, .preemptions = 1, .silent = true};

    (void)state;
    race.ctx = &toy;
    assert_null(t_race_explore(&race, &plan));
    race.plain = true;
    assert_non_null(strstr(t_race_explore(&race, &plan), "increment is lost"));
}

/* ---- order ------------------------------------------------------------------------------------- */

static struct {
    int store_order;
    int load_order;
    int update_order; /* of an update by CPU 2 in between; -1: none */
    unsigned reads_at;
    bool atomic;
} message;

/* CPU 0 writes and publishes; CPU 1 looks, and reads if it finds it published. */
static void passes_a_message(void *ctx, unsigned cpu)
{
    struct toy *t = ctx;

    if (cpu == 0) {
        __tsan_write4(&t->counter);
        __tsan_atomic64_store(&t->flag, 16, message.store_order);
    } else if (cpu == 2) {
        if (message.update_order >= 0) {
            (void)__tsan_atomic64_fetch_add(&t->flag, 1, message.update_order);
        }
    } else if (__tsan_atomic64_load(&t->flag, message.load_order) >= 16) {
        if (message.atomic) {
            (void)LOAD(&t->counter);
        } else {
            __tsan_read4((char *)&t->counter + message.reads_at);
        }
    }
}

static bool is_ordered(int store_order, int load_order, int update_order)
{
    struct t_race race = {.name = "toy.message",
                          .nr_cpus = 3,
                          .start = start,
                          .run = passes_a_message,
                          .ctx = &toy,
                          .ordered = true};
    /* Without a preemption, and as many as each eighth of all: order is looked at in those. */
    const struct t_race_plan plan = {
        .nr_search = 2000, .preemptions = 2, .nr_random = 200, .silent = true};
    const char *wrong;

    message.store_order = store_order;
    message.load_order = load_order;
    message.update_order = update_order;
    wrong = t_race_explore(&race, &plan);
    if (wrong != NULL) {
        assert_non_null(strstr(wrong, "no order: "));
        assert_non_null(strstr(wrong, "of CPU 0"));
    }
    return wrong == NULL;
}

static void test_order(void **state)
{
    (void)state;
    message.reads_at = 0;
    message.atomic = false;
    assert_true(is_ordered(__ATOMIC_RELEASE, __ATOMIC_ACQUIRE, -1));
    assert_true(is_ordered(__ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST, -1));
    assert_false(is_ordered(__ATOMIC_RELAXED, __ATOMIC_ACQUIRE, -1));
    assert_false(is_ordered(__ATOMIC_RELEASE, __ATOMIC_RELAXED, -1));
    /* An update goes on with what was published, whatever its own order. */
    assert_true(is_ordered(__ATOMIC_RELEASE, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED));
    assert_true(is_ordered(__ATOMIC_RELEASE, __ATOMIC_ACQUIRE, __ATOMIC_ACQ_REL));
    /* An atomic load of what was stored plainly needs the order as well. */
    message.atomic = true;
    assert_false(is_ordered(__ATOMIC_RELEASE, __ATOMIC_RELAXED, -1));
    assert_true(is_ordered(__ATOMIC_RELEASE, __ATOMIC_ACQUIRE, -1));
    /* The other half of the word is another object. */
    message.atomic = false;
    message.reads_at = 4;
    assert_true(is_ordered(__ATOMIC_RELAXED, __ATOMIC_RELAXED, -1));
}

/* An access of `size` bytes at an offset of one word; whether it is ordered. */
static bool goes(unsigned cpu, unsigned at, unsigned size, enum t_event_kind kind, int order)
{
    static uint64_t word[2];
    const struct t_event event = {.kind = kind,
                                  .at = (char *)word + at,
                                  .size = size,
                                  .atomic = order >= 0,
                                  .order = order < 0 ? __ATOMIC_RELAXED : order};

    return t_order_access(cpu, &event) == NULL;
}

/* Objects that share a word are as good as far apart: what is stored to one of them neither takes
 * back what another has published, nor publishes for it, nor hides that it was accessed. */
static void test_order_of_neighbours(void **state)
{
    (void)state;
    t_order_start();
    assert_true(goes(0, 8, 4, T_EVENT_STORE, -1));
    assert_true(goes(0, 0, 4, T_EVENT_STORE, __ATOMIC_RELEASE));
    assert_true(goes(0, 4, 4, T_EVENT_STORE, __ATOMIC_RELAXED));
    assert_true(goes(1, 0, 4, T_EVENT_LOAD, __ATOMIC_ACQUIRE));
    assert_true(goes(1, 8, 4, T_EVENT_LOAD, -1));

    t_order_start();
    assert_true(goes(0, 8, 4, T_EVENT_STORE, -1));
    assert_true(goes(0, 0, 4, T_EVENT_STORE, __ATOMIC_RELEASE));
    assert_true(goes(1, 4, 4, T_EVENT_LOAD, __ATOMIC_ACQUIRE));
    assert_false(goes(1, 8, 4, T_EVENT_LOAD, -1));

    t_order_start();
    assert_true(goes(0, 8, 4, T_EVENT_STORE, -1));
    assert_true(goes(0, 0, 4, T_EVENT_UPDATE, __ATOMIC_RELEASE));
    assert_true(goes(0, 12, 4, T_EVENT_STORE, -1));
    assert_false(goes(1, 8, 4, T_EVENT_LOAD, -1));

    t_order_start();
    assert_true(goes(0, 8, 4, T_EVENT_STORE, -1));
    assert_true(goes(0, 0, 4, T_EVENT_UPDATE, __ATOMIC_RELEASE));
    assert_true(goes(0, 12, 4, T_EVENT_STORE, -1));
    assert_true(goes(1, 0, 8, T_EVENT_LOAD, __ATOMIC_ACQUIRE));
    assert_true(goes(1, 8, 4, T_EVENT_LOAD, -1));
    assert_false(goes(1, 8, 8, T_EVENT_LOAD, -1));
}

static void locked_plainly(void *ctx, unsigned cpu)
{
    struct toy *t = ctx;

    lock(t, cpu == 2 ? 1 : 0, true); /* CPU 2, if there is one, takes the wrong one */
    plainly(t, cpu);
    unlock(t, cpu == 2 ? 1 : 0);
}

static void test_lock_orders(void **state)
{
    struct t_race race = {.name = "toy.locked-plainly",
                          .nr_cpus = 2,
                          .start = start,
                          .run = locked_plainly,
                          .ctx = &toy,
                          .ordered = true};
    const struct t_race_plan plan = {.nr_search = 500, .preemptions = 2, .silent = true};

    (void)state;
    assert_null(t_race_explore(&race, &plan));
    race.nr_cpus = 3;
    assert_non_null(strstr(t_race_explore(&race, &plan), "no order: "));
    assert_int_equal(t_race_last()->nr_schedules, 1); /* found in the first, which breaks nothing */
}

/* ---- children: what they print is what is tested ----------------------------------------------- */

static void asserts(void *ctx, unsigned cpu)
{
    (void)LOAD(&((struct toy *)ctx)->flag);
    (void)LOAD(&((struct toy *)ctx)->flag);
    assert_int_equal(cpu, 0);
}

static void faults(void *ctx, unsigned cpu)
{
    static uint64_t *volatile nowhere;

    (void)LOAD(&((struct toy *)ctx)->flag);
    (void)LOAD(&((struct toy *)ctx)->flag);
    if (cpu == 1) {
        *nowhere = 1;
    }
}

static unsigned given_switch(void *ctx, const struct t_choice *choice)
{
    (void)ctx;
    return choice->cpu == 0 && choice->event == 3 ? 1 : choice->fallback;
}

static void leave(const char *name, void (*run)(void *ctx, unsigned cpu))
{
    static struct t_run out;
    const struct t_strategy strategy = {given_switch, NULL};
    struct t_race race = {.name = name, .nr_cpus = 2, .start = start, .run = run, .ctx = &toy};

    t_schedule_run(&race, &strategy, &out);
}

static void child_racy(void **state)
{
    (void)state;
    assert_null(t_race_explore(&racy_race, &(struct t_race_plan){.nr_random = 1000}));
}

static void child_assertion(void **state)
{
    (void)state;
    leave("toy.assertion", asserts);
}

static void child_fault(void **state)
{
    (void)state;
    leave("toy.fault", faults);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_racy_counter_is_found),
        cmocka_unit_test(test_environment_replays),
        cmocka_unit_test(test_assertion_on_a_cpu),
        cmocka_unit_test(test_search_is_complete),
        cmocka_unit_test(test_waiting),
        cmocka_unit_test(test_no_end),
        cmocka_unit_test(test_panics),
        cmocka_unit_test(test_interrupts),
        cmocka_unit_test(test_plain_accesses),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_order_of_neighbours),
        cmocka_unit_test(test_lock_orders),
    };
    const struct CMUnitTest racy_child[] = {cmocka_unit_test(child_racy)};
    const struct CMUnitTest assertion_child[] = {cmocka_unit_test(child_assertion)};
    const struct CMUnitTest fault_child[] = {cmocka_unit_test(child_fault)};

    self = argv[0];
    if (argc > 1 && strcmp(argv[1], "racy") == 0) {
        return cmocka_run_group_tests_name("racy", racy_child, NULL, NULL);
    }
    if (argc > 1 && strcmp(argv[1], "assertion") == 0) {
        return cmocka_run_group_tests_name("assertion", assertion_child, NULL, NULL);
    }
    if (argc > 1 && strcmp(argv[1], "fault") == 0) {
        return cmocka_run_group_tests_name("fault", fault_child, NULL, NULL);
    }
    return cmocka_run_group_tests_name("schedule", tests, NULL, NULL);
}
