// SPDX-License-Identifier: MIT
/**
 * Frames and nodes that run out at every point of a call on a space: what fails has changed nothing.
 */
#ifndef SPACE_SCARCE_H
#define SPACE_SCARCE_H

#include "space_fixture.h"

#define SCARCE_STEPS 400

/** A call that can be made again after it failed. */
typedef mm_status_t (*scarce_fn)(struct fixture *f, struct mm_space *space);

/** Frames: none, one, ... until it succeeds. Returns at how many it did. */
static inline uint64_t scarce_frames(struct fixture *f, struct mm_space *space, scarce_fn call)
{
    uint64_t nr = 0;

    for (;; nr++) {
        uint64_t before;
        mm_status_t status;

        t_machine_leave_frames(&f->m, nr);
        before = state_hash(f, space);
        run_in(f, space);
        status = call(f, space);
        if (status == MM_OK) {
            break;
        }
        assert_int_equal(status, MM_ERR_NO_MEMORY);
        assert_int_equal(state_hash(f, space), before);
        assert_int_equal(mm_space_check(space), MM_OK);
        nothing_stale(f);
        assert_in_range(nr, 0, SCARCE_STEPS);
    }
    t_machine_leave_frames(&f->m, UINT64_MAX);
    assert_int_equal(mm_space_check(space), MM_OK);
    nothing_stale(f);
    return nr;
}

/** Nodes of regions, likewise. */
static inline unsigned scarce_nodes(struct fixture *f, struct mm_space *space, scarce_fn call)
{
    struct mm_cache *cache = &f->spaces.region_cache;
    static void *nodes[4096];
    unsigned nr = 0;
    unsigned left = 0;

    /* So many that some are left in slabs when the last page is gone. */
    while (nr < 64) {
        nodes[nr++] = mm_cache_alloc(cache);
        assert_non_null(nodes[nr - 1]);
    }
    t_inject_from(&f->m.pool_inject, 1);
    while ((nodes[nr] = mm_cache_alloc(cache)) != NULL) {
        assert_in_range(++nr, 0, 4095);
    }
    for (;; left++) {
        uint64_t before = state_hash(f, space);
        mm_status_t status;

        run_in(f, space);
        status = call(f, space);
        if (status == MM_OK) {
            break;
        }
        assert_int_equal(status, MM_ERR_NO_MEMORY);
        assert_int_equal(state_hash(f, space), before);
        assert_int_equal(mm_space_check(space), MM_OK);
        assert_in_range(left, 0, SCARCE_STEPS);
        mm_cache_free(cache, nodes[--nr]);
    }
    t_inject_never(&f->m.pool_inject);
    while (nr > 0) {
        mm_cache_free(cache, nodes[--nr]);
    }
    assert_int_equal(mm_space_check(space), MM_OK);
    return left;
}

#endif
