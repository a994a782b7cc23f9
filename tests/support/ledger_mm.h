// SPDX-License-Identifier: MIT
/**
 * The ledger of frames: every one has one owner, and as many references as somebody can name.
 *
 *     frame allocator    what it counts for a frame
 *     page tables        tables, and leaves that map it: walked here, from the manual (Intel SDM
 *                        vol. 3A, 4.5), not by the library's own walk
 *     the test           what it holds itself: regions for devices, frames taken
 *
 * A ledger is opened, told of every owner, and closed: closing compares. Wrong is a frame that is
 * in use and has no owner, or two; a free one that is mapped; a count of references that is not the
 * number of mappings; and a page table that has more or fewer tables or leaves than it counts.
 *
 *     struct t_ledger *ledger = t_ledger_open(&frames, ram_base, nr);
 *     t_ledger_root(ledger, &kernel, NULL, arena);
 *     t_ledger_space(ledger, space, &kernel);
 *     t_ledger_hold(ledger, region_first, region_nr);
 *     T_LEGAL(t_ledger_close(ledger, pages_of_the_heap));
 */
#ifndef T_LEDGER_MM_H
#define T_LEDGER_MM_H

#include <mm/frame.h>
#include <mm/paging.h>
#include <mm/space.h>

MM_BEGIN_DECLS

struct t_ledger;

/** What an allocator says of a frame: its references, 0 if it is free or none of its own. */
typedef uint32_t t_ledger_refs_fn(const void *ctx, uint64_t frame);

/** Of frames below `nr`; tables are read at `ram_base` + physical address. */
struct t_ledger *t_ledger_open(const struct mm_frames *frames, uint64_t ram_base, uint64_t nr);

/** The same of any other allocator. */
struct t_ledger *t_ledger_open_of(t_ledger_refs_fn *refs, const void *ctx, uint64_t ram_base,
                                  uint64_t nr);

/** The holder of `nr` frames has one reference to each. */
void t_ledger_hold(struct t_ledger *ledger, uint64_t first, uint64_t nr);

/**
 * Its tables are owned by it, and each leaf inside `counted` is one reference to each of its
 * frames. `kernel`: the root that a user root shares entries with; NULL: this is a kernel root.
 */
void t_ledger_root(struct t_ledger *ledger, const struct mm_pagetable *pt,
                   const struct mm_pagetable *kernel, struct mm_vrange counted);

/** The root of a user space. */
void t_ledger_space(struct t_ledger *ledger, struct mm_space *space,
                    const struct mm_pagetable *kernel);

/**
 * Compare, and forget the ledger.
 *
 * @param nr_unnamed  frames in use whose owner cannot list them, each with one reference
 * @return NULL, or what is wrong (valid until the next ledger is closed)
 */
const char *t_ledger_close(struct t_ledger *ledger, uint64_t nr_unnamed);

MM_END_DECLS

#endif
