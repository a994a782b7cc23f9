// SPDX-License-Identifier: MIT
/**
 * Base, the internal part: bits against loops, lines of text against the C library, panics, events
 * and the spin lock.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../../src/core/base/bits.h"
#include "../../src/core/base/lock.h"
#include "../../src/core/base/report.h"

#include "prng.h"
#include "trap.h"
#include "trap_mm.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* --- bits */

static unsigned count_bits(uint64_t x)
{
    unsigned n = 0;

    for (unsigned bit = 0; bit < 64; bit++) {
        n += (unsigned)(x >> bit & 1);
    }
    return n;
}

static void check_word(uint64_t x)
{
    unsigned lowest = 0;
    unsigned highest = 63;

    assert_int_equal(mmi_popcount(x), count_bits(x));
    if (x == 0) {
        return;
    }
    while ((x >> lowest & 1) == 0) {
        lowest++;
    }
    while ((x >> highest & 1) == 0) {
        highest--;
    }
    assert_int_equal(mmi_ctz(x), lowest);
    assert_int_equal(mmi_log2(x), highest);
    if (x <= UINT64_C(1) << 63) {
        unsigned up = 0;

        while (UINT64_C(1) << up < x) {
            up++;
        }
        assert_int_equal(mmi_log2_up(x), up);
    }
}

static void words(void **state)
{
    struct t_prng prng;

    (void)state;
    t_prng_start(&prng, "base, bits");
    for (uint64_t x = 0; x < 70000; x++) {
        check_word(x);
        check_word(~x);
    }
    for (unsigned bit = 0; bit < 64; bit++) {
        check_word(UINT64_C(1) << bit);
        check_word((UINT64_C(1) << bit) - 1);
        check_word((UINT64_C(1) << bit) + 1);
    }
    for (int i = 0; i < 100000; i++) {
        check_word(t_prng_magnitude(&prng, 64));
    }
}

static void masks(void **state)
{
    (void)state;
    for (unsigned first = 0; first < 64; first++) {
        for (unsigned nr = 0; nr <= 64 - first; nr++) {
            uint64_t expected = 0;

            for (unsigned bit = first; bit < first + nr; bit++) {
                expected |= UINT64_C(1) << bit;
            }
            assert_int_equal(mmi_mask(first, nr), expected);
        }
    }
}

/* --- lines */

static void assert_line(const struct mmi_line *line, const char *expected)
{
    assert_int_equal(line->len, strlen(expected));
    assert_memory_equal(line->text, expected, line->len);
}

static void numbers(void **state)
{
    const uint64_t values[] = {0,
                               9,
                               10,
                               0xdeadbeef,
                               UINT64_MAX,
                               1u << 31u,
                               UINT32_MAX,
                               UINT64_C(9999999999999999999),
                               15,
                               16,
                               UINT64_C(10000000000000000000)};

    (void)state;
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        struct mmi_line line;
        char text[64];

        mmi_line_begin(&line);
        mmi_line_u64(&line, values[i]);
        (void)snprintf(text, sizeof(text), "%" PRIu64, values[i]);
        assert_line(&line, text);
        for (int digits = 0; digits <= 20; digits++) {
            mmi_line_begin(&line);
            mmi_line_hex(&line, values[i], (unsigned)digits);
            (void)snprintf(text, sizeof(text), "0x%0*" PRIx64, digits > 0 ? digits : 1, values[i]);
            assert_line(&line, text);
        }
    }
}

static void sizes(void **state)
{
    static const struct {
        uint64_t bytes;
        const char *text;
    } cases[] = {{0, "0 B"},
                 {1, "1 B"},
                 {1023, "1023 B"},
                 {1024, "1 KiB"},
                 {1025, "1025 B"},
                 {4096, "4 KiB"},
                 {UINT64_C(2) << 20, "2 MiB"},
                 {UINT64_C(17) << 30, "17 GiB"},
                 {UINT64_C(1536) << 20, "1536 MiB"},
                 {UINT64_C(1) << 40, "1 TiB"},
                 {UINT64_C(1) << 52, "4 PiB"},
                 {UINT64_C(1) << 63, "8 EiB"},
                 {UINT64_MAX, "18446744073709551615 B"}};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct mmi_line line;

        mmi_line_begin(&line);
        mmi_line_size(&line, cases[i].bytes);
        assert_line(&line, cases[i].text);
    }
}

