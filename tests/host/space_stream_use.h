// SPDX-License-Identifier: MIT
/**
 * The stream of operations on spaces: accesses by user code and by the kernel, from outside, and by
 * devices. Include after space_stream.h.
 */
#ifndef SPACE_STREAM_USE_H
#define SPACE_STREAM_USE_H

#include "space_stream.h"

/* --- an access on a CPU ----------------------------------------------------------------------- */

/* Faults are handled until it succeeds, or a signal would be sent. */
static inline bool st_access(struct stream *s, unsigned i, uint64_t at, unsigned access,
                             uint64_t *paddr)
{
    struct t_cpu *cpu = &s->f->m.cpus.cpu[s->f->m.cpus.now];
    uint32_t error;

    if ((cpu->mmu.cr3 & T_MMU_ADDRESS) != mm_paging_root(mm_space_table(s->space[i])).raw) {
        ST_EQUAL(s, mm_space_activate(s->space[i]), MM_OK);
    }
    s->nr_faults = 0;
    s->saw_huge = false;
    s->saw_cow = false;
    while ((error = t_cpu_access(cpu, at, access, paddr)) != T_CPU_DONE) {
        struct mm_fault fault = mm_x86_64_fault(error, at);

        ST_TRUE(s, s->nr_faults++ < 2); /* each brings it further */
        ST_EQUAL(s, mm_space_fault(s->space[i], &fault, &s->last), MM_OK);
        s->saw_huge = s->saw_huge || s->last == MM_FAULT_HUGE;
        s->saw_cow = s->saw_cow || s->last == MM_FAULT_COW;
        if (!mm_fault_resolved(s->last)) {
            return false;
        }
    }
    return true;
}

/* The first page of the 2 MiB around a page; they reach out of the window: T_MS_NONE. */
static inline uint32_t st_large_first(const struct stream *s, uint32_t page)
{
    uint64_t number = s->ms.start / PAGE + page;
    uint64_t first = number & ~(uint64_t)(T_MS_LARGE - 1);

    return first < s->ms.start / PAGE || first + T_MS_LARGE > s->ms.start / PAGE + s->ms.nr
               ? T_MS_NONE
               : (uint32_t)(first - s->ms.start / PAGE);
}

/* 2 MiB came at once: they may, and nothing was there. */
static inline void st_learn_huge(struct stream *s, unsigned i, uint32_t page)
{
    const struct t_ms_page *pages = s->ms.spaces[i].pages;
    uint32_t first = st_large_first(s, page);

    ST_TRUE(s, first != T_MS_NONE);
    for (uint32_t n = first; n < first + T_MS_LARGE; n++) {
        ST_TRUE(s, pages[n].used != 0 && (pages[n].flags & MM_SPACE_HUGE) != 0);
        ST_TRUE(s, pages[n].frame == 0 && t_ms_agree(&pages[n], &pages[page]));
    }
    st_learn_range(s, i, first, T_MS_LARGE, false);
    s->nr_huge++;
}

/* Which frame is there, now that an access has succeeded. A page that came with 2 MiB may be copied
 * although it is nobody else's, because another of the 2 MiB is. */
static inline void st_settle(struct stream *s, unsigned i, uint32_t page, bool write)
{
    struct t_ms_page *p = &s->ms.spaces[i].pages[page];
    struct t_ms_frame was = s->ms.frames[p->frame];
    struct st_leaf leaf = st_look(s, i, page);
    uint32_t old = p->frame;
    bool shared = old == T_MS_ZERO || was.refs > 1;

    if (p->claim != 0) {
        return;
    }
    if (old == 0) {
        /* Of a wired region a page that is read may come as if it were written. */
        st_learn(s, i, page, !write, 0, 0);
        ST_TRUE(s, write || p->frame == T_MS_ZERO ||
                       (p->flags & (MM_SPACE_WIRED | MM_SPACE_HUGE)) != 0);
        return;
    }
    ST_TRUE(s, leaf.there);
    if (!write && old == T_MS_ZERO && (p->flags & MM_SPACE_WIRED) != 0 &&
        leaf.number != was.number) {
        /* What is wired gets a frame of its own. */
        p->frame = 0;
        st_learn(s, i, page, false, 0, 0);
        t_ms_frame_put(&s->ms, old);
    }
    if (write && (shared || (p->large != 0 && leaf.number != was.number && was.pins == 0))) {
        ST_TRUE(s, leaf.number != was.number);
        p->frame = 0;
        st_learn(s, i, page, false, was.word[0], was.word[1]);
        t_ms_frame_put(&s->ms, old);
        p->large = 0;
        s->nr_cow++;
    }
    p->given = write ? 0 : p->given;
    st_same_leaf(s, i, page, st_look(s, i, page));
}

