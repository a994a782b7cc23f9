// SPDX-License-Identifier: MIT
/**
 * The world of the races of spaces with several CPUs: simulated CPUs with TLBs on the CPUs of the
 * scheduler, one manager of spaces, and a model that knows what each access may find.
 *
 * The model has a *cell* for each page of each space. What a page holds is exact while no call is
 * under way that may change it: the last store to it, whoever made it, through whatever TLB. While
 * such a call is under way it is one of several values; when the call has returned, the page is
 * looked at, in one step, and what is there is what there must be from then on. So a store that is
 * lost, that comes to another space, or that goes through a stale translation shows at the next
 * look. Rights are kept the same way: what a page's region may be now.
 */
#ifndef SPACE_WORLD_H
#define SPACE_WORLD_H

#include "check.h"
#include "events.h"
#include "schedule.h"
#include "schedule_mm.h"
#include "sim_cpu_mm.h"

#include <mm/arch/x86_64.h>
#include <mm/space.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGE         UINT64_C(4096)
#define BLOCK_AT     UINT64_C(0x200000) /* 2 MiB that a large leaf may have */
#define BLOCK_FRAMES 512u
#define RAM_START    UINT64_C(0x400000)
#define RAM_FRAMES   80u
#define RAM_END      (RAM_START + RAM_FRAMES * PAGE)
#define POOL_PAGES   24u
#define ARENA        UINT64_C(0xffffc00000000000)
#define SPACES       4u
#define PAGES        24u
#define VALUES       10u
#define STEPS        8u
#define RO           MM_PROT_READ
#define RW           (MM_PROT_READ | MM_PROT_WRITE)

/* Pages by their numbers: 0 to 7 side by side, and
 *     FAR    4 in another part of the tables     STACK  4 side by side, the last one mapped
 *     HUGE   4 of one 2 MiB                      HEAP   4 from where the break begins */
#define FAR   8u
#define HUGE  12u
#define STACK 16u
#define HEAP  20u

/* What a page's region may be. */
#define NONE 1u
#define NO   2u /* no right */
#define RD   4u
#define WR   8u
#define GROW 16u /* below a stack, which may grow over it */

struct cell {
    uint64_t value[VALUES];
    unsigned nr;     /* of values that may be there */
    unsigned unsure; /* calls under way that change it */
    unsigned seq;    /* changes so far */
    unsigned states, base, outcome, changing;
    struct cell *link[2]; /* these get its values too, while it is cloned or moved */
    unsigned freeing;     /* MM_ADVICE_FREE is under way */
    bool given;           /* MM_ADVICE_FREE gave it up, and nobody stored since */
    bool reclaiming;
    bool wired;
};

/** What a CPU's call may find, from when it began. */
struct looking {
    struct cell *cell;
    struct cell seen; /* its states and values */
};

enum what {
    DONE,
    STORE,    /* user code stores to `page` of `space`, through faults */
    LOAD,     /* the same, a load */
    MAP,      /* `nr` pages at `page`, read and write */
    REPLACE,  /* the same, whatever is there */
    MAP_ANY,  /* `nr` pages anywhere */
    UNMAP,    /* `nr` pages from `page` on */
    PROTECT,  /* the same, to `arg` */
    ADVISE,   /* the same, `arg` */
    RECLAIM,  /* all that was given up */
    CLONE,    /* into space number `arg` */
    HOLD,     /* one reference more */
    PUT,      /* one less */
    WRITE,    /* from outside; `arg` is flags */
    READ,     /* the same */
    REMAP,    /* `nr` pages from `page` to page `arg` */
    WIRE,     /* `nr` pages from `page` on */
    UNWIRE,   /* the same */
    BRK,      /* to `arg` pages of heap */
    LIMIT,    /* `arg` pages resident; 0: no limit */
    ENTER,    /* the CPU runs in it */
    LEAVE,    /* in none */
    PIN,      /* for a device: after a store, as a driver does */
    DMA,      /* the device stores there */
    UNPIN,    /* it is done */
    COUNT,    /* the statistics */
    RESIDENT, /* what is there, of `nr` pages */
    CHECK,    /* the space's own check */
    ALONE,    /* look twice under the lock: nothing changes */
};

