// SPDX-License-Identifier: MIT
/**
 * Statistics, the check, and the arena as text.
 */
#include "kva.h"

mm_status_t mm_kva_get_stats(const struct mm_kva *kva, struct mm_kva_stats *out)
{
    if (out == NULL || mmi_kva_check_arena(kva) != MM_OK) {
        return kva == NULL || out == NULL ? MM_ERR_INVALID_ARGUMENT : MM_ERR_NOT_INITIALIZED;
    }
    *out = (struct mm_kva_stats){.nr_lazy_pages = mmi_load(&kva->nr_lazy_pages),
                                 .nr_stacks_kept = mmi_load(&kva->nr_stacks),
                                 .nr_reserve_tables = mmi_load(&kva->nr_reserve),
                                 .bytes_used = mmi_load(&kva->ranges.bytes),
                                 .nr_purges = mmi_load(&kva->nr_purges),
                                 .nr_flushes = mmi_load(&kva->nr_flushes),
                                 .nr_failed = mmi_load(&kva->nr_failed)};
    for (unsigned i = 0; i < MM_KVA_KINDS; i++) {
        out->nr_ranges[i] = mmi_load(&kva->nr_ranges[i]);
        out->nr_pages[i] = mmi_load(&kva->nr_pages[i]);
    }
    return MM_OK;
}

/* --- the check -------------------------------------------------------------------------------- */

struct checking {
    struct mm_kva *kva;
    bool good;
    uint64_t nr_mapped; /* pages of the range that is looked at */
    uint64_t nr_ranges[MM_KVA_KINDS];
    uint64_t nr_pages[MM_KVA_KINDS];
    uint64_t nr_freed; /* pages, kept stacks among them */
};

static void expect(struct checking *c, bool condition, const char *what, uint64_t value)
{
    if (!condition) {
        c->good = false;
        mmi_complain(&c->kva->platform, "kva", what, value);
    }
}

static bool count_leaf(void *ctx, const struct mm_mapping *leaf)
{
    struct checking *c = ctx;

    c->nr_mapped += leaf->page.len >> MM_PAGE_SHIFT;
    return true;
}

static uint64_t mapped_in(struct checking *c, uint64_t start, uint64_t len)
{
    c->nr_mapped = 0;
    if (len != 0) {
        expect(c,
               mm_paging_walk(c->kva->kernel, mm_vrange(mm_vaddr(start), len), count_leaf, c) ==
                   MM_OK,
               "a range cannot be walked", start);
    }
    return c->nr_mapped;
}

/** Pages of a run that the table knows: those that have an owner, and those that were freed. */
static void check_pages(struct checking *c, const struct mmi_kva_range *range)
{
    uint64_t nr_known = 0;

    for (uint64_t at = range->start; at < range->start + range->len; at += MM_PAGE_SIZE) {
        const uint64_t *entry = mmi_table_look(&c->kva->table, at);
        uint64_t value = entry == NULL ? 0 : mmi_load(entry);

        expect(c, value == 0 || mmi_kva_of_entry(value) == range, "a page is another range's", at);
        nr_known += value != 0 ? 1 : 0;
        c->nr_freed += (value & MMI_KVA_FREED) != 0 ? 1 : 0;
    }
    expect(c, nr_known == range->nr_left, "pages of a run counted wrongly", range->start);
}

static void check_range(struct checking *c, const struct mmi_kva_range *range)
{
    uint64_t before = range->start - range->whole.node.start;
    uint64_t end = range->start + range->len;
    const uint64_t *entry = mmi_table_look(&c->kva->table, range->start);

    expect(c,
           (unsigned)range->kind < MM_KVA_KINDS &&
               mm_range_covers(range->whole.node.start, range->whole.len, range->start, range->len),
           "a range makes no sense", range->whole.node.start);
    if (!c->good) {
        return;
    }
    if (range->kind == MM_KVA_PAGES) {
        check_pages(c, range);
    } else {
        expect(c, entry != NULL && mmi_kva_of_entry(mmi_load(entry)) == range,
               "the table does not know a range", range->start);
        c->nr_freed += mmi_kva_is_freed(c->kva, range) ? range->nr_left : 0;
    }
    expect(c, mapped_in(c, range->start, range->len) == range->nr_left,
           "a range has other pages than it counts", range->start);
    expect(c, mapped_in(c, range->whole.node.start, before) == 0, "a guard is mapped",
           range->whole.node.start);
    expect(c, mapped_in(c, end, range->whole.len - before - range->len) == 0, "a guard is mapped",
           end);
    c->nr_ranges[range->kind]++;
    c->nr_pages[range->kind] += range->nr_left;
}

