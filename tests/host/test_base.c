// SPDX-License-Identifier: MIT
/**
 * Base, the public part: addresses, ranges, checked arithmetic, names. Each inline function at its
 * edges; where a question can be asked of small numbers, all of them are asked and the answer is
 * counted out. The internal part is in test_base_report.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <mm/addr.h>
#include <mm/config.h>
#include <mm/status.h>

#include <string.h>

#define TOP UINT64_MAX

static struct mm_prange prange(uint64_t start, uint64_t len)
{
    return mm_prange(mm_paddr(start), len);
}

static struct mm_vrange vrange(uint64_t start, uint64_t len)
{
    return mm_vrange(mm_vaddr(start), len);
}

/* --- addresses, frames and pages */

static void types_cost_nothing(void **state)
{
    (void)state;
    assert_int_equal(sizeof(mm_paddr_t), 8);
    assert_int_equal(sizeof(mm_vaddr_t), 8);
    assert_int_equal(sizeof(mm_pfn_t), 8);
    assert_int_equal(sizeof(mm_vpn_t), 8);
    assert_int_equal(sizeof(struct mm_prange), 16);
    assert_int_equal(sizeof(struct mm_vrange), 16);
    assert_int_equal(mm_paddr(TOP).raw, TOP);
    assert_int_equal(mm_vaddr(TOP).raw, TOP);
    assert_int_equal(mm_pfn(TOP).raw, TOP);
    assert_int_equal(mm_vpn(TOP).raw, TOP);
    assert_int_equal(prange(3, 4).start.raw, 3);
    assert_int_equal(prange(3, 4).len, 4);
    assert_int_equal(vrange(3, 4).start.raw, 3);
    assert_int_equal(vrange(3, 4).len, 4);
}

static void sizes(void **state)
{
    (void)state;
    assert_int_equal(MM_PAGE_SIZE, 4096);
    assert_int_equal(MM_PAGE_MASK, 4095);
    assert_int_equal(MM_SIZE_4K, 4096);
    assert_int_equal(MM_SIZE_2M, 2097152);
    assert_int_equal(MM_SIZE_1G, 1073741824);
    assert_int_equal(MM_SIZE_4K << MM_ORDER_4K, MM_SIZE_4K);
    assert_int_equal(MM_SIZE_4K << MM_ORDER_2M, MM_SIZE_2M);
    assert_int_equal(MM_SIZE_4K << MM_ORDER_1G, MM_SIZE_1G);
}

static void frames_and_pages_of_addresses(void **state)
{
    static const struct {
        uint64_t addr, number, offset;
    } cases[] = {{0, 0, 0},
                 {1, 0, 1},
                 {4095, 0, 4095},
                 {4096, 1, 0},
                 {UINT64_C(0x000fffffffffffff), UINT64_C(0xffffffffff), 4095},
                 {UINT64_C(0xffff800000000000), UINT64_C(0xffff800000000), 0},
                 {TOP, TOP >> 12, 4095}};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint64_t addr = cases[i].addr;

        assert_int_equal(mm_pfn_of(mm_paddr(addr)).raw, cases[i].number);
        assert_int_equal(mm_vpn_of(mm_vaddr(addr)).raw, cases[i].number);
        assert_int_equal(mm_paddr_offset(mm_paddr(addr)), cases[i].offset);
        assert_int_equal(mm_vaddr_offset(mm_vaddr(addr)), cases[i].offset);
        assert_int_equal(mm_pfn_addr(mm_pfn(cases[i].number)).raw, addr - cases[i].offset);
        assert_int_equal(mm_vpn_addr(mm_vpn(cases[i].number)).raw, addr - cases[i].offset);
    }
    assert_int_equal(mm_pfn_addr(mm_pfn(UINT64_C(1) << 52)).raw, 0);
    assert_int_equal(mm_vpn_addr(mm_vpn((UINT64_C(1) << 52) + 1)).raw, 4096);
}

