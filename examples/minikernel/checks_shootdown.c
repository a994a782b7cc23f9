// SPDX-License-Identifier: MIT
//
// Unmapping on several processors: a stress, in which all of them map, touch and unmap pages of the
// kernel's and of users' page tables that several are in, and hand frames on to each other; and
// standoffs, in which processors wait for each other in every way that must not end in a deadlock.
// On one processor the same runs, and there is nobody to interrupt.
//
// Which processor does what in which order is up to the machine: a seed gives a similar run again.

#include <stddef.h>

#include "apic.h"
#include "arena.h"
#include "check.h"
#include "checks.h"
#include "cpu.h"
#include "layout.h"
#include "log.h"
#include "percpu.h"
#include "probe.h"
#include "random.h"
#include "smp.h"

#define SEED           UINT64_C(0x73686f6f74)
#define STEPS          2000 // of each processor; the option stress= says otherwise
#define STEPS_TOGETHER 250  // after so many the fast wait for the slow
#define STEPS_ALIKE    32   // so long interrupts stay on, or off
#define ROUNDS         60   // of each standoff, by stress= in proportion

#define NR_ARENAS  11 // the kernel's, and users': more than a processor keeps translations of
#define USER_BASE  (UINT64_C(3) << 36)
#define NR_MAILBOX 16

static struct memory *memory;
static struct arena arenas[NR_ARENAS];
static struct mm_pagetable tables[NR_ARENAS]; // the first is not used: the kernel has its own
static struct worker workers[PERCPU_MAX];
static _Atomic uint64_t mailbox[NR_MAILBOX];
static uint32_t nr_steps;

// ---- the stress -------------------------------------------------------------------------------------

static void enter(struct worker *w, struct arena *arena)
{
    w->in = arena;
    w->counts[ARENA_SWITCHED]++;
    if (arena->user) {
        must(mm_paging_activate(arena->pt), "switch to a user's root");
    } else {
        must(mm_paging_leave(arena->pt), "back to the kernel's root");
    }
}

// A frame goes into the mailbox, and the one that was there comes out.
static void hand_on(struct arena *arena, struct worker *w, uint32_t slot)
{
    mm_pfn_t kept = {0};

    arena_drop(arena, w, slot, 1, false, &kept);
    if (kept.raw == 0) {
        return;
    }
    uint64_t other = atomic_exchange(&mailbox[random_next(&w->random) % NR_MAILBOX], kept.raw);
    if (other != 0) {
        arena_receive(memory, w, mm_pfn(other));
    }
}

// Accesses are to the kernel's pages, or to those of the user that is loaded; edits are anywhere.
static void step(struct worker *w)
{
    uint64_t r = random_next(&w->random);
    uint32_t slot = r >> 8 & (ARENA_SLOTS - 1);
    uint32_t few = 1 + (r >> 16 & 7);
    struct arena *seen = (r >> 20 & 3) != 0 ? w->in : &arenas[0];
    struct arena *any = (r >> 24 & 3) != 0 ? seen : &arenas[(r >> 32) % NR_ARENAS];
    uint32_t what = r % 64;

    if (what < 24) {
        arena_look(seen, w, slot);
    } else if (what < 36) {
        arena_store(seen, w, slot);
    } else if (what < 46) {
        arena_fill(any, w, slot, few);
    } else if (what < 51) {
        arena_drop(any, w, slot, few, (r >> 28 & 1) != 0, NULL);
    } else if (what < 52) {
        arena_drop(any, w, 0, ARENA_SLOTS, (r >> 28 & 1) != 0, NULL); // all are too many for one by one
    } else if (what < 56) {
        hand_on(any, w, slot);
    } else if (what < 59) {
        arena_seal(any, w, slot);
    } else {
        enter(w, &arenas[(r >> 40) % NR_ARENAS]);
    }
}

