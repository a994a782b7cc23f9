// SPDX-License-Identifier: MIT
/**
 * Mapping: what is replaced in one step, what keeps regions apart, limits and promises, and requests
 * that are wrong.
 */
#include "space_fixture.h"

#define AT  (64 * PAGE)
#define P2M UINT64_C(0x200000)

static const struct t_machine_config large = {.ram_len = 32 * P2M};

static mm_status_t map_kind(struct mm_space *s, uint64_t at, uint64_t len, uint32_t flags,
                            enum mm_region_kind kind)
{
    struct mm_space_request request = {
        .at = mm_vaddr(at), .len = len, .prot = RW, .flags = flags | MM_SPACE_FIXED, .kind = kind};
    mm_vaddr_t out;

    return mm_space_map(s, &request, &out);
}

static struct mm_region_info region_at(struct mm_space *s, uint64_t at)
{
    struct mm_region_info info;

    assert_int_equal(mm_space_find(s, mm_vaddr(at), &info), MM_OK);
    return info;
}

static void is_region(struct mm_space *s, uint64_t start, uint64_t len, enum mm_region_kind kind)
{
    struct mm_region_info info = region_at(s, start);

    assert_int_equal(info.range.start.raw, start);
    assert_int_equal(info.range.len, len);
    assert_int_equal(info.kind, kind);
}

/* --- replaced --------------------------------------------------------------------------------- */

/* Regions of three kinds and a hole, each page with its own number. */
static struct mm_space *furnished(struct fixture *f)
{
    struct mm_space *s = new_space(f);

    assert_int_equal(map_kind(s, AT, 4 * PAGE, 0, MM_REGION_DATA), MM_OK);
    assert_int_equal(map_kind(s, AT + 4 * PAGE, 4 * PAGE, 0, MM_REGION_HEAP), MM_OK);
    assert_int_equal(map_kind(s, AT + 10 * PAGE, 4 * PAGE, 0, MM_REGION_DATA), MM_OK);
    for (uint64_t i = 0; i < 14; i++) {
        assert_true(i == 8 || i == 9 || store(f, s, AT + i * PAGE, 100 + i));
    }
    return s;
}

static void test_replace(void **state)
{
    struct fixture *f = fixture_start(NULL);

    (void)state;
    for (unsigned populate = 0; populate < 2; populate++) {
        struct mm_space *s = furnished(f);
        uint64_t before = resident(s);

        assert_int_equal(map_kind(s, AT + 2 * PAGE, 10 * PAGE,
                                  MM_SPACE_REPLACE | (populate != 0 ? MM_SPACE_POPULATE : 0),
                                  MM_REGION_ANONYMOUS),
                         MM_OK);
        assert_int_equal(resident(s), before + (populate != 0 ? 10 : 0) * PAGE - 8 * PAGE);
        is_region(s, AT, 2 * PAGE, MM_REGION_DATA);
        is_region(s, AT + 2 * PAGE, 10 * PAGE, MM_REGION_ANONYMOUS);
        is_region(s, AT + 12 * PAGE, 2 * PAGE, MM_REGION_DATA);
        assert_int_equal(nr_regions(s), 3);
        for (uint64_t i = 0; i < 14; i++) {
            assert_int_equal(loaded(f, s, AT + i * PAGE), i < 2 || i >= 12 ? 100 + i : 0);
        }
        assert_int_equal(mm_space_check(s), MM_OK);
        put_last(f, s);
    }
    fixture_stop(f);
}

/* It replaces what is there, and where nothing is it is as without; a neighbour that agrees is one
 * with it. */
