// SPDX-License-Identifier: MIT
/**
 * Access to user memory of the active space: copies, words, strings, structures, slices.
 *
 * Addresses come from user code and are distrusted: a range that is not wholly in the user half is
 * MM_ERR_INVALID_ADDRESS and nothing is touched. Memory that is not there, or forbids the access,
 * ends it: MM_ERR_FAULT, and for a copy the exact number of bytes not copied. Faults that the kernel
 * can resolve (lazy memory, copy-on-write) are resolved by its page-fault handler as always; one
 * that it can't resolve it sends to mm_x86_64_user_fixup().
 *
 * Where nothing may sleep, the same calls are made with a `struct mm_user` over ops that are not
 * resolved (mm_x86_64_user_nofault_ops): what is not there at once is MM_ERR_FAULT.
 *
 * What user code wrote it may write again at any moment. So what is checked must be a copy, and
 * what is used must be that copy: fetch once. Every call here fetches a byte once; a structure has
 * mm_user_struct_in(), which hands out no copy that its check has not seen.
 *
 * With SMAP, user memory is opened only around the access and closed on every path (SDM vol. 3A,
 * 4.6: STAC, CLAC).
 *
 * Locks: none. The page-fault handler must be able to run, so no space's lock may be held.
 * Preemptible. With ops that are not resolved: any context, any lock.
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

/* --- words ------------------------------------------------------------------------------------ */

/** The address of a field of the structure of this type at `at`. */
#define MM_USER_FIELD(at, type, field) mm_vaddr((at).raw + offsetof(type, field))

/**
 * Fetch a word from user memory by one load: whatever user code does meanwhile, it is fetched once.
 * With an address aligned to `size` it is a value that somebody stored, not parts of two (SDM
 * vol. 3A, 9.1.1).
 *
 * @param[out] to  `size` bytes, at any alignment; untouched on error
 * @param from     at any alignment
 * @param size     1, 2, 4 or 8
 * @return MM_OK | MM_ERR_FAULT (some of its bytes, or all) | MM_ERR_INVALID_ADDRESS (not wholly in
 *         the user half) | MM_ERR_INVALID_SIZE | MM_ERR_INVALID_ARGUMENT (null, or `user` is all
 *         zero)
 * Locks:  as mm_user_copy_in(). Cost: O(1).
 */
MM_MUST_CHECK
mm_status_t mm_user_get(const struct mm_user *user, void *to, mm_vaddr_t from, uint64_t size);

/**
 * Store a word to user memory by one store: on error no byte of it was stored.
 *
 * @param from  `size` bytes, at any alignment
 * @return as mm_user_get()
 * Locks:  as mm_user_copy_in(). Cost: O(1).
 */
MM_MUST_CHECK
mm_status_t mm_user_put(const struct mm_user *user, mm_vaddr_t to, const void *from, uint64_t size);

/**
 * Exchange a word of user memory if it is what was expected, in one step for all threads of the
 * process and of the kernel: for locks that user code and the kernel share. It orders what is before
 * and after it, as any locked instruction.
 *
 * @param at          aligned to 4 bytes
 * @param[out] found  what was there: `expected` if and only if the exchange was made; untouched on
 *                    error
 * @return MM_OK (made or not) | MM_ERR_FAULT (not there, or not writable, even if nothing had to be
 *         written) | MM_ERR_NOT_ALIGNED | MM_ERR_INVALID_ADDRESS (not wholly in the user half)
 *         | MM_ERR_INVALID_ARGUMENT (null, or `user` is all zero)
 * Locks:  as mm_user_copy_in(). Cost: O(1).
 */
MM_MUST_CHECK
mm_status_t mm_user_cmpxchg_u32(const struct mm_user *user, mm_vaddr_t at, uint32_t expected,
                                uint32_t desired, uint32_t *found);

/**
 * As mm_user_cmpxchg_u32(), of 8 bytes.
 *
 * @param at  aligned to 8 bytes
 * @return as mm_user_cmpxchg_u32()
 * Locks:  as mm_user_copy_in(). Cost: O(1).
 */
