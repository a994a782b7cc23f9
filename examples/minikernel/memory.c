// SPDX-License-Identifier: MIT
//
// From a boot map to everything else, one step after the other.

#include "memory.h"

#include <stddef.h>

#include "cpu.h"
#include "layout.h"
#include "log.h"
#include "panic.h"
#include "percpu.h"
#include "shootdown.h"

/** What tables, heap, spaces and the checks need beside metadata, with room to spare. */
#define MEMORY_MINIMUM (UINT64_C(16) << 20)

#define MSR_APIC_BASE         0x1b
#define MSR_APIC_BASE_ADDRESS UINT64_C(0x000ffffffffff000)

// ---- CPU ----------------------------------------------------------------------------------------

void memory_find_processors(struct memory *m)
{
    const char *why_not = acpi_find_processors(&m->boot, &m->physmap, &m->processors);

    m->nr_cpus = m->processors.nr;
    if (why_not != NULL) {
        m->nr_cpus = 1;
        log_print("smp     1 processor: %s\n", why_not);
        return;
    }
    log_print("smp     %u %s in the ACPI tables", m->processors.nr_listed,
              m->processors.nr_listed == 1 ? "processor" : "processors");
    if (m->processors.nr_dormant != 0) {
        log_print(", %u more that may be added", m->processors.nr_dormant);
    }
    if (m->processors.nr < m->processors.nr_listed) {
        log_print("; this kernel starts %u of them", m->processors.nr);
    }
    log_print("\n");
}

void memory_enable_cpu(struct memory *m)
{
    must(mm_x86_64_init(&m->arch, &mm_x86_64_native_ops, NULL), "CPU features");
    must(mm_x86_64_enable(&m->arch), "CPU protection");

    const struct mm_x86_64_enabled *on = &m->arch.enabled;
    log_print("cpu     addresses of %u bits, physical ones of %u; pages up to %s\n",
              m->arch.features.vaddr_bits, m->arch.features.paddr_bits,
              m->arch.features.page_1g ? "1 GiB" : "2 MiB");
    log_print("cpu     on:%s%s%s%s%s%s%s%s\n", on->nx ? " nx" : "", on->write_protect ? " wp" : "",
              on->global_pages ? " global" : "", on->pat ? " pat" : "", on->smep ? " smep" : "",
              on->smap ? " smap" : "", on->umip ? " umip" : "", on->pcid ? " pcid" : "");
}

// ---- frames -------------------------------------------------------------------------------------

void memory_start_frames(struct memory *m)
{
    struct mm_frames_config config = {
        .map = &m->map,
        .physmap = &m->physmap,
        .platform = platform_ops(),
        .nr_cpus = m->nr_cpus,
        .flags = MM_FRAMES_REFCOUNTS | MM_FRAMES_OWNERS,
        .numa = &m->numa,
        .cpu_nodes = m->cpu_nodes,
        // They have been read by now, all but what the other processors start on: memory_reclaim().
        .later_kinds = MM_BOOT_BIT(MM_BOOT_BOOTLOADER) | MM_BOOT_BIT(MM_BOOT_ACPI_RECLAIM),
    };
    uint64_t need = 0;
    mm_status_t status = mm_frame_metadata_size(&config, &need);
    if (status == MM_OK) {
        // The boot loader's map ends somewhere: metadata beyond it would be written into nothing.
        status =
            mm_frame_init_from_map(&m->frames, &config, mm_prange(mm_paddr(0), LAYOUT_BOOT_MAPPED));
    }
    if (status == MM_ERR_NO_MEMORY) {
        give_up("too little memory: %lu KiB usable, frame metadata needs %lu KiB",
                mm_bootmap_usable_bytes(&m->map) / 1024, (need + 1023) / 1024);
    }
    must(status, "frame allocator");
    // What is absent comes before anything large is asked for.
    struct mm_frame_stats s;
    must(mm_frame_get_stats(&m->frames, &s), "frame statistics");
    uint64_t bytes = (s.nr_free + s.nr_absent) * MM_PAGE_SIZE;
    if (bytes < MEMORY_MINIMUM) {
        give_up("too little memory: %lu KiB usable, the kernel needs %lu KiB", bytes / 1024,
                MEMORY_MINIMUM / 1024);
    }
    memory_print_frames(m);
    memory_print_nodes(m);
}

