// SPDX-License-Identifier: MIT
/**
 * What the files of the heap room share: the slab descriptor, the lookup, and the two hot paths.
 *
 * A descriptor has two cache lines: what every path reads, and the words that they change.
 *
 *     word:  63 .. 32            31 .. 0
 *            life of the slab    one bit an object, 1 = free
 *
 * The *life* is what makes every double free exact, however late it comes. It counts how often the
 * descriptor has got pages. A slab that gives its pages back ends its life in every word, by one
 * compare-and-exchange from "all free" to "next life, none free", so that nobody can claim an
 * object of it any more; and whoever frees compares the life that he found with the one that was in
 * the word when his bit went in. (A slab that gets pages has the life after that: between the two, no
 * free into it is anybody's.) Descriptors are never unmapped while the pool lives, and keep
 * their class as long as the cache lives: a CPU that acts on an old hint claims an object of a
 * later life, which is an object of the same size.
 */
#ifndef MMI_HEAP_SLAB_H
#define MMI_HEAP_SLAB_H

#include "core/base/atomic.h"
#include "core/base/bits.h"
#include "core/base/compiler.h"
#include <mm/cache.h>

#define MMI_SLAB_WORDS     8u
#define MMI_SLAB_WORD_BITS 32u
#define MMI_SLAB_MAX       256u

/** Largest slab: 64 KiB. With objects of up to 12 KiB, every product below fits 32 bits. */
#define MMI_SLAB_MAX_ORDER 4u

/** Where a slab is; slab.c has the drawing. The hot paths do not read it. */
enum mmi_slab_state {
    MMI_SLAB_DEAD = 0,         /**< no pages; on the list of unused ones, or in transit */
    MMI_SLAB_OWNED = 1,        /**< a CPU's, or in transit */
    MMI_SLAB_UNLISTED = 2,     /**< the sample says that it is not worth it */
    MMI_SLAB_LISTED = 3,       /**< on a list of partial ones */
    MMI_SLAB_KEPT = 4,         /**< listed, empty, and to stay */
    MMI_SLAB_RETIRING = 5,     /**< listed, and somebody tries to end its life */
    MMI_SLAB_RETIRING_OFF = 6, /**< the same, but it was taken off the list meanwhile */
    MMI_SLAB_DEAD_LISTED = 7,  /**< no pages, still on a list of partial ones */
};

/** All fields are atomic: an illegal free may read them at any time. */
struct mmi_slab {
    uint64_t base;       /**< first object; 0: no pages. Of a run: its first page */
    uint64_t class;      /**< struct mm_slab_class */
    uint32_t life;       /**< of a run that was recorded and is free: which free that was */
    uint32_t reciprocal; /**< 2^32 / size, rounded up; 0: a run */
    uint32_t bytes;      /**< of all objects; 0: a run, or no pages */
    uint8_t state;       /**< enum mmi_slab_state */
    uint8_t number;      /**< of its class in the heap */
    uint8_t asked;       /**< log2 of the most that an object was to be aligned to; 0: none was */
    uint8_t zero;        /**< always 0 */
    uint64_t look;       /**< a free has to look once these objects of a word are all free */
    uint16_t cpu;        /**< whose it is, or was the last time that it was OWNED */
    uint16_t size;       /**< bytes from object to object */
    uint16_t nr_objects;
    uint8_t order;                  /**< log2 of its pages */
    uint8_t resized;                /**< an object has a size of another class: MMI_RESIZED.. */
    uint64_t next;                  /**< on a list of slabs */
    uint64_t all_next;              /**< on the class's list of all */
    uint64_t words[MMI_SLAB_WORDS]; /**< of a run: MMI_RUN_... */
};

_Static_assert(MMI_SLAB_MAX == MMI_SLAB_WORDS * MMI_SLAB_WORD_BITS, "a bit an object");
_Static_assert(sizeof(struct mmi_slab) == 128, "two cache lines, and what list heads count in");
_Static_assert(offsetof(struct mmi_slab, words) == 64,
               "the words are a line: a hint's low bits tell which");

/** How: as mm_heap_realloc() leaves them, or any smaller one. Once any, always any. */
#define MMI_RESIZED     1u
#define MMI_RESIZED_ANY 3u

#define MMI_RUN_PAGES 0
#define MMI_RUN_ALIGN 1
#define MMI_RUN_FIRST 2 /* its first page, also if it was freed and is kept */

static inline struct mmi_slab *mmi_slab_of(uint64_t address)
{
    return (struct mmi_slab *)(uintptr_t)address;
}

