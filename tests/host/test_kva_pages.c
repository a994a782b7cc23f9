// SPDX-License-Identifier: MIT
/**
 * The arena as a page source: runs that are given back in parts, and that grow where they lie.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kva_rig.h"

static struct rig rig;

static void test_pages_go_in_parts(void **state)
{
    struct mm_page_source source;
    struct mm_kva_place place;
    struct t_trap_info info;
    void *pages = NULL;
    uint64_t at;
    uint64_t nr_free;

    (void)state;
    rig_start(&rig, 2);
    source = mm_page_source_kva(&rig.kva);
    assert_int_equal(source.base, T_ARENA);
    assert_int_equal(source.len, T_ARENA_LEN);
    assert_null(mm_page_source_kva(NULL).ops);
    assert_int_equal(source.ops->alloc(source.ctx, 0, 1, 0, &pages), MM_ERR_INVALID_SIZE);
    assert_int_equal(source.ops->alloc(source.ctx, 1, 3, 0, &pages), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(source.ops->alloc(source.ctx, 1200, 512, 0, &pages), MM_OK);
    at = (uint64_t)(uintptr_t)pages;
    assert_true(mm_is_aligned(at, 2 * MIB));
    rig_has_guards(&rig, at, 1200 * PAGE);
    assert_int_equal(rig_touch(&rig, 1, at + 1100 * PAGE), T_CPU_DONE);
    nr_free = rig_free_frames(&rig);
    source.ops->free(source.ctx, (void *)(uintptr_t)(at + 1000 * PAGE), 200);
    source.ops->free(source.ctx, (void *)(uintptr_t)(at + 500 * PAGE), 1);
    assert_int_equal(rig_free_frames(&rig), nr_free);
    assert_int_equal(mm_kva_check(&rig.kva), MM_OK);
    assert_int_equal(mm_kva_purge(&rig.kva), 201);
    assert_true(rig_free_frames(&rig) >= nr_free + 201);
    assert_int_equal(mm_kva_check(&rig.kva), MM_OK);
    assert_int_not_equal(rig_touch(&rig, 1, at + 1100 * PAGE), T_CPU_DONE);
    assert_int_not_equal(rig_touch(&rig, 0, at + 500 * PAGE), T_CPU_DONE);
    assert_int_equal(rig_touch(&rig, 0, at + 999 * PAGE), T_CPU_DONE);
    assert_int_equal(mm_kva_explain(&rig.kva, mm_vaddr(at + 500 * PAGE), &place), MM_OK);
    assert_int_equal(place.where, MM_KVA_FREED);
    assert_int_equal(mm_kva_explain(&rig.kva, mm_vaddr(at + 499 * PAGE), &place), MM_OK);
    assert_int_equal(place.where, MM_KVA_INSIDE);
    T_EXPECT_PANIC(source.ops->free(source.ctx, (void *)(uintptr_t)(at + 500 * PAGE), 1), &info);
    rig_told(&info, "a free of pages that are not its own", "in pages of a heap");
    source.ops->free(source.ctx, pages, 500);
    source.ops->free(source.ctx, (void *)(uintptr_t)(at + 501 * PAGE), 499);
    assert_int_equal(mm_kva_purge(&rig.kva), 999);
    assert_int_equal(rig_stats(&rig).nr_ranges[MM_KVA_PAGES], 0);
    rig_stop(&rig);
}

/* --- growing ---------------------------------------------------------------------------------- */

static void *run_of(uint64_t nr_pages)
{
    struct mm_page_source source = mm_page_source_kva(&rig.kva);
    void *pages = NULL;

    assert_int_equal(source.ops->alloc(source.ctx, nr_pages, 1, 0, &pages), MM_OK);
    return pages;
}

static mm_status_t extend(void *pages, uint64_t nr_pages, uint64_t more, uint32_t flags)
{
    struct mm_page_source source = mm_page_source_kva(&rig.kva);

    return source.ops->extend(source.ctx, pages, nr_pages, more, flags);
}

static void give_back(void *pages, uint64_t first, uint64_t nr_pages)
{
    struct mm_page_source source = mm_page_source_kva(&rig.kva);

    source.ops->free(source.ctx, (void *)((uintptr_t)pages + first * PAGE), nr_pages);
}

static uint64_t frame_at(uint64_t at)
{
    struct mm_mapping mapping;

    assert_int_equal(mm_paging_translate(&rig.m.kernel, mm_vaddr(at), &mapping), MM_OK);
    return mapping.paddr.raw / PAGE;
}

