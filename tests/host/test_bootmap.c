// SPDX-License-Identifier: MIT
/**
 * The boot map, call by call: what each does and each status that it documents. Random operations
 * and firmware's maps are in test_bootmap_random.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <mm/bootmap.h>
#include <mm/physmap.h>

#include "prng.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CAPACITY   32
#define EVERYWHERE mm_prange(mm_paddr(0), UINT64_MAX)

struct fixture {
    struct mm_bootmap map;
    struct mm_boot_entry entries[CAPACITY];
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    *state = f;
    return f == NULL ? -1 : (int)mm_bootmap_init(&f->map, f->entries, CAPACITY);
}

static int tear_down(void **state)
{
    free(*state);
    return 0;
}

static struct mm_prange range(uint64_t start, uint64_t len)
{
    return mm_prange(mm_paddr(start), len);
}

static void add(struct mm_bootmap *map, uint64_t start, uint64_t len, enum mm_boot_kind kind)
{
    assert_int_equal(mm_bootmap_add(map, range(start, len), kind), MM_OK);
}

static void assert_range(struct mm_prange r, uint64_t start, uint64_t len)
{
    assert_int_equal(r.start.raw, start);
    assert_int_equal(r.len, len);
}

static void assert_entry(const struct mm_bootmap *map, uint32_t i, uint64_t start, uint64_t len,
                         enum mm_boot_kind kind)
{
    assert_true(i < map->nr);
    assert_range(map->entries[i].range, start, len);
    assert_int_equal(map->entries[i].kind, kind);
    assert_int_equal(map->entries[i].zero, 0);
}

static void normalize(struct mm_bootmap *map, uint32_t nr)
{
    assert_int_equal(mm_bootmap_normalize(map), MM_OK);
    assert_int_equal(map->nr, nr);
    assert_int_equal(map->normalized, 1);
}

/* --- init */

static void init_refuses(void **state)
{
    struct mm_boot_entry entry;
    struct mm_bootmap map = {0};
    struct mm_bootmap before = map;

    (void)state;
    assert_int_equal(mm_bootmap_init(NULL, &entry, 1), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_bootmap_init(&map, NULL, 1), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_bootmap_init(&map, &entry, 0), MM_ERR_INVALID_SIZE);
    assert_int_equal(mm_bootmap_init(&map, &entry, (UINT32_C(1) << 31) + 1), MM_ERR_INVALID_SIZE);
    assert_memory_equal(&map, &before, sizeof(map));
    assert_int_equal(mm_bootmap_init(&map, &entry, UINT32_C(1) << 31), MM_OK);
    before = map;
    assert_int_equal(mm_bootmap_init(&map, &entry, 1), MM_ERR_ALREADY_INITIALIZED);
    assert_memory_equal(&map, &before, sizeof(map));
}

static void calls_refuse_a_map_that_is_none(void **state)
{
    struct mm_bootmap none = {0};
    struct mm_bootmap zero = {0};
    struct mm_physmap physmap = mm_physmap_direct(0);
    struct mm_prange out;
    void *base;
    uint64_t len;

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct mm_bootmap *map = i == 0 ? NULL : &none;
        mm_status_t expected = i == 0 ? MM_ERR_INVALID_ARGUMENT : MM_ERR_NOT_INITIALIZED;

        assert_int_equal(mm_bootmap_add(map, range(0, 1), MM_BOOT_USABLE), expected);
        assert_int_equal(mm_bootmap_normalize(map), expected);
        assert_int_equal(mm_bootmap_next(map, MM_BOOT_USABLE, mm_paddr(0), &out), expected);
        assert_int_equal(mm_bootmap_next_frames(map, 1, 0, mm_paddr(0), &out), expected);
        assert_int_equal(mm_bootmap_largest(map, EVERYWHERE, &out), expected);
        assert_int_equal(mm_bootmap_largest_mapped(map, &physmap, EVERYWHERE, &base, &len),
                         expected);
        assert_int_equal(mm_bootmap_take(map, 1, 4096, EVERYWHERE, &out), expected);
        assert_int_equal(mm_bootmap_give(map, range(0, 0x1000)), expected);
        assert_int_equal(mm_bootmap_reclaim(map, MM_BOOT_BOOTLOADER), expected);
        assert_int_equal(mm_bootmap_usable_bytes(map), 0);
        assert_int_equal(mm_bootmap_room(map), 0);
    }
    assert_memory_equal(&none, &zero, sizeof(none));
}

/* --- add */

static void add_refuses(void **state)
{
    struct fixture *f = *state;
    struct fixture before;

    add(&f->map, 0x1000, 0x1000, MM_BOOT_USABLE);
    before = *f;
    assert_int_equal(mm_bootmap_add(&f->map, range(0, 1), (enum mm_boot_kind)13),
                     MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_bootmap_add(&f->map, range(0, 1), (enum mm_boot_kind) - 1),
                     MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_bootmap_add(&f->map, range(2, UINT64_MAX), MM_BOOT_USABLE),
                     MM_ERR_INVALID_SIZE);
    assert_int_equal(mm_bootmap_add(&f->map, range(UINT64_MAX, 2), MM_BOOT_RESERVED),
                     MM_ERR_INVALID_SIZE);
    assert_memory_equal(f, &before, sizeof(*f));
}

