// SPDX-License-Identifier: MIT
/**
 * Making the world, keeping it and putting it back: see the header.
 */
#include "world.h"
#include "kept.h"
#include "world_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGE UINT64_C(4096)
#define RW   (MM_PROT_READ | MM_PROT_WRITE)
#define URW  (RW | MM_PROT_USER)

struct t_world t_w;

/* A copy of everything, twice: of the start, and of what was kept last. */
struct copy {
    struct t_world world;
    unsigned char ram[T_RAM_LEN], ram2[T_RAM2_LEN], sys[T_SYS_LEN];
};
static struct copy at_start, kept;
static bool kept_is_start;

void t_world_must(bool good, const char *what)
{
    if (!good) {
        fprintf(stderr, "world: %s\n", what);
        abort();
    }
}

static void take_copy(struct copy *copy)
{
    copy->world = t_w;
    memcpy(copy->ram, t_ram_ptr(t_h.ram, T_RAM_START), T_RAM_LEN);
    memcpy(copy->ram2, t_ram_ptr(t_h.ram, T_RAM2_START), T_RAM2_LEN);
    memcpy(copy->sys, t_ram_ptr(t_h.ram, T_SYS_START), T_SYS_LEN);
}

static void put_back(const struct copy *copy)
{
    t_w = copy->world;
    memcpy(t_ram_ptr(t_h.ram, T_RAM_START), copy->ram, T_RAM_LEN);
    memcpy(t_ram_ptr(t_h.ram, T_RAM2_START), copy->ram2, T_RAM2_LEN);
    memcpy(t_ram_ptr(t_h.ram, T_SYS_START), copy->sys, T_SYS_LEN);
}

/* --- what was kept, for compare.c -------------------------------------------------------------- */

const struct t_world *t_world_kept(void)
{
    return kept_is_start ? &at_start.world : &kept.world;
}

const void *t_world_kept_ram(uint64_t paddr)
{
    const struct copy *copy = kept_is_start ? &at_start : &kept;

    if (paddr - T_RAM_START < T_RAM_LEN) {
        return copy->ram + (paddr - T_RAM_START);
    }
    if (paddr - T_RAM2_START < T_RAM2_LEN) {
        return copy->ram2 + (paddr - T_RAM2_START);
    }
    return paddr - T_SYS_START < T_SYS_LEN ? copy->sys + (paddr - T_SYS_START) : NULL;
}

/* --- the map of the system ---------------------------------------------------------------------- */

void t_world_system_pages(uint64_t nr)
{
    memset(&t_w.sys_map, 0, sizeof(t_w.sys_map));
    MUST(mm_bootmap_init(&t_w.sys_map, t_w.sys_entries, 16));
    if (nr != 0) {
        MUST(mm_bootmap_add(&t_w.sys_map, mm_prange(mm_paddr(T_SYS_START), nr * PAGE),
                            MM_BOOT_USABLE));
    }
    MUST(mm_bootmap_normalize(&t_w.sys_map));
}

/* --- the live objects, from the ground up ------------------------------------------------------ */

static void start_boot(void)
{
    MUST(mm_bootmap_init(&t_w.map, t_w.entries, 16));
    MUST(mm_bootmap_add(&t_w.map, mm_prange(mm_paddr(T_RAM_START), T_RAM_LEN), MM_BOOT_USABLE));
    MUST(mm_bootmap_add(&t_w.map, mm_prange(mm_paddr(T_RAM2_START), T_RAM2_LEN), MM_BOOT_USABLE));
    /* Not sorted, and full: two adds are in it, the third does not fit. */
    MUST(mm_bootmap_init(&t_w.raw, t_w.raw_entries, 7));
    MUST(mm_bootmap_add(&t_w.raw, mm_prange(mm_paddr(0x300000), 0x100000), MM_BOOT_USABLE));
    MUST(mm_bootmap_add(&t_w.raw, mm_prange(mm_paddr(0x340000), 0x10000), MM_BOOT_RESERVED));
    MUST(mm_bootmap_add(&t_w.raw, mm_prange(mm_paddr(0x100000), 0x100000), MM_BOOT_METADATA));
    MUST(mm_bootmap_add(&t_w.raw, mm_prange(mm_paddr(0x500000), 0x1000), MM_BOOT_BOOTLOADER));
    MUST(mm_bootmap_init(&t_w.empty_map, t_w.many_entries, 2));
    t_world_system_pages(T_SYS_LEN / PAGE);
    /* Memory that nothing backs: it is only counted. */
    MUST(mm_bootmap_init(&t_w.spare_map, t_w.spare_entries, 16));
    MUST(
        mm_bootmap_add(&t_w.spare_map, mm_prange(mm_paddr(64 * T_MIB), 2 * T_MIB), MM_BOOT_USABLE));
}

