// SPDX-License-Identifier: MIT
/**
 * What a child has from its parent: layout, limits and group, but no locks of memory; what it is
 * charged; whose its frames are; and the child of vfork(), which has the parent itself.
 */
#include "space_counts.h"

#define AT (32 * PAGE)

static struct mm_region_info region_at(struct mm_space *s, uint64_t at)
{
    struct mm_region_info info;

    assert_int_equal(mm_space_find(s, mm_vaddr(at), &info), MM_OK);
    return info;
}

static void check(struct mm_space *s)
{
    assert_int_equal(mm_space_check(s), MM_OK);
}

/* --- regions ---------------------------------------------------------------------------------- */

/* Locks are not inherited, and neighbours that nothing else told apart are one in the child. */
static void test_not_wired(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    struct mm_space *child;

    (void)state;
    assert_int_equal(map_at(s, AT, 2 * PAGE, RW, 0), MM_OK);
    assert_int_equal(map_at(s, AT + 2 * PAGE, 2 * PAGE, RW, MM_SPACE_WIRED), MM_OK);
    assert_int_equal(map_at(s, AT + 4 * PAGE, 2 * PAGE, RW, 0), MM_OK);
    assert_int_equal(map_at(s, AT + 6 * PAGE, 2 * PAGE, MM_PROT_READ, MM_SPACE_WIRED), MM_OK);
    assert_int_equal(nr_regions(s), 4);
    child = clone_of(s);
    check(s);
    check(child);
    assert_int_equal(nr_regions(s), 4);
    assert_int_equal(region_at(s, AT + 2 * PAGE).flags, MM_SPACE_WIRED);
    assert_int_equal(nr_regions(child), 2);
    assert_int_equal(region_at(child, AT).range.len, 6 * PAGE);
    assert_int_equal(region_at(child, AT).flags, 0);
    assert_int_equal(region_at(child, AT + 6 * PAGE).flags, 0);
    assert_int_equal(stats_of(child).mapped_bytes, 8 * PAGE);
    assert_int_equal(frame_at(child, AT + 2 * PAGE), frame_at(s, AT + 2 * PAGE));
    put_last(f, child);
    put_last(f, s);
    fixture_stop(f);
}

/* A child that nothing was mapped in is one, too; and a region of each sort. */
static void test_regions_are_copied(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    struct mm_space *child = clone_of(s);
    const struct mm_space_request tagged = {.at = mm_vaddr(AT + 8 * PAGE),
                                            .len = PAGE,
                                            .prot = RW,
                                            .flags = MM_SPACE_FIXED,
                                            .tag = 4711,
                                            .kind = MM_REGION_DATA};
    struct mm_region_info a;
    struct mm_region_info b;
    mm_vaddr_t out;

    (void)state;
    check(child);
    assert_int_equal(nr_regions(child), 0);
    put_last(f, child);
    assert_int_equal(map_at(s, AT, PAGE, RW, MM_SPACE_HUGE), MM_OK);
    assert_int_equal(map_at(s, AT + PAGE, PAGE, RX, MM_SPACE_NO_HUGE), MM_OK);
    assert_int_equal(map_at(s, AT + 2 * PAGE, PAGE, MM_PROT_NONE, MM_SPACE_GUARD), MM_OK);
    assert_int_equal(map_at(s, UINT64_C(1) << 40, PAGE, RW, MM_SPACE_STACK), MM_OK);
    assert_int_equal(mm_space_map(s, &tagged, &out), MM_OK);
    child = clone_of(s);
    for (mm_vaddr_t at = {0}; mm_space_next(s, at, &a) == MM_OK;
         at = mm_vaddr(a.range.start.raw + a.range.len)) {
        assert_int_equal(mm_space_next(child, at, &b), MM_OK);
        assert_int_equal(a.range.start.raw, b.range.start.raw);
        assert_int_equal(a.range.len, b.range.len);
        assert_int_equal(a.prot, b.prot);
        assert_int_equal(a.flags, b.flags);
        assert_int_equal(a.kind, b.kind);
        assert_int_equal(a.tag, b.tag);
    }
    /* Its stack grows as the parent's. */
    assert_true(store(f, child, (UINT64_C(1) << 40) - PAGE, 1));
    assert_int_equal(stats_of(child).nr_stack_growths, 1);
    assert_int_equal(stats_of(s).nr_stack_growths, 0);
    put_last(f, child);
    put_last(f, s);
    fixture_stop(f);
}

