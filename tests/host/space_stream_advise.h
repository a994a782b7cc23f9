// SPDX-License-Identifier: MIT
/**
 * The stream of operations on spaces: advice, what is taken because of it, wiring, what is there.
 * Include after space_stream_use.h.
 */
#ifndef SPACE_STREAM_ADVISE_H
#define SPACE_STREAM_ADVISE_H

#include "space_stream_use.h"

static inline bool st_has_pages(const struct t_ms_page *p)
{
    return p->used != 0 && p->claim == 0 && (p->flags & MM_SPACE_GUARD) == 0;
}

/* Pages of a range that are not there and can be touched. */
static inline uint64_t st_missing(const struct t_ms_space *m, uint32_t page, uint32_t nr)
{
    uint64_t missing = 0;

    for (uint32_t n = page; n < page + nr; n++) {
        const struct t_ms_page *p = &m->pages[n];

        missing += st_has_pages(p) && p->frame == 0 && p->prot != MM_PROT_NONE ? 1 : 0;
    }
    return missing;
}

/* 2 MiB may have come with a page: the others of them, but for those up to `end`. */
static inline void st_learn_around(struct stream *s, unsigned i, uint32_t page, uint32_t end)
{
    struct t_ms_page *pages = s->ms.spaces[i].pages;
    uint32_t first = st_large_first(s, page);
    uint64_t nr = 0;

    if ((pages[page].flags & MM_SPACE_HUGE) == 0 || pages[page].frame != 0 || first == T_MS_NONE) {
        return;
    }
    for (uint32_t n = first; n < first + T_MS_LARGE; n++) {
        if ((n < page || n >= end) && pages[n].frame == 0 && t_ms_agree(&pages[n], &pages[page]) &&
            st_look(s, i, n).there) {
            st_learn_range(s, i, n, 1, true);
            nr += pages[n].frame != T_MS_ZERO ? 1 : 0;
        }
    }
    pages[page].large = nr != 0 ? 1 : 0;
}

/* Every page up to `end` is there, as after a read or a write. */
static inline void st_faulted(struct stream *s, unsigned i, uint32_t page, uint32_t end, bool write)
{
    const struct t_ms_page *pages = s->ms.spaces[i].pages;

    for (uint32_t n = page; n < end; n++) {
        if (st_has_pages(&pages[n]) && pages[n].prot != MM_PROT_NONE) {
            bool writes = write && (pages[n].prot & MM_PROT_WRITE) != 0;

            st_learn_around(s, i, n, n + 1);
            st_settle(s, i, n, writes);
        }
    }
}

/* As many pages as there was memory for have come, or have become private: from the first on. */
static inline void st_faulted_some(struct stream *s, unsigned i, uint32_t page, uint32_t end,
                                   bool write)
{
    const struct t_ms_page *pages = s->ms.spaces[i].pages;

    for (uint32_t n = page; n < end; n++) {
        const struct t_ms_page *p = &pages[n];
        struct st_leaf leaf;

        if (!st_has_pages(p) || p->prot == MM_PROT_NONE) {
            continue;
        }
        leaf = st_look(s, i, n);
        if (leaf.there && p->frame == 0) {
            st_learn_around(s, i, n, n + 1);
            st_learn_some(s, i, n, 1);
        } else if (leaf.there && leaf.number != s->ms.frames[p->frame].number &&
                   ((write && (p->prot & MM_PROT_WRITE) != 0) || p->frame == T_MS_ZERO)) {
            st_settle(s, i, n, write && (p->prot & MM_PROT_WRITE) != 0);
        }
    }
}

/* --- advice that populates -------------------------------------------------------------------- */

