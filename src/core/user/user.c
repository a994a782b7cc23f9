// SPDX-License-Identifier: MIT
/**
 * User copy: the range checks, once for all architectures.
 *
 * A user address is a number that user code chose. It becomes an access only after the whole range
 * was found inside the user half, with arithmetic that can't wrap; the user half ends below 2^63,
 * so what passes is canonical on every CPU that runs with this range. The access itself, which may
 * still fault, is the backend's (user_ops.h).
 */
#include <mm/user.h>

mm_status_t mm_user_init(struct mm_user *user, const struct mm_user_ops *ops,
                         struct mm_vrange range)
{
    if (user == NULL || ops == NULL || ops->copy_in == NULL || ops->copy_out == NULL ||
        ops->clear == NULL || ops->string_in == NULL) {
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

static bool usable(const struct mm_user *user)
{
    return user != NULL && user->ops != NULL;
}

static bool in_user_half(const struct mm_user *user, mm_vaddr_t at, uint64_t len)
{
    return mm_range_covers(user->range.start.raw, user->range.len, at.raw, len);
}

static void report(uint64_t *residue, uint64_t left)
{
    if (residue != NULL) {
        *residue = left;
    }
}

/** The answer to a copy that left so many bytes. */
static mm_status_t done(uint64_t left, uint64_t *residue)
{
    report(residue, left);
    return left == 0 ? MM_OK : MM_ERR_FAULT;
}

mm_status_t mm_user_copy_in(const struct mm_user *user, void *to, mm_vaddr_t from, uint64_t len,
                            uint64_t *residue)
{
    if (!usable(user) || to == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (len == 0) {
        return done(0, residue);
    }
    if (!in_user_half(user, from, len)) {
        report(residue, len);
        return MM_ERR_INVALID_ADDRESS;
    }
    return done(user->ops->copy_in(to, from.raw, len), residue);
}

mm_status_t mm_user_copy_out(const struct mm_user *user, mm_vaddr_t to, const void *from,
                             uint64_t len, uint64_t *residue)
{
    if (!usable(user) || from == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (len == 0) {
        return done(0, residue);
    }
    if (!in_user_half(user, to, len)) {
        report(residue, len);
        return MM_ERR_INVALID_ADDRESS;
    }
    return done(user->ops->copy_out(to.raw, from, len), residue);
}

mm_status_t mm_user_clear(const struct mm_user *user, mm_vaddr_t to, uint64_t len,
                          uint64_t *residue)
{
    if (!usable(user)) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (len == 0) {
        return done(0, residue);
    }
    if (!in_user_half(user, to, len)) {
        report(residue, len);
        return MM_ERR_INVALID_ADDRESS;
    }
    return done(user->ops->clear(to.raw, len), residue);
}

mm_status_t mm_user_string_in(const struct mm_user *user, char *to, mm_vaddr_t from, uint64_t size,
                              uint64_t *len)
{
    uint64_t room;
    uint64_t got;

    if (!usable(user) || to == NULL || len == NULL) {
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
