// SPDX-License-Identifier: MIT
/**
 * A frame for a page, the short way that faults go: who gets it, what is recorded, what is in it,
 * and what is left are as a request would have it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "frame_rig.h"

#include "core/frame/state.h"

#define MAX UINT64_C(32768)
#define TAG UINT64_C(0x123456789)

static const uint64_t memory[] = {MIB, 63 * MIB - 12 * KIB, 80 * MIB + 4 * KIB, 44 * MIB, 0, 0};

static mm_pfn_t frames[MAX];

/* All that one asker gets, the short way or not; each is given back. */
static uint64_t take_all(struct rig *rig, uint32_t owner, bool is_short)
{
    const struct mm_frame_request request = {.owner = owner, .tag = TAG};
    mm_status_t status = MM_OK;
    uint64_t nr = 0;
    uint64_t i;

    for (;;) {
        uint32_t cpu = (uint32_t)(nr / 100 % 3); /* one more than there are */

        rig->cpu = cpu;
        frames[nr] = mm_pfn(7);
        status = is_short ? mmi_frame_alloc_page(&rig->frames, cpu, owner, TAG, false, &frames[nr])
                          : mm_frame_alloc(&rig->frames, &request, &frames[nr]);
        if (status != MM_OK) {
            break;
        }
        nr++;
    }
    assert_int_equal(status, MM_ERR_NO_MEMORY);
    assert_int_equal(frames[nr].raw, 7);
    for (i = 0; i < nr; i++) {
        struct mm_frame_record record;

        assert_int_equal(mm_frame_refs(&rig->frames, frames[i]), 1);
        assert_int_equal(mm_frame_owner(&rig->frames, frames[i], &record), MM_OK);
        assert_int_equal(record.owner, owner);
        assert_int_equal(record.tag, TAG);
        assert_true(mm_frame_put(&rig->frames, frames[i]));
    }
    rig_check(rig);
    return nr;
}

/* Withheld memory is what a request of the same owner would not get, either. */
static void test_as_a_request(void **state)
{
    static const uint64_t withheld[][2] = {{0, 0}, {700, 0}, {0, 700}, {513, 5000}};
    static struct rig rig;

    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        uint64_t user;

        rig_map(&rig, memory);
        rig_config(&rig, 2, RIG_RECORDS);
        rig.config.nr_reserve = withheld[i][0];
        rig.config.nr_kernel = withheld[i][1];
        assert_int_equal(mm_frame_init(&rig.frames, &rig.config), MM_OK);
        user = take_all(&rig, MM_OWNER_ANONYMOUS, false);
        assert_int_equal(take_all(&rig, MM_OWNER_ANONYMOUS, true), user);
        assert_int_equal(rig_stats(&rig).nr_withheld == 0, i == 0);
        assert_int_equal(take_all(&rig, MM_OWNER_KERNEL, true),
                         take_all(&rig, MM_OWNER_KERNEL, false));
        assert_int_equal(take_all(&rig, MM_OWNER_ANONYMOUS, true), user);
        assert_int_equal(rig.nr_events, 5); /* each that failed was told of */
        rig_stop(&rig);
    }
}

/* Zeroed where it is asked for, and only that; of a direct map that does not reach all, where it
 * does. */
static void test_zeroed(void **state)
{
    static const uint64_t ranges[] = {MIB, 4 * MIB, 0, 0};
    static struct rig rig;
    uint64_t *ram = aligned_alloc(4096, 5 * MIB);
    struct mm_physmap physmap;

    (void)state;
    assert_non_null(ram);
    for (unsigned half = 0; half < 2; half++) {
        uint64_t nr = 0;

        memset(ram, 0xa5, 5 * MIB);
        physmap = mm_physmap_direct((uintptr_t)ram);
        if (half != 0) {
            physmap.first = mm_paddr(MIB);
            physmap.len = 2 * MIB;
            physmap.base = (uintptr_t)ram;
        }
        rig_map(&rig, ranges);
        rig_config(&rig, 1, RIG_RECORDS);
        rig.config.physmap = &physmap;
        assert_int_equal(mm_frame_init(&rig.frames, &rig.config), MM_OK);
        while (mmi_frame_alloc_page(&rig.frames, 0, MM_OWNER_ANONYMOUS, 1, nr % 2 == 0,
                                    &frames[nr]) == MM_OK) {
            const uint64_t *page = ram + frames[nr].raw * 512;

            if (nr % 2 == 0) {
                assert_true(half == 0 || frames[nr].raw < 3 * MIB / 4096);
            }
            for (unsigned i = 0; i < 512; i++) {
                assert_int_equal(page[i], nr % 2 == 0 ? 0 : UINT64_C(0xa5a5a5a5a5a5a5a5));
            }
            nr++;
        }
        assert_in_range(nr, half == 0 ? 1024 : 2, 1024);
        while (nr != 0) {
            assert_true(mm_frame_put(&rig.frames, frames[--nr]));
        }
        rig_stop(&rig);
    }
    free(ram);
}

/* What was written to while it was free is found here, too. */
static void test_poison(void **state)
{
    static const uint64_t ranges[] = {MIB, 4 * MIB, 0, 0};
    static struct rig rig;
    unsigned char *ram = aligned_alloc(4096, 5 * MIB);
    struct mm_physmap physmap = mm_physmap_direct((uintptr_t)ram);
    struct t_trap_info info;
    mm_pfn_t frame = {0};

    (void)state;
    assert_non_null(ram);
    rig_map(&rig, ranges);
    rig_config(&rig, 1, RIG_RECORDS | MM_FRAMES_POISON);
    rig.config.physmap = &physmap;
    assert_int_equal(mm_frame_init(&rig.frames, &rig.config), MM_OK);
    assert_int_equal(mmi_frame_alloc_page(&rig.frames, 0, MM_OWNER_ANONYMOUS, 1, true, &frame),
                     MM_OK);
    assert_true(mm_frame_put(&rig.frames, frame));
    ram[frame.raw * 4096 + 77] = 1;
    T_EXPECT_PANIC((void)take_all(&rig, MM_OWNER_ANONYMOUS, true), &info);
    assert_string_equal(info.room, "frame");
    free(rig.config.metadata);
    free(ram);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_as_a_request),
        cmocka_unit_test(test_zeroed),
        cmocka_unit_test(test_poison),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