MM_MUST_CHECK
mm_status_t mm_user_cmpxchg_u64(const struct mm_user *user, mm_vaddr_t at, uint64_t expected,
                                uint64_t desired, uint64_t *found);

/* --- structures --------------------------------------------------------------------------------
 */

/** Bytes of the largest structure that is fetched as such. */
#define MM_USER_STRUCT_MAX 4096

/**
 * Judge a structure that was fetched. It sees the kernel's copy, and neither knows nor needs the
 * user's address.
 *
 * @return MM_OK: the structure is handed out; any error: it is not, and that is the answer
 */
typedef mm_status_t mm_user_check_fn(void *ctx, const void *structure);

/** What the kernel knows of a structure that grows from version to version, always at its end. */
struct mm_user_struct {
    uint64_t size;  /**< bytes of the version that this kernel knows */
    uint64_t least; /**< bytes of the first version that there ever was; not 0 */
    /** Where its field of 4 bytes that tells its size is: for mm_user_sized_struct_in() alone. */
    uint64_t size_at;
    mm_user_check_fn *check; /**< NULL: whatever was fetched is good */
};

/**
 * Fetch a structure once, of whatever version user code was compiled with, and have it checked.
 *
 * One that is shorter than the kernel's ends in zeroes. Of one that is longer, what the kernel does
 * not know must be zero: then user code asked for nothing that it would not get. So in a structure
 * whose size and meaning grew, a field that is zero must mean what its absence meant.
 *
 * @param kind       what the kernel knows of it
 * @param ctx        for `kind->check`
 * @param[out] to    `kind->size` bytes; all zero where the fetch began and did not end in MM_OK, else
 *                   untouched: what failed the check is never seen
 * @param user_size  bytes of the structure as user code knows it
 * @return MM_OK | MM_ERR_UNSUPPORTED (a byte beyond what the kernel knows is not zero: Linux says
 *         E2BIG) | MM_ERR_FAULT (some of it is not there) | MM_ERR_INVALID_SIZE (`user_size` is below
 *         `kind->least` or above MM_USER_STRUCT_MAX) | MM_ERR_INVALID_ADDRESS (not wholly in the
 *         user half) | MM_ERR_INVALID_ARGUMENT (null; `user` is all zero; a size of `kind` is zero,
 *         `least` above `size`, or that above MM_USER_STRUCT_MAX) | what the check, `kind->check`,
 *         answers
 * Locks:  as mm_user_copy_in(). Cost: O(the greater size), and the check.
 */
MM_MUST_CHECK
mm_status_t mm_user_struct_in(const struct mm_user *user, const struct mm_user_struct *kind,
                              void *ctx, void *to, mm_vaddr_t from, uint64_t user_size);

/**
 * As mm_user_struct_in(), of a structure that tells its own size. The size is fetched once, first,
 * and what was found is what stands in the copy: user code cannot change it between.
 *
 * @return what mm_user_struct_in() answers; also MM_ERR_INVALID_ARGUMENT if the field is not within
 *         the first `kind->least` bytes
 * Locks:  as mm_user_copy_in(). Cost: as mm_user_struct_in().
 */
MM_MUST_CHECK
mm_status_t mm_user_sized_struct_in(const struct mm_user *user, const struct mm_user_struct *kind,
                                    void *ctx, void *to, mm_vaddr_t from);

/* --- slices ------------------------------------------------------------------------------------ */

#define MM_USER_READ       1u
#define MM_USER_WRITE      2u
#define MM_USER_RIGHTS_ALL 3u

/**
 * A range of user memory that was found to be the user's, with what may be done there: for what is
 * read and written in pieces. Opened and closed where a system call begins and ends; it belongs to
 * the space that is active then. All zero, or closed: nothing may be done.
 */
struct mm_user_slice {
    const struct mm_user_ops *ops; /**< NULL: it is not open */
    uint64_t start;
    uint64_t len;
    uint32_t rights; /**< MM_USER_READ, MM_USER_WRITE */
};

