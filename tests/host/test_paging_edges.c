// SPDX-License-Identifier: MIT
/**
 * Page tables at the edges of what is allowed: entries and tables of others, leaves that no level
 * holds, frames and backends that break their promise.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "t_paging.h"

#include <mm/paging_ops.h>

#define P4K   UINT64_C(0x1000)
#define P2M   UINT64_C(0x200000)
#define P1G   UINT64_C(0x40000000)
#define P512G (512 * P1G)
#define RWX   (MM_PROT_READ | MM_PROT_WRITE | MM_PROT_EXEC)

#define PWT       UINT64_C(0x8)
#define PCD       UINT64_C(0x10)
#define PAT_4K    UINT64_C(0x80)
#define PS        UINT64_C(0x80)
#define PAT_LARGE UINT64_C(0x1000)

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

static uint64_t *below(struct t_paging *m, uint64_t slot)
{
    return t_table(m, (slot & T_MMU_ADDRESS) / P4K);
}

/* --- entries ---------------------------------------------------------------------------------- */

/* The upper four of the eight types: what the library has programmed, and without that the lower
 * ones again (Intel SDM vol. 3A, 11.12.4). */
static void test_types(void **state)
{
    static const struct {
        uint64_t bits;
        mm_memtype_t programmed;
        mm_memtype_t power_on;
    } types[] = {
        {0, MM_MEMTYPE_WP, MM_MEMTYPE_WB},
        {PWT, MM_MEMTYPE_WC, MM_MEMTYPE_WT},
        {PCD, MM_MEMTYPE_UC_MINUS, MM_MEMTYPE_UC_MINUS},
        {PCD | PWT, MM_MEMTYPE_UC, MM_MEMTYPE_UC},
    };
    struct t_paging *m = *state;
    uint64_t *table;
    uint64_t kept;

    assert_int_equal(t_map(&m->user, 0, P1G, P4K, T_URW), MM_OK);
    table = below(m, below(m, below(m, t_table(m, m->user.root.raw / P4K)[0])[0])[0]);
    kept = table[0];
    for (unsigned i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        table[0] = kept | PAT_4K | types[i].bits;
        assert_int_equal(t_leaf(&m->user, 0).type, types[i].programmed);
        m->arch.enabled.pat = false;
        assert_int_equal(t_leaf(&m->user, 0).type, types[i].power_on);
        m->arch.enabled.pat = true;
    }
    table[0] = kept;
}

/* An entry of 512 GiB is nobody's: neither the check nor an unmap takes it for a leaf. */
static void test_leaf_above_all_levels(void **state)
{
    struct t_paging *m = *state;
    uint64_t *root = t_table(m, m->user.root.raw / P4K);
    struct mm_gather gather;
    struct t_trap_info info;
    volatile mm_status_t status = MM_OK;
    uint64_t forbidden;

    /* One that allows nothing, of a page. */
    assert_int_equal(t_map(&m->user, P4K, P1G, P4K, MM_PROT_NONE | MM_PROT_USER), MM_OK);
    forbidden = below(m, below(m, below(m, root[0])[0])[0])[1];
    root[3] = forbidden;
    assert_int_equal(mm_paging_check(&m->user), MM_ERR_CORRUPTED);
    assert_int_equal(mm_gather_begin(&gather, &m->user), MM_OK);
    T_EXPECT_PANIC(status = mm_paging_unmap(&m->user, t_range(3 * P512G, P512G), 0, &gather),
                   &info);
    assert_int_equal(status, MM_OK); /* the call did not come back */
    assert_string_equal(info.what, "a leaf at a level that holds none");
    assert_int_equal(info.claimed_value, 3);
    mm_gather_end(&gather);
    assert_int_equal(root[3], 0);
    assert_int_equal(mm_paging_check(&m->user), MM_OK);
}

/* An entry that leads to a table is as it was made, in every bit: what maps one page relies on it.
 */
static void test_entry_of_a_table_that_changed(void **state)
{
    struct t_paging *m = *state;
    uint64_t *root = t_table(m, m->user.root.raw / P4K);

    assert_int_equal(t_map(&m->user, 0, P1G, P4K, T_URW), MM_OK);
    for (unsigned bit = 8; bit < 12; bit++) {
        root[0] ^= UINT64_C(1) << bit;
        assert_int_equal(mm_paging_check(&m->user), MM_ERR_CORRUPTED);
        root[0] ^= UINT64_C(1) << bit;
        assert_int_equal(mm_paging_check(&m->user), MM_OK);
    }
}

