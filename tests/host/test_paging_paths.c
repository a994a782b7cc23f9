// SPDX-License-Identifier: MIT
/**
 * The short ways through page tables: one page from the root, whole tables of pages, neighbours in
 * pairs. Each must do what the long way does: in a root that is in use, and in one that never was.
 * Hazards 13, 15, 16, 17, 22.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "t_paging.h"

static int setup_unused(void **state)
{
    struct t_paging *m = t_paging_new();

    t_paging_start(m);
    *state = m;
    return 0;
}

static int setup_live(void **state)
{
    setup_unused(state);
    return mm_paging_activate(&((struct t_paging *)*state)->user) == MM_OK ? 0 : -1;
}

static int teardown(void **state)
{
    struct t_paging *m = *state;

    assert_int_equal(mm_paging_activate(&m->kernel), MM_OK);
    t_paging_delete(m);
    return 0;
}

#define AT (3 * P2M)

/* --- one page from the root ------------------------------------------------------------------- */

static void test_one_page(void **state)
{
    struct t_paging *m = *state;

    /* The first makes the tables, the others find them. */
    for (uint64_t page = 0; page < 512; page += 3) {
        mm_prot_t prot = page % 2 == 0 ? T_URW : page % 5 == 0 ? MM_PROT_USER : T_URX;

        assert_int_equal(t_map(&m->user, AT + page * P4K, P1G + page * P4K, P4K, prot), MM_OK);
        assert_int_equal(t_map(&m->user, AT + page * P4K, P1G, P4K, T_UR), MM_ERR_ALREADY_MAPPED);
    }
    assert_int_equal(m->user.nr_leaves[0], 171);
    assert_int_equal(m->user.nr_tables, 4);
    for (uint64_t page = 0; page < 512; page++) {
        mm_prot_t prot = page % 2 == 0 ? T_URW : page % 5 == 0 ? MM_PROT_NONE : T_URX;

        if (page % 3 != 0) {
            assert_true(t_is_hole(&m->user, AT + page * P4K));
            continue;
        }
        assert_int_equal(t_paddr(&m->user, AT + page * P4K), P1G + page * P4K);
        assert_int_equal(t_leaf(&m->user, AT + page * P4K).prot, prot);
    }
    assert_int_equal(mm_paging_check(&m->user), MM_OK);
}

/** What is wrong with one page is told as for any range, and nothing changes. */
static void test_one_wrong_page(void **state)
{
    struct t_paging *m = *state;
    struct mm_pagetable *pt = &m->user;
    uint64_t end = UINT64_C(1) << m->arch.features.paddr_bits;
    uint64_t before;

    assert_int_equal(t_map(pt, AT, P1G, P4K, T_URW), MM_OK);
    assert_int_equal(t_map(pt, AT + P2M, P1G, P2M, T_URW), MM_OK);
    before = t_state(m, NULL);
    assert_int_equal(t_map(pt, AT + P4K + 8, P1G, P4K, T_URW), MM_ERR_NOT_ALIGNED);
    assert_int_equal(t_map(pt, AT + P4K, P1G + 8, P4K, T_URW), MM_ERR_NOT_ALIGNED);
    assert_int_equal(t_map(pt, AT + P4K, end, P4K, T_URW), MM_ERR_INVALID_ADDRESS);
    assert_int_equal(t_map(pt, AT + P4K, P1G, P4K, MM_PROT_RW), MM_ERR_INVALID_FLAGS);
    assert_int_equal(t_map(pt, AT + P4K, P1G, P4K, T_URW | MM_PROT_GLOBAL), MM_ERR_INVALID_FLAGS);
    assert_int_equal(t_map(pt, T_KERNEL_LOW, P1G, P4K, T_URW), MM_ERR_INVALID_ADDRESS);
    assert_int_equal(t_map(pt, pt->user.start.raw + pt->user.len, P1G, P4K, T_URW),
                     MM_ERR_INVALID_ADDRESS);
    assert_int_equal(t_map(pt, AT + P2M + 7 * P4K, P1G, P4K, T_URW), MM_ERR_ALREADY_MAPPED);
    assert_true(t_state(m, NULL) == before);
    assert_int_equal(t_map(pt, AT + P4K, end - P4K, P4K, T_URW), MM_OK);
}

/* --- whole tables ----------------------------------------------------------------------------- */

