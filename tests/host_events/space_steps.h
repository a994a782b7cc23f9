// SPDX-License-Identifier: MIT
/**
 * What the CPUs of the races of spaces do (struct step), each step with what the model says of it;
 * how the world is made, and what must be right at the end of a run.
 */
#ifndef SPACE_STEPS_H
#define SPACE_STEPS_H

#include "space_access.h"

/* ---- from outside ------------------------------------------------------------------------------ */

static inline void write_outside(unsigned cpu, const struct step *step)
{
    uint64_t value = stamp(step->space, step->page);
    struct cell *c = cell_of(step->space, step->page);
    mm_status_t status;

    look_begins(cpu, step->space, step->page);
    change_begins(cpu, step->space, step->page, value);
    status =
        mm_space_write(w->of[step->space], mm_vaddr(place(step->page)), &value, 8, step->arg, NULL);
    expect(status, MM_ERR_FAULT);
    if ((look_ends(cpu)->states & (status == MM_OK ? WR : NONE | NO | RD)) == 0 &&
        (status == MM_OK || status == MM_ERR_FAULT)) {
        t_schedule_fail("written from outside: %s", mm_status_str(status));
    }
    c->given = c->given && (c->freeing != 0 || status != MM_OK);
    change_ends(cpu, step->space, step->page, value, status == MM_OK);
}

static inline void read_outside(unsigned cpu, const struct step *step)
{
    const struct cell *seen;
    uint64_t value = 0;
    mm_status_t status;

    look_begins(cpu, step->space, step->page);
    status = mm_space_read(w->of[step->space], &value, mm_vaddr(place(step->page)), 8, 0, NULL);
    seen = look_ends(cpu);
    expect(status, MM_ERR_FAULT);
    if (status == MM_OK && (!has_value(seen, value) || (seen->states & (RD | WR)) == 0)) {
        t_schedule_fail("0x%llx is read from outside in page %u of space %u",
                        (unsigned long long)value, step->page, step->space);
    }
    if (status == MM_ERR_FAULT && (seen->states & (NONE | NO)) == 0) {
        t_schedule_fail("page %u of space %u cannot be read", step->page, step->space);
    }
}

/* ---- regions ----------------------------------------------------------------------------------- */

static inline void edit_all_begin(unsigned cpu, const struct step *step, unsigned states,
                                  bool discards)
{
    for (unsigned page = step->page; page < step->page + step->nr; page++) {
        edit_begins(step->space, page, states);
        if (discards) {
            cell_of(step->space, page)->wired = false;
            change_begins(cpu, step->space, page, 0);
        }
    }
}

static inline void edit_all_end(unsigned cpu, const struct step *step, unsigned states,
                                bool discards, bool done)
{
    for (unsigned page = step->page; page < step->page + step->nr; page++) {
        edit_ends(step->space, page, states, done);
        if (discards) {
            change_ends(cpu, step->space, page, 0, done);
        }
    }
}

static inline void map_pages(unsigned cpu, const struct step *step)
{
    struct mm_space_request request = {.at = mm_vaddr(place(step->page)),
                                       .len = range_of(step->page, step->nr).len,
                                       .prot = RW,
                                       .flags = MM_SPACE_FIXED |
                                                (step->what == REPLACE ? MM_SPACE_REPLACE : 0u)};
    bool replace = step->what == REPLACE;
    mm_vaddr_t at = {0};
    mm_status_t status;

    if (step->what == MAP_ANY) {
        request = (struct mm_space_request){.len = step->nr * PAGE, .prot = RW};
        must(mm_space_map(w->of[step->space], &request, &at));
        w->any[cpu] = at.raw;
        w->any_len[cpu] = request.len;
        return;
    }
    /* A stack does not grow to what is mapped less than a page below. */
    for (unsigned page = step->page; page >= STACK && page < step->page + step->nr + 1; page++) {
        add_states(cell_of(step->space, page), (cell_of(step->space, page)->states & GROW) / GROW);
        cell_of(step->space, page)->base |= cell_of(step->space, page)->states & NONE;
    }
    edit_all_begin(cpu, step, WR, replace);
    status = mm_space_map(w->of[step->space], &request, &at);
    expect(status, replace ? MM_OK : MM_ERR_ALREADY_MAPPED);
    edit_all_end(cpu, step, WR, replace, status == MM_OK);
}

