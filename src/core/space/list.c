// SPDX-License-Identifier: MIT
/**
 * Regions as they are told and printed.
 */
#include "internal.h"

void mmi_space_describe(const struct mmi_region *region, struct mm_region_info *out)
{
    *out = (struct mm_region_info){
        .range = mm_vrange(mm_vaddr(region->start), region->len),
        .prot = region->attr.prot,
        .flags = region->attr.flags & MM_SPACE_REGION_FLAGS,
        .tag = region->attr.tag,
        .kind = mmi_region_kind(region),
        .type = mmi_region_type(region),
        .offset = region->attr.offset,
    };
}

static mm_status_t report(const struct mmi_region *region, struct mm_region_info *out)
{
    if (region == NULL) {
        return MM_ERR_REGION_NOT_FOUND;
    }
    mmi_space_describe(region, out);
    return MM_OK;
}

mm_status_t mm_space_find(struct mm_space *space, mm_vaddr_t at, struct mm_region_info *out)
{
    struct mmi_space_slot *slot;
    mm_status_t status;

    if (space == NULL || out == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    slot = mmi_space_share(space);
    status = report(mmi_regions_find(&space->regions, at.raw), out);
    mmi_space_unshare(slot);
    return status;
}

mm_status_t mm_space_next(struct mm_space *space, mm_vaddr_t from, struct mm_region_info *out)
{
    struct mmi_space_slot *slot;
    mm_status_t status;

    if (space == NULL || out == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    slot = mmi_space_share(space);
    status = report(mmi_regions_from(&space->regions, from.raw), out);
    mmi_space_unshare(slot);
    return status;
}
