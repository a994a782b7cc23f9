// SPDX-License-Identifier: MIT
/**
 * What user copy refuses before it touches anything: with ops that count, and do nothing.
 */
#include <mm/user.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static unsigned nr_calls;

static uint64_t count_in(void *to, uint64_t from, uint64_t len)
{
    (void)to, (void)from, (void)len;
    nr_calls++;
    return 0;
}

static uint64_t count_out(uint64_t to, const void *from, uint64_t len)
{
    (void)to, (void)from, (void)len;
    nr_calls++;
    return 0;
}

static uint64_t count_clear(uint64_t to, uint64_t len)
{
    (void)to, (void)len;
    nr_calls++;
    return 0;
}

static uint64_t count_string(char *to, uint64_t from, uint64_t len)
{
    (void)to, (void)from, (void)len;
    nr_calls++;
    return 0;
}

static mm_status_t count_get(void *to, uint64_t from)
{
    (void)to, (void)from;
    nr_calls++;
    return MM_OK;
}

static mm_status_t count_get_4(void *to, uint64_t from)
{
    (void)from;
    memset(to, 0, 4);
    nr_calls++;
    return MM_OK;
}

static mm_status_t count_put(uint64_t to, const void *from)
{
    (void)to, (void)from;
    nr_calls++;
    return MM_OK;
}

static mm_status_t count_cmpxchg(uint64_t at, uint64_t expected, uint64_t desired, void *found)
{
    (void)at, (void)expected, (void)desired, (void)found;
    nr_calls++;
    return MM_OK;
}

static const struct mm_user_ops counting = {
    .copy_in = count_in,
    .copy_out = count_out,
    .clear = count_clear,
    .string_in = count_string,
    .get = {count_get, count_get, count_get_4, count_get},
    .put = {count_put, count_put, count_put, count_put},
    .cmpxchg = {count_cmpxchg, count_cmpxchg},
};

static const uint64_t awkward[] = {0,
                                   1,
                                   4095,
                                   4096,
                                   4097,
                                   (UINT64_C(1) << 46) + 5,
                                   (UINT64_C(1) << 47) - 8,
                                   (UINT64_C(1) << 47) - 4,
                                   (UINT64_C(1) << 47) - 1,
                                   UINT64_C(1) << 47,
                                   (UINT64_C(1) << 47) + 1,
                                   (UINT64_C(1) << 56) - 1,
                                   UINT64_C(1) << 56,
                                   (UINT64_C(1) << 56) + 1,
                                   UINT64_C(0x7fffffffffffffff),
                                   UINT64_C(1) << 63,
                                   UINT64_C(0xffff800000000000),
                                   UINT64_C(0xfffffffffffff000),
                                   UINT64_MAX - 7,
                                   UINT64_MAX - 1,
                                   UINT64_MAX};

#define NR_AWKWARD (sizeof(awkward) / sizeof(awkward[0]))

static struct mm_user lower_half(uint64_t low)
{
    struct mm_user user;
    struct mm_vrange range = mm_vrange(mm_vaddr(low), (UINT64_C(1) << 47) - low);

    assert_int_equal(mm_user_init(&user, &counting, range), MM_OK);
    return user;
}

static bool is_inside(uint64_t low, uint64_t at, uint64_t len)
{
    return at >= low && (__uint128_t)at + len <= (__uint128_t)1 << 47;
}

