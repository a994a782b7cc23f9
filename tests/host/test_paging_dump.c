// SPDX-License-Identifier: MIT
/**
 * The printed layout, by its exact text.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "t_paging.h"

#include <stdio.h>

struct lines {
    unsigned nr;
    char text[24][161];
};

static struct lines lines;

static void take_line(void *ctx, const char *line, size_t len)
{
    (void)ctx;
    assert_true(lines.nr < 24 && len <= 160);
    memcpy(lines.text[lines.nr], line, len);
    lines.text[lines.nr++][len] = '\0';
}

static int setup(void **state)
{
    static const struct mm_platform_ops ops = {.panic = t_platform_panic, .log = take_line};
    struct t_paging *m = t_paging_new();

    t_paging_start(m);
    m->kernel.platform.ops = &ops;
    m->user.platform.ops = &ops;
    *state = m;
    return 0;
}

static int teardown(void **state)
{
    struct t_paging *m = *state;

    m->kernel.platform = t_platform();
    m->user.platform = t_platform();
    t_paging_delete(m);
    return 0;
}

static void dump(const struct mm_pagetable *pt, uint64_t start, uint64_t len, uint32_t flags)
{
    lines.nr = 0;
    assert_int_equal(mm_paging_dump(pt, t_range(start, len), flags), MM_OK);
}

/** The lines after the two of the head, and the totals. */
static void expect(const struct mm_pagetable *pt, const char *const *wanted, unsigned nr)
{
    char head[80];

    (void)snprintf(head, sizeof(head), "root 0x%llx, %s", (unsigned long long)pt->root.raw,
                   pt->is_user != 0 ? "a user's" : "the kernel's");
    assert_int_equal(lines.nr, nr + 2);
    assert_string_equal(lines.text[0], head);
    assert_string_equal(lines.text[1], "virtual                                size         "
                                       "leaf     type   physical");
    for (unsigned i = 0; i < nr; i++) {
        assert_string_equal(lines.text[2 + i], wanted[i]);
    }
}

#define EXPECT(pt, ...)                                                                            \
    do {                                                                                           \
        static const char *const wanted_[] = {__VA_ARGS__};                                        \
        expect((pt), wanted_, sizeof(wanted_) / sizeof(wanted_[0]));                               \
    } while (0)

#define UPPER UINT64_C(0xffff800000000000)
#define HALF  (UINT64_C(1) << 47)

static void test_nothing(void **state)
{
    struct t_paging *m = *state;

    dump(&m->user, 0, HALF, 0);
    EXPECT(&m->user, "0 B mapped by 0 leaves of 4 KiB, 0 of 2 MiB, 0 of 1 GiB; 1 table");
    dump(&m->user, 0, HALF, MM_PAGING_DUMP_HOLES);
    EXPECT(&m->user, "0x0000000000000000-0x00007fffffffffff  128 TiB      hole",
           "0 B mapped by 0 leaves of 4 KiB, 0 of 2 MiB, 0 of 1 GiB; 1 table");
    /* Holes of what was declared alone, and within what was asked for. */
    dump(&m->kernel, UPPER, HALF, MM_PAGING_DUMP_HOLES);
    EXPECT(&m->kernel, "0xffff800000000000-0xffff8001ffffffff  8 GiB        hole",
           "0xffffffff00000000-0xffffffffffffffff  4 GiB        hole",
           "0 B mapped by 0 leaves of 4 KiB, 0 of 2 MiB, 0 of 1 GiB; 3 tables");
    dump(&m->kernel, UPPER + 5, HALF - 6, MM_PAGING_DUMP_HOLES);
    EXPECT(&m->kernel, "0xffff800000000005-0xffff8001ffffffff  7.9 GiB      hole",
           "0xffffffff00000000-0xfffffffffffffffe  3.9 GiB      hole",
           "0 B mapped by 0 leaves of 4 KiB, 0 of 2 MiB, 0 of 1 GiB; 3 tables");
}

