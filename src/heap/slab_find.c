// SPDX-License-Identifier: MIT
/**
 * Slabs: where a class looks when the word that a CPU's hint names is used up.
 *
 * 1. The other words of the slab that the CPU owns.
 * 2. Its own partial slabs: those that it was the last to own, and that were less than half free when
 *    they were listed. Nearly all that lives in them is the CPU's, so that nearly all that is freed
 *    into them is, too; if any CPU went on with them, all slabs would soon hold objects of all CPUs,
 *    and every free take a cache line from another.
 * 3. Slabs that were at least half free when they were listed, whoever had them; the fuller first.
 * 4. Partial slabs of other CPUs: what a CPU leaves behind that has turned to something else.
 * 5. Slabs that no sample has listed, of a few that it looks at in turn: if an eighth is free.
 * 6. A new slab.
 * 7. If there is no memory, every free object that there is.
 *
 * Before 5 no more than VAIN_MOST slabs are taken off lists in vain.
 */
#include "slab_states.h"

#include "watch.h"

#include "core/base/report.h"

/** Unlisted slabs, and descriptors, that a class looks at before it grows; and slabs that an allocation
 * takes off lists in vain. */
#define PROBES      4u
#define DESCRIPTORS 32u
#define VAIN_MOST   8u

/**
 * Let the CPU go on with this word of a slab that it owned a moment ago. If it has lost the slab
 * since, to an interrupt or to who reclaims, it forgets the word: two CPUs are not to share one.
 */
static void set_word(const struct mm_slab_class *class, uint32_t cpu, const struct mmi_slab *slab,
                     unsigned word)
{
    uint64_t at = (uint64_t)cpu * class->stride;

    mmi_store(&class->hints[at], mmi_hint(slab, word));
    if (mmi_load(&class->owned[at]) != (uint64_t)(uintptr_t)slab) {
        mmi_class_forget_word(class, cpu);
    }
}

/** Make a slab that the caller owns the CPU's own, and drop the one that was. */
static void install(struct mm_slab_class *class, uint32_t cpu, struct mmi_slab *slab, unsigned word)
{
    uint64_t old;

    mmi_store(&slab->cpu, (uint16_t)cpu);
    old = mmi_exchange(&class->owned[(uint64_t)cpu * class->stride], (uint64_t)(uintptr_t)slab);
    set_word(class, cpu, slab, word);
    if (old != 0) {
        mmi_slab_drop(mmi_slab_of(old), true);
    }
}

/** The slab was taken off the partial list: true if the caller owns it now. */
static bool own(struct mmi_slab *slab)
{
    struct mm_slab_class *class = mmi_slab_class(slab);

    for (;;) {
        switch (mmi_load_acquire(&slab->state)) {
        case MMI_SLAB_LISTED:
            if (mmi_slab_become(slab, MMI_SLAB_LISTED, MMI_SLAB_OWNED)) {
                mmi_slab_look_in(slab, MMI_SLAB_OWNED);
                return true;
            }
            break;
        case MMI_SLAB_KEPT:
            if (mmi_slab_become(slab, MMI_SLAB_KEPT, MMI_SLAB_OWNED)) {
                mmi_store(&class->nr_kept, 0u);
                mmi_slab_look_in(slab, MMI_SLAB_OWNED);
                return true;
            }
            break;
        case MMI_SLAB_RETIRING:
            if (mmi_slab_become(slab, MMI_SLAB_RETIRING, MMI_SLAB_RETIRING_OFF)) {
                return false;
            }
            break;
        default: /* MMI_SLAB_DEAD_LISTED: nobody else changes it */
            mmi_store_release(&slab->state, (uint8_t)MMI_SLAB_DEAD);
            mmi_list_push(class->pool, &class->unused, slab);
            return false;
        }
    }
}

/** Allocate from a slab that the caller owns, and make it the CPU's own; NULL: it has nothing. */
static void *take_up(struct mm_slab_class *class, uint32_t cpu, struct mmi_slab *slab)
{
    unsigned word = 0;
    void *object = mmi_slab_take(slab, &word);

    if (object != NULL) {
        install(class, cpu, slab, word);
    } else {
        mmi_slab_drop(slab, true);
    }
    return object;
}

static uint64_t *own_list(const struct mm_slab_class *class, uint32_t cpu)
{
    return &class->own[(uint64_t)cpu * class->stride];
}

/** From a slab of this list. No more than `*most` are taken off in vain: dead ones, and such that
 * others have emptied since. */
static void *take_listed(struct mm_slab_class *class, uint32_t cpu, uint64_t *list, unsigned *most)
{
    struct mmi_slab *slab;

    while (*most != 0 && (slab = mmi_list_pop(class->pool, list)) != NULL) {
        void *object = own(slab) ? take_up(class, cpu, slab) : NULL;

        if (object != NULL) {
            return object;
        }
        (*most)--;
    }
    return NULL;
}