static void columns(void **state)
{
    struct mmi_line line;

    (void)state;
    mmi_line_begin(&line);
    assert_line(&line, "");
    mmi_line_str(&line, "");
    mmi_line_str(&line, "ab");
    mmi_line_pad(&line, 5);
    mmi_line_str(&line, "c");
    mmi_line_pad(&line, 3); /* already there */
    mmi_line_str(&line, "d");
    assert_line(&line, "ab   cd");
}

/* What does not fit is cut off, whoever puts it, and nothing behind the text is touched. */
static void long_lines_are_cut(void **state)
{
    struct {
        struct mmi_line line;
        uint8_t canary[64];
    } l;
    char text[sizeof(l.line.text)];

    (void)state;
    for (int how = 0; how < 4; how++) {
        memset(&l, 0x5a, sizeof(l));
        memset(text, 'x', sizeof(text));
        mmi_line_begin(&l.line);
        for (size_t i = 0; i + 3 < sizeof(text); i++) {
            mmi_line_str(&l.line, "x");
        }
        switch (how) {
        case 0:
            mmi_line_str(&l.line, "abcdef");
            memcpy(text + sizeof(text) - 3, "abc", 3);
            break;
        case 1:
            mmi_line_u64(&l.line, 123456);
            memcpy(text + sizeof(text) - 3, "123", 3);
            break;
        case 2:
            mmi_line_hex(&l.line, 0xabc, 3);
            memcpy(text + sizeof(text) - 3, "0xa", 3);
            break;
        default:
            mmi_line_pad(&l.line, 1000);
            memcpy(text + sizeof(text) - 3, "   ", 3);
            break;
        }
        assert_int_equal(l.line.len, sizeof(text));
        assert_memory_equal(l.line.text, text, sizeof(text));
        for (size_t i = 0; i < sizeof(l.canary); i++) {
            assert_int_equal(l.canary[i], 0x5a);
        }
    }
}

/* --- ops */

struct heard {
    char line[256];
    size_t len;
    unsigned lines;
    struct mm_event event;
    unsigned events;
    unsigned panics;
    unsigned relaxed;
    uint32_t *lock;
};

static void hear_line(void *ctx, const char *line, size_t len)
{
    struct heard *h = ctx;

    assert_true(len < sizeof(h->line));
    memcpy(h->line, line, len);
    h->len = len;
    h->lines++;
}

static void hear_event(void *ctx, const struct mm_event *event)
{
    struct heard *h = ctx;

    h->event = *event;
    h->events++;
}

static uint32_t cpu_number(void *ctx)
{
    (void)ctx;
    return 42;
}

static void panic_that_returns(void *ctx, const struct mm_panic_info *info)
{
    struct heard *h = ctx;

    (void)info;
    h->panics++;
}

/* The lock's holder goes on while another CPU waits: here, inside the third turn of the wait. */
static void relax_and_release(void *ctx)
{
    struct heard *h = ctx;

    if (++h->relaxed == 3) {
        mmi_unlock(h->lock);
    }
}

static const struct mm_platform_ops all_ops = {
    .panic = panic_that_returns,
    .log = hear_line,
    .event = hear_event,
    .cpu_number = cpu_number,
    .relax = relax_and_release,
};
static const struct mm_platform_ops no_ops = {.clock = NULL};

