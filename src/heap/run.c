// SPDX-License-Identifier: MIT
/**
 * Runs of whole pages, for objects above 8 KiB or aligned to more than a page.
 *
 * The base in the descriptor is the truth: freeing exchanges it for 0, and only one can. A
 * descriptor that was used again for another run has another base by then; so a double free is told
 * however late it comes.
 *
 *             alloc: pages from the source          free
 *     UNUSED ─────────────────────────────> LIVE ─────────> KEPT, in the bin of its length
 *        ^                                   ^                │            │
 *        │                                   └────────────────┘            │
 *        └──────────────── reclaim, or there are enough ───────────────────┘
 *
 * A freed run of up to 16 pages is kept as it is, with its pages and its place in the table: to
 * use it again is to take it off a list. What is kept is bounded: 64 pages, and one more for each 8
 * runs that are live. If that is reached, another run makes room: any, as the address has it, so
 * that no length which is wanted no more stays for ever.
 */
#include "run.h"

#include "core/base/report.h"

/** More pages than any machine has; a size near SIZE_MAX ends here. */
#define PAGES_MAX (UINT64_C(1) << (MM_PADDR_BITS_MAX - MM_PAGE_SHIFT))

/** Pages that are kept however few runs there are, and runs for each further one. */
#define KEPT_MIN      64u
#define RUNS_PER_KEPT 8u

uint64_t mmi_heap_run_pages(uint64_t size)
{
    uint64_t nr_pages = (size >> MM_PAGE_SHIFT) + ((size & MM_PAGE_MASK) != 0 ? 1 : 0);

    return nr_pages == 0 ? 1 : nr_pages;
}

/** A class of runs has no hints, but its bins there, if it keeps any. */
static bool has_bin(const struct mm_slab_class *runs, uint64_t nr_pages)
{
    return runs->hints != NULL && nr_pages <= MM_HEAP_RUN_BINS;
}

static uint64_t *bin_of(const struct mm_slab_class *runs, uint64_t nr_pages)
{
    return &runs->hints[nr_pages - 1];
}

/** The caller has a run without pages, or one that was kept: it is an object now. */
static void *begin(struct mm_slab_class *runs, struct mmi_slab *run, uint64_t align)
{
    uint64_t pages = mmi_load(&run->words[MMI_RUN_FIRST]);

    mmi_store(&run->words[MMI_RUN_ALIGN], align);
    mmi_store(&run->resized, (uint8_t)0);
    mmi_store(&run->asked, (uint8_t)0);
    mmi_store(&run->state, (uint8_t)MMI_SLAB_OWNED);
    mmi_store_release(&run->base, pages);
    mmi_fetch_add(&runs->nr_slabs, UINT64_C(1));
    return (void *)(uintptr_t)pages;
}

static void *take_kept(struct mm_slab_class *runs, uint64_t nr_pages, uint64_t align)
{
    struct mmi_slab *run = mmi_list_pop(runs->pool, bin_of(runs, nr_pages));

    if (run == NULL) {
        return NULL;
    }
    mmi_fetch_sub(&runs->nr_kept, (uint32_t)nr_pages);
    return begin(runs, run, align);
}

/** A run of pages that the source gives; NULL: it has none. */
static struct mmi_slab *make(struct mm_slab_class *runs, uint64_t nr_pages, uint64_t align,
                             uint32_t flags)
{
    struct mm_pool *pool = runs->pool;
    struct mmi_slab *run = mmi_class_get_slab(runs, flags);
    uint64_t *entry = NULL;
    uint64_t pages;

    if (run == NULL) {
        return NULL;
    }
    pages = mmi_pool_pages(pool, nr_pages, align >> MM_PAGE_SHIFT, flags);
    if (pages != 0 && (entry = mmi_table_entry(pool, &pool->table, pages, flags)) == NULL) {
        mmi_pool_free_pages(pool, pages, nr_pages);
        pages = 0;
    }
    if (pages == 0) {
        mmi_list_push(pool, &runs->unused, run);
        return NULL;
    }
    mmi_store(&run->words[MMI_RUN_PAGES], nr_pages);
    mmi_store(&run->words[MMI_RUN_FIRST], pages);
    begin(runs, run, align);
    mmi_store_release(entry, (uint64_t)(uintptr_t)run);
    mmi_event(&pool->platform, MM_EVENT_HEAP_GROW, runs->owner, pages, nr_pages * MM_PAGE_SIZE);
    return run;
}

