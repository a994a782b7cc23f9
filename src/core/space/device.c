// SPDX-License-Identifier: MIT
/**
 * Physical ranges in a space, and their claims.
 *
 * Each region of a device has a claim of its own (heap/device.h): a node by physical address, which
 * the region's `object` names. So two regions of devices never merge. An edit that cuts such a
 * region leaves pieces that name one claim; each gets one of its own before that one is released,
 * so that nobody can claim the memory with another type in between.
 *
 *     region    [............]         [...]  gone  [...]         [...]        [...]
 *                    |           cut     |            |   settle    |            |
 *     claim     [............]   ->   [................]    ->    [...]        [...]
 */
#include "internal.h"

#include "core/base/lock.h"
#include "heap/device.h"

#include <mm/paging_ops.h>

/** Pieces that one edit can leave, at both its ends together. */
#define PIECES_MAX 4u

/** Regions that the ends of one edit can cut. */
#define CUT_MAX 2u

static struct mmi_devices claims_of_all(struct mm_spaces *spaces)
{
    if (spaces->kva != NULL) {
        return mmi_devices_of(spaces->kva);
    }
    return (struct mmi_devices){&spaces->own_devices, spaces->frames, &spaces->platform};
}

static struct mmi_devices claims_of(struct mm_space *space)
{
    return claims_of_all(space->spaces);
}

static struct mmi_range *claim_of(const struct mmi_region *region)
{
    return (struct mmi_range *)(uintptr_t)region->attr.object;
}

/** Whether the region is all that its claim was made for. */
static bool is_whole(const struct mmi_region *region)
{
    const struct mmi_range *claim = claim_of(region);

    return claim->node.start == region->attr.offset && claim->len == region->len;
}

/* --- claims follow the pieces ----------------------------------------------------------------- */

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

void mmi_space_devices_claim_again(struct mm_space *space, struct mmi_region *region,
                                   struct mmi_claim_list *claims)
{
    struct mmi_range *claim = mmi_claim_pop(claims);

    claim->node.start = region->attr.offset;
    claim->len = region->len;
    claim->tag = space->id;
    mmi_device_claim_part(claims_of(space), claim, mmi_region_type(region));
    region->attr.object = (uint64_t)(uintptr_t)claim;
}

/** Claims that no region names any more, and their types. */
struct stale {
    struct mmi_range *claim[CUT_MAX];
    mm_memtype_t type[CUT_MAX];
    unsigned nr;
};

static void note_stale(struct stale *stale, const struct mmi_region *region)
{
    struct mmi_range *claim = claim_of(region);

    /* Pieces of one region follow each other. */
    if (stale->nr == 0 || stale->claim[stale->nr - 1] != claim) {
        stale->claim[stale->nr] = claim;
        stale->type[stale->nr] = mmi_region_type(region);
        stale->nr++;
    }
}

/** Regions that an edit has cut lie in its range or touch it. */
static void claim_pieces(struct mm_space *space, uint64_t start, uint64_t len,
                         struct mmi_claim_list *claims, struct stale *stale)
{
    struct mmi_region *n = mmi_regions_from(&space->regions, start - 1);

    for (; n != NULL && n->start <= start + len; n = mmi_region_next(n)) {
        if (mmi_region_is_device(n) && !is_whole(n)) {
            note_stale(stale, n);
            mmi_space_devices_claim_again(space, n, claims);
        }
    }
}

static void release(struct mm_space *space, struct mmi_range *claim, mm_memtype_t type,
                    struct mmi_claim_list *claims)
{
    mmi_device_release(claims_of(space), claim, type);
    mmi_claim_push(claims, claim);
}

void mmi_space_devices_settle(struct mm_space *space, uint64_t start, uint64_t len,
                              struct mmi_region_list *gone, struct mmi_space_nodes *nodes)
{
    struct stale stale = {.nr = 0};
    struct mmi_region *node;

