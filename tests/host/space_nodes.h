// SPDX-License-Identifier: MIT
/**
 * The caches that calls on spaces take from, and how each of them runs out.
 */
#ifndef SPACE_NODES_H
#define SPACE_NODES_H

#include "space_fixture.h"

enum node_kind {
    NODES_SPACES,
    NODES_REGIONS,
    NODES_BUCKETS,
    NODES_CLAIMS,
    NR_NODE_KINDS,
};

/** Nodes of a kind in a slab, more or less; and more than any call of these tests takes. */
#define NODES_PLENTY 64u
#define NODES_MAX    1024u

/** So many steps of a call that runs out, for each kind. */
#define NODES_STEPS 16u

/** What was taken out of a cache. */
struct nodes_taken {
    struct mm_cache *cache;
    void *objects[NODES_MAX];
    unsigned nr;
};

/** Give every second one back, so that no slab is whole and goes to the pool. */
static inline void nodes_give(struct nodes_taken *t, unsigned nr)
{
    unsigned at = t->nr;

    for (; nr != 0; nr--) {
        void *object;

        at -= 2;
        object = t->objects[at];
        t->objects[at] = t->objects[--t->nr];
        mm_cache_free(t->cache, object);
    }
}

/** From here on the pool gives nothing. In step 0, 1, ... of NR_NODE_KINDS * NODES_STEPS there are
 * 0, 1, ... spaces and nothing else, then plenty of these and 0, 1, ... regions, and so on. */
static inline void nodes_leave(struct fixture *f, struct nodes_taken *taken, unsigned step)
{
    struct mm_cache *caches[NR_NODE_KINDS] = {&f->spaces.space_cache, &f->spaces.region_cache,
                                              &f->spaces.bucket_cache, &f->spaces.claim_cache};

    for (unsigned i = 0; i < NR_NODE_KINDS; i++) {
        struct nodes_taken *t = &taken[i];

        t->cache = caches[i];
        for (t->nr = 0; t->nr < 2 * NODES_PLENTY; t->nr++) {
            t->objects[t->nr] = mm_cache_alloc(t->cache);
            assert_non_null(t->objects[t->nr]);
        }
    }
    t_inject_from(&f->m.pool_inject, 1);
    for (unsigned i = 0; i < NR_NODE_KINDS; i++) {
        struct nodes_taken *t = &taken[i];

        while ((t->objects[t->nr] = mm_cache_alloc(t->cache)) != NULL) {
            assert_in_range(++t->nr, 0, NODES_MAX - 1);
        }
        if (i <= step / NODES_STEPS) {
            nodes_give(t, i < step / NODES_STEPS ? NODES_PLENTY : step % NODES_STEPS);
        }
    }
}

/** All is to be had again. */
static inline void nodes_return(struct fixture *f, struct nodes_taken *taken)
{
    t_inject_never(&f->m.pool_inject);
    for (unsigned i = 0; i < NR_NODE_KINDS; i++) {
        while (taken[i].nr != 0) {
            mm_cache_free(taken[i].cache, taken[i].objects[--taken[i].nr]);
        }
    }
}

#endif