/* The cross product of awkward addresses and lengths; arithmetic in 128 bits says what is right. */
static void test_ranges(void **state)
{
    char byte = 0;
    uint64_t len;

    (void)state;
    for (uint64_t low = 0; low <= 8192; low += 8192) {
        struct mm_user user = lower_half(low);

        for (size_t i = 0; i < NR_AWKWARD * NR_AWKWARD; i++) {
            uint64_t at = awkward[i / NR_AWKWARD];
            uint64_t n = awkward[i % NR_AWKWARD];
            bool inside = is_inside(low, at, n);
            mm_status_t want = n == 0 || inside ? MM_OK : MM_ERR_INVALID_ADDRESS;
            uint64_t left = want == MM_OK ? 0 : n;
            uint64_t r = 5;

            nr_calls = 0;
            assert_int_equal(mm_user_copy_in(&user, &byte, mm_vaddr(at), n, &r), want);
            assert_int_equal(r, left);
            r = 5;
            assert_int_equal(mm_user_copy_out(&user, mm_vaddr(at), &byte, n, &r), want);
            assert_int_equal(r, left);
            r = 5;
            assert_int_equal(mm_user_clear(&user, mm_vaddr(at), n, &r), want);
            assert_int_equal(r, left);
            assert_int_equal(nr_calls, n != 0 && inside ? 3 : 0);
            len = 9;
            want = n == 0                                ? MM_ERR_INVALID_SIZE
                   : at >= low && at < UINT64_C(1) << 47 ? MM_OK
                                                         : MM_ERR_INVALID_ADDRESS;
            assert_int_equal(mm_user_string_in(&user, &byte, mm_vaddr(at), n, &len), want);
            assert_int_equal(len, want == MM_OK ? 0 : 9);
        }
    }
}

/* Words: each address with each size, good and bad. */
static void check_words(uint64_t low, uint64_t at, uint64_t size)
{
    struct mm_user user = lower_half(low);
    bool is_word = size == 1 || size == 2 || size == 4 || size == 8;
    bool inside = is_inside(low, at, size);
    mm_status_t want = !is_word ? MM_ERR_INVALID_SIZE : !inside ? MM_ERR_INVALID_ADDRESS : MM_OK;
    uint64_t word = 7;
    uint64_t found = 7;
    uint32_t found4 = 7;

    nr_calls = 0;
    assert_int_equal(mm_user_get(&user, &word, mm_vaddr(at), size), want);
    assert_int_equal(word, want == MM_OK && size == 4 ? 0 : 7);
    assert_int_equal(mm_user_put(&user, mm_vaddr(at), &word, size), want);
    assert_int_equal(nr_calls, want == MM_OK ? 2 : 0);
    if (size != 4 && size != 8) {
        return;
    }
    nr_calls = 0;
    want = inside && at % size != 0 ? MM_ERR_NOT_ALIGNED : want;
    if (size == 4) {
        assert_int_equal(mm_user_cmpxchg_u32(&user, mm_vaddr(at), 1, 2, &found4), want);
    } else {
        assert_int_equal(mm_user_cmpxchg_u64(&user, mm_vaddr(at), 1, 2, &found), want);
    }
    assert_int_equal(nr_calls, want == MM_OK ? 1 : 0);
    assert_true(found == 7 && found4 == 7); /* these ops find nothing */
}

static void test_word_ranges(void **state)
{
    static const uint64_t sizes[] = {0,
                                     1,
                                     2,
                                     3,
                                     4,
                                     5,
                                     6,
                                     7,
                                     8,
                                     9,
                                     16,
                                     4096,
                                     UINT64_MAX,
                                     UINT64_C(1) << 32,
                                     (UINT64_C(1) << 32) + 4};

    (void)state;
    for (uint64_t low = 0; low <= 8192; low += 8192) {
        for (size_t i = 0; i < NR_AWKWARD; i++) {
            for (size_t k = 0; k < sizeof(sizes) / sizeof(sizes[0]); k++) {
                check_words(low, awkward[i], sizes[k]);
            }
        }
    }
}

