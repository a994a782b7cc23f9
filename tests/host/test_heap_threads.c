// SPDX-License-Identifier: MIT
/**
 * The heap under several threads: everyone for himself, frees by others, one producer and many
 * consumers, and two that free the same object.
 */
#define _GNU_SOURCE

#include "heap_world.h"

#include <pthread.h>
#include <sched.h>

#define MAX_THREADS 4

static unsigned rounds(unsigned plain)
{
    return MM_TEST_SANITIZED ? plain / 10 : plain;
}

static struct world *world;

static int start(void **state)
{
    (void)state;
    world = world_of_range(128 * MiB);
    world_start_plain(world, 4);
    return 0;
}

static int start_frames(void **state)
{
    (void)state;
    world = world_of_frames(64 * MiB);
    world_start_plain(world, 4);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    mm_heap_reclaim(&world->heap);
    assert_int_equal(world_stats(world).nr_slabs, 0);
    assert_int_equal(world->log.grown, world->log.shrunk);
    world_stop(world);
    world_delete(world);
    return 0;
}

/** An object says in its first and last words whose it is: 16 bytes and more. */
static void mark(void *object, uint64_t size, uint64_t whose)
{
    memcpy(object, &whose, 8);
    memcpy((char *)object + size - 8, &whose, 8);
}

static void expect_mark(const void *object, uint64_t size, uint64_t whose)
{
    uint64_t first;
    uint64_t last;

    memcpy(&first, object, 8);
    memcpy(&last, (const char *)object + size - 8, 8);
    if (first != whose || last != whose) {
        fprintf(stderr, "an object of %llx was written by %llx, %llx\n", (unsigned long long)whose,
                (unsigned long long)first, (unsigned long long)last);
        abort(); /* cmocka's failures do not leave a thread */
    }
}

struct worker {
    pthread_t thread;
    unsigned number;
    unsigned nr_threads;
    unsigned nr_rounds;
    bool same_cpu; /**< all say that they are CPU 0 */
    uint64_t seed;
};

static void run(void *(*body)(void *), unsigned nr_threads, unsigned nr_rounds, bool same_cpu)
{
    struct worker workers[MAX_THREADS];

    for (unsigned i = 0; i < nr_threads; i++) {
        workers[i] = (struct worker){.number = i,
                                     .nr_threads = nr_threads,
                                     .nr_rounds = nr_rounds,
                                     .same_cpu = same_cpu,
                                     .seed = t_seed() + i};
        assert_int_equal(pthread_create(&workers[i].thread, NULL, body, &workers[i]), 0);
    }
    for (unsigned i = 0; i < nr_threads; i++) {
        assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
    }
    assert_int_equal(mm_heap_check(&world->heap), MM_OK);
    assert_int_equal(world_stats(world).nr_objects, 0);
}

/* --- everyone for himself: sizes of all kinds, some runs, some resized, sometimes a reclaim ----
 */

static void *alone(void *arg)
{
    enum { SLOTS = 200 };
    const struct worker *me = arg;
    struct t_prng prng;
    struct {
        void *object;
        uint64_t size;
        uint64_t whose;
    } slots[SLOTS] = {{0}};

    t_prng_seed(&prng, me->seed);
    for (unsigned i = 0; i < me->nr_rounds + SLOTS; i++) {
        unsigned s = i < me->nr_rounds ? (unsigned)t_prng_below(&prng, SLOTS) : i - me->nr_rounds;
        uint32_t cpu = me->same_cpu ? 0 : me->number;

        if (slots[s].object != NULL) {
            expect_mark(slots[s].object, slots[s].size, slots[s].whose);
            mm_heap_free_on(&world->heap, cpu, slots[s].object);
            slots[s].object = NULL;
        } else if (i < me->nr_rounds) {
            uint64_t size = t_prng_chance(&prng, 1, 100) ? t_prng_range(&prng, 8193, 40000)
                            : t_prng_chance(&prng, 1, 2) ? 64
                                                         : t_prng_range(&prng, 16, 3000);

            slots[s].object = mm_heap_alloc_on(&world->heap, cpu, size);
            slots[s].size = size;
            slots[s].whose = (uint64_t)me->number << 32 | i;
            if (slots[s].object == NULL) {
                abort();
            }
            mark(slots[s].object, size, slots[s].whose);
        }
        if (t_prng_chance(&prng, 1, 2000)) {
            mm_heap_reclaim(&world->heap);
        }
    }
    return NULL;
}

static void test_alone(void **state)
{
    (void)state;
    run(alone, 2, rounds(400000), false);
    run(alone, 4, rounds(200000), false);
    run(alone, 2, rounds(200000), true);
    run(alone, 4, rounds(100000), true);
}

/* --- frees by others: objects go round in mailboxes --------------------------------------------
 */

