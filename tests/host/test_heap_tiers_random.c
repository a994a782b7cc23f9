// SPDX-License-Identifier: MIT
/**
 * Heaps of every tier against the model: random calls, contents compared, and not one report, for
 * nothing is misused. With page requests that fail, with handlers that interrupt after any
 * instruction, and with threads.
 */
#include "heap_steps.h"
#include "heap_tiers.h"

#include <pthread.h>
#include <sched.h>

#define NR_LIVE_MAX 300

static struct told told;
static struct t_guards guards;

static const struct {
    const char *name;
    enum mm_heap_tier tier;
    uint32_t flags;
    uint32_t sample_every;
    uint32_t quarantine;
} kinds[] = {
    {"callers", MM_HEAP_CHECKED, MM_HEAP_CALLERS, 0, 0},
    {"fast", MM_HEAP_FAST, 0, 0, 0},
    {"sampled", MM_HEAP_FAST, 0, 7, 0},
    {"hardened", MM_HEAP_HARDENED, 0, 0, 16},
    {"all", MM_HEAP_HARDENED, MM_HEAP_CALLERS, 11, 0},
};

#define NR_KINDS (sizeof(kinds) / sizeof(kinds[0]))

static struct mm_heap_config config_of(unsigned kind)
{
    struct mm_heap_config config = {.name = kinds[kind].name,
                                    .tier = kinds[kind].tier,
                                    .flags = kinds[kind].flags,
                                    .sample_every = kinds[kind].sample_every,
                                    .quarantine = kinds[kind].quarantine,
                                    .report = told_report,
                                    .report_ctx = &told,
                                    .guards = t_guards_new(&guards, 20)};

    memset(&told, 0, sizeof(told));
    return config;
}

/** Nothing was told; if something was, what. */
static void expect_quiet(void)
{
    if (told.nr != 0) {
        fail_msg("a false report: %s", told_text(&told));
    }
}

/* --- random calls ------------------------------------------------------------------------------ */

struct campaign {
    struct world *world;
    struct t_mheap model;
    struct t_prng prng;
    uint64_t nr_refused;
};

static uint64_t random_size(struct t_prng *prng)
{
    switch (t_prng_below(prng, 8)) {
    case 0:
        return t_prng_chance(prng, 1, 10) ? t_prng_range(prng, 8100, 50000) : 0;
    case 1:
        return UINT64_C(1) << t_prng_below(prng, 14);
    case 2:
        return t_prng_magnitude(prng, 13);
    default:
        return t_prng_magnitude(prng, 10);
    }
}

static uint64_t natural(uint64_t size)
{
    return size >= 16 && (size & (size - 1)) == 0 ? (size > 4096 ? 4096 : size) : 16;
}

static const struct t_mheap_block *random_block(struct campaign *c)
{
    return &c->model.blocks[t_prng_below(&c->prng, c->model.nr)];
}

static void allocate(struct campaign *c)
{
    struct mm_heap *heap = &c->world->heap;
    uint64_t size = random_size(&c->prng);
    uint64_t align = natural(size);
    uint64_t asked = 0;
    void *block;

    switch (t_prng_below(&c->prng, 4)) {
    case 0:
        block = mm_heap_alloc_zeroed(heap, size);
        T_LEGAL(block == NULL ? NULL : t_mheap_zeroed(block, size));
        break;
    case 1:
        asked = UINT64_C(1) << t_prng_below(&c->prng, t_prng_chance(&c->prng, 1, 20) ? 17 : 13);
        align = asked > align ? asked : align;
        block = mm_heap_alloc_aligned(heap, asked, size);
        break;
    default:
        block = mm_heap_alloc_on(heap, (uint32_t)t_prng_below(&c->prng, 5), size);
        break;
    }
    if (block == NULL) {
        c->nr_refused++;
        return;
    }
    assert_true(mm_heap_usable_size(heap, block) >= size);
    T_LEGAL(t_mheap_add(&c->model, block, size, align));
    T_LEGAL(t_mheap_tag(&c->model, block, asked));
}