/* What a fault of a page that is not in any region must answer; MM_FAULT_MINOR: a stack grows. */
static inline enum mm_fault_result st_want_growth(struct stream *s, unsigned i, uint32_t page,
                                                  uint32_t need, uint32_t *stack)
{
    struct t_ms_space *m = &s->ms.spaces[i];
    bool commits;
    mm_status_t status;

    *stack = t_ms_grows(&s->ms, m, page);
    if (*stack == T_MS_NONE) {
        return MM_FAULT_SIGNAL_MAP;
    }
    if (!t_ms_allows(&m->pages[*stack], need)) {
        return MM_FAULT_SIGNAL_MAP;
    }
    commits = s->ms.counts_promises && m->pages[*stack].committed != 0;
    status = t_ms_allowed(&s->ms, m, *stack - page,
                          (m->pages[*stack].flags & MM_SPACE_WIRED) != 0 ? *stack - page : 1,
                          commits ? *stack - page : 0);
    if (status == MM_OK && t_ms_allowed(&s->ms, m, 0, 1, 0) != MM_OK) {
        status = MM_ERR_LIMIT; /* the page cannot be had, so it does not grow */
    }
    return status == MM_OK          ? MM_FAULT_MINOR
           : status == MM_ERR_LIMIT ? MM_FAULT_LIMIT
                                    : MM_FAULT_NO_MEMORY;
}

/* A stack has grown down to a page. */
static inline void st_grown(struct stream *s, unsigned i, uint32_t page, uint32_t stack)
{
    struct t_ms_space *m = &s->ms.spaces[i];
    struct t_ms_page attr = m->pages[stack];

    attr.frame = 0;
    attr.given = 0;
    attr.large = 0;
    for (uint32_t n = page; n < stack; n++) {
        m->pages[n] = attr; /* promised as the stack is, whatever its rights are now */
    }
    if ((attr.flags & MM_SPACE_WIRED) != 0) {
        st_learn_range(s, i, page, stack - page, false);
    }
    s->nr_grown++;
}

static inline void st_failed_access(struct stream *s, unsigned i, uint32_t page,
                                    enum mm_fault_result want)
{
    if (s->last == MM_FAULT_NO_MEMORY && want == MM_FAULT_LIMIT && s->ms.counts_promises) {
        s->nr_no_memory++; /* limits and promises may both be used up */
    } else if (s->last == MM_FAULT_NO_MEMORY &&
               (want == MM_FAULT_MINOR || want == MM_FAULT_LIMIT)) {
        st_is_short(s, 8 + s->ms.spaces[i].max); /* of a wired stack all that it grows by comes */
    } else {
        ST_EQUAL(s, s->last, want);
    }
    st_same_at(s, i, page);
}

/* What the model says of an access: MM_FAULT_MINOR: it succeeds. */
static inline enum mm_fault_result st_want(struct stream *s, unsigned i, uint32_t page,
                                           uint32_t need)
{
    const struct t_ms_space *m = &s->ms.spaces[i];
    const struct t_ms_page *p = &m->pages[page];

    if (!t_ms_allows(p, need)) {
        return MM_FAULT_SIGNAL_ACCESS;
    }
    return p->frame == 0 && p->claim == 0 && t_ms_allowed(&s->ms, m, 0, 1, 0) != MM_OK
               ? MM_FAULT_LIMIT
               : MM_FAULT_MINOR;
}

