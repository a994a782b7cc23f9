// SPDX-License-Identifier: MIT
/**
 * A write at each moment of a call that breaks before it makes: before every single access of the
 * library to the tables, another CPU tries to write to a page of the range, by all that it has
 * cached. What it was let do, the leaf knows after the call. Hazard 15.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "events.h"
#include "t_paging.h"

#define AT    (64 * P1G)
#define PAGE  (AT + 77 * P4K) /* the one that is written to */
#define PADDR (3 * P1G)

struct writer {
    struct t_paging *m;
    uint64_t nr;  /* accesses of the library so far */
    uint64_t nth; /* the one before which the CPU writes */
    bool wrote;
    bool refused;
};

static void before(void *ctx, const struct t_event *event)
{
    struct writer *w = ctx;

    (void)event;
    if (++w->nr == w->nth) {
        uint32_t answer = t_cpu_access(&w->m->cpus.cpu[1], PAGE, T_MMU_WRITE | T_MMU_USER, NULL);

        w->wrote = answer == T_CPU_DONE;
        w->refused = !w->wrote;
    }
}

enum operation { TYPE_4K, TYPE_2M, TYPE_OF_A_PART, TYPE_BESIDE, MERGE, MAP_MERGE, NR_OPERATIONS };

static void scene(struct mm_pagetable *pt, enum operation what)
{
    uint32_t flags = what == TYPE_4K || what == MERGE || what == MAP_MERGE ? MM_PAGING_ONLY_4K : 0;
    uint64_t len = what == MAP_MERGE ? P2M - P4K : P2M;

    assert_int_equal(
        mm_paging_map(pt, t_range(AT, len), mm_paddr(PADDR), T_URW, MM_MEMTYPE_WB, flags), MM_OK);
}

static void operate(struct mm_pagetable *pt, enum operation what)
{
    mm_status_t status = MM_OK;

    switch (what) {
    case TYPE_4K:
    case TYPE_2M:
        status = mm_paging_set_type(pt, t_range(AT, P2M), MM_MEMTYPE_WC, 0);
        break;
    case TYPE_OF_A_PART:
        status = mm_paging_set_type(pt, t_range(PAGE, P4K), MM_MEMTYPE_WC, MM_PAGING_SPLIT);
        break;
    case TYPE_BESIDE:
        status = mm_paging_set_type(pt, t_range(PAGE + P4K, P4K), MM_MEMTYPE_WC, MM_PAGING_SPLIT);
        break;
    case MERGE:
        status = mm_paging_merge(pt, t_range(AT, P2M), NULL);
        break;
    case MAP_MERGE:
    case NR_OPERATIONS:
        status = mm_paging_map(pt, t_range(AT + P2M - P4K, P4K), mm_paddr(PADDR + P2M - P4K), T_URW,
                               MM_MEMTYPE_WB, MM_PAGING_MERGE);
        break;
    }
    assert_int_equal(status, MM_OK);
}

/* Once with the write before access `nth`; false: there are fewer. */
static bool once(struct t_paging *m, enum operation what, struct writer *w, uint64_t nth)
{
    static const struct t_events_hooks hooks = {.before = before};

    scene(&m->user, what);
    /* The way to the table is cached, the page is not. */
    assert_int_equal(t_cpu_access(&m->cpus.cpu[1], AT, T_MMU_USER, NULL), T_CPU_DONE);
    memset(w, 0, sizeof(*w));
    w->m = m;
    w->nth = nth;
    t_events_watch(&hooks, w);
    t_events_only((uintptr_t)t_table(m, 0), T_TABLES * UINT64_C(4096));
    operate(&m->user, what);
    t_events_watch(NULL, NULL);
    if (w->wrote && !t_leaf(&m->user, PAGE).dirty) {
        fail_msg("operation %u: a write before access %llu is forgotten", (unsigned)what,
                 (unsigned long long)nth);
    }
    t_nothing_stale(m);
    assert_int_equal(mm_paging_check(&m->user), MM_OK);
    assert_int_equal(t_unmap(&m->user, AT, P2M, 0), MM_OK);
    return w->nr >= nth;
}

static void test_a_write_at_each_moment(void **state)
{
    struct t_paging *m = t_paging_new_cpus(2);

    (void)state;
    t_paging_start(m);
    for (m->cpus.now = 2; m->cpus.now-- > 0;) {
        assert_int_equal(mm_paging_activate(&m->user), MM_OK);
    }
    m->cpus.now = 0;
    for (unsigned what = 0; what < NR_OPERATIONS; what++) {
        unsigned nr_wrote = 0;
        unsigned nr_refused = 0;
        struct writer w;

        for (uint64_t nth = 1; once(m, (enum operation)what, &w, nth); nth++) {
            nr_wrote += w.wrote ? 1 : 0;
            nr_refused += w.refused ? 1 : 0;
        }
        assert_true(nr_wrote > 3);
        assert_true(nr_refused > 0 || what == TYPE_BESIDE);
    }
    t_paging_delete(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_write_at_each_moment),
    };

    return cmocka_run_group_tests_name("paging break", tests, NULL, NULL);
}
