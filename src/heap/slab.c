// SPDX-License-Identifier: MIT
/**
 * Slabs: the states that one goes through, and what becomes of it when it empties. How a class finds
 * one when a hint is used up is in slab_find.c.
 *
 * Free bits are the truth; everything here only decides where to look. A slab is in one state:
 *
 *                   grow                      dropped
 *         DEAD ───────────> OWNED <─────┐ ─────────────────> UNLISTED
 *          ^                  ^         └──────────────┐         │ the first object
 *          │ taken off        │ taken off the list     │         │ of a word is free
 *          │ the list         │                        │         v
 *     DEAD_LISTED <── RETIRING ──────────────────────> LISTED <──┘
 *                 emptied  ^     somebody allocated     │ ^
 *                          └────────────────────────────┘ └───> KEPT (empty, one a class)
 *
 * - An OWNED slab is one CPU's, or in the hands of one context that is about to give it to a CPU or
 *   to drop it. What a CPU owns is only ever exchanged, so each slab is dropped once, by whoever got
 *   it out. The CPU's hint, which word of a slab it allocates from, stands apart: it is a plain
 *   store and may be wrong, of a slab that is no more the CPU's, or of one that is gone. A claim
 *   from it is good in any case; a CPU that loses its slab forgets the word all the same, so that
 *   no two share one for long.
 * - A slab is LISTED only once the first object of one of its words is free. That is a sample: on
 *   average a tenth of the slab is free by then, and taking it up serves that many allocations. Once
 *   taken up it is used to its last object. The sample may be the one object that is never freed;
 *   so before a class grows it looks at the next few of its slabs, round, for one of which an eighth
 *   is free. And what lies in unlisted slabs is not lost: the sweep before an allocation fails goes
 *   through all of them.
 * - Retiring needs all bits of all words at once, and takes them word by word; if somebody was
 *   faster it puts them back. The list is not searched for the slab: its descriptor stays there,
 *   DEAD_LISTED, until it comes up. If it comes up in the middle, whoever took it off says so
 *   (RETIRING_OFF) and goes on, and the one that retires finds it a new place. An allocation clears
 *   a few such descriptors away, and grows if there are more.
 *
 * Who frees does not read the state, which would be a branch that nobody can predict: the
 * descriptor says which objects of a word, once all of them are free, are worth a look. Who drops a
 * slab stores that (`look`), then the state, and then looks at the words; who frees sets a bit and
 * then reads `look`. All four are sequentially consistent, so one of the two sees the other, and no
 * slab whose sample is free stays unlisted. Whoever changes the state later owns the slab, or has
 * not put it on the list yet: so `look` fits the state, but for a look too many in between.
 *
 * Nothing here waits: every loop turns again only because somebody else got something done. An
 * interrupt may come at any point and make any call; a slab in transit is one that it does not see.
 */
#include "slab_states.h"

#include "watch.h"

#include "core/base/report.h"

/* --- words ------------------------------------------------------------------------------------ */

static unsigned nr_words(const struct mmi_slab *slab)
{
    return (mmi_load(&slab->nr_objects) + MMI_SLAB_WORD_BITS - 1) / MMI_SLAB_WORD_BITS;
}

static bool is_empty(const struct mmi_slab *slab)
{
    for (unsigned w = 0; w < nr_words(slab); w++) {
        if ((uint32_t)mmi_load_seq(&slab->words[w]) != mmi_slab_full(slab, w)) {
            return false;
        }
    }
    return true;
}

void *mmi_slab_take(struct mmi_slab *slab, unsigned *word)
{
    unsigned nr = nr_words(slab);
    unsigned w = *word;

    for (unsigned left = nr; left != 0; left--, w++) {
        uint64_t hint;
        void *object;

        w = w < nr ? w : 0;
        hint = mmi_hint(slab, w);
        if ((uint32_t)mmi_load_acquire(&slab->words[w]) != 0 && mmi_slab_alloc(&hint, &object)) {
            *word = w;
            return object;
        }
    }
    return NULL;
}

/* --- when a free has to look --------------------------------------------------------------------- */

/** No word is so. */
#define NEVER (UINT64_C(1) << 32)

/** The first object of a word: a sample of how many of the slab's are free. */
#define SAMPLE UINT64_C(1)

/** The objects that there are in every word: if a word is all free, these are. */
static uint64_t in_every_word(const struct mmi_slab *slab)
{
    return mmi_slab_full(slab, nr_words(slab) - 1);
}

void mmi_slab_look_in(struct mmi_slab *slab, uint8_t state)
{
    const struct mm_slab_class *class = mmi_slab_class(slab);
    uint64_t look = NEVER;

    if (state == MMI_SLAB_UNLISTED) {
        look = SAMPLE;
    } else if (state == MMI_SLAB_LISTED || mmi_load(&slab->order) > class->min_order) {
        look = in_every_word(slab);
    }
    mmi_store_seq(&slab->look, look);
}

