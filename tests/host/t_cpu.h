// SPDX-License-Identifier: MIT
/**
 * A small simulated x86-64 CPU: registers, CPUID, a TLB and paging-structure caches that keep what
 * they have seen until they are told to drop it. The page walk is written from the manual (Intel
 * SDM vol. 3A, 4.5 and 4.10), not from the library's.
 *
 * What the caches hold is compared with the tables by t_cpu_stale(); and a frame that goes back to
 * its allocator must be in none of them: t_cpu_holds().
 */
#ifndef T_CPU_H
#define T_CPU_H

#include "sim_ram.h"

#include <mm/arch/x86_64.h>

#include <stdlib.h>
#include <string.h>

#define T_TLB_MAX 512
#define T_PSC_MAX 512

/** Bits of t_cpu_access(), and of what it answers: the error code of a page fault. */
#define T_PF_PRESENT  1u
#define T_PF_WRITE    2u
#define T_PF_USER     4u
#define T_PF_RESERVED 8u
#define T_PF_FETCH    16u
/** Not a page fault: the access is made. */
#define T_PF_NONE 0x80000000u

struct t_tlb_entry {
    uint64_t start; /* virtual, of the leaf */
    uint64_t size;  /* 0: free */
    uint64_t paddr;
    uint64_t rights; /* RW, US as in an entry; bit 63: may not be executed */
    bool global;
};

/** A table that a walk has passed through. */
struct t_psc_entry {
    uint64_t start;
    uint64_t size; /* of the span that the table covers; 0: free */
    uint64_t table;
};

struct t_cpu {
    struct t_ram *ram;
    uint64_t cr0, cr3, cr4, efer, pat;
    /* What CPUID tells. */
    uint32_t max_basic, max_extended;
    struct mm_x86_64_cpuid leaf1, leaf7, extended1;
    uint32_t paddr_bits;
    /* What the library did. */
    uint64_t nr_invlpg, nr_cr3, nr_cr4, nr_invpcid, nr_msr;
    struct t_tlb_entry tlb[T_TLB_MAX];
    struct t_psc_entry psc[T_PSC_MAX];
    unsigned next_tlb, next_psc;
};

#define T_EFER_NXE  (UINT64_C(1) << 11)
#define T_CR4_PGE   (UINT64_C(1) << 7)
#define T_CR4_LA57  (UINT64_C(1) << 12)
#define T_ADDRESS   UINT64_C(0x000ffffffffff000)
#define T_NX        (UINT64_C(1) << 63)
#define T_PAT_RESET UINT64_C(0x0007040600070406)

static inline void t_cpu_drop_all(struct t_cpu *cpu, bool global_too)
{
    for (unsigned i = 0; i < T_TLB_MAX; i++) {
        if (global_too || !cpu->tlb[i].global) {
            cpu->tlb[i].size = 0;
        }
    }
    memset(cpu->psc, 0, sizeof(cpu->psc));
}

/* --- ops ------------------------------------------------------------------------------------- */

static inline struct mm_x86_64_cpuid t_cpu_cpuid(void *ctx, uint32_t leaf, uint32_t subleaf)
{
    struct t_cpu *cpu = ctx;
    struct mm_x86_64_cpuid r = {0, 0, 0, 0};

    (void)subleaf;
    switch (leaf) {
    case 0:
        r.eax = cpu->max_basic;
        break;
    case 1:
        return cpu->leaf1;
    case 7:
        return cpu->leaf7;
    case 0x80000000:
        r.eax = cpu->max_extended;
        break;
    case 0x80000001:
        return cpu->extended1;
    case 0x80000008:
        r.eax = cpu->paddr_bits | 0x3900;
        break;
    default:
        break;
    }
    return r;
}

static inline uint64_t *t_cpu_msr(struct t_cpu *cpu, uint32_t msr)
{
    if (msr == 0xc0000080) {
        return &cpu->efer;
    }
    if (msr != 0x277 || (cpu->leaf1.edx & (1u << 16)) == 0) {
        abort(); /* #GP: this CPU has no such register */
    }
    return &cpu->pat;
}

