// SPDX-License-Identifier: MIT
/**
 * A page source over the arena. A run may be given back in parts: so each of its pages has an entry
 * in the table, and each is claimed by itself.
 */
#include "kva.h"

static mm_status_t pages_alloc(void *ctx, uint64_t nr_pages, uint64_t align, uint32_t flags,
                               void **out)
{
    struct mm_kva *kva = ctx;
    struct mm_kva_request request = {.flags = (flags & MM_PAGES_ATOMIC) != 0 ? MM_KVA_ATOMIC : 0};
    struct mmi_kva_spec spec = {.kind = MM_KVA_PAGES, .type = MM_MEMTYPE_WB};
    struct mmi_kva_range *range;
    mm_status_t status;

    if (!mm_is_pow2(align) || !mm_mul(nr_pages, MM_PAGE_SIZE, &request.len) ||
        !mm_mul(align, MM_PAGE_SIZE, &request.align)) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    status = mmi_kva_complete(kva, &request, &spec.request);
    if (status == MM_OK) {
        status = mmi_kva_take(kva, &spec, &range);
    }
    if (status == MM_OK) {
        *out = (void *)(uintptr_t)range->start;
    }
    return status;
}

static void pages_free(void *ctx, void *pages, uint64_t nr_pages)
{
    struct mm_kva *kva = ctx;
    uint64_t at = (uint64_t)(uintptr_t)pages;
    struct mmi_kva_range *of = NULL;

    for (uint64_t i = 0; i < nr_pages; i++) {
        uint64_t *entry = mmi_table_look(&kva->table, at + i * MM_PAGE_SIZE);
        uint64_t seen = entry == NULL ? 0 : mmi_load_acquire(entry);
        struct mmi_kva_range *range = mmi_kva_of_entry(seen);

        if (range == NULL || !mm_is_aligned(at, MM_PAGE_SIZE) || (i != 0 && range != of)) {
            mmi_kva_wrong(kva, at + i * MM_PAGE_SIZE, "a free of pages that are not its own",
                          "pages of a heap");
        }
        if ((seen & MMI_KVA_FREED) != 0) {
            mmi_kva_wrong(kva, at + i * MM_PAGE_SIZE, "double free of pages", "pages of a heap");
        }
        if (!mmi_cas(entry, &seen, seen | MMI_KVA_FREED)) {
            mmi_kva_wrong(kva, at + i * MM_PAGE_SIZE, "double free of pages", "pages of a heap");
        }
        if (range->kind != MM_KVA_PAGES) { /* only now it cannot go away */
            mmi_store_release(entry, seen);
            mmi_kva_wrong(kva, at, "a free of a range of another kind", "pages of a heap");
        }
        of = range;
    }
    if (of != NULL) {
        mmi_kva_push(kva, of, nr_pages);
    }
}

static const struct mm_page_source_ops pages_ops = {.alloc = pages_alloc, .free = pages_free};

struct mm_page_source mm_page_source_kva(struct mm_kva *kva)
{
    struct mm_page_source none = {NULL, NULL, 0, 0};

    return mmi_is_kva(kva) ? (struct mm_page_source){&pages_ops, kva, kva->ranges.window.start.raw,
                                                     kva->ranges.window.len}
                           : none;
}
