// SPDX-License-Identifier: MIT
/**
 * Which schedules of a race are run: at random, by changing priorities, all of few switches; one
 * that is given. And what becomes of a schedule that fails: it is shrunk, and printed.
 *
 * The search is depth first and keeps no state but the way down: every decision so far and how many
 * answers it had. A schedule is run by giving these answers and the first one from there on. The
 * answers that let the CPU go on, or that had to be given, are free; others are counted.
 */
#define _GNU_SOURCE
#include "schedule.h"

#include "events.h"
#include "prng.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define DECISIONS_MAX 65536u
#define CHANGES_MAX   4u
#define ORDERED_EACH  8u    /* schedules: accesses without order show in nearly each, and cost */
#define SHRINK_MAX    2000u /* runs that shrinking may take */

static struct t_run run;
static struct t_race_result result;

uint64_t t_race_factor(void)
{
    const char *full = getenv("MM_TEST_FULL");

    return full != NULL && strcmp(full, "1") == 0 ? 40 : 1;
}

const struct t_race_result *t_race_last(void)
{
    return &result;
}

static bool run_once(const struct t_race *race, const struct t_strategy *strategy)
{
    struct t_race now = *race;

    now.ordered = race->ordered && result.nr_schedules % ORDERED_EACH == 0;
    t_schedule_run(&now, strategy, &run);
    result.nr_schedules++;
    result.nr_points += run.nr_points;
    return run.failed;
}

/* ---- at random --------------------------------------------------------------------------------- */

struct random {
    struct t_prng prng;
    uint64_t one_in; /* points without a switch, on average */
};

/* One of the CPUs of the mask. */
static unsigned pick(struct t_prng *prng, unsigned mask)
{
    unsigned skip = (unsigned)t_prng_below(prng, (uint64_t)__builtin_popcount(mask));

    while (skip-- > 0) {
        mask &= mask - 1;
    }
    return (unsigned)__builtin_ctz(mask);
}

static unsigned choose_at_random(void *ctx, const struct t_choice *choice)
{
    struct random *random = ctx;

    if (choice->must) {
        return pick(&random->prng, choice->others);
    }
    if (choice->interrupt && t_prng_chance(&random->prng, 1, 4 * random->one_in)) {
        return T_SCHEDULE_INTERRUPT;
    }
    return choice->others != 0 && t_prng_chance(&random->prng, 1, random->one_in)
               ? pick(&random->prng, choice->others)
               : choice->cpu;
}

static bool explore_at_random(const struct t_race *race, uint64_t nr)
{
    struct random random;
    const struct t_strategy strategy = {choose_at_random, &random};

    t_prng_start(&random.prng, race->name);
    for (uint64_t i = 0; i < nr; i++) {
        random.one_in = UINT64_C(1) << t_prng_range(&random.prng, 1, 5);
        if (run_once(race, &strategy)) {
            return true;
        }
    }
    return false;
}

/* ---- by priorities ----------------------------------------------------------------------------- */

struct pct {
    struct t_prng prng;
    unsigned priority[T_SCHEDULE_CPUS]; /* all different; the highest runs */
    unsigned lowest;
    uint64_t change[CHANGES_MAX]; /* steps at which who runs falls to the end */
    uint64_t interrupt;           /* step of the next one */
    uint64_t length;              /* of the longest run so far */
};

static unsigned choose_by_priority(void *ctx, const struct t_choice *choice)
{
    struct pct *pct = ctx;
    unsigned best = choice->cpu;

    if (choice->interrupt && choice->step >= pct->interrupt) {
        pct->interrupt = choice->step + t_prng_range(&pct->prng, 1, pct->length);
        return T_SCHEDULE_INTERRUPT;
    }
    for (unsigned i = 0; i < CHANGES_MAX; i++) {
        if (pct->change[i] == choice->step) {
            pct->priority[choice->cpu] = pct->lowest--;
        }
    }
    if (choice->must) {
        best = choice->fallback;
        /* Who waits would come back at once, to wait: it falls behind. */
        pct->priority[choice->cpu] = pct->lowest--;
    }
    for (unsigned i = 0; i < T_SCHEDULE_CPUS; i++) {
        if ((choice->others >> i & 1) != 0 && pct->priority[i] > pct->priority[best]) {
            best = i;
        }
    }
    return best;
}

