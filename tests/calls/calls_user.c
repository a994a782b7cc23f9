// SPDX-License-Identifier: MIT
/**
 * Calls of the room user.
 */
#include "calls.h"

#include <string.h>

static int do_init(const uint64_t *a)
{
    struct mm_user_ops ops = t_world_user_ops;

    if (a[2] != 0) { /* the table is nothing but pointers: one of them is missing */
        memset((char *)&ops + (a[2] - 1) * sizeof(void *), 0, sizeof(void *));
    }
    return (int)mm_user_init(T_P(0),
                             a[1] == 0   ? NULL
                             : a[2] == 0 ? &t_world_user_ops
                                         : &ops,
                             T_RANGE(3));
}

static int do_copy_in(const uint64_t *a)
{
    return (int)mm_user_copy_in(T_P(0), T_P(1), mm_vaddr(a[2]), a[3], T_P(4));
}

static int do_copy_out(const uint64_t *a)
{
    return (int)mm_user_copy_out(T_P(0), mm_vaddr(a[1]), T_P(2), a[3], T_P(4));
}

static int do_clear(const uint64_t *a)
{
    return (int)mm_user_clear(T_P(0), mm_vaddr(a[1]), a[2], T_P(3));
}

static int do_string_in(const uint64_t *a)
{
    return (int)mm_user_string_in(T_P(0), T_P(1), mm_vaddr(a[2]), a[3], T_P(4));
}

static int do_get(const uint64_t *a)
{
    return (int)mm_user_get(T_P(0), T_P(1), mm_vaddr(a[2]), a[3]);
}

static int do_put(const uint64_t *a)
{
    return (int)mm_user_put(T_P(0), mm_vaddr(a[1]), T_P(2), a[3]);
}

static int do_cmpxchg_u32(const uint64_t *a)
{
    return (int)mm_user_cmpxchg_u32(T_P(0), mm_vaddr(a[1]), T_W32(2), T_W32(3), T_P(4));
}

static int do_cmpxchg_u64(const uint64_t *a)
{
    return (int)mm_user_cmpxchg_u64(T_P(0), mm_vaddr(a[1]), a[2], a[3], T_P(4));
}

static int do_struct_in(const uint64_t *a)
{
    struct mm_user_struct kind = {
        .size = a[2], .least = a[3], .check = a[4] == 0 ? NULL : t_world_check};

    return (int)mm_user_struct_in(T_P(0), a[1] == 0 ? NULL : &kind, NULL, T_P(5), mm_vaddr(a[6]),
                                  a[7]);
}

static int do_sized_struct_in(const uint64_t *a)
{
    struct mm_user_struct kind = {
        .size = a[2], .least = a[3], .size_at = a[4], .check = a[5] == 0 ? NULL : t_world_check};

    return (int)mm_user_sized_struct_in(T_P(0), a[1] == 0 ? NULL : &kind, NULL, T_P(6),
                                        mm_vaddr(a[7]));
}

static int do_slice_open(const uint64_t *a)
{
    return (int)mm_user_slice_open(T_P(0), mm_vaddr(a[1]), a[2], T_W32(3), T_P(4));
}

static int do_slice_close(const uint64_t *a)
{
    return (int)mm_user_slice_close(T_P(0));
}

static int do_slice_copy_in(const uint64_t *a)
{
    return (int)mm_user_slice_copy_in(T_P(0), T_P(1), a[2], a[3], T_P(4));
}

static int do_slice_copy_out(const uint64_t *a)
{
    return (int)mm_user_slice_copy_out(T_P(0), a[1], T_P(2), a[3], T_P(4));
}

static int do_slice_clear(const uint64_t *a)
{
    return (int)mm_user_slice_clear(T_P(0), a[1], a[2], T_P(3));
}

static int do_slice_get(const uint64_t *a)
{
    return (int)mm_user_slice_get(T_P(0), T_P(1), a[2], a[3]);
}

static int do_slice_put(const uint64_t *a)
{
    return (int)mm_user_slice_put(T_P(0), a[1], T_P(2), a[3]);
}

/* --- other worlds ------------------------------------------------------------------------------ */

/* A structure that says what it has: the size that the kernel knows, one that is larger. */
static void sized(void)
{
    static const uint32_t known = 64;
    static const uint32_t larger = 100;

    memcpy((char *)t_w.user_memory + 4, &known, sizeof(known));
    memcpy((char *)t_w.user_memory + 16 + 4, &larger, sizeof(larger));
}

