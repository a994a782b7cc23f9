// SPDX-License-Identifier: MIT
/**
 * Page tables, operation by operation: what each leaves behind, in the tables and in the TLB.
 * Hazards 7, 12 (order of linking), 13, 17, 18, 19.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "t_paging.h"

static int setup(void **state)
{
    struct t_paging *m = t_paging_new();

    t_paging_start(m);
    *state = m;
    return 0;
}

static int teardown(void **state)
{
    t_paging_delete(*state);
    return 0;
}

/* --- map ------------------------------------------------------------------------------------- */

static void test_largest_leaves(void **state)
{
    struct t_paging *m = *state;
    struct mm_paging_stats s;
    uint64_t start = 3 * P1G - P2M - P4K;

    /* 4K, 2M, 1G, 2M, 4K: as large as alignment and length allow, at each place. */
    assert_int_equal(t_map(&m->user, start, 8 * P1G + start, 2 * (P2M + P4K) + P1G, T_URW), MM_OK);
    assert_int_equal(t_leaf(&m->user, start).page.len, P4K);
    assert_int_equal(t_leaf(&m->user, start + P4K).page.len, P2M);
    assert_int_equal(t_leaf(&m->user, 3 * P1G + 12345).page.len, P1G);
    assert_int_equal(t_leaf(&m->user, 4 * P1G).page.len, P2M);
    assert_int_equal(t_leaf(&m->user, 4 * P1G + P2M).page.len, P4K);
    for (uint64_t at = start; at < start + 2 * (P2M + P4K) + P1G; at += 0x9f000) {
        assert_int_equal(t_paddr(&m->user, at), 8 * P1G + at);
    }
    assert_int_equal(mm_paging_get_stats(&m->user, &s), MM_OK);
    assert_int_equal(s.nr_leaves[0], 2);
    assert_int_equal(s.nr_leaves[1], 2);
    assert_int_equal(s.nr_leaves[2], 1);
    assert_int_equal(s.mapped_bytes, 2 * (P2M + P4K) + P1G);
    /* root, one table for 512 GiB, two for 1 GiB, two for 2 MiB */
    assert_int_equal(s.nr_tables, 6);
    assert_int_equal(m->user.nr_tables + m->kernel.nr_tables, m->nr_used);
    assert_int_equal(mm_paging_check(&m->user), MM_OK);

    assert_int_equal(t_unmap(&m->user, start, 2 * (P2M + P4K) + P1G, 0), MM_OK);
    assert_int_equal(mm_paging_get_stats(&m->user, &s), MM_OK);
    assert_int_equal(s.nr_tables, 1);
    assert_int_equal(s.mapped_bytes, 0);
}

static void test_leaf_size_limits(void **state)
{
    struct t_paging *m = *state;

    assert_int_equal(mm_paging_map(&m->user, t_range(P1G, P1G), mm_paddr(P1G), T_URW, MM_MEMTYPE_WB,
                                   MM_PAGING_MAX_2M),
                     MM_OK);
    assert_int_equal(m->user.nr_leaves[1], 512);
    assert_int_equal(mm_paging_map(&m->user, t_range(2 * P1G, P2M), mm_paddr(P1G), T_URW,
                                   MM_MEMTYPE_WB, MM_PAGING_ONLY_4K),
                     MM_OK);
    assert_int_equal(m->user.nr_leaves[0], 512);
    /* Misaligned to each other: no large leaf, whatever the length. */
    assert_int_equal(t_map(&m->user, 4 * P1G, 8 * P1G + P4K, P2M, T_URW), MM_OK);
    assert_int_equal(m->user.nr_leaves[0], 1024);
    assert_int_equal(t_unmap(&m->user, P1G, 4 * P1G, MM_PAGING_SKIP_HOLES), MM_OK);
    assert_int_equal(m->user.nr_tables, 1);
}

static void test_no_1g_leaf_without_feature(void **state)
{
    struct t_paging *m = t_paging_new();

    (void)state;
    m->cpus.has.page_1g = false;
    t_paging_start(m);
    assert_int_equal(t_map(&m->user, P1G, P1G, P1G, T_URW), MM_OK);
    assert_int_equal(m->user.nr_leaves[2], 0);
    assert_int_equal(m->user.nr_leaves[1], 512);
    assert_int_equal(t_unmap(&m->user, P1G, P1G, 0), MM_OK);
    t_paging_delete(m);
}

