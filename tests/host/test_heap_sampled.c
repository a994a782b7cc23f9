// SPDX-License-Identifier: MIT
/**
 * Sampled allocations: an object alone between guards. Overflow, underflow and use after free fault
 * at the instruction that makes them, and the fault is explained; what is too near to fault is found
 * at the free.
 */
#include "heap_tiers.h"

static struct told told;
static struct t_guards guards;

static struct world *sampled_world(bool frames, uint32_t every, uint64_t nr_places)
{
    struct world *world = tiers_world(frames);
    struct mm_heap_config config = {.name = "things",
                                    .sample_every = every,
                                    .report = told_report,
                                    .report_ctx = &told,
                                    .guards = t_guards_new(&guards, nr_places)};

    memset(&told, 0, sizeof(told));
    tiers_start(world, 1, &config);
    return world;
}

static void end(struct world *world)
{
    world_stop(world);
    world_delete(world);
    t_guards_delete(&guards);
}

static bool is_sample(const void *object)
{
    return (uint64_t)(uintptr_t)object - (uint64_t)(uintptr_t)guards.window < guards.len;
}

/** The fault at this address is explained as this. */
static void expect_fault(struct mm_heap *heap, volatile char *at, enum mm_heap_misuse kind,
                         const void *object, uint64_t size, bool freed)
{
    struct mm_heap_report report;
    struct t_trap_info info;

    T_EXPECT_SEGV(*at = 1, &info);
    assert_int_equal(info.address, (uint64_t)(uintptr_t)at);
    assert_int_equal(mm_heap_explain_fault(heap, info.address, &report), MM_OK);
    assert_int_equal(report.kind, kind);
    assert_ptr_equal((void *)(uintptr_t)report.object, object);
    assert_int_equal(report.size, size);
    assert_int_equal(report.offset, at - (const char *)object);
    assert_true(IN_PLACE(report.allocated_by, made_here));
    assert_int_equal(report.freed_by != 0, freed);
    if (freed) {
        assert_true(IN_PLACE(report.freed_by, freed_here));
    }
    told.reports[0] = report;
    told.nr = 1;
    assert_non_null(strstr(told_text(&told), kind == MM_HEAP_OVERFLOW    ? "overflow of an object"
                                             : kind == MM_HEAP_UNDERFLOW ? "underflow of an object"
                                                                         : "after its free"));
    told.nr = 0;
}

static void test_faults(void **state)
{
    static const uint64_t sizes[] = {16, 64, 100, 1000, 4096};

    (void)state;
    for (unsigned frames = 0; frames < 2; frames++) {
        struct world *world = sampled_world(frames != 0, 1, 16);
        struct mm_heap *heap = &world->heap;

        for (unsigned i = 0; i < 5; i++) {
            for (unsigned side = 0; side < 2; side++) {
                uint64_t size = sizes[i];
                char *object = made_here(heap, size);
                uint64_t page = (uint64_t)(uintptr_t)object & ~UINT64_C(4095);
                char *behind = (char *)(uintptr_t)(page + 4096);
                bool at_end = behind == object + (size + 15) / 16 * 16;

                assert_true(is_sample(object));
                assert_true(at_end || (uint64_t)(uintptr_t)object == page);
                memset(object, 0x77, size);
                expect_fault(heap, behind, MM_HEAP_OVERFLOW, object, size, false);
                expect_fault(heap, (char *)(uintptr_t)page - 1, MM_HEAP_UNDERFLOW, object, size,
                             false);
                freed_here(heap, object);
                expect_fault(heap, object, MM_HEAP_USE_AFTER_FREE, object, size, true);
                expect_fault(heap, object + size - 1, MM_HEAP_USE_AFTER_FREE, object, size, true);
            }
        }
        assert_int_equal(told.nr, 0);
        end(world);
    }
}

