// SPDX-License-Identifier: MIT
/**
 * Sampled allocations: one in so many lies alone on a page between two that always fault.
 *
 *     page    0        1          2        3          4
 *          ┌───────┬──────────┬───────┬──────────┬───────┬─ ─
 *          │ guard │ object A │ guard │ object B │ guard │
 *          └───────┴──────────┴───────┴──────────┴───────┴─ ─
 *
 * By turns an object lies at the beginning of its page, where an underflow faults, and at its end,
 * where an overflow does; what of the page is not the object's is canary. A freed page is closed
 * until its place is used again, and of the free places the one that was freed first is next.
 * Places are claimed by compare-and-exchange of their state, which has the number of the object in it;
 * nobody waits. So who frees what was freed meanwhile, and is another object by now, changes nothing.
 * The page is closed in the state FREE, and for a part of WAITING: from before the free ends until
 * the next object opens it.
 *
 * What the record says is of one object from LIVE to WAITING. It is written in MAKING, but for what
 * that object's owner adds: another size in LIVE, and who freed it and when in WAITING. Every field
 * is stored with release behind the state: who reads, with acquire, a field of the next object, sees
 * in a later look at the state that it has moved on. So a report is of one object, or of none that is
 * known (snapshot).
 */
#include "heap.h"

#include "core/base/mem.h"
#include "core/base/report.h"

/** How often a place that somebody else was faster to claim is sought again, or looked at again that
 * was used for another object meanwhile. */
#define TRIES 4u

static struct mmi_sample *sample_at(const struct mm_heap_watch *watch, uint64_t number)
{
    return (struct mmi_sample *)watch->samples + number;
}

static enum mmi_object_state state_of(uint64_t word)
{
    return (enum mmi_object_state)(word & 3);
}

/** The same object in another state. */
static uint64_t in_state(uint64_t word, enum mmi_object_state state)
{
    return (word & ~UINT64_C(3)) | (uint64_t)state;
}

static bool is_live(const struct mmi_sample *sample)
{
    return state_of(mmi_load_acquire(&sample->state)) == MMI_OBJECT_LIVE;
}

static uint64_t page_of(const struct mm_heap_watch *watch, uint64_t number)
{
    return watch->guards.base + (2 * number + 1) * MM_PAGE_SIZE;
}

static uint64_t samples_pages(uint64_t nr)
{
    return (nr * sizeof(struct mmi_sample) + MM_PAGE_MASK) >> MM_PAGE_SHIFT;
}

