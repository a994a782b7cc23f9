// SPDX-License-Identifier: MIT
/**
 * Object caches: one class of slabs each. The work is done in slab.c; here are the calls.
 */
#include "watch.h"

#include "core/base/mem.h"
#include "core/base/report.h"

/** Words from one CPU's hint to the next: no two CPUs share a line. */
#define STRIDE (MM_CACHE_LINE / 8u)

static uint64_t hint_pages(uint32_t nr_cpus)
{
    return ((uint64_t)nr_cpus * MM_CACHE_LINE + MM_PAGE_MASK) >> MM_PAGE_SHIFT;
}

/** Bytes from object to object: at least 16, and a multiple of the alignment. Fences and poison want 16
 * of it, and who asks for none gets what any object can lie on. */
static mm_status_t stride_of(const struct mm_cache_config *config, uint32_t *out)
{
    uint64_t least = config->align == 0 || config->tier == MM_HEAP_HARDENED ? 16 : 8;
    uint64_t align = config->align < least ? least : config->align;

    if (config->align != 0 && (!mm_is_pow2(config->align) || config->align > MM_CACHE_MAX_ALIGN)) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (config->size == 0 || config->size > MM_CACHE_MAX_SIZE) {
        return MM_ERR_INVALID_SIZE;
    }
    *out = config->tier == MM_HEAP_HARDENED ? (uint32_t)MMI_FENCE : 0;
    *out = (uint32_t)mm_align_down(config->size + *out + align - 1, align);
    *out = *out < 16 ? 16 : *out;
    return MM_OK;
}

/** All that can fail: the pages of the hints, those of the watch, the place in the pool's list. */
static mm_status_t take_pages(const struct mm_cache *cache, const struct mmi_watch_config *looks,
                              struct mm_heap_watch *watch, uint64_t *pages)
{
    struct mm_pool *pool = looks->pool;
    bool many = pool->nr_cpus > MM_CACHE_CPUS_INLINE;

    *pages = many ? mmi_pool_meta_pages(pool, hint_pages(pool->nr_cpus), 0) : 0;
    if (many && *pages == 0) {
        return MM_ERR_NO_MEMORY;
    }
    if (mmi_watch_init(watch, looks) == MM_OK) {
        if (mmi_pool_add_user(pool, cache, true)) {
            return MM_OK;
        }
        mmi_watch_destroy(watch);
    }
    if (many) {
        mmi_pool_free_meta_pages(pool, *pages, hint_pages(pool->nr_cpus));
    }
    return MM_ERR_NO_MEMORY;
}