struct step {
    enum what what;
    unsigned space, page, nr, arg;
};

struct space_world {
    struct t_ram *ram;
    struct mm_boot_entry entries[16];
    struct mm_bootmap map;
    struct mm_frames frames;
    struct mm_x86_64 arch;
    struct mm_tlb tlb;
    struct mm_tlb_cpu tlb_cpu[T_SCHEDULE_CPUS];
    struct mm_pagetable kernel;
    struct mm_page_range range;
    struct mm_pool pool;
    struct mm_spaces spaces;
    struct mm_space_group group;
    uint64_t nr_free_at_start;
    uint64_t nr_stores;
    struct mm_space *of[SPACES];
    struct mm_pagetable *table[SPACES]; /* theirs */
    unsigned puts[SPACES]; /* references that the end of the run has to drop; 0: gone */
    unsigned freed[SPACES];
    unsigned bound[SPACES]; /* pages that may be there; 0: any number */
    uint64_t nr_faults[SPACES];
    struct cell cells[SPACES][PAGES];
    struct looking looking[T_SCHEDULE_CPUS];
    unsigned seq[T_SCHEDULE_CPUS][PAGES];
    uint64_t any[T_SCHEDULE_CPUS], any_len[T_SCHEDULE_CPUS]; /* where MAP_ANY put them */
    unsigned inside[SPACES]; /* a callback that has the lock alone */
    mm_pfn_t pinned;         /* 0: nothing */
    unsigned pinned_cell[2];
    unsigned group_pages; /* its limit; 0: none */
    bool limited;         /* MM_FAULT_LIMIT and MM_ERR_LIMIT may be */
    bool short_of_memory; /* MM_FAULT_NO_MEMORY and MM_ERR_NO_MEMORY may be */
    bool wanders;         /* the CPU's number is another each time */
    unsigned nr_asked;
    bool with_block;
    mm_pfn_t block;
    uint64_t in_block[BLOCK_FRAMES]; /* the first words of its frames */
    /* The machine. */
    unsigned loaded[T_SCHEDULE_CPUS]; /* number of a space; SPACES: none */
    unsigned off[T_SCHEDULE_CPUS];    /* interrupts: how often they were forbidden */
    bool pending[T_SCHEDULE_CPUS];
    uint32_t nr_rung; /* interrupts sent */
    bool racing, interrupted, delayed, plainly;
    struct step steps[T_SCHEDULE_CPUS][STEPS];
    void *at_start, *ram_at_start;
    unsigned nr_cpus;
    _Alignas(4096) unsigned char metadata[16 * 4096];
    _Alignas(4096) unsigned char pages[POOL_PAGES * 4096];
    struct t_cpus cpus; /* the last: only as many as there are are put back */
};

static struct space_world *w;

static inline uint64_t place(unsigned page)
{
    static const uint64_t in_huge[4] = {0, 1, 256, 511};

    return page < FAR     ? UINT64_C(0x10000000) + page * PAGE
           : page < HUGE  ? UINT64_C(0x7f0000000000) + (page - FAR) * PAGE
           : page < STACK ? UINT64_C(0x40000000) + in_huge[page - HUGE] * PAGE
           : page < HEAP  ? UINT64_C(0x60000000) + (page - STACK) * PAGE
                          : UINT64_C(0x20000000) + (page - HEAP) * PAGE;
}

static inline struct mm_vrange range_of(unsigned page, unsigned nr)
{
    return mm_vrange(mm_vaddr(place(page)), place(page + nr - 1) + PAGE - place(page));
}

static inline size_t world_size(void)
{
    return offsetof(struct space_world, cpus) + offsetof(struct t_cpus, cpu) +
           w->nr_cpus * sizeof(struct t_cpu);
}

static inline void must(mm_status_t status)
{
    if (status != MM_OK) {
        t_schedule_fail("status %s", mm_status_str(status));
    }
}

/* ---- the hardware ------------------------------------------------------------------------------ */

static inline unsigned this_cpu(void)
{
    if (w->racing) {
        w->cpus.now = t_schedule_cpu();
    }
    return w->cpus.now;
}

