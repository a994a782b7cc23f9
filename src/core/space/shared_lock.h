// SPDX-License-Identifier: MIT
/**
 * The lock of a space: many may share it, one may have it alone.
 *
 *     sharing                            alone
 *     -------                            -----
 *     holders of my slot += 1            writer = 1 (one at a time)
 *     writer set? -= 1, wait, again      wait until no slot has holders
 *
 * Each CPU counts itself in a slot of its own lines, so faults of several CPUs write nothing that
 * they share. One of the two always sees the other: both accesses on either side are sequentially
 * consistent. The CPU's number is a hint: who was moved to another CPU leaves the slot that it
 * entered.
 *
 * What a holder has done travels in the same word: the pages that it put there, above the holders.
 * So leaving counts them at no cost, and the page table's own count, which is the exclusive
 * holder's, is brought up to date by whoever is alone (mmi_space_fold()).
 */
#ifndef MMI_SPACE_SHARED_LOCK_H
#define MMI_SPACE_SHARED_LOCK_H

#include "core/base/atomic.h"
#include "core/base/lock.h"

#include <mm/space.h>

#define MMI_SPACE_SLOTS        8u
#define MMI_SPACE_HOLDERS      UINT64_C(0xffff) /* of `word`: holders at once, far below 65536 */
#define MMI_SPACE_FILLED_SHIFT 16u

/** What CPUs of one slot count. `a` = atomic, `l` = under the lock, alone. */
struct mmi_space_slot {
    uint64_t word; /* a: holders; above them pages filled since the space was made, modulo 2^48 */
    uint64_t nr_reused;    /* a */
    uint64_t nr_zero_page; /* a */
    uint64_t nr_folded;    /* l: of the pages filled, those that the table has counted */
    /* a: of MM_FAULT_ZERO only what `word` does not count. A fill that must not count takes one off,
     * so only the sum is right. */
    uint64_t nr_faults[MM_FAULT_COUNT];
} __attribute__((aligned(MM_CACHE_LINE)));

struct mmi_space_lock {
    uint32_t writer; /* a: 1: somebody is alone, or waits for it */
    struct mmi_space_slot slots[MMI_SPACE_SLOTS];
};

static inline struct mmi_space_slot *mmi_space_slot_of(struct mmi_space_lock *lock,
                                                       const struct mm_platform *platform)
{
    uint32_t cpu = platform->ops != NULL && platform->ops->cpu_number != NULL
                       ? platform->ops->cpu_number(platform->ctx)
                       : 0;

    return &lock->slots[cpu % MMI_SPACE_SLOTS];
}

static inline void mmi_space_lock_share(struct mmi_space_lock *lock, struct mmi_space_slot *slot,
                                        const struct mm_platform *platform)
{
    while (__atomic_fetch_add(&slot->word, 1, __ATOMIC_SEQ_CST),
           __atomic_load_n(&lock->writer, __ATOMIC_SEQ_CST) != 0) {
        (void)__atomic_fetch_sub(&slot->word, 1, __ATOMIC_RELEASE);
        while (mmi_load(&lock->writer) != 0) {
            mmi_relax(platform);
        }
    }
}

/** Leave, having put so many pages there. */
static inline void mmi_space_lock_unshare(struct mmi_space_slot *slot, uint64_t nr_filled)
{
    (void)__atomic_fetch_add(&slot->word, (nr_filled << MMI_SPACE_FILLED_SHIFT) - 1,
                             __ATOMIC_RELEASE);
}

static inline void mmi_space_lock_alone(struct mmi_space_lock *lock,
                                        const struct mm_platform *platform)
{
    while (mmi_load(&lock->writer) != 0 ||
           __atomic_exchange_n(&lock->writer, 1u, __ATOMIC_SEQ_CST) != 0) {
        mmi_relax(platform);
    }
    for (unsigned i = 0; i < MMI_SPACE_SLOTS; i++) {
        while ((__atomic_load_n(&lock->slots[i].word, __ATOMIC_SEQ_CST) & MMI_SPACE_HOLDERS) != 0) {
            mmi_relax(platform);
        }
    }
}

static inline void mmi_space_lock_leave(struct mmi_space_lock *lock)
{
    mmi_store_release(&lock->writer, 0u);
}

#endif
