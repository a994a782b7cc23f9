// SPDX-License-Identifier: MIT
/**
 * Calls of the general heap.
 */
#include "calls.h"

#include <string.h>

#define PAGE UINT64_C(4096)

static int do_init(const uint64_t *a)
{
    struct mm_heap_config config = {.flags = T_W32(2)};

    return (int)mm_heap_init(T_P(0), T_P(1), &config);
}

static int do_init_large(const uint64_t *a)
{
    struct mm_heap_config config = {.large = T_P(2),
                                    .large_size = a[3],
                                    .flags = T_W32(4),
                                    .tier = (enum mm_heap_tier)T_W32(5)};

    return (int)mm_heap_init(T_P(0), T_P(1), &config);
}

static int do_init_reserve(const uint64_t *a)
{
    struct mm_heap_config config = {.nr_reserve = T_W32(2), .reserve_size = a[3], .zero = T_W32(4)};

    return (int)mm_heap_init(T_P(0), T_P(1), &config);
}

/* The guards' ops are never called: nothing is allocated. */
static mm_status_t no_page(void *ctx, void *page)
{
    (void)ctx;
    (void)page;
    return MM_ERR_NO_MEMORY;
}

static void no_close(void *ctx, void *page)
{
    (void)ctx;
    (void)page;
}

static int do_init_tier(const uint64_t *a)
{
    struct mm_heap_guard_ops ops = {.open = a[3] != 0 ? no_page : NULL,
                                    .close = a[4] != 0 ? no_close : NULL};
    struct mm_heap_config config = {.tier = MM_HEAP_HARDENED,
                                    .quarantine = T_W32(2),
                                    .sample_every = 5,
                                    .guards = {&ops, NULL, a[5], a[6]}};

    return (int)mm_heap_init(T_P(0), T_P(1), &config);
}

static int do_destroy(const uint64_t *a)
{
    return (int)mm_heap_destroy(T_P(0));
}

static int do_alloc(const uint64_t *a)
{
    return T_NONZERO(mm_heap_alloc(T_P(0), a[1]));
}

static int do_alloc_on(const uint64_t *a)
{
    return T_NONZERO(mm_heap_alloc_on(T_P(0), T_W32(1), a[2]));
}

static int do_alloc_zeroed(const uint64_t *a)
{
    return T_NONZERO(mm_heap_alloc_zeroed(T_P(0), a[1]));
}

static int do_alloc_aligned(const uint64_t *a)
{
    return T_NONZERO(mm_heap_alloc_aligned(T_P(0), a[1], a[2]));
}

static int do_alloc_with(const uint64_t *a)
{
    return T_NONZERO(mm_heap_alloc_with(T_P(0), a[1], a[2], T_W32(3)));
}

static int do_alloc_from(const uint64_t *a)
{
    return T_NONZERO(mm_heap_alloc_from(T_P(0), a[1], a[2], T_W32(3), T_P(4)));
}

static int do_realloc_from(const uint64_t *a)
{
    return T_NONZERO(mm_heap_realloc_from(T_P(0), T_P(1), a[2], T_P(3)));
}

static int do_free_from(const uint64_t *a)
{
    return T_MADE(mm_heap_free_from(T_P(0), T_P(1), T_P(2)));
}

static int do_free_sized_from(const uint64_t *a)
{
    return T_MADE(mm_heap_free_sized_from(T_P(0), T_P(1), a[2], a[3], T_P(4)));
}

static int do_alloc_array(const uint64_t *a)
{
    return T_NONZERO(mm_heap_alloc_array(T_P(0), a[1], a[2], T_W32(3)));
}

static int do_realloc_array(const uint64_t *a)
{
    return T_NONZERO(mm_heap_realloc_array(T_P(0), T_P(1), a[2], a[3]));
}

static int do_free_sized(const uint64_t *a)
{
    return T_MADE(mm_heap_free_sized(T_P(0), T_P(1), a[2], a[3]));
}

static int do_region_init(const uint64_t *a)
{
    return (int)mm_heap_region_init(T_P(0), T_P(1), a[2]);
}

static int do_region_destroy(const uint64_t *a)
{
    return (int)mm_heap_region_destroy(T_P(0));
}

static int do_realloc(const uint64_t *a)
{
    return T_NONZERO(mm_heap_realloc(T_P(0), T_P(1), a[2]));
}

static int do_free(const uint64_t *a)
{
    return T_MADE(mm_heap_free(T_P(0), T_P(1)));
}

static int do_free_on(const uint64_t *a)
{
    return T_MADE(mm_heap_free_on(T_P(0), T_W32(1), T_P(2)));
}

