// SPDX-License-Identifier: MIT
/**
 * Atomic accesses to plain integers.
 *
 * Public structs hold plain integers, because C++ cannot include C's _Atomic; every access that may
 * race goes through one of these, so that the ordering is in its name and one place can be
 * instrumented.
 */
#ifndef MMI_BASE_ATOMIC_H
#define MMI_BASE_ATOMIC_H

#include <stdbool.h>
#include <stdint.h>

#define mmi_load(p)             __atomic_load_n((p), __ATOMIC_RELAXED)
#define mmi_load_acquire(p)     __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define mmi_store(p, v)         __atomic_store_n((p), (v), __ATOMIC_RELAXED)
#define mmi_store_release(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
#define mmi_exchange(p, v)      __atomic_exchange_n((p), (v), __ATOMIC_ACQ_REL)
#define mmi_fetch_add(p, v)     __atomic_fetch_add((p), (v), __ATOMIC_ACQ_REL)
#define mmi_fetch_sub(p, v)     __atomic_fetch_sub((p), (v), __ATOMIC_ACQ_REL)
#define mmi_fetch_or(p, v)      __atomic_fetch_or((p), (v), __ATOMIC_ACQ_REL)
#define mmi_fetch_and(p, v)     __atomic_fetch_and((p), (v), __ATOMIC_ACQ_REL)
/* Sequentially consistent: "I write here, then read there" against "you write there, then read
 * here": at least one of the two sees the other. */
#define mmi_store_seq(p, v)     __atomic_store_n((p), (v), __ATOMIC_SEQ_CST)
#define mmi_load_seq(p)         __atomic_load_n((p), __ATOMIC_SEQ_CST)
#define mmi_exchange_seq(p, v)  __atomic_exchange_n((p), (v), __ATOMIC_SEQ_CST)
#define mmi_fetch_add_seq(p, v) __atomic_fetch_add((p), (v), __ATOMIC_SEQ_CST)
#define mmi_fetch_or_seq(p, v)  __atomic_fetch_or((p), (v), __ATOMIC_SEQ_CST)
#define mmi_fetch_and_seq(p, v) __atomic_fetch_and((p), (v), __ATOMIC_SEQ_CST)

/** True if *p was *expected and is now v; else *expected is what was found. */
#define mmi_cas(p, expected, v)                                                                    \
    __atomic_compare_exchange_n((p), (expected), (v), false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)
#define mmi_cas_seq(p, expected, v)                                                                \
    __atomic_compare_exchange_n((p), (expected), (v), false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)

#endif
