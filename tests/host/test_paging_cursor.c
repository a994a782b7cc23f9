// SPDX-License-Identifier: MIT
/**
 * Cursors against a flat model: iteration, translation and edits at the place, among other edits
 * that take the tables away which a cursor remembers. Hazards 13, 16, 17.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "slots_rig.h"

static int setup(void **state)
{
    *state = s_new("paging cursor");
    return 0;
}

static int teardown(void **state)
{
    s_delete(*state);
    return 0;
}

/* Put something everywhere: pages, large leaves, soft slots of both sizes, holes. */
static void fill(struct slots_rig *r)
{
    for (unsigned p = 0; p < S_PAGES;) {
        bool large = p % 512 == 0 && t_prng_chance(&r->prng, 1, 2);
        struct mm_slot now = s_draw_slot(r, large);
        struct mm_slot seen = mm_slot_empty();

        if (!large && t_prng_chance(&r->prng, 2, 3)) { /* neighbours that are alike */
            now = mm_slot_leaf(mm_paddr(P1G + p * P4K), T_URW, MM_MEMTYPE_WB);
        }
        assert_int_equal(
            mm_paging_slot_cas(r->pt, mm_vaddr(s_at(p)), large ? P2M : P4K, &seen, &now, NULL),
            MM_OK);
        s_set(r, p, large, &now);
        p += large ? 512 : 1;
    }
}

/** All that is there is found, once, in order. */
static void iterate(struct slots_rig *r, unsigned first, unsigned end)
{
    struct mm_paging_cursor c;
    struct mm_slot got;
    unsigned p = first;

    assert_int_equal(mm_paging_cursor_begin(&c, r->pt, t_range(s_at(first), (end - first) * P4K)),
                     MM_OK);
    for (;;) {
        while (p < end && r->pages[p].slot.kind == MM_SLOT_EMPTY) {
            p++;
        }
        if (p >= end) {
            break;
        }
        assert_int_equal(mm_paging_cursor_next(&c, &got), MM_OK);
        s_same(r, p, &got);
        p = s_first(r, p) + (r->pages[p].large ? 512u : 1u);
    }
    memset(&got, 0x5a, sizeof(got));
    assert_int_equal(mm_paging_cursor_next(&c, &got), MM_ERR_NOT_MAPPED);
    assert_int_equal(got.raw, UINT64_C(0x5a5a5a5a5a5a5a5a));
    assert_int_equal(mm_paging_cursor_next(&c, &got), MM_ERR_NOT_MAPPED);
}

static void translate(struct slots_rig *r, struct mm_paging_cursor *c, unsigned page)
{
    uint64_t at = s_at(page) + t_prng_below(&r->prng, P4K);
    struct mm_mapping plain;
    struct mm_mapping leaf;
    mm_status_t status;

    memset(&plain, 0, sizeof(plain));
    memset(&leaf, 0, sizeof(leaf));
    status = mm_paging_translate(r->pt, mm_vaddr(at), &plain);
    assert_int_equal(mm_paging_cursor_translate(c, mm_vaddr(at), &leaf), status);
    assert_memory_equal(&leaf, &plain, sizeof(leaf));
}

static void test_iterate_and_translate(void **state)
{
    struct slots_rig *r = *state;
    struct mm_paging_cursor c;

    for (unsigned round = 0; round < 6; round++) {
        fill(r);
        s_check(r);
        iterate(r, 0, S_PAGES);
        for (unsigned n = 0; n < 40; n++) {
            unsigned first;
            unsigned end;

            s_draw_range(r, &first, &end);
            iterate(r, first, end);
        }
        assert_int_equal(mm_paging_cursor_begin(&c, r->pt, t_range(S_START, S_LEN)), MM_OK);
        for (unsigned p = 0; p < S_PAGES; p++) {
            translate(r, &c, p);
        }
        for (unsigned n = 0; n < 2000; n++) {
            translate(r, &c, (unsigned)t_prng_below(&r->prng, S_PAGES));
        }
        assert_int_equal(t_unmap(r->pt, S_START, S_LEN, MM_PAGING_SKIP_HOLES), MM_OK);
        s_unmap(r, 0, S_PAGES);
    }
}

/* --- edits ------------------------------------------------------------------------------------ */

/** At the place, whatever is there; the model says how it ends. */
static void edit_here(struct slots_rig *r, struct mm_paging_cursor *c, unsigned page,
                      struct mm_gather *gather)
{
    struct mm_slot none = mm_slot_empty();
    const struct s_page *p = &r->pages[page];
    bool large = p->large;
    bool inside = large && page % 512 != 0;
    mm_prot_t prot = s_draw_prot(r);
    struct mm_slot leaf = mm_slot_leaf(mm_paddr(P1G + page * P4K), prot, MM_MEMTYPE_WC);