static void resize(struct campaign *c)
{
    const struct t_mheap_block *known = random_block(c);
    void *block = (void *)(uintptr_t)known->address;
    uint64_t usable = mm_heap_usable_size(&c->world->heap, block);
    uint64_t size = random_size(&c->prng);
    uint64_t nr_refused = c->world->nr_refused;
    uint64_t align = natural(size);
    void *moved = mm_heap_realloc(&c->world->heap, block, size);

    if (moved == NULL) {
        c->nr_refused++;
        assert_true(size > usable);
        T_LEGAL(t_mheap_verify(&c->model, block));
        return;
    }
    if (moved == block && c->world->nr_refused != nr_refused) {
        align = 1; /* there was no better place */
    }
    align = known->tag > align ? known->tag : align;
    T_LEGAL(t_mheap_resize(&c->model, block, moved, size, align));
}

static void release(struct campaign *c)
{
    struct t_mheap_block known = *random_block(c);
    void *block = (void *)(uintptr_t)known.address;

    T_LEGAL(t_mheap_remove(&c->model, block));
    if (t_prng_chance(&c->prng, 1, 2)) {
        mm_heap_free(&c->world->heap, block);
    } else if (t_prng_chance(&c->prng, 1, 2)) {
        mm_heap_free_sized(&c->world->heap, block, known.size, known.tag);
    } else {
        mm_heap_free_on(&c->world->heap, (uint32_t)t_prng_below(&c->prng, 4), block);
    }
}

static void step(struct campaign *c)
{
    uint64_t draw = t_prng_below(&c->prng, 100);

    if (draw < 3) {
        t_inject_nth(&c->world->inject, t_prng_range(&c->prng, 1, 3));
    } else if (draw < 4) {
        mm_heap_reclaim(&c->world->heap);
    } else if (c->model.nr > 0 && draw < 20) {
        resize(c);
    } else if (c->model.nr == 0 || (c->model.nr < NR_LIVE_MAX && draw < 62)) {
        allocate(c);
    } else {
        release(c);
    }
}

static bool count_visit(void *ctx, const struct mm_heap_object *object)
{
    (void)object;
    (*(uint64_t *)ctx)++;
    return true;
}

static void check(struct campaign *c)
{
    struct mm_heap_stats stats = world_stats(c->world);
    uint64_t nr = 0;

    expect_quiet();
    assert_int_equal(mm_heap_check(&c->world->heap), MM_OK);
    assert_int_equal(stats.nr_objects, c->model.nr);
    assert_true(stats.object_bytes >= c->model.bytes);
    assert_int_equal(mm_heap_walk(&c->world->heap, count_visit, &nr), MM_OK);
    assert_int_equal(nr, c->model.nr);
    T_LEGAL(t_mheap_verify_all(&c->model));
}

/** Returns how many calls were refused: some kinds have a place left for nearly all. */
static uint64_t random_calls(unsigned kind, bool frames, uint64_t nr_steps)
{
    struct campaign c = {.world = tiers_world(frames)};
    struct mm_heap_config config = config_of(kind);

    t_prng_start(&c.prng, kinds[kind].name);
    t_mheap_init(&c.model, 0, 0);
    tiers_start(c.world, 2, &config);
    for (uint64_t i = 0; i < nr_steps; i++) {
        step(&c);
        if (i % 2000 == 0) {
            check(&c);
        }
    }
    t_inject_never(&c.world->inject);
    check(&c);
    assert_true(c.world->nr_refused > 0 || MM_TEST_SANITIZED);
    while (c.model.nr > 0) {
        release(&c);
    }
    check(&c);
    t_mheap_destroy(&c.model);
    world_stop(c.world);
    world_delete(c.world);
    t_guards_delete(&guards);
    return c.nr_refused;
}

