// SPDX-License-Identifier: MIT
/**
 * A stream of operations on the frame allocator against the model of frames: what is handed out was
 * free and is where it was asked for, "no memory" is the truth, what is free and what is absent
 * agrees, and at the end everything is back. The first two bytes choose the machine, what is kept
 * about frames and whether some of them are withheld.
 */
#include "fuzz.h"

#include "frame_rig.h"
#include "model_frames.h"

#define MAX_OPS  300u
#define MAX_LIVE 400u

/* Odd edges, lines that two ranges share, whole lines, low memory only. */
static const uint64_t machines[4][14] = {
    {0, 636 * KIB, 1 * MIB, 5 * MIB + 4096, 7 * MIB, 1 * MIB, 14 * MIB, 6 * MIB, 4 * GIB, 4 * MIB},
    {16 * MIB, 12 * MIB},
    {4096, 4096, 4 * MIB - 4096, 4 * MIB + 8192, 4 * GIB - 2 * MIB, 6 * MIB},
    {0, 1 * MIB},
};

struct live {
    uint64_t first;
    uint64_t nr;
};

static struct {
    struct rig rig;
    struct t_mframes model;
    struct live live[MAX_LIVE];
    unsigned nr_live;
    bool withheld;
    bool counted;
} r;

static void keep(uint64_t first, uint64_t nr)
{
    r.live[r.nr_live++] = (struct live){first, nr};
}

/* "No memory" must be true of who gets everything; frame 0 does not count. */
static void must_be_full(struct t_mframe_search search, bool gets_all)
{
    search.low = search.low == 0 ? 1 : search.low;
    FZ_TRUE(!gets_all || t_mframes_find(&r.model, &search) == T_MFRAMES_NONE);
}

/* --- operations ---------------------------------------------------------------------------------
 */

static void op_alloc_on(void)
{
    mm_pfn_t pfn = {77};

    fz_op("alloc on");
    if (mm_frame_alloc_on(&r.rig.frames, fz_u8() % 5, &pfn) == MM_OK) {
        FZ_LEGAL(t_mframes_alloc(&r.model, pfn.raw, 0));
        keep(pfn.raw, 1);
        return;
    }
    must_be_full((struct t_mframe_search){.nr = 1}, !r.withheld);
}

static void op_request(unsigned how)
{
    struct mm_frame_request request = {
        .flags = fz_u8() % 2 == 0 ? MM_FRAME_ATOMIC : 0,
        .lifetime = (uint32_t)fz_below(4),
        .owner = (uint32_t)fz_below(MM_OWNER_COUNT),
    };
    struct t_mframe_search search = {0};
    bool user = request.owner == MM_OWNER_ANONYMOUS || request.owner == MM_OWNER_OBJECT;
    bool gets_all = !r.withheld || (request.flags != 0 && !user);
    mm_pfn_t pfn = {77};

    fz_op("request");
    r.rig.cpu = fz_u8() % 5;
    if (how % 2 == 0) {
        request.order = (uint32_t)fz_below(12);
        search.nr = UINT64_C(1) << request.order;
        search.align = search.nr;
    } else {
        request.nr_frames = 1 + fz_magnitude(11);
        search.nr = request.nr_frames;
        if (how % 4 == 1) {
            search.align = UINT64_C(1) << fz_below(10);
            request.align = search.align * 4096;
        }
        if (how % 8 == 5) {
            search.low = fz_magnitude(21);
            search.limit = search.low + 1 + fz_magnitude(21);
            request.lowest.raw = search.low * 4096;
            request.highest.raw = search.limit * 4096 - 1;
        }
    }
    switch (mm_frame_alloc(&r.rig.frames, &request, &pfn)) {
    case MM_OK:
        FZ_LEGAL(t_mframes_alloc_run(&r.model, pfn.raw, search.nr));
        FZ_TRUE(search.align == 0 || pfn.raw % search.align == 0);
        FZ_TRUE(pfn.raw >= search.low);
        FZ_TRUE(search.limit == 0 || pfn.raw + search.nr <= search.limit);
        keep(pfn.raw, search.nr);
        break;
    case MM_ERR_NO_MEMORY:
        FZ_TRUE(pfn.raw == 77);
        must_be_full(search, gets_all);
        break;
    default:
        fz_fail(__FILE__, __LINE__, "a status that was not to be expected");
    }
}

