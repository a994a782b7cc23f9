// SPDX-License-Identifier: MIT
/**
 * Bringing the frame allocator up and down: every status, what a failing call leaves behind, where
 * the metadata lies, and how much it is.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "frame_rig.h"
#include "hash.h"
#include "sim_ram.h"

static const uint64_t simple[] = {1 * MIB, 15 * MIB, 0, 0};

static void size_statuses(void **state)
{
    struct rig rig;
    struct mm_bootmap unborn = {0};
    const uint64_t nothing[] = {0, 0};
    const uint64_t bytes_only[] = {4097, 4096, 0, 0};
    uint64_t len = 77;

    (void)state;
    rig_map(&rig, simple);
    assert_int_equal(mm_frame_metadata_size(
                         &(struct mm_frames_config){.map = NULL, .nr_cpus = 1, .flags = 0}, &len),
                     MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(
        mm_frame_metadata_size(
            &(struct mm_frames_config){.map = &rig.map, .nr_cpus = 1, .flags = 0}, NULL),
        MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(
        mm_frame_metadata_size(
            &(struct mm_frames_config){.map = &rig.map, .nr_cpus = 0, .flags = 0}, &len),
        MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(
        mm_frame_metadata_size(
            &(struct mm_frames_config){.map = &rig.map, .nr_cpus = 1025, .flags = 0}, &len),
        MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(
        mm_frame_metadata_size(
            &(struct mm_frames_config){.map = &rig.map, .nr_cpus = 1, .flags = 16}, &len),
        MM_ERR_INVALID_FLAGS);
    for (uint32_t kind = 0; kind < 32; kind++) {
        uint64_t later = 77;

        assert_int_equal(
            mm_frame_metadata_size(&(struct mm_frames_config){.map = &rig.map,
                                                              .nr_cpus = 1,
                                                              .later_kinds = UINT32_C(1) << kind},
                                   &later),
            kind == MM_BOOT_USABLE || kind == MM_BOOT_METADATA || kind >= MM_BOOT_KIND_COUNT
                ? MM_ERR_INVALID_ARGUMENT
                : MM_OK);
    }
    assert_int_equal(mm_frame_metadata_size(
                         &(struct mm_frames_config){
                             .map = &rig.map, .nr_cpus = 2, .cpu_nodes = (const uint32_t[]){0, 1}},
                         &len),
                     MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(
        mm_frame_metadata_size(&(struct mm_frames_config){.map = &rig.map,
                                                          .nr_cpus = 1,
                                                          .numa = &(struct mm_numa){.nr_nodes = 0}},
                               &len),
        MM_ERR_NOT_INITIALIZED);
    assert_int_equal(
        mm_frame_metadata_size(&(struct mm_frames_config){.map = &unborn, .nr_cpus = 1, .flags = 0},
                               &len),
        MM_ERR_NOT_INITIALIZED);
    rig_map(&rig, nothing);
    assert_int_equal(
        mm_frame_metadata_size(
            &(struct mm_frames_config){.map = &rig.map, .nr_cpus = 1, .flags = 0}, &len),
        MM_ERR_NO_MEMORY);
    rig_map(&rig, bytes_only);
    assert_int_equal(
        mm_frame_metadata_size(
            &(struct mm_frames_config){.map = &rig.map, .nr_cpus = 1, .flags = 0}, &len),
        MM_ERR_NO_MEMORY);
    assert_int_equal(len, 77);
    rig_map(&rig, simple);
    assert_int_equal(
        mm_frame_metadata_size(
            &(struct mm_frames_config){.map = &rig.map, .nr_cpus = 1024, .flags = 3}, &len),
        MM_OK);
    assert_true(len > 1024 * 64);
}

/* A map with `nr` usable frames, none of them neighbours. */
static void many_ranges(struct mm_bootmap *map, struct mm_boot_entry *entries, uint32_t nr)
{
    *map = (struct mm_bootmap){0};
    assert_int_equal(mm_bootmap_init(map, entries, MM_BOOTMAP_CAPACITY(nr)), MM_OK);
    for (uint32_t i = 0; i < nr; i++) {
        assert_int_equal(
            mm_bootmap_add(map, mm_prange(mm_paddr((i + 1) * 8 * KIB), 4096), MM_BOOT_USABLE),
            MM_OK);
    }
}