static void test_random(void **state)
{
    uint64_t nr_steps =
        (MM_TEST_SANITIZED ? 4000 : 40000) * (getenv("MM_TEST_FULL") != NULL ? 20 : 1);
    uint64_t nr_refused = 0;

    (void)state;
    for (unsigned kind = 0; kind < NR_KINDS; kind++) {
        nr_refused += random_calls(kind, false, nr_steps);
        nr_refused += random_calls(kind, true, nr_steps / 2);
    }
    assert_true(nr_refused > 0 || MM_TEST_SANITIZED);
}

/* --- page requests that fail ------------------------------------------------------------------- */

/** Every page request of a first allocation, and of making the heap, fails once. */
static void test_injection(void **state)
{
    static const uint64_t sizes[] = {24, 5000, 20000};

    (void)state;
    for (unsigned kind = 0; kind < NR_KINDS; kind++) {
        struct mm_heap_config config = config_of(kind);
        struct world *world = tiers_world(false);
        static struct mm_heap other;
        unsigned nr_failed = 0;

        tiers_start(world, 8, &config);
        for (uint64_t n = 1;; n++) {
            mm_status_t status;

            t_inject_nth(&world->inject, n);
            status = mm_heap_init(&other, &world->pool, &config);
            if (world->inject.fired == 0) {
                assert_int_equal(status, MM_OK);
                assert_int_equal(mm_heap_destroy(&other), MM_OK);
                break;
            }
            nr_failed++;
            assert_int_equal(status, MM_ERR_NO_MEMORY);
        }
        assert_true(nr_failed >= 1); /* the hints of eight CPUs, at least */
        for (unsigned i = 0; i < 3; i++) {
            for (uint64_t n = 1;; n++) {
                uint64_t nr_out = world->nr_out;
                void *object;

                t_inject_from(&world->inject, n);
                object = mm_heap_alloc(&world->heap, sizes[i]);
                if (world->inject.fired == 0) {
                    assert_non_null(object);
                    mm_heap_free(&world->heap, object);
                    break;
                }
                assert_true(object == NULL || kinds[kind].sample_every != 0 || nr_out != 0);
                mm_heap_free(&world->heap, object);
                t_inject_never(&world->inject);
                assert_int_equal(mm_heap_check(&world->heap), MM_OK);
            }
        }
        t_inject_never(&world->inject);
        expect_quiet();
        world_stop(world);
        world_delete(world);
        t_guards_delete(&guards);
    }
}

/* --- interrupts -------------------------------------------------------------------------------- */

#ifdef __OPTIMIZE__
#define STEPS_AN_INTERRUPT 1u
#else
#define STEPS_AN_INTERRUPT 6u
#endif

static struct {
    struct world *world;
    volatile uint64_t nr_interrupts;
    uint64_t random;
    unsigned char *held[8];
} irq;

static uint64_t draw(uint64_t below)
{
    irq.random = irq.random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (irq.random >> 33) % below;
}

/** What a handler may do: allocate, free, give back. */
static void interrupt(void)
{
    struct mm_heap *heap = &irq.world->heap;
    unsigned h = (unsigned)draw(8);

    irq.nr_interrupts++;
    if (irq.held[h] != NULL) {
        if (irq.held[h][0] != h || irq.held[h][39] != h) {
            fprintf(stderr, "an object of an interrupt handler was written by somebody else\n");
            abort();
        }
        mm_heap_free(heap, irq.held[h]);
        irq.held[h] = NULL;
    } else if (draw(60) == 0) {
        mm_heap_reclaim(heap);
    } else {
        irq.held[h] = mm_heap_alloc_on(heap, 0, draw(20) == 0 ? 9000 : 40);
        if (irq.held[h] != NULL) {
            memset(irq.held[h], (int)h, 40);
        }
    }
}

static void on_step(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    (void)info;
    (void)context;
    if (stepping && draw(STEPS_AN_INTERRUPT * 12) == 0) {
        interrupt();
    }
}

