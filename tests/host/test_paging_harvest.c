// SPDX-License-Identifier: MIT
/**
 * Harvests of accessed and dirty, and unmapping that tells of them: each leaf as it was, bits that were asked for cleared, and none
 * lost while the simulated CPU goes on using the pages. Hazard 15.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "slots_rig.h"

static int setup(void **state)
{
    *state = s_new("paging harvest");
    return 0;
}

static int teardown(void **state)
{
    s_delete(*state);
    return 0;
}

struct reported {
    struct slots_rig *r;
    unsigned next; /* page that comes next, at the earliest */
    unsigned nr;
    unsigned stop_after; /* 0: never */
    uint32_t what;
    bool touch; /* use pages while it runs */
};

static bool report(void *ctx, const struct mm_mapping *leaf)
{
    struct reported *t = ctx;
    struct slots_rig *r = t->r;
    unsigned page = (unsigned)((leaf->page.start.raw - S_START) / P4K);
    unsigned nr = (unsigned)(leaf->page.len / P4K);
    const struct s_page *p = &r->pages[page];

    assert_true(page >= t->next);
    for (unsigned i = t->next; i < page; i++) { /* none was left out */
        assert_int_not_equal(r->pages[i].slot.kind, MM_SLOT_LEAF);
    }
    assert_int_equal(p->slot.kind, MM_SLOT_LEAF);
    assert_int_equal(nr, p->large ? 512 : 1);
    assert_int_equal(leaf->paddr.raw, p->slot.paddr.raw);
    assert_int_equal(leaf->accessed, p->slot.accessed);
    assert_int_equal(leaf->dirty, p->slot.dirty);
    assert_int_equal(leaf->prot, t_mpages_reported(p->slot.prot));
    for (unsigned i = page; i < page + nr; i++) {
        r->pages[i].slot.accessed &= (t->what & MM_PAGING_ACCESSED) == 0;
        r->pages[i].slot.dirty &= (t->what & MM_PAGING_DIRTY) == 0;
    }
    t->next = page + nr;
    t->nr++;
    if (t->touch) { /* a page that comes later, so that no stale translation is in the way */
        unsigned later = (unsigned)t_prng_range(&r->prng, t->next, S_PAGES);

        if (later < S_PAGES && !(r->pages[later].large && later % 512 != 0)) {
            t_cpu_drop_all(r->m->cpu);
            s_touch(r, later, t_prng_chance(&r->prng, 1, 2));
        }
    }
    return t->nr != t->stop_after;
}

static void fill(struct slots_rig *r)
{
    for (unsigned p = 0; p < S_PAGES;) {
        bool large = p % 512 == 0 && t_prng_chance(&r->prng, 1, 2);
        struct mm_slot now = s_draw_slot(r, large);
        struct mm_slot seen = mm_slot_empty();

        assert_int_equal(
            mm_paging_slot_cas(r->pt, mm_vaddr(s_at(p)), large ? P2M : P4K, &seen, &now, NULL),
            MM_OK);
        s_set(r, p, large, &now);
        p += large ? 512 : 1;
    }
}

static void test_random(void **state)
{
    struct slots_rig *r = *state;
    struct mm_gather gather;

    for (unsigned n = 0; n < 400; n++) {
        struct reported t = {.r = r, .touch = n % 2 != 0};
        unsigned first;
        unsigned end;

        if (n % 20 == 0) {
            assert_int_equal(t_unmap(r->pt, S_START, S_LEN, MM_PAGING_SKIP_HOLES), MM_OK);
            s_unmap(r, 0, S_PAGES);
            fill(r);
        }
        for (unsigned i = 0; i < 40; i++) {
            s_touch(r, (unsigned)t_prng_below(&r->prng, S_PAGES), t_prng_chance(&r->prng, 1, 2));
        }
        s_draw_range(r, &first, &end);
        t.next = s_first(r, first);
        t.what = (uint32_t)t_prng_range(&r->prng, 1, 3);
        t.stop_after = t_prng_chance(&r->prng, 1, 4) ? 3 : 0;
        assert_int_equal(mm_gather_begin(&gather, r->pt), MM_OK);
        assert_int_equal(mm_paging_harvest(r->pt, t_range(s_at(first), (end - first) * P4K), t.what,
                                           report, &t, &gather),
                         MM_OK);
        for (unsigned i = t.next; i < end && t.nr != t.stop_after; i++) {
            assert_int_not_equal(r->pages[i].slot.kind, MM_SLOT_LEAF);
        }
        mm_gather_end(&gather);
        t_nothing_stale(r->m);
        s_check(r);
    }
}

