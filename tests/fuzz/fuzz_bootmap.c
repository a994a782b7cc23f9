// SPDX-License-Identifier: MIT
/**
 * Boot maps against a list of pieces that is plainly right: each piece of the address space has one
 * kind, an add raises the kind of every piece it covers, and splits those it cuts. The map's
 * entries must be those pieces; every query is answered a second time from them, and from the
 * oracle of usable frames.
 */
#include "fuzz.h"

#include "model_bootmap.h"

#include <mm/bootmap.h>
#include <mm/physmap.h>

#define MAX_OPS    48u
#define MAX_PIECES (4u * MAX_OPS + 8u)
#define NOTHING    (-1)
#define MEMORY_END (UINT64_C(1) << 52)

struct piece {
    uint64_t first; /* byte; the piece ends before the next one begins, the last one at 2^64 */
    int kind;
};

static struct piece pieces[MAX_PIECES];
static unsigned nr_pieces;
static struct mm_bootmap map;
static struct mm_boot_entry entries[128];

/* --- the model ----------------------------------------------------------------------------------
 */

static uint64_t piece_last(unsigned i)
{
    return i + 1 == nr_pieces ? UINT64_MAX : pieces[i + 1].first - 1;
}

/* A piece begins at `at`; returns its number. */
static unsigned cut(uint64_t at)
{
    unsigned i = 0;

    while (i < nr_pieces && pieces[i].first < at) {
        i++;
    }
    if (i == nr_pieces || pieces[i].first != at) {
        FZ_TRUE(nr_pieces < MAX_PIECES);
        memmove(&pieces[i + 1], &pieces[i], (nr_pieces - i) * sizeof(pieces[0]));
        pieces[i] = (struct piece){at, pieces[i - 1].kind};
        nr_pieces++;
    }
    return i;
}

/* Neighbours of one kind become one. */
static void join(void)
{
    unsigned to = 0;

    for (unsigned i = 1; i < nr_pieces; i++) {
        if (pieces[i].kind != pieces[to].kind) {
            pieces[++to] = pieces[i];
        }
    }
    nr_pieces = to + 1;
}

/* [start, last] is of this kind, unless it is of a higher one, or `anyway`. */
static void model_add(uint64_t start, uint64_t last, int kind, bool anyway)
{
    unsigned begin = cut(start);
    unsigned end = last == UINT64_MAX ? nr_pieces : cut(last + 1);

    begin = cut(start);
    end = last == UINT64_MAX ? nr_pieces : end;
    for (unsigned i = begin; i < end; i++) {
        pieces[i].kind = anyway || kind > pieces[i].kind ? kind : pieces[i].kind;
    }
    join();
}

static void usable_runs(struct t_mboot *model)
{
    struct t_memory memory[MAX_PIECES] = {{0}};
    size_t nr = 0;

    for (unsigned i = 0; i < nr_pieces; i++) {
        if (pieces[i].kind != NOTHING) {
            /* One byte short of 2^64 no frame is lost: the limit is far below. */
            memory[nr].start = pieces[i].first;
            memory[nr].len = piece_last(i) - pieces[i].first;
            memory[nr].len += memory[nr].len != UINT64_MAX ? 1 : 0;
            memory[nr].usable = pieces[i].kind == MM_BOOT_USABLE;
            nr++;
        }
    }
    t_mboot_init(model, memory, nr, MEMORY_END, MM_PAGE_SIZE);
}

/* --- choosing -----------------------------------------------------------------------------------
 */

/* Addresses that meet each other: near a few bases, frames and bytes apart. */
static uint64_t choose_address(void)
{
    static const uint64_t bases[] = {0,          UINT64_C(0x100000), UINT64_C(0x80000000),
                                     MEMORY_END, UINT64_C(1) << 63,  UINT64_MAX};
    unsigned how = fz_u8();
    uint64_t offset = fz_below(64) * MM_PAGE_SIZE;

    offset += how / 8 % 4 == 1 ? 1 : how / 8 % 4 == 2 ? fz_below(MM_PAGE_SIZE) : 0;
    if (how % 8 == 7) {
        return fz_bytes(8);
    }
    return how % 8 >= 5 || how >= 224 ? bases[how % 6] - offset : bases[how % 6] + offset;
}

