// SPDX-License-Identifier: MIT
/**
 * Bad input to page tables: every documented status of every call on mappings, and the cross product
 * of odd numbers over addresses and lengths. After each failing call all tables and objects are as
 * before, byte for byte. Hazards 7, 8, 16. Roots: test_paging_bad_roots.c; states of the range:
 * test_paging_product.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "paging_bad.h"

#include <mm/paging_ops.h>

/* --- statuses, call by call ---------------------------------------------------------------------
 */

static void test_map(void **state)
{
    struct fixture *f = *state;
    struct mm_pagetable *pt = &f->m->user;
    struct mm_pagetable none = {0};
    struct mm_vrange page = t_range(8 * P1G, P4K);
    mm_paddr_t at = mm_paddr(P1G);

    FAILS(f, MM_ERR_INVALID_ARGUMENT, mm_paging_map(NULL, page, at, T_URW, MM_MEMTYPE_WB, 0));
    FAILS(f, MM_ERR_NOT_INITIALIZED, mm_paging_map(&none, page, at, T_URW, MM_MEMTYPE_WB, 0));
    FAILS(f, MM_ERR_INVALID_ARGUMENT, mm_paging_map(pt, page, at, T_URW, (mm_memtype_t)6, 0));
    FAILS(f, MM_ERR_INVALID_FLAGS, mm_paging_map(pt, page, at, T_URW, MM_MEMTYPE_WB, 1));
    FAILS(f, MM_ERR_INVALID_FLAGS, mm_paging_map(pt, page, at, T_URW, MM_MEMTYPE_WB, 64));
    FAILS(f, MM_ERR_INVALID_FLAGS, mm_paging_map(pt, page, at, T_URW | 32, MM_MEMTYPE_WB, 0));
    FAILS(f, MM_ERR_INVALID_FLAGS, t_map(pt, 8 * P1G, P1G, P4K, MM_PROT_RW));
    FAILS(f, MM_ERR_INVALID_FLAGS, t_map(pt, 8 * P1G, P1G, P4K, T_URW | MM_PROT_GLOBAL));
    FAILS(f, MM_ERR_INVALID_FLAGS, t_map(&f->m->kernel, T_KERNEL_LOW, P1G, P4K, T_URW));
    FAILS(f, MM_ERR_NOT_ALIGNED, t_map(pt, 8 * P1G + 1, P1G, P4K, T_URW));
    FAILS(f, MM_ERR_NOT_ALIGNED, t_map(pt, 8 * P1G, P1G + 1, P4K, T_URW));
    FAILS(f, MM_ERR_NOT_ALIGNED, t_map(pt, 8 * P1G, P1G, P4K - 1, T_URW));
    FAILS(f, MM_ERR_INVALID_SIZE, t_map(pt, 8 * P1G, P1G, 0, T_URW));
    FAILS(f, MM_ERR_INVALID_SIZE, t_map(pt, 0 - P4K, P1G, 2 * P4K, T_URW));
    FAILS(f, MM_ERR_INVALID_SIZE, t_map(pt, 8 * P1G, 0 - P4K, 2 * P4K, T_URW));
    FAILS(f, MM_ERR_INVALID_ADDRESS, t_map(pt, HALF - P4K, P1G, 2 * P4K, T_URW));
    FAILS(f, MM_ERR_INVALID_ADDRESS, t_map(pt, T_KERNEL_LOW, P1G, P4K, T_URW));
    FAILS(f, MM_ERR_INVALID_ADDRESS, t_map(&f->m->kernel, 0, P1G, P4K, MM_PROT_RW));
    FAILS(f, MM_ERR_INVALID_ADDRESS,
          t_map(&f->m->kernel, T_KERNEL_LOW + T_KERNEL_LOW_LEN, P1G, P4K, MM_PROT_RW));
    /* The first frame that this CPU cannot address, alone and as the last of several (hazard 8). */
    FAILS(f, MM_ERR_INVALID_ADDRESS, t_map(pt, 8 * P1G, UINT64_C(1) << 46, P4K, T_URW));
    FAILS(f, MM_ERR_INVALID_ADDRESS,
          t_map(pt, 8 * P1G, (UINT64_C(1) << 46) - P1G, P1G + P4K, T_URW));
    /* Something is there: under it, over it, beside it, at the end. */
    FAILS(f, MM_ERR_ALREADY_MAPPED, t_map(pt, 6 * P1G, P1G, P4K, T_URW));
    FAILS(f, MM_ERR_ALREADY_MAPPED, t_map(pt, P1G + P2M, P1G, P4K, T_URW));
    FAILS(f, MM_ERR_ALREADY_MAPPED, t_map(pt, 4 * P1G, P1G, 4 * P1G, T_URW));
    FAILS(f, MM_ERR_ALREADY_MAPPED, t_map(pt, 6 * P1G - 5 * P2M, 0, 5 * P2M + P4K, T_URW));
    FAILS(f, MM_ERR_ALREADY_MAPPED, t_map(pt, 0, P4K, 8 * P1G, T_URW));
    assert_int_equal(t_map(pt, 6 * P1G + 9 * P4K, P1G, P4K, T_URW), MM_OK);
    FAILS(f, MM_ERR_ALREADY_MAPPED, t_map(pt, 6 * P1G + 2 * P4K, P1G, 8 * P4K, T_URW));
    FAILS(f, MM_ERR_ALREADY_MAPPED, t_map(pt, 6 * P1G + P4K, P1G, P2M, T_URW));
}

