// SPDX-License-Identifier: MIT
/**
 * Tables that hold nothing are taken out, flushed before they are free, and only then is the check
 * strict about empty tables again.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "paging_break.h"

/* The table and the slot of an address at a level, through the frames. */
static uint64_t *slot_of(const struct t_paging *m, const struct mm_pagetable *pt, uint64_t at,
                         unsigned level)
{
    uint64_t frame = pt->root.raw / P4K;

    for (unsigned l = 3; l > level; l--) {
        frame = (t_table(m, frame)[(at >> (12 + 9 * l)) & 511] & T_MMU_ADDRESS) / P4K;
    }
    return &t_table(m, frame)[(at >> (12 + 9 * level)) & 511];
}

/* Empty a slot as its owner may, who flushes by himself. */
static void empty_by_hand(struct t_paging *m, struct mm_pagetable *pt, uint64_t at)
{
    struct mm_gather gather;

    assert_int_equal(mm_gather_begin(&gather, pt), MM_OK);
    *slot_of(m, pt, at, 0) = 0;
    pt->nr_leaves[0]--;
    mm_gather_add_range(&gather, t_range(at, P4K));
    mm_gather_end(&gather);
}

static void test_reclaim(void **state)
{
    struct t_paging *m = break_machine(false, true);

    (void)state;
    for (unsigned which = KERNEL; which <= USER; which++) {
        uint64_t at;
        mm_prot_t prot;
        struct mm_pagetable *pt = break_root(m, which, &at, &prot);
        uint64_t tables = pt->nr_tables;
        uint64_t used = m->nr_used;
        struct mm_gather gather;
        uint64_t hash;

        map_4k(pt, at + P2M - 2 * P4K, P1G, 4 * P4K, prot, MM_MEMTYPE_WB);
        map_4k(pt, at + P1G, 2 * P1G, P4K, prot, MM_MEMTYPE_WB);
        all_access(m, pt, at + P1G, 0); /* a way to the table is cached */
        empty_by_hand(m, pt, at + P1G);
        for (unsigned i = 0; i < 3; i++) {
            empty_by_hand(m, pt, at + P2M - 2 * P4K + i * P4K);
        }
        assert_int_equal(mm_gather_begin(&gather, pt), MM_OK);
        hash = t_state(m, &gather);
        /* Tables that hold something, and tables outside of the range, stay. */
        assert_int_equal(mm_paging_reclaim(pt, t_range(at + P2M + 5, 1), &gather), MM_OK);
        assert_true(hash == t_state(m, &gather));
        /* One byte is enough to touch a table, and no byte before it goes with it. */
        assert_int_equal(mm_paging_reclaim(pt, t_range(at + P2M - 1, 2), &gather), MM_OK);
        assert_int_equal(m->user.nr_tables + m->kernel.nr_tables + 1, m->nr_used);
        mm_gather_end(&gather);
        assert_int_equal(m->user.nr_tables + m->kernel.nr_tables, m->nr_used);
        assert_int_equal(mm_paging_reclaim(pt, t_range(at, 2 * P1G), &gather), MM_OK);
        mm_gather_end(&gather);
        t_nothing_stale(m);
        assert_int_equal(mm_paging_check(pt), MM_OK);
        empty_by_hand(m, pt, at + P2M + P4K);
        assert_int_equal(mm_paging_reclaim(pt, t_range(at, 2 * P1G), &gather), MM_OK);
        mm_gather_end(&gather);
        t_nothing_stale(m);
        assert_int_equal(mm_paging_check(pt), MM_OK);
        /* What the root's entries of the kernel lead to is left, in the user's copy too. */
        assert_int_equal(pt->nr_tables, tables);
        assert_int_equal(m->nr_used, used);
    }
    t_paging_delete(m);
}

/* The ways to a table that CPUs have cached are gone before it is free. */
static void test_reclaim_flushes(void **state)
{
    struct t_paging *m = break_machine(false, true);

    (void)state;
    for (unsigned which = KERNEL; which <= USER; which++) {
        uint64_t at;
        mm_prot_t prot;
        struct mm_pagetable *pt = break_root(m, which, &at, &prot);
        uint64_t used = m->nr_used;
        struct mm_gather gather;

        map_4k(pt, at + P1G, 2 * P1G, P4K, prot, MM_MEMTYPE_WB);
        all_access(m, pt, at + P1G, 0);
        assert_int_equal(mm_gather_begin(&gather, pt), MM_OK);
        *slot_of(m, pt, at + P1G, 0) =
            0; /* the flush of the table's first page is this one's too */
        pt->nr_leaves[0]--;
        assert_int_equal(mm_paging_reclaim(pt, t_range(at + P1G, 1), &gather), MM_OK);
        mm_gather_end(&gather);
        t_nothing_stale(m);
        assert_int_equal(m->nr_used, used);
    }
    t_paging_delete(m);
}

