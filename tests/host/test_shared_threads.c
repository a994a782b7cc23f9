// SPDX-License-Identifier: MIT
/**
 * What else may be used by several CPUs at once, under 2 and 4 real threads: object caches, page
 * sources of both kinds, DMA regions, reference counts of frames, and statistics that are read
 * meanwhile. Everything is given back: sums are exact.
 */
#include "heap_world.h"

#include <mm/dma.h>

#include <pthread.h>

#define MAX_THREADS 4u
#define SLOTS       32u

static unsigned rounds(unsigned plain)
{
    return MM_TEST_SANITIZED ? plain / 10 : plain;
}

struct worker {
    pthread_t thread;
    unsigned number;
    unsigned nr_rounds;
    uint64_t nr_wrong; /* cmocka's failures do not leave a thread */
    uint64_t nr_done;
};

static struct world *world;

/* The body runs on 2 threads, then on 4; returns what they did in all. */
static uint64_t run(void *(*body)(void *), unsigned nr, unsigned nr_rounds)
{
    struct worker workers[MAX_THREADS];
    uint64_t nr_done = 0;

    for (unsigned i = 0; i < nr; i++) {
        workers[i] = (struct worker){.number = i, .nr_rounds = nr_rounds};
        assert_int_equal(pthread_create(&workers[i].thread, NULL, body, &workers[i]), 0);
    }
    for (unsigned i = 0; i < nr; i++) {
        assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
        assert_int_equal(workers[i].nr_wrong, 0);
        nr_done += workers[i].nr_done;
    }
    return nr_done;
}

/* --- object caches ------------------------------------------------------------------------------
 */

static struct mm_cache cache;

static void construct(void *ctx, void *object)
{
    (void)ctx;
    memset(object, 0x6b, 64);
}

static void *use_cache(void *argument)
{
    struct worker *w = argument;
    struct {
        uint64_t *object;
        uint64_t whose;
    } slots[SLOTS] = {{0}};
    struct mm_cache_stats stats;
    struct t_prng prng;

    t_prng_seed(&prng, t_seed() + w->number);
    for (unsigned i = 0; i < w->nr_rounds + SLOTS; i++) {
        unsigned s = i < w->nr_rounds ? (unsigned)t_prng_below(&prng, SLOTS) : i - w->nr_rounds;

        if (slots[s].object != NULL) {
            w->nr_wrong += slots[s].object[0] != slots[s].whose ? 1 : 0;
            memset(slots[s].object, 0x6b, 64);
            mm_cache_free(&cache, slots[s].object);
            slots[s].object = NULL;
        } else if (i < w->nr_rounds) {
            slots[s].object = mm_cache_alloc_on(&cache, w->number);
            slots[s].whose = (uint64_t)w->number << 32 | i;
            if (slots[s].object == NULL) {
                w->nr_wrong++;
                continue;
            }
            w->nr_wrong += slots[s].object[7] != UINT64_C(0x6b6b6b6b6b6b6b6b) ? 1 : 0;
            slots[s].object[0] = slots[s].whose;
            w->nr_done++;
        }
        if (i % 512 == 0) {
            mm_cache_reclaim(&cache);
            /* Counted slab by slab: one that moves meanwhile counts twice, or not at all. */
            w->nr_wrong += mm_cache_get_stats(&cache, &stats) != MM_OK ? 1 : 0;
            w->nr_wrong += stats.object_size != 64 ? 1 : 0;
        }
    }
    return NULL;
}

static void test_cache(void **state)
{
    const struct mm_cache_config config = {.name = "threads", .size = 64, .construct = construct};

    (void)state;
    world = world_of_range(16 * MiB);
    world_start_plain(world, MAX_THREADS);
    memset(&cache, 0, sizeof(cache));
    assert_int_equal(mm_cache_init(&cache, &world->pool, &config), MM_OK);
    for (unsigned nr = 2; nr <= MAX_THREADS; nr += 2) {
        struct mm_cache_stats stats;

        assert_true(run(use_cache, nr, rounds(100000)) > 0);
        assert_int_equal(mm_cache_check(&cache), MM_OK);
        assert_int_equal(mm_cache_get_stats(&cache, &stats), MM_OK);
        assert_int_equal(stats.nr_objects, 0);
    }
    mm_cache_reclaim(&cache);
    assert_int_equal(mm_cache_destroy(&cache), MM_OK);
    world_stop(world);
    world_delete(world);
}

/* --- page sources -------------------------------------------------------------------------------
 */

