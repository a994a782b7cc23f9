// SPDX-License-Identifier: MIT
/**
 * Calls of the frame room.
 */
#include "calls.h"

#include <string.h>

static int do_metadata_size(const uint64_t *a)
{
    struct mm_frames_config config = {
        .map = T_P(1), .nr_cpus = T_W32(2), .flags = T_W32(3), .later_kinds = T_W32(4)};

    return (int)mm_frame_metadata_size(a[0] == 0 ? NULL : &config, T_P(5));
}

static struct mm_frames_config config_of(const uint64_t *a, struct mm_physmap *physmap)
{
    struct mm_frames_config config = {.map = T_P(2),
                                      .platform = t_world_platform(),
                                      .nr_cpus = T_W32(3),
                                      .flags = T_W32(4),
                                      .metadata = a[5] == 0 ? NULL : t_w.metadata2 + (a[5] - 1),
                                      .metadata_len = a[6]};

    *physmap = t_w.physmap;
    config.later_kinds = T_W32(8);
    config.nr_reserve = a[9];
    config.nr_kernel = a[10];
    if (a[7] == 1) {
        config.physmap = physmap;
    } else if (a[7] == 2) { /* an op is missing */
        static const struct mm_physmap_ops none;

        physmap->ops = &none;
        config.physmap = physmap;
    } else if (a[7] == 3) {
        config.physmap = &t_w.physmap_ops;
    } else if (a[7] == 4) { /* wraps */
        physmap->first = mm_paddr(UINT64_MAX - 4095);
        physmap->len = 8192;
        config.physmap = physmap;
    } else if (a[7] == 5) { /* misaligned */
        physmap->base++;
        config.physmap = physmap;
    }
    return config;
}

static int do_init(const uint64_t *a)
{
    struct mm_physmap physmap;
    struct mm_frames_config config = config_of(a, &physmap);

    return (int)mm_frame_init(T_P(0), a[1] == 0 ? NULL : &config);
}

static int do_init_from_map(const uint64_t *a)
{
    struct mm_physmap physmap;
    struct mm_frames_config config = config_of(a, &physmap);

    return (int)mm_frame_init_from_map(T_P(0), a[1] == 0 ? NULL : &config, T_PRANGE(11));
}

static int do_destroy(const uint64_t *a)
{
    return (int)mm_frame_destroy(T_P(0));
}

static int do_destroy_to_map(const uint64_t *a)
{
    return (int)mm_frame_destroy_to_map(T_P(0), T_P(1));
}

static int do_alloc(const uint64_t *a)
{
    struct mm_frame_request request = {.order = T_W32(2),
                                       .flags = T_W32(3),
                                       .nr_frames = a[4],
                                       .align = a[5],
                                       .lowest = {a[6]},
                                       .highest = {a[7]},
                                       .boundary = a[8],
                                       .node = T_W32(9),
                                       .nodes = a[10],
                                       .node_policy = T_W32(11),
                                       .lifetime = T_W32(12),
                                       .owner = T_W32(13),
                                       .tag = a[14]};

    return (int)mm_frame_alloc(T_P(0), a[1] == 0 ? NULL : &request, T_P(15));
}

static int do_alloc_on(const uint64_t *a)
{
    return (int)mm_frame_alloc_on(&t_w.frames, T_W32(0), (mm_pfn_t *)t_w.out);
}

static int do_alloc_at(const uint64_t *a)
{
    return (int)mm_frame_alloc_at(T_P(0), mm_pfn(a[1]), a[2]);
}

static int do_alloc_bulk(const uint64_t *a)
{
    return (int)mm_frame_alloc_bulk(T_P(0), T_W32(1), T_P(2), a[3], T_P(4));
}

static int do_free(const uint64_t *a)
{
    return T_MADE(mm_frame_free(T_P(0), mm_pfn(a[1]), T_W32(2)));
}

static int do_free_run(const uint64_t *a)
{
    return T_MADE(mm_frame_free_run(T_P(0), mm_pfn(a[1]), a[2]));
}

static int do_free_bulk(const uint64_t *a)
{
    return T_MADE(mm_frame_free_bulk(T_P(0), T_P(1), a[2]));
}

static int do_get(const uint64_t *a)
{
    return T_MADE(mm_frame_get(T_P(0), mm_pfn(a[1])));
}

static int do_put(const uint64_t *a)
{
    return T_MADE((void)mm_frame_put(T_P(0), mm_pfn(a[1])));
}

