// SPDX-License-Identifier: MIT
/**
 * Slices: bounds and rights at each access, natively, and what a closed one answers.
 */
#define _GNU_SOURCE
#include "user_rig.h"

#define LEN 100u

static struct mm_user_slice open_slice(const struct mm_user *user, uint32_t rights)
{
    struct mm_user_slice slice;

    memset(&slice, 0xff, sizeof(slice));
    assert_int_equal(
        mm_user_slice_open(user, mm_vaddr_of(machine.high_guard - LEN), LEN, rights, &slice),
        MM_OK);
    return slice;
}

/* What each access of `len` bytes at `offset` answers; a word only if that is one. */
static void check_all(const struct mm_user_slice *slice, uint64_t offset, uint64_t len,
                      mm_status_t want_in, mm_status_t want_out, uint64_t want_residue)
{
    uint8_t kernel[LEN + 8] = {0};
    uint64_t residue = 77;

    assert_int_equal(mm_user_slice_copy_in(slice, kernel, offset, len, &residue), want_in);
    assert_int_equal(residue, want_in == MM_OK ? 0 : want_residue);
    residue = 77;
    assert_int_equal(mm_user_slice_copy_out(slice, offset, kernel, len, &residue), want_out);
    assert_int_equal(residue, want_out == MM_OK ? 0 : want_residue);
    residue = 77;
    assert_int_equal(mm_user_slice_clear(slice, offset, len, &residue), want_out);
    assert_int_equal(residue, want_out == MM_OK ? 0 : want_residue);
    if (len == 1 || len == 2 || len == 4 || len == 8) {
        assert_int_equal(mm_user_slice_get(slice, kernel, offset, len), want_in);
        assert_int_equal(mm_user_slice_put(slice, offset, kernel, len), want_out);
    }
}

static void check_bounds(const struct flavour *flavour)
{
    static const uint64_t awkward[] = {0,
                                       1,
                                       2,
                                       4,
                                       8,
                                       50,
                                       92,
                                       96,
                                       98,
                                       99,
                                       100,
                                       101,
                                       4095,
                                       UINT64_C(1) << 47,
                                       UINT64_C(1) << 63,
                                       UINT64_MAX - 99,
                                       UINT64_MAX - 7,
                                       UINT64_MAX};
    const size_t nr = sizeof(awkward) / sizeof(awkward[0]);
    struct mm_user user = lower_half(flavour->ops);
    struct mm_user_slice slice = open_slice(&user, MM_USER_READ | MM_USER_WRITE);

    machine.nr_faults = 0;
    for (size_t i = 0; i < nr * nr; i++) {
        uint64_t offset = awkward[i / nr];
        uint64_t len = awkward[i % nr];
        mm_status_t want = (__uint128_t)offset + len <= LEN ? MM_OK : MM_ERR_INVALID_SIZE;

        check_all(&slice, offset, len, want, want, len);
    }
    assert_int_equal(machine.nr_faults, 0);
}

static void test_bounds(void **state)
{
    (void)state;
    with_each(check_bounds);
}

