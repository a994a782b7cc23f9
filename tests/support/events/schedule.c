// SPDX-License-Identifier: MIT
/**
 * One run of a race: fibers, points, waiting, and the ways in which a run ends.
 *
 * Each CPU is a fiber with a stack of its own between guard pages. A fiber is left and entered in
 * point() alone, by longjmp, which unlike swapcontext() makes no system call; its first entry is by
 * setcontext(). The thread's own stack waits in t_schedule_run() until the last CPU is done or one
 * has failed; the fibers of a failed run are dropped as they are.
 *
 * A CPU that waits (a spin lock's relax op, or many looks at one word that does not change) is
 * asleep until another CPU writes something. If all are asleep or done, and not all done, nobody
 * will ever go on.
 *
 * A test that fails in a fiber by cmocka's own longjmp, or by a fault, is gone from the run without
 * a word. Whatever comes next, another run or the end of the process, finds the run unfinished and
 * prints its schedule.
 */
#define _GNU_SOURCE
#include "schedule.h"

#include "delay.h"
#include "events.h"
#include "order.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wclobbered"
#endif

#define STACK_LEN   (256u * 1024)
#define GUARD_LEN   4096u
#define STEPS_MAX   200000u /* points of one run: more is a run without end */
#define LOOKS_MAX   64u     /* looks at one word in a row: more is waiting */
#define CATCHES_MAX 4u      /* catches of one CPU: its own, and those of interrupts */

struct cpu {
    char *stack;
    ucontext_t first;
    jmp_buf env;
    bool started;
    bool done;
    bool asleep;
    uint64_t turned; /* nr_writes when its last turn ended */
    bool stored;     /* a plain store was told, and is made by now or soon */
    uint64_t nr_events;
    const void *looked_at;
    unsigned nr_looks;
    uint64_t seen; /* s.nr_writes when it last looked at something */
    unsigned nr_catches;
    jmp_buf *catches[CATCHES_MAX];
};

static struct {
    struct cpu cpus[T_SCHEDULE_CPUS];
    struct t_race race; /* a copy: the original may be gone, with a test that has failed */
    const struct t_strategy *strategy;
    struct t_run *run;
    jmp_buf home;
    unsigned current;
    unsigned nr_interrupts;
    uint64_t nr_writes; /* by anybody */
    bool running;
} s;

void t_schedule_text(const struct t_run *run, char *text, unsigned long size)
{
    unsigned long len = 0;

    text[0] = '\0';
    for (uint32_t i = 0; i < run->nr_switches && len < size; i++) {
        const struct t_switch *at = &run->switches[i];
        char to[8] = "!";

        if (at->to != T_SCHEDULE_INTERRUPT) {
            (void)snprintf(to, sizeof(to), ">%u", at->to);
        }
        len += (unsigned long)snprintf(text + len, size - len, "%s%u@%llu%s", i == 0 ? "" : " ",
                                       at->cpu, (unsigned long long)at->event, to);
    }
}

static void print_unfinished(void)
{
    static char text[32 * 1024];

    if (s.running) {
        s.running = false;
        t_events_watch(NULL, NULL);
        t_schedule_text(s.run, text, sizeof(text));
        (void)fprintf(stderr, "MM_SCHEDULE=\"%s:%s\" replays the failure above\n", s.race.name,
                      text);
    }
}

/* Whether a run is under way, and this is code on one of its CPUs. */
static bool on_a_cpu(void)
{
    uint64_t here = (uint64_t)(uintptr_t)__builtin_frame_address(0);

    if (!s.running) {
        return false;
    }
    if (here - (uint64_t)(uintptr_t)s.cpus[s.current].stack < STACK_LEN) {
        return true;
    }
    print_unfinished(); /* its CPU was left without a word */
    return false;
}

/* ---- the ways out ------------------------------------------------------------------------------ */

static _Noreturn void go_home(void)
{
    (void)t_events_quiet(true);
    _longjmp(s.home, 1);
}

void t_schedule_fail(const char *format, ...)
{
    char text[sizeof(s.run->failure)];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (!on_a_cpu()) {
        (void)fprintf(stderr, "%s\n", text);
        abort();
    }
    s.run->failed = true;
    (void)snprintf(s.run->failure, sizeof(s.run->failure), "CPU %u: %.360s", s.current, text);
    go_home();
}

void t_schedule_panic(const char *what)
{
    struct cpu *me = &s.cpus[s.current];

    if (on_a_cpu() && me->nr_catches > 0) {
        _longjmp(*me->catches[me->nr_catches - 1], 1);
    }
    t_schedule_fail("panic: %s", what);
}

bool t_schedule_catch(void (*f)(void *arg), void *arg)
{
    struct cpu *me = &s.cpus[s.current];
    volatile bool caught = true;
    jmp_buf env;

    if (!on_a_cpu() || me->nr_catches == CATCHES_MAX) {
        t_schedule_fail("a catch outside of a race, or in too many others");
    }
    if (_setjmp(env) == 0) {
        me->catches[me->nr_catches++] = &env;
        f(arg);
        caught = false;
    }
    me->nr_catches--;
    return caught;
}

