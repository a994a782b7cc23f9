// SPDX-License-Identifier: MIT
/**
 * The tree of ranges that may overlap (src/core/base/range.h), in which devices with conflicting memory
 * types are found, against a list.
 */
#include "prng.h"
#include "trap_mm.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/range.h"

#define PAGE   UINT64_C(4096)
#define NR     160u
#define NR_OPS (MM_TEST_SANITIZED ? 20000u : 200000u)

static struct mmi_range nodes[NR];
static bool linked[NR];

static bool overlaps(uint64_t start, uint64_t len)
{
    for (unsigned i = 0; i < NR; i++) {
        if (linked[i] && nodes[i].node.start < start + len &&
            start < nodes[i].node.start + nodes[i].len) {
            return true;
        }
    }
    return false;
}

static void link_pages(struct mm_ranges *tree, struct mmi_range *range, uint64_t first, uint64_t nr)
{
    *range = (struct mmi_range){.node.start = first * PAGE, .len = nr * PAGE};
    mmi_overlaps_link(tree, range);
}

/* What is sought may be on the right of who is met first, or reach over from the left. Where a range
 * goes whose place another takes, what is above must not send the search to where its end was:
 *
 *                40                       40
 *           20        50             25        50
 *         10   30        60   to   10  30         60
 *            25  35                      35
 */
static void test_sides(void **state)
{
    static const uint64_t pages[] = {40, 20, 50, 10, 30, 60, 25, 35};
    enum { LONG = 1, LAST = 5 }; /* 20, 60 */
    struct mmi_range range[8];
    struct mm_ranges tree = {0};

    (void)state;
    for (unsigned i = 0; i < 8; i++) {
        link_pages(&tree, &range[i], pages[i], i == LONG ? 1000 : 1);
    }
    assert_ptr_equal(tree.root, &range[0].node);
    assert_ptr_equal(tree.root->child[MMI_LEFT], &range[LONG].node);
    assert_ptr_equal(mmi_overlaps_find(&tree, 1019 * PAGE, PAGE), &range[LONG]);
    assert_null(mmi_overlaps_find(&tree, 1020 * PAGE, PAGE));

    mmi_overlaps_unlink(&tree, &range[LONG]);
    assert_ptr_equal(mmi_overlaps_find(&tree, 60 * PAGE, PAGE), &range[LAST]);
    assert_null(mmi_overlaps_find(&tree, 61 * PAGE, PAGE));
    assert_null(mmi_overlaps_find(&tree, 20 * PAGE, 5 * PAGE));
}

static void test_random(void **state)
{
    struct mm_platform platform = t_platform();
    struct mm_ranges tree = {0};
    struct t_prng prng;

    (void)state;
    t_prng_start(&prng, "overlaps");
    for (unsigned op = 0; op < NR_OPS; op++) {
        /* Few at times, many at others. */
        unsigned i = (unsigned)t_prng_below(&prng, op / 1000 % 2 == 0 ? 12 : NR);
        uint64_t start = t_prng_below(&prng, 600) * PAGE;
        uint64_t len = t_prng_range(&prng, 1, 32) * PAGE;
        const struct mmi_range *found;

        if (linked[i]) {
            mmi_overlaps_unlink(&tree, &nodes[i]);
        } else {
            memset(&nodes[i], 0, sizeof(nodes[i]));
            nodes[i].node.start = t_prng_below(&prng, 512) * PAGE;
            nodes[i].len = t_prng_range(&prng, 1, 64) * PAGE;
            mmi_overlaps_link(&tree, &nodes[i]);
        }
        linked[i] = !linked[i];
        assert_true(mmi_overlaps_check(&tree, &platform, "test"));
        found = mmi_overlaps_find(&tree, start, len);
        assert_int_equal(found != NULL, overlaps(start, len));
        if (found != NULL) {
            assert_true(linked[found - nodes] && found->node.start < start + len &&
                        start < found->node.start + found->len);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sides),
        cmocka_unit_test(test_random),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
