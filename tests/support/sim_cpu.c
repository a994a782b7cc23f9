// SPDX-License-Identifier: MIT
/**
 * Registers and instructions: what each checks, and what it drops (SDM vol. 3A, 4.10.4.1). See
 * sim_cpu.h; section numbers are of the SDM, volume 3A, where nothing else is said.
 *
 *     MOV to CR0    PG 1 -> 0: everything (and #GP in 64-bit mode, so it never comes to that)
 *     MOV to CR3    PCIDE clear: PCID 0. Set: the PCID loaded, unless bit 63 is set. Never global.
 *     MOV to CR4    PGE changed, PCIDE 1 -> 0: everything. SMEP 0 -> 1: the current PCID, not
 *                   global. Nothing else.
 *     INVLPG        the page, of the current PCID or global; all ways of the current PCID
 *     INVPCID 0     the page and the ways to it, of one PCID, not global
 *             1     one PCID, not global
 *             2     everything
 *             3     everything that is not global
 *     WRMSR         nothing, be it EFER or PAT
 */
#include "sim_cpu_caches.h"

#include "trap.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define CR0_PE      UINT64_C(1)
#define CR0_NW      (UINT64_C(1) << 29)
#define CR0_CD      (UINT64_C(1) << 30)
#define CR0_KNOWN   UINT64_C(0xe005003f) /* 2.5, figure 2-7 */
#define CR3_NOFLUSH (UINT64_C(1) << 63)
#define EFER_LME    (UINT64_C(1) << 8)
#define EFER_LMA    (UINT64_C(1) << 10)

const struct t_cpu_features t_cpu_full = {
    .max_basic = 7,
    .max_extended = 0x80000008,
    .paddr_bits = 46,
    .nx = true,
    .page_1g = true,
    .pge = true,
    .pat = true,
    .pcid = true,
    .invpcid = true,
    .smep = true,
    .smap = true,
    .umip = true,
    .la57 = true,
    .pku = true,
};

_Noreturn void t_cpu_stop(const struct t_cpu *cpu, const char *what, uint64_t value)
{
    struct t_trap_info info = {.kind = T_TRAP_PANIC, .room = "cpu", .claimed = "CPU"};

    (void)snprintf(info.what, sizeof(info.what), "%s", what);
    (void)snprintf(info.recorded, sizeof(info.recorded), "value");
    info.recorded_value = value;
    info.address = value;
    info.claimed_value = cpu->number;
    t_trap_panic(&info);
}

void t_cpus_note(struct t_cpus *cpus, const char *format, ...)
{
    va_list list;

    if (cpus->found) {
        return;
    }
    cpus->found = true;
    va_start(list, format);
    (void)vsnprintf(cpus->wrong, sizeof(cpus->wrong), format, list);
    va_end(list);
}

/* --- memory and the start -------------------------------------------------------------------- */

static uint64_t *entry_of(void *ctx, uint64_t paddr)
{
    struct t_cpus *cpus = ctx;

    if (paddr - cpus->backed.start >= cpus->backed.len) {
        if (cpus->ram == NULL || !t_ram_is_backed(cpus->ram, paddr & ~(T_RAM_FRAME - 1), 4096) ||
            !t_ram_next_backed(cpus->ram, paddr & ~(T_RAM_FRAME - 1), &cpus->backed)) {
            return NULL;
        }
    }
    return (uint64_t *)(uintptr_t)(cpus->base + paddr);
}

void t_cpus_init(struct t_cpus *cpus, unsigned nr, struct t_ram *ram,
                 const struct t_cpu_features *has)
{
    memset(cpus, 0, sizeof(*cpus));
    cpus->nr = nr;
    cpus->ram = ram;
    cpus->base = ram == NULL ? 0 : t_ram_base(ram);
    t_prng_seed(&cpus->prng, 1);
    for (unsigned i = 0; i < nr; i++) {
        struct t_cpu *cpu = &cpus->cpu[i];

        cpu->cpus = cpus;
        cpu->number = i;
        cpu->mmu = (struct t_mmu){.cr0 = UINT64_C(0x80000011), /* PG, ET, PE */
                                  .cr4 = T_MMU_CR4_PAE,
                                  .efer = EFER_LMA | EFER_LME,
                                  .pat = T_PAT_RESET,
                                  .ctx = cpus,
                                  .entry = entry_of};
        memset(cpu->roots, 0xff, sizeof(cpu->roots));
        cpu->roots[0] = 0;
    }
    t_cpus_configure(cpus, has == NULL ? &t_cpu_full : has);
}