static void test_replace_shapes(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = furnished(f);

    (void)state;
    assert_int_equal(map_at(s, AT + 8 * PAGE, 2 * PAGE, RW, MM_SPACE_REPLACE), MM_OK);
    assert_int_equal(nr_regions(s), 4);
    assert_int_equal(map_kind(s, AT + 4 * PAGE, 4 * PAGE, MM_SPACE_REPLACE, MM_REGION_DATA), MM_OK);
    is_region(s, AT, 8 * PAGE, MM_REGION_DATA);
    assert_int_equal(loaded(f, s, AT + 3 * PAGE), 103);
    assert_int_equal(loaded(f, s, AT + 4 * PAGE), 0);
    assert_int_equal(map_kind(s, AT + 8 * PAGE, 2 * PAGE, MM_SPACE_REPLACE, MM_REGION_DATA), MM_OK);
    is_region(s, AT, 14 * PAGE, MM_REGION_DATA);
    assert_int_equal(map_kind(s, AT + PAGE, PAGE, MM_SPACE_REPLACE, MM_REGION_DATA), MM_OK);
    is_region(s, AT, 14 * PAGE, MM_REGION_DATA);
    assert_int_equal(loaded(f, s, AT + PAGE), 0);
    assert_int_equal(loaded(f, s, AT), 100);
    assert_int_equal(
        map_at(s, AT - PAGE, 20 * PAGE, MM_PROT_NONE, MM_SPACE_REPLACE | MM_SPACE_GUARD), MM_OK);
    assert_int_equal(nr_regions(s), 1);
    assert_int_equal(resident(s), 0);
    assert_false(store(f, s, AT, 1));
    assert_int_equal(mm_space_check(s), MM_OK);
    put_last(f, s);
    fixture_stop(f);
}

/* Without REPLACE not even one page may be in the way. */
static void test_in_the_way(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = furnished(f);
    uint64_t hash = state_hash(f, s);

    (void)state;
    for (uint64_t i = 0; i < 14; i++) {
        assert_int_equal(map_at(s, AT + i * PAGE, PAGE, RW, 0),
                         i == 8 || i == 9 ? MM_OK : MM_ERR_ALREADY_MAPPED);
    }
    assert_int_equal(unmap(s, AT + 8 * PAGE, 2 * PAGE), MM_OK);
    assert_int_equal(map_at(s, AT - PAGE, 2 * PAGE, RW, 0), MM_ERR_ALREADY_MAPPED);
    assert_int_equal(map_at(s, AT + 7 * PAGE, 3 * PAGE, RW, MM_SPACE_POPULATE),
                     MM_ERR_ALREADY_MAPPED);
    assert_int_equal(map_at(s, PAGE, 100 * PAGE, RW, 0), MM_ERR_ALREADY_MAPPED);
    assert_true(state_hash(f, s) == hash);
    put_last(f, s);
    fixture_stop(f);
}

static uint64_t leaf_len(struct mm_space *s, uint64_t at)
{
    struct mm_mapping leaf;

    return mm_paging_translate(mm_space_table(s), mm_vaddr(at), &leaf) == MM_OK ? leaf.page.len : 0;
}

/* Large leaves that an edit cuts keep what is outside of it. */
static void test_large_leaves_cut(void **state)
{
    struct fixture *f = fixture_start(&large);

    (void)state;
    for (unsigned replace = 0; replace < 2; replace++) {
        struct mm_space *s = new_space(f);
        const uint64_t from = P2M + 100 * PAGE;
        const uint64_t to = 4 * P2M - 7 * PAGE;

        assert_int_equal(map_at(s, P2M, 3 * P2M, RW, MM_SPACE_HUGE | MM_SPACE_POPULATE), MM_OK);
        for (uint64_t at = P2M; at < 4 * P2M; at += 50 * PAGE) {
            assert_true(store(f, s, at, at));
        }
        if (replace != 0) {
            assert_int_equal(map_at(s, from, to - from, RW, MM_SPACE_REPLACE), MM_OK);
        } else {
            assert_int_equal(unmap(s, from, to - from), MM_OK);
        }
        assert_int_equal(resident(s), 107 * PAGE);
        assert_int_equal(leaf_len(s, P2M), PAGE);
        assert_int_equal(leaf_len(s, 4 * P2M - PAGE), PAGE);
        for (uint64_t at = P2M; at < 4 * P2M; at += 50 * PAGE) {
            bool gone = at >= from && at < to;
            uint64_t value = 0;

            assert_true(load(f, s, at, &value) == (!gone || replace != 0));
            assert_int_equal(value, gone ? 0 : at);
        }
        assert_int_equal(mm_space_check(s), MM_OK);
        put_last(f, s);
    }
    fixture_stop(f);
}

