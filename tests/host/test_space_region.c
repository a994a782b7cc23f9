// SPDX-License-Identifier: MIT
/**
 * The region tree alone, against the flat model: edits, finding, room, and the count of nodes that
 * each edit says it needs. The tree is internal, so its header is included from the sources.
 */
#include "prng.h"
#include "space_region_fixture.h"

#define NR_OPS (MM_TEST_SANITIZED ? 10000 : 100000)

static bool changes(const struct t_mregion *m, const struct mmi_region_change *change)
{
    return (change->sets_prot && m->attr.prot != change->prot) ||
           ((m->attr.flags & ~(uint64_t)change->clear) | change->set) != m->attr.flags;
}

/* Regions that an end of the range cuts, as the model has them; with a change: that it changes. */
static uint64_t cuts(const struct fixture *f, uint64_t at, uint64_t len,
                     const struct mmi_region_change *change)
{
    uint64_t last = at + (len - 1);
    struct t_mregion m;
    uint64_t nr = 0;

    nr += t_mregions_find(&f->model, at, &m) && m.start < at &&
                  (change == NULL || changes(&m, change))
              ? 1
              : 0;
    nr += t_mregions_find(&f->model, last, &m) && m.start + (m.len - 1) > last &&
                  (change == NULL || changes(&m, change))
              ? 1
              : 0;
    return nr;
}

static void change_range(struct fixture *f, uint64_t at, uint64_t len,
                         const struct mmi_region_change *change)
{
    const struct t_mregion_change mchange = {change->sets_prot, change->prot, change->set,
                                             change->clear};
    uint64_t need = mmi_regions_need_change(&f->tree, at, len, change);

    /* One more than it takes would make it fail for want of memory that it does not need. */
    assert_int_equal(need, cuts(f, at, len, change));
    have(f, need);
    mmi_regions_change(&f->tree, at, len, change, &f->nodes);
    T_LEGAL(t_mregions_change(&f->model, at, len, &mchange));
}

static void protect(struct fixture *f, uint64_t at, uint64_t len, mm_prot_t prot)
{
    change_range(f, at, len, &(struct mmi_region_change){.sets_prot = true, .prot = prot});
}

/* What comes out is what the model had there, and comes behind what the list had. */
static void take(struct fixture *f, uint64_t at, uint64_t len)
{
    uint64_t need = mmi_regions_need_take(&f->tree, at, len);
    struct mmi_region_list out = {NULL, 0};
    struct mmi_region first;
    uint64_t from = at;

    mmi_region_push(&out, &first);
    assert_int_equal(need, cuts(f, at, len, NULL));
    have(f, need);
    mmi_regions_take(&f->tree, at, len, &out, &f->nodes);
    assert_int_equal(f->nodes.nr, 0);
    assert_ptr_equal(mmi_region_pop(&out), &first);
    while (from - at < len) {
        struct mmi_region *n;
        struct t_mregion m;

        if (!t_mregions_find(&f->model, from, &m)) {
            from += PAGE;
            continue;
        }
        m.attr.offset += m.attr.object != 0 ? from - m.start : 0;
        m.len -= from - m.start;
        m.len = m.len < len - (from - at) ? m.len : len - (from - at);
        m.start = from;
        n = mmi_region_pop(&out);
        assert_non_null(n);
        same_region(n, &m);
        mmi_region_push(&f->nodes, n);
        from += m.len;
    }
    assert_null(out.head);
    assert_int_equal(out.nr, 0);
    T_LEGAL(t_mregions_remove(&f->model, at, len));
}

/* Limits are bytes, at, within and beyond the window's ends. */
static void ask_place(struct fixture *f, struct t_prng *prng, uint64_t at, uint64_t len)
{
    uint64_t start = f->tree.window.start.raw;
    uint64_t last = start + (f->tree.window.len - 1);
    struct mmi_place place = {.len = len, .align = PAGE << t_prng_below(prng, 5)};
    struct t_mregion_search search;
    uint64_t want = 1;
    uint64_t got = 1;

    place.residue = t_prng_below(prng, place.align / PAGE) * PAGE;
    place.lowest = t_prng_chance(prng, 1, 3) ? t_prng_below(prng, start + 1)
                                             : start + t_prng_below(prng, f->tree.window.len);
    place.highest = t_prng_chance(prng, 1, 3) ? last : at + len - 1 + t_prng_below(prng, 3);
    if (place.highest < at || t_prng_chance(prng, 1, 8)) {
        place.highest = UINT64_MAX;
    } else if (t_prng_chance(prng, 1, 2)) {
        place.lowest = place.lowest > at ? at : place.lowest;
    }
    search = (struct t_mregion_search){.len = len,
                                       .align = place.align,
                                       .residue = place.residue,
                                       .low = place.lowest,
                                       .last = place.highest};
    assert_int_equal(mmi_regions_find_place_high(&f->tree, &place, &got),
                     t_mregions_gap_highest(&f->model, &search, &want));
    assert_int_equal(got, want);
    got = want = 1;
    assert_int_equal(mmi_regions_find_place(&f->tree, &place, &got),
                     t_mregions_gap_lowest(&f->model, &search, &want));
    assert_int_equal(got, want);
}

