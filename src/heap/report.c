// SPDX-License-Identifier: MIT
/**
 * Reports: why a free must not be, whom a misuse is told, and the lines that people read.
 */
#include "watch.h"

#include "core/base/report.h"

#include "run.h"

/* --- telling ---------------------------------------------------------------------------------- */

void mmi_report(const struct mm_heap_watch *watch, const struct mm_platform *platform,
                const struct mmi_finding *finding)
{
    const struct mm_heap_report *report = &finding->report;
    struct mm_panic_info info = {.room = "heap",
                                 .what = report->what,
                                 .address = report->address,
                                 .recorded = finding->recorded,
                                 .recorded_value = finding->recorded_value,
                                 .claimed = report->name,
                                 .claimed_value = report->claimed,
                                 .allocated_by = report->allocated_by,
                                 .freed_by = report->freed_by,
                                 .caller = report->caller};

    if (watch != NULL && watch->report != NULL) {
        watch->report(watch->ctx, report);
        return;
    }
    mmi_panic(platform, &info);
}

/** What a record says. */
static void fill_record(struct mm_heap_report *report, const struct mmi_record *record)
{
    uint64_t freed = mmi_load_acquire(&record->freed);

    report->allocated_by = mmi_record_address(mmi_load(&record->made));
    report->freed_by = mmi_freed_state(freed) == MMI_OBJECT_LIVE ? 0 : mmi_record_address(freed);
    if (mmi_freed_size(freed) != 0) {
        report->size = mmi_freed_size(freed);
    }
}

void mmi_report_object(struct mm_heap_report *report, const struct mmi_slab *slab, unsigned index)
{
    const struct mm_slab_class *class = mmi_slab_class(slab);

    report->owner = class->name;
    report->object = mmi_load(&slab->base) + (uint64_t)index * mmi_load(&slab->size);
    report->size = class->size;
    if (class->size == 0) {
        report->object = mmi_load(&slab->words[MMI_RUN_FIRST]);
        report->size = mmi_load(&slab->words[MMI_RUN_PAGES]) * MM_PAGE_SIZE;
    }
    if (class->watch == NULL) {
        return;
    }
    if (class->size != 0) {
        fill_record(report, mmi_record_of(slab, index));
        return;
    }
    report->size = mmi_load(&slab->words[MMI_RUN_SIZE]);
    fill_record(report, (const struct mmi_record *)(const void *)&slab->words[MMI_RUN_RECORD]);
}

void mmi_report_at(struct mm_heap_report *report, const struct mmi_slab *slab, uint64_t address)
{
    uint64_t size = mmi_load(&slab->size);
    uint64_t base = mmi_load(&slab->base);
    uint64_t index = size == 0 ? 0 : (address - base) / size;

    if (index >= MMI_SLAB_MAX) {
        return; /* the slab has lost its pages meanwhile */
    }
    mmi_report_object(report, slab, (unsigned)index);
    if (size != 0) {
        report->object = base + index * size; /* whatever base it has by now */
    }
    report->offset = (int64_t)(address - report->object);
}

/* --- a free that must not be ------------------------------------------------------------------ */

/** The run that holds the address, if one does: it looks at all. */
static const struct mmi_slab *run_around(const struct mm_slab_class *runs, uint64_t address)
{
    const struct mmi_slab *run = runs == NULL ? NULL : mmi_slab_of(mmi_load_acquire(&runs->all));

    for (; run != NULL; run = mmi_slab_of(mmi_load(&run->all_next))) {
        uint64_t base = mmi_load(&run->base);

        if (base != 0 && address >= base &&
            address - base < mmi_load(&run->words[MMI_RUN_PAGES]) * MM_PAGE_SIZE) {
            return run;
        }
    }
    return NULL;
}

/** The descriptor of the run that was at the address last and is free, while it is known. */
static const struct mmi_slab *run_before(const struct mm_slab_class *runs, uint64_t address)
{
    const struct mmi_slab *run =
        runs == NULL || runs->watch == NULL ? NULL : mmi_slab_of(mmi_load_acquire(&runs->all));
    const struct mmi_slab *last = NULL;

    for (; run != NULL; run = mmi_slab_of(mmi_load(&run->all_next))) {
        if (mmi_load(&run->base) == 0 && mmi_load(&run->words[MMI_RUN_LAST]) == address &&
            (last == NULL || (int32_t)(mmi_load(&run->life) - mmi_load(&last->life)) > 0)) {
            last = run;
        }
    }
    return last;
}

