// SPDX-License-Identifier: MIT
/**
 * Hazard 2: what is not the caller's cannot be freed. Every panic of the frame allocator names the
 * frame, what is on record about it, and what the caller claims; and nothing has changed by it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "frame_rig.h"
#include "hash.h"

/* The last span is the longest, which every call asks first. */
static const uint64_t machine[] = {0,        636 * KIB, 1 * MIB, 30 * MIB, 4 * GIB + 20 * KIB,
                                   40 * MIB, 0,         0};

#define HIGH (4 * GIB / 4096 + 5) /* the first frame above the hole */

#define FREE     "free"
#define RESERVED "reserved: not usable memory"
#define FOREIGN  "foreign: outside of all memory"
#define SHARED   "allocated, references"
#define IMMORTAL "allocated, immortal"

/* The statement panics with these words about this frame, and leaves the state as it was. */
#define PANICS(rig_, stmt_, what_, pfn_, recorded_, recorded_value_, claimed_, claimed_value_)     \
    do {                                                                                           \
        struct t_trap_info info_;                                                                  \
        uint64_t hash_ = t_hash((rig_).config.metadata, (rig_).config.metadata_len);               \
                                                                                                   \
        T_EXPECT_PANIC(stmt_, &info_);                                                             \
        assert_string_equal(info_.room, "frame");                                                  \
        assert_string_equal(info_.what, what_);                                                    \
        assert_int_equal(info_.address, (uint64_t)(pfn_) << 12);                                   \
        assert_string_equal(info_.recorded, recorded_);                                            \
        assert_int_equal(info_.recorded_value, recorded_value_);                                   \
        assert_string_equal(info_.claimed, claimed_);                                              \
        assert_int_equal(info_.claimed_value, claimed_value_);                                     \
        assert_int_equal(t_hash((rig_).config.metadata, (rig_).config.metadata_len), hash_);       \
        rig_check(&(rig_));                                                                        \
    } while (0)

static void double_free(void **state)
{
    (void)state;
    for (uint32_t flags = 0; flags <= RIG_RECORDS; flags++) {
        static struct rig rig;
        mm_pfn_t pfn;

        rig_start(&rig, machine, 2, flags);
        pfn = rig_alloc(&rig, 0);
        mm_frame_free(&rig.frames, pfn, 0);
        PANICS(rig, mm_frame_free(&rig.frames, pfn, 0), "double free of a frame", pfn.raw, FREE, 0,
               "allocated, a block of order", 0);
        PANICS(rig, (void)mm_frame_put(&rig.frames, pfn), "double free of a frame", pfn.raw, FREE,
               0, "allocated, one reference less", 0);
        PANICS(rig, mm_frame_free_bulk(&rig.frames, &pfn, 1), "double free of a frame", pfn.raw,
               FREE, 0, "allocated, in a list of frames", 1);
        PANICS(rig, mm_frame_free_run(&rig.frames, pfn, 1), "double free of a frame", pfn.raw, FREE,
               0, "allocated, a run of frames", 1);
        /* One that was never allocated, in another span. */
        PANICS(rig, mm_frame_free(&rig.frames, mm_pfn(20), 0), "double free of a frame", 20, FREE,
               0, "allocated, a block of order", 0);
        rig_stop(&rig);
    }
}

/* The frame was handed out again meanwhile, on another CPU: the second free is that CPU's loss, so
 * it is the third that must be found, whoever comes with it. */
