// SPDX-License-Identifier: MIT
/**
 * The adapter for the memory map of a PC BIOS: each type and attribute, each size of an entry, and
 * each damage to it.
 */
#include "firmware_rig.h"

#include <mm/boot/e820.h>

static bool put_kind(uint8_t *at, uint64_t start, uint64_t len, enum mm_boot_kind kind)
{
    static const uint8_t types[MM_BOOT_KIND_COUNT] = {
        [MM_BOOT_USABLE] = 1,   [MM_BOOT_ACPI_RECLAIM] = 3, [MM_BOOT_ACPI_NVS] = 4,
        [MM_BOOT_RESERVED] = 2, [MM_BOOT_PERSISTENT] = 7,   [MM_BOOT_BAD] = 5,
    };

    t_fw_set(at, 8, start);
    t_fw_set(at + 8, 8, len);
    t_fw_set(at + 16, 4, types[kind]);
    return types[kind] != 0;
}

static bool put_enabled(uint8_t *at, uint64_t start, uint64_t len, enum mm_boot_kind kind)
{
    t_fw_set(at + 20, 4, 1);
    return put_kind(at, start, len, kind);
}

static mm_status_t read_map(struct mm_bootmap *map, const uint8_t *bytes, size_t len, size_t stride,
                            struct mm_boot_report *out, struct mm_boot_error *error)
{
    return mm_e820_read_map(map, bytes, len, stride, 0, out, error);
}

static mm_status_t read_attributes(struct mm_bootmap *map, const uint8_t *bytes, size_t len,
                                   size_t stride, struct mm_boot_report *out,
                                   struct mm_boot_error *error)
{
    return mm_e820_read_map(map, bytes, len, stride, MM_E820_ATTRIBUTES, out, error);
}

/* Twenty bytes each, and with attributes. */
static const struct fw_source sources[2] = {
    {20, false, put_kind, read_map, t_fw_e820},
    {24, false, put_enabled, read_attributes, t_fw_e820_attributes},
};

/* --- what becomes of one entry ------------------------------------------------------------------- */

#define NR_TYPES 14u

static const enum mm_boot_kind kinds[NR_TYPES] = {
    MM_BOOT_RESERVED, MM_BOOT_USABLE,   MM_BOOT_RESERVED,   MM_BOOT_ACPI_RECLAIM, MM_BOOT_ACPI_NVS,
    MM_BOOT_BAD,      MM_BOOT_RESERVED, MM_BOOT_PERSISTENT, MM_BOOT_RESERVED,     MM_BOOT_RESERVED,
    MM_BOOT_RESERVED, MM_BOOT_RESERVED, MM_BOOT_RESERVED,   MM_BOOT_RESERVED};

static void put(uint8_t *at, uint64_t start, uint64_t len, uint32_t type, uint32_t attributes)
{
    t_fw_set(at, 8, start);
    t_fw_set(at + 8, 8, len);
    t_fw_set(at + 16, 4, type);
    t_fw_set(at + 20, 4, attributes);
}

static void types(void **state)
{
    static const uint32_t others[] = {99, 0xefffffff, 0x80000001, UINT32_MAX};
    uint8_t e[24];

    (void)state;
    for (unsigned s = 0; s < 2; s++) {
        for (uint32_t type = 0; type < NR_TYPES; type++) {
            put(e, 0x123456, 0x789, type, 1);
            fw_one(&sources[s], e, 0x123456, 0x789, kinds[type]);
        }
        for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
            put(e, 0x123456, 0x789, others[i], 1);
            fw_one(&sources[s], e, 0x123456, 0x789, MM_BOOT_RESERVED);
        }
    }
}