/* The check tolerates empty tables where slots were emptied one by one, and only up to a reclaim of
 * all of that range. */
static void slot_emptied(struct mm_pagetable *pt, uint64_t at, mm_prot_t prot)
{
    struct mm_slot seen = mm_slot_empty();
    struct mm_slot leaf = mm_slot_leaf(mm_paddr(P1G), prot, MM_MEMTYPE_WB);
    struct mm_slot empty = mm_slot_empty();
    struct mm_gather gather;

    assert_int_equal(mm_gather_begin(&gather, pt), MM_OK);
    assert_int_equal(mm_paging_slot_cas(pt, mm_vaddr(at), P4K, &seen, &leaf, &gather), MM_OK);
    assert_int_equal(mm_paging_slot_get(pt, mm_vaddr(at), &seen), MM_OK);
    assert_int_equal(mm_paging_slot_cas(pt, mm_vaddr(at), P4K, &seen, &empty, &gather), MM_OK);
    mm_gather_end(&gather);
}

static void reclaimed(struct mm_pagetable *pt, uint64_t at, uint64_t len)
{
    struct mm_gather gather;

    assert_int_equal(mm_gather_begin(&gather, pt), MM_OK);
    assert_int_equal(mm_paging_reclaim(pt, t_range(at, len), &gather), MM_OK);
    mm_gather_end(&gather);
}

/* What the check says of a table that was emptied behind its back. */
static mm_status_t emptied_behind(struct t_paging *m, struct mm_pagetable *pt, uint64_t at,
                                  mm_prot_t prot)
{
    mm_status_t status;

    map_4k(pt, at, P1G, P4K, prot, MM_MEMTYPE_WB);
    empty_by_hand(m, pt, at);
    status = mm_paging_check(pt);
    reclaimed(pt, at, P4K);
    return status;
}

static void test_reclaim_makes_strict(void **state)
{
    struct t_paging *m = break_machine(false, true);
    uint64_t half = UINT64_C(1) << 47;
    uint64_t low = T_KERNEL_LOW + P1G;
    uint64_t top = T_KERNEL_TOP + P1G;

    (void)state;
    assert_int_equal(emptied_behind(m, &m->user, P1G, T_URW), MM_ERR_CORRUPTED);
    slot_emptied(&m->user, P1G, T_URW);
    assert_int_equal(mm_paging_check(&m->user), MM_OK);
    reclaimed(&m->user, 0, half - P4K); /* not all */
    reclaimed(&m->user, P4K, half - P4K);
    assert_int_equal(emptied_behind(m, &m->user, P1G, T_URW), MM_OK);
    reclaimed(&m->user, 0, half);
    assert_int_equal(mm_paging_check(&m->user), MM_OK);
    assert_int_equal(emptied_behind(m, &m->user, P1G, T_URW), MM_ERR_CORRUPTED);
    /* Of the kernel's ranges each by itself. */
    slot_emptied(&m->kernel, top, MM_PROT_RW);
    assert_int_equal(mm_paging_check(&m->kernel), MM_OK);
    assert_int_equal(emptied_behind(m, &m->kernel, low, MM_PROT_RW), MM_ERR_CORRUPTED);
    slot_emptied(&m->kernel, low, MM_PROT_RW);
    reclaimed(&m->kernel, T_KERNEL_LOW, T_KERNEL_LOW_LEN);
    assert_int_equal(emptied_behind(m, &m->kernel, top, MM_PROT_RW), MM_OK);
    assert_int_equal(emptied_behind(m, &m->kernel, low, MM_PROT_RW), MM_ERR_CORRUPTED);
    slot_emptied(&m->kernel, top, MM_PROT_RW);
    reclaimed(&m->kernel, T_KERNEL_TOP, T_KERNEL_TOP_LEN);
    assert_int_equal(emptied_behind(m, &m->kernel, top, MM_PROT_RW), MM_ERR_CORRUPTED);
    assert_int_equal(mm_paging_check(&m->kernel), MM_OK);
    t_paging_delete(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reclaim),
        cmocka_unit_test(test_reclaim_flushes),
        cmocka_unit_test(test_reclaim_makes_strict),
    };

    return cmocka_run_group_tests_name("paging reclaim", tests, NULL, NULL);
}
