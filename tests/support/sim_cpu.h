// SPDX-License-Identifier: MIT
/**
 * A machine of 1 to 8 simulated x86-64 CPUs over one simulated RAM: registers, CPUID, and for each
 * CPU a TLB and paging-structure caches that keep what they have seen until the manual says that
 * it is gone (Intel SDM vol. 3A, chapter 4; sections named below are of it).
 *
 *                 t_cpu_access(): a load, a store, a fetch
 *                          |
 *        hit  <--  TLB: linear page -> frame, rights, type, dirty      tag: PCID, global
 *                          | miss, or a store through a clean entry
 *                          v
 *                 paging-structure caches: linear span -> table, rights so far     tag: PCID
 *                          | the deepest that matches, else CR3
 *                          v
 *                 t_mmu_walk_from(): the tables in RAM
 *
 * What is cached is used as it is, however stale. It goes by an instruction that the manual says
 * drops it (4.10.4.1), by a page fault at its address, or by chance: t_cpus_drift() evicts and
 * fills at random from a seeded generator, as a CPU may at any time (4.10.2.3, 4.10.3.1). It is
 * called by every access and every instruction, and a test may call it wherever hardware could act.
 *
 * t_cpus_sweep() compares all that is cached with the tables. t_cpus_freed() is to be told of each
 * frame at the moment when its allocator gets it back: nothing cached may lead there any more.
 *
 * An instruction that would raise #GP or #UD fails the test with a sentence that names it; it can
 * be caught with T_EXPECT_PANIC (trap.h), where the room is "cpu".
 *
 * One host thread uses a machine at a time; while no CPU has anything cached and there is no noise,
 * several may free frames and read registers.
 */
#ifndef T_SIM_CPU_H
#define T_SIM_CPU_H

#include "prng.h"
#include "sim_mmu.h"
#include "sim_ram.h"

