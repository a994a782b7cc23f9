// SPDX-License-Identifier: MIT
/**
 * The boot map against two oracles: random operations against a map of units that is plainly right,
 * and the maps of real machines, as they are and spoilt, against the question of hazard 1: a byte
 * is usable if every entry that covers it says so.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <mm/bootmap.h>

#include "e820_file.h"
#include "e820_synth.h"
#include "prng.h"

#include <stdlib.h>
#include <string.h>

#define MEMORY_END (UINT64_C(1) << 52)

#if MM_TEST_SANITIZED
#define OPERATIONS 10000
#else
#define OPERATIONS 100000
#endif

static uint64_t operations(void)
{
    return getenv("MM_TEST_FULL") != NULL ? UINT64_C(50) * OPERATIONS : OPERATIONS;
}

/* --- a world of few units, each of one kind throughout */

#define FRAMES         48
#define UNITS_IN_FRAME 6
#define UNITS          (FRAMES * UNITS_IN_FRAME)
#define NOTHING        (-1)

struct world {
    uint64_t cut[UNITS]; /* first byte of each unit; each sixth one begins a frame */
    uint64_t last;       /* last byte of the last unit */
    int8_t kind[UNITS];
};

/* Unit i begins at cut[i]; within a frame the cuts are anywhere, at least a byte apart. */
static void world_make(struct world *w, struct t_prng *prng)
{
    const uint64_t bytes = FRAMES * MM_PAGE_SIZE;
    const uint64_t bases[] = {0, UINT64_C(0x7ff00000), MEMORY_END - bytes / 2, 0 - bytes,
                              t_prng_below(prng, MEMORY_END - bytes) & ~MM_PAGE_MASK};
    uint64_t base = bases[t_prng_below(prng, 5)];

    for (unsigned i = 0; i < UNITS; i++) {
        uint64_t part = MM_PAGE_SIZE / UNITS_IN_FRAME;
        uint64_t in_frame = i % UNITS_IN_FRAME * part;

        w->cut[i] = base + i / UNITS_IN_FRAME * MM_PAGE_SIZE + in_frame;
        if (in_frame != 0) {
            w->cut[i] += t_prng_chance(prng, 1, 4) ? 1 - part : t_prng_below(prng, part / 2);
        }
        w->kind[i] = NOTHING;
    }
    for (unsigned i = 1; i < UNITS; i++) {
        w->cut[i] = w->cut[i] <= w->cut[i - 1] ? w->cut[i - 1] + 1 : w->cut[i];
    }
    w->last = base + (bytes - 1);
}

static uint64_t unit_last(const struct world *w, unsigned i)
{
    return i + 1 == UNITS ? w->last : w->cut[i + 1] - 1;
}

static struct mm_prange units(const struct world *w, unsigned first, unsigned last)
{
    return mm_prange(mm_paddr(w->cut[first]), unit_last(w, last) - w->cut[first] + 1);
}

static void world_add(struct world *w, unsigned first, unsigned last, int kind)
{
    for (unsigned i = first; i <= last; i++) {
        w->kind[i] = (int8_t)(kind > w->kind[i] ? kind : w->kind[i]);
    }
}

static uint64_t frame_at(const struct world *w, unsigned frame)
{
    return w->cut[frame * UNITS_IN_FRAME];
}

/* Whether a frame is in the set that mm_bootmap_next_frames() walks; the same question as the
 * header's, unit by unit. */
static bool frame_counts(const struct world *w, unsigned frame, uint32_t whole, uint32_t touched)
{
    bool all = true;

    if (frame_at(w, frame) >= MEMORY_END) {
        return false;
    }
    for (unsigned i = frame * UNITS_IN_FRAME; i < (frame + 1) * UNITS_IN_FRAME; i++) {
        uint32_t bit = w->kind[i] == NOTHING ? 0 : MM_BOOT_BIT((unsigned)w->kind[i]);

        if ((bit & touched) != 0) {
            return true;
        }
        all = all && (bit & (whole | touched)) != 0;
    }
    return all;
}