static void test_map_unsupported_type(void **state)
{
    struct t_paging *m = t_paging_new();
    uint64_t before;

    (void)state;
    m->cpus.has.pat = false; /* no PAT */
    t_paging_start(m);
    before = t_state(m, NULL);
    assert_int_equal(mm_paging_map(&m->user, t_range(0, P4K), mm_paddr(0), T_URW, MM_MEMTYPE_WC, 0),
                     MM_ERR_UNSUPPORTED);
    assert_int_equal(mm_paging_map(&m->user, t_range(0, P4K), mm_paddr(0), T_URW, MM_MEMTYPE_WP, 0),
                     MM_ERR_UNSUPPORTED);
    assert_int_equal(before, t_state(m, NULL));
    assert_int_equal(mm_paging_map(&m->user, t_range(0, P4K), mm_paddr(0), T_URW, MM_MEMTYPE_UC, 0),
                     MM_OK);
    assert_int_equal(t_leaf(&m->user, 0).type, MM_MEMTYPE_UC);
    t_paging_delete(m);
}

typedef mm_status_t edit_fn(struct mm_pagetable *pt, struct mm_vrange range, uint32_t flags,
                            struct mm_gather *gather);

static mm_status_t protect(struct mm_pagetable *pt, struct mm_vrange range, uint32_t flags,
                           struct mm_gather *gather)
{
    return mm_paging_protect(pt, range, T_UR, flags, gather);
}

