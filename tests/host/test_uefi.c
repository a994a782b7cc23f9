// SPDX-License-Identifier: MIT
/**
 * The adapter for the memory map of UEFI: each type and attribute, each size of a descriptor, and
 * each damage to it.
 */
#include "firmware_rig.h"

#include <mm/boot/uefi.h>

#define SIZE       48u /* as firmware makes them */
#define RUNTIME    (UINT64_C(1) << 63)
#define SP         UINT64_C(0x40000)
#define NV         UINT64_C(0x8000)
#define WRITE_BACK UINT64_C(8)

static void put(uint8_t *at, uint32_t type, uint64_t start, uint64_t pages, uint64_t attributes)
{
    t_fw_set(at, 4, type);
    t_fw_set(at + 4, 4, 0xcccccccc);
    t_fw_set(at + 8, 8, start);
    t_fw_set(at + 16, 8, UINT64_C(0xcccccccccccccccc));
    t_fw_set(at + 24, 8, pages);
    t_fw_set(at + 32, 8, attributes);
}

static bool put_kind(uint8_t *at, uint64_t start, uint64_t pages, enum mm_boot_kind kind)
{
    static const uint8_t types[MM_BOOT_KIND_COUNT] = {
        [MM_BOOT_USABLE] = 7,    [MM_BOOT_BOOTLOADER] = 4, [MM_BOOT_ACPI_RECLAIM] = 9,
        [MM_BOOT_RUNTIME] = 6,   [MM_BOOT_ACPI_NVS] = 10,  [MM_BOOT_PERSISTENT] = 14,
        [MM_BOOT_RESERVED] = 15, [MM_BOOT_MMIO] = 11,      [MM_BOOT_BAD] = 8,
    };

    put(at, types[kind], start, pages, WRITE_BACK);
    return types[kind] != 0;
}

static mm_status_t read_map(struct mm_bootmap *map, const uint8_t *bytes, size_t len, size_t stride,
                            struct mm_boot_report *out, struct mm_boot_error *error)
{
    return mm_uefi_read_map(map, bytes, len, stride, 1, out, error);
}

static const struct fw_source uefi = {SIZE, true, put_kind, read_map, t_fw_uefi};

/* --- what becomes of one descriptor -------------------------------------------------------------- */

static const enum mm_boot_kind kinds[] = {
    MM_BOOT_RESERVED,   MM_BOOT_BOOTLOADER,   MM_BOOT_BOOTLOADER, MM_BOOT_BOOTLOADER,
    MM_BOOT_BOOTLOADER, MM_BOOT_RUNTIME,      MM_BOOT_RUNTIME,    MM_BOOT_USABLE,
    MM_BOOT_BAD,        MM_BOOT_ACPI_RECLAIM, MM_BOOT_ACPI_NVS,   MM_BOOT_MMIO,
    MM_BOOT_MMIO,       MM_BOOT_RESERVED,     MM_BOOT_PERSISTENT, MM_BOOT_RESERVED,
    MM_BOOT_RESERVED};

#define NR_TYPES 17u

static void types(void **state)
{
    static const uint32_t others[] = {99, 0x6fffffff, 0x70000000, 0x80000007, UINT32_MAX};
    uint8_t d[SIZE] = {0};

    (void)state;
    for (uint32_t type = 0; type < NR_TYPES; type++) {
        put(d, type, 0x123000, 3, WRITE_BACK);
        fw_one(&uefi, d, 0x123000, 0x3000, kinds[type]);
    }
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        put(d, others[i], 0x123000, 3, WRITE_BACK);
        fw_one(&uefi, d, 0x123000, 0x3000, MM_BOOT_RESERVED);
    }
}

/* Every bit alone, and the three that count together, with every type. */
static void attributes(void **state)
{
    uint8_t d[SIZE] = {0};

    (void)state;
    for (uint32_t type = 0; type < NR_TYPES; type++) {
        bool counts = kinds[type] == MM_BOOT_USABLE || kinds[type] == MM_BOOT_BOOTLOADER ||
                      kinds[type] == MM_BOOT_ACPI_RECLAIM;

        for (unsigned bit = 0; bit < 64; bit++) {
            enum mm_boot_kind kind = bit == 63   ? MM_BOOT_RUNTIME
                                     : bit == 18 ? MM_BOOT_RESERVED
                                     : bit == 15 ? MM_BOOT_PERSISTENT
                                                 : kinds[type];

            put(d, type, 0x123000, 3, UINT64_C(1) << bit);
            fw_one(&uefi, d, 0x123000, 0x3000, counts ? kind : kinds[type]);
        }
        put(d, type, 0x123000, 3, RUNTIME | NV);
        fw_one(&uefi, d, 0x123000, 0x3000, counts ? MM_BOOT_PERSISTENT : kinds[type]);
        put(d, type, 0x123000, 3, RUNTIME | NV | SP);
        fw_one(&uefi, d, 0x123000, 0x3000, counts ? MM_BOOT_RESERVED : kinds[type]);
        put(d, type, 0x123000, 3, UINT64_MAX & ~(RUNTIME | NV | SP));
        fw_one(&uefi, d, 0x123000, 0x3000, kinds[type]);
    }
}

