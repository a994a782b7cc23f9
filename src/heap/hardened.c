// SPDX-License-Identifier: MIT
/**
 * Hardened heaps and caches: canaries, poison, quarantine.
 *
 *        lead       object 0        object 1               object 2
 *     ┌─────────┬───────────────┬───────────────┬───────────────────────────┬─ ─
 *     │ c c c c │ data    c c c │ data      c c │ p p p p p p p p p p p c c │
 *     └─────────┴───────────────┴───────────────┴───────────────────────────┴─ ─
 *                       asked for^                freed: poison   the fence^
 *
 * Behind what was asked for there are canary bytes to the end of the object's place: at least the
 * 16 of its fence, which is there in every state. So in front of each object lies a fence too, its
 * neighbour's or the lead of the slab. A freed object is poison up to its fence, from its free to
 * its next use. What is broken is mended when it is told, so it is told once; but if its neighbour
 * is freed or used first, of an overflow only the fence is, because the rest may become data at any
 * time: that it was told is noted in the object's record.
 *
 * Who did it is a guess. What is broken between the end of a live object and the next is that of
 * which of the two is nearer to it; and an overflow may go on into a freed neighbour, or through it.
 * What it broke there in one piece is told with it, and mended with it (mend_beyond).
 *
 * The quarantine is a ring of addresses, exchanged in turn: who puts one in gets the one out that
 * was there, and nobody waits. It is bounded, first in first out, and an interrupt may come at any
 * point. Until an object leaves it its bit says "allocated".
 *
 * The bytes of a freed object are written by who has made it BUSY, or has claimed its bit; a fence is
 * mended by whoever finds it broken. Who wants
 * it to leave while somebody mends it makes it FREE, and goes on: then who mends it lets it go.
 */
#include "watch.h"

#include "core/base/mem.h"
#include "core/base/report.h"

/* --- bytes ------------------------------------------------------------------------------------ */

/** Eight bytes of canary, at a multiple of 8; each is one at its address. */
static uint8_t canary_byte(const struct mm_heap_watch *watch, uint64_t address)
{
    return (uint8_t)(watch->canary >> (address % 8 * 8));
}

void mmi_canary_set(const struct mm_heap_watch *watch, uint64_t from, uint64_t to)
{
    while (from < to) {
        if (from % 8 == 0 && from + 8 <= to) {
            *(uint64_t *)(uintptr_t)from = watch->canary;
            from += 8;
        } else {
            *(uint8_t *)(uintptr_t)from = canary_byte(watch, from);
            from++;
        }
    }
}

uint64_t mmi_canary_check(const struct mm_heap_watch *watch, uint64_t from, uint64_t to)
{
    while (from < to) {
        if (from % 8 == 0 && from + 8 <= to &&
            *(const uint64_t *)(uintptr_t)from == watch->canary) {
            from += 8;
        } else if (*(const uint8_t *)(uintptr_t)from == canary_byte(watch, from)) {
            from++;
        } else {
            break;
        }
    }
    return from;
}

/** Behind the last broken byte of a range, or `from`. */
static uint64_t canary_broken_until(const struct mm_heap_watch *watch, uint64_t from, uint64_t to)
{
    while (to > from && *(const uint8_t *)(uintptr_t)(to - 1) == canary_byte(watch, to - 1)) {
        to--;
    }
    return to;
}

uint64_t mmi_poison_check(uint64_t from, uint64_t to)
{
    const uint64_t eight = UINT64_C(0x0101010101010101) * MM_HEAP_POISON;

    /* Objects begin at multiples of 16, and so do their fences. */
    while (from + 8 <= to && *(const uint64_t *)(uintptr_t)from == eight) {
        from += 8;
    }
    while (from < to && *(const uint8_t *)(uintptr_t)from == MM_HEAP_POISON) {
        from++;
    }
    return from;
}

