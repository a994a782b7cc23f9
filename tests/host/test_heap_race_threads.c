// SPDX-License-Identifier: MIT
/**
 * Two threads free the same object at the same time, by every call that frees, of every kind of
 * object, also while the slab that becomes empty with it is given back. Each of 300,000 times one of
 * them is told, and only one.
 */
#define _GNU_SOURCE

#include "heap_world.h"

#include <pthread.h>
#include <sched.h>

#define LARGE    (64 * KiB)
#define LIST_MAX 1024u
#define NR_RACES 300000u

static struct world *world;
static struct world *large;
static struct mm_cache cache;

static int start(void **state)
{
    struct mm_cache_config objects = {.name = "raced", .size = 200};
    struct mm_heap_config heap = {.large_size = LARGE};

    (void)state;
    large = world_of_range(16 * MiB);
    world_start_plain(large, 4);
    world = world_of_range(16 * MiB);
    heap.large = &large->pool;
    world_start_plain_as(world, 4, &heap);
    assert_int_equal(mm_cache_init(&cache, &world->pool, &objects), MM_OK);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    assert_int_equal(mm_cache_check(&cache), MM_OK);
    assert_int_equal(mm_cache_destroy(&cache), MM_OK);
    world_stop(world);
    world_stop(large);
    world_delete(world);
    world_delete(large);
    return 0;
}

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

/** What is raced, and how. */
struct kind {
    const char *name;
    unsigned nr_frees; /**< in all */
    unsigned nr;       /**< in one round */
    uint64_t size;     /**< 0: of the cache */
    void (*free)(unsigned number, void **objects);
    unsigned step;   /**< objects that a call frees */
    bool gives_back; /**< whoever is not told reclaims, now and then */
};

static struct {
    const struct kind *kind;
    uint64_t nr_rounds;
    void *objects[LIST_MAX];      /**< of this round */
    uint8_t arrived[2][LIST_MAX]; /**< atomic: who is about to free which */
    uint64_t nr_arrived;          /**< atomic: at the start of a round, and at its end */
    uint64_t nr_told;             /**< atomic */
    uint64_t nr_met;              /**< atomic: both were there before either went on */
} race;

/** Double frees of all kinds, and panics at them. */
static uint64_t nr_raced;
static uint64_t nr_told;

/* Only rounds wait for both: else a thread whose CPU is somebody else's for a while would hold up
 * every single free. */
static void arrive(uint64_t nr)
{
    (void)__atomic_fetch_add(&race.nr_arrived, UINT64_C(1), __ATOMIC_ACQ_REL);
    for (unsigned i = 0; __atomic_load_n(&race.nr_arrived, __ATOMIC_ACQUIRE) < nr; i++) {
        if (i < 4096) {
            __builtin_ia32_pause();
        } else {
            sched_yield();
        }
    }
}

/* At each object the first waits for the second, if that is not far. Who arrives last goes on at
 * once, and who waits hears of it a little later: so one of them takes a few steps more, from object
 * to object a different number. */
static void meet(unsigned number, uint64_t round, unsigned at)
{
    bool met = false;

    __atomic_store_n(&race.arrived[number][at], (uint8_t)1, __ATOMIC_RELEASE);
    for (unsigned i = 0; i < 300 && !met; i++) {
        met = __atomic_load_n(&race.arrived[1 - number][at], __ATOMIC_ACQUIRE) != 0;
    }
    if (met && number == 0) {
        __atomic_fetch_add(&race.nr_met, UINT64_C(1), __ATOMIC_RELAXED);
    }
    for (uint64_t i = number == (at + round) / 64 % 2 ? (at + round) % 64 : 0; i != 0; i--) {
        __asm__ volatile("" ::: "memory");
    }
}

static void free_at_once(unsigned number, uint64_t round)
{
    const struct kind *kind = race.kind;

    arrive(4 * round - 2);
    for (unsigned at = 0; at < kind->nr; at += kind->step) {
        struct t_trap_info info;

        meet(number, round, at);
        T_CATCH(T_TRAP_PANIC, kind->free(number, &race.objects[at]), &info);
        if (info.kind == T_TRAP_PANIC) {
            __atomic_fetch_add(&race.nr_told, UINT64_C(1), __ATOMIC_RELAXED);
        } else if (kind->gives_back && at % 8 == 0) {
            mm_heap_reclaim(&world->heap);
            mm_cache_reclaim(&cache);
        }
    }
    arrive(4 * round);
}

static void *free_same(void *arg)
{
    (void)arg;
    for (uint64_t round = 1; round <= race.nr_rounds; round++) {
        free_at_once(1, round);
    }
    return NULL;
}