static inline void unmap(unsigned cpu, const struct step *step)
{
    mm_status_t status;

    edit_all_begin(cpu, step, NONE, true);
    status = mm_space_unmap(w->of[step->space], range_of(step->page, step->nr));
    expect(status, MM_OK);
    edit_all_end(cpu, step, NONE, true, status == MM_OK);
}

static inline void protect(unsigned cpu, const struct step *step)
{
    unsigned states = step->arg == RW ? WR : step->arg == RO ? RD : NO;
    mm_status_t status;

    edit_all_begin(cpu, step, states, false);
    status =
        mm_space_protect(w->of[step->space], range_of(step->page, step->nr), (mm_prot_t)step->arg);
    expect(status, MM_ERR_NOT_MAPPED);
    edit_all_end(cpu, step, states, false, status == MM_OK);
}

static inline void advise(unsigned cpu, const struct step *step)
{
    enum mm_space_advice advice = (enum mm_space_advice)step->arg;
    bool discards = advice == MM_ADVICE_DONT_NEED;
    bool frees = advice == MM_ADVICE_FREE;
    mm_status_t status;

    for (unsigned page = step->page; page < step->page + step->nr; page++) {
        struct cell *c = cell_of(step->space, page);

        if (discards) {
            change_begins(cpu, step->space, page, 0);
        }
        c->freeing += frees ? 1 : 0;
        c->given = c->given || frees;
    }
    status = mm_space_advise(w->of[step->space], range_of(step->page, step->nr), advice);
    expect(status, MM_ERR_NOT_MAPPED);
    for (unsigned page = step->page; page < step->page + step->nr; page++) {
        cell_of(step->space, page)->freeing -= frees ? 1 : 0;
        if (discards) {
            change_ends(cpu, step->space, page, 0, status == MM_OK);
        }
    }
}

/* What was given up may go, until it is stored to; a store that was made stays. */
static inline void reclaim(unsigned space)
{
    uint64_t nr = 0;
    unsigned nr_given = 0;

    for (unsigned page = 0; page < PAGES; page++) {
        struct cell *c = cell_of(space, page);

        if (c->given) {
            c->reclaiming = true;
            add_value(c, 0);
            nr_given++;
        }
    }
    must(mm_space_reclaim(w->of[space], UINT64_MAX, &nr));
    if (nr > nr_given) {
        t_schedule_fail("%llu pages were taken of %u", (unsigned long long)nr, nr_given);
    }
    for (unsigned page = 0; page < PAGES; page++) {
        if (cell_of(space, page)->reclaiming) {
            cell_of(space, page)->reclaiming = false;
            settle_value(space, page, "the reclaim");
        }
    }
}

/* Until the flush, a page may be reached at both places. */
static inline void remap(unsigned cpu, const struct step *step)
{
    const struct step to = {.space = step->space, .page = step->arg, .nr = step->nr};
    mm_vaddr_t at = mm_vaddr(0);
    mm_status_t status;

    edit_all_begin(cpu, step, NONE, true);
    edit_all_begin(cpu, &to, WR, true);
    for (unsigned i = 0; i < step->nr; i++) {
        struct cell *from = cell_of(step->space, step->page + i);
        struct cell *there = cell_of(step->space, to.page + i);

        for (unsigned k = 0; k < from->nr; k++) {
            add_value(there, from->value[k]);
        }
        link_cell(from, there);
        link_cell(there, from);
    }
    status =
        mm_space_remap(w->of[step->space], range_of(step->page, step->nr), step->nr * PAGE,
                       MM_SPACE_REMAP_MOVE | MM_SPACE_REMAP_FIXED, mm_vaddr(place(to.page)), &at);
    expect(status, MM_ERR_NOT_MAPPED);
    for (unsigned i = 0; i < step->nr; i++) {
        struct cell *from = cell_of(step->space, step->page + i);
        struct cell *there = cell_of(step->space, to.page + i);

        unlink_cell(from, there);
        unlink_cell(there, from);
        from->seq++;
        there->seq++; /* what it holds then is not zero */
    }
    edit_all_end(cpu, step, NONE, true, status == MM_OK);
    edit_all_end(cpu, &to, WR, true, status == MM_OK);
}