/* --- what keeps regions apart ----------------------------------------------------------------- */

static void test_apart(void **state)
{
    static const struct {
        enum mm_region_kind kind;
        uint32_t flags;
        uint64_t tag;
    } cases[] = {
        {MM_REGION_ANONYMOUS, 0, 0},
        {MM_REGION_CODE, 0, 0},
        {MM_REGION_DATA, 0, 0},
        {MM_REGION_STACK, 0, 0},
        {MM_REGION_HEAP, 0, 0},
        {MM_REGION_ANONYMOUS, MM_SPACE_STACK, 0},
        {MM_REGION_ANONYMOUS, MM_SPACE_HUGE, 0},
        {MM_REGION_ANONYMOUS, MM_SPACE_NO_HUGE, 0},
        {MM_REGION_ANONYMOUS, MM_SPACE_WIRED, 0},
        {MM_REGION_ANONYMOUS, 0, 1},
    };
    const unsigned nr = sizeof(cases) / sizeof(cases[0]);
    struct fixture *f = fixture_start(NULL);

    (void)state;
    for (unsigned i = 0; i < nr * nr; i++) {
        struct mm_space *s = new_space(f);

        for (unsigned k = 0; k < 2; k++) {
            unsigned c = k == 0 ? i / nr : i % nr;
            struct mm_space_request request = {.at = mm_vaddr(AT + k * PAGE),
                                               .len = PAGE,
                                               .prot = RW,
                                               .flags = cases[c].flags | MM_SPACE_FIXED,
                                               .tag = cases[c].tag,
                                               .kind = cases[c].kind};
            mm_vaddr_t out;
            struct mm_region_info info;

            assert_int_equal(mm_space_map(s, &request, &out), MM_OK);
            info = region_at(s, AT + k * PAGE);
            assert_int_equal(info.kind, cases[c].kind);
            assert_int_equal(info.flags, cases[c].flags);
            assert_int_equal(info.tag, cases[c].tag);
        }
        assert_int_equal(nr_regions(s), i / nr == i % nr ? 1 : 2);
        put_last(f, s);
    }
    fixture_stop(f);
}

/* POPULATE puts every page there, also WIRED; not where nothing may be touched. */
static void test_populated(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);

    (void)state;
    assert_int_equal(map_at(s, AT, 3 * PAGE, MM_PROT_READ, MM_SPACE_POPULATE), MM_OK);
    assert_int_equal(resident(s), 3 * PAGE);
    assert_int_equal(map_at(s, AT + 4 * PAGE, 3 * PAGE, RW, MM_SPACE_WIRED), MM_OK);
    assert_int_equal(resident(s), 6 * PAGE);
    assert_int_not_equal(frame_at(s, AT), f->spaces.zero_page.raw);
    assert_int_equal(
        map_at(s, AT + 8 * PAGE, PAGE, MM_PROT_NONE, MM_SPACE_WIRED | MM_SPACE_POPULATE), MM_OK);
    assert_int_equal(
        map_at(s, AT + 9 * PAGE, PAGE, MM_PROT_NONE, MM_SPACE_GUARD | MM_SPACE_POPULATE), MM_OK);
    assert_int_equal(resident(s), 6 * PAGE);
    put_last(f, s);
    fixture_stop(f);
}

/* --- limits and promises ---------------------------------------------------------------------- */

