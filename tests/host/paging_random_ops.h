// SPDX-License-Identifier: MIT
/**
 * The random test of page tables: one operation on the library and on the flat model. Include after
 * paging_random.h.
 */
#ifndef PAGING_RANDOM_OPS_H
#define PAGING_RANDOM_OPS_H

#include "ledger_mm.h"
#include "paging_random.h"
#include "paging_random_slots.h"

/* --- operations ------------------------------------------------------------------------------ */

/* What a larger leaf has once; frame, type and key are the model's business. */
static inline bool alike(const struct t_mpage *a, const struct t_mpage *b)
{
    return t_mpages_reported(a->prot) == t_mpages_reported(b->prot) &&
           (a->marks & ~MARKS) == (b->marks & ~MARKS);
}

static inline mm_status_t op_map(struct run *r, struct mm_vrange range)
{
    static const struct {
        uint32_t flags;
        unsigned largest;
    } sizes[] = {{0, 0}, {0, 0}, {MM_PAGING_MAX_2M, 21}, {MM_PAGING_ONLY_4K, 12}};
    uint64_t paddr = random_paddr(r, range.start.raw);
    mm_prot_t prot = random_prot(r);
    mm_memtype_t type = (mm_memtype_t)t_prng_below(&r->prng, MM_MEMTYPE_COUNT);
    unsigned size = (unsigned)t_prng_below(&r->prng, 4);
    uint32_t merge = 0;
    mm_status_t status;

    if (size == 3 && range.len > 64 * P2M) {
        size = 0; /* no thousands of tables */
    }
    if (t_prng_chance(&r->prng, 1, 8)) {
        merge = MM_PAGING_MERGE;
    }
    status = mm_paging_map(r->pt, range, mm_paddr(paddr), prot, type, sizes[size].flags | merge);
    if (status != MM_ERR_NO_MEMORY) {
        assert_int_equal(
            status, t_mpages_status_mm(t_mpages_map(&r->model, range.start.raw, paddr, range.len,
                                                    prot, (uint16_t)type, sizes[size].largest)));
    }
    if (status == MM_OK && merge != 0) {
        (void)t_mpages_merge(&r->model, range.start.raw, range.len, sizes[size].largest, alike);
    }
    return status;
}

/* What CPUs have set is told of a leaf that goes, or it is lost. */
static inline void take_leaf(void *ctx, const struct mm_mapping *leaf)
{
    const struct run *r = ctx;

    for (uint64_t off = 0; off < leaf->page.len; off += P4K) {
        const struct t_mpage *page = t_mpages_at(&r->model, leaf->page.start.raw + off);

        assert_non_null(page);
        assert_int_equal(page->marks & MARKS & ~marks_of(leaf), 0);
    }
}

static inline mm_status_t op_unmap(struct run *r, struct mm_vrange range, struct mm_gather *gather)
{
    uint32_t flags = (uint32_t)t_prng_below(&r->prng, 4);
    mm_status_t status = t_prng_chance(&r->prng, 1, 2)
                             ? mm_paging_unmap(r->pt, range, flags, gather)
                             : mm_paging_take(r->pt, range, flags, take_leaf, r, gather);

    if (status != MM_ERR_NO_MEMORY) {
        assert_int_equal(status,
                         t_mpages_status_mm(t_mpages_unmap(&r->model, range.start.raw, range.len,
                                                           t_mpages_flags_mm(flags))));
    }
    return status;
}

static inline mm_status_t op_protect(struct run *r, struct mm_vrange range,
                                     struct mm_gather *gather)
{
    uint32_t flags = (uint32_t)t_prng_below(&r->prng, 4);
    mm_prot_t prot = random_prot(r);
    uint32_t merge = t_prng_chance(&r->prng, 1, 8) ? MM_PAGING_MERGE : 0;
    mm_status_t status = mm_paging_protect(r->pt, range, prot, flags | merge, gather);

    if (status != MM_ERR_NO_MEMORY) {
        assert_int_equal(status,
                         t_mpages_status_mm(t_mpages_protect(&r->model, range.start.raw, range.len,
                                                             prot, t_mpages_flags_mm(flags))));
    }
    if (status == MM_OK && merge != 0) {
        (void)t_mpages_merge(&r->model, range.start.raw, range.len, 0, alike);
    }
    return status;
}

