// SPDX-License-Identifier: MIT
/**
 * DMA regions: what a device demands of an address, what a failing call leaves behind, and who owns
 * the frames.
 */
#include "check.h"
#include "ledger_mm.h"
#include "prng.h"
#include "sim_ram.h"
#include "trap_mm.h"

#include <mm/bootmap.h>
#include <mm/dma.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MIB    UINT64_C(0x100000)
#define PAGE   UINT64_C(4096)
#define NR_OPS (MM_TEST_SANITIZED ? 10000 : 100000)

/* RAM on both sides of 16 MiB, with a hole, so that limits and gaps matter. */
static const struct t_ram_range ram_ranges[] = {{MIB, 31 * MIB}, {48 * MIB, 16 * MIB}};

static struct {
    struct t_ram *ram;
    struct mm_boot_entry entries[16];
    struct mm_bootmap map;
    struct mm_physmap physmap;
    struct mm_frames frames;
    struct mm_dma dma;
} m;

static uint64_t nr_free(void)
{
    struct mm_frame_stats stats;

    assert_int_equal(mm_frame_get_stats(&m.frames, &stats), MM_OK);
    return stats.nr_free;
}

static int setup(void **state)
{
    struct mm_frames_config frames = {
        .map = &m.map, .physmap = &m.physmap, .platform = t_platform(), .nr_cpus = 1};
    struct mm_dma_config dma = {
        .frames = &m.frames, .physmap = &m.physmap, .platform = t_platform()};

    (void)state;
    memset(&m, 0, sizeof(m));
    m.ram = t_ram_new_ranges(ram_ranges, 2);
    assert_non_null(m.ram);
    m.physmap = mm_physmap_direct(t_ram_base(m.ram));
    assert_int_equal(mm_bootmap_init(&m.map, m.entries, 16), MM_OK);
    for (int i = 0; i < 2; i++) {
        struct mm_prange range = mm_prange(mm_paddr(ram_ranges[i].start), ram_ranges[i].len);

        assert_int_equal(mm_bootmap_add(&m.map, range, MM_BOOT_USABLE), MM_OK);
        t_ram_junk(m.ram, range.start.raw, range.len, 7);
    }
    assert_int_equal(mm_frame_init_from_map(&m.frames, &frames, mm_prange(mm_paddr(0), 64 * MIB)),
                     MM_OK);
    assert_int_equal(mm_dma_init(&m.dma, &dma), MM_OK);
    return 0;
}

static int teardown(void **state)
{
    struct mm_frame_stats stats;

    (void)state;
    assert_int_equal(mm_dma_destroy(&m.dma), MM_OK);
    assert_int_equal(mm_frame_get_stats(&m.frames, &stats), MM_OK);
    assert_int_equal(stats.nr_allocated, 0);
    assert_int_equal(mm_frame_check(&m.frames), MM_OK);
    assert_int_equal(mm_frame_destroy(&m.frames), MM_OK);
    t_ram_delete(m.ram);
    return 0;
}

/* The region is where the device can reach it, and whole. */
static void check_region(const struct mm_dma_region *r, uint64_t len,
                         const struct mm_dma_constraints *c)
{
    uint64_t align = c->align > PAGE ? c->align : PAGE;
    uint64_t first = r->range.start.raw;
    uint64_t last = first + (len - 1);

    assert_int_equal(r->range.len, len);
    assert_int_equal(r->nr_frames, (len + PAGE - 1) / PAGE);
    assert_true(mm_is_aligned(first, align));
    assert_true(c->highest.raw == 0 || last <= c->highest.raw);
    assert_true(c->boundary == 0 || first / c->boundary == last / c->boundary);
    assert_ptr_equal(r->addr, t_ram_ptr(m.ram, first));
    for (uint64_t i = 0; i < r->nr_frames; i++) {
        assert_true(mm_frame_allocated(&m.frames, mm_pfn(first / PAGE + i)));
    }
}