void t_cpus_configure(struct t_cpus *cpus, const struct t_cpu_features *has)
{
    if (has != NULL) {
        cpus->has = *has;
    }
    for (unsigned i = 0; i < cpus->nr; i++) {
        cpus->cpu[i].mmu.paddr_bits = cpus->has.paddr_bits < 52 ? cpus->has.paddr_bits : 52;
        cpus->cpu[i].mmu.has_1g = cpus->has.page_1g;
    }
}

unsigned t_cpu_pcid(const struct t_cpu *cpu)
{
    return (cpu->mmu.cr4 & T_MMU_CR4_PCIDE) != 0 ? (unsigned)(cpu->mmu.cr3 & 0xfff) : 0;
}

/* --- CPUID (vol. 2A) ------------------------------------------------------------------------- */

static uint32_t bit(bool has, unsigned n)
{
    return has ? UINT32_C(1) << n : 0;
}

static struct t_cpuid basic_leaf(const struct t_cpu_features *f, uint32_t leaf, uint32_t subleaf)
{
    struct t_cpuid r = {0, 0, 0, 0};

    if (leaf == 0) {
        r.eax = f->max_basic;
    } else if (leaf == 1) {
        r.ecx = bit(f->pcid, 17);
        r.edx = bit(f->pge, 13) | bit(f->pat, 16);
    } else if (leaf == 7 && subleaf == 0) {
        r.ebx = bit(f->smep, 7) | bit(f->invpcid, 10) | bit(f->smap, 20);
        r.ecx = bit(f->umip, 2) | bit(f->pku, 3) | bit(f->la57, 16);
    }
    return r;
}

struct t_cpuid t_cpu_cpuid(const struct t_cpu *cpu, uint32_t leaf, uint32_t subleaf)
{
    const struct t_cpu_features *f = &cpu->cpus->has;
    struct t_cpuid r = {0, 0, 0, 0};

    if (leaf <= f->max_basic) {
        return basic_leaf(f, leaf, subleaf);
    }
    if (leaf < UINT32_C(0x80000000) || leaf > f->max_extended) {
        /* Beyond the highest leaf of both groups: what the highest basic one answers. */
        return leaf == UINT32_C(0x80000000) && f->max_extended != 0
                   ? (struct t_cpuid){.eax = f->max_extended}
                   : basic_leaf(f, f->max_basic, subleaf);
    }
    if (leaf == UINT32_C(0x80000000)) {
        r.eax = f->max_extended;
    } else if (leaf == UINT32_C(0x80000001)) {
        r.edx = bit(f->nx, 20) | bit(f->page_1g, 26) | bit(true, 29);
    } else if (leaf == UINT32_C(0x80000008)) {
        r.eax = f->paddr_bits | (f->la57 ? 57u : 48u) << 8;
    }
    return r;
}

/* --- model-specific registers (vol. 4, 2.1) -------------------------------------------------- */

uint64_t t_cpu_rdmsr(struct t_cpu *cpu, uint32_t msr)
{
    if (msr == T_MSR_EFER) {
        return cpu->mmu.efer;
    }
    if (msr != T_MSR_PAT || !cpu->cpus->has.pat) {
        t_cpu_stop(cpu, "#GP: RDMSR of a register that this CPU has not", msr);
    }
    return cpu->mmu.pat;
}

static void write_efer(struct t_cpu *cpu, uint64_t value)
{
    uint64_t known = UINT64_C(1) | EFER_LME | EFER_LMA | (cpu->cpus->has.nx ? T_MMU_EFER_NXE : 0);

    if ((value & ~known) != 0) {
        t_cpu_stop(cpu, "#GP: WRMSR of EFER sets a reserved bit", value);
    }
    if (((value ^ cpu->mmu.efer) & EFER_LME) != 0) {
        t_cpu_stop(cpu, "#GP: WRMSR of EFER changes LME while paging is on", value);
    }
    cpu->mmu.efer = (value & ~EFER_LMA) | (cpu->mmu.efer & EFER_LMA);
}

