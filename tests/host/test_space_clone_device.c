// SPDX-License-Identifier: MIT
/**
 * Clones of spaces with devices: the child reaches the same memory with the same type and rights,
 * by a claim of its own, and nothing of it is counted, copied or made read-only.
 */
#include "space_devices.h"

/* The same leaves, size by size, with the rights that they had. */
static bool same_leaf(void *ctx, const struct mm_mapping *leaf)
{
    struct mm_mapping other;

    assert_int_equal(mm_paging_translate(ctx, leaf->page.start, &other), MM_OK);
    assert_int_equal(other.page.start.raw, leaf->page.start.raw);
    assert_int_equal(other.page.len, leaf->page.len);
    assert_int_equal(other.paddr.raw, leaf->paddr.raw);
    assert_int_equal(other.type, leaf->type);
    assert_int_equal(other.prot, leaf->prot);
    return true;
}

static void same_devices(struct mm_space *a, struct mm_space *b)
{
    struct mm_region_info info;

    assert_int_equal(device_bytes(a), device_bytes(b));
    for (mm_vaddr_t at = {0}; mm_space_next(a, at, &info) == MM_OK;
         at = mm_vaddr(info.range.start.raw + info.range.len)) {
        struct mm_region_info other;

        assert_int_equal(mm_space_find(b, info.range.start, &other), MM_OK);
        assert_int_equal(other.range.start.raw, info.range.start.raw);
        assert_int_equal(other.kind, info.kind);
        if (info.kind == MM_REGION_DEVICE) {
            assert_int_equal(other.range.len, info.range.len);
            assert_int_equal(other.offset, info.offset);
            assert_int_equal(other.type, info.type);
            assert_int_equal(
                mm_paging_walk(mm_space_table(a), info.range, same_leaf, mm_space_table(b)), MM_OK);
        }
    }
}

/* Registers, a frame buffer in large pages, two devices that touch, one that was cut and protected
 * in part, between memory, below all of it and above. */
static void devices_and_memory(struct fixture *f, struct mm_space *s)
{
    assert_int_equal(map_device(s, AT, PAGE, REGISTERS, UC, 0), MM_OK);
    assert_int_equal(map_at(s, AT + PAGE, 4 * PAGE, RW, 0), MM_OK);
    assert_int_equal(map_device(s, AT + 5 * PAGE, PAGE, REGISTERS + 4 * PAGE, UC, 0), MM_OK);
    assert_int_equal(map_device(s, AT + 6 * PAGE, PAGE, REGISTERS + 5 * PAGE, UC, 0), MM_OK);
    assert_int_equal(map_at(s, AT + 7 * PAGE, 4 * PAGE, RW, 0), MM_OK);
    assert_int_equal(map_device(s, MM_SIZE_1G, 3 * MM_SIZE_2M, MM_SIZE_1G, UC, 0), MM_OK);
    assert_int_equal(unmap(s, MM_SIZE_1G + MM_SIZE_2M + PAGE, PAGE), MM_OK);
    assert_int_equal(protect(s, MM_SIZE_1G + MM_SIZE_2M + 8 * PAGE, 2 * PAGE, MM_PROT_READ), MM_OK);
    assert_int_equal(protect(s, MM_SIZE_1G + PAGE, PAGE, MM_PROT_NONE), MM_OK);
    assert_int_equal(map_at(s, MM_SIZE_1G + 3 * MM_SIZE_2M, 4 * PAGE, RW, 0), MM_OK);
    assert_int_equal(map_device(s, USER_LAST - PAGE, PAGE, REGISTERS, UC, 0), MM_OK);
    for (uint64_t i = 0; i < 3; i++) {
        assert_true(store(f, s, AT + (1 + i) * PAGE, i));
        assert_true(store(f, s, AT + (7 + i) * PAGE, i));
        assert_true(store(f, s, MM_SIZE_1G + 3 * MM_SIZE_2M + i * PAGE, i));
    }
}