#define BOXES 64
static uint64_t boxes[BOXES]; /* atomic: an object, or 0; its size is in it */

static void *exchange(void *arg)
{
    const struct worker *me = arg;
    struct t_prng prng;

    t_prng_seed(&prng, me->seed);
    for (unsigned i = 0; i < me->nr_rounds; i++) {
        uint64_t size = UINT64_C(16) << t_prng_below(&prng, 9);
        uint64_t *object = mm_heap_alloc_on(&world->heap, me->number, size);
        uint64_t *got;

        if (object == NULL) {
            abort();
        }
        object[0] = size;
        object[size / 8 - 1] = size;
        got = (uint64_t *)(uintptr_t)__atomic_exchange_n(&boxes[t_prng_below(&prng, BOXES)],
                                                         (uintptr_t)object, __ATOMIC_ACQ_REL);
        if (got != NULL) {
            expect_mark(got, got[0], got[0]);
            mm_heap_free_on(&world->heap, me->number, got);
        }
    }
    return NULL;
}

static void test_exchange(void **state)
{

    (void)state;
    for (unsigned nr = 2; nr <= 4; nr += 2) {
        struct worker workers[MAX_THREADS];

        for (unsigned i = 0; i < nr; i++) {
            workers[i] = (struct worker){
                .number = i, .nr_threads = nr, .nr_rounds = rounds(400000), .seed = t_seed() + i};
            assert_int_equal(pthread_create(&workers[i].thread, NULL, exchange, &workers[i]), 0);
        }
        for (unsigned i = 0; i < nr; i++) {
            assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
        }
    }
    for (unsigned i = 0; i < BOXES; i++) {
        mm_heap_free(&world->heap, (void *)(uintptr_t)boxes[i]);
        boxes[i] = 0;
    }
    assert_int_equal(mm_heap_check(&world->heap), MM_OK);
    assert_int_equal(world_stats(world).nr_objects, 0);
}

/* --- one produces, others consume --------------------------------------------------------------
 */

#define RING 512
static uint64_t ring[RING];

static void *produce_consume(void *arg)
{
    const struct worker *me = arg;
    unsigned nr_consumers = me->nr_threads - 1;

    if (me->number == 0) {
        for (unsigned i = 0; i < me->nr_rounds * nr_consumers; i++) {
            uint64_t *object = mm_heap_alloc_on(&world->heap, 0, 64);

            if (object == NULL) {
                abort();
            }
            mark(object, 64, i);
            while (__atomic_load_n(&ring[i % RING], __ATOMIC_ACQUIRE) != 0) {
                sched_yield();
            }
            __atomic_store_n(&ring[i % RING], (uintptr_t)object, __ATOMIC_RELEASE);
        }
        return NULL;
    }
    for (unsigned i = me->number - 1; i < me->nr_rounds * nr_consumers; i += nr_consumers) {
        uint64_t object;

        while ((object = __atomic_exchange_n(&ring[i % RING], UINT64_C(0), __ATOMIC_ACQ_REL)) ==
               0) {
            sched_yield();
        }
        expect_mark((void *)(uintptr_t)object, 64, i);
        mm_heap_free_on(&world->heap, me->number, (void *)(uintptr_t)object);
    }
    return NULL;
}

static void test_produce_consume(void **state)
{
    (void)state;
    run(produce_consume, 2, rounds(200000), false);
    run(produce_consume, 3, rounds(100000), false);
    /* What was freed elsewhere was used again: the heap never held much more than the ring does. (How
     * often slabs come and go is the scheduler's business.) */
    print_message("at most %lld bytes held\n", (long long)world->log.peak);
    assert_true(world->log.peak < (int64_t)MiB);
}

/* --- slabs that come and go: few objects, so that every free may retire one ---------------------
 */

static void *churn(void *arg)
{
    const struct worker *me = arg;
    void *objects[24];

    for (unsigned i = 0; i < me->nr_rounds; i++) {
        uint64_t size = i % 3 == 0 ? 8192 : 4096;
        unsigned nr = 1 + i % 24;

        for (unsigned k = 0; k < nr; k++) {
            objects[k] = mm_heap_alloc_on(&world->heap, me->same_cpu ? 0 : me->number, size);
            if (objects[k] == NULL) {
                abort();
            }
            mark(objects[k], size, (uint64_t)me->number << 32 | k);
        }
        for (unsigned k = 0; k < nr; k++) {
            expect_mark(objects[k], size, (uint64_t)me->number << 32 | k);
            mm_heap_free(&world->heap, objects[k]);
        }
        if (i % 64 == 0) {
            mm_heap_reclaim(&world->heap);
        }
    }
    return NULL;
}

static void test_churn(void **state)
{
    (void)state;
    run(churn, 2, rounds(20000), false);
    run(churn, 4, rounds(10000), true);
}

/* --- two free the same object: one of them is told, and only one --------------------------------
 */

