// SPDX-License-Identifier: MIT
/**
 * A page source over the arena. A run may be given back in parts: so each of its pages has an entry
 * in the table, and each is claimed by itself.
 *
 * A run grows into the gap behind it, and its guard moves on. There no CPU has a translation: it is
 * a gap only once what lay there was flushed. A part that was given back lies in its range until all
 * of it is, and is no gap.
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

/* --- growing ---------------------------------------------------------------------------------- */

/** What is to be longer, and by what. */
struct growth {
    uint64_t start;
    uint64_t len;
    struct mmi_kva_spec more;
};

/** The run, if it is all there, and has room behind it. Under the lock. */
static mm_status_t find_run(const struct mm_kva *kva, const struct growth *growth,
                            struct mmi_kva_range **out)
{
    const struct mm_ranges *ranges = &kva->ranges;
    const uint64_t *first = mmi_table_look(&kva->table, growth->start);
    const uint64_t *last = mmi_table_look(&kva->table, growth->start + (growth->len - 1));
    struct mmi_kva_range *range = first == NULL ? NULL : mmi_kva_of_entry(mmi_load_acquire(first));
    uint64_t used;

    if (range == NULL || last == NULL || range->kind != MM_KVA_PAGES ||
        range->start != growth->start || mmi_load_acquire(first) != mmi_kva_entry(range) ||
        mmi_load_acquire(last) != mmi_kva_entry(range)) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    used = range->whole.node.start + range->whole.len - ranges->window.start.raw;
    if (range->len != growth->len || growth->more.request.len > ranges->window.len - used ||
        !mmi_ranges_free(ranges, ranges->window.start.raw + used, growth->more.request.len)) {
        return MM_ERR_REGION_NOT_FOUND;
    }
    *out = range;
    return MM_OK;
}

/** Under the lock. NULL frames: only see whether it can be done. `*missing`: entries of the table
 * are missing; make them, and come again. */
static mm_status_t grow(struct mm_kva *kva, const struct growth *growth,
                        const struct mmi_kva_frames *frames, bool *missing)
{
    uint64_t at = growth->start + growth->len;
    uint64_t more = growth->more.request.len;
    struct mmi_kva_range *range;
    mm_status_t status = find_run(kva, growth, &range);

    if (status != MM_OK) {
        return status;
    }
    if (!mmi_kva_has_entries(kva, &growth->more, at)) {
        *missing = true;
        return MM_ERR_NO_MEMORY;
    }
    if (frames == NULL) {
        return MM_OK;
    }
    status = mmi_kva_map_at(kva, &growth->more, at, frames);
    if (status == MM_OK) {
        mmi_ranges_resize(&kva->ranges, &range->whole, range->whole.len + more);
        range->len += more;
        range->nr_left += more >> MM_PAGE_SHIFT;
        mmi_fetch_add(&kva->nr_pages[MM_KVA_PAGES], more >> MM_PAGE_SHIFT);
        mmi_kva_set_entries(kva, range, at, more);
    }
    return status;
}

static mm_status_t grow_locked(struct mm_kva *kva, const struct growth *growth,
                               const struct mmi_kva_frames *frames)
{
    mm_status_t status;
    bool missing;

    do {
        missing = false;
        if (!mmi_kva_enter(kva, (growth->more.request.flags & MM_KVA_ATOMIC) != 0)) {
            return MM_ERR_BUSY;
        }
        status = grow(kva, growth, frames, &missing);
        mmi_kva_leave(kva);
    } while (missing && mmi_kva_make_entries(kva, &growth->more, growth->start + growth->len));
    return status;
}

static mm_status_t pages_extend(void *ctx, void *pages, uint64_t nr_pages, uint64_t more,
                                uint32_t flags)
{
    struct mm_kva *kva = ctx;
    struct mm_kva_request request = {.flags = (flags & MM_PAGES_ATOMIC) != 0 ? MM_KVA_ATOMIC : 0};
    struct growth growth = {.start = (uint64_t)(uintptr_t)pages,
                            .more = {.kind = MM_KVA_PAGES, .type = MM_MEMTYPE_WB}};
    struct mmi_kva_frames frames;
    mm_status_t status;

    if (nr_pages == 0 || !mm_mul(nr_pages, MM_PAGE_SIZE, &growth.len)) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (!mm_mul(more, MM_PAGE_SIZE, &request.len)) {
        return MM_ERR_INVALID_SIZE;
    }
    status = mmi_kva_complete(kva, &request, &growth.more.request);
    if (status == MM_OK) {
        status = grow_locked(kva, &growth, NULL);
    }
    if (status == MM_OK) {
        status = mmi_kva_collect(kva, &growth.more, &frames);
    }
    if (status != MM_OK) {
        return status;
    }
    status = grow_locked(kva, &growth, &frames);
    if (status != MM_OK) {
        mmi_kva_drop(kva, &frames);
    }
    return status;
}

static const struct mm_page_source_ops pages_ops = {
    .alloc = pages_alloc, .free = pages_free, .extend = pages_extend};

struct mm_page_source mm_page_source_kva(struct mm_kva *kva)
{
    struct mm_page_source none = {NULL, NULL, 0, 0};

    return mmi_is_kva(kva) ? (struct mm_page_source){&pages_ops, kva, kva->ranges.window.start.raw,
                                                     kva->ranges.window.len}
                           : none;
}