static void edit_statuses(struct fixture *f, edit_fn *edit)
{
    struct mm_pagetable *pt = &f->m->user;
    struct mm_pagetable none = {0};
    struct mm_gather stale;
    struct mm_vrange page = t_range(6 * P1G, P4K);

    memset(&stale, 0, sizeof(stale));
    FAILS(f, MM_ERR_INVALID_ARGUMENT, edit(NULL, page, 0, &f->user));
    FAILS(f, MM_ERR_NOT_INITIALIZED, edit(&none, page, 0, &f->user));
    FAILS(f, MM_ERR_INVALID_ARGUMENT, edit(pt, page, 0, NULL));
    FAILS(f, MM_ERR_INVALID_ARGUMENT, edit(pt, page, 0, &f->kernel));
    FAILS(f, MM_ERR_INVALID_ARGUMENT, edit(pt, page, 0, &stale));
    FAILS(f, MM_ERR_INVALID_FLAGS, edit(pt, page, MM_PAGING_ONLY_4K, &f->user));
    FAILS(f, MM_ERR_INVALID_FLAGS, edit(pt, page, 64, &f->user));
    FAILS(f, MM_ERR_NOT_ALIGNED, edit(pt, t_range(6 * P1G + 8, P4K), 0, &f->user));
    FAILS(f, MM_ERR_NOT_ALIGNED, edit(pt, t_range(6 * P1G, 8), 0, &f->user));
    FAILS(f, MM_ERR_INVALID_SIZE, edit(pt, t_range(6 * P1G, 0), 0, &f->user));
    FAILS(f, MM_ERR_INVALID_SIZE, edit(pt, t_range(0 - P4K, 2 * P4K), 0, &f->user));
    FAILS(f, MM_ERR_INVALID_ADDRESS, edit(pt, t_range(HALF, P4K), 0, &f->user));
    FAILS(f, MM_ERR_INVALID_ADDRESS, edit(pt, t_range(T_KERNEL_LOW, P4K), 0, &f->user));
    FAILS(f, MM_ERR_NOT_MAPPED, edit(pt, t_range(8 * P1G, P4K), 0, &f->user));
    FAILS(f, MM_ERR_NOT_MAPPED, edit(pt, t_range(6 * P1G, 2 * P4K), 0, &f->user));
    FAILS(f, MM_ERR_NOT_MAPPED, edit(pt, t_range(0, 2 * P1G), 0, &f->user));
    FAILS(f, MM_ERR_NOT_MAPPED, edit(pt, t_range(P1G, 4 * P1G), MM_PAGING_SPLIT, &f->user));
    FAILS(f, MM_ERR_HUGE_PAGE, edit(pt, t_range(P1G, P4K), 0, &f->user));
    FAILS(f, MM_ERR_HUGE_PAGE, edit(pt, t_range(P1G + P2M, P1G - P2M), 0, &f->user));
    FAILS(f, MM_ERR_HUGE_PAGE, edit(pt, t_range(0, 4 * P1G + P4K), MM_PAGING_SKIP_HOLES, &f->user));
    FAILS(f, MM_ERR_HUGE_PAGE, edit(pt, t_range(4 * P1G + P4K, P4K), 0, &f->user));
    /* A hole is found before a leaf that sticks out. */
    FAILS(f, MM_ERR_NOT_MAPPED, edit(pt, t_range(2 * P1G - P4K, 2 * P4K), 0, &f->user));
}

static void test_unmap(void **state)
{
    edit_statuses(*state, mm_paging_unmap);
}

static void test_protect(void **state)
{
    struct fixture *f = *state;
    struct mm_vrange page = t_range(6 * P1G, P4K);

    edit_statuses(f, protect);
    FAILS(f, MM_ERR_INVALID_FLAGS, protect(&f->m->user, page, MM_PAGING_RELEASE, &f->user));
    FAILS(f, MM_ERR_INVALID_FLAGS, mm_paging_protect(&f->m->user, page, MM_PROT_READ, 0, &f->user));
    FAILS(f, MM_ERR_INVALID_FLAGS,
          mm_paging_protect(&f->m->user, page, T_UR | MM_PROT_GLOBAL, 0, &f->user));
    FAILS(f, MM_ERR_INVALID_FLAGS,
          mm_paging_protect(&f->m->kernel, t_range(T_KERNEL_LOW, P4K), T_UR, 0, &f->kernel));
    FAILS(f, MM_ERR_INVALID_FLAGS,
          mm_paging_protect(&f->m->user, page, T_UR | 0x80000000, 0, &f->user));
}

static void test_replace(void **state)
{
    struct fixture *f = *state;
    struct mm_pagetable *pt = &f->m->user;
    struct mm_pagetable none = {0};
    mm_vaddr_t at = mm_vaddr(6 * P1G);
    mm_paddr_t to = mm_paddr(P1G);

    FAILS(f, MM_ERR_INVALID_ARGUMENT, mm_paging_replace(NULL, at, to, T_UR, 0, &f->user));
    FAILS(f, MM_ERR_NOT_INITIALIZED, mm_paging_replace(&none, at, to, T_UR, 0, &f->user));
    FAILS(f, MM_ERR_INVALID_ARGUMENT, mm_paging_replace(pt, at, to, T_UR, 0, NULL));
    FAILS(f, MM_ERR_INVALID_ARGUMENT, mm_paging_replace(pt, at, to, T_UR, 0, &f->kernel));
    FAILS(f, MM_ERR_INVALID_FLAGS, mm_paging_replace(pt, at, to, T_UR, MM_PAGING_SPLIT, &f->user));
    FAILS(f, MM_ERR_INVALID_FLAGS, mm_paging_replace(pt, at, to, MM_PROT_READ, 0, &f->user));
    FAILS(f, MM_ERR_NOT_ALIGNED,
          mm_paging_replace(pt, mm_vaddr(6 * P1G + 1), to, T_UR, 0, &f->user));
    FAILS(f, MM_ERR_NOT_ALIGNED, mm_paging_replace(pt, at, mm_paddr(1), T_UR, 0, &f->user));
    FAILS(f, MM_ERR_INVALID_ADDRESS, mm_paging_replace(pt, mm_vaddr(HALF), to, T_UR, 0, &f->user));
    FAILS(f, MM_ERR_INVALID_ADDRESS,
          mm_paging_replace(pt, at, mm_paddr(UINT64_C(1) << 46), T_UR, 0, &f->user));
    FAILS(f, MM_ERR_NOT_MAPPED, mm_paging_replace(pt, mm_vaddr(0), to, T_UR, 0, &f->user));
    FAILS(f, MM_ERR_HUGE_PAGE, mm_paging_replace(pt, mm_vaddr(P1G), to, T_UR, 0, &f->user));
    FAILS(f, MM_ERR_HUGE_PAGE,
          mm_paging_replace(pt, mm_vaddr(4 * P1G + P4K), to, T_UR, 0, &f->user));
}