static void test_map_fills_existing_tables(void **state)
{
    struct t_paging *m = *state;
    uint64_t tables;

    /* Pages on both sides of a 2 MiB border, then all between and around. */
    assert_int_equal(t_map(&m->user, 5 * P2M + 7 * P4K, P1G, P4K, T_URW), MM_OK);
    assert_int_equal(t_map(&m->user, 7 * P2M + 100 * P4K, P1G, P4K, T_URW), MM_OK);
    tables = m->user.nr_tables;
    assert_int_equal(t_map(&m->user, 5 * P2M, 2 * P1G, 7 * P4K, T_UR), MM_OK);
    assert_int_equal(m->user.nr_tables, tables);
    assert_int_equal(
        t_map(&m->user, 5 * P2M + 8 * P4K, P1G + 5 * P2M + 8 * P4K, 2 * P2M + 92 * P4K, T_URX),
        MM_OK);
    assert_int_equal(m->user.nr_tables, tables); /* between them one 2 MiB leaf, no table */
    assert_int_equal(m->user.nr_leaves[1], 1);
    assert_int_equal(t_leaf(&m->user, 5 * P2M + 7 * P4K).prot, T_URW);
    assert_int_equal(t_leaf(&m->user, 5 * P2M + 8 * P4K).prot, T_URX);
    assert_int_equal(t_leaf(&m->user, 5 * P2M + 6 * P4K).prot, T_UR);
    assert_int_equal(mm_paging_check(&m->user), MM_OK);
    assert_int_equal(t_unmap(&m->user, 5 * P2M, 3 * P2M, MM_PAGING_SKIP_HOLES), MM_OK);
    assert_int_equal(m->nr_used, m->kernel.nr_tables + 1);
}

static void test_top_of_address_space(void **state)
{
    struct t_paging *m = *state;
    uint64_t last = UINT64_MAX - P4K + 1;
    struct mm_gather gather;

    assert_int_equal(t_map(&m->kernel, last, P1G, P4K, MM_PROT_RW), MM_OK);
    assert_int_equal(t_paddr(&m->kernel, UINT64_MAX), P1G + P4K - 1);
    assert_int_equal(t_protect(&m->kernel, last, P4K, MM_PROT_READ, 0), MM_OK);
    assert_int_equal(t_unmap(&m->kernel, last, P4K, 0), MM_OK);
    /* All of the declared range, with the largest leaves, and its last page taken out of one. */
    assert_int_equal(t_map(&m->kernel, T_KERNEL_TOP, 0, T_KERNEL_TOP_LEN, MM_PROT_RW), MM_OK);
    assert_int_equal(m->kernel.nr_leaves[2], 4);
    assert_int_equal(mm_gather_begin(&gather, &m->kernel), MM_OK);
    assert_int_equal(mm_paging_unmap(&m->kernel, t_range(last, P4K), MM_PAGING_SPLIT, &gather),
                     MM_OK);
    assert_int_equal(gather.nr_ranges, 1);
    assert_int_equal(gather.ranges[0].start.raw + gather.ranges[0].len, 0);
    mm_gather_end(&gather);
    assert_true(t_is_hole(&m->kernel, last));
    assert_int_equal(t_paddr(&m->kernel, last - 1), T_KERNEL_TOP_LEN - P4K - 1);
    assert_int_equal(t_unmap(&m->kernel, T_KERNEL_TOP, T_KERNEL_TOP_LEN, MM_PAGING_SKIP_HOLES),
                     MM_OK);
    /* The highest user page. */
    assert_int_equal(t_map(&m->user, (UINT64_C(1) << 47) - P4K, P1G, P4K, T_URW), MM_OK);
    assert_int_equal(t_unmap(&m->user, (UINT64_C(1) << 47) - P4K, P4K, 0), MM_OK);
}

/* --- unmap ----------------------------------------------------------------------------------- */

static void test_unmap_releases_frames(void **state)
{
    struct t_paging *m = *state;
    uint64_t base = T_LEAVES * 4096;
    uint64_t at = 64 * P2M;

    assert_int_equal(t_map(&m->user, at, base, 3 * P2M + 5 * P4K, T_URW), MM_OK);
    assert_int_equal(t_unmap(&m->user, at + P4K, 2 * P2M, MM_PAGING_SPLIT | MM_PAGING_RELEASE),
                     MM_OK);
    assert_int_equal(m->nr_released, 1024);
    for (unsigned i = 0; i < 3 * 512 + 5; i++) {
        assert_int_equal(m->released[i], i >= 1 && i < 1025 ? 1 : 0);
    }
    assert_int_equal(t_unmap(&m->user, at, 4 * P2M, MM_PAGING_SKIP_HOLES | MM_PAGING_RELEASE),
                     MM_OK);
    assert_int_equal(m->nr_released, 3 * 512 + 5);
    assert_int_equal(m->user.nr_tables, 1);
}

