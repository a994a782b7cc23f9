// SPDX-License-Identifier: MIT
/**
 * Structures of every version, fetched once: sizes on both sides, tails, checks, faults, and user
 * code that changes them meanwhile (hazard 33).
 */
#define _GNU_SOURCE
#include "user_rig.h"
#include "user_steps.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#define KNOWN 48u

static struct {
    unsigned nr; /* calls of the check */
    const void *seen;
    mm_status_t answer;
} checked;

static mm_status_t check(void *ctx, const void *structure)
{
    assert_ptr_equal(ctx, &checked);
    checked.nr++;
    checked.seen = structure;
    return checked.answer;
}

static const struct mm_user_struct kind = {
    .size = KNOWN, .least = 16, .size_at = 4, .check = check};

/* A structure of user code's, up to the end of what there is. */
static uint8_t *lay_down(uint64_t user_size, uint64_t tail_from)
{
    uint8_t *at = machine.high_guard - user_size;

    pattern(at, user_size);
    if (user_size > tail_from) {
        memset(at + tail_from, 0, user_size - tail_from);
    }
    return at;
}

static void check_sizes(const struct flavour *flavour)
{
    struct mm_user user = lower_half(flavour->ops);
    uint8_t to[KNOWN + 8];

    for (uint64_t user_size = 0; user_size <= 300; user_size++) {
        uint64_t len = user_size < KNOWN ? user_size : KNOWN;
        uint8_t *at = lay_down(user_size, KNOWN);
        mm_status_t want = user_size < 16 ? MM_ERR_INVALID_SIZE : MM_OK;

        memset(to, CANARY, sizeof(to));
        checked.nr = 0;
        checked.answer = MM_OK;
        assert_int_equal(mm_user_struct_in(&user, &kind, &checked, to, mm_vaddr_of(at), user_size),
                         want);
        assert_int_equal(checked.nr, want == MM_OK ? 1 : 0);
        if (want == MM_OK) {
            assert_ptr_equal(checked.seen, to);
            assert_memory_equal(to, at, len);
            assert_true(all_are(to + len, 0, KNOWN - len));
        } else {
            assert_true(all_are(to, CANARY, KNOWN));
        }
        assert_true(all_are(to + KNOWN, CANARY, 8));
        assert_false(machine.ac);
    }
}

static void test_sizes(void **state)
{
    (void)state;
    with_each(check_sizes);
}

/* Each byte of the tail says something that the kernel does not know. */
static void test_tails(void **state)
{
    struct mm_user user = lower_half(&mm_x86_64_user_ops);
    uint8_t to[KNOWN];

    (void)state;
    use_smap(false);
    checked.nr = 0;
    for (uint64_t user_size = KNOWN + 1; user_size <= KNOWN + 140; user_size++) {
        for (uint64_t i = KNOWN; i < user_size; i++) {
            uint8_t *at = lay_down(user_size, KNOWN);

            at[i] = (uint8_t)(i % 2 == 0 ? 1 : 0x80);
            memset(to, CANARY, KNOWN);
            assert_int_equal(
                mm_user_struct_in(&user, &kind, &checked, to, mm_vaddr_of(at), user_size),
                MM_ERR_UNSUPPORTED);
            assert_true(all_are(to, 0, KNOWN));
        }
    }
    assert_int_equal(checked.nr, 0);
    /* The largest, and one that is too large. */
    memset(machine.page, 0, PAGE);
    assert_int_equal(mm_user_struct_in(&user, &kind, &checked, to, mm_vaddr_of(machine.page),
                                       MM_USER_STRUCT_MAX),
                     MM_OK);
    machine.page[PAGE - 1] = 1;
    assert_int_equal(mm_user_struct_in(&user, &kind, &checked, to, mm_vaddr_of(machine.page),
                                       MM_USER_STRUCT_MAX),
                     MM_ERR_UNSUPPORTED);
    assert_int_equal(mm_user_struct_in(&user, &kind, &checked, to, mm_vaddr_of(machine.page),
                                       MM_USER_STRUCT_MAX + 1),
                     MM_ERR_INVALID_SIZE);
}

