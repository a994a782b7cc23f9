// SPDX-License-Identifier: MIT
/**
 * The usual kernel with its virtual arena: what is made over it, what of it holds the system up, and
 * that every failure, and the teardown, leave the world as it was.
 *
 * The heap's large pool writes into the pages that it has from the arena. So the arena lies where
 * the host has memory as well: what is written there is in no simulated frame, but it is kept.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sys/mman.h>

#include "guard_pages.h"
#include "system_rig.h"

#define PAGE      UINT64_C(4096)
#define ARENA_LEN (256 * MIB) /* so that the table of a pool over it needs a page */
#define LARGE     (64 * UINT64_C(1024))

static struct {
    uint64_t counter;
    char name[24];
} areas = {77, "template"};

static struct mm_vrange ranges[4];
static void *host_memory;

static int start_arena(void **state)
{
    struct machine *m;

    if (start(state) != 0) {
        return -1;
    }
    m = *state;
    host_memory = mmap(NULL, ARENA_LEN + 2 * MIB, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert_true(host_memory != MAP_FAILED);
    memcpy(ranges, m->ranges, sizeof(m->ranges));
    ranges[3].start.raw = mm_align_down((uint64_t)(uintptr_t)host_memory + 2 * MIB - 1, 2 * MIB);
    ranges[3].len = ARENA_LEN;
    m->config.kernel_ranges = ranges;
    m->config.nr_kernel_ranges = 4;
    m->config.arena = (struct mm_system_arena){.range = ranges[3],
                                               .large_size = LARGE,
                                               .percpu = &areas,
                                               .percpu_len = sizeof(areas),
                                               .red_zone_pages = 2,
                                               .nr_stacks = 1,
                                               .nr_reserve_tables = 3};
    return 0;
}

static int stop_arena(void **state)
{
    assert_int_equal(munmap(host_memory, ARENA_LEN + 2 * MIB), 0);
    return stop(state);
}

/* What the arena maps at this address, in the simulated memory. */
static const void *seen_at(struct machine *m, const void *at)
{
    struct mm_mapping leaf;
    uint64_t address = (uint64_t)(uintptr_t)at;

    assert_int_equal(mm_paging_translate(&m->system.kernel, mm_vaddr(address), &leaf), MM_OK);
    return t_ram_ptr(m->ram, leaf.paddr.raw + (address - leaf.page.start.raw));
}

static bool hold(void *ctx, const struct mm_mapping *leaf)
{
    t_ledger_hold(ctx, leaf->paddr.raw / PAGE, leaf->page.len / PAGE);
    return true;
}

/* Each frame in use is a table, mapped in the arena or put aside for it, or the pool's. */
static void audit_arena(struct machine *m)
{
    struct mm_system *s = &m->system;
    struct t_ledger *ledger = t_ledger_open(&s->frames, m->physmap.base, RAM / PAGE);
    struct mm_kva_stats stats;

    assert_int_equal(mm_kva_get_stats(&s->kva, &stats), MM_OK);
    t_ledger_root(ledger, &s->kernel, NULL, m->config.kernel_space);
    assert_int_equal(mm_paging_walk(&s->kernel, m->config.arena.range, hold, ledger), MM_OK);
    T_LEGAL(t_ledger_close(ledger, s->pages.nr_pages_out + stats.nr_reserve_tables));
}

static struct mm_kva_stats kva_stats(const struct mm_system *s)
{
    struct mm_kva_stats stats;

    assert_int_equal(mm_kva_get_stats(&s->kva, &stats), MM_OK);
    return stats;
}

static bool in_arena(const struct machine *m, const void *at)
{
    return mm_vrange_contains(m->config.arena.range, mm_vaddr_of(at));
}

static void test_it_comes_up_with_what_is_over_it(void **state)
{
    struct machine *m = *state;
    struct mm_system *s = &m->system;
    uint64_t before = map_hash(m);
    struct mm_vrange stack;
    struct mm_kva_place place;

    assert_int_equal(mm_system_init(s, &m->config), MM_OK);
    assert_int_equal(mm_system_check(s), MM_OK);
    audit_arena(m);
    assert_int_equal(kva_stats(s).nr_reserve_tables, 3);
    assert_int_equal(kva_stats(s).nr_ranges[MM_KVA_PERCPU], 1);
    /* A copy for each CPU, between pages of nobody. */
    for (uint32_t cpu = 0; cpu < 2; cpu++) {
        void *copy = mm_percpu_ptr(&s->percpu, cpu, &areas);

        assert_true(in_arena(m, copy));
        assert_memory_equal(seen_at(m, copy), &areas, sizeof(areas));
    }
    assert_int_equal(mm_kva_stack_alloc(&s->kva, 4 * PAGE, 0, &stack), MM_OK);
    assert_int_equal(mm_kva_explain(&s->kva, mm_vaddr(stack.start.raw - 2 * PAGE), &place), MM_OK);
    assert_int_equal(place.where, MM_KVA_GUARD_BELOW);
    assert_int_equal(mm_system_check(s), MM_OK);
    audit_arena(m);
    /* A stack that is kept holds nothing up. */
    mm_kva_stack_free(&s->kva, stack.start);
    assert_int_equal(kva_stats(s).nr_stacks_kept, 1);
    assert_int_equal(mm_system_destroy(s), MM_OK);
    assert_int_equal(m->cpu->mmu.cr3, OLD_ROOT);
    assert_true(map_hash(m) == before);
    assert_int_equal(mm_system_destroy(s), MM_ERR_NOT_INITIALIZED);

    assert_int_equal(mm_system_init(s, &m->config), MM_OK);
    assert_int_equal(mm_system_destroy(s), MM_OK);
    assert_true(map_hash(m) == before);
}

/* The large ones lie in the arena, and grow there; the others in the direct map. */
static void test_large_objects_lie_in_it(void **state)
{
    struct machine *m = *state;
    struct mm_system *s = &m->system;
    char *first;
    char *last;
    char *small;
    void *atomic;

    assert_int_equal(mm_system_init(s, &m->config), MM_OK);
    small = mm_heap_alloc(&s->heap, LARGE - 1);
    atomic = mm_heap_alloc_with(&s->heap, LARGE, 16, MM_HEAP_ATOMIC);
    first = mm_heap_alloc(&s->heap, LARGE);
    last = mm_heap_alloc(&s->heap, 3 * LARGE);
    assert_true(small != NULL && !in_arena(m, small));
    assert_true(atomic != NULL && !in_arena(m, atomic));
    assert_true(first != NULL && in_arena(m, first));
    assert_true(last != NULL && in_arena(m, last));
    assert_int_equal(mm_system_check(s), MM_OK);
    audit_arena(m);
    memset(first, 1, LARGE);
    memset(last, 2, 3 * LARGE);
    /* Nothing lies behind the last. */
    assert_ptr_equal(mm_heap_realloc(&s->heap, last, 20 * LARGE), last);
    assert_int_equal(mm_heap_usable_size(&s->heap, last), 20 * LARGE);
    assert_int_equal(last[3 * LARGE - 1], 2);
    memset(last, 3, 20 * LARGE);
    assert_int_equal(first[0] + first[LARGE - 1], 2);
    assert_non_null(seen_at(m, last + 20 * LARGE - 1));
    assert_int_equal(mm_system_check(s), MM_OK);
    audit_arena(m);
    mm_heap_free(&s->heap, small);
    mm_heap_free(&s->heap, atomic);
    mm_heap_free(&s->heap, last);
    expect_busy(s);
    mm_heap_free(&s->heap, first); /* waits for a purge, and is nobody's */
    assert_int_equal(mm_system_destroy(s), MM_OK);
}

/* Each thing of the arena that is alive, alone. */
static void test_each_thing_alone_holds_it_up(void **state)
{
    static struct mm_cache cache;
    const struct mm_kva_request request = {.len = 3 * PAGE};
    const struct mm_cache_config things = {.name = "things", .size = 40};
    struct machine *m = *state;
    struct mm_system *s = &m->system;
    struct mm_page_source source;
    struct mm_heap_guards guards;
    struct mm_vrange stack;
    mm_vaddr_t at;
    void *pages;
    void *object;

    assert_int_equal(mm_system_init(s, &m->config), MM_OK);
    assert_int_equal(mm_kva_alloc(&s->kva, &request, &at), MM_OK);
    expect_busy(s);
    mm_kva_free(&s->kva, at);
    assert_int_equal(
        mm_kva_map(&s->kva, mm_prange(mm_paddr(0xfed00000), 16), MM_PROT_RW, MM_MEMTYPE_UC, 0, &at),
        MM_OK);
    expect_busy(s);
    mm_kva_free(&s->kva, at);
    assert_int_equal(mm_kva_stack_alloc(&s->kva, PAGE, 0, &stack), MM_OK);
    expect_busy(s);
    mm_kva_stack_free(&s->kva, stack.start);
    assert_int_equal(mm_kva_guards_alloc(&s->kva, 2, &guards), MM_OK);
    expect_busy(s);
    mm_kva_guards_free(&s->kva, &guards);
    source = mm_page_source_kva(&s->kva);
    assert_int_equal(source.ops->alloc(source.ctx, 2, 1, 0, &pages), MM_OK);
    expect_busy(s);
    source.ops->free(source.ctx, pages, 1);
    expect_busy(s); /* for the other page */
    source.ops->free(source.ctx, (char *)pages + PAGE, 1);
    object = mm_heap_alloc(&s->heap, LARGE);
    assert_true(object != NULL && in_arena(m, object));
    expect_busy(s);
    mm_heap_free(&s->heap, object);
    memset(&cache, 0, sizeof(cache));
    assert_int_equal(mm_cache_init(&cache, &s->large, &things), MM_OK);
    expect_busy(s);
    assert_int_equal(mm_cache_destroy(&cache), MM_OK);
    /* Areas of the user's own, beside the system's. */
    static struct mm_percpu more;
    const struct mm_percpu_config config = {
        .kva = &s->kva, .start = &areas, .len = sizeof(areas), .nr_cpus = 2};
    memset(&more, 0, sizeof(more));
    assert_int_equal(mm_percpu_init(&more, &config), MM_OK);
    expect_busy(s);
    assert_int_equal(mm_percpu_destroy(&more), MM_OK);
    assert_int_equal(mm_system_check(s), MM_OK);
    audit_arena(m);
    assert_int_equal(mm_system_destroy(s), MM_OK);
}

/* A room that does not answer is not taken down around. */
static void test_rooms_that_do_not_answer(void **state)
{
    struct machine *m = *state;
    struct mm_system *s = &m->system;
    uint32_t *const magics[] = {&s->kva.magic, &s->large.magic, &s->large.nr_users};

    assert_int_equal(mm_system_init(s, &m->config), MM_OK);
    for (unsigned i = 0; i < sizeof(magics) / sizeof(magics[0]); i++) {
        *magics[i] ^= 1;
        assert_int_equal(mm_system_destroy(s), MM_ERR_BUSY);
        *magics[i] ^= 1;
        assert_int_equal(mm_system_check(s), MM_OK);
    }
    assert_int_equal(mm_system_destroy(s), MM_OK);
}

static void test_a_check_tells_of_the_arena(void **state)
{
    struct machine *m = *state;
    struct mm_system *s = &m->system;

    assert_int_equal(mm_system_init(s, &m->config), MM_OK);
    s->kva.nr_ranges[MM_KVA_STACK]++;
    assert_int_equal(mm_system_check(s), MM_ERR_CORRUPTED);
    s->kva.nr_ranges[MM_KVA_STACK]--;
    assert_int_equal(mm_system_check(s), MM_OK);
    assert_int_equal(mm_system_destroy(s), MM_OK);
}

/* Without what lies over it, each and all; and what is there is what was asked for. */
static void test_parts_of_it(void **state)
{
    struct machine *m = *state;
    const struct mm_system_arena all = m->config.arena;
    struct mm_system *s = &m->system;
    uint64_t before = map_hash(m);

    for (unsigned i = 0; i < 4; i++) {
        bool has_large = (i & 1) != 0;
        bool has_areas = (i & 2) != 0;
        void *object;

        m->config.arena = all;
        m->config.arena.large_size = has_large ? LARGE : 0;
        m->config.arena.percpu = has_areas ? &areas : NULL;
        m->config.arena.percpu_len = has_areas ? sizeof(areas) : 0;
        assert_int_equal(mm_system_init(s, &m->config), MM_OK);
        assert_int_equal(kva_stats(s).nr_ranges[MM_KVA_PERCPU], has_areas ? 1 : 0);
        object = mm_heap_alloc(&s->heap, LARGE);
        assert_non_null(object);
        assert_true(in_arena(m, object) == has_large);
        assert_int_equal(mm_system_check(s), MM_OK);
        assert_int_equal(mm_system_destroy(s), MM_ERR_BUSY);
        mm_heap_free(&s->heap, object);
        audit_arena(m);
        assert_int_equal(mm_system_destroy(s), MM_OK);
        assert_true(map_hash(m) == before);
    }
    m->config.arena = (struct mm_system_arena){.nr_stacks = 1}; /* nothing to configure */
    assert_int_equal(mm_system_init(s, &m->config), MM_OK);
    assert_int_equal(mm_kva_check(&s->kva), MM_ERR_NOT_INITIALIZED);
    assert_int_equal(mm_system_check(s), MM_OK);
    assert_int_equal(mm_system_destroy(s), MM_OK);
}

/* The values of the configuration that are the arena's own reach it. */
static void test_it_is_told(void **state)
{
    static const struct mm_kva_ops no_ops = {NULL, NULL, NULL};
    struct machine *m = *state;
    struct mm_system *s = &m->system;
    struct mm_kva_stats stats;
    mm_vaddr_t at;
    const struct mm_kva_request request = {.len = PAGE};

    m->config.arena.guard_pages = 5;
    m->config.arena.purge_pages = 1;
    assert_int_equal(mm_system_init(s, &m->config), MM_OK);
    stats = kva_stats(s);
    assert_int_equal(mm_kva_alloc(&s->kva, &request, &at), MM_OK);
    assert_int_equal(kva_stats(s).bytes_used - stats.bytes_used, 11 * PAGE);
    mm_kva_free(&s->kva, at);
    assert_int_equal(mm_kva_alloc(&s->kva, &request, &at), MM_OK);
    mm_kva_free(&s->kva, at);
    assert_int_equal(kva_stats(s).nr_lazy_pages, 2);
    assert_int_equal(mm_kva_alloc(&s->kva, &request, &at), MM_OK);
    assert_int_equal(kva_stats(s).nr_lazy_pages, 0); /* two are more than one */
    mm_kva_free(&s->kva, at);
    assert_int_equal(mm_system_destroy(s), MM_OK);
    m->config.arena.ops = &no_ops; /* which are not complete */
    expect_failure(m, MM_ERR_INVALID_ARGUMENT);
}

static void count(void *ctx, const struct mm_heap_report *report)
{
    *(unsigned *)ctx += report->kind == MM_HEAP_OVERFLOW ? 1 : 100;
}

/* A heap that checks all has its large objects there as well; and no sample lies in the arena. */
static void test_a_heap_that_checks(void **state)
{
    struct machine *m = *state;
    struct mm_system *s = &m->system;
    struct mm_heap_guards window = {.ops = &t_guards_ops, .len = 3 * PAGE};
    uint64_t before = map_hash(m);
    unsigned nr_told = 0;
    unsigned char *object;

    m->config.heap = (struct mm_heap_config){.tier = MM_HEAP_HARDENED,
                                             .report = count,
                                             .report_ctx = &nr_told,
                                             .reserve_size = 100,
                                             .nr_reserve = 1};
    assert_int_equal(mm_system_init(s, &m->config), MM_OK);
    object = mm_heap_alloc(&s->heap, LARGE);
    assert_true(object != NULL && in_arena(m, object));
    expect_busy(s);
    object[LARGE] = (unsigned char)~object[LARGE];
    mm_heap_free(&s->heap, object);
    assert_int_equal(nr_told, 1);
    assert_int_equal(mm_system_check(s), MM_OK);
    assert_int_equal(mm_system_destroy(s), MM_OK);
    assert_true(map_hash(m) == before);

    /* In the middle of it, where nothing is mapped, and over its end. */
    for (unsigned i = 0; i < 2; i++) {
        window.base = ranges[3].start.raw + (i == 0 ? ARENA_LEN / 2 : ARENA_LEN - PAGE);
        m->config.heap = (struct mm_heap_config){.sample_every = 1, .guards = window};
        expect_failure(m, MM_ERR_ALREADY_MAPPED);
    }
}

#define EXPECT(status, field, value)                                                               \
    do {                                                                                           \
        m->config = good;                                                                          \
        m->config.field = (value);                                                                 \
        expect_failure(m, status);                                                                 \
    } while (0)

static void test_each_step_can_fail(void **state)
{
    struct machine *m = *state;
    const struct mm_system_config good = m->config;
    const struct mm_vrange none = {{0}, 0};
    struct mm_vrange range = good.arena.range;

    EXPECT(MM_ERR_INVALID_ARGUMENT, arena.range, none); /* and areas, and large objects */
    m->config.arena.percpu = NULL;
    m->config.arena.percpu_len = 0;
    expect_failure(m, MM_ERR_INVALID_ARGUMENT);
    m->config.arena.large_size = 0;
    m->config.arena.percpu_len = 8;
    expect_failure(m, MM_ERR_INVALID_ARGUMENT);
    EXPECT(MM_ERR_NOT_ALIGNED, arena.range.len, PAGE + 1);
    EXPECT(MM_ERR_INVALID_SIZE, arena.range.len, 0 - range.start.raw + PAGE);
    EXPECT(MM_ERR_INVALID_ADDRESS, arena.range.len, ARENA_LEN + PAGE);
    EXPECT(MM_ERR_INVALID_ARGUMENT, arena.guard_pages, MM_KVA_MAX_GUARD + 1);
    EXPECT(MM_ERR_NO_MEMORY, arena.nr_reserve_tables, RAM / PAGE);
    /* Somebody else is there: the direct map, the image, a device, the kernel's space. */
    EXPECT(MM_ERR_ALREADY_MAPPED, arena.range, m->ranges[0]);
    EXPECT(MM_ERR_ALREADY_MAPPED, arena.range, mm_vrange(mm_vaddr(IMAGE + 8192), 16 * MIB));
    EXPECT(MM_ERR_ALREADY_MAPPED, arena.range, mm_vrange(m->device.range.start, 16 * MIB));
    EXPECT(MM_ERR_ALREADY_MAPPED, arena.range,
           mm_vrange(mm_vaddr(ARENA + (UINT64_C(1) << 28) - PAGE), 16 * MIB));
    EXPECT(MM_ERR_INVALID_ARGUMENT, arena.percpu, NULL);
    EXPECT(MM_ERR_INVALID_SIZE, arena.percpu_len, 0);
    EXPECT(MM_ERR_INVALID_SIZE, arena.percpu_len, ARENA_LEN + 1);
    EXPECT(MM_ERR_REGION_NOT_FOUND, arena.range.len, 4 * PAGE); /* areas and guards are five */
    EXPECT(MM_ERR_NO_MEMORY, arena.percpu_len, 100 * MIB);      /* twice that is more than RAM */
    EXPECT(MM_ERR_INVALID_SIZE, arena.large_size, MM_HEAP_MAX_SLAB_SIZE);
    m->config = good;
    assert_int_equal(mm_system_init(&m->system, &m->config), MM_OK);
    assert_int_equal(mm_system_destroy(&m->system), MM_OK);
}

/* With every amount of memory from none up: so each page and frame that it asks for is once the one
 * that is not there. */
static void test_too_little_memory_leaves_nothing(void **state)
{
    struct machine *m = *state;
    uint64_t nr_failed = 0;
    uint64_t nr_up = 0;

    for (uint64_t len = PAGE; len < 700 * 1024 && nr_up < 3; len += PAGE) {
        mm_status_t status;
        uint64_t before;

        memset(&m->map, 0, sizeof(m->map));
        assert_int_equal(mm_bootmap_init(&m->map, m->entries, MM_BOOTMAP_CAPACITY(8)), MM_OK);
        assert_int_equal(mm_bootmap_add(&m->map, mm_prange(mm_paddr(4 * MIB), len), MM_BOOT_USABLE),
                         MM_OK);
        before = map_hash(m);
        status = mm_system_init(&m->system, &m->config);
        if (status == MM_OK) {
            nr_up++;
            assert_int_equal(mm_system_check(&m->system), MM_OK);
            audit_arena(m);
            assert_int_equal(mm_system_destroy(&m->system), MM_OK);
        } else {
            static const struct mm_system zero;

            nr_failed++;
            assert_int_equal(status, MM_ERR_NO_MEMORY);
            assert_memory_equal(&m->system, &zero, sizeof(zero));
        }
        assert_int_equal(m->cpu->mmu.cr3, OLD_ROOT);
        assert_true(map_hash(m) == before);
    }
    assert_true(nr_failed > 20);
    assert_int_equal(nr_up, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_it_comes_up_with_what_is_over_it, start_arena,
                                        stop_arena),
        cmocka_unit_test_setup_teardown(test_large_objects_lie_in_it, start_arena, stop_arena),
        cmocka_unit_test_setup_teardown(test_each_thing_alone_holds_it_up, start_arena, stop_arena),
        cmocka_unit_test_setup_teardown(test_rooms_that_do_not_answer, start_arena, stop_arena),
        cmocka_unit_test_setup_teardown(test_a_check_tells_of_the_arena, start_arena, stop_arena),
        cmocka_unit_test_setup_teardown(test_parts_of_it, start_arena, stop_arena),
        cmocka_unit_test_setup_teardown(test_it_is_told, start_arena, stop_arena),
        cmocka_unit_test_setup_teardown(test_a_heap_that_checks, start_arena, stop_arena),
        cmocka_unit_test_setup_teardown(test_each_step_can_fail, start_arena, stop_arena),
        cmocka_unit_test_setup_teardown(test_too_little_memory_leaves_nothing, start_arena,
                                        stop_arena),
    };

    return cmocka_run_group_tests_name("system with an arena", tests, NULL, NULL);
}
