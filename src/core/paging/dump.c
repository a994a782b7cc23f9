// SPDX-License-Identifier: MIT
/**
 * The layout of a page table as text: one line for each run of leaves that agree in size,
 * protection and memory type, whatever tables they lie in.
 *
 *     root 0x1000, the kernel's
 *     virtual                                size         leaf     type   physical
 *     0xffff800000000000-0xffff80003fffffff  1 GiB        2M rw--g WB  -> 0x0-0x3fffffff
 *     0xffff800040000000-0xffff800040003fff  16 KiB       4K rw--g WB  -> 0x7000 ...
 *     0xffff800040004000-0xffff800040004fff  4 KiB        guard
 *     0xffff800040005000-0xffff800040006fff  8 KiB        soft kind 3
 *     0xffff800040007000-0xffff807fffffffff  510.9 GiB    hole
 *     1.0 GiB mapped by 4 leaves of 4 KiB, 512 of 2 MiB, 0 of 1 GiB; 5 tables
 *
 * A run whose leaves do not follow each other in physical memory ends in "...". Soft slots of one
 * kind are one run, whatever their sizes and payloads.
 */
#include "core/base/bits.h"
#include "core/base/report.h"
#include "internal.h"

struct dump {
    const struct mm_pagetable *pt;
    uint32_t flags;
    bool finished;      /**< the run reaches the end of the address space */
    uint64_t next;      /**< what comes after the run */
    struct mm_slot run; /**< `page` is all of it; length 0: none yet */
    uint64_t leaf;
    bool scattered;
    uint64_t nr_leaves[3];
    uint64_t bytes;
};

void mmi_line_prot(struct mmi_line *line, mm_prot_t prot)
{
    static const struct {
        mm_prot_t bit;
        char name[2];
    } letters[] = {
        {MM_PROT_READ, "r"}, {MM_PROT_WRITE, "w"},  {MM_PROT_EXEC, "x"},
        {MM_PROT_USER, "u"}, {MM_PROT_GLOBAL, "g"},
    };

    for (unsigned i = 0; i < sizeof(letters) / sizeof(letters[0]); i++) {
        mmi_line_str(line, (prot & letters[i].bit) != 0 ? letters[i].name : "-");
    }
}

/* --- lines ------------------------------------------------------------------------------------ */

/** Exact if that is short; else with one decimal, rounded down. */
static void put_size(struct mmi_line *line, uint64_t bytes)
{
    static const char *const units[] = {" KiB", " MiB", " GiB", " TiB", " PiB", " EiB"};
    unsigned exact = bytes == 0 ? 0 : mmi_ctz(bytes) / 10 * 10;
    unsigned unit = 0;

    if (bytes >> exact < 10000) {
        mmi_line_size(line, bytes);
        return;
    }
    while (bytes >> (10 * (unit + 2)) != 0 && unit < 5) {
        unit++;
    }
    mmi_line_u64(line, bytes >> (10 * (unit + 1)));
    mmi_line_str(line, ".");
    mmi_line_u64(line, ((bytes >> (10 * unit)) & 1023) * 10 / 1024);
    mmi_line_str(line, units[unit]);
}

static void begin_range(struct mmi_line *line, uint64_t first, uint64_t last)
{
    mmi_line_begin(line);
    mmi_line_hex(line, first, 16);
    mmi_line_str(line, "-");
    mmi_line_hex(line, last, 16);
    mmi_line_str(line, "  ");
    put_size(line, last - first + 1);
    mmi_line_pad(line, 52);
}

static void put_soft(struct mmi_line *line, unsigned kind)
{
    if (kind == MM_SOFT_GUARD) {
        mmi_line_str(line, "guard");
        return;
    }
    mmi_line_str(line, "soft kind ");
    mmi_line_u64(line, kind);
}

static void print_run(const struct dump *d)
{
    const struct mm_slot *run = &d->run;
    struct mmi_line line;

    if (run->page.len == 0) {
        return;
    }
    begin_range(&line, run->page.start.raw, mm_vrange_last(run->page).raw);
    if (run->kind == MM_SLOT_SOFT) {
        put_soft(&line, run->soft_kind);
        mmi_line_log(&line, &d->pt->platform);
        return;
    }
    mmi_line_str(&line, d->leaf == MM_SIZE_4K ? "4K " : d->leaf == MM_SIZE_2M ? "2M " : "1G ");
    mmi_line_prot(&line, run->prot);
    mmi_line_str(&line, " ");
    mmi_line_str(&line, mm_memtype_str(run->type));
    mmi_line_pad(&line, 65);
    mmi_line_str(&line, "-> ");
    mmi_line_hex(&line, run->paddr.raw, 1);
    if (d->scattered) {
        mmi_line_str(&line, " ...");
    } else {
        mmi_line_str(&line, "-");
        mmi_line_hex(&line, run->paddr.raw + (run->page.len - 1), 1);
    }
    mmi_line_log(&line, &d->pt->platform);
}