mm_status_t mm_cache_init(struct mm_cache *cache, struct mm_pool *pool,
                          const struct mm_cache_config *config)
{
    struct mmi_class_config objects = {.pool = pool, .owner = cache, .stride = STRIDE};
    struct mmi_watch_config looks;
    struct mm_heap_watch watch;
    mm_status_t status;
    uint64_t pages = 0;

    if (cache == NULL || pool == NULL || config == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (mmi_is_cache(cache)) {
        return MM_ERR_ALREADY_INITIALIZED;
    }
    if (!mmi_is_pool(pool)) {
        return MM_ERR_NOT_INITIALIZED;
    }
    objects.name = config->name != NULL ? config->name : "cache";
    looks = (struct mmi_watch_config){.pool = pool,
                                      .owner = cache,
                                      .name = objects.name,
                                      .tier = config->tier,
                                      .flags = config->flags,
                                      .quarantine = config->quarantine,
                                      .report = config->report,
                                      .ctx = config->report_ctx};
    status = mmi_watch_check(&looks);
    status = status == MM_OK ? stride_of(config, &objects.size) : status;
    if (status == MM_OK && config->tier == MM_HEAP_HARDENED && config->construct != NULL) {
        status = MM_ERR_UNSUPPORTED;
    }
    if (status != MM_OK) {
        return status;
    }
    status = take_pages(cache, &looks, &watch, &pages);
    if (status != MM_OK) {
        return status;
    }
    memset(cache, 0, sizeof(*cache));
    cache->watch = watch;
    cache->size = config->size;
    objects.watch = mmi_is_watched(&watch) ? &cache->watch : NULL;
    objects.lead = mmi_is_hardened(&watch) ? mmi_slab_align(objects.size) : 0;
    objects.construct = config->construct;
    objects.ctx = config->ctx;
    objects.nr_cpus = pool->nr_cpus;
    objects.hints =
        pages != 0 ? (uint64_t *)(uintptr_t)pages : mmi_hints_inline(cache->hints_inline);
    objects.owned = objects.hints + 1;
    objects.own = objects.hints + 2;
    mmi_class_init(&cache->objects, &objects);
    cache->hint_pages = pages;
    if (!mmi_is_watched(&watch)) {
        cache->table = pool->table;
        cache->nr_cpus = pool->nr_cpus;
    }
    mmi_store_release(&cache->magic, MMI_CACHE_MAGIC);
    return MM_OK;
}

mm_status_t mm_cache_destroy(struct mm_cache *cache)
{
    struct mmi_class_counts counts;
    uint64_t nr_pages = 0;
    struct mm_pool *pool;

    if (cache == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (!mmi_is_cache(cache)) {
        return MM_ERR_NOT_INITIALIZED;
    }
    mmi_class_count(&cache->objects, &counts);
    if (counts.nr_objects != 0) {
        mmi_class_leak(&cache->objects, counts.nr_objects);
        return MM_ERR_BUSY;
    }
    pool = cache->objects.pool;
    (void)mmi_quarantine_drain(&cache->watch, &nr_pages);
    mmi_class_destroy(&cache->objects);
    if (cache->hint_pages != 0) {
        mmi_pool_free_meta_pages(pool, cache->hint_pages, hint_pages(pool->nr_cpus));
    }
    mmi_watch_destroy(&cache->watch);
    mmi_pool_remove_user(pool, cache);
    memset(cache, 0, sizeof(*cache));
    return MM_OK;
}

/** The long way: see watch.h. */
static void *alloc_watched(struct mm_cache *cache, uint32_t cpu, uint32_t flags, uint64_t caller)
{
    struct mm_heap_watch *watch = &cache->watch;
    const uint64_t *hint_at;
    bool hardened = mmi_is_hardened(watch);
    uint64_t nr_pages = 0;
    void *object;

    cpu %= watch->nr_cpus;
    hint_at = &cache->objects.hints[(size_t)cpu * STRIDE];
    if (hardened ? !mmi_watch_claim(watch, mmi_load_acquire(hint_at), &object)
                 : !mmi_slab_alloc(hint_at, &object)) {
        object = NULL;
        for (unsigned turn = 0; turn < MMI_TURNS && object == NULL; turn++) {
            uint64_t nr_drains = mmi_load_acquire(&watch->nr_drains);

            object = mmi_class_alloc(&cache->objects, cpu, flags);
            if (object == NULL && mmi_quarantine_drain(watch, &nr_pages) == 0 &&
                nr_drains == mmi_load_acquire(&watch->nr_drains)) {
                break;
            }
        }
        if (object != NULL && hardened) {
            object = mmi_watch_shuffle(watch, object);
        }
    }
    if (object != NULL) {
        mmi_watch_made(watch, (uint64_t)(uintptr_t)object, cache->size, caller);
    }
    return object;
}

MMI_NOINLINE static void *alloc_slow(struct mm_cache *cache, uint32_t cpu, uint32_t flags,
                                     uint64_t caller)
{
    void *object = NULL;

    if (mmi_is_cache(cache)) {
        object = mmi_is_watched(&cache->watch)
                     ? alloc_watched(cache, cpu, flags, caller)
                     : mmi_class_alloc(&cache->objects, cpu % cache->nr_cpus, flags);
        if (object == NULL) {
            mmi_fetch_add(&cache->nr_failed, UINT64_C(1));
        }
    }
    return object;
}

MMI_INLINE void *alloc_on(struct mm_cache *cache, uint32_t cpu, uint32_t flags, const void *caller)
{
    if (cache != NULL && cpu < cache->nr_cpus) {
        void *object;

        if (mmi_slab_try_alloc(&cache->objects.hints[(size_t)cpu * STRIDE], &object)) {
            return object;
        }
    }
    return alloc_slow(cache, cpu, flags, MMI_CALLER_FROM(caller));
}

MMI_HOT void *mm_cache_alloc_on(struct mm_cache *cache, uint32_t cpu)
{
    return alloc_on(cache, cpu, 0, NULL);
}

void *mm_cache_alloc(struct mm_cache *cache)
{
    if (!mmi_is_cache(cache)) {
        return NULL;
    }
    return alloc_on(cache, mmi_cpu_number(&cache->objects.pool->platform), 0, NULL);
}

void *mm_cache_alloc_from(struct mm_cache *cache, const void *caller)
{
    if (!mmi_is_cache(cache)) {
        return NULL;
    }
    return alloc_on(cache, mmi_cpu_number(&cache->objects.pool->platform), 0, caller);
}

void *mmi_cache_alloc(struct mm_cache *cache, uint32_t flags)
{
    return alloc_on(cache, mmi_cpu_number(&cache->objects.pool->platform), flags, NULL);
}

/** What the hot path leaves: nothing to free, or a panic. */
MMI_NOINLINE static void free_slow(struct mm_cache *cache, uint64_t address, uint64_t caller)
{
    struct mmi_free free = {.address = address, .caller = caller};
    struct mmi_misuse misuse = {.caller = caller};
    struct mmi_found found;
    unsigned index;

    if (address == 0) {
        return;
    }
    if (mmi_is_cache(cache)) {
        const struct mm_slab_class *objects = &cache->objects;

        if (mmi_is_watched(&cache->watch) &&
            mmi_slab_find(&objects->pool->table, objects, sizeof(*objects), address, &found) &&
            mmi_slab_index(&found, &index) && mmi_watch_free(&cache->watch, &found, index, &free)) {
            return;
        }
        misuse = (struct mmi_misuse){.pool = objects->pool,
                                     .name = objects->name,
                                     .classes = objects,
                                     .classes_len = sizeof(*objects),
                                     .watch = &cache->watch,
                                     .caller = caller};
    }
    mmi_slab_misuse(&misuse, address);
}

/** Free the object with this index of a slab of ours. */
MMI_INLINE void free_index(struct mm_cache *cache, uint64_t address, const struct mmi_found *found,
                           unsigned index, const void *caller)
{
    uint64_t *word = &found->slab->words[index / MMI_SLAB_WORD_BITS];
    uint64_t nr_pages = 0;

    if (!mmi_slab_free(found, word, mmi_slab_bit(index), &nr_pages)) {
        free_slow(cache, address, MMI_CALLER_FROM(caller));
    }
}

MMI_INLINE void free_object(struct mm_cache *cache, void *object, const void *caller)
{
    uint64_t address = (uint64_t)(uintptr_t)object;
    struct mmi_found found;
    unsigned index;

    if (cache != NULL &&
        mmi_slab_find(&cache->table, &cache->objects, sizeof(cache->objects), address, &found) &&
        mmi_slab_index(&found, &index)) {
        free_index(cache, address, &found, index, caller);
    } else {
        free_slow(cache, address, MMI_CALLER_FROM(caller));
    }
}

MMI_HOT void mm_cache_free_on(struct mm_cache *cache, uint32_t cpu, void *object)
{
    uint64_t address = (uint64_t)(uintptr_t)object;
    struct mmi_found found;
    unsigned index;

    if (cache != NULL && cpu < cache->nr_cpus &&
        mmi_slab_find(&cache->table, &cache->objects, sizeof(cache->objects), address, &found) &&
        mmi_slab_index(&found, &index)) {
        mmi_slab_hint_freed(&cache->objects.hints[(size_t)cpu * STRIDE], found.slab,
                            index / MMI_SLAB_WORD_BITS, cpu);
        free_index(cache, address, &found, index, NULL);
    } else {
        free_object(cache, object, NULL);
    }
}

void mm_cache_free(struct mm_cache *cache, void *object)
{
    free_object(cache, object, NULL);
}

void mm_cache_free_from(struct mm_cache *cache, void *object, const void *caller)
{
    free_object(cache, object, caller);
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
    bool watched;

    if (!mmi_is_cache(cache) || objects == NULL) {
        return 0;
    }
    watched = mmi_is_watched(&cache->watch);
    cpu %= watched ? cache->watch.nr_cpus : cache->nr_cpus;
    hint_at = &cache->objects.hints[(size_t)cpu * STRIDE];
    while (done < nr) {
        uint64_t taken = watched ? 0 : take_word(hint_at, nr - done, &objects[done]);

        if (taken == 0) {
            void *object =
                alloc_slow(cache, cpu, 0, MMI_CALLER()); /* and a word for those that follow */

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
MMI_INLINE void free_one_by_one(struct mm_cache *cache, uint64_t nr, void *const *objects)
{
    for (uint64_t i = 0; i < nr; i++) {
        free_object(cache, objects[i], NULL);
    }
}

/** Where an address lies: in the slab of the one before, or in another. */
static bool find_near(const struct mm_cache *cache, uint64_t address, struct mmi_found *found)
{
    return (found->slab != NULL && mmi_slab_holds(found->slab, address, found)) ||
           mmi_slab_find(&cache->table, &cache->objects, sizeof(cache->objects), address, found);
}

void mm_cache_free_bulk(struct mm_cache *cache, uint64_t nr, void *const *objects)
{
    struct mmi_found found = {0};
    uint64_t i = 0;

    while (objects != NULL && i < nr) {
        uint64_t address = (uint64_t)(uintptr_t)objects[i];
        uint32_t bits = 0;
        unsigned word = 0;
        uint64_t nr_pages = 0;
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
            free_slow(cache, address, MMI_CALLER()); /* watched, or misuse that was told */
            i++;
            continue;
        }
        if (!mmi_slab_free(&found, &found.slab->words[word], bits, &nr_pages)) {
            free_one_by_one(cache, nr_here, &objects[i]);
        }
        i += nr_here;
    }
}

uint64_t mm_cache_reclaim(struct mm_cache *cache)
{
    uint64_t nr_pages = 0;

    if (!mmi_is_cache(cache)) {
        return 0;
    }
    (void)mmi_quarantine_drain(&cache->watch, &nr_pages);
    return nr_pages + mmi_class_reclaim(&cache->objects);
}

mm_status_t mm_cache_get_stats(const struct mm_cache *cache, struct mm_cache_stats *out)
{
    struct mmi_class_counts counts;

    if (cache == NULL || out == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (!mmi_is_cache(cache)) {
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
    if (!mmi_is_cache(cache)) {
        return MM_ERR_NOT_INITIALIZED;
    }
    return mmi_class_check(&cache->objects) ? MM_OK : MM_ERR_CORRUPTED;
}