static inline void wire(const struct step *step)
{
    bool wires = step->what == WIRE;
    mm_status_t status;

    for (unsigned page = step->page; !wires && page < step->page + step->nr; page++) {
        cell_of(step->space, page)->wired = false;
    }
    status = wires ? mm_space_wire(w->of[step->space], range_of(step->page, step->nr))
                   : mm_space_unwire(w->of[step->space], range_of(step->page, step->nr));
    expect(status, MM_ERR_NOT_MAPPED);
    for (unsigned page = step->page; wires && page < step->page + step->nr; page++) {
        struct cell *c = cell_of(step->space, page);

        c->wired = status == MM_OK && c->changing == 0 && (c->states & NONE) == 0;
    }
}

static inline void move_break(unsigned cpu, const struct step *step)
{
    const struct step below = {.space = step->space, .page = HEAP, .nr = step->arg};
    const struct step above = {
        .space = step->space, .page = HEAP + step->arg, .nr = PAGES - HEAP - step->arg};
    mm_vaddr_t at = mm_vaddr(0);

    edit_all_begin(cpu, &below, WR, false);
    edit_all_begin(cpu, &above, NONE, true);
    must(mm_space_brk(w->of[step->space], mm_vaddr(place(HEAP) + step->arg * PAGE), &at));
    if (at.raw != place(HEAP) + step->arg * PAGE) {
        t_schedule_fail("the break is elsewhere");
    }
    edit_all_end(cpu, &below, WR, false, true);
    edit_all_end(cpu, &above, NONE, true, true);
}

/* ---- copies ------------------------------------------------------------------------------------ */

static inline void clone(const struct step *step)
{
    unsigned child = step->arg;
    struct mm_space *space = NULL;
    mm_status_t status;

    for (unsigned page = 0; page < PAGES; page++) {
        struct cell *from = cell_of(step->space, page);

        *cell_of(child, page) = (struct cell){.nr = from->nr, .states = from->states, .unsure = 1};
        memcpy(cell_of(child, page)->value, from->value, sizeof(from->value));
        cell_of(child, page)->given = from->given;
        link_cell(from, cell_of(child, page));
    }
    status = mm_space_clone(w->of[step->space], &space);
    expect(status, MM_OK);
    for (unsigned page = 0; page < PAGES; page++) {
        unlink_cell(cell_of(step->space, page), cell_of(child, page));
        cell_of(child, page)->unsure = 0;
    }
    if (status != MM_OK) {
        return;
    }
    w->of[child] = space;
    w->table[child] = mm_space_table(space);
    w->puts[child] = 1;
    w->bound[child] = w->bound[step->space];
    for (unsigned page = 0; page < PAGES; page++) {
        settle_value(child, page, "the clone");
    }
}

static inline void put(unsigned space)
{
    if (--w->puts[space] == 0) {
        memset(w->cells[space], 0, sizeof(w->cells[space]));
    }
    w->freed[space] += mm_space_put(w->of[space]) ? 1 : 0;
}

/* ---- devices ----------------------------------------------------------------------------------- */

struct pinning {
    unsigned space, page;
};

static inline mm_status_t pin_writable(void *ctx, struct mm_pagetable *table)
{
    const struct pinning *p = ctx;
    struct mm_mapping leaf;

    if (mm_paging_translate(table, mm_vaddr(place(p->page)), &leaf) != MM_OK ||
        (leaf.prot & MM_PROT_WRITE) == 0) {
        return MM_ERR_BUSY;
    }
    w->pinned = mm_pfn_of(leaf.paddr);
    mm_frame_pin(&w->frames, w->pinned);
    return MM_OK;
}

static inline void pin(unsigned cpu, const struct step *step)
{
    struct pinning p = {step->space, step->page};

    do {
        if (!access_page(cpu, step)) {
            return;
        }
    } while (mm_space_with_table(w->of[step->space], pin_writable, &p) != MM_OK);
    w->pinned_cell[0] = step->space;
    w->pinned_cell[1] = step->page;
}

static inline void dma(void)
{
    struct cell *c = cell_of(w->pinned_cell[0], w->pinned_cell[1]);
    uint64_t *at = (uint64_t *)t_ram_ptr(w->ram, w->pinned.raw * PAGE);

    t_schedule_point();
    if (w->pinned.raw != 0) {
        *at = stamp(w->pinned_cell[0], w->pinned_cell[1]);
        add_value(c, *at);
        c->seq++;
        if (c->unsure == 0) {
            only_value(c, *at);
        }
    }
}

