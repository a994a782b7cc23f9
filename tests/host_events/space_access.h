// SPDX-License-Identifier: MIT
/**
 * How the CPUs of the races of spaces run user code: through their TLBs, with faults.
 */
#ifndef SPACE_ACCESS_H
#define SPACE_ACCESS_H

#include "space_world.h"

static inline void expect(mm_status_t status, mm_status_t allowed)
{
    if (status != MM_OK && status != allowed && !(w->limited && status == MM_ERR_LIMIT) &&
        !(w->short_of_memory && status == MM_ERR_NO_MEMORY)) {
        t_schedule_fail("status %s", mm_status_str(status));
    }
}

/* ---- CPUs -------------------------------------------------------------------------------------- */

static inline void enter(unsigned cpu, unsigned space)
{
    if (w->loaded[cpu] == space) {
        return;
    }
    w->off[cpu]++;
    must(space == SPACES ? mm_paging_leave(&w->kernel) : mm_space_activate(w->of[space]));
    w->loaded[cpu] = space;
    w->off[cpu]--;
}

/* The CPU stops, and nobody waits for it any more. */
static inline void go(unsigned cpu)
{
    w->off[cpu]++;
    enter(cpu, SPACES);
    must(mm_paging_load_root(w->tlb.backend, mm_paddr(RAM_END)));
    must(mm_tlb_offline(&w->tlb));
    w->off[cpu]--;
}

/* ---- user code --------------------------------------------------------------------------------- */

/* The access has reached memory: may it, and is it the right memory? */
static inline void reached(unsigned space, unsigned page, bool write, uint64_t paddr)
{
    uint64_t *at = (uint64_t *)t_ram_ptr(w->ram, paddr);
    struct cell *c = cell_of(space, page);

    if (world_is_free(NULL, paddr)) {
        t_schedule_fail("space %u reaches a free frame in its page %u", space, page);
    }
    if ((c->states & (write ? WR | GROW : RD | WR | GROW)) == 0) {
        t_schedule_fail("space %u reaches its page %u against its rights (%u)", space, page,
                        c->states);
    }
    if (!has_value(c, *at)) {
        t_schedule_fail("space %u finds 0x%llx in its page %u", space, (unsigned long long)*at,
                        page);
    }
    for (unsigned p = page; (c->states & GROW) != 0 && p < HEAP - 1; p++) {
        add_states(cell_of(space, p), WR);
        cell_of(space, p)->base |= WR;
    }
    if (write) {
        *at = stamp(space, page);
        add_value(c, *at);
        c->seq++;
        c->given = c->given && c->freeing != 0;
    }
    if (c->unsure == 0 && (write ? !c->given : !(c->given && c->reclaiming))) {
        only_value(c, *at);
    }
}

/* The access has faulted. False: a signal, which is right. */
static inline bool fault(unsigned cpu, const struct step *step, uint32_t code, unsigned tries)
{
    uint32_t flags = MM_FAULT_USER | ((code & T_MMU_ERR_P) != 0 ? MM_FAULT_PRESENT : 0) |
                     ((code & T_MMU_ERR_W) != 0 ? MM_FAULT_WRITE : 0);
    const struct mm_fault fault = {mm_vaddr(place(step->page)), flags};
    bool write = step->what != LOAD;
    enum mm_fault_result result = MM_FAULT_MINOR;
    unsigned states;

    look_begins(cpu, step->space, step->page);
    must(mm_space_fault(w->of[step->space], &fault, &result));
    w->nr_faults[step->space]++;
    states = look_ends(cpu)->states;
    if ((result == MM_FAULT_SIGNAL_MAP && (states & (NONE | GROW)) == GROW) ||
        (result == MM_FAULT_SIGNAL_MAP && (states & NONE) == 0) ||
        (result == MM_FAULT_SIGNAL_ACCESS && (states & (write ? NO | RD : NO)) == 0) ||
        (result == MM_FAULT_LIMIT && !w->limited) ||
        (result == MM_FAULT_NO_MEMORY && !w->short_of_memory) ||
        (mm_fault_resolved(result) && (states & (WR | GROW | (write ? 0 : RD))) == 0) ||
        result == MM_FAULT_PENDING || result == MM_FAULT_SIGNAL_BUS || result == MM_FAULT_CORRUPT) {
        t_schedule_fail("fault %u at page %u of space %u, which is %u: result %d", tries,
                        step->page, step->space, states, (int)result);
    }
    if (tries > 5) {
        t_schedule_fail("page %u of space %u faults again and again", step->page, step->space);
    }
    return mm_fault_resolved(result);
}

/* False: the access got a signal. */
static inline bool access_page(unsigned cpu, const struct step *step)
{
    bool write = step->what != LOAD;

    enter(cpu, step->space);
    for (unsigned tries = 1;; tries++) {
        uint64_t paddr = 0;
        uint32_t answer;

        if (w->pending[cpu]) {
            take_interrupt(cpu);
        }
        t_schedule_point();
        check_always();
        answer = t_cpu_access(&w->cpus.cpu[cpu], place(step->page),
                              T_MMU_USER | (write ? T_MMU_WRITE : 0), &paddr);
        if (answer == T_CPU_DONE) {
            reached(step->space, step->page, write, paddr & ~(PAGE - 1));
            return true;
        }
        if (!fault(cpu, step, answer, tries)) {
            return false;
        }
    }
}

#endif