/** Of two beside a guard the nearer is named, and a live one before one that is freed. */
static void test_between_two(void **state)
{
    struct world *world = sampled_world(false, 1, 2);
    struct mm_heap *heap = &world->heap;
    char *at_end = made_here(heap, 64);
    char *at_begin = made_here(heap, 64);
    char *guard = at_end + 64;

    (void)state;
    assert_ptr_equal(guard + 4096, at_begin);
    expect_fault(heap, guard, MM_HEAP_OVERFLOW, at_end, 64, false);
    expect_fault(heap, guard + 2000, MM_HEAP_OVERFLOW, at_end, 64, false);
    expect_fault(heap, guard + 2100, MM_HEAP_UNDERFLOW, at_begin, 64, false);
    expect_fault(heap, guard + 4095, MM_HEAP_UNDERFLOW, at_begin, 64, false);
    freed_here(heap, at_begin);
    expect_fault(heap, guard + 4095, MM_HEAP_OVERFLOW, at_end, 64, false);
    freed_here(heap, at_end);
    expect_fault(heap, guard + 4095, MM_HEAP_UNDERFLOW, at_begin, 64, true);
    end(world);
}

static void test_sides_take_turns(void **state)
{
    struct world *world = sampled_world(false, 1, 16);
    unsigned nr_at_end = 0;

    (void)state;
    for (unsigned i = 0; i < 10; i++) {
        char *object = made_here(&world->heap, 64);

        nr_at_end += ((uint64_t)(uintptr_t)object & 4095) != 0 ? 1 : 0;
        freed_here(&world->heap, object);
    }
    assert_int_equal(nr_at_end, 5);
    end(world);
}

/** What does not reach a guard is found at the free, or by the check. */
static void test_canary(void **state)
{
    struct world *world = sampled_world(false, 1, 16);
    struct mm_heap *heap = &world->heap;
    const struct mm_heap_report *report = &told.reports[0];

    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        char *object = made_here(heap, 30);
        bool at_end = ((uint64_t)(uintptr_t)object & 4095) != 0;

        told.nr = 0;
        object[at_end ? -1 : 30] = 0;
        assert_int_equal(mm_heap_check(heap), MM_ERR_CORRUPTED);
        assert_int_equal(told.nr, 1);
        assert_int_equal(report->kind, at_end ? MM_HEAP_UNDERFLOW : MM_HEAP_OVERFLOW);
        assert_int_equal(report->object, (uint64_t)(uintptr_t)object);
        assert_int_equal(report->caller, 0);
        told.nr = 0;
        freed_there(heap, object);
        assert_int_equal(told.nr, 1);
        assert_int_equal(report->kind, at_end ? MM_HEAP_UNDERFLOW : MM_HEAP_OVERFLOW);
        assert_int_equal(report->offset, at_end ? -1 : 30);
        assert_true(IN_PLACE(report->allocated_by, made_here));
        assert_true(IN_PLACE(report->caller, freed_there));
    }
    end(world);
}

static void test_wrong_frees(void **state)
{
    struct world *world = sampled_world(false, 1, 16);
    struct mm_heap *heap = &world->heap;
    char *object = made_here(heap, 100);

    (void)state;
    freed_there(heap, object + 16);
    assert_int_equal(told.reports[0].kind, MM_HEAP_INNER_FREE);
    assert_ptr_equal((void *)(uintptr_t)told.reports[0].object, object);
    mm_heap_free_sized(heap, object, 101, 0);
    assert_int_equal(told.reports[1].kind, MM_HEAP_SIZE_MISMATCH);
    assert_int_equal(told.reports[1].claimed, 101);
    freed_here(heap, object);
    freed_there(heap, object);
    assert_int_equal(told.reports[2].kind, MM_HEAP_DOUBLE_FREE);
    assert_true(IN_PLACE(told.reports[2].freed_by, freed_here));
    assert_true(IN_PLACE(told.reports[2].allocated_by, made_here));
    freed_there(heap, guards.window);
    assert_int_equal(told.reports[3].kind, MM_HEAP_WILD_FREE);
    assert_int_equal(told.nr, 4);
    object = made_here(heap, 100);
    mm_heap_free_sized(heap, object, 100, 0);
    assert_int_equal(told.nr, 4);
    end(world);
}

