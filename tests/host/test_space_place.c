// SPDX-License-Identifier: MIT
/**
 * Where regions go: layouts, hints, alignment, the gaps of stacks, places for large leaves; and all
 * of it against a search page by page.
 */
#include "space_fixture.h"

#define P2M UINT64_C(0x200000)
#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

static mm_status_t create(struct fixture *f, struct mm_space_layout layout, struct mm_space **out)
{
    struct mm_space_config config = {.layout = layout};

    return mm_space_create_with(&f->spaces, &config, out);
}

static struct mm_space *laid_out(struct fixture *f, struct mm_space_layout layout)
{
    struct mm_space *s = NULL;

    assert_int_equal(create(f, layout, &s), MM_OK);
    return s;
}

static mm_status_t map(struct mm_space *s, struct mm_space_request request, uint64_t *at)
{
    mm_vaddr_t out = {7};
    mm_status_t status;

    request.prot = (request.flags & MM_SPACE_GUARD) != 0 ? MM_PROT_NONE : RW;
    status = mm_space_map(s, &request, &out);
    *at = out.raw;
    return status;
}

/* Map somewhere; 0: there is no place. */
static uint64_t anywhere(struct mm_space *s, uint64_t hint, uint64_t len, uint32_t flags)
{
    uint64_t at;
    mm_status_t status =
        map(s, (struct mm_space_request){.at = mm_vaddr(hint), .len = len, .flags = flags}, &at);

    if (status == MM_ERR_REGION_NOT_FOUND) {
        assert_int_equal(at, 7);
        return 0;
    }
    assert_int_equal(status, MM_OK);
    return at;
}

/* --- the layout ------------------------------------------------------------------------------- */

static void test_defaults(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    struct mm_space_layout layout;

    (void)state;
    assert_int_equal(mm_space_get_layout(s, &layout), MM_OK);
    assert_int_equal(layout.lowest, PAGE);
    assert_int_equal(layout.mmap_base, 0);
    assert_int_equal(layout.top, USER_LAST);
    assert_int_equal(layout.stack_gap, MIB);
    assert_int_equal(layout.stack_max, 8 * MIB);
    assert_int_equal(layout.random_bits, 0);
    assert_int_equal(anywhere(s, 0, PAGE, 0), PAGE);
    assert_int_equal(anywhere(s, 0, 3 * PAGE, 0), 2 * PAGE);
    put_last(f, s);

    s = laid_out(f, (struct mm_space_layout){.lowest = 16 * PAGE,
                                             .mmap_base = GIB,
                                             .top = 2 * GIB,
                                             .stack_gap = PAGE,
                                             .stack_max = 2 * PAGE});
    assert_int_equal(mm_space_get_layout(s, &layout), MM_OK);
    assert_int_equal(layout.lowest, 16 * PAGE);
    assert_int_equal(layout.mmap_base, GIB);
    assert_int_equal(layout.top, 2 * GIB);
    assert_int_equal(layout.stack_gap, PAGE);
    assert_int_equal(layout.stack_max, 2 * PAGE);
    layout.lowest = 77;
    assert_int_equal(mm_space_get_layout(NULL, &layout), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_space_get_layout(s, NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_space_get_layout(mm_space_kernel(&f->spaces), &layout), MM_ERR_UNSUPPORTED);
    assert_int_equal(layout.lowest, 77);
    put_last(f, s);
    fixture_stop(f);
}

static void test_bad_layouts(void **state)
{
    static const struct {
        struct mm_space_layout layout;
        mm_status_t want;
    } cases[] = {
        {{.lowest = PAGE + 1}, MM_ERR_NOT_ALIGNED},
        {{.mmap_base = GIB + 1}, MM_ERR_NOT_ALIGNED},
        {{.top = GIB - 1}, MM_ERR_NOT_ALIGNED},
        {{.stack_gap = 1}, MM_ERR_NOT_ALIGNED},
        {{.stack_max = UINT64_MAX}, MM_ERR_NOT_ALIGNED},
        {{.top = T_USER_LEN}, MM_ERR_INVALID_ADDRESS},
        {{.top = T_ARENA}, MM_ERR_INVALID_ADDRESS},
        {{.top = UINT64_MAX - PAGE + 1}, MM_ERR_INVALID_ADDRESS},
        {{.lowest = USER_LAST}, MM_ERR_INVALID_ADDRESS},
        {{.lowest = T_ARENA}, MM_ERR_INVALID_ADDRESS},
        {{.lowest = GIB, .top = GIB}, MM_ERR_INVALID_ADDRESS},
        {{.lowest = GIB + PAGE, .top = GIB}, MM_ERR_INVALID_ADDRESS},
        {{.lowest = GIB, .mmap_base = GIB - PAGE}, MM_ERR_INVALID_ADDRESS},
        {{.mmap_base = GIB + PAGE, .top = GIB}, MM_ERR_INVALID_ADDRESS},
        {{.mmap_base = T_USER_LEN}, MM_ERR_INVALID_ADDRESS},
        {{.mmap_base = T_ARENA}, MM_ERR_INVALID_ADDRESS},
        {{.random_bits = 1}, MM_ERR_INVALID_ARGUMENT},
        {{.mmap_base = GIB, .random_bits = 41}, MM_ERR_INVALID_ARGUMENT},
        {{.mmap_base = GIB, .random_bits = UINT32_MAX}, MM_ERR_INVALID_ARGUMENT},
        {{.mmap_base = GIB, .random_bits = 18}, MM_ERR_INVALID_ADDRESS}, /* 1 GiB: page 0 is none */
        {{.mmap_base = GIB, .random_bits = 40}, MM_ERR_INVALID_ADDRESS},
        {{.mmap_base = GIB + PAGE, .random_bits = 18}, MM_OK},
        {{.lowest = GIB, .mmap_base = GIB}, MM_OK},
        {{.mmap_base = GIB, .top = GIB}, MM_OK},
        {{.lowest = GIB, .top = GIB + PAGE}, MM_OK},
        {{.stack_gap = UINT64_C(1) << 63, .stack_max = UINT64_C(1) << 63}, MM_OK},
    };
    struct fixture *f = fixture_start(NULL);
    uint64_t free_before = t_machine_free_frames(&f->m);

    (void)state;
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct mm_space *s = NULL;

        assert_int_equal(create(f, cases[i].layout, &s), cases[i].want);
        if (cases[i].want == MM_OK) {
            put_last(f, s);
        }
        assert_true(t_machine_free_frames(&f->m) == free_before);
    }
    fixture_stop(f);
}

