// SPDX-License-Identifier: MIT
/**
 * The reference model of a frame allocator: one byte of state and one count a frame, and loops.
 *
 * Nothing is summarised and nothing is cached, so it is slow and plainly right. The allocator under
 * test chooses the frames; the model says whether it was allowed to, and what must be left. A model
 * is asked with frame numbers and answers an operation with NULL, or with a sentence that says what
 * is wrong (and then it is unchanged).
 */
#ifndef T_MODEL_FRAMES_H
#define T_MODEL_FRAMES_H

#include <stdbool.h>
#include <stdint.h>

enum t_mframe_state {
    T_MFRAME_ABSENT = 0, /**< no such memory */
    T_MFRAME_FREE,
    T_MFRAME_USED,
    T_MFRAME_RESERVED, /**< memory that the allocator must never hand out */
};

/** A count that stays for ever. */
#define T_MFRAMES_IMMORTAL UINT32_MAX
/** "No such frame". */
#define T_MFRAMES_NONE UINT64_MAX

struct t_mframe_span {
    uint64_t first;
    uint64_t nr;
    uint8_t *state;
    uint8_t *kinds; /* who may have it: numbers below 64, of the test */
    uint32_t *refs;
};

struct t_mframes {
    struct t_mframe_span *spans; /* in the order of their adding; they do not overlap */
    unsigned nr_spans;
};

/** What a search asks for; zero fields ask for nothing. */
struct t_mframe_search {
    uint64_t nr;       /**< frames in a row */
    uint64_t align;    /**< the first one is a multiple of this many frames */
    uint64_t low;      /**< no frame below */
    uint64_t limit;    /**< no frame at or above */
    uint64_t boundary; /**< the run does not cross a multiple of this many frames */
    uint64_t kinds;    /**< a bit for each kind of frame that will do */
    bool within;       /**< all of it lies in one span */
};

void t_mframes_init(struct t_mframes *model);
void t_mframes_destroy(struct t_mframes *model);

/** Add memory, all in one state. */
const char *t_mframes_add(struct t_mframes *model, uint64_t first, uint64_t nr,
                          enum t_mframe_state state);

/** Free frames become reserved. */
const char *t_mframes_reserve(struct t_mframes *model, uint64_t first, uint64_t nr);

/** All `nr` frames, which exist, are of this kind from now on; at first they are of kind 0. */
void t_mframes_set_kind(struct t_mframes *model, uint64_t first, uint64_t nr, unsigned kind);
/** Every frame of the run is of one of these kinds, a bit each. */
bool t_mframes_of_kinds(const struct t_mframes *model, uint64_t first, uint64_t nr, uint64_t kinds);

enum t_mframe_state t_mframes_state(const struct t_mframes *model, uint64_t pfn);
uint32_t t_mframes_refs(const struct t_mframes *model, uint64_t pfn);

/** All `nr` frames from `first` on are in this state. */
bool t_mframes_all(const struct t_mframes *model, uint64_t first, uint64_t nr,
                   enum t_mframe_state state);

/** A run was handed out: all of it must have been free. Each frame now has one reference. */
const char *t_mframes_alloc_run(struct t_mframes *model, uint64_t first, uint64_t nr);

/** A block of 2^order frames was handed out: as a run, and it must be aligned to its size. */
const char *t_mframes_alloc(struct t_mframes *model, uint64_t first, unsigned order);

/** A run is given back: all of it must be in use, with no more than one reference a frame. */
const char *t_mframes_free_run(struct t_mframes *model, uint64_t first, uint64_t nr);

/** An aligned block is given back; it may be part of what was handed out as one. */
const char *t_mframes_free(struct t_mframes *model, uint64_t first, unsigned order);

/** One reference more; an immortal count stays, and one that reaches the top becomes immortal. */
const char *t_mframes_get(struct t_mframes *model, uint64_t pfn);

/** One reference less; the last one frees the frame, an immortal one stays. */
const char *t_mframes_put(struct t_mframes *model, uint64_t pfn);

/** Set the count of a frame in use (to start near the top). */
const char *t_mframes_set_refs(struct t_mframes *model, uint64_t pfn, uint32_t refs);

/** How many frames are in this state. */
uint64_t t_mframes_count(const struct t_mframes *model, enum t_mframe_state state);

/** How many aligned blocks of this order are free as a whole, counted apart from each other. */
uint64_t t_mframes_count_blocks(const struct t_mframes *model, unsigned order);

/** The lowest run that fits, or T_MFRAMES_NONE: then, and only then, "no memory" is the truth. */
uint64_t t_mframes_find(const struct t_mframes *model, const struct t_mframe_search *search);

/** A hash of all states and counts. */
uint64_t t_mframes_hash(const struct t_mframes *model);

#endif