static void attributes(void **state)
{
    uint8_t e[24];

    (void)state;
    for (uint32_t type = 0; type < NR_TYPES; type++) {
        bool counts = type == 1 || type == 3;

        for (unsigned bit = 1; bit < 32; bit++) {
            enum mm_boot_kind kind = bit == 1   ? MM_BOOT_PERSISTENT
                                     : bit == 3 ? MM_BOOT_RESERVED
                                                : kinds[type];

            put(e, 0x1000, 0x2000, type, 1 | UINT32_C(1) << bit);
            fw_one(&sources[1], e, 0x1000, 0x2000, counts ? kind : kinds[type]);
            put(e, 0x1000, 0x2000, type, UINT32_C(1) << bit); /* bit 0 is clear */
            fw_one(&sources[1], e, 0, 0, MM_BOOT_RESERVED);
        }
        put(e, 0x1000, 0x2000, type, 1 | 2 | 8);
        fw_one(&sources[1], e, 0x1000, 0x2000, counts ? MM_BOOT_RESERVED : kinds[type]);
        put(e, 0x1000, UINT64_MAX, type, 0);
        fw_one(&sources[1], e, 0, 0, MM_BOOT_RESERVED);
    }
}

/* Of entries that are 24 bytes apart, nobody may have written the last four. */
static void attributes_are_read_only_if_there(void **state)
{
    struct mm_boot_error error;
    struct mm_bootmap map;
    uint8_t e[24];

    (void)state;
    put(e, 0x1000, 0x2000, 1, 0);
    assert_int_equal(fw_read_into(&sources[0], e, 24, 24, 4, &map, &error), MM_OK);
    assert_int_equal(mm_bootmap_usable_bytes(&map), 0x2000);
    assert_int_equal(fw_read_into(&sources[1], e, 24, 24, 4, &map, &error), MM_OK);
    assert_int_equal(mm_bootmap_usable_bytes(&map), 0);
}

static void lengths(void **state)
{
    uint8_t e[24];

    (void)state;
    for (unsigned s = 0; s < 2; s++) {
        put(e, 0x1000, 0, 1, 1);
        fw_one(&sources[s], e, 0, 0, MM_BOOT_USABLE);
        put(e, UINT64_MAX - 9, 10, 1, 1); /* ends at 2^64: in order */
        fw_one(&sources[s], e, UINT64_MAX - 9, 10, MM_BOOT_USABLE);
        put(e, UINT64_MAX - 9, 11, 1, 1);
        fw_one(&sources[s], e, 0, 0, MM_BOOT_USABLE);
        put(e, UINT64_MAX - 9, 11, 2, 1);
        fw_one(&sources[s], e, UINT64_MAX - 9, 10, MM_BOOT_RESERVED);
        put(e, UINT64_MAX - 9, 11, 3, 1); /* it may be reclaimed later */
        fw_one(&sources[s], e, UINT64_MAX - 9, 10, MM_BOOT_RESERVED);
        put(e, UINT64_MAX - 9, 11, 5, 1);
        fw_one(&sources[s], e, UINT64_MAX - 9, 10, MM_BOOT_BAD);
        put(e, 2, UINT64_MAX, 99, 1);
        fw_one(&sources[s], e, 2, UINT64_MAX - 1, MM_BOOT_RESERVED);
        put(e, 0, UINT64_MAX, 1, 1);
        fw_one(&sources[s], e, 0, UINT64_MAX, MM_BOOT_USABLE);
        put(e, 1, UINT64_MAX, 1, 1);
        fw_one(&sources[s], e, 1, UINT64_MAX, MM_BOOT_USABLE);
        put(e, UINT64_MAX, UINT64_MAX, 1, 1);
        fw_one(&sources[s], e, 0, 0, MM_BOOT_USABLE);
    }
}

/* --- the array ----------------------------------------------------------------------------------- */

static void every_entry_size(void **state)
{
    static uint8_t bytes[FW_SAMPLE * 128];
    struct mm_boot_error error;
    struct mm_bootmap map;

    (void)state;
    for (unsigned s = 0; s < 2; s++) {
        for (size_t size = 0; size <= 128; size++) {
            size_t len = fw_sample(&sources[s], bytes, size < 24 ? 24 : size);

            if (size < sources[s].size) {
                assert_int_equal(fw_read(&sources[s], bytes, len, size, &error),
                                 MM_ERR_INVALID_SIZE);
                continue;
            }
            len = fw_sample(&sources[s], bytes, size);
            assert_int_equal(fw_read_into(&sources[s], bytes, len, size, 32, &map, &error), MM_OK);
            assert_int_equal(mm_bootmap_usable_bytes(&map), 0x100000 - 0x10000 + 0x32000);
        }
        assert_int_equal(fw_read(&sources[s], bytes, 24, SIZE_MAX, &error), MM_ERR_CORRUPTED);
        assert_int_equal(error.entry, 0);
    }
}