/* From frames that follow each other, and from others; within a table, and beyond. */
static void test_a_run_grows(void **state)
{
    struct mm_kva_place place;

    (void)state;
    for (unsigned scattered = 0; scattered < 2; scattered++) {
        void *pages;
        uint64_t at;
        uint64_t first;
        uint64_t nr_free;

        rig_start(&rig, 2);
        if (scattered != 0) {
            rig_scatter(&rig);
        }
        pages = run_of(3);
        at = (uint64_t)(uintptr_t)pages;
        first = frame_at(at);
        for (unsigned i = 3; i < 10; i++) { /* nobody shall remember that there is nothing */
            assert_int_not_equal(rig_touch(&rig, 1, at + i * PAGE), T_CPU_DONE);
        }
        nr_free = rig_free_frames(&rig);
        assert_int_equal(extend(pages, 3, 5, 0), MM_OK);
        assert_int_equal(rig_free_frames(&rig), nr_free - 5);
        rig_has_guards(&rig, at, 8 * PAGE);
        assert_int_equal(rig_touch(&rig, 1, at + 7 * PAGE), T_CPU_DONE);
        assert_int_equal(mm_kva_check(&rig.kva), MM_OK);
        assert_int_equal(extend(pages, 8, 600, MM_PAGES_ATOMIC), MM_OK);
        rig_has_guards(&rig, at, 608 * PAGE);
        assert_int_equal(frame_at(at), first); /* what is there stays */
        assert_int_equal(rig_stats(&rig).nr_ranges[MM_KVA_PAGES], 1);
        assert_int_equal(rig_stats(&rig).nr_pages[MM_KVA_PAGES], 608);
        assert_int_equal(rig_stats(&rig).bytes_used, 610 * PAGE);
        assert_int_equal(mm_kva_explain(&rig.kva, mm_vaddr(at + 607 * PAGE), &place), MM_OK);
        assert_int_equal(place.where, MM_KVA_INSIDE);
        assert_int_equal(place.range.len, 608 * PAGE);
        assert_int_equal(mm_kva_explain(&rig.kva, mm_vaddr(at + 608 * PAGE), &place), MM_OK);
        assert_int_equal(place.where, MM_KVA_GUARD_ABOVE);
        assert_int_equal(mm_kva_check(&rig.kva), MM_OK);
        /* It goes in parts as any run does. */
        give_back(pages, 2, 4);
        give_back(pages, 100, 508);
        assert_int_equal(mm_kva_purge(&rig.kva), 512);
        assert_int_equal(mm_kva_check(&rig.kva), MM_OK);
        give_back(pages, 0, 2);
        give_back(pages, 6, 94);
        assert_int_equal(mm_kva_purge(&rig.kva), 96);
        assert_int_equal(rig_stats(&rig).bytes_used, 0);
        rig_stop(&rig);
    }
}

/* As far as there is room: the guard stays behind it, and what follows keeps its own. */
static void test_a_run_grows_into_a_gap(void **state)
{
    void *pages;
    void *gap;
    void *behind;
    uint64_t at;

    (void)state;
    rig_start(&rig, 2);
    pages = run_of(2);
    gap = run_of(6);
    behind = run_of(2);
    at = (uint64_t)(uintptr_t)pages;
    assert_int_equal((uint64_t)(uintptr_t)gap, at + 4 * PAGE);
    assert_int_equal(extend(pages, 2, 1, 0), MM_ERR_REGION_NOT_FOUND);
    for (unsigned i = 0; i < 6; i++) {
        assert_int_equal(rig_touch(&rig, 1, (uint64_t)(uintptr_t)gap + i * PAGE), T_CPU_DONE);
    }
    give_back(gap, 0, 6);
    /* It waits for a purge, and other CPUs still reach it. */
    assert_int_equal(extend(pages, 2, 1, 0), MM_ERR_REGION_NOT_FOUND);
    assert_int_equal(rig_stats(&rig).nr_purges, 0);
    assert_int_equal(mm_kva_purge(&rig.kva), 6);
    assert_int_equal(extend(pages, 2, 9, 0), MM_ERR_REGION_NOT_FOUND);
    assert_int_equal(extend(pages, 2, 8, 0), MM_OK);
    rig_has_guards(&rig, at, 10 * PAGE);
    rig_has_guards(&rig, (uint64_t)(uintptr_t)behind, 2 * PAGE);
    assert_int_equal(rig_touch(&rig, 1, at + 9 * PAGE), T_CPU_DONE);
    assert_null(t_cpus_sweep(&rig.m.cpus, T_SWEEP_SAME));
    assert_int_equal(mm_kva_check(&rig.kva), MM_OK);
    assert_int_equal(extend(pages, 10, 1, 0), MM_ERR_REGION_NOT_FOUND);
    give_back(pages, 0, 10);
    give_back(behind, 0, 2);
    rig_stop(&rig);
}

