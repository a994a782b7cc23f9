// SPDX-License-Identifier: MIT
/**
 * Runs of whole pages, for objects above 8 KiB or aligned to more than a page.
 *
 * The base in the descriptor is the truth: freeing exchanges it for 0, and only one can. A
 * descriptor that was used again for another run has another base by then; so a double free is told
 * however late it comes.
 */
#include "run.h"

#include "core/base/report.h"

/** More pages than any machine has; a size near SIZE_MAX ends here. */
#define PAGES_MAX (UINT64_C(1) << (MM_PADDR_BITS_MAX - MM_PAGE_SHIFT))

uint64_t mmi_heap_run_pages(uint64_t size)
{
    uint64_t nr_pages = (size >> MM_PAGE_SHIFT) + ((size & MM_PAGE_MASK) != 0 ? 1 : 0);

    return nr_pages == 0 ? 1 : nr_pages;
}

void *mmi_heap_run_alloc(struct mm_slab_class *runs, uint64_t size, uint64_t align, uint32_t flags)
{
    struct mm_pool *pool = runs->pool;
    uint64_t nr_pages = mmi_heap_run_pages(size);
    struct mmi_slab *run;
    uint64_t pages;

    align = align < MM_PAGE_SIZE ? MM_PAGE_SIZE : align;
    if (nr_pages > PAGES_MAX) {
        return NULL;
    }
    run = mmi_class_get_slab(runs, flags);
    if (run == NULL) {
        return NULL;
    }
    pages = mmi_pool_pages(pool, nr_pages, align >> MM_PAGE_SHIFT, flags);
    if (pages != 0 && !mmi_table_reserve(pool, pages, 1, flags)) {
        mmi_pool_free_pages(pool, pages, nr_pages);
        pages = 0;
    }
    if (pages == 0) {
        mmi_list_push(pool, &runs->unused, run);
        return NULL;
    }
    mmi_store(&run->words[MMI_RUN_PAGES], nr_pages);
    mmi_store(&run->words[MMI_RUN_ALIGN], align);
    mmi_store(&run->resized, (uint8_t)0);
    mmi_store_release(&run->base, pages);
    mmi_table_set(pool, pages, 1, run);
    mmi_fetch_add(&runs->nr_slabs, UINT64_C(1));
    mmi_event(&pool->platform, MM_EVENT_HEAP_GROW, runs->owner, pages, nr_pages * MM_PAGE_SIZE);
    return (void *)(uintptr_t)pages;
}

struct mmi_slab *mmi_heap_run_find(const struct mm_slab_class *runs, uint64_t address)
{
    struct mmi_slab *run = mmi_table_find(&runs->pool->table, address);

    if (run == NULL || mmi_slab_class(run) != runs || mmi_load_acquire(&run->base) != address) {
        return NULL;
    }
    return run;
}

bool mmi_heap_run_free(struct mm_slab_class *runs, uint64_t address)
{
    struct mmi_slab *run = mmi_heap_run_find(runs, address);
    uint64_t base = address;
    uint64_t nr_pages;

    if (run == NULL || !mmi_cas(&run->base, &base, UINT64_C(0))) {
        return false;
    }
    nr_pages = mmi_load(&run->words[MMI_RUN_PAGES]);
    mmi_store(&run->words[MMI_RUN_PAGES], UINT64_C(0));
    mmi_store(&run->words[MMI_RUN_ALIGN], UINT64_C(0));
    mmi_table_set(runs->pool, address, 1, NULL);
    mmi_fetch_sub(&runs->nr_slabs, UINT64_C(1));
    mmi_list_push(runs->pool, &runs->unused, run);
    mmi_pool_free_pages(runs->pool, address, nr_pages);
    mmi_event(&runs->pool->platform, MM_EVENT_HEAP_SHRINK, runs->owner, address,
              nr_pages * MM_PAGE_SIZE);
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
        mmi_pool_free_pages(runs->pool, tail, had - nr_pages);
        mmi_event(&runs->pool->platform, MM_EVENT_HEAP_SHRINK, runs->owner, tail,
                  (had - nr_pages) * MM_PAGE_SIZE);
    }
}

void mmi_heap_run_destroy(struct mm_slab_class *runs)
{
    struct mmi_slab *run = mmi_slab_of(mmi_load_acquire(&runs->all));

    while (run != NULL) {
        struct mmi_slab *next = mmi_slab_of(run->all_next);

        mmi_list_push(runs->pool, &runs->pool->slabs, run);
        run = next;
    }
}