bool mmi_slab_worth_listing(struct mmi_slab *slab)
{
    unsigned nr = nr_words(slab);

    for (unsigned w = 0; w < nr; w++) {
        if ((mmi_load_seq(&slab->words[w]) & SAMPLE) != 0) {
            return true;
        }
    }
    return false;
}

/* --- the end of a slab ------------------------------------------------------------------------ */

bool mmi_slab_become(struct mmi_slab *slab, uint8_t from, uint8_t to)
{
    return mmi_cas_seq(&slab->state, &from, to);
}

/** RETIRING: end the life of each word. False: somebody holds an object, and all is as before. */
static bool end_life(struct mmi_slab *slab)
{
    uint64_t life = (uint64_t)mmi_load(&slab->life) << 32;
    uint64_t next_life = (uint64_t)(uint32_t)(mmi_load(&slab->life) + 1) << 32;
    unsigned nr = nr_words(slab);
    unsigned w;

    for (w = 0; w < nr; w++) {
        uint64_t seen = life | mmi_slab_full(slab, w);

        if (!mmi_cas(&slab->words[w], &seen, next_life)) {
            break;
        }
    }
    if (w == nr) {
        return true;
    }
    while (w-- > 0) { /* nobody claims, and no slab has the life that would free */
        mmi_store_release(&slab->words[w], life | mmi_slab_full(slab, w));
    }
    return false;
}

/** Give the pages of a slab back whose life has ended; returns how many. */
static uint64_t release(struct mmi_slab *slab)
{
    struct mm_slab_class *class = mmi_slab_class(slab);
    uint64_t base = mmi_load(&slab->base) - class->lead;
    uint64_t nr_pages = UINT64_C(1) << mmi_load(&slab->order);

    /* A CPU may keep guessing this slab: without bytes, no address lies in it, not NULL either. */
    mmi_store(&slab->bytes, 0u);
    mmi_store_release(&slab->base, UINT64_C(0));
    mmi_table_set(class->pool, base, nr_pages, NULL);
    mmi_fetch_sub(&class->nr_slabs, UINT64_C(1));
    mmi_pool_give_back(class->pool, base, nr_pages);
    mmi_event(&class->pool->platform, MM_EVENT_HEAP_SHRINK, class->owner, base,
              nr_pages * MM_PAGE_SIZE);
    return nr_pages;
}

/** LISTED and empty: make it the one that stays, if it is small and there is none. */
static bool keep(struct mmi_slab *slab)
{
    struct mm_slab_class *class = mmi_slab_class(slab);
    uint32_t none = 0;

    if (mmi_load(&slab->order) != class->min_order || !mmi_cas(&class->nr_kept, &none, 1u)) {
        return false;
    }
    if (!mmi_slab_become(slab, MMI_SLAB_LISTED, MMI_SLAB_KEPT)) {
        mmi_store(&class->nr_kept, 0u);
        return false;
    }
    return true;
}

/**
 * By how much is free now; a slab that empties further stays on its list. One that is mostly in use
 * stays with the CPU whose objects those are. See slab_find.c.
 */
static void list(struct mmi_slab *slab)
{
    struct mm_slab_class *class = mmi_slab_class(slab);
    unsigned quarters = mmi_slab_nr_free(slab) * 4 / mmi_load(&slab->nr_objects);
    uint32_t cpu = mmi_load(&slab->cpu);
    uint64_t bit = UINT64_C(1) << cpu % 64;

    if (quarters >= 2) {
        mmi_list_push(class->pool, &class->partial[quarters == 2 ? 0 : 1], slab);
        return;
    }
    mmi_list_push(class->pool, &class->own[(uint64_t)cpu * class->stride], slab);
    if ((mmi_load_seq(&class->listed) & bit) == 0) {
        (void)mmi_fetch_or_seq(&class->listed, bit);
    }
}

/**
 * Bring a slab that is UNLISTED or LISTED to where it belongs; others are not touched. Returns
 * pages given back.
 */
static uint64_t settle(struct mmi_slab *slab, bool may_keep)
{
    struct mm_slab_class *class = mmi_slab_class(slab);

    for (;;) {
        uint32_t state = mmi_load_seq(&slab->state);

        if (state == MMI_SLAB_UNLISTED) {
            if (!mmi_slab_worth_listing(slab)) {
                return 0;
            }
            if (mmi_slab_become(slab, MMI_SLAB_UNLISTED, MMI_SLAB_LISTED)) {
                mmi_slab_look_in(slab, MMI_SLAB_LISTED);
                list(slab);
            }
            continue;
        }
        if (state != MMI_SLAB_LISTED || !is_empty(slab)) {
            return 0;
        }
        if (may_keep && keep(slab)) {
            return 0;
        }
        if (!mmi_slab_become(slab, MMI_SLAB_LISTED, MMI_SLAB_RETIRING)) {
            continue;
        }
        if (end_life(slab)) {
            uint64_t nr_pages = release(slab);

            if (!mmi_slab_become(slab, MMI_SLAB_RETIRING, MMI_SLAB_DEAD_LISTED)) {
                mmi_store_release(&slab->state, (uint8_t)MMI_SLAB_DEAD);
                mmi_list_push(class->pool, &class->unused, slab);
            }
            return nr_pages;
        }
        if (!mmi_slab_become(slab, MMI_SLAB_RETIRING, MMI_SLAB_LISTED)) {
            mmi_slab_look_in(slab, MMI_SLAB_UNLISTED);
            mmi_exchange_seq(&slab->state, (uint8_t)MMI_SLAB_UNLISTED);
        }
    }
}