static inline uint64_t t_cpu_read_msr(void *ctx, uint32_t msr)
{
    return *t_cpu_msr(ctx, msr);
}

static inline void t_cpu_write_msr(void *ctx, uint32_t msr, uint64_t value)
{
    struct t_cpu *cpu = ctx;

    cpu->nr_msr++;
    *t_cpu_msr(cpu, msr) = value;
}

static inline uint64_t t_cpu_read_cr(void *ctx, unsigned cr)
{
    const struct t_cpu *cpu = ctx;

    return cr == 0 ? cpu->cr0 : cr == 3 ? cpu->cr3 : cpu->cr4;
}

static inline void t_cpu_write_cr(void *ctx, unsigned cr, uint64_t value)
{
    struct t_cpu *cpu = ctx;

    if (cr == 0) {
        cpu->cr0 = value;
    } else if (cr == 3) {
        cpu->nr_cr3++;
        cpu->cr3 = value;
        t_cpu_drop_all(cpu, false);
    } else {
        cpu->nr_cr4++;
        if (((cpu->cr4 ^ value) & T_CR4_PGE) != 0) {
            t_cpu_drop_all(cpu, true);
        }
        cpu->cr4 = value;
    }
}

static inline void t_cpu_invlpg(void *ctx, uint64_t vaddr)
{
    struct t_cpu *cpu = ctx;

    cpu->nr_invlpg++;
    for (unsigned i = 0; i < T_TLB_MAX; i++) {
        if (vaddr - cpu->tlb[i].start < cpu->tlb[i].size) {
            cpu->tlb[i].size = 0;
        }
    }
    memset(cpu->psc, 0, sizeof(cpu->psc)); /* all of them: SDM vol. 3A, 4.10.4.1 */
}

static inline void t_cpu_invpcid(void *ctx, uint64_t type, uint64_t pcid, uint64_t vaddr)
{
    struct t_cpu *cpu = ctx;

    if (type != 2 || pcid != 0 || vaddr != 0 || (cpu->leaf7.ebx & (1u << 10)) == 0) {
        abort();
    }
    cpu->nr_invpcid++;
    t_cpu_drop_all(cpu, true);
}

static inline const struct mm_x86_64_cpu_ops *t_cpu_ops(void)
{
    static const struct mm_x86_64_cpu_ops ops = {
        .cpuid = t_cpu_cpuid,
        .read_msr = t_cpu_read_msr,
        .write_msr = t_cpu_write_msr,
        .read_cr = t_cpu_read_cr,
        .write_cr = t_cpu_write_cr,
        .invlpg = t_cpu_invlpg,
        .invpcid = t_cpu_invpcid,
    };

    return &ops;
}

/** A CPU after reset into long mode, with every feature. */
static inline void t_cpu_init(struct t_cpu *cpu, struct t_ram *ram)
{
    memset(cpu, 0, sizeof(*cpu));
    cpu->ram = ram;
    cpu->max_basic = 7;
    cpu->max_extended = 0x80000008;
    cpu->leaf1.edx = (1u << 13) | (1u << 16);                  /* PGE, PAT */
    cpu->leaf1.ecx = 1u << 17;                                 /* PCID */
    cpu->leaf7.ebx = (1u << 7) | (1u << 10) | (1u << 20);      /* SMEP, INVPCID, SMAP */
    cpu->leaf7.ecx = (1u << 2) | (1u << 3) | (1u << 16);       /* UMIP, PKU, LA57 */
    cpu->extended1.edx = (1u << 20) | (1u << 26) | (1u << 29); /* NX, 1 GiB, long mode */
    cpu->paddr_bits = 46;
    cpu->pat = T_PAT_RESET;
    cpu->efer = 0x500;
    cpu->cr0 = 0x80000011;
    cpu->cr4 = 0x20;
}

/* --- walking --------------------------------------------------------------------------------- */

struct t_walk {
    struct t_tlb_entry leaf;
    uint64_t *slot; /* of the leaf */
    uint32_t fault; /* T_PF_NONE, or PRESENT | RESERVED as the walk found it (0: not present) */
};