static inline struct mm_slab_class *mmi_slab_class(const struct mmi_slab *slab)
{
    return (struct mm_slab_class *)(uintptr_t)mmi_load(&slab->class);
}

/**
 * Where a public call came from: in it, or in what is always inlined into it. To be named where it is
 * needed and not before: there it costs the hot paths nothing.
 */
#define MMI_CALLER() ((uint64_t)(uintptr_t)__builtin_return_address(0))

/** The same of a call to which a wrapper passes its own caller on; NULL: who made the call. */
#define MMI_CALLER_FROM(caller) ((caller) != NULL ? (uint64_t)(uintptr_t)(caller) : MMI_CALLER())

/** The hints that lie in a cache or heap itself: from its first cache line boundary on. */
static inline uint64_t *mmi_hints_inline(uint64_t *hints)
{
    return (uint64_t *)(((uintptr_t)hints + MM_CACHE_LINE - 1) & ~(uintptr_t)(MM_CACHE_LINE - 1));
}

/** A hint is the address of a word in a descriptor. 0: none. */
static inline uint64_t mmi_hint(const struct mmi_slab *slab, unsigned word)
{
    return (uint64_t)(uintptr_t)&slab->words[word];
}

static inline struct mmi_slab *mmi_hint_slab(uint64_t hint)
{
    return mmi_slab_of(hint & ~(uint64_t)(sizeof(struct mmi_slab) - 1));
}

/** The index of the first object of the hint's word. */
static inline uint64_t mmi_hint_index(uint64_t hint)
{
    return (hint & (sizeof(((struct mmi_slab *)0)->words) - sizeof(uint64_t))) / sizeof(uint64_t) *
           MMI_SLAB_WORD_BITS;
}

/** The free bits of a word when all its objects are free. */
static inline uint32_t mmi_slab_full(const struct mmi_slab *slab, unsigned word)
{
    unsigned before = word * MMI_SLAB_WORD_BITS;
    unsigned nr = mmi_load(&slab->nr_objects);

    if (nr <= before) {
        return 0;
    }
    nr -= before;
    return nr >= MMI_SLAB_WORD_BITS ? UINT32_MAX : (UINT32_C(1) << nr) - 1;
}

/** Free objects of a slab with pages; a snapshot. */
static inline unsigned mmi_slab_nr_free(const struct mmi_slab *slab)
{
    unsigned nr = 0;

    for (unsigned w = 0; w < MMI_SLAB_WORDS && mmi_slab_full(slab, w) != 0; w++) {
        nr += mmi_popcount((uint32_t)mmi_load(&slab->words[w]));
    }
    return nr;
}

/** What objects of this size, side by side from a page on, are aligned to: a page at most. */
static inline uint32_t mmi_slab_align(uint32_t size)
{
    uint32_t align = size & (0 - size);

    return align > MM_PAGE_SIZE ? (uint32_t)MM_PAGE_SIZE : align;
}

/* --- the lookup ------------------------------------------------------------------------------- */

/** Bits of an index that a node below the root takes: a page of entries. */
#define MMI_TABLE_BITS 9u
#define MMI_TABLE_MASK ((UINT64_C(1) << MMI_TABLE_BITS) - 1)

/** The slab or run of the page at `address`; NULL: none, or not a page of the source. */
static inline struct mmi_slab *mmi_table_find(const struct mm_slab_table *table, uint64_t address)
{
    uint64_t offset = address - table->base;
    uint64_t index = offset >> MM_PAGE_SHIFT;
    unsigned shift = table->shift;
    uint64_t entry;

    if (offset >= table->len) {
        return NULL;
    }
    entry = mmi_load_acquire(&table->root[index >> shift]);
    if (MMI_LIKELY(shift == MMI_TABLE_BITS && entry != 0)) { /* the usual window, in a few steps */
        return mmi_slab_of(
            mmi_load_acquire((uint64_t *)(uintptr_t)entry + (index & MMI_TABLE_MASK)));
    }
    while (shift != 0) {
        if (entry == 0) {
            return NULL;
        }
        shift -= MMI_TABLE_BITS;
        entry =
            mmi_load_acquire((uint64_t *)(uintptr_t)entry + ((index >> shift) & MMI_TABLE_MASK));
    }
    return mmi_slab_of(entry);
}