static void test_clone(void **state)
{
    struct fixture *f = *state;
    struct mm_pagetable *pt = &f->m->user;
    struct mm_pagetable *to = &f->copy;
    struct mm_pagetable none = {0};
    struct mm_x86_64 other = {0};
    struct mm_pagetable stranger;
    struct mm_paging_ops ops;
    struct mm_vrange all = t_range(0, HALF);

    FAILS(f, MM_ERR_INVALID_ARGUMENT, mm_paging_clone(NULL, to, all, NULL, NULL, &f->user));
    FAILS(f, MM_ERR_INVALID_ARGUMENT, mm_paging_clone(pt, NULL, all, NULL, NULL, &f->user));
    FAILS(f, MM_ERR_NOT_INITIALIZED, mm_paging_clone(&none, to, all, NULL, NULL, &f->user));
    FAILS(f, MM_ERR_NOT_INITIALIZED, mm_paging_clone(pt, &none, all, NULL, NULL, &f->user));
    FAILS(f, MM_ERR_INVALID_ARGUMENT, mm_paging_clone(pt, to, all, NULL, NULL, NULL));
    FAILS(f, MM_ERR_INVALID_ARGUMENT, mm_paging_clone(pt, to, all, NULL, NULL, &f->kernel));
    FAILS(f, MM_ERR_INVALID_ARGUMENT, mm_paging_clone(pt, pt, all, NULL, NULL, &f->user));
    FAILS(f, MM_ERR_INVALID_ARGUMENT,
          mm_paging_clone(pt, &f->m->kernel, all, NULL, NULL, &f->user));
    FAILS(f, MM_ERR_INVALID_ARGUMENT,
          mm_paging_clone(&f->m->kernel, to, t_range(T_KERNEL_LOW, P4K), NULL, NULL, &f->kernel));
    assert_int_equal(mm_x86_64_init(&other, &t_cpu_ops, &f->m->cpus), MM_OK);
    stranger = f->copy;
    stranger.backend = mm_x86_64_backend(&other);
    FAILS(f, MM_ERR_INVALID_ARGUMENT, mm_paging_clone(pt, &stranger, all, NULL, NULL, &f->user));
    stranger = f->copy;
    ops = *stranger.backend.ops;
    stranger.backend.ops = &ops;
    FAILS(f, MM_ERR_INVALID_ARGUMENT, mm_paging_clone(pt, &stranger, all, NULL, NULL, &f->user));
    stranger = f->copy;
    stranger.user.len = P1G; /* a kernel's that gives its users less */
    FAILS(f, MM_ERR_INVALID_ADDRESS,
          mm_paging_clone(pt, &stranger, t_range(P1G, P4K), NULL, NULL, &f->user));
    FAILS(f, MM_ERR_NOT_ALIGNED, mm_paging_clone(pt, to, t_range(1, P4K), NULL, NULL, &f->user));
    FAILS(f, MM_ERR_INVALID_SIZE, mm_paging_clone(pt, to, t_range(0, 0), NULL, NULL, &f->user));
    FAILS(f, MM_ERR_INVALID_ADDRESS,
          mm_paging_clone(pt, to, t_range(HALF, P4K), NULL, NULL, &f->user));
    FAILS(f, MM_ERR_HUGE_PAGE,
          mm_paging_clone(pt, to, t_range(0, P1G + P4K), NULL, NULL, &f->user));
    FAILS(f, MM_ERR_HUGE_PAGE,
          mm_paging_clone(pt, to, t_range(4 * P1G + P4K, 2 * P1G), NULL, NULL, &f->user));
    assert_int_equal(t_map(to, 7 * P1G, P1G, P4K, T_UR), MM_OK);
    FAILS(f, MM_ERR_ALREADY_MAPPED, mm_paging_clone(pt, to, all, NULL, NULL, &f->user));
    assert_int_equal(t_unmap(to, 7 * P1G, P4K, 0), MM_OK);
}

