// SPDX-License-Identifier: MIT
/**
 * Calls of the frame room that show its state: index, drawing, pieces.
 */
#include "calls.h"

static int do_fragmentation(const uint64_t *a)
{
    return (int)mm_frame_fragmentation(T_P(0), T_W32(1), T_P(2));
}

static int do_draw(const uint64_t *a)
{
    return (int)mm_frame_draw(T_P(0), mm_pfn(a[1]), T_W32(2), T_P(3), (size_t)a[4]);
}

static int do_next_memory(const uint64_t *a)
{
    return (int)mm_frame_next_memory(T_P(0), mm_pfn(a[1]), T_P(2), T_P(3), NULL);
}

/* --- values ------------------------------------------------------------------------------------ */

static unsigned orders(uint64_t *v)
{
    v[0] = 4;
    v[1] = 0;
    v[2] = MM_FRAME_MAX_ORDER;
    v[3] = MM_FRAME_MAX_ORDER + 1;
    v[4] = 64;
    v[5] = UINT32_MAX;
    return 6;
}

/* Where a block begins, where none does, and where blocks end above all addresses. */
static unsigned firsts(uint64_t *v)
{
    v[0] = T_RAM_START / MM_PAGE_SIZE;
    v[1] = 0;
    v[2] = 1;
    v[3] = T_RAM_START / MM_PAGE_SIZE + 8;
    v[4] = (UINT64_C(1) << 40) - 16;
    v[5] = UINT64_C(1) << 40;
    v[6] = UINT64_MAX - 15;
    v[7] = UINT64_MAX;
    return 8;
}

/* --- the list ---------------------------------------------------------------------------------- */

#define FRAMES T_LIVE_GONE(frames, frames)

static const struct t_call draw[] = {
    {.name = "mm_frame_fragmentation",
     .invoke = do_fragmentation,
     .args = {FRAMES, T_OF("order", orders), T_OUT}},
    {.name = "mm_frame_draw",
     .invoke = do_draw,
     .args = {FRAMES, T_OF("first", firsts), T_OF("order", orders), T_OUT,
              T_UPTO("len", 64, 4096)}},
    {.name = "mm_frame_next_memory",
     .invoke = do_next_memory,
     .args = {FRAMES, T_NUM("from", 0), T_OUT, T_OUT2}},
};

const struct t_call_list t_calls_draw = T_CALL_LIST(draw);