static bool frame_usable(const struct world *w, unsigned frame)
{
    return frame_counts(w, frame, MM_BOOT_BIT(MM_BOOT_USABLE), 0);
}

/* --- comparing */

/* The whole map, entry by entry: units of one kind side by side are one entry. */
static void compare(struct mm_bootmap *map, const struct world *w)
{
    uint32_t nr = 0;

    assert_int_equal(mm_bootmap_normalize(map), MM_OK);
    for (unsigned i = 0; i < UNITS;) {
        unsigned first = i;

        while (i < UNITS && w->kind[i] == w->kind[first]) {
            i++;
        }
        if (w->kind[first] != NOTHING) {
            struct mm_prange expected = units(w, first, i - 1);

            assert_true(nr < map->nr);
            assert_int_equal(map->entries[nr].range.start.raw, expected.start.raw);
            assert_int_equal(map->entries[nr].range.len, expected.len);
            assert_int_equal(map->entries[nr].kind, w->kind[first]);
            assert_int_equal(map->entries[nr].zero, 0);
            nr++;
        }
    }
    assert_int_equal(map->nr, nr);
}

static void check_next(struct mm_bootmap *map, const struct world *w, struct t_prng *prng)
{
    uint32_t whole = (uint32_t)t_prng_below(prng, 1u << MM_BOOT_KIND_COUNT);
    uint32_t touched = (uint32_t)(t_prng_u64(prng) & t_prng_below(prng, 1u << MM_BOOT_KIND_COUNT));
    unsigned one = (unsigned)t_prng_below(prng, MM_BOOT_KIND_COUNT);
    bool single = t_prng_chance(prng, 1, 2);
    uint64_t from = w->cut[t_prng_below(prng, UNITS)];
    struct mm_prange out = {{1}, 2};
    unsigned first = 0;
    unsigned last;
    mm_status_t status;

    if (single) {
        whole = MM_BOOT_BIT(one);
        touched = 0;
    }
    if ((whole | touched) == 0) {
        return;
    }
    while (first < FRAMES &&
           (frame_at(w, first) < from || !frame_counts(w, first, whole, touched))) {
        first++;
    }
    for (last = first; last < FRAMES && frame_counts(w, last, whole, touched); last++) {
    }
    status = single ? mm_bootmap_next(map, (enum mm_boot_kind)one, mm_paddr(from), &out)
                    : mm_bootmap_next_frames(map, whole, touched, mm_paddr(from), &out);
    if (first == FRAMES) {
        assert_int_equal(status, MM_ERR_REGION_NOT_FOUND);
        assert_int_equal(out.start.raw, 1);
        assert_int_equal(out.len, 2);
        return;
    }
    assert_int_equal(status, MM_OK);
    assert_int_equal(out.start.raw, frame_at(w, first));
    assert_int_equal(out.len, (last - first) * MM_PAGE_SIZE);
}

static struct mm_prange some_window(const struct world *w, struct t_prng *prng, uint64_t *last)
{
    unsigned a = (unsigned)t_prng_below(prng, UNITS);
    unsigned b = (unsigned)t_prng_range(prng, a, UNITS - 1);

    if (t_prng_chance(prng, 1, 4)) {
        *last = UINT64_MAX - 1;
        return mm_prange(mm_paddr(0), UINT64_MAX);
    }
    *last = unit_last(w, b);
    return units(w, a, b);
}

static bool frame_in(const struct world *w, unsigned frame, uint64_t start, uint64_t last)
{
    return frame_at(w, frame) >= start && frame_at(w, frame) + MM_PAGE_MASK <= last;
}

