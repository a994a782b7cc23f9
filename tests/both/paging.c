// SPDX-License-Identifier: MIT
//
// Page tables that no processor walks: built, changed and read back over frames that were given. The
// processor is a handful of variables, the same in both worlds; what real ones do with tables is for
// other tests.

#include "both.h"

#include <mm/arch/x86_64.h>
#include <mm/paging.h>
#include <mm/tlb.h>

#define ENTRIES MM_BOOTMAP_CAPACITY(4)

#define ARENA     UINT64_C(0xffffc00000000000)
#define ARENA_LEN (UINT64_C(1) << 39)
#define TOP       (0 - MM_SIZE_1G)
#define USER_LEN  ((UINT64_C(1) << 47) - MM_PAGE_SIZE)
#define FRAME     UINT64_C(0x40000000) // where the mapped frames are: nobody looks into them

// CPUID of a processor with all that paging asks for (Intel SDM vol. 2A).
static struct mm_x86_64_cpuid cpu_cpuid(void *ctx, uint32_t leaf, uint32_t subleaf)
{
    struct mm_x86_64_cpuid r = {0};

    (void)ctx;
    (void)subleaf;
    if (leaf == 0) {
        r.eax = 7;
    } else if (leaf == 1) {
        r.edx = 1u << 13 | 1u << 16;
    } else if (leaf == 0x80000000) {
        r.eax = 0x80000008;
    } else if (leaf == 0x80000001) {
        r.edx = 1u << 20 | 1u << 26;
    } else if (leaf == 0x80000008) {
        r.eax = 46 | 48 << 8;
    }
    return r;
}

static struct {
    uint64_t cr[5];
    uint64_t efer;
    uint64_t pat;
} cpu;

static uint64_t *msr_of(uint32_t msr)
{
    return msr == 0x277 ? &cpu.pat : &cpu.efer;
}

static uint64_t cpu_read_msr(void *ctx, uint32_t msr)
{
    (void)ctx;
    return *msr_of(msr);
}

static void cpu_write_msr(void *ctx, uint32_t msr, uint64_t value)
{
    (void)ctx;
    *msr_of(msr) = value;
}

static uint64_t cpu_read_cr(void *ctx, unsigned cr)
{
    (void)ctx;
    return cpu.cr[cr];
}

static void cpu_write_cr(void *ctx, unsigned cr, uint64_t value)
{
    (void)ctx;
    cpu.cr[cr] = value;
}

static void cpu_invlpg(void *ctx, uint64_t vaddr)
{
    (void)ctx;
    (void)vaddr;
}

static void cpu_invpcid(void *ctx, uint64_t type, uint64_t pcid, uint64_t vaddr)
{
    (void)ctx;
    (void)type;
    (void)pcid;
    (void)vaddr;
}

static const struct mm_x86_64_cpu_ops cpu_ops = {
    .cpuid = cpu_cpuid,
    .read_msr = cpu_read_msr,
    .write_msr = cpu_write_msr,
    .read_cr = cpu_read_cr,
    .write_cr = cpu_write_cr,
    .invlpg = cpu_invlpg,
    .invpcid = cpu_invpcid,
};

static struct mm_boot_entry entries[ENTRIES];
static struct mm_bootmap map;
static struct mm_frames frames;
static struct mm_x86_64 arch;
static struct mm_pagetable kernel;
static struct mm_pagetable user;
static struct mm_pagetable child;

static uint64_t nr_free(void)
{
    struct mm_frame_stats stats;
    BOTH_MUST(mm_frame_get_stats(&frames, &stats));
    return stats.nr_free;
}

static void start(const struct both_world *world)
{
    static const struct mm_vrange ranges[] = {{{ARENA}, ARENA_LEN}, {{TOP}, MM_SIZE_1G}};
    struct mm_frames_config config = {
        .map = &map, .physmap = &world->physmap, .nr_cpus = 1, .flags = MM_FRAMES_REFCOUNTS};

    BOTH_MUST(mm_bootmap_init(&map, entries, ENTRIES));
    BOTH_MUST(mm_bootmap_add(&map, world->memory, MM_BOOT_USABLE));
    BOTH_MUST(mm_frame_init_from_map(&frames, &config, world->memory));

    cpu.cr[0] = UINT64_C(1) << 31 | 1;
    cpu.cr[4] = UINT64_C(1) << 5;
    BOTH_MUST(mm_x86_64_init(&arch, &cpu_ops, NULL));
    BOTH_MUST(mm_x86_64_enable(&arch));
    struct mm_paging_config paging = {
        .backend = mm_x86_64_backend(&arch),
        .physmap = &world->physmap,
        .source = mm_frame_source_of(&frames),
        .kernel_ranges = ranges,
        .nr_kernel_ranges = 2,
        .user = mm_vrange(mm_vaddr(0), USER_LEN),
    };
    BOTH_MUST(mm_paging_init_kernel(&kernel, &paging));
    BOTH_MUST(mm_paging_init_user(&user, &kernel));
    BOTH_MUST(mm_paging_init_user(&child, &kernel));
}

