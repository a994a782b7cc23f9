// SPDX-License-Identifier: MIT
/**
 * The long way of heaps: what a heap does that records, is hardened or samples. What its objects
 * are is in records.c, hardened.c and sampled.c; here sizes are added to, and objects found.
 */
#include "heap.h"

#include "core/base/mem.h"
#include "core/base/report.h"

/** Bytes that an object takes beyond what is asked for. */
static uint64_t padding(const struct mm_heap *heap)
{
    return mmi_is_hardened(&heap->watch) ? MMI_FENCE : 0;
}

/* --- allocating ------------------------------------------------------------------------------- */

/** Whether it is the turn of a sample. */
static bool is_turn(struct mm_heap *heap, uint32_t cpu)
{
    uint64_t *left = &heap->hints[(size_t)cpu * MM_HEAP_CPU_HINTS + MMI_HEAP_COUNTDOWN];
    uint64_t seen = mmi_load(left);

    /* Two that count at once may count as one. */
    mmi_store(left, seen > 1 ? seen - 1 : heap->watch.sample_every);
    return seen <= 1;
}

static void *alloc_in_slab(struct mm_heap *heap, uint32_t cpu, uint64_t align, uint64_t size,
                           uint32_t flags)
{
    uint64_t *hint_at =
        &heap->hints[(size_t)cpu * MM_HEAP_CPU_HINTS + mmi_heap_class(heap, align, size)];
    void *object;

    if (mmi_is_hardened(&heap->watch)) {
        if (mmi_watch_claim(&heap->watch, mmi_load_acquire(hint_at), &object)) {
            return object;
        }
        object = mmi_heap_seek(heap, cpu, align, size, flags);
        return object != NULL && mmi_watch_owns(heap, object)
                   ? mmi_watch_shuffle(&heap->watch, object)
                   : object;
    }
    if (mmi_slab_alloc(hint_at, &object)) {
        return object;
    }
    return mmi_heap_seek(heap, cpu, align, size, flags);
}

/** A run was allocated: its record, and the canary at its end. */
static void run_made(struct mm_heap *heap, uint64_t address, uint64_t size, uint64_t caller)
{
    struct mmi_slab *run = mmi_heap_find_run(heap, address);
    struct mmi_record *record;

    if (run == NULL) {
        return;
    }
    record = mmi_run_record(run);
    if (mmi_is_hardened(&heap->watch)) {
        mmi_canary_set(&heap->watch, address + size,
                       address + mmi_load(&run->words[MMI_RUN_PAGES]) * MM_PAGE_SIZE);
    }
    mmi_store(&run->words[MMI_RUN_SIZE], size);
    mmi_store(&run->words[MMI_RUN_LAST], UINT64_C(0));
    mmi_store(&record->made, mmi_record_pack(caller, mmi_load(&heap->watch.mark) & 0xffff));
    mmi_store_release(&record->freed, mmi_live_run_pack(address));
}

void *mmi_watched_alloc(struct mm_heap *heap, uint32_t cpu, const struct mmi_want *want)
{
    struct mm_heap_watch *watch = &heap->watch;
    uint64_t size = want->size == 0 ? 1 : want->size;
    uint64_t natural = mmi_natural_align(size);
    uint64_t align = want->align > natural ? want->align : natural;
    uint64_t room;
    void *object;

    cpu %= watch->nr_cpus;
    if (watch->sample_every != 0 && is_turn(heap, cpu)) {
        object = mmi_sample_alloc(watch, want->align, size, want->caller);
        if (object != NULL) {
            return object;
        }
    }
    if (!mm_add(size, padding(heap), &room)) {
        mmi_fetch_add(&heap->nr_failed, UINT64_C(1));
        return NULL;
    }
    object = mmi_heap_in_slab(align, room) ? alloc_in_slab(heap, cpu, align, room, want->flags)
                                           : mmi_heap_seek(heap, cpu, align, room, want->flags);
    if (object == NULL || !mmi_has_records(watch)) {
        return object;
    }
    if (mmi_watch_owns(heap, object)) {
        mmi_watch_made(watch, (uint64_t)(uintptr_t)object, size, want->caller);
    } else {
        run_made(heap, (uint64_t)(uintptr_t)object, size, want->caller);
    }
    return object;
}

/* --- finding ---------------------------------------------------------------------------------- */