static void test_limits(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space_group group = {0};
    struct mm_space_limits of_group = {.mapped_bytes = 24 * PAGE, .resident_bytes = 10 * PAGE};
    struct mm_space_config config = {
        .limits = {.mapped_bytes = 16 * PAGE, .resident_bytes = 8 * PAGE}, .group = &group};
    struct mm_space *s = NULL;
    struct mm_space *t = NULL;
    struct mm_space_group_stats stats;
    uint64_t hash;

    (void)state;
    assert_int_equal(mm_space_group_init(&group, &of_group), MM_OK);
    assert_int_equal(mm_space_create_with(&f->spaces, &config, &s), MM_OK);
    assert_int_equal(mm_space_create_with(&f->spaces, &config, &t), MM_OK);
    assert_int_equal(map_at(s, AT, 12 * PAGE, RW, 0), MM_OK);
    hash = state_hash(f, s);
    assert_int_equal(map_at(s, AT + 20 * PAGE, 5 * PAGE, RW, 0), MM_ERR_LIMIT);
    assert_int_equal(map_at(t, AT, 13 * PAGE, RW, 0), MM_ERR_LIMIT); /* of the group */
    assert_int_equal(map_at(s, AT + 20 * PAGE, UINT64_C(1) << 46, RW, 0), MM_ERR_LIMIT);
    assert_true(state_hash(f, s) == hash);
    assert_int_equal(map_at(t, AT, 12 * PAGE, RW, 0), MM_OK);
    assert_int_equal(mm_space_group_get_stats(&group, &stats), MM_OK);
    assert_int_equal(stats.mapped_bytes, 24 * PAGE);
    /* What is replaced does not count twice. */
    assert_int_equal(map_at(s, AT, 12 * PAGE, MM_PROT_READ, MM_SPACE_REPLACE), MM_OK);
    assert_int_equal(map_at(s, AT, 13 * PAGE, RW, MM_SPACE_REPLACE), MM_ERR_LIMIT);
    assert_int_equal(unmap(t, AT, PAGE), MM_OK);
    assert_int_equal(map_at(s, AT, 13 * PAGE, RW, MM_SPACE_REPLACE), MM_OK);
    /* Pages. */
    hash = state_hash(f, s);
    assert_int_equal(map_at(s, AT, 9 * PAGE, RW, MM_SPACE_REPLACE | MM_SPACE_POPULATE),
                     MM_ERR_LIMIT);
    assert_true(state_hash(f, s) == hash);
    assert_int_equal(map_at(s, AT, 8 * PAGE, RW, MM_SPACE_REPLACE | MM_SPACE_POPULATE), MM_OK);
    assert_int_equal(map_at(t, AT + PAGE, 3 * PAGE, RW, MM_SPACE_REPLACE | MM_SPACE_POPULATE),
                     MM_ERR_LIMIT);
    assert_int_equal(map_at(t, AT + PAGE, 2 * PAGE, RW, MM_SPACE_REPLACE | MM_SPACE_POPULATE),
                     MM_OK);
    assert_int_equal(mm_space_group_get_stats(&group, &stats), MM_OK);
    assert_int_equal(stats.mapped_bytes, 24 * PAGE);
    assert_int_equal(stats.resident_bytes, 10 * PAGE);
    put_last(f, s);
    put_last(f, t);
    assert_int_equal(mm_space_group_get_stats(&group, &stats), MM_OK);
    assert_int_equal(stats.mapped_bytes + stats.resident_bytes, 0);
    assert_int_equal(mm_space_group_destroy(&group), MM_OK);
    fixture_stop(f);
}

static uint64_t committed(struct mm_space *s)
{
    struct mm_space_stats stats;

    assert_int_equal(mm_space_get_stats(s, &stats), MM_OK);
    return stats.committed_bytes;
}

