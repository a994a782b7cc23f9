// SPDX-License-Identifier: MIT
/**
 * The public calls: what is common to all architectures is checked here, and the rest is the
 * backend's. After these checks a backend sees ranges that are aligned, not empty, canonical and
 * declared, flags and protection that it knows, and a gather that belongs to the page table.
 *
 *     kernel ──> paging.c ──> struct mm_paging_ops ──> radix.h over a codec
 *                   └────────> gather.c (flush, then release)
 */
#include "core/base/compiler.h"
#include "core/base/mem.h"
#include "shootdown.h"

const struct mm_vrange *mmi_paging_declared(const struct mm_pagetable *pt, struct mm_vrange range)
{
    if (pt->is_user != 0) {
        return mm_vrange_covers(pt->user, range) ? &pt->user : NULL;
    }
    for (uint32_t i = 0; i < pt->nr_kernel_ranges; i++) {
        if (mm_vrange_covers(pt->kernel_ranges[i], range)) {
            return &pt->kernel_ranges[i];
        }
    }
    return NULL;
}

/* --- arguments -------------------------------------------------------------------------------- */

mm_status_t mmi_paging_check_range(const struct mm_pagetable *pt, struct mm_vrange range)
{
    if (((range.start.raw | range.len) & MM_PAGE_MASK) != 0) {
        return MM_ERR_NOT_ALIGNED;
    }
    if (range.len == 0 || !mm_vrange_valid(range)) {
        return MM_ERR_INVALID_SIZE;
    }
    return mmi_paging_declared(pt, range) != NULL ? MM_OK : MM_ERR_INVALID_ADDRESS;
}

mm_status_t mmi_paging_check_prot(const struct mm_pagetable *pt, mm_prot_t prot)
{
    bool user = (prot & MM_PROT_USER) != 0;

    if (prot == MM_PROT_NONE) {
        return MM_OK; /* what allows nothing is anybody's */
    }
    if ((prot & ~MM_PROT_ALL) != 0 || user != (pt->is_user != 0) ||
        (user && (prot & MM_PROT_GLOBAL) != 0)) {
        return MM_ERR_INVALID_FLAGS;
    }
    return MM_OK;
}

mm_status_t mmi_paging_check_paddr(const struct mm_pagetable *pt, mm_paddr_t paddr, uint64_t len)
{
    if ((paddr.raw & MM_PAGE_MASK) != 0) {
        return MM_ERR_NOT_ALIGNED;
    }
    if (!mm_range_fits(paddr.raw, len)) {
        return MM_ERR_INVALID_SIZE;
    }
    return paddr.raw + (len - 1) < pt->paddr_end ? MM_OK : MM_ERR_INVALID_ADDRESS;
}

mm_status_t mmi_paging_check_edit(const struct mm_pagetable *pt, struct mm_vrange range,
                                  uint32_t flags, uint32_t known, const struct mm_gather *gather)
{
    mm_status_t status = mmi_pagetable_check(pt);

    if (status != MM_OK) {
        return status;
    }
    if (!mmi_gather_is_for(gather, pt)) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if ((flags & ~known) != 0) {
        return MM_ERR_INVALID_FLAGS;
    }
    return mmi_paging_check_range(pt, range);
}

/* --- changing --------------------------------------------------------------------------------- */

/** What MM_PAGING_MERGE adds to a call that went well. */
static mm_status_t merge_after(struct mm_pagetable *pt, struct mm_vrange range, uint32_t flags,
                               mm_status_t status)
{
    if (status == MM_OK && (flags & MM_PAGING_MERGE) != 0) {
        (void)pt->backend.ops->merge(pt, range, *mmi_paging_declared(pt, range), flags);
    }
    return status;
}

#define MAP_FLAGS (MM_PAGING_ONLY_4K | MM_PAGING_MAX_2M)

/** Whether a call asks for one page of memory of the user's, and all that is checked here is in
 * order. The user range is whole pages: one that begins in it ends in it. */
static inline bool is_user_page(const struct mm_pagetable *pt, struct mm_vrange range,
                                mm_paddr_t paddr, mm_prot_t prot)
{
    return range.len == MM_PAGE_SIZE && ((range.start.raw | paddr.raw) & MM_PAGE_MASK) == 0 &&
           range.start.raw - pt->user.start.raw < pt->user.len && paddr.raw < pt->paddr_end &&
           prot < MM_PROT_GLOBAL;
}

__attribute__((noinline)) static mm_status_t map_range(struct mm_pagetable *pt,
                                                       struct mm_vrange range, mm_paddr_t paddr,
                                                       mm_prot_t prot, mm_memtype_t type,
                                                       uint32_t flags)
{
    mm_status_t status = mmi_pagetable_check(pt);

    if (status == MM_OK && (uint32_t)type >= MM_MEMTYPE_COUNT) {
        status = MM_ERR_INVALID_ARGUMENT;
    }
    if (status == MM_OK && (flags & ~(MAP_FLAGS | MM_PAGING_MERGE)) != 0) {
        status = MM_ERR_INVALID_FLAGS;
    }
    if (status == MM_OK) {
        status = mmi_paging_check_prot(pt, prot);
    }
    if (status == MM_OK) {
        status = mmi_paging_check_range(pt, range);
    }
    if (status == MM_OK) {
        status = mmi_paging_check_paddr(pt, paddr, range.len);
    }
    if (status != MM_OK) {
        return status;
    }
    return merge_after(
        pt, range, flags,
        pt->backend.ops->map(pt, range, paddr, mmi_paging_prot(pt, prot), type, flags));
}

