// SPDX-License-Identifier: MIT
/**
 * Leaves that become larger ones: what merges and what does not,
 * what the CPUs see meanwhile, and that a split undone leaves no trace. Hazards 9, 13, 15, 16, 17,
 * 18, 19.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "paging_break.h"

static uint64_t merge(struct mm_pagetable *pt, uint64_t at, uint64_t len)
{
    uint64_t nr = UINT64_MAX;

    assert_int_equal(mm_paging_merge(pt, t_range(at, len), &nr), MM_OK);
    assert_int_equal(mm_paging_check(pt), MM_OK);
    return nr;
}

/* --- there and back ---------------------------------------------------------------------------- */

/* A large leaf is cut, a piece of it changed and changed back; merged, all is as it was. */
static void there_and_back(bool la57, unsigned which, unsigned size, mm_memtype_t type)
{
    struct t_paging *m = break_machine(la57, true);
    static struct flat flat;
    uint64_t len = size == 1 ? P2M : P1G;
    uint64_t at;
    mm_prot_t prot;
    struct mm_pagetable *pt = break_root(m, which, &at, &prot);
    mm_prot_t less = prot & ~MM_PROT_WRITE;
    uint64_t hash;
    uint64_t nr;

    /* Other bits of the frame than those that are PAT's. */
    assert_int_equal(mm_paging_map(pt, t_range(at, len), mm_paddr(3 * P1G), prot, type, 0), MM_OK);
    if (which != IDLE) {
        all_access(m, pt, at + 7 * P4K, 0);
        all_access(m, pt, at + len - 1, T_MMU_WRITE);
    }
    flat_take(pt, at, 512, &flat);
    hash = t_state(m, NULL);
    assert_int_equal(t_protect(pt, at + 5 * P4K, P4K, less, MM_PAGING_SPLIT), MM_OK);
    assert_int_equal(merge(pt, at, len), 0);
    assert_int_equal(t_leaf(pt, at).page.len, P4K);
    assert_int_equal(t_leaf(pt, at).type, type);
    assert_int_equal(t_protect(pt, at + 5 * P4K, P4K, prot, 0), MM_OK);
    if (which != IDLE) {
        all_access(m, pt, at + 5 * P4K, 0);
        all_access(m, pt, at + 6 * P4K, 0);
    }
    if (which != IDLE) {
        break_arm(pt, at, P2M);
    }
    /* Either size is reached by any page of it. */
    nr = merge(pt, at + 300 * P4K, P4K);
    (void)break_disarm();
    assert_int_equal(nr, size);
    one_size(m, pt, at, len);
    assert_int_equal(t_leaf(pt, at).page.len, len);
    flat_same(pt, &flat, NULL);
    assert_true(hash == t_state(m, NULL));
    assert_int_equal(t_unmap(pt, at, len, 0), MM_OK);
    t_paging_delete(m);
}

static void test_there_and_back(void **state)
{
    (void)state;
    for (unsigned which = 0; which < NR_ROOTS; which++) {
        for (unsigned size = 1; size < 3; size++) {
            for (unsigned type = 0; type < MM_MEMTYPE_COUNT; type++) {
                there_and_back(type % 2 != 0, which, size, (mm_memtype_t)type);
            }
        }
    }
}

/* --- what merges ------------------------------------------------------------------------------- */

