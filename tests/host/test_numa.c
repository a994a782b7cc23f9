// SPDX-License-Identifier: MIT
/**
 * The topology of machines: tables of real ones with what they hold, decoded by hand, and tables
 * made for one thing each. Damaged tables are in test_numa_bad_input.c, tables made at random in
 * test_numa_random.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <mm/numa.h>

#include "model_numa.h"
#include "numa_blob.h"

#define RANGES 256u
#define CPUS   4096u
#define NONE   MM_NUMA_NO_NODE
#define GIB    UINT64_C(0x40000000)

static struct mm_numa numa;
static struct mm_numa_range ranges[RANGES];
static struct mm_numa_cpu cpus[CPUS];
static struct numa_blob blob;
static struct t_mnuma model;
static struct mm_numa_error error;

static void begin(void)
{
    memset(&numa, 0, sizeof(numa));
    memset(ranges, 0x5a, sizeof(ranges));
    memset(cpus, 0x5a, sizeof(cpus));
    assert_int_equal(mm_numa_init(&numa, ranges, RANGES, cpus, CPUS), MM_OK);
}

/* Read `blob` as the SRAT of a new topology, and compare with the model. */
static void read_srat(void)
{
    const char *wrong;

    begin();
    assert_int_equal(mm_numa_read_srat(&numa, blob.bytes, blob.len, &error), MM_OK);
    assert_true(t_mnuma_srat(&model, blob.bytes, blob.len));
    wrong = t_mnuma_compare(&model, &numa);
    if (wrong != NULL) {
        fail_msg("%s", wrong);
    }
}

static void read_slit(void)
{
    assert_int_equal(mm_numa_read_slit(&numa, blob.bytes, blob.len, &error), MM_OK);
    assert_true(t_mnuma_slit(&model, blob.bytes, blob.len));
    assert_null(t_mnuma_compare(&model, &numa));
}

static void finish_srat(void)
{
    numa_end(&blob);
    read_srat();
}

static uint32_t node_of(uint64_t at)
{
    return mm_numa_node_of(&numa, mm_paddr(at));
}

static uint32_t near_of(uint64_t at)
{
    return mm_numa_node_near(&numa, mm_paddr(at));
}

static uint32_t domain_of(uint32_t node)
{
    uint32_t domain = 0xdead;

    assert_int_equal(mm_numa_domain_of(&numa, node, &domain), MM_OK);
    return domain;
}

struct expected_range {
    uint64_t start, len;
    uint32_t node, flags;
};

static void ranges_are(const struct expected_range *expected, uint32_t nr)
{
    assert_int_equal(numa.nr_ranges, nr);
    for (uint32_t i = 0; i < nr; i++) {
        assert_int_equal(numa.ranges[i].range.start.raw, expected[i].start);
        assert_int_equal(numa.ranges[i].range.len, expected[i].len);
        assert_int_equal(numa.ranges[i].node, expected[i].node);
        assert_int_equal(numa.ranges[i].flags, expected[i].flags);
    }
}

#define RANGES_ARE(expected) ranges_are((expected), sizeof(expected) / sizeof((expected)[0]))

/* --- real machines ----------------------------------------------------------------------------- */