static void lengths(void **state)
{
    const uint64_t top = UINT64_C(1) << 52; /* pages in 2^64 bytes */
    uint8_t d[SIZE] = {0};

    (void)state;
    put(d, 7, 0x1000, 0, 0);
    fw_one(&uefi, d, 0, 0, MM_BOOT_USABLE);
    put(d, 7, 0x1000, top - 1, 0); /* ends at 2^64: in order */
    fw_one(&uefi, d, 0x1000, 0 - UINT64_C(0x1000), MM_BOOT_USABLE);
    put(d, 7, 0x1001, top - 1, 0);
    fw_one(&uefi, d, 0, 0, MM_BOOT_USABLE);
    put(d, 7, 0, top, 0);
    fw_one(&uefi, d, 0, 0, MM_BOOT_USABLE);
    put(d, 7, 0x5000, top + 1, 0); /* one page, in 64 bits */
    fw_one(&uefi, d, 0, 0, MM_BOOT_USABLE);
    put(d, 7, UINT64_MAX, UINT64_MAX, 0);
    fw_one(&uefi, d, 0, 0, MM_BOOT_USABLE);
    put(d, 10, UINT64_MAX, UINT64_MAX, 0);
    fw_one(&uefi, d, UINT64_MAX, 1, MM_BOOT_ACPI_NVS);
    put(d, 0, 0x5000, UINT64_C(1) << 60, 0);
    fw_one(&uefi, d, 0x5000, 0 - UINT64_C(0x5000), MM_BOOT_RESERVED);
    put(d, 0, 0, top, 0);
    fw_one(&uefi, d, 0, UINT64_MAX, MM_BOOT_RESERVED);
    put(d, 7, 0x5000, top, SP); /* not usable, so it is cut */
    fw_one(&uefi, d, 0x5000, 0 - UINT64_C(0x5000), MM_BOOT_RESERVED);
}

/* What is reclaimed later is not believed either. */
static void a_wrapping_loader_is_never_reclaimed(void **state)
{
    struct mm_boot_error error;
    struct mm_bootmap map;
    uint8_t d[SIZE] = {0};

    (void)state;
    for (uint32_t type = 0; type < NR_TYPES; type++) {
        put(d, type, 0x5000, UINT64_C(1) << 52, 0);
        assert_int_equal(fw_read_into(&uefi, d, SIZE, SIZE, 4, &map, &error), MM_OK);
        assert_int_equal(mm_bootmap_reclaim(&map, MM_BOOT_BOOTLOADER), MM_OK);
        assert_int_equal(mm_bootmap_reclaim(&map, MM_BOOT_ACPI_RECLAIM), MM_OK);
        assert_int_equal(mm_bootmap_usable_bytes(&map), 0);
    }
}

static void starts_that_are_unaligned(void **state)
{
    struct mm_boot_error error;
    struct mm_bootmap map;
    uint8_t d[SIZE] = {0};

    (void)state;
    put(d, 7, 0x1001, 3, 0);
    fw_one(&uefi, d, 0x1001, 0x3000, MM_BOOT_USABLE);
    assert_int_equal(fw_read_into(&uefi, d, SIZE, SIZE, 4, &map, &error), MM_OK);
    assert_int_equal(mm_bootmap_usable_bytes(&map), 0x2000); /* whole frames */
}

/* --- the array ----------------------------------------------------------------------------------- */

/* Also odd ones; and the buffer ends at a page, so it begins at any byte. */
static void every_descriptor_size(void **state)
{
    static uint8_t bytes[FW_SAMPLE * 128];
    struct mm_boot_error error;
    struct mm_bootmap map;

    (void)state;
    for (size_t size = 0; size <= 128; size++) {
        size_t len = fw_sample(&uefi, bytes, size < 40 ? 40 : size);

        if (size < 40) {
            assert_int_equal(fw_read(&uefi, bytes, len, size, &error), MM_ERR_INVALID_SIZE);
            continue;
        }
        assert_int_equal(fw_read_into(&uefi, bytes, len, size, 32, &map, &error), MM_OK);
        assert_int_equal(mm_bootmap_usable_bytes(&map), 0x100000 - 0x10000 + 0x32000);
    }
    put(bytes, 7, 0, 1, 0);
    assert_int_equal(fw_read(&uefi, bytes, 40, SIZE_MAX, &error), MM_ERR_CORRUPTED);
    assert_int_equal(error.entry, 0);
}

