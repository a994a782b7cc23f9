// SPDX-License-Identifier: MIT
/**
 * Memory that comes later, and memory that goes: what is absent is nobody's, and what is there is
 * found. Hazards 2, 6, 16, 33.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "check.h"
#include "frame_memory.h"
#include "prng.h"

static mm_status_t add(struct rig *rig, uint64_t start, uint64_t len, uint64_t *nr)
{
    return mm_frame_add(&rig->frames, mm_prange(mm_paddr(start), len), nr);
}

static mm_status_t take_away(struct rig *rig, uint64_t start, uint64_t len)
{
    return mm_frame_remove(&rig->frames, mm_prange(mm_paddr(start), len));
}

static uint64_t nr_free(const struct rig *rig)
{
    return rig_stats(rig).nr_free;
}

/* Whatever a call that fails has left: the bits, the figures and the flags are as before. */
struct before {
    struct mm_frame_stats stats;
    uint32_t flags;
};

static struct before look(const struct rig *rig)
{
    return (struct before){rig_stats(rig), rig->frames.flags};
}

static void same(struct rig *rig, struct before before)
{
    struct mm_frame_stats now = rig_stats(rig);

    assert_memory_equal(&before.stats, &now, sizeof(now));
    assert_int_equal(rig->frames.flags, before.flags);
    assert_int_equal(rig->frames.changing, 0);
    rig_check(rig);
}

/* Allocate all there is, one frame at a time, and see that it is what is there; free it again. */
static void use_everything(struct memory *m)
{
    uint64_t nr = nr_free(&m->rig);
    mm_pfn_t *all = malloc((nr + 1) * sizeof(*all));
    mm_pfn_t none;

    assert_non_null(all);
    for (uint64_t i = 0; i < nr; i++) {
        assert_int_equal(mm_frame_alloc_on(&m->rig.frames, 0, &all[i]), MM_OK);
        assert_true(mm_frame_managed(&m->rig.frames, all[i]));
        *memory_words(m, all[i]) = i; /* traps if it is gone */
    }
    assert_int_equal(mm_frame_alloc_on(&m->rig.frames, 0, &none), MM_ERR_NO_MEMORY);
    rig_check(&m->rig);
    mm_frame_free_bulk(&m->rig.frames, all, nr);
    free(all);
}

static void expect_absent(struct memory *m, mm_pfn_t frame)
{
    struct mm_frames *frames = &m->rig.frames;
    struct t_trap_info info;

    assert_false(mm_frame_managed(frames, frame));
    assert_false(mm_frame_allocated(frames, frame));
    assert_int_equal(mm_frame_alloc_at(frames, frame, 1), MM_ERR_INVALID_ADDRESS);
    T_EXPECT_PANIC(mm_frame_free(frames, frame, 0), &info);
    assert_string_equal(info.what, "free of a frame that is not managed");
    assert_string_equal(info.recorded, "reserved: absent memory");
    assert_int_equal(info.address, frame.raw * FRAME);
    T_EXPECT_PANIC(mm_frame_free_run(frames, frame, 1), &info);
    T_EXPECT_PANIC(mm_frame_free_bulk(frames, &frame, 1), &info);
    T_EXPECT_PANIC((void)mm_frame_put(frames, frame), &info);
    rig_check(&m->rig);
}

/* ---- what comes later -------------------------------------------------------------------------- */

static void test_later_memory(void **state)
{
    const uint64_t ranges[] = {4 * MIB, 4 * MIB, 0, 0};
    const uint64_t later[] = {8 * MIB, 3 * MIB, 32 * MIB, 64 * KIB, 0, 0};
    struct mm_frame_stats stats;
    struct memory m;
    uint64_t nr = 99;

    (void)state;
    memory_start(&m, ranges, later, 0);
    stats = rig_stats(&m.rig);
    assert_int_equal(stats.nr_frames, 1024);
    assert_int_equal(stats.nr_free, 1024);
    assert_int_equal(stats.nr_absent, 3 * 256 + 16);
    rig_check(&m.rig);
    expect_absent(&m, mm_pfn(8 * MIB / FRAME));
    expect_absent(&m, mm_pfn(32 * MIB / FRAME + 15));
    use_everything(&m);
    /* The end of the first piece, which is half a line, and what is not memory. */
    assert_int_equal(add(&m.rig, 10 * MIB, 8 * MIB, &nr), MM_OK);
    assert_int_equal(nr, 256);
    assert_true(mm_frame_managed(&m.rig.frames, mm_pfn(10 * MIB / FRAME)));
    expect_absent(&m, mm_pfn(10 * MIB / FRAME - 1));
    use_everything(&m);
    /* All of the rest. */
    assert_int_equal(add(&m.rig, 0, 1 * GIB, &nr), MM_OK);
    assert_int_equal(nr, 512 + 16);
    assert_int_equal(m.rig.frames.flags, 0); /* frees are fast again */
    assert_int_equal(rig_stats(&m.rig).nr_absent, 0);
    assert_int_equal(nr_free(&m.rig), 1024 + 3 * 256 + 16);
    use_everything(&m);
    assert_int_equal(add(&m.rig, 0, 1 * GIB, &nr), MM_ERR_INVALID_ADDRESS);
    memory_stop(&m);
}

