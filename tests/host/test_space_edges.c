// SPDX-License-Identifier: MIT
/**
 * Spaces at the edges of what is allowed: a lock that is held, references that saturate or never
 * were, a manager without a kernel space, and rooms below that cannot serve it.
 */
#include "space_fixture.h"

#include "core/space/internal.h"

#include <signal.h>
#include <sys/time.h>

#define P1G (UINT64_C(1) << 30)

/* --- the lock --------------------------------------------------------------------------------- */

static uint32_t *held;
static unsigned nr_relaxed;

static void relax(void *ctx)
{
    (void)ctx;
    nr_relaxed++;
    __atomic_store_n(held, 0, __ATOMIC_RELEASE);
}

static void on_alarm(int signal)
{
    (void)signal;
    __atomic_store_n(held, 0, __ATOMIC_RELEASE);
}

/* Who waits tells the relax op, if there is one, and goes on as soon as the lock is free. */
static void test_held_lock(void **state)
{
    static const struct mm_platform_ops relaxing = {.relax = relax};
    static const struct mm_platform_ops none = {.relax = NULL};
    const struct itimerval soon = {.it_value = {0, 2000}};
    struct sigaction action = {.sa_handler = on_alarm};
    struct sigaction before;
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    struct mm_platform kept = f->spaces.platform;
    struct mm_space_stats stats;

    (void)state;
    held = &s->lock.writer;
    nr_relaxed = 0;
    f->spaces.platform.ops = &relaxing;
    s->lock.writer = 1;
    assert_int_equal(mm_space_get_stats(s, &stats), MM_OK);
    assert_int_equal(nr_relaxed, 1);
    assert_int_equal(s->lock.writer, 0);

    assert_int_equal(sigaction(SIGALRM, &action, &before), 0);
    for (unsigned i = 0; i < 2; i++) {
        f->spaces.platform.ops = i == 0 ? &none : NULL;
        s->lock.writer = 1;
        assert_int_equal(setitimer(ITIMER_REAL, &soon, NULL), 0);
        assert_int_equal(mm_space_get_stats(s, &stats), MM_OK);
        assert_int_equal(s->lock.writer, 0);
    }
    assert_int_equal(sigaction(SIGALRM, &before, NULL), 0);
    assert_int_equal(nr_relaxed, 1);
    f->spaces.platform = kept;
    put_last(f, s);
    fixture_stop(f);
}

/* --- references ------------------------------------------------------------------------------- */

/* A count at the top stays there: the space is never freed, rather than freed too early. */
static void test_saturated_count(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    struct mm_space_stats stats;

    (void)state;
    s->refs = UINT32_MAX - 1;
    mm_space_get(s);
    assert_int_equal(s->refs, UINT32_MAX);
    mm_space_get(s);
    assert_int_equal(s->refs, UINT32_MAX);
    assert_false(mm_space_put(s));
    assert_int_equal(s->refs, UINT32_MAX);
    assert_int_equal(mm_space_get_stats(s, &stats), MM_OK);
    assert_int_equal(stats.refs, UINT32_MAX);
    s->refs = 1;
    put_last(f, s);
    fixture_stop(f);
}

/* What never was a space has no hook to tell. */
static void test_never_a_space(void **state)
{
    struct mm_space *no_space = calloc(1, sizeof(*no_space));
    struct t_trap_info trap;

    (void)state;
    assert_non_null(no_space);
    T_EXPECT_SIGILL(mm_space_get(no_space), &trap);
    T_EXPECT_SIGILL((void)mm_space_put(no_space), &trap);
    no_space->refs = 1;
    T_EXPECT_SIGILL(mm_space_get(no_space), &trap);
    T_EXPECT_SIGILL((void)mm_space_put(no_space), &trap);
    assert_int_equal(no_space->refs, 1);
    free(no_space);
}

/* --- the manager ------------------------------------------------------------------------------ */

/* A node that is out when all spaces are gone is lost, and said to be. */
static void test_lost_node(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_spaces_config config = fixture_config(f);
    void *node = mm_cache_alloc(&f->spaces.region_cache);
    volatile mm_status_t status = MM_OK;
    struct t_trap_info trap;

    (void)state;
    assert_non_null(node);
    T_EXPECT_PANIC(status = mm_spaces_destroy(&f->spaces), &trap);
    assert_int_equal(status, MM_OK); /* the call did not come back */
    assert_string_equal(trap.what, "objects of a cache are lost");
    assert_int_equal(trap.address, (uintptr_t)&f->spaces.region_cache);
    assert_int_equal(trap.recorded_value, MM_ERR_BUSY);
    /* What the panic has left. */
    mm_cache_free(&f->spaces.region_cache, node);
    assert_int_equal(mm_cache_destroy(&f->spaces.region_cache), MM_OK);
    assert_int_equal(mm_cache_destroy(&f->spaces.space_cache), MM_OK);
    memset(&f->spaces, 0, sizeof(f->spaces));
    assert_int_equal(mm_spaces_init(&f->spaces, &config), MM_OK);
    fixture_stop(f);
}