    if (space->device_bytes != 0) {
        claim_pieces(space, start, len, &nodes->claims, &stale);
    }
    while ((node = mmi_region_pop(gone)) != NULL) {
        if (mmi_region_is_device(node)) {
            space->device_bytes -= node->len;
            if (is_whole(node)) {
                release(space, claim_of(node), mmi_region_type(node), &nodes->claims);
            }
        }
        mmi_region_push(&nodes->regions, node);
    }
    while (stale.nr != 0) {
        stale.nr--;
        release(space, stale.claim[stale.nr], stale.type[stale.nr], &nodes->claims);
    }
}

/* --- map -------------------------------------------------------------------------------------- */

/** What is to be mapped. */
struct device {
    const struct mm_space_request *request;
    uint64_t len;
    uint64_t at;
    mm_paddr_t paddr;
    mm_memtype_t type;
};

static mm_status_t check_device(const struct mm_space *space, struct device *d)
{
    struct mm_space_request plain = *d->request;
    const struct mm_pagetable *table = space->table;
    mm_status_t status;

    if (space->is_kernel != 0) {
        return MM_ERR_UNSUPPORTED;
    }
    if ((plain.kind != MM_REGION_ANONYMOUS && plain.kind != MM_REGION_DEVICE) ||
        (unsigned)d->type >= MM_MEMTYPE_COUNT) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if ((plain.flags & ~(MM_SPACE_FIXED | MM_SPACE_REPLACE)) != 0) {
        return MM_ERR_INVALID_FLAGS;
    }
    plain.kind = MM_REGION_ANONYMOUS;
    status = mmi_space_check_request(space, &plain, &d->len);
    if (status != MM_OK) {
        return status;
    }
    if (!mm_is_aligned(d->paddr.raw, MM_PAGE_SIZE)) {
        return MM_ERR_NOT_ALIGNED;
    }
    if (!mm_range_fits(d->paddr.raw, d->len)) {
        return MM_ERR_INVALID_SIZE;
    }
    if (d->paddr.raw + (d->len - 1) >= table->paddr_end) {
        return MM_ERR_INVALID_ADDRESS;
    }
    /* Now, because nothing can fail any more once what is replaced is gone. */
    return table->backend.ops->has_type(table->backend.ctx, d->type) ? MM_OK : MM_ERR_UNSUPPORTED;
}

/** A place that lies in a page of this size as the memory does. */
static bool find_large(const struct mm_space *space, const struct device *d, uint64_t size,
                       uint64_t *at)
{
    const struct mmi_space_place place = {
        .len = d->len, .align = size, .residue = d->paddr.raw & (size - 1)};

    return d->len >= size && mmi_space_find_place(space, &place, false, at);
}

static mm_status_t find_place(const struct mm_space *space, struct device *d)
{
    const struct mm_space_request *request = d->request;
    struct mmi_space_place place = {.hint = request->at.raw,
                                    .len = d->len,
                                    .align = request->align == 0 ? MM_PAGE_SIZE : request->align};

    if ((request->flags & MM_SPACE_FIXED) != 0) {
        d->at = place.hint;
        return (request->flags & MM_SPACE_REPLACE) != 0 ||
                       mmi_regions_free(&space->regions, d->at, d->len)
                   ? MM_OK
                   : MM_ERR_ALREADY_MAPPED;
    }
    if (request->align == 0 &&
        !(place.hint != 0 && mmi_space_is_free(space, place.hint, d->len, false)) &&
        (find_large(space, d, MM_SIZE_1G, &d->at) || find_large(space, d, MM_SIZE_2M, &d->at))) {
        return MM_OK;
    }
    return mmi_space_find_place(space, &place, false, &d->at) ? MM_OK : MM_ERR_REGION_NOT_FOUND;
}

/** MM_OK | MM_ERR_BUSY | MM_ERR_PERMISSION_DENIED */
static mm_status_t claim(struct mm_space *space, struct mmi_range *node, const struct device *d)
{
    struct mm_kva *kva = space->spaces->kva;
    mm_status_t status;

    node->node.start = d->paddr.raw;
    node->len = d->len;
    node->tag = space->id;
    status = mmi_device_claim(claims_of(space), node, d->type);
    if (status == MM_ERR_ALREADY_MAPPED && kva != NULL) {
        /* What was freed in the arena holds its claims until a purge. */
        status = mmi_device_settle(kva, node->node.start, node->len, d->type);
        if (status == MM_OK) {
            status = mmi_device_claim(claims_of(space), node, d->type);
        }
    }
    return status == MM_ERR_ALREADY_MAPPED ? MM_ERR_BUSY : status;
}