/* Some of it is missing: at each byte, of the kernel's part and of the tail. */
static void check_faults(const struct flavour *flavour)
{
    struct mm_user user = lower_half(flavour->ops);
    uint8_t to[KNOWN];

    checked.nr = 0;
    for (uint64_t user_size = 16; user_size <= 130; user_size += 3) {
        for (uint64_t present = 0; present < user_size; present++) {
            uint8_t *at = machine.high_guard - present;

            pattern(at, present);
            if (present > KNOWN) {
                memset(at + KNOWN, 0, present - KNOWN);
            }
            memset(to, CANARY, KNOWN);
            assert_int_equal(
                mm_user_struct_in(&user, &kind, &checked, to, mm_vaddr_of(at), user_size),
                MM_ERR_FAULT);
            assert_true(all_are(to, 0, KNOWN));
            assert_false(machine.ac);
        }
    }
    assert_int_equal(checked.nr, 0);
}

static void test_faults(void **state)
{
    (void)state;
    with_each(check_faults);
}

/* What the check does not like is not handed out; its answer is. */
static void test_checks(void **state)
{
    struct mm_user user = lower_half(&mm_x86_64_user_ops);
    struct mm_user_struct unchecked = kind;
    uint8_t *at = lay_down(KNOWN, KNOWN);
    uint8_t to[KNOWN];

    (void)state;
    use_smap(false);
    for (int answer = 0; answer < MM_STATUS_COUNT; answer++) {
        memset(to, CANARY, KNOWN);
        checked.answer = (mm_status_t)answer;
        assert_int_equal(mm_user_struct_in(&user, &kind, &checked, to, mm_vaddr_of(at), KNOWN),
                         answer);
        assert_true(answer == MM_OK ? memcmp(to, at, KNOWN) == 0 : all_are(to, 0, KNOWN));
    }
    checked.answer = MM_ERR_IO;
    unchecked.check = NULL;
    assert_int_equal(mm_user_struct_in(&user, &unchecked, &checked, to, mm_vaddr_of(at), KNOWN),
                     MM_OK);
    checked.answer = MM_OK;
}

static void tell(uint8_t *at, uint32_t size)
{
    memcpy(at + kind.size_at, &size, sizeof(size));
}

/* It says how large it is, with or without truth. */
static void check_sized(const struct flavour *flavour)
{
    struct mm_user user = lower_half(flavour->ops);
    uint8_t to[KNOWN];

    for (uint32_t user_size = 8; user_size <= 200; user_size++) {
        uint8_t *at = lay_down(user_size, KNOWN);
        uint64_t len = user_size < KNOWN ? user_size : KNOWN;
        mm_status_t want = user_size < 16 ? MM_ERR_INVALID_SIZE : MM_OK;

        tell(at, user_size);
        if (user_size < 16) { /* not less than `least` is looked at for the size */
            at = machine.high_guard - 16;
            tell(at, user_size);
        }
        checked.answer = MM_OK;
        assert_int_equal(mm_user_sized_struct_in(&user, &kind, &checked, to, mm_vaddr_of(at)),
                         want);
        if (want == MM_OK) {
            assert_memory_equal(to, at, len);
            assert_true(all_are(to + len, 0, KNOWN - len));
            /* One more than there is. */
            tell(at, user_size + 1);
            assert_int_equal(mm_user_sized_struct_in(&user, &kind, &checked, to, mm_vaddr_of(at)),
                             MM_ERR_FAULT);
            assert_true(all_are(to, 0, KNOWN));
        }
        assert_false(machine.ac);
    }
    tell(machine.page, MM_USER_STRUCT_MAX + 1);
    memset(to, CANARY, KNOWN);
    assert_int_equal(mm_user_sized_struct_in(&user, &kind, &checked, to, mm_vaddr_of(machine.page)),
                     MM_ERR_INVALID_SIZE);
    assert_int_equal(
        mm_user_sized_struct_in(&user, &kind, &checked, to, mm_vaddr_of(machine.high_guard - 6)),
        MM_ERR_FAULT);
    assert_true(all_are(to, CANARY, KNOWN));
}

static void test_sized(void **state)
{
    (void)state;
    with_each(check_sized);
}

/* --- hazard 33 ---------------------------------------------------------------------------------
 *
 * A structure that is good or bad as a whole: `limit` must be at most 100, and all but its size are
 * one value. User code changes it all the time.
 */

struct request {
    uint32_t limit;
    uint32_t size;
    uint64_t words[3];
    uint64_t newer[3]; /* the kernel knows no more of it */
};

static const struct mm_user_struct request_kind;
static unsigned nr_bad;

static mm_status_t limited(void *ctx, const void *structure)
{
    const struct request *request = structure;

    (void)ctx;
    nr_bad += request->limit > 100 ? 1 : 0;
    return request->limit > 100 ? MM_ERR_PERMISSION_DENIED : MM_OK;
}