static void r820(void **state)
{
    /* Four nodes of domains 1 to 4; processors of node n have numbers 32 n + {0, 2, ... 8, 16, ...
     * 24} and these plus 1. */
    static const struct expected_range expected[] = {
        {0, 17 * GIB, 0, 0},
        {17 * GIB, 16 * GIB, 1, 0},
        {33 * GIB, 16 * GIB, 2, 0},
        {49 * GIB, 16 * GIB, 3, 0},
    };
    static const uint8_t far[4][4] = {
        {10, 20, 30, 20}, {20, 10, 20, 30}, {30, 20, 10, 20}, {20, 30, 20, 10}};

    (void)state;
    numa_load(&blob, "SRAT", NUMA_R820);
    assert_int_equal(blob.len, 1984);
    read_srat();
    assert_int_equal(numa.nr_nodes, 4);
    assert_int_equal(numa.nr_cpus, 80);
    assert_int_equal(numa.nr_disabled, 16 + 6);
    assert_int_equal(numa.nr_skipped + numa.nr_overlaps + numa.nr_twice, 0);
    RANGES_ARE(expected);
    for (uint32_t node = 0; node < 4; node++) {
        assert_int_equal(domain_of(node), node + 1);
        assert_int_equal(mm_numa_node_of_domain(&numa, node + 1), node);
        for (uint32_t i = 0; i < 32; i++) {
            assert_int_equal(mm_numa_node_of_apic(&numa, 32 * node + i), i % 16 < 10 ? node : NONE);
        }
        for (uint32_t to = 0; to < 4; to++) {
            assert_int_equal(mm_numa_distance(&numa, node, to), node == to ? 10 : 20);
        }
    }
    assert_int_equal(mm_numa_node_of_domain(&numa, 0), NONE);
    assert_int_equal(node_of(65 * GIB - 1), 3);
    assert_int_equal(node_of(65 * GIB), NONE);
    assert_int_equal(near_of(65 * GIB), 3);
    /* Five rows: that of domain 0 belongs to nobody. */
    numa_load(&blob, "SLIT", NUMA_R820);
    read_slit();
    assert_int_equal(numa.nr_localities, 5);
    assert_int_equal(numa.nr_localities_ignored, 1);
    for (uint32_t from = 0; from < 4; from++) {
        for (uint32_t to = 0; to < 4; to++) {
            uint32_t expect = from == to ? 10 : (from + to) % 2 == 0 ? 30 : 20;

            assert_int_equal(mm_numa_distance(&numa, from, to), expect);
            assert_int_equal(far[from][to], expect);
        }
    }
}

static void h8qg6(void **state)
{
    /* Eight nodes; node 0 around the holes of a PC. */
    static const struct expected_range expected[] = {
        {0, 0xa0000, 0, 0},
        {0x100000, 0xd7f00000, 0, 0},
        {4 * GIB, UINT64_C(0x328000000), 0, 0},
        {UINT64_C(0x428000000), 16 * GIB, 1, 0},
        {UINT64_C(0x828000000), 16 * GIB, 2, 0},
        {UINT64_C(0xc28000000), 16 * GIB, 3, 0},
        {UINT64_C(0x1028000000), 16 * GIB, 4, 0},
        {UINT64_C(0x1428000000), 16 * GIB, 5, 0},
        {UINT64_C(0x1828000000), 16 * GIB, 6, 0},
        {UINT64_C(0x1c28000000), 16 * GIB, 7, 0},
    };

    (void)state;
    numa_load(&blob, "SRAT", NUMA_H8QG6);
    assert_int_equal(blob.len, 1472);
    read_srat();
    assert_int_equal(numa.nr_nodes, 8);
    assert_int_equal(numa.nr_cpus, 64);
    assert_int_equal(numa.nr_disabled, 0);
    RANGES_ARE(expected);
    for (uint32_t node = 0; node < 8; node++) {
        uint32_t first = 32 + 32 * (node / 2) + 8 * (node % 2);

        assert_int_equal(domain_of(node), node);
        for (uint32_t i = 0; i < 8; i++) {
            assert_int_equal(mm_numa_node_of_apic(&numa, first + i), node);
        }
    }
    assert_int_equal(mm_numa_node_of_apic(&numa, 31), NONE);
    assert_int_equal(mm_numa_node_of_apic(&numa, 48), NONE);
    assert_int_equal(mm_numa_node_of_apic(&numa, 144), NONE);
    assert_int_equal(node_of(0x9ffff), 0);
    assert_int_equal(node_of(0xa0000), NONE);
    assert_int_equal(near_of(0xa0000), 0);
    assert_int_equal(near_of(UINT64_MAX), 7);
}

static void msi(void **state)
{
    /* One node, twelve processors; 180 entries that are disabled name others. */
    static const struct expected_range expected[] = {{0, GIB, 0, 0}, {4 * GIB, 31 * GIB, 0, 0}};

    (void)state;
    numa_load(&blob, "SRAT", NUMA_MSI);
    assert_int_equal(blob.len, 4440);
    read_srat();
    assert_int_equal(numa.nr_nodes, 1);
    assert_int_equal(domain_of(0), 0);
    assert_int_equal(numa.nr_cpus, 12);
    assert_int_equal(numa.nr_disabled, 180 + 31);
    RANGES_ARE(expected);
    for (uint32_t id = 0; id < 256; id++) {
        assert_int_equal(mm_numa_node_of_apic(&numa, id), id < 12 ? 0 : NONE);
    }
    numa_load(&blob, "SLIT", NUMA_MSI);
    read_slit();
    assert_int_equal(numa.nr_localities, 1);
    assert_int_equal(numa.nr_localities_ignored, 0);
    assert_int_equal(mm_numa_distance(&numa, 0, 0), 10);
    assert_int_equal(mm_numa_distance(&numa, 0, 1), MM_NUMA_UNREACHABLE);
}