static void work(void *ctx, uint32_t cpu)
{
    struct worker *w = &workers[cpu];

    (void)ctx;
    *w = (struct worker){.cpu = cpu, .random = SEED + cpu, .in = &arenas[0]};
    for (w->step = 0; w->step < nr_steps; w->step++) {
        if (w->step % STEPS_TOGETHER == 0) {
            smp_barrier();
        }
        if (w->step % STEPS_ALIKE == 0) {
            if ((w->step / STEPS_ALIKE + cpu) % 2 == 0) {
                cpu_interrupts_on();
            } else {
                cpu_interrupts_off();
            }
        }
        step(w);
    }
    cpu_interrupts_off();
    enter(w, &arenas[0]);
    smp_barrier();
}

// ---- what it came to --------------------------------------------------------------------------------

static const char *const count_names[ARENA_NR_COUNTS] = {
    "filled", "dropped", "looked", "missed", "stored", "refused", "sealed", "received", "switched",
};

static uint64_t totals[ARENA_NR_COUNTS];

static void print_counts(const char *who, const uint64_t *counts, uint64_t nr_sent,
                         uint64_t nr_taken)
{
    log_begin();
    log_print("  %5s", who);
    for (unsigned i = 0; i < ARENA_NR_COUNTS; i++) {
        log_print(" %8lu", counts[i]);
    }
    log_print(" %8lu %8lu\n", nr_sent, nr_taken);
    log_end();
}

struct interrupts {
    uint64_t sent[PERCPU_MAX];
    uint64_t taken[PERCPU_MAX];
};

static struct interrupts count_interrupts(void)
{
    struct interrupts now = {{0}, {0}};

    for (uint32_t cpu = 0; cpu < smp_nr(); cpu++) {
        now.sent[cpu] = shootdown_nr_sent(cpu);
        now.taken[cpu] = percpus[cpu].nr_interrupts;
    }
    return now;
}

static void print_table(const struct interrupts *before)
{
    struct interrupts now = count_interrupts();
    uint64_t nr_sent = 0;
    uint64_t nr_taken = 0;
    char name[] = "00";

    log_print("  stress: %u x %u steps, seed 0x%lx, %u page tables of %u pages\n", smp_nr(),
              nr_steps, (uint64_t)SEED, NR_ARENAS, ARENA_SLOTS);
    log_print("  %5s", "cpu");
    for (unsigned i = 0; i < ARENA_NR_COUNTS; i++) {
        log_print(" %8s", count_names[i]);
        totals[i] = 0;
    }
    log_print(" %8s %8s\n", "sent", "taken");
    for (uint32_t cpu = 0; cpu < smp_nr(); cpu++) {
        name[0] = cpu < 10 ? ' ' : (char)('0' + cpu / 10);
        name[1] = (char)('0' + cpu % 10);
        print_counts(name, workers[cpu].counts, now.sent[cpu] - before->sent[cpu],
                     now.taken[cpu] - before->taken[cpu]);
        for (unsigned i = 0; i < ARENA_NR_COUNTS; i++) {
            totals[i] += workers[cpu].counts[i];
        }
        nr_sent += now.sent[cpu] - before->sent[cpu];
        nr_taken += now.taken[cpu] - before->taken[cpu];
    }
    print_counts("all", totals, nr_sent, nr_taken);
}

static void print_stats(const struct mm_tlb_stats *s)
{
    log_print("  shootdowns %lu: interrupts %lu, left instead %lu; served %lu, %lu of them all at "
              "once, %lu pages; roots kept warm %lu, cold %lu\n",
              s->nr_shootdowns, s->nr_interrupts, s->nr_left, s->nr_served, s->nr_full, s->nr_pages,
              s->nr_asid_hits, s->nr_asid_misses);
}

static struct mm_tlb_stats stats_since(const struct mm_tlb_stats *before)
{
    struct mm_tlb_stats s = {0};

    must(mm_tlb_get_stats(&memory->tlb, &s), "what flushes came to");
    s.nr_shootdowns -= before->nr_shootdowns;
    s.nr_interrupts -= before->nr_interrupts;
    s.nr_left -= before->nr_left;
    s.nr_served -= before->nr_served;
    s.nr_full -= before->nr_full;
    s.nr_pages -= before->nr_pages;
    s.nr_asid_hits -= before->nr_asid_hits;
    s.nr_asid_misses -= before->nr_asid_misses;
    return s;
}

