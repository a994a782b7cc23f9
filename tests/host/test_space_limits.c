// SPDX-License-Identifier: MIT
/**
 * Limits of spaces and groups, and commit charge: what is refused, and that every sum is exact after
 * every call, whether it succeeded or not.
 */
#include "space_counts.h"

#define AT (32 * PAGE)

static void limit(struct mm_space *s, uint64_t mapped_bytes, uint64_t resident_bytes)
{
    const struct mm_space_limits limits = {mapped_bytes, resident_bytes};

    assert_int_equal(mm_space_set_limits(s, &limits), MM_OK);
}

/* A call that a limit refuses has changed nothing. */
#define REFUSED(f, s, call, status)                                                                \
    do {                                                                                           \
        uint64_t before_ = state_hash((f), (s));                                                   \
        assert_int_equal((call), (status));                                                        \
        assert_int_equal(state_hash((f), (s)), before_);                                           \
        assert_int_equal(mm_space_check(s), MM_OK);                                                \
    } while (0)

/* A fault and nothing else: no call that counts anew comes before it. */
static enum mm_fault_result fault_at(struct mm_space *s, uint64_t at, uint32_t flags)
{
    const struct mm_fault fault = {.at = mm_vaddr(at), .flags = MM_FAULT_USER | flags};
    enum mm_fault_result got = MM_FAULT_PENDING;

    assert_int_equal(mm_space_fault(s, &fault, &got), MM_OK);
    return got;
}

static void fault_refused(struct fixture *f, struct mm_space *s, uint64_t at)
{
    uint64_t before = state_hash(f, s);

    assert_false(store(f, s, at, 1));
    assert_int_equal(f->last, MM_FAULT_LIMIT);
    assert_int_equal(state_hash(f, s), before);
    assert_int_equal(mm_space_check(s), MM_OK);
}

/* --- one space -------------------------------------------------------------------------------- */

static void test_mapped(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);

    (void)state;
    limit(s, 10 * PAGE, 0);
    assert_int_equal(map_at(s, AT, 8 * PAGE, RW, 0), MM_OK);
    REFUSED(f, s, map_at(s, AT + 20 * PAGE, 3 * PAGE, RW, 0), MM_ERR_LIMIT);
    REFUSED(f, s, map_at(s, AT + 20 * PAGE, 3 * PAGE, MM_PROT_NONE, MM_SPACE_GUARD), MM_ERR_LIMIT);
    REFUSED(f, s, map_at(s, AT + 20 * PAGE, USER_LAST - AT - 20 * PAGE, RW, 0), MM_ERR_LIMIT);
    assert_int_equal(map_at(s, AT + 20 * PAGE, 2 * PAGE, RW, 0), MM_OK);
    /* What is replaced makes room. */
    assert_int_equal(map_at(s, AT + 4 * PAGE, 4 * PAGE, RX, MM_SPACE_REPLACE), MM_OK);
    REFUSED(f, s, map_at(s, AT + 4 * PAGE, 5 * PAGE, RX, MM_SPACE_REPLACE), MM_ERR_LIMIT);
    /* Lower than what is there: nothing goes, and nothing comes. */
    limit(s, 5 * PAGE, 0);
    assert_int_equal(stats_of(s).mapped_bytes, 10 * PAGE);
    REFUSED(f, s, map_at(s, AT + 30 * PAGE, PAGE, RW, 0), MM_ERR_LIMIT);
    assert_int_equal(unmap(s, AT, 6 * PAGE), MM_OK);
    assert_int_equal(map_at(s, AT, PAGE, RW, 0), MM_OK);
    REFUSED(f, s, map_at(s, AT + PAGE, PAGE, RW, 0), MM_ERR_LIMIT);
    assert_int_equal(mm_space_set_limits(s, NULL), MM_OK);
    assert_int_equal(map_at(s, AT + 100 * PAGE, 500 * PAGE, RW, 0), MM_OK);
    put_last(f, s);
    fixture_stop(f);
}

