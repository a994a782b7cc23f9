// SPDX-License-Identifier: MIT
/**
 * The tests of the tests' own tools: simulated RAM, traps, random numbers, hash, injector, data
 * files. What must fail a test is shown to fail one: this program runs itself again and reads what
 * it says. The small tools are tested in test_support_tools.c, the models in test_support_models.c.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "prng.h"
#include "sim_ram.h"
#include "trap.h"
#include "trap_mm.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)
#define TIB (UINT64_C(1) << 40)

static volatile uint8_t *byte_at(const struct t_ram *ram, uint64_t paddr)
{
    return t_ram_ptr(ram, paddr);
}

/* --- programs that fail, run by run_inner() below ------------------------------------------- */

static void inner_stray_store(void **state)
{
    struct t_ram *ram = t_ram_new(4 * GIB, 5 * GIB);

    (void)state;
    (void)t_seed();
    *byte_at(ram, 4 * GIB + 0x5123) = 1;
}

static void inner_stray_load(void **state)
{
    struct t_ram *ram = t_ram_new(4 * GIB, 5 * GIB);

    (void)state;
    t_ram_back(ram, 4 * GIB, GIB);
    (void)*byte_at(ram, 5 * GIB);
}

static void inner_panic(void **state)
{
    (void)state;
    t_trap_panic(&(struct t_trap_info){.room = "frame", .what = "double free", .address = 0x7000});
}

static void inner_no_panic(void **state)
{
    struct t_trap_info info;

    (void)state;
    T_EXPECT_PANIC((void)getpid(), &info);
}

/* Fails inside a catch, which then dangles; the next test's panic must not jump into it. */
static void inner_leaves_catch(void **state)
{
    struct t_trap_info info;

    (void)state;
    T_CATCH(T_TRAP_ANY, fail(), &info);
}

static void inner_catches_again(void **state)
{
    struct t_trap_info info;

    (void)state;
    T_EXPECT_SIGILL(__builtin_trap(), &info);
}

static void inner_pass(void **state)
{
    (void)state;
}

static int inner_main(const char *name)
{
    const struct CMUnitTest stray_store[] = {cmocka_unit_test(inner_stray_store),
                                             cmocka_unit_test(inner_pass)};
    const struct CMUnitTest stray_load[] = {cmocka_unit_test(inner_stray_load)};
    const struct CMUnitTest panic[] = {cmocka_unit_test(inner_panic), cmocka_unit_test(inner_pass)};
    const struct CMUnitTest no_panic[] = {cmocka_unit_test(inner_no_panic)};
    const struct CMUnitTest dangling[] = {
        cmocka_unit_test(inner_leaves_catch), cmocka_unit_test(inner_panic),
        cmocka_unit_test(inner_leaves_catch), cmocka_unit_test(inner_catches_again),
        cmocka_unit_test(inner_pass)};

    if (strcmp(name, "stray_store") == 0) {
        return cmocka_run_group_tests(stray_store, NULL, NULL);
    }
    if (strcmp(name, "stray_load") == 0) {
        return cmocka_run_group_tests(stray_load, NULL, NULL);
    }
    if (strcmp(name, "panic") == 0) {
        return cmocka_run_group_tests(panic, NULL, NULL);
    }
    if (strcmp(name, "no_panic") == 0) {
        return cmocka_run_group_tests(no_panic, NULL, NULL);
    }
    if (strcmp(name, "dangling") == 0) {
        return cmocka_run_group_tests(dangling, NULL, NULL);
    }
    if (strcmp(name, "seed") == 0) {
        (void)t_seed();
        fprintf(stderr, "between\n");
        exit(3);
    }
    return 99;
}

/* Run this program with one argument; its exit code, and in `out` all that it printed. */
static int run_inner(const char *before, const char *name, char *out, size_t size)
{
    char self[256];
    char command[512];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    size_t got;
    FILE *pipe;

    assert_true(n > 0);
    self[n] = '\0';
    (void)snprintf(command, sizeof(command), "%s '%s' %s 2>&1", before, self, name);
    pipe = popen(command, "r");
    assert_non_null(pipe);
    got = fread(out, 1, size - 1, pipe);
    out[got] = '\0';
    return WEXITSTATUS(pclose(pipe));
}

