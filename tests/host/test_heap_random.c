// SPDX-License-Identifier: MIT
/**
 * The heap against its model: random calls of all kinds on both page sources, contents compared,
 * the structure checked along the way; and every page source call failing once.
 */
#include "heap_world.h"
#include "ledger_mm.h"

#define NR_LIVE_MAX 600

struct campaign {
    struct world *world;
    struct mm_cache cache;
    struct t_mheap model;
    struct t_mheap objects; /**< of the cache */
    struct t_prng prng;
    uint64_t nr_refused;
};

static uint64_t random_size(struct t_prng *prng)
{
    switch (t_prng_below(prng, 8)) {
    case 0:
        return t_prng_chance(prng, 1, 20) ? t_prng_range(prng, 8193, 50000) : 0;
    case 1:
        return UINT64_C(1) << t_prng_below(prng, 14);
    case 2:
        return t_prng_magnitude(prng, 13);
    default:
        return t_prng_magnitude(prng, 10);
    }
}

static void *random_block(const struct t_mheap *model, struct t_prng *prng)
{
    return (void *)(uintptr_t)model->blocks[t_prng_below(prng, model->nr)].address;
}

static uint64_t natural(uint64_t size)
{
    return size >= 16 && (size & (size - 1)) == 0 ? (size > 4096 ? 4096 : size) : 16;
}

static void allocate(struct campaign *c)
{
    struct mm_heap *heap = &c->world->heap;
    uint64_t size = random_size(&c->prng);
    uint64_t align = natural(size);
    void *block;

    switch (t_prng_below(&c->prng, 4)) {
    case 0:
        block = mm_heap_alloc_zeroed(heap, size);
        T_LEGAL(block == NULL ? NULL : t_mheap_zeroed(block, size));
        break;
    case 1:
        align = UINT64_C(1) << t_prng_below(&c->prng, t_prng_chance(&c->prng, 1, 20) ? 17 : 13);
        block = mm_heap_alloc_aligned(heap, align, size);
        break;
    case 2:
        block = mm_heap_alloc_on(heap, (uint32_t)t_prng_below(&c->prng, 5), size);
        break;
    default:
        block = mm_heap_alloc(heap, size);
        break;
    }
    if (block == NULL) {
        c->nr_refused++;
        return;
    }
    assert_true(mm_heap_usable_size(heap, block) >= size);
    T_LEGAL(t_mheap_add(&c->model, block, size, align));
}

static void resize(struct campaign *c)
{
    void *block = random_block(&c->model, &c->prng);
    uint64_t usable = mm_heap_usable_size(&c->world->heap, block);
    uint64_t size = random_size(&c->prng);
    uint64_t align = usable & (0 - usable);
    void *moved = mm_heap_realloc(&c->world->heap, block, size);

    if (moved == NULL) {
        c->nr_refused++;
        T_LEGAL(t_mheap_verify(&c->model, block));
        return;
    }
    align = align > 4096 ? 4096 : align;
    align = natural(size) > align ? natural(size) : align;
    T_LEGAL(t_mheap_resize(&c->model, block, moved, size, align));
}

static void release(struct campaign *c)
{
    void *block = random_block(&c->model, &c->prng);

    T_LEGAL(t_mheap_remove(&c->model, block));
    if (t_prng_chance(&c->prng, 1, 2)) {
        mm_heap_free(&c->world->heap, block);
    } else {
        mm_heap_free_on(&c->world->heap, (uint32_t)t_prng_below(&c->prng, 4), block);
    }
}

static void use_cache(struct campaign *c)
{
    if (c->objects.nr > 200 || (c->objects.nr > 0 && t_prng_chance(&c->prng, 1, 2))) {
        void *object = random_block(&c->objects, &c->prng);

        T_LEGAL(t_mheap_remove(&c->objects, object));
        mm_cache_free(&c->cache, object);
    } else {
        void *object = mm_cache_alloc_on(&c->cache, (uint32_t)t_prng_below(&c->prng, 3));

        if (object != NULL) {
            T_LEGAL(t_mheap_add(&c->objects, object, 200, 8));
        }
    }
}

