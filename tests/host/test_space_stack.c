// SPDX-License-Identifier: MIT
/**
 * Stacks that grow: by what, how far, and what stops them (hazard 21).
 */
#include "space_fixture.h"

#define TOP (UINT64_C(4096) * PAGE) /* of the stack */
#define GAP (UINT64_C(16) * PAGE)
#define MAX (UINT64_C(64) * PAGE)

static struct mm_space_stats stats_of(struct mm_space *s)
{
    struct mm_space_stats stats;

    assert_int_equal(mm_space_get_stats(s, &stats), MM_OK);
    return stats;
}

static struct mm_space *space_with(struct mm_spaces *spaces, const struct mm_space_config *config)
{
    struct mm_space *s = NULL;

    assert_int_equal(mm_space_create_with(spaces, config, &s), MM_OK);
    return s;
}

/* A space with a small gap and small stacks, and a stack of two pages in it. */
static struct mm_space *start_stack(struct fixture *f, uint32_t flags)
{
    static const struct mm_space_config config = {
        .layout = {.lowest = 8 * PAGE, .stack_gap = GAP, .stack_max = MAX}};
    struct mm_space *s = space_with(&f->spaces, &config);

    assert_int_equal(map_at(s, TOP - 2 * PAGE, 2 * PAGE, RW, MM_SPACE_STACK | flags), MM_OK);
    return s;
}

static uint64_t start_of(struct mm_space *s)
{
    struct mm_region_info info;
    uint64_t start = 0;

    for (mm_vaddr_t at = {0}; mm_space_next(s, at, &info) == MM_OK;
         at = mm_vaddr(info.range.start.raw + info.range.len)) {
        start = (info.flags & MM_SPACE_STACK) != 0 ? info.range.start.raw : start;
    }
    return start;
}

static enum mm_fault_result fault_at(struct mm_space *s, uint64_t at, uint32_t flags)
{
    const struct mm_fault fault = {.at = mm_vaddr(at), .flags = flags};
    enum mm_fault_result got = MM_FAULT_PENDING;

    assert_int_equal(mm_space_fault(s, &fault, &got), MM_OK);
    return got;
}

/* The fault is answered so, and nothing has changed. */
static void refused(struct fixture *f, struct mm_space *s, uint64_t at, uint32_t flags,
                    enum mm_fault_result want)
{
    uint64_t before = state_hash(f, s);
    uint64_t start = start_of(s);
    uint64_t nr = stats_of(s).nr_stack_growths;

    assert_int_equal(fault_at(s, at, flags), want);
    assert_int_equal(state_hash(f, s), before);
    assert_int_equal(start_of(s), start);
    assert_int_equal(stats_of(s).nr_stack_growths, nr);
    assert_int_equal(mm_space_check(s), MM_OK);
}

static void test_grows_by_touch(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = start_stack(f, 0);
    struct mm_space_stats stats;

    (void)state;
    assert_true(store(f, s, TOP - 8, 1));
    assert_int_equal(stats_of(s).nr_stack_growths, 0);
    assert_true(store(f, s, TOP - 2 * PAGE - 8, 2)); /* the page below */
    assert_int_equal(f->nr_faults, 1);
    assert_int_equal(f->last, MM_FAULT_ZERO);
    assert_int_equal(start_of(s), TOP - 3 * PAGE);
    assert_true(store(f, s, TOP - 10 * PAGE + 64, 3)); /* and one far below */
    assert_int_equal(start_of(s), TOP - 10 * PAGE);
    assert_int_equal(loaded(f, s, TOP - 12 * PAGE), 0); /* a read, too: the zero page */
    assert_int_equal(start_of(s), TOP - 12 * PAGE);
    stats = stats_of(s);
    assert_int_equal(stats.nr_stack_growths, 3);
    assert_int_equal(stats.nr_regions, 1);
    assert_int_equal(stats.mapped_bytes, 12 * PAGE);
    assert_int_equal(stats.resident_bytes, 4 * PAGE); /* what was touched, and nothing between */
    assert_int_equal(stats.nr_faults[MM_FAULT_ZERO], 4);
    assert_int_equal(stats.nr_zero_page, 1);
    assert_int_equal(loaded(f, s, TOP - 5 * PAGE), 0); /* between: no growth */
    assert_int_equal(stats_of(s).nr_stack_growths, 3);
    assert_int_equal(loaded(f, s, TOP - 8), 1);
    assert_int_equal(loaded(f, s, TOP - 2 * PAGE - 8), 2);
    assert_int_equal(loaded(f, s, TOP - 10 * PAGE + 64), 3);
    /* So does the kernel's own access, as when it copies an argument there. */
    assert_int_equal(fault_at(s, TOP - 14 * PAGE, MM_FAULT_WRITE), MM_FAULT_ZERO);
    assert_int_equal(start_of(s), TOP - 14 * PAGE);
    assert_int_equal(mm_space_check(s), MM_OK);
    put_last(f, s);
    fixture_stop(f);
}