/* --- taking ----------------------------------------------------------------------------------- */

struct told {
    struct slots_rig *r;
    unsigned next; /* page that comes next, at the earliest */
    unsigned end;
    bool touch;
};

static void taken(void *ctx, const struct mm_mapping *leaf)
{
    struct told *t = ctx;
    struct slots_rig *r = t->r;
    unsigned page = (unsigned)((leaf->page.start.raw - S_START) / P4K);
    unsigned nr = (unsigned)(leaf->page.len / P4K);
    const struct s_page *p = &r->pages[page];
    struct mm_slot none = mm_slot_empty();

    assert_true(page >= t->next && page + nr <= t->end);
    for (unsigned i = t->next; i < page; i++) { /* none was left out */
        assert_int_not_equal(r->pages[i].slot.kind, MM_SLOT_LEAF);
    }
    assert_int_equal(p->slot.kind, MM_SLOT_LEAF);
    assert_int_equal(nr, p->large ? 512 : 1);
    assert_int_equal(leaf->kind, MM_SLOT_LEAF);
    assert_int_equal(leaf->paddr.raw, p->slot.paddr.raw);
    assert_int_equal(leaf->accessed, p->slot.accessed);
    assert_int_equal(leaf->dirty, p->slot.dirty);
    assert_int_equal(leaf->prot, t_mpages_reported(p->slot.prot));
    assert_int_equal(leaf->type, p->slot.type);
    assert_int_equal(leaf->software, p->slot.software);
    assert_int_equal(leaf->key, p->slot.key);
    s_set(r, page, nr != 1, &none);
    t->next = page + nr;
    if (t->touch) { /* a page that comes later */
        unsigned later = (unsigned)t_prng_range(&r->prng, t->next, S_PAGES);

        if (later < S_PAGES && !(r->pages[later].large && later % 512 != 0)) {
            t_cpu_drop_all(r->m->cpu);
            s_touch(r, later, t_prng_chance(&r->prng, 1, 2));
        }
    }
}

static void test_take_random(void **state)
{
    struct slots_rig *r = *state;
    struct mm_gather gather;

    for (unsigned n = 0; n < 400; n++) {
        uint32_t flags = (t_prng_chance(&r->prng, 3, 4) ? MM_PAGING_SPLIT : 0) |
                         (t_prng_chance(&r->prng, 3, 4) ? MM_PAGING_SKIP_HOLES : 0);
        struct told t = {.r = r, .touch = n % 2 != 0};
        unsigned first;
        mm_status_t want;

        if (n % 20 == 0) {
            assert_int_equal(t_unmap(r->pt, S_START, S_LEN, MM_PAGING_SKIP_HOLES), MM_OK);
            s_unmap(r, 0, S_PAGES);
            fill(r);
        }
        for (unsigned i = 0; i < 40; i++) {
            s_touch(r, (unsigned)t_prng_below(&r->prng, S_PAGES), t_prng_chance(&r->prng, 1, 2));
        }
        s_draw_range(r, &first, &t.end);
        t.next = first;
        want = s_edit(r, first, t.end, flags, false);
        if (want == MM_OK) {
            s_split(r, first, false);
            s_split(r, t.end, false);
        }
        assert_int_equal(mm_gather_begin(&gather, r->pt), MM_OK);
        assert_int_equal(mm_paging_take(r->pt, t_range(s_at(first), (t.end - first) * P4K), flags,
                                        taken, &t, &gather),
                         want);
        for (unsigned i = t.next; i < t.end && want == MM_OK; i++) {
            assert_int_not_equal(r->pages[i].slot.kind, MM_SLOT_LEAF);
        }
        assert_true(want == MM_OK || t.next == first);
        mm_gather_end(&gather);
        if (want == MM_OK) {
            s_unmap(r, first, t.end);
        }
        t_nothing_stale(r->m);
        s_check(r);
    }
}

