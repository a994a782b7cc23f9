// SPDX-License-Identifier: MIT
/**
 * Ranges taken: memory and devices.
 *
 * A call collects what can be missing before it takes the lock: a node, frames. Under the lock it
 * finds a place, sees that the table has an entry, and maps, which needs tables and is all or
 * nothing; what follows cannot fail. So nothing is ever undone that a CPU can have seen.
 */
#include "kva.h"

/* --- a place ---------------------------------------------------------------------------------- */

static uint64_t guard_bytes(uint32_t pages)
{
    return (uint64_t)pages << MM_PAGE_SHIFT;
}

/** The address of the first mapped page, where there is room for it and the guards. */
static bool find_place(const struct mm_kva *kva, const struct mmi_kva_spec *spec, uint64_t *out)
{
    const struct mm_kva_request *asked = &spec->request;
    uint64_t before = guard_bytes(asked->guard_before);
    struct mmi_place place = {.len = before + asked->len + guard_bytes(asked->guard_after),
                              .lowest = asked->lowest.raw,
                              .highest = asked->highest.raw};
    uint64_t at;

    place.align = asked->align != 0          ? asked->align
                  : asked->len >= MM_SIZE_2M ? MM_SIZE_2M
                                             : MM_PAGE_SIZE;
    /* A device lies in a large page as it does in memory, so that large leaves fit. */
    place.residue = (spec->paddr - before) & (place.align - 1);
    if (!mmi_ranges_find_place(&kva->ranges, &place, &at)) {
        if (asked->align != 0) {
            return false;
        }
        place.align = MM_PAGE_SIZE; /* nobody asked for more */
        place.residue = 0;
        if (!mmi_ranges_find_place(&kva->ranges, &place, &at)) {
            return false;
        }
    }
    *out = at + before;
    return true;
}

/** The pages of a range that have an entry in the table: each leaf of the table has one of these. */
static uint64_t next_entry(const struct mmi_kva_spec *spec, uint64_t at, uint64_t last)
{
    uint64_t step = MM_PAGE_SIZE << MMI_TABLE_BITS;

    return spec->kind == MM_KVA_PAGES && last - at > step ? at + step : last;
}

static uint64_t last_entry(const struct mmi_kva_spec *spec, uint64_t at)
{
    return spec->kind == MM_KVA_PAGES ? at + (spec->request.len - MM_PAGE_SIZE) : at;
}

bool mmi_kva_has_entries(const struct mm_kva *kva, const struct mmi_kva_spec *spec, uint64_t at)
{
    uint64_t last = last_entry(spec, at);

    for (; mmi_table_look(&kva->table, at) != NULL; at = next_entry(spec, at, last)) {
        if (at == last) {
            return true;
        }
    }
    return false;
}

bool mmi_kva_make_entries(struct mm_kva *kva, const struct mmi_kva_spec *spec, uint64_t at)
{
    uint32_t flags = (spec->request.flags & MM_KVA_ATOMIC) != 0 ? MM_PAGES_ATOMIC : 0;
    uint64_t last = last_entry(spec, at);

    for (; mmi_table_entry(kva->pool, &kva->table, at, flags) != NULL;
         at = next_entry(spec, at, last)) {
        if (at == last) {
            return true;
        }
    }
    return false;
}

void mmi_kva_set_entries(struct mm_kva *kva, const struct mmi_kva_range *range, uint64_t at,
                         uint64_t len)
{
    for (uint64_t i = 0; i < len; i += MM_PAGE_SIZE) {
        mmi_store_release(mmi_table_look(&kva->table, at + i), mmi_kva_entry(range));
    }
}

/* --- devices ---------------------------------------------------------------------------------- */

/** Claim it for the range, before any CPU can reach it. */
static mm_status_t claim_device(struct mm_kva *kva, const struct mmi_kva_spec *spec,
                                struct mmi_kva_range *range)
{
    struct mmi_kva_range *twin = range->twin;