/** The entry of the page at `address`; NULL: it has none yet, or lies outside of the window. */
static inline uint64_t *mmi_table_look(const struct mm_slab_table *table, uint64_t address)
{
    uint64_t offset = address - table->base;
    uint64_t index = offset >> MM_PAGE_SHIFT;
    unsigned shift = table->shift;
    uint64_t *entry;

    if (offset >= table->len) {
        return NULL;
    }
    entry = &table->root[index >> shift];
    while (shift != 0) {
        uint64_t node = mmi_load_acquire(entry);

        if (node == 0) {
            return NULL;
        }
        shift -= MMI_TABLE_BITS;
        entry = (uint64_t *)(uintptr_t)node + ((index >> shift) & MMI_TABLE_MASK);
    }
    return entry;
}

/*
 * Tables over any window, of pages of a pool. `base` and `len` are set before; `root_inline` has
 * MM_POOL_ROOT_INLINE entries, zeroed. False: no page.
 */
bool mmi_table_init(struct mm_pool *pool, struct mm_slab_table *table, uint64_t *root_inline,
                    uint64_t *root_pages);
void mmi_table_destroy(struct mm_pool *pool, const struct mm_slab_table *table,
                       uint64_t root_pages);
/** The leaf entry of an address of the window, and the nodes above it; NULL: one is missing, and the
 * source has no page. */
uint64_t *mmi_table_entry(struct mm_pool *pool, const struct mm_slab_table *table, uint64_t address,
                          uint32_t flags);
/** Make room for the entries of these pages. False: the source has no page; what was made stays. */
bool mmi_table_reserve(struct mm_pool *pool, uint64_t address, uint64_t nr_pages, uint32_t flags);
/** Set the entries of these pages, which have room. NULL: no slab. */
void mmi_table_set(struct mm_pool *pool, uint64_t address, uint64_t nr_pages,
                   struct mmi_slab *slab);

/* --- pools ------------------------------------------------------------------------------------ */

#define MMI_POOL_MAGIC  UINT32_C(0x6d6d506f) /* "mmPo" */
#define MMI_CACHE_MAGIC UINT32_C(0x6d6d4361) /* "mmCa" */
#define MMI_HEAP_MAGIC  UINT32_C(0x6d6d4865) /* "mmHe" */

static inline bool mmi_is_pool(const struct mm_pool *pool)
{
    return pool != NULL && pool->magic == MMI_POOL_MAGIC;
}

/** Also of one that another CPU is making: it is in the pool's list before it is complete. */
static inline bool mmi_is_cache(const struct mm_cache *cache)
{
    return cache != NULL && mmi_load_acquire(&cache->magic) == MMI_CACHE_MAGIC;
}

/** Pages of the source; 0: it has none. `flags` are the source's: MM_PAGES_ATOMIC. */
uint64_t mmi_pool_pages(struct mm_pool *pool, uint64_t nr_pages, uint64_t align, uint32_t flags);
void mmi_pool_free_pages(struct mm_pool *pool, uint64_t pages, uint64_t nr_pages);
/** How often who found no memory looks in all, if somebody else gave some back meanwhile. */
#define MMI_TURNS 4u

/** The same of what held objects: who found no memory looks again, if it was counted by then. */
void mmi_pool_give_back(struct mm_pool *pool, uint64_t pages, uint64_t nr_pages);
/** `more` pages behind what the source gave. False: it cannot, and nothing was done. */
bool mmi_pool_extend(struct mm_pool *pool, uint64_t pages, uint64_t nr_pages, uint64_t more,
                     uint32_t flags);
/** Pages for metadata: zeroed, and counted. */
uint64_t mmi_pool_meta_pages(struct mm_pool *pool, uint64_t nr_pages, uint32_t flags);
void mmi_pool_free_meta_pages(struct mm_pool *pool, uint64_t pages, uint64_t nr_pages);

/** A descriptor of no class; NULL: no memory. */
struct mmi_slab *mmi_pool_get_slab(struct mm_pool *pool, uint32_t flags);

/** Lists of descriptors, by `next`. Lock-free; a slab is on one list at a time. */
void mmi_list_push(const struct mm_pool *pool, uint64_t *head, struct mmi_slab *slab);
struct mmi_slab *mmi_list_pop(const struct mm_pool *pool, uint64_t *head);
/** The first one, which may be another by then; and the one after: for checks, when nobody else is
 * there. */
struct mmi_slab *mmi_list_first(const struct mm_pool *pool, const uint64_t *head);
struct mmi_slab *mmi_list_next(const struct mm_pool *pool, const struct mmi_slab *slab);

/* --- classes ---------------------------------------------------------------------------------- */