static void double_free_from_another_cpu(void **state)
{
    static struct rig rig;
    mm_pfn_t a;
    mm_pfn_t b;

    (void)state;
    rig_start(&rig, machine, 2, 0);
    assert_int_equal(mm_frame_alloc_on(&rig.frames, 0, &a), MM_OK);
    assert_int_equal(mm_frame_alloc_on(&rig.frames, 1, &b), MM_OK);
    assert_int_not_equal(a.raw, b.raw);
    mm_frame_free(&rig.frames, a, 0); /* no call knows on which CPU it was allocated */
    PANICS(rig, mm_frame_free(&rig.frames, a, 0), "double free of a frame", a.raw, FREE, 0,
           "allocated, a block of order", 0);
    /* It is handed out once, not twice, after all that. */
    assert_int_equal(mm_frame_alloc_on(&rig.frames, 0, &a), MM_OK);
    for (unsigned i = 0; i < 1000; i++) {
        assert_int_equal(mm_frame_alloc_on(&rig.frames, i % 2, &b), MM_OK);
        assert_int_not_equal(a.raw, b.raw);
    }
    rig_stop(&rig);
}

/* One frame of a block is free: named is that one, and the others stay allocated; the ways of an
 * allocator without flags are others. */
static void part_is_free(uint32_t flags)
{
    static struct rig rig;

    rig_start(&rig, machine, 1, flags);
    for (uint32_t order = 1; order <= 11; order++) {
        mm_pfn_t first = rig_alloc(&rig, order);
        uint64_t size = UINT64_C(1) << order;

        for (uint64_t hole = 0; hole < size; hole = 2 * hole + 1) {
            mm_frame_free(&rig.frames, mm_pfn(first.raw + hole), 0);
            PANICS(rig, mm_frame_free(&rig.frames, first, order), "double free of a frame",
                   first.raw + hole, FREE, 0, "allocated, a block of order", order);
            assert_int_equal(mm_frame_alloc_at(&rig.frames, mm_pfn(first.raw + hole), 1), MM_OK);
        }
        mm_frame_free(&rig.frames, first, order);
        PANICS(rig, mm_frame_free(&rig.frames, first, order), "double free of a frame", first.raw,
               FREE, 0, "allocated, a block of order", order);
    }
    rig_stop(&rig);
}

static void part_of_a_block_is_free(void **state)
{
    (void)state;
    part_is_free(0);
    part_is_free(MM_FRAMES_OWNERS);
}

static void reserved_and_foreign(void **state)
{
    static struct rig rig;
    static const struct {
        uint64_t pfn;
        const char *recorded;
    } cases[] = {
        {159, RESERVED},             /* behind 636 KiB */
        {255, RESERVED},             /* before 1 MiB */
        {31 * MIB / 4096, RESERVED}, /* behind 31 MiB */
        {3 * GIB / 4096, RESERVED},  /* the hole */
        {HIGH - 1, RESERVED},        /* in a line of which other frames are managed */
        {HIGH + 40 * MIB / 4096, FOREIGN},
        {1ull << 51, FOREIGN},
        {(1ull << 52) - 1, FOREIGN},
    };
    const mm_pfn_t list[] = {{158}, {157}, {160}};
    struct t_trap_info info;

    (void)state;
    rig_start(&rig, machine, 1, MM_FRAMES_REFCOUNTS);
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        mm_pfn_t pfn = {cases[i].pfn};

        PANICS(rig, mm_frame_free(&rig.frames, pfn, 0), "free of a frame that is not managed",
               pfn.raw, cases[i].recorded, 0, "allocated, a block of order", 0);
        PANICS(rig, mm_frame_free_bulk(&rig.frames, &pfn, 1), "free of a frame that is not managed",
               pfn.raw, cases[i].recorded, 0, "allocated, in a list of frames", 1);
        PANICS(rig, (void)mm_frame_put(&rig.frames, pfn), "free of a frame that is not managed",
               pfn.raw, cases[i].recorded, 0, "allocated, one reference less", 0);
        PANICS(rig, mm_frame_get(&rig.frames, pfn), "reference to a frame that is not managed",
               pfn.raw, cases[i].recorded, 0, "allocated, one reference more", 0);
        PANICS(rig, mm_frame_make_immortal(&rig.frames, pfn),
               "reference to a frame that is not managed", pfn.raw, cases[i].recorded, 0,
               "allocated, for ever", 0);
        assert_false(mm_frame_managed(&rig.frames, pfn));
        assert_false(mm_frame_allocated(&rig.frames, pfn));
    }
    /* A run that leaves its span, at its end and from before its start. */
    assert_int_equal(mm_frame_alloc_at(&rig.frames, mm_pfn(150), 9), MM_OK);
    PANICS(rig, mm_frame_free_run(&rig.frames, mm_pfn(150), 10),
           "free of a frame that is not managed", 159, RESERVED, 0, "allocated, a run of frames",
           10);
    assert_int_equal(mm_frame_alloc_at(&rig.frames, mm_pfn(256), 9), MM_OK);
    PANICS(rig, mm_frame_free_run(&rig.frames, mm_pfn(255), 10),
           "free of a frame that is not managed", 255, RESERVED, 0, "allocated, a run of frames",
           10);
    /* A list: what lies in the same row, but in no span. */
    T_EXPECT_PANIC(mm_frame_free_bulk(&rig.frames, list, 3), &info);
    assert_string_equal(info.what, "free of a frame that is not managed");
    assert_int_equal(info.address, 160 * 4096);
    assert_false(mm_frame_allocated(&rig.frames, mm_pfn(157)));
    rig_stop(&rig);
}

