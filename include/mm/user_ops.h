// SPDX-License-Identifier: MIT
/**
 * What a backend supplies for user.h: the accesses themselves, which survive a fault. No range is
 * checked here.
 */
#ifndef MM_USER_OPS_H
#define MM_USER_OPS_H

#include <mm/config.h>

MM_BEGIN_DECLS

/** The machine's copy routines, e.g. mm_x86_64_user_ops or mm_x86_64_user_smap_ops. */
struct mm_user_ops {
    /** Bytes not copied. */
    uint64_t (*copy_in)(void *to, uint64_t from_user, uint64_t len);
    uint64_t (*copy_out)(uint64_t to_user, const void *from, uint64_t len);
    /** Bytes not cleared. */
    uint64_t (*clear)(uint64_t to_user, uint64_t len);
    /** Bytes up to and without the terminator, `len` if there is none; UINT64_MAX for a fault. */
    uint64_t (*string_in)(char *to, uint64_t from_user, uint64_t len);
};

MM_END_DECLS

#endif