static void test_kernel(void **state)
{
    struct t_paging *m = *state;

    assert_int_equal(t_map(&m->kernel, T_KERNEL_LOW, P1G, 3 * P1G, MM_PROT_RW | MM_PROT_GLOBAL),
                     MM_OK);
    assert_int_equal(t_map(&m->kernel, T_KERNEL_LOW + 3 * P1G, 4 * P1G, 5 * P2M + 2 * P4K,
                           MM_PROT_RW | MM_PROT_GLOBAL),
                     MM_OK);
    assert_int_equal(t_map(&m->kernel, 0 - 3 * P4K, 0xfedff000, P4K, MM_PROT_RW), MM_OK);
    assert_int_equal(mm_paging_map(&m->kernel, t_range(0 - 2 * P4K, P4K), mm_paddr(0xfee00000),
                                   MM_PROT_RW, MM_MEMTYPE_UC, 0),
                     MM_OK);
    assert_int_equal(mm_paging_map(&m->kernel, t_range(0 - P4K, P4K), mm_paddr(0x1000), MM_PROT_RW,
                                   MM_MEMTYPE_UC, 0),
                     MM_OK);
    assert_int_equal(t_map(&m->kernel, T_KERNEL_TOP, P2M, P2M, MM_PROT_RX), MM_OK);
    assert_int_equal(t_map(&m->kernel, T_KERNEL_TOP + P2M, P2M, P2M, MM_PROT_NONE), MM_OK);
#define LOW_LINES                                                                                  \
    "0xffff800000000000-0xffff8000bfffffff  3 GiB        1G rw--g WB  -> "                         \
    "0x40000000-0xffffffff",                                                                       \
        "0xffff8000c0000000-0xffff8000c09fffff  10 MiB       2M rw--g WB  -> "                     \
        "0x100000000-0x1009fffff",                                                                 \
        "0xffff8000c0a00000-0xffff8000c0a01fff  8 KiB        4K rw--g WB  -> "                     \
        "0x100a00000-0x100a01fff"
#define TOP_LINES                                                                                  \
    "0xffffffff00000000-0xffffffff001fffff  2 MiB        2M r-x-- WB  -> 0x200000-0x3fffff",       \
        "0xffffffff00200000-0xffffffff003fffff  2 MiB        2M ----- WB  -> 0x200000-0x3fffff"
#define LAST_LINES                                                                                 \
    "0xffffffffffffd000-0xffffffffffffdfff  4 KiB        4K rw--- WB  -> 0xfedff000-0xfedfffff",   \
        "0xffffffffffffe000-0xffffffffffffffff  8 KiB        4K rw--- UC  -> 0xfee00000 ...",      \
        "3.0 GiB mapped by 5 leaves of 4 KiB, 7 of 2 MiB, 3 of 1 GiB; 8 tables"
    dump(&m->kernel, UPPER, HALF, 0);
    EXPECT(&m->kernel, LOW_LINES, TOP_LINES, LAST_LINES);
    dump(&m->kernel, UPPER, HALF, MM_PAGING_DUMP_HOLES);
    EXPECT(&m->kernel, LOW_LINES, "0xffff8000c0a02000-0xffff8001ffffffff  4.9 GiB      hole",
           TOP_LINES, "0xffffffff00400000-0xffffffffffffcfff  3.9 GiB      hole", LAST_LINES);
    /* A part; leaves are whole. */
    dump(&m->kernel, T_KERNEL_LOW + 2 * P1G + 77, P1G, MM_PAGING_DUMP_HOLES);
    EXPECT(&m->kernel,
           "0xffff800080000000-0xffff8000bfffffff  1 GiB        1G rw--g WB  -> "
           "0xc0000000-0xffffffff",
           "0xffff8000c0000000-0xffff8000c01fffff  2 MiB        2M rw--g WB  -> "
           "0x100000000-0x1001fffff",
           "1026 MiB mapped by 0 leaves of 4 KiB, 1 of 2 MiB, 1 of 1 GiB; 8 tables");
}

/* Neighbours are one line only if they differ in nothing; tables do not matter. */
static void test_neighbours(void **state)
{
    struct t_paging *m = *state;
    uint64_t at = P2M - P4K;

#define NEXT(len, prot, type)                                                                      \
    do {                                                                                           \
        assert_int_equal(                                                                          \
            mm_paging_map(&m->user, t_range(at, (len)), mm_paddr(at), (prot), (type), 0), MM_OK);  \
        at += (len);                                                                               \
    } while (0)
    NEXT(P4K, T_URW, MM_MEMTYPE_WB);
    NEXT(P2M, T_URW, MM_MEMTYPE_WB); /* another size */
    NEXT(P4K, T_URW, MM_MEMTYPE_WB); /* again */
    NEXT(P4K, T_URW, MM_MEMTYPE_WB); /* the same */
    NEXT(P4K, T_UR, MM_MEMTYPE_WB);  /* another right */
    NEXT(P4K, T_UR, MM_MEMTYPE_UC);  /* another type */
    at += P4K;
    NEXT(P4K, T_UR, MM_MEMTYPE_UC); /* a hole before it */
    at = 4 * P1G - 3 * P4K;
    NEXT(2 * P4K, T_URX, MM_MEMTYPE_WB);
    NEXT(P4K, T_URX, MM_MEMTYPE_WB);
    NEXT(5 * P4K, T_URX, MM_MEMTYPE_WB); /* in tables of their own from the root down */
#undef NEXT
    dump(&m->user, 0, HALF, 0);
    EXPECT(&m->user,
           "0x00000000001ff000-0x00000000001fffff  4 KiB        4K rw-u- WB  -> 0x1ff000-0x1fffff",
           "0x0000000000200000-0x00000000003fffff  2 MiB        2M rw-u- WB  -> 0x200000-0x3fffff",
           "0x0000000000400000-0x0000000000401fff  8 KiB        4K rw-u- WB  -> 0x400000-0x401fff",
           "0x0000000000402000-0x0000000000402fff  4 KiB        4K r--u- WB  -> 0x402000-0x402fff",
           "0x0000000000403000-0x0000000000403fff  4 KiB        4K r--u- UC  -> 0x403000-0x403fff",
           "0x0000000000405000-0x0000000000405fff  4 KiB        4K r--u- UC  -> 0x405000-0x405fff",
           "0x00000000ffffd000-0x0000000100004fff  32 KiB       4K r-xu- WB  -> "
           "0xffffd000-0x100004fff",
           "2104 KiB mapped by 14 leaves of 4 KiB, 1 of 2 MiB, 0 of 1 GiB; 9 tables");
}

