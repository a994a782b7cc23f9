// SPDX-License-Identifier: MIT
/**
 * The instructions that only a kernel may execute, as a table of ops. In an object of its own: a
 * host program that passes a simulated CPU never links it. Nothing else may be here.
 */
#include <mm/arch/x86_64.h>

static struct mm_x86_64_cpuid native_cpuid(void *ctx, uint32_t leaf, uint32_t subleaf)
{
    struct mm_x86_64_cpuid r;

    (void)ctx;
    __asm__ volatile("cpuid"
                     : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx)
                     : "0"(leaf), "2"(subleaf));
    return r;
}

static uint64_t native_read_msr(void *ctx, uint32_t msr)
{
    uint32_t low;
    uint32_t high;

    (void)ctx;
    __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
    return ((uint64_t)high << 32) | low;
}

static void native_write_msr(void *ctx, uint32_t msr, uint64_t value)
{
    (void)ctx;
    __asm__ volatile("wrmsr"
                     :
                     : "c"(msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32))
                     : "memory");
}

static uint64_t native_read_cr(void *ctx, unsigned cr)
{
    uint64_t value;

    (void)ctx;
    if (cr == 0) {
        __asm__ volatile("mov %%cr0, %0" : "=r"(value) : : "memory");
    } else if (cr == 3) {
        __asm__ volatile("mov %%cr3, %0" : "=r"(value) : : "memory");
    } else {
        __asm__ volatile("mov %%cr4, %0" : "=r"(value) : : "memory");
    }
    return value;
}

static void native_write_cr(void *ctx, unsigned cr, uint64_t value)
{
    (void)ctx;
    if (cr == 0) {
        __asm__ volatile("mov %0, %%cr0" : : "r"(value) : "memory");
    } else if (cr == 3) {
        __asm__ volatile("mov %0, %%cr3" : : "r"(value) : "memory");
    } else {
        __asm__ volatile("mov %0, %%cr4" : : "r"(value) : "memory");
    }
}

static void native_invlpg(void *ctx, uint64_t vaddr)
{
    (void)ctx;
    __asm__ volatile("invlpg (%0)" : : "r"(vaddr) : "memory");
}

static void native_invpcid(void *ctx, uint64_t type, uint64_t pcid, uint64_t vaddr)
{
    struct {
        uint64_t pcid;
        uint64_t vaddr;
    } descriptor = {pcid, vaddr};

    (void)ctx;
    __asm__ volatile("invpcid %0, %1" : : "m"(descriptor), "r"(type) : "memory");
}

const struct mm_x86_64_cpu_ops mm_x86_64_native_ops = {
    .cpuid = native_cpuid,
    .read_msr = native_read_msr,
    .write_msr = native_write_msr,
    .read_cr = native_read_cr,
    .write_cr = native_write_cr,
    .invlpg = native_invlpg,
    .invpcid = native_invpcid,
};
