// SPDX-License-Identifier: MIT
/**
 * Counting and finding bits, without the compiler's support library: the archive must link into a
 * kernel that has none, so nothing here may become a call (__builtin_popcountll would, without
 * POPCNT).
 */
#ifndef MMI_BASE_BITS_H
#define MMI_BASE_BITS_H

#include <stdint.h>

/** Set bits of a word: pairs, nibbles and bytes are summed side by side, then all bytes by one
 * multiply. */
static inline unsigned mmi_popcount(uint64_t x)
{
    x -= (x >> 1) & UINT64_C(0x5555555555555555);
    x = (x & UINT64_C(0x3333333333333333)) + ((x >> 2) & UINT64_C(0x3333333333333333));
    x = (x + (x >> 4)) & UINT64_C(0x0f0f0f0f0f0f0f0f);
    return (unsigned)((x * UINT64_C(0x0101010101010101)) >> 56);
}

/** Index of the lowest set bit; x is not 0. */
static inline unsigned mmi_ctz(uint64_t x)
{
    return (unsigned)__builtin_ctzll(x);
}

/**
 * The same as a word, for paths where a cycle counts: gcc extends the int of its builtin, though the
 * instruction has done that. "rep bsf" is TZCNT where the CPU has it, and BSF elsewhere: for x that
 * is not 0 they agree.
 */
static inline uint64_t mmi_ctz_word(uint64_t x)
{
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
    uint64_t index;

    __asm__("rep bsfq %1, %0" : "=r"(index) : "r"(x) : "cc");
    return index;
#else
    return (uint64_t)__builtin_ctzll(x);
#endif
}

/** Index of the highest set bit; x is not 0. */
static inline unsigned mmi_log2(uint64_t x)
{
    return 63u - (unsigned)__builtin_clzll(x);
}

/** Smallest n with 2^n >= x; x is at least 1 and at most 2^63. */
static inline unsigned mmi_log2_up(uint64_t x)
{
    return x <= 1 ? 0 : mmi_log2(x - 1) + 1;
}

/** A word with bits [first, first + nr) set; nr is 0 to 64 - first, first below 64. */
static inline uint64_t mmi_mask(unsigned first, unsigned nr)
{
    return nr == 0 ? 0 : (UINT64_MAX >> (64 - nr)) << first;
}

#endif