/* The bytes are those of the slice, and no others. */
static void test_contents(void **state)
{
    struct mm_user user = lower_half(&mm_x86_64_user_ops);
    struct mm_user_slice slice = open_slice(&user, MM_USER_READ | MM_USER_WRITE);
    uint8_t *at = machine.high_guard - LEN;
    uint8_t kernel[LEN];
    uint8_t want[PAGE];

    (void)state;
    use_smap(false);
    for (uint64_t offset = 0; offset < LEN; offset++) {
        uint64_t len = (LEN - offset) / 2;

        pattern(machine.page, PAGE);
        memcpy(want, machine.page, PAGE);
        assert_int_equal(mm_user_slice_copy_in(&slice, kernel, offset, len, NULL), MM_OK);
        assert_memory_equal(kernel, at + offset, len);
        memset(kernel, 0xee, len);
        assert_int_equal(mm_user_slice_copy_out(&slice, offset, kernel, len, NULL), MM_OK);
        memset(want + PAGE - LEN + offset, 0xee, len);
        assert_memory_equal(machine.page, want, PAGE);
        assert_int_equal(mm_user_slice_clear(&slice, offset, len, NULL), MM_OK);
        memset(want + PAGE - LEN + offset, 0, len);
        assert_memory_equal(machine.page, want, PAGE);
        for (uint64_t size = 1; size <= 8 && offset + size <= LEN; size *= 2) {
            pattern(kernel, 8);
            assert_int_equal(mm_user_slice_put(&slice, offset, kernel, size), MM_OK);
            memcpy(want + PAGE - LEN + offset, kernel, size);
            assert_memory_equal(machine.page, want, PAGE);
            memset(kernel, CANARY, 9);
            assert_int_equal(mm_user_slice_get(&slice, kernel, offset, size), MM_OK);
            assert_memory_equal(kernel, at + offset, size);
            assert_int_equal(kernel[size], CANARY);
        }
    }
    for (uint64_t size = 0; size < 12; size++) {
        mm_status_t status =
            size == 1 || size == 2 || size == 4 || size == 8 ? MM_OK : MM_ERR_INVALID_SIZE;

        assert_int_equal(mm_user_slice_get(&slice, kernel, 0, size), status);
        assert_int_equal(mm_user_slice_put(&slice, 0, kernel, size), status);
    }
}

/* A missing page within a slice: the residue is that of a copy. */
static void test_faults(void **state)
{
    struct mm_user user = lower_half(&mm_x86_64_user_ops);
    struct mm_user_slice slice;
    uint8_t kernel[80] = {0};

    (void)state;
    use_smap(false);
    assert_int_equal(mm_user_slice_open(&user, mm_vaddr_of(machine.high_guard - 40), 80,
                                        MM_USER_READ | MM_USER_WRITE, &slice),
                     MM_OK);
    for (uint64_t offset = 0; offset < 80; offset++) {
        uint64_t len = 80 - offset;
        uint64_t left = offset < 40 ? 40 : len;

        check_all(&slice, offset, len, MM_ERR_FAULT, MM_ERR_FAULT, left);
        if (len >= 4) {
            mm_status_t status = offset + 4 <= 40 ? MM_OK : MM_ERR_FAULT;

            assert_int_equal(mm_user_slice_get(&slice, kernel, offset, 4), status);
            assert_int_equal(mm_user_slice_put(&slice, offset, kernel, 4), status);
        }
    }
}

static void test_rights(void **state)
{
    struct mm_user user = lower_half(&mm_x86_64_user_ops);
    struct mm_user_slice slice;

    (void)state;
    use_smap(false);
    slice = open_slice(&user, MM_USER_READ);
    check_all(&slice, 8, 8, MM_OK, MM_ERR_PERMISSION_DENIED, 8);
    check_all(&slice, 8, 0, MM_OK, MM_ERR_PERMISSION_DENIED, 0);
    slice = open_slice(&user, MM_USER_WRITE);
    check_all(&slice, 8, 8, MM_ERR_PERMISSION_DENIED, MM_OK, 8);
    slice = open_slice(&user, MM_USER_READ | MM_USER_WRITE);
    /* What it was opened with may go. */
    memset(&user, 0xff, sizeof(user));
    check_all(&slice, 8, 8, MM_OK, MM_OK, 0);
}

