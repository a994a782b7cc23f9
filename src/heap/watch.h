// SPDX-License-Identifier: MIT
/**
 * Watched heaps and caches: those that record callers, are hardened, or sample. Each call of theirs
 * takes the long way, because the number of CPUs and the table that the short ways look at are
 * empty; other heaps pay nothing.
 *
 * An object of a watched class has a record of two words, in a page beside the slab's descriptor,
 * which the descriptor's last word names; so such a slab has at most 224 objects.
 *
 *              63 .. 16                        15 .. 0
 *     made     return address of the alloc     mark
 *     freed    return address of the free      15 .. 14 state, 13 .. 0 bytes asked for
 *
 * The state decides who frees: from LIVE there is one compare-and-exchange, and only one succeeds.
 * An object is BUSY while it is freed; one of a hardened heap then waits in the quarantine, WAITING:
 * its bit says "allocated" until it leaves.
 * What decides is also whose object it is: `freed` of a live one has the life of its slab in place of
 * the address, and that of a live run, whose record is in its descriptor, where it begins. So who
 * frees what was freed meanwhile, and is an object of another life, or a run from elsewhere, by now,
 * changes nothing.
 */
#ifndef MMI_HEAP_WATCH_H
#define MMI_HEAP_WATCH_H

#include "slab.h"

/** Flags of a watch. */
#define MMI_WATCH_RECORDS  1u
#define MMI_WATCH_HARDENED 2u
#define MMI_WATCH_FAST     4u

/** Bytes behind each hardened object that hold a canary whatever its state. */
#define MMI_FENCE 16u

/** In place of the address in `freed`, of a live object, with the life of its slab above it: its
 * overflow was told. */
#define MMI_TOLD 1u

/* --- records ---------------------------------------------------------------------------------- */

struct mmi_record {
    uint64_t made;  /**< atomic */
    uint64_t freed; /**< atomic */
};

#define MMI_RECORDS_WORD (MMI_SLAB_WORDS - 1u)
#define MMI_RECORDS_MAX  (MMI_RECORDS_WORD * MMI_SLAB_WORD_BITS)

/** In the words of a run. */
#define MMI_RUN_RECORD 4 /* two words */
#define MMI_RUN_SIZE   6 /* bytes asked for */
#define MMI_RUN_LAST   7 /* where it was, when it is free */

enum mmi_object_state {
    MMI_OBJECT_FREE = 0,
    MMI_OBJECT_LIVE = 1,
    MMI_OBJECT_WAITING = 2, /**< freed, and not yet to be used again */
    MMI_OBJECT_BUSY = 3,    /**< freed, and somebody is at its bytes; its bit says "allocated" */
    MMI_OBJECT_MAKING = 3,  /**< of a sample: its page is open, and it is being made */
};

_Static_assert((uint64_t)MMI_RECORDS_MAX * sizeof(struct mmi_record) <= MM_PAGE_SIZE, "a page");

static inline uint64_t mmi_record_pack(uint64_t address, uint64_t low)
{
    return address << 16 | low;
}

/** 48 bits, with their sign. */
static inline uint64_t mmi_record_address(uint64_t word)
{
    return (uint64_t)((int64_t)word >> 16);
}

static inline uint64_t mmi_freed_pack(uint64_t address, enum mmi_object_state state, uint64_t size)
{
    return mmi_record_pack(address, (uint64_t)state << 14 | size);
}

static inline enum mmi_object_state mmi_freed_state(uint64_t word)
{
    return (enum mmi_object_state)(word >> 14 & 3);
}

static inline uint64_t mmi_freed_size(uint64_t word)
{
    return word & 0x3fff;
}

/** `freed` of an object that lives, in this life of its slab, and was not told yet. */
static inline uint64_t mmi_live_pack(uint64_t life, uint64_t size)
{
    return mmi_freed_pack(life << 1, MMI_OBJECT_LIVE, size);
}

/** Whether it lives, in this life of its slab. */
static inline bool mmi_live_in(uint64_t word, uint64_t life)
{
    return mmi_freed_state(word) == MMI_OBJECT_LIVE && mmi_record_address(word) >> 1 == life;
}

/** `freed` of a run that lives, and begins there. */
static inline uint64_t mmi_live_run_pack(uint64_t address)
{
    return mmi_freed_pack(address, MMI_OBJECT_LIVE, 0);
}

/** The record of an object of a watched class. */
static inline struct mmi_record *mmi_record_of(const struct mmi_slab *slab, unsigned index)
{
    return (struct mmi_record *)(uintptr_t)mmi_load(&slab->words[MMI_RECORDS_WORD]) + index;
}

static inline struct mmi_record *mmi_run_record(struct mmi_slab *run)
{
    return (struct mmi_record *)(void *)&run->words[MMI_RUN_RECORD];
}

/** A page for the records of a slab that is about to get pages. False: no memory. */
bool mmi_records_reserve(struct mmi_slab *slab, uint32_t flags);
/** The class goes. */
void mmi_records_release(struct mmi_slab *slab);
/** The slab has pages, and nobody knows: clear the records; hardened: fill all of it. */
void mmi_records_begin(struct mmi_slab *slab, uint64_t pages, uint64_t nr);

