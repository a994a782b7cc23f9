// SPDX-License-Identifier: MIT
/**
 * Freeing, in two halves: a claim in any context, and the purge.
 *
 *     free     entry |= freed, by one compare-and-exchange; onto the list
 *     purge    take the whole list
 *              ┌> lock: unmap ranges, frames to the gather, until it is full; unlock
 *              │  end the gather: one flush on every CPU, then the frames go back
 *              └─ lock: take the ranges that are unmapped out of the tree; unlock
 *
 * The lock is not held across the flush. Meanwhile a range whose leaves are gone still holds its
 * addresses, and its frames are the gather's: neither is handed out before the flush.
 */
#include "kva.h"

const char *mmi_kva_kind_str(enum mm_kva_kind kind)
{
    static const char *const names[MM_KVA_KINDS] = {"memory", "device",        "stack",
                                                    "pages",  "per-CPU areas", "guarded"};

    return (unsigned)kind < MM_KVA_KINDS ? names[kind] : "?";
}

struct mmi_kva_range *mmi_kva_find(const struct mm_kva *kva, uint64_t at)
{
    struct mmi_range *whole = mmi_ranges_find(&kva->ranges, at);

    return whole == NULL ? NULL : mmi_kva_of_whole(whole);
}

bool mmi_kva_is_freed(const struct mm_kva *kva, const struct mmi_kva_range *range)
{
    const uint64_t *entry = mmi_table_look(&kva->table, range->start);

    return entry == NULL || mmi_load_acquire(entry) != mmi_kva_entry(range);
}

/* --- a wrong free ----------------------------------------------------------------------------- */

/** What is known of an address, as far as the lock can be had. */
static const char *known_of(struct mm_kva *kva, uint64_t at, uint64_t *start)
{
    static const char *const inside[MM_KVA_KINDS] = {
        "in memory of the arena", "in a device's range", "in a stack",
        "in pages of a heap",     "in per-CPU areas",    "in guarded pages"};
    const char *known = "nothing at this address";
    const struct mmi_kva_range *range;

    *start = 0;
    if (!mmi_kva_enter_for_a_while(kva)) {
        return "the arena is locked";
    }
    range = mmi_kva_find(kva, at);
    if (range != NULL) {
        *start = range->start + range->offset;
        known = at - range->start >= range->len ? "in a guard of the range"
                : mmi_kva_is_freed(kva, range)  ? "in a range that was freed"
                                                : inside[range->kind];
    }
    mmi_unlock(&kva->lock);
    return known;
}

_Noreturn void mmi_kva_wrong(struct mm_kva *kva, uint64_t at, const char *what, const char *claimed)
{
    uint64_t start;
    const char *known = known_of(kva, at, &start);

    mmi_panic(&kva->platform, &(struct mm_panic_info){.room = "kva",
                                                      .what = what,
                                                      .address = at,
                                                      .recorded = known,
                                                      .recorded_value = start,
                                                      .claimed = claimed,
                                                      .claimed_value = 0});
}

/* --- the first half --------------------------------------------------------------------------- */

struct mmi_kva_range *mmi_kva_claim(struct mm_kva *kva, uint64_t at, uint32_t kinds,
                                    const char *claimed)
{
    uint64_t *entry = mmi_table_look(&kva->table, at);
    uint64_t seen = entry == NULL ? 0 : mmi_load_acquire(entry);
    struct mmi_kva_range *range = mmi_kva_of_entry(seen);

    if (range == NULL) {
        mmi_kva_wrong(kva, at, "a free of what is not the start of a range", claimed);
    }
    if ((seen & MMI_KVA_FREED) != 0) {
        mmi_kva_wrong(kva, at, "double free of a range", claimed);
    }
    if (!mmi_cas(entry, &seen, seen | MMI_KVA_FREED)) {
        mmi_kva_wrong(kva, at, "double free of a range", claimed);
    }
    /* Only now it cannot go away. What is wrong here was not freed. */
    if (((1u << range->kind) & kinds) == 0) {
        mmi_store_release(entry, seen);
        mmi_kva_wrong(kva, at, "a free of a range of another kind", claimed);
    }
    if (at != range->start + range->offset) {
        mmi_store_release(entry, seen);
        mmi_kva_wrong(kva, at, "a free of what is not the start of a range", claimed);
    }
    return range;
}

void mmi_kva_push(struct mm_kva *kva, struct mmi_kva_range *range, uint64_t nr_pages)
{
    struct mmi_kva_range *head;

    mmi_fetch_add(&kva->nr_lazy_pages, nr_pages);
    if (mmi_fetch_add(&range->nr_pending, nr_pages) != 0) {
        return; /* it is on the list, or about to be: who does that has not passed on yet */
    }
    head = mmi_load(&kva->lazy);
    do {
        range->next = head;
    } while (!mmi_cas(&kva->lazy, &head, range));
}