static int do_refs(const uint64_t *a)
{
    return T_NONZERO(mm_frame_refs(T_P(0), mm_pfn(a[1])));
}

static int do_make_immortal(const uint64_t *a)
{
    return T_MADE(mm_frame_make_immortal(T_P(0), mm_pfn(a[1])));
}

static int do_managed(const uint64_t *a)
{
    return T_NONZERO(mm_frame_managed(T_P(0), mm_pfn(a[1])));
}

static int do_allocated(const uint64_t *a)
{
    return T_NONZERO(mm_frame_allocated(T_P(0), mm_pfn(a[1])));
}

static int do_get_stats(const uint64_t *a)
{
    return (int)mm_frame_get_stats(T_P(0), T_P(1));
}

static int do_get_stats_of(const uint64_t *a)
{
    return (int)mm_frame_get_stats_of(T_P(0), T_W32(1), T_W32(2), T_P(3));
}

static int do_check(const uint64_t *a)
{
    return (int)mm_frame_check(T_P(0));
}

static int do_source_of(const uint64_t *a)
{
    struct mm_frame_source source = mm_frame_source_of(T_P(0));

    return T_NONZERO(source.ops != NULL && source.ctx == T_P(0));
}

static int do_source_within(const uint64_t *a)
{
    struct mm_frame_source source = mm_frame_source_within(T_P(0));

    return T_NONZERO(source.ops != NULL && source.ctx == T_P(0));
}

/* What the sources answer, whose calls have no name. */
static int do_alloc_of_source(const uint64_t *a)
{
    struct mm_frame_source source = mm_frame_source_of(&t_w.frames);

    (void)a;
    return (int)source.ops->alloc(source.ctx, MM_OWNER_NONE, true, (mm_pfn_t *)t_w.out) == MM_OK
               ? (int)MM_OK
               : (int)T_EMPTY;
}

static int do_alloc_of_window(const uint64_t *a)
{
    struct mm_frame_source source = mm_frame_source_within(&t_w.window);

    (void)a;
    return (int)source.ops->alloc(source.ctx, MM_OWNER_NONE, true, (mm_pfn_t *)t_w.out) == MM_OK
               ? (int)MM_OK
               : (int)T_EMPTY;
}

/* --- set-ups ----------------------------------------------------------------------------------- */

static void with_zeroing_ops(void)
{
    t_w.frames.physmap = t_w.physmap_ops;
}

/* Only the first span. */
static void low_window(void)
{
    t_w.window.highest = mm_paddr(T_RAM2_START - 1);
}

/* It asks for one frame, not for any: it does not matter how many others there are. */
static void not_scarce(uint64_t nr)
{
    (void)nr;
}

/* Fragmented: every second frame of the list is free. */
static void with_holes(void)
{
    for (unsigned i = 0; i < 8; i += 2) {
        mm_frame_free(&t_w.frames, t_w.list[i], 0);
        t_w.list[i] = mm_pfn(0);
    }
}

/* An allocator whose metadata was carved, and nothing allocated. */
static void carved(void)
{
    struct mm_frames_config config = {
        .map = &t_w.sys_map, .physmap = &t_w.physmap, .platform = t_world_platform(), .nr_cpus = 1};

    (void)!mm_frame_init_from_map(&t_w.spare.system.frames, &config,
                                  mm_prange(mm_paddr(0), T_RAM_END));
    (void)!mm_bootmap_normalize(&t_w.sys_map);
}

/* The map has no room for another entry. */
static void carved_and_map_full(void)
{
    struct mm_prange out;
    struct mm_prange all = {{0}, UINT64_MAX};

    /* What is given back lies between two pieces of its kind. */
    (void)!mm_bootmap_take(&t_w.sys_map, 4096, 4096, all, &out);
    carved();
    (void)!mm_bootmap_take(&t_w.sys_map, 4096, 4096, all, &out);
    (void)!mm_bootmap_normalize(&t_w.sys_map);
    t_w.sys_map.capacity = 2;
}

static void corrupt(void)
{
    t_w.frames.groups[0] = 0; /* a summary that hides free frames */
}

static void scattered(void)
{
    t_world_scatter(&t_w.spare_map);
}

/* --- values ------------------------------------------------------------------------------------ */

static unsigned metadata_places(uint64_t *v)
{
    v[0] = 1;
    v[1] = 0;  /* none */
    v[2] = 2;  /* misaligned */
    v[3] = 33; /* misaligned */
    return 4;
}