static inline uint64_t *t_cpu_slot(const struct t_cpu *cpu, uint64_t table, uint64_t at,
                                   unsigned shift)
{
    uint64_t *slots = t_ram_ptr(cpu->ram, table);

    return &slots[(at >> shift) & 511];
}

/** Remember that a walk went through a table. */
static inline void t_cpu_remember(struct t_cpu *cpu, uint64_t start, uint64_t size, uint64_t table)
{
    struct t_psc_entry *p = &cpu->psc[cpu->next_psc++ % T_PSC_MAX];

    p->start = start;
    p->size = size;
    p->table = table;
}

/** The deepest table that the caches know for an address. */
static inline bool t_cpu_recall(const struct t_cpu *cpu, uint64_t at, unsigned *shift,
                                uint64_t *table)
{
    bool found = false;

    for (unsigned i = 0; i < T_PSC_MAX; i++) {
        const struct t_psc_entry *p = &cpu->psc[i];
        unsigned bits = 12;

        if (p->size == 0 || at - p->start >= p->size) {
            continue;
        }
        while (UINT64_C(1) << (bits + 9) != p->size) {
            bits += 9;
        }
        if (bits < *shift) {
            *shift = bits;
            *table = p->table;
            found = true;
        }
    }
    return found;
}

/** Reserved bits of a present entry: SDM vol. 3A, 4.5.4 and tables 4-15 to 4-20. */
static inline bool t_cpu_reserved(const struct t_cpu *cpu, uint64_t entry, unsigned shift)
{
    bool large = shift > 12 && (entry & 0x80) != 0;

    return (entry & T_ADDRESS & ~((UINT64_C(1) << cpu->paddr_bits) - 1)) != 0 ||
           ((entry & T_NX) != 0 && (cpu->efer & T_EFER_NXE) == 0) || (large && shift > 30) ||
           (large && shift == 30 && (cpu->extended1.edx & (1u << 26)) == 0) ||
           (large && (entry & ((UINT64_C(1) << shift) - 1) & ~UINT64_C(0x1fff)) != 0);
}

/** Walk the tables; `cached`: begin where the paging-structure caches lead, and fill them. Rights
 * of the tables that are skipped count as granted: the library gives tables the widest. */
static inline struct t_walk t_cpu_walk(struct t_cpu *cpu, uint64_t root, uint64_t at, bool cached)
{
    struct t_walk w = {.fault = 0};
    unsigned shift = (cpu->cr4 & T_CR4_LA57) != 0 ? 48 : 39;
    uint64_t table = root & T_ADDRESS;
    uint64_t rights = 6;

    if (cached) {
        (void)t_cpu_recall(cpu, at, &shift, &table);
    }
    for (;; shift -= 9) {
        uint64_t *slot = t_cpu_slot(cpu, table, at, shift);
        uint64_t entry = *slot;
        uint64_t size = UINT64_C(1) << shift;

        if ((entry & 1) == 0) {
            return w;
        }
        if (t_cpu_reserved(cpu, entry, shift)) {
            w.fault = T_PF_PRESENT | T_PF_RESERVED;
            return w;
        }
        rights = (rights & (entry | T_NX)) | (entry & T_NX);
        if (shift == 12 || (entry & 0x80) != 0) {
            w.leaf.start = at & ~(size - 1);
            w.leaf.size = size;
            w.leaf.paddr = entry & T_ADDRESS & ~(size - 1);
            w.leaf.rights = rights;
            w.leaf.global = (entry & 0x100) != 0 && (cpu->cr4 & T_CR4_PGE) != 0;
            w.slot = slot;
            w.fault = T_PF_NONE;
            return w;
        }
        table = entry & T_ADDRESS;
        if (cached) {
            t_cpu_remember(cpu, at & ~(size - 1), size, table);
        }
    }
}

static inline bool t_cpu_allowed(const struct t_cpu *cpu, uint64_t rights, uint32_t access)
{
    bool user = (access & T_PF_USER) != 0;

    if (user && (rights & 4) == 0) {
        return false;
    }
    if ((access & T_PF_WRITE) != 0 && (rights & 2) == 0 && (user || (cpu->cr0 & 0x10000) != 0)) {
        return false;
    }
    return (access & T_PF_FETCH) == 0 || (rights & T_NX) == 0;
}

