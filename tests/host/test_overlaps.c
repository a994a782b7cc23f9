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
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