static unsigned no_metadata(uint64_t *v)
{
    v[0] = 0;
    v[1] = 1;
    return 2;
}

static unsigned metadata_lengths(uint64_t *v)
{
    v[0] = sizeof(t_w.metadata2);
    v[1] = 0;
    v[2] = 1;
    v[3] = 64;
    v[4] = 4096;
    return 5;
}

static unsigned no_length(uint64_t *v)
{
    v[0] = 0;
    v[1] = 4096;
    return 2;
}

static unsigned physmaps(uint64_t *v)
{
    for (uint64_t i = 0; i < 6; i++) {
        v[i] = (i + 1) % 6; /* a good one first */
    }
    return 6;
}

static unsigned cpu_counts(uint64_t *v)
{
    v[0] = 1;
    v[1] = 0;
    v[2] = 2;
    v[3] = MM_MAX_CPUS + 1;
    v[4] = UINT32_MAX;
    return 5;
}

static unsigned nodes(uint64_t *v)
{
    v[0] = MM_NODE_ALL;
    v[1] = 0;
    v[2] = 1;
    v[3] = MM_NODE_ALL - 1;
    return 4;
}

static unsigned zones(uint64_t *v)
{
    v[0] = MM_ZONE_ALL;
    v[1] = MM_ZONE_DMA;
    v[2] = MM_ZONE_COUNT;
    v[3] = MM_ZONE_ALL - 1;
    return 4;
}

static unsigned later_kinds(uint64_t *v)
{
    v[0] = MM_BOOT_BIT(MM_BOOT_ACPI_RECLAIM);
    v[1] = 0;
    v[2] = MM_BOOT_BIT(MM_BOOT_USABLE);
    v[3] = UINT64_C(1) << MM_BOOT_KIND_COUNT;
    v[4] = UINT32_MAX;
    return 5;
}

/* Frame numbers around what there is: free, shared, in a block, foreign, beyond all. */
static unsigned frames_list(uint64_t *v)
{
    static const uint64_t house[] = {0,
                                     1,
                                     T_RAM_START / 4096 - 1,
                                     (T_RAM_START + T_RAM_LEN) / 4096,
                                     T_RAM2_START / 4096 - 1,
                                     (T_RAM2_START + T_RAM2_LEN) / 4096,
                                     (UINT64_C(1) << 40) - 1,
                                     UINT64_C(1) << 40,
                                     (UINT64_C(1) << 47) + 1,
                                     (UINT64_C(1) << 52) - 1,
                                     UINT64_C(1) << 52,
                                     (UINT64_C(1) << 56) - 1,
                                     UINT64_MAX};

    v[0] = t_w.frame.raw;
    v[1] = t_w.frame_freed.raw;
    v[2] = t_w.frame_shared.raw;
    v[3] = t_w.block.raw;
    v[4] = t_w.block.raw + 1;
    memcpy(v + 5, house, sizeof(house));
    return 5 + sizeof(house) / sizeof(house[0]);
}

static unsigned free_frames(uint64_t *v)
{
    unsigned nr = frames_list(v);

    v[0] = t_w.frame_freed.raw;
    v[1] = t_w.frame.raw;
    return nr;
}

static unsigned blocks(uint64_t *v)
{
    unsigned nr = frames_list(v);

    v[0] = t_w.block.raw;
    v[3] = t_w.frame.raw;
    return nr;
}

static unsigned orders(uint64_t *v)
{
    static const uint64_t all[] = {2, 0, 1, 3, 9, 18, 19, 31, 32, 63, 64, UINT32_MAX};

    memcpy(v, all, sizeof(all));
    return sizeof(all) / sizeof(all[0]);
}

static unsigned run_lengths(uint64_t *v)
{
    static const uint64_t all[] = {4,
                                   0,
                                   1,
                                   3,
                                   5,
                                   4095,
                                   4097,
                                   (UINT64_C(1) << 40) + 1,
                                   (UINT64_C(1) << 47) - 1,
                                   UINT64_C(1) << 52,
                                   UINT64_C(1) << 56,
                                   UINT64_C(1) << 63,
                                   UINT64_MAX - 1,
                                   UINT64_MAX};

    memcpy(v, all, sizeof(all));
    return sizeof(all) / sizeof(all[0]);
}

