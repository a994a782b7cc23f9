// SPDX-License-Identifier: MIT
//
// The kernel's own root, judged by what the hardware lets through. Error codes: Intel SDM vol. 3A,
// 4.7.

#include <stddef.h>

#include <mm/paging_audit.h>

#include "check.h"
#include "checks.h"
#include "layout.h"
#include "log.h"
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

// One look at all that is mapped, as a kernel's self-test at boot would.
static bool writable_or_executable(void *good, const struct mm_mapping *leaf)
{
    const mm_prot_t both = MM_PROT_WRITE | MM_PROT_EXEC;

    *(bool *)good = (leaf->prot & both) != both && (leaf->prot & MM_PROT_USER) == 0;
    return *(bool *)good;
}

static void check_rights(struct memory *m)
{
    static const char name[] = "nothing is both writable and executable, nothing is the user's";
    bool good = false;

    if (!m->arch.enabled.nx) {
        check_skip(name, "the CPU has no NX");
        return;
    }
    CHECK(name,
          mm_paging_walk(&m->kernel, mm_vrange(mm_vaddr(0), LAYOUT_USER_LEN),
                         writable_or_executable, &good) == MM_OK &&
              !good && // no leaf there
              mm_paging_walk(&m->kernel, mm_vrange(mm_vaddr(LAYOUT_DIRECT_BASE), UINT64_C(1) << 47),
                             writable_or_executable, &good) == MM_OK &&
              good);
}

// Whether the direct map leads to both ends of each usable range.
static bool reaches_memory(struct memory *m)
{
    struct mm_prange r;
    uint64_t nr = 0;

    for (mm_paddr_t at = mm_paddr(0); mm_bootmap_next(&m->map, MM_BOOT_USABLE, at, &r) == MM_OK;
         at = mm_paddr(r.start.raw + r.len)) {
        const mm_paddr_t ends[] = {r.start, mm_prange_last(r)};
        for (unsigned i = 0; i < 2; i++) {
            mm_vaddr_t alias = mm_vaddr_of(mm_physmap_ptr(&m->physmap, ends[i]));
            struct trap_report report;
            struct mm_mapping leaf;
            if (probe_load(alias, &report) ||
                mm_paging_translate(&m->kernel, alias, &leaf) != MM_OK ||
                leaf.paddr.raw + (alias.raw - leaf.page.start.raw) != ends[i].raw) {
                return false;
            }
        }
        nr++;
    }
    return nr > 0;
}

static void check_direct(struct memory *m)
{
    struct mm_mapping apic;

    must(mm_paging_translate(&m->kernel, mm_vaddr(LAYOUT_APIC), &apic), "device map");
    CHECK("the direct map reaches all usable memory", reaches_memory(m));
    CHECK("the direct map leaves devices out",
          probe_unmapped(mm_vaddr_of(mm_physmap_ptr(&m->physmap, apic.paddr))));
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
    CHECK("a guard page is told from a hole",
          memory_is_guard(guard.start) && memory_is_guard(mm_vrange_last(guard)) &&
              !memory_is_guard(mm_vaddr(guard.start.raw + guard.len)) &&
              !memory_is_guard(mm_vaddr(LAYOUT_ARENA_BASE)));
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
              leaf.type == MM_MEMTYPE_UC);
    CHECK("device registers answer", (*version & 0xf0) == 0x10); // 0x1?: an integrated APIC
}

// The root that boot.S built lies there still: a kernel that wants to keep its boot loader's root
// takes it over like this.
static void check_adopted(struct memory *m)
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
               mm_paging_adopt(&adopted, &config, m->boot_root) == MM_OK)) {
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

// All that is mapped, looked at by frames: what was found is in the log.
static uint64_t audit(struct memory *m, uint32_t kinds, uint64_t *nr_runs)
{
    const struct mm_pagetable *root = &m->kernel;
    struct mm_paging_audit a = {.roots = &root, .nr_roots = 1, .kinds = kinds};
    struct mm_frame_request request = {0};
    uint64_t nr_findings = 0;
    mm_pfn_t first;

    must(mm_paging_audit_memory_size(&a, &a.len), "size of the audit");
    *nr_runs = a.len / 32;
    request.nr_frames = a.len / MM_PAGE_SIZE + 1;
    must(mm_frame_alloc(&m->frames, &request, &first), "memory for the audit");
    a.memory = mm_physmap_ptr(&m->physmap, mm_pfn_addr(first));
    must(mm_paging_audit(&a, &nr_findings), "audit");
    mm_frame_free_run(&m->frames, first, request.nr_frames);
    return nr_findings;
}

static void check_audit(struct memory *m)
{
    static const char name[] = "no frame is executable here and writable there";
    const uint32_t rights = MM_AUDIT_WRITE_EXEC | MM_AUDIT_ALIAS_EXEC;
    uint64_t nr_runs;

    CHECK("no frame has two memory types, no entry names memory unseen, nothing is the user's",
          audit(m, MM_AUDIT_USUAL & ~rights, &nr_runs) == 0);
    log_print("audit   %lu runs of leaves\n", nr_runs);
    if (!m->arch.enabled.nx) {
        check_skip(name, "the CPU has no NX");
    } else {
        CHECK(name, audit(m, rights, &nr_runs) == 0);
    }
}

static void check_direct_text(struct memory *m)
{
    struct trap_report r;
    struct mm_mapping text;

    must(mm_paging_translate(&m->kernel, mm_vaddr_of(image_text_start), &text), "text");
    uint64_t paddr = text.paddr.raw + ((uint64_t)(uintptr_t)image_text_start - text.page.start.raw);
    mm_vaddr_t alias = mm_vaddr_of(mm_physmap_ptr(&m->physmap, mm_paddr(paddr)));
    CHECK("a store to text through the direct map is denied",
          probe_store(alias, &r) && probe_is(&r, alias, TRAP_PF_PRESENT | TRAP_PF_WRITE));
}

void checks_paging(struct memory *m)
{
    uint64_t before = memory_nr_free(m);

    check_theme("the kernel's page tables");
    check_image(m);
    check_rights(m);
    check_direct_text(m);
    check_audit(m);
    check_direct(m);
    check_holes(m);
    check_stack_guard();
    check_device(m);
    check_adopted(m);
    CHECK("the kernel's tables are well formed", mm_paging_check(&m->kernel) == MM_OK);
    CHECK("page-table checks return their frames", memory_nr_free(m) == before);
}