static void adding_nothing_does_nothing(void **state)
{
    struct fixture *f = *state;
    struct fixture before = *f;

    add(&f->map, 0, 0, MM_BOOT_USABLE);
    add(&f->map, UINT64_MAX, 0, MM_BOOT_USABLE);
    assert_memory_equal(f, &before, sizeof(*f));
}

/* The worst case for the array: ranges apart, and one over them all that shows in every hole. It is
 * added first (shape 0), last (1), or not at all (2). */
static void an_array_takes_what_its_capacity_says(void **state)
{
    (void)state;
    for (uint32_t n = 1; n <= 40; n++) {
        for (uint32_t shape = 0; shape < 3; shape++) {
            struct mm_boot_entry entries[MM_BOOTMAP_CAPACITY(40) + 1];
            struct mm_bootmap map = {0};
            uint32_t capacity = MM_BOOTMAP_CAPACITY(n);

            memset(entries, 0x5a, sizeof(entries));
            assert_int_equal(mm_bootmap_init(&map, entries, capacity), MM_OK);
            for (uint32_t i = 0; i < n; i++) {
                assert_int_equal(mm_bootmap_room(&map), n - i);
                if ((shape == 0 && i == 0) || (shape == 1 && i == n - 1)) {
                    add(&map, 0, 1000, MM_BOOT_USABLE);
                } else {
                    add(&map, 1 + 10 * (uint64_t)i, 5, MM_BOOT_RESERVED);
                }
            }
            assert_int_equal(mm_bootmap_room(&map), 0);
            assert_int_equal(mm_bootmap_add(&map, range(1, 1), MM_BOOT_BAD), MM_ERR_LIMIT);
            normalize(&map, shape < 2 ? 2 * n - 1 : n);
            assert_int_equal(entries[capacity].kind, 0x5a5a5a5a);
        }
    }
}

/* n ranges of one kind, then one over all of them: every hole becomes an entry. */
static void holes_become_entries(void **state)
{
    struct mm_boot_entry entries[MM_BOOTMAP_CAPACITY(9)];
    struct mm_bootmap map = {0};

    (void)state;
    assert_int_equal(mm_bootmap_init(&map, entries, MM_BOOTMAP_CAPACITY(9)), MM_OK);
    for (uint64_t i = 0; i < 8; i++) {
        add(&map, 0x1000 + 0x2000 * i, 0x1000, MM_BOOT_RESERVED);
    }
    normalize(&map, 8);
    assert_int_equal(mm_bootmap_room(&map), 1);
    add(&map, 0, 0x20000, MM_BOOT_USABLE);
    normalize(&map, 17);
    assert_int_equal(mm_bootmap_room(&map), 0);
    assert_int_equal(mm_bootmap_usable_bytes(&map), 0x20000 - 0x8000);
}

static void normalising_makes_room(void **state)
{
    struct fixture *f = *state;

    for (int i = 0; i < CAPACITY / 2; i++) {
        add(&f->map, 0x1000, 0x1000, MM_BOOT_USABLE);
    }
    assert_int_equal(mm_bootmap_add(&f->map, range(0, 1), MM_BOOT_USABLE), MM_ERR_LIMIT);
    normalize(&f->map, 1);
    assert_int_equal(mm_bootmap_room(&f->map), CAPACITY / 2 - 1);
    add(&f->map, 0, 1, MM_BOOT_USABLE);
}

/* --- normalise */

static void an_empty_map_stays_empty(void **state)
{
    struct fixture *f = *state;
    struct mm_prange out;

    normalize(&f->map, 0);
    assert_int_equal(mm_bootmap_next(&f->map, MM_BOOT_USABLE, mm_paddr(0), &out),
                     MM_ERR_REGION_NOT_FOUND);
    assert_int_equal(mm_bootmap_usable_bytes(&f->map), 0);
}

static void reserved_inside_usable(void **state)
{
    struct fixture *f = *state;

    add(&f->map, 0x3000, 0x1000, MM_BOOT_RESERVED);
    add(&f->map, 0x1000, 0x9000, MM_BOOT_USABLE);
    normalize(&f->map, 3);
    assert_entry(&f->map, 0, 0x1000, 0x2000, MM_BOOT_USABLE);
    assert_entry(&f->map, 1, 0x3000, 0x1000, MM_BOOT_RESERVED);
    assert_entry(&f->map, 2, 0x4000, 0x6000, MM_BOOT_USABLE);
    normalize(&f->map, 3);
}

/* Every pair of kinds, either order, every way in which two ranges can lie. */
static void the_higher_kind_wins(void **state)
{
    struct fixture *f = *state;

    for (unsigned a = 0; a < MM_BOOT_KIND_COUNT; a++) {
        for (unsigned b = 0; b < MM_BOOT_KIND_COUNT; b++) {
            struct mm_bootmap map = {0};
            unsigned high = a > b ? a : b;

            assert_int_equal(mm_bootmap_init(&map, f->entries, CAPACITY), MM_OK);
            add(&map, 10, 10, (enum mm_boot_kind)a);
            add(&map, 15, 10, (enum mm_boot_kind)b);
            if (a == b) {
                normalize(&map, 1);
                assert_entry(&map, 0, 10, 15, (enum mm_boot_kind)a);
                continue;
            }
            normalize(&map, 2);
            assert_entry(&map, 0, 10, high == a ? 10 : 5, (enum mm_boot_kind)a);
            assert_entry(&map, 1, high == a ? 20 : 15, high == a ? 5 : 10, (enum mm_boot_kind)b);
        }
    }
}