static const struct mm_user_struct request_kind = {.size = sizeof(struct request) - 24,
                                                   .least = 16,
                                                   .size_at = offsetof(struct request, size),
                                                   .check = limited};

static unsigned flip_turn;

/* The limit, the size and the tail change, at different times. */
static void flip_the_request(void)
{
    static const uint32_t limits[] = {5, UINT32_MAX, 100, 101};
    static const uint32_t told[] = {16, 32, 24, 56, 17, UINT32_MAX, 0};
    volatile struct request *request = (volatile struct request *)(void *)machine.page;

    flip_turn++;
    request->limit = limits[flip_turn % 4];
    request->size = told[flip_turn / 2 % 7];
    request->words[2] = flip_turn % 3;
    request->newer[0] = flip_turn % 11 == 0 ? 1 : 0;
}

/* Whatever came out, the limit is one that was checked, and the size the one that was used: words
 * behind it are zero. */
static void judge(const struct request *copy, mm_status_t status)
{
    static const struct request none;

    switch (status) {
    case MM_OK:
        assert_true(copy->limit <= 100);
        assert_true(copy->size >= 16 && copy->size <= 56);
        assert_true(copy->size >= 32 || copy->words[2] == 0);
        assert_true(copy->size >= 17 || copy->words[1] == 0);
        break;
    case MM_ERR_PERMISSION_DENIED:
    case MM_ERR_UNSUPPORTED:
        assert_memory_equal(copy, &none, request_kind.size);
        break;
    default:
        assert_int_equal(status, MM_ERR_INVALID_SIZE);
        break;
    }
}

static void test_flips(void **state)
{
    struct mm_user user = lower_half(&mm_x86_64_user_ops);
    struct request copy;
    unsigned nr[MM_STATUS_COUNT] = {0};

    (void)state;
    use_smap(false);
    steps_arm();
    memset(machine.page, 0xff, PAGE);
    memset(machine.page + sizeof(copy) - 24, 0, 24);
    nr_bad = 0;
    for (unsigned i = 0; i < (MM_TEST_SANITIZED ? 100 : 250); i++) {
        mm_status_t status;

        flip_turn += i % 13;
        memset(&copy, 0, sizeof(copy));
        STEP_THROUGH(flip_the_request,
                     status = mm_user_sized_struct_in(&user, &request_kind, NULL, &copy,
                                                      mm_vaddr_of(machine.page)));
        judge(&copy, status);
        nr[status]++;
    }
    steps_disarm();
    /* All of it came. */
    assert_true(nr[MM_OK] > 5 && nr[MM_ERR_INVALID_SIZE] > 5);
    assert_true(nr[MM_ERR_PERMISSION_DENIED] > 5);
    assert_int_equal(nr[MM_ERR_PERMISSION_DENIED], nr_bad);
}

static atomic_bool stop;

static void *keep_flipping(void *unused)
{
    for (unsigned i = 0; !atomic_load(&stop); i++) {
        flip_the_request();
        if (i % 50 == 0) {
            (void)sched_yield();
        }
    }
    return unused;
}

/* The same with a thread: it changes the memory within an instruction's time, too. */
static void test_flips_by_a_thread(void **state)
{
    struct mm_user user = lower_half(&mm_x86_64_user_ops);
    struct request copy;
    unsigned nr[MM_STATUS_COUNT] = {0};
    pthread_t thread;

    (void)state;
    use_smap(false);
    atomic_store(&stop, false);
    memset(machine.page, 0xff, PAGE);
    memset(machine.page + sizeof(copy) - 24, 0, 24);
    assert_int_equal(pthread_create(&thread, NULL, keep_flipping, NULL), 0);
    /* Until each answer came often, or the thread plainly gets no processor. */
    for (unsigned i = 0; i < 20000000 && (nr[MM_OK] < 2000 || nr[MM_ERR_UNSUPPORTED] < 200 ||
                                          nr[MM_ERR_PERMISSION_DENIED] < 2000);
         i++) {
        mm_status_t status;

        memset(&copy, 0, sizeof(copy));
        status =
            mm_user_sized_struct_in(&user, &request_kind, NULL, &copy, mm_vaddr_of(machine.page));
        judge(&copy, status);
        nr[status]++;
    }
    atomic_store(&stop, true);
    assert_int_equal(pthread_join(thread, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_tails),
        cmocka_unit_test(test_faults),
        cmocka_unit_test(test_checks),
        cmocka_unit_test(test_sized),
        cmocka_unit_test(test_flips),
        cmocka_unit_test(test_flips_by_a_thread),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
