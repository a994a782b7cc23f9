// SPDX-License-Identifier: MIT
/**
 * Object caches: one class of slabs each. The work is done in slab.c; here are the calls.
 */
#include "slab.h"

#include "core/base/mem.h"
#include "core/base/report.h"

/** Words from one CPU's hint to the next: no two CPUs share a line. */
#define STRIDE (MM_CACHE_LINE / 8u)

static bool is_cache(const struct mm_cache *cache)
{
    return cache != NULL && cache->magic == MMI_CACHE_MAGIC;
}

static uint64_t hint_pages(uint32_t nr_cpus)
{
    return ((uint64_t)nr_cpus * MM_CACHE_LINE + MM_PAGE_MASK) >> MM_PAGE_SHIFT;
}

/** Bytes from object to object: at least 16, and a multiple of the alignment. */
static mm_status_t stride_of(const struct mm_cache_config *config, uint32_t *out)
{
    uint64_t align = config->align < 16 ? 16 : config->align;

    if (config->align != 0 && (!mm_is_pow2(config->align) || config->align > MM_CACHE_MAX_ALIGN)) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (config->size == 0 || config->size > MM_CACHE_MAX_SIZE) {
        return MM_ERR_INVALID_SIZE;
    }
    *out = (uint32_t)mm_align_down(config->size + align - 1, align);
    return MM_OK;
}

