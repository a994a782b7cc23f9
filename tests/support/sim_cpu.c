// SPDX-License-Identifier: MIT
/**
 * The simulated MMU: see the header. Section numbers are of the SDM, volume 3A.
 */
#include "sim_cpu.h"

#include <string.h>

#define PRESENT  UINT64_C(1)
#define WRITE    UINT64_C(2)
#define USER     UINT64_C(4)
#define ACCESSED UINT64_C(0x20)
#define DIRTY    UINT64_C(0x40)
#define LARGE    UINT64_C(0x80)
#define GLOBAL   UINT64_C(0x100)
#define NX       (UINT64_C(1) << 63)
#define ADDRESS  UINT64_C(0x000ffffffffff000)

#define CR0_WP     (UINT64_C(1) << 16)
#define CR4_PGE    (UINT64_C(1) << 7)
#define CR4_SMEP   (UINT64_C(1) << 20)
#define CR4_SMAP   (UINT64_C(1) << 21)
#define EFER_NXE   (UINT64_C(1) << 11)
#define ERR_P      UINT64_C(1)
#define ERR_W      UINT64_C(2)
#define ERR_U      UINT64_C(4)
#define ERR_RSVD   UINT64_C(8)
#define ERR_I      UINT64_C(16)
#define NO_MAPPING UINT64_MAX

void t_cpu_init(struct t_cpu *cpu, uint64_t ram_base)
{
    memset(cpu, 0, sizeof(*cpu));
    cpu->ram_base = ram_base;
    cpu->cr0 = UINT64_C(0x80000011);
    cpu->cr4 = UINT64_C(0x20);
    cpu->efer = UINT64_C(0x500);
    cpu->pat = UINT64_C(0x0007040600070406);
    cpu->has_nx = true;
    cpu->has_1g = true;
}

void t_cpu_flush(struct t_cpu *cpu)
{
    memset(cpu->tlb, 0, sizeof(cpu->tlb));
}

static uint64_t *entry_at(const struct t_cpu *cpu, uint64_t table, uint64_t vaddr, unsigned level)
{
    uint64_t index = (vaddr >> (12 + 9 * level)) & 511;

    return (uint64_t *)(uintptr_t)(cpu->ram_base + table + index * 8);
}

/* 4.5.5, 4.6: walk, AND the rights of all levels, set accessed flags. 0, or bits of the error code;
 * NO_MAPPING for an entry that is not present. */
static uint64_t walk(const struct t_cpu *cpu, uint64_t vaddr, struct t_cpu_translation *t,
                     uint64_t **leaf)
{
    uint64_t table = cpu->cr3 & ADDRESS;
    uint64_t rights = WRITE | USER;
    bool exec = true;

    for (unsigned level = 4; level-- > 0;) {
        uint64_t *entry = entry_at(cpu, table, vaddr, level);
        uint64_t value = __atomic_load_n(entry, __ATOMIC_RELAXED);
        bool is_leaf = level == 0 || (value & LARGE) != 0;
        uint64_t size = UINT64_C(1) << (12 + 9 * level);

        if ((value & PRESENT) == 0) {
            return NO_MAPPING;
        }
        if (((value & NX) != 0 && (cpu->efer & EFER_NXE) == 0) ||
            (level == 3 && (value & LARGE) != 0)) {
            return ERR_RSVD;
        }
        rights &= value;
        exec = exec && (value & NX) == 0;
        (void)__atomic_fetch_or(entry, ACCESSED, __ATOMIC_RELAXED);
        if (is_leaf) {
            uint64_t base = value & ADDRESS & ~(size - 1);

            t->page = (vaddr & ~UINT64_C(4095)) + 1;
            t->paddr = base + (vaddr & (size - 1) & ~UINT64_C(4095));
            t->write = (rights & WRITE) != 0;
            t->user = (rights & USER) != 0;
            t->exec = exec;
            t->global = (value & GLOBAL) != 0 && (cpu->cr4 & CR4_PGE) != 0;
            t->dirty = (value & DIRTY) != 0;
            *leaf = entry;
            return 0;
        }
        table = value & ADDRESS;
    }
    return NO_MAPPING;
}

/* 4.6.1: determination of access rights. */
static bool allows(const struct t_cpu *cpu, const struct t_cpu_translation *t, unsigned access)
{
    bool user = (access & T_CPU_USER) != 0;

    if (user && !t->user) {
        return false;
    }
    if ((access & T_CPU_EXEC) != 0) {
        return t->exec && (user || !t->user || (cpu->cr4 & CR4_SMEP) == 0);
    }
    if (!user && t->user && (cpu->cr4 & CR4_SMAP) != 0 && (access & T_CPU_AC) == 0) {
        return false;
    }
    if ((access & T_CPU_WRITE) != 0) {
        return t->write || (!user && (cpu->cr0 & CR0_WP) == 0);
    }
    return true;
}

static struct t_cpu_translation *slot_of(struct t_cpu *cpu, uint64_t vaddr)
{
    return &cpu->tlb[(vaddr >> 12) % T_CPU_TLB];
}

bool t_cpu_access(struct t_cpu *cpu, uint64_t vaddr, unsigned access, uint64_t *paddr,
                  uint64_t *error)
{
    struct t_cpu_translation *slot = slot_of(cpu, vaddr);
    bool cached = slot->page == (vaddr & ~UINT64_C(4095)) + 1;
    uint64_t wrong = 0;
    uint64_t *leaf = NULL;

    /* The first store through an entry whose page was clean walks again, to set the flag (4.8). */
    if (!cached || ((access & T_CPU_WRITE) != 0 && slot->write && !slot->dirty)) {
        struct t_cpu_translation t;

        wrong = walk(cpu, vaddr, &t, &leaf);
        if (wrong == 0) {
            *slot = t;
        }
    }
    if (wrong == 0 && allows(cpu, slot, access)) {
        if ((access & T_CPU_WRITE) != 0 && leaf != NULL) {
            (void)__atomic_fetch_or(leaf, DIRTY, __ATOMIC_RELAXED);
            slot->dirty = true;
        }
        *paddr = slot->paddr + (vaddr & 4095);
        return true;
    }
    /* 4.7: the error code; 4.10.4.1: a page fault invalidates what is cached for its address. */
    *error =
        (wrong == NO_MAPPING ? 0 : ERR_P) | (wrong == ERR_RSVD ? ERR_RSVD : 0) |
        ((access & T_CPU_WRITE) != 0 ? ERR_W : 0) | ((access & T_CPU_USER) != 0 ? ERR_U : 0) |
        ((access & T_CPU_EXEC) != 0 && ((cpu->efer & EFER_NXE) != 0 || (cpu->cr4 & CR4_SMEP) != 0)
             ? ERR_I
             : 0);
    slot->page = 0;
    return false;
}