/** Who a class belongs to, and what its objects are. */
struct mmi_class_config {
    struct mm_pool *pool;
    const char *name;
    const void *owner;
    uint64_t *hints;
    uint64_t *owned;
    uint64_t *own;
    uint32_t stride;
    uint32_t nr_cpus;
    uint32_t size;               /**< bytes from object to object; 0: runs */
    uint32_t number;             /**< of the class in its heap */
    uint32_t lead;               /**< bytes of a slab before the first */
    struct mm_heap_watch *watch; /**< NULL: nothing is recorded */
    void (*construct)(void *ctx, void *object);
    void *ctx;
};

void mmi_class_init(struct mm_slab_class *class, const struct mmi_class_config *config);
/** Hand all descriptors back to the pool. Nothing is allocated, and nobody else is there. */
void mmi_class_destroy(struct mm_slab_class *class);
/** Allocate when the hint is used up. NULL: no memory, and no free object in any slab. */
void *mmi_class_alloc(struct mm_slab_class *class, uint32_t cpu, uint32_t flags);

/** As mm_cache_alloc(); the page source is asked with these flags. */
void *mmi_cache_alloc(struct mm_cache *cache, uint32_t flags);

/** Give back what is empty; returns pages. */
uint64_t mmi_class_reclaim(struct mm_slab_class *class);
/** A descriptor of this class, without pages; NULL: no memory. Put it back on `unused`. */
struct mmi_slab *mmi_class_get_slab(struct mm_slab_class *class, uint32_t flags);
/**
 * Allocate from another word of the slab that the CPU owns, and hint at that. False: it has none.
 */
bool mmi_class_next_word(const struct mm_slab_class *class, uint32_t cpu, void **out);
/** Objects of the slab were freed into this word, which now is so; the slow part of it. Returns pages
 * given back. */
uint64_t mmi_slab_freed(struct mmi_slab *slab, const uint64_t *word, uint32_t now);

/** Whether the sample of a word is free, so that the slab belongs on the list of partial ones. */
bool mmi_slab_worth_listing(struct mmi_slab *slab);

/** Sums over the slabs of a class. */
struct mmi_class_counts {
    uint64_t nr_objects;
    uint64_t nr_free;
    uint64_t nr_slabs;
    uint64_t nr_empty_slabs;
    uint64_t nr_pages;
    uint64_t nr_kept_pages; /**< of runs that are free */
};
void mmi_class_count(const struct mm_slab_class *class, struct mmi_class_counts *out);
/** True if the class is well formed. */
bool mmi_class_check(const struct mm_slab_class *class);
/** "heap: NAME: N objects of SIZE bytes were not freed" to the log op. */
void mmi_class_leak(const struct mm_slab_class *class, uint64_t nr_objects);

/* --- the hot paths ---------------------------------------------------------------------------- */

/**
 * Claim an object of the word that the hint names, which was seen so. False: somebody was faster.
 *
 * The hint may be as old as it likes: the claim is what counts. It also vouches for the base, which
 * is read before it, after the word: had the slab got other pages since, its life would be another.
 */
MMI_INLINE bool mmi_slab_claim(uint64_t hint, uint64_t *seen, void **out)
{
    const struct mmi_slab *slab = mmi_hint_slab(hint);
    uint64_t size = mmi_load(&slab->size);
    uint64_t base = mmi_load_acquire(&slab->base);
    uint64_t index = mmi_hint_index(hint) + mmi_ctz_word(*seen);

    if (!mmi_cas((uint64_t *)(uintptr_t)hint, seen, *seen & (*seen - 1))) {
        return false;
    }
    *out = (void *)(uintptr_t)(base + index * size);
    return true;
}

/** Claim an object behind the hint. False: none is left there. */
MMI_INLINE bool mmi_slab_alloc(const uint64_t *hint_at, void **out)
{
    uint64_t hint = mmi_load_acquire(hint_at);
    uint64_t seen = hint != 0 ? mmi_load_acquire((uint64_t *)(uintptr_t)hint) : 0;

    while ((uint32_t)seen != 0) {
        if (mmi_slab_claim(hint, &seen, out)) {
            return true;
        }
    }
    return false;
}

/** The same in one attempt: who gets false goes on with what takes longer. */
MMI_INLINE bool mmi_slab_try_alloc(const uint64_t *hint_at, void **out)
{
    uint64_t hint = mmi_load_acquire(hint_at);
    uint64_t seen;

    if (hint == 0) {
        return false;
    }
    seen = mmi_load_acquire((uint64_t *)(uintptr_t)hint);
    return (uint32_t)seen != 0 && mmi_slab_claim(hint, &seen, out);
}

