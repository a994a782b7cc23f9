// SPDX-License-Identifier: MIT
/**
 * The heap of the usual kernel, told what to check, to record, to sample, to report and to set
 * aside: that it does so, that nothing of it holds the system up, and that what contradicts the
 * system is refused with nothing changed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "guard_pages.h"
#include "system_rig.h"

#define PAGE UINT64_C(4096)

static struct t_guards guards;

/* --- what it was told --------------------------------------------------------------------------- */

static struct {
    struct mm_heap_report last;
    unsigned nr;
} told;

static void hear(void *ctx, const struct mm_heap_report *report)
{
    assert_ptr_equal(ctx, &told);
    told.last = *report;
    told.nr++;
}

static void come_up(struct machine *m)
{
    memset(&told, 0, sizeof(told));
    assert_int_equal(mm_system_init(&m->system, &m->config), MM_OK);
}

/** Nothing that is free holds it up, and all is as before. */
static void go_down(struct machine *m, uint64_t before)
{
    assert_int_equal(mm_system_check(&m->system), MM_OK);
    assert_int_equal(mm_system_destroy(&m->system), MM_OK);
    assert_int_equal(m->cpu->mmu.cr3, OLD_ROOT);
    assert_true(map_hash(m) == before);
}

/** Freed twice: told by the op that the configuration names, in the heap's name. */
static void free_twice(struct machine *m, const char *name)
{
    const void *const maker = (const void *)UINT64_C(0xffffffff81000011);
    struct mm_heap *heap = &m->system.heap;
    void *object = mm_heap_alloc_from(heap, 100, 0, 0, maker);

    assert_non_null(object);
    expect_busy(&m->system);
    mm_heap_free(heap, object);
    assert_int_equal(told.nr, 0);
    mm_heap_free(heap, object);
    assert_int_equal(told.nr, 1);
    assert_int_equal(told.last.kind, MM_HEAP_DOUBLE_FREE);
    assert_string_equal(told.last.name, name);
    assert_true(told.last.allocated_by ==
                (m->config.heap.flags != 0 || m->config.heap.tier == MM_HEAP_HARDENED
                     ? (uint64_t)(uintptr_t)maker
                     : 0));
}

static void test_tiers(void **state)
{
    static const enum mm_heap_tier tiers[] = {MM_HEAP_CHECKED, MM_HEAP_FAST, MM_HEAP_HARDENED};
    struct machine *m = *state;
    uint64_t before = map_hash(m);

    m->config.heap.report = hear;
    m->config.heap.report_ctx = &told;
    for (unsigned i = 0; i < 6; i++) {
        m->config.heap.tier = tiers[i / 2];
        m->config.heap.flags = i % 2 != 0 ? MM_HEAP_CALLERS : 0;
        m->config.heap.name = i == 0 ? NULL : "kernel";
        come_up(m);
        free_twice(m, i == 0 ? "heap" : "kernel");
        assert_int_equal(mm_heap_mark(&m->system.heap), i % 2 != 0 || i >= 4 ? 1 : 0);
        go_down(m, before);
    }
}

/** What waits in the quarantine, as much as was said, is free. */
static void test_hardened(void **state)
{
    struct machine *m = *state;
    struct mm_heap *heap = &m->system.heap;
    uint64_t before = map_hash(m);
    unsigned char *objects[40];

    m->config.heap = (struct mm_heap_config){
        .tier = MM_HEAP_HARDENED, .quarantine = 16, .report = hear, .report_ctx = &told};
    come_up(m);
    for (unsigned i = 0; i < 40; i++) {
        objects[i] = mm_heap_alloc(heap, 60);
        assert_non_null(objects[i]);
    }
    for (unsigned i = 0; i < 17; i++) {
        assert_int_equal(told.nr, 0);
        mm_heap_free(heap, objects[i]);
        if (i < 16) {
            objects[0][3] = 1; /* told when it leaves: when the 17th goes in */
        }
    }
    assert_int_equal(told.nr, 1);
    assert_int_equal(told.last.kind, MM_HEAP_WRITE_AFTER_FREE);
    assert_int_equal(told.last.address, (uint64_t)(uintptr_t)&objects[0][3]);
    expect_busy(&m->system);
    for (unsigned i = 17; i < 40; i++) {
        mm_heap_free(heap, objects[i]);
    }
    go_down(m, before);
    assert_int_equal(told.nr, 1);
}