/* An access that may grow a stack. True: it succeeded, and the model knows what is there. */
static inline bool st_touch(struct stream *s, unsigned i, uint32_t page, unsigned access,
                            uint64_t *paddr)
{
    struct t_ms_space *m = &s->ms.spaces[i];
    uint32_t need = (access & T_MMU_WRITE) != 0   ? MM_PROT_WRITE
                    : (access & T_MMU_FETCH) != 0 ? MM_PROT_EXEC
                                                  : MM_PROT_READ;
    bool hole = m->pages[page].used == 0;
    uint32_t stack = T_MS_NONE;
    enum mm_fault_result want =
        hole ? st_want_growth(s, i, page, need, &stack) : st_want(s, i, page, need);
    bool done = st_access(s, i, st_address(s, page) + page % 512 * 8, access, paddr);
    struct mm_region_info info;

    if (hole && stack != T_MS_NONE && want == MM_FAULT_MINOR &&
        mm_space_find(s->space[i], mm_vaddr(st_address(s, page)), &info) == MM_OK) {
        st_grown(s, i, page, stack);
        want = st_want(s, i, page, need);
    }
    if (!done) {
        st_failed_access(s, i, page, want);
        return false;
    }
    ST_EQUAL(s, want, MM_FAULT_MINOR);
    if (s->saw_huge) {
        st_learn_huge(s, i, page);
    }
    st_settle(s, i, page, (access & T_MMU_WRITE) != 0);
    return true;
}

/* --- loads, stores, fetches ------------------------------------------------------------------- */

static inline void st_store(struct stream *s, unsigned i, uint32_t page, uint64_t paddr)
{
    struct t_ms_page *p = &s->ms.spaces[i].pages[page];
    uint64_t *words = t_machine_ptr(&s->f->m, paddr & ~(PAGE - 1));

    words[0] = ++s->stamp;
    words[511] = ++s->stamp;
    s->ms.frames[p->frame].word[0] = s->stamp - 1;
    s->ms.frames[p->frame].word[1] = s->stamp;
}

static inline void st_op_touch(struct stream *s, unsigned i, uint32_t page)
{
    static const unsigned kinds[] = {
        T_MMU_USER | T_MMU_WRITE, T_MMU_USER, T_MMU_USER | T_MMU_WRITE, T_MMU_USER | T_MMU_FETCH,
        T_MMU_USER | T_MMU_WRITE, T_MMU_USER, T_MMU_WRITE | T_MMU_AC,   T_MMU_AC};
    unsigned access = kinds[st_below(s, 8)];
    struct t_ms_space *m = &s->ms.spaces[i];
    uint64_t paddr = 0;

    if (page >= s->ms.nr) {
        return;
    }
    st_say(s, "touch: space %u page %u access %x", i, page, access);
    if (!st_touch(s, i, page, access, &paddr)) {
        return;
    }
    if (m->pages[page].claim != 0) {
        ST_EQUAL(s, paddr >> 12, m->pages[page].paddr >> 12);
        return;
    }
    /* What the CPU reached is what the model says, with what it holds. */
    ST_EQUAL(s, paddr >> 12, s->ms.frames[m->pages[page].frame].number);
    if ((access & T_MMU_WRITE) != 0) {
        st_store(s, i, page, paddr);
    }
}

/* Touches in a row, on one CPU: translations stay between edits. */
static inline void st_op_touches(struct stream *s, unsigned i)
{
    uint32_t page;
    uint32_t nr;

    st_used_range(s, i, &page, &nr);
    s->f->m.cpus.now = (unsigned)st_below(s, s->f->m.cpus.nr);
    nr = 1 + (uint32_t)st_below(s, 6);
    for (uint32_t n = 0; n < nr; n++) {
        st_op_touch(s, i, page + n);
    }
    if (st_once_in(s, 4) && page > 0) { /* below: stacks grow */
        st_op_touch(s, i, page - 1 - (uint32_t)st_below(s, page < 16 ? page : 16));
    }
}

/* --- pins, and frames held by somebody else ---------------------------------------------------- */

static inline struct st_note *st_free_note(struct st_note *notes, unsigned nr)
{
    for (unsigned n = 0; n < nr; n++) {
        if (notes[n].frame == 0) {
            return &notes[n];
        }
    }
    return NULL;
}