static void start_frames(void)
{
    struct mm_frames_config config = {.map = &t_w.map,
                                      .physmap = &t_w.physmap,
                                      .platform = t_world_platform(),
                                      .nr_cpus = 2,
                                      .flags = MM_FRAMES_REFCOUNTS};
    struct mm_frames_config spare = {.map = &t_w.spare_map,
                                     .platform = t_world_platform(),
                                     .nr_cpus = 1,
                                     .flags = 0,
                                     .metadata = t_w.metadata,
                                     .metadata_len = sizeof(t_w.metadata)};
    struct mm_frame_request four = {.order = 2};

    MUST(mm_frame_init_from_map(&t_w.frames, &config, mm_prange(mm_paddr(0), T_RAM_END)));
    MUST(mm_bootmap_normalize(&t_w.map));
    t_w.window = (struct mm_frame_window){.frames = &t_w.frames};
    MUST(mm_frame_alloc(&t_w.frames, &four, &t_w.block));
    MUST(mm_frame_alloc(&t_w.frames, NULL, &t_w.frame));
    MUST(mm_frame_alloc(&t_w.frames, NULL, &t_w.frame_shared));
    mm_frame_get(&t_w.frames, t_w.frame_shared);
    for (unsigned i = 0; i < 8; i++) {
        MUST(mm_frame_alloc(&t_w.frames, NULL, &t_w.list[i]));
    }
    MUST(mm_frame_init(&t_w.spare.frames, &spare));
    memset(t_w.metadata2, 0, sizeof(t_w.metadata2));
    config = spare;
    config.metadata = t_w.metadata2;
    config.metadata_len = sizeof(t_w.metadata2);
    MUST(mm_frame_init(&t_w.gone.frames, &config));
    MUST(mm_frame_destroy(&t_w.gone.frames));
    memset(t_w.metadata2, 0, sizeof(t_w.metadata2));
}

static void start_tables(void)
{
    struct mm_paging_config config;

    MUST(mm_x86_64_init(&t_w.arch, &t_world_cpu_ops, NULL));
    MUST(mm_x86_64_enable(&t_w.arch));
    MUST(mm_x86_64_init(&t_w.spare.arch, &t_world_cpu_ops, NULL));
    t_w.backend = mm_x86_64_backend(&t_w.arch);
    config = t_world_paging_config();
    MUST(mm_paging_init_kernel(&t_w.kernel, &config));
    MUST(mm_paging_activate(&t_w.kernel));
    MUST(mm_paging_init_kernel(&t_w.spare.pt, &config));
    MUST(mm_paging_init_kernel(&t_w.gone.pt, &config));
    MUST(mm_paging_destroy(&t_w.gone.pt));
    MUST(mm_paging_init_user(&t_w.user, &t_w.kernel));
    MUST(mm_paging_init_user(&t_w.user2, &t_w.kernel));
    MUST(mm_paging_map(&t_w.user, mm_vrange(mm_vaddr(T_AT), 8 * PAGE), mm_paddr(0x90000000), URW,
                       MM_MEMTYPE_WB, MM_PAGING_ONLY_4K));
    MUST(mm_paging_map(&t_w.user, mm_vrange(mm_vaddr(T_AT_LARGE), MM_SIZE_2M),
                       mm_paddr(T_LARGE_PADDR), URW, MM_MEMTYPE_WC, 0));
    MUST(mm_paging_map(&t_w.kernel, mm_vrange(mm_vaddr(T_TOP), 4 * PAGE), mm_paddr(0xa0000000), RW,
                       MM_MEMTYPE_WB, 0));
    MUST(mm_gather_begin(&t_w.gather, &t_w.user));
    MUST(mm_gather_begin(&t_w.gather_kernel, &t_w.kernel));
}

static void start_tlb(void)
{
    struct mm_tlb_config config = t_world_tlb_config(0);

    MUST(mm_tlb_init(&t_w.tlb, &config));
    config = t_world_tlb_config(1);
    MUST(mm_tlb_init(&t_w.spare.tlb, &config));
    config = t_world_tlb_config(2);
    MUST(mm_tlb_init(&t_w.gone.tlb, &config));
    MUST(mm_tlb_destroy(&t_w.gone.tlb));
}

