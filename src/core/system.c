// SPDX-License-Identifier: MIT
/**
 * The usual kernel in one call: the other rooms, in the order in which a kernel would bring them
 * up, and in reverse to take them down. No logic of its own may live here.
 *
 * What is written before the kernel's root is active is reached through the boot loader's map. So
 * the metadata and the tables of that root come from the memory that the caller says is mapped; the
 * limit is lifted when the root, with all of RAM in its direct map, is active.
 */
#include "core/base/mem.h"
#include <mm/system.h>

#define SYSTEM_MAGIC UINT32_C(0x6d6d5379) /* "mmSy" */

static mm_status_t start_frames(struct mm_system *system, const struct mm_system_config *config)
{
    const struct mm_frames_config frames = {
        .map = config->map,
        .physmap = config->physmap,
        .platform = config->platform,
        .nr_cpus = config->nr_cpus,
        .flags = MM_FRAMES_REFCOUNTS | MM_FRAMES_OWNERS,
        .numa = config->numa,
        .cpu_nodes = config->cpu_nodes,
        .later_kinds = config->later_kinds,
        .nr_reserve = config->nr_reserve,
        .nr_kernel = config->nr_kernel,
        .ops = config->frame_ops,
        .ops_ctx = config->frame_ops_ctx,
    };
    mm_status_t status = mm_frame_init_from_map(&system->frames, &frames, config->mapped);

    if (status == MM_OK) {
        system->map = config->map;
        system->window = (struct mm_frame_window){.frames = &system->frames,
                                                  .lowest = config->mapped.start,
                                                  .highest = mm_prange_last(config->mapped)};
    }
    return status;
}

static mm_status_t map_devices(struct mm_system *system, const struct mm_system_config *config)
{
    for (uint32_t i = 0; i < config->nr_devices; i++) {
        const struct mm_system_device *device = &config->devices[i];
        mm_status_t status = mm_paging_map(&system->kernel, device->range, device->paddr,
                                           MM_PROT_RW, device->type, 0);

        if (status != MM_OK) {
            return status;
        }
    }
    return MM_OK;
}

static mm_status_t start_paging(struct mm_system *system, const struct mm_system_config *config)
{
    struct mm_paging_config paging = {
        .backend = config->backend,
        .physmap = config->physmap,
        .source = mm_frame_source_within(&system->window),
        .platform = config->platform,
        .kernel_ranges = config->kernel_ranges,
        .nr_kernel_ranges = config->nr_kernel_ranges,
        .user = config->user,
        .tlb = config->tlb,
    };
    mm_status_t status = mm_paging_init_kernel(&system->kernel, &paging);

    if (status == MM_OK) {
        status = mm_paging_map_direct(&system->kernel, config->map, config->physmap,
                                      config->sections, config->nr_sections);
    }
    if (status == MM_OK && config->nr_sections != 0) {
        status = mm_paging_map_sections(&system->kernel, config->sections, config->nr_sections);
    }
    if (status == MM_OK) {
        status = map_devices(system, config);
    }
    if (status == MM_OK && config->tlb != NULL) {
        status = mm_tlb_online(config->tlb);
    }
    if (status == MM_OK) {
        system->root_before = mm_paging_current_root(config->backend);
        status = mm_paging_activate(&system->kernel);
    }
    if (status == MM_OK) {
        system->active = 1;
        system->window.lowest = mm_paddr(0);
        system->window.highest = mm_paddr(0);
    }
    return status;
}

static bool is_mapped(void *ctx, const struct mm_mapping *leaf)
{
    bool *any = ctx;

    (void)leaf;
    *any = true;
    return false;
}

/* The arena, and the window of samples, take addresses that nobody else has: no leaf is there yet,
 * nor will a space put any. */
static mm_status_t check_alone(struct mm_system *system, const struct mm_system_config *config,
                               struct mm_vrange range)
{
    bool any =
        mm_vrange_overlaps(range, config->kernel_space) || mm_vrange_overlaps(range, config->user);
    mm_status_t status = mm_paging_walk(&system->kernel, range, is_mapped, &any);