static inline void change_type(struct t_mpage *page, const void *arg)
{
    page->type = type_and_key(*(const mm_memtype_t *)arg, page->type >> 8);
}

static inline mm_status_t op_set_type(struct run *r, struct mm_vrange range)
{
    uint32_t flags = (uint32_t)t_prng_below(&r->prng, 4);
    mm_memtype_t type = (mm_memtype_t)t_prng_below(&r->prng, MM_MEMTYPE_COUNT);
    mm_status_t status = mm_paging_set_type(r->pt, range, type, flags);

    if (status != MM_ERR_NO_MEMORY) {
        assert_int_equal(status, t_mpages_status_mm(t_mpages_change(&r->model, range.start.raw,
                                                                    range.len, change_type, &type,
                                                                    t_mpages_flags_mm(flags))));
    }
    return status;
}

/* All that is there is given one protection, one type, one key, and no software bits. */
static inline void agree(struct run *r, struct mm_vrange range, struct mm_gather *gather)
{
    const mm_memtype_t type = MM_MEMTYPE_WT;
    const struct label l = {.clear = MM_SOFTWARE_ALL};
    mm_prot_t prot = random_prot(r);
    const uint32_t flags = MM_PAGING_SKIP_HOLES;

    if (mm_paging_protect(r->pt, range, prot, flags, gather) == MM_OK) {
        assert_int_equal(
            t_mpages_protect(&r->model, range.start.raw, range.len, prot, T_MPAGES_HOLES),
            T_MPAGES_OK);
    }
    if (mm_paging_set_type(r->pt, range, type, flags) == MM_OK) {
        assert_int_equal(t_mpages_change(&r->model, range.start.raw, range.len, change_type, &type,
                                         T_MPAGES_HOLES),
                         T_MPAGES_OK);
    }
    if (mm_paging_set_key(r->pt, range, l.key, flags, gather) == MM_OK) {
        assert_int_equal(
            t_mpages_change(&r->model, range.start.raw, range.len, label_key, &l, T_MPAGES_HOLES),
            T_MPAGES_OK);
    }
    if (mm_paging_set_software(r->pt, range, l.set, l.clear, flags) == MM_OK) {
        assert_int_equal(t_mpages_change(&r->model, range.start.raw, range.len, label_software, &l,
                                         T_MPAGES_HOLES),
                         T_MPAGES_OK);
    }
}

/* Anew, in pages: these agree from the start. */
static inline mm_status_t in_pages(struct run *r, struct mm_vrange range, struct mm_gather *gather)
{
    uint64_t paddr = random_paddr(r, range.start.raw) & ~(P2M - 1);
    mm_prot_t prot = random_prot(r);
    const uint32_t flags = MM_PAGING_SKIP_HOLES | MM_PAGING_SPLIT;
    mm_status_t status = mm_paging_unmap(r->pt, range, flags, gather);

    if (status != MM_OK) {
        return status;
    }
    assert_int_equal(
        t_mpages_unmap(&r->model, range.start.raw, range.len, T_MPAGES_HOLES | T_MPAGES_SPLIT),
        T_MPAGES_OK);
    status = mm_paging_map(r->pt, range, mm_paddr(paddr), prot, MM_MEMTYPE_WB, MM_PAGING_ONLY_4K);
    if (status == MM_OK) {
        assert_int_equal(
            t_mpages_map(&r->model, range.start.raw, paddr, range.len, prot, MM_MEMTYPE_WB, 12),
            T_MPAGES_OK);
    }
    return status;
}