/** What is set aside is there when all frames are gone, and holds nothing up. */
static void test_reserve(void **state)
{
    struct machine *m = *state;
    struct mm_heap *heap = &m->system.heap;
    uint64_t before = map_hash(m);
    struct mm_heap_stats stats;
    void *hoard = NULL;
    void *objects[2];
    uint64_t size = RAM;

    m->config.heap = (struct mm_heap_config){.reserve_size = 6000, .nr_reserve = 2};
    come_up(m);
    assert_int_equal(mm_heap_get_stats(heap, &stats), MM_OK);
    assert_int_equal(stats.kept_bytes, 4 * PAGE);
    while (size >= PAGE) {
        void **run = mm_heap_alloc(heap, size < 3 * PAGE ? 3 * PAGE : size);

        if (run == NULL) {
            size /= 2;
        } else {
            *run = hoard;
            hoard = run;
        }
    }
    for (unsigned i = 0; i < 2; i++) {
        objects[i] = mm_heap_alloc_with(heap, 6000, 0, MM_HEAP_RESERVE);
        assert_non_null(objects[i]);
    }
    expect_busy(&m->system);
    for (unsigned i = 0; i < 2; i++) {
        mm_heap_free(heap, objects[i]);
    }
    while (hoard != NULL) {
        void *next = *(void **)hoard;

        mm_heap_free(heap, hoard);
        hoard = next;
    }
    go_down(m, before);
}

/** Samples lie in the window that was given; one that is alive holds the system up. */
static void test_sampled(void **state)
{
    struct machine *m = *state;
    struct mm_heap *heap = &m->system.heap;
    uint64_t before = map_hash(m);
    struct mm_heap_report report;
    void *object;

    m->config.heap.sample_every = 1;
    m->config.heap.guards = t_guards_new(&guards, 5);
    come_up(m);
    object = mm_heap_alloc(heap, 100);
    assert_true((uint64_t)(uintptr_t)object - m->config.heap.guards.base <
                m->config.heap.guards.len);
    expect_busy(&m->system);
    mm_heap_free(heap, object);
    assert_int_equal(mm_heap_explain_fault(heap, (uint64_t)(uintptr_t)object, &report), MM_OK);
    assert_int_equal(report.kind, MM_HEAP_USE_AFTER_FREE);
    go_down(m, before);
    t_guards_delete(&guards);
}

/* --- what cannot be ----------------------------------------------------------------------------- */

#define EXPECT(status, ...)                                                                        \
    do {                                                                                           \
        m->config.heap = (struct mm_heap_config){__VA_ARGS__};                                     \
        expect_failure(m, status);                                                                 \
    } while (0)

static void test_what_contradicts_is_refused(void **state)
{
    struct machine *m = *state;
    static struct mm_pool pool;

    EXPECT(MM_ERR_INVALID_ARGUMENT, .large = &pool);
    EXPECT(MM_ERR_INVALID_ARGUMENT, .large_size = 16 * PAGE);
    EXPECT(MM_ERR_INVALID_ARGUMENT, .large = &pool, .large_size = 16 * PAGE);
    EXPECT(MM_ERR_INVALID_ARGUMENT, .zero = 1);
    EXPECT(MM_ERR_INVALID_FLAGS, .flags = MM_HEAP_CALLERS << 1);
    EXPECT(MM_ERR_INVALID_ARGUMENT, .tier = (enum mm_heap_tier)3);
    EXPECT(MM_ERR_INVALID_ARGUMENT, .tier = MM_HEAP_HARDENED,
           .quarantine = MM_HEAP_QUARANTINE_MAX + 1);
    EXPECT(MM_ERR_INVALID_ARGUMENT, .nr_reserve = 1);
    EXPECT(MM_ERR_INVALID_ARGUMENT, .reserve_size = 100);
    EXPECT(MM_ERR_INVALID_SIZE, .nr_reserve = 1, .reserve_size = MM_HEAP_MAX_RESERVE_SIZE + 1);
    EXPECT(MM_ERR_NO_MEMORY, .nr_reserve = RAM / PAGE, .reserve_size = PAGE);
    EXPECT(MM_ERR_INVALID_ARGUMENT, .sample_every = 1);
}

