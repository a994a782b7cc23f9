// SPDX-License-Identifier: MIT
/**
 * User copy, run natively: user memory is a page between two that are missing, and a fault is a
 * SIGSEGV whose handler does what a kernel's page-fault handler does.
 *
 * The routines for SMAP run here too: outside of ring 0 STAC and CLAC are illegal instructions, so
 * a SIGILL handler plays the AC flag, and asserts that user memory is touched only while it is set.
 */
#define _GNU_SOURCE
#include "prng.h"
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

static struct {
    uint8_t *low_guard; /* missing, page, missing, a page that is there, missing */
    uint8_t *page;
    uint8_t *high_guard;
    uint8_t *lazy; /* a page that the handler makes present; NULL: none */
    unsigned nr_faults;
    unsigned nr_strange; /* faults outside of the missing pages, or with user memory closed */
    bool smap;
    bool ac;
    unsigned nr_opened;
} machine;

static bool on_fault(void *ctx, void *ucontext, uint64_t address, uint64_t error)
{
    ucontext_t *context = ucontext;
    uint8_t *at = (uint8_t *)(uintptr_t)address;
    uint64_t resume = 0;

    (void)ctx;
    (void)error;
    if (!mm_x86_64_user_fixup((uint64_t)context->uc_mcontext.gregs[REG_RIP], &resume)) {
        return false;
    }
    machine.nr_faults++;
    machine.nr_strange += machine.smap && !machine.ac ? 1 : 0;
    if (machine.lazy != NULL && at >= machine.lazy && at < machine.lazy + PAGE) {
        (void)mprotect(machine.lazy, PAGE, PROT_READ | PROT_WRITE);
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

static void use_smap(bool smap)
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

static int setup(void **state)
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

static int teardown(void **state)
{
    (void)state;
    t_trap_set_fixup(NULL, NULL);
    return munmap(machine.low_guard, (size_t)5 * PAGE);
}

static struct mm_user lower_half(const struct mm_user_ops *ops)
{
    struct mm_user user;

    assert_int_equal(mm_user_init(&user, ops, mm_vrange(mm_vaddr(0), UINT64_C(1) << 47)), MM_OK);
    return user;
}

static bool all_are(const uint8_t *p, uint8_t byte, uint64_t len)
{
    for (uint64_t i = 0; i < len; i++) {
        if (p[i] != byte) {
            return false;
        }
    }
    return true;
}

static void pattern(uint8_t *p, uint64_t len)
{
    for (uint64_t i = 0; i < len; i++) {
        p[i] = (uint8_t)(1 + i % 251);
    }
}

/* A range of `len` bytes of which the first `present` are there and the rest is missing. */
static void check_one(const struct mm_user *user, uint64_t len, uint64_t present)
{
    static uint8_t kernel[2 * PAGE];
    uint8_t *at = machine.high_guard - present;
    mm_vaddr_t va = mm_vaddr_of(at);
    uint64_t want = len > present ? len - present : 0;
    uint64_t got = len - want;
    mm_status_t status = want == 0 ? MM_OK : MM_ERR_FAULT;
    uint64_t residue = 99;

    machine.nr_faults = machine.nr_strange = machine.nr_opened = 0;
    pattern(at, present);
    memset(kernel, CANARY, len + 64);
    assert_int_equal(mm_user_copy_in(user, kernel + 32, va, len, &residue), status);
    assert_false(machine.ac);
    assert_int_equal(residue, want);
    assert_memory_equal(kernel + 32, at, got);
    assert_true(all_are(kernel, CANARY, 32));
    assert_true(all_are(kernel + 32 + got, CANARY, 32 + want));

    pattern(kernel, len);
    memset(machine.page, CANARY, PAGE);
    assert_int_equal(mm_user_copy_out(user, va, kernel, len, &residue), status);
    assert_false(machine.ac);
    assert_int_equal(residue, want);
    assert_memory_equal(at, kernel, got);
    assert_true(all_are(machine.page, CANARY, PAGE - present));
    assert_true(all_are(at + got, CANARY, present - got));

    memset(machine.page, CANARY, PAGE);
    assert_int_equal(mm_user_clear(user, va, len, &residue), status);
    assert_false(machine.ac);
    assert_int_equal(residue, want);
    assert_true(all_are(at, 0, got));
    assert_true(all_are(machine.page, CANARY, PAGE - present));
    assert_true(all_are(at + got, CANARY, present - got));

    assert_int_equal(machine.nr_strange, 0);
    assert_in_range(machine.nr_faults, want == 0 ? 0 : 3, want == 0 ? 0 : 6);
    assert_int_equal(machine.nr_opened, machine.smap && len != 0 ? 3 : 0);
}

/* Hazard 31: a fault at each byte of a straddled page leaves the exact residue. */
static void check_straddles(const struct mm_user_ops *ops)
{
    struct mm_user user = lower_half(ops);

    for (uint64_t len = 0; len <= 80; len++) {
        for (uint64_t present = 0; present <= 88; present++) {
            check_one(&user, len, present);
        }
    }
    for (uint64_t present = 0; present <= PAGE; present += 5) {
        check_one(&user, PAGE, present);
        check_one(&user, PAGE - 3, present);
    }
}

static void test_straddle(void **state)
{
    (void)state;
    use_smap(false);
    check_straddles(&mm_x86_64_user_ops);
}

/* Hazard 32: open only around the access, closed on every path. */
static void test_straddle_smap(void **state)
{
    (void)state;
    use_smap(true);
    check_straddles(&mm_x86_64_user_smap_ops);
    use_smap(false);
}

/* The missing page comes first, and there is memory behind it: nothing of that is touched. */
static void test_missing_first(void **state)
{
    struct mm_user user = lower_half(&mm_x86_64_user_ops);
    uint8_t kernel[128];
    uint8_t *behind = machine.high_guard + PAGE;
    uint64_t residue;

    (void)state;
    use_smap(false);
    for (uint64_t before = 1; before <= 64; before++) {
        mm_vaddr_t va = mm_vaddr_of(behind - before);

        memset(behind, 0x77, 256);
        memset(kernel, CANARY, sizeof(kernel));
        assert_int_equal(mm_user_copy_in(&user, kernel, va, 128, &residue), MM_ERR_FAULT);
        assert_int_equal(residue, 128);
        assert_true(all_are(kernel, CANARY, sizeof(kernel)));
        assert_int_equal(mm_user_copy_out(&user, va, kernel, 128, &residue), MM_ERR_FAULT);
        assert_int_equal(residue, 128);
        assert_int_equal(mm_user_clear(&user, va, 128, &residue), MM_ERR_FAULT);
        assert_int_equal(residue, 128);
        assert_true(all_are(behind, 0x77, 256));
    }
    assert_int_equal(mm_user_copy_in(&user, kernel, mm_vaddr_of(machine.low_guard), 8, NULL),
                     MM_ERR_FAULT);
}

/* Memory may be there and forbid the access. */
static void test_read_only(void **state)
{
    struct mm_user user = lower_half(&mm_x86_64_user_ops);
    uint8_t kernel[64] = {0};
    struct t_trap_info info;
    uint64_t residue = 0;

    (void)state;
    use_smap(false);
    pattern(machine.page, PAGE);
    (void)mprotect(machine.page, PAGE, PROT_READ);
    assert_int_equal(mm_user_copy_in(&user, kernel, mm_vaddr_of(machine.page), 64, &residue),
                     MM_OK);
    assert_int_equal(mm_user_copy_out(&user, mm_vaddr_of(machine.page), kernel, 64, &residue),
                     MM_ERR_FAULT);
    assert_int_equal(residue, 64);
    /* What is not a user copy is not ours to repair. */
    T_EXPECT_SEGV(*(volatile uint8_t *)machine.page = 1, &info);
    (void)mprotect(machine.page, PAGE, PROT_READ | PROT_WRITE);
}

/* A fault that the kernel resolves is not noticed. */
static void test_lazy(void **state)
{
    struct mm_user user = lower_half(&mm_x86_64_user_ops);
    uint8_t kernel[300];
    uint64_t residue = 1;

    (void)state;
    use_smap(false);
    for (unsigned before = 0; before < 100; before++) {
        (void)mprotect(machine.high_guard, PAGE, PROT_NONE);
        machine.lazy = machine.high_guard;
        machine.nr_faults = 0;
        pattern(kernel, sizeof(kernel));
        assert_int_equal(mm_user_copy_out(&user, mm_vaddr_of(machine.high_guard - before), kernel,
                                          sizeof(kernel), &residue),
                         MM_OK);
        assert_int_equal(residue, 0);
        assert_in_range(machine.nr_faults, 1, 2);
        assert_memory_equal(machine.high_guard - before, kernel, sizeof(kernel));
    }
    machine.lazy = NULL;
    (void)mprotect(machine.high_guard, PAGE, PROT_NONE);
}

static void check_strings(const struct mm_user_ops *ops)
{
    struct mm_user user = lower_half(ops);
    char to[64];
    uint64_t len;

    for (uint64_t present = 1; present <= 40; present++) {
        uint8_t *at = machine.high_guard - present;
        mm_vaddr_t va = mm_vaddr_of(at);

        machine.nr_opened = 0;
        memset(at, 'x', present);
        len = 12345;
        assert_int_equal(mm_user_string_in(&user, to, va, sizeof(to), &len), MM_ERR_FAULT);
        assert_false(machine.ac);
        assert_int_equal(mm_user_string_in(&user, to, va, present, &len), MM_ERR_LIMIT);
        assert_false(machine.ac);
        assert_int_equal(len, 12345);
        at[present - 1] = 0;
        memset(to, CANARY, sizeof(to));
        assert_int_equal(mm_user_string_in(&user, to, va, sizeof(to), &len), MM_OK);
        assert_int_equal(len, present - 1);
        assert_memory_equal(to, at, present);
        assert_true(all_are((uint8_t *)to + present, CANARY, sizeof(to) - present));
        /* Exactly enough room, and one byte too little. */
        assert_int_equal(mm_user_string_in(&user, to, va, present, &len), MM_OK);
        if (present > 1) {
            assert_int_equal(mm_user_string_in(&user, to, va, present - 1, &len), MM_ERR_LIMIT);
        }
        assert_false(machine.ac);
        assert_int_equal(machine.nr_opened, !machine.smap ? 0 : present > 1 ? 5 : 4);
    }
    assert_int_equal(
        mm_user_string_in(&user, to, mm_vaddr_of(machine.high_guard), sizeof(to), &len),
        MM_ERR_FAULT);
}

static void test_string(void **state)
{
    (void)state;
    use_smap(false);
    check_strings(&mm_x86_64_user_ops);
    use_smap(true);
    check_strings(&mm_x86_64_user_smap_ops);
    use_smap(false);
}

/* A string that runs out of the user half: what is behind is not read, though it is there. */
static void test_string_at_the_end(void **state)
{
    struct mm_user user;
    char to[64];
    uint64_t len = 7;
    mm_vaddr_t last = mm_vaddr_of(machine.page + PAGE - 4);

    (void)state;
    use_smap(false);
    (void)mprotect(machine.high_guard, PAGE, PROT_READ | PROT_WRITE);
    memset(machine.page, 'x', PAGE);
    memset(machine.high_guard, 0, PAGE);
    assert_int_equal(mm_user_init(&user, &mm_x86_64_user_ops,
                                  mm_vrange(mm_vaddr(0), mm_vaddr_of(machine.high_guard).raw)),
                     MM_OK);
    memset(to, CANARY, sizeof(to));
    assert_int_equal(mm_user_string_in(&user, to, last, sizeof(to), &len), MM_ERR_FAULT);
    assert_true(all_are((uint8_t *)to + 4, CANARY, sizeof(to) - 4));
    assert_int_equal(mm_user_string_in(&user, to, last, 4, &len), MM_ERR_LIMIT);
    assert_int_equal(mm_user_string_in(&user, to, mm_vaddr_of(machine.high_guard), 4, &len),
                     MM_ERR_INVALID_ADDRESS);
    assert_int_equal(len, 7);
    (void)mprotect(machine.high_guard, PAGE, PROT_NONE);
}

static struct {
    struct t_prng prng;
    volatile char *at; /* the byte that changes; NULL: no more steps */
} flipper;

#define EFLAGS_TF UINT64_C(0x100) /* a trap after each instruction: Intel SDM vol. 1, 3.4.3.3 */

static void on_step(int sig, siginfo_t *si, void *ucontext)
{
    ucontext_t *context = ucontext;

    (void)sig;
    (void)si;
    if (flipper.at == NULL) {
        context->uc_mcontext.gregs[REG_EFL] &= ~(greg_t)EFLAGS_TF;
    } else {
        *flipper.at = t_prng_chance(&flipper.prng, 1, 2) ? 0 : 'y';
    }
}

/* Hazard 33: another thread of the process changes the string meanwhile, here between any two
 * instructions of the copy. What was measured is what was copied. */
static void test_string_flips(void **state)
{
    struct mm_user user = lower_half(&mm_x86_64_user_ops);
    struct sigaction action;
    struct sigaction before;
    char to[8];

    (void)state;
    use_smap(false);
    memset(&action, 0, sizeof(action));
    action.sa_sigaction = on_step;
    action.sa_flags = SA_SIGINFO;
    sigemptyset(&action.sa_mask);
    assert_int_equal(sigaction(SIGTRAP, &action, &before), 0);
    t_prng_start(&flipper.prng, "string flips");
    for (unsigned i = 0; i < 200; i++) {
        uint64_t len = 0;
        mm_status_t status;

        memcpy(machine.page, "abcyefg", 8);
        memset(to, CANARY, sizeof(to));
        flipper.at = (char *)machine.page + 3;
        __builtin_ia32_writeeflags_u64(__builtin_ia32_readeflags_u64() | EFLAGS_TF);
        status = mm_user_string_in(&user, to, mm_vaddr_of(machine.page), sizeof(to), &len);
        flipper.at = NULL;
        assert_int_equal(status, MM_OK);
        assert_true(len == 3 || len == 7);
        assert_true(all_are((uint8_t *)to + len + 1, CANARY, sizeof(to) - len - 1));
        assert_int_equal(strnlen(to, sizeof(to)), len);
    }
    assert_int_equal(sigaction(SIGTRAP, &before, NULL), 0);
}

/* --- ranges: with ops that must not be called ---------------------------------------------------
 */

static unsigned nr_calls;

static uint64_t count_in(void *to, uint64_t from, uint64_t len)
{
    (void)to, (void)from, (void)len;
    nr_calls++;
    return 0;
}

static uint64_t count_out(uint64_t to, const void *from, uint64_t len)
{
    (void)to, (void)from, (void)len;
    nr_calls++;
    return 0;
}

static uint64_t count_clear(uint64_t to, uint64_t len)
{
    (void)to, (void)len;
    nr_calls++;
    return 0;
}

static uint64_t count_string(char *to, uint64_t from, uint64_t len)
{
    (void)to, (void)from, (void)len;
    nr_calls++;
    return 0;
}

static const struct mm_user_ops counting = {count_in, count_out, count_clear, count_string};

/* The cross product of awkward addresses and lengths; arithmetic in 128 bits says what is right. */
static void test_ranges(void **state)
{
    static const uint64_t awkward[] = {0,
                                       1,
                                       4095,
                                       4096,
                                       4097,
                                       (UINT64_C(1) << 46) + 5,
                                       (UINT64_C(1) << 47) - 1,
                                       UINT64_C(1) << 47,
                                       (UINT64_C(1) << 47) + 1,
                                       (UINT64_C(1) << 56) - 1,
                                       UINT64_C(1) << 56,
                                       (UINT64_C(1) << 56) + 1,
                                       UINT64_C(0x7fffffffffffffff),
                                       UINT64_C(1) << 63,
                                       UINT64_C(0xffff800000000000),
                                       UINT64_C(0xfffffffffffff000),
                                       UINT64_MAX - 1,
                                       UINT64_MAX};
    const size_t nr = sizeof(awkward) / sizeof(awkward[0]);
    struct mm_user user;
    char byte = 0;
    uint64_t len;

    (void)state;
    for (uint64_t low = 0; low <= 8192; low += 8192) {
        uint64_t size = (UINT64_C(1) << 47) - low;

        assert_int_equal(mm_user_init(&user, &counting, mm_vrange(mm_vaddr(low), size)), MM_OK);
        for (size_t i = 0; i < nr * nr; i++) {
            uint64_t at = awkward[i / nr];
            uint64_t n = awkward[i % nr];
            bool inside = at >= low && (__uint128_t)at + n <= (__uint128_t)1 << 47;
            mm_status_t want = n == 0 || inside ? MM_OK : MM_ERR_INVALID_ADDRESS;
            uint64_t left = want == MM_OK ? 0 : n;
            uint64_t r = 5;

            nr_calls = 0;
            assert_int_equal(mm_user_copy_in(&user, &byte, mm_vaddr(at), n, &r), want);
            assert_int_equal(r, left);
            r = 5;
            assert_int_equal(mm_user_copy_out(&user, mm_vaddr(at), &byte, n, &r), want);
            assert_int_equal(r, left);
            r = 5;
            assert_int_equal(mm_user_clear(&user, mm_vaddr(at), n, &r), want);
            assert_int_equal(r, left);
            assert_int_equal(nr_calls, n != 0 && inside ? 3 : 0);
            len = 9;
            want = n == 0                                ? MM_ERR_INVALID_SIZE
                   : at >= low && at < UINT64_C(1) << 47 ? MM_OK
                                                         : MM_ERR_INVALID_ADDRESS;
            assert_int_equal(mm_user_string_in(&user, &byte, mm_vaddr(at), n, &len), want);
            assert_int_equal(len, want == MM_OK ? 0 : 9);
        }
    }
}

static void test_init(void **state)
{
    struct mm_user user = {0};
    struct mm_user_ops partial = counting;
    struct mm_vrange whole = mm_vrange(mm_vaddr(0), UINT64_C(1) << 63);

    (void)state;
    assert_int_equal(mm_user_init(NULL, &counting, whole), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_user_init(&user, NULL, whole), MM_ERR_INVALID_ARGUMENT);
    partial.clear = NULL;
    assert_int_equal(mm_user_init(&user, &partial, whole), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_user_init(&user, &counting, mm_vrange(mm_vaddr(4096), 0)),
                     MM_ERR_INVALID_SIZE);
    assert_int_equal(mm_user_init(&user, &counting, mm_vrange(mm_vaddr(1), 4096)),
                     MM_ERR_NOT_ALIGNED);
    assert_int_equal(mm_user_init(&user, &counting, mm_vrange(mm_vaddr(0), 4097)),
                     MM_ERR_NOT_ALIGNED);
    assert_int_equal(mm_user_init(&user, &counting, mm_vrange(mm_vaddr(4096), UINT64_C(1) << 63)),
                     MM_ERR_INVALID_ADDRESS);
    assert_int_equal(
        mm_user_init(&user, &counting, mm_vrange(mm_vaddr(UINT64_C(0xfffffffffffff000)), 8192)),
        MM_ERR_INVALID_ADDRESS);
    assert_null(user.ops);
    assert_int_equal(mm_user_init(&user, &counting, whole), MM_OK);
    assert_ptr_equal(user.ops, &counting);
}

static void test_null(void **state)
{
    struct mm_user user = lower_half(&counting);
    struct mm_user none = {0};
    uint64_t r = 3;
    char c = 0;

    (void)state;
    nr_calls = 0;
    assert_int_equal(mm_user_copy_in(NULL, &c, mm_vaddr(0), 1, &r), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_user_copy_in(&none, &c, mm_vaddr(0), 1, &r), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_user_copy_in(&user, NULL, mm_vaddr(0), 1, &r), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_user_copy_out(NULL, mm_vaddr(0), &c, 1, &r), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_user_copy_out(&user, mm_vaddr(0), NULL, 1, &r), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_user_clear(NULL, mm_vaddr(0), 1, &r), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_user_string_in(NULL, &c, mm_vaddr(0), 1, &r), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_user_string_in(&user, NULL, mm_vaddr(0), 1, &r), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_user_string_in(&user, &c, mm_vaddr(0), 1, NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(r, 3);
    assert_int_equal(nr_calls, 0);
}

static void test_fixup_is_exact(void **state)
{
    uint64_t entry = (uint64_t)(uintptr_t)mm_x86_64_user_ops.copy_in;
    unsigned nr_entries = 0;
    uint64_t resume = 42;

    (void)state;
    assert_false(mm_x86_64_user_fixup(0, &resume));
    assert_false(mm_x86_64_user_fixup(UINT64_MAX, &resume));
    assert_false(mm_x86_64_user_fixup((uint64_t)(uintptr_t)&setup, &resume));
    assert_int_equal(resume, 42);
    /* Two instructions of the routine may fault; each goes on inside of it, and is not itself. */
    for (uint64_t rip = entry; rip < entry + 46; rip++) {
        if (mm_x86_64_user_fixup(rip, &resume)) {
            nr_entries++;
            assert_true(resume > rip && resume < entry + 48);
            assert_false(mm_x86_64_user_fixup(rip, NULL));
        }
    }
    assert_int_equal(nr_entries, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_straddle),
        cmocka_unit_test(test_straddle_smap),
        cmocka_unit_test(test_missing_first),
        cmocka_unit_test(test_read_only),
        cmocka_unit_test(test_lazy),
        cmocka_unit_test(test_string),
        cmocka_unit_test(test_string_at_the_end),
        cmocka_unit_test(test_string_flips),
        cmocka_unit_test(test_ranges),
        cmocka_unit_test(test_init),
        cmocka_unit_test(test_null),
        cmocka_unit_test(test_fixup_is_exact),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
