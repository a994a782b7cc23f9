// SPDX-License-Identifier: MIT
/**
 * One page at a time, as faults that share the owner's lock do it: look, fill, swap and flush, on
 * user roots of each make, beside mm_paging_slot_get() and what the simulated CPUs see. Races are
 * settled in the source of frames; real threads are in test_paging_page_threads.c. Hazards 12, 13,
 * 16, 17.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "t_tlb.h"

#include "core/paging/page.h"

#define AT       (3 * P1G + 5 * P4K)
#define FRAME(n) mm_paddr(64 * P1G + (n)*P4K)

/* How a user root is made. */
struct make {
    bool by_ops; /* no direct map */
    bool la57;
    bool pairs;
};

static const struct make makes[] = {
    {false, false, false}, {true, false, false}, {false, true, false},
    {false, false, true},  {true, true, true},
};

struct rig {
    struct t_paging *m;
    struct mm_pagetable *pt;
    struct mm_pagetable entry; /* with pairs */
};

static const struct mm_vrange entries[] = {{{T_KERNEL_TOP}, P4K}};

static struct rig *rig_new(const struct make *make)
{
    struct rig *r = calloc(1, sizeof(*r));
    struct mm_paging_config config;
    struct mm_physmap by_ops;

    assert_non_null(r);
    r->m = t_paging_new();
    r->pt = &r->m->user;
    r->m->cpu->mmu.cr4 |= make->la57 ? T_MMU_CR4_LA57 : 0;
    t_paging_arch(r->m);
    config = t_config(r->m);
    by_ops = t_physmap_ops(r->m);
    config.physmap = make->by_ops ? &by_ops : config.physmap;
    config.flags = make->pairs ? MM_PAGING_PAIRS : 0;
    assert_int_equal(mm_paging_init_kernel(&r->m->kernel, &config), MM_OK);
    if (make->pairs) {
        assert_int_equal(mm_paging_init_entry(&r->entry, &r->m->kernel, entries, 1), MM_OK);
    }
    assert_int_equal(mm_paging_init_user(r->pt, &r->m->kernel), MM_OK);
    assert_int_equal(mm_paging_activate(r->pt), MM_OK);
    return r;
}

static void rig_delete(struct rig *r)
{
    t_cpu_write_cr(r->m->cpu, 3, T_TABLES * 4096u);
    assert_int_equal(mm_paging_check(r->pt), MM_OK);
    assert_int_equal(mm_paging_destroy(r->pt), MM_OK);
    if (r->entry.magic != 0) {
        assert_int_equal(mm_paging_destroy(&r->entry), MM_OK);
    }
    t_paging_delete(r->m);
    free(r);
}

/* A test for each make. */
#define EACH(r)                                                                                    \
    for (unsigned make_ = 0; make_ < sizeof(makes) / sizeof(makes[0]); make_++)                    \
        for (struct rig *r = rig_new(&makes[make_]); r != NULL; rig_delete(r), r = NULL)

/* What is at a page, the same as by the public calls. */
static struct mmi_page look(const struct mm_pagetable *pt, uint64_t at)
{
    struct mmi_page page;
    struct mm_mapping leaf;
    struct mm_slot slot;

    memset(&page, 0xa5, sizeof(page));
    mmi_page_look(pt, at, &page);
    assert_int_equal(mm_paging_slot_get(pt, mm_vaddr(at), &slot), MM_OK);
    assert_int_equal(page.raw, slot.raw);
    assert_int_equal(UINT64_C(1) << page.shift, slot.page.len);
    if (mm_paging_translate(pt, mm_vaddr(at), &leaf) != MM_OK) {
        assert_int_equal(page.kind, slot.kind == MM_SLOT_EMPTY ? MMI_PAGE_HOLE : MMI_PAGE_SOFT);
        assert_int_equal(page.paddr.raw, 0);
        assert_int_equal(page.prot, MM_PROT_NONE);
        assert_false(page.accessed || page.dirty);
        return page;
    }
    assert_int_equal(page.kind, leaf.page.len == P4K ? MMI_PAGE_LEAF : MMI_PAGE_LARGE);
    assert_int_equal(page.paddr.raw, leaf.paddr.raw + (at - leaf.page.start.raw));
    assert_int_equal(page.prot, leaf.prot);
    assert_int_equal(page.accessed, leaf.accessed);
    assert_int_equal(page.dirty, leaf.dirty);
    return page;
}

