// SPDX-License-Identifier: MIT
/**
 * A spin lock in a plain 32-bit word: 0 free, 1 taken. For what is short and never sleeps.
 *
 * It does not touch interrupts: whoever takes a lock of the library in an interrupt handler as well
 * forbids interrupts around the call. docs/locking.md says which calls take one.
 */
#ifndef MMI_BASE_LOCK_H
#define MMI_BASE_LOCK_H

#include "atomic.h"
#include <mm/platform.h>

/** One turn of a spinning wait. */
static inline void mmi_relax(const struct mm_platform *platform)
{
    if (platform->ops != NULL && platform->ops->relax != NULL) {
        platform->ops->relax(platform->ctx);
    }
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}

static inline bool mmi_lock_try(uint32_t *lock)
{
    return mmi_load(lock) == 0 && __atomic_exchange_n(lock, 1u, __ATOMIC_ACQUIRE) == 0;
}

static inline void mmi_lock(uint32_t *lock, const struct mm_platform *platform)
{
    while (!mmi_lock_try(lock)) {
        mmi_relax(platform);
    }
}

static inline void mmi_unlock(uint32_t *lock)
{
    mmi_store_release(lock, 0u);
}

#endif