/* More runs than a gather has room for: it flushes and goes on, and no frame is freed before. */
static void test_gather_overflows(void **state)
{
    struct t_paging *m = *state;
    unsigned nr = 5 * MM_GATHER_MAX_RUNS;
    uint64_t at = 10 * P1G;

    assert_int_equal(mm_paging_activate(&m->user), MM_OK);
    for (unsigned i = 0; i < nr; i++) {
        assert_int_equal(t_map(&m->user, at + i * P4K, (T_LEAVES + 2 * (nr - i)) * P4K, P4K, T_URW),
                         MM_OK);
        assert_int_equal(t_cpu_access(m->cpu, at + i * P4K, T_MMU_USER | T_MMU_WRITE, NULL),
                         T_CPU_DONE);
    }
    assert_int_equal(t_unmap(&m->user, at, nr * P4K, MM_PAGING_RELEASE), MM_OK);
    assert_int_equal(m->nr_released, nr);
    t_nothing_stale(m);
    assert_int_equal(m->user.nr_tables, 1);
}

static void test_empty_tables_return(void **state)
{
    struct t_paging *m = *state;
    uint64_t before = m->nr_used;

    /* One page under each kind of table; each table goes with its last page. */
    for (unsigned i = 0; i < 8; i++) {
        assert_int_equal(t_map(&m->user, i * 0x8040201000, P1G, P4K, T_URW), MM_OK);
    }
    for (unsigned i = 0; i < 8; i++) {
        assert_int_equal(t_unmap(&m->user, i * 0x8040201000, P4K, 0), MM_OK);
        assert_int_equal(mm_paging_check(&m->user), MM_OK);
    }
    assert_int_equal(m->nr_used, before);
    /* The kernel's tables below the root stay. */
    assert_int_equal(t_map(&m->kernel, T_KERNEL_LOW, P1G, P4K, MM_PROT_RW), MM_OK);
    assert_int_equal(t_unmap(&m->kernel, T_KERNEL_LOW, P4K, 0), MM_OK);
    assert_int_equal(m->kernel.nr_tables, 3);
}

static void test_tables_wait_for_the_flush(void **state)
{
    struct t_paging *m = *state;
    struct mm_gather gather;
    uint64_t before;

    assert_int_equal(t_map(&m->user, P1G, P1G, P4K, T_URW), MM_OK);
    before = m->nr_used;
    assert_int_equal(mm_gather_begin(&gather, &m->user), MM_OK);
    assert_int_equal(mm_paging_unmap(&m->user, t_range(P1G, P4K), 0, &gather), MM_OK);
    assert_int_equal(m->nr_used, before);
    assert_int_equal(gather.nr_tables, 3);
    for (uint64_t frame = 0; frame < m->highest; frame++) {
        uint64_t slot = t_table(m, frame)[0];

        /* Chained tables: not present, and no address that memory has (L1TF). */
        if (m->used[frame] && slot != 0 && (slot & 1) == 0) {
            assert_int_equal(slot & UINT64_C(0x000ff80000000000), UINT64_C(0x000ff80000000000));
        }
    }
    mm_gather_end(&gather);
    assert_int_equal(m->nr_used, before - 3);
    mm_gather_end(&gather); /* empty by now: nothing happens */
    assert_int_equal(m->nr_used, before - 3);
}

/* --- protect --------------------------------------------------------------------------------- */

static void test_protect_and_split(void **state)
{
    struct t_paging *m = *state;

    assert_int_equal(t_map(&m->user, 8 * P1G, 8 * P1G, 2 * P1G, T_URW), MM_OK);
    /* One page out of the middle of 1 GiB: a table of 2 MiB leaves and one of 4 KiB. */
    assert_int_equal(t_protect(&m->user, 8 * P1G + 3 * P2M + 9 * P4K, P4K, T_UR, MM_PAGING_SPLIT),
                     MM_OK);
    assert_int_equal(m->user.nr_leaves[2], 1);
    assert_int_equal(m->user.nr_leaves[1], 511);
    assert_int_equal(m->user.nr_leaves[0], 512);
    for (uint64_t at = 8 * P1G; at < 10 * P1G; at += 0xff000) {
        struct mm_mapping leaf = t_leaf(&m->user, at);

        assert_int_equal(t_paddr(&m->user, at), at);
        assert_int_equal(leaf.prot, T_URW);
    }
    assert_int_equal(t_leaf(&m->user, 8 * P1G + 3 * P2M + 9 * P4K).prot, T_UR);
    assert_int_equal(t_leaf(&m->user, 8 * P1G + 3 * P2M + 8 * P4K).prot, T_URW);
    /* Both ends in different leaves, one cut at 2 MiB only. */
    assert_int_equal(
        t_protect(&m->user, 8 * P1G + 5 * P2M + P4K, P1G + P2M - P4K, T_UR, MM_PAGING_SPLIT),
        MM_OK);
    assert_int_equal(t_leaf(&m->user, 9 * P1G + 6 * P2M - 1).prot, T_UR);
    assert_int_equal(t_leaf(&m->user, 9 * P1G + 6 * P2M).prot, T_URW);
    assert_int_equal(t_leaf(&m->user, 9 * P1G + 6 * P2M).page.len, P2M);
    assert_int_equal(mm_paging_check(&m->user), MM_OK);
    assert_int_equal(t_unmap(&m->user, 8 * P1G, 2 * P1G, 0), MM_OK);
    assert_int_equal(m->user.nr_tables, 1);
}

