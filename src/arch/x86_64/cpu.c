// SPDX-License-Identifier: MIT
/**
 * What the CPU can do, switching it on, and what a page fault's error code says. All through the
 * ops, so a simulated CPU serves as well.
 */
#include "registers.h"
#include <mm/arch/x86_64.h>

#define PADDR_BITS_LEAST 32u

static bool bit(uint32_t word, unsigned n)
{
    return ((word >> n) & 1) != 0;
}

/** The answer of a leaf of CPUID; zeroes beyond the highest leaf of its group. */
static struct mm_x86_64_cpuid cpuid(const struct mm_x86_64 *arch, uint32_t leaf)
{
    struct mm_x86_64_cpuid none = {0, 0, 0, 0};
    struct mm_x86_64_cpuid group = arch->ops->cpuid(arch->ctx, leaf & 0x80000000u, 0);

    return group.eax >= leaf ? arch->ops->cpuid(arch->ctx, leaf, 0) : none;
}

static void detect(struct mm_x86_64 *arch)
{
    struct mm_x86_64_features *f = &arch->features;
    struct mm_x86_64_cpuid basic = cpuid(arch, 1);
    struct mm_x86_64_cpuid structured = cpuid(arch, 7);
    struct mm_x86_64_cpuid extended = cpuid(arch, 0x80000001u);
    uint32_t bits = cpuid(arch, 0x80000008u).eax & 0xff;

    /* SDM vol. 3A, 4.1.4: without that leaf, 36 with PAE. A hypervisor that tells less than any CPU
     * with PAE has, and which could not hold a page's offset, has told nothing. */
    if (bits < PADDR_BITS_LEAST) {
        bits = 36;
    }
    f->paddr_bits = (uint8_t)(bits > MM_PADDR_BITS_MAX ? MM_PADDR_BITS_MAX : bits);
    f->nx = bit(extended.edx, 20);
    f->page_1g = bit(extended.edx, 26);
    f->global_pages = bit(basic.edx, 13);
    f->pat = bit(basic.edx, 16);
    f->pcid = bit(basic.ecx, 17);
    f->invpcid = bit(structured.ebx, 10);
    f->smep = bit(structured.ebx, 7);
    f->smap = bit(structured.ebx, 20);
    f->umip = bit(structured.ecx, 2);
    f->pku = bit(structured.ecx, 3);
    f->la57 = bit(structured.ecx, 16);
}

static void look(struct mm_x86_64 *arch)
{
    struct mm_x86_64_enabled *e = &arch->enabled;
    uint64_t cr0 = arch->ops->read_cr(arch->ctx, 0);
    uint64_t cr4 = arch->ops->read_cr(arch->ctx, 4);

    arch->features.vaddr_bits = (cr4 & CR4_LA57) != 0 ? 57 : 48;
    e->nx = arch->features.nx && (arch->ops->read_msr(arch->ctx, MSR_EFER) & EFER_NXE) != 0;
    e->write_protect = (cr0 & CR0_WP) != 0;
    e->global_pages = (cr4 & CR4_PGE) != 0;
    e->pat = arch->features.pat && arch->ops->read_msr(arch->ctx, MSR_PAT) == PAT_TABLE;
    /* PCIDs without PGE could not all be dropped at once. */
    e->pcid = (cr4 & CR4_PCIDE) != 0 && e->global_pages;
    e->smep = (cr4 & CR4_SMEP) != 0;
    e->smap = (cr4 & CR4_SMAP) != 0;
    e->umip = (cr4 & CR4_UMIP) != 0;
}

