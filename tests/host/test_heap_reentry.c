// SPDX-License-Identifier: MIT
/**
 * The heap interrupted inside itself: by a handler after every single instruction of it (the CPU's
 * trap flag, Intel SDM vol. 3A, 17.3.2), by a timer, and by its own page source.
 */
#include "heap_steps.h"
#include "heap_world.h"

#include <sys/time.h>

#define HELD 12

/** What the handler works on; the interrupted code never looks at it. */
static struct {
    struct world *world;
    volatile uint64_t nr_interrupts;
    uint64_t nr_allocated;
    uint64_t nr_refused;
    uint64_t random;
    struct {
        void *object;
        uint64_t size;
    } held[HELD];
} irq;

static uint64_t draw(uint64_t below)
{
    irq.random = irq.random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (irq.random >> 33) % below;
}

static void expect_bytes(const void *object, uint64_t size, unsigned byte)
{
    const unsigned char *bytes = object;

    if (bytes[0] != byte || bytes[size / 2] != byte || bytes[size - 1] != byte) {
        fprintf(stderr, "an object of an interrupt handler was written by somebody else\n");
        abort();
    }
}

/** What an interrupt handler of a kernel may do to the heap: anything. */
static void interrupt(void)
{
    static const uint64_t sizes[] = {64, 64, 64, 1024, 4096, 8192, 9000};
    struct mm_heap *heap = &irq.world->heap;
    unsigned h = (unsigned)draw(HELD);

    irq.nr_interrupts++;
    if (irq.held[h].object != NULL) {
        expect_bytes(irq.held[h].object, irq.held[h].size, h);
        if (draw(2) == 0) {
            mm_heap_free(heap, irq.held[h].object);
        } else {
            mm_heap_free_on(heap, 0, irq.held[h].object);
        }
        irq.held[h].object = NULL;
    } else if (draw(40) == 0) {
        mm_heap_reclaim(heap);
    } else {
        uint64_t size = sizes[draw(sizeof(sizes) / sizeof(sizes[0]))];
        void *object = mm_heap_alloc_on(heap, 0, size);

        if (object == NULL) {
            irq.nr_refused++;
            return;
        }
        irq.nr_allocated++;
        memset(object, (int)h, size);
        irq.held[h].object = object;
        irq.held[h].size = size;
    }
}

static void end_of_interrupts(void)
{
    for (unsigned h = 0; h < HELD; h++) {
        if (irq.held[h].object != NULL) {
            expect_bytes(irq.held[h].object, irq.held[h].size, h);
            mm_heap_free(&irq.world->heap, irq.held[h].object);
            irq.held[h].object = NULL;
        }
    }
}

/* --- after every instruction -------------------------------------------------------------------
 */

/* Between a load and its exchange code that is not optimised has several times the instructions.
 * With an interrupt after each of them hardly an exchange would ever succeed: so one comes after
 * any of them, as often as in the code that is shipped. */
#ifdef __OPTIMIZE__
#define STEPS_AN_INTERRUPT 1u
#else
#define STEPS_AN_INTERRUPT 6u
#endif

static void on_step(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    (void)info;
    (void)context;
    if (stepping && draw(STEPS_AN_INTERRUPT) == 0) {
        interrupt();
    }
}

static void stepped_rounds(struct world *world, struct t_mheap *model, struct t_prng *prng,
                           unsigned nr_rounds)
{
    static const uint64_t sizes[] = {64, 64, 64, 64, 1024, 4096, 8192, 20000};

    for (unsigned i = 0; i < nr_rounds; i++) {
        bool up = i / 60 % 2 == 0;

        if (model->nr == 0 || t_prng_chance(prng, up ? 3 : 1, 4)) {
            uint64_t size = sizes[t_prng_below(prng, sizeof(sizes) / sizeof(sizes[0]))];
            void *volatile object;

            STEPPED(object = mm_heap_alloc_on(&world->heap, 0, size));
            if (object != NULL) {
                T_LEGAL(t_mheap_add(model, object, size, 16));
            }
        } else {
            void *object = (void *)(uintptr_t)model->blocks[t_prng_below(prng, model->nr)].address;

            if (t_prng_chance(prng, 1, 6)) {
                uint64_t size = sizes[t_prng_below(prng, sizeof(sizes) / sizeof(sizes[0]))];
                void *volatile moved;

                STEPPED(moved = mm_heap_realloc(&world->heap, object, size));
                if (moved != NULL) {
                    T_LEGAL(t_mheap_resize(model, object, moved, size, 16));
                }
            } else {
                T_LEGAL(t_mheap_remove(model, object));
                STEPPED(mm_heap_free_on(&world->heap, 0, object));
            }
        }
        if (i % 50 == 49) {
            STEPPED(mm_heap_reclaim(&world->heap));
        }
        assert_int_equal(mm_heap_check(&world->heap), MM_OK);
        T_LEGAL(t_mheap_verify_all(model));
    }
}

static void stepped(struct world *world, const char *name, unsigned nr_rounds)
{
    struct sigaction action = {.sa_sigaction = on_step, .sa_flags = SA_SIGINFO};
    struct sigaction before;
    struct t_mheap model;
    struct t_prng prng;

    t_prng_start(&prng, name);
    t_mheap_init(&model, 0, 0);
    memset(&irq, 0, sizeof(irq));
    irq.world = world;
    irq.random = t_prng_u64(&prng);
    world_start_plain(world, 1);
    assert_int_equal(sigaction(SIGTRAP, &action, &before), 0);
    stepped_rounds(world, &model, &prng, nr_rounds);
    while (model.nr > 0) {
        void *object = (void *)(uintptr_t)model.blocks[0].address;

        T_LEGAL(t_mheap_remove(&model, object));
        STEPPED(mm_heap_free(&world->heap, object));
    }
    STEPPED(mm_heap_reclaim(&world->heap));
    assert_int_equal(sigaction(SIGTRAP, &before, NULL), 0);
    end_of_interrupts();
    assert_int_equal(world_stats(world).nr_objects, 0);
    assert_true(irq.nr_interrupts > nr_rounds * UINT64_C(40));
    assert_true(irq.nr_allocated > irq.nr_interrupts / 10);
    t_mheap_destroy(&model);
    world_stop(world);
    world_delete(world);
}

