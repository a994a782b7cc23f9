// SPDX-License-Identifier: MIT
/**
 * Slices of user memory: validated when they are opened, and then only compared with their length.
 *
 * A slice keeps what it needs by value, the ops too: what becomes of the `struct mm_user` that it was
 * opened with changes nothing. Closing makes it all zero, and all zero is closed.
 */
#include "core/user/user.h"

mm_status_t mm_user_slice_open(const struct mm_user *user, mm_vaddr_t start, uint64_t len,
                               uint32_t rights, struct mm_user_slice *slice)
{
    if (!mmi_user_usable(user) || slice == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (rights == 0 || (rights & ~MM_USER_RIGHTS_ALL) != 0) {
        return MM_ERR_INVALID_FLAGS;
    }
    if (len != 0 && !mmi_user_half_has(user, start, len)) {
        return MM_ERR_INVALID_ADDRESS;
    }
    slice->ops = user->ops;
    slice->start = start.raw;
    slice->len = len;
    slice->rights = rights;
    return MM_OK;
}

mm_status_t mm_user_slice_close(struct mm_user_slice *slice)
{
    if (slice == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (slice->ops == NULL) {
        return MM_ERR_NOT_INITIALIZED;
    }
    *slice = (struct mm_user_slice){0};
    return MM_OK;
}

/** What of an access can be said without making it. `kernel`: its other side. */
static mm_status_t may_access(const struct mm_user_slice *slice, const void *kernel,
                              uint64_t offset, uint64_t len, uint32_t right)
{
    if (slice == NULL || kernel == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (slice->ops == NULL) {
        return MM_ERR_NOT_INITIALIZED;
    }
    if ((slice->rights & right) == 0) {
        return MM_ERR_PERMISSION_DENIED;
    }
    return mm_range_covers(0, slice->len, offset, len) ? MM_OK : MM_ERR_INVALID_SIZE;
}

/** The answer to a copy that is not made. */
static mm_status_t refuse(mm_status_t status, uint64_t len, uint64_t *residue)
{
    if (status != MM_ERR_INVALID_ARGUMENT && status != MM_ERR_NOT_INITIALIZED) {
        mmi_user_report(residue, len);
    }
    return status;
}

mm_status_t mm_user_slice_copy_in(const struct mm_user_slice *slice, void *to, uint64_t offset,
                                  uint64_t len, uint64_t *residue)
{
    mm_status_t status = may_access(slice, to, offset, len, MM_USER_READ);

    if (status != MM_OK) {
        return refuse(status, len, residue);
    }
    return mmi_user_done(len == 0 ? 0 : slice->ops->copy_in(to, slice->start + offset, len),
                         residue);
}

mm_status_t mm_user_slice_copy_out(const struct mm_user_slice *slice, uint64_t offset,
                                   const void *from, uint64_t len, uint64_t *residue)
{
    mm_status_t status = may_access(slice, from, offset, len, MM_USER_WRITE);

    if (status != MM_OK) {
        return refuse(status, len, residue);
    }
    return mmi_user_done(len == 0 ? 0 : slice->ops->copy_out(slice->start + offset, from, len),
                         residue);
}

mm_status_t mm_user_slice_clear(const struct mm_user_slice *slice, uint64_t offset, uint64_t len,
                                uint64_t *residue)
{
    mm_status_t status = may_access(slice, slice, offset, len, MM_USER_WRITE);

    if (status != MM_OK) {
        return refuse(status, len, residue);
    }
    return mmi_user_done(len == 0 ? 0 : slice->ops->clear(slice->start + offset, len), residue);
}

mm_status_t mm_user_slice_get(const struct mm_user_slice *slice, void *to, uint64_t offset,
                              uint64_t size)
{
    mm_status_t status = may_access(slice, to, offset, size, MM_USER_READ);

    if (status != MM_OK) {
        return status;
    }
    if (!mmi_user_is_word(size)) {
        return MM_ERR_INVALID_SIZE;
    }
    return slice->ops->get[mmi_user_order(size)](to, slice->start + offset);
}

mm_status_t mm_user_slice_put(const struct mm_user_slice *slice, uint64_t offset, const void *from,
                              uint64_t size)
{
    mm_status_t status = may_access(slice, from, offset, size, MM_USER_WRITE);

    if (status != MM_OK) {
        return status;
    }
    if (!mmi_user_is_word(size)) {
        return MM_ERR_INVALID_SIZE;
    }
    return slice->ops->put[mmi_user_order(size)](slice->start + offset, from);
}