/** From the CPU's own partial slabs, and then from those that are anybody's. */
static void *take_partial(struct mm_slab_class *class, uint32_t cpu, unsigned *most)
{
    void *object = take_listed(class, cpu, own_list(class, cpu), most);

    for (unsigned i = 0; object == NULL && i < MM_CACHE_LISTS; i++) {
        object = take_listed(class, cpu, &class->partial[i], most);
    }
    return object;
}

/** From a partial slab of one of the CPUs that share a bit of `listed`; where they have none, the bit
 * is cleared. */
static void *take_of_bit(struct mm_slab_class *class, uint32_t cpu, unsigned bit, unsigned *most)
{
    void *object = NULL;

    for (uint32_t other = bit; object == NULL && other < class->nr_cpus; other += 64) {
        object = take_listed(class, cpu, own_list(class, other), most);
    }
    if (object == NULL && *most != 0) {
        /* Who lists a slab now pushes it first and looks at the bit then: one sees the other. */
        (void)mmi_fetch_and_seq(&class->listed, ~(UINT64_C(1) << bit));
        for (uint32_t other = bit; other < class->nr_cpus; other += 64) {
            if (mmi_list_first(class->pool, own_list(class, other)) != NULL) {
                (void)mmi_fetch_or_seq(&class->listed, UINT64_C(1) << bit);
            }
        }
    }
    return object;
}

/** From a slab that a CPU left behind: of all CPUs that have any, one after the other, beginning with
 * another one each time. */
static void *take_left_behind(struct mm_slab_class *class, uint32_t cpu, unsigned *most)
{
    uint64_t listed = mmi_load_seq(&class->listed);
    void *object = NULL;
    unsigned first;

    if (class->nr_cpus <= 64) {
        listed &= ~(UINT64_C(1) << cpu); /* nobody else's, and it has looked there */
    }
    if (listed == 0) {
        return NULL;
    }
    first = mmi_fetch_add(&class->next_cpu, 1u) % 64;
    for (unsigned i = 0; object == NULL && *most != 0 && i < 64; i++) {
        unsigned bit = (first + i) % 64;

        if ((listed >> bit & 1) != 0) {
            object = take_of_bit(class, cpu, bit, most);
        }
    }
    return object;
}

/** Whether an eighth of the slab is free: to be worth the look that was taken. */
static bool is_worth_taking(const struct mmi_slab *slab)
{
    return mmi_slab_nr_free(slab) * 8 >= mmi_load(&slab->nr_objects);
}

/**
 * The sample may be the one object that is never freed. So before a class grows, it looks at the
 * next few of its slabs, round. Descriptors without pages are passed over, some more of them.
 */
static void *take_overlooked(struct mm_slab_class *class, uint32_t cpu)
{
    struct mmi_slab *slab = mmi_slab_of(mmi_load_acquire(&class->probe));
    unsigned nr_looks = PROBES;

    for (unsigned i = 0; nr_looks != 0 && i < DESCRIPTORS; i++) {
        uint32_t state;

        slab = slab != NULL ? slab : mmi_slab_of(mmi_load_acquire(&class->all));
        if (slab == NULL) {
            return NULL;
        }
        mmi_store_release(&class->probe, mmi_load(&slab->all_next));
        state = mmi_load(&slab->state);
        nr_looks -= state != MMI_SLAB_DEAD && state != MMI_SLAB_DEAD_LISTED ? 1 : 0;
        if (state == MMI_SLAB_UNLISTED && is_worth_taking(slab) &&
            mmi_slab_become(slab, MMI_SLAB_UNLISTED, MMI_SLAB_OWNED)) {
            mmi_slab_look_in(slab, MMI_SLAB_OWNED);
            return take_up(class, cpu, slab);
        }
        slab = mmi_slab_of(mmi_load(&slab->all_next));
    }
    return NULL;
}

/** Pages for a slab, of the order that is due or less; 0: none. */
static uint64_t get_pages(struct mm_slab_class *class, uint32_t flags, unsigned *out_order)
{
    unsigned order = mmi_class_next_order(class, mmi_load(&class->nr_slabs));
    uint64_t pages;

    while ((pages = mmi_pool_pages(class->pool, UINT64_C(1) << order, 1, flags)) == 0) {
        if (order == class->min_order) {
            return 0;
        }
        order--;
    }
    if (!mmi_table_reserve(class->pool, pages, UINT64_C(1) << order, flags)) {
        mmi_pool_free_pages(class->pool, pages, UINT64_C(1) << order);
        return 0;
    }
    *out_order = order;
    return pages;
}

