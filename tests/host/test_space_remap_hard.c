// SPDX-License-Identifier: MIT
/**
 * mm_space_remap() when something runs out, under limits, of wired regions, and at random against a
 * flat model.
 */
#include "space_scarce.h"

#define AT    (UINT64_C(0x40000000) - 4 * PAGE) /* four pages below 1 GiB */
#define TO    (UINT64_C(1) << 40)
#define P2M   UINT64_C(0x200000)
#define MOVE  MM_SPACE_REMAP_MOVE
#define THERE (MM_SPACE_REMAP_MOVE | MM_SPACE_REMAP_FIXED)

static uint64_t moved_to;

static mm_status_t remap(struct mm_space *s, uint64_t at, uint64_t len, uint64_t new_len,
                         uint32_t flags, uint64_t to)
{
    mm_vaddr_t out = {7};
    mm_status_t status =
        mm_space_remap(s, mm_vrange(mm_vaddr(at), len), new_len, flags, mm_vaddr(to), &out);

    assert_true((out.raw == 7) == (status != MM_OK));
    moved_to = out.raw;
    return status;
}

static void fill(struct fixture *f, struct mm_space *s, uint64_t at, uint64_t nr, uint64_t base)
{
    for (uint64_t i = 0; i < nr; i++) {
        assert_true(store(f, s, at + i * PAGE, base + i));
    }
}

/* --- what runs out ---------------------------------------------------------------------------- */

/* The middle of a region, over three boundaries of tables, into the middle of another. */
static mm_status_t do_move(struct fixture *f, struct mm_space *s)
{
    (void)f;
    return remap(s, AT + PAGE, 6 * PAGE, 8 * PAGE, THERE, TO - 3 * PAGE);
}

static mm_status_t do_grow(struct fixture *f, struct mm_space *s)
{
    (void)f;
    return remap(s, AT, 12 * PAGE, 20 * PAGE, MOVE, 0);
}

static mm_status_t do_shrink(struct fixture *f, struct mm_space *s)
{
    (void)f;
    return remap(s, AT + PAGE, 6 * PAGE, 3 * PAGE, 0, 0);
}

/* Cuts of large leaves at both ends, of both places. */
static mm_status_t do_cut(struct fixture *f, struct mm_space *s)
{
    (void)f;
    return remap(s, 2 * P2M + 5 * PAGE, P2M, P2M - PAGE, THERE, 5 * P2M + 3 * PAGE);
}

static mm_status_t do_cut_off(struct fixture *f, struct mm_space *s)
{
    (void)f;
    return remap(s, 2 * P2M + 5 * PAGE, P2M, P2M / 2, 0, 0);
}

static void small(struct fixture *f, struct mm_space *s)
{
    assert_int_equal(map_at(s, AT, 12 * PAGE, RW, 0), MM_OK);
    assert_int_equal(map_at(s, AT + 12 * PAGE, PAGE, RX, 0), MM_OK);
    assert_int_equal(map_at(s, TO - 8 * PAGE, 16 * PAGE, MM_PROT_READ, MM_SPACE_POPULATE), MM_OK);
    fill(f, s, AT, 12, 1);
}

static void wired(struct fixture *f, struct mm_space *s)
{
    small(f, s);
    assert_int_equal(mm_space_wire(s, mm_vrange(mm_vaddr(AT), 12 * PAGE)), MM_OK);
}

static void wired_with_room(struct fixture *f, struct mm_space *s)
{
    wired(f, s);
    assert_int_equal(unmap(s, AT + 12 * PAGE, PAGE), MM_OK);
}

static void large(struct fixture *f, struct mm_space *s)
{
    assert_int_equal(map_at(s, 2 * P2M, 2 * P2M, RW, MM_SPACE_HUGE), MM_OK);
    assert_int_equal(map_at(s, 5 * P2M, 2 * P2M, RW, MM_SPACE_HUGE), MM_OK);
    for (unsigned i = 2; i < 7; i++) {
        if (i != 4) {
            fill(f, s, i * P2M, 1, i);
        }
    }
}

static void test_runs_out(void **state)
{
    static const struct t_machine_config machine = {.ram_len = 16 << 20};
    static const struct {
        scarce_fn call;
        void (*prepare)(struct fixture *f, struct mm_space *s);
        bool frames;
        bool nodes;
    } victims[] = {
        {do_move, small, true, true},    {do_grow, small, true, true},
        {do_shrink, small, false, true}, {do_move, wired, true, true},
        {do_grow, wired, true, true},    {do_grow, wired_with_room, true, false},
        {do_cut, large, true, true},     {do_cut_off, large, true, true},
    };

    (void)state;
    for (unsigned v = 0; v < sizeof(victims) / sizeof(victims[0]); v++) {
        for (unsigned nodes = 0; nodes < 2; nodes++) {
            struct fixture *f = fixture_start(&machine);
            struct mm_space *s = new_space(f);

            victims[v].prepare(f, s);
            if (nodes != 0) {
                assert_int_equal(scarce_nodes(f, s, victims[v].call) != 0, victims[v].nodes);
            } else {
                assert_int_equal(scarce_frames(f, s, victims[v].call) != 0, victims[v].frames);
            }
            put_last(f, s);
            fixture_stop(f);
        }
    }
}