static bool see(void *ctx, const struct mm_mapping *mapping)
{
    (void)mapping;
    ++*(unsigned *)ctx;
    return true;
}

static void test_looking(void **state)
{
    struct fixture *f = *state;
    const struct mm_pagetable *pt = &f->m->user;
    struct mm_pagetable none = {0};
    struct mm_paging_stats stats;
    struct mm_mapping out;
    struct mm_mapping before;
    unsigned seen = 0;

    memset(&out, 0x5a, sizeof(out));
    memcpy(&before, &out, sizeof(out));
    FAILS(f, MM_ERR_INVALID_ARGUMENT, mm_paging_translate(NULL, mm_vaddr(0), &out));
    FAILS(f, MM_ERR_INVALID_ARGUMENT, mm_paging_translate(pt, mm_vaddr(0), NULL));
    FAILS(f, MM_ERR_NOT_INITIALIZED, mm_paging_translate(&none, mm_vaddr(0), &out));
    FAILS(f, MM_ERR_INVALID_ADDRESS, mm_paging_translate(pt, mm_vaddr(HALF), &out));
    FAILS(f, MM_ERR_INVALID_ADDRESS, mm_paging_translate(pt, mm_vaddr(T_KERNEL_LOW - 1), &out));
    FAILS(f, MM_ERR_INVALID_ADDRESS,
          mm_paging_translate(pt, mm_vaddr((UINT64_C(1) << 56) - 1), &out));
    assert_memory_equal(&before, &out, sizeof(out));
    FAILS(f, MM_ERR_NOT_MAPPED, mm_paging_translate(pt, mm_vaddr(HALF - 1), &out));
    FAILS(f, MM_ERR_NOT_MAPPED, mm_paging_translate(pt, mm_vaddr(UINT64_MAX), &out));

    FAILS(f, MM_ERR_INVALID_ARGUMENT, mm_paging_walk(NULL, t_range(0, P4K), see, &seen));
    FAILS(f, MM_ERR_INVALID_ARGUMENT, mm_paging_walk(pt, t_range(0, P4K), NULL, &seen));
    FAILS(f, MM_ERR_NOT_INITIALIZED, mm_paging_walk(&none, t_range(0, P4K), see, &seen));
    FAILS(f, MM_ERR_INVALID_SIZE, mm_paging_walk(pt, t_range(0, 0), see, &seen));
    FAILS(f, MM_ERR_INVALID_ADDRESS, mm_paging_walk(pt, t_range(0, HALF + 1), see, &seen));
    FAILS(f, MM_ERR_INVALID_ADDRESS, mm_paging_walk(pt, t_range(UINT64_MAX, 2), see, &seen));
    FAILS(f, MM_ERR_INVALID_ADDRESS,
          mm_paging_walk(pt, t_range(P4K, UINT64_MAX - P4K), see, &seen));
    assert_int_equal(seen, 0);

    FAILS(f, MM_ERR_INVALID_ARGUMENT, mm_paging_dump(NULL, t_range(0, P4K), 0));
    FAILS(f, MM_ERR_NOT_INITIALIZED, mm_paging_dump(&none, t_range(0, P4K), 0));
    FAILS(f, MM_ERR_INVALID_SIZE, mm_paging_dump(pt, t_range(0, 0), 0));
    FAILS(f, MM_ERR_INVALID_ADDRESS, mm_paging_dump(pt, t_range(HALF, P4K), 0));
    FAILS(f, MM_ERR_INVALID_ARGUMENT, mm_paging_get_stats(NULL, &stats));
    FAILS(f, MM_ERR_INVALID_ARGUMENT, mm_paging_get_stats(pt, NULL));
    FAILS(f, MM_ERR_NOT_INITIALIZED, mm_paging_get_stats(&none, &stats));
    FAILS(f, MM_ERR_INVALID_ARGUMENT, mm_paging_check(NULL));
    FAILS(f, MM_ERR_NOT_INITIALIZED, mm_paging_check(&none));
    FAILS(f, MM_ERR_INVALID_ARGUMENT, mm_paging_activate(NULL));
    FAILS(f, MM_ERR_NOT_INITIALIZED, mm_paging_activate(&none));
    assert_int_equal(mm_paging_root(&none).raw, 0);
    assert_int_equal(mm_paging_root(NULL).raw, 0);
    assert_int_equal(mm_paging_root(pt).raw, pt->root.raw);
    FAILS(f, MM_ERR_INVALID_ARGUMENT, mm_paging_destroy(NULL));
    FAILS(f, MM_ERR_NOT_INITIALIZED, mm_paging_destroy(&none));
    FAILS(f, MM_ERR_BUSY, mm_paging_destroy(&f->m->kernel));
    assert_int_equal(mm_paging_activate(&f->m->user), MM_OK);
    FAILS(f, MM_ERR_BUSY, mm_paging_destroy(&f->m->user));
    FAILS(f, MM_ERR_INVALID_ARGUMENT,
          mm_paging_load_root((struct mm_paging_backend){NULL, NULL}, mm_paddr(0)));
    FAILS(f, MM_ERR_NOT_ALIGNED, mm_paging_load_root(pt->backend, mm_paddr(P4K - 1)));
    assert_int_equal(mm_paging_current_root((struct mm_paging_backend){NULL, NULL}).raw, 0);
    assert_int_equal(mm_paging_current_root(pt->backend).raw, pt->root.raw);
    assert_int_equal(mm_paging_load_root(pt->backend, f->m->kernel.root), MM_OK);
    assert_int_equal(mm_paging_current_root(pt->backend).raw, f->m->kernel.root.raw);
}

