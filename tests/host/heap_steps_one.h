// SPDX-License-Identifier: MIT
/**
 * One interrupt at each instruction of a call in turn: what the tests of that share. Who includes
 * this defines _GNU_SOURCE before all else, for the names of registers in <ucontext.h>.
 */
#ifndef HEAP_STEPS_ONE_H
#define HEAP_STEPS_ONE_H

#include "heap_steps.h"
#include "heap_world.h"

#include <sys/mman.h>
#include <ucontext.h>

/** What happens at which instruction. */
static struct {
    struct world *world;
    void (*act)(void);
    volatile uint64_t at; /**< instructions until then, from where steps begin */
    volatile bool acted;
    volatile uintptr_t where; /**< it acted */
} step;

#define FAR (UINT64_C(1) << 40)

/* --- the way there --------------------------------------------------------------------------------
 *
 * To step to an instruction costs a signal for each before it. So one run of the call notes where
 * each step stood, and later runs go at full speed to a breakpoint (int3) shortly before the one
 * that is meant, and step from there. Where the same place is come to several times, as in a loop,
 * the breakpoint is passed as often as the run that was noted passed it.
 */

#define MOST_NOTED 65536

static uintptr_t noted[MOST_NOTED];
static uint32_t nr_passes_to[MOST_NOTED]; /**< how often the place was come to before */
static uint32_t from_where[MOST_NOTED];   /**< where the cheapest way begins; NOWHERE: the call */
static uint32_t nr_noted;
static bool noting;

#define NOWHERE UINT32_MAX

static struct {
    volatile uint8_t *volatile place; /**< NULL: none, or it was come to */
    uint8_t instruction;              /**< what stood there */
    volatile uint32_t nr_passes;
    volatile bool passing;
} breakpoint;

extern const char __executable_start[];
extern const char etext[];

/** Only in the program itself: the C library's are the handler's as well. */
static inline bool is_in_program(uintptr_t place)
{
    return place >= (uintptr_t)__executable_start && place < (uintptr_t)etext;
}

/** Find the cheapest way to each instruction that was noted, in signals. */
static inline void find_ways(void)
{
    uint32_t *nr = calloc((uintptr_t)etext - (uintptr_t)__executable_start, sizeof(*nr));
    uint64_t cost = 0;

    assert_non_null(nr);
    for (uint32_t i = 0; i < nr_noted; i++) {
        cost++;
        from_where[i] = i == 0 ? NOWHERE : from_where[i - 1];
        if (is_in_program(noted[i])) {
            nr_passes_to[i] = nr[noted[i] - (uintptr_t)__executable_start]++;
            if (UINT64_C(2) * nr_passes_to[i] + 1 < cost) {
                cost = UINT64_C(2) * nr_passes_to[i] + 1;
                from_where[i] = i;
            }
        }
    }
    free(nr);
}

/** Where the code may not be written, steps begin with the call. */
static inline bool make_writable(uintptr_t place)
{
    uintptr_t page = place & ~(uintptr_t)MM_PAGE_MASK;

    return mprotect((void *)page, MM_PAGE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC) == 0;
}

static inline void on_breakpoint(greg_t *registers)
{
    *breakpoint.place = breakpoint.instruction;
    registers[REG_RIP]--;
    if (breakpoint.nr_passes > 0) {
        breakpoint.nr_passes--;
        breakpoint.passing = true;
    } else {
        breakpoint.place = NULL;
    }
    registers[REG_EFL] |= (greg_t)TRAP_FLAG;
}

static inline void on_step(int signal, siginfo_t *info, void *context)
{
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;

    (void)signal;
    (void)info;
    if (breakpoint.passing) {
        breakpoint.passing = false;
        registers[REG_EFL] &= ~(greg_t)TRAP_FLAG;
        if (stepping) {
            *breakpoint.place = 0xcc;
        }
        return;
    }
    if (breakpoint.place != NULL) {
        if ((uintptr_t)registers[REG_RIP] != (uintptr_t)breakpoint.place + 1) {
            return;
        }
        on_breakpoint(registers);
        if (breakpoint.place != NULL) {
            return;
        }
    }
    if (noting && stepping && nr_noted < MOST_NOTED) {
        noted[nr_noted++] = (uintptr_t)registers[REG_RIP];
    }
    if (stepping && !step.acted && step.at-- == 0) {
        step.acted = true;
        step.where = (uintptr_t)registers[REG_RIP];
        registers[REG_EFL] &= ~(greg_t)TRAP_FLAG; /* enough */
        step.act();
    }
}

/** From here on the instructions of the call count. */
static inline void step_on(void)
{
    stepping = true;
    if (breakpoint.place != NULL) {
        *breakpoint.place = 0xcc;
    }
    load_trap_flag(breakpoint.place != NULL || step.acted ? 0 : TRAP_FLAG);
}

static inline void step_off(void)
{
    load_trap_flag(0);
    stepping = false;
    if (breakpoint.place != NULL) {
        *breakpoint.place = breakpoint.instruction;
    }
}

#define STEPPED_ONE(statement)                                                                     \
    do {                                                                                           \
        step_on();                                                                                 \
        statement;                                                                                 \
        step_off();                                                                                \
    } while (0)

static inline void begin(struct world *world, uint64_t at, void (*act)(void))
{
    uint32_t from = at < nr_noted ? from_where[at] : NOWHERE;

    step.world = world;
    step.act = act;
    step.at = at;
    step.acted = false;
    breakpoint.place = NULL;
    breakpoint.passing = false;
    if (!noting && from != NOWHERE && make_writable(noted[from])) {
        breakpoint.place = (volatile uint8_t *)noted[from];
        breakpoint.instruction = *breakpoint.place;
        breakpoint.nr_passes = nr_passes_to[from];
        step.at = at - from;
    }
}

/**
 * Run one case for each instruction of the call; with sanitizers only the first of a long call and
 * some of the others are tried in each run, but all of them in a long campaign.
 */
static inline void at_every_instruction(void (*one)(uint64_t at, uint64_t how), uint64_t how)
{
    struct sigaction action = {.sa_sigaction = on_step, .sa_flags = SA_SIGINFO | SA_NODEFER};
    bool all = !MM_TEST_SANITIZED || getenv("MM_TEST_FULL") != NULL;
    struct sigaction before;
    struct t_prng prng;
    uint64_t nr;

    t_prng_start(&prng, "heap steps");
    assert_int_equal(sigaction(SIGTRAP, &action, &before), 0);
    nr_noted = 0;
    one(FAR, how); /* the first call of a function of the C library is longer: it is looked up */
    noting = true;
    one(FAR, how);
    noting = false;
    assert_false(step.acted);
    nr = FAR - step.at;
    assert_true(nr > 30);
    find_ways();
    for (uint64_t at = 0; at < nr; at++) {
        if (all || at < 20 || t_prng_chance(&prng, 1, 200)) {
            one(at, how);
            assert_true(step.acted);
            assert_true(at >= nr_noted || step.where == noted[at]);
        }
    }
    assert_int_equal(sigaction(SIGTRAP, &before, NULL), 0);
}

#endif
