// SPDX-License-Identifier: MIT
/**
 * The preloaded malloc itself: what POSIX says of each call, threads, fork() among threads, objects
 * that grow and shrink, memory that goes back to the system. What it says of a mistake is in
 * test_mistakes.c.
 *
 * Runs with LD_PRELOAD set to the library, and fails without.
 */
#define _GNU_SOURCE

#include "test_preload.h"
#include "prng.h"

#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static uint64_t (*held_pages)(void);

/* --- contracts -------------------------------------------------------------------------------- */

static int is_aligned(const void *object, size_t align)
{
    return (uintptr_t)object % align == 0;
}

static void test_contracts(void **state)
{
    size_t huge = opaque(SIZE_MAX);
    void *nothing = malloc(opaque(0));
    void *nothing_else = malloc(opaque(0));
    void *out = &huge;
    char *text;

    (void)state;
    assert_non_null(nothing);
    assert_non_null(nothing_else);
    assert_ptr_not_equal(nothing, nothing_else);
    free(nothing);
    free(nothing_else);
    free(NULL);

    for (size_t size = huge; size > huge / 4; size -= huge / 16) {
        errno = 0;
        assert_null(malloc(size));
        assert_int_equal(errno, ENOMEM);
    }
    errno = 0;
    assert_null(calloc(huge / 2 + 2, 2));
    assert_int_equal(errno, ENOMEM);
    text = strcpy(malloc(10), "as it was");
    errno = 0;
    assert_null(realloc(alias(text), huge - 4096));
    assert_int_equal(errno, ENOMEM);
    errno = 0;
    assert_null(reallocarray(alias(text), huge / 2 + 2, 2));
    assert_int_equal(errno, ENOMEM);
    assert_string_equal(text, "as it was");
    assert_true(malloc_usable_size(text) >= 10);
    errno = EDOM;
    free(text);
    assert_int_equal(errno, EDOM);
    assert_int_equal(malloc_usable_size(NULL), 0);
    text = realloc(NULL, 7);
    assert_non_null(text);
    assert_null(realloc(text, opaque(0)));

    assert_int_equal(posix_memalign(&out, opaque(24), 8), EINVAL);
    assert_int_equal(posix_memalign(&out, opaque(4), 8), EINVAL);
    assert_int_equal(posix_memalign(&out, opaque(0), 8), EINVAL);
    assert_int_equal(posix_memalign(&out, 64, huge - 8), ENOMEM);
    assert_ptr_equal(out, &huge);
    errno = 0;
    assert_null(aligned_alloc(opaque(24), 48));
    assert_int_equal(errno, EINVAL);
}

static void test_alignment(void **state)
{
    (void)state;
    for (size_t align = 8; align <= 2 * MiB; align *= 2) {
        for (size_t size = 1; size <= 20000; size = size * 3 + 1) {
            void *all[4] = {NULL};

            assert_int_equal(posix_memalign(&all[0], align, size), 0);
            all[1] = aligned_alloc(align, size);
            all[2] = memalign(align == 8 ? 8 : align - 1, size);
            all[3] = malloc(size);
            for (unsigned i = 0; i < 4; i++) {
                assert_true(is_aligned(all[i], i < 3 ? align : 16));
                assert_true(malloc_usable_size(all[i]) >= size);
                memset(all[i], 0x5a, size);
            }
            for (unsigned i = 0; i < 4; i++) {
                free(all[i]);
            }
        }
    }
    for (unsigned i = 0; i < 2; i++) {
        void *pages = i == 0 ? valloc(100) : pvalloc(100);

        assert_true(is_aligned(pages, 4096));
        assert_true(malloc_usable_size(pages) >= (i == 0 ? 100 : 4096));
        free(pages);
    }
}

/** Zero, also where something else lay before, and where the kernel gave the pages. */
static void test_zeroed(void **state)
{
    (void)state;
    for (size_t size = 1; size < 20 * MiB; size = size * 2 + 7) {
        for (unsigned round = 0; round < 3; round++) {
            unsigned char *object = calloc(size, 1);

            for (size_t i = 0; i < size; i++) {
                if (object[i] != 0) {
                    fail_msg("byte %zu of %zu is %u", i, size, object[i]);
                }
            }
            memset(object, 0xff, size);
            free(object);
        }
    }
}

