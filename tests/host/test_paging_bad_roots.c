// SPDX-License-Identifier: MIT
/**
 * Bad input to what makes roots of page tables, and frames that cannot be tables. After each failing
 * call all tables and objects are as before, byte for byte. Hazards 7, 8, 16.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "paging_bad.h"

/* --- making roots ----------------------------------------------------------------------------- */

static void init_fails(struct t_paging *m, const struct mm_paging_config *config,
                       mm_status_t wanted)
{
    static const struct mm_pagetable zero;
    struct mm_pagetable pt = {0};
    uint64_t before = t_state(m, NULL);
    mm_status_t status = mm_paging_init_kernel(&pt, config);

    if (status != wanted) {
        fail_msg("%s, not %s", mm_status_str(status), mm_status_str(wanted));
    }
    assert_memory_equal(&pt, &zero, sizeof(pt));
    status = mm_paging_adopt(&pt, config, m->kernel.root);
    if (status != wanted) {
        fail_msg("adopt: %s, not %s", mm_status_str(status), mm_status_str(wanted));
    }
    assert_memory_equal(&pt, &zero, sizeof(pt));
    assert_int_equal(before, t_state(m, NULL));
}

#define BAD_CONFIG(wanted, change)                                                                 \
    do {                                                                                           \
        struct mm_paging_config config = t_config(m);                                              \
        struct mm_physmap physmap = *config.physmap;                                               \
        struct mm_vrange ranges[MM_PAGING_MAX_KERNEL_RANGES + 1] = {                               \
            {{T_KERNEL_LOW}, P1G}, {{T_KERNEL_LOW + P1G}, P1G}, {{T_KERNEL_TOP}, P1G}};            \
        struct mm_frame_source_ops source = *config.source.ops;                                    \
        config.kernel_ranges = ranges;                                                             \
        config.nr_kernel_ranges = 3;                                                               \
        config.physmap = &physmap;                                                                 \
        config.source.ops = &source;                                                               \
        change;                                                                                    \
        init_fails(m, &config, wanted);                                                            \
    } while (0)

