// SPDX-License-Identifier: MIT
//
// The laboratory. What must go on working in it with any registers is what boot.S built: its tables
// have no NX, no user bit and no read-only page. Descriptors: Intel SDM vol. 3A, 3.4.5, 6.14.1, 8.7.

#include "lab.h"

#include <stddef.h>

#include "layout.h"

#define PAGE_SIZE UINT64_C(4096)

#define MSR_EFER    0xc0000080
#define MSR_GS_BASE 0xc0000101

#define GATE_KERNEL 0x8e // present, interrupt gate
#define GATE_USER   0xee // the same, open to ring 3
#define NR_VECTORS  32
#define CODE_32     0x38 // as in lab_switch.S

#define IDENTITY_SLOT   0u
#define CODE_SLOT       1u
#define WINDOW_SLOT     2u
#define SLOT_BASE(slot) ((uint64_t)(slot) << 39)

struct table_pointer {
    uint16_t limit;
    uint64_t base;
} __attribute__((packed));

struct gate {
    uint16_t offset_low;
    uint16_t selector;
    uint8_t ist;
    uint8_t type;
    uint16_t offset_middle;
    uint32_t offset_high;
    uint32_t reserved;
};

// What is put back at the end.
static struct {
    uint64_t cr0, cr3, cr4, efer, gs_base;
    struct table_pointer gdt, idt;
    uint16_t tss;
} before;

extern const char lab_switch_low[];
extern const char lab_switch_low_end[];
void lab_switch_levels(uint64_t cr4, uint64_t cr3);

static uint64_t gdt[8];
static struct gate idt[NR_VECTORS];
static uint32_t tss[26]; // 64-bit TSS: 104 bytes
static _Alignas(16) uint8_t stack[4096];

static uint64_t *table(struct lab *lab, unsigned i)
{
    return mm_physmap_ptr(&lab->memory->physmap, mm_pfn_addr(lab->frames[i]));
}

static uint64_t frame(const struct lab *lab, unsigned i)
{
    return mm_pfn_addr(lab->frames[i]).raw;
}

static uint64_t *entry_of(void *ctx, uint64_t paddr)
{
    return mm_physmap_ptr(&((struct lab *)ctx)->memory->physmap, mm_paddr(paddr));
}

// ---- tables -------------------------------------------------------------------------------------

// Frames 0 to 3: the window's tables, 3 of them the root of 4 levels. 4: the page. 5 to 7: tables for
// the code. With 5 levels 8 and 9 are the window's tables of levels 3 and 4, 9 is the root, and 3
// hangs from it twice, for the code and for the upper half; 10 and 11 are for what switches.
static void build_code(struct lab *lab)
{
    const uint64_t bits = T_MMU_P | T_MMU_US;
    uint64_t code = (uintptr_t)t_access_load - LAYOUT_IMAGE_BASE;

    table(lab, 3)[CODE_SLOT] = frame(lab, 7) | bits;
    table(lab, 7)[0] = frame(lab, 6) | bits;
    table(lab, 6)[0] = frame(lab, 5) | bits;
    table(lab, 5)[0] = (code & ~(PAGE_SIZE - 1)) | bits;
}

static void build_window(struct lab *lab)
{
    for (unsigned level = 0; level < lab->levels; level++) {
        unsigned i = lab->levels == 5 && level >= 3 ? level + 5 : level;

        lab->site.table[level] = frame(lab, i);
        lab->slot[level] = &table(lab, i)[(lab->window >> (12 + 9 * level)) & 511];
    }
}

static void build_fifth_level(struct lab *lab)
{
    const uint64_t bits = T_MMU_P | T_MMU_RW;
    uint64_t low = (uintptr_t)lab_switch_low - LAYOUT_IMAGE_BASE;
    uint64_t end = (uintptr_t)lab_switch_low_end - LAYOUT_IMAGE_BASE;

    table(lab, 9)[0] = frame(lab, 3) | bits | T_MMU_US;
    table(lab, 9)[511] = frame(lab, 3) | bits;
    table(lab, 3)[IDENTITY_SLOT] = frame(lab, 10) | bits;
    table(lab, 10)[0] = frame(lab, 11) | bits;
    for (uint64_t i = low / MM_SIZE_2M; i <= end / MM_SIZE_2M; i++) {
        table(lab, 11)[i] = i * MM_SIZE_2M | bits | T_MMU_PS;
    }
}