static void pointers(void **state)
{
    int here = 0;
    void *out = &out;

    (void)state;
    assert_int_equal(mm_vaddr_of(&here).raw, (uintptr_t)&here);
    assert_int_equal(mm_vaddr_of(NULL).raw, 0);
    assert_int_equal(mm_vaddr_to_ptr(mm_vaddr_of(&here), &out), MM_OK);
    assert_ptr_equal(out, &here);
    assert_int_equal(mm_vaddr_to_ptr(mm_vaddr(UINTPTR_MAX), &out), MM_OK);
    assert_int_equal((uintptr_t)out, UINTPTR_MAX);
#if UINTPTR_MAX < UINT64_MAX
    assert_int_equal(mm_vaddr_to_ptr(mm_vaddr(TOP), &out), MM_ERR_INVALID_ADDRESS);
    assert_int_equal((uintptr_t)out, UINTPTR_MAX);
#endif
}

/* --- checked arithmetic */

static const uint64_t edges[] = {0,
                                 1,
                                 2,
                                 4095,
                                 4096,
                                 4097,
                                 UINT32_MAX,
                                 UINT64_C(1) << 32,
                                 (UINT64_C(1) << 47) - 1,
                                 UINT64_C(1) << 47,
                                 (UINT64_C(1) << 56) + 1,
                                 UINT64_C(1) << 63,
                                 (UINT64_C(1) << 63) + 1,
                                 TOP - 4095,
                                 TOP - 1,
                                 TOP};
#define NR_EDGES (sizeof(edges) / sizeof(edges[0]))

/* Against 128 bits. */
static void add_subtract_multiply(void **state)
{
    __extension__ typedef unsigned __int128 wide;

    (void)state;
    for (size_t i = 0; i < NR_EDGES; i++) {
        for (size_t j = 0; j < NR_EDGES; j++) {
            uint64_t a = edges[i];
            uint64_t b = edges[j];
            wide sum = (wide)a + b;
            wide product = (wide)a * b;
            uint64_t out = 77;

            assert_int_equal(mm_add(a, b, &out), sum <= TOP);
            assert_int_equal(out, sum <= TOP ? (uint64_t)sum : 77);
            out = 77;
            assert_int_equal(mm_mul(a, b, &out), product <= TOP);
            assert_int_equal(out, product <= TOP ? (uint64_t)product : 77);
            out = 77;
            assert_int_equal(mm_sub(a, b, &out), b <= a);
            assert_int_equal(out, b <= a ? a - b : 77);
        }
    }
}

static void alignment(void **state)
{
    uint64_t out = 77;

    (void)state;
    for (uint64_t align = 1; align <= 64; align *= 2) {
        for (uint64_t x = 0; x < 300; x++) {
            uint64_t down = x / align * align;

            assert_int_equal(mm_is_aligned(x, align), down == x);
            assert_int_equal(mm_align_down(x, align), down);
            assert_true(mm_align_up(x, align, &out));
            assert_int_equal(out, down == x ? x : down + align);
        }
    }
    for (unsigned bit = 0; bit < 64; bit++) {
        uint64_t align = UINT64_C(1) << bit;
        uint64_t top = 0 - align; /* the last multiple */

        assert_int_equal(mm_align_down(TOP, align), top);
        assert_true(mm_is_aligned(top, align));
        assert_true(mm_align_up(top, align, &out));
        assert_int_equal(out, top);
        if (bit > 0) {
            assert_false(mm_is_aligned(TOP, align));
            out = 77;
            assert_false(mm_align_up(top + 1, align, &out));
            assert_false(mm_align_up(TOP, align, &out));
            assert_int_equal(out, 77);
        }
    }
}

static void powers_of_two(void **state)
{
    (void)state;
    assert_false(mm_is_pow2(0));
    assert_false(mm_is_pow2(TOP));
    for (unsigned bit = 0; bit < 64; bit++) {
        assert_true(mm_is_pow2(UINT64_C(1) << bit));
        if (bit > 1) {
            assert_false(mm_is_pow2((UINT64_C(1) << bit) + 1));
            assert_false(mm_is_pow2((UINT64_C(1) << bit) - 1));
        }
    }
}