/* --- charges ---------------------------------------------------------------------------------- */

/* A clone that is refused has taken nothing, and changed nothing. */
static void refused(struct fixture *f, struct mm_space *s, const struct mm_space_group *group,
                    mm_status_t status)
{
    struct mm_space_group_stats was = group_of(group);
    struct mm_space_group_stats is;
    uint64_t before = state_hash(f, s);
    uint64_t nr_promised = promised(f);
    struct mm_space *child = NULL;

    assert_int_equal(mm_space_clone(s, &child), status);
    assert_null(child);
    assert_int_equal(state_hash(f, s), before);
    is = group_of(group);
    assert_int_equal(is.mapped_bytes, was.mapped_bytes);
    assert_int_equal(is.resident_bytes, was.resident_bytes);
    assert_int_equal(is.nr_spaces, was.nr_spaces);
    assert_int_equal(promised(f), nr_promised);
    check(s);
}

/* A clone asks its group and the manager for all that the parent maps, has and was promised. */
static void test_group_is_asked(void **state)
{
    struct mm_space_limits limits = {.mapped_bytes = 19 * PAGE, .resident_bytes = 100 * PAGE};
    struct mm_space_group group = {0};
    const struct mm_space_config config = {.group = &group};
    struct fixture *f = fixture_start_promising(NULL, MM_COMMIT_NEVER, 30);
    struct mm_space *s = NULL;
    struct mm_space *other = new_space(f);
    struct mm_space *child;

    (void)state;
    assert_int_equal(mm_space_group_init(&group, &limits), MM_OK);
    assert_int_equal(mm_space_create_with(&f->spaces, &config, &s), MM_OK);
    assert_int_equal(map_at(s, AT, 10 * PAGE, RW, MM_SPACE_POPULATE), MM_OK);
    refused(f, s, &group, MM_ERR_LIMIT);
    limits = (struct mm_space_limits){.mapped_bytes = 20 * PAGE, .resident_bytes = 19 * PAGE};
    assert_int_equal(mm_space_group_set_limits(&group, &limits), MM_OK);
    refused(f, s, &group, MM_ERR_LIMIT);
    assert_int_equal(mm_space_group_set_limits(&group, NULL), MM_OK);
    assert_int_equal(map_at(other, AT, 11 * PAGE, RW, 0), MM_OK);
    refused(f, s, &group, MM_ERR_NO_MEMORY);
    assert_int_equal(unmap(other, AT, PAGE), MM_OK);

    child = clone_of(s);
    assert_int_equal(group_of(&group).mapped_bytes, 20 * PAGE);
    assert_int_equal(group_of(&group).resident_bytes, 20 * PAGE);
    assert_int_equal(group_of(&group).nr_spaces, 2);
    assert_int_equal(mm_space_group_destroy(&group), MM_ERR_BUSY);
    assert_int_equal(promised(f), 30);
    assert_int_equal(stats_of(child).committed_bytes, 10 * PAGE);
    check(child);
    put_last(f, s);
    put_last(f, other);
    put_last(f, child);
    assert_int_equal(group_of(&group).mapped_bytes, 0);
    assert_int_equal(group_of(&group).resident_bytes, 0);
    assert_int_equal(promised(f), 0);
    assert_int_equal(mm_space_group_destroy(&group), MM_OK);
    fixture_stop(f);
}

