// SPDX-License-Identifier: MIT
/**
 * What the tests of bad input to page tables share: roots with a leaf of each size, and a call that
 * fails and must leave no trace. Include after <cmocka.h>.
 */
#ifndef PAGING_BAD_H
#define PAGING_BAD_H

#include "t_paging.h"

#define HALF (UINT64_C(1) << 47)

struct fixture {
    struct t_paging *m;
    struct mm_gather user;   /* begun for the user root */
    struct mm_gather kernel; /* begun for the kernel's */
    struct mm_pagetable copy;
};

/* A 1 GiB leaf at 1 GiB, a 2 MiB leaf at 4 GiB, a page at 6 GiB; a page of the kernel. */
static inline int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    f->m = t_paging_new();
    t_paging_start(f->m);
    assert_int_equal(t_map(&f->m->user, P1G, P1G, P1G, T_URW), MM_OK);
    assert_int_equal(t_map(&f->m->user, 4 * P1G, P1G, P2M, T_URW), MM_OK);
    assert_int_equal(t_map(&f->m->user, 6 * P1G, P1G, P4K, T_URW), MM_OK);
    assert_int_equal(t_map(&f->m->kernel, T_KERNEL_LOW, P1G, P4K, MM_PROT_RW), MM_OK);
    assert_int_equal(mm_paging_init_user(&f->copy, &f->m->kernel), MM_OK);
    assert_int_equal(mm_gather_begin(&f->user, &f->m->user), MM_OK);
    assert_int_equal(mm_gather_begin(&f->kernel, &f->m->kernel), MM_OK);
    *state = f;
    return 0;
}

static inline int teardown(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(mm_paging_check(&f->copy), MM_OK);
    assert_int_equal(mm_paging_destroy(&f->copy), MM_OK);
    t_paging_delete(f->m);
    free(f);
    return 0;
}

static inline uint64_t state_of(const struct fixture *f)
{
    uint64_t hash = t_state(f->m, &f->user);

    hash = t_hash_more(hash, &f->kernel, sizeof(f->kernel));
    return t_hash_more(hash, &f->copy, sizeof(f->copy));
}

/* The call fails with this status and changes nothing. */
#define FAILS(f, wanted, call)                                                                     \
    do {                                                                                           \
        uint64_t before_ = state_of(f);                                                            \
        mm_status_t status_ = (call);                                                              \
        if (status_ != (wanted)) {                                                                 \
            fail_msg("%s: %s, not %s", #call, mm_status_str(status_), #wanted);                    \
        }                                                                                          \
        if (before_ != state_of(f)) {                                                              \
            fail_msg("%s: failed and left a trace", #call);                                        \
        }                                                                                          \
    } while (0)

#endif
