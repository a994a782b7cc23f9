// SPDX-License-Identifier: MIT
/**
 * Hints to the compiler, for the hot paths: what is likely, what is to be inlined, what is to stay
 * apart so that the hot path saves no register for it.
 */
#ifndef MMI_BASE_COMPILER_H
#define MMI_BASE_COMPILER_H

#define MMI_LIKELY(x)   __builtin_expect(!!(x), 1)
#define MMI_UNLIKELY(x) __builtin_expect(!!(x), 0)

#define MMI_INLINE   static inline __attribute__((always_inline))
#define MMI_NOINLINE __attribute__((noinline))
/* Of what is measured by the cycle: begins a cache line, so that its place is not left to chance. */
#define MMI_HOT __attribute__((aligned(64)))

/* A function that the thread sanitizer does not watch, and whether there is that sanitizer. */
#if defined(__SANITIZE_THREAD__)
#define MMI_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define MMI_TSAN 1
#endif
#endif
#ifdef MMI_TSAN
#define MMI_UNWATCHED __attribute__((noinline, no_sanitize("thread")))
#else
#define MMI_TSAN 0
#define MMI_UNWATCHED
#endif

#endif