bool mmi_watch_owns(const struct mm_heap *heap, const void *object)
{
    const struct mmi_slab *slab = mmi_table_find(&heap->pool->table, (uint64_t)(uintptr_t)object);

    return slab != NULL &&
           mmi_load(&slab->class) - (uint64_t)(uintptr_t)heap->classes < sizeof(heap->classes);
}

/** A live object of a watched heap. */
struct live {
    struct mmi_sample *sample; /**< or */
    struct mmi_slab *slab;     /**< of slabs, or a run */
    struct mmi_record *record; /**< NULL: a sample, or nothing is recorded */
    uint64_t size;             /**< that its owner may use */
    uint64_t room;             /**< bytes of its place */
    uint64_t align;            /**< that it has */
    uint64_t asked;            /**< alignment that it keeps */
    unsigned index;            /**< of the slab */
    bool run;
};

static bool find_in_slab(const struct mm_heap *heap, uint64_t address, struct live *out)
{
    struct mmi_found found;
    unsigned index;

    if (!mmi_slab_find(&heap->pool->table, heap->classes, sizeof(heap->classes), address, &found) ||
        !mmi_slab_index(&found, &index)) {
        return false;
    }
    *out = (struct live){.slab = found.slab,
                         .room = mmi_load(&found.slab->size),
                         .size = mmi_load(&found.slab->size),
                         .align = mmi_slab_align(mmi_load(&found.slab->size)),
                         .asked = mmi_heap_asked(found.slab),
                         .index = index};
    if (mmi_has_records(&heap->watch)) {
        uint64_t freed;

        out->record = mmi_record_of(found.slab, index);
        freed = mmi_load_acquire(&out->record->freed);
        if (mmi_is_hardened(&heap->watch)) {
            uint64_t natural = mmi_natural_align(mmi_freed_size(freed));

            out->size = mmi_freed_size(freed);
            if (natural > out->align && mm_is_aligned(address, natural)) {
                out->align = natural;
            }
        }
        return mmi_freed_state(freed) == MMI_OBJECT_LIVE;
    }
    return mmi_slab_is_live(&found, index);
}

static bool find(const struct mm_heap *heap, uint64_t address, struct live *out)
{
    struct mmi_slab *run;

    if (mmi_in_samples(&heap->watch, address)) {
        struct mmi_sample *sample = mmi_sample_find(&heap->watch, address);

        if (sample != NULL) {
            *out = (struct live){.sample = sample,
                                 .room = mmi_load(&sample->size),
                                 .size = mmi_load(&sample->size),
                                 .asked = mmi_load(&sample->asked)};
        }
        return sample != NULL;
    }
    if (find_in_slab(heap, address, out)) {
        return true;
    }
    run = mmi_heap_find_run(heap, address);
    if (run == NULL) {
        return false;
    }
    *out = (struct live){.slab = run,
                         .room = mmi_load(&run->words[MMI_RUN_PAGES]) * MM_PAGE_SIZE,
                         .align = mmi_load(&run->words[MMI_RUN_ALIGN]),
                         .asked = mmi_heap_asked(run),
                         .run = true};
    out->size = out->room;
    if (mmi_has_records(&heap->watch)) {
        out->record = mmi_run_record(run);
        if (mmi_is_hardened(&heap->watch)) {
            out->size = mmi_load(&run->words[MMI_RUN_SIZE]);
        }
        return mmi_freed_state(mmi_load_acquire(&out->record->freed)) == MMI_OBJECT_LIVE;
    }
    return true;
}

size_t mmi_watched_usable_size(const struct mm_heap *heap, uint64_t address)
{
    struct live live;

    return find(heap, address, &live) ? live.size : 0;
}

/** What was asked for, where that is known; else what may be used. */
static uint64_t asked(const struct live *live)
{
    if (live->record == NULL) {
        return live->size;
    }
    return live->run ? mmi_load(&live->slab->words[MMI_RUN_SIZE])
                     : mmi_freed_size(mmi_load(&live->record->freed));
}

/* --- freeing ---------------------------------------------------------------------------------- */

/** The address cannot be freed, or resized. */
static void misuse(const struct mm_heap *heap, const struct mmi_free *free)
{
    if (mmi_in_samples(&heap->watch, free->address)) {
        mmi_sample_misuse(&heap->watch, free);
    } else {
        mmi_heap_misuse(heap, free->address, free->caller);
    }
}