void memory_reclaim(struct memory *m)
{
    const struct mm_prange all = mm_prange(mm_paddr(0), UINT64_C(1) << 52);
    struct mm_frame_stats s;

    must(mm_frame_get_stats(&m->frames, &s), "frame statistics");
    if (s.nr_absent != 0) {
        must(mm_frame_add(&m->frames, all, &m->nr_reclaimed), "memory of the boot loader");
    }
    log_print("frame   %lu KiB more, which the boot loader and ACPI tables had\n",
              m->nr_reclaimed * MM_PAGE_SIZE / 1024);
}

void memory_stop_frames(struct memory *m)
{
    must(mm_frame_destroy_to_map(&m->frames, &m->map), "end of the frame allocator");
}

void memory_print_frames(struct memory *m)
{
    struct mm_frame_stats s;
    must(mm_frame_get_stats(&m->frames, &s), "frame statistics");
    log_print("frame   %lu frames in %u spans, %lu of them free, %lu blocks of 2 MiB whole\n",
              s.nr_frames, s.nr_spans, s.nr_free, s.nr_free_2m);
    log_print("frame   %lu KiB of metadata, %lu of them say what is free\n",
              s.metadata_bytes / 1024, s.state_bytes / 1024);
}

uint64_t memory_nr_free(struct memory *m)
{
    struct mm_frame_stats s;
    must(mm_frame_get_stats(&m->frames, &s), "frame statistics");
    return s.nr_free;
}

// ---- page tables --------------------------------------------------------------------------------

static void must_have_room(mm_status_t status, const char *what)
{
    if (status == MM_ERR_NO_MEMORY) {
        give_up("too little memory: none is left for the %s", what);
    }
    must(status, what);
}

static void map_apic(struct memory *m)
{
    mm_paddr_t registers =
        mm_paddr(m->arch.ops->read_msr(m->arch.ctx, MSR_APIC_BASE) & MSR_APIC_BASE_ADDRESS);
    must_have_room(mm_paging_map(&m->kernel, mm_vrange(mm_vaddr(LAYOUT_APIC), MM_PAGE_SIZE),
                                 registers, MM_PROT_RW | MM_PROT_GLOBAL, MM_MEMTYPE_UC, 0),
                   "device map");
}

const struct mm_vrange memory_ranges[MEMORY_NR_RANGES] = {
    {{LAYOUT_DIRECT_BASE}, LAYOUT_ENTRY_LEN},  {{LAYOUT_ARENA_BASE}, LAYOUT_ENTRY_LEN},
    {{LAYOUT_WINDOWS_BASE}, LAYOUT_ENTRY_LEN}, {{LAYOUT_KVA_BASE}, LAYOUT_ENTRY_LEN},
    {{LAYOUT_IMAGE_BASE}, LAYOUT_IMAGE_LEN},
};

// Page tables take frames from the window, and a check may look at what they give back.
static mm_status_t take_frame(void *ctx, enum mm_frame_owner owner, bool zeroed, mm_pfn_t *out)
{
    struct memory *m = ctx;
    struct mm_frame_source window = mm_frame_source_within(&m->tables);

    return window.ops->alloc(window.ctx, owner, zeroed, out);
}

static void give_frame(void *ctx, mm_pfn_t frame)
{
    struct memory *m = ctx;
    struct mm_frame_source window = mm_frame_source_within(&m->tables);

    if (m->on_release != NULL) {
        m->on_release(m, frame);
    }
    window.ops->free(window.ctx, frame);
}

