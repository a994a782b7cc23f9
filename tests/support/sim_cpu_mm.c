// SPDX-License-Identifier: MIT
/**
 * Tables of privileged instructions over simulated CPUs: see the header.
 */
#include "sim_cpu_mm.h"

static struct t_cpu *running(void *ctx)
{
    struct t_cpus *cpus = ctx;

    return &cpus->cpu[cpus->now];
}

static struct mm_x86_64_cpuid do_cpuid(void *ctx, uint32_t leaf, uint32_t subleaf)
{
    struct t_cpuid r = t_cpu_cpuid(running(ctx), leaf, subleaf);

    return (struct mm_x86_64_cpuid){r.eax, r.ebx, r.ecx, r.edx};
}

static uint64_t do_read_msr(void *ctx, uint32_t msr)
{
    return t_cpu_rdmsr(running(ctx), msr);
}

static void do_write_msr(void *ctx, uint32_t msr, uint64_t value)
{
    t_cpu_wrmsr(running(ctx), msr, value);
}

static uint64_t do_read_cr(void *ctx, unsigned cr)
{
    return t_cpu_read_cr(running(ctx), cr);
}

static void do_write_cr(void *ctx, unsigned cr, uint64_t value)
{
    t_cpu_write_cr(running(ctx), cr, value);
}

static void do_invlpg(void *ctx, uint64_t at)
{
    t_cpu_invlpg(running(ctx), at);
}

static void do_invpcid(void *ctx, uint64_t type, uint64_t pcid, uint64_t at)
{
    t_cpu_invpcid(running(ctx), type, pcid, at);
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

/* --- on every CPU ---------------------------------------------------------------------------- */

/* The others, by interrupt, after the one that runs. Their registers stay as they are. */
static void broadcast_cr(void *ctx, unsigned cr, uint64_t value)
{
    struct t_cpus *cpus = ctx;
    const struct t_cpu *self = running(ctx);
    bool reload = cr == 3 && value == self->mmu.cr3;
    bool toggle = cr == 4 && ((value ^ self->mmu.cr4) & T_MMU_CR4_PGE) != 0;

    t_cpu_write_cr(running(ctx), cr, value);
    for (unsigned i = 0; i < cpus->nr; i++) {
        struct t_cpu *cpu = &cpus->cpu[i];

        if (cpu != self && reload) {
            t_cpu_write_cr(cpu, 3, cpu->mmu.cr3);
        } else if (cpu != self && toggle && (cpu->mmu.cr4 & T_MMU_CR4_PGE) != 0) {
            t_cpu_write_cr(cpu, 4, cpu->mmu.cr4 & ~T_MMU_CR4_PGE);
            t_cpu_write_cr(cpu, 4, cpu->mmu.cr4 | T_MMU_CR4_PGE);
        }
    }
}

static void broadcast_invlpg(void *ctx, uint64_t at)
{
    struct t_cpus *cpus = ctx;

    for (unsigned i = 0; i < cpus->nr; i++) {
        t_cpu_invlpg(&cpus->cpu[(cpus->now + i) % cpus->nr], at);
    }
}

static void broadcast_invpcid(void *ctx, uint64_t type, uint64_t pcid, uint64_t at)
{
    struct t_cpus *cpus = ctx;

    for (unsigned i = 0; i < cpus->nr; i++) {
        t_cpu_invpcid(&cpus->cpu[(cpus->now + i) % cpus->nr], type, pcid, at);
    }
}

const struct mm_x86_64_cpu_ops t_cpu_broadcast_ops = {
    .cpuid = do_cpuid,
    .read_msr = do_read_msr,
    .write_msr = do_write_msr,
    .read_cr = do_read_cr,
    .write_cr = broadcast_cr,
    .invlpg = broadcast_invlpg,
    .invpcid = broadcast_invpcid,
};
