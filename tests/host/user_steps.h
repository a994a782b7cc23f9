// SPDX-License-Identifier: MIT
/**
 * User code that changes its memory between any two instructions of the kernel: the processor traps
 * after each (EFLAGS.TF), and the handler flips. No thread is as thorough.
 */
#ifndef USER_STEPS_H
#define USER_STEPS_H

#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <ucontext.h>

#define EFLAGS_TF UINT64_C(0x100) /* a trap after each instruction: Intel SDM vol. 1, 3.4.3.3 */

static struct {
    void (*flip)(void); /* NULL: no more steps */
    uint64_t nr;
    struct sigaction before;
} steps;

static void on_step(int sig, siginfo_t *si, void *ucontext)
{
    ucontext_t *context = ucontext;

    (void)sig;
    (void)si;
    if (steps.flip == NULL) {
        context->uc_mcontext.gregs[REG_EFL] &= ~(greg_t)EFLAGS_TF;
    } else {
        steps.nr++;
        steps.flip();
    }
}

static void steps_arm(void)
{
    struct sigaction action;

    memset(&action, 0, sizeof(action));
    action.sa_sigaction = on_step;
    action.sa_flags = SA_SIGINFO;
    sigemptyset(&action.sa_mask);
    assert_int_equal(sigaction(SIGTRAP, &action, &steps.before), 0);
}

static void steps_disarm(void)
{
    assert_int_equal(sigaction(SIGTRAP, &steps.before, NULL), 0);
}

/* Run `stmt`, and `function` after each of its instructions. */
#define STEP_THROUGH(function, stmt)                                                               \
    do {                                                                                           \
        steps.flip = (function);                                                                   \
        steps.nr = 0;                                                                              \
        __builtin_ia32_writeeflags_u64(__builtin_ia32_readeflags_u64() | EFLAGS_TF);               \
        stmt;                                                                                      \
        steps.flip = NULL;                                                                         \
    } while (0)

#endif
