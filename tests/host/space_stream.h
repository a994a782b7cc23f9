// SPDX-License-Identifier: MIT
/**
 * A stream of operations on spaces that are compared with the flat model (model_space.h): what the
 * random test and the fuzz target share. Where choices come from is the includer's business.
 *
 *     space_stream.h        the stream, looking, comparing
 *     space_stream_use.h    accesses by user code and the kernel, from outside, by devices
 *     space_stream_edit.h   map, unmap, protect, memory of devices
 *     space_stream_move.h   remap, the break
 *     space_stream_advise.h advice, what is taken because of it, wiring
 *     space_stream_life.h   spaces come and go, limits, scarce memory, CPUs; which comes next
 */
#ifndef SPACE_STREAM_H
#define SPACE_STREAM_H

#include "model_space.h"
#include "space_fixture.h"

#include <stdio.h>

#define ST_PINS  12u
#define ST_HOLDS 12u

/* Devices: pages of physical memory that is no RAM. */
#define ST_DEVICE       UINT64_C(0xd0000000)
#define ST_DEVICE_PAGES 48u

struct st_note {
    uint32_t frame; /* of the model; 0: none */
    uint64_t word[2];
};

struct stream {
    struct fixture *f;
    uint64_t (*draw)(void *ctx, uint64_t below);
    void *ctx;
    const char *(*where)(void *ctx); /* what leads here again; NULL: nothing */
    bool trace;
    bool tlb;      /* any CPU may call; else one that is in the space */
    bool fails;    /* the pool may have no page */
    bool compared; /* the operation has changed nothing but what is told */
    unsigned max_spaces;
    uint64_t op;
    char text[160];
    uint64_t stamp;
    uint64_t zero; /* number of the zero page's frame */
    struct mm_space *space[T_MS_SPACES];
    uint32_t handles[T_MS_SPACES];
    struct mm_space_group groups[T_MS_GROUPS];
    struct st_note pins[ST_PINS];
    struct st_note holds[ST_HOLDS];
    /* Of the access before. */
    enum mm_fault_result last;
    unsigned nr_faults;
    bool saw_huge;
    bool saw_cow;
    /* What has happened at all. */
    uint64_t nr_no_memory, nr_limit, nr_cow, nr_huge, nr_grown, nr_reclaimed, nr_moved, nr_device;
    uint64_t nr_clones, nr_forced, nr_pinned, most_alive, deepest;
    struct t_ms ms;
};

/* --- words ------------------------------------------------------------------------------------ */

__attribute__((format(printf, 2, 3))) static inline void st_say(struct stream *s,
                                                                const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(s->text, sizeof(s->text), format, arguments);
    va_end(arguments);
    if (s->trace) {
        fprintf(stderr, "%llu: %s\n", (unsigned long long)s->op, s->text);
    }
}

__attribute__((format(printf, 4, 5))) static inline void st_fail(struct stream *s, const char *file,
                                                                 int line, const char *format, ...)
{
    char why[256];
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(why, sizeof(why), format, arguments);
    va_end(arguments);
    fail_msg("%s:%d: operation %llu (%s): %s%s%s", file, line, (unsigned long long)s->op, s->text,
             why, s->where != NULL ? "; " : "", s->where != NULL ? s->where(s->ctx) : "");
}

#define ST_TRUE(s, condition)                                                                      \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            st_fail(s, __FILE__, __LINE__, "expected, and is not so: %s", #condition);             \
        }                                                                                          \
    } while (0)