static void say(struct mmi_finding *finding, enum mm_heap_misuse kind, const char *recorded,
                uint64_t value)
{
    static const char *const whats[] = {
        [MM_HEAP_DOUBLE_FREE] = "double free of an object",
        [MM_HEAP_INNER_FREE] = "free of the inside of an object",
        [MM_HEAP_FOREIGN_FREE] = "free of an object of another cache or heap",
        [MM_HEAP_WILD_FREE] = "free of an address that holds no object",
    };

    finding->report.kind = kind;
    finding->report.what = whats[kind];
    finding->recorded = recorded;
    finding->recorded_value = value;
}

/** Nothing of this heap: an object that another heap of the pool has sampled, or nothing at all. */
static void explain_sample(const struct mmi_misuse *misuse, uint64_t address,
                           struct mmi_finding *finding)
{
    const struct mm_heap_watch *sampler = mmi_pool_sampler(misuse->pool, address);

    if (sampler != NULL && mmi_sample_report_at(sampler, address, &finding->report)) {
        say(finding, MM_HEAP_FOREIGN_FREE, finding->report.owner, finding->report.size);
    } else {
        say(finding, MM_HEAP_WILD_FREE, "nothing", 0);
    }
}

/** No slab is known there: the inside of a run, a run that is gone, a sample, or nothing. */
static void explain_unknown(const struct mmi_misuse *misuse, uint64_t address,
                            struct mmi_finding *finding)
{
    const struct mmi_slab *run = run_around(misuse->runs, address);

    run = run == NULL ? run_around(misuse->large, address) : run;
    run = run == NULL ? run_around(misuse->reserve, address) : run;
    if (run != NULL) {
        mmi_report_at(&finding->report, run, address);
        say(finding, MM_HEAP_INNER_FREE, "an object that begins at", finding->report.object);
        return;
    }
    run = run_before(misuse->runs, address);
    run = run == NULL ? run_before(misuse->large, address) : run;
    run = run == NULL ? run_before(misuse->reserve, address) : run;
    if (run != NULL) {
        mmi_report_object(&finding->report, run, 0);
        finding->report.object = address;
        say(finding, MM_HEAP_DOUBLE_FREE, "free, a run of bytes", finding->report.size);
        return;
    }
    explain_sample(misuse, address, finding);
}

/** Whether the object of a slab, not a run, around the address is free; a snapshot. */
static bool is_free(const struct mmi_slab *slab, uint64_t address)
{
    const struct mm_slab_class *class = mmi_slab_class(slab);
    uint64_t index = (address - mmi_load(&slab->base)) / class->size;

    if (index >= MMI_SLAB_MAX) {
        return true; /* with its slab */
    }
    return class->watch != NULL
               ? mmi_freed_state(mmi_load(&mmi_record_of(slab, (unsigned)index)->freed)) !=
                     MMI_OBJECT_LIVE
               : (mmi_load(&slab->words[index / MMI_SLAB_WORD_BITS]) &
                  mmi_slab_bit((unsigned)index)) != 0;
}

static void explain(const struct mmi_misuse *misuse, uint64_t address, struct mmi_finding *finding)
{
    const struct mmi_slab *slab = mmi_table_find(&misuse->pool->table, address);
    struct mm_heap_report *report = &finding->report;
    const struct mm_slab_class *class;
    uint64_t offset;

    if (slab == NULL && misuse->large != NULL) {
        slab = mmi_table_find(&misuse->large->pool->table, address);
    }
    if (slab == NULL) {
        explain_unknown(misuse, address, finding);
        return;
    }
    class = mmi_slab_class(slab);
    offset = address - mmi_load(&slab->base);
    if (class->size != 0 && offset >= mmi_load(&slab->bytes)) {
        report->owner = class->name;
        say(finding, MM_HEAP_WILD_FREE, "the unused end of a slab, objects of", class->size);
    } else {
        mmi_report_at(report, slab, address);
    }
    if ((uint64_t)(uintptr_t) class - (uint64_t)(uintptr_t)misuse->classes >= misuse->classes_len &&
        class != misuse->runs && class != misuse->large && class != misuse->reserve) {
        say(finding, MM_HEAP_FOREIGN_FREE, class->name, class->size);
    } else if (report->object != 0 && report->object != address && class->size != 0 &&
               is_free(slab, address)) {
        say(finding, MM_HEAP_WILD_FREE, "free, an object that began at", report->object);
        report->what = MMI_INSIDE_OF_FREE;
    } else if (report->object != 0 && report->object != address) {
        say(finding, MM_HEAP_INNER_FREE, "an object that begins at", report->object);
    } else if (report->object != 0) {
        say(finding, MM_HEAP_DOUBLE_FREE,
            class->size != 0 ? "free, an object of" : "free, a run of pages",
            class->size != 0 ? class->size : mmi_load(&slab->words[MMI_RUN_PAGES]) * MM_PAGE_SIZE);
    } else if (report->what == NULL) {
        say(finding, MM_HEAP_WILD_FREE, "a run that was given back meanwhile", 0);
    }
}