static bool leads(struct mm_pagetable *pt, uint64_t at, uint64_t paddr, uint64_t size,
                  mm_prot_t prot)
{
    struct mm_mapping leaf;

    return mm_paging_translate(pt, mm_vaddr(at), &leaf) == MM_OK && leaf.page.len == size &&
           leaf.prot == prot && leaf.paddr.raw + (at - leaf.page.start.raw) == paddr;
}

static bool hole(struct mm_pagetable *pt, uint64_t at)
{
    struct mm_mapping leaf;
    return mm_paging_translate(pt, mm_vaddr(at), &leaf) == MM_ERR_NOT_MAPPED;
}

static mm_status_t unmap(struct mm_pagetable *pt, uint64_t at, uint64_t len, uint32_t flags)
{
    struct mm_gather gather;

    BOTH_MUST(mm_gather_begin(&gather, pt));
    mm_status_t status = mm_paging_unmap(pt, mm_vrange(mm_vaddr(at), len), flags, &gather);
    mm_gather_end(&gather);
    return status;
}

static mm_status_t protect(struct mm_pagetable *pt, uint64_t at, uint64_t len, mm_prot_t prot,
                           uint32_t flags)
{
    struct mm_gather gather;

    BOTH_MUST(mm_gather_begin(&gather, pt));
    mm_status_t status = mm_paging_protect(pt, mm_vrange(mm_vaddr(at), len), prot, flags, &gather);
    mm_gather_end(&gather);
    return status;
}

// Leaves of each size, and the way from a large one to small ones.
static void check_kernel(void)
{
    const struct mm_vrange whole = mm_vrange(mm_vaddr(ARENA), 2 * MM_SIZE_1G);
    const uint64_t hot = ARENA + MM_SIZE_2M * 5 + MM_PAGE_SIZE * 9;
    uint64_t before = nr_free();

    BOTH_MUST(mm_paging_map(&kernel, whole, mm_paddr(FRAME), MM_PROT_RW, MM_MEMTYPE_WB, 0));
    BOTH_CHECK("a large range has the largest leaves",
               leads(&kernel, hot, FRAME + (hot - ARENA), MM_SIZE_1G, MM_PROT_RW));
    BOTH_CHECK("what is mapped is not mapped again",
               mm_paging_map(&kernel, mm_vrange(mm_vaddr(hot), MM_PAGE_SIZE), mm_paddr(0),
                             MM_PROT_RW, MM_MEMTYPE_WB, 0) == MM_ERR_ALREADY_MAPPED);
    BOTH_CHECK("a large leaf is not cut unasked",
               protect(&kernel, hot, MM_PAGE_SIZE, MM_PROT_READ, 0) == MM_ERR_HUGE_PAGE &&
                   leads(&kernel, hot, FRAME + (hot - ARENA), MM_SIZE_1G, MM_PROT_RW));
    BOTH_CHECK("one page of a large leaf is protected, its neighbours are not",
               protect(&kernel, hot, MM_PAGE_SIZE, MM_PROT_READ, MM_PAGING_SPLIT) == MM_OK &&
                   leads(&kernel, hot, FRAME + (hot - ARENA), MM_SIZE_4K, MM_PROT_READ) &&
                   leads(&kernel, hot - 1, FRAME + (hot - 1 - ARENA), MM_SIZE_4K, MM_PROT_RW) &&
                   leads(&kernel, hot + MM_PAGE_SIZE, FRAME + (hot + MM_PAGE_SIZE - ARENA),
                         MM_SIZE_4K, MM_PROT_RW) &&
                   leads(&kernel, ARENA, FRAME, MM_SIZE_2M, MM_PROT_RW) &&
                   leads(&kernel, ARENA + MM_SIZE_1G, FRAME + MM_SIZE_1G, MM_SIZE_1G, MM_PROT_RW));
    BOTH_CHECK("one page is unmapped, its neighbours are not",
               unmap(&kernel, hot, MM_PAGE_SIZE, 0) == MM_OK && hole(&kernel, hot) &&
                   leads(&kernel, hot + MM_PAGE_SIZE, FRAME + (hot + MM_PAGE_SIZE - ARENA),
                         MM_SIZE_4K, MM_PROT_RW));
    BOTH_CHECK("a hole in a range is told, and nothing is done",
               unmap(&kernel, ARENA, whole.len, 0) == MM_ERR_NOT_MAPPED &&
                   leads(&kernel, ARENA, FRAME, MM_SIZE_2M, MM_PROT_RW));
    BOTH_CHECK("the tables agree with themselves", mm_paging_check(&kernel) == MM_OK);
    BOTH_CHECK("a range with holes is unmapped when asked, and its tables are back",
               unmap(&kernel, ARENA, whole.len, MM_PAGING_SKIP_HOLES) == MM_OK &&
                   nr_free() == before);
}