static mm_status_t map_leaves(struct mm_space *space, const struct device *d)
{
    return mm_paging_map(space->table, mm_vrange(mm_vaddr(d->at), d->len), d->paddr,
                         mmi_space_leaf_prot(space, d->request->prot), d->type, 0);
}

/** Nothing is there. */
static mm_status_t put_there(struct mm_space *space, const struct device *d,
                             struct mmi_region_spot spot, const struct mmi_region_attr *attr)
{
    struct mmi_space_nodes nodes = {0};
    mm_status_t status = mmi_space_charge(space, d->len, 0);

    if (status != MM_OK) {
        return status;
    }
    status = mmi_space_take_nodes(space, &nodes, (struct mmi_space_need){.regions = 1})
                 ? map_leaves(space, d)
                 : MM_ERR_NO_MEMORY;
    if (status == MM_OK) {
        mmi_regions_insert(&space->regions, spot, d->at, d->len, attr, &nodes.regions);
        mmi_space_give_nodes(space, &nodes);
    } else {
        mmi_space_return_nodes(space, &nodes);
        mmi_space_uncharge(space, d->len, 0);
    }
    return status;
}

/** Something is there: it goes, and the device comes in one step. */
static mm_status_t put_instead(struct mm_space *space, const struct device *d,
                               const struct mmi_region_attr *attr)
{
    uint64_t more = d->len - mmi_space_bytes_in(space, d->at, d->len);
    bool large = ((d->at ^ d->paddr.raw) & (MM_SIZE_2M - 1)) == 0;
    struct mmi_space_edit edit;
    struct mmi_space_need need;
    mm_status_t status = mmi_space_charge(space, more, 0);

    if (status != MM_OK) {
        return status;
    }
    need = mmi_space_nodes_to_remove(space, d->at, d->len);
    need.regions++;
    status = mmi_space_edit_begin(space, &edit, d->at, d->len, need,
                                  mmi_space_tables_to_map(d->at, d->len, large));
    if (status != MM_OK) {
        mmi_space_uncharge(space, more, 0);
        return status;
    }
    mmi_space_remove(space, d->at, d->len, &edit);
    mmi_space_must(space, map_leaves(space, d), "a device cannot be mapped", d->at);
    mmi_regions_insert(&space->regions, mmi_regions_spot(&space->regions, d->at), d->at, d->len,
                       attr, &edit.nodes.regions);
    mmi_space_edit_end(space, &edit);
    return MM_OK;
}

static mm_status_t put(struct mm_space *space, const struct device *d, struct mmi_range *node)
{
    const struct mmi_region_attr attr = {
        .tag = d->request->tag,
        .object = (uint64_t)(uintptr_t)node,
        .offset = d->paddr.raw,
        .prot = (uint16_t)d->request->prot,
        .flags = (uint32_t)MM_REGION_DEVICE << MMI_REGION_KIND_SHIFT |
                 (uint32_t)d->type << MMI_REGION_TYPE_SHIFT | MMI_REGION_OFFSET,
    };
    const struct mmi_region_spot spot = mmi_regions_spot(&space->regions, d->at);
    mm_status_t status = mmi_regions_free_at(&space->regions, spot, d->at, d->len)
                             ? put_there(space, d, spot, &attr)
                             : put_instead(space, d, &attr);

    space->device_bytes += status == MM_OK ? d->len : 0;
    return status;
}

static mm_status_t map_locked(struct mm_space *space, struct device *d)
{
    struct mmi_range *node;
    mm_status_t status = find_place(space, d);

    if (status != MM_OK) {
        return status;
    }
    node = mm_cache_alloc(&space->spaces->claim_cache);
    if (node == NULL) {
        return MM_ERR_NO_MEMORY;
    }
    status = claim(space, node, d);
    if (status == MM_OK) {
        status = put(space, d, node);
        if (status != MM_OK) {
            mmi_device_release(claims_of(space), node, d->type);
        }
    }
    if (status != MM_OK) {
        mm_cache_free(&space->spaces->claim_cache, node);
    }
    return status;
}

