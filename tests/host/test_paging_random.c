// SPDX-License-Identifier: MIT
/**
 * Random operations on page tables against the flat model: map, unmap, protect, replace and clone,
 * on kernel and user roots of 48 and 57 bits, with and without 1 GiB leaves, in use and not. A
 * simulated CPU makes random accesses in between; when a gather has ended, nothing in its caches
 * may disagree with the tables. A tenth of the operations run out of frames at a random point.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "check.h"
#include "ledger_mm.h"
#include "model_pages.h"
#include "prng.h"
#include "t_paging.h"

#define P4K UINT64_C(0x1000)
#define P2M UINT64_C(0x200000)
#define P1G UINT64_C(0x40000000)

#if MM_TEST_SANITIZED
#define NR_OPERATIONS 10000u
#else
#define NR_OPERATIONS 100000u
#endif

struct window {
    uint64_t start;
    uint64_t len;
};

struct run {
    struct t_machine *m;
    struct mm_pagetable *pt;
    struct t_prng prng;
    struct t_mpages model;
    struct window windows[4];
    unsigned nr_windows;
    bool user;
    bool cloned; /* several calls in one operation: some may have succeeded */
};

/* --- the model's words and ours -------------------------------------------------------------- */

static mm_status_t status_of(enum t_mpages_status status)
{
    switch (status) {
    case T_MPAGES_OK:
        return MM_OK;
    case T_MPAGES_ALREADY_MAPPED:
        return MM_ERR_ALREADY_MAPPED;
    case T_MPAGES_NOT_MAPPED:
        return MM_ERR_NOT_MAPPED;
    case T_MPAGES_HUGE:
        return MM_ERR_HUGE_PAGE;
    default:
        return MM_ERR_INVALID_ADDRESS;
    }
}

static unsigned model_flags(uint32_t flags)
{
    return ((flags & MM_PAGING_SPLIT) != 0 ? (unsigned)T_MPAGES_SPLIT : 0) |
           ((flags & MM_PAGING_SKIP_HOLES) != 0 ? (unsigned)T_MPAGES_HOLES : 0);
}

/* What a leaf made with `prot` reports. */
static mm_prot_t reported(mm_prot_t prot)
{
    if ((prot & (MM_PROT_READ | MM_PROT_WRITE | MM_PROT_EXEC)) == 0) {
        return MM_PROT_NONE;
    }
    return prot | MM_PROT_READ;
}

/* --- choosing -------------------------------------------------------------------------------- */

static mm_prot_t random_prot(struct run *r)
{
    mm_prot_t prot = (mm_prot_t)t_prng_below(&r->prng, 8);

    if (r->user) {
        return prot | MM_PROT_USER;
    }
    return prot | (t_prng_chance(&r->prng, 1, 2) ? MM_PROT_GLOBAL : 0);
}

/* A range in one window: mostly short, often aligned, at times all of it. */
static struct mm_vrange random_range(struct run *r)
{
    const struct window *w = &r->windows[t_prng_below(&r->prng, r->nr_windows)];
    uint64_t pages = w->len / P4K;
    uint64_t first = t_prng_below(&r->prng, pages);
    uint64_t nr = 1 + t_prng_magnitude(&r->prng, 10);

    switch (t_prng_below(&r->prng, 40)) {
    case 0:
        return t_range(w->start, w->len);
    case 1:
    case 2: /* around a gigabyte, where there is one */
        first = pages >= 0x40000 ? t_prng_below(&r->prng, pages / 0x40000) * 0x40000 : 0;
        nr = 0x40000;
        break;
    case 3:
    case 4:
    case 5:
    case 6:
    case 7:
    case 8: /* whole large leaves */
        first = first / 512 * 512;
        nr = 512 * (1 + t_prng_below(&r->prng, 4));
        break;
    case 9: /* to the window's end */
        first = pages - (nr < pages ? nr : pages);
        break;
    default:
        break;
    }
    if (nr > pages - first) {
        nr = pages - first;
    }
    return t_range(w->start + first * P4K, nr * P4K);
}