static void must_say(const char *out, const char *what)
{
    if (strstr(out, what) == NULL) {
        fail_msg("not said: %s\nbut:\n%s", what, out);
    }
}

/* --- simulated RAM --------------------------------------------------------------------------- */

static void ram_holds_what_is_written(void **state)
{
    struct t_ram *ram = t_ram_new(MIB, 16 * MIB);
    struct t_trap_info info;

    (void)state;
    assert_non_null(ram);
    t_ram_back(ram, 2 * MIB, 2 * MIB);
    assert_int_equal(*byte_at(ram, 2 * MIB), 0);
    *byte_at(ram, 2 * MIB) = 7;
    *byte_at(ram, 4 * MIB - 1) = 9;
    assert_int_equal(*byte_at(ram, 2 * MIB), 7);
    assert_int_equal(*(uint8_t *)(uintptr_t)(t_ram_base(ram) + 4 * MIB - 1), 9);
    assert_int_equal(t_ram_base(ram) % GIB, 0);
    assert_int_equal(t_ram_paddr(ram, byte_at(ram, 3 * MIB)), 3 * MIB);
    assert_int_equal(t_ram_paddr(ram, byte_at(ram, 16 * MIB)), UINT64_MAX);
    T_EXPECT_SEGV(*byte_at(ram, 2 * MIB - 1) = 1, &info);
    assert_int_equal(info.address, (uintptr_t)byte_at(ram, 2 * MIB - 1));
    T_EXPECT_SEGV((void)*byte_at(ram, 4 * MIB), &info);
    T_EXPECT_SEGV((void)*byte_at(ram, 16 * MIB), &info);
    T_EXPECT_SEGV((void)*byte_at(ram, MIB - 1), &info);
    t_ram_delete(ram);
}

/* Backing and taking away at random, against one flag a frame. */
static void ram_backing_follows_a_flat_model(void **state)
{
    enum { FRAMES = 64 };
    struct t_ram *ram = t_ram_new(8 * GIB, 8 * GIB + FRAMES * T_RAM_FRAME);
    bool backed[FRAMES] = {false};
    uint8_t value[FRAMES] = {0};
    struct t_prng prng;

    (void)state;
    assert_non_null(ram);
    t_prng_start(&prng, "ram_backing");
    for (int round = 0; round < 400; round++) {
        uint64_t first = t_prng_below(&prng, FRAMES);
        uint64_t nr = t_prng_below(&prng, FRAMES - first + 1);
        bool give = t_prng_chance(&prng, 1, 2);
        uint64_t count = 0;

        if (give) {
            t_ram_back(ram, 8 * GIB + first * T_RAM_FRAME, nr * T_RAM_FRAME);
        } else {
            t_ram_unback(ram, 8 * GIB + first * T_RAM_FRAME, nr * T_RAM_FRAME);
        }
        for (uint64_t i = first; i < first + nr; i++) {
            backed[i] = give;
            value[i] = give ? value[i] : 0;
        }
        for (uint64_t i = 0; i < FRAMES; i++) {
            volatile uint8_t *byte = byte_at(ram, 8 * GIB + i * T_RAM_FRAME);
            struct t_trap_info info;

            assert_int_equal(t_ram_is_backed(ram, 8 * GIB + i * T_RAM_FRAME, 4096), backed[i]);
            T_CATCH(T_TRAP_SEGV, assert_int_equal(*byte, value[i]), &info);
            assert_int_equal(info.kind, backed[i] ? T_TRAP_NONE : T_TRAP_SEGV);
            if (backed[i]) {
                *byte = value[i] = (uint8_t)(round + 1);
            }
            count += backed[i] ? T_RAM_FRAME : 0;
        }
        assert_int_equal(t_ram_backed_bytes(ram), count);
    }
    t_ram_delete(ram);
}