static void too_many_ranges(void **state)
{
    struct mm_boot_entry *entries =
        calloc(MM_BOOTMAP_CAPACITY(MM_FRAME_MAX_SPANS + 1), sizeof(*entries));
    struct mm_bootmap map;
    uint64_t len = 77;
    struct mm_physmap physmap = mm_physmap_direct(0);
    struct mm_frames_config config = {.map = &map, .nr_cpus = 1, .physmap = &physmap};
    struct mm_frames frames = {0};

    (void)state;
    assert_non_null(entries);
    many_ranges(&map, entries, MM_FRAME_MAX_SPANS);
    assert_int_equal(mm_frame_metadata_size(
                         &(struct mm_frames_config){.map = &map, .nr_cpus = 1, .flags = 0}, &len),
                     MM_OK);
    /* Taking may add a range. */
    assert_int_equal(mm_frame_init_from_map(&frames, &config, mm_prange(mm_paddr(0), UINT64_MAX)),
                     MM_ERR_LIMIT);
    many_ranges(&map, entries, MM_FRAME_MAX_SPANS + 1);
    len = 77;
    assert_int_equal(mm_frame_metadata_size(
                         &(struct mm_frames_config){.map = &map, .nr_cpus = 1, .flags = 0}, &len),
                     MM_ERR_LIMIT);
    assert_int_equal(len, 77);
    assert_int_equal(mm_frame_init(&frames, &config), MM_ERR_LIMIT);
    assert_int_equal(mm_frame_init_from_map(&frames, &config, mm_prange(mm_paddr(0), UINT64_MAX)),
                     MM_ERR_LIMIT);
    free(entries);
}

/* As many ranges as there can be, each a frame: all of them are handed out, once. */
static void thousands_of_ranges(void **state)
{
    struct mm_boot_entry *entries =
        calloc(MM_BOOTMAP_CAPACITY(MM_FRAME_MAX_SPANS), sizeof(*entries));
    unsigned char *seen = calloc(MM_FRAME_MAX_SPANS + 1, 1);
    struct mm_bootmap map;
    uint64_t len = 0;
    struct mm_frames_config config = {.map = &map, .nr_cpus = 3};
    struct mm_frames frames = {0};
    struct mm_frame_stats stats;
    mm_pfn_t pfn;

    (void)state;
    assert_true(entries != NULL && seen != NULL);
    many_ranges(&map, entries, MM_FRAME_MAX_SPANS);
    assert_int_equal(mm_frame_metadata_size(
                         &(struct mm_frames_config){.map = &map, .nr_cpus = 3, .flags = 0}, &len),
                     MM_OK);
    config.metadata = aligned_alloc(64, len);
    config.metadata_len = len;
    memset(config.metadata, 0, len);
    assert_int_equal(mm_frame_init(&frames, &config), MM_OK);
    assert_int_equal(mm_frame_get_stats(&frames, &stats), MM_OK);
    assert_int_equal(stats.nr_spans, MM_FRAME_MAX_SPANS);
    assert_int_equal(stats.nr_reserved, MM_FRAME_MAX_SPANS - 1);
    for (unsigned i = 0; i < MM_FRAME_MAX_SPANS; i++) {
        assert_int_equal(mm_frame_alloc_on(&frames, i % 3, &pfn), MM_OK);
        assert_true(pfn.raw % 2 == 0 && pfn.raw >= 2 && pfn.raw <= 2 * MM_FRAME_MAX_SPANS);
        assert_int_equal(seen[pfn.raw / 2], 0);
        seen[pfn.raw / 2] = 1;
    }
    assert_int_equal(mm_frame_alloc_on(&frames, 0, &pfn), MM_ERR_NO_MEMORY);
    for (uint64_t i = 1; i <= MM_FRAME_MAX_SPANS; i++) {
        assert_false(mm_frame_managed(&frames, mm_pfn(2 * i + 1)));
        mm_frame_free(&frames, mm_pfn(2 * i), 0);
    }
    assert_int_equal(mm_frame_check(&frames), MM_OK);
    free(config.metadata);
    free(entries);
    free(seen);
}

