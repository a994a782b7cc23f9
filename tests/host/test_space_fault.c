// SPDX-License-Identifier: MIT
/**
 * Every page-fault code against every kind of region and page. What must come out is worked out
 * here in a few lines, from the header's words alone.
 */
#include "space_fixture.h"

#define AT         (UINT64_C(96) * PAGE)
#define FLAGS_ALL  128u
#define NO_REGION  8u /* instead of a protection */
#define GUARD      9u
#define NR_REGIONS 10u

enum page_state { ABSENT, PRESENT, SHARED, ONCE_SHARED, NR_PAGE_STATES };

static enum mm_fault_result expected(uint32_t flags, unsigned region, enum page_state page,
                                     bool kernel)
{
    bool user = (flags & MM_FAULT_USER) != 0;
    bool write = (flags & MM_FAULT_WRITE) != 0;
    bool exec = (flags & MM_FAULT_EXEC) != 0;
    mm_prot_t prot = region < NO_REGION ? region : MM_PROT_NONE;

    if ((flags & MM_FAULT_RESERVED) != 0) {
        return MM_FAULT_CORRUPT;
    }
    if (region == NO_REGION) {
        return MM_FAULT_SIGNAL_MAP;
    }
    if ((flags & (MM_FAULT_PKEY | MM_FAULT_OTHER)) != 0 || (kernel && user) ||
        (!kernel && exec && !user) || prot == MM_PROT_NONE ||
        (write && (prot & MM_PROT_WRITE) == 0) || (exec && (prot & MM_PROT_EXEC) == 0)) {
        return MM_FAULT_SIGNAL_ACCESS;
    }
    if (page == ABSENT && !kernel) {
        return MM_FAULT_ZERO;
    }
    return write && (page == SHARED || page == ONCE_SHARED) ? MM_FAULT_COW : MM_FAULT_MINOR;
}

/* After "go on", the tables allow the access, and the same fault again finds nothing to do. */
static void check_progress(struct mm_space *s, uint64_t at, const struct mm_fault *fault)
{
    enum mm_fault_result again = MM_FAULT_CORRUPT;
    struct mm_mapping m;

    assert_int_equal(mm_paging_translate(mm_space_table(s), mm_vaddr(at), &m), MM_OK);
    assert_true((m.prot & MM_PROT_READ) != 0);
    assert_true((fault->flags & MM_FAULT_WRITE) == 0 || (m.prot & MM_PROT_WRITE) != 0);
    assert_true((fault->flags & MM_FAULT_EXEC) == 0 || (m.prot & MM_PROT_EXEC) != 0);
    assert_int_equal(mm_space_fault(s, fault, &again), MM_OK);
    assert_int_equal(again, MM_FAULT_MINOR);
}

static void one_case(struct fixture *f, struct mm_space *s, uint32_t flags, unsigned region,
                     enum page_state page)
{
    struct mm_space *child = NULL;
    struct mm_fault fault = {.at = mm_vaddr(AT + 123), .flags = flags};
    enum mm_fault_result want = expected(flags, region, page, false);
    enum mm_fault_result got = MM_FAULT_PENDING;
    uint64_t before = 0;
    uint64_t frame;

    if (region != NO_REGION) {
        assert_int_equal(map_at(s, AT, PAGE, region == GUARD ? MM_PROT_NONE : RW,
                                region == GUARD ? MM_SPACE_GUARD : 0),
                         MM_OK);
        if (page != ABSENT && region != GUARD) {
            assert_true(store(f, s, AT, 4711));
            child = page == PRESENT ? NULL : clone_of(s);
        }
        if (page == ONCE_SHARED && child != NULL) {
            assert_true(mm_space_put(child));
            child = NULL;
        }
        if (region != GUARD) {
            /* Through "no rights", so that this, too, is survived by what is shared. */
            assert_int_equal(protect(s, AT, PAGE, MM_PROT_NONE), MM_OK);
            assert_int_equal(protect(s, AT, PAGE, region), MM_OK);
        }
    }
    frame = frame_at(s, AT);
    /* A frame that is nobody else's any more was made writable by the protect above. */
    if (page == ONCE_SHARED && want == MM_FAULT_COW) {
        want = MM_FAULT_MINOR;
    }
    before = state_hash(f, s);
    assert_int_equal(mm_space_fault(s, &fault, &got), MM_OK);
    assert_int_equal(got, want);
    if (got == MM_FAULT_ZERO || got == MM_FAULT_COW) {
        assert_int_not_equal(frame_at(s, AT), frame);
        assert_int_equal(*(uint64_t *)t_machine_ptr(&f->m, frame_at(s, AT) << 12),
                         got == MM_FAULT_ZERO ? 0 : 4711);
    } else {
        assert_int_equal(state_hash(f, s), before);
    }
    if (got <= MM_FAULT_COW) {
        check_progress(s, AT, &fault);
    }
    assert_int_equal(mm_space_check(s), MM_OK);
    if (child != NULL) {
        assert_int_equal(*(uint64_t *)t_machine_ptr(&f->m, frame_at(child, AT) << 12), 4711);
        assert_true(mm_space_put(child));
    }
    assert_int_equal(unmap(s, AT, PAGE), MM_OK);
}

/* Hazards 25, 26: all codes. */
static void test_all_codes(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);

    (void)state;
    for (uint32_t flags = 0; flags < FLAGS_ALL; flags += MM_TEST_SANITIZED ? 3 : 1) {
        for (unsigned i = 0; i < NR_REGIONS * NR_PAGE_STATES; i++) {
            one_case(f, s, flags, i % NR_REGIONS, (enum page_state)(i / NR_REGIONS));
        }
    }
    put_last(f, s);
    fixture_stop(f);
}

