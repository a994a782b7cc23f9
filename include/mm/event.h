// SPDX-License-Identifier: MIT
/**
 * Events: one optional op through which every room tells what happened, to which frame or range, on
 * whose behalf. They are for tracing and statistics; nothing depends on them being heard.
 */
#ifndef MM_EVENT_H
#define MM_EVENT_H

#include <mm/addr.h>

MM_BEGIN_DECLS

enum mm_event_kind {
    /** A request found no memory: `address` is 0, `len` bytes were asked for. */
    MM_EVENT_FRAME_EXHAUSTED = 1,
    /** The heap took pages: `address` and `len` are virtual. */
    MM_EVENT_HEAP_GROW = 2,
    /** The heap gave pages back: `address` and `len` are virtual. */
    MM_EVENT_HEAP_SHRINK = 3,
    /** Translations were dropped: `address` and `len` are virtual; `len` 0: all. */
    MM_EVENT_TLB_FLUSH = 4,
    /** A huge leaf became a table: `address` and `len` of the leaf, virtual. */
    MM_EVENT_LEAF_SPLIT = 5,
    /** A space was made: `address` is its number. */
    MM_EVENT_SPACE_CREATE = 6,
    /** The last reference to a space was put: `address` is its number. */
    MM_EVENT_SPACE_DESTROY = 7,
    /** A fault was handled: `address` is virtual, `len` the outcome (enum mm_fault_result). */
    MM_EVENT_SPACE_FAULT = 8,
    /** A table became one leaf: `address` and `len` of the leaf, virtual. */
    MM_EVENT_LEAF_MERGE = 9,
};

struct mm_event {
    enum mm_event_kind kind;
    const void *who;  /**< the object that speaks: frame allocator, page table, heap, space */
    uint64_t address; /**< by kind, above */
    uint64_t len;     /**< by kind, above */
};

MM_END_DECLS

#endif