/* --- tables ----------------------------------------------------------------------------------- */

static struct t_paging *far_machine;

static mm_status_t far_alloc(void *ctx, enum mm_frame_owner owner, bool zeroed, mm_pfn_t *out)
{
    (void)ctx;
    (void)owner;
    (void)zeroed;
    *out = mm_pfn(UINT64_C(1) << 41);
    return MM_OK;
}

static void far_free(void *ctx, mm_pfn_t frame)
{
    (void)ctx;
    assert_int_equal(frame.raw, UINT64_C(1) << 41);
    far_machine->nr_released++;
}

/* A frame that no entry of this CPU can hold is no table: it goes back. */
static void test_table_out_of_reach(void **state)
{
    static const struct mm_frame_source_ops ops = {.alloc = far_alloc, .free = far_free};
    struct t_paging *m = *state;
    struct mm_frame_source kept = m->user.source;

    far_machine = m;
    m->user.source = (struct mm_frame_source){&ops, NULL};
    assert_int_equal(t_map(&m->user, 0, P1G, P4K, T_URW), MM_ERR_FAULT);
    assert_int_equal(m->nr_released, 1);
    m->user.source = kept;
}

/* What the boot loader built: a table of 1 GiB slots, all of whose leaves are there or not. */
struct loader {
    mm_pfn_t root, top, middle, empty;
};

static void loader_build(struct t_paging *m, struct loader *l)
{
    mm_pfn_t *frames[] = {&l->root, &l->top, &l->middle, &l->empty};

    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(t_source_alloc(m, MM_OWNER_KERNEL, true, frames[i]), MM_OK);
    }
    t_table(m, l->root.raw)[256] = l->top.raw * P4K | 0x3;
    t_table(m, l->top.raw)[0] = l->middle.raw * P4K | 0x3;
    t_table(m, l->middle.raw)[0] = 0 | PS | 0x3;
    t_table(m, l->middle.raw)[7] = l->empty.raw * P4K | 0x3;
}

static void loader_free(struct t_paging *m, const struct loader *l)
{
    t_source_free(m, l->root);
    t_source_free(m, l->top);
    t_source_free(m, l->middle);
    t_source_free(m, l->empty);
}

static mm_status_t adopt(struct t_paging *m, const struct loader *l, struct mm_pagetable *pt)
{
    struct mm_paging_config config = t_config(m);

    return mm_paging_adopt(pt, &config, mm_pfn_addr(l->root));
}

/* Edits that pass over holes look at the rights of tables that are not ours. */
static void test_holes_between_tables_of_others(void **state)
{
    struct t_paging *m = *state;
    struct mm_pagetable pt = {0};
    struct loader l;

    loader_build(m, &l);
    assert_int_equal(adopt(m, &l, &pt), MM_OK);
    assert_int_equal(t_protect(&pt, T_KERNEL_LOW, 4 * P2M, MM_PROT_READ, MM_PAGING_SKIP_HOLES),
                     MM_OK);
    assert_int_equal(t_leaf(&pt, T_KERNEL_LOW).prot & RWX, MM_PROT_READ);
    t_table(m, l.top.raw)[0] &= ~UINT64_C(2); /* read-only from above */
    assert_int_equal(t_protect(&pt, T_KERNEL_LOW, 4 * P2M, MM_PROT_RW, MM_PAGING_SKIP_HOLES),
                     MM_ERR_PERMISSION_DENIED);
    assert_int_equal(t_protect(&pt, T_KERNEL_LOW + P2M, P2M, MM_PROT_RW, MM_PAGING_SKIP_HOLES),
                     MM_OK);
    assert_int_equal(t_protect(&pt, T_KERNEL_LOW, P2M, MM_PROT_NONE, MM_PAGING_SKIP_HOLES), MM_OK);
    assert_int_equal(t_unmap(&pt, T_KERNEL_LOW, 4 * P2M, MM_PAGING_SKIP_HOLES), MM_OK);
    assert_true(t_is_hole(&pt, T_KERNEL_LOW));
    assert_int_equal(mm_paging_destroy(&pt), MM_OK);
    loader_free(m, &l);
}

/* A run of large leaves ends at a table of others, though that is empty, and at its own table's
 * end; behind both it goes on. */