static void ask(struct fixture *f, struct t_prng *prng, uint64_t at, uint64_t len)
{
    struct t_mregion_search search = {.len = len, .align = PAGE << t_prng_below(prng, 6)};
    const struct mmi_region *n = mmi_regions_find(&f->tree, at);
    const struct mmi_region *from = mmi_regions_from(&f->tree, at);
    uint64_t want = 1;
    uint64_t got = 1;
    struct t_mregion m;

    assert_int_equal(n != NULL, t_mregions_find(&f->model, at, &m));
    if (n != NULL) {
        assert_int_equal(n->start, m.start);
        assert_ptr_equal(from, n);
    }
    if (n == NULL || n->start == at) {
        n = from != NULL ? mmi_region_prev(from) : mmi_regions_last(&f->tree);
    }
    assert_ptr_equal(mmi_regions_before(&f->tree, at), n);
    assert_int_equal(mmi_regions_free(&f->tree, at, len), t_mregions_used(&f->model, at, len) == 0);
    assert_int_equal(room(f, len, search.align, &got),
                     t_mregions_gap_lowest(&f->model, &search, &want));
    assert_int_equal(got, want);
}

static void insert_random(struct fixture *f, struct t_prng *prng, uint64_t at, uint64_t len)
{
    struct mmi_region_attr attr = {.prot = (uint16_t)t_prng_below(prng, 3)};

    if (t_prng_chance(prng, 1, 2)) {
        attr.tag = t_prng_below(prng, 3);
        attr.flags = (uint32_t)(attr.tag & 1);
    } else {
        /* Offsets that mostly continue, some of them past 2^64. */
        attr.flags = MMI_REGION_OFFSET | (uint32_t)t_prng_below(prng, 2);
        attr.offset = at - f->tree.window.start.raw - 8 * PAGE;
        attr.offset += t_prng_chance(prng, 1, 4) ? PAGE : 0;
    }
    attr.object = t_prng_chance(prng, 1, 4) ? 1 : 0;
    insert_attr(f, at, len, &attr);
}

static void change_random(struct fixture *f, struct t_prng *prng, uint64_t at, uint64_t len)
{
    struct mmi_region_change change = {.sets_prot = t_prng_chance(prng, 2, 3)};

    change.prot = (mm_prot_t)t_prng_below(prng, 3);
    change.set = (uint32_t)t_prng_below(prng, 4);
    change.clear = (uint32_t)t_prng_below(prng, 4) & ~change.set;
    change_range(f, at, len, &change);
}

