// SPDX-License-Identifier: MIT
/**
 * The usual kernel in one call: that all rooms come up and work together, that nothing beyond what
 * the boot loader mapped is touched before the kernel's own root is active, and that every failure
 * and the teardown leave the world as it was.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "system_rig.h"

static void expect_prot(struct machine *m, uint64_t at, mm_prot_t prot, mm_memtype_t type)
{
    struct mm_mapping found;

    assert_int_equal(mm_paging_translate(&m->system.kernel, mm_vaddr(at), &found), MM_OK);
    assert_int_equal(found.prot & MM_PROT_ALL & ~MM_PROT_GLOBAL, prot);
    assert_int_equal(found.type, type);
}

/* Each frame in use is a table, a page of a space, the heap's, the region's or ours. */
static void audit(struct machine *m, struct mm_space *space, const struct mm_dma_region *region,
                  mm_pfn_t frame)
{
    const struct mm_system *s = &m->system;
    struct t_ledger *ledger = t_ledger_open(&s->frames, m->physmap.base, RAM / 4096);

    t_ledger_root(ledger, &s->kernel, NULL, m->config.kernel_space);
    t_ledger_space(ledger, space, &s->kernel);
    t_ledger_hold(ledger, region->range.start.raw / 4096, region->nr_frames);
    t_ledger_hold(ledger, frame.raw, 1);
    T_LEGAL(t_ledger_close(ledger, s->pages.nr_pages_out));
}

static void test_everything_works_together(void **state)
{
    struct machine *m = *state;
    struct mm_system *s = &m->system;
    struct mm_space_request request = {.len = 8192, .prot = MM_PROT_RW};
    struct mm_fault fault = {.flags = MM_FAULT_WRITE | MM_FAULT_USER};
    enum mm_fault_result result;
    struct mm_dma_region region = {0};
    struct mm_space *space;
    mm_vaddr_t at;
    mm_pfn_t frame;
    void *object;
    uint64_t before = map_hash(m);

    assert_int_equal(mm_system_init(s, &m->config), MM_OK);
    assert_int_equal(m->cpu->mmu.cr3 & ~UINT64_C(0xfff), mm_paging_root(&s->kernel).raw);
    expect_prot(m, IMAGE, MM_PROT_RX, MM_MEMTYPE_WB);
    expect_prot(m, IMAGE + 8192, MM_PROT_RW, MM_MEMTYPE_WB);
    expect_prot(m, t_ram_base(m->ram) + 2 * MIB + 4096, MM_PROT_READ, MM_MEMTYPE_WB); /* text */
    expect_prot(m, t_ram_base(m->ram) + 2 * MIB + 8192, MM_PROT_RW, MM_MEMTYPE_WB);
    expect_prot(m, m->device.range.start.raw, MM_PROT_RW, MM_MEMTYPE_UC);
    expect_prot(m, t_ram_base(m->ram) + 63 * MIB, MM_PROT_RW, MM_MEMTYPE_WB);
    assert_int_equal(mm_system_check(s), MM_OK);

    assert_int_equal(mm_frame_alloc(&s->frames, NULL, &frame), MM_OK);
    object = mm_heap_alloc(&s->heap, 100);
    assert_non_null(object);
    assert_int_equal(mm_dma_alloc(&s->dma, 5000, NULL, 0, &region), MM_OK);
    assert_int_equal(mm_space_create(&s->spaces, &space), MM_OK);
    assert_int_equal(mm_space_map(space, &request, &at), MM_OK);
    fault.at = at;
    assert_int_equal(mm_space_fault(space, &fault, &result), MM_OK);
    assert_int_equal(result, MM_FAULT_ZERO);
    assert_int_equal(mm_space_map_physical(space, &request, m->device.paddr, MM_MEMTYPE_UC, &at),
                     MM_OK);
    assert_int_equal(mm_space_map(mm_space_kernel(&s->spaces), &request, &at), MM_OK);
    assert_true(mm_vrange_contains(m->config.kernel_space, at));
    audit(m, space, &region, frame);
    assert_int_equal(mm_system_check(s), MM_OK);

    /* Each thing that is alive holds everything up, and nothing is taken down meanwhile. */
    expect_busy(s);
    assert_true(mm_space_put(space));
    expect_busy(s);
    assert_int_equal(mm_dma_free(&s->dma, &region), MM_OK);
    expect_busy(s);
    mm_heap_free(&s->heap, object);
    mm_frame_free(&s->frames, frame, 0);
    assert_int_equal(mm_system_check(s), MM_OK);
    assert_int_equal(mm_system_destroy(s), MM_OK);
    assert_int_equal(m->cpu->mmu.cr3, OLD_ROOT);
    assert_true(map_hash(m) == before);
    assert_int_equal(mm_system_destroy(s), MM_ERR_NOT_INITIALIZED);

    assert_int_equal(mm_system_init(s, &m->config), MM_OK);
    assert_int_equal(mm_system_destroy(s), MM_OK);
}