static void test_init_kernel(void **state)
{
    static const struct mm_physmap_ops half_ops = {.map = t_map_frame};
    static const struct mm_physmap_ops other_half = {.unmap = t_unmap_frame};
    struct fixture *f = *state;
    struct t_paging *m = f->m;
    struct mm_paging_config good = t_config(m);
    struct mm_pagetable pt = {0};

    FAILS(f, MM_ERR_INVALID_ARGUMENT, mm_paging_init_kernel(NULL, &good));
    FAILS(f, MM_ERR_INVALID_ARGUMENT, mm_paging_init_kernel(&pt, NULL));
    FAILS(f, MM_ERR_ALREADY_INITIALIZED, mm_paging_init_kernel(&m->kernel, &good));
    FAILS(f, MM_ERR_ALREADY_INITIALIZED, mm_paging_adopt(&m->kernel, &good, m->kernel.root));
    FAILS(f, MM_ERR_INVALID_ARGUMENT, mm_paging_adopt(NULL, &good, m->kernel.root));
    FAILS(f, MM_ERR_INVALID_ARGUMENT, mm_paging_adopt(&pt, NULL, m->kernel.root));
    BAD_CONFIG(MM_ERR_INVALID_ARGUMENT, config.backend.ops = NULL);
    BAD_CONFIG(MM_ERR_INVALID_ARGUMENT, config.physmap = NULL);
    BAD_CONFIG(MM_ERR_INVALID_ARGUMENT, config.source.ops = NULL);
    BAD_CONFIG(MM_ERR_INVALID_ARGUMENT, source.alloc = NULL);
    BAD_CONFIG(MM_ERR_INVALID_ARGUMENT, source.free = NULL);
    BAD_CONFIG(MM_ERR_INVALID_ARGUMENT, config.kernel_ranges = NULL);
    BAD_CONFIG(MM_ERR_INVALID_ARGUMENT, config.nr_kernel_ranges = 0);
    BAD_CONFIG(MM_ERR_INVALID_ARGUMENT, physmap.ops = &half_ops);
    BAD_CONFIG(MM_ERR_INVALID_ARGUMENT, physmap.ops = &other_half);
    BAD_CONFIG(MM_ERR_INVALID_ARGUMENT, physmap.first = mm_paddr(P4K); physmap.len = UINT64_MAX);
    BAD_CONFIG(MM_ERR_LIMIT, config.nr_kernel_ranges = MM_PAGING_MAX_KERNEL_RANGES + 1);
    BAD_CONFIG(MM_ERR_NOT_ALIGNED, physmap.base += 16);
    BAD_CONFIG(MM_ERR_NOT_ALIGNED, ranges[1].start.raw += 1);
    BAD_CONFIG(MM_ERR_NOT_ALIGNED, ranges[2].len = 5);
    BAD_CONFIG(MM_ERR_NOT_ALIGNED, config.user.len = 5);
    BAD_CONFIG(MM_ERR_NOT_ALIGNED, config.user.start.raw = 5);
    BAD_CONFIG(MM_ERR_INVALID_SIZE, ranges[2].len = 0);
    BAD_CONFIG(MM_ERR_INVALID_ADDRESS, ranges[2].len = 8 * P1G);    /* wraps */
    BAD_CONFIG(MM_ERR_INVALID_ADDRESS, ranges[0].start.raw -= P4K); /* not canonical */
    BAD_CONFIG(MM_ERR_INVALID_ADDRESS, ranges[1].start.raw -= P4K); /* overlaps */
    BAD_CONFIG(MM_ERR_INVALID_ADDRESS, ranges[0].start.raw = 0);    /* in the user's */
    BAD_CONFIG(MM_ERR_INVALID_ADDRESS, ranges[0].start.raw = P1G;   /* beside it */
               config.user.len = P1G);
    BAD_CONFIG(MM_ERR_INVALID_ADDRESS, config.user.len = HALF + P4K);       /* not canonical */
    BAD_CONFIG(MM_ERR_INVALID_ADDRESS, config.user.start.raw = 0 - 8 * P1G; /* the upper half */
               config.user.len = P1G);
}

static void test_init_user(void **state)
{
    struct fixture *f = *state;
    struct t_paging *m = f->m;
    struct mm_pagetable pt = {0};
    struct mm_pagetable none = {0};
    struct mm_pagetable lonely = {0};
    struct mm_paging_config config = t_config(m);

    FAILS(f, MM_ERR_INVALID_ARGUMENT, mm_paging_init_user(NULL, &m->kernel));
    FAILS(f, MM_ERR_INVALID_ARGUMENT, mm_paging_init_user(&pt, NULL));
    FAILS(f, MM_ERR_NOT_INITIALIZED, mm_paging_init_user(&pt, &none));
    FAILS(f, MM_ERR_ALREADY_INITIALIZED, mm_paging_init_user(&m->user, &m->kernel));
    FAILS(f, MM_ERR_INVALID_ARGUMENT, mm_paging_init_user(&pt, &m->user));
    config.user.len = 0;
    assert_int_equal(mm_paging_init_kernel(&lonely, &config), MM_OK);
    FAILS(f, MM_ERR_INVALID_ARGUMENT, mm_paging_init_user(&pt, &lonely));
    assert_int_equal(mm_paging_destroy(&lonely), MM_OK);
}

