// SPDX-License-Identifier: MIT
/**
 * Calls of the heap room below the general heap: page sources, pools, object caches.
 */
#include "calls.h"

#include <string.h>

#define PAGE UINT64_C(4096)

/* --- page sources ------------------------------------------------------------------------------ */

static int do_range_init(const uint64_t *a)
{
    return (int)mm_page_range_init(T_P(0), T_P(1), a[2]);
}

static int do_range_destroy(const uint64_t *a)
{
    return (int)mm_page_range_destroy(T_P(0));
}

static int do_source_range(const uint64_t *a)
{
    return T_NONZERO(mm_page_source_range(T_P(0)).ops != NULL);
}

static int do_frames_init(const uint64_t *a)
{
    return (int)mm_page_frames_init(T_P(0), T_P(1), T_P(2));
}

static int do_frames_destroy(const uint64_t *a)
{
    return (int)mm_page_frames_destroy(T_P(0));
}

static int do_source_frames(const uint64_t *a)
{
    return T_NONZERO(mm_page_source_frames(T_P(0)).ops != NULL);
}

/* --- pools ------------------------------------------------------------------------------------- */

static int do_pool_init(const uint64_t *a)
{
    struct mm_pool_config config = t_world_pool_config();

    config.source.ops = a[2] == 0 ? NULL : config.source.ops;
    config.source.base = a[3] == 1 ? config.source.base : a[3];
    config.source.len = a[4];
    config.nr_cpus = T_W32(5);
    config.flags = T_W32(6);
    return (int)mm_pool_init(T_P(0), a[1] == 0 ? NULL : &config);
}

static int do_pool_destroy(const uint64_t *a)
{
    return (int)mm_pool_destroy(T_P(0));
}

static int do_pool_get_stats(const uint64_t *a)
{
    return (int)mm_pool_get_stats(T_P(0), T_P(1));
}

/* --- caches ------------------------------------------------------------------------------------ */

static int do_init_tier(const uint64_t *a)
{
    struct mm_cache_config config = {
        .size = 40, .tier = (enum mm_heap_tier)T_W32(2), .quarantine = T_W32(3)};

    return (int)mm_cache_init(T_P(0), T_P(1), &config);
}

static int do_init_constructed(const uint64_t *a)
{
    struct mm_cache_config config = {
        .size = 40, .tier = MM_HEAP_HARDENED, .construct = t_world_construct};

    return (int)mm_cache_init(T_P(0), T_P(1), &config);
}

static int do_init(const uint64_t *a)
{
    struct mm_cache_config config = {
        .size = a[3], .align = a[4], .construct = t_world_construct, .flags = T_W32(5)};

    return (int)mm_cache_init(T_P(0), T_P(1), a[2] == 0 ? NULL : &config);
}

static int do_destroy(const uint64_t *a)
{
    return (int)mm_cache_destroy(T_P(0));
}

static int do_alloc(const uint64_t *a)
{
    return T_NONZERO(mm_cache_alloc(T_P(0)));
}

static int do_alloc_on(const uint64_t *a)
{
    return T_NONZERO(mm_cache_alloc_on(T_P(0), T_W32(1)));
}

/* All of them, or the call is told as one that failed: then what it gave is given back. */
static int do_alloc_bulk(const uint64_t *a)
{
    void *objects[300];
    uint64_t nr = mm_cache_alloc_bulk(T_P(0), T_W32(1), a[2], a[3] == 0 ? NULL : objects);

    if (nr != 0 && nr == a[2]) {
        return MM_OK;
    }
    mm_cache_free_bulk(T_P(0), nr, objects);
    return T_EMPTY;
}

static int do_free_bulk(const uint64_t *a)
{
    void *objects[3] = {NULL, T_P(2), NULL};

    return T_MADE(mm_cache_free_bulk(T_P(0), a[1], objects));
}

static int do_free_on(const uint64_t *a)
{
    return T_MADE(mm_cache_free_on(T_P(0), T_W32(1), T_P(2)));
}

static int do_free(const uint64_t *a)
{
    return T_MADE(mm_cache_free(T_P(0), T_P(1)));
}

static int do_alloc_from(const uint64_t *a)
{
    return T_NONZERO(mm_cache_alloc_from(T_P(0), T_P(1)));
}

static int do_free_from(const uint64_t *a)
{
    return T_MADE(mm_cache_free_from(T_P(0), T_P(1), T_P(2)));
}

