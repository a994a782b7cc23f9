// SPDX-License-Identifier: MIT
/**
 * Spaces of one group that several CPUs use: its sums are exact when they are done, and never above
 * its limits.
 */
#include "space_counts.h"

#include <pthread.h>

#define AT (32 * PAGE)

enum { NR_THREADS = 4, GROUP_PAGES = 40 };

struct worker {
    struct mm_space *space;
    const struct mm_space_group *group;
    unsigned nr_refused;
    unsigned nr_wrong;
};

/* Pages come by faults, go by unmap, and come again, always near the limit. */
static void *use_pages(void *argument)
{
    struct worker *w = argument;

    for (unsigned round = 0; round < 60; round++) {
        for (uint64_t i = 0; i < 16; i++) {
            struct mm_fault fault = {.at = mm_vaddr(AT + i * PAGE),
                                     .flags = MM_FAULT_USER | MM_FAULT_WRITE};
            enum mm_fault_result got = MM_FAULT_PENDING;
            struct mm_space_group_stats stats;

            w->nr_wrong += mm_space_fault(w->space, &fault, &got) != MM_OK ? 1 : 0;
            w->nr_wrong += got != MM_FAULT_ZERO && got != MM_FAULT_LIMIT ? 1 : 0;
            w->nr_refused += got == MM_FAULT_LIMIT ? 1 : 0;
            w->nr_wrong += mm_space_group_get_stats(w->group, &stats) != MM_OK ||
                                   stats.resident_bytes > GROUP_PAGES * PAGE
                               ? 1
                               : 0;
        }
        w->nr_wrong += unmap(w->space, AT, 16 * PAGE) != MM_OK ? 1 : 0;
        w->nr_wrong += map_at(w->space, AT, 16 * PAGE, RW, 0) != MM_OK ? 1 : 0;
    }
    return NULL;
}

static void test_threads(void **state)
{
    static const struct t_machine_config machine = {.threads = true};
    const struct mm_space_limits limits = {.resident_bytes = GROUP_PAGES * PAGE};
    struct fixture *f = fixture_start_promising(&machine, MM_COMMIT_NEVER, NR_THREADS * 16);
    struct worker worker[NR_THREADS];
    pthread_t thread[NR_THREADS];
    struct mm_space_group group = {0};

    (void)state;
    assert_int_equal(mm_space_group_init(&group, &limits), MM_OK);
    for (unsigned i = 0; i < NR_THREADS; i++) {
        worker[i] = (struct worker){.space = space_in(f, &group), .group = &group};
        assert_int_equal(map_at(worker[i].space, AT, 16 * PAGE, RW, 0), MM_OK);
    }
    for (unsigned i = 0; i < NR_THREADS; i++) {
        assert_int_equal(pthread_create(&thread[i], NULL, use_pages, &worker[i]), 0);
    }
    for (unsigned i = 0; i < NR_THREADS; i++) {
        assert_int_equal(pthread_join(thread[i], NULL), 0);
        assert_int_equal(worker[i].nr_wrong, 0);
    }
    assert_int_equal(group_of(&group).resident_bytes, 0);
    assert_int_equal(group_of(&group).mapped_bytes, NR_THREADS * 16 * PAGE);
    assert_int_equal(promised(f), NR_THREADS * 16);
    for (unsigned i = 0; i < NR_THREADS; i++) {
        assert_int_equal(mm_space_check(worker[i].space), MM_OK);
        put_last(f, worker[i].space);
    }
    assert_int_equal(group_of(&group).mapped_bytes, 0);
    assert_int_equal(promised(f), 0);
    assert_int_equal(mm_space_group_destroy(&group), MM_OK);
    fixture_stop(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_threads),
    };

    return cmocka_run_group_tests_name("space_limits_threads", tests, NULL, NULL);
}
