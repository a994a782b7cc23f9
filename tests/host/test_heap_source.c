// SPDX-License-Identifier: MIT
/**
 * A page source that allocates while it is asked for pages: from another heap, and from the one that
 * asks it.
 */
#include "heap_world.h"

static struct world *other;
static void *others[4100];
static unsigned nr_others;

/* A source that needs memory itself, from another heap. */
static void allocate_elsewhere(struct world *world)
{
    (void)world;
    if (nr_others < 4000) {
        others[nr_others] = mm_heap_alloc(&other->heap, 48);
        assert_non_null(others[nr_others++]);
    }
}

/* One that asks the heap that asks it; it does not let that go on for ever. */
static void allocate_here(struct world *world)
{
    if (world->depth < 3 && nr_others < 4000) {
        void *object;

        world->depth++;
        object = mm_heap_alloc(&world->heap, 16u << (nr_others % 9));
        world->depth--;
        if (object != NULL) {
            others[nr_others++] = object;
        }
    }
}

static void use(struct world *world)
{
    static void *objects[3000];

    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < 3000; i++) {
            uint64_t size = i % 100 == 0 ? 10000 : 16 + i % 1000;

            objects[i] = mm_heap_alloc(&world->heap, size);
            assert_non_null(objects[i]);
            memset(objects[i], (int)i, size);
        }
        assert_int_equal(mm_heap_check(&world->heap), MM_OK);
        for (unsigned i = 0; i < 3000; i++) {
            assert_int_equal(*(unsigned char *)objects[i], i & 255);
            mm_heap_free(&world->heap, objects[i]);
        }
        mm_heap_reclaim(&world->heap);
    }
}

static void test_source_that_allocates(void **state)
{
    struct world *world = world_of_range(64 * MiB);

    (void)state;
    other = world_of_range(4 * MiB);
    world_start(other, 1);
    world_start(world, 1);
    world->on_alloc = allocate_elsewhere;
    nr_others = 0;
    use(world);
    assert_true(nr_others > 30);
    while (nr_others > 0) {
        mm_heap_free(&other->heap, others[--nr_others]);
    }
    world_stop(other);
    world_delete(other);

    world->on_alloc = allocate_here;
    use(world);
    assert_true(nr_others > 30);
    world->on_alloc = NULL;
    while (nr_others > 0) {
        mm_heap_free(&world->heap, others[--nr_others]);
    }
    world_stop(world);
    world_delete(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_source_that_allocates),
    };

    return cmocka_run_group_tests_name("heap_source", tests, NULL, NULL);
}