static void test_later_frame_0(void **state)
{
    const uint64_t ranges[] = {4 * MIB, 2 * MIB, 0, 0};
    const uint64_t later[] = {0, 2 * MIB, 0, 0};
    struct memory m;

    (void)state;
    memory_start(&m, ranges, later, 0);
    assert_false(mm_frame_managed(&m.rig.frames, mm_pfn(0)));
    assert_int_equal(add(&m.rig, 0, 4 * KIB, NULL), MM_OK);
    assert_true(mm_frame_managed(&m.rig.frames, mm_pfn(0)));
    assert_false(mm_frame_managed(&m.rig.frames, mm_pfn(1)));
    assert_int_equal(mm_frame_alloc_at(&m.rig.frames, mm_pfn(0), 1), MM_OK);
    mm_frame_free(&m.rig.frames, mm_pfn(0), 0);
    assert_int_equal(add(&m.rig, 0, 2 * MIB, NULL), MM_OK);
    assert_int_equal(m.rig.frames.flags, 0);
    assert_int_equal(take_away(&m.rig, 0, 2 * MIB), MM_ERR_INVALID_ADDRESS);
    assert_int_equal(take_away(&m.rig, 4 * KIB, 2 * MIB - 4 * KIB), MM_OK);
    memory_stop(&m);
}

/* Of two spans that share 2 MiB of memory, each has its own line. */
static void test_later_beside_usable(void **state)
{
    const uint64_t ranges[] = {4 * MIB, 1 * MIB, 0, 0};
    const uint64_t later[] = {5 * MIB, 1 * MIB, 0, 0};
    struct before before;
    struct memory m;
    uint64_t nr;

    (void)state;
    memory_start(&m, ranges, later, MM_FRAMES_REFCOUNTS | MM_FRAMES_OWNERS);
    use_everything(&m);
    assert_int_equal(add(&m.rig, 4 * MIB, 2 * MIB, &nr), MM_OK);
    assert_int_equal(nr, 256);
    use_everything(&m);
    /* The first is claimed, and given back, since the second is in use. */
    assert_int_equal(mm_frame_alloc_at(&m.rig.frames, mm_pfn(6 * MIB / FRAME - 1), 1), MM_OK);
    before = look(&m.rig);
    assert_int_equal(take_away(&m.rig, 4 * MIB, 2 * MIB), MM_ERR_BUSY);
    same(&m.rig, before);
    use_everything(&m);
    mm_frame_free(&m.rig.frames, mm_pfn(6 * MIB / FRAME - 1), 0);
    assert_int_equal(take_away(&m.rig, 4 * MIB, 2 * MIB), MM_OK);
    assert_int_equal(rig_stats(&m.rig).nr_frames, 0);
    memory_stop(&m);
}

