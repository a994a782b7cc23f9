// SPDX-License-Identifier: MIT
/**
 * Looking at slabs from outside: sums, and the check. Nothing here changes a slab.
 */
#include "watch.h"

#include "core/base/report.h"
#include <mm/heap.h>

/* --- sums ------------------------------------------------------------------------------------- */

static bool has_pages(const struct mmi_slab *slab)
{
    return mmi_load_acquire(&slab->base) != 0;
}

static uint64_t count_waiting(const struct mmi_slab *slab)
{
    uint64_t nr = 0;

    for (unsigned i = 0; i < mmi_load(&slab->nr_objects); i++) {
        enum mmi_object_state state = mmi_freed_state(mmi_load(&mmi_record_of(slab, i)->freed));

        nr += state == MMI_OBJECT_WAITING || state == MMI_OBJECT_BUSY ? 1 : 0;
    }
    return nr;
}

static void count_slab(const struct mmi_slab *slab, struct mmi_class_counts *out)
{
    uint64_t nr = mmi_load(&slab->nr_objects);
    uint64_t nr_free = mmi_slab_nr_free(slab);

    /* Those in the quarantine are nobody's. */
    nr_free += mmi_slab_class(slab)->watch == NULL ? 0 : count_waiting(slab);
    /* Others may be at it: a slab that changes its life while it is counted counts as it can. */
    nr_free = nr_free < nr ? nr_free : nr;
    out->nr_slabs++;
    out->nr_pages += UINT64_C(1) << mmi_load(&slab->order);
    out->nr_free += nr_free;
    out->nr_objects += nr - nr_free;
    out->nr_empty_slabs += nr_free == nr ? 1 : 0;
}

void mmi_class_count(const struct mm_slab_class *class, struct mmi_class_counts *out)
{
    const struct mmi_slab *slab = mmi_slab_of(mmi_load_acquire(&class->all));

    *out = (struct mmi_class_counts){0};
    out->nr_kept_pages = class->size == 0 ? mmi_load(&class->nr_kept) : 0;
    for (; slab != NULL; slab = mmi_slab_of(mmi_load(&slab->all_next))) {
        if (!has_pages(slab)) {
            continue;
        }
        if (class->size != 0) {
            count_slab(slab, out);
        } else {
            out->nr_slabs++;
            out->nr_objects++;
            out->nr_pages += mmi_load(&slab->words[MMI_RUN_PAGES]);
        }
    }
}

void mmi_class_leak(const struct mm_slab_class *class, uint64_t nr_objects)
{
    struct mmi_line line;

    mmi_line_begin(&line);
    mmi_line_str(&line, "heap: ");
    mmi_line_str(&line, class->name);
    mmi_line_str(&line, ": ");
    mmi_line_u64(&line, nr_objects);
    if (class->size != 0) {
        mmi_line_str(&line, " objects of ");
        mmi_line_u64(&line, class->size);
        mmi_line_str(&line, " bytes");
    } else {
        mmi_line_str(&line, " runs of pages");
    }
    mmi_line_str(&line, " were not freed");
    mmi_line_log(&line, &class->pool->platform);
}

/* --- the check -------------------------------------------------------------------------------- */

struct check {
    const struct mm_slab_class *class;
    uint64_t nr_with_pages;
    uint64_t nr_owned;
    uint64_t nr_partial; /**< by their states; of runs: those that are kept */
    uint64_t nr_unused;
    uint64_t nr_kept; /**< of runs: their pages */
    bool good;
};

static void expect(struct check *check, bool holds, const char *what, uint64_t value)
{
    if (!holds) {
        mmi_complain(&check->class->pool->platform, "heap", what, value);
        check->good = false;
    }
}

static void check_table(struct check *check, const struct mmi_slab *slab, uint64_t nr_pages)
{
    uint64_t base = mmi_load(&slab->base) - check->class->lead;

    for (uint64_t i = 0; i < nr_pages; i++) {
        const struct mmi_slab *found =
            mmi_table_find(&check->class->pool->table, base + i * MM_PAGE_SIZE);

        expect(check, found == slab, "a page of a slab is not in the table", base);
    }
}