static void test_resident(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);

    (void)state;
    assert_int_equal(map_at(s, AT, 64 * PAGE, RW, 0), MM_OK);
    assert_true(store(f, s, AT, 1)); /* before anybody counts */
    limit(s, 0, 3 * PAGE + 1);       /* whole pages count */
    assert_int_equal(fault_at(s, AT + PAGE, MM_FAULT_WRITE), MM_FAULT_ZERO);
    assert_int_equal(fault_at(s, AT + 2 * PAGE, 0), MM_FAULT_ZERO); /* the zero page is a page */
    assert_int_equal(fault_at(s, AT + 3 * PAGE, MM_FAULT_WRITE), MM_FAULT_LIMIT);
    fault_refused(f, s, AT + 3 * PAGE);
    REFUSED(f, s, map_at(s, AT + 70 * PAGE, PAGE, RW, MM_SPACE_POPULATE), MM_ERR_LIMIT);
    REFUSED(f, s, map_at(s, AT + 70 * PAGE, PAGE, RW, MM_SPACE_WIRED), MM_ERR_LIMIT);
    assert_true(store(f, s, AT + 2 * PAGE, 1)); /* a frame for the zero page */
    fault_refused(f, s, AT + 3 * PAGE);
    assert_int_equal(unmap(s, AT + PAGE, PAGE), MM_OK);
    assert_true(store(f, s, AT + 3 * PAGE, 1));
    fault_refused(f, s, AT + 4 * PAGE);
    /* To any and back, with pages that come in between. */
    limit(s, 0, 0);
    for (uint64_t i = 4; i < 10; i++) {
        assert_true(store(f, s, AT + i * PAGE, 1));
    }
    limit(s, 0, 9 * PAGE);
    fault_refused(f, s, AT + 10 * PAGE);
    limit(s, 0, 10 * PAGE);
    assert_true(store(f, s, AT + 10 * PAGE, 1));
    fault_refused(f, s, AT + 11 * PAGE);
    assert_int_equal(resident(s), 10 * PAGE);
    /* Less than a page: none. */
    assert_int_equal(unmap(s, AT, 32 * PAGE), MM_OK);
    limit(s, 0, PAGE - 1);
    fault_refused(f, s, AT + 40 * PAGE);
    put_last(f, s);
    fixture_stop(f);
}

/* Where 2 MiB are not allowed, 4 KiB serve. */
static void test_resident_huge(void **state)
{
    const uint64_t at = UINT64_C(1) << 30;
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    struct mm_mapping leaf;

    (void)state;
    limit(s, 0, 513 * PAGE);
    assert_int_equal(map_at(s, at, 1024 * PAGE, RW, MM_SPACE_HUGE), MM_OK);
    assert_int_equal(fault_at(s, at, MM_FAULT_WRITE), MM_FAULT_HUGE);
    assert_int_equal(fault_at(s, at + 512 * PAGE, MM_FAULT_WRITE), MM_FAULT_ZERO);
    assert_int_equal(mm_paging_translate(mm_space_table(s), mm_vaddr(at + 512 * PAGE), &leaf),
                     MM_OK);
    assert_int_equal(leaf.page.len, PAGE);
    fault_refused(f, s, at + 513 * PAGE);
    assert_int_equal(resident(s), 513 * PAGE);
    put_last(f, s);
    fixture_stop(f);
}

/* A stack that grows is asked as a map is. */
static void test_stack(void **state)
{
    const uint64_t top = UINT64_C(1) << 40;
    struct fixture *f = fixture_start_promising(NULL, MM_COMMIT_NEVER, 8);
    struct mm_space *s = new_space(f);

    (void)state;
    limit(s, 5 * PAGE, 0);
    assert_int_equal(map_at(s, top - 2 * PAGE, 2 * PAGE, RW, MM_SPACE_STACK), MM_OK);
    assert_true(store(f, s, top - 5 * PAGE, 1));
    assert_int_equal(promised(f), 5);
    fault_refused(f, s, top - 6 * PAGE);
    assert_int_equal(promised(f), 5);
    limit(s, 0, 0);
    assert_true(store(f, s, top - 8 * PAGE, 1));
    assert_int_equal(promised(f), 8);
    assert_false(store(f, s, top - 9 * PAGE, 1));
    assert_int_equal(f->last, MM_FAULT_NO_MEMORY);
    assert_int_equal(promised(f), 8);
    assert_int_equal(stats_of(s).mapped_bytes, 8 * PAGE);
    assert_int_equal(mm_space_check(s), MM_OK);
    put_last(f, s);
    assert_int_equal(promised(f), 0);
    fixture_stop(f);
}