/* The guards of the watched heap: pages that are always open. */
static mm_status_t open_guarded(void *ctx, void *page)
{
    (void)ctx;
    (void)page;
    return MM_OK;
}

static void close_guarded(void *ctx, void *page)
{
    (void)ctx;
    (void)page;
}

static void start_watched(void)
{
    static const struct mm_heap_guard_ops ops = {.open = open_guarded, .close = close_guarded};
    struct mm_cache_config cache = {.name = "watched", .size = 40, .flags = MM_HEAP_CALLERS};
    struct mm_heap_config heap = {.name = "watched", .flags = MM_HEAP_CALLERS, .sample_every = 1};

    heap.guards = (struct mm_heap_guards){&ops, NULL, (uint64_t)(uintptr_t)t_w.guard_buffer,
                                          sizeof(t_w.guard_buffer)};
    MUST(mm_heap_init(&t_w.watched_heap, &t_w.pool, &heap));
    MUST(mm_cache_init(&t_w.watched_cache, &t_w.pool, &cache));
    t_w.watched_object = mm_heap_alloc(&t_w.watched_heap, 100);
    t_w.watched_freed = mm_heap_alloc(&t_w.watched_heap, 100);
    t_w.watched_taken = mm_cache_alloc(&t_w.watched_cache);
    t_world_must(t_w.watched_object && t_w.watched_freed && t_w.watched_taken, "watched objects");
    mm_heap_free(&t_w.watched_heap, t_w.watched_freed);
    MUST(mm_heap_explain_fault(&t_w.watched_heap, (uint64_t)(uintptr_t)t_w.watched_freed,
                               &t_w.report));
}

static void start_heap(void)
{
    struct mm_pool_config config;
    struct mm_cache_config cache = {.name = "forty", .size = 40, .construct = t_world_construct};
    struct mm_heap_config large = {.name = "large", .large_size = 4 * PAGE};
    struct mm_page_source pages;

    MUST(mm_page_range_init(&t_w.range, t_w.pool_buffer, sizeof(t_w.pool_buffer)));
    MUST(mm_page_range_init(&t_w.spare.range, t_w.range_buffer, 4 * PAGE));
    MUST(mm_page_range_init(&t_w.gone.range, t_w.range_buffer + 4 * PAGE, 4 * PAGE));
    MUST(mm_page_range_destroy(&t_w.gone.range));
    MUST(mm_page_frames_init(&t_w.pages, &t_w.frames, &t_w.physmap));
    MUST(mm_page_frames_init(&t_w.spare.pages, &t_w.frames, &t_w.physmap));
    MUST(mm_page_frames_init(&t_w.gone.pages, &t_w.frames, &t_w.physmap));
    MUST(mm_page_frames_destroy(&t_w.gone.pages));
    pages = mm_page_source_frames(&t_w.pages);
    MUST(pages.ops->alloc(pages.ctx, 1, 1, 0, &t_w.pages_object));
    config = t_world_pool_config();
    MUST(mm_pool_init(&t_w.pool, &config));
    MUST(mm_pool_init(&t_w.spare.pool, &config));
    MUST(mm_pool_init(&t_w.gone.pool, &config));
    MUST(mm_pool_destroy(&t_w.gone.pool));
    MUST(mm_cache_init(&t_w.cache, &t_w.pool, &cache));
    MUST(mm_cache_init(&t_w.spare.cache, &t_w.pool, &cache));
    MUST(mm_cache_init(&t_w.gone.cache, &t_w.pool, &cache));
    MUST(mm_cache_destroy(&t_w.gone.cache));
    MUST(mm_heap_init(&t_w.heap, &t_w.pool, NULL));
    MUST(mm_heap_init(&t_w.spare.heap, &t_w.pool, NULL));
    MUST(mm_heap_init(&t_w.gone.heap, &t_w.pool, NULL));
    MUST(mm_heap_destroy(&t_w.gone.heap));
    MUST(mm_pool_init(&t_w.cold_pool, &config));
    MUST(mm_cache_init(&t_w.cold_cache, &t_w.cold_pool, &cache));
    MUST(mm_heap_init(&t_w.cold_heap, &t_w.cold_pool, NULL));
    large.large = &t_w.cold_pool;
    MUST(mm_heap_init(&t_w.large_heap, &t_w.pool, &large));
    MUST(mm_heap_region_init(&t_w.spare.heap_region, t_w.region_buffer, 4 * PAGE));
    MUST(mm_heap_region_init(&t_w.gone.heap_region, t_w.region_buffer + 4 * PAGE, 4 * PAGE));
    MUST(mm_heap_region_destroy(&t_w.gone.heap_region));
    start_watched();
    t_w.cache_object = mm_cache_alloc(&t_w.cache);
    t_w.cache_freed = mm_cache_alloc(&t_w.cache);
    t_w.heap_object = mm_heap_alloc(&t_w.heap, 200);
    t_w.heap_freed = mm_heap_alloc(&t_w.heap, 200);
    t_w.heap_run = mm_heap_alloc(&t_w.heap, 3 * PAGE);
    t_world_must(t_w.cache_object && t_w.cache_freed && t_w.heap_object && t_w.heap_freed &&
                     t_w.heap_run,
                 "objects");
    memset(t_w.cache_object, 0x33, 40);
    memset(t_w.heap_object, 0x44, 200);
    memset(t_w.heap_run, 0x55, 3 * PAGE);
    mm_cache_free(&t_w.cache, t_w.cache_freed);
    mm_heap_free(&t_w.heap, t_w.heap_freed);
}