static void check_largest(struct mm_bootmap *map, const struct world *w, struct t_prng *prng)
{
    uint64_t last;
    struct mm_prange within = some_window(w, prng, &last);
    struct mm_prange out = {{1}, 2};
    unsigned best = 0;
    unsigned best_nr = 0;
    unsigned nr = 0;
    uint64_t usable = 0;
    mm_status_t status = mm_bootmap_largest(map, within, &out);

    for (unsigned i = 0; i < FRAMES; i++) {
        usable += frame_usable(w, i) ? MM_PAGE_SIZE : 0;
        nr = frame_usable(w, i) && frame_in(w, i, within.start.raw, last) ? nr + 1 : 0;
        if (nr > best_nr) {
            best_nr = nr;
            best = i + 1 - nr;
        }
    }
    assert_int_equal(mm_bootmap_usable_bytes(map), usable);
    if (best_nr == 0) {
        assert_int_equal(status, MM_ERR_REGION_NOT_FOUND);
        assert_int_equal(out.len, 2);
        return;
    }
    assert_int_equal(status, MM_OK);
    assert_int_equal(out.start.raw, frame_at(w, best));
    assert_int_equal(out.len, best_nr * MM_PAGE_SIZE);
}

/* The highest start at which all frames are usable; FRAMES if there is none. */
static unsigned expected_take(const struct world *w, unsigned nr, uint64_t align,
                              struct mm_prange within, uint64_t last)
{
    for (unsigned first = FRAMES - nr + 1; first > 0; first--) {
        bool fits = frame_at(w, first - 1) % align == 0 && frame_at(w, first - 1) != 0;

        for (unsigned i = first - 1; fits && i < first - 1 + nr; i++) {
            fits = frame_usable(w, i) && frame_in(w, i, within.start.raw, last);
        }
        if (fits) {
            return first - 1;
        }
    }
    return FRAMES;
}

static void check_take(struct mm_bootmap *map, struct world *w, struct t_prng *prng)
{
    uint64_t last;
    struct mm_prange within = some_window(w, prng, &last);
    unsigned nr = (unsigned)t_prng_range(prng, 1, 4);
    uint64_t align = MM_PAGE_SIZE << t_prng_below(prng, 4);
    unsigned expected = expected_take(w, nr, align, within, last);
    uint64_t len = nr * MM_PAGE_SIZE - t_prng_below(prng, MM_PAGE_SIZE);
    struct mm_prange out = {{1}, 2};
    mm_status_t status;
    uint32_t room;

    assert_int_equal(mm_bootmap_normalize(map), MM_OK);
    room = mm_bootmap_room(map);
    status = mm_bootmap_take(map, len, align, within, &out);
    if (expected == FRAMES || room == 0) {
        assert_int_equal(status, expected == FRAMES ? MM_ERR_NO_MEMORY : MM_ERR_LIMIT);
        assert_int_equal(out.start.raw, 1);
        assert_int_equal(out.len, 2);
        return;
    }
    assert_int_equal(status, MM_OK);
    assert_int_equal(out.start.raw, frame_at(w, expected));
    assert_int_equal(out.len, nr * MM_PAGE_SIZE);
    world_add(w, expected * UNITS_IN_FRAME, (expected + nr) * UNITS_IN_FRAME - 1, MM_BOOT_METADATA);
}

/* Give back frames that were taken, or that were not. */
static void check_give(struct mm_bootmap *map, struct world *w, struct t_prng *prng)
{
    unsigned first = (unsigned)t_prng_below(prng, FRAMES);
    unsigned nr = (unsigned)t_prng_range(prng, 1, 3);
    unsigned begin;
    unsigned end;
    uint32_t rests;
    bool held = true;
    mm_status_t status;

    while (first < FRAMES && w->kind[first * UNITS_IN_FRAME] != MM_BOOT_METADATA &&
           t_prng_chance(prng, 19, 20)) {
        first++;
    }
    if (first + nr > FRAMES) {
        return;
    }
    begin = first * UNITS_IN_FRAME;
    end = begin + nr * UNITS_IN_FRAME;
    for (unsigned i = begin; i < end; i++) {
        held = held && w->kind[i] == MM_BOOT_METADATA;
    }
    rests = begin > 0 && w->kind[begin - 1] == MM_BOOT_METADATA;
    rests += end < UNITS && w->kind[end] == MM_BOOT_METADATA;
    assert_int_equal(mm_bootmap_normalize(map), MM_OK);
    rests = map->boundaries + rests; /* each rest is cut off at one more */
    status = mm_bootmap_give(map, units(w, begin, end - 1));
    if (!held || rests > map->capacity + 1) {
        assert_int_equal(status, held ? MM_ERR_LIMIT : MM_ERR_INVALID_ADDRESS);
        return;
    }
    assert_int_equal(status, MM_OK);
    for (unsigned i = begin; i < end; i++) {
        w->kind[i] = MM_BOOT_USABLE;
    }
}

