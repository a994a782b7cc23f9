// SPDX-License-Identifier: MIT
/**
 * What faults are refused for, and what they are counted as: limits of spaces and of groups, the
 * zero page, statistics to the last one.
 */
#include "space_fixture.h"

#include "core/space/internal.h"

#define AT (32 * PAGE)

static struct mm_space_stats stats_of(struct mm_space *s)
{
    struct mm_space_stats stats;

    assert_int_equal(mm_space_get_stats(s, &stats), MM_OK);
    return stats;
}

static uint64_t group_resident(const struct mm_space_group *group)
{
    struct mm_space_group_stats stats;

    assert_int_equal(mm_space_group_get_stats(group, &stats), MM_OK);
    return stats.resident_bytes;
}

static enum mm_fault_result fault_at(struct mm_space *s, uint64_t at, uint32_t flags)
{
    const struct mm_fault fault = {.at = mm_vaddr(at), .flags = flags | MM_FAULT_USER};
    enum mm_fault_result got = MM_FAULT_PENDING;

    assert_int_equal(mm_space_fault(s, &fault, &got), MM_OK);
    return got;
}

static void refused(struct fixture *f, struct mm_space *s, uint64_t at, uint32_t flags)
{
    uint64_t before = state_hash(f, s);

    assert_int_equal(fault_at(s, at, flags), MM_FAULT_LIMIT);
    assert_int_equal(state_hash(f, s), before);
}

/* --- limits ----------------------------------------------------------------------------------- */

static void test_limit_of_a_space(void **state)
{
    const struct mm_space_config config = {.limits = {.resident_bytes = 3 * PAGE}};
    struct mm_space_limits limits = {.resident_bytes = 2 * PAGE};
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = NULL;

    (void)state;
    assert_int_equal(mm_space_create_with(&f->spaces, &config, &s), MM_OK);
    assert_int_equal(map_at(s, AT, 8 * PAGE, RW, 0), MM_OK);
    assert_int_equal(fault_at(s, AT, MM_FAULT_WRITE), MM_FAULT_ZERO);
    assert_int_equal(fault_at(s, AT + PAGE, 0), MM_FAULT_ZERO); /* the zero page counts */
    assert_int_equal(fault_at(s, AT + 2 * PAGE, MM_FAULT_WRITE), MM_FAULT_ZERO);
    refused(f, s, AT + 3 * PAGE, MM_FAULT_WRITE);
    refused(f, s, AT + 3 * PAGE, 0);
    /* What changes no count needs no charge. */
    assert_int_equal(fault_at(s, AT + PAGE, MM_FAULT_WRITE), MM_FAULT_COW);
    assert_int_equal(fault_at(s, AT, MM_FAULT_WRITE), MM_FAULT_MINOR);
    refused(f, s, AT + 3 * PAGE, 0);
    assert_int_equal(unmap(s, AT, PAGE), MM_OK);
    assert_int_equal(fault_at(s, AT + 3 * PAGE, 0), MM_FAULT_ZERO);
    refused(f, s, AT + 4 * PAGE, 0);
    /* Lower than what is there: nothing is taken away. */
    assert_int_equal(mm_space_set_limits(s, &limits), MM_OK);
    refused(f, s, AT + 4 * PAGE, 0);
    assert_int_equal(resident(s), 3 * PAGE);
    assert_int_equal(mm_space_set_limits(s, NULL), MM_OK);
    assert_int_equal(fault_at(s, AT + 4 * PAGE, 0), MM_FAULT_ZERO);
    assert_int_equal(stats_of(s).nr_faults[MM_FAULT_LIMIT], 5);
    put_last(f, s);
    fixture_stop(f);
}