static void *use_pages(void *argument)
{
    struct worker *w = argument;
    const struct mm_page_source *source = &world->inner;
    uint64_t *held[SLOTS] = {NULL};
    struct t_prng prng;

    t_prng_seed(&prng, t_seed() + w->number);
    for (unsigned i = 0; i < w->nr_rounds + SLOTS; i++) {
        unsigned s = i < w->nr_rounds ? (unsigned)t_prng_below(&prng, SLOTS) : i - w->nr_rounds;
        uint64_t nr = 1 + s % 5; /* a slot's size is its own */
        void *pages = NULL;

        if (held[s] != NULL) {
            for (uint64_t page = 0; page < nr; page++) {
                w->nr_wrong += held[s][page * 512] != w->number + 1 ? 1 : 0;
            }
            source->ops->free(source->ctx, held[s], nr);
            held[s] = NULL;
        } else if (i < w->nr_rounds) {
            mm_status_t status = source->ops->alloc(source->ctx, nr, 1, 0, &pages);

            w->nr_wrong += status != MM_OK && status != MM_ERR_NO_MEMORY ? 1 : 0;
            held[s] = status == MM_OK ? pages : NULL;
            for (uint64_t page = 0; page < nr && status == MM_OK; page++) {
                held[s][page * 512] = w->number + 1;
            }
            w->nr_done += status == MM_OK ? 1 : 0;
        }
    }
    return NULL;
}

static void pages_of(struct world *of)
{
    world = of;
    for (unsigned nr = 2; nr <= MAX_THREADS; nr += 2) {
        struct mm_frame_stats stats;

        assert_true(run(use_pages, nr, rounds(50000)) > 0);
        if (of->ram == NULL) {
            assert_int_equal(of->range.nr_free, of->range.nr_pages - of->range.nr_bitmap_pages);
        } else {
            assert_int_equal(mm_frame_check(&of->frames), MM_OK);
            assert_int_equal(mm_frame_get_stats(&of->frames, &stats), MM_OK);
            assert_int_equal(stats.nr_free, of->nr_free_frames);
        }
    }
    world_delete(of);
}

static void test_pages_of_a_range(void **state)
{
    (void)state;
    pages_of(world_of_range(MiB)); /* less than 4 threads want */
}

static void test_pages_of_frames(void **state)
{
    (void)state;
    pages_of(world_of_frames(MiB));
}

/* --- DMA regions --------------------------------------------------------------------------------
 */

static struct mm_dma dma;

static void *use_dma(void *argument)
{
    struct worker *w = argument;
    const struct mm_dma_constraints low = {.highest = mm_paddr(18 * MiB - 1), .boundary = 64 * KiB};
    struct mm_dma_region held[8];
    struct t_prng prng;

    memset(held, 0, sizeof(held));
    t_prng_seed(&prng, t_seed() + w->number);
    for (unsigned i = 0; i < w->nr_rounds + 8; i++) {
        struct mm_dma_region *region =
            &held[i < w->nr_rounds ? t_prng_below(&prng, 8) : i - w->nr_rounds];
        struct mm_dma_stats stats;
        mm_status_t status;

        if (region->magic != 0) {
            w->nr_wrong += *(uint64_t *)region->addr != w->number + 1 ? 1 : 0;
            w->nr_wrong += mm_dma_free(&dma, region) != MM_OK ? 1 : 0;
            w->nr_wrong += region->magic != 0 ? 1 : 0;
        } else if (i < w->nr_rounds) {
            status = mm_dma_alloc(&dma, 1 + t_prng_below(&prng, 64 * KiB),
                                  t_prng_chance(&prng, 1, 2) ? &low : NULL, MM_DMA_ZERO, region);
            if (status == MM_OK) {
                w->nr_wrong += *(uint64_t *)region->addr != 0 ? 1 : 0;
                *(uint64_t *)region->addr = w->number + 1;
                w->nr_done++;
            } else {
                w->nr_wrong += status != MM_ERR_NO_MEMORY ? 1 : 0;
            }
        }
        w->nr_wrong += mm_dma_get_stats(&dma, &stats) != MM_OK ? 1 : 0;
        w->nr_wrong += stats.nr_regions > MAX_THREADS * 8 ? 1 : 0;
    }
    return NULL;
}

static void test_dma(void **state)
{
    struct mm_physmap physmap;
    struct mm_dma_config config = {.physmap = &physmap, .platform = t_platform()};

    (void)state;
    world = world_of_frames(2 * MiB);
    physmap = mm_physmap_direct(t_ram_base(world->ram));
    config.frames = &world->frames;
    memset(&dma, 0, sizeof(dma));
    assert_int_equal(mm_dma_init(&dma, &config), MM_OK);
    for (unsigned nr = 2; nr <= MAX_THREADS; nr += 2) {
        struct mm_frame_stats stats;

        assert_true(run(use_dma, nr, rounds(20000)) > 0);
        assert_int_equal(mm_frame_check(&world->frames), MM_OK);
        assert_int_equal(mm_frame_get_stats(&world->frames, &stats), MM_OK);
        assert_int_equal(stats.nr_free, world->nr_free_frames);
    }
    assert_int_equal(mm_dma_destroy(&dma), MM_OK);
    world_delete(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cache),
        cmocka_unit_test(test_pages_of_a_range),
        cmocka_unit_test(test_pages_of_frames),
        cmocka_unit_test(test_dma),
    };

    return cmocka_run_group_tests_name("shared_threads", tests, NULL, NULL);
}