static void test_gather(void **state)
{
    struct fixture *f = *state;
    struct mm_pagetable none = {0};
    struct mm_gather gather;

    memset(&gather, 0xa5, sizeof(gather));
    FAILS(f, MM_ERR_INVALID_ARGUMENT, mm_gather_begin(NULL, &f->m->user));
    FAILS(f, MM_ERR_INVALID_ARGUMENT, mm_gather_begin(&gather, NULL));
    FAILS(f, MM_ERR_NOT_INITIALIZED, mm_gather_begin(&gather, &none));
    /* Never begun: left alone. */
    mm_gather_add_range(&gather, t_range(0, P4K));
    mm_gather_add_frames(&gather, mm_pfn(T_LEAVES), 1);
    mm_gather_end(&gather);
    mm_gather_add_range(NULL, t_range(0, P4K));
    mm_gather_add_frames(NULL, mm_pfn(T_LEAVES), 1);
    mm_gather_end(NULL);
    for (size_t i = 0; i < sizeof(gather); i++) {
        assert_int_equal(((unsigned char *)&gather)[i], 0xa5);
    }
    assert_int_equal(f->m->nr_released, 0);
    assert_int_equal(mm_gather_begin(&gather, &f->m->user), MM_OK);
    mm_gather_add_frames(&gather, mm_pfn(T_LEAVES), 0);
    mm_gather_add_frames(&gather, mm_pfn(T_LEAVES + 4), 4);
    mm_gather_add_frames(&gather, mm_pfn(T_LEAVES + 8), 1);
    mm_gather_add_frames(&gather, mm_pfn(T_LEAVES + 2), 2);
    assert_int_equal(gather.nr_runs, 1);
    mm_gather_end(&gather);
    assert_int_equal(f->m->nr_released, 7);
    assert_int_equal(f->m->released[1] + f->m->released[9], 0);
}

/* --- odd numbers ------------------------------------------------------------------------------ */