/* Up to the end of the arena, and no page more. */
static void test_a_run_grows_to_the_end(void **state)
{
    const struct t_machine_config machine = {.ram_len = 8 * MIB};
    void *pages;

    (void)state;
    rig_machine(&rig, &machine);
    rig.config.range.len = 16 * PAGE;
    rig_up(&rig);
    pages = run_of(4);
    assert_int_equal(extend(pages, 4, 11, 0), MM_ERR_REGION_NOT_FOUND);
    assert_int_equal(extend(pages, 4, 10, 0), MM_OK);
    rig_has_guards(&rig, (uint64_t)(uintptr_t)pages, 14 * PAGE);
    give_back(pages, 0, 14);
    rig_stop(&rig);
}

/* What a call that failed must leave alone. */
struct state {
    struct mm_kva_stats kva;
    struct mm_paging_stats tables;
    uint64_t nr_free;
};

static void look(struct state *out)
{
    memset(out, 0, sizeof(*out));
    out->kva = rig_stats(&rig);
    assert_int_equal(mm_paging_get_stats(&rig.m.kernel, &out->tables), MM_OK);
    out->nr_free = rig_free_frames(&rig);
}

static void expect_refused(mm_status_t status, void *pages, uint64_t nr_pages, uint64_t more,
                           uint32_t flags)
{
    struct state before;
    struct state after;

    look(&before);
    assert_int_equal(extend(pages, nr_pages, more, flags), status);
    look(&after);
    assert_memory_equal(&before, &after, sizeof(before));
}

static void test_what_does_not_grow(void **state)
{
    static const uint64_t far[] = {0, 1, T_ARENA - PAGE, T_ARENA + T_ARENA_LEN, UINT64_MAX};
    void *pages;
    void *half;
    mm_vaddr_t memory;

    (void)state;
    rig_start(&rig, 1);
    memory = rig_alloc(&rig, 3 * PAGE);
    half = run_of(6);
    give_back(half, 0, 1);
    pages = run_of(6);
    for (unsigned i = 0; i < sizeof(far) / sizeof(far[0]); i++) {
        expect_refused(MM_ERR_INVALID_ARGUMENT, (void *)(uintptr_t)far[i], 1, 1, 0);
    }
    expect_refused(MM_ERR_INVALID_ARGUMENT, pages, 0, 1, 0);
    expect_refused(MM_ERR_INVALID_ARGUMENT, pages, 7, 1, 0);
    expect_refused(MM_ERR_INVALID_ARGUMENT, pages, UINT64_MAX, 1, 0);
    expect_refused(MM_ERR_INVALID_ARGUMENT, pages, UINT64_MAX / PAGE, 1, 0);
    expect_refused(MM_ERR_INVALID_SIZE, pages, 6, 0, 0);
    expect_refused(MM_ERR_INVALID_SIZE, pages, 6, UINT64_MAX, 0);
    expect_refused(MM_ERR_INVALID_SIZE, pages, 6, UINT64_MAX / PAGE + 1, 0);
    expect_refused(MM_ERR_INVALID_SIZE, pages, 6, T_ARENA_LEN / PAGE + 1, 0);
    expect_refused(MM_ERR_REGION_NOT_FOUND, pages, 6, T_ARENA_LEN / PAGE, 0);
    expect_refused(MM_ERR_REGION_NOT_FOUND, pages, 5, 1, 0); /* there is a page already */
    expect_refused(MM_ERR_INVALID_ARGUMENT, (char *)pages + PAGE, 5, 1, 0);
    expect_refused(MM_ERR_INVALID_ARGUMENT, (char *)pages + 8, 6, 1, 0);
    expect_refused(MM_ERR_INVALID_ARGUMENT, (void *)(uintptr_t)memory.raw, 3, 1, 0);
    expect_refused(MM_ERR_INVALID_ARGUMENT, half, 6, 1, 0);
    (void)mm_kva_purge(&rig.kva);
    expect_refused(MM_ERR_INVALID_ARGUMENT, half, 6, 1, 0);
    /* A part that was given back is no room, before the purge and after. */
    give_back(pages, 4, 2);
    expect_refused(MM_ERR_REGION_NOT_FOUND, pages, 4, 1, 0);
    expect_refused(MM_ERR_INVALID_ARGUMENT, pages, 6, 1, 0);
    (void)mm_kva_purge(&rig.kva);
    expect_refused(MM_ERR_REGION_NOT_FOUND, pages, 4, 1, 0);
    expect_refused(MM_ERR_INVALID_ARGUMENT, pages, 6, 1, 0);
    rig.kva.lock = 1;
    expect_refused(MM_ERR_BUSY, pages, 4, 1, MM_PAGES_ATOMIC);
    rig.kva.lock = 0;
    give_back(pages, 0, 4);
    expect_refused(MM_ERR_INVALID_ARGUMENT, pages, 4, 1, 0);
    give_back(half, 1, 5);
    mm_kva_free(&rig.kva, memory);
    rig_stop(&rig);
}