/* What nothing may access is no present entry, keeps its frame, and shows no address to a CPU that
 * speculates (hazard 19). */
static void test_forbidden_pages(void **state)
{
    static const uint64_t sizes[] = {P4K, P2M, P1G};
    struct t_paging *m = *state;

    /* Nothing was accessed: being forbidden for a while changes nothing of that. */
    assert_int_equal(t_map(&m->user, P1G, P1G, P4K, T_URW), MM_OK);
    assert_int_equal(t_protect(&m->user, P1G, P4K, MM_PROT_USER, 0), MM_OK);
    assert_false(t_leaf(&m->user, P1G).accessed || t_leaf(&m->user, P1G).dirty);
    assert_int_equal(t_protect(&m->user, P1G, P4K, T_URW, 0), MM_OK);
    assert_false(t_leaf(&m->user, P1G).accessed || t_leaf(&m->user, P1G).dirty);
    assert_int_equal(t_unmap(&m->user, P1G, P4K, 0), MM_OK);
    assert_int_equal(mm_paging_activate(&m->user), MM_OK);
    for (unsigned i = 0; i < 3; i++) {
        uint64_t at = 16 * P1G;
        uint64_t paddr = (UINT64_C(1) << 45) + 5 * P1G;
        struct mm_mapping leaf;

        assert_int_equal(mm_paging_map(&m->user, t_range(at, sizes[i]), mm_paddr(paddr), T_URW,
                                       MM_MEMTYPE_WC, 0),
                         MM_OK);
        assert_int_equal(t_cpu_access(m->cpu, at, T_MMU_USER | T_MMU_WRITE, NULL), T_CPU_DONE);
        assert_int_equal(t_protect(&m->user, at, sizes[i], MM_PROT_NONE | MM_PROT_USER, 0), MM_OK);
        t_nothing_stale(m);
        assert_int_equal(t_cpu_access(m->cpu, at, T_MMU_USER, NULL), T_MMU_ERR_U);
        leaf = t_leaf(&m->user, at);
        assert_int_equal(leaf.prot, MM_PROT_NONE);
        assert_int_equal(leaf.paddr.raw, paddr);
        assert_int_equal(leaf.page.len, sizes[i]);
        assert_int_equal(leaf.type, MM_MEMTYPE_WC);
        assert_true(leaf.dirty && leaf.accessed);
        for (uint64_t frame = 0; frame < m->highest; frame++) {
            for (unsigned n = 0; m->used[frame] && n < 512; n++) {
                uint64_t slot = t_table(m, frame)[n];

                assert_true((slot & 1) != 0 || slot == 0 ||
                            (slot & UINT64_C(0x000ff80000000000)) == UINT64_C(0x000ff80000000000));
            }
        }
        /* A part of it, where it has parts, comes back to what it was. */
        if (sizes[i] > P4K) {
            assert_int_equal(t_protect(&m->user, at + P4K, P4K, T_URX, MM_PAGING_SPLIT), MM_OK);
            leaf = t_leaf(&m->user, at + P4K);
            assert_int_equal(leaf.paddr.raw, paddr + P4K);
            assert_int_equal(leaf.type, MM_MEMTYPE_WC);
            assert_int_equal(t_leaf(&m->user, at + 2 * P4K).paddr.raw, paddr + 2 * P4K);
            assert_int_equal(t_leaf(&m->user, at).prot, MM_PROT_NONE);
        }
        assert_int_equal(t_protect(&m->user, at, sizes[i], T_URW, 0), MM_OK);
        for (uint64_t off = 0; off < sizes[i]; off += sizes[i] / 8 + P4K) {
            assert_int_equal(t_paddr(&m->user, at + off), paddr + off);
            assert_int_equal(t_leaf(&m->user, at + off).prot, T_URW);
            assert_true(t_leaf(&m->user, at + off).dirty);
        }
        assert_int_equal(mm_paging_check(&m->user), MM_OK);
        assert_int_equal(t_unmap(&m->user, at, sizes[i], 0), MM_OK);
    }
    /* Mapped so from the start. */
    assert_int_equal(t_map(&m->user, 0, P1G, P2M + P4K, MM_PROT_USER), MM_OK);
    assert_int_equal(t_leaf(&m->user, P2M).paddr.raw, P1G + P2M);
    assert_int_equal(t_leaf(&m->user, 0).prot, MM_PROT_NONE);
    assert_int_equal(t_protect(&m->user, 0, P2M + P4K, T_UR, 0), MM_OK);
    assert_int_equal(t_paddr(&m->user, 5), P1G + 5);
    assert_int_equal(t_unmap(&m->user, 0, P2M + P4K, 0), MM_OK);
}