void mmi_slab_misuse(const struct mmi_misuse *misuse, uint64_t address)
{
    struct mm_platform none = {NULL, NULL};
    struct mmi_finding finding = {
        .report = {.name = misuse->name, .address = address, .caller = misuse->caller}};

    if (misuse->pool == NULL) {
        finding.report.kind = MM_HEAP_WILD_FREE;
        finding.report.what = "free by a cache or heap that is not initialised";
        finding.report.name = "an object";
        finding.recorded = "nothing";
        mmi_report(NULL, &none, &finding);
        return;
    }
    explain(misuse, address, &finding);
    mmi_report(misuse->watch, &misuse->pool->platform, &finding);
}

/* --- lines ------------------------------------------------------------------------------------ */

struct printer {
    mm_heap_line_fn line;
    void *ctx;
};

static void print(const struct printer *printer, const struct mmi_line *line)
{
    printer->line(printer->ctx, line->text, line->len);
}

static void print_distance(struct mmi_line *line, const struct mm_heap_report *report)
{
    bool before = report->offset < 0;
    uint64_t distance = before ? (uint64_t)-report->offset : (uint64_t)report->offset;

    if (!before && distance >= report->size) {
        distance = distance - report->size + 1;
        mmi_line_str(line, ", ");
        mmi_line_u64(line, distance);
        mmi_line_str(line, distance == 1 ? " byte behind its end" : " bytes behind its end");
    } else {
        mmi_line_str(line, ", ");
        mmi_line_u64(line, distance);
        mmi_line_str(line, distance == 1 ? " byte" : " bytes");
        mmi_line_str(line, before ? " in front of it" : " into it");
    }
}

static void print_who(const struct printer *printer, const char *what, uint64_t address)
{
    struct mmi_line line;

    if (address != 0) {
        mmi_line_begin(&line);
        mmi_line_str(&line, what);
        mmi_line_hex(&line, address, 1);
        print(printer, &line);
    }
}

static void print_report(const struct printer *printer, const struct mm_heap_report *report)
{
    struct mmi_line line;

    mmi_line_begin(&line);
    mmi_line_str(&line, "heap ");
    mmi_line_str(&line, report->name == NULL ? "?" : report->name);
    mmi_line_str(&line, ": ");
    mmi_line_str(&line, report->what == NULL ? "misuse" : report->what);
    if (report->object != 0 && report->offset != 0) {
        print_distance(&line, report);
    }
    print(printer, &line);

    mmi_line_begin(&line);
    mmi_line_str(&line, "  ");
    if (report->object != 0) {
        mmi_line_str(&line, "object ");
        mmi_line_hex(&line, report->object, 1);
        mmi_line_str(&line, ", ");
        mmi_line_u64(&line, report->size);
        mmi_line_str(&line, " bytes, of ");
        mmi_line_str(&line, report->owner == NULL ? "?" : report->owner);
        mmi_line_str(&line, "; ");
    }
    mmi_line_str(&line, "at ");
    mmi_line_hex(&line, report->address, 1);
    if (report->kind == MM_HEAP_SIZE_MISMATCH) {
        mmi_line_str(&line, "; the caller says ");
        mmi_line_u64(&line, report->claimed);
        mmi_line_str(&line, " bytes");
    }
    print(printer, &line);
    print_who(printer, "  allocated by ", report->allocated_by);
    print_who(printer, "  freed by ", report->freed_by);
    print_who(printer, "  found by ", report->caller);
}

mm_status_t mm_heap_report_lines(const struct mm_heap_report *report, mm_heap_line_fn line,
                                 void *ctx)
{
    struct printer printer = {line, ctx};

    if (report == NULL || line == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    print_report(&printer, report);
    return MM_OK;
}

void mmi_report_check(const struct mm_heap_watch *watch, const struct mm_heap_report *report)
{
    const struct mm_platform *platform = &watch->pool->platform;
    struct printer printer = {platform->ops == NULL ? NULL : platform->ops->log, platform->ctx};

    if (printer.line != NULL) {
        print_report(&printer, report);
    }
    if (watch->report != NULL) {
        watch->report(watch->ctx, report);
    }
}