static int do_usable_size(const uint64_t *a)
{
    return T_NONZERO(mm_heap_usable_size(T_P(0), T_P(1)));
}

static int do_reclaim(const uint64_t *a)
{
    return T_NONZERO(mm_heap_reclaim(T_P(0)));
}

static int do_get_stats(const uint64_t *a)
{
    return (int)mm_heap_get_stats(T_P(0), T_P(1));
}

static int do_check(const uint64_t *a)
{
    return (int)mm_heap_check(T_P(0));
}

/* --- set-ups and values ------------------------------------------------------------------------ */

static void corrupt(void)
{
    t_w.heap.classes[0].nr_slabs++;
}

static void empty_slabs(void)
{
    void *objects[40];

    for (unsigned i = 0; i < 40; i++) {
        objects[i] = mm_heap_alloc(&t_w.heap, 2000);
    }
    for (unsigned i = 0; i < 40; i++) {
        mm_heap_free(&t_w.heap, objects[i]);
    }
}

/* The spare heap has something set aside; whether all of the rest is used up the driver says. */
static void reserve(void)
{
    struct mm_heap_config config = {.nr_reserve = 1, .reserve_size = 6000};

    (void)!mm_heap_destroy(&t_w.spare.heap);
    (void)!mm_heap_init(&t_w.spare.heap, &t_w.pool, &config);
}

static void region_object(void)
{
    (void)!mm_heap_alloc(&t_w.spare.heap_region.heap, 100);
}

static void region_page(void)
{
    struct mm_page_source source = mm_page_source_range(&t_w.spare.heap_region.range);
    void *page;

    (void)!source.ops->alloc(source.ctx, 1, 1, 0, &page);
}

static void region_cache(void)
{
    struct mm_cache_config config = {.size = 100};

    (void)!mm_cache_init(&t_w.fresh.cache, &t_w.spare.heap_region.pool, &config);
}

static unsigned large_pools(uint64_t *v)
{
    v[0] = (uint64_t)(uintptr_t)&t_w.cold_pool;
    v[1] = 0;
    v[2] = (uint64_t)(uintptr_t)&t_w.pool; /* it is the own one */
    v[3] = (uint64_t)(uintptr_t)&t_w.never;
    v[4] = (uint64_t)(uintptr_t)&t_w.gone.pool;
    return 5;
}

static unsigned large_sizes(uint64_t *v)
{
    v[0] = 4 * PAGE;
    v[1] = 0;
    v[2] = 1;
    v[3] = MM_HEAP_MAX_SLAB_SIZE;
    return 4;
}

static unsigned reserve_counts(uint64_t *v)
{
    v[0] = 2;
    v[1] = 0;
    return 2;
}

static unsigned reserve_sizes(uint64_t *v)
{
    v[0] = 6000;
    v[1] = 0;
    v[2] = MM_HEAP_MAX_RESERVE_SIZE + 1;
    v[3] = UINT64_MAX;
    return 4;
}

static unsigned always_zero(uint64_t *v)
{
    v[0] = 0;
    v[1] = 1;
    v[2] = UINT32_MAX;
    return 3;
}

static unsigned region_buffers(uint64_t *v)
{
    v[0] = (uint64_t)(uintptr_t)t_w.region_buffer + 4 * PAGE;
    v[1] = 0;
    v[2] = v[0] + 1;
    v[3] = UINT64_MAX - PAGE + 1;
    return 4;
}

static unsigned region_lengths(uint64_t *v)
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

static unsigned guard_bases(uint64_t *v)
{
    v[0] = (uint64_t)(uintptr_t)t_w.guard_buffer;
    v[1] = 1;
    v[2] = UINT64_MAX - PAGE + 1;
    v[3] = UINT64_MAX;
    return 4;
}

static unsigned guard_lengths(uint64_t *v)
{
    static const uint64_t all[] = {7 * PAGE, 0, PAGE, 2 * PAGE, 4 * PAGE, PAGE + 1, UINT64_MAX};

    memcpy(v, all, sizeof(all));
    return sizeof(all) / sizeof(all[0]);
}