/* A limit that comes late knows what is there. */
static void test_limit_that_comes_late(void **state)
{
    const struct mm_space_limits limits = {.resident_bytes = 4 * PAGE};
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);

    (void)state;
    assert_int_equal(map_at(s, AT, 8 * PAGE, RW, 0), MM_OK);
    for (uint64_t i = 0; i < 3; i++) {
        assert_int_equal(fault_at(s, AT + i * PAGE, MM_FAULT_WRITE), MM_FAULT_ZERO);
    }
    assert_int_equal(mm_space_set_limits(s, &limits), MM_OK);
    assert_int_equal(fault_at(s, AT + 3 * PAGE, MM_FAULT_WRITE), MM_FAULT_ZERO);
    refused(f, s, AT + 4 * PAGE, MM_FAULT_WRITE);
    put_last(f, s);
    fixture_stop(f);
}

/* Two spaces and a clone in one group: one sum, which is 0 in the end. */
static void test_limit_of_a_group(void **state)
{
    const struct mm_space_limits limits = {.resident_bytes = 5 * PAGE};
    struct mm_space_group group = {0};
    const struct mm_space_config config = {.group = &group};
    struct fixture *f = fixture_start(NULL);
    struct mm_space *a = NULL;
    struct mm_space *b = NULL;
    struct mm_space *child = NULL;

    (void)state;
    assert_int_equal(mm_space_group_init(&group, &limits), MM_OK);
    assert_int_equal(mm_space_create_with(&f->spaces, &config, &a), MM_OK);
    assert_int_equal(mm_space_create_with(&f->spaces, &config, &b), MM_OK);
    assert_int_equal(map_at(a, AT, 8 * PAGE, RW, 0), MM_OK);
    assert_int_equal(map_at(b, AT, 8 * PAGE, RW, 0), MM_OK);
    for (uint64_t i = 0; i < 2; i++) {
        assert_int_equal(fault_at(a, AT + i * PAGE, MM_FAULT_WRITE), MM_FAULT_ZERO);
        assert_int_equal(fault_at(b, AT + i * PAGE, MM_FAULT_WRITE), MM_FAULT_ZERO);
    }
    assert_int_equal(mm_space_clone(a, &child), MM_ERR_LIMIT);
    assert_int_equal(group_resident(&group), 4 * PAGE);
    assert_int_equal(fault_at(a, AT + 2 * PAGE, 0), MM_FAULT_ZERO);
    refused(f, b, AT + 2 * PAGE, MM_FAULT_WRITE);
    refused(f, a, AT + 3 * PAGE, MM_FAULT_WRITE);
    assert_int_equal(group_resident(&group), 5 * PAGE);
    /* What one gives up the other may have. */
    assert_int_equal(unmap(a, AT, 8 * PAGE), MM_OK);
    assert_int_equal(group_resident(&group), 2 * PAGE);
    child = clone_of(b);
    assert_int_equal(group_resident(&group), 4 * PAGE);
    assert_int_equal(fault_at(child, AT, MM_FAULT_WRITE), MM_FAULT_COW); /* pages, not frames */
    assert_int_equal(group_resident(&group), 4 * PAGE);
    assert_int_equal(fault_at(child, AT + 2 * PAGE, MM_FAULT_WRITE), MM_FAULT_ZERO);
    refused(f, b, AT + 2 * PAGE, 0);
    assert_int_equal(mm_space_group_set_limits(&group, NULL), MM_OK);
    assert_int_equal(fault_at(b, AT + 2 * PAGE, 0), MM_FAULT_ZERO);
    assert_int_equal(mm_space_group_destroy(&group), MM_ERR_BUSY);
    put_last(f, a);
    put_last(f, child);
    assert_int_equal(group_resident(&group), 3 * PAGE);
    put_last(f, b);
    assert_int_equal(group_resident(&group), 0);
    assert_int_equal(mm_space_group_destroy(&group), MM_OK);
    fixture_stop(f);
}

