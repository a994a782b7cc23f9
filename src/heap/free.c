// SPDX-License-Identifier: MIT
/**
 * Freeing: from an address to its slab and bit, and what is done with an address that is none.
 */
#include "heap.h"

#include "core/base/report.h"

void mmi_heap_misuse(const struct mm_heap *heap, uint64_t address, uint64_t caller)
{
    struct mmi_misuse misuse = {.caller = caller};

    if (mmi_is_heap(heap)) {
        misuse = (struct mmi_misuse){.pool = heap->pool,
                                     .name = heap->name,
                                     .classes = heap->classes,
                                     .classes_len = sizeof(heap->classes),
                                     .runs = &heap->runs,
                                     .large = mmi_heap_runs(heap, 1),
                                     .reserve = mmi_heap_runs(heap, 2),
                                     .watch = &heap->watch,
                                     .caller = caller};
    }
    mmi_slab_misuse(&misuse, address);
}

struct mmi_slab *mmi_heap_find_run(const struct mm_heap *heap, uint64_t address)
{
    struct mmi_slab *run = mmi_heap_descriptor(heap, address);

    /* The classes of runs lie side by side. */
    if (run == NULL ||
        mmi_load(&run->class) - (uint64_t)(uintptr_t)&heap->runs >=
            MMI_HEAP_RUN_CLASSES * sizeof(heap->runs) ||
        mmi_load_acquire(&run->base) != address) {
        return NULL;
    }
    return run;
}

bool mmi_heap_free_run(struct mm_heap *heap, uint64_t address)
{
    struct mmi_slab *run = mmi_heap_find_run(heap, address);

    return run != NULL && mmi_heap_run_free(run, address);
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
    if (mmi_is_heap(heap) && mmi_heap_free_run(heap, address)) {
        return;
    }
    mmi_heap_misuse(heap, address, caller);
}

/** Free the object with this index, of this word. False: it is free, and nothing was done. */
MMI_INLINE bool free_index(const struct mmi_found *found, uint64_t *word, unsigned index)
{
    uint64_t nr_pages = 0;

    return mmi_slab_free(found, word, mmi_slab_bit(index), &nr_pages);
}

MMI_INLINE uint64_t *word_of(const struct mmi_found *found, unsigned index)
{
    return &found->slab->words[index / MMI_SLAB_WORD_BITS];
}

MMI_INLINE void free_object(struct mm_heap *heap, uint64_t address, uint64_t caller)
{
    struct mmi_found found;
    unsigned index;

    if (!(heap != NULL &&
          mmi_slab_find(&heap->table, heap->classes, sizeof(heap->classes), address, &found) &&
          mmi_slab_index(&found, &index) && free_index(&found, word_of(&found, index), index))) {
        free_slow(heap, address, caller);
    }
}

void mmi_heap_free(struct mm_heap *heap, uint64_t address, uint64_t caller)
{
    free_object(heap, address, caller);
}

MMI_NOINLINE static void free_unlike(struct mm_heap *heap, uint64_t address, uint64_t size,
                                     uint64_t align, uint64_t caller)
{
    struct mmi_free free = {
        .address = address, .caller = caller, .size = size, .align = align, .sized = true};

    mmi_heap_free_unlike(heap, &free);
}

MMI_INLINE void free_sized(struct mm_heap *heap, void *object, size_t size, size_t align,
                           const void *caller)
{
    uint64_t address = (uint64_t)(uintptr_t)object;
    struct mmi_found found;
    unsigned index;

    align = mmi_heap_align(align);
    if (heap != NULL && align != 0 && mmi_heap_in_slab(align, size)) {
        unsigned number = mmi_heap_class(heap, align, size);

        if (mmi_slab_find(&heap->table, &heap->classes[number], sizeof(heap->classes[number]),
                          address, &found) &&
            mmi_slab_index(&found, &index) && free_index(&found, word_of(&found, index), index)) {
            return;
        }
    }
    free_unlike(heap, address, size, align, MMI_CALLER_FROM(caller));
}

void mm_heap_free_sized(struct mm_heap *heap, void *object, size_t size, size_t align)
{
    free_sized(heap, object, size, align, NULL);
}