/* --- groups ----------------------------------------------------------------------------------- */

static void test_group(void **state)
{
    struct mm_space_limits limits = {.mapped_bytes = 100 * PAGE, .resident_bytes = 5 * PAGE};
    struct mm_space_group group = {0};
    struct fixture *f = fixture_start(NULL);
    struct mm_space *a;
    struct mm_space *b;

    (void)state;
    assert_int_equal(mm_space_group_init(NULL, &limits), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_space_group_set_limits(&group, &limits), MM_ERR_NOT_INITIALIZED);
    assert_int_equal(mm_space_group_destroy(&group), MM_ERR_NOT_INITIALIZED);
    assert_int_equal(mm_space_group_init(&group, &limits), MM_OK);
    assert_int_equal(mm_space_group_init(&group, &limits), MM_ERR_ALREADY_INITIALIZED);
    a = space_in(f, &group);
    b = space_in(f, &group);
    assert_int_equal(map_at(a, AT, 60 * PAGE, RW, 0), MM_OK);
    REFUSED(f, b, map_at(b, AT, 41 * PAGE, RW, 0), MM_ERR_LIMIT);
    assert_int_equal(map_at(b, AT, 40 * PAGE, RW, 0), MM_OK);
    assert_int_equal(group_of(&group).mapped_bytes, 100 * PAGE);
    assert_int_equal(group_of(&group).nr_spaces, 2);
    for (uint64_t i = 0; i < 5; i++) {
        assert_true(store(f, i % 2 == 0 ? a : b, AT + i * PAGE, 1));
    }
    fault_refused(f, a, AT + 6 * PAGE);
    fault_refused(f, b, AT + 6 * PAGE);
    REFUSED(f, a, map_at(a, AT + 10 * PAGE, PAGE, RW, MM_SPACE_POPULATE | MM_SPACE_REPLACE),
            MM_ERR_LIMIT);
    assert_int_equal(group_of(&group).resident_bytes, 5 * PAGE);
    assert_int_equal(unmap(a, AT, 60 * PAGE), MM_OK);
    assert_int_equal(group_of(&group).resident_bytes, 2 * PAGE);
    assert_int_equal(group_of(&group).mapped_bytes, 40 * PAGE);
    assert_true(store(f, b, AT + 6 * PAGE, 1));
    /* One that goes leaves nothing behind; the limits of the space itself count too. */
    put_last(f, b);
    assert_int_equal(group_of(&group).resident_bytes, 0);
    assert_int_equal(group_of(&group).mapped_bytes, 0);
    assert_int_equal(mm_space_group_destroy(&group), MM_ERR_BUSY);
    limit(a, 2 * PAGE, PAGE);
    REFUSED(f, a, map_at(a, AT, 3 * PAGE, RW, 0), MM_ERR_LIMIT);
    assert_int_equal(map_at(a, AT, 2 * PAGE, RW, 0), MM_OK);
    assert_true(store(f, a, AT, 1));
    fault_refused(f, a, AT + PAGE);
    assert_int_equal(group_of(&group).resident_bytes, PAGE);
    assert_int_equal(mm_space_group_set_limits(&group, NULL), MM_OK);
    limit(a, 0, 0);
    assert_int_equal(map_at(a, AT + 2 * PAGE, 600 * PAGE, RW, MM_SPACE_POPULATE), MM_OK);
    assert_int_equal(group_of(&group).resident_bytes, 601 * PAGE);
    put_last(f, a);
    assert_int_equal(mm_space_group_destroy(&group), MM_OK);
    fixture_stop(f);
}