/* Two addresses make a range; false: an empty one. */
static bool choose_range(uint64_t *start, uint64_t *last)
{
    uint64_t a = choose_address();
    uint64_t b = choose_address();

    *start = a < b ? a : b;
    *last = (a < b ? b : a) - 1;
    /* No range holds all 2^64 bytes. */
    *last -= a != b && *start == 0 && *last == UINT64_MAX ? 1 : 0;
    return a != b;
}

static struct mm_prange range_of(uint64_t start, uint64_t last)
{
    return mm_prange(mm_paddr(start), last - start + 1);
}

/* --- operations ---------------------------------------------------------------------------------
 */

static void op_add(void)
{
    unsigned kind = fz_u8() % (MM_BOOT_KIND_COUNT + 3);
    uint32_t room = mm_bootmap_room(&map);
    struct mm_bootmap before = map;
    uint64_t start;
    uint64_t last;
    mm_status_t status;

    kind = kind >= MM_BOOT_KIND_COUNT ? MM_BOOT_USABLE : kind;
    fz_op("add");
    if (!choose_range(&start, &last)) {
        FZ_EQUAL(mm_bootmap_add(&map, mm_prange(mm_paddr(start), 0), kind), MM_OK);
        FZ_EQUAL(memcmp(&map, &before, sizeof(map)), 0);
        return;
    }
    status = mm_bootmap_add(&map, range_of(start, last), kind);
    FZ_EQUAL(status, room > 0 ? MM_OK : MM_ERR_LIMIT);
    if (status == MM_OK) {
        model_add(start, last, (int)kind, false);
    } else {
        FZ_EQUAL(memcmp(&map, &before, sizeof(map)), 0);
    }
}

static void compare(void)
{
    uint32_t nr = 0;

    FZ_EQUAL(mm_bootmap_normalize(&map), MM_OK);
    for (unsigned i = 0; i < nr_pieces; i++) {
        if (pieces[i].kind == NOTHING) {
            continue;
        }
        FZ_TRUE(nr < map.nr);
        FZ_EQUAL(map.entries[nr].range.start.raw, pieces[i].first);
        FZ_EQUAL(map.entries[nr].kind, pieces[i].kind);
        if (pieces[i].first == 0 && piece_last(i) == UINT64_MAX) { /* kept as two */
            nr++;
            FZ_TRUE(nr < map.nr);
            FZ_EQUAL(map.entries[nr].range.start.raw, map.entries[nr - 1].range.len);
            FZ_EQUAL(map.entries[nr].kind, pieces[i].kind);
        }
        FZ_EQUAL(mm_prange_last(map.entries[nr].range).raw, piece_last(i));
        nr++;
    }
    FZ_EQUAL(map.nr, nr);
}

/* The first frame at or above `from` that is usable, and the run that it begins. */
static void op_next(void)
{
    uint64_t from = choose_address();
    struct mm_prange out = {{1}, 2};
    struct t_mboot model;
    struct t_mboot_run want = {0, 0};
    uint64_t first = from / MM_PAGE_SIZE + (from % MM_PAGE_SIZE != 0 ? 1 : 0);

    fz_op("next");
    usable_runs(&model);
    for (size_t i = 0; i < model.nr && want.nr == 0; i++) {
        if (model.runs[i].first + model.runs[i].nr > first) {
            want.first = model.runs[i].first > first ? model.runs[i].first : first;
            want.nr = model.runs[i].first + model.runs[i].nr - want.first;
        }
    }
    FZ_EQUAL(mm_bootmap_next(&map, MM_BOOT_USABLE, mm_paddr(from), &out),
             want.nr == 0 ? MM_ERR_REGION_NOT_FOUND : MM_OK);
    FZ_EQUAL(out.start.raw, want.nr == 0 ? 1 : want.first * MM_PAGE_SIZE);
    FZ_EQUAL(out.len, want.nr == 0 ? 2 : want.nr * MM_PAGE_SIZE);
    FZ_EQUAL(mm_bootmap_usable_bytes(&map), t_mboot_count(&model) * MM_PAGE_SIZE);
    t_mboot_destroy(&model);
}

/* Is the frame in the set that mm_bootmap_next_frames() walks? The header's words, piece by piece. */
static bool frame_counts(uint64_t frame, uint32_t whole, uint32_t touched)
{
    uint64_t start = frame * MM_PAGE_SIZE;
    bool all = true;

    for (unsigned i = 0; i < nr_pieces; i++) {
        uint32_t bit = pieces[i].kind == NOTHING ? 0 : MM_BOOT_BIT((unsigned)pieces[i].kind);

        if (pieces[i].first <= start + MM_PAGE_MASK && piece_last(i) >= start) {
            if ((bit & touched) != 0) {
                return true;
            }
            all = all && (bit & whole) != 0;
        }
    }
    return all;
}