/* A fault that fails after it was charged gives the charge back. */
static void test_charge_comes_back(void **state)
{
    struct mm_space_group group = {0};
    const struct mm_space_config config = {.group = &group};
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = NULL;

    (void)state;
    assert_int_equal(mm_space_group_init(&group, NULL), MM_OK);
    assert_int_equal(mm_space_create_with(&f->spaces, &config, &s), MM_OK);
    assert_int_equal(map_at(s, AT, 8 * PAGE, RW, 0), MM_OK);
    for (uint64_t left = 0; left < 4; left++) { /* a frame and three tables are needed */
        t_machine_leave_frames(&f->m, left);
        assert_int_equal(fault_at(s, AT, MM_FAULT_WRITE), MM_FAULT_NO_MEMORY);
        assert_int_equal(group_resident(&group), 0);
    }
    t_machine_leave_frames(&f->m, 4);
    assert_int_equal(fault_at(s, AT, MM_FAULT_WRITE), MM_FAULT_ZERO);
    assert_int_equal(group_resident(&group), PAGE);
    t_machine_leave_frames(&f->m, UINT64_MAX);
    put_last(f, s);
    assert_int_equal(mm_space_group_destroy(&group), MM_OK);
    fixture_stop(f);
}

/* --- the zero page ---------------------------------------------------------------------------- */

/* Hazard 24: one frame for all that is only read; nobody counts, writes or frees it. */
static void test_zero_page(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    struct mm_space *child;
    uint64_t free_before;
    uint64_t zero;
    uint64_t *p;

    (void)state;
    assert_int_equal(map_at(s, AT, 8 * PAGE, RW, 0), MM_OK);
    assert_int_equal(map_at(s, AT + 8 * PAGE, 8 * PAGE, RX, 0), MM_OK);
    assert_int_equal(loaded(f, s, AT), 0);
    zero = frame_at(s, AT);
    assert_int_equal(mm_frame_refs(&f->m.frames, mm_pfn(zero)), MM_FRAME_REF_IMMORTAL);
    free_before = t_machine_free_frames(&f->m);
    for (uint64_t i = 1; i < 16; i++) {
        assert_int_equal(loaded(f, s, AT + i * PAGE), 0);
        assert_int_equal(f->last, MM_FAULT_ZERO);
        assert_int_equal(frame_at(s, AT + i * PAGE), zero);
        assert_true(i < 8 || fetch(f, s, AT + i * PAGE));
    }
    assert_int_equal(t_machine_free_frames(&f->m), free_before);
    assert_int_equal(stats_of(s).nr_zero_page, 16);
    child = clone_of(s);
    /* Through "writable" and back: it never is. */
    assert_int_equal(protect(s, AT, 16 * PAGE, MM_PROT_READ), MM_OK);
    assert_int_equal(protect(s, AT, 16 * PAGE, RW), MM_OK);
    for (uint64_t i = 0; i < 16; i += 3) {
        assert_true(store(f, s, AT + i * PAGE, i + 1));
        assert_int_equal(f->last, MM_FAULT_COW);
        assert_int_not_equal(frame_at(s, AT + i * PAGE), zero);
        p = t_machine_ptr(&f->m, frame_at(s, AT + i * PAGE) << 12);
        for (unsigned w = 1; w < 512; w++) {
            assert_int_equal(p[w], 0);
        }
    }
    assert_int_equal(stats_of(s).nr_reused, 0);
    assert_int_equal(loaded(f, child, AT + 3 * PAGE), 0);
    assert_int_equal(unmap(s, AT, 5 * PAGE), MM_OK);
    put_last(f, s);
    put_last(f, child);
    assert_int_equal(mm_frame_refs(&f->m.frames, mm_pfn(zero)), MM_FRAME_REF_IMMORTAL);
    p = t_machine_ptr(&f->m, zero << 12);
    for (unsigned w = 0; w < 512; w++) {
        assert_int_equal(p[w], 0);
    }
    fixture_stop(f);
}

/* Where a page is wired there is no zero page: it has its own frame from the start. */
static void test_wired_has_no_zero_page(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);

    (void)state;
    assert_int_equal(map_at(s, AT, 4 * PAGE, MM_PROT_NONE, MM_SPACE_WIRED), MM_OK);
    assert_int_equal(resident(s), 0);
    assert_int_equal(fault_at(s, AT, 0), MM_FAULT_SIGNAL_ACCESS);
    assert_int_equal(protect(s, AT, 4 * PAGE, RW), MM_OK);
    for (uint64_t i = 0; i < 4; i++) {
        if (frame_at(s, AT + i * PAGE) == 0) {
            assert_int_equal(fault_at(s, AT + i * PAGE, 0), MM_FAULT_ZERO);
        }
        assert_int_equal(mm_frame_refs(&f->m.frames, mm_pfn(frame_at(s, AT + i * PAGE))), 1);
        assert_true(store(f, s, AT + i * PAGE, 1));
        assert_int_equal(f->nr_faults, 0);
    }
    assert_int_equal(stats_of(s).nr_zero_page, 0);
    put_last(f, s);
    fixture_stop(f);
}

