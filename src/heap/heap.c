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
const uint8_t mmi_heap_class_by_16[MM_HEAP_MAX_SLAB_SIZE / 16 + 1] = {
    0, /* size 0 counts as 1 */
    0,       1,       2,       3,       4,       5,       6,       7,
    X2(8),   X2(9),   X2(10),  X2(11),  X4(12),  X4(13),  X4(14),  X4(15),
    X8(16),  X8(17),  X8(18),  X8(19),  X16(20), X16(21), X16(22), X16(23),
    X32(24), X32(25), X32(26), X32(27), X64(28), X64(29), X64(30), X64(31)};

static uint32_t class_size(unsigned number)
{
    unsigned doubling = number < 8 ? 0 : number / 4 - 1;

    return (number - 4 * doubling + 1) << (doubling + 4);
}

unsigned mmi_heap_class(const struct mm_heap *heap, uint64_t align, uint64_t size)
{
    unsigned number = mmi_heap_class_of(size > align ? size : align);

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
    if (config->zero != 0 || (config->nr_reserve == 0) != (config->reserve_size == 0) ||
        config->large == pool || (config->large == NULL) != (config->large_size == 0)) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (!mmi_is_pool(pool) || (config->large != NULL && !mmi_is_pool(config->large))) {
        return MM_ERR_NOT_INITIALIZED;
    }
    if ((config->large != NULL && config->large_size <= MM_HEAP_MAX_SLAB_SIZE) ||
        config->reserve_size > MM_HEAP_MAX_RESERVE_SIZE) {
        return MM_ERR_INVALID_SIZE;
    }
    return MM_OK;
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

/** Take the reserve from the source. */
static bool set_aside(struct mm_heap *heap, struct mmi_class_config *class,
                      const struct mm_heap_config *config)
{
    uint64_t slack = mmi_is_hardened(&heap->watch) ? MMI_FENCE : 0;
    uint64_t nr_pages = mmi_heap_run_pages(config->reserve_size + slack);

    if (config->nr_reserve == 0) {
        return true;
    }
    class->pool = heap->pool;
    class->hints = heap->reserve_bins;
    mmi_class_init(&heap->reserve, class);
    heap->reserve_size = nr_pages * MM_PAGE_SIZE;
    for (uint32_t i = 0; i < config->nr_reserve; i++) {
        if (!mmi_heap_run_set_aside(&heap->reserve, nr_pages)) {
            return false;
        }
    }
    return true;
}

/** The classes of slabs, the runs, and those of the large pool. */
static void make_classes(struct mm_heap *heap, struct mm_pool *pool,
                         const struct mm_heap_config *config, struct mmi_class_config *class)
{
    class->name = heap->name;
    class->nr_cpus = pool->nr_cpus;
    class->watch = mmi_has_records(&heap->watch) ? &heap->watch : NULL;
    for (unsigned i = 0; i < MM_HEAP_NR_CLASSES; i++) {
        class->size = class_size(i);
        class->number = i;
        class->lead = mmi_is_hardened(&heap->watch) ? mmi_slab_align(class->size) : 0;
        class->hints = &heap->hints[i];
        class->owned = &heap->hints[MMI_HEAP_FIRST_OWNED + i];
        class->own = &heap->hints[MMI_HEAP_FIRST_OWN_LIST + i];
        mmi_class_init(&heap->classes[i], class);
    }
    class->size = 0;
    class->lead = 0;
    class->hints = heap->run_bins;
    class->nr_cpus = 0;
    mmi_class_init(&heap->runs, class);
    heap->large_size = UINT64_MAX;
    if (config->large != NULL) {
        heap->large_size = config->large_size;
        class->pool = config->large;
        class->hints = NULL;
        mmi_class_init(&heap->large, class);
    }
}

/** What the short ways look at. What is recorded takes the long way on both sides; samples alone are
 * told apart by their addresses, which are in no table. */
static void open_short_ways(struct mm_heap *heap, const struct mm_pool *pool)
{
    heap->cpu_number = pool->platform.ops != NULL ? pool->platform.ops->cpu_number : NULL;
    heap->cpu_ctx = pool->platform.ctx;
    if (!mmi_has_records(&heap->watch)) {
        heap->table = pool->table;
    }
    if (!mmi_is_watched(&heap->watch)) {
        heap->nr_cpus = pool->nr_cpus;
    }
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
                                      .owner = heap,
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
    heap->hints = pages != 0 ? (uint64_t *)(uintptr_t)pages : mmi_hints_inline(heap->hints_inline);
    heap->name = looks.name;
    make_classes(heap, pool, config, &class);
    heap->hint_pages = pages;
    heap->pool = pool;
    open_short_ways(heap, pool);
    mmi_store_release(&heap->magic, MMI_HEAP_MAGIC);
    if (!set_aside(heap, &class, config)) {
        mm_status_t undone = mm_heap_destroy(heap);

        (void)undone; /* nothing is allocated */
        return MM_ERR_NO_MEMORY;
    }
    return MM_OK;
}

/** All classes by number: those of slabs, then those of runs. */
#define ALL_CLASSES (MM_HEAP_NR_CLASSES + MMI_HEAP_RUN_CLASSES)

static const struct mm_slab_class *any_class(const struct mm_heap *heap, unsigned number)
{
    const struct mm_slab_class *runs[] = {&heap->runs, &heap->large, &heap->reserve};

    return number < MM_HEAP_NR_CLASSES ? &heap->classes[number] : runs[number - MM_HEAP_NR_CLASSES];
}

struct mm_slab_class *mmi_heap_runs(const struct mm_heap *heap, unsigned number)
{
    const struct mm_slab_class *class = any_class(heap, MM_HEAP_NR_CLASSES + number);

    return class->pool != NULL ? (struct mm_slab_class *)(uintptr_t) class : NULL;
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
    uint64_t nr_pages = 0;
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
    (void)mmi_quarantine_drain(&heap->watch, &nr_pages);
    for (unsigned i = 0; i < MM_HEAP_NR_CLASSES; i++) {
        mmi_class_destroy(&heap->classes[i]);
    }
    mmi_heap_run_destroy(&heap->runs);
    if (heap->reserve.pool != NULL) {
        mmi_heap_run_destroy(&heap->reserve);
    }
    if (heap->large.pool != NULL) {
        mmi_heap_run_destroy(&heap->large);
        mmi_pool_remove_user(heap->large.pool, heap);
    }
    if (heap->hint_pages != 0) {
        mmi_pool_free_meta_pages(pool, heap->hint_pages, hint_pages(pool->nr_cpus));
    }
    mmi_pool_remove_user(pool, heap);
    mmi_watch_destroy(&heap->watch);
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

/** The way of a heap that samples and does no more, but for the one in so many. */
static bool alloc_counted(struct mm_heap *heap, uint32_t cpu, uint64_t align, uint64_t size,
                          void **out)
{
    uint64_t *hints = &heap->hints[(uint64_t)cpu * MM_HEAP_CPU_HINTS];
    uint64_t left;

    if (mmi_has_records(&heap->watch) || cpu >= heap->watch.nr_cpus ||
        !mmi_heap_in_slab(align, size)) {
        return false;
    }
    left = mmi_load(&hints[MMI_HEAP_COUNTDOWN]);
    if (left <= 1 || !mmi_slab_alloc(&hints[mmi_heap_class(heap, align, size)], out)) {
        return false;
    }
    mmi_store(&hints[MMI_HEAP_COUNTDOWN], left - 1);
    return true;
}

/** What the hot path leaves: no object behind the hint, a run, a wrong CPU number, no heap. */
MMI_NOINLINE static void *alloc_slow(struct mm_heap *heap, uint32_t cpu, uint64_t size,
                                     uint64_t align, uint32_t flags, uint64_t caller)
{
    if (!mmi_is_heap(heap)) {
        return NULL;
    }
    if (mmi_is_watched(&heap->watch)) {
        struct mmi_want want = {.size = size, .align = align, .caller = caller, .flags = flags};
        void *object;

        return alloc_counted(heap, cpu, align, size, &object) ? object
                                                              : mmi_watched_alloc(heap, cpu, &want);
    }
    cpu %= heap->pool->nr_cpus; /* never 0 */
    if (mmi_heap_in_slab(align, size)) {
        void *object;

        if (mmi_class_next_word(&heap->classes[mmi_heap_class(heap, align, size)], cpu, &object)) {
            return object;
        }
    }
    return mmi_heap_seek(heap, cpu, align, size, flags);
}

/** How often pages came back to the sources of the heap, or objects from its quarantine. */
static uint64_t nr_given(const struct mm_heap *heap)
{
    uint64_t nr =
        mmi_load_acquire(&heap->pool->nr_given) + mmi_load_acquire(&heap->watch.nr_drains);

    return heap->large_size != UINT64_MAX ? nr + mmi_load_acquire(&heap->large.pool->nr_given) : nr;
}

/** Whether a pool of the heap could hold as much. */
static bool some_memory_holds(const struct mm_heap *heap, uint64_t size)
{
    return size <= heap->pool->table.len ||
           (heap->large_size != UINT64_MAX && size <= heap->large.pool->table.len);
}

void *mmi_heap_seek(struct mm_heap *heap, uint32_t cpu, uint64_t align, uint64_t size,
                    uint32_t flags)
{
    uint64_t given = nr_given(heap);
    void *object = try_alloc(heap, cpu, align, size, flags);

    /* Pages may lie in empty slabs of other sizes, and objects in the quarantine; and somebody else
     * may have given back what was wanted, after the source was asked. None are sought for what no
     * memory holds. */
    for (unsigned turn = 1; turn < MMI_TURNS && object == NULL && some_memory_holds(heap, size);
         turn++) {
        uint64_t nr_pages = 0;
        uint64_t nr_left = mmi_quarantine_drain(&heap->watch, &nr_pages);
        uint64_t nr_back = mm_heap_reclaim(heap);
        uint64_t now = nr_given(heap);

        if ((nr_left | nr_back) == 0 && now == given) {
            break;
        }
        given = now;
        object = try_alloc(heap, cpu, align, size, flags);
    }
    if (object == NULL && (flags & MM_HEAP_RESERVE) != 0 && heap->reserve_size != 0 &&
        size <= heap->reserve_size && align <= MM_PAGE_SIZE) {
        object = mmi_heap_run_take_aside(&heap->reserve, heap->reserve_size >> MM_PAGE_SHIFT);
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

        if (mmi_slab_try_alloc(&heap->hints[(size_t)cpu * MM_HEAP_CPU_HINTS + number], &object)) {
            return object;
        }
    }
    return alloc_slow(heap, cpu, size, align, flags, caller);
}

MMI_INLINE void *alloc_on(struct mm_heap *heap, uint32_t cpu, size_t size)
{
    if (heap != NULL && cpu < heap->nr_cpus && size <= MM_HEAP_MAX_SLAB_SIZE) {
        void *object;

        if (mmi_slab_try_alloc(
                &heap->hints[(size_t)cpu * MM_HEAP_CPU_HINTS + mmi_heap_class_of(size)], &object)) {
            return object;
        }
    }
    return alloc_slow(heap, cpu, size, 16, 0, MMI_CALLER());
}

MMI_HOT void *mm_heap_alloc_on(struct mm_heap *heap, uint32_t cpu, size_t size)
{
    return alloc_on(heap, cpu, size);
}

void *mm_heap_alloc(struct mm_heap *heap, size_t size)
{
    if (!mmi_is_heap(heap)) {
        return NULL;
    }
    return alloc_on(heap, mmi_heap_cpu(heap), size);
}

MMI_INLINE void *alloc_with(struct mm_heap *heap, size_t size, size_t align, uint32_t flags,
                            uint64_t caller)
{
    void *object;

    align = mmi_heap_align(align);
    if (!mmi_is_heap(heap) || align == 0 || (flags & ~MM_HEAP_FLAGS_ALL) != 0) {
        return NULL;
    }
    object = mmi_heap_alloc(heap, mmi_heap_cpu(heap), align, size, flags, caller);
    if (object != NULL && align > 16) {
        mmi_heap_mark_asked(heap, object, align);
    }
    if (object != NULL && (flags & MM_HEAP_ZEROED) != 0) {
        memset(object, 0, size);
    }
    return object;
}

void *mm_heap_alloc_with(struct mm_heap *heap, size_t size, size_t align, uint32_t flags)
{
    return alloc_with(heap, size, align, flags, MMI_CALLER());
}

void *mm_heap_alloc_from(struct mm_heap *heap, size_t size, size_t align, uint32_t flags,
                         const void *caller)
{
    return alloc_with(heap, size, align, flags, MMI_CALLER_FROM(caller));
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

/* --- asking ----------------------------------------------------------------------------------- */

uint64_t mm_heap_reclaim(struct mm_heap *heap)
{
    uint64_t nr_pages = 0;

    if (!mmi_is_heap(heap)) {
        return 0;
    }
    (void)mmi_quarantine_drain(&heap->watch, &nr_pages);
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
    for (unsigned i = 0; i < MMI_HEAP_RUN_CLASSES; i++) {
        const struct mm_slab_class *runs = mmi_heap_runs(heap, i);

        good = (runs == NULL || mmi_class_check(runs)) && good;
    }
    return good ? MM_OK : MM_ERR_CORRUPTED;
}