static void print_head(const struct dump *d)
{
    struct mmi_line line;

    mmi_line_begin(&line);
    mmi_line_str(&line, "root ");
    mmi_line_hex(&line, d->pt->root.raw, 1);
    mmi_line_str(&line, d->pt->is_user != 0              ? ", a user's"
                        : d->pt->pairs == MMI_ENTRY_ROOT ? ", the entry root's"
                                                         : ", the kernel's");
    mmi_line_log(&line, &d->pt->platform);
    mmi_line_begin(&line);
    mmi_line_str(&line, "virtual");
    mmi_line_pad(&line, 39);
    mmi_line_str(&line, "size");
    mmi_line_pad(&line, 52);
    mmi_line_str(&line, "leaf     type   physical");
    mmi_line_log(&line, &d->pt->platform);
}

static void print_total(const struct dump *d)
{
    static const char *const sizes[] = {" leaves of 4 KiB, ", " of 2 MiB, ", " of 1 GiB; "};
    struct mmi_line line;

    mmi_line_begin(&line);
    put_size(&line, d->bytes);
    mmi_line_str(&line, " mapped by ");
    for (unsigned i = 0; i < 3; i++) {
        mmi_line_u64(&line, d->nr_leaves[i]);
        mmi_line_str(&line, sizes[i]);
    }
    mmi_line_u64(&line, d->pt->nr_tables);
    mmi_line_str(&line, d->pt->nr_tables == 1 ? " table" : " tables");
    mmi_line_log(&line, &d->pt->platform);
}

/* --- holes ------------------------------------------------------------------------------------ */

/** The declared range that begins first, of those that have a byte in [first, last], cut to that. */
static bool next_declared(const struct mm_pagetable *pt, uint64_t first, uint64_t last,
                          struct mm_vrange *out)
{
    const struct mm_vrange *ranges = pt->is_user != 0 ? &pt->user : pt->kernel_ranges;
    uint32_t nr = pt->is_user != 0 ? 1 : pt->nr_kernel_ranges;
    uint64_t best = UINT64_MAX;
    bool found = false;

    for (uint32_t i = 0; i < nr; i++) {
        uint64_t start = ranges[i].start.raw > first ? ranges[i].start.raw : first;
        uint64_t end = mm_vrange_last(ranges[i]).raw;

        if (start > last || end < first || (found && start >= best)) {
            continue;
        }
        found = true;
        best = start;
        end = end < last ? end : last;
        *out = mm_vrange(mm_vaddr(start), end - start + 1);
    }
    return found;
}

static void print_holes(const struct dump *d, uint64_t first, uint64_t last)
{
    struct mm_vrange hole;

    while ((d->flags & MM_PAGING_DUMP_HOLES) != 0 && next_declared(d->pt, first, last, &hole)) {
        struct mmi_line line;
        uint64_t end = mm_vrange_last(hole).raw;

        begin_range(&line, hole.start.raw, end);
        mmi_line_str(&line, "hole");
        mmi_line_log(&line, &d->pt->platform);
        if (end == last) {
            break;
        }
        first = end + 1;
    }
}

/* --- slots become runs ------------------------------------------------------------------------ */

/** Whether a slot differs from those of the run only in what a run does not show. */
static bool is_alike(const struct dump *d, const struct mm_slot *slot)
{
    const struct mm_slot *run = &d->run;

    if (run->kind != slot->kind) {
        return false;
    }
    return slot->kind == MM_SLOT_SOFT
               ? run->soft_kind == slot->soft_kind
               : d->leaf == slot->page.len && run->prot == slot->prot && run->type == slot->type;
}

static bool visit(void *ctx, const struct mm_slot *slot)
{
    struct dump *d = ctx;
    struct mm_slot *run = &d->run;
    uint64_t len = slot->page.len;

    if (slot->kind == MM_SLOT_LEAF) {
        d->bytes += len;
        d->nr_leaves[len == MM_SIZE_4K ? 0 : len == MM_SIZE_2M ? 1 : 2]++;
    }
    if (run->page.len != 0 && d->next == slot->page.start.raw && is_alike(d, slot)) {
        d->scattered |= run->paddr.raw + run->page.len != slot->paddr.raw;
        run->page.len += len;
    } else {
        print_run(d);
        if (d->next < slot->page.start.raw) {
            print_holes(d, d->next, slot->page.start.raw - 1);
        }
        *run = *slot;
        d->leaf = len;
        d->scattered = false;
    }
    d->next = slot->page.start.raw + len;
    d->finished = d->next == 0;
    return true;
}

mm_status_t mm_paging_dump(const struct mm_pagetable *pt, struct mm_vrange range, uint32_t flags)
{
    struct dump d = {.pt = pt, .flags = flags, .next = range.start.raw};
    mm_status_t status;

    if ((flags & ~MM_PAGING_DUMP_HOLES) != 0) {
        return MM_ERR_INVALID_FLAGS;
    }
    /* What is wrong with the range is told before the head is printed. */
    status = mmi_paging_check_walk(pt, range);
    if (status != MM_OK) {
        return status;
    }
    print_head(&d);
    pt->backend.ops->list(pt, range, visit, &d);
    print_run(&d);
    if (!d.finished && d.next <= mm_vrange_last(range).raw) {
        print_holes(&d, d.next, mm_vrange_last(range).raw);
    }
    print_total(&d);
    return MM_OK;
}