    *twin = (struct mmi_kva_range){.whole = {.node.start = spec->paddr, .len = spec->request.len},
                                   .twin = range};
    return (spec->request.flags & MM_KVA_ATOMIC) != 0
               ? mmi_device_try_claim(mmi_devices_of(kva), &twin->whole, spec->type)
               : mmi_device_claim(mmi_devices_of(kva), &twin->whole, spec->type);
}

/* --- taking ----------------------------------------------------------------------------------- */

mm_status_t mmi_kva_map_at(struct mm_kva *kva, const struct mmi_kva_spec *spec, uint64_t at,
                           const struct mmi_kva_frames *frames)
{
    bool atomic = (spec->request.flags & MM_KVA_ATOMIC) != 0;
    mm_status_t status;

    kva->reserve_mark = kva->nr_reserve;
    kva->kernel->spare = atomic ? &kva->spare : NULL;
    if (spec->kind == MM_KVA_DEVICE) {
        status = mm_paging_map(kva->kernel, mm_vrange(mm_vaddr(at), spec->request.len),
                               mm_paddr(spec->paddr), spec->request.prot, spec->type, 0);
    } else {
        status = mmi_kva_map_frames(kva, spec, at, frames);
    }
    kva->kernel->spare = NULL;
    kva->reserve_mark = 0;
    if (!atomic && status == MM_OK) {
        mmi_kva_refill(kva);
    }
    return status;
}

/** Find a place and map it: MM_OK, and where it is. */
static mm_status_t map_somewhere(struct mm_kva *kva, const struct mmi_kva_spec *spec,
                                 const struct mmi_kva_frames *frames, uint64_t *out,
                                 uint64_t *missing)
{
    if (!find_place(kva, spec, out)) {
        return MM_ERR_REGION_NOT_FOUND;
    }
    if (!mmi_kva_has_entries(kva, spec, *out)) {
        *missing = *out;
        return MM_ERR_NO_MEMORY;
    }
    return mmi_kva_map_at(kva, spec, *out, frames);
}

/** Under the lock. `*missing` is where entries of the table are missing: make them, and come again;
 * 0 otherwise. */
static mm_status_t place(struct mm_kva *kva, const struct mmi_kva_spec *spec,
                         const struct mmi_kva_frames *frames, struct mmi_kva_range *range,
                         uint64_t *missing)
{
    const struct mm_kva_request *asked = &spec->request;
    bool is_device = spec->kind == MM_KVA_DEVICE;
    mm_status_t status = is_device ? claim_device(kva, spec, range) : MM_OK;
    uint64_t at;

    if (status != MM_OK) {
        return status;
    }
    status = map_somewhere(kva, spec, frames, &at, missing);
    if (status != MM_OK) {
        if (is_device) {
            mmi_device_release(mmi_devices_of(kva), &range->twin->whole, spec->type);
        }
        return status;
    }
    *range = (struct mmi_kva_range){.whole = {.node.start = at - guard_bytes(asked->guard_before),
                                              .len = guard_bytes(asked->guard_before) + asked->len +
                                                     guard_bytes(asked->guard_after)},
                                    .start = at,
                                    .len = asked->len,
                                    .offset = spec->offset,
                                    .paddr = spec->paddr,
                                    .part = spec->part,
                                    .stride = spec->stride,
                                    .kind = spec->kind,
                                    .type = spec->type,
                                    .twin = range->twin};
    range->nr_left = mmi_kva_pages(range);
    mmi_ranges_link(&kva->ranges, &range->whole);
    mmi_fetch_add(&kva->nr_ranges[spec->kind], UINT64_C(1));
    mmi_fetch_add(&kva->nr_pages[spec->kind], range->nr_left);
    mmi_kva_set_entries(kva, range, at, spec->kind == MM_KVA_PAGES ? asked->len : MM_PAGE_SIZE);
    return MM_OK;
}

