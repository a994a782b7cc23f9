// SPDX-License-Identifier: MIT
/**
 * Which slab a CPU takes up when its own is used up: its own partial ones, the fullest of those that
 * are anybody's, what other CPUs left behind, what no sample tells of; and only then a new one.
 */
#include "heap_world.h"

#include "heap/slab.h"

#define NR 16384u

static struct world *world;
static void *objects[NR];

enum { A_SLAB = 256, A_WORD = 32, SMALL = 16 };

static struct mm_cache cache;

static struct mm_pool *pool; /* that the slabs are of */

static void start_slabs(unsigned nr, uint32_t cpu)
{
    const struct mm_cache_config config = {.name = "slabs", .size = SMALL};

    if (cache.magic == 0) {
        assert_int_equal(mm_cache_init(&cache, pool, &config), MM_OK);
    }
    assert_int_equal(mm_cache_alloc_bulk(&cache, cpu, (uint64_t)nr * A_SLAB, objects), nr * A_SLAB);
}

static void stop_objects(unsigned nr)
{
    for (unsigned i = 0; i < nr * A_SLAB; i++) {
        mm_cache_free(&cache, objects[i]);
        objects[i] = NULL;
    }
    assert_int_equal(mm_cache_check(&cache), MM_OK);
}

static void stop_slabs(unsigned nr)
{
    stop_objects(nr);
    assert_int_equal(mm_cache_destroy(&cache), MM_OK);
}

/** Of this slab, so many; the first of a word, which has the slab listed, at the end. By no CPU that
 * there is, so that none goes on there. */
static void free_of_slab(unsigned slab, unsigned nr)
{
    void **of = &objects[(size_t)slab * A_SLAB];

    for (unsigned i = 1; nr > 1; i++) {
        if (i % A_WORD != 0) {
            mm_cache_free_on(&cache, 77, of[i]);
            of[i] = NULL;
            nr--;
        }
    }
    mm_cache_free_on(&cache, 77, of[0]);
    of[0] = NULL;
}

/** Whether the CPU's next object is of this slab. The last one of it is not freed in any test. */
static bool goes_on_with(uint32_t cpu, unsigned slab)
{
    char *object = mm_cache_alloc_on(&cache, cpu);
    bool is = (uintptr_t)object / MM_PAGE_SIZE ==
              (uintptr_t)objects[(size_t)slab * A_SLAB + A_SLAB - 1] / MM_PAGE_SIZE;

    assert_non_null(object);
    mm_cache_free_on(&cache, 77, object);
    return is;
}

/** Allocate into a place of the slabs that was freed; false: the CPU's next object is none of them, and
 * was freed again. */
static bool take_back(uint32_t cpu)
{
    void *object = mm_cache_alloc_on(&cache, cpu);

    assert_non_null(object);
    for (unsigned i = 0; i < NR; i++) {
        size_t slot = (uintptr_t)object % MM_PAGE_SIZE / SMALL;
        void **place = &objects[i / A_SLAB * A_SLAB + slot];
        void *other = objects[i];

        if (other != NULL && *place == NULL &&
            (uintptr_t)other / MM_PAGE_SIZE == (uintptr_t)object / MM_PAGE_SIZE) {
            *place = object;
            return true;
        }
    }
    mm_cache_free_on(&cache, 77, object);
    return false;
}

/* Of two slabs the fuller one is taken up, whichever was listed last. */
static void test_fullest_first(void **state)
{
    static const struct {
        uint32_t cpu;
        unsigned fuller; /* free objects */
        unsigned emptier;
    } cases[] = {{0, 20, 140}, {0, 20, 230}, {0, 140, 230}, {1, 140, 230}};

    (void)state;
    for (unsigned c = 0; c < 2 * sizeof(cases) / sizeof(cases[0]); c++) {
        unsigned fuller = c % 2;

        start_slabs(3, 0);
        free_of_slab(0, fuller == 0 ? cases[c / 2].fuller : cases[c / 2].emptier);
        free_of_slab(1, fuller == 1 ? cases[c / 2].fuller : cases[c / 2].emptier);
        assert_true(goes_on_with(cases[c / 2].cpu, fuller));
        stop_slabs(3);
    }
}

/* A slab that is mostly another CPU's is taken before a new one is: whatever lies above it on that
 * CPU's list, and however many CPUs have none. */
static void test_others_slabs_before_new_ones(void **state)
{
    static const uint32_t nr_cpus[] = {2, 3, 64, 65, 200};

    (void)state;
    for (unsigned n = 0; n < sizeof(nr_cpus) / sizeof(nr_cpus[0]); n++) {
        for (unsigned swapped = 0; swapped < 2; swapped++) {
            struct world *many = world_of_range(16 * MiB);
            uint32_t last = nr_cpus[n] - 1;
            uint32_t had = swapped != 0 ? 0 : last;
            uint32_t needs = swapped != 0 ? last : 0;

            world_start(many, nr_cpus[n]);
            pool = &many->pool;
            start_slabs(4, had);
            free_of_slab(0, 40);
            free_of_slab(1, 1);
            free_of_slab(2, 2);
            for (unsigned i = 0; i < 43; i++) {
                assert_true(take_back(needs)); /* all that is free, and nothing new */
            }
            assert_false(take_back(needs));
            stop_slabs(4);
            pool = &world->pool;
            world_stop(many);
            world_delete(many);
        }
    }
}