mm_status_t mm_paging_map(struct mm_pagetable *pt, struct mm_vrange range, mm_paddr_t paddr,
                          mm_prot_t prot, mm_memtype_t type, uint32_t flags)
{
    /* What faults ask for, page by page, has a way of its own. */
    if (MMI_LIKELY(pt != NULL && pt->magic == MMI_PAGETABLE_MAGIC &&
                   is_user_page(pt, range, paddr, prot) && type == MM_MEMTYPE_WB &&
                   (flags & ~MAP_FLAGS) == 0)) {
        uint64_t bits = pt->page_bits[prot];

        if (MMI_LIKELY(bits != 0)) {
            return pt->backend.ops->map_page(pt, range.start, bits, paddr, prot);
        }
    }
    return map_range(pt, range, paddr, prot, type, flags);
}

mm_status_t mm_paging_unmap(struct mm_pagetable *pt, struct mm_vrange range, uint32_t flags,
                            struct mm_gather *gather)
{
    mm_status_t status = mmi_paging_check_edit(
        pt, range, flags, MM_PAGING_SPLIT | MM_PAGING_SKIP_HOLES | MM_PAGING_RELEASE, gather);

    return status != MM_OK ? status : pt->backend.ops->unmap(pt, range, flags, gather);
}

mm_status_t mm_paging_protect(struct mm_pagetable *pt, struct mm_vrange range, mm_prot_t prot,
                              uint32_t flags, struct mm_gather *gather)
{
    mm_status_t status = mmi_paging_check_edit(
        pt, range, flags, MM_PAGING_SPLIT | MM_PAGING_SKIP_HOLES | MM_PAGING_MERGE, gather);

    if (status == MM_OK) {
        status = mmi_paging_check_prot(pt, prot);
    }
    if (status != MM_OK) {
        return status;
    }
    return merge_after(
        pt, range, flags,
        pt->backend.ops->protect(pt, range, mmi_paging_prot(pt, prot), flags, gather));
}

mm_status_t mm_paging_set_type(struct mm_pagetable *pt, struct mm_vrange range, mm_memtype_t type,
                               uint32_t flags)
{
    mm_status_t status = mmi_pagetable_check(pt);

    if (status == MM_OK && (uint32_t)type >= MM_MEMTYPE_COUNT) {
        status = MM_ERR_INVALID_ARGUMENT;
    }
    if (status == MM_OK && (flags & ~(MM_PAGING_SPLIT | MM_PAGING_SKIP_HOLES)) != 0) {
        status = MM_ERR_INVALID_FLAGS;
    }
    if (status == MM_OK) {
        status = mmi_paging_check_range(pt, range);
    }
    return status != MM_OK ? status : pt->backend.ops->set_type(pt, range, type, flags);
}

mm_status_t mm_paging_merge(struct mm_pagetable *pt, struct mm_vrange range, uint64_t *nr_merged)
{
    mm_status_t status = mmi_pagetable_check(pt);
    uint64_t nr;

    if (status == MM_OK) {
        status = mmi_paging_check_range(pt, range);
    }
    if (status != MM_OK) {
        return status;
    }
    nr = pt->backend.ops->merge(pt, range, *mmi_paging_declared(pt, range), 0);
    if (nr_merged != NULL) {
        *nr_merged = nr;
    }
    return MM_OK;
}

mm_status_t mm_paging_reclaim(struct mm_pagetable *pt, struct mm_vrange range,
                              struct mm_gather *gather)
{
    const struct mm_vrange *whole;
    mm_status_t status = mmi_pagetable_check(pt);

    if (status != MM_OK) {
        return status;
    }
    if (!mmi_gather_is_for(gather, pt)) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (range.len == 0 || !mm_vrange_valid(range)) {
        return MM_ERR_INVALID_SIZE;
    }
    whole = mmi_paging_declared(pt, range);
    if (whole == NULL) {
        return MM_ERR_INVALID_ADDRESS;
    }
    pt->backend.ops->reclaim(pt, range, gather);
    if (mm_vrange_covers(range, *whole)) {
        pt->sparse &= ~(pt->is_user != 0 ? 1u : 1u << (whole - pt->kernel_ranges));
    }
    return MM_OK;
}

mm_status_t mm_paging_clone(struct mm_pagetable *from, struct mm_pagetable *to,
                            struct mm_vrange range, mm_paging_share_fn share, void *ctx,
                            struct mm_gather *gather)
{
    mm_status_t status = mmi_pagetable_check(to);

