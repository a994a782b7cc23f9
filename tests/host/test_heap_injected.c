// SPDX-License-Identifier: MIT
/**
 * Each request to a page source fails, once and from then on, while a heap is filled by all its
 * calls. (One call at a time, and the state byte by byte: tests/calls.)
 */
#include "heap_world.h"

/*
 * Each call of the page source fails once, and from then on; what was there is untouched, nothing
 * is lost, and the call that failed works again when there is memory.
 */
static void injected(struct world *world, bool onward)
{
    static const uint64_t sizes[] = {16, 100, 1000, 4096, 8192, 9000, 50000};
    void *live[sizeof(sizes) / sizeof(sizes[0])][40];
    struct t_mheap model;
    uint64_t nr_points = 0;

    t_mheap_init(&model, 0, 0);
    for (uint64_t n = 1;; n++) {
        uint64_t fired;

        world_start(world, 2);
        if (onward) {
            t_inject_from(&world->inject, n);
        } else {
            t_inject_nth(&world->inject, n);
        }
        for (unsigned s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
            for (unsigned i = 0; i < 40; i++) {
                struct mm_heap_stats before = world_stats(world);
                uint64_t fired_before = world->inject.fired;

                live[s][i] = i % 2 == 0 ? mm_heap_alloc(&world->heap, sizes[s])
                                        : mm_heap_alloc_aligned(&world->heap, 64, sizes[s]);
                if (live[s][i] == NULL) {
                    struct mm_heap_stats after = world_stats(world);

                    assert_true(world->inject.fired > fired_before);
                    assert_int_equal(after.nr_objects, before.nr_objects);
                    assert_int_equal(after.object_bytes, before.object_bytes);
                    assert_int_equal(after.run_bytes, before.run_bytes);
                    assert_int_equal(world->nr_out * MM_PAGE_SIZE,
                                     world_meta(world) * MM_PAGE_SIZE + after.slab_bytes +
                                         after.run_bytes);
                    assert_int_equal(mm_heap_check(&world->heap), MM_OK);
                    continue;
                }
                T_LEGAL(t_mheap_add(&model, live[s][i], sizes[s], 16));
                if (i % 3 == 0) {
                    void *moved = mm_heap_realloc(&world->heap, live[s][i], sizes[s] * 2);

                    if (moved != NULL) {
                        T_LEGAL(t_mheap_resize(&model, live[s][i], moved, sizes[s] * 2, 16));
                        live[s][i] = moved;
                    } else {
                        T_LEGAL(t_mheap_verify(&model, live[s][i]));
                    }
                }
            }
        }
        fired = world->inject.fired;
        nr_points = world->inject.asked > nr_points ? world->inject.asked : nr_points;
        t_inject_never(&world->inject);
        T_LEGAL(t_mheap_verify_all(&model));
        for (unsigned s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
            for (unsigned i = 0; i < 40; i++) {
                if (live[s][i] == NULL) {
                    live[s][i] = mm_heap_alloc(&world->heap, sizes[s]);
                    T_LEGAL(t_mheap_add(&model, live[s][i], sizes[s], 16));
                }
                T_LEGAL(t_mheap_remove(&model, live[s][i]));
                mm_heap_free(&world->heap, live[s][i]);
            }
        }
        world_stop(world);
        if (fired == 0) {
            break;
        }
    }
    assert_true(nr_points > 40);
    t_mheap_destroy(&model);
    world_delete(world);
}

static void test_injected(void **state)
{
    (void)state;
    injected(world_of_range(64 * MiB), false);
    injected(world_of_range(64 * MiB), true);
    injected(world_of_frames(32 * MiB), false);
    injected(world_of_frames(32 * MiB), true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_injected),
    };

    return cmocka_run_group_tests_name("heap_injected", tests, NULL, NULL);
}