/** Behind the last byte that is no poison of those that lie side by side from `from` on. */
static uint64_t poison_broken_until(uint64_t from, uint64_t to)
{
    while (from < to && *(const uint8_t *)(uintptr_t)from != MM_HEAP_POISON) {
        from++;
    }
    return from;
}

/* --- findings --------------------------------------------------------------------------------- */

static uint64_t object_at(const struct mmi_slab *slab, unsigned index)
{
    return mmi_load(&slab->base) + (uint64_t)index * mmi_load(&slab->size);
}

static struct mmi_finding broken(const struct mm_heap_watch *watch, enum mm_heap_misuse kind,
                                 const struct mmi_slab *slab, unsigned index, uint64_t at)
{
    struct mmi_finding finding = {.report = {.kind = kind, .name = watch->name, .address = at},
                                  .recorded = "canary or poison, in or beside an object of",
                                  .recorded_value = mmi_load(&slab->size)};

    mmi_report_object(&finding.report, slab, index);
    finding.report.what = kind == MM_HEAP_OVERFLOW    ? "overflow of an object"
                          : kind == MM_HEAP_UNDERFLOW ? "underflow of an object"
                                                      : "write to an object after its free";
    finding.report.offset = (int64_t)(at - finding.report.object);
    if (kind != MM_HEAP_WRITE_AFTER_FREE) {
        finding.report.freed_by = 0; /* who frees it now is the caller */
    }
    return finding;
}

/** What an object is, if its bytes are not as they must be. */
struct broken {
    enum mm_heap_misuse kind; /**< 0: they are */
    unsigned index;           /**< of the object to blame */
    uint64_t at;              /**< first broken byte */
};

/**
 * Whether what is broken between the end of an object of `size` bytes and that of its place, from
 * `at` on, came from behind: it is nearer to there. So what begins where the object ends is its own.
 */
static bool comes_from_behind(const struct mm_heap_watch *watch, const struct mmi_slab *slab,
                              unsigned index, uint64_t size, uint64_t at)
{
    uint64_t object = object_at(slab, index);
    uint64_t end = object + mmi_load(&slab->size);

    return end - canary_broken_until(watch, at, end) < at - (object + size);
}

/** The same, if there is a next object that lives, and may have done it. */
static bool is_underflow(const struct mm_heap_watch *watch, const struct mmi_slab *slab,
                         unsigned index, uint64_t size, uint64_t at)
{
    return index + 1 < mmi_load(&slab->nr_objects) &&
           comes_from_behind(watch, slab, index, size, at) &&
           mmi_freed_state(mmi_load(&mmi_record_of(slab, index + 1)->freed)) == MMI_OBJECT_LIVE;
}

/** Behind a live object: its own overflow, or the underflow of the next. */
static struct broken look_behind(const struct mm_heap_watch *watch, const struct mmi_slab *slab,
                                 unsigned index, uint64_t size)
{
    uint64_t object = object_at(slab, index);
    uint64_t end = object + mmi_load(&slab->size);
    uint64_t at = mmi_canary_check(watch, object + size, end);

    if (at == end) {
        return (struct broken){0};
    }
    if (is_underflow(watch, slab, index, size, at)) {
        return (struct broken){MM_HEAP_UNDERFLOW, index + 1, at};
    }
    return (struct broken){MM_HEAP_OVERFLOW, index, at};
}

/** In front of a live object: its own underflow, or what its neighbour wrote. */
static struct broken look_before(const struct mm_heap_watch *watch, const struct mmi_slab *slab,
                                 unsigned index)
{
    uint64_t object = object_at(slab, index);
    uint64_t at = mmi_canary_check(watch, object - MMI_FENCE, object);

    if (at == object) {
        return (struct broken){0};
    }
    if (index > 0) {
        uint64_t freed = mmi_load_acquire(&mmi_record_of(slab, index - 1)->freed);

        if (mmi_freed_state(freed) == MMI_OBJECT_LIVE) {
            uint64_t size = mmi_freed_size(freed);
            struct broken found = look_behind(watch, slab, index - 1, size);

            /* The object may be one that is being freed: then it does not count as live. */
            if (found.kind == MM_HEAP_OVERFLOW &&
                !comes_from_behind(watch, slab, index - 1, size, found.at)) {
                return found;
            }
        }
    }
    return (struct broken){MM_HEAP_UNDERFLOW, index, at};
}