static void op_alloc_at(void)
{
    uint64_t first = fz_magnitude(21);
    uint64_t nr = 1 + fz_magnitude(10);

    fz_op("alloc at");
    if (mm_frame_alloc_at(&r.rig.frames, mm_pfn(first), nr) == MM_OK) {
        FZ_LEGAL(t_mframes_alloc_run(&r.model, first, nr));
        keep(first, nr);
        return;
    }
    FZ_TRUE(!t_mframes_all(&r.model, first, nr, T_MFRAME_FREE));
}

static void op_bulk(void)
{
    static mm_pfn_t list[1200];
    size_t count = (size_t)fz_below(1200);
    size_t done = 77777;
    mm_status_t status;

    fz_op("bulk");
    status = mm_frame_alloc_bulk(&r.rig.frames, fz_u8() % 5, list, count, &done);
    FZ_TRUE(done <= count && (status == MM_OK) == (done == count));
    for (size_t i = 0; i < done; i++) {
        FZ_LEGAL(t_mframes_alloc(&r.model, list[i].raw, 0));
    }
    if (status != MM_OK) {
        must_be_full((struct t_mframe_search){.nr = 1}, !r.withheld);
    }
    for (size_t i = 0; i < done; i++) {
        FZ_LEGAL(t_mframes_free(&r.model, list[i].raw, 0));
    }
    if (r.counted && fz_u8() % 2 == 0) {
        FZ_TRUE(mm_frame_put_bulk(&r.rig.frames, list, done) == done);
    } else {
        mm_frame_free_bulk(&r.rig.frames, list, done);
    }
}

/* All of a piece, or its first part. */
static void op_free(unsigned how)
{
    unsigned at = (unsigned)fz_below(r.nr_live);
    struct live piece = r.live[at];
    uint64_t nr = how % 3 == 0 ? 1 + fz_below(piece.nr) : piece.nr;

    fz_op("free");
    r.live[at] = r.live[--r.nr_live];
    if (nr < piece.nr) {
        keep(piece.first + nr, piece.nr - nr);
    }
    FZ_LEGAL(t_mframes_free_run(&r.model, piece.first, nr));
    if ((nr & (nr - 1)) == 0 && piece.first % nr == 0 && how % 2 == 0) {
        mm_frame_free(&r.rig.frames, mm_pfn(piece.first), (uint32_t)__builtin_ctzll(nr));
    } else {
        mm_frame_free_run(&r.rig.frames, mm_pfn(piece.first), nr);
    }
}

/* References and pins of one frame come and go. */
static void op_hold(void)
{
    struct live piece = r.live[fz_below(r.nr_live)];
    mm_pfn_t pfn = mm_pfn(piece.first + fz_below(piece.nr));
    unsigned refs = fz_u8() % 8;
    unsigned pins = fz_u8() % 8;

    fz_op("hold");
    if (!r.counted) {
        return;
    }
    for (unsigned i = 0; i < refs || i < pins; i++) {
        if (i < refs) {
            mm_frame_get(&r.rig.frames, pfn);
        }
        if (i < pins) {
            mm_frame_pin(&r.rig.frames, pfn);
        }
    }
    FZ_TRUE(mm_frame_refs(&r.rig.frames, pfn) == 1 + refs);
    FZ_TRUE(mm_frame_pins(&r.rig.frames, pfn) == pins);
    for (unsigned i = 0; i < refs || i < pins; i++) {
        FZ_TRUE(i >= pins || !mm_frame_unpin(&r.rig.frames, pfn));
        FZ_TRUE(i >= refs || !mm_frame_put(&r.rig.frames, pfn));
    }
}