mm_status_t mm_x86_64_init(struct mm_x86_64 *arch, const struct mm_x86_64_cpu_ops *ops, void *ctx)
{
    if (arch == NULL || ops == NULL || ops->cpuid == NULL || ops->read_msr == NULL ||
        ops->write_msr == NULL || ops->read_cr == NULL || ops->write_cr == NULL ||
        ops->invlpg == NULL || ops->invpcid == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (arch->magic == X86_64_MAGIC) {
        return MM_ERR_ALREADY_INITIALIZED;
    }
    arch->ops = ops;
    arch->ctx = ctx;
    detect(arch);
    look(arch);
    arch->magic = X86_64_MAGIC;
    return MM_OK;
}

/** Set bits of a control register, with no write if they are set. */
static void cr_set(const struct mm_x86_64 *arch, unsigned cr, uint64_t bits)
{
    uint64_t now = arch->ops->read_cr(arch->ctx, cr);

    if ((now & bits) != bits) {
        arch->ops->write_cr(arch->ctx, cr, now | bits);
    }
}

/** SDM vol. 3A, 4.10.1: MOV to CR4 that sets PCIDE is #GP unless CR3[11:0] is 0. What may stand
 * there before are PCD and PWT of the root (4.5, table 4-12): it is ordinary memory. */
static void set_pcide(const struct mm_x86_64 *arch)
{
    uint64_t cr3 = arch->ops->read_cr(arch->ctx, 3);

    if ((arch->ops->read_cr(arch->ctx, 4) & CR4_PCIDE) != 0) {
        return;
    }
    if ((cr3 & CR3_PCID) != 0) {
        arch->ops->write_cr(arch->ctx, 3, cr3 & ~CR3_PCID);
    }
    cr_set(arch, 4, CR4_PCIDE);
}

/** The library's table of memory types. SDM vol. 3A, 12.12.4: the TLB may hold types of the old
 * one. Only entries that repeat others change their meaning, so no cache line is of a wrong type.
 */
static void set_pat(const struct mm_x86_64 *arch)
{
    uint64_t cr4 = arch->ops->read_cr(arch->ctx, 4);

    if (arch->ops->read_msr(arch->ctx, MSR_PAT) == PAT_TABLE) {
        return;
    }
    arch->ops->write_msr(arch->ctx, MSR_PAT, PAT_TABLE);
    if ((cr4 & CR4_PGE) != 0) {
        arch->ops->write_cr(arch->ctx, 4, cr4 & ~CR4_PGE);
        arch->ops->write_cr(arch->ctx, 4, cr4);
    } else {
        arch->ops->write_cr(arch->ctx, 3, arch->ops->read_cr(arch->ctx, 3));
    }
}

mm_status_t mm_x86_64_enable(struct mm_x86_64 *arch)
{
    const struct mm_x86_64_features *f;
    uint64_t efer;

    if (arch == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (arch->magic != X86_64_MAGIC) {
        return MM_ERR_NOT_INITIALIZED;
    }
    f = &arch->features;
    if (f->nx) {
        efer = arch->ops->read_msr(arch->ctx, MSR_EFER);
        if ((efer & EFER_NXE) == 0) {
            arch->ops->write_msr(arch->ctx, MSR_EFER, efer | EFER_NXE);
        }
    }
    if (f->pat) {
        set_pat(arch);
    }
    cr_set(arch, 0, CR0_WP);
    cr_set(arch, 4,
           (f->global_pages ? CR4_PGE : 0) | (f->smep ? CR4_SMEP : 0) | (f->smap ? CR4_SMAP : 0) |
               (f->umip ? CR4_UMIP : 0));
    if (f->pcid && f->global_pages) {
        set_pcide(arch);
    }
    look(arch);
    return MM_OK;
}

struct mm_fault mm_x86_64_fault(uint64_t error_code, uint64_t cr2)
{
    /* By bit of the error code (SDM vol. 3A, 4.7, figure 4-12). */
    static const uint8_t meaning[] = {
        MM_FAULT_PRESENT,  MM_FAULT_WRITE, MM_FAULT_USER,
        MM_FAULT_RESERVED, MM_FAULT_EXEC,  MM_FAULT_PKEY,
    };
    struct mm_fault fault = {{cr2}, 0};

    for (unsigned i = 0; i < sizeof(meaning); i++) {
        if (((error_code >> i) & 1) != 0) {
            fault.flags |= meaning[i];
        }
    }
    if (error_code >> sizeof(meaning) != 0) {
        fault.flags |= MM_FAULT_OTHER;
    }
    return fault;
}