/* The leaf at an address is this, also to the CPU: from either root of a pair. */
static void sees(struct rig *r, uint64_t at, mm_paddr_t paddr)
{
    uint64_t got = 0;

    t_cpu_write_cr(r->m->cpu, 3, r->pt->root.raw);
    assert_int_equal(t_cpu_access(r->m->cpu, at + 7, T_MMU_USER, &got), T_CPU_DONE);
    assert_int_equal(got, paddr.raw + 7);
    t_cpu_write_cr(r->m->cpu, 3, r->pt->kernel_root.raw);
    assert_int_equal(t_cpu_access(r->m->cpu, at + 7, T_MMU_AC, &got), T_CPU_DONE);
    assert_int_equal(got, paddr.raw + 7);
}

static void counted(struct rig *r, uint64_t leaves)
{
    struct mm_paging_stats stats;

    assert_int_equal(mm_paging_get_stats(r->pt, &stats), MM_OK);
    assert_int_equal(stats.nr_leaves[0], leaves);
}

/* --- looking and filling ------------------------------------------------------------------------ */

static void test_fill(void **state)
{
    static const uint64_t places[] = {
        AT, AT + P4K, AT + P2M, AT + P1G, AT + 512 * P1G, (UINT64_C(1) << 47) - P4K, 0};
    static const mm_prot_t prots[] = {T_URW, T_UR, T_URX, T_URW | MM_PROT_EXEC, MM_PROT_NONE};
    unsigned nr = sizeof(places) / sizeof(places[0]);

    (void)state;
    EACH(r)
    {
        for (unsigned i = 0; i < nr; i++) {
            mm_prot_t prot = prots[i % 5];
            struct mmi_page page = look(r->pt, places[i]);

            assert_int_equal(page.kind, MMI_PAGE_HOLE);
            assert_int_equal(mmi_page_fill(r->pt, places[i], FRAME(i), prot), MM_OK);
            page = look(r->pt, places[i]);
            assert_int_equal(page.kind, MMI_PAGE_LEAF);
            assert_int_equal(page.paddr.raw, FRAME(i).raw);
            assert_int_equal(page.prot, prot);
            assert_false(page.accessed || page.dirty);
            if (prot != MM_PROT_NONE) {
                sees(r, places[i], FRAME(i));
            }
            counted(r, 0);
        }
        mmi_page_count(r->pt, nr);
        counted(r, nr);
        assert_int_equal(mm_paging_check(r->pt), MM_OK);
        t_nothing_stale(r->m);
    }
}

