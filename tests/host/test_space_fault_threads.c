// SPDX-License-Identifier: MIT
/**
 * Faults of 2 and 4 real threads in one space, each with a CPU number of its own: on the same pages
 * and on different ones, beside clones, growing stacks and leaves of 2 MiB. However they meet, each
 * page is filled once and copied once, each fault is counted once, and each charge comes back.
 */
#include "space_fixture.h"

#include <pthread.h>

#define MAX_THREADS 4u
#define AT          (UINT64_C(16) << 20)
#define NR_PAGES    64u

static unsigned rounds(unsigned plain)
{
    return MM_TEST_SANITIZED ? plain / 10 : plain;
}

static __thread unsigned number; /* of the thread, and of the CPU */

static uint32_t cpu_number(void *ctx)
{
    (void)ctx;
    return number;
}

static struct mm_platform_ops ops;

struct ring {
    struct fixture *f;
    struct mm_space_group group;
    struct mm_space *space;
    pthread_barrier_t start;
    unsigned nr_rounds;
};

struct worker {
    struct ring *ring;
    pthread_t thread;
    unsigned number;
    uint64_t results[MM_FAULT_COUNT];
    uint64_t nr_wrong; /* cmocka's failures do not leave a thread */
};

static void ring_start(struct ring *ring, uint64_t limit)
{
    const struct t_machine_config machine = {.threads = true, .ram_len = UINT64_C(16) << 20};
    const struct mm_space_limits limits = {.resident_bytes = limit};
    const struct mm_space_config config = {.layout = {.stack_gap = PAGE},
                                           .group = limit == 0 ? NULL : &ring->group};

    memset(ring, 0, sizeof(*ring));
    ring->f = fixture_start(&machine);
    ops = *ring->f->m.platform.ops;
    ops.cpu_number = cpu_number;
    ring->f->spaces.platform.ops = &ops;
    assert_int_equal(mm_space_group_init(&ring->group, &limits), MM_OK);
    assert_int_equal(mm_space_create_with(&ring->f->spaces, &config, &ring->space), MM_OK);
}

static void ring_stop(struct ring *ring)
{
    struct mm_space_group_stats stats;

    assert_int_equal(mm_space_check(ring->space), MM_OK);
    assert_true(mm_space_put(ring->space));
    assert_int_equal(mm_space_group_get_stats(&ring->group, &stats), MM_OK);
    assert_int_equal(stats.resident_bytes + stats.mapped_bytes, 0);
    assert_int_equal(mm_space_group_destroy(&ring->group), MM_OK);
    fixture_stop(ring->f);
}

struct start {
    struct worker *worker;
    void (*body)(struct worker *);
};

static void *begin(void *argument)
{
    const struct start *start = argument;

    number = start->worker->number;
    pthread_barrier_wait(&start->worker->ring->start);
    start->body(start->worker);
    return NULL;
}

/* Run the body on `nr` threads at once; the sums of what they were answered are in `sum`, and agree
 * with the space's own. */
static void run(struct ring *ring, unsigned nr, void (*body)(struct worker *), struct worker *sum)
{
    struct worker workers[MAX_THREADS];
    struct start starts[MAX_THREADS];
    struct mm_space_stats before;
    struct mm_space_stats after;

    memset(sum, 0, sizeof(*sum));
    assert_int_equal(mm_space_get_stats(ring->space, &before), MM_OK);
    assert_int_equal(pthread_barrier_init(&ring->start, NULL, nr), 0);
    for (unsigned i = 0; i < nr; i++) {
        workers[i] = (struct worker){.ring = ring, .number = i};
        starts[i] = (struct start){&workers[i], body};
        assert_int_equal(pthread_create(&workers[i].thread, NULL, begin, &starts[i]), 0);
    }
    for (unsigned i = 0; i < nr; i++) {
        assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
        for (unsigned k = 0; k < MM_FAULT_COUNT; k++) {
            sum->results[k] += workers[i].results[k];
        }
        sum->nr_wrong += workers[i].nr_wrong;
    }
    assert_int_equal(pthread_barrier_destroy(&ring->start), 0);
    assert_int_equal(sum->nr_wrong, 0);
    assert_int_equal(mm_space_get_stats(ring->space, &after), MM_OK);
    for (unsigned k = 0; k < MM_FAULT_COUNT; k++) {
        assert_int_equal(after.nr_faults[k] - before.nr_faults[k], sum->results[k]);
    }
}

static enum mm_fault_result fault(struct worker *w, uint64_t at, uint32_t flags)
{
    struct mm_fault fault = {.at = mm_vaddr(at), .flags = MM_FAULT_USER | flags};
    enum mm_fault_result result = MM_FAULT_COUNT;

    if (mm_space_fault(w->ring->space, &fault, &result) != MM_OK) {
        w->nr_wrong++;
        return MM_FAULT_CORRUPT;
    }
    w->results[result]++;
    return result;
}