/** From the middle of a table to the middle of the next but one: what is left, is left as it was. */
static void test_tables_in_part(void **state)
{
    struct t_paging *m = *state;
    uint64_t cut = AT + 100 * P4K;
    uint64_t len = 2 * P2M + 201 * P4K;

    assert_int_equal(mm_paging_map(&m->user, t_range(AT, 4 * P2M), mm_paddr(P1G), T_URW,
                                   MM_MEMTYPE_WB, MM_PAGING_ONLY_4K),
                     MM_OK);
    assert_int_equal(t_protect(&m->user, cut, len, T_UR, 0), MM_OK);
    for (uint64_t at = AT; at < AT + 4 * P2M; at += P4K) {
        assert_int_equal(t_leaf(&m->user, at).prot, at - cut < len ? T_UR : T_URW);
    }
    assert_int_equal(t_unmap(&m->user, cut, len, 0), MM_OK);
    assert_int_equal(m->user.nr_leaves[0], (4 * P2M - len) / P4K);
    for (uint64_t at = AT; at < AT + 4 * P2M; at += P4K) {
        if (at - cut < len) {
            assert_true(t_is_hole(&m->user, at));
        } else {
            assert_int_equal(t_paddr(&m->user, at), P1G + at - AT);
        }
    }
    assert_int_equal(mm_paging_check(&m->user), MM_OK);
    /* A table that went whole comes back as the source gives it. */
    assert_int_equal(t_map(&m->user, AT + P2M + 5 * P4K, P1G, P4K, T_URW), MM_OK);
    assert_true(t_is_hole(&m->user, AT + P2M + 4 * P4K));
    assert_true(t_is_hole(&m->user, AT + P2M + 6 * P4K));
    /* One hole, and nothing of it happens. */
    assert_int_equal(t_unmap(&m->user, AT, 101 * P4K, 0), MM_ERR_NOT_MAPPED);
    assert_int_equal(t_protect(&m->user, AT, 101 * P4K, T_UR, 0), MM_ERR_NOT_MAPPED);
    assert_int_equal(t_leaf(&m->user, AT).prot, T_URW);
    assert_int_equal(t_unmap(&m->user, AT, 4 * P2M, MM_PAGING_SKIP_HOLES), MM_OK);
    assert_int_equal(m->user.nr_tables, 1);
}

/** Leaves of several sizes in one range: the edges are looked at, whatever the rest is. */
static void test_pages_beside_a_large_leaf(void **state)
{
    struct t_paging *m = *state;
    uint64_t before;

    assert_int_equal(t_map(&m->user, AT - P4K, P1G - P4K, P4K + P2M, T_URW), MM_OK);
    assert_int_equal(t_map(&m->user, AT + P2M, 2 * P1G + P4K, P4K, T_URW), MM_OK);
    assert_int_equal(m->user.nr_leaves[1], 1);
    before = t_state(m, NULL);
    assert_int_equal(t_unmap(&m->user, AT - P4K, P2M, 0), MM_ERR_HUGE_PAGE);
    assert_int_equal(t_unmap(&m->user, AT + P4K, P2M, 0), MM_ERR_HUGE_PAGE);
    assert_int_equal(t_protect(&m->user, AT - P4K, P2M, T_UR, 0), MM_ERR_HUGE_PAGE);
    assert_int_equal(t_protect(&m->user, AT + P4K, P2M, T_UR, 0), MM_ERR_HUGE_PAGE);
    assert_true(t_state(m, NULL) == before);
    assert_int_equal(t_protect(&m->user, AT - P4K, P2M + 2 * P4K, T_UR, 0), MM_OK);
    assert_int_equal(t_leaf(&m->user, AT).prot, T_UR);
    assert_int_equal(t_leaf(&m->user, AT + P2M).prot, T_UR);
}

/** A run of large leaves meets a table, or a leaf: taken is taken. */
static void test_run_meets_what_is_there(void **state)
{
    struct t_paging *m = *state;
    uint64_t before;

    assert_int_equal(t_map(&m->user, AT + 2 * P2M + 9 * P4K, P1G, P4K, T_URW), MM_OK);
    assert_int_equal(t_map(&m->user, AT + 5 * P2M, P1G, P2M, T_URW), MM_OK);
    before = t_state(m, NULL);
    assert_int_equal(t_map(&m->user, AT, P1G + P2M, 3 * P2M, T_URW), MM_ERR_ALREADY_MAPPED);
    assert_int_equal(t_map(&m->user, AT + 3 * P2M, P1G + P2M, 4 * P2M, T_URW),
                     MM_ERR_ALREADY_MAPPED);
    assert_true(t_state(m, NULL) == before);
    /* Around the page, then in its table. */
    assert_int_equal(t_map(&m->user, AT, P1G + P2M, 2 * P2M + 9 * P4K, T_URW), MM_OK);
    assert_int_equal(m->user.nr_leaves[1], 3);
    assert_int_equal(m->user.nr_leaves[0], 10);
    assert_int_equal(mm_paging_check(&m->user), MM_OK);
}

static uint32_t ranges_of_protect(struct t_paging *m, uint64_t at, uint64_t len, mm_prot_t prot)
{
    struct mm_gather gather;
    uint32_t nr;

    assert_int_equal(mm_gather_begin(&gather, &m->user), MM_OK);
    assert_int_equal(mm_paging_protect(&m->user, t_range(at, len), prot, 0, &gather), MM_OK);
    nr = gather.nr_ranges;
    mm_gather_end(&gather);
    return nr;
}