/* A long entry of a lower kind comes to light again where a higher one ends. */
static void lower_kinds_come_back(void **state)
{
    struct fixture *f = *state;

    add(&f->map, 0, 100, MM_BOOT_USABLE);
    add(&f->map, 10, 80, MM_BOOT_ACPI_RECLAIM);
    add(&f->map, 20, 60, MM_BOOT_BAD);
    add(&f->map, 30, 10, MM_BOOT_RESERVED);
    normalize(&f->map, 5);
    assert_entry(&f->map, 0, 0, 10, MM_BOOT_USABLE);
    assert_entry(&f->map, 1, 10, 10, MM_BOOT_ACPI_RECLAIM);
    assert_entry(&f->map, 2, 20, 60, MM_BOOT_BAD);
    assert_entry(&f->map, 3, 80, 10, MM_BOOT_ACPI_RECLAIM);
    assert_entry(&f->map, 4, 90, 10, MM_BOOT_USABLE);
}

static void ranges_may_end_at_the_top(void **state)
{
    struct fixture *f = *state;

    add(&f->map, UINT64_MAX, 1, MM_BOOT_RESERVED);
    add(&f->map, UINT64_MAX - 0xfff, 0x1000, MM_BOOT_USABLE);
    add(&f->map, UINT64_MAX - 0x1fff, 0x1000, MM_BOOT_USABLE);
    normalize(&f->map, 2);
    assert_entry(&f->map, 0, UINT64_MAX - 0x1fff, 0x1fff, MM_BOOT_USABLE);
    assert_entry(&f->map, 1, UINT64_MAX, 1, MM_BOOT_RESERVED);
    assert_int_equal(mm_bootmap_usable_bytes(&f->map), 0); /* nothing above 2^52 is memory */
}

/* No range holds all 2^64 bytes: two do, and no frame is lost where they meet. */
static void all_bytes_are_two_entries(void **state)
{
    struct fixture *f = *state;
    struct mm_prange out;

    add(&f->map, 0, UINT64_MAX, MM_BOOT_USABLE);
    add(&f->map, 5, UINT64_MAX - 4, MM_BOOT_USABLE);
    for (int i = 0; i < 2; i++) {
        normalize(&f->map, 2);
        assert_entry(&f->map, 0, 0, UINT64_C(1) << 63, MM_BOOT_USABLE);
        assert_entry(&f->map, 1, UINT64_C(1) << 63, UINT64_C(1) << 63, MM_BOOT_USABLE);
        f->map.normalized = 0;
    }
    assert_int_equal(mm_bootmap_next(&f->map, MM_BOOT_USABLE, mm_paddr(0), &out), MM_OK);
    assert_range(out, 0, UINT64_C(1) << 52);
    assert_int_equal(mm_bootmap_usable_bytes(&f->map), UINT64_C(1) << 52);
}

static void a_hundred_thousand_entries(void **state)
{
    enum { NR = 100000 };
    static const char *const shapes[] = {"random", "ascending", "descending", "from one start"};
    struct mm_boot_entry *entries = calloc(MM_BOOTMAP_CAPACITY(NR), sizeof(*entries));
    struct t_prng prng;
    struct timespec begin;
    struct timespec end;
    double seconds;

    (void)state;
    assert_non_null(entries);
    t_prng_start(&prng, "a hundred thousand entries");
    for (int shape = 0; shape < 4; shape++) {
        struct mm_bootmap map = {0};

        assert_int_equal(mm_bootmap_init(&map, entries, MM_BOOTMAP_CAPACITY(NR)), MM_OK);
        for (uint64_t i = 0; i < NR; i++) {
            const uint64_t starts[] = {t_prng_below(&prng, UINT64_C(1) << 52), i << 13,
                                       (NR - i) << 13, 4096};
            uint64_t len = t_prng_magnitude(&prng, shape == 0 ? 40 : 14) + 1;

            add(&map, starts[shape], len, (enum mm_boot_kind)t_prng_below(&prng, 13));
        }
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &begin);
        assert_int_equal(mm_bootmap_normalize(&map), MM_OK);
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &end);
        seconds =
            (double)(end.tv_sec - begin.tv_sec) + 1e-9 * (double)(end.tv_nsec - begin.tv_nsec);
        print_message("%d entries, %s: %u remain, %.1f ms\n", NR, shapes[shape], map.nr,
                      1e3 * seconds);
        assert_true(seconds < 1.0); /* a quadratic sort takes half a minute */
        for (uint32_t i = 1; i < map.nr; i++) {
            assert_true(mm_prange_last(entries[i - 1].range).raw < entries[i].range.start.raw);
        }
    }
    free(entries);
}

/* --- next */

