// SPDX-License-Identifier: MIT
/**
 * Tests that need only the public API and some memory, compiled twice from one file: into a host
 * program, where sanitizers watch, and into the minikernel, where the flags, the C library (none) and
 * the memory are a kernel's. Each file NAME.c here defines one function both_NAME(); the list of names
 * is in both.cmake.
 *
 * A test may use: headers of mm/, freestanding headers, and what this header declares. It lets nothing
 * panic, activates no page table, and leaves nothing behind.
 */
#ifndef T_BOTH_H
#define T_BOTH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <mm/physmap.h>

/** Bytes of memory that a test is given, aligned to as much. */
#define BOTH_MEMORY MM_SIZE_2M

/** What a test is given. */
struct both_world {
    struct mm_physmap physmap; /**< a direct map that reaches the memory */
    struct mm_prange memory;   /**< BOTH_MEMORY bytes of any content, the test's to write */
};

/**
 * One check: `name` says what holds. In the host program a check that fails ends the test; in the
 * minikernel each is counted and printed. Returns whether it passed.
 */
#define BOTH_CHECK(name, condition) both_check((name), (condition), #condition, __FILE__, __LINE__)

/** Each world has its own. */
bool both_check(const char *name, bool passed, const char *condition, const char *file, int line);

/** A status that has to be MM_OK for the test to go on; anything else ends the run as a failure. */
#define BOTH_MUST(call) both_must((call), #call, __FILE__, __LINE__)
void both_must(mm_status_t status, const char *call, const char *file, int line);

void *memcpy(void *restrict to, const void *restrict from, size_t len);
void *memset(void *to, int value, size_t len);
int memcmp(const void *left, const void *right, size_t len);

/** splitmix64: the same numbers in both worlds. */
static inline uint64_t both_random(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/** The tests: void both_NAME(const struct both_world *) for each of the list. */
#define BOTH_TEST(name) void both_##name(const struct both_world *world);
#include "both_list.h"
#undef BOTH_TEST

#endif
