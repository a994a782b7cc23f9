// SPDX-License-Identifier: MIT
/**
 * What the files of the room share: whether a range is the user's, and how an access is answered.
 */
#ifndef MMI_USER_H
#define MMI_USER_H

#include <mm/user.h>

static inline bool mmi_user_usable(const struct mm_user *user)
{
    return user != NULL && user->ops != NULL;
}

/** Whether all of a range is in the user half; an empty one at its end is. */
static inline bool mmi_user_half_has(const struct mm_user *user, mm_vaddr_t at, uint64_t len)
{
    return mm_range_covers(user->range.start.raw, user->range.len, at.raw, len);
}

static inline void mmi_user_report(uint64_t *residue, uint64_t left)
{
    if (residue != NULL) {
        *residue = left;
    }
}

/** The answer to a copy that left so many bytes. */
static inline mm_status_t mmi_user_done(uint64_t left, uint64_t *residue)
{
    mmi_user_report(residue, left);
    return left == 0 ? MM_OK : MM_ERR_FAULT;
}

/** Whether a word has this size. */
static inline bool mmi_user_is_word(uint64_t size)
{
    return size == 4 || size == 8 || size == 1 || size == 2;
}

/** Where in a table of ops a word of a size that a word has is. */
static inline unsigned mmi_user_order(uint64_t size)
{
    return (unsigned)__builtin_ctzll(size);
}

#endif