static void test_every_instruction(void **state)
{
    unsigned nr_rounds = MM_TEST_SANITIZED ? 30 : 100;

    (void)state;
    if (SIGNALS_ARE_LATE) {
        skip();
    }
    stepped(world_of_range(4 * MiB), "heap stepped, range", nr_rounds);
    stepped(world_of_frames(2 * MiB), "heap stepped, frames", nr_rounds / 2);
    /* Full to the brim: what fails is interrupted as well. */
    stepped(world_of_range(256 * KiB), "heap stepped, want", nr_rounds);
}

/* --- by a timer ---------------------------------------------------------------------------------
 */

static void on_timer(int signal)
{
    (void)signal;
    for (unsigned i = 0; i < 3; i++) {
        interrupt();
    }
}

static void test_timer(void **state)
{
    struct sigaction action = {.sa_handler = on_timer, .sa_flags = SA_RESTART};
    struct itimerval timer = {.it_interval = {0, 100}, .it_value = {0, 100}};
    struct itimerval stop = {0};
    struct world *world = world_of_range(16 * MiB);
    uint64_t enough = MM_TEST_SANITIZED ? 600 : 6000;
    void *objects[100] = {0};
    struct t_prng prng;

    (void)state;
    t_prng_start(&prng, "heap timer");
    memset(&irq, 0, sizeof(irq));
    irq.world = world;
    world_start_plain(world, 1);
    assert_int_equal(sigaction(SIGALRM, &action, NULL), 0);
    assert_int_equal(setitimer(ITIMER_REAL, &timer, NULL), 0);
    while (irq.nr_interrupts < enough) {
        unsigned i = (unsigned)t_prng_below(&prng, 100);

        if (objects[i] != NULL) {
            assert_int_equal(*(unsigned *)objects[i], i);
            mm_heap_free(&world->heap, objects[i]);
            objects[i] = NULL;
        } else {
            objects[i] = mm_heap_alloc(&world->heap, t_prng_chance(&prng, 1, 2)
                                                         ? 64
                                                         : UINT64_C(16) << t_prng_below(&prng, 11));
            assert_non_null(objects[i]);
            *(unsigned *)objects[i] = i;
        }
    }
    assert_int_equal(setitimer(ITIMER_REAL, &stop, NULL), 0);
    assert_int_equal(signal(SIGALRM, SIG_IGN) == SIG_ERR, 0);
    end_of_interrupts();
    for (unsigned i = 0; i < 100; i++) {
        mm_heap_free(&world->heap, objects[i]);
    }
    assert_int_equal(irq.nr_refused, 0);
    world_stop(world);
    world_delete(world);
}

/* --- by the page source -------------------------------------------------------------------------
 */

static struct world *other;
static void *others[4100];
static unsigned nr_others;

/* A source that needs memory itself, from another heap. */
static void allocate_elsewhere(struct world *world)
{
    (void)world;
    if (nr_others < 4000) {
        others[nr_others] = mm_heap_alloc(&other->heap, 48);
        assert_non_null(others[nr_others++]);
    }
}

/* One that asks the heap that asks it; it does not let that go on for ever. */
static void allocate_here(struct world *world)
{
    if (world->depth < 3 && nr_others < 4000) {
        void *object;

        world->depth++;
        object = mm_heap_alloc(&world->heap, 16u << (nr_others % 9));
        world->depth--;
        if (object != NULL) {
            others[nr_others++] = object;
        }
    }
}

static void use(struct world *world)
{
    static void *objects[3000];

    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < 3000; i++) {
            uint64_t size = i % 100 == 0 ? 10000 : 16 + i % 1000;

            objects[i] = mm_heap_alloc(&world->heap, size);
            assert_non_null(objects[i]);
            memset(objects[i], (int)i, size);
        }
        assert_int_equal(mm_heap_check(&world->heap), MM_OK);
        for (unsigned i = 0; i < 3000; i++) {
            assert_int_equal(*(unsigned char *)objects[i], i & 255);
            mm_heap_free(&world->heap, objects[i]);
        }
        mm_heap_reclaim(&world->heap);
    }
}

static void test_source_that_allocates(void **state)
{
    struct world *world = world_of_range(64 * MiB);

    (void)state;
    other = world_of_range(4 * MiB);
    world_start(other, 1);
    world_start(world, 1);
    world->on_alloc = allocate_elsewhere;
    nr_others = 0;
    use(world);
    assert_true(nr_others > 30);
    while (nr_others > 0) {
        mm_heap_free(&other->heap, others[--nr_others]);
    }
    world_stop(other);
    world_delete(other);

    world->on_alloc = allocate_here;
    use(world);
    assert_true(nr_others > 30);
    world->on_alloc = NULL;
    while (nr_others > 0) {
        mm_heap_free(&world->heap, others[--nr_others]);
    }
    world_stop(world);
    world_delete(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_instruction),
        cmocka_unit_test(test_timer),
        cmocka_unit_test(test_source_that_allocates),
    };

    return cmocka_run_group_tests_name("heap_reentry", tests, NULL, NULL);
}
