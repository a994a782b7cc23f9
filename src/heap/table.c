// SPDX-License-Identifier: MIT
/**
 * Which caches and heaps a pool has, and the table of them.
 *
 * The list is an array of words, each 0 or the address of a cache or heap with its kind in the
 * lowest bit. The first lie in the pool, more in pages that chain and stay until the pool goes. A
 * word is taken by compare-and-exchange from 0 and given back by a store: nobody waits, and an
 * interrupt handler may do either.
 */
#include "heap.h"

#include "core/base/report.h"

#define CACHE UINT64_C(1)

#define WORDS_PER_PAGE (MM_PAGE_SIZE / 8)

/* --- the list --------------------------------------------------------------------------------- */

static bool put(uint64_t *words, uint64_t nr, uint64_t user)
{
    for (uint64_t i = 0; i < nr; i++) {
        uint64_t none = 0;

        if (mmi_load(&words[i]) == 0 && mmi_cas(&words[i], &none, user)) {
            return true;
        }
    }
    return false;
}

/** The words after these: a page of them, or NULL. */
static uint64_t *next_words(const uint64_t *more)
{
    return (uint64_t *)(uintptr_t)mmi_load_acquire(more);
}

bool mmi_pool_add_user(struct mm_pool *pool, const void *user, bool cache)
{
    uint64_t word = (uint64_t)(uintptr_t)user | (cache ? CACHE : 0);
    uint64_t *more = &pool->more_users;
    bool done = put(pool->users, MM_POOL_USERS_INLINE, word);

    while (!done) {
        uint64_t *page = next_words(more);

        if (page == NULL) {
            uint64_t none = 0;
            uint64_t made = mmi_pool_meta_pages(pool, 1, 0);

            if (made == 0) {
                return false;
            }
            if (!mmi_cas(more, &none, made)) {
                mmi_pool_free_meta_pages(pool, made, 1);
            }
            continue;
        }
        done = put(page + 1, WORDS_PER_PAGE - 1, word);
        more = page;
    }
    mmi_fetch_add(&pool->nr_users, 1u);
    return true;
}

static bool take_out(uint64_t *words, uint64_t nr, uint64_t user)
{
    for (uint64_t i = 0; i < nr; i++) {
        if ((mmi_load(&words[i]) & ~CACHE) == user) {
            mmi_store_release(&words[i], UINT64_C(0));
            return true;
        }
    }
    return false;
}

void mmi_pool_remove_user(struct mm_pool *pool, const void *user)
{
    uint64_t word = (uint64_t)(uintptr_t)user;
    uint64_t *page = next_words(&pool->more_users);
    bool done = take_out(pool->users, MM_POOL_USERS_INLINE, word);

    for (; !done && page != NULL; page = next_words(page)) {
        done = take_out(page + 1, WORDS_PER_PAGE - 1, word);
    }
    mmi_fetch_sub(&pool->nr_users, 1u);
}

void mmi_pool_free_users(struct mm_pool *pool)
{
    uint64_t *page = next_words(&pool->more_users);

    while (page != NULL) {
        uint64_t *next = next_words(page);

        mmi_pool_free_meta_pages(pool, (uint64_t)(uintptr_t)page, 1);
        page = next;
    }
}

/** Of a word of the list: the heap, if the address lies in its window of samples; else NULL. */
static const struct mm_heap_watch *sampler_of(uint64_t word, uint64_t address)
{
    const struct mm_heap *heap = (const struct mm_heap *)(uintptr_t)word;

    return word != 0 && (word & CACHE) == 0 && mmi_is_heap(heap) &&
                   mmi_in_samples(&heap->watch, address)
               ? &heap->watch
               : NULL;
}

const struct mm_heap_watch *mmi_pool_sampler(const struct mm_pool *pool, uint64_t address)
{
    const struct mm_heap_watch *found = NULL;
    const uint64_t *page = next_words(&pool->more_users);

    for (unsigned i = 0; found == NULL && i < MM_POOL_USERS_INLINE; i++) {
        found = sampler_of(mmi_load_acquire(&pool->users[i]), address);
    }
    for (; found == NULL && page != NULL; page = next_words(page)) {
        for (unsigned i = 1; found == NULL && i < WORDS_PER_PAGE; i++) {
            found = sampler_of(mmi_load_acquire(&page[i]), address);
        }
    }
    return found;
}

/* --- the table -------------------------------------------------------------------------------- */

struct table {
    const struct mm_pool *pool;
    mm_heap_line_fn line;
    void *ctx;
    uint64_t nr_kinds;
    struct mmi_class_counts sum;
};

/** Columns end here. */
#define AT_ACTIVE 34u
#define AT_TOTAL  43u
#define AT_USE    49u
#define AT_SIZE   58u
#define AT_A_SLAB 66u
#define AT_SLABS  75u
#define AT_KIB    85u

static void put_right(struct mmi_line *line, size_t end, const char *s, size_t len)
{
    mmi_line_pad(line, end - len);
    mmi_line_str(line, s);
}

static void put_number(struct mmi_line *line, size_t end, uint64_t v)
{
    size_t len = 1;

    for (uint64_t rest = v; rest >= 10; rest /= 10) {
        len++;
    }
    mmi_line_pad(line, end > len ? end - len : 0);
    mmi_line_u64(line, v);
}

