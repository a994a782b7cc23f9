// SPDX-License-Identifier: MIT
/**
 * The adapter for the memory map of Limine: each type, each null pointer, and each damage to an
 * entry.
 */
#include "firmware_rig.h"

#include <mm/boot/limine.h>

#define SIZE 24u

static void put(uint8_t *at, uint64_t start, uint64_t len, uint64_t type)
{
    t_fw_set(at, 8, start);
    t_fw_set(at + 8, 8, len);
    t_fw_set(at + 16, 8, type);
}

static bool put_kind(uint8_t *at, uint64_t start, uint64_t len, enum mm_boot_kind kind)
{
    static const uint8_t types[MM_BOOT_KIND_COUNT] = {
        [MM_BOOT_RESERVED] = 1,   [MM_BOOT_ACPI_RECLAIM] = 2, [MM_BOOT_ACPI_NVS] = 3,
        [MM_BOOT_BAD] = 4,        [MM_BOOT_BOOTLOADER] = 5,   [MM_BOOT_KERNEL] = 6,
        [MM_BOOT_FRAMEBUFFER] = 7};

    put(at, start, len, types[kind]);
    return kind == MM_BOOT_USABLE || types[kind] != 0;
}

/* Pointers to each whole entry; in a block of their exact length, for ASan to see. */
static mm_status_t read_map(struct mm_bootmap *map, const uint8_t *bytes, size_t len, size_t stride,
                            struct mm_boot_report *out, struct mm_boot_error *error)
{
    size_t nr = len / stride;
    const uint8_t **pointers = malloc(nr * sizeof(*pointers) + (nr == 0));
    mm_status_t status;

    assert_non_null(pointers);
    for (size_t i = 0; i < nr; i++) {
        pointers[i] = bytes + i * stride;
    }
    status = mm_limine_read_map(map, pointers, nr, out, error);
    free(pointers);
    return status;
}

static const struct fw_source limine = {SIZE, false, put_kind, read_map, t_fw_limine};

/* --- what becomes of one entry ------------------------------------------------------------------- */

static void types(void **state)
{
    static const enum mm_boot_kind kinds[] = {
        MM_BOOT_USABLE,     MM_BOOT_RESERVED, MM_BOOT_ACPI_RECLAIM, MM_BOOT_ACPI_NVS, MM_BOOT_BAD,
        MM_BOOT_BOOTLOADER, MM_BOOT_KERNEL,   MM_BOOT_FRAMEBUFFER,  MM_BOOT_RESERVED};
    static const uint64_t others[] = {9,
                                      99,
                                      0x1000,
                                      UINT32_MAX,
                                      UINT64_C(1) << 32, /* usable, in 32 bits */
                                      UINT64_C(1) << 63,
                                      UINT64_MAX};
    uint8_t e[SIZE];

    (void)state;
    for (uint64_t type = 0; type < sizeof(kinds) / sizeof(kinds[0]); type++) {
        put(e, 0x123456, 0x789, type);
        fw_one(&limine, e, 0x123456, 0x789, kinds[type]);
    }
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        put(e, 0x123456, 0x789, others[i]);
        fw_one(&limine, e, 0x123456, 0x789, MM_BOOT_RESERVED);
    }
}

static void lengths(void **state)
{
    uint8_t e[SIZE];

    (void)state;
    put(e, 0x1000, 0, 0);
    fw_one(&limine, e, 0, 0, MM_BOOT_USABLE);
    put(e, UINT64_MAX - 9, 10, 0); /* ends at 2^64: in order */
    fw_one(&limine, e, UINT64_MAX - 9, 10, MM_BOOT_USABLE);
    put(e, UINT64_MAX - 9, 11, 0);
    fw_one(&limine, e, 0, 0, MM_BOOT_USABLE);
    for (uint64_t type = 1; type < 10; type++) {
        bool reserved = type == 1 || type == 2 || type == 5 || type >= 8; /* or may be reclaimed */

        put(e, UINT64_MAX - 9, 11, type);
        fw_one(&limine, e, UINT64_MAX - 9, 10, reserved ? MM_BOOT_RESERVED : t_fw_limine(e).kind);
    }
    put(e, 0, UINT64_MAX, 1);
    fw_one(&limine, e, 0, UINT64_MAX, MM_BOOT_RESERVED);
}

/* --- the array ----------------------------------------------------------------------------------- */

/* Every number of pointers, right before the page that traps; each of them null in its turn. */
static void pointers_that_are_null(void **state)
{
    static uint8_t bytes[FW_SAMPLE * SIZE];
    const uint8_t *pointers[FW_SAMPLE];
    struct mm_boot_entry entries[32];

    (void)state;
    (void)fw_sample(&limine, bytes, SIZE);
    for (size_t i = 0; i < FW_SAMPLE; i++) {
        pointers[i] = bytes + i * SIZE;
    }
    for (uint64_t nr = 1; nr <= FW_SAMPLE; nr++) {
        for (uint64_t null = 0; null <= nr; null++) {
            uint8_t *at = fw_place(pointers, nr * sizeof(*pointers));
            struct mm_boot_error error = {77, NULL};
            struct mm_boot_report report = {77, 77, 77, 77};
            struct mm_bootmap map = {0}, before;

            assert_int_equal(mm_bootmap_init(&map, entries, 32), MM_OK);
            before = map;
            if (null == nr) { /* none */
                assert_int_equal(mm_limine_read_map(&map, at, nr, &report, &error), MM_OK);
                assert_int_equal(report.nr_entries, nr);
                assert_int_equal(error.entry, 77);
                continue;
            }
            memset(at + null * sizeof(*pointers), 0, sizeof(*pointers));
            assert_int_equal(mm_limine_read_map(&map, at, nr, &report, &error), MM_ERR_CORRUPTED);
            assert_int_equal(error.entry, null);
            assert_non_null(error.what);
            assert_int_equal(report.nr_entries, 77);
            assert_memory_equal(&map, &before, sizeof(map));
            assert_int_equal(mm_limine_read_map(&map, at, nr, NULL, NULL), MM_ERR_CORRUPTED);
        }
    }
}

