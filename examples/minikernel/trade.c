// SPDX-License-Identifier: MIT
//
// The work is bounded by steps, not by time. Which processor does what in which order is up to the
// machine: with one processor a seed gives the same run again, with more it gives a similar one.

#include "trade.h"

#include <stdatomic.h>
#include <stddef.h>

#include "log.h"
#include "percpu.h"
#include "random.h"
#include "smp.h"

#define COMPLAINTS_MAX 8

// After so many steps the fast wait for the slow: else one would be done before the next begins.
#define STEPS_TOGETHER 500

static struct trader traders[PERCPU_MAX];
static _Atomic uint64_t mailbox[TRADE_MAILBOX];
static atomic_uint nr_wrong;

void trade_wrong(struct trader *t, uint64_t thing, uint64_t expected, uint64_t seen)
{
    if (atomic_fetch_add(&nr_wrong, 1) < COMPLAINTS_MAX) {
        log_print("  %s 0x%lx: expected 0x%lx, found 0x%lx (processor %u, step %u of %u, seed "
                  "0x%lx)\n",
                  t->trade->name, thing, expected, seen, t->cpu, t->step, t->trade->nr_steps,
                  t->trade->seed);
    }
}

// Marks of all processors and steps differ, and none is 0.
static uint64_t mark_of(uint32_t cpu, uint32_t step)
{
    return (uint64_t)(cpu + 1) << 56 | (uint64_t)step << 24;
}

static uint64_t look(struct trader *t, uint64_t thing)
{
    uint64_t mark = t->trade->read(t, thing);
    uint32_t cpu = (uint32_t)(mark >> 56) - 1;

    if (cpu >= smp_nr()) {
        trade_wrong(t, thing, mark_of(t->cpu, t->step), mark);
    }
    t->nr_received += cpu != t->cpu;
    return mark;
}

static void take(struct trader *t, uint64_t *slot)
{
    uint64_t mark = mark_of(t->cpu, t->step);

    *slot = t->trade->take(t, mark);
    if (*slot == 0) {
        t->nr_refused++;
        return;
    }
    t->nr_taken++;
    uint64_t seen = t->trade->read(t, *slot);
    if (seen != mark) {
        trade_wrong(t, *slot, mark, seen);
    }
}

static void step(struct trader *t)
{
    uint64_t *slot = &t->held[random_next(&t->random) % TRADE_SLOTS];
    uint64_t what = random_next(&t->random);

    if (*slot == 0) {
        take(t, slot);
    } else if (what % 2 == 0) {
        *slot = atomic_exchange(&mailbox[what / 2 % TRADE_MAILBOX], *slot);
        if (*slot != 0) {
            (void)look(t, *slot);
        }
    } else {
        (void)look(t, *slot);
        t->trade->give(t, *slot);
        *slot = 0;
    }
}

static void work(void *ctx, uint32_t cpu)
{
    struct trader *t = &traders[cpu];

    *t = (struct trader){.trade = ctx, .cpu = cpu};
    t->random = t->trade->seed + cpu;
    for (t->step = 0; t->step < t->trade->nr_steps; t->step++) {
        if (t->step % STEPS_TOGETHER == 0) {
            smp_barrier();
        }
        step(t);
    }
    smp_barrier();
    for (unsigned i = 0; i < TRADE_SLOTS; i++) {
        if (t->held[i] != 0) {
            (void)look(t, t->held[i]);
            t->trade->give(t, t->held[i]);
        }
    }
}

struct trade_result trade_run(const struct trade *trade)
{
    struct trade_result result = {0};

    atomic_store(&nr_wrong, 0);
    smp_run(work, (void *)(uintptr_t)trade);
    for (unsigned i = 0; i < TRADE_MAILBOX; i++) {
        uint64_t thing = atomic_exchange(&mailbox[i], 0);
        if (thing != 0) {
            (void)look(&traders[0], thing);
            trade->give(&traders[0], thing);
        }
    }
    for (uint32_t cpu = 0; cpu < smp_nr(); cpu++) {
        result.nr_taken += traders[cpu].nr_taken;
        result.nr_refused += traders[cpu].nr_refused;
        result.nr_received += traders[cpu].nr_received;
    }
    result.nr_wrong = atomic_load(&nr_wrong);
    log_print("  %s: %u x %u steps, seed 0x%lx: %lu taken, %lu refused, %lu looks at another's\n",
              trade->name, smp_nr(), trade->nr_steps, trade->seed, result.nr_taken,
              result.nr_refused, result.nr_received);
    return result;
}