/* 12.12.2, table 12-10: 2 and 3 are reserved, and so is all above 7. */
static void write_pat(struct t_cpu *cpu, uint64_t value)
{
    for (unsigned i = 0; i < 8; i++) {
        unsigned type = (unsigned)(value >> (8 * i)) & 0xff;

        if (type > 7 || type == 2 || type == 3) {
            t_cpu_stop(cpu, "#GP: WRMSR of PAT with a type that does not exist", value);
        }
    }
    cpu->mmu.pat = value;
}

void t_cpu_wrmsr(struct t_cpu *cpu, uint32_t msr, uint64_t value)
{
    cpu->nr_msr++;
    if (msr == T_MSR_EFER) {
        write_efer(cpu, value);
    } else if (msr == T_MSR_PAT && cpu->cpus->has.pat) {
        write_pat(cpu, value);
    } else {
        t_cpu_stop(cpu, "#GP: WRMSR of a register that this CPU has not", msr);
    }
    t_cpus_drift(cpu->cpus);
}

/* --- control registers (2.5) ----------------------------------------------------------------- */

static void write_cr0(struct t_cpu *cpu, uint64_t value)
{
    cpu->nr_cr0++;
    if (value >> 32 != 0) {
        t_cpu_stop(cpu, "#GP: MOV to CR0 sets a reserved bit", value);
    }
    if ((value & CR0_PE) == 0 || (value & T_MMU_CR0_PG) == 0) {
        t_cpu_stop(cpu, "#GP: MOV to CR0 clears PE or PG in 64-bit mode", value);
    }
    if ((value & CR0_NW) != 0 && (value & CR0_CD) == 0) {
        t_cpu_stop(cpu, "#GP: MOV to CR0 sets NW and not CD", value);
    }
    cpu->mmu.cr0 = (value & CR0_KNOWN) | 0x10; /* ET is always 1 */
}

static void write_cr3(struct t_cpu *cpu, uint64_t value)
{
    bool pcide = (cpu->mmu.cr4 & T_MMU_CR4_PCIDE) != 0;
    bool keep = pcide && (value & CR3_NOFLUSH) != 0;
    uint64_t root = keep ? value & ~CR3_NOFLUSH : value;
    unsigned pcid = pcide ? (unsigned)(value & 0xfff) : 0;

    cpu->nr_cr3++;
    if (root >> cpu->mmu.paddr_bits != 0) {
        t_cpu_stop(cpu, "#GP: MOV to CR3 sets a reserved bit", value);
    }
    cpu->mmu.cr3 = root;
    cpu->roots[pcid] = root;
    cpu->nr_loads++;
    if (!keep) {
        t_caches_drop(cpu, T_DROP_OWN, pcid);
    } else {
        t_caches_wake(cpu, pcid);
    }
}

static uint64_t cr4_known(const struct t_cpu_features *f)
{
    return UINT64_C(0x7f) | /* VME, PVI, TSD, DE, PSE, PAE, MCE */
           (f->pge ? T_MMU_CR4_PGE : 0) | UINT64_C(0x700) /* PCE, OSFXSR, OSXMMEXCPT */ |
           (f->umip ? T_MMU_CR4_UMIP : 0) | (f->la57 ? T_MMU_CR4_LA57 : 0) |
           (f->pcid ? T_MMU_CR4_PCIDE : 0) | (f->smep ? T_MMU_CR4_SMEP : 0) |
           (f->smap ? T_MMU_CR4_SMAP : 0);
}

