// SPDX-License-Identifier: MIT
//
// The same kernel once more, in one call: what memory.c does step by step, mm_system_init() does in
// one, over the map as it is now that everything was taken down.

#include <stddef.h>

#include <mm/system.h>

#include "check.h"
#include "checks.h"
#include "layout.h"
#include "probe.h"
#include "shootdown.h"

#define LARGE UINT64_C(65536)

extern const char image_text_start[];

// What each processor has a copy of.
static const uint64_t template[2] = {0x5eed, 0};

static mm_status_t start(struct memory *m, struct mm_system *system)
{
    struct mm_system_config config = {
        .map = &m->map,
        .physmap = &m->physmap,
        .mapped = mm_prange(mm_paddr(0), LAYOUT_BOOT_MAPPED),
        .platform = platform_ops(),
        .backend = mm_x86_64_backend(&m->arch),
        .tlb = &m->tlb,
        .sections = m->boot.sections,
        .nr_sections = m->boot.nr_sections,
        .kernel_ranges = memory_ranges,
        .nr_kernel_ranges = MEMORY_NR_RANGES,
        .nr_cpus = m->nr_cpus,
        .user = mm_vrange(mm_vaddr(0), LAYOUT_USER_LEN),
        .kernel_space = mm_vrange(mm_vaddr(LAYOUT_ARENA_BASE), LAYOUT_ENTRY_LEN),
        .arena =
            {
                .range = mm_vrange(mm_vaddr(LAYOUT_KVA_BASE), LAYOUT_ENTRY_LEN),
                .large_size = LARGE,
                .percpu = template,
                .percpu_len = sizeof(template),
                .red_zone_pages = 4,
                .nr_stacks = 2,
                .nr_reserve_tables = MM_KVA_TABLES_PER_PAGE,
            },
        .user_ops = m->arch.enabled.smap ? &mm_x86_64_user_smap_ops : &mm_x86_64_user_ops,
    };
    return mm_system_init(system, &config);
}

// First frame, first mapping: stored through the one, seen through the other.
static bool maps(struct memory *m, struct mm_system *system, mm_pfn_t frame)
{
    struct mm_vrange page = mm_vrange(mm_vaddr(LAYOUT_WINDOW), MM_PAGE_SIZE);
    mm_vaddr_t alias = mm_vaddr_of(mm_physmap_ptr(&m->physmap, mm_pfn_addr(frame)));
    struct mm_gather gather;

    if (mm_paging_map(&system->kernel, page, mm_pfn_addr(frame), MM_PROT_RW, MM_MEMTYPE_WB, 0) !=
        MM_OK) {
        return false;
    }
    probe_set(page.start, page.start.raw);
    bool good = probe_get(alias) == page.start.raw;
    must(mm_gather_begin(&gather, &system->kernel), "gather");
    good = mm_paging_unmap(&system->kernel, page, 0, &gather) == MM_OK && good;
    mm_gather_end(&gather);
    return good && probe_unmapped(page.start);
}

static bool protects_text(void)
{
    struct trap_report r;
    mm_vaddr_t text = mm_vaddr_of(image_text_start);

    return probe_store(text, &r) && probe_is(&r, text, TRAP_PF_PRESENT | TRAP_PF_WRITE) &&
           probe_unmapped(mm_vaddr(0));
}

// A stack: it can be written down to its last word, and what ran over is told.
static void check_stack(struct mm_system *system)
{
    struct mm_vrange stack;
    struct mm_kva_place place;

    must(mm_kva_stack_alloc(&system->kva, 4 * MM_PAGE_SIZE, 0, &stack), "a stack");
    probe_set(stack.start, 7);
    CHECK("a stack of its arena has a red zone",
          probe_get(stack.start) == 7 && probe_unmapped(mm_vaddr(stack.start.raw - 8)) &&
              probe_unmapped(mm_vaddr(stack.start.raw - 4 * MM_PAGE_SIZE)) &&
              mm_kva_explain(&system->kva, mm_vaddr(stack.start.raw - 8), &place) == MM_OK &&
              place.where == MM_KVA_GUARD_BELOW);
    CHECK("it stays up while a stack is out", mm_system_destroy(system) == MM_ERR_BUSY);
    mm_kva_stack_free(&system->kva, stack.start);
}

static void check_areas(struct mm_system *system, uint32_t nr_cpus)
{
    bool good = true;

    for (uint32_t cpu = 0; cpu < nr_cpus; cpu++) {
        uint64_t *mine = mm_percpu_ptr(&system->percpu, cpu, template);

        good = good && mine[0] == template[0] && mine[1] == 0;
        mine[1] = cpu + 1;
        good = good && *(uint64_t *)mm_percpu_ptr(&system->percpu, cpu, &template[1]) == cpu + 1;
    }
    CHECK("each processor has its area", good);
}

static void check_large_objects(struct mm_system *system)
{
    const struct mm_vrange arena = mm_vrange(mm_vaddr(LAYOUT_KVA_BASE), LAYOUT_ENTRY_LEN);
    uint8_t *first = mm_heap_alloc(&system->heap, LARGE);
    uint8_t *last = mm_heap_alloc_zeroed(&system->heap, 2 * LARGE);

    CHECK("large objects of the heap lie in its arena, between guards",
          first != NULL && last != NULL && mm_vrange_contains(arena, mm_vaddr_of(first)) &&
              mm_vrange_contains(arena, mm_vaddr_of(last)) &&
              probe_unmapped(mm_vaddr_of(last - 1)) &&
              probe_unmapped(mm_vaddr_of(last + 2 * LARGE)));
    last[2 * LARGE - 1] = 9;
    CHECK("the last of them grows where it lies",
          mm_heap_realloc(&system->heap, last, 9 * LARGE) == last && last[2 * LARGE - 1] == 9 &&
              probe_unmapped(mm_vaddr_of(last + 9 * LARGE)));
    mm_heap_free(&system->heap, first);
    mm_heap_free(&system->heap, last);
}

void checks_system(struct memory *m)
{
    static struct mm_system system;
    struct mm_paging_backend backend = mm_x86_64_backend(&m->arch);
    mm_pfn_t frame;

    check_theme("the usual kernel in one call");
    shootdown_init(m); // for all processors, though only this one comes
    if (!CHECK("all rooms come up", start(m, &system) == MM_OK)) {
        return;
    }
    CHECK("its root is the one in use",
          mm_paging_current_root(backend).raw == mm_paging_root(&system.kernel).raw &&
              protects_text());
    must(mm_frame_alloc(&system.frames, NULL, &frame), "the first frame");
    CHECK("the first frame is mapped, and unmapped", maps(m, &system, frame));
    mm_frame_free(&system.frames, frame, 0);

    void *object = mm_heap_alloc_zeroed(&system.heap, 100);
    CHECK("the heap gives the first object", object != NULL);
    CHECK("it stays up while an object is out", mm_system_destroy(&system) == MM_ERR_BUSY);
    mm_heap_free(&system.heap, object);
    check_stack(&system);
    check_areas(&system, m->nr_cpus);
    check_large_objects(&system);
    CHECK("all rooms agree with themselves", mm_system_check(&system) == MM_OK);
    CHECK("all rooms are taken down again",
          mm_system_destroy(&system) == MM_OK &&
              mm_paging_current_root(backend).raw == m->boot_root.raw &&
              mm_bootmap_usable_bytes(&m->map) == m->usable_bytes);
    must(mm_tlb_destroy(&m->tlb), "end of flushes on all processors");
}