static uint64_t nr_copied(struct mm_space *s, uint64_t *nr_zero_page)
{
    struct mm_space_stats stats;

    assert_int_equal(mm_space_get_stats(s, &stats), MM_OK);
    *nr_zero_page = stats.nr_zero_page;
    return stats.nr_faults[MM_FAULT_COW] - stats.nr_reused;
}

/* --- the same pages --------------------------------------------------------------------------- */

static void read_and_write_all(struct worker *w)
{
    for (uint64_t i = 0; i < NR_PAGES; i++) {
        uint64_t page = (i + w->number * 7) % NR_PAGES;

        w->nr_wrong += fault(w, AT + page * PAGE, 0) > MM_FAULT_ZERO ? 1 : 0;
        w->nr_wrong += fault(w, AT + page * PAGE, MM_FAULT_WRITE) > MM_FAULT_COW ? 1 : 0;
        w->nr_wrong += fault(w, AT + page * PAGE, MM_FAULT_WRITE) != MM_FAULT_MINOR ? 1 : 0;
    }
}

static void write_all(struct worker *w)
{
    for (uint64_t i = 0; i < NR_PAGES; i++) {
        w->nr_wrong += fault(w, AT + i * PAGE, MM_FAULT_WRITE) > MM_FAULT_COW ? 1 : 0;
    }
}

/* Each is filled once; what was the zero page is copied once, and after a clone all are, once. */
static void test_same_pages(void **state)
{
    static struct ring ring;
    struct worker sum;
    uint64_t zero_pages[2];
    uint64_t copied[3];

    (void)state;
    ring_start(&ring, UINT64_C(1) << 30);
    for (unsigned i = 0; i < rounds(400); i++) {
        unsigned nr = i % 2 == 0 ? 2 : MAX_THREADS;
        struct mm_space *child;

        assert_int_equal(map_at(ring.space, AT, NR_PAGES * PAGE, RW, 0), MM_OK);
        copied[0] = nr_copied(ring.space, &zero_pages[0]);
        run(&ring, nr, read_and_write_all, &sum);
        copied[1] = nr_copied(ring.space, &zero_pages[1]);
        assert_int_equal(sum.results[MM_FAULT_ZERO], NR_PAGES);
        assert_int_equal(copied[1] - copied[0], zero_pages[1] - zero_pages[0]);
        assert_int_equal(resident(ring.space), NR_PAGES * PAGE);
        child = clone_of(ring.space);
        run(&ring, nr, write_all, &sum);
        copied[2] = nr_copied(ring.space, &zero_pages[1]);
        assert_int_equal(copied[2] - copied[1], NR_PAGES);
        assert_int_equal(sum.results[MM_FAULT_ZERO], 0);
        for (uint64_t page = 0; page < NR_PAGES; page++) {
            uint64_t frame = frame_at(ring.space, AT + page * PAGE);

            assert_int_equal(mm_frame_refs(&ring.f->m.frames, mm_pfn(frame)), 1);
            assert_int_not_equal(frame, frame_at(child, AT + page * PAGE));
        }
        assert_true(mm_space_put(child));
        assert_int_equal(unmap(ring.space, AT, NR_PAGES * PAGE), MM_OK);
        assert_int_equal(resident(ring.space), 0);
    }
    ring_stop(&ring);
}

/* --- different pages -------------------------------------------------------------------------- */

static void write_own(struct worker *w)
{
    for (uint64_t i = 0; i < NR_PAGES; i++) {
        enum mm_fault_result got =
            fault(w, AT + (w->number * NR_PAGES + i) * PAGE, i % 4 == 0 ? 0 : MM_FAULT_WRITE);

        w->nr_wrong += got != MM_FAULT_ZERO && got != MM_FAULT_LIMIT ? 1 : 0;
    }
}

static void test_different_pages(void **state)
{
    static struct ring ring;
    struct worker sum;

    (void)state;
    ring_start(&ring, 0);
    for (unsigned i = 0; i < rounds(400); i++) {
        unsigned nr = i % 2 == 0 ? 2 : MAX_THREADS;

        assert_int_equal(map_at(ring.space, AT, nr * NR_PAGES * PAGE, RW, 0), MM_OK);
        run(&ring, nr, write_own, &sum);
        assert_int_equal(sum.results[MM_FAULT_ZERO], nr * NR_PAGES);
        assert_int_equal(resident(ring.space), nr * NR_PAGES * PAGE);
        assert_int_equal(unmap(ring.space, AT, nr * NR_PAGES * PAGE), MM_OK);
    }
    ring_stop(&ring);
}