    switch (t_prng_below(&r->prng, 3)) {
    case 0:
        assert_int_equal(mm_paging_cursor_map(c, leaf.paddr, P4K, prot, leaf.type),
                         p->slot.kind == MM_SLOT_EMPTY ? MM_OK : MM_ERR_ALREADY_MAPPED);
        if (p->slot.kind == MM_SLOT_EMPTY) {
            s_set(r, page, false, &leaf);
            r->left[page / 512] = false;
        }
        break;
    case 1:
        assert_int_equal(mm_paging_cursor_unmap(c, 0, gather), p->slot.kind == MM_SLOT_EMPTY
                                                                   ? MM_ERR_NOT_MAPPED
                                                               : inside ? MM_ERR_HUGE_PAGE
                                                                        : MM_OK);
        if (p->slot.kind != MM_SLOT_EMPTY && !inside) {
            s_set(r, page, large, &none);
        }
        break;
    default:
        if (inside && p->slot.kind != MM_SLOT_LEAF) {
            break;
        }
        assert_int_equal(mm_paging_cursor_protect(c, prot, gather), inside ? MM_ERR_HUGE_PAGE
                                                                    : p->slot.kind != MM_SLOT_LEAF
                                                                        ? MM_ERR_NOT_MAPPED
                                                                        : MM_OK);
        for (unsigned i = 0; p->slot.kind == MM_SLOT_LEAF && !inside && i < (large ? 512u : 1u);
             i++) {
            r->pages[page + i].slot.prot = prot;
        }
        break;
    }
}

/* One cursor through it all, with other edits between, which unlink tables under it. */
static void random_edits(struct slots_rig *r)
{
    struct mm_paging_cursor c;
    struct mm_gather gather;

    fill(r);
    assert_int_equal(mm_paging_cursor_begin(&c, r->pt, t_range(S_START, S_LEN)), MM_OK);
    for (unsigned n = 0; n < 3000; n++) {
        unsigned first;
        unsigned end;

        s_draw_range(r, &first, &end);
        for (unsigned p = first; p < end && p < first + 20; p++) { /* TLBs know them */
            s_touch(r, p, t_prng_chance(&r->prng, 1, 2));
        }
        assert_int_equal(mm_gather_begin(&gather, r->pt), MM_OK);
        assert_int_equal(mm_paging_cursor_seek(&c, mm_vaddr(s_at(first))), MM_OK);
        for (unsigned p = first; p < end && c.at_end == 0 && p < first + 40; p++) {
            unsigned page = (unsigned)((c.place.raw - S_START) / P4K);

            edit_here(r, &c, page, &gather);
            translate(r, &c, (unsigned)t_prng_below(&r->prng, S_PAGES));
        }
        mm_gather_end(&gather);
        t_nothing_stale(r->m);
        if (t_prng_chance(&r->prng, 1, 20)) {
            assert_int_equal(t_unmap(r->pt, s_at(first), (end - first) * P4K,
                                     MM_PAGING_SKIP_HOLES | MM_PAGING_SPLIT),
                             MM_OK);
            s_unmap(r, first, end);
        }
        translate(r, &c, first);
        if (n % 16 == 0) {
            s_check(r);
        }
    }
    s_check(r);
}

static void test_random_edits(void **state)
{
    random_edits(*state);
}

/* A physmap with ops: nothing is mapped between calls, and the answers are the same. */
static void test_random_edits_ops(void **state)
{
    struct slots_rig *r = *state;

    r->pt->physmap = t_physmap_ops(r->m);
    random_edits(r);
    assert_int_equal(r->m->nr_mapped, 0);
    assert_true(r->m->max_mapped <= 3);
}

/* Whole tables, up and down: each is freed when its last page goes, and the root is walked once
 * for each. */
static void test_up_and_down(void **state)
{
    struct slots_rig *r = *state;
    struct mm_paging_cursor c;
    struct mm_gather gather;
    uint64_t used = r->m->nr_used;

    assert_int_equal(mm_paging_cursor_begin(&c, r->pt, t_range(S_START, S_LEN)), MM_OK);
    for (unsigned p = 0; p < S_PAGES; p++) {
        assert_int_equal(
            mm_paging_cursor_map(&c, mm_paddr(P1G + p * P4K), P4K, T_URW, MM_MEMTYPE_WB), MM_OK);
        assert_int_equal(c.len, P2M);
        assert_int_equal(c.first, s_at(p & ~511u));
    }
    assert_int_equal(c.at_end, 1);
    assert_int_equal(mm_paging_cursor_map(&c, mm_paddr(0), P4K, T_URW, MM_MEMTYPE_WB),
                     MM_ERR_INVALID_ADDRESS);
    assert_int_equal(mm_gather_begin(&gather, r->pt), MM_OK);
    for (unsigned p = S_PAGES; p-- > 0;) {
        assert_int_equal(mm_paging_cursor_seek(&c, mm_vaddr(s_at(p))), MM_OK);
        assert_int_equal(mm_paging_cursor_unmap(&c, 0, &gather), MM_OK);
        assert_int_equal(mm_paging_check(r->pt), MM_OK);
    }
    mm_gather_end(&gather);
    assert_int_equal(r->m->nr_used, used);
    t_nothing_stale(r->m);
}