/* With so many frames and not one more; from none to as many as it takes. */
static void test_growing_runs_out_of_frames(void **state)
{
    (void)state;
    for (unsigned what = 0; what < 4; what++) {
        uint32_t flags = (what & 1) != 0 ? MM_PAGES_ATOMIC : 0;
        uint64_t more = (what & 2) != 0 ? 600 : 5;
        mm_status_t status = MM_ERR_NO_MEMORY;
        uint64_t nr_failed = 0;
        void *pages;

        rig_start(&rig, 1);
        rig_scatter(&rig);
        pages = run_of(3);
        for (uint64_t nr = 0; status != MM_OK; nr += nr > 8 && nr < 590 ? 97 : 1) {
            struct state before;
            struct state after;

            t_machine_leave_frames(&rig.m, nr);
            look(&before);
            status = extend(pages, 3, more, flags);
            look(&after);
            if (status != MM_OK) {
                assert_int_equal(status, MM_ERR_NO_MEMORY);
                assert_memory_equal(&before, &after, sizeof(before));
                nr_failed++;
            }
            assert_int_equal(mm_kva_check(&rig.kva), MM_OK);
            assert_int_equal(mm_paging_check(&rig.m.kernel), MM_OK);
            t_machine_leave_frames(&rig.m, UINT64_MAX);
            assert_true(nr < 700);
        }
        assert_true(nr_failed >= 5);
        give_back(pages, 0, 3 + more);
        rig_stop(&rig);
    }
}

/* No page for the part of the table that describes what comes: nothing changes, and later it grows. */
static void test_growing_runs_out_of_pages(void **state)
{
    struct state before;
    struct state after;
    void *pages;

    (void)state;
    rig_start(&rig, 1);
    pages = run_of(3);
    look(&before);
    t_inject_from(&rig.m.pool_inject, 1);
    assert_int_equal(extend(pages, 3, 2000, 0), MM_ERR_NO_MEMORY);
    assert_int_equal(rig.m.pool_inject.fired, 1);
    look(&after);
    assert_memory_equal(&before, &after, sizeof(before));
    assert_int_equal(mm_kva_check(&rig.kva), MM_OK);
    t_inject_nth(&rig.m.pool_inject, 2);
    assert_int_equal(extend(pages, 3, 2000, 0), MM_ERR_NO_MEMORY);
    assert_int_equal(rig.m.pool_inject.fired, 1);
    look(&after);
    assert_memory_equal(&before, &after, sizeof(before));
    t_inject_never(&rig.m.pool_inject);
    assert_int_equal(extend(pages, 3, 2000, 0), MM_OK);
    assert_int_equal(mm_kva_check(&rig.kva), MM_OK);
    give_back(pages, 0, 2003);
    rig_stop(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pages_go_in_parts),
        cmocka_unit_test(test_a_run_grows),
        cmocka_unit_test(test_a_run_grows_into_a_gap),
        cmocka_unit_test(test_a_run_grows_to_the_end),
        cmocka_unit_test(test_what_does_not_grow),
        cmocka_unit_test(test_growing_runs_out_of_frames),
        cmocka_unit_test(test_growing_runs_out_of_pages),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