static void lines_reach_the_log(void **state)
{
    struct heard h = {.lines = 0};
    const struct mm_platform platforms[] = {{NULL, NULL}, {&no_ops, NULL}, {&all_ops, &h}};
    struct mmi_line line;

    (void)state;
    mmi_line_begin(&line);
    mmi_line_str(&line, "hello");
    for (int i = 0; i < 3; i++) {
        mmi_line_log(&line, &platforms[i]);
        assert_int_equal(h.lines, i == 2);
    }
    assert_int_equal(h.len, 5);
    assert_memory_equal(h.line, "hello", 5);
    for (int i = 0; i < 3; i++) {
        mmi_complain(&platforms[i], "frame", "two owners", 0x1f000);
    }
    assert_int_equal(h.lines, 2);
    assert_int_equal(h.len, strlen("frame: two owners (0x1f000)"));
    assert_memory_equal(h.line, "frame: two owners (0x1f000)", h.len);
}

static void events_and_numbers(void **state)
{
    struct heard h = {.events = 0};
    const struct mm_platform platforms[] = {{NULL, NULL}, {&no_ops, NULL}, {&all_ops, &h}};

    (void)state;
    for (int i = 0; i < 3; i++) {
        mmi_event(&platforms[i], (enum mm_event_kind)3, &h, 0x1000, 0x2000);
        assert_int_equal(h.events, i == 2);
        assert_int_equal(mmi_cpu_number(&platforms[i]), i == 2 ? 42 : 0);
    }
    assert_int_equal(h.event.kind, 3);
    assert_ptr_equal(h.event.who, &h);
    assert_int_equal(h.event.address, 0x1000);
    assert_int_equal(h.event.len, 0x2000);
}

static void panics(void **state)
{
    static const struct mm_panic_info info = {.room = "base",
                                              .what = "a test",
                                              .address = 0x1234,
                                              .recorded = "free",
                                              .recorded_value = 5,
                                              .claimed = "allocated",
                                              .claimed_value = 6};
    static struct heard h;
    const struct mm_platform none = {NULL, NULL};
    const struct mm_platform no_hook = {&no_ops, NULL};
    const struct mm_platform returns = {&all_ops, &h};
    const struct mm_platform platform = t_platform();
    struct t_trap_info trap;

    (void)state;
    T_EXPECT_PANIC(mmi_panic(&platform, &info), &trap);
    assert_string_equal(trap.room, "base");
    assert_string_equal(trap.what, "a test");
    assert_int_equal(trap.address, 0x1234);
    assert_string_equal(trap.recorded, "free");
    assert_int_equal(trap.recorded_value, 5);
    assert_string_equal(trap.claimed, "allocated");
    assert_int_equal(trap.claimed_value, 6);
    /* no ops, no hook, or one that comes back: an illegal instruction */
    T_EXPECT_SIGILL(mmi_panic(&none, &info), &trap);
    T_EXPECT_SIGILL(mmi_panic(&no_hook, &info), &trap);
    T_EXPECT_SIGILL(mmi_panic(&returns, &info), &trap);
    assert_int_equal(h.panics, 1);
}

/* --- the lock */

static void the_lock(void **state)
{
    uint32_t lock = 0;
    struct heard h = {.lock = &lock};
    const struct mm_platform none = {NULL, NULL};
    const struct mm_platform platform = {&all_ops, &h};

    (void)state;
    assert_true(mmi_lock_try(&lock));
    assert_int_equal(lock, 1);
    assert_false(mmi_lock_try(&lock));
    mmi_unlock(&lock);
    assert_int_equal(lock, 0);
    mmi_lock(&lock, &none);
    assert_int_equal(lock, 1);
    mmi_lock(&lock, &platform); /* waits until its third turn */
    assert_int_equal(h.relaxed, 3);
    assert_int_equal(lock, 1);
    mmi_unlock(&lock);
    assert_true(mmi_lock_try(&lock));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words),
        cmocka_unit_test(masks),
        cmocka_unit_test(numbers),
        cmocka_unit_test(sizes),
        cmocka_unit_test(columns),
        cmocka_unit_test(long_lines_are_cut),
        cmocka_unit_test(lines_reach_the_log),
        cmocka_unit_test(events_and_numbers),
        cmocka_unit_test(panics),
        cmocka_unit_test(the_lock),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
