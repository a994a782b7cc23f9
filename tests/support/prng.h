// SPDX-License-Identifier: MIT
/**
 * Random numbers that can be repeated: xoshiro256** (Blackman and Vigna, 2018), seeded by
 * splitmix64.
 *
 * A test takes its generator with t_prng_start(&prng, "name"). The seed of the process comes from
 * the environment variable MM_TEST_SEED (decimal or 0x...), else from the clock; it is printed when
 * it is first asked for, again when the process exits with a failure, and when a trap fails a test.
 * The name is mixed in, so a test draws the same numbers whether or not other tests ran before it.
 *
 * One generator belongs to one thread. Only drawing numbers lives here.
 */
#ifndef T_PRNG_H
#define T_PRNG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct t_prng {
    uint64_t s[4];
};

/** The seed of this process; prints it on first use. */
uint64_t t_seed(void);

/** "MM_TEST_SEED=0x..." to the standard error, if the seed was ever used. Safe in a signal handler.
 */
void t_seed_print(void);

/** A generator from the process's seed and a name: what nearly every test wants. */
void t_prng_start(struct t_prng *prng, const char *name);

/** A generator from a number: the same stream on every run. */
static inline void t_prng_seed(struct t_prng *prng, uint64_t seed)
{
    for (int i = 0; i < 4; i++) {
        uint64_t z = (seed += UINT64_C(0x9e3779b97f4a7c15));

        z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
        prng->s[i] = z ^ (z >> 31);
    }
}

static inline uint64_t t_prng_rotl(uint64_t x, int by)
{
    return (x << by) | (x >> (64 - by));
}

/** 64 random bits. */
static inline uint64_t t_prng_u64(struct t_prng *prng)
{
    uint64_t *s = prng->s;
    uint64_t result = t_prng_rotl(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;

    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = t_prng_rotl(s[3], 45);
    return result;
}

/** A number in [0, below), without bias. `below` = 0 means 2^64. */
static inline uint64_t t_prng_below(struct t_prng *prng, uint64_t below)
{
    uint64_t unfair;
    uint64_t x;

    if (below == 0) {
        return t_prng_u64(prng);
    }
    unfair = (0 - below) % below; /* 2^64 mod below: the lowest values that would come too often */
    do {
        x = t_prng_u64(prng);
    } while (x < unfair);
    return x % below;
}

/** A number in [low, high], both included. */
static inline uint64_t t_prng_range(struct t_prng *prng, uint64_t low, uint64_t high)
{
    return low + t_prng_below(prng, high - low + 1);
}

/** True `times` times out of `out_of`. */
static inline bool t_prng_chance(struct t_prng *prng, uint64_t times, uint64_t out_of)
{
    return t_prng_below(prng, out_of) < times;
}

/** A number of at most `bits` bits whose magnitude is spread evenly: small ones are as likely as
 * large. */
static inline uint64_t t_prng_magnitude(struct t_prng *prng, unsigned bits)
{
    uint64_t n = t_prng_range(prng, 0, bits);

    return n == 0 ? 0 : t_prng_u64(prng) >> (64 - n);
}

/** Put `nr` elements of `size` bytes in random order (Fisher and Yates). */
static inline void t_prng_shuffle(struct t_prng *prng, void *array, size_t nr, size_t size)
{
    unsigned char *bytes = (unsigned char *)array;

    for (size_t i = nr; i > 1; i--) {
        size_t j = (size_t)t_prng_below(prng, i);

        for (size_t b = 0; b < size && j != i - 1; b++) {
            unsigned char swap = bytes[(i - 1) * size + b];

            bytes[(i - 1) * size + b] = bytes[j * size + b];
            bytes[j * size + b] = swap;
        }
    }
}

#ifdef __cplusplus
}
#endif

#endif