static void ram_hash_sees_every_change(void **state)
{
    static const struct t_ram_range ranges[] = {{4 * MIB, MIB}, {MIB, 2 * MIB}};
    struct t_ram *ram = t_ram_new_ranges(ranges, 2);
    struct t_ram *twin = t_ram_new_ranges(ranges, 2);
    uint64_t empty;
    uint64_t full;

    (void)state;
    assert_true(ram != NULL && twin != NULL);
    empty = t_ram_hash_all(ram);
    assert_int_equal(empty, t_ram_hash_all(twin));
    (void)*byte_at(ram, 4 * MIB); /* a load populates nothing that counts */
    *byte_at(ram, 2 * MIB) = 0;   /* nor does a store of zero */
    assert_int_equal(t_ram_hash_all(ram), empty);
    t_ram_junk(ram, MIB, MIB, 1);
    t_ram_junk(twin, MIB, MIB, 1);
    full = t_ram_hash_all(ram);
    assert_int_not_equal(full, empty);
    assert_int_equal(full, t_ram_hash_all(twin));
    for (unsigned bit = 0; bit < 8; bit++) {
        volatile uint8_t *byte = byte_at(ram, MIB + bit * 3001);

        *byte = (uint8_t)(*byte ^ 1u << bit);
        assert_int_not_equal(t_ram_hash_all(ram), full);
        *byte = (uint8_t)(*byte ^ 1u << bit);
        assert_int_equal(t_ram_hash_all(ram), full);
    }
    /* The same contents elsewhere are another state. */
    memcpy(t_ram_ptr(ram, 4 * MIB), t_ram_ptr(ram, MIB), 4096);
    memset(t_ram_ptr(ram, MIB), 0, 4096);
    assert_int_not_equal(t_ram_hash_all(ram), full);
    assert_int_equal(t_ram_hash(ram, 2 * MIB, MIB), t_ram_hash(twin, 2 * MIB, MIB));
    t_ram_delete(ram);
    t_ram_delete(twin);
}

/* 64 GiB in 64 pieces, scattered over 64 TiB, or over what this host has room for. */
static void ram_scattered_over_a_huge_span(void **state)
{
    enum { PIECES = 64 };
    uint64_t span = t_ram_max_span();
    uint64_t step = span / PIECES;
    uint64_t piece = step < GIB ? step / 2 : GIB;
    struct t_ram_range ranges[PIECES];
    struct t_ram *ram;
    struct t_trap_info info;
    uint64_t before;

    (void)state;
    print_message("largest window: %llu GiB\n", (unsigned long long)(span / GIB));
    assert_true(span >= 64 * GIB);
    for (uint64_t i = 0; i < PIECES; i++) {
        ranges[PIECES - 1 - i] = (struct t_ram_range){i * step, piece};
    }
    ranges[0].start = span - piece;
    ram = t_ram_new_ranges(ranges, PIECES);
    assert_non_null(ram);
    assert_int_equal(t_ram_backed_bytes(ram), PIECES * piece);
    before = t_ram_hash(ram, ranges[0].start, ranges[0].len);
    for (uint64_t i = 0; i < PIECES; i++) {
        *byte_at(ram, ranges[i].start) = (uint8_t)i;
        *byte_at(ram, ranges[i].start + piece - 1) = (uint8_t)(i + 1);
    }
    assert_int_not_equal(t_ram_hash(ram, ranges[0].start, ranges[0].len), before);
    for (uint64_t i = 0; i < PIECES; i++) {
        assert_int_equal(*byte_at(ram, ranges[i].start), i);
        if (i > 1) { /* the two topmost pieces may touch */
            T_EXPECT_SEGV(*byte_at(ram, ranges[i].start + piece) = 1, &info);
        }
    }
    t_ram_delete(ram);
    assert_null(t_ram_new(0, 4096 * TIB));
}

/* The top of the physical address space: the base wraps, the sum does not care. */
static void ram_below_the_52_bit_end(void **state)
{
    uint64_t end = UINT64_C(1) << 52;
    struct t_ram *ram = t_ram_new(end - GIB, end);
    struct t_trap_info info;

    (void)state;
    assert_non_null(ram);
    t_ram_back(ram, end - 4096, 4096);
    *byte_at(ram, end - 1) = 5;
    assert_int_equal(*byte_at(ram, end - 1), 5);
    assert_int_equal(t_ram_paddr(ram, byte_at(ram, end - 1)), end - 1);
    T_EXPECT_SEGV(*byte_at(ram, end) = 5, &info);
    t_ram_delete(ram);
}