/* Neither the array nor the entries need be aligned, and one entry may come twice. */
static void every_alignment(void **state)
{
    static uint8_t area[2 * SIZE + 16], array[3 * sizeof(void *) + 16];
    struct mm_boot_entry entries[8];

    (void)state;
    for (size_t shift = 0; shift < 16; shift++) {
        uint8_t *e = area + shift;
        const uint8_t *pointers[3] = {e + SIZE, e, e + SIZE};
        struct mm_boot_report report;
        struct mm_bootmap map = {0};

        put(e, 0x1000, 0x3000, 0);
        put(e + SIZE, 0x2000, 0x1000, 6);
        memcpy(array + 15 - shift, pointers, sizeof(pointers));
        assert_int_equal(mm_bootmap_init(&map, entries, 8), MM_OK);
        assert_int_equal(mm_limine_read_map(&map, array + 15 - shift, 3, &report, NULL), MM_OK);
        assert_int_equal(report.nr_entries, 3);
        assert_int_equal(report.nr_empty + report.nr_ignored + report.nr_cut, 0);
        assert_int_equal(mm_bootmap_usable_bytes(&map), 0x2000);
    }
}

/* As the protocol lays them out. */
struct response_entry {
    uint64_t base, length, type;
};

static void as_a_kernel_calls_it(void **state)
{
    struct response_entry low = {0, 0x9f000, 0}, image = {0x100000, 0x100000, 6},
                          high = {0x200000, 0x800000, 0}, loader = {0xa00000, 0x10000, 5};
    struct response_entry *list[] = {&high, &low, &image, &loader};
    struct mm_boot_entry entries[8];
    struct mm_bootmap map = {0};

    (void)state;
    assert_int_equal(mm_bootmap_init(&map, entries, 8), MM_OK);
    assert_int_equal(mm_limine_read_map(&map, list, 4, NULL, NULL), MM_OK);
    assert_int_equal(mm_bootmap_usable_bytes(&map), 0x89f000);
    assert_int_equal(mm_bootmap_reclaim(&map, MM_BOOT_BOOTLOADER), MM_OK);
    assert_int_equal(mm_bootmap_usable_bytes(&map), 0x8af000);
}

static void bad_arguments(void **state)
{
    struct response_entry one = {0x1000, 0x1000, 0};
    struct response_entry *list[] = {&one};
    struct mm_boot_entry entries[4];
    struct mm_bootmap map = {0}, before;

    (void)state;
    assert_int_equal(mm_limine_read_map(NULL, list, 1, NULL, NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_limine_read_map(&map, list, 1, NULL, NULL), MM_ERR_NOT_INITIALIZED);
    assert_int_equal(mm_bootmap_init(&map, entries, 4), MM_OK);
    before = map;
    assert_int_equal(mm_limine_read_map(&map, NULL, 1, NULL, NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_limine_read_map(&map, list, 0, NULL, NULL), MM_ERR_INVALID_SIZE);
    assert_int_equal(mm_limine_read_map(&map, list, UINT64_C(1) << 61, NULL, NULL),
                     MM_ERR_INVALID_SIZE);
    assert_int_equal(mm_limine_read_map(&map, list, UINT64_MAX, NULL, NULL), MM_ERR_INVALID_SIZE);
    assert_memory_equal(&map, &before, sizeof(map));
    assert_int_equal(mm_limine_read_map(&map, list, 1, NULL, NULL), MM_OK);
}

/* --- the same for each source -------------------------------------------------------------------- */

static void every_byte_damaged(void **state)
{
    (void)state;
    fw_every_byte_damaged(&limine);
}

static void many_bytes_damaged(void **state)
{
    (void)state;
    fw_many_bytes_damaged(&limine, "limine, damage");
}

static void room_for_all_or_none(void **state)
{
    (void)state;
    fw_room_for_all_or_none(&limine);
    fw_beside_others(&limine);
}

static void contradictions(void **state)
{
    (void)state;
    fw_contradictions(&limine);
}

static void a_hundred_thousand(void **state)
{
    (void)state;
    fw_a_hundred_thousand(&limine, SIZE);
}

static void maps_of_machines(void **state)
{
    (void)state;
    fw_maps_of_machines(&limine, "limine, machines");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(types),
        cmocka_unit_test(lengths),
        cmocka_unit_test(pointers_that_are_null),
        cmocka_unit_test(every_alignment),
        cmocka_unit_test(as_a_kernel_calls_it),
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