static void asrock(void **state)
{
    static const struct expected_range expected[] = {
        {0, 0xa0000, 0, 0}, {0x100000, 0xcff00000, 0, 0}, {4 * GIB, UINT64_C(0x130000000), 0, 0}};

    (void)state;
    numa_load(&blob, "SRAT", NUMA_ASROCK);
    assert_int_equal(blob.len, 200);
    read_srat();
    assert_int_equal(numa.nr_nodes, 1);
    assert_int_equal(numa.nr_cpus, 2);
    RANGES_ARE(expected);
    assert_int_equal(mm_numa_node_of_apic(&numa, 1), 0);
    assert_int_equal(mm_numa_node_of_apic(&numa, 2), NONE);
}

/* --- nodes, processors ------------------------------------------------------------------------- */

static void without_tables(void **state)
{
    struct mm_numa_range r;

    (void)state;
    begin();
    assert_int_equal(numa.nr_nodes, 1);
    assert_int_equal(domain_of(0), 0);
    assert_int_equal(node_of(0x1000), NONE);
    assert_int_equal(near_of(0x1000), 0);
    assert_int_equal(mm_numa_distance(&numa, 0, 0), 10);
    assert_int_equal(mm_numa_next_range(&numa, mm_paddr(0x5000), &r), MM_OK);
    assert_int_equal(r.range.start.raw, 0x5000);
    assert_int_equal(r.range.len, (UINT64_C(1) << 52) - 0x5000);
    assert_int_equal(r.node, NONE);
    /* A table that enables nothing says no more than that. */
    numa_srat(&blob, 3);
    (void)numa_apic(&blob, 7, 1, 0);
    (void)numa_memory(&blob, 8, 0, 0, 1);
    finish_srat();
    assert_int_equal(numa.nr_nodes, 1);
    assert_int_equal(domain_of(0), 0);
    assert_int_equal(numa.nr_disabled, 2);
}

static void sparse_domains(void **state)
{
    static const uint32_t domains[] = {0x80000001, 7, UINT32_MAX, 0x1000000, 0x100};

    (void)state;
    numa_srat(&blob, 3);
    (void)numa_memory(&blob, domains[0], 0, GIB, 1);
    (void)numa_apic(&blob, domains[1], 0, 1);
    (void)numa_x2apic(&blob, domains[2], 0x12345678, 1);
    (void)numa_apic(&blob, domains[3], 9, 1);
    (void)numa_memory(&blob, domains[4], GIB, GIB, 1);
    (void)numa_memory(&blob, domains[1], 2 * GIB, GIB, 1);
    finish_srat();
    assert_int_equal(numa.nr_nodes, 5);
    for (uint32_t i = 0; i < 5; i++) {
        assert_int_equal(domain_of(i), domains[i]);
        assert_int_equal(mm_numa_node_of_domain(&numa, domains[i]), i);
    }
    assert_int_equal(mm_numa_node_of_domain(&numa, 1), NONE);
    assert_int_equal(mm_numa_node_of_apic(&numa, 0x12345678), 2);
    assert_int_equal(mm_numa_node_of_apic(&numa, 0x78), NONE);
    assert_int_equal(mm_numa_node_of_apic(&numa, 9), 3);
    assert_int_equal(node_of(2 * GIB), 1);
}

/* 5.2.16.1: only from revision 2 on have domains more than 8 bits. */
static void revisions(void **state)
{
    (void)state;
    for (unsigned revision = 1; revision < 256; revision++) {
        numa_srat(&blob, (uint8_t)revision);
        (void)numa_apic(&blob, 0x12345602, 1, 1);
        (void)numa_memory(&blob, 0x23456703, 0, GIB, 1);
        (void)numa_x2apic(&blob, 0x34567804, 2, 1);
        finish_srat();
        assert_int_equal(domain_of(0), revision == 1 ? 2 : 0x12345602);
        assert_int_equal(domain_of(1), revision == 1 ? 3 : 0x23456703);
        assert_int_equal(domain_of(2), revision == 1 ? 4 : 0x34567804);
    }
}

