// SPDX-License-Identifier: MIT
//
// The kernel's own root, judged by what the hardware lets through. Error codes: Intel SDM vol. 3A,
// 4.7.

#include <stddef.h>

#include "check.h"
#include "checks.h"
#include "layout.h"
#include "probe.h"

#define APIC_VERSION 0x30 // Intel SDM vol. 3A, 11.4.8

extern const char image_start[];
extern const char image_text_start[];
extern const char image_rodata_start[];
extern const char boot_stack_guard[];
extern const char boot_stack_bottom[];

static uint8_t return_instruction[] = {0xc3};

static void check_image(struct memory *m)
{
    struct trap_report r;
    mm_vaddr_t text = mm_vaddr_of(image_text_start);
    mm_vaddr_t rodata = mm_vaddr_of(image_rodata_start);
    mm_vaddr_t data = mm_vaddr_of(return_instruction);

    CHECK("a store to text is denied",
          probe_store(text, &r) && probe_is(&r, text, TRAP_PF_PRESENT | TRAP_PF_WRITE));
    CHECK("a store to constants is denied",
          probe_store(rodata, &r) && probe_is(&r, rodata, TRAP_PF_PRESENT | TRAP_PF_WRITE));
    if (!m->arch.enabled.nx) {
        check_skip("an execute in data is denied", "the CPU has no NX");
        check_skip("an execute in the direct map is denied", "the CPU has no NX");
        return;
    }
    CHECK("an execute in data is denied",
          probe_call(data, &r) && probe_is(&r, data, TRAP_PF_PRESENT | TRAP_PF_FETCH));

    mm_pfn_t frame;
    must(mm_frame_alloc(&m->frames, NULL, &frame), "a frame for code");
    uint8_t *alias = mm_physmap_ptr(&m->physmap, mm_pfn_addr(frame));
    *alias = return_instruction[0];
    CHECK("an execute in the direct map is denied",
          probe_call(mm_vaddr_of(alias), &r) &&
              probe_is(&r, mm_vaddr_of(alias), TRAP_PF_PRESENT | TRAP_PF_FETCH));
    mm_frame_free(&m->frames, frame, 0);
}

static void check_holes(struct memory *m)
{
    struct trap_report r;
    struct mm_mapping hole;
    mm_vaddr_t image = mm_vaddr((uint64_t)(uintptr_t)image_start - LAYOUT_IMAGE_BASE);
    mm_vaddr_t beyond = mm_vaddr(UINT64_C(1) << 47);

    CHECK("a null read faults", probe_unmapped(mm_vaddr(0)));
    CHECK("the identity map is gone", probe_unmapped(image));
    CHECK("a non-canonical address is refused by the CPU",
          probe_load(beyond, &r) && r.vector == TRAP_GENERAL_PROTECTION);
    CHECK("a non-canonical address is refused by the library",
          mm_paging_translate(&m->kernel, beyond, &hole) == MM_ERR_INVALID_ADDRESS);
}

// A push below the stack's last page: the fault's own frame finds no room there either.
static void overflow_stack(void *bottom)
{
    __asm__ volatile("movq %0, %%rsp\n\tpushq $0" : : "r"(bottom) : "memory");
}

static void check_stack_guard(void)
{
    struct trap_report r;
    struct mm_vrange guard = mm_vrange(mm_vaddr_of(boot_stack_guard), MM_PAGE_SIZE);

    CHECK("the guard page under the stack faults",
          probe_store(guard.start, &r) && probe_is(&r, guard.start, TRAP_PF_WRITE));
    CHECK("a stack overflow is told by a double fault in the guard page",
          trap_try(overflow_stack, (void *)(uintptr_t)boot_stack_bottom, &r) &&
              r.vector == TRAP_DOUBLE_FAULT && mm_vrange_contains(guard, mm_vaddr(r.address)));
}

static void check_device(struct memory *m)
{
    struct mm_mapping leaf;
    volatile uint32_t *version = (volatile uint32_t *)(uintptr_t)(LAYOUT_APIC + APIC_VERSION);

    CHECK("device registers are mapped uncached",
          mm_paging_translate(&m->kernel, mm_vaddr(LAYOUT_APIC), &leaf) == MM_OK &&
              leaf.type == MM_MEMTYPE_UC && (leaf.prot & MM_PROT_EXEC) == 0);
    CHECK("device registers answer", (*version & 0xf0) == 0x10); // 0x1?: an integrated APIC
}

// The root that boot.S built lies there still: a kernel that wants to keep its boot loader's root
// takes it over like this.
static void check_adopted(struct memory *m, uint64_t boot_root)
{
    static struct mm_pagetable adopted;
    const struct mm_vrange ranges[] = {
        {{0}, MM_SIZE_1G},
        {{LAYOUT_DIRECT_BASE}, LAYOUT_ENTRY_LEN},
        {{LAYOUT_IMAGE_BASE}, LAYOUT_IMAGE_LEN},
    };
    struct mm_paging_config config = {
        .backend = m->kernel.backend,
        .physmap = &m->physmap,
        .source = m->kernel.source,
        .platform = platform_ops(),
        .kernel_ranges = ranges,
        .nr_kernel_ranges = sizeof(ranges) / sizeof(ranges[0]),
    };
    struct mm_mapping leaf;
    struct mm_gather gather;

    if (!CHECK("a root that someone else built is adopted",
               mm_paging_adopt(&adopted, &config, mm_paddr(boot_root)) == MM_OK)) {
        return;
    }
    CHECK("an adopted root tells where the image is",
          mm_paging_translate(&adopted, mm_vaddr_of(image_start), &leaf) == MM_OK &&
              leaf.page.len == MM_SIZE_2M &&
              leaf.paddr.raw + LAYOUT_IMAGE_BASE == leaf.page.start.raw);
    must(mm_gather_begin(&gather, &adopted), "gather");
    CHECK("an adopted root loses its identity map",
          mm_paging_unmap(&adopted, ranges[0], 0, &gather) == MM_OK &&
              mm_paging_translate(&adopted, mm_vaddr(0), &leaf) == MM_ERR_NOT_MAPPED);
    mm_gather_end(&gather);
    must(mm_paging_destroy(&adopted), "end of the adopted root");
}

void checks_paging(struct memory *m, uint64_t boot_root)
{
    uint64_t before = memory_nr_free(m);

    check_image(m);
    check_holes(m);
    check_stack_guard();
    check_device(m);
    check_adopted(m, boot_root);
    CHECK("the kernel's tables are well formed", mm_paging_check(&m->kernel) == MM_OK);
    CHECK("page-table checks return their frames", memory_nr_free(m) == before);
}