static bool explore_by_priority(const struct t_race *race, uint64_t nr)
{
    struct pct pct = {.length = 16};
    const struct t_strategy strategy = {choose_by_priority, &pct};

    t_prng_start(&pct.prng, race->name);
    for (uint64_t i = 0; i < nr; i++) {
        uint64_t changes = t_prng_range(&pct.prng, 0, CHANGES_MAX);

        for (unsigned cpu = 0; cpu < T_SCHEDULE_CPUS; cpu++) {
            pct.priority[cpu] = 1000000 + cpu;
        }
        t_prng_shuffle(&pct.prng, pct.priority, race->nr_cpus, sizeof(pct.priority[0]));
        pct.lowest = 999999;
        for (unsigned c = 0; c < CHANGES_MAX; c++) {
            pct.change[c] = c < changes ? t_prng_range(&pct.prng, 1, pct.length) : 0;
        }
        pct.interrupt = t_prng_range(&pct.prng, 1, pct.length);
        if (run_once(race, &strategy)) {
            return true;
        }
        pct.length = run.nr_points > pct.length ? run.nr_points : pct.length;
    }
    return false;
}

/* ---- all of few switches ----------------------------------------------------------------------- */

struct decision {
    uint8_t answer;
    uint8_t nr_answers;
    bool free; /* no answer counts as a preemption */
};

struct search {
    struct decision *decisions;
    uint32_t depth; /* of this run, so far */
    uint32_t known; /* decisions whose answers are given */
    unsigned used;  /* preemptions of this run, so far */
    unsigned bound;
    bool overflow;
};

/* The answers in order: the fallback, the other CPUs, an interrupt. */
static unsigned nth_answer(const struct t_choice *choice, unsigned nth)
{
    unsigned others = choice->others & ~(1u << choice->fallback);

    if (nth == 0) {
        return choice->fallback;
    }
    while (--nth > 0 && others != 0) {
        others &= others - 1;
    }
    return others != 0 ? (unsigned)__builtin_ctz(others) : T_SCHEDULE_INTERRUPT;
}

static unsigned choose_in_search(void *ctx, const struct t_choice *choice)
{
    struct search *search = ctx;
    unsigned others = choice->others & ~(1u << choice->fallback);
    unsigned nr = 1 + (unsigned)__builtin_popcount(others) + (choice->interrupt ? 1u : 0u);
    struct decision *decision;

    if (!choice->must && search->used == search->bound) {
        return choice->fallback;
    }
    if (nr == 1 || search->depth == DECISIONS_MAX) {
        search->overflow = search->overflow || nr != 1;
        return choice->fallback;
    }
    decision = &search->decisions[search->depth];
    if (search->depth >= search->known) {
        *decision = (struct decision){.answer = 0, .nr_answers = (uint8_t)nr, .free = choice->must};
        search->known++;
    }
    search->depth++;
    search->used += decision->answer != 0 && !decision->free ? 1 : 0;
    return nth_answer(choice, decision->answer);
}

/* The next way down; false: this was the last. */
static bool next_way(struct search *search)
{
    while (search->known > 0) {
        struct decision *last = &search->decisions[search->known - 1];

        if (++last->answer < last->nr_answers) {
            return true;
        }
        search->known--;
    }
    return false;
}

