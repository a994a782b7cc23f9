// SPDX-License-Identifier: MIT
/**
 * What needs to know how large an object is: resizing, freeing with a size, and asking for it.
 */
#include "heap.h"

#include "core/base/mem.h"
#include "core/base/report.h"

static bool is_run(const struct mm_heap *heap, const struct mmi_slab *slab)
{
    return mmi_slab_class(slab) == &heap->runs || mmi_slab_class(slab) == &heap->large ||
           mmi_slab_class(slab) == &heap->reserve;
}

/** The slab, or run, of a live object that begins here; NULL: none of this heap. */
static struct mmi_slab *find_live(const struct mm_heap *heap, uint64_t address)
{
    struct mmi_found found;
    unsigned index;

    if (mmi_slab_find(&heap->pool->table, heap->classes, sizeof(heap->classes), address, &found)) {
        return mmi_slab_index(&found, &index) && mmi_slab_is_live(&found, index) ? found.slab
                                                                                 : NULL;
    }
    return mmi_heap_find_run(heap, address);
}

static uint64_t usable(const struct mm_heap *heap, const struct mmi_slab *slab)
{
    return is_run(heap, slab) ? mmi_load(&slab->words[MMI_RUN_PAGES]) * MM_PAGE_SIZE
                              : mmi_load(&slab->size);
}

size_t mm_heap_usable_size(const struct mm_heap *heap, const void *object)
{
    const struct mmi_slab *slab;

    if (!mmi_is_heap(heap)) {
        return 0;
    }
    if (mmi_is_watched(&heap->watch)) {
        return mmi_watched_usable_size(heap, (uint64_t)(uintptr_t)object);
    }
    slab = find_live(heap, (uint64_t)(uintptr_t)object);
    return slab == NULL ? 0 : usable(heap, slab);
}

void mmi_heap_mark_asked(const struct mm_heap *heap, const void *object, uint64_t align)
{
    struct mmi_slab *slab = mmi_heap_descriptor(heap, (uint64_t)(uintptr_t)object);
    uint8_t asked = (uint8_t)mmi_log2(align);
    uint8_t seen;

    if (slab == NULL) {
        return; /* a sample */
    }
    seen = mmi_load(&slab->asked);
    while (seen < asked && !mmi_cas(&slab->asked, &seen, asked)) {
    }
}

/** The size of objects in whose slabs this one would be, if it were allocated. */
static uint64_t slot_size(const struct mm_heap *heap, uint64_t align, uint64_t size)
{
    return heap->classes[mmi_heap_class(heap, align, size)].size;
}

/* Whoever frees it with that size is right: so from now on no sized free into this slab is told that
 * is not certainly wrong. */
void mmi_heap_mark_resized(const struct mm_heap *heap, struct mmi_slab *slab, uint64_t size)
{
    if (mmi_heap_in_slab(16, size) && usable(heap, slab) != slot_size(heap, 16, size)) {
        mmi_fetch_or(&slab->resized, (uint8_t)MMI_RESIZED);
    }
}

/** Whether the object can stay where it is, at its new size; a run gives back its tail then. */
static bool resize_in_place(struct mm_heap *heap, struct mmi_slab *slab, uint64_t address,
                            uint64_t asked, uint64_t size)
{
    uint64_t had = usable(heap, slab);

    if (!mm_is_aligned(address, mmi_natural_align(size))) {
        return false;
    }
    if (mmi_slab_class(slab) == &heap->reserve) {
        return size <= had; /* it stays as long as it is: it was set aside so */
    }
    if (size > had) {
        return is_run(heap, slab) && mmi_heap_run_grow(slab, size, 0);
    }
    if (!mmi_heap_in_slab(asked, size)) {
        mmi_heap_run_shrink(slab, size);
        return true;
    }
    /* Worth a copy only if at least half of it is saved. */
    return slot_size(heap, asked, size) > had / 2;
}

