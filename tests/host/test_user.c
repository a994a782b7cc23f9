// SPDX-License-Identifier: MIT
/**
 * Copies, clears and strings, natively, with each set of routines: a fault at each byte.
 */
#define _GNU_SOURCE
#include "prng.h"
#include "user_rig.h"
#include "user_steps.h"

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

/* Hazards 31 and 32: a fault at each byte of a straddled page leaves the exact residue, and user
 * memory is open only around the access, closed on every path. */
static void check_straddles(const struct flavour *flavour)
{
    struct mm_user user = lower_half(flavour->ops);
    /* The sets are made of the same lines: one of them takes every byte. */
    uint64_t step = flavour->ops == &mm_x86_64_user_ops ? 1 : 3;

    for (uint64_t len = 0; len <= 80; len++) {
        for (uint64_t present = len % step; present <= 88; present += step) {
            check_one(&user, len, present);
        }
    }
    /* Where the string instructions begin. */
    for (uint64_t len = 505; len <= 521; len++) {
        for (uint64_t present = len % step; present <= len + 1; present += 5 * step) {
            check_one(&user, len, present);
        }
    }
    for (uint64_t present = 0; present <= PAGE; present += 11 * step) {
        check_one(&user, PAGE, present);
        check_one(&user, PAGE - 3, present);
    }
}