static void test_accessed_and_dirty_stay(void **state)
{
    struct t_paging *m = *state;
    struct mm_mapping leaf;

    assert_int_equal(t_map(&m->kernel, T_KERNEL_LOW, P1G, P2M, MM_PROT_RW), MM_OK);
    leaf = t_leaf(&m->kernel, T_KERNEL_LOW);
    assert_false(leaf.accessed || leaf.dirty);
    assert_int_equal(t_cpu_access(m->cpu, T_KERNEL_LOW + 77, 0, NULL), T_CPU_DONE);
    leaf = t_leaf(&m->kernel, T_KERNEL_LOW);
    assert_true(leaf.accessed && !leaf.dirty);
    assert_int_equal(t_cpu_access(m->cpu, T_KERNEL_LOW + 77, T_MMU_WRITE, NULL), T_CPU_DONE);
    assert_int_equal(t_protect(&m->kernel, T_KERNEL_LOW + P4K, P4K, MM_PROT_READ, MM_PAGING_SPLIT),
                     MM_OK);
    for (uint64_t at = T_KERNEL_LOW; at < T_KERNEL_LOW + P2M; at += P4K) {
        leaf = t_leaf(&m->kernel, at);
        assert_true(leaf.accessed && leaf.dirty);
        assert_int_equal(leaf.page.len, P4K);
    }
    t_nothing_stale(m);
    assert_int_equal(t_unmap(&m->kernel, T_KERNEL_LOW, P2M, 0), MM_OK);
}

/* --- replace --------------------------------------------------------------------------------- */

static void test_replace(void **state)
{
    struct t_paging *m = *state;
    uint64_t old = (T_LEAVES + 7) * P4K;
    struct mm_gather gather;
    uint64_t seen;

    assert_int_equal(mm_paging_activate(&m->user), MM_OK);
    assert_int_equal(
        mm_paging_map(&m->user, t_range(P1G, P4K), mm_paddr(old), T_UR, MM_MEMTYPE_WT, 0), MM_OK);
    assert_int_equal(t_cpu_access(m->cpu, P1G, T_MMU_USER, &seen), T_CPU_DONE);
    assert_int_equal(seen, old);
    assert_int_equal(mm_gather_begin(&gather, &m->user), MM_OK);
    assert_int_equal(mm_paging_replace(&m->user, mm_vaddr(P1G), mm_paddr(old + P2M), T_URW,
                                       MM_PAGING_RELEASE, &gather),
                     MM_OK);
    assert_int_equal(m->nr_released, 0);
    mm_gather_end(&gather);
    assert_int_equal(m->released[7], 1);
    assert_int_equal(t_cpu_access(m->cpu, P1G + 1, T_MMU_USER | T_MMU_WRITE, &seen), T_CPU_DONE);
    assert_int_equal(seen, old + P2M + 1);
    assert_int_equal(t_leaf(&m->user, P1G).type, MM_MEMTYPE_WT);
    assert_int_equal(m->user.nr_leaves[0], 1);
    assert_int_equal(t_unmap(&m->user, P1G, P4K, 0), MM_OK);
}

/* --- flushing -------------------------------------------------------------------------------- */

