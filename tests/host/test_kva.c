// SPDX-License-Identifier: MIT
/**
 * The kernel virtual arena: memory, stacks and guarded pages, and how they are freed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kva_rig.h"

static struct rig rig;

/* --- memory ----------------------------------------------------------------------------------- */

static void test_memory_lies_between_guards(void **state)
{
    mm_vaddr_t a;
    mm_vaddr_t b;

    (void)state;
    rig_start(&rig, 1);
    a = rig_alloc(&rig, 3 * PAGE + 1);
    b = rig_alloc(&rig, 1);
    rig_has_guards(&rig, a.raw, 4 * PAGE);
    rig_has_guards(&rig, b.raw, PAGE);
    assert_int_equal(rig_stats(&rig).nr_ranges[MM_KVA_MEMORY], 2);
    assert_int_equal(rig_stats(&rig).nr_pages[MM_KVA_MEMORY], 5);
    assert_int_equal(rig_stats(&rig).bytes_used, 9 * PAGE);
    assert_int_equal(mm_kva_check(&rig.kva), MM_OK);
    mm_kva_free(&rig.kva, a);
    mm_kva_free(&rig.kva, b);
    rig_stop(&rig);
}

static void test_constraints(void **state)
{
    const struct mm_kva_request aligned = {.len = PAGE, .align = MIB};
    const struct mm_kva_request high = {.len = PAGE, .lowest = {T_ARENA + T_ARENA_LEN - 3 * PAGE}};
    const struct mm_kva_request low = {
        .len = PAGE, .lowest = {T_ARENA + 16 * PAGE}, .highest = {T_ARENA + 19 * PAGE - 1}};
    const struct mm_kva_request bare = {.len = PAGE, .flags = MM_KVA_NO_GUARDS};
    const struct mm_kva_request wide = {.len = PAGE, .guard_before = 7, .guard_after = 3};
    const struct mm_kva_request *all[] = {&aligned, &high, &low, &bare, &wide};
    mm_vaddr_t at[5];

    (void)state;
    rig_start(&rig, 1);
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(mm_kva_alloc(&rig.kva, all[i], &at[i]), MM_OK);
    }
    assert_true(mm_is_aligned(at[0].raw, MIB));
    assert_int_equal(at[1].raw, T_ARENA + T_ARENA_LEN - 2 * PAGE);
    assert_int_equal(at[2].raw, T_ARENA + 17 * PAGE);
    assert_int_equal(mm_kva_alloc(&rig.kva, &high, &at[0]), MM_ERR_REGION_NOT_FOUND);
    assert_int_equal(mm_kva_alloc(&rig.kva, &low, &at[0]), MM_ERR_REGION_NOT_FOUND);
    for (unsigned i = 0; i < 7; i++) {
        assert_int_not_equal(rig_touch(&rig, 0, at[4].raw - (i + 1) * PAGE), T_CPU_DONE);
    }
    assert_int_equal(rig_stats(&rig).bytes_used, (3 + 3 + 3 + 1 + 11) * PAGE);
    assert_int_equal(rig_stats(&rig).nr_failed, 2);
    for (unsigned i = 0; i < 5; i++) {
        mm_kva_free(&rig.kva, at[i]);
    }
    rig_stop(&rig);
}

static void test_large_memory_has_large_leaves(void **state)
{
    struct mm_paging_stats tables;
    mm_vaddr_t at;

    (void)state;
    rig_start(&rig, 1);
    at = rig_alloc(&rig, 4 * MIB);
    assert_true(mm_is_aligned(at.raw, 2 * MIB));
    assert_int_equal(mm_paging_get_stats(&rig.m.kernel, &tables), MM_OK);
    assert_int_equal(tables.nr_leaves[0], 0);
    assert_int_equal(tables.nr_leaves[1], 2);
    assert_int_equal(rig_touch(&rig, 0, at.raw + 3 * MIB), T_CPU_DONE);
    mm_kva_free(&rig.kva, at);
    assert_int_equal(mm_kva_purge(&rig.kva), 1024);
    rig_stop(&rig);
}

