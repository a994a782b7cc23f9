// SPDX-License-Identifier: MIT
/**
 * A lock that is spun for. Who waits for it serves meanwhile: forgets what other processors have
 * unmapped. So its holder may wait for all of them, with their interrupts on or off: it may end a
 * gather.
 *
 * A lock whose waiters are deaf, because they only spin, is the other kind: its holder must not wait
 * for anyone. It is counted in percpu_self()->nr_deaf_locks, and the library asks before it waits.
 * This kernel has one of those, the log's, which must work everywhere.
 */
#ifndef MINIKERNEL_LOCK_H
#define MINIKERNEL_LOCK_H

#include <stdatomic.h>

#include "shootdown.h"

struct lock {
    atomic_uint taken;
};

static inline void lock_take(struct lock *lock)
{
    while (atomic_exchange_explicit(&lock->taken, 1, memory_order_acquire) != 0) {
        shootdown_relax();
    }
}

static inline void lock_give(struct lock *lock)
{
    atomic_store_explicit(&lock->taken, 0, memory_order_release);
}

#endif