static void test_flush_is_no_more_than_needed(void **state)
{
    struct t_paging *m = *state;
    struct t_cpu *cpu = m->cpu;
    uint64_t pages = MM_GATHER_FLUSH_PAGES;
    struct mm_gather gather;

    /* A user root that is not in use: nothing. */
    assert_int_equal(t_map(&m->user, 0, P1G, pages * P4K, T_URW), MM_OK);
    cpu->nr_invlpg = cpu->nr_cr3 = cpu->nr_invpcid = cpu->nr_cr4 = 0;
    assert_int_equal(t_unmap(&m->user, 0, pages * P4K, 0), MM_OK);
    assert_int_equal(cpu->nr_invlpg + cpu->nr_cr3 + cpu->nr_invpcid + cpu->nr_cr4, 0);
    /* Up to the threshold, page by page; above, all at once, global ones too: another gather that
     * is still open may have taken the right to be global away. */
    assert_int_equal(t_map(&m->kernel, T_KERNEL_LOW, P1G, 2 * P2M, MM_PROT_RW), MM_OK);
    assert_int_equal(t_protect(&m->kernel, T_KERNEL_LOW, P2M, MM_PROT_READ, 0), MM_OK);
    assert_int_equal(cpu->nr_invlpg, 1); /* a leaf is one page, whatever its size */
    assert_int_equal(t_unmap(&m->kernel, T_KERNEL_LOW, 2 * P2M, 0), MM_OK);
    assert_int_equal(cpu->nr_invlpg, 3);
    assert_int_equal(cpu->nr_invpcid, 0);
    assert_int_equal(t_map(&m->kernel, T_KERNEL_LOW, P1G, 2 * P2M + P4K, MM_PROT_RW), MM_OK);
    assert_int_equal(t_protect(&m->kernel, T_KERNEL_LOW, 2 * P2M + P4K, MM_PROT_READ, 0), MM_OK);
    assert_int_equal(cpu->nr_invpcid, 1);
    assert_int_equal(t_unmap(&m->kernel, T_KERNEL_LOW, 2 * P2M + P4K, 0), MM_OK);
    assert_int_equal(cpu->nr_invpcid, 2);
    cpu->nr_invlpg = 0;
    assert_int_equal(t_map(&m->kernel, T_KERNEL_LOW, P1G, pages * P4K, MM_PROT_RW), MM_OK);
    assert_int_equal(t_unmap(&m->kernel, T_KERNEL_LOW, pages * P4K, 0), MM_OK);
    assert_int_equal(cpu->nr_invlpg, pages);
    assert_int_equal(t_map(&m->kernel, T_KERNEL_LOW, P1G, (pages + 1) * P4K, MM_PROT_RW), MM_OK);
    assert_int_equal(t_unmap(&m->kernel, T_KERNEL_LOW, (pages + 1) * P4K, 0), MM_OK);
    assert_int_equal(cpu->nr_invlpg, pages);
    assert_int_equal(cpu->nr_invpcid, 3);
    /* The threshold is one for all ranges together. */
    assert_int_equal(mm_gather_begin(&gather, &m->kernel), MM_OK);
    mm_gather_add_range(&gather, t_range(T_KERNEL_LOW, pages * P4K));
    mm_gather_add_range(&gather, t_range(T_KERNEL_LOW + P1G, P4K));
    mm_gather_end(&gather);
    assert_int_equal(cpu->nr_invlpg, pages);
    assert_int_equal(cpu->nr_invpcid, 4);
    /* So it is with a global one among them: a new root would leave it. */
    assert_int_equal(t_map(&m->kernel, T_KERNEL_LOW, P1G, P2M + P4K, MM_PROT_RW | MM_PROT_GLOBAL),
                     MM_OK);
    assert_int_equal(t_cpu_access(cpu, T_KERNEL_LOW, 0, NULL), T_CPU_DONE);
    assert_int_equal(t_unmap(&m->kernel, T_KERNEL_LOW, P2M + P4K, 0), MM_OK);
    assert_int_equal(cpu->nr_invpcid, 5);
    assert_int_equal(cpu->nr_cr3, 0);
    t_nothing_stale(m);
    /* A protection that changes nothing. */
    assert_int_equal(t_map(&m->kernel, T_KERNEL_LOW, P1G, P4K, MM_PROT_RW), MM_OK);
    cpu->nr_invlpg = 0;
    assert_int_equal(t_protect(&m->kernel, T_KERNEL_LOW, P4K, MM_PROT_RW, 0), MM_OK);
    assert_int_equal(cpu->nr_invlpg, 0);
    assert_int_equal(t_unmap(&m->kernel, T_KERNEL_LOW, P4K, 0), MM_OK);
}

/* Owners who edit tables themselves may name any bytes: each page that has one of them goes. */
static void test_flush_of_parts_of_pages(void **state)
{
    static const struct {
        uint64_t start, len, pages;
    } parts[] = {
        {T_KERNEL_LOW, 1, 1},
        {T_KERNEL_LOW, P4K + 1, 2},
        {T_KERNEL_LOW + P4K - 1, 2, 2},
        {T_KERNEL_LOW + 5, 3 * P4K, 4},
        {T_KERNEL_LOW + 5, 3 * P4K - 5, 3},
        {UINT64_MAX - P4K, 3, 2},
        {UINT64_MAX - P4K, P4K + 1, 2},
    };
    struct t_paging *m = *state;

    for (unsigned i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        struct mm_gather gather;

        assert_int_equal(mm_gather_begin(&gather, &m->kernel), MM_OK);
        mm_gather_add_range(&gather, t_range(parts[i].start, parts[i].len));
        m->cpu->nr_invlpg = 0;
        mm_gather_end(&gather);
        assert_int_equal(m->cpu->nr_invlpg, parts[i].pages);
    }
}

static void test_global_flush_without_invpcid(void **state)
{
    struct t_paging *m = t_paging_new();

    (void)state;
    m->cpus.has.invpcid = false;
    t_paging_start(m);
    assert_int_equal(t_map(&m->kernel, T_KERNEL_LOW, P1G, P2M + P4K, MM_PROT_RW | MM_PROT_GLOBAL),
                     MM_OK);
    assert_int_equal(t_leaf(&m->kernel, T_KERNEL_LOW).prot, MM_PROT_RW | MM_PROT_GLOBAL);
    assert_int_equal(t_cpu_access(m->cpu, T_KERNEL_LOW, 0, NULL), T_CPU_DONE);
    m->cpu->nr_cr4 = 0;
    assert_int_equal(t_unmap(&m->kernel, T_KERNEL_LOW, P2M + P4K, 0), MM_OK);
    assert_int_equal(m->cpu->nr_cr4, 2);
    assert_true((m->cpu->mmu.cr4 & T_MMU_CR4_PGE) != 0);
    t_nothing_stale(m);
    t_paging_delete(m);
}