static uint64_t drawn;

static uint64_t draw(void *ctx)
{
    (void)ctx;
    return drawn;
}

/* The random op moves mmap_base down, by whole pages below 2^bits. */
static void test_random(void **state)
{
    static const uint64_t numbers[] = {0, 1, 255, 256, UINT64_MAX, UINT64_C(0x123456789abcdef)};
    static const struct mm_platform_ops ops = {.panic = t_platform_panic, .random = draw};
    static const struct mm_platform_ops without = {.panic = t_platform_panic};
    const struct mm_space_layout asked = {.mmap_base = 4 * GIB, .random_bits = 8};
    struct fixture *f = fixture_start(NULL);
    struct mm_platform kept = f->spaces.platform;
    struct mm_space_layout layout;
    struct mm_space *child;
    struct mm_space *s;

    (void)state;
    f->spaces.platform.ops = &ops;
    for (unsigned i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        drawn = numbers[i];
        s = laid_out(f, asked);
        drawn = 3;
        child = clone_of(s);
        assert_int_equal(mm_space_get_layout(s, &layout), MM_OK);
        assert_int_equal(layout.mmap_base, 4 * GIB - numbers[i] % 256 * PAGE);
        assert_int_equal(layout.random_bits, 8);
        assert_int_equal(anywhere(s, 0, PAGE, 0), layout.mmap_base - PAGE);
        assert_int_equal(anywhere(child, 0, PAGE, 0), layout.mmap_base - PAGE);
        put_last(f, child);
        put_last(f, s);
    }
    f->spaces.platform.ops = &without;
    s = laid_out(f, asked);
    assert_int_equal(anywhere(s, 0, PAGE, 0), 4 * GIB - PAGE);
    put_last(f, s);
    f->spaces.platform = kept;
    fixture_stop(f);
}

/* --- places ----------------------------------------------------------------------------------- */

