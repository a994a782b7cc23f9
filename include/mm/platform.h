// SPDX-License-Identifier: MIT
/**
 * What the kernel may supply. Every op is optional; a kernel with one CPU, a buffer and a memory
 * map needs none of them. Each op's first argument is the context that stands beside the table.
 *
 * An example: a kernel that prints to a serial port and runs on four CPUs gives
 *
 *     static const struct mm_platform_ops ops = {
 *         .panic = my_panic, .log = my_log, .cpu_number = my_cpu_number,
 *     };
 *     struct mm_platform platform = { &ops, NULL };
 *
 * and passes `platform` by value to every init call. An all-zero platform is a valid one.
 */
#ifndef MM_PLATFORM_H
#define MM_PLATFORM_H

#include <mm/event.h>

MM_BEGIN_DECLS

/** Every nr_cpus is 1 to this, and CPU numbers are below nr_cpus. */
#define MM_MAX_CPUS 1024u

/** Corruption that the library found: what, where, and both parties. */
struct mm_panic_info {
    const char *room;     /**< "frame", "paging", "heap", "space", ... */
    const char *what;     /**< one sentence, for people: "double free of a frame" */
    uint64_t address;     /**< of the frame (physical) or of the object (virtual) */
    const char *recorded; /**< what the library has on record: "free", "object of cache foo", ... */
    uint64_t recorded_value; /**< number that belongs to it: a count, an order, an owner; else 0 */
    const char *claimed;     /**< what the caller says: "allocated, order 3" */
    uint64_t claimed_value;
    uint64_t allocated_by; /**< return address of who allocated it; 0: not recorded */
    uint64_t freed_by;     /**< of who freed it last; 0: not recorded */
    uint64_t caller;       /**< of the call that found it; 0: not known */
};

struct mm_platform_ops {
    /**
     * Report corruption and never return. Without it, or if it returns, the library executes an
     * illegal instruction. Called in any context, possibly with a lock of the library held: it must
     * not call back into the room that panics.
     */
    void (*panic)(void *ctx, const struct mm_panic_info *info);

    /** Print one line: `len` bytes at `line`, no newline, no terminator. Any context. */
    void (*log)(void *ctx, const char *line, size_t len);

    /** Hear of an event. Any context; must not call back into the room that speaks. */
    void (*event)(void *ctx, const struct mm_event *event);

    /**
     * Number of the CPU that asks, from 0. It is a hint for speed: a number that is stale or wrong
     * costs time, never correctness. Default: 0.
     */
    uint32_t (*cpu_number)(void *ctx);

    /**
     * Forbid interrupts on this CPU; the result is handed back to interrupt_restore. Nests. Called
     * around the load of a root that has a tlb (tlb.h), and nowhere else by this version.
     */
    uintptr_t (*interrupt_save)(void *ctx);
    void (*interrupt_restore)(void *ctx, uintptr_t saved);

    /** Called in every turn of a spinning wait. Default: nothing but the CPU's pause hint. With
     * several CPUs: call mm_tlb_service() if interrupts may be off. */
    void (*relax)(void *ctx);

    /**
     * Sleep until wake() is called for `key`, or return early; the caller looks again. Called with
     * no lock held. Default: relax. Not called by this version, nor is wake.
     */
    void (*wait)(void *ctx, const void *key);
    /** Wake all that wait for `key`. */
    void (*wake)(void *ctx, const void *key);

    /** Nanoseconds since some moment, never backwards. Default: 0. Not called by this version. */
    uint64_t (*clock)(void *ctx);

    /** 64 random bits. Default: 0: what is random can be computed by who knows the kernel's
     * addresses. Called when a heap or cache is made that is hardened, samples or records, and when
     * a space is made whose layout has random_bits. */
    uint64_t (*random)(void *ctx);
};

/** A table of ops and its context, passed by value. `ops` may be NULL. */
struct mm_platform {
    const struct mm_platform_ops *ops;
    void *ctx;
};

MM_END_DECLS

#endif
