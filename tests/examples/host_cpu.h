// SPDX-License-Identifier: MIT
// The processor of examples that run in a program on a host: it remembers its registers, and knows
// leaves of 2 MiB and 1 GiB, no-execute, global pages and memory types.
#ifndef HOST_CPU_H
#define HOST_CPU_H

#include <mm/arch/x86_64.h>

struct cpu {
    uint64_t cr[5];
    uint64_t efer;
};

static struct mm_x86_64_cpuid cpuid(void *ctx, uint32_t leaf, uint32_t subleaf)
{
    struct mm_x86_64_cpuid none = {0, 0, 0, 0};

    (void)ctx;
    (void)subleaf;
    switch (leaf) {
    case 0:
        none.eax = 7;
        break;
    case 1:
        none.edx = 1u << 13 | 1u << 16;
        break;
    case 0x80000000u:
        none.eax = 0x80000008u;
        break;
    case 0x80000001u:
        none.edx = 1u << 20 | 1u << 26;
        break;
    case 0x80000008u:
        none.eax = 46 | 48 << 8;
        break;
    }
    return none;
}

static uint64_t read_msr(void *ctx, uint32_t msr)
{
    return msr == 0xc0000080u ? ((struct cpu *)ctx)->efer : 0;
}

static void write_msr(void *ctx, uint32_t msr, uint64_t value)
{
    if (msr == 0xc0000080u)
        ((struct cpu *)ctx)->efer = value;
}

static uint64_t read_cr(void *ctx, unsigned cr)
{
    return ((struct cpu *)ctx)->cr[cr];
}

static void write_cr(void *ctx, unsigned cr, uint64_t value)
{
    ((struct cpu *)ctx)->cr[cr] = value;
}

static void invlpg(void *ctx, uint64_t vaddr)
{
    (void)ctx;
    (void)vaddr;
}

static void invpcid(void *ctx, uint64_t type, uint64_t pcid, uint64_t vaddr)
{
    (void)ctx;
    (void)type;
    (void)pcid;
    (void)vaddr;
}

#endif