static void test_adopt(void **state)
{
    struct fixture *f = *state;
    struct t_paging *m = f->m;
    struct mm_pagetable pt = {0};
    struct mm_paging_config config = t_config(m);
    struct mm_physmap window = m->physmap;
    uint64_t *root;
    mm_pfn_t frame = {0};

    FAILS(f, MM_ERR_NOT_ALIGNED, mm_paging_adopt(&pt, &config, mm_paddr(P4K + 8)));
    FAILS(f, MM_ERR_INVALID_ADDRESS, mm_paging_adopt(&pt, &config, mm_paddr(UINT64_C(1) << 46)));
    window.len = P4K;
    config.physmap = &window;
    FAILS(f, MM_ERR_INVALID_ADDRESS, mm_paging_adopt(&pt, &config, mm_paddr(2 * P4K)));
    config.physmap = &m->physmap;

    /* Entries that make no sense: in the root, and one that leads nowhere. */
    assert_int_equal(t_source_alloc(m, MM_OWNER_KERNEL, true, &frame), MM_OK);
    root = t_table(m, frame.raw);
    root[256] = 0x1000; /* not present, and not empty */
    FAILS(f, MM_ERR_CORRUPTED, mm_paging_adopt(&pt, &config, mm_pfn_addr(frame)));
    root[256] = 2;
    FAILS(f, MM_ERR_CORRUPTED, mm_paging_adopt(&pt, &config, mm_pfn_addr(frame)));
    root[256] = (UINT64_C(1) << 46) | 3;
    FAILS(f, MM_ERR_CORRUPTED, mm_paging_adopt(&pt, &config, mm_pfn_addr(frame)));
    root[256] = 0x83; /* a leaf where none may be */
    FAILS(f, MM_ERR_CORRUPTED, mm_paging_adopt(&pt, &config, mm_pfn_addr(frame)));
    root[256] = 0;
    window.len = frame.raw * P4K + P4K;
    config.physmap = &window;
    root[256] = (window.len + P4K) | 3;
    FAILS(f, MM_ERR_CORRUPTED, mm_paging_adopt(&pt, &config, mm_pfn_addr(frame)));
    t_source_free(m, frame);
}

/* --- frames that cannot be tables ------------------------------------------------------------- */

static mm_status_t protect(struct mm_pagetable *pt, struct mm_vrange range, uint32_t flags,
                           struct mm_gather *gather)
{
    return mm_paging_protect(pt, range, T_UR, flags, gather);
}

static void test_unreachable_tables(void **state)
{
    struct fixture *f = *state;
    struct mm_pagetable *pt = &f->m->user;
    struct mm_physmap window = pt->physmap;

    /* The window ends with what is in use: the next frame is beyond. */
    window.first = mm_paddr(0);
    window.len = f->m->highest * P4K;
    while (f->m->stack[f->m->nr_stack - 1] < f->m->highest) {
        f->m->nr_stack--;
    }
    pt->physmap = window;
    FAILS(f, MM_ERR_FAULT, t_map(pt, 16 * P1G, P1G, P4K, T_URW));
    FAILS(f, MM_ERR_FAULT, mm_paging_unmap(pt, t_range(P1G, P4K), MM_PAGING_SPLIT, &f->user));
    FAILS(f, MM_ERR_FAULT, protect(pt, t_range(P1G, P4K), MM_PAGING_SPLIT, &f->user));
    f->copy.physmap = window;
    FAILS(f, MM_ERR_FAULT, mm_paging_clone(pt, &f->copy, t_range(0, HALF), NULL, NULL, &f->user));
    f->copy.physmap = pt->physmap = f->m->physmap;
    {
        struct mm_pagetable fresh = {0};
        struct mm_paging_config config = t_config(f->m);

        config.physmap = &window;
        FAILS(f, MM_ERR_FAULT, mm_paging_init_kernel(&fresh, &config));
        f->m->kernel.physmap = window;
        FAILS(f, MM_ERR_FAULT, mm_paging_init_user(&fresh, &f->m->kernel));
        f->m->kernel.physmap = f->m->physmap;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_init_kernel, setup, teardown),
        cmocka_unit_test_setup_teardown(test_init_user, setup, teardown),
        cmocka_unit_test_setup_teardown(test_adopt, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unreachable_tables, setup, teardown),
    };

    return cmocka_run_group_tests_name("paging_bad_roots", tests, NULL, NULL);
}
