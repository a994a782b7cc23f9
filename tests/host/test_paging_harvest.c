// SPDX-License-Identifier: MIT
/**
 * Harvests of accessed and dirty: each leaf as it was, bits that were asked for cleared, and none
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
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_random, setup, teardown),
        cmocka_unit_test_setup_teardown(test_set_again, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad, setup, teardown),
    };

    return cmocka_run_group_tests_name("paging_harvest", tests, NULL, NULL);
}
