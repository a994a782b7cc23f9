// SPDX-License-Identifier: MIT
/**
 * The heap interrupted inside itself: by a handler after every single instruction of it (the CPU's
 * trap flag, Intel SDM vol. 3A, 17.3.2) and by a timer. (By its own page source:
 * test_heap_source.c.)
 */
#include "heap_steps.h"
#include "heap_world.h"

#include <sys/time.h>

#define HELD   12
#define LIST   5u
#define LARGE  (16 * KiB)
#define OBJECT 72u /* of the cache */

/** What the handler works on; the interrupted code never looks at it. */
static struct {
    struct world *world;
    struct world *large; /**< of the large pool; NULL: there is none */
    struct mm_cache cache;
    volatile uint64_t nr_interrupts;
    uint64_t nr_allocated;
    uint64_t nr_refused;
    uint64_t random;
    struct {
        void *object;
        uint64_t size;
        uint64_t align;
    } held[HELD];
    void *list[LIST];
    uint64_t nr_list;
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

static void *allocate_any_way(uint64_t size, uint64_t *align)
{
    struct mm_heap *heap = &irq.world->heap;

    *align = 0;
    switch (draw(7)) {
    case 0:
        return mm_heap_alloc(heap, size);
    case 1:
        return mm_heap_alloc_zeroed(heap, size);
    case 2:
        *align = UINT64_C(16) << draw(10);
        return mm_heap_alloc_aligned(heap, *align, size);
    case 3:
        return mm_heap_alloc_with(heap, size, 0, MM_HEAP_ATOMIC);
    case 4:
        return mm_heap_alloc_array(heap, size / 8, 8, 0);
    default:
        return mm_heap_alloc_on(heap, 0, size);
    }
}

static void free_any_way(unsigned h)
{
    struct mm_heap *heap = &irq.world->heap;

    switch (draw(3)) {
    case 0:
        mm_heap_free(heap, irq.held[h].object);
        break;
    case 1:
        mm_heap_free_sized(heap, irq.held[h].object, irq.held[h].size, irq.held[h].align);
        break;
    default:
        mm_heap_free_on(heap, 0, irq.held[h].object);
        break;
    }
    irq.held[h].object = NULL;
}

static void use_cache(void)
{
    if (irq.nr_list != 0) {
        for (uint64_t i = 0; i < irq.nr_list; i++) {
            expect_bytes(irq.list[i], OBJECT, 0x80u + (unsigned)i);
        }
        mm_cache_free_bulk(&irq.cache, irq.nr_list, irq.list);
        irq.nr_list = 0;
    } else {
        irq.nr_list = mm_cache_alloc_bulk(&irq.cache, 0, LIST, irq.list);
        for (uint64_t i = 0; i < irq.nr_list; i++) {
            memset(irq.list[i], 0x80 + (int)i, OBJECT);
        }
    }
}

static void resize(unsigned h)
{
    uint64_t size = UINT64_C(64) << draw(8);
    void *moved = mm_heap_realloc(&irq.world->heap, irq.held[h].object, size);

    if (moved != NULL) {
        memset(moved, (int)h, size);
        irq.held[h].object = moved;
        irq.held[h].size = size;
    }
}

/** What an interrupt handler of a kernel may do to the heap: anything. */
static void interrupt(void)
{
    static const uint64_t sizes[] = {64, 64, 64, 1024, 4096, 8192, 9000};
    unsigned h = (unsigned)draw(HELD);

    irq.nr_interrupts++;
    if (draw(6) == 0) {
        use_cache();
    } else if (irq.held[h].object != NULL) {
        expect_bytes(irq.held[h].object, irq.held[h].size, h);
        if (draw(8) == 0) {
            resize(h);
        } else {
            free_any_way(h);
        }
    } else if (draw(40) == 0) {
        mm_heap_reclaim(&irq.world->heap);
        mm_cache_reclaim(&irq.cache);
    } else {
        uint64_t size = sizes[draw(sizeof(sizes) / sizeof(sizes[0]))];
        void *object = allocate_any_way(size, &irq.held[h].align);

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

static void begin(struct world *world, struct world *large)
{
    struct mm_cache_config cache = {.name = "stepped", .size = OBJECT};
    struct mm_heap_config heap = {.large_size = large != NULL ? LARGE : 0};

    memset(&irq, 0, sizeof(irq));
    irq.world = world;
    irq.large = large;
    if (large != NULL) {
        world_start_plain(large, 1);
        heap.large = &large->pool;
    }
    world_start_plain_as(world, 1, &heap);
    assert_int_equal(mm_cache_init(&irq.cache, &world->pool, &cache), MM_OK);
}

static void end(void)
{
    for (unsigned h = 0; h < HELD; h++) {
        if (irq.held[h].object != NULL) {
            expect_bytes(irq.held[h].object, irq.held[h].size, h);
            mm_heap_free(&irq.world->heap, irq.held[h].object);
            irq.held[h].object = NULL;
        }
    }
    if (irq.nr_list != 0) {
        use_cache();
    }
    assert_int_equal(world_stats(irq.world).nr_objects, 0);
    assert_int_equal(mm_cache_check(&irq.cache), MM_OK);
    assert_int_equal(mm_cache_destroy(&irq.cache), MM_OK);
    world_stop(irq.world);
    world_delete(irq.world);
    if (irq.large != NULL) {
        world_stop(irq.large);
        world_delete(irq.large);
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

/** Every call that may be interrupted. */
enum call {
    ALLOC,
    ALLOC_ON,
    ALLOC_ZEROED,
    ALLOC_ALIGNED,
    ALLOC_WITH,
    ALLOC_ARRAY,
    REALLOC,
    REALLOC_ARRAY,
    FREE,
    FREE_ON,
    FREE_SIZED,
    USABLE_SIZE,
    RECLAIM,
    GET_STATS,
    CACHE_ALLOC,
    CACHE_ALLOC_ON,
    CACHE_ALLOC_BULK,
    CACHE_FREE,
    CACHE_FREE_BULK,
    CACHE_RECLAIM,
    CACHE_GET_STATS,
    NR_CALLS
};

/** Interrupts that came into each. */
static uint64_t nr_into[NR_CALLS];

#define INTERRUPTED(call_, statement)                                                              \
    do {                                                                                           \
        uint64_t before_ = irq.nr_interrupts;                                                      \
        STEPPED(statement);                                                                        \
        nr_into[call_] += irq.nr_interrupts - before_;                                             \
    } while (0)

struct rounds {
    struct mm_heap *heap;
    struct t_mheap blocks;
    struct t_mheap objects; /**< of the cache */
    struct t_prng prng;
    unsigned nr_rounds;
};

static void *any_of(struct rounds *r, const struct t_mheap *model)
{
    return (void *)(uintptr_t)model->blocks[t_prng_below(&r->prng, model->nr)].address;
}

static uint64_t any_size(struct rounds *r)
{
    static const uint64_t sizes[] = {64, 64, 64, 64, 1024, 4096, 8192, 20000};

    return sizes[t_prng_below(&r->prng, sizeof(sizes) / sizeof(sizes[0]))];
}

static void stepped_alloc(struct rounds *r, enum call call)
{
    uint64_t size = any_size(r);
    uint64_t align = 0;
    bool wrapped = t_prng_chance(&r->prng, 1, 2);
    void *volatile object = NULL;

    switch (call) {
    case ALLOC_ZEROED: /* zeroing is many an instruction */
        size = size > 256 ? 256 : size;
        INTERRUPTED(call, object = mm_heap_alloc_zeroed(r->heap, size));
        T_LEGAL(object == NULL ? NULL : t_mheap_zeroed(object, size));
        break;
    case ALLOC_ALIGNED:
        align = UINT64_C(16) << t_prng_below(&r->prng, 10);
        INTERRUPTED(call, object = mm_heap_alloc_aligned(r->heap, align, size));
        break;
    case ALLOC_WITH:
        align = UINT64_C(16) << t_prng_below(&r->prng, 5);
        INTERRUPTED(call, object = wrapped
                                       ? mm_heap_alloc_from(r->heap, size, align, MM_HEAP_ATOMIC, r)
                                       : mm_heap_alloc_with(r->heap, size, align, MM_HEAP_ATOMIC));
        break;
    case ALLOC_ARRAY:
        INTERRUPTED(call, object = mm_heap_alloc_array(r->heap, size / 4, 4, 0));
        break;
    case ALLOC:
        INTERRUPTED(call, object = mm_heap_alloc(r->heap, size));
        break;
    default:
        INTERRUPTED(call, object = mm_heap_alloc_on(r->heap, 0, size));
        break;
    }
    if (object != NULL) {
        T_LEGAL(t_mheap_add(&r->blocks, object, size, align != 0 ? align : 16));
        T_LEGAL(t_mheap_tag(&r->blocks, object, align));
    }
}

static void stepped_resize(struct rounds *r, enum call call)
{
    void *object = any_of(r, &r->blocks);
    uint64_t size = any_size(r);
    uint64_t align = t_mheap_find(&r->blocks, object)->tag;
    bool wrapped = t_prng_chance(&r->prng, 1, 2);
    void *volatile moved;

    if (call == REALLOC) {
        INTERRUPTED(call, moved = wrapped ? mm_heap_realloc_from(r->heap, object, size, r)
                                          : mm_heap_realloc(r->heap, object, size));
    } else {
        INTERRUPTED(call, moved = mm_heap_realloc_array(r->heap, object, 8, size / 8));
    }
    if (moved != NULL) {
        T_LEGAL(t_mheap_resize(&r->blocks, object, moved, size, align != 0 ? align : 16));
    }
}

static void stepped_free(struct rounds *r, enum call call)
{
    void *object = any_of(r, &r->blocks);
    uint64_t size = t_mheap_find(&r->blocks, object)->size;
    uint64_t align = t_mheap_find(&r->blocks, object)->tag;
    bool wrapped = t_prng_chance(&r->prng, 1, 2);

    T_LEGAL(t_mheap_remove(&r->blocks, object));
    if (wrapped && call == FREE) {
        INTERRUPTED(call, mm_heap_free_from(r->heap, object, r));
    } else if (wrapped && call == FREE_SIZED) {
        INTERRUPTED(call, mm_heap_free_sized_from(r->heap, object, size, align, r));
    } else if (call == FREE) {
        INTERRUPTED(call, mm_heap_free(r->heap, object));
    } else if (call == FREE_ON) {
        INTERRUPTED(call, mm_heap_free_on(r->heap, 0, object));
    } else {
        INTERRUPTED(call, mm_heap_free_sized(r->heap, object, size, align));
    }
}

static void stepped_look(struct rounds *r, enum call call)
{
    struct mm_cache_stats cache;
    struct mm_heap_stats stats;
    volatile mm_status_t status = MM_OK;
    volatile size_t size = UINT64_MAX;
    const void *object = r->blocks.nr != 0 ? any_of(r, &r->blocks) : NULL;

    switch (call) {
    case USABLE_SIZE:
        INTERRUPTED(call, size = mm_heap_usable_size(r->heap, object));
        assert_true(object == NULL ? size == 0 : size >= t_mheap_find(&r->blocks, object)->size);
        break;
    case RECLAIM:
        INTERRUPTED(call, mm_heap_reclaim(r->heap));
        break;
    case CACHE_RECLAIM:
        INTERRUPTED(call, mm_cache_reclaim(&irq.cache));
        break;
    case GET_STATS:
        INTERRUPTED(call, status = mm_heap_get_stats(r->heap, &stats));
        assert_true(stats.nr_objects >= r->blocks.nr);
        break;
    default:
        INTERRUPTED(call, status = mm_cache_get_stats(&irq.cache, &cache));
        assert_true(cache.nr_objects >= r->objects.nr);
        break;
    }
    assert_int_equal(status, MM_OK);
}

static void stepped_cache_alloc(struct rounds *r, enum call call)
{
    void *objects[20] = {NULL};
    bool wrapped = t_prng_chance(&r->prng, 1, 2);
    volatile uint64_t nr = 1;

    if (call == CACHE_ALLOC_BULK) {
        INTERRUPTED(call, nr = mm_cache_alloc_bulk(&irq.cache, 0, 20, objects));
    } else if (call == CACHE_ALLOC) {
        INTERRUPTED(call, objects[0] = wrapped ? mm_cache_alloc_from(&irq.cache, r)
                                               : mm_cache_alloc(&irq.cache));
    } else {
        INTERRUPTED(call, objects[0] = mm_cache_alloc_on(&irq.cache, 0));
    }
    for (uint64_t i = 0; i < nr && objects[i] != NULL; i++) {
        T_LEGAL(t_mheap_add(&r->objects, objects[i], OBJECT, 8));
    }
}

static void stepped_cache_free(struct rounds *r, enum call call)
{
    void *objects[20];
    uint64_t nr = 0;

    while (nr < (call == CACHE_FREE ? 1u : 20u) && r->objects.nr != 0) {
        objects[nr] = t_prng_chance(&r->prng, 1, 3)
                          ? any_of(r, &r->objects)
                          : (void *)(uintptr_t)r->objects.blocks[r->objects.nr - 1].address;
        T_LEGAL(t_mheap_remove(&r->objects, objects[nr]));
        nr++;
    }
    if (call == CACHE_FREE && t_prng_chance(&r->prng, 1, 2)) {
        INTERRUPTED(call, mm_cache_free_from(&irq.cache, nr == 0 ? NULL : objects[0], r));
    } else if (call == CACHE_FREE) {
        INTERRUPTED(call, mm_cache_free(&irq.cache, nr == 0 ? NULL : objects[0]));
    } else {
        INTERRUPTED(call, mm_cache_free_bulk(&irq.cache, nr, objects));
    }
}

static void stepped_round(struct rounds *r, bool up)
{
    enum call call = (enum call)(r->nr_rounds++ % NR_CALLS);

    if ((call == RECLAIM || call == GET_STATS) && t_prng_chance(&r->prng, 2, 3)) {
        call = FREE_ON; /* they are long */
    }
    if (call >= CACHE_ALLOC && call <= CACHE_FREE_BULK) {
        if (call < CACHE_FREE) {
            stepped_cache_alloc(r, call);
        } else {
            stepped_cache_free(r, call);
        }
    } else if (call >= USABLE_SIZE) {
        stepped_look(r, call);
    } else if (r->blocks.nr == 0 || t_prng_chance(&r->prng, up ? 3 : 1, 4)) {
        stepped_alloc(r, (enum call)(call % (ALLOC_ARRAY + 1)));
    } else if (call <= REALLOC_ARRAY) {
        stepped_resize(r, call % 2 == 0 ? REALLOC : REALLOC_ARRAY);
    } else {
        stepped_free(r, call);
    }
    assert_int_equal(mm_heap_check(r->heap), MM_OK);
    assert_int_equal(mm_cache_check(&irq.cache), MM_OK);
    T_LEGAL(t_mheap_verify_all(&r->blocks));
    T_LEGAL(t_mheap_verify_all(&r->objects));
}

static void stepped(struct world *world, struct world *large, const char *name, unsigned nr_rounds)
{
    struct sigaction action = {.sa_sigaction = on_step, .sa_flags = SA_SIGINFO};
    struct sigaction before;
    struct rounds r;

    begin(world, large);
    memset(&r, 0, sizeof(r));
    t_mheap_init(&r.blocks, 0, 0);
    t_mheap_init(&r.objects, 0, 0);
    r.heap = &world->heap;
    t_prng_start(&r.prng, name);
    irq.random = t_prng_u64(&r.prng);
    assert_int_equal(sigaction(SIGTRAP, &action, &before), 0);
    for (unsigned i = 0; i < nr_rounds; i++) {
        stepped_round(&r, i / NR_CALLS % 2 == 0);
    }
    while (r.blocks.nr > 0) {
        stepped_free(&r, FREE);
    }
    while (r.objects.nr > 0) {
        stepped_cache_free(&r, CACHE_FREE_BULK);
    }
    assert_int_equal(sigaction(SIGTRAP, &before, NULL), 0);
    assert_true(irq.nr_interrupts > nr_rounds * UINT64_C(20));
    assert_true(irq.nr_allocated > irq.nr_interrupts / 20);
    t_mheap_destroy(&r.blocks);
    t_mheap_destroy(&r.objects);
    end();
}

static void test_every_instruction(void **state)
{
    unsigned nr_rounds = (MM_TEST_SANITIZED ? 2 : 4) * NR_CALLS;

    (void)state;
    if (SIGNALS_ARE_LATE) {
        skip();
    }
    nr_rounds *= getenv("MM_TEST_FULL") != NULL ? 20 : 1;
    memset(nr_into, 0, sizeof(nr_into));
    stepped(world_of_range(4 * MiB), NULL, "heap stepped, range", nr_rounds);
    stepped(world_of_frames(2 * MiB), world_of_range(MiB), "heap stepped, frames", nr_rounds);
    /* Full to the brim: what fails is interrupted as well. */
    stepped(world_of_range(256 * KiB), world_of_frames(64 * KiB), "heap stepped, want", nr_rounds);
    for (unsigned i = 0; i < NR_CALLS; i++) {
        assert_true(MM_TEST_SANITIZED || nr_into[i] > 100);
    }
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
    begin(world, NULL);
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
    for (unsigned i = 0; i < 100; i++) {
        mm_heap_free(&world->heap, objects[i]);
    }
    assert_int_equal(irq.nr_refused, 0);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_instruction),
        cmocka_unit_test(test_timer),
    };

    return cmocka_run_group_tests_name("heap_reentry", tests, NULL, NULL);
}
