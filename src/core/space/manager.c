// SPDX-License-Identifier: MIT
/**
 * The manager: where spaces get their frames, tables and nodes from.
 *
 *     mm_spaces ── caches of spaces and their nodes, the zero page, what is promised
 *         ├── kernel space ── the kernel's root (shared, not owned)
 *         └── user space ──── its own root: user half its own, kernel half copied once
 */
#include "internal.h"

#include "core/frame/state.h"
#include "heap/kva.h"

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
    if (config->kernel->is_user != 0 || (unsigned)config->commit > MM_COMMIT_NEVER) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (config->kva != NULL && !mmi_is_kva(config->kva)) {
        return MM_ERR_NOT_INITIALIZED;
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

/** The caches, in the order they are made in. */
#define NR_CACHES 4u

static struct mm_cache *cache_of(struct mm_spaces *spaces, unsigned i)
{
    struct mm_cache *const caches[NR_CACHES] = {&spaces->space_cache, &spaces->region_cache,
                                                &spaces->bucket_cache, &spaces->claim_cache};

    return caches[i];
}

static void destroy_caches(struct mm_spaces *spaces, unsigned nr,
                           const struct mm_platform *platform)
{
    while (nr != 0) {
        nr--;
        destroy_cache(cache_of(spaces, nr), platform);
    }
}

static mm_status_t init_caches(struct mm_spaces *spaces, const struct mm_spaces_config *config)
{
    static const struct mm_cache_config configs[NR_CACHES] = {
        {.name = "space", .size = sizeof(struct mm_space), .align = MM_CACHE_LINE},
        /* Of 16, the default, it would take 64 bytes instead of 56. */
        {.name = "region", .size = sizeof(struct mmi_region), .align = sizeof(uint64_t)},
        {.name = "region bucket", .size = sizeof(struct mmi_bucket)},
        {.name = "device claim", .size = sizeof(struct mmi_range)},
    };

    for (unsigned i = 0; i < NR_CACHES; i++) {
        mm_status_t status = mm_cache_init(cache_of(spaces, i), config->pool, &configs[i]);

        if (status != MM_OK) {
            destroy_caches(spaces, i, &config->platform);
            return status;
        }
    }
    return MM_OK;
}

/** One frame of zeros for all spaces: it is never counted, written or freed. */
static mm_status_t make_zero_page(struct mm_spaces *spaces)
{
    const struct mm_frame_request request = {.flags = MM_FRAME_ZERO, .owner = MM_OWNER_ANONYMOUS};
    mm_status_t status;

    if (spaces->user_range.len == 0) {
        return MM_OK;
    }
    status = mm_frame_alloc(spaces->frames, &request, &spaces->zero_page);
    if (status == MM_OK) {
        mm_frame_make_immortal(spaces->frames, spaces->zero_page);
    }
    return status;
}

static void drop_zero_page(struct mm_spaces *spaces)
{
    if (spaces->zero_page.raw != 0) {
        mm_frame_make_mortal(spaces->frames, spaces->zero_page);
        (void)mm_frame_put(spaces->frames, spaces->zero_page);
    }
}

static mm_status_t make_kernel_space(struct mm_spaces *spaces, struct mm_vrange range)
{
    mm_status_t status = MM_OK;

    if (range.len != 0) {
        spaces->kernel_space = mmi_space_new(spaces, true, &status);
        if (spaces->kernel_space != NULL) {
            spaces->kernel_space->layout.lowest = range.start.raw;
            spaces->kernel_space->layout.top = range.start.raw + range.len;
            mmi_regions_init(&spaces->kernel_space->regions, range);
        }
    }
    return status;
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
    spaces->kva = config->kva;
    spaces->commit = config->commit;
    spaces->commit_pages =
        config->commit_pages != 0 ? config->commit_pages : config->frames->nr_frames;
    spaces->next_id = 1;
    status = make_zero_page(spaces);
    if (status == MM_OK) {
        status = make_kernel_space(spaces, config->kernel_range);
    }
    if (status != MM_OK) {
        drop_zero_page(spaces);
        destroy_caches(spaces, NR_CACHES, &spaces->platform);
        memset(spaces, 0, sizeof(*spaces));
        return status;
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
    drop_zero_page(spaces);
    destroy_caches(spaces, NR_CACHES, &spaces->platform);
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
        .nr_caches = NR_CACHES,
        .nr_committed = mmi_load(&spaces->nr_committed),
        .commit_pages = spaces->commit == MM_COMMIT_NEVER ? spaces->commit_pages : UINT64_MAX,
    };
    return MM_OK;
}