/* Whose each page is the heap knows; frames that nobody has are as many as it has out. */
static void audit(const struct campaign *c)
{
    struct t_ram_range window;

    if (c->world->ram == NULL) {
        return;
    }
    window = t_ram_window(c->world->ram);
    T_LEGAL(t_ledger_close(t_ledger_open(&c->world->frames, t_ram_base(c->world->ram),
                                         (window.start + window.len) / MM_PAGE_SIZE),
                           c->world->nr_out));
}

static void check(struct campaign *c)
{
    struct mm_heap_stats stats = world_stats(c->world);

    assert_int_equal(mm_heap_check(&c->world->heap), MM_OK);
    assert_int_equal(mm_cache_check(&c->cache), MM_OK);
    assert_int_equal(stats.nr_objects, c->model.nr);
    assert_int_equal(stats.nr_failed, c->nr_refused);
    assert_true(stats.object_bytes >= c->model.bytes);
    assert_true(stats.slab_bytes + stats.run_bytes >= stats.object_bytes);
    T_LEGAL(t_mheap_verify_all(&c->model));
    T_LEGAL(t_mheap_verify_all(&c->objects));
}

static void step(struct campaign *c, uint64_t bias)
{
    uint64_t what = t_prng_below(&c->prng, 100);

    c->world->log.cpu = (uint32_t)t_prng_below(&c->prng, 3);
    if (what < 5) {
        use_cache(c);
    } else if (what < 6 && t_prng_chance(&c->prng, 1, 10)) {
        mm_heap_reclaim(&c->world->heap);
        mm_cache_reclaim(&c->cache);
    } else if (what < 25 && c->model.nr > 0) {
        resize(c);
    } else if (what < 25 + bias || c->model.nr == 0) {
        if (c->model.nr < NR_LIVE_MAX) {
            allocate(c);
        }
    } else {
        release(c);
    }
}

static void run(struct world *world, const char *name, unsigned nr_ops)
{
    struct mm_cache_config config = {.name = "random", .size = 200};
    static struct campaign c;

    c = (struct campaign){.world = world};
    t_prng_start(&c.prng, name);
    world_start(world, 2);
    t_mheap_init(&c.model, world->inner.base, world->inner.base + world->inner.len);
    t_mheap_init(&c.objects, world->inner.base, world->inner.base + world->inner.len);
    assert_int_equal(mm_cache_init(&c.cache, &world->pool, &config), MM_OK);
    for (unsigned op = 0; op < nr_ops; op++) {
        /* Times of plenty and of want. */
        step(&c, op / 2000 % 2 == 0 ? 45 : 25);
        if (op % 1000 == 0) {
            audit(&c);
        }
        if (op % 2500 == 0) {
            check(&c);
        }
    }
    check(&c);
    while (c.model.nr > 0) {
        release(&c);
    }
    while (c.objects.nr > 0) {
        void *object = random_block(&c.objects, &c.prng);

        T_LEGAL(t_mheap_remove(&c.objects, object));
        mm_cache_free(&c.cache, object);
    }
    check(&c);
    mm_heap_reclaim(&world->heap);
    mm_cache_reclaim(&c.cache);
    assert_int_equal(world->nr_out, world_meta(world));
    audit(&c);
    assert_int_equal(mm_cache_destroy(&c.cache), MM_OK);
    t_mheap_destroy(&c.model);
    t_mheap_destroy(&c.objects);
    world_stop(world);
    world_delete(world);
}

static unsigned nr_ops(void)
{
    unsigned nr = MM_TEST_SANITIZED ? 10000 : 100000;

    return getenv("MM_TEST_FULL") != NULL ? nr * 20 : nr;
}

static void test_range(void **state)
{
    (void)state;
    run(world_of_range(64 * MiB), "heap range", nr_ops());
}