/* What the group refuses is not charged to the space, also where no call has it alone since. */
static void test_refused_by_group(void **state)
{
    struct mm_space_limits limits = {.resident_bytes = PAGE};
    struct mm_space_group group = {0};
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s;

    (void)state;
    assert_int_equal(mm_space_group_init(&group, &limits), MM_OK);
    s = space_in(f, &group);
    limit(s, 0, 3 * PAGE);
    assert_int_equal(map_at(s, AT, 8 * PAGE, RW, 0), MM_OK);
    assert_true(store(f, s, AT, 1));
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(fault_at(s, AT + PAGE, MM_FAULT_WRITE), MM_FAULT_LIMIT);
    }
    assert_int_equal(mm_space_group_set_limits(&group, NULL), MM_OK);
    assert_int_equal(fault_at(s, AT + PAGE, MM_FAULT_WRITE), MM_FAULT_ZERO);
    assert_int_equal(fault_at(s, AT + 2 * PAGE, MM_FAULT_WRITE), MM_FAULT_ZERO);
    fault_refused(f, s, AT + 3 * PAGE);
    assert_int_equal(group_of(&group).resident_bytes, 3 * PAGE);
    put_last(f, s);
    assert_int_equal(mm_space_group_destroy(&group), MM_OK);
    fixture_stop(f);
}

/* --- commit charge ---------------------------------------------------------------------------- */

static void test_commit_never(void **state)
{
    struct fixture *f = fixture_start_promising(NULL, MM_COMMIT_NEVER, 20);
    struct mm_space *s = new_space(f);
    struct mm_space *t = new_space(f);

    (void)state;
    assert_int_equal(map_at(s, AT, 12 * PAGE, RW, 0), MM_OK);
    assert_int_equal(map_at(t, AT, 30 * PAGE, RX, 0), MM_OK); /* promises nothing */
    assert_int_equal(promised(f), 12);
    REFUSED(f, t, protect(t, AT, 9 * PAGE, RW), MM_ERR_NO_MEMORY);
    assert_int_equal(promised(f), 12);
    assert_int_equal(protect(t, AT + PAGE, 8 * PAGE, RW), MM_OK);
    assert_int_equal(promised(f), 20);
    REFUSED(f, s, map_at(s, AT + 20 * PAGE, PAGE, RW, 0), MM_ERR_NO_MEMORY);
    /* What was writable once is promised until it goes. */
    assert_int_equal(protect(t, AT + PAGE, 8 * PAGE, MM_PROT_READ), MM_OK);
    assert_int_equal(protect(t, AT + PAGE, 8 * PAGE, RW), MM_OK);
    assert_int_equal(promised(f), 20);
    assert_int_equal(stats_of(t).committed_bytes, 8 * PAGE);
    /* In parts, and across what is not promised. */
    assert_int_equal(unmap(t, AT, 3 * PAGE), MM_OK);
    assert_int_equal(promised(f), 18);
    assert_int_equal(unmap(t, AT + 6 * PAGE, 20 * PAGE), MM_OK);
    assert_int_equal(promised(f), 15);
    assert_int_equal(map_at(s, AT + 4 * PAGE, 4 * PAGE, RX, MM_SPACE_REPLACE), MM_OK);
    assert_int_equal(promised(f), 11);
    assert_int_equal(map_at(s, AT + 2 * PAGE, 4 * PAGE, RW, MM_SPACE_REPLACE), MM_OK);
    assert_int_equal(promised(f), 13);
    assert_int_equal(mm_space_check(s), MM_OK);
    assert_int_equal(mm_space_check(t), MM_OK);
    put_last(f, s);
    assert_int_equal(promised(f), 3);
    put_last(f, t);
    assert_int_equal(promised(f), 0);
    fixture_stop(f);
}

