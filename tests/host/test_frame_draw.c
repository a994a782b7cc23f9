// SPDX-License-Identifier: MIT
/**
 * Seeing it: the index of fragmentation, the drawing and the pieces, each against its definition,
 * computed frame by frame over a plain array: memory with holes and odd edges, of several nodes,
 * some of it absent, in random states.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "frame_rig.h"
#include "numa_blob.h"
#include "prng.h"

#define FRAMES_MAX (5 * GIB / 4096)
#define NODES_MAX  4u
#define DRAWN_MAX  4096u

enum state { FOREIGN, FREE, USED, ABSENT };

struct plain {
    uint8_t state; /* enum state */
    uint8_t node;
    uint16_t piece; /* blocks do not cross from one to the next: 0 is frame 0 */
};

struct world {
    struct rig rig;
    struct mm_numa numa;
    struct mm_numa_range ranges[MM_NUMA_CAPACITY(NODES_MAX)];
    struct mm_numa_cpu cpus[1];
    struct numa_blob blob;
    struct t_prng prng;
    uint64_t end; /* no frame of the model from here on */
    struct plain frames[FRAMES_MAX];
};

static struct world w;

static uint64_t below(uint64_t n)
{
    return t_prng_below(&w.prng, n);
}

/* --- worlds ----------------------------------------------------------------------------------- */

static void begin(uint64_t end)
{
    memset(&w.rig, 0, sizeof(w.rig));
    memset(&w.numa, 0, sizeof(w.numa));
    w.end = end;
    memset(w.frames, 0, end * sizeof(w.frames[0]));
    assert_int_equal(
        mm_bootmap_init(&w.rig.map, w.rig.entries, MM_BOOTMAP_CAPACITY(RIG_RANGES_MAX)), MM_OK);
    numa_srat(&w.blob, 3);
}

static void add(uint64_t first, uint64_t nr, enum mm_boot_kind kind)
{
    assert_true(first + nr <= w.end);
    assert_int_equal(mm_bootmap_add(&w.rig.map, mm_prange(mm_paddr(first * 4096), nr * 4096), kind),
                     MM_OK);
    for (uint64_t i = first; i < first + nr; i++) {
        w.frames[i].state = kind == MM_BOOT_USABLE ? FREE : ABSENT;
    }
}

/* The node of [first, first + nr); the SRAT has no gap. */
static void place(uint64_t first, uint64_t nr, uint32_t node)
{
    (void)numa_memory(&w.blob, node + 7, first * 4096, nr * 4096, 1);
    for (uint64_t i = first; i < first + nr && i < w.end; i++) {
        w.frames[i].node = (uint8_t)node;
    }
}

static bool managed(uint64_t pfn)
{
    return pfn < w.end && w.frames[pfn].state != FOREIGN;
}

/* A new piece where memory begins, behind frame 0, where the node changes, or what was absent ends.
 */
static void number_pieces(void)
{
    uint16_t piece = 0;

    for (uint64_t i = 1; i < w.end; i++) {
        const struct plain *before = &w.frames[i - 1];

        if (i == 1 || before->state != w.frames[i].state || before->node != w.frames[i].node) {
            piece++;
        }
        w.frames[i].piece = piece;
    }
}

static void start(void)
{
    struct mm_frames_config *config = &w.rig.config;

    number_pieces();
    numa_end(&w.blob);
    assert_int_equal(mm_numa_init(&w.numa, w.ranges, MM_NUMA_CAPACITY(NODES_MAX), w.cpus, 1),
                     MM_OK);
    assert_int_equal(mm_numa_read_srat(&w.numa, w.blob.bytes, w.blob.len, NULL), MM_OK);
    *config = (struct mm_frames_config){
        .map = &w.rig.map,
        .platform = rig_platform(&w.rig),
        .nr_cpus = 1,
        .numa = &w.numa,
        .later_kinds = MM_BOOT_BIT(MM_BOOT_BOOTLOADER),
    };
    assert_int_equal(mm_frame_metadata_size(config, &config->metadata_len), MM_OK);
    config->metadata = aligned_alloc(MM_CACHE_LINE, config->metadata_len);
    assert_non_null(config->metadata);
    memset(config->metadata, 0, config->metadata_len);
    assert_int_equal(mm_frame_init(&w.rig.frames, config), MM_OK);
}

/* --- definitions ------------------------------------------------------------------------------ */

static bool block_is_free(uint64_t first, uint64_t size)
{
    for (uint64_t i = first; i < first + size; i++) {
        if (i >= w.end || w.frames[i].state != FREE || w.frames[i].piece != w.frames[first].piece) {
            return false;
        }
    }
    return true;
}

