// SPDX-License-Identifier: MIT
/**
 * What the files of the preloaded malloc share. Nothing here may call malloc, directly or by way of
 * the libc: all of it runs inside of a call of malloc, or before there is one.
 */
#ifndef PRELOAD_H
#define PRELOAD_H

#include <mm/heap.h>

#include <stdbool.h>
#include <stdint.h>

#define PRELOAD_LIKELY(x)   __builtin_expect(!!(x), 1)
#define PRELOAD_UNLIKELY(x) __builtin_expect(!!(x), 0)

/** No call of the dynamic linker, which might allocate, stands behind a variable of a thread. */
#define PRELOAD_THREAD _Thread_local __attribute__((tls_model("initial-exec")))

/* --- pages.c: a page source on mmap ----------------------------------------------------------- */

/** The arena, if the limits of the process allow: 256 GiB. */
#define PRELOAD_ARENA_LEN (UINT64_C(256) << 30)

/**
 * Reserve the arena. `limit` is the most pages that may be out; 0: as many as the machine has.
 * False: no address space.
 */
bool preload_pages_init(struct mm_page_source *out, uint64_t limit);

struct preload_pages {
    uint64_t held;  /**< pages that are out */
    uint64_t peak;  /**< the most that were */
    uint64_t taken; /**< calls of the source's alloc */
};
struct preload_pages preload_pages_count(void);

/** Give the kernel what is kept at hand. */
void preload_pages_trim(void);

/** The pages that this thread got last from the source, if nobody has written to them since the
 * kernel made them zero; NULL: none. Asking forgets them. */
void *preload_pages_fresh(void);

/* --- trace.c: what the program asks, into a file ---------------------------------------------- */

enum preload_op {
    PRELOAD_ALLOC = 1,
    PRELOAD_ALIGNED,
    PRELOAD_ZEROED,
    PRELOAD_FREE,
    PRELOAD_REALLOC_BEGIN, /**< from now on, the address may be somebody else's */
    PRELOAD_REALLOC_END,   /**< and the object is here */
};

/** Record into FILE.PID, at most so many events. Says what is wrong, and records nothing then. */
void preload_trace_init(const char *file, uint64_t nr_events);
/** Whether this process records: a child of fork() does not. */
bool preload_tracing(void);
/** What allocates is recorded after it is done, what frees before it is begun. */
void preload_trace(enum preload_op op, const void *address, uint64_t size, uint64_t align);

/* --- tier.c: what is checked ------------------------------------------------------------------ */

/** Fill in what the environment asks for, of a heap that is to be made. False: it was nonsense. */
bool preload_tier(struct mm_heap_config *config, const struct mm_heap *heap);

/* --- report.c: words, and the environment ----------------------------------------------------- */

/** The value of a variable of the environment, copied; false: it is not set, or too long. */
bool preload_option(const char *name, char *value, size_t len);
/** The same for a number, decimal; 0: it is not set, or none. */
uint64_t preload_option_number(const char *name);

/** A line to standard error. */
void preload_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/** Panics are printed and end the process, lines of the log are printed, CPUs have numbers. */
extern const struct mm_platform_ops preload_platform_ops;

/** The number of the CPU, or what stands for it; any number. */
uint32_t preload_cpu(void);

#endif
