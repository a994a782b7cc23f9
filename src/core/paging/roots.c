// SPDX-License-Identifier: MIT
/**
 * The life of a page table: its configuration is checked, it is made, adopted, and destroyed. What
 * its tables are is the backend's.
 */
#include "core/base/mem.h"
#include "shootdown.h"

/* --- configuration ---------------------------------------------------------------------------- */

static mm_status_t check_parts(const struct mm_paging_config *config)
{
    const struct mm_physmap *physmap = config->physmap;

    if (config->backend.ops == NULL || physmap == NULL || config->source.ops == NULL ||
        config->source.ops->alloc == NULL || config->source.ops->free == NULL ||
        config->kernel_ranges == NULL || config->nr_kernel_ranges == 0) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (physmap->ops != NULL && (physmap->ops->map == NULL || physmap->ops->unmap == NULL)) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (!mm_range_fits(physmap->first.raw, physmap->len)) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (physmap->ops == NULL && (physmap->base & MM_PAGE_MASK) != 0) {
        return MM_ERR_NOT_ALIGNED;
    }
    if (config->tlb != NULL) {
        if (config->tlb->magic != MMI_TLB_MAGIC) {
            return MM_ERR_NOT_INITIALIZED;
        }
        if (config->tlb->backend.ops != config->backend.ops ||
            config->tlb->backend.ctx != config->backend.ctx) {
            return MM_ERR_INVALID_ARGUMENT;
        }
        if (config->tlb->kernel != NULL) {
            return MM_ERR_BUSY;
        }
    }
    if ((config->flags & ~MM_PAGING_PAIRS) != 0) {
        return MM_ERR_INVALID_FLAGS;
    }
    return config->nr_kernel_ranges <= MM_PAGING_MAX_KERNEL_RANGES ? MM_OK : MM_ERR_LIMIT;
}

static mm_status_t check_declared(struct mm_vrange range, unsigned bits)
{
    if (((range.start.raw | range.len) & MM_PAGE_MASK) != 0) {
        return MM_ERR_NOT_ALIGNED;
    }
    if (range.len == 0) {
        return MM_ERR_INVALID_SIZE;
    }
    return mm_vrange_valid(range) && mm_vrange_canonical(range, bits) ? MM_OK
                                                                      : MM_ERR_INVALID_ADDRESS;
}

static mm_status_t check_ranges(const struct mm_paging_config *config)
{
    unsigned bits = config->backend.ops->vaddr_bits(config->backend.ctx);
    mm_status_t status;

    for (uint32_t i = 0; i < config->nr_kernel_ranges; i++) {
        struct mm_vrange range = config->kernel_ranges[i];

        status = check_declared(range, bits);
        if (status != MM_OK) {
            return status;
        }
        if (mm_vrange_overlaps(range, config->user)) {
            return MM_ERR_INVALID_ADDRESS;
        }
        for (uint32_t j = 0; j < i; j++) {
            if (mm_vrange_overlaps(range, config->kernel_ranges[j])) {
                return MM_ERR_INVALID_ADDRESS;
            }
        }
    }
    if (config->user.len == 0) {
        return MM_OK;
    }
    status = check_declared(config->user, bits);
    if (status == MM_OK && config->user.start.raw >> 63 != 0) {
        status = MM_ERR_INVALID_ADDRESS;
    }
    return status;
}