static void write_cr4(struct t_cpu *cpu, uint64_t value)
{
    uint64_t changed = cpu->mmu.cr4 ^ value;

    cpu->nr_cr4++;
    if ((value & ~cr4_known(&cpu->cpus->has)) != 0) {
        t_cpu_stop(cpu, "#GP: MOV to CR4 sets a bit that this CPU has not", value);
    }
    if ((value & T_MMU_CR4_PAE) == 0 || (changed & T_MMU_CR4_LA57) != 0) {
        t_cpu_stop(cpu, "#GP: MOV to CR4 clears PAE or changes LA57 in 64-bit mode", value);
    }
    if ((changed & value & T_MMU_CR4_PCIDE) != 0 && (cpu->mmu.cr3 & 0xfff) != 0) {
        t_cpu_stop(cpu, "#GP: MOV to CR4 sets PCIDE while CR3[11:0] is not 0", cpu->mmu.cr3);
    }
    cpu->mmu.cr4 = value;
    if ((changed & T_MMU_CR4_PGE) != 0 || (changed & ~value & T_MMU_CR4_PCIDE) != 0) {
        t_caches_drop(cpu, T_DROP_EVERYTHING, 0);
    } else if ((changed & value & T_MMU_CR4_SMEP) != 0) {
        t_caches_drop(cpu, T_DROP_OWN, t_cpu_pcid(cpu));
    }
    if ((changed & T_MMU_CR4_PCIDE) != 0) {
        cpu->roots[t_cpu_pcid(cpu)] = cpu->mmu.cr3;
        cpu->nr_loads++;
    }
}

uint64_t t_cpu_read_cr(struct t_cpu *cpu, unsigned cr)
{
    t_cpus_drift(cpu->cpus);
    switch (cr) {
    case 0:
        return cpu->mmu.cr0;
    case 3:
        return cpu->mmu.cr3;
    case 4:
        return cpu->mmu.cr4;
    default:
        t_cpu_stop(cpu, "#UD: MOV from a control register that does not exist", cr);
    }
}

void t_cpu_write_cr(struct t_cpu *cpu, unsigned cr, uint64_t value)
{
    switch (cr) {
    case 0:
        write_cr0(cpu, value);
        break;
    case 3:
        write_cr3(cpu, value);
        break;
    case 4:
        write_cr4(cpu, value);
        break;
    default:
        t_cpu_stop(cpu, "#UD: MOV to a control register that does not exist", cr);
    }
    t_cpus_drift(cpu->cpus);
}

/* --- invalidation ---------------------------------------------------------------------------- */

void t_cpu_invlpg(struct t_cpu *cpu, uint64_t at)
{
    unsigned pcid = t_cpu_pcid(cpu);

    cpu->nr_invlpg++;
    if (!t_mmu_canonical(&cpu->mmu, at)) {
        return; /* vol. 2A, INVLPG: like a NOP */
    }
    t_tlb_drop_page(cpu, at, T_DROP_OWN_GLOBAL, pcid);
    t_psc_drop(cpu, pcid);
    t_cpus_remember(cpu->cpus, at);
    t_cpus_drift(cpu->cpus);
}

/* Vol. 2A, INVPCID. What it "may also invalidate" stays. */
void t_cpu_invpcid(struct t_cpu *cpu, uint64_t type, uint64_t pcid, uint64_t at)
{
    bool pcide = (cpu->mmu.cr4 & T_MMU_CR4_PCIDE) != 0;

    cpu->nr_invpcid++;
    if (!cpu->cpus->has.invpcid) {
        t_cpu_stop(cpu, "#UD: INVPCID, which this CPU has not", type);
    }
    if (type > 3 || pcid > 0xfff) {
        t_cpu_stop(cpu, "#GP: INVPCID of a type above 3, or a reserved bit in its descriptor",
                   type > 3 ? type : pcid);
    }
    if (type < 2 && !pcide && pcid != 0) {
        t_cpu_stop(cpu, "#GP: INVPCID of one PCID that is not 0 while PCIDE is clear", pcid);
    }
    if (type == 0 && !t_mmu_canonical(&cpu->mmu, at)) {
        t_cpu_stop(cpu, "#GP: INVPCID of an address that is not canonical", at);
    }
    if (type == 0) {
        t_tlb_drop_page(cpu, at, T_DROP_OWN, (unsigned)pcid);
        t_psc_drop_at(cpu, at, (unsigned)pcid);
        t_cpus_remember(cpu->cpus, at);
    } else {
        t_caches_drop(cpu,
                      type == 1   ? T_DROP_OWN
                      : type == 2 ? T_DROP_EVERYTHING
                                  : T_DROP_ALL_OWN,
                      (unsigned)pcid);
    }
    t_cpus_drift(cpu->cpus);
}