/* Limits of the space itself are inherited and not asked: the parent may be above them. */
static void test_above_its_limits(void **state)
{
    const struct mm_space_limits lower = {.mapped_bytes = 5 * PAGE, .resident_bytes = 3 * PAGE};
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    struct mm_space *child;

    (void)state;
    assert_int_equal(map_at(s, AT, 10 * PAGE, RW, 0), MM_OK);
    for (uint64_t i = 0; i < 6; i++) {
        assert_true(store(f, s, AT + i * PAGE, i));
    }
    assert_int_equal(mm_space_set_limits(s, &lower), MM_OK);
    child = clone_of(s);
    check(s);
    check(child);
    for (unsigned i = 0; i < 2; i++) {
        struct mm_space *who = i == 0 ? child : s;

        assert_int_equal(map_at(who, AT + 20 * PAGE, PAGE, RW, 0), MM_ERR_LIMIT);
        assert_false(store(f, who, AT + 7 * PAGE, 1));
        assert_int_equal(f->last, MM_FAULT_LIMIT);
        assert_true(store(f, who, AT, 1)); /* a page for a page */
        assert_int_equal(unmap(who, AT, 6 * PAGE), MM_OK);
        assert_true(store(f, who, AT + 7 * PAGE, 1));
        check(who);
    }
    put_last(f, child);
    put_last(f, s);
    fixture_stop(f);
}

/* --- frames ----------------------------------------------------------------------------------- */

static uint64_t tag_at(struct fixture *f, struct mm_space *s, uint64_t at)
{
    struct mm_frame_record record;

    assert_int_equal(mm_frame_owner(&f->m.frames, mm_pfn(frame_at(s, at)), &record), MM_OK);
    assert_int_equal(record.owner, MM_OWNER_ANONYMOUS);
    return record.tag;
}

static uint64_t own_tag(struct mm_space *s, uint64_t at)
{
    return mm_frame_tag_anonymous(mm_space_id(s), at / PAGE);
}

/* A frame says whose it is as long as it is one page's; then that it has to be searched for. */
static void test_tags(void **state)
{
    static const struct t_machine_config machine = {.owners = true};
    struct fixture *f = fixture_start(&machine);
    struct mm_space *s = new_space(f);
    struct mm_space *child;
    mm_pfn_t pinned;

    (void)state;
    assert_int_equal(map_at(s, AT, 8 * PAGE, RW, MM_SPACE_POPULATE), MM_OK);
    assert_int_equal(unmap(s, AT + 3 * PAGE, PAGE), MM_OK);
    pinned = mm_pfn(frame_at(s, AT + 5 * PAGE));
    mm_frame_pin(&f->m.frames, pinned);
    child = clone_of(s);
    for (uint64_t i = 0; i < 8; i++) {
        uint64_t at = AT + i * PAGE;

        if (i == 5) {
            assert_int_equal(tag_at(f, s, at), own_tag(s, at));
            assert_int_equal(tag_at(f, child, at), own_tag(child, at));
        } else if (i != 3) {
            assert_int_equal(tag_at(f, s, at), 0);
        }
    }
    /* One gets a copy, and the other the frame. */
    assert_true(store(f, child, AT, 1));
    assert_int_equal(tag_at(f, child, AT), own_tag(child, AT));
    assert_true(store(f, s, AT, 1));
    assert_int_equal(tag_at(f, s, AT), own_tag(s, AT));
    put_last(f, child);
    assert_false(mm_frame_unpin(&f->m.frames, pinned));
    put_last(f, s);
    fixture_stop(f);
}