void mm_heap_free_sized_from(struct mm_heap *heap, void *object, size_t size, size_t align,
                             const void *caller)
{
    free_sized(heap, object, size, align, caller);
}

/**
 * The CPU remembers the object of its last free that was looked up, and its word. If the same one is
 * freed again, because it was allocated meanwhile, what is written need not be found first: the
 * address is at hand, and only the bit is computed. Nothing less than the same object is guessed: in
 * random order a free is in the same page as the last one often enough to make the branch a bad one.
 */
MMI_INLINE bool free_again(const uint64_t *hints, uint32_t cpu, uint64_t address)
{
    uint64_t hint = mmi_load_acquire(&hints[MMI_HEAP_LAST_WORD]);
    struct mmi_found found;
    unsigned index;

    return hint != 0 && mmi_slab_holds(mmi_hint_slab(hint), address, &found) &&
           mmi_slab_index(&found, &index) && index - mmi_hint_index(hint) < MMI_SLAB_WORD_BITS &&
           mmi_load(&found.slab->cpu) == cpu &&
           free_index(&found, (uint64_t *)(uintptr_t)hint, index);
}

/** The next object of the class comes from where this one is freed to, if the slab is the CPU's own:
 * it is at hand, and the word is not empty. */
MMI_INLINE void free_on(struct mm_heap *heap, uint32_t cpu, uint64_t address, uint64_t caller)
{
    uint64_t *hints = &heap->hints[(size_t)cpu * MM_HEAP_CPU_HINTS];
    struct mmi_found found;
    unsigned index;

    if (mmi_load(&hints[MMI_HEAP_LAST_OBJECT]) == address && free_again(hints, cpu, address)) {
        return;
    }
    if (mmi_slab_find(&heap->table, heap->classes, sizeof(heap->classes), address, &found) &&
        mmi_slab_index(&found, &index)) {
        uint64_t *word = word_of(&found, index);

        if (mmi_slab_hint_freed(&hints[mmi_load(&found.slab->number)], found.slab,
                                index / MMI_SLAB_WORD_BITS, cpu)) {
            mmi_store(&hints[MMI_HEAP_LAST_OBJECT], address);
            mmi_store_release(&hints[MMI_HEAP_LAST_WORD], (uint64_t)(uintptr_t)word);
        }
        if (free_index(&found, word, index)) {
            return;
        }
    }
    free_slow(heap, address, caller);
}

void mmi_heap_free_on(struct mm_heap *heap, uint32_t cpu, uint64_t address, uint64_t caller)
{
    if (MMI_UNLIKELY(cpu >= heap->nr_cpus)) {
        mmi_heap_free(heap, address, caller);
        return;
    }
    free_on(heap, cpu, address, caller);
}

MMI_HOT void mm_heap_free_on(struct mm_heap *heap, uint32_t cpu, void *object)
{
    uint64_t address = (uint64_t)(uintptr_t)object;

    if (MMI_UNLIKELY(heap == NULL || cpu >= heap->nr_cpus)) {
        mmi_heap_free(heap, address, MMI_CALLER());
        return;
    }
    free_on(heap, cpu, address, MMI_CALLER());
}

/** What the CPU remembers is worth the call of the op. */
void mm_heap_free(struct mm_heap *heap, void *object)
{
    uint64_t address = (uint64_t)(uintptr_t)object;
    uint32_t cpu;

    if (MMI_LIKELY(mmi_is_heap(heap)) && (cpu = mmi_heap_cpu(heap)) < heap->nr_cpus) {
        free_on(heap, cpu, address, MMI_CALLER());
    } else {
        mmi_heap_free(heap, address, MMI_CALLER());
    }
}

void mm_heap_free_from(struct mm_heap *heap, void *object, const void *caller)
{
    uint64_t address = (uint64_t)(uintptr_t)object;

    if (mmi_is_heap(heap)) {
        mmi_heap_free_on(heap, mmi_heap_cpu(heap), address, MMI_CALLER_FROM(caller));
    } else {
        mmi_heap_free(heap, address, MMI_CALLER_FROM(caller));
    }
}
