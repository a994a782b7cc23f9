// SPDX-License-Identifier: MIT
/**
 * Calls of the frame room that keep its ledger: pins, lists of references, owners, and records that
 * come late. The world's allocator has counts; where owners are needed, they are added to it first.
 */
#include "calls.h"

#include <string.h>

static int do_put_bulk(const uint64_t *a)
{
    return T_MADE((void)mm_frame_put_bulk(T_P(0), T_P(1), a[2]));
}

static int do_put_run(const uint64_t *a)
{
    return T_MADE((void)mm_frame_put_run(T_P(0), mm_pfn(a[1]), a[2]));
}

static int do_pin(const uint64_t *a)
{
    return T_MADE(mm_frame_pin(T_P(0), mm_pfn(a[1])));
}

static int do_unpin(const uint64_t *a)
{
    return T_MADE((void)mm_frame_unpin(T_P(0), mm_pfn(a[1])));
}

static int do_make_mortal(const uint64_t *a)
{
    return T_MADE(mm_frame_make_mortal(T_P(0), mm_pfn(a[1])));
}

static int do_pins(const uint64_t *a)
{
    return T_NONZERO(mm_frame_pins(T_P(0), mm_pfn(a[1])));
}

static int do_free_owned(const uint64_t *a)
{
    return T_MADE(
        mm_frame_free_owned(T_P(0), mm_pfn(a[1]), a[2], (enum mm_frame_owner)T_W32(3), a[4]));
}

static int do_owner(const uint64_t *a)
{
    return (int)mm_frame_owner(T_P(0), mm_pfn(a[1]), T_P(2));
}

static int do_set_owner(const uint64_t *a)
{
    return (int)mm_frame_set_owner(T_P(0), mm_pfn(a[1]), a[2], (enum mm_frame_owner)T_W32(3), a[4]);
}

static int do_records_size(const uint64_t *a)
{
    return (int)mm_frame_records_size(T_P(0), T_W32(1), T_P(2));
}

static int do_add_records(const uint64_t *a)
{
    unsigned char *metadata = a[2] == 0   ? NULL
                              : a[2] == 2 ? t_w.metadata /* in use, so not zeroed */
                                          : t_w.metadata2 + (a[2] - 1);

    return (int)mm_frame_add_records(T_P(0), T_W32(1), metadata, a[3]);
}

/* --- set-ups ----------------------------------------------------------------------------------- */

static void pinned(void)
{
    mm_frame_pin(&t_w.frames, t_w.frame);
}

/* The last of it goes with the call. */
static void only_pinned(void)
{
    pinned();
    (void)mm_frame_put(&t_w.frames, t_w.frame);
}

static void immortal(void)
{
    mm_frame_make_immortal(&t_w.frames, t_w.frame);
}

/* Each frame of the list has another reference, and one of them a pin. */
static void list_shared(void)
{
    for (unsigned i = 0; i < 8; i += 3) {
        mm_frame_get(&t_w.frames, t_w.list[i]);
    }
    mm_frame_pin(&t_w.frames, t_w.list[1]);
}

static void owned(void)
{
    (void)!mm_frame_add_records(&t_w.frames, MM_FRAMES_OWNERS, t_w.metadata2,
                                sizeof(t_w.metadata2));
    (void)!mm_frame_set_owner(&t_w.frames, t_w.block, 4, MM_OWNER_HEAP, 9);
}

/* --- values ------------------------------------------------------------------------------------ */

/* The first frame of what there is, then free, shared, foreign ones and what is beyond all. */
static unsigned around(uint64_t *v, mm_pfn_t first)
{
    const uint64_t all[] = {first.raw,
                            t_w.frame_freed.raw,
                            t_w.frame_shared.raw,
                            t_w.block.raw + 1,
                            0,
                            T_RAM_START / 4096 - 1,
                            (T_RAM_START + T_RAM_LEN) / 4096,
                            (T_RAM2_START + T_RAM2_LEN) / 4096,
                            (UINT64_C(1) << 40) - 1,
                            UINT64_C(1) << 40,
                            (UINT64_C(1) << 52) - 1,
                            UINT64_C(1) << 52,
                            UINT64_MAX};

    memcpy(v, all, sizeof(all));
    return sizeof(all) / sizeof(all[0]);
}

static unsigned singles(uint64_t *v)
{
    return around(v, t_w.frame);
}

static unsigned blocks(uint64_t *v)
{
    return around(v, t_w.block);
}

static unsigned run_lengths(uint64_t *v)
{
    static const uint64_t all[] = {
        4,         0, 1, 3, 5, 4097, (UINT64_C(1) << 40) + 1, UINT64_C(1) << 52, UINT64_C(1) << 63,
        UINT64_MAX};

    memcpy(v, all, sizeof(all));
    return sizeof(all) / sizeof(all[0]);
}

