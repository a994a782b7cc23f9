// SPDX-License-Identifier: MIT
/**
 * A failure injector: an op that can fail asks it first, and it counts the questions.
 *
 * Every allocation point of a call fails once, then from then on:
 *
 *     for (uint64_t n = 1;; n++) {
 *         t_inject_nth(&inject, n);            // or t_inject_from(&inject, n)
 *         status = the_call(...);              // its ops ask t_inject_fails(&inject)
 *         if (inject.fired == 0) {
 *             break;                           // fewer than n points: all were tried
 *         }
 *         assert status is an error, and the hash is as before
 *     }
 *
 * Not atomic: one thread asks. Only the counting lives here; the ops are for the tests to write.
 */
#ifndef T_INJECT_H
#define T_INJECT_H

#include <stdbool.h>
#include <stdint.h>

struct t_inject {
    uint64_t asked; /**< questions since the last arming */
    uint64_t fired; /**< how many of them were answered with a failure */
    uint64_t first; /**< the question that fails first, from 1; 0: none does */
    bool onward;    /**< all later ones fail too */
};

/** Count only. An all-zero injector does the same. */
static inline void t_inject_never(struct t_inject *inject)
{
    struct t_inject fresh = {0, 0, 0, false};

    *inject = fresh;
}

/** Only the nth question from now fails, n from 1. */
static inline void t_inject_nth(struct t_inject *inject, uint64_t n)
{
    struct t_inject fresh = {0, 0, n, false};

    *inject = fresh;
}

/** The nth question from now fails, and all after it. */
static inline void t_inject_from(struct t_inject *inject, uint64_t n)
{
    struct t_inject fresh = {0, 0, n, true};

    *inject = fresh;
}

/** The question: must this op fail now? */
static inline bool t_inject_fails(struct t_inject *inject)
{
    bool fails;

    inject->asked++;
    fails = inject->first != 0 &&
            (inject->onward ? inject->asked >= inject->first : inject->asked == inject->first);
    inject->fired += fails ? 1 : 0;
    return fails;
}

#endif
