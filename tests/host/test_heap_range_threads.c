// SPDX-License-Identifier: MIT
/**
 * Threads in one page range: each page has one owner, and nobody is refused what is there.
 */
#include "heap_world.h"

#include <pthread.h>

static mm_status_t take(struct mm_page_source source, uint64_t nr, uint64_t align, void **out)
{
    return source.ops->alloc(source.ctx, nr, align, 0, out);
}

static void give(struct mm_page_source source, void *pages, uint64_t nr)
{
    source.ops->free(source.ctx, pages, nr);
}

static mm_status_t extend(struct mm_page_source source, void *pages, uint64_t nr, uint64_t more)
{
    return source.ops->extend(source.ctx, pages, nr, more, 0);
}

/* Threads take, extend and give; each writes its name into all its pages, and nobody else's is there.
 */
enum { SHARED_PAGES = 600, SHARED_OPS = MM_TEST_SANITIZED ? 20000 : 40000 };

struct sharer {
    struct mm_page_source source;
    pthread_t thread;
    unsigned number;
    unsigned nr_wrong;
};

static void name_pages(uint64_t *pages, uint64_t from, uint64_t to, uint64_t name)
{
    for (uint64_t i = from; i < to; i++) {
        pages[i * 512] = name;
    }
}

static void *share(void *arg)
{
    struct sharer *me = arg;
    struct {
        void *pages;
        uint64_t nr;
    } runs[16] = {{0}};
    struct t_prng prng;

    t_prng_seed(&prng, 1000 + me->number);
    for (unsigned op = 0; op < SHARED_OPS; op++) {
        unsigned s = (unsigned)t_prng_below(&prng, 16);
        uint64_t name = (uint64_t)me->number << 32 | s;
        uint64_t nr = t_prng_range(&prng, 1, t_prng_chance(&prng, 1, 10) ? 80 : 17);

        if (runs[s].pages == NULL) {
            if (take(me->source, nr, 1, &runs[s].pages) == MM_OK) {
                runs[s].nr = nr;
                name_pages(runs[s].pages, 0, nr, name);
            }
            continue;
        }
        for (uint64_t i = 0; i < runs[s].nr; i++) {
            me->nr_wrong += ((uint64_t *)runs[s].pages)[i * 512] != name ? 1 : 0;
        }
        nr = nr / 4 + 1;
        if (op % 3 == 0 && extend(me->source, runs[s].pages, runs[s].nr, nr) == MM_OK) {
            name_pages(runs[s].pages, runs[s].nr, runs[s].nr + nr, name);
            runs[s].nr += nr;
        } else {
            give(me->source, runs[s].pages, runs[s].nr);
            runs[s].pages = NULL;
        }
    }
    for (unsigned s = 0; s < 16; s++) {
        if (runs[s].pages != NULL) {
            give(me->source, runs[s].pages, runs[s].nr);
        }
    }
    return NULL;
}

static void test_range_shared(void **state)
{
    struct world *world = world_of_range(SHARED_PAGES * UINT64_C(4096));
    uint64_t nr_free = world->range.nr_free;
    struct sharer sharers[3];
    void *all = NULL;

    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        sharers[i] = (struct sharer){.source = world->inner, .number = i + 1};
        assert_int_equal(pthread_create(&sharers[i].thread, NULL, share, &sharers[i]), 0);
    }
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(pthread_join(sharers[i].thread, NULL), 0);
        assert_int_equal(sharers[i].nr_wrong, 0);
    }
    assert_int_equal(world->range.nr_free, nr_free);
    assert_int_equal((uint32_t)world->range.unsettled, 0);
    /* Bins may name too much, never too little. */
    assert_int_equal(take(world->inner, nr_free, 1, &all), MM_OK);
    for (uint64_t nr = 1; nr <= 64; nr++) {
        void *none;

        assert_int_equal(take(world->inner, nr, 1, &none), MM_ERR_NO_MEMORY);
    }
    give(world->inner, all, nr_free);
    world_delete(world);
}

/* Single pages, never more of them out than there are: none is refused, however bins are brought up to
 * date meanwhile. */
enum { OWN_PAGES = 100 };

static void *take_singles(void *arg)
{
    struct sharer *me = arg;
    void *pages[OWN_PAGES] = {NULL};
    struct t_prng prng;

    t_prng_seed(&prng, 2000 + me->number);
    for (unsigned op = 0; op < 4 * SHARED_OPS; op++) {
        unsigned s = (unsigned)t_prng_below(&prng, OWN_PAGES);

        if (pages[s] != NULL) {
            give(me->source, pages[s], 1);
            pages[s] = NULL;
        } else {
            me->nr_wrong += take(me->source, 1, 1, &pages[s]) != MM_OK ? 1 : 0;
        }
    }
    for (unsigned s = 0; s < OWN_PAGES; s++) {
        if (pages[s] != NULL) {
            give(me->source, pages[s], 1);
        }
    }
    return NULL;
}

static void test_never_refused(void **state)
{
    struct world *world = world_of_range((3 * OWN_PAGES + 1) * UINT64_C(4096));
    struct sharer sharers[3];

    (void)state;
    assert_int_equal(world->range.nr_free, 3 * OWN_PAGES);
    for (unsigned i = 0; i < 3; i++) {
        sharers[i] = (struct sharer){.source = world->inner, .number = i + 1};
        assert_int_equal(pthread_create(&sharers[i].thread, NULL, take_singles, &sharers[i]), 0);
    }
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(pthread_join(sharers[i].thread, NULL), 0);
        assert_int_equal(sharers[i].nr_wrong, 0);
    }
    assert_int_equal(world->range.nr_free, 3 * OWN_PAGES);
    world_delete(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_range_shared),
        cmocka_unit_test(test_never_refused),
    };

    return cmocka_run_group_tests_name("heap_range_threads", tests, NULL, NULL);
}