static void test_scattered_frames(void **state)
{
    const struct mm_kva_request request = {.len = 300 * PAGE, .flags = MM_KVA_ZERO};
    mm_vaddr_t at;
    uint64_t flushes;

    (void)state;
    rig_start(&rig, 2);
    rig_scatter(&rig);
    assert_int_equal(mm_kva_alloc(&rig.kva, &request, &at), MM_OK);
    rig_has_guards(&rig, at.raw, request.len);
    for (uint64_t i = 0; i < request.len; i += PAGE) {
        struct mm_mapping mapping;
        static const uint8_t zeroes[PAGE];

        assert_int_equal(mm_paging_translate(&rig.m.kernel, mm_vaddr(at.raw + i), &mapping), MM_OK);
        assert_memory_equal(t_machine_ptr(&rig.m, mapping.paddr.raw), zeroes, PAGE);
        assert_int_equal(mapping.paddr.raw / PAGE % 2, 0);
    }
    assert_int_equal(mm_kva_check(&rig.kva), MM_OK);
    flushes = rig_stats(&rig).nr_flushes;
    mm_kva_free(&rig.kva, at);
    assert_int_equal(mm_kva_purge(&rig.kva), 300);
    /* A gather holds so many runs of frames. */
    assert_int_equal(rig_stats(&rig).nr_flushes - flushes,
                     (300 + MM_GATHER_MAX_RUNS - 1) / MM_GATHER_MAX_RUNS);
    rig_stop(&rig);
}

/* --- freeing ---------------------------------------------------------------------------------- */

static void test_what_was_freed_waits_for_a_purge(void **state)
{
    mm_vaddr_t at[40];
    uint64_t nr_free;

    (void)state;
    rig_start(&rig, 3);
    for (unsigned i = 0; i < 40; i++) {
        at[i] = rig_alloc(&rig, 2 * PAGE);
        for (unsigned cpu = 0; cpu < 3; cpu++) {
            assert_int_equal(rig_touch(&rig, cpu, at[i].raw), T_CPU_DONE);
            assert_int_equal(rig_touch(&rig, cpu, at[i].raw + PAGE), T_CPU_DONE);
        }
    }
    nr_free = rig_free_frames(&rig);
    for (unsigned i = 0; i < 40; i++) {
        mm_kva_free(&rig.kva, at[i]);
    }
    /* Nothing has come back, so whoever still writes there harms nobody. */
    assert_int_equal(rig_free_frames(&rig), nr_free);
    assert_int_equal(rig_stats(&rig).nr_lazy_pages, 80);
    for (unsigned cpu = 0; cpu < 3; cpu++) {
        assert_int_equal(rig_touch(&rig, cpu, at[7].raw), T_CPU_DONE);
    }
    assert_int_equal(mm_kva_check(&rig.kva), MM_OK);
    assert_int_equal(mm_kva_purge(&rig.kva), 80);
    assert_int_equal(rig_stats(&rig).nr_lazy_pages, 0);
    assert_int_equal(rig_stats(&rig).nr_purges, 1);
    assert_true(rig_free_frames(&rig) >= nr_free + 80);
    assert_null(t_cpus_sweep(&rig.m.cpus, T_SWEEP_SAME));
    for (unsigned cpu = 0; cpu < 3; cpu++) {
        for (unsigned i = 0; i < 40; i++) {
            assert_int_not_equal(rig_touch(&rig, cpu, at[i].raw), T_CPU_DONE);
        }
    }
    assert_int_equal(mm_kva_purge(&rig.kva), 0);
    assert_int_equal(rig_stats(&rig).nr_purges, 1);
    rig_stop(&rig);
}

static void test_one_flush_for_many(void **state)
{
    mm_vaddr_t at[64];

    (void)state;
    rig_start(&rig, 1);
    for (unsigned i = 0; i < 64; i++) {
        at[i] = rig_alloc(&rig, PAGE);
    }
    for (unsigned i = 0; i < 64; i++) {
        mm_kva_free(&rig.kva, at[i]);
    }
    assert_int_equal(mm_kva_purge(&rig.kva), 64);
    assert_in_range(rig_stats(&rig).nr_flushes, 1, 3); /* fresh frames follow each other */
    rig_stop(&rig);
}

