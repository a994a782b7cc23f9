// SPDX-License-Identifier: MIT
/**
 * What firmware and boot loaders leave in memory, as the world has it: maps of memory, and the
 * tables that tell of nodes.
 */
#include "world.h"
#include "world_parts.h"

#include <string.h>

/* An information of multiboot2 (specification 2.0, 3.4 and 3.6.8): a map of one range, and the end.
 */
static void start_multiboot2(void)
{
    static const uint32_t words[] = {
        56,       0,                     /* bytes in all */
        6,        40, 24,       0,       /* memory map: bytes of the tag, of an entry; version */
        0x100000, 0,  0x100000, 0, 1, 0, /* from, bytes, available */
        0,        8,                     /* the end */
    };

    memcpy(t_w.multiboot2, words, sizeof(words));
    t_w.multiboot2[32] = 16; /* another, with nothing but its end */
    t_w.multiboot2[35] = 8;
}

/* A number of a table, lowest byte first. */
static void put(unsigned at, uint64_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++) {
        t_w.numa_tables[at + i] = (unsigned char)(value >> (8 * i));
    }
}

static void end_table(unsigned at, const char *name, unsigned len)
{
    unsigned sum = 0;

    memcpy(t_w.numa_tables + at, name, 4);
    put(at + 4, len, 4);
    put(at + 8, 3, 1);
    for (unsigned i = 0; i < len; i++) {
        sum += t_w.numa_tables[at + i];
    }
    put(at + 9, 256 - sum % 256, 1);
}

static void start_numa_object(struct mm_numa *numa, unsigned i, uint32_t room)
{
    MUST(mm_numa_init(numa, t_w.numa_ranges[i], room, t_w.numa_cpus[i], room));
}

/* An SRAT (ACPI 6.5, 5.2.16) of two ranges and two processors, on domains 1 and 2, and a SLIT
 * (5.2.17) of three rows. */
static void start_numa(void)
{
    unsigned srat = T_SRAT_AT;
    unsigned slit = T_SLIT_AT;

    for (unsigned node = 0; node < 2; node++) {
        unsigned memory = srat + 48 + 40 * node;

        put(memory, 0x2801, 2);
        put(memory + 2, 1 + node, 4);
        put(memory + 8, 0x100000 * node, 8);
        put(memory + 16, 0x80000, 8);
        put(memory + 28, 1, 4);
    }
    put(srat + 128, 0x1000, 2);
    put(srat + 130, 0x0701, 2);
    put(srat + 132, 1, 4);
    put(srat + 144, 0x1802, 2);
    put(srat + 148, 2, 4);
    put(srat + 152, 9, 4);
    put(srat + 156, 1, 4);
    end_table(srat, "SRAT", T_SRAT_LEN);
    put(slit + 36, 3, 8);
    for (unsigned i = 0; i < 9; i++) {
        put(slit + 44 + i, i % 4 == 0 ? 10 : 21, 1);
    }
    end_table(slit, "SLIT", T_SLIT_LEN);
    start_numa_object(&t_w.numa, 0, 4);
    start_numa_object(&t_w.numa_srat, 1, 4);
    start_numa_object(&t_w.numa_unread, 2, 4);
    start_numa_object(&t_w.numa_small, 3, 1);
    MUST(mm_numa_read_srat(&t_w.numa, t_w.numa_tables + srat, T_SRAT_LEN, NULL));
    MUST(mm_numa_read_slit(&t_w.numa, t_w.numa_tables + slit, T_SLIT_LEN, NULL));
    MUST(mm_numa_read_srat(&t_w.numa_srat, t_w.numa_tables + srat, T_SRAT_LEN, NULL));
}

/* Two descriptors of 48 bytes (UEFI 2.10, 7.2.3), two entries of 48 bytes (ACPI 6.5, 15.1), and two
 * of Limine: usable memory and reserved. */
static void start_firmware(void)
{
    static const uint64_t efi[] = {7, 0x100000, 0, 0x100, 8, 0, 0, 0x180000, 0, 0x10, 8, 0};
    static const uint64_t e820[] = {0x100000, 0x100000, UINT64_C(1) << 32 | 1, 0, 0, 0,
                                    0x180000, 0x10000,  UINT64_C(1) << 32 | 2, 0, 0, 0};
    static const uint64_t limine[] = {0x100000, 0x100000, 0, 0x180000, 0x10000, 1};

    memcpy(t_w.efi_map, efi, sizeof(efi));
    memcpy(t_w.e820_map, e820, sizeof(e820));
    memcpy(t_w.limine_list, limine, sizeof(limine));
    t_w.limine_map[0] = &t_w.limine_list[0];
    t_w.limine_map[1] = &t_w.limine_list[3];
}

void t_world_start_firmware(void)
{
    start_multiboot2();
    start_numa();
    start_firmware();
}
