// SPDX-License-Identifier: MIT
/**
 * The heap under several threads: everyone for himself, frees by others, one producer and many
 * consumers. Two that free the same object: test_heap_race_threads.c.
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

static struct world *large; /**< of the large pool; NULL: there is none */

static int start(void **state)
{
    (void)state;
    world = world_of_range(128 * MiB);
    large = NULL;
    world_start_plain(world, 4);
    return 0;
}

static int start_large(void **state)
{
    struct mm_heap_config config = {.large_size = 16 * KiB};

    (void)state;
    large = world_of_range(128 * MiB);
    world = world_of_frames(64 * MiB);
    world_start_plain(large, 4);
    config.large = &large->pool;
    world_start_plain_as(world, 4, &config);
    return 0;
}

static int start_frames(void **state)
{
    (void)state;
    world = world_of_frames(64 * MiB);
    large = NULL;
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
    if (large != NULL) {
        world_stop(large);
        world_delete(large);
    }
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

/** By any of the calls. A CPU's number may be that of another, or of none. */
static void *allocate(struct t_prng *prng, uint32_t cpu, uint64_t size)
{
    void *object;

    switch (t_prng_below(prng, 8)) {
    case 0:
        object = mm_heap_alloc_with(&world->heap, size, 32, MM_HEAP_ZEROED);
        if (object != NULL && t_mheap_zeroed(object, size) != NULL) {
            abort();
        }
        return object;
    case 1:
        return mm_heap_alloc_with(&world->heap, size, 0, MM_HEAP_ATOMIC);
    case 2:
        return mm_heap_alloc_array(&world->heap, 1, size, 0);
    case 3:
        return mm_heap_alloc_on(&world->heap, (uint32_t)t_prng_magnitude(prng, 32), size);
    default:
        return mm_heap_alloc_on(&world->heap, cpu, size);
    }
}

static void release(struct t_prng *prng, uint32_t cpu, void *object, uint64_t size)
{
    switch (t_prng_below(prng, 5)) {
    case 0:
        /* Resized on the way, by all kinds of sizes: it cannot fail where it need not grow. */
        size = t_prng_range(prng, 1, size);
        object = mm_heap_realloc(&world->heap, object, size);
        if (object == NULL) {
            abort();
        }
        mm_heap_free_sized(&world->heap, object, size, 0);
        break;
    case 1:
        mm_heap_free_on(&world->heap, (uint32_t)t_prng_magnitude(prng, 32), object);
        break;
    default:
        mm_heap_free_on(&world->heap, cpu, object);
        break;
    }
}

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
            release(&prng, cpu, slots[s].object, slots[s].size);
            slots[s].object = NULL;
        } else if (i < me->nr_rounds) {
            uint64_t size = t_prng_chance(&prng, 1, 100) ? t_prng_range(&prng, 8193, 40000)
                            : t_prng_chance(&prng, 1, 2) ? 64
                                                         : t_prng_range(&prng, 16, 3000);

            slots[s].object = allocate(&prng, cpu, size);
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

/* --- many at once: lists of objects go round --------------------------------------------------- */

struct list {
    uint64_t nr;
    uint64_t *objects[300];
};

static struct mm_cache cache;

static void free_list(struct list *list)
{
    uint64_t alone = list->nr / 8;

    for (uint64_t k = 0; k < list->nr; k++) {
        if (list->objects[k][0] != (uintptr_t)list + k) {
            fprintf(stderr, "an object of a list was written by somebody else\n");
            abort();
        }
    }
    for (uint64_t k = 0; k < alone; k++) {
        mm_cache_free(&cache, list->objects[k]);
    }
    mm_cache_free_bulk(&cache, list->nr - alone, (void *const *)(list->objects + alone));
    free(list);
}

static void *exchange_lists(void *arg)
{
    const struct worker *me = arg;
    struct t_prng prng;

    t_prng_seed(&prng, me->seed);
    for (unsigned i = 0; i < me->nr_rounds; i++) {
        uint32_t cpu = t_prng_chance(&prng, 1, 9) ? (uint32_t)t_prng_u64(&prng) : me->number;
        struct list *list = malloc(sizeof(*list));

        if (list == NULL) {
            abort();
        }
        list->nr =
            mm_cache_alloc_bulk(&cache, cpu, t_prng_below(&prng, 300), (void **)list->objects);
        for (uint64_t k = 0; k < list->nr; k++) {
            list->objects[k][0] = (uintptr_t)list + k;
        }
        list = (struct list *)(uintptr_t)__atomic_exchange_n(&boxes[t_prng_below(&prng, BOXES)],
                                                             (uintptr_t)list, __ATOMIC_ACQ_REL);
        if (list != NULL) {
            free_list(list);
        }
        if (i % 500 == 0) {
            mm_cache_reclaim(&cache);
        }
    }
    return NULL;
}

static void test_bulk(void **state)
{
    struct mm_cache_config config = {.name = "lists", .size = 72};
    struct mm_cache_stats stats;

    (void)state;
    assert_int_equal(mm_cache_init(&cache, &world->pool, &config), MM_OK);
    run(exchange_lists, 2, rounds(10000), false);
    run(exchange_lists, 4, rounds(5000), false);
    for (unsigned i = 0; i < BOXES; i++) {
        if (boxes[i] != 0) {
            free_list((struct list *)(uintptr_t)boxes[i]);
            boxes[i] = 0;
        }
    }
    assert_int_equal(mm_cache_get_stats(&cache, &stats), MM_OK);
    assert_int_equal(stats.nr_objects, 0);
    assert_int_equal(mm_cache_check(&cache), MM_OK);
    assert_int_equal(mm_cache_destroy(&cache), MM_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_alone, start, stop),
        cmocka_unit_test_setup_teardown(test_alone, start_large, stop),
        cmocka_unit_test_setup_teardown(test_exchange, start, stop),
        cmocka_unit_test_setup_teardown(test_exchange, start_frames, stop),
        cmocka_unit_test_setup_teardown(test_produce_consume, start, stop),
        cmocka_unit_test_setup_teardown(test_churn, start, stop),
        cmocka_unit_test_setup_teardown(test_churn, start_frames, stop),
        cmocka_unit_test_setup_teardown(test_bulk, start, stop),
        cmocka_unit_test_setup_teardown(test_bulk, start_frames, stop),
    };

    return cmocka_run_group_tests_name("heap_threads", tests, NULL, NULL);
}
