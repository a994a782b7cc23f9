// SPDX-License-Identifier: MIT
/**
 * Map and unmap.
 *
 * Each call prepares, then commits. What can fail comes first: the place is found, charges are
 * asked, the nodes that splits need are taken from their caches, and tables are put aside for large
 * leaves that the ends of a range cut. Then regions and leaves change together, and nothing of that
 * can fail.
 *
 * Leaves never say more than their region, and less for shared frames: a frame with more than one
 * reference is read-only in every table, and only a write fault (fault.c) makes it writable.
 */
#include "internal.h"

/* --- edits: what they need -------------------------------------------------------------------- */

/** `first`: the first region whose last byte is at or above the start, or NULL. */
static struct mmi_space_need nodes_to_remove(const struct mm_space *space,
                                             const struct mmi_region *first, uint64_t start,
                                             uint64_t len)
{
    if (space->device_bytes == 0) {
        return (struct mmi_space_need){.regions = mmi_regions_need_remove(first, start, len)};
    }
    return (struct mmi_space_need){.regions = mmi_regions_need_take(&space->regions, start, len),
                                   .claims = mmi_space_devices_need(space, start, len)};
}

struct mmi_space_need mmi_space_nodes_to_remove(const struct mm_space *space, uint64_t start,
                                                uint64_t len)
{
    return nodes_to_remove(space, mmi_regions_from(&space->regions, start), start, len);
}

mm_status_t mmi_space_edit_begin(struct mm_space *space, struct mmi_space_edit *edit,
                                 uint64_t start, uint64_t len, struct mmi_space_need need,
                                 uint64_t nr_tables)
{
    mm_status_t status;

    edit->nodes = (struct mmi_space_nodes){0};
    mmi_space_spare_init(space, &edit->spare);
    nr_tables += mmi_space_need_tables(space, start, len);
    if (!mmi_space_take_nodes(space, &edit->nodes, need)) {
        return MM_ERR_NO_MEMORY;
    }
    status = mmi_space_spare_fill(&edit->spare, MM_OWNER_PAGE_TABLE, nr_tables);
    if (status != MM_OK) {
        mmi_space_return_nodes(space, &edit->nodes);
        return status;
    }
    space->table->spare = nr_tables != 0 ? &edit->spare.source : NULL;
    return MM_OK;
}

static void drop_tables(struct mm_space *space, struct mmi_space_edit *edit)
{
    space->table->spare = NULL;
    mmi_space_spare_drop(&edit->spare);
}

void mmi_space_edit_end(struct mm_space *space, struct mmi_space_edit *edit)
{
    drop_tables(space, edit);
    mmi_space_give_nodes(space, &edit->nodes);
}

void mmi_space_edit_cancel(struct mm_space *space, struct mmi_space_edit *edit)
{
    drop_tables(space, edit);
    mmi_space_return_nodes(space, &edit->nodes);
}

static void remove_from(struct mm_space *space, struct mmi_region *first, uint64_t start,
                        uint64_t len, struct mmi_space_edit *edit)
{
    struct mmi_region_list gone = {NULL, 0};
    uint64_t committed = mmi_space_committed_in(space, start, len);

    mmi_space_drop_pages(space, start, len);
    if (space->device_bytes == 0) {
        mmi_regions_remove(&space->regions, first, start, len, &edit->nodes.regions);
    } else {
        mmi_regions_take(&space->regions, start, len, &gone, &edit->nodes.regions);
        mmi_space_devices_settle(space, start, len, &gone, &edit->nodes);
    }
    mmi_space_uncommit(space, committed);
}

void mmi_space_remove(struct mm_space *space, uint64_t start, uint64_t len,
                      struct mmi_space_edit *edit)
{
    struct mmi_region *first = mmi_regions_from(&space->regions, start);

    if (first != NULL && first->start <= start + (len - 1)) {
        remove_from(space, first, start, len, edit);
    }
}

/* --- checking a request ----------------------------------------------------------------------- */

#define KERNEL_FLAGS (MM_SPACE_FIXED | MM_SPACE_POPULATE | MM_SPACE_GUARD)

static mm_status_t check_flags(const struct mm_space *space, const struct mm_space_request *request)
{
    uint32_t flags = request->flags;

    if ((flags & ~MM_SPACE_FLAGS_ALL) != 0 || !mmi_space_rights_only(request->prot)) {
        return MM_ERR_INVALID_FLAGS;
    }
    if ((flags & MM_SPACE_GUARD) != 0 &&
        (request->prot != MM_PROT_NONE || (flags & ~(MM_SPACE_GUARD | MM_SPACE_FIXED |
                                                     MM_SPACE_REPLACE | MM_SPACE_POPULATE)) != 0)) {
        return MM_ERR_INVALID_FLAGS;
    }
    if ((flags & (MM_SPACE_FIXED | MM_SPACE_REPLACE)) == MM_SPACE_REPLACE ||
        (flags & (MM_SPACE_HUGE | MM_SPACE_NO_HUGE)) == (MM_SPACE_HUGE | MM_SPACE_NO_HUGE)) {
        return MM_ERR_INVALID_FLAGS;
    }
    if ((unsigned)request->kind > MM_REGION_HEAP) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    return space->is_kernel != 0 && (flags & ~KERNEL_FLAGS) != 0 ? MM_ERR_UNSUPPORTED : MM_OK;
}