/* 512 pages that agree but for one thing in one of them. */
static void test_one_that_differs(void **state)
{
    static const unsigned places[] = {0, 1, 255, 510, 511};
    struct t_paging *m = break_machine(false, true);

    (void)state;
    for (unsigned which = 0; which < 2; which++) {
        uint64_t at;
        mm_prot_t prot;
        struct mm_pagetable *pt = break_root(m, which == 0 ? KERNEL : USER, &at, &prot);

        for (unsigned p = 0; p < 5; p++) {
            uint64_t page = at + places[p] * P4K;
            uint64_t paddr = P1G + places[p] * P4K;
            const struct {
                uint64_t paddr;
                mm_prot_t prot;
                mm_memtype_t type;
            } others[] = {
                {paddr + P4K, prot, MM_MEMTYPE_WP},
                {paddr + P1G, prot, MM_MEMTYPE_WP},
                {paddr, prot & ~MM_PROT_WRITE, MM_MEMTYPE_WP},
                {paddr, prot | MM_PROT_EXEC, MM_MEMTYPE_WP},
                {paddr, prot & ~(MM_PROT_RW | MM_PROT_EXEC), MM_MEMTYPE_WP},
                {paddr, which == 0 ? MM_PROT_RW : prot, which == 0 ? MM_MEMTYPE_WP : MM_MEMTYPE_WB},
                {paddr, prot, MM_MEMTYPE_UC},
                {paddr, prot, MM_MEMTYPE_WC},
            };

            map_4k(pt, at, P1G, P2M, prot, MM_MEMTYPE_WP);
            for (unsigned i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
                uint64_t hash;

                assert_int_equal(t_unmap(pt, page, P4K, 0), MM_OK);
                hash = t_state(m, NULL);
                assert_int_equal(merge(pt, at, P2M), 0); /* one is missing */
                assert_true(hash == t_state(m, NULL));
                map_4k(pt, page, others[i].paddr, P4K, others[i].prot, others[i].type);
                hash = t_state(m, NULL);
                assert_int_equal(merge(pt, at, P2M), 0);
                assert_true(hash == t_state(m, NULL));
            }
            assert_int_equal(t_unmap(pt, page, P4K, 0), MM_OK);
            map_4k(pt, page, paddr, P4K, prot, MM_MEMTYPE_WP);
            assert_int_equal(merge(pt, at, P2M), 1);
            assert_int_equal(t_leaf(pt, page).page.len, P2M);
            assert_int_equal(t_leaf(pt, page).type, MM_MEMTYPE_WP);
            assert_int_equal(t_paddr(pt, page), paddr);
            assert_int_equal(t_unmap(pt, at, P2M, 0), MM_OK);
            t_nothing_stale(m);
        }
    }
    t_paging_delete(m);
}

/* Pages in order, but not from where a larger leaf can begin. */
static void test_alignment(void **state)
{
    struct t_paging *m = break_machine(false, true);
    uint64_t hash;

    (void)state;
    map_4k(&m->user, 0, P1G + P4K, P2M, T_URW, MM_MEMTYPE_WB);
    map_4k(&m->user, P2M + P4K, P1G, P2M, T_URW, MM_MEMTYPE_WB);
    hash = t_state(m, NULL);
    assert_int_equal(merge(&m->user, 0, 4 * P2M), 0);
    assert_true(hash == t_state(m, NULL));
    assert_int_equal(t_unmap(&m->user, 0, 4 * P2M, MM_PAGING_SKIP_HOLES), MM_OK);
    /* Leaves of 2 MiB that begin at an odd one. */
    assert_int_equal(t_map(&m->user, P1G, 2 * P1G + P2M, P1G, T_URW), MM_OK);
    assert_int_equal(merge(&m->user, P1G, P1G), 0);
    assert_int_equal(t_unmap(&m->user, P1G, P1G, 0), MM_OK);
    t_paging_delete(m);
}

/* Pages that allow nothing merge among each other, keep what they knew, and come back. */
static void test_forbidden_pages(void **state)
{
    struct t_paging *m = break_machine(false, true);
    uint64_t at = 64 * P1G;

    (void)state;
    all_enter(m, &m->user);
    map_4k(&m->user, at, 3 * P1G, P2M, T_URW, MM_MEMTYPE_WT);
    assert_int_equal(t_cpu_access(m->cpu, at + 9 * P4K, T_MMU_WRITE | T_MMU_USER, NULL),
                     T_CPU_DONE);
    assert_int_equal(t_protect(&m->user, at, P2M, MM_PROT_USER, 0), MM_OK);
    assert_int_equal(merge(&m->user, at, P2M), 1);
    assert_int_equal(t_leaf(&m->user, at).page.len, P2M);
    assert_int_equal(t_leaf(&m->user, at).prot, MM_PROT_NONE);
    assert_int_equal(t_leaf(&m->user, at).type, MM_MEMTYPE_WT);
    assert_true(t_leaf(&m->user, at).dirty && t_leaf(&m->user, at).accessed);
    assert_int_equal(t_protect(&m->user, at, P2M, T_URW, 0), MM_OK);
    assert_int_equal(t_leaf(&m->user, at).page.len, P2M);
    assert_int_equal(t_leaf(&m->user, at).type, MM_MEMTYPE_WT);
    assert_true(t_leaf(&m->user, at).dirty);
    assert_int_equal(t_paddr(&m->user, at + P4K), 3 * P1G + P4K);
    assert_int_equal(t_unmap(&m->user, at, P2M, 0), MM_OK);
    t_paging_delete(m);
}