static void next_yields_whole_frames(void **state)
{
    struct fixture *f = *state;
    struct mm_prange out;

    add(&f->map, 0x1800, 0x1000, MM_BOOT_USABLE); /* no whole frame by itself... */
    add(&f->map, 0x2800, 0x900, MM_BOOT_USABLE);  /* ... but with its neighbour */
    add(&f->map, 0x5001, 0x1ffe, MM_BOOT_USABLE); /* two edges, no frame between */
    add(&f->map, 0x9000, 0x3000, MM_BOOT_RESERVED);
    add(&f->map, 0x20000, 0x2fff, MM_BOOT_USABLE);
    assert_int_equal(mm_bootmap_next(&f->map, MM_BOOT_USABLE, mm_paddr(0), &out), MM_OK);
    assert_range(out, 0x2000, 0x1000);
    assert_int_equal(mm_bootmap_next(&f->map, MM_BOOT_USABLE, mm_paddr(0x2001), &out), MM_OK);
    assert_range(out, 0x20000, 0x2000);
    assert_int_equal(mm_bootmap_next(&f->map, MM_BOOT_USABLE, mm_paddr(0x20001), &out), MM_OK);
    assert_range(out, 0x21000, 0x1000);
    assert_int_equal(mm_bootmap_next(&f->map, MM_BOOT_RESERVED, mm_paddr(0xa000), &out), MM_OK);
    assert_range(out, 0xa000, 0x2000);
    assert_int_equal(mm_bootmap_usable_bytes(&f->map), 0x3000);
}

static void next_refuses(void **state)
{
    struct fixture *f = *state;
    struct mm_prange out = range(1, 2);

    add(&f->map, 0x1000, 0x1000, MM_BOOT_USABLE);
    assert_int_equal(mm_bootmap_next(&f->map, MM_BOOT_USABLE, mm_paddr(0), NULL),
                     MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_bootmap_next(&f->map, (enum mm_boot_kind)13, mm_paddr(0), &out),
                     MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_bootmap_next(&f->map, (enum mm_boot_kind)33, mm_paddr(0), &out),
                     MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_bootmap_next(&f->map, MM_BOOT_USABLE, mm_paddr(0x1001), &out),
                     MM_ERR_REGION_NOT_FOUND);
    assert_int_equal(mm_bootmap_next(&f->map, MM_BOOT_BAD, mm_paddr(0), &out),
                     MM_ERR_REGION_NOT_FOUND);
    assert_int_equal(mm_bootmap_next(&f->map, MM_BOOT_USABLE, mm_paddr(UINT64_MAX), &out),
                     MM_ERR_REGION_NOT_FOUND);
    assert_int_equal(mm_bootmap_next_frames(&f->map, 0, 0, mm_paddr(0), &out),
                     MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_bootmap_next_frames(&f->map, 1u << 13, 0, mm_paddr(0), &out),
                     MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_bootmap_next_frames(&f->map, 1, 1u << 31, mm_paddr(0), &out),
                     MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_bootmap_next_frames(&f->map, 1, 1, mm_paddr(0), NULL),
                     MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_bootmap_next_frames(&f->map, 2, 4, mm_paddr(0), &out),
                     MM_ERR_REGION_NOT_FOUND);
    assert_range(out, 1, 2);
}

static void memory_ends_at_2_to_the_52(void **state)
{
    struct fixture *f = *state;
    const uint64_t end = UINT64_C(1) << 52;
    struct mm_prange out;

    add(&f->map, end - 0x1800, 0x10000, MM_BOOT_USABLE);
    add(&f->map, UINT64_C(1) << 60, 0x10000, MM_BOOT_USABLE);
    add(&f->map, end + 0x20000, UINT64_C(1) << 40, MM_BOOT_ACPI_NVS);
    assert_int_equal(mm_bootmap_next(&f->map, MM_BOOT_USABLE, mm_paddr(0), &out), MM_OK);
    assert_range(out, end - 0x1000, 0x1000);
    assert_int_equal(mm_bootmap_next(&f->map, MM_BOOT_USABLE, mm_paddr(end), &out),
                     MM_ERR_REGION_NOT_FOUND);
    assert_int_equal(mm_bootmap_next_frames(&f->map, 0, 1, mm_paddr(0), &out), MM_OK);
    assert_range(out, end - 0x2000, 0x2000);
    assert_int_equal(mm_bootmap_next_frames(&f->map, 0, MM_BOOT_KINDS_ACPI, mm_paddr(0), &out),
                     MM_ERR_REGION_NOT_FOUND);
    assert_int_equal(mm_bootmap_largest(&f->map, EVERYWHERE, &out), MM_OK);
    assert_range(out, end - 0x1000, 0x1000);
    assert_int_equal(mm_bootmap_usable_bytes(&f->map), 0x1000);
}