static void stepped(unsigned kind, unsigned nr_rounds)
{
    static const uint64_t sizes[] = {40, 40, 40, 1000, 5000, 9000};
    struct sigaction action = {.sa_sigaction = on_step, .sa_flags = SA_SIGINFO};
    struct sigaction before;
    struct mm_heap_config config = config_of(kind);
    struct world *world = world_of_range(4 * MiB);
    unsigned char *volatile objects[10] = {0};
    struct t_prng prng;

    t_prng_start(&prng, "tiers stepped");
    memset(&irq, 0, sizeof(irq));
    irq.world = world;
    irq.random = t_prng_u64(&prng);
    tiers_start(world, 1, &config);
    assert_int_equal(sigaction(SIGTRAP, &action, &before), 0);
    for (unsigned i = 0; i < nr_rounds; i++) {
        unsigned n = (unsigned)t_prng_below(&prng, 10);

        if (objects[n] != NULL) {
            assert_int_equal(objects[n][0], n);
            STEPPED(mm_heap_free(&world->heap, objects[n]));
            objects[n] = NULL;
        } else {
            uint64_t size = sizes[t_prng_below(&prng, 6)];

            STEPPED(objects[n] = mm_heap_alloc_on(&world->heap, 0, size));
            if (objects[n] != NULL) {
                memset(objects[n], (int)n, size);
            }
        }
    }
    assert_int_equal(sigaction(SIGTRAP, &before, NULL), 0);
    for (unsigned n = 0; n < 10; n++) {
        mm_heap_free(&world->heap, objects[n]);
    }
    for (unsigned h = 0; h < 8; h++) {
        mm_heap_free(&world->heap, irq.held[h]);
    }
    expect_quiet();
    assert_int_equal(world_stats(world).nr_objects, 0);
    assert_true(irq.nr_interrupts > nr_rounds * UINT64_C(8));
    world_stop(world);
    world_delete(world);
    t_guards_delete(&guards);
}

static void test_interrupted(void **state)
{
    (void)state;
    if (SIGNALS_ARE_LATE) {
        skip();
    }
    for (unsigned kind = 0; kind < NR_KINDS; kind++) {
        stepped(kind, MM_TEST_SANITIZED ? 10 : 30);
    }
}

/* --- threads ----------------------------------------------------------------------------------- */

#define NR_THREADS 3
#define NR_SHARED  256

static struct {
    struct world *world;
    uint64_t shared[NR_SHARED]; /* atomic: objects on their way from one thread to another */
    unsigned nr_steps;
} crowd;

static void *one_of_many(void *arg)
{
    uint32_t cpu = (uint32_t)(uintptr_t)arg;
    struct mm_heap *heap = &crowd.world->heap;
    uint64_t random = cpu * UINT64_C(77777) + 1;

    for (unsigned i = 0; i < crowd.nr_steps; i++) {
        uint64_t size;
        unsigned char *object;
        uint64_t other;

        random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        size = random >> 60 == 0 ? 9000 : 16 + (random >> 40) % 300;
        object = mm_heap_alloc_on(heap, cpu, size);
        if (object != NULL) {
            memset(object, (int)(size & 0x7f), size);
        }
        other = __atomic_exchange_n(&crowd.shared[(random >> 33) % NR_SHARED],
                                    (uint64_t)(uintptr_t)object, __ATOMIC_ACQ_REL);
        object = (unsigned char *)(uintptr_t)other;
        mm_heap_free_on(heap, cpu, object);
    }
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    for (unsigned kind = 0; kind < NR_KINDS; kind++) {
        struct mm_heap_config config = config_of(kind);
        struct world *world = world_of_range(32 * MiB);
        struct mm_pool_config pool = {.source = world->inner, .nr_cpus = NR_THREADS};
        pthread_t threads[NR_THREADS];

        pool.platform = world_platform(world);
        assert_int_equal(mm_pool_init(&world->pool, &pool), MM_OK);
        assert_int_equal(mm_heap_init(&world->heap, &world->pool, &config), MM_OK);
        memset(&crowd, 0, sizeof(crowd));
        crowd.world = world;
        crowd.nr_steps = MM_TEST_SANITIZED ? 3000 : 30000;
        for (uintptr_t t = 0; t < NR_THREADS; t++) {
            assert_int_equal(pthread_create(&threads[t], NULL, one_of_many, (void *)t), 0);
        }
        for (unsigned t = 0; t < NR_THREADS; t++) {
            assert_int_equal(pthread_join(threads[t], NULL), 0);
        }
        for (unsigned i = 0; i < NR_SHARED; i++) {
            mm_heap_free(&world->heap, (void *)(uintptr_t)crowd.shared[i]);
        }
        expect_quiet();
        assert_int_equal(world_stats(world).nr_objects, 0);
        world_stop(world);
        world_delete(world);
        t_guards_delete(&guards);
    }
}