static void every_truncation(void **state)
{
    static uint8_t bytes[FW_SAMPLE * 128];
    struct mm_boot_error error;

    (void)state;
    for (size_t size = 40; size <= 128; size++) {
        size_t all = fw_sample(&uefi, bytes, size);

        for (size_t len = 0; len <= all; len++) {
            mm_status_t status = fw_read(&uefi, bytes, len, size, &error);

            if (len == 0) {
                assert_int_equal(status, MM_ERR_INVALID_SIZE);
            } else if (len % size != 0) {
                assert_int_equal(status, MM_ERR_CORRUPTED);
                assert_int_equal(error.entry, len / size);
            } else {
                assert_int_equal(status, MM_OK);
            }
        }
    }
}

static void every_alignment(void **state)
{
    static uint8_t bytes[FW_SAMPLE * SIZE], area[sizeof(bytes) + 16];
    size_t len = fw_sample(&uefi, bytes, SIZE);
    struct mm_boot_entry entries[32];

    (void)state;
    for (size_t shift = 0; shift < 16; shift++) {
        struct mm_boot_report report;
        struct mm_bootmap map = {0};

        memcpy(area + shift, bytes, len);
        assert_int_equal(mm_bootmap_init(&map, entries, 32), MM_OK);
        assert_int_equal(mm_uefi_read_map(&map, area + shift, len, SIZE, 1, &report, NULL), MM_OK);
        assert_int_equal(report.nr_entries, FW_SAMPLE);
        assert_int_equal(report.nr_empty, 1);
        assert_int_equal(report.nr_ignored, 1);
        assert_int_equal(report.nr_cut, 2);
        assert_int_equal(map.nr, FW_SAMPLE - 2);
    }
}

static void bad_arguments(void **state)
{
    struct mm_boot_entry entries[4];
    struct mm_bootmap map = {0}, before;
    uint8_t d[SIZE] = {0};

    (void)state;
    put(d, 7, 0x1000, 1, 0);
    assert_int_equal(mm_uefi_read_map(NULL, d, SIZE, SIZE, 1, NULL, NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_uefi_read_map(&map, d, SIZE, SIZE, 1, NULL, NULL), MM_ERR_NOT_INITIALIZED);
    assert_int_equal(mm_bootmap_init(&map, entries, 4), MM_OK);
    before = map;
    assert_int_equal(mm_uefi_read_map(&map, NULL, SIZE, SIZE, 1, NULL, NULL),
                     MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_uefi_read_map(&map, d, SIZE, SIZE, 0, NULL, NULL), MM_ERR_UNSUPPORTED);
    assert_int_equal(mm_uefi_read_map(&map, d, SIZE, SIZE, 2, NULL, NULL), MM_ERR_UNSUPPORTED);
    assert_int_equal(mm_uefi_read_map(&map, d, 0, SIZE, 1, NULL, NULL), MM_ERR_INVALID_SIZE);
    assert_int_equal(mm_uefi_read_map(&map, d, SIZE, 39, 1, NULL, NULL), MM_ERR_INVALID_SIZE);
    assert_int_equal(mm_uefi_read_map(&map, d, SIZE - 1, SIZE, 1, NULL, NULL), MM_ERR_CORRUPTED);
    assert_memory_equal(&map, &before, sizeof(map));
    assert_int_equal(mm_uefi_read_map(&map, d, SIZE, SIZE, 1, NULL, NULL), MM_OK);
}

/* --- the same for each source -------------------------------------------------------------------- */

static void every_byte_damaged(void **state)
{
    (void)state;
    fw_every_byte_damaged(&uefi);
}

static void many_bytes_damaged(void **state)
{
    (void)state;
    fw_many_bytes_damaged(&uefi, "uefi, damage");
}

static void room_for_all_or_none(void **state)
{
    (void)state;
    fw_room_for_all_or_none(&uefi);
    fw_beside_others(&uefi);
}

static void contradictions(void **state)
{
    (void)state;
    fw_contradictions(&uefi);
}

static void a_hundred_thousand(void **state)
{
    (void)state;
    fw_a_hundred_thousand(&uefi, 40);
    fw_a_hundred_thousand(&uefi, 57);
}

static void maps_of_machines(void **state)
{
    (void)state;
    fw_maps_of_machines(&uefi, "uefi, machines");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(types),
        cmocka_unit_test(attributes),
        cmocka_unit_test(lengths),
        cmocka_unit_test(a_wrapping_loader_is_never_reclaimed),
        cmocka_unit_test(starts_that_are_unaligned),
        cmocka_unit_test(every_descriptor_size),
        cmocka_unit_test(every_truncation),
        cmocka_unit_test(every_alignment),
        cmocka_unit_test(bad_arguments),
        cmocka_unit_test(every_byte_damaged),
        cmocka_unit_test(many_bytes_damaged),
        cmocka_unit_test(room_for_all_or_none),
        cmocka_unit_test(contradictions),
        cmocka_unit_test(a_hundred_thousand),
        cmocka_unit_test(maps_of_machines),
    };

    return cmocka_run_group_tests(tests, fw_set_up, fw_tear_down);
}
