// SPDX-License-Identifier: MIT
/**
 * Pages that several processors map, touch and unmap at once, and frames with stamps that give every
 * access through a dead translation away.
 *
 * Each 64 bytes of a frame begin with its stamp: whose it is, where it is mapped, the how-manieth
 * mapping of that place this is, and a check of all three. It is written when the frame is taken and
 * when it is given back. The word behind the stamp is for stores: the place that they were meant for.
 *
 *     a look may find      the mapping that was there when it began, the one that is there when it
 *                          ends, and those between; or no page
 *     it must not find     one that was gone before it began; another place; a frame given back
 *     a frame may hold     stores that were meant for its place
 *     it must not hold     others; or one that came after it was given back
 */
#ifndef MINIKERNEL_ARENA_H
#define MINIKERNEL_ARENA_H

#include "lock.h"
#include "memory.h"

#define ARENA_SLOTS 64

struct slot {
    mm_pfn_t frame; // these two under the lock
    enum { SLOT_EMPTY, SLOT_MAPPED, SLOT_SEALED } state;
    _Atomic uint64_t newest; // mapping that a look may find
    _Atomic uint64_t oldest;
};

struct arena {
    struct memory *m;
    struct mm_pagetable *pt;
    uint32_t number;
    bool user;
    mm_vaddr_t base;
    struct lock lock; // of the page table
    struct slot slots[ARENA_SLOTS];
};

/** What a processor did, and how it found things. */
enum arena_count {
    ARENA_FILLED,
    ARENA_DROPPED,
    ARENA_LOOKED,  // and found a page
    ARENA_MISSED,  // and found none
    ARENA_STORED,  // and found a page
    ARENA_REFUSED, // and found none, or one that is sealed
    ARENA_SEALED,
    ARENA_RECEIVED, // a frame that another processor had
    ARENA_SWITCHED,
    ARENA_NR_COUNTS,
};

struct worker {
    uint32_t cpu;
    uint32_t step;
    uint64_t random;
    struct arena *in; // whose page table is loaded
    uint64_t counts[ARENA_NR_COUNTS];
};

/** Complaints so far; the first few are printed. */
unsigned arena_nr_wrong(void);

void arena_open(struct arena *arena, struct memory *m, uint32_t number, struct mm_pagetable *pt,
                mm_vaddr_t base);

/** Drop all that is left, and free it. */
void arena_close(struct arena *arena, struct worker *w);

/** Map `nr` slots from `first`, those that are empty, each with a frame that is stamped for it. */
void arena_fill(struct arena *arena, struct worker *w, uint32_t first, uint32_t nr);

/** One look at a slot, or one store to it, of an arena that this processor has loaded. */
void arena_look(struct arena *arena, struct worker *w, uint32_t slot);
void arena_store(struct arena *arena, struct worker *w, uint32_t slot);

/**
 * Unmap `nr` slots from `first`, up to one that is sealed. Frames go back through the gather, or are
 * given back here after it has ended.
 *
 * @param[out] kept  one of the frames, stamped as given back, is handed to the caller; NULL: none is
 */
void arena_drop(struct arena *arena, struct worker *w, uint32_t first, uint32_t nr,
                bool by_the_gather, mm_pfn_t *kept);

/** Forbid stores to a slot, see that none comes any more, and allow them again. */
void arena_seal(struct arena *arena, struct worker *w, uint32_t slot);

/** A frame that another processor kept: nobody has touched it since. */
void arena_receive(struct memory *m, struct worker *w, mm_pfn_t frame);

/** To be memory's on_release: look at a frame that the gather gives back, and stamp it. */
void arena_on_release(struct memory *m, mm_pfn_t frame);

#endif