static void test_promises(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s;
    uint64_t hash;

    (void)state;
    f->spaces.commit = MM_COMMIT_NEVER;
    f->spaces.commit_pages = 16;
    s = new_space(f);
    assert_int_equal(map_at(s, AT, 10 * PAGE, RW, 0), MM_OK);
    assert_int_equal(map_at(s, AT + 20 * PAGE, 50 * PAGE, RX, 0), MM_OK);
    assert_int_equal(committed(s), 10 * PAGE);
    hash = state_hash(f, s);
    assert_int_equal(map_at(s, AT + 80 * PAGE, 7 * PAGE, RW, 0), MM_ERR_NO_MEMORY);
    assert_int_equal(map_at(s, AT, 7 * PAGE, RW, MM_SPACE_REPLACE), MM_ERR_NO_MEMORY);
    assert_true(state_hash(f, s) == hash);
    assert_int_equal(map_at(s, AT + 8 * PAGE, 6 * PAGE, RW, MM_SPACE_REPLACE), MM_OK);
    assert_int_equal(committed(s), 14 * PAGE);
    assert_int_equal(map_at(s, AT, 12 * PAGE, MM_PROT_READ, MM_SPACE_REPLACE), MM_OK);
    assert_int_equal(committed(s), 2 * PAGE);
    assert_int_equal(unmap(s, AT, 80 * PAGE), MM_OK);
    assert_int_equal(committed(s), 0);
    f->spaces.commit = MM_COMMIT_HEURISTIC;
    assert_int_equal(map_at(s, AT, (f->m.frames.nr_frames + 1) * PAGE, RW, 0), MM_ERR_NO_MEMORY);
    assert_int_equal(map_at(s, AT, (f->m.frames.nr_frames + 1) * PAGE, MM_PROT_READ, 0), MM_OK);
    assert_int_equal(committed(s), 0);
    put_last(f, s);
    fixture_stop(f);
}

/* --- wrong ------------------------------------------------------------------------------------ */