static void test_straddle(void **state)
{
    (void)state;
    with_each(check_straddles);
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

/* The kernel resolves no fault of an access that must not sleep. */
static void test_lazy_nofault(void **state)
{
    struct mm_user user = lower_half(&mm_x86_64_user_nofault_ops);
    uint8_t kernel[300] = {0};
    char to[32];
    uint64_t residue = 1;
    uint64_t len = 0;

    (void)state;
    use_smap(false);
    machine.lazy = machine.high_guard;
    machine.nr_resolved = 0;
    for (unsigned before = 0; before < 100; before++) {
        mm_vaddr_t va = mm_vaddr_of(machine.high_guard - before);

        memset(machine.page, 'x', PAGE);
        assert_int_equal(mm_user_copy_in(&user, kernel, va, 300, &residue), MM_ERR_FAULT);
        assert_int_equal(residue, 300 - before);
        assert_int_equal(mm_user_copy_out(&user, va, kernel, 300, &residue), MM_ERR_FAULT);
        assert_int_equal(residue, 300 - before);
        assert_int_equal(mm_user_clear(&user, va, 300, &residue), MM_ERR_FAULT);
        assert_int_equal(residue, 300 - before);
    }
    memset(machine.page, 'x', PAGE);
    assert_int_equal(
        mm_user_string_in(&user, to, mm_vaddr_of(machine.high_guard - 9), sizeof(to), &len),
        MM_ERR_FAULT);
    assert_int_equal(machine.nr_resolved, 0);
    machine.lazy = NULL;
}

/* --- hazard 33: nothing is stored twice ---------------------------------------------------------
 *
 * User code takes what the kernel stored, a byte at a time, the moment it appears. A byte that is
 * stored again, because a fault came behind it, would undo what user code did.
 */

#define KERNELS 0xee
#define TAKEN   0x11

static struct {
    uint8_t *at;
    uint64_t len;
    uint8_t stored; /* what the kernel stores */
    unsigned nr[640];
} taker;

static void take(void)
{
    for (uint64_t i = 0; i < taker.len; i++) {
        if (taker.at[i] == taker.stored) {
            taker.nr[i]++;
            taker.at[i] = TAKEN;
        }
    }
}

static void check_stored_once(const struct mm_user *user, uint64_t len, uint64_t present,
                              bool clear)
{
    static uint8_t kernel[PAGE];
    mm_vaddr_t va = mm_vaddr_of(machine.high_guard - present);
    uint64_t residue = 0;
    mm_status_t status;

    memset(kernel, KERNELS, len);
    memset(machine.page, 0x22, PAGE);
    memset(&taker, 0, sizeof(taker));
    taker.at = machine.high_guard - present;
    taker.len = present;
    taker.stored = clear ? 0 : KERNELS;
    STEP_THROUGH(take, status = clear ? mm_user_clear(user, va, len, &residue)
                                      : mm_user_copy_out(user, va, kernel, len, &residue));
    take();
    assert_int_equal(status, MM_ERR_FAULT);
    assert_int_equal(residue, len - present);
    for (uint64_t i = 0; i < present; i++) {
        assert_int_equal(taker.nr[i], 1);
    }
}

static void test_stored_once(void **state)
{
    struct mm_user user = lower_half(&mm_x86_64_user_ops);

    (void)state;
    use_smap(false);
    steps_arm();
    for (uint64_t present = 0; present < 40; present++) {
        check_stored_once(&user, 47, present, present % 2 == 0);
        check_stored_once(&user, 63, present, present % 2 != 0);
    }
    check_stored_once(&user, 600, 517, false);
    check_stored_once(&user, 600, 517, true);
    steps_disarm();
}

static void check_strings(const struct flavour *flavour)
{
    struct mm_user user = lower_half(flavour->ops);
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
    with_each(check_strings);
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

static struct t_prng flips;
static volatile char *flipped; /* the byte that changes */

static void flip_a_byte(void)
{
    *flipped = t_prng_chance(&flips, 1, 2) ? 0 : 'y';
}

/* Hazard 33: another thread of the process changes the string meanwhile, here between any two
 * instructions of the copy. What was measured is what was copied. */
static void test_string_flips(void **state)
{
    struct mm_user user = lower_half(&mm_x86_64_user_ops);
    char to[40];

    (void)state;
    use_smap(false);
    steps_arm();
    t_prng_start(&flips, "string flips");
    for (unsigned i = 0; i < (MM_TEST_SANITIZED ? 150 : 600); i++) {
        /* One that ends among the first eight bytes, in the middle, at the end of the page. */
        unsigned whole = 7 + i % 3 * 10;
        unsigned at = i % 5 < 3 ? 3 : whole - 2;
        char *string = (char *)machine.page + (i % 2 == 0 ? 0 : PAGE - whole - 1);
        uint64_t len = 0;
        mm_status_t status;

        memset(string, 'x', whole);
        string[whole] = 0;
        memset(to, CANARY, sizeof(to));
        flipped = string + at;
        STEP_THROUGH(flip_a_byte,
                     status = mm_user_string_in(&user, to, mm_vaddr_of(string), sizeof(to), &len));
        assert_true(steps.nr > 20);
        assert_int_equal(status, MM_OK);
        assert_true(len == at || len == whole);
        assert_true(all_are((uint8_t *)to + len + 1, CANARY, sizeof(to) - len - 1));
        assert_int_equal(strnlen(to, sizeof(to)), len);
    }
    steps_disarm();
}

/* What the routines of a set may begin and end with: they stand one behind the other. */
static void check_fixup(const struct flavour *flavour)
{
    uint64_t first = (uint64_t)(uintptr_t)flavour->ops->copy_in;
    uint64_t last = (uint64_t)(uintptr_t)flavour->ops->cmpxchg[1];
    unsigned nr_entries = 0;
    uint64_t resume = 42;

    assert_true(last > first);
    for (uint64_t rip = first; rip < last + 64; rip++) {
        bool found = mm_x86_64_user_fixup(rip, &resume);
        bool nofault = mm_x86_64_user_fixup_nofault(rip, &resume);

        assert_false(found && nofault);
        if (rip >= last + 32 && !found && !nofault) {
            continue; /* behind the set, another may begin */
        }
        if (rip >= last + 32) {
            break;
        }
        if (found || nofault) {
            nr_entries++;
            assert_int_equal(nofault, flavour->nofault);
            /* It goes on inside of the same routine, and is not itself. */
            assert_true(resume > rip - 64 && resume < rip + 256 && resume != rip);
            assert_false(mm_x86_64_user_fixup(rip, NULL));
            assert_false(mm_x86_64_user_fixup_nofault(rip, NULL));
        }
    }
    assert_int_equal(nr_entries, 3 * 11 + 2 + 4 + 4 + 2);
}

static void test_fixup_is_exact(void **state)
{
    uint64_t resume = 42;

    (void)state;
    assert_false(mm_x86_64_user_fixup(0, &resume));
    assert_false(mm_x86_64_user_fixup(UINT64_MAX, &resume));
    assert_false(mm_x86_64_user_fixup((uint64_t)(uintptr_t)&setup, &resume));
    assert_false(mm_x86_64_user_fixup_nofault(0, &resume));
    assert_false(mm_x86_64_user_fixup_nofault(UINT64_MAX, &resume));
    assert_false(mm_x86_64_user_fixup_nofault((uint64_t)(uintptr_t)&setup, &resume));
    assert_int_equal(resume, 42);
    for (size_t i = 0; i < NR_FLAVOURS; i++) {
        check_fixup(&flavours[i]);
    }
}

/* A mispredicted branch may bring an address of the kernel's half to the routines. Called with one,
 * they do not touch it: what they touch instead are the last bytes of the address space. */
static void check_kernel_half(const struct flavour *flavour)
{
    const struct mm_user_ops *ops = flavour->ops;
    const uint64_t at = UINT64_C(0xffff888000001000);
    uint8_t kernel[16] = {0};
    uint64_t nr = 0;

    machine.nr_faults = 0;
    machine.last = 0;
#define NOT_THERE(call)                                                                            \
    do {                                                                                           \
        machine.last = 0;                                                                          \
        assert_true((call) != 0);                                                                  \
        assert_false(machine.last >= at && machine.last < at + PAGE);                              \
        assert_int_equal(machine.nr_faults > nr, 1);                                               \
        nr = machine.nr_faults;                                                                    \
    } while (0)
    NOT_THERE(ops->copy_in(kernel, at, 16));
    NOT_THERE(ops->copy_out(at, kernel, 16));
    NOT_THERE(ops->clear(at, 16));
    NOT_THERE(ops->string_in((char *)kernel, at, 16) == UINT64_MAX);
    for (unsigned i = 0; i < 4; i++) {
        NOT_THERE(ops->get[i](kernel, at) == MM_ERR_FAULT);
        NOT_THERE(ops->put[i](at, kernel) == MM_ERR_FAULT);
    }
    for (unsigned i = 0; i < 2; i++) {
        NOT_THERE(ops->cmpxchg[i](at, 1, 2, kernel) == MM_ERR_FAULT);
    }
#undef NOT_THERE
}

static void test_kernel_half(void **state)
{
    (void)state;
    with_each(check_kernel_half);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_straddle),     cmocka_unit_test(test_missing_first),
        cmocka_unit_test(test_read_only),    cmocka_unit_test(test_lazy),
        cmocka_unit_test(test_lazy_nofault), cmocka_unit_test(test_stored_once),
        cmocka_unit_test(test_string),       cmocka_unit_test(test_string_at_the_end),
        cmocka_unit_test(test_string_flips), cmocka_unit_test(test_fixup_is_exact),
        cmocka_unit_test(test_kernel_half),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
