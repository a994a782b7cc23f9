// SPDX-License-Identifier: MIT
/**
 * The random test of page tables: its world, what it draws, and how the library is held against the
 * flat model. Include after <cmocka.h>.
 */
#ifndef PAGING_RANDOM_H
#define PAGING_RANDOM_H

#include "check.h"
#include "model_pages_mm.h"
#include "prng.h"
#include "t_tlb.h"

#define NR_HOT   32u
#define NR_OTHER 10u /* more roots than a CPU keeps PCIDs for */

/* What takes long: ranges of many pages, clones, running out of frames, hashes before and after,
 * comparisons of everything. First they are dense; then, in a plain build, rare among many more
 * operations, so that most of the time is the CPUs'. */
#if MM_TEST_SANITIZED
#define NR_DENSE  32000u
#define NR_SPARSE 0u
#else
#define NR_DENSE  100000u
#define NR_SPARSE 1000000u
#endif
#define RARITY 20u /* of the sparse part */

struct window {
    uint64_t start;
    uint64_t len;
};

/* The world of a run: what the CPUs have, how many there are, and which root is worked on. */
struct setup {
    char name[56];
    bool user;
    bool la57;
    bool page_1g;
    bool pcid;
    bool invpcid;
    bool pku;
    unsigned nr_cpus;
    bool shoots;
};

struct run {
    struct t_paging *m;
    struct mm_pagetable *pt;
    struct t_prng prng;
    struct t_mpages model;
    struct window windows[4];
    unsigned nr_windows;
    const struct setup *setup;
    unsigned nr_cpus;
    struct mm_pagetable other[NR_OTHER]; /* user roots with nothing in them */
    struct mm_pagetable stranger;        /* another kernel root, likewise; without a tlb */
    struct t_tlb tlb;                    /* if `shoots` */
    bool shoots;                         /* the CPUs are told by the library's shootdown */
    uint32_t offline;                    /* CPUs that are gone for now */
    bool user;
    bool idle;   /* a user root that no CPU is in */
    bool cloned; /* several calls in one operation: some may have succeeded */
    bool done;
    uint64_t nr_merged;   /* larger leaves */
    uint64_t nr_soft;     /* soft slots that a comparison of everything has seen, */
    uint64_t nr_labelled; /* and leaves with software bits or a key */
    unsigned rarity;      /* 1, or RARITY */
    unsigned operation;   /* now, in the dense part or the sparse one */
    uint64_t hot[NR_HOT]; /* addresses that were mapped when last accessed */
    unsigned nr_hot;
};

/* --- choosing -------------------------------------------------------------------------------- */

/* One in so many, of what takes long. */
static inline unsigned every(const struct run *r, unsigned n)
{
    return n * r->rarity;
}

static inline mm_prot_t random_prot(struct run *r)
{
    mm_prot_t prot = (mm_prot_t)t_prng_below(&r->prng, 8);

    if (r->user) {
        return prot | MM_PROT_USER;
    }
    return prot | (t_prng_chance(&r->prng, 1, 2) ? MM_PROT_GLOBAL : 0);
}

/* A range in one window: mostly short, often aligned, at times all of it. */
static inline struct mm_vrange random_range(struct run *r)
{
    const struct window *w = &r->windows[t_prng_below(&r->prng, r->nr_windows)];
    uint64_t pages = w->len / P4K;
    uint64_t first = t_prng_below(&r->prng, pages);
    uint64_t nr = 1 + t_prng_magnitude(&r->prng, r->rarity == 1 ? 10 : 7);

    if (t_prng_chance(&r->prng, 1, every(r, 20))) {
        switch (t_prng_below(&r->prng, 3)) {
        case 0:
            return t_range(w->start, w->len);
        default: /* around a gigabyte, where there is one */
            first = pages >= 0x40000 ? t_prng_below(&r->prng, pages / 0x40000) * 0x40000 : 0;
            nr = 0x40000;
        }
    } else if (t_prng_chance(&r->prng, 1, every(r, 5))) { /* whole large leaves */
        first = first / 512 * 512;
        nr = 512 * (1 + t_prng_below(&r->prng, 4));
    } else if (t_prng_chance(&r->prng, 1, 40)) { /* to the window's end */
        first = pages - (nr < pages ? nr : pages);
    } else if (pages > 0x8000 && t_prng_chance(&r->prng, 15, 16)) {
        /* In a wide window mostly the same few tables: those meet each other's leaves. */
        first = first / 512 % 16 * 33 * 512 + first % 512;
    }
    if (nr > pages - first) {
        nr = pages - first;
    }
    return t_range(w->start + first * P4K, nr * P4K);
}