static inline void st_advise_populate(struct stream *s, unsigned i, uint32_t page, uint32_t nr,
                                      bool write)
{
    struct t_ms_space *m = &s->ms.spaces[i];
    mm_status_t want = MM_OK;
    mm_status_t limit;
    mm_status_t status;
    uint32_t end = page;

    while (end < page + nr && want == MM_OK) {
        const struct t_ms_page *p = &m->pages[end];

        if (p->used == 0) {
            want = MM_ERR_NOT_MAPPED;
        } else if (p->claim != 0 || !t_ms_allows(p, write ? MM_PROT_WRITE : MM_PROT_READ)) {
            want = MM_ERR_PERMISSION_DENIED;
        } else {
            end++;
        }
    }
    limit = t_ms_allowed(&s->ms, m, 0, st_missing(m, page, end - page), 0);
    status = mm_space_advise(s->space[i], st_vrange(s, page, nr),
                             write ? MM_ADVICE_POPULATE_WRITE : MM_ADVICE_POPULATE_READ);
    if (limit != MM_OK) {
        ST_TRUE(s, status == limit || status == MM_ERR_NO_MEMORY);
    } else if (status != MM_ERR_NO_MEMORY) {
        ST_EQUAL(s, status, want);
    }
    if (status == MM_ERR_NO_MEMORY) {
        st_is_short(s, nr + 16);
    }
    if (status == MM_ERR_NO_MEMORY || limit != MM_OK) {
        /* What was given up and not reached is kept, or not. */
        for (uint32_t n = page; write && n < end; n++) {
            m->pages[n].given = m->pages[n].given != 0 ? 1 : 0;
        }
        st_faulted_some(s, i, page, end, write);
    } else {
        st_faulted(s, i, page, end, write);
    }
}

/* --- other advice ----------------------------------------------------------------------------- */

static inline bool st_any(const struct t_ms_space *m, uint32_t page, uint32_t nr, uint32_t flags,
                          bool device)
{
    for (uint32_t n = page; n < page + nr; n++) {
        if (m->pages[n].used != 0 &&
            ((m->pages[n].flags & flags) != 0 || (device && m->pages[n].claim != 0))) {
            return true;
        }
    }
    return false;
}

static inline void st_set_flags(struct stream *s, unsigned i, uint32_t page, uint32_t nr,
                                uint32_t set, uint32_t clear)
{
    struct t_ms_space *m = &s->ms.spaces[i];

    for (uint32_t n = page; n < page + nr; n++) {
        if (st_has_pages(&m->pages[n])) {
            t_ms_flags(&s->ms, m, n, 1, set, clear);
        }
    }
}

/* All that can be there is there, if there was memory for it. */
static inline void st_will_need(struct stream *s, unsigned i, uint32_t page, uint32_t nr,
                                uint64_t nr_free)
{
    struct t_ms_space *m = &s->ms.spaces[i];
    uint64_t missing = st_missing(m, page, nr);

    if (!s->fails && nr_free > nr + 16 && t_ms_allowed(&s->ms, m, 0, missing, 0) == MM_OK) {
        st_faulted(s, i, page, page + nr, false);
    } else {
        st_faulted_some(s, i, page, page + nr, false);
    }
}

static inline void st_advised(struct stream *s, unsigned i, uint32_t page, uint32_t nr,
                              enum mm_space_advice advice, uint64_t nr_free)
{
    struct t_ms_space *m = &s->ms.spaces[i];

    if (advice == MM_ADVICE_DONT_NEED) {
        t_ms_drop(&s->ms, m, page, nr);
    } else if (advice == MM_ADVICE_HUGE) {
        st_set_flags(s, i, page, nr, MM_SPACE_HUGE, MM_SPACE_NO_HUGE);
    } else if (advice == MM_ADVICE_NO_HUGE) {
        st_set_flags(s, i, page, nr, MM_SPACE_NO_HUGE, MM_SPACE_HUGE);
    } else if (advice == MM_ADVICE_WILL_NEED) {
        st_will_need(s, i, page, nr, nr_free);
    } else {
        for (uint32_t n = page; n < page + nr; n++) {
            const struct t_ms_frame *frame = &s->ms.frames[m->pages[n].frame];
            bool alone = frame->refs == 1 && frame->pins == 0 && m->pages[n].large == 0;

            m->pages[n].given = m->pages[n].frame == 0 ? 0 : alone ? 2 : 1;
        }
    }
}