    if (status == MM_OK) {
        status = mmi_paging_check_edit(from, range, 0, 0, gather);
    }
    if (status != MM_OK) {
        return status;
    }
    if (from == to || from->is_user == 0 || to->is_user == 0 ||
        from->backend.ops != to->backend.ops || from->backend.ctx != to->backend.ctx) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    status = mmi_paging_check_range(to, range);
    return status != MM_OK ? status : from->backend.ops->clone(from, to, range, share, ctx, gather);
}

mm_status_t mm_paging_replace(struct mm_pagetable *pt, mm_vaddr_t at, mm_paddr_t paddr,
                              mm_prot_t prot, uint32_t flags, struct mm_gather *gather)
{
    mm_status_t status =
        mmi_paging_check_edit(pt, mm_vrange(at, MM_PAGE_SIZE), flags, MM_PAGING_RELEASE, gather);

    if (status == MM_OK) {
        status = mmi_paging_check_prot(pt, prot);
    }
    if (status == MM_OK) {
        status = mmi_paging_check_paddr(pt, paddr, MM_PAGE_SIZE);
    }
    return status != MM_OK
               ? status
               : pt->backend.ops->replace(pt, at, paddr, mmi_paging_prot(pt, prot), flags, gather);
}

/* --- looking ---------------------------------------------------------------------------------- */

mm_status_t mm_paging_translate(const struct mm_pagetable *pt, mm_vaddr_t at,
                                struct mm_mapping *out)
{
    if (pt == NULL || out == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (pt->magic != MMI_PAGETABLE_MAGIC) {
        return MM_ERR_NOT_INITIALIZED;
    }
    return pt->backend.ops->translate(pt, at, out);
}

mm_status_t mmi_paging_check_walk(const struct mm_pagetable *pt, struct mm_vrange range)
{
    mm_status_t status = mmi_pagetable_check(pt);

    if (status != MM_OK) {
        return status;
    }
    if (range.len == 0) {
        return MM_ERR_INVALID_SIZE;
    }
    if (!mm_vrange_valid(range) ||
        !mm_vrange_canonical(range, pt->backend.ops->vaddr_bits(pt->backend.ctx))) {
        return MM_ERR_INVALID_ADDRESS;
    }
    return MM_OK;
}

mm_status_t mm_paging_walk(const struct mm_pagetable *pt, struct mm_vrange range,
                           mm_paging_visit_fn visit, void *ctx)
{
    mm_status_t status = mmi_pagetable_check(pt);

    if (status == MM_OK && visit == NULL) {
        status = MM_ERR_INVALID_ARGUMENT;
    }
    if (status == MM_OK) {
        status = mmi_paging_check_walk(pt, range);
    }
    return status != MM_OK ? status : pt->backend.ops->walk(pt, range, visit, ctx);
}

/* --- roots ------------------------------------------------------------------------------------ */

mm_paddr_t mm_paging_root(const struct mm_pagetable *pt)
{
    return mmi_pagetable_check(pt) == MM_OK ? pt->kernel_root : mm_paddr(0);
}

mm_paddr_t mm_paging_user_root(const struct mm_pagetable *pt)
{
    return mmi_pagetable_check(pt) == MM_OK ? pt->root : mm_paddr(0);
}

mm_paddr_t mm_paging_current_root(struct mm_paging_backend backend)
{
    return backend.ops != NULL ? backend.ops->current_root(backend.ctx) : mm_paddr(0);
}

mm_status_t mm_paging_load_root(struct mm_paging_backend backend, mm_paddr_t root)
{
    if (backend.ops == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (!mm_is_aligned(root.raw, MM_PAGE_SIZE)) {
        return MM_ERR_NOT_ALIGNED;
    }
    if (root.raw >> backend.ops->paddr_bits(backend.ctx) != 0) {
        return MM_ERR_INVALID_ADDRESS;
    }
    backend.ops->load_root(backend.ctx, root);
    return MM_OK;
}

/* --- asking ----------------------------------------------------------------------------------- */

mm_status_t mm_paging_get_stats(const struct mm_pagetable *pt, struct mm_paging_stats *out)
{
    mm_status_t status = mmi_pagetable_check(pt);

    if (status != MM_OK || out == NULL) {
        return status != MM_OK ? status : MM_ERR_INVALID_ARGUMENT;
    }
    out->nr_tables = pt->nr_tables;
    memcpy(out->nr_leaves, pt->nr_leaves, sizeof(out->nr_leaves));
    out->nr_soft = pt->nr_soft;
    out->mapped_bytes = pt->nr_leaves[0] * MM_SIZE_4K + pt->nr_leaves[1] * MM_SIZE_2M +
                        pt->nr_leaves[2] * MM_SIZE_1G;
    return MM_OK;
}

mm_status_t mm_paging_check(const struct mm_pagetable *pt)
{
    mm_status_t status = mmi_pagetable_check(pt);

    return status != MM_OK ? status : pt->backend.ops->check(pt);
}