static void test_runs_of_large_leaves(void **state)
{
    struct t_paging *m = *state;
    struct mm_pagetable pt = {0};
    struct loader l;

    loader_build(m, &l);
    assert_int_equal(adopt(m, &l, &pt), MM_OK);
    assert_int_equal(t_map(&pt, T_KERNEL_LOW + 4 * P2M, 4 * P2M, 6 * P2M, MM_PROT_RW), MM_OK);
    assert_int_equal(t_leaf(&pt, T_KERNEL_LOW + 6 * P2M).page.len, P2M);
    assert_int_equal(t_leaf(&pt, T_KERNEL_LOW + 7 * P2M).page.len, P4K);
    assert_int_equal(t_leaf(&pt, T_KERNEL_LOW + 8 * P2M).page.len, P2M);
    assert_int_equal(pt.nr_leaves[0], 512);
    assert_int_equal(t_map(&pt, T_KERNEL_LOW + P1G - P2M, P1G - P2M, 3 * P2M, MM_PROT_RW), MM_OK);
    for (unsigned i = 0; i < 3; i++) {
        uint64_t at = P1G - P2M + i * P2M;

        assert_int_equal(t_leaf(&pt, T_KERNEL_LOW + at).page.len, P2M);
        assert_int_equal(t_paddr(&pt, T_KERNEL_LOW + at), at);
    }
    assert_int_equal(mm_paging_check(&pt), MM_OK);
    assert_int_equal(t_unmap(&pt, T_KERNEL_LOW, 2 * P1G, MM_PAGING_SKIP_HOLES), MM_OK);
    assert_int_equal(mm_paging_destroy(&pt), MM_OK);
    loader_free(m, &l);
}

/* --- what a caller hands over ----------------------------------------------------------------- */