static void check_words(struct check *check, const struct mmi_slab *slab)
{
    bool alive = has_pages(slab);
    uint64_t me = (uint64_t)(uintptr_t)slab;
    uint32_t life = mmi_load(&slab->life) + (alive ? 0u : 1u);

    for (unsigned w = 0; w < check->class->nr_words; w++) {
        uint64_t word = mmi_load(&slab->words[w]);
        uint32_t may = alive ? mmi_slab_full(slab, w) : 0;

        expect(check, ((uint32_t)word & ~may) == 0, "an object is free that does not exist", me);
        if (mmi_slab_full(slab, w) != 0) {
            expect(check, word >> 32 == life, "a word is of another life than its slab", me);
        }
    }
}

static void check_slab(struct check *check, struct mmi_slab *slab)
{
    const struct mm_slab_class *class = check->class;
    uint64_t me = (uint64_t)(uintptr_t)slab;
    bool alive = has_pages(slab);
    uint32_t state = mmi_load(&slab->state);

    expect(check, mmi_slab_class(slab) == class, "a slab is of another class", me);
    check_words(check, slab);
    if (alive) {
        uint64_t nr_pages = UINT64_C(1) << mmi_load(&slab->order);

        check->nr_with_pages++;
        expect(check,
               mmi_load(&slab->size) == class->size &&
                   mmi_load(&slab->bytes) == class->size * mmi_load(&slab->nr_objects) &&
                   mmi_load(&slab->bytes) + class->lead <= nr_pages * MM_PAGE_SIZE,
               "the geometry of a slab is wrong", me);
        check_table(check, slab, nr_pages);
    }
    switch (state) {
    case MMI_SLAB_OWNED:
        check->nr_owned++;
        break;
    case MMI_SLAB_KEPT:
        check->nr_kept++;
        check->nr_partial++;
        break;
    case MMI_SLAB_LISTED:
    case MMI_SLAB_DEAD_LISTED:
        check->nr_partial++;
        break;
    case MMI_SLAB_DEAD:
        check->nr_unused++;
        break;
    case MMI_SLAB_UNLISTED:
        expect(check, !mmi_slab_worth_listing(slab), "a slab is not listed that should be", me);
        break;
    default:
        expect(check, false, "a slab is in a state that nobody leaves it in", me);
    }
    expect(check, alive == (state != MMI_SLAB_DEAD && state != MMI_SLAB_DEAD_LISTED),
           "the state of a slab contradicts its pages", me);
}

/** Count a list, up to more than `nr_most` slabs in all: a broken one may go round. */
static void check_list(struct check *check, const uint64_t *head, bool unused, uint64_t nr_most,
                       uint64_t *nr)
{
    const struct mm_pool *pool = check->class->pool;
    const struct mmi_slab *slab = mmi_list_first(pool, head);

    for (; slab != NULL && *nr <= nr_most; (*nr)++) {
        uint32_t state = mmi_load(&slab->state);

        expect(check, mmi_slab_class(slab) == check->class && (state == MMI_SLAB_DEAD) == unused,
               "a list holds a slab that does not belong there", (uint64_t)(uintptr_t)slab);
        slab = mmi_list_next(pool, slab);
    }
}

static void check_lists(struct check *check)
{
    const struct mm_slab_class *class = check->class;
    uint64_t nr_unused = 0;
    uint64_t nr_partial = 0;

    check_list(check, &class->unused, true, check->nr_unused, &nr_unused);
    for (unsigned i = 0; i < MM_CACHE_LISTS; i++) {
        check_list(check, &class->partial[i], false, check->nr_partial, &nr_partial);
    }
    for (uint32_t cpu = 0; cpu < class->nr_cpus; cpu++) {
        uint64_t before = nr_partial;

        check_list(check, &class->own[(uint64_t)cpu * class->stride], false, check->nr_partial,
                   &nr_partial);
        expect(check, nr_partial == before || (mmi_load(&class->listed) >> cpu % 64 & 1) != 0,
               "a CPU has partial slabs, and no bit says so: CPU", cpu);
    }
    expect(check, nr_unused == check->nr_unused,
           "a list misses a slab, or holds one twice; there should be", check->nr_unused);
    if (class->size != 0) {
        expect(check, nr_partial == check->nr_partial,
               "a list misses a slab, or holds one twice; there should be", check->nr_partial);
    }
}