/* Where something is, of any kind and size, nothing is put. */
static void test_fill_busy(void **state)
{
    struct mm_slot soft = mm_slot_soft(3, 77);

    (void)state;
    EACH(r)
    {
        struct mm_slot seen = mm_slot_empty();
        uint64_t before;

        assert_int_equal(t_map(r->pt, AT, FRAME(1).raw, P4K, T_UR), MM_OK);
        assert_int_equal(t_map(r->pt, 8 * P1G, 16 * P1G, P1G + P2M, T_URW), MM_OK);
        assert_int_equal(mm_paging_slot_cas(r->pt, mm_vaddr(AT + P4K), P4K, &seen, &soft, NULL),
                         MM_OK);
        assert_int_equal(mm_paging_guard(r->pt, t_range(P1G, P2M)), MM_OK);
        assert_int_equal(look(r->pt, 8 * P1G + 5 * P4K).kind, MMI_PAGE_LARGE);
        assert_int_equal(look(r->pt, 9 * P1G + 5 * P4K).kind, MMI_PAGE_LARGE);
        assert_int_equal(look(r->pt, AT + P4K).kind, MMI_PAGE_SOFT);
        assert_int_equal(look(r->pt, P1G + 9 * P4K).kind, MMI_PAGE_SOFT);
        before = t_state(r->m, NULL);
        assert_int_equal(mmi_page_fill(r->pt, AT, FRAME(2), T_URW), MM_ERR_BUSY);
        assert_int_equal(mmi_page_fill(r->pt, AT + P4K, FRAME(2), T_URW), MM_ERR_BUSY);
        assert_int_equal(mmi_page_fill(r->pt, AT, FRAME(2), MM_PROT_NONE), MM_ERR_BUSY);
        assert_int_equal(mmi_page_fill(r->pt, 8 * P1G + 5 * P4K, FRAME(2), T_URW), MM_ERR_BUSY);
        assert_int_equal(mmi_page_fill(r->pt, 9 * P1G + 5 * P4K, FRAME(2), T_URW), MM_ERR_BUSY);
        assert_int_equal(mmi_page_fill(r->pt, P1G + 9 * P4K, FRAME(2), T_URW), MM_ERR_BUSY);
        assert_int_equal(t_state(r->m, NULL), before);
    }
}

/* A source that fails at any of the tables that are missing: nothing has changed. */
static void test_fill_fails(void **state)
{
    (void)state;
    EACH(r)
    {
        unsigned points = 0;

        for (uint64_t n = 1;; n++) {
            uint64_t before = t_state(r->m, NULL);
            uint64_t used = r->m->nr_used;
            mm_status_t status;

            t_inject_nth(&r->m->inject, n);
            status = mmi_page_fill(r->pt, AT, FRAME(1), T_URW);
            if (r->m->inject.fired == 0) {
                assert_int_equal(status, MM_OK);
                break;
            }
            assert_int_equal(status, MM_ERR_NO_MEMORY);
            assert_int_equal(r->m->nr_used, used);
            assert_int_equal(t_state(r->m, NULL), before);
            points++;
        }
        t_inject_never(&r->m->inject);
        assert_int_equal(points, r->m->arch.features.vaddr_bits == 57 ? 4 : 3);
        mmi_page_count(r->pt, 1);
    }
}

/* A kernel root goes the general way. */
static void test_kernel(void **state)
{
    (void)state;
    EACH(r)
    {
        struct mm_pagetable *kernel = &r->m->kernel;
        mm_prot_t prot = MM_PROT_RW | MM_PROT_GLOBAL;
        struct mmi_page page;

        assert_int_equal(mmi_page_fill(kernel, T_KERNEL_LOW, FRAME(1), prot), MM_OK);
        page = look(kernel, T_KERNEL_LOW);
        assert_int_equal(page.prot, r->entry.magic != 0 ? MM_PROT_RW : prot);
        assert_int_equal(mmi_page_swap(kernel, T_KERNEL_LOW, &page, FRAME(2), prot), MM_OK);
        mmi_page_flush(kernel, T_KERNEL_LOW);
        t_nothing_stale(r->m);
        assert_int_equal(look(kernel, T_KERNEL_LOW).paddr.raw, FRAME(2).raw);
        mmi_page_count(kernel, 1);
        assert_int_equal(mm_paging_check(kernel), MM_OK);
        assert_int_equal(t_unmap(kernel, T_KERNEL_LOW, P4K, 0), MM_OK);
    }
}

/* --- exchanging --------------------------------------------------------------------------------- */