mm_status_t mmi_space_check_request(const struct mm_space *space,
                                    const struct mm_space_request *request, uint64_t *len)
{
    uint64_t align = request->align == 0 ? MM_PAGE_SIZE : request->align;
    bool fixed = (request->flags & MM_SPACE_FIXED) != 0;
    mm_status_t status = check_flags(space, request);

    if (status != MM_OK) {
        return status;
    }
    if (!mm_is_pow2(align) || align < MM_PAGE_SIZE ||
        !mm_is_aligned(request->at.raw, fixed ? align : MM_PAGE_SIZE)) {
        return MM_ERR_NOT_ALIGNED;
    }
    if (request->len == 0 || !mm_align_up(request->len, MM_PAGE_SIZE, len)) {
        return MM_ERR_INVALID_SIZE;
    }
    if (fixed && !mm_range_covers(space->layout.lowest, space->layout.top - space->layout.lowest,
                                  request->at.raw, *len)) {
        return MM_ERR_INVALID_ADDRESS;
    }
    return MM_OK;
}

/* --- map -------------------------------------------------------------------------------------- */

/** The hint, then where large leaves fit, if they are asked for, then anywhere. */
static bool find_any_place(const struct mm_space *space, const struct mm_space_request *request,
                           uint64_t len, uint64_t *at)
{
    bool stack = (request->flags & MM_SPACE_STACK) != 0;
    struct mmi_space_place place = {.hint = request->at.raw,
                                    .len = len,
                                    .align = request->align == 0 ? MM_PAGE_SIZE : request->align};

    if (place.hint != 0 && mm_is_aligned(place.hint, place.align) &&
        mmi_space_is_free(space, place.hint, len, stack)) {
        *at = place.hint;
        return true;
    }
    place.hint = 0;
    if ((request->flags & MM_SPACE_HUGE) != 0 && len >= MM_SIZE_2M && place.align < MM_SIZE_2M) {
        struct mmi_space_place large = place;

        large.align = MM_SIZE_2M;
        if (mmi_space_find_place(space, &large, stack, at)) {
            return true;
        }
    }
    return mmi_space_find_place(space, &place, stack, at);
}

static bool wants_pages(const struct mm_space *space, const struct mm_space_request *request)
{
    if ((request->flags & MM_SPACE_GUARD) != 0) {
        return false;
    }
    /* The kernel's pages are there even without any right, so that protect never needs memory. */
    return space->is_kernel != 0 || ((request->flags & (MM_SPACE_POPULATE | MM_SPACE_WIRED)) != 0 &&
                                     request->prot != MM_PROT_NONE);
}

static struct mmi_region_attr attr_of(const struct mm_space *space,
                                      const struct mm_space_request *request)
{
    uint32_t flags = (request->flags & MM_SPACE_REGION_FLAGS) | (uint32_t)request->kind
                                                                    << MMI_REGION_KIND_SHIFT;

    flags |= mmi_space_commit_flag(space, request->prot, flags);
    return (struct mmi_region_attr){
        .tag = request->tag, .flags = flags, .prot = (uint16_t)request->prot};
}

uint64_t mmi_space_bytes_in(const struct mm_space *space, uint64_t start, uint64_t len)
{
    uint64_t last = start + (len - 1);
    uint64_t bytes = 0;

    for (const struct mmi_region *n = mmi_regions_from(&space->regions, start);
         n != NULL && n->start <= last; n = mmi_region_next(n)) {
        uint64_t first = n->start > start ? n->start : start;
        uint64_t end = mmi_region_last(n) < last ? mmi_region_last(n) : last;

        bytes += end - first + 1;
    }
    return bytes;
}

mm_status_t mmi_space_add_region(struct mm_space *space, struct mmi_region_spot spot, uint64_t at,
                                 uint64_t len, const struct mmi_region_attr *attr, bool populate)
{
    uint64_t nr_committed = mmi_space_promise(space, attr, len);
    struct mmi_space_need need = {0};
    struct mmi_space_nodes nodes = {0};
    mm_status_t status = mmi_space_charge(space, len, nr_committed);

    if (status != MM_OK) {
        return status;
    }
    need.regions = mmi_regions_need_insert(&space->regions, spot, at, len, attr);
    if (!mmi_space_take_nodes(space, &nodes, need)) {
        status = MM_ERR_NO_MEMORY;
    } else if (populate) {
        status = mmi_space_populate(space, at, len, attr->prot, attr->flags);
    }
    if (status == MM_OK) {
        mmi_regions_insert(&space->regions, spot, at, len, attr, &nodes.regions);
        mmi_space_give_nodes(space, &nodes);
    } else {
        mmi_space_return_nodes(space, &nodes);
        mmi_space_uncharge(space, len, nr_committed);
    }
    return status;
}