static void test_bad_ranges(void **state)
{
    const uint64_t ranges[] = {4 * MIB, 4 * MIB, 0, 0};
    const uint64_t later[] = {9 * MIB, 4 * MIB, 0, 0};
    struct mm_frames dead = {0};
    struct before before;
    struct memory m;
    uint64_t nr = 99;

    (void)state;
    memory_start(&m, ranges, later, 0);
    before = look(&m.rig);
    assert_int_equal(mm_frame_add(NULL, mm_prange(mm_paddr(0), FRAME), &nr),
                     MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_frame_add(&dead, mm_prange(mm_paddr(0), FRAME), &nr),
                     MM_ERR_NOT_INITIALIZED);
    assert_int_equal(mm_frame_remove(NULL, mm_prange(mm_paddr(0), FRAME)), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_frame_remove(&dead, mm_prange(mm_paddr(0), FRAME)), MM_ERR_NOT_INITIALIZED);
    assert_int_equal(add(&m.rig, 9 * MIB, 0, &nr), MM_ERR_INVALID_SIZE);
    assert_int_equal(add(&m.rig, 9 * MIB, UINT64_MAX - 4095, &nr), MM_ERR_INVALID_SIZE);
    assert_int_equal(add(&m.rig, 9 * MIB + 1, MIB, &nr), MM_ERR_NOT_ALIGNED);
    assert_int_equal(add(&m.rig, 9 * MIB, MIB + 1, &nr), MM_ERR_NOT_ALIGNED);
    /* Lines of what is absent: 9 to 10, 10 to 12, 12 to 13 MiB. */
    assert_int_equal(add(&m.rig, 9 * MIB, 2 * MIB, &nr), MM_ERR_NOT_ALIGNED);
    assert_int_equal(add(&m.rig, 11 * MIB, 2 * MIB, &nr), MM_ERR_NOT_ALIGNED);
    assert_int_equal(add(&m.rig, 12 * MIB, 1 * MIB - FRAME, &nr), MM_ERR_NOT_ALIGNED);
    assert_int_equal(add(&m.rig, 4 * MIB, 5 * MIB, &nr), MM_ERR_INVALID_ADDRESS);
    assert_int_equal(add(&m.rig, 13 * MIB, 64 * MIB, &nr), MM_ERR_INVALID_ADDRESS);
    assert_int_equal(add(&m.rig, UINT64_MAX - 4095, 4096, &nr), MM_ERR_INVALID_ADDRESS);
    assert_int_equal(nr, 99);
    assert_int_equal(take_away(&m.rig, 4 * MIB, 0), MM_ERR_INVALID_SIZE);
    assert_int_equal(take_away(&m.rig, 4 * MIB, UINT64_MAX), MM_ERR_INVALID_SIZE);
    assert_int_equal(take_away(&m.rig, 4 * MIB + 1, 2 * MIB), MM_ERR_NOT_ALIGNED);
    assert_int_equal(take_away(&m.rig, 4 * MIB, 2 * MIB - 1), MM_ERR_NOT_ALIGNED);
    assert_int_equal(take_away(&m.rig, 4 * MIB, 1 * MIB), MM_ERR_NOT_ALIGNED);
    assert_int_equal(take_away(&m.rig, 5 * MIB, 3 * MIB), MM_ERR_NOT_ALIGNED);
    assert_int_equal(take_away(&m.rig, 4 * MIB, 5 * MIB), MM_ERR_INVALID_ADDRESS);
    assert_int_equal(take_away(&m.rig, 2 * MIB, 4 * MIB), MM_ERR_INVALID_ADDRESS);
    assert_int_equal(take_away(&m.rig, 9 * MIB, 1 * MIB), MM_ERR_INVALID_ADDRESS);
    assert_int_equal(take_away(&m.rig, 0, UINT64_MAX - 4095), MM_ERR_INVALID_ADDRESS);
    /* As when another CPU is at it. */
    m.rig.frames.changing = 1;
    assert_int_equal(add(&m.rig, 9 * MIB, 4 * MIB, &nr), MM_ERR_BUSY);
    assert_int_equal(take_away(&m.rig, 4 * MIB, 2 * MIB), MM_ERR_BUSY);
    m.rig.frames.changing = 0;
    same(&m.rig, before);
    memory_stop(&m);
}

/* ---- what goes --------------------------------------------------------------------------------- */