/* --- charges ---------------------------------------------------------------------------------- */

static mm_status_t limit(struct mm_space *s, uint64_t mapped, uint64_t there)
{
    struct mm_space_limits limits = {.mapped_bytes = mapped, .resident_bytes = there};

    return mm_space_set_limits(s, &limits);
}

static void test_limits(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    uint64_t before;

    (void)state;
    assert_int_equal(map_at(s, AT, 8 * PAGE, RW, 0), MM_OK);
    assert_int_equal(map_at(s, TO, 4 * PAGE, RX, 0), MM_OK);
    fill(f, s, AT, 8, 1);
    assert_int_equal(limit(s, 12 * PAGE, 8 * PAGE), MM_OK);
    before = state_hash(f, s);
    assert_int_equal(remap(s, AT, 8 * PAGE, 9 * PAGE, 0, 0), MM_ERR_LIMIT);
    assert_int_equal(remap(s, AT, 8 * PAGE, 9 * PAGE, THERE, TO + 8 * PAGE), MM_ERR_LIMIT);
    assert_int_equal(remap(s, AT, 8 * PAGE, 13 * PAGE, THERE, TO), MM_ERR_LIMIT);
    assert_int_equal(state_hash(f, s), before);
    /* A move takes nothing, and what is replaced pays for what is new. */
    assert_int_equal(remap(s, AT, 8 * PAGE, 8 * PAGE, THERE, TO + 8 * PAGE), MM_OK);
    assert_int_equal(remap(s, TO + 8 * PAGE, 8 * PAGE, 12 * PAGE, THERE, TO - 8 * PAGE), MM_OK);
    assert_int_equal(map_at(s, AT, PAGE, RW, 0), MM_ERR_LIMIT);
    assert_int_equal(remap(s, TO - 8 * PAGE, 12 * PAGE, 11 * PAGE, 0, 0), MM_OK);
    assert_int_equal(map_at(s, AT, PAGE, RW, 0), MM_OK);
    /* Pages that are there: only what is new counts. */
    assert_int_equal(limit(s, 0, 10 * PAGE), MM_OK);
    assert_int_equal(mm_space_wire(s, mm_vrange(mm_vaddr(AT), PAGE)), MM_OK);
    assert_int_equal(resident(s), 9 * PAGE);
    before = state_hash(f, s);
    assert_int_equal(remap(s, AT, PAGE, 3 * PAGE, 0, 0), MM_ERR_LIMIT);
    assert_int_equal(remap(s, AT, PAGE, 3 * PAGE, THERE, TO + 8 * PAGE), MM_ERR_LIMIT);
    assert_int_equal(state_hash(f, s), before);
    assert_int_equal(remap(s, AT, PAGE, 2 * PAGE, THERE, TO + 8 * PAGE), MM_OK);
    assert_int_equal(resident(s), 10 * PAGE);
    assert_true(frame_at(s, TO + 9 * PAGE) != 0);
    assert_int_equal(mm_space_check(s), MM_OK);
    put_last(f, s);
    fixture_stop(f);
}

static uint64_t promised(struct mm_space *s)
{
    struct mm_space_stats stats;

    assert_int_equal(mm_space_get_stats(s, &stats), MM_OK);
    return stats.committed_bytes / PAGE;
}

static void test_promises(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_spaces_config config = fixture_config(f);
    struct mm_spaces_stats stats;
    struct mm_space *s;
    uint64_t before;

    (void)state;
    assert_int_equal(mm_spaces_destroy(&f->spaces), MM_OK);
    config.commit = MM_COMMIT_NEVER;
    config.commit_pages = 20;
    assert_int_equal(mm_spaces_init(&f->spaces, &config), MM_OK);
    s = new_space(f);
    assert_int_equal(map_at(s, AT, 12 * PAGE, RW, 0), MM_OK);
    assert_int_equal(map_at(s, TO, 8 * PAGE, RW, 0), MM_OK);
    fill(f, s, AT, 12, 1);
    before = state_hash(f, s);
    assert_int_equal(remap(s, AT, 12 * PAGE, 13 * PAGE, 0, 0), MM_ERR_NO_MEMORY);
    assert_int_equal(remap(s, AT, 12 * PAGE, 13 * PAGE, THERE, TO + PAGE), MM_ERR_NO_MEMORY);
    assert_int_equal(state_hash(f, s), before);
    assert_int_equal(promised(s), 20);
    assert_int_equal(remap(s, AT, 12 * PAGE, 12 * PAGE, THERE, TO + 6 * PAGE), MM_OK);
    assert_int_equal(promised(s), 18);
    assert_int_equal(remap(s, TO, 4 * PAGE, 6 * PAGE, MOVE, 0), MM_OK);
    assert_int_equal(promised(s), 20);
    assert_int_equal(remap(s, moved_to, 6 * PAGE, PAGE, THERE, AT), MM_OK);
    assert_int_equal(promised(s), 15);
    assert_int_equal(mm_spaces_get_stats(&f->spaces, &stats), MM_OK);
    assert_int_equal(stats.nr_committed, 15);
    put_last(f, s);
    assert_int_equal(mm_spaces_get_stats(&f->spaces, &stats), MM_OK);
    assert_int_equal(stats.nr_committed, 0);
    fixture_stop(f);
}

