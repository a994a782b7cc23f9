// SPDX-License-Identifier: MIT
/**
 * What the fuzz targets share: bytes turned into choices, checks that say which operation of the
 * input they belong to, and the way back to it.
 *
 * A target is LLVMFuzzerTestOneInput(): linked with libFuzzer it hunts, linked with replay.c it
 * runs over files. An input is a list of operations with their arguments. Whatever the bytes are,
 * each choice is in bounds and most calls are legal; bytes that are missing are zeroes. An input
 * must mean the same each time, so a target keeps no state from one to the next.
 *
 * A check that fails prints and aborts: libFuzzer then keeps the input. FUZZ_TRACE=1 in the
 * environment prints each operation as it begins.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

/* --- what is going on ---------------------------------------------------------------------------
 */

struct fz {
    const uint8_t *at;
    size_t left;
    unsigned nr_ops;
    const char *op;
    bool trace;
};

static struct fz fz;

static inline void fz_begin(const uint8_t *data, size_t size)
{
    fz = (struct fz){.at = data, .left = size, .op = "setting up"};
    fz.trace = getenv("FUZZ_TRACE") != NULL;
    /* Fixtures of the host tests assert outside of a cmocka test: that too must abort. */
    (void)setenv("CMOCKA_TEST_ABORT", "1", 1);
}

/** An operation begins. */
static inline void fz_op(const char *name)
{
    fz.nr_ops++;
    fz.op = name;
    if (fz.trace) {
        fprintf(stderr, "operation %u: %s, %zu bytes left\n", fz.nr_ops, name, fz.left);
    }
}

__attribute__((noreturn, format(printf, 3, 4))) static inline void
fz_fail(const char *file, int line, const char *format, ...)
{
    va_list arguments;

    fprintf(stderr, "%s:%d: operation %u (%s): ", file, line, fz.nr_ops, fz.op);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, "\n  FUZZ_TRACE=1 and the input's file as the argument show the way to it\n");
    abort();
}

#define FZ_TRUE(condition)                                                                         \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fz_fail(__FILE__, __LINE__, "expected, and is not so: %s", #condition);                \
        }                                                                                          \
    } while (0)

#define FZ_EQUAL(seen, expected)                                                                   \
    do {                                                                                           \
        uint64_t fz_seen_ = (uint64_t)(seen);                                                      \
        uint64_t fz_expected_ = (uint64_t)(expected);                                              \
        if (fz_seen_ != fz_expected_) {                                                            \
            fz_fail(__FILE__, __LINE__, "%s is %#llx; expected was %s: %#llx", #seen,              \
                    (unsigned long long)fz_seen_, #expected, (unsigned long long)fz_expected_);    \
        }                                                                                          \
    } while (0)

/** A model must agree: it answers NULL, or with what is wrong. */
#define FZ_LEGAL(expression)                                                                       \
    do {                                                                                           \
        const char *fz_wrong_ = (expression);                                                      \
        if (fz_wrong_ != NULL) {                                                                   \
            fz_fail(__FILE__, __LINE__, "%s: %s", #expression, fz_wrong_);                         \
        }                                                                                          \
    } while (0)

/* --- bytes into choices -------------------------------------------------------------------------
 */

static inline bool fz_more(void)
{
    return fz.left > 0;
}

static inline uint64_t fz_bytes(unsigned nr)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < nr && fz.left > 0; i++) {
        value |= (uint64_t)*fz.at << (8 * i);
        fz.at++;
        fz.left--;
    }
    return value;
}

static inline unsigned fz_u8(void)
{
    return (unsigned)fz_bytes(1);
}

/** In [0, below), of one byte if that is enough, else of two, or four. */
static inline uint64_t fz_below(uint64_t below)
{
    return fz_bytes(below <= 256 ? 1 : below <= 65536 ? 2 : 4) % below;
}

/** A number of any size, most often a small one: the first byte says how many follow. */
static inline uint64_t fz_magnitude(unsigned bits)
{
    unsigned n = fz_u8() % (bits + 1);

    return n == 0 ? 0 : fz_bytes((n + 7) / 8) & (UINT64_MAX >> (64 - n));
}

#endif
