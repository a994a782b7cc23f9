// SPDX-License-Identifier: MIT
/**
 * The manager and the life of a space: made, counted, looked at, taken down. Regions are edited in
 * map.c, faults handled in fault.c, copies made in clone.c.
 *
 *     mm_spaces ── caches of spaces and regions
 *         ├── kernel space ── the kernel's root (shared, not owned)
 *         └── user space ──── its own root: user half its own, kernel half copied once
 *
 * A space lies in one object of a cache, with its page table and its gather in it. Its reference
 * count says who may call; whoever drops the last reference is alone with it, and needs no lock.
 */
#include "internal.h"

#include "core/frame/state.h"

/** A user space keeps its first and last page free; between them there must be room. */
#define MIN_USER_PAGES 4

/** What user spaces may hold of the kernel root's user range: not page 0, not the last page. */
static struct mm_vrange usable_range(struct mm_vrange user)
{
    uint64_t skip = user.start.raw == 0 ? MM_PAGE_SIZE : 0;

    if (user.len < MIN_USER_PAGES * MM_PAGE_SIZE) {
        return mm_vrange(user.start, 0);
    }
    return mm_vrange(mm_vaddr(user.start.raw + skip), user.len - skip - MM_PAGE_SIZE);
}

static mm_status_t check_kernel_range(const struct mm_pagetable *kernel, struct mm_vrange range)
{
    if (range.len == 0) {
        return MM_OK;
    }
    if (!mm_is_aligned(range.start.raw | range.len, MM_PAGE_SIZE)) {
        return MM_ERR_NOT_ALIGNED;
    }
    for (uint32_t i = 0; i < kernel->nr_kernel_ranges; i++) {
        if (mm_vrange_valid(range) && mm_vrange_covers(kernel->kernel_ranges[i], range)) {
            return MM_OK;
        }
    }
    return MM_ERR_INVALID_ADDRESS;
}

static mm_status_t check_config(const struct mm_spaces_config *config)
{
    if (config->frames == NULL || config->physmap == NULL || config->kernel == NULL ||
        config->pool == NULL || !mm_range_fits(config->physmap->first.raw, config->physmap->len)) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (config->frames->magic != MMI_FRAME_MAGIC || mm_paging_root(config->kernel).raw == 0) {
        return MM_ERR_NOT_INITIALIZED;
    }
    if (config->kernel->is_user != 0) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if ((config->frames->flags & MM_FRAMES_REFCOUNTS) == 0 || config->frames->has_physmap == 0 ||
        config->physmap->ops != NULL) {
        return MM_ERR_UNSUPPORTED;
    }
    if (!mmi_physmap_reaches(config->physmap, config->frames)) {
        return MM_ERR_INVALID_ADDRESS;
    }
    return check_kernel_range(config->kernel, config->kernel_range);
}

/** Every space and node was freed: what a cache still counts as out is lost. */
static void destroy_cache(struct mm_cache *cache, const struct mm_platform *platform)
{
    mm_status_t status = mm_cache_destroy(cache);

    if (status != MM_OK) {
        struct mm_panic_info info = {.room = "space",
                                     .what = "objects of a cache are lost",
                                     .address = (uint64_t)(uintptr_t)cache,
                                     .recorded = mm_status_str(status),
                                     .recorded_value = (uint64_t)status,
                                     .claimed = "all freed",
                                     .claimed_value = 0};

        mmi_panic(platform, &info);
    }
}

static mm_status_t init_caches(struct mm_spaces *spaces, const struct mm_spaces_config *config)
{
    const struct mm_cache_config space_config = {.name = "space", .size = sizeof(struct mm_space)};
    const struct mm_cache_config region_config = {.name = "region",
                                                  .size = sizeof(struct mmi_region)};
    mm_status_t status = mm_cache_init(&spaces->space_cache, config->pool, &space_config);

    if (status != MM_OK) {
        return status;
    }
    status = mm_cache_init(&spaces->region_cache, config->pool, &region_config);
    if (status != MM_OK) {
        destroy_cache(&spaces->space_cache, &config->platform);
    }
    return status;
}

