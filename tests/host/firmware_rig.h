// SPDX-License-Identifier: MIT
/**
 * What the tests of the adapters for UEFI, E820 and Limine share: bytes right before a page that
 * traps, a call that is compared with the second reader of model_firmware.h entry by entry, and the
 * tests that are the same for each.
 */
#ifndef FIRMWARE_RIG_H
#define FIRMWARE_RIG_H

#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "e820_file.h"
#include "e820_synth.h"
#include "model_firmware.h"
#include "prng.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define FW_MANY    100000u
#define FW_ENTRIES (2 * FW_MANY)
#define FW_BYTES   (FW_MANY * UINT64_C(136) + 8) /* of descriptors of 128 bytes, and more */

/** A source, as a test has it: how an entry is written, and how its adapter is called. */
struct fw_source {
    size_t size; /**< bytes of an entry as it is written */
    bool in_pages;
    /** Write `len` bytes (pages, if so) from `start`; false: this kind has no type there. */
    bool (*put)(uint8_t *at, uint64_t start, uint64_t len, enum mm_boot_kind kind);
    /** Call it: `bytes` lie before the page that traps. */
    mm_status_t (*read)(struct mm_bootmap *map, const uint8_t *bytes, size_t len, size_t stride,
                        struct mm_boot_report *out, struct mm_boot_error *error);
    struct t_fw_memory (*model)(const uint8_t *at);
};

static uint8_t *fw_guard; /* the page that traps */
static struct mm_boot_entry fw_entries[FW_ENTRIES], fw_expected_entries[FW_ENTRIES];

