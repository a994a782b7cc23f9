// SPDX-License-Identifier: MIT
/**
 * Spaces under 2 and 4 real threads: faults in one space, faults against unmap, edits side by side,
 * clones of one parent, references. No space is in use by a CPU, so no flush is under test here:
 * what threads may tell each other through locks and counts is. Statuses and sums are exact; under
 * the thread sanitizer the order of accesses is checked too.
 */
#include "space_fixture.h"

#include <pthread.h>

#define MAX_THREADS 4u
#define AT          (32 * PAGE)
#define NR_PAGES    64u

static unsigned rounds(unsigned plain)
{
    return MM_TEST_SANITIZED ? plain / 10 : plain;
}

struct ring {
    struct fixture *f;
    struct mm_pool pool; /* the machine's counts failures, which is for one thread */
    struct mm_space *space;
    pthread_barrier_t start;
    unsigned nr_threads;
    unsigned nr_rounds;
};

struct worker {
    struct ring *ring;
    pthread_t thread;
    unsigned number;
    uint64_t seed;
    uint64_t results[MM_FAULT_COUNT];
    uint64_t nr_wrong; /* cmocka's failures do not leave a thread */
    uint64_t nr_last;
};

static void ring_start(struct ring *ring)
{
    const struct t_machine_config machine = {.threads = true};
    struct mm_pool_config pool = {.nr_cpus = 4};
    struct mm_spaces_config config;

    memset(ring, 0, sizeof(*ring));
    ring->f = fixture_start(&machine);
    assert_int_equal(mm_spaces_destroy(&ring->f->spaces), MM_OK);
    pool.platform = ring->f->m.platform;
    pool.source = mm_page_source_range(&ring->f->m.pool_range);
    assert_int_equal(mm_pool_init(&ring->pool, &pool), MM_OK);
    config = fixture_config(ring->f);
    config.pool = &ring->pool;
    assert_int_equal(mm_spaces_init(&ring->f->spaces, &config), MM_OK);
    assert_int_equal(mm_space_create(&ring->f->spaces, &ring->space), MM_OK);
}

static void ring_stop(struct ring *ring)
{
    assert_int_equal(mm_space_check(ring->space), MM_OK);
    assert_true(mm_space_put(ring->space));
    assert_int_equal(mm_spaces_destroy(&ring->f->spaces), MM_OK);
    assert_int_equal(t_machine_free_frames(&ring->f->m), ring->f->free_at_start);
    assert_int_equal(mm_pool_destroy(&ring->pool), MM_OK);
    t_machine_stop(&ring->f->m);
    free(ring->f);
}

/* Run the body on `nr` threads at once; the sums of what they counted are in `sum`. */
static void run(struct ring *ring, unsigned nr, unsigned nr_rounds, void *(*body)(void *),
                struct worker *sum)
{
    struct worker workers[MAX_THREADS];

    memset(sum, 0, sizeof(*sum));
    ring->nr_threads = nr;
    ring->nr_rounds = nr_rounds;
    assert_int_equal(pthread_barrier_init(&ring->start, NULL, nr), 0);
    for (unsigned i = 0; i < nr; i++) {
        workers[i] = (struct worker){.ring = ring, .number = i, .seed = t_seed() + i};
        assert_int_equal(pthread_create(&workers[i].thread, NULL, body, &workers[i]), 0);
    }
    for (unsigned i = 0; i < nr; i++) {
        assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
        for (unsigned k = 0; k < MM_FAULT_COUNT; k++) {
            sum->results[k] += workers[i].results[k];
        }
        sum->nr_wrong += workers[i].nr_wrong;
        sum->nr_last += workers[i].nr_last;
    }
    assert_int_equal(pthread_barrier_destroy(&ring->start), 0);
    assert_int_equal(sum->nr_wrong, 0);
}

static enum mm_fault_result fault(struct worker *w, struct mm_space *space, uint64_t at,
                                  uint32_t flags)
{
    struct mm_fault fault = {.at = mm_vaddr(at), .flags = MM_FAULT_USER | flags};
    enum mm_fault_result result = MM_FAULT_COUNT;

    if (mm_space_fault(space, &fault, &result) != MM_OK) {
        w->nr_wrong++;
        return MM_FAULT_CORRUPT;
    }
    w->results[result]++;
    return result;
}

/* --- the same pages, by all: each is zeroed once ------------------------------------------------
 */

static void *touch_all(void *argument)
{
    struct worker *w = argument;

    pthread_barrier_wait(&w->ring->start);
    for (uint64_t i = 0; i < NR_PAGES; i++) {
        uint64_t page = (i + w->number * 7) % NR_PAGES;

        (void)fault(w, w->ring->space, AT + page * PAGE, MM_FAULT_WRITE);
    }
    return NULL;
}

