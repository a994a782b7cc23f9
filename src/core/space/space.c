// SPDX-License-Identifier: MIT
/**
 * The life of a space: made, counted, looked at, taken down.
 *
 * A space lies in one object of a cache, with its page table and its gather in it. Its reference
 * count says who may call; whoever drops the last reference is alone with it, and needs no lock.
 */
#include "internal.h"

#include "core/base/compiler.h"

struct mm_space *mmi_space_new(struct mm_spaces *spaces, bool is_kernel, mm_status_t *status)
{
    struct mm_space *space = mm_cache_alloc(&spaces->space_cache);

    if (space == NULL) {
        *status = MM_ERR_NO_MEMORY;
        return NULL;
    }
    memset(space, 0, sizeof(*space));
    space->refs = 1;
    space->spaces = spaces;
    space->is_kernel = is_kernel ? 1 : 0;
    mmi_regions_init(&space->regions, spaces->user_range);
    if (is_kernel) {
        space->table = spaces->kernel_table;
    } else {
        space->table = &space->own_table;
        space->id = mmi_fetch_add(&spaces->next_id, 1);
        *status = mm_paging_init_user(space->table, spaces->kernel_table);
        if (*status != MM_OK) {
            mm_cache_free(&spaces->space_cache, space);
            return NULL;
        }
    }
    space->magic = MMI_SPACE_MAGIC;
    return space;
}

void mmi_space_join(struct mm_space *space, struct mm_space_group *group)
{
    space->group = group;
    space->is_limited = group != NULL || space->limits.resident_bytes != 0 ? 1 : 0;
    if (group != NULL) {
        (void)mmi_fetch_add(&group->nr_spaces, 1);
    }
}

void mmi_space_announce(struct mm_space *space)
{
    (void)mmi_fetch_add(&space->spaces->nr_spaces, 1);
    mmi_event(&space->spaces->platform, MM_EVENT_SPACE_CREATE, space, space->id, 0);
}

static void leave_group(struct mm_space *space)
{
    mmi_space_settle(space); /* nothing is left of the group's charges */
    if (space->group != NULL) {
        (void)mmi_fetch_sub(&space->group->nr_spaces, 1);
    }
}

_Noreturn static void bad_reference(const struct mm_space *space, const char *what,
                                    const char *claimed)
{
    /* What never was a space, or has been overwritten, knows no manager and no hook. */
    struct mm_platform platform = {NULL, NULL};
    struct mm_panic_info info = {.room = "space",
                                 .what = what,
                                 .address = (uint64_t)(uintptr_t)space,
                                 .recorded = "no space, references",
                                 .recorded_value = mmi_load(&space->refs),
                                 .claimed = claimed,
                                 .claimed_value = 1};

    if (space->magic == MMI_SPACE_MAGIC || space->magic == MMI_SPACE_DEAD) {
        platform = space->spaces->platform;
        info.recorded = space->magic == MMI_SPACE_MAGIC ? "a live space, references"
                                                        : "a space that was freed, references";
    }
    mmi_panic(&platform, &info);
}

void mmi_space_free(struct mm_space *space)
{
    struct mmi_space_edit edit = {0};
    struct mm_vrange all = space->regions.window;

    mmi_space_spare_init(space, &edit.spare);
    mmi_space_remove(space, all.start.raw, all.len, &edit);
    mmi_space_give_nodes(space, &edit.nodes);
    if (space->is_kernel == 0) {
        leave_group(space);
        if (mm_paging_destroy(space->table) != MM_OK) {
            bad_reference(space, "freed while a CPU runs in it", "the last reference to it");
        }
    }
    space->magic = MMI_SPACE_DEAD;
    mm_cache_free(&space->spaces->space_cache, space);
}

static bool initialised(const struct mm_spaces *spaces)
{
    return spaces->magic == MMI_SPACES_MAGIC;
}

mm_status_t mm_space_create_with(struct mm_spaces *spaces, const struct mm_space_config *config,
                                 struct mm_space **out)
{
    static const struct mm_space_config none;
    struct mm_space_layout layout;
    struct mm_space *space;
    mm_status_t status = MM_OK;