/* As large as the CPU has them, and no larger. */
static void test_sizes_of_the_cpu(void **state)
{
    (void)state;
    for (unsigned which = 0; which < 4; which++) {
        bool page_1g = which % 2 != 0;
        struct t_paging *m = break_machine(which / 2 != 0, page_1g);
        uint64_t tables = m->user.nr_tables;
        uint64_t at = 64 * P1G;

        map_4k(&m->user, at, P1G, P1G, T_URW, MM_MEMTYPE_WC);
        assert_int_equal(merge(&m->user, at, P1G), page_1g ? 513 : 512);
        assert_int_equal(t_leaf(&m->user, at + 5 * P2M).page.len, page_1g ? P1G : P2M);
        assert_int_equal(m->user.nr_leaves[0], 0);
        assert_int_equal(m->user.nr_leaves[1], page_1g ? 0 : 512);
        assert_int_equal(m->user.nr_leaves[2], page_1g ? 1 : 0);
        assert_int_equal(merge(&m->user, at, P1G), 0);
        assert_int_equal(t_leaf(&m->user, at).type, MM_MEMTYPE_WC);
        assert_int_equal(t_unmap(&m->user, at, P1G, 0), MM_OK);
        assert_int_equal(m->user.nr_tables, tables);
        t_paging_delete(m);
    }
}

/* --- while CPUs look on ------------------------------------------------------------------------ */

/* By the way to the unlinked table that it has cached, a CPU writes to a page. */
static void write_by_the_old_way(struct breaking *b)
{
    b->answer =
        t_cpu_access(&b->m->cpus.cpu[2], b->about, T_MMU_WRITE | (b->user ? T_MMU_USER : 0), NULL);
}

static void test_dirty_until_the_flush(void **state)
{
    (void)state;
    for (unsigned which = KERNEL; which <= USER; which++) {
        struct t_paging *m = break_machine(false, true);
        uint64_t at;
        mm_prot_t prot;
        struct mm_pagetable *pt = break_root(m, which, &at, &prot);

        map_4k(pt, at, P1G, P2M, prot, MM_MEMTYPE_WB);
        all_access(m, pt, at, 0);
        all_access(m, pt, at + P2M - 1, 0);
        assert_false(t_leaf(pt, at + 77 * P4K).accessed);
        now_breaking.before = write_by_the_old_way;
        now_breaking.about = at + 77 * P4K;
        break_arm(pt, at, P2M);
        assert_int_equal(merge(pt, at, P2M), 1);
        assert_int_equal(break_disarm(), 1); /* one flush, and the page was not there after it */
        assert_int_equal(now_breaking.answer, T_CPU_DONE);
        assert_true(t_leaf(pt, at).accessed && t_leaf(pt, at).dirty);
        one_size(m, pt, at, P2M);
        all_access(m, pt, at + 3 * P4K, T_MMU_WRITE);
        assert_int_equal(t_unmap(pt, at, P2M, 0), MM_OK);
        t_nothing_stale(m);
        t_paging_delete(m);
    }
}

