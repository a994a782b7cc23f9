// SPDX-License-Identifier: MIT
/**
 * Vector clocks (Lamport; Fidge; Mattern), kept for 8 bytes of memory at a time.
 *
 * Each CPU has a clock for all CPUs: how far it knows each to have come. Its own part goes on with
 * each release. The table holds for each byte that is accessed the clock that the last release
 * there published, and for each kind of access and each CPU how far that was when it last made one.
 * An access is ordered after another CPU's if its clock knows that CPU to be as far.
 */
#include "order.h"

#include "schedule.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CPUS  T_SCHEDULE_CPUS
#define CELLS 65536u /* a power of two */

enum kind { PLAIN_LOAD, PLAIN_STORE, ATOMIC_LOAD, ATOMIC_STORE, NR_KINDS };

struct cell {
    uint64_t at; /* address / 8 */
    uint32_t generation;
    uint8_t bytes[NR_KINDS][CPUS]; /* which of the 8 were accessed, */
    uint32_t last[NR_KINDS][CPUS]; /* when that was of any of them, */
    const void *pc[NR_KINDS][CPUS];
    uint32_t published[8][CPUS];
    uint32_t when[NR_KINDS][CPUS][8]; /* and of each; unspecified if it was not */
};

static struct cell *cells;
static uint32_t generation;
static uint32_t nr_cells;
static uint32_t clocks[CPUS][CPUS];

void t_order_start(void)
{
    if (cells == NULL) {
        cells = calloc(CELLS, sizeof(*cells));
        if (cells == NULL) {
            abort();
        }
    }
    generation++;
    nr_cells = 0;
    memset(clocks, 0, sizeof(clocks));
    for (unsigned i = 0; i < CPUS; i++) {
        clocks[i][i] = 1;
    }
}

static struct cell *cell_of(uint64_t at)
{
    uint64_t i = at * UINT64_C(0x9e3779b97f4a7c15) >> 48;

    while (cells[i].generation == generation && cells[i].at != at) {
        i = (i + 1) % CELLS;
    }
    if (cells[i].generation != generation) {
        if (++nr_cells > CELLS / 2) {
            t_schedule_fail("a run touches more memory than its order can be kept for");
        }
        memset(&cells[i], 0, offsetof(struct cell, when));
        cells[i].at = at;
        cells[i].generation = generation;
    }
    return &cells[i];
}

static bool is_store(enum kind kind)
{
    return kind == PLAIN_STORE || kind == ATOMIC_STORE;
}

static bool is_plain(enum kind kind)
{
    return kind == PLAIN_STORE || kind == PLAIN_LOAD;
}

static const char *describe(unsigned cpu, const struct t_event *event, unsigned other,
                            enum kind kind, const void *pc)
{
    static char text[400];
    static const char *const names[] = {"load", "store", "atomic load", "atomic store"};
    char here[150];
    char there[150];

    (void)snprintf(text, sizeof(text), "no order: %s%s of CPU %u, %.110s; %s of CPU %u, %.110s",
                   event->atomic ? "atomic " : "", t_event_kind_str(event->kind), cpu,
                   t_event_where(event->pc, here, sizeof(here)), names[kind], other,
                   t_event_where(pc, there, sizeof(there)));
    return text;
}

/* Whether a CPU may not yet know of an access of another one to some of these bytes. */
static bool is_news(unsigned cpu, const struct cell *cell, uint8_t bytes, enum kind k,
                    unsigned other)
{
    uint32_t known = clocks[cpu][other];

    if ((cell->bytes[k][other] & bytes) == 0 || cell->last[k][other] <= known) {
        return false;
    }
    for (unsigned left = cell->bytes[k][other] & bytes; left != 0; left &= left - 1) {
        if (cell->when[k][other][__builtin_ctz(left)] > known) {
            return true;
        }
    }
    return false;
}

static const char *access_cell(unsigned cpu, const struct t_event *event, struct cell *cell,
                               uint8_t bytes, enum kind kind)
{
    for (unsigned other = 0; other < CPUS; other++) {
        for (enum kind k = PLAIN_LOAD; other != cpu && k < NR_KINDS; k++) {
            if ((is_store(k) || is_store(kind)) && (is_plain(k) || is_plain(kind)) &&
                is_news(cpu, cell, bytes, k, other)) {
                return describe(cpu, event, other, k, cell->pc[k][other]);
            }
        }
    }
    cell->bytes[kind][cpu] |= bytes;
    cell->last[kind][cpu] = clocks[cpu][cpu];
    cell->pc[kind][cpu] = event->pc;
    for (unsigned left = bytes; left != 0; left &= left - 1) {
        cell->when[kind][cpu][__builtin_ctz(left)] = clocks[cpu][cpu];
    }
    return NULL;
}

static void join(uint32_t *to, const uint32_t *from)
{
    for (unsigned i = 0; i < CPUS; i++) {
        to[i] = from[i] > to[i] ? from[i] : to[i];
    }
}

static void synchronise(unsigned cpu, const struct t_event *event, struct cell *cell, uint8_t bytes)
{
    bool acquires = event->order != __ATOMIC_RELAXED && event->order != __ATOMIC_RELEASE;
    bool releases = event->order == __ATOMIC_RELEASE || event->order == __ATOMIC_ACQ_REL ||
                    event->order == __ATOMIC_SEQ_CST;
    bool stores = event->kind == T_EVENT_STORE || event->kind == T_EVENT_UPDATE;

    for (unsigned left = bytes; left != 0; left &= left - 1) {
        uint32_t *published = cell->published[__builtin_ctz(left)];

        if (event->kind != T_EVENT_STORE && acquires) {
            join(clocks[cpu], published);
        }
        if (event->kind == T_EVENT_STORE) {
            memset(published, 0, sizeof(cell->published[0])); /* ends the release sequence */
        }
    }
    if (stores && releases) {
        for (unsigned left = bytes; left != 0; left &= left - 1) {
            join(cell->published[__builtin_ctz(left)], clocks[cpu]);
        }
        clocks[cpu][cpu]++;
    }
}

const char *t_order_access(unsigned cpu, const struct t_event *event)
{
    bool stores = event->kind == T_EVENT_STORE || event->kind == T_EVENT_UPDATE;
    enum kind kind =
        event->atomic ? (stores ? ATOMIC_STORE : ATOMIC_LOAD) : (stores ? PLAIN_STORE : PLAIN_LOAD);
    uint64_t start = (uint64_t)(uintptr_t)event->at;
    uint64_t end = start + event->size;

    for (uint64_t at = start / 8; at * 8 < end; at++) {
        struct cell *cell = cell_of(at);
        unsigned from = start > at * 8 ? (unsigned)(start - at * 8) : 0;
        unsigned to = end < at * 8 + 8 ? (unsigned)(end - at * 8) : 8;
        uint8_t bytes = (uint8_t)((0xffu << from) & (0xffu >> (8 - to)));
        const char *wrong = access_cell(cpu, event, cell, bytes, kind);

        if (wrong != NULL) {
            return wrong;
        }
        if (event->atomic) {
            synchronise(cpu, event, cell, bytes);
        }
    }
    return NULL;
}