static inline void st_op_advise(struct stream *s, unsigned i)
{
    struct t_ms_space *m = &s->ms.spaces[i];
    enum mm_space_advice advice = (enum mm_space_advice)st_below(s, MM_ADVICE_COUNT);
    uint64_t nr_free = t_machine_free_frames(&s->f->m);
    mm_status_t status;
    uint32_t page;
    uint32_t nr;
    bool gives = advice == MM_ADVICE_DONT_NEED || advice == MM_ADVICE_FREE;

    st_used_range(s, i, &page, &nr);
    st_call_in(s, i);
    st_say(s, "advise: space %u page %u +%u advice %u", i, page, nr, (unsigned)advice);
    if (advice == MM_ADVICE_POPULATE_READ || advice == MM_ADVICE_POPULATE_WRITE) {
        st_advise_populate(s, i, page, nr, advice == MM_ADVICE_POPULATE_WRITE);
        st_same_ends(s, i, page, nr);
        return;
    }
    status = mm_space_advise(s->space[i], st_vrange(s, page, nr), advice);
    if (st_any(m, page, nr, gives ? MM_SPACE_WIRED : 0, advice != MM_ADVICE_WILL_NEED)) {
        ST_EQUAL(s, status, MM_ERR_PERMISSION_DENIED);
    } else if (status == MM_ERR_NO_MEMORY) {
        st_is_short(s, 8);
    } else {
        ST_EQUAL(s, status, t_ms_hole(m, page, nr) == page + nr ? MM_OK : MM_ERR_NOT_MAPPED);
        st_advised(s, i, page, nr, advice, nr_free);
    }
    st_same_ends(s, i, page, nr);
}

/* --- what advice gave up ---------------------------------------------------------------------- */

static inline void st_op_reclaim(struct stream *s, unsigned i)
{
    struct t_ms_space *m = &s->ms.spaces[i];
    uint64_t most = st_once_in(s, 2) ? UINT64_MAX : st_below(s, 20);
    uint64_t out = UINT64_MAX;
    uint64_t taken = 0;

    st_call_in(s, i);
    st_say(s, "reclaim: space %u at most %llu", i, (unsigned long long)most);
    ST_EQUAL(s, mm_space_reclaim(s->space[i], most, &out), MM_OK);
    for (uint32_t n = 0; n < s->ms.nr; n++) {
        if (m->pages[n].given != 0 && !st_look(s, i, n).there) {
            t_ms_drop(&s->ms, m, n, 1);
            taken++;
        }
        ST_TRUE(s, most != UINT64_MAX || m->pages[n].given != 2);
    }
    ST_EQUAL(s, out, taken);
    ST_TRUE(s, taken <= most);
    s->nr_reclaimed += taken;
}

/* --- wiring ----------------------------------------------------------------------------------- */

/** Whether all that has pages is wired now. */
static inline bool st_all_wired(struct stream *s, unsigned i, uint32_t page, uint32_t end)
{
    struct mm_region_info info;

    for (uint32_t n = page; n < end; n++) {
        if (st_has_pages(&s->ms.spaces[i].pages[n]) &&
            (mm_space_find(s->space[i], mm_vaddr(st_address(s, n)), &info) != MM_OK ||
             (info.flags & MM_SPACE_WIRED) == 0)) {
            return false;
        }
    }
    return true;
}

