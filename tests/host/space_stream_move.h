// SPDX-License-Identifier: MIT
/**
 * The stream of operations on spaces: mappings that grow, shrink and move; the break. Include after
 * space_stream_advise.h.
 */
#ifndef SPACE_STREAM_MOVE_H
#define SPACE_STREAM_MOVE_H

#include "space_stream_advise.h"

/* --- remap ------------------------------------------------------------------------------------ */

struct st_remap {
    uint32_t page, nr; /* what is mapped now */
    uint32_t new_nr;
    uint32_t flags;
    uint32_t to;    /* with FIXED; else where it went */
    bool unsure;    /* the contract leaves more than one answer */
    bool moves;     /* out: to another place */
    uint32_t where; /* out: T_MS_NONE: anywhere legal */
};

static inline bool st_one_region(const struct stream *s, const struct t_ms_space *m, uint32_t page,
                                 uint32_t nr)
{
    return t_ms_region_last(&s->ms, m, page) >= page + nr - 1;
}

/* Where the whole of it can go. */
static inline mm_status_t st_want_move(struct stream *s, const struct t_ms_space *m,
                                       struct st_remap *r)
{
    const struct t_ms_page *p = &m->pages[r->page];

    r->moves = true;
    if ((r->flags & MM_SPACE_REMAP_FIXED) != 0) {
        r->where = r->to;
        return MM_OK;
    }
    if ((p->flags & MM_SPACE_STACK) != 0 || p->claim != 0) {
        r->where = T_MS_NONE;
        return MM_OK;
    }
    if ((p->flags & MM_SPACE_HUGE) != 0) {
        r->where = T_MS_NONE; /* multiples of 2 MiB may be preferred, or not */
        return MM_OK;
    }
    return t_ms_place(&s->ms, m, r->new_nr, 1, 0, &r->where) ? MM_OK : MM_ERR_REGION_NOT_FOUND;
}

/* What the contract says, but for limits. */
static inline mm_status_t st_want_remap(struct stream *s, unsigned i, struct st_remap *r)
{
    const struct t_ms_space *m = &s->ms.spaces[i];
    bool fixed = (r->flags & MM_SPACE_REMAP_FIXED) != 0;
    bool one;

    if (m->pages[r->page].used == 0) {
        return MM_ERR_NOT_MAPPED;
    }
    if (t_ms_hole(m, r->page, r->nr) != r->page + r->nr) {
        return MM_ERR_NOT_MAPPED;
    }
    one = st_one_region(s, m, r->page, r->nr);
    if (!fixed && r->new_nr <= r->nr) {
        return MM_OK;
    }
    if (!one) {
        r->unsure = r->new_nr < r->nr; /* of what moves, or of what goes too */
        return MM_ERR_PERMISSION_DENIED;
    }
    if (r->new_nr > r->nr && m->pages[r->page].claim != 0) {
        return MM_ERR_PERMISSION_DENIED;
    }
    if (!fixed && t_ms_region_last(&s->ms, m, r->page) == r->page + r->nr - 1 &&
        t_ms_fits(&s->ms, m, r->page + r->nr, r->new_nr - r->nr, false)) {
        return MM_OK; /* in place */
    }
    return (r->flags & MM_SPACE_REMAP_MOVE) != 0 ? st_want_move(s, m, r) : MM_ERR_NO_MEMORY;
}

static inline void st_choose_remap(struct stream *s, unsigned i, struct st_remap *r)
{
    *r = (struct st_remap){0};
    st_used_range(s, i, &r->page, &r->nr);
    if (!st_once_in(s, 5)) { /* not beyond its region */
        uint32_t last = t_ms_region_last(&s->ms, &s->ms.spaces[i], r->page);

        r->nr = r->nr > last + 1 - r->page ? last + 1 - r->page : r->nr;
        r->nr = st_once_in(s, 2) ? last + 1 - r->page : r->nr;
    }
    r->new_nr = 1 + (uint32_t)st_below(s, 2 * r->nr + 4);
    r->flags = st_once_in(s, 4) ? 0 : MM_SPACE_REMAP_MOVE;
    if (r->flags != 0 && st_below(s, 2) != 0 && r->new_nr <= s->ms.nr) {
        r->to = (uint32_t)st_below(s, s->ms.nr - r->new_nr + 1);
        if (r->to + r->new_nr <= r->page || r->to >= r->page + r->nr) {
            r->flags |= MM_SPACE_REMAP_FIXED;
        }
    }
}

/* What grows is like the last page of what was. */
static inline void st_grow_at(struct stream *s, unsigned i, uint32_t page, uint32_t nr,
                              struct t_ms_page attr)
{
    struct t_ms_space *m = &s->ms.spaces[i];