static void fill(struct mm_space *space, uint64_t at, uint64_t nr)
{
    struct mm_space_request request = {.at = mm_vaddr(at),
                                       .len = nr * PAGE,
                                       .prot = RW,
                                       .flags = MM_SPACE_FIXED | MM_SPACE_POPULATE};
    mm_vaddr_t out;

    MUST(mm_space_map(space, &request, &out));
}

static void start_spaces(void)
{
    struct mm_spaces_config config = t_world_spaces_config();
    struct mm_space_request guard = {.at = mm_vaddr(T_SPACE_AT + 64 * PAGE),
                                     .len = PAGE,
                                     .flags = MM_SPACE_FIXED | MM_SPACE_GUARD};
    struct mm_space_limits limits = {.mapped_bytes = 64 * PAGE};

    MUST(mm_space_group_init(&t_w.spare.group, &limits));
    MUST(mm_space_group_init(&t_w.gone.group, NULL));
    MUST(mm_space_group_destroy(&t_w.gone.group));
    MUST(mm_spaces_init(&t_w.spare.spaces, &config));
    MUST(mm_spaces_init(&t_w.gone.spaces, &config));
    MUST(mm_spaces_destroy(&t_w.gone.spaces));
    config.kernel_range = mm_vrange(mm_vaddr(T_ARENA), T_ARENA_LEN);
    MUST(mm_spaces_init(&t_w.spaces, &config));
    MUST(mm_space_create(&t_w.spaces, &t_w.space));
    MUST(mm_space_create(&t_w.spaces, &t_w.lone));
    fill(t_w.space, T_SPACE_AT, 8);
    fill(t_w.space, T_SPACE_AT + 16 * PAGE, 2);
    MUST(mm_space_map(t_w.space, &guard, &t_w.mapped));
    MUST(mm_space_clone(t_w.space, &t_w.child));
    fill(mm_space_kernel(&t_w.spaces), T_ARENA + 4 * PAGE, 2);
}

static bool name_frames(void *ctx, const struct mm_mapping *mapping)
{
    (void)ctx;
    if (mapping->type == MM_MEMTYPE_WB) {
        t_world_must(t_w.kva_nr_frames < 16, "frames of the arena");
        t_w.kva_frames[t_w.kva_nr_frames++] = mapping->paddr.raw / PAGE;
    }
    return true;
}

