// SPDX-License-Identifier: MIT
/**
 * What the tests of limits and promises share: counts of a space, of a group, of the manager.
 */
#ifndef SPACE_COUNTS_H
#define SPACE_COUNTS_H

#include "space_fixture.h"

static inline struct mm_space_stats stats_of(struct mm_space *s)
{
    struct mm_space_stats stats;

    assert_int_equal(mm_space_get_stats(s, &stats), MM_OK);
    return stats;
}

static inline struct mm_space_group_stats group_of(const struct mm_space_group *group)
{
    struct mm_space_group_stats stats;

    assert_int_equal(mm_space_group_get_stats(group, &stats), MM_OK);
    return stats;
}

static inline uint64_t promised(const struct fixture *f)
{
    struct mm_spaces_stats stats;

    assert_int_equal(mm_spaces_get_stats(&f->spaces, &stats), MM_OK);
    return stats.nr_committed;
}

static inline struct mm_space *space_in(struct fixture *f, struct mm_space_group *group)
{
    const struct mm_space_config config = {.group = group};
    struct mm_space *s = NULL;

    assert_int_equal(mm_space_create_with(&f->spaces, &config, &s), MM_OK);
    return s;
}

#endif
