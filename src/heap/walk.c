// SPDX-License-Identifier: MIT
/**
 * Looking at live objects: the walk, and what is made of it: callers, marks, leaks.
 */
#include "heap.h"

#include "core/base/report.h"

/* --- the walk --------------------------------------------------------------------------------- */

/** Whether the object is live, and what is recorded of it. */
static bool look(const struct mm_slab_class *class, const struct mmi_found *found, unsigned index,
                 struct mm_heap_object *out)
{
    const struct mmi_record *record;
    uint64_t freed;

    out->size = class->size;
    out->room = class->size;
    if (class->watch == NULL) {
        return mmi_slab_is_live(found, index);
    }
    record = mmi_record_of(found->slab, index);
    freed = mmi_load_acquire(&record->freed);
    out->size = mmi_freed_size(freed);
    out->allocated_by = mmi_record_address(mmi_load(&record->made));
    out->mark = mmi_watch_mark(class->watch, mmi_load(&record->made));
    return mmi_freed_state(freed) == MMI_OBJECT_LIVE;
}

static bool walk_slab(const struct mm_slab_class *class, struct mmi_slab *slab,
                      mm_heap_visit_fn visit, void *ctx)
{
    const struct mmi_found found = {.slab = slab, .life = mmi_load_acquire(&slab->life)};
    uint64_t base = mmi_load_acquire(&slab->base);
    unsigned nr = base == 0 ? 0 : mmi_load(&slab->nr_objects);

    for (unsigned i = 0; i < nr && mmi_load(&slab->life) == found.life; i++) {
        struct mm_heap_object object = {
            .object = (const void *)(uintptr_t)(base + (uint64_t)i * class->size)};

        if (look(class, &found, i, &object) && mmi_load(&slab->base) == base &&
            !visit(ctx, &object)) {
            return false;
        }
    }
    return true;
}

static bool walk_run(const struct mm_slab_class *class, const struct mmi_slab *run,
                     mm_heap_visit_fn visit, void *ctx)
{
    uint64_t base = mmi_load_acquire(&run->base);
    struct mm_heap_object object = {.object = (const void *)(uintptr_t)base,
                                    .room = mmi_load(&run->words[MMI_RUN_PAGES]) * MM_PAGE_SIZE};

    object.size = object.room;
    if (base == 0) {
        return true;
    }
    if (class->watch != NULL) {
        const struct mmi_record *record =
            (const struct mmi_record *)(const void *)&run->words[MMI_RUN_RECORD];

        if (mmi_freed_state(mmi_load_acquire(&record->freed)) != MMI_OBJECT_LIVE) {
            return true;
        }
        object.size = mmi_load(&run->words[MMI_RUN_SIZE]);
        object.allocated_by = mmi_record_address(mmi_load(&record->made));
        object.mark = mmi_watch_mark(class->watch, mmi_load(&record->made));
    }
    return visit(ctx, &object);
}

bool mmi_class_walk(const struct mm_slab_class *class, mm_heap_visit_fn visit, void *ctx)
{
    struct mmi_slab *slab = mmi_slab_of(mmi_load_acquire(&class->all));

    for (; slab != NULL; slab = mmi_slab_of(mmi_load(&slab->all_next))) {
        if (!(class->size != 0 ? walk_slab(class, slab, visit, ctx)
                               : walk_run(class, slab, visit, ctx))) {
            return false;
        }
    }
    return true;
}

/** A heap or a cache. */
struct whole {
    const struct mm_heap *heap;
    const struct mm_cache *cache;
    const struct mm_heap_watch *watch;
    const char *name;
};

static void walk(const struct whole *whole, mm_heap_visit_fn visit, void *ctx)
{
    const struct mm_heap *heap = whole->heap;
    bool more = true;

    if (heap == NULL) {
        mmi_class_walk(&whole->cache->objects, visit, ctx);
        return;
    }
    for (unsigned i = 0; more && i < MM_HEAP_NR_CLASSES; i++) {
        more = mmi_class_walk(&heap->classes[i], visit, ctx);
    }
    for (unsigned i = 0; more && i < MMI_HEAP_RUN_CLASSES; i++) {
        const struct mm_slab_class *runs = mmi_heap_runs(heap, i);

        more = runs == NULL || mmi_class_walk(runs, visit, ctx);
    }
    if (more) {
        mmi_samples_walk(&heap->watch, visit, ctx);
    }
}