/* Congruent to the address at some large size, mostly. */
static uint64_t random_paddr(struct run *r, uint64_t at)
{
    uint64_t paddr = (T_LEAVES * P4K) + t_prng_below(&r->prng, 64) * P1G;

    switch (t_prng_below(&r->prng, 4)) {
    case 0:
        return paddr + t_prng_below(&r->prng, 512) * P4K;
    case 1:
        return paddr + at % P2M;
    default:
        return paddr + at % P1G;
    }
}

/* --- comparing ------------------------------------------------------------------------------- */

static void compare_at(struct run *r, const struct mm_pagetable *pt, uint64_t at, bool shared)
{
    const struct t_mpage *page = t_mpages_at(&r->model, at);
    struct mm_mapping leaf;
    mm_status_t status = mm_paging_translate(pt, mm_vaddr(at), &leaf);
    mm_prot_t prot;

    if (page == NULL) {
        if (status != MM_ERR_NOT_MAPPED) {
            fail_msg("%#llx: mapped, and must not be", (unsigned long long)at);
        }
        return;
    }
    prot = reported(page->prot) & ~(shared ? MM_PROT_WRITE : 0u);
    if (status != MM_OK || leaf.paddr.raw + (at - leaf.page.start.raw) != page->paddr + at % P4K ||
        leaf.prot != prot || leaf.type != (mm_memtype_t)page->type ||
        leaf.page.len != UINT64_C(1) << page->leaf) {
        fail_msg("%#llx: status %d, %#llx prot %x type %d leaf %#llx; model %#llx %x %d %u",
                 (unsigned long long)at, (int)status, (unsigned long long)leaf.paddr.raw, leaf.prot,
                 (int)leaf.type, (unsigned long long)leaf.page.len, (unsigned long long)page->paddr,
                 prot, page->type, page->leaf);
    }
}

struct count {
    struct run *r;
    const struct mm_pagetable *pt;
    uint64_t nr[3];
    bool shared;
};

static bool compare_leaf(void *ctx, const struct mm_mapping *leaf)
{
    struct count *c = ctx;

    c->nr[leaf->page.len == P4K ? 0 : leaf->page.len == P2M ? 1 : 2]++;
    compare_at(c->r, c->pt, leaf->page.start.raw, c->shared);
    compare_at(c->r, c->pt, mm_vrange_last(leaf->page).raw, c->shared);
    return true;
}

static uint32_t refs_of_source(const void *ctx, uint64_t frame)
{
    return ((const struct t_machine *)ctx)->used[frame] ? 1 : 0;
}

/* Each frame that the source has given is a table of one of the roots. */
static void audit(const struct t_machine *m, const struct mm_pagetable *copy)
{
    struct t_ledger *ledger = t_ledger_open_of(refs_of_source, m, t_ram_base(m->ram), T_TABLES);
    struct mm_vrange none = {{0}, 0};

    t_ledger_root(ledger, &m->kernel, NULL, none);
    if (m->user.magic != 0) {
        t_ledger_root(ledger, &m->user, &m->kernel, none);
    }
    if (copy != NULL) {
        t_ledger_root(ledger, copy, &m->kernel, none);
    }
    T_LEGAL(t_ledger_close(ledger, 0));
}

/* Every leaf is in the model, and there are as many; the library's own check agrees. */
static void compare_all(struct run *r, const struct mm_pagetable *pt, bool shared)
{
    struct count c = {.r = r, .pt = pt, .shared = shared};

    for (unsigned i = 0; i < r->nr_windows; i++) {
        assert_int_equal(
            mm_paging_walk(pt, t_range(r->windows[i].start, r->windows[i].len), compare_leaf, &c),
            MM_OK);
    }
    assert_int_equal(c.nr[0], t_mpages_count(&r->model, 12));
    assert_int_equal(c.nr[1] * 512, t_mpages_count(&r->model, 21));
    assert_int_equal(c.nr[2] * 512 * 512, t_mpages_count(&r->model, 30));
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(c.nr[i], pt->nr_leaves[i]);
    }
    assert_int_equal(mm_paging_check(pt), MM_OK);
}

/* --- operations ------------------------------------------------------------------------------ */

