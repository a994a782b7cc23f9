// SPDX-License-Identifier: MIT
/**
 * Faults of two CPUs on one page, one in the midst of the other: between its look at the tables and
 * its exchange (it asks for a frame there), and before its flush has reached any CPU. A third CPU
 * keeps what it had cached, and must not read there what is gone (hazard 22).
 */
#include "space_fixture.h"

#define AT  (32 * PAGE)
#define OLD 4711

enum page_state { HOLE, ZERO_PAGE, SHARED, ONCE_SHARED, NR_PAGE_STATES };
enum moment { NEVER, AT_ALLOC, AT_FLUSH, NR_MOMENTS };

struct race {
    struct fixture *f;
    struct mm_space *space;
    enum moment moment; /* when the other CPU comes; NEVER: it has been */
    unsigned access;    /* of the other CPU */
    bool before;        /* out: it could make the access before its first fault */
    bool came;          /* out */
    unsigned nr_faults; /* of both */
    uint64_t old_frame; /* not 0: a flush must find both references */
};

static struct race race;

/* --- the other CPU ---------------------------------------------------------------------------- */

/* An access on a CPU that is in the space; calls that need the lock alone would wait for ever. */
static uint64_t *reach(unsigned cpu, unsigned access, unsigned *nr_faults)
{
    struct fixture *f = race.f;
    uint64_t paddr = 0;
    uint32_t error;

    f->m.cpus.now = cpu;
    *nr_faults = 0;
    while ((error = t_cpu_access(&f->m.cpus.cpu[cpu], AT, T_MMU_USER | access, &paddr)) !=
           T_CPU_DONE) {
        struct mm_fault fault = mm_x86_64_fault(error, AT);
        enum mm_fault_result result = MM_FAULT_PENDING;

        assert_int_equal(++*nr_faults, 1);
        assert_int_equal(mm_space_fault(race.space, &fault, &result), MM_OK);
        assert_true(mm_fault_resolved(result));
    }
    race.nr_faults += *nr_faults;
    return t_machine_ptr(&f->m, paddr);
}

static void other_comes(void)
{
    unsigned nr_faults;
    uint64_t *p;

    race.came = true;
    race.moment = NEVER;
    p = reach(1, race.access, &nr_faults);
    race.before = nr_faults == 0;
    if ((race.access & T_MMU_WRITE) != 0) {
        *p = 77;
        assert_int_equal(*reach(2, 0, &nr_faults), 77); /* it was told of it, by CPU 1 */
    }
    race.f->m.cpus.now = 0;
}

/* The frame allocator asks, between the look and the exchange. */
static uint32_t cpu_number(void *ctx)
{
    (void)ctx;
    if (race.moment == AT_ALLOC) {
        other_comes();
    }
    return 0;
}

static void invlpg(void *ctx, uint64_t at)
{
    if (race.old_frame != 0 && at == AT) {
        assert_int_equal(mm_frame_refs(&race.f->m.frames, mm_pfn(race.old_frame)), 2);
    }
    if (race.moment == AT_FLUSH) {
        race.old_frame = 0;
        other_comes();
    }
    t_cpu_broadcast_ops.invlpg(ctx, at);
}

static struct mm_platform_ops platform_ops;
static struct mm_x86_64_cpu_ops cpu_ops;

static struct fixture *start_race(void)
{
    static const struct t_machine_config machine = {.nr_cpus = 3};
    struct fixture *f = fixture_start(&machine);

    race = (struct race){.f = f, .space = new_space(f)};
    platform_ops = *f->m.platform.ops;
    platform_ops.cpu_number = cpu_number;
    f->m.frames.platform.ops = &platform_ops;
    cpu_ops = t_cpu_broadcast_ops;
    cpu_ops.invlpg = invlpg;
    f->m.arch.ops = &cpu_ops;
    return f;
}

static void stop_race(struct fixture *f)
{
    put_last(f, race.space);
    f->m.arch.ops = &t_cpu_broadcast_ops;
    f->m.frames.platform.ops = f->m.platform.ops;
    fixture_stop(f);
}

/* --- every combination ------------------------------------------------------------------------ */

static struct mm_space_stats stats_of(struct mm_space *s)
{
    struct mm_space_stats stats;

    assert_int_equal(mm_space_get_stats(s, &stats), MM_OK);
    return stats;
}