static void test_the_threshold_purges(void **state)
{
    const struct t_machine_config machine = {.ram_len = 32 * MIB};
    mm_vaddr_t at;

    (void)state;
    rig_machine(&rig, &machine);
    rig.config.purge_pages = 10;
    rig_up(&rig);
    for (unsigned i = 0; i < 10; i++) {
        mm_kva_free(&rig.kva, rig_alloc(&rig, PAGE));
    }
    assert_int_equal(rig_stats(&rig).nr_purges, 0);
    mm_kva_free(&rig.kva, rig_alloc(&rig, PAGE));
    at = rig_alloc(&rig, PAGE);
    assert_int_equal(rig_stats(&rig).nr_purges, 1);
    assert_int_equal(rig_stats(&rig).nr_lazy_pages, 0);
    mm_kva_free(&rig.kva, at);
    rig_stop(&rig);
}

static void test_before_it_fails_it_purges(void **state)
{
    struct mm_kva_request all = {.len = 512 * PAGE, .flags = MM_KVA_NO_GUARDS, .align = PAGE};
    mm_vaddr_t at;

    (void)state;
    rig_start(&rig, 1);
    at = rig_alloc(&rig, 4 * MIB);
    t_machine_leave_frames(&rig.m, 8);
    mm_kva_free(&rig.kva, at);
    /* Frames. */
    all.flags |= MM_KVA_ATOMIC;
    assert_int_equal(mm_kva_alloc(&rig.kva, &all, &at), MM_ERR_NO_MEMORY);
    all.flags &= ~MM_KVA_ATOMIC;
    assert_int_equal(mm_kva_alloc(&rig.kva, &all, &at), MM_OK);
    mm_kva_free(&rig.kva, at);
    /* Addresses. */
    all.lowest = at;
    all.highest = mm_vaddr(at.raw + all.len - 1);
    assert_int_equal(mm_kva_alloc(&rig.kva, &all, &at), MM_OK);
    assert_int_equal(at.raw, all.lowest.raw);
    mm_kva_free(&rig.kva, at);
    rig_stop(&rig);
}

static void test_misuse_is_told(void **state)
{
    struct mm_page_source source;
    struct mm_vrange stack;
    struct t_trap_info info;
    mm_vaddr_t at;
    void *pages = NULL;

    (void)state;
    rig_start(&rig, 1);
    at = rig_alloc(&rig, 3 * PAGE);
    source = mm_page_source_kva(&rig.kva);
    assert_int_equal(mm_kva_stack_alloc(&rig.kva, 2 * PAGE, 0, &stack), MM_OK);
    assert_int_equal(source.ops->alloc(source.ctx, 2, 1, 0, &pages), MM_OK);
    T_EXPECT_PANIC(mm_kva_free(&rig.kva, mm_vaddr(at.raw + PAGE)), &info);
    rig_told(&info, "a free of what is not the start of a range", "in memory of the arena");
    assert_int_equal(info.recorded_value, at.raw);
    T_EXPECT_PANIC(mm_kva_free(&rig.kva, mm_vaddr(at.raw + 8)), &info);
    rig_told(&info, "a free of what is not the start of a range", "in memory of the arena");
    T_EXPECT_PANIC(mm_kva_free(&rig.kva, mm_vaddr(at.raw - 8)), &info);
    rig_told(&info, "a free of what is not the start of a range", "in a guard of the range");
    T_EXPECT_PANIC(mm_kva_free(&rig.kva, mm_vaddr(T_ARENA + 64 * MIB)), &info);
    rig_told(&info, "a free of what is not the start of a range", "nothing at this address");
    T_EXPECT_PANIC(mm_kva_free(&rig.kva, mm_vaddr(0)), &info);
    rig_told(&info, "a free of what is not the start of a range", "nothing at this address");
    T_EXPECT_PANIC(mm_kva_free(&rig.kva, stack.start), &info);
    rig_told(&info, "a free of a range of another kind", "in a stack");
    T_EXPECT_PANIC(mm_kva_stack_free(&rig.kva, at), &info);
    rig_told(&info, "a free of a range of another kind", "in memory of the arena");
    T_EXPECT_PANIC(source.ops->free(source.ctx, (void *)(uintptr_t)at.raw, 1), &info);
    rig_told(&info, "a free of a range of another kind", "in memory of the arena");
    T_EXPECT_PANIC(source.ops->free(source.ctx, (void *)(uintptr_t)(at.raw - PAGE), 1), &info);
    rig_told(&info, "a free of pages that are not its own", "in a guard of the range");
    T_EXPECT_PANIC(mm_kva_free(&rig.kva, mm_vaddr((uint64_t)(uintptr_t)pages)), &info);
    rig_told(&info, "a free of a range of another kind", "in pages of a heap");
    mm_kva_free(&rig.kva, at);
    T_EXPECT_PANIC(mm_kva_free(&rig.kva, at), &info);
    rig_told(&info, "double free of a range", "in a range that was freed");
    source.ops->free(source.ctx, pages, 2);
    T_EXPECT_PANIC(source.ops->free(source.ctx, pages, 1), &info);
    rig_told(&info, "double free of pages", "in a range that was freed");
    mm_kva_stack_free(&rig.kva, stack.start);
    T_EXPECT_PANIC(mm_kva_stack_free(&rig.kva, stack.start), &info);
    rig_told(&info, "double free of a range", "in a range that was freed");
    (void)mm_kva_purge(&rig.kva);
    T_EXPECT_PANIC(mm_kva_free(&rig.kva, at), &info);
    rig_told(&info, "a free of what is not the start of a range", "nothing at this address");
    T_EXPECT_SIGILL(mm_kva_free(NULL, at), &info);
    T_EXPECT_SIGILL(mm_kva_stack_free(NULL, at), &info);
    rig_stop(&rig);
}