static void test_ends_at_the_maximum(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = start_stack(f, 0);

    (void)state;
    refused(f, s, TOP - MAX - 1, MM_FAULT_USER | MM_FAULT_WRITE, MM_FAULT_SIGNAL_MAP);
    refused(f, s, TOP - MAX - PAGE, MM_FAULT_USER, MM_FAULT_SIGNAL_MAP);
    assert_true(store(f, s, TOP - MAX, 1));
    assert_int_equal(start_of(s), TOP - MAX);
    refused(f, s, TOP - MAX - 1, MM_FAULT_USER | MM_FAULT_WRITE, MM_FAULT_SIGNAL_MAP);
    put_last(f, s);
    fixture_stop(f);
}

static void test_keeps_its_gap(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = start_stack(f, 0);
    uint64_t below = TOP - 40 * PAGE; /* where a region ends */

    (void)state;
    assert_int_equal(map_at(s, below - PAGE, PAGE, MM_PROT_READ, 0), MM_OK);
    refused(f, s, below + GAP - PAGE, MM_FAULT_USER | MM_FAULT_WRITE, MM_FAULT_SIGNAL_MAP);
    refused(f, s, below, MM_FAULT_USER | MM_FAULT_WRITE, MM_FAULT_SIGNAL_MAP);
    assert_true(store(f, s, below + GAP, 1));
    refused(f, s, below + GAP - 1, MM_FAULT_USER | MM_FAULT_WRITE, MM_FAULT_SIGNAL_MAP);
    assert_int_equal(fault_at(s, below - 8, MM_FAULT_USER | MM_FAULT_WRITE),
                     MM_FAULT_SIGNAL_ACCESS);
    /* Without the neighbour it goes on. */
    assert_int_equal(unmap(s, below - PAGE, PAGE), MM_OK);
    assert_true(store(f, s, below, 1));
    put_last(f, s);
    fixture_stop(f);
}

/* A guard may be nearer than the gap, and is never overgrown. */
static void test_stops_at_a_guard(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = start_stack(f, 0);
    uint64_t guard = TOP - 20 * PAGE;

    (void)state;
    assert_int_equal(map_at(s, guard, PAGE, MM_PROT_NONE, MM_SPACE_GUARD), MM_OK);
    assert_true(store(f, s, guard + PAGE, 1));
    assert_int_equal(start_of(s), guard + PAGE);
    refused(f, s, guard + 8, MM_FAULT_USER | MM_FAULT_WRITE, MM_FAULT_SIGNAL_ACCESS);
    refused(f, s, guard - 8, MM_FAULT_USER | MM_FAULT_WRITE, MM_FAULT_SIGNAL_MAP);
    put_last(f, s);
    fixture_stop(f);
}

static void test_stops_at_the_lowest(void **state)
{
    static const struct mm_space_config config = {
        .layout = {.lowest = 32 * PAGE, .stack_gap = GAP, .stack_max = MAX}};
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = space_with(&f->spaces, &config);

    (void)state;
    assert_int_equal(map_at(s, 40 * PAGE, PAGE, RW, MM_SPACE_STACK), MM_OK);
    refused(f, s, 32 * PAGE - 1, MM_FAULT_USER | MM_FAULT_WRITE, MM_FAULT_SIGNAL_MAP);
    assert_true(store(f, s, 32 * PAGE, 1));
    refused(f, s, 31 * PAGE, MM_FAULT_USER | MM_FAULT_WRITE, MM_FAULT_SIGNAL_MAP);
    refused(f, s, 0, MM_FAULT_USER, MM_FAULT_SIGNAL_MAP);
    put_last(f, s);
    fixture_stop(f);
}

