// SPDX-License-Identifier: MIT
/**
 * The random test of page tables: slots one by one, what leaves say besides, and edits by cursor.
 * Include after paging_random.h.
 */
#ifndef PAGING_RANDOM_SLOTS_H
#define PAGING_RANDOM_SLOTS_H

#include "paging_random.h"

/* --- software bits and keys ------------------------------------------------------------------- */

struct label {
    uint32_t set;
    uint32_t clear;
    uint32_t key;
};

static inline void label_software(struct t_mpage *page, const void *arg)
{
    const struct label *l = arg;

    page->marks = (uint8_t)((page->marks & ~(l->clear * MARK_SOFTWARE)) | l->set * MARK_SOFTWARE);
}

static inline void label_key(struct t_mpage *page, const void *arg)
{
    page->type = type_and_key(type_of(page), ((const struct label *)arg)->key);
}

static inline mm_status_t op_software(struct run *r, struct mm_vrange range)
{
    uint32_t flags = t_prng_chance(&r->prng, 2, 3) ? MM_PAGING_SKIP_HOLES : 0;
    struct label l = {.set = (uint32_t)t_prng_below(&r->prng, MM_SOFTWARE_ALL + 1)};
    mm_status_t status;

    l.clear = (uint32_t)t_prng_below(&r->prng, MM_SOFTWARE_ALL + 1) & ~l.set;
    status = mm_paging_set_software(r->pt, range, l.set, l.clear, flags);
    assert_int_equal(
        status, t_mpages_status_mm(t_mpages_change(&r->model, range.start.raw, range.len,
                                                   label_software, &l, t_mpages_flags_mm(flags))));
    return status;
}

static inline mm_status_t op_key(struct run *r, struct mm_vrange range, struct mm_gather *gather)
{
    uint32_t flags = (uint32_t)t_prng_below(&r->prng, 4);
    struct label l = {.key = random_key(r)};
    mm_status_t status;

    if (!r->setup->pku && t_prng_chance(&r->prng, 1, 4)) {
        status = mm_paging_set_key(r->pt, range, 1 + l.key, flags, gather);
        assert_int_equal(status, MM_ERR_UNSUPPORTED);
        return status;
    }
    status = mm_paging_set_key(r->pt, range, l.key, flags, gather);
    if (status != MM_ERR_NO_MEMORY) {
        assert_int_equal(
            status, t_mpages_status_mm(t_mpages_change(&r->model, range.start.raw, range.len,
                                                       label_key, &l, t_mpages_flags_mm(flags))));
    }
    return status;
}

/* --- slots ------------------------------------------------------------------------------------ */

/* The slot as the tables say it, and then exchanged. */
static inline mm_status_t exchange(struct run *r, uint64_t at, uint64_t len,
                                   const struct mm_slot *now, struct mm_gather *gather)
{
    struct mm_slot seen;
    mm_status_t status;

    assert_int_equal(mm_paging_slot_get(r->pt, mm_vaddr(at), &seen), MM_OK);
    compare_slot(r, at, &seen, false);
    do { /* busy: a CPU has marked it in between */
        status = mm_paging_slot_cas(
            r->pt, mm_vaddr(at), len, &seen, now,
            seen.kind == MM_SLOT_LEAF || t_prng_chance(&r->prng, 1, 2) ? gather : NULL);
    } while (status == MM_ERR_BUSY);
    return status;
}

/* What the exchange of a slot of this size must answer. No empty table stands anywhere. */
static inline mm_status_t exchange_answers(struct run *r, uint64_t at, unsigned size)
{
    const struct t_mpage *page = t_mpages_slot_at(&r->model, at);

    if (size == 30 && !r->setup->page_1g) {
        return MM_ERR_UNSUPPORTED;
    }
    if (page != NULL && size_of_slot(page) >= size) {
        return size_of_slot(page) > size ? MM_ERR_HUGE_PAGE : MM_OK;
    }
    for (uint64_t off = 0; off < UINT64_C(1) << size; off += P4K) {
        if (t_mpages_slot_at(&r->model, at + off) != NULL) {
            return MM_ERR_ALREADY_MAPPED;
        }
    }
    return MM_OK;
}