static void test_mapped_again(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    struct mm_space *child;
    struct mm_space *grandchild;
    mm_pfn_t pinned;

    (void)state;
    devices_and_memory(f, s);
    pinned = mm_pfn(frame_at(s, AT + 8 * PAGE));
    for (unsigned round = 0; round < 2; round++) { /* and with a page that is copied at once */
        run_in(f, s);
        child = clone_of(s);
        grandchild = clone_of(child);
        all_well(f, s);
        all_well(f, child);
        all_well(f, grandchild);
        same_devices(s, child);
        same_devices(s, grandchild);
        assert_int_equal(resident(child), 9 * PAGE);
        assert_int_equal(frame_at(child, AT + PAGE), frame_at(s, AT + PAGE));
        assert_int_equal(frame_at(child, AT + 8 * PAGE) == pinned.raw, round == 0);
        /* All write to the device, and nobody faults. */
        assert_int_equal(reached(f, s, AT, T_MMU_WRITE), REGISTERS);
        assert_int_equal(reached(f, child, AT, T_MMU_WRITE), REGISTERS);
        assert_int_equal(reached(f, grandchild, AT, T_MMU_WRITE), REGISTERS);
        /* Memory is copied on write, as ever. */
        assert_true(store(f, child, AT + PAGE, 100));
        assert_int_equal(loaded(f, s, AT + PAGE), 0);
        /* Each goes by itself. */
        run_in(f, child);
        assert_int_equal(unmap(child, AT, 7 * PAGE), MM_OK);
        all_well(f, child);
        assert_int_equal(reached(f, s, AT, T_MMU_WRITE), REGISTERS);
        put_last(f, child);
        all_well(f, grandchild);
        put_last(f, grandchild);
        all_well(f, s);
        if (round == 0) {
            mm_frame_pin(&f->m.frames, pinned);
        }
    }
    assert_false(mm_frame_unpin(&f->m.frames, pinned));
    put_last(f, s);
    fixture_stop(f);
}

/* The child's claim outlives the parent, and ends with the child. */
static void test_claims(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    struct mm_space *other = new_space(f);
    struct mm_space *child;

    (void)state;
    assert_int_equal(map_device(s, AT, 4 * PAGE, REGISTERS, UC, 0), MM_OK);
    child = clone_of(s);
    put_last(f, s);
    assert_int_equal(map_device(other, AT, PAGE, REGISTERS + PAGE, WB, 0), MM_ERR_BUSY);
    assert_int_equal(unmap(child, AT + PAGE, PAGE), MM_OK);
    assert_int_equal(map_device(other, AT, PAGE, REGISTERS + PAGE, WB, 0), MM_OK);
    assert_int_equal(map_device(other, AT + PAGE, PAGE, REGISTERS, WB, 0), MM_ERR_BUSY);
    put_last(f, child);
    assert_int_equal(map_device(other, AT + PAGE, PAGE, REGISTERS, WB, 0), MM_OK);
    put_last(f, other);
    fixture_stop(f);
}

/* Frames of the allocator that are mapped as a device: no reference more or less. */
static void test_frames_are_not_counted(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    struct mm_space *child;
    mm_pfn_t frame;

    (void)state;
    assert_int_equal(mm_frame_alloc(&f->m.frames, &(struct mm_frame_request){0}, &frame), MM_OK);
    mm_frame_pin(&f->m.frames, frame); /* a pin there is no reason to copy it */
    assert_int_equal(map_device(s, AT, PAGE, mm_pfn_addr(frame).raw, WB, 0), MM_OK);
    child = clone_of(s);
    assert_int_equal(mm_frame_refs(&f->m.frames, frame), 1);
    assert_true(store(f, s, AT, 5));
    assert_int_equal(loaded(f, child, AT), 5);
    assert_true(store(f, child, AT, 6));
    assert_int_equal(loaded(f, s, AT), 6);
    put_last(f, s);
    put_last(f, child);
    assert_int_equal(mm_frame_refs(&f->m.frames, frame), 1);
    assert_false(mm_frame_unpin(&f->m.frames, frame));
    assert_true(mm_frame_put(&f->m.frames, frame));
    fixture_stop(f);
}

/* Frames run out at every point. */
static void test_frames_run_out(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    struct mm_space *child = NULL;
    mm_status_t status;
    uint64_t nr = 0;

    (void)state;
    devices_and_memory(f, s);
    do {
        uint64_t before;

        t_machine_leave_frames(&f->m, nr++);
        before = state_hash(f, s);
        status = mm_space_clone(s, &child);
        if (status != MM_OK) {
            assert_int_equal(status, MM_ERR_NO_MEMORY);
            assert_null(child);
            assert_int_equal(state_hash(f, s), before);
            all_well(f, s);
        }
        assert_in_range(nr, 0, 200);
    } while (status != MM_OK);
    t_machine_leave_frames(&f->m, UINT64_MAX);
    assert_true(nr > 2);
    all_well(f, child);
    put_last(f, child);
    put_last(f, s);
    fixture_stop(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mapped_again),
        cmocka_unit_test(test_claims),
        cmocka_unit_test(test_frames_are_not_counted),
        cmocka_unit_test(test_frames_run_out),
    };

    return cmocka_run_group_tests_name("space_clone_device", tests, NULL, NULL);
}
