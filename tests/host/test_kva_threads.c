// SPDX-License-Identifier: MIT
/**
 * The arena under several threads: everyone takes and gives ranges of every kind, with purges
 * between, and no page is two owners'; and two free the same ranges at once, against a purge: of
 * each one free passes, and the other is told.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <pthread.h>
#include <sched.h>

#include "kva_rig.h"

#define NR_THREADS 3u
#define STEPS      (MM_TEST_SANITIZED ? 4000u : 40000u)
#define ROUNDS     (MM_TEST_SANITIZED ? 500u : 6000u)
#define RACED      16u
#define HELD       12u
#define ARENA      (64 * MIB)

static struct rig rig;
static uint32_t owners[ARENA / PAGE]; /* by page: a thread; 0: nobody's */

static void must(bool good, const char *what)
{
    if (!good) {
        (void)fprintf(stderr, "kva threads: %s\n", what);
        abort(); /* cmocka's failures do not leave a thread */
    }
}

static void start(void)
{
    const struct t_machine_config machine = {.ram_len = 32 * MIB, .threads = true};

    rig_machine(&rig, &machine);
    rig.config.range.len = ARENA;
    rig.config.nr_stacks = 2;
    rig.config.nr_reserve_tables = 4;
    rig.config.purge_pages = 200;
    rig_up(&rig);
}

/* --- everybody at once ------------------------------------------------------------------------ */

struct held {
    enum mm_kva_kind kind;
    uint64_t at; /* 0: nothing */
    uint64_t nr;
};

struct worker {
    pthread_t thread;
    uint32_t number; /* from 1 */
    struct t_prng prng;
    struct held held[HELD];
    uint64_t nr_taken, nr_busy, nr_grown;
};

static void change_owner(uint64_t at, uint64_t nr, uint32_t from, uint32_t to)
{
    for (uint64_t i = 0; i < nr; i++) {
        uint32_t was =
            __atomic_exchange_n(&owners[(at - T_ARENA) / PAGE + i], to, __ATOMIC_RELAXED);

        must(was == from, "a page has two owners");
    }
}

static mm_status_t take(struct worker *w, struct held *h)
{
    bool atomic = t_prng_chance(&w->prng, 1, 3);
    struct mm_kva_request request = {.flags = atomic ? MM_KVA_ATOMIC : 0};
    struct mm_page_source source = mm_page_source_kva(&rig.kva);
    struct mm_vrange stack;
    mm_vaddr_t at = {0};
    void *pages = NULL;
    mm_status_t status;

    h->nr = t_prng_range(&w->prng, 1, 6);
    switch (t_prng_below(&w->prng, 4)) {
    case 0:
        h->kind = MM_KVA_STACK;
        h->nr = 4;
        status = mm_kva_stack_alloc(&rig.kva, 4 * PAGE, request.flags, &stack);
        at = stack.start;
        break;
    case 1:
        h->kind = MM_KVA_PAGES;
        status = source.ops->alloc(source.ctx, h->nr, 1, atomic ? MM_PAGES_ATOMIC : 0, &pages);
        at.raw = (uint64_t)(uintptr_t)pages;
        break;
    case 2:
        h->kind = MM_KVA_DEVICE;
        status = mm_kva_map(&rig.kva, mm_prange(mm_paddr(0xd0000000), h->nr * PAGE), MM_PROT_RW,
                            MM_MEMTYPE_UC, request.flags, &at);
        break;
    default:
        h->kind = MM_KVA_MEMORY;
        request.len = h->nr * PAGE;
        status = mm_kva_alloc(&rig.kva, &request, &at);
        break;
    }
    must(status == MM_OK || (status == MM_ERR_BUSY && atomic), "an allocation fails");
    h->at = status == MM_OK ? at.raw : 0;
    return status;
}

static void give(struct worker *w, struct held *h)
{
    struct mm_page_source source = mm_page_source_kva(&rig.kva);

    change_owner(h->at, h->nr, w->number, 0);
    if (h->kind == MM_KVA_STACK) {
        mm_kva_stack_free(&rig.kva, mm_vaddr(h->at));
    } else if (h->kind == MM_KVA_PAGES) {
        /* In two parts, so that the purge comes between. */
        source.ops->free(source.ctx, (void *)(uintptr_t)h->at, h->nr / 2);
        source.ops->free(source.ctx, (void *)(uintptr_t)(h->at + h->nr / 2 * PAGE),
                         h->nr - h->nr / 2);
    } else {
        mm_kva_free(&rig.kva, mm_vaddr(h->at));
    }
    h->at = 0;
}

/* A run that is longer where it lies, if nobody is there. */
static void grow(struct worker *w, struct held *h)
{
    struct mm_page_source source = mm_page_source_kva(&rig.kva);
    bool atomic = t_prng_chance(&w->prng, 1, 3);
    uint64_t more = t_prng_range(&w->prng, 1, 4);
    mm_status_t status = source.ops->extend(source.ctx, (void *)(uintptr_t)h->at, h->nr, more,
                                            atomic ? MM_PAGES_ATOMIC : 0);

    must(status == MM_OK || status == MM_ERR_REGION_NOT_FOUND || (status == MM_ERR_BUSY && atomic),
         "a run neither grows nor has no room");
    if (status == MM_OK) {
        change_owner(h->at + h->nr * PAGE, more, 0, w->number);
        h->nr += more;
        w->nr_grown++;
    }
}