static inline void unpin(void)
{
    mm_pfn_t frame = w->pinned;

    if (frame.raw != 0) {
        w->pinned = mm_pfn(0);
        (void)mm_frame_unpin(&w->frames, frame);
    }
}

/* ---- asking ------------------------------------------------------------------------------------ */

static inline void count(unsigned space)
{
    struct mm_space_stats stats;

    must(mm_space_get_stats(w->of[space], &stats));
    if (stats.resident_bytes > stats.mapped_bytes || stats.nr_regions * PAGE > stats.mapped_bytes) {
        t_schedule_fail("%llu bytes resident of %llu mapped, in %llu regions",
                        (unsigned long long)stats.resident_bytes,
                        (unsigned long long)stats.mapped_bytes,
                        (unsigned long long)stats.nr_regions);
    }
}

/* Nobody else changes a slot meanwhile: only the CPUs set accessed and dirty. */
static inline mm_status_t look_twice(void *ctx, struct mm_pagetable *table)
{
    const unsigned *space = ctx;
    uint64_t before[PAGES];
    mm_prot_t prot[PAGES];
    mm_prot_t now;

    (void)table;
    if (w->inside[*space]++ != 0) {
        t_schedule_fail("two have the lock alone");
    }
    for (unsigned page = 0; page < PAGES; page++) {
        before[page] = leaf_of(*space, page, &prot[page]);
    }
    for (unsigned i = 0; i < 4; i++) {
        t_schedule_point();
    }
    for (unsigned page = 0; page < PAGES; page++) {
        if (before[page] != leaf_of(*space, page, &now) || now != prot[page]) {
            t_schedule_fail("page %u changes while somebody has the lock alone", page);
        }
    }
    w->inside[*space]--;
    return MM_OK;
}

static inline void set_limit(const struct step *step)
{
    const struct mm_space_limits limits = {.resident_bytes = step->arg * PAGE};
    unsigned nr;

    w->bound[step->space] = 0;
    must(mm_space_set_limits(w->of[step->space], &limits));
    nr = nr_there(step->space);
    w->bound[step->space] = step->arg == 0 ? 0 : nr > step->arg ? nr : step->arg;
}

/* ---- a step ------------------------------------------------------------------------------------ */

static inline void do_other_step(const struct step *step)
{
    struct mm_space *space = w->of[step->space];
    uint8_t there[512];

    switch (step->what) {
    case HOLD:
        mm_space_get(space);
        w->puts[step->space]++;
        break;
    case PUT:
        put(step->space);
        break;
    case RECLAIM:
        reclaim(step->space);
        break;
    case CLONE:
        clone(step);
        break;
    case WIRE:
    case UNWIRE:
        wire(step);
        break;
    case LIMIT:
        set_limit(step);
        break;
    case COUNT:
        count(step->space);
        break;
    case RESIDENT:
        expect(mm_space_resident(space, range_of(step->page, step->nr), there), MM_ERR_NOT_MAPPED);
        break;
    case CHECK:
        must(mm_space_check(space));
        break;
    case ALONE:
        must(mm_space_with_table(space, look_twice, (void *)(uintptr_t)&step->space));
        break;
    case DMA:
        dma();
        break;
    case UNPIN:
        unpin();
        break;
    default:
        break;
    }
}

static inline void do_step(unsigned cpu, const struct step *step)
{
    switch (step->what) {
    case STORE:
    case LOAD:
        (void)access_page(cpu, step);
        break;
    case PIN:
        pin(cpu, step);
        break;
    case MAP:
    case REPLACE:
    case MAP_ANY:
        map_pages(cpu, step);
        break;
    case UNMAP:
        unmap(cpu, step);
        break;
    case PROTECT:
        protect(cpu, step);
        break;
    case ADVISE:
        advise(cpu, step);
        break;
    case REMAP:
        remap(cpu, step);
        break;
    case BRK:
        move_break(cpu, step);
        break;
    case WRITE:
        write_outside(cpu, step);
        break;
    case READ:
        read_outside(cpu, step);
        break;
    case ENTER:
        enter(cpu, step->space);
        break;
    case LEAVE:
        enter(cpu, SPACES);
        break;
    default:
        do_other_step(step);
        break;
    }
}

#endif
