// SPDX-License-Identifier: MIT
/**
 * Records of objects: who allocated and who freed each, and whether it is live; and what every
 * watched heap or cache has. The layout is drawn in watch.h.
 *
 * The order of things when an object is freed: the state in its record goes from LIVE, in the life in
 * which the object was found, to BUSY, by whoever frees it, and nobody else can. So the slab stays as
 * it was found, because a bit of it says "allocated", and the rest is done in peace. The bit, in the
 * end, says "free" to those who allocate.
 */
#include "watch.h"

#include "core/base/mem.h"
#include "core/base/report.h"

/* --- the page of a slab ----------------------------------------------------------------------- */

bool mmi_records_reserve(struct mmi_slab *slab, uint32_t flags)
{
    struct mm_slab_class *class = mmi_slab_class(slab);
    uint64_t page;

    if (mmi_load(&slab->words[MMI_RECORDS_WORD]) != 0) {
        return true;
    }
    page = mmi_pool_meta_pages(class->pool, 1, flags);
    mmi_store_release(&slab->words[MMI_RECORDS_WORD], page);
    return page != 0;
}

void mmi_records_release(struct mmi_slab *slab)
{
    struct mm_slab_class *class = mmi_slab_class(slab);
    uint64_t page = mmi_load(&slab->words[MMI_RECORDS_WORD]);

    if (page != 0) {
        mmi_store(&slab->words[MMI_RECORDS_WORD], UINT64_C(0));
        mmi_pool_free_meta_pages(class->pool, page, 1);
    }
}

void mmi_records_begin(struct mmi_slab *slab, uint64_t pages, uint64_t nr)
{
    const struct mm_slab_class *class = mmi_slab_class(slab);
    uint64_t first = pages + class->lead;

    for (unsigned i = 0; i < nr; i++) {
        struct mmi_record *record = mmi_record_of(slab, i);

        mmi_store(&record->made, UINT64_C(0));
        mmi_store(&record->freed, UINT64_C(0));
    }
    if (!mmi_is_hardened(class->watch)) {
        return;
    }
    mmi_canary_set(class->watch, pages, first);
    for (uint64_t i = 0; i < nr; i++) {
        uint64_t object = first + i * class->size;
        uint64_t fence = object + class->size - MMI_FENCE;

        memset((void *)(uintptr_t)object, (int)MM_HEAP_POISON, fence - object);
        mmi_canary_set(class->watch, fence, fence + MMI_FENCE);
    }
}

/* --- the watch -------------------------------------------------------------------------------- */

/** So far apart are two states of the counter: the golden ratio. */
#define JUMP UINT64_C(0x9e3779b97f4a7c15)

/* A counter that jumps, and its bits mixed (Steele, Lea, Flood: Fast splittable pseudorandom number
 * generators, 2014). */
static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

uint64_t mmi_watch_random(struct mm_heap_watch *watch)
{
    return mix(mmi_fetch_add(&watch->random, JUMP));
}

/**
 * Where the numbers of a heap or cache begin: apart from those of all others, wherever they lie, and
 * of those that lay here before. Only the op makes it unknown to who knows the kernel.
 */
static uint64_t first_random(const struct mmi_watch_config *config)
{
    const struct mm_platform *platform = &config->pool->platform;
    uint64_t number = mmi_fetch_add(&config->pool->nr_watched, UINT64_C(1)) + 1;
    uint64_t random = mix((uint64_t)(uintptr_t)config->owner) ^ mix(number * JUMP);

    if (platform->ops != NULL && platform->ops->random != NULL) {
        random ^= platform->ops->random(platform->ctx);
    }
    return random;
}

static bool has_records(const struct mmi_watch_config *config)
{
    return config->tier == MM_HEAP_HARDENED || (config->flags & MM_HEAP_CALLERS) != 0;
}

mm_status_t mmi_watch_check(const struct mmi_watch_config *config)
{
    if ((config->flags & ~MM_HEAP_CALLERS) != 0) {
        return MM_ERR_INVALID_FLAGS;
    }
    if ((unsigned)config->tier > (unsigned)MM_HEAP_HARDENED ||
        config->quarantine > MM_HEAP_QUARANTINE_MAX) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    return config->sample_every != 0 ? mmi_sample_check(config->guards) : MM_OK;
}

