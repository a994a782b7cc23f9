// SPDX-License-Identifier: MIT
/**
 * The kernel virtual arena: its locks, the reserve of frames for tables, made and taken down.
 *
 * Nothing here needs what it grows: nodes and entries come from a pool that does not stand over the
 * arena, frames and tables from the frame allocator.
 */
#include "kva.h"

#include "core/frame/state.h"

/** How often a lock is tried where nobody may wait for it. */
#define TRIES 10000u

/* --- locks ------------------------------------------------------------------------------------ */

bool mmi_kva_enter(struct mm_kva *kva, bool atomic)
{
    if (!atomic) {
        mmi_lock(&kva->lock, &kva->platform);
        if (kva->ops != NULL) {
            kva->ops->lock(kva->ctx);
        }
        return true;
    }
    if (!mmi_lock_try(&kva->lock)) {
        return false;
    }
    if (kva->ops != NULL && !kva->ops->try_lock(kva->ctx)) {
        mmi_unlock(&kva->lock);
        return false;
    }
    return true;
}

void mmi_kva_leave(struct mm_kva *kva)
{
    if (kva->ops != NULL) {
        kva->ops->unlock(kva->ctx);
    }
    mmi_unlock(&kva->lock);
}

bool mmi_kva_enter_for_a_while(struct mm_kva *kva)
{
    for (unsigned i = 0; i < TRIES; i++) {
        if (mmi_lock_try(&kva->lock)) {
            return true;
        }
        mmi_relax(&kva->platform);
    }
    return false;
}

/* --- the reserve of frames for tables --------------------------------------------------------- */

static uint64_t *reserve_link(const struct mm_kva *kva, mm_pfn_t frame)
{
    return mm_physmap_ptr(&kva->physmap, mm_pfn_addr(frame));
}

/** The op alloc of `spare`: called in the midst of mm_paging_map(), under the lock. */
static mm_status_t spare_alloc(void *ctx, enum mm_frame_owner owner, bool zeroed, mm_pfn_t *out)
{
    struct mm_kva *kva = ctx;
    mm_pfn_t frame = kva->reserve;

    (void)owner; /* they were taken as tables */
    if (kva->nr_reserve == 0) {
        return MM_ERR_NO_MEMORY;
    }
    kva->reserve = mm_pfn(*reserve_link(kva, frame));
    kva->nr_reserve--;
    if (zeroed) {
        memset(reserve_link(kva, frame), 0, MM_PAGE_SIZE);
    }
    *out = frame;
    return MM_OK;
}

static void put_aside(struct mm_kva *kva, mm_pfn_t frame)
{
    *reserve_link(kva, frame) = kva->reserve.raw;
    kva->reserve = frame;
    kva->nr_reserve++;
}

/** The op free of `spare`: a call that failed gives back what it took, here and from the source. */
static void spare_free(void *ctx, mm_pfn_t frame)
{
    struct mm_kva *kva = ctx;

    if (kva->nr_reserve < kva->reserve_mark) {
        put_aside(kva, frame);
    } else {
        kva->kernel->source.ops->free(kva->kernel->source.ctx, frame);
    }
}

static const struct mm_frame_source_ops spare_ops = {.alloc = spare_alloc, .free = spare_free};

void mmi_kva_refill(struct mm_kva *kva)
{
    const struct mm_frame_source *source = &kva->kernel->source;
    mm_pfn_t frame;

    while (kva->nr_reserve < kva->max_reserve &&
           source->ops->alloc(source->ctx, MM_OWNER_PAGE_TABLE, false, &frame) == MM_OK) {
        put_aside(kva, frame);
    }
}

static void drop_reserve(struct mm_kva *kva)
{
    const struct mm_frame_source *source = &kva->kernel->source;

    kva->max_reserve = 0;
    for (; kva->nr_reserve > 0; kva->nr_reserve--) {
        mm_pfn_t frame = kva->reserve;

        kva->reserve = mm_pfn(*reserve_link(kva, frame));
        source->ops->free(source->ctx, frame);
    }
}

/* --- init, destroy ---------------------------------------------------------------------------- */

static mm_status_t check_range(const struct mm_pagetable *kernel, struct mm_vrange range)
{
    if (!mm_is_aligned(range.start.raw | range.len, MM_PAGE_SIZE)) {
        return MM_ERR_NOT_ALIGNED;
    }
    if (range.len == 0 || !mm_vrange_valid(range)) {
        return MM_ERR_INVALID_SIZE;
    }
    for (uint32_t i = 0; i < kernel->nr_kernel_ranges; i++) {
        if (mm_vrange_covers(kernel->kernel_ranges[i], range)) {
            return MM_OK;
        }
    }
    return MM_ERR_INVALID_ADDRESS;
}