/* A frame is told of before it is released, and all are released; tables go when they are empty. */
struct released {
    struct t_paging *m;
    uint64_t nr_told;
};

static void told_first(void *ctx, const struct mm_mapping *leaf)
{
    struct released *t = ctx;
    uint64_t frame = leaf->paddr.raw / P4K;

    for (uint64_t i = 0; i < leaf->page.len / P4K; i++) {
        assert_int_equal(t->m->released[frame + i - T_LEAVES], 0);
    }
    t->nr_told++;
}

static void test_take_releases(void **state)
{
    struct slots_rig *r = *state;
    uint64_t nr_used = r->m->nr_used;
    struct released t = {.m = r->m};
    struct mm_gather gather;

    /* Frames in no order, so that the gather is full soon; then a large leaf. */
    for (uint64_t i = 0; i < 512; i++) {
        assert_int_equal(
            t_map(r->pt, S_START + i * P4K, (T_LEAVES + (i * 2) % 1023) * P4K, P4K, T_URW), MM_OK);
    }
    assert_int_equal(t_map(r->pt, S_START + P2M, (T_LEAVES + 2048) * P4K, P2M, T_URW), MM_OK);
    assert_int_equal(mm_gather_begin(&gather, r->pt), MM_OK);
    assert_int_equal(mm_paging_take(r->pt, t_range(S_START, 2 * P2M), MM_PAGING_RELEASE, told_first,
                                    &t, &gather),
                     MM_OK);
    mm_gather_end(&gather);
    assert_int_equal(t.nr_told, 513);
    assert_int_equal(r->m->nr_released, 1024);
    assert_int_equal(r->m->nr_used, nr_used);
    s_check(r);
}

/* A root that nobody walks, and the kernel's with global pages. */
static void test_take_of_others(void **state)
{
    struct slots_rig *r = *state;
    struct t_paging *m = r->m;
    struct released t = {.m = m};
    struct mm_gather gather;
    struct mm_pagetable other = {0};

    assert_int_equal(mm_paging_init_user(&other, &m->kernel), MM_OK);
    assert_int_equal(t_map(&other, S_START, T_LEAVES * P4K, P2M + 3 * P4K, T_URW), MM_OK);
    assert_int_equal(mm_gather_begin(&gather, &other), MM_OK);
    assert_int_equal(
        mm_paging_take(&other, t_range(S_START, P2M + 3 * P4K), 0, told_first, &t, &gather), MM_OK);
    mm_gather_end(&gather);
    assert_int_equal(t.nr_told, 4);
    assert_int_equal(mm_paging_check(&other), MM_OK);
    assert_int_equal(other.nr_tables, 1);
    assert_int_equal(mm_paging_destroy(&other), MM_OK);

    /* So many that all is dropped, not one page after the other: what is global must be said. */
    assert_int_equal(
        t_map(&m->kernel, T_KERNEL_LOW, T_LEAVES * P4K, 64 * P4K, MM_PROT_RW | MM_PROT_GLOBAL),
        MM_OK);
    assert_int_equal(t_cpu_access(m->cpu, T_KERNEL_LOW + P4K, T_MMU_WRITE, NULL), T_CPU_DONE);
    assert_int_equal(mm_gather_begin(&gather, &m->kernel), MM_OK);
    assert_int_equal(
        mm_paging_take(&m->kernel, t_range(T_KERNEL_LOW, 64 * P4K), 0, told_first, &t, &gather),
        MM_OK);
    mm_gather_end(&gather);
    assert_int_equal(t.nr_told, 68);
    assert_int_not_equal(t_cpu_access(m->cpu, T_KERNEL_LOW + P4K, T_MMU_WRITE, NULL), T_CPU_DONE);
    t_nothing_stale(m);
    assert_int_equal(mm_paging_check(&m->kernel), MM_OK);
}