/* --- ranges */

static void ranges_that_fit(void **state)
{
    static const struct {
        uint64_t start, len;
        bool fits;
    } cases[] = {
        {0, 0, true},      {0, 1, true},    {0, TOP, true},           {1, TOP, true},
        {2, TOP, false},   {TOP, 0, true},  {TOP, 1, true},           {TOP, 2, false},
        {TOP, TOP, false}, {4096, 0, true}, {TOP - 4095, 4096, true}, {TOP - 4095, 4097, false}};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint64_t start = cases[i].start;
        uint64_t len = cases[i].len;

        assert_int_equal(mm_range_fits(start, len), cases[i].fits);
        assert_int_equal(mm_prange_valid(prange(start, len)), cases[i].fits);
        assert_int_equal(mm_vrange_valid(vrange(start, len)), cases[i].fits);
    }
    assert_int_equal(mm_prange_last(prange(1, TOP)).raw, TOP);
    assert_int_equal(mm_vrange_last(vrange(1, TOP)).raw, TOP);
    assert_int_equal(mm_prange_last(prange(TOP, 1)).raw, TOP);
    assert_int_equal(mm_prange_last(prange(0, 1)).raw, 0);
    assert_int_equal(mm_vrange_last(vrange(7, 3)).raw, 9);
}

/*
 * All ranges of an address space of 16 bytes, byte by byte; and the same at its upper end, where
 * the last range ends at 2^64.
 */
#define SMALL 12

static bool in(uint64_t start, uint64_t len, uint64_t byte)
{
    return byte >= start && byte < start + len;
}

static void check_pair(uint64_t base, uint64_t a, uint64_t a_len, uint64_t b, uint64_t b_len)
{
    bool share = false;
    bool covers = true;

    for (uint64_t byte = 0; byte < SMALL; byte++) {
        share = share || (in(a, a_len, byte) && in(b, b_len, byte));
        covers = covers && (!in(b, b_len, byte) || in(a, a_len, byte));
    }
    if (b_len == 0) {
        covers = b >= a && b <= a + a_len; /* an empty one may also stand at the very end */
    }
    a += base;
    b += base;
    assert_int_equal(mm_range_overlaps(a, a_len, b, b_len), share);
    assert_int_equal(mm_prange_overlaps(prange(a, a_len), prange(b, b_len)), share);
    assert_int_equal(mm_vrange_overlaps(vrange(a, a_len), vrange(b, b_len)), share);
    assert_int_equal(mm_range_covers(a, a_len, b, b_len), covers);
    assert_int_equal(mm_prange_covers(prange(a, a_len), prange(b, b_len)), covers);
    assert_int_equal(mm_vrange_covers(vrange(a, a_len), vrange(b, b_len)), covers);
}

static void overlaps_covers_contains(void **state)
{
    const uint64_t bases[] = {0, UINT64_C(1) << 63, TOP - SMALL + 1};

    (void)state;
    for (int i = 0; i < 3; i++) {
        for (uint64_t a = 0; a < SMALL; a++) {
            for (uint64_t a_len = 0; a_len <= SMALL - a; a_len++) {
                for (uint64_t b = 0; b < SMALL; b++) {
                    assert_int_equal(
                        mm_prange_contains(prange(bases[i] + a, a_len), mm_paddr(bases[i] + b)),
                        in(a, a_len, b));
                    assert_int_equal(
                        mm_vrange_contains(vrange(bases[i] + a, a_len), mm_vaddr(bases[i] + b)),
                        in(a, a_len, b));
                    for (uint64_t b_len = 0; b_len <= SMALL - b; b_len++) {
                        check_pair(bases[i], a, a_len, b, b_len);
                    }
                }
            }
        }
    }
    /* ranges longer than half of everything */
    assert_true(mm_range_overlaps(1, TOP, TOP, 1));
    assert_false(mm_range_overlaps(0, TOP, TOP, 1));
    assert_true(mm_range_covers(1, TOP, TOP, 1));
    assert_false(mm_range_covers(1, TOP, 0, TOP));
    assert_false(mm_range_covers(1, TOP, 0, 1));
    assert_false(mm_prange_contains(prange(1, TOP), mm_paddr(0)));
    assert_true(mm_prange_contains(prange(1, TOP), mm_paddr(TOP)));
}

