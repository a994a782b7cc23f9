// SPDX-License-Identifier: MIT
/**
 * Pools: pages and descriptors from a page source, and the table from an address to its slab.
 *
 * The table is a radix tree over the page's index in the window of the source. The root is sized so
 * that it has at most 4096 entries; every node below is one page, taken when it is first needed:
 *
 *     window        levels below the root
 *     to 128 KiB    none: the root is the leaf
 *     to 8 GiB      1
 *     to 4 TiB      2     and so on, 9 bits a level
 *
 * Nodes and descriptors, once made, stay until the pool is destroyed: so they may be read at any
 * time without a lock. Nobody waits for anybody: who finds a node missing makes one, and who comes
 * second gives his back.
 *
 * Lists of descriptors are stacks. A head holds the index of the first descriptor, counted in units
 * of descriptors from the window's base, and a tag in the bits above, which changes with every push
 * and pop: so a pop that was overtaken fails even if the same descriptor is on top again. The tag
 * has 64 bits less those of the index: 37 for 8 GiB, 24 for 64 TiB.
 */
#include "watch.h"

#include "core/base/mem.h"

/** Entries of a root of several pages: 32 KiB. */
#define ROOT_MAX UINT64_C(4096)

#define ENTRIES_PER_PAGE (MM_PAGE_SIZE / 8)
#define SLABS_PER_PAGE   (MM_PAGE_SIZE / sizeof(struct mmi_slab))
#define LEVELS_MAX       6u

/** 2^52 bytes: what physical addresses can have. */
#define WINDOW_MAX (UINT64_C(1) << MM_PADDR_BITS_MAX)

/* --- pages ------------------------------------------------------------------------------------ */

uint64_t mmi_pool_pages(struct mm_pool *pool, uint64_t nr_pages, uint64_t align, uint32_t flags)
{
    void *pages = NULL;
    uint64_t address;

    if (pool->source.ops->alloc(pool->source.ctx, nr_pages, align, flags, &pages) != MM_OK) {
        return 0;
    }
    address = (uint64_t)(uintptr_t)pages;
    /* The source is the kernel's: what breaks its own promise is not used. */
    if (!mm_is_aligned(address, align * MM_PAGE_SIZE) ||
        !mm_range_covers(pool->table.base, pool->table.len, address, nr_pages * MM_PAGE_SIZE)) {
        pool->source.ops->free(pool->source.ctx, pages, nr_pages);
        return 0;
    }
    return address;
}

void mmi_pool_free_pages(struct mm_pool *pool, uint64_t pages, uint64_t nr_pages)
{
    pool->source.ops->free(pool->source.ctx, (void *)(uintptr_t)pages, nr_pages);
}

void mmi_pool_give_back(struct mm_pool *pool, uint64_t pages, uint64_t nr_pages)
{
    mmi_pool_free_pages(pool, pages, nr_pages);
    mmi_fetch_add(&pool->nr_given, UINT64_C(1));
}

bool mmi_pool_extend(struct mm_pool *pool, uint64_t pages, uint64_t nr_pages, uint64_t more,
                     uint32_t flags)
{
    const struct mm_page_source *source = &pool->source;

    return source->ops->extend != NULL &&
           mm_range_covers(pool->table.base, pool->table.len, pages, nr_pages * MM_PAGE_SIZE) &&
           more <= (pool->table.base + pool->table.len - pages) / MM_PAGE_SIZE - nr_pages &&
           source->ops->extend(source->ctx, (void *)(uintptr_t)pages, nr_pages, more, flags) ==
               MM_OK;
}

uint64_t mmi_pool_meta_pages(struct mm_pool *pool, uint64_t nr_pages, uint32_t flags)
{
    uint64_t pages = mmi_pool_pages(pool, nr_pages, 1, flags);

    if (pages != 0) {
        memset((void *)(uintptr_t)pages, 0, nr_pages * MM_PAGE_SIZE);
        mmi_fetch_add(&pool->nr_meta_pages, nr_pages);
    }
    return pages;
}

void mmi_pool_free_meta_pages(struct mm_pool *pool, uint64_t pages, uint64_t nr_pages)
{
    mmi_fetch_sub(&pool->nr_meta_pages, nr_pages);
    mmi_pool_free_pages(pool, pages, nr_pages);
}

/* --- lists ------------------------------------------------------------------------------------ */

static uint64_t index_of(const struct mm_pool *pool, const struct mmi_slab *slab)
{
    return ((uint64_t)(uintptr_t)slab - pool->table.base) / sizeof(struct mmi_slab) + 1;
}

static struct mmi_slab *slab_at(const struct mm_pool *pool, uint64_t index)
{
    return index == 0 ? NULL
                      : mmi_slab_of(pool->table.base + (index - 1) * sizeof(struct mmi_slab));
}

static uint64_t index_part(const struct mm_pool *pool, uint64_t head)
{
    return head & ((UINT64_C(1) << pool->slab_bits) - 1);
}

