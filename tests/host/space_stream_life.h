// SPDX-License-Identifier: MIT
/**
 * The stream of operations on spaces: spaces come and go, limits, memory that becomes scarce, CPUs
 * that go from space to space; and which operation comes next. Include last.
 */
#ifndef SPACE_STREAM_LIFE_H
#define SPACE_STREAM_LIFE_H

#include "space_stream_edit.h"
#include "space_stream_move.h"
#include "space_stream_outside.h"

/* What of a world is the same for the random test and the fuzz target. */
struct st_world {
    uint64_t start; /* of the window */
    uint32_t nr;    /* its pages */
    bool tlb;
    unsigned max_spaces;
    enum mm_commit commit;
    uint64_t commit_pages;
};

static inline void st_begin(struct stream *s, struct fixture *f, const struct st_world *world)
{
    s->f = f;
    s->tlb = world->tlb;
    s->max_spaces = world->max_spaces;
    s->zero = f->spaces.zero_page.raw;
    t_ms_init(&s->ms, world->start, world->nr,
              (t_ram_window(f->m.ram).start + t_ram_window(f->m.ram).len) / PAGE, s->zero);
    s->ms.counts_promises = world->commit == MM_COMMIT_NEVER;
    s->ms.most_promised = world->commit_pages;
    for (unsigned g = 0; g < T_MS_GROUPS; g++) {
        memset(&s->groups[g], 0, sizeof(s->groups[g]));
        ST_EQUAL(s, mm_space_group_init(&s->groups[g], NULL), MM_OK);
    }
}

/* --- spaces come and go ----------------------------------------------------------------------- */

static inline bool st_create_failed(struct stream *s, mm_status_t status)
{
    if (status == MM_ERR_NO_MEMORY) {
        st_is_short(s, 4);
        return true;
    }
    ST_EQUAL(s, status, MM_OK);
    return false;
}

static inline void st_op_create(struct stream *s, unsigned i)
{
    struct mm_space_config config = {0};
    struct t_ms_space *m = &s->ms.spaces[i];
    struct mm_space *space = NULL;

    memset(m, 0, sizeof(*m));
    m->has_base = st_below(s, 2) != 0;
    m->base = m->has_base ? s->ms.nr / 4 + (uint32_t)st_below(s, s->ms.nr / 2) : 0;
    m->gap = 1 + (uint32_t)st_below(s, 24);
    m->max = 16 + (uint32_t)st_below(s, 64);
    m->group = st_once_in(s, 4) ? (uint32_t)st_below(s, T_MS_GROUPS) : T_MS_NONE;
    m->brk_start = UINT64_MAX;
    m->brk = UINT64_MAX;
    m->limit_mapped = st_once_in(s, 8) ? 50 + st_below(s, 300) : 0;
    m->limit_resident = st_once_in(s, 8) ? 20 + st_below(s, 100) : 0;
    config.layout = (struct mm_space_layout){.lowest = s->ms.start,
                                             .mmap_base = m->has_base ? st_address(s, m->base) : 0,
                                             .top = st_address(s, s->ms.nr),
                                             .stack_gap = m->gap * PAGE,
                                             .stack_max = m->max * PAGE};
    config.limits = (struct mm_space_limits){m->limit_mapped * PAGE, m->limit_resident * PAGE};
    config.group = m->group == T_MS_NONE ? NULL : &s->groups[m->group];
    st_say(s, "create: space %u base %u gap %u max %u group %d limits %llu, %llu", i, m->base,
           m->gap, m->max, (int)m->group, (unsigned long long)m->limit_mapped,
           (unsigned long long)m->limit_resident);
    if (!st_create_failed(s, mm_space_create_with(&s->f->spaces, &config, &space))) {
        m->alive = true;
        s->space[i] = space;
        s->handles[i] = 1;
    }
}

/* Pages of the child that its parent has pinned are copies; and those that lie in a leaf of 2 MiB
 * with a pinned page may be. */
static inline void st_learn_clone(struct stream *s, unsigned from, unsigned to)
{
    for (uint32_t n = 0; n < s->ms.nr; n++) {
        const struct t_ms_page *p = &s->ms.spaces[from].pages[n];
        struct t_ms_page *copy = &s->ms.spaces[to].pages[n];
        const struct t_ms_frame was = s->ms.frames[p->frame];

        if (copy->frame > T_MS_ZERO && p->large != 0 && st_look(s, to, n).number != was.number &&
            st_pinned_around(s, from, n)) {
            t_ms_frame_put(&s->ms, copy->frame);
            copy->frame = 0;
        }
        if (p->frame != 0 && copy->frame == 0) {
            st_learn(s, to, n, false, was.word[0], was.word[1]);
            copy->large = 0;
        }
    }
}