/* The page that the slices are on has gone: they speak of what is not there. */
static void slice_of_nothing(void)
{
    t_w.slice.start = 0x100000;
}

/* --- values ------------------------------------------------------------------------------------ */

static unsigned one_of_each_op(uint64_t *v)
{
    unsigned nr = sizeof(struct mm_user_ops) / sizeof(void *);

    for (uint64_t i = 0; i <= nr; i++) {
        v[i] = i;
    }
    return nr + 1;
}

static unsigned user_ats(uint64_t *v)
{
    static const uint64_t all[] = {0x1000,
                                   0,
                                   1,
                                   0x1000 + 8192 - 1,
                                   0x1000 + 8192,
                                   0x1000 + 16,
                                   T_USER_LEN - 16,
                                   T_USER_LEN - 1,
                                   T_USER_LEN,
                                   T_USER_LEN + 1,
                                   (UINT64_C(1) << 56) - 1,
                                   (UINT64_C(1) << 56) + 1,
                                   T_ARENA,
                                   UINT64_MAX - 15,
                                   UINT64_MAX};

    memcpy(v, all, sizeof(all));
    return sizeof(all) / sizeof(all[0]);
}

static unsigned slices_in(uint64_t *v)
{
    v[0] = (uint64_t)(uintptr_t)&t_w.slice;
    v[1] = 0;
    v[2] = (uint64_t)(uintptr_t)&t_w.never;
    v[3] = (uint64_t)(uintptr_t)&t_w.gone.slice;
    v[4] = (uint64_t)(uintptr_t)&t_w.slice_out;
    return 5;
}

static unsigned slices_out(uint64_t *v)
{
    (void)slices_in(v);
    v[4] = (uint64_t)(uintptr_t)&t_w.slice_in;
    return 5;
}

/* The residue, and what could be copied. */
#define RESIDUE (T_BIT(MM_ERR_FAULT) | T_BIT(MM_ERR_INVALID_ADDRESS))
/* A structure is all zero then. */
#define ZEROED                                                                                     \
    (T_BIT(MM_ERR_FAULT) | T_BIT(MM_ERR_UNSUPPORTED) | T_BIT(MM_ERR_NO_MEMORY) | T_BIT(MM_ERR_IO))
#define SLICE_RESIDUE                                                                              \
    (T_BIT(MM_ERR_FAULT) | T_BIT(MM_ERR_INVALID_SIZE) | T_BIT(MM_ERR_PERMISSION_DENIED))
#define USER      T_PTR(uaccess)
#define LEN       T_NUM("len", 16)
#define WORD      T_NUM("size", 8)
#define SLICE_IN  T_BAD_OF("slice", slices_in)
#define SLICE_OUT T_BAD_OF("slice", slices_out)
#define OFFSET    T_NUM("offset", 16)

