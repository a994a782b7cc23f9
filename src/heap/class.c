// SPDX-License-Identifier: MIT
/**
 * A class of slabs, or of runs, as a whole: what it is made of, and how its descriptors come and go.
 */
#include "watch.h"

#include "core/base/mem.h"

/** The smallest slab that spends at most an eighth on its end, and the largest that has no other.
 */
static void choose_orders(struct mm_slab_class *class)
{
    uint64_t size = class->size;
    uint64_t lead = class->lead;
    uint64_t max = (uint64_t) class->nr_words * MMI_SLAB_WORD_BITS;
    uint64_t bytes = MM_PAGE_SIZE;
    unsigned order = 0;

    while (order < MMI_SLAB_MAX_ORDER &&
           (bytes < lead + size || ((bytes - lead) % size + lead) * 8 > bytes)) {
        order++;
        bytes *= 2;
    }
    class->min_order = (uint8_t)order;
    while (order < MMI_SLAB_MAX_ORDER && bytes * 2 <= size * max) {
        order++;
        bytes *= 2;
    }
    class->max_order = (uint8_t)order;
}

void mmi_class_init(struct mm_slab_class *class, const struct mmi_class_config *config)
{
    memset(class, 0, sizeof(*class));
    class->pool = config->pool;
    class->name = config->name;
    class->owner = config->owner;
    class->hints = config->hints;
    class->owned = config->owned;
    class->own = config->own;
    class->stride = config->stride;
    class->nr_cpus = (uint16_t)config->nr_cpus;
    class->construct = config->construct;
    class->ctx = config->ctx;
    class->size = config->size;
    class->number = config->number;
    class->lead = config->lead;
    class->watch = config->watch;
    class->nr_words = config->watch != NULL ? MMI_RECORDS_WORD : MMI_SLAB_WORDS;
    if (config->size != 0) {
        class->reciprocal = (uint32_t)(((UINT64_C(1) << 32) + config->size - 1) / config->size);
        choose_orders(class);
    }
}

struct mmi_slab *mmi_class_get_slab(struct mm_slab_class *class, uint32_t flags)
{
    struct mmi_slab *slab = mmi_list_pop(class->pool, &class->unused);
    uint64_t seen;

    if (slab != NULL) {
        return slab;
    }
    slab = mmi_pool_get_slab(class->pool, flags);
    if (slab == NULL) {
        return NULL;
    }
    mmi_store(&slab->class, (uint64_t)(uintptr_t) class);
    mmi_store(&slab->size, (uint16_t) class->size);
    mmi_store(&slab->number, (uint8_t) class->number);
    mmi_store(&slab->reciprocal, class->reciprocal);
    mmi_store(&slab->nr_objects,
              (uint16_t)0); /* not those of another class: its words are no bits yet */
    if (class->watch != NULL) {
        mmi_store(&slab->words[MMI_RECORDS_WORD], UINT64_C(0));
    }
    seen = mmi_load(&class->all);
    do {
        mmi_store(&slab->all_next, seen);
    } while (!mmi_cas(&class->all, &seen, (uint64_t)(uintptr_t)slab));
    return slab;
}

void mmi_class_destroy(struct mm_slab_class *class)
{
    struct mmi_slab *slab;

    mmi_class_reclaim(class);
    slab = mmi_slab_of(mmi_load_acquire(&class->all));
    while (slab != NULL) {
        struct mmi_slab *next = mmi_slab_of(slab->all_next);

        mmi_store(&slab->state, (uint8_t)MMI_SLAB_DEAD);
        mmi_store(&slab->bytes, 0u);
        if (class->watch != NULL) {
            mmi_records_release(slab);
        }
        mmi_list_push(class->pool, &class->pool->slabs, slab);
        slab = next;
    }
}