/* Congruent to the address at some large size, mostly. */
static inline uint64_t random_paddr(struct run *r, uint64_t at)
{
    uint64_t paddr = (T_LEAVES * P4K) + t_prng_below(&r->prng, 64) * P1G;

    switch (t_prng_below(&r->prng, 4)) {
    case 0:
        return paddr + t_prng_below(&r->prng, 512) * P4K;
    case 1:
        return paddr + at % P2M;
    default:
        return paddr + at % P1G;
    }
}

/* --- what the model says of a page ------------------------------------------------------------ */

/* What a CPU has set in a leaf must be told until it is mapped anew; software bits are these very
 * bits, whoever set them. */
#define MARK_ACCESSED 1u
#define MARK_DIRTY    2u
#define MARKS         (MARK_ACCESSED | MARK_DIRTY)
#define MARK_SOFTWARE 4u /* the lowest */

static inline struct t_mpage *page_of(struct run *r, uint64_t at)
{
    return (struct t_mpage *)(uintptr_t)t_mpages_at(&r->model, at);
}

/* The model's type is both, so that only what has both alike merges. */
static inline uint16_t type_and_key(mm_memtype_t type, uint32_t key)
{
    return (uint16_t)((uint32_t)type | key << 8);
}

static inline mm_memtype_t type_of(const struct t_mpage *page)
{
    return (mm_memtype_t)(page->type & 255u);
}

/* log2 of the bytes of a leaf or a soft slot. */
static inline unsigned size_of_slot(const struct t_mpage *page)
{
    return page->leaf & ~T_MPAGES_SOFT;
}

static inline bool in_window(const struct run *r, uint64_t at, uint64_t len)
{
    for (unsigned i = 0; i < r->nr_windows; i++) {
        uint64_t off = at - r->windows[i].start;

        if (off < r->windows[i].len && r->windows[i].len - off >= len) {
            return true;
        }
    }
    return false;
}

/* Few, so that neighbours agree. */
static inline uint32_t random_key(struct run *r)
{
    uint64_t random = t_prng_u64(&r->prng);

    return !r->setup->pku || random % 2 == 0 ? 0 : random % 4 == 1 ? 15 : (uint32_t)(random >> 60);
}

/* --- comparing ------------------------------------------------------------------------------- */

static inline unsigned marks_of(const struct mm_mapping *leaf)
{
    return (leaf->accessed ? MARK_ACCESSED : 0) | (leaf->dirty ? MARK_DIRTY : 0);
}

/* What was found at an address. */
static inline void compare_mapping(const struct run *r, uint64_t at, mm_status_t status,
                                   const struct mm_mapping *leaf, bool shared)
{
    const struct t_mpage *page = t_mpages_slot_at(&r->model, at);
    bool mapped = page != NULL && (page->leaf & T_MPAGES_SOFT) == 0;
    mm_prot_t prot;

    if (!mapped) {
        if (status != MM_ERR_NOT_MAPPED ||
            leaf->kind != (page != NULL ? MM_SLOT_SOFT : MM_SLOT_EMPTY)) {
            fail_msg("%#llx: mapped, and must not be; or not soft: %d", (unsigned long long)at,
                     (int)leaf->kind);
        }
        return;
    }
    prot = t_mpages_reported(page->prot) & ~(shared ? MM_PROT_WRITE : 0u);
    if (status != MM_OK || leaf->kind != MM_SLOT_LEAF ||
        leaf->paddr.raw + (at - leaf->page.start.raw) != page->paddr + at % P4K ||
        leaf->prot != prot || type_and_key(leaf->type, leaf->key) != page->type ||
        leaf->page.len != UINT64_C(1) << page->leaf ||
        (page->marks & MARKS & ~marks_of(leaf)) != 0 ||
        leaf->software != page->marks / MARK_SOFTWARE) {
        fail_msg("%#llx: status %d, %#llx prot %x type %d key %d leaf %#llx marks %x software %x; "
                 "model %#llx %x %x %u %x",
                 (unsigned long long)at, (int)status, (unsigned long long)leaf->paddr.raw,
                 leaf->prot, (int)leaf->type, leaf->key, (unsigned long long)leaf->page.len,
                 marks_of(leaf), leaf->software, (unsigned long long)page->paddr, prot, page->type,
                 page->leaf, page->marks);
    }
}

