// SPDX-License-Identifier: MIT
/**
 * Calls of the room dma.
 */
#include "calls.h"

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

#define DMA T_LIVE_GONE(dma, dma)

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
};

const struct t_call_list t_calls_dma = T_CALL_LIST(all);