/* What an interrupt handler finds that has interrupted a call: the lock is held. */
static void test_any_context(void **state)
{
    struct mm_kva_request request = {.len = PAGE, .flags = MM_KVA_ATOMIC};
    struct mm_page_source source;
    struct mm_kva_place place;
    struct mm_vrange stack;
    struct mm_vrange other;
    mm_vaddr_t at;
    mm_vaddr_t none = {7};
    void *pages = NULL;

    (void)state;
    rig_start(&rig, 1);
    source = mm_page_source_kva(&rig.kva);
    at = rig_alloc(&rig, PAGE);
    assert_int_equal(mm_kva_stack_alloc(&rig.kva, PAGE, 0, &stack), MM_OK);
    assert_int_equal(source.ops->alloc(source.ctx, 3, 1, 0, &pages), MM_OK);
    rig.kva.lock = 1;
    assert_int_equal(mm_kva_alloc(&rig.kva, &request, &none), MM_ERR_BUSY);
    assert_int_equal(none.raw, 7);
    assert_int_equal(source.ops->alloc(source.ctx, 1, 1, MM_PAGES_ATOMIC, &pages), MM_ERR_BUSY);
    assert_int_equal(mm_kva_stack_alloc(&rig.kva, PAGE, MM_KVA_ATOMIC, &other), MM_ERR_BUSY);
    assert_int_equal(mm_kva_explain(&rig.kva, at, &place), MM_ERR_BUSY);
    mm_kva_free(&rig.kva, at);
    mm_kva_stack_free(&rig.kva, stack.start);
    source.ops->free(source.ctx, pages, 3);
    assert_int_equal(rig.kva.lock, 1); /* which is not theirs */
    rig.kva.lock = 0;
    assert_int_equal(rig_stats(&rig).nr_lazy_pages, 5);
    assert_int_equal(mm_kva_alloc(&rig.kva, &request, &at), MM_OK);
    mm_kva_free(&rig.kva, at);
    rig_stop(&rig);
}

/* --- stacks ----------------------------------------------------------------------------------- */

