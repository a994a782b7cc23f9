// SPDX-License-Identifier: MIT
/**
 * Guards: the largest slots that fit, all or nothing, and what every other call makes of them.
 * Random ones beside other slots, and adopted ones, are in test_paging_slots.c, bad input in
 * test_paging_product.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "t_paging.h"

#include <mm/paging_audit.h>

/* All sizes: a page, 2 MiB, 1 GiB, 2 MiB, two pages. */
#define START (4 * P1G - P2M - P4K)
#define LEN   (P1G + 2 * P2M + 3 * P4K)

static int setup(void **state)
{
    struct t_paging *m = t_paging_new();

    t_paging_start(m);
    assert_int_equal(mm_paging_activate(&m->user), MM_OK);
    *state = m;
    return 0;
}

static int teardown(void **state)
{
    t_paging_delete(*state);
    return 0;
}

static uint64_t nr_soft(const struct mm_pagetable *pt)
{
    struct mm_paging_stats stats;

    assert_int_equal(mm_paging_get_stats(pt, &stats), MM_OK);
    assert_int_equal(stats.mapped_bytes, 0);
    assert_int_equal(mm_paging_check(pt), MM_OK);
    return stats.nr_soft;
}

/* The slot of an address is a guard of this size, that translate takes for a hole. */
static void expect_guard(const struct mm_pagetable *pt, uint64_t at, uint64_t size)
{
    struct mm_mapping hole;
    struct mm_slot slot;

    assert_int_equal(mm_paging_slot_get(pt, mm_vaddr(at), &slot), MM_OK);
    assert_int_equal(slot.kind, MM_SLOT_SOFT);
    assert_int_equal(slot.soft_kind, MM_SOFT_GUARD);
    assert_int_equal(slot.payload, 0);
    assert_int_equal(slot.page.start.raw, at & ~(size - 1));
    assert_int_equal(slot.page.len, size);
    assert_int_equal(slot.raw & 1, 0);
    assert_int_equal(slot.raw >> 43 & 511, 511); /* L1TF */
    assert_int_equal(mm_paging_translate(pt, mm_vaddr(at), &hole), MM_ERR_NOT_MAPPED);
    assert_int_equal(hole.kind, MM_SLOT_SOFT);
    assert_int_equal(hole.page.len, size);
}

static void expect_hole(const struct mm_pagetable *pt, uint64_t at)
{
    struct mm_slot slot;

    assert_int_equal(mm_paging_slot_get(pt, mm_vaddr(at), &slot), MM_OK);
    assert_int_equal(slot.kind, MM_SLOT_EMPTY);
}

/* Five sizes in a row, by three tables a side and what lies above; nothing is flushed. */
static void test_sizes(void **state)
{
    struct t_paging *m = *state;
    uint64_t nr_tables = m->user.nr_tables;
    uint64_t flushes = m->cpu->nr_invlpg + m->cpu->nr_invpcid + m->cpu->nr_cr3 + m->cpu->nr_cr4;

    assert_int_equal(mm_paging_guard(&m->user, t_range(START, LEN)), MM_OK);
    assert_int_equal(m->cpu->nr_invlpg + m->cpu->nr_invpcid + m->cpu->nr_cr3 + m->cpu->nr_cr4,
                     flushes);
    assert_int_equal(nr_soft(&m->user), 1 + 1 + 1 + 1 + 2);
    assert_int_equal(m->user.nr_tables - nr_tables, 1 + 2 + 2);
    expect_hole(&m->user, START - 1);
    expect_guard(&m->user, START, P4K);
    expect_guard(&m->user, START + P4K, P2M);
    expect_guard(&m->user, 4 * P1G, P1G);
    expect_guard(&m->user, 5 * P1G - 1, P1G);
    expect_guard(&m->user, 5 * P1G, P2M);
    expect_guard(&m->user, 5 * P1G + P2M + P4K, P4K);
    expect_hole(&m->user, 5 * P1G + P2M + 2 * P4K);
    for (uint64_t at = START; at < START + LEN; at += P2M / 2) {
        assert_int_not_equal(t_cpu_access(m->cpu, at, T_MMU_USER, NULL), T_CPU_DONE);
    }
    t_nothing_stale(m);
    assert_int_equal(t_unmap(&m->user, START, LEN, 0), MM_OK);
    assert_int_equal(nr_soft(&m->user), 0);
    assert_int_equal(m->user.nr_tables, nr_tables);
}

