// SPDX-License-Identifier: MIT
// Builds page tables over 64 KiB of the host's memory, for the CPU of the example.
#include <stdio.h>
#include <string.h>

#define NR_FRAMES 16u

static _Alignas(MM_PAGE_SIZE) unsigned char memory[NR_FRAMES * MM_PAGE_SIZE];
static uint64_t nr_taken = 1; /* frame 0 is nobody's */

static mm_status_t take(void *ctx, enum mm_frame_owner owner, bool zeroed, mm_pfn_t *out)
{
    (void)ctx;
    (void)owner;
    if (nr_taken == NR_FRAMES)
        return MM_ERR_NO_MEMORY;
    if (zeroed)
        memset(memory + nr_taken * MM_PAGE_SIZE, 0, MM_PAGE_SIZE);
    *out = mm_pfn(nr_taken++);
    return MM_OK;
}

static void give(void *ctx, mm_pfn_t frame)
{
    (void)ctx;
    (void)frame;
}

int main(void)
{
    static const struct mm_frame_source_ops source_ops = {take, give, NULL};
    static struct host_cpu cpu;
    static struct mm_x86_64 arch;
    static struct mm_pagetable pt;
    struct mm_physmap physmap = mm_physmap_direct((uint64_t)(uintptr_t)memory);
    struct mm_vrange range = mm_vrange(mm_vaddr(0xffffffff80000000), UINT64_C(1) << 30);
    struct mm_paging_config config = {.physmap = &physmap,
                                      .source = {&source_ops, NULL},
                                      .kernel_ranges = &range,
                                      .nr_kernel_ranges = 1};
    struct mm_mapping found;
    mm_status_t status = mm_x86_64_init(&arch, &host_cpu_ops, &cpu);

    if (status == MM_OK)
        status = mm_x86_64_enable(&arch);
    config.backend = mm_x86_64_backend(&arch);
    if (status == MM_OK)
        status = mm_paging_init_kernel(&pt, &config);
    if (status == MM_OK)
        status = mm_paging_map(&pt, mm_vrange(range.start, UINT64_C(1) << 30),
                               mm_paddr(UINT64_C(1) << 30), MM_PROT_RW, MM_MEMTYPE_WB, 0);
    if (status == MM_OK)
        status = mm_paging_translate(&pt, mm_vaddr(range.start.raw + 0x1234), &found);
    printf("host-cpu: %s, a leaf of %llu MiB\n", mm_status_str(status),
           status == MM_OK ? (unsigned long long)found.page.len >> 20 : 0);
    return status == MM_OK && found.prot == MM_PROT_RW && found.page.len == UINT64_C(1) << 30 ? 0
                                                                                              : 1;
}