static void test_each_thing_alone_holds_it_up(void **state)
{
    struct machine *m = *state;
    struct mm_system *s = &m->system;
    struct mm_cache_config config = {.name = "things", .size = 40};
    static struct mm_cache cache;
    struct mm_dma_region region = {0};
    struct mm_space *kernel;

    assert_int_equal(mm_system_init(s, &m->config), MM_OK);
    memset(&cache, 0, sizeof(cache));
    assert_int_equal(mm_cache_init(&cache, &s->pool, &config), MM_OK);
    expect_busy(s);
    assert_int_equal(mm_cache_destroy(&cache), MM_OK);
    assert_int_equal(mm_dma_alloc(&s->dma, 4096, NULL, 0, &region), MM_OK);
    expect_busy(s);
    assert_int_equal(mm_dma_free(&s->dma, &region), MM_OK);
    kernel = mm_space_kernel(&s->spaces);
    mm_space_get(kernel);
    expect_busy(s);
    assert_false(mm_space_put(kernel));
    assert_int_equal(mm_system_check(s), MM_OK);
    assert_int_equal(mm_system_destroy(s), MM_OK);
}

/* Pages that were taken from their source, beside those of the heap and the caches. */
static void test_pages_hold_it_up(void **state)
{
    struct machine *m = *state;
    struct mm_system *s = &m->system;
    struct mm_page_source source;
    void *pages;

    assert_int_equal(mm_system_init(s, &m->config), MM_OK);
    source = mm_page_source_frames(&s->pages);
    assert_int_equal(source.ops->alloc(source.ctx, 3, 1, 0, &pages), MM_OK);
    expect_busy(s);
    /* Slabs that are empty, runs that are kept, and a space that is gone, hold nothing up. */
    mm_heap_free(&s->heap, mm_heap_alloc(&s->heap, 5000));
    mm_heap_free(&s->heap, mm_heap_alloc(&s->heap, 20000));
    mm_heap_free(&s->heap, mm_heap_alloc(&s->heap, 20));
    expect_busy(s);
    source.ops->free(source.ctx, pages, 3);
    assert_int_equal(mm_system_destroy(s), MM_OK);
}

/* A room that does not answer is not taken down around. */
static void test_rooms_that_do_not_answer(void **state)
{
    struct machine *m = *state;
    struct mm_system *s = &m->system;
    uint32_t *const magics[] = {&s->heap.magic, &s->pool.magic, &s->pool.nr_users,
                                &s->spaces.magic};

    assert_int_equal(mm_system_init(s, &m->config), MM_OK);
    for (unsigned i = 0; i < sizeof(magics) / sizeof(magics[0]); i++) {
        *magics[i] ^= 1;
        assert_int_equal(mm_system_destroy(s), MM_ERR_BUSY);
        *magics[i] ^= 1;
        assert_int_equal(mm_system_check(s), MM_OK);
    }
    assert_int_equal(mm_system_destroy(s), MM_OK);
}

/* The tables that the CPU still walks are not taken from under it, whatever root was to follow. */
static void test_root_that_is_still_walked(void **state)
{
    struct machine *m = *state;
    struct mm_system *s = &m->system;

    assert_int_equal(mm_system_init(s, &m->config), MM_OK);
    s->root_before = mm_paging_root(&s->kernel);
    assert_int_equal(mm_system_destroy(s), MM_ERR_BUSY);
    assert_int_equal(mm_paging_check(&s->kernel), MM_OK);
    assert_int_equal(mm_paging_load_root(m->config.backend, mm_paddr(OLD_ROOT)), MM_OK);
    assert_int_equal(mm_paging_destroy(&s->kernel), MM_OK);
    assert_int_equal(mm_frame_destroy_to_map(&s->frames, &m->map), MM_OK);
    memset(s, 0, sizeof(*s));
}