/* A CPU without leaves of 1 GiB: no slot of that size; the kernel's root, up to its last page. */
static void test_without_1g(void **state)
{
    struct t_paging *m = *state;

    m->arch.features.page_1g = false;
    assert_int_equal(mm_paging_guard(&m->kernel, t_range(0 - P1G - P4K, P1G + P4K)), MM_OK);
    assert_int_equal(nr_soft(&m->kernel), 512 + 1);
    expect_guard(&m->kernel, 0 - P1G - P4K, P4K);
    expect_guard(&m->kernel, 0 - P1G, P2M);
    expect_guard(&m->kernel, 0 - P4K, P2M);
    assert_int_equal(t_unmap(&m->kernel, 0 - P1G - P4K, P1G + P4K, 0), MM_OK);
    m->arch.features.page_1g = true;
}

/* Where a table stands, even one that holds nothing, its slots are guards. */
static void test_over_tables(void **state)
{
    struct t_paging *m = *state;
    struct mm_slot none = mm_slot_empty();
    struct mm_slot soft = mm_slot_soft(0, 1);
    struct mm_slot seen = none;

    assert_int_equal(mm_paging_slot_cas(&m->user, mm_vaddr(P2M), P4K, &seen, &soft, NULL), MM_OK);
    assert_int_equal(mm_paging_guard(&m->user, t_range(0, 3 * P2M)), MM_ERR_ALREADY_MAPPED);
    assert_int_equal(mm_paging_slot_get(&m->user, mm_vaddr(P2M), &seen), MM_OK);
    assert_int_equal(mm_paging_slot_cas(&m->user, mm_vaddr(P2M), P4K, &seen, &none, NULL), MM_OK);
    assert_int_equal(mm_paging_guard(&m->user, t_range(0, 3 * P2M)), MM_OK);
    expect_guard(&m->user, 0, P2M);
    expect_guard(&m->user, P2M, P4K);
    expect_guard(&m->user, 2 * P2M, P2M);
    assert_int_equal(nr_soft(&m->user), 2 + 512);
}

/* --- what other calls make of them ------------------------------------------------------------ */

/* Nothing but unmap removes them; and nothing changed by who was refused. */
static void test_others(void **state)
{
    struct t_paging *m = *state;
    struct mm_vrange range = t_range(START, LEN);
    uint64_t nr_merged = 0;
    struct mm_gather gather;
    uint64_t before;

    assert_int_equal(mm_paging_guard(&m->user, range), MM_OK);
    before = t_state(m, NULL);
    assert_int_equal(mm_paging_guard(&m->user, t_range(START - P4K, 2 * P4K)),
                     MM_ERR_ALREADY_MAPPED);
    assert_int_equal(mm_paging_guard(&m->user, t_range(4 * P1G + P2M, P4K)), MM_ERR_ALREADY_MAPPED);
    assert_int_equal(t_map(&m->user, 4 * P1G + P2M, P1G, P4K, T_URW), MM_ERR_ALREADY_MAPPED);
    assert_int_equal(t_protect(&m->user, START, LEN, T_UR, 0), MM_ERR_NOT_MAPPED);
    assert_int_equal(t_protect(&m->user, START, LEN - P4K, T_UR, MM_PAGING_SKIP_HOLES), MM_OK);
    assert_int_equal(mm_paging_set_type(&m->user, range, MM_MEMTYPE_UC, MM_PAGING_SKIP_HOLES),
                     MM_OK);
    assert_int_equal(mm_paging_merge(&m->user, range, &nr_merged), MM_OK);
    assert_int_equal(mm_gather_begin(&gather, &m->user), MM_OK);
    assert_int_equal(mm_paging_reclaim(&m->user, range, &gather), MM_OK);
    assert_int_equal(mm_paging_replace(&m->user, range.start, mm_paddr(P1G), T_URW, 0, &gather),
                     MM_ERR_NOT_MAPPED);
    assert_int_equal(mm_paging_harvest(&m->user, range, MM_PAGING_ACCESSED, NULL, NULL, &gather),
                     MM_OK);
    mm_gather_end(&gather);
    assert_int_equal(t_unmap(&m->user, 4 * P1G + P4K, P4K, 0), MM_ERR_HUGE_PAGE);
    assert_int_equal(t_state(m, NULL), before);
    /* Part of a large one: the rest stays guarded. */
    assert_int_equal(t_unmap(&m->user, 4 * P1G + P4K, P4K, MM_PAGING_SPLIT), MM_OK);
    expect_guard(&m->user, 4 * P1G, P4K);
    expect_hole(&m->user, 4 * P1G + P4K);
    expect_guard(&m->user, 4 * P1G + 2 * P4K, P4K);
    expect_guard(&m->user, 4 * P1G + P2M, P2M);
    assert_int_equal(nr_soft(&m->user), 5 + 511 + 511);
}