mm_status_t mm_cache_init(struct mm_cache *cache, struct mm_pool *pool,
                          const struct mm_cache_config *config)
{
    struct mmi_class_config objects = {.pool = pool, .owner = cache, .stride = STRIDE};
    mm_status_t status;
    uint64_t pages = 0;

    if (cache == NULL || pool == NULL || config == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (is_cache(cache)) {
        return MM_ERR_ALREADY_INITIALIZED;
    }
    if (pool->magic != MMI_POOL_MAGIC) {
        return MM_ERR_NOT_INITIALIZED;
    }
    if (config->flags != 0) {
        return MM_ERR_INVALID_FLAGS;
    }
    status = stride_of(config, &objects.size);
    if (status != MM_OK) {
        return status;
    }
    if (pool->nr_cpus > MM_CACHE_CPUS_INLINE) {
        pages = mmi_pool_meta_pages(pool, hint_pages(pool->nr_cpus), 0);
        if (pages == 0) {
            return MM_ERR_NO_MEMORY;
        }
    }
    memset(cache, 0, sizeof(*cache));
    objects.name = config->name != NULL ? config->name : "cache";
    objects.construct = config->construct;
    objects.ctx = config->ctx;
    objects.nr_cpus = pool->nr_cpus;
    objects.hints = pages != 0 ? (uint64_t *)(uintptr_t)pages : cache->hints_inline;
    objects.owned = objects.hints + 1;
    mmi_class_init(&cache->objects, &objects);
    cache->hint_pages = pages;
    cache->table = pool->table;
    cache->nr_cpus = pool->nr_cpus;
    cache->magic = MMI_CACHE_MAGIC;
    mmi_fetch_add(&pool->nr_users, 1u);
    return MM_OK;
}

mm_status_t mm_cache_destroy(struct mm_cache *cache)
{
    struct mmi_class_counts counts;
    struct mm_pool *pool;

    if (cache == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (!is_cache(cache)) {
        return MM_ERR_NOT_INITIALIZED;
    }
    mmi_class_count(&cache->objects, &counts);
    if (counts.nr_objects != 0) {
        mmi_class_leak(&cache->objects, counts.nr_objects);
        return MM_ERR_BUSY;
    }
    pool = cache->objects.pool;
    mmi_class_destroy(&cache->objects);
    if (cache->hint_pages != 0) {
        mmi_pool_free_meta_pages(pool, cache->hint_pages, hint_pages(cache->nr_cpus));
    }
    memset(cache, 0, sizeof(*cache));
    mmi_fetch_sub(&pool->nr_users, 1u);
    return MM_OK;
}

MMI_NOINLINE static void *alloc_slow(struct mm_cache *cache, uint32_t cpu)
{
    void *object = NULL;

    if (is_cache(cache)) {
        object = mmi_class_alloc(&cache->objects, cpu % cache->nr_cpus, 0);
        if (object == NULL) {
            mmi_fetch_add(&cache->nr_failed, UINT64_C(1));
        }
    }
    return object;
}

void *mm_cache_alloc_on(struct mm_cache *cache, uint32_t cpu)
{
    if (cache != NULL && cpu < cache->nr_cpus) {
        void *object;

        if (mmi_slab_alloc(&cache->objects.hints[(size_t)cpu * STRIDE], &object)) {
            return object;
        }
    }
    return alloc_slow(cache, cpu);
}

void *mm_cache_alloc(struct mm_cache *cache)
{
    if (!is_cache(cache)) {
        return NULL;
    }
    return mm_cache_alloc_on(cache, mmi_cpu_number(&cache->objects.pool->platform));
}

/** What the hot path leaves: nothing to free, or a panic. */
MMI_NOINLINE static void free_slow(const struct mm_cache *cache, uint64_t address)
{
    struct mmi_misuse misuse = {0};

    if (address == 0) {
        return;
    }
    if (is_cache(cache)) {
        misuse = (struct mmi_misuse){.pool = cache->objects.pool,
                                     .name = cache->objects.name,
                                     .table = &cache->table,
                                     .classes = &cache->objects,
                                     .classes_len = sizeof(cache->objects)};
    }
    mmi_slab_panic(&misuse, address);
}

/** The bits that a wrong free has set are as they were; then it is told. */
MMI_NOINLINE static void free_wrong(const struct mm_cache *cache, uint64_t address, uint64_t *word,
                                    uint32_t bits)
{
    mmi_slab_unfree(word, bits);
    free_slow(cache, address);
}

/** Free the object with this index of a slab of ours. */
MMI_INLINE void free_index(const struct mm_cache *cache, uint64_t address,
                           const struct mmi_found *found, unsigned index)
{
    uint64_t *word = &found->slab->words[index / MMI_SLAB_WORD_BITS];
    uint32_t now = 0;
    enum mmi_freed freed = mmi_slab_free(found, word, mmi_slab_bit(index), &now);

    if (MMI_UNLIKELY(freed == MMI_FREED_WRONG)) {
        free_wrong(cache, address, word, now);
    } else if (freed == MMI_FREED_LOOK) {
        mmi_slab_freed(found->slab, word, now);
    }
}

void mm_cache_free(struct mm_cache *cache, void *object)
{
    uint64_t address = (uint64_t)(uintptr_t)object;
    struct mmi_found found;
    unsigned index;

    if (cache != NULL &&
        mmi_slab_find(&cache->table, &cache->objects, sizeof(cache->objects), address, &found) &&
        mmi_slab_index(&found, &index)) {
        free_index(cache, address, &found, index);
    } else {
        free_slow(cache, address);
    }
}

void mm_cache_free_on(struct mm_cache *cache, uint32_t cpu, void *object)
{
    uint64_t address = (uint64_t)(uintptr_t)object;
    struct mmi_found found;
    unsigned index;

    if (cache != NULL && cpu < cache->nr_cpus &&
        mmi_slab_find(&cache->table, &cache->objects, sizeof(cache->objects), address, &found) &&
        mmi_slab_index(&found, &index)) {
        mmi_slab_hint_freed(&cache->objects.hints[(size_t)cpu * STRIDE], found.slab,
                            index / MMI_SLAB_WORD_BITS, cpu);
        free_index(cache, address, &found, index);
    } else {
        mm_cache_free(cache, object);
    }
}

/* --- many at once ------------------------------------------------------------------------------ */

/** Claim up to `nr` objects of the hint's word; returns how many. */
static uint64_t take_word(const uint64_t *hint_at, uint64_t nr, void **objects)
{
    uint64_t hint = mmi_load_acquire(hint_at);
    const struct mmi_slab *slab = mmi_hint_slab(hint);
    uint64_t *word = (uint64_t *)(uintptr_t)hint;
    uint64_t taken;
    uint64_t first;
    uint64_t seen;
    uint64_t left;
    uint32_t size;

    if (hint == 0) {
        return 0;
    }
    seen = mmi_load_acquire(word);
    do {
        left = seen;
        size = mmi_load(&slab->size);
        first = mmi_load(&slab->base) + mmi_hint_index(hint) * size;
        for (taken = 0; taken < nr && (uint32_t)left != 0; taken++) {
            left &= left - 1;
        }
        if (taken == 0) {
            return 0;
        }
    } while (!mmi_cas(word, &seen, left));
    for (uint64_t bits = seen & ~left; bits != 0; bits &= bits - 1) {
        *objects++ = (void *)(uintptr_t)(first + (uint64_t)mmi_ctz(bits) * size);
    }
    return taken;
}

uint64_t mm_cache_alloc_bulk(struct mm_cache *cache, uint32_t cpu, uint64_t nr, void **objects)
{
    const uint64_t *hint_at;
    uint64_t done = 0;

    if (!is_cache(cache) || objects == NULL) {
        return 0;
    }
    cpu %= cache->nr_cpus;
    hint_at = &cache->objects.hints[(size_t)cpu * STRIDE];
    while (done < nr) {
        uint64_t taken = take_word(hint_at, nr - done, &objects[done]);

        if (taken == 0) {
            void *object = alloc_slow(cache, cpu); /* and a word for those that follow */

            if (object == NULL) {
                break;
            }
            objects[done] = object;
            taken = 1;
        }
        done += taken;
    }
    return done;
}

/** One of them is free: find out which, and panic there. */
MMI_NOINLINE static void free_one_by_one(struct mm_cache *cache, uint64_t nr, void *const *objects)
{
    for (uint64_t i = 0; i < nr; i++) {
        mm_cache_free(cache, objects[i]);
    }
}

/** Where an address lies: in the slab of the one before, or in another. */
static bool find_near(const struct mm_cache *cache, uint64_t address, struct mmi_found *found)
{
    return (found->slab != NULL && mmi_slab_guess(found->slab, address, found)) ||
           mmi_slab_find(&cache->table, &cache->objects, sizeof(cache->objects), address, found);
}

void mm_cache_free_bulk(struct mm_cache *cache, uint64_t nr, void *const *objects)
{
    struct mmi_found found = {0};
    uint64_t i = 0;

    while (i < nr) {
        uint64_t address = (uint64_t)(uintptr_t)objects[i];
        uint32_t bits = 0;
        unsigned word = 0;
        uint32_t now = 0;
        uint64_t nr_here = 0;
        unsigned index;

        if (address == 0) {
            i++;
            continue;
        }
        /* As many as follow each other in one word of one slab in one life. */
        while (i + nr_here < nr) {
            uint64_t next = (uint64_t)(uintptr_t)objects[i + nr_here];
            struct mmi_found there = found;

            if (!(cache != NULL && next != 0 && find_near(cache, next, &there) &&
                  mmi_slab_index(&there, &index))) {
                break;
            }
            if (nr_here == 0) {
                found = there;
                word = index / MMI_SLAB_WORD_BITS;
            } else if (there.slab != found.slab || there.life != found.life ||
                       index / MMI_SLAB_WORD_BITS != word || (bits & mmi_slab_bit(index)) != 0) {
                break;
            }
            bits |= mmi_slab_bit(index);
            nr_here++;
        }
        if (nr_here == 0) {
            free_slow(cache, address);
        }
        switch (mmi_slab_free(&found, &found.slab->words[word], bits, &now)) {
        case MMI_FREED_WRONG:
            mmi_slab_unfree(&found.slab->words[word], now);
            free_one_by_one(cache, nr_here, &objects[i]);
            break;
        case MMI_FREED_LOOK:
            mmi_slab_freed(found.slab, &found.slab->words[word], now);
            break;
        case MMI_FREED:
            break;
        }
        i += nr_here;
    }
}

uint64_t mm_cache_reclaim(struct mm_cache *cache)
{
    return is_cache(cache) ? mmi_class_reclaim(&cache->objects) : 0;
}

mm_status_t mm_cache_get_stats(const struct mm_cache *cache, struct mm_cache_stats *out)
{
    struct mmi_class_counts counts;

    if (cache == NULL || out == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (!is_cache(cache)) {
        return MM_ERR_NOT_INITIALIZED;
    }
    mmi_class_count(&cache->objects, &counts);
    *out = (struct mm_cache_stats){.object_size = cache->objects.size,
                                   .nr_objects = counts.nr_objects,
                                   .nr_free = counts.nr_free,
                                   .nr_slabs = counts.nr_slabs,
                                   .nr_empty_slabs = counts.nr_empty_slabs,
                                   .slab_bytes = counts.nr_pages * MM_PAGE_SIZE,
                                   .nr_failed = mmi_load(&cache->nr_failed)};
    return MM_OK;
}

mm_status_t mm_cache_check(const struct mm_cache *cache)
{
    if (cache == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (!is_cache(cache)) {
        return MM_ERR_NOT_INITIALIZED;
    }
    return mmi_class_check(&cache->objects) ? MM_OK : MM_ERR_CORRUPTED;
}
