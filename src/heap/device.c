// SPDX-License-Identifier: MIT
/**
 * Claims of physical ranges with their memory types: a tree a type of ranges that may overlap.
 */
#include "device.h"

#include "core/base/lock.h"

static void lock(struct mm_kva *kva)
{
    mmi_lock(&kva->devices.lock, &kva->platform);
}

static void unlock(struct mm_kva *kva)
{
    mmi_unlock(&kva->devices.lock);
}

/** Whether the range has memory that the direct map shows as write-back. */
static bool has_memory(const struct mm_kva *kva, const struct mmi_region *node)
{
    struct mm_prange managed;

    return mm_frame_next_memory(kva->frames, mm_pfn_of(mm_paddr(node->start)), &managed, NULL,
                                NULL) == MM_OK &&
           managed.start.raw <= mmi_region_last(node);
}

static bool conflicts(const struct mm_kva *kva, uint64_t paddr, uint64_t len, mm_memtype_t type)
{
    for (unsigned other = 0; other < MM_MEMTYPE_COUNT; other++) {
        if (other != (unsigned)type &&
            mmi_overlaps_find(&kva->devices.by_type[other], paddr, len) != NULL) {
            return true;
        }
    }
    return false;
}

/** Under the lock. */
static mm_status_t link_claim(struct mm_kva *kva, struct mmi_region *node, mm_memtype_t type)
{
    if (conflicts(kva, node->start, node->len, type)) {
        return MM_ERR_ALREADY_MAPPED;
    }
    mmi_overlaps_link(&kva->devices.by_type[type], node);
    kva->devices.nr_foreign += node->attr.tag != 0 ? 1 : 0;
    return MM_OK;
}

mm_status_t mmi_device_claim(struct mm_kva *kva, struct mmi_region *node, mm_memtype_t type)
{
    mm_status_t status;

    if (type != MM_MEMTYPE_WB && has_memory(kva, node)) {
        return MM_ERR_PERMISSION_DENIED;
    }
    lock(kva);
    status = link_claim(kva, node, type);
    unlock(kva);
    return status;
}

mm_status_t mmi_device_try_claim(struct mm_kva *kva, struct mmi_region *node, mm_memtype_t type)
{
    mm_status_t status;

    if (type != MM_MEMTYPE_WB && has_memory(kva, node)) {
        return MM_ERR_PERMISSION_DENIED;
    }
    if (!mmi_lock_try(&kva->devices.lock)) {
        return MM_ERR_BUSY;
    }
    status = link_claim(kva, node, type);
    unlock(kva);
    return status;
}

void mmi_device_release(struct mm_kva *kva, struct mmi_region *node, mm_memtype_t type)
{
    lock(kva);
    mmi_overlaps_unlink(&kva->devices.by_type[type], node);
    kva->devices.nr_foreign -= node->attr.tag != 0 ? 1 : 0;
    unlock(kva);
}

bool mmi_device_conflicts(struct mm_kva *kva, uint64_t paddr, uint64_t len, mm_memtype_t type)
{
    bool found;

    lock(kva);
    found = conflicts(kva, paddr, len, type);
    unlock(kva);
    return found;
}

mm_status_t mmi_device_settle(struct mm_kva *kva, uint64_t paddr, uint64_t len, mm_memtype_t type)
{
    if (!mmi_device_conflicts(kva, paddr, len, type)) {
        return MM_OK;
    }
    /* One purge at a time: what another CPU's has taken off the list is released as well. */
    (void)mm_kva_purge(kva);
    return mmi_device_conflicts(kva, paddr, len, type) ? MM_ERR_ALREADY_MAPPED : MM_OK;
}

bool mmi_device_has(struct mm_kva *kva, const struct mmi_region *node, mm_memtype_t type)
{
    const struct mmi_region *first = NULL;
    const struct mmi_region *n;

    lock(kva);
    for (n = kva->devices.by_type[type].root; n != NULL;
         n = n->start >= node->start ? n->left : n->right) {
        first = n->start >= node->start ? n : first;
    }
    while (first != NULL && first != node && first->start == node->start) {
        first = mmi_region_next(first);
    }
    unlock(kva);
    return first == node;
}