static void *work(void *argument)
{
    struct worker *w = argument;

    for (unsigned i = 0; i < STEPS; i++) {
        struct held *h = &w->held[t_prng_below(&w->prng, HELD)];

        if (h->at != 0) {
            struct mm_kva_place place;
            mm_status_t status = mm_kva_explain(&rig.kva, mm_vaddr(h->at), &place);

            must(status == MM_ERR_BUSY ||
                     (status == MM_OK && place.kind == h->kind && place.where == MM_KVA_INSIDE),
                 "an owner's page is explained wrongly");
            if (h->kind == MM_KVA_PAGES && t_prng_chance(&w->prng, 1, 2)) {
                grow(w, h);
            } else {
                give(w, h);
            }
        } else if (take(w, h) == MM_OK) {
            change_owner(h->at, h->nr, 0, w->number);
            w->nr_taken++;
        } else {
            w->nr_busy++;
        }
        if (t_prng_chance(&w->prng, 1, 64)) {
            (void)mm_kva_reclaim(&rig.kva);
        }
    }
    for (unsigned i = 0; i < HELD; i++) {
        if (w->held[i].at != 0) {
            give(w, &w->held[i]);
        }
    }
    return NULL;
}

static void test_everybody_at_once(void **state)
{
    static struct worker workers[NR_THREADS];

    (void)state;
    start();
    memset(workers, 0, sizeof(workers));
    memset(owners, 0, sizeof(owners));
    for (unsigned i = 0; i < NR_THREADS; i++) {
        char name[16];

        workers[i].number = i + 1;
        (void)snprintf(name, sizeof(name), "thread %u", i);
        t_prng_start(&workers[i].prng, name);
    }
    for (unsigned i = 0; i < NR_THREADS; i++) {
        assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
    }
    for (unsigned i = 0; i < NR_THREADS; i++) {
        assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
        assert_true(workers[i].nr_taken > STEPS / 8);
        assert_true(workers[i].nr_grown > STEPS / 1000);
    }
    rig_stop(&rig);
}

/* --- one range, two who free it --------------------------------------------------------------- */

static mm_vaddr_t raced[RACED];
static uint32_t round_now, nr_ready, nr_met, nr_passed, nr_told;

/* Both come here before either goes on, as nearly together as two threads can. */
static void meet(uint32_t nr)
{
    __atomic_fetch_add(&nr_met, 1, __ATOMIC_ACQ_REL);
    for (unsigned turns = 0; __atomic_load_n(&nr_met, __ATOMIC_ACQUIRE) < 2 * nr; turns++) {
        if (turns > 2000) {
            sched_yield(); /* the other does not run */
        }
    }
}

static void race(uint32_t nr_before)
{
    for (unsigned i = 0; i < RACED; i++) {
        struct t_trap_info info;

        meet(nr_before + i + 1);
        T_CATCH(T_TRAP_ANY, mm_kva_free(&rig.kva, raced[i]), &info);
        if (info.kind == T_TRAP_NONE) {
            __atomic_fetch_add(&nr_passed, 1, __ATOMIC_RELAXED);
        } else {
            must(info.kind == T_TRAP_PANIC && strcmp(info.room, "kva") == 0, "another trap");
            __atomic_fetch_add(&nr_told, 1, __ATOMIC_RELAXED);
        }
    }
}

static void *race_again(void *argument)
{
    (void)argument;
    for (uint32_t n = 1; n <= ROUNDS; n++) {
        while (__atomic_load_n(&round_now, __ATOMIC_ACQUIRE) != n) {
            sched_yield();
        }
        race((n - 1) * RACED);
        __atomic_fetch_add(&nr_ready, 1, __ATOMIC_RELEASE);
    }
    return NULL;
}

static void test_one_of_two_frees_is_told(void **state)
{
    pthread_t other;

    (void)state;
    start();
    round_now = nr_ready = nr_met = nr_passed = nr_told = 0;
    assert_int_equal(pthread_create(&other, NULL, race_again, NULL), 0);
    for (uint32_t n = 1; n <= ROUNDS; n++) {
        for (unsigned i = 0; i < RACED; i++) {
            raced[i] = rig_alloc(&rig, PAGE);
        }
        __atomic_store_n(&round_now, n, __ATOMIC_RELEASE);
        race((n - 1) * RACED);
        if (n % 3 == 0) {
            (void)mm_kva_purge(&rig.kva);
        }
        while (__atomic_load_n(&nr_ready, __ATOMIC_ACQUIRE) != n) {
            sched_yield();
        }
    }
    assert_int_equal(pthread_join(other, NULL), 0);
    assert_int_equal(nr_passed, ROUNDS * RACED);
    assert_int_equal(nr_told, ROUNDS * RACED);
    rig_stop(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_everybody_at_once),
        cmocka_unit_test(test_one_of_two_frees_is_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