// Nobody stood by: each did a part of everything.
static bool all_worked(void)
{
    for (uint32_t cpu = 0; cpu < smp_nr(); cpu++) {
        for (unsigned i = 0; i < ARENA_NR_COUNTS; i++) {
            if (i != ARENA_RECEIVED && workers[cpu].counts[i] < nr_steps / 200) {
                log_print("  processor %u: %s only %lu times\n", cpu, count_names[i],
                          workers[cpu].counts[i]);
                return false;
            }
        }
    }
    return totals[ARENA_LOOKED] > smp_nr() * nr_steps / 20;
}

static bool all_interrupted(const struct interrupts *before)
{
    struct interrupts now = count_interrupts();

    for (uint32_t cpu = 0; cpu < smp_nr(); cpu++) {
        if (now.sent[cpu] == before->sent[cpu] || now.taken[cpu] == before->taken[cpu]) {
            return false;
        }
    }
    return true;
}

static void open_arenas(void)
{
    arena_open(&arenas[0], memory, 0, &memory->kernel, mm_vaddr(LAYOUT_WINDOW + MM_SIZE_1G));
    for (uint32_t i = 1; i < NR_ARENAS; i++) {
        must(mm_paging_init_user(&tables[i], &memory->kernel), "a user's root");
        arena_open(&arenas[i], memory, i, &tables[i], mm_vaddr(USER_BASE));
    }
}

static bool close_arenas(void)
{
    bool good = true;

    for (uint32_t i = 0; i < NR_MAILBOX; i++) {
        uint64_t frame = atomic_exchange(&mailbox[i], 0);
        if (frame != 0) {
            arena_receive(memory, &workers[0], mm_pfn(frame));
        }
    }
    for (uint32_t i = 0; i < NR_ARENAS; i++) {
        good = mm_paging_check(arenas[i].pt) == MM_OK && good;
        arena_close(&arenas[i], &workers[0]);
        if (i != 0) {
            must(mm_paging_destroy(&tables[i]), "end of a user's root");
        }
    }
    return good;
}

static void check_stress(void)
{
    uint64_t nr_free = memory_nr_free(memory);
    struct mm_tlb_stats stats = {0};
    struct interrupts before = count_interrupts();

    must(mm_tlb_get_stats(&memory->tlb, &stats), "what flushes came to");
    open_arenas();
    memory->on_release = arena_on_release;
    smp_run(work, NULL);
    print_table(&before);
    stats = stats_since(&stats);
    print_stats(&stats);
    CHECK("every processor mapped, touched and unmapped", all_worked());
    if (smp_nr() > 1) {
        CHECK("every processor interrupted others, and was interrupted",
              all_interrupted(&before) && totals[ARENA_RECEIVED] > 0 &&
                  stats.nr_shootdowns > nr_steps / 20 &&
                  stats.nr_interrupts >= stats.nr_shootdowns);
    }
    CHECK("tables are well formed after all that", close_arenas());
    CHECK("no access goes through a dead translation", arena_nr_wrong() == 0);
    memory->on_release = NULL;
    CHECK("frames of all arenas are back", memory_nr_free(memory) == nr_free);
}

// ---- standoffs --------------------------------------------------------------------------------------

// Each processor has a page of the kernel's root, and all of them have all of these cached.
static struct lock table_lock;
static struct lock held; // across the end of gathers: who spins for it serves
static mm_pfn_t standoff_frames[PERCPU_MAX];
static atomic_uint nr_stale;
static uint32_t nr_rounds;

static mm_vaddr_t page_of(uint32_t cpu)
{
    return mm_vaddr(LAYOUT_WINDOW + 2 * MM_SIZE_1G + cpu * MM_PAGE_SIZE);
}

static void map_mine(uint32_t cpu)
{
    lock_take(&table_lock);
    must(mm_paging_map(&memory->kernel, mm_vrange(page_of(cpu), MM_PAGE_SIZE),
                       mm_pfn_addr(standoff_frames[cpu]), MM_PROT_RW | MM_PROT_GLOBAL,
                       MM_MEMTYPE_WB, 0),
         "a page of each");
    lock_give(&table_lock);
}