/* Hazard 34: mask, boundary and alignment together, in every combination. */
static void test_constraints(void **state)
{
    static const uint64_t lens[] = {1, 100, 4095, 4096, 4097, 12288, 65536, 65537, MIB};
    static const uint64_t aligns[] = {0, 1, 64, 4096, 8192, 65536, 2 * MIB};
    static const uint64_t bounds[] = {0, 64, 4096, 65536, MIB, 16 * MIB};
    static const uint64_t masks[] = {0, 16 * MIB - 1, 0xffffffff, 2 * MIB + 5, UINT64_MAX};
    uint64_t before = nr_free();

    (void)state;
    for (unsigned l = 0; l < sizeof(lens) / sizeof(lens[0]); l++) {
        for (unsigned i = 0; i < 7 * 6 * 5; i++) {
            struct mm_dma_constraints c = {mm_paddr(masks[i % 5]), aligns[i / 5 % 7],
                                           bounds[i / 35]};
            struct mm_dma_region r = {0};
            bool fits = c.boundary == 0 || lens[l] <= c.boundary;
            mm_status_t status = mm_dma_alloc(&m.dma, lens[l], &c, 0, &r);

            if (!fits) {
                assert_int_equal(status, MM_ERR_INVALID_SIZE);
            } else if (status != MM_OK) {
                /* 2 MiB aligned below 2 MiB + 5: only frame 512, and it is not whole below. */
                assert_int_equal(status, MM_ERR_NO_MEMORY);
                assert_int_equal(masks[i % 5], 2 * MIB + 5);
                assert_true(c.align == 2 * MIB || lens[l] == MIB);
            } else {
                check_region(&r, lens[l], &c);
                assert_int_equal(mm_dma_free(&m.dma, &r), MM_OK);
            }
            assert_int_equal(nr_free(), before);
        }
    }
}

static void test_zero(void **state)
{
    struct mm_dma_region r = {0};

    (void)state;
    assert_int_equal(mm_dma_alloc(&m.dma, 5 * PAGE + 1, NULL, 0, &r), MM_OK);
    memset(r.addr, 0xee, 6 * PAGE);
    assert_int_equal(mm_dma_free(&m.dma, &r), MM_OK);
    assert_int_equal(mm_dma_alloc(&m.dma, 5 * PAGE + 1, NULL, MM_DMA_ZERO, &r), MM_OK);
    for (uint64_t i = 0; i < 6 * PAGE; i++) {
        assert_int_equal(((unsigned char *)r.addr)[i], 0);
    }
    assert_int_equal(mm_dma_free(&m.dma, &r), MM_OK);
}

static void test_stats(void **state)
{
    struct mm_dma_region a = {0};
    struct mm_dma_region b = {0};
    struct mm_dma_stats stats;

    (void)state;
    assert_int_equal(mm_dma_alloc(&m.dma, 1, NULL, 0, &a), MM_OK);
    assert_int_equal(mm_dma_alloc(&m.dma, 3 * PAGE + 1, NULL, 0, &b), MM_OK);
    assert_int_equal(mm_dma_get_stats(&m.dma, &stats), MM_OK);
    assert_int_equal(stats.nr_regions, 2);
    assert_int_equal(stats.nr_bytes, 5 * PAGE);
    assert_int_equal(mm_dma_destroy(&m.dma), MM_ERR_BUSY);
    assert_int_equal(mm_dma_free(&m.dma, &a), MM_OK);
    assert_int_equal(mm_dma_free(&m.dma, &b), MM_OK);
    assert_int_equal(mm_dma_get_stats(&m.dma, &stats), MM_OK);
    assert_int_equal(stats.nr_regions, 0);
    assert_int_equal(stats.nr_bytes, 0);
}

static void refused(mm_status_t want, uint64_t len, const struct mm_dma_constraints *c,
                    uint32_t flags)
{
    struct mm_dma_region r;
    struct mm_dma_region was;
    uint64_t before = nr_free();

    memset(&r, 0x33, sizeof(r));
    was = r;
    assert_int_equal(mm_dma_alloc(&m.dma, len, c, flags, &r), want);
    assert_memory_equal(&r, &was, sizeof(r));
    assert_int_equal(nr_free(), before);
}