/* What a direct map walks: RAM inwards, ACPI outwards, neighbours joined whatever their kinds. */
static void kinds_join_to_frames(void **state)
{
    const uint32_t ram = MM_BOOT_KINDS_RAM;
    const uint32_t acpi = MM_BOOT_KINDS_ACPI;
    struct fixture *f = *state;
    struct mm_prange out;

    add(&f->map, 0x1400, 0x4000, MM_BOOT_USABLE);      /* 1400-5400 */
    add(&f->map, 0x3000, 0x1000, MM_BOOT_KERNEL);      /* inside */
    add(&f->map, 0x5400, 0x100, MM_BOOT_ACPI_RECLAIM); /* touches frame 5 */
    add(&f->map, 0x5500, 0x100, MM_BOOT_RESERVED);     /* shares it */
    add(&f->map, 0x5800, 0x10, MM_BOOT_ACPI_NVS);      /* too */
    add(&f->map, 0x6fff, 1, MM_BOOT_ACPI_NVS);         /* touches frame 6 */
    add(&f->map, 0x9000, 0x1000, MM_BOOT_MMIO);
    add(&f->map, 0xa800, 0x1000, MM_BOOT_USABLE); /* a800-b800: no whole frame */
    assert_int_equal(mm_bootmap_next_frames(&f->map, ram, acpi, mm_paddr(0), &out), MM_OK);
    assert_range(out, 0x2000, 0x5000);
    assert_int_equal(mm_bootmap_next_frames(&f->map, ram, acpi, mm_paddr(0x2800), &out), MM_OK);
    assert_range(out, 0x3000, 0x4000);
    assert_int_equal(mm_bootmap_next_frames(&f->map, ram, acpi, mm_paddr(0x5000), &out), MM_OK);
    assert_range(out, 0x5000, 0x2000);
    assert_int_equal(mm_bootmap_next_frames(&f->map, ram, acpi, mm_paddr(0x7000), &out),
                     MM_ERR_REGION_NOT_FOUND);
    assert_int_equal(mm_bootmap_next_frames(&f->map, 0, ram, mm_paddr(0x7000), &out), MM_OK);
    assert_range(out, 0xa000, 0x2000);
    assert_int_equal(mm_bootmap_next_frames(&f->map, ram, 0, mm_paddr(0), &out), MM_OK);
    assert_range(out, 0x2000, 0x3000);
}

/* --- largest */

static void largest_is_the_lowest_of_the_longest(void **state)
{
    struct fixture *f = *state;
    struct mm_prange out = range(1, 2);

    assert_int_equal(mm_bootmap_largest(&f->map, EVERYWHERE, &out), MM_ERR_REGION_NOT_FOUND);
    add(&f->map, 0x100, 0x1e00, MM_BOOT_USABLE); /* long, but only in bytes */
    assert_int_equal(mm_bootmap_largest(&f->map, EVERYWHERE, &out), MM_ERR_REGION_NOT_FOUND);
    add(&f->map, 0x10000, 0x4000, MM_BOOT_USABLE);
    add(&f->map, 0x20000, 0x4fff, MM_BOOT_USABLE);
    add(&f->map, 0x30000, 0x9000, MM_BOOT_ACPI_RECLAIM);
    assert_int_equal(mm_bootmap_largest(&f->map, range(0x50000, 10), &out),
                     MM_ERR_REGION_NOT_FOUND);
    assert_int_equal(mm_bootmap_largest(&f->map, range(0x10000, 0), &out), MM_ERR_REGION_NOT_FOUND);
    assert_int_equal(mm_bootmap_largest(&f->map, range(0x10800, 0x1000), &out),
                     MM_ERR_REGION_NOT_FOUND);
    assert_int_equal(mm_bootmap_largest(&f->map, range(2, UINT64_MAX), &out), MM_ERR_INVALID_SIZE);
    assert_int_equal(mm_bootmap_largest(&f->map, EVERYWHERE, NULL), MM_ERR_INVALID_ARGUMENT);
    assert_range(out, 1, 2);
    assert_int_equal(mm_bootmap_largest(&f->map, EVERYWHERE, &out), MM_OK);
    assert_range(out, 0x10000, 0x4000);
    assert_int_equal(mm_bootmap_largest(&f->map, range(0x11001, 0x30000), &out), MM_OK);
    assert_range(out, 0x20000, 0x4000);
    assert_int_equal(mm_bootmap_largest(&f->map, range(0x11001, 0x10000), &out), MM_OK);
    assert_range(out, 0x12000, 0x2000);
}

static void *map_nothing(void *ctx, mm_pfn_t frame)
{
    (void)ctx;
    (void)frame;
    return NULL;
}

static void unmap_nothing(void *ctx, void *mapped)
{
    (void)ctx;
    (void)mapped;
}

static void largest_mapped(void **state)
{
    static const struct mm_physmap_ops ops = {map_nothing, unmap_nothing};
    struct fixture *f = *state;
    struct mm_physmap direct = mm_physmap_direct(UINT64_C(0xffff800000000000));
    struct mm_physmap window = {UINT64_C(0x1000000), {0x10000}, 0x3000, NULL, NULL};
    struct mm_physmap wrapping = {0, {UINT64_MAX - 10}, 100, NULL, NULL};
    struct mm_physmap by_ops = {0, {0}, 0, &ops, NULL};
    void *base = NULL;
    uint64_t len = 7;

    add(&f->map, 0x10000, 0x4000, MM_BOOT_USABLE);
    assert_int_equal(mm_bootmap_largest_mapped(&f->map, NULL, EVERYWHERE, &base, &len),
                     MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_bootmap_largest_mapped(&f->map, &direct, EVERYWHERE, NULL, &len),
                     MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_bootmap_largest_mapped(&f->map, &direct, EVERYWHERE, &base, NULL),
                     MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_bootmap_largest_mapped(&f->map, &wrapping, EVERYWHERE, &base, &len),
                     MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_bootmap_largest_mapped(&f->map, &by_ops, EVERYWHERE, &base, &len),
                     MM_ERR_UNSUPPORTED);
    assert_int_equal(mm_bootmap_largest_mapped(&f->map, &direct, range(2, UINT64_MAX), &base, &len),
                     MM_ERR_INVALID_SIZE);
    assert_int_equal(mm_bootmap_largest_mapped(&f->map, &direct, range(0x20000, 1), &base, &len),
                     MM_ERR_REGION_NOT_FOUND);
    assert_int_equal(mm_bootmap_largest_mapped(&f->map, &direct, range(0x10000, 0), &base, &len),
                     MM_ERR_REGION_NOT_FOUND);
    assert_int_equal(mm_bootmap_largest_mapped(&f->map, &window, range(0, 0x1000), &base, &len),
                     MM_ERR_REGION_NOT_FOUND);
    assert_null(base);
    assert_int_equal(len, 7);
    assert_int_equal(mm_bootmap_largest_mapped(&f->map, &direct, EVERYWHERE, &base, &len), MM_OK);
    assert_int_equal((uintptr_t)base, UINT64_C(0xffff800000010000));
    assert_int_equal(len, 0x4000);
    assert_int_equal(mm_bootmap_largest_mapped(&f->map, &window, EVERYWHERE, &base, &len), MM_OK);
    assert_int_equal((uintptr_t)base, 0x1010000);
    assert_int_equal(len, 0x3000);
    assert_int_equal(
        mm_bootmap_largest_mapped(&f->map, &direct, range(0x11000, 0x1fff), &base, &len), MM_OK);
    assert_int_equal((uintptr_t)base, UINT64_C(0xffff800000011000));
    assert_int_equal(len, 0x1000);
}

