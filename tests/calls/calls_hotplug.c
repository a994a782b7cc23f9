// SPDX-License-Identifier: MIT
/**
 * Calls of the frame room that make memory come and go, and zero it ahead of time: of the spare
 * allocator, which has one line of 512 frames that is free as a whole, and that nobody reaches. And
 * what a kernel gives it to zero with.
 */
#include "calls.h"

#include <string.h>

#define START (64 * T_MIB)
#define LEN   (2 * T_MIB)

static int do_add(const uint64_t *a)
{
    return (int)mm_frame_add(T_P(0), T_PRANGE(1), T_P(3));
}

static int do_remove(const uint64_t *a)
{
    return (int)mm_frame_remove(T_P(0), T_PRANGE(1));
}

static int do_prezero(const uint64_t *a)
{
    return (int)mm_frame_prezero(T_P(0), a[1], T_P(2));
}

static int do_zero(const uint64_t *a)
{
    return T_MADE(mm_x86_64_zero_past_cache(T_P(0), t_w.out, a[1]));
}

/* --- set-ups ----------------------------------------------------------------------------------- */

static void removed(void)
{
    (void)!mm_frame_remove(&t_w.spare.frames, mm_prange(mm_paddr(START), LEN));
}

static void removed_and_changing(void)
{
    removed();
    t_w.spare.frames.changing = 1; /* another CPU is at it */
}

static void changing(void)
{
    t_w.spare.frames.changing = 1;
}

static void in_use(void)
{
    (void)!mm_frame_alloc_at(&t_w.spare.frames, mm_pfn(START / 4096 + 99), 1);
}

/* Every frame is mapped to the same page, which is nobody's. Of 512, some can fail. */
static unsigned char page[4096] __attribute__((aligned(4096)));

static void *map_frame(void *ctx, mm_pfn_t frame)
{
    (void)ctx;
    t_h.nr_ops++;
    return frame.raw % 32 == 1 && t_inject_fails(&t_h.inject) ? NULL : page;
}

static void unmap_frame(void *ctx, void *mapped)
{
    (void)ctx;
    (void)mapped;
    t_h.nr_ops++;
}

static void known_zero(void)
{
    static const struct mm_physmap_ops ops = {.map = map_frame, .unmap = unmap_frame};

    t_w.spare.frames.flags |= MM_FRAMES_KNOWN_ZERO;
    t_w.spare.frames.has_physmap = 1;
    t_w.spare.frames.physmap_reaches = 1;
    t_w.spare.frames.physmap = (struct mm_physmap){.ops = &ops};
}

/* It asks for no frame but the one line. */
static void not_scarce(uint64_t nr)
{
    (void)nr;
}

/* --- values ------------------------------------------------------------------------------------ */

static unsigned starts(uint64_t *v)
{
    const uint64_t all[] = {START,         START + 1,         START + 4096,      START - 4096,
                            START - T_MIB, START + T_MIB,     START + LEN,       0,
                            4096,          UINT64_C(1) << 52, UINT64_MAX - 4095, UINT64_MAX};

    memcpy(v, all, sizeof(all));
    return sizeof(all) / sizeof(all[0]);
}

static unsigned lengths(uint64_t *v)
{
    const uint64_t all[] = {LEN,       0,
                            1,         4096,
                            LEN - 1,   LEN - 4096,
                            LEN + 1,   LEN + 4096,
                            64 * LEN,  UINT64_C(1) << 52,
                            0 - START, 0 - START + 4096,
                            UINT64_MAX};

    memcpy(v, all, sizeof(all));
    return sizeof(all) / sizeof(all[0]);
}

static unsigned zeroed_lengths(uint64_t *v)
{
    v[0] = 128;
    v[1] = 0;
    v[2] = 64;
    v[3] = sizeof(t_w.out);
    return 4;
}

#define SPARE T_LIVE_GONE(spare.frames, frames)
#define RANGE T_OF("start", starts), T_OF("len", lengths)

static const struct t_call hotplug[] = {
    {.name = "mm_frame_add", .invoke = do_add, .setup = removed, .args = {SPARE, RANGE, T_OUT}},
    {.name = "mm_frame_add",
     .note = "while another CPU does",
     .invoke = do_add,
     .setup = removed_and_changing,
     .flags = T_BAD_ONLY,
     .args = {SPARE, RANGE, T_OUT}},
    {.name = "mm_frame_remove", .invoke = do_remove, .args = {SPARE, RANGE}},
    {.name = "mm_frame_remove",
     .note = "while another CPU does",
     .invoke = do_remove,
     .setup = changing,
     .flags = T_BAD_ONLY,
     .args = {SPARE, RANGE}},
    {.name = "mm_frame_remove",
     .note = "of what is in use",
     .invoke = do_remove,
     .setup = in_use,
     .flags = T_BAD_ONLY,
     .args = {SPARE, RANGE}},
    {.name = "mm_frame_prezero",
     .invoke = do_prezero,
     .setup = known_zero,
     .scarce = not_scarce,
     .flags = T_CAN_FAIL,
     .args = {SPARE, T_NUM("nr_blocks", 1), T_OUT}},
    {.name = "mm_frame_prezero",
     .note = "nothing is known to be zero",
     .invoke = do_prezero,
     .flags = T_BAD_ONLY,
     .args = {SPARE, T_NUM("nr_blocks", 1), T_OUT}},
    {.name = "mm_x86_64_zero_past_cache",
     .invoke = do_zero,
     .args = {T_PTR(frames), T_OF("len", zeroed_lengths)}},
};

const struct t_call_list t_calls_hotplug = T_CALL_LIST(hotplug);