    return status == MM_OK && any ? MM_ERR_ALREADY_MAPPED : status;
}

static mm_status_t start_arena(struct mm_system *system, const struct mm_system_config *config)
{
    const struct mm_system_arena *arena = &config->arena;
    struct mm_kva_config kva = {.kernel = &system->kernel,
                                .frames = &system->frames,
                                .physmap = config->physmap,
                                .pool = &system->pool,
                                .platform = config->platform,
                                .range = arena->range,
                                .guard_pages = arena->guard_pages,
                                .red_zone_pages = arena->red_zone_pages,
                                .nr_stacks = arena->nr_stacks,
                                .nr_reserve_tables = arena->nr_reserve_tables,
                                .purge_pages = arena->purge_pages,
                                .ops = arena->ops,
                                .ctx = arena->ops_ctx};
    struct mm_percpu_config percpu = {.kva = &system->kva,
                                      .start = arena->percpu,
                                      .len = arena->percpu_len,
                                      .nr_cpus = config->nr_cpus,
                                      .cpu_nodes = config->cpu_nodes};
    mm_status_t status = mm_kva_init(&system->kva, &kva);

    if (status == MM_OK) {
        status = check_alone(system, config, arena->range);
    }
    if (status == MM_OK && (arena->percpu != NULL || arena->percpu_len != 0)) {
        status = mm_percpu_init(&system->percpu, &percpu);
    }
    return status;
}

static mm_status_t start_pool(struct mm_system *system, const struct mm_system_config *config)
{
    struct mm_pool_config pool = {.platform = config->platform, .nr_cpus = config->nr_cpus};
    mm_status_t status = mm_page_frames_init(&system->pages, &system->frames, config->physmap);

    if (status == MM_OK) {
        pool.source = mm_page_source_frames(&system->pages);
        status = mm_pool_init(&system->pool, &pool);
    }
    return status;
}

/* Its large objects, if they are to lie in the arena, are of a pool of their own; its samples lie
 * where nothing else does. */
static mm_status_t start_heap(struct mm_system *system, const struct mm_system_config *config)
{
    struct mm_pool_config pool = {.source = mm_page_source_kva(&system->kva),
                                  .platform = config->platform,
                                  .nr_cpus = config->nr_cpus};
    struct mm_heap_config heap = config->heap;
    struct mm_vrange samples = mm_vrange(mm_vaddr(heap.guards.base), heap.guards.len);
    mm_status_t status = MM_OK;

    heap.large_size = config->arena.large_size;
    if (heap.large_size != 0) {
        heap.large = &system->large;
        status = mm_pool_init(&system->large, &pool);
    }
    if (status == MM_OK) {
        status = mm_heap_init(&system->heap, &system->pool, &heap);
    }
    if (status == MM_OK && heap.sample_every != 0) {
        status = mm_vrange_overlaps(samples, config->arena.range)
                     ? MM_ERR_ALREADY_MAPPED
                     : check_alone(system, config, samples);
    }
    return status;
}

static mm_status_t start_users(struct mm_system *system, const struct mm_system_config *config)
{
    struct mm_spaces_config spaces = {
        .frames = &system->frames,
        .physmap = config->physmap,
        .kernel = &system->kernel,
        .pool = &system->pool,
        .platform = config->platform,
        .kernel_range = config->kernel_space,
        .kva = config->arena.range.len != 0 ? &system->kva : NULL,
        .commit = config->commit,
        .commit_pages = config->commit_pages,
    };
    struct mm_dma_config dma = {
        .frames = &system->frames, .physmap = config->physmap, .platform = config->platform};
    mm_status_t status = MM_OK;

    if (config->user.len != 0 || config->kernel_space.len != 0) {
        status = mm_spaces_init(&system->spaces, &spaces);
    }
    if (status == MM_OK && config->user_ops != NULL) {
        status = mm_user_init(&system->user, config->user_ops, config->user);
    }
    if (status == MM_OK) {
        status = mm_dma_init(&system->dma, &dma);
    }
    return status;
}

