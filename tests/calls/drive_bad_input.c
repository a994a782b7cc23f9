// SPDX-License-Identifier: MIT
/**
 * Bad arguments into each call: every value of every argument with all others good; then the whole
 * product where that is small, else pairs of values of every two arguments, and all at random.
 *
 * An error is one that the header names, the world is the same byte for byte, and no op was called
 * but the log. What a call composed of others answers may come later, when it has done and undone
 * some of its work; then the same state is what counts. A call that succeeds must leave the world
 * sound. "Releasing what one does not own" is a panic of the right room.
 */
#include "drive_internal.h"
#include "prng.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct product {
    const struct t_call *call;
    unsigned nr_args;
    unsigned nr[T_MAX_ARGS];
    uint64_t values[T_MAX_ARGS][T_MAX_VALUES];
    uint64_t nr_made, nr_refused, nr_panicked;
};

/* What is wrong with memory, not with an argument, may be found by asking ops. */
static bool of_bad_argument(int answer)
{
    switch (answer) {
    case MM_ERR_INVALID_ARGUMENT:
    case MM_ERR_INVALID_ADDRESS:
    case MM_ERR_INVALID_SIZE:
    case MM_ERR_INVALID_FLAGS:
    case MM_ERR_NOT_ALIGNED:
    case MM_ERR_ALREADY_INITIALIZED:
    case MM_ERR_NOT_INITIALIZED:
    case MM_ERR_UNSUPPORTED:
        return true;
    default:
        return false;
    }
}

static void refused(struct product *p, const uint64_t *args, int answer, uint64_t ops)
{
    bool composed = (p->call->flags & T_COMPOSED) != 0;
    bool bad_argument = of_bad_argument(answer) || answer == T_EMPTY;
    enum t_compare how = bad_argument && !composed ? T_SAME_BYTES : T_SAME_STATE;

    if (answer == T_EMPTY && args[0] == p->values[0][0]) {
        how = T_SAME_STATE; /* it may have looked for memory, which is counted */
    }

    p->nr_refused++;
    if (how == T_SAME_BYTES && ops != 0) {
        t_drive_wrong(p->call, args, "bad arguments", "answers %s, and has called %llu ops",
                      t_drive_answer_str(answer), (unsigned long long)ops);
    }
    if (!t_drive_unchanged(p->call, answer, how)) {
        t_drive_wrong(p->call, args, "bad arguments", "answers %s, and has changed: %s",
                      t_drive_answer_str(answer), t_h.why);
    }
}

/* Whether a value is bad whatever the others are: then the call may not succeed. */
static bool surely_bad(const struct t_call *call, const struct t_argument *arg, uint64_t value,
                       uint64_t first)
{
    if (strcmp(t_drive_documented(call->name)->returns, "mm_status_t") != 0) {
        return false;
    }
    switch (arg->type) {
    case T_LIVE:
    case T_FRESH:
        return value != (uint64_t)(uintptr_t)arg->ptr;
    case T_CHOICE:
        return value >= arg->limit;
    case T_FLAGS:
        return (value & ~arg->limit) != 0;
    case T_LIST:
        return arg->limit != 0 && value != first;
    default:
        return false;
    }
}

static int make(struct product *p, const uint64_t *args)
{
    uint64_t before = t_h.nr_ops;
    bool bad;
    int answer = t_drive_invoke(p->call, args, "bad arguments", &bad);
    uint64_t ops = t_h.nr_ops - before;

    p->nr_made++;
    if (!bad && !t_drive_allowed(p->call, answer)) {
        t_drive_wrong(p->call, args, "bad arguments", "answers %s, which its header does not name",
                      t_drive_answer_str(answer));
    }
    if (bad || answer == T_PANICKED) {
        p->nr_panicked++;
    } else if (answer == MM_OK) {
        if ((p->call->flags & T_BAD_ONLY) == 0 && !t_world_sound()) {
            t_drive_wrong(p->call, args, "bad arguments", "succeeds, and then: %s", t_h.why);
        }
    } else {
        refused(p, args, answer, ops);
        if (ops == 0 && p->call->tells == 0 && (p->call->flags & T_COMPOSED) == 0 &&
            of_bad_argument(answer)) {
            return answer; /* compared byte by byte: as it was */
        }
    }
    t_world_return();
    t_h.nr_mapped = 0;
    return answer;
}

static void good(const struct product *p, uint64_t *args)
{
    for (unsigned i = 0; i < p->nr_args; i++) {
        args[i] = p->values[i][0];
    }
}

