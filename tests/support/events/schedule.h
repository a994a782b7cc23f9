// SPDX-License-Identifier: MIT
/**
 * A cooperative scheduler: 1 to 4 simulated CPUs in one thread, which may switch before every
 * atomic access of the library and at every op, and interrupts that come there.
 *
 * A *race* says what the CPUs do; the scheduler runs it again and again, each time from the start
 * and with another *schedule*, the list of switches. Nothing else of a run is left to chance, so a
 * schedule replays exactly:
 *
 *     static void run(void *ctx, unsigned cpu) { ... calls of the library on this CPU ... }
 *
 *     const struct t_race race = {.name = "frame.last", .nr_cpus = 2, .start = start, .run = run,
 *                                 .finish = finish, .ctx = &world};
 *     T_LEGAL(t_race_explore(&race, &(struct t_race_plan){.nr_random = 2000, .nr_pct = 1000,
 *                                                         .nr_search = 5000, .preemptions = 2}));
 *
 * What fails in a run, fails the schedule: t_schedule_fail(), a panic that nobody expects, a CPU
 * that waits for what never comes, a run without end, or what finish() says of the world after it.
 * The schedule is then shrunk to what matters, and printed with the places in the sources at which
 * the CPUs were switched:
 *
 *     MM_SCHEDULE="frame.last:0@12>1 1@7>0"
 *
 * means: CPU 0 runs to its 12th point, there CPU 1 goes on, and at its 7th point CPU 0 again; "!"
 * is an interrupt. In the environment of the same program, that replays it, and nothing else runs.
 * A CPU that has nothing to do gives way to the next one that has, which is not in the list.
 *
 * An interrupt is a call nested in what the CPU does: what it interrupts goes on when it returns.
 */
#ifndef T_SCHEDULE_H
#define T_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>

#define T_SCHEDULE_CPUS 4

struct t_race {
    const char *name;
    unsigned nr_cpus;
    /** Make the world as it is before; no point is in it. */
    void (*start)(void *ctx);
    void (*run)(void *ctx, unsigned cpu);
    /** NULL: no interrupts. Else up to `nr_interrupts` come, on any CPU at any point of run(). */
    void (*interrupt)(void *ctx, unsigned cpu);
    unsigned nr_interrupts;
    /** All CPUs are done: what is wrong, or NULL; takes the world down. Not called if the run has
     * failed: then the world stays as it is, for start() to make anew. */
    const char *(*finish)(void *ctx);
    void *ctx;
    /** Plain accesses are points as well: finds what must be atomic and is not. */
    bool plain;
    /** Relaxed loads are no points: for calls that read through whole tables under a lock. Whoever
     * acts on what he read does so by another access, which is a point. */
    bool sparse;
    /** Accesses of two CPUs must be ordered: see order.h. */
    bool ordered;
    /** Atomic stores are seen late by other CPUs, where their orders allow it: see delay.h. */
    bool delayed;
};

struct t_race_plan {
    uint64_t nr_random; /**< schedules drawn at random */
    /** By priorities that change at random points (Burckhardt et al., "A randomized scheduler with
     * probabilistic guarantees of finding bugs", 2010). */
    uint64_t nr_pct;
    /** At most so many of all that have 0, then 1, up to `preemptions` switches (or interrupts)
     * that nothing made necessary. */
    uint64_t nr_search;
    unsigned preemptions;
    bool silent; /**< print nothing: for tests of the scheduler */
};

struct t_race_result {
    uint64_t nr_schedules;
    uint64_t nr_points; /**< in all of them */
    bool complete;      /**< the search saw all schedules that it is to see */
    uint64_t failed_at; /**< points that had been passed in the schedule that failed */
    char schedule[1024];
    char failure[384];
};

/** NULL, or what went wrong, after printing it. The result lasts until the next race. */
const char *t_race_explore(const struct t_race *race, const struct t_race_plan *plan);
const struct t_race_result *t_race_last(void);

/** Run the schedule of this text, "0@12>1 1@7>0"; NULL, or what went wrong. */
const char *t_race_replay(const struct t_race *race, const char *schedule);

/** Factor for the number of schedules: 1, more with MM_TEST_FULL=1. */
uint64_t t_race_factor(void);

/* --- for code that runs on a CPU ---------------------------------------------------------------- */

/** The CPU that runs; 0 outside of a race. */
unsigned t_schedule_cpu(void);
/** A point: an op was called. Outside of a race it does nothing, as the next. */
void t_schedule_point(void);
/** This CPU waits: it does not go on before another one has written something. */
void t_schedule_spin(void);
/** The same at the end of a turn that looks at several words: this CPU sleeps only if nothing was
 * written since its last turn ended. A turn must not write anything itself. */
void t_schedule_turn(void);
/** The schedule has failed; does not return. Outside of a race: prints, and aborts. */
_Noreturn void t_schedule_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
/** The panic hook's end: caught by t_schedule_catch(), or fails the schedule. */
_Noreturn void t_schedule_panic(const char *what);
/** Call f; true if it ended in a panic, which is then its end. Not to be nested on one CPU, but by
 * interrupts. */
bool t_schedule_catch(void (*f)(void *arg), void *arg);

/* --- for strategies ----------------------------------------------------------------------------- */

#define T_SCHEDULE_INTERRUPT 0x80u

/** What a strategy is asked at a point. */
struct t_choice {
    unsigned cpu;
    uint64_t event;    /**< the CPU's points so far, this one with it; from 1 */
    uint64_t step;     /**< points of all CPUs, this one with it */
    unsigned others;   /**< a bit for each other CPU that can go on */
    bool must;         /**< the CPU itself cannot go on: others is not 0 */
    bool interrupt;    /**< an interrupt may come */
    unsigned fallback; /**< the CPU that goes on unless the strategy decides otherwise */
};

struct t_strategy {
    /** The CPU that goes on, or T_SCHEDULE_INTERRUPT. */
    unsigned (*choose)(void *ctx, const struct t_choice *choice);
    void *ctx;
};

/** One decision that was not the fallback. */
struct t_switch {
    uint64_t event;
    const void *pc; /**< of the point; NULL: an op, or the start or the end of the CPU */
    uint8_t cpu;
    uint8_t to; /**< a CPU, or T_SCHEDULE_INTERRUPT */
};

#define T_SCHEDULE_SWITCHES 4096

struct t_run {
    uint64_t nr_points;
    uint32_t nr_switches;
    struct t_switch switches[T_SCHEDULE_SWITCHES];
    bool failed;
    char failure[384];
};

/** "0@12>1 1@7>0": cut off where the room ends. */
void t_schedule_text(const struct t_run *run, char *text, unsigned long size);

/** Run the race once. */
void t_schedule_run(const struct t_race *race, const struct t_strategy *strategy,
                    struct t_run *out);

#endif