/* --- canonical addresses */

static void canonical_addresses(void **state)
{
    (void)state;
    for (unsigned bits = 48; bits <= 57; bits += 9) {
        uint64_t low_end = UINT64_C(1) << (bits - 1);
        uint64_t high = 0 - low_end;

        assert_true(mm_vaddr_canonical(mm_vaddr(0), bits));
        assert_true(mm_vaddr_canonical(mm_vaddr(low_end - 1), bits));
        assert_false(mm_vaddr_canonical(mm_vaddr(low_end), bits));
        assert_false(mm_vaddr_canonical(mm_vaddr(UINT64_C(1) << 63), bits));
        assert_false(mm_vaddr_canonical(mm_vaddr(high - 1), bits));
        assert_true(mm_vaddr_canonical(mm_vaddr(high), bits));
        assert_true(mm_vaddr_canonical(mm_vaddr(TOP), bits));
        for (unsigned bit = bits - 1; bit < 64; bit++) {
            assert_false(mm_vaddr_canonical(mm_vaddr(UINT64_C(1) << bit), bits));
            assert_false(mm_vaddr_canonical(mm_vaddr(~(UINT64_C(1) << bit)), bits));
        }

        assert_true(mm_vrange_canonical(vrange(0, low_end), bits));
        assert_false(mm_vrange_canonical(vrange(0, low_end + 1), bits));
        assert_true(mm_vrange_canonical(vrange(high, low_end), bits));
        assert_false(mm_vrange_canonical(vrange(high - 1, 2), bits));
        assert_false(mm_vrange_canonical(vrange(low_end - 1, high - low_end + 2), bits));
        assert_false(
            mm_vrange_canonical(vrange(0, TOP), bits)); /* both ends are, the hole is not */
        assert_true(mm_vrange_canonical(vrange(low_end - 1, 0), bits));
        assert_false(mm_vrange_canonical(vrange(low_end, 0), bits));
        assert_true(mm_vrange_canonical(vrange(TOP, 1), bits));
    }
    assert_true(mm_vaddr_canonical(mm_vaddr(UINT64_C(1) << 63), 64));
    assert_true(mm_vaddr_canonical(mm_vaddr(TOP), 1));
    assert_false(mm_vaddr_canonical(mm_vaddr(1), 1));
    /* what 57 bits allow, 48 do not */
    assert_true(mm_vaddr_canonical(mm_vaddr(UINT64_C(1) << 50), 57));
    assert_false(mm_vaddr_canonical(mm_vaddr(UINT64_C(1) << 50), 48));
}

/* --- names and numbers */

static void protections(void **state)
{
    (void)state;
    assert_int_equal(MM_PROT_NONE, 0);
    assert_int_equal(MM_PROT_READ | MM_PROT_WRITE | MM_PROT_EXEC | MM_PROT_USER | MM_PROT_GLOBAL,
                     MM_PROT_ALL);
    assert_int_equal(MM_PROT_READ + MM_PROT_WRITE + MM_PROT_EXEC + MM_PROT_USER + MM_PROT_GLOBAL,
                     MM_PROT_ALL); /* each its own bit */
    assert_int_equal(MM_PROT_RW, MM_PROT_READ | MM_PROT_WRITE);
    assert_int_equal(MM_PROT_RX, MM_PROT_READ | MM_PROT_EXEC);
}