void mm_kva_free(struct mm_kva *kva, mm_vaddr_t at)
{
    struct mmi_kva_range *range;

    if (!mmi_is_kva(kva)) {
        const struct mm_platform none = {NULL, NULL};

        mmi_panic(&none, &(struct mm_panic_info){.room = "kva",
                                                 .what = "a free into no arena",
                                                 .address = at.raw,
                                                 .recorded = "no arena",
                                                 .claimed = "memory or a device"});
    }
    range =
        mmi_kva_claim(kva, at.raw, 1u << MM_KVA_MEMORY | 1u << MM_KVA_DEVICE, "memory or a device");
    mmi_kva_push(kva, range, mmi_kva_pages(range));
}

/* --- the second half -------------------------------------------------------------------------- */

struct fill {
    struct mm_gather *gather;
    uint64_t end; /* of what the gather has the frames of */
};

/** A leaf whose frames go to the gather; false: it has no room for them. */
static bool add_leaf(void *ctx, const struct mm_mapping *leaf)
{
    struct fill *fill = ctx;
    struct mm_gather *gather = fill->gather;
    mm_pfn_t first = mm_pfn_of(leaf->paddr);

    if (gather->nr_runs == MM_GATHER_MAX_RUNS) {
        const struct mm_frame_run *last = &gather->runs[gather->nr_runs - 1];

        if (last->first.raw + last->nr != first.raw) {
            fill->end = leaf->page.start.raw;
            return false;
        }
    }
    mm_gather_add_frames(gather, first, leaf->page.len >> MM_PAGE_SHIFT);
    return true;
}

/** The page table is not what it was when the range was mapped. */
static _Noreturn void cannot_unmap(struct mm_kva *kva, mm_status_t status,
                                   const struct mmi_kva_range *range)
{
    mmi_panic(&kva->platform,
              &(struct mm_panic_info){.room = "kva",
                                      .what = "what was freed cannot be unmapped",
                                      .address = range == NULL ? 0 : range->start,
                                      .recorded = mm_status_str(status),
                                      .recorded_value = (uint64_t)status,
                                      .claimed = "a range of the arena",
                                      .claimed_value = range == NULL ? 0 : range->len});
}

/** Unmap from `start` on, as far as the gather has room for frames. Returns where it ended. */
static uint64_t unmap(struct mm_kva *kva, const struct mmi_kva_range *range, uint64_t start,
                      uint64_t end)
{
    struct fill fill = {.gather = &kva->gather, .end = end};
    mm_status_t status = MM_OK;

    if (range->kind != MM_KVA_DEVICE) {
        status =
            mm_paging_walk(kva->kernel, mm_vrange(mm_vaddr(start), end - start), add_leaf, &fill);
    }
    if (status == MM_OK && fill.end != start) {
        /* Whole leaves, so that none is split and no table is needed. */
        status = mm_paging_unmap(kva->kernel, mm_vrange(mm_vaddr(start), fill.end - start),
                                 MM_PAGING_SKIP_HOLES, &kva->gather);
    }
    if (status != MM_OK) {
        cannot_unmap(kva, status, range);
    }
    return fill.end;
}

static void count_unmapped(struct mm_kva *kva, struct mmi_kva_range *range, uint64_t nr_pages)
{
    range->nr_left -= nr_pages;
    mmi_fetch_sub(&kva->nr_lazy_pages, nr_pages);
    mmi_fetch_sub(&kva->nr_pages[range->kind], nr_pages);
}

/** Begin with an empty gather: the one before has ended. */
static void begin(struct mm_kva *kva)
{
    mm_status_t status = mm_gather_begin(&kva->gather, kva->kernel);

    if (status != MM_OK) {
        cannot_unmap(kva, status, NULL);
    }
    if (kva->stale_last != 0) { /* guarded pages that other CPUs may still reach */
        mm_gather_add_range(&kva->gather, mm_vrange(mm_vaddr(kva->stale_first),
                                                    kva->stale_last - kva->stale_first + 1));
        mmi_store(&kva->stale_last, UINT64_C(0));
    }
}

/** A range that was freed as a whole. True: all of it is unmapped. */
static bool unmap_whole(struct mm_kva *kva, struct mmi_kva_range *range)
{
    uint64_t end = range->start + range->len;

    range->scan = unmap(kva, range, range->scan, end);
    if (range->scan != end) {
        return false;
    }
    count_unmapped(kva, range, range->nr_left);
    return true;
}