static void test_stacks(void **state)
{
    const struct t_machine_config machine = {.ram_len = 32 * MIB};
    struct mm_kva_place place;
    struct mm_vrange stack[4];
    struct mm_vrange again;
    mm_vaddr_t top_of_guard;

    (void)state;
    rig_machine(&rig, &machine);
    rig.config.nr_stacks = 2;
    rig.config.red_zone_pages = 4;
    rig_up(&rig);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(mm_kva_stack_alloc(&rig.kva, 4 * PAGE - 1, 0, &stack[i]), MM_OK);
        assert_int_equal(stack[i].len, 4 * PAGE);
        rig_has_guards(&rig, stack[i].start.raw, stack[i].len);
        for (unsigned page = 1; page <= 4; page++) {
            assert_int_not_equal(rig_touch(&rig, 0, stack[i].start.raw - page * PAGE), T_CPU_DONE);
        }
    }
    /* It ran over. */
    assert_int_equal(mm_kva_explain(&rig.kva, mm_vaddr(stack[1].start.raw - 8), &place), MM_OK);
    assert_int_equal(place.kind, MM_KVA_STACK);
    assert_int_equal(place.where, MM_KVA_GUARD_BELOW);
    assert_int_equal(place.range.start.raw, stack[1].start.raw);
    assert_int_equal(place.range.len, 4 * PAGE);
    assert_int_equal(mm_kva_explain(&rig.kva, mm_vaddr(stack[1].start.raw - 4 * PAGE), &place),
                     MM_OK);
    assert_int_equal(place.where, MM_KVA_GUARD_BELOW);
    top_of_guard = mm_vaddr(stack[1].start.raw + stack[1].len);
    assert_int_equal(mm_kva_explain(&rig.kva, top_of_guard, &place), MM_OK);
    assert_int_equal(place.where, MM_KVA_GUARD_ABOVE);
    assert_int_equal(mm_kva_explain(&rig.kva, stack[1].start, &place), MM_OK);
    assert_int_equal(place.where, MM_KVA_INSIDE);
    /* Two are kept, in the order of a stack; of another length none is. */
    for (unsigned i = 0; i < 3; i++) {
        mm_kva_stack_free(&rig.kva, stack[i].start);
    }
    assert_int_equal(rig_stats(&rig).nr_stacks_kept, 2);
    assert_int_equal(rig_stats(&rig).nr_lazy_pages, 4);
    assert_int_equal(mm_kva_explain(&rig.kva, stack[1].start, &place), MM_OK);
    assert_int_equal(place.where, MM_KVA_FREED);
    assert_int_equal(mm_kva_stack_alloc(&rig.kva, PAGE, 0, &stack[2]), MM_OK);
    assert_int_equal(rig_stats(&rig).nr_stacks_kept, 2);
    assert_int_equal(mm_kva_stack_alloc(&rig.kva, 4 * PAGE, MM_KVA_ATOMIC, &again), MM_OK);
    assert_int_equal(again.start.raw, stack[1].start.raw);
    assert_int_equal(mm_kva_explain(&rig.kva, again.start, &place), MM_OK);
    assert_int_equal(place.where, MM_KVA_INSIDE);
    mm_kva_stack_free(&rig.kva, again.start);
    assert_int_equal(mm_kva_check(&rig.kva), MM_OK);
    assert_int_equal(mm_kva_reclaim(&rig.kva), 12);
    assert_int_equal(rig_stats(&rig).nr_stacks_kept, 0);
    assert_int_equal(rig_stats(&rig).nr_ranges[MM_KVA_STACK], 2);
    mm_kva_stack_free(&rig.kva, stack[3].start);
    mm_kva_stack_free(&rig.kva, stack[2].start);
    rig_stop(&rig);
}