void *mmi_heap_run_alloc(struct mm_slab_class *runs, uint64_t size, uint64_t align, uint32_t flags)
{
    uint64_t nr_pages = mmi_heap_run_pages(size);
    struct mmi_slab *run;
    void *kept;

    align = align < MM_PAGE_SIZE ? MM_PAGE_SIZE : align;
    if (nr_pages > PAGES_MAX) {
        return NULL;
    }
    if (has_bin(runs, nr_pages) && align == MM_PAGE_SIZE &&
        (kept = take_kept(runs, nr_pages, align)) != NULL) {
        return kept;
    }
    run = make(runs, nr_pages, align, flags);
    return run != NULL ? (void *)(uintptr_t)mmi_load(&run->words[MMI_RUN_FIRST]) : NULL;
}

/** Give the pages of a run back that is no object and on no list; returns how many. */
static uint64_t release(struct mm_slab_class *runs, struct mmi_slab *run)
{
    uint64_t pages = mmi_load(&run->words[MMI_RUN_FIRST]);
    uint64_t nr_pages = mmi_load(&run->words[MMI_RUN_PAGES]);

    mmi_store(&run->words[MMI_RUN_PAGES], UINT64_C(0));
    mmi_store(&run->words[MMI_RUN_FIRST], UINT64_C(0));
    mmi_store(&run->state, (uint8_t)MMI_SLAB_DEAD);
    mmi_table_set(runs->pool, pages, 1, NULL);
    mmi_list_push(runs->pool, &runs->unused, run);
    mmi_pool_give_back(runs->pool, pages, nr_pages);
    mmi_event(&runs->pool->platform, MM_EVENT_HEAP_SHRINK, runs->owner, pages,
              nr_pages * MM_PAGE_SIZE);
    return nr_pages;
}

/** Take any run out of a bin, and give its pages back; returns how many. */
static uint64_t release_from(struct mm_slab_class *runs, uint64_t nr_pages)
{
    struct mmi_slab *run = mmi_list_pop(runs->pool, bin_of(runs, nr_pages));

    if (run == NULL) {
        return 0;
    }
    mmi_fetch_sub(&runs->nr_kept, (uint32_t)nr_pages);
    return release(runs, run);
}

static uint64_t most_kept(const struct mm_slab_class *runs)
{
    return runs->keeps_all != 0 ? UINT32_MAX : KEPT_MIN + mmi_load(&runs->nr_slabs) / RUNS_PER_KEPT;
}

/** Whether so many more pages may be kept: then they count. */
static bool may_keep(struct mm_slab_class *runs, uint64_t nr_pages)
{
    uint64_t most = most_kept(runs);
    uint32_t seen = mmi_load(&runs->nr_kept);

    do {
        if (seen + nr_pages > most) {
            return false;
        }
    } while (!mmi_cas(&runs->nr_kept, &seen, seen + (uint32_t)nr_pages));
    return true;
}

/** The run is no object any more: keep it, in the place of another one if need be. False: it has to
 * go, and if there are too many by now, one like it has gone too. */
static bool keep(struct mm_slab_class *runs, struct mmi_slab *run)
{
    uint64_t nr_pages = mmi_load(&run->words[MMI_RUN_PAGES]);
    uint64_t any = (mmi_load(&run->words[MMI_RUN_FIRST]) >> MM_PAGE_SHIFT) % MM_HEAP_RUN_BINS + 1;

    if (!has_bin(runs, nr_pages)) {
        return false;
    }
    if (may_keep(runs, nr_pages) || (release_from(runs, any) != 0 && may_keep(runs, nr_pages))) {
        mmi_store(&run->state, (uint8_t)MMI_SLAB_KEPT);
        mmi_list_push(runs->pool, bin_of(runs, nr_pages), run);
        return true;
    }
    if (mmi_load(&runs->nr_kept) > most_kept(runs)) {
        (void)release_from(runs, nr_pages);
    }
    return false;
}