/* Identity maps and memory beyond what virtual addresses can follow. */
static void largest_mapped_at_the_edges(void **state)
{
    struct fixture *f = *state;
    struct mm_physmap identity = mm_physmap_direct(0);
    struct mm_physmap high = mm_physmap_direct(UINT64_C(0xffffffff80000000));
    struct mm_physmap below = {UINT64_C(0) - 0x10000, {0x10000}, 0x100000, NULL, NULL};
    void *base = NULL;
    uint64_t len = 0;

    add(&f->map, 0, 0x3000, MM_BOOT_USABLE);
    assert_int_equal(mm_bootmap_largest_mapped(&f->map, &identity, EVERYWHERE, &base, &len), MM_OK);
    assert_int_equal((uintptr_t)base, 0x1000); /* no null pointer */
    assert_int_equal(len, 0x2000);
    add(&f->map, 0x7ffff000, 0x100000, MM_BOOT_USABLE); /* one frame of it has an address */
    assert_int_equal(
        mm_bootmap_largest_mapped(&f->map, &high, range(0x4000, UINT64_MAX - 0x4000), &base, &len),
        MM_OK);
    assert_int_equal((uintptr_t)base, UINT64_C(0xfffffffffffff000));
    assert_int_equal(len, 0x1000);
    add(&f->map, 0x10000, 0x8000, MM_BOOT_USABLE);
    assert_int_equal(mm_bootmap_largest_mapped(&f->map, &below, EVERYWHERE, &base, &len), MM_OK);
    assert_null(base); /* asked for: the caller's map begins at virtual 0 */
    assert_int_equal(len, 0x8000);
}

/* --- take and reclaim */

static void take_goes_from_the_top(void **state)
{
    struct fixture *f = *state;
    struct mm_prange out;

    add(&f->map, 0, 0x9000, MM_BOOT_USABLE);
    add(&f->map, 0x20000, 0x8800, MM_BOOT_USABLE);
    assert_int_equal(mm_bootmap_take(&f->map, 0x1001, 4096, EVERYWHERE, &out), MM_OK);
    assert_range(out, 0x26000, 0x2000);
    assert_int_equal(mm_bootmap_take(&f->map, 1, 0x4000, EVERYWHERE, &out), MM_OK);
    assert_range(out, 0x24000, 0x1000);
    assert_int_equal(mm_bootmap_take(&f->map, 0x5000, 4096, EVERYWHERE, &out), MM_OK);
    assert_range(out, 0x4000, 0x5000);
    assert_int_equal(mm_bootmap_take(&f->map, 0x1000, 4096, range(0x800, 0x2800), &out), MM_OK);
    assert_range(out, 0x2000, 0x1000);
    normalize(&f->map, 9);
    assert_entry(&f->map, 0, 0, 0x2000, MM_BOOT_USABLE);
    assert_entry(&f->map, 1, 0x2000, 0x1000, MM_BOOT_METADATA);
    assert_entry(&f->map, 2, 0x3000, 0x1000, MM_BOOT_USABLE);
    assert_entry(&f->map, 3, 0x4000, 0x5000, MM_BOOT_METADATA);
    assert_entry(&f->map, 4, 0x20000, 0x4000, MM_BOOT_USABLE);
    assert_entry(&f->map, 5, 0x24000, 0x1000, MM_BOOT_METADATA);
    assert_entry(&f->map, 6, 0x25000, 0x1000, MM_BOOT_USABLE);
    assert_entry(&f->map, 7, 0x26000, 0x2000, MM_BOOT_METADATA);
    assert_entry(&f->map, 8, 0x28000, 0x800, MM_BOOT_USABLE);
}