/* A structure is refused as a whole, or fetched. */
static void test_struct_ranges(void **state)
{
    static const struct mm_user_struct kind = {.size = 64, .least = 16, .size_at = 12};
    uint8_t to[64];

    (void)state;
    for (uint64_t low = 0; low <= 8192; low += 8192) {
        struct mm_user user = lower_half(low);

        for (size_t i = 0; i < NR_AWKWARD * NR_AWKWARD; i++) {
            uint64_t at = awkward[i / NR_AWKWARD];
            uint64_t n = awkward[i % NR_AWKWARD];
            mm_status_t want = n < 16 || n > 4096       ? MM_ERR_INVALID_SIZE
                               : !is_inside(low, at, n) ? MM_ERR_INVALID_ADDRESS
                                                        : MM_OK;

            nr_calls = 0;
            memset(to, 9, sizeof(to));
            assert_int_equal(mm_user_struct_in(&user, &kind, NULL, to, mm_vaddr(at), n), want);
            assert_int_equal(nr_calls != 0, want == MM_OK);
            assert_int_equal(to[63], want == MM_OK && n < 64 ? 0 : 9);
            /* Of one that says its size 0, not even that may be looked at outside. */
            nr_calls = 0;
            want = is_inside(low, at, 16) ? MM_ERR_INVALID_SIZE : MM_ERR_INVALID_ADDRESS;
            assert_int_equal(mm_user_sized_struct_in(&user, &kind, NULL, to, mm_vaddr(at)), want);
            assert_int_equal(nr_calls, want == MM_ERR_INVALID_SIZE ? 1 : 0);
        }
    }
}

/* What a kernel says of a structure must hold together. */
static void test_struct_kinds(void **state)
{
    static const struct {
        struct mm_user_struct kind;
        bool good;
        bool good_sized;
    } cases[] = {
        {{.size = 0, .least = 0}, false, false},
        {{.size = 8, .least = 0}, false, false},
        {{.size = 8, .least = 9}, false, false},
        {{.size = 4097, .least = 9}, false, false},
        {{.size = UINT64_MAX, .least = 9}, false, false},
        {{.size = 4096, .least = 4096, .size_at = 4092}, true, true},
        {{.size = 8, .least = 3}, true, false},
        {{.size = 8, .least = 4}, true, true},
        {{.size = 8, .least = 4, .size_at = 1}, true, false},
        {{.size = 8, .least = 7, .size_at = 4}, true, false},
        {{.size = 8, .least = 8, .size_at = 4}, true, true},
        {{.size = 8, .least = 8, .size_at = UINT64_MAX}, true, false},
        {{.size = 8, .least = 8, .size_at = UINT64_MAX - 3}, true, false},
    };
    struct mm_user user = lower_half(0);
    uint8_t to[4096];

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct mm_user_struct *kind = &cases[i].kind;

        nr_calls = 0;
        assert_int_equal(
            mm_user_struct_in(&user, kind, NULL, to, mm_vaddr(0), cases[i].good ? kind->least : 8),
            cases[i].good ? MM_OK : MM_ERR_INVALID_ARGUMENT);
        assert_int_equal(nr_calls, cases[i].good ? 1 : 0);
        nr_calls = 0;
        /* The ops that count find the size 0. */
        assert_int_equal(mm_user_sized_struct_in(&user, kind, NULL, to, mm_vaddr(0)),
                         cases[i].good_sized ? MM_ERR_INVALID_SIZE : MM_ERR_INVALID_ARGUMENT);
        assert_int_equal(nr_calls, cases[i].good_sized ? 1 : 0);
    }
}

