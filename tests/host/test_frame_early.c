// SPDX-License-Identifier: MIT
/**
 * The first minutes of a kernel: a boot loader has mapped the first 2 MiB, or the first 4 GiB, of a
 * machine of 64 MiB to 64 GiB, and nothing else may be touched. The allocator comes up with its
 * state alone, hands out frames of the window, and gets its records when all memory is mapped. What
 * is not mapped is not backed: every access traps.
 */
#include "check.h"
#include "sim_ram.h"
#include "trap_mm.h"

#include <mm/frame.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define MIB     UINT64_C(0x100000)
#define GIB     (1024 * MIB)
#define TAKEN   1000u
#define RECORDS (MM_FRAMES_REFCOUNTS | MM_FRAMES_OWNERS)

struct early {
    struct t_ram *ram;
    struct mm_boot_entry entries[MM_BOOTMAP_CAPACITY(8)];
    struct mm_bootmap map;
    struct mm_physmap physmap;
    struct mm_frames_config config;
    struct mm_frames frames;
    struct mm_frame_window window;
    struct mm_prange mapped;
    uint64_t size;
    uint64_t usable; /* bytes in the map */
    mm_pfn_t taken[TAKEN];
    unsigned nr_taken;
};

static void power_on(struct early *e, uint64_t size, uint64_t mapped)
{
    memset(e, 0, sizeof(*e));
    e->size = size;
    e->mapped = mm_prange(mm_paddr(0), mapped);
    e->ram = t_ram_new(0, size);
    assert_non_null(e->ram);
    t_ram_back(e->ram, 0, mapped < size ? mapped : size);
    t_ram_junk(e->ram, 0, mapped < 8 * MIB ? mapped : 8 * MIB, 3);
    assert_int_equal(mm_bootmap_init(&e->map, e->entries, MM_BOOTMAP_CAPACITY(8)), MM_OK);
    assert_int_equal(mm_bootmap_add(&e->map, mm_prange(mm_paddr(0), size), MM_BOOT_USABLE), MM_OK);
    assert_int_equal(mm_bootmap_add(&e->map, mm_prange(mm_paddr(MIB), MIB / 4), MM_BOOT_KERNEL),
                     MM_OK);
    e->physmap = mm_physmap_direct(t_ram_base(e->ram));
    e->config = (struct mm_frames_config){
        .map = &e->map, .physmap = &e->physmap, .platform = t_platform(), .nr_cpus = 4};
    assert_int_equal(mm_bootmap_normalize(&e->map), MM_OK);
    e->usable = mm_bootmap_usable_bytes(&e->map);
}

/* Zeroed frames from the window until there are no more, or enough. */
static void take_from_window(struct early *e)
{
    struct mm_frame_source source;
    mm_status_t status = MM_OK;

    e->window = (struct mm_frame_window){
        .frames = &e->frames, .lowest = e->mapped.start, .highest = mm_prange_last(e->mapped)};
    source = mm_frame_source_within(&e->window);
    while (e->nr_taken < TAKEN && status == MM_OK) {
        status = source.ops->alloc(source.ctx, MM_OWNER_PAGE_TABLE, true, &e->taken[e->nr_taken]);
        if (status == MM_OK) {
            assert_true(mm_prange_contains(e->mapped, mm_pfn_addr(e->taken[e->nr_taken])));
            e->nr_taken++;
        }
    }
    assert_int_equal(status, e->nr_taken == TAKEN ? MM_OK : MM_ERR_NO_MEMORY);
    assert_true(e->nr_taken > 10);
}

/* All memory is mapped now: records in a run that the allocator itself hands out. */
static mm_pfn_t add_records(struct early *e, uint64_t *nr)
{
    struct mm_frame_request request = {0};
    mm_pfn_t run;
    uint64_t len;
    uint64_t at;

    assert_int_equal(mm_frame_records_size(&e->frames, RECORDS, &len), MM_OK);
    request.nr_frames = *nr = (len + MM_PAGE_SIZE - 1) / MM_PAGE_SIZE;
    assert_int_equal(mm_frame_alloc(&e->frames, &request, &run), MM_OK);
    at = mm_pfn_addr(run).raw;
    if (!t_ram_is_backed(e->ram, at, *nr * MM_PAGE_SIZE)) {
        t_ram_back(e->ram, at, *nr * MM_PAGE_SIZE);
    }
    if (at < 8 * MIB) {
        memset(t_ram_ptr(e->ram, at), 0, *nr * MM_PAGE_SIZE);
    }
    assert_int_equal(
        mm_frame_add_records(&e->frames, RECORDS, t_ram_ptr(e->ram, at), *nr * MM_PAGE_SIZE),
        MM_OK);
    return run;
}