static void test_frames(void **state)
{
    (void)state;
    run(world_of_frames(32 * MiB), "heap frames", nr_ops());
}

/* So little memory that many calls are refused. */
static void test_want(void **state)
{
    (void)state;
    run(world_of_range(MiB), "heap range, want", nr_ops() / 4);
    run(world_of_frames(MiB / 2), "heap frames, want", nr_ops() / 4);
}

/*
 * Each call of the page source fails once, and from then on; what was there is untouched, nothing
 * is lost, and the call that failed works again when there is memory.
 */
static void injected(struct world *world, bool onward)
{
    static const uint64_t sizes[] = {16, 100, 1000, 4096, 8192, 9000, 50000};
    void *live[sizeof(sizes) / sizeof(sizes[0])][40];
    struct t_mheap model;
    uint64_t nr_points = 0;

    t_mheap_init(&model, 0, 0);
    for (uint64_t n = 1;; n++) {
        uint64_t fired;

        world_start(world, 2);
        if (onward) {
            t_inject_from(&world->inject, n);
        } else {
            t_inject_nth(&world->inject, n);
        }
        for (unsigned s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
            for (unsigned i = 0; i < 40; i++) {
                struct mm_heap_stats before = world_stats(world);
                uint64_t fired_before = world->inject.fired;

                live[s][i] = i % 2 == 0 ? mm_heap_alloc(&world->heap, sizes[s])
                                        : mm_heap_alloc_aligned(&world->heap, 64, sizes[s]);
                if (live[s][i] == NULL) {
                    struct mm_heap_stats after = world_stats(world);

                    assert_true(world->inject.fired > fired_before);
                    assert_int_equal(after.nr_objects, before.nr_objects);
                    assert_int_equal(after.object_bytes, before.object_bytes);
                    assert_int_equal(after.run_bytes, before.run_bytes);
                    assert_int_equal(world->nr_out * MM_PAGE_SIZE,
                                     world_meta(world) * MM_PAGE_SIZE + after.slab_bytes +
                                         after.run_bytes);
                    assert_int_equal(mm_heap_check(&world->heap), MM_OK);
                    continue;
                }
                T_LEGAL(t_mheap_add(&model, live[s][i], sizes[s], 16));
                if (i % 3 == 0) {
                    void *moved = mm_heap_realloc(&world->heap, live[s][i], sizes[s] * 2);

                    if (moved != NULL) {
                        T_LEGAL(t_mheap_resize(&model, live[s][i], moved, sizes[s] * 2, 16));
                        live[s][i] = moved;
                    } else {
                        T_LEGAL(t_mheap_verify(&model, live[s][i]));
                    }
                }
            }
        }
        fired = world->inject.fired;
        nr_points = world->inject.asked > nr_points ? world->inject.asked : nr_points;
        t_inject_never(&world->inject);
        T_LEGAL(t_mheap_verify_all(&model));
        for (unsigned s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
            for (unsigned i = 0; i < 40; i++) {
                if (live[s][i] == NULL) {
                    live[s][i] = mm_heap_alloc(&world->heap, sizes[s]);
                    T_LEGAL(t_mheap_add(&model, live[s][i], sizes[s], 16));
                }
                T_LEGAL(t_mheap_remove(&model, live[s][i]));
                mm_heap_free(&world->heap, live[s][i]);
            }
        }
        world_stop(world);
        if (fired == 0) {
            break;
        }
    }
    assert_true(nr_points > 40);
    t_mheap_destroy(&model);
    world_delete(world);
}

static void test_injected(void **state)
{
    (void)state;
    injected(world_of_range(64 * MiB), false);
    injected(world_of_range(64 * MiB), true);
    injected(world_of_frames(32 * MiB), false);
    injected(world_of_frames(32 * MiB), true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_range),
        cmocka_unit_test(test_frames),
        cmocka_unit_test(test_want),
        cmocka_unit_test(test_injected),
    };

    return cmocka_run_group_tests_name("heap_random", tests, NULL, NULL);
}