/* --- statistics ------------------------------------------------------------------------------- */

static void test_every_fault_is_counted_once(void **state)
{
    static const uint64_t want[MM_FAULT_COUNT] = {
        [MM_FAULT_MINOR] = 2,      [MM_FAULT_ZERO] = 5,          [MM_FAULT_COW] = 3,
        [MM_FAULT_SIGNAL_MAP] = 1, [MM_FAULT_SIGNAL_ACCESS] = 2, [MM_FAULT_NO_MEMORY] = 1,
        [MM_FAULT_CORRUPT] = 1,
    };
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    struct mm_space *child;
    struct mm_space_stats stats;

    (void)state;
    assert_int_equal(map_at(s, AT, 8 * PAGE, RW, 0), MM_OK);
    for (uint64_t i = 0; i < 3; i++) {
        assert_int_equal(fault_at(s, AT + i * PAGE, MM_FAULT_WRITE), MM_FAULT_ZERO);
    }
    assert_int_equal(fault_at(s, AT + 3 * PAGE, 0), MM_FAULT_ZERO);
    assert_int_equal(fault_at(s, AT, MM_FAULT_WRITE), MM_FAULT_MINOR);
    assert_int_equal(fault_at(s, AT + 3 * PAGE, 0), MM_FAULT_MINOR);
    child = clone_of(s);
    assert_int_equal(fault_at(s, AT, MM_FAULT_WRITE), MM_FAULT_COW);            /* copied */
    assert_int_equal(fault_at(s, AT + 3 * PAGE, MM_FAULT_WRITE), MM_FAULT_COW); /* of zeros */
    put_last(f, child);
    assert_int_equal(fault_at(s, AT + PAGE, MM_FAULT_WRITE), MM_FAULT_COW); /* taken */
    assert_int_equal(fault_at(s, AT + 9 * PAGE, 0), MM_FAULT_SIGNAL_MAP);
    assert_int_equal(fault_at(s, AT, MM_FAULT_EXEC), MM_FAULT_SIGNAL_ACCESS);
    assert_int_equal(fault_at(s, AT, MM_FAULT_PKEY), MM_FAULT_SIGNAL_ACCESS);
    assert_int_equal(fault_at(s, AT, MM_FAULT_RESERVED), MM_FAULT_CORRUPT);
    t_machine_leave_frames(&f->m, 0);
    assert_int_equal(fault_at(s, AT + 4 * PAGE, MM_FAULT_WRITE), MM_FAULT_NO_MEMORY);
    assert_int_equal(fault_at(s, AT + 4 * PAGE, 0), MM_FAULT_ZERO); /* it needs none */
    t_machine_leave_frames(&f->m, UINT64_MAX);
    /* What others fault in is no fault of the space's. */
    assert_int_equal(mmi_space_fault_in(s, AT + 5 * PAGE, 0, false), MM_FAULT_ZERO);
    assert_int_equal(mmi_space_fault_in(s, AT + 6 * PAGE + 7, MM_FAULT_WRITE, false),
                     MM_FAULT_ZERO);
    assert_int_equal(mmi_space_fault_in(s, AT + 5 * PAGE, MM_FAULT_WRITE, false), MM_FAULT_COW);
    mmi_space_lock(s);
    assert_int_equal(mmi_space_fault_in_alone(s, AT + 7 * PAGE, MM_FAULT_WRITE, false),
                     MM_FAULT_ZERO);
    mmi_space_unlock(s);
    stats = stats_of(s);
    for (unsigned i = 0; i < MM_FAULT_COUNT; i++) {
        assert_int_equal(stats.nr_faults[i], want[i]);
    }
    assert_int_equal(stats.nr_reused, 1);
    assert_int_equal(stats.nr_zero_page, 2);
    assert_int_equal(stats.nr_stack_growths, 0);
    assert_int_equal(stats.resident_bytes, 8 * PAGE);
    put_last(f, s);
    fixture_stop(f);
}