/* Mostly nothing agrees: so first all is made to. */
static inline mm_status_t op_merge(struct run *r, struct mm_vrange range, struct mm_gather *gather)
{
    uint64_t nr_merged = UINT64_MAX;
    uint64_t how = t_prng_below(&r->prng, 4);

    if (how < 3) {
        range = t_range(range.start.raw & ~(P2M - 1), P2M);
        r->cloned = true; /* several calls */
    }
    if (how == 2 && t_prng_chance(&r->prng, 1, every(r, 2))) {
        mm_status_t status = in_pages(r, range, gather);

        if (status != MM_OK) {
            return status;
        }
    }
    if (how < 2) {
        agree(r, range, gather);
    }
    assert_int_equal(mm_paging_merge(r->pt, range, &nr_merged), MM_OK);
    assert_int_equal(nr_merged, t_mpages_merge(&r->model, range.start.raw, range.len, 0, alike));
    r->nr_merged += nr_merged;
    return MM_OK;
}

/* No operation leaves a table that holds nothing: there is nothing to be found. */
static inline mm_status_t op_reclaim(struct run *r, struct mm_vrange range,
                                     struct mm_gather *gather)
{
    uint64_t nr_tables = r->pt->nr_tables;

    assert_int_equal(mm_paging_reclaim(r->pt, range, gather), MM_OK);
    assert_int_equal(r->pt->nr_tables, nr_tables);
    return MM_OK;
}

struct harvested {
    struct run *r;
    unsigned what;
};

/* What CPUs have set is reported, or it is lost; from here on it counts anew. */
static inline bool harvest_leaf(void *ctx, const struct mm_mapping *leaf)
{
    const struct harvested *h = ctx;

    for (uint64_t off = 0; off < leaf->page.len; off += P4K) {
        struct t_mpage *page =
            (struct t_mpage *)(uintptr_t)t_mpages_at(&h->r->model, leaf->page.start.raw + off);

        if (page != NULL) {
            assert_int_equal(page->marks & MARKS & ~marks_of(leaf), 0);
            page->marks &= (uint8_t)~h->what;
        }
    }
    return true;
}

static inline mm_status_t op_harvest(struct run *r, struct mm_vrange range,
                                     struct mm_gather *gather)
{
    struct harvested h = {.r = r, .what = 1 + (unsigned)t_prng_below(&r->prng, 3)};
    uint32_t what = ((h.what & MARK_ACCESSED) != 0 ? MM_PAGING_ACCESSED : 0) |
                    ((h.what & MARK_DIRTY) != 0 ? MM_PAGING_DIRTY : 0);

    assert_int_equal(mm_paging_harvest(r->pt, range, what, harvest_leaf, &h, gather), MM_OK);
    for (uint64_t off = 0; off < range.len; off += P4K) {
        const struct t_mpage *page = t_mpages_at(&r->model, range.start.raw + off);

        if (page != NULL && (page->marks & h.what) != 0) {
            fail_msg("%#llx: marks %x, not harvested", (unsigned long long)(range.start.raw + off),
                     page->marks);
        }
    }
    return MM_OK;
}

static inline mm_status_t op_replace(struct run *r, struct mm_vrange range,
                                     struct mm_gather *gather)
{
    uint64_t at = range.start.raw;
    uint64_t paddr = random_paddr(r, at) & ~(P4K - 1);
    mm_prot_t prot = random_prot(r);
    mm_status_t status = mm_paging_replace(r->pt, mm_vaddr(at), mm_paddr(paddr), prot, 0, gather);
    const struct t_mpage *page = t_mpages_at(&r->model, at);
    uint16_t type;
    uint8_t software;

    if (page == NULL) {
        assert_int_equal(status, MM_ERR_NOT_MAPPED);
    } else if (page->leaf != 12) {
        assert_int_equal(status, MM_ERR_HUGE_PAGE);
    } else {
        assert_int_equal(status, MM_OK);
        type = page->type;
        software = page->marks & (uint8_t)~MARKS;
        assert_int_equal(t_mpages_unmap(&r->model, at, P4K, 0), T_MPAGES_OK);
        assert_int_equal(t_mpages_map(&r->model, at, paddr, P4K, prot, type, 12), T_MPAGES_OK);
        page_of(r, at)->marks = software;
    }
    return status;
}

static inline void count_shared(void *ctx, mm_pfn_t first, uint64_t nr)
{
    uint64_t *frames = ctx;

    (void)first;
    *frames += nr;
}

static inline uint32_t refs_of_source(const void *ctx, uint64_t frame)
{
    return ((const struct t_paging *)ctx)->used[frame] ? 1 : 0;
}

