// SPDX-License-Identifier: MIT
/**
 * A fast 64-bit hash of memory, for "a failing call leaves state as it was": hash, call, hash
 * again.
 *
 * It folds eight bytes a multiply and finishes with a full avalanche. It guards against accidents,
 * not against an adversary. Equal bytes give equal hashes on every run and every compiler.
 * Only hashing lives here; what to hash is for each test to say.
 */
#ifndef T_HASH_H
#define T_HASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

#define T_HASH_START UINT64_C(0xcbf29ce484222325)

/** Fold one value into a running hash. Order matters. */
static inline uint64_t t_hash_u64(uint64_t hash, uint64_t value)
{
    hash = (hash ^ value) * UINT64_C(0x9e3779b97f4a7c15);
    return hash ^ (hash >> 29);
}

/** Avalanche: every input bit reaches every output bit (the finaliser of splitmix64). */
static inline uint64_t t_hash_finish(uint64_t hash)
{
    hash = (hash ^ (hash >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    hash = (hash ^ (hash >> 27)) * UINT64_C(0x94d049bb133111eb);
    return hash ^ (hash >> 31);
}

/** Fold `len` bytes into a running hash; the length is folded in too. Long runs go through four
 * hashes side by side, which do not wait for each other's multiply, and are folded in order. */
static inline uint64_t t_hash_more(uint64_t hash, const void *bytes, size_t len)
{
    const unsigned char *p = (const unsigned char *)bytes;
    uint64_t lanes[4] = {hash, 1, 2, 3};
    uint64_t words[4];
    uint64_t word;
    size_t left = len;

    if (len >= 4 * sizeof(words)) {
        for (; left >= sizeof(words); left -= sizeof(words), p += sizeof(words)) {
            memcpy(words, p, sizeof(words));
            lanes[0] = t_hash_u64(lanes[0], words[0]);
            lanes[1] = t_hash_u64(lanes[1], words[1]);
            lanes[2] = t_hash_u64(lanes[2], words[2]);
            lanes[3] = t_hash_u64(lanes[3], words[3]);
        }
        hash = t_hash_u64(t_hash_u64(t_hash_u64(lanes[0], lanes[1]), lanes[2]), lanes[3]);
    }
    for (; left >= sizeof(word); left -= sizeof(word), p += sizeof(word)) {
        memcpy(&word, p, sizeof(word));
        hash = t_hash_u64(hash, word);
    }
    word = 0;
    if (left != 0) {
        memcpy(&word, p, left);
    }
    return t_hash_u64(t_hash_u64(hash, word), len);
}

/** The hash of one piece of memory. */
static inline uint64_t t_hash(const void *bytes, size_t len)
{
    return t_hash_finish(t_hash_more(T_HASH_START, bytes, len));
}

#ifdef __cplusplus
}
#endif

#endif