/* A device gets a page to write to: it is made private first, as get_user_pages() does. */
static inline void st_op_pin(struct stream *s, unsigned i)
{
    struct st_note *note = st_free_note(s->pins, ST_PINS);
    struct t_ms_page *p;
    uint64_t paddr;
    uint32_t page;
    uint32_t nr;

    st_used_range(s, i, &page, &nr);
    p = &s->ms.spaces[i].pages[page];
    if (note == NULL || p->claim != 0) {
        return;
    }
    st_say(s, "pin: space %u page %u", i, page);
    s->f->m.cpus.now = (unsigned)st_below(s, s->f->m.cpus.nr);
    if (!st_touch(s, i, page, T_MMU_USER | T_MMU_WRITE, &paddr) ||
        s->ms.frames[p->frame].pins != 0) {
        return;
    }
    st_store(s, i, page, paddr);
    mm_frame_pin(&s->f->m.frames, mm_pfn(s->ms.frames[p->frame].number));
    s->ms.frames[p->frame].pins++;
    note->frame = p->frame;
    s->nr_pinned++;
}

/* The device writes, or lets go. */
static inline void st_op_device(struct stream *s)
{
    struct st_note *note = &s->pins[st_below(s, ST_PINS)];
    struct t_ms_frame *frame = &s->ms.frames[note->frame];

    if (note->frame == 0) {
        return;
    }
    if (!st_once_in(s, 3)) {
        st_say(s, "device writes frame %u", note->frame);
        frame->word[0] = ++s->stamp;
        st_words(s, frame->number)[0] = s->stamp;
        return;
    }
    st_say(s, "unpin frame %u", note->frame);
    ST_EQUAL(s, mm_frame_unpin(&s->f->m.frames, mm_pfn(frame->number)), frame->refs == 0);
    t_ms_frame_unpin(&s->ms, note->frame);
    note->frame = 0;
}

/* Whether a page of the 2 MiB around one is pinned. */
static inline bool st_pinned_around(const struct stream *s, unsigned i, uint32_t page)
{
    uint32_t first = st_large_first(s, page);

    for (uint32_t n = first; first != T_MS_NONE && n < first + T_MS_LARGE; n++) {
        if (s->ms.frames[s->ms.spaces[i].pages[n].frame].pins != 0) {
            return true;
        }
    }
    return false;
}

/* Somebody shares a page to write it elsewhere, as mm_space_make_cow() is for. */
static inline void st_op_hold(struct stream *s, unsigned i)
{
    struct st_note *note = st_free_note(s->holds, ST_HOLDS);
    const struct t_ms_page *p;
    struct t_ms_frame *frame;
    uint32_t page;
    uint32_t nr;
    mm_status_t status;

    st_used_range(s, i, &page, &nr);
    st_call_in(s, i);
    st_say(s, "make_cow: space %u page %u +%u", i, page, nr);
    status = mm_space_make_cow(s->space[i], st_vrange(s, page, nr));
    if (!st_expect(s, status, MM_OK, 8)) {
        return;
    }
    st_same_ends(s, i, page, nr);
    t_ms_doubt(&s->ms.spaces[i], page, nr);
    p = &s->ms.spaces[i].pages[page];
    frame = &s->ms.frames[p->frame];
    if (p->frame <= T_MS_ZERO || frame->pins != 0 || note == NULL ||
        (p->large != 0 && st_pinned_around(s, i, page))) {
        return;
    }
    ST_TRUE(s, (st_look(s, i, page).prot & MM_PROT_WRITE) == 0);
    mm_frame_get(&s->f->m.frames, mm_pfn(frame->number));
    frame->refs++;
    frame->held++;
    *note = (struct st_note){p->frame, {frame->word[0], frame->word[1]}};
}

static inline void st_let_go(struct stream *s, struct st_note *note)
{
    struct t_ms_frame *frame = &s->ms.frames[note->frame];

    st_say(s, "drop held frame %u", note->frame);
    ST_EQUAL(s, st_words(s, frame->number)[0], note->word[0]);
    ST_EQUAL(s, st_words(s, frame->number)[511], note->word[1]);
    ST_EQUAL(s, mm_frame_put(&s->f->m.frames, mm_pfn(frame->number)),
             frame->refs == 1 && frame->pins == 0);
    frame->held--;
    t_ms_frame_put(&s->ms, note->frame);
    note->frame = 0;
}

static inline void st_op_unhold(struct stream *s)
{
    struct st_note *note = &s->holds[st_below(s, ST_HOLDS)];

    if (note->frame != 0) {
        st_let_go(s, note);
    }
}

#endif