    if (spaces == NULL || out == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (!initialised(spaces)) {
        return MM_ERR_NOT_INITIALIZED;
    }
    if (spaces->user_range.len == 0) {
        return MM_ERR_UNSUPPORTED;
    }
    config = config == NULL ? &none : config;
    if (config->group != NULL && config->group->magic != MMI_GROUP_MAGIC) {
        return MM_ERR_NOT_INITIALIZED;
    }
    status = mmi_space_lay_out(spaces, &config->layout, &layout);
    if (status != MM_OK) {
        return status;
    }
    space = mmi_space_new(spaces, false, &status);
    if (space == NULL) {
        return status;
    }
    space->layout = layout;
    space->limits = config->limits;
    mmi_space_join(space, config->group);
    mmi_space_announce(space);
    *out = space;
    return MM_OK;
}

mm_status_t mm_space_create(struct mm_spaces *spaces, struct mm_space **out)
{
    return mm_space_create_with(spaces, NULL, out);
}

struct mm_space *mm_space_kernel(struct mm_spaces *spaces)
{
    return spaces == NULL || !initialised(spaces) ? NULL : spaces->kernel_space;
}

/* No space: no reference to it, and no hook to tell. As a panic without one. */
static void not_null(const struct mm_space *space)
{
    if (MMI_UNLIKELY(space == NULL)) {
        __builtin_trap();
    }
}

void mm_space_get(struct mm_space *space)
{
    uint32_t refs;

    not_null(space);
    refs = mmi_load(&space->refs);
    do {
        if (refs == 0 || space->magic != MMI_SPACE_MAGIC) {
            bad_reference(space, "reference taken to a space that has none", "a reference to it");
        }
    } while (refs != UINT32_MAX && !mmi_cas(&space->refs, &refs, refs + 1));
}

bool mm_space_put(struct mm_space *space)
{
    struct mm_spaces *spaces;
    uint32_t refs;

    not_null(space);
    refs = mmi_load(&space->refs);
    do {
        if (refs == 0 || space->magic != MMI_SPACE_MAGIC) {
            bad_reference(space, "reference dropped of a space that has none", "a reference to it");
        }
        if (refs == 1 && space->is_kernel != 0) {
            bad_reference(space, "last reference to the kernel's space dropped",
                          "the manager's reference");
        }
        if (refs == UINT32_MAX) {
            return false;
        }
    } while (!mmi_cas(&space->refs, &refs, refs - 1));
    if (refs != 1) {
        return false;
    }
    spaces = space->spaces;
    mmi_event(&spaces->platform, MM_EVENT_SPACE_DESTROY, space, space->id, 0);
    mmi_space_free(space);
    /* Last: until then the manager is in use, and must not be taken down. */
    (void)mmi_fetch_sub(&spaces->nr_spaces, 1);
    return true;
}

mm_status_t mm_space_activate(struct mm_space *space)
{
    mm_status_t status;

    if (space == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (space->table->tlb != NULL) {
        return mm_paging_activate(space->table); /* needs no lock: a context switch has none */
    }
    mmi_space_lock(space);
    status = mm_paging_activate(space->table);
    mmi_space_unlock(space);
    return status;
}

/* --- looking ---------------------------------------------------------------------------------- */

struct mm_pagetable *mm_space_table(struct mm_space *space)
{
    if (space == NULL) {
        return NULL;
    }
    /* Who looks finds all that is there counted. */
    mmi_space_lock(space);
    mmi_space_fold(space);
    mmi_space_unlock(space);
    return space->table;
}

struct mm_vrange mm_space_range(const struct mm_space *space)
{
    return space == NULL ? mm_vrange(mm_vaddr(0), 0) : space->regions.window;
}

uint64_t mm_space_id(const struct mm_space *space)
{
    return space == NULL ? UINT64_MAX : space->id;
}

mm_status_t mm_space_with_table(struct mm_space *space,
                                mm_status_t (*change)(void *ctx, struct mm_pagetable *table),
                                void *ctx)
{
    mm_status_t status;

    if (space == NULL || change == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    mmi_space_lock(space);
    mmi_space_fold(space);
    status = change(ctx, space->table);
    mmi_space_unlock(space);
    return status;
}

/** Pages of the kernel's space are there from the start, but in guards. */
static uint64_t kernel_resident(const struct mm_space *space)
{
    const struct mmi_region *n;
    uint64_t bytes = 0;

    for (n = mmi_regions_first(&space->regions); n != NULL; n = mmi_region_next(n)) {
        bytes += (n->attr.flags & MM_SPACE_GUARD) == 0 ? n->len : 0;
    }
    return bytes;
}

/** What the slots of the lock have counted. */
static void sum_slots(const struct mm_space *space, struct mm_space_stats *out)
{
    memset(out->nr_faults, 0, sizeof(out->nr_faults));
    out->nr_reused = 0;
    out->nr_zero_page = 0;
    out->nr_faults[MM_FAULT_ZERO] = space->nr_folded;
    for (unsigned i = 0; i < MMI_SPACE_SLOTS; i++) {
        const struct mmi_space_slot *slot = &space->lock.slots[i];

        for (unsigned k = 0; k < MM_FAULT_COUNT; k++) {
            out->nr_faults[k] += mmi_load(&slot->nr_faults[k]);
        }
        out->nr_reused += mmi_load(&slot->nr_reused);
        out->nr_zero_page += mmi_load(&slot->nr_zero_page);
    }
}

mm_status_t mm_space_get_stats(struct mm_space *space, struct mm_space_stats *out)
{
    struct mm_paging_stats paging;

    if (space == NULL || out == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    mmi_space_lock(space);
    mmi_space_fold(space);
    mmi_space_must(space, mm_paging_get_stats(space->table, &paging), "no page table", space->id);
    out->id = space->id;
    out->mapped_bytes = space->regions.bytes;
    out->resident_bytes =
        space->is_kernel != 0 ? kernel_resident(space) : paging.mapped_bytes - space->device_bytes;
    out->nr_regions = space->regions.nr;
    out->nr_tables = paging.nr_tables;
    out->device_bytes = space->device_bytes;
    out->committed_bytes = space->nr_committed << MM_PAGE_SHIFT;
    out->nr_stack_growths = space->nr_stack_growths;
    sum_slots(space, out);
    out->refs = mmi_load(&space->refs);
    mmi_space_unlock(space);
    return MM_OK;
}

/* --- steps that the other files share --------------------------------------------------------- */

static bool take_buckets(struct mm_space *space, uint64_t nr)
{
    struct mmi_regions *regions = &space->regions;

    while (regions->nr_spare < nr) {
        struct mmi_bucket *bucket = mm_cache_alloc(&space->spaces->bucket_cache);

        if (bucket == NULL) {
            return false;
        }
        mmi_regions_push_bucket(regions, bucket);
    }
    return true;
}

static bool take_regions(struct mm_space *space, struct mmi_region_list *list, uint64_t nr)
{
    while (list->nr < nr) {
        struct mmi_region *node = mm_cache_alloc(&space->spaces->region_cache);

        if (node == NULL) {
            return false;
        }
        mmi_region_push(list, node);
    }
    return true;
}

static bool take_claims(struct mm_space *space, struct mmi_claim_list *list, uint64_t nr)
{
    while (list->nr < nr) {
        struct mmi_range *claim = mm_cache_alloc(&space->spaces->claim_cache);

        if (claim == NULL) {
            return false;
        }
        mmi_claim_push(list, claim);
    }
    return true;
}

static bool take(struct mm_space *space, struct mmi_space_nodes *nodes, struct mmi_space_need need,
                 uint64_t nr_buckets)
{
    nodes->nr_spare = space->regions.nr_spare;
    if (take_regions(space, &nodes->regions, need.regions) &&
        take_claims(space, &nodes->claims, need.claims) && take_buckets(space, nr_buckets)) {
        return true;
    }
    mmi_space_return_nodes(space, nodes);
    return false;
}

bool mmi_space_take_nodes(struct mm_space *space, struct mmi_space_nodes *nodes,
                          struct mmi_space_need need)
{
    return take(space, nodes, need, mmi_regions_need_buckets(&space->regions, need.regions));
}

bool mmi_space_take_nodes_to_append(struct mm_space *space, struct mmi_space_nodes *nodes,
                                    struct mmi_space_need need)
{
    return take(space, nodes, need, mmi_regions_need_buckets_to_append(need.regions));
}

/** Give back all nodes, and all buckets to spare but so many. */
static void give(struct mm_space *space, struct mmi_space_nodes *nodes, uint64_t nr_spare)
{
    struct mmi_region *node;
    struct mmi_range *claim;

    while ((node = mmi_region_pop(&nodes->regions)) != NULL) {
        mm_cache_free(&space->spaces->region_cache, node);
    }
    while ((claim = mmi_claim_pop(&nodes->claims)) != NULL) {
        mm_cache_free(&space->spaces->claim_cache, claim);
    }
    while (space->regions.nr_spare > nr_spare) {
        mm_cache_free(&space->spaces->bucket_cache, mmi_regions_pop_bucket(&space->regions));
    }
}

void mmi_space_give_nodes(struct mm_space *space, struct mmi_space_nodes *nodes)
{
    /* One bucket stays for the next edit, but in a space that needs no second one. */
    give(space, nodes, space->regions.nr_buckets > 1 ? 1 : 0);
}

void mmi_space_return_nodes(struct mm_space *space, struct mmi_space_nodes *nodes)
{
    give(space, nodes, nodes->nr_spare);
}

void mmi_space_must(const struct mm_space *space, mm_status_t status, const char *what, uint64_t at)
{
    if (status != MM_OK) {
        struct mm_panic_info info = {.room = "space",
                                     .what = what,
                                     .address = at,
                                     .recorded = "space number",
                                     .recorded_value = space->id,
                                     .claimed = mm_status_str(status),
                                     .claimed_value = (uint64_t)status};

        mmi_panic(&space->spaces->platform, &info);
    }
}

mm_status_t mmi_space_whole_pages(const struct mm_space *space, struct mm_vrange range,
                                  uint64_t *len)
{
    if (!mm_is_aligned(range.start.raw, MM_PAGE_SIZE)) {
        return MM_ERR_NOT_ALIGNED;
    }
    if (range.len == 0 || !mm_align_up(range.len, MM_PAGE_SIZE, len) ||
        !mm_range_fits(range.start.raw, *len)) {
        return MM_ERR_INVALID_SIZE;
    }
    return mm_vrange_covers(space->regions.window, mm_vrange(range.start, *len))
               ? MM_OK
               : MM_ERR_INVALID_ADDRESS;
}

bool mmi_space_covered(const struct mm_space *space, uint64_t start, uint64_t len, uint64_t *hole)
{
    uint64_t last = start + (len - 1);
    uint64_t at = start;

    for (const struct mmi_region *n = mmi_regions_from(&space->regions, start);
         n != NULL && n->start <= at; n = mmi_region_next(n)) {
        if (mmi_region_last(n) >= last) {
            return true;
        }
        at = mmi_region_last(n) + 1;
    }
    *hole = at;
    return false;
}