/* --- at random -------------------------------------------------------------------------------- */

#define WINDOW    1600u /* pages of the model, from BASE on */
#define BASE      (UINT64_C(0x40000000) - 800 * PAGE)
#define NR_ROUNDS 400u

enum { HOLE, ZERO, FIRST }; /* what a page holds; from FIRST on: that value */

static uint32_t model[WINDOW];

static uint64_t at_page(unsigned i)
{
    return BASE + i * PAGE;
}

/* Pages from `i` on that are mapped. All regions are alike, so they are one. */
static unsigned mapped_from(unsigned i)
{
    unsigned n = 0;

    while (i + n < WINDOW && model[i + n] != HOLE) {
        n++;
    }
    return n;
}

static unsigned below(struct t_prng *prng, unsigned n)
{
    return (unsigned)t_prng_below(prng, n);
}

static void random_map(struct mm_space *s, struct t_prng *prng)
{
    unsigned n = 1 + below(prng, 600);
    unsigned i = below(prng, WINDOW - n);

    for (unsigned j = 0; j < n; j++) {
        if (model[i + j] != HOLE) {
            return;
        }
    }
    assert_int_equal(map_at(s, at_page(i), n * PAGE, RW, MM_SPACE_HUGE), MM_OK);
    for (unsigned j = 0; j < n; j++) {
        model[i + j] = ZERO;
    }
}

static void random_move(struct mm_space *s, struct t_prng *prng)
{
    static uint32_t moved[WINDOW];
    unsigned i = below(prng, WINDOW);
    unsigned n = mapped_from(i);
    unsigned now;
    unsigned to;

    if (n == 0) {
        return;
    }
    n = 1 + below(prng, n);
    now = below(prng, 3) == 0 ? 1 + below(prng, 2 * n) : n;
    to = below(prng, 3) == 0 ? i % 512 + below(prng, 3) * 512 : below(prng, WINDOW);
    if (to + now > WINDOW || (to < i + n && i < to + now)) {
        return;
    }
    assert_int_equal(remap(s, at_page(i), n * PAGE, now * PAGE, THERE, at_page(to)), MM_OK);
    for (unsigned j = 0; j < n; j++) {
        moved[j] = model[i + j];
        model[i + j] = HOLE;
    }
    for (unsigned j = 0; j < now; j++) {
        model[to + j] = j < n ? moved[j] : ZERO;
    }
}

static void random_shrink(struct mm_space *s, struct t_prng *prng)
{
    unsigned i = below(prng, WINDOW);
    unsigned n = mapped_from(i);
    unsigned now;

    if (n == 0) {
        return;
    }
    now = 1 + below(prng, n);
    assert_int_equal(remap(s, at_page(i), n * PAGE, now * PAGE, 0, 0), MM_OK);
    for (unsigned j = now; j < n; j++) {
        model[i + j] = HOLE;
    }
}

static void random_store(struct fixture *f, struct mm_space *s, struct t_prng *prng, uint32_t value)
{
    unsigned i = below(prng, WINDOW);

    if (model[i] != HOLE) {
        assert_true(store(f, s, at_page(i), value));
        model[i] = value;
    }
}

static void compare(struct fixture *f, struct mm_space *s)
{
    for (unsigned i = 0; i < WINDOW; i++) {
        uint64_t frame = frame_at(s, at_page(i));
        struct mm_region_info info;

        assert_int_equal(mm_space_find(s, mm_vaddr(at_page(i)), &info) == MM_OK, model[i] != HOLE);
        if (frame != 0) {
            uint64_t value = *(const uint64_t *)t_machine_ptr(&f->m, frame << 12);

            assert_int_equal(value, model[i] < FIRST ? 0 : model[i]);
        } else {
            assert_true(model[i] < FIRST);
        }
    }
    assert_int_equal(mm_space_check(s), MM_OK);
    nothing_stale(f);
}

static void test_random(void **state)
{
    static const struct t_machine_config machine = {.ram_len = 32 << 20};
    struct fixture *f = fixture_start(&machine);
    struct mm_space *s = new_space(f);
    struct t_prng prng;

    (void)state;
    t_prng_start(&prng, "remap");
    memset(model, 0, sizeof(model));
    for (uint32_t round = 0; round < NR_ROUNDS; round++) {
        unsigned what = below(&prng, 8);

        run_in(f, s);
        if (what == 0) {
            random_map(s, &prng);
        } else if (what < 4) {
            random_move(s, &prng);
        } else if (what == 4 && round % 4 == 0) {
            random_shrink(s, &prng);
        } else {
            for (unsigned i = 0; i < 8; i++) {
                random_store(f, s, &prng, FIRST + round * 8 + i);
            }
        }
        if (what < 4) {
            compare(f, s);
        }
    }
    put_last(f, s);
    fixture_stop(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_runs_out),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_promises),
        cmocka_unit_test(test_random),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