/* What the stack forbids does not make it grow, nor does a fault of another sort; nor do regions
 * that are no stacks grow. */
static void test_grows_for_what_it_allows(void **state)
{
    static const uint32_t others[] = {MM_FAULT_USER | MM_FAULT_EXEC, MM_FAULT_EXEC,
                                      MM_FAULT_USER | MM_FAULT_PKEY,
                                      MM_FAULT_USER | MM_FAULT_OTHER};
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = start_stack(f, 0);

    (void)state;
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        refused(f, s, TOP - 3 * PAGE, others[i], MM_FAULT_SIGNAL_MAP);
    }
    assert_int_equal(protect(s, TOP - 2 * PAGE, 2 * PAGE, MM_PROT_READ), MM_OK);
    refused(f, s, TOP - 3 * PAGE, MM_FAULT_USER | MM_FAULT_WRITE, MM_FAULT_SIGNAL_MAP);
    assert_int_equal(fault_at(s, TOP - 3 * PAGE, MM_FAULT_USER), MM_FAULT_ZERO);
    assert_int_equal(unmap(s, TOP - 8 * PAGE, 8 * PAGE), MM_OK);
    assert_int_equal(map_at(s, TOP - 2 * PAGE, 2 * PAGE, RW, 0), MM_OK);
    refused(f, s, TOP - 3 * PAGE, MM_FAULT_USER | MM_FAULT_WRITE, MM_FAULT_SIGNAL_MAP);
    put_last(f, s);
    fixture_stop(f);
}

/* A stack that is wired has its pages from the moment that it grows. */
static void test_wired_stack_is_populated(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = start_stack(f, MM_SPACE_WIRED);
    struct mm_space_stats stats;

    (void)state;
    assert_int_equal(resident(s), 2 * PAGE);
    assert_int_equal(loaded(f, s, TOP - 7 * PAGE), 0);
    assert_int_equal(f->last, MM_FAULT_ZERO);
    assert_int_equal(resident(s), 7 * PAGE);
    for (uint64_t i = 1; i <= 7; i++) {
        assert_true(store(f, s, TOP - i * PAGE, i));
        assert_int_equal(f->nr_faults, 0);
    }
    stats = stats_of(s);
    assert_int_equal(stats.nr_zero_page, 0);
    assert_int_equal(stats.nr_faults[MM_FAULT_ZERO], 1);
    assert_int_equal(stats.nr_stack_growths, 1);
    /* All of it, or it does not grow. */
    t_machine_leave_frames(&f->m, 3);
    refused(f, s, TOP - 12 * PAGE, MM_FAULT_USER | MM_FAULT_WRITE, MM_FAULT_NO_MEMORY);
    t_machine_leave_frames(&f->m, UINT64_MAX);
    assert_int_equal(fault_at(s, TOP - 12 * PAGE, MM_FAULT_USER), MM_FAULT_ZERO);
    put_last(f, s);
    fixture_stop(f);
}

/* Memory, limits and promises are asked for; without them it has not grown. */
static void test_grows_or_not(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = start_stack(f, 0);
    struct mm_space_limits limits = {.mapped_bytes = 4 * PAGE};

    (void)state;
    assert_true(store(f, s, TOP - 8, 1));
    t_machine_leave_frames(&f->m, 0);
    refused(f, s, TOP - 6 * PAGE, MM_FAULT_USER | MM_FAULT_WRITE, MM_FAULT_NO_MEMORY);
    t_machine_leave_frames(&f->m, UINT64_MAX);
    assert_int_equal(mm_space_set_limits(s, &limits), MM_OK);
    refused(f, s, TOP - 5 * PAGE, MM_FAULT_USER | MM_FAULT_WRITE, MM_FAULT_LIMIT);
    assert_int_equal(fault_at(s, TOP - 4 * PAGE, MM_FAULT_USER | MM_FAULT_WRITE), MM_FAULT_ZERO);
    limits = (struct mm_space_limits){.resident_bytes = 2 * PAGE};
    assert_int_equal(mm_space_set_limits(s, &limits), MM_OK);
    refused(f, s, TOP - 6 * PAGE, MM_FAULT_USER | MM_FAULT_WRITE, MM_FAULT_LIMIT);
    assert_int_equal(mm_space_set_limits(s, NULL), MM_OK);
    assert_int_equal(fault_at(s, TOP - 6 * PAGE, MM_FAULT_USER | MM_FAULT_WRITE), MM_FAULT_ZERO);
    put_last(f, s);
    fixture_stop(f);
}