static void check_hints(struct check *check)
{
    const struct mm_slab_class *class = check->class;
    uint64_t nr = 0;

    for (uint32_t cpu = 0; cpu < class->nr_cpus; cpu++) {
        uint64_t owned = mmi_load(&class->owned[(uint64_t)cpu * class->stride]);
        const struct mmi_slab *slab = mmi_slab_of(owned);

        if (slab != NULL) {
            nr++;
            expect(check,
                   mmi_slab_class(slab) == class && mmi_load(&slab->state) == MMI_SLAB_OWNED &&
                       mmi_load(&slab->cpu) == cpu,
                   "a hint names a slab that is not its own", (uint64_t)(uintptr_t)slab);
        }
    }
    expect(check, nr == check->nr_owned, "slabs are owned that no hint names", check->nr_owned);
}

static void check_run(struct check *check, const struct mmi_slab *run)
{
    uint64_t me = (uint64_t)(uintptr_t)run;
    uint32_t state = mmi_load(&run->state);
    uint64_t first = mmi_load(&run->words[MMI_RUN_FIRST]);
    uint64_t nr_pages = mmi_load(&run->words[MMI_RUN_PAGES]);

    expect(check, mmi_slab_class(run) == check->class, "a run is of another class", me);
    expect(check, has_pages(run) == (state == MMI_SLAB_OWNED),
           "the state of a run contradicts its pages", me);
    if (state == MMI_SLAB_DEAD) {
        check->nr_unused++;
        return;
    }
    expect(check, nr_pages != 0, "a run has no pages", me);
    expect(check, mmi_table_find(&check->class->pool->table, first) == run,
           "a run is not in the table", me);
    if (state == MMI_SLAB_KEPT) {
        check->nr_kept += nr_pages;
        check->nr_partial++;
    } else {
        expect(check, mmi_load(&run->base) == first, "a run begins at another page", me);
        check->nr_with_pages++;
    }
}

/** Every run that is kept is in the bin of its length. */
static void check_bins(struct check *check)
{
    const struct mm_slab_class *class = check->class;
    uint64_t nr = 0;

    for (unsigned bin = 0; class->hints != NULL && bin < MM_HEAP_RUN_BINS; bin++) {
        const struct mmi_slab *run = mmi_list_first(class->pool, &class->hints[bin]);

        for (; run != NULL && nr <= check->nr_partial; nr++) {
            expect(check,
                   mmi_slab_class(run) == class && mmi_load(&run->state) == MMI_SLAB_KEPT &&
                       mmi_load(&run->words[MMI_RUN_PAGES]) == bin + 1,
                   "a bin holds a run that does not belong there", (uint64_t)(uintptr_t)run);
            run = mmi_list_next(class->pool, run);
        }
    }
    expect(check, nr == check->nr_partial,
           "the bins miss a run, or hold one twice; there should be", check->nr_partial);
}

bool mmi_class_check(const struct mm_slab_class *class)
{
    struct check check = {.class = class, .good = true};
    struct mmi_slab *slab = mmi_slab_of(mmi_load_acquire(&class->all));

    for (; slab != NULL; slab = mmi_slab_of(mmi_load(&slab->all_next))) {
        if (class->size != 0) {
            check_slab(&check, slab);
        } else {
            check_run(&check, slab);
        }
    }
    check_lists(&check);
    expect(&check, check.nr_with_pages == mmi_load(&class->nr_slabs),
           "the number of slabs is wrong; there are", check.nr_with_pages);
    if (class->size != 0) {
        check_hints(&check);
    } else {
        check_bins(&check);
    }
    expect(&check, check.nr_kept == mmi_load(&class->nr_kept),
           class->size != 0 ? "the number of kept slabs is wrong; there are"
                            : "the number of kept pages is wrong; there are",
           check.nr_kept);
    if (class->watch != NULL && mmi_is_hardened(class->watch)) {
        check.good = mmi_hardened_check(class) && check.good;
    }
    return check.good;
}