static void as_many_domains_as_fit(void **state)
{
    struct mm_numa before;

    (void)state;
    for (uint32_t nr = MM_MAX_NODES; nr <= MM_MAX_NODES + 1; nr++) {
        numa_srat(&blob, 3);
        for (uint32_t i = 0; i < nr; i++) {
            (void)numa_memory(&blob, 1000 - i, i * GIB, GIB, 1);
        }
        if (nr == MM_MAX_NODES) {
            finish_srat();
            assert_int_equal(numa.nr_nodes, MM_MAX_NODES);
            assert_int_equal(domain_of(MM_MAX_NODES - 1), 1000 - (MM_MAX_NODES - 1));
            continue;
        }
        numa_end(&blob);
        begin();
        before = numa;
        assert_int_equal(mm_numa_read_srat(&numa, blob.bytes, blob.len, &error), MM_ERR_LIMIT);
        assert_memory_equal(&numa, &before, sizeof(numa));
        assert_int_equal(error.entry_type, 1);
        assert_int_equal(error.offset, 48 + 40 * MM_MAX_NODES);
        assert_non_null(strstr(error.what, "MM_MAX_NODES"));
    }
}

static void many_processors(void **state)
{
    (void)state;
    for (unsigned order = 0; order < 3; order++) {
        numa_srat(&blob, 3);
        for (uint32_t i = 0; i < 2048; i++) {
            uint32_t n = order == 0 ? i : order == 1 ? 2047 - i : i * 773 % 2048;

            (void)numa_x2apic(&blob, n / 128, 3 * n, 1);
        }
        finish_srat();
        assert_int_equal(numa.nr_cpus, 2048);
        assert_int_equal(numa.nr_nodes, 16);
        for (uint32_t id = 0; id < 3 * 2048 + 3; id++) {
            uint32_t node = mm_numa_node_of_apic(&numa, id);

            if (id % 3 != 0 || id >= 3 * 2048) {
                assert_int_equal(node, NONE);
            } else {
                assert_int_equal(domain_of(node), id / 3 / 128);
            }
        }
    }
}

/* In both forms, on one node and on two. */
static void a_processor_twice(void **state)
{
    (void)state;
    numa_srat(&blob, 3);
    (void)numa_apic(&blob, 0, 5, 1);
    (void)numa_x2apic(&blob, 0, 5, 1);
    (void)numa_x2apic(&blob, 1, 5, 1);
    (void)numa_apic(&blob, 1, 6, 1);
    (void)numa_apic(&blob, 0, 6, 0);
    finish_srat();
    assert_int_equal(numa.nr_cpus, 2);
    assert_int_equal(numa.nr_twice, 1);
    assert_int_equal(mm_numa_node_of_apic(&numa, 5), 0);
    assert_int_equal(mm_numa_node_of_apic(&numa, 6), 1);
}

static void entries_of_no_interest(void **state)
{
    static const uint8_t lens[] = {0, 0, 0, 18, 12, 32, 32, 2, 255};

    (void)state;
    numa_srat(&blob, 3);
    for (uint8_t type = 3; type < 9; type++) {
        memset(blob.bytes + numa_entry(&blob, type, lens[type]) + 2, 0xff, lens[type] - 2u);
    }
    (void)numa_entry(&blob, 255, 2);
    (void)numa_memory(&blob, 4, 0, GIB, 1);
    (void)numa_entry(&blob, 1, 200); /* longer than today's, and disabled */
    finish_srat();
    assert_int_equal(numa.nr_skipped, 7);
    assert_int_equal(numa.nr_disabled, 1);
    assert_int_equal(numa.nr_nodes, 1);
    assert_int_equal(domain_of(0), 4);
}

/* --- memory ------------------------------------------------------------------------------------ */

