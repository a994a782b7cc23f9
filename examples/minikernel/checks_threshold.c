// SPDX-License-Identifier: MIT
//
// From how many pages on is it better to drop everything? Dropping a page costs an instruction that
// is slow; dropping everything costs another, and a walk for each page of the working set that is
// used again. Where both cost the same depends on the working set: this prints where. It measures the
// machine that it runs on: in QEMU, QEMU's idea of a TLB (docs/decisions/0013-flush-threshold.md).

#include <stddef.h>

#include "check.h"
#include "checks.h"
#include "cpu.h"
#include "layout.h"
#include "log.h"
#include "probe.h"

#define MOST_PAGES 1024 // of a working set
#define ONE_BY_ONE 64   // pages that are dropped to learn what one costs
#define TURNS      64   // the least of so many counts: what disturbs only adds

static const struct mm_vrange pages = {{LAYOUT_WINDOW + MM_SIZE_1G}, MOST_PAGES *MM_PAGE_SIZE};

static uint64_t touch(uint64_t nr)
{
    uint64_t start = cpu_timestamp();

    for (uint64_t i = 0; i < nr; i++) {
        (void)probe_get(mm_vaddr(pages.start.raw + i * MM_PAGE_SIZE));
    }
    return cpu_timestamp() - start;
}

static uint64_t less(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

// What it costs to drop everything, in thousandths, the walks that follow for `nr` pages included.
static uint64_t cost_of_all(const struct memory *m, uint64_t nr)
{
    const struct mm_x86_64_cpu_ops *ops = m->arch.ops;
    uint64_t drop = UINT64_MAX;
    uint64_t cold = UINT64_MAX;
    uint64_t warm = UINT64_MAX;

    for (int i = 0; i < TURNS; i++) {
        uint64_t start = cpu_timestamp();
        ops->write_cr(m->arch.ctx, 3, ops->read_cr(m->arch.ctx, 3));
        drop = less(drop, cpu_timestamp() - start);
        cold = less(cold, touch(nr));
        warm = less(warm, touch(nr));
    }
    return 1000 * (drop + (cold > warm ? cold - warm : 0));
}

// What it costs to drop a page, in thousandths. They are there: that may be what takes the time.
static uint64_t cost_of_page(const struct memory *m)
{
    uint64_t drop = UINT64_MAX;

    for (int i = 0; i < TURNS; i++) {
        (void)touch(ONE_BY_ONE);
        uint64_t start = cpu_timestamp();
        for (uint64_t page = 0; page < ONE_BY_ONE; page++) {
            m->arch.ops->invlpg(m->arch.ctx, pages.start.raw + page * MM_PAGE_SIZE);
        }
        drop = less(drop, cpu_timestamp() - start);
    }
    return less(drop, UINT64_MAX / 1000) * 1000 / ONE_BY_ONE;
}

void checks_threshold(struct memory *m)
{
    mm_pfn_t frame;

    check_theme("pages one by one, or all at once");
    must(mm_frame_alloc(&m->frames, NULL, &frame), "a frame");
    for (uint64_t i = 0; i < MOST_PAGES; i++) { // all of the one frame: caches are no matter here
        must(mm_paging_map(&m->kernel,
                           mm_vrange(mm_vaddr(pages.start.raw + i * MM_PAGE_SIZE), MM_PAGE_SIZE),
                           mm_pfn_addr(frame), MM_PROT_RW, MM_MEMTYPE_WB, 0),
             "a page of the working set");
    }
    uint64_t page = cost_of_page(m);
    log_print("  one page: %lu.%lu ticks\n", page / 1000, page % 1000 / 100);
    for (uint64_t nr = 1; nr <= MOST_PAGES; nr *= 4) {
        uint64_t all = cost_of_all(m, nr);
        log_print("  working set of %4lu pages: all at once %8lu ticks, as much as %6lu pages\n",
                  nr, all / 1000, all / (page != 0 ? page : 1));
    }
    log_print("  the library drops all above %u pages\n", m->tlb.flush_pages);
    CHECK("dropping a page takes time", page != 0);
    must(memory_unmap(m, pages, 0), "the working set");
    mm_frame_free(&m->frames, frame, 0);
}
