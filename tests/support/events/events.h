// SPDX-License-Identifier: MIT
/**
 * Every load and store of the library, as an event, before it is made.
 *
 * The library's own sources are compiled a second time, with the compiler's instrumentation for
 * data races (-fsanitize=thread), and linked into a test of tests/host_events/ instead of libmm.a.
 * The compiler then calls a function for every access; here are those functions, in place of the
 * sanitizer's run time. Plain accesses are made by the compiler's code after the call; atomic ones
 * are made here, with the same atomic instruction. Calls of memset, memcpy, memmove and memcmp are
 * accesses as well.
 *
 *     t_events_watch(&hooks, ctx);
 *     status = mm_frame_alloc(...);      // hooks.before() and hooks.after() hear all that it does
 *     t_events_watch(NULL, NULL);
 *
 * What is no event: accesses to locals whose address goes nowhere and to constants, and whatever
 * code outside of the library does, the ops of a test and the hooks themselves among it. A copy of
 * a large struct may be reported twice, by the compiler and as the memcpy that it becomes.
 */
#ifndef T_EVENTS_H
#define T_EVENTS_H

#include <stdbool.h>
#include <stdint.h>

enum t_event_kind {
    T_EVENT_LOAD,
    T_EVENT_STORE,
    T_EVENT_UPDATE,     /**< exchange, fetch-and-op, compare-and-exchange */
    T_EVENT_FAILED_CAS, /**< told after the access alone: before it, each is an update */
    T_EVENT_FENCE,      /**< `at` is NULL */
};

struct t_event {
    enum t_event_kind kind;
    void *at;
    uint32_t size; /**< bytes; 0 for a fence */
    bool atomic;
    int order;       /**< __ATOMIC_RELAXED ...; of what is plain: __ATOMIC_RELAXED */
    uint64_t before; /**< what was there, and */
    uint64_t after;  /**< what is there: known to hooks.after() alone */
    const void *pc;  /**< the instruction after the access: addr2line takes pc - 1 */
};

struct t_events_hooks {
    /** The access has not been made: the hook may change memory, or switch to another fiber. */
    void (*before)(void *ctx, const struct t_event *event);
    /** Atomic accesses: made. Plain ones have no after: whoever wants to see what they did looks
     * at the next event, or at the end of the call. */
    void (*after)(void *ctx, const struct t_event *event);
};

/** From here on this thread's accesses are events. NULL: no longer. Either hook may be NULL. */
void t_events_watch(const struct t_events_hooks *hooks, void *ctx);

/** Only accesses that touch these bytes of host memory are events; a length of 0: all are. It lasts
 * until the next t_events_watch(). */
void t_events_only(uint64_t start, uint64_t len);

/**
 * While quiet, accesses are no events. Hooks run quiet; so do ops that call t_events_quiet() around
 * what is no concern of the test. Returns what it was before.
 */
bool t_events_quiet(bool quiet);

/** Name of a kind, for messages: "load", "store" ... */
const char *t_event_kind_str(enum t_event_kind kind);

/**
 * Where in the sources a program counter stands: "function at file:line", or its distance from the
 * start of the program. Asks addr2line, so that it takes a while: for messages.
 */
const char *t_event_where(const void *pc, char *text, unsigned long size);

#endif
