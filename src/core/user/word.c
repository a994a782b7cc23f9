// SPDX-License-Identifier: MIT
/**
 * Words of user memory: one load, one store, one exchange.
 *
 * The range check is that of a copy. What differs is the promise: the backend makes one access of
 * all bytes, so that a word is fetched once, is stored whole or not at all, and if it is aligned is
 * seen whole by every thread.
 */
#include "core/user/user.h"

mm_status_t mm_user_get(const struct mm_user *user, void *to, mm_vaddr_t from, uint64_t size)
{
    if (!mmi_user_usable(user) || to == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (!mmi_user_is_word(size)) {
        return MM_ERR_INVALID_SIZE;
    }
    if (!mmi_user_half_has(user, from, size)) {
        return MM_ERR_INVALID_ADDRESS;
    }
    return user->ops->get[mmi_user_order(size)](to, from.raw);
}

mm_status_t mm_user_put(const struct mm_user *user, mm_vaddr_t to, const void *from, uint64_t size)
{
    if (!mmi_user_usable(user) || from == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (!mmi_user_is_word(size)) {
        return MM_ERR_INVALID_SIZE;
    }
    if (!mmi_user_half_has(user, to, size)) {
        return MM_ERR_INVALID_ADDRESS;
    }
    return user->ops->put[mmi_user_order(size)](to.raw, from);
}

/** What of an exchange of `size` bytes can be said without making it. */
static mm_status_t may_exchange(const struct mm_user *user, mm_vaddr_t at, uint64_t size,
                                const void *found)
{
    if (!mmi_user_usable(user) || found == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (!mmi_user_half_has(user, at, size)) {
        return MM_ERR_INVALID_ADDRESS;
    }
    /* Across two cache lines it would lock the bus for all CPUs (SDM vol. 3A, 9.1.2.2). */
    return mm_is_aligned(at.raw, size) ? MM_OK : MM_ERR_NOT_ALIGNED;
}

mm_status_t mm_user_cmpxchg_u32(const struct mm_user *user, mm_vaddr_t at, uint32_t expected,
                                uint32_t desired, uint32_t *found)
{
    mm_status_t status = may_exchange(user, at, sizeof(*found), found);

    return status != MM_OK ? status : user->ops->cmpxchg[0](at.raw, expected, desired, found);
}

mm_status_t mm_user_cmpxchg_u64(const struct mm_user *user, mm_vaddr_t at, uint64_t expected,
                                uint64_t desired, uint64_t *found)
{
    mm_status_t status = may_exchange(user, at, sizeof(*found), found);

    return status != MM_OK ? status : user->ops->cmpxchg[1](at.raw, expected, desired, found);
}