static void take(const struct kind *kind)
{
    if (kind->size == 0) {
        assert_int_equal(mm_cache_alloc_bulk(&cache, 2, kind->nr, race.objects), kind->nr);
    }
    for (unsigned i = 0; i < kind->nr && kind->size != 0; i++) {
        race.objects[i] = mm_heap_alloc_on(&world->heap, 2, kind->size);
        assert_non_null(race.objects[i]);
    }
    memset(race.arrived, 0, sizeof(race.arrived));
}

static void raced(const struct kind *kind)
{
    uint64_t nr_calls = kind->nr / kind->step;
    cpu_set_t allowed;
    pthread_t thread;

    memset(&race, 0, sizeof(race));
    race.kind = kind;
    race.nr_rounds = kind->nr_frees / (MM_TEST_SANITIZED ? 20 : 1) / nr_calls;
    assert_int_equal(pthread_create(&thread, NULL, free_same, NULL), 0);
    allowed = move_apart(thread);
    for (uint64_t round = 1; round <= race.nr_rounds; round++) {
        take(kind);
        free_at_once(0, round);
        if (__atomic_load_n(&race.nr_told, __ATOMIC_RELAXED) != round * nr_calls) {
            fail_msg("%s: %llu double frees, and %llu panics", kind->name,
                     (unsigned long long)(round * nr_calls), (unsigned long long)race.nr_told);
        }
        assert_int_equal(world_stats(world).nr_objects, 0);
    }
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(pthread_setaffinity_np(pthread_self(), sizeof(allowed), &allowed), 0);
    assert_int_equal(mm_heap_check(&world->heap), MM_OK);
    assert_int_equal(mm_cache_check(&cache), MM_OK);
    print_message("%s: %llu double frees, both there at %llu\n", kind->name,
                  (unsigned long long)race.nr_told, (unsigned long long)race.nr_met);
    nr_raced += race.nr_rounds * nr_calls;
    nr_told += race.nr_told;
}

/* --- ways to free -------------------------------------------------------------------------------*/

static void plainly(unsigned number, void **objects)
{
    (void)number;
    mm_heap_free(&world->heap, objects[0]);
}

static void on_a_cpu(unsigned number, void **objects)
{
    mm_heap_free_on(&world->heap, number, objects[0]);
}

static void on_any_cpu(unsigned number, void **objects)
{
    mm_heap_free_on(&world->heap, number == 0 ? 2 : UINT32_MAX, objects[0]);
}

static void sized(unsigned number, void **objects)
{
    if (number == 0) {
        mm_heap_free_sized(&world->heap, objects[0], race.kind->size, 0);
    } else {
        mm_heap_free_on(&world->heap, 1, objects[0]);
    }
}

static void of_the_cache(unsigned number, void **objects)
{
    (void)number;
    mm_cache_free(&cache, objects[0]);
}

/* Who is second at the first object of the list is told there, and has freed nothing. */
static void in_bulk(unsigned number, void **objects)
{
    (void)number;
    mm_cache_free_bulk(&cache, race.kind->step, objects);
}

static void test_double_free_raced(void **state)
{
    static const struct kind kinds[] = {
        {"64 bytes", 60000, 1000, 64, on_a_cpu, 1, false},
        {"64 bytes, given back", 40000, 400, 64, on_a_cpu, 1, true},
        {"64 bytes, any CPU", 20000, 1000, 64, on_any_cpu, 1, false},
        {"1 KiB, sized", 20000, 400, 1024, sized, 1, false},
        {"1 KiB, sized, given back", 20000, 400, 1024, sized, 1, true},
        {"2 KiB, plainly, given back", 40000, 200, 2048, plainly, 1, true},
        /* A slab has one object to eight: so many a free retires one. */
        {"8 KiB", 30000, 120, 8192, on_a_cpu, 1, false},
        {"8 KiB, given back", 30000, 120, 8192, plainly, 1, true},
        {"a run", 30000, 250, 30000, on_a_cpu, 1, false},
        {"a run, sized", 20000, 250, 30000, sized, 1, false},
        {"a large run", 20000, 64, LARGE, sized, 1, false},
        {"of a cache", 20000, 400, 0, of_the_cache, 1, true},
        {"lists in bulk", 10000, 960, 0, in_bulk, 40, false},
        {"lists in bulk, given back", 10000, 960, 0, in_bulk, 40, true},
    };

    (void)state;
    for (unsigned i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        raced(&kinds[i]);
    }
    print_message("%llu double frees raced, %llu told\n", (unsigned long long)nr_raced,
                  (unsigned long long)nr_told);
    assert_int_equal(nr_told, nr_raced);
    assert_true(MM_TEST_SANITIZED || nr_raced >= NR_RACES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_double_free_raced, start, stop),
    };

    return cmocka_run_group_tests_name("heap_race_threads", tests, NULL, NULL);
}