static void build_root(struct memory *m)
{
    static const struct mm_frame_source_ops source = {.alloc = take_frame, .free = give_frame};
    struct mm_paging_config config = {
        .backend = mm_x86_64_backend(&m->arch),
        .physmap = &m->physmap,
        .source = {.ops = &source, .ctx = m},
        .platform = platform_ops(),
        .kernel_ranges = memory_ranges,
        .nr_kernel_ranges = MEMORY_NR_RANGES,
        .user = mm_vrange(mm_vaddr(0), LAYOUT_USER_LEN),
        .tlb = &m->tlb,
    };
    if (m->boot.nr_sections == 0 || m->boot.nr_sections > MM_MULTIBOOT2_MAX_SECTIONS) {
        give_up("the boot information does not tell the sections of the kernel's image");
    }
    must_have_room(mm_paging_init_kernel(&m->kernel, &config), "kernel's page tables");
    must_have_room(mm_paging_map_sections(&m->kernel, m->boot.sections, m->boot.nr_sections),
                   "kernel's image");
    must_have_room(mm_paging_map_direct(&m->kernel, &m->map, &m->physmap, m->boot.sections,
                                        m->boot.nr_sections),
                   "direct map");
    map_apic(m);
    for (uint32_t cpu = 0; cpu < m->nr_cpus; cpu++) {
        struct mm_vrange guard = mm_vrange(percpu_stack_guard(cpu), MM_PAGE_SIZE);
        must_have_room(memory_unmap(m, guard, MM_PAGING_SPLIT), "stack guard");
        must_have_room(mm_paging_guard(&m->kernel, guard), "stack guard");
    }
}

static void print_layout(struct memory *m)
{
    struct mm_paging_stats s;

    must(mm_paging_get_stats(&m->kernel, &s), "page-table statistics");
    log_print("paging  %lu tables; leaves: %lu of 4 KiB, %lu of 2 MiB, %lu of 1 GiB; the layout:\n",
              s.nr_tables, s.nr_leaves[0], s.nr_leaves[1], s.nr_leaves[2]);
    must(mm_paging_dump(&m->kernel, mm_vrange(mm_vaddr(LAYOUT_DIRECT_BASE), UINT64_C(1) << 47), 0),
         "page-table layout");
}

void memory_start_paging(struct memory *m)
{
    // Until the new root is active, only what boot.S mapped can be written: a table above that
    // would be out of reach.
    m->tables = (struct mm_frame_window){
        .frames = &m->frames,
        .highest = mm_paddr(LAYOUT_BOOT_MAPPED - 1),
    };
    shootdown_init(m);
    build_root(m);
    m->boot_root = mm_paging_current_root(m->kernel.backend);
    shootdown_enter(m);
    m->tables.highest = mm_paddr(0);
    print_layout(m);
}

// The tables that are left lie where boot.S mapped memory: all others came and went with what was
// mapped after the window was lifted.
void memory_stop_paging(struct memory *m)
{
    shootdown_leave(m);
    must(mm_paging_destroy(&m->kernel), "end of the kernel's page tables");
    must(mm_tlb_destroy(&m->tlb), "end of flushes on all processors");
}

mm_status_t memory_unmap(struct memory *m, struct mm_vrange range, uint32_t flags)
{
    struct mm_gather gather;
    must(mm_gather_begin(&gather, &m->kernel), "gather");
    mm_status_t status = mm_paging_unmap(&m->kernel, range, flags, &gather);
    mm_gather_end(&gather);
    return status;
}

// ---- heap, spaces, DMA, user copy ---------------------------------------------------------------

static void print_line(void *ctx, const char *line, size_t len)
{
    (void)ctx;
    log_begin();
    log_print("  ");
    for (size_t i = 0; i < len; i++) {
        log_print("%c", line[i]);
    }
    log_print("\n");
    log_end();
}

void memory_show_heap(const struct memory *m)
{
    log_print("heap    caches, and sizes of the heap that have slabs\n");
    must(mm_pool_table(&m->pool, print_line, NULL), "table");
}