static mm_status_t op_map(struct run *r, struct mm_vrange range)
{
    static const struct {
        uint32_t flags;
        unsigned largest;
    } sizes[] = {{0, 0}, {0, 0}, {MM_PAGING_MAX_2M, 21}, {MM_PAGING_ONLY_4K, 12}};
    uint64_t paddr = random_paddr(r, range.start.raw);
    mm_prot_t prot = random_prot(r);
    mm_memtype_t type = (mm_memtype_t)t_prng_below(&r->prng, MM_MEMTYPE_COUNT);
    unsigned size = (unsigned)t_prng_below(&r->prng, 4);
    mm_status_t status;

    if (size == 3 && range.len > 64 * P2M) {
        size = 0; /* no thousands of tables */
    }
    status = mm_paging_map(r->pt, range, mm_paddr(paddr), prot, type, sizes[size].flags);
    if (status != MM_ERR_NO_MEMORY) {
        assert_int_equal(status,
                         status_of(t_mpages_map(&r->model, range.start.raw, paddr, range.len, prot,
                                                (uint16_t)type, sizes[size].largest)));
    }
    return status;
}

static mm_status_t op_unmap(struct run *r, struct mm_vrange range, struct mm_gather *gather)
{
    uint32_t flags = (uint32_t)t_prng_below(&r->prng, 4);
    mm_status_t status = mm_paging_unmap(r->pt, range, flags, gather);

    if (status != MM_ERR_NO_MEMORY) {
        assert_int_equal(status, status_of(t_mpages_unmap(&r->model, range.start.raw, range.len,
                                                          model_flags(flags))));
    }
    return status;
}

static mm_status_t op_protect(struct run *r, struct mm_vrange range, struct mm_gather *gather)
{
    uint32_t flags = (uint32_t)t_prng_below(&r->prng, 4);
    mm_prot_t prot = random_prot(r);
    mm_status_t status = mm_paging_protect(r->pt, range, prot, flags, gather);

    if (status != MM_ERR_NO_MEMORY) {
        assert_int_equal(status, status_of(t_mpages_protect(&r->model, range.start.raw, range.len,
                                                            prot, model_flags(flags))));
    }
    return status;
}

static mm_status_t op_replace(struct run *r, struct mm_vrange range, struct mm_gather *gather)
{
    uint64_t at = range.start.raw;
    uint64_t paddr = random_paddr(r, at) & ~(P4K - 1);
    mm_prot_t prot = random_prot(r);
    mm_status_t status = mm_paging_replace(r->pt, mm_vaddr(at), mm_paddr(paddr), prot, 0, gather);
    const struct t_mpage *page = t_mpages_at(&r->model, at);
    uint16_t type;

    if (page == NULL) {
        assert_int_equal(status, MM_ERR_NOT_MAPPED);
    } else if (page->leaf != 12) {
        assert_int_equal(status, MM_ERR_HUGE_PAGE);
    } else {
        assert_int_equal(status, MM_OK);
        type = page->type;
        assert_int_equal(t_mpages_unmap(&r->model, at, P4K, 0), T_MPAGES_OK);
        assert_int_equal(t_mpages_map(&r->model, at, paddr, P4K, prot, type, 12), T_MPAGES_OK);
    }
    return status;
}

static void count_shared(void *ctx, mm_pfn_t first, uint64_t nr)
{
    uint64_t *frames = ctx;

    (void)first;
    *frames += nr;
}

/* Clone all windows into a new root, compare, and take it down again. */
static mm_status_t op_clone(struct run *r, struct mm_gather *gather)
{
    struct mm_pagetable copy = {0};
    mm_status_t status = mm_paging_init_user(&copy, &r->m->kernel);
    uint64_t frames = 0;
    unsigned done = 0;

    r->cloned = true;
    if (status != MM_OK) {
        return status;
    }
    for (; done < r->nr_windows && status == MM_OK; done++) {
        const struct window *w = &r->windows[done];

        status =
            mm_paging_clone(r->pt, &copy, t_range(w->start, w->len), count_shared, &frames, gather);
        if (status == MM_OK) { /* both sides lose the right to write */
            for (uint64_t i = 0; i < w->len / P4K; i++) {
                struct t_mpage *page =
                    (struct t_mpage *)(uintptr_t)t_mpages_at(&r->model, w->start + i * P4K);

                if (page != NULL && (page->prot & MM_PROT_WRITE) != 0) {
                    page->prot = reported(page->prot) & ~MM_PROT_WRITE;
                }
            }
        }
    }
    mm_gather_end(gather);
    if (status == MM_OK) {
        assert_int_equal(frames, t_mpages_count(&r->model, 0));
        compare_all(r, &copy, true);
    }
    assert_int_equal(mm_paging_check(&copy), MM_OK);
    audit(r->m, &copy);
    assert_int_equal(mm_paging_destroy(&copy), MM_OK);
    return status;
}