static void test_remove_and_add(void **state)
{
    const uint64_t ranges[] = {4 * MIB, 8 * MIB, 0, 0};
    struct memory m;
    uint64_t nr;

    (void)state;
    memory_start(&m, ranges, NULL, 0);
    assert_int_equal(take_away(&m.rig, 6 * MIB, 4 * MIB), MM_OK);
    t_ram_unback(m.ram, 6 * MIB, 4 * MIB);
    assert_int_equal(rig_stats(&m.rig).nr_frames, 1024);
    assert_int_equal(rig_stats(&m.rig).nr_absent, 1024);
    assert_int_equal(rig_stats(&m.rig).nr_allocated, 0);
    assert_int_equal(rig_stats(&m.rig).nr_free_2m, 2);
    expect_absent(&m, mm_pfn(6 * MIB / FRAME));
    expect_absent(&m, mm_pfn(10 * MIB / FRAME - 1));
    use_everything(&m);
    assert_int_equal(take_away(&m.rig, 8 * MIB, 4 * MIB), MM_ERR_INVALID_ADDRESS);
    t_ram_back(m.ram, 6 * MIB, 2 * MIB);
    assert_int_equal(add(&m.rig, 6 * MIB, 2 * MIB, &nr), MM_OK);
    assert_int_equal(nr, 512);
    assert_true((m.rig.frames.flags) != 0); /* two lines are absent still */
    use_everything(&m);
    expect_absent(&m, mm_pfn(8 * MIB / FRAME));
    t_ram_back(m.ram, 8 * MIB, 2 * MIB);
    assert_int_equal(add(&m.rig, 4 * MIB, 8 * MIB, NULL), MM_OK);
    assert_int_equal(m.rig.frames.flags, 0);
    use_everything(&m);
    memory_stop(&m);
}

/* A block over what was absent: a free of it finds the end of what is there. */
static void test_blocks_across(void **state)
{
    const uint64_t ranges[] = {4 * MIB, 4 * MIB, 0, 0};
    struct t_trap_info info;
    struct memory m;

    (void)state;
    memory_start(&m, ranges, NULL, 0);
    assert_int_equal(take_away(&m.rig, 6 * MIB, 2 * MIB), MM_OK);
    assert_int_equal(mm_frame_alloc_at(&m.rig.frames, mm_pfn(1024), 1024), MM_ERR_INVALID_ADDRESS);
    assert_int_equal(mm_frame_alloc_at(&m.rig.frames, mm_pfn(1024), 512), MM_OK);
    T_EXPECT_PANIC(mm_frame_free(&m.rig.frames, mm_pfn(1024), 10), &info);
    assert_int_equal(info.address, 6 * MIB);
    T_EXPECT_PANIC(mm_frame_free(&m.rig.frames, mm_pfn(1536), 9), &info);
    assert_int_equal(info.address, 6 * MIB);
    assert_int_equal(nr_free(&m.rig), 0);
    mm_frame_free(&m.rig.frames, mm_pfn(1024), 9);
    memory_stop(&m);
}

static void test_remove_refuses(void **state)
{
    const uint64_t ranges[] = {4 * MIB, 8 * MIB, 0, 0};
    struct before before;
    struct memory m;

    (void)state;
    memory_start(&m, ranges, NULL, 0);
    /* The last frame of the last line, so that all others are claimed before. */
    assert_int_equal(mm_frame_alloc_at(&m.rig.frames, mm_pfn(12 * MIB / FRAME - 1), 1), MM_OK);
    before = look(&m.rig);
    assert_int_equal(take_away(&m.rig, 4 * MIB, 8 * MIB), MM_ERR_BUSY);
    same(&m.rig, before);
    use_everything(&m);
    assert_int_equal(take_away(&m.rig, 4 * MIB, 2 * MIB), MM_OK);
    before = look(&m.rig);
    assert_int_equal(take_away(&m.rig, 6 * MIB, 6 * MIB), MM_ERR_BUSY);
    same(&m.rig, before);
    mm_frame_free(&m.rig.frames, mm_pfn(12 * MIB / FRAME - 1), 0);
    assert_int_equal(take_away(&m.rig, 6 * MIB, 6 * MIB), MM_OK);
    assert_int_equal(nr_free(&m.rig), 0);
    use_everything(&m);
    memory_stop(&m);
}