/**
 * A CPU frees into this word: its next object of the class is to come from there, where one is at
 * hand, if the slab is its own (or was the last time that it was somebody's). False: it is not; and
 * if the CPU goes on with a word of it, it forgets it: two CPUs are not to share one.
 */
MMI_INLINE bool mmi_slab_hint_freed(uint64_t *hint_at, const struct mmi_slab *slab, unsigned word,
                                    uint32_t cpu)
{
    if (MMI_LIKELY(mmi_load(&slab->cpu) == cpu)) {
        mmi_store_release(hint_at, mmi_hint(slab, word));
        return true;
    }
    if (mmi_hint_slab(mmi_load(hint_at)) == slab) {
        mmi_store(hint_at, UINT64_C(0));
    }
    return false;
}

/** What a free found: the slab's descriptor may be another by the time that it is read again. */
struct mmi_found {
    struct mmi_slab *slab;
    uint64_t offset; /**< of the address, from the slab's base */
    uint64_t life;
};

/**
 * Whether the address lies in this slab, which may be any.
 *
 * The life is read first, then the bytes, then the base; a slab that gets pages is told its life,
 * its base and its bytes in this order, when it has no bytes from before. So bytes that are read
 * are never older than the life, nor the base older than the bytes; and if one of them is younger
 * than the life, then so is that of the slab's words, which mmi_slab_free() compares.
 */
MMI_INLINE bool mmi_slab_holds(struct mmi_slab *slab, uint64_t address, struct mmi_found *found)
{
    uint64_t bytes;

    found->slab = slab;
    found->life = mmi_load_acquire(&slab->life);
    bytes = mmi_load_acquire(&slab->bytes);
    found->offset = address - mmi_load_acquire(&slab->base);
    return found->offset < bytes;
}

/** The slab of these classes that holds the address. False: there is none. */
MMI_INLINE bool mmi_slab_find(const struct mm_slab_table *table,
                              const struct mm_slab_class *classes, uint64_t classes_len,
                              uint64_t address, struct mmi_found *found)
{
    struct mmi_slab *slab = mmi_table_find(table, address);

    return slab != NULL && mmi_load(&slab->class) - (uint64_t)(uintptr_t)classes < classes_len &&
           mmi_slab_holds(slab, address, found);
}

/**
 * The index of the object that begins at the offset. False: it is an inner pointer.
 *
 * One multiplication gives the index and tells an inner pointer: with r = 2^32 / size rounded up,
 * the high half of offset * r is the index, and the low half is below r only for multiples of size.
 * That holds while offset * size < 2^32 (Lemire, Kaser, Kurz: Faster remainder by direct
 * computation, 2019).
 */
MMI_INLINE bool mmi_slab_index(const struct mmi_found *found, unsigned *out)
{
    uint32_t reciprocal = mmi_load(&found->slab->reciprocal);
    uint64_t product = found->offset * reciprocal;

    *out = (unsigned)(product >> 32);
    return (uint32_t)product < reciprocal;
}

static inline uint32_t mmi_slab_bit(unsigned index)
{
    return UINT32_C(1) << (index % MMI_SLAB_WORD_BITS);
}

/** Whether the object is allocated, in the life in which it was found; a snapshot. */
static inline bool mmi_slab_is_live(const struct mmi_found *found, unsigned index)
{
    uint64_t word = mmi_load_acquire(&found->slab->words[index / MMI_SLAB_WORD_BITS]);

    return word >> 32 == found->life && (word & mmi_slab_bit(index)) == 0;
}

/**
 * Free the objects of these bits of the word, and look at the slab if need be; pages that are given
 * back by that are added. False: one was free, or the slab is gone, and nothing was done.
 */
MMI_INLINE bool mmi_slab_free(const struct mmi_found *found, uint64_t *word, uint32_t bits,
                              uint64_t *nr_pages)
{
    struct mmi_slab *slab = found->slab;
    uint64_t seen = mmi_load(word);
    uint64_t now;
    uint64_t look;

    do {
        if (MMI_UNLIKELY((seen & bits) != 0 || seen >> 32 != found->life)) {
            return false;
        }
        now = seen | bits;
    } while (!mmi_cas_seq(word, &seen, now));
    look = mmi_load_seq(&slab->look);
    if (MMI_UNLIKELY((~(uint64_t)(uint32_t)now & look) == 0)) {
        *nr_pages += mmi_slab_freed(slab, word, (uint32_t)now);
    }
    return true;
}

#endif