static struct mm_page_source few;
static unsigned nr_few;

static mm_status_t few_alloc(void *ctx, uint64_t nr, uint64_t align, uint32_t flags, void **out)
{
    if (nr_few == 0) {
        return MM_ERR_NO_MEMORY;
    }
    nr_few--;
    return few.ops->alloc(ctx, nr, align, flags, out);
}

static void few_free(void *ctx, void *pages, uint64_t nr)
{
    few.ops->free(ctx, pages, nr);
}

/* With many CPUs each cache needs pages: one has them, the next has not, and nothing is left. */
static void test_caches_without_memory(void **state)
{
    static const struct mm_page_source_ops ops = {.alloc = few_alloc, .free = few_free};
    struct fixture *f = fixture_start(NULL);
    struct mm_spaces_config config = fixture_config(f);
    struct mm_pool_config pool_config = {.platform = f->m.platform,
                                         .nr_cpus = MM_CACHE_CPUS_INLINE + 1};
    void *memory = aligned_alloc(PAGE, 64 * PAGE);
    struct mm_page_range range = {0};
    struct mm_spaces spaces = {0};
    struct mm_pool pool = {0};
    struct mm_spaces_stats stats;
    struct mm_space *s;

    (void)state;
    assert_int_equal(mm_page_range_init(&range, memory, 64 * PAGE), MM_OK);
    few = mm_page_source_range(&range);
    pool_config.source = (struct mm_page_source){&ops, few.ctx, few.base, few.len};
    nr_few = 64;
    assert_int_equal(mm_pool_init(&pool, &pool_config), MM_OK);
    config.pool = &pool;
    config.kernel_range.len = 0;
    for (unsigned i = 0; i < 2; i++) {
        nr_few = i;
        assert_int_equal(mm_spaces_init(&spaces, &config), MM_ERR_NO_MEMORY);
        assert_int_equal(pool.nr_users, 0);
    }
    /* Without a kernel space, and with memory. */
    nr_few = 64;
    assert_int_equal(mm_spaces_init(&spaces, &config), MM_OK);
    assert_null(mm_space_kernel(&spaces));
    assert_int_equal(mm_space_create(&spaces, &s), MM_OK);
    assert_int_equal(mm_spaces_get_stats(&spaces, &stats), MM_OK);
    assert_int_equal(stats.nr_spaces, 1);
    assert_int_equal(stats.nr_kernel_refs, 0);
    assert_true(mm_space_put(s));
    assert_int_equal(mm_spaces_destroy(&spaces), MM_OK);
    assert_int_equal(mm_pool_destroy(&pool), MM_OK);
    assert_int_equal(mm_page_range_destroy(&range), MM_OK);
    free(memory);
    fixture_stop(f);
}

/* Frames that cannot be zeroed, or that only ops reach, are not for spaces. */
static void test_frames_out_of_reach(void **state)
{
    static const struct mm_physmap_ops ops = {.map = NULL};
    struct fixture *f = fixture_start(NULL);
    struct mm_spaces_config config = fixture_config(f);
    struct mm_frames frames = f->m.frames;
    struct mm_physmap physmap = f->m.physmap;
    struct mm_spaces spaces = {0};

    (void)state;
    frames.has_physmap = 0;
    config.frames = &frames;
    assert_int_equal(mm_spaces_init(&spaces, &config), MM_ERR_UNSUPPORTED);
    config = fixture_config(f);
    physmap.ops = &ops;
    config.physmap = &physmap;
    assert_int_equal(mm_spaces_init(&spaces, &config), MM_ERR_UNSUPPORTED);
    fixture_stop(f);
}