static void unmap_mine(uint32_t cpu)
{
    struct mm_gather gather;

    must(mm_gather_begin(&gather, &memory->kernel), "gather");
    lock_take(&table_lock);
    must(mm_paging_unmap(&memory->kernel, mm_vrange(page_of(cpu), MM_PAGE_SIZE), 0, &gather),
         "a page of each");
    lock_give(&table_lock);
    mm_gather_end(&gather);
}

// From a barrier to a barrier: all pages are there, then none is.
static void standoff(uint32_t cpu, void (*how)(uint32_t cpu, uint32_t round))
{
    for (uint32_t round = 0; round < nr_rounds; round++) {
        map_mine(cpu);
        smp_barrier();
        for (uint32_t other = 0; other < smp_nr(); other++) {
            (void)probe_get(page_of(other));
        }
        smp_barrier();
        how(cpu, round);
        smp_barrier();
        for (uint32_t other = 0; other < smp_nr(); other++) {
            atomic_fetch_add(&nr_stale, !probe_unmapped(page_of(other)));
        }
        smp_barrier();
    }
}

// All end a gather at once, with interrupts off.
static void how_at_once(uint32_t cpu, uint32_t round)
{
    (void)round;
    unmap_mine(cpu);
}

// One by one under a lock, for which the others spin with interrupts off; the holder has them on.
static void how_under_lock(uint32_t cpu, uint32_t round)
{
    lock_take(&held);
    if (round % 2 == 0) {
        cpu_interrupts_on();
    }
    unmap_mine(cpu);
    cpu_interrupts_off();
    lock_give(&held);
}

// Both: some under the lock, some not, with interrupts on and off.
static void how_mixed(uint32_t cpu, uint32_t round)
{
    uint32_t part = (cpu + round) % 3;

    if (part == 0) {
        unmap_mine(cpu);
        lock_take(&held);
        lock_give(&held);
    } else if (part == 1) {
        how_under_lock(cpu, round);
    } else {
        cpu_interrupts_on();
        unmap_mine(cpu);
        cpu_interrupts_off();
    }
}

static void stand_off(void *ctx, uint32_t cpu)
{
    void (*const *how)(uint32_t cpu, uint32_t round) = ctx;

    standoff(cpu, *how);
}

static void check_standoff(const char *name, void (*how)(uint32_t cpu, uint32_t round))
{
    struct mm_tlb_stats stats = {0};

    atomic_store(&nr_stale, 0);
    must(mm_tlb_get_stats(&memory->tlb, &stats), "what flushes came to");
    smp_run(stand_off, &how);
    stats = stats_since(&stats);
    log_print("  standoff: %u x %u gathers, %lu shootdowns, %lu interrupts, %u stale\n", smp_nr(),
              nr_rounds, stats.nr_shootdowns, stats.nr_interrupts, atomic_load(&nr_stale));
    CHECK(name, atomic_load(&nr_stale) == 0 &&
                    (smp_nr() == 1 || stats.nr_shootdowns >= (uint64_t)smp_nr() * nr_rounds));
}

static void check_standoffs(void)
{
    for (uint32_t cpu = 0; cpu < smp_nr(); cpu++) {
        must(mm_frame_alloc(&memory->frames, NULL, &standoff_frames[cpu]), "a frame");
    }
    check_standoff("all end a gather at once, with interrupts off", how_at_once);
    check_standoff("who spins for an initiator's lock with interrupts off serves", how_under_lock);
    check_standoff("initiators with and without a lock, interrupts on and off", how_mixed);
    for (uint32_t cpu = 0; cpu < smp_nr(); cpu++) {
        mm_frame_free(&memory->frames, standoff_frames[cpu], 0);
    }
}

void checks_shootdown(struct memory *m, const struct options *options)
{
    check_theme("unmapping on all processors");
    memory = m;
    nr_steps = options->stress != 0 ? (uint32_t)options->stress : STEPS;
    nr_rounds = nr_steps * ROUNDS / STEPS;
    check_stress();
    check_standoffs();
}
