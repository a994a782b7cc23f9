// SPDX-License-Identifier: MIT
/**
 * Real threads over one allocator. Each frame carries a stamp that only its holder may write, with
 * ordinary stores: a frame that is handed out twice shows a foreign stamp, and the thread sanitizer
 * sees the race. At the end all frames are back and the state agrees with itself.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "frame_rig.h"
#include "prng.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/time.h>

#define THREADS_MAX 4
#define OPERATIONS  (MM_TEST_SANITIZED ? 20000 : 200000)
#define HELD_MAX    1500

/* Small, so that memory runs out all the time, and lines are fought for. */
static const uint64_t memory[] = {1 * MIB, 3 * MIB + 4096, 8 * MIB, 8 * MIB,
                                  4 * GIB, 6 * MIB,        0,       0};
#define FRAMES_MAX ((4 * GIB + 6 * MIB) / 4096)

struct arena {
    struct rig rig;
    uint64_t *stamps; /* by frame number */
    bool counted;
};

struct worker {
    struct arena *arena;
    uint64_t id;  /* from 1 */
    uint32_t cpu; /* what it says; several may say the same */
    struct {
        uint64_t first;
        uint64_t nr;
    } held[HELD_MAX];
    size_t nr_held;
    uint64_t nr_none; /* requests that found no memory */
    uint64_t nr_wrong;
    uint64_t nr_done;
    struct t_prng prng;
};

static void stamp(struct worker *w, uint64_t first, uint64_t nr)
{
    for (uint64_t i = 0; i < nr; i++) {
        uint64_t *at = &w->arena->stamps[first + i];

        w->nr_wrong += *at != 0 ? 1 : 0;
        *at = w->id;
    }
    w->held[w->nr_held].first = first;
    w->held[w->nr_held++].nr = nr;
    w->nr_done++;
}

static void unstamp(struct worker *w, uint64_t first, uint64_t nr)
{
    for (uint64_t i = 0; i < nr; i++) {
        uint64_t *at = &w->arena->stamps[first + i];

        w->nr_wrong += *at != w->id ? 1 : 0;
        *at = 0;
    }
}

static void take(struct worker *w)
{
    struct mm_frames *frames = &w->arena->rig.frames;
    uint64_t dice = t_prng_below(&w->prng, 100);
    mm_pfn_t list[100];
    mm_pfn_t pfn;
    mm_status_t status;
    size_t nr = 1;

    if (dice < 50) {
        status = mm_frame_alloc_on(frames, w->cpu, &pfn);
    } else if (dice < 60) {
        nr = (size_t)t_prng_range(&w->prng, 1, 100);
        status = mm_frame_alloc_bulk(frames, w->cpu, list, nr, &nr);
        for (size_t i = 0; i < nr; i++) {
            stamp(w, list[i].raw, 1);
        }
        w->nr_none += status != MM_OK ? 1 : 0;
        return;
    } else if (dice < 70) {
        nr = (size_t)t_prng_range(&w->prng, 1, 200);
        status = mm_frame_alloc(frames, &(struct mm_frame_request){.nr_frames = nr, .align = 8192},
                                &pfn);
    } else if (dice < 75) {
        nr = (size_t)t_prng_range(&w->prng, 1, 64);
        pfn = mm_pfn(4 * GIB / 4096 + t_prng_below(&w->prng, 6 * MIB / 4096 - 64));
        status = mm_frame_alloc_at(frames, pfn, nr);
    } else {
        uint32_t order = (uint32_t)t_prng_below(&w->prng, dice < 97 ? 6 : 11);

        nr = (size_t)1 << order;
        status = mm_frame_alloc(frames, &(struct mm_frame_request){.order = order}, &pfn);
    }
    if (status == MM_OK) {
        stamp(w, pfn.raw, nr);
        return;
    }
    w->nr_none++;
    w->nr_wrong += status != MM_ERR_NO_MEMORY && status != MM_ERR_BUSY ? 1 : 0;
}

static void give(struct worker *w)
{
    struct mm_frames *frames = &w->arena->rig.frames;
    size_t i = (size_t)t_prng_below(&w->prng, w->nr_held);
    uint64_t first = w->held[i].first;
    uint64_t nr = w->held[i].nr;

    w->held[i] = w->held[--w->nr_held];
    unstamp(w, first, nr);
    if (nr == 1 && w->arena->counted) {
        mm_frame_get(frames, mm_pfn(first));
        w->nr_wrong += mm_frame_put(frames, mm_pfn(first)) ? 1 : 0;
        w->nr_wrong += mm_frame_put(frames, mm_pfn(first)) ? 0 : 1;
    } else if (nr == 1) {
        mm_frame_free(frames, mm_pfn(first), 0);
    } else {
        mm_frame_free_run(frames, mm_pfn(first), nr);
    }
}

static void *work(void *argument)
{
    struct worker *w = argument;

    for (unsigned i = 0; i < OPERATIONS; i++) {
        bool full = w->nr_held > HELD_MAX - 101;

        if (w->nr_held != 0 && (full || t_prng_below(&w->prng, 100) < 49)) {
            give(w);
        } else {
            take(w);
        }
    }
    while (w->nr_held > 0) {
        give(w);
    }
    return NULL;
}

