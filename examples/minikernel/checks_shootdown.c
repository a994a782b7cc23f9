// SPDX-License-Identifier: MIT
//
// Unmapping on several processors: a stress, in which all of them map, touch and unmap pages of the
// kernel's and of users' page tables that several are in, and hand frames on to each other. On one
// processor the same runs, and there is nobody to interrupt.
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
#define STEPS          2400 // of all processors; the option stress= says otherwise
#define STEPS_TOGETHER 250  // after so many the fast wait for the slow
#define STEPS_ALIKE    32   // so long interrupts stay on, or off
#define LOOKS          4    // in one step; and tries to seal a page

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
    uint32_t few = 1 + (r >> 16 & 15);
    struct arena *seen = (r >> 20 & 3) != 0 ? w->in : &arenas[0];
    struct arena *any = (r >> 24 & 3) != 0 ? seen : &arenas[(r >> 32) % NR_ARENAS];
    uint32_t what = r % 64;

    if (what < 24) {
        for (uint32_t i = 0; i < LOOKS; i++) {
            arena_look(seen, w, (slot + i * few) % ARENA_SLOTS);
        }
    } else if (what < 36) {
        arena_store(seen, w, slot);
    } else if (what < 46) {
        arena_fill(any, w, slot, few);
    } else if (what < 51) {
        arena_drop(any, w, slot, few / 2 + 1, (r >> 28 & 1) != 0, NULL);
    } else if (what < 52) {
        arena_drop(any, w, 0, ARENA_SLOTS, (r >> 28 & 1) != 0,
                   NULL); // all are too many for one by one
    } else if (what < 56) {
        hand_on(any, w, slot);
    } else if (what < 59) {
        for (uint32_t i = 0; i < LOOKS; i++) { // where there is no page, none is sealed
            arena_seal(any, w, (slot + i * few) % ARENA_SLOTS);
        }
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

void checks_shootdown(struct memory *m, const struct options *options)
{
    uint64_t steps = options->stress != 0 ? options->stress : STEPS;

    check_theme("unmapping on all processors");
    memory = m;
    nr_steps = (uint32_t)(steps / smp_nr());
    check_stress();
}
