// SPDX-License-Identifier: MIT
/**
 * What purges and allocations owe each other: an allocation that meets another CPU's purge has what
 * that gave back, a purge ends however many guarded pages are closed meanwhile, and an atomic
 * allocation asks for all its memory atomically.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <sched.h>

#include "kva_rig.h"

static struct rig rig;

static void no_lock(void *ctx)
{
    (void)ctx;
}

static bool try_no_lock(void *ctx)
{
    (void)ctx;
    return true;
}

/* --- two CPUs --------------------------------------------------------------------------------- */

static bool purging; /* atomic, as is the next: the purge has unmapped, and waits to go on */
static bool waiting; /* somebody waits for it */
static pthread_t purger;

static void unlock_late(void *ctx)
{
    (void)ctx;
    if (pthread_equal(pthread_self(), purger) &&
        !__atomic_exchange_n(&purging, true, __ATOMIC_SEQ_CST)) {
        while (!__atomic_load_n(&waiting, __ATOMIC_ACQUIRE)) {
            sched_yield();
        }
    }
}

static void relax(void *ctx)
{
    (void)ctx;
    __atomic_store_n(&waiting, true, __ATOMIC_RELEASE);
    sched_yield();
}

static void *purge(void *ctx)
{
    purger = pthread_self();
    (void)mm_kva_purge(ctx);
    return NULL;
}

static void test_what_another_purge_gives_back(void **state)
{
    static const struct mm_kva_ops ops = {no_lock, try_no_lock, unlock_late};
    const struct t_machine_config machine = {.ram_len = 32 * MIB, .threads = true};
    struct mm_kva_request request = {0};
    struct mm_platform_ops platform;
    pthread_t thread;
    mm_vaddr_t at;

    (void)state;
    rig_machine(&rig, &machine);
    platform = *rig.m.platform.ops;
    platform.relax = relax;
    rig.config.platform.ops = &platform;
    rig.config.ops = &ops;
    rig_up(&rig);
    request.len = rig_free_frames(&rig) * 3 / 4 * PAGE;
    at = rig_alloc(&rig, request.len);
    mm_kva_free(&rig.kva, at);
    assert_int_equal(pthread_create(&thread, NULL, purge, &rig.kva), 0);
    while (!__atomic_load_n(&purging, __ATOMIC_ACQUIRE)) {
        sched_yield();
    }
    assert_int_equal(mm_kva_alloc(&rig.kva, &request, &at), MM_OK);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(rig_stats(&rig).nr_failed, 0);
    mm_kva_free(&rig.kva, at);
    rig_stop(&rig);
}

/* --- guarded pages ---------------------------------------------------------------------------- */

static uint64_t closed_page; /* closed again and again by another CPU; 0: none */
static unsigned nr_closed;

/** Another CPU closes a page whenever the lock is free. */
static void unlock_and_close(void *ctx)
{
    (void)ctx;
    if (closed_page != 0 && nr_closed < 100) {
        nr_closed++;
        rig.kva.stale_first = closed_page;
        rig.kva.stale_last = closed_page + PAGE - 1;
    }
}

static void test_a_purge_ends(void **state)
{
    static const struct mm_kva_ops ops = {no_lock, try_no_lock, unlock_and_close};
    struct mm_heap_guards guards;
    void *page;

    (void)state;
    rig_machine(&rig, NULL);
    rig.config.ops = &ops;
    rig_up(&rig);
    assert_int_equal(mm_kva_guards_alloc(&rig.kva, 3, &guards), MM_OK);
    page = (void *)(uintptr_t)(guards.base + PAGE);
    assert_int_equal(guards.ops->open(guards.ctx, page), MM_OK);
    guards.ops->close(guards.ctx, page);
    closed_page = guards.base + PAGE;
    assert_int_equal(mm_kva_purge(&rig.kva), 0);
    assert_int_equal(rig_stats(&rig).nr_flushes, 1);
    closed_page = 0;
    /* What was closed meanwhile is the next one's. */
    assert_int_equal(mm_kva_purge(&rig.kva), 0);
    assert_int_equal(rig_stats(&rig).nr_flushes, 2);
    assert_int_equal(mm_kva_purge(&rig.kva), 0);
    assert_int_equal(rig_stats(&rig).nr_flushes, 2);
    mm_kva_guards_free(&rig.kva, &guards);
    rig_stop(&rig);
}

/* --- atomic ----------------------------------------------------------------------------------- */

static struct mm_page_source base;
static unsigned nr_plain;
static unsigned nr_atomic;

static mm_status_t count_alloc(void *ctx, uint64_t nr_pages, uint64_t align, uint32_t flags,
                               void **out)
{
    (void)ctx;
    *(flags == MM_PAGES_ATOMIC ? &nr_atomic : &nr_plain) += 1;
    return base.ops->alloc(base.ctx, nr_pages, align, flags, out);
}

static void pass_free(void *ctx, void *pages, uint64_t nr_pages)
{
    (void)ctx;
    base.ops->free(base.ctx, pages, nr_pages);
}

static void test_atomic_asks_atomically(void **state)
{
    static const struct mm_page_source_ops ops = {.alloc = count_alloc, .free = pass_free};
    struct mm_kva_request request = {.len = PAGE, .flags = MM_KVA_ATOMIC};
    struct mm_pool_config config = {.nr_cpus = 2};
    static struct mm_pool pool;
    mm_vaddr_t at[100];

    (void)state;
    rig_machine(&rig, NULL);
    base = mm_page_source_range(&rig.m.pool_range);
    config.source = base;
    config.source.ops = &ops;
    config.platform = rig.m.platform;
    assert_int_equal(mm_pool_init(&pool, &config), MM_OK);
    rig.config.pool = &pool;
    rig.config.nr_reserve_tables = 6;
    rig_up(&rig);
    nr_plain = 0;
    nr_atomic = 0;
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(mm_kva_alloc(&rig.kva, &request, &at[i]), MM_OK);
    }
    assert_int_equal(nr_plain, 0);
    assert_true(nr_atomic > 0);
    for (unsigned i = 0; i < 100; i++) {
        mm_kva_free(&rig.kva, at[i]);
    }
    assert_int_equal(mm_kva_check(&rig.kva), MM_OK);
    assert_int_equal(mm_kva_destroy(&rig.kva), MM_OK);
    assert_int_equal(mm_pool_destroy(&pool), MM_OK);
    t_machine_leave_frames(&rig.m, UINT64_MAX);
    assert_int_equal(rig_free_frames(&rig), rig.nr_free_frames);
    t_machine_stop(&rig.m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_another_purge_gives_back),
        cmocka_unit_test(test_a_purge_ends),
        cmocka_unit_test(test_atomic_asks_atomically),
    };

    return cmocka_run_group_tests_name("kva_purge", tests, NULL, NULL);
}