static void test_commit_heuristic(void **state)
{
    struct fixture *f = fixture_start_promising(NULL, MM_COMMIT_HEURISTIC, 0);
    struct mm_space *s = new_space(f);
    uint64_t all = f->m.frames.nr_frames * PAGE;

    (void)state;
    REFUSED(f, s, map_at(s, AT, all + PAGE, RW, 0), MM_ERR_NO_MEMORY);
    assert_int_equal(map_at(s, AT, all + PAGE, MM_PROT_READ, 0), MM_OK);
    REFUSED(f, s, protect(s, AT, all + PAGE, RW), MM_ERR_NO_MEMORY);
    assert_int_equal(map_at(s, UINT64_C(1) << 40, all, RW, 0), MM_OK);
    assert_int_equal(map_at(s, UINT64_C(1) << 41, all, RW, 0), MM_OK); /* each is possible */
    assert_int_equal(promised(f), 0);
    assert_int_equal(stats_of(s).committed_bytes, 0);
    put_last(f, clone_of(s));
    put_last(f, s);
    fixture_stop(f);
    f = fixture_start_promising(NULL, MM_COMMIT_ALWAYS, 1);
    s = new_space(f);
    assert_int_equal(map_at(s, AT, USER_LAST - AT, RW, 0), MM_OK);
    assert_int_equal(promised(f), 0);
    put_last(f, s);
    fixture_stop(f);
}

/* --- at random -------------------------------------------------------------------------------- */

enum { NR_SPACES = 5, NR_PAGES = 64, NR_OPS = 4000 };

/* What is promised, page by page. */
enum page { FREE, MAPPED, PROMISED };

struct job {
    struct fixture *f;
    struct mm_space_group group;
    struct mm_space *space[NR_SPACES];
    enum page page[NR_SPACES][NR_PAGES];
    struct t_prng prng;
};

/* Every sum is that of its parts. */
static void sums_are_exact(struct job *j)
{
    struct mm_space_group_stats group = group_of(&j->group);
    uint64_t mapped = 0;
    uint64_t there = 0;
    uint64_t nr_promised = 0;
    uint32_t nr = 0;

    for (unsigned i = 0; i < NR_SPACES; i++) {
        struct mm_space_stats stats;
        uint64_t of_pages[3] = {0, 0, 0};

        if (j->space[i] == NULL) {
            continue;
        }
        stats = stats_of(j->space[i]);
        for (unsigned k = 0; k < NR_PAGES; k++) {
            of_pages[j->page[i][k]]++;
        }
        assert_int_equal(stats.mapped_bytes, (of_pages[MAPPED] + of_pages[PROMISED]) * PAGE);
        assert_int_equal(stats.committed_bytes, of_pages[PROMISED] * PAGE);
        mapped += stats.mapped_bytes;
        there += stats.resident_bytes;
        nr_promised += of_pages[PROMISED];
        nr++;
        assert_int_equal(mm_space_check(j->space[i]), MM_OK);
    }
    assert_int_equal(group.mapped_bytes, mapped);
    assert_int_equal(group.resident_bytes, there);
    assert_int_equal(group.nr_spaces, nr);
    assert_int_equal(promised(j->f), nr_promised);
}

static void random_map(struct job *j, unsigned i, uint64_t first, uint64_t nr)
{
    static const mm_prot_t prots[] = {MM_PROT_NONE, MM_PROT_READ, RW, RWX};
    static const uint32_t flags[] = {0, MM_SPACE_REPLACE, MM_SPACE_REPLACE | MM_SPACE_POPULATE,
                                     MM_SPACE_POPULATE};
    mm_prot_t prot = prots[t_prng_below(&j->prng, 4)];

    if (map_at(j->space[i], AT + first * PAGE, nr * PAGE, prot, flags[t_prng_below(&j->prng, 4)]) ==
        MM_OK) {
        for (uint64_t k = first; k < first + nr; k++) {
            j->page[i][k] = (prot & MM_PROT_WRITE) != 0 ? PROMISED : MAPPED;
        }
    }
}

static void random_protect(struct job *j, unsigned i, uint64_t first, uint64_t nr)
{
    mm_prot_t prot = t_prng_chance(&j->prng, 1, 2) ? RW : MM_PROT_READ;

    if (protect(j->space[i], AT + first * PAGE, nr * PAGE, prot) == MM_OK && prot == RW) {
        for (uint64_t k = first; k < first + nr; k++) {
            j->page[i][k] = PROMISED;
        }
    }
}