static void take_refuses(void **state)
{
    struct fixture *f = *state;
    struct fixture before;
    struct mm_prange out = range(1, 2);

    add(&f->map, 0, 0x3000, MM_BOOT_USABLE);
    add(&f->map, 0x4000, 0x1000, MM_BOOT_RESERVED);
    assert_int_equal(mm_bootmap_normalize(&f->map), MM_OK);
    before = *f;
    assert_int_equal(mm_bootmap_take(&f->map, 1, 4096, EVERYWHERE, NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_bootmap_take(&f->map, 0, 4096, EVERYWHERE, &out), MM_ERR_INVALID_SIZE);
    assert_int_equal(mm_bootmap_take(&f->map, 1, 4096, range(2, UINT64_MAX), &out),
                     MM_ERR_INVALID_SIZE);
    assert_int_equal(mm_bootmap_take(&f->map, 1, 0, EVERYWHERE, &out), MM_ERR_NOT_ALIGNED);
    assert_int_equal(mm_bootmap_take(&f->map, 1, 2048, EVERYWHERE, &out), MM_ERR_NOT_ALIGNED);
    assert_int_equal(mm_bootmap_take(&f->map, 1, 0x3000, EVERYWHERE, &out), MM_ERR_NOT_ALIGNED);
    assert_int_equal(mm_bootmap_take(&f->map, 0x3000, 4096, EVERYWHERE, &out), MM_ERR_NO_MEMORY);
    assert_int_equal(mm_bootmap_take(&f->map, 0x1000, 0x4000, EVERYWHERE, &out), MM_ERR_NO_MEMORY);
    assert_int_equal(mm_bootmap_take(&f->map, UINT64_MAX, 4096, EVERYWHERE, &out),
                     MM_ERR_NO_MEMORY);
    assert_int_equal(mm_bootmap_take(&f->map, 1, 4096, range(0x1001, 0x1ffe), &out),
                     MM_ERR_NO_MEMORY);
    assert_int_equal(mm_bootmap_take(&f->map, 1, UINT64_C(1) << 63, EVERYWHERE, &out),
                     MM_ERR_NO_MEMORY);
    assert_int_equal(mm_bootmap_take(&f->map, 1, 4096, range(0x1000, 0), &out), MM_ERR_NO_MEMORY);
    assert_memory_equal(f, &before, sizeof(*f));
    assert_range(out, 1, 2);
}

static void take_needs_an_entry(void **state)
{
    struct mm_boot_entry entries[2];
    struct mm_boot_entry saved[2];
    struct mm_bootmap map = {0};
    struct mm_bootmap before;
    struct mm_prange out = range(1, 2);

    (void)state;
    assert_int_equal(mm_bootmap_init(&map, entries, 2), MM_OK);
    add(&map, 0x1000, 0x5000, MM_BOOT_USABLE);
    normalize(&map, 1);
    before = map;
    memcpy(saved, entries, sizeof(saved));
    assert_int_equal(mm_bootmap_take(&map, 1, 4096, EVERYWHERE, &out), MM_ERR_LIMIT);
    assert_int_equal(mm_bootmap_take(&map, 0x9000, 4096, EVERYWHERE, &out), MM_ERR_NO_MEMORY);
    assert_memory_equal(&map, &before, sizeof(map));
    assert_memory_equal(entries, saved, sizeof(saved[0]));
    assert_range(out, 1, 2);
}

static void what_was_taken_is_given_back(void **state)
{
    struct fixture *f = *state;
    struct mm_prange out;

    add(&f->map, 0, 0x9000, MM_BOOT_USABLE);
    assert_int_equal(mm_bootmap_take(&f->map, 0x5000, 4096, EVERYWHERE, &out), MM_OK);
    assert_range(out, 0x4000, 0x5000);
    assert_int_equal(mm_bootmap_give(&f->map, range(0x5000, 0x1000)), MM_OK); /* the middle */
    normalize(&f->map, 4);
    assert_entry(&f->map, 1, 0x4000, 0x1000, MM_BOOT_METADATA);
    assert_entry(&f->map, 2, 0x5000, 0x1000, MM_BOOT_USABLE);
    assert_entry(&f->map, 3, 0x6000, 0x3000, MM_BOOT_METADATA);
    assert_int_equal(mm_bootmap_give(&f->map, range(0x6000, 0x1000)), MM_OK); /* the beginning */
    assert_int_equal(mm_bootmap_give(&f->map, range(0x8000, 0x1000)), MM_OK); /* the end */
    assert_int_equal(mm_bootmap_give(&f->map, range(0x7000, 0x1000)), MM_OK); /* all */
    normalize(&f->map, 3);
    assert_int_equal(mm_bootmap_give(&f->map, range(0x4000, 0x1000)), MM_OK);
    normalize(&f->map, 1);
    assert_entry(&f->map, 0, 0, 0x9000, MM_BOOT_USABLE);
    assert_int_equal(mm_bootmap_room(&f->map), CAPACITY / 2 - 1);
}

static void give_refuses(void **state)
{
    struct fixture *f = *state;
    struct fixture before;
    struct mm_boot_entry entries[2];
    struct mm_bootmap small = {0};

    add(&f->map, 0, 0x9000, MM_BOOT_USABLE);
    add(&f->map, 0x4000, 0x2000, MM_BOOT_METADATA);
    add(&f->map, 0x6000, 0x1000, MM_BOOT_ACPI_RECLAIM);
    normalize(&f->map, 4);
    before = *f;
    assert_int_equal(mm_bootmap_give(&f->map, range(0x4001, 0x1000)), MM_ERR_NOT_ALIGNED);
    assert_int_equal(mm_bootmap_give(&f->map, range(0x4000, 0xfff)), MM_ERR_NOT_ALIGNED);
    assert_int_equal(mm_bootmap_give(&f->map, range(0x4000, 0)), MM_ERR_INVALID_SIZE);
    assert_int_equal(mm_bootmap_give(&f->map, range(UINT64_MAX - 0xfff, 0x2000)),
                     MM_ERR_INVALID_SIZE);
    assert_int_equal(mm_bootmap_give(&f->map, range(0x3000, 0x1000)), MM_ERR_INVALID_ADDRESS);
    assert_int_equal(mm_bootmap_give(&f->map, range(0x3000, 0x2000)), MM_ERR_INVALID_ADDRESS);
    assert_int_equal(mm_bootmap_give(&f->map, range(0x4000, 0x3000)), MM_ERR_INVALID_ADDRESS);
    assert_int_equal(mm_bootmap_give(&f->map, range(0x6000, 0x1000)), MM_ERR_INVALID_ADDRESS);
    assert_int_equal(mm_bootmap_give(&f->map, range(0x20000, 0x1000)), MM_ERR_INVALID_ADDRESS);
    assert_memory_equal(f, &before, sizeof(*f));
    /* two entries: one end may stay, not both */
    assert_int_equal(mm_bootmap_init(&small, entries, 2), MM_OK);
    assert_int_equal(mm_bootmap_give(&small, range(0x1000, 0x1000)), MM_ERR_INVALID_ADDRESS);
    add(&small, 0x1000, 0x3000, MM_BOOT_METADATA);
    assert_int_equal(mm_bootmap_give(&small, range(0x2000, 0x1000)), MM_ERR_LIMIT);
    normalize(&small, 1);
    assert_entry(&small, 0, 0x1000, 0x3000, MM_BOOT_METADATA);
    assert_int_equal(mm_bootmap_give(&small, range(0x2000, 0x2000)), MM_OK);
    normalize(&small, 2);
}

static void reclaim_makes_usable(void **state)
{
    struct fixture *f = *state;
    struct fixture before;

    add(&f->map, 0x1000, 0x2000, MM_BOOT_USABLE);
    add(&f->map, 0x2800, 0x2000, MM_BOOT_BOOTLOADER);
    add(&f->map, 0x4000, 0x1000, MM_BOOT_KERNEL);
    add(&f->map, 0x5000, 0x1000, MM_BOOT_ACPI_RECLAIM);
    normalize(&f->map, 4);
    before = *f;
    assert_int_equal(mm_bootmap_reclaim(&f->map, MM_BOOT_KERNEL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_bootmap_reclaim(&f->map, MM_BOOT_USABLE), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_bootmap_reclaim(&f->map, (enum mm_boot_kind)77), MM_ERR_INVALID_ARGUMENT);
    assert_memory_equal(f, &before, sizeof(*f));
    assert_int_equal(mm_bootmap_reclaim(&f->map, MM_BOOT_BOOTLOADER), MM_OK);
    normalize(&f->map, 3);
    assert_entry(&f->map, 0, 0x1000, 0x3000, MM_BOOT_USABLE);
    assert_entry(&f->map, 1, 0x4000, 0x1000, MM_BOOT_KERNEL);
    assert_int_equal(mm_bootmap_reclaim(&f->map, MM_BOOT_ACPI_RECLAIM), MM_OK);
    normalize(&f->map, 3);
    assert_entry(&f->map, 2, 0x5000, 0x1000, MM_BOOT_USABLE);
}

static void kinds_have_names(void **state)
{
    (void)state;
    for (unsigned a = 0; a < MM_BOOT_KIND_COUNT; a++) {
        assert_string_not_equal(mm_boot_kind_str((enum mm_boot_kind)a), "?");
        for (unsigned b = 0; b < a; b++) {
            assert_string_not_equal(mm_boot_kind_str((enum mm_boot_kind)a),
                                    mm_boot_kind_str((enum mm_boot_kind)b));
        }
    }
    assert_string_equal(mm_boot_kind_str(MM_BOOT_USABLE), "usable");
    assert_string_equal(mm_boot_kind_str(MM_BOOT_RESERVED), "reserved");
    assert_string_equal(mm_boot_kind_str((enum mm_boot_kind)MM_BOOT_KIND_COUNT), "?");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(init_refuses),
        TEST(calls_refuse_a_map_that_is_none),
        TEST(add_refuses),
        TEST(adding_nothing_does_nothing),
        TEST(an_array_takes_what_its_capacity_says),
        TEST(holes_become_entries),
        TEST(normalising_makes_room),
        TEST(an_empty_map_stays_empty),
        TEST(reserved_inside_usable),
        TEST(the_higher_kind_wins),
        TEST(lower_kinds_come_back),
        TEST(ranges_may_end_at_the_top),
        TEST(all_bytes_are_two_entries),
        TEST(a_hundred_thousand_entries),
        TEST(next_yields_whole_frames),
        TEST(next_refuses),
        TEST(memory_ends_at_2_to_the_52),
        TEST(kinds_join_to_frames),
        TEST(largest_is_the_lowest_of_the_longest),
        TEST(largest_mapped),
        TEST(largest_mapped_at_the_edges),
        TEST(take_goes_from_the_top),
        TEST(take_refuses),
        TEST(take_needs_an_entry),
        TEST(what_was_taken_is_given_back),
        TEST(give_refuses),
        TEST(reclaim_makes_usable),
        TEST(kinds_have_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