static uint64_t sum_of(const struct mm_space_stats *stats)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < MM_FAULT_COUNT; i++) {
        sum += stats->nr_faults[i];
    }
    return sum;
}

/* The page as it is to be, and all CPUs in the space; CPU 2 has read it. The child, if there is
 * one. */
static struct mm_space *prepare(struct fixture *f, struct mm_space *s, enum page_state page)
{
    struct mm_space *child = NULL;

    assert_int_equal(map_at(s, AT, PAGE, RW, 0), MM_OK);
    f->m.cpus.now = 0;
    if (page == SHARED || page == ONCE_SHARED) {
        assert_true(store(f, s, AT, OLD));
        child = clone_of(s);
    }
    if (page == ONCE_SHARED) {
        assert_true(mm_space_put(child));
        child = NULL;
    }
    for (unsigned i = f->m.cpus.nr; i-- > 0;) {
        f->m.cpus.now = i;
        assert_int_equal(mm_space_activate(s), MM_OK);
        if (page != HOLE && i == 2) {
            assert_int_equal(loaded(f, s, AT), page == ZERO_PAGE ? 0 : OLD);
        }
    }
    return child;
}

static void all_read(struct fixture *f, struct mm_space *s, uint64_t value)
{
    for (unsigned i = f->m.cpus.nr; i-- > 0;) {
        f->m.cpus.now = i;
        assert_int_equal(loaded(f, s, AT), value);
        race.nr_faults += f->nr_faults;
    }
}

static void check_counts(struct mm_space *s, enum page_state page,
                         const struct mm_space_stats *before, bool written)
{
    struct mm_space_stats after = stats_of(s);
    uint64_t nr_copied = (after.nr_faults[MM_FAULT_COW] - after.nr_reused) -
                         (before->nr_faults[MM_FAULT_COW] - before->nr_reused);

    assert_int_equal(sum_of(&after) - sum_of(before), race.nr_faults);
    assert_int_equal(after.nr_faults[MM_FAULT_ZERO] - before->nr_faults[MM_FAULT_ZERO],
                     page == HOLE ? 1 : 0);
    assert_int_equal(after.resident_bytes, PAGE);
    if (page == ZERO_PAGE || page == SHARED) {
        assert_int_equal(nr_copied, written ? 1 : 0); /* never two, however they met */
    } else if (page == ONCE_SHARED) {
        assert_int_equal(nr_copied, 0);
        assert_int_equal(after.nr_reused - before->nr_reused, written ? 1 : 0);
    } else {
        assert_int_equal(nr_copied, after.nr_zero_page - before->nr_zero_page && written ? 1 : 0);
    }
}

static void one_race(struct fixture *f, enum page_state page, enum moment moment, unsigned mine,
                     unsigned others)
{
    struct mm_space *s = race.space;
    struct mm_space *child = prepare(f, s, page);
    struct mm_space_stats before = stats_of(s);
    struct mm_space *spaces[2] = {s, child};
    bool written = ((mine | others) & T_MMU_WRITE) != 0;
    const char *wrong;
    uint64_t *p = NULL;

    race.came = false;
    race.nr_faults = 0;
    race.access = others;
    race.old_frame = page == SHARED && moment == AT_FLUSH ? frame_at(s, AT) : 0;
    race.moment = moment;
    f->m.cpus.now = 0;
    assert_true(touch(f, s, AT, T_MMU_USER | mine, &p));
    assert_in_range(f->nr_faults, 0, 1); /* "go on" means that it can */
    race.nr_faults += f->nr_faults;
    race.moment = NEVER;
    race.old_frame = 0;
    if (race.came && moment == AT_FLUSH && (others & T_MMU_WRITE) != 0) {
        assert_false(race.before); /* the copy could not be written yet */
    }
    if ((mine & T_MMU_WRITE) != 0) {
        assert_int_equal(*p, race.came && (others & T_MMU_WRITE) != 0 ? 77
                             : page == SHARED || page == ONCE_SHARED  ? OLD
                                                                      : 0);
        *p = 88;
        all_read(f, s, 88);
        assert_int_equal(mm_frame_refs(&f->m.frames, mm_pfn(frame_at(s, AT))), 1);
    }
    check_counts(s, page, &before, (mine & T_MMU_WRITE) != 0 || (race.came && written));
    nothing_stale(f);
    assert_int_equal(mm_space_check(s), MM_OK);
    wrong = t_machine_audit(&f->m, spaces, 2, mm_space_kernel(&f->spaces), 0);
    if (wrong != NULL) {
        fail_msg("%s", wrong);
    }
    if (child != NULL) {
        assert_int_equal(*(uint64_t *)t_machine_ptr(&f->m, frame_at(child, AT) << 12), OLD);
        assert_true(mm_space_put(child));
    }
    f->m.cpus.now = 0;
    assert_int_equal(unmap(s, AT, PAGE), MM_OK);
}