static const struct t_call all[] = {
    {.name = "mm_user_init",
     .invoke = do_init,
     .args = {T_PTR(fresh.user), T_GIVEN("ops"), T_BAD_OF("missing", one_of_each_op),
              T_NUM("start", 0), T_NUM("len", T_USER_LEN)}},
    {.name = "mm_user_copy_in",
     .invoke = do_copy_in,
     .tells = RESIDUE,
     .args = {USER, T_PTR(in), T_OF("from", user_ats), LEN, T_OUT}},
    {.name = "mm_user_copy_out",
     .invoke = do_copy_out,
     .tells = RESIDUE,
     .args = {USER, T_OF("to", user_ats), T_PTR(in), LEN, T_OUT}},
    {.name = "mm_user_clear",
     .invoke = do_clear,
     .tells = RESIDUE,
     .args = {USER, T_OF("to", user_ats), LEN, T_OUT}},
    {.name = "mm_user_string_in",
     .invoke = do_string_in,
     .tells = T_BIT(MM_ERR_FAULT) | T_BIT(MM_ERR_LIMIT), /* what is in `to` */
     .args = {USER, T_PTR(in), T_OF("from", user_ats), T_NUM("size", 200), T_OUT}},
    {.name = "mm_user_get", .invoke = do_get, .args = {USER, T_OUT, T_OF("from", user_ats), WORD}},
    {.name = "mm_user_put",
     .invoke = do_put,
     .args = {USER, T_OF("to", user_ats), T_PTR(in), WORD}},
    {.name = "mm_user_cmpxchg_u32",
     .invoke = do_cmpxchg_u32,
     .args = {USER, T_OF("at", user_ats), T_U32("expected", 0x75757575), T_U32("desired", 1),
              T_OUT}},
    {.name = "mm_user_cmpxchg_u64",
     .invoke = do_cmpxchg_u64,
     .args = {USER, T_OF("at", user_ats), T_NUM("expected", UINT64_C(0x7575757575757575)),
              T_NUM("desired", 1), T_OUT}},
    {.name = "mm_user_struct_in",
     .invoke = do_struct_in,
     .tells = ZEROED,
     .flags = T_CAN_FAIL | T_COMPOSED,
     .args = {USER, T_GIVEN("kind"), T_NUM("kind.size", 64), T_NUM("kind.least", 16),
              T_UPTO("kind.check", 1, 1), T_OUT, T_OF("from", user_ats), T_NUM("user_size", 64)}},
    {.name = "mm_user_sized_struct_in",
     .invoke = do_sized_struct_in,
     .setup = sized,
     .tells = ZEROED,
     .flags = T_CAN_FAIL | T_COMPOSED,
     .args = {USER, T_GIVEN("kind"), T_NUM("kind.size", 64), T_NUM("kind.least", 16),
              T_NUM("kind.size_at", 4), T_UPTO("kind.check", 1, 1), T_OUT, T_OF("from", user_ats)}},
    {.name = "mm_user_slice_open",
     .invoke = do_slice_open,
     .args = {USER, T_OF("start", user_ats), LEN,
              T_BITS("rights", MM_USER_READ, MM_USER_RIGHTS_ALL), T_PTR(fresh.slice)}},
    {.name = "mm_user_slice_close",
     .invoke = do_slice_close,
     .args = {T_LIVE_GONE(spare.slice, slice)}},
    {.name = "mm_user_slice_copy_in",
     .invoke = do_slice_copy_in,
     .tells = SLICE_RESIDUE,
     .args = {SLICE_IN, T_PTR(in), OFFSET, LEN, T_OUT}},
    {.name = "mm_user_slice_copy_out",
     .invoke = do_slice_copy_out,
     .tells = SLICE_RESIDUE,
     .args = {SLICE_OUT, OFFSET, T_PTR(in), LEN, T_OUT}},
    {.name = "mm_user_slice_clear",
     .invoke = do_slice_clear,
     .tells = SLICE_RESIDUE,
     .args = {SLICE_OUT, OFFSET, LEN, T_OUT}},
    {.name = "mm_user_slice_get", .invoke = do_slice_get, .args = {SLICE_IN, T_OUT, OFFSET, WORD}},
    {.name = "mm_user_slice_put",
     .invoke = do_slice_put,
     .args = {SLICE_OUT, OFFSET, T_PTR(in), WORD}},
    {.name = "mm_user_slice_copy_in",
     .note = "the page has gone",
     .invoke = do_slice_copy_in,
     .setup = slice_of_nothing,
     .tells = SLICE_RESIDUE,
     .flags = T_BAD_ONLY,
     .args = {T_PTR(slice), T_PTR(in), T_UPTO("offset", 16, 0), T_UPTO("len", 16, 0), T_OUT}},
    {.name = "mm_user_slice_copy_out",
     .note = "the page has gone",
     .invoke = do_slice_copy_out,
     .setup = slice_of_nothing,
     .tells = SLICE_RESIDUE,
     .flags = T_BAD_ONLY,
     .args = {T_PTR(slice), T_UPTO("offset", 16, 0), T_PTR(in), T_UPTO("len", 16, 0), T_OUT}},
    {.name = "mm_user_slice_clear",
     .note = "the page has gone",
     .invoke = do_slice_clear,
     .setup = slice_of_nothing,
     .tells = SLICE_RESIDUE,
     .flags = T_BAD_ONLY,
     .args = {T_PTR(slice), T_UPTO("offset", 16, 0), T_UPTO("len", 16, 0), T_OUT}},
    {.name = "mm_user_slice_get",
     .note = "the page has gone",
     .invoke = do_slice_get,
     .setup = slice_of_nothing,
     .flags = T_BAD_ONLY,
     .args = {T_PTR(slice), T_OUT, T_UPTO("offset", 16, 0), T_UPTO("size", 8, 0)}},
    {.name = "mm_user_slice_put",
     .note = "the page has gone",
     .invoke = do_slice_put,
     .setup = slice_of_nothing,
     .flags = T_BAD_ONLY,
     .args = {T_PTR(slice), T_UPTO("offset", 16, 0), T_PTR(in), T_UPTO("size", 8, 0)}},
};

const struct t_call_list t_calls_user = T_CALL_LIST(all);