/* Many tables cost one flush, and a root that nobody walks none. */
static void test_flushes(void **state)
{
    struct t_paging *m = break_machine(false, true);
    uint64_t at = T_KERNEL_LOW;

    (void)state;
    map_4k(&m->kernel, at, P1G, 8 * P2M, MM_PROT_RW | MM_PROT_GLOBAL, MM_MEMTYPE_WB);
    for (unsigned i = 0; i < 8; i++) {
        all_access(m, &m->kernel, at + i * P2M + i * P4K, 0);
    }
    break_arm(&m->kernel, at, 8 * P2M);
    assert_int_equal(merge(&m->kernel, at, 8 * P2M), 8);
    assert_int_equal(break_disarm(), 1);
    one_size(m, &m->kernel, at, 8 * P2M);
    break_arm(&m->kernel, at, 8 * P2M);
    assert_int_equal(merge(&m->kernel, at, 8 * P2M), 0);
    assert_int_equal(break_disarm(), 0);
    map_4k(&m->user, 0, P1G, 2 * P2M, T_URW, MM_MEMTYPE_WB);
    break_arm(&m->user, 0, 2 * P2M);
    assert_int_equal(merge(&m->user, P4K, 2 * P2M - P4K), 2);
    assert_int_equal(break_disarm(), 0);
    assert_int_equal(t_unmap(&m->user, 0, 2 * P2M, 0), MM_OK);
    assert_int_equal(t_unmap(&m->kernel, at, 8 * P2M, 0), MM_OK);
    t_paging_delete(m);
}

/* --- the flag ---------------------------------------------------------------------------------- */

static mm_status_t map_flags(struct mm_pagetable *pt, uint64_t at, uint64_t paddr, uint64_t len,
                             mm_prot_t prot, uint32_t flags)
{
    return mm_paging_map(pt, t_range(at, len), mm_paddr(paddr), prot, MM_MEMTYPE_WB, flags);
}

/* Page by page, upwards and downwards: the last one makes it whole. */
static void test_map_completes(void **state)
{
    struct t_paging *m = break_machine(false, true);

    (void)state;
    for (unsigned which = KERNEL; which <= USER; which++) {
        uint64_t at;
        mm_prot_t prot;
        struct mm_pagetable *pt = break_root(m, which, &at, &prot);

        for (unsigned down = 0; down < 2; down++) {
            for (unsigned i = 0; i < 512; i++) {
                uint64_t page = (down != 0 ? 511 - i : i) * P4K;

                assert_int_equal(map_flags(pt, at + page, P1G + page, P4K, prot, MM_PAGING_MERGE),
                                 MM_OK);
            }
            assert_int_equal(t_leaf(pt, at).page.len, P2M);
            assert_int_equal(t_unmap(pt, at, P2M, 0), MM_OK);
        }
    }
    t_paging_delete(m);
}

static void test_map_flag(void **state)
{
    struct t_paging *m = break_machine(false, true);
    struct mm_pagetable *pt = &m->user;
    uint64_t at = 64 * P1G;

    (void)state;
    /* Both ends of the range complete what was beside it. */
    map_4k(pt, at, P1G, 17 * P4K, T_URW, MM_MEMTYPE_WB);
    map_4k(pt, at + 3 * P2M + 9 * P4K, P1G + 3 * P2M + 9 * P4K, P2M - 9 * P4K, T_URW,
           MM_MEMTYPE_WB);
    assert_int_equal(
        map_flags(pt, at + 17 * P4K, P1G + 17 * P4K, 3 * P2M - 8 * P4K, T_URW, MM_PAGING_MERGE),
        MM_OK);
    assert_int_equal(pt->nr_leaves[0], 0);
    assert_int_equal(pt->nr_leaves[1], 4);
    assert_int_equal(t_unmap(pt, at, 4 * P2M, 0), MM_OK);
    /* Not above the size that was asked for. */
    assert_int_equal(map_flags(pt, at, P1G, P1G, T_URW, MM_PAGING_ONLY_4K | MM_PAGING_MERGE),
                     MM_OK);
    assert_int_equal(t_leaf(pt, at).page.len, P4K);
    assert_int_equal(t_unmap(pt, at + P4K, P4K, 0), MM_OK);
    assert_int_equal(
        map_flags(pt, at + P4K, P1G + P4K, P4K, T_URW, MM_PAGING_MAX_2M | MM_PAGING_MERGE), MM_OK);
    assert_int_equal(t_leaf(pt, at).page.len, P2M);
    assert_int_equal(t_leaf(pt, at + P2M).page.len, P4K); /* the range does not touch it */
    assert_int_equal(merge(pt, at, P1G), 512);
    assert_int_equal(t_leaf(pt, at).page.len, P1G);
    /* A call that fails merges nothing. */
    map_4k(pt, at + P1G, P1G, P2M, T_URW, MM_MEMTYPE_WB);
    assert_int_equal(map_flags(pt, at + P1G, P1G, P4K, T_URW, MM_PAGING_MERGE),
                     MM_ERR_ALREADY_MAPPED);
    assert_int_equal(t_leaf(pt, at + P1G).page.len, P4K);
    /* Only map and protect know the flag. */
    assert_int_equal(t_unmap(pt, at, P1G, MM_PAGING_MERGE), MM_ERR_INVALID_FLAGS);
    assert_int_equal(t_unmap(pt, at, P1G + P2M, 0), MM_OK);
    t_paging_delete(m);
}