/* A cursor passes over each, and removes one. */
static void test_cursor(void **state)
{
    static const uint64_t sizes[] = {P4K, P2M, P1G, P2M, P4K, P4K};
    struct t_paging *m = *state;
    struct mm_paging_cursor cursor;
    struct mm_gather gather;
    struct mm_slot slot;

    assert_int_equal(mm_paging_guard(&m->user, t_range(START, LEN)), MM_OK);
    assert_int_equal(mm_paging_cursor_begin(&cursor, &m->user, t_range(0, 8 * P1G)), MM_OK);
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        assert_int_equal(mm_paging_cursor_next(&cursor, &slot), MM_OK);
        assert_int_equal(slot.kind, MM_SLOT_SOFT);
        assert_int_equal(slot.soft_kind, MM_SOFT_GUARD);
        assert_int_equal(slot.page.len, sizes[i]);
    }
    assert_int_equal(mm_paging_cursor_next(&cursor, &slot), MM_ERR_NOT_MAPPED);
    assert_int_equal(mm_gather_begin(&gather, &m->user), MM_OK);
    assert_int_equal(mm_paging_cursor_seek(&cursor, mm_vaddr(4 * P1G)), MM_OK);
    assert_int_equal(mm_paging_cursor_protect(&cursor, T_UR, &gather), MM_ERR_NOT_MAPPED);
    assert_int_equal(mm_paging_cursor_unmap(&cursor, 0, &gather), MM_OK);
    mm_gather_end(&gather);
    assert_int_equal(nr_soft(&m->user), 5);
}

/* A stack grows: its lowest guard becomes a page, and another leaf a guard again. */
static void test_exchange(void **state)
{
    struct t_paging *m = *state;
    struct mm_slot leaf = mm_slot_leaf(mm_paddr(P1G), T_URW, MM_MEMTYPE_WB);
    struct mm_slot guard = mm_slot_soft(MM_SOFT_GUARD, 0);
    struct mm_gather gather;
    struct mm_slot seen;

    assert_int_equal(mm_paging_guard(&m->user, t_range(P4K, 2 * P4K)), MM_OK);
    assert_int_equal(mm_paging_slot_get(&m->user, mm_vaddr(2 * P4K), &seen), MM_OK);
    assert_int_equal(mm_paging_slot_cas(&m->user, mm_vaddr(2 * P4K), P4K, &seen, &leaf, NULL),
                     MM_OK);
    assert_int_equal(t_paddr(&m->user, 2 * P4K), P1G);
    assert_int_equal(t_cpu_access(m->cpu, 2 * P4K, T_MMU_USER | T_MMU_WRITE, NULL), T_CPU_DONE);
    assert_int_equal(mm_paging_slot_get(&m->user, mm_vaddr(2 * P4K), &seen), MM_OK);
    assert_int_equal(mm_gather_begin(&gather, &m->user), MM_OK);
    assert_int_equal(mm_paging_slot_cas(&m->user, mm_vaddr(2 * P4K), P4K, &seen, &guard, &gather),
                     MM_OK);
    mm_gather_end(&gather);
    t_nothing_stale(m);
    expect_guard(&m->user, 2 * P4K, P4K);
    assert_int_equal(nr_soft(&m->user), 2);
}