void lab_init(struct lab *lab, struct memory *m, unsigned levels)
{
    const struct mm_frame_request request = {
        .flags = MM_FRAME_ZERO,
        .highest = mm_paddr(LAYOUT_BOOT_MAPPED - 1), // what the laboratory reaches
    };
    const uint64_t *boot_root = mm_physmap_ptr(&m->physmap, m->boot_root);

    *lab = (struct lab){.memory = m, .levels = levels};
    for (unsigned i = 0; i < LAB_NR_FRAMES; i++) {
        must(mm_frame_alloc(&m->frames, &request, &lab->frames[i]), "a frame for the laboratory");
    }
    for (unsigned i = 256; i < 512; i++) {
        table(lab, 3)[i] = boot_root[i];
    }
    lab->site.page = frame(lab, 4);
    lab->page = (volatile uint8_t *)table(lab, 4);
    lab->page[0] = T_ACCESS_OPCODE;
    // One address for leaves of all sizes: the page lies alike in each.
    lab->window = (levels == 5 ? UINT64_C(1) << 48 : SLOT_BASE(WINDOW_SLOT)) |
                  (lab->site.page & (MM_SIZE_1G - 1));
    build_window(lab);
    build_code(lab);
    if (levels == 5) {
        build_fifth_level(lab);
    }
    lab->mmu = (struct t_mmu){
        .cr3 = lab->site.table[levels - 1],
        .paddr_bits = m->arch.features.paddr_bits,
        .has_1g = m->arch.features.page_1g,
        .ctx = lab,
        .entry = entry_of,
    };
}

void lab_destroy(struct lab *lab)
{
    for (unsigned i = 0; i < LAB_NR_FRAMES; i++) {
        mm_frame_free(&lab->memory->frames, lab->frames[i], 0);
    }
}

// ---- descriptors --------------------------------------------------------------------------------

static void set_descriptors(void)
{
    uint64_t base = (uintptr_t)tss;
    uint64_t top = (uintptr_t)stack + sizeof(stack);

    gdt[T_ACCESS_KERNEL_CODE / 8] = 0x00af9a000000ffff;
    gdt[T_ACCESS_KERNEL_DATA / 8] = 0x00cf92000000ffff;
    gdt[T_ACCESS_USER_DATA / 8] = 0x00cff2000000ffff;
    gdt[T_ACCESS_USER_CODE / 8] = 0x00affa000000ffff;
    gdt[T_ACCESS_TSS / 8] =
        (sizeof(tss) - 1) | (base & 0xffffff) << 16 | 0x89ull << 40 | (base >> 24 & 0xff) << 56;
    gdt[T_ACCESS_TSS / 8 + 1] = base >> 32;
    gdt[CODE_32 / 8] = 0x00cf9a000000ffff;
    tss[9] = (uint32_t)top; // IST 1
    tss[10] = (uint32_t)(top >> 32);
    tss[25] = (uint32_t)sizeof(tss) << 16; // no I/O bitmap
}

static void set_gates(void)
{
    for (unsigned vector = 0; vector < NR_VECTORS; vector++) {
        uint64_t target = (uintptr_t)t_access_vectors + (uint64_t)vector * T_ACCESS_VECTOR_SIZE;

        idt[vector] = (struct gate){
            .offset_low = (uint16_t)target,
            .selector = T_ACCESS_KERNEL_CODE,
            .ist = 1,
            .type = vector == T_ACCESS_END ? GATE_USER : GATE_KERNEL,
            .offset_middle = (uint16_t)(target >> 16),
            .offset_high = (uint32_t)(target >> 32),
        };
    }
}