static void hammer(unsigned nr_threads, uint32_t nr_cpus, uint32_t flags, const char *name)
{
    static struct arena arena;
    static struct worker workers[THREADS_MAX];
    pthread_t threads[THREADS_MAX];
    uint64_t done = 0;
    uint64_t none = 0;

    memset(workers, 0, sizeof(workers));
    rig_start(&arena.rig, memory, nr_cpus, flags);
    /* The op's answer is one for all: a wrong CPU number for most. */
    arena.stamps = calloc(FRAMES_MAX, sizeof(*arena.stamps));
    arena.counted = (flags & MM_FRAMES_REFCOUNTS) != 0;
    assert_non_null(arena.stamps);
    for (unsigned i = 0; i < nr_threads; i++) {
        workers[i].arena = &arena;
        workers[i].id = i + 1;
        workers[i].cpu = i % nr_cpus;
        t_prng_start(&workers[i].prng, name);
        for (unsigned j = 0; j <= i; j++) {
            t_prng_seed(&workers[i].prng, t_prng_u64(&workers[i].prng));
        }
        assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    }
    for (unsigned i = 0; i < nr_threads; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(workers[i].nr_wrong, 0);
        done += workers[i].nr_done;
        none += workers[i].nr_none;
    }
    print_message("%s: %u threads, %llu allocations, %llu without memory\n", name, nr_threads,
                  (unsigned long long)done, (unsigned long long)none);
    assert_true(done > OPERATIONS / 4);
    assert_int_equal(rig_stats(&arena.rig).nr_allocated, 0);
    assert_int_equal(rig_stats(&arena.rig).nr_free_2m, 8);
    rig_stop(&arena.rig);
    free(arena.stamps);
}

static void two_threads(void **state)
{
    (void)state;
    hammer(2, 2, 0, "two_threads");
}

static void four_threads(void **state)
{
    (void)state;
    hammer(4, 4, RIG_RECORDS, "four_threads");
}

/* All say that they are the same CPU. */
static void four_threads_one_cpu(void **state)
{
    (void)state;
    hammer(4, 1, 0, "four_threads_one_cpu");
}

/* --- allocate on one CPU, free on another ---------------------------------------------------- */

#define RING 256

struct pipe {
    struct arena *arena;
    uint64_t ring[RING];
    uint64_t head;
    uint64_t tail;
    uint64_t nr;
    uint64_t nr_wrong;
};

static void *produce(void *argument)
{
    struct pipe *p = argument;
    mm_pfn_t pfn;

    for (uint64_t i = 0; i < p->nr; i++) {
        while (i - __atomic_load_n(&p->tail, __ATOMIC_ACQUIRE) == RING) {
            (void)sched_yield();
        }
        while (mm_frame_alloc_on(&p->arena->rig.frames, 0, &pfn) != MM_OK) {
            p->nr_wrong++; /* there are many more frames than places in the ring */
        }
        p->nr_wrong += p->arena->stamps[pfn.raw] != 0 ? 1 : 0;
        p->arena->stamps[pfn.raw] = i + 1;
        p->ring[i % RING] = pfn.raw;
        __atomic_store_n(&p->head, i + 1, __ATOMIC_RELEASE);
    }
    return NULL;
}

static void *consume(void *argument)
{
    struct pipe *p = argument;

    for (uint64_t i = 0; i < p->nr; i++) {
        uint64_t pfn;

        while (__atomic_load_n(&p->head, __ATOMIC_ACQUIRE) == i) {
            (void)sched_yield();
        }
        pfn = p->ring[i % RING];
        if (p->arena->stamps[pfn] != i + 1) {
            __atomic_fetch_add(&p->nr_wrong, 1, __ATOMIC_RELAXED);
        }
        p->arena->stamps[pfn] = 0;
        mm_frame_free(&p->arena->rig.frames, mm_pfn(pfn), 0);
        __atomic_store_n(&p->tail, i + 1, __ATOMIC_RELEASE);
    }
    return NULL;
}

static void from_one_cpu_to_the_other(void **state)
{
    static struct arena arena;
    static struct pipe p;
    pthread_t threads[2];

    (void)state;
    rig_start(&arena.rig, memory, 2, 0);
    arena.stamps = calloc(FRAMES_MAX, sizeof(*arena.stamps));
    assert_non_null(arena.stamps);
    p = (struct pipe){.arena = &arena, .nr = OPERATIONS * 2};
    assert_int_equal(pthread_create(&threads[0], NULL, produce, &p), 0);
    assert_int_equal(pthread_create(&threads[1], NULL, consume, &p), 0);
    assert_int_equal(pthread_join(threads[0], NULL), 0);
    assert_int_equal(pthread_join(threads[1], NULL), 0);
    assert_int_equal(p.nr_wrong, 0);
    assert_int_equal(rig_stats(&arena.rig).nr_allocated, 0);
    rig_stop(&arena.rig);
    free(arena.stamps);
}

/* --- no memory is the truth ------------------------------------------------------------------ */

