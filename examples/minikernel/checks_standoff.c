// SPDX-License-Identifier: MIT
//
// Standoffs: processors wait for each other in every way that must not end in a deadlock. A kernel
// that hangs here fails by the time limit of the test.
//
// Each processor has a page of the kernel's root, and all have all of these cached: from a barrier to
// a barrier all pages are there, then none is.

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
#include "smp.h"
#include "trap.h"

#define ROUNDS          32 // of a standoff, divided among the processors
#define STEPS_FOR_ROUND 80 // of the option stress=, for one of these
#define CALLS           8  // handlers that unmap, for one round
#define SLOTS_OF_CALL   4
#define TURNS_OF_CALL   100

static struct memory *memory;
static struct lock table_lock;
static struct lock held; // across the end of gathers: who spins for it serves
static mm_pfn_t frames[PERCPU_MAX];
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
                       mm_pfn_addr(frames[cpu]), MM_PROT_RW | MM_PROT_GLOBAL, MM_MEMTYPE_WB, 0),
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

// ---- ways to end a gather ---------------------------------------------------------------------------

typedef void (*standoff_fn)(uint32_t cpu, uint32_t round);

// All at once, with interrupts off.
static void at_once(uint32_t cpu, uint32_t round)
{
    (void)round;
    unmap_mine(cpu);
}

// One by one under a lock, for which the others spin with interrupts off; the holder has them on or
// off.
static void under_a_lock(uint32_t cpu, uint32_t round)
{
    lock_take(&held);
    if (round % 2 == 0) {
        cpu_interrupts_on();
    }
    unmap_mine(cpu);
    cpu_interrupts_off();
    lock_give(&held);
}

// Some under the lock, some not, and some come to it after.
static void mixed(uint32_t cpu, uint32_t round)
{
    uint32_t part = (cpu + round) % 3;

    if (part == 0) {
        unmap_mine(cpu);
        lock_take(&held);
        lock_give(&held);
    } else if (part == 1) {
        under_a_lock(cpu, round);
    } else {
        cpu_interrupts_on();
        unmap_mine(cpu);
        cpu_interrupts_off();
    }
}

static void standoff(void *ctx, uint32_t cpu)
{
    const standoff_fn *how = ctx;

    for (uint32_t round = 0; round < nr_rounds; round++) {
        map_mine(cpu);
        smp_barrier();
        for (uint32_t other = 0; other < smp_nr(); other++) {
            (void)probe_get(page_of(other));
        }
        smp_barrier();
        (*how)(cpu, round);
        smp_barrier();
        for (uint32_t other = 0; other < smp_nr(); other++) {
            atomic_fetch_add(&nr_stale, !probe_unmapped(page_of(other)));
        }
        smp_barrier();
    }
}

static uint64_t nr_shootdowns(void)
{
    struct mm_tlb_stats stats = {0};

    must(mm_tlb_get_stats(&memory->tlb, &stats), "what flushes came to");
    return stats.nr_shootdowns;
}

static void check_standoff(const char *name, standoff_fn how)
{
    uint64_t nr_gathers = (uint64_t)smp_nr() * nr_rounds;
    uint64_t nr = nr_shootdowns();

    atomic_store(&nr_stale, 0);
    smp_run(standoff, &how);
    nr = nr_shootdowns() - nr;
    log_print("  standoff: %lu gathers, %lu shootdowns, %u stale\n", nr_gathers, nr,
              atomic_load(&nr_stale));
    // Some need not wait: all others have seen what came after by then.
    CHECK(name, atomic_load(&nr_stale) == 0 && (smp_nr() == 1 || nr > nr_gathers / 2));
}

// ---- handlers that unmap ----------------------------------------------------------------------------

// The first processor is interrupted by the second, in the midst of a gather or of anything, and
// unmaps in the handler what all others look at. Only the handler edits that page table.
static struct mm_pagetable table;
static struct arena arena;
static struct worker handler;
static atomic_uint nr_called;
static atomic_uint done;

static void on_call(void)
{
    if (atomic_load(&nr_called) % 2 == 0) {
        arena_fill(&arena, &handler, 0, SLOTS_OF_CALL);
    } else {
        arena_drop(&arena, &handler, 0, SLOTS_OF_CALL, true, NULL);
    }
    atomic_fetch_add(&nr_called, 1);
}

static void call_first(unsigned *seen)
{
    if (atomic_load(&nr_called) != *seen) {
        *seen = atomic_load(&nr_called);
        apic_interrupt(percpus[0].apic_id, TRAP_CALL);
    }
}

static void be_called(void *ctx, uint32_t cpu)
{
    struct worker self = {.cpu = cpu, .random = cpu};
    unsigned seen = UINT32_MAX;

    (void)ctx;
    must(mm_paging_activate(&table), "switch to a user's root");
    smp_barrier();
    cpu_interrupts_on();
    if (cpu == 0) {
        while (atomic_load(&nr_called) < CALLS * nr_rounds) {
            map_mine(0);
            unmap_mine(0);
        }
        atomic_store(&done, 1);
    }
    while (atomic_load(&done) == 0) {
        arena_look(&arena, &self, self.random % SLOTS_OF_CALL);
        if (cpu == 1) {
            call_first(&seen);
        }
    }
    cpu_interrupts_off();
    smp_barrier(); // nobody calls any more,
    if (cpu == 0) {
        cpu_interrupts_on(); // and a call that is still on its way comes now
        for (int i = 0; i < TURNS_OF_CALL; i++) {
            cpu_relax();
        }
        cpu_interrupts_off();
    }
    must(mm_paging_leave(&memory->kernel), "back to the kernel's root");
}

static void check_handlers(void)
{
    unsigned nr_wrong = arena_nr_wrong();

    handler = (struct worker){.cpu = 0};
    atomic_store(&nr_called, 0);
    atomic_store(&done, 0);
    must(mm_paging_init_user(&table, &memory->kernel), "a user's root");
    arena_open(&arena, memory, 1, &table, mm_vaddr(MM_SIZE_1G));
    memory->on_release = arena_on_release;
    trap_set_interrupt(TRAP_CALL, on_call);
    smp_run(be_called, NULL);
    arena_close(&arena, &handler);
    memory->on_release = NULL;
    must(mm_paging_destroy(&table), "end of a user's root");
    log_print("  standoff: %u handlers in the midst of others, %lu pages unmapped\n",
              atomic_load(&nr_called), handler.counts[ARENA_DROPPED]);
    CHECK("a handler ends a gather in the midst of another",
          arena_nr_wrong() == nr_wrong && handler.counts[ARENA_DROPPED] > nr_rounds);
}

void checks_standoff(struct memory *m, const struct options *options)
{
    uint64_t rounds = options->stress != 0 ? options->stress / STEPS_FOR_ROUND : ROUNDS;
    uint64_t nr_free = memory_nr_free(m);

    memory = m;
    nr_rounds = (uint32_t)(rounds / smp_nr()) + 1;
    for (uint32_t cpu = 0; cpu < smp_nr(); cpu++) {
        must(mm_frame_alloc(&m->frames, NULL, &frames[cpu]), "a frame");
    }
    check_standoff("all end a gather at once, with interrupts off", at_once);
    check_standoff("who spins for an initiator's lock with interrupts off serves", under_a_lock);
    check_standoff("initiators with and without a lock, interrupts on and off", mixed);
    if (smp_nr() > 1) {
        check_handlers();
    }
    for (uint32_t cpu = 0; cpu < smp_nr(); cpu++) {
        mm_frame_free(&m->frames, frames[cpu], 0);
    }
    CHECK("standoffs return their frames", memory_nr_free(m) == nr_free);
}