/* Each frame that the source has given is a table of one of the roots. */
static inline void audit(const struct run *r, const struct mm_pagetable *copy)
{
    const struct t_paging *m = r->m;
    struct t_ledger *ledger = t_ledger_open_of(refs_of_source, m, t_ram_base(m->ram), T_TABLES);
    struct mm_vrange none = {{0}, 0};

    t_ledger_root(ledger, &m->kernel, NULL, none);
    if (!r->shoots) {
        t_ledger_root(ledger, &r->stranger, NULL, none);
    }
    t_ledger_root(ledger, &m->user, &m->kernel, none);
    for (unsigned i = 0; i < NR_OTHER; i++) {
        t_ledger_root(ledger, &r->other[i], &m->kernel, none);
    }
    if (copy != NULL) {
        t_ledger_root(ledger, copy, &m->kernel, none);
    }
    T_LEGAL(t_ledger_close(ledger, 0));
}

/* Clone all windows into a new root, compare, and take it down again. */
static inline mm_status_t op_clone(struct run *r, struct mm_gather *gather)
{
    struct mm_pagetable copy = {0};
    mm_status_t status = mm_paging_init_user(&copy, &r->m->kernel);
    uint64_t frames = 0;
    unsigned done = 0;

    r->cloned = true;
    if (status != MM_OK) {
        return status;
    }
    for (; done < r->nr_windows && status == MM_OK; done++) {
        const struct window *w = &r->windows[done];

        status =
            mm_paging_clone(r->pt, &copy, t_range(w->start, w->len), count_shared, &frames, gather);
        if (status == MM_OK) { /* both sides lose the right to write */
            for (uint64_t i = 0; i < w->len / P4K; i++) {
                struct t_mpage *page = &r->model.windows[done].pages[i];

                if (page->leaf != 0 && (page->prot & MM_PROT_WRITE) != 0) {
                    page->prot = t_mpages_reported(page->prot) & ~MM_PROT_WRITE;
                }
            }
        }
    }
    mm_gather_end(gather);
    if (status == MM_OK) {
        assert_int_equal(frames, t_mpages_count(&r->model, 0));
        compare_all(r, &copy, true);
    }
    assert_int_equal(mm_paging_check(&copy), MM_OK);
    audit(r, &copy);
    assert_int_equal(mm_paging_destroy(&copy), MM_OK);
    return status;
}

/* Another call while a cursor stands. */
static inline mm_status_t between(struct run *r, struct mm_vrange range, struct mm_gather *gather)
{
    switch (t_prng_below(&r->prng, 4)) {
    case 0:
        return op_map(r, range);
    case 1:
        return op_merge(r, range, gather);
    default:
        return op_unmap(r, range, gather);
    }
}

static inline mm_status_t one_operation(struct run *r, struct mm_vrange range,
                                        struct mm_gather *gather)
{
    switch (t_prng_below(&r->prng, 32)) {
    case 0:
    case 1:
    case 2:
    case 3:
    case 4:
    case 5:
    case 6:
    case 7:
        return op_map(r, range);
    case 8:
    case 9:
    case 10:
    case 11:
    case 12:
        return op_unmap(r, range, gather);
    case 13:
    case 14:
    case 15:
    case 16:
    case 17:
        return op_protect(r, range, gather);
    case 18:
        return op_replace(r, range, gather);
    case 19:
    case 20:
        return op_set_type(r, range);
    case 21:
        return op_merge(r, range, gather);
    case 22:
        return op_reclaim(r, range, gather);
    case 23:
        return op_harvest(r, range, gather);
    case 24:
    case 25:
    case 26:
        return op_slot(r, range, gather);
    case 27:
        return t_prng_chance(&r->prng, 1, 2) ? op_software(r, range) : op_guard(r, range);
    case 28:
        return op_key(r, range, gather);
    case 29:
    case 30:
        return op_cursor(r, range, gather);
    default:
        return r->user && t_prng_chance(&r->prng, 1, every(r, 20)) ? op_clone(r, gather) : MM_OK;
    }
}

#endif