static inline void take_interrupt(unsigned cpu)
{
    if (w->off[cpu] == 0) {
        w->off[cpu]++;
        w->pending[cpu] = false;
        mm_tlb_service(&w->tlb);
        w->off[cpu]--;
    }
}

static inline void *on_this_cpu(void)
{
    t_schedule_point();
    (void)this_cpu();
    return &w->cpus;
}

static inline struct mm_x86_64_cpuid world_cpuid(void *ctx, uint32_t leaf, uint32_t subleaf)
{
    (void)ctx;
    return t_cpu_ops.cpuid(on_this_cpu(), leaf, subleaf);
}

static inline uint64_t world_read_msr(void *ctx, uint32_t msr)
{
    (void)ctx;
    return t_cpu_ops.read_msr(on_this_cpu(), msr);
}

static inline void world_write_msr(void *ctx, uint32_t msr, uint64_t value)
{
    (void)ctx;
    t_cpu_ops.write_msr(on_this_cpu(), msr, value);
}

static inline uint64_t world_read_cr(void *ctx, unsigned cr)
{
    (void)ctx;
    (void)this_cpu();
    return t_cpu_ops.read_cr(&w->cpus, cr);
}

static inline void world_write_cr(void *ctx, unsigned cr, uint64_t value)
{
    (void)ctx;
    t_cpu_ops.write_cr(on_this_cpu(), cr, value);
}

static inline void world_invlpg(void *ctx, uint64_t at)
{
    (void)ctx;
    t_cpu_ops.invlpg(on_this_cpu(), at);
}

static inline void world_invpcid(void *ctx, uint64_t type, uint64_t pcid, uint64_t at)
{
    (void)ctx;
    t_cpu_ops.invpcid(on_this_cpu(), type, pcid, at);
}

static const struct mm_x86_64_cpu_ops world_cpu_ops = {
    world_cpuid,    world_read_msr, world_write_msr, world_read_cr,
    world_write_cr, world_invlpg,   world_invpcid};

static inline bool world_is_free(void *ctx, uint64_t paddr)
{
    bool was = t_events_quiet(true);
    bool ours = (paddr >= RAM_START && paddr < RAM_END) ||
                (w->with_block && paddr >= BLOCK_AT && paddr < RAM_START);
    bool free = ours && mm_frame_refs(&w->frames, mm_pfn(paddr / PAGE)) == 0;

    (void)ctx;
    (void)t_events_quiet(was);
    return free;
}

/* ---- ops --------------------------------------------------------------------------------------- */

uint32_t __tsan_atomic32_fetch_add(volatile uint32_t *at, uint32_t v, int order);
uint32_t __tsan_atomic32_load(const volatile uint32_t *at, int order);

/* The turn looks for interrupts too: who has looked at one word alone may sleep until it changes. */
static inline void world_relax(void *ctx)
{
    unsigned cpu = this_cpu();

    (void)ctx;
    /* Before the race, all CPUs serve who prepares it. */
    for (unsigned i = 0; !w->racing && i < w->nr_cpus; i++) {
        w->cpus.now = i;
        take_interrupt(i);
        w->cpus.now = cpu;
    }
    (void)__tsan_atomic32_load(&w->nr_rung, __ATOMIC_RELAXED);
    if (w->pending[cpu]) {
        take_interrupt(cpu);
    }
    t_schedule_turn();
}

static inline uint32_t world_this_cpu(void *ctx)
{
    (void)ctx;
    return this_cpu();
}

/* A hint, which may be wrong a moment later. */
static inline uint32_t world_cpu_number(void *ctx)
{
    (void)ctx;
    t_schedule_point();
    return w->wanders && w->racing ? w->nr_asked++ % 5 : this_cpu();
}

/* An event, so that it wakes who waits. */
static inline void world_interrupt(void *ctx, const struct mm_cpu_mask *cpus)
{
    (void)ctx;
    for (unsigned i = 0; i < w->nr_cpus; i++) {
        if (((cpus->bits[0] >> i) & 1) != 0) {
            w->pending[i] = true;
        }
    }
    (void)__tsan_atomic32_fetch_add(&w->nr_rung, 1, __ATOMIC_RELAXED);
}

