// SPDX-License-Identifier: MIT
/**
 * Random operations on spaces that are related by clones, against the flat model
 * (tests/support/model_space.h), on one to eight simulated CPUs. What is done is in space_stream.h.
 *
 * After each operation the pages at its ends are compared; after each 16th the sweep finds nothing
 * in any cache that disagrees with the tables; after each 250th all regions, pages, contents,
 * references, sums and statistics are, and the library's own checks find nothing. At the end every
 * frame is back.
 */
#include "space_random.h"

#define NR_OPS (MM_TEST_SANITIZED ? 100000u : 1000000u) /* of all worlds together */
#define FULL   20u                                      /* times as many in the long campaign */

#define GIB UINT64_C(0x40000000)
#define MIB UINT64_C(0x100000)

/* What the worlds must have seen together, or the test proves less than it says. */
static struct {
    uint64_t deepest, most_alive, nr_huge, nr_grown, nr_reclaimed;
} all;

/* The window lies around a boundary of 1 GiB, with two leaves of 2 MiB in it; at the lowest address;
 * at the highest; and where 57 bits are needed. */
static const struct setup setups[] = {
    {.name = "one CPU",
     .nr_cpus = 1,
     .ram_len = 48 * MIB,
     .divisor = 5,
     .world = {.start = GIB - 256 * PAGE, .nr = 1024, .max_spaces = 16}},
    {.name = "four CPUs",
     .nr_cpus = 4,
     .ram_len = 16 * MIB,
     .divisor = 5,
     .world = {.start = PAGE,
               .nr = 700,
               .max_spaces = 12,
               .commit = MM_COMMIT_NEVER,
               .commit_pages = 2500}},
    {.name = "eight CPUs with a tlb",
     .nr_cpus = 8,
     .ram_len = 24 * MIB,
     .divisor = 5,
     .world = {.start = 3 * GIB - 512 * PAGE, .nr = 1024, .max_spaces = 16, .tlb = true}},
    {.name = "57 bits",
     .nr_cpus = 3,
     .la57 = true,
     .ram_len = 24 * MIB,
     .divisor = 10,
     .world = {.start = (UINT64_C(1) << 47) - 300 * PAGE,
               .nr = 900,
               .max_spaces = 10,
               .tlb = true,
               .commit = MM_COMMIT_ALWAYS}},
    {.name = "64 spaces at the top",
     .nr_cpus = 4,
     .ram_len = 32 * MIB,
     .divisor = 5,
     .world = {.start = T_USER_LEN - 401 * PAGE, .nr = 400, .max_spaces = 64, .tlb = true}},
    {.name = "short of memory",
     .nr_cpus = 2,
     .short_of_memory = true,
     .ram_len = 8 * MIB,
     .divisor = 10,
     .world = {.start = GIB - 100 * PAGE,
               .nr = 300,
               .max_spaces = 8,
               .commit = MM_COMMIT_NEVER,
               .commit_pages = 800}},
};

static void look_at(const struct stream *s, const struct run *run)
{
    print_message(
        "%s: no memory %llu, limit %llu, copied %llu, 2 MiB %llu, stacks grown %llu, "
        "reclaimed %llu, moved %llu, devices %llu, clones %llu (depth %llu), forced %llu, "
        "pinned %llu, spaces %llu\n",
        run->setup->name, (unsigned long long)s->nr_no_memory, (unsigned long long)s->nr_limit,
        (unsigned long long)s->nr_cow, (unsigned long long)s->nr_huge,
        (unsigned long long)s->nr_grown, (unsigned long long)s->nr_reclaimed,
        (unsigned long long)s->nr_moved, (unsigned long long)s->nr_device,
        (unsigned long long)s->nr_clones, (unsigned long long)s->deepest,
        (unsigned long long)s->nr_forced, (unsigned long long)s->nr_pinned,
        (unsigned long long)s->most_alive);
    all.deepest = s->deepest > all.deepest ? s->deepest : all.deepest;
    all.most_alive = s->most_alive > all.most_alive ? s->most_alive : all.most_alive;
    all.nr_huge += s->nr_huge;
    all.nr_grown += s->nr_grown;
    all.nr_reclaimed += s->nr_reclaimed;
    assert_true(s->nr_cow > run->nr_ops / 200);
    assert_true(s->nr_no_memory > 10 && s->nr_limit > 10 && s->nr_moved > 10);
    assert_true(s->nr_device > 10 && s->nr_forced > 10 && s->nr_pinned > 10);
}

static void look_at_all(void **state)
{
    (void)state;
    if (MM_TEST_SANITIZED == 0) {
        assert_true(all.deepest >= 4);
        assert_true(all.most_alive >= 50);
        assert_true(all.nr_huge > 10);
        assert_true(all.nr_grown > 100);
        assert_true(all.nr_reclaimed > 50);
    }
}

static void test_world(void **state)
{
    struct stream *s = calloc(1, sizeof(*s));
    struct t_prng prng;
    struct run run = {.setup = *state};

    assert_non_null(s);
    t_prng_start(&prng, run.setup->name);
    run.seed = t_prng_u64(&prng);
    run.nr_ops = NR_OPS / run.setup->divisor * (getenv("MM_TEST_FULL") != NULL ? FULL : 1);
    if (getenv("MM_TEST_SHRINK") != NULL) {
        shrink_world(&run);
    } else {
        run_world(&run, s);
        look_at(s, &run);
    }
    free(s);
}

int main(void)
{
    struct CMUnitTest tests[sizeof(setups) / sizeof(setups[0]) + 1];
    static struct setup setup[sizeof(setups) / sizeof(setups[0])];
    const char *one = getenv("MM_TEST_WORLD");
    size_t nr = 0;

    for (size_t n = 0; n < sizeof(setups) / sizeof(setups[0]); n++) {
        if (one == NULL || strtoul(one, NULL, 0) == n) {
            setup[nr] = setups[n];
            tests[nr] = (struct CMUnitTest){
                .name = setups[n].name, .test_func = test_world, .initial_state = &setup[nr]};
            nr++;
        }
    }
    if (one == NULL && getenv("MM_TEST_SHRINK") == NULL) {
        tests[nr++] = (struct CMUnitTest)cmocka_unit_test(look_at_all);
    }
    return _cmocka_run_group_tests("spaces", tests, nr, NULL, NULL);
}