static void every_truncation(void **state)
{
    static uint8_t bytes[FW_SAMPLE * 128];
    struct mm_boot_error error;

    (void)state;
    for (unsigned s = 0; s < 2; s++) {
        for (size_t size = sources[s].size; size <= 128; size++) {
            size_t all = fw_sample(&sources[s], bytes, size);

            for (size_t len = 0; len <= all; len++) {
                mm_status_t status = fw_read(&sources[s], bytes, len, size, &error);

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
}

static void bad_arguments(void **state)
{
    struct mm_boot_entry entries[4];
    struct mm_bootmap map = {0}, before;
    uint8_t e[24];

    (void)state;
    put(e, 0x1000, 0x1000, 1, 1);
    assert_int_equal(mm_e820_read_map(NULL, e, 24, 24, 0, NULL, NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_e820_read_map(&map, e, 24, 24, 0, NULL, NULL), MM_ERR_NOT_INITIALIZED);
    assert_int_equal(mm_bootmap_init(&map, entries, 4), MM_OK);
    before = map;
    assert_int_equal(mm_e820_read_map(&map, NULL, 24, 24, 0, NULL, NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_e820_read_map(&map, e, 24, 24, 2, NULL, NULL), MM_ERR_INVALID_FLAGS);
    assert_int_equal(mm_e820_read_map(&map, e, 24, 24, 3, NULL, NULL), MM_ERR_INVALID_FLAGS);
    assert_int_equal(mm_e820_read_map(&map, e, 0, 24, 0, NULL, NULL), MM_ERR_INVALID_SIZE);
    assert_int_equal(mm_e820_read_map(&map, e, 20, 20, 1, NULL, NULL), MM_ERR_INVALID_SIZE);
    assert_int_equal(mm_e820_read_map(&map, e, 23, 24, 0, NULL, NULL), MM_ERR_CORRUPTED);
    assert_memory_equal(&map, &before, sizeof(map));
    assert_int_equal(mm_e820_read_map(&map, e, 24, 24, 1, NULL, NULL), MM_OK);
}

/* --- the same for each source -------------------------------------------------------------------- */

static void every_byte_damaged(void **state)
{
    (void)state;
    fw_every_byte_damaged(&sources[0]);
    fw_every_byte_damaged(&sources[1]);
}

static void many_bytes_damaged(void **state)
{
    (void)state;
    fw_many_bytes_damaged(&sources[0], "e820, damage");
    fw_many_bytes_damaged(&sources[1], "e820 with attributes, damage");
}

static void room_for_all_or_none(void **state)
{
    (void)state;
    for (unsigned s = 0; s < 2; s++) {
        fw_room_for_all_or_none(&sources[s]);
        fw_beside_others(&sources[s]);
    }
}

static void contradictions(void **state)
{
    (void)state;
    fw_contradictions(&sources[0]);
    fw_contradictions(&sources[1]);
}

static void a_hundred_thousand(void **state)
{
    (void)state;
    fw_a_hundred_thousand(&sources[0], 20);
    fw_a_hundred_thousand(&sources[1], 25);
}

static void maps_of_machines(void **state)
{
    (void)state;
    fw_maps_of_machines(&sources[0], "e820, machines");
    fw_maps_of_machines(&sources[1], "e820 with attributes, machines");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(types),
        cmocka_unit_test(attributes),
        cmocka_unit_test(attributes_are_read_only_if_there),
        cmocka_unit_test(lengths),
        cmocka_unit_test(every_entry_size),
        cmocka_unit_test(every_truncation),
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
