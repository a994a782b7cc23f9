// SPDX-License-Identifier: MIT
/**
 * Adopting tables while the hardware walks them: the accessed bit that it sets between our load of
 * an entry and our exchange stays (hazard 15).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "events.h"
#include "t_paging.h"

#define P4K      UINT64_C(0x1000)
#define ACCESSED UINT64_C(0x20)
#define OURS     UINT64_C(0x200) /* means something to us, and nothing to who built the tables */

struct walker {
    uint64_t *entry;
    unsigned nr_updates;
};

/* Walks just before the exchange, once. */
static void walk(void *ctx, const struct t_event *event)
{
    struct walker *walker = ctx;

    if (event->kind == T_EVENT_UPDATE && event->at == walker->entry) {
        walker->nr_updates++;
        *walker->entry |= ACCESSED;
    }
}

static void test_walker_is_faster(void **state)
{
    static const struct t_events_hooks hooks = {.before = walk};
    struct t_paging *m = t_paging_new();
    struct mm_paging_config config;
    struct mm_pagetable pt = {0};
    struct walker walker = {0};
    mm_pfn_t root;
    mm_pfn_t top;
    uint64_t was;

    (void)state;
    t_paging_start(m);
    config = t_config(m);
    assert_int_equal(t_source_alloc(m, MM_OWNER_KERNEL, true, &root), MM_OK);
    assert_int_equal(t_source_alloc(m, MM_OWNER_KERNEL, true, &top), MM_OK);
    walker.entry = &t_table(m, root.raw)[256];
    was = top.raw * P4K | OURS | 0x3;
    *walker.entry = was;
    t_events_watch(&hooks, &walker);
    assert_int_equal(mm_paging_adopt(&pt, &config, mm_pfn_addr(root)), MM_OK);
    t_events_watch(NULL, NULL);
    assert_int_equal(walker.nr_updates, 2); /* the first exchange came too late */
    assert_int_equal(*walker.entry, (was | ACCESSED) & ~OURS);
    assert_int_equal(mm_paging_destroy(&pt), MM_OK);
    t_source_free(m, root);
    t_source_free(m, top);
    t_paging_delete(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_walker_is_faster),
    };

    return cmocka_run_group_tests_name("paging_adopt", tests, NULL, NULL);
}