static inline struct mm_slot random_slot(struct run *r, uint64_t at, uint64_t len)
{
    const struct t_mpage *page = t_mpages_at(&r->model, at);
    struct mm_slot now = mm_slot_leaf(mm_paddr(random_paddr(r, at) & ~(len - 1)), random_prot(r),
                                      (mm_memtype_t)t_prng_below(&r->prng, MM_MEMTYPE_COUNT));

    switch (t_prng_below(&r->prng, 4)) {
    case 0:
        return mm_slot_empty();
    case 1:
        return mm_slot_soft((uint8_t)t_prng_below(&r->prng, MM_SOFT_KINDS),
                            t_prng_u64(&r->prng) >> (64 - MM_SOFT_PAYLOAD_BITS));
    default:
        break;
    }
    if (page != NULL) {
        now.type = type_of(page);
    }
    now.software = (uint8_t)t_prng_below(&r->prng, MM_SOFTWARE_ALL + 1);
    now.key = (uint8_t)random_key(r);
    now.accessed = t_prng_chance(&r->prng, 1, 4);
    now.dirty = now.accessed && t_prng_chance(&r->prng, 1, 2);
    return now;
}

/* The model's side of an exchange that was done. */
static inline void exchanged(struct run *r, uint64_t at, unsigned size, const struct mm_slot *now)
{
    uint64_t len = UINT64_C(1) << size;

    assert_int_equal(t_mpages_unmap(&r->model, at, len, T_MPAGES_HOLES), T_MPAGES_OK);
    if (now->kind == MM_SLOT_SOFT) {
        assert_int_equal(t_mpages_put_soft(&r->model, at, size, now->soft_kind, now->payload),
                         T_MPAGES_OK);
    } else if (now->kind == MM_SLOT_LEAF) {
        assert_int_equal(t_mpages_map(&r->model, at, now->paddr.raw, len, now->prot,
                                      type_and_key(now->type, now->key), size),
                         T_MPAGES_OK);
        for (uint64_t off = 0; off < len; off += P4K) {
            page_of(r, at + off)->marks =
                (uint8_t)(now->software * MARK_SOFTWARE | (now->accessed ? MARK_ACCESSED : 0) |
                          (now->dirty ? MARK_DIRTY : 0));
        }
    }
}

/* Any slot of any size becomes anything; at times a few in a row. */
static inline mm_status_t op_slot(struct run *r, struct mm_vrange range, struct mm_gather *gather)
{
    unsigned size = t_prng_chance(&r->prng, 1, every(r, 400)) ? 30
                    : t_prng_chance(&r->prng, 1, every(r, 4)) ? 21
                                                              : 12;
    uint64_t len = UINT64_C(1) << size;
    uint64_t at = range.start.raw & ~(len - 1);
    uint64_t nr = size == 12 && t_prng_chance(&r->prng, 1, 4) ? range.len / P4K % 16 : 1;
    mm_status_t status = MM_OK;

    if (!in_window(r, at, len)) {
        return MM_OK;
    }
    r->cloned = nr > 1; /* several calls */
    for (uint64_t i = 0; i < nr && status == MM_OK; i++, at += len) {
        struct mm_slot now = random_slot(r, at, len);
        mm_status_t answer = exchange_answers(r, at, size);

        status = exchange(r, at, len, &now, gather);
        if (status == MM_ERR_NO_MEMORY) {
            return status;
        }
        assert_int_equal(status, answer);
        if (status == MM_OK) {
            exchanged(r, at, size, &now);
        }
        if (status == MM_OK && now.kind == MM_SLOT_EMPTY) {
            /* The table may hold nothing now: no larger leaf would fit. */
            assert_int_equal(mm_paging_reclaim(r->pt, t_range(at, len), gather), MM_OK);
        }
    }
    return status;
}