/** Whether this can have been asked for the object: it has at least that alignment. */
static bool align_agrees(const struct live *live, uint64_t align)
{
    return align != 0 && align <= live->align;
}

/** Whether a sized free says what the object has. True also if it is no object. */
static bool size_agrees(const struct mm_heap *heap, const struct mmi_free *free)
{
    uint64_t size = free->size == 0 ? 1 : free->size;
    struct live live;

    if ((heap->watch.flags & MMI_WATCH_FAST) != 0 || !find(heap, free->address, &live) ||
        live.sample != NULL ||
        (live.record != NULL && asked(&live) == size && align_agrees(&live, free->align))) {
        return true;
    }
    if (mmi_is_hardened(&heap->watch) || !align_agrees(&live, free->align) ||
        !mmi_heap_may_have(heap, live.slab, size, free->align)) {
        mmi_heap_report_size(heap, live.slab, free, asked(&live));
        return false;
    }
    return true;
}

/** The canary behind a run of `room` bytes that is to be freed or resized. */
static void look_at_run(const struct mm_heap *heap, const struct mmi_slab *run, uint64_t room,
                        uint64_t caller)
{
    struct mmi_finding finding;

    if (!mmi_hardened_run(&heap->watch, run, room, &finding)) {
        finding.report.caller = caller;
        mmi_report(&heap->watch, &heap->pool->platform, &finding);
    }
}

/** Free a run with a record. False: none begins here that is live. */
static bool free_run(struct mm_heap *heap, const struct mmi_free *free)
{
    struct mmi_slab *run = mmi_heap_find_run(heap, free->address);
    uint64_t live = mmi_live_run_pack(free->address);

    if (run == NULL || !mmi_cas(&mmi_run_record(run)->freed, &live,
                                mmi_freed_pack(free->caller, MMI_OBJECT_FREE, 0))) {
        return false;
    }
    if (mmi_is_hardened(&heap->watch)) {
        look_at_run(heap, run, mmi_load(&run->words[MMI_RUN_PAGES]) * MM_PAGE_SIZE, free->caller);
    }
    mmi_store(&run->life, mmi_fetch_add(&mmi_slab_class(run)->nr_freed, 1u));
    mmi_store(&run->words[MMI_RUN_LAST], free->address);
    return mmi_heap_run_free(run, free->address);
}

void mmi_watched_free(struct mm_heap *heap, const struct mmi_free *free)
{
    struct mm_heap_watch *watch = &heap->watch;
    struct mmi_found found;
    uint64_t nr_pages = 0;
    unsigned index;
    bool done;

    if (mmi_in_samples(watch, free->address)) {
        mmi_sample_free(watch, free);
        return;
    }
    if (free->sized && !size_agrees(heap, free)) {
        return;
    }
    if (mmi_slab_find(&heap->pool->table, heap->classes, sizeof(heap->classes), free->address,
                      &found)) {
        done = mmi_slab_index(&found, &index) &&
               (mmi_has_records(watch) ? mmi_watch_free(watch, &found, index, free)
                                       : mmi_watch_free_bit(&found, index, &nr_pages));
    } else if (mmi_has_records(watch)) {
        done = free_run(heap, free);
    } else {
        done = mmi_heap_free_run(heap, free->address);
    }
    if (!done) {
        misuse(heap, free);
    }
}

/* --- resizing --------------------------------------------------------------------------------- */

static bool is_reserve(const struct mm_heap *heap, const struct mmi_slab *slab)
{
    return mmi_slab_class(slab) == &heap->reserve;
}

/** Whether the object has a place that is large enough, and not too large. */
static bool fits(const struct mm_heap *heap, const struct live *live, uint64_t address,
                 uint64_t size, uint64_t room)
{
    if (live->sample != NULL) {
        return size == live->size; /* else it would not end, or begin, at its guard */
    }
    if (room > live->room || !mm_is_aligned(address, mmi_natural_align(size))) {
        return false;
    }
    if (live->run && (is_reserve(heap, live->slab) || !mmi_heap_in_slab(live->asked, room))) {
        return true; /* set aside so; or its tail is given back */
    }
    return heap->classes[mmi_heap_class(heap, live->asked, room)].size > live->room / 2;
}