static mm_status_t place_locked(struct mm_kva *kva, const struct mmi_kva_spec *spec,
                                const struct mmi_kva_frames *frames, struct mmi_kva_range *range)
{
    mm_status_t status;
    uint64_t missing;

    /* Entries that were made stay: each turn finds more of them. */
    do {
        missing = 0;
        if (!mmi_kva_enter(kva, (spec->request.flags & MM_KVA_ATOMIC) != 0)) {
            return MM_ERR_BUSY;
        }
        status = place(kva, spec, frames, range, &missing);
        mmi_kva_leave(kva);
    } while (missing != 0 && mmi_kva_make_entries(kva, spec, missing));
    return status;
}

/** A node, for a device with a twin; NULL: there is no memory. */
static struct mmi_kva_range *new_node(struct mm_kva *kva, const struct mmi_kva_spec *spec)
{
    uint32_t flags = (spec->request.flags & MM_KVA_ATOMIC) != 0 ? MM_PAGES_ATOMIC : 0;
    struct mmi_kva_range *range = mmi_cache_alloc(&kva->nodes, flags);

    if (range == NULL) {
        return NULL;
    }
    range->twin = NULL;
    if (spec->kind == MM_KVA_DEVICE) {
        range->twin = mmi_cache_alloc(&kva->nodes, flags);
        if (range->twin == NULL) {
            mmi_kva_free_node(kva, range);
            return NULL;
        }
    }
    return range;
}

void mmi_kva_free_node(struct mm_kva *kva, struct mmi_kva_range *range)
{
    if (range->twin != NULL) {
        mm_cache_free(&kva->nodes, range->twin);
    }
    mm_cache_free(&kva->nodes, range);
}

static mm_status_t take_once(struct mm_kva *kva, const struct mmi_kva_spec *spec,
                             struct mmi_kva_range **out)
{
    struct mmi_kva_range *range = new_node(kva, spec);
    struct mmi_kva_frames frames = {{0}, {0}, 0};
    mm_status_t status = MM_OK;

    if (range == NULL) {
        return MM_ERR_NO_MEMORY;
    }
    if (spec->kind != MM_KVA_DEVICE) {
        status = mmi_kva_collect(kva, spec, &frames);
    }
    if (status == MM_OK) {
        status = place_locked(kva, spec, &frames, range);
    }
    if (status != MM_OK) {
        mmi_kva_drop(kva, &frames);
        mmi_kva_free_node(kva, range);
        return status;
    }
    *out = range;
    return MM_OK;
}

mm_status_t mmi_kva_take(struct mm_kva *kva, const struct mmi_kva_spec *spec,
                         struct mmi_kva_range **out)
{
    bool atomic = (spec->request.flags & MM_KVA_ATOMIC) != 0;
    uint64_t nr_flushes;
    mm_status_t status;

    if (!atomic && mmi_load(&kva->nr_lazy_pages) > kva->purge_pages) {
        (void)mm_kva_purge(kva);
    }
    nr_flushes = mmi_load(&kva->nr_flushes);
    status = take_once(kva, spec, out);
    /* What was freed holds frames, addresses, and devices with their types. The purge that gives
     * them back may be another CPU's: then there is nothing left for this one. */
    if ((status == MM_ERR_NO_MEMORY || status == MM_ERR_REGION_NOT_FOUND ||
         status == MM_ERR_ALREADY_MAPPED) &&
        !atomic && (mm_kva_reclaim(kva) != 0 || mmi_load(&kva->nr_flushes) != nr_flushes)) {
        status = take_once(kva, spec, out);
    }
    if (status == MM_ERR_NO_MEMORY || status == MM_ERR_REGION_NOT_FOUND) {
        mmi_fetch_add(&kva->nr_failed, UINT64_C(1));
    }
    return status;
}

/* --- requests --------------------------------------------------------------------------------- */

static bool good_prot(mm_prot_t prot)
{
    return (prot & MM_PROT_READ) != 0 &&
           (prot & ~(MM_PROT_READ | MM_PROT_WRITE | MM_PROT_EXEC | MM_PROT_GLOBAL)) == 0;
}

mm_status_t mmi_kva_complete(const struct mm_kva *kva, const struct mm_kva_request *request,
                             struct mm_kva_request *out)
{
    bool bare = (request->flags & MM_KVA_NO_GUARDS) != 0;