/** As many freed pages from `at` on as follow each other, `most` at most. */
static uint64_t freed_run(const struct mm_kva *kva, const struct mmi_kva_range *range, uint64_t at,
                          uint64_t most)
{
    uint64_t nr = 0;

    while (nr < most && at + nr * MM_PAGE_SIZE < range->start + range->len &&
           mmi_load_acquire(mmi_table_look(&kva->table, at + nr * MM_PAGE_SIZE)) ==
               (mmi_kva_entry(range) | MMI_KVA_FREED)) {
        nr++;
    }
    return nr;
}

/** A run of pages, of which `*pending` were freed. True: those are unmapped. */
static bool unmap_parts(struct mm_kva *kva, struct mmi_kva_range *range, uint64_t *pending)
{
    while (*pending > 0) {
        uint64_t nr = freed_run(kva, range, range->scan, *pending);
        uint64_t end;

        if (nr == 0) {
            range->scan += MM_PAGE_SIZE; /* there are so many: it ends before the range does */
            continue;
        }
        end = unmap(kva, range, range->scan, range->scan + nr * MM_PAGE_SIZE);
        nr = (end - range->scan) >> MM_PAGE_SHIFT;
        for (uint64_t at = range->scan; at < end; at += MM_PAGE_SIZE) {
            mmi_store_release(mmi_table_look(&kva->table, at), UINT64_C(0));
        }
        count_unmapped(kva, range, nr);
        *pending -= nr;
        if (nr == 0) {
            return false;
        }
        range->scan = end;
    }
    return true;
}

/** What one purge has before it, and behind it. */
struct purge {
    struct mmi_kva_range *list; /* freed, and not yet looked at */
    struct mmi_kva_range *now;  /* the one that is being unmapped */
    uint64_t pending;           /* pages of it, if it is a run of pages */
    struct mmi_kva_range *gone; /* unmapped: to be flushed, then forgotten */
    uint64_t nr_pages;
};

static void take_next(struct purge *p)
{
    p->now = p->list;
    if (p->now != NULL) {
        /* Before the pages are taken over: after that, who frees more of it may push it again. */
        p->list = p->now->next;
        p->now->scan = p->now->start;
        p->pending = mmi_exchange(&p->now->nr_pending, UINT64_C(0));
        p->nr_pages += p->pending;
    }
}

/** Unmap until the gather is full or the list is empty. Under the lock. */
static void fill_gather(struct mm_kva *kva, struct purge *p)
{
    for (; p->now != NULL; take_next(p)) {
        struct mmi_kva_range *range = p->now;
        bool done = range->kind == MM_KVA_PAGES ? unmap_parts(kva, range, &p->pending)
                                                : unmap_whole(kva, range);

        if (!done) {
            return;
        }
        if (range->nr_left == 0) {
            range->next = p->gone;
            p->gone = range;
        }
    }
}

/** The addresses are free again. Under the lock, after the flush. */
static void forget(struct mm_kva *kva, struct mmi_kva_range *range)
{
    if (range->kind == MM_KVA_DEVICE) {
        mmi_device_release(mmi_devices_of(kva), &range->twin->whole, range->type);
    }
    if (range->kind != MM_KVA_PAGES) {
        mmi_store_release(mmi_table_look(&kva->table, range->start), UINT64_C(0));
    }
    mmi_ranges_unlink(&kva->ranges, &range->whole);
    mmi_fetch_sub(&kva->nr_ranges[range->kind], UINT64_C(1));
}

static void forget_all(struct mm_kva *kva, struct purge *p)
{
    (void)mmi_kva_enter(kva, false);
    for (struct mmi_kva_range *range = p->gone; range != NULL; range = range->next) {
        forget(kva, range);
    }
    mmi_kva_refill(kva);
    mmi_kva_leave(kva);
    while (p->gone != NULL) {
        struct mmi_kva_range *range = p->gone;

        p->gone = range->next;
        mmi_kva_free_node(kva, range);
    }
}

uint64_t mm_kva_purge(struct mm_kva *kva)
{
    struct purge p = {NULL, NULL, 0, NULL, 0};
    bool stale;

    if (!mmi_is_kva(kva)) {
        return 0;
    }
    mmi_lock(&kva->purge_lock, &kva->platform);
    p.list = mmi_exchange(&kva->lazy, NULL);
    take_next(&p);
    if (p.now != NULL) {
        mmi_fetch_add(&kva->nr_purges, UINT64_C(1));
    }
    /* What is closed from now on may be left to the next. */
    stale = mmi_load(&kva->stale_last) != 0;
    while (p.now != NULL || stale) {
        stale = false;
        (void)mmi_kva_enter(kva, false);
        begin(kva);
        fill_gather(kva, &p);
        mmi_kva_leave(kva);
        mm_gather_end(&kva->gather);
        forget_all(kva, &p);
        mmi_fetch_add(&kva->nr_flushes, UINT64_C(1)); /* last: see mmi_kva_take() */
    }
    mmi_unlock(&kva->purge_lock);
    return p.nr_pages;
}