static bool explore_all(const struct t_race *race, unsigned preemptions, uint64_t nr)
{
    struct search search = {.bound = 0};
    const struct t_strategy strategy = {choose_in_search, &search};
    bool failed = false;
    uint64_t done = 0;

    search.decisions = malloc(DECISIONS_MAX * sizeof(*search.decisions));
    if (search.decisions == NULL) {
        abort();
    }
    result.complete = nr > 0;
    for (search.bound = 0; search.bound <= preemptions && !failed && done < nr; search.bound++) {
        search.known = 0;
        do {
            if (done++ == nr) {
                result.complete = false;
                break;
            }
            search.depth = 0;
            search.used = 0;
            failed = run_once(race, &strategy);
            /* What was decided below where a run ended is no longer of interest. */
            search.known = search.depth;
        } while (!failed && next_way(&search));
    }
    /* Nothing is left over only if the last bound was searched as well. */
    result.complete = result.complete && search.bound > preemptions && !search.overflow && !failed;
    free(search.decisions);
    return failed;
}

/* ---- one that is given ------------------------------------------------------------------------- */

struct replay {
    const struct t_switch *switches;
    uint32_t nr;
    uint32_t skip; /* leave out so many from this one on */
    uint32_t nr_skip;
    uint32_t nr_made;
};

/* A switch is known by its CPU and point: when others are left out, it may come in another order. */
static unsigned choose_given(void *ctx, const struct t_choice *choice)
{
    struct replay *replay = ctx;

    for (uint32_t i = 0; i < replay->nr; i++) {
        const struct t_switch *at = &replay->switches[i];
        bool possible =
            at->to == T_SCHEDULE_INTERRUPT
                ? choice->interrupt
                : (choice->others >> at->to & 1) != 0 || (at->to == choice->cpu && !choice->must);

        if (i - replay->skip >= replay->nr_skip && at->cpu == choice->cpu &&
            at->event == choice->event && possible) {
            replay->nr_made++;
            return at->to;
        }
    }
    return choice->fallback;
}

/* Leave out switches, two or one at a time, as long as it still fails. */
static void shrink(const struct t_race *race, struct t_run *failed)
{
    uint32_t tries = 0;
    uint32_t nr = 2;

    while (nr > 0) {
        bool shorter = false;

        for (uint32_t i = failed->nr_switches; i-- > 0 && tries < SHRINK_MAX; tries++) {
            struct replay replay = {
                .switches = failed->switches, .nr = failed->nr_switches, .skip = i, .nr_skip = nr};
            const struct t_strategy strategy = {choose_given, &replay};

            t_schedule_run(race, &strategy, &run);
            if (run.failed && run.nr_switches < failed->nr_switches) {
                *failed = run;
                shorter = true;
                i = i > failed->nr_switches ? failed->nr_switches : i;
            }
        }
        nr = shorter ? 2 : nr - 1;
    }
}

static bool parse_switch(const char **text, struct t_switch *out)
{
    char *end;
    unsigned long cpu = strtoul(*text, &end, 10);
    unsigned long to = T_SCHEDULE_INTERRUPT;

    if (end == *text || *end != '@' || cpu >= T_SCHEDULE_CPUS) {
        return false;
    }
    *text = end + 1;
    out->event = strtoull(*text, &end, 10);
    if (end == *text || (*end != '>' && *end != '!')) {
        return false;
    }
    *text = end + 1;
    if (*end == '>') {
        to = strtoul(*text, &end, 10);
        if (end == *text || to >= T_SCHEDULE_CPUS) {
            return false;
        }
        *text = end;
    }
    out->cpu = (uint8_t)cpu;
    out->to = (uint8_t)to;
    *text += strspn(*text, " ");
    return true;
}

const char *t_race_replay(const struct t_race *race, const char *schedule)
{
    static struct t_switch switches[T_SCHEDULE_SWITCHES];
    struct replay replay = {.switches = switches};
    const struct t_strategy strategy = {choose_given, &replay};
    const char *at = schedule;

    while (*at != '\0') {
        if (replay.nr == T_SCHEDULE_SWITCHES || !parse_switch(&at, &switches[replay.nr])) {
            return "the schedule is not of the form CPU@POINT>CPU or CPU@POINT!";
        }
        replay.nr++;
    }
    memset(&result, 0, sizeof(result));
    (void)run_once(race, &strategy);
    (void)snprintf(result.schedule, sizeof(result.schedule), "%s", schedule);
    (void)snprintf(result.failure, sizeof(result.failure), "%s", run.failure);
    result.failed_at = run.nr_points;
    if (run.failed) {
        return result.failure;
    }
    return replay.nr_made != replay.nr ? "the schedule does not fit this race" : NULL;
}

