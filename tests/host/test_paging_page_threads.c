// SPDX-License-Identifier: MIT
/**
 * Four real threads fill the same pages of one user root, exchange them, and race for every table on
 * the way: each page is filled once, no table is lost. Hazards 12, 16.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "t_paging.h"

#include "core/paging/page.h"

#include <pthread.h>

#define FRAME(n) mm_paddr(64 * P1G + (n)*P4K)

#define THREADS 4u
#define PAGES   48u /* of each round */

struct worker {
    pthread_t thread;
    struct mm_pagetable *pt;
    pthread_barrier_t *barrier;
    unsigned number;
    unsigned nr_rounds;
    uint64_t nr_filled;
    uint64_t nr_wrong; /* cmocka's failures do not leave a thread */
};

/* Tables for threads: the lock is the test's. */
struct stock {
    pthread_mutex_t mutex;
    struct t_paging *m;
};

static mm_status_t stock_alloc(void *ctx, enum mm_frame_owner owner, bool zeroed, mm_pfn_t *out)
{
    struct stock *stock = ctx;
    mm_status_t status;

    (void)pthread_mutex_lock(&stock->mutex);
    status = t_source_alloc(stock->m, owner, zeroed, out);
    (void)pthread_mutex_unlock(&stock->mutex);
    return status;
}

static void stock_free(void *ctx, mm_pfn_t frame)
{
    struct stock *stock = ctx;

    (void)pthread_mutex_lock(&stock->mutex);
    t_source_free(stock->m, frame);
    (void)pthread_mutex_unlock(&stock->mutex);
}

/* Neighbours share a table, every fourth page has one of its own, every sixteenth a higher one. */
static uint64_t raced(unsigned round, unsigned i)
{
    return (round * 16 + i / 16) * P1G + i / 4 * P2M + i % 4 * P4K;
}

static mm_paddr_t frame_of(unsigned worker, unsigned i)
{
    return FRAME(worker * PAGES + i);
}

static void *fill(void *argument)
{
    struct worker *w = argument;

    for (unsigned round = 0; round < w->nr_rounds; round++) {
        (void)pthread_barrier_wait(w->barrier);
        for (unsigned i = 0; i < PAGES; i++) {
            uint64_t at = raced(round, i);
            mm_status_t status = mmi_page_fill(w->pt, at, frame_of(w->number, i), T_UR);
            struct mmi_page page;

            w->nr_filled += status == MM_OK ? 1 : 0;
            mmi_page_look(w->pt, at, &page);
            w->nr_wrong += status != MM_OK && status != MM_ERR_BUSY ? 1 : 0;
            w->nr_wrong += page.kind != MMI_PAGE_LEAF ? 1 : 0;
            /* Each writes its own frame, until all have been there. */
            while (mmi_page_swap(w->pt, at, &page, frame_of(w->number, i), T_URW) != MM_OK) {
                w->nr_wrong += page.kind != MMI_PAGE_LEAF ? 1 : 0;
            }
        }
    }
    return NULL;
}

static void test_threads(void **state)
{
    static const struct mm_frame_source_ops ops = {.alloc = stock_alloc, .free = stock_free};
    unsigned nr_rounds = MM_TEST_SANITIZED ? 20 : 100;
    struct t_paging *m = t_paging_new();
    struct mm_pagetable *pt = &m->user;
    struct stock stock = {PTHREAD_MUTEX_INITIALIZER, m};
    struct worker workers[THREADS];
    pthread_barrier_t barrier;
    uint64_t nr_filled = 0;

    (void)state;
    t_paging_start(m);
    pt->source = (struct mm_frame_source){&ops, &stock};
    assert_int_equal(pthread_barrier_init(&barrier, NULL, THREADS), 0);
    for (unsigned i = 0; i < THREADS; i++) {
        workers[i] =
            (struct worker){.pt = pt, .barrier = &barrier, .number = i, .nr_rounds = nr_rounds};
        assert_int_equal(pthread_create(&workers[i].thread, NULL, fill, &workers[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
        assert_int_equal(workers[i].nr_wrong, 0);
        nr_filled += workers[i].nr_filled;
    }
    assert_int_equal(pthread_barrier_destroy(&barrier), 0);
    assert_int_equal(nr_filled, nr_rounds * PAGES);
    mmi_page_count(pt, nr_filled);
    assert_int_equal(mm_paging_check(pt), MM_OK);
    for (unsigned i = 0; i < PAGES; i++) {
        struct mmi_page page;

        mmi_page_look(pt, raced(nr_rounds - 1, i), &page);
        assert_int_equal(page.prot, T_URW);
        assert_int_equal((page.paddr.raw - FRAME(i).raw) % (PAGES * P4K), 0);
    }
    pt->source = t_source(m);
    t_paging_delete(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_threads),
    };

    return cmocka_run_group_tests_name("paging_page_threads", tests, NULL, NULL);
}