/** Give a descriptor pages and a life. The caller owns it, and its first object. */
static void begin_life(struct mmi_slab *slab, uint64_t pages, unsigned order)
{
    struct mm_slab_class *class = mmi_slab_class(slab);
    uint64_t nr_pages = UINT64_C(1) << order;
    uint64_t size = class->size;
    uint64_t first = pages + class->lead;
    uint64_t nr = (nr_pages * MM_PAGE_SIZE - class->lead) / size;
    uint64_t max = (uint64_t) class->nr_words * MMI_SLAB_WORD_BITS;
    /* Another than the words have: until they are told, nobody frees into them. */
    uint64_t life = (uint64_t)(uint32_t)(mmi_load(&slab->life) + 2) << 32;

    nr = nr > max ? max : nr;
    if (class->watch != NULL) {
        mmi_records_begin(slab, pages, nr);
    }
    for (uint64_t i = 0; class->construct != NULL && i < nr; i++) {
        class->construct(class->ctx, (void *)(uintptr_t)(first + i * size));
    }
    mmi_store_release(&slab->life, (uint32_t)(life >> 32));
    mmi_store(&slab->order, (uint8_t)order);
    mmi_store(&slab->resized, (uint8_t)0);
    mmi_store(&slab->asked, (uint8_t)0);
    mmi_store(&slab->nr_objects, (uint16_t)nr);
    mmi_slab_look_in(slab, MMI_SLAB_OWNED);
    mmi_store(&slab->state, (uint8_t)MMI_SLAB_OWNED);
    mmi_store_release(&slab->base, first);
    mmi_store_release(&slab->bytes, (uint32_t)(nr * size)); /* in this order: mmi_slab_holds() */
    mmi_table_set(class->pool, pages, nr_pages, slab);
    mmi_fetch_add(&class->nr_slabs, UINT64_C(1));
    for (unsigned w = 0; w < class->nr_words; w++) {
        uint32_t full = mmi_slab_full(slab, w);

        mmi_store_release(&slab->words[w], life | (w == 0 ? full & ~UINT32_C(1) : full));
    }
}

static void *grow(struct mm_slab_class *class, uint32_t cpu, uint32_t flags)
{
    struct mmi_slab *slab = mmi_class_get_slab(class, flags);
    unsigned order = 0;
    uint64_t pages = 0;

    if (slab == NULL) {
        return NULL;
    }
    if (class->watch == NULL || mmi_records_reserve(slab, flags)) {
        pages = get_pages(class, flags, &order);
    }
    if (pages == 0) {
        mmi_list_push(class->pool, &class->unused, slab);
        return NULL;
    }
    begin_life(slab, pages, order);
    mmi_event(&class->pool->platform, MM_EVENT_HEAP_GROW, class->owner, pages,
              MM_PAGE_SIZE << order);
    install(class, cpu, slab, 0);
    return (void *)(uintptr_t)(pages + class->lead);
}

/** Any free object of the class, wherever it is. */
static void *sweep(struct mm_slab_class *class, uint32_t cpu)
{
    struct mmi_slab *slab;
    unsigned most = UINT32_MAX;
    void *object = NULL;

    for (unsigned i = 0; object == NULL && i < MM_CACHE_LISTS; i++) {
        object = take_listed(class, cpu, &class->partial[i], &most);
    }
    for (uint32_t i = 0; object == NULL && i < class->nr_cpus; i++) {
        object = take_listed(class, cpu, own_list(class, i), &most);
    }
    slab = mmi_slab_of(mmi_load_acquire(&class->all));
    for (; object == NULL && slab != NULL; slab = mmi_slab_of(mmi_load(&slab->all_next))) {
        unsigned word = 0;

        object = mmi_slab_take(slab, &word);
    }
    return object;
}

bool mmi_class_next_word(const struct mm_slab_class *class, uint32_t cpu, void **out)
{
    uint64_t at = (uint64_t)cpu * class->stride;
    struct mmi_slab *slab = mmi_slab_of(mmi_load_acquire(&class->owned[at]));
    uint64_t hint = mmi_load(&class->hints[at]);
    unsigned word = 0;

    /* Round the words: the one after the last has had the most time to fill. */
    if (mmi_hint_slab(hint) == slab) {
        word = (unsigned)(mmi_hint_index(hint) / MMI_SLAB_WORD_BITS) + 1;
    }
    if (slab == NULL || (*out = mmi_slab_take(slab, &word)) == NULL) {
        return false;
    }
    set_word(class, cpu, slab, word);
    return true;
}

static void *find(struct mm_slab_class *class, uint32_t cpu, uint32_t flags)
{
    unsigned most = VAIN_MOST;
    void *object = take_partial(class, cpu, &most);

    if (object == NULL) {
        object = take_left_behind(class, cpu, &most);
    }
    if (object == NULL) {
        object = take_overlooked(class, cpu);
    }
    if (object == NULL) {
        object = grow(class, cpu, flags);
    }
    return object != NULL ? object : sweep(class, cpu);
}

void *mmi_class_alloc(struct mm_slab_class *class, uint32_t cpu, uint32_t flags)
{
    void *object = NULL;

    if (mmi_class_next_word(class, cpu, &object)) {
        return object;
    }
    for (unsigned turn = 0; turn < MMI_TURNS; turn++) {
        uint64_t nr_given = mmi_load_acquire(&class->pool->nr_given);

        object = find(class, cpu, flags);
        /* A slab that was swept over may have become empty before, and have gone to the source after
         * that was asked. */
        if (object != NULL || nr_given == mmi_load_acquire(&class->pool->nr_given)) {
            break;
        }
    }
    return object;
}
