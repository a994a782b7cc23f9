// SPDX-License-Identifier: MIT
/**
 * The seed of the process: where it comes from and when it is printed. The generator itself is in
 * the header.
 */
#define _GNU_SOURCE
#include "prng.h"

#include "hash.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;
static uint64_t seed;
static atomic_bool seeded;

void t_seed_print(void)
{
    char line[64];
    int n;

    if (!atomic_load(&seeded)) {
        return;
    }
    n = snprintf(line, sizeof(line), "MM_TEST_SEED=0x%016llx\n", (unsigned long long)seed);
    if (write(STDERR_FILENO, line, (size_t)n) != n) {
        return; /* nothing is left to complain to */
    }
}

static void at_exit(int status, void *ctx)
{
    (void)ctx;
    if (status != 0) {
        t_seed_print();
    }
}

static void choose(void)
{
    const char *text = getenv("MM_TEST_SEED");

    if (text != NULL && text[0] != '\0') {
        char *end;

        errno = 0;
        seed = strtoull(text, &end, 0);
        if (errno != 0 || *end != '\0') {
            fprintf(stderr, "MM_TEST_SEED is no number: %s\n", text);
            exit(EXIT_FAILURE);
        }
    } else {
        struct timespec now;

        clock_gettime(CLOCK_REALTIME, &now);
        seed = t_hash_finish((uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec +
                             ((uint64_t)getpid() << 40));
    }
    atomic_store(&seeded, true);
    t_seed_print();
    (void)on_exit(at_exit, NULL);
}

uint64_t t_seed(void)
{
    (void)pthread_once(&once, choose);
    return seed;
}

void t_prng_start(struct t_prng *prng, const char *name)
{
    t_prng_seed(prng, t_hash_finish(t_hash_more(t_seed(), name, strlen(name))));
}