/* Leaves of 2 MiB and 1 GiB, and what frames with MM_PAGING_RELEASE come back. */
static void test_sizes(void **state)
{
    static const uint64_t sizes[] = {P4K, P2M, P1G};
    struct slots_rig *r = *state;
    struct mm_paging_cursor c;
    struct mm_gather gather;

    for (unsigned i = 0; i < 3; i++) {
        uint64_t at = 64 * P1G;
        uint64_t released = r->m->nr_released;

        assert_int_equal(mm_paging_cursor_begin(&c, r->pt, t_range(at, 4 * sizes[i])), MM_OK);
        for (unsigned n = 0; n < 4; n++) {
            assert_int_equal(mm_paging_cursor_map(&c, mm_paddr(P1G * (n % 2) + T_LEAVES * P4K),
                                                  sizes[i], T_URW, MM_MEMTYPE_WB),
                             MM_OK);
            assert_int_equal(t_leaf(r->pt, at + n * sizes[i]).page.len, sizes[i]);
        }
        assert_int_equal(mm_paging_cursor_seek(&c, mm_vaddr(at)), MM_OK);
        assert_int_equal(mm_gather_begin(&gather, r->pt), MM_OK);
        for (unsigned n = 0; n < 4; n++) {
            assert_int_equal(
                mm_paging_cursor_unmap(&c, sizes[i] == P1G ? 0 : MM_PAGING_RELEASE, &gather),
                MM_OK);
        }
        mm_gather_end(&gather);
        assert_int_equal(r->m->nr_released - released, sizes[i] == P1G ? 0 : 4 * sizes[i] / P4K);
        memset(r->m->released, 0, T_NR_LEAVES);
    }
    r->m->arch.features.page_1g = false;
    assert_int_equal(mm_paging_cursor_begin(&c, r->pt, t_range(64 * P1G, P1G)), MM_OK);
    assert_int_equal(mm_paging_cursor_map(&c, mm_paddr(0), P1G, T_URW, MM_MEMTYPE_WB),
                     MM_ERR_UNSUPPORTED);
    r->m->arch.features.page_1g = true;
}

/* The upper half, to its last byte. */
static void test_top(void **state)
{
    struct slots_rig *r = *state;
    struct mm_pagetable *pt = &r->m->kernel;
    struct mm_paging_cursor c;
    struct mm_gather gather;
    struct mm_slot got;
    uint64_t at = UINT64_MAX - 2 * P4K + 1;

    assert_int_equal(mm_paging_cursor_begin(&c, pt, t_range(at, 2 * P4K)), MM_OK);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(mm_paging_cursor_map(&c, mm_paddr(P1G + i * P4K), P4K,
                                              MM_PROT_RW | MM_PROT_GLOBAL, MM_MEMTYPE_WB),
                         MM_OK);
    }
    assert_int_equal(mm_paging_cursor_next(&c, &got), MM_ERR_NOT_MAPPED);
    assert_int_equal(mm_paging_cursor_seek(&c, mm_vaddr(at)), MM_OK);
    assert_int_equal(mm_paging_cursor_seek(&c, mm_vaddr(0)), MM_ERR_INVALID_ADDRESS);
    assert_int_equal(mm_gather_begin(&gather, pt), MM_OK);
    assert_int_equal(mm_paging_cursor_protect(&c, MM_PROT_READ, &gather), MM_OK);
    assert_int_equal(gather.nr_ranges, 1);
    assert_int_equal(mm_paging_cursor_next(&c, &got), MM_OK);
    assert_int_equal(got.page.start.raw, at + P4K);
    assert_int_equal(mm_paging_cursor_seek(&c, mm_vaddr(at)), MM_OK);
    assert_int_equal(mm_paging_cursor_unmap(&c, 0, &gather), MM_OK);
    assert_int_equal(mm_paging_cursor_unmap(&c, 0, &gather), MM_OK);
    mm_gather_end(&gather);
    assert_int_equal(mm_paging_check(pt), MM_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_iterate_and_translate, setup, teardown),
        cmocka_unit_test_setup_teardown(test_random_edits, setup, teardown),
        cmocka_unit_test_setup_teardown(test_random_edits_ops, setup, teardown),
        cmocka_unit_test_setup_teardown(test_up_and_down, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sizes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_top, setup, teardown),
    };

    return cmocka_run_group_tests_name("paging_cursor", tests, NULL, NULL);
}
