// SPDX-License-Identifier: MIT
/**
 * Pages that were given up are taken by one CPU while another writes to them as the hardware does:
 * it sets accessed and dirty in the leaf that it found, then stores (SDM vol. 3A, 4.8). No schedule
 * loses what was written.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "space_race.h"

#define NR_PAGES 3u

#define PRESENT_WRITABLE_USER UINT64_C(7)
#define ACCESSED_DIRTY        UINT64_C(0x60)

/* The leaf's entry; NULL: a table is missing. */
static uint64_t *entry_of(struct mm_space *space, uint64_t at)
{
    uint64_t table = mm_paging_root(mm_space_table(space)).raw;

    for (unsigned shift = 39;; shift -= 9) {
        uint64_t *entry = &ram_at(table)[(at >> shift) & 511];

        if (shift == 12) {
            return entry;
        }
        if ((*entry & PRESENT_WRITABLE_USER) != PRESENT_WRITABLE_USER) {
            return NULL;
        }
        table = *entry & UINT64_C(0x000ffffffffff000);
    }
}

static void hardware_store(unsigned page)
{
    for (;;) {
        uint64_t *entry = entry_of(w->of[0], USER + page * PAGE);
        uint64_t seen = entry == NULL ? 0 : *entry;
        uint64_t *value;

        t_schedule_point();
        if ((seen & PRESENT_WRITABLE_USER) != PRESENT_WRITABLE_USER) {
            do_step(1, &(struct step){.what = STORE, .page = page}); /* a page of its own */
            return;
        }
        if (!__atomic_compare_exchange_n(entry, &seen, seen | ACCESSED_DIRTY, false,
                                         __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
            continue;
        }
        t_schedule_point();
        value = ram_at(seen & UINT64_C(0x000ffffffffff000));
        if (!may_find(0, page, *value)) {
            t_schedule_fail("what was given up holds another's memory");
        }
        *value = stamp(0, page);
        w->stored[0][page] = *value;
        return;
    }
}

static void run(void *ctx, unsigned cpu)
{
    uint64_t nr = 0;

    (void)ctx;
    if (cpu == 0) {
        expect(mm_space_reclaim(w->of[0], UINT64_MAX, &nr), MM_OK);
        if (nr > NR_PAGES) {
            t_schedule_fail("%llu pages are taken", (unsigned long long)nr);
        }
        return;
    }
    for (unsigned page = NR_PAGES; page-- > 0;) {
        hardware_store(page);
    }
}

static void test_taken_while_written(void **state)
{
    struct t_race race = {.name = "space.reclaim-write",
                          .nr_cpus = 2,
                          .start = space_race_start,
                          .run = run,
                          .finish = space_race_finish,
                          .sparse = true,
                          .ordered = true};
    const struct t_race_plan plan = {
        .nr_random = 200, .nr_pct = 200, .nr_search = 800, .preemptions = 2};

    (void)state;
    prepare(NR_PAGES, NR_PAGES);
    assert_int_equal(
        mm_space_advise(w->of[0], mm_vrange(mm_vaddr(USER), NR_PAGES * PAGE), MM_ADVICE_FREE),
        MM_OK);
    memset(w->stored, 0, sizeof(w->stored)); /* what was there before may go */
    w->at_start = malloc(sizeof(*w));
    assert_non_null(w->at_start);
    memcpy(w->at_start, w, sizeof(*w));
    T_LEGAL(t_race_explore(&race, &plan));
    free(w->at_start);
    free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_taken_while_written),
    };

    return cmocka_run_group_tests_name("schedule_space_advise", tests, NULL, NULL);
}