/* Below mmap_base from high to low, then above it from low to high, at last across it. */
static void test_order(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = laid_out(
        f,
        (struct mm_space_layout){.lowest = 100 * PAGE, .mmap_base = 104 * PAGE, .top = 108 * PAGE});

    (void)state;
    assert_int_equal(anywhere(s, 0, PAGE, 0), 103 * PAGE);
    assert_int_equal(anywhere(s, 0, 2 * PAGE, 0), 101 * PAGE);
    assert_int_equal(anywhere(s, 0, 2 * PAGE, 0), 104 * PAGE);
    assert_int_equal(anywhere(s, 0, PAGE, 0), 100 * PAGE);
    assert_int_equal(anywhere(s, 0, PAGE, 0), 106 * PAGE);
    assert_int_equal(anywhere(s, 0, 2 * PAGE, 0), 0);
    assert_int_equal(unmap(s, 103 * PAGE, 2 * PAGE), MM_OK);
    assert_int_equal(anywhere(s, 0, 2 * PAGE, 0), 103 * PAGE);
    assert_int_equal(anywhere(s, 0, PAGE, 0), 107 * PAGE);
    assert_int_equal(anywhere(s, 0, PAGE, 0), 0);
    assert_int_equal(unmap(s, 100 * PAGE, 8 * PAGE), MM_OK);
    assert_int_equal(anywhere(s, 0, 9 * PAGE, 0), 0);
    assert_int_equal(anywhere(s, 0, 8 * PAGE, 0), 100 * PAGE);
    put_last(f, s);
    fixture_stop(f);
}

static void test_outside_the_layout(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s =
        laid_out(f, (struct mm_space_layout){.lowest = 100 * PAGE, .top = 108 * PAGE});
    uint64_t hash = state_hash(f, s);

    (void)state;
    assert_int_equal(map_at(s, 99 * PAGE, 2 * PAGE, RW, 0), MM_ERR_INVALID_ADDRESS);
    assert_int_equal(map_at(s, 99 * PAGE, PAGE, RW, MM_SPACE_REPLACE), MM_ERR_INVALID_ADDRESS);
    assert_int_equal(map_at(s, 107 * PAGE, 2 * PAGE, RW, 0), MM_ERR_INVALID_ADDRESS);
    assert_int_equal(map_at(s, 108 * PAGE, PAGE, RW, 0), MM_ERR_INVALID_ADDRESS);
    assert_true(state_hash(f, s) == hash);
    assert_int_equal(map_at(s, 100 * PAGE, 8 * PAGE, RW, 0), MM_OK);
    put_last(f, s);
    fixture_stop(f);
}

static void test_hint(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = laid_out(f, (struct mm_space_layout){.mmap_base = GIB, .top = 2 * GIB});
    uint64_t top = GIB; /* where the next goes that has no luck */
    uint64_t at;

    (void)state;
    assert_int_equal(anywhere(s, 50 * PAGE, 2 * PAGE, 0), 50 * PAGE);
    assert_int_equal(anywhere(s, 51 * PAGE, PAGE, 0), top -= PAGE);
    assert_int_equal(anywhere(s, 49 * PAGE, 2 * PAGE, 0), top -= 2 * PAGE);
    assert_int_equal(anywhere(s, 52 * PAGE, PAGE, 0), 52 * PAGE);
    assert_int_equal(anywhere(s, 2 * GIB - PAGE, PAGE, 0), 2 * GIB - PAGE);
    assert_int_equal(anywhere(s, 2 * GIB - 2 * PAGE, 2 * PAGE, 0), top -= 2 * PAGE);
    assert_int_equal(anywhere(s, 2 * GIB, PAGE, 0), top -= PAGE);
    assert_int_equal(anywhere(s, T_ARENA, PAGE, 0), top -= PAGE);
    assert_int_equal(anywhere(s, UINT64_MAX - PAGE + 1, PAGE, 0), top -= PAGE);
    assert_int_equal(anywhere(s, UINT64_MAX - PAGE + 1, 2 * PAGE, 0), top -= 2 * PAGE);
    /* It must be as aligned as what is asked for. */
    assert_int_equal(
        map(s, (struct mm_space_request){.at = mm_vaddr(61 * PAGE), .len = PAGE, .align = 4 * PAGE},
            &at),
        MM_OK);
    assert_int_equal(at, (top - PAGE) / (4 * PAGE) * (4 * PAGE));
    assert_int_equal(
        map(s, (struct mm_space_request){.at = mm_vaddr(64 * PAGE), .len = PAGE, .align = 4 * PAGE},
            &at),
        MM_OK);
    assert_int_equal(at, 64 * PAGE);
    assert_int_equal(
        map(s, (struct mm_space_request){.at = mm_vaddr(64 * PAGE + 1), .len = PAGE}, &at),
        MM_ERR_NOT_ALIGNED);
    assert_int_equal(mm_space_check(s), MM_OK);
    put_last(f, s);
    fixture_stop(f);
}

