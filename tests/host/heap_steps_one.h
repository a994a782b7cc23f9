// SPDX-License-Identifier: MIT
/**
 * One interrupt at each instruction of a call in turn: what the tests of that share. Who includes
 * this defines _GNU_SOURCE before all else, for the names of registers in <ucontext.h>.
 */
#ifndef HEAP_STEPS_ONE_H
#define HEAP_STEPS_ONE_H

#include "heap_steps.h"
#include "heap_world.h"

#include <ucontext.h>

/** What happens at which instruction. */
static struct {
    struct world *world;
    void (*act)(void);
    volatile uint64_t at; /**< instructions until then */
    volatile bool acted;
} step;

static inline void on_step(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    (void)info;
    if (stepping && !step.acted && step.at-- == 0) {
        step.acted = true;
        ((ucontext_t *)context)->uc_mcontext.gregs[REG_EFL] &= ~0x100; /* enough */
        step.act();
    }
}

static inline void begin(struct world *world, uint64_t at, void (*act)(void))
{
    step.world = world;
    step.act = act;
    step.at = at;
    step.acted = false;
}

#define FAR (UINT64_C(1) << 40)

/**
 * Run one case for each instruction of the call. To get there costs a step for each instruction
 * before; so of a long call only the first, the last `tail`, and some of the others are tried in
 * each run, but all of them in a long campaign.
 */
static inline void at_every_instruction(void (*one)(uint64_t at, uint64_t how), uint64_t how,
                                        uint64_t tail)
{
    struct sigaction action = {.sa_sigaction = on_step, .sa_flags = SA_SIGINFO | SA_NODEFER};
    bool all = getenv("MM_TEST_FULL") != NULL;
    uint64_t first = MM_TEST_SANITIZED ? 20 : 120;
    uint64_t out_of = MM_TEST_SANITIZED ? 200 : 32;
    struct sigaction before;
    struct t_prng prng;
    uint64_t nr;

    tail = MM_TEST_SANITIZED ? 0 : tail;
    t_prng_start(&prng, "heap steps");
    assert_int_equal(sigaction(SIGTRAP, &action, &before), 0);
    one(FAR, how); /* the first call of a function of the C library is longer: it is looked up */
    one(FAR, how);
    assert_false(step.acted);
    nr = FAR - step.at;
    assert_true(nr > 30);
    for (uint64_t at = 0; at < nr; at++) {
        if (all || at < first || at + tail >= nr || t_prng_chance(&prng, 1, out_of)) {
            one(at, how);
            assert_true(step.acted);
        }
    }
    assert_int_equal(sigaction(SIGTRAP, &before, NULL), 0);
}

#endif