static void put_use(struct mmi_line *line, uint64_t active, uint64_t total)
{
    put_number(line, AT_USE - 1, total == 0 ? 0 : active * 100 / total);
    mmi_line_str(line, "%");
}

static void print_titles(const struct table *table)
{
    struct mmi_line line;

    mmi_line_begin(&line);
    mmi_line_str(&line, "name");
    put_right(&line, AT_ACTIVE, "active", 6);
    put_right(&line, AT_TOTAL, "total", 5);
    put_right(&line, AT_USE, "use", 3);
    put_right(&line, AT_SIZE, "size", 4);
    put_right(&line, AT_A_SLAB, "a slab", 6);
    put_right(&line, AT_SLABS, "slabs", 5);
    put_right(&line, AT_KIB, "KiB", 3);
    table->line(table->ctx, line.text, line.len);
}

static void print_class(struct table *table, const struct mm_slab_class *class, bool heap)
{
    struct mmi_class_counts counts;
    struct mmi_line line;
    uint64_t total;

    mmi_class_count(class, &counts);
    if (heap && counts.nr_slabs == 0) {
        return;
    }
    total = counts.nr_objects + counts.nr_free;
    mmi_line_begin(&line);
    mmi_line_str(&line, class->name);
    if (heap && class->size != 0) {
        mmi_line_str(&line, " ");
        mmi_line_u64(&line, class->size);
    } else if (heap) {
        mmi_line_str(&line, " runs");
    }
    put_number(&line, AT_ACTIVE, counts.nr_objects);
    put_number(&line, AT_TOTAL, total);
    put_use(&line, counts.nr_objects, total);
    if (class->size != 0) {
        put_number(&line, AT_SIZE, class->size);
        put_number(&line, AT_A_SLAB, counts.nr_slabs == 0 ? 0 : total / counts.nr_slabs);
        put_number(&line, AT_SLABS, counts.nr_slabs);
    } else {
        put_right(&line, AT_SIZE, "-", 1);
        put_right(&line, AT_A_SLAB, "-", 1);
        put_right(&line, AT_SLABS, "-", 1);
    }
    put_number(&line, AT_KIB, counts.nr_pages * (MM_PAGE_SIZE / 1024));
    table->line(table->ctx, line.text, line.len);
    table->nr_kinds++;
    table->sum.nr_objects += counts.nr_objects;
    table->sum.nr_free += counts.nr_free;
    table->sum.nr_slabs += class->size != 0 ? counts.nr_slabs : 0;
    table->sum.nr_pages += counts.nr_pages;
}

static void print_user(struct table *table, uint64_t word)
{
    const struct mm_heap *heap = (const struct mm_heap *)(uintptr_t)word;

    if (word == 0) {
        return;
    }
    if ((word & CACHE) != 0) {
        const struct mm_cache *cache = (const struct mm_cache *)(uintptr_t)(word & ~CACHE);

        if (mmi_is_cache(cache)) {
            print_class(table, &cache->objects, false);
        }
        return;
    }
    if (!mmi_is_heap(heap)) {
        return; /* it is being made */
    }
    for (unsigned i = 0; i < MM_HEAP_NR_CLASSES && heap->pool == table->pool; i++) {
        print_class(table, &heap->classes[i], true);
    }
    for (unsigned i = 0; i < MMI_HEAP_RUN_CLASSES; i++) {
        const struct mm_slab_class *runs = mmi_heap_runs(heap, i);

        if (runs != NULL && runs->pool == table->pool) {
            print_class(table, runs, true);
        }
    }
}

static void print_totals(const struct table *table)
{
    const struct mmi_class_counts *sum = &table->sum;
    struct mmi_line line;

    mmi_line_begin(&line);
    mmi_line_u64(&line, table->nr_kinds);
    mmi_line_str(&line, " kinds");
    put_number(&line, AT_ACTIVE, sum->nr_objects);
    put_number(&line, AT_TOTAL, sum->nr_objects + sum->nr_free);
    put_use(&line, sum->nr_objects, sum->nr_objects + sum->nr_free);
    put_number(&line, AT_SLABS, sum->nr_slabs);
    put_number(&line, AT_KIB, sum->nr_pages * (MM_PAGE_SIZE / 1024));
    table->line(table->ctx, line.text, line.len);
}

mm_status_t mm_pool_table(const struct mm_pool *pool, mm_heap_line_fn line, void *ctx)
{
    struct table table = {.pool = pool, .line = line, .ctx = ctx};
    const uint64_t *page;

    if (pool == NULL || line == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (!mmi_is_pool(pool)) {
        return MM_ERR_NOT_INITIALIZED;
    }
    print_titles(&table);
    for (unsigned i = 0; i < MM_POOL_USERS_INLINE; i++) {
        print_user(&table, mmi_load_acquire(&pool->users[i]));
    }
    for (page = next_words(&pool->more_users); page != NULL; page = next_words(page)) {
        for (unsigned i = 1; i < WORDS_PER_PAGE; i++) {
            print_user(&table, mmi_load_acquire(&page[i]));
        }
    }
    print_totals(&table);
    return MM_OK;
}