static unsigned objects(uint64_t *v)
{
    v[0] = (uint64_t)(uintptr_t)t_w.heap_object;
    v[1] = 0;
    v[2] = (uint64_t)(uintptr_t)t_w.heap_freed;
    v[3] = v[0] + 16;
    v[4] = v[0] + 1;
    v[5] = (uint64_t)(uintptr_t)t_w.heap_run;
    v[6] = v[5] + PAGE;
    v[7] = (uint64_t)(uintptr_t)t_w.cache_object;
    v[8] = (uint64_t)(uintptr_t)&t_w.cpu;
    v[9] = 1;
    v[10] = (UINT64_C(1) << 47) - 1;
    v[11] = (UINT64_C(1) << 47) + 1;
    v[12] = (UINT64_C(1) << 56) - 1;
    v[13] = UINT64_MAX;
    return 14;
}

/** Whom a wrapper names; any value will do. */
#define CALLER UINT64_C(0xffffffff81000000)

#define HEAP T_LIVE_GONE(heap, heap)

static const struct t_call heap[] = {
    {.name = "mm_heap_init",
     .invoke = do_init,
     .args = {T_FRESH_(heap, heap), T_LIVE_GONE(pool, pool), T_BITS("flags", 0, MM_HEAP_CALLERS)}},
    {.name = "mm_heap_init",
     .note = "many CPUs",
     .invoke = do_init,
     .setup = t_world_many_cpus,
     .flags = T_CAN_FAIL | T_VARIANT,
     .scarce = t_world_pool_pages,
     .args = {T_FRESH_(heap, heap), T_LIVE_(spare.pool), T_BITS("flags", 0, MM_HEAP_CALLERS)}},
    {.name = "mm_heap_init",
     .note = "with a large pool",
     .invoke = do_init_large,
     .args = {T_FRESH_(heap, heap), T_LIVE_GONE(pool, pool), T_BAD_OF("large", large_pools),
              T_BAD_OF("large_size", large_sizes), T_BITS("flags", 0, MM_HEAP_CALLERS),
              T_ENUM("tier", 0, 3)}},
    {.name = "mm_heap_init",
     .note = "with a reserve",
     .invoke = do_init_reserve,
     .flags = T_CAN_FAIL,
     .scarce = t_world_pool_pages,
     .args = {T_FRESH_(heap, heap), T_LIVE_GONE(pool, pool), T_BAD_OF("nr_reserve", reserve_counts),
              T_BAD_OF("reserve_size", reserve_sizes), T_BAD_OF("zero", always_zero)}},
    {.name = "mm_heap_init",
     .note = "hardened and sampled",
     .invoke = do_init_tier,
     .flags = T_CAN_FAIL,
     .scarce = t_world_pool_pages,
     .args = {T_FRESH_(heap, heap), T_LIVE_GONE(pool, pool), T_BAD_OF("quarantine", quarantines),
              T_GIVEN("open"), T_GIVEN("close"), T_OF("base", guard_bases),
              T_BAD_OF("len", guard_lengths)}},
    {.name = "mm_heap_destroy", .invoke = do_destroy, .args = {T_LIVE_GONE(spare.heap, heap)}},
    {.name = "mm_heap_destroy",
     .note = "objects are out",
     .invoke = do_destroy,
     .flags = T_BAD_ONLY,
     .args = {T_LIVE_(heap)}},
    {.name = "mm_heap_alloc", .invoke = do_alloc, .args = {HEAP, T_NUM("size", 200)}},
    {.name = "mm_heap_alloc",
     .note = "a new slab",
     .invoke = do_alloc,
     .flags = T_CAN_FAIL | T_VARIANT,
     .scarce = t_world_pool_pages,
     .args = {HEAP, T_NUM("size", 1000)}},
    {.name = "mm_heap_alloc",
     .note = "the first of a heap",
     .invoke = do_alloc,
     .flags = T_CAN_FAIL | T_VARIANT,
     .scarce = t_world_pool_pages,
     .args = {T_LIVE_(spare.heap), T_NUM("size", 48)}},
    {.name = "mm_heap_alloc",
     .note = "the first of a pool",
     .invoke = do_alloc,
     .flags = T_CAN_FAIL | T_VARIANT,
     .scarce = t_world_pool_pages,
     .args = {T_LIVE_(cold_heap), T_NUM("size", 48)}},
    {.name = "mm_heap_alloc",
     .note = "a run, the first of a pool",
     .invoke = do_alloc,
     .flags = T_CAN_FAIL | T_VARIANT,
     .scarce = t_world_pool_pages,
     .args = {T_LIVE_(cold_heap), T_NUM("size", 9 * PAGE)}},
    {.name = "mm_heap_alloc",
     .note = "a run",
     .invoke = do_alloc,
     .flags = T_CAN_FAIL | T_VARIANT,
     .scarce = t_world_pool_pages,
     .args = {HEAP, T_NUM("size", 5 * PAGE)}},
    {.name = "mm_heap_alloc_on",
     .invoke = do_alloc_on,
     .args = {HEAP, T_U32("cpu", 0), T_NUM("size", 200)}},
    {.name = "mm_heap_alloc_on",
     .note = "a new slab",
     .invoke = do_alloc_on,
     .flags = T_CAN_FAIL | T_VARIANT,
     .scarce = t_world_pool_pages,
     .args = {HEAP, T_U32("cpu", 0), T_NUM("size", 1000)}},
    {.name = "mm_heap_alloc_zeroed",
     .invoke = do_alloc_zeroed,
     .flags = T_CAN_FAIL,
     .scarce = t_world_pool_pages,
     .args = {HEAP, T_NUM("size", 3000)}},
    {.name = "mm_heap_alloc_aligned",
     .invoke = do_alloc_aligned,
     .flags = T_CAN_FAIL,
     .scarce = t_world_pool_pages,
     .args = {HEAP, T_NUM("align", 2 * PAGE), T_NUM("size", 600)}},
    {.name = "mm_heap_alloc_with",
     .invoke = do_alloc_with,
     .flags = T_CAN_FAIL,
     .scarce = t_world_pool_pages,
     .args = {HEAP, T_NUM("size", 3000), T_NUM("align", 64),
              T_BITS("flags", MM_HEAP_ZEROED, MM_HEAP_FLAGS_ALL)}},
    {.name = "mm_heap_alloc_with",
     .note = "the first of a pool, atomic",
     .invoke = do_alloc_with,
     .flags = T_CAN_FAIL | T_VARIANT,
     .scarce = t_world_pool_pages,
     .args = {T_LIVE_(cold_heap), T_NUM("size", 2 * PAGE), T_NUM("align", 2 * PAGE),
              T_BITS("flags", MM_HEAP_ATOMIC, MM_HEAP_FLAGS_ALL)}},
    {.name = "mm_heap_alloc_with",
     .note = "of the large pool, or the own",
     .invoke = do_alloc_with,
     .flags = T_CAN_FAIL | T_VARIANT,
     .scarce = t_world_pool_pages,
     .args = {T_LIVE_(large_heap), T_NUM("size", 5 * PAGE), T_NUM("align", 0),
              T_BITS("flags", MM_HEAP_ZEROED, MM_HEAP_FLAGS_ALL)}},
    {.name = "mm_heap_alloc_with",
     .note = "large, atomic",
     .invoke = do_alloc_with,
     .flags = T_CAN_FAIL | T_VARIANT,
     .scarce = t_world_pool_pages,
     .args = {T_LIVE_(large_heap), T_NUM("size", 5 * PAGE), T_NUM("align", 0),
              T_BITS("flags", MM_HEAP_ATOMIC, MM_HEAP_FLAGS_ALL)}},
    {.name = "mm_heap_alloc_with",
     .note = "of the reserve, where all else fails",
     .invoke = do_alloc_with,
     .setup = reserve,
     .flags = T_VARIANT,
     .scarce = t_world_pool_pages,
     .args = {T_LIVE_(spare.heap), T_NUM("size", 6000), T_NUM("align", 0),
              T_BITS("flags", MM_HEAP_RESERVE, MM_HEAP_FLAGS_ALL)}},
    {.name = "mm_heap_alloc_with",
     .note = "the reserve is not asked for",
     .invoke = do_alloc_with,
     .setup = reserve,
     .flags = T_CAN_FAIL | T_VARIANT,
     .scarce = t_world_pool_pages,
     .args = {T_LIVE_(spare.heap), T_NUM("size", 6000), T_NUM("align", 0),
              T_BITS("flags", MM_HEAP_ZEROED, MM_HEAP_FLAGS_ALL)}},
    {.name = "mm_heap_alloc_from",
     .invoke = do_alloc_from,
     .flags = T_CAN_FAIL,
     .scarce = t_world_pool_pages,
     .args = {HEAP, T_NUM("size", 3000), T_NUM("align", 64),
              T_BITS("flags", MM_HEAP_ZEROED, MM_HEAP_FLAGS_ALL), T_NUM("caller", CALLER)}},
    {.name = "mm_heap_alloc_from",
     .note = "a run, the first of a pool, for who calls",
     .invoke = do_alloc_from,
     .flags = T_CAN_FAIL | T_VARIANT,
     .scarce = t_world_pool_pages,
     .args = {T_LIVE_(cold_heap), T_NUM("size", 9 * PAGE), T_NUM("align", 0),
              T_BITS("flags", 0, MM_HEAP_FLAGS_ALL), T_NUM("caller", 0)}},
    {.name = "mm_heap_realloc_from",
     .invoke = do_realloc_from,
     .panics = "heap",
     .flags = T_CAN_FAIL,
     .scarce = t_world_pool_pages,
     .args = {HEAP, T_OF("object", objects), T_NUM("size", 3000), T_NUM("caller", CALLER)}},
    {.name = "mm_heap_free_from",
     .invoke = do_free_from,
     .panics = "heap",
     .args = {HEAP, T_OF("object", objects), T_NUM("caller", CALLER)}},
    {.name = "mm_heap_free_sized_from",
     .invoke = do_free_sized_from,
     .panics = "heap",
     .args = {HEAP, T_OF("object", objects), T_NUM("size", 200), T_NUM("align", 0),
              T_NUM("caller", CALLER)}},
    {.name = "mm_heap_alloc_array",
     .invoke = do_alloc_array,
     .flags = T_CAN_FAIL,
     .scarce = t_world_pool_pages,
     .args = {HEAP, T_NUM("nr", 10), T_NUM("size", 300),
              T_BITS("flags", MM_HEAP_ZEROED, MM_HEAP_FLAGS_ALL)}},
    {.name = "mm_heap_realloc_array",
     .invoke = do_realloc_array,
     .panics = "heap",
     .flags = T_CAN_FAIL,
     .scarce = t_world_pool_pages,
     .args = {HEAP, T_OF("object", objects), T_NUM("nr", 10), T_NUM("size", 300)}},
    {.name = "mm_heap_free_sized",
     .invoke = do_free_sized,
     .panics = "heap",
     .args = {HEAP, T_OF("object", objects), T_NUM("size", 200), T_NUM("align", 0)}},
    {.name = "mm_heap_realloc",
     .invoke = do_realloc,
     .panics = "heap",
     .flags = T_CAN_FAIL,
     .scarce = t_world_pool_pages,
     .args = {HEAP, T_OF("object", objects), T_NUM("size", 3000)}},
    {.name = "mm_heap_realloc",
     .note = "to a run",
     .invoke = do_realloc,
     .flags = T_CAN_FAIL | T_VARIANT,
     .scarce = t_world_pool_pages,
     .args = {HEAP, T_OF("object", objects), T_NUM("size", 4 * PAGE)}},
    {.name = "mm_heap_free",
     .invoke = do_free,
     .panics = "heap",
     .args = {HEAP, T_OF("object", objects)}},
    {.name = "mm_heap_free_on",
     .invoke = do_free_on,
     .panics = "heap",
     .args = {HEAP, T_U32("cpu", 0), T_OF("object", objects)}},
    {.name = "mm_heap_usable_size",
     .invoke = do_usable_size,
     .args = {HEAP, T_OF("object", objects)}},
    {.name = "mm_heap_reclaim", .invoke = do_reclaim, .setup = empty_slabs, .args = {HEAP}},
    {.name = "mm_heap_get_stats", .invoke = do_get_stats, .args = {HEAP, T_OUT}},
    {.name = "mm_heap_check", .invoke = do_check, .args = {HEAP}},
    {.name = "mm_heap_region_init",
     .invoke = do_region_init,
     .args = {T_FRESH_(heap_region, spare.heap_region), T_OF("base", region_buffers),
              T_OF("len", region_lengths)}},
    {.name = "mm_heap_region_destroy",
     .invoke = do_region_destroy,
     .args = {T_LIVE_GONE(spare.heap_region, heap_region)}},
    {.name = "mm_heap_region_destroy",
     .note = "an object is out",
     .invoke = do_region_destroy,
     .setup = region_object,
     .flags = T_BAD_ONLY,
     .args = {T_LIVE_(spare.heap_region)}},
    {.name = "mm_heap_region_destroy",
     .note = "a page is out",
     .invoke = do_region_destroy,
     .setup = region_page,
     .flags = T_BAD_ONLY,
     .args = {T_LIVE_(spare.heap_region)}},
    {.name = "mm_heap_region_destroy",
     .note = "a cache is over it",
     .invoke = do_region_destroy,
     .setup = region_cache,
     .flags = T_BAD_ONLY,
     .args = {T_LIVE_(spare.heap_region)}},
    {.name = "mm_heap_check",
     .note = "it contradicts itself",
     .invoke = do_check,
     .setup = corrupt,
     .flags = T_BAD_ONLY,
     .args = {HEAP}},
};

const struct t_call_list t_calls_heap = T_CALL_LIST(heap);