/* ---- points ------------------------------------------------------------------------------------ */

static void wake_others(void)
{
    s.nr_writes++;
    for (unsigned i = 0; i < s.race.nr_cpus; i++) {
        if (i != s.current) {
            s.cpus[i].asleep = false;
        }
    }
}

/* The strategy's answer, checked and put on record. */
static unsigned decide(const void *pc)
{
    struct cpu *me = &s.cpus[s.current];
    struct t_choice choice = {
        .cpu = s.current,
        .event = me->nr_events,
        .step = s.run->nr_points,
        .must = me->done || me->asleep,
        .interrupt = s.race.interrupt != NULL && s.nr_interrupts < s.race.nr_interrupts &&
                     !me->done && !me->asleep,
        .fallback = s.current,
    };
    unsigned to;

    for (unsigned i = 1; i < s.race.nr_cpus; i++) {
        unsigned other = (s.current + i) % s.race.nr_cpus;

        if (!s.cpus[other].done && !s.cpus[other].asleep) {
            choice.others |= 1u << other;
            if (choice.must && choice.fallback == s.current) {
                choice.fallback = other;
            }
        }
    }
    if (choice.others == 0 && choice.must) {
        t_schedule_fail("deadlock: everybody waits");
    }
    to = choice.others == 0 && !choice.interrupt ? s.current
                                                 : s.strategy->choose(s.strategy->ctx, &choice);
    if (to != choice.fallback) {
        if (s.run->nr_switches == T_SCHEDULE_SWITCHES) {
            t_schedule_fail("too many switches");
        }
        s.run->switches[s.run->nr_switches++] = (struct t_switch){
            .event = me->nr_events, .pc = pc, .cpu = (uint8_t)s.current, .to = (uint8_t)to};
    }
    return to;
}

static void fiber_main(void);

/* Leave this fiber for another one, and come back one day. */
static void switch_to(unsigned to)
{
    struct cpu *me = &s.cpus[s.current];
    struct cpu *other = &s.cpus[to];
    unsigned self = s.current;

    if (!me->done && _setjmp(me->env) != 0) {
        s.current = self;
        return;
    }
    s.current = to;
    if (!other->started) {
        other->started = true;
        (void)setcontext(&other->first);
        abort();
    }
    _longjmp(other->env, 1);
}

static void point(const void *pc)
{
    bool was_quiet = t_events_quiet(true);
    struct cpu *me = &s.cpus[s.current];
    unsigned to;

    if (me->stored) {
        me->stored = false;
        wake_others();
    }
    me->nr_events++;
    if (++s.run->nr_points > STEPS_MAX) {
        t_schedule_fail("no end after %u points", STEPS_MAX);
    }
    to = decide(pc);
    while (to == T_SCHEDULE_INTERRUPT) {
        s.nr_interrupts++;
        (void)t_events_quiet(false);
        s.race.interrupt(s.race.ctx, s.current);
        (void)t_events_quiet(true);
        me->nr_events++;
        s.run->nr_points++;
        to = decide(pc);
    }
    if (to != s.current) {
        switch_to(to);
    }
    (void)t_events_quiet(was_quiet);
}

static bool somebody_else(void)
{
    for (unsigned i = 0; i < s.race.nr_cpus; i++) {
        if (i != s.current && !s.cpus[i].done && !s.cpus[i].asleep) {
            return true;
        }
    }
    return false;
}

static void look(const struct t_event *event)
{
    struct cpu *me = &s.cpus[s.current];

    me->seen = s.nr_writes;
    if (event->at != me->looked_at) {
        me->looked_at = event->at;
        me->nr_looks = 0;
    } else if (++me->nr_looks >= LOOKS_MAX && somebody_else()) {
        me->nr_looks = 0;
        t_schedule_spin();
    }
}

static void put_in_order(const struct t_event *event)
{
    const char *wrong = s.race.ordered ? t_order_access(s.current, event) : NULL;

    if (wrong != NULL) {
        t_schedule_fail("%s", wrong);
    }
}

static void before_access(void *ctx, const struct t_event *event)
{
    (void)ctx;
    if (!on_a_cpu()) {
        return;
    }
    if (event->atomic
            ? !s.race.sparse || event->kind != T_EVENT_LOAD || event->order != __ATOMIC_RELAXED
            : s.race.plain) {
        point(event->pc);
    }
    if (s.race.delayed && t_delay_before(s.current, event)) {
        wake_others();
    }
    if (!event->atomic && event->kind == T_EVENT_STORE) {
        s.cpus[s.current].stored = true;
    }
    if (!event->atomic) {
        put_in_order(event);
    }
}