/* The counts that hold the system up, each by itself. */
static void test_what_is_alive_is_counted(void **state)
{
    struct machine *m = *state;
    struct mm_spaces *spaces = &m->system.spaces;
    struct mm_spaces_stats stats = {.nr_spaces = 77};
    struct mm_pool_stats pool;
    struct mm_space *space;

    assert_int_equal(mm_spaces_get_stats(NULL, &stats), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_spaces_get_stats(spaces, NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_spaces_get_stats(spaces, &stats), MM_ERR_NOT_INITIALIZED);
    assert_int_equal(stats.nr_spaces, 77); /* untouched on error */

    assert_int_equal(mm_system_init(&m->system, &m->config), MM_OK);
    assert_int_equal(mm_pool_get_stats(&m->system.pool, &pool), MM_OK);
    assert_int_equal(mm_space_create(spaces, &space), MM_OK);
    mm_space_get(mm_space_kernel(spaces));
    assert_int_equal(mm_spaces_get_stats(spaces, &stats), MM_OK);
    assert_int_equal(stats.nr_spaces, 1);
    assert_int_equal(stats.nr_kernel_refs, 1);
    assert_int_equal(stats.nr_caches, pool.nr_users - 1); /* all but the heap */
    assert_true(mm_space_put(space));
    assert_false(mm_space_put(mm_space_kernel(spaces)));
    assert_int_equal(mm_spaces_get_stats(spaces, &stats), MM_OK);
    assert_int_equal(stats.nr_spaces, 0);
    assert_int_equal(stats.nr_kernel_refs, 0);
    assert_int_equal(mm_system_destroy(&m->system), MM_OK);
}

/* Two devices: the second is as much there as the first. */
static void test_every_device_is_mapped(void **state)
{
    struct machine *m = *state;
    struct mm_system_device two[2] = {m->device, m->device};
    struct mm_mapping leaf;

    two[1].range.start.raw += 4096;
    m->config.devices = two;
    m->config.nr_devices = 2;
    assert_int_equal(mm_system_init(&m->system, &m->config), MM_OK);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(mm_paging_translate(&m->system.kernel, two[i].range.start, &leaf), MM_OK);
        assert_int_equal(leaf.paddr.raw, two[i].paddr.raw);
    }
    assert_int_equal(mm_system_destroy(&m->system), MM_OK);
}

/* An image that is mapped by somebody else, and no device: the rest comes up, and is checked. */
static void test_without_sections_and_devices(void **state)
{
    struct machine *m = *state;
    uint64_t before = map_hash(m);

    m->config.sections = NULL;
    m->config.nr_sections = 0;
    m->config.devices = NULL;
    m->config.nr_devices = 0;
    assert_int_equal(mm_system_init(&m->system, &m->config), MM_OK);
    assert_int_equal(mm_system_check(&m->system), MM_OK);
    assert_int_equal(mm_system_destroy(&m->system), MM_OK);
    assert_true(map_hash(m) == before);
}

/* What the frames are told through the system: here a node, a reserve, memory that comes later. */
static void test_frames_are_told(void **state)
{
    struct machine *m = *state;
    static const uint32_t nodes[2] = {0, 0};
    struct mm_frame_ops ops = {.zero = mm_x86_64_zero_past_cache};
    struct mm_frame_stats stats;
    uint64_t nr = 0;

    assert_int_equal(
        mm_bootmap_add(&m->map, mm_prange(mm_paddr(64 * MIB), 2 * MIB), MM_BOOT_ACPI_RECLAIM),
        MM_OK);
    m->config.cpu_nodes = nodes;
    m->config.later_kinds = MM_BOOT_BIT(MM_BOOT_ACPI_RECLAIM);
    m->config.nr_reserve = 512;
    m->config.nr_kernel = 1024;
    m->config.frame_ops = &ops;
    m->config.frame_ops_ctx = m;
    assert_int_equal(mm_system_init(&m->system, &m->config), MM_OK);
    assert_int_equal(mm_frame_get_stats(&m->system.frames, &stats), MM_OK);
    assert_int_equal(stats.nr_withheld, 3 * 512);
    assert_int_equal(stats.nr_absent, 512);
    assert_true(m->system.frames.ops.zero == ops.zero);
    assert_ptr_equal(m->system.frames.ops_ctx, m);
    assert_int_equal(mm_frame_add(&m->system.frames, mm_prange(mm_paddr(64 * MIB), 2 * MIB), &nr),
                     MM_OK);
    assert_int_equal(nr, 512);
    assert_int_equal(mm_system_check(&m->system), MM_OK);
    assert_int_equal(mm_system_destroy(&m->system), MM_OK);

    m->config.nr_reserve = RAM / 4096; /* as much as there is */
    expect_failure(m, MM_ERR_INVALID_SIZE);
    m->config.nr_reserve = 0;
    m->config.later_kinds = MM_BOOT_BIT(MM_BOOT_USABLE);
    expect_failure(m, MM_ERR_INVALID_ARGUMENT);
}