static void test_one_in_the_midst_of_the_other(void **state)
{
    struct fixture *f = start_race();
    unsigned nr_came[NR_PAGE_STATES][NR_MOMENTS] = {{0}};

    (void)state;
    for (unsigned i = 0; i < NR_PAGE_STATES * NR_MOMENTS * 4; i++) {
        enum page_state page = (enum page_state)(i / 4 % NR_PAGE_STATES);
        enum moment moment = (enum moment)(i / 4 / NR_PAGE_STATES);

        one_race(f, page, moment, (i & 1) != 0 ? T_MMU_WRITE : 0, (i & 2) != 0 ? T_MMU_WRITE : 0);
        nr_came[page][moment] += race.came ? 1 : 0;
    }
    /* Where there is a moment at all: whatever fills, tables too; writes that copy or take. */
    assert_int_equal(nr_came[HOLE][AT_ALLOC], 4);
    assert_int_equal(nr_came[ZERO_PAGE][AT_ALLOC], 2);
    assert_int_equal(nr_came[SHARED][AT_ALLOC], 2);
    assert_int_equal(nr_came[ZERO_PAGE][AT_FLUSH], 2);
    assert_int_equal(nr_came[SHARED][AT_FLUSH], 2);
    assert_int_equal(nr_came[ONCE_SHARED][AT_FLUSH], 2);
    stop_race(f);
}

/* --- the hardware ----------------------------------------------------------------------------- */

/* The leaf of the page. */
static uint64_t *slot_of(struct fixture *f, struct mm_space *s)
{
    uint64_t table = mm_paging_root(mm_space_table(s)).raw;
    uint64_t *slot = NULL;

    for (unsigned shift = 39; shift >= 12; shift -= 9) {
        slot = (uint64_t *)t_machine_ptr(&f->m, table & UINT64_C(0x000ffffffffff000)) +
               ((AT >> shift) & 511);
        table = *slot;
    }
    return slot;
}

/* Another CPU only reads, and its hardware notes that in the leaf, between look and exchange: the
 * exchange is tried again, with what is there now. */
static void test_the_hardware_is_faster(void **state)
{
    struct fixture *f = start_race();

    (void)state;
    for (unsigned page = SHARED; page <= ONCE_SHARED; page++) {
        struct mm_space *child = prepare(f, race.space, (enum page_state)page);
        uint64_t frame = frame_at(race.space, AT);

        for (unsigned i = 0; i < f->m.cpus.nr; i++) {
            t_cpu_drop_all(&f->m.cpus.cpu[i]);
        }
        *slot_of(f, race.space) &= ~UINT64_C(0x60);
        race.access = 0;
        race.moment = page == SHARED ? AT_ALLOC : AT_FLUSH;
        f->m.cpus.now = 0;
        assert_true(store(f, race.space, AT, 5));
        assert_true(race.came && race.before);
        assert_int_equal(f->last, MM_FAULT_COW);
        assert_int_equal(frame_at(race.space, AT) == frame, page == ONCE_SHARED);
        all_read(f, race.space, 5);
        nothing_stale(f);
        if (child != NULL) {
            assert_int_equal(*(uint64_t *)t_machine_ptr(&f->m, frame << 12), OLD);
            assert_int_equal(mm_frame_refs(&f->m.frames, mm_pfn(frame)), 1);
            assert_true(mm_space_put(child));
        }
        f->m.cpus.now = 0;
        assert_int_equal(unmap(race.space, AT, PAGE), MM_OK);
        race.came = false;
    }
    stop_race(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_in_the_midst_of_the_other),
        cmocka_unit_test(test_the_hardware_is_faster),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