/* A hole becomes a guard, in the largest slots that fit. */
static inline mm_status_t op_guard(struct run *r, struct mm_vrange range)
{
    mm_status_t status = mm_paging_guard(r->pt, range);
    mm_status_t answer = MM_OK;
    uint64_t at = range.start.raw;

    for (uint64_t off = 0; off < range.len && answer == MM_OK; off += P4K) {
        answer = t_mpages_slot_at(&r->model, at + off) != NULL ? MM_ERR_ALREADY_MAPPED : MM_OK;
    }
    if (status == MM_ERR_NO_MEMORY) {
        return status;
    }
    assert_int_equal(status, answer);
    for (uint64_t left = range.len; left != 0 && status == MM_OK;) {
        unsigned size = r->setup->page_1g ? 30 : 21;

        while (size > 12 && (at % (UINT64_C(1) << size) != 0 || left < UINT64_C(1) << size)) {
            size -= 9;
        }
        assert_int_equal(t_mpages_put_soft(&r->model, at, size, MM_SOFT_GUARD, 0), T_MPAGES_OK);
        at += UINT64_C(1) << size;
        left -= UINT64_C(1) << size;
    }
    return status;
}

/* --- cursors ---------------------------------------------------------------------------------- */

/* Where a cursor stands, beside it. */
struct walker {
    struct run *r;
    struct mm_paging_cursor c;
    uint64_t at;
    uint64_t left; /* bytes to the end of its range */
    struct mm_vrange range;
};

static inline void walker_to(struct walker *w, uint64_t at)
{
    w->at = at;
    w->left = w->range.len - (at - w->range.start.raw);
}

static inline mm_status_t walk_map(struct walker *w)
{
    struct run *r = w->r;
    bool large = w->at % P2M == 0 && t_prng_chance(&r->prng, 1, 2);
    uint64_t len = large ? P2M : P4K;
    uint64_t paddr = random_paddr(r, w->at) & ~(P4K - 1);
    mm_prot_t prot = random_prot(r);
    mm_memtype_t type = (mm_memtype_t)t_prng_below(&r->prng, MM_MEMTYPE_COUNT);
    mm_status_t status = mm_paging_cursor_map(&w->c, mm_paddr(paddr), len, prot, type);
    mm_status_t answer = w->left == 0         ? MM_ERR_INVALID_ADDRESS
                         : w->left < len      ? MM_ERR_INVALID_SIZE
                         : (paddr % len) != 0 ? MM_ERR_NOT_ALIGNED
                                              : MM_OK;

    if (status == MM_ERR_NO_MEMORY) {
        return status;
    }
    if (answer == MM_OK) {
        answer = t_mpages_status_mm(
            t_mpages_map(&r->model, w->at, paddr, len, prot, (uint16_t)type, large ? 21 : 12));
    }
    assert_int_equal(status, answer);
    if (status == MM_OK) {
        walker_to(w, w->at + len);
    }
    return status;
}

static inline mm_status_t walk_edit(struct walker *w, bool unmap, struct mm_gather *gather)
{
    struct run *r = w->r;
    const struct t_mpage *page = t_mpages_slot_at(&r->model, w->at);
    uint64_t size = page != NULL ? UINT64_C(1) << size_of_slot(page) : 0;
    bool soft = page != NULL && (page->leaf & T_MPAGES_SOFT) != 0;
    mm_prot_t prot = random_prot(r);
    mm_status_t status = unmap ? mm_paging_cursor_unmap(&w->c, 0, gather)
                               : mm_paging_cursor_protect(&w->c, prot, gather);
    mm_status_t answer = w->left == 0                          ? MM_ERR_INVALID_ADDRESS
                         : page == NULL                        ? MM_ERR_NOT_MAPPED
                         : w->at % size != 0 || size > w->left ? MM_ERR_HUGE_PAGE
                         : soft && !unmap                      ? MM_ERR_NOT_MAPPED
                                                               : MM_OK;

    assert_int_equal(status, answer);
    if (status == MM_OK) {
        assert_int_equal(unmap ? t_mpages_unmap(&r->model, w->at, size, 0)
                               : t_mpages_protect(&r->model, w->at, size, prot, 0),
                         T_MPAGES_OK);
        walker_to(w, w->at + size);
    }
    return status;
}

