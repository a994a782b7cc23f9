// SPDX-License-Identifier: MIT
/**
 * Calls of the rooms dma and user.
 */
#include "calls.h"

#include <string.h>

/* --- dma --------------------------------------------------------------------------------------- */

static int do_dma_init(const uint64_t *a)
{
    struct mm_dma_config config = {T_P(2), T_P(3), t_world_platform()};

    return (int)mm_dma_init(T_P(0), a[1] == 0 ? NULL : &config);
}

static int do_dma_destroy(const uint64_t *a)
{
    return (int)mm_dma_destroy(T_P(0));
}

static int do_dma_alloc(const uint64_t *a)
{
    struct mm_dma_constraints constraints = {{a[3]}, a[4], a[5]};

    return (int)mm_dma_alloc(T_P(0), a[1], a[2] == 0 ? NULL : &constraints, T_W32(6), T_P(7));
}

static int do_dma_free(const uint64_t *a)
{
    return (int)mm_dma_free(T_P(0), T_P(1));
}

static int do_dma_get_stats(const uint64_t *a)
{
    return (int)mm_dma_get_stats(T_P(0), T_P(1));
}

/* --- user -------------------------------------------------------------------------------------- */

static int do_user_init(const uint64_t *a)
{
    struct mm_user_ops ops = t_world_user_ops;

    switch (a[2]) {
    case 1:
        ops.copy_in = NULL;
        break;
    case 2:
        ops.copy_out = NULL;
        break;
    case 3:
        ops.clear = NULL;
        break;
    case 4:
        ops.string_in = NULL;
        break;
    default:
        break;
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

/* --- values ------------------------------------------------------------------------------------ */

static unsigned physmaps(uint64_t *v)
{
    v[0] = (uint64_t)(uintptr_t)&t_w.physmap;
    v[1] = 0;
    v[2] = (uint64_t)(uintptr_t)&t_w.physmap_ops;
    v[3] = (uint64_t)(uintptr_t)&t_w.physmap_short;
    v[4] = (uint64_t)(uintptr_t)&t_w.physmap_half;
    return 5;
}

static unsigned one_to_four(uint64_t *v)
{
    for (uint64_t i = 0; i < 5; i++) {
        v[i] = i;
    }
    return 5;
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

/* The residue, and what could be copied. */
#define RESIDUE (T_BIT(MM_ERR_FAULT) | T_BIT(MM_ERR_INVALID_ADDRESS))
#define DMA     T_LIVE_GONE(dma, dma)
#define USER    T_PTR(uaccess)
#define LEN     T_NUM("len", 16)

static const struct t_call all[] = {
    {.name = "mm_dma_init",
     .invoke = do_dma_init,
     .args = {T_FRESH_(dma, dma), T_GIVEN("config"), T_LIVE_GONE(frames, frames),
              T_OF("physmap", physmaps)}},
    {.name = "mm_dma_destroy", .invoke = do_dma_destroy, .args = {T_LIVE_GONE(spare.dma, dma)}},
    {.name = "mm_dma_destroy",
     .note = "a region is out",
     .invoke = do_dma_destroy,
     .flags = T_BAD_ONLY,
     .args = {T_LIVE_(dma)}},
    {.name = "mm_dma_alloc",
     .invoke = do_dma_alloc,
     .flags = T_CAN_FAIL,
     .args = {DMA, T_NUM("len", 5000), T_GIVEN("constraints"), T_NUM("highest", 0),
              T_NUM("align", 0), T_NUM("boundary", 0), T_BITS("flags", 0, MM_DMA_FLAGS_ALL),
              T_FRESH_(region, region)}},
    {.name = "mm_dma_free", .invoke = do_dma_free, .args = {DMA, T_LIVE_GONE(region, region)}},
    {.name = "mm_dma_get_stats", .invoke = do_dma_get_stats, .args = {DMA, T_OUT}},
    {.name = "mm_user_init",
     .invoke = do_user_init,
     .args = {T_PTR(fresh.user), T_GIVEN("ops"), T_BAD_OF("missing", one_to_four),
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
};

const struct t_call_list t_calls_dma = T_CALL_LIST(all);
