// SPDX-License-Identifier: MIT
/**
 * Memory maps that no sane firmware makes, from random numbers: what hazard 1 of the boot map
 * needs.
 */
#ifndef T_E820_SYNTH_H
#define T_E820_SYNTH_H

#include "model_bootmap.h"
#include "prng.h"

enum t_synth_flags {
    T_SYNTH_OVERLAP = 1, /**< entries over each other, usable or not; else they follow each other */
    T_SYNTH_UNSORTED = 2,   /**< in random order */
    T_SYNTH_UNALIGNED = 4,  /**< starts and lengths at any byte */
    T_SYNTH_EMPTY = 8,      /**< some have length zero */
    T_SYNTH_WRAP = 16,      /**< some run past 2^64, end there, or have length UINT64_MAX */
    T_SYNTH_DUPLICATE = 32, /**< some come twice, at times with another type */
    T_SYNTH_HUGE = 64,      /**< some lie at 2^52 and above, or are terabytes long */
    T_SYNTH_TOUCHING = 128, /**< no holes between neighbours; cuts that fall inside of frames */
    T_SYNTH_ALL = 255,
};

/**
 * Make `nr` entries; `span` is at least four frames an entry. Without T_SYNTH_HUGE and T_SYNTH_WRAP
 * all of them lie below `span` bytes. Every kind asked for is in a map of 64 entries or more, with
 * next to certainty.
 */
void t_synth(struct t_prng *prng, unsigned flags, uint64_t span, struct t_memory *entries,
             size_t nr);

#endif