#define SHARE 640

struct sharer {
    struct arena *arena;
    uint32_t cpu;
    uint64_t nr_none;
    struct t_prng prng;
};

/* Hold no more than a share of memory: then there is always a frame for who asks. */
static void *hold_share(void *argument)
{
    struct sharer *s = argument;
    mm_pfn_t held[SHARE];
    size_t nr = 0;

    for (unsigned i = 0; i < OPERATIONS; i++) {
        if (nr == SHARE || (nr > 0 && t_prng_below(&s->prng, SHARE / 8) == 0)) {
            size_t back = (size_t)t_prng_range(&s->prng, 1, nr < 8 ? nr : 8);

            t_prng_shuffle(&s->prng, held, nr, sizeof(held[0]));
            while (back-- > 0) {
                mm_frame_free(&s->arena->rig.frames, held[--nr], 0);
            }
        } else if (mm_frame_alloc_on(&s->arena->rig.frames, s->cpu, &held[nr]) == MM_OK) {
            nr++;
        } else {
            s->nr_none++;
        }
    }
    mm_frame_free_bulk(&s->arena->rig.frames, held, nr);
    return NULL;
}

static void never_without_memory(void **state)
{
    static const uint64_t share_of_memory[] = {1 * MIB, (uint64_t)SHARE * THREADS_MAX * 4096, 0, 0};
    static struct arena arena;
    static struct sharer sharers[THREADS_MAX];
    pthread_t threads[THREADS_MAX];

    (void)state;
    rig_start(&arena.rig, share_of_memory, THREADS_MAX, 0);
    for (unsigned i = 0; i < THREADS_MAX; i++) {
        sharers[i] = (struct sharer){.arena = &arena, .cpu = i};
        t_prng_start(&sharers[i].prng, "never_without_memory");
        t_prng_seed(&sharers[i].prng, t_prng_u64(&sharers[i].prng) + i);
        assert_int_equal(pthread_create(&threads[i], NULL, hold_share, &sharers[i]), 0);
    }
    for (unsigned i = 0; i < THREADS_MAX; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(sharers[i].nr_none, 0);
    }
    assert_int_equal(rig_stats(&arena.rig).nr_failed, 0);
    rig_stop(&arena.rig);
}

/* --- a claim that is interrupted ------------------------------------------------------------- */

#define LONG_RUN 1024
#define LAST     (4 * GIB / 4096 + LONG_RUN - 1)

static struct mm_frames *interrupted;
static volatile sig_atomic_t nr_interrupts;
static bool interrupt_holds;

/* An interrupt handler that uses the allocator, in the middle of whatever it was doing: it takes
 * the last frame of the run if it is still free, and gives it back the next time. */
static void interrupt(int signal)
{
    (void)signal;
    nr_interrupts++;
    if (interrupt_holds) {
        mm_frame_free(interrupted, mm_pfn(LAST), 0);
        interrupt_holds = false;
    } else {
        interrupt_holds = mm_frame_alloc_at(interrupted, mm_pfn(LAST), 1) == MM_OK;
    }
}

/* A claim of many rows finds its last frame taken, and gives all of them up again. */
static void claim_interrupted(void **state)
{
    struct itimerval often = {.it_interval = {.tv_usec = 50}, .it_value = {.tv_usec = 50}};
    struct itimerval never = {.it_value = {0}};
    struct sigaction action = {.sa_handler = interrupt, .sa_flags = SA_RESTART};
    struct sigaction before;
    static struct rig rig;
    uint64_t taken = 0;
    uint64_t undone = 0;

    (void)state;
    rig_start(&rig, memory, 2, 0);
    interrupted = &rig.frames;
    nr_interrupts = 0;
    assert_int_equal(sigaction(SIGALRM, &action, &before), 0);
    assert_int_equal(setitimer(ITIMER_REAL, &often, NULL), 0);
    while (nr_interrupts < 20000 && undone < 100) {
        if (mm_frame_alloc_at(&rig.frames, mm_pfn(4 * GIB / 4096), LONG_RUN) == MM_OK) {
            taken++;
            mm_frame_free_run(&rig.frames, mm_pfn(4 * GIB / 4096), LONG_RUN);
        }
        undone = __atomic_load_n(&rig.frames.unsettled, __ATOMIC_RELAXED) >> 32;
    }
    assert_int_equal(setitimer(ITIMER_REAL, &never, NULL), 0);
    assert_int_equal(sigaction(SIGALRM, &before, NULL), 0);
    if (interrupt_holds) {
        interrupt(SIGALRM);
    }
    print_message("%llu runs, %d interrupts, %llu claims undone\n", (unsigned long long)taken,
                  (int)nr_interrupts, (unsigned long long)undone);
    assert_true(taken > 0);
    assert_int_equal(rig_stats(&rig).nr_allocated, 0);
    rig_stop(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_threads),          cmocka_unit_test(four_threads),
        cmocka_unit_test(four_threads_one_cpu), cmocka_unit_test(from_one_cpu_to_the_other),
        cmocka_unit_test(never_without_memory), cmocka_unit_test(claim_interrupted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