static void destroy_caches(struct mm_spaces *spaces)
{
    destroy_cache(&spaces->region_cache, &spaces->platform);
    destroy_cache(&spaces->space_cache, &spaces->platform);
}

mm_status_t mm_spaces_init(struct mm_spaces *spaces, const struct mm_spaces_config *config)
{
    mm_status_t status;

    if (spaces == NULL || config == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (spaces->magic == MMI_SPACES_MAGIC) {
        return MM_ERR_ALREADY_INITIALIZED;
    }
    status = check_config(config);
    if (status != MM_OK) {
        return status;
    }
    status = init_caches(spaces, config);
    if (status != MM_OK) {
        return status;
    }
    spaces->frames = config->frames;
    spaces->physmap = *config->physmap;
    spaces->kernel_table = config->kernel;
    spaces->platform = config->platform;
    spaces->user_range = usable_range(config->kernel->user);
    spaces->next_id = 1;
    if (config->kernel_range.len != 0) {
        spaces->kernel_space = mmi_space_new(spaces, true, &status);
        if (spaces->kernel_space == NULL) {
            destroy_caches(spaces);
            memset(spaces, 0, sizeof(*spaces));
            return status;
        }
        mmi_regions_init(&spaces->kernel_space->regions, config->kernel_range);
    }
    spaces->magic = MMI_SPACES_MAGIC;
    return MM_OK;
}

mm_status_t mm_spaces_destroy(struct mm_spaces *spaces)
{
    if (spaces == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (spaces->magic != MMI_SPACES_MAGIC) {
        return MM_ERR_NOT_INITIALIZED;
    }
    if (mmi_load_acquire(&spaces->nr_spaces) != 0 ||
        (spaces->kernel_space != NULL && mmi_load_acquire(&spaces->kernel_space->refs) != 1)) {
        return MM_ERR_BUSY;
    }
    if (spaces->kernel_space != NULL) {
        mmi_space_free(spaces->kernel_space);
    }
    destroy_caches(spaces);
    memset(spaces, 0, sizeof(*spaces));
    return MM_OK;
}

mm_status_t mm_spaces_get_stats(const struct mm_spaces *spaces, struct mm_spaces_stats *out)
{
    if (spaces == NULL || out == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (spaces->magic != MMI_SPACES_MAGIC) {
        return MM_ERR_NOT_INITIALIZED;
    }
    *out = (struct mm_spaces_stats){
        .nr_spaces = mmi_load(&spaces->nr_spaces),
        .nr_kernel_refs =
            spaces->kernel_space != NULL ? mmi_load(&spaces->kernel_space->refs) - 1 : 0,
        .nr_caches = 2,
    };
    return MM_OK;
}

/* --- life of a space -------------------------------------------------------------------------- */

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

void mmi_space_free(struct mm_space *space)
{
    struct mmi_region_list nodes = {NULL, 0};
    struct mm_vrange all = space->regions.window;

    if (space->regions.nr != 0) {
        mmi_space_drop_pages(space, all.start.raw, all.len);
        mmi_regions_remove(&space->regions, all.start.raw, all.len, &nodes);
        mmi_space_give_nodes(space, &nodes);
    }
    if (space->is_kernel == 0) {
        mmi_space_must(space, mm_paging_destroy(space->table), "freed while a CPU runs in it",
                       space->id);
    }
    space->magic = MMI_SPACE_DEAD;
    mm_cache_free(&space->spaces->space_cache, space);
}

static bool initialised(const struct mm_spaces *spaces)
{
    return spaces->magic == MMI_SPACES_MAGIC;
}

mm_status_t mm_space_create(struct mm_spaces *spaces, struct mm_space **out)
{
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
    space = mmi_space_new(spaces, false, &status);
    if (space == NULL) {
        return status;
    }
    (void)mmi_fetch_add(&spaces->nr_spaces, 1);
    mmi_event(&spaces->platform, MM_EVENT_SPACE_CREATE, space, space->id, 0);
    *out = space;
    return MM_OK;
}

struct mm_space *mm_space_kernel(struct mm_spaces *spaces)
{
    return spaces == NULL || !initialised(spaces) ? NULL : spaces->kernel_space;
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
    return space == NULL ? NULL : space->table;
}

struct mm_vrange mm_space_range(const struct mm_space *space)
{
    return space == NULL ? mm_vrange(mm_vaddr(0), 0) : space->regions.window;
}

uint64_t mm_space_id(const struct mm_space *space)
{
    return space == NULL ? UINT64_MAX : space->id;
}

static mm_status_t report(struct mm_space *space, const struct mmi_region *region,
                          struct mm_region_info *out)
{
    if (region != NULL) {
        out->range = mm_vrange(mm_vaddr(region->start), region->len);
        out->prot = region->attr.prot;
        out->flags = region->attr.flags & ~MMI_REGION_OFFSET;
        out->tag = region->attr.tag;
    }
    mmi_space_unlock(space);
    return region == NULL ? MM_ERR_REGION_NOT_FOUND : MM_OK;
}

mm_status_t mm_space_find(struct mm_space *space, mm_vaddr_t at, struct mm_region_info *out)
{
    if (space == NULL || out == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    mmi_space_lock(space);
    return report(space, mmi_regions_find(&space->regions, at.raw), out);
}

mm_status_t mm_space_next(struct mm_space *space, mm_vaddr_t from, struct mm_region_info *out)
{
    if (space == NULL || out == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    mmi_space_lock(space);
    return report(space, mmi_regions_from(&space->regions, from.raw), out);
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

mm_status_t mm_space_get_stats(struct mm_space *space, struct mm_space_stats *out)
{
    struct mm_paging_stats paging;

    if (space == NULL || out == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    mmi_space_lock(space);
    mmi_space_must(space, mm_paging_get_stats(space->table, &paging), "no page table", space->id);
    out->id = space->id;
    out->mapped_bytes = space->regions.bytes;
    out->resident_bytes = space->is_kernel != 0 ? kernel_resident(space) : paging.mapped_bytes;
    out->nr_regions = space->regions.nr;
    out->nr_tables = paging.nr_tables;
    for (unsigned i = 0; i < MM_FAULT_COUNT; i++) {
        out->nr_faults[i] = space->nr_faults[i];
    }
    out->refs = mmi_load(&space->refs);
    mmi_space_unlock(space);
    return MM_OK;
}

/* --- steps that the other files share --------------------------------------------------------- */

bool mmi_space_take_nodes(struct mm_space *space, struct mmi_region_list *nodes, uint64_t nr)
{
    while (nodes->nr < nr) {
        struct mmi_region *node = mm_cache_alloc(&space->spaces->region_cache);

        if (node == NULL) {
            mmi_space_give_nodes(space, nodes);
            return false;
        }
        mmi_region_push(nodes, node);
    }
    return true;
}

void mmi_space_give_nodes(struct mm_space *space, struct mmi_region_list *nodes)
{
    struct mmi_region *node;

    while ((node = mmi_region_pop(nodes)) != NULL) {
        mm_cache_free(&space->spaces->region_cache, node);
    }
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

struct mm_gather *mmi_space_gather(struct mm_space *space)
{
    mmi_space_must(space, mm_gather_begin(&space->gather, space->table), "no page table",
                   space->id);
    return &space->gather;
}

void mmi_space_drop_pages(struct mm_space *space, uint64_t start, uint64_t len)
{
    struct mm_gather *gather = mmi_space_gather(space);

    mmi_space_must(space,
                   mm_paging_unmap(space->table, mm_vrange(mm_vaddr(start), len),
                                   MM_PAGING_SKIP_HOLES | MM_PAGING_RELEASE, gather),
                   "pages of a region cannot be unmapped", start);
    mm_gather_end(gather);
}