static void *op_map(void *ctx, mm_pfn_t frame)
{
    (void)ctx;
    (void)frame;
    return NULL;
}

static void op_unmap(void *ctx, void *mapped)
{
    (void)ctx;
    (void)mapped;
}

static void init_statuses(void **state)
{
    struct rig rig;
    struct mm_frames before;
    struct mm_frames_config config;
    struct mm_bootmap unborn = {0};
    struct mm_physmap beyond = {.first = {UINT64_MAX}, .len = 2};
    const struct mm_physmap_ops only_map = {.map = op_map};
    const struct mm_physmap_ops only_unmap = {.unmap = op_unmap};
    struct mm_physmap no_map = {.ops = &only_unmap};
    struct mm_physmap no_unmap = {.ops = &only_map};
    uint64_t hash;

    (void)state;
    rig_map(&rig, simple);
    rig_config(&rig, 2, RIG_RECORDS);
    before = rig.frames;
    hash = t_hash(rig.config.metadata, rig.config.metadata_len);

#define FAILS(status_, ...)                                                                        \
    do {                                                                                           \
        config = rig.config;                                                                       \
        __VA_ARGS__;                                                                               \
        assert_int_equal(mm_frame_init(&rig.frames, &config), status_);                            \
        assert_memory_equal(&rig.frames, &before, sizeof(before));                                 \
        assert_int_equal(t_hash(rig.config.metadata, rig.config.metadata_len), hash);              \
    } while (0)

    assert_int_equal(mm_frame_init(NULL, &rig.config), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_frame_init(&rig.frames, NULL), MM_ERR_INVALID_ARGUMENT);
    FAILS(MM_ERR_INVALID_ARGUMENT, config.map = NULL);
    FAILS(MM_ERR_INVALID_ARGUMENT, config.nr_cpus = 0);
    FAILS(MM_ERR_INVALID_ARGUMENT, config.nr_cpus = 1025);
    FAILS(MM_ERR_INVALID_ARGUMENT, config.metadata = NULL);
    FAILS(MM_ERR_INVALID_ARGUMENT, config.physmap = &beyond);
    FAILS(MM_ERR_INVALID_ARGUMENT, config.physmap = &no_map);
    FAILS(MM_ERR_INVALID_ARGUMENT, config.physmap = &no_unmap);
    FAILS(MM_ERR_INVALID_ARGUMENT, config.flags = MM_FRAMES_POISON);
    FAILS(MM_ERR_INVALID_ARGUMENT, config.flags = MM_FRAMES_KNOWN_ZERO);
    FAILS(MM_ERR_INVALID_ARGUMENT, config.later_kinds = MM_BOOT_BIT(MM_BOOT_USABLE));
    FAILS(MM_ERR_INVALID_ARGUMENT, config.cpu_nodes = (const uint32_t[]){0, 1});
    FAILS(MM_ERR_INVALID_SIZE, config.nr_reserve = 15 * MIB / 4096);
    FAILS(MM_ERR_INVALID_SIZE, config.nr_kernel = UINT64_MAX);
    FAILS(MM_ERR_INVALID_SIZE, config.nr_reserve = 15 * MIB / 4096 - 1; config.nr_kernel = 1);
    FAILS(MM_ERR_INVALID_FLAGS, config.flags = 16);
    FAILS(MM_ERR_NOT_ALIGNED, config.metadata = (char *)config.metadata + 8);
    FAILS(MM_ERR_INVALID_SIZE, config.metadata_len--);
    FAILS(MM_ERR_NOT_INITIALIZED, config.map = &unborn);
#undef FAILS
    /* Metadata that is not zeroed, as far as init looks: its first byte and its last. */
    ((unsigned char *)rig.config.metadata)[0] = 1;
    assert_int_equal(mm_frame_init(&rig.frames, &rig.config), MM_ERR_INVALID_ARGUMENT);
    ((unsigned char *)rig.config.metadata)[0] = 0;
    ((unsigned char *)rig.config.metadata)[rig.config.metadata_len - 1] = 1;
    assert_int_equal(mm_frame_init(&rig.frames, &rig.config), MM_ERR_INVALID_ARGUMENT);
    ((unsigned char *)rig.config.metadata)[rig.config.metadata_len - 1] = 0;

    assert_int_equal(mm_frame_init(&rig.frames, &rig.config), MM_OK);
    before = rig.frames;
    assert_int_equal(mm_frame_init(&rig.frames, &rig.config), MM_ERR_ALREADY_INITIALIZED);
    assert_memory_equal(&rig.frames, &before, sizeof(before));
    rig_stop(&rig);
}

