// SPDX-License-Identifier: MIT
/**
 * The stream of operations on spaces: memory read, written and cleared from outside, as a debugger
 * does. Include after space_stream_advise.h.
 */
#ifndef SPACE_STREAM_OUTSIDE_H
#define SPACE_STREAM_OUTSIDE_H

#include "space_stream_advise.h"

#define ST_OUTSIDE_MAX 6u /* pages */

struct st_outside {
    uint64_t offset; /* of the first byte in the window */
    uint64_t len;
    uint32_t flags;
    unsigned kind; /* 0: read, 1: write, 2: clear */
    uint64_t *bytes;
};

/* What a page answers: MM_OK, or why it cannot be had. */
static inline mm_status_t st_outside_want(struct stream *s, unsigned i, uint32_t page,
                                          const struct st_outside *o)
{
    const struct t_ms_page *p = &s->ms.spaces[i].pages[page];
    bool force = (o->flags & MM_SPACE_FORCE) != 0;

    if (p->used == 0 || (p->flags & MM_SPACE_GUARD) != 0 ||
        (!force && !t_ms_allows(p, o->kind == 0 ? MM_PROT_READ : MM_PROT_WRITE))) {
        return MM_ERR_FAULT;
    }
    return p->claim != 0 ? MM_ERR_UNSUPPORTED : MM_OK;
}

/* One of the two words of a page that the model knows. */
static inline void st_outside_word(struct stream *s, uint32_t frame, unsigned which, uint64_t at,
                                   const struct st_outside *o)
{
    uint64_t *word = &s->ms.frames[frame].word[which];

    if (at < o->offset || at >= o->offset + o->len) {
        return;
    }
    if (o->kind == 0) {
        ST_EQUAL(s, o->bytes[(at - o->offset) / 8], *word);
    } else {
        *word = o->kind == 1 ? o->bytes[(at - o->offset) / 8] : 0;
    }
}

/* A page was reached, as its own code would have. */
static inline void st_outside_done(struct stream *s, unsigned i, uint32_t page,
                                   const struct st_outside *o)
{
    struct t_ms_page *p = &s->ms.spaces[i].pages[page];
    uint32_t frame = p->frame;
    struct t_ms_frame was = s->ms.frames[frame];
    struct st_leaf leaf;

    st_learn_around(s, i, page, (uint32_t)((o->offset + o->len + PAGE - 1) / PAGE));
    leaf = st_look(s, i, page);
    p->large |= p->frame == 0 && (p->flags & MM_SPACE_HUGE) != 0 ? 1 : 0;
    if (o->kind == 0 && p->frame == 0 && !leaf.there) { /* it reads as zero, and need not come */
        st_outside_word(s, 0, 0, page * PAGE, o);
        st_outside_word(s, 0, 1, page * PAGE + (PAGE - 8), o);
        return;
    }
    /* The words are the model's before anything is compared. */
    ST_TRUE(s, leaf.there);
    if (p->frame == 0 && o->kind != 0) {
        p->frame = t_ms_frame_new(&s->ms, leaf.number, 0, 0);
        ST_TRUE(s, leaf.number != s->zero && p->frame != 0);
    } else if (p->frame == 0) {
        st_learn(s, i, page, true, 0, 0);
    } else if (o->kind != 0 && leaf.number != was.number) {
        ST_TRUE(s, frame == T_MS_ZERO || was.refs > 1 || (p->large != 0 && was.pins == 0));
        p->frame = t_ms_frame_new(&s->ms, leaf.number, was.word[0], was.word[1]);
        ST_TRUE(s, leaf.number != s->zero && p->frame != 0);
        t_ms_frame_put(&s->ms, frame);
        p->large = 0;
    } else if (o->kind != 0) {
        ST_TRUE(s, frame != T_MS_ZERO && was.refs == 1);
    }
    p->given = o->kind != 0 ? 0 : p->given;
    st_outside_word(s, p->frame, 0, page * PAGE, o);
    st_outside_word(s, p->frame, 1, page * PAGE + (PAGE - 8), o);
    st_same_page(s, i, page);
}

