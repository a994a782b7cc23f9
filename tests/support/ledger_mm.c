// SPDX-License-Identifier: MIT
/**
 * The ledger: see the header. It notes the first thing that is wrong, and goes on.
 */
#include "ledger_mm.h"

#include <mm/arch/x86_64.h>

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Entries: Intel SDM vol. 3A, 4.5.4, tables 4-14 to 4-20. */
#define PRESENT UINT64_C(1)
#define SIZE    UINT64_C(0x80)
#define ADDRESS UINT64_C(0x000ffffffffff000)

enum kind {
    NOBODY = 0,
    TABLE,
    HELD,
};

struct record {
    uint32_t mapped; /* by leaves that count */
    uint32_t held;
    uint8_t kind;
};

struct t_ledger {
    t_ledger_refs_fn *refs;
    const void *ctx;
    uint64_t ram_base;
    uint64_t nr;
    struct record *records;
    bool wrong;
    /* Of the root that is walked now. */
    const struct mm_pagetable *pt;
    const uint64_t *shared; /* the kernel's root */
    struct mm_vrange counted;
    uint64_t nr_tables;
    uint64_t nr_leaves[3];
};

static char why[240];

static void __attribute__((format(printf, 2, 3)))
complain(struct t_ledger *l, const char *format, ...)
{
    va_list list;

    if (l->wrong) {
        return;
    }
    l->wrong = true;
    va_start(list, format);
    (void)vsnprintf(why, sizeof(why), format, list);
    va_end(list);
}

static uint32_t refs_of_frames(const void *ctx, uint64_t frame)
{
    return mm_frame_refs(ctx, mm_pfn(frame));
}

struct t_ledger *t_ledger_open_of(t_ledger_refs_fn *refs, const void *ctx, uint64_t ram_base,
                                  uint64_t nr)
{
    struct t_ledger *l = calloc(1, sizeof(*l));

    if (l == NULL || (l->records = calloc(nr, sizeof(*l->records))) == NULL) {
        fprintf(stderr, "ledger: no memory\n");
        abort();
    }
    l->refs = refs;
    l->ctx = ctx;
    l->ram_base = ram_base;
    l->nr = nr;
    return l;
}

struct t_ledger *t_ledger_open(const struct mm_frames *frames, uint64_t ram_base, uint64_t nr)
{
    return t_ledger_open_of(refs_of_frames, frames, ram_base, nr);
}

static const char *kind_str(unsigned kind)
{
    return kind == TABLE ? "a table" : kind == HELD ? "held" : "nobody's";
}

static void claim(struct t_ledger *l, uint64_t frame, enum kind kind)
{
    struct record *r;

    if (frame >= l->nr) {
        if (kind == TABLE) {
            complain(l, "frame %#llx is a table, and no frame of the ledger",
                     (unsigned long long)frame);
        }
        return;
    }
    r = &l->records[frame];
    if (r->kind != NOBODY && (kind == TABLE || r->kind == TABLE)) {
        complain(l, "frame %#llx is %s, and %s", (unsigned long long)frame, kind_str(r->kind),
                 kind == r->kind ? "once more" : kind_str(kind));
    }
    r->kind = (uint8_t)kind;
    r->held += kind == HELD ? 1 : 0;
}

void t_ledger_hold(struct t_ledger *l, uint64_t first, uint64_t nr)
{
    for (uint64_t i = 0; i < nr; i++) {
        claim(l, first + i, HELD);
    }
}

/* --- walking ----------------------------------------------------------------------------------- */

static const uint64_t *table_at(const struct t_ledger *l, uint64_t paddr)
{
    return (const uint64_t *)(uintptr_t)(l->ram_base + paddr);
}

static void leaf(struct t_ledger *l, uint64_t at, unsigned level, uint64_t paddr)
{
    uint64_t nr = UINT64_C(1) << 9 * (level - 1);
    uint64_t first = paddr >> 12;

    l->nr_leaves[level - 1]++;
    if (at - l->counted.start.raw >= l->counted.len) {
        return;
    }
    for (uint64_t i = 0; i < nr && first + i < l->nr; i++) {
        l->records[first + i].mapped++;
    }
}

/* An entry that the hardware does not see may still keep a frame: only the library can tell. */
static void hidden(struct t_ledger *l, uint64_t at, unsigned level)
{
    struct mm_mapping mapping;

    if (mm_paging_translate(l->pt, mm_vaddr(at), &mapping) == MM_OK &&
        mapping.kind == MM_SLOT_LEAF) {
        if (mapping.prot != MM_PROT_NONE || mapping.page.len != UINT64_C(1) << (9 * level + 3)) {
            complain(l, "the entry of %#llx is not present, and translates",
                     (unsigned long long)at);
        }
        leaf(l, at, level, mapping.paddr.raw);
    }
}