static void ram_many_at_once(void **state)
{
    enum { MANY = 1000 };
    static struct t_ram *rams[MANY];

    (void)state;
    for (unsigned i = 0; i < MANY; i++) {
        rams[i] = t_ram_new(0, 64 * MIB);
        assert_non_null(rams[i]);
        t_ram_back(rams[i], MIB, 4096);
        memset(t_ram_ptr(rams[i], MIB), (int)(i & 0x7f), 4096);
    }
    for (unsigned i = 0; i < MANY; i++) {
        assert_int_equal(*byte_at(rams[i], MIB + i), i & 0x7f);
        t_ram_delete(rams[i]);
    }
}

static void ram_stray_access_fails_the_test(void **state)
{
    char out[4096];

    (void)state;
    assert_int_equal(run_inner("MM_TEST_SEED=77", "stray_store", out, sizeof(out)), 1);
    must_say(out, "t_ram: store of unbacked physical address 0x100005123\n");
    must_say(out, "MM_TEST_SEED=0x000000000000004d");
    must_say(out, "PASSED  ] 1 test"); /* the process lives on */
    assert_int_equal(run_inner("", "stray_load", out, sizeof(out)), 1);
    must_say(out, "t_ram: load of unbacked physical address 0x140000000 (outside of the window)\n");
}

/* --- traps ----------------------------------------------------------------------------------- */

static void trap_tells_what_came(void **state)
{
    struct t_ram *ram = t_ram_new(0, MIB);
    struct t_trap_info info;
    volatile int after = 0;

    (void)state;
    T_EXPECT_SEGV(*byte_at(ram, 0x3456) = 1, &info);
    assert_int_equal(info.address, t_ram_base(ram) + 0x3456);
#if defined(__x86_64__)
    assert_true(info.write);
    assert_true(info.instruction != 0);
    assert_int_equal(info.error, 6); /* user, write, not present */
    T_EXPECT_SEGV((void)*byte_at(ram, 0), &info);
    assert_false(info.write);
#endif
    T_EXPECT_SIGILL(__builtin_trap(), &info);
    assert_true(info.address != 0);
    T_CATCH(T_TRAP_ANY, after = 1, &info);
    assert_int_equal(info.kind, T_TRAP_NONE);
    assert_int_equal(after, 1);
    T_CATCH(T_TRAP_ANY, (*byte_at(ram, 0) = 1, after = 2), &info);
    assert_int_equal(info.kind, T_TRAP_SEGV);
    assert_int_equal(after, 1);
    t_ram_delete(ram);
}

static void trap_catches_the_platforms_panic(void **state)
{
    struct mm_platform platform = t_platform();
    struct mm_panic_info panic = {.room = "frame",
                                  .what = "double free of a frame",
                                  .address = 0x1234000,
                                  .recorded = "free",
                                  .recorded_value = 3,
                                  .claimed = "allocated",
                                  .claimed_value = 4};
    struct t_trap_info info;

    (void)state;
    T_EXPECT_PANIC(platform.ops->panic(platform.ctx, &panic), &info);
    assert_string_equal(info.room, "frame");
    assert_string_equal(info.what, "double free of a frame");
    assert_int_equal(info.address, 0x1234000);
    assert_string_equal(info.recorded, "free");
    assert_int_equal(info.recorded_value, 3);
    assert_string_equal(info.claimed, "allocated");
    assert_int_equal(info.claimed_value, 4);
    panic = (struct mm_panic_info){0};
    T_EXPECT_PANIC(platform.ops->panic(platform.ctx, &panic), &info);
    assert_string_equal(info.what, "");
}