#define ST_EQUAL(s, seen, expected)                                                                \
    do {                                                                                           \
        uint64_t st_seen_ = (uint64_t)(seen);                                                      \
        uint64_t st_expected_ = (uint64_t)(expected);                                              \
        if (st_seen_ != st_expected_) {                                                            \
            st_fail(s, __FILE__, __LINE__, "%s is %#llx; expected was %s: %#llx", #seen,           \
                    (unsigned long long)st_seen_, #expected, (unsigned long long)st_expected_);    \
        }                                                                                          \
    } while (0)

/* --- choices ---------------------------------------------------------------------------------- */

static inline uint64_t st_below(struct stream *s, uint64_t below)
{
    return s->draw(s->ctx, below);
}

/* Once in so many times; a choice of 0 is no. */
static inline bool st_once_in(struct stream *s, uint64_t nr)
{
    return st_below(s, nr) == nr - 1;
}

static inline void st_range(struct stream *s, uint32_t *page, uint32_t *nr)
{
    *page = (uint32_t)st_below(s, s->ms.nr);
    *nr = 1 + (uint32_t)st_below(s, st_once_in(s, 16) ? 200 : 12);
    if (*nr > s->ms.nr - *page) {
        *nr = s->ms.nr - *page;
    }
}

/* A range that begins in something used, most often. */
static inline void st_used_range(struct stream *s, unsigned i, uint32_t *page, uint32_t *nr)
{
    st_range(s, page, nr);
    if (!st_once_in(s, 4)) {
        uint32_t next = t_ms_next(&s->ms, &s->ms.spaces[i], *page);

        *page = next < s->ms.nr ? next : *page;
        *nr = *nr > s->ms.nr - *page ? s->ms.nr - *page : *nr;
    }
}

static inline mm_prot_t st_prot(struct stream *s)
{
    static const mm_prot_t prots[] = {RW, RW, RW, RW, MM_PROT_READ, RWX, RX, MM_PROT_NONE};

    return prots[st_below(s, sizeof(prots) / sizeof(prots[0]))];
}

static inline uint64_t st_address(const struct stream *s, uint64_t page)
{
    return s->ms.start + page * PAGE;
}

static inline struct mm_vrange st_vrange(const struct stream *s, uint32_t page, uint32_t nr)
{
    return mm_vrange(mm_vaddr(st_address(s, page)), nr * PAGE);
}

/* A call is made by any CPU, or without a tlb by one that is in the space (space_fixture.h). */
static inline void st_call_in(struct stream *s, unsigned i)
{
    s->f->m.cpus.now = (unsigned)st_below(s, s->f->m.cpus.nr);
    if (!s->tlb) {
        run_in(s->f, s->space[i]);
    }
}

/* --- looking ---------------------------------------------------------------------------------- */

struct st_leaf {
    bool there;
    uint64_t number;
    uint32_t prot;
    uint32_t type;
};

static inline struct st_leaf st_look(struct stream *s, unsigned i, uint32_t page)
{
    struct mm_mapping mapping;

    if (mm_paging_translate(mm_space_table(s->space[i]), mm_vaddr(st_address(s, page)), &mapping) !=
        MM_OK) {
        return (struct st_leaf){0};
    }
    return (struct st_leaf){
        .there = true,
        .number = (mapping.paddr.raw + (st_address(s, page) - mapping.page.start.raw)) >> 12,
        .prot = mapping.prot,
        .type = (uint32_t)mapping.type};
}

static inline uint64_t *st_words(struct stream *s, uint64_t number)
{
    return t_machine_ptr(&s->f->m, number << 12);
}

/* Whether "no memory" can be the truth for a call that needs so many frames, tables included. */
static inline void st_is_short(struct stream *s, uint64_t nr_frames)
{
    s->nr_no_memory++;
    if (!s->fails && t_machine_free_frames(&s->f->m) >= nr_frames) {
        st_fail(s, __FILE__, __LINE__, "no memory, and %llu frames are free, %llu of %llu promised",
                (unsigned long long)t_machine_free_frames(&s->f->m),
                (unsigned long long)t_ms_promised(&s->ms), (unsigned long long)s->ms.most_promised);
    }
}

/* What a call answers: what the model says, or that memory is short. True: it was done. */
static inline bool st_expect(struct stream *s, mm_status_t status, mm_status_t want,
                             uint64_t nr_frames)
{
    if (status == MM_ERR_NO_MEMORY && want == MM_ERR_LIMIT && s->ms.counts_promises) {
        return false; /* limits and promises may both be used up */
    }
    if (status == MM_ERR_NO_MEMORY && (want == MM_OK || want == MM_ERR_LIMIT)) {
        st_is_short(s, nr_frames);
        return false;
    }
    ST_EQUAL(s, status, want);
    s->nr_limit += status == MM_ERR_LIMIT ? 1 : 0;
    return status == MM_OK;
}

/* --- comparing -------------------------------------------------------------------------------- */

static inline void st_same_leaf(struct stream *s, unsigned i, uint32_t page, struct st_leaf leaf)
{
    const struct t_ms_page *p = &s->ms.spaces[i].pages[page];
    const struct t_ms_frame *frame = &s->ms.frames[p->frame];
    const uint64_t *words;

    if (p->claim != 0) {
        if (leaf.there) { /* pages without any right need not be there */
            ST_EQUAL(s, leaf.number, p->paddr >> 12);
            ST_EQUAL(s, leaf.type, p->type);
            ST_TRUE(s, (leaf.prot & MM_PROT_WRITE & ~(uint32_t)p->prot) == 0);
        }
        return;
    }
    if (leaf.there != (p->frame != 0) || (leaf.there && leaf.number != frame->number)) {
        st_fail(s, __FILE__, __LINE__, "space %u page %u: frame %#llx there: %d, model %#llx (%u)",
                i, page, (unsigned long long)leaf.number, leaf.there,
                (unsigned long long)frame->number, p->frame);
    }
    if (!leaf.there) {
        return;
    }
    words = st_words(s, leaf.number);
    if (words[0] != frame->word[0] || words[511] != frame->word[1]) {
        st_fail(s, __FILE__, __LINE__, "space %u page %u holds %#llx, %#llx; model %#llx, %#llx", i,
                page, (unsigned long long)words[0], (unsigned long long)words[511],
                (unsigned long long)frame->word[0], (unsigned long long)frame->word[1]);
    }
    if ((leaf.prot & (MM_PROT_WRITE | MM_PROT_EXEC) & ~(uint32_t)p->prot) != 0 ||
        (p->prot == MM_PROT_NONE && (leaf.prot & RWX) != 0) ||
        ((leaf.prot & MM_PROT_WRITE) != 0 && (p->frame == T_MS_ZERO || frame->refs > 1))) {
        st_fail(s, __FILE__, __LINE__, "space %u page %u: leaf %x, region %x, %u references", i,
                page, leaf.prot, p->prot, frame->refs);
    }
}

static inline void st_same_page(struct stream *s, unsigned i, uint32_t page)
{
    if (page < s->ms.nr) {
        st_same_leaf(s, i, page, st_look(s, i, page));
    }
}

static inline void st_same_info(struct stream *s, unsigned i, uint32_t page,
                                const struct mm_region_info *info)
{
    const struct t_ms_space *m = &s->ms.spaces[i];
    const struct t_ms_page *p = &m->pages[page];
    uint32_t first = t_ms_region_first(m, page);
    uint32_t last = t_ms_region_last(&s->ms, m, page);

    ST_EQUAL(s, info->range.start.raw, st_address(s, first));
    ST_EQUAL(s, info->range.len, (last - first + 1) * PAGE);
    ST_EQUAL(s, info->prot, p->prot);
    ST_EQUAL(s, info->flags, p->flags);
    ST_EQUAL(s, info->tag, p->tag);
    ST_EQUAL(s, info->kind, p->kind);
    ST_EQUAL(s, info->type, p->claim != 0 ? p->type : (uint32_t)MM_MEMTYPE_WB);
    ST_EQUAL(s, info->offset, p->claim != 0 ? m->pages[first].paddr : 0);
}

/* The region of a page, and the page. */
static inline void st_same_at(struct stream *s, unsigned i, uint32_t page)
{
    struct mm_region_info info;
    mm_status_t status;

    if (page >= s->ms.nr) {
        return;
    }
    status = mm_space_find(s->space[i], mm_vaddr(st_address(s, page) + page % 8), &info);
    ST_EQUAL(s, status, s->ms.spaces[i].pages[page].used != 0 ? MM_OK : MM_ERR_REGION_NOT_FOUND);
    if (status == MM_OK) {
        st_same_info(s, i, page, &info);
    }
    st_same_page(s, i, page);
}

/* Both ends of a range that an operation was about, and what is beside it. */
static inline void st_same_ends(struct stream *s, unsigned i, uint32_t page, uint32_t nr)
{
    st_same_at(s, i, page);
    st_same_at(s, i, page + nr - 1);
    st_same_at(s, i, page + nr);
    if (page > 0) {
        st_same_at(s, i, page - 1);
    }
}

static inline void st_same_listing(struct stream *s, unsigned i)
{
    const struct t_ms_space *m = &s->ms.spaces[i];
    struct mm_region_info info;
    uint64_t at = 0;

    for (uint32_t page = t_ms_next(&s->ms, m, 0); page < s->ms.nr;) {
        ST_EQUAL(s, mm_space_next(s->space[i], mm_vaddr(at), &info), MM_OK);
        st_same_info(s, i, page, &info);
        at = info.range.start.raw + info.range.len;
        page = t_ms_next(&s->ms, m, t_ms_region_last(&s->ms, m, page) + 1);
    }
    ST_EQUAL(s, mm_space_next(s->space[i], mm_vaddr(at), &info), MM_ERR_REGION_NOT_FOUND);
}

static inline void st_same_stats(struct stream *s, unsigned i)
{
    struct mm_space_stats stats;
    struct t_ms_sums sums;

    t_ms_sum(&s->ms, &s->ms.spaces[i], &sums);
    ST_EQUAL(s, mm_space_get_stats(s->space[i], &stats), MM_OK);
    ST_EQUAL(s, stats.mapped_bytes, sums.mapped * PAGE);
    ST_EQUAL(s, stats.resident_bytes, sums.resident * PAGE);
    ST_EQUAL(s, stats.device_bytes, sums.device * PAGE);
    ST_EQUAL(s, stats.committed_bytes, sums.committed * PAGE);
    ST_EQUAL(s, stats.nr_regions, sums.regions);
    ST_EQUAL(s, stats.refs, s->handles[i]);
}

struct st_walk {
    struct stream *s;
    struct st_leaf leaf[T_MS_PAGES];
};

static inline bool st_walk_leaf(void *ctx, const struct mm_mapping *leaf)
{
    struct st_walk *w = ctx;
    struct stream *s = w->s;
    uint64_t first = (leaf->page.start.raw - s->ms.start) / PAGE;

    for (uint64_t i = 0; i < leaf->page.len / PAGE; i++) {
        ST_TRUE(s, first + i < s->ms.nr);
        w->leaf[first + i] = (struct st_leaf){.there = true,
                                              .number = (leaf->paddr.raw >> 12) + i,
                                              .prot = leaf->prot,
                                              .type = (uint32_t)leaf->type};
    }
    return true;
}

/* All of a space: regions, every page with its contents, sums, and the library's own check. */
static inline void st_same_space(struct stream *s, unsigned i)
{
    static struct st_walk w; /* large */

    memset(&w, 0, sizeof(w));
    w.s = s;
    st_same_listing(s, i);
    st_same_stats(s, i);
    ST_EQUAL(
        s,
        mm_paging_walk(mm_space_table(s->space[i]), mm_space_range(s->space[i]), st_walk_leaf, &w),
        MM_OK);
    for (uint32_t page = 0; page < s->ms.nr; page++) {
        st_same_leaf(s, i, page, w.leaf[page]);
    }
    ST_EQUAL(s, mm_space_check(s->space[i]), MM_OK);
}

static inline void st_same_frames(struct stream *s)
{
    for (uint32_t n = T_MS_ZERO + 1; n < s->ms.nr_frames; n++) {
        const struct t_ms_frame *frame = &s->ms.frames[n];

        if ((frame->refs | frame->pins) != 0) {
            ST_EQUAL(s, mm_frame_refs(&s->f->m.frames, mm_pfn(frame->number)), frame->refs);
            ST_EQUAL(s, mm_frame_pins(&s->f->m.frames, mm_pfn(frame->number)), frame->pins);
        }
    }
    for (unsigned i = 0; i < ST_HOLDS; i++) { /* nobody has written what is held */
        const struct st_note *note = &s->holds[i];

        if (note->frame != 0) {
            ST_EQUAL(s, st_words(s, s->ms.frames[note->frame].number)[0], note->word[0]);
            ST_EQUAL(s, st_words(s, s->ms.frames[note->frame].number)[511], note->word[1]);
        }
    }
}

static inline void st_same_sums(struct stream *s)
{
    struct mm_space_group_stats group;
    struct mm_spaces_stats stats;
    uint32_t alive = 0;

    for (uint32_t g = 0; g < T_MS_GROUPS; g++) {
        ST_EQUAL(s, mm_space_group_get_stats(&s->groups[g], &group), MM_OK);
        ST_EQUAL(s, group.mapped_bytes, t_ms_group_mapped(&s->ms, g) * PAGE);
        ST_EQUAL(s, group.resident_bytes, t_ms_group_resident(&s->ms, g) * PAGE);
    }
    for (unsigned i = 0; i < T_MS_SPACES; i++) {
        alive += s->ms.spaces[i].alive ? 1 : 0;
    }
    ST_EQUAL(s, mm_spaces_get_stats(&s->f->spaces, &stats), MM_OK);
    ST_EQUAL(s, stats.nr_spaces, alive);
    ST_EQUAL(s, stats.nr_committed, s->ms.counts_promises ? t_ms_promised(&s->ms) : 0);
    s->most_alive = alive > s->most_alive ? alive : s->most_alive;
    ST_EQUAL(s, mm_spaces_check(&s->f->spaces), MM_OK);
}

static inline void st_same_all(struct stream *s)
{
    for (unsigned i = 0; i < T_MS_SPACES; i++) {
        if (s->space[i] != NULL) {
            st_same_space(s, i);
        }
    }
    st_same_frames(s);
    st_same_sums(s);
    ST_EQUAL(s, mm_frame_check(&s->f->m.frames), MM_OK);
}

/* --- what came to be there -------------------------------------------------------------------- */

/* A page is there that was not: what the model learns of it is the number of its frame, and whether
 * it is the zero page. */
static inline void st_learn(struct stream *s, unsigned i, uint32_t page, bool may_be_zero,
                            uint64_t first, uint64_t last)
{
    struct t_ms_page *p = &s->ms.spaces[i].pages[page];
    struct st_leaf leaf = st_look(s, i, page);

    ST_TRUE(s, leaf.there);
    if (leaf.number == s->zero) {
        ST_TRUE(s, may_be_zero && first == 0 && last == 0);
        p->frame = T_MS_ZERO;
        return;
    }
    p->frame = t_ms_frame_new(&s->ms, leaf.number, first, last);
    ST_TRUE(s, p->frame != 0); /* or a frame that is in use was put there */
    st_same_leaf(s, i, page, leaf);
}

/* Every page of a range that may be touched is there now. */
static inline void st_learn_range(struct stream *s, unsigned i, uint32_t page, uint32_t nr,
                                  bool may_be_zero)
{
    for (uint32_t n = page; n < page + nr; n++) {
        struct t_ms_page *p = &s->ms.spaces[i].pages[n];

        if (p->frame == 0 && p->claim == 0) {
            p->large = (p->flags & MM_SPACE_HUGE) != 0 ? 1 : 0;
            st_learn(s, i, n, may_be_zero, 0, 0);
        }
    }
}

/* Some pages of a range may have come, zeroed: as many as there was memory for. */
static inline void st_learn_some(struct stream *s, unsigned i, uint32_t page, uint32_t nr)
{
    for (uint32_t n = page; n < page + nr; n++) {
        const struct t_ms_page *p = &s->ms.spaces[i].pages[n];

        if (p->used != 0 && p->frame == 0 && p->claim == 0 && st_look(s, i, n).there) {
            st_learn_range(s, i, n, 1, true);
        }
    }
}

#endif