/** A sized free names an alignment that the sampled object has not, or that none can have. */
static void test_wrong_align(void **state)
{
    static const uint64_t aligns[] = {3, 64, 4096, 2 * MM_HEAP_MAX_ALIGN};
    struct world *world = sampled_world(false, 1, 16);
    struct mm_heap *heap = &world->heap;
    void *object = made_here(heap, 48);

    (void)state;
    assert_true(is_sample(object));
    for (unsigned i = 0; i < 4; i++) {
        mm_heap_free_sized(heap, object, 48, aligns[i]);
        assert_int_equal(told.nr, i + 1);
        assert_int_equal(told.reports[i].kind, MM_HEAP_SIZE_MISMATCH);
    }
    mm_heap_free_sized(heap, object, 48, 16);
    object = mm_heap_alloc_aligned(heap, 256, 48);
    assert_true(is_sample(object));
    object = mm_heap_realloc(heap, object, 100);
    assert_true(is_sample(object));
    mm_heap_free_sized(heap, object, 100, 256);
    object = made_here(heap, 64);
    mm_heap_free_sized(heap, object, 64, 64);
    assert_int_equal(told.nr, 4);
    end(world);
}

/** One in five, alignment kept, resized, and the place freed first is used next. */
static void test_one_in_n(void **state)
{
    struct world *world = sampled_world(false, 5, 4);
    struct mm_heap *heap = &world->heap;
    void *objects[100];
    unsigned nr = 0;
    char *object;
    char *moved;

    (void)state;
    for (unsigned i = 0; i < 100; i++) {
        objects[i] = made_here(heap, 64);
        nr += is_sample(objects[i]) ? 1 : 0;
        freed_here(heap, objects[i]);
    }
    assert_int_equal(nr, 20);
    nr = 0;
    for (unsigned i = 0; i < 100; i++) {
        objects[i] = mm_heap_alloc_aligned(heap, 256, 300);
        assert_int_equal((uint64_t)(uintptr_t)objects[i] & 255, 0);
        nr += is_sample(objects[i]) ? 1 : 0;
    }
    assert_int_equal(nr, 4); /* there are no more places */
    assert_int_equal(world_stats(world).nr_objects, 100);
    assert_int_equal(mm_heap_destroy(heap), MM_ERR_BUSY);
    assert_string_equal(world->log.last, "heap: things: 4 sampled objects were not freed");
    for (unsigned i = 0; i < 100; i++) {
        freed_here(heap, objects[i]);
    }
    do {
        object = mm_heap_alloc(heap, 50);
    } while (!is_sample(object) && (freed_here(heap, object), true));
    memset(object, 0x5c, 50);
    assert_int_equal(mm_heap_usable_size(heap, object), 50);
    assert_ptr_equal(mm_heap_realloc(heap, object, 50), object);
    moved = mm_heap_realloc(heap, object, 90);
    assert_ptr_not_equal(moved, object);
    assert_int_equal(moved[0], 0x5c);
    assert_int_equal(moved[49], 0x5c);
    freed_here(heap, moved);
    assert_int_equal(told.nr, 0);
    end(world);
}

static void test_oldest_place_first(void **state)
{
    struct world *world = sampled_world(false, 1, 3);
    struct mm_heap *heap = &world->heap;
    void *a = made_here(heap, 64);
    void *b = made_here(heap, 64);
    void *c = made_here(heap, 64);
    char *next;

    (void)state;
    freed_here(heap, b);
    freed_here(heap, c);
    freed_here(heap, a);
    next = made_here(heap, 64);
    assert_int_equal((uint64_t)(uintptr_t)next >> 12, (uint64_t)(uintptr_t)b >> 12);
    freed_here(heap, next);
    next = made_here(heap, 64);
    assert_int_equal((uint64_t)(uintptr_t)next >> 12, (uint64_t)(uintptr_t)c >> 12);
    freed_here(heap, next);
    end(world);
}

/** Guards that cannot be opened: the object is allocated as any other. */
static void test_no_guards_today(void **state)
{
    struct world *world = sampled_world(false, 1, 4);
    void *object;

    (void)state;
    guards.refuse = true;
    object = made_here(&world->heap, 64);
    assert_non_null(object);
    assert_false(is_sample(object));
    guards.refuse = false;
    freed_here(&world->heap, object);
    object = made_here(&world->heap, 64);
    assert_true(is_sample(object));
    freed_here(&world->heap, object);
    assert_int_equal(guards.nr_opened, 1);
    assert_int_equal(guards.nr_closed, 1);
    end(world);
}