/* Pages that came in leaves of 2 MiB: beside a pinned one each may be copied. */
static inline uint64_t st_nr_large(const struct stream *s, unsigned i)
{
    uint64_t nr = 0;

    for (uint32_t n = 0; n < s->ms.nr; n++) {
        nr += s->ms.spaces[i].pages[n].large;
    }
    return nr;
}

static inline void st_op_clone(struct stream *s, unsigned i)
{
    const struct t_ms_space *m = &s->ms.spaces[i];
    unsigned to = (unsigned)st_below(s, s->max_spaces);
    struct mm_space *child = NULL;
    struct t_ms_sums sums;
    mm_status_t status;
    mm_status_t want;

    if (s->space[to] != NULL) {
        return;
    }
    t_ms_sum_range(m, 0, s->ms.nr, &sums);
    want = MM_OK;
    if (m->group != T_MS_NONE) {
        struct t_ms_space group = {.group = m->group};

        want = t_ms_allowed(&s->ms, &group, sums.mapped, sums.resident, 0);
    }
    if (want == MM_OK) {
        struct t_ms_space none = {.group = T_MS_NONE};

        want = t_ms_allowed(&s->ms, &none, 0, 0, sums.committed);
    }
    st_call_in(s, i);
    st_say(s, "clone: space %u to %u", i, to);
    status = mm_space_clone(s->space[i], &child);
    if (status == MM_ERR_LIMIT && ((m->limit_mapped != 0 && sums.mapped > m->limit_mapped) ||
                                   (m->limit_resident != 0 && sums.resident > m->limit_resident))) {
        return; /* what exceeds a limit of its own need not be had twice */
    }
    if (!st_expect(s, status, want, 64 + ST_PINS + st_nr_large(s, i))) {
        ST_TRUE(s, child == NULL);
        return;
    }
    s->space[to] = child;
    s->handles[to] = 1;
    t_ms_doubt(&s->ms.spaces[i], 0, s->ms.nr);
    t_ms_clone(&s->ms, m, &s->ms.spaces[to]);
    st_learn_clone(s, i, to);
    s->nr_clones++;
    s->deepest = s->ms.spaces[to].depth > s->deepest ? s->ms.spaces[to].depth : s->deepest;
}

/* No CPU is in it any more. */
static inline void st_leave(struct stream *s, struct mm_space *space)
{
    for (unsigned cpu = 0; cpu < s->f->m.cpus.nr; cpu++) {
        if ((s->f->m.cpus.cpu[cpu].mmu.cr3 & T_MMU_ADDRESS) ==
            mm_paging_root(mm_space_table(space)).raw) {
            s->f->m.cpus.now = cpu;
            ST_EQUAL(s, mm_paging_leave(&s->f->m.kernel), MM_OK);
        }
    }
}

static inline void st_op_put(struct stream *s, unsigned i)
{
    struct t_ms_space *m = &s->ms.spaces[i];

    st_say(s, "put: space %u, %u handles", i, s->handles[i]);
    if (s->handles[i] > 1) {
        ST_TRUE(s, !mm_space_put(s->space[i]));
        s->handles[i]--;
        return;
    }
    st_leave(s, s->space[i]);
    s->f->m.cpus.now = (unsigned)st_below(s, s->f->m.cpus.nr);
    ST_TRUE(s, mm_space_put(s->space[i]));
    t_ms_unmap(&s->ms, m, 0, s->ms.nr);
    m->alive = false;
    s->space[i] = NULL;
}

static inline void st_op_get(struct stream *s, unsigned i)
{
    if (s->handles[i] < 3) {
        st_say(s, "get: space %u", i);
        mm_space_get(s->space[i]);
        s->handles[i]++;
    }
}

/* --- limits, memory, CPUs --------------------------------------------------------------------- */

static inline void st_op_limits(struct stream *s, unsigned i)
{
    struct t_ms_space *m = &s->ms.spaces[i];
    uint64_t mapped = st_once_in(s, 2) ? 0 : 20 + st_below(s, 300);
    uint64_t resident = st_once_in(s, 2) ? 0 : 5 + st_below(s, 100);
    struct mm_space_limits limits = {mapped * PAGE, resident * PAGE};

    st_say(s, "limits: space %u %llu, %llu", i, (unsigned long long)mapped,
           (unsigned long long)resident);
    if (m->group != T_MS_NONE && st_once_in(s, 2)) {
        ST_EQUAL(s, mm_space_group_set_limits(&s->groups[m->group], &limits), MM_OK);
        s->ms.group_mapped[m->group] = mapped;
        s->ms.group_resident[m->group] = resident;
        return;
    }
    st_call_in(s, i);
    ST_EQUAL(s, mm_space_set_limits(s->space[i], &limits), MM_OK);
    m->limit_mapped = mapped;
    m->limit_resident = resident;
}