static mm_status_t one_operation(struct run *r, struct mm_vrange range, struct mm_gather *gather)
{
    switch (t_prng_below(&r->prng, 20)) {
    case 0:
    case 1:
    case 2:
    case 3:
    case 4:
    case 5:
    case 6:
    case 7:
        return op_map(r, range);
    case 8:
    case 9:
    case 10:
    case 11:
    case 12:
        return op_unmap(r, range, gather);
    case 13:
    case 14:
    case 15:
    case 16:
    case 17:
        return op_protect(r, range, gather);
    case 18:
        return op_replace(r, range, gather);
    default:
        return r->user && t_prng_chance(&r->prng, 1, 100) ? op_clone(r, gather) : MM_OK;
    }
}

static void random_accesses(struct run *r)
{
    for (unsigned i = 0; i < 4; i++) {
        struct mm_vrange range = random_range(r);
        uint32_t access = r->user ? T_PF_USER : 0;
        const struct t_mpage *page = t_mpages_at(&r->model, range.start.raw);
        uint64_t paddr = 0;
        uint32_t fault;
        bool allowed;

        access |= t_prng_chance(&r->prng, 1, 2) ? T_PF_WRITE : 0;
        fault = t_cpu_access(&r->m->cpu, range.start.raw, access, &paddr);
        allowed = page != NULL && reported(page->prot) != 0 &&
                  ((access & T_PF_WRITE) == 0 || (page->prot & MM_PROT_WRITE) != 0);
        assert_int_equal(fault == T_PF_NONE, allowed);
        if (allowed) {
            assert_int_equal(paddr, page->paddr);
        }
    }
}

static void operate(struct run *r, unsigned nr)
{
    uint64_t empty = r->pt->nr_tables;
    bool active = true;
    unsigned failed = 0;

    for (unsigned i = 0; i < nr; i++) {
        struct mm_vrange range = random_range(r);
        struct mm_gather gather;
        bool injected = t_prng_chance(&r->prng, 1, 10);
        bool hashed;
        uint64_t before;
        mm_status_t status;

        if (active) {
            random_accesses(r);
        }
        assert_int_equal(mm_gather_begin(&gather, r->pt), MM_OK);
        hashed = injected || i % 16 == 0; /* it reads every table */
        before = hashed ? t_state(r->m, NULL) : 0;
        if (injected) {
            t_inject_from(&r->m->inject, 1 + t_prng_below(&r->prng, 6));
        }
        r->cloned = false;
        status = one_operation(r, range, &gather);
        injected = injected && r->m->inject.fired > 0;
        t_inject_never(&r->m->inject);
        assert_int_equal(status == MM_ERR_NO_MEMORY, injected);
        if (status != MM_OK && !r->cloned) {
            assert_int_equal(gather.nr_ranges + gather.nr_tables, 0);
            if (hashed) {
                failed++;
                assert_int_equal(before, t_state(r->m, NULL));
            }
        }
        mm_gather_end(&gather);
        if (active) {
            const char *stale = t_cpu_stale(&r->m->cpu);

            if (stale != NULL) {
                fail_msg("operation %u: %s", i, stale);
            }
        }
        compare_at(r, r->pt, range.start.raw, false);
        compare_at(r, r->pt, mm_vrange_last(range).raw, false);
        if (i % 512 == 0) {
            compare_all(r, r->pt, false);
            audit(r->m, NULL);
        }
        if (t_prng_chance(&r->prng, 1, 2000)) {
            /* Switch between in use and not: both variants of access to entries. */
            active = !active;
            assert_int_equal(mm_paging_activate(active ? r->pt : &r->m->kernel), MM_OK);
            if (!active) {
                r->pt->active = 0;
            }
        }
        if (t_prng_chance(&r->prng, 1, 500)) {
            uint32_t flags = MM_PAGING_SKIP_HOLES;

            for (unsigned w = 0; w < r->nr_windows; w++) {
                assert_int_equal(t_unmap(r->pt, r->windows[w].start, r->windows[w].len, flags),
                                 MM_OK);
                T_LEGAL(t_mpages_unmap(&r->model, r->windows[w].start, r->windows[w].len,
                                       T_MPAGES_HOLES) == T_MPAGES_OK
                            ? NULL
                            : "cannot unmap");
            }
            assert_int_equal(r->pt->nr_tables, empty);
        }
    }
    compare_all(r, r->pt, false);
    audit(r->m, NULL);
    assert_true(failed > 0);
}