static void op_next_frames(void)
{
    uint32_t whole = (uint32_t)fz_bytes(2) & (MM_BOOT_BIT(MM_BOOT_KIND_COUNT) - 1);
    uint32_t touched = (uint32_t)fz_bytes(2) & (uint32_t)fz_bytes(2) & 0x1fff;
    uint64_t from = choose_address();
    struct mm_prange out = {{1}, 2};
    mm_status_t status;
    uint64_t first;

    fz_op("next frames");
    status = mm_bootmap_next_frames(&map, whole, touched, mm_paddr(from), &out);
    if ((whole | touched) == 0) {
        FZ_EQUAL(status, MM_ERR_INVALID_ARGUMENT);
        return;
    }
    if (status != MM_OK) {
        FZ_EQUAL(status, MM_ERR_REGION_NOT_FOUND);
        FZ_EQUAL(out.start.raw, 1);
        out = mm_prange(mm_paddr(MEMORY_END), 0); /* then nothing up to there counts */
    }
    /* Frames change only where a piece begins or ends: looking there, and one on, is enough. */
    first = out.start.raw / MM_PAGE_SIZE;
    for (unsigned i = 0; i <= nr_pieces; i++) {
        uint64_t edge = (i == nr_pieces ? from : pieces[i].first) / MM_PAGE_SIZE;

        for (uint64_t frame = edge == 0 ? 0 : edge - 1; frame <= edge + 1; frame++) {
            if (frame * MM_PAGE_SIZE >= from && frame < MEMORY_END / MM_PAGE_SIZE &&
                frame < first) {
                FZ_TRUE(!frame_counts(frame, whole, touched));
            }
            if (frame >= first && frame < first + out.len / MM_PAGE_SIZE) {
                FZ_TRUE(frame_counts(frame, whole, touched));
            }
        }
    }
    if (status == MM_OK) {
        uint64_t end = first + out.len / MM_PAGE_SIZE;

        FZ_TRUE(out.len != 0 && mm_is_aligned(out.start.raw | out.len, MM_PAGE_SIZE));
        FZ_TRUE(out.start.raw >= from && frame_counts(first, whole, touched));
        FZ_TRUE(end == MEMORY_END / MM_PAGE_SIZE || !frame_counts(end, whole, touched));
    }
}

/* The part of a run inside of [start, last]. */
static struct t_mboot_run inside(struct t_mboot_run run, uint64_t start, uint64_t last)
{
    uint64_t low = start / MM_PAGE_SIZE + (start % MM_PAGE_SIZE != 0 ? 1 : 0);
    uint64_t end = last / MM_PAGE_SIZE + (last % MM_PAGE_SIZE == MM_PAGE_MASK ? 1 : 0);

    low = low > run.first ? low : run.first;
    end = end < run.first + run.nr ? end : run.first + run.nr;
    return (struct t_mboot_run){low, end > low ? end - low : 0};
}

static void op_largest(void)
{
    struct mm_prange out = {{1}, 2};
    struct t_mboot_run want = {0, 0};
    struct t_mboot model;
    uint64_t start;
    uint64_t last;

    fz_op("largest");
    if (!choose_range(&start, &last)) {
        return;
    }
    usable_runs(&model);
    for (size_t i = 0; i < model.nr; i++) {
        struct t_mboot_run run = inside(model.runs[i], start, last);

        want = run.nr > want.nr ? run : want;
    }
    t_mboot_destroy(&model);
    FZ_EQUAL(mm_bootmap_largest(&map, range_of(start, last), &out),
             want.nr == 0 ? MM_ERR_REGION_NOT_FOUND : MM_OK);
    FZ_EQUAL(out.start.raw, want.nr == 0 ? 1 : want.first * MM_PAGE_SIZE);
    FZ_EQUAL(out.len, want.nr == 0 ? 2 : want.nr * MM_PAGE_SIZE);
}