/* The line that a CPU keeps a hint to goes and comes back. */
static void test_hints(void **state)
{
    const uint64_t ranges[] = {4 * MIB, 4 * MIB, 0, 0};
    struct memory m;
    mm_pfn_t first;
    mm_pfn_t second;

    (void)state;
    memory_start(&m, ranges, NULL, 0);
    assert_int_equal(mm_frame_alloc_on(&m.rig.frames, 0, &first), MM_OK);
    assert_int_equal(first.raw / LINE, 3);
    mm_frame_free(&m.rig.frames, first, 0);
    assert_int_equal(take_away(&m.rig, 6 * MIB, 2 * MIB), MM_OK);
    rig_check(&m.rig);
    assert_int_equal(mm_frame_alloc_on(&m.rig.frames, 0, &second), MM_OK);
    assert_int_equal(second.raw / LINE, 2);
    mm_frame_free(&m.rig.frames, second, 0);
    assert_int_equal(take_away(&m.rig, 4 * MIB, 2 * MIB), MM_OK);
    assert_int_equal(mm_frame_alloc_on(&m.rig.frames, 0, &second), MM_ERR_NO_MEMORY);
    rig_check(&m.rig);
    assert_int_equal(add(&m.rig, 4 * MIB, 4 * MIB, NULL), MM_OK);
    use_everything(&m);
    memory_stop(&m);
}

/* What was searched in vain is found once it has been added; and the withheld stays withheld. */
static void test_searches(void **state)
{
    const uint64_t ranges[] = {4 * MIB, 8 * MIB, 0, 0};
    struct memory m;
    mm_pfn_t pfn;

    (void)state;
    memory_make(&m, ranges, NULL);
    m.rig.config.nr_reserve = 100; /* the lowest line */
    memory_up(&m, 0);
    assert_int_equal(rig_stats(&m.rig).nr_withheld, 512);
    assert_int_equal(take_away(&m.rig, 4 * MIB, 2 * MIB), MM_OK);
    assert_int_equal(rig_stats(&m.rig).nr_withheld, 0);
    assert_int_equal(take_away(&m.rig, 8 * MIB, 4 * MIB), MM_OK);
    assert_int_equal(mm_frame_alloc_at(&m.rig.frames, mm_pfn(3 * LINE), LINE), MM_OK);
    for (uint32_t order = 0; order <= 10; order++) {
        struct mm_frame_request block = {.order = order};
        struct mm_frame_request run = {.nr_frames = UINT64_C(1) << order};

        assert_int_equal(mm_frame_alloc(&m.rig.frames, &block, &pfn), MM_ERR_NO_MEMORY);
        assert_int_equal(mm_frame_alloc(&m.rig.frames, &run, &pfn), MM_ERR_NO_MEMORY);
    }
    rig_check(&m.rig);
    for (uint32_t order = 0; order <= 10; order++) {
        struct mm_frame_request block = {.order = order};
        struct mm_frame_request run = {.nr_frames = UINT64_C(1) << order};

        assert_int_equal(add(&m.rig, 8 * MIB, 4 * MIB, NULL), MM_OK);
        assert_int_equal(mm_frame_alloc(&m.rig.frames, order % 2 != 0 ? &block : &run, &pfn),
                         MM_OK);
        mm_frame_free_run(&m.rig.frames, pfn, UINT64_C(1) << order);
        assert_int_equal(take_away(&m.rig, 8 * MIB, 4 * MIB), MM_OK);
        assert_int_equal(mm_frame_alloc(&m.rig.frames, order % 2 != 0 ? &block : &run, &pfn),
                         MM_ERR_NO_MEMORY);
    }
    assert_int_equal(add(&m.rig, 4 * MIB, 2 * MIB, NULL), MM_OK);
    assert_int_equal(mm_frame_alloc_on(&m.rig.frames, 0, &pfn), MM_ERR_NO_MEMORY);
    assert_int_equal(rig_stats(&m.rig).nr_withheld, 512);
    pfn = memory_alloc(&m, 0, MM_FRAME_ATOMIC);
    assert_int_equal(pfn.raw / LINE, 2);
    memory_stop(&m);
}

/* ---- everything, at random, beside a model ----------------------------------------------------- */

#define FIRST 1024u
#define NR    (6 * LINE)

struct model {
    uint8_t at[NR]; /* 0 free, 1 allocated, 2 absent */
};

static void random_alloc(struct memory *m, struct model *model, struct t_prng *prng)
{
    uint32_t order = (uint32_t)t_prng_below(prng, 11);
    struct mm_frame_request request = {.order = t_prng_chance(prng, 1, 2) ? order : 0,
                                       .flags = t_prng_chance(prng, 1, 8) ? MM_FRAME_ZERO : 0};
    mm_pfn_t pfn;

    if (mm_frame_alloc(&m->rig.frames, &request, &pfn) != MM_OK) {
        return;
    }
    for (uint64_t i = 0; i < UINT64_C(1) << request.order; i++) {
        assert_int_equal(model->at[pfn.raw - FIRST + i], 0);
        model->at[pfn.raw - FIRST + i] = 1;
    }
}