/** Something is there: it goes, and the new region comes in one step. */
static mm_status_t map_replacing(struct mm_space *space, uint64_t at, uint64_t len,
                                 const struct mmi_region_attr *attr, bool populate)
{
    uint64_t nr_committed = mmi_space_promise(space, attr, len);
    uint64_t replaced = mmi_space_bytes_in(space, at, len);
    struct mmi_space_edit edit;
    struct mmi_space_need need;
    struct mmi_space_spare pages;
    mm_status_t status = mmi_space_charge(space, len - replaced, nr_committed);

    if (status != MM_OK) {
        return status;
    }
    need = mmi_space_nodes_to_remove(space, at, len);
    need.regions++;
    status = mmi_space_edit_begin(space, &edit, at, len, need,
                                  populate ? mmi_space_tables_to_map(at, len, false) : 0);
    if (status != MM_OK) {
        mmi_space_uncharge(space, len - replaced, nr_committed);
        return status;
    }
    mmi_space_spare_init(space, &pages);
    if (populate) {
        status = mmi_space_charge_pages(space, len >> MM_PAGE_SHIFT)
                     ? mmi_space_spare_fill(&pages, MM_OWNER_ANONYMOUS, len >> MM_PAGE_SHIFT)
                     : MM_ERR_LIMIT;
    }
    if (status == MM_OK) {
        mmi_space_remove(space, at, len, &edit);
        mmi_regions_insert(&space->regions, mmi_regions_spot(&space->regions, at), at, len, attr,
                           &edit.nodes.regions);
        mmi_space_put_spares(space, at, attr->prot, &pages);
        mmi_space_edit_end(space, &edit);
    } else {
        mmi_space_edit_cancel(space, &edit);
        mmi_space_uncharge(space, len - replaced, nr_committed);
    }
    return status;
}

static mm_status_t map_locked(struct mm_space *space, const struct mm_space_request *request,
                              uint64_t len, uint64_t *out)
{
    const struct mmi_region_attr attr = attr_of(space, request);
    bool populate = wants_pages(space, request);
    uint64_t at = request->at.raw;
    struct mmi_region_spot spot;
    mm_status_t status;

    if ((request->flags & MM_SPACE_FIXED) == 0 && !find_any_place(space, request, len, &at)) {
        return MM_ERR_REGION_NOT_FOUND;
    }
    spot = mmi_regions_spot(&space->regions, at);
    if (mmi_regions_free_at(&space->regions, spot, at, len)) {
        status = mmi_space_add_region(space, spot, at, len, &attr, populate);
    } else if ((request->flags & MM_SPACE_REPLACE) != 0) {
        status = map_replacing(space, at, len, &attr, populate);
    } else {
        status = MM_ERR_ALREADY_MAPPED;
    }
    if (status == MM_OK) {
        *out = at;
    }
    return status;
}

mm_status_t mm_space_map(struct mm_space *space, const struct mm_space_request *request,
                         mm_vaddr_t *out)
{
    mm_status_t status;
    uint64_t len = 0;

    if (space == NULL || request == NULL || out == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    status = mmi_space_check_request(space, request, &len);
    if (status != MM_OK) {
        return status;
    }
    mmi_space_lock(space);
    status = map_locked(space, request, len, &out->raw);
    mmi_space_unlock(space);
    return status;
}

/* --- unmap ------------------------------------------------------------------------------------ */

mm_status_t mmi_space_remove_range(struct mm_space *space, uint64_t start, uint64_t len)
{
    struct mmi_region *first = mmi_regions_from(&space->regions, start);
    struct mmi_space_edit edit;
    mm_status_t status;

    if (first == NULL || first->start > start + (len - 1)) {
        return MM_OK;
    }
    status = mmi_space_edit_begin(space, &edit, start, len,
                                  nodes_to_remove(space, first, start, len), 0);
    if (status != MM_OK) {
        return status;
    }
    remove_from(space, first, start, len, &edit);
    mmi_space_edit_end(space, &edit);
    return MM_OK;
}

mm_status_t mm_space_unmap(struct mm_space *space, struct mm_vrange range)
{
    mm_status_t status;
    uint64_t len = 0;

    if (space == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    status = mmi_space_whole_pages(space, range, &len);
    if (status != MM_OK) {
        return status;
    }
    mmi_space_lock(space);
    status = mmi_space_remove_range(space, range.start.raw, len);
    mmi_space_unlock(space);
    return status;
}