#define FRAMES T_LIVE_GONE(frames, frames)
#define REQUEST                                                                                    \
    T_GIVEN("request"), T_U32("order", 0), T_BITS("flags", 0, MM_FRAME_FLAGS_ALL),                 \
        T_NUM("nr_frames", 0), T_NUM("align", 0), T_NUM("lowest", 0), T_NUM("highest", 0),         \
        T_NUM("boundary", 0), T_U32("node", 0), T_NUM("nodes", 0), T_ENUM("node_policy", 0, 5),    \
        T_ENUM("lifetime", 0, 4), T_ENUM("owner", 0, MM_OWNER_COUNT), T_NUM("tag", 0), T_OUT
#define CONFIG(map)                                                                                \
    T_GIVEN("config"), T_LIVE_(map), T_OF("nr_cpus", cpu_counts),                                  \
        T_BITS("flags", 0, MM_FRAMES_FLAGS_ALL)
/* Usable memory is of no later kind. */
#define LATER    T_OF("later_kinds", later_kinds)
#define WITHHELD T_NUM("nr_reserve", 0), T_NUM("nr_kernel", 0)
#define NOTHING_MORE                                                                               \
    T_UPTO("later_kinds", 0, 0), T_UPTO("nr_reserve", 0, 0), T_UPTO("nr_kernel", 0, 0)