/** The gather hears of a range if one page of it changed, wherever in it that is. */
static void test_one_page_changes(void **state)
{
    struct t_paging *m = *state;

    assert_int_equal(t_map(&m->user, AT, P1G + P4K, 9 * P4K, T_URW), MM_OK);
    for (uint64_t odd = 0; odd < 9; odd++) {
        assert_int_equal(t_protect(&m->user, AT, 9 * P4K, T_UR, 0), MM_OK);
        assert_int_equal(ranges_of_protect(m, AT, 9 * P4K, T_UR), 0);
        assert_int_equal(t_protect(&m->user, AT + odd * P4K, P4K, T_URW, 0), MM_OK);
        assert_int_equal(ranges_of_protect(m, AT, 9 * P4K, T_UR), 1);
        assert_int_equal(t_protect(&m->user, AT + odd * P4K, P4K, T_URX, 0), MM_OK);
        assert_int_equal(ranges_of_protect(m, AT, 9 * P4K, T_UR), 1);
        assert_int_equal(t_protect(&m->user, AT, 9 * P4K, T_URW, 0), MM_OK);
        assert_int_equal(t_protect(&m->user, AT + odd * P4K, P4K, T_UR, 0), MM_OK);
        assert_int_equal(ranges_of_protect(m, AT, 9 * P4K, T_URW), 1);
    }
}

/* --- neighbours in pairs ---------------------------------------------------------------------- */

struct shares {
    uint64_t first[16];
    uint64_t nr[16];
    uint32_t runs;
};

static void share(void *ctx, mm_pfn_t first, uint64_t nr)
{
    struct shares *s = ctx;

    assert_true(s->runs < 16);
    s->first[s->runs] = first.raw;
    s->nr[s->runs++] = nr;
}

/** Frames of a leaf, from a page of it on. */
struct leaf {
    uint64_t page; /**< from AT on */
    uint64_t frame;
    mm_prot_t prot;
};

static void test_clone_of_any_pair(void **state)
{
    /* Odd and even beginnings, holes, pages that allow nothing, that are read-only, and frames that
     * follow each other, do not, or do only within a pair. */
    static const struct leaf leaves[] = {
        {1, 0x200000, T_URW},         {2, 0x200001, T_URW},  {3, 0x200007, T_URW},
        {4, 0x200008, T_UR},          {5, 0x200009, T_URW},  {6, 0x20000a, MM_PROT_USER},
        {7, 0x20000b, T_URW},         {10, 0x20000c, T_URW}, {11, 0x20000d, T_URW},
        {12, 0x20000f, MM_PROT_USER}, {14, 0x200010, T_URW}, {15, 0x200020, T_URW},
        {511, 0x200021, T_URW},
    };
    static const uint64_t runs[][2] = {
        {0x200000, 2},
        {0x200007, 7},
        {0x20000f, 2},
        {0x200020, 2},
    };
    struct t_paging *m = *state;
    struct mm_pagetable copy;
    struct mm_gather gather;
    struct shares shares = {.runs = 0};
    unsigned nr = sizeof(leaves) / sizeof(leaves[0]);

    memset(&copy, 0, sizeof(copy));
    assert_int_equal(mm_paging_init_user(&copy, &m->kernel), MM_OK);
    for (unsigned i = 0; i < nr; i++) {
        assert_int_equal(
            t_map(&m->user, AT + leaves[i].page * P4K, leaves[i].frame * P4K, P4K, leaves[i].prot),
            MM_OK);
    }
    assert_int_equal(mm_gather_begin(&gather, &m->user), MM_OK);
    assert_int_equal(mm_paging_clone(&m->user, &copy, t_range(AT, P2M), share, &shares, &gather),
                     MM_OK);
    mm_gather_end(&gather);
    assert_int_equal(shares.runs, sizeof(runs) / sizeof(runs[0]));
    for (unsigned r = 0; r < shares.runs; r++) {
        assert_int_equal(shares.first[r], runs[r][0]);
        assert_int_equal(shares.nr[r], runs[r][1]);
    }
    assert_int_equal(copy.nr_leaves[0], nr);
    for (unsigned i = 0; i < nr; i++) {
        uint64_t at = AT + leaves[i].page * P4K;
        mm_prot_t prot = leaves[i].prot == MM_PROT_USER ? MM_PROT_NONE : T_UR;

        assert_int_equal(t_paddr(&copy, at), leaves[i].frame * P4K);
        assert_int_equal(t_leaf(&copy, at).prot, prot);
        assert_int_equal(t_leaf(&m->user, at).prot, prot);
    }
    assert_int_equal(mm_paging_check(&copy), MM_OK);
    assert_int_equal(mm_paging_check(&m->user), MM_OK);
    assert_int_equal(mm_paging_destroy(&copy), MM_OK);
}

#define BOTH(test)                                                                                 \
    {#test ", unused", test, setup_unused, teardown, NULL},                                        \
    {                                                                                              \
#test ", live", test, setup_live, teardown, NULL                                           \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(test_one_page),
        BOTH(test_one_wrong_page),
        BOTH(test_tables_in_part),
        BOTH(test_pages_beside_a_large_leaf),
        BOTH(test_run_meets_what_is_there),
        BOTH(test_one_page_changes),
        BOTH(test_clone_of_any_pair),
    };

    return cmocka_run_group_tests_name("paging_paths", tests, NULL, NULL);
}