static void load_segments(void)
{
    __asm__ volatile("movw %w0, %%ds\n\tmovw %w0, %%es\n\tmovw %w0, %%ss"
                     :
                     : "r"(T_ACCESS_KERNEL_DATA)
                     : "memory");
}

// The descriptor of the task segment is marked busy by LTR, which refuses one that is.
static void load_tss(uint64_t *descriptors, uint16_t selector)
{
    descriptors[selector / 8] &= ~(2ull << 40);
    __asm__ volatile("ltr %0" : : "r"(selector) : "memory");
}

// ---- in and out ---------------------------------------------------------------------------------

static const struct mm_x86_64_cpu_ops *const cpu = &mm_x86_64_native_ops;

void lab_enter(struct lab *lab)
{
    const struct table_pointer new_gdt = {sizeof(gdt) - 1, (uintptr_t)gdt};
    const struct table_pointer new_idt = {sizeof(idt) - 1, (uintptr_t)idt};

    set_descriptors();
    set_gates();
    before.cr0 = cpu->read_cr(NULL, 0);
    before.cr3 = cpu->read_cr(NULL, 3);
    before.cr4 = cpu->read_cr(NULL, 4);
    before.efer = cpu->read_msr(NULL, MSR_EFER);
    before.gs_base = cpu->read_msr(NULL, MSR_GS_BASE);
    __asm__ volatile("sgdt %0\n\tsidt %1\n\tstr %2"
                     : "=m"(before.gdt), "=m"(before.idt), "=m"(before.tss));
    lab->mmu.cr0 = before.cr0;
    lab->mmu.cr4 = before.cr4;
    lab->mmu.efer = before.efer;
    cpu->write_cr(NULL, 3, frame(lab, 3));
    __asm__ volatile("lgdt %0\n\tlidt %1" : : "m"(new_gdt), "m"(new_idt) : "memory");
    load_tss(gdt, T_ACCESS_TSS);
    if (lab->levels == 5) {
        lab->mmu.cr4 |= T_MMU_CR4_LA57;
        lab_switch_levels(lab->mmu.cr4, lab->mmu.cr3);
    }
}

void lab_leave(struct lab *lab)
{
    if (lab->levels == 5) {
        lab_switch_levels(before.cr4, frame(lab, 3));
    }
    cpu->write_cr(NULL, 0, before.cr0);
    cpu->write_cr(NULL, 4, before.cr4);
    cpu->write_msr(NULL, MSR_EFER, before.efer);
    cpu->write_cr(NULL, 3, before.cr3); // last: the kernel's entries may need NXE
    __asm__ volatile("lgdt %0\n\tlidt %1" : : "m"(before.gdt), "m"(before.idt) : "memory");
    load_tss((uint64_t *)(uintptr_t)before.gdt.base, before.tss);
    load_segments();
    cpu->write_msr(NULL, MSR_GS_BASE, before.gs_base);
}

void lab_set_regs(struct lab *lab, unsigned regs)
{
    t_truth_set_regs(&lab->mmu, regs);
    cpu->write_cr(NULL, 0, lab->mmu.cr0);
    cpu->write_cr(NULL, 4, lab->mmu.cr4);
    if (cpu->read_msr(NULL, MSR_EFER) != lab->mmu.efer) {
        cpu->write_msr(NULL, MSR_EFER, lab->mmu.efer);
    }
    // SDM vol. 3A, 4.10.4.1: what WP, SMEP and NXE change may be in the TLB; nothing is global here
    // but what the kernel's own root left behind, which no access of the checks goes to.
    cpu->write_cr(NULL, 3, lab->mmu.cr3);
}

void lab_access(struct lab *lab, unsigned access, struct t_access_result *out)
{
    uint64_t code = (uintptr_t)((access & T_MMU_WRITE) != 0   ? t_access_store
                                : (access & T_MMU_FETCH) != 0 ? t_access_fetch
                                                              : t_access_load);

    if ((access & T_MMU_USER) != 0) {
        code = SLOT_BASE(CODE_SLOT) | (code & (PAGE_SIZE - 1));
    }
    cpu->invlpg(NULL, lab->window);
    t_access(code, lab->window, access, out);
}
