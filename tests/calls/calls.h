// SPDX-License-Identifier: MIT
/**
 * The list of public calls: how each is made in the world (world.h), with which arguments, and what
 * it may do. Tests drive it (drive.h): failures are injected into each call as it stands here, and
 * its arguments are replaced by bad ones.
 *
 * An argument is what can be chosen by itself: a pointer, a number, a field of a structure that is
 * passed. Each has a good value, with which the call succeeds, and its type says which others are
 * worth a try.
 */
#ifndef T_CALLS_H
#define T_CALLS_H

#include "world.h"

/** Answers that are no status. */
enum t_answer {
    T_EMPTY = 32,  /**< NULL, 0, false or all zero, from a call that answers no status */
    T_NO_PAGE = 33 /**< a fault was answered MM_FAULT_NO_MEMORY */
};

enum t_argument_type {
    T_NONE = 0, /**< the end of the list */
    T_LIVE,     /**< an object in use, at `ptr`; bad: null, never initialised, taken down */
    T_FRESH,    /**< zeroed storage at `ptr`; bad: null, an object in use at `other` */
    T_POINTER,  /**< `ptr` or null */
    T_VARIABLE, /**< the pointer that stands at `ptr`, or null */
    T_NUMBER,   /**< 64 bits: all boundary values of the house */
    T_WORD,     /**< the same in 32 bits */
    T_COUNT,    /**< 0 to `limit`: what is behind a pointer has so many entries */
    T_FLAGS,    /**< bits; known ones are `limit` */
    T_CHOICE,   /**< an enum; known values are below `limit` */
    T_LIST,     /**< what `list` says, the good value first */
    T_OP,       /**< a function that must be there: `good` is 1, bad is 0 */
};

#define T_MAX_VALUES 40
#define T_MAX_ARGS   16

struct t_argument {
    enum t_argument_type type;
    const char *name;
    uint64_t good;
    uint64_t limit;
    const void *ptr;
    const void *other;
    unsigned (*list)(uint64_t *values);
};

#define T_LIVE_(object)                                                                            \
    {                                                                                              \
        .type = T_LIVE, .name = #object, .ptr = &t_w.object                                        \
    }
/** Live, and there is one that was taken down. */
#define T_LIVE_GONE(object, kind)                                                                  \
    {                                                                                              \
        .type = T_LIVE, .name = #object, .ptr = &t_w.object, .other = &t_w.gone.kind               \
    }
#define T_FRESH_(kind, live)                                                                       \
    {                                                                                              \
        .type = T_FRESH, .name = #kind, .ptr = &t_w.fresh.kind, .other = &t_w.live                 \
    }
#define T_PTR(object)                                                                              \
    {                                                                                              \
        .type = T_POINTER, .name = #object, .ptr = &t_w.object                                     \
    }
#define T_VAR(variable)                                                                            \
    {                                                                                              \
        .type = T_VARIABLE, .name = #variable, .ptr = &t_w.variable                                \
    }
#define T_OUT                                                                                      \
    {                                                                                              \
        .type = T_POINTER, .name = "out", .ptr = t_w.out                                           \
    }
#define T_OUT2                                                                                     \
    {                                                                                              \
        .type = T_POINTER, .name = "out2", .ptr = t_w.out2                                         \
    }
#define T_GIVEN(what)                                                                              \
    {                                                                                              \
        .type = T_OP, .name = what, .good = 1                                                      \
    }
#define T_NUM(what, value)                                                                         \
    {                                                                                              \
        .type = T_NUMBER, .name = what, .good = (value)                                            \
    }
/** An address that must be canonical in 48 bits, or is MM_ERR_INVALID_ADDRESS. */
#define T_ADDRESS(what, value)                                                                     \
    {                                                                                              \
        .type = T_NUMBER, .name = what, .good = (value), .limit = 48                               \
    }
#define T_U32(what, value)                                                                         \
    {                                                                                              \
        .type = T_WORD, .name = what, .good = (value)                                              \
    }