/* Bytes that a cache of the spaces or of the arena, if there are any, has in slabs. */
static uint64_t slab_bytes(const struct mm_cache *cache)
{
    struct mm_cache_stats stats = {0};

    return mm_cache_get_stats(cache, &stats) == MM_OK ? stats.slab_bytes : 0;
}

/* Whether a CPU besides one, which is this, runs on the kernel's root. */
static bool others_online(const struct mm_system *system)
{
    struct mm_cpu_mask cpus;
    uint64_t seen = 0;

    if (mm_tlb_cpus(&system->kernel, &cpus) != MM_OK) {
        return false; /* there is no tlb */
    }
    for (unsigned word = 0; word < MM_MAX_CPUS / 64; word++) {
        uint64_t bits = cpus.bits[word];

        if (bits != 0 && (seen != 0 || (bits & (bits - 1)) != 0)) {
            return true;
        }
        seen |= bits;
    }
    return false;
}

/*
 * Whether a range of the arena, in which nothing waits for a purge, is somebody's. The areas are
 * the system's, and so are the pages of the large pool, as many as that says.
 */
static bool arena_in_use(const struct mm_system *system, const struct mm_kva_stats *kva)
{
    bool has_large = system->large.source.ops != NULL;
    struct mm_pool_stats large = {0};

    if (has_large && (mm_pool_get_stats(&system->large, &large) != MM_OK || large.nr_users != 1)) {
        return true; /* a cache of its user's, or it does not answer */
    }
    for (unsigned kind = 0; kind < MM_KVA_KINDS; kind++) {
        uint64_t areas = system->percpu.nr_cpus != 0 ? 1 : 0;
        uint64_t ours = kind == MM_KVA_PERCPU ? areas : 0;

        if (kind == MM_KVA_PAGES ? kva->nr_pages[kind] != large.nr_meta_pages
                                 : kva->nr_ranges[kind] != ours) {
            return true;
        }
    }
    return false;
}

/*
 * Whether a room holds what its user has not given back: then nothing can be taken down. DMA is not
 * asked: it is the first to be taken down, and refuses by itself.
 */
static bool in_use(struct mm_system *system)
{
    struct mm_heap_stats heap = {0};
    struct mm_pool_stats pool = {0};
    struct mm_spaces_stats spaces = {0};
    struct mm_kva_stats kva = {0};
    uint32_t ours = 1; /* users of the pool: the heap, and the caches of spaces and of the arena */

    if (others_online(system)) {
        return true;
    }
    /* Without spaces the counts stay 0. */
    if (mm_spaces_get_stats(&system->spaces, &spaces) == MM_OK &&
        (spaces.nr_spaces != 0 || spaces.nr_kernel_refs != 0)) {
        return true;
    }
    ours += spaces.nr_caches + (mm_kva_get_stats(&system->kva, &kva) == MM_OK ? 1 : 0);
    if (mm_heap_get_stats(&system->heap, &heap) != MM_OK || heap.nr_objects != 0 ||
        mm_pool_get_stats(&system->pool, &pool) != MM_OK || pool.nr_users != ours) {
        return true;
    }
    (void)mm_kva_reclaim(&system->kva); /* what was freed is nobody's */
    if (mm_kva_get_stats(&system->kva, &kva) == MM_OK && arena_in_use(system, &kva)) {
        return true;
    }
    /* What is left is slabs without objects, and the pool's own: other pages are somebody's. */
    return system->pages.nr_pages_out * MM_PAGE_SIZE !=
           pool.nr_meta_pages * MM_PAGE_SIZE + heap.slab_bytes + heap.kept_bytes +
               slab_bytes(&system->spaces.space_cache) + slab_bytes(&system->spaces.region_cache) +
               slab_bytes(&system->spaces.bucket_cache) + slab_bytes(&system->spaces.claim_cache) +
               slab_bytes(&system->kva.nodes);
}

