// SPDX-License-Identifier: MIT
/**
 * The general heap: which class or run serves a size, and what is done before the answer is NULL.
 *
 * Classes are 16 bytes apart up to 128, then four a doubling, up to 8 KiB:
 *
 *     size    1..16  17..32  ..  113..128  129..160  161..192  193..224  225..256  257..320  ..
 *     class     0      1     ..      7         8         9        10        11        12
 */
#include "heap.h"

#include "core/base/mem.h"
#include "core/base/report.h"

/* So many 16ths of a size are of this class. */
#define X2(n)  n, n
#define X4(n)  X2(n), X2(n)
#define X8(n)  X4(n), X4(n)
#define X16(n) X8(n), X8(n)
#define X32(n) X16(n), X16(n)
#define X64(n) X32(n), X32(n)

/** The class of a size, by 16ths of it, rounded up. */
static const uint8_t class_by_16[MM_HEAP_MAX_SLAB_SIZE / 16 + 1] = {
    0, /* size 0 counts as 1 */
    0,       1,       2,       3,       4,       5,       6,       7,
    X2(8),   X2(9),   X2(10),  X2(11),  X4(12),  X4(13),  X4(14),  X4(15),
    X8(16),  X8(17),  X8(18),  X8(19),  X16(20), X16(21), X16(22), X16(23),
    X32(24), X32(25), X32(26), X32(27), X64(28), X64(29), X64(30), X64(31)};

/** Size 0 to MM_HEAP_MAX_SLAB_SIZE. */
static inline unsigned class_of(uint64_t size)
{
    return class_by_16[(size + 15) / 16];
}

static uint32_t class_size(unsigned number)
{
    unsigned doubling = number < 8 ? 0 : number / 4 - 1;

    return (number - 4 * doubling + 1) << (doubling + 4);
}

unsigned mmi_heap_class(const struct mm_heap *heap, uint64_t align, uint64_t size)
{
    unsigned number = class_of(size > align ? size : align);

    while (!mm_is_aligned(heap->classes[number].size, align)) {
        number++; /* sizes that are powers of two end it */
    }
    return number;
}

static uint64_t hint_pages(uint32_t nr_cpus)
{
    return ((uint64_t)nr_cpus * MM_HEAP_CPU_HINTS * 8 + MM_PAGE_MASK) >> MM_PAGE_SHIFT;
}

/* --- init and destroy ------------------------------------------------------------------------- */

static mm_status_t check_config(const struct mm_pool *pool, const struct mm_heap_config *config)
{
    if (config->large == pool || (config->large == NULL) != (config->large_size == 0)) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (pool->magic != MMI_POOL_MAGIC ||
        (config->large != NULL && config->large->magic != MMI_POOL_MAGIC)) {
        return MM_ERR_NOT_INITIALIZED;
    }
    if (config->large != NULL && config->large_size <= MM_HEAP_MAX_SLAB_SIZE) {
        return MM_ERR_INVALID_SIZE;
    }
    return MM_OK;
}

/** Hardened: room for canaries before the first object, which stays aligned. */
static uint32_t class_lead(uint32_t size)
{
    uint32_t align = size & (0 - size);

    return align > MM_PAGE_SIZE ? (uint32_t)MM_PAGE_SIZE : align;
}

/** All that can fail: the pages of the hints, those of the watch, the places in the pools' lists. */
static mm_status_t take_pages(const struct mm_heap *heap, struct mm_pool *pool,
                              const struct mm_heap_config *config,
                              const struct mmi_watch_config *looks, struct mm_heap_watch *watch,
                              uint64_t *pages)
{
    bool many = pool->nr_cpus > MM_HEAP_CPUS_INLINE;

    *pages = many ? mmi_pool_meta_pages(pool, hint_pages(pool->nr_cpus), 0) : 0;
    if (many && *pages == 0) {
        return MM_ERR_NO_MEMORY;
    }
    if (mmi_watch_init(watch, looks) == MM_OK) {
        if (mmi_pool_add_user(pool, heap, false)) {
            if (config->large == NULL || mmi_pool_add_user(config->large, heap, false)) {
                return MM_OK;
            }
            mmi_pool_remove_user(pool, heap);
        }
        mmi_watch_destroy(watch);
    }
    if (many) {
        mmi_pool_free_meta_pages(pool, *pages, hint_pages(pool->nr_cpus));
    }
    return MM_ERR_NO_MEMORY;
}