static void test_growth_is_promised(void **state)
{
    static const struct mm_space_config layout = {.layout = {.stack_gap = GAP, .stack_max = MAX}};
    struct fixture *f = fixture_start(NULL);
    struct mm_spaces_config config = fixture_config(f);
    struct mm_spaces spaces = {0};
    struct mm_space *s;

    (void)state;
    config.kernel_range.len = 0;
    config.commit = MM_COMMIT_NEVER;
    config.commit_pages = 5;
    assert_int_equal(mm_spaces_init(&spaces, &config), MM_OK);
    s = space_with(&spaces, &layout);
    assert_int_equal(map_at(s, TOP - 2 * PAGE, 2 * PAGE, RW, MM_SPACE_STACK), MM_OK);
    refused(f, s, TOP - 6 * PAGE, MM_FAULT_USER | MM_FAULT_WRITE, MM_FAULT_NO_MEMORY);
    assert_int_equal(stats_of(s).committed_bytes, 2 * PAGE);
    t_machine_leave_frames(&f->m, 0);
    refused(f, s, TOP - 5 * PAGE, MM_FAULT_USER | MM_FAULT_WRITE, MM_FAULT_NO_MEMORY);
    assert_int_equal(stats_of(s).committed_bytes, 2 * PAGE);
    t_machine_leave_frames(&f->m, UINT64_MAX);
    assert_int_equal(fault_at(s, TOP - 5 * PAGE, MM_FAULT_USER), MM_FAULT_ZERO);
    assert_int_equal(stats_of(s).committed_bytes, 5 * PAGE);
    assert_true(mm_space_put(s));
    assert_int_equal(mm_spaces_destroy(&spaces), MM_OK);
    fixture_stop(f);
}

/* Whoever may choose the place leaves the gap free, above and below. */
static void test_mapping_keeps_the_gap(void **state)
{
    static const struct mm_space_config config = {
        .layout = {.lowest = 8 * PAGE, .top = TOP, .mmap_base = TOP, .stack_gap = GAP}};
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = space_with(&f->spaces, &config);
    struct mm_space_request r = {.len = PAGE, .prot = RW};
    mm_vaddr_t at;

    (void)state;
    assert_int_equal(map_at(s, TOP - 2 * PAGE, 2 * PAGE, RW, MM_SPACE_STACK), MM_OK);
    assert_int_equal(mm_space_map(s, &r, &at), MM_OK);
    assert_int_equal(at.raw, TOP - 2 * PAGE - GAP - PAGE);
    r.at = mm_vaddr(TOP - 8 * PAGE); /* a hint in the gap is not taken */
    assert_int_equal(mm_space_map(s, &r, &at), MM_OK);
    assert_int_equal(at.raw, TOP - 2 * PAGE - GAP - 2 * PAGE);
    r = (struct mm_space_request){.len = PAGE, .prot = RW, .flags = MM_SPACE_STACK};
    assert_int_equal(mm_space_map(s, &r, &at), MM_OK);
    assert_int_equal(at.raw, TOP - 2 * PAGE - GAP - 3 * PAGE); /* and its own gap below */
    refused(f, s, TOP - 3 * PAGE, MM_FAULT_USER | MM_FAULT_WRITE, MM_FAULT_SIGNAL_MAP);
    put_last(f, s);
    fixture_stop(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_grows_by_touch),
        cmocka_unit_test(test_ends_at_the_maximum),
        cmocka_unit_test(test_keeps_its_gap),
        cmocka_unit_test(test_stops_at_a_guard),
        cmocka_unit_test(test_stops_at_the_lowest),
        cmocka_unit_test(test_grows_for_what_it_allows),
        cmocka_unit_test(test_wired_stack_is_populated),
        cmocka_unit_test(test_grows_or_not),
        cmocka_unit_test(test_growth_is_promised),
        cmocka_unit_test(test_mapping_keeps_the_gap),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