/* --- the watch -------------------------------------------------------------------------------- */

struct mmi_watch_config {
    struct mm_pool *pool;
    const void *owner; /**< the heap or cache */
    const char *name;
    enum mm_heap_tier tier;
    uint32_t flags;
    uint32_t quarantine;
    uint32_t sample_every;
    mm_heap_report_fn report;
    void *ctx;
    const struct mm_heap_guards *guards;
};

/** Whether this can be; changes nothing. */
mm_status_t mmi_watch_check(const struct mmi_watch_config *config);
/** MM_OK or MM_ERR_NO_MEMORY, and then nothing has changed. */
mm_status_t mmi_watch_init(struct mm_heap_watch *watch, const struct mmi_watch_config *config);
void mmi_watch_destroy(struct mm_heap_watch *watch);

/** Whether the calls take the long way. */
static inline bool mmi_is_watched(const struct mm_heap_watch *watch)
{
    return watch->nr_cpus != 0;
}

static inline bool mmi_has_records(const struct mm_heap_watch *watch)
{
    return (watch->flags & MMI_WATCH_RECORDS) != 0;
}

static inline bool mmi_is_hardened(const struct mm_heap_watch *watch)
{
    return (watch->flags & MMI_WATCH_HARDENED) != 0;
}

/** The next random number; lock-free. */
uint64_t mmi_watch_random(struct mm_heap_watch *watch);

/** A free as it was asked for. */
struct mmi_free {
    uint64_t address;
    uint64_t caller;
    uint64_t size;  /**< what the caller says */
    uint64_t align; /**< the same */
    bool sized;
};

/** An object was claimed: write its record, check what it held, set its canary. */
void mmi_watch_made(struct mm_heap_watch *watch, uint64_t object, uint64_t size, uint64_t caller);
/** Claim a random object of a slab. False: none is left. */
bool mmi_watch_claim(struct mm_heap_watch *watch, uint64_t hint, void **out);
/** Instead of an object of the lowest bit, another of the same slab. */
void *mmi_watch_shuffle(struct mm_heap_watch *watch, void *object);
/**
 * Free an object of a watched class; `found` is where it lies. False: it is not live, and nothing
 * was done.
 */
bool mmi_watch_free(struct mm_heap_watch *watch, const struct mmi_found *found, unsigned index,
                    const struct mmi_free *free);
/** An object that must be there is not, or its bit and its record contradict each other. */
_Noreturn void mmi_watch_panic(const struct mm_heap_watch *watch, uint64_t address);
/** Free by bit; the object is allocated. False: it is not. Pages given back are added. */
bool mmi_watch_free_bit(const struct mmi_found *found, unsigned index, uint64_t *nr_pages);
/** The slab and index of an address that begins an object of it; for addresses that do. */
bool mmi_watch_find(const struct mm_heap_watch *watch, uint64_t address, struct mmi_found *found,
                    unsigned *index);

/** A report, and what only a panic says. */
struct mmi_finding {
    struct mm_heap_report report;
    const char *recorded;
    uint64_t recorded_value;
};

/* --- hardened --------------------------------------------------------------------------------- */

/** Fill with canary bytes; the byte depends on the address. */
void mmi_canary_set(const struct mm_heap_watch *watch, uint64_t from, uint64_t to);
/** The first broken byte of a range, or `to`. */
uint64_t mmi_canary_check(const struct mm_heap_watch *watch, uint64_t from, uint64_t to);
/** The first byte of a range that is not poison, or `to`. */
uint64_t mmi_poison_check(uint64_t from, uint64_t to);

/**
 * An object is being freed whose record said `freed` while it was live: look at its canary and at
 * that before it; tell and mend.
 */
void mmi_hardened_free(const struct mm_heap_watch *watch, const struct mmi_found *found,
                       unsigned index, uint64_t freed, uint64_t caller);
/** A live object is to have another size in its place: look at its canary; tell and mend. */
void mmi_hardened_resize(const struct mm_heap_watch *watch, struct mmi_slab *slab, unsigned index,
                         uint64_t caller);
/** An object is to be used, or left the quarantine: its poison is looked at, told and mended, and with
 * it what was broken in one piece of the freed objects behind. */
void mmi_hardened_reuse(const struct mm_heap_watch *watch, const struct mmi_found *found,
                        unsigned index, uint64_t caller);
/** Put an object into the quarantine; the oldest leaves. */
void mmi_quarantine_put(struct mm_heap_watch *watch, uint64_t address);
/** All leave; returns how many. Pages that were given back by that are added to `*nr_pages`. */
uint64_t mmi_quarantine_drain(struct mm_heap_watch *watch, uint64_t *nr_pages);
/** Whether the canary behind a run of `room` bytes is whole; if not, what that says. */
bool mmi_hardened_run(const struct mm_heap_watch *watch, const struct mmi_slab *run, uint64_t room,
                      struct mmi_finding *out);
/** Every object of a class, or run: true if all is well. What is not is told as a check does. */
bool mmi_hardened_check(const struct mm_slab_class *class);