/* --- large objects, and what goes back -------------------------------------------------------- */

static size_t resident(void)
{
    FILE *file = fopen("/proc/self/statm", "r");
    unsigned long long all;
    unsigned long long here;

    assert_non_null(file);
    assert_int_equal(fscanf(file, "%llu %llu", &all, &here), 2);
    fclose(file);
    return here * 4096;
}

static void test_large(void **state)
{
    size_t before = resident();
    char *object = malloc(300 * MiB);
    char *other;

    (void)state;
    assert_non_null(object);
    for (size_t at = 0; at < 300 * MiB; at += MiB) {
        object[at] = (char)(at / MiB);
    }
    assert_true(resident() < before + 20 * MiB); /* touched is what is held */
    object = realloc(object, 500 * MiB);
    assert_non_null(object);
    for (size_t at = 0; at < 300 * MiB; at += MiB) {
        assert_int_equal(object[at], (char)(at / MiB));
    }
    object = realloc(object, 100 * MiB);
    assert_non_null(object);
    assert_int_equal(object[99 * MiB], 99);
    other = malloc(5 * 1024 * MiB); /* above the first window of the arena */
    if (other != NULL) {
        other[5 * 1024 * MiB - 1] = 1;
    }
    free(other);
    free(object);
    assert_true(resident() < before + 20 * MiB);
}

static void test_given_back(void **state)
{
    enum { NR = 60000 };
    struct t_prng prng;
    void **objects = calloc(NR, sizeof(*objects));
    size_t before = resident();
    uint64_t held = held_pages();
    size_t full;

    (void)state;
    t_prng_seed(&prng, 1);
    for (unsigned i = 0; i < NR; i++) {
        size_t size = (size_t)1 << t_prng_below(&prng, 13);

        size += t_prng_below(&prng, size);
        objects[i] = memset(malloc(size), 1, size);
    }
    full = resident();
    assert_true(full > before + 32 * MiB);
    for (unsigned i = 0; i < NR; i++) {
        free(objects[i]);
    }
    assert_true(malloc_trim(0));
    /* What describes the slabs stays. */
    assert_true(held_pages() < held + (full - before) / 4096 / 16);
    assert_true(resident() < before + (full - before) / 16);
    free(objects);
}

/* --- growing and shrinking -------------------------------------------------------------------- */

static void fill(unsigned char *object, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++) {
        object[i] = (unsigned char)(i * 7 + i / 251);
    }
}

static void expect(const unsigned char *object, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (object[i] != (unsigned char)(i * 7 + i / 251)) {
            fail_msg("byte %zu of %zu is lost", i, len);
        }
    }
}

static void test_resizing(void **state)
{
    struct t_prng prng;
    unsigned char *object = NULL;
    size_t size = 0;

    (void)state;
    t_prng_seed(&prng, 2);
    for (size_t grown = 1; grown < 40 * MiB; grown += grown / 2 + 1) { /* as vectors grow */
        object = realloc(object, grown);
        fill(object, size, grown);
        size = grown;
    }
    expect(object, size);
    while (size > 1) {
        size -= size / 3 + 1 < size ? size / 3 + 1 : size - 1;
        object = realloc(object, size);
        expect(object, size > 4096 ? 4096 : size);
    }
    for (unsigned i = 0; i < 20000; i++) { /* any size to any other */
        size_t next = t_prng_below(&prng, (uint64_t)1 << (4 + t_prng_below(&prng, 16))) + 1;

        object = realloc(object, next);
        expect(object, size < next ? size : next);
        fill(object, size < next ? size : next, next);
        size = next;
        i += (unsigned)(next >> 12); /* large ones take longer */
    }
    free(object);
}

/* --- threads and processes -------------------------------------------------------------------- */

#define THREADS 8
#define SLOTS   512

/** Objects that lie here belong to nobody: who takes one checks and frees it. */
static _Atomic(unsigned char *) slots[SLOTS];
static atomic_bool stop;
static atomic_uint nr_lost;