static void test_closed(void **state)
{
    struct mm_user user = lower_half(&mm_x86_64_user_ops);
    struct mm_user_slice slice = {0};

    (void)state;
    use_smap(false);
    check_all(&slice, 0, 8, MM_ERR_NOT_INITIALIZED, MM_ERR_NOT_INITIALIZED, 77);
    assert_int_equal(mm_user_slice_close(&slice), MM_ERR_NOT_INITIALIZED);
    slice = open_slice(&user, MM_USER_READ | MM_USER_WRITE);
    assert_int_equal(mm_user_slice_close(&slice), MM_OK);
    check_all(&slice, 0, 8, MM_ERR_NOT_INITIALIZED, MM_ERR_NOT_INITIALIZED, 77);
    check_all(&slice, 0, 0, MM_ERR_NOT_INITIALIZED, MM_ERR_NOT_INITIALIZED, 77);
    assert_int_equal(mm_user_slice_close(&slice), MM_ERR_NOT_INITIALIZED);
    assert_int_equal(mm_user_slice_close(NULL), MM_ERR_INVALID_ARGUMENT);
}

static void test_open(void **state)
{
    struct mm_user user = lower_half(&mm_x86_64_user_ops);
    struct mm_user none = {0};
    struct mm_user_slice slice;
    struct mm_user_slice before;
    mm_vaddr_t at = mm_vaddr_of(machine.page);

    (void)state;
    memset(&slice, 0x5a, sizeof(slice));
    before = slice;
    assert_int_equal(mm_user_slice_open(NULL, at, 1, 1, &slice), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_user_slice_open(&none, at, 1, 1, &slice), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_user_slice_open(&user, at, 1, 1, NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_user_slice_open(&user, at, 1, 0, &slice), MM_ERR_INVALID_FLAGS);
    assert_int_equal(mm_user_slice_open(&user, at, 1, 4, &slice), MM_ERR_INVALID_FLAGS);
    assert_int_equal(mm_user_slice_open(&user, at, 1, 0x80000001, &slice), MM_ERR_INVALID_FLAGS);
    assert_int_equal(mm_user_slice_open(&user, at, UINT64_MAX, 1, &slice), MM_ERR_INVALID_ADDRESS);
    assert_int_equal(mm_user_slice_open(&user, mm_vaddr(UINT64_C(1) << 47), 1, 1, &slice),
                     MM_ERR_INVALID_ADDRESS);
    assert_int_equal(mm_user_slice_open(&user, mm_vaddr((UINT64_C(1) << 47) - 7), 8, 1, &slice),
                     MM_ERR_INVALID_ADDRESS);
    assert_memory_equal(&slice, &before, sizeof(slice));
    assert_int_equal(mm_user_slice_open(&user, mm_vaddr((UINT64_C(1) << 47) - 8), 8, 1, &slice),
                     MM_OK);
    /* Nothing, wherever: nothing can be done with it. */
    use_smap(false);
    assert_int_equal(mm_user_slice_open(&user, mm_vaddr(UINT64_MAX), 0, 3, &slice), MM_OK);
    check_all(&slice, 0, 0, MM_OK, MM_OK, 0);
    check_all(&slice, 0, 1, MM_ERR_INVALID_SIZE, MM_ERR_INVALID_SIZE, 1);
    check_all(&slice, 1, 0, MM_ERR_INVALID_SIZE, MM_ERR_INVALID_SIZE, 0);
}

static void test_null(void **state)
{
    struct mm_user user = lower_half(&mm_x86_64_user_ops);
    struct mm_user_slice slice = open_slice(&user, MM_USER_READ | MM_USER_WRITE);
    uint64_t r = 3;

    (void)state;
    check_all(NULL, 0, 8, MM_ERR_INVALID_ARGUMENT, MM_ERR_INVALID_ARGUMENT, 77);
    assert_int_equal(mm_user_slice_copy_in(&slice, NULL, 0, 8, &r), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_user_slice_copy_out(&slice, 0, NULL, 8, &r), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_user_slice_get(&slice, NULL, 0, 8), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_user_slice_put(&slice, 0, NULL, 8), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(r, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bounds), cmocka_unit_test(test_contents),
        cmocka_unit_test(test_faults), cmocka_unit_test(test_rights),
        cmocka_unit_test(test_closed), cmocka_unit_test(test_open),
        cmocka_unit_test(test_null),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
