// SPDX-License-Identifier: MIT
/**
 * Failures into each call, three ways: the nth op that can fail fails; that and all later ones
 * fail; and there is no memory but for k frames or pages, for k from 0 until it is enough.
 *
 * After each failure the answer is one that the header names, the world is as it was, every check
 * of the library holds, and the same call without the failure succeeds.
 */
#include "drive_internal.h"

#include <stdio.h>
#include <string.h>

#define MAX_POINTS 200
#define MAX_SCARCE 400

struct way {
    const struct t_call *call;
    uint64_t args[T_MAX_ARGS];
    char what[80];
    unsigned nr_failed; /* how often it answered an error */
};

/* The call again, when nothing fails: it must succeed. */
static void expect_success(struct way *way)
{
    bool bad;
    int answer;

    t_inject_never(&t_h.inject);
    answer = t_drive_invoke(way->call, way->args, way->what, &bad);
    if (!bad && answer != MM_OK) {
        t_drive_wrong(way->call, way->args, way->what,
                      "without the failure it must succeed, and answers %s",
                      t_drive_answer_str(answer));
    }
}

/* Whether it failed; if so, all must be as it was. */
static bool attempt(struct way *way)
{
    bool bad;
    int answer = t_drive_invoke(way->call, way->args, way->what, &bad);

    if (bad) {
        return true;
    }
    if (!t_drive_allowed(way->call, answer)) {
        t_drive_wrong(way->call, way->args, way->what, "answers %s, which its header does not name",
                      t_drive_answer_str(answer));
    }
    t_inject_never(&t_h.inject);
    if (answer == T_PANICKED) {
        return true; /* where its contract says so; what it leaves is of no use */
    }
    if (answer != MM_OK) {
        way->nr_failed++;
        if (!t_drive_unchanged(way->call, answer, T_SAME_STATE)) {
            t_drive_wrong(way->call, way->args, way->what, "answers %s, and has changed: %s",
                          t_drive_answer_str(answer), t_h.why);
        }
    }
    if (!t_world_sound() ||
        (answer != MM_OK && (way->call->flags & T_PARTIAL) == 0 && !t_world_balanced())) {
        t_drive_wrong(way->call, way->args, way->what, "answers %s, and then: %s",
                      t_drive_answer_str(answer), t_h.why);
    }
    return answer != MM_OK;
}

static uint64_t count_points(struct way *way)
{
    bool bad;
    int answer;

    (void)snprintf(way->what, sizeof(way->what), "without a failure");
    t_inject_never(&t_h.inject);
    answer = t_drive_invoke(way->call, way->args, way->what, &bad);
    if (bad || !t_drive_allowed(way->call, answer) || answer != MM_OK) {
        t_drive_wrong(way->call, way->args, way->what, "answers %s, and must succeed",
                      t_drive_answer_str(answer));
    }
    if (!bad && !t_world_sound()) {
        t_drive_wrong(way->call, way->args, way->what, "%s", t_h.why);
    }
    return t_h.inject.asked;
}

/* All points, in one of the ways, with an op that answers `with`. */
static void inject(struct way *way, bool onward, mm_status_t with)
{
    for (uint64_t n = 1; n <= MAX_POINTS; n++) {
        bool fired;

        t_world_return();
        t_h.nr_mapped = 0;
        t_h.fail_with = with;
        (void)snprintf(way->what, sizeof(way->what), "op %llu that can fail%s answers %s",
                       (unsigned long long)n, onward ? ", and all later ones," : "",
                       mm_status_str(with));
        (onward ? t_inject_from : t_inject_nth)(&t_h.inject, n);
        if (attempt(way)) {
            if (t_h.nr_mapped == 0) {
                expect_success(way);
            }
            continue;
        }
        t_world_return();
        (onward ? t_inject_from : t_inject_nth)(&t_h.inject, n);
        {
            bool bad;

            (void)t_drive_invoke(way->call, way->args, way->what, &bad);
            fired = t_h.inject.fired != 0;
            t_inject_never(&t_h.inject);
        }
        if (!fired) {
            return; /* there are fewer points: all were tried */
        }
    }
    t_drive_wrong(way->call, way->args, "injection", "more than %u points", MAX_POINTS);
}

/* With k frames, or pages, for k from 0: what it needs. */
static uint64_t run_dry(struct way *way)
{
    uint64_t nr = 0;

    for (;; nr++) {
        t_world_restore();
        if (way->call->setup != NULL) {
            way->call->setup();
        }
        (way->call->scarce != NULL ? way->call->scarce : t_world_leave_frames)(nr);
        t_drive_good(way->call, way->args);
        t_world_keep();
        (void)snprintf(way->what, sizeof(way->what), "with %llu frames or pages left",
                       (unsigned long long)nr);
        if (!attempt(way)) {
            return nr;
        }
        if (nr == MAX_SCARCE) {
            t_drive_wrong(way->call, way->args, way->what, "it still fails");
            return nr;
        }
        if (way->call->scarce == NULL) {
            t_world_leave_frames(UINT64_MAX);
            expect_success(way);
        }
    }
}

/* Returns how many failures were brought about. */
static unsigned drive(const struct t_call *call, bool print)
{
    struct way way = {.call = call};
    uint64_t points;
    uint64_t dry;
    bool can_fail = (call->flags & T_CAN_FAIL) != 0;

    t_world_start();
    if (call->setup != NULL) {
        call->setup();
    }
    t_drive_good(call, way.args);
    t_world_keep();
    points = count_points(&way);
    for (unsigned onward = 0; onward < 2; onward++) {
        inject(&way, onward != 0, MM_ERR_NO_MEMORY);
        inject(&way, onward != 0, MM_ERR_IO);
    }
    dry = run_dry(&way);
    t_world_restore();
    if (print) {
        printf("%-26s %-36s %4llu points, needs %3llu, %4u failures\n", call->name,
               call->note != NULL ? call->note : "", (unsigned long long)points,
               (unsigned long long)dry, way.nr_failed);
    }
    if ((way.nr_failed != 0) != can_fail) {
        t_drive_wrong(call, way.args, "in all",
                      "%u failures were brought about, and the list says that it %s fail",
                      way.nr_failed, can_fail ? "can" : "cannot");
    }
    return way.nr_failed;
}

unsigned t_drive_injection(bool print)
{
    const struct t_call *call;
    unsigned nr_scenarios = 0;
    unsigned nr_failed = 0;

    t_drive_nr_wrong = 0;
    for (unsigned i = 0; (call = t_drive_call(i)) != NULL; i++) {
        if ((call->flags & T_BAD_ONLY) == 0) {
            nr_failed += drive(call, print);
            nr_scenarios++;
        }
    }
    if (print) {
        printf("injection: %u scenarios, %u failures\n", nr_scenarios, nr_failed);
    }
    return t_drive_nr_wrong;
}