/* An allocator that manages nothing calls everything foreign; one that was never made, too. */
static void not_initialised(void **state)
{
    static struct rig rig;
    struct t_trap_info info;

    (void)state;
    memset(&rig, 0, sizeof(rig));
    rig.frames.platform = rig_platform(&rig);
    T_EXPECT_PANIC(mm_frame_free(&rig.frames, mm_pfn(0), 0), &info);
    assert_string_equal(info.recorded, FOREIGN);
    T_EXPECT_PANIC(mm_frame_free(&rig.frames, mm_pfn(5), 3), &info);
    assert_false(mm_frame_managed(&rig.frames, mm_pfn(5)));
}

static void not_a_block(void **state)
{
    static struct rig rig;
    mm_pfn_t first;

    (void)state;
    rig_start(&rig, machine, 1, MM_FRAMES_OWNERS);
    first = rig_alloc(&rig, 4);
    for (uint64_t offset = 1; offset < 16; offset++) {
        PANICS(rig, mm_frame_free(&rig.frames, mm_pfn(first.raw + offset), 4),
               "free of a block that is not aligned to its size", first.raw + offset,
               "allocated, no owner", 0, "allocated, a block of order", 4);
    }
    PANICS(rig, mm_frame_free(&rig.frames, mm_pfn(0), 19),
           "free of a block of an order that does not exist", 0, FREE, 0,
           "allocated, a block of order", 19);
    PANICS(rig, mm_frame_free(&rig.frames, first, UINT32_MAX),
           "free of a block of an order that does not exist", first.raw, "allocated, no owner", 0,
           "allocated, a block of order", UINT32_MAX);
    rig_stop(&rig);
}

static void same_frame_twice_in_a_list(void **state)
{
    static struct rig rig;
    mm_pfn_t list[4];
    size_t done;

    (void)state;
    rig_start(&rig, machine, 1, 0);
    assert_int_equal(mm_frame_alloc_bulk(&rig.frames, 0, list, 3, &done), MM_OK);
    list[3] = list[1];
    PANICS(rig, mm_frame_free_bulk(&rig.frames, list, 4), "a frame twice in the list to be freed",
           list[1].raw, SHARED, 1, "allocated, in a list of frames", 4);
    mm_frame_free_bulk(&rig.frames, list, 3);
    rig_stop(&rig);
}