/** An object says at both ends how long it is. */
static unsigned char *make_marked(size_t size)
{
    unsigned char *object = malloc(size);

    if (object != NULL) {
        memcpy(object, &size, sizeof(size));
        memcpy(object + size - sizeof(size), &size, sizeof(size));
    }
    return object;
}

static void free_marked(unsigned char *object)
{
    size_t size;
    size_t end;

    memcpy(&size, object, sizeof(size));
    memcpy(&end, object + (malloc_usable_size(object) < size ? 0 : size - sizeof(size)),
           sizeof(end));
    if (size < 16 || size != end || malloc_usable_size(object) < size) {
        atomic_fetch_add(&nr_lost, 1);
    }
    free(object);
}

static void churn(struct t_prng *prng, unsigned steps)
{
    for (unsigned i = 0; i < steps && !atomic_load(&stop); i++) {
        size_t size = 16 + t_prng_below(prng, (uint64_t)1 << (4 + t_prng_below(prng, 14)));
        unsigned char *object = make_marked(size);

        if (object == NULL) {
            atomic_fetch_add(&nr_lost, 1);
            continue;
        }
        if (t_prng_below(prng, 8) == 0) {
            unsigned char *moved = realloc(object, size + size / 2);

            if (moved == NULL || memcmp(moved, &size, sizeof(size)) != 0) {
                atomic_fetch_add(&nr_lost, 1);
            }
            free(moved);
            continue;
        }
        object = atomic_exchange(&slots[t_prng_below(prng, SLOTS)], object);
        if (object != NULL) {
            free_marked(object);
        }
    }
}

static void *thread(void *argument)
{
    struct t_prng prng;

    t_prng_seed(&prng, 3 + (uint64_t)(uintptr_t)argument);
    churn(&prng, UINT32_MAX);
    return NULL;
}

static void start_threads(pthread_t *threads)
{
    atomic_store(&stop, false);
    for (uintptr_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, thread, (void *)i), 0);
    }
}

static void stop_threads(const pthread_t *threads)
{
    atomic_store(&stop, true);
    for (unsigned i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    for (unsigned i = 0; i < SLOTS; i++) {
        unsigned char *object = atomic_exchange(&slots[i], NULL);

        if (object != NULL) {
            free_marked(object);
        }
    }
    assert_int_equal(atomic_load(&nr_lost), 0);
}

static void test_threads(void **state)
{
    pthread_t threads[THREADS];

    (void)state;
    for (unsigned round = 0; round < 5; round++) {
        start_threads(threads);
        usleep(150000);
        stop_threads(threads);
    }
}

/** In a child, while the other threads were in the middle of something: all that it needs works. */
static int child(unsigned number)
{
    struct t_prng prng;

    t_prng_seed(&prng, number);
    churn(&prng, 2000);
    for (unsigned i = 0; i < SLOTS; i++) {
        unsigned char *object = atomic_exchange(&slots[i], NULL);

        if (object != NULL) {
            free_marked(object);
        }
    }
    for (size_t size = 16; size < 4 * MiB; size *= 2) {
        free_marked(make_marked(size));
    }
    return atomic_load(&nr_lost) != 0;
}

static void test_fork(void **state)
{
    pthread_t threads[THREADS];

    (void)state;
    start_threads(threads);
    for (unsigned i = 0; i < 40; i++) {
        pid_t pid = fork();
        int status;

        assert_true(pid >= 0);
        if (pid == 0) {
            _exit(child(i));
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
    }
    stop_threads(threads);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_contracts),    cmocka_unit_test(test_alignment),
        cmocka_unit_test(test_zeroed),       cmocka_unit_test(test_large),
        cmocka_unit_test(test_given_back),   cmocka_unit_test(test_resizing),
        cmocka_unit_test(test_threads),      cmocka_unit_test(test_fork),
        cmocka_unit_test(test_who_is_named), cmocka_unit_test(test_mistakes),
    };

    *(void **)&held_pages = dlsym(RTLD_DEFAULT, "mm_preload_held");
    if (held_pages == NULL) {
        fprintf(stderr, "test_preload: LD_PRELOAD does not name the library\n");
        return 1;
    }
    mistakes_begin();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
