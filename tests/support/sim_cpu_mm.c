// SPDX-License-Identifier: MIT
/**
 * Privileged instructions of the simulated CPU, as the library's backend asks for them. An
 * instruction that would fault on the real one ends the process.
 */
#include "sim_cpu_mm.h"

#include <stdio.h>
#include <stdlib.h>

#define MSR_PAT  0x277u
#define MSR_EFER UINT32_C(0xc0000080)
#define CR4_PGE  (UINT64_C(1) << 7)

static _Noreturn void fault(const char *what, uint64_t value)
{
    fprintf(stderr, "sim_cpu: %s 0x%llx\n", what, (unsigned long long)value);
    abort();
}

static struct mm_x86_64_cpuid do_cpuid(void *ctx, uint32_t leaf, uint32_t subleaf)
{
    const struct t_cpu *cpu = ctx;
    struct mm_x86_64_cpuid r = {0, 0, 0, 0};

    switch (leaf) {
    case 0:
        r.eax = 7;
        break;
    case 1:
        r.edx = 1u << 13 | 1u << 16; /* PGE, PAT */
        break;
    case 7:
        r.ebx = subleaf == 0 ? 1u << 7 | 1u << 20 : 0; /* SMEP, SMAP */
        r.ecx = subleaf == 0 ? 1u << 2 : 0;            /* UMIP */
        break;
    case UINT32_C(0x80000000):
        r.eax = UINT32_C(0x80000008);
        break;
    case UINT32_C(0x80000001):
        r.edx = (cpu->has_nx ? 1u << 20 : 0) | (cpu->has_1g ? 1u << 26 : 0) | 1u << 29;
        break;
    case UINT32_C(0x80000008):
        r.eax = 48u << 8 | 46u;
        break;
    default:
        break;
    }
    return r;
}

static uint64_t do_read_msr(void *ctx, uint32_t msr)
{
    const struct t_cpu *cpu = ctx;

    if (msr == MSR_EFER) {
        return cpu->efer;
    }
    if (msr == MSR_PAT) {
        return cpu->pat;
    }
    fault("RDMSR of", msr);
}

static void do_write_msr(void *ctx, uint32_t msr, uint64_t value)
{
    struct t_cpu *cpu = ctx;

    if (msr == MSR_EFER) {
        cpu->efer = value;
    } else if (msr == MSR_PAT) {
        cpu->pat = value;
    } else {
        fault("WRMSR of", msr);
    }
}

static uint64_t do_read_cr(void *ctx, unsigned cr)
{
    const struct t_cpu *cpu = ctx;

    switch (cr) {
    case 0:
        return cpu->cr0;
    case 3:
        return cpu->cr3;
    case 4:
        return cpu->cr4;
    default:
        fault("MOV from CR", cr);
    }
}

static void do_write_cr(void *ctx, unsigned cr, uint64_t value)
{
    struct t_cpu *cpu = ctx;

    switch (cr) {
    case 0:
        cpu->cr0 = value;
        t_cpu_flush(cpu);
        break;
    case 3:
        cpu->cr3 = value;
        cpu->nr_cr3_loads++;
        for (unsigned i = 0; i < T_CPU_TLB; i++) {
            if (!cpu->tlb[i].global) {
                cpu->tlb[i].page = 0;
            }
        }
        break;
    case 4:
        if (((cpu->cr4 ^ value) & CR4_PGE) != 0) {
            t_cpu_flush(cpu);
        }
        cpu->cr4 = value;
        break;
    default:
        fault("MOV to CR", cr);
    }
}

static void do_invlpg(void *ctx, uint64_t vaddr)
{
    struct t_cpu *cpu = ctx;
    struct t_cpu_translation *slot = &cpu->tlb[(vaddr >> 12) % T_CPU_TLB];

    cpu->nr_invlpg++;
    if (slot->page == (vaddr & ~UINT64_C(4095)) + 1) {
        slot->page = 0;
    }
}

static void do_invpcid(void *ctx, uint64_t type, uint64_t pcid, uint64_t vaddr)
{
    (void)ctx;
    (void)pcid;
    (void)vaddr;
    fault("INVPCID, which this CPU has not, type", type);
}

const struct mm_x86_64_cpu_ops t_cpu_ops = {
    .cpuid = do_cpuid,
    .read_msr = do_read_msr,
    .write_msr = do_write_msr,
    .read_cr = do_read_cr,
    .write_cr = do_write_cr,
    .invlpg = do_invlpg,
    .invpcid = do_invpcid,
};