/* Another frame: not accessed. The same: what the hardware had said stays. Dirty stays with both. */
static void test_swap(void **state)
{
    (void)state;
    EACH(r)
    {
        struct mm_slot empty = mm_slot_empty();
        struct mm_slot leaf = mm_slot_leaf(FRAME(1), T_URW, MM_MEMTYPE_WT);
        struct mmi_page page;
        struct mm_mapping now;

        leaf.software = 5;
        leaf.key = r->m->arch.features.pku ? 9 : 0;
        assert_int_equal(mm_paging_slot_cas(r->pt, mm_vaddr(AT), P4K, &empty, &leaf, NULL), MM_OK);
        assert_int_equal(t_cpu_access(r->m->cpu, AT,
                                      T_MMU_WRITE | (r->entry.magic == 0 ? T_MMU_USER : T_MMU_AC),
                                      NULL),
                         T_CPU_DONE);
        for (unsigned i = 0; i < 4; i++) {
            static const mm_prot_t prots[] = {T_UR, MM_PROT_NONE, T_URX, T_URW};

            page = look(r->pt, AT);
            assert_true(page.accessed && page.dirty);
            assert_int_equal(mmi_page_swap(r->pt, AT, &page, FRAME(1), prots[i]), MM_OK);
            mmi_page_flush(r->pt, AT);
            t_nothing_stale(r->m);
            now = t_leaf(r->pt, AT);
            assert_int_equal(now.paddr.raw, FRAME(1).raw);
            assert_int_equal(now.prot, prots[i]);
            assert_true(now.accessed && now.dirty);
            assert_true(now.software == 5 && now.key == leaf.key && now.type == MM_MEMTYPE_WT);
        }
        page = look(r->pt, AT);
        assert_int_equal(mmi_page_swap(r->pt, AT, &page, FRAME(2), T_UR), MM_OK);
        mmi_page_flush(r->pt, AT);
        t_nothing_stale(r->m);
        now = t_leaf(r->pt, AT);
        assert_int_equal(now.paddr.raw, FRAME(2).raw);
        assert_int_equal(now.prot, T_UR);
        assert_true(!now.accessed && now.dirty);
        assert_true(now.software == 5 && now.key == leaf.key && now.type == MM_MEMTYPE_WT);
        sees(r, AT, FRAME(2));
        counted(r, 1);
    }
}

/* What changed since it was looked at, by the hardware too, is told and not overwritten. */
static void test_swap_busy(void **state)
{
    (void)state;
    EACH(r)
    {
        unsigned user = r->entry.magic == 0 ? T_MMU_USER : T_MMU_AC;
        struct mmi_page page;
        uint64_t before;

        assert_int_equal(t_map(r->pt, AT, FRAME(1).raw, P4K, T_URW), MM_OK);
        page = look(r->pt, AT);
        assert_int_equal(t_cpu_access(r->m->cpu, AT, T_MMU_WRITE | user, NULL), T_CPU_DONE);
        before = t_state(r->m, NULL);
        assert_int_equal(mmi_page_swap(r->pt, AT, &page, FRAME(1), T_UR), MM_ERR_BUSY);
        assert_int_equal(t_state(r->m, NULL), before);
        assert_true(page.kind == MMI_PAGE_LEAF && page.accessed && page.dirty);
        assert_int_equal(page.raw, look(r->pt, AT).raw);
        assert_int_equal(mmi_page_swap(r->pt, AT, &page, FRAME(1), T_UR), MM_OK);
        mmi_page_flush(r->pt, AT);
        page = look(r->pt, AT);
        assert_int_equal(t_unmap(r->pt, AT, P4K, 0), MM_OK);
        before = t_state(r->m, NULL);
        assert_int_equal(mmi_page_swap(r->pt, AT, &page, FRAME(1), T_URW), MM_ERR_BUSY);
        assert_int_equal(page.kind, MMI_PAGE_HOLE);
        assert_int_equal(t_state(r->m, NULL), before);
        assert_int_equal(t_map(r->pt, AT & ~(P2M - 1), 16 * P1G, P2M, T_URW), MM_OK);
        page.kind = MMI_PAGE_LEAF;
        page.raw = ~UINT64_C(0);
        before = t_state(r->m, NULL);
        assert_int_equal(mmi_page_swap(r->pt, AT, &page, FRAME(1), T_URW), MM_ERR_BUSY);
        assert_int_equal(page.kind, MMI_PAGE_LARGE);
        assert_int_equal(t_state(r->m, NULL), before);
    }
}

