// SPDX-License-Identifier: MIT
/**
 * What a backend supplies for user.h: the accesses themselves, which survive a fault. No range is
 * checked here.
 */
#ifndef MM_USER_OPS_H
#define MM_USER_OPS_H

#include <mm/config.h>
#include <mm/status.h>

MM_BEGIN_DECLS

/** The machine's accesses, e.g. mm_x86_64_user_ops or mm_x86_64_user_smap_ops. */
struct mm_user_ops {
    /** Bytes not copied, always the last ones. */
    uint64_t (*copy_in)(void *to, uint64_t from_user, uint64_t len);
    uint64_t (*copy_out)(uint64_t to_user, const void *from, uint64_t len);
    /** Bytes not cleared, always the last ones. */
    uint64_t (*clear)(uint64_t to_user, uint64_t len);
    /** Bytes up to and without the terminator, `len` if there is none; UINT64_MAX for a fault. */
    uint64_t (*string_in)(char *to, uint64_t from_user, uint64_t len);
    /**
     * One load from user memory, one store to it: of 1, 2, 4, 8 bytes, at any alignment on both
     * sides. MM_OK or MM_ERR_FAULT: then nothing was stored.
     */
    mm_status_t (*get[4])(void *to, uint64_t from_user);
    mm_status_t (*put[4])(uint64_t to_user, const void *from);
    /**
     * Compare and exchange, atomic for all CPUs: of 4, 8 bytes, aligned to them. MM_OK, and what was
     * found is at `found`; or MM_ERR_FAULT.
     */
    mm_status_t (*cmpxchg[2])(uint64_t at_user, uint64_t expected, uint64_t desired, void *found);
};

MM_END_DECLS

#endif