static void test_protect_flag(void **state)
{
    struct t_paging *m = break_machine(false, true);

    (void)state;
    for (unsigned which = KERNEL; which <= USER; which++) {
        uint64_t at;
        mm_prot_t prot;
        struct mm_pagetable *pt = break_root(m, which, &at, &prot);
        mm_prot_t less = prot & ~MM_PROT_WRITE;

        assert_int_equal(t_map(pt, at, P1G, P1G, prot), MM_OK);
        assert_int_equal(
            t_protect(pt, at + 8 * P4K, 3 * P4K, less, MM_PAGING_SPLIT | MM_PAGING_MERGE), MM_OK);
        assert_int_equal(t_leaf(pt, at).page.len, P4K);
        all_access(m, pt, at + 8 * P4K, 0);
        all_access(m, pt, at + 7 * P4K, T_MMU_WRITE);
        assert_int_equal(t_protect(pt, at + 8 * P4K, 3 * P4K, prot, MM_PAGING_MERGE), MM_OK);
        assert_int_equal(t_leaf(pt, at).page.len, P1G);
        one_size(m, pt, at, P1G);
        /* Narrowed and merged in one call: nobody may write after it. */
        assert_int_equal(t_protect(pt, at + P4K, P1G - P4K, less, MM_PAGING_SPLIT), MM_OK);
        all_access(m, pt, at, T_MMU_WRITE);
        assert_int_equal(t_protect(pt, at, P4K, less, MM_PAGING_MERGE), MM_OK);
        assert_int_equal(t_leaf(pt, at).page.len, P1G);
        assert_int_equal(t_leaf(pt, at).prot & MM_PROT_WRITE, 0);
        one_size(m, pt, at, P1G);
        assert_int_equal(t_unmap(pt, at, P1G, 0), MM_OK);
    }
    t_paging_delete(m);
}

/* --- what stays -------------------------------------------------------------------------------- */

/* Two declared ranges meet inside of 2 MiB: no leaf reaches from one into the other. */
static void test_declared_ranges_stay_apart(void **state)
{
    struct t_paging *m = break_machine(false, true);
    struct mm_pagetable pt = {0};
    struct mm_paging_config config = t_config(m);
    const struct mm_vrange ranges[] = {t_range(T_KERNEL_LOW, P2M + 16 * P4K),
                                       t_range(T_KERNEL_LOW + P2M + 16 * P4K, 3 * P2M)};

    (void)state;
    config.kernel_ranges = ranges;
    assert_int_equal(mm_paging_init_kernel(&pt, &config), MM_OK);
    map_4k(&pt, T_KERNEL_LOW, P1G, P2M + 16 * P4K, MM_PROT_RW, MM_MEMTYPE_WB);
    map_4k(&pt, ranges[1].start.raw, P1G + P2M + 16 * P4K, 3 * P2M, MM_PROT_RW, MM_MEMTYPE_WB);
    assert_int_equal(merge(&pt, T_KERNEL_LOW, P2M + 16 * P4K), 1);
    assert_int_equal(merge(&pt, ranges[1].start.raw, 3 * P2M), 2);
    assert_int_equal(t_leaf(&pt, T_KERNEL_LOW + P2M).page.len, P4K);
    assert_int_equal(pt.nr_leaves[1], 3);
    assert_int_equal(mm_paging_destroy(&pt), MM_OK);
    t_paging_delete(m);
}