static void start_arena(void)
{
    struct mm_kva_config config = t_world_kva_config();
    struct mm_kva_request request = {.len = 2 * PAGE};
    struct mm_percpu_config percpu;

    MUST(mm_kva_init(&t_w.kva, &config));
    config.range.start.raw += T_KVA_LEN;
    MUST(mm_kva_init(&t_w.spare.kva, &config));
    MUST(mm_kva_init(&t_w.gone.kva, &config));
    MUST(mm_kva_destroy(&t_w.gone.kva));
    MUST(mm_kva_alloc(&t_w.kva, &request, &t_w.kva_memory));
    MUST(mm_kva_alloc(&t_w.kva, &request, &t_w.kva_freed));
    mm_kva_free(&t_w.kva, t_w.kva_freed);
    t_world_must(mm_kva_purge(&t_w.kva) == 2, "a purge");
    MUST(mm_kva_map(&t_w.kva, mm_prange(mm_paddr(T_DEVICE + 8), 16), RW, MM_MEMTYPE_UC, 0,
                    &t_w.kva_device));
    MUST(mm_kva_stack_alloc(&t_w.kva, 2 * PAGE, 0, &t_w.kva_stack));
    percpu = t_world_percpu_config();
    MUST(mm_percpu_init(&t_w.percpu, &percpu));
    percpu.kva = &t_w.kva;
    MUST(mm_percpu_init(&t_w.spare.percpu, &percpu));
    MUST(mm_percpu_init(&t_w.gone.percpu, &percpu));
    MUST(mm_percpu_destroy(&t_w.gone.percpu));
    (void)mm_kva_purge(&t_w.kva);
    MUST(mm_paging_walk(&t_w.kernel, mm_vrange(mm_vaddr(T_KVA), T_KVA_LEN), name_frames, NULL));
}

static void start_rest(void)
{
    struct mm_dma_config dma = {&t_w.frames, &t_w.physmap, t_world_platform()};
    struct mm_vrange user = {{0}, T_USER_LEN};
    struct mm_system_config system = t_world_system_config();

    MUST(mm_dma_init(&t_w.dma, &dma));
    MUST(mm_dma_init(&t_w.spare.dma, &dma));
    MUST(mm_dma_init(&t_w.gone.dma, &dma));
    MUST(mm_dma_destroy(&t_w.gone.dma));
    MUST(mm_dma_alloc(&t_w.dma, 3 * PAGE, NULL, 0, &t_w.region));
    MUST(mm_dma_alloc(&t_w.dma, PAGE, NULL, 0, &t_w.gone.region));
    MUST(mm_dma_free(&t_w.dma, &t_w.gone.region));
    MUST(mm_user_init(&t_w.uaccess, &t_world_user_ops, user));
    MUST(mm_user_slice_open(&t_w.uaccess, mm_vaddr(0x1000), 200, MM_USER_RIGHTS_ALL, &t_w.slice));
    MUST(mm_user_slice_open(&t_w.uaccess, mm_vaddr(0x1000), 200, MM_USER_READ, &t_w.slice_in));
    MUST(mm_user_slice_open(&t_w.uaccess, mm_vaddr(0x1000), 200, MM_USER_WRITE, &t_w.slice_out));
    MUST(mm_user_slice_open(&t_w.uaccess, mm_vaddr(0x1000), 200, MM_USER_READ, &t_w.spare.slice));
    MUST(mm_user_slice_open(&t_w.uaccess, mm_vaddr(0x1000), 200, MM_USER_READ, &t_w.gone.slice));
    MUST(mm_user_slice_close(&t_w.gone.slice));
    memset(t_w.user_memory, 'u', sizeof(t_w.user_memory));
    ((char *)t_w.user_memory)[100] = 0;
    t_w.sys_ranges[0] = mm_vrange(mm_vaddr(t_ram_base(t_h.ram)), T_RAM_END);
    t_w.sys_ranges[1] = mm_vrange(mm_vaddr(T_ARENA), T_ARENA_LEN);
    t_w.sys_ranges[2] = mm_vrange(mm_vaddr(T_TOP), T_TOP_LEN);
    t_w.sections[0] = (struct mm_boot_section){
        .range = {{T_TOP + 0x10000}, 8192}, .paddr = {0x10000}, .prot = MM_PROT_RX};
    t_w.sections[1] =
        (struct mm_boot_section){.range = {{T_TOP + 0x12000}, 100}, .paddr = {0x12000}, .prot = RW};
    t_w.device = (struct mm_system_device){
        .range = {{T_ARENA + T_ARENA_LEN / 2}, PAGE}, .paddr = {0xfee00000}, .type = MM_MEMTYPE_UC};
    system.kernel_ranges = t_w.sys_ranges;
    MUST(mm_system_init(&t_w.gone.system, &system));
    MUST(mm_system_destroy(&t_w.gone.system));
    MUST(mm_frame_alloc(&t_w.frames, NULL, &t_w.frame_freed));
    mm_frame_free(&t_w.frames, t_w.frame_freed, 0);
}