/** Whether it is a run that is longer now. */
static bool grows(const struct mm_heap *heap, const struct live *live, uint64_t room)
{
    return live->run && !is_reserve(heap, live->slab) && room > live->room &&
           mmi_heap_run_grow(live->slab, room, 0);
}

/** What the object has broken is told before its end moves over it. */
static void look_at_end(struct mm_heap *heap, const struct live *live, uint64_t caller)
{
    if (live->run) {
        look_at_run(heap, live->slab, live->room, caller);
    } else {
        mmi_hardened_resize(&heap->watch, live->slab, live->index, caller);
    }
}

/** Of a run, unless it would fit a slab; what is left, in bytes. */
static uint64_t give_tail_back(const struct mm_heap *heap, const struct live *live,
                               const struct mmi_want *want)
{
    uint64_t room = want->size + padding(heap);

    if (!mmi_heap_in_slab(live->asked, room)) {
        mmi_heap_run_shrink(live->slab, room);
    }
    return mmi_load(&live->slab->words[MMI_RUN_PAGES]) * MM_PAGE_SIZE;
}

/** It has the new size where it is; a sample, one that is not larger. */
static void stay(struct mm_heap *heap, const struct live *live, uint64_t address,
                 const struct mmi_want *want)
{
    uint64_t size = want->size;
    uint64_t room = live->room;

    if (live->sample != NULL) {
        mmi_sample_shrink(&heap->watch, live->sample, size);
        return;
    }
    if (mmi_is_hardened(&heap->watch)) {
        look_at_end(heap, live, want->caller);
    }
    mmi_heap_mark_resized(heap, live->slab, size);
    if (live->run && !is_reserve(heap, live->slab)) {
        room = give_tail_back(heap, live, want);
    }
    if (live->record == NULL) {
        return;
    }
    if (live->run) {
        mmi_store(&live->slab->words[MMI_RUN_SIZE], size);
    } else {
        mmi_store_release(&live->record->freed, mmi_live_pack(mmi_load(&live->slab->life), size));
    }
    if (mmi_is_hardened(&heap->watch)) {
        uint64_t fence = live->run ? 0 : MMI_FENCE;

        mmi_canary_set(&heap->watch, address + size, address + room - fence);
    }
}

/** No place is better than the one that it has, which is large enough; and nobody was refused. */
static void stay_after_all(struct mm_heap *heap, const struct live *live, uint64_t address,
                           const struct mmi_want *want)
{
    stay(heap, live, address, want);
    if (live->slab != NULL) {
        mmi_store(&live->slab->resized, (uint8_t)MMI_RESIZED_ANY);
    }
    mmi_fetch_sub(&heap->nr_failed, UINT64_C(1));
}

/** It was moved: what its new place has to know. */
static void moved_to(struct mm_heap *heap, const void *moved, const struct mmi_want *want)
{
    if (want->align > 16) {
        mmi_heap_mark_asked(heap, moved, want->align);
    }
    if (!mmi_has_records(&heap->watch) && mmi_watch_owns(heap, moved)) {
        mmi_heap_mark_resized(heap, mmi_table_find(&heap->pool->table, (uint64_t)(uintptr_t)moved),
                              want->size);
    }
}

void *mmi_watched_realloc(struct mm_heap *heap, uint64_t address, uint64_t size, uint64_t caller)
{
    struct mmi_want want = {.size = size == 0 ? 1 : size, .caller = caller};
    struct mmi_free free = {.address = address, .caller = caller};
    struct live live;
    uint64_t room;
    void *moved;

    size = want.size;
    if (!find(heap, address, &live)) {
        misuse(heap, &free);
        return NULL;
    }
    if (!mm_add(size, padding(heap), &room)) {
        room = UINT64_MAX; /* which no place has */
    }
    if (fits(heap, &live, address, size, room) || grows(heap, &live, room)) {
        stay(heap, &live, address, &want);
        return (void *)(uintptr_t)address;
    }
    want.align = live.asked;
    moved = mmi_watched_alloc(heap, mmi_heap_cpu(heap), &want);
    if (moved == NULL && (live.sample != NULL ? size : room) <= live.room) {
        stay_after_all(heap, &live, address, &want);
        return (void *)(uintptr_t)address;
    }
    if (moved != NULL) {
        moved_to(heap, moved, &want);
        memcpy(moved, (const void *)(uintptr_t)address, size < live.size ? size : live.size);
        mmi_watched_free(heap, &free);
    }
    return moved;
}