/* After the gather has ended the hardware sets the bits anew: no TLB remembers that they are. */
static void test_set_again(void **state)
{
    struct slots_rig *r = *state;
    struct mm_slot leaf = mm_slot_leaf(mm_paddr(P1G), T_URW, MM_MEMTYPE_WB);
    struct mm_slot seen = mm_slot_empty();
    struct mm_gather gather;

    assert_int_equal(mm_paging_slot_cas(r->pt, mm_vaddr(s_at(9)), P4K, &seen, &leaf, NULL), MM_OK);
    s_set(r, 9, false, &leaf);
    for (unsigned n = 0; n < 4; n++) {
        struct reported t = {.r = r, .what = MM_PAGING_ACCESSED | MM_PAGING_DIRTY};

        s_touch(r, 9, true);
        assert_true(r->pages[9].slot.dirty);
        s_check(r);
        assert_int_equal(mm_gather_begin(&gather, r->pt), MM_OK);
        assert_int_equal(
            mm_paging_harvest(r->pt, t_range(s_at(0), 64 * P4K), t.what, report, &t, &gather),
            MM_OK);
        assert_int_equal(gather.nr_ranges, 1);
        assert_int_equal(gather.ranges[0].start.raw, s_at(9));
        assert_int_equal(gather.ranges[0].len, P4K);
        mm_gather_end(&gather);
        /* Nothing to clear: nothing to flush. */
        assert_int_equal(mm_gather_begin(&gather, r->pt), MM_OK);
        assert_int_equal(
            mm_paging_harvest(r->pt, t_range(s_at(0), 64 * P4K), t.what, NULL, NULL, &gather),
            MM_OK);
        assert_int_equal(gather.nr_ranges, 0);
        mm_gather_end(&gather);
    }
}

static void test_bad(void **state)
{
    struct slots_rig *r = *state;
    struct mm_gather gather;

    assert_int_equal(mm_gather_begin(&gather, r->pt), MM_OK);
    assert_int_equal(mm_paging_harvest(r->pt, t_range(S_START, P4K), 0, NULL, NULL, &gather),
                     MM_ERR_INVALID_FLAGS);
    assert_int_equal(mm_paging_harvest(r->pt, t_range(S_START, P4K), 4, NULL, NULL, &gather),
                     MM_ERR_INVALID_FLAGS);
    assert_int_equal(mm_paging_harvest(r->pt, t_range(S_START, 1), 1, NULL, NULL, &gather),
                     MM_ERR_NOT_ALIGNED);
    assert_int_equal(mm_paging_harvest(r->pt, t_range(S_START, P4K), 1, NULL, NULL, NULL),
                     MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_paging_take(r->pt, t_range(S_START, P4K), 0, NULL, NULL, &gather),
                     MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(
        mm_paging_take(r->pt, t_range(S_START, P4K), MM_PAGING_MERGE, taken, NULL, &gather),
        MM_ERR_INVALID_FLAGS);
    assert_int_equal(mm_paging_take(r->pt, t_range(S_START, P4K), 0, taken, NULL, &gather),
                     MM_ERR_NOT_MAPPED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_random, setup, teardown),
        cmocka_unit_test_setup_teardown(test_take_random, setup, teardown),
        cmocka_unit_test_setup_teardown(test_take_releases, setup, teardown),
        cmocka_unit_test_setup_teardown(test_take_of_others, setup, teardown),
        cmocka_unit_test_setup_teardown(test_set_again, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad, setup, teardown),
    };

    return cmocka_run_group_tests_name("paging_harvest", tests, NULL, NULL);
}