static void random_unmap(struct job *j, unsigned i, uint64_t first, uint64_t nr)
{
    assert_int_equal(unmap(j->space[i], AT + first * PAGE, nr * PAGE), MM_OK);
    for (uint64_t k = first; k < first + nr; k++) {
        j->page[i][k] = FREE;
    }
}

/* In the place of another, which ends. */
static void random_clone(struct job *j, unsigned i)
{
    unsigned to = (i + 1) % NR_SPACES;
    struct mm_space *child = NULL;

    if (mm_space_clone(j->space[i], &child) == MM_OK) {
        put_last(j->f, j->space[to]);
        j->space[to] = child;
        memcpy(j->page[to], j->page[i], sizeof(j->page[to]));
    } else {
        assert_null(child);
    }
}

static void random_limits(struct job *j, unsigned i)
{
    const struct mm_space_limits limits = {t_prng_below(&j->prng, 3) * 100 * PAGE,
                                           t_prng_below(&j->prng, 3) * 60 * PAGE};

    if (t_prng_chance(&j->prng, 1, 2)) {
        assert_int_equal(mm_space_group_set_limits(&j->group, &limits), MM_OK);
    } else {
        limit(j->space[i], limits.mapped_bytes / 4, limits.resident_bytes / 4);
    }
}

static void random_step(struct job *j)
{
    unsigned i = (unsigned)t_prng_below(&j->prng, NR_SPACES);
    uint64_t first = t_prng_below(&j->prng, NR_PAGES);
    uint64_t nr = 1 + t_prng_below(&j->prng, t_prng_chance(&j->prng, 1, 2) ? 4 : NR_PAGES - first);
    uint64_t value;

    nr = first + nr > NR_PAGES ? NR_PAGES - first : nr;
    run_in(j->f, j->space[i]);
    switch (t_prng_below(&j->prng, 16)) {
    case 0:
        random_clone(j, i);
        break;
    case 1:
        random_limits(j, i);
        break;
    case 2:
    case 3:
        random_unmap(j, i, first, nr);
        break;
    case 4:
    case 5:
        random_protect(j, i, first, nr);
        break;
    case 6:
    case 7:
    case 8:
        random_map(j, i, first, nr);
        break;
    case 9:
        (void)load(j->f, j->space[i], AT + first * PAGE, &value);
        break;
    default:
        (void)store(j->f, j->space[i], AT + first * PAGE, 1);
        break;
    }
}

static void test_random(void **state)
{
    struct job *j = calloc(1, sizeof(*j));

    (void)state;
    assert_non_null(j);
    j->f = fixture_start_promising(NULL, MM_COMMIT_NEVER, 200);
    assert_int_equal(mm_space_group_init(&j->group, NULL), MM_OK);
    for (unsigned i = 0; i < NR_SPACES; i++) {
        j->space[i] = space_in(j->f, &j->group);
    }
    t_prng_start(&j->prng, "limits");
    for (unsigned n = 0; n < NR_OPS; n++) {
        random_step(j);
        sums_are_exact(j);
    }
    for (unsigned i = 0; i < NR_SPACES; i++) {
        put_last(j->f, j->space[i]);
        j->space[i] = NULL;
        sums_are_exact(j);
    }
    assert_int_equal(mm_space_group_destroy(&j->group), MM_OK);
    fixture_stop(j->f);
    free(j);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mapped),        cmocka_unit_test(test_resident),
        cmocka_unit_test(test_resident_huge), cmocka_unit_test(test_stack),
        cmocka_unit_test(test_group),         cmocka_unit_test(test_refused_by_group),
        cmocka_unit_test(test_commit_never),  cmocka_unit_test(test_commit_heuristic),
        cmocka_unit_test(test_random),
    };

    return cmocka_run_group_tests_name("space_limits", tests, NULL, NULL);
}
