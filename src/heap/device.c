// SPDX-License-Identifier: MIT
/**
 * Claims of physical ranges with their memory types: a tree a type of ranges that may overlap.
 */
#include "device.h"

#include "core/base/lock.h"
#include "core/base/report.h"

static void lock(struct mmi_devices devices)
{
    mmi_lock(&devices.claims->lock, devices.platform);
}

static void unlock(struct mmi_devices devices)
{
    mmi_unlock(&devices.claims->lock);
}

/** Whether the range has memory that the direct map shows as write-back. */
static bool has_memory(struct mmi_devices devices, const struct mmi_range *claim)
{
    struct mm_prange managed;

    return mm_frame_next_memory(devices.frames, mm_pfn_of(mm_paddr(claim->node.start)), &managed,
                                NULL, NULL) == MM_OK &&
           managed.start.raw <= mmi_range_last(claim);
}

static bool conflicts(struct mmi_devices devices, uint64_t paddr, uint64_t len, mm_memtype_t type)
{
    for (unsigned other = 0; other < MM_MEMTYPE_COUNT; other++) {
        if (other != (unsigned)type &&
            mmi_overlaps_find(&devices.claims->by_type[other], paddr, len) != NULL) {
            return true;
        }
    }
    return false;
}

/** Under the lock. */
static void link_part(struct mmi_devices devices, struct mmi_range *claim, mm_memtype_t type)
{
    mmi_overlaps_link(&devices.claims->by_type[type], claim);
    devices.claims->nr_foreign += claim->tag != 0 ? 1 : 0;
}

/** Under the lock. */
static mm_status_t link_claim(struct mmi_devices devices, struct mmi_range *claim,
                              mm_memtype_t type)
{
    if (conflicts(devices, claim->node.start, claim->len, type)) {
        return MM_ERR_ALREADY_MAPPED;
    }
    link_part(devices, claim, type);
    return MM_OK;
}

mm_status_t mmi_device_claim(struct mmi_devices devices, struct mmi_range *claim, mm_memtype_t type)
{
    mm_status_t status;

    if (type != MM_MEMTYPE_WB && has_memory(devices, claim)) {
        return MM_ERR_PERMISSION_DENIED;
    }
    lock(devices);
    status = link_claim(devices, claim, type);
    unlock(devices);
    return status;
}

mm_status_t mmi_device_try_claim(struct mmi_devices devices, struct mmi_range *claim,
                                 mm_memtype_t type)
{
    mm_status_t status;

    if (type != MM_MEMTYPE_WB && has_memory(devices, claim)) {
        return MM_ERR_PERMISSION_DENIED;
    }
    if (!mmi_lock_try(&devices.claims->lock)) {
        return MM_ERR_BUSY;
    }
    status = link_claim(devices, claim, type);
    unlock(devices);
    return status;
}

void mmi_device_claim_part(struct mmi_devices devices, struct mmi_range *claim, mm_memtype_t type)
{
    lock(devices);
    link_part(devices, claim, type);
    unlock(devices);
}

void mmi_device_release(struct mmi_devices devices, struct mmi_range *claim, mm_memtype_t type)
{
    lock(devices);
    mmi_overlaps_unlink(&devices.claims->by_type[type], claim);
    devices.claims->nr_foreign -= claim->tag != 0 ? 1 : 0;
    unlock(devices);
}

bool mmi_device_conflicts(struct mmi_devices devices, uint64_t paddr, uint64_t len,
                          mm_memtype_t type)
{
    bool found;

    lock(devices);
    found = conflicts(devices, paddr, len, type);
    unlock(devices);
    return found;
}

mm_status_t mmi_device_settle(struct mm_kva *kva, uint64_t paddr, uint64_t len, mm_memtype_t type)
{
    struct mmi_devices devices = mmi_devices_of(kva);

    if (!mmi_device_conflicts(devices, paddr, len, type)) {
        return MM_OK;
    }
    /* One purge at a time: what another CPU's has taken off the list is released as well. */
    (void)mm_kva_purge(kva);
    return mmi_device_conflicts(devices, paddr, len, type) ? MM_ERR_ALREADY_MAPPED : MM_OK;
}

bool mmi_device_has(struct mmi_devices devices, const struct mmi_range *claim, mm_memtype_t type)
{
    bool has;

    lock(devices);
    has = mmi_overlaps_has(&devices.claims->by_type[type], claim);
    unlock(devices);
    return has;
}

/** Whether no page of the claim is claimed with a type that comes after its own. */
static bool has_one_type(struct mmi_devices devices, const struct mmi_range *claim, unsigned type)
{
    for (unsigned other = type + 1; other < MM_MEMTYPE_COUNT; other++) {
        if (mmi_overlaps_find(&devices.claims->by_type[other], claim->node.start, claim->len) !=
            NULL) {
            return false;
        }
    }
    return true;
}

bool mmi_devices_check(struct mmi_devices devices, const char *room)
{
    bool good = true;

    for (unsigned type = 0; type < MM_MEMTYPE_COUNT && good; type++) {
        good = mmi_overlaps_check(&devices.claims->by_type[type], devices.platform, room);
    }
    for (unsigned type = 0; type < MM_MEMTYPE_COUNT && good; type++) {
        const struct mm_ranges *tree = &devices.claims->by_type[type];

        for (struct mmi_range *r = mmi_ranges_first(tree); r != NULL; r = mmi_range_next(r)) {
            if (!has_one_type(devices, r, type)) {
                mmi_complain(devices.platform, room, "a page of a device has two types",
                             r->node.start);
                good = false;
            }
        }
    }
    return good;
}