/* An add that must fit, fits; one that does not leaves no trace. */
static bool check_add(struct mm_bootmap *map, struct world *w, struct t_prng *prng, uint32_t adds)
{
    unsigned first = (unsigned)t_prng_below(prng, UNITS);
    unsigned span = (unsigned)t_prng_below(prng, t_prng_chance(prng, 1, 3) ? UNITS : 12);
    unsigned last = first + span < UNITS ? first + span : UNITS - 1;
    int kind =
        t_prng_chance(prng, 1, 2) ? MM_BOOT_USABLE : (int)t_prng_below(prng, MM_BOOT_KIND_COUNT);
    struct mm_bootmap before = *map;
    mm_status_t status = mm_bootmap_add(map, units(w, first, last), (enum mm_boot_kind)kind);

    assert_int_equal(status, mm_bootmap_room(&before) > 0 ? MM_OK : MM_ERR_LIMIT);
    if (status != MM_OK) {
        assert_memory_equal(map, &before, sizeof(before));
        assert_true(MM_BOOTMAP_CAPACITY(adds + 1) > map->capacity);
        return false;
    }
    world_add(w, first, last, kind);
    return true;
}

static void random_operations(void **state)
{
    enum { CAPACITY_MAX = 60 };
    static struct mm_boot_entry entries[CAPACITY_MAX + 1];
    static struct world w;
    struct mm_bootmap map = {0};
    uint64_t nr_worlds = 0;
    uint32_t adds = 0;
    bool alive = false;
    struct t_prng prng;

    (void)state;
    t_prng_start(&prng, "boot map, random operations");
    for (uint64_t i = 0; i < operations(); i++) {
        if (!alive) {
            uint32_t capacity = (uint32_t)t_prng_range(&prng, 1, CAPACITY_MAX);

            world_make(&w, &prng);
            map = (struct mm_bootmap){0};
            memset(entries, 0x5a, sizeof(entries));
            assert_int_equal(mm_bootmap_init(&map, entries, capacity), MM_OK);
            adds = 0;
            nr_worlds++;
            alive = true;
        }
        switch (t_prng_below(&prng, 9)) {
        default:
            /* A full map ends its world, and so does chance: full ones grow slowly. */
            alive = check_add(&map, &w, &prng, adds++) && !t_prng_chance(&prng, 1, 64);
            break;
        case 4:
            compare(&map, &w);
            break;
        case 5:
            check_next(&map, &w, &prng);
            break;
        case 6:
            check_largest(&map, &w, &prng);
            break;
        case 7:
            check_take(&map, &w, &prng);
            adds++; /* it counts as one */
            break;
        case 8:
            check_give(&map, &w, &prng);
            adds++; /* at most */
            break;
        }
        if (!alive) {
            compare(&map, &w);
        }
        assert_int_equal(map.entries[map.capacity].kind, 0x5a5a5a5a);
    }
    assert_true(nr_worlds > operations() / 1000);
}

/* --- maps of firmware: hazard 1 */

static enum mm_boot_kind kind_of(const struct t_memory *m, struct t_prng *prng)
{
    /* What is not usable may be of any other kind: the question is the same. */
    return m->usable ? MM_BOOT_USABLE : (enum mm_boot_kind)t_prng_range(prng, 1, MM_BOOT_BAD);
}