static mm_status_t whole_heap(const struct mm_heap *heap, struct whole *out)
{
    if (heap == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (!mmi_is_heap(heap)) {
        return MM_ERR_NOT_INITIALIZED;
    }
    *out = (struct whole){.heap = heap, .watch = &heap->watch, .name = heap->name};
    return MM_OK;
}

static mm_status_t whole_cache(const struct mm_cache *cache, struct whole *out)
{
    if (cache == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (!mmi_is_cache(cache)) {
        return MM_ERR_NOT_INITIALIZED;
    }
    *out = (struct whole){.cache = cache, .watch = &cache->watch, .name = cache->objects.name};
    return MM_OK;
}

mm_status_t mm_heap_walk(const struct mm_heap *heap, mm_heap_visit_fn visit, void *ctx)
{
    struct whole whole;
    mm_status_t status = visit == NULL ? MM_ERR_INVALID_ARGUMENT : whole_heap(heap, &whole);

    if (status == MM_OK) {
        walk(&whole, visit, ctx);
    }
    return status;
}

mm_status_t mm_cache_walk(const struct mm_cache *cache, mm_heap_visit_fn visit, void *ctx)
{
    struct whole whole;
    mm_status_t status = visit == NULL ? MM_ERR_INVALID_ARGUMENT : whole_cache(cache, &whole);

    if (status == MM_OK) {
        walk(&whole, visit, ctx);
    }
    return status;
}

/* --- callers ---------------------------------------------------------------------------------- */

struct callers {
    struct mm_heap_caller *callers;
    uint64_t since;
    uint32_t nr;
    uint32_t used;
    bool others; /**< the last entry is everybody for whom there was no room */
};

static bool count_caller(void *ctx, const struct mm_heap_object *object)
{
    struct callers *callers = ctx;
    struct mm_heap_caller *entry = NULL;

    if (object->mark < callers->since) {
        return true;
    }
    for (uint32_t i = 0; entry == NULL && i < callers->used; i++) {
        if (callers->callers[i].allocated_by == object->allocated_by) {
            entry = &callers->callers[i];
        }
    }
    if (entry == NULL && callers->used < callers->nr) {
        entry = &callers->callers[callers->used++];
        *entry = (struct mm_heap_caller){.allocated_by = object->allocated_by};
    }
    if (entry == NULL) {
        entry = &callers->callers[callers->nr - 1];
        entry->allocated_by = 0;
        callers->others = true;
    }
    entry->nr_objects++;
    entry->bytes += object->size;
    return true;
}

/** Most bytes first; the others stay last. */
static void sort_callers(const struct callers *callers)
{
    uint32_t nr = callers->used - (callers->others ? 1 : 0);

    for (uint32_t i = 1; i < nr; i++) {
        struct mm_heap_caller moved = callers->callers[i];
        uint32_t at = i;

        for (; at > 0 && callers->callers[at - 1].bytes < moved.bytes; at--) {
            callers->callers[at] = callers->callers[at - 1];
        }
        callers->callers[at] = moved;
    }
}

static mm_status_t list_callers(const struct whole *whole, struct callers *callers,
                                uint32_t *out_nr)
{
    if (!mmi_has_records(whole->watch)) {
        return MM_ERR_UNSUPPORTED;
    }
    walk(whole, count_caller, callers);
    sort_callers(callers);
    *out_nr = callers->used;
    return MM_OK;
}

mm_status_t mm_heap_callers(const struct mm_heap *heap, uint64_t since,
                            struct mm_heap_caller *callers, uint32_t nr, uint32_t *out_nr)
{
    struct callers list = {.callers = callers, .since = since, .nr = nr};
    struct whole whole;
    mm_status_t status = callers == NULL || nr == 0 || out_nr == NULL ? MM_ERR_INVALID_ARGUMENT
                                                                      : whole_heap(heap, &whole);

    return status != MM_OK ? status : list_callers(&whole, &list, out_nr);
}

mm_status_t mm_cache_callers(const struct mm_cache *cache, uint64_t since,
                             struct mm_heap_caller *callers, uint32_t nr, uint32_t *out_nr)
{
    struct callers list = {.callers = callers, .since = since, .nr = nr};
    struct whole whole;
    mm_status_t status = callers == NULL || nr == 0 || out_nr == NULL ? MM_ERR_INVALID_ARGUMENT
                                                                      : whole_cache(cache, &whole);

    return status != MM_OK ? status : list_callers(&whole, &list, out_nr);
}

/* --- marks and leaks -------------------------------------------------------------------------- */

static uint64_t set_mark(struct mm_heap_watch *watch)
{
    return mmi_has_records(watch) ? mmi_fetch_add(&watch->mark, UINT64_C(1)) + 1 : 0;
}

uint64_t mm_heap_mark(struct mm_heap *heap)
{
    return mmi_is_heap(heap) ? set_mark(&heap->watch) : 0;
}

uint64_t mm_cache_mark(struct mm_cache *cache)
{
    return mmi_is_cache(cache) ? set_mark(&cache->watch) : 0;
}

struct leaks {
    uint64_t since;
    uint64_t nr;
    uint64_t bytes;
    mm_heap_line_fn line;
    void *ctx;
};

static bool count_leak(void *ctx, const struct mm_heap_object *object)
{
    struct leaks *leaks = ctx;

    if (object->mark >= leaks->since) {
        leaks->nr++;
        leaks->bytes += object->size;
    }
    return true;
}

static bool print_leak(void *ctx, const struct mm_heap_object *object)
{
    const struct leaks *leaks = ctx;
    struct mmi_line line;

    if (object->mark >= leaks->since) {
        mmi_line_begin(&line);
        mmi_line_str(&line, "  ");
        mmi_line_hex(&line, (uint64_t)(uintptr_t)object->object, 1);
        mmi_line_str(&line, ", ");
        mmi_line_u64(&line, object->size);
        mmi_line_str(&line, " bytes, allocated by ");
        mmi_line_hex(&line, object->allocated_by, 1);
        leaks->line(leaks->ctx, line.text, line.len);
    }
    return true;
}

static mm_status_t list_leaks(const struct whole *whole, struct leaks *leaks)
{
    struct mmi_line line;

    if (!mmi_has_records(whole->watch)) {
        return MM_ERR_UNSUPPORTED;
    }
    walk(whole, count_leak, leaks);
    mmi_line_begin(&line);
    mmi_line_str(&line, "heap ");
    mmi_line_str(&line, whole->name);
    mmi_line_str(&line, ": ");
    mmi_line_u64(&line, leaks->nr);
    mmi_line_str(&line, " objects of ");
    mmi_line_u64(&line, leaks->bytes);
    mmi_line_str(&line, " bytes in all since mark ");
    mmi_line_u64(&line, leaks->since);
    leaks->line(leaks->ctx, line.text, line.len);
    walk(whole, print_leak, leaks);
    return MM_OK;
}

mm_status_t mm_heap_leaks(const struct mm_heap *heap, uint64_t since, mm_heap_line_fn line,
                          void *ctx)
{
    struct leaks leaks = {.since = since, .line = line, .ctx = ctx};
    struct whole whole;
    mm_status_t status = line == NULL ? MM_ERR_INVALID_ARGUMENT : whole_heap(heap, &whole);

    return status != MM_OK ? status : list_leaks(&whole, &leaks);
}

mm_status_t mm_cache_leaks(const struct mm_cache *cache, uint64_t since, mm_heap_line_fn line,
                           void *ctx)
{
    struct leaks leaks = {.since = since, .line = line, .ctx = ctx};
    struct whole whole;
    mm_status_t status = line == NULL ? MM_ERR_INVALID_ARGUMENT : whole_cache(cache, &whole);

    return status != MM_OK ? status : list_leaks(&whole, &leaks);
}