#ifdef __cplusplus
extern "C" {
#endif

#define T_CPUS_MAX    8u
#define T_TLB_SETS    16u /* a power of two */
#define T_TLB_WAYS    4u
#define T_TLB_ENTRIES (T_TLB_SETS * T_TLB_WAYS) /* at most 64: one word says which are in use */
#define T_PSC_LEVELS  4u /* tables of levels 0 to 3 are led to by PDE, PDPTE, PML4E, PML5E */
#define T_PSC_WAYS    8u
#define T_PSC_ENTRIES (T_PSC_LEVELS * T_PSC_WAYS) /* at most 32 */
#define T_CPU_PCIDS   4096u
#define T_CPUS_RECENT 32u

/** What t_cpu_access() answers: one of these, or the error code of a page fault. */
#define T_CPU_DONE 0x80000000u
#define T_CPU_GP   0x40000000u /**< not canonical: a general-protection fault */

#define T_MSR_PAT  0x277u
#define T_MSR_EFER 0xc0000080u

/** PAT at reset: SDM vol. 3A, 12.12.4. */
#define T_PAT_RESET UINT64_C(0x0007040600070406)

/** What CPUID tells. A feature that is absent makes its bits reserved and its instruction
 * undefined. */
struct t_cpu_features {
    uint32_t max_basic;    /**< highest leaf */
    uint32_t max_extended; /**< 0x8000...; less: there are none */
    uint32_t paddr_bits;   /**< as CPUID tells; the CPU itself has 52 at most */
    bool nx, page_1g, pge, pat, pcid, invpcid, smep, smap, umip, la57, pku;
};

/** A CPU with everything that is modelled, and 46 bits of physical address. */
extern const struct t_cpu_features t_cpu_full;

/** Which entries of tables the sweep saw when it last compared a cached one. */
struct t_cpu_seen {
    uint32_t epoch; /* of the CPU then; 0: never */
    uint32_t nr;
    const uint64_t *slot[T_MMU_LEVELS];
    uint64_t value[T_MMU_LEVELS]; /* without accessed and dirty */
    uint64_t need;                /* bits that the last must have, whatever else */
};

/** A translation. A large leaf may be cached in pieces (4.10.2.3): `page` is the leaf's. */
struct t_tlb_entry {
    uint64_t start; /**< linear; of what this entry translates */
    uint64_t size;
    uint64_t paddr; /**< of `start` */
    uint64_t page;  /**< linear address of the leaf's first byte */
    uint16_t pcid;
    uint8_t level; /**< of the leaf: 0, 1, 2 */
    uint8_t type;
    uint8_t rights; /**< T_MMU_MAY_... */
    bool global;
    bool dirty;
    bool dead; /**< where it leads was freed while its PCID was not in use */
    struct t_cpu_seen seen;
};

/** A way into the middle of a walk. The array is by level of the table that it leads to. */
struct t_psc_entry {
    uint64_t start; /**< linear; of the span that the table covers */
    uint64_t table;
    uint16_t pcid;
    uint8_t rights; /**< of the entries on the way */
    bool dead;      /**< as above */
    struct t_cpu_seen seen;
};

struct t_cpus;

struct t_cpu {
    struct t_mmu mmu; /**< the registers; a test may set them as a boot loader would leave them */
    struct t_cpus *cpus;
    unsigned number;
    /* How often each instruction ran, and what became of accesses. */
    uint64_t nr_invlpg, nr_invpcid, nr_cr0, nr_cr3, nr_cr4, nr_msr;
    uint64_t nr_hits, nr_walks, nr_faults, nr_evicted, nr_speculated;
    /* The caches: which entries are in use, and the entries. */
    uint64_t tlb_used;
    uint32_t tlb_nr[3]; /* by level of the leaf */
    uint32_t psc_used;
    struct t_tlb_entry tlb[T_TLB_ENTRIES];
    struct t_psc_entry psc[T_PSC_ENTRIES];
    uint64_t roots[T_CPU_PCIDS]; /* CR3 of each PCID's last load; T_CPU_NO_ROOT */
    /* Of the sweep: what it was made with. */
    uint32_t epoch;
    uint64_t swept_freed;
    uint64_t swept_loads;
    struct t_mmu swept;
    uint64_t nr_loads; /* changes of `roots` */
};

#define T_CPU_NO_ROOT UINT64_MAX

struct t_cpus {
    unsigned nr;
    unsigned now; /**< the CPU that runs: whose instructions the ops table executes */
    struct t_cpu_features has;
    struct t_ram *ram;
    uint64_t base;             /* of its direct map */
    struct t_ram_range backed; /* where memory was found last */
    /** Whether the frame at an address is free; NULL: nobody knows. Memory that is no allocator's
     * is not free. */
    bool (*is_free)(void *ctx, uint64_t paddr);
    void *ctx;
    /** t_cpus_freed() is called for each frame that becomes free: the sweep need not ask again
     * while it was not. */
    bool told;
    /** What is cached under a PCID that is not in use, and not global, may be stale: it cannot be
     * used. It must be gone when CR3 is loaded with that PCID and bit 63 set. So a frame may be
     * freed that such an entry leads to; the entry is dead from then on, and a load that keeps it
     * is what is wrong. False: whatever is cached must be right, in use or not. */
    bool asleep;
    uint64_t nr_freed;
    struct t_prng prng;
    unsigned noise; /**< one chance in about so many is taken; 0: nothing happens by itself */
    unsigned wait;
    uint64_t recent[T_CPUS_RECENT]; /* addresses used: speculation is about these */
    unsigned nr_recent;
    char wrong[512]; /* the first contradiction */
    bool found;      /* one was found between two sweeps */
    struct t_cpu cpu[T_CPUS_MAX];
};

/**
 * CPUs after a boot loader: long mode, paging on, CR3 0, no extension enabled.
 *
 * @param nr    1 to T_CPUS_MAX
 * @param ram   NULL: there is no memory at all
 * @param has   copied; NULL: t_cpu_full
 */
void t_cpus_init(struct t_cpus *cpus, unsigned nr, struct t_ram *ram,
                 const struct t_cpu_features *has);

/** Other features than at the start; NULL: those in `has`, which the test has changed. */
void t_cpus_configure(struct t_cpus *cpus, const struct t_cpu_features *has);

/** Begin random eviction and speculation, the same for each run with this seed. */
void t_cpus_noise(struct t_cpus *cpus, uint64_t seed, unsigned noise);

/** One chance for eviction or a speculative walk on any CPU. */
void t_cpus_drift(struct t_cpus *cpus);

/* --- what software does ---------------------------------------------------------------------- */

/**
 * Make an access (T_MMU_WRITE, T_MMU_FETCH, T_MMU_USER, T_MMU_AC).
 *
 * @param[out] paddr  of the byte; NULL: who cares
 * @return T_CPU_DONE, T_CPU_GP, or the error code of a page fault
 */
uint32_t t_cpu_access(struct t_cpu *cpu, uint64_t at, unsigned access, uint64_t *paddr);

struct t_cpuid {
    uint32_t eax, ebx, ecx, edx;
};

struct t_cpuid t_cpu_cpuid(const struct t_cpu *cpu, uint32_t leaf, uint32_t subleaf);
uint64_t t_cpu_rdmsr(struct t_cpu *cpu, uint32_t msr);
void t_cpu_wrmsr(struct t_cpu *cpu, uint32_t msr, uint64_t value);
uint64_t t_cpu_read_cr(struct t_cpu *cpu, unsigned cr);
void t_cpu_write_cr(struct t_cpu *cpu, unsigned cr, uint64_t value);
void t_cpu_invlpg(struct t_cpu *cpu, uint64_t at);
void t_cpu_invpcid(struct t_cpu *cpu, uint64_t type, uint64_t pcid, uint64_t at);

/** Not an instruction: a reset of the caches. */
void t_cpu_drop_all(struct t_cpu *cpu);

/** The PCID that is in use: 0 while CR4.PCIDE is clear. */
unsigned t_cpu_pcid(const struct t_cpu *cpu);

/* --- what must hold -------------------------------------------------------------------------- */

enum t_sweep {
    T_SWEEP_FREED, /**< nothing leads to what is free: at every moment */
    T_SWEEP_SAFE,  /**< nor elsewhere than the tables do, nor with a right or a type that they do
                        not give; a right too few is a spurious fault (4.10.4.3) */
    T_SWEEP_SAME,  /**< all is as the tables say: once each gather has ended */
};

/**
 * Compare every entry of every cache with the tables. An entry belongs to the root that its PCID
 * was last loaded with on that CPU, a global one to the root in use.
 *
 * @return NULL, or a sentence that says what is wrong first; it lives until the next call
 */
const char *t_cpus_sweep(struct t_cpus *cpus, enum t_sweep how);

/** As above, for what could lead to a range: a root, a translation, a way into a walk. */
const char *t_cpus_holds(struct t_cpus *cpus, uint64_t paddr, uint64_t len);

/** A frame goes back to its allocator: t_cpus_holds() of it. */
const char *t_cpus_freed(struct t_cpus *cpus, uint64_t paddr);

/** The root of a PCID is gone, and the PCID will not be used again before it was flushed: what is
 * cached for it cannot do harm until CR3 is loaded with it. */
void t_cpus_retire_pcid(struct t_cpus *cpus, unsigned pcid);

#ifdef __cplusplus
}
#endif

#endif