uint64_t mmi_slab_drop(struct mmi_slab *slab, bool may_keep)
{
    mmi_slab_look_in(slab, MMI_SLAB_UNLISTED);
    mmi_exchange_seq(&slab->state, (uint8_t)MMI_SLAB_UNLISTED);
    return settle(slab, may_keep);
}

unsigned mmi_class_next_order(const struct mm_slab_class *class, uint64_t nr_slabs)
{
    unsigned order = class->min_order + mmi_log2(nr_slabs + 1);

    return order > class->max_order ? class->max_order : order;
}

void mmi_class_forget_word(const struct mm_slab_class *class, uint32_t cpu)
{
    mmi_store(&class->hints[(uint64_t)cpu * class->stride], UINT64_C(0));
}

/**
 * A slab that a CPU owns has become empty, and is larger than what the class would take now. Returns
 * pages given back.
 */
static uint64_t leave_owner(struct mmi_slab *slab)
{
    struct mm_slab_class *class = mmi_slab_class(slab);
    uint64_t nr_slabs = mmi_load(&class->nr_slabs);
    uint32_t cpu = mmi_load(&slab->cpu);
    uint64_t owned = (uint64_t)(uintptr_t)slab;

    if (nr_slabs == 0 || mmi_class_next_order(class, nr_slabs - 1) >= mmi_load(&slab->order) ||
        !is_empty(slab) ||
        !mmi_cas(&class->owned[(uint64_t)cpu * class->stride], &owned, UINT64_C(0))) {
        return 0;
    }
    mmi_class_forget_word(class, cpu);
    return mmi_slab_drop(slab, true);
}

/** A class has fewer slabs than it had: what its CPUs own may be too large for it now. */
static uint64_t relieve_owners(struct mm_slab_class *class)
{
    uint64_t nr_pages = 0;

    for (uint32_t cpu = 0; cpu < class->nr_cpus; cpu++) {
        uint64_t owned = mmi_load_acquire(&class->owned[(uint64_t)cpu * class->stride]);

        if (owned != 0) {
            nr_pages += leave_owner(mmi_slab_of(owned));
        }
    }
    return nr_pages;
}

uint64_t mmi_slab_freed(struct mmi_slab *slab, const uint64_t *word, uint32_t now)
{
    struct mm_slab_class *class = mmi_slab_class(slab);
    uint32_t state = mmi_load_seq(&slab->state);
    uint64_t nr_pages = 0;

    if (state == MMI_SLAB_OWNED) {
        nr_pages = leave_owner(slab);
    } else if (state == MMI_SLAB_UNLISTED ||
               (state == MMI_SLAB_LISTED &&
                now == mmi_slab_full(slab, (unsigned)(word - slab->words)))) {
        /* The order that is due changes where the number of slabs crosses a power of two. */
        nr_pages = settle(slab, true);
        if (nr_pages != 0 && mm_is_pow2(mmi_load(&class->nr_slabs) + 1)) {
            nr_pages += relieve_owners(class);
        }
    }
    return nr_pages; /* none also if it is kept, or if somebody is at it who will look */
}

uint64_t mmi_class_reclaim(struct mm_slab_class *class)
{
    struct mmi_slab *slab;
    uint64_t nr_pages = 0;

    for (uint32_t cpu = 0; cpu < class->nr_cpus; cpu++) {
        uint64_t owned = mmi_exchange(&class->owned[(uint64_t)cpu * class->stride], UINT64_C(0));

        if (owned != 0) {
            mmi_class_forget_word(class, cpu);
            nr_pages += mmi_slab_drop(mmi_slab_of(owned), false);
        }
    }
    slab = mmi_slab_of(mmi_load_acquire(&class->all));
    for (; slab != NULL; slab = mmi_slab_of(mmi_load(&slab->all_next))) {
        if (mmi_slab_become(slab, MMI_SLAB_KEPT, MMI_SLAB_LISTED)) {
            mmi_store(&class->nr_kept, 0u);
        }
        nr_pages += settle(slab, false);
    }
    return nr_pages;
}