/* As many as the limit has room for, and not one more. */
static void test_limit(void **state)
{
    static struct ring ring;
    struct mm_space_group_stats stats;
    struct worker sum;

    (void)state;
    ring_start(&ring, 100 * PAGE);
    for (unsigned i = 0; i < rounds(200); i++) {
        unsigned nr = i % 2 == 0 ? 2 : MAX_THREADS;

        assert_int_equal(map_at(ring.space, AT, nr * NR_PAGES * PAGE, RW, 0), MM_OK);
        run(&ring, nr, write_own, &sum);
        assert_int_equal(sum.results[MM_FAULT_ZERO], 100);
        assert_int_equal(sum.results[MM_FAULT_LIMIT], nr * NR_PAGES - 100);
        assert_int_equal(mm_space_group_get_stats(&ring.group, &stats), MM_OK);
        assert_int_equal(stats.resident_bytes, 100 * PAGE);
        assert_int_equal(unmap(ring.space, AT, nr * NR_PAGES * PAGE), MM_OK);
    }
    ring_stop(&ring);
}

/* --- what needs the lock alone ---------------------------------------------------------------- */

static void grow_and_fill(struct worker *w)
{
    for (uint64_t i = 0; i < NR_PAGES; i++) {
        uint64_t down = (i + 1) * PAGE - w->number * 8 - 8;
        enum mm_fault_result got = fault(w, AT - down - 1, MM_FAULT_WRITE);

        w->nr_wrong += got != MM_FAULT_ZERO && got != MM_FAULT_MINOR ? 1 : 0;
        got = fault(w, AT + i * 8 * PAGE, MM_FAULT_WRITE);
        w->nr_wrong += got != MM_FAULT_HUGE && got != MM_FAULT_MINOR ? 1 : 0;
    }
}

/* All push one stack down, and all want one leaf of 2 MiB. */
static void test_stack_and_large_leaf(void **state)
{
    static struct ring ring;
    struct mm_space_stats stats;
    struct worker sum;

    (void)state;
    ring_start(&ring, UINT64_C(1) << 30);
    for (unsigned i = 0; i < rounds(100); i++) {
        unsigned nr = i % 2 == 0 ? 2 : MAX_THREADS;

        assert_int_equal(map_at(ring.space, AT, UINT64_C(2) << 20, RW, MM_SPACE_HUGE), MM_OK);
        assert_int_equal(map_at(ring.space, AT - PAGE, PAGE, RW, MM_SPACE_STACK), MM_OK);
        run(&ring, nr, grow_and_fill, &sum);
        assert_int_equal(sum.results[MM_FAULT_HUGE], 1);
        assert_int_equal(sum.results[MM_FAULT_ZERO], NR_PAGES);
        assert_int_equal(mm_space_get_stats(ring.space, &stats), MM_OK);
        assert_int_equal(stats.nr_stack_growths, (uint64_t)(i + 1) * (NR_PAGES - 1));
        assert_int_equal(stats.resident_bytes, (UINT64_C(2) << 20) + NR_PAGES * PAGE);
        assert_int_equal(unmap(ring.space, AT - NR_PAGES * PAGE, UINT64_C(4) << 20), MM_OK);
    }
    ring_stop(&ring);
}

/* --- fork ------------------------------------------------------------------------------------- */

static void clone_or_write(struct worker *w)
{
    for (unsigned i = 0; i < w->ring->nr_rounds; i++) {
        struct mm_space *child = NULL;

        if (w->number != 0) {
            uint64_t page = (i * 13 + w->number) % NR_PAGES;

            w->nr_wrong += fault(w, AT + page * PAGE, MM_FAULT_WRITE) > MM_FAULT_COW ? 1 : 0;
            continue;
        }
        w->nr_wrong += mm_space_clone(w->ring->space, &child) != MM_OK ? 1 : 0;
        /* A frame taken while it was being shared again would be writable in one of the two. */
        w->nr_wrong += mm_space_check(child) != MM_OK ? 1 : 0;
        w->nr_wrong += mm_space_check(w->ring->space) != MM_OK ? 1 : 0;
        w->nr_wrong += !mm_space_put(child) ? 1 : 0;
    }
}

/* Hazard 22: who takes a frame that is its own, and who shares it again. */
static void test_reuse_and_fork(void **state)
{
    static struct ring ring;
    struct worker sum;

    (void)state;
    ring_start(&ring, 0);
    assert_int_equal(map_at(ring.space, AT, NR_PAGES * PAGE, RW, MM_SPACE_POPULATE), MM_OK);
    ring.nr_rounds = rounds(3000);
    for (unsigned nr = 2; nr <= MAX_THREADS; nr += 2) {
        run(&ring, nr, clone_or_write, &sum);
        assert_int_equal(sum.results[MM_FAULT_ZERO], 0);
        assert_int_equal(resident(ring.space), NR_PAGES * PAGE);
    }
    ring_stop(&ring);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_pages),     cmocka_unit_test(test_different_pages),
        cmocka_unit_test(test_limit),          cmocka_unit_test(test_stack_and_large_leaf),
        cmocka_unit_test(test_reuse_and_fork),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