static void no_memory_to_manage(void **state)
{
    struct rig rig;
    const uint64_t nothing[] = {0, 0};
    struct mm_physmap physmap = mm_physmap_direct(0);

    (void)state;
    rig_map(&rig, nothing);
    rig.config.map = &rig.map;
    rig.config.nr_cpus = 1;
    assert_int_equal(mm_frame_init(&rig.frames, &rig.config), MM_ERR_NO_MEMORY);
    rig.config.physmap = &physmap;
    assert_int_equal(
        mm_frame_init_from_map(&rig.frames, &rig.config, mm_prange(mm_paddr(0), UINT64_MAX)),
        MM_ERR_NO_MEMORY);
}

static void destroy_and_again(void **state)
{
    struct rig rig;
    struct mm_frames zero = {0};
    struct mm_frame_stats stats;
    uint64_t hash;

    (void)state;
    rig_start(&rig, simple, 1, 0);
    (void)rig_alloc(&rig, 3);
    hash = t_hash(rig.config.metadata, rig.config.metadata_len);
    assert_int_equal(mm_frame_destroy(NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_frame_destroy(&rig.frames), MM_OK);
    assert_memory_equal(&rig.frames, &zero, sizeof(zero));
    assert_int_equal(t_hash(rig.config.metadata, rig.config.metadata_len), hash);
    assert_int_equal(mm_frame_destroy(&rig.frames), MM_ERR_NOT_INITIALIZED);
    assert_int_equal(mm_frame_check(&rig.frames), MM_ERR_NOT_INITIALIZED);
    assert_int_equal(mm_frame_check(NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_frame_get_stats(&rig.frames, &stats), MM_ERR_NOT_INITIALIZED);
    assert_int_equal(mm_frame_get_stats(NULL, &stats), MM_ERR_INVALID_ARGUMENT);

    memset(rig.config.metadata, 0, rig.config.metadata_len);
    assert_int_equal(mm_frame_init(&rig.frames, &rig.config), MM_OK);
    assert_int_equal(mm_frame_get_stats(&rig.frames, NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(rig_stats(&rig).nr_free, 15 * MIB / 4096);
    /* This metadata is the caller's, not the map's. */
    assert_int_equal(mm_frame_destroy_to_map(&rig.frames, &rig.map), MM_ERR_INVALID_ARGUMENT);
    rig_stop(&rig);
}

/* --- metadata from the map itself ------------------------------------------------------------- */

/* Hazard 3: metadata lies in memory that is mapped and usable, and is not handed out. */
static void carved_from_mapped_memory(void **state)
{
    static const uint64_t ranges[] = {0, 636 * KIB, 1 * MIB, 63 * MIB, 4 * GIB, 64 * MIB, 0, 0};
    struct rig rig;
    struct t_ram *ram = t_ram_new(0, 5 * GIB);
    struct mm_physmap physmap;
    struct mm_prange mapped = mm_prange(mm_paddr(0), 16 * MIB); /* no more is mapped yet */
    struct mm_prange metadata;
    struct mm_frame_stats stats;
    struct mm_bootmap unborn = {0};
    uint64_t usable;
    mm_pfn_t pfn;

    (void)state;
    assert_non_null(ram);
    rig_map(&rig, ranges);
    /* Only what is said to be mapped is there, and it holds junk. */
    t_ram_back(ram, mapped.start.raw, mapped.len);
    t_ram_junk(ram, mapped.start.raw, mapped.len, 1);
    physmap = mm_physmap_direct(t_ram_base(ram));
    usable = mm_bootmap_usable_bytes(&rig.map);
    rig.config = (struct mm_frames_config){
        .map = &rig.map,
        .physmap = &physmap,
        .platform = rig_platform(&rig),
        .nr_cpus = 4,
        .flags = RIG_RECORDS,
    };
    assert_int_equal(mm_frame_init_from_map(&rig.frames, &rig.config, mapped), MM_OK);
    assert_int_equal(mm_bootmap_next(&rig.map, MM_BOOT_METADATA, mm_paddr(0), &metadata), MM_OK);
    assert_true(mm_prange_covers(mapped, metadata));
    stats = rig_stats(&rig);
    assert_int_equal(stats.nr_frames, (usable - metadata.len) / 4096);
    assert_true(stats.metadata_bytes <= metadata.len);
    rig_check(&rig);
    while (mm_frame_alloc(&rig.frames, NULL, &pfn) == MM_OK) {
        assert_false(mm_prange_contains(metadata, mm_pfn_addr(pfn)));
        stats.nr_free--;
    }
    assert_int_equal(stats.nr_free, 1); /* frame 0 */
    rig_check(&rig);
    /* The metadata's memory goes back to the map. */
    assert_int_equal(mm_frame_destroy_to_map(&rig.frames, NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_frame_destroy_to_map(&rig.frames, &unborn), MM_ERR_NOT_INITIALIZED);
    rig_check(&rig);
    assert_int_equal(mm_frame_destroy_to_map(&rig.frames, &rig.map), MM_OK);
    assert_int_equal(mm_bootmap_usable_bytes(&rig.map), usable);
    assert_int_equal(mm_frame_destroy_to_map(&rig.frames, &rig.map), MM_ERR_NOT_INITIALIZED);
    assert_int_equal(mm_frame_destroy_to_map(NULL, &rig.map), MM_ERR_INVALID_ARGUMENT);
    t_ram_delete(ram);
}

static void carve_statuses(void **state)
{
    static const struct mm_physmap_ops ops = {op_map, op_unmap};
    struct mm_physmap by_ops = {.ops = &ops};
    struct mm_physmap direct = mm_physmap_direct(0x1000); /* must never be reached through */
    struct mm_physmap odd = mm_physmap_direct(0x1008);
    struct mm_physmap narrow = {.base = 0x1000, .first = {8 * MIB}, .len = 8 * KIB};
    struct mm_prange all = mm_prange(mm_paddr(0), UINT64_MAX);
    struct rig rig;
    struct mm_frames zero = {0};
    struct mm_bootmap map;
    struct mm_boot_entry entries[4];
    struct mm_bootmap unborn = {0};

    (void)state;
    rig_map(&rig, simple);
    assert_int_equal(mm_bootmap_normalize(&rig.map), MM_OK);
    rig.config = (struct mm_frames_config){
        .map = &rig.map,
        .physmap = &direct,
        .platform = rig_platform(&rig),
        .nr_cpus = 1,
    };
    map = rig.map;
    memcpy(entries, rig.entries, sizeof(entries));

#define FAILS(status_, mapped_, ...)                                                               \
    do {                                                                                           \
        struct mm_frames_config config = rig.config;                                               \
        __VA_ARGS__;                                                                               \
        assert_int_equal(mm_frame_init_from_map(&rig.frames, &config, mapped_), status_);          \
        assert_memory_equal(&rig.frames, &zero, sizeof(zero));                                     \
        assert_memory_equal(&rig.map, &map, sizeof(map));                                          \
        assert_memory_equal(rig.entries, entries, map.nr * sizeof(entries[0]));                    \
    } while (0)

    assert_int_equal(mm_frame_init_from_map(NULL, &rig.config, all), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_frame_init_from_map(&rig.frames, NULL, all), MM_ERR_INVALID_ARGUMENT);
    FAILS(MM_ERR_INVALID_ARGUMENT, all, config.map = NULL);
    FAILS(MM_ERR_INVALID_ARGUMENT, all, config.nr_cpus = 0);
    FAILS(MM_ERR_INVALID_ARGUMENT, all, config.physmap = NULL);
    FAILS(MM_ERR_INVALID_ARGUMENT, all, config.metadata = entries);
    FAILS(MM_ERR_INVALID_ARGUMENT, all, config.metadata_len = 1);
    FAILS(MM_ERR_INVALID_FLAGS, all, config.flags = 16);
    FAILS(MM_ERR_NOT_INITIALIZED, all, config.map = &unborn);
    FAILS(MM_ERR_UNSUPPORTED, all, config.physmap = &by_ops);
    FAILS(MM_ERR_NOT_ALIGNED, all, config.physmap = &odd);
    FAILS(MM_ERR_INVALID_SIZE, mm_prange(mm_paddr(UINT64_MAX), 2), (void)0);
    /* Nothing usable is mapped; not enough is; the direct map does not reach it. */
    FAILS(MM_ERR_NO_MEMORY, mm_prange(mm_paddr(0), 1 * MIB), (void)0);
    FAILS(MM_ERR_NO_MEMORY, mm_prange(mm_paddr(1 * MIB), 4096), config.flags = MM_FRAMES_REFCOUNTS);
    FAILS(MM_ERR_NO_MEMORY, all, config.physmap = &narrow; config.flags = MM_FRAMES_REFCOUNTS);
#undef FAILS

    /* A map without room for one more entry. */
    rig.map = (struct mm_bootmap){0};
    assert_int_equal(mm_bootmap_init(&rig.map, rig.entries, 1), MM_OK);
    assert_int_equal(
        mm_bootmap_add(&rig.map, mm_prange(mm_paddr(1 * MIB), 15 * MIB), MM_BOOT_USABLE), MM_OK);
    assert_int_equal(mm_frame_init_from_map(&rig.frames, &rig.config, all), MM_ERR_LIMIT);
    assert_memory_equal(&rig.frames, &zero, sizeof(zero));
    assert_int_equal(mm_bootmap_usable_bytes(&rig.map), 15 * MIB);
}

/* The smallest machine on which it works, and one frame less. */
static void carve_all_but(bool with_later)
{
    struct t_ram *ram = t_ram_new(0, 1 * MIB);
    uint64_t least = 0;

    assert_non_null(ram);
    t_ram_back(ram, 0, 1 * MIB);
    for (uint64_t frames = 1; frames < 32; frames++) {
        const uint64_t ranges[] = {64 * KIB, frames * 4096, 0, 0};
        struct rig rig;
        struct mm_physmap physmap = mm_physmap_direct(t_ram_base(ram));
        mm_status_t status;

        rig_map(&rig, ranges);
        if (with_later) {
            assert_int_equal(mm_bootmap_add(&rig.map, mm_prange(mm_paddr(1 * MIB), 64 * KIB),
                                            MM_BOOT_BOOTLOADER),
                             MM_OK);
        }
        rig.config = (struct mm_frames_config){
            .map = &rig.map,
            .physmap = &physmap,
            .platform = rig_platform(&rig),
            .nr_cpus = 64,
            .flags = RIG_RECORDS,
            .later_kinds = with_later ? MM_BOOT_BIT(MM_BOOT_BOOTLOADER) : 0,
        };
        status = mm_frame_init_from_map(&rig.frames, &rig.config, mm_prange(mm_paddr(0), 1 * MIB));
        if (status == MM_OK) {
            least = least == 0 ? frames : least;
            assert_int_equal(rig_stats(&rig).nr_free, frames - least + 1);
            rig_check(&rig);
            assert_int_equal(mm_frame_destroy(&rig.frames), MM_OK);
        } else {
            assert_int_equal(least, 0);
            assert_int_equal(status, MM_ERR_NO_MEMORY);
            assert_int_equal(mm_bootmap_usable_bytes(&rig.map), frames * 4096);
        }
    }
    assert_true(least > 1);
    t_ram_delete(ram);
}

static void carve_all_but_one_frame(void **state)
{
    (void)state;
    carve_all_but(false);
    /* Memory that comes later is no place for metadata, and nothing to begin with. */
    carve_all_but(true);
}

/* --- size ------------------------------------------------------------------------------------- */

static void metadata_follows_memory(void **state)
{
    static const uint64_t dense[] = {4 * GIB, 8 * GIB, 0, 0};
    static const uint64_t sparse[] = {4 * GIB, 4 * GIB, 1ull << 51, 4 * GIB, 0, 0};
    struct rig rig;
    struct mm_frame_stats stats;

    (void)state;
    rig_start(&rig, dense, 4, 0);
    stats = rig_stats(&rig);
    assert_int_equal(stats.metadata_bytes, stats.state_bytes);
    assert_true(stats.state_bytes * 100 < stats.nr_frames * 14); /* 0.14 bytes a frame */
    assert_int_equal(stats.nr_free_2m, 4096);
    assert_int_equal(stats.nr_spans, 1);
    assert_int_equal(stats.nr_cpus, 4);
    rig_stop(&rig);
    rig_start(&rig, sparse, 4, RIG_RECORDS);
    stats = rig_stats(&rig);
    assert_true(stats.state_bytes * 100 < stats.nr_frames * 14);
    /* 4 bytes of counts, 8 of owners */
    assert_true(stats.metadata_bytes < stats.state_bytes + stats.nr_frames * 12 + 64 * KIB);
    assert_int_equal(stats.nr_reserved, (((1ull << 51) - 8 * GIB) / 4096));
    rig_stop(&rig);
}

/* 1 TiB comes up by writing its bitmap: its counts are not touched. */
static void one_tebibyte(void **state)
{
    static const uint64_t ranges[] = {4 * GIB, 1 * TIB, 0, 0};
    struct rig rig;
    struct mm_frame_request request = {.order = MM_FRAME_MAX_ORDER};
    mm_pfn_t pfn;
    struct t_ram *ram;

    (void)state;
    rig_map(&rig, ranges);
    /* A sparse window stands in for the metadata, so that what is not written costs nothing. */
    ram = t_ram_new(0, 4 * GIB);
    assert_non_null(ram);
    rig.config = (struct mm_frames_config){.map = &rig.map,
                                           .platform = rig_platform(&rig),
                                           .nr_cpus = 8,
                                           .flags = MM_FRAMES_REFCOUNTS};
    assert_int_equal(
        mm_frame_metadata_size(
            &(struct mm_frames_config){.map = &rig.map, .nr_cpus = 8, .flags = MM_FRAMES_REFCOUNTS},
            &rig.config.metadata_len),
        MM_OK);
    t_ram_back(ram, 0, mm_align_down(rig.config.metadata_len + 4095, 4096));
    rig.config.metadata = t_ram_ptr(ram, 0);
    assert_int_equal(mm_frame_init(&rig.frames, &rig.config), MM_OK);
    assert_int_equal(mm_frame_alloc(&rig.frames, &request, &pfn), MM_OK);
    assert_int_equal(pfn.raw, (4 * GIB + 1023 * GIB) / 4096);
    mm_frame_get(&rig.frames, pfn);
    assert_int_equal(mm_frame_refs(&rig.frames, pfn), 2);
    assert_false(mm_frame_put(&rig.frames, pfn));
    mm_frame_free(&rig.frames, pfn, MM_FRAME_MAX_ORDER);
    assert_int_equal(rig_stats(&rig).nr_free, 1 * TIB / 4096);
    assert_int_equal(mm_frame_destroy(&rig.frames), MM_OK);
    t_ram_delete(ram);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(size_statuses),
        cmocka_unit_test(too_many_ranges),
        cmocka_unit_test(thousands_of_ranges),
        cmocka_unit_test(init_statuses),
        cmocka_unit_test(no_memory_to_manage),
        cmocka_unit_test(destroy_and_again),
        cmocka_unit_test(carved_from_mapped_memory),
        cmocka_unit_test(carve_statuses),
        cmocka_unit_test(carve_all_but_one_frame),
        cmocka_unit_test(metadata_follows_memory),
        cmocka_unit_test(one_tebibyte),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
