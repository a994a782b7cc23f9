// SPDX-License-Identifier: MIT
/**
 * Pages of a space that a device has pinned: who has the only reference writes in place, and what
 * is unmapped stays with the device until it lets go.
 */
#include "space_fixture.h"

#define AT (32 * PAGE)

static mm_pfn_t touched_and_pinned(struct fixture *f, struct mm_space *space)
{
    mm_pfn_t frame;

    assert_int_equal(map_at(space, AT, PAGE, RW, 0), MM_OK);
    assert_true(store(f, space, AT, 1));
    frame = mm_pfn(frame_at(space, AT));
    mm_frame_pin(&f->m.frames, frame);
    assert_int_equal(mm_space_check(space), MM_OK);
    return frame;
}

/* What the device sees. */
static uint64_t seen(struct fixture *f, mm_pfn_t frame)
{
    return *(const uint64_t *)t_machine_ptr(&f->m, mm_pfn_addr(frame).raw);
}

/* A pin is no other's reference: nothing is copied away from the device. */
static void test_written_in_place(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    struct mm_space *child;
    mm_pfn_t frame = touched_and_pinned(f, s);

    (void)state;
    /* Forbidden and allowed again: writable at once, since the frame is nobody else's. */
    assert_int_equal(protect(s, AT, PAGE, MM_PROT_READ), MM_OK);
    assert_int_equal(protect(s, AT, PAGE, RW), MM_OK);
    f->nr_faults = 0;
    assert_true(store(f, s, AT, 2));
    assert_int_equal(f->nr_faults, 0);
    assert_int_equal(frame_at(s, AT), frame.raw);
    /* Shared for a while. */
    child = clone_of(s);
    assert_int_equal(mm_frame_refs(&f->m.frames, frame), 2);
    put_last(f, child);
    assert_int_equal(mm_frame_refs(&f->m.frames, frame), 1);
    assert_true(store(f, s, AT, 3));
    assert_int_equal(f->last, MM_FAULT_COW);
    assert_int_equal(frame_at(s, AT), frame.raw);
    assert_int_equal(seen(f, frame), 3);
    assert_int_equal(mm_space_check(s), MM_OK);
    assert_false(mm_frame_unpin(&f->m.frames, frame));
    put_last(f, s);
    fixture_stop(f);
}

/* The last space goes, or unmaps the page: the device keeps what it sees. */
static void test_outlives_its_spaces(void **state)
{
    struct fixture *f = fixture_start(NULL);

    (void)state;
    for (unsigned by_unmap = 0; by_unmap < 2; by_unmap++) {
        struct mm_space *s = new_space(f);
        struct mm_space *child;
        mm_pfn_t frame = touched_and_pinned(f, s);

        child = clone_of(s);
        assert_true(store(f, child, AT, 9)); /* a copy of its own */
        assert_int_not_equal(frame_at(child, AT), frame.raw);
        put_last(f, child);
        if (by_unmap != 0) {
            run_in(f, s);
            assert_int_equal(unmap(s, AT, PAGE), MM_OK);
        }
        put_last(f, s);
        assert_int_equal(mm_frame_refs(&f->m.frames, frame), 0);
        assert_int_equal(mm_frame_pins(&f->m.frames, frame), 1);
        assert_true(mm_frame_allocated(&f->m.frames, frame));
        assert_int_equal(seen(f, frame), 1);
        assert_true(mm_frame_unpin(&f->m.frames, frame));
    }
    fixture_stop(f);
}

/* A leaf has a reference of its own: a pin cannot stand for it. */
static void test_check_sees_a_lost_reference(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    mm_pfn_t frame = touched_and_pinned(f, s);

    (void)state;
    assert_false(mm_frame_put(&f->m.frames, frame));
    assert_int_equal(mm_space_check(s), MM_ERR_CORRUPTED);
    mm_frame_get(&f->m.frames, frame);
    assert_int_equal(mm_space_check(s), MM_OK);
    assert_false(mm_frame_unpin(&f->m.frames, frame));
    put_last(f, s);
    fixture_stop(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_written_in_place),
        cmocka_unit_test(test_outlives_its_spaces),
        cmocka_unit_test(test_check_sees_a_lost_reference),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