/*
 * Each room answers MM_ERR_NOT_INITIALIZED if it never came up: then there is nothing to undo.
 * Nothing else can be answered once in_use() said no.
 */
static bool stopped(mm_status_t status)
{
    return status == MM_OK || status == MM_ERR_NOT_INITIALIZED;
}

static bool stop(struct mm_system *system, struct mm_paging_backend backend)
{
    bool ok =
        stopped(mm_dma_destroy(&system->dma)) && stopped(mm_spaces_destroy(&system->spaces)) &&
        stopped(mm_heap_destroy(&system->heap)) && stopped(mm_pool_destroy(&system->large)) &&
        stopped(mm_percpu_destroy(&system->percpu)) && stopped(mm_kva_destroy(&system->kva)) &&
        stopped(mm_pool_destroy(&system->pool)) && stopped(mm_page_frames_destroy(&system->pages));

    if (ok && system->active != 0) {
        ok = stopped(mm_paging_load_root(backend, system->root_before));
    }
    if (ok && system->kernel.tlb != NULL) {
        ok = stopped(mm_tlb_offline(system->kernel.tlb));
    }
    return ok && stopped(mm_paging_destroy(&system->kernel)) &&
           stopped(mm_frame_destroy_to_map(&system->frames, system->map));
}

/* Something is to lie in an arena that is not there. */
static bool wants_no_arena(const struct mm_system_arena *arena)
{
    return arena->range.len == 0 &&
           (arena->large_size != 0 || arena->percpu != NULL || arena->percpu_len != 0);
}

mm_status_t mm_system_init(struct mm_system *system, const struct mm_system_config *config)
{
    mm_status_t status;

    if (system == NULL || config == NULL ||
        (config->sections == NULL && config->nr_sections != 0) ||
        (config->devices == NULL && config->nr_devices != 0) || wants_no_arena(&config->arena) ||
        config->heap.large != NULL || config->heap.large_size != 0) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (system->magic == SYSTEM_MAGIC) {
        return MM_ERR_ALREADY_INITIALIZED;
    }
    status = start_frames(system, config);
    if (status == MM_OK) {
        status = start_paging(system, config);
    }
    if (status == MM_OK) {
        status = start_pool(system, config);
    }
    if (status == MM_OK && config->arena.range.len != 0) {
        status = start_arena(system, config);
    }
    if (status == MM_OK) {
        status = start_heap(system, config);
    }
    if (status == MM_OK) {
        status = start_users(system, config);
    }
    if (status == MM_OK) {
        system->magic = SYSTEM_MAGIC;
        return MM_OK;
    }
    (void)stop(system, config->backend);
    memset(system, 0, sizeof(*system));
    return status;
}

mm_status_t mm_system_destroy(struct mm_system *system)
{
    if (system == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (system->magic != SYSTEM_MAGIC) {
        return MM_ERR_NOT_INITIALIZED;
    }
    if (in_use(system) || !stop(system, system->kernel.backend)) {
        return MM_ERR_BUSY;
    }
    memset(system, 0, sizeof(*system));
    return MM_OK;
}

mm_status_t mm_system_check(struct mm_system *system)
{
    mm_status_t status;

    if (system == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (system->magic != SYSTEM_MAGIC) {
        return MM_ERR_NOT_INITIALIZED;
    }
    status = mm_frame_check(&system->frames);
    if (status == MM_OK) {
        status = mm_paging_check(&system->kernel);
    }
    if (status == MM_OK && system->kva.kernel != NULL) {
        status = mm_kva_check(&system->kva);
    }
    if (status == MM_OK) {
        status = mm_heap_check(&system->heap);
    }
    if (status == MM_OK && mm_space_kernel(&system->spaces) != NULL) {
        status = mm_space_check(mm_space_kernel(&system->spaces));
    }
    if (status == MM_OK && system->spaces.frames != NULL) {
        status = mm_spaces_check(&system->spaces);
    }
    return status;
}