static void test_each_step_can_fail(void **state)
{
    struct machine *m = *state;
    struct mm_system_config good = m->config;
    static struct mm_bootmap no_map;

    assert_int_equal(mm_system_init(NULL, &good), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_system_init(&m->system, NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_system_destroy(NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_system_check(NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_system_check(&m->system), MM_ERR_NOT_INITIALIZED);
    m->config.sections = NULL;
    expect_failure(m, MM_ERR_INVALID_ARGUMENT);
    m->config = good;
    m->config.devices = NULL;
    expect_failure(m, MM_ERR_INVALID_ARGUMENT);
    m->config = good;
    m->config.map = &no_map;
    expect_failure(m, MM_ERR_NOT_INITIALIZED);
    m->config = good;
    m->config.mapped.len = 4096;
    expect_failure(m, MM_ERR_NO_MEMORY);
    m->config = good;
    m->config.nr_cpus = 0;
    expect_failure(m, MM_ERR_INVALID_ARGUMENT);
    m->config = good;
    m->config.kernel_ranges = NULL;
    expect_failure(m, MM_ERR_INVALID_ARGUMENT);
    m->config = good;
    m->config.nr_kernel_ranges = 2; /* the image's is not declared */
    expect_failure(m, MM_ERR_INVALID_ADDRESS);
    m->config = good;
    m->sections[0].prot = MM_PROT_RW | MM_PROT_EXEC;
    expect_failure(m, MM_ERR_PERMISSION_DENIED);
    m->sections[0].prot = MM_PROT_RX;
    m->device.range.start.raw++;
    expect_failure(m, MM_ERR_NOT_ALIGNED);
    m->device.range.start.raw--;
    m->physmap.len = RAM / 2; /* not all frames have an address */
    expect_failure(m, MM_ERR_INVALID_ADDRESS);
    m->physmap.len = 0;
    m->config.kernel_space = mm_vrange(mm_vaddr(0x1000), 4096);
    expect_failure(m, MM_ERR_INVALID_ADDRESS);
    m->config = good;
    assert_int_equal(mm_system_init(&m->system, &m->config), MM_OK);
    assert_int_equal(mm_system_init(&m->system, &m->config), MM_ERR_ALREADY_INITIALIZED);
    assert_int_equal(mm_system_destroy(&m->system), MM_OK);
}

/* With every amount of memory from none up: it comes up, or nothing has happened. A page far above
 * makes the pool's window so wide that its table needs pages too. */
static void too_little(struct machine *m, uint64_t far)
{
    uint64_t nr_failed = 0;
    uint64_t nr_up = 0;

    for (uint64_t len = 0; len < 512 * 1024; len += 4096) {
        memset(&m->map, 0, sizeof(m->map));
        assert_int_equal(mm_bootmap_init(&m->map, m->entries, MM_BOOTMAP_CAPACITY(8)), MM_OK);
        assert_int_equal(mm_bootmap_add(&m->map, mm_prange(mm_paddr(4 * MIB), len), MM_BOOT_USABLE),
                         MM_OK);
        assert_int_equal(
            mm_bootmap_add(&m->map, mm_prange(mm_paddr(150 * MIB), far), MM_BOOT_USABLE), MM_OK);
        if (mm_bootmap_usable_bytes(&m->map) == 0) {
            expect_failure(m, MM_ERR_NO_MEMORY);
            continue;
        }
        uint64_t before = map_hash(m);
        mm_status_t status = mm_system_init(&m->system, &m->config);

        if (status == MM_OK) {
            nr_up++;
            assert_int_equal(mm_system_check(&m->system), MM_OK);
            assert_int_equal(mm_system_destroy(&m->system), MM_OK);
        } else {
            nr_failed++;
            assert_int_equal(status, MM_ERR_NO_MEMORY);
            assert_int_equal(mm_system_destroy(&m->system), MM_ERR_NOT_INITIALIZED);
        }
        assert_int_equal(m->cpu->mmu.cr3, OLD_ROOT);
        assert_true(map_hash(m) == before);
    }
    assert_true(nr_failed > 5 && nr_up > 5);
}

static void test_too_little_memory_leaves_nothing(void **state)
{
    too_little(*state, 0);
}

static void test_too_little_memory_far_apart(void **state)
{
    too_little(*state, 4096);
}

static void test_without_users_there_are_no_spaces(void **state)
{
    struct machine *m = *state;

    m->config.user = mm_vrange(mm_vaddr(0), 0);
    m->config.kernel_space = mm_vrange(mm_vaddr(0), 0);
    m->config.user_ops = NULL;
    m->config.nr_devices = 0;
    m->config.nr_sections = 0;
    assert_int_equal(mm_system_init(&m->system, &m->config), MM_OK);
    assert_null(mm_space_kernel(&m->system.spaces));
    assert_int_equal(mm_system_check(&m->system), MM_OK);
    assert_int_equal(mm_system_destroy(&m->system), MM_OK);
}

static void test_a_check_tells_of_corruption(void **state)
{
    struct machine *m = *state;
    struct mm_system *s = &m->system;
    struct mm_gather gather;
    struct mm_vrange page;
    mm_pfn_t frame;
    uint64_t summary;
    void *lost;

    assert_int_equal(mm_system_init(s, &m->config), MM_OK);
    s->kernel.nr_tables++;
    assert_int_equal(mm_system_check(s), MM_ERR_CORRUPTED);
    s->kernel.nr_tables--;
    summary = s->frames.groups[0];
    s->frames.groups[0] = 0; /* lines with free frames, and nobody would look there */
    assert_int_equal(mm_system_check(s), MM_ERR_CORRUPTED);
    s->frames.groups[0] = summary;
    lost = mm_cache_alloc(&s->spaces.region_cache); /* and in no space */
    assert_non_null(lost);
    assert_int_equal(mm_system_check(s), MM_ERR_CORRUPTED);
    mm_cache_free(&s->spaces.region_cache, lost);
    s->heap.runs.nr_slabs++;
    assert_int_equal(mm_system_check(s), MM_ERR_CORRUPTED);
    s->heap.runs.nr_slabs--;
    page = mm_vrange(m->config.kernel_space.start, 4096);
    assert_int_equal(mm_frame_alloc(&s->frames, NULL, &frame), MM_OK);
    assert_int_equal(
        mm_paging_map(&s->kernel, page, mm_pfn_addr(frame), MM_PROT_RW, MM_MEMTYPE_WB, 0), MM_OK);
    assert_int_equal(mm_system_check(s), MM_ERR_CORRUPTED); /* in no region */
    assert_int_equal(mm_gather_begin(&gather, &s->kernel), MM_OK);
    assert_int_equal(mm_paging_unmap(&s->kernel, page, 0, &gather), MM_OK);
    mm_gather_end(&gather);
    mm_frame_free(&s->frames, frame, 0);
    assert_int_equal(mm_system_check(s), MM_OK);
    assert_int_equal(mm_system_destroy(s), MM_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_everything_works_together, start, stop),
        cmocka_unit_test_setup_teardown(test_each_thing_alone_holds_it_up, start, stop),
        cmocka_unit_test_setup_teardown(test_pages_hold_it_up, start, stop),
        cmocka_unit_test_setup_teardown(test_rooms_that_do_not_answer, start, stop),
        cmocka_unit_test_setup_teardown(test_root_that_is_still_walked, start, stop),
        cmocka_unit_test_setup_teardown(test_what_is_alive_is_counted, start, stop),
        cmocka_unit_test_setup_teardown(test_every_device_is_mapped, start, stop),
        cmocka_unit_test_setup_teardown(test_without_sections_and_devices, start, stop),
        cmocka_unit_test_setup_teardown(test_frames_are_told, start, stop),
        cmocka_unit_test_setup_teardown(test_each_step_can_fail, start, stop),
        cmocka_unit_test_setup_teardown(test_too_little_memory_leaves_nothing, start, stop),
        cmocka_unit_test_setup_teardown(test_too_little_memory_far_apart, start, stop),
        cmocka_unit_test_setup_teardown(test_without_users_there_are_no_spaces, start, stop),
        cmocka_unit_test_setup_teardown(test_a_check_tells_of_corruption, start, stop),
    };

    return cmocka_run_group_tests_name("system", tests, NULL, NULL);
}
