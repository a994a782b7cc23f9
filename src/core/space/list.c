// SPDX-License-Identifier: MIT
/**
 * Regions as they are told and printed.
 */
#include "internal.h"

static void describe(const struct mmi_region *region, struct mm_region_info *out)
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
    describe(region, out);
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

/* --- printed ---------------------------------------------------------------------------------- */

/** Where names begin in a line of /proc/PID/maps. */
#define NAME_COLUMN 73u

static const char *name_of(const struct mm_region_info *region)
{
    if ((region->flags & MM_SPACE_GUARD) != 0) {
        return "[guard]";
    }
    switch (region->kind) {
    case MM_REGION_STACK:
        return "[stack]";
    case MM_REGION_HEAP:
        return "[heap]";
    case MM_REGION_DEVICE:
        return "[device ";
    default:
        return NULL;
    }
}

static void put_name(struct mmi_line *line, const struct mm_region_info *region)
{
    const char *name = name_of(region);

    if (name == NULL) {
        return;
    }
    mmi_line_pad(line, NAME_COLUMN);
    mmi_line_str(line, name);
    if (region->kind == MM_REGION_DEVICE) {
        mmi_line_str(line, mm_memtype_str(region->type));
        mmi_line_str(line, "]");
    }
}

static void put_region(struct mmi_line *line, const struct mm_region_info *region)
{
    bool shared = region->kind == MM_REGION_SHARED || region->kind == MM_REGION_DEVICE;

    mmi_line_begin(line);
    mmi_line_digits(line, region->range.start.raw, 8);
    mmi_line_str(line, "-");
    mmi_line_digits(line, region->range.start.raw + region->range.len, 8);
    mmi_line_str(line, (region->prot & MM_PROT_READ) != 0 ? " r" : " -");
    mmi_line_str(line, (region->prot & MM_PROT_WRITE) != 0 ? "w" : "-");
    mmi_line_str(line, (region->prot & MM_PROT_EXEC) != 0 ? "x" : "-");
    mmi_line_str(line, shared ? "s " : "p ");
    mmi_line_digits(line, region->offset, 8);
    /* Linux leaves this space also where no name follows. */
    mmi_line_str(line, " 00:00 0 ");
    put_name(line, region);
}

mm_status_t mm_region_line(const struct mm_region_info *region, char *line, size_t size,
                           size_t *len)
{
    struct mmi_line text;

    if (region == NULL || line == NULL || (unsigned)region->kind >= MM_REGION_KINDS ||
        (unsigned)region->type >= MM_MEMTYPE_COUNT || !mmi_space_rights_only(region->prot)) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (size < MM_REGION_LINE_MAX) {
        return MM_ERR_LIMIT;
    }
    put_region(&text, region);
    memcpy(line, text.text, text.len);
    line[text.len] = '\0';
    if (len != NULL) {
        *len = text.len;
    }
    return MM_OK;
}

static mm_status_t print_totals(struct mm_space *space, struct mmi_line *line)
{
    struct mm_space_stats stats;
    mm_status_t status = mm_space_get_stats(space, &stats);

    if (status != MM_OK) {
        return status;
    }
    mmi_line_begin(line);
    mmi_line_u64(line, stats.nr_regions);
    mmi_line_str(line, stats.nr_regions == 1 ? " region, " : " regions, ");
    mmi_line_size(line, stats.mapped_bytes);
    mmi_line_str(line, " mapped, ");
    mmi_line_size(line, stats.resident_bytes);
    mmi_line_str(line, " resident, ");
    mmi_line_size(line, stats.device_bytes);
    mmi_line_str(line, " of devices");
    mmi_line_log(line, &space->spaces->platform);
    return MM_OK;
}

mm_status_t mm_space_list(struct mm_space *space)
{
    struct mm_region_info region;
    struct mmi_line line;
    uint64_t from = 0;

    if (space == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    while (mm_space_next(space, mm_vaddr(from), &region) == MM_OK) {
        put_region(&line, &region);
        mmi_line_log(&line, &space->spaces->platform);
        from = region.range.start.raw + region.range.len;
        if (from == 0) {
            break; /* it ends with the address space */
        }
    }
    return print_totals(space, &line);
}