/* Nothing of the row was freed: who owns its frames is still on record, and is named. */
static void owners_in_a_list(void **state)
{
    static const struct mm_frame_request request = {
        .nr_frames = 3, .align = 16 * KIB, .owner = MM_OWNER_DMA, .tag = 4711};
    static struct rig rig;
    mm_pfn_t list[4];

    (void)state;
    rig_start(&rig, machine, 1, RIG_RECORDS);
    assert_int_equal(mm_frame_alloc(&rig.frames, &request, &list[0]), MM_OK);
    list[1] = mm_pfn(list[0].raw + 1);
    list[2] = mm_pfn(list[0].raw + 2);
    list[3] = list[1];
    PANICS(rig, mm_frame_free_bulk(&rig.frames, list, 4), "a frame twice in the list to be freed",
           list[1].raw, "allocated, dma", 4711, "allocated, in a list of frames", 4);
    mm_frame_get(&rig.frames, list[2]);
    PANICS(rig, mm_frame_free_bulk(&rig.frames, list, 3), "free of a frame that others refer to",
           list[2].raw, SHARED, 2, "allocated, in a list of frames", 3);
    assert_false(mm_frame_put(&rig.frames, list[2]));
    mm_frame_free_bulk(&rig.frames, list, 3);
    rig_stop(&rig);
}

static void others_refer_to_it(void **state)
{
    (void)state;
    for (uint32_t flags = MM_FRAMES_REFCOUNTS; flags <= RIG_RECORDS; flags += 2) {
        static struct rig rig;
        mm_pfn_t pfn;
        mm_pfn_t block;

        rig_start(&rig, machine, 1, flags);
        pfn = rig_alloc(&rig, 0);
        mm_frame_get(&rig.frames, pfn);
        PANICS(rig, mm_frame_free(&rig.frames, pfn, 0), "free of a frame that others refer to",
               pfn.raw, SHARED, 2, "allocated, a block of order", 0);
        PANICS(rig, mm_frame_free_bulk(&rig.frames, &pfn, 1),
               "free of a frame that others refer to", pfn.raw, SHARED, 2,
               "allocated, in a list of frames", 1);
        mm_frame_make_immortal(&rig.frames, pfn);
        PANICS(rig, mm_frame_free(&rig.frames, pfn, 0), "free of an immortal frame", pfn.raw,
               IMMORTAL, MM_FRAME_REF_IMMORTAL, "allocated, a block of order", 0);

        block = rig_alloc(&rig, 9);
        mm_frame_get(&rig.frames, mm_pfn(block.raw + 300));
        mm_frame_get(&rig.frames, mm_pfn(block.raw + 300));
        PANICS(rig, mm_frame_free(&rig.frames, block, 9), "free of a frame that others refer to",
               block.raw + 300, SHARED, 3, "allocated, a block of order", 9);
        PANICS(rig, mm_frame_free_run(&rig.frames, block, 301),
               "free of a frame that others refer to", block.raw + 300, SHARED, 3,
               "allocated, a run of frames", 301);
        rig_stop(&rig);
    }
}

static void references_to_what_is_not_there(void **state)
{
    static struct rig rig;
    mm_pfn_t pfn;

    (void)state;
    rig_start(&rig, machine, 1, MM_FRAMES_REFCOUNTS);
    pfn = rig_alloc(&rig, 0);
    mm_frame_free(&rig.frames, pfn, 0);
    PANICS(rig, mm_frame_get(&rig.frames, pfn), "reference to a free frame", pfn.raw, FREE, 0,
           "allocated, one reference more", 0);
    PANICS(rig, mm_frame_make_immortal(&rig.frames, pfn), "reference to a free frame", pfn.raw,
           FREE, 0, "allocated, for ever", 0);
    rig_stop(&rig);

    rig_start(&rig, machine, 1, MM_FRAMES_OWNERS);
    pfn = rig_alloc(&rig, 0);
    PANICS(rig, mm_frame_get(&rig.frames, pfn),
           "reference counts are asked of an allocator that has none", pfn.raw,
           "allocated, no owner", 0, "allocated, one reference more", 0);
    PANICS(rig, mm_frame_make_immortal(&rig.frames, pfn),
           "reference counts are asked of an allocator that has none", pfn.raw,
           "allocated, no owner", 0, "allocated, for ever", 0);
    rig_stop(&rig);
}