/**
 * A freed one. If it is broken from its first byte on, and what lies in front lives and is broken
 * up to its end, it is that one's overflow.
 */
static struct broken look_inside(const struct mm_heap_watch *watch, const struct mmi_slab *slab,
                                 unsigned index)
{
    uint64_t object = object_at(slab, index);
    uint64_t fence = object + mmi_load(&slab->size) - MMI_FENCE;
    uint64_t at = mmi_poison_check(object, fence);

    if (at == fence) {
        uint64_t size = mmi_freed_size(mmi_load(&mmi_record_of(slab, index)->freed));

        at = mmi_canary_check(watch, fence, fence + MMI_FENCE);
        if (at == fence + MMI_FENCE) {
            return (struct broken){0};
        }
        if (is_underflow(watch, slab, index, size, at)) {
            return (struct broken){MM_HEAP_UNDERFLOW, index + 1, at};
        }
    }
    if (at == object && index > 0 &&
        canary_broken_until(watch, object - MMI_FENCE, object) == object) {
        uint64_t freed = mmi_load_acquire(&mmi_record_of(slab, index - 1)->freed);

        if (mmi_freed_state(freed) == MMI_OBJECT_LIVE) {
            return look_behind(watch, slab, index - 1, mmi_freed_size(freed));
        }
    }
    return (struct broken){MM_HEAP_WRITE_AFTER_FREE, index, at};
}

/** Fences are read by those who free the next object: they are written only if they are broken. */
static void mend(const struct mm_heap_watch *watch, uint64_t from, uint64_t to)
{
    if (mmi_canary_check(watch, from, to) != to) {
        mmi_canary_set(watch, from, to);
    }
}

static void poison(const struct mm_heap_watch *watch, const struct mmi_slab *slab, unsigned index)
{
    uint64_t object = object_at(slab, index);
    uint64_t fence = object + mmi_load(&slab->size) - MMI_FENCE;

    memset((void *)(uintptr_t)object, (int)MM_HEAP_POISON, fence - object);
    mend(watch, fence, fence + MMI_FENCE);
}

static void tell(const struct mm_heap_watch *watch, const struct mmi_slab *slab,
                 const struct broken *found, uint64_t caller)
{
    struct mmi_finding finding = broken(watch, found->kind, slab, found->index, found->at);

    finding.report.caller = caller;
    mmi_report(watch, &watch->pool->platform, &finding);
}

/** The overflow of a live object was told, and not all of it is mended. */
static void note_told(const struct mmi_slab *slab, unsigned index)
{
    struct mmi_record *record = mmi_record_of(slab, index);
    uint64_t seen = mmi_load(&record->freed);

    /* Who frees or resizes it meanwhile tells it once more, and mends it. */
    if (mmi_freed_state(seen) == MMI_OBJECT_LIVE) {
        (void)mmi_cas(&record->freed, &seen, seen | mmi_record_pack(MMI_TOLD, 0));
    }
}

/** Tell what is in front of an object, and mend the fence there: the rest is the other's. */
static void tell_before(const struct mm_heap_watch *watch, const struct mmi_slab *slab,
                        const struct broken *before, uint64_t object, uint64_t caller)
{
    tell(watch, slab, before, caller);
    mend(watch, object - MMI_FENCE, object);
    if (before->kind == MM_HEAP_OVERFLOW) {
        note_told(slab, before->index);
    }
}

/** A freed object is to be used, or has left the quarantine: tell and mend it. */
static void look_again(const struct mm_heap_watch *watch, const struct mmi_slab *slab,
                       unsigned index, uint64_t caller)
{
    struct broken inside = look_inside(watch, slab, index);

    if (inside.kind == MM_HEAP_OVERFLOW) {
        tell_before(watch, slab, &inside, object_at(slab, index), caller);
    } else if (inside.kind != 0) {
        tell(watch, slab, &inside, caller);
    }
    if (inside.kind != 0) {
        poison(watch, slab, index);
    }
}