static int do_reclaim(const uint64_t *a)
{
    return T_NONZERO(mm_cache_reclaim(T_P(0)));
}

static int do_get_stats(const uint64_t *a)
{
    return (int)mm_cache_get_stats(T_P(0), T_P(1));
}

static int do_check(const uint64_t *a)
{
    return (int)mm_cache_check(T_P(0));
}

/* --- set-ups ----------------------------------------------------------------------------------- */

static void corrupt(void)
{
    t_w.cache.objects.nr_slabs++;
}

static void range_page_out(void)
{
    struct mm_page_source source = mm_page_source_range(&t_w.spare.range);
    void *page;

    (void)!source.ops->alloc(source.ctx, 1, 1, 0, &page);
}

/* All objects of the slab are out, so that the next one needs another slab. */
static void slab_full(void)
{
    struct mm_cache_stats stats;

    do {
        (void)mm_cache_alloc(&t_w.cache);
    } while (mm_cache_get_stats(&t_w.cache, &stats) == MM_OK && stats.nr_free != 0);
}

static void empty_slabs(void)
{
    void *objects[300];

    for (unsigned i = 0; i < 300; i++) {
        objects[i] = mm_cache_alloc(&t_w.cache);
    }
    for (unsigned i = 0; i < 300; i++) {
        mm_cache_free(&t_w.cache, objects[i]);
    }
}

/* --- values ------------------------------------------------------------------------------------ */

static unsigned buffers(uint64_t *v)
{
    v[0] = (uint64_t)(uintptr_t)t_w.range_buffer + 4 * PAGE;
    v[1] = 0;
    v[2] = v[0] + 1;
    return 3;
}

static unsigned buffer_lengths(uint64_t *v)
{
    static const uint64_t all[] = {
        4 * PAGE, 0, 1, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE - 1, UINT64_MAX, UINT64_MAX - PAGE};

    memcpy(v, all, sizeof(all));
    return sizeof(all) / sizeof(all[0]);
}

static unsigned quarantines(uint64_t *v)
{
    v[0] = 16;
    v[1] = MM_HEAP_QUARANTINE_MAX + 1;
    v[2] = UINT32_MAX;
    return 3;
}

static unsigned pool_bases(uint64_t *v)
{
    static const uint64_t all[] = {
        1, /* the right one */
        0, PAGE + 1, (UINT64_C(1) << 47) - 1, UINT64_C(1) << 47, UINT64_MAX - PAGE + 1, UINT64_MAX};

    memcpy(v, all, sizeof(all));
    return sizeof(all) / sizeof(all[0]);
}

static unsigned cpu_counts(uint64_t *v)
{
    v[0] = 2;
    v[1] = 0;
    v[2] = MM_MAX_CPUS;
    v[3] = MM_MAX_CPUS + 1;
    v[4] = UINT32_MAX;
    return 5;
}

static unsigned physmaps(uint64_t *v)
{
    v[0] = (uint64_t)(uintptr_t)&t_w.physmap;
    v[1] = 0;
    v[2] = (uint64_t)(uintptr_t)&t_w.physmap_ops;
    v[3] = (uint64_t)(uintptr_t)&t_w.physmap_short;
    return 4;
}

static unsigned objects(uint64_t *v)
{
    v[0] = (uint64_t)(uintptr_t)t_w.cache_object;
    v[1] = 0;
    v[2] = (uint64_t)(uintptr_t)t_w.cache_freed;
    v[3] = v[0] + 8;
    v[4] = v[0] + 1;
    v[5] = (uint64_t)(uintptr_t)t_w.heap_object;
    v[6] = (uint64_t)(uintptr_t)t_w.heap_run;
    v[7] = (uint64_t)(uintptr_t)&t_w.cpu;
    v[8] = 1;
    v[9] = (UINT64_C(1) << 47) - 1;
    v[10] = (UINT64_C(1) << 47) + 1;
    v[11] = (UINT64_C(1) << 56) - 1;
    v[12] = UINT64_MAX;
    return 13;
}

/** Whom a wrapper names; any value will do. */
#define CALLER UINT64_C(0xffffffff81000000)

#define FRESH_CONFIG(size)                                                                         \
    T_GIVEN("config"), T_NUM("size", size), T_NUM("align", 0), T_BITS("flags", 0, MM_HEAP_CALLERS)