/* Splitting leaves no trace of the large leaf in the TLB, though only a part of it changed. */
static void test_split_flushes_the_whole_leaf(void **state)
{
    struct t_paging *m = *state;

    assert_int_equal(t_map(&m->kernel, T_KERNEL_LOW, P1G, P1G, MM_PROT_RW | MM_PROT_GLOBAL), MM_OK);
    assert_int_equal(t_cpu_access(m->cpu, T_KERNEL_LOW + 100 * P2M, 0, NULL), T_CPU_DONE);
    assert_int_equal(t_unmap(&m->kernel, T_KERNEL_LOW, P4K, MM_PAGING_SPLIT), MM_OK);
    t_nothing_stale(m);
    /* Even where no page changed what it allows: two sizes for one address are one too many. */
    assert_int_equal(t_cpu_access(m->cpu, T_KERNEL_LOW + 100 * P2M, 0, NULL), T_CPU_DONE);
    assert_int_equal(t_protect(&m->kernel, T_KERNEL_LOW + 100 * P2M + 7 * P4K, P4K,
                               MM_PROT_RW | MM_PROT_GLOBAL, MM_PAGING_SPLIT),
                     MM_OK);
    t_nothing_stale(m);
    assert_int_equal(t_unmap(&m->kernel, T_KERNEL_LOW, P1G, MM_PAGING_SKIP_HOLES), MM_OK);
}

static void test_gather_merges_ranges(void **state)
{
    struct t_paging *m = *state;
    struct mm_gather gather;

    assert_int_equal(mm_gather_begin(&gather, &m->kernel), MM_OK);
    mm_gather_add_range(&gather, t_range(P1G, P4K));
    mm_gather_add_range(&gather, t_range(P1G + P4K, P4K)); /* touches */
    assert_int_equal(gather.nr_ranges, 1);
    assert_int_equal(gather.ranges[0].len, 2 * P4K);
    mm_gather_add_range(&gather, t_range(P1G - P4K, 2 * P4K)); /* overlaps */
    assert_int_equal(gather.nr_ranges, 1);
    assert_int_equal(gather.ranges[0].len, 3 * P4K);
    mm_gather_add_range(&gather, t_range(0, 0));
    mm_gather_add_range(&gather, t_range(UINT64_MAX - P4K + 1, 2 * P4K)); /* wraps: none */
    assert_int_equal(gather.nr_ranges, 1);
    for (unsigned i = 0; i < 3 * MM_GATHER_MAX_RANGES; i++) {
        mm_gather_add_range(&gather, t_range(i * P2M, P4K));
    }
    assert_int_equal(gather.nr_ranges, MM_GATHER_MAX_RANGES);
    for (unsigned i = 0; i < 3 * MM_GATHER_MAX_RANGES; i++) {
        bool covered = false;

        for (unsigned r = 0; r < gather.nr_ranges; r++) {
            covered |= mm_vrange_contains(gather.ranges[r], mm_vaddr(i * P2M));
        }
        assert_true(covered);
    }
    mm_gather_add_range(&gather, t_range(UINT64_MAX - P4K + 1, P4K));
    m->cpu->nr_invpcid = 0;
    mm_gather_end(&gather);
    assert_int_equal(m->cpu->nr_invpcid, 1);
    assert_int_equal(gather.nr_ranges, 0);
    /* The whole address space has no length; nothing of it is forgotten. */
    mm_gather_add_range(&gather, t_range(0, UINT64_C(1) << 63));
    mm_gather_add_range(&gather, t_range(UINT64_C(1) << 63, UINT64_C(1) << 63));
    assert_int_equal(gather.nr_ranges, 1);
    assert_int_equal(gather.ranges[0].len, UINT64_MAX);
    mm_gather_end(&gather);
    assert_int_equal(m->cpu->nr_invpcid, 2);
}

/* --- walk ------------------------------------------------------------------------------------ */

struct seen {
    unsigned nr;
    unsigned stop_at;
    struct mm_mapping leaves[8];
};

static bool see(void *ctx, const struct mm_mapping *mapping)
{
    struct seen *seen = ctx;

    assert_true(seen->nr < 8);
    seen->leaves[seen->nr++] = *mapping;
    return seen->nr != seen->stop_at;
}