/** A freed object that somebody has made BUSY, and has looked at, may be used again. */
static void let_go(const struct mm_heap_watch *watch, const struct mmi_found *found, unsigned index,
                   uint64_t freed, uint64_t *nr_pages)
{
    mmi_store_release(
        &mmi_record_of(found->slab, index)->freed,
        mmi_freed_pack(mmi_record_address(freed), MMI_OBJECT_FREE, mmi_freed_size(freed)));
    if (!mmi_watch_free_bit(found, index, nr_pages)) {
        mmi_watch_panic(watch, object_at(found->slab, index));
    }
}

/** Mend what is broken of a freed object in one piece from its first byte on. True: all of it was. */
static bool mend_piece(const struct mm_heap_watch *watch, const struct mmi_slab *slab,
                       unsigned index)
{
    uint64_t object = object_at(slab, index);
    uint64_t end = object + mmi_load(&slab->size);
    uint64_t fence = end - MMI_FENCE;
    uint64_t at = poison_broken_until(object, fence);

    memset((void *)(uintptr_t)object, (int)MM_HEAP_POISON, at - object);
    while (at >= fence && at < end && *(const uint8_t *)(uintptr_t)at != canary_byte(watch, at)) {
        *(uint8_t *)(uintptr_t)at = canary_byte(watch, at);
        at++;
    }
    return at == end;
}

/** The same of one that waits. False: it does not, or there is more of it that is well. */
static bool mend_waiting(const struct mm_heap_watch *watch, const struct mmi_found *found,
                         unsigned index)
{
    struct mmi_record *record = mmi_record_of(found->slab, index);
    uint64_t seen = mmi_load(&record->freed);
    uint64_t busy = mmi_freed_pack(mmi_record_address(seen), MMI_OBJECT_BUSY, mmi_freed_size(seen));
    uint64_t nr_pages = 0;
    bool whole;

    if (mmi_freed_state(seen) != MMI_OBJECT_WAITING || !mmi_cas(&record->freed, &seen, busy)) {
        return false;
    }
    whole = mend_piece(watch, found->slab, index);
    if (!mmi_cas(&record->freed, &busy, seen)) {
        look_again(watch, found->slab, index, 0); /* it should have left meanwhile */
        let_go(watch, found, index, seen, &nr_pages);
    }
    return whole;
}

/** The same of one that may be used: it is claimed as by who allocates, so that nobody uses it. */
static bool mend_free(const struct mm_heap_watch *watch, const struct mmi_found *found,
                      unsigned index)
{
    uint64_t *word = &found->slab->words[index / MMI_SLAB_WORD_BITS];
    uint64_t seen = mmi_load_acquire(word);
    uint64_t nr_pages = 0;
    bool whole;

    do {
        if ((seen & mmi_slab_bit(index)) == 0) {
            return false;
        }
    } while (!mmi_cas(word, &seen, seen & ~(uint64_t)mmi_slab_bit(index)));
    whole = mend_piece(watch, found->slab, index);
    if (!mmi_watch_free_bit(found, index, &nr_pages)) {
        mmi_watch_panic(watch, object_at(found->slab, index));
    }
    return whole;
}

/**
 * What this object has broken is told, or will be. If that is all up to its end, the freed ones that
 * follow are mended as far as they are broken in one piece with it. The slab stays: this object is
 * not free.
 * (One that leaves the quarantine, or is claimed, at this moment is told once more.)
 */
static void mend_beyond(const struct mm_heap_watch *watch, const struct mmi_found *found,
                        unsigned index)
{
    uint64_t end = object_at(found->slab, index) + mmi_load(&found->slab->size);

    if (canary_broken_until(watch, end - MMI_FENCE, end) != end) {
        return;
    }
    while (++index < mmi_load(&found->slab->nr_objects) &&
           (mend_waiting(watch, found, index) || mend_free(watch, found, index))) {
    }
}

