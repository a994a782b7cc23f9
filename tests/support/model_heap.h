// SPDX-License-Identifier: MIT
/**
 * The reference model of a heap: the list of live blocks, and what each of them must hold.
 *
 * A block is filled when it is added, with bytes that follow from its number, and compared when it
 * is resized, removed or verified: so a block that is handed out twice, moved without its contents,
 * or written by the heap itself does not go unseen. An operation answers with NULL, or with a
 * sentence that says what is wrong. Blocks are host memory; the list is sorted by address.
 */
#ifndef T_MODEL_HEAP_H
#define T_MODEL_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct t_mheap_block {
    uint64_t address;
    uint64_t size; /**< as it was asked for; all of it is filled */
    uint64_t id;
    uint64_t tag; /**< the test's own; 0, and goes along when the block is resized */
};

struct t_mheap {
    struct t_mheap_block *blocks;
    size_t nr;
    size_t max;
    uint64_t next_id;
    uint64_t bytes; /**< sum of the sizes */
    uint64_t low;   /**< blocks must lie in [low, limit) */
    uint64_t limit;
};

/** `low` and `limit` bound the heap's memory; 0 and 0: anywhere. */
void t_mheap_init(struct t_mheap *model, uint64_t low, uint64_t limit);
void t_mheap_destroy(struct t_mheap *model);

/** A block was handed out: aligned, inside, apart from all others. Fills it. Size 0 counts as 1. */
const char *t_mheap_add(struct t_mheap *model, void *block, uint64_t size, uint64_t align);

/** All of a block that was just handed out, and is not added yet, must be zero. */
const char *t_mheap_zeroed(const void *block, uint64_t size);

/** A block is about to be freed: it must be live, and hold what it held. Do this before the free.
 */
const char *t_mheap_remove(struct t_mheap *model, const void *block);

/**
 * A block was resized from `before` to `after` (which may be equal): the common part must have come
 * along; all of it is filled anew. `before` is not read.
 */
const char *t_mheap_resize(struct t_mheap *model, const void *before, void *after, uint64_t size,
                           uint64_t align);

/** Note something on a live block. */
const char *t_mheap_tag(struct t_mheap *model, const void *block, uint64_t tag);

/** The live block that begins here; NULL: none. */
const struct t_mheap_block *t_mheap_find(const struct t_mheap *model, const void *block);

/** One block, or all of them, hold what they must. */
const char *t_mheap_verify(const struct t_mheap *model, const void *block);
const char *t_mheap_verify_all(const struct t_mheap *model);

#endif