    attr.frame = 0;
    attr.given = 0;
    attr.large = 0;
    for (uint32_t n = page; n < page + nr; n++) {
        m->pages[n] = attr;
    }
    if ((attr.flags & MM_SPACE_WIRED) != 0 && attr.prot != MM_PROT_NONE) {
        st_learn_range(s, i, page, nr, (attr.prot & MM_PROT_WRITE) == 0);
    }
}

static inline void st_remapped(struct stream *s, unsigned i, const struct st_remap *r, uint32_t at)
{
    struct t_ms_space *m = &s->ms.spaces[i];
    struct t_ms_page attr = m->pages[r->page];
    uint32_t kept = r->new_nr < r->nr ? r->new_nr : r->nr;

    if (at != r->page) {
        t_ms_unmap(&s->ms, m, at, r->new_nr);
    }
    if (r->new_nr < r->nr) {
        t_ms_unmap(&s->ms, m, r->page + r->new_nr, r->nr - r->new_nr);
    }
    if (at != r->page) {
        t_ms_move(&s->ms, m, r->page, kept, at);
        s->nr_moved++;
    }
    if (r->new_nr > r->nr) {
        st_grow_at(s, i, at + r->nr, r->new_nr - r->nr, attr);
    }
}

static inline void st_remap_charge(struct stream *s, unsigned i, const struct st_remap *r,
                                   mm_status_t *must, mm_status_t *may)
{
    const struct t_ms_space *m = &s->ms.spaces[i];
    const struct t_ms_page *p = &m->pages[r->page];
    uint64_t more = r->new_nr > r->nr ? r->new_nr - r->nr : 0;
    uint64_t wired = (p->flags & MM_SPACE_WIRED) != 0 && p->prot != MM_PROT_NONE ? more : 0;
    struct t_ms_sums was = {0};

    if ((r->flags & MM_SPACE_REMAP_FIXED) != 0) {
        t_ms_sum_range(m, r->to, r->new_nr, &was);
    }
    *may = t_ms_allowed(&s->ms, m, r->moves ? r->new_nr : more, wired,
                        p->committed != 0 ? (r->moves ? r->new_nr : more) : 0);
    *must = t_ms_allowed(&s->ms, m, more > was.mapped ? more - was.mapped : 0,
                         wired > was.resident ? wired - was.resident : 0,
                         p->committed == 0 || more <= was.committed ? 0 : more - was.committed);
}

static inline void st_op_remap(struct stream *s, unsigned i)
{
    mm_status_t must = MM_OK;
    mm_status_t may = MM_OK;
    mm_vaddr_t out = {7};
    mm_status_t status;
    mm_status_t want;
    struct st_remap r;
    uint32_t at;

    st_choose_remap(s, i, &r);
    st_call_in(s, i);
    st_say(s, "remap: space %u page %u +%u to +%u flags %x to %u", i, r.page, r.nr, r.new_nr,
           r.flags, r.to);
    want = st_want_remap(s, i, &r);
    if (want == MM_OK) {
        st_remap_charge(s, i, &r, &must, &may);
    }
    status = mm_space_remap(s->space[i], st_vrange(s, r.page, r.nr), r.new_nr * PAGE, r.flags,
                            mm_vaddr(st_address(s, r.to)), &out);
    ST_TRUE(s, status == MM_OK || out.raw == 7);
    /* What is replaced may be asked again: then which of two sums is too large first is open. */
    if (r.unsure ||
        (want == MM_OK && must == MM_OK && may != MM_OK &&
         (status == MM_ERR_LIMIT || status == MM_ERR_NO_MEMORY)) ||
        (want == MM_OK && r.moves && r.where == T_MS_NONE && status == MM_ERR_REGION_NOT_FOUND)) {
        ST_TRUE(s, status != MM_OK);
        return;
    }
    want = want == MM_OK ? must : want;
    if (!st_expect(s, status, want, 40 + r.new_nr)) {
        return;
    }
    at = (uint32_t)((out.raw - s->ms.start) / PAGE);
    if (r.moves && r.where == T_MS_NONE) {
        ST_TRUE(s, t_ms_fits(&s->ms, &s->ms.spaces[i], at, r.new_nr, false));
    } else {
        ST_EQUAL(s, at, r.moves ? r.where : r.page);
    }
    st_remapped(s, i, &r, at);
    st_same_ends(s, i, at, r.new_nr);
    st_same_ends(s, i, r.page, r.nr);
}

/* --- the break -------------------------------------------------------------------------------- */

static inline uint32_t st_page_above(uint64_t offset)
{
    return (uint32_t)((offset + PAGE - 1) / PAGE);
}

