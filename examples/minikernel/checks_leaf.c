// SPDX-License-Identifier: MIT
//
// Leaves of 4 KiB, 2 MiB and 1 GiB: what the library says of them and what loads and stores find
// must be one thing, before and after they change. Physical memory is looked at twice: through the
// window under test, and through the direct map.

#include <stddef.h>

#include "check.h"
#include "checks.h"
#include "layout.h"
#include "probe.h"

#define PAGES_2M (MM_SIZE_2M / MM_PAGE_SIZE)

static const mm_vaddr_t window = {LAYOUT_WINDOW};

static mm_vaddr_t plus(mm_vaddr_t base, uint64_t offset)
{
    return mm_vaddr(base.raw + offset);
}

static mm_vaddr_t direct(const struct memory *m, mm_paddr_t at)
{
    return mm_vaddr_of(mm_physmap_ptr(&m->physmap, at));
}

// 2 MiB of memory that nobody else uses: every store in here hits it.
static mm_paddr_t take_block(struct memory *m)
{
    struct mm_frame_request request = {.order = MM_ORDER_2M, .owner = MM_OWNER_KERNEL};
    mm_pfn_t block;
    must(mm_frame_alloc(&m->frames, &request, &block), "a block of 2 MiB");
    return mm_pfn_addr(block);
}

static void give_block(struct memory *m, mm_paddr_t block)
{
    mm_frame_free(&m->frames, mm_pfn_of(block), MM_ORDER_2M);
}

// Whether `at` in the window and `paddr` are the same memory, by both ways and by translation.
static bool same(struct memory *m, mm_vaddr_t at, mm_paddr_t paddr, uint64_t leaf_len)
{
    struct mm_mapping leaf;
    mm_vaddr_t alias = direct(m, paddr);

    probe_set(at, at.raw);
    bool stored = probe_get(alias) == at.raw;
    probe_set(alias, paddr.raw);
    bool loaded = probe_get(at) == paddr.raw;
    return stored && loaded && mm_paging_translate(&m->kernel, at, &leaf) == MM_OK &&
           leaf.page.len == leaf_len &&
           leaf.paddr.raw + (at.raw - leaf.page.start.raw) == paddr.raw;
}

// One leaf of `size` at the window, over the physical memory around a block of ours.
static void check_size(struct memory *m, uint64_t size, uint32_t flags, const char *name)
{
    mm_paddr_t block = take_block(m);
    mm_paddr_t base = mm_paddr(mm_align_down(block.raw, size));
    struct mm_vrange range = mm_vrange(window, size);
    bool good = mm_paging_map(&m->kernel, range, base, MM_PROT_RW | MM_PROT_GLOBAL, MM_MEMTYPE_WB,
                              flags) == MM_OK;

    // A different word of each page, so that a page in the wrong place shows.
    for (uint64_t i = 0; good && i < PAGES_2M && i * MM_PAGE_SIZE < size; i++) {
        uint64_t offset = i * MM_PAGE_SIZE + (i * 8) % MM_PAGE_SIZE;
        good = same(m, plus(window, block.raw - base.raw + offset), mm_paddr(block.raw + offset),
                    size);
    }
    CHECK(name, good && memory_unmap(m, range, 0) == MM_OK && probe_unmapped(window));
    give_block(m, block);
}

static void check_sizes(struct memory *m)
{
    static const char name_1g[] = "a 1 GiB leaf translates as loads and stores see it";

    check_size(m, MM_SIZE_4K, MM_PAGING_ONLY_4K,
               "a 4 KiB leaf translates as loads and stores see it");
    check_size(m, MM_SIZE_2M, MM_PAGING_MAX_2M,
               "a 2 MiB leaf translates as loads and stores see it");
    if (m->arch.features.page_1g) {
        check_size(m, MM_SIZE_1G, 0, name_1g);
    } else {
        check_skip(name_1g, "the CPU has no 1 GiB pages");
    }
}

// A translation that the TLB holds for sure: it was just used.
static void check_flush(struct memory *m)
{
    struct trap_report r;
    struct mm_gather gather;
    mm_paddr_t block = take_block(m);
    struct mm_vrange page = mm_vrange(window, MM_PAGE_SIZE);

    must(mm_paging_map(&m->kernel, page, block, MM_PROT_RW | MM_PROT_GLOBAL, MM_MEMTYPE_WB, 0),
         "a page in the window");
    bool writable = !probe_store(window, &r);
    must(mm_gather_begin(&gather, &m->kernel), "gather");
    bool narrowed =
        mm_paging_protect(&m->kernel, page, MM_PROT_READ | MM_PROT_GLOBAL, 0, &gather) == MM_OK;
    mm_gather_end(&gather);
    CHECK("write-protected means that stores fault after the flush",
          writable && narrowed && !probe_load(window, &r) && probe_store(window, &r) &&
              probe_is(&r, window, TRAP_PF_PRESENT | TRAP_PF_WRITE));

    bool readable = !probe_load(window, &r);
    bool unmapped = memory_unmap(m, page, 0) == MM_OK;
    CHECK("unmapped means that loads fault after the flush",
          readable && unmapped && probe_unmapped(window));
    give_block(m, block);
}

static void check_split(struct memory *m)
{
    mm_paddr_t block = take_block(m);
    struct mm_vrange leaf = mm_vrange(window, MM_SIZE_2M);
    mm_vaddr_t middle = plus(window, MM_SIZE_2M / 2);
    struct mm_vrange hole = mm_vrange(middle, MM_PAGE_SIZE);

    must(mm_paging_map(&m->kernel, leaf, block, MM_PROT_RW, MM_MEMTYPE_WB, 0), "a leaf to split");
    CHECK("part of a 2 MiB leaf is not unmapped unasked",
          memory_unmap(m, hole, 0) == MM_ERR_HUGE_PAGE &&
              same(m, middle, mm_paddr(block.raw + MM_SIZE_2M / 2), MM_SIZE_2M));

    bool split = memory_unmap(m, hole, MM_PAGING_SPLIT) == MM_OK && probe_unmapped(middle);
    for (uint64_t i = 0; split && i < PAGES_2M; i++) {
        uint64_t offset = i * MM_PAGE_SIZE;
        split = offset == MM_SIZE_2M / 2 ||
                same(m, plus(window, offset), mm_paddr(block.raw + offset), MM_PAGE_SIZE);
    }
    CHECK("a 2 MiB leaf is split around a page, and the rest stays", split);
    must(memory_unmap(m, leaf, MM_PAGING_SKIP_HOLES), "the rest of the leaf");
    give_block(m, block);
}

void checks_leaf(struct memory *m)
{
    uint64_t before = memory_nr_free(m);

    check_theme("leaves of each size");
    check_sizes(m);
    check_flush(m);
    check_split(m);
    CHECK("tables are well formed after maps and splits", mm_paging_check(&m->kernel) == MM_OK);
    CHECK("tables that are empty are returned", memory_nr_free(m) == before);
}