/* The same of a slot, which says more of one that is soft. */
static inline void compare_slot(const struct run *r, uint64_t at, const struct mm_slot *slot,
                                bool shared)
{
    const struct t_mpage *page = t_mpages_slot_at(&r->model, at);
    struct mm_mapping leaf = {.page = slot->page,
                              .paddr = slot->paddr,
                              .prot = slot->prot,
                              .type = slot->type,
                              .kind = slot->kind,
                              .accessed = slot->accessed,
                              .dirty = slot->dirty,
                              .software = slot->software,
                              .key = slot->key};

    compare_mapping(r, at, slot->kind == MM_SLOT_LEAF ? MM_OK : MM_ERR_NOT_MAPPED, &leaf, shared);
    assert_true(at - slot->page.start.raw < slot->page.len);
    if (slot->kind == MM_SLOT_SOFT) {
        assert_int_equal(slot->soft_kind, page->type);
        assert_int_equal(slot->payload, page->paddr);
        assert_int_equal(slot->page.len, UINT64_C(1) << size_of_slot(page));
    }
}

static inline void compare_at(struct run *r, const struct mm_pagetable *pt, uint64_t at,
                              bool shared)
{
    struct mm_mapping leaf = {.kind = MM_SLOT_EMPTY};
    mm_status_t status = mm_paging_translate(pt, mm_vaddr(at), &leaf);

    compare_mapping(r, at, status, &leaf, shared);
}

struct count {
    struct run *r;
    const struct mm_pagetable *pt;
    uint64_t nr[3];
    bool shared;
};

static inline bool compare_leaf(void *ctx, const struct mm_mapping *leaf)
{
    struct count *c = ctx;

    c->nr[leaf->page.len == P4K ? 0 : leaf->page.len == P2M ? 1 : 2]++;
    compare_at(c->r, c->pt, leaf->page.start.raw, c->shared);
    compare_at(c->r, c->pt, mm_vrange_last(leaf->page).raw, c->shared);
    return true;
}

/* The same of a short range: what is mapped there is the model's, and as many pages. */
static inline void compare_range(struct run *r, struct mm_vrange range)
{
    struct count c = {.r = r, .pt = r->pt};
    uint64_t end = range.start.raw + range.len; /* may be 0 */
    uint64_t mapped = 0;
    uint64_t next = range.start.raw;

    assert_int_equal(mm_paging_walk(r->pt, range, compare_leaf, &c), MM_OK);
    while (next != end) { /* leaf by leaf: the first and the last may stick out */
        const struct t_mpage *page = t_mpages_at(&r->model, next);
        uint64_t size = page == NULL ? P4K : UINT64_C(1) << page->leaf;

        mapped += page == NULL ? 0 : 1;
        next = (next & ~(size - 1)) + size;
        if (next - range.start.raw > range.len) {
            break;
        }
    }
    assert_int_equal(c.nr[0] + c.nr[1] + c.nr[2], mapped);
}

/* All slots of a window, in the cursor's words: whole, in order, and as the model has them. */
static inline uint64_t compare_slots(struct run *r, struct mm_pagetable *pt,
                                     const struct window *window, bool shared)
{
    struct mm_paging_cursor c;
    struct mm_slot slot;
    uint64_t nr_soft = 0;

    assert_int_equal(mm_paging_cursor_begin(&c, pt, t_range(window->start, window->len)), MM_OK);
    while (mm_paging_cursor_next(&c, &slot) == MM_OK) {
        compare_slot(r, slot.page.start.raw, &slot, shared);
        compare_slot(r, mm_vrange_last(slot.page).raw, &slot, shared);
        nr_soft += slot.kind == MM_SLOT_SOFT ? 1 : 0;
        r->nr_labelled += slot.software != 0 || slot.key != 0 ? 1 : 0;
    }
    r->nr_soft += nr_soft;
    return nr_soft;
}

/* Every leaf is in the model, and there are as many; the library's own check agrees. */
static inline void compare_all(struct run *r, struct mm_pagetable *pt, bool shared)
{
    struct count c = {.r = r, .pt = pt, .shared = shared};
    uint64_t leaves[3];
    uint64_t soft[3];
    uint64_t nr_soft = 0;

    for (unsigned i = 0; i < r->nr_windows; i++) {
        assert_int_equal(
            mm_paging_walk(pt, t_range(r->windows[i].start, r->windows[i].len), compare_leaf, &c),
            MM_OK);
        nr_soft += compare_slots(r, pt, &r->windows[i], shared);
    }
    t_mpages_tally(&r->model, leaves, soft);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(c.nr[i] << (9 * i), leaves[i]);
        assert_int_equal(c.nr[i], pt->nr_leaves[i]);
    }
    assert_int_equal(nr_soft, soft[0] + soft[1] / 512 + soft[2] / 512 / 512);
    assert_int_equal(nr_soft, pt->nr_soft);
    assert_int_equal(mm_paging_check(pt), MM_OK);
}

#endif
