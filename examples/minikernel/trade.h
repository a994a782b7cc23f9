// SPDX-License-Identifier: MIT
/**
 * Processors that trade: each takes things from an allocator that all share, marks them, hands some
 * to others through a mailbox, and gives back what it holds, whoever took it. A thing that two
 * processors were given at once, or that was given back too early, loses its marks.
 */
#ifndef MINIKERNEL_TRADE_H
#define MINIKERNEL_TRADE_H

#include <stdbool.h>
#include <stdint.h>

#define TRADE_SLOTS   48
#define TRADE_MAILBOX 16

/** One processor's part. */
struct trader {
    const struct trade *trade;
    uint32_t cpu;
    uint32_t step;
    uint64_t random;
    uint64_t nr_taken;
    uint64_t nr_refused;
    uint64_t nr_received; /**< things that another processor had marked */
    uint64_t held[TRADE_SLOTS];
};

/** What is traded. A thing is a word that is not 0. */
struct trade {
    const char *name;
    void *ctx;
    uint32_t nr_steps; /**< of each processor */
    uint64_t seed;
    /** A thing that is marked with `mark`; 0: there is none left. */
    uint64_t (*take)(struct trader *trader, uint64_t mark);
    /** The mark that it carries; complains with trade_wrong() if it is not whole. */
    uint64_t (*read)(struct trader *trader, uint64_t thing);
    void (*give)(struct trader *trader, uint64_t thing);
};

struct trade_result {
    uint64_t nr_taken;
    uint64_t nr_refused;
    uint64_t nr_received;
    uint64_t nr_wrong;
};

/** Have all processors trade; at the end everything is given back. */
struct trade_result trade_run(const struct trade *trade);

/** Say what is wrong with a thing, where in the run. Only the first few are printed. */
void trade_wrong(struct trader *trader, uint64_t thing, uint64_t expected, uint64_t seen);

#endif