static uint32_t index_of(uint32_t order)
{
    uint64_t size = UINT64_C(1) << order;
    uint64_t nr_free = 0;
    uint64_t nr_blocks = 0;

    for (uint64_t i = 0; i < w.end; i++) {
        nr_free += w.frames[i].state == FREE;
        nr_blocks += i % size == 0 && block_is_free(i, size);
    }
    return nr_free == 0 ? 0 : (uint32_t)((nr_free - size * nr_blocks) * 1000 / nr_free);
}

static char character_of(uint64_t first, uint64_t size)
{
    uint64_t nr_used = 0;
    uint64_t nr = 0;

    for (uint64_t i = first; i < first + size && i < w.end; i++) {
        nr += w.frames[i].state == FREE || w.frames[i].state == USED;
        nr_used += w.frames[i].state == USED;
    }
    if (nr == 0) {
        return ' ';
    }
    for (unsigned tenths = 9; tenths > 1; tenths--) {
        if (nr_used < nr && nr_used * 10 >= nr * tenths) {
            return "0123456789"[tenths];
        }
    }
    return nr_used == 0 ? '.' : nr_used == nr ? '#' : '1';
}

static enum mm_zone zone_of(uint64_t pfn)
{
    return pfn < 16 * MIB / 4096  ? MM_ZONE_DMA
           : pfn < 4 * GIB / 4096 ? MM_ZONE_DMA32
                                  : MM_ZONE_NORMAL;
}

static void check_index(void)
{
    for (uint32_t order = 0; order <= MM_FRAME_MAX_ORDER; order++) {
        uint32_t out = 4711;

        assert_int_equal(mm_frame_fragmentation(&w.rig.frames, order, &out), MM_OK);
        assert_int_equal(out, index_of(order));
    }
}

static void check_drawing(uint32_t order)
{
    static char out[DRAWN_MAX + 1];
    uint64_t blocks = (w.end >> order) + 2;
    uint64_t from = below(2) == 0 ? 0 : below(blocks);
    size_t len = (size_t)(blocks - from < DRAWN_MAX ? blocks - from : DRAWN_MAX);

    memset(out, '?', sizeof(out));
    assert_int_equal(mm_frame_draw(&w.rig.frames, mm_pfn(from << order), order, out, len), MM_OK);
    for (size_t i = 0; i < len; i++) {
        char right = character_of((from + i) << order, UINT64_C(1) << order);

        if (out[i] != right) {
            fail_msg("order %u, block %llu: '%c', not '%c'", order, (unsigned long long)(from + i),
                     out[i], right);
        }
    }
    assert_int_equal(out[len], '?');
}

/* Where the piece that holds a frame ends. */
static uint64_t piece_end(uint64_t pfn)
{
    uint64_t end = pfn + 1;

    while (managed(end) && w.frames[end].node == w.frames[pfn].node &&
           zone_of(end) == zone_of(pfn)) {
        end++;
    }
    return end;
}

static uint64_t check_piece(uint64_t from)
{
    struct mm_prange out = {{1}, 2};
    uint32_t node = 77;
    enum mm_zone zone = (enum mm_zone)77;
    mm_status_t status = mm_frame_next_memory(&w.rig.frames, mm_pfn(from), &out, &node, &zone);

    while (from < w.end && !managed(from)) {
        from++;
    }
    if (from >= w.end) {
        assert_int_equal(status, MM_ERR_REGION_NOT_FOUND);
        assert_true(out.start.raw == 1 && out.len == 2 && node == 77 && zone == 77);
        return UINT64_MAX;
    }
    assert_int_equal(status, MM_OK);
    assert_int_equal(out.start.raw, from * 4096);
    assert_int_equal(out.len, (piece_end(from) - from) * 4096);
    assert_int_equal(node, w.frames[from].node);
    assert_int_equal(zone, zone_of(from));
    return from + out.len / 4096;
}

static void check_pieces(void)
{
    for (uint64_t at = 0; at != UINT64_MAX; at = check_piece(at)) {
    }
    for (unsigned i = 0; i < 50; i++) {
        (void)check_piece(below(w.end + 5));
    }
    (void)check_piece(UINT64_MAX);
}

static void check_all(void)
{
    check_index();
    for (uint32_t order = 0; order <= MM_FRAME_MAX_ORDER; order++) {
        check_drawing(order);
    }
}

/* --- states ----------------------------------------------------------------------------------- */

static bool all_in(uint64_t first, uint64_t nr, enum state state)
{
    for (uint64_t i = first; i < first + nr; i++) {
        if (i >= w.end || w.frames[i].state != state) {
            return false;
        }
    }
    return true;
}

static void set(uint64_t first, uint64_t nr, enum state state)
{
    for (uint64_t i = first; i < first + nr; i++) {
        w.frames[i].state = (uint8_t)state;
    }
}