static void test_physmap_of_ops(void **state)
{
    struct t_paging *m = *state;
    struct mm_paging_config config = t_config(m);
    struct mm_physmap physmap = t_physmap_ops(m);
    struct mm_physmap_ops half = *physmap.ops;
    struct mm_pagetable pt = {0};
    struct loader l;

    config.physmap = &physmap;
    loader_build(m, &l);
    assert_int_equal(mm_paging_adopt(&pt, &config, mm_pfn_addr(l.root)), MM_OK);
    assert_int_equal(t_leaf(&pt, T_KERNEL_LOW).page.len, P2M);
    assert_int_equal(mm_paging_destroy(&pt), MM_OK);

    physmap.ops = &half;
    half.unmap = NULL;
    assert_int_equal(mm_paging_adopt(&pt, &config, mm_pfn_addr(l.root)), MM_ERR_INVALID_ARGUMENT);
    half.unmap = t_unmap_frame;
    half.map = NULL;
    assert_int_equal(mm_paging_adopt(&pt, &config, mm_pfn_addr(l.root)), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(m->nr_mapped, 0);
    loader_free(m, &l);
}

/* A copy is made between roots of one backend, which both have the range. */
static void test_clone_between_strangers(void **state)
{
    struct t_paging *m = *state;
    struct mm_paging_config config = t_config(m);
    struct mm_x86_64 other_arch = m->arch;
    struct mm_paging_backend kept = m->user.backend;
    struct mm_paging_ops other_ops = *kept.ops;
    struct mm_pagetable kernel = {0};
    struct mm_pagetable small = {0};
    struct mm_gather gather;

    config.user = t_range(0, P1G);
    assert_int_equal(mm_paging_init_kernel(&kernel, &config), MM_OK);
    assert_int_equal(mm_paging_init_user(&small, &kernel), MM_OK);
    assert_int_equal(t_map(&m->user, 0, P1G, P4K, T_URW), MM_OK);
    assert_int_equal(mm_gather_begin(&gather, &m->user), MM_OK);
#define CLONE(len) mm_paging_clone(&m->user, &small, t_range(0, (len)), NULL, NULL, &gather)
    assert_int_equal(CLONE(2 * P1G), MM_ERR_INVALID_ADDRESS);
    small.backend.ctx = &other_arch;
    assert_int_equal(CLONE(P1G), MM_ERR_INVALID_ARGUMENT);
    small.backend = kept;
    small.backend.ops = &other_ops;
    assert_int_equal(CLONE(P1G), MM_ERR_INVALID_ARGUMENT);
    small.backend = kept;
    assert_true(t_is_hole(&small, 0));
    assert_int_equal(CLONE(P1G), MM_OK);
#undef CLONE
    mm_gather_end(&gather);
    assert_int_equal(t_paddr(&small, 0), P1G);
    assert_int_equal(mm_paging_destroy(&small), MM_OK);
    assert_int_equal(mm_paging_destroy(&kernel), MM_OK);
}

static mm_status_t unmap_nothing(struct mm_pagetable *pt, struct mm_vrange range, uint32_t flags,
                                 struct mm_gather *gather)
{
    (void)pt;
    (void)range;
    (void)flags;
    (void)gather;
    return MM_ERR_NOT_MAPPED;
}

/* An image whose second section cannot be mapped is undone; a backend that cannot is broken. */
static void test_undo_that_fails(void **state)
{
    struct t_paging *m = *state;
    struct mm_boot_section image[] = {
        {t_range(T_KERNEL_TOP, P4K), mm_paddr(P1G), MM_PROT_RX, 0},
        {t_range(T_KERNEL_TOP + P4K, P4K), mm_paddr(P1G + P4K), MM_PROT_READ, 0},
    };
    const struct mm_paging_ops *kept = m->kernel.backend.ops;
    struct mm_paging_ops broken = *kept;
    struct t_trap_info info;
    volatile mm_status_t status = MM_OK;
    uint32_t scratch;

    assert_int_equal(t_map(&m->kernel, T_KERNEL_TOP + P4K, 0, P4K, MM_PROT_READ), MM_OK);
    assert_int_equal(mm_paging_map_sections(&m->kernel, image, 2), MM_ERR_ALREADY_MAPPED);
    assert_true(t_is_hole(&m->kernel, T_KERNEL_TOP));
    broken.unmap = unmap_nothing;
    m->kernel.backend.ops = &broken;
    scratch = m->stack[m->nr_stack - 1];
    T_EXPECT_PANIC(status = mm_paging_map_sections(&m->kernel, image, 2), &info);
    assert_int_equal(status, MM_OK); /* the call did not come back */
    m->kernel.backend.ops = kept;
    assert_string_equal(info.what, "what was just mapped cannot be unmapped");
    assert_int_equal(info.address, T_KERNEL_TOP);
    assert_int_equal(info.claimed_value, MM_ERR_NOT_MAPPED);
    t_source_free(m, mm_pfn(scratch)); /* what the panic had in hand */
}

/* A section of no length takes no page, wherever it stands among the others. */
static void test_empty_sections(void **state)
{
    struct t_paging *m = *state;
    struct mm_boot_section image[] = {
        {t_range(T_KERNEL_TOP, 0), mm_paddr(5), MM_PROT_RW, 0},
        {t_range(T_KERNEL_TOP, P4K), mm_paddr(P1G), MM_PROT_RX, 0},
        {t_range(T_KERNEL_TOP + 100, 0), mm_paddr(7), MM_PROT_RW, 0},
        {t_range(T_KERNEL_TOP + P4K, P4K), mm_paddr(P1G + P4K), MM_PROT_READ, 0},
    };

    assert_int_equal(mm_paging_map_sections(&m->kernel, image, 4), MM_OK);
    assert_int_equal(t_leaf(&m->kernel, T_KERNEL_TOP).prot & RWX, MM_PROT_RX);
    assert_int_equal(t_leaf(&m->kernel, T_KERNEL_TOP + P4K).prot & RWX, MM_PROT_READ);
    assert_true(t_is_hole(&m->kernel, T_KERNEL_TOP + 2 * P4K));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_types, setup, teardown),
        cmocka_unit_test_setup_teardown(test_entry_of_a_table_that_changed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_leaf_above_all_levels, setup, teardown),
        cmocka_unit_test_setup_teardown(test_table_out_of_reach, setup, teardown),
        cmocka_unit_test_setup_teardown(test_holes_between_tables_of_others, setup, teardown),
        cmocka_unit_test_setup_teardown(test_runs_of_large_leaves, setup, teardown),
        cmocka_unit_test_setup_teardown(test_physmap_of_ops, setup, teardown),
        cmocka_unit_test_setup_teardown(test_clone_between_strangers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_undo_that_fails, setup, teardown),
        cmocka_unit_test_setup_teardown(test_empty_sections, setup, teardown),
    };

    return cmocka_run_group_tests_name("paging_edges", tests, NULL, NULL);
}
