// SPDX-License-Identifier: MIT
/**
 * What the tests of slots, cursors and harvests share: a user root over ten MiB that lie across a
 * gigabyte, and a flat model of it: what each page of 4 KiB is, soft slots too.
 *
 * Include after <cmocka.h>.
 */
#ifndef SLOTS_RIG_H
#define SLOTS_RIG_H

#include "model_pages_mm.h"
#include "prng.h"
#include "t_paging.h"

#define S_START   (2 * P1G - 2 * P2M)
#define S_REGIONS 5u
#define S_PAGES   (S_REGIONS * 512u)
#define S_LEN     (S_PAGES * P4K)

/** One page of 4 KiB; `first` is the page at which its slot begins. */
struct s_page {
    struct mm_slot slot; /* `page`, `raw` do not count; `paddr` is of this page */
    bool large;
};

struct slots_rig {
    struct t_paging *m;
    struct mm_pagetable *pt;
    struct s_page pages[S_PAGES];
    bool left[S_REGIONS]; /* an exchange left an empty table */
    struct t_prng prng;
};

static inline uint64_t s_at(unsigned page)
{
    return S_START + page * P4K;
}

static inline struct slots_rig *s_new(const char *name)
{
    struct slots_rig *r = calloc(1, sizeof(*r));

    assert_non_null(r);
    r->m = t_paging_new();
    t_paging_start(r->m);
    r->pt = &r->m->user;
    assert_int_equal(mm_paging_activate(r->pt), MM_OK);
    t_prng_start(&r->prng, name);
    return r;
}

static inline void s_delete(struct slots_rig *r)
{
    t_paging_delete(r->m);
    free(r);
}

static inline bool s_hole(const struct s_page *p, bool soft_is_hole)
{
    return p->slot.kind == MM_SLOT_EMPTY || (soft_is_hole && p->slot.kind == MM_SLOT_SOFT);
}

static inline unsigned s_first(const struct slots_rig *r, unsigned page)
{
    return r->pages[page].large ? page & ~511u : page;
}

/** Does something that is no hole lie over the edge before `page`? */
static inline bool s_cuts(const struct slots_rig *r, unsigned page, bool soft_is_hole)
{
    return page < S_PAGES && r->pages[page].large && page % 512 != 0 &&
           !s_hole(&r->pages[page], soft_is_hole);
}

/** What an edit of [first, end) must answer. */
static inline mm_status_t s_edit(const struct slots_rig *r, unsigned first, unsigned end,
                                 uint32_t flags, bool soft_is_hole)
{
    for (unsigned p = first; p < end && (flags & MM_PAGING_SKIP_HOLES) == 0; p++) {
        if (s_hole(&r->pages[p], soft_is_hole)) {
            return MM_ERR_NOT_MAPPED;
        }
    }
    return (flags & MM_PAGING_SPLIT) == 0 &&
                   (s_cuts(r, first, soft_is_hole) || s_cuts(r, end, soft_is_hole))
               ? MM_ERR_HUGE_PAGE
               : MM_OK;
}

/** Split what lies over the edge before `page`. */
static inline void s_split(struct slots_rig *r, unsigned page, bool soft_is_hole)
{
    if (s_cuts(r, page, soft_is_hole)) {
        for (unsigned i = page & ~511u; i < (page & ~511u) + 512; i++) {
            r->pages[i].large = false;
        }
    }
}

static inline bool s_region_empty(const struct slots_rig *r, unsigned region)
{
    for (unsigned i = 0; i < 512; i++) {
        if (r->pages[region * 512 + i].slot.kind != MM_SLOT_EMPTY) {
            return false;
        }
    }
    return true;
}

/** Set what a slot of one or 512 pages holds. */
static inline void s_set(struct slots_rig *r, unsigned page, bool large, const struct mm_slot *slot)
{
    for (unsigned i = 0; i < (large ? 512u : 1u); i++) {
        struct s_page *p = &r->pages[page + i];

        p->slot = *slot;
        p->slot.paddr.raw += slot->kind == MM_SLOT_LEAF ? i * P4K : 0;
        p->large = large && slot->kind != MM_SLOT_EMPTY;
    }
}

static inline void s_unmap(struct slots_rig *r, unsigned first, unsigned end)
{
    struct mm_slot none = mm_slot_empty();

    s_split(r, first, false);
    s_split(r, end, false);
    for (unsigned p = first; p < end; p++) {
        s_set(r, p, false, &none);
    }
    for (unsigned region = first / 512; region <= (end - 1) / 512; region++) {
        r->left[region] = r->left[region] && !s_region_empty(r, region);
    }
}

/** A slot as the model has it, beside one as the library tells it. */
static inline void s_same(const struct slots_rig *r, unsigned page, const struct mm_slot *got)
{
    unsigned first = s_first(r, page);
    const struct s_page *p = &r->pages[first];

    if (got->kind != p->slot.kind) {
        fail_msg("page %u is of kind %d, not %d; replay: MM_TEST_SEED=%#llx", page, (int)got->kind,
                 (int)p->slot.kind, (unsigned long long)t_seed());
    }
    if (got->kind == MM_SLOT_EMPTY) {
        assert_int_equal(got->raw, 0);
        return;
    }
    assert_int_equal(got->page.start.raw, s_at(first));
    assert_int_equal(got->page.len, p->large ? P2M : P4K);
    assert_int_not_equal(got->raw, 0);
    if (got->kind == MM_SLOT_SOFT) {
        assert_int_equal(got->soft_kind, p->slot.soft_kind);
        assert_int_equal(got->payload, p->slot.payload);
        assert_int_equal(got->raw & 1, 0);
        /* L1TF: address bits that no memory has. */
        assert_int_equal(got->raw & UINT64_C(0x000ff80000000000), UINT64_C(0x000ff80000000000));
        return;
    }
    assert_int_equal(got->paddr.raw, p->slot.paddr.raw);
    assert_int_equal(got->prot, t_mpages_reported(p->slot.prot));
    assert_int_equal(got->type, p->slot.type);
    assert_int_equal(got->software, p->slot.software);
    assert_int_equal(got->key, p->slot.key);
    assert_int_equal(got->accessed, p->slot.accessed);
    assert_int_equal(got->dirty, p->slot.dirty);
}

