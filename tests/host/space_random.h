// SPDX-License-Identifier: MIT
/**
 * The random test of spaces: worlds, running one, and making a failure shorter.
 *
 * Each operation draws from a generator of its own, seeded by the world and the operation's number.
 * So operations can be left out, and the others still mean what they meant: that is how a failure
 * is made shorter. MM_TEST_SHRINK=1 does it, in child processes, and prints what is left.
 */
#ifndef SPACE_RANDOM_H
#define SPACE_RANDOM_H

#include "space_stream_life.h"

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

struct setup {
    const char *name;
    unsigned nr_cpus;
    bool la57;
    bool short_of_memory; /* too few frames for all, from the start */
    uint64_t ram_len;
    uint32_t divisor; /* of the operations: this world gets that part */
    struct st_world world;
};

struct run {
    const struct setup *setup;
    uint64_t seed;
    uint64_t nr_ops;
    const uint8_t *left_out; /* by operation; NULL: none */
    bool closely;            /* compare after each */
    volatile uint64_t *reached;
    struct t_prng prng; /* of the operation */
    char where[96];
};

static inline uint64_t run_draw(void *ctx, uint64_t below)
{
    struct run *run = ctx;

    return t_prng_below(&run->prng, below);
}

static inline const char *run_where(void *ctx)
{
    struct run *run = ctx;

    (void)snprintf(run->where, sizeof(run->where),
                   "world \"%s\"; MM_TEST_SEED, and MM_TEST_TRACE=1 or MM_TEST_SHRINK=1",
                   run->setup->name);
    return run->where;
}

static inline struct fixture *run_fixture(const struct setup *setup)
{
    const struct t_machine_config machine = {.ram_len = setup->ram_len,
                                             .pool_len = UINT64_C(8) << 20,
                                             .nr_cpus = setup->nr_cpus,
                                             .user_len =
                                                 setup->la57 ? UINT64_C(1) << 56 : T_USER_LEN,
                                             .tlb = setup->world.tlb,
                                             .la57 = setup->la57};
    struct fixture *f = calloc(1, sizeof(*f));
    struct mm_spaces_config config;

    assert_non_null(f);
    t_machine_start(&f->m, &machine);
    f->free_at_start = t_machine_free_frames(&f->m);
    config = fixture_config(f);
    config.commit = setup->world.commit;
    config.commit_pages = setup->world.commit_pages;
    assert_int_equal(mm_spaces_init(&f->spaces, &config), MM_OK);
    return f;
}

/* Nothing cached leads elsewhere than the tables do. A right too few may be cached: a copy becomes
 * writable after the flush, and the fault that follows is spurious. */
static inline void run_sweep(struct fixture *f)
{
    const char *wrong = t_cpus_sweep(&f->m.cpus, T_SWEEP_SAFE);

    if (wrong != NULL) {
        fail_msg("%s", wrong);
    }
}

/* One world from its first operation to its last. The caller looks at what has happened. */
static inline void run_world(struct run *run, struct stream *s)
{
    const struct setup *setup = run->setup;
    struct fixture *f = run_fixture(setup);

    memset(s, 0, sizeof(*s));
    s->draw = run_draw;
    s->ctx = run;
    s->where = run_where;
    s->trace = getenv("MM_TEST_TRACE") != NULL && run->reached == NULL;
    st_begin(s, f, &setup->world);
    if (setup->short_of_memory) {
        t_machine_leave_frames(&f->m, 400);
    }
    t_prng_seed(&run->prng, run->seed);
    t_cpus_noise(&f->m.cpus, run->seed, 16);
    st_op_create(s, 0);
    for (s->op = 1; s->op <= run->nr_ops; s->op++) {
        if (run->left_out != NULL && run->left_out[s->op] != 0) {
            continue;
        }
        if (run->reached != NULL) {
            *run->reached = s->op;
        }
        t_prng_seed(&run->prng, run->seed + s->op * UINT64_C(0x9e3779b97f4a7c15));
        st_step(s);
        if (s->op % 16 == 0 || run->closely) {
            run_sweep(f);
        }
        if (s->op % 250 == 0 || run->closely) {
            st_same_all(s);
        }
    }
    st_same_all(s);
    st_end(s);
    for (unsigned i = 0; i < f->m.cpus.nr; i++) {
        t_cpu_drop_all(&f->m.cpus.cpu[i]); /* what is asked there is more than was promised here */
    }
    fixture_stop(f);
}

/* --- making a failure shorter ----------------------------------------------------------------- */

struct shrink {
    struct run run;
    uint8_t *left_out;
    uint64_t *reached; /* shared with the child */
    bool loud;
};

/* Whether it fails, in a child. */
static inline bool shrink_fails(struct shrink *shrink)
{
    int status = 0;
    pid_t child;

    (void)fflush(NULL);
    child = fork();
    if (child == 0) {
        struct stream *s = calloc(1, sizeof(*s));

        (void)setenv("CMOCKA_TEST_ABORT", "1", 1);
        if (!shrink->loud) {
            (void)!freopen("/dev/null", "w", stderr);
            (void)!freopen("/dev/null", "w", stdout);
        }
        if (s != NULL) {
            shrink->run.reached = shrink->loud ? NULL : shrink->reached;
            run_world(&shrink->run, s);
        }
        _exit(0);
    }
    (void)waitpid(child, &status, 0);
    return status != 0;
}

/* Leave out what can be left out, in pieces that become smaller. */
static inline void shrink_all(struct shrink *shrink)
{
    uint8_t *kept = calloc(shrink->run.nr_ops + 2, 1);

    assert_non_null(kept);
    for (uint64_t piece = shrink->run.nr_ops / 2; piece > 0; piece /= 2) {
        for (uint64_t at = 1; at <= shrink->run.nr_ops; at += piece) {
            uint64_t end =
                at + piece - 1 < shrink->run.nr_ops ? at + piece - 1 : shrink->run.nr_ops;
            bool any = false;

            for (uint64_t op = at; op <= end; op++) {
                any = any || shrink->left_out[op] == 0;
            }
            if (!any) {
                continue;
            }
            memcpy(kept, shrink->left_out, shrink->run.nr_ops + 1);
            memset(shrink->left_out + at, 1, end - at + 1);
            if (shrink_fails(shrink)) {
                shrink->run.nr_ops =
                    *shrink->reached < shrink->run.nr_ops ? *shrink->reached : shrink->run.nr_ops;
            } else {
                memcpy(shrink->left_out, kept, shrink->run.nr_ops + 1);
            }
        }
    }
    free(kept);
}

/* The world fails: print the shortest way there that was found. */
static inline void shrink_world(const struct run *run)
{
    struct shrink shrink = {.run = *run};

    shrink.reached = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    shrink.left_out = calloc(run->nr_ops + 2, 1);
    assert_true(shrink.reached != MAP_FAILED && shrink.left_out != NULL);
    shrink.run.left_out = shrink.left_out;
    if (!shrink_fails(&shrink)) {
        return;
    }
    shrink.run.nr_ops = *shrink.reached;
    shrink_all(&shrink);
    shrink.run.closely = true; /* few are left */
    shrink_all(&shrink);
    shrink.loud = true;
    (void)setenv("MM_TEST_TRACE", "1", 1);
    (void)shrink_fails(&shrink);
    free(shrink.left_out);
}

#endif