/** Tell what is behind an object that was live with this record, unless that was told. */
static void tell_behind(const struct mm_heap_watch *watch, const struct mmi_found *found,
                        const struct broken *behind, uint64_t freed, uint64_t caller)
{
    bool told = behind->kind == MM_HEAP_OVERFLOW && (mmi_record_address(freed) & MMI_TOLD) != 0;

    if (behind->kind == 0 || told) {
        return;
    }
    tell(watch, found->slab, behind, caller);
    if (behind->kind == MM_HEAP_OVERFLOW) {
        mend_beyond(watch, found, behind->index);
    }
}

void mmi_hardened_free(const struct mm_heap_watch *watch, const struct mmi_found *found,
                       unsigned index, uint64_t freed, uint64_t caller)
{
    const struct mmi_slab *slab = found->slab;
    uint64_t object = object_at(slab, index);
    struct broken behind = look_behind(watch, slab, index, mmi_freed_size(freed));
    struct broken before = look_before(watch, slab, index);

    if (before.kind != 0) {
        tell_before(watch, slab, &before, object, caller);
    }
    tell_behind(watch, found, &behind, freed, caller);
    poison(watch, slab, index);
}

void mmi_hardened_resize(const struct mm_heap_watch *watch, struct mmi_slab *slab, unsigned index,
                         uint64_t caller)
{
    const struct mmi_found found = {.slab = slab, .life = mmi_load(&slab->life)};
    uint64_t freed = mmi_load(&mmi_record_of(slab, index)->freed);
    uint64_t size = mmi_freed_size(freed);
    struct broken behind = look_behind(watch, slab, index, size);
    uint64_t object = object_at(slab, index);

    tell_behind(watch, &found, &behind, freed, caller);
    mend(watch, object + size, object + mmi_load(&slab->size));
}

void mmi_hardened_reuse(const struct mm_heap_watch *watch, const struct mmi_found *found,
                        unsigned index, uint64_t caller)
{
    mend_beyond(watch, found, index); /* if it is broken up to its end, that is told now */
    look_again(watch, found->slab, index, caller);
}

/* --- the quarantine --------------------------------------------------------------------------- */

/** An object leaves the quarantine, and may be used again. Pages given back by that are added. */
static void leave(const struct mm_heap_watch *watch, uint64_t address, uint64_t *nr_pages)
{
    struct mmi_record *record;
    struct mmi_found found;
    unsigned index;
    uint64_t seen;
    uint64_t next;

    if (!mmi_watch_find(watch, address, &found, &index)) {
        mmi_watch_panic(watch, address); /* its slab stays while its bit says "allocated" */
    }
    record = mmi_record_of(found.slab, index);
    seen = mmi_load_acquire(&record->freed);
    do {
        /* Whoever mends it lets it go. */
        next = mmi_freed_pack(mmi_record_address(seen),
                              mmi_freed_state(seen) == MMI_OBJECT_BUSY ? MMI_OBJECT_FREE
                                                                       : MMI_OBJECT_BUSY,
                              mmi_freed_size(seen));
    } while (!mmi_cas(&record->freed, &seen, next));
    if (mmi_freed_state(next) == MMI_OBJECT_BUSY) {
        mmi_hardened_reuse(watch, &found, index, 0);
        let_go(watch, &found, index, seen, nr_pages);
    }
}

void mmi_quarantine_put(struct mm_heap_watch *watch, uint64_t address)
{
    uint64_t turn = mmi_fetch_add(&watch->next_waiting, UINT64_C(1)) % watch->nr_waiting;
    uint64_t oldest = mmi_exchange(&watch->waiting[turn], address);
    uint64_t nr_pages = 0;

    if (oldest != 0) {
        leave(watch, oldest, &nr_pages);
    }
}

