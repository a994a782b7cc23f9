// SPDX-License-Identifier: MIT
// Calls the example of docs/kva.md over 1 MiB of the host's memory, for a CPU of seven functions. No
// address of the arena is touched: the host does not map it.
#include <mm/arch/x86_64.h>

#include <stdio.h>
#include <stdlib.h>

#define MEMORY (UINT64_C(1) << 20)
#define ARENA  UINT64_C(0xffffc00000000000)

static uint64_t registers[5];

static struct mm_x86_64_cpuid cpuid(void *ctx, uint32_t leaf, uint32_t subleaf)
{
    struct mm_x86_64_cpuid r = {0, 0, 0, 0};

    (void)ctx, (void)leaf, (void)subleaf;
    return r;
}

static uint64_t read_any(void *ctx, uint32_t n)
{
    (void)ctx;
    return n < 5 ? registers[n] : 0;
}

static void write_any(void *ctx, uint32_t n, uint64_t value)
{
    (void)ctx;
    if (n < 5)
        registers[n] = value;
}

static void invlpg(void *ctx, uint64_t at)
{
    (void)ctx, (void)at;
}

static void invpcid(void *ctx, uint64_t type, uint64_t pcid, uint64_t at)
{
    (void)ctx, (void)type, (void)pcid, (void)at;
}

static mm_status_t run(unsigned char *memory)
{
    static const struct mm_x86_64_cpu_ops cpu_ops = {cpuid,     read_any, write_any, read_any,
                                                     write_any, invlpg,   invpcid};
    static const struct mm_vrange range = {{ARENA}, UINT64_C(1) << 30};
    static struct mm_boot_entry entries[8];
    static struct mm_bootmap map;
    static struct mm_frames frames;
    static struct mm_x86_64 arch;
    static struct mm_pagetable kernel;
    static struct mm_page_frames pages;
    static struct mm_pool pool;
    static struct mm_kva kva;
    /* Frame 1 is the first page of the memory. */
    struct mm_physmap physmap = mm_physmap_direct((uint64_t)(uintptr_t)memory - MM_PAGE_SIZE);
    struct mm_frames_config frames_config = {.map = &map, .physmap = &physmap, .nr_cpus = 1};
    struct mm_paging_config paging = {
        .physmap = &physmap, .kernel_ranges = &range, .nr_kernel_ranges = 1};
    struct mm_pool_config pool_config = {.nr_cpus = 1};
    struct mm_kva_config config = {
        .kernel = &kernel, .frames = &frames, .physmap = &physmap, .pool = &pool, .range = range};
    struct mm_prange all = mm_prange(mm_paddr(MM_PAGE_SIZE), MEMORY);
    mm_status_t status = mm_bootmap_init(&map, entries, 8);

    if (status == MM_OK)
        status = mm_bootmap_add(&map, all, MM_BOOT_USABLE);
    if (status == MM_OK)
        status = mm_frame_init_from_map(&frames, &frames_config, all);
    if (status == MM_OK)
        status = mm_x86_64_init(&arch, &cpu_ops, NULL);
    if (status == MM_OK)
        status = mm_x86_64_enable(&arch);
    paging.backend = mm_x86_64_backend(&arch);
    paging.source = mm_frame_source_of(&frames);
    if (status == MM_OK)
        status = mm_paging_init_kernel(&kernel, &paging);
    if (status == MM_OK)
        status = mm_page_frames_init(&pages, &frames, &physmap);
    pool_config.source = mm_page_source_frames(&pages);
    if (status == MM_OK)
        status = mm_pool_init(&pool, &pool_config);
    if (status == MM_OK)
        status = mm_kva_init(&kva, &config);
    if (status == MM_OK)
        status = use_arena(&kva, mm_paddr(UINT64_C(0xfed00000)));
    if (status == MM_OK)
        status = count_fault(&kva, 2, 1);
    if (status == MM_OK)
        status = mm_kva_destroy(&kva);
    if (status == MM_OK)
        status = mm_pool_destroy(&pool);
    return status;
}

int main(void)
{
    unsigned char *memory = aligned_alloc(MM_PAGE_SIZE, MEMORY);
    mm_status_t status = memory == NULL ? MM_ERR_NO_MEMORY : run(memory);

    printf("kva: %s\n", mm_status_str(status));
    free(memory);
    return status == MM_OK ? 0 : 1;
}
