// SPDX-License-Identifier: MIT
/**
 * Copying to and from user memory of the active space.
 *
 * Addresses come from user code and are distrusted: a range that is not wholly in the user half is
 * MM_ERR_INVALID_ADDRESS and nothing is touched. Memory that is not there, or forbids the access,
 * ends the copy: MM_ERR_FAULT, and the exact number of bytes not copied. Faults that the kernel can
 * resolve (lazy memory, copy-on-write) are resolved by its page-fault handler as always; one that
 * it can't resolve it sends to mm_x86_64_user_fixup().
 *
 * With SMAP, user memory is opened only around the access and closed on every path (SDM vol. 3A,
 * 4.6: STAC, CLAC).
 *
 * Locks: none. The page-fault handler must be able to run, so no space's lock may be held.
 * Preemptible.
 */
#ifndef MM_USER_H
#define MM_USER_H

#include <mm/addr.h>
#include <mm/user_ops.h>

MM_BEGIN_DECLS

/** What user memory is; by value in the caller's storage. */
struct mm_user {
    const struct mm_user_ops *ops;
    struct mm_vrange range; /**< user addresses: normally from 0 to the end of the lower half */
};

/**
 * Say what user memory is, and how it is reached.
 *
 * @param user   storage of any content; untouched on error
 * @param range  the user half; page-aligned, below 2^63
 * @return MM_OK | MM_ERR_INVALID_ARGUMENT (null, or an op is missing) | MM_ERR_INVALID_ADDRESS
 *         (reaches into the upper half, or wraps) | MM_ERR_INVALID_SIZE (empty)
 *         | MM_ERR_NOT_ALIGNED
 * Locks:  none; one CPU. Cost: O(1).
 */
MM_MUST_CHECK
mm_status_t mm_user_init(struct mm_user *user, const struct mm_user_ops *ops,
                         struct mm_vrange range);

/**
 * Copy from user memory.
 *
 * @param[out] to       bytes that were not copied are as they were
 * @param[out] residue  bytes not copied, always the last ones: 0 on MM_OK, `len` on
 *                      MM_ERR_INVALID_ADDRESS, untouched on MM_ERR_INVALID_ARGUMENT; may be null
 * @return MM_OK (also for len 0) | MM_ERR_FAULT | MM_ERR_INVALID_ADDRESS (not wholly in the user
 *         half) | MM_ERR_INVALID_ARGUMENT (null, or `user` is all zero)
 * Locks:  none, and no space's held: the access may fault. Sleeps: never; the handler of its faults
 *         as it likes.
 * Cost:   O(len).
 */
MM_MUST_CHECK
mm_status_t mm_user_copy_in(const struct mm_user *user, void *to, mm_vaddr_t from, uint64_t len,
                            uint64_t *residue);

/**
 * Copy to user memory.
 *
 * @param[out] residue  as for mm_user_copy_in()
 * @return as mm_user_copy_in()
 * Locks:  as mm_user_copy_in(). Cost: O(len).
 */
MM_MUST_CHECK
mm_status_t mm_user_copy_out(const struct mm_user *user, mm_vaddr_t to, const void *from,
                             uint64_t len, uint64_t *residue);

/**
 * Zero user memory.
 *
 * @param[out] residue  bytes not cleared, as for mm_user_copy_in()
 * @return as mm_user_copy_in()
 * Locks:  as mm_user_copy_in(). Cost: O(len).
 */
MM_MUST_CHECK
mm_status_t mm_user_clear(const struct mm_user *user, mm_vaddr_t to, uint64_t len,
                          uint64_t *residue);

/**
 * Copy a string from user memory, terminator included, each byte fetched once.
 *
 * @param[out] to   unspecified on error
 * @param size      bytes at `to`; no more than so many are read
 * @param[out] len  length without the terminator; untouched on error
 * @return MM_OK | MM_ERR_LIMIT (no terminator among the first `size` bytes) | MM_ERR_FAULT (also
 *         when the user half ends first) | MM_ERR_INVALID_ADDRESS (`from` is not a user address)
 *         | MM_ERR_INVALID_SIZE (size 0) | MM_ERR_INVALID_ARGUMENT (null, or `user` is all zero)
 * Locks:  as mm_user_copy_in(). Cost: O(length).
 */
MM_MUST_CHECK
mm_status_t mm_user_string_in(const struct mm_user *user, char *to, mm_vaddr_t from, uint64_t size,
                              uint64_t *len);

MM_END_DECLS

#endif
