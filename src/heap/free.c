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
    struct mmi_slab *run = NULL;

    for (unsigned i = 0; run == NULL && i < MMI_HEAP_RUN_CLASSES; i++) {
        const struct mm_slab_class *runs = mmi_heap_runs(heap, i);

        run = runs != NULL ? mmi_heap_run_find(runs, address) : NULL;
    }
    return run;
}

bool mmi_heap_free_run(struct mm_heap *heap, uint64_t address)
{
    const struct mmi_slab *run = mmi_heap_find_run(heap, address);

    return run != NULL && mmi_heap_run_free(mmi_slab_class(run), address);
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

/** The bits that a wrong free has set are as they were; then it is told. */
MMI_NOINLINE static void free_wrong(struct mm_heap *heap, uint64_t address, uint64_t *word,
                                    uint32_t bits, uint64_t caller)
{
    mmi_slab_unfree(word, bits);
    free_slow(heap, address, caller);
}

/** Free the object with this index of a slab of ours. */
MMI_INLINE void free_index(struct mm_heap *heap, uint64_t address, const struct mmi_found *found,
                           uint64_t *word, unsigned index, uint64_t caller)
{
    uint32_t now = 0;
    enum mmi_freed freed = mmi_slab_free(found, word, mmi_slab_bit(index), &now);

    if (MMI_UNLIKELY(freed == MMI_FREED_WRONG)) {
        free_wrong(heap, address, word, now, caller);
    } else if (freed == MMI_FREED_LOOK) {
        mmi_slab_freed(found->slab, word, now);
    }
}

MMI_INLINE void free_object(struct mm_heap *heap, uint64_t address, uint64_t caller)
{
    struct mmi_found found;
    unsigned index;

    if (heap != NULL &&
        mmi_slab_find(&heap->table, heap->classes, sizeof(heap->classes), address, &found) &&
        mmi_slab_index(&found, &index)) {
        free_index(heap, address, &found, &found.slab->words[index / MMI_SLAB_WORD_BITS], index,
                   caller);
    } else {
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
            free_index(heap, address, &found, &found.slab->words[index / MMI_SLAB_WORD_BITS], index,
                       MMI_CALLER());
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
        free_index(heap, address, &found, &found.slab->words[word], index, caller);
    } else {
        free_slow(heap, address, caller);
    }
}

/**
 * The CPU remembers the word of its last free that was not guessed, if the slab is its own, for two
 * ends. The next object of this class comes from there: it is at hand, and the word is not empty.
 * And the next free is guessed to be in this word: so the address of what is written need not be
 * computed from the object, only the bit is. That pays only if it is right, so the page is compared
 * first.
 */
MMI_INLINE void free_on(struct mm_heap *heap, uint32_t cpu, uint64_t address)
{
    uint64_t *hints = &heap->hints[(size_t)cpu * MM_HEAP_CPU_HINTS];
    struct mmi_found found;
    uint64_t hint;
    unsigned index;

    if (mmi_load(&hints[MMI_HEAP_LAST_PAGE]) != address >> MM_PAGE_SHIFT) {
        free_unguessed(heap, hints, address, cpu, MMI_CALLER());
        return;
    }
    hint = mmi_load_acquire(&hints[MMI_HEAP_LAST_FREED]);
    if (hint != 0 && mmi_slab_guess(mmi_hint_slab(hint), address, &found) &&
        mmi_slab_index(&found, &index) && index - mmi_hint_index(hint) < MMI_SLAB_WORD_BITS &&
        mmi_load(&found.slab->cpu) == cpu) {
        free_index(heap, address, &found, (uint64_t *)(uintptr_t)hint, index, MMI_CALLER());
    } else {
        free_unguessed(heap, hints, address, cpu, MMI_CALLER());
    }
}

void mm_heap_free_on(struct mm_heap *heap, uint32_t cpu, void *object)
{
    uint64_t address = (uint64_t)(uintptr_t)object;

    if (MMI_UNLIKELY(heap == NULL || cpu >= heap->nr_cpus)) {
        mmi_heap_free(heap, address, MMI_CALLER());
        return;
    }
    free_on(heap, cpu, address);
}

/** What the CPU remembers is worth the call of the op. */
void mm_heap_free(struct mm_heap *heap, void *object)
{
    uint64_t address = (uint64_t)(uintptr_t)object;
    uint32_t cpu = mmi_is_heap(heap) ? mmi_cpu_number(&heap->pool->platform) : 0;

    if (MMI_UNLIKELY(heap == NULL || cpu >= heap->nr_cpus)) {
        mmi_heap_free(heap, address, MMI_CALLER());
        return;
    }
    free_on(heap, cpu, address);
}