static void test_explain(void **state)
{
    struct mm_kva_place place;
    mm_vaddr_t at;

    (void)state;
    rig_start(&rig, 1);
    at = rig_alloc(&rig, 2 * PAGE);
    assert_int_equal(mm_kva_explain(&rig.kva, mm_vaddr(at.raw + 2 * PAGE + 5), &place), MM_OK);
    assert_int_equal(place.kind, MM_KVA_MEMORY);
    assert_int_equal(place.where, MM_KVA_GUARD_ABOVE);
    assert_int_equal(mm_kva_explain(&rig.kva, mm_vaddr(at.raw + 3 * PAGE), &place),
                     MM_ERR_REGION_NOT_FOUND);
    assert_int_equal(mm_kva_explain(&rig.kva, mm_vaddr(T_ARENA - 1), &place),
                     MM_ERR_INVALID_ADDRESS);
    assert_int_equal(mm_kva_explain(&rig.kva, at, NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_kva_explain(NULL, at, &place), MM_ERR_INVALID_ARGUMENT);
    mm_kva_free(&rig.kva, at);
    assert_int_equal(mm_kva_explain(&rig.kva, at, &place), MM_OK);
    assert_int_equal(place.where, MM_KVA_FREED);
    (void)mm_kva_purge(&rig.kva);
    assert_int_equal(mm_kva_explain(&rig.kva, at, &place), MM_ERR_REGION_NOT_FOUND);
    rig_stop(&rig);
}

/* --- guarded pages ---------------------------------------------------------------------------- */

static void test_guarded_pages(void **state)
{
    struct mm_heap_guards guards;
    struct mm_kva_place place;
    struct t_trap_info info;
    uint64_t at;

    (void)state;
    rig_start(&rig, 2);
    rig_scatter(&rig);
    assert_int_equal(mm_kva_guards_alloc(&rig.kva, 0, &guards), MM_ERR_INVALID_SIZE);
    assert_int_equal(mm_kva_guards_alloc(&rig.kva, MM_HEAP_SAMPLES_MAX + 1, &guards),
                     MM_ERR_INVALID_SIZE);
    assert_int_equal(mm_kva_guards_alloc(&rig.kva, 3, NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_kva_guards_alloc(&rig.kva, 3, &guards), MM_OK);
    assert_int_equal(guards.len, 7 * PAGE);
    for (unsigned i = 0; i < 7; i++) { /* none is open */
        assert_int_not_equal(rig_touch(&rig, 0, guards.base + i * PAGE), T_CPU_DONE);
    }
    assert_int_equal(mm_kva_check(&rig.kva), MM_OK);
    at = guards.base + 3 * PAGE;
    assert_int_equal(guards.ops->open(guards.ctx, (void *)(uintptr_t)at), MM_OK);
    rig_has_guards(&rig, at, PAGE);
    assert_int_equal(rig_touch(&rig, 1, at), T_CPU_DONE);
    rig.m.cpus.now = 0;
    guards.ops->close(guards.ctx, (void *)(uintptr_t)at);
    assert_int_not_equal(rig_touch(&rig, 0, at), T_CPU_DONE);
    (void)mm_kva_purge(&rig.kva); /* and then all the others are told */
    assert_null(t_cpus_sweep(&rig.m.cpus, T_SWEEP_SAME));
    assert_int_not_equal(rig_touch(&rig, 1, at), T_CPU_DONE);
    assert_int_equal(rig_stats(&rig).nr_flushes, 1);
    /* What a handler learns, and finds. */
    assert_int_equal(mm_kva_explain(&rig.kva, mm_vaddr(at + PAGE), &place), MM_OK);
    assert_int_equal(place.kind, MM_KVA_GUARDED);
    assert_int_equal(place.where, MM_KVA_GUARD_BETWEEN);
    rig.kva.lock = 1;
    assert_int_equal(guards.ops->open(guards.ctx, (void *)(uintptr_t)at), MM_ERR_BUSY);
    guards.ops->close(guards.ctx, (void *)(uintptr_t)at);
    rig.kva.lock = 0;
    assert_int_equal(guards.ops->open(guards.ctx, (void *)(uintptr_t)at), MM_OK);
    mm_kva_guards_free(&rig.kva, &guards);
    T_EXPECT_PANIC(mm_kva_guards_free(&rig.kva, &guards), &info);
    rig_told(&info, "double free of a range", "in a range that was freed");
    T_EXPECT_PANIC(mm_kva_guards_free(&rig.kva, NULL), &info);
    rig_told(&info, "a free of what is not the start of a range", "nothing at this address");
    T_EXPECT_SIGILL(mm_kva_guards_free(NULL, &guards), &info);
    assert_int_equal(mm_kva_purge(&rig.kva), 3);
    rig_stop(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory_lies_between_guards),
        cmocka_unit_test(test_constraints),
        cmocka_unit_test(test_large_memory_has_large_leaves),
        cmocka_unit_test(test_scattered_frames),
        cmocka_unit_test(test_what_was_freed_waits_for_a_purge),
        cmocka_unit_test(test_one_flush_for_many),
        cmocka_unit_test(test_the_threshold_purges),
        cmocka_unit_test(test_before_it_fails_it_purges),
        cmocka_unit_test(test_misuse_is_told),
        cmocka_unit_test(test_any_context),
        cmocka_unit_test(test_stacks),
        cmocka_unit_test(test_explain),
        cmocka_unit_test(test_guarded_pages),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