#define T_UPTO(what, value, max)                                                                   \
    {                                                                                              \
        .type = T_COUNT, .name = what, .good = (value), .limit = (max)                             \
    }
#define T_BITS(what, value, all)                                                                   \
    {                                                                                              \
        .type = T_FLAGS, .name = what, .good = (value), .limit = (all)                             \
    }
#define T_ENUM(what, value, nr)                                                                    \
    {                                                                                              \
        .type = T_CHOICE, .name = what, .good = (value), .limit = (nr)                             \
    }
#define T_OF(what, function)                                                                       \
    {                                                                                              \
        .type = T_LIST, .name = what, .list = function                                             \
    }

/** The same, and all but the first are bad. */
#define T_BAD_OF(what, function)                                                                   \
    {                                                                                              \
        .type = T_LIST, .name = what, .list = function, .limit = 1                                 \
    }

#define T_BIT(status) (UINT32_C(1) << (status))

/** Flags of a call. */
#define T_CAN_FAIL 1u /**< there is at least one point at which it can run out of something */
/**
 * It is put together from other calls, and may find a bad argument when some of them were made: so
 * ops may have been called, and their effect undone.
 */
#define T_COMPOSED 2u
#define T_VARIANT  4u  /**< another scenario of a call: for the injector alone */
#define T_PARTIAL  8u  /**< without memory it does what it can: the contract says so */
#define T_BAD_ONLY 16u /**< for bad arguments alone: its good values do not succeed */

struct t_call {
    const char *name; /**< of the public function */
    const char *note; /**< what is different about a variant */
    int (*invoke)(const uint64_t *a);
    void (*setup)(void);
    void (*scarce)(uint64_t nr); /**< leave so much memory; NULL: frames of the world */
    unsigned flags;
    uint32_t tells;     /**< statuses with which it still says something through `out` */
    uint32_t partial;   /**< statuses with which it has done a part: the contract says so */
    const char *panics; /**< room that it panics in when what is released is not owned */
    struct t_argument args[T_MAX_ARGS];
};

struct t_call_list {
    const struct t_call *calls;
    unsigned nr;
};

/** One list a room: calls_*.c. */
#define T_CALL_LISTS(X)                                                                            \
    X(base)                                                                                        \
    X(boot)                                                                                        \
    X(firmware)                                                                                    \
    X(numa)                                                                                        \
    X(frame)                                                                                       \
    X(ledger)                                                                                      \
    X(draw)                                                                                        \
    X(hotplug)                                                                                     \
    X(pressure)                                                                                    \
    X(paging)                                                                                      \
    X(tlb)                                                                                         \
    X(map)                                                                                         \
    X(slot)                                                                                        \
    X(pool)                                                                                        \
    X(heap)                                                                                        \
    X(report)                                                                                      \
    X(kva)                                                                                         \
    X(percpu)                                                                                      \
    X(space)                                                                                       \
    X(space_map)                                                                                   \
    X(layout)                                                                                      \
    X(access)                                                                                      \
    X(clone)                                                                                       \
    X(dma)                                                                                         \
    X(user)                                                                                        \
    X(system)                                                                                      \
    X(x86_64)
#define T_CALL_LIST_DECLARE(name) extern const struct t_call_list t_calls_##name;
T_CALL_LISTS(T_CALL_LIST_DECLARE)

#define T_CALL_LIST(array)                                                                         \
    {                                                                                              \
        (array), sizeof(array) / sizeof((array)[0])                                                \
    }

/* In the functions that make a call. */
#define T_P(i)       ((void *)(uintptr_t)a[i])
#define T_W32(i)     ((uint32_t)a[i])
#define T_RANGE(i)   mm_vrange(mm_vaddr(a[i]), a[(i) + 1])
#define T_PRANGE(i)  mm_prange(mm_paddr(a[i]), a[(i) + 1])
#define T_NONZERO(x) ((x) ? (int)MM_OK : (int)T_EMPTY)
#define T_MADE(call) ((call), (int)MM_OK)

#endif