/* Take runs at random, from one frame to many lines, and free such. */
static void change(unsigned turns, unsigned bits)
{
    for (unsigned i = 0; i < turns; i++) {
        uint64_t nr = 1 + t_prng_magnitude(&w.prng, bits);
        uint64_t first = below(w.end);

        first = mm_align_down(first, UINT64_C(1) << below(10));
        if (all_in(first, nr, FREE)) {
            assert_int_equal(mm_frame_alloc_at(&w.rig.frames, mm_pfn(first), nr), MM_OK);
            set(first, nr, USED);
        } else if (all_in(first, nr, USED)) {
            mm_frame_free_run(&w.rig.frames, mm_pfn(first), nr);
            set(first, nr, FREE);
        }
    }
}

/* Everything that is left. */
static void take_all(void)
{
    mm_pfn_t pfn;

    while (mm_frame_alloc_on(&w.rig.frames, 0, &pfn) == MM_OK) {
        w.frames[pfn.raw].state = USED;
    }
    if (w.frames[0].state == FREE) {
        assert_int_equal(mm_frame_alloc_at(&w.rig.frames, mm_pfn(0), 1), MM_OK);
        w.frames[0].state = USED;
    }
}

/* --- tests ------------------------------------------------------------------------------------ */

static void random_memory(uint64_t end)
{
    uint64_t at = below(2) == 0 ? 0 : below(700);
    uint64_t nodes = 1 + below(NODES_MAX);
    uint64_t from = 0;

    begin(end);
    for (unsigned i = 0; i < 24 && at < end; i++) {
        uint64_t nr = 1 + t_prng_magnitude(&w.prng, 12);

        nr = nr < end - at ? nr : end - at;
        add(at, nr, i != 0 && below(4) == 0 ? MM_BOOT_BOOTLOADER : MM_BOOT_USABLE);
        at += nr + (below(3) == 0 ? 0 : t_prng_magnitude(&w.prng, 11));
    }
    for (uint32_t node = 0; node < nodes; node++) {
        uint64_t to = node + 1 == nodes ? 2 * FRAMES_MAX : from + 1 + below(2 * end / nodes);

        place(from, to - from, node);
        from = to;
    }
    start();
}

static void small_memories(void **state)
{
    (void)state;
    t_prng_start(&w.prng, "frame_draw");
    for (unsigned i = 0; i < (MM_TEST_SANITIZED ? 10 : 40); i++) {
        random_memory(below(3) == 0 ? 40000 : 12000);
        check_all(); /* all is free */
        check_pieces();
        for (unsigned turn = 0; turn < 4; turn++) {
            change(turn < 2 ? 60 : 2000, turn < 2 ? 10 : 4);
            check_all();
        }
        take_all();
        check_all();
        check_pieces();
        rig_stop(&w.rig);
    }
}

/* Two blocks of 1 GiB, one of them cut by a node; both ends of the 4 GiB; odd edges. */
static void large_memory(void **state)
{
    (void)state;
    t_prng_start(&w.prng, "frame_draw large");
    begin(FRAMES_MAX);
    add(0, 159, MM_BOOT_USABLE);
    add(256, 3 * GIB / 4096 - 256 - 100, MM_BOOT_USABLE);
    add(4 * GIB / 4096 - 300, 200, MM_BOOT_BOOTLOADER);
    add(4 * GIB / 4096 - 100, 100, MM_BOOT_USABLE);
    add(4 * GIB / 4096, GIB / 4096, MM_BOOT_USABLE);
    place(0, 3 * GIB / 4096 / 2 + 77, 0);
    place(3 * GIB / 4096 / 2 + 77, 2 * FRAMES_MAX, 1);
    start();
    check_index();
    check_pieces();
    check_drawing(18);
    check_drawing(9);
    for (unsigned i = 0; i < 3; i++) {
        change(300, 18 - 6 * i);
        check_index();
        check_drawing(18);
        check_drawing(17);
        check_drawing(9);
    }
    rig_stop(&w.rig);
}