static void kinds_of_memory(void **state)
{
    static const struct expected_range expected[] = {
        {0, 2 * GIB, 0, 0},
        {2 * GIB, GIB, 0, MM_NUMA_HOTPLUG},
        {3 * GIB, GIB, 1, MM_NUMA_HOTPLUG},
        {4 * GIB, GIB, 1, MM_NUMA_NONVOLATILE},
        {6 * GIB, GIB, 1, MM_NUMA_NONVOLATILE | MM_NUMA_HOTPLUG},
    };
    struct mm_numa_range r;

    (void)state;
    numa_srat(&blob, 3);
    (void)numa_memory(&blob, 0, GIB, GIB, 1);
    (void)numa_memory(&blob, 1, 6 * GIB, GIB, 7);
    (void)numa_memory(&blob, 0, 0, GIB, 0xfffffff1); /* joined with the one above it */
    (void)numa_memory(&blob, 1, 4 * GIB, GIB, 5);
    (void)numa_memory(&blob, 0, 2 * GIB, GIB, 3);
    (void)numa_memory(&blob, 1, 3 * GIB, GIB, 3);
    (void)numa_memory(&blob, 1, 5 * GIB, GIB, 6); /* not enabled */
    finish_srat();
    assert_int_equal(domain_of(0), 0);
    RANGES_ARE(expected);
    assert_int_equal(mm_numa_next_range(&numa, mm_paddr(5 * GIB + 5), &r), MM_OK);
    assert_int_equal(r.range.start.raw, 5 * GIB + 5);
    assert_int_equal(r.range.len, GIB - 5);
    assert_int_equal(r.node, NONE);
    assert_int_equal(r.flags, 0);
    assert_int_equal(mm_numa_next_range(&numa, mm_paddr(2 * GIB + 5), &r), MM_OK);
    assert_int_equal(r.range.len, GIB - 5);
    assert_int_equal(r.flags, MM_NUMA_HOTPLUG);
    assert_int_equal(near_of(5 * GIB), 1);
}

static void memory_below_the_first_range(void **state)
{
    (void)state;
    numa_srat(&blob, 3);
    (void)numa_memory(&blob, 9, 8 * GIB, GIB, 1);
    (void)numa_memory(&blob, 5, 4 * GIB, GIB, 1);
    finish_srat();
    assert_int_equal(near_of(0), 0);
    assert_int_equal(domain_of(0), 9);
    assert_int_equal(near_of(4 * GIB - 1), 0);
    assert_int_equal(near_of(4 * GIB), 1);
    assert_int_equal(near_of(8 * GIB - 1), 1);
    assert_int_equal(near_of(9 * GIB), 0);
}

/* The first in the table wins, byte by byte. */
static void overlaps(void **state)
{
    static const struct expected_range expected[] = {
        {0, 0x1000, 2, MM_NUMA_HOTPLUG},      {0x1000, 0x1000, 0, 0},
        {0x2000, 0x2000, 2, MM_NUMA_HOTPLUG}, {0x4000, 0x1800, 1, 0},
        {0x5800, 0x2800, 2, MM_NUMA_HOTPLUG},
    };

    (void)state;
    numa_srat(&blob, 3);
    (void)numa_memory(&blob, 0, 0x1000, 0x1000, 1);
    (void)numa_memory(&blob, 1, 0x4000, 0x1000, 1);
    (void)numa_memory(&blob, 1, 0x4800, 0x1000, 1); /* of one node: no contradiction */
    (void)numa_memory(&blob, 2, 0, 0x8000, 3);
    (void)numa_memory(&blob, 0, 0x1800, 0x800, 1);
    (void)numa_memory(&blob, 3, 0x4fff, 1, 1);
    finish_srat();
    assert_int_equal(numa.nr_nodes, 4);
    assert_int_equal(numa.nr_overlaps, 2);
    RANGES_ARE(expected);
}