/* --- flushing ----------------------------------------------------------------------------------- */

/* CPUs with a tlb that keep what they have seen until they are told. */
static void test_flush(void **state)
{
    struct t_tlb *t = calloc(1, sizeof(*t));
    struct mm_pagetable *pt;
    struct mmi_page page;

    (void)state;
    assert_non_null(t);
    t->m = t_paging_new_cpus(3);
    t_tlb_start(t, UINT64_MAX - 2); /* the generations wrap */
    pt = &t->m->user;
    for (unsigned cpu = 0; cpu < 3; cpu++) {
        t_tlb_enter(t, cpu, pt);
    }
    assert_int_equal(mmi_page_fill(pt, AT, FRAME(0), T_URW), MM_OK);
    assert_int_equal(mmi_page_fill(pt, AT + P4K, FRAME(100), T_URW), MM_OK);
    mmi_page_count(pt, 2);
    for (unsigned i = 1; i < 12; i++) {
        for (unsigned cpu = 0; cpu < 3; cpu++) {
            assert_int_equal(t_cpu_access(&t->m->cpus.cpu[cpu], AT, T_MMU_USER | T_MMU_WRITE, NULL),
                             T_CPU_DONE);
        }
        t->m->cpus.now = i % 3;
        t->later = i % 2 != 0;
        page = look(pt, AT);
        assert_int_equal(mmi_page_swap(pt, AT, &page, FRAME(i), T_URW), MM_OK);
        mmi_page_flush(pt, AT);
        t_nothing_stale(t->m);
    }
    assert_true(t->nr_sent > 0);
    t_tlb_delete(t);
    free(t);
}

/* --- races -------------------------------------------------------------------------------------- */

/* Another CPU fills a page in the moment in which this one asks for its nth table. */
struct other {
    struct t_paging *m;
    uint64_t at;
    unsigned left; /* tables until then */
    mm_status_t status;
};

static mm_status_t overtaken_alloc(void *ctx, enum mm_frame_owner owner, bool zeroed, mm_pfn_t *out)
{
    struct other *other = ctx;

    if (other->left > 0 && --other->left == 0) {
        assert_int_equal(mmi_page_fill(&other->m->user, other->at, FRAME(9), T_UR), MM_OK);
    }
    return t_source_alloc(other->m, owner, zeroed, out);
}

static void overtaken_free(void *ctx, mm_pfn_t frame)
{
    struct other *other = ctx;

    t_source_free(other->m, frame);
}

/* One table for both, and no frame is lost: of the same page, of the same table, of a higher one. */
static void test_overtaken(void **state)
{
    static const struct mm_frame_source_ops ops = {.alloc = overtaken_alloc,
                                                   .free = overtaken_free};
    static const uint64_t others[] = {AT, AT + P4K, AT + P2M, AT + P1G};

    (void)state;
    for (unsigned i = 0; i < 4 * 4; i++) {
        EACH(r)
        {
            struct other other = {r->m, others[i / 4], i % 4 + 1, MM_OK};
            bool same;

            r->pt->source = (struct mm_frame_source){&ops, &other};
            same = other.at == AT && other.left <= 3u + (r->m->arch.features.vaddr_bits == 57);
            assert_int_equal(mmi_page_fill(r->pt, AT, FRAME(1), T_URW), same ? MM_ERR_BUSY : MM_OK);
            if (other.left != 0) { /* fewer tables were missing */
                other.left = 0;
                same = true;
            } else {
                sees(r, other.at, FRAME(9));
            }
            if (other.at != AT || look(r->pt, AT).prot == T_URW) {
                sees(r, AT, FRAME(1));
            }
            mmi_page_count(r->pt, same ? 1 : 2);
            assert_int_equal(mm_paging_check(r->pt), MM_OK);
            r->pt->source = t_source(r->m);
        }
    }
}

