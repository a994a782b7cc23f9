// SPDX-License-Identifier: MIT
/**
 * Calls of the frame room about pressure: watermarks, levels.
 */
#include "calls.h"

static int do_set_watermarks(const uint64_t *a)
{
    struct mm_frame_watermarks marks = {.min = a[4], .low = a[5], .high = a[6]};

    return (int)mm_frame_set_watermarks(T_P(0), T_W32(1), T_W32(2), a[3] == 0 ? NULL : &marks);
}

static int do_pressure(const uint64_t *a)
{
    return T_NONZERO(mm_frame_pressure(T_P(0), T_W32(1), T_W32(2)));
}

/* Short of memory wherever there is any: the world's lies below 16 MiB. */
static void press(void)
{
    struct mm_frame_watermarks marks = {.min = 1, .low = UINT64_MAX, .high = UINT64_MAX};

    if (mm_frame_set_watermarks(&t_w.frames, MM_NODE_ALL, MM_ZONE_ALL, &marks) != MM_OK) {
        __builtin_trap();
    }
}

/* --- values ------------------------------------------------------------------------------------ */

static unsigned nodes(uint64_t *v)
{
    v[0] = 0;
    v[1] = MM_NODE_ALL;
    v[2] = 1;
    v[3] = 64;
    v[4] = UINT32_MAX - 1;
    return 5;
}

static unsigned zones(uint64_t *v)
{
    v[0] = MM_ZONE_DMA;
    v[1] = MM_ZONE_ALL;
    v[2] = MM_ZONE_NORMAL;
    v[3] = MM_ZONE_COUNT;
    v[4] = UINT32_MAX - 1;
    return 5;
}

/* In order by themselves, and not with some of the others; few, since all are combined. */
static unsigned mins(uint64_t *v)
{
    v[0] = 1;
    v[1] = 0;
    v[2] = 3;
    v[3] = UINT64_MAX;
    return 4;
}

static unsigned lows(uint64_t *v)
{
    v[0] = 2;
    v[1] = 0;
    v[2] = UINT64_MAX;
    return 3;
}

static unsigned highs(uint64_t *v)
{
    v[0] = 3;
    v[1] = 0;
    v[2] = 1;
    v[3] = UINT64_MAX;
    return 4;
}

/* --- the list ---------------------------------------------------------------------------------- */

#define FRAMES T_LIVE_GONE(frames, frames)

static const struct t_call pressure[] = {
    {.name = "mm_frame_set_watermarks",
     .invoke = do_set_watermarks,
     .args = {FRAMES, T_OF("node", nodes), T_OF("zone", zones), T_GIVEN("watermarks"),
              T_OF("min", mins), T_OF("low", lows), T_OF("high", highs)}},
    {.name = "mm_frame_pressure",
     .invoke = do_pressure,
     .setup = press,
     .args = {FRAMES, T_OF("node", nodes), T_OF("zone", zones)}},
};

const struct t_call_list t_calls_pressure = T_CALL_LIST(pressure);
