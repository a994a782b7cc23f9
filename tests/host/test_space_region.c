// SPDX-License-Identifier: MIT
/**
 * The region tree alone, against the flat model: edits, finding, room, and the count of nodes that
 * each edit says it needs. The tree is internal, so its header is included from the sources.
 */
#include "check.h"
#include "model_regions.h"
#include "prng.h"
#include "trap_mm.h"

#include "../../src/core/space/region.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define PAGE   UINT64_C(4096)
#define NR_OPS (MM_TEST_SANITIZED ? 10000 : 100000)

struct fixture {
    struct mm_regions tree;
    struct t_mregions model;
    struct mmi_region_list nodes;
    struct mm_platform platform;
    uint64_t nr_made;
};

static void start(struct fixture *f, uint64_t at, uint64_t len)
{
    memset(f, 0, sizeof(*f));
    f->platform = t_platform();
    mmi_regions_init(&f->tree, mm_vrange(mm_vaddr(at), len));
    t_mregions_init(&f->model, at, len);
}

/* Nodes come one by one from malloc, so that the sanitizer sees a use of one that was given back.
 */
static void drain(struct fixture *f)
{
    struct mmi_region *n;

    while ((n = mmi_region_pop(&f->nodes)) != NULL) {
        free(n);
        f->nr_made--;
    }
}

static void have(struct fixture *f, uint64_t nr)
{
    for (drain(f); f->nodes.nr < nr;) {
        struct mmi_region *n = malloc(sizeof(*n));

        assert_non_null(n);
        memset(n, 0xcc, sizeof(*n));
        mmi_region_push(&f->nodes, n);
        f->nr_made++;
    }
}

static void stop(struct fixture *f)
{
    mmi_regions_remove(&f->tree, f->tree.window.start.raw, f->tree.window.len, &f->nodes);
    assert_int_equal(f->tree.nr, 0);
    assert_int_equal(f->tree.bytes, 0);
    assert_null(f->tree.root);
    drain(f);
    assert_int_equal(f->nr_made, 0);
    t_mregions_destroy(&f->model);
}

static void same(struct fixture *f)
{
    const struct mmi_region *n = mmi_regions_first(&f->tree);
    uint64_t from = f->tree.window.start.raw;
    struct t_mregion m;
    uint64_t nr = 0;

    assert_true(mmi_regions_check(&f->tree, &f->platform));
    for (; n != NULL; n = mmi_region_next(n), nr++) {
        assert_true(t_mregions_next(&f->model, from, &m));
        assert_int_equal(n->start, m.start);
        assert_int_equal(n->len, m.len);
        assert_int_equal(n->attr.prot, m.attr.prot);
        assert_int_equal(n->attr.tag * 16 + n->attr.flags, m.attr.flags);
        from = m.start + m.len;
    }
    assert_int_equal(nr, f->tree.nr);
    assert_int_equal(nr, t_mregions_count(&f->model));
}

static void insert(struct fixture *f, uint64_t at, uint64_t len, mm_prot_t prot, uint64_t tag)
{
    struct mmi_region_attr attr = {.tag = tag, .prot = prot, .flags = (uint32_t)(tag & 1)};
    struct t_mregion_attr mattr = {.prot = prot, .flags = tag * 16 + (tag & 1)};
    uint64_t need = mmi_regions_need_insert(&f->tree, at, len, &attr);
    uint64_t before = f->tree.nr;

    have(f, need);
    mmi_regions_insert(&f->tree, at, len, &attr, &f->nodes);
    T_LEGAL(t_mregions_insert(&f->model, at, len, &mattr));
    assert_true(f->tree.nr <= before + 1);
    assert_int_equal(need, f->tree.nr > before ? 1 : 0);
}

static void remove_range(struct fixture *f, uint64_t at, uint64_t len)
{
    uint64_t need = mmi_regions_need_remove(&f->tree, at, len);
    uint64_t before = f->tree.nr;

    have(f, need);
    mmi_regions_remove(&f->tree, at, len, &f->nodes);
    T_LEGAL(t_mregions_remove(&f->model, at, len));
    assert_int_equal(need, f->tree.nr > before ? 1 : 0);
}

/* Regions of other rights that an end of the range cuts, as the model has them. */
static uint64_t cuts(const struct fixture *f, uint64_t at, uint64_t len, mm_prot_t prot)
{
    struct t_mregion m;
    uint64_t nr = 0;

    nr += t_mregions_find(&f->model, at, &m) && m.start < at && m.attr.prot != prot ? 1 : 0;
    nr += t_mregions_find(&f->model, at + (len - 1), &m) &&
                  m.start + (m.len - 1) > at + (len - 1) && m.attr.prot != prot
              ? 1
              : 0;
    return nr;
}

static void protect(struct fixture *f, uint64_t at, uint64_t len, mm_prot_t prot)
{
    const struct mmi_region_change change = {.sets_prot = true, .prot = prot};

    /* One more than it takes would make it fail for want of memory that it does not need. */
    assert_int_equal(mmi_regions_need_change(&f->tree, at, len, &change), cuts(f, at, len, prot));
    have(f, mmi_regions_need_change(&f->tree, at, len, &change));
    mmi_regions_change(&f->tree, at, len, &change, &f->nodes);
    T_LEGAL(t_mregions_protect(&f->model, at, len, prot));
}

