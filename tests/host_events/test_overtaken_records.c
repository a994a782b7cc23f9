// SPDX-License-Identifier: MIT
/**
 * Calls of heaps that record, are hardened or sample, overtaken at one given access: what another
 * CPU does there is done by a hook just before it.
 */
#include "heap_tiers.h"

#include "events.h"

static struct told told;
static struct world *world;

/* Before the access number `nth` of this kind to `at`, `overtake` is called. */
struct point {
    enum t_event_kind kind;
    const void *at;
    unsigned nth;
    void (*overtake)(void);
    unsigned nr; /* that there were */
};

static void before(void *ctx, const struct t_event *event)
{
    struct point *p = ctx;

    if (event->kind == p->kind && event->at == p->at && ++p->nr == p->nth) {
        p->overtake();
    }
}

static const struct t_events_hooks hooks = {.before = before};

static struct mm_heap *start(struct mm_heap_config config)
{
    config.name = "things";
    config.report = told_report;
    config.report_ctx = &told;
    memset(&told, 0, sizeof(told));
    world = world_of_range(4 * MiB);
    tiers_start(world, 1, &config);
    return &world->heap;
}

static void end(void)
{
    assert_int_equal(world_stats(world).nr_objects, 0);
    assert_int_equal(mm_heap_check(&world->heap), MM_OK);
    world_stop(world);
    world_delete(world);
}

/* --- the quarantine --------------------------------------------------------------------------- */

static void all_leave(void)
{
    mm_heap_reclaim(&world->heap);
}

/** What an overflow broke of a freed object is being mended when that is to leave the quarantine: who
 * mends it lets it go, and tells what else is broken of it. */
static void test_leaves_while_mended(void **state)
{
    (void)state;
    for (unsigned more = 0; more < 2; more++) {
        struct mm_heap *heap = start((struct mm_heap_config){.tier = MM_HEAP_HARDENED});
        struct point p = {.kind = T_EVENT_STORE, .nth = 1, .overtake = all_leave};
        unsigned char *objects[64];
        unsigned char *first = NULL;
        unsigned char *second = NULL;

        for (unsigned i = 0; i < 64; i++) {
            objects[i] = made_here(heap, 20);
        }
        for (unsigned i = 0; i < 64 * 64 && first == NULL; i++) {
            if (objects[i / 64] == objects[i % 64] + 48) {
                first = objects[i % 64];
                second = objects[i / 64];
            }
        }
        assert_non_null(first);
        freed_here(heap, second);
        memset(first + 20, 1, 28 + 8);
        second[20] = more != 0 ? 1 : (unsigned char)MM_HEAP_POISON;
        p.at = second;
        t_events_watch(&hooks, &p);
        freed_here(heap, first);
        t_events_watch(NULL, NULL);
        assert_true(p.nr >= 1);
        assert_int_equal(told.nr, 1 + more);
        assert_int_equal(told.reports[0].kind, MM_HEAP_OVERFLOW);
        assert_int_equal(told.reports[0].object, (uint64_t)(uintptr_t)first);
        if (more != 0) {
            assert_int_equal(told.reports[1].kind, MM_HEAP_WRITE_AFTER_FREE);
            assert_int_equal(told.reports[1].address, (uint64_t)(uintptr_t)(second + 20));
        }
        assert_int_equal(world_stats(world).nr_objects, 62);
        assert_true(mm_heap_reclaim(heap) == 0);
        for (unsigned i = 0; i < 64; i++) {
            mm_heap_free(heap, objects[i] != first && objects[i] != second ? objects[i] : NULL);
        }
        assert_true(mm_heap_reclaim(heap) != 0); /* the slab goes: every bit of it is set */
        assert_int_equal(told.nr, 1 + more);
        end();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_leaves_while_mended),
    };

    return cmocka_run_group_tests_name("overtaken_records", tests, NULL, NULL);
}