/* Soft slots of one kind are one line, whatever their sizes and payloads. */
static void test_soft(void **state)
{
    struct t_paging *m = *state;
    struct mm_slot seen = mm_slot_empty();
    struct mm_slot soft = mm_slot_soft(3, 77);

    assert_int_equal(mm_paging_guard(&m->user, t_range(2 * P1G - P4K, P1G + P2M + 2 * P4K)), MM_OK);
    assert_int_equal(t_map(&m->user, 3 * P1G + P2M + P4K, P1G, 2 * P4K, T_URW), MM_OK);
    for (unsigned i = 3; i < 6; i++) {
        soft.soft_kind = i < 5 ? 3 : 9;
        soft.payload++;
        assert_int_equal(mm_paging_slot_cas(&m->user, mm_vaddr(3 * P1G + P2M + i * P4K), P4K, &seen,
                                            &soft, NULL),
                         MM_OK);
    }
    assert_int_equal(t_map(&m->user, 3 * P1G + P2M + 7 * P4K, P1G + 3 * P4K, P4K, T_URW), MM_OK);
#define BEFORE                                                                                     \
    "0x000000007ffff000-0x00000000c0200fff  1.0 GiB      guard",                                   \
        "0x00000000c0201000-0x00000000c0202fff  8 KiB        4K rw-u- WB  -> "                     \
        "0x40000000-0x40001fff",                                                                   \
        "0x00000000c0203000-0x00000000c0204fff  8 KiB        soft kind 3",                         \
        "0x00000000c0205000-0x00000000c0205fff  4 KiB        soft kind 9"
#define AFTER                                                                                      \
    "0x00000000c0207000-0x00000000c0207fff  4 KiB        4K rw-u- WB  -> "                         \
    "0x40003000-0x40003fff"
#define TOTALS "12 KiB mapped by 3 leaves of 4 KiB, 0 of 2 MiB, 0 of 1 GiB; 6 tables"
    dump(&m->user, 0, HALF, 0);
    EXPECT(&m->user, BEFORE, AFTER, TOTALS);
    /* They are no holes. */
    dump(&m->user, 0, HALF, MM_PAGING_DUMP_HOLES);
    EXPECT(&m->user, "0x0000000000000000-0x000000007fffefff  1.9 GiB      hole", BEFORE,
           "0x00000000c0206000-0x00000000c0206fff  4 KiB        hole", AFTER,
           "0x00000000c0208000-0x00007fffffffffff  127.9 TiB    hole", TOTALS);
    /* Slots are whole, like leaves. */
    dump(&m->user, 2 * P1G + 5, 1, MM_PAGING_DUMP_HOLES);
    EXPECT(&m->user, "0x0000000080000000-0x00000000bfffffff  1 GiB        guard",
           "0 B mapped by 0 leaves of 4 KiB, 0 of 2 MiB, 0 of 1 GiB; 6 tables");
}

static void test_bad_input(void **state)
{
    struct t_paging *m = *state;
    struct mm_pagetable none = {0};

    lines.nr = 0;
    assert_int_equal(mm_paging_dump(&m->user, t_range(0, P4K), 2), MM_ERR_INVALID_FLAGS);
    assert_int_equal(mm_paging_dump(&m->user, t_range(0, 0), 0), MM_ERR_INVALID_SIZE);
    assert_int_equal(mm_paging_dump(&m->user, t_range(HALF, P4K), 0), MM_ERR_INVALID_ADDRESS);
    assert_int_equal(mm_paging_dump(&m->user, t_range(0 - P4K, 2 * P4K), 0),
                     MM_ERR_INVALID_ADDRESS);
    assert_int_equal(mm_paging_dump(&none, t_range(0, P4K), 0), MM_ERR_NOT_INITIALIZED);
    assert_int_equal(mm_paging_dump(NULL, t_range(0, P4K), 0), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(lines.nr, 0); /* not even a head */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_kernel, setup, teardown),
        cmocka_unit_test_setup_teardown(test_neighbours, setup, teardown),
        cmocka_unit_test_setup_teardown(test_soft, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_input, setup, teardown),
    };

    return cmocka_run_group_tests_name("paging_dump", tests, NULL, NULL);
}
