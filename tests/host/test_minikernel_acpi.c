// SPDX-License-Identifier: MIT
//
// The minikernel's reader of ACPI tables, over 4 GiB of physical memory that reads as zeros but for
// what a test puts there. Behind them is a page that cannot be read.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "acpi.h"
#include "layout.h"

#define MEMORY LAYOUT_BOOT_MAPPED

// Where the tables of most tests lie: at no round address.
#define RSDT UINT64_C(0x7ffe0013)
#define XSDT UINT64_C(0x7ffe1021)
#define FADT UINT64_C(0x7ffe2002)
#define MADT UINT64_C(0x7ffe3007)

static uint8_t *memory;
static struct mm_physmap physmap;
static struct mm_multiboot2_info boot;
static struct acpi_processors found;

static void put(uint8_t *at, uint64_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++) {
        at[i] = (uint8_t)(value >> 8 * i);
    }
}

static void balance(uint8_t *at, uint32_t len, uint32_t checksum)
{
    uint8_t sum = 0;

    at[checksum] = 0;
    for (uint32_t i = 0; i < len; i++) {
        sum = (uint8_t)(sum + at[i]);
    }
    at[checksum] = (uint8_t)(0 - sum);
}

// A header over what is there already.
static void head(uint64_t at, const char *signature, uint32_t len)
{
    memcpy(memory + at, signature, 4);
    put(memory + at + 4, len, 4);
    balance(memory + at, len, 9);
}

static void put_rsdp(bool newer)
{
    memset(&boot, 0, sizeof(boot));
    boot.rsdp_len = newer ? 36 : 20;
    memcpy(boot.rsdp, "RSD PTR ", 8);
    put(boot.rsdp + 16, RSDT, 4);
    balance(boot.rsdp, 20, 8);
    if (newer) {
        boot.rsdp[15] = 2;
        put(boot.rsdp + 20, 36, 4);
        put(boot.rsdp + 24, XSDT, 8);
        balance(boot.rsdp, 20, 8);
        balance(boot.rsdp, 36, 32);
    }
}

static void put_roots(uint64_t madt)
{
    put(memory + RSDT + 36, FADT, 4);
    put(memory + RSDT + 40, madt, 4);
    head(RSDT, "RSDT", 44);
    put(memory + XSDT + 36, FADT, 8);
    put(memory + XSDT + 44, madt, 8);
    head(XSDT, "XSDT", 52);
    head(FADT, "FACP", 244);
}

static uint32_t apic(uint64_t madt, uint32_t at, uint8_t id, uint32_t flags)
{
    memory[madt + at] = 0;
    memory[madt + at + 1] = 8;
    memory[madt + at + 3] = id;
    put(memory + madt + at + 4, flags, 4);
    return at + 8;
}

static uint32_t x2apic(uint64_t madt, uint32_t at, uint32_t id, uint32_t flags)
{
    memory[madt + at] = 9;
    memory[madt + at + 1] = 16;
    put(memory + madt + at + 4, id, 4);
    put(memory + madt + at + 8, flags, 4);
    return at + 16;
}

// Two processors, a third that may come, one in the other form, and an entry of another kind.
static uint32_t put_madt(uint64_t madt)
{
    uint32_t at = apic(madt, 44, 0, 1);

    at = apic(madt, at, 2, 1);
    at = apic(madt, at, 4, 2);
    memory[madt + at] = 1; // an I/O APIC
    memory[madt + at + 1] = 12;
    at += 12;
    at = x2apic(madt, at, 6, 1);
    at = x2apic(madt, at, 2, 1); // the second again
    head(madt, "APIC", at);
    return at;
}

static const char *find(void)
{
    memset(&found, 0xa5, sizeof(found));
    return acpi_find_processors(&boot, &physmap, &found);
}

static bool three_found(void)
{
    return found.nr == 3 && found.nr_listed == 3 && found.nr_dormant == 1 &&
           found.apic_ids[0] == 0 && found.apic_ids[1] == 2 && found.apic_ids[2] == 6;
}

static void must_refuse(const char *what)
{
    if (find() == NULL || found.nr != 0 || found.nr_listed != 0) {
        fail_msg("believed: %s (%u processors)", what, found.nr);
    }
}

