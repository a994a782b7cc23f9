// SPDX-License-Identifier: MIT
/**
 * What the checks of ring 3 share: checks_ring3.c (spaces apart and shared, what is refused),
 * checks_ring3_fork.c (clones), checks_ring3_edit.c (pages that go while they are used).
 */
#ifndef MINIKERNEL_CHECKS_RING3_H
#define MINIKERNEL_CHECKS_RING3_H

#include <stdatomic.h>

#include "check.h"
#include "ring3.h"

/** Where the data of all spaces is. */
#define RING3_DATA UINT64_C(0x0000600040000000)

struct ring3_checks {
    struct memory *memory;
    /** A manager over a pool of their own: what caches keep of objects that are gone ends with it. */
    struct mm_page_frames pages;
    struct mm_pool pool;
    struct mm_spaces spaces;
    uint32_t rounds; /**< of each check that repeats itself */
    atomic_uint nr_runs;
    atomic_uint nr_wrong;
};

/** Address of a page of data. */
static inline uint64_t ring3_page(uint64_t i)
{
    return RING3_DATA + i * MM_PAGE_SIZE;
}

/** Address of the line of a processor in the page at `at`. */
static inline uint64_t ring3_line(uint64_t at, uint64_t cpu)
{
    return at + cpu * MM_CACHE_LINE;
}

/** A new space with the programs and so many pages of data, all lazy. It is active here then. */
struct mm_space *ring3_space(struct ring3_checks *r, uint64_t pages);

/** Map pages of data; flags as for mm_space_map(), FIXED is added. */
void ring3_map_pages(struct mm_space *space, uint64_t first, uint64_t nr, mm_prot_t prot,
                     uint32_t flags);

/** Run in this space; NULL: in none. */
void ring3_enter(struct ring3_checks *r, struct mm_space *space);

/** Check a space and let it go. */
void ring3_put(struct ring3_checks *r, struct mm_space *space);

/** Count a run, and print it if it did not go as it should. */
void ring3_expect(struct ring3_checks *r, const char *what, const struct trap_user *user,
                  bool good);

/** Walk pages that must hold what `old` gives; 0 as `seed`: without stores. */
void ring3_walk_pages(struct ring3_checks *r, const char *what, uint64_t first, uint64_t nr,
                      uint64_t seed, uint64_t old);

/** A word of user memory, as ring 3 loads it. */
uint64_t ring3_word(struct ring3_checks *r, uint64_t at);

/** Whether nothing was wrong since this was last asked. */
bool ring3_all_good(struct ring3_checks *r);

void checks_ring3_fork(struct ring3_checks *r);
void checks_ring3_edit(struct ring3_checks *r);

#endif