static const struct {
    struct mm_space_request request;
    mm_status_t want, in_kernel;
} bad_requests[] = {
    {{.len = PAGE, .flags = MM_SPACE_REPLACE}, MM_ERR_INVALID_FLAGS, MM_ERR_INVALID_FLAGS},
    {{.len = PAGE, .flags = MM_SPACE_HUGE | MM_SPACE_NO_HUGE},
     MM_ERR_INVALID_FLAGS,
     MM_ERR_INVALID_FLAGS},
    {{.len = PAGE, .flags = MM_SPACE_FLAGS_ALL + 1}, MM_ERR_INVALID_FLAGS, MM_ERR_INVALID_FLAGS},
    {{.len = PAGE, .flags = MM_SPACE_GUARD, .prot = MM_PROT_READ},
     MM_ERR_INVALID_FLAGS,
     MM_ERR_INVALID_FLAGS},
    {{.len = PAGE, .flags = MM_SPACE_GUARD | MM_SPACE_STACK},
     MM_ERR_INVALID_FLAGS,
     MM_ERR_INVALID_FLAGS},
    {{.len = PAGE, .flags = MM_SPACE_GUARD | MM_SPACE_HUGE},
     MM_ERR_INVALID_FLAGS,
     MM_ERR_INVALID_FLAGS},
    {{.len = PAGE, .flags = MM_SPACE_GUARD | MM_SPACE_WIRED},
     MM_ERR_INVALID_FLAGS,
     MM_ERR_INVALID_FLAGS},
    {{.len = PAGE, .prot = MM_PROT_USER}, MM_ERR_INVALID_FLAGS, MM_ERR_INVALID_FLAGS},
    {{.len = PAGE, .prot = MM_PROT_GLOBAL}, MM_ERR_INVALID_FLAGS, MM_ERR_INVALID_FLAGS},
    {{.len = PAGE, .kind = MM_REGION_FILE}, MM_ERR_INVALID_ARGUMENT, MM_ERR_INVALID_ARGUMENT},
    {{.len = PAGE, .kind = MM_REGION_SHARED}, MM_ERR_INVALID_ARGUMENT, MM_ERR_INVALID_ARGUMENT},
    {{.len = PAGE, .kind = MM_REGION_DEVICE}, MM_ERR_INVALID_ARGUMENT, MM_ERR_INVALID_ARGUMENT},
    {{.len = PAGE, .kind = (enum mm_region_kind) - 1},
     MM_ERR_INVALID_ARGUMENT,
     MM_ERR_INVALID_ARGUMENT},
    {{.len = PAGE, .flags = MM_SPACE_STACK}, MM_OK, MM_ERR_UNSUPPORTED},
    {{.len = PAGE, .flags = MM_SPACE_HUGE}, MM_OK, MM_ERR_UNSUPPORTED},
    {{.len = PAGE, .flags = MM_SPACE_NO_HUGE}, MM_OK, MM_ERR_UNSUPPORTED},
    {{.len = PAGE, .flags = MM_SPACE_WIRED}, MM_OK, MM_ERR_UNSUPPORTED},
    {{.len = PAGE, .flags = MM_SPACE_FIXED | MM_SPACE_REPLACE},
     MM_ERR_INVALID_ADDRESS,
     MM_ERR_UNSUPPORTED},
    {{.len = PAGE, .align = PAGE / 2}, MM_ERR_NOT_ALIGNED, MM_ERR_NOT_ALIGNED},
    {{.len = PAGE, .align = 3 * PAGE}, MM_ERR_NOT_ALIGNED, MM_ERR_NOT_ALIGNED},
    {{.len = PAGE, .align = UINT64_MAX}, MM_ERR_NOT_ALIGNED, MM_ERR_NOT_ALIGNED},
    {{.at = {PAGE}, .len = PAGE, .align = 2 * PAGE, .flags = MM_SPACE_FIXED},
     MM_ERR_NOT_ALIGNED,
     MM_ERR_NOT_ALIGNED},
    {{.len = PAGE, .align = UINT64_C(1) << 63}, MM_ERR_REGION_NOT_FOUND, MM_ERR_REGION_NOT_FOUND},
    {{.len = T_USER_LEN}, MM_ERR_REGION_NOT_FOUND, MM_ERR_REGION_NOT_FOUND},
    {{.len = UINT64_MAX - PAGE + 1}, MM_ERR_REGION_NOT_FOUND, MM_ERR_REGION_NOT_FOUND},
    {{.len = UINT64_MAX - PAGE + 1, .flags = MM_SPACE_STACK},
     MM_ERR_REGION_NOT_FOUND,
     MM_ERR_UNSUPPORTED},
    {{.len = UINT64_MAX - PAGE + 2}, MM_ERR_INVALID_SIZE, MM_ERR_INVALID_SIZE},
    {{.len = UINT64_MAX}, MM_ERR_INVALID_SIZE, MM_ERR_INVALID_SIZE},
};