/* Descriptors whose slabs are gone lie on the lists of CPUs that do nothing any more: they come up
 * again before new ones are made. */
static void test_dead_ones_of_idle_cpus_come_up(void **state)
{
    enum { NR_CPUS = 100, NR_SLABS = 30 };
    struct world *many = world_of_range(16 * MiB);
    struct mm_pool_stats stats;
    uint64_t most = 0;

    (void)state;
    world_start(many, NR_CPUS);
    pool = &many->pool;
    for (uint32_t cpu = 0; cpu < NR_CPUS; cpu++) {
        start_slabs(NR_SLABS, cpu);
        for (unsigned slab = 0; slab < NR_SLABS; slab++) {
            free_of_slab(slab, 1); /* listed, before it is empty */
        }
        stop_objects(NR_SLABS);
        assert_int_equal(mm_pool_get_stats(pool, &stats), MM_OK);
        most = cpu == 0 ? stats.nr_meta_pages : most;
        /* And a descriptor for the slab that each CPU owns. */
        assert_in_range(stats.nr_meta_pages, 1, most + 2 + cpu / 32);
    }
    stop_slabs(0);
    pool = &world->pool;
    world_stop(many);
    world_delete(many);
}

/* So are such that lie between the few of a class that are looked at before it grows. */
static void test_dead_ones_are_passed_over(void **state)
{
    enum { NR_SLABS = 60 };

    (void)state;
    start_slabs(NR_SLABS, 0);
    for (unsigned i = 0; i < NR_SLABS * A_SLAB; i++) {
        if (i % A_WORD != 0 || i / A_SLAB % 20 != 0) { /* three slabs keep their samples */
            mm_cache_free_on(&cache, 77, objects[i]);
            objects[i] = NULL;
        }
    }
    (void)mm_cache_reclaim(&cache); /* what is kept, and CPU 0's own */
    for (unsigned i = 0; i < 3 * (A_SLAB - 8); i++) {
        assert_true(take_back(1));
    }
    stop_slabs(NR_SLABS);
}

/* Another CPU has slabs that are partial, and this one has one that is less so: its own comes first. */
static void test_own_slabs_come_first(void **state)
{
    (void)state;
    start_slabs(3, 0);
    free_of_slab(0, A_SLAB / 2 + 8);
    assert_true(goes_on_with(1, 0)); /* half free: anybody's */
    for (unsigned i = 0; i < A_SLAB - 1; i++) {
        if (objects[i] == NULL) {
            objects[i] = mm_cache_alloc_on(&cache, 1);
        }
    }
    free_of_slab(1, A_SLAB / 2 - 8);
    (void)mm_cache_reclaim(&cache);
    free_of_slab(0, 20);
    assert_true(goes_on_with(1, 0));
    assert_true(goes_on_with(0, 1));
    stop_slabs(3);
}

/* The sample is the one object that is never freed. */
static void test_what_is_overlooked_is_anybodys(void **state)
{
    (void)state;
    for (unsigned cpu = 0; cpu < 2; cpu++) {
        for (unsigned much = 0; much < 2; much++) {
            start_slabs(2, 0);
            for (unsigned i = 1; i < A_SLAB / 8 + 8 * much; i++) {
                if (i % A_WORD != 0) {
                    mm_cache_free_on(&cache, 77, objects[i]);
                    objects[i] = NULL;
                }
            }
            assert_int_equal(goes_on_with(cpu, 0), much);
            stop_slabs(2);
        }
    }
}

/* Without memory, every free object is anybody's. */
static void test_others_slabs_are_the_last_resort(void **state)
{
    unsigned nr = 0;
    void *last = NULL;
    void *object;

    (void)state;
    start_slabs(2, 0);
    free_of_slab(0, 20);
    while ((object = mm_cache_alloc_on(&cache, 1)) != NULL) {
        *(void **)object = last;
        last = object;
        nr += (uintptr_t)object / MM_PAGE_SIZE == (uintptr_t)objects[A_SLAB - 1] / MM_PAGE_SIZE ? 1
                                                                                                : 0;
    }
    assert_int_equal(nr, 20);
    while (last != NULL) {
        object = last;
        last = *(void **)object;
        mm_cache_free_on(&cache, 1, object);
    }
    stop_slabs(2);
}

static unsigned nr_listed(void)
{
    const struct mmi_slab *slab = mmi_slab_of(cache.objects.all);
    unsigned nr = 0;

    for (; slab != NULL; slab = mmi_slab_of(slab->all_next)) {
        nr += slab->state == MMI_SLAB_LISTED ? 1 : 0;
    }
    return nr;
}

/* Each object is freed and had again, so that every slab is listed, and none has a free object. One
 * allocation does not go through all of them. */