/* One more than the place in zeroed memory. */
static unsigned places(uint64_t *v)
{
    v[0] = 1;
    v[1] = 0; /* none */
    v[2] = 2; /* not zeroed */
    v[3] = 9; /* misaligned */
    v[4] = 33;
    return 5;
}

static unsigned lengths(uint64_t *v)
{
    v[0] = sizeof(t_w.metadata2);
    v[1] = 0;
    v[2] = 64;
    v[3] = 4096;
    return 4;
}

#define FRAMES    T_LIVE_GONE(frames, frames)
#define BOTH      (MM_FRAMES_REFCOUNTS | MM_FRAMES_OWNERS)
#define OWNER_TAG T_ENUM("owner", MM_OWNER_HEAP, MM_OWNER_COUNT), T_NUM("tag", 9)

static const struct t_call ledger[] = {
    {.name = "mm_frame_put_bulk",
     .invoke = do_put_bulk,
     .setup = list_shared,
     .panics = "frame",
     .args = {FRAMES, T_PTR(list), T_UPTO("count", 8, 8)}},
    {.name = "mm_frame_put_run",
     .invoke = do_put_run,
     .panics = "frame",
     .args = {FRAMES, T_OF("first", singles), T_UPTO("nr_frames", 1, 1)}},
    {.name = "mm_frame_pin",
     .invoke = do_pin,
     .panics = "frame",
     .args = {FRAMES, T_OF("frame", singles)}},
    {.name = "mm_frame_unpin",
     .invoke = do_unpin,
     .setup = pinned,
     .panics = "frame",
     .args = {FRAMES, T_OF("frame", singles)}},
    {.name = "mm_frame_unpin",
     .note = "the last of a frame",
     .invoke = do_unpin,
     .setup = only_pinned,
     .flags = T_BAD_ONLY, /* the world holds it no longer */
     .panics = "frame",
     .args = {FRAMES, T_OF("frame", singles)}},
    {.name = "mm_frame_pins",
     .invoke = do_pins,
     .setup = pinned,
     .args = {FRAMES, T_OF("frame", singles)}},
    {.name = "mm_frame_make_mortal",
     .invoke = do_make_mortal,
     .setup = immortal,
     .panics = "frame",
     .args = {FRAMES, T_OF("frame", singles)}},
    {.name = "mm_frame_free_owned",
     .invoke = do_free_owned,
     .setup = owned,
     .panics = "frame",
     .args = {FRAMES, T_OF("first", blocks), T_OF("nr_frames", run_lengths), OWNER_TAG}},
    {.name = "mm_frame_owner",
     .invoke = do_owner,
     .setup = owned,
     .args = {FRAMES, T_OF("frame", blocks), T_OUT}},
    {.name = "mm_frame_owner",
     .note = "none are kept",
     .invoke = do_owner,
     .flags = T_BAD_ONLY,
     .args = {FRAMES, T_OF("frame", blocks), T_OUT}},
    {.name = "mm_frame_set_owner",
     .invoke = do_set_owner,
     .setup = owned,
     .args = {FRAMES, T_OF("first", blocks), T_OF("nr_frames", run_lengths), OWNER_TAG}},
    {.name = "mm_frame_set_owner",
     .note = "none are kept",
     .invoke = do_set_owner,
     .flags = T_BAD_ONLY,
     .args = {FRAMES, T_OF("first", blocks), T_OF("nr_frames", run_lengths), OWNER_TAG}},
    {.name = "mm_frame_records_size",
     .invoke = do_records_size,
     .args = {T_LIVE_GONE(spare.frames, frames), T_BITS("flags", BOTH, BOTH), T_OUT}},
    {.name = "mm_frame_records_size",
     .note = "there are counts",
     .invoke = do_records_size,
     .flags = T_BAD_ONLY,
     .args = {FRAMES, T_BITS("flags", BOTH, BOTH), T_OUT}},
    {.name = "mm_frame_add_records",
     .invoke = do_add_records,
     .args = {T_LIVE_GONE(spare.frames, frames), T_BITS("flags", BOTH, BOTH),
              T_OF("metadata", places), T_OF("len", lengths)}},
    {.name = "mm_frame_add_records",
     .note = "there are counts",
     .invoke = do_add_records,
     .flags = T_BAD_ONLY,
     .args = {FRAMES, T_BITS("flags", BOTH, BOTH), T_OF("metadata", places), T_OF("len", lengths)}},
};

const struct t_call_list t_calls_ledger = T_CALL_LIST(ledger);