// The last page of all.
static void check_top(void)
{
    const uint64_t last = 0 - MM_PAGE_SIZE;

    BOTH_MUST(mm_paging_map(&kernel, mm_vrange(mm_vaddr(last), MM_PAGE_SIZE), mm_paddr(FRAME),
                            MM_PROT_RX, MM_MEMTYPE_WB, 0));
    BOTH_CHECK("the last page of all is mapped",
               leads(&kernel, UINT64_MAX, FRAME + MM_PAGE_MASK, MM_SIZE_4K, MM_PROT_RX));
    BOTH_CHECK("what is not declared is refused",
               mm_paging_map(&kernel, mm_vrange(mm_vaddr(TOP - MM_PAGE_SIZE), MM_PAGE_SIZE),
                             mm_paddr(FRAME), MM_PROT_RX, MM_MEMTYPE_WB,
                             0) == MM_ERR_INVALID_ADDRESS);
    BOTH_CHECK("a user's root sees it", leads(&user, last, FRAME, MM_SIZE_4K, MM_PROT_RX));
    BOTH_CHECK("it is unmapped", unmap(&kernel, last, MM_PAGE_SIZE, 0) == MM_OK);
}

static void count(void *ctx, mm_pfn_t first, uint64_t nr)
{
    (void)ctx;
    for (uint64_t i = 0; i < nr; i++) {
        mm_frame_get(&frames, mm_pfn(first.raw + i));
    }
}

// Frames that two roots share until each has let go.
static void check_users(void)
{
    const struct mm_vrange range =
        mm_vrange(mm_vaddr(MM_SIZE_2M - 2 * MM_PAGE_SIZE), 4 * MM_PAGE_SIZE);
    const mm_prot_t rw = MM_PROT_RW | MM_PROT_USER;
    const mm_prot_t ro = MM_PROT_READ | MM_PROT_USER;
    uint64_t before = nr_free();
    struct mm_gather gather;
    mm_pfn_t block;

    BOTH_MUST(mm_frame_alloc(&frames, &(struct mm_frame_request){.order = 2}, &block));
    uint64_t at = range.start.raw;
    uint64_t paddr = mm_pfn_addr(block).raw;
    BOTH_CHECK("a kernel's page is refused in a user's root",
               mm_paging_map(&user, range, mm_paddr(paddr), MM_PROT_RW, MM_MEMTYPE_WB, 0) ==
                   MM_ERR_INVALID_FLAGS);
    BOTH_MUST(mm_paging_map(&user, range, mm_paddr(paddr), rw, MM_MEMTYPE_WB, 0));
    BOTH_CHECK("a range across two tables is mapped",
               leads(&user, at + MM_PAGE_SIZE, paddr + MM_PAGE_SIZE, MM_SIZE_4K, rw) &&
                   leads(&user, MM_SIZE_2M, paddr + 2 * MM_PAGE_SIZE, MM_SIZE_4K, rw));

    BOTH_MUST(mm_gather_begin(&gather, &user));
    BOTH_MUST(mm_paging_clone(&user, &child, range, count, NULL, &gather));
    mm_gather_end(&gather);
    BOTH_CHECK("after a clone neither may write, and both read the same",
               leads(&user, at, paddr, MM_SIZE_4K, ro) &&
                   leads(&child, at, paddr, MM_SIZE_4K, ro) && mm_frame_refs(&frames, block) == 2);
    BOTH_CHECK("frames outlive the first root's mapping",
               unmap(&user, at, range.len, MM_PAGING_RELEASE) == MM_OK && hole(&user, at) &&
                   mm_frame_refs(&frames, block) == 1 && leads(&child, at, paddr, MM_SIZE_4K, ro));
    BOTH_CHECK("frames and tables are back after the second's",
               unmap(&child, at, range.len, MM_PAGING_RELEASE) == MM_OK && nr_free() == before);
}

void both_paging(const struct both_world *world)
{
    start(world);
    check_kernel();
    check_top();
    check_users();
    BOTH_CHECK("all roots agree with themselves", mm_paging_check(&kernel) == MM_OK &&
                                                      mm_paging_check(&user) == MM_OK &&
                                                      mm_paging_check(&child) == MM_OK);
    BOTH_MUST(mm_paging_destroy(&child));
    BOTH_MUST(mm_paging_destroy(&user));
    BOTH_MUST(mm_paging_destroy(&kernel));
    BOTH_CHECK("every frame is back", mm_frame_destroy_to_map(&frames, &map) == MM_OK &&
                                          mm_bootmap_usable_bytes(&map) == world->memory.len);
    map = (struct mm_bootmap){0};
    arch = (struct mm_x86_64){0};
}