static void never_shared(void *ctx, mm_pfn_t first, uint64_t nr)
{
    (void)ctx;
    (void)first;
    (void)nr;
    fail();
}

static void test_clone(void **state)
{
    struct t_paging *m = *state;
    struct mm_pagetable child = {0};
    struct mm_gather gather;

    assert_int_equal(mm_paging_guard(&m->user, t_range(START, LEN)), MM_OK);
    assert_int_equal(mm_paging_init_user(&child, &m->kernel), MM_OK);
    assert_int_equal(mm_gather_begin(&gather, &m->user), MM_OK);
    assert_int_equal(
        mm_paging_clone(&m->user, &child, t_range(0, 8 * P1G), never_shared, NULL, &gather), MM_OK);
    mm_gather_end(&gather);
    assert_int_equal(nr_soft(&child), nr_soft(&m->user));
    expect_guard(&child, START, P4K);
    expect_guard(&child, 4 * P1G, P1G);
    assert_int_equal(mm_paging_destroy(&child), MM_OK);
}

static bool never_found(void *ctx, const struct mm_audit_finding *finding)
{
    (void)ctx;
    (void)finding;
    fail();
    return false;
}

/* An audit of everything has nothing to say of them. */
static void test_audit(void **state)
{
    static uint64_t memory[1024];
    struct t_paging *m = *state;
    const struct mm_pagetable *roots[] = {&m->kernel, &m->user};
    struct mm_paging_audit audit = {
        .roots = roots,
        .nr_roots = 2,
        .kinds = MM_AUDIT_ALL,
        .memory = memory,
        .len = sizeof(memory),
        .report = never_found,
    };
    uint64_t nr = 1;

    assert_int_equal(mm_paging_guard(&m->user, t_range(START, LEN)), MM_OK);
    assert_int_equal(mm_paging_guard(&m->kernel, t_range(T_KERNEL_LOW, P1G + P4K)), MM_OK);
    assert_int_equal(mm_paging_audit(&audit, &nr), MM_OK);
    assert_int_equal(nr, 0);
}

/* Without memory at each point: no trace, and no frame lost. */
static void test_injection(void **state)
{
    struct t_paging *m = *state;
    uint64_t before = t_state(m, NULL);
    uint64_t nr_used = m->nr_used;
    unsigned nr;

    for (nr = 1;; nr++) {
        mm_status_t status;

        t_inject_nth(&m->inject, nr);
        status = mm_paging_guard(&m->user, t_range(START, LEN));
        t_inject_never(&m->inject);
        if (status == MM_OK) {
            break;
        }
        assert_int_equal(status, MM_ERR_NO_MEMORY);
        assert_int_equal(t_state(m, NULL), before);
        assert_int_equal(m->nr_used, nr_used);
    }
    assert_int_equal(nr, 1 + 5); /* five tables */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_sizes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_without_1g, setup, teardown),
        cmocka_unit_test_setup_teardown(test_over_tables, setup, teardown),
        cmocka_unit_test_setup_teardown(test_others, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cursor, setup, teardown),
        cmocka_unit_test_setup_teardown(test_exchange, setup, teardown),
        cmocka_unit_test_setup_teardown(test_clone, setup, teardown),
        cmocka_unit_test_setup_teardown(test_audit, setup, teardown),
        cmocka_unit_test_setup_teardown(test_injection, setup, teardown),
    };

    return cmocka_run_group_tests_name("paging_guard", tests, NULL, NULL);
}