/* What an adapter does with a range past 2^64: usable ones are left out, others are cut. */
static void add_memory(struct mm_bootmap *map, struct t_memory *m, struct t_prng *prng)
{
    struct mm_prange range = mm_prange(mm_paddr(m->start), m->len);
    enum mm_boot_kind kind = kind_of(m, prng);

    if (!mm_prange_valid(range)) {
        assert_int_equal(mm_bootmap_add(map, range, kind), MM_ERR_INVALID_SIZE);
        m->len = m->usable ? 0 : UINT64_MAX - m->start + 1;
        range.len = m->len;
    }
    assert_int_equal(mm_bootmap_add(map, range, kind), MM_OK);
}

/*
 * The three properties: no byte of a frame that the map offers is covered by an entry that is not
 * usable, or by none; no frame that could be offered is missing; and what is offered is sorted,
 * apart, and below 2^52. The oracle's runs are all three at once; the first is asked again of each
 * edge in the words of its definition.
 */
static void check_hazard_1(struct t_memory *entries, size_t nr, struct t_prng *prng)
{
    struct mm_boot_entry *storage = calloc(MM_BOOTMAP_CAPACITY(nr + 1), sizeof(*storage));
    struct mm_bootmap map = {0};
    struct mm_prange r = {{0}, 0};
    struct t_mboot oracle;
    struct t_mboot_run largest;
    size_t run = 0;

    assert_non_null(storage);
    assert_int_equal(mm_bootmap_init(&map, storage, MM_BOOTMAP_CAPACITY((uint32_t)nr + 1)), MM_OK);
    for (size_t i = 0; i < nr; i++) {
        add_memory(&map, &entries[i], prng);
    }
    t_mboot_init(&oracle, entries, nr, MEMORY_END, MM_PAGE_SIZE);
    for (mm_paddr_t at = mm_paddr(0); mm_bootmap_next(&map, MM_BOOT_USABLE, at, &r) == MM_OK;
         at = mm_paddr(r.start.raw + r.len)) {
        assert_true(run < oracle.nr);
        assert_int_equal(r.start.raw, oracle.runs[run].first << 12);
        assert_int_equal(r.len, oracle.runs[run].nr << 12);
        run++;
        assert_true(t_mboot_byte_is_usable(entries, nr, r.start.raw));
        assert_true(t_mboot_byte_is_usable(entries, nr, mm_prange_last(r).raw));
        assert_true(t_mboot_byte_is_usable(entries, nr,
                                           t_prng_range(prng, r.start.raw, mm_prange_last(r).raw)));
    }
    assert_int_equal(run, oracle.nr);
    assert_int_equal(mm_bootmap_usable_bytes(&map), t_mboot_count(&oracle) << 12);
    largest = t_mboot_largest(&oracle);
    if (largest.nr == 0) {
        assert_int_equal(mm_bootmap_largest(&map, mm_prange(mm_paddr(0), UINT64_MAX), &r),
                         MM_ERR_REGION_NOT_FOUND);
    } else {
        assert_int_equal(mm_bootmap_largest(&map, mm_prange(mm_paddr(0), UINT64_MAX), &r), MM_OK);
        assert_int_equal(r.start.raw, largest.first << 12);
        assert_int_equal(r.len, largest.nr << 12);
    }
    t_mboot_destroy(&oracle);
    free(storage);
}

/* Move an edge of some entries by a few bytes, so that neighbours overlap or come apart. */
static void unalign(struct t_memory *entries, size_t nr, struct t_prng *prng)
{
    for (size_t i = 0; i < nr; i++) {
        uint64_t by = t_prng_magnitude(prng, 14);

        if (t_prng_chance(prng, 1, 2) && entries[i].start >= by) {
            entries[i].start -= by;
            entries[i].len += by;
        } else if (entries[i].len > by) {
            entries[i].start += by;
            entries[i].len -= by;
        }
        by = t_prng_magnitude(prng, 14);
        if (t_prng_chance(prng, 1, 2)) {
            entries[i].len += by;
        } else if (entries[i].len > by) {
            entries[i].len -= by;
        }
    }
}