/* Tables that a boot loader made stay as they are; ours beside them merge. */
static void test_adopted_tables_stay(void **state)
{
    struct t_paging *m = break_machine(false, true);
    struct mm_pagetable pt = {0};
    struct mm_paging_config config = t_config(m);
    uint64_t frames[4];
    uint64_t *lowest;

    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        mm_pfn_t frame = {0};

        assert_int_equal(t_source_alloc(m, MM_OWNER_KERNEL, true, &frame), MM_OK);
        frames[i] = frame.raw;
    }
    t_table(m, frames[0])[256] = frames[1] * P4K | 3;
    t_table(m, frames[1])[0] = frames[2] * P4K | 3;
    t_table(m, frames[2])[0] = frames[3] * P4K | 3;
    t_table(m, frames[2])[1] = (P1G + P2M) | 0x87; /* open to the user, by its own bit alone */
    lowest = t_table(m, frames[3]);
    for (unsigned i = 0; i < 512; i++) {
        lowest[i] = (P1G + i * P4K) | 3;
    }
    assert_int_equal(mm_paging_adopt(&pt, &config, mm_paddr(frames[0] * P4K)), MM_OK);
    assert_int_equal(merge(&pt, T_KERNEL_LOW, P2M), 0);
    assert_int_equal(t_leaf(&pt, T_KERNEL_LOW).page.len, P4K);
    map_4k(&pt, T_KERNEL_LOW + 2 * P2M, P1G, P2M, MM_PROT_RW, MM_MEMTYPE_WB);
    assert_int_equal(merge(&pt, T_KERNEL_LOW, 4 * P2M), 1);
    /* A split takes the user's right away, as our tables have none; the merge must not give it. */
    t_table(m, frames[0])[256] |= 4;
    t_table(m, frames[1])[0] |= 4;
    assert_int_equal(t_leaf(&pt, T_KERNEL_LOW + P2M).prot & MM_PROT_USER, MM_PROT_USER);
    assert_int_equal(
        mm_paging_set_type(&pt, t_range(T_KERNEL_LOW + P2M, P4K), MM_MEMTYPE_UC, MM_PAGING_SPLIT),
        MM_OK);
    assert_int_equal(
        mm_paging_set_type(&pt, t_range(T_KERNEL_LOW + P2M, P4K), MM_MEMTYPE_WB, MM_PAGING_SPLIT),
        MM_OK);
    assert_int_equal(merge(&pt, T_KERNEL_LOW, 4 * P2M), 0);
    assert_int_equal(t_leaf(&pt, T_KERNEL_LOW + P2M).prot & MM_PROT_USER, 0);
    assert_int_equal(mm_paging_destroy(&pt), MM_OK);
    for (unsigned i = 0; i < 4; i++) {
        t_source_free(m, mm_pfn(frames[i]));
    }
    t_paging_delete(m);
}

/* --- bad input --------------------------------------------------------------------------------- */

