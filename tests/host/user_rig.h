// SPDX-License-Identifier: MIT
/**
 * User copy, run natively: user memory is a page between two that are missing, and a fault is a
 * SIGSEGV whose handler does what a kernel's page-fault handler does.
 *
 * The routines for SMAP run here too: outside of ring 0 STAC and CLAC are illegal instructions, so
 * a SIGILL handler plays the AC flag, and asserts that user memory is touched only while it is set.
 */
#ifndef USER_RIG_H
#define USER_RIG_H

#include "trap.h"

#include <mm/arch/x86_64.h>
#include <mm/user.h>

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <cmocka.h>

#define PAGE   4096
#define CANARY 0xa5

/* What the handlers of this process see. */
static struct {
    uint8_t *low_guard; /* missing, page, missing, a page that is there, missing */
    uint8_t *page;
    uint8_t *high_guard;
    uint8_t *lazy; /* a page that the handler makes present; NULL: none */
    unsigned nr_faults;
    unsigned nr_strange; /* faults outside of the missing pages, or with user memory closed */
    unsigned nr_resolved;
    bool smap;
    bool ac;
    unsigned nr_opened;
    uint64_t last;              /* where the last fault was */
    const uint8_t *instruction; /* which instruction it was */
} machine;

static bool on_fault(void *ctx, void *ucontext, uint64_t address, uint64_t error)
{
    ucontext_t *context = ucontext;
    uint8_t *at = (uint8_t *)(uintptr_t)address;
    uint64_t rip = (uint64_t)context->uc_mcontext.gregs[REG_RIP];
    uint64_t resume = 0;
    bool nofault = mm_x86_64_user_fixup_nofault(rip, &resume);

    (void)ctx;
    (void)error;
    if (!nofault && !mm_x86_64_user_fixup(rip, &resume)) {
        return false;
    }
    machine.nr_faults++;
    machine.nr_strange += machine.smap && !machine.ac ? 1 : 0;
    machine.last = address;
    machine.instruction = (const uint8_t *)(uintptr_t)rip;
    if (!nofault && machine.lazy != NULL && at >= machine.lazy && at < machine.lazy + PAGE) {
        (void)mprotect(machine.lazy, PAGE, PROT_READ | PROT_WRITE);
        machine.nr_resolved++;
        return true;
    }
    machine.nr_strange += (at >= machine.low_guard && at < machine.page) ||
                                  (at >= machine.high_guard && at < machine.high_guard + PAGE)
                              ? 0
                              : 1;
    context->uc_mcontext.gregs[REG_RIP] = (greg_t)resume;
    return true;
}

/* STAC is 0f 01 cb and CLAC 0f 01 ca (Intel SDM vol. 2); both are #UD outside of ring 0. */
static void on_illegal(int sig, siginfo_t *si, void *ucontext)
{
    ucontext_t *context = ucontext;
    const uint8_t *rip = (const uint8_t *)(uintptr_t)context->uc_mcontext.gregs[REG_RIP];

    (void)si;
    if (!machine.smap || rip[0] != 0x0f || rip[1] != 0x01 || (rip[2] & 0xfe) != 0xca) {
        signal(sig, SIG_DFL);
        return;
    }
    machine.ac = rip[2] == 0xcb;
    machine.nr_opened += machine.ac ? 1 : 0;
    context->uc_mcontext.gregs[REG_RIP] += 3;
}

static inline void use_smap(bool smap)
{
    struct sigaction action;

    t_trap_arm();
    memset(&action, 0, sizeof(action));
    action.sa_sigaction = on_illegal;
    action.sa_flags = SA_SIGINFO;
    sigemptyset(&action.sa_mask);
    if (smap) {
        assert_int_equal(sigaction(SIGILL, &action, NULL), 0);
    }
    machine.smap = smap;
    machine.ac = false;
    machine.nr_opened = 0;
}

static inline int setup(void **state)
{
    uint8_t *base = mmap(NULL, (size_t)5 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    (void)state;
    if (base == MAP_FAILED) {
        return -1;
    }
    memset(&machine, 0, sizeof(machine));
    machine.low_guard = base;
    machine.page = base + PAGE;
    machine.high_guard = base + (ptrdiff_t)2 * PAGE;
    (void)mprotect(machine.page, PAGE, PROT_READ | PROT_WRITE);
    (void)mprotect(base + (ptrdiff_t)3 * PAGE, PAGE, PROT_READ | PROT_WRITE);
    t_trap_set_fixup(on_fault, NULL);
    return 0;
}

static inline int teardown(void **state)
{
    (void)state;
    t_trap_set_fixup(NULL, NULL);
    return munmap(machine.low_guard, (size_t)5 * PAGE);
}

static inline struct mm_user lower_half(const struct mm_user_ops *ops)
{
    struct mm_user user;

    assert_int_equal(mm_user_init(&user, ops, mm_vrange(mm_vaddr(0), UINT64_C(1) << 47)), MM_OK);
    return user;
}

static inline bool all_are(const uint8_t *p, uint8_t byte, uint64_t len)
{
    for (uint64_t i = 0; i < len; i++) {
        if (p[i] != byte) {
            return false;
        }
    }
    return true;
}

static inline void pattern(uint8_t *p, uint64_t len)
{
    for (uint64_t i = 0; i < len; i++) {
        p[i] = (uint8_t)(1 + i % 251);
    }
}

/* Every set of routines, each with what it needs. */
static const struct flavour {
    const char *name;
    const struct mm_user_ops *ops;
    bool smap;
    bool nofault;
} flavours[] = {
    {"plain", &mm_x86_64_user_ops, false, false},
    {"smap", &mm_x86_64_user_smap_ops, true, false},
    {"nofault", &mm_x86_64_user_nofault_ops, false, true},
    {"nofault, smap", &mm_x86_64_user_nofault_smap_ops, true, true},
};

#define NR_FLAVOURS (sizeof(flavours) / sizeof(flavours[0]))

/* Run a check with each set of routines. */
static inline void with_each(void (*check)(const struct flavour *))
{
    for (size_t i = 0; i < NR_FLAVOURS; i++) {
        use_smap(flavours[i].smap);
        check(&flavours[i]);
        assert_false(machine.ac);
    }
    use_smap(false);
}

#endif