void memory_start_rest(struct memory *m)
{
    must_have_room(mm_page_frames_init(&m->pages, &m->frames, &m->physmap), "page source");
    struct mm_pool_config pool = {
        .source = mm_page_source_frames(&m->pages),
        .platform = platform_ops(),
        .nr_cpus = m->nr_cpus,
    };
    must_have_room(mm_pool_init(&m->pool, &pool), "pool");
    must_have_room(mm_heap_init(&m->heap, &m->pool, NULL), "heap");
    log_print("heap    over frames through the direct map: %lu KiB to grow by\n",
              memory_nr_free(m) * MM_PAGE_SIZE / 1024);

    struct mm_kva_config kva = {
        .kernel = &m->kernel,
        .frames = &m->frames,
        .physmap = &m->physmap,
        .pool = &m->pool,
        .platform = platform_ops(),
        .range = mm_vrange(mm_vaddr(LAYOUT_KVA_BASE), LAYOUT_ENTRY_LEN),
        .red_zone_pages = 4,
        .nr_stacks = 2,
        .nr_reserve_tables = MM_KVA_TABLES_PER_PAGE,
    };
    must_have_room(mm_kva_init(&m->kva, &kva), "kernel virtual arena");
    log_print("kva     from 0x%lx on, %u tables in reserve\n", (uint64_t)LAYOUT_KVA_BASE,
              kva.nr_reserve_tables);

    struct mm_spaces_config spaces = {
        .frames = &m->frames,
        .physmap = &m->physmap,
        .kernel = &m->kernel,
        .pool = &m->pool,
        .platform = platform_ops(),
        .kernel_range = mm_vrange(mm_vaddr(LAYOUT_ARENA_BASE), LAYOUT_ENTRY_LEN),
    };
    must_have_room(mm_spaces_init(&m->spaces, &spaces), "spaces");
    log_print("space   users' end at 0x%lx, the kernel's own begins at 0x%lx\n",
              (uint64_t)LAYOUT_USER_LEN, (uint64_t)LAYOUT_ARENA_BASE);

    struct mm_dma_config dma = {
        .frames = &m->frames,
        .physmap = &m->physmap,
        .platform = platform_ops(),
    };
    must_have_room(mm_dma_init(&m->dma, &dma), "DMA");
    log_print("dma     over frames, seen through the direct map\n");

    const struct mm_user_ops *copy =
        m->arch.enabled.smap ? &mm_x86_64_user_smap_ops : &mm_x86_64_user_ops;
    const struct mm_user_ops *now =
        m->arch.enabled.smap ? &mm_x86_64_user_nofault_smap_ops : &mm_x86_64_user_nofault_ops;
    must(mm_user_init(&m->user, copy, mm_vrange(mm_vaddr(0), LAYOUT_USER_LEN)), "user copy");
    must(mm_user_init(&m->user_now, now, mm_vrange(mm_vaddr(0), LAYOUT_USER_LEN)), "user copy");
    log_print("user    copies %s\n", m->arch.enabled.smap ? "open user memory while they run (SMAP)"
                                                          : "find user memory open (no SMAP)");
}

void memory_stop_rest(struct memory *m)
{
    must(mm_dma_destroy(&m->dma), "end of DMA");
    must(mm_spaces_check(&m->spaces), "check of the spaces");
    must(mm_spaces_destroy(&m->spaces), "end of the spaces");
    must(mm_kva_destroy(&m->kva), "end of the kernel virtual arena");
    must(mm_heap_destroy(&m->heap), "end of the heap");
    must(mm_pool_destroy(&m->pool), "end of the pool");
    must(mm_page_frames_destroy(&m->pages), "end of the page source");
}

void memory_enter(struct memory *m, struct mm_space *space)
{
    must(mm_space_activate(space != NULL ? space : mm_space_kernel(&m->spaces)),
         "switch of spaces");
    m->current[percpu_self()->number] = space;
}