mm_status_t mm_heap_init(struct mm_heap *heap, struct mm_pool *pool,
                         const struct mm_heap_config *config)
{
    static const struct mm_heap_config none;
    struct mmi_class_config class = {.pool = pool, .owner = heap, .stride = MM_HEAP_CPU_HINTS};
    struct mmi_watch_config looks;
    struct mm_heap_watch watch;
    mm_status_t status;
    uint64_t pages = 0;

    if (heap == NULL || pool == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (mmi_is_heap(heap)) {
        return MM_ERR_ALREADY_INITIALIZED;
    }
    config = config == NULL ? &none : config;
    status = check_config(pool, config);
    looks = (struct mmi_watch_config){.pool = pool,
                                      .name = config->name != NULL ? config->name : "heap",
                                      .tier = config->tier,
                                      .flags = config->flags,
                                      .quarantine = config->quarantine,
                                      .sample_every = config->sample_every,
                                      .report = config->report,
                                      .ctx = config->report_ctx,
                                      .guards = &config->guards};
    status = status == MM_OK ? mmi_watch_check(&looks) : status;
    if (status != MM_OK) {
        return status;
    }
    status = take_pages(heap, pool, config, &looks, &watch, &pages);
    if (status != MM_OK) {
        return status;
    }
    memset(heap, 0, sizeof(*heap));
    heap->watch = watch;
    heap->hints = pages != 0 ? (uint64_t *)(uintptr_t)pages : heap->hints_inline;
    heap->name = looks.name;
    class.name = heap->name;
    class.nr_cpus = pool->nr_cpus;
    class.watch = mmi_has_records(&watch) ? &heap->watch : NULL;
    for (unsigned i = 0; i < MM_HEAP_NR_CLASSES; i++) {
        class.size = class_size(i);
        class.number = i;
        class.lead = mmi_is_hardened(&watch) ? class_lead(class.size) : 0;
        class.hints = &heap->hints[i];
        class.owned = &heap->hints[MMI_HEAP_FIRST_OWNED + i];
        mmi_class_init(&heap->classes[i], &class);
    }
    class.size = 0;
    class.lead = 0;
    class.hints = heap->run_bins;
    class.nr_cpus = 0;
    mmi_class_init(&heap->runs, &class);
    heap->large_size = UINT64_MAX;
    if (config->large != NULL) {
        heap->large_size = config->large_size;
        class.pool = config->large;
        class.hints = NULL;
        mmi_class_init(&heap->large, &class);
    }
    heap->hint_pages = pages;
    heap->pool = pool;
    if (!mmi_is_watched(&watch)) {
        heap->table = pool->table;
        heap->nr_cpus = pool->nr_cpus;
    }
    heap->magic = MMI_HEAP_MAGIC;
    return MM_OK;
}

/** All classes by number: those of slabs, the runs, and the large runs. */
#define ALL_CLASSES (MM_HEAP_NR_CLASSES + 2)

static const struct mm_slab_class *any_class(const struct mm_heap *heap, unsigned number)
{
    return number < MM_HEAP_NR_CLASSES    ? &heap->classes[number]
           : number == MM_HEAP_NR_CLASSES ? &heap->runs
                                          : &heap->large;
}

/** Whether something is allocated; says what. */
static bool leaks(const struct mm_heap *heap)
{
    uint64_t nr_samples;
    uint64_t bytes;
    bool any = false;

    for (unsigned i = 0; i < ALL_CLASSES; i++) {
        const struct mm_slab_class *class = any_class(heap, i);
        struct mmi_class_counts counts;

        mmi_class_count(class, &counts);
        if (counts.nr_objects != 0) {
            mmi_class_leak(class, counts.nr_objects);
            any = true;
        }
    }
    nr_samples = mmi_samples_count(&heap->watch, &bytes);
    if (nr_samples != 0) {
        mmi_samples_leak(&heap->watch, nr_samples);
        any = true;
    }
    return any;
}

mm_status_t mm_heap_destroy(struct mm_heap *heap)
{
    struct mm_pool *pool;

    if (heap == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (!mmi_is_heap(heap)) {
        return MM_ERR_NOT_INITIALIZED;
    }
    if (leaks(heap)) {
        return MM_ERR_BUSY;
    }
    pool = heap->pool;
    mmi_quarantine_drain(&heap->watch);
    for (unsigned i = 0; i < MM_HEAP_NR_CLASSES; i++) {
        mmi_class_destroy(&heap->classes[i]);
    }
    mmi_heap_run_destroy(&heap->runs);
    if (heap->large.pool != NULL) {
        mmi_heap_run_destroy(&heap->large);
        mmi_pool_remove_user(heap->large.pool, heap);
    }
    if (heap->hint_pages != 0) {
        mmi_pool_free_meta_pages(pool, heap->hint_pages, hint_pages(pool->nr_cpus));
    }
    mmi_watch_destroy(&heap->watch);
    mmi_pool_remove_user(pool, heap);
    memset(heap, 0, sizeof(*heap));
    return MM_OK;
}

/* --- allocating ------------------------------------------------------------------------------- */

static void *try_alloc(struct mm_heap *heap, uint32_t cpu, uint64_t align, uint64_t size,
                       uint32_t flags)
{
    uint32_t source_flags = (flags & MM_HEAP_ATOMIC) != 0 ? MM_PAGES_ATOMIC : 0;

    if (size >= heap->large_size && source_flags == 0) {
        void *object = mmi_heap_run_alloc(&heap->large, size, align, 0);

        if (object != NULL) {
            return object;
        }
    }
    if (size > MM_HEAP_MAX_SLAB_SIZE || align > MM_PAGE_SIZE) {
        return mmi_heap_run_alloc(&heap->runs, size, align, source_flags);
    }
    return mmi_class_alloc(&heap->classes[mmi_heap_class(heap, align, size)], cpu, source_flags);
}

/** What the hot path leaves: no object behind the hint, a run, a wrong CPU number, no heap. */
MMI_NOINLINE static void *alloc_slow(struct mm_heap *heap, uint32_t cpu, uint64_t align,
                                     uint64_t size, uint32_t flags, uint64_t caller)
{
    if (!mmi_is_heap(heap)) {
        return NULL;
    }
    if (mmi_is_watched(&heap->watch)) {
        struct mmi_want want = {.size = size, .align = align, .caller = caller, .flags = flags};

        return mmi_watched_alloc(heap, cpu, &want);
    }
    return mmi_heap_seek(heap, cpu % heap->nr_cpus, align, size, flags);
}

void *mmi_heap_seek(struct mm_heap *heap, uint32_t cpu, uint64_t align, uint64_t size,
                    uint32_t flags)
{
    void *object = try_alloc(heap, cpu, align, size, flags);

    /* Pages may lie in empty slabs of other sizes, and objects in the quarantine; but none are
     * sought for what no memory holds. */
    if (object == NULL && size <= heap->pool->table.len &&
        (mmi_quarantine_drain(&heap->watch) | mm_heap_reclaim(heap)) != 0) {
        object = try_alloc(heap, cpu, align, size, flags);
    }
    if (object == NULL) {
        mmi_fetch_add(&heap->nr_failed, UINT64_C(1));
    }
    return object;
}

void *mmi_heap_alloc(struct mm_heap *heap, uint32_t cpu, uint64_t align, uint64_t size,
                     uint32_t flags, uint64_t caller)
{
    if (size <= MM_HEAP_MAX_SLAB_SIZE && align <= MM_PAGE_SIZE && cpu < heap->nr_cpus) {
        unsigned number = mmi_heap_class(heap, align, size);
        void *object;

        if (mmi_slab_alloc(&heap->hints[cpu * MM_HEAP_CPU_HINTS + number], &object)) {
            return object;
        }
    }
    return alloc_slow(heap, cpu, align, size, flags, caller);
}

MMI_INLINE void *alloc_on(struct mm_heap *heap, uint32_t cpu, size_t size)
{
    if (heap != NULL && cpu < heap->nr_cpus && size <= MM_HEAP_MAX_SLAB_SIZE) {
        void *object;

        if (mmi_slab_alloc(&heap->hints[cpu * MM_HEAP_CPU_HINTS + class_of(size)], &object)) {
            return object;
        }
    }
    return alloc_slow(heap, cpu, 16, size, 0, MMI_CALLER());
}

void *mm_heap_alloc_on(struct mm_heap *heap, uint32_t cpu, size_t size)
{
    return alloc_on(heap, cpu, size);
}

void *mm_heap_alloc(struct mm_heap *heap, size_t size)
{
    if (!mmi_is_heap(heap)) {
        return NULL;
    }
    return alloc_on(heap, mmi_cpu_number(&heap->pool->platform), size);
}

MMI_INLINE void *alloc_with(struct mm_heap *heap, size_t size, size_t align, uint32_t flags,
                            uint64_t caller)
{
    void *object;

    align = mmi_heap_align(align);
    if (!mmi_is_heap(heap) || align == 0 || (flags & ~MM_HEAP_FLAGS_ALL) != 0) {
        return NULL;
    }
    object =
        mmi_heap_alloc(heap, mmi_cpu_number(&heap->pool->platform), align, size, flags, caller);
    if (object != NULL && (flags & MM_HEAP_ZEROED) != 0) {
        memset(object, 0, size);
    }
    return object;
}

void *mm_heap_alloc_with(struct mm_heap *heap, size_t size, size_t align, uint32_t flags)
{
    return alloc_with(heap, size, align, flags, MMI_CALLER());
}

void *mm_heap_alloc_zeroed(struct mm_heap *heap, size_t size)
{
    return alloc_with(heap, size, 0, MM_HEAP_ZEROED, MMI_CALLER());
}

void *mm_heap_alloc_aligned(struct mm_heap *heap, size_t align, size_t size)
{
    return align == 0 ? NULL : alloc_with(heap, size, align, 0, MMI_CALLER());
}

void *mm_heap_alloc_array(struct mm_heap *heap, size_t nr, size_t size, uint32_t flags)
{
    uint64_t bytes;

    return mm_mul(nr, size, &bytes) ? alloc_with(heap, bytes, 0, flags, MMI_CALLER()) : NULL;
}

/* --- freeing ---------------------------------------------------------------------------------- */

void mmi_heap_misuse(const struct mm_heap *heap, uint64_t address, uint64_t caller)
{
    struct mmi_misuse misuse = {.caller = caller};

    if (mmi_is_heap(heap)) {
        misuse = (struct mmi_misuse){.pool = heap->pool,
                                     .name = heap->name,
                                     .classes = heap->classes,
                                     .classes_len = sizeof(heap->classes),
                                     .runs = &heap->runs,
                                     .large = heap->large.pool != NULL ? &heap->large : NULL,
                                     .watch = &heap->watch,
                                     .caller = caller};
    }
    mmi_slab_misuse(&misuse, address);
}

struct mmi_slab *mmi_heap_find_run(const struct mm_heap *heap, uint64_t address)
{
    struct mmi_slab *run = mmi_heap_run_find(&heap->runs, address);

    return run == NULL && heap->large.pool != NULL ? mmi_heap_run_find(&heap->large, address) : run;
}

MMI_NOINLINE static void free_slow(struct mm_heap *heap, uint64_t address, uint64_t caller)
{
    if (address == 0) {
        return;
    }
    if (mmi_is_heap(heap) && mmi_is_watched(&heap->watch)) {
        struct mmi_free free = {.address = address, .caller = caller};

        mmi_watched_free(heap, &free);
        return;
    }
    if (mmi_is_heap(heap) &&
        (mmi_heap_run_free(&heap->runs, address) ||
         (heap->large.pool != NULL && mmi_heap_run_free(&heap->large, address)))) {
        return;
    }
    mmi_heap_misuse(heap, address, caller);
}

/** The bits that a wrong free has set are as they were; then it is told. */
MMI_NOINLINE static void free_wrong(struct mm_heap *heap, uint64_t address, uint64_t *word,
                                    uint32_t bits, uint64_t caller)
{
    mmi_slab_unfree(word, bits);
    free_slow(heap, address, caller);
}

/** Free the object with this index of a slab of ours. */
MMI_INLINE void free_index(struct mm_heap *heap, uint64_t address, const struct mmi_found *found,
                           uint64_t *word, unsigned index)
{
    uint32_t now = 0;
    enum mmi_freed freed = mmi_slab_free(found, word, mmi_slab_bit(index), &now);

    if (MMI_UNLIKELY(freed == MMI_FREED_WRONG)) {
        free_wrong(heap, address, word, now, MMI_CALLER());
    } else if (freed == MMI_FREED_LOOK) {
        mmi_slab_freed(found->slab, word, now);
    }
}

void mm_heap_free(struct mm_heap *heap, void *object)
{
    uint64_t address = (uint64_t)(uintptr_t)object;
    struct mmi_found found;
    unsigned index;

    if (heap != NULL &&
        mmi_slab_find(&heap->table, heap->classes, sizeof(heap->classes), address, &found) &&
        mmi_slab_index(&found, &index)) {
        free_index(heap, address, &found, &found.slab->words[index / MMI_SLAB_WORD_BITS], index);
    } else {
        free_slow(heap, address, MMI_CALLER());
    }
}

void mmi_heap_free(struct mm_heap *heap, uint64_t address, uint64_t caller)
{
    struct mmi_found found;
    unsigned index;

    if (heap == NULL ||
        !mmi_slab_find(&heap->table, heap->classes, sizeof(heap->classes), address, &found) ||
        !mmi_slab_index(&found, &index) || !mmi_watch_free_bit(&found, index)) {
        free_slow(heap, address, caller);
    }
}

MMI_NOINLINE static void free_unlike(struct mm_heap *heap, uint64_t address, uint64_t size,
                                     uint64_t align, uint64_t caller)
{
    struct mmi_free free = {
        .address = address, .caller = caller, .size = size, .align = align, .sized = true};

    mmi_heap_free_unlike(heap, &free);
}

void mm_heap_free_sized(struct mm_heap *heap, void *object, size_t size, size_t align)
{
    uint64_t address = (uint64_t)(uintptr_t)object;
    struct mmi_found found;
    unsigned index;

    align = mmi_heap_align(align);
    if (heap != NULL && align != 0 && mmi_heap_in_slab(align, size)) {
        unsigned number = mmi_heap_class(heap, align, size);

        if (mmi_slab_find(&heap->table, &heap->classes[number], sizeof(heap->classes[number]),
                          address, &found) &&
            mmi_slab_index(&found, &index)) {
            free_index(heap, address, &found, &found.slab->words[index / MMI_SLAB_WORD_BITS],
                       index);
            return;
        }
    }
    free_unlike(heap, address, size, align, MMI_CALLER());
}

/** Free what is not in the word that was guessed, and guess its word from now on. */
MMI_NOINLINE static void free_unguessed(struct mm_heap *heap, uint64_t *hints, uint64_t address,
                                        uint32_t cpu, uint64_t caller)
{
    struct mmi_found found;
    unsigned index;

    if (mmi_slab_find(&heap->table, heap->classes, sizeof(heap->classes), address, &found) &&
        mmi_slab_index(&found, &index)) {
        unsigned word = index / MMI_SLAB_WORD_BITS;

        if (mmi_slab_hint_freed(&hints[mmi_load(&found.slab->number)], found.slab, word, cpu)) {
            mmi_store(&hints[MMI_HEAP_LAST_PAGE], address >> MM_PAGE_SHIFT);
            mmi_store_release(&hints[MMI_HEAP_LAST_FREED], mmi_hint(found.slab, word));
        }
        if (!mmi_watch_free_bit(&found, index)) {
            free_slow(heap, address, caller);
        }
    } else {
        free_slow(heap, address, caller);
    }
}

/**
 * The CPU remembers the word of its last free, if the slab is its own, for two ends. The next object
 * of this class comes from there: it is at hand, and the word is not empty. And the next free is
 * guessed to be in this word: so the address of what is written need not be computed from the
 * object, only the bit is. That pays only if it is right, so the page is compared first.
 */
void mm_heap_free_on(struct mm_heap *heap, uint32_t cpu, void *object)
{
    uint64_t address = (uint64_t)(uintptr_t)object;
    struct mmi_found found;
    uint64_t *hints;
    uint64_t hint;
    unsigned index;

    if (MMI_UNLIKELY(heap == NULL || cpu >= heap->nr_cpus)) {
        mmi_heap_free(heap, address, MMI_CALLER());
        return;
    }
    hints = &heap->hints[cpu * MM_HEAP_CPU_HINTS];
    if (mmi_load(&hints[MMI_HEAP_LAST_PAGE]) != address >> MM_PAGE_SHIFT) {
        free_unguessed(heap, hints, address, cpu, MMI_CALLER());
        return;
    }
    hint = mmi_load_acquire(&hints[MMI_HEAP_LAST_FREED]);
    if (hint != 0 && mmi_slab_guess(mmi_hint_slab(hint), address, &found) &&
        mmi_slab_index(&found, &index) && index - mmi_hint_index(hint) < MMI_SLAB_WORD_BITS &&
        mmi_load(&found.slab->cpu) == cpu) {
        free_index(heap, address, &found, (uint64_t *)(uintptr_t)hint, index);
    } else {
        free_unguessed(heap, hints, address, cpu, MMI_CALLER());
    }
}

/* --- asking ----------------------------------------------------------------------------------- */

uint64_t mm_heap_reclaim(struct mm_heap *heap)
{
    uint64_t nr_pages = 0;

    if (!mmi_is_heap(heap)) {
        return 0;
    }
    mmi_quarantine_drain(&heap->watch);
    for (unsigned i = 0; i < MM_HEAP_NR_CLASSES; i++) {
        nr_pages += mmi_class_reclaim(&heap->classes[i]);
    }
    nr_pages += mmi_heap_run_reclaim(&heap->runs);
    return nr_pages;
}

mm_status_t mm_heap_get_stats(const struct mm_heap *heap, struct mm_heap_stats *out)
{
    struct mm_heap_stats stats = {0};
    struct mmi_class_counts counts;
    uint64_t bytes;

    if (heap == NULL || out == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (!mmi_is_heap(heap)) {
        return MM_ERR_NOT_INITIALIZED;
    }
    for (unsigned i = 0; i < MM_HEAP_NR_CLASSES; i++) {
        mmi_class_count(&heap->classes[i], &counts);
        stats.nr_objects += counts.nr_objects;
        stats.object_bytes += counts.nr_objects * heap->classes[i].size;
        stats.nr_slabs += counts.nr_slabs;
        stats.nr_empty_slabs += counts.nr_empty_slabs;
        stats.slab_bytes += counts.nr_pages * MM_PAGE_SIZE;
    }
    for (unsigned i = MM_HEAP_NR_CLASSES; i < ALL_CLASSES; i++) {
        mmi_class_count(any_class(heap, i), &counts);
        stats.nr_objects += counts.nr_objects;
        stats.object_bytes += counts.nr_pages * MM_PAGE_SIZE;
        stats.nr_runs += counts.nr_objects;
        stats.run_bytes += counts.nr_pages * MM_PAGE_SIZE;
        stats.kept_bytes += counts.nr_kept_pages * MM_PAGE_SIZE;
    }
    stats.nr_objects += mmi_samples_count(&heap->watch, &bytes);
    stats.object_bytes += bytes;
    stats.nr_failed = mmi_load(&heap->nr_failed);
    *out = stats;
    return MM_OK;
}

mm_status_t mm_heap_check(const struct mm_heap *heap)
{
    bool good = true;

    if (heap == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (!mmi_is_heap(heap)) {
        return MM_ERR_NOT_INITIALIZED;
    }
    for (unsigned i = 0; i < MM_HEAP_NR_CLASSES; i++) {
        good = mmi_class_check(&heap->classes[i]) && good;
    }
    good = mmi_samples_check(&heap->watch) && good;
    good = mmi_class_check(&heap->runs) && good;
    good = (heap->large.pool == NULL || mmi_class_check(&heap->large)) && good;
    return good ? MM_OK : MM_ERR_CORRUPTED;
}