mm_status_t mm_space_map_physical(struct mm_space *space, const struct mm_space_request *request,
                                  mm_paddr_t paddr, mm_memtype_t type, mm_vaddr_t *out)
{
    struct device d = {.request = request, .paddr = paddr, .type = type};
    mm_status_t status;

    if (space == NULL || request == NULL || out == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    status = check_device(space, &d);
    if (status != MM_OK) {
        return status;
    }
    mmi_space_lock(space);
    status = map_locked(space, &d);
    mmi_space_unlock(space);
    if (status == MM_OK) {
        out->raw = d.at;
    }
    return status;
}

/* --- check ------------------------------------------------------------------------------------ */

struct checking {
    struct mm_space *space;
    const struct mmi_region *region;
    uint64_t next; /* the leaf that is to come */
    bool good;
};

static void complain(struct checking *c, const char *what, uint64_t at)
{
    c->good = false;
    mmi_complain(&c->space->spaces->platform, "space", what, at);
}

static bool check_leaf(void *ctx, const struct mm_mapping *leaf)
{
    struct checking *c = ctx;
    uint64_t start = leaf->page.start.raw;

    if (start != c->next || leaf->type != mmi_region_type(c->region) ||
        leaf->paddr.raw != c->region->attr.offset + (start - c->region->start)) {
        complain(c, "a device is not mapped as its region says", start);
        return false;
    }
    c->next += leaf->page.len;
    return true;
}

static void check_region(struct checking *c, const struct mmi_region *region)
{
    if (!mmi_device_has(claims_of(c->space), claim_of(region), mmi_region_type(region)) ||
        !is_whole(region)) {
        complain(c, "a device is not claimed as its region says", region->start);
        return;
    }
    c->region = region;
    c->next = region->start;
    if (mm_paging_walk(c->space->table, mm_vrange(mm_vaddr(region->start), region->len), check_leaf,
                       c) != MM_OK ||
        (c->good && c->next != region->start + region->len)) {
        complain(c, "a device is not mapped whole", c->next);
    }
}

bool mmi_space_devices_check(struct mm_space *space)
{
    struct checking c = {.space = space, .good = true};
    uint64_t bytes = 0;

    for (const struct mmi_region *n = mmi_regions_first(&space->regions); n != NULL && c.good;
         n = mmi_region_next(n)) {
        if (mmi_region_is_device(n)) {
            bytes += n->len;
            check_region(&c, n);
        }
    }
    if (c.good && bytes != space->device_bytes) {
        complain(&c, "devices are counted wrongly", bytes);
    }
    return c.good;
}

/** Under the lock of the claims, which are all of this manager's spaces. */
static bool check_own(const struct mm_spaces *spaces, struct mmi_devices devices, uint64_t nr)
{
    uint64_t linked = 0;

    if (!mmi_devices_check(devices, "space")) {
        return false;
    }
    for (unsigned type = 0; type < MM_MEMTYPE_COUNT; type++) {
        linked += devices.claims->by_type[type].nr;
    }
    if (linked != nr || linked != devices.claims->nr_foreign) {
        mmi_complain(&spaces->platform, "space", "claims of devices counted wrongly", linked);
        return false;
    }
    return true;
}

bool mmi_spaces_devices_check(struct mm_spaces *spaces, uint64_t nr)
{
    struct mmi_devices devices = claims_of_all(spaces);
    bool good;

    mmi_lock(&devices.claims->lock, devices.platform);
    if (spaces->kva == NULL) {
        good = check_own(spaces, devices, nr);
    } else {
        good = nr <= devices.claims->nr_foreign;
        if (!good) {
            mmi_complain(&spaces->platform, "space", "claims of devices that the arena lacks", nr);
        }
    }
    mmi_unlock(&devices.claims->lock);
    return good;
}