static void random_free(struct memory *m, struct model *model, struct t_prng *prng)
{
    uint64_t at = t_prng_below(prng, NR);
    uint64_t nr = 0;

    while (at + nr < NR && model->at[at + nr] == 1 && nr < 700) {
        model->at[at + nr++] = 0;
    }
    mm_frame_free_run(&m->rig.frames, mm_pfn(FIRST + at), nr);
}

static void random_change(struct memory *m, struct model *model, struct t_prng *prng, bool more)
{
    uint64_t first = t_prng_below(prng, 6) * LINE;
    uint64_t nr = (1 + t_prng_below(prng, 2)) * LINE;
    unsigned seen[3] = {0, 0, 0};
    mm_status_t status;
    uint64_t nr_added = 0;

    nr = first + nr > NR ? NR - first : nr;
    for (uint64_t i = 0; i < nr; i++) {
        seen[model->at[first + i]]++;
    }
    if (more) {
        status = add(&m->rig, (FIRST + first) * FRAME, nr * FRAME, &nr_added);
        assert_int_equal(status, seen[2] == 0 ? MM_ERR_INVALID_ADDRESS : MM_OK);
        assert_int_equal(nr_added, seen[2]);
    } else {
        status = take_away(&m->rig, (FIRST + first) * FRAME, nr * FRAME);
        assert_int_equal(status, seen[2] != 0   ? MM_ERR_INVALID_ADDRESS
                                 : seen[1] != 0 ? MM_ERR_BUSY
                                                : MM_OK);
    }
    for (uint64_t i = 0; i < nr && status == MM_OK; i++) {
        model->at[first + i] = more ? (model->at[first + i] == 2 ? 0 : model->at[first + i]) : 2;
    }
}

static void compare(struct memory *m, const struct model *model)
{
    for (uint64_t i = 0; i < NR; i++) {
        assert_int_equal(mm_frame_managed(&m->rig.frames, mm_pfn(FIRST + i)), model->at[i] != 2);
        assert_int_equal(mm_frame_allocated(&m->rig.frames, mm_pfn(FIRST + i)), model->at[i] == 1);
    }
    rig_check(&m->rig);
}

static void test_random(void **state)
{
    const uint64_t ranges[] = {FIRST * FRAME, NR * FRAME, 0, 0};
    const uint32_t flags[] = {0, MM_FRAMES_POISON, MM_FRAMES_KNOWN_ZERO | MM_FRAMES_REFCOUNTS,
                              MM_FRAMES_FLAGS_ALL};
    struct t_prng prng;

    (void)state;
    t_prng_start(&prng, "frame_hotplug");
    for (unsigned which = 0; which < sizeof(flags) / sizeof(flags[0]); which++) {
        struct model model = {{0}};
        struct memory m;
        uint64_t nr_zeroed;

        memory_start(&m, ranges, NULL, flags[which]);
        for (unsigned step = 0; step < 400; step++) {
            m.rig.cpu = (uint32_t)t_prng_below(&prng, 2);
            switch (t_prng_below(&prng, 6)) {
            case 0:
            case 1:
                random_alloc(&m, &model, &prng);
                break;
            case 2:
            case 3:
                for (unsigned i = 0; i < 8; i++) {
                    random_free(&m, &model, &prng);
                }
                break;
            case 4:
                random_change(&m, &model, &prng, t_prng_chance(&prng, 1, 2));
                break;
            default:
                if ((flags[which] & MM_FRAMES_KNOWN_ZERO) != 0) {
                    assert_int_equal(mm_frame_prezero(&m.rig.frames, 1, &nr_zeroed), MM_OK);
                }
                break;
            }
            if (step % 16 == 0) {
                compare(&m, &model);
            }
        }
        compare(&m, &model);
        memory_stop(&m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_later_memory),
        cmocka_unit_test(test_later_frame_0),
        cmocka_unit_test(test_later_beside_usable),
        cmocka_unit_test(test_bad_ranges),
        cmocka_unit_test(test_remove_and_add),
        cmocka_unit_test(test_blocks_across),
        cmocka_unit_test(test_remove_refuses),
        cmocka_unit_test(test_hints),
        cmocka_unit_test(test_searches),
        cmocka_unit_test(test_random),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