static inline mm_status_t st_outside_call(struct stream *s, unsigned i, const struct st_outside *o,
                                          uint64_t *residue)
{
    mm_vaddr_t at = mm_vaddr(s->ms.start + o->offset);

    switch (o->kind) {
    case 0:
        return mm_space_read(s->space[i], o->bytes, at, o->len, o->flags, residue);
    case 1:
        return mm_space_write(s->space[i], at, o->bytes, o->len, o->flags, residue);
    default:
        return mm_space_clear(s->space[i], at, o->len, o->flags, residue);
    }
}

/* The pages up to the one that cannot be had. */
static inline void st_outside(struct stream *s, unsigned i, const struct st_outside *o,
                              uint64_t nr_free)
{
    const struct t_ms_space *m = &s->ms.spaces[i];
    uint32_t last = (uint32_t)((o->offset + o->len - 1) / PAGE);
    uint32_t page = (uint32_t)(o->offset / PAGE);
    uint32_t first = page;
    uint64_t residue = UINT64_MAX;
    mm_status_t want = MM_OK;
    mm_status_t status = st_outside_call(s, i, o, &residue);
    uint64_t end;

    ST_TRUE(s, residue <= o->len);
    end = o->offset + o->len - residue; /* first byte that was not reached */
    for (; page <= last && end > o->offset && page * PAGE < end; page++) {
        want = st_outside_want(s, i, page, o);
        ST_EQUAL(s, want, MM_OK);
        st_outside_done(s, i, page, o);
    }
    if (residue == 0) {
        ST_EQUAL(s, status, MM_OK);
        return;
    }
    ST_TRUE(s, page <= last && end == (page == first ? o->offset : page * PAGE));
    want = st_outside_want(s, i, page, o);
    if (status == MM_ERR_NO_MEMORY && want == MM_OK) { /* or a limit */
        ST_TRUE(s, nr_free < 24 || s->fails || t_ms_allowed(&s->ms, m, 0, 1, 0) != MM_OK);
        return;
    }
    if (want == MM_ERR_UNSUPPORTED && (o->flags & MM_SPACE_FORCE) != 0) {
        ST_TRUE(s, status == want || status == MM_ERR_FAULT); /* what a device's region forbids */
    } else {
        ST_EQUAL(s, status, want);
    }
    ST_TRUE(s, want != MM_OK);
}

static inline void st_op_outside(struct stream *s, unsigned i)
{
    static uint64_t bytes[ST_OUTSIDE_MAX * 512];
    struct st_outside o = {.bytes = bytes};
    uint32_t page;
    uint32_t nr;

    st_used_range(s, i, &page, &nr);
    nr = 1 + (uint32_t)st_below(s, ST_OUTSIDE_MAX - 1);
    nr = nr > s->ms.nr - page ? s->ms.nr - page : nr;
    o.kind = (unsigned)st_below(s, 3);
    o.flags = st_once_in(s, 3) ? MM_SPACE_FORCE : 0;
    o.offset = page * PAGE + (st_once_in(s, 2) ? st_below(s, 512) * 8 : 0);
    o.len = (page + nr) * PAGE - o.offset;
    o.len -= st_once_in(s, 2) ? st_below(s, o.len / 8) * 8 : 0;
    for (uint32_t n = page; n < page + nr; n++) {
        if (t_ms_grows(&s->ms, &s->ms.spaces[i], n) != T_MS_NONE) {
            return; /* nothing says whether a stack grows by this */
        }
    }
    s->stamp++;
    for (uint64_t n = 0; n < o.len / 8; n++) {
        bytes[n] = o.kind == 1 ? s->stamp : 0;
    }
    st_say(s, "outside: space %u offset %#llx len %#llx kind %u flags %x", i,
           (unsigned long long)o.offset, (unsigned long long)o.len, o.kind, o.flags);
    st_call_in(s, i);
    st_outside(s, i, &o, t_machine_free_frames(&s->f->m));
    s->nr_forced += o.flags;
}

#endif