static uint64_t next_tag(const struct mm_pool *pool, uint64_t head)
{
    return ((head >> pool->slab_bits) + 1) << pool->slab_bits;
}

/** From `first` by `next` to `last`, all at once. */
static void push_chain(const struct mm_pool *pool, uint64_t *head, struct mmi_slab *first,
                       struct mmi_slab *last)
{
    uint64_t seen = mmi_load_acquire(head);

    do {
        mmi_store(&last->next, index_part(pool, seen));
    } while (!mmi_cas_seq(head, &seen, next_tag(pool, seen) | index_of(pool, first)));
}

void mmi_list_push(const struct mm_pool *pool, uint64_t *head, struct mmi_slab *slab)
{
    push_chain(pool, head, slab, slab);
}

struct mmi_slab *mmi_list_pop(const struct mm_pool *pool, uint64_t *head)
{
    uint64_t seen = mmi_load_acquire(head);

    for (;;) {
        struct mmi_slab *slab = slab_at(pool, index_part(pool, seen));

        /* The descriptor may be on another list by now; then the tag is another too. */
        if (slab == NULL || mmi_cas(head, &seen, next_tag(pool, seen) | mmi_load(&slab->next))) {
            return slab;
        }
    }
}

struct mmi_slab *mmi_list_first(const struct mm_pool *pool, const uint64_t *head)
{
    return slab_at(pool, index_part(pool, mmi_load_seq(head)));
}

struct mmi_slab *mmi_list_next(const struct mm_pool *pool, const struct mmi_slab *slab)
{
    return slab_at(pool, mmi_load(&slab->next));
}

struct mmi_slab *mmi_pool_get_slab(struct mm_pool *pool, uint32_t flags)
{
    struct mmi_slab *slab = mmi_list_pop(pool, &pool->slabs);
    uint64_t page;
    uint64_t seen;

    if (slab != NULL) {
        return slab;
    }
    page = mmi_pool_meta_pages(pool, 1, flags);
    if (page == 0) {
        return NULL;
    }
    /* The first descriptor of a page is spent to chain the pages. */
    slab = mmi_slab_of(page);
    seen = mmi_load(&pool->slab_pages);
    do {
        mmi_store(&slab->all_next, seen);
    } while (!mmi_cas(&pool->slab_pages, &seen, page));
    for (size_t i = 2; i < SLABS_PER_PAGE - 1; i++) {
        mmi_store(&slab[i].next, index_of(pool, &slab[i + 1]));
    }
    push_chain(pool, &pool->slabs, &slab[2], &slab[SLABS_PER_PAGE - 1]);
    return &slab[1];
}

/* --- the table -------------------------------------------------------------------------------- */

uint64_t *mmi_table_entry(struct mm_pool *pool, const struct mm_slab_table *table, uint64_t address,
                          uint32_t flags)
{
    uint64_t index = (address - table->base) >> MM_PAGE_SHIFT;
    unsigned shift = table->shift;
    uint64_t *entry = &table->root[index >> shift];

    while (shift != 0) {
        uint64_t node = mmi_load_acquire(entry);

        if (node == 0) {
            uint64_t made = mmi_pool_meta_pages(pool, 1, flags);

            if (made == 0) {
                return NULL;
            }
            if (mmi_cas(entry, &node, made)) {
                node = made;
            } else {
                mmi_pool_free_meta_pages(pool, made, 1);
            }
        }
        shift -= MMI_TABLE_BITS;
        entry = (uint64_t *)(uintptr_t)node + ((index >> shift) & MMI_TABLE_MASK);
    }
    return entry;
}

bool mmi_table_reserve(struct mm_pool *pool, uint64_t address, uint64_t nr_pages, uint32_t flags)
{
    /* Slabs are shorter than what a leaf covers, and runs have one entry: two leaves at most. */
    return mmi_table_entry(pool, &pool->table, address, flags) != NULL &&
           mmi_table_entry(pool, &pool->table, address + (nr_pages - 1) * MM_PAGE_SIZE, flags) !=
               NULL;
}

void mmi_table_set(struct mm_pool *pool, uint64_t address, uint64_t nr_pages, struct mmi_slab *slab)
{
    for (uint64_t i = 0; i < nr_pages; i++) {
        /* It is there: reserved. */
        uint64_t *entry = mmi_table_entry(pool, &pool->table, address + i * MM_PAGE_SIZE, 0);

        mmi_store_release(entry, (uint64_t)(uintptr_t)slab);
    }
}

static uint64_t root_entries(uint64_t len, unsigned shift)
{
    return ((((len >> MM_PAGE_SHIFT) - 1) >> shift)) + 1;
}