/* Where page 0 is not the user's, the user's first page is. */
static void test_user_range_above_zero(void **state)
{
    static const struct mm_vrange kernel_range = {.start = {T_ARENA}, .len = T_ARENA_LEN};
    struct fixture *f = fixture_start(NULL);
    struct mm_spaces_config config = fixture_config(f);
    struct mm_paging_config paging = {.backend = mm_x86_64_backend(&f->m.arch),
                                      .physmap = &f->m.physmap,
                                      .source = mm_frame_source_of(&f->m.frames),
                                      .platform = f->m.platform,
                                      .kernel_ranges = &kernel_range,
                                      .nr_kernel_ranges = 1,
                                      .user = mm_vrange(mm_vaddr(P1G), P1G)};
    struct mm_pagetable kernel = {0};
    struct mm_spaces spaces = {0};
    struct mm_space *s;

    (void)state;
    assert_int_equal(mm_paging_init_kernel(&kernel, &paging), MM_OK);
    config.kernel = &kernel;
    config.kernel_range.len = 0;
    assert_int_equal(mm_spaces_init(&spaces, &config), MM_OK);
    assert_int_equal(mm_space_create(&spaces, &s), MM_OK);
    assert_int_equal(mm_space_range(s).start.raw, P1G);
    assert_int_equal(mm_space_range(s).len, P1G - PAGE);
    assert_int_equal(map_at(s, P1G, PAGE, RW, 0), MM_OK);
    assert_true(mm_space_put(s));
    assert_int_equal(mm_spaces_destroy(&spaces), MM_OK);
    assert_int_equal(mm_paging_destroy(&kernel), MM_OK);
    fixture_stop(f);
}

/* The pages that a slot has counted begin at zero again: those of the space do not. */
static void test_fills_wrap(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    struct mm_space_stats stats;
    const uint64_t most = UINT64_MAX >> MMI_SPACE_FILLED_SHIFT;

    (void)state;
    for (unsigned i = 0; i < MMI_SPACE_SLOTS; i++) {
        s->lock.slots[i].word = most << MMI_SPACE_FILLED_SHIFT;
        s->lock.slots[i].nr_folded = most;
    }
    assert_int_equal(map_at(s, PAGE, 3 * PAGE, RW, 0), MM_OK);
    run_in(f, s);
    for (uint64_t i = 1; i <= 3; i++) {
        assert_true(store(f, s, i * PAGE, i));
    }
    assert_int_equal(resident(s), 3 * PAGE);
    assert_int_equal(mm_space_get_stats(s, &stats), MM_OK);
    assert_int_equal(stats.nr_faults[MM_FAULT_ZERO], 3);
    assert_int_equal(mm_space_check(s), MM_OK);
    put_last(f, s);
    fixture_stop(f);
}

/* Regions and buckets take what they are, and no more: what a region costs is computed of it. */
static void test_sizes(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_cache_stats stats;

    (void)state;
    assert_int_equal(mm_cache_get_stats(&f->spaces.region_cache, &stats), MM_OK);
    assert_int_equal(stats.object_size, sizeof(struct mmi_region));
    assert_int_equal(mm_cache_get_stats(&f->spaces.bucket_cache, &stats), MM_OK);
    assert_int_equal(stats.object_size, sizeof(struct mmi_bucket));
    fixture_stop(f);
}

/* One bucket is kept for the next edit where there are more than one, and none where there is not. */
static void test_bucket_to_spare(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);

    (void)state;
    for (uint64_t i = 0; i < MMI_BUCKET_MAX + 2; i++) {
        assert_int_equal(map_at(s, (1 + 2 * i) * PAGE, PAGE, RW, 0), MM_OK);
        assert_int_equal(s->regions.nr_buckets, i < MMI_BUCKET_MAX ? 1 : 2);
        assert_int_equal(s->regions.nr_spare, i < MMI_BUCKET_MAX + 1 ? 0 : 1);
    }
    for (uint64_t i = MMI_BUCKET_MAX + 2; i-- > 0;) {
        assert_int_equal(unmap(s, (1 + 2 * i) * PAGE, PAGE), MM_OK);
        assert_int_equal(s->regions.nr_spare, s->regions.nr_buckets > 1 ? 1 : 0);
    }
    assert_int_equal(s->regions.nr_buckets, 0);
    put_last(f, s);
    fixture_stop(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_held_lock),
        cmocka_unit_test(test_saturated_count),
        cmocka_unit_test(test_never_a_space),
        cmocka_unit_test(test_lost_node),
        cmocka_unit_test(test_caches_without_memory),
        cmocka_unit_test(test_frames_out_of_reach),
        cmocka_unit_test(test_user_range_above_zero),
        cmocka_unit_test(test_fills_wrap),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_bucket_to_spare),
    };

    return cmocka_run_group_tests_name("space_edges", tests, NULL, NULL);
}