/* Two threads that wait for each other get nowhere while they share a CPU with something else, so
 * each gets one of its own, if there are two. */
static cpu_set_t move_apart(pthread_t other)
{
    cpu_set_t allowed;
    cpu_set_t one;
    unsigned nr = 0;

    assert_int_equal(pthread_getaffinity_np(pthread_self(), sizeof(allowed), &allowed), 0);
    for (unsigned cpu = 0; cpu < CPU_SETSIZE && nr < 2 && CPU_COUNT(&allowed) > 1; cpu++) {
        if (CPU_ISSET(cpu, &allowed)) {
            CPU_ZERO(&one);
            CPU_SET(cpu, &one);
            assert_int_equal(
                pthread_setaffinity_np(nr == 0 ? pthread_self() : other, sizeof(one), &one), 0);
            nr++;
        }
    }
    return allowed;
}

static struct {
    uint64_t object;     /**< atomic */
    uint64_t nr_arrived; /**< atomic: at the start of a round, and at its end */
    uint64_t nr_told;    /**< atomic */
} race;

/* The other one is a moment away when both run, and may be far when something else runs in its
 * place: so look for a while, then make room. */
static void wait_for_arrivals(uint64_t nr)
{
    for (unsigned i = 0; __atomic_load_n(&race.nr_arrived, __ATOMIC_ACQUIRE) < nr; i++) {
        if (i < 4096) {
            __builtin_ia32_pause();
        } else {
            sched_yield();
        }
    }
}

static void arrive(uint64_t nr)
{
    (void)__atomic_fetch_add(&race.nr_arrived, UINT64_C(1), __ATOMIC_ACQ_REL);
    wait_for_arrivals(nr);
}

/* Who arrives last goes on at once, and who waits hears of it a little later: so one of them takes a
 * few steps more, from round to round a different number. */
static void free_at_once(unsigned number, uint64_t round)
{
    struct t_trap_info info;
    void *object;

    arrive(4 * round - 2);
    for (uint64_t i = number == round / 64 % 2 ? round % 64 : 0; i != 0; i--) {
        __asm__ volatile("" ::: "memory");
    }
    object = (void *)(uintptr_t)__atomic_load_n(&race.object, __ATOMIC_RELAXED);
    T_CATCH(T_TRAP_PANIC, mm_heap_free_on(&world->heap, number, object), &info);
    if (info.kind == T_TRAP_PANIC) {
        __atomic_fetch_add(&race.nr_told, UINT64_C(1), __ATOMIC_RELAXED);
    }
    arrive(4 * round);
}

static void *free_same(void *arg)
{
    const struct worker *me = arg;

    for (uint64_t round = 1; round <= me->nr_rounds; round++) {
        free_at_once(me->number, round);
    }
    return NULL;
}

static void raced(uint64_t size, uint64_t nr_rounds)
{
    struct worker worker = {.number = 1, .nr_rounds = (unsigned)nr_rounds};
    void *other = mm_heap_alloc(&world->heap, size);
    cpu_set_t allowed;

    memset(&race, 0, sizeof(race));
    assert_int_equal(pthread_create(&worker.thread, NULL, free_same, &worker), 0);
    allowed = move_apart(worker.thread);
    for (uint64_t round = 1; round <= nr_rounds; round++) {
        void *object = mm_heap_alloc_on(&world->heap, 2, size);

        assert_non_null(object);
        __atomic_store_n(&race.object, (uintptr_t)object, __ATOMIC_RELAXED);
        free_at_once(0, round);
        assert_int_equal(__atomic_load_n(&race.nr_told, __ATOMIC_RELAXED), round);
    }
    assert_int_equal(pthread_join(worker.thread, NULL), 0);
    assert_int_equal(pthread_setaffinity_np(pthread_self(), sizeof(allowed), &allowed), 0);
    mm_heap_free(&world->heap, other);
    assert_int_equal(mm_heap_check(&world->heap), MM_OK);
    assert_int_equal(world_stats(world).nr_objects, 0);
}

static void test_double_free_raced(void **state)
{
    (void)state;
    raced(64, rounds(20000));
    raced(8192, rounds(5000));  /* the only object of its slab: the first free retires it */
    raced(30000, rounds(5000)); /* a run */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_alone, start, stop),
        cmocka_unit_test_setup_teardown(test_exchange, start, stop),
        cmocka_unit_test_setup_teardown(test_exchange, start_frames, stop),
        cmocka_unit_test_setup_teardown(test_produce_consume, start, stop),
        cmocka_unit_test_setup_teardown(test_churn, start, stop),
        cmocka_unit_test_setup_teardown(test_churn, start_frames, stop),
        cmocka_unit_test_setup_teardown(test_double_free_raced, start, stop),
    };

    return cmocka_run_group_tests_name("heap_threads", tests, NULL, NULL);
}