static int setup(void **state)
{
    (void)state;
    // Fresh for each test; pages that are not written cost nothing.
    memory =
        mmap(NULL, MEMORY + 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert_ptr_not_equal(memory, MAP_FAILED);
    assert_int_equal(mprotect(memory, MEMORY, PROT_READ | PROT_WRITE), 0);
    physmap = mm_physmap_direct((uint64_t)(uintptr_t)memory);
    put_rsdp(true);
    put_roots(MADT);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    return munmap(memory, MEMORY + 4096);
}

static void test_found(void **state)
{
    (void)state;
    put_madt(MADT);
    assert_null(find());
    assert_true(three_found());
    put_rsdp(false);
    assert_null(find());
    assert_true(three_found());
}

// A newer root pointer whose second half is broken still has its first.
static void test_falls_back(void **state)
{
    (void)state;
    put_madt(MADT);
    memory[XSDT + 40]++; // would be refused
    boot.rsdp[33]++;
    assert_null(find());
    assert_true(three_found());
}

// Any table, by its signature; what is asked of it is the caller's to know.
static void test_by_signature(void **state)
{
    struct acpi_table table = {memory, 7};

    (void)state;
    put_madt(MADT);
    assert_null(acpi_find_table(&boot, &physmap, "FACP", &table));
    assert_ptr_equal(table.at, memory + FADT);
    assert_int_equal(table.len, 244);
    assert_null(acpi_find_table(&boot, &physmap, "APIC", &table));
    assert_ptr_equal(table.at, memory + MADT);
    table = (struct acpi_table){memory, 7};
    assert_non_null(acpi_find_table(&boot, &physmap, "SRAT", &table));
    memory[FADT + 100]++;
    assert_non_null(acpi_find_table(&boot, &physmap, "FACP", &table));
    boot.rsdp_len = 0;
    assert_non_null(acpi_find_table(&boot, &physmap, "APIC", &table));
    assert_ptr_equal(table.at, memory);
    assert_int_equal(table.len, 7);
}

static void test_none(void **state)
{
    (void)state;
    boot.rsdp_len = 0;
    must_refuse("no root pointer");
    put_rsdp(true);
    must_refuse("no MADT");
    head(MADT, "APIC", 44);
    must_refuse("a MADT without entries");
    head(MADT, "APIC", 36);
    must_refuse("a MADT without its fixed fields");
}

// Any byte of any table on the way that is not what it was.
static void test_flipped_bytes(void **state)
{
    (void)state;
    uint32_t madt_len = put_madt(MADT);
    const struct {
        uint8_t *at;
        uint32_t len;
        const char *name;
    } tables[] = {
        {boot.rsdp, 20, "root pointer"},
        {memory + XSDT, 52, "XSDT"},
        {memory + MADT, madt_len, "MADT"},
    };

    for (unsigned t = 0; t < sizeof(tables) / sizeof(tables[0]); t++) {
        for (uint32_t i = 0; i < tables[t].len; i++) {
            char what[64];
            snprintf(what, sizeof(what), "%s with byte %u flipped", tables[t].name, i);
            tables[t].at[i] ^= 0x11;
            must_refuse(what);
            tables[t].at[i] ^= 0x11;
        }
    }
    assert_null(find());
    assert_true(three_found());
}

// Every length that the MADT may claim, its checksum being right.
static void test_lengths(void **state)
{
    (void)state;
    uint32_t len = put_madt(MADT);

    for (uint32_t claimed = 0; claimed < len; claimed++) {
        uint8_t saved = memory[MADT + 9];
        put(memory + MADT + 4, claimed, 4);
        balance(memory + MADT, claimed < 36 ? 36 : claimed, 9);
        // Only where an entry ends can it be cut.
        bool whole =
            claimed == 52 || claimed == 60 || claimed == 68 || claimed == 80 || claimed == 96;
        if (whole) {
            assert_null(find());
            assert_true(found.nr >= 1 && found.nr <= 3);
        } else {
            must_refuse("a MADT that ends inside an entry");
        }
        memory[MADT + 9] = saved;
    }
    for (unsigned bit = 20; bit < 32; bit++) {
        put(memory + MADT + 4, (UINT32_C(1) << bit) + 1, 4);
        must_refuse("a MADT longer than a MADT can be");
    }
}

static void test_entries_of_no_length(void **state)
{
    (void)state;
    for (uint8_t len = 0; len < 2; len++) {
        uint32_t end = put_madt(MADT);
        memory[MADT + 52 + 1] = len;
        head(MADT, "APIC", end);
        must_refuse("an entry that does not lead on");
    }
}

// At the end of what can be read, and where it would go on beyond.
static void test_end_of_memory(void **state)
{
    (void)state;
    uint32_t len = put_madt(MADT);

    put_madt(MEMORY - len);
    put_roots(MEMORY - len);
    assert_null(find());
    assert_true(three_found());

    put(memory + MEMORY - len + 4, len + 1, 4);
    must_refuse("a table that goes on beyond what is mapped");
    put_roots(MEMORY - 20);
    must_refuse("a table whose header goes on beyond what is mapped");
    put(memory + XSDT + 44, UINT64_MAX - 20, 8);
    head(XSDT, "XSDT", 52);
    must_refuse("a table at the end of all addresses");
    put(memory + XSDT + 44, MEMORY, 8);
    head(XSDT, "XSDT", 52);
    must_refuse("a table above what is mapped");
}

static void test_too_many(void **state)
{
    (void)state;
    uint32_t at = 44;

    at = x2apic(MADT, at, 300, 1); // cannot be reached
    at = apic(MADT, at, 255, 1);   // means all
    for (uint8_t id = 0; id < 20; id++) {
        at = apic(MADT, at, id, 1);
    }
    head(MADT, "APIC", at);
    assert_null(find());
    assert_int_equal(found.nr_listed, 22);
    assert_int_equal(found.nr, PERCPU_MAX);
    for (uint32_t i = 0; i < PERCPU_MAX; i++) {
        assert_int_equal(found.apic_ids[i], i);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_found, setup, teardown),
        cmocka_unit_test_setup_teardown(test_falls_back, setup, teardown),
        cmocka_unit_test_setup_teardown(test_by_signature, setup, teardown),
        cmocka_unit_test_setup_teardown(test_none, setup, teardown),
        cmocka_unit_test_setup_teardown(test_flipped_bytes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lengths, setup, teardown),
        cmocka_unit_test_setup_teardown(test_entries_of_no_length, setup, teardown),
        cmocka_unit_test_setup_teardown(test_end_of_memory, setup, teardown),
        cmocka_unit_test_setup_teardown(test_too_many, setup, teardown),
    };
    return cmocka_run_group_tests_name("minikernel_acpi", tests, NULL, NULL);
}