static void test_init(void **state)
{
    struct mm_user user = {0};
    struct mm_user_ops partial;
    struct mm_vrange whole = mm_vrange(mm_vaddr(0), UINT64_C(1) << 63);

    (void)state;
    assert_int_equal(mm_user_init(NULL, &counting, whole), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_user_init(&user, NULL, whole), MM_ERR_INVALID_ARGUMENT);
    /* Each op in its turn: the table is nothing but pointers. */
    for (size_t i = 0; i < sizeof(partial) / sizeof(void *); i++) {
        partial = counting;
        memset((char *)&partial + i * sizeof(void *), 0, sizeof(void *));
        assert_int_equal(mm_user_init(&user, &partial, whole), MM_ERR_INVALID_ARGUMENT);
    }
    assert_int_equal(mm_user_init(&user, &counting, mm_vrange(mm_vaddr(4096), 0)),
                     MM_ERR_INVALID_SIZE);
    assert_int_equal(mm_user_init(&user, &counting, mm_vrange(mm_vaddr(1), 4096)),
                     MM_ERR_NOT_ALIGNED);
    assert_int_equal(mm_user_init(&user, &counting, mm_vrange(mm_vaddr(0), 4097)),
                     MM_ERR_NOT_ALIGNED);
    assert_int_equal(mm_user_init(&user, &counting, mm_vrange(mm_vaddr(4096), UINT64_C(1) << 63)),
                     MM_ERR_INVALID_ADDRESS);
    assert_int_equal(
        mm_user_init(&user, &counting, mm_vrange(mm_vaddr(UINT64_C(0xfffffffffffff000)), 8192)),
        MM_ERR_INVALID_ADDRESS);
    assert_null(user.ops);
    assert_int_equal(mm_user_init(&user, &counting, whole), MM_OK);
    assert_ptr_equal(user.ops, &counting);
}

static void test_null(void **state)
{
    struct mm_user user = lower_half(0);
    struct mm_user none = {0};
    static const struct mm_user_struct kind = {.size = 8, .least = 8};
    uint64_t r = 3;
    uint32_t r4 = 3;
    char c = 0;

    (void)state;
    nr_calls = 0;
    assert_int_equal(mm_user_copy_in(NULL, &c, mm_vaddr(0), 1, &r), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_user_copy_in(&none, &c, mm_vaddr(0), 1, &r), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_user_copy_in(&user, NULL, mm_vaddr(0), 1, &r), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_user_copy_out(NULL, mm_vaddr(0), &c, 1, &r), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_user_copy_out(&user, mm_vaddr(0), NULL, 1, &r), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_user_clear(NULL, mm_vaddr(0), 1, &r), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_user_string_in(NULL, &c, mm_vaddr(0), 1, &r), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_user_string_in(&user, NULL, mm_vaddr(0), 1, &r), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_user_string_in(&user, &c, mm_vaddr(0), 1, NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_user_get(NULL, &r, mm_vaddr(0), 8), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_user_get(&none, &r, mm_vaddr(0), 8), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_user_get(&user, NULL, mm_vaddr(0), 8), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_user_put(&none, mm_vaddr(0), &r, 8), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_user_put(&user, mm_vaddr(0), NULL, 8), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_user_cmpxchg_u32(&none, mm_vaddr(0), 0, 0, &r4), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_user_cmpxchg_u32(&user, mm_vaddr(0), 0, 0, NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_user_cmpxchg_u64(NULL, mm_vaddr(0), 0, 0, &r), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_user_cmpxchg_u64(&user, mm_vaddr(0), 0, 0, NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_user_struct_in(&none, &kind, NULL, &r, mm_vaddr(0), 8),
                     MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_user_struct_in(&user, NULL, NULL, &r, mm_vaddr(0), 8),
                     MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_user_struct_in(&user, &kind, NULL, NULL, mm_vaddr(0), 8),
                     MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_user_sized_struct_in(&none, &kind, NULL, &r, mm_vaddr(0)),
                     MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_user_sized_struct_in(&user, NULL, NULL, &r, mm_vaddr(0)),
                     MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_user_sized_struct_in(&user, &kind, NULL, NULL, mm_vaddr(0)),
                     MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(r, 3);
    assert_int_equal(r4, 3);
    assert_int_equal(nr_calls, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ranges),        cmocka_unit_test(test_word_ranges),
        cmocka_unit_test(test_struct_ranges), cmocka_unit_test(test_struct_kinds),
        cmocka_unit_test(test_init),          cmocka_unit_test(test_null),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
