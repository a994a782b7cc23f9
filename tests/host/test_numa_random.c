// SPDX-License-Identifier: MIT
/**
 * Tables made at random, in which entries overlap, repeat and contradict each other: every answer as
 * that of a model which looks at every entry.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <mm/numa.h>

#include "model_numa.h"
#include "numa_blob.h"
#include "prng.h"

#include <stdlib.h>

#define RANGES 128u
#define CPUS   64u

static struct numa_blob blob;
static struct t_mnuma model;

static void random_entry(struct t_prng *prng)
{
    uint32_t domain =
        (uint32_t)(t_prng_chance(prng, 1, 2) ? t_prng_below(prng, 5) : t_prng_below(prng, 4) << 30);
    uint32_t flags = t_prng_chance(prng, 7, 8) ? 1 : 0;
    uint64_t start =
        t_prng_chance(prng, 1, 16) ? 0 - t_prng_below(prng, 64) - 1 : t_prng_below(prng, 64);
    uint64_t len = t_prng_below(prng, 24);

    switch (t_prng_below(prng, 8)) {
    case 0:
        (void)numa_apic(&blob, domain, (uint8_t)t_prng_below(prng, 16), flags);
        break;
    case 1:
        (void)numa_x2apic(&blob, domain, (uint32_t)t_prng_below(prng, 16), flags);
        break;
    case 2:
        (void)numa_entry(&blob, (uint8_t)t_prng_range(prng, 3, 9), 20);
        break;
    default:
        if (start > UINT64_MAX - 64 && len > 0 - start) {
            len = 0 - start;
        }
        if (t_prng_chance(prng, 1, 2) && start < 64) {
            start <<= 46; /* across the end of what the walk sees */
            len <<= 46;
        }
        (void)numa_memory(&blob, domain, start, len, flags | (uint32_t)t_prng_below(prng, 4) << 1);
    }
}

/* Small spaces, so that everything overlaps everything; the model compares. */
static void random_tables(void **state)
{
    const unsigned rounds =
        (MM_TEST_SANITIZED ? 2000 : 20000) * (getenv("MM_TEST_FULL") != NULL ? 20 : 1);
    struct mm_numa_range ranges[RANGES];
    struct mm_numa_cpu cpus[CPUS];
    struct t_prng prng;

    (void)state;
    t_prng_start(&prng, "numa, tables");
    for (unsigned i = 0; i < rounds; i++) {
        unsigned nr = (unsigned)t_prng_below(&prng, 40);
        struct mm_numa numa = {0};
        const char *wrong;
        uint32_t rows;

        numa_srat(&blob, (uint8_t)t_prng_range(&prng, 1, 4));
        while (nr-- > 0) {
            random_entry(&prng);
        }
        numa_end(&blob);
        assert_int_equal(mm_numa_init(&numa, ranges, RANGES, cpus, CPUS), MM_OK);
        assert_int_equal(mm_numa_read_srat(&numa, blob.bytes, blob.len, NULL), MM_OK);
        assert_true(t_mnuma_srat(&model, blob.bytes, blob.len));
        wrong = t_mnuma_compare(&model, &numa);
        if (wrong != NULL) {
            fail_msg("%s", wrong);
        }
        assert_true(numa.nr_ranges <= MM_NUMA_CAPACITY(model.nr_memory));
        rows = (uint32_t)t_prng_below(&prng, 8);
        numa_slit(&blob, rows);
        for (uint32_t at = 0; at < rows * rows; at++) {
            if (rows != 0 && at / rows != at % rows) {
                blob.bytes[44 + at] = (uint8_t)t_prng_range(&prng, 10, 255);
            }
        }
        numa_end(&blob);
        assert_int_equal(mm_numa_read_slit(&numa, blob.bytes, blob.len, NULL), MM_OK);
        assert_true(t_mnuma_slit(&model, blob.bytes, blob.len));
        assert_null(t_mnuma_compare(&model, &numa));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_tables),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