/* ---- the whole --------------------------------------------------------------------------------- */

/* Of the last run. */
static void print_failure(const struct t_race *race, const char *wrong)
{
    char where[256];

    (void)fprintf(stderr, "race %s: schedule %llu, after %llu points: %s\n", race->name,
                  (unsigned long long)result.nr_schedules, (unsigned long long)run.nr_points,
                  wrong);
    for (uint32_t i = 0; i < run.nr_switches && i < 12; i++) {
        const struct t_switch *at = &run.switches[i];
        char to[24] = "an interrupt comes";

        if (at->to != T_SCHEDULE_INTERRUPT) {
            (void)snprintf(to, sizeof(to), "CPU %u goes on", at->to);
        }
        (void)fprintf(
            stderr, "  CPU %u at its point %llu, %s: %s\n", at->cpu, (unsigned long long)at->event,
            at->pc == NULL ? "its start or end" : t_event_where(at->pc, where, sizeof(where)), to);
    }
    (void)fprintf(stderr, "MM_SCHEDULE=\"%s:%s\" replays it\n", race->name, result.schedule);
}

static void print_counts(const struct t_race *race, double seconds)
{
    (void)printf("race %s: %llu schedules%s, %llu points, %.2f s\n", race->name,
                 (unsigned long long)result.nr_schedules,
                 result.complete ? " (all of few switches among them)" : "",
                 (unsigned long long)result.nr_points, seconds);
    (void)fflush(stdout);
}

static double now(void)
{
    struct timespec ts;

    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static unsigned nr_replayed;

/* A schedule of a race that this program has not is no success. */
static void must_have_replayed(void)
{
    if (nr_replayed == 0) {
        (void)fprintf(stderr, "MM_SCHEDULE names no race of this program\n");
        _exit(1);
    }
}

/* The schedule of MM_SCHEDULE if it is this race's; the others do not run. */
static const char *replay_given(const struct t_race *race, const char *given)
{
    static bool first = true;
    size_t len = strlen(race->name);
    const char *wrong;

    if (first) {
        first = false;
        (void)atexit(must_have_replayed);
    }
    if (strncmp(given, race->name, len) != 0 || given[len] != ':') {
        return NULL;
    }
    nr_replayed++;
    wrong = t_race_replay(race, given + len + 1);
    if (wrong != NULL) {
        print_failure(race, wrong);
    } else {
        (void)fprintf(stderr, "race %s: this schedule passes\n", race->name);
    }
    return wrong;
}

const char *t_race_explore(const struct t_race *race, const struct t_race_plan *plan)
{
    static struct t_run failed;
    const char *given = getenv("MM_SCHEDULE");
    uint64_t factor = t_race_factor();
    double started = now();

    if (given != NULL && given[0] != '\0' && !plan->silent) {
        return replay_given(race, given);
    }
    memset(&result, 0, sizeof(result));
    if (!explore_all(race, plan->preemptions, plan->nr_search * factor) &&
        !explore_at_random(race, plan->nr_random * factor) &&
        !explore_by_priority(race, plan->nr_pct * factor)) {
        if (!plan->silent) {
            print_counts(race, now() - started);
        }
        return NULL;
    }
    failed = run;
    shrink(race, &failed);
    run = failed;
    t_schedule_text(&failed, result.schedule, sizeof(result.schedule));
    (void)snprintf(result.failure, sizeof(result.failure), "%s", failed.failure);
    result.failed_at = failed.nr_points;
    if (!plan->silent) {
        print_failure(race, result.failure);
    }
    return result.failure;
}