static bool has_ops(const struct mm_kva_ops *ops)
{
    return ops == NULL || (ops->lock != NULL && ops->try_lock != NULL && ops->unlock != NULL);
}

static mm_status_t check_config(const struct mm_kva_config *config)
{
    if (config->kernel == NULL || config->frames == NULL || config->physmap == NULL ||
        config->pool == NULL || !has_ops(config->ops) || config->guard_pages > MM_KVA_MAX_GUARD ||
        config->red_zone_pages > MM_KVA_MAX_GUARD) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (mm_paging_root(config->kernel).raw == 0 || config->frames->magic != MMI_FRAME_MAGIC ||
        !mmi_is_pool(config->pool)) {
        return MM_ERR_NOT_INITIALIZED;
    }
    if (config->kernel->is_user != 0 || config->kernel->nr_kernel_ranges == 0) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (config->physmap->ops != NULL) {
        return MM_ERR_UNSUPPORTED;
    }
    if (!mmi_physmap_reaches(config->physmap, config->frames)) {
        return MM_ERR_INVALID_ADDRESS;
    }
    return check_range(config->kernel, config->range);
}

/** Every range has a node, and there is no range: what the cache still counts as out is lost. */
static void destroy_nodes(struct mm_kva *kva)
{
    mm_status_t status = mm_cache_destroy(&kva->nodes);

    if (status != MM_OK) {
        mmi_panic(&kva->platform, &(struct mm_panic_info){.room = "kva",
                                                          .what = "nodes of ranges are lost",
                                                          .address = (uint64_t)(uintptr_t)kva,
                                                          .recorded = mm_status_str(status),
                                                          .recorded_value = (uint64_t)status,
                                                          .claimed = "no range is out",
                                                          .claimed_value = 0});
    }
}

static mm_status_t make(struct mm_kva *kva, const struct mm_kva_config *config)
{
    const struct mm_cache_config nodes = {
        .name = "kva", .size = sizeof(struct mmi_kva_range), .align = MM_CACHE_LINE};
    mm_status_t status = mm_cache_init(&kva->nodes, config->pool, &nodes);

    if (status != MM_OK) {
        return status;
    }
    if (!mmi_table_init(config->pool, &kva->table, kva->root_inline, &kva->table_pages)) {
        status = MM_ERR_NO_MEMORY;
    } else {
        mmi_kva_refill(kva);
        if (kva->nr_reserve == kva->max_reserve) {
            return MM_OK;
        }
        drop_reserve(kva);
        mmi_table_destroy(config->pool, &kva->table, kva->table_pages);
        status = MM_ERR_NO_MEMORY;
    }
    destroy_nodes(kva);
    return status;
}

mm_status_t mm_kva_init(struct mm_kva *kva, const struct mm_kva_config *config)
{
    mm_status_t status;

    if (kva == NULL || config == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (kva->magic == MMI_KVA_MAGIC) {
        return MM_ERR_ALREADY_INITIALIZED;
    }
    status = check_config(config);
    if (status != MM_OK) {
        return status;
    }
    memset(kva, 0, sizeof(*kva));
    kva->kernel = config->kernel;
    kva->frames = config->frames;
    kva->pool = config->pool;
    kva->physmap = *config->physmap;
    kva->platform = config->platform;
    kva->ops = config->ops;
    kva->ctx = config->ctx;
    kva->guard_pages = config->guard_pages == 0 ? 1 : config->guard_pages;
    kva->red_zone_pages = config->red_zone_pages == 0 ? 1 : config->red_zone_pages;
    kva->max_stacks = config->nr_stacks;
    kva->max_reserve = config->nr_reserve_tables;
    kva->purge_pages = config->purge_pages == 0 ? MM_KVA_PURGE_PAGES : config->purge_pages;
    kva->spare = (struct mm_frame_source){&spare_ops, kva};
    kva->table.base = config->range.start.raw;
    kva->table.len = config->range.len;
    mmi_ranges_init(&kva->ranges, config->range);
    status = make(kva, config);
    if (status != MM_OK) {
        memset(kva, 0, sizeof(*kva));
        return status;
    }
    kva->magic = MMI_KVA_MAGIC;
    return MM_OK;
}

mm_status_t mm_kva_destroy(struct mm_kva *kva)
{
    if (mmi_kva_check_arena(kva) != MM_OK) {
        return mmi_kva_check_arena(kva);
    }
    (void)mm_kva_reclaim(kva);
    if (kva->ranges.nr != 0 || kva->devices.nr_foreign != 0) {
        return MM_ERR_BUSY;
    }
    (void)mmi_kva_enter(kva, false);
    drop_reserve(kva);
    mmi_kva_leave(kva);
    mmi_table_destroy(kva->pool, &kva->table, kva->table_pages);
    destroy_nodes(kva);
    memset(kva, 0, sizeof(*kva));
    return MM_OK;
}