    *out = *request;
    if (request->guard_before > MM_KVA_MAX_GUARD || request->guard_after > MM_KVA_MAX_GUARD ||
        request->node_policy > MM_NODE_REQUIRED ||
        (request->node_policy == MM_NODE_ANY && request->node != 0)) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (request->len == 0 || !mm_align_up(request->len, MM_PAGE_SIZE, &out->len) ||
        out->len > kva->ranges.window.len) {
        return MM_ERR_INVALID_SIZE;
    }
    if (request->align != 0 && (!mm_is_pow2(request->align) || request->align < MM_PAGE_SIZE)) {
        return MM_ERR_NOT_ALIGNED;
    }
    out->highest.raw = request->highest.raw == 0 ? UINT64_MAX : request->highest.raw;
    if (out->highest.raw < request->lowest.raw) {
        return MM_ERR_INVALID_ADDRESS;
    }
    out->prot = request->prot == 0 ? MM_PROT_RW | MM_PROT_GLOBAL : request->prot;
    if ((request->flags & ~MM_KVA_FLAGS_ALL) != 0 || !good_prot(out->prot)) {
        return MM_ERR_INVALID_FLAGS;
    }
    out->guard_before = bare                         ? 0
                        : request->guard_before == 0 ? kva->guard_pages
                                                     : request->guard_before;
    out->guard_after = bare                        ? 0
                       : request->guard_after == 0 ? kva->guard_pages
                                                   : request->guard_after;
    return MM_OK;
}

mm_status_t mm_kva_alloc(struct mm_kva *kva, const struct mm_kva_request *request, mm_vaddr_t *out)
{
    struct mmi_kva_spec spec = {.kind = MM_KVA_MEMORY, .type = MM_MEMTYPE_WB};
    struct mmi_kva_range *range;
    mm_status_t status = mmi_kva_check_arena(kva);

    if (request == NULL || out == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (status == MM_OK) {
        status = mmi_kva_complete(kva, request, &spec.request);
    }
    if (status == MM_OK) {
        status = mmi_kva_take(kva, &spec, &range);
    }
    if (status == MM_OK) {
        *out = mm_vaddr(range->start);
    }
    return status;
}

mm_status_t mm_kva_map(struct mm_kva *kva, struct mm_prange range, mm_prot_t prot,
                       mm_memtype_t type, uint32_t flags, mm_vaddr_t *out)
{
    struct mm_kva_request request = {.prot = prot, .flags = flags};
    struct mmi_kva_spec spec = {.kind = MM_KVA_DEVICE, .type = type};
    struct mmi_kva_range *taken;
    mm_status_t status = mmi_kva_check_arena(kva);

    if (out == NULL || (unsigned)type >= MM_MEMTYPE_COUNT) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (status != MM_OK) {
        return status;
    }
    if (range.len == 0 || !mm_prange_valid(range)) {
        return MM_ERR_INVALID_SIZE;
    }
    spec.offset = mm_paddr_offset(range.start);
    spec.paddr = range.start.raw - spec.offset;
    if (prot == 0 || (flags & MM_KVA_ZERO) != 0) {
        return MM_ERR_INVALID_FLAGS;
    }
    if (!mm_add(range.len, spec.offset, &request.len)) {
        return MM_ERR_INVALID_SIZE;
    }
    status = mmi_kva_complete(kva, &request, &spec.request);
    if (status == MM_OK && !mm_range_fits(spec.paddr, spec.request.len)) {
        status = MM_ERR_INVALID_SIZE;
    }
    if (status == MM_OK && spec.paddr + (spec.request.len - 1) >= kva->kernel->paddr_end) {
        status = MM_ERR_INVALID_ADDRESS;
    }
    if (status == MM_OK) {
        status = mmi_kva_take(kva, &spec, &taken);
    }
    if (status == MM_OK) {
        *out = mm_vaddr(taken->start + spec.offset);
    }
    return status;
}