static const struct t_call frame[] = {
    {.name = "mm_frame_metadata_size",
     .invoke = do_metadata_size,
     .args = {CONFIG(map), LATER, T_OUT}},
    {.name = "mm_frame_metadata_size",
     .note = "no memory",
     .invoke = do_metadata_size,
     .flags = T_BAD_ONLY,
     .args = {CONFIG(empty_map), LATER, T_OUT}},
    {.name = "mm_frame_metadata_size",
     .note = "too many ranges",
     .invoke = do_metadata_size,
     .setup = scattered,
     .flags = T_BAD_ONLY,
     .args = {T_UPTO("config", 1, 1), T_LIVE_(spare_map), T_UPTO("nr_cpus", 1, 1),
              T_UPTO("flags", 0, 0), T_UPTO("later_kinds", 0, 0), T_OUT}},
    {.name = "mm_frame_init",
     .invoke = do_init,
     .args = {T_FRESH_(frames, frames), CONFIG(spare_map), T_OF("metadata", metadata_places),
              T_OF("metadata_len", metadata_lengths), T_OF("physmap", physmaps), LATER, WITHHELD}},
    {.name = "mm_frame_init",
     .note = "no memory",
     .invoke = do_init,
     .flags = T_BAD_ONLY,
     .args = {T_FRESH_(frames, frames), CONFIG(empty_map), T_OF("metadata", metadata_places),
              T_OF("metadata_len", metadata_lengths), T_OF("physmap", physmaps), LATER, WITHHELD}},
    {.name = "mm_frame_init",
     .note = "too many ranges",
     .invoke = do_init,
     .setup = scattered,
     .flags = T_BAD_ONLY,
     .args = {T_FRESH_(frames, frames), T_UPTO("config", 1, 1), T_LIVE_(spare_map),
              T_UPTO("nr_cpus", 1, 1), T_UPTO("flags", 0, 0), T_UPTO("metadata", 1, 1),
              T_OF("metadata_len", metadata_lengths), T_UPTO("physmap", 0, 0), NOTHING_MORE}},
    {.name = "mm_frame_init_from_map",
     .invoke = do_init_from_map,
     .scarce = t_world_system_pages,
     .flags = T_CAN_FAIL,
     .args = {T_FRESH_(frames, frames), CONFIG(sys_map), T_OF("metadata", no_metadata),
              T_OF("metadata_len", no_length), T_OF("physmap", physmaps), LATER,
              T_UPTO("nr_reserve", 0, 0), T_UPTO("nr_kernel", 0, 0), T_NUM("mapped", 0),
              T_NUM("mapped.len", T_RAM_END)}},
    {.name = "mm_frame_init_from_map",
     .note = "withheld",
     .invoke = do_init_from_map,
     .flags = T_BAD_ONLY | T_COMPOSED,
     .args = {T_FRESH_(frames, frames), T_UPTO("config", 1, 1), T_LIVE_(sys_map),
              T_UPTO("nr_cpus", 1, 1), T_UPTO("flags", 0, 0), T_UPTO("metadata", 0, 0),
              T_UPTO("metadata_len", 0, 0), T_UPTO("physmap", 1, 1), T_UPTO("later_kinds", 0, 0),
              WITHHELD, T_NUM("mapped", 0), T_NUM("mapped.len", T_RAM_END)}},
    {.name = "mm_frame_init_from_map",
     .note = "too many ranges",
     .invoke = do_init_from_map,
     .setup = scattered,
     .flags = T_BAD_ONLY | T_COMPOSED,
     .args = {T_FRESH_(frames, frames), T_UPTO("config", 1, 1), T_LIVE_(spare_map),
              T_UPTO("nr_cpus", 1, 1), T_UPTO("flags", 0, 0), T_UPTO("metadata", 0, 0),
              T_UPTO("metadata_len", 0, 0), T_UPTO("physmap", 1, 1), NOTHING_MORE,
              T_NUM("mapped", 0), T_UPTO("mapped.len", T_RAM_END, 0)}},
    {.name = "mm_frame_destroy", .invoke = do_destroy, .args = {T_LIVE_GONE(spare.frames, frames)}},
    {.name = "mm_frame_destroy_to_map",
     .invoke = do_destroy_to_map,
     .setup = carved,
     .args = {T_LIVE_GONE(spare.system.frames, frames), T_LIVE_(sys_map)}},
    {.name = "mm_frame_destroy_to_map",
     .note = "another map",
     .invoke = do_destroy_to_map,
     .setup = carved,
     .flags = T_BAD_ONLY,
     .args = {T_LIVE_(spare.system.frames), T_LIVE_(spare_map)}},
    {.name = "mm_frame_destroy_to_map",
     .note = "not carved",
     .invoke = do_destroy_to_map,
     .flags = T_BAD_ONLY,
     .args = {T_LIVE_(spare.frames), T_LIVE_(spare_map)}},
    {.name = "mm_frame_destroy_to_map",
     .note = "no room in the map",
     .invoke = do_destroy_to_map,
     .setup = carved_and_map_full,
     .flags = T_BAD_ONLY,
     .args = {T_LIVE_(spare.system.frames), T_LIVE_(sys_map)}},
    {.name = "mm_frame_alloc", .invoke = do_alloc, .flags = T_CAN_FAIL, .args = {FRAMES, REQUEST}},
    {.name = "mm_frame_alloc",
     .note = "of a node that there is not",
     .invoke = do_alloc,
     .flags = T_BAD_ONLY,
     .args = {FRAMES, T_GIVEN("request"), T_U32("order", 0), T_UPTO("flags", 0, 0),
              T_UPTO("nr_frames", 0, 0), T_UPTO("align", 0, 0), T_UPTO("lowest", 0, 0),
              T_UPTO("highest", 0, 0), T_UPTO("boundary", 0, 0), T_U32("node", 1),
              T_UPTO("nodes", 0, 0), T_UPTO("node_policy", MM_NODE_REQUIRED, MM_NODE_REQUIRED),
              T_UPTO("lifetime", 0, 0), T_UPTO("owner", 0, 0), T_UPTO("tag", 0, 0), T_OUT}},
    {.name = "mm_frame_alloc",
     .note = "zeroed, without a physmap",
     .invoke = do_alloc,
     .flags = T_BAD_ONLY,
     .args = {T_LIVE_(spare.frames), T_GIVEN("request"), T_U32("order", 0),
              T_U32("flags", MM_FRAME_ZERO), T_UPTO("nr_frames", 0, 0), T_UPTO("align", 0, 0),
              T_UPTO("lowest", 0, 0), T_UPTO("highest", 0, 0), T_UPTO("boundary", 0, 0),
              T_UPTO("node", 0, 0), T_UPTO("nodes", 0, 0), T_UPTO("node_policy", 0, 0),
              T_UPTO("lifetime", 0, 0), T_UPTO("owner", 0, 0), T_UPTO("tag", 0, 0), T_OUT}},
    {.name = "mm_frame_alloc",
     .note = "a zeroed run",
     .invoke = do_alloc,
     .setup = with_zeroing_ops,
     .flags = T_CAN_FAIL | T_VARIANT,
     .args = {FRAMES, T_GIVEN("request"), T_U32("order", 0), T_U32("flags", MM_FRAME_ZERO),
              T_NUM("nr_frames", 5), T_NUM("align", 0), T_NUM("lowest", 0), T_NUM("highest", 0),
              T_NUM("boundary", 0), T_U32("node", 0), T_NUM("nodes", 0), T_U32("node_policy", 0),
              T_U32("lifetime", 0), T_U32("owner", 0), T_NUM("tag", 0), T_OUT}},
    {.name = "mm_frame_alloc",
     .note = "a block of eight among holes",
     .invoke = do_alloc,
     .setup = with_holes,
     .flags = T_CAN_FAIL | T_VARIANT,
     .args = {FRAMES, T_GIVEN("request"), T_U32("order", 3), T_U32("flags", 0),
              T_NUM("nr_frames", 0), T_NUM("align", 0), T_NUM("lowest", 0), T_NUM("highest", 0),
              T_NUM("boundary", 0), T_U32("node", 0), T_NUM("nodes", 0), T_U32("node_policy", 0),
              T_U32("lifetime", 0), T_U32("owner", 0), T_NUM("tag", 0), T_OUT}},
    {.name = "mm_frame_alloc_on",
     .invoke = do_alloc_on,
     .flags = T_CAN_FAIL,
     .args = {T_U32("cpu", 0)}},
    {.name = "mm_frame_alloc_at",
     .invoke = do_alloc_at,
     .scarce = not_scarce,
     .args = {FRAMES, T_OF("first", free_frames), T_NUM("nr_frames", 1)}},
    {.name = "mm_frame_alloc_bulk",
     .invoke = do_alloc_bulk,
     .flags = T_CAN_FAIL | T_PARTIAL,
     .tells = T_BIT(MM_ERR_NO_MEMORY),
     .args = {FRAMES, T_U32("cpu", 0), T_OUT, T_UPTO("count", 40, 200), T_OUT2}},
    {.name = "mm_frame_free",
     .invoke = do_free,
     .panics = "frame",
     .args = {FRAMES, T_OF("first", blocks), T_OF("order", orders)}},
    {.name = "mm_frame_free_run",
     .invoke = do_free_run,
     .panics = "frame",
     .args = {FRAMES, T_OF("first", blocks), T_OF("nr_frames", run_lengths)}},
    {.name = "mm_frame_free_bulk",
     .invoke = do_free_bulk,
     .panics = "frame",
     .args = {FRAMES, T_PTR(list), T_UPTO("count", 8, 8)}},
    {.name = "mm_frame_get",
     .invoke = do_get,
     .panics = "frame",
     .args = {FRAMES, T_OF("frame", frames_list)}},
    {.name = "mm_frame_put",
     .invoke = do_put,
     .panics = "frame",
     .args = {FRAMES, T_OF("frame", frames_list)}},
    {.name = "mm_frame_refs", .invoke = do_refs, .args = {FRAMES, T_OF("frame", frames_list)}},
    {.name = "mm_frame_make_immortal",
     .invoke = do_make_immortal,
     .panics = "frame",
     .args = {FRAMES, T_OF("frame", frames_list)}},
    {.name = "mm_frame_managed",
     .invoke = do_managed,
     .args = {FRAMES, T_OF("frame", frames_list)}},
    {.name = "mm_frame_allocated",
     .invoke = do_allocated,
     .args = {FRAMES, T_OF("frame", frames_list)}},
    {.name = "mm_frame_get_stats", .invoke = do_get_stats, .args = {FRAMES, T_OUT}},
    {.name = "mm_frame_get_stats_of",
     .invoke = do_get_stats_of,
     .args = {FRAMES, T_OF("node", nodes), T_OF("zone", zones), T_OUT}},
    {.name = "mm_frame_check", .invoke = do_check, .args = {FRAMES}},
    {.name = "mm_frame_check",
     .note = "it contradicts itself",
     .invoke = do_check,
     .setup = corrupt,
     .flags = T_BAD_ONLY,
     .args = {FRAMES}},
    {.name = "mm_frame_source_of", .invoke = do_source_of, .args = {FRAMES}},
    {.name = "mm_frame_source_of",
     .note = "its op",
     .invoke = do_alloc_of_source,
     .flags = T_CAN_FAIL | T_VARIANT},
    {.name = "mm_frame_source_within", .invoke = do_source_within, .args = {T_LIVE_(window)}},
    {.name = "mm_frame_source_within",
     .note = "its op",
     .invoke = do_alloc_of_window,
     .setup = low_window,
     .flags = T_CAN_FAIL | T_VARIANT},
};

const struct t_call_list t_calls_frame = T_CALL_LIST(frame);