/**
 * Make an access (T_PF_WRITE, T_PF_USER, T_PF_FETCH): T_PF_NONE and the physical address, or the
 * error code of the fault. Fills the caches and sets accessed and dirty, as the hardware does.
 */
static inline uint32_t t_cpu_access(struct t_cpu *cpu, uint64_t at, uint32_t access,
                                    uint64_t *paddr)
{
    const struct t_tlb_entry *hit = NULL;
    struct t_walk w;

    for (unsigned i = 0; i < T_TLB_MAX && hit == NULL; i++) {
        if (at - cpu->tlb[i].start < cpu->tlb[i].size) {
            hit = &cpu->tlb[i];
        }
    }
    if (hit == NULL || (access & T_PF_WRITE) != 0) { /* dirty is set through the tables */
        w = t_cpu_walk(cpu, cpu->cr3, at, true);
        if (w.fault != T_PF_NONE) {
            return w.fault | access;
        }
    } else {
        w.leaf = *hit;
        w.slot = NULL;
    }
    if (!t_cpu_allowed(cpu, w.leaf.rights, access)) {
        return T_PF_PRESENT | access;
    }
    if (w.slot != NULL) {
        *w.slot |= 0x20 | ((access & T_PF_WRITE) != 0 ? 0x40 : 0);
        if (hit == NULL) {
            cpu->tlb[cpu->next_tlb++ % T_TLB_MAX] = w.leaf;
        }
    }
    if (paddr != NULL) {
        *paddr = w.leaf.paddr + (at - w.leaf.start);
    }
    return T_PF_NONE;
}

/* --- what must hold once a gather has ended -------------------------------------------------- */

/** NULL, or what in the caches disagrees with the tables. */
static inline const char *t_cpu_stale(struct t_cpu *cpu)
{
    for (unsigned i = 0; i < T_TLB_MAX; i++) {
        const struct t_tlb_entry *e = &cpu->tlb[i];
        struct t_walk w;

        if (e->size == 0) {
            continue;
        }
        w = t_cpu_walk(cpu, cpu->cr3, e->start, false);
        if (w.fault != T_PF_NONE) {
            return "the TLB translates what is not mapped";
        }
        if (w.leaf.start != e->start || w.leaf.size != e->size) {
            return "the TLB holds another size of leaf";
        }
        if (w.leaf.paddr != e->paddr) {
            return "the TLB translates to another frame";
        }
        if (w.leaf.rights != e->rights) {
            return "the TLB allows something else";
        }
    }
    for (unsigned i = 0; i < T_PSC_MAX; i++) {
        const struct t_psc_entry *p = &cpu->psc[i];
        uint64_t table = cpu->cr3 & T_ADDRESS;
        unsigned shift = (cpu->cr4 & T_CR4_LA57) != 0 ? 48 : 39;

        if (p->size == 0) {
            continue;
        }
        for (; UINT64_C(1) << shift >= p->size; shift -= 9) {
            uint64_t entry = *t_cpu_slot(cpu, table, p->start, shift);

            if ((entry & 1) == 0 || (entry & 0x80) != 0) {
                return "a paging-structure cache leads to a table that is gone";
            }
            table = entry & T_ADDRESS;
        }
        if (table != p->table) {
            return "a paging-structure cache leads to another table";
        }
    }
    return NULL;
}

/** Whether any cache leads to the frame, as data or as a table. */
static inline bool t_cpu_holds(const struct t_cpu *cpu, uint64_t paddr)
{
    for (unsigned i = 0; i < T_TLB_MAX; i++) {
        if (paddr - cpu->tlb[i].paddr < cpu->tlb[i].size) {
            return true;
        }
    }
    for (unsigned i = 0; i < T_PSC_MAX; i++) {
        if (cpu->psc[i].size != 0 && cpu->psc[i].table == paddr) {
            return true;
        }
    }
    return (cpu->cr3 & T_ADDRESS) == paddr;
}

#endif