bool mmi_table_init(struct mm_pool *pool, struct mm_slab_table *table, uint64_t *root_inline,
                    uint64_t *root_pages)
{
    unsigned shift = 0;
    uint64_t nr;

    if (root_entries(table->len, 0) > MM_POOL_ROOT_INLINE) {
        do {
            shift += MMI_TABLE_BITS;
        } while (root_entries(table->len, shift) > ROOT_MAX);
    }
    nr = root_entries(table->len, shift);
    table->shift = shift;
    table->root = root_inline;
    if (nr > MM_POOL_ROOT_INLINE) {
        uint64_t nr_pages = (nr + ENTRIES_PER_PAGE - 1) / ENTRIES_PER_PAGE;
        uint64_t pages = mmi_pool_meta_pages(pool, nr_pages, 0);

        if (pages == 0) {
            return false;
        }
        table->root = (uint64_t *)(uintptr_t)pages;
        *root_pages = nr_pages;
    }
    return true;
}

/** Free all nodes below the root, children first; `path` is the way from the root down. */
static void free_nodes(struct mm_pool *pool, const struct mm_slab_table *table)
{
    uint64_t *path[LEVELS_MAX];
    uint64_t at[LEVELS_MAX];
    uint64_t nr_root = root_entries(table->len, table->shift);
    unsigned levels = table->shift / MMI_TABLE_BITS;
    unsigned depth = 0;

    if (levels == 0) {
        return;
    }
    path[0] = table->root;
    at[0] = 0;
    for (;;) {
        if (at[depth] == (depth == 0 ? nr_root : ENTRIES_PER_PAGE)) {
            if (depth == 0) {
                break;
            }
            mmi_pool_free_meta_pages(pool, (uint64_t)(uintptr_t)path[depth], 1);
            depth--;
            continue;
        }
        uint64_t node = path[depth][at[depth]++];

        if (node == 0) {
            continue;
        }
        if (depth + 1 == levels) {
            mmi_pool_free_meta_pages(pool, node, 1);
        } else {
            depth++;
            path[depth] = (uint64_t *)(uintptr_t)node;
            at[depth] = 0;
        }
    }
}

void mmi_table_destroy(struct mm_pool *pool, const struct mm_slab_table *table, uint64_t root_pages)
{
    free_nodes(pool, table);
    if (root_pages != 0) {
        mmi_pool_free_meta_pages(pool, (uint64_t)(uintptr_t)table->root, root_pages);
    }
}

/* --- the pool --------------------------------------------------------------------------------- */

static mm_status_t check_config(const struct mm_pool_config *config)
{
    const struct mm_page_source *source = &config->source;

    if (source->ops == NULL || source->ops->alloc == NULL || source->ops->free == NULL ||
        config->nr_cpus == 0 || config->nr_cpus > MM_MAX_CPUS) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (config->flags != 0) {
        return MM_ERR_INVALID_FLAGS;
    }
    if (!mm_is_aligned(source->base, MM_PAGE_SIZE) || !mm_is_aligned(source->len, MM_PAGE_SIZE)) {
        return MM_ERR_NOT_ALIGNED;
    }
    if (source->len == 0 || source->len > WINDOW_MAX || !mm_range_fits(source->base, source->len)) {
        return MM_ERR_INVALID_SIZE;
    }
    return MM_OK;
}

mm_status_t mm_pool_init(struct mm_pool *pool, const struct mm_pool_config *config)
{
    mm_status_t status;

    if (pool == NULL || config == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (mmi_is_pool(pool)) {
        return MM_ERR_ALREADY_INITIALIZED;
    }
    status = check_config(config);
    if (status != MM_OK) {
        return status;
    }
    memset(pool, 0, sizeof(*pool));
    pool->source = config->source;
    pool->platform = config->platform;
    pool->nr_cpus = config->nr_cpus;
    pool->slab_bits = mmi_log2_up(config->source.len / sizeof(struct mmi_slab) + 1);
    pool->table.base = config->source.base;
    pool->table.len = config->source.len;
    if (!mmi_table_init(pool, &pool->table, pool->root_inline, &pool->root_pages)) {
        memset(pool, 0, sizeof(*pool));
        return MM_ERR_NO_MEMORY;
    }
    pool->magic = MMI_POOL_MAGIC;
    return MM_OK;
}

mm_status_t mm_pool_destroy(struct mm_pool *pool)
{
    uint64_t page;

    if (pool == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (!mmi_is_pool(pool)) {
        return MM_ERR_NOT_INITIALIZED;
    }
    if (mmi_load(&pool->nr_users) != 0) {
        return MM_ERR_BUSY;
    }
    mmi_table_destroy(pool, &pool->table, pool->root_pages);
    mmi_pool_free_users(pool);
    page = pool->slab_pages;
    while (page != 0) {
        uint64_t next = mmi_slab_of(page)->all_next;

        mmi_pool_free_meta_pages(pool, page, 1);
        page = next;
    }
    memset(pool, 0, sizeof(*pool));
    return MM_OK;
}

mm_status_t mm_pool_get_stats(const struct mm_pool *pool, struct mm_pool_stats *out)
{
    if (pool == NULL || out == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (!mmi_is_pool(pool)) {
        return MM_ERR_NOT_INITIALIZED;
    }
    *out = (struct mm_pool_stats){.nr_meta_pages = mmi_load(&pool->nr_meta_pages),
                                  .nr_users = mmi_load(&pool->nr_users)};
    return MM_OK;
}
