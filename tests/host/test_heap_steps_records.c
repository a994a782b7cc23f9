// SPDX-License-Identifier: MIT
/**
 * One interrupt at each instruction of a free in a hardened heap: it frees the same object. One of
 * the two is told, and the object is freed once.
 */
#define _GNU_SOURCE /* the names of registers in <ucontext.h> */

#include "heap_steps_one.h"

#include <mm/heap_report.h>

static struct {
    void *object;
    unsigned nr_told;
} twice;

static void told(void *ctx, const struct mm_heap_report *report)
{
    (void)ctx;
    assert_int_equal(report->kind, MM_HEAP_DOUBLE_FREE);
    twice.nr_told++;
}

static void free_it(void)
{
    mm_heap_free(&step.world->heap, twice.object);
}

static void free_at(uint64_t at, uint64_t how)
{
    struct mm_heap_config config = {.tier = MM_HEAP_HARDENED, .report = told};
    struct world *world = world_of_range(MiB);

    (void)how;
    world_start_plain_as(world, 1, &config);
    begin(world, at, free_it);
    twice.nr_told = 0;
    twice.object = mm_heap_alloc(&world->heap, 64);
    assert_non_null(twice.object);
    step_on();
    mm_heap_free(&world->heap, twice.object);
    step_off();
    assert_int_equal(twice.nr_told, step.acted ? 1 : 0);
    assert_int_equal(world_stats(world).nr_objects, 0);
    assert_int_equal(mm_heap_check(&world->heap), MM_OK);
    world_stop(world);
    world_delete(world);
}

static void test_free_while_freeing(void **state)
{
    (void)state;
    if (SIGNALS_ARE_LATE) {
        skip();
    }
    at_every_instruction(free_at, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_free_while_freeing),
    };

    return cmocka_run_group_tests_name("heap_steps_records", tests, NULL, NULL);
}