static inline uintptr_t world_interrupt_save(void *ctx)
{
    (void)ctx;
    return (uintptr_t)w->off[this_cpu()]++;
}

static inline void world_interrupt_restore(void *ctx, uintptr_t saved)
{
    unsigned cpu = this_cpu();

    (void)ctx;
    w->off[cpu]--;
    if (w->off[cpu] != saved) {
        t_schedule_fail("interrupts are not as they were");
    }
}

static inline struct mm_platform world_platform(void)
{
    static const struct mm_platform_ops ops = {.panic = t_race_panic,
                                               .log = t_race_log,
                                               .event = t_race_event,
                                               .cpu_number = world_cpu_number,
                                               .relax = world_relax,
                                               .interrupt_save = world_interrupt_save,
                                               .interrupt_restore = world_interrupt_restore};
    struct mm_platform platform = {&ops, NULL};

    return platform;
}

/* ---- what the tables say, without a point ------------------------------------------------------- */

/* The leaf of a page, whatever it allows; 0 or where the page is. */
static inline uint64_t leaf_of(unsigned space, unsigned page, mm_prot_t *prot)
{
    bool was = t_events_quiet(true);
    struct mm_mapping leaf;
    mm_status_t status = mm_paging_translate(w->table[space], mm_vaddr(place(page)), &leaf);

    (void)t_events_quiet(was);
    *prot = status == MM_OK ? leaf.prot : MM_PROT_NONE;
    return status == MM_OK ? leaf.paddr.raw + (place(page) - leaf.page.start.raw) : 0;
}

/* What a page holds; nothing there: zero. */
static inline uint64_t peek(unsigned space, unsigned page)
{
    mm_prot_t prot;
    uint64_t paddr = leaf_of(space, page, &prot);

    return paddr == 0 ? 0 : *(uint64_t *)t_ram_ptr(w->ram, paddr);
}

static inline unsigned nr_there(unsigned space)
{
    mm_prot_t prot;
    unsigned nr = 0;

    for (unsigned page = 0; page < PAGES; page++) {
        nr += leaf_of(space, page, &prot) != 0 ? 1 : 0;
    }
    return nr;
}

/* ---- the model --------------------------------------------------------------------------------- */

static inline struct cell *cell_of(unsigned space, unsigned page)
{
    return &w->cells[space][page];
}

static inline bool has_value(const struct cell *c, uint64_t value)
{
    for (unsigned i = 0; i < c->nr; i++) {
        if (c->value[i] == value) {
            return true;
        }
    }
    return false;
}

static inline void put_value(struct cell *c, uint64_t value)
{
    if (!has_value(c, value)) {
        if (c->nr == VALUES) {
            t_schedule_fail("the script makes more values than the model has room for");
        }
        c->value[c->nr++] = value;
    }
}

static inline void may_see(struct cell *c, unsigned states, const uint64_t *value)
{
    c->states |= states;
    if (value != NULL) {
        put_value(c, *value);
    }
    for (unsigned i = 0; i < w->nr_cpus; i++) {
        if (w->looking[i].cell == c) {
            w->looking[i].seen.states |= states;
            if (value != NULL) {
                put_value(&w->looking[i].seen, *value);
            }
        }
    }
}

/* A value that may be there from now on: also for whoever looks just now, and where the page is
 * copied or moved to. */
static inline void add_value(struct cell *c, uint64_t value)
{
    may_see(c, 0, &value);
    for (unsigned i = 0; i < 2; i++) {
        if (c->link[i] != NULL) {
            may_see(c->link[i], 0, &value);
        }
    }
}

static inline void add_states(struct cell *c, unsigned states)
{
    may_see(c, states, NULL);
    for (unsigned i = 0; i < 2; i++) {
        if (c->link[i] != NULL) {
            may_see(c->link[i], states, NULL);
        }
    }
}

static inline void link_cell(struct cell *c, struct cell *to)
{
    c->link[c->link[0] == NULL ? 0 : 1] = to;
}