static uint64_t waiting_pages(uint64_t nr)
{
    return (nr * 8 + MM_PAGE_MASK) >> MM_PAGE_SHIFT;
}

mm_status_t mmi_watch_init(struct mm_heap_watch *watch, const struct mmi_watch_config *config)
{
    *watch = (struct mm_heap_watch){.report = config->report,
                                    .ctx = config->ctx,
                                    .name = config->name,
                                    .pool = config->pool,
                                    .sample_every = config->sample_every};
    watch->flags = config->tier == MM_HEAP_FAST ? MMI_WATCH_FAST : 0;
    if (has_records(config)) {
        watch->flags |= MMI_WATCH_RECORDS;
    }
    if (has_records(config) || config->sample_every != 0) {
        watch->nr_cpus = config->pool->nr_cpus;
        watch->random = first_random(config);
        /* No byte is 0, all ones or poison, which are written by mistake most often. */
        watch->canary =
            (mmi_watch_random(watch) & UINT64_C(0x7e7e7e7e7e7e7e7e)) | UINT64_C(0xc040c040c040c040);
    }
    if (config->tier == MM_HEAP_HARDENED) {
        uint64_t nr = config->quarantine == 0 ? MM_HEAP_QUARANTINE : config->quarantine;
        uint64_t pages = mmi_pool_meta_pages(config->pool, waiting_pages(nr), 0);

        if (pages == 0) {
            return MM_ERR_NO_MEMORY;
        }
        watch->flags |= MMI_WATCH_HARDENED;
        watch->waiting = (uint64_t *)(uintptr_t)pages;
        watch->nr_waiting = nr;
    }
    if (config->sample_every != 0 && mmi_sample_init(watch, config->guards) != MM_OK) {
        mmi_watch_destroy(watch);
        return MM_ERR_NO_MEMORY;
    }
    return MM_OK;
}

void mmi_watch_destroy(struct mm_heap_watch *watch)
{
    if (watch->waiting != NULL) {
        mmi_pool_free_meta_pages(watch->pool, (uint64_t)(uintptr_t)watch->waiting,
                                 waiting_pages(watch->nr_waiting));
    }
    mmi_sample_destroy(watch);
}

uint64_t mmi_watch_mark(const struct mm_heap_watch *watch, uint64_t record)
{
    uint64_t now = mmi_load(&watch->mark);
    uint64_t mark = now - ((now - record) & 0xffff);

    return mark > now ? 0 : mark; /* of an object that is being made while a mark is set */
}

_Noreturn void mmi_watch_panic(const struct mm_heap_watch *watch, uint64_t address)
{
    struct mm_panic_info info = {
        .room = "heap",
        .what = "an object is not where its heap or cache has it",
        .address = address,
        .recorded = "another slab there, or its bit says free",
        .claimed = watch->name,
    };

    mmi_panic(&watch->pool->platform, &info);
}

/* --- allocating ------------------------------------------------------------------------------- */

bool mmi_watch_find(const struct mm_heap_watch *watch, uint64_t address, struct mmi_found *found,
                    unsigned *index)
{
    struct mmi_slab *slab = mmi_table_find(&watch->pool->table, address);

    if (slab == NULL) {
        return false;
    }
    return mmi_slab_holds(slab, address, found) && mmi_slab_index(found, index);
}

/** A set bit of the word, counted from a random one. */
static unsigned pick(uint32_t bits, unsigned from)
{
    uint32_t above = bits & (UINT32_MAX << from);

    return mmi_ctz(above != 0 ? above : bits);
}

