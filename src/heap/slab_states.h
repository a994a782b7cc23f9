// SPDX-License-Identifier: MIT
/**
 * What finding a slab (slab_find.c) and ending one (slab.c) share.
 */
#ifndef MMI_HEAP_SLAB_STATES_H
#define MMI_HEAP_SLAB_STATES_H

#include "slab.h"

/** From one state to the other. False: it was in another. */
bool mmi_slab_become(struct mmi_slab *slab, uint8_t from, uint8_t to);

/** The slab is going to be in this state: what is a free to look for? */
void mmi_slab_look_in(struct mmi_slab *slab, uint8_t state);

/**
 * Claim an object from the first word that has one, from `*word` on and around, and say which word.
 * NULL: none has.
 */
void *mmi_slab_take(struct mmi_slab *slab, unsigned *word);

/** The caller owns the slab, and does not want it any more. Returns pages given back. */
uint64_t mmi_slab_drop(struct mmi_slab *slab, bool may_keep);

/** The CPU has lost its slab: it is not to go on with its word. */
void mmi_class_forget_word(const struct mm_slab_class *class, uint32_t cpu);

/** Pages of the next slab, as a power of two: a class with many slabs takes larger ones. */
unsigned mmi_class_next_order(const struct mm_slab_class *class, uint64_t nr_slabs);

#endif