static void trap_fails_the_test_when_it_must(void **state)
{
    char out[4096];

    (void)state;
    assert_int_equal(run_inner("", "panic", out, sizeof(out)), 1);
    must_say(out, "panic: frame: double free at 0x7000");
    must_say(out, "PASSED  ] 1 test");
    assert_int_equal(run_inner("", "no_panic", out, sizeof(out)), 1);
    must_say(out, "T_TRAP_PANIC expected");
    assert_int_equal(run_inner("", "dangling", out, sizeof(out)), 3);
    must_say(out, "PASSED  ] 2 test");
}

static void *catch_in_a_thread(void *arg)
{
    volatile uint8_t *bytes = arg;
    uintptr_t caught = 0;

    for (int i = 0; i < 100; i++) {
        struct t_trap_info info;

        T_CATCH(T_TRAP_SEGV, bytes[i * 4096] = 1, &info);
        caught += info.kind == T_TRAP_SEGV ? 1 : 0;
    }
    return (void *)caught;
}

static void trap_belongs_to_its_thread(void **state)
{
    struct t_ram *ram = t_ram_new(0, MIB);
    pthread_t threads[2];

    (void)state;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, catch_in_a_thread,
                                        t_ram_ptr(ram, (uint64_t)i * MIB / 2)),
                         0);
    }
    for (int i = 0; i < 2; i++) {
        void *caught;

        assert_int_equal(pthread_join(threads[i], &caught), 0);
        assert_int_equal((uintptr_t)caught, 100);
    }
    t_ram_delete(ram);
}

static bool back_it(void *ctx, void *ucontext, uint64_t address, uint64_t error)
{
    struct t_ram *ram = ctx;
    uint64_t paddr = t_ram_paddr(ram, (void *)(uintptr_t)address);

    (void)error;
    if (ucontext == NULL || paddr == UINT64_MAX) {
        return false;
    }
    t_ram_back(ram, paddr & ~UINT64_C(4095), 4096);
    return true;
}

static void trap_fixup_resumes(void **state)
{
    struct t_ram *ram = t_ram_new(0, MIB);
    struct t_trap_info info;

    (void)state;
    t_trap_set_fixup(back_it, ram);
    *byte_at(ram, 0x8001) = 3;
    assert_int_equal(*byte_at(ram, 0x8001), 3);
    T_EXPECT_SEGV(*byte_at(ram, MIB) = 1, &info);
    t_trap_set_fixup(NULL, NULL);
    T_EXPECT_SEGV(*byte_at(ram, 0x9001) = 1, &info);
    t_ram_delete(ram);
}

/* --- the seed -------------------------------------------------------------------------------- */

static void prng_seed_is_told(void **state)
{
    char out[4096];
    const char *first;

    (void)state;
    assert_int_equal(run_inner("MM_TEST_SEED=0x1234", "seed", out, sizeof(out)), 3);
    first = strstr(out, "MM_TEST_SEED=0x0000000000001234\nbetween\n");
    assert_non_null(first);
    must_say(strstr(first, "between"), "MM_TEST_SEED=0x0000000000001234");
    assert_int_equal(run_inner("MM_TEST_SEED=12x", "seed", out, sizeof(out)), 1);
    must_say(out, "is no number");
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ram_holds_what_is_written),
        cmocka_unit_test(ram_backing_follows_a_flat_model),
        cmocka_unit_test(ram_hash_sees_every_change),
        cmocka_unit_test(ram_scattered_over_a_huge_span),
        cmocka_unit_test(ram_below_the_52_bit_end),
        cmocka_unit_test(ram_many_at_once),
        cmocka_unit_test(ram_stray_access_fails_the_test),
        cmocka_unit_test(trap_tells_what_came),
        cmocka_unit_test(trap_catches_the_platforms_panic),
        cmocka_unit_test(trap_fails_the_test_when_it_must),
        cmocka_unit_test(trap_belongs_to_its_thread),
        cmocka_unit_test(trap_fixup_resumes),
        cmocka_unit_test(prng_seed_is_told),
    };

    if (argc == 2) {
        int failed = inner_main(argv[1]);

        fflush(NULL);
        _exit(failed); /* a test that failed half-way leaks, and that is not the question here */
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