static void test_faults(void **state)
{
    static struct ring ring;
    struct worker sum;

    (void)state;
    ring_start(&ring);
    for (unsigned nr = 2; nr <= MAX_THREADS; nr += 2) {
        for (unsigned round = 0; round < rounds(200); round++) {
            assert_int_equal(map_at(ring.space, AT, NR_PAGES * PAGE, RW, 0), MM_OK);
            run(&ring, nr, 1, touch_all, &sum);
            assert_int_equal(sum.results[MM_FAULT_ZERO], NR_PAGES);
            assert_int_equal(sum.results[MM_FAULT_MINOR], (nr - 1) * NR_PAGES);
            assert_int_equal(resident(ring.space), NR_PAGES * PAGE);
            assert_int_equal(unmap(ring.space, AT, NR_PAGES * PAGE), MM_OK);
            assert_int_equal(resident(ring.space), 0);
        }
    }
    ring_stop(&ring);
}

/* --- faults against map, protect and unmap ------------------------------------------------------
 */

static void edit(struct worker *w, struct t_prng *prng)
{
    struct mm_space *space = w->ring->space;
    uint64_t at = AT + t_prng_below(prng, NR_PAGES - 8) * PAGE;
    uint64_t len = (1 + t_prng_below(prng, 8)) * PAGE;
    struct mm_space_request request = {
        .at = mm_vaddr(at), .len = len, .prot = RW, .flags = MM_SPACE_FIXED};
    mm_vaddr_t out;

    switch (t_prng_below(prng, 3)) {
    case 0:
        w->nr_wrong += unmap(space, at, len) != MM_OK ? 1 : 0;
        break;
    case 1: /* only this thread edits: a range that it unmapped is free */
        w->nr_wrong += unmap(space, at, len) != MM_OK ? 1 : 0;
        w->nr_wrong += mm_space_map(space, &request, &out) != MM_OK ? 1 : 0;
        break;
    default:
        (void)protect(space, at, len, t_prng_chance(prng, 1, 2) ? RW : MM_PROT_READ);
        break;
    }
}

static void *touch_or_edit(void *argument)
{
    struct worker *w = argument;
    struct t_prng prng;

    t_prng_seed(&prng, w->seed);
    pthread_barrier_wait(&w->ring->start);
    for (unsigned i = 0; i < w->ring->nr_rounds; i++) {
        uint64_t at = AT + t_prng_below(&prng, NR_PAGES) * PAGE;
        enum mm_fault_result result;

        if (w->number == 0) {
            edit(w, &prng);
            continue;
        }
        result = fault(w, w->ring->space, at, t_prng_chance(&prng, 1, 2) ? MM_FAULT_WRITE : 0);
        w->nr_wrong += result > MM_FAULT_COW && result != MM_FAULT_SIGNAL_MAP &&
                               result != MM_FAULT_SIGNAL_ACCESS
                           ? 1
                           : 0;
    }
    return NULL;
}

static void test_faults_against_edits(void **state)
{
    static struct ring ring;
    struct worker sum;

    (void)state;
    ring_start(&ring);
    for (unsigned nr = 2; nr <= MAX_THREADS; nr += 2) {
        struct mm_space_stats stats;

        /* Whoever comes first finds pages and gaps. */
        assert_int_equal(map_at(ring.space, AT, NR_PAGES / 2 * PAGE, RW, 0), MM_OK);
        run(&ring, nr, rounds(40000), touch_or_edit, &sum);
        assert_int_equal(mm_space_check(ring.space), MM_OK);
        assert_int_equal(mm_frame_check(&ring.f->m.frames), MM_OK);
        assert_true(sum.results[MM_FAULT_ZERO] > 0 && sum.results[MM_FAULT_SIGNAL_MAP] > 0);
        assert_int_equal(unmap(ring.space, AT, NR_PAGES * PAGE), MM_OK);
        assert_int_equal(mm_space_get_stats(ring.space, &stats), MM_OK);
        assert_int_equal(stats.nr_regions + stats.mapped_bytes + stats.resident_bytes, 0);
    }
    ring_stop(&ring);
}

/* --- each in a part of its own: every call succeeds ---------------------------------------------
 */

static void *live_apart(void *argument)
{
    struct worker *w = argument;
    struct mm_space *space = w->ring->space;
    /* Neighbours' regions touch, and merge. */
    uint64_t at = AT + w->number * 16 * PAGE;
    struct mm_space_request request = {
        .at = mm_vaddr(at), .len = 16 * PAGE, .prot = RW, .flags = MM_SPACE_FIXED};

    pthread_barrier_wait(&w->ring->start);
    for (unsigned i = 0; i < w->ring->nr_rounds; i++) {
        struct mm_region_info info;
        struct mm_space_stats stats;
        mm_vaddr_t out;

        w->nr_wrong += mm_space_map(space, &request, &out) != MM_OK ? 1 : 0;
        for (uint64_t page = 0; page < 16; page += 3) {
            w->nr_wrong += fault(w, space, at + page * PAGE, MM_FAULT_WRITE) != MM_FAULT_ZERO;
        }
        w->nr_wrong += protect(space, at + 4 * PAGE, 8 * PAGE, MM_PROT_READ) != MM_OK ? 1 : 0;
        w->nr_wrong += mm_space_find(space, mm_vaddr(at + 5 * PAGE), &info) != MM_OK ? 1 : 0;
        w->nr_wrong += info.prot != MM_PROT_READ || info.range.len != 8 * PAGE ? 1 : 0;
        w->nr_wrong += mm_space_get_stats(space, &stats) != MM_OK ? 1 : 0;
        w->nr_wrong += stats.resident_bytes < 6 * PAGE ? 1 : 0;
        w->nr_wrong += unmap(space, at, 16 * PAGE) != MM_OK ? 1 : 0;
    }
    return NULL;
}