mm_status_t mmi_sample_check(const struct mm_heap_guards *guards)
{
    if (guards->ops == NULL || guards->ops->open == NULL || guards->ops->close == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (!mm_is_aligned(guards->base, MM_PAGE_SIZE) || !mm_is_aligned(guards->len, MM_PAGE_SIZE)) {
        return MM_ERR_NOT_ALIGNED;
    }
    if (guards->len / MM_PAGE_SIZE < 3 || guards->len / MM_PAGE_SIZE % 2 == 0 ||
        !mm_range_fits(guards->base, guards->len)) {
        return MM_ERR_INVALID_SIZE;
    }
    return MM_OK;
}

mm_status_t mmi_sample_init(struct mm_heap_watch *watch, const struct mm_heap_guards *guards)
{
    uint64_t nr = (guards->len / MM_PAGE_SIZE - 1) / 2;
    uint64_t pages;

    nr = nr > MM_HEAP_SAMPLES_MAX ? MM_HEAP_SAMPLES_MAX : nr;
    pages = mmi_pool_meta_pages(watch->pool, samples_pages(nr), 0);
    if (pages == 0) {
        return MM_ERR_NO_MEMORY;
    }
    watch->samples = (void *)(uintptr_t)pages;
    watch->nr_samples = (uint32_t)nr;
    watch->guards = *guards;
    return MM_OK;
}

void mmi_sample_destroy(struct mm_heap_watch *watch)
{
    if (watch->samples != NULL) {
        mmi_pool_free_meta_pages(watch->pool, (uint64_t)(uintptr_t)watch->samples,
                                 samples_pages(watch->nr_samples));
    }
}

/* --- allocating ------------------------------------------------------------------------------- */

/** Claim the place that was freed first; its number, or `nr_samples`. */
static uint32_t claim(const struct mm_heap_watch *watch)
{
    for (unsigned i = 0; i < TRIES; i++) {
        uint64_t free = 0;
        uint64_t oldest = UINT64_MAX;
        uint32_t best = watch->nr_samples;

        for (uint32_t n = 0; n < watch->nr_samples; n++) {
            const struct mmi_sample *sample = sample_at(watch, n);

            uint64_t seen = mmi_load_acquire(&sample->state);

            if (state_of(seen) == MMI_OBJECT_FREE && mmi_load(&sample->freed_at) < oldest) {
                oldest = mmi_load(&sample->freed_at);
                free = seen;
                best = n;
            }
        }
        if (best == watch->nr_samples ||
            mmi_cas(&sample_at(watch, best)->state, &free, in_state(free, MMI_OBJECT_WAITING))) {
            return best;
        }
    }
    return watch->nr_samples;
}

void *mmi_sample_alloc(struct mm_heap_watch *watch, uint64_t asked, uint64_t size, uint64_t caller)
{
    uint64_t natural = mmi_natural_align(size);
    uint64_t align = asked > natural ? asked : natural;
    struct mmi_sample *sample;
    uint64_t number;
    uint64_t object;
    uint64_t clock;
    uint64_t page;
    uint32_t n;

    if (size > MM_PAGE_SIZE || align > MM_PAGE_SIZE || (n = claim(watch)) == watch->nr_samples) {
        return NULL;
    }
    sample = sample_at(watch, n);
    page = page_of(watch, n);
    if (watch->guards.ops->open(watch->guards.ctx, (void *)(uintptr_t)page) != MM_OK) {
        mmi_store_release(&sample->state, in_state(mmi_load(&sample->state), MMI_OBJECT_FREE));
        return NULL;
    }
    clock = mmi_fetch_add(&watch->sample_clock, UINT64_C(1));
    number = (clock + 1) << 2;
    mmi_store_release(&sample->state, in_state(number, MMI_OBJECT_MAKING));
    object = clock % 2 == 0 ? mm_align_down(page + MM_PAGE_SIZE - size, align) : page;
    mmi_canary_set(watch, page, object);
    mmi_canary_set(watch, object + size, page + MM_PAGE_SIZE);
    mmi_store_release(&sample->object, object);
    mmi_store_release(&sample->size, size);
    mmi_store_release(&sample->asked, asked);
    mmi_store_release(&sample->made, caller);
    mmi_store_release(&sample->freed, UINT64_C(0));
    mmi_store_release(&sample->mark, mmi_load(&watch->mark));
    mmi_store_release(&sample->state, in_state(number, MMI_OBJECT_LIVE));
    return (void *)(uintptr_t)object;
}

void mmi_sample_shrink(const struct mm_heap_watch *watch, struct mmi_sample *sample, uint64_t size)
{
    uint64_t object = mmi_load(&sample->object);

    mmi_canary_set(watch, object + size, object + mmi_load(&sample->size));
    mmi_store_release(&sample->size, size);
}

/* --- freeing ---------------------------------------------------------------------------------- */

/** The place of an address that lies in a page of one; NULL: a guard, or beyond what is used. */
static struct mmi_sample *sample_of(const struct mm_heap_watch *watch, uint64_t address)
{
    uint64_t page = (address - watch->guards.base) >> MM_PAGE_SHIFT;

    if (!mmi_in_samples(watch, address) || page % 2 == 0 || page / 2 >= watch->nr_samples) {
        return NULL;
    }
    return sample_at(watch, page / 2);
}

/** The sample that lives and begins at the address, and its state; NULL: there is none. */
static struct mmi_sample *find_live(const struct mm_heap_watch *watch, uint64_t address,
                                    uint64_t *state)
{
    struct mmi_sample *sample = sample_of(watch, address);

    if (sample == NULL) {
        return NULL;
    }
    *state = mmi_load_acquire(&sample->state);
    return state_of(*state) == MMI_OBJECT_LIVE && mmi_load_acquire(&sample->object) == address
               ? sample
               : NULL;
}

struct mmi_sample *mmi_sample_find(const struct mm_heap_watch *watch, uint64_t address)
{
    uint64_t state;

    return find_live(watch, address, &state);
}

/** What a place says of one object. */
struct snapshot {
    uint64_t state;  /**< before the rest was read, and */
    uint64_t later;  /**< after it: of the same number */
    uint64_t object; /**< 0: there never was one, or it is not known which */
    uint64_t size;
    uint64_t asked;
    uint64_t made;
    uint64_t freed;
    uint64_t mark;
};

static struct snapshot snapshot(const struct mmi_sample *sample)
{
    for (unsigned i = 0; i < TRIES && sample != NULL; i++) {
        struct snapshot seen = {.state = mmi_load_acquire(&sample->state)};

        seen.object = mmi_load_acquire(&sample->object);
        seen.size = mmi_load_acquire(&sample->size);
        seen.asked = mmi_load_acquire(&sample->asked);
        seen.made = mmi_load_acquire(&sample->made);
        seen.freed = mmi_load_acquire(&sample->freed);
        seen.mark = mmi_load_acquire(&sample->mark);
        seen.later = mmi_load_acquire(&sample->state);
        if (state_of(seen.state) != MMI_OBJECT_MAKING && seen.state >> 2 == seen.later >> 2) {
            return seen;
        }
    }
    return (struct snapshot){0};
}

static bool was_live(const struct snapshot *seen)
{
    return state_of(seen->state) == MMI_OBJECT_LIVE;
}

static void fill_object(const struct mm_heap_watch *watch, const struct snapshot *seen,
                        uint64_t address, struct mm_heap_report *report)
{
    if (seen->object != 0) {
        report->owner = watch->name;
        report->object = seen->object;
        report->size = seen->size;
        report->offset = (int64_t)(address - seen->object);
        report->allocated_by = seen->made;
        report->freed_by = seen->freed;
    }
}

static void fill_report(const struct mm_heap_watch *watch, const struct snapshot *seen,
                        uint64_t address, struct mm_heap_report *report)
{
    report->name = watch->name;
    report->address = address;
    fill_object(watch, seen, address, report);
}

/** The first broken byte around an object; 0: none. */
static uint64_t look(const struct mm_heap_watch *watch, uint64_t object, uint64_t size)
{
    uint64_t page = mm_align_down(object, MM_PAGE_SIZE);
    uint64_t end = page + MM_PAGE_SIZE;
    uint64_t at = mmi_canary_check(watch, object + size, end);

    if (at != end) {
        return at;
    }
    at = mmi_canary_check(watch, page, object);
    return at == object ? 0 : at;
}

static struct mmi_finding broken_sample(const struct mm_heap_watch *watch,
                                        const struct snapshot *seen, uint64_t at)
{
    struct mmi_finding finding = {.recorded = "canary, beside a sampled object of",
                                  .recorded_value = seen->size};
    bool behind = at > seen->object;

    fill_report(watch, seen, at, &finding.report);
    finding.report.kind = behind ? MM_HEAP_OVERFLOW : MM_HEAP_UNDERFLOW;
    finding.report.what = behind ? "overflow of an object" : "underflow of an object";
    return finding;
}

void mmi_sample_misuse(const struct mm_heap_watch *watch, const struct mmi_free *free)
{
    struct snapshot seen = snapshot(sample_of(watch, free->address));
    struct mmi_finding finding = {.recorded = "nothing, or what others use by turns"};
    struct mm_heap_report *report = &finding.report;

    fill_report(watch, &seen, free->address, report);
    report->caller = free->caller;
    if (report->object == free->address) {
        report->kind = MM_HEAP_DOUBLE_FREE;
        report->what = "double free of an object";
        finding.recorded = "free, a sampled object of";
        finding.recorded_value = report->size;
    } else if (report->freed_by != 0 && free->address - report->object < report->size) {
        report->kind = MM_HEAP_WILD_FREE;
        report->what = MMI_INSIDE_OF_FREE;
        finding.recorded = "free, an object that began at";
        finding.recorded_value = report->object;
    } else if (report->object != 0 && free->address - report->object < report->size) {
        report->kind = MM_HEAP_INNER_FREE;
        report->what = "free of the inside of an object";
        finding.recorded = "an object that begins at";
        finding.recorded_value = report->object;
    } else {
        report->kind = MM_HEAP_WILD_FREE;
        report->what = "free of an address that holds no object";
    }
    mmi_report(watch, &watch->pool->platform, &finding);
}

bool mmi_sample_report_at(const struct mm_heap_watch *watch, uint64_t address,
                          struct mm_heap_report *report)
{
    struct snapshot seen = snapshot(sample_of(watch, address));

    fill_object(watch, &seen, address, report);
    return report->object != 0;
}

static void mismatch(const struct mm_heap_watch *watch, const struct snapshot *seen,
                     const struct mmi_free *free)
{
    struct mmi_finding finding = {.recorded = "bytes", .recorded_value = seen->size};

    fill_report(watch, seen, free->address, &finding.report);
    finding.report.kind = MM_HEAP_SIZE_MISMATCH;
    finding.report.what = "free of an object with the size of another";
    finding.report.claimed = free->size;
    finding.report.caller = free->caller;
    mmi_report(watch, &watch->pool->platform, &finding);
}

static bool agrees(const struct snapshot *seen, const struct mmi_free *free)
{
    return (free->size == 0 ? 1 : free->size) == seen->size && free->align != 0 &&
           (free->align <= seen->asked || free->align <= mmi_natural_align(seen->size));
}

void mmi_sample_free(struct mm_heap_watch *watch, const struct mmi_free *free)
{
    uint64_t live = 0;
    struct mmi_sample *sample = find_live(watch, free->address, &live);
    struct snapshot seen = snapshot(sample);
    uint64_t at;

    if (sample != NULL && free->sized && (watch->flags & MMI_WATCH_FAST) == 0 &&
        seen.state == live && !agrees(&seen, free)) {
        mismatch(watch, &seen, free);
        return;
    }
    /* If somebody was faster and another object lies here, it has another number. */
    if (sample == NULL || !mmi_cas(&sample->state, &live, in_state(live, MMI_OBJECT_WAITING))) {
        mmi_sample_misuse(watch, free);
        return;
    }
    seen = snapshot(sample); /* nobody else changes it now */
    at = look(watch, free->address, seen.size);
    if (at != 0) {
        struct mmi_finding finding = broken_sample(watch, &seen, at);

        finding.report.caller = free->caller;
        mmi_report(watch, &watch->pool->platform, &finding);
    }
    mmi_store_release(&sample->freed, free->caller);
    mmi_store_release(&sample->freed_at, mmi_fetch_add(&watch->sample_clock, UINT64_C(2)) + 1);
    watch->guards.ops->close(watch->guards.ctx,
                             (void *)(uintptr_t)mm_align_down(free->address, MM_PAGE_SIZE));
    mmi_store_release(&sample->state, in_state(live, MMI_OBJECT_FREE));
}

/* --- looking ---------------------------------------------------------------------------------- */

bool mmi_samples_check(const struct mm_heap_watch *watch)
{
    bool good = true;

    for (uint32_t n = 0; n < watch->nr_samples; n++) {
        struct snapshot seen = snapshot(sample_at(watch, n));
        uint64_t at = was_live(&seen) ? look(watch, seen.object, seen.size) : 0;

        if (at != 0) {
            struct mmi_finding finding = broken_sample(watch, &seen, at);

            mmi_report_check(watch, &finding.report);
            good = false;
        }
    }
    return good;
}

bool mmi_samples_walk(const struct mm_heap_watch *watch, mm_heap_visit_fn visit, void *ctx)
{
    for (uint32_t n = 0; n < watch->nr_samples; n++) {
        struct snapshot seen = snapshot(sample_at(watch, n));

        if (was_live(&seen)) {
            struct mm_heap_object object = {.object = (const void *)(uintptr_t)seen.object,
                                            .size = seen.size,
                                            .room = MM_PAGE_SIZE,
                                            .allocated_by = seen.made,
                                            .mark = seen.mark};

            if (!visit(ctx, &object)) {
                return false;
            }
        }
    }
    return true;
}

/** The place of this number, if there is one. */
static struct snapshot snapshot_at(const struct mm_heap_watch *watch, uint64_t number)
{
    return snapshot(number < watch->nr_samples ? sample_at(watch, number) : NULL);
}

/** Which of the objects beside a guard an access to it came from; of no object: neither is known. */
static struct snapshot nearer(const struct mm_heap_watch *watch, uint64_t address)
{
    uint64_t right = (address - watch->guards.base) >> MM_PAGE_SHIFT >> 1;
    struct snapshot before = snapshot_at(watch, right - 1); /* of the first guard: none */
    struct snapshot after = snapshot_at(watch, right);

    if (before.object == 0 || after.object == 0) {
        return before.object == 0 ? after : before;
    }
    if (was_live(&before) != was_live(&after)) {
        return was_live(&before) ? before : after;
    }
    return address - (before.object + before.size) < after.object - address ? before : after;
}

/**
 * Whether the page of a place is closed in this state, or may be: its object is free, or is being
 * freed by who has said so, or the next one is not there yet.
 */
static bool is_closed(uint64_t state, uint64_t freed)
{
    return state_of(state) == MMI_OBJECT_FREE ||
           (state_of(state) == MMI_OBJECT_WAITING && freed != 0);
}

/** What an access that faulted was; false: nothing is known of it. */
static bool explain(const struct mm_heap_watch *watch, uint64_t address,
                    struct mm_heap_report *report)
{
    const struct mmi_sample *sample = sample_of(watch, address);
    struct snapshot seen;

    if (sample != NULL) {
        seen = snapshot(sample);
        fill_report(watch, &seen, address, report);
        report->kind = MM_HEAP_USE_AFTER_FREE;
        report->what = "use of an object after its free";
        return seen.object != 0 && is_closed(seen.state, seen.freed) &&
               is_closed(seen.later, seen.freed);
    }
    if (!mmi_in_samples(watch, address)) {
        return false;
    }
    seen = nearer(watch, address);
    fill_report(watch, &seen, address, report);
    report->kind = report->offset < 0 ? MM_HEAP_UNDERFLOW : MM_HEAP_OVERFLOW;
    report->what = report->offset < 0 ? "underflow of an object" : "overflow of an object";
    return seen.object != 0;
}

mm_status_t mm_heap_explain_fault(const struct mm_heap *heap, uint64_t address,
                                  struct mm_heap_report *out)
{
    struct mm_heap_report report = {0};

    if (heap == NULL || out == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (!mmi_is_heap(heap)) {
        return MM_ERR_NOT_INITIALIZED;
    }
    if (!explain(&heap->watch, address, &report)) {
        return MM_ERR_INVALID_ADDRESS;
    }
    *out = report;
    return MM_OK;
}

uint64_t mmi_samples_count(const struct mm_heap_watch *watch, uint64_t *bytes)
{
    uint64_t nr = 0;

    *bytes = 0;
    for (uint32_t n = 0; n < watch->nr_samples; n++) {
        const struct mmi_sample *sample = sample_at(watch, n);

        if (is_live(sample)) {
            nr++;
            *bytes += mmi_load(&sample->size);
        }
    }
    return nr;
}

void mmi_samples_leak(const struct mm_heap_watch *watch, uint64_t nr)
{
    struct mmi_line line;

    mmi_line_begin(&line);
    mmi_line_str(&line, "heap: ");
    mmi_line_str(&line, watch->name);
    mmi_line_str(&line, ": ");
    mmi_line_u64(&line, nr);
    mmi_line_str(&line, " sampled objects were not freed");
    mmi_line_log(&line, &watch->pool->platform);
}