static inline mm_status_t walk_next(struct walker *w)
{
    uint64_t end = w->at + w->left; /* may be 0 */
    struct mm_slot slot;
    mm_status_t status = mm_paging_cursor_next(&w->c, &slot);

    while (w->at != end && t_mpages_slot_at(&w->r->model, w->at) == NULL) {
        walker_to(w, w->at + P4K);
    }
    assert_int_equal(status, w->at != end ? MM_OK : MM_ERR_NOT_MAPPED);
    if (status == MM_OK) {
        uint64_t next;

        compare_slot(w->r, w->at, &slot, false);
        next = (w->at & ~(slot.page.len - 1)) + slot.page.len;
        walker_to(w, next - w->range.start.raw < w->range.len ? next : end);
    }
    return MM_OK;
}

static inline mm_status_t walk_elsewhere(struct walker *w, bool translate)
{
    uint64_t off = t_prng_u64(&w->r->prng) % w->range.len;
    uint64_t at = w->range.start.raw + off;
    struct mm_mapping leaf;
    mm_status_t status;

    if (translate) {
        status = mm_paging_cursor_translate(&w->c, mm_vaddr(at), &leaf);
        compare_mapping(w->r, at, status, &leaf, false);
    } else {
        status = mm_paging_cursor_seek(&w->c, mm_vaddr(at & ~(P4K - 1)));
        assert_int_equal(status, MM_OK);
        walker_to(w, at & ~(P4K - 1));
    }
    return MM_OK;
}

static inline mm_status_t between(struct run *r, struct mm_vrange range, struct mm_gather *gather);

/* Along a range; at times another call on the same range comes between. */
static inline mm_status_t op_cursor(struct run *r, struct mm_vrange range, struct mm_gather *gather)
{
    struct walker w = {.r = r};
    struct mm_vrange part = t_range(range.start.raw, range.len < P2M * 2 ? range.len : P2M * 2);
    mm_status_t status;

    w.range = part;
    walker_to(&w, part.start.raw);
    assert_int_equal(mm_paging_cursor_begin(&w.c, r->pt, part), MM_OK);
    r->cloned = true;
    for (unsigned i = 0; i < (r->rarity == 1 ? 24u : 8u); i++) {
        struct mm_paging_cursor before = w.c;
        uint64_t choice = t_prng_below(&r->prng, 16);

        status = choice < 5    ? walk_map(&w)
                 : choice < 8  ? walk_edit(&w, true, gather)
                 : choice < 10 ? walk_edit(&w, false, gather)
                 : choice < 12 ? walk_next(&w)
                 : choice < 14 ? walk_elsewhere(&w, true)
                 : choice < 15 ? walk_elsewhere(&w, false)
                               : between(r, part, gather);
        if (status != MM_OK && choice < 15) {
            assert_memory_equal(&before, &w.c, sizeof(before));
        }
        if (status == MM_ERR_NO_MEMORY) {
            return status;
        }
        if (status != MM_OK && w.left != 0 && choice < 10) { /* step over it */
            walker_to(&w, w.at + P4K);
            if (w.left == 0) {
                break;
            }
            assert_int_equal(mm_paging_cursor_seek(&w.c, mm_vaddr(w.at)), MM_OK);
        }
    }
    return MM_OK;
}

#endif
