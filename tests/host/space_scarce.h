// SPDX-License-Identifier: MIT
/**
 * Frames and nodes that run out at every point of a call on a space: what fails has changed nothing.
 */
#ifndef SPACE_SCARCE_H
#define SPACE_SCARCE_H

#include "space_fixture.h"
#include "space_nodes.h"

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

/** Nodes of one kind after the other, likewise (see nodes_leave()). Returns how often it failed. */
static inline unsigned scarce_nodes(struct fixture *f, struct mm_space *space, scarce_fn call)
{
    static struct nodes_taken taken[NR_NODE_KINDS];
    unsigned nr_failed = 0;
    mm_status_t status;

    /* Edits of regions make no spaces. */
    for (unsigned step = NODES_STEPS;; step++) {
        uint64_t before;

        assert_in_range(step, 0, NR_NODE_KINDS * NODES_STEPS - 1);
        nodes_leave(f, taken, step);
        before = state_hash(f, space);
        run_in(f, space);
        status = call(f, space);
        if (status != MM_OK) {
            assert_int_equal(status, MM_ERR_NO_MEMORY);
            assert_int_equal(state_hash(f, space), before);
            nr_failed++;
        }
        assert_int_equal(mm_space_check(space), MM_OK);
        nodes_return(f, taken);
        if (status == MM_OK) {
            return nr_failed;
        }
    }
}

#endif