static void test_walk(void **state)
{
    struct t_paging *m = *state;
    struct seen seen = {0};

    assert_int_equal(t_map(&m->user, P1G - P4K, 5 * P1G - P4K, P4K + P1G + P2M, T_URW), MM_OK);
    assert_int_equal(t_map(&m->user, UINT64_C(1) << 46, P1G, P4K, MM_PROT_USER), MM_OK);
    assert_int_equal(t_map(&m->kernel, T_KERNEL_LOW, P1G, P4K, MM_PROT_RW), MM_OK);
    /* The lower half, all of it; then the upper one, which a user root shares. */
    assert_int_equal(mm_paging_walk(&m->user, t_range(0, UINT64_C(1) << 47), see, &seen), MM_OK);
    assert_int_equal(seen.nr, 4);
    assert_int_equal(seen.leaves[0].page.start.raw, P1G - P4K);
    assert_int_equal(seen.leaves[1].page.len, P1G);
    assert_int_equal(seen.leaves[2].paddr.raw, 6 * P1G);
    assert_int_equal(seen.leaves[3].prot, MM_PROT_NONE);
    assert_int_equal(mm_paging_walk(&m->user, t_range(T_KERNEL_LOW, 1), see, &seen), MM_OK);
    assert_int_equal(seen.nr, 5);
    assert_int_equal(seen.leaves[4].prot, MM_PROT_RW);
    /* A range inside a leaf sees all of the leaf; a visitor can end the walk. */
    seen = (struct seen){.stop_at = 1};
    assert_int_equal(mm_paging_walk(&m->user, t_range(P1G + 5, 2 * P1G), see, &seen), MM_OK);
    assert_int_equal(seen.nr, 1);
    assert_int_equal(seen.leaves[0].page.start.raw, P1G);
    assert_int_equal(t_unmap(&m->user, 0, UINT64_C(1) << 47, MM_PAGING_SKIP_HOLES), MM_OK);
    assert_int_equal(t_unmap(&m->kernel, T_KERNEL_LOW, P4K, 0), MM_OK);
}

static void test_translate_describes_holes(void **state)
{
    struct t_paging *m = *state;
    struct mm_mapping hole;

    assert_int_equal(t_map(&m->user, P1G, P1G, P4K, T_URW), MM_OK);
    assert_int_equal(mm_paging_translate(&m->user, mm_vaddr(P1G + P4K + 5), &hole),
                     MM_ERR_NOT_MAPPED);
    assert_int_equal(hole.page.start.raw, P1G + P4K);
    assert_int_equal(hole.page.len, P4K);
    assert_int_equal(hole.kind, MM_SLOT_EMPTY);
    assert_int_equal(hole.paddr.raw, 0);
    assert_int_equal(mm_paging_translate(&m->user, mm_vaddr(P1G + P2M), &hole), MM_ERR_NOT_MAPPED);
    assert_int_equal(hole.page.len, P2M);
    assert_int_equal(mm_paging_translate(&m->user, mm_vaddr(0), &hole), MM_ERR_NOT_MAPPED);
    assert_int_equal(hole.page.len, P1G);
    assert_int_equal(mm_paging_translate(&m->user, mm_vaddr(UINT64_C(1) << 46), &hole),
                     MM_ERR_NOT_MAPPED);
    assert_int_equal(hole.page.len, UINT64_C(1) << 39);
    assert_int_equal(t_unmap(&m->user, P1G, P4K, 0), MM_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_largest_leaves, setup, teardown),
        cmocka_unit_test_setup_teardown(test_leaf_size_limits, setup, teardown),
        cmocka_unit_test(test_no_1g_leaf_without_feature),
        cmocka_unit_test_setup_teardown(test_map_fills_existing_tables, setup, teardown),
        cmocka_unit_test_setup_teardown(test_top_of_address_space, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unmap_releases_frames, setup, teardown),
        cmocka_unit_test_setup_teardown(test_gather_overflows, setup, teardown),
        cmocka_unit_test_setup_teardown(test_empty_tables_return, setup, teardown),
        cmocka_unit_test_setup_teardown(test_tables_wait_for_the_flush, setup, teardown),
        cmocka_unit_test_setup_teardown(test_protect_and_split, setup, teardown),
        cmocka_unit_test_setup_teardown(test_forbidden_pages, setup, teardown),
        cmocka_unit_test_setup_teardown(test_accessed_and_dirty_stay, setup, teardown),
        cmocka_unit_test_setup_teardown(test_replace, setup, teardown),
        cmocka_unit_test_setup_teardown(test_flush_is_no_more_than_needed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_flush_of_parts_of_pages, setup, teardown),
        cmocka_unit_test(test_global_flush_without_invpcid),
        cmocka_unit_test_setup_teardown(test_split_flushes_the_whole_leaf, setup, teardown),
        cmocka_unit_test_setup_teardown(test_gather_merges_ranges, setup, teardown),
        cmocka_unit_test_setup_teardown(test_walk, setup, teardown),
        cmocka_unit_test_setup_teardown(test_translate_describes_holes, setup, teardown),
    };

    return cmocka_run_group_tests_name("paging", tests, NULL, NULL);
}