static void random_op(struct fixture *f, struct t_prng *prng, uint64_t a, uint64_t len)
{
    switch (t_prng_below(prng, 10)) {
    case 0:
    case 1:
    case 2:
        if (mmi_regions_free(&f->tree, a, len)) {
            insert_random(f, prng, a, len);
        }
        break;
    case 3:
        if (room(f, len, PAGE, &a)) {
            insert_random(f, prng, a, len);
        }
        break;
    case 4:
        remove_range(f, a, len);
        break;
    case 5:
        take(f, a, len);
        break;
    case 6:
        protect(f, a, len, (mm_prot_t)t_prng_below(prng, 3));
        break;
    case 7:
        change_random(f, prng, a, len);
        break;
    case 8:
        ask_place(f, prng, a, len);
        break;
    default:
        ask(f, prng, a, len);
    }
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

        random_op(&f, &prng, at + page * PAGE, nr * PAGE);
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
        /* Who comes in order leaves full buckets, who does not shares. */
        assert_true(f.tree.nr_buckets <= (order < 2 ? nr / MMI_BUCKET_MAX + 2 : nr / 16));
        /* 1.44 log2 of the buckets, rounded down */
        assert_true(f.tree.root->height[MMI_LEFT] <= 12);
        assert_true(f.tree.root->height[MMI_RIGHT] <= 12);
        assert_false(room(&f, 2 * PAGE, PAGE, &got));
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

static void test_offsets(void **state)
{
    struct fixture f;
    struct mmi_region *n;

    (void)state;
    start(&f, PAGE, 64 * PAGE);
    insert_at_offset(&f, 16 * PAGE, 8 * PAGE, 7, 100 * PAGE);
    remove_range(&f, 16 * PAGE, 2 * PAGE); /* cut at its front */
    n = mmi_regions_first(&f.tree);
    assert_int_equal(n->attr.offset, 102 * PAGE);
    insert_at_offset(&f, 14 * PAGE, 4 * PAGE, 7, 98 * PAGE); /* grown downwards */
    assert_int_equal(f.tree.nr, 1);
    assert_int_equal(n->attr.offset, 98 * PAGE);
    remove_range(&f, 18 * PAGE, PAGE); /* split */
    assert_int_equal(mmi_regions_last(&f.tree)->attr.offset, 103 * PAGE);
    insert_at_offset(&f, 18 * PAGE, PAGE, 7, 103 * PAGE); /* continues neither */
    assert_int_equal(f.tree.nr, 3);
    remove_range(&f, 18 * PAGE, PAGE);
    insert_at_offset(&f, 18 * PAGE, PAGE, 8, 102 * PAGE); /* nor does another object */
    assert_int_equal(f.tree.nr, 3);
    remove_range(&f, 18 * PAGE, PAGE);
    insert_at_offset(&f, 18 * PAGE, PAGE, 7, 102 * PAGE);
    assert_int_equal(f.tree.nr, 1);
    /* A change and its opposite leave what was. */
    protect(&f, 17 * PAGE, 3 * PAGE, 2);
    assert_int_equal(f.tree.nr, 3);
    same(&f);
    protect(&f, 17 * PAGE, 3 * PAGE, 1);
    assert_int_equal(f.tree.nr, 1);
    same(&f);
    take(&f, 17 * PAGE, 3 * PAGE);
    same(&f);
    /* An offset that does not count does not matter. */
    insert_attr(&f, 40 * PAGE, PAGE, &(struct mmi_region_attr){.object = 7, .offset = 3});
    insert_attr(&f, 41 * PAGE, PAGE, &(struct mmi_region_attr){.object = 7, .offset = 9});
    assert_int_equal(f.tree.nr, 3);
    same(&f);
    stop(&f);
}

static void test_change_joins(void **state)
{
    const struct mmi_region_change set = {.set = 4};
    struct fixture f;

    (void)state;
    start(&f, PAGE, 64 * PAGE);
    for (unsigned page = 8; page < 32; page += 4) { /* six, and a hole after the third */
        insert_attr(&f, page * PAGE, (page == 16 ? 3 : 4) * PAGE,
                    &(struct mmi_region_attr){.flags = (page / 4) & 1});
    }
    /* All but the ends: these stay apart in the other flag. */
    change_range(&f, 12 * PAGE, 16 * PAGE, &set);
    assert_int_equal(f.tree.nr, 6);
    change_range(&f, 9 * PAGE, 22 * PAGE, &(struct mmi_region_change){.clear = 5});
    same(&f);
    assert_int_equal(f.tree.nr, 3); /* up to the hole, behind it, and the last one's last page */
    change_range(&f, 30 * PAGE, PAGE, &(struct mmi_region_change){.set = 1}); /* joins above */
    assert_int_equal(f.tree.nr, 3);
    change_range(&f, 8 * PAGE, PAGE, &set);
    change_range(&f, 9 * PAGE, PAGE, &set); /* joins below */
    assert_int_equal(f.tree.nr, 4);
    /* Nothing is cut that does not change, and holes need nothing. */
    assert_int_equal(mmi_regions_need_change(&f.tree, 9 * PAGE, PAGE, &set), 0);
    assert_int_equal(mmi_regions_need_change(&f.tree, 40 * PAGE, PAGE, &set), 0);
    change_range(&f, 40 * PAGE, PAGE, &set);
    same(&f);
    stop(&f);
}

/* The check finds what it promises to find. */
static void test_check_finds(void **state)
{
    struct fixture f;
    struct mmi_bucket *b;
    struct mmi_region *n;

    (void)state;
    start(&f, PAGE, UINT64_C(1024) * PAGE);
    for (unsigned i = 0; i < 7 * MMI_BUCKET_MAX; i++) {
        insert(&f, (1 + 4 * i) * PAGE, PAGE, 1, 0);
    }
    b = mmi_bucket_of(f.tree.root);
    n = b->region[1];
    assert_true(mmi_regions_check(&f.tree, &f.platform));
    b->gap[1] += PAGE;
    assert_false(mmi_regions_check(&f.tree, &f.platform));
    b->gap[1] -= PAGE;
    b->node.max[MMI_RIGHT] += PAGE;
    assert_false(mmi_regions_check(&f.tree, &f.platform));
    b->node.max[MMI_RIGHT] -= PAGE;
    b->node.height[MMI_LEFT]++;
    assert_false(mmi_regions_check(&f.tree, &f.platform));
    b->node.height[MMI_LEFT]--;
    n->len += 1;
    assert_false(mmi_regions_check(&f.tree, &f.platform));
    n->len -= 1;
    f.tree.nr++;
    assert_false(mmi_regions_check(&f.tree, &f.platform));
    f.tree.nr--;
    f.tree.bytes -= PAGE;
    assert_false(mmi_regions_check(&f.tree, &f.platform));
    f.tree.bytes += PAGE;
    n->attr.offset = PAGE; /* does not count */
    assert_false(mmi_regions_check(&f.tree, &f.platform));
    n->attr.offset = 0;
    assert_true(mmi_regions_check(&f.tree, &f.platform));
    stop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_balance),      cmocka_unit_test(test_random),
        cmocka_unit_test(test_random_top),   cmocka_unit_test(test_offsets),
        cmocka_unit_test(test_change_joins), cmocka_unit_test(test_random_wide),
        cmocka_unit_test(test_check_finds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