/* --- geometries ------------------------------------------------------------------------------ */

static void add_window(struct run *r, uint64_t start, uint64_t len)
{
    t_mpages_add_window(&r->model, start, len);
    r->windows[r->nr_windows++] = (struct window){start, len};
}

static void run_random(const char *name, bool user, bool la57, bool page_1g)
{
    static struct run r;
    struct t_machine *m = t_machine_new();
    uint64_t half = UINT64_C(1) << (la57 ? 56 : 47);
    struct mm_vrange ranges[2] = {
        {{-half}, la57 ? UINT64_C(1) << 50 : UINT64_C(16) << 30},
        {{T_KERNEL_TOP}, T_KERNEL_TOP_LEN},
    };
    struct mm_paging_config config;

    memset(&r, 0, sizeof(r));
    t_prng_start(&r.prng, name);
    t_mpages_init(&r.model, page_1g ? 30 : 21);
    r.m = m;
    r.user = user;
    m->cpu.cr4 |= la57 ? T_CR4_LA57 : 0;
    m->cpu.extended1.edx &= page_1g ? UINT32_MAX : ~(1u << 26);
    t_machine_arch(m);
    config = t_config(m);
    config.kernel_ranges = ranges;
    config.user.len = half;
    if (user) { /* a corner, across 1 GiB, the top of the half */
        add_window(&r, 0, 16 * P2M);
        add_window(&r, 3 * P1G - 4 * P2M, P1G + 8 * P2M);
        add_window(&r, (half >> 1) - 8 * P2M, 16 * P2M); /* across entries of the root */
        add_window(&r, half - 8 * P2M, 8 * P2M);
    } else {
        add_window(&r, -half, 16 * P2M);
        add_window(&r, -half + 7 * P1G - 4 * P2M, P1G + 8 * P2M);
        add_window(&r, T_KERNEL_TOP, 4 * P2M);
        add_window(&r, 0 - 16 * P2M, 16 * P2M);
    }
    assert_int_equal(mm_paging_init_kernel(&m->kernel, &config), MM_OK);
    assert_int_equal(mm_paging_init_user(&m->user, &m->kernel), MM_OK);
    r.pt = user ? &m->user : &m->kernel;
    assert_int_equal(mm_paging_activate(r.pt), MM_OK);
    operate(&r, NR_OPERATIONS / 4 * (getenv("MM_TEST_FULL") != NULL ? 20 : 1));
    t_mpages_destroy(&r.model);
    t_machine_delete(m);
}

static void test_user_48(void **state)
{
    (void)state;
    run_random("user 48", true, false, true);
}

static void test_user_57(void **state)
{
    (void)state;
    run_random("user 57", true, true, false);
}

static void test_kernel_48(void **state)
{
    (void)state;
    run_random("kernel 48", false, false, false);
}

static void test_kernel_57(void **state)
{
    (void)state;
    run_random("kernel 57", false, true, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_user_48),
        cmocka_unit_test(test_user_57),
        cmocka_unit_test(test_kernel_48),
        cmocka_unit_test(test_kernel_57),
    };

    return cmocka_run_group_tests_name("paging_random", tests, NULL, NULL);
}
