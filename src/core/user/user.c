// SPDX-License-Identifier: MIT
/**
 * User copy: the range checks, once for all architectures.
 *
 * A user address is a number that user code chose. It becomes an access only after the whole range
 * was found inside the user half, with arithmetic that can't wrap; the user half ends below 2^63,
 * so what passes is canonical on every CPU that runs with this range. The access itself, which may
 * still fault, is the backend's (user_ops.h).
 */
#include "core/user/user.h"

/** Whether no op is missing. */
static bool complete(const struct mm_user_ops *ops)
{
    for (unsigned i = 0; i < 4; i++) {
        if (ops->get[i] == NULL || ops->put[i] == NULL) {
            return false;
        }
    }
    return ops->copy_in != NULL && ops->copy_out != NULL && ops->clear != NULL &&
           ops->string_in != NULL && ops->cmpxchg[0] != NULL && ops->cmpxchg[1] != NULL;
}

mm_status_t mm_user_init(struct mm_user *user, const struct mm_user_ops *ops,
                         struct mm_vrange range)
{
    if (user == NULL || ops == NULL || !complete(ops)) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (range.len == 0) {
        return MM_ERR_INVALID_SIZE;
    }
    if (!mm_vrange_valid(range) || mm_vrange_last(range).raw >> 63 != 0) {
        return MM_ERR_INVALID_ADDRESS;
    }
    if (!mm_is_aligned(range.start.raw, MM_PAGE_SIZE) || !mm_is_aligned(range.len, MM_PAGE_SIZE)) {
        return MM_ERR_NOT_ALIGNED;
    }
    user->ops = ops;
    user->range = range;
    return MM_OK;
}

mm_status_t mm_user_copy_in(const struct mm_user *user, void *to, mm_vaddr_t from, uint64_t len,
                            uint64_t *residue)
{
    if (!mmi_user_usable(user) || to == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (len == 0) {
        return mmi_user_done(0, residue);
    }
    if (!mmi_user_half_has(user, from, len)) {
        mmi_user_report(residue, len);
        return MM_ERR_INVALID_ADDRESS;
    }
    return mmi_user_done(user->ops->copy_in(to, from.raw, len), residue);
}

mm_status_t mm_user_copy_out(const struct mm_user *user, mm_vaddr_t to, const void *from,
                             uint64_t len, uint64_t *residue)
{
    if (!mmi_user_usable(user) || from == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (len == 0) {
        return mmi_user_done(0, residue);
    }
    if (!mmi_user_half_has(user, to, len)) {
        mmi_user_report(residue, len);
        return MM_ERR_INVALID_ADDRESS;
    }
    return mmi_user_done(user->ops->copy_out(to.raw, from, len), residue);
}

mm_status_t mm_user_clear(const struct mm_user *user, mm_vaddr_t to, uint64_t len,
                          uint64_t *residue)
{
    if (!mmi_user_usable(user)) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (len == 0) {
        return mmi_user_done(0, residue);
    }
    if (!mmi_user_half_has(user, to, len)) {
        mmi_user_report(residue, len);
        return MM_ERR_INVALID_ADDRESS;
    }
    return mmi_user_done(user->ops->clear(to.raw, len), residue);
}

mm_status_t mm_user_string_in(const struct mm_user *user, char *to, mm_vaddr_t from, uint64_t size,
                              uint64_t *len)
{
    uint64_t room;
    uint64_t got;

    if (!mmi_user_usable(user) || to == NULL || len == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (size == 0) {
        return MM_ERR_INVALID_SIZE;
    }
    if (!mm_vrange_contains(user->range, from)) {
        return MM_ERR_INVALID_ADDRESS;
    }
    room = user->range.len - (from.raw - user->range.start.raw);
    if (room > size) {
        room = size;
    }
    got = user->ops->string_in(to, from.raw, room);
    if (got == UINT64_MAX) {
        return MM_ERR_FAULT;
    }
    if (got == room) {
        /* The string goes on where there is no user memory, or where there is no room for it. */
        return room < size ? MM_ERR_FAULT : MM_ERR_LIMIT;
    }
    *len = got;
    return MM_OK;
}
