// SPDX-License-Identifier: MIT
//
// Detection and enabling of what protects memory. Bits: Intel SDM vol. 3A, 2.5 (control registers),
// 2.2.1 (EFER); vol. 2A, CPUID. Setting a bit that the CPU lacks is #GP, so each is asked for
// first.

#include "cpu.h"

#include "log.h"

#define CR0_WP   (1ul << 16)
#define CR4_PGE  (1ul << 7)
#define CR4_UMIP (1ul << 11)
#define CR4_SMEP (1ul << 20)
#define CR4_SMAP (1ul << 21)
#define MSR_EFER 0xc0000080
#define EFER_NXE (1ul << 11)

struct cpuid_result {
    uint32_t eax;
    uint32_t ebx;
    uint32_t ecx;
    uint32_t edx;
};

static struct cpuid_result cpuid(uint32_t leaf)
{
    struct cpuid_result r;
    __asm__ volatile("cpuid"
                     : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx)
                     : "a"(leaf), "c"(0));
    return r;
}

static struct cpu_features detect(void)
{
    struct cpu_features f = {0};
    f.global_pages = cpuid(1).edx >> 13 & 1;
    if (cpuid(0).eax >= 7) {
        struct cpuid_result leaf7 = cpuid(7);
        f.smep = leaf7.ebx >> 7 & 1;
        f.smap = leaf7.ebx >> 20 & 1;
        f.umip = leaf7.ecx >> 2 & 1;
    }
    struct cpuid_result extended = cpuid(0x80000001); // there: boot.S asked it for long mode
    f.nx = extended.edx >> 20 & 1;
    f.pages_1g = extended.edx >> 26 & 1;
    return f;
}

void cpu_protect(struct cpu_features *features)
{
    struct cpu_features f = detect();

    if (f.nx) {
        cpu_write_msr(MSR_EFER, cpu_read_msr(MSR_EFER) | EFER_NXE);
    }
    cpu_write_cr0(cpu_read_cr0() | CR0_WP);
    uint64_t cr4 = cpu_read_cr4();
    cr4 |= f.global_pages ? CR4_PGE : 0;
    cr4 |= f.smep ? CR4_SMEP : 0;
    cr4 |= f.smap ? CR4_SMAP : 0;
    cr4 |= f.umip ? CR4_UMIP : 0;
    cpu_write_cr4(cr4);

    log_print("cpu: wp%s%s%s%s%s; 1 GiB pages: %s\n", f.nx ? " nx" : "",
              f.global_pages ? " pge" : "", f.smep ? " smep" : "", f.smap ? " smap" : "",
              f.umip ? " umip" : "", f.pages_1g ? "yes" : "no");
    *features = f;
}