static void check_device(struct checking *c, unsigned type, struct mmi_range *node)
{
    const struct mmi_kva_range *device = mmi_kva_of_whole(node)->twin;
    struct mm_mapping mapping;

    expect(c,
           (unsigned)device->type == type && device->twin == mmi_kva_of_whole(node) &&
               device->paddr == node->node.start && device->len == node->len,
           "a device is not listed as recorded", device->start);
    expect(c,
           mm_paging_translate(c->kva->kernel, mm_vaddr(device->start), &mapping) == MM_OK &&
               mapping.paddr.raw + (device->start - mapping.page.start.raw) == device->paddr &&
               mapping.type == device->type,
           "a device is not mapped as recorded", device->start);
}

/** Under the lock of the claims. One of the arena has a range; those of others are theirs to check. */
static void check_claims(struct checking *c)
{
    uint64_t nr_foreign = 0;
    uint64_t nr = 0;

    c->good = mmi_devices_check(mmi_devices_of(c->kva), "kva");
    for (unsigned type = 0; type < MM_MEMTYPE_COUNT && c->good; type++) {
        const struct mm_ranges *tree = &c->kva->devices.by_type[type];

        for (struct mmi_range *r = mmi_ranges_first(tree); r != NULL; r = mmi_range_next(r)) {
            if (r->tag == 0) {
                check_device(c, type, r);
            }
            nr_foreign += r->tag != 0 ? 1 : 0;
        }
        nr += tree->nr;
    }
    if (!c->good) {
        return;
    }
    expect(c, nr - nr_foreign == c->nr_ranges[MM_KVA_DEVICE], "devices are not all listed", nr);
    expect(c, nr_foreign == c->kva->devices.nr_foreign, "devices of others counted wrongly",
           nr_foreign);
}

static void check_devices(struct checking *c)
{
    mmi_lock(&c->kva->devices.lock, &c->kva->platform);
    check_claims(c);
    mmi_unlock(&c->kva->devices.lock);
}

static void check_counts(struct checking *c)
{
    uint64_t kept = 0;
    uint64_t nr_stacks = 0;
    uint64_t nr_reserve = 0;
    mm_pfn_t frame = c->kva->reserve;

    for (const struct mmi_kva_range *s = c->kva->stacks; s != NULL; s = s->next) {
        nr_stacks++;
        kept += mmi_kva_pages(s);
    }
    expect(c, nr_stacks == c->kva->nr_stacks, "kept stacks counted wrongly", nr_stacks);
    expect(c, c->nr_freed == mmi_load(&c->kva->nr_lazy_pages) + kept, "freed pages counted wrongly",
           c->nr_freed);
    for (; nr_reserve < c->kva->nr_reserve && mm_frame_allocated(c->kva->frames, frame);
         nr_reserve++) {
        frame = mm_pfn(*(const uint64_t *)mm_physmap_ptr(&c->kva->physmap, mm_pfn_addr(frame)));
    }
    expect(c, nr_reserve == c->kva->nr_reserve, "a frame of the reserve is free", frame.raw);
    for (unsigned i = 0; i < MM_KVA_KINDS; i++) {
        expect(c,
               c->nr_ranges[i] == mmi_load(&c->kva->nr_ranges[i]) &&
                   c->nr_pages[i] == mmi_load(&c->kva->nr_pages[i]),
               "ranges of a kind counted wrongly", i);
    }
}