MMI_NOINLINE static void *resize(struct mm_heap *heap, void *object, size_t size, uint64_t caller)
{
    uint64_t address = (uint64_t)(uintptr_t)object;
    struct mmi_slab *slab;
    uint64_t asked;
    uint64_t had;
    uint32_t cpu;
    void *moved;

    if (object == NULL) {
        return mmi_is_heap(heap) ? mmi_heap_alloc(heap, mmi_heap_cpu(heap), 16, size, 0, caller)
                                 : NULL;
    }
    if (mmi_is_heap(heap) && mmi_is_watched(&heap->watch)) {
        return mmi_watched_realloc(heap, address, size, caller);
    }
    slab = mmi_is_heap(heap) ? find_live(heap, address) : NULL;
    if (slab == NULL) {
        mmi_heap_misuse(heap, address, caller);
        return NULL;
    }
    had = usable(heap, slab);
    asked = mmi_heap_asked(slab);
    if (resize_in_place(heap, slab, address, asked, size)) {
        mmi_heap_mark_resized(heap, slab, size);
        return object;
    }
    cpu = mmi_heap_cpu(heap);
    moved = mmi_heap_alloc(heap, cpu, asked, size, 0, caller);
    if (moved == NULL && size <= had) {
        /* No place is better than this one; and nobody was refused. */
        mmi_store(&slab->resized, (uint8_t)MMI_RESIZED_ANY);
        mmi_fetch_sub(&heap->nr_failed, UINT64_C(1));
        return object;
    }
    if (moved != NULL) {
        if (asked > 16) {
            mmi_heap_mark_asked(heap, moved, asked);
            mmi_heap_mark_resized(heap, find_live(heap, (uint64_t)(uintptr_t)moved), size);
        }
        memcpy(moved, object, size < had ? size : had);
        mmi_heap_free_on(heap, cpu, address, caller);
    }
    return moved;
}

/** Whether it is an object of the class that the size has: then all that there is to do is nothing.
 * This is how most objects grow that grow by little. */
MMI_INLINE bool fits(const struct mm_heap *heap, const void *object, size_t size)
{
    struct mmi_found found;
    unsigned index;

    return heap != NULL && size <= MM_HEAP_MAX_SLAB_SIZE &&
           mmi_slab_find(&heap->table, heap->classes, sizeof(heap->classes),
                         (uint64_t)(uintptr_t)object, &found) &&
           mmi_slab_index(&found, &index) &&
           mmi_load(&found.slab->number) == mmi_heap_class_of(size) &&
           mmi_slab_is_live(&found, index);
}

void *mm_heap_realloc(struct mm_heap *heap, void *object, size_t size)
{
    return fits(heap, object, size) ? object : resize(heap, object, size, MMI_CALLER());
}

void *mm_heap_realloc_from(struct mm_heap *heap, void *object, size_t size, const void *caller)
{
    return fits(heap, object, size) ? object : resize(heap, object, size, MMI_CALLER_FROM(caller));
}

void *mm_heap_realloc_array(struct mm_heap *heap, void *object, size_t nr, size_t size)
{
    uint64_t bytes;

    return mm_mul(nr, size, &bytes) ? resize(heap, object, bytes, MMI_CALLER()) : NULL;
}

bool mmi_heap_may_have(const struct mm_heap *heap, const struct mmi_slab *slab, uint64_t size,
                       uint64_t align)
{
    uint64_t has = usable(heap, slab);

    if (align == 0 || size > has) {
        return false;
    }
    if (mmi_slab_class(slab) == &heap->reserve) {
        return true;
    }
    if (!mmi_heap_in_slab(align, size)) {
        return is_run(heap, slab) && mmi_load(&slab->words[MMI_RUN_ALIGN]) >= align &&
               mmi_heap_run_pages(size) == has >> MM_PAGE_SHIFT;
    }
    if (mmi_load(&slab->resized) != 0) {
        uint64_t asked = mmi_heap_asked(slab);

        return align <= asked &&
               (mmi_load(&slab->resized) == MMI_RESIZED_ANY ||
                (mmi_heap_in_slab(asked, size) && slot_size(heap, asked, size) > has / 2));
    }
    return !is_run(heap, slab) && has == slot_size(heap, align, size);
}

void mmi_heap_report_size(const struct mm_heap *heap, const struct mmi_slab *slab,
                          const struct mmi_free *free, uint64_t has)
{
    struct mmi_finding finding = {.report = {.kind = MM_HEAP_SIZE_MISMATCH,
                                             .what = "free of an object with the size of another",
                                             .name = heap->name,
                                             .address = free->address,
                                             .claimed = free->size,
                                             .caller = free->caller},
                                  .recorded = "bytes at most",
                                  .recorded_value = has};

    mmi_report_at(&finding.report, slab, free->address);
    mmi_report(&heap->watch, &heap->pool->platform, &finding);
}

void mmi_heap_free_unlike(struct mm_heap *heap, const struct mmi_free *free)
{
    const struct mmi_slab *slab;

    if (free->address != 0 && mmi_is_heap(heap) && mmi_is_watched(&heap->watch)) {
        mmi_watched_free(heap, free);
        return;
    }
    /* What is no object of ours is told by the free itself. */
    slab = mmi_is_heap(heap) ? find_live(heap, free->address) : NULL;
    if (slab != NULL && (heap->watch.flags & MMI_WATCH_FAST) == 0 &&
        !mmi_heap_may_have(heap, slab, free->size, free->align)) {
        mmi_heap_report_size(heap, slab, free, usable(heap, slab));
        return;
    }
    mmi_heap_free(heap, free->address, free->caller);
}