static void test_bad_input(void **state)
{
    struct mm_dma_constraints c = {0};
    struct mm_dma_region r = {0};
    struct mm_dma none = {0};
    struct mm_dma_stats stats;

    (void)state;
    refused(MM_ERR_INVALID_SIZE, 0, NULL, 0);
    refused(MM_ERR_INVALID_SIZE, UINT64_MAX, NULL, 0);
    refused(MM_ERR_INVALID_SIZE, UINT64_MAX - 4095, NULL, 0);
    refused(MM_ERR_INVALID_SIZE, (UINT64_C(1) << 52) + 1, NULL, 0);
    refused(MM_ERR_NO_MEMORY, 64 * MIB, NULL, 0);
    refused(MM_ERR_NO_MEMORY, UINT64_C(1) << 40, NULL, 0);
    refused(MM_ERR_INVALID_FLAGS, PAGE, NULL, 2);
    c.align = 3;
    refused(MM_ERR_NOT_ALIGNED, PAGE, &c, 0);
    c.align = UINT64_C(1) << 63;
    refused(MM_ERR_NO_MEMORY, PAGE, &c, 0);
    c.align = 0;
    c.boundary = 5000;
    refused(MM_ERR_NOT_ALIGNED, PAGE, &c, 0);
    c.boundary = 8192;
    refused(MM_ERR_INVALID_SIZE, 8193, &c, 0);
    c.boundary = 0;
    c.highest = mm_paddr(2 * PAGE - 1);
    refused(MM_ERR_INVALID_ADDRESS, 2 * PAGE + 1, &c, 0);
    refused(MM_ERR_NO_MEMORY, 2 * PAGE, &c, 0); /* frame 0 is never handed out */
    c.highest = mm_paddr(PAGE - 2);
    refused(MM_ERR_NO_MEMORY, 1, &c, 0);
    c.highest = mm_paddr(MIB - 1); /* reachable, and there is no memory */
    refused(MM_ERR_NO_MEMORY, PAGE, &c, 0);

    assert_int_equal(mm_dma_alloc(NULL, 1, NULL, 0, &r), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_dma_alloc(&m.dma, 1, NULL, 0, NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_dma_alloc(&none, 1, NULL, 0, &r), MM_ERR_NOT_INITIALIZED);
    assert_int_equal(mm_dma_free(NULL, &r), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_dma_free(&m.dma, NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_dma_free(&none, &r), MM_ERR_NOT_INITIALIZED);
    assert_int_equal(mm_dma_free(&m.dma, &r), MM_ERR_NOT_INITIALIZED);
    assert_int_equal(mm_dma_get_stats(NULL, &stats), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_dma_get_stats(&m.dma, NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_dma_get_stats(&none, &stats), MM_ERR_NOT_INITIALIZED);
}

/* A device that reaches part of a frame gets that part, and no byte more. */
static void test_highest_within_a_frame(void **state)
{
    struct mm_dma_constraints c = {.highest = mm_paddr(MIB + 2 * PAGE + 99)};
    struct mm_dma_region r = {0};

    (void)state;
    refused(MM_ERR_NO_MEMORY, 2 * PAGE + 101, &c, 0);
    assert_int_equal(mm_dma_alloc(&m.dma, 2 * PAGE + 100, &c, 0, &r), MM_OK);
    assert_int_equal(r.range.start.raw, MIB);
    assert_int_equal(mm_prange_last(r.range).raw, c.highest.raw);
    assert_int_equal(mm_dma_free(&m.dma, &r), MM_OK);
}

static void test_init(void **state)
{
    static const struct mm_physmap_ops ops = {NULL, NULL};
    struct mm_dma_config config = {.frames = &m.frames, .physmap = &m.physmap};
    struct mm_physmap with_ops = {.ops = &ops};
    struct mm_frames no_frames = {0};
    struct mm_physmap low;
    struct mm_dma dma = {0};

    (void)state;
    assert_int_equal(mm_dma_init(NULL, &config), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_dma_init(&dma, NULL), MM_ERR_INVALID_ARGUMENT);
    config.frames = NULL;
    assert_int_equal(mm_dma_init(&dma, &config), MM_ERR_INVALID_ARGUMENT);
    config.frames = &no_frames;
    assert_int_equal(mm_dma_init(&dma, &config), MM_ERR_NOT_INITIALIZED);
    config.frames = &m.frames;
    config.physmap = NULL;
    assert_int_equal(mm_dma_init(&dma, &config), MM_ERR_INVALID_ARGUMENT);
    config.physmap = &with_ops;
    assert_int_equal(mm_dma_init(&dma, &config), MM_ERR_UNSUPPORTED);
    low = m.physmap;
    low.len = PAGE;
    config.physmap = &low; /* does not reach all frames */
    assert_int_equal(mm_dma_init(&dma, &config), MM_ERR_INVALID_ADDRESS);
    assert_int_equal(dma.magic, 0);
    assert_int_equal(mm_dma_destroy(&dma), MM_ERR_NOT_INITIALIZED);
    assert_int_equal(mm_dma_destroy(NULL), MM_ERR_INVALID_ARGUMENT);
    config.physmap = &m.physmap;
    assert_int_equal(mm_dma_init(&m.dma, &config), MM_ERR_ALREADY_INITIALIZED);
    assert_int_equal(mm_dma_init(&dma, &config), MM_OK);
    assert_int_equal(mm_dma_destroy(&dma), MM_OK);
    assert_int_equal(mm_dma_init(&dma, &config), MM_OK);
    assert_int_equal(mm_dma_destroy(&dma), MM_OK);
}

/* A region belongs to one owner and one manager. */
static void test_ownership(void **state)
{
    struct mm_dma_config config = {
        .frames = &m.frames, .physmap = &m.physmap, .platform = t_platform()};
    struct mm_dma other = {0};
    struct mm_dma_region r = {0};
    struct mm_dma_region copy;
    struct t_trap_info info;
    uint64_t base;

    (void)state;
    assert_int_equal(mm_dma_init(&other, &config), MM_OK);
    assert_int_equal(mm_dma_alloc(&m.dma, 3 * PAGE, NULL, 0, &r), MM_OK);
    base = r.range.start.raw;
    copy = r;
    assert_int_equal(mm_dma_alloc(&m.dma, PAGE, NULL, 0, &r), MM_ERR_ALREADY_INITIALIZED);
    assert_int_equal(mm_dma_free(&other, &r), MM_ERR_NOT_INITIALIZED);
    assert_memory_equal(&r, &copy, sizeof(r));
    assert_int_equal(mm_dma_free(&m.dma, &r), MM_OK);
    assert_int_equal(r.magic, 0);
    assert_null(r.addr);
    assert_int_equal(mm_dma_free(&m.dma, &r), MM_ERR_NOT_INITIALIZED);
    /* A copy of the region frees frames that are free: corruption. */
    T_EXPECT_PANIC(assert_int_equal(mm_dma_free(&m.dma, &copy), MM_OK), &info);
    assert_string_equal(info.room, "frame");
    assert_in_range(info.address, base, base + 2 * PAGE);
    assert_int_equal(mm_dma_destroy(&other), MM_OK);
}

#define LIVE 64

/* Each frame in use is in one region. */
static void audit(const struct mm_dma_region *live)
{
    struct t_ledger *ledger = t_ledger_open(&m.frames, m.physmap.base, 64 * MIB / PAGE);

    for (unsigned i = 0; i < LIVE; i++) {
        if (live[i].magic != 0) {
            t_ledger_hold(ledger, live[i].range.start.raw / PAGE, live[i].nr_frames);
        }
    }
    T_LEGAL(t_ledger_close(ledger, 0));
}

static void test_random(void **state)
{
    static struct mm_dma_region live[LIVE];
    static struct mm_dma_constraints wanted[LIVE];
    uint64_t bytes = 0;
    uint64_t before = nr_free();
    struct t_prng prng;

    (void)state;
    memset(live, 0, sizeof(live));
    t_prng_start(&prng, "dma");
    for (unsigned op = 0; op < NR_OPS * (getenv("MM_TEST_FULL") != NULL ? 50 : 1); op++) {
        unsigned i = (unsigned)t_prng_below(&prng, LIVE);
        struct mm_dma_region *r = &live[i];

        if (r->magic != 0) {
            uint64_t last = r->nr_frames * PAGE - 8;

            /* Nobody else wrote into it. */
            assert_int_equal(*(uint64_t *)r->addr, (uint64_t)i + 1);
            assert_int_equal(*(uint64_t *)((char *)r->addr + last), (uint64_t)i + 1);
            check_region(r, r->range.len, &wanted[i]);
            bytes -= r->nr_frames * PAGE;
            assert_int_equal(mm_dma_free(&m.dma, r), MM_OK);
        } else {
            uint64_t len = 1 + t_prng_magnitude(&prng, 19);

            wanted[i] = (struct mm_dma_constraints){
                .highest = mm_paddr(
                    t_prng_chance(&prng, 1, 3) ? 16 * MIB - 1 - t_prng_below(&prng, PAGE) : 0),
                .align = t_prng_chance(&prng, 1, 3) ? UINT64_C(1) << t_prng_below(&prng, 20) : 0,
                .boundary = t_prng_chance(&prng, 1, 3) ? UINT64_C(1) << 19 : 0};
            if (mm_dma_alloc(&m.dma, len, &wanted[i], 0, r) != MM_OK) {
                continue;
            }
            check_region(r, len, &wanted[i]);
            *(uint64_t *)((char *)r->addr + r->nr_frames * PAGE - 8) = (uint64_t)i + 1;
            *(uint64_t *)r->addr = (uint64_t)i + 1;
            bytes += r->nr_frames * PAGE;
        }
        if (op % 1000 == 0) {
            struct mm_dma_stats stats;

            assert_int_equal(mm_frame_check(&m.frames), MM_OK);
            assert_int_equal(mm_dma_get_stats(&m.dma, &stats), MM_OK);
            assert_int_equal(stats.nr_bytes, bytes);
            assert_int_equal(nr_free(), before - bytes / PAGE);
            audit(live);
        }
    }
    for (unsigned i = 0; i < LIVE; i++) {
        if (live[i].magic != 0) {
            assert_int_equal(mm_dma_free(&m.dma, &live[i]), MM_OK);
        }
    }
    assert_int_equal(nr_free(), before);
    audit(live);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_highest_within_a_frame),
        cmocka_unit_test(test_constraints),
        cmocka_unit_test(test_init),
        cmocka_unit_test(test_constraints),
        cmocka_unit_test(test_zero),
        cmocka_unit_test(test_stats),
        cmocka_unit_test(test_bad_input),
        cmocka_unit_test(test_ownership),
        cmocka_unit_test(test_random),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