/** translate says the same. */
static inline void s_same_translated(const struct slots_rig *r, unsigned page)
{
    const struct s_page *p = &r->pages[page];
    struct mm_mapping leaf;
    mm_status_t status = mm_paging_translate(r->pt, mm_vaddr(s_at(page) + 17), &leaf);

    assert_int_equal(status, p->slot.kind == MM_SLOT_LEAF ? MM_OK : MM_ERR_NOT_MAPPED);
    assert_int_equal(leaf.kind, p->slot.kind);
    if (status == MM_OK) {
        assert_int_equal(leaf.paddr.raw + (s_at(page) - leaf.page.start.raw), p->slot.paddr.raw);
        assert_int_equal(leaf.software, p->slot.software);
        assert_int_equal(leaf.key, p->slot.key);
    }
}

/** All pages as the model has them, and counted. */
static inline void s_check(struct slots_rig *r)
{
    struct mm_paging_stats stats;
    uint64_t leaves[2] = {0, 0};
    uint64_t soft = 0;

    for (unsigned p = 0; p < S_PAGES; p += r->pages[p].large ? 512 : 1) {
        struct mm_slot got;

        assert_int_equal(mm_paging_slot_get(r->pt, mm_vaddr(s_at(p)), &got), MM_OK);
        s_same(r, p, &got);
        soft += got.kind == MM_SLOT_SOFT ? 1 : 0;
        leaves[r->pages[p].large ? 1 : 0] += got.kind == MM_SLOT_LEAF ? 1 : 0;
        if (p % 64 == 0) {
            s_same_translated(r, p);
        }
    }
    assert_int_equal(mm_paging_get_stats(r->pt, &stats), MM_OK);
    assert_int_equal(stats.nr_leaves[0], leaves[0]);
    assert_int_equal(stats.nr_leaves[1], leaves[1]);
    assert_int_equal(stats.nr_soft, soft);
    assert_int_equal(mm_paging_check(r->pt), MM_OK);
}

/* --- drawing ---------------------------------------------------------------------------------- */

static inline mm_prot_t s_draw_prot(struct slots_rig *r)
{
    static const mm_prot_t prots[] = {T_URW, T_UR, T_URX, MM_PROT_USER};

    return prots[t_prng_below(&r->prng, 4)];
}

static inline struct mm_slot s_draw_slot(struct slots_rig *r, bool large)
{
    uint64_t size = large ? P2M : P4K;
    struct mm_slot slot;
    uint8_t kind;

    switch (t_prng_below(&r->prng, 5)) {
    case 0:
        return mm_slot_empty();
    case 1:
    case 2:
        kind = (uint8_t)t_prng_below(&r->prng, MM_SOFT_GUARD + 1);
        return mm_slot_soft(
            kind, kind == MM_SOFT_GUARD ? 0 : t_prng_u64(&r->prng) >> (64 - MM_SOFT_PAYLOAD_BITS));
    default:
        break;
    }
    slot = mm_slot_leaf(mm_paddr(P1G * 64 + t_prng_below(&r->prng, 512) * size), s_draw_prot(r),
                        (mm_memtype_t)t_prng_below(&r->prng, MM_MEMTYPE_COUNT));
    slot.software = (uint8_t)t_prng_below(&r->prng, 8);
    slot.key = (uint8_t)t_prng_below(&r->prng, 16);
    slot.accessed = t_prng_chance(&r->prng, 1, 2);
    slot.dirty = slot.accessed && t_prng_chance(&r->prng, 1, 2);
    return slot;
}

/** A range of pages, [first, end); often whole large slots. */
static inline void s_draw_range(struct slots_rig *r, unsigned *first, unsigned *end)
{
    if (t_prng_chance(&r->prng, 1, 3)) {
        *first = (unsigned)t_prng_below(&r->prng, S_REGIONS) * 512;
        *end = *first + 512 * (unsigned)t_prng_range(&r->prng, 1, S_REGIONS - *first / 512);
    } else {
        *first = (unsigned)t_prng_below(&r->prng, S_PAGES);
        *end = *first + (unsigned)t_prng_range(&r->prng, 1, 24);
        *end = *end > S_PAGES ? S_PAGES : *end;
    }
}

/** The hardware uses a page; the model knows what that sets (SDM vol. 3A, 4.8). */
static inline void s_touch(struct slots_rig *r, unsigned page, bool write)
{
    unsigned first = s_first(r, page);
    unsigned nr = r->pages[page].large ? 512 : 1;
    const struct mm_slot *slot = &r->pages[page].slot;
    bool allowed = slot->kind == MM_SLOT_LEAF && t_mpages_reported(slot->prot) != MM_PROT_NONE &&
                   (!write || (slot->prot & MM_PROT_WRITE) != 0);
    uint32_t answer = t_cpu_access(r->m->cpu, s_at(page) + 5,
                                   T_MMU_USER | (write ? (unsigned)T_MMU_WRITE : 0u), NULL);

    assert_int_equal(answer == T_CPU_DONE, allowed);
    for (unsigned i = 0; i < nr && allowed; i++) {
        r->pages[first + i].slot.accessed = true;
        r->pages[first + i].slot.dirty |= write;
    }
}

#endif
