// SPDX-License-Identifier: MIT
/**
 * What the files of the test of the preloaded malloc share.
 */
#ifndef TEST_PRELOAD_H
#define TEST_PRELOAD_H

#include <stddef.h>

#define MiB ((size_t)1 << 20)

/** The compiler may not know what these numbers are, nor what becomes of a result. */
static inline size_t opaque(size_t n)
{
    __asm__ volatile("" : "+r"(n));
    return n;
}

static inline void *alias(void *object)
{
    __asm__ volatile("" : "+r"(object));
    return object;
}

/** test_mistakes.c: before cmocka runs, and its tests. */
void mistakes_begin(void);
void test_who_is_named(void **state);
void test_mistakes(void **state);

#endif