static void boot(struct early *e)
{
    struct mm_frame_stats stats;
    mm_pfn_t anywhere;
    mm_pfn_t run;
    uint64_t nr;

    assert_int_equal(mm_frame_init_from_map(&e->frames, &e->config, e->mapped), MM_OK);
    assert_int_equal(mm_frame_check(&e->frames), MM_OK);
    take_from_window(e);
    /* Its state is all that a frame from elsewhere costs. */
    assert_int_equal(mm_frame_alloc_on(&e->frames, 0, &anywhere), MM_OK);
    run = add_records(e, &nr);
    assert_int_equal(mm_frame_check(&e->frames), MM_OK);
    for (unsigned i = 0; i < e->nr_taken; i++) {
        assert_int_equal(mm_frame_refs(&e->frames, e->taken[i]), 1);
        mm_frame_get(&e->frames, e->taken[i]);
        assert_false(mm_frame_put(&e->frames, e->taken[i]));
        assert_true(mm_frame_put(&e->frames, e->taken[i]));
    }
    mm_frame_free(&e->frames, anywhere, 0);
    assert_int_equal(mm_frame_check(&e->frames), MM_OK);
    assert_int_equal(mm_frame_get_stats(&e->frames, &stats), MM_OK);
    assert_int_equal(stats.nr_allocated, nr); /* the records themselves */
    assert_true(mm_frame_allocated(&e->frames, run));
    assert_int_equal(mm_frame_destroy_to_map(&e->frames, &e->map), MM_OK);
    assert_int_equal(mm_bootmap_normalize(&e->map), MM_OK);
    assert_int_equal(mm_bootmap_usable_bytes(&e->map), e->usable);
}

/* A megabyte below the image holds the state of 16 GiB. */
static void test_first_2_mib_mapped(void **state)
{
    static const uint64_t sizes[] = {64 * MIB, 512 * MIB, 4 * GIB, 16 * GIB};
    static struct early e;

    (void)state;
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        power_on(&e, sizes[i], 2 * MIB);
        boot(&e);
        t_ram_delete(e.ram);
    }
}

static void test_first_4_gib_mapped(void **state)
{
    static const uint64_t sizes[] = {64 * MIB, GIB, 4 * GIB, 8 * GIB, 64 * GIB};
    static struct early e;

    (void)state;
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        power_on(&e, sizes[i], 4 * GIB);
        boot(&e);
        t_ram_delete(e.ram);
    }
}

/* What does not fit into what is mapped is refused, and nothing is changed. */
static void test_where_it_cannot_fit(void **state)
{
    static const struct mm_frames none;
    static const struct {
        uint64_t size, mapped;
        uint32_t flags;
        mm_status_t status;
    } cases[] = {
        {32 * GIB, 2 * MIB, 0, MM_ERR_NO_MEMORY}, /* state of 1.1 MiB */
        {64 * GIB, 2 * MIB, 0, MM_ERR_NO_MEMORY},
        {4 * GIB, 2 * MIB, RECORDS, MM_ERR_NO_MEMORY}, /* 12 MiB */
        {64 * MIB, 4096, 0, MM_ERR_NO_MEMORY},         /* frame 0 alone */
        {64 * MIB, 0, 0, MM_ERR_NO_MEMORY},
    };
    static struct early e;

    (void)state;
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint32_t nr;

        power_on(&e, cases[i].size, cases[i].mapped == 0 ? 4096 : cases[i].mapped);
        nr = e.map.nr;
        e.mapped.len = cases[i].mapped;
        e.config.flags = cases[i].flags;
        assert_int_equal(mm_frame_init_from_map(&e.frames, &e.config, e.mapped), cases[i].status);
        assert_memory_equal(&e.frames, &none, sizeof(none));
        assert_int_equal(e.map.nr, nr);
        assert_int_equal(mm_bootmap_usable_bytes(&e.map), e.usable);
        t_ram_delete(e.ram);
    }
    power_on(&e, 64 * MIB, 2 * MIB);
    e.mapped = mm_prange(mm_paddr(UINT64_MAX - 4095), 8192);
    assert_int_equal(mm_frame_init_from_map(&e.frames, &e.config, e.mapped), MM_ERR_INVALID_SIZE);
    t_ram_delete(e.ram);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_2_mib_mapped),
        cmocka_unit_test(test_first_4_gib_mapped),
        cmocka_unit_test(test_where_it_cannot_fit),
    };

    return cmocka_run_group_tests_name("frame_early", tests, NULL, NULL);
}