/* --- sampled ---------------------------------------------------------------------------------- */

/** An object alone between guards, or one that was. */
struct mmi_sample {
    /** Atomic: enum mmi_object_state, and above it, from bit 2, the number of the object, which no
     * other one has. WAITING, MAKING: somebody is at it. */
    uint64_t state;
    uint64_t object; /**< atomic, as all that follows; 0: there never was one */
    uint64_t size;
    uint64_t asked;    /**< alignment; 16 at least */
    uint64_t made;     /**< return address */
    uint64_t freed;    /**< return address */
    uint64_t freed_at; /**< the clock, then */
    uint64_t mark;
};

mm_status_t mmi_sample_check(const struct mm_heap_guards *guards);
mm_status_t mmi_sample_init(struct mm_heap_watch *watch, const struct mm_heap_guards *guards);
void mmi_sample_destroy(struct mm_heap_watch *watch);
/** NULL: none is free, or it is too large: allocate as ever. */
void *mmi_sample_alloc(struct mm_heap_watch *watch, uint64_t asked, uint64_t size, uint64_t caller);
/** A live one is smaller from now on, where it is: it ends at its guard no more. */
void mmi_sample_shrink(const struct mm_heap_watch *watch, struct mmi_sample *sample, uint64_t size);
/** The live sample that begins at the address; NULL: none. */
struct mmi_sample *mmi_sample_find(const struct mm_heap_watch *watch, uint64_t address);
/** Free an address of the window. */
void mmi_sample_free(struct mm_heap_watch *watch, const struct mmi_free *free);
/** An address of the window cannot be freed, or resized: find out why, and tell. */
void mmi_sample_misuse(const struct mm_heap_watch *watch, const struct mmi_free *free);
/** What lies, or lay, at an address of the window. False: nothing ever. */
bool mmi_sample_report_at(const struct mm_heap_watch *watch, uint64_t address,
                          struct mm_heap_report *report);
/** How many are live, and their bytes. */
uint64_t mmi_samples_count(const struct mm_heap_watch *watch, uint64_t *bytes);
/** A line to the log op: so many were not freed. */
void mmi_samples_leak(const struct mm_heap_watch *watch, uint64_t nr);
/** The canaries of all that are live. */
bool mmi_samples_check(const struct mm_heap_watch *watch);

static inline bool mmi_in_samples(const struct mm_heap_watch *watch, uint64_t address)
{
    return address - watch->guards.base < watch->guards.len;
}

/* --- reports ---------------------------------------------------------------------------------- */

/** What a wild free is that meets a place whose object is free. */
#define MMI_INSIDE_OF_FREE "free of the inside of an object that is free"

/** Tell the report op, or panic. Returns only from the op. */
void mmi_report(const struct mm_heap_watch *watch, const struct mm_platform *platform,
                const struct mmi_finding *finding);
/** Fill in the object of a slab, with its record if it has one. */
void mmi_report_object(struct mm_heap_report *report, const struct mmi_slab *slab, unsigned index);
/** The same by address: an object of the slab, or the run. */
void mmi_report_at(struct mm_heap_report *report, const struct mmi_slab *slab, uint64_t address);
/** Of a check, which never panics: lines to the log op, and the report op. */
void mmi_report_check(const struct mm_heap_watch *watch, const struct mm_heap_report *report);

/** A free that must not be: find out why, and tell. Returns only if there is a report op. */
struct mmi_misuse {
    const struct mm_pool *pool;          /**< NULL: not initialised */
    const char *name;                    /**< of the cache or heap that was told to free */
    const struct mm_slab_class *classes; /**< its classes */
    uint64_t classes_len;                /**< bytes of them */
    const struct mm_slab_class *runs;    /**< NULL: none */
    const struct mm_slab_class *large;   /**< NULL: none; runs of another pool */
    const struct mm_slab_class *reserve; /**< NULL: none */
    const struct mm_heap_watch *watch;
    uint64_t caller;
};
void mmi_slab_misuse(const struct mmi_misuse *misuse, uint64_t address);

/* --- looking ---------------------------------------------------------------------------------- */

/** Visit the live objects of a class, or the live samples. False: enough. */
bool mmi_class_walk(const struct mm_slab_class *class, mm_heap_visit_fn visit, void *ctx);
bool mmi_samples_walk(const struct mm_heap_watch *watch, mm_heap_visit_fn visit, void *ctx);
/** The mark that these 16 bits of a record mean. */
uint64_t mmi_watch_mark(const struct mm_heap_watch *watch, uint64_t record);

/** A cache or heap joins the pool. False: no memory for the list. */
bool mmi_pool_add_user(struct mm_pool *pool, const void *user, bool cache);
void mmi_pool_remove_user(struct mm_pool *pool, const void *user);
/** The heap of the pool in whose window of samples the address lies; NULL: none. */
const struct mm_heap_watch *mmi_pool_sampler(const struct mm_pool *pool, uint64_t address);
/** Pages of the list. */
void mmi_pool_free_users(struct mm_pool *pool);

#endif