/* Multiples of 2 MiB first, but for a hint that is free; then anything. */
static void test_huge(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s =
        laid_out(f, (struct mm_space_layout){.mmap_base = GIB + 3 * PAGE, .top = GIB + 4 * PAGE});
    struct mm_space *low = laid_out(f, (struct mm_space_layout){.top = 2 * P2M});
    uint64_t at;

    (void)state;
    assert_int_equal(anywhere(s, 0, P2M - PAGE, MM_SPACE_HUGE), GIB + 4 * PAGE - P2M);
    assert_int_equal(unmap(s, GIB + 4 * PAGE - P2M, P2M - PAGE), MM_OK);
    assert_int_equal(anywhere(s, 0, P2M, MM_SPACE_HUGE), GIB - P2M);
    assert_int_equal(anywhere(s, 0, P2M + PAGE, MM_SPACE_HUGE), GIB - 3 * P2M);
    assert_int_equal(anywhere(s, 0, P2M, 0), GIB - 4 * P2M);
    assert_int_equal(anywhere(s, 33 * PAGE, P2M, MM_SPACE_HUGE), 33 * PAGE);
    assert_int_equal(anywhere(s, 33 * PAGE, P2M, MM_SPACE_HUGE), GIB - 5 * P2M);
    assert_int_equal(
        map(s, (struct mm_space_request){.len = P2M, .align = 4 * P2M, .flags = MM_SPACE_HUGE},
            &at),
        MM_OK);
    assert_int_equal(at, GIB - 8 * P2M);
    /* From page 1 to 4 MiB there is one multiple. */
    assert_int_equal(anywhere(low, 0, P2M, MM_SPACE_HUGE), P2M);
    assert_int_equal(anywhere(low, 0, P2M, MM_SPACE_HUGE), 0);
    assert_int_equal(unmap(low, P2M, P2M), MM_OK);
    assert_int_equal(map_at(low, 2 * P2M - PAGE, PAGE, RW, 0), MM_OK);
    assert_int_equal(anywhere(low, 0, P2M, MM_SPACE_HUGE), PAGE);
    put_last(f, low);
    put_last(f, s);
    fixture_stop(f);
}

/* --- stacks ----------------------------------------------------------------------------------- */

/* Nothing goes where a stack grows but what is told to; a guard may touch it. */
static void test_stack_gap(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = laid_out(f, (struct mm_space_layout){.lowest = 100 * PAGE,
                                                              .mmap_base = 120 * PAGE,
                                                              .top = 120 * PAGE,
                                                              .stack_gap = 4 * PAGE});

    (void)state;
    assert_int_equal(anywhere(s, 0, 2 * PAGE, MM_SPACE_STACK), 118 * PAGE);
    assert_int_equal(anywhere(s, 0, PAGE, 0), 113 * PAGE);
    assert_int_equal(anywhere(s, 115 * PAGE, PAGE, 0), 112 * PAGE);
    assert_int_equal(anywhere(s, 0, PAGE, MM_SPACE_STACK), 111 * PAGE);
    assert_int_equal(anywhere(s, 0, 2 * PAGE, 0), 105 * PAGE);
    /* A stack wants its gap too. */
    assert_int_equal(anywhere(s, 0, PAGE, MM_SPACE_STACK), 104 * PAGE);
    assert_int_equal(anywhere(s, 0, PAGE, MM_SPACE_STACK), 0);
    assert_int_equal(anywhere(s, 0, PAGE, 0), 0);
    assert_int_equal(unmap(s, 100 * PAGE, 12 * PAGE), MM_OK);
    assert_int_equal(anywhere(s, 110 * PAGE, PAGE, 0), 110 * PAGE);
    assert_int_equal(anywhere(s, 111 * PAGE, PAGE, MM_SPACE_STACK), 109 * PAGE);
    assert_int_equal(map_at(s, 114 * PAGE, PAGE, MM_PROT_NONE, MM_SPACE_GUARD), MM_OK);
    assert_int_equal(map_at(s, 117 * PAGE, PAGE, RW, 0), MM_OK);
    assert_int_equal(mm_space_check(s), MM_OK);
    put_last(f, s);
    fixture_stop(f);
}

/* --- against a search page by page ------------------------------------------------------------ */

#define PAGES 192u
#define GAP   3u

enum use { FREE, PLAIN, STACK, GUARD };

struct model {
    enum use page[PAGES]; /* page 0 and the last are nobody's */
    unsigned lowest, base, top;
};

