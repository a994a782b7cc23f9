// SPDX-License-Identifier: MIT
/**
 * The one signal handler of the tests, and the panic hook. See the header for the order of things.
 *
 * A test that fails inside a catch leaves by cmocka's longjmp and its catch stays behind, dangling.
 * cmocka has then put its own handlers back; so whenever the current handler turns out not to be
 * ours, the catch that this thread remembers is stale and is dropped.
 */
#define _GNU_SOURCE
#include "trap.h"

#include "prng.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

#define NR_SIGNALS 3

static const int signals[NR_SIGNALS] = {SIGSEGV, SIGBUS, SIGILL};
static struct sigaction before[NR_SIGNALS];
static pthread_mutex_t arm_lock = PTHREAD_MUTEX_INITIALIZER;

static t_trap_fixup_fn *fixup_fn;
static void *fixup_ctx;
static t_trap_explain_fn *explain_fn;
static _Thread_local struct t_trap *catching;

static void on_signal(int sig, siginfo_t *si, void *uc);

static bool is_ours(int sig, struct sigaction *now)
{
    return sigaction(sig, NULL, now) == 0 && (now->sa_flags & SA_SIGINFO) != 0 &&
           now->sa_sigaction == on_signal;
}

static void say(const char *line)
{
    if (write(STDERR_FILENO, line, strlen(line)) < 0) {
        return; /* nothing is left to complain to */
    }
}

/* Hand a signal to whoever had it before us. Returns only if that handler does. */
static void pass_on(int sig, siginfo_t *si, void *uc)
{
    for (int i = 0; i < NR_SIGNALS; i++) {
        const struct sigaction *old = &before[i];

        if (signals[i] != sig) {
            continue;
        }
        if ((old->sa_flags & SA_SIGINFO) != 0 && old->sa_sigaction != NULL) {
            old->sa_sigaction(sig, si, uc);
            return;
        }
        if (old->sa_handler != SIG_DFL && old->sa_handler != SIG_IGN) {
            old->sa_handler(sig);
            return;
        }
    }
    signal(sig, SIG_DFL); /* the access is made again, and ends the process */
}

static void fill_fault(struct t_trap_info *info, int sig, const siginfo_t *si, const void *uc)
{
    memset(info, 0, sizeof(*info));
    info->kind = sig == SIGILL ? T_TRAP_ILL : T_TRAP_SEGV;
    info->address = (uint64_t)(uintptr_t)si->si_addr;
#if defined(__x86_64__)
    const ucontext_t *context = uc;

    info->error = (uint64_t)context->uc_mcontext.gregs[REG_ERR];
    info->instruction = (uint64_t)context->uc_mcontext.gregs[REG_RIP];
    info->write = sig != SIGILL && (info->error & 2) != 0; /* Intel SDM vol. 3A 4.7: W/R is bit 1 */
#else
    (void)uc;
#endif
}

static void on_signal(int sig, siginfo_t *si, void *uc)
{
    struct t_trap_info info;
    char line[200];

    fill_fault(&info, sig, si, uc);
    if (sig != SIGILL && fixup_fn != NULL && fixup_fn(fixup_ctx, uc, info.address, info.error)) {
        return;
    }
    /* From here on the handler is left by longjmp, which restores no mask; SA_NODEFER is not enough
     * where a sanitizer stands in between and blocks every signal. */
    (void)pthread_sigmask(SIG_SETMASK, &((const ucontext_t *)uc)->uc_sigmask, NULL);
    if (catching != NULL && (catching->kinds & info.kind) != 0) {
        struct t_trap *trap = catching;

        catching = NULL;
        trap->info = info;
        siglongjmp(trap->env, 1);
    }
    if (explain_fn != NULL && sig != SIGILL &&
        explain_fn(info.address, info.write, line, sizeof(line))) {
        say(line);
    }
    t_seed_print();
    catching = NULL;
    pass_on(sig, si, uc);
}

void t_trap_arm(void)
{
    struct sigaction action;

    memset(&action, 0, sizeof(action));
    action.sa_sigaction = on_signal;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    sigemptyset(&action.sa_mask);
    (void)pthread_mutex_lock(&arm_lock);
    for (int i = 0; i < NR_SIGNALS; i++) {
        struct sigaction now;

        if (!is_ours(signals[i], &now)) {
            before[i] = now;
            (void)sigaction(signals[i], &action, NULL);
            catching = NULL;
        }
    }
    (void)pthread_mutex_unlock(&arm_lock);
}

void t_trap_begin(struct t_trap *trap, unsigned kinds)
{
    t_trap_arm();
    if (catching != NULL) {
        say("t_trap: one catch inside another\n");
        abort();
    }
    memset(trap, 0, sizeof(*trap));
    trap->kinds = kinds;
    catching = trap;
}

void t_trap_end(struct t_trap *trap, struct t_trap_info *info)
{
    catching = NULL;
    *info = trap->info;
}

_Noreturn void t_trap_panic(const struct t_trap_info *info)
{
    struct sigaction now;
    char line[400];

    if (catching != NULL && (catching->kinds & T_TRAP_PANIC) != 0 && is_ours(SIGSEGV, &now)) {
        struct t_trap *trap = catching;

        catching = NULL;
        trap->info = *info;
        trap->info.kind = T_TRAP_PANIC;
        siglongjmp(trap->env, 1);
    }
    (void)snprintf(line, sizeof(line),
                   "panic: %s: %s at 0x%llx; recorded: %s (%llu); claimed: %s (%llu); allocated by "
                   "0x%llx, freed by 0x%llx, called from 0x%llx\n",
                   info->room, info->what, (unsigned long long)info->address, info->recorded,
                   (unsigned long long)info->recorded_value, info->claimed,
                   (unsigned long long)info->claimed_value, (unsigned long long)info->allocated_by,
                   (unsigned long long)info->freed_by, (unsigned long long)info->caller);
    say(line);
    t_seed_print();
    catching = NULL;
    if (is_ours(SIGILL, &now)) {
        now = before[NR_SIGNALS - 1];
    }
    if ((now.sa_flags & SA_SIGINFO) == 0 && now.sa_handler != SIG_DFL &&
        now.sa_handler != SIG_IGN) {
        now.sa_handler(SIGILL); /* cmocka's: fails the test that runs in this thread */
    }
    abort();
}

void t_trap_set_fixup(t_trap_fixup_fn *fixup, void *ctx)
{
    t_trap_arm();
    fixup_ctx = ctx;
    fixup_fn = fixup;
}

void t_trap_set_explainer(t_trap_explain_fn *explain)
{
    explain_fn = explain;
}
