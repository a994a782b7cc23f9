// SPDX-License-Identifier: MIT
/**
 * Structures of user memory: fetched once, whatever their version, and checked before they are seen.
 *
 *      kernel's   |--------- size ---------|              the user's is older:
 *      user's     |---- user_size ----|                   the rest of the copy is zero
 *      copy       |     fetched       | 0  |
 *
 *      kernel's   |--------- size ---------|              the user's is newer:
 *      user's     |------------ user_size -----------|    its tail must be zero
 *      copy       |         fetched        |
 *
 * The tail comes first, through a small buffer, and is forgotten: nothing of it is used. Then the
 * rest is copied once. From there on only the copy is looked at.
 */
#include "core/user/user.h"

/** Bytes of a newer structure's tail that are looked at at a time. */
#define PIECE 64

static mm_status_t tail_is_zero(const struct mm_user *user, uint64_t from, uint64_t len)
{
    uint64_t words[PIECE / sizeof(uint64_t)];
    uint64_t any = 0;

    while (len != 0) {
        uint64_t nr = len < PIECE ? len : PIECE;

        __builtin_memset(words, 0, sizeof(words));
        if (user->ops->copy_in(words, from, nr) != 0) {
            return MM_ERR_FAULT;
        }
        for (unsigned i = 0; i < PIECE / sizeof(uint64_t); i++) {
            any |= words[i];
        }
        if (any != 0) {
            return MM_ERR_UNSUPPORTED;
        }
        from += nr;
        len -= nr;
    }
    return MM_OK;
}

static bool makes_sense(const struct mm_user_struct *kind)
{
    return kind->least != 0 && kind->least <= kind->size && kind->size <= MM_USER_STRUCT_MAX;
}

/** Make the copy of `len` bytes whole, and have it judged. `told`: as in fetch(). */
static mm_status_t complete(const struct mm_user_struct *kind, void *ctx, uint8_t *to, uint64_t len,
                            const uint32_t *told)
{
    if (len < kind->size) {
        __builtin_memset(to + len, 0, kind->size - len);
    }
    if (told != NULL) {
        __builtin_memcpy(to + kind->size_at, told, sizeof(*told));
    }
    return kind->check != NULL ? kind->check(ctx, to) : MM_OK;
}

/** Fetch one that `makes_sense()`; `told`: what its field of its size is to say, or NULL. */
static mm_status_t fetch(const struct mm_user *user, const struct mm_user_struct *kind, void *ctx,
                         uint8_t *to, mm_vaddr_t from, uint64_t user_size, const uint32_t *told)
{
    uint64_t len = user_size < kind->size ? user_size : kind->size;
    mm_status_t status;

    if (user_size < kind->least || user_size > MM_USER_STRUCT_MAX) {
        return MM_ERR_INVALID_SIZE;
    }
    if (!mmi_user_half_has(user, from, user_size)) {
        return MM_ERR_INVALID_ADDRESS;
    }
    status = tail_is_zero(user, from.raw + len, user_size - len);
    if (status == MM_OK && user->ops->copy_in(to, from.raw, len) != 0) {
        status = MM_ERR_FAULT;
    }
    if (status == MM_OK) {
        status = complete(kind, ctx, to, len, told);
    }
    if (status != MM_OK) {
        __builtin_memset(to, 0, kind->size);
    }
    return status;
}

mm_status_t mm_user_struct_in(const struct mm_user *user, const struct mm_user_struct *kind,
                              void *ctx, void *to, mm_vaddr_t from, uint64_t user_size)
{
    if (!mmi_user_usable(user) || kind == NULL || to == NULL || !makes_sense(kind)) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    return fetch(user, kind, ctx, to, from, user_size, NULL);
}

mm_status_t mm_user_sized_struct_in(const struct mm_user *user, const struct mm_user_struct *kind,
                                    void *ctx, void *to, mm_vaddr_t from)
{
    mm_status_t status;
    uint32_t told;

    if (!mmi_user_usable(user) || kind == NULL || to == NULL || !makes_sense(kind) ||
        !mm_range_covers(0, kind->least, kind->size_at, sizeof(told))) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (!mmi_user_half_has(user, from, kind->least)) {
        return MM_ERR_INVALID_ADDRESS;
    }
    status = user->ops->get[mmi_user_order(sizeof(told))](&told, from.raw + kind->size_at);
    return status != MM_OK ? status : fetch(user, kind, ctx, to, from, told, &told);
}
