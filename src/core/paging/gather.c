// SPDX-License-Identifier: MIT
/**
 * The gather: between unmapping and the source of frames stands a flush.
 *
 * Ranges are kept for the flush; frames and tables for what follows it. Neighbours merge: ranges
 * that touch, frames that follow each other. A range in which there was nothing disturbs no CPU.
 * When the ranges run out, two become one that spans both: a flush may drop too much, never too
 * little. When the runs of frames run out, everything is flushed and released on the spot; the
 * ranges stay, because the call that is under way has told of its whole range at the start.
 */
#include "core/base/report.h"
#include "shootdown.h"

mm_status_t mm_gather_begin(struct mm_gather *gather, struct mm_pagetable *pt)
{
    if (gather == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (mmi_pagetable_check(pt) != MM_OK) {
        return mmi_pagetable_check(pt);
    }
    gather->magic = MMI_GATHER_MAGIC;
    gather->nr_ranges = 0;
    gather->nr_runs = 0;
    gather->pt = pt;
    gather->platform = pt->platform;
    gather->tables = mm_pfn(0);
    gather->nr_tables = 0;
    return MM_OK;
}

/** Whether two ranges overlap or touch. */
static bool adjoins(struct mm_vrange a, struct mm_vrange b)
{
    return a.start.raw >= b.start.raw ? a.start.raw - b.start.raw <= b.len
                                      : b.start.raw - a.start.raw <= a.len;
}

static struct mm_vrange span(struct mm_vrange a, struct mm_vrange b)
{
    uint64_t first = a.start.raw < b.start.raw ? a.start.raw : b.start.raw;
    uint64_t a_last = mm_vrange_last(a).raw;
    uint64_t b_last = mm_vrange_last(b).raw;
    uint64_t len = (a_last > b_last ? a_last : b_last) - first;

    /* All 2^64 bytes have no length; one byte less is as much to a flush. */
    return mm_vrange(mm_vaddr(first), len == UINT64_MAX ? len : len + 1);
}

/** The range whose span with `r` is the shortest. */
static uint32_t nearest(const struct mm_gather *gather, struct mm_vrange r)
{
    uint32_t best = 0;

    for (uint32_t i = 1; i < gather->nr_ranges; i++) {
        if (span(gather->ranges[i], r).len - gather->ranges[i].len <
            span(gather->ranges[best], r).len - gather->ranges[best].len) {
            best = i;
        }
    }
    return best;
}

static void widen(struct mm_gather *gather, uint32_t i, struct mm_vrange range, unsigned shift)
{
    gather->ranges[i] = span(gather->ranges[i], range);
    gather->shifts[i] = gather->shifts[i] > shift ? (uint8_t)shift : gather->shifts[i];
}

void mmi_gather_add(struct mm_gather *gather, struct mm_vrange range, unsigned shift)
{
    if (gather == NULL || gather->magic != MMI_GATHER_MAGIC || range.len == 0 ||
        !mm_vrange_valid(range)) {
        return;
    }
    for (uint32_t i = 0; i < gather->nr_ranges; i++) {
        if (adjoins(gather->ranges[i], range)) {
            widen(gather, i, range, shift);
            return;
        }
    }
    if (gather->nr_ranges < MM_GATHER_MAX_RANGES) {
        gather->shifts[gather->nr_ranges] = (uint8_t)shift;
        gather->ranges[gather->nr_ranges++] = range;
    } else {
        widen(gather, nearest(gather, range), range, shift);
    }
}

void mm_gather_add_range(struct mm_gather *gather, struct mm_vrange range)
{
    mmi_gather_add(gather, range, MM_PAGE_SHIFT);
}

void mmi_gather_leaf(struct mm_gather *gather, uint64_t at, unsigned shift)
{
    for (uint32_t i = 0; i < gather->nr_ranges; i++) {
        if (at - gather->ranges[i].start.raw < gather->ranges[i].len && gather->shifts[i] > shift) {
            gather->shifts[i] = (uint8_t)shift;
        }
    }
}

/** Leaves of all ranges, at most: the smallest leaf counts for its range. */
static uint64_t pages_of(const struct mm_vrange *ranges, const uint8_t *shifts, uint32_t nr_ranges)
{
    uint64_t pages = 0;

    for (uint32_t i = 0; i < nr_ranges; i++) {
        pages += mmi_nr_leaves(ranges[i].start.raw, mm_vrange_last(ranges[i]).raw, shifts[i]);
    }
    return pages;
}

static void flush_ranges(struct mm_pagetable *pt, const struct mm_vrange *ranges,
                         const uint8_t *shifts, uint32_t nr_ranges)
{
    uint64_t most;
    bool all;
    uint32_t nr;

    if (pt->pairs == MMI_ENTRY_ROOT) {
        pt = pt->peer; /* whose CPUs they are; the way out to user mode drops the rest */
    }
    most = pt->tlb != NULL ? pt->tlb->flush_pages : MM_GATHER_FLUSH_PAGES;
    all = pages_of(ranges, shifts, nr_ranges) > most;
    nr = all ? 0 : nr_ranges;
    if (pt->tlb != NULL) {
        mmi_tlb_flush(pt, ranges, shifts, nr);
    } else {
        pt->backend.ops->flush(pt, ranges, shifts, nr);
    }
    if (all) {
        mmi_event(&pt->platform, MM_EVENT_TLB_FLUSH, pt, 0, 0);
    }
    for (uint32_t i = 0; i < nr; i++) {
        mmi_event(&pt->platform, MM_EVENT_TLB_FLUSH, pt, ranges[i].start.raw, ranges[i].len);
    }
}

/** Put the ranges from which something went before those in which there was nothing; how many. */
static uint32_t used_first(struct mm_gather *gather)
{
    uint32_t nr = 0;

    for (uint32_t i = 0; i < gather->nr_ranges; i++) {
        if (gather->shifts[i] != MMI_GATHER_NO_LEAF) {
            struct mm_vrange range = gather->ranges[i];
            uint8_t shift = gather->shifts[i];

            gather->ranges[i] = gather->ranges[nr];
            gather->shifts[i] = gather->shifts[nr];
            gather->ranges[nr] = range;
            gather->shifts[nr] = shift;
            nr++;
        }
    }
    return nr;
}

/** What a gather holds is its page table's to flush and to free. */
static void check_alive(const struct mm_gather *gather)
{
    const struct mm_pagetable *pt = gather->pt;

    if (pt->magic != MMI_PAGETABLE_MAGIC) {
        mmi_panic(&gather->platform,
                  &(struct mm_panic_info){.room = "paging",
                                          .what = "a gather of a page table that "
                                                  "was destroyed is not empty",
                                          .address = (uintptr_t)pt,
                                          .recorded = "tables to free",
                                          .recorded_value = gather->nr_tables,
                                          .claimed = "magic",
                                          .claimed_value = pt->magic});
    }
}

static void flush(struct mm_gather *gather)
{
    uint32_t nr = used_first(gather);

    if ((gather->nr_ranges | gather->nr_runs | gather->nr_tables) != 0) {
        check_alive(gather);
    }
    if (nr != 0) {
        flush_ranges(gather->pt, gather->ranges, gather->shifts, nr);
    }
}

void mmi_paging_flush_now(struct mm_pagetable *pt, struct mm_vrange range, unsigned shift)
{
    uint8_t shifts = (uint8_t)shift;

    flush_ranges(pt, &range, &shifts, 1);
}

static void release_run(const struct mm_pagetable *pt, mm_pfn_t first, uint64_t nr)
{
    if (pt->source.ops->free_run != NULL) {
        pt->source.ops->free_run(pt->source.ctx, first, nr);
        return;
    }
    for (uint64_t n = 0; n < nr; n++) {
        pt->source.ops->free(pt->source.ctx, mm_pfn(first.raw + n));
    }
}

/** After the flush only. */
static void release(struct mm_gather *gather)
{
    const struct mm_pagetable *pt = gather->pt;

    for (uint32_t i = 0; i < gather->nr_runs; i++) {
        release_run(pt, gather->runs[i].first, gather->runs[i].nr);
    }
    gather->nr_runs = 0;
    for (; gather->nr_tables > 0; gather->nr_tables--) {
        mm_pfn_t table = gather->tables;

        gather->tables = pt->backend.ops->chain_next(pt, table);
        pt->source.ops->free(pt->source.ctx, table);
    }
}

void mm_gather_end(struct mm_gather *gather)
{
    if (gather == NULL || gather->magic != MMI_GATHER_MAGIC) {
        return;
    }
    flush(gather);
    release(gather);
    gather->nr_ranges = 0;
    gather->tables = mm_pfn(0);
}

void mm_gather_add_frames(struct mm_gather *gather, mm_pfn_t first, uint64_t nr)
{
    struct mm_frame_run *run;

    if (gather == NULL || gather->magic != MMI_GATHER_MAGIC || nr == 0) {
        return;
    }
    if (gather->nr_runs > 0) {
        run = &gather->runs[gather->nr_runs - 1];
        if (run->first.raw + run->nr == first.raw) {
            run->nr += nr;
            return;
        }
        if (first.raw + nr == run->first.raw) {
            run->first = first;
            run->nr += nr;
            return;
        }
    }
    if (gather->nr_runs == MM_GATHER_MAX_RUNS) {
        flush(gather);
        release(gather);
    }
    gather->runs[gather->nr_runs].first = first;
    gather->runs[gather->nr_runs].nr = nr;
    gather->nr_runs++;
}