mm_status_t mm_kva_check(struct mm_kva *kva)
{
    struct checking c = {.kva = kva, .good = true};

    if (mmi_kva_check_arena(kva) != MM_OK) {
        return mmi_kva_check_arena(kva);
    }
    (void)mmi_kva_enter(kva, false);
    c.good = mmi_ranges_check(&kva->ranges, &kva->platform, "kva");
    for (struct mmi_range *r = c.good ? mmi_ranges_first(&kva->ranges) : NULL; r != NULL && c.good;
         r = mmi_range_next(r)) {
        check_range(&c, mmi_kva_of_whole(r));
    }
    if (c.good) {
        check_devices(&c);
        check_counts(&c);
    }
    mmi_kva_leave(kva);
    return c.good ? MM_OK : MM_ERR_CORRUPTED;
}

/* --- as text ---------------------------------------------------------------------------------- */

static void begin_range(struct mmi_line *line, uint64_t start, uint64_t len)
{
    mmi_line_hex(line, start, 16);
    mmi_line_str(line, "-");
    mmi_line_hex(line, start + (len - 1), 16);
}

static void print_range(const struct mm_kva *kva, const struct mmi_kva_range *range)
{
    uint64_t before = range->start - range->whole.node.start;
    struct mmi_line line;

    mmi_line_begin(&line);
    begin_range(&line, range->start, range->len);
    mmi_line_pad(&line, 39);
    mmi_line_size(&line, range->len);
    mmi_line_pad(&line, 52);
    mmi_line_str(&line, mmi_kva_kind_str(range->kind));
    if (range->kind == MM_KVA_DEVICE) {
        mmi_line_str(&line, " -> ");
        mmi_line_hex(&line, range->paddr, 1);
        mmi_line_str(&line, " ");
        mmi_line_str(&line, mm_memtype_str(range->type));
    }
    mmi_line_str(&line, "  guards ");
    mmi_line_u64(&line, before >> MM_PAGE_SHIFT);
    mmi_line_str(&line, "+");
    mmi_line_u64(&line, (range->whole.len - before - range->len) >> MM_PAGE_SHIFT);
    if (range->kind != MM_KVA_PAGES && mmi_kva_is_freed(kva, range)) {
        mmi_line_str(&line, mmi_load(&range->nr_pending) == 0 ? ", kept" : ", freed");
    } else if (mmi_load(&range->nr_pending) != 0 || range->nr_left != mmi_kva_pages(range)) {
        mmi_line_str(&line, ", in part freed");
    }
    mmi_line_log(&line, &kva->platform);
}

static void print_totals(const struct mm_kva *kva)
{
    uint64_t nr_pages = 0;
    struct mmi_line line;

    for (unsigned i = 0; i < MM_KVA_KINDS; i++) {
        nr_pages += mmi_load(&kva->nr_pages[i]);
    }
    mmi_line_begin(&line);
    mmi_line_u64(&line, kva->ranges.nr);
    mmi_line_str(&line, kva->ranges.nr == 1 ? " range, " : " ranges, ");
    mmi_line_size(&line, nr_pages << MM_PAGE_SHIFT);
    mmi_line_str(&line, " mapped, ");
    mmi_line_size(&line, mmi_load(&kva->nr_lazy_pages) << MM_PAGE_SHIFT);
    mmi_line_str(&line, " wait for a purge, ");
    mmi_line_u64(&line, kva->nr_reserve);
    mmi_line_str(&line, kva->nr_reserve == 1 ? " table in reserve" : " tables in reserve");
    mmi_line_log(&line, &kva->platform);
}

mm_status_t mm_kva_dump(struct mm_kva *kva)
{
    struct mmi_line line;

    if (mmi_kva_check_arena(kva) != MM_OK) {
        return mmi_kva_check_arena(kva);
    }
    mmi_lock(&kva->lock, &kva->platform);
    mmi_line_begin(&line);
    mmi_line_str(&line, "arena   ");
    begin_range(&line, kva->ranges.window.start.raw, kva->ranges.window.len);
    mmi_line_str(&line, ", ");
    mmi_line_size(&line, kva->ranges.window.len);
    mmi_line_log(&line, &kva->platform);
    for (struct mmi_range *r = mmi_ranges_first(&kva->ranges); r != NULL; r = mmi_range_next(r)) {
        print_range(kva, mmi_kva_of_whole(r));
    }
    print_totals(kva);
    mmi_unlock(&kva->lock);
    return MM_OK;
}