static inline int fw_set_up(void **state)
{
    size_t len = (FW_BYTES + 4095) / 4096 * 4096;
    uint8_t *area =
        mmap(NULL, len + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    (void)state;
    if (area == MAP_FAILED) {
        return -1;
    }
    fw_guard = area + len;
    return mprotect(fw_guard, 4096, PROT_NONE);
}

static inline int fw_tear_down(void **state)
{
    size_t len = (FW_BYTES + 4095) / 4096 * 4096;

    (void)state;
    return munmap(fw_guard - len, len + 4096);
}

/** A copy of `bytes` whose last one lies right before the page that traps. */
static inline uint8_t *fw_place(const void *bytes, size_t len)
{
    assert_true(len <= FW_BYTES);
    if (len != 0) {
        memcpy(fw_guard - len, bytes, len);
    }
    return fw_guard - len;
}

static inline void fw_same_maps(struct mm_bootmap *a, struct mm_bootmap *b)
{
    assert_int_equal(a->nr, b->nr);
    assert_memory_equal(a->entries, b->entries, a->nr * sizeof(*a->entries));
}

/** Whole entries were read: the map must be what the second reader makes of them. */
static inline void fw_judge(const struct fw_source *source, const uint8_t *bytes, size_t len,
                            size_t stride, struct mm_bootmap *map,
                            const struct mm_boot_report *report)
{
    struct mm_boot_report expected_report = {0};
    struct mm_bootmap expected = {0};

    assert_int_equal(mm_bootmap_init(&expected, fw_expected_entries, map->capacity), MM_OK);
    for (size_t at = 0; at < len; at += stride) {
        t_fw_add(&expected, &expected_report, source->model(bytes + at));
    }
    assert_memory_equal(report, &expected_report, sizeof(*report));
    fw_same_maps(map, &expected);
    assert_int_equal(mm_bootmap_normalize(map), MM_OK);
    assert_int_equal(mm_bootmap_normalize(&expected), MM_OK);
    fw_same_maps(map, &expected);
}

/**
 * Read bytes into a map of `capacity` entries, and check what holds whatever they are. On MM_OK the
 * map stays in fw_entries, normalised.
 */
static inline mm_status_t fw_read_into(const struct fw_source *source, const uint8_t *bytes,
                                       size_t len, size_t stride, uint32_t capacity,
                                       struct mm_bootmap *map, struct mm_boot_error *error)
{
    const struct mm_boot_error error_before = {77, "untouched"};
    struct mm_boot_report report, report_before;
    struct mm_bootmap map_before;
    mm_status_t status;

    memset(&report, 0xa5, sizeof(report));
    report_before = report;
    memset(fw_entries, 0x5a, capacity * sizeof(*fw_entries));
    memset(fw_expected_entries, 0x5a, capacity * sizeof(*fw_entries));
    *map = (struct mm_bootmap){0};
    assert_int_equal(mm_bootmap_init(map, fw_entries, capacity), MM_OK);
    map_before = *map;
    *error = error_before;
    status = source->read(map, fw_place(bytes, len), len, stride, &report, error);
    if (status == MM_OK) {
        fw_judge(source, bytes, len, stride, map, &report);
    } else {
        assert_memory_equal(map, &map_before, sizeof(*map));
        assert_memory_equal(fw_entries, fw_expected_entries, capacity * sizeof(*fw_entries));
        assert_memory_equal(&report, &report_before, sizeof(report));
    }
    if (status == MM_ERR_CORRUPTED) {
        assert_non_null(error->what);
        assert_string_not_equal(error->what, "untouched");
    } else {
        assert_int_equal(error->entry, error_before.entry);
        assert_ptr_equal(error->what, error_before.what);
    }
    return status;
}

static inline mm_status_t fw_read(const struct fw_source *source, const uint8_t *bytes, size_t len,
                                  size_t stride, struct mm_boot_error *error)
{
    struct mm_bootmap map;

    return fw_read_into(source, bytes, len, stride, 32, &map, error);
}

/** One entry alone: what is added, if anything. */
static inline void fw_one(const struct fw_source *source, const uint8_t *at, uint64_t start,
                          uint64_t len, enum mm_boot_kind kind)
{
    struct mm_boot_error error;
    struct mm_bootmap map;

    assert_int_equal(fw_read_into(source, at, source->size, source->size, 4, &map, &error), MM_OK);
    assert_int_equal(map.nr, len != 0);
    if (len != 0) {
        assert_int_equal(fw_entries[0].range.start.raw, start);
        assert_int_equal(fw_entries[0].range.len, len);
        assert_int_equal(fw_entries[0].kind, kind);
    }
}

/** An entry in every unit; bytes round to pages so that nothing becomes usable. */
static inline bool fw_put(const struct fw_source *source, uint8_t *at, struct mm_prange *range,
                          enum mm_boot_kind kind)
{
    if (!source->in_pages) {
        return source->put(at, range->start.raw, range->len, kind);
    }
    if (kind == MM_BOOT_USABLE) {
        uint64_t end = (range->start.raw + range->len) & ~UINT64_C(4095);

        range->start.raw = (range->start.raw + 4095) & ~UINT64_C(4095);
        range->len = end > range->start.raw ? end - range->start.raw : 0;
    } else {
        range->len = (range->len + (range->start.raw & 4095) + 4095) & ~UINT64_C(4095);
        range->start.raw &= ~UINT64_C(4095);
    }
    return source->put(at, range->start.raw, range->len / 4096, kind);
}

/* --- tests that are the same for each source ---------------------------------------------------- */

#define FW_SAMPLE 9u

/** Some of everything: usable, reserved over it, ACPI, empty, unaligned, past 2^64. */
static inline size_t fw_sample(const struct fw_source *source, uint8_t *bytes, size_t stride)
{
    static const struct {
        uint64_t start, len;
        enum mm_boot_kind kind;
    } list[FW_SAMPLE] = {
        {0x100000, 0x100, MM_BOOT_USABLE},
        {0x180000, 0x10, MM_BOOT_RESERVED},
        {0x200000, 0x20, MM_BOOT_ACPI_RECLAIM},
        {0x300000, 0, MM_BOOT_USABLE},
        {0x400123, 0x33, MM_BOOT_USABLE},
        {UINT64_MAX - 0xfff, 0x100000, MM_BOOT_USABLE},
        {UINT64_MAX - 0xfff, 0x100000, MM_BOOT_RESERVED},
        {UINT64_MAX - 0x1fff, 0x100000, MM_BOOT_ACPI_RECLAIM},
        {0x600000, 0x40, MM_BOOT_BAD},
    };

    memset(bytes, 0xcc, FW_SAMPLE * stride);
    for (size_t i = 0; i < FW_SAMPLE; i++) {
        uint64_t len = source->in_pages ? list[i].len : list[i].len * 4096 + (i == 4);

        assert_true(source->put(bytes + i * stride, list[i].start, len, list[i].kind));
    }
    return FW_SAMPLE * stride;
}

static inline void fw_every_byte_damaged(const struct fw_source *source)
{
    static uint8_t bytes[FW_SAMPLE * 64];
    size_t len = fw_sample(source, bytes, source->size);
    struct mm_boot_error error;

    for (size_t at = 0; at < len; at++) {
        const uint8_t good = bytes[at];

        for (unsigned value = 0; value < 256; value++) {
            if (MM_TEST_SANITIZED && value % 17 != at % 17 && value != 0xff && value != 0) {
                continue;
            }
            bytes[at] = (uint8_t)value;
            assert_int_equal(fw_read(source, bytes, len, source->size, &error), MM_OK);
        }
        bytes[at] = good;
    }
}

static inline void fw_many_bytes_damaged(const struct fw_source *source, const char *name)
{
    static const uint64_t edges[] = {0,       1,          4095,           4096,
                                     1 << 20, UINT64_MAX, UINT64_MAX - 1, UINT64_MAX - 4095};
    const unsigned rounds =
        (MM_TEST_SANITIZED ? 2000 : 20000) * (getenv("MM_TEST_FULL") != NULL ? 50 : 1);
    static uint8_t good[FW_SAMPLE * 64];
    size_t len = fw_sample(source, good, source->size);
    struct mm_boot_error error;
    struct t_prng prng;

    t_prng_start(&prng, name);
    for (unsigned i = 0; i < rounds; i++) {
        uint8_t bytes[sizeof(good)];
        unsigned changes = (unsigned)t_prng_range(&prng, 1, 8);

        memcpy(bytes, good, len);
        for (unsigned c = 0; c < changes; c++) {
            size_t at = (size_t)t_prng_below(&prng, len / 4) * 4;
            unsigned width = t_prng_chance(&prng, 1, 2) && at + 8 <= len ? 8 : 4;
            uint64_t value = t_prng_chance(&prng, 1, 2) ? edges[t_prng_below(&prng, 8)]
                                                        : t_prng_magnitude(&prng, 64);

            t_fw_set(bytes + at, width, value);
        }
        assert_int_equal(fw_read(source, bytes, len, source->size, &error), MM_OK);
    }
}

/** All entries fit, or none is added; those that add nothing need no room. */
static inline void fw_room_for_all_or_none(const struct fw_source *source)
{
    static uint8_t bytes[FW_SAMPLE * 64];
    size_t len = fw_sample(source, bytes, source->size);
    const uint32_t adds = FW_SAMPLE - 2;
    struct mm_boot_error error;
    struct mm_bootmap map;

    for (uint32_t capacity = 1; capacity < 2 * adds + 3; capacity++) {
        mm_status_t status = fw_read_into(source, bytes, len, source->size, capacity, &map, &error);

        assert_int_equal(status, capacity >= 2 * adds - 1 ? MM_OK : MM_ERR_LIMIT);
    }
}

/** What is added comes beside what the map held, and a failure leaves that alone. */
static inline void fw_beside_others(const struct fw_source *source)
{
    static uint8_t bytes[FW_SAMPLE * 64];
    size_t len = fw_sample(source, bytes, source->size);
    struct mm_boot_entry entries[32], before[32];
    struct mm_bootmap map = {0}, map_before;

    for (uint32_t capacity = 8; capacity < 32; capacity++) {
        bool fits = capacity >= 2 * (FW_SAMPLE - 2 + 1) - 1;

        memset(entries, 0x5a, sizeof(entries));
        map = (struct mm_bootmap){0};
        assert_int_equal(mm_bootmap_init(&map, entries, capacity), MM_OK);
        assert_int_equal(
            mm_bootmap_add(&map, mm_prange(mm_paddr(0x100000), 0x1000), MM_BOOT_KERNEL), MM_OK);
        memcpy(before, entries, sizeof(before));
        map_before = map;
        assert_int_equal(source->read(&map, fw_place(bytes, len), len, source->size, NULL, NULL),
                         fits ? MM_OK : MM_ERR_LIMIT);
        if (fits) {
            assert_int_equal(map.nr, FW_SAMPLE - 2 + 1);
            assert_memory_equal(&entries[0], &before[0], sizeof(before[0]));
        } else {
            assert_memory_equal(&map, &map_before, sizeof(map));
            assert_memory_equal(entries, before, sizeof(before));
        }
    }
}

/** The same byte, usable and not, in either order: it is not usable. */
static inline void fw_contradictions(const struct fw_source *source)
{
    static uint8_t bytes[2 * 64];
    struct mm_boot_error error;
    struct mm_bootmap map;

    for (unsigned kind = 1; kind < MM_BOOT_KIND_COUNT; kind++) {
        for (unsigned order = 0; order < 2; order++) {
            uint64_t unit = source->in_pages ? 1 : 4096;

            memset(bytes, 0, sizeof(bytes));
            assert_true(
                source->put(bytes + order * source->size, 0x100000, 3 * unit, MM_BOOT_USABLE));
            if (!source->put(bytes + (1 - order) * source->size, 0x101000, unit,
                             (enum mm_boot_kind)kind)) {
                continue;
            }
            assert_int_equal(
                fw_read_into(source, bytes, 2 * source->size, source->size, 8, &map, &error),
                MM_OK);
            assert_int_equal(mm_bootmap_usable_bytes(&map), 0x2000);
            assert_int_equal(map.nr, 3);
            assert_int_equal(map.entries[1].range.start.raw, 0x101000);
            assert_int_equal(map.entries[1].kind, kind);
        }
    }
}

static inline void fw_a_hundred_thousand(const struct fw_source *source, size_t stride)
{
    uint8_t *bytes = malloc(FW_MANY * stride);
    struct mm_boot_error error;
    struct mm_bootmap map;

    assert_non_null(bytes);
    memset(bytes, 0xcc, FW_MANY * stride);
    for (uint64_t i = 0; i < FW_MANY; i++) {
        uint64_t at = (i * 7919) % FW_MANY; /* out of order */

        assert_true(source->put(bytes + i * stride, at << 13, source->in_pages ? 1 : 4096,
                                at % 3 != 0 ? MM_BOOT_USABLE : MM_BOOT_RESERVED));
    }
    assert_int_equal(
        fw_read_into(source, bytes, FW_MANY * stride, stride, FW_ENTRIES, &map, &error), MM_OK);
    assert_int_equal(map.nr, FW_MANY);
    assert_int_equal(
        fw_read_into(source, bytes, FW_MANY * stride, stride, FW_ENTRIES - 2, &map, &error),
        MM_ERR_LIMIT);
    free(bytes);
}

static inline enum mm_boot_kind fw_kind_of(const struct t_memory *memory)
{
    static const struct {
        const char *word;
        enum mm_boot_kind kind;
    } words[] = {{"ACPI data", MM_BOOT_ACPI_RECLAIM},
                 {"ACPI NVS", MM_BOOT_ACPI_NVS},
                 {"unusable", MM_BOOT_BAD}};

    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (strcmp(memory->type, words[i].word) == 0) {
            return words[i].kind;
        }
    }
    return memory->usable ? MM_BOOT_USABLE : MM_BOOT_RESERVED;
}