bool mmi_heap_run_free(struct mmi_slab *run, uint64_t address)
{
    struct mm_slab_class *runs = mmi_slab_class(run);

    if (!mmi_cas(&run->base, &address, UINT64_C(0))) {
        return false;
    }
    mmi_store(&run->words[MMI_RUN_ALIGN], UINT64_C(0));
    mmi_fetch_sub(&runs->nr_slabs, UINT64_C(1));
    if (!keep(runs, run)) {
        (void)release(runs, run);
    }
    return true;
}

bool mmi_heap_run_set_aside(struct mm_slab_class *runs, uint64_t nr_pages)
{
    struct mmi_slab *run = make(runs, nr_pages, MM_PAGE_SIZE, 0);

    runs->keeps_all = 1;
    return run != NULL && mmi_heap_run_free(run, mmi_load(&run->words[MMI_RUN_FIRST]));
}

void *mmi_heap_run_take_aside(struct mm_slab_class *runs, uint64_t nr_pages)
{
    return take_kept(runs, nr_pages, MM_PAGE_SIZE);
}

uint64_t mmi_heap_run_reclaim(struct mm_slab_class *runs)
{
    uint64_t sum = 0;

    for (uint64_t nr_pages = 1; has_bin(runs, nr_pages); nr_pages++) {
        uint64_t nr;

        while ((nr = release_from(runs, nr_pages)) != 0) {
            sum += nr;
        }
    }
    return sum;
}

bool mmi_heap_run_grow(struct mmi_slab *run, uint64_t size, uint32_t flags)
{
    struct mm_slab_class *runs = mmi_slab_class(run);
    uint64_t base = mmi_load(&run->base);
    uint64_t had = mmi_load(&run->words[MMI_RUN_PAGES]);
    uint64_t nr_pages = mmi_heap_run_pages(size);

    if (nr_pages <= had) {
        return true;
    }
    if (!mmi_pool_extend(runs->pool, base, had, nr_pages - had, flags)) {
        return false;
    }
    mmi_store(&run->words[MMI_RUN_PAGES], nr_pages);
    mmi_event(&runs->pool->platform, MM_EVENT_HEAP_GROW, runs->owner, base + had * MM_PAGE_SIZE,
              (nr_pages - had) * MM_PAGE_SIZE);
    return true;
}

void mmi_heap_run_shrink(struct mmi_slab *run, uint64_t size)
{
    struct mm_slab_class *runs = mmi_slab_class(run);
    uint64_t base = mmi_load(&run->base);
    uint64_t had = mmi_load(&run->words[MMI_RUN_PAGES]);
    uint64_t nr_pages = mmi_heap_run_pages(size);

    if (nr_pages < had) {
        uint64_t tail = base + nr_pages * MM_PAGE_SIZE;

        mmi_store(&run->words[MMI_RUN_PAGES], nr_pages);
        mmi_pool_give_back(runs->pool, tail, had - nr_pages);
        mmi_event(&runs->pool->platform, MM_EVENT_HEAP_SHRINK, runs->owner, tail,
                  (had - nr_pages) * MM_PAGE_SIZE);
    }
}

void mmi_heap_run_destroy(struct mm_slab_class *runs)
{
    struct mmi_slab *run;

    (void)mmi_heap_run_reclaim(runs);
    run = mmi_slab_of(mmi_load_acquire(&runs->all));
    while (run != NULL) {
        struct mmi_slab *next = mmi_slab_of(run->all_next);

        /* Whoever gets the descriptor next may make slabs of it: no word is to look like objects. */
        for (unsigned w = 0; w < MMI_SLAB_WORDS; w++) {
            mmi_store(&run->words[w], UINT64_C(0));
        }
        mmi_list_push(runs->pool, &runs->pool->slabs, run);
        run = next;
    }
}