/* Pages that the parent gave up may be taken from the child too, until it writes. */
static void test_given_up(void **state)
{
    const struct mm_vrange all = mm_vrange(mm_vaddr(AT), 3 * PAGE);
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    struct mm_space *child;
    uint64_t nr = 0;

    (void)state;
    assert_int_equal(map_at(s, AT, 3 * PAGE, RW, 0), MM_OK);
    for (uint64_t i = 0; i < 3; i++) {
        assert_true(store(f, s, AT + i * PAGE, i + 1));
    }
    assert_int_equal(mm_space_advise(s, all, MM_ADVICE_FREE), MM_OK);
    assert_true(store(f, s, AT, 11)); /* kept, and so in the child */
    child = clone_of(s);
    assert_true(store(f, child, AT + PAGE, 12));
    assert_int_equal(mm_space_reclaim(child, UINT64_MAX, &nr), MM_OK);
    assert_int_equal(nr, 1);
    check(child);
    assert_int_equal(loaded(f, child, AT), 11);
    assert_int_equal(loaded(f, child, AT + PAGE), 12);
    assert_int_equal(loaded(f, child, AT + 2 * PAGE), 0);
    run_in(f, s);
    assert_int_equal(mm_space_reclaim(s, UINT64_MAX, &nr), MM_OK);
    assert_int_equal(nr, 2);
    check(s);
    assert_int_equal(loaded(f, s, AT), 11);
    assert_int_equal(loaded(f, s, AT + PAGE), 0);
    assert_int_equal(loaded(f, child, AT + PAGE), 12);
    put_last(f, child);
    put_last(f, s);
    fixture_stop(f);
}

/* --- vfork() ---------------------------------------------------------------------------------- */

/* The child has its parent's handle: it sees and writes the parent's memory until it lets go. */
static void test_vfork(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *parent = new_space(f);
    struct mm_space *child = parent;

    (void)state;
    assert_int_equal(map_at(parent, AT, PAGE, RW, 0), MM_OK);
    assert_true(store(f, parent, AT, 1));
    mm_space_get(parent);
    assert_int_equal(stats_of(child).refs, 2);
    assert_true(store(f, child, AT, 2));
    assert_int_equal(f->nr_faults, 0);
    assert_int_equal(map_at(child, AT + PAGE, PAGE, RW, 0), MM_OK);
    assert_true(store(f, child, AT + PAGE, 3));
    assert_false(mm_space_put(child));
    assert_int_equal(loaded(f, parent, AT), 2);
    assert_int_equal(loaded(f, parent, AT + PAGE), 3);
    put_last(f, parent);
    fixture_stop(f);
}

/* --- layout ----------------------------------------------------------------------------------- */

static void test_layout(void **state)
{
    const struct mm_space_config config = {.layout = {.lowest = UINT64_C(1) << 22,
                                                      .mmap_base = UINT64_C(1) << 40,
                                                      .top = UINT64_C(1) << 41,
                                                      .stack_gap = 16 * PAGE,
                                                      .stack_max = 64 * PAGE}};
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = NULL;
    struct mm_space *child;
    struct mm_space_layout a;
    struct mm_space_layout b;
    struct mm_space_request request = {.len = PAGE, .prot = RW};
    mm_vaddr_t at = {0};

    (void)state;
    assert_int_equal(mm_space_create_with(&f->spaces, &config, &s), MM_OK);
    child = clone_of(s);
    assert_int_equal(mm_space_get_layout(s, &a), MM_OK);
    assert_int_equal(mm_space_get_layout(child, &b), MM_OK);
    assert_int_equal(a.lowest, b.lowest);
    assert_int_equal(a.mmap_base, b.mmap_base);
    assert_int_equal(a.top, b.top);
    assert_int_equal(a.stack_gap, b.stack_gap);
    assert_int_equal(a.stack_max, b.stack_max);
    assert_int_equal(mm_space_map(child, &request, &at), MM_OK);
    assert_int_equal(at.raw, (UINT64_C(1) << 40) - PAGE);
    put_last(f, child);
    put_last(f, s);
    fixture_stop(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_not_wired),      cmocka_unit_test(test_regions_are_copied),
        cmocka_unit_test(test_group_is_asked), cmocka_unit_test(test_above_its_limits),
        cmocka_unit_test(test_tags),           cmocka_unit_test(test_vfork),
        cmocka_unit_test(test_given_up),       cmocka_unit_test(test_layout),
    };

    return cmocka_run_group_tests_name("space_clone_child", tests, NULL, NULL);
}
