// SPDX-License-Identifier: MIT
/**
 * What needs to know how large an object is: resizing, freeing with a size, and asking for it.
 */
#include "heap.h"

#include "core/base/mem.h"
#include "core/base/report.h"

static bool is_run(const struct mm_heap *heap, const struct mmi_slab *slab)
{
    return mmi_slab_class(slab) == &heap->runs || mmi_slab_class(slab) == &heap->large;
}

/** The slab, or run, of a live object that begins here; NULL: none of this heap. */
static struct mmi_slab *find_live(const struct mm_heap *heap, uint64_t address)
{
    struct mmi_found found;
    unsigned index;

    if (mmi_slab_find(&heap->table, heap->classes, sizeof(heap->classes), address, &found)) {
        if (!mmi_slab_index(&found, &index) ||
            (mmi_load(&found.slab->words[index / MMI_SLAB_WORD_BITS]) & mmi_slab_bit(index)) != 0) {
            return NULL;
        }
        return found.slab;
    }
    found.slab = mmi_heap_run_find(&heap->runs, address);
    if (found.slab == NULL && heap->large.pool != NULL) {
        return mmi_heap_run_find(&heap->large, address);
    }
    return found.slab;
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
    slab = find_live(heap, (uint64_t)(uintptr_t)object);
    return slab == NULL ? 0 : usable(heap, slab);
}

/** What mm_heap_alloc() promises for a size. */
static uint64_t natural_align(uint64_t size)
{
    if (size < 16 || !mm_is_pow2(size)) {
        return 16;
    }
    return size < MM_PAGE_SIZE ? size : MM_PAGE_SIZE;
}

/** The alignment that an object has, and keeps. */
static uint64_t align_of(const struct mm_heap *heap, const struct mmi_slab *slab)
{
    uint64_t has = usable(heap, slab);
    uint64_t align = has & (0 - has);

    if (is_run(heap, slab)) {
        return mmi_load(&slab->words[MMI_RUN_ALIGN]);
    }
    return align > MM_PAGE_SIZE ? MM_PAGE_SIZE : align;
}

/** The size of objects in whose slabs this one would be, if it were allocated. */
static uint64_t slot_size(const struct mm_heap *heap, uint64_t align, uint64_t size)
{
    return heap->classes[mmi_heap_class(heap, align, size)].size;
}

/**
 * An object has a size now that alone would have given it another place. Whoever frees it with that
 * size is right: so from now on no sized free into this slab is told that is not certainly wrong.
 */
static void mark_resized(const struct mm_heap *heap, struct mmi_slab *slab, uint64_t size)
{
    if (mmi_heap_in_slab(16, size) && usable(heap, slab) != slot_size(heap, 16, size)) {
        mmi_store(&slab->resized, (uint8_t)1);
    }
}

/** Whether the object can stay where it is, at its new size; a run gives back its tail then. */
static bool resize_in_place(struct mm_heap *heap, struct mmi_slab *slab, uint64_t address,
                            uint64_t align, uint64_t size)
{
    uint64_t had = usable(heap, slab);

    if (!mm_is_aligned(address, align)) {
        return false;
    }
    if (size > had) {
        return is_run(heap, slab) && mmi_heap_run_grow(slab, size, 0);
    }
    if (!mmi_heap_in_slab(align, size)) {
        mmi_heap_run_shrink(slab, size);
        return true;
    }
    /* Worth a copy only if at least half of it is saved. */
    return slot_size(heap, align, size) > had / 2;
}

void *mm_heap_realloc(struct mm_heap *heap, void *object, size_t size)
{
    uint64_t address = (uint64_t)(uintptr_t)object;
    struct mmi_slab *slab;
    uint64_t align;
    uint64_t had;
    uint32_t cpu;
    void *moved;

    if (object == NULL) {
        return mm_heap_alloc(heap, size);
    }
    slab = mmi_is_heap(heap) ? find_live(heap, address) : NULL;
    if (slab == NULL) {
        mmi_heap_panic_free(heap, address);
    }
    had = usable(heap, slab);
    align = align_of(heap, slab);
    align = align > natural_align(size) ? align : natural_align(size);
    if (resize_in_place(heap, slab, address, align, size)) {
        mark_resized(heap, slab, size);
        return object;
    }
    cpu = mmi_cpu_number(&heap->pool->platform);
    moved = mmi_heap_alloc(heap, cpu, align, size, 0);
    if (moved != NULL) {
        if (align > 16 && mmi_heap_in_slab(align, size) &&
            slot_size(heap, align, size) != slot_size(heap, 16, size)) {
            mark_resized(heap, find_live(heap, (uint64_t)(uintptr_t)moved), size);
        }
        memcpy(moved, object, size < had ? size : had);
        mm_heap_free_on(heap, cpu, object);
    }
    return moved;
}

void *mm_heap_realloc_array(struct mm_heap *heap, void *object, size_t nr, size_t size)
{
    uint64_t bytes;

    return mm_mul(nr, size, &bytes) ? mm_heap_realloc(heap, object, bytes) : NULL;
}

/** Whether an allocation of this size and alignment can have given an object of this slab. */
static bool may_have(const struct mm_heap *heap, const struct mmi_slab *slab, uint64_t size,
                     uint64_t align)
{
    uint64_t has = usable(heap, slab);

    if (align == 0 || size > has) {
        return false;
    }
    if (!mmi_heap_in_slab(align, size)) {
        return is_run(heap, slab) && mmi_load(&slab->words[MMI_RUN_ALIGN]) >= align &&
               mmi_heap_run_pages(size) == has >> MM_PAGE_SHIFT;
    }
    if (mmi_load(&slab->resized) != 0) {
        uint64_t has_align = align_of(heap, slab);

        return align <= has_align && mmi_heap_in_slab(has_align, size) &&
               slot_size(heap, has_align, size) > has / 2;
    }
    return !is_run(heap, slab) && has == slot_size(heap, align, size);
}

void mmi_heap_free_unlike(struct mm_heap *heap, void *object, uint64_t size, uint64_t align)
{
    uint64_t address = (uint64_t)(uintptr_t)object;
    const struct mmi_slab *slab = mmi_is_heap(heap) ? find_live(heap, address) : NULL;

    /* What is no object of ours is told by the free itself. */
    if (slab != NULL && !may_have(heap, slab, size, align)) {
        struct mm_panic_info info = {.room = "heap",
                                     .what = "free of an object with the size of another",
                                     .address = address,
                                     .recorded = "bytes at most",
                                     .recorded_value = usable(heap, slab),
                                     .claimed = "bytes",
                                     .claimed_value = size};

        mmi_panic(&heap->pool->platform, &info);
    }
    mm_heap_free(heap, object);
}
