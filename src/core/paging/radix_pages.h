// SPDX-License-Identifier: MIT
/**
 * Whole tables of pages, slot by slot: a part of radix.h, which includes it.
 *
 * Straight loops for what ranges mostly are: slots of level 0 that hold pages that allow something.
 * Whatever else there may be is for the loops of radix_edit.h and radix_clone.h.
 */
#ifndef MMI_PAGING_RADIX_PAGES_H
#define MMI_PAGING_RADIX_PAGES_H

#include "radix.h"

/* --- looking ---------------------------------------------------------------------------------- */

/** What slots have in common, and add to what any has: no branch between them. */
static uint64_t pages_look(const uint64_t *slots, unsigned nr, uint64_t *in_any)
{
    uint64_t every[2] = {UINT64_MAX, UINT64_MAX};
    uint64_t any[2] = {*in_any, 0};
    unsigned n = 0;

    for (; nr - n >= 8; n += 8) {
#pragma GCC unroll 8
        for (unsigned i = 0; i < 8; i++) {
            uint64_t slot = mmi_load(&slots[n + i]);

            every[i & 1] &= slot;
            any[i & 1] |= slot;
        }
    }
    for (; n < nr; n++) {
        uint64_t slot = mmi_load(&slots[n]);

        every[0] &= slot;
        any[0] |= slot;
    }
    *in_any = any[0] | any[1];
    return every[0] & every[1];
}

/** Whether all are pages that allow something. */
static inline bool pages_present(const uint64_t *slots, unsigned nr)
{
    uint64_t any = 0;

    return codec_is_present(pages_look(slots, nr, &any));
}

/* --- changing --------------------------------------------------------------------------------- */

/** Change a slot that holds *old; false, and *old anew, if the hardware was faster. */
static inline bool slot_change(uint64_t *slot, uint64_t *old, uint64_t now, bool live)
{
    if (live) {
        return mmi_cas(slot, old, now);
    }
    mmi_store(slot, now);
    return true;
}

/* Two neighbours, the first of even index, are changed in one step where the CPU can. */
#ifdef __GCC_HAVE_SYNC_COMPARE_AND_SWAP_16
__extension__ typedef unsigned __int128 slots_t;

static inline bool slots_cas(uint64_t *slots, uint64_t *a, uint64_t *b, uint64_t to_a,
                             uint64_t to_b)
{
    /* Not the __atomic builtin, which calls a library. Full barrier (GCC manual, 6.54). */
    if (MMI_LIKELY(__sync_bool_compare_and_swap((slots_t *)(void *)slots, (slots_t)*b << 64 | *a,
                                                (slots_t)to_b << 64 | to_a))) {
        return true;
    }
    *a = mmi_load(&slots[0]);
    *b = mmi_load(&slots[1]);
    return false;
}
#else
static inline bool slots_cas(uint64_t *slots, uint64_t *a, uint64_t *b, uint64_t to_a,
                             uint64_t to_b)
{
    return mmi_cas(&slots[0], a, to_a) && mmi_cas(&slots[1], b, to_b);
}
#endif

/** slot_change() of two, which allow something. */
static inline bool slots_change(uint64_t *slots, uint64_t *a, uint64_t *b, uint64_t to_a,
                                uint64_t to_b, bool live)
{
    if (live && !codec_is_settled(*a & *b)) {
        return slots_cas(slots, a, b, to_a, to_b);
    }
    mmi_store(&slots[0], to_a);
    mmi_store(&slots[1], to_b);
    return true;
}

/** Empty slots, of whose accessed and dirty nobody is told. An exchange would keep nothing either:
 * the hardware sets them in a locked step of its own (SDM vol. 3A, 9.1.2.1) and starts anew if the
 * slot is not what its walk had seen, which is relied on here as by every kernel. */
RADIX_APART void pages_clear(uint64_t *slots, unsigned nr)
{
    for (unsigned n = 0; n < nr; n++) {
        mmi_store(&slots[n], 0);
    }
}

/** Give pages, which allow something, protection that allows something: of a table that the
 * hardware does not walk. */
RADIX_APART void pages_reprotect(uint64_t *slots, unsigned nr, uint64_t bits)
{
#pragma GCC unroll 8
    for (unsigned n = 0; n < nr; n++) {
        mmi_store(&slots[n], codec_reprotect_present(mmi_load(&slots[n]), bits));
    }
}

/** The same of a table that it may walk: up to the first slot that is no such page; how many. */
RADIX_APART unsigned pages_reprotect_live(uint64_t *slots, unsigned nr, uint64_t bits,
                                          bool *changed)
{
    bool any_changed = false;
    unsigned n = 0;

    for (; n < nr; n++) {
        uint64_t old = mmi_load(&slots[n]);
        uint64_t now;

        if (!codec_is_present(old)) {
            break;
        }
        do {
            now = codec_reprotect_present(old, bits);
            if (now == old) {
                break;
            }
            any_changed = true;
        } while (!slot_change(&slots[n], &old, now, !codec_is_settled(old)));
    }
    *changed |= any_changed;
    return n;
}

#endif