static inline void st_set_brk_start(struct stream *s, unsigned i)
{
    struct t_ms_space *m = &s->ms.spaces[i];
    uint64_t at = st_below(s, (s->ms.nr - 1) * PAGE);
    mm_status_t want = m->brk != m->brk_start ? MM_ERR_BUSY : MM_OK;

    st_say(s, "set_brk_start: space %u offset %#llx", i, (unsigned long long)at);
    ST_EQUAL(s, mm_space_set_brk_start(s->space[i], mm_vaddr(s->ms.start + at)), want);
    if (want == MM_OK) {
        m->brk_start = at;
        m->brk = at;
    }
}

/* What the break's move to an offset must answer. */
static inline mm_status_t st_want_brk(struct stream *s, const struct t_ms_space *m, uint64_t at)
{
    uint32_t from = st_page_above(m->brk);
    uint32_t to = st_page_above(at);

    if (at < m->brk_start) {
        return MM_ERR_INVALID_ADDRESS;
    }
    if (to <= from) {
        return MM_OK;
    }
    if (!t_ms_fits(&s->ms, m, from, to - from, false)) {
        return MM_ERR_ALREADY_MAPPED;
    }
    return t_ms_allowed(&s->ms, m, to - from, 0, s->ms.counts_promises ? to - from : 0);
}

static inline void st_brk_moved(struct stream *s, unsigned i, uint64_t at)
{
    static const struct t_ms_page heap = {.kind = MM_REGION_HEAP, .prot = RW};
    struct t_ms_space *m = &s->ms.spaces[i];
    uint32_t from = st_page_above(m->brk);
    uint32_t to = st_page_above(at);
    struct mm_region_info info;

    m->brk = at;
    if (to < from) {
        t_ms_unmap(&s->ms, m, to, from - to);
        st_same_ends(s, i, to, from - to);
    } else if (to > from) {
        struct t_ms_page attr = heap;

        ST_EQUAL(s, mm_space_find(s->space[i], mm_vaddr(st_address(s, from)), &info), MM_OK);
        if ((info.flags & MM_SPACE_WIRED) != 0) { /* what grows a wired heap may be wired */
            ST_TRUE(s, from > 0 && (m->pages[from - 1].flags & MM_SPACE_WIRED) != 0);
            attr.flags = MM_SPACE_WIRED;
        }
        t_ms_map(&s->ms, m, from, to - from, &attr);
        if (attr.flags != 0) {
            st_learn_range(s, i, from, to - from, false);
        }
        st_same_ends(s, i, from, to - from);
    }
}

static inline void st_op_brk(struct stream *s, unsigned i)
{
    struct t_ms_space *m = &s->ms.spaces[i];
    uint64_t old = s->ms.start + m->brk;
    mm_vaddr_t out = {7};
    mm_status_t status;
    mm_status_t want;
    uint64_t at;
    bool by = st_once_in(s, 2);

    st_call_in(s, i);
    if (m->brk_start == UINT64_MAX || st_once_in(s, 12)) {
        st_set_brk_start(s, i);
        return;
    }
    at = st_once_in(s, 10) ? st_below(s, s->ms.nr * PAGE) : m->brk_start + st_below(s, 24 * PAGE);
    at = at > s->ms.nr * PAGE ? s->ms.nr * PAGE : at;
    st_say(s, "brk: space %u from %#llx to %#llx by %d", i, (unsigned long long)m->brk,
           (unsigned long long)at, by);
    want = st_want_brk(s, m, at);
    status = by ? mm_space_sbrk(s->space[i], (int64_t)(at - m->brk), &out)
                : mm_space_brk(s->space[i], mm_vaddr(s->ms.start + at), &out);
    if (status == MM_OK) {
        ST_EQUAL(s, out.raw, by ? old : s->ms.start + at);
    } else {
        ST_EQUAL(s, out.raw, by ? 7 : old);
    }
    if ((status == MM_ERR_LIMIT || status == MM_ERR_NO_MEMORY) && want == MM_OK) {
        struct t_ms_sums sums; /* a wired heap grows by pages too */

        t_ms_sum_range(m, 0, s->ms.nr, &sums);
        ST_TRUE(s, status == MM_ERR_NO_MEMORY || m->limit_resident != 0 || m->group != T_MS_NONE);
        if (status == MM_ERR_NO_MEMORY) {
            st_is_short(s, 40 + at / PAGE); /* at most so many pages */
        }
        return;
    }
    if (st_expect(s, status, want, 40 + at / PAGE)) {
        st_brk_moved(s, i, at);
    }
    ST_EQUAL(s, mm_space_brk(s->space[i], mm_vaddr(0), &out), MM_OK);
    ST_EQUAL(s, out.raw, s->ms.start + m->brk);
}

#endif