/** Fill the storage in; the magic comes last. */
static mm_status_t kernel_begin(struct mm_pagetable *pt, const struct mm_paging_config *config)
{
    mm_status_t status;

    if (pt == NULL || config == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (pt->magic == MMI_PAGETABLE_MAGIC) {
        return MM_ERR_ALREADY_INITIALIZED;
    }
    status = check_parts(config);
    if (status == MM_OK) {
        status = check_ranges(config);
    }
    if (status != MM_OK) {
        return status;
    }
    pt->backend = config->backend;
    pt->paddr_end = UINT64_C(1) << config->backend.ops->paddr_bits(config->backend.ctx);
    pt->physmap = *config->physmap;
    pt->source = config->source;
    pt->platform = config->platform;
    pt->nr_kernel_ranges = config->nr_kernel_ranges;
    memcpy(pt->kernel_ranges, config->kernel_ranges,
           config->nr_kernel_ranges * sizeof(pt->kernel_ranges[0]));
    pt->user = config->user;
    pt->tlb = config->tlb;
    pt->pairs = (config->flags & MM_PAGING_PAIRS) != 0 ? MMI_PAIRS : 0;
    return MM_OK;
}

static mm_status_t begin_done(struct mm_pagetable *pt, mm_status_t status)
{
    if (status != MM_OK) {
        memset(pt, 0, sizeof(*pt)); /* as it was handed over */
        return status;
    }
    if (pt->kernel_root.raw == 0) {
        pt->kernel_root = pt->root;
    }
    pt->magic = MMI_PAGETABLE_MAGIC;
    if (pt->tlb != NULL) {
        mmi_tlb_begin(pt);
    }
    if (pt->tlb != NULL && pt->is_user == 0) {
        mmi_store_release(&pt->tlb->kernel, pt);
    }
    return MM_OK;
}

mm_status_t mm_paging_init_kernel(struct mm_pagetable *pt, const struct mm_paging_config *config)
{
    mm_status_t status = kernel_begin(pt, config);

    return status != MM_OK ? status : begin_done(pt, pt->backend.ops->init_kernel(pt));
}

mm_status_t mm_paging_adopt(struct mm_pagetable *pt, const struct mm_paging_config *config,
                            mm_paddr_t root)
{
    mm_status_t status;

    if (mm_paddr_offset(root) != 0) {
        return MM_ERR_NOT_ALIGNED;
    }
    status = kernel_begin(pt, config);
    if (status != MM_OK) {
        return status;
    }
    if (pt->pairs != 0) {
        return begin_done(pt, MM_ERR_INVALID_FLAGS); /* its leaves may be global */
    }
    pt->adopted = 1;
    pt->root = root;
    return begin_done(pt, pt->backend.ops->adopt(pt));
}

mm_status_t mm_paging_init_user(struct mm_pagetable *pt, const struct mm_pagetable *kernel)
{
    mm_status_t status = mmi_pagetable_check(kernel);

    if (pt == NULL || status != MM_OK) {
        return pt == NULL ? MM_ERR_INVALID_ARGUMENT : status;
    }
    if (pt->magic == MMI_PAGETABLE_MAGIC) {
        return MM_ERR_ALREADY_INITIALIZED;
    }
    if (kernel->is_user != 0 || kernel->user.len == 0 || kernel->pairs == MMI_ENTRY_ROOT ||
        (kernel->pairs != 0 && kernel->peer == NULL)) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    pt->is_user = 1;
    pt->pairs = kernel->pairs;
    pt->peer = kernel->peer;
    pt->backend = kernel->backend;
    pt->paddr_end = kernel->paddr_end;
    pt->physmap = kernel->physmap;
    pt->source = kernel->source;
    pt->platform = kernel->platform;
    pt->nr_kernel_ranges = kernel->nr_kernel_ranges;
    memcpy(pt->kernel_ranges, kernel->kernel_ranges, sizeof(pt->kernel_ranges));
    pt->user = kernel->user;
    pt->tlb = kernel->tlb;
    /* Other CPUs load it under no lock: it is changed as if they had from the start. */
    pt->active = kernel->tlb != NULL ? 1 : 0;
    return begin_done(pt, pt->backend.ops->init_user(pt, kernel));
}

mm_status_t mm_paging_init_entry(struct mm_pagetable *entry, struct mm_pagetable *kernel,
                                 const struct mm_vrange *ranges, uint32_t nr_ranges)
{
    struct mm_paging_config config = {.kernel_ranges = ranges, .nr_kernel_ranges = nr_ranges};
    mm_status_t status = mmi_pagetable_check(kernel);

    if (status != MM_OK) {
        return status;
    }
    if (kernel->pairs != MMI_PAIRS || kernel->is_user != 0) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    config.backend = kernel->backend;
    config.physmap = &kernel->physmap;
    config.source = kernel->source;
    config.platform = kernel->platform;
    config.user = kernel->user;
    status = kernel_begin(entry, &config);
    for (uint32_t i = 0; status == MM_OK && i < nr_ranges; i++) {
        status = mmi_paging_declared(kernel, ranges[i]) != NULL ? MM_OK : MM_ERR_INVALID_ADDRESS;
    }
    if (status == MM_OK && kernel->peer != NULL) {
        status = MM_ERR_BUSY;
    }
    if (status == MM_OK) {
        entry->pairs = MMI_ENTRY_ROOT;
        entry->peer = kernel;
        status = begin_done(entry, entry->backend.ops->init_kernel(entry));
    } else if (entry != NULL && entry->magic != MMI_PAGETABLE_MAGIC) {
        memset(entry, 0, sizeof(*entry));
    }
    if (status == MM_OK) {
        kernel->peer = entry;
    }
    return status;
}

mm_status_t mm_paging_destroy(struct mm_pagetable *pt)
{
    mm_status_t status = mmi_pagetable_check(pt);
    uint64_t loaded;

    if (status != MM_OK) {
        return status;
    }
    loaded = pt->backend.ops->current_root(pt->backend.ctx).raw;
    if (loaded == pt->kernel_root.raw || loaded == pt->root.raw ||
        (pt->pairs == MMI_PAIRS && pt->is_user == 0 && pt->peer != NULL)) {
        return MM_ERR_BUSY;
    }
    if (pt->tlb != NULL && mmi_tlb_in_use(pt)) {
        return MM_ERR_BUSY;
    }
    if (pt->is_user == 0) {
        pt->backend.ops->flush(pt, NULL, NULL, 0); /* its global translations outlive its use */
    }
    pt->backend.ops->destroy(pt);
    if (pt->pairs == MMI_ENTRY_ROOT) {
        pt->peer->peer = NULL;
    }
    if (pt->tlb != NULL && pt->is_user == 0) {
        mmi_store_release(&pt->tlb->kernel, NULL);
    }
    memset(pt, 0, sizeof(*pt));
    return MM_OK;
}