/* --- by force --------------------------------------------------------------------------------- */

/* What a debugger does: whatever the region allows, but in a guard; what it writes to is private,
 * and still as forbidden as it was. */
static void test_by_force(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    struct mm_space *child;
    struct mm_mapping m;
    uint64_t frame;

    (void)state;
    assert_int_equal(map_at(s, AT, 2 * PAGE, RW, 0), MM_OK);
    assert_int_equal(map_at(s, AT + 2 * PAGE, PAGE, MM_PROT_NONE, MM_SPACE_GUARD), MM_OK);
    assert_int_equal(map_at(s, AT + 3 * PAGE, 2 * PAGE, MM_PROT_NONE, 0), MM_OK);
    assert_true(store(f, s, AT, 5));
    child = clone_of(s);
    assert_int_equal(protect(s, AT, 2 * PAGE, MM_PROT_READ), MM_OK);
    frame = frame_at(s, AT);
    assert_int_equal(mmi_space_fault_in(s, AT, MM_FAULT_WRITE, false), MM_FAULT_SIGNAL_ACCESS);
    assert_int_equal(mmi_space_fault_in(s, AT, 0, true), MM_FAULT_MINOR);
    assert_int_equal(mmi_space_fault_in(s, AT, MM_FAULT_WRITE, true), MM_FAULT_COW);
    assert_int_not_equal(frame_at(s, AT), frame);
    assert_int_equal(frame_at(child, AT), frame);
    assert_int_equal(*(uint64_t *)t_machine_ptr(&f->m, frame_at(s, AT) << 12), 5);
    assert_int_equal(mmi_space_fault_in(s, AT, MM_FAULT_WRITE, true), MM_FAULT_MINOR);
    assert_int_equal(mm_paging_translate(mm_space_table(s), mm_vaddr(AT), &m), MM_OK);
    assert_int_equal(m.prot & (MM_PROT_READ | MM_PROT_WRITE), MM_PROT_READ);
    assert_false(store(f, s, AT, 6));
    /* Nothing there, and nothing allowed; in a guard never; where no region is, no force helps. */
    assert_int_equal(mmi_space_fault_in(s, AT + 3 * PAGE, MM_FAULT_WRITE, true), MM_FAULT_ZERO);
    assert_int_equal(mmi_space_fault_in(s, AT + 4 * PAGE, 0, true), MM_FAULT_ZERO);
    assert_int_equal(mmi_space_fault_in(s, AT + 4 * PAGE, MM_FAULT_WRITE, true), MM_FAULT_COW);
    assert_int_equal(mm_frame_refs(&f->m.frames, mm_pfn(frame_at(s, AT + 4 * PAGE))), 1);
    assert_int_equal(mmi_space_fault_in(s, AT + 2 * PAGE, 0, true), MM_FAULT_SIGNAL_ACCESS);
    assert_int_equal(mmi_space_fault_in(s, AT + 7 * PAGE, 0, true), MM_FAULT_SIGNAL_MAP);
    assert_false(store(f, s, AT + 3 * PAGE, 6));
    assert_int_equal(mm_space_check(s), MM_OK);
    put_last(f, child);
    put_last(f, s);
    fixture_stop(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_limit_of_a_space),
        cmocka_unit_test(test_limit_that_comes_late),
        cmocka_unit_test(test_limit_of_a_group),
        cmocka_unit_test(test_charge_comes_back),
        cmocka_unit_test(test_zero_page),
        cmocka_unit_test(test_wired_has_no_zero_page),
        cmocka_unit_test(test_every_fault_is_counted_once),
        cmocka_unit_test(test_by_force),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