static bool fits(const struct model *m, unsigned at, unsigned nr, bool stack)
{
    if (at < m->lowest || at + nr > m->top) {
        return false;
    }
    for (unsigned i = 0; i < nr; i++) {
        if (m->page[at + i] != FREE) {
            return false;
        }
    }
    for (unsigned i = 0; i < GAP && at + nr + i < PAGES; i++) {
        if (m->page[at + nr + i] != FREE) {
            if (m->page[at + nr + i] == STACK) {
                return false;
            }
            break;
        }
    }
    for (unsigned i = 1; stack && i <= GAP && i <= at; i++) {
        if (m->page[at - i] != FREE) {
            return m->page[at - i] == GUARD;
        }
    }
    return true;
}

/* A stack that nobody told where to go has its whole gap free, and in the part that is searched. */
static bool suits(const struct model *m, unsigned at, unsigned nr, unsigned align, bool stack,
                  unsigned low, unsigned high)
{
    unsigned gap = stack ? GAP : 0;

    return at % align == 0 && at >= low + gap && at + nr <= high &&
           fits(m, at - gap, nr + gap, false);
}

static unsigned find(const struct model *m, unsigned hint, unsigned nr, unsigned align, bool stack)
{
    if (hint != 0 && hint % align == 0 && fits(m, hint, nr, stack)) {
        return hint;
    }
    for (unsigned at = m->base; at-- > m->lowest;) {
        if (suits(m, at, nr, align, stack, m->lowest, m->base)) {
            return at;
        }
    }
    for (unsigned low = m->base;; low = m->lowest) {
        for (unsigned at = low; at < m->top; at++) {
            if (suits(m, at, nr, align, stack, low, m->top)) {
                return at;
            }
        }
        if (low == m->lowest) {
            return 0;
        }
    }
}

static void test_model(void **state)
{
    const struct t_machine_config small = {.user_len = PAGES * PAGE};
    struct fixture *f = fixture_start(&small);
    struct t_prng prng;

    (void)state;
    t_prng_seed(&prng, 12);
    for (unsigned round = 0; round < 60; round++) {
        struct model m = {.lowest = 1 + (unsigned)t_prng_below(&prng, 20),
                          .base = 40 + (unsigned)t_prng_below(&prng, 100),
                          .top = 160 + (unsigned)t_prng_below(&prng, PAGES - 160)};
        struct mm_space_layout layout = {.lowest = m.lowest * PAGE,
                                         .mmap_base = m.base * PAGE,
                                         .top = m.top * PAGE,
                                         .stack_gap = GAP * PAGE};
        struct mm_space *s;

        if (round % 3 == 0) {
            layout.mmap_base = 0;
            m.base = m.lowest;
        }
        s = laid_out(f, layout);
        for (unsigned i = 0; i < 300; i++) {
            unsigned nr = 1 + (unsigned)t_prng_below(&prng, 9);
            unsigned hint = t_prng_below(&prng, 3) == 0 ? (unsigned)t_prng_below(&prng, PAGES) : 0;
            unsigned align = 1u << t_prng_below(&prng, 4);
            unsigned kind = (unsigned)t_prng_below(&prng, 8);
            enum use use = kind == 0 ? GUARD : kind < 3 ? STACK : PLAIN;
            struct mm_space_request request = {.at = mm_vaddr(hint * PAGE),
                                               .len = nr * PAGE,
                                               .align = align * PAGE,
                                               .flags = use == GUARD   ? MM_SPACE_GUARD
                                                        : use == STACK ? MM_SPACE_STACK
                                                                       : 0};
            unsigned want = find(&m, hint, nr, align, use == STACK);
            uint64_t at = 0;

            if (i % 3 == 2) {
                unsigned start = m.lowest + (unsigned)t_prng_below(&prng, m.top - m.lowest);

                nr = start + nr > m.top ? m.top - start : nr;
                assert_int_equal(unmap(s, start * PAGE, nr * PAGE), MM_OK);
                memset(&m.page[start], 0, nr * sizeof(m.page[0]));
                continue;
            }
            assert_int_equal(map(s, request, &at), want != 0 ? MM_OK : MM_ERR_REGION_NOT_FOUND);
            assert_int_equal(at, want != 0 ? want * PAGE : 7);
            for (unsigned k = 0; want != 0 && k < nr; k++) {
                m.page[want + k] = use;
            }
        }
        assert_int_equal(mm_space_check(s), MM_OK);
        put_last(f, s);
    }
    fixture_stop(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_bad_layouts),
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_outside_the_layout),
        cmocka_unit_test(test_hint),
        cmocka_unit_test(test_huge),
        cmocka_unit_test(test_stack_gap),
        cmocka_unit_test(test_model),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