static inline void st_wired(struct stream *s, unsigned i, uint32_t page, uint32_t end,
                            mm_status_t status)
{
    const struct t_ms_space *m = &s->ms.spaces[i];
    uint32_t n = page;

    while (n < end && !st_has_pages(&m->pages[n])) {
        n++;
    }
    if (n == end) {
        return; /* nothing that could be wired */
    }
    if (!st_all_wired(s, i, page, end)) {
        ST_TRUE(s, status == MM_ERR_NO_MEMORY); /* no node: nothing was done */
        return;
    }
    st_set_flags(s, i, page, end - page, MM_SPACE_WIRED, 0);
    for (n = page; n < end; n++) {
        s->ms.spaces[i].pages[n].given = 0;
    }
    if (status == MM_ERR_NO_MEMORY || status == MM_ERR_LIMIT) {
        st_faulted_some(s, i, page, end, true);
    } else {
        st_faulted(s, i, page, end, true);
        for (n = page; n < end; n++) {
            ST_TRUE(s, m->pages[n].prot == MM_PROT_NONE || m->pages[n].frame != T_MS_ZERO);
        }
    }
}

static inline void st_op_wire(struct stream *s, unsigned i)
{
    struct t_ms_space *m = &s->ms.spaces[i];
    uint64_t missing;
    mm_status_t limit;
    mm_status_t status;
    uint32_t page;
    uint32_t end;
    uint32_t nr;

    st_used_range(s, i, &page, &nr);
    end = t_ms_hole(m, page, nr);
    missing = st_missing(m, page, end - page);
    limit = t_ms_allowed(&s->ms, m, 0, missing, 0);
    st_call_in(s, i);
    st_say(s, "wire: space %u page %u +%u", i, page, nr);
    status = mm_space_wire(s->space[i], st_vrange(s, page, nr));
    if (status == MM_ERR_NO_MEMORY) {
        st_is_short(s, nr + 16);
    } else if (limit != MM_OK) {
        ST_EQUAL(s, status, limit);
    } else {
        ST_EQUAL(s, status, end == page + nr ? MM_OK : MM_ERR_NOT_MAPPED);
    }
    st_wired(s, i, page, end, status);
    st_same_ends(s, i, page, nr);
}

static inline void st_op_unwire(struct stream *s, unsigned i)
{
    struct t_ms_space *m = &s->ms.spaces[i];
    mm_status_t status;
    uint32_t page;
    uint32_t end;
    uint32_t nr;

    st_used_range(s, i, &page, &nr);
    end = t_ms_hole(m, page, nr);
    st_call_in(s, i);
    st_say(s, "unwire: space %u page %u +%u", i, page, nr);
    status = mm_space_unwire(s->space[i], st_vrange(s, page, nr));
    if (status == MM_ERR_NO_MEMORY) {
        st_is_short(s, 8);
    } else {
        ST_EQUAL(s, status, end == page + nr ? MM_OK : MM_ERR_NOT_MAPPED);
        st_set_flags(s, i, page, end - page, 0, MM_SPACE_WIRED);
    }
    st_same_ends(s, i, page, nr);
}

/* --- what is there ---------------------------------------------------------------------------- */

static inline void st_op_resident(struct stream *s, unsigned i)
{
    const struct t_ms_space *m = &s->ms.spaces[i];
    static uint8_t bytes[T_MS_PAGES];
    mm_status_t status;
    uint32_t page;
    uint32_t nr;

    st_used_range(s, i, &page, &nr);
    st_say(s, "resident: space %u page %u +%u", i, page, nr);
    memset(bytes, 0xff, sizeof(bytes));
    status = mm_space_resident(s->space[i], st_vrange(s, page, nr), bytes);
    ST_EQUAL(s, status, t_ms_hole(m, page, nr) == page + nr ? MM_OK : MM_ERR_NOT_MAPPED);
    for (uint32_t n = 0; n < nr && status == MM_OK; n++) {
        if (m->pages[page + n].claim == 0) {
            ST_EQUAL(s, bytes[n], m->pages[page + n].frame != 0 ? MM_SPACE_RESIDENT : 0);
        }
    }
}

#endif