static void test_bad_input(void **state)
{
    struct t_paging *m = break_machine(false, true);
    struct mm_pagetable none = {0};
    struct mm_gather gather;
    struct mm_gather other;
    struct mm_gather never = {0};
    const struct {
        struct mm_vrange range;
        mm_status_t merge, reclaim;
    } cases[] = {
        {t_range(P1G + 1, P4K), MM_ERR_NOT_ALIGNED, MM_OK},
        {t_range(P1G, 1), MM_ERR_NOT_ALIGNED, MM_OK},
        {t_range(P1G, 0), MM_ERR_INVALID_SIZE, MM_ERR_INVALID_SIZE},
        {t_range(0 - P4K, 2 * P4K), MM_ERR_INVALID_SIZE, MM_ERR_INVALID_SIZE},
        {t_range(UINT64_MAX, 2), MM_ERR_NOT_ALIGNED, MM_ERR_INVALID_SIZE},
        {t_range(T_KERNEL_LOW, P4K), MM_ERR_INVALID_ADDRESS, MM_ERR_INVALID_ADDRESS},
        {t_range((UINT64_C(1) << 47) - P4K, 2 * P4K), MM_ERR_INVALID_ADDRESS,
         MM_ERR_INVALID_ADDRESS},
        {t_range(UINT64_C(1) << 47, P4K), MM_ERR_INVALID_ADDRESS, MM_ERR_INVALID_ADDRESS},
        {t_range(UINT64_C(1) << 56, P4K), MM_ERR_INVALID_ADDRESS, MM_ERR_INVALID_ADDRESS},
    };
    uint64_t nr = 77;
    uint64_t hash;

    (void)state;
    map_4k(&m->user, P1G, P1G, P2M, T_URW, MM_MEMTYPE_WB);
    assert_int_equal(mm_gather_begin(&gather, &m->user), MM_OK);
    assert_int_equal(mm_gather_begin(&other, &m->kernel), MM_OK);
    hash = t_state(m, &gather);
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(mm_paging_merge(&m->user, cases[i].range, &nr), cases[i].merge);
        assert_int_equal(mm_paging_reclaim(&m->user, cases[i].range, &gather), cases[i].reclaim);
    }
    assert_int_equal(mm_paging_merge(NULL, t_range(P1G, P2M), &nr), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_paging_merge(&none, t_range(P1G, P2M), &nr), MM_ERR_NOT_INITIALIZED);
    assert_int_equal(mm_paging_reclaim(NULL, t_range(P1G, P2M), &gather), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_paging_reclaim(&none, t_range(P1G, P2M), &gather), MM_ERR_NOT_INITIALIZED);
    assert_int_equal(mm_paging_reclaim(&m->user, t_range(P1G, P2M), NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_paging_reclaim(&m->user, t_range(P1G, P2M), &other),
                     MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_paging_reclaim(&m->user, t_range(P1G, P2M), &never),
                     MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(nr, 77);
    assert_true(hash == t_state(m, &gather));
    assert_int_equal(mm_paging_merge(&m->user, t_range(P1G, P2M), NULL), MM_OK);
    assert_int_equal(t_leaf(&m->user, P1G).page.len, P2M);
    assert_int_equal(t_unmap(&m->user, P1G, P2M, 0), MM_OK);
    t_paging_delete(m);
}

/* Through a physmap of ops, which has room for few tables. */
static void test_through_ops(void **state)
{
    struct t_paging *m = break_machine(false, true);

    (void)state;
    m->user.physmap = t_physmap_ops(m);
    all_enter(m, &m->user);
    map_4k(&m->user, P1G, P1G, P1G, T_URW, MM_MEMTYPE_WB);
    m->max_mapped = 0;
    assert_int_equal(merge(&m->user, P1G, P1G), 513);
    assert_true(m->max_mapped <= 3);
    assert_int_equal(t_unmap(&m->user, P1G, P1G, 0), MM_OK);
    t_paging_delete(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_there_and_back),
        cmocka_unit_test(test_one_that_differs),
        cmocka_unit_test(test_alignment),
        cmocka_unit_test(test_forbidden_pages),
        cmocka_unit_test(test_sizes_of_the_cpu),
        cmocka_unit_test(test_dirty_until_the_flush),
        cmocka_unit_test(test_flushes),
        cmocka_unit_test(test_map_completes),
        cmocka_unit_test(test_map_flag),
        cmocka_unit_test(test_protect_flag),
        cmocka_unit_test(test_declared_ranges_stay_apart),
        cmocka_unit_test(test_adopted_tables_stay),
        cmocka_unit_test(test_bad_input),
        cmocka_unit_test(test_through_ops),
    };

    return cmocka_run_group_tests_name("paging merge", tests, NULL, NULL);
}
