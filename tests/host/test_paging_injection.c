// SPDX-License-Identifier: MIT
/**
 * A source of frames that fails at each point of each call of page tables, once and from then on:
 * all tables and objects are as before, byte for byte, and every frame is back. Hazard 16.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "paging_bad.h"

/* --- the source fails at every point ---------------------------------------------------------- */

/* Run `call` with the nth allocation failing, alone and with all after it, until it succeeds. */
#define INJECT(f, call)                                                                            \
    do {                                                                                           \
        unsigned points_ = 0;                                                                      \
        for (uint64_t n_ = 1; n_ < 100; n_++) {                                                    \
            uint64_t before_ = state_of(f);                                                        \
            uint64_t used_ = (f)->m->nr_used;                                                      \
            if (n_ % 2 == 1) {                                                                     \
                t_inject_nth(&(f)->m->inject, n_ / 2 + 1);                                         \
            } else {                                                                               \
                t_inject_from(&(f)->m->inject, n_ / 2);                                            \
            }                                                                                      \
            mm_status_t status_ = (call);                                                          \
            uint64_t fired_ = (f)->m->inject.fired;                                                \
            t_inject_never(&(f)->m->inject);                                                       \
            if (fired_ == 0) {                                                                     \
                assert_int_equal(status_, MM_OK);                                                  \
                break;                                                                             \
            }                                                                                      \
            assert_int_equal(status_, MM_ERR_NO_MEMORY);                                           \
            assert_int_equal(used_, (f)->m->nr_used);                                              \
            if (before_ != state_of(f)) {                                                          \
                fail_msg("%s left a trace", #call);                                                \
            }                                                                                      \
            points_++;                                                                             \
        }                                                                                          \
        assert_true(points_ > 0);                                                                  \
    } while (0)

static mm_status_t init_kernel(struct t_paging *m, struct mm_pagetable *pt)
{
    struct mm_paging_config config = t_config(m);

    return mm_paging_init_kernel(pt, &config);
}

static void test_injection(void **state)
{
    struct fixture *f = *state;
    struct t_paging *m = f->m;
    struct mm_pagetable *pt = &m->user;
    struct mm_pagetable fresh = {0};

    /* 4 KiB, 2 MiB and 1 GiB leaves, across existing tables, across an entry of the root. */
    INJECT(f, t_map(pt, 10 * P1G - P2M - P4K, P1G - P2M - P4K, 2 * P1G + 2 * P2M, T_URW));
    INJECT(f, t_map(pt, 4 * P1G + P2M, P1G + P4K, 5 * P2M, T_URW));
    INJECT(f, t_map(pt, 512 * P1G - 3 * P4K, P1G, 6 * P4K, T_URW));
    INJECT(f, t_map(&m->kernel, T_KERNEL_TOP, P1G + P4K, 3 * P2M, MM_PROT_RW));
    INJECT(f,
           mm_paging_protect(pt, t_range(P1G + 5 * P4K, P1G / 2), T_UR, MM_PAGING_SPLIT, &f->user));
    mm_gather_end(&f->user);
    INJECT(f, mm_paging_unmap(pt, t_range(10 * P1G + P2M + P4K, P1G), MM_PAGING_SPLIT, &f->user));
    mm_gather_end(&f->user);
    INJECT(f, mm_paging_clone(pt, &f->copy, t_range(0, HALF), NULL, NULL, &f->user));
    mm_gather_end(&f->user);
    /* In a leaf of 1 GiB: two tables at each end. */
    assert_int_equal(t_map(pt, 64 * P1G, P1G, P1G, T_URW), MM_OK);
    INJECT(f, mm_paging_set_type(pt, t_range(64 * P1G + P4K, P1G - 2 * P4K), MM_MEMTYPE_UC,
                                 MM_PAGING_SPLIT));
    INJECT(f, mm_paging_map(pt, t_range(66 * P1G, P2M), mm_paddr(P1G), T_URW, MM_MEMTYPE_WB,
                            MM_PAGING_ONLY_4K | MM_PAGING_MERGE));
    assert_int_equal(t_map(pt, 68 * P1G, P1G, P1G, T_URW), MM_OK);
    INJECT(f, mm_paging_protect(pt, t_range(68 * P1G, P1G / 2), T_UR,
                                MM_PAGING_SPLIT | MM_PAGING_MERGE, &f->user));
    mm_gather_end(&f->user);
    INJECT(f, init_kernel(m, &fresh));
    assert_int_equal(mm_paging_destroy(&fresh), MM_OK);
    INJECT(f, mm_paging_init_user(&fresh, &m->kernel));
    assert_int_equal(mm_paging_destroy(&fresh), MM_OK);
    assert_int_equal(mm_paging_check(pt), MM_OK);
    assert_int_equal(mm_paging_check(&f->copy), MM_OK);
}

static void test_injection_adopt(void **state)
{
    struct fixture *f = *state;
    struct t_paging *m = f->m;
    struct mm_paging_config config = t_config(m);
    struct mm_pagetable adopted = {0};
    mm_pfn_t root = {0};

    assert_int_equal(t_source_alloc(m, MM_OWNER_KERNEL, true, &root), MM_OK);
    INJECT(f, mm_paging_adopt(&adopted, &config, mm_pfn_addr(root)));
    assert_int_equal(mm_paging_destroy(&adopted), MM_OK);
    for (unsigned i = 0; i < 512; i++) {
        assert_int_equal(t_table(m, root.raw)[i], 0);
    }
    t_source_free(m, root);
}

static void test_injection_bringup(void **state)
{
    struct fixture *f = *state;
    struct t_paging *m = f->m;
    struct mm_boot_section sections[] = {
        {t_range(T_KERNEL_TOP + P4K, P2M), mm_paddr(P2M + P4K), MM_PROT_RX, 0},
        {t_range(T_KERNEL_TOP + 2 * P2M, P4K), mm_paddr(3 * P2M), MM_PROT_READ, 0},
        {t_range(T_KERNEL_TOP + P1G, 5 * P4K), mm_paddr(3 * P2M), MM_PROT_RW, 0},
    };
    struct mm_boot_entry entries[16];
    struct mm_bootmap map = {0};
    struct mm_physmap direct = mm_physmap_direct(T_KERNEL_LOW + P1G);

    INJECT(f, mm_paging_map_sections(&m->kernel, sections, 3));
    assert_int_equal(t_unmap(&m->kernel, T_KERNEL_TOP, 2 * P1G, MM_PAGING_SKIP_HOLES), MM_OK);
    assert_int_equal(mm_bootmap_init(&map, entries, 16), MM_OK);
    assert_int_equal(mm_bootmap_add(&map, mm_prange(mm_paddr(0), 0x9f000), MM_BOOT_USABLE), MM_OK);
    assert_int_equal(
        mm_bootmap_add(&map, mm_prange(mm_paddr(P1G), P1G + P2M + P4K), MM_BOOT_USABLE), MM_OK);
    INJECT(f, mm_paging_map_direct(&m->kernel, &map, &direct, NULL, 0));
    assert_int_equal(t_unmap(&m->kernel, T_KERNEL_LOW + P1G, 3 * P1G, MM_PAGING_SKIP_HOLES), MM_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_injection, setup, teardown),
        cmocka_unit_test_setup_teardown(test_injection_adopt, setup, teardown),
        cmocka_unit_test_setup_teardown(test_injection_bringup, setup, teardown),
    };

    return cmocka_run_group_tests_name("paging_injection", tests, NULL, NULL);
}