static void test_bad_requests(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *spaces[] = {new_space(f), mm_space_kernel(&f->spaces)};
    struct mm_space_request good = {.len = PAGE};
    mm_vaddr_t out = {7};

    (void)state;
    for (unsigned i = 0; i < 2 * sizeof(bad_requests) / sizeof(bad_requests[0]); i++) {
        struct mm_space *s = spaces[i % 2];
        mm_status_t want = i % 2 == 0 ? bad_requests[i / 2].want : bad_requests[i / 2].in_kernel;
        uint64_t hash = state_hash(f, s);

        out.raw = 7;
        assert_int_equal(mm_space_map(s, &bad_requests[i / 2].request, &out), want);
        if (want == MM_OK) {
            assert_int_equal(unmap(s, out.raw, PAGE), MM_OK);
        } else {
            assert_int_equal(out.raw, 7);
        }
        assert_true(state_hash(f, s) == hash);
    }
    out.raw = 7;
    assert_int_equal(mm_space_map(NULL, &good, &out), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_space_map(spaces[0], NULL, &out), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_space_map(spaces[0], &good, NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(out.raw, 7);
    put_last(f, spaces[0]);
    fixture_stop(f);
}

/* Hazard 21: addresses and lengths at every edge, over the calls that take a range. */
static const uint64_t edges[] = {0,
                                 1,
                                 PAGE - 1,
                                 PAGE,
                                 PAGE + 1,
                                 2 * PAGE,
                                 USER_LAST - PAGE,
                                 USER_LAST,
                                 T_USER_LEN - 1,
                                 T_USER_LEN,
                                 T_USER_LEN + 1,
                                 UINT64_MAX - T_USER_LEN + 1,
                                 T_ARENA,
                                 (UINT64_C(1) << 56) - 1,
                                 UINT64_C(1) << 56,
                                 (UINT64_C(1) << 56) + 1,
                                 UINT64_MAX - PAGE,
                                 UINT64_MAX - PAGE + 1,
                                 UINT64_MAX - PAGE + 2,
                                 UINT64_MAX};

static mm_status_t of_range(uint64_t at, uint64_t len, mm_status_t if_good, mm_status_t if_wraps)
{
    uint64_t rounded = (len + PAGE - 1) / PAGE * PAGE;

    if (at % PAGE != 0) {
        return MM_ERR_NOT_ALIGNED;
    }
    if (len == 0 || rounded == 0 || len > UINT64_MAX - PAGE + 1) {
        return MM_ERR_INVALID_SIZE;
    }
    if (at != 0 && rounded > UINT64_MAX - at + 1) {
        return if_wraps;
    }
    return at >= PAGE && at < USER_LAST && rounded <= USER_LAST - at ? if_good
                                                                     : MM_ERR_INVALID_ADDRESS;
}

static void test_edges(void **state)
{
    const unsigned nr = sizeof(edges) / sizeof(edges[0]);
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    uint64_t hash = state_hash(f, s);

    (void)state;
    for (unsigned i = 0; i < nr * nr; i++) {
        uint64_t at = edges[i / nr];
        uint64_t len = edges[i % nr];
        struct mm_vrange range = mm_vrange(mm_vaddr(at), len);
        mm_status_t want = of_range(at, len, MM_OK, MM_ERR_INVALID_ADDRESS);

        for (unsigned flags = 0; flags <= MM_SPACE_REPLACE; flags += MM_SPACE_REPLACE) {
            assert_int_equal(map_at(s, at, len, RW, flags), want);
            assert_int_equal(unmap(s, at, len), of_range(at, len, MM_OK, MM_ERR_INVALID_SIZE));
        }
        assert_int_equal(mm_space_protect(s, range, MM_PROT_READ),
                         of_range(at, len, MM_ERR_NOT_MAPPED, MM_ERR_INVALID_SIZE));
        assert_int_equal(mm_space_make_cow(s, range),
                         of_range(at, len, MM_OK, MM_ERR_INVALID_SIZE));
        assert_true(state_hash(f, s) == hash);
    }
    assert_int_equal(mm_space_protect(s, mm_vrange(mm_vaddr(AT), PAGE), MM_PROT_USER),
                     MM_ERR_INVALID_FLAGS);
    assert_int_equal(mm_space_protect(NULL, mm_vrange(mm_vaddr(AT), PAGE), RW),
                     MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_space_unmap(NULL, mm_vrange(mm_vaddr(AT), PAGE)), MM_ERR_INVALID_ARGUMENT);
    put_last(f, s);
    fixture_stop(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_replace),      cmocka_unit_test(test_replace_shapes),
        cmocka_unit_test(test_in_the_way),   cmocka_unit_test(test_large_leaves_cut),
        cmocka_unit_test(test_apart),        cmocka_unit_test(test_populated),
        cmocka_unit_test(test_limits),       cmocka_unit_test(test_promises),
        cmocka_unit_test(test_bad_requests), cmocka_unit_test(test_edges),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