/* One bad argument, all others good: whether the answer is right for it. */
static void judge(const struct t_call *call, const uint64_t *args, unsigned i, uint64_t first,
                  int answer)
{
    const struct t_argument *arg = &call->args[i];

    if (answer == MM_OK && surely_bad(call, arg, args[i], first)) {
        t_drive_wrong(call, args, "bad arguments", "succeeds, with a bad %s", arg->name);
    }
    /* Intel SDM vol. 1, 3.3.7.1: bits 63 to 47 are all the same. */
    if (arg->type == T_NUMBER && arg->limit == 48 && (args[i] + (UINT64_C(1) << 47)) >> 48 != 0 &&
        answer != MM_ERR_INVALID_ADDRESS) {
        t_drive_wrong(call, args, "bad arguments", "answers %s, and %s is not canonical",
                      t_drive_answer_str(answer), arg->name);
    }
}

/* Each value of each argument, with all others good. */
static void alone(struct product *p)
{
    uint64_t args[T_MAX_ARGS];
    int answer;

    for (unsigned i = 0; i < p->nr_args; i++) {
        for (unsigned v = 0; v < p->nr[i]; v++) {
            good(p, args);
            args[i] = p->values[i][v];
            answer = make(p, args);
            judge(p->call, args, i, p->values[i][0], answer);
        }
    }
}

static void whole_product(struct product *p)
{
    unsigned at[T_MAX_ARGS] = {0};
    uint64_t args[T_MAX_ARGS];
    unsigned i;

    do {
        for (i = 0; i < p->nr_args; i++) {
            args[i] = p->values[i][at[i]];
        }
        (void)make(p, args);
        for (i = 0; i < p->nr_args && ++at[i] == p->nr[i]; i++) {
            at[i] = 0;
        }
    } while (i < p->nr_args);
}

static void pairs(struct product *p, struct t_prng *prng, uint64_t limit)
{
    uint64_t args[T_MAX_ARGS];
    uint64_t all = 0;

    for (unsigned i = 0; i < p->nr_args; i++) {
        for (unsigned j = 0; j < i; j++) {
            all += (uint64_t)(p->nr[i] - 1) * (p->nr[j] - 1);
        }
    }
    for (unsigned i = 0; i < p->nr_args; i++) {
        for (unsigned j = 0; j < i; j++) {
            for (unsigned v = 1; v < p->nr[i]; v++) {
                for (unsigned w = 1; w < p->nr[j]; w++) {
                    if (all > limit && !t_prng_chance(prng, limit, all)) {
                        continue;
                    }
                    good(p, args);
                    args[i] = p->values[i][v];
                    args[j] = p->values[j][w];
                    (void)make(p, args);
                }
            }
        }
    }
}

/* Some bad, some good. */
static void at_random(struct product *p, struct t_prng *prng, uint64_t nr)
{
    uint64_t args[T_MAX_ARGS];

    while (nr-- > 0) {
        uint64_t badness = t_prng_range(prng, 1, 4);

        for (unsigned i = 0; i < p->nr_args; i++) {
            args[i] =
                p->values[i][t_prng_chance(prng, badness, 8) ? t_prng_below(prng, p->nr[i]) : 0];
        }
        (void)make(p, args);
    }
}

static void drive(const struct t_call *call, bool print)
{
    static struct product p;
    struct t_prng prng;
    uint64_t limit = getenv("MM_TEST_FULL") != NULL ? 20000 : 800;
    uint64_t product = 1;

    memset(&p, 0, sizeof(p));
    p.call = call;
    p.nr_args = t_drive_nr_args(call);
    t_prng_start(&prng, call->name);
    t_world_start();
    if (call->setup != NULL) {
        call->setup();
    }
    t_world_keep();
    for (unsigned i = 0; i < p.nr_args; i++) {
        p.nr[i] = t_drive_values(&call->args[i], p.values[i]);
        product = product > limit ? product : product * p.nr[i];
    }
    alone(&p);
    if (product <= limit) {
        whole_product(&p);
    } else {
        pairs(&p, &prng, limit);
        at_random(&p, &prng, limit / 4);
    }
    t_world_restore();
    if (print) {
        printf("%-26s %-36s %5llu calls%s: %5llu refused, %4llu panics\n", call->name,
               call->note != NULL ? call->note : "", (unsigned long long)p.nr_made,
               product <= limit ? " (all)" : "      ", (unsigned long long)p.nr_refused,
               (unsigned long long)p.nr_panicked);
    }
    if (call->panics != NULL && p.nr_panicked == 0) {
        t_drive_wrong(call, p.values[0], "bad arguments", "never panicked");
    }
}

unsigned t_drive_bad_input(bool print)
{
    const struct t_call *call;

    t_drive_nr_wrong = 0;
    for (unsigned i = 0; (call = t_drive_call(i)) != NULL; i++) {
        if ((call->flags & T_VARIANT) == 0) {
            drive(call, print);
        }
    }
    return t_drive_nr_wrong;
}