static void the_end_of_the_address_space(void **state)
{
    static const struct expected_range all[] = {{0, UINT64_MAX, 0, 0}, {UINT64_MAX, 1, 0, 0}};
    struct mm_numa_range r;

    (void)state;
    numa_srat(&blob, 3);
    (void)numa_memory(&blob, 0, 0 - GIB, GIB, 1);
    (void)numa_memory(&blob, 1, UINT64_C(1) << 51, UINT64_C(1) << 52, 1);
    finish_srat();
    assert_int_equal(node_of(UINT64_MAX), 0);
    assert_int_equal(node_of(0 - GIB), 0);
    assert_int_equal(node_of(0 - GIB - 1), NONE);
    assert_int_equal(mm_numa_next_range(&numa, mm_paddr((UINT64_C(1) << 52) - 1), &r), MM_OK);
    assert_int_equal(r.range.len, 1);
    assert_int_equal(r.node, 1);
    assert_int_equal(mm_numa_next_range(&numa, mm_paddr(UINT64_C(1) << 52), &r),
                     MM_ERR_REGION_NOT_FOUND);
    /* All 2^64 bytes, which no range can hold, in one piece and in two. */
    numa_srat(&blob, 3);
    (void)numa_memory(&blob, 0, UINT64_MAX, 1, 1);
    (void)numa_memory(&blob, 0, 0, UINT64_MAX, 1);
    finish_srat();
    RANGES_ARE(all);
    /* Both are of one kind, and the walk gives them in one step. */
    numa_srat(&blob, 3);
    (void)numa_memory(&blob, 0, 1, UINT64_MAX, 1);
    (void)numa_memory(&blob, 0, 0, UINT64_MAX, 1);
    finish_srat();
    assert_int_equal(mm_numa_next_range(&numa, mm_paddr(0), &r), MM_OK);
    assert_int_equal(r.node, 0);
    assert_int_equal(r.range.len, UINT64_C(1) << 52);
}

/* What the arrays must have room for, exactly; and too small by one. */
static void just_enough_room(void **state)
{
    struct mm_numa before;

    (void)state;
    numa_srat(&blob, 3);
    (void)numa_memory(&blob, 0, 0x1000, 0x1000, 1);
    (void)numa_memory(&blob, 0, 0x3000, 0x1000, 1);
    (void)numa_memory(&blob, 1, 0, 0x10000, 1); /* three pieces */
    for (uint8_t i = 0; i < 10; i++) {
        (void)numa_apic(&blob, 0, 9 - i, 1);
        (void)numa_x2apic(&blob, 0, 9u - i, 1);
    }
    numa_end(&blob);
    for (uint32_t r = 4; r <= 5; r++) {
        for (uint32_t c = 9; c <= 10; c++) {
            bool enough = r == 5 && c == 10;

            memset(&numa, 0, sizeof(numa));
            memset(ranges, 0x5a, sizeof(ranges));
            memset(cpus, 0x5a, sizeof(cpus));
            assert_int_equal(mm_numa_init(&numa, ranges, r, cpus, c), MM_OK);
            before = numa;
            error = (struct mm_numa_error){0, 0, NULL};
            assert_int_equal(mm_numa_read_srat(&numa, blob.bytes, blob.len, &error),
                             enough ? MM_OK : MM_ERR_LIMIT);
            assert_int_equal(ranges[r].node, 0x5a5a5a5a);
            assert_int_equal(cpus[c].node, 0x5a5a5a5a);
            if (!enough) {
                assert_memory_equal(&numa, &before, sizeof(numa));
                assert_int_equal(error.offset, r == 4 ? 48 + 80 : 48 + 120 + 9 * 40);
                assert_non_null(strstr(error.what, r == 4 ? "memory" : "processors"));
                /* and it can be read with another table */
                assert_int_equal(mm_numa_read_srat(&numa, blob.bytes, blob.len, NULL),
                                 MM_ERR_LIMIT);
            }
        }
    }
}

/* --- distances --------------------------------------------------------------------------------- */

static void three_nodes(void)
{
    numa_srat(&blob, 3);
    (void)numa_memory(&blob, 2, 0, GIB, 1);
    (void)numa_memory(&blob, 0, GIB, GIB, 1);
    (void)numa_memory(&blob, 400, 2 * GIB, GIB, 1);
    finish_srat();
}