static void test_explain_bad_input(void **state)
{
    static struct mm_heap none;
    struct world *world = sampled_world(false, 1, 4);
    uint64_t window = (uint64_t)(uintptr_t)guards.window;
    struct mm_heap_report report;
    struct mm_heap_report before;
    char *object;

    (void)state;
    memset(&report, 0x11, sizeof(report));
    before = report;
    assert_int_equal(mm_heap_explain_fault(NULL, 0, &report), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_heap_explain_fault(&world->heap, 0, NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_heap_explain_fault(&none, 0, &report), MM_ERR_NOT_INITIALIZED);
    assert_int_equal(mm_heap_explain_fault(&world->heap, 0, &report), MM_ERR_INVALID_ADDRESS);
    assert_int_equal(mm_heap_explain_fault(&world->heap, window, &report), MM_ERR_INVALID_ADDRESS);
    assert_int_equal(mm_heap_explain_fault(&world->heap, window + guards.len, &report),
                     MM_ERR_INVALID_ADDRESS);
    object = made_here(&world->heap, 64);
    assert_int_equal(mm_heap_explain_fault(&world->heap, (uint64_t)(uintptr_t)object, &report),
                     MM_ERR_INVALID_ADDRESS);
    assert_memory_equal(&report, &before, sizeof(report));
    freed_here(&world->heap, object);
    end(world);
}

static void test_config(void **state)
{
    struct world *world = sampled_world(false, 1, 4);
    static struct mm_heap heap;
    struct mm_heap_config good = {.sample_every = 1};
    struct mm_heap_config config;
    struct mm_heap_guard_ops ops = t_guards_ops;

    (void)state;
    good.guards =
        (struct mm_heap_guards){&ops, &guards, (uint64_t)(uintptr_t)guards.window, guards.len};
    config = (struct mm_heap_config){.sample_every = 1};
    assert_int_equal(mm_heap_init(&heap, &world->pool, &config), MM_ERR_INVALID_ARGUMENT);
    config = good;
    config.guards.base += 16;
    assert_int_equal(mm_heap_init(&heap, &world->pool, &config), MM_ERR_NOT_ALIGNED);
    config = good;
    config.guards.len += 16;
    assert_int_equal(mm_heap_init(&heap, &world->pool, &config), MM_ERR_NOT_ALIGNED);
    config = good;
    config.guards.len -= 4096;
    assert_int_equal(mm_heap_init(&heap, &world->pool, &config), MM_ERR_INVALID_SIZE);
    config.guards.len = 4096;
    assert_int_equal(mm_heap_init(&heap, &world->pool, &config), MM_ERR_INVALID_SIZE);
    config.guards.len = 0;
    assert_int_equal(mm_heap_init(&heap, &world->pool, &config), MM_ERR_INVALID_SIZE);
    config = good;
    config.guards.base = UINT64_MAX - 4095;
    assert_int_equal(mm_heap_init(&heap, &world->pool, &config), MM_ERR_INVALID_SIZE);
    config = good;
    config.tier = (enum mm_heap_tier)3;
    assert_int_equal(mm_heap_init(&heap, &world->pool, &config), MM_ERR_INVALID_ARGUMENT);
    config = good;
    config.quarantine = MM_HEAP_QUARANTINE_MAX + 1;
    assert_int_equal(mm_heap_init(&heap, &world->pool, &config), MM_ERR_INVALID_ARGUMENT);
    config = good;
    config.flags = 2;
    assert_int_equal(mm_heap_init(&heap, &world->pool, &config), MM_ERR_INVALID_FLAGS);
    config = good;
    ops.open = NULL;
    assert_int_equal(mm_heap_init(&heap, &world->pool, &config), MM_ERR_INVALID_ARGUMENT);
    ops = t_guards_ops;
    ops.close = NULL;
    assert_int_equal(mm_heap_init(&heap, &world->pool, &config), MM_ERR_INVALID_ARGUMENT);
    end(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_faults),           cmocka_unit_test(test_between_two),
        cmocka_unit_test(test_sides_take_turns), cmocka_unit_test(test_canary),
        cmocka_unit_test(test_wrong_frees),      cmocka_unit_test(test_wrong_align),
        cmocka_unit_test(test_one_in_n),         cmocka_unit_test(test_oldest_place_first),
        cmocka_unit_test(test_no_guards_today),  cmocka_unit_test(test_explain_bad_input),
        cmocka_unit_test(test_config),
    };

    return cmocka_run_group_tests_name("heap_sampled", tests, NULL, NULL);
}