static void test_all_codes_kernel(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *k = mm_space_kernel(&f->spaces);

    (void)state;
    for (unsigned region = 0; region < NR_REGIONS; region++) {
        if (region != NO_REGION) {
            assert_int_equal(map_at(k, T_ARENA, PAGE, region == GUARD ? MM_PROT_NONE : region,
                                    region == GUARD ? MM_SPACE_GUARD : 0),
                             MM_OK);
        }
        for (uint32_t flags = 0; flags < FLAGS_ALL; flags++) {
            struct mm_fault fault = {.at = mm_vaddr(T_ARENA + 8), .flags = flags};
            uint64_t before = state_hash(f, k);
            enum mm_fault_result got = MM_FAULT_PENDING;

            assert_int_equal(mm_space_fault(k, &fault, &got), MM_OK);
            assert_int_equal(got, expected(flags, region, PRESENT, true));
            assert_int_equal(state_hash(f, k), before);
        }
        assert_int_equal(unmap(k, T_ARENA, PAGE), MM_OK);
    }
    fixture_stop(f);
}

/* A sharer that went away: the last one takes the frame, and copies nothing. */
static void test_last_sharer(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    struct mm_space *child;
    uint64_t frame;
    uint64_t free_before;

    (void)state;
    assert_int_equal(map_at(s, AT, PAGE, RW, 0), MM_OK);
    assert_true(store(f, s, AT, 1));
    frame = frame_at(s, AT);
    child = clone_of(s);
    put_last(f, child);
    free_before = t_machine_free_frames(&f->m);
    assert_true(store(f, s, AT, 2));
    assert_int_equal(f->last, MM_FAULT_COW);
    assert_int_equal(frame_at(s, AT), frame);
    assert_int_equal(t_machine_free_frames(&f->m), free_before);
    put_last(f, s);
    fixture_stop(f);
}

/* Any address may fault; those that no region can hold are not mapped. */
static void test_odd_addresses(void **state)
{
    static const uint64_t odd[] = {0,
                                   PAGE - 1,
                                   T_USER_LEN - 1,
                                   T_USER_LEN,
                                   UINT64_C(1) << 56,
                                   UINT64_C(0xffff7fffffffffff),
                                   UINT64_C(0xffff800000000000),
                                   T_ARENA,
                                   UINT64_MAX};
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);

    (void)state;
    assert_int_equal(map_at(s, PAGE, USER_LAST - PAGE, RW, 0), MM_OK);
    for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
        struct mm_fault fault = {.at = mm_vaddr(odd[i]), .flags = MM_FAULT_USER};
        enum mm_fault_result got = MM_FAULT_PENDING;

        assert_int_equal(mm_space_fault(s, &fault, &got), MM_OK);
        assert_int_equal(got, MM_FAULT_SIGNAL_MAP);
    }
    for (unsigned bit = 7; bit < 32; bit++) { /* nor may any code, that nobody knows */
        struct mm_fault fault = {.at = mm_vaddr(PAGE), .flags = 1u << bit};
        enum mm_fault_result got = MM_FAULT_PENDING;

        assert_int_equal(mm_space_fault(s, &fault, &got), MM_ERR_INVALID_ARGUMENT);
        assert_int_equal(got, MM_FAULT_PENDING);
    }
    assert_true(store(f, s, PAGE, 1));
    assert_true(store(f, s, USER_LAST - 8, 1));
    put_last(f, s);
    fixture_stop(f);
}

static struct mm_event heard[16];
static unsigned nr_heard;

static void hear(void *ctx, const struct mm_event *event)
{
    (void)ctx;
    if (nr_heard < 16) {
        heard[nr_heard++] = *event;
    }
}

static void test_events(void **state)
{
    static const struct mm_platform_ops ops = {.panic = t_platform_panic, .event = hear};
    struct fixture *f = fixture_start(NULL);
    struct mm_spaces spaces = {0};
    struct mm_spaces_config config = fixture_config(f);
    struct mm_fault fault = {.at = mm_vaddr(AT), .flags = MM_FAULT_USER};
    struct mm_space *s = NULL;
    enum mm_fault_result got;

    (void)state;
    config.platform.ops = &ops;
    config.kernel_range.len = 0;
    nr_heard = 0;
    assert_int_equal(mm_spaces_init(&spaces, &config), MM_OK);
    assert_int_equal(mm_space_create(&spaces, &s), MM_OK);
    assert_int_equal(mm_space_fault(s, &fault, &got), MM_OK);
    assert_true(mm_space_put(s));
    assert_int_equal(nr_heard, 3);
    assert_int_equal(heard[0].kind, MM_EVENT_SPACE_CREATE);
    assert_ptr_equal(heard[0].who, s);
    assert_int_equal(heard[1].kind, MM_EVENT_SPACE_FAULT);
    assert_int_equal(heard[1].address, AT);
    assert_int_equal(heard[1].len, MM_FAULT_SIGNAL_MAP);
    assert_int_equal(heard[2].kind, MM_EVENT_SPACE_DESTROY);
    assert_int_equal(mm_spaces_destroy(&spaces), MM_OK);
    fixture_stop(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_codes),   cmocka_unit_test(test_all_codes_kernel),
        cmocka_unit_test(test_last_sharer), cmocka_unit_test(test_odd_addresses),
        cmocka_unit_test(test_events),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
