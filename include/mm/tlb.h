// SPDX-License-Identifier: MIT
/**
 * The gather: what was unmapped, until no CPU can see it any more.
 *
 *     unmap ──> gather: ranges, empty tables, frames ──> flush ──> source of frames
 *
 * Unmapping only fills a gather. Ending it flushes the translations first and releases tables and
 * frames after; there is no other way from an unmapped page to the allocator. So a frame is never
 * reused while a stale translation of it lives.
 *
 * A gather has room for MM_GATHER_MAX_RUNS runs of frames; when that is full it flushes, releases
 * and goes on. Empty tables chain through themselves (in a slot that the hardware sees as not
 * present) and need no room. Nothing is allocated, ever.
 *
 * It is used by one CPU, under the lock that serialises the page table, or ended after that lock is
 * dropped.
 */
#ifndef MM_TLB_H
#define MM_TLB_H

#include <mm/paging.h>

MM_BEGIN_DECLS

struct mm_frame_run {
    mm_pfn_t first;
    uint64_t nr;
};

/** Storage is the caller's (about 800 bytes: not for a small stack). Fields are the library's. */
struct mm_gather {
    uint32_t magic;
    uint32_t nr_ranges;
    uint32_t nr_runs;
    uint32_t global; /**< a global translation is among them */
    struct mm_pagetable *pt;
    mm_pfn_t tables; /**< head of the chain of empty tables; 0: none */
    uint64_t nr_tables;
    struct mm_vrange ranges[MM_GATHER_MAX_RANGES];
    struct mm_frame_run runs[MM_GATHER_MAX_RUNS];
};

/**
 * Begin a gather for a page table.
 *
 * @param gather  storage of any content
 * @return MM_OK | MM_ERR_INVALID_ARGUMENT (null) | MM_ERR_NOT_INITIALIZED (pt)
 * Owner:  the caller keeps the storage, and the page table alive, until mm_gather_end().
 * Locks:  none; not preempted to another CPU until the end. Cost: O(1).
 */
MM_MUST_CHECK
mm_status_t mm_gather_begin(struct mm_gather *gather, struct mm_pagetable *pt);

/**
 * Flush what was gathered, then release tables and frames. The gather is empty after, and may be
 * used again. One that is empty, NULL or was never begun is left alone.
 *
 * Locks:  none that is ever taken with interrupts off may be held. Sleeps: never.
 * Cost:   one page flush for each page up to MM_GATHER_FLUSH_PAGES, else one flush of everything;
 *         one call of the source for each table and frame.
 */
void mm_gather_end(struct mm_gather *gather);

/**
 * Note that the translations of `range` are stale: for owners of page tables who edit them by other
 * means. A range that is empty or wraps, and a gather that was never begun, are left alone.
 *
 * Locks:  the owner's. Cost: O(MM_GATHER_MAX_RANGES).
 */
void mm_gather_add_range(struct mm_gather *gather, struct mm_vrange range, bool global);

/**
 * Hand over `nr` frames from `first`, to be released after the flush, whose ranges were added
 * before. A gather that is full flushes and releases now. One that was never begun is left alone.
 *
 * Owner:  the gather, and after the flush the source of the page table.
 * Locks:  the owner's, as for mm_gather_end(). Sleeps: never.
 * Cost:   O(1); when it is full, as mm_gather_end().
 */
void mm_gather_add_frames(struct mm_gather *gather, mm_pfn_t first, uint64_t nr);

MM_END_DECLS

#endif