/* The same between any two tables that this CPU maps: also when it has built its own. */
static void *overtaken_map(void *ctx, mm_pfn_t frame)
{
    struct other *other = ctx;

    if (other->left > 0 && --other->left == 0) {
        other->status = mmi_page_fill(&other->m->user, other->at, FRAME(9), T_UR);
    }
    return t_table(other->m, frame.raw);
}

static void overtaken_unmap(void *ctx, void *mapped)
{
    (void)ctx;
    (void)mapped;
}

static void test_overtaken_half_way(void **state)
{
    static const struct mm_physmap_ops ops = {.map = overtaken_map, .unmap = overtaken_unmap};
    static const uint64_t others[] = {AT, AT + P4K, AT + P2M, AT + P1G};
    unsigned nr_busy = 0;

    (void)state;
    for (unsigned i = 0; i < 4 * 24; i++) {
        struct rig *r = rig_new(&makes[i % 2 == 0 ? 1 : 4]);
        struct other other = {r->m, others[i / 2 % 4], i / 8 + 1, MM_ERR_UNSUPPORTED};
        struct mm_physmap by_ops = r->pt->physmap;
        mm_status_t status;
        unsigned filled;

        r->pt->physmap = (struct mm_physmap){.ops = &ops, .ctx = &other};
        status = mmi_page_fill(r->pt, AT, FRAME(1), T_URW);
        filled = (status == MM_OK ? 1u : 0u) + (other.status == MM_OK ? 1u : 0u);
        other.left = 0;
        r->pt->physmap = by_ops;
        /* Of two who want one page one gets it. */
        assert_true(other.at != AT ? status == MM_OK && other.status != MM_ERR_BUSY : filled == 1);
        assert_true(status == MM_OK || status == MM_ERR_BUSY);
        nr_busy += status == MM_ERR_BUSY ? 1 : 0;
        assert_int_equal(look(r->pt, AT).paddr.raw, FRAME(status == MM_OK ? 1 : 9).raw);
        mmi_page_count(r->pt, filled);
        assert_int_equal(mm_paging_check(r->pt), MM_OK);
        rig_delete(r);
    }
    assert_true(nr_busy > 4);
}

/* A CPU has linked a table in the root for user mode, and stands still before it brings it over:
 * whoever fills a page there then has to. */
static void test_pair_half_linked(void **state)
{
    (void)state;
    EACH(r)
    {
        uint64_t *root = t_ram_ptr(r->m->ram, r->pt->kernel_root.raw);
        unsigned top = r->m->arch.features.vaddr_bits == 57 ? 48 : 39;

        assert_int_equal(mmi_page_fill(r->pt, AT, FRAME(1), T_URW), MM_OK);
        if (r->entry.magic != 0) {
            root[AT >> top] = 0;
        }
        assert_int_equal(mmi_page_fill(r->pt, AT + P4K, FRAME(2), T_URW), MM_OK);
        sees(r, AT + P4K, FRAME(2));
        if (r->entry.magic != 0) {
            root[AT >> top] = 0;
        }
        assert_int_equal(mmi_page_fill(r->pt, AT + P2M, FRAME(3), T_URW), MM_OK);
        sees(r, AT + P2M, FRAME(3));
        mmi_page_count(r->pt, 3);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fill),
        cmocka_unit_test(test_fill_busy),
        cmocka_unit_test(test_fill_fails),
        cmocka_unit_test(test_kernel),
        cmocka_unit_test(test_swap),
        cmocka_unit_test(test_swap_busy),
        cmocka_unit_test(test_flush),
        cmocka_unit_test(test_overtaken),
        cmocka_unit_test(test_pair_half_linked),
        cmocka_unit_test(test_overtaken_half_way),
    };

    return cmocka_run_group_tests_name("paging_page", tests, NULL, NULL);
}
