// SPDX-License-Identifier: MIT
/**
 * Cache lines that two CPUs take from each other, counted: who was the last to write to the words of a
 * slab. Nothing is wrong where they do it all the time, and all is slow.
 */
#include "heap_world.h"

#include "heap/slab.h"

#define NR_CPUS  2u
#define NR_KNOWN 4096u /* a power of two, and more than there are slabs */

/** A client's objects are replaced at random, and then it moves to the other CPU. */
static const struct workload {
    unsigned nr_objects;
    unsigned nr_replacements; /**< until then; 0: it stays */
    unsigned most; /**< lines that change hands, in 1000 pairs of a free and an allocation */
} workloads[] = {
    {5000, 500000, 40}, /* Larson's server, as mimalloc-bench has it */
    {5000, 0, 40},
    {1000, 4096, 330}, /* a quarter is freed where it was not allocated, and each comes back */
    {1000, 0, 40},
    {50, 0, 1},
};

static struct world *world;

/** Descriptors, and 1 + the CPU that wrote to their words last. */
static struct {
    const struct mmi_slab *slab;
    unsigned writer;
} known[NR_KNOWN];

/** The CPU wrote to the words of this object's slab: 1 if they were the other's. */
static unsigned write_to(const void *object, unsigned cpu)
{
    const struct mmi_slab *slab = mmi_table_find(&world->pool.table, (uint64_t)(uintptr_t)object);
    unsigned i = (unsigned)((uintptr_t)slab / sizeof(*slab)) % NR_KNOWN;
    unsigned before;

    assert_non_null(slab);
    while (known[i].slab != NULL && known[i].slab != slab) {
        i = (i + 1) % NR_KNOWN;
    }
    before = known[i].writer;
    known[i].slab = slab;
    known[i].writer = cpu + 1;
    return before != 0 && before != cpu + 1 ? 1 : 0;
}

struct client {
    void *objects[5000];
};

static uint64_t any_size(struct t_prng *prng)
{
    return 8 + t_prng_below(prng, 993);
}

/** One CPU after the other replaces an object; the third client waits to be served. */
static void test_lines_that_change_hands(void **state)
{
    enum { NR_CLIENTS = NR_CPUS + 1, WARM = 300000, NR = 600000 };
    static struct client clients[NR_CLIENTS];

    (void)state;
    print_message("%8s %14s %22s %8s\n", "objects", "then it moves", "lines in 1000 pairs",
                  "pages");
    for (unsigned w = 0; w < sizeof(workloads) / sizeof(workloads[0]); w++) {
        const struct workload *load = &workloads[w];
        struct client *of[NR_CPUS] = {&clients[0], &clients[1]};
        struct client *waits = &clients[2];
        struct t_prng prng;
        uint64_t nr_lines = 0;

        memset(known, 0, sizeof(known));
        t_prng_seed(&prng, w);
        world = world_of_range(64 * MiB);
        world_start(world, NR_CPUS);
        for (unsigned i = 0; i < NR_CLIENTS * load->nr_objects; i++) {
            clients[i % NR_CLIENTS].objects[i / NR_CLIENTS] =
                mm_heap_alloc_on(&world->heap, 0, any_size(&prng));
        }
        for (unsigned i = 0; i < 2 * (WARM + NR); i++) {
            unsigned cpu = i % 2;
            void **object = &of[cpu]->objects[t_prng_below(&prng, load->nr_objects)];
            unsigned lines = write_to(*object, cpu);

            mm_heap_free_on(&world->heap, cpu, *object);
            *object = mm_heap_alloc_on(&world->heap, cpu, any_size(&prng));
            assert_non_null(*object);
            lines += write_to(*object, cpu);
            nr_lines += i < 2 * WARM ? 0 : lines;
            if (load->nr_replacements != 0 &&
                (i / 2 + cpu * load->nr_replacements / 2) % load->nr_replacements == 0) {
                struct client *next = waits;

                waits = of[cpu];
                of[cpu] = next;
            }
        }
        print_message("%8u %14u %22.1f %8llu\n", load->nr_objects, load->nr_replacements,
                      (double)nr_lines * 1000 / (2.0 * NR), (unsigned long long)world->nr_out);
        assert_true(nr_lines * 1000 <= 2ull * NR * load->most);
        assert_int_equal(mm_heap_check(&world->heap), MM_OK);
        for (unsigned i = 0; i < NR_CLIENTS * load->nr_objects; i++) {
            mm_heap_free(&world->heap, clients[i % NR_CLIENTS].objects[i / NR_CLIENTS]);
        }
        world_stop(world);
        world_delete(world);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_lines_that_change_hands)};

    return cmocka_run_group_tests_name("heap_sharing", tests, NULL, NULL);
}