/**
 * Open a slice: the range is looked at once, and each access then stays within it. Memory is not
 * touched, and may be missing.
 *
 * @param len         0: a slice of nothing, wherever
 * @param rights      MM_USER_READ, MM_USER_WRITE or both
 * @param[out] slice  storage of any content; untouched on error
 * @return MM_OK | MM_ERR_INVALID_ADDRESS (not wholly in the user half) | MM_ERR_INVALID_FLAGS (none,
 *         or an unknown one) | MM_ERR_INVALID_ARGUMENT (null, or `user` is all zero)
 * Locks:  none; any context. Cost: O(1).
 */
MM_MUST_CHECK
mm_status_t mm_user_slice_open(const struct mm_user *user, mm_vaddr_t start, uint64_t len,
                               uint32_t rights, struct mm_user_slice *slice);

/**
 * Close a slice: nothing more is done through it.
 *
 * @return MM_OK | MM_ERR_NOT_INITIALIZED (all zero, or closed before)
 *         | MM_ERR_INVALID_ARGUMENT (null)
 * Locks:  none; any context. Cost: O(1).
 */
MM_MUST_CHECK
mm_status_t mm_user_slice_close(struct mm_user_slice *slice);

/**
 * Copy from a slice.
 *
 * @param offset        bytes from its start
 * @param[out] to       bytes that were not copied are as they were
 * @param[out] residue  bytes not copied, always the last ones: 0 on MM_OK, untouched on
 *                      MM_ERR_INVALID_ARGUMENT and MM_ERR_NOT_INITIALIZED, `len` on what is found
 *                      before the access; may be null
 * @return MM_OK | MM_ERR_FAULT | MM_ERR_INVALID_SIZE (runs past the end of the slice)
 *         | MM_ERR_PERMISSION_DENIED (not opened for this) | MM_ERR_NOT_INITIALIZED (closed, or all
 *         zero) | MM_ERR_INVALID_ARGUMENT (null)
 * Locks:  as mm_user_copy_in(). Cost: O(len).
 */
MM_MUST_CHECK
mm_status_t mm_user_slice_copy_in(const struct mm_user_slice *slice, void *to, uint64_t offset,
                                  uint64_t len, uint64_t *residue);

/**
 * Copy to a slice.
 *
 * @param[out] residue  as for mm_user_slice_copy_in()
 * @return as mm_user_slice_copy_in()
 * Locks:  as mm_user_copy_in(). Cost: O(len).
 */
MM_MUST_CHECK
mm_status_t mm_user_slice_copy_out(const struct mm_user_slice *slice, uint64_t offset,
                                   const void *from, uint64_t len, uint64_t *residue);

/**
 * Zero a part of a slice.
 *
 * @param[out] residue  bytes not cleared, as for mm_user_slice_copy_in()
 * @return as mm_user_slice_copy_in()
 * Locks:  as mm_user_copy_in(). Cost: O(len).
 */
MM_MUST_CHECK
mm_status_t mm_user_slice_clear(const struct mm_user_slice *slice, uint64_t offset, uint64_t len,
                                uint64_t *residue);

/**
 * Fetch a word from a slice by one load, as mm_user_get() does.
 *
 * @param[out] to  `size` bytes, at any alignment; untouched on error
 * @param size     1, 2, 4 or 8
 * @return MM_OK | MM_ERR_FAULT | MM_ERR_INVALID_SIZE (another size, or runs past the end of the
 *         slice) | MM_ERR_PERMISSION_DENIED (not opened for this) | MM_ERR_NOT_INITIALIZED (closed,
 *         or all zero) | MM_ERR_INVALID_ARGUMENT (null)
 * Locks:  as mm_user_copy_in(). Cost: O(1).
 */
MM_MUST_CHECK
mm_status_t mm_user_slice_get(const struct mm_user_slice *slice, void *to, uint64_t offset,
                              uint64_t size);

/**
 * Store a word to a slice by one store, as mm_user_put() does.
 *
 * @param from  `size` bytes, at any alignment
 * @return as mm_user_slice_get()
 * Locks:  as mm_user_copy_in(). Cost: O(1).
 */
MM_MUST_CHECK
mm_status_t mm_user_slice_put(const struct mm_user_slice *slice, uint64_t offset, const void *from,
                              uint64_t size);

MM_END_DECLS

#endif
