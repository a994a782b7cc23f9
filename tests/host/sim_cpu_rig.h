// SPDX-License-Identifier: MIT
/**
 * Simulated CPUs over tables that are written by hand: what the simulator's own tests share. No
 * library is in it. Include after <cmocka.h>.
 */
#ifndef SIM_CPU_RIG_H
#define SIM_CPU_RIG_H

#include "sim_cpu.h"
#include "trap.h"

#include <string.h>

#define P4K UINT64_C(0x1000)
#define P2M UINT64_C(0x200000)
#define P1G UINT64_C(0x40000000)

#define RIG_FRAMES 256u
/* Rights of a table that narrows nothing; and of a leaf. */
#define RIG_TABLE (T_MMU_P | T_MMU_RW | T_MMU_US)
#define RIG_LEAF  (T_MMU_P | T_MMU_RW | T_MMU_US)

struct rig {
    struct t_ram *ram;
    struct t_cpus cpus;
    struct t_cpu *cpu; /* the first */
    uint64_t next;     /* frame for the next table */
    bool freed[RIG_FRAMES];
};

static inline bool rig_is_free(void *ctx, uint64_t paddr)
{
    const struct rig *rig = ctx;

    return paddr / P4K < RIG_FRAMES && rig->freed[paddr / P4K];
}

static inline uint64_t *rig_word(const struct rig *rig, uint64_t paddr)
{
    return t_ram_ptr(rig->ram, paddr);
}

/** A frame of zeroes. */
static inline uint64_t rig_table(struct rig *rig)
{
    uint64_t table = rig->next++ * P4K;

    assert_true(rig->next <= RIG_FRAMES);
    memset(rig_word(rig, table), 0, P4K);
    return table;
}

/** CPUs with NXE, WP and global pages on, and each at an empty root of its own. */
static inline void rig_start(struct rig *rig, unsigned nr, const struct t_cpu_features *has)
{
    memset(rig, 0, sizeof(*rig));
    rig->ram = t_ram_new(0, RIG_FRAMES * P4K);
    assert_non_null(rig->ram);
    t_ram_back(rig->ram, 0, RIG_FRAMES * P4K);
    t_cpus_init(&rig->cpus, nr, rig->ram, has);
    rig->cpu = &rig->cpus.cpu[0];
    rig->cpus.is_free = rig_is_free;
    rig->cpus.ctx = rig;
    rig->next = 1;
    for (unsigned i = 0; i < nr; i++) {
        struct t_mmu *mmu = &rig->cpus.cpu[i].mmu;

        mmu->cr0 |= T_MMU_CR0_WP;
        mmu->cr4 |= rig->cpus.has.pge ? T_MMU_CR4_PGE : 0;
        mmu->efer |= rig->cpus.has.nx ? T_MMU_EFER_NXE : 0;
        mmu->cr3 = rig_table(rig);
    }
}

static inline void rig_stop(struct rig *rig)
{
    t_ram_delete(rig->ram);
}

/** The word that holds the entry of a level for an address; tables above it are made. */
static inline uint64_t *rig_entry(struct rig *rig, uint64_t root, uint64_t at, unsigned level)
{
    unsigned from = (rig->cpu->mmu.cr4 & T_MMU_CR4_LA57) != 0 ? 4 : 3;
    uint64_t table = root & T_MMU_ADDRESS;

    for (unsigned l = from;; l--) {
        uint64_t *entry = rig_word(rig, table + ((at >> (12 + 9 * l)) & 511) * 8);

        if (l == level) {
            return entry;
        }
        if ((*entry & T_MMU_P) == 0) {
            *entry = rig_table(rig) | RIG_TABLE;
        }
        table = *entry & T_MMU_ADDRESS;
    }
}

/** Map in a root. `bits` are the leaf's. */
static inline uint64_t *rig_map(struct rig *rig, uint64_t root, uint64_t at, uint64_t paddr,
                                unsigned level, uint64_t bits)
{
    uint64_t *entry = rig_entry(rig, root, at, level);

    *entry = paddr | bits | (level > 0 ? T_MMU_PS : 0);
    return entry;
}

static inline uint32_t rig_touch(struct t_cpu *cpu, uint64_t at, unsigned access)
{
    return t_cpu_access(cpu, at, access, NULL);
}

/** Where a user's load goes; the test fails if it faults. */
static inline uint64_t rig_load(struct t_cpu *cpu, uint64_t at)
{
    uint64_t paddr = 0;

    assert_int_equal(t_cpu_access(cpu, at, T_MMU_USER, &paddr), T_CPU_DONE);
    return paddr;
}

/** The sweep finds this word of its sentence. */
static inline void rig_wrong(struct rig *rig, enum t_sweep how, const char *what)
{
    const char *wrong = t_cpus_sweep(&rig->cpus, how);

    if (wrong == NULL || strstr(wrong, what) == NULL) {
        fail_msg("the sweep says '%s', not '%s'", wrong == NULL ? "nothing" : wrong, what);
    }
}

#endif