static inline void unlink_cell(struct cell *c, const struct cell *to)
{
    c->link[c->link[0] == to ? 0 : 1] = NULL;
}

static inline void only_value(struct cell *c, uint64_t value)
{
    add_value(c, value);
    c->value[0] = value;
    c->nr = 1;
}

/* A page that nobody is changing holds one value from now on. */
static inline void settle_value(unsigned space, unsigned page, const char *after)
{
    struct cell *c = cell_of(space, page);
    uint64_t value = peek(space, page);

    if (c->unsure != 0) {
        return;
    }
    if (!has_value(c, value)) {
        t_schedule_fail("after %s, space %u has 0x%llx in its page %u", after, space,
                        (unsigned long long)value, page);
    }
    only_value(c, value);
}

/* A call begins that changes what a page holds to `value`, at some moment. */
static inline void change_begins(unsigned cpu, unsigned space, unsigned page, uint64_t value)
{
    struct cell *c = cell_of(space, page);

    c->unsure++;
    add_value(c, value);
    w->seq[cpu][page] = ++c->seq;
}

/* It has ended. If nobody else changed the page, the value must be there. */
static inline void change_ends(unsigned cpu, unsigned space, unsigned page, uint64_t value,
                               bool done)
{
    struct cell *c = cell_of(space, page);

    c->unsure--;
    if (done && c->unsure == 0 && c->seq == w->seq[cpu][page] && peek(space, page) != value) {
        t_schedule_fail("space %u has 0x%llx in its page %u, where 0x%llx must be", space,
                        (unsigned long long)peek(space, page), page, (unsigned long long)value);
    }
    c->seq++;
    settle_value(space, page, "a change");
}

/* A call begins that makes a page's region this. */
static inline void edit_begins(unsigned space, unsigned page, unsigned states)
{
    struct cell *c = cell_of(space, page);

    if (c->changing++ == 0) {
        c->base = c->states;
        c->outcome = 0;
    }
    add_states(c, states);
}

static inline void edit_ends(unsigned space, unsigned page, unsigned states, bool done)
{
    struct cell *c = cell_of(space, page);

    c->outcome |= done ? states : 0;
    if (--c->changing == 0) {
        c->states = c->outcome != 0 ? c->outcome : c->base;
    }
}

static inline void look_begins(unsigned cpu, unsigned space, unsigned page)
{
    w->looking[cpu].cell = cell_of(space, page);
    w->looking[cpu].seen = *cell_of(space, page);
}

static inline const struct cell *look_ends(unsigned cpu)
{
    w->looking[cpu].cell = NULL;
    return &w->looking[cpu].seen;
}

static inline uint64_t stamp(unsigned space, unsigned page)
{
    return UINT64_C(0x5e00000000000000) | (uint64_t)space << 40 | (uint64_t)page << 32 |
           ++w->nr_stores;
}

/* ---- what holds at every moment ------------------------------------------------------------------ */

static inline void check_limits(void)
{
    unsigned sum = 0;

    for (unsigned space = 0; space < SPACES; space++) {
        unsigned nr =
            w->puts[space] != 0 && (w->limited || w->bound[space] != 0) ? nr_there(space) : 0;

        if (w->bound[space] != 0 && nr > w->bound[space]) {
            t_schedule_fail("space %u has %u pages of %u", space, nr, w->bound[space]);
        }
        sum += nr;
    }
    if (w->group_pages != 0 && sum > w->group_pages) {
        t_schedule_fail("the group has %u pages of %u", sum, w->group_pages);
    }
}

static inline void check_always(void)
{
    const char *wrong = t_cpus_sweep(&w->cpus, T_SWEEP_FREED);
    mm_prot_t prot;

    if (wrong != NULL) {
        t_schedule_fail("%s", wrong);
    }
    check_limits();
    for (unsigned space = 0; space < SPACES; space++) {
        for (unsigned page = 0; page < PAGES; page++) {
            if (w->cells[space][page].wired && leaf_of(space, page, &prot) == 0) {
                t_schedule_fail("page %u of space %u is wired, and not there", page, space);
            }
        }
    }
}

#endif