static void after_access(void *ctx, const struct t_event *event)
{
    (void)ctx;
    if (!on_a_cpu()) {
        return;
    }
    put_in_order(event);
    if (s.race.delayed && t_delay_after(s.current, event)) {
        wake_others();
    }
    if (event->kind == T_EVENT_LOAD || event->kind == T_EVENT_FAILED_CAS ||
        event->before == event->after) {
        look(event);
        return;
    }
    s.cpus[s.current].looked_at = NULL;
    wake_others();
}

static void land_all(void)
{
    if (s.race.delayed && t_delay_end(s.current)) {
        wake_others();
    }
}

static const struct t_events_hooks hooks = {before_access, after_access};

unsigned t_schedule_cpu(void)
{
    return on_a_cpu() ? s.current : 0;
}

void t_schedule_point(void)
{
    if (on_a_cpu()) {
        wake_others(); /* an op may change what others wait for */
        point(__builtin_return_address(0));
        land_all(); /* as late as can be: before the op itself */
    }
}

void t_schedule_spin(void)
{
    struct cpu *me = &s.cpus[s.current];

    if (on_a_cpu()) {
        land_all();
        /* What it waits for may have come since it looked: then it looks again. */
        me->asleep = me->seen == s.nr_writes;
        point(__builtin_return_address(0));
        me->asleep = false;
    }
}

void t_schedule_turn(void)
{
    struct cpu *me = &s.cpus[s.current];

    if (on_a_cpu()) {
        land_all();
        me->asleep = me->turned == s.nr_writes;
        point(__builtin_return_address(0));
        me->asleep = false;
        me->turned = s.nr_writes;
    }
}

/* ---- a run ------------------------------------------------------------------------------------- */

static void fiber_main(void)
{
    (void)t_events_quiet(false);
    point(NULL); /* whoever starts may be stopped at once: the first CPU is not always the first */
    s.race.run(s.race.ctx, s.current);
    (void)t_events_quiet(true);
    land_all();
    s.cpus[s.current].done = true;
    wake_others();
    for (unsigned i = 0; i < s.race.nr_cpus; i++) {
        if (!s.cpus[i].done) {
            point(NULL);
        }
    }
    go_home();
}

static void make_stacks(unsigned nr)
{
    for (unsigned i = 0; i < nr; i++) {
        char *stack;

        if (s.cpus[i].stack != NULL) {
            continue;
        }
        stack =
            mmap(NULL, STACK_LEN + 2 * GUARD_LEN, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (stack == MAP_FAILED ||
            mprotect(stack + GUARD_LEN, STACK_LEN, PROT_READ | PROT_WRITE) != 0) {
            abort();
        }
        s.cpus[i].stack = stack + GUARD_LEN;
        if (getcontext(&s.cpus[i].first) != 0) {
            abort();
        }
    }
}

static void reset(struct cpu *cpu)
{
    cpu->started = false;
    cpu->done = false;
    cpu->asleep = false;
    cpu->turned = UINT64_MAX;
    cpu->stored = false;
    cpu->nr_events = 0;
    cpu->looked_at = NULL;
    cpu->nr_looks = 0;
    cpu->seen = 0;
    cpu->nr_catches = 0;
    cpu->first.uc_stack.ss_sp = cpu->stack;
    cpu->first.uc_stack.ss_size = STACK_LEN;
    cpu->first.uc_link = NULL;
    makecontext(&cpu->first, fiber_main, 0);
}

void t_schedule_run(const struct t_race *race, const struct t_strategy *strategy, struct t_run *out)
{
    static bool registered;

    print_unfinished();
    if (!registered) {
        registered = true;
        (void)atexit(print_unfinished);
    }
    if (race->nr_cpus == 0 || race->nr_cpus > T_SCHEDULE_CPUS) {
        abort();
    }
    make_stacks(race->nr_cpus);
    out->nr_points = 0;
    out->nr_switches = 0;
    out->failed = false;
    out->failure[0] = '\0';
    race->start(race->ctx);
    s.race = *race;
    s.strategy = strategy;
    s.run = out;
    s.current = 0;
    s.nr_interrupts = 0;
    s.nr_writes = 0;
    for (unsigned i = 0; i < race->nr_cpus; i++) {
        reset(&s.cpus[i]);
    }
    if (race->ordered) {
        t_order_start();
    }
    t_delay_start();
    s.running = true;
    t_events_watch(&hooks, NULL);
    if (_setjmp(s.home) == 0) {
        s.cpus[0].started = true;
        (void)setcontext(&s.cpus[0].first);
        abort();
    }
    t_events_watch(NULL, NULL);
    s.running = false;
    if (!out->failed) {
        const char *wrong = race->finish == NULL ? NULL : race->finish(race->ctx);

        if (wrong != NULL) {
            out->failed = true;
            (void)snprintf(out->failure, sizeof(out->failure), "afterwards: %s", wrong);
        }
    }
}