bool mmi_watch_claim(struct mm_heap_watch *watch, uint64_t hint, void **out)
{
    struct mmi_slab *slab = mmi_hint_slab(hint);
    uint64_t random;
    unsigned nr;

    if (slab == NULL) {
        return false;
    }
    random = mmi_watch_random(watch);
    nr = (mmi_load(&slab->nr_objects) + MMI_SLAB_WORD_BITS - 1) / MMI_SLAB_WORD_BITS;
    for (unsigned i = 0; i < nr; i++) {
        unsigned w = (unsigned)((random >> 32) + i) % nr;
        uint64_t seen = mmi_load_acquire(&slab->words[w]);

        while ((uint32_t)seen != 0) {
            unsigned bit = pick((uint32_t)seen, (unsigned)random % MMI_SLAB_WORD_BITS);
            uint64_t object = mmi_load(&slab->base) +
                              (uint64_t)(w * MMI_SLAB_WORD_BITS + bit) * mmi_load(&slab->size);

            if (mmi_cas(&slab->words[w], &seen, seen & ~(UINT64_C(1) << bit))) {
                *out = (void *)(uintptr_t)object;
                return true;
            }
        }
    }
    return false;
}

void *mmi_watch_shuffle(struct mm_heap_watch *watch, void *object)
{
    struct mmi_found found;
    uint64_t nr_pages = 0;
    unsigned index;
    void *other;

    if (mmi_watch_find(watch, (uint64_t)(uintptr_t)object, &found, &index) &&
        mmi_watch_claim(watch, mmi_hint(found.slab, 0), &other)) {
        mmi_watch_free_bit(&found, index, &nr_pages);
        return other;
    }
    return object;
}

void mmi_watch_made(struct mm_heap_watch *watch, uint64_t object, uint64_t size, uint64_t caller)
{
    struct mmi_record *record;
    struct mmi_found found;
    unsigned index;

    if (!mmi_watch_find(watch, object, &found, &index)) {
        mmi_watch_panic(watch, object);
    }
    record = mmi_record_of(found.slab, index);
    if (mmi_is_hardened(watch)) {
        mmi_hardened_reuse(watch, &found, index, caller);
        mmi_canary_set(watch, object + size, object + mmi_load(&found.slab->size) - MMI_FENCE);
    }
    mmi_store(&record->made, mmi_record_pack(caller, mmi_load(&watch->mark) & 0xffff));
    mmi_store_release(&record->freed, mmi_live_pack(found.life, size));
}

/* --- freeing ---------------------------------------------------------------------------------- */

bool mmi_watch_free_bit(const struct mmi_found *found, unsigned index, uint64_t *nr_pages)
{
    uint64_t *word = &found->slab->words[index / MMI_SLAB_WORD_BITS];

    return mmi_slab_free(found, word, mmi_slab_bit(index), nr_pages);
}

/** Take the object that was found from its owner. False: it is not live, or not that one any more. */
static bool claim_free(const struct mmi_found *found, struct mmi_record *record,
                       const struct mmi_free *free, uint64_t *seen)
{
    uint64_t claimed;

    *seen = mmi_load_acquire(&record->freed);
    do {
        if (!mmi_live_in(*seen, found->life)) {
            return false;
        }
        claimed = mmi_freed_pack(free->caller, MMI_OBJECT_BUSY, mmi_freed_size(*seen));
    } while (!mmi_cas(&record->freed, seen, claimed));
    return true;
}

bool mmi_watch_free(struct mm_heap_watch *watch, const struct mmi_found *found, unsigned index,
                    const struct mmi_free *free)
{
    struct mmi_record *record = mmi_record_of(found->slab, index);
    uint64_t nr_pages = 0;
    uint64_t seen;

    if (!claim_free(found, record, free, &seen)) {
        return false;
    }
    if (mmi_is_hardened(watch)) {
        mmi_hardened_free(watch, found, index, seen, free->caller);
        mmi_store_release(&record->freed,
                          mmi_freed_pack(free->caller, MMI_OBJECT_WAITING, mmi_freed_size(seen)));
        mmi_quarantine_put(watch, free->address);
        return true;
    }
    mmi_store_release(&record->freed,
                      mmi_freed_pack(free->caller, MMI_OBJECT_FREE, mmi_freed_size(seen)));
    return mmi_watch_free_bit(found, index, &nr_pages);
}