static void memory_types_have_names(void **state)
{
    static const char *const names[] = {"WB", "WT", "WC", "UC-", "UC", "WP"};

    (void)state;
    assert_int_equal(sizeof(names) / sizeof(names[0]), MM_MEMTYPE_COUNT);
    for (int i = 0; i < MM_MEMTYPE_COUNT; i++) {
        assert_string_equal(mm_memtype_str((mm_memtype_t)i), names[i]);
    }
    assert_int_equal(MM_MEMTYPE_WP, 5);
    assert_string_equal(mm_memtype_str((mm_memtype_t)MM_MEMTYPE_COUNT), "?");
    assert_string_equal(mm_memtype_str((mm_memtype_t)-1), "?");
}

static void statuses_have_names(void **state)
{
    (void)state;
    assert_int_equal(MM_OK, 0);
    assert_int_equal(MM_ERR_CORRUPTED, MM_STATUS_COUNT - 1);
    for (int i = 0; i < MM_STATUS_COUNT; i++) {
        const char *name = mm_status_str((mm_status_t)i);

        assert_int_equal(strncmp(name, i == 0 ? "MM_OK" : "MM_ERR_", i == 0 ? 6 : 7), 0);
        assert_string_not_equal(name, "MM_ERR_?");
        for (int j = 0; j < i; j++) {
            assert_string_not_equal(name, mm_status_str((mm_status_t)j));
        }
    }
#define NAMED(status) assert_string_equal(mm_status_str(status), #status)
    NAMED(MM_OK);
    NAMED(MM_ERR_NO_MEMORY);
    NAMED(MM_ERR_INVALID_ARGUMENT);
    NAMED(MM_ERR_INVALID_ADDRESS);
    NAMED(MM_ERR_INVALID_SIZE);
    NAMED(MM_ERR_INVALID_FLAGS);
    NAMED(MM_ERR_NOT_ALIGNED);
    NAMED(MM_ERR_ALREADY_MAPPED);
    NAMED(MM_ERR_NOT_MAPPED);
    NAMED(MM_ERR_REGION_NOT_FOUND);
    NAMED(MM_ERR_PERMISSION_DENIED);
    NAMED(MM_ERR_ALREADY_INITIALIZED);
    NAMED(MM_ERR_NOT_INITIALIZED);
    NAMED(MM_ERR_HUGE_PAGE);
    NAMED(MM_ERR_NODE_NOT_FOUND);
    NAMED(MM_ERR_LIMIT);
    NAMED(MM_ERR_FAULT);
    NAMED(MM_ERR_IO);
    NAMED(MM_ERR_BUSY);
    NAMED(MM_ERR_UNSUPPORTED);
    NAMED(MM_ERR_CORRUPTED);
#undef NAMED
    assert_string_equal(mm_status_str((mm_status_t)MM_STATUS_COUNT), "MM_ERR_?");
    assert_string_equal(mm_status_str((mm_status_t)-1), "MM_ERR_?");
}

static void the_version(void **state)
{
    (void)state;
    assert_int_equal(mm_version(), MM_VERSION);
    assert_true(mm_config_signature() == MM_CONFIG_SIGNATURE);
    assert_int_equal(MM_VERSION,
                     10000 * MM_VERSION_MAJOR + 100 * MM_VERSION_MINOR + MM_VERSION_PATCH);
    assert_true(MM_VERSION_MINOR < 100 && MM_VERSION_PATCH < 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(types_cost_nothing),
        cmocka_unit_test(sizes),
        cmocka_unit_test(frames_and_pages_of_addresses),
        cmocka_unit_test(pointers),
        cmocka_unit_test(add_subtract_multiply),
        cmocka_unit_test(alignment),
        cmocka_unit_test(powers_of_two),
        cmocka_unit_test(ranges_that_fit),
        cmocka_unit_test(overlaps_covers_contains),
        cmocka_unit_test(canonical_addresses),
        cmocka_unit_test(protections),
        cmocka_unit_test(memory_types_have_names),
        cmocka_unit_test(statuses_have_names),
        cmocka_unit_test(the_version),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