/* --- double frees, raced ----------------------------------------------------------------------- */

static struct {
    struct mm_heap *heap;
    void *object;      /* atomic */
    unsigned at_start; /* atomic */
    unsigned rounds;
} race;

static void *free_the_same(void *arg)
{
    (void)arg;
    for (unsigned round = 1; round <= race.rounds; round++) {
        __atomic_fetch_add(&race.at_start, 1u, __ATOMIC_ACQ_REL);
        while (__atomic_load_n(&race.at_start, __ATOMIC_ACQUIRE) < 3 * round) {
            sched_yield(); /* the third is the one who makes the object */
        }
        mm_heap_free(race.heap, __atomic_load_n(&race.object, __ATOMIC_ACQUIRE));
    }
    return NULL;
}

/** Two threads free one object at once: one of them is told, always, and the object is freed once. */
static void test_raced_double_frees(void **state)
{
    static const unsigned with_records[] = {0, 3, 4};

    (void)state;
    for (unsigned k = 0; k < 3; k++) {
        struct mm_heap_config config = config_of(with_records[k]);
        struct world *world = world_of_range(8 * MiB);
        pthread_t threads[2];
        unsigned nr = MM_TEST_SANITIZED ? 500 : 5000;

        tiers_start(world, 1, &config);
        memset(&race, 0, sizeof(race));
        race.heap = &world->heap;
        race.rounds = nr;
        for (unsigned t = 0; t < 2; t++) {
            assert_int_equal(pthread_create(&threads[t], NULL, free_the_same, NULL), 0);
        }
        for (unsigned round = 1; round <= nr; round++) {
            /* Both have come, so both are done with the last one. */
            while (__atomic_load_n(&race.at_start, __ATOMIC_ACQUIRE) < 3 * round - 1) {
                sched_yield();
            }
            assert_int_equal(__atomic_load_n(&told.nr, __ATOMIC_ACQUIRE), round - 1);
            __atomic_store_n(&race.object, mm_heap_alloc(&world->heap, 64), __ATOMIC_RELEASE);
            __atomic_fetch_add(&race.at_start, 1u, __ATOMIC_ACQ_REL);
        }
        for (unsigned t = 0; t < 2; t++) {
            assert_int_equal(pthread_join(threads[t], NULL), 0);
        }
        assert_int_equal(told.nr, nr);
        for (unsigned i = 0; i < TOLD_MAX; i++) {
            assert_int_equal(told.reports[i].kind, MM_HEAP_DOUBLE_FREE);
        }
        assert_int_equal(world_stats(world).nr_objects, 0);
        world_stop(world);
        world_delete(world);
        t_guards_delete(&guards);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_injection),
        cmocka_unit_test(test_interrupted),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_raced_double_frees),
    };

    return cmocka_run_group_tests_name("heap_tiers_random", tests, NULL, NULL);
}
