// SPDX-License-Identifier: MIT
//
// DMA regions: what a device would be told must be what the driver sees.

#include <stddef.h>

#include "check.h"
#include "checks.h"

#define LEN          (UINT64_C(256) << 10)
#define ALIGN        UINT64_C(0x10000)
#define LAST_32_BITS UINT64_C(0xffffffff)
#define LAST_ISA     UINT64_C(0xffffff) // the 24 address lines of ISA

// Every page of the alias leads to the next page of the physical range.
static bool contiguous(struct memory *m, const struct mm_dma_region *region)
{
    for (uint64_t offset = 0; offset < region->range.len; offset += MM_PAGE_SIZE) {
        mm_vaddr_t at = mm_vaddr_of((const uint8_t *)region->addr + offset);
        struct mm_mapping leaf;
        if (mm_paging_translate(&m->kernel, at, &leaf) != MM_OK ||
            leaf.paddr.raw + (at.raw - leaf.page.start.raw) != region->range.start.raw + offset) {
            return false;
        }
    }
    return true;
}

// The ledger knows which frames are for devices.
static uint64_t bytes_of_dma(struct memory *m)
{
    struct mm_frame_stats s;
    must(mm_frame_get_stats(&m->frames, &s), "frame statistics");
    return s.nr_by_owner[MM_OWNER_DMA] * MM_PAGE_SIZE;
}

static bool all_zero(const struct mm_dma_region *region)
{
    const uint64_t *words = region->addr;
    for (uint64_t i = 0; i < region->range.len / sizeof(uint64_t); i++) {
        if (words[i] != 0) {
            return false;
        }
    }
    return true;
}

void checks_dma(struct memory *m)
{
    uint64_t before = memory_nr_free(m);
    struct mm_dma_constraints wide = {.highest = {LAST_32_BITS}, .align = ALIGN};
    struct mm_dma_constraints narrow = {.highest = {LAST_ISA}, .align = ALIGN, .boundary = ALIGN};
    struct mm_dma_region region = {0};
    struct mm_dma_region isa = {0};

    check_theme("DMA");
    if (CHECK("a DMA region is allocated",
              mm_dma_alloc(&m->dma, LEN, &wide, MM_DMA_ZERO, &region) == MM_OK)) {
        CHECK("a DMA region below 4 GiB is there",
              region.range.len == LEN && mm_prange_last(region.range).raw <= LAST_32_BITS);
        CHECK("a DMA region is aligned", mm_is_aligned(region.range.start.raw, ALIGN));
        CHECK("a DMA region is contiguous", contiguous(m, &region));
        CHECK("a DMA region is zeroed", all_zero(&region));
        CHECK("a DMA region is in the ledger", bytes_of_dma(m) == LEN);
        must(mm_dma_free(&m->dma, &region), "end of a DMA region");
    }
    if (CHECK("a DMA region for ISA is allocated",
              mm_dma_alloc(&m->dma, ALIGN, &narrow, 0, &isa) == MM_OK)) {
        CHECK("a DMA region for ISA is below 16 MiB and crosses no 64 KiB",
              mm_prange_last(isa.range).raw <= LAST_ISA &&
                  isa.range.start.raw / ALIGN == mm_prange_last(isa.range).raw / ALIGN);
        must(mm_dma_free(&m->dma, &isa), "end of a DMA region");
    }
    CHECK("DMA regions return their frames", memory_nr_free(m) == before && bytes_of_dma(m) == 0);
}
