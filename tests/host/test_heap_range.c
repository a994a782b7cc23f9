// SPDX-License-Identifier: MIT
/**
 * The page source over a fixed range, against a flat model of its pages: statuses, runs of all
 * lengths and alignments, growing in place, and its bins.
 */
#include "heap_world.h"

#define NR_PAGES 3000

static mm_status_t take(struct mm_page_source source, uint64_t nr, uint64_t align, void **out)
{
    return source.ops->alloc(source.ctx, nr, align, 0, out);
}

static void give(struct mm_page_source source, void *pages, uint64_t nr)
{
    source.ops->free(source.ctx, pages, nr);
}

static void test_range_statuses(void **state)
{
    struct mm_page_range range = {0};
    char *memory = mmap(NULL, 64 * KiB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    void *page;

    (void)state;
    assert_int_equal(mm_page_range_init(NULL, memory, 8192), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_page_range_init(&range, NULL, 8192), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_page_range_init(&range, memory, 0), MM_ERR_INVALID_SIZE);
    assert_int_equal(mm_page_range_init(&range, memory, 8191), MM_ERR_INVALID_SIZE);
    assert_int_equal(mm_page_range_init(&range, memory + 1, 8192), MM_ERR_INVALID_SIZE);
    assert_int_equal(mm_page_range_init(&range, memory + 1, UINT64_MAX), MM_ERR_INVALID_SIZE);
    assert_int_equal(mm_page_range_init(&range, (void *)(UINTPTR_MAX - 100), 90),
                     MM_ERR_INVALID_SIZE);
    assert_int_equal(mm_page_range_destroy(NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_page_range_destroy(&range), MM_ERR_NOT_INITIALIZED);
    assert_null(mm_page_source_range(NULL).ops);
    assert_null(mm_page_source_range(&range).ops);

    assert_int_equal(mm_page_range_init(&range, memory + 1, 4095 + 8192 + 4095), MM_OK);
    assert_int_equal(mm_page_range_init(&range, memory, 8192), MM_ERR_ALREADY_INITIALIZED);
    assert_int_equal(mm_page_source_range(&range).base, (uintptr_t)memory + 4096);
    assert_int_equal(mm_page_source_range(&range).len, 8192);
    assert_int_equal(take(mm_page_source_range(&range), 2, 1, &page), MM_ERR_NO_MEMORY);
    assert_int_equal(take(mm_page_source_range(&range), 1, 1, &page), MM_OK);
    assert_ptr_equal(page, memory + 8192);
    assert_int_equal(take(mm_page_source_range(&range), 1, 1, &page), MM_ERR_NO_MEMORY);
    assert_int_equal(mm_page_range_destroy(&range), MM_ERR_BUSY);
    give(mm_page_source_range(&range), page, 1);
    assert_int_equal(mm_page_range_destroy(&range), MM_OK);
    munmap(memory, 64 * KiB);
}

static void test_range_misuse(void **state)
{
    struct world *world = world_of_range(MiB);
    struct mm_page_source source = world->inner;
    struct t_trap_info info;
    void *pages = world;

    (void)state;
    assert_int_equal(take(source, 0, 1, &pages), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(take(source, 1, 0, &pages), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(take(source, 1, 3, &pages), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(take(source, 257, 1, &pages), MM_ERR_NO_MEMORY);
    assert_int_equal(take(source, UINT64_MAX, 1, &pages), MM_ERR_NO_MEMORY);
    assert_int_equal(take(source, 1, UINT64_C(1) << 63, &pages), MM_ERR_NO_MEMORY);
    assert_int_equal(take(source, 1, UINT64_C(1) << 51, &pages), MM_ERR_NO_MEMORY);
    assert_ptr_equal(pages, world);

    assert_int_equal(take(source, 8, 1, &pages), MM_OK);
    give(source, (char *)pages + 4096, 7);
    give(source, pages, 1);
    T_EXPECT_SIGILL(give(source, pages, 1), &info);
    T_EXPECT_SIGILL(give(source, pages, 0), &info);
    T_EXPECT_SIGILL(give(source, (char *)pages + 1, 1), &info);
    T_EXPECT_SIGILL(give(source, world->memory, 1), &info); /* the bitmap */
    T_EXPECT_SIGILL(give(source, (char *)world->memory + MiB, 1), &info);
    T_EXPECT_SIGILL(give(source, (char *)world->memory + MiB - 4096, 2), &info);
    T_EXPECT_SIGILL(give(source, NULL, 1), &info);
    T_EXPECT_SIGILL(give(source, pages, UINT64_MAX), &info);
    world_delete(world);
}

static mm_status_t extend(struct mm_page_source source, void *pages, uint64_t nr, uint64_t more)
{
    return source.ops->extend(source.ctx, pages, nr, more, 0);
}

/* The free pages from a bit on, up to 64. */
static unsigned free_from(const struct mm_page_range *range, uint64_t bit)
{
    unsigned nr = 0;

    while (nr < 64 && bit + nr < range->nr_words * 64 &&
           (range->bitmap[(bit + nr) / 64] >> (bit + nr) % 64 & 1) != 0) {
        nr++;
    }
    return nr;
}

/* Each word is in the bins of the runs that begin in it, each group where it has a word, and neither
 * in any other. Only when nobody is at it. */
static void assert_bins(const struct mm_page_range *range)
{
    enum { BINS = 18 };

    for (uint64_t w = 0; w < range->nr_words; w++) {
        unsigned longest = 0;

        for (unsigned i = 0; i < 64 && longest < 64; i++) {
            unsigned nr = free_from(range, w * 64 + i);

            longest = nr > longest ? nr : longest;
        }
        for (unsigned bin = 0; bin < BINS; bin++) {
            unsigned len = bin < 16 ? bin + 1 : bin == 16 ? 32 : 64;
            uint64_t words = range->fits[w / 64 * BINS + bin];

            assert_int_equal(words >> w % 64 & 1, longest >= len);
            assert_int_equal(range->tops[bin * range->nr_tops + w / 4096] >> w / 64 % 64 & 1,
                             words != 0);
        }
    }
    assert_int_equal((uint32_t)range->unsettled, 0);
}

/* 100,000 runs of all lengths and alignments, against an array that says whose each page is. */
static void test_range_random(void **state)
{
    enum { SLOTS = 300 };
    struct run {
        void *pages;
        uint64_t nr;
    } slots[SLOTS] = {{0}};
    unsigned nr_ops = MM_TEST_SANITIZED ? 10000 : 100000;
    struct mm_page_range range = {0};
    uint64_t len = (NR_PAGES + 1) * UINT64_C(4096);
    char *memory = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint16_t *owner = calloc(NR_PAGES, sizeof(*owner));
    struct mm_page_source source;
    struct t_prng prng;
    uint64_t nr_used = 1;
    unsigned nr_extended = 0;

    (void)state;
    t_prng_start(&prng, "heap pages");
    assert_int_equal(mm_page_range_init(&range, memory + 5, len - 5), MM_OK);
    source = mm_page_source_range(&range);
    assert_int_equal(source.len, NR_PAGES * UINT64_C(4096));
    owner[0] = UINT16_MAX; /* the bitmap */
    for (unsigned op = 0; op < nr_ops; op++) {
        unsigned s = (unsigned)t_prng_below(&prng, SLOTS);
        uint64_t nr = t_prng_chance(&prng, 1, 20)  ? t_prng_range(&prng, 1, 200)
                      : t_prng_chance(&prng, 1, 2) ? UINT64_C(1) << t_prng_below(&prng, 6)
                                                   : t_prng_range(&prng, 1, 12);
        uint64_t align = t_prng_chance(&prng, 1, 8) ? UINT64_C(1) << t_prng_below(&prng, 10) : 1;
        void *pages = NULL;

        if (slots[s].pages != NULL && t_prng_chance(&prng, 1, 3)) {
            uint64_t behind = ((uintptr_t)slots[s].pages - source.base) / 4096 + slots[s].nr;
            uint64_t more = t_prng_range(&prng, 1, t_prng_chance(&prng, 1, 4) ? 80 : 4);
            bool fits = behind + more <= NR_PAGES;

            for (uint64_t i = 0; fits && i < more; i++) {
                fits = owner[behind + i] == 0;
            }
            assert_int_equal(extend(source, slots[s].pages, slots[s].nr, more),
                             fits ? MM_OK : MM_ERR_NO_MEMORY);
            for (uint64_t i = 0; fits && i < more; i++) {
                owner[behind + i] = (uint16_t)(s + 1);
            }
            slots[s].nr += fits ? more : 0;
            nr_used += fits ? more : 0;
            nr_extended += fits ? 1 : 0;
        } else if (slots[s].pages != NULL) {
            uint64_t first = ((uintptr_t)slots[s].pages - source.base) / 4096;
            uint64_t part = t_prng_range(&prng, 1, slots[s].nr);

            /* All of it, or its tail. */
            part = t_prng_chance(&prng, 1, 4) ? part : slots[s].nr;
            give(source, (char *)slots[s].pages + (slots[s].nr - part) * 4096, part);
            for (uint64_t i = 0; i < part; i++) {
                assert_int_equal(owner[first + slots[s].nr - 1 - i], s + 1);
                owner[first + slots[s].nr - 1 - i] = 0;
            }
            slots[s].nr -= part;
            slots[s].pages = slots[s].nr == 0 ? NULL : slots[s].pages;
            nr_used -= part;
        } else if (take(source, nr, align, &pages) == MM_OK) {
            uint64_t first = ((uintptr_t)pages - source.base) / 4096;

            assert_true(mm_range_covers(source.base, source.len, (uintptr_t)pages, nr * 4096));
            assert_int_equal((uintptr_t)pages / 4096 % align, 0);
            for (uint64_t i = 0; i < nr; i++) {
                assert_int_equal(owner[first + i], 0);
                owner[first + i] = (uint16_t)(s + 1);
            }
            slots[s] = (struct run){pages, nr};
            nr_used += nr;
        } else {
            /* Refused: then there is no such run. */
            uint64_t page0 = source.base / 4096;
            uint64_t have = 0;

            for (uint64_t i = 0; i < NR_PAGES; i++) {
                have = owner[i] != 0 ? 0 : have + 1;
                assert_false(have >= nr && (page0 + i + 1 - nr) % align == 0);
            }
        }
        assert_int_equal(range.nr_free, NR_PAGES - nr_used);
        if (op % 64 == 0) {
            assert_bins(&range);
        }
    }
    assert_true(nr_extended > nr_ops / 100);
    for (unsigned s = 0; s < SLOTS; s++) {
        if (slots[s].pages != NULL) {
            give(source, slots[s].pages, slots[s].nr);
        }
    }
    assert_int_equal(mm_page_range_destroy(&range), MM_OK);
    munmap(memory, len);
    free(owner);
}

/* Every length, from a range of many groups of which one word in ten is whole, and no memory at last:
 * what is refused is not there, what is there is found. */
static void test_range_lengths(void **state)
{
    const uint64_t nr_pages = 3 * 4096;
    struct world *world = world_of_range(nr_pages * 4096);
    struct mm_page_source source = world->inner;
    uint64_t nr_own = world->range.nr_free;
    char *first = NULL;
    void *pages;

    (void)state;
    assert_int_equal(take(source, nr_own, 1, (void **)&first), MM_OK);
    assert_bins(&world->range);
    assert_int_equal(take(source, 1, 1, &pages), MM_ERR_NO_MEMORY);
    for (uint64_t nr = 1; nr <= 80; nr++) {
        /* One hole of this length, at every third place over the border of two words. */
        uint64_t at = nr % 3 == 0 ? (nr * 64 + 63) : nr * 97;
        char *hole = first + at * 4096;

        give(source, hole, nr);
        assert_bins(&world->range);
        assert_int_equal(take(source, nr + 1, 1, &pages), MM_ERR_NO_MEMORY);
        assert_int_equal(take(source, nr, 1, &pages), MM_OK);
        assert_ptr_equal(pages, hole);
        /* And by growing into it. */
        give(source, hole, nr);
        assert_int_equal(extend(source, first, at, nr + 1), MM_ERR_NO_MEMORY);
        assert_int_equal(extend(source, first, at, nr), MM_OK);
        assert_int_equal(extend(source, first, at, 1), MM_ERR_NO_MEMORY);
        assert_bins(&world->range);
    }
    give(source, first, nr_own);
    assert_bins(&world->range);
    world_delete(world);
}

/* What is no run of the range is not made longer, and neither is what ends with it. */
static void test_range_extend_statuses(void **state)
{
    struct world *world = world_of_range(MiB);
    struct mm_page_source source = world->inner;
    char *memory = world->memory;
    void *pages = NULL;

    (void)state;
    assert_int_equal(take(source, 255, 1, &pages), MM_OK);
    give(source, memory + 250 * 4096, 6);
    assert_int_equal(extend(source, pages, 0, 1), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(extend(source, pages, 249, 0), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(extend(source, memory + 4097, 249, 1), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(extend(source, memory, 250, 1), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(extend(source, memory - 4096, 251, 1), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(extend(source, memory + MiB, 1, 1), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(extend(source, pages, UINT64_MAX, 1), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(extend(source, pages, 249, UINT64_MAX), MM_ERR_NO_MEMORY);
    assert_int_equal(extend(source, pages, 249, 7), MM_ERR_NO_MEMORY);
    assert_int_equal(extend(source, pages, 248, 1), MM_ERR_NO_MEMORY); /* its own */
    assert_int_equal(world->range.nr_free, 6);
    assert_int_equal(extend(source, pages, 249, 6), MM_OK);
    assert_int_equal(world->range.nr_free, 0);
    give(source, pages, 255);
    world_delete(world);
}

/* The last page of the range is the last bit of its word: what comes behind in the bitmap's pages is no
 * page, whatever its bits are. */
static void test_range_extend_at_the_end(void **state)
{
    const uint64_t len = 256 * UINT64_C(4096);
    char *memory = mmap(NULL, 2 * len, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    char *base = memory + (len - (uintptr_t)memory % len) % len;
    struct mm_page_range range = {0};
    struct mm_page_source source;
    void *pages;

    (void)state;
    assert_int_equal(mm_page_range_init(&range, base, len), MM_OK);
    source = mm_page_source_range(&range);
    assert_int_equal(range.nr_words * 64, range.first_bit + range.nr_pages);
    assert_int_equal(take(source, 255, 1, &pages), MM_OK);
    give(source, pages, 63); /* all of the first word's */
    assert_int_equal(range.fits[0] & 1, 1);
    assert_int_equal(extend(source, base + 250 * 4096, 6, 1), MM_ERR_NO_MEMORY);
    assert_int_equal(extend(source, base + 250 * 4096, 6, 64), MM_ERR_NO_MEMORY);
    assert_bins(&range);
    give(source, base + UINT64_C(64) * 4096, 192);
    assert_int_equal(mm_page_range_destroy(&range), MM_OK);
    munmap(memory, 2 * len);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_range_statuses),
        cmocka_unit_test(test_range_misuse),
        cmocka_unit_test(test_range_random),
        cmocka_unit_test(test_range_lengths),
        cmocka_unit_test(test_range_extend_statuses),
        cmocka_unit_test(test_range_extend_at_the_end),
    };

    return cmocka_run_group_tests_name("heap_range", tests, NULL, NULL);
}