/** A window of samples where somebody else is, or that is none. */
static void test_windows(void **state)
{
    struct machine *m = *state;
    struct mm_heap_guards good = t_guards_new(&guards, 5);
    const struct {
        mm_status_t status;
        uint64_t base;
        uint64_t len;
    } bad[] = {
        {MM_ERR_ALREADY_MAPPED, t_ram_base(m->ram), 3 * PAGE},
        {MM_ERR_ALREADY_MAPPED, t_ram_base(m->ram) + RAM - PAGE, 3 * PAGE},
        {MM_ERR_ALREADY_MAPPED, IMAGE - 2 * PAGE, 3 * PAGE},
        {MM_ERR_ALREADY_MAPPED, m->device.range.start.raw - 2 * PAGE, 5 * PAGE},
        {MM_ERR_ALREADY_MAPPED, m->config.kernel_space.start.raw, 3 * PAGE},
        {MM_ERR_ALREADY_MAPPED,
         m->config.kernel_space.start.raw + m->config.kernel_space.len - PAGE, 3 * PAGE},
        {MM_ERR_ALREADY_MAPPED, m->config.user.len - PAGE, 3 * PAGE},
        {MM_ERR_NOT_ALIGNED, good.base + 1, good.len},
        {MM_ERR_NOT_ALIGNED, good.base, good.len + 1},
        {MM_ERR_INVALID_SIZE, good.base, 0},
        {MM_ERR_INVALID_SIZE, good.base, 4 * PAGE},
        {MM_ERR_INVALID_SIZE, UINT64_MAX - PAGE + 1, 3 * PAGE},
        {MM_ERR_INVALID_ADDRESS, UINT64_C(1) << 56, 3 * PAGE},
        {MM_ERR_INVALID_ADDRESS, (UINT64_C(1) << 47) - PAGE, 3 * PAGE},
    };

    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct mm_heap_guards at = {good.ops, good.ctx, bad[i].base, bad[i].len};

        EXPECT(bad[i].status, .sample_every = 3, .guards = at);
        if (bad[i].status != MM_ERR_ALREADY_MAPPED) {
            continue;
        }
        m->config.heap.sample_every = 0; /* then nothing lies there */
        assert_int_equal(mm_system_init(&m->system, &m->config), MM_OK);
        assert_int_equal(mm_system_destroy(&m->system), MM_OK);
    }
    EXPECT(MM_ERR_INVALID_ARGUMENT, .sample_every = 3, .guards = {NULL, NULL, good.base, good.len});
    t_guards_delete(&guards);
}

/** With every amount of memory from none up: it comes up, or nothing has happened. */
static void test_too_little_memory_leaves_nothing(void **state)
{
    struct machine *m = *state;
    uint64_t nr_failed = 0;
    uint64_t nr_up = 0;

    m->config.heap = (struct mm_heap_config){.tier = MM_HEAP_HARDENED,
                                             .quarantine = 3000,
                                             .sample_every = 5,
                                             .guards = t_guards_new(&guards, 200),
                                             .reserve_size = 9000,
                                             .nr_reserve = 5};
    for (uint64_t len = PAGE; len < 700 * 1024 && nr_up < 3; len += PAGE) {
        mm_status_t status;
        uint64_t before;

        memset(&m->map, 0, sizeof(m->map));
        assert_int_equal(mm_bootmap_init(&m->map, m->entries, MM_BOOTMAP_CAPACITY(8)), MM_OK);
        assert_int_equal(mm_bootmap_add(&m->map, mm_prange(mm_paddr(4 * MIB), len), MM_BOOT_USABLE),
                         MM_OK);
        before = map_hash(m);
        status = mm_system_init(&m->system, &m->config);
        if (status == MM_OK) {
            nr_up++;
            go_down(m, before);
        } else {
            static const struct mm_system zero;

            nr_failed++;
            assert_int_equal(status, MM_ERR_NO_MEMORY);
            assert_memory_equal(&m->system, &zero, sizeof(zero));
            assert_true(map_hash(m) == before);
        }
    }
    assert_true(nr_failed > 20);
    assert_int_equal(nr_up, 3);
    t_guards_delete(&guards);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_tiers, start, stop),
        cmocka_unit_test_setup_teardown(test_hardened, start, stop),
        cmocka_unit_test_setup_teardown(test_reserve, start, stop),
        cmocka_unit_test_setup_teardown(test_sampled, start, stop),
        cmocka_unit_test_setup_teardown(test_what_contradicts_is_refused, start, stop),
        cmocka_unit_test_setup_teardown(test_windows, start, stop),
        cmocka_unit_test_setup_teardown(test_too_little_memory_leaves_nothing, start, stop),
    };

    return cmocka_run_group_tests_name("heap of a system", tests, NULL, NULL);
}