static inline void st_op_memory(struct stream *s)
{
    uint64_t nr = st_once_in(s, 3) ? st_below(s, 40) : UINT64_MAX;

    st_say(s, "memory: %lld frames are left", (long long)nr);
    t_machine_leave_frames(&s->f->m, nr);
    t_inject_never(&s->f->m.pool_inject);
    s->fails = st_once_in(s, 4);
    if (s->fails) {
        t_inject_from(&s->f->m.pool_inject, 1 + st_below(s, 3));
    }
}

static inline void st_op_migrate(struct stream *s, unsigned i)
{
    s->f->m.cpus.now = (unsigned)st_below(s, s->f->m.cpus.nr);
    st_say(s, "CPU %u enters space %u, or leaves", s->f->m.cpus.now, i);
    if (st_once_in(s, 4)) {
        ST_EQUAL(s, mm_paging_leave(&s->f->m.kernel), MM_OK);
    } else {
        ST_EQUAL(s, mm_space_activate(s->space[i]), MM_OK);
    }
}

/* --- one after the other ---------------------------------------------------------------------- */

static inline void st_rare(struct stream *s, unsigned i)
{
    switch (st_below(s, 12)) {
    case 0:
        st_op_put(s, i);
        break;
    case 1:
        st_op_get(s, i);
        break;
    case 2:
        st_op_limits(s, i);
        break;
    case 3:
        st_op_memory(s);
        break;
    case 4:
    case 5:
        st_op_hold(s, i);
        break;
    case 6:
        st_op_unhold(s);
        break;
    case 7:
    case 8:
        st_op_pin(s, i);
        break;
    case 9:
    case 10:
        st_op_device(s);
        break;
    default:
        st_op_migrate(s, i);
    }
}

static inline void st_edit(struct stream *s, unsigned i)
{
    switch (st_below(s, 16)) {
    case 0:
    case 1:
    case 2:
    case 3:
    case 4:
        st_op_map(s, i);
        break;
    case 5:
    case 6:
        st_op_unmap(s, i);
        break;
    case 7:
    case 8:
        st_op_protect(s, i);
        break;
    case 9:
    case 10:
        st_op_remap(s, i);
        break;
    case 11:
        st_op_advise(s, i);
        break;
    case 12:
        if (st_once_in(s, 2)) {
            st_op_reclaim(s, i);
        } else {
            st_op_advise(s, i);
        }
        break;
    case 13:
        if (st_once_in(s, 2)) {
            st_op_wire(s, i);
        } else {
            st_op_unwire(s, i);
        }
        break;
    case 14:
        st_op_brk(s, i);
        break;
    default:
        if (st_once_in(s, 2)) {
            st_op_physical(s, i);
            break;
        }
        st_op_protect(s, i);
    }
}

static inline void st_step(struct stream *s)
{
    unsigned i = (unsigned)st_below(s, s->max_spaces);

    (void)snprintf(s->text, sizeof(s->text), "nothing");
    if (s->space[i] == NULL) {
        if (st_once_in(s, 16)) {
            st_op_create(s, i);
        }
        return;
    }
    switch (st_below(s, 64)) {
    case 0:
    case 1:
    case 13:
        st_op_clone(s, i);
        break;
    case 12:
        st_op_put(s, i);
        break;
    case 2:
        st_op_resident(s, i);
        break;
    case 3:
    case 4:
    case 5:
    case 6:
        st_rare(s, i);
        break;
    case 7:
    case 8:
    case 9:
    case 10:
    case 11:
        st_op_outside(s, i);
        break;
    default:
        if (st_below(s, 3) == 0) {
            st_edit(s, i);
        } else {
            st_op_touches(s, i);
        }
    }
}

/* Everything goes; the frames are counted by the caller. */
static inline void st_end(struct stream *s)
{
    t_inject_never(&s->f->m.pool_inject);
    for (unsigned n = 0; n < ST_HOLDS; n++) {
        if (s->holds[n].frame != 0) {
            st_let_go(s, &s->holds[n]);
        }
    }
    for (unsigned i = 0; i < T_MS_SPACES; i++) {
        while (s->space[i] != NULL) {
            st_op_put(s, i);
        }
    }
    for (unsigned n = 0; n < ST_PINS; n++) {
        if (s->pins[n].frame != 0) {
            ST_TRUE(s,
                    mm_frame_unpin(&s->f->m.frames, mm_pfn(s->ms.frames[s->pins[n].frame].number)));
            t_ms_frame_unpin(&s->ms, s->pins[n].frame);
            s->pins[n].frame = 0;
        }
    }
    for (unsigned g = 0; g < T_MS_GROUPS; g++) {
        ST_EQUAL(s, mm_space_group_destroy(&s->groups[g]), MM_OK);
    }
    t_machine_leave_frames(&s->f->m, UINT64_MAX);
    t_ms_destroy(&s->ms);
}

#endif