uint64_t mmi_quarantine_drain(struct mm_heap_watch *watch, uint64_t *nr_pages)
{
    uint64_t nr = 0;

    for (uint64_t i = 0; i < watch->nr_waiting; i++) {
        uint64_t address =
            mmi_load(&watch->waiting[i]) == 0 ? 0 : mmi_exchange(&watch->waiting[i], UINT64_C(0));

        if (address != 0) {
            leave(watch, address, nr_pages);
            nr++;
        }
    }
    if (nr != 0) {
        mmi_fetch_add(&watch->nr_drains, UINT64_C(1));
    }
    return nr;
}

/* --- the check -------------------------------------------------------------------------------- */

/** Tell what an object is; true if it is as it must be. */
static bool check_found(const struct mm_slab_class *class, const struct mmi_slab *slab,
                        const struct broken *found)
{
    struct mmi_finding finding;

    if (found->kind == 0) {
        return true;
    }
    finding = broken(class->watch, found->kind, slab, found->index, found->at);
    mmi_report_check(class->watch, &finding.report);
    return false;
}

static bool check_object(const struct mm_slab_class *class, const struct mmi_slab *slab,
                         unsigned index)
{
    uint64_t freed = mmi_load_acquire(&mmi_record_of(slab, index)->freed);
    bool live = mmi_freed_state(freed) == MMI_OBJECT_LIVE;
    struct broken found = live ? look_behind(class->watch, slab, index, mmi_freed_size(freed))
                               : look_inside(class->watch, slab, index);
    struct broken before = {0};
    bool good;

    /* The lead of the slab has nobody else who looks. */
    if (live && index == 0) {
        before = look_before(class->watch, slab, index);
    }
    /* What another object did is told with that one. */
    if (found.kind == MM_HEAP_OVERFLOW && found.index != index) {
        return false;
    }
    good = check_found(class, slab, &before);
    return check_found(class, slab, &found) && good;
}

bool mmi_hardened_run(const struct mm_heap_watch *watch, const struct mmi_slab *run, uint64_t room,
                      struct mmi_finding *out)
{
    uint64_t base = mmi_load(&run->base);
    uint64_t size = mmi_load(&run->words[MMI_RUN_SIZE]);
    uint64_t at = mmi_canary_check(watch, base + size, base + room);

    if (at == base + room) {
        return true;
    }
    *out = (struct mmi_finding){.report = {.kind = MM_HEAP_OVERFLOW,
                                           .what = "overflow of an object",
                                           .name = watch->name,
                                           .address = at},
                                .recorded = "canary, behind a run of bytes",
                                .recorded_value = size};
    mmi_report_object(&out->report, run, 0);
    out->report.offset = (int64_t)(at - base);
    out->report.freed_by = 0;
    return false;
}

static bool check_run(const struct mm_slab_class *class, const struct mmi_slab *run)
{
    const uint64_t *freed = &run->words[MMI_RUN_RECORD + 1];
    struct mmi_finding finding;

    if (mmi_load(&run->base) == 0 || mmi_freed_state(mmi_load_acquire(freed)) != MMI_OBJECT_LIVE ||
        mmi_hardened_run(class->watch, run, mmi_load(&run->words[MMI_RUN_PAGES]) * MM_PAGE_SIZE,
                         &finding)) {
        return true;
    }
    mmi_report_check(class->watch, &finding.report);
    return false;
}

bool mmi_hardened_check(const struct mm_slab_class *class)
{
    const struct mmi_slab *slab = mmi_slab_of(mmi_load_acquire(&class->all));
    bool good = true;

    for (; slab != NULL; slab = mmi_slab_of(mmi_load(&slab->all_next))) {
        unsigned nr = mmi_load(&slab->base) != 0 ? mmi_load(&slab->nr_objects) : 0;

        if (class->size == 0) {
            good = check_run(class, slab) && good;
            continue;
        }
        for (unsigned i = 0; i < nr; i++) {
            good = check_object(class, slab, i) && good;
        }
    }
    return good;
}