/* Lay further entries over the map, each around an edge of it. */
static size_t overlay(struct t_memory *entries, size_t nr, struct t_prng *prng)
{
    size_t more = t_prng_range(prng, 1, 8);

    for (size_t i = 0; i < more; i++) {
        const struct t_memory *base = &entries[t_prng_below(prng, nr)];
        uint64_t edge = base->start + (t_prng_chance(prng, 1, 2) ? base->len : 0);
        uint64_t before = t_prng_magnitude(prng, 30);

        entries[nr + i] = (struct t_memory){
            .start = edge >= before ? edge - before : 0,
            .len = t_prng_magnitude(prng, 32),
            .usable = t_prng_chance(prng, 1, 3),
        };
    }
    return nr + more;
}

static void maps_of_real_machines(void **state)
{
    static struct t_e820_files files;
    static struct t_e820_map map;
    const unsigned rounds = MM_TEST_SANITIZED ? 4 : 20;
    struct t_prng prng;

    (void)state;
    t_prng_start(&prng, "boot map, real machines");
    t_e820_list(&files);
    assert_true(files.nr >= 40);
    for (size_t i = 0; i < files.nr; i++) {
        t_e820_read(files.name[i], &map);
        assert_true(map.nr > 0 && map.nr + 8 <= T_E820_ENTRIES_MAX);
        check_hazard_1(map.entries, map.nr, &prng);
        for (unsigned round = 0; round < rounds; round++) {
            struct t_memory *spoilt = calloc(map.nr + 8, sizeof(*spoilt));
            size_t nr = map.nr;

            assert_non_null(spoilt);
            memcpy(spoilt, map.entries, map.nr * sizeof(*spoilt));
            if (round % 2 != 0) {
                unalign(spoilt, nr, &prng);
            }
            if (round % 4 >= 2) {
                nr = overlay(spoilt, nr, &prng);
            }
            t_prng_shuffle(&prng, spoilt, nr, sizeof(*spoilt));
            check_hazard_1(spoilt, nr, &prng);
            free(spoilt);
        }
    }
}

static void maps_of_no_machine(void **state)
{
    enum { NR = 64 };
    static struct t_memory entries[NR];
    const unsigned rounds =
        (getenv("MM_TEST_FULL") != NULL ? 20 : 1) * (MM_TEST_SANITIZED ? 2 : 12);
    struct t_prng prng;

    (void)state;
    t_prng_start(&prng, "boot map, synthetic");
    for (unsigned flags = 0; flags <= T_SYNTH_ALL; flags++) {
        for (unsigned round = 0; round < rounds; round++) {
            size_t nr = t_prng_range(&prng, 1, NR);
            uint64_t span = UINT64_C(1) << t_prng_range(&prng, 21, 44);

            t_synth(&prng, flags, span, entries, nr);
            check_hazard_1(entries, nr, &prng);
        }
    }
}

static void a_map_of_thousands(void **state)
{
    enum { NR = 2000 };
    struct t_memory *entries = calloc(NR, sizeof(*entries));
    struct t_prng prng;

    (void)state;
    assert_non_null(entries);
    t_prng_start(&prng, "boot map, thousands");
    t_synth(&prng, T_SYNTH_ALL, UINT64_C(1) << 40, entries, NR);
    check_hazard_1(entries, NR, &prng);
    t_synth(&prng, T_SYNTH_UNALIGNED | T_SYNTH_TOUCHING, UINT64_C(1) << 36, entries, NR);
    check_hazard_1(entries, NR, &prng);
    free(entries);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_operations),
        cmocka_unit_test(maps_of_real_machines),
        cmocka_unit_test(maps_of_no_machine),
        cmocka_unit_test(a_map_of_thousands),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