static void test_edits_apart(void **state)
{
    static struct ring ring;
    struct worker sum;

    (void)state;
    ring_start(&ring);
    for (unsigned nr = 2; nr <= MAX_THREADS; nr += 2) {
        run(&ring, nr, rounds(5000), live_apart, &sum);
        assert_int_equal(nr_regions(ring.space), 0);
    }
    ring_stop(&ring);
}

/* --- clones of one parent, each written by who made it ------------------------------------------
 */

static void *clone_and_write(void *argument)
{
    struct worker *w = argument;
    struct t_machine *m = &w->ring->f->m;

    pthread_barrier_wait(&w->ring->start);
    for (unsigned i = 0; i < w->ring->nr_rounds; i++) {
        struct mm_space *child = NULL;

        if (mm_space_clone(w->ring->space, &child) != MM_OK) {
            w->nr_wrong++;
            continue;
        }
        for (uint64_t page = 0; page < NR_PAGES; page++) {
            uint64_t at = AT + page * PAGE;
            uint64_t *p;

            /* The parent keeps its reference: there is no last sharer, so each is a copy. */
            w->nr_wrong += fault(w, child, at, MM_FAULT_WRITE | MM_FAULT_PRESENT) != MM_FAULT_COW;
            p = t_machine_ptr(m, frame_at(child, at) * PAGE);
            w->nr_wrong += p[0] != page + 1 || p[511] != page + 1 ? 1 : 0;
            p[0] = w->number;
        }
        w->nr_wrong += !mm_space_put(child) ? 1 : 0;
    }
    return NULL;
}

static void test_clones(void **state)
{
    static struct ring ring;
    struct worker sum;

    (void)state;
    ring_start(&ring);
    assert_int_equal(map_at(ring.space, AT, NR_PAGES * PAGE, RW, MM_SPACE_POPULATE), MM_OK);
    for (uint64_t page = 0; page < NR_PAGES; page++) {
        uint64_t *p = t_machine_ptr(&ring.f->m, frame_at(ring.space, AT + page * PAGE) * PAGE);

        p[0] = page + 1;
        p[511] = page + 1;
    }
    for (unsigned nr = 2; nr <= MAX_THREADS; nr += 2) {
        run(&ring, nr, rounds(400), clone_and_write, &sum);
        assert_int_equal(sum.results[MM_FAULT_COW], (uint64_t)nr * rounds(400) * NR_PAGES);
    }
    for (uint64_t page = 0; page < NR_PAGES; page++) {
        uint64_t frame = frame_at(ring.space, AT + page * PAGE);

        assert_int_equal(*(uint64_t *)t_machine_ptr(&ring.f->m, frame * PAGE), page + 1);
        assert_int_equal(mm_frame_refs(&ring.f->m.frames, mm_pfn(frame)), 1);
    }
    ring_stop(&ring);
}

/* --- references: spaces are made, shared and dropped; one drop in each round is the last --------
 */

static void *share(void *argument)
{
    struct worker *w = argument;

    pthread_barrier_wait(&w->ring->start);
    for (unsigned i = 0; i < w->ring->nr_rounds; i++) {
        struct mm_space *mine = NULL;

        mm_space_get(w->ring->space);
        w->nr_wrong += mm_space_create(&w->ring->f->spaces, &mine) != MM_OK ? 1 : 0;
        w->nr_last += mm_space_put(w->ring->space) ? 1 : 0;
        w->nr_wrong += mine == NULL || !mm_space_put(mine) ? 1 : 0;
    }
    w->nr_last += mm_space_put(w->ring->space) ? 1 : 0;
    return NULL;
}

static void test_references(void **state)
{
    static struct ring ring;
    struct worker sum;

    (void)state;
    ring_start(&ring);
    for (unsigned nr = 2; nr <= MAX_THREADS; nr += 2) {
        for (unsigned i = 1; i < nr; i++) { /* one reference a thread */
            mm_space_get(ring.space);
        }
        run(&ring, nr, rounds(2000), share, &sum);
        assert_int_equal(sum.nr_last, 1);
        assert_int_equal(mm_space_create(&ring.f->spaces, &ring.space), MM_OK);
    }
    ring_stop(&ring);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_faults),      cmocka_unit_test(test_faults_against_edits),
        cmocka_unit_test(test_edits_apart), cmocka_unit_test(test_clones),
        cmocka_unit_test(test_references),
    };

    return cmocka_run_group_tests_name("space_threads", tests, NULL, NULL);
}