static const uint64_t odd[] = {
    0,
    1,
    P4K - 1,
    P4K,
    P4K + 1,
    P2M,
    6 * P1G,
    HALF - P4K,
    HALF - 1,
    HALF,
    HALF + 1,
    (UINT64_C(1) << 56) - 1,
    UINT64_C(1) << 56,
    T_KERNEL_LOW,
    T_KERNEL_LOW - P4K,
    UINT64_MAX - P4K + 1,
    UINT64_MAX - 1,
    UINT64_MAX,
};

#define NR_ODD (sizeof(odd) / sizeof(odd[0]))

/* What must be the answer, from the documentation alone. */
static mm_status_t range_status(const struct mm_pagetable *pt, uint64_t start, uint64_t len)
{
    uint64_t base = pt->is_user != 0 ? 0 : T_KERNEL_LOW;
    uint64_t size = pt->is_user != 0 ? HALF : T_KERNEL_LOW_LEN;
    bool top = pt->is_user == 0 && start >= T_KERNEL_TOP;

    if (start % P4K != 0 || len % P4K != 0) {
        return MM_ERR_NOT_ALIGNED;
    }
    if (len == 0 || (start + len < start && start + len != 0)) {
        return MM_ERR_INVALID_SIZE;
    }
    if (top) {
        return MM_OK;
    }
    if (start < base || start - base >= size || len > size - (start - base)) {
        return MM_ERR_INVALID_ADDRESS;
    }
    return MM_OK;
}

static void test_cross_product(void **state)
{
    struct fixture *f = *state;
    struct mm_pagetable *pts[] = {&f->m->user, &f->m->kernel};
    struct mm_gather *gathers[] = {&f->user, &f->kernel};

    for (size_t n = 0; n < 2 * NR_ODD * NR_ODD; n++) {
        struct mm_pagetable *pt = pts[n & 1];
        struct mm_gather *gather = gathers[n & 1];
        struct mm_vrange range = t_range(odd[n / 2 % NR_ODD], odd[n / 2 / NR_ODD]);
        mm_status_t wanted = range_status(pt, range.start.raw, range.len);
        mm_prot_t prot = pt->is_user != 0 ? T_URW : MM_PROT_RW;

        for (size_t i = 0; i < NR_ODD; i++) {
            mm_status_t status;
            uint64_t before = state_of(f);

            if (range.len > P2M) {
                break; /* good ones would need tables without end */
            }
            status = mm_paging_map(pt, range, mm_paddr(odd[i]), prot, MM_MEMTYPE_WB, 0);
            if (status == MM_OK || status == MM_ERR_ALREADY_MAPPED) {
                assert_int_equal(wanted, MM_OK);
                assert_true(odd[i] % P4K == 0 && odd[i] < (UINT64_C(1) << 46));
            } else if (wanted != MM_OK) {
                assert_int_equal(status, wanted);
            } else {
                assert_int_equal(status, odd[i] % P4K != 0 ? MM_ERR_NOT_ALIGNED
                                         : odd[i] + range.len < odd[i] && odd[i] + range.len != 0
                                             ? MM_ERR_INVALID_SIZE
                                             : MM_ERR_INVALID_ADDRESS);
            }
            if (status == MM_OK) {
                assert_int_equal(t_unmap(pt, range.start.raw, range.len, 0), MM_OK);
            }
            assert_int_equal(before, state_of(f));
        }
        if (wanted != MM_OK) {
            FAILS(f, wanted, mm_paging_unmap(pt, range, MM_PAGING_SKIP_HOLES, gather));
            FAILS(f, wanted, mm_paging_protect(pt, range, prot, MM_PAGING_SKIP_HOLES, gather));
            if (pt->is_user != 0) {
                FAILS(f, wanted, mm_paging_clone(pt, &f->copy, range, NULL, NULL, gather));
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_map, setup, teardown),
        cmocka_unit_test(test_map_unsupported_type),
        cmocka_unit_test_setup_teardown(test_unmap, setup, teardown),
        cmocka_unit_test_setup_teardown(test_protect, setup, teardown),
        cmocka_unit_test_setup_teardown(test_replace, setup, teardown),
        cmocka_unit_test_setup_teardown(test_clone, setup, teardown),
        cmocka_unit_test_setup_teardown(test_looking, setup, teardown),
        cmocka_unit_test_setup_teardown(test_gather, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cross_product, setup, teardown),
    };

    return cmocka_run_group_tests_name("paging_bad_input", tests, NULL, NULL);
}