void t_world_start(void)
{
    if (t_h.ram == NULL) {
        t_h.ram = t_ram_new(0, T_RAM_END);
        t_world_must(t_h.ram != NULL, "no room for its RAM");
        t_ram_back(t_h.ram, T_RAM_START, T_RAM_LEN);
        t_ram_back(t_h.ram, T_RAM2_START, T_RAM2_LEN);
        t_ram_back(t_h.ram, T_SYS_START, T_SYS_LEN);
        t_ram_junk(t_h.ram, T_RAM_START, T_RAM_LEN, 1);
        t_ram_junk(t_h.ram, T_RAM2_START, T_RAM2_LEN, 1);
        t_ram_junk(t_h.ram, T_SYS_START, T_SYS_LEN, 1);
        memset(t_w.out, 0x5a, sizeof(t_w.out));
        memset(t_w.out2, 0x5a, sizeof(t_w.out2));
        memset(t_w.pool_buffer, 0x5a, sizeof(t_w.pool_buffer));
        t_w.cpu = (struct t_registers){UINT64_C(0x80000011), 0x3000, 0x20, 0x500,
                                       UINT64_C(0x0007040600070406)};
        t_w.physmap = mm_physmap_direct(t_ram_base(t_h.ram));
        t_w.physmap_ops = (struct mm_physmap){.ops = &t_world_physmap_ops};
        t_w.physmap_short = t_w.physmap;
        t_w.physmap_short.len = 4096;
        t_w.physmap_half = t_w.physmap; /* of the memory of `system` */
        t_w.physmap_half.first = mm_paddr(T_SYS_START);
        t_w.physmap_half.len = T_SYS_LEN / 2;
        t_h.fail_with = MM_ERR_NO_MEMORY;
        start_boot();
        start_frames();
        start_tables();
        start_tlb();
        start_heap();
        start_spaces();
        start_arena();
        start_rest();
        t_world_start_firmware();
        take_copy(&at_start);
    }
    t_world_restore();
}

void t_world_restore(void)
{
    put_back(&at_start);
    kept_is_start = true;
    t_world_keep_view();
    t_h.nr_held = 0;
    t_h.nr_pages_held = 0;
    t_h.nr_mapped = 0;
    t_h.fail_with = MM_ERR_NO_MEMORY;
    t_inject_never(&t_h.inject);
}

void t_world_keep(void)
{
    take_copy(&kept);
    kept_is_start = false;
    t_world_keep_view();
}

void t_world_forget_told(void)
{
    const struct t_world *was = t_world_kept();

    memcpy(t_w.out, was->out, sizeof(t_w.out));
    memcpy(t_w.out2, was->out2, sizeof(t_w.out2));
    memcpy(t_w.in, was->in, sizeof(t_w.in));
    memcpy(t_w.user_memory, was->user_memory, sizeof(t_w.user_memory));
}

void t_world_return(void)
{
    put_back(kept_is_start ? &at_start : &kept);
}

void t_world_pool_pages(uint64_t nr)
{
    struct mm_page_source source = mm_page_source_range(&t_w.range);
    uint64_t left = t_w.range.nr_free;
    void *page;

    for (; left > nr; left--) {
        MUST(source.ops->alloc(source.ctx, 1, 1, 0, &page));
        t_h.nr_pages_held++;
    }
}

void t_world_scatter(struct mm_bootmap *map)
{
    static struct mm_boot_entry entries[MM_BOOTMAP_CAPACITY(MM_FRAME_MAX_SPANS + 1)];

    memset(map, 0, sizeof(*map));
    MUST(mm_bootmap_init(map, entries, sizeof(entries) / sizeof(entries[0])));
    for (uint64_t i = 0; i <= MM_FRAME_MAX_SPANS; i++) {
        MUST(mm_bootmap_add(map, mm_prange(mm_paddr(64 * T_MIB + i * 2 * PAGE), PAGE),
                            MM_BOOT_USABLE));
    }
    MUST(mm_bootmap_normalize(map));
}

void t_world_many_cpus(void)
{
    t_w.spare.pool.nr_cpus = 40;
}

void t_world_leave_frames(uint64_t nr)
{
    struct mm_frame_stats stats;

    MUST(mm_frame_get_stats(&t_w.frames, &stats));
    while (t_h.nr_held > 0 && stats.nr_free < nr) {
        mm_frame_free(&t_w.frames, t_h.held[--t_h.nr_held], 0);
        stats.nr_free++;
    }
    while (stats.nr_free > nr) {
        MUST(mm_frame_alloc(&t_w.frames, NULL, &t_h.held[t_h.nr_held++]));
        stats.nr_free--;
    }
}