/* Where owners are recorded, the panic tells them. */
static void owner_is_named(void **state)
{
    static const char *const names[] = {
        "allocated, no owner",  "allocated, kernel", "allocated, page table", "allocated, heap",
        "allocated, anonymous", "allocated, object", "allocated, dma",
    };
    static struct rig rig;

    (void)state;
    rig_start(&rig, machine, 1, MM_FRAMES_OWNERS);
    for (uint32_t owner = 0; owner < MM_OWNER_COUNT; owner++) {
        struct mm_frame_request request = {.order = 1, .owner = owner, .tag = 1000 + owner};
        mm_pfn_t pfn;

        assert_int_equal(mm_frame_alloc(&rig.frames, &request, &pfn), MM_OK);
        PANICS(rig, mm_frame_free(&rig.frames, mm_pfn(pfn.raw + 1), 1),
               "free of a block that is not aligned to its size", pfn.raw + 1, names[owner],
               1000 + owner, "allocated, a block of order", 1);
    }
    rig_stop(&rig);
}

/* Without a hook, or with one that comes back, the kernel stops all the same. */
static void silent_hook(void *ctx, const struct mm_panic_info *info)
{
    (void)info;
    ++*(unsigned *)ctx;
}

static void panic_does_not_return(void **state)
{
    static const struct mm_platform_ops returning = {.panic = silent_hook};
    static struct rig rig;
    struct t_trap_info info;
    unsigned calls = 0;

    (void)state;
    rig_start(&rig, machine, 1, 0);
    rig.frames.platform = (struct mm_platform){&returning, &calls};
    T_EXPECT_SIGILL(mm_frame_free(&rig.frames, mm_pfn(300), 0), &info);
    assert_int_equal(calls, 1);
    rig.frames.platform = (struct mm_platform){NULL, NULL};
    T_EXPECT_SIGILL(mm_frame_free(&rig.frames, mm_pfn(300), 0), &info);
    rig_stop(&rig);
}

/* Who asks a null allocator is told; who gives it a frame meets an illegal instruction. */
static void test_null_manages_no_frame(void **state)
{
    mm_pfn_t list[1] = {{256}};
    struct t_trap_info trap;

    (void)state;
    assert_false(mm_frame_managed(NULL, list[0]));
    assert_false(mm_frame_allocated(NULL, list[0]));
    assert_int_equal(mm_frame_refs(NULL, list[0]), 0);
    T_EXPECT_SIGILL(mm_frame_free(NULL, list[0], 0), &trap);
    T_EXPECT_SIGILL(mm_frame_free_run(NULL, list[0], 1), &trap);
    T_EXPECT_SIGILL(mm_frame_free_bulk(NULL, list, 1), &trap);
    T_EXPECT_SIGILL(mm_frame_free_bulk(NULL, NULL, 1), &trap);
    T_EXPECT_SIGILL(mm_frame_get(NULL, list[0]), &trap);
    T_EXPECT_SIGILL((void)mm_frame_put(NULL, list[0]), &trap);
    T_EXPECT_SIGILL(mm_frame_make_immortal(NULL, list[0]), &trap);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(double_free),
        cmocka_unit_test(double_free_from_another_cpu),
        cmocka_unit_test(part_of_a_block_is_free),
        cmocka_unit_test(reserved_and_foreign),
        cmocka_unit_test(not_initialised),
        cmocka_unit_test(not_a_block),
        cmocka_unit_test(same_frame_twice_in_a_list),
        cmocka_unit_test(owners_in_a_list),
        cmocka_unit_test(others_refer_to_it),
        cmocka_unit_test(references_to_what_is_not_there),
        cmocka_unit_test(owner_is_named),
        cmocka_unit_test(panic_does_not_return),
        cmocka_unit_test(test_null_manages_no_frame),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