static void test_in_vain_no_more_than_a_few(void **state)
{
    enum { NR_SLABS = 60, MOST = 8 };
    unsigned before;
    void *object;

    (void)state;
    start_slabs(NR_SLABS, 0);
    for (unsigned i = 0; i < NR_SLABS * A_SLAB; i++) {
        mm_cache_free_on(&cache, 0, objects[i]);
        objects[i] = mm_cache_alloc_on(&cache, 0);
    }
    before = nr_listed();
    assert_in_range(before, NR_SLABS - 2, NR_SLABS);
    object = mm_cache_alloc_on(&cache, 1);
    assert_non_null(object);
    assert_in_range(nr_listed(), before - MOST, before);
    mm_cache_free(&cache, object);
    stop_slabs(NR_SLABS);
}

/* --- a source that refuses, and then something happens ---------------------------------------- */

static struct {
    struct mm_page_range range;
    struct mm_page_source inner;
    void (*refused)(void);
} late;

static mm_status_t late_alloc(void *ctx, uint64_t nr, uint64_t align, uint32_t flags, void **out)
{
    mm_status_t status = late.inner.ops->alloc(late.inner.ctx, nr, align, flags, out);
    void (*refused)(void) = late.refused;

    (void)ctx;
    if (status != MM_OK && refused != NULL) {
        late.refused = NULL;
        refused();
    }
    return status;
}

static void late_free(void *ctx, void *pages, uint64_t nr)
{
    (void)ctx;
    late.inner.ops->free(late.inner.ctx, pages, nr);
}

static void free_first_slab(void)
{
    for (unsigned i = 0; i < A_SLAB; i++) {
        mm_cache_free(&cache, objects[i]);
        objects[i] = NULL;
    }
    (void)mm_cache_reclaim(&cache);
}

static struct mm_heap late_heap;

static void reclaim_late(void)
{
    (void)mm_heap_reclaim(&late_heap);
}

/* What was asked for came back to the source right after that had said no. */
static void test_given_back_after_the_refusal(void **state)
{
    static const struct mm_page_source_ops ops = {.alloc = late_alloc, .free = late_free};
    static _Alignas(4096) uint8_t memory[40 * MM_PAGE_SIZE];
    struct mm_pool_config config = {.nr_cpus = 2};
    struct mm_pool of_late = {0};
    unsigned nr = 0;
    void *run;

    (void)state;
    memset(&late, 0, sizeof(late));
    memset(&late_heap, 0, sizeof(late_heap));
    assert_int_equal(mm_page_range_init(&late.range, memory, sizeof(memory)), MM_OK);
    late.inner = mm_page_source_range(&late.range);
    config.source = late.inner;
    config.source.ops = &ops;
    assert_int_equal(mm_pool_init(&of_late, &config), MM_OK);
    /* A slab, of which one object is free, and not the first of a word. */
    pool = &of_late;
    start_slabs(0, 0);
    while ((objects[nr] = mm_cache_alloc_on(&cache, 0)) != NULL) {
        nr++;
    }
    mm_cache_free(&cache, objects[1]);
    objects[1] = NULL;
    late.refused = free_first_slab;
    objects[1] = mm_cache_alloc_on(&cache, 1);
    assert_non_null(objects[1]);
    assert_null(late.refused);
    stop_slabs((nr + A_SLAB - 1) / A_SLAB);
    /* A run that the heap keeps. */
    assert_int_equal(mm_heap_init(&late_heap, &of_late, NULL), MM_OK);
    run = mm_heap_alloc(&late_heap, 16 * MM_PAGE_SIZE);
    assert_non_null(run);
    mm_heap_free(&late_heap, run);
    late.refused = reclaim_late;
    for (nr = 0; late.refused != NULL; nr++) {
        objects[nr] = mm_heap_alloc(&late_heap, 15 * MM_PAGE_SIZE);
        assert_non_null(objects[nr]);
    }
    while (nr > 0) {
        mm_heap_free(&late_heap, objects[--nr]);
    }
    assert_int_equal(mm_heap_destroy(&late_heap), MM_OK);
    assert_int_equal(mm_pool_destroy(&of_late), MM_OK);
    pool = &world->pool;
}

static int start(void **state)
{
    (void)state;
    memset(&cache, 0, sizeof(cache));
    world = world_of_range(64 * MiB);
    world_start(world, 2);
    pool = &world->pool;
    return 0;
}

static int stop(void **state)
{
    (void)state;
    world_stop(world);
    world_delete(world);
    return 0;
}

int main(void)
{
#define ONE(name) cmocka_unit_test_setup_teardown(name, start, stop)
    const struct CMUnitTest tests[] = {
        ONE(test_fullest_first),
        ONE(test_others_slabs_before_new_ones),
        ONE(test_dead_ones_of_idle_cpus_come_up),
        ONE(test_dead_ones_are_passed_over),
        ONE(test_own_slabs_come_first),
        ONE(test_what_is_overlooked_is_anybodys),
        ONE(test_others_slabs_are_the_last_resort),
        ONE(test_in_vain_no_more_than_a_few),
        ONE(test_given_back_after_the_refusal),
    };
#undef ONE

    return cmocka_run_group_tests_name("heap_finding", tests, NULL, NULL);
}