static void ask(struct fixture *f, struct t_prng *prng, uint64_t at, uint64_t len)
{
    struct t_mregion_search search = {.len = len, .align = PAGE << t_prng_below(prng, 6)};
    const struct mmi_region *n = mmi_regions_find(&f->tree, at);
    uint64_t want = 1;
    uint64_t got = 1;
    struct t_mregion m;

    assert_int_equal(n != NULL, t_mregions_find(&f->model, at, &m));
    if (n != NULL) {
        assert_int_equal(n->start, m.start);
        assert_ptr_equal(mmi_regions_from(&f->tree, at), n);
    }
    assert_int_equal(mmi_regions_free(&f->tree, at, len), t_mregions_used(&f->model, at, len) == 0);
    assert_int_equal(mmi_regions_room(&f->tree, len, search.align, &got),
                     t_mregions_gap_lowest(&f->model, &search, &want));
    assert_int_equal(got, want);
}

static void random_ops(uint64_t at, uint64_t nr_pages, unsigned nr_ops, const char *name)
{
    struct fixture f;
    struct t_prng prng;

    nr_ops *= getenv("MM_TEST_FULL") != NULL ? 50 : 1;
    t_prng_start(&prng, name);
    start(&f, at, nr_pages * PAGE);
    for (unsigned i = 0; i < nr_ops; i++) {
        uint64_t page = t_prng_below(&prng, nr_pages);
        uint64_t most = nr_pages - page;
        uint64_t nr = 1 + t_prng_below(&prng, t_prng_chance(&prng, 1, 20) ? most : 1 + most / 16);
        uint64_t a = at + page * PAGE;
        uint64_t len = nr * PAGE;

        switch (t_prng_below(&prng, 8)) {
        case 0:
        case 1:
        case 2:
            if (mmi_regions_free(&f.tree, a, len)) {
                insert(&f, a, len, (mm_prot_t)t_prng_below(&prng, 3), t_prng_below(&prng, 3));
            }
            break;
        case 3:
            if (mmi_regions_room(&f.tree, len, PAGE, &a)) {
                insert(&f, a, len, (mm_prot_t)t_prng_below(&prng, 3), t_prng_below(&prng, 3));
            }
            break;
        case 4:
        case 5:
            remove_range(&f, a, len);
            break;
        case 6:
            if (t_mregions_used(&f.model, a, len) == nr) {
                protect(&f, a, len, (mm_prot_t)t_prng_below(&prng, 3));
            }
            break;
        default:
            ask(&f, &prng, a, len);
        }
        if (i % 8 == 0) {
            same(&f);
        }
    }
    same(&f);
    stop(&f);
}

static void test_random(void **state)
{
    (void)state;
    random_ops(UINT64_C(0x1000), 192, NR_OPS / 2, "regions low");
}

/* The window ends at 2^64: no sum may wrap. */
static void test_random_top(void **state)
{
    (void)state;
    random_ops(0 - 96 * PAGE, 96, NR_OPS / 4, "regions top");
}

static void test_random_wide(void **state)
{
    (void)state;
    random_ops(UINT64_C(1) << 40, 2048, NR_OPS / 100, "regions wide");
}

/* Many regions, inserted in the orders that a tree without balance does not survive. */
static void test_balance(void **state)
{
    static const unsigned nr = 4096;

    (void)state;
    for (unsigned order = 0; order < 3; order++) {
        struct fixture f;
        struct t_mregion_search search = {.len = 2 * PAGE};
        uint64_t got = 0;
        uint64_t want;

        start(&f, PAGE, 2 * nr * PAGE);
        for (unsigned i = 0; i < nr; i++) {
            unsigned k = order == 0 ? i : order == 1 ? nr - 1 - i : (i * 1237) % nr;

            insert(&f, (1 + 2 * k) * PAGE, PAGE, 1, 2);
        }
        same(&f);
        assert_int_equal(f.tree.nr, nr);
        assert_true(f.tree.root->height <= 17); /* 1.44 log2 4096, rounded down */
        assert_false(mmi_regions_room(&f.tree, 2 * PAGE, PAGE, &got));
        assert_false(t_mregions_gap_lowest(&f.model, &search, &want));
        assert_int_equal(got, 0);
        for (unsigned i = 0; i < nr; i++) {
            remove_range(&f, (1 + 2 * ((i * 769) % nr)) * PAGE, PAGE);
            if (i % 512 == 0) {
                same(&f);
            }
        }
        stop(&f);
    }
}

static void test_node_size(void **state)
{
    (void)state;
    assert_true(sizeof(struct mmi_region) <= 96);
}

/* The check finds what it promises to find. */
static void test_check_finds(void **state)
{
    struct fixture f;
    struct mmi_region *n;

    (void)state;
    start(&f, PAGE, 64 * PAGE);
    for (unsigned i = 0; i < 7; i++) {
        insert(&f, (1 + 4 * i) * PAGE, PAGE, 1, 0);
    }
    n = f.tree.root->left;
    assert_true(mmi_regions_check(&f.tree, &f.platform));
    n->gap += PAGE;
    assert_false(mmi_regions_check(&f.tree, &f.platform));
    n->gap -= PAGE;
    n->max_gap += PAGE;
    assert_false(mmi_regions_check(&f.tree, &f.platform));
    n->max_gap -= PAGE;
    n->height++;
    assert_false(mmi_regions_check(&f.tree, &f.platform));
    n->height--;
    n->len += 1;
    assert_false(mmi_regions_check(&f.tree, &f.platform));
    n->len -= 1;
    f.tree.nr++;
    assert_false(mmi_regions_check(&f.tree, &f.platform));
    f.tree.nr--;
    f.tree.bytes -= PAGE;
    assert_false(mmi_regions_check(&f.tree, &f.platform));
    f.tree.bytes += PAGE;
    assert_true(mmi_regions_check(&f.tree, &f.platform));
    stop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_node_size),   cmocka_unit_test(test_balance),
        cmocka_unit_test(test_random),      cmocka_unit_test(test_random_top),
        cmocka_unit_test(test_random_wide), cmocka_unit_test(test_check_finds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