static const struct t_call pool[] = {
    {.name = "mm_page_range_init",
     .invoke = do_range_init,
     .args = {T_FRESH_(range, range), T_OF("base", buffers), T_OF("len", buffer_lengths)}},
    {.name = "mm_page_range_destroy",
     .invoke = do_range_destroy,
     .args = {T_LIVE_GONE(spare.range, range)}},
    {.name = "mm_page_range_destroy",
     .note = "a page is out",
     .invoke = do_range_destroy,
     .setup = range_page_out,
     .flags = T_BAD_ONLY,
     .args = {T_LIVE_(spare.range)}},
    {.name = "mm_page_source_range",
     .invoke = do_source_range,
     .args = {T_LIVE_GONE(range, range)}},
    {.name = "mm_page_frames_init",
     .invoke = do_frames_init,
     .args = {T_FRESH_(pages, pages), T_LIVE_GONE(frames, frames), T_OF("physmap", physmaps)}},
    {.name = "mm_page_frames_destroy",
     .invoke = do_frames_destroy,
     .args = {T_LIVE_GONE(spare.pages, pages)}},
    {.name = "mm_page_frames_destroy",
     .note = "a page is out",
     .invoke = do_frames_destroy,
     .flags = T_BAD_ONLY,
     .args = {T_LIVE_(pages)}},
    {.name = "mm_page_source_frames",
     .invoke = do_source_frames,
     .args = {T_LIVE_GONE(pages, pages)}},
    {.name = "mm_pool_init",
     .note = "a table with a page of its own",
     .invoke = do_pool_init,
     .flags = T_CAN_FAIL | T_VARIANT,
     .scarce = t_world_pool_pages,
     .args = {T_FRESH_(pool, pool), T_GIVEN("config"), T_GIVEN("source"), T_OF("base", pool_bases),
              T_NUM("len", UINT64_C(1) << 40), T_OF("nr_cpus", cpu_counts), T_BITS("flags", 0, 0)}},
    {.name = "mm_pool_init",
     .invoke = do_pool_init,
     .args = {T_FRESH_(pool, pool), T_GIVEN("config"), T_GIVEN("source"), T_OF("base", pool_bases),
              T_NUM("len", T_POOL_LEN), T_OF("nr_cpus", cpu_counts), T_BITS("flags", 0, 0)}},
    {.name = "mm_pool_destroy", .invoke = do_pool_destroy, .args = {T_LIVE_GONE(spare.pool, pool)}},
    {.name = "mm_pool_destroy",
     .note = "caches are alive",
     .invoke = do_pool_destroy,
     .flags = T_BAD_ONLY,
     .args = {T_LIVE_(pool)}},
    {.name = "mm_pool_get_stats",
     .invoke = do_pool_get_stats,
     .args = {T_LIVE_GONE(pool, pool), T_OUT}},
    {.name = "mm_cache_init",
     .invoke = do_init,
     .args = {T_FRESH_(cache, cache), T_LIVE_GONE(pool, pool), FRESH_CONFIG(40)}},
    {.name = "mm_cache_init",
     .note = "many CPUs",
     .invoke = do_init,
     .setup = t_world_many_cpus,
     .flags = T_CAN_FAIL | T_VARIANT,
     .scarce = t_world_pool_pages,
     .args = {T_FRESH_(cache, cache), T_LIVE_(spare.pool), FRESH_CONFIG(40)}},
    {.name = "mm_cache_init",
     .note = "hardened",
     .invoke = do_init_tier,
     .flags = T_CAN_FAIL,
     .scarce = t_world_pool_pages,
     .args = {T_FRESH_(cache, cache), T_LIVE_GONE(pool, pool), T_ENUM("tier", MM_HEAP_HARDENED, 3),
              T_BAD_OF("quarantine", quarantines)}},
    {.name = "mm_cache_init",
     .note = "hardened, with a constructor",
     .invoke = do_init_constructed,
     .flags = T_BAD_ONLY,
     .args = {T_FRESH_(cache, cache), T_LIVE_(pool)}},
    {.name = "mm_cache_destroy", .invoke = do_destroy, .args = {T_LIVE_GONE(spare.cache, cache)}},
    {.name = "mm_cache_destroy",
     .note = "an object is out",
     .invoke = do_destroy,
     .flags = T_BAD_ONLY,
     .args = {T_LIVE_(cache)}},
    {.name = "mm_cache_alloc", .invoke = do_alloc, .args = {T_LIVE_GONE(cache, cache)}},
    {.name = "mm_cache_alloc",
     .note = "a new slab",
     .invoke = do_alloc,
     .setup = slab_full,
     .flags = T_CAN_FAIL | T_VARIANT,
     .scarce = t_world_pool_pages,
     .args = {T_LIVE_(cache)}},
    {.name = "mm_cache_alloc",
     .note = "the first slab",
     .invoke = do_alloc,
     .flags = T_CAN_FAIL | T_VARIANT,
     .scarce = t_world_pool_pages,
     .args = {T_LIVE_(spare.cache)}},
    {.name = "mm_cache_alloc",
     .note = "the first of a pool",
     .invoke = do_alloc,
     .flags = T_CAN_FAIL | T_VARIANT,
     .scarce = t_world_pool_pages,
     .args = {T_LIVE_(cold_cache)}},
    {.name = "mm_cache_alloc_on",
     .invoke = do_alloc_on,
     .args = {T_LIVE_GONE(cache, cache), T_U32("cpu", 0)}},
    {.name = "mm_cache_alloc_on",
     .note = "a new slab",
     .invoke = do_alloc_on,
     .setup = slab_full,
     .flags = T_CAN_FAIL | T_VARIANT,
     .scarce = t_world_pool_pages,
     .args = {T_LIVE_(cache), T_U32("cpu", 1)}},
    {.name = "mm_cache_alloc_from",
     .invoke = do_alloc_from,
     .args = {T_LIVE_GONE(cache, cache), T_NUM("caller", CALLER)}},
    {.name = "mm_cache_alloc_from",
     .note = "the first of a pool, for who calls",
     .invoke = do_alloc_from,
     .flags = T_CAN_FAIL | T_VARIANT,
     .scarce = t_world_pool_pages,
     .args = {T_LIVE_(cold_cache), T_NUM("caller", 0)}},
    {.name = "mm_cache_alloc_bulk",
     .invoke = do_alloc_bulk,
     .flags = T_CAN_FAIL,
     .scarce = t_world_pool_pages,
     .args = {T_LIVE_GONE(cache, cache), T_U32("cpu", 0), T_UPTO("nr", 300, 300),
              T_GIVEN("objects")}},
    {.name = "mm_cache_alloc_bulk",
     .note = "the first of a pool",
     .invoke = do_alloc_bulk,
     .flags = T_CAN_FAIL | T_VARIANT,
     .scarce = t_world_pool_pages,
     .args = {T_LIVE_(cold_cache), T_U32("cpu", 1), T_UPTO("nr", 200, 300), T_GIVEN("objects")}},
    {.name = "mm_cache_free_bulk",
     .invoke = do_free_bulk,
     .panics = "heap",
     .args = {T_LIVE_GONE(cache, cache), T_UPTO("nr", 3, 3), T_OF("object", objects)}},
    {.name = "mm_cache_free",
     .invoke = do_free,
     .panics = "heap",
     .args = {T_LIVE_GONE(cache, cache), T_OF("object", objects)}},
    {.name = "mm_cache_free_on",
     .invoke = do_free_on,
     .panics = "heap",
     .args = {T_LIVE_GONE(cache, cache), T_U32("cpu", 0), T_OF("object", objects)}},
    {.name = "mm_cache_free_from",
     .invoke = do_free_from,
     .panics = "heap",
     .args = {T_LIVE_GONE(cache, cache), T_OF("object", objects), T_NUM("caller", CALLER)}},
    {.name = "mm_cache_reclaim",
     .invoke = do_reclaim,
     .setup = empty_slabs,
     .args = {T_LIVE_GONE(cache, cache)}},
    {.name = "mm_cache_get_stats",
     .invoke = do_get_stats,
     .args = {T_LIVE_GONE(cache, cache), T_OUT}},
    {.name = "mm_cache_check", .invoke = do_check, .args = {T_LIVE_GONE(cache, cache)}},
    {.name = "mm_cache_check",
     .note = "it contradicts itself",
     .invoke = do_check,
     .setup = corrupt,
     .flags = T_BAD_ONLY,
     .args = {T_LIVE_(cache)}},
};

const struct t_call_list t_calls_pool = T_CALL_LIST(pool);