/* What can be removed comes back: the model need not know of absent memory. */
static void op_remove(void)
{
    struct mm_prange range = mm_prange(mm_paddr(fz_below(12) * MM_SIZE_2M), MM_SIZE_2M);
    uint64_t nr = 0;

    fz_op("remove and add");
    if (mm_frame_remove(&r.rig.frames, range) == MM_OK) {
        FZ_TRUE(!mm_frame_managed(&r.rig.frames, mm_pfn(range.start.raw / 4096 + 511)));
        FZ_TRUE(mm_frame_add(&r.rig.frames, range, &nr) == MM_OK && nr > 0 && nr <= 512);
    }
}

static void op_look(void)
{
    struct mm_frame_stats stats = {0};

    fz_op("look");
    FZ_TRUE(mm_frame_check(&r.rig.frames) == MM_OK);
    FZ_TRUE(mm_frame_get_stats(&r.rig.frames, &stats) == MM_OK);
    FZ_TRUE(stats.nr_free == t_mframes_count(&r.model, T_MFRAME_FREE));
    FZ_TRUE(stats.nr_free_2m == t_mframes_count_blocks(&r.model, 9));
}

static void step(void)
{
    unsigned dice = fz_u8();
    unsigned how = dice / 16;

    if (r.nr_live + 2 >= MAX_LIVE || (dice % 16 < 5 && r.nr_live != 0)) {
        op_free(how);
        return;
    }
    switch (dice % 16) {
    case 5:
        op_alloc_at();
        break;
    case 6:
        op_bulk();
        break;
    case 7:
        op_remove();
        break;
    case 8:
        op_look();
        break;
    case 9:
        if (r.nr_live != 0) {
            op_hold();
        }
        break;
    case 10:
    case 11:
        op_alloc_on();
        break;
    default:
        op_request(how);
        break;
    }
}

/* --- one input ----------------------------------------------------------------------------------
 */

static void bring_up(void)
{
    const uint64_t *ranges = machines[fz_u8() % 4];
    unsigned how = fz_u8();

    memset(&r, 0, sizeof(r));
    r.counted = how % 2 != 0;
    r.withheld = how % 8 >= 6;
    rig_map(&r.rig, ranges);
    rig_config(&r.rig, 4,
               (r.counted ? MM_FRAMES_REFCOUNTS : 0) | (how % 4 >= 2 ? MM_FRAMES_OWNERS : 0));
    r.rig.config.nr_reserve = r.withheld ? 100 : 0;
    r.rig.config.nr_kernel = how % 16 >= 14 ? 100 : 0;
    if (mm_frame_init(&r.rig.frames, &r.rig.config) == MM_ERR_INVALID_SIZE) {
        FZ_TRUE(r.withheld || how % 16 >= 14); /* whole lines, and there is one only */
        r.withheld = false;
        r.rig.config.nr_reserve = 0;
        r.rig.config.nr_kernel = 0;
        FZ_TRUE(mm_frame_init(&r.rig.frames, &r.rig.config) == MM_OK);
    }
    t_mframes_init(&r.model);
    for (; ranges[1] != 0; ranges += 2) {
        FZ_LEGAL(t_mframes_add(&r.model, ranges[0] / 4096, ranges[1] / 4096, T_MFRAME_FREE));
    }
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fz_begin(data, size);
    bring_up();
    while (fz.left > 0 && fz.nr_ops < MAX_OPS) {
        step();
    }
    fz_op("the end");
    while (r.nr_live != 0) {
        struct live piece = r.live[--r.nr_live];

        FZ_LEGAL(t_mframes_free_run(&r.model, piece.first, piece.nr));
        mm_frame_free_run(&r.rig.frames, mm_pfn(piece.first), piece.nr);
    }
    op_look();
    FZ_TRUE(mm_frame_destroy(&r.rig.frames) == MM_OK);
    free(r.rig.config.metadata);
    t_mframes_destroy(&r.model);
    return 0;
}
