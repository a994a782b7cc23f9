// SPDX-License-Identifier: MIT
//
// fork() under fire: the first processor clones a space in which all others store. No store that
// comes after the clone may reach the child, through a translation that was writable before; and no
// store of the parent may be lost while its pages are copied away.

#include <stdatomic.h>
#include <stddef.h>

#include "check.h"
#include "checks.h"
#include "cpu.h"
#include "log.h"
#include "percpu.h"
#include "random.h"
#include "smp.h"

#define PAGES           8
#define CLONES          4   // the option stress= says otherwise
#define STEPS_FOR_CLONE 600 // of that
#define STORES          4   // of each processor, before a clone
#define SUM_TURNS       500

static const mm_vaddr_t at = {UINT64_C(0x0000500000000000)};

static struct memory *memory;
static struct mm_space *parent;
static uint32_t nr_clones;
static atomic_uint nr_stores;
static atomic_uint nr_lost;
static atomic_uint done;
static uint32_t nr_leaked;

static mm_vaddr_t word_of(uint64_t page, uint32_t cpu)
{
    return mm_vaddr(at.raw + page * MM_PAGE_SIZE + cpu * MM_CACHE_LINE);
}

// One store of one's own word, of which nobody else knows a newer value.
static void store(uint32_t cpu, uint64_t page, uint64_t *values)
{
    uint64_t found = 0;
    uint64_t next = values[page] + 1;
    mm_vaddr_t word = word_of(page, cpu);

    must(mm_user_copy_in(&memory->user, &found, word, sizeof(found), NULL), "user memory");
    if (found != values[page]) {
        atomic_fetch_add(&nr_lost, 1);
    }
    must(mm_user_copy_out(&memory->user, word, &next, sizeof(next), NULL), "user memory");
    values[page] = next;
    atomic_fetch_add(&nr_stores, 1);
}

static void keep_storing(uint32_t cpu)
{
    uint64_t values[PAGES] = {0};
    uint64_t random = cpu;

    cpu_interrupts_on();
    while (atomic_load(&done) == 0) {
        store(cpu, random_next(&random) % PAGES, values);
    }
    cpu_interrupts_off();
}

static uint64_t sum(void)
{
    uint64_t sum = 0;

    for (uint64_t page = 0; page < PAGES; page++) {
        for (uint32_t cpu = 0; cpu < smp_nr(); cpu++) {
            uint64_t found = 0;
            must(mm_user_copy_in(&memory->user, &found, word_of(page, cpu), sizeof(found), NULL),
                 "user memory");
            sum = sum * 31 + found;
        }
    }
    return sum;
}

static void wait_for_stores(void)
{
    unsigned before = atomic_load(&nr_stores);

    while (smp_nr() > 1 && atomic_load(&nr_stores) - before < STORES * (smp_nr() - 1)) {
        cpu_relax();
    }
}

static void clone(void)
{
    struct mm_space *child;

    wait_for_stores();
    must(mm_space_clone(parent, &child), "a clone");
    memory_enter(memory, child);
    uint64_t first = sum();
    for (int i = 0; i < SUM_TURNS; i++) {
        cpu_relax();
    }
    wait_for_stores();
    nr_leaked += sum() != first;
    memory_enter(memory, parent);
    (void)mm_space_put(child);
}

static void work(void *ctx, uint32_t cpu)
{
    (void)ctx;
    memory_enter(memory, parent);
    smp_barrier();
    if (cpu == 0) {
        cpu_interrupts_on();
        for (uint32_t i = 0; i < nr_clones; i++) {
            clone();
        }
        cpu_interrupts_off();
        atomic_store(&done, 1);
    } else {
        keep_storing(cpu);
    }
    memory_enter(memory, NULL);
}

// One space from its beginning to its end.
static struct mm_space_stats live(uint32_t clones)
{
    struct mm_space_request request = {
        .at = at, .len = PAGES * MM_PAGE_SIZE, .prot = MM_PROT_RW, .flags = MM_SPACE_FIXED};
    struct mm_space_stats stats;
    mm_vaddr_t where;

    nr_clones = clones;
    atomic_store(&done, 0);
    must(mm_space_create(&memory->spaces, &parent), "a space");
    must(mm_space_map(parent, &request, &where), "a region");
    smp_run(work, NULL);
    must(mm_space_get_stats(parent, &stats), "statistics of a space");
    CHECK("the space is well formed after clones under fire", mm_space_check(parent) == MM_OK);
    (void)mm_space_put(parent);
    return stats;
}

// As in checks_space.c, the first life may leave memory with the caches of handles.
void checks_fork(struct memory *m, const struct options *options)
{
    uint32_t clones = options->stress != 0 ? (uint32_t)options->stress / STEPS_FOR_CLONE : CLONES;

    memory = m;
    (void)live(1);
    uint64_t nr_free = memory_nr_free(m);
    atomic_store(&nr_stores, 0);
    struct mm_space_stats stats = live(clones);
    log_print("  fork: %u clones under %u stores, %lu pages copied; %u stores leaked, %u lost\n",
              clones, atomic_load(&nr_stores), stats.nr_faults[MM_FAULT_COW], nr_leaked,
              atomic_load(&nr_lost));
    CHECK("stores of all processors stay in the parent, and none is lost",
          nr_leaked == 0 && atomic_load(&nr_lost) == 0 &&
              (smp_nr() == 1 || stats.nr_faults[MM_FAULT_COW] >= clones));
    CHECK("clones under fire return their frames", memory_nr_free(m) == nr_free);
}