/* The highest place for `nr` frames, UINT64_MAX if there is none. */
static uint64_t model_take(uint64_t nr, uint64_t align, uint64_t start, uint64_t last)
{
    uint64_t best = UINT64_MAX;
    struct t_mboot model;

    usable_runs(&model);
    for (size_t i = 0; i < model.nr; i++) {
        struct t_mboot_run run = inside(model.runs[i], start, last);

        if (run.nr >= nr) {
            uint64_t first = (run.first + run.nr - nr) / align * align;

            best = first >= run.first && first != 0 ? first : best;
        }
    }
    t_mboot_destroy(&model);
    return best;
}

static void op_take(void)
{
    uint64_t nr = 1 + fz_below(16);
    uint64_t align = UINT64_C(1) << (fz_u8() % 6);
    uint64_t len = nr * MM_PAGE_SIZE - fz_below(MM_PAGE_SIZE);
    struct mm_prange out = {{1}, 2};
    uint64_t want;
    uint64_t start;
    uint64_t last;
    mm_status_t status;

    fz_op("take");
    if (!choose_range(&start, &last)) {
        return;
    }
    compare();
    want = model_take(nr, align, start, last);
    status = mm_bootmap_take(&map, len, align * MM_PAGE_SIZE, range_of(start, last), &out);
    if (status != MM_ERR_LIMIT || want == UINT64_MAX) {
        FZ_EQUAL(status, want == UINT64_MAX ? MM_ERR_NO_MEMORY : MM_OK);
    } else {
        FZ_EQUAL(mm_bootmap_room(&map), 0);
    }
    FZ_EQUAL(out.start.raw, status == MM_OK ? want * MM_PAGE_SIZE : 1);
    FZ_EQUAL(out.len, status == MM_OK ? nr * MM_PAGE_SIZE : 2);
    if (status == MM_OK) {
        model_add(out.start.raw, mm_prange_last(out).raw, MM_BOOT_METADATA, false);
    }
}

static void op_give(void)
{
    bool held = false;
    uint64_t start;
    uint64_t last;
    mm_status_t status;

    fz_op("give");
    if (!choose_range(&start, &last)) {
        return;
    }
    compare();
    for (unsigned i = 0; i < nr_pieces; i++) {
        held = held || (pieces[i].kind == MM_BOOT_METADATA && pieces[i].first <= start &&
                        piece_last(i) >= last);
    }
    status = mm_bootmap_give(&map, range_of(start, last));
    if (((start | (last + 1)) & MM_PAGE_MASK) != 0) {
        FZ_EQUAL(status, MM_ERR_NOT_ALIGNED);
    } else if (!held) {
        FZ_EQUAL(status, MM_ERR_INVALID_ADDRESS);
    } else if (status == MM_ERR_LIMIT) {
        FZ_TRUE(map.capacity + 1 - map.boundaries < 2);
    } else {
        FZ_EQUAL(status, MM_OK);
        model_add(start, last, MM_BOOT_USABLE, true);
    }
}

static void op_reclaim(void)
{
    unsigned kind = fz_u8() % MM_BOOT_KIND_COUNT;
    bool allowed = kind == MM_BOOT_BOOTLOADER || kind == MM_BOOT_ACPI_RECLAIM;

    fz_op("reclaim");
    FZ_EQUAL(mm_bootmap_reclaim(&map, kind), allowed ? MM_OK : MM_ERR_INVALID_ARGUMENT);
    for (unsigned i = 0; i < nr_pieces && allowed; i++) {
        pieces[i].kind = pieces[i].kind == (int)kind ? MM_BOOT_USABLE : pieces[i].kind;
    }
    join();
}

/* --- one input ----------------------------------------------------------------------------------
 */

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const ops[])(void) = {op_add,  op_add,     op_add,  op_add,
                                        op_next, op_largest, op_take, op_next_frames,
                                        op_give, op_reclaim, compare, op_add};
    uint32_t capacity;

    fz_begin(data, size);
    capacity = 1 + (uint32_t)fz_below(127);
    map = (struct mm_bootmap){0};
    memset(entries, 0x5a, sizeof(entries));
    FZ_EQUAL(mm_bootmap_init(&map, entries, capacity), MM_OK);
    pieces[0] = (struct piece){0, NOTHING};
    nr_pieces = 1;
    while (fz_more() && fz.nr_ops < MAX_OPS) {
        ops[fz_u8() % 12]();
        FZ_EQUAL(entries[capacity].kind, 0x5a5a5a5a);
    }
    fz_op("the end");
    compare();
    return 0;
}
