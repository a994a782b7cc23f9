// SPDX-License-Identifier: MIT
/**
 * The caches of a simulated CPU, for the files that make it up: sim_cpu.c executes instructions,
 * sim_cpu_caches.c keeps translations, sim_cpu_sweep.c compares them. Not for tests.
 */
#ifndef T_SIM_CPU_CACHES_H
#define T_SIM_CPU_CACHES_H

#include "sim_cpu.h"

/** Which translations an invalidation takes. */
enum t_drop {
    T_DROP_OWN,        /* of one PCID, without global ones */
    T_DROP_OWN_GLOBAL, /* of one PCID, and global ones of any */
    T_DROP_ALL_OWN,    /* of all PCIDs, without global ones */
    T_DROP_EVERYTHING,
};

/** TLB entries and all paging-structure caches, of every address. */
void t_caches_drop(struct t_cpu *cpu, enum t_drop which, unsigned pcid);

/** TLB entries of the page at an address: T_DROP_OWN or T_DROP_OWN_GLOBAL. */
void t_tlb_drop_page(struct t_cpu *cpu, uint64_t at, enum t_drop which, unsigned pcid);

/** Paging-structure caches of a PCID: all of them, or what a walk of an address would use. */
void t_psc_drop(struct t_cpu *cpu, unsigned pcid);
void t_psc_drop_at(struct t_cpu *cpu, uint64_t at, unsigned pcid);

/** CR3 was loaded with a PCID whose entries stay: none of them may be dead. */
void t_caches_wake(struct t_cpu *cpu, unsigned pcid);

/** Remember an address for speculation. */
static inline void t_cpus_remember(struct t_cpus *cpus, uint64_t at)
{
    cpus->recent[cpus->nr_recent++ % T_CPUS_RECENT] = at;
}

/** Fail the test, or be caught: as a panic of the room "cpu". */
_Noreturn void t_cpu_stop(const struct t_cpu *cpu, const char *what, uint64_t value);

/** Note a contradiction that is seen before the next sweep; the first one stays. */
void t_cpus_note(struct t_cpus *cpus, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
