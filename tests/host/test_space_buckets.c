// SPDX-License-Identifier: MIT
/**
 * How full the buckets of regions (src/core/space/region_tree.c) are: what a region costs, whatever
 * the order they come and go in.
 */
#include "space_region_fixture.h"

/** So many regions of a page in order, so many pages from one to the next: full buckets. */
static void fill(struct fixture *f, unsigned nr, unsigned step)
{
    for (unsigned i = 0; i < nr; i++) {
        insert(f, (1 + step * i) * PAGE, PAGE, 1, 2);
    }
}

/** What one of so many regions costs, its part of a bucket included. */
static uint64_t bytes_each(const struct fixture *f)
{
    return (f->tree.nr * sizeof(struct mmi_region) +
            f->tree.nr_buckets * sizeof(struct mmi_bucket)) /
           f->tree.nr;
}

/* Buckets stay full enough: in order, in no order, with others put into each gap and taken out again;
 * and they become fewer when regions do. */
static void test_bytes(void **state)
{
    static const unsigned nr = 4096;

    (void)state;
    for (unsigned order = 0; order < 2; order++) {
        struct fixture f;

        start(&f, PAGE, 8 * nr * PAGE);
        for (unsigned i = 0; i < nr; i++) {
            insert(&f, (1 + 8 * (order == 0 ? i : i * 1237 % nr)) * PAGE, PAGE, 1, 2);
        }
        assert_in_range(bytes_each(&f), 56, order == 0 ? 84 : 92);
        for (unsigned i = 0; i < nr; i++) {
            uint64_t at = (1 + 8 * (i * 769 % nr)) * PAGE;

            insert(&f, at + 2 * PAGE, PAGE, 1, 2);
            insert(&f, at + 4 * PAGE, PAGE, 1, 2);
            remove_range(&f, at + 2 * PAGE, 3 * PAGE);
        }
        same(&f);
        assert_int_equal(f.tree.nr, nr);
        assert_in_range(bytes_each(&f), 56, 96);
        for (unsigned i = 0; i < nr; i++) {
            remove_range(&f, (1 + 8 * (i * 769 % nr)) * PAGE, PAGE);
            /* More than a third of a bucket, but for the last. */
            assert_in_range(f.tree.nr_buckets, 0, f.tree.nr / (MMI_BUCKET_MAX / 3 + 1) + 1);
        }
        stop(&f);
    }
}

/* What a process has: a few regions below, and many that come down to them, or up from them; and one
 * more beside full buckets. */
static void test_bytes_beside_others(void **state)
{
    static const unsigned nr = 1024;

    (void)state;
    for (unsigned nr_low = 0; nr_low <= MMI_BUCKET_MAX + 1; nr_low++) {
        for (unsigned up = 0; up < 2; up++) {
            struct fixture f;

            start(&f, PAGE, 4 * nr * PAGE);
            for (unsigned i = 0; i < nr_low; i++) {
                insert(&f, (1 + 2 * i + up * 3 * nr) * PAGE, PAGE, 1, 2);
            }
            for (unsigned i = 0; i < nr; i++) {
                insert(&f, (up == 0 ? 3 * nr - 2 * i : 1 + 2 * i) * PAGE, PAGE, 1, 2);
            }
            same(&f);
            assert_in_range(bytes_each(&f), 56, 87);
            stop(&f);
        }
    }
}

static void test_bytes_of_full_buckets(void **state)
{
    static const unsigned nr = 100 * MMI_BUCKET_MAX;
    struct fixture f;

    (void)state;
    start(&f, PAGE, 8 * nr * PAGE);
    fill(&f, nr, 4);
    for (unsigned i = 0; i < nr; i += MMI_BUCKET_MAX) {
        insert(&f, (1 + 4 * i + 2) * PAGE, PAGE, 1, 2);
        insert(&f, (1 + 4 * (i + MMI_BUCKET_MAX / 2) + 2) * PAGE, PAGE, 1, 2);
    }
    same(&f);
    assert_in_range(bytes_each(&f), 56, 96);
    stop(&f);
}

/* Of full buckets every second one loses all its regions but one: it gets some from its neighbours, as
 * long as they have many. */
static void test_bytes_of_few(void **state)
{
    static const unsigned nr = 40 * MMI_BUCKET_MAX;
    struct fixture f;

    (void)state;
    start(&f, PAGE, 4 * nr * PAGE);
    fill(&f, nr, 2);
    for (unsigned i = 0; i < nr; i++) {
        if (i / MMI_BUCKET_MAX % 2 == 1 && i % MMI_BUCKET_MAX != 0) {
            remove_range(&f, (1 + 2 * i) * PAGE, PAGE);
        }
    }
    same(&f);
    for (struct mmi_avl *n = mmi_avl_first(f.tree.root); n != NULL; n = mmi_avl_next(n)) {
        assert_in_range(mmi_bucket_of(n)->nr, MMI_BUCKET_MAX / 3 + 1, MMI_BUCKET_MAX);
    }
    stop(&f);
}

/* Appended regions need no more buckets than they fill. */
static void test_append(void **state)
{
    static const unsigned nrs[] = {1, MMI_BUCKET_MAX, MMI_BUCKET_MAX + 1, 5 * MMI_BUCKET_MAX + 7};

    (void)state;
    for (unsigned k = 0; k < sizeof(nrs) / sizeof(nrs[0]); k++) {
        struct fixture f;

        start(&f, PAGE, 4096 * PAGE);
        have(&f, nrs[k]);
        while (f.tree.nr_spare > mmi_regions_need_buckets_to_append(nrs[k])) {
            free(mmi_regions_pop_bucket(&f.tree));
            f.nr_made--;
        }
        for (unsigned i = 0; i < nrs[k]; i++) {
            struct mmi_region *n = mmi_region_pop(&f.nodes);
            const struct mmi_region_attr attr = {.tag = 2, .prot = 1};
            const struct t_mregion_attr mattr = model_attr(&attr);

            n->start = (3 + 3 * i) * PAGE;
            n->len = (1 + i % 2) * PAGE;
            n->attr = attr;
            mmi_regions_append(&f.tree, n);
            T_LEGAL(t_mregions_insert(&f.model, n->start, n->len, &mattr));
        }
        same(&f);
        assert_int_equal(f.tree.nr_spare, 0);
        assert_int_equal(f.tree.nr_buckets, (nrs[k] + MMI_BUCKET_MAX - 1) / MMI_BUCKET_MAX);
        stop(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_bytes_beside_others),
        cmocka_unit_test(test_bytes_of_full_buckets),
        cmocka_unit_test(test_bytes_of_few),
        cmocka_unit_test(test_append),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