static void walk(struct t_ledger *l, uint64_t table, unsigned level, unsigned root, uint64_t base)
{
    unsigned shift = 9 * level + 3;

    l->nr_tables++;
    claim(l, table >> 12, TABLE);
    for (uint64_t i = 0; i < 512 && !l->wrong; i++) {
        uint64_t entry = table_at(l, table)[i];
        uint64_t at = base + (i << shift);

        if (level == root && i >= 256) {
            at |= UINT64_MAX << (9 * root + 11); /* canonical */
        }
        if (entry == 0 || (level == root && l->shared != NULL && entry == l->shared[i])) {
            continue;
        }
        if ((entry & PRESENT) == 0) {
            hidden(l, at, level);
        } else if (level == 1 || (entry & SIZE) != 0) {
            /* Of a large leaf the lowest bit of the address is PAT. */
            leaf(l, at, level, entry & ADDRESS & (UINT64_MAX << shift));
        } else {
            walk(l, entry & ADDRESS, level - 1, root, at);
        }
    }
}

void t_ledger_root(struct t_ledger *l, const struct mm_pagetable *pt,
                   const struct mm_pagetable *kernel, struct mm_vrange counted)
{
    const struct mm_x86_64 *arch = pt->backend.ctx;
    unsigned levels = arch->features.vaddr_bits == 57 ? 5 : 4;
    struct mm_paging_stats stats;

    l->pt = pt;
    l->shared = kernel == NULL ? NULL : table_at(l, mm_paging_root(kernel).raw);
    l->counted = counted;
    l->nr_tables = 0;
    memset(l->nr_leaves, 0, sizeof(l->nr_leaves));
    walk(l, mm_paging_root(pt).raw, levels, levels, 0);
    if (mm_paging_get_stats(pt, &stats) != MM_OK) {
        complain(l, "no page table");
        return;
    }
    if (stats.nr_tables != l->nr_tables) {
        complain(l, "root %#llx counts %llu tables, and has %llu",
                 (unsigned long long)mm_paging_root(pt).raw, (unsigned long long)stats.nr_tables,
                 (unsigned long long)l->nr_tables);
    }
    for (unsigned i = 0; i < 3; i++) {
        if (stats.nr_leaves[i] != l->nr_leaves[i]) {
            complain(l, "root %#llx counts %llu leaves at level %u, and has %llu",
                     (unsigned long long)mm_paging_root(pt).raw,
                     (unsigned long long)stats.nr_leaves[i], i + 1,
                     (unsigned long long)l->nr_leaves[i]);
        }
    }
}

void t_ledger_space(struct t_ledger *l, struct mm_space *space, const struct mm_pagetable *kernel)
{
    struct mm_space_stats stats;
    uint64_t nr_pages = 0;

    t_ledger_root(l, mm_space_table(space), kernel, mm_space_range(space));
    for (unsigned i = 0; i < 3; i++) {
        nr_pages += l->nr_leaves[i] << 9 * i;
    }
    if (mm_space_get_stats(space, &stats) != MM_OK ||
        stats.resident_bytes + stats.device_bytes != nr_pages * 4096) {
        complain(l, "space %llu counts %llu bytes there, and has %llu pages",
                 (unsigned long long)mm_space_id(space),
                 (unsigned long long)(stats.resident_bytes + stats.device_bytes),
                 (unsigned long long)nr_pages);
    }
}

/* --- closing ----------------------------------------------------------------------------------- */

/* 1 if it is in use and has no owner that can be named. */
static uint64_t settle(struct t_ledger *l, uint64_t frame)
{
    const struct record *r = &l->records[frame];
    uint32_t refs = l->refs(l->ctx, frame);
    uint32_t named = r->kind == TABLE ? 1 : r->held;

    if (r->kind == TABLE && refs == 0) {
        complain(l, "frame %#llx is a table, and free", (unsigned long long)frame);
    }
    if (refs == 0 && r->mapped != 0 && l->refs == refs_of_frames &&
        !mm_frame_managed(l->ctx, mm_pfn(frame))) {
        return 0; /* a device, or memory of somebody else */
    }
    if (r->kind == TABLE && r->mapped != 0) {
        complain(l, "frame %#llx is a table, and mapped", (unsigned long long)frame);
    }
    if (refs == 1 && named + r->mapped == 0) {
        return 1;
    }
    if (refs != MM_FRAME_REF_IMMORTAL && refs != named + r->mapped) {
        complain(l, "frame %#llx has %u references: %s %u times, mapped %u times",
                 (unsigned long long)frame, refs, kind_str(r->kind), named, r->mapped);
    }
    return 0;
}

const char *t_ledger_close(struct t_ledger *l, uint64_t nr_unnamed)
{
    uint64_t unnamed = 0;
    bool wrong;

    for (uint64_t frame = 0; frame < l->nr; frame++) {
        uint64_t one = settle(l, frame);

        if (one != 0 && unnamed++ == nr_unnamed) {
            complain(l, "frame %#llx is in use, and has no owner (%llu others may)",
                     (unsigned long long)frame, (unsigned long long)nr_unnamed);
        }
    }
    if (unnamed != nr_unnamed) {
        complain(l, "%llu frames are in use without a named owner, and not %llu",
                 (unsigned long long)unnamed, (unsigned long long)nr_unnamed);
    }
    wrong = l->wrong;
    free(l->records);
    free(l);
    return wrong ? why : NULL;
}