/** Through the adapter, and added directly: the same normalised map. */
static inline void fw_same_as_direct(const struct fw_source *source, const struct t_memory *list,
                                     size_t nr)
{
    static struct mm_boot_entry direct_entries[MM_BOOTMAP_CAPACITY(T_E820_ENTRIES_MAX)];
    static uint8_t bytes[T_E820_ENTRIES_MAX * 64];
    struct mm_bootmap direct = {0}, map;
    struct mm_boot_error error;

    assert_int_equal(mm_bootmap_init(&direct, direct_entries, 2 * T_E820_ENTRIES_MAX), MM_OK);
    for (size_t i = 0; i < nr; i++) {
        struct mm_prange range = mm_prange(mm_paddr(list[i].start), list[i].len);
        enum mm_boot_kind kind = fw_kind_of(&list[i]);

        assert_true(fw_put(source, bytes + i * source->size, &range, kind));
        assert_int_equal(mm_bootmap_add(&direct, range, kind), MM_OK);
    }
    assert_int_equal(fw_read_into(source, bytes, nr * source->size, source->size,
                                  2 * T_E820_ENTRIES_MAX, &map, &error),
                     MM_OK);
    assert_int_equal(mm_bootmap_normalize(&direct), MM_OK);
    fw_same_maps(&map, &direct);
    assert_int_equal(mm_bootmap_usable_bytes(&map), mm_bootmap_usable_bytes(&direct));
}

static inline void fw_maps_of_machines(const struct fw_source *source, const char *name)
{
    static struct t_e820_files files;
    static struct t_e820_map map;
    struct t_prng prng;

    t_prng_start(&prng, name);
    t_e820_list(&files);
    assert_true(files.nr >= 40);
    for (size_t i = 0; i < files.nr; i++) {
        t_e820_read(files.name[i], &map);
        fw_same_as_direct(source, map.entries, map.nr);
        t_prng_shuffle(&prng, map.entries, map.nr, sizeof(map.entries[0]));
        fw_same_as_direct(source, map.entries, map.nr);
    }
    for (unsigned flags = 0; flags <= T_SYNTH_ALL; flags++) {
        if ((flags & (T_SYNTH_WRAP | T_SYNTH_HUGE)) == 0) { /* those are not added directly */
            t_synth(&prng, flags, UINT64_C(1) << 40, map.entries, 64);
            fw_same_as_direct(source, map.entries, 64);
        }
    }
}

#endif