/* By hand: 8 MiB, of which 1 frame is taken, then all of a line, then all. */
static void by_hand(void **state)
{
    static const uint64_t memory[] = {2 * MIB, 8 * MIB, 0, 0};
    struct rig rig;
    uint32_t out = 0;
    char drawn[6];

    (void)state;
    rig_start(&rig, memory, 1, 0);
    assert_int_equal(mm_frame_fragmentation(&rig.frames, 9, &out), MM_OK);
    assert_int_equal(out, 0);
    assert_int_equal(mm_frame_alloc_at(&rig.frames, mm_pfn(513), 1), MM_OK);
    assert_int_equal(mm_frame_fragmentation(&rig.frames, 0, &out), MM_OK);
    assert_int_equal(out, 0);
    assert_int_equal(mm_frame_fragmentation(&rig.frames, 9, &out), MM_OK);
    assert_int_equal(out, 249); /* 511 of 2047 */
    assert_int_equal(mm_frame_fragmentation(&rig.frames, 11, &out), MM_OK);
    assert_int_equal(out, 1000);
    assert_int_equal(mm_frame_alloc_at(&rig.frames, mm_pfn(1024), 512), MM_OK);
    assert_int_equal(mm_frame_draw(&rig.frames, mm_pfn(0), 9, drawn, 6), MM_OK);
    assert_memory_equal(drawn, " 1#.. ", 6);
    mm_frame_free(&rig.frames, mm_pfn(1024), 0);
    assert_int_equal(mm_frame_draw(&rig.frames, mm_pfn(1024), 9, drawn, 1), MM_OK);
    assert_int_equal(drawn[0], '9');
    assert_int_equal(mm_frame_alloc_at(&rig.frames, mm_pfn(1024), 1), MM_OK);
    assert_int_equal(mm_frame_alloc_at(&rig.frames, mm_pfn(514), 510), MM_OK);
    assert_int_equal(mm_frame_alloc_at(&rig.frames, mm_pfn(512), 1), MM_OK);
    assert_int_equal(mm_frame_alloc_at(&rig.frames, mm_pfn(1536), 1024), MM_OK);
    assert_int_equal(mm_frame_fragmentation(&rig.frames, 5, &out), MM_OK);
    assert_int_equal(out, 0); /* nothing is free */
    rig_stop(&rig);
}

static void bad_input(void **state)
{
    static const uint64_t memory[] = {2 * MIB, 8 * MIB, 0, 0};
    static const struct mm_frames none;
    const uint64_t end = UINT64_C(1) << 40;
    struct rig rig;
    uint32_t out = 77;
    char drawn[2] = "?";

    (void)state;
    rig_start(&rig, memory, 1, 0);
    assert_int_equal(mm_frame_fragmentation(NULL, 0, &out), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_frame_fragmentation(&none, 0, &out), MM_ERR_NOT_INITIALIZED);
    assert_int_equal(mm_frame_fragmentation(&rig.frames, 19, &out), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_frame_fragmentation(&rig.frames, 0, NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(out, 77);

    assert_int_equal(mm_frame_draw(NULL, mm_pfn(0), 0, drawn, 1), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_frame_draw(&none, mm_pfn(0), 0, drawn, 1), MM_ERR_NOT_INITIALIZED);
    assert_int_equal(mm_frame_draw(&rig.frames, mm_pfn(0), 0, NULL, 1), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_frame_draw(&rig.frames, mm_pfn(0), 19, drawn, 1), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_frame_draw(&rig.frames, mm_pfn(511), 9, drawn, 1), MM_ERR_NOT_ALIGNED);
    assert_int_equal(mm_frame_draw(&rig.frames, mm_pfn(256), 9, drawn, 1), MM_ERR_NOT_ALIGNED);
    assert_int_equal(mm_frame_draw(&rig.frames, mm_pfn(end), 9, drawn, 1), MM_ERR_INVALID_SIZE);
    assert_int_equal(mm_frame_draw(&rig.frames, mm_pfn(end - 512), 9, drawn, 2),
                     MM_ERR_INVALID_SIZE);
    assert_int_equal(mm_frame_draw(&rig.frames, mm_pfn(UINT64_MAX - 511), 9, drawn, 1),
                     MM_ERR_INVALID_SIZE);
    assert_int_equal(mm_frame_draw(&rig.frames, mm_pfn(0), 18, drawn, SIZE_MAX),
                     MM_ERR_INVALID_SIZE);
    /* More blocks than 2^64 frames: they come to one modulo that. */
    assert_int_equal(mm_frame_draw(&rig.frames, mm_pfn(0), 18, drawn, (UINT64_C(1) << 46) + 1),
                     MM_ERR_INVALID_SIZE);
    assert_int_equal(mm_frame_draw(&rig.frames, mm_pfn(512), 9, drawn, 0), MM_OK);
    assert_int_equal(mm_frame_draw(&rig.frames, mm_pfn(end), 9, drawn, 0), MM_OK);
    assert_int_equal(drawn[0], '?');
    assert_int_equal(mm_frame_draw(&rig.frames, mm_pfn(end - 512), 9, drawn, 1), MM_OK);
    assert_int_equal(drawn[0], ' ');

    assert_int_equal(mm_frame_next_memory(NULL, mm_pfn(0), NULL, NULL, NULL),
                     MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_frame_next_memory(&none, mm_pfn(0), NULL, NULL, NULL),
                     MM_ERR_NOT_INITIALIZED);
    assert_int_equal(mm_frame_next_memory(&rig.frames, mm_pfn(0), NULL, NULL, NULL), MM_OK);
    rig_stop(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(by_hand),
        cmocka_unit_test(bad_input),
        cmocka_unit_test(small_memories),
        cmocka_unit_test(large_memory),
    };

    t_seed_print();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
