// SPDX-License-Identifier: MIT
/**
 * Late stores. An access was made on memory; what memory held is then put back until it lands. A
 * load of the CPU's own late store finds it lent to memory for the time of the load. See delay.h.
 */
#include "delay.h"

#include "schedule.h"

#include <string.h>

#define LATE_MAX 32u

struct late {
    void *at;
    uint32_t size;
    bool seq;
    uint64_t value;
};

static struct {
    struct late late[T_SCHEDULE_CPUS][LATE_MAX];
    unsigned nr[T_SCHEDULE_CPUS];
    bool lent; /* the load that is being made finds its CPU's own store */
    uint64_t in_memory;
} d;

void t_delay_start(void)
{
    memset(&d, 0, sizeof(d));
}

/* Little endian, as the host is. */
static uint64_t swap(const struct t_event *event, uint64_t value)
{
    uint64_t old = 0;

    memcpy(&old, event->at, event->size);
    memcpy(event->at, &value, event->size);
    return old;
}

/* The first `nr` stores of a CPU land. */
static bool land(unsigned cpu, unsigned nr)
{
    for (unsigned i = 0; i < nr; i++) {
        memcpy(d.late[cpu][i].at, &d.late[cpu][i].value, d.late[cpu][i].size);
    }
    d.nr[cpu] -= nr;
    memmove(d.late[cpu], d.late[cpu] + nr, d.nr[cpu] * sizeof(d.late[cpu][0]));
    return nr != 0;
}

bool t_delay_end(unsigned cpu)
{
    return land(cpu, d.nr[cpu]);
}

/* How many stores of a CPU there are up to the last that touches these bytes. */
static unsigned nr_touching(unsigned cpu, const struct t_event *event)
{
    uintptr_t at = (uintptr_t)event->at;
    unsigned nr = d.nr[cpu];

    for (; nr > 0; nr--) {
        uintptr_t other = (uintptr_t)d.late[cpu][nr - 1].at;

        if (at < other + d.late[cpu][nr - 1].size && other < at + event->size) {
            break;
        }
    }
    return nr;
}

static unsigned nr_seq(unsigned cpu)
{
    unsigned nr = d.nr[cpu];

    while (nr > 0 && !d.late[cpu][nr - 1].seq) {
        nr--;
    }
    return nr;
}

static bool before_load(unsigned cpu, const struct t_event *event)
{
    bool landed = event->order == __ATOMIC_SEQ_CST && land(cpu, nr_seq(cpu));
    unsigned nr = nr_touching(cpu, event);
    const struct late *own = &d.late[cpu][nr == 0 ? 0 : nr - 1];

    if (nr == 0) {
        return landed;
    }
    if (own->at != event->at || own->size != event->size) {
        return land(cpu, nr) || landed;
    }
    d.lent = true;
    d.in_memory = swap(event, own->value);
    return landed;
}

bool t_delay_before(unsigned cpu, const struct t_event *event)
{
    bool landed = false;

    if (event->kind == T_EVENT_FENCE) {
        return event->order == __ATOMIC_SEQ_CST && t_delay_end(cpu);
    }
    if (event->atomic && event->kind == T_EVENT_LOAD && event->size <= sizeof(uint64_t)) {
        return before_load(cpu, event);
    }
    for (unsigned i = 0; i < T_SCHEDULE_CPUS; i++) {
        if (i != cpu || !event->atomic || event->kind != T_EVENT_STORE) {
            landed = land(i, nr_touching(i, event)) || landed;
        }
    }
    return landed;
}

bool t_delay_after(unsigned cpu, const struct t_event *event)
{
    bool landed = false;

    if (d.lent) {
        d.lent = false;
        (void)swap(event, d.in_memory);
        return false;
    }
    if ((event->kind != T_EVENT_STORE && event->kind != T_EVENT_UPDATE) ||
        event->size > sizeof(uint64_t)) {
        return false;
    }
    if (event->kind == T_EVENT_UPDATE && event->before == event->after) {
        return false; /* nothing of it was late, and nothing changed: who spins may sleep */
    }
    if (d.nr[cpu] == LATE_MAX) {
        landed = land(cpu, 1);
    }
    (void)swap(event, event->before);
    d.late[cpu][d.nr[cpu]++] = (struct late){.at = event->at,
                                             .size = event->size,
                                             .seq = event->order == __ATOMIC_SEQ_CST,
                                             .value = event->after};
    return landed;
}
