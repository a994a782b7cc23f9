// SPDX-License-Identifier: MIT
/**
 * Guarded pages for the sampled objects of a heap: one range with a page that is mapped, one that is
 * a guard, and so on.
 *
 *      guard  page 1  guard  page 3  guard        a page that is closed is a leaf that allows
 *     ┌ ─ ─ ┬───────┬ ─ ─ ┬───────┬ ─ ─ ┐       nothing, and keeps its frame
 *     └ ─ ─ ┴───────┴ ─ ─ ┴───────┴ ─ ─ ┘
 *
 * A frame never changes its page while the window lives. So a stale translation on another CPU leads
 * to the page that it always led to: it hides a use after the free until the next purge, and harms
 * nobody.
 */
#include "kva.h"

#include <mm/paging_ops.h>

/** Give a page of a window this protection. Nobody waits. */
static mm_status_t protect(struct mm_kva *kva, void *page, mm_prot_t prot)
{
    struct mm_vrange range = mm_vrange(mm_vaddr_of(page), MM_PAGE_SIZE);
    uint8_t shift = MM_PAGE_SHIFT;
    mm_status_t status;

    if (!mmi_kva_enter(kva, true)) {
        return MM_ERR_BUSY;
    }
    status = mm_gather_begin(&kva->unused, kva->kernel);
    if (status == MM_OK) {
        status = mm_paging_protect(kva->kernel, range, prot, 0, &kva->unused);
    }
    if (status == MM_OK && prot == MM_PROT_NONE) {
        /* This CPU, here; the others are told by the next purge. */
        kva->kernel->backend.ops->flush(kva->kernel, &range, &shift, 1);
        if (kva->stale_last == 0 || range.start.raw < kva->stale_first) {
            kva->stale_first = range.start.raw;
        }
        if (mm_vrange_last(range).raw > kva->stale_last) {
            mmi_store(&kva->stale_last, mm_vrange_last(range).raw);
        }
    }
    mmi_kva_leave(kva);
    return status;
}

static mm_status_t guards_open(void *ctx, void *page)
{
    return protect(ctx, page, MM_PROT_RW | MM_PROT_GLOBAL);
}

static void guards_close(void *ctx, void *page)
{
    mm_status_t status = protect(ctx, page, MM_PROT_NONE);

    (void)status; /* where it cannot, an access after the free is not told */
}

static const struct mm_heap_guard_ops guards_ops = {.open = guards_open, .close = guards_close};

mm_status_t mm_kva_guards_alloc(struct mm_kva *kva, uint32_t nr_pages, struct mm_heap_guards *out)
{
    struct mm_kva_request request = {.guard_before = 1, .guard_after = 1};
    struct mmi_kva_spec spec = {.kind = MM_KVA_GUARDED,
                                .type = MM_MEMTYPE_WB,
                                .part = MM_PAGE_SIZE,
                                .stride = 2 * MM_PAGE_SIZE};
    struct mmi_kva_range *range;
    mm_status_t status = mmi_kva_check_arena(kva);

    if (out == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (status != MM_OK) {
        return status;
    }
    if (nr_pages == 0 || nr_pages > MM_HEAP_SAMPLES_MAX) {
        return MM_ERR_INVALID_SIZE;
    }
    request.len = (nr_pages - 1) * spec.stride + spec.part;
    status = mmi_kva_complete(kva, &request, &spec.request);
    if (status == MM_OK) {
        spec.request.prot = MM_PROT_NONE; /* all are closed */
        status = mmi_kva_take(kva, &spec, &range);
    }
    if (status == MM_OK) {
        *out = (struct mm_heap_guards){.ops = &guards_ops,
                                       .ctx = kva,
                                       .base = range->start - MM_PAGE_SIZE,
                                       .len = range->len + 2 * MM_PAGE_SIZE};
    }
    return status;
}

void mm_kva_guards_free(struct mm_kva *kva, const struct mm_heap_guards *guards)
{
    struct mmi_kva_range *range;
    uint64_t at = guards == NULL ? 0 : guards->base + MM_PAGE_SIZE;

    if (!mmi_is_kva(kva)) {
        const struct mm_platform none = {NULL, NULL};

        mmi_panic(&none, &(struct mm_panic_info){.room = "kva",
                                                 .what = "a free into no arena",
                                                 .address = at,
                                                 .recorded = "no arena",
                                                 .claimed = "guarded pages"});
    }
    range = mmi_kva_claim(kva, at, 1u << MM_KVA_GUARDED, "guarded pages");
    mmi_kva_push(kva, range, mmi_kva_pages(range));
}