static void distances(void **state)
{
    (void)state;
    three_nodes();
    numa_slit(&blob, 3);
    blob.bytes[44 + 2 * 3 + 0] = 254;
    blob.bytes[44 + 0 * 3 + 2] = 10;
    /* Domain 1 is nobody's: whatever is there. */
    blob.bytes[44 + 1 * 3 + 1] = 0;
    blob.bytes[44 + 1 * 3 + 2] = 9;
    blob.bytes[44 + 0 * 3 + 1] = 255;
    numa_end(&blob);
    read_slit();
    assert_int_equal(numa.nr_localities, 3);
    assert_int_equal(numa.nr_localities_ignored, 1);
    assert_int_equal(mm_numa_distance(&numa, 0, 1), 254);
    assert_int_equal(mm_numa_distance(&numa, 1, 0), 10);
    assert_int_equal(mm_numa_distance(&numa, 0, 0), 10);
    /* Node 2 has no row. */
    assert_int_equal(mm_numa_distance(&numa, 0, 2), 20);
    assert_int_equal(mm_numa_distance(&numa, 2, 1), 20);
    assert_int_equal(mm_numa_distance(&numa, 2, 2), 10);
    assert_int_equal(mm_numa_distance(&numa, 3, 0), MM_NUMA_UNREACHABLE);
    assert_int_equal(mm_numa_distance(&numa, 0, 3), MM_NUMA_UNREACHABLE);
    assert_int_equal(mm_numa_distance(&numa, UINT32_MAX, UINT32_MAX), MM_NUMA_UNREACHABLE);
}

static void no_path(void **state)
{
    (void)state;
    three_nodes();
    numa_slit(&blob, 3);
    blob.bytes[44 + 2 * 3 + 0] = 255;
    numa_end(&blob);
    read_slit();
    assert_int_equal(mm_numa_distance(&numa, 0, 1), MM_NUMA_UNREACHABLE);
    assert_int_equal(mm_numa_distance(&numa, 1, 0), 20);
}

static void no_rows(void **state)
{
    (void)state;
    three_nodes();
    numa_slit(&blob, 0);
    numa_end(&blob);
    read_slit();
    assert_int_equal(mm_numa_distance(&numa, 0, 1), 20);
    assert_int_equal(numa.nr_localities, 0);
    assert_int_equal(mm_numa_read_slit(&numa, blob.bytes, blob.len, NULL),
                     MM_ERR_ALREADY_INITIALIZED);
}

/* A matrix of all nodes that there can be, and one larger than that. */
static void many_rows(void **state)
{
    (void)state;
    numa_srat(&blob, 3);
    for (uint32_t i = 0; i < MM_MAX_NODES; i++) {
        (void)numa_apic(&blob, 3 * (MM_MAX_NODES - 1 - i), (uint8_t)i, 1);
    }
    finish_srat();
    numa_slit(&blob, 3 * MM_MAX_NODES);
    for (uint32_t i = 0; i < 9 * MM_MAX_NODES * MM_MAX_NODES; i++) {
        blob.bytes[44 + i] = (uint8_t)(11 + i * 37 % 240);
    }
    for (uint32_t i = 0; i < 3 * MM_MAX_NODES; i++) {
        blob.bytes[44 + i * (3 * MM_MAX_NODES + 1)] = i % 3 == 0 ? 10 : 0;
    }
    numa_end(&blob);
    read_slit();
    assert_int_equal(numa.nr_localities_ignored, 2 * MM_MAX_NODES);
}

/* --- any tables, any alignment ----------------------------------------------------------------- */

static void any_alignment(void **state)
{
    static uint8_t area[2000];

    (void)state;
    numa_load(&blob, "SRAT", NUMA_R820);
    for (unsigned shift = 0; shift < 16; shift++) {
        memcpy(area + shift, blob.bytes, blob.len);
        begin();
        assert_int_equal(mm_numa_read_srat(&numa, area + shift, blob.len, NULL), MM_OK);
        assert_true(t_mnuma_srat(&model, blob.bytes, blob.len));
        assert_null(t_mnuma_compare(&model, &numa));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(r820),
        cmocka_unit_test(h8qg6),
        cmocka_unit_test(msi),
        cmocka_unit_test(asrock),
        cmocka_unit_test(without_tables),
        cmocka_unit_test(sparse_domains),
        cmocka_unit_test(revisions),
        cmocka_unit_test(as_many_domains_as_fit),
        cmocka_unit_test(many_processors),
        cmocka_unit_test(a_processor_twice),
        cmocka_unit_test(entries_of_no_interest),
        cmocka_unit_test(kinds_of_memory),
        cmocka_unit_test(memory_below_the_first_range),
        cmocka_unit_test(overlaps),
        cmocka_unit_test(the_end_of_the_address_space),
        cmocka_unit_test(just_enough_room),
        cmocka_unit_test(distances),
        cmocka_unit_test(no_path),
        cmocka_unit_test(no_rows),
        cmocka_unit_test(many_rows),
        cmocka_unit_test(any_alignment),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
