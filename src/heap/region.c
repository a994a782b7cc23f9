// SPDX-License-Identifier: MIT
/**
 * A heap over a buffer: page source, pool and heap put together.
 */
#include "heap.h"

#include "core/base/mem.h"

mm_status_t mm_heap_region_init(struct mm_heap_region *region, void *base, uint64_t len)
{
    struct mm_pool_config config = {.nr_cpus = 1};
    mm_status_t status;

    if (region == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    status = mm_page_range_init(&region->range, base, len);
    if (status != MM_OK) {
        return status;
    }
    config.source = mm_page_source_range(&region->range);
    status = mm_pool_init(&region->pool, &config);
    if (status == MM_OK) {
        status = mm_heap_init(&region->heap, &region->pool, NULL);
    }
    if (status != MM_OK) {
        memset(region, 0, sizeof(*region)); /* all that was taken lies in the buffer */
    }
    return status;
}

/** Whether somebody else has a cache over the pool, or pages of the buffer. */
static bool is_shared(struct mm_heap_region *region)
{
    const struct mm_page_range *range = &region->range;
    struct mmi_class_counts counts;
    uint64_t nr_out = range->nr_pages - range->nr_bitmap_pages - mmi_load(&range->nr_free);
    uint64_t nr_known = mmi_load(&region->pool.nr_meta_pages);

    for (unsigned i = 0; i < MM_HEAP_NR_CLASSES; i++) {
        mmi_class_count(&region->heap.classes[i], &counts);
        nr_known += counts.nr_pages;
    }
    mmi_class_count(&region->heap.runs, &counts);
    return mmi_load(&region->pool.nr_users) != 1 ||
           nr_out != nr_known + counts.nr_pages + counts.nr_kept_pages;
}

mm_status_t mm_heap_region_destroy(struct mm_heap_region *region)
{
    mm_status_t status;

    if (region == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (!mmi_is_heap(&region->heap)) {
        return MM_ERR_NOT_INITIALIZED;
    }
    if (is_shared(region)) {
        return MM_ERR_BUSY;
    }
    status = mm_heap_destroy(&region->heap);
    if (status == MM_OK) {
        memset(region, 0, sizeof(*region)); /* the rest lies in the buffer, and nobody has any */
    }
    return status;
}
