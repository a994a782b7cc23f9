// SPDX-License-Identifier: MIT
/**
 * The arena made and taken down, its reserve of frames for tables, what it does when something runs
 * out at each point, and the lock of the root.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "hash.h"
#include "kva_rig.h"

#include "heap/kva.h"

static struct rig rig;

/* --- init, destroy ---------------------------------------------------------------------------- */

static mm_status_t init_with(const struct mm_kva_config *config)
{
    static struct mm_kva fresh;
    mm_status_t status;

    memset(&fresh, 0, sizeof(fresh));
    status = mm_kva_init(&fresh, config);
    if (status == MM_OK) {
        assert_int_equal(mm_kva_destroy(&fresh), MM_OK);
    }
    for (size_t i = 0; i < sizeof(fresh); i++) {
        assert_int_equal(((const unsigned char *)&fresh)[i], 0);
    }
    return status;
}

#define EXPECT(status, field, value)                                                               \
    do {                                                                                           \
        struct mm_kva_config config_ = rig.config;                                                 \
        config_.field = (value);                                                                   \
        assert_int_equal(init_with(&config_), status);                                             \
    } while (0)

static void no_lock(void *ctx)
{
    (void)ctx;
}

static bool try_no_lock(void *ctx)
{
    (void)ctx;
    return true;
}

static void test_init(void **state)
{
    static struct mm_kva_ops partly = {no_lock, NULL, no_lock};
    static struct mm_pagetable no_root;
    static struct mm_pagetable user;
    static struct mm_frames no_frames;
    static struct mm_pool no_pool;
    static const struct mm_physmap_ops ops;
    struct mm_physmap short_map;
    struct mm_physmap with_ops;
    uint64_t nr_free;

    (void)state;
    (void)try_no_lock;
    rig_machine(&rig, NULL);
    assert_int_equal(mm_kva_init(NULL, &rig.config), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_kva_init(&rig.kva, NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_paging_init_user(&user, &rig.m.kernel), MM_OK);
    short_map = rig.m.physmap;
    short_map.first = mm_paddr(MIB + 64 * PAGE);
    short_map.len = 16 * PAGE;
    with_ops = rig.m.physmap;
    with_ops.ops = &ops;
    EXPECT(MM_OK, guard_pages, MM_KVA_MAX_GUARD);
    EXPECT(MM_ERR_INVALID_ARGUMENT, guard_pages, MM_KVA_MAX_GUARD + 1);
    EXPECT(MM_ERR_INVALID_ARGUMENT, red_zone_pages, MM_KVA_MAX_GUARD + 1);
    EXPECT(MM_ERR_INVALID_ARGUMENT, kernel, NULL);
    EXPECT(MM_ERR_INVALID_ARGUMENT, frames, NULL);
    EXPECT(MM_ERR_INVALID_ARGUMENT, physmap, NULL);
    EXPECT(MM_ERR_INVALID_ARGUMENT, pool, NULL);
    EXPECT(MM_ERR_INVALID_ARGUMENT, ops, &partly);
    EXPECT(MM_ERR_INVALID_ARGUMENT, kernel, &user);
    EXPECT(MM_ERR_NOT_INITIALIZED, kernel, &no_root);
    EXPECT(MM_ERR_NOT_INITIALIZED, frames, &no_frames);
    EXPECT(MM_ERR_NOT_INITIALIZED, pool, &no_pool);
    EXPECT(MM_ERR_UNSUPPORTED, physmap, &with_ops);
    EXPECT(MM_ERR_INVALID_ADDRESS, physmap, &short_map);
    EXPECT(MM_ERR_NOT_ALIGNED, range.start.raw, T_ARENA + 1);
    EXPECT(MM_ERR_NOT_ALIGNED, range.len, PAGE + 1);
    EXPECT(MM_ERR_INVALID_SIZE, range.len, 0);
    EXPECT(MM_ERR_INVALID_SIZE, range.len, UINT64_MAX - MM_PAGE_MASK);
    EXPECT(MM_ERR_INVALID_ADDRESS, range.len, T_ARENA_LEN + PAGE);
    EXPECT(MM_ERR_INVALID_ADDRESS, range.start.raw, T_ARENA - PAGE);
    EXPECT(MM_OK, nr_reserve_tables, 9);
    nr_free = rig_free_frames(&rig);
    EXPECT(MM_ERR_NO_MEMORY, nr_reserve_tables, (uint32_t)nr_free + 1);
    assert_int_equal(rig_free_frames(&rig), nr_free);
    t_inject_from(&rig.m.pool_inject, 1);
    EXPECT(MM_ERR_NO_MEMORY, nr_reserve_tables, 1); /* for the root of the table */
    EXPECT(MM_OK, range.len, 64 * MIB);             /* which needs no page here */
    t_inject_never(&rig.m.pool_inject);
    assert_int_equal(mm_paging_destroy(&user), MM_OK);
    rig_up(&rig);
    assert_int_equal(mm_kva_init(&rig.kva, &rig.config), MM_ERR_ALREADY_INITIALIZED);
    rig_stop(&rig);
}

static void test_destroy(void **state)
{
    struct mm_kva never = {0};
    mm_vaddr_t at;

    (void)state;
    rig_start(&rig, 1);
    at = rig_alloc(&rig, PAGE);
    assert_int_equal(mm_kva_destroy(NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_kva_destroy(&never), MM_ERR_NOT_INITIALIZED);
    assert_int_equal(mm_kva_check(&never), MM_ERR_NOT_INITIALIZED);
    assert_int_equal(mm_kva_dump(&never), MM_ERR_NOT_INITIALIZED);
    assert_int_equal(mm_kva_purge(&never), 0);
    assert_int_equal(mm_kva_reclaim(NULL), 0);
    assert_int_equal(mm_kva_destroy(&rig.kva), MM_ERR_BUSY);
    mm_kva_free(&rig.kva, at);
    rig_stop(&rig);
}

/* --- the reserve ------------------------------------------------------------------------------ */

static void start_with_reserve(uint32_t nr)
{
    const struct t_machine_config machine = {.ram_len = 8 * MIB};

    rig_machine(&rig, &machine);
    rig.config.nr_reserve_tables = nr;
    rig_up(&rig);
    assert_int_equal(rig_stats(&rig).nr_reserve_tables, nr);
}

static void test_a_reserve_for_tables(void **state)
{
    struct mm_kva_request request = {.len = PAGE};
    mm_vaddr_t at;

    (void)state;
    start_with_reserve(MM_KVA_TABLES_PER_PAGE);
    /* A frame for the page, and none for tables. */
    t_machine_leave_frames(&rig.m, 1);
    assert_int_equal(mm_kva_alloc(&rig.kva, &request, &at), MM_ERR_NO_MEMORY);
    assert_int_equal(rig_free_frames(&rig), 1);
    assert_int_equal(rig_stats(&rig).nr_reserve_tables, MM_KVA_TABLES_PER_PAGE);
    request.flags = MM_KVA_ATOMIC;
    assert_int_equal(mm_kva_alloc(&rig.kva, &request, &at), MM_OK);
    assert_int_equal(rig_free_frames(&rig), 0);
    assert_true(rig_stats(&rig).nr_reserve_tables < MM_KVA_TABLES_PER_PAGE);
    assert_int_equal(rig_touch(&rig, 0, at.raw), T_CPU_DONE);
    assert_int_equal(mm_kva_check(&rig.kva), MM_OK);
    /* Tables that come back fill it up. */
    mm_kva_free(&rig.kva, at);
    assert_int_equal(mm_kva_purge(&rig.kva), 1);
    assert_int_equal(rig_stats(&rig).nr_reserve_tables, MM_KVA_TABLES_PER_PAGE);
    assert_int_equal(rig_free_frames(&rig), 1);
    rig_stop(&rig);
}

/* It is used up in the midst of a call: nothing has happened, and all of it is there. */
static void test_a_reserve_that_is_too_small(void **state)
{
    struct mm_kva_request request = {.len = PAGE, .flags = MM_KVA_ATOMIC};
    mm_vaddr_t at = {5};

    (void)state;
    start_with_reserve(1);
    t_machine_leave_frames(&rig.m, 1);
    assert_int_equal(mm_kva_alloc(&rig.kva, &request, &at), MM_ERR_NO_MEMORY);
    assert_int_equal(at.raw, 5);
    assert_int_equal(rig_free_frames(&rig), 1);
    assert_int_equal(rig_stats(&rig).nr_reserve_tables, 1);
    assert_int_equal(rig_stats(&rig).nr_failed, 1);
    assert_null(rig.m.kernel.spare);
    assert_int_equal(mm_kva_check(&rig.kva), MM_OK);
    rig_stop(&rig);
}

/* A device needs no frame but tables. */
static void test_a_device_from_the_reserve(void **state)
{
    mm_vaddr_t at;

    (void)state;
    start_with_reserve(MM_KVA_TABLES_PER_PAGE);
    t_machine_leave_frames(&rig.m, 0);
    assert_int_equal(mm_kva_map(&rig.kva, mm_prange(mm_paddr(0xfee00000), 16), MM_PROT_RW,
                                MM_MEMTYPE_UC, 0, &at),
                     MM_ERR_NO_MEMORY);
    assert_int_equal(mm_kva_map(&rig.kva, mm_prange(mm_paddr(0xfee00000), 16), MM_PROT_RW,
                                MM_MEMTYPE_UC, MM_KVA_ATOMIC, &at),
                     MM_OK);
    mm_kva_free(&rig.kva, at);
    rig_stop(&rig);
}

/* --- everything runs out ---------------------------------------------------------------------- */

/* The state that a failing call must leave alone: what is mapped, what is free, what is counted. */
static uint64_t state_hash(void)
{
    struct mm_kva_stats stats = rig_stats(&rig);
    struct mm_paging_stats tables;
    struct mm_pool_stats pool;
    uint64_t hash = T_HASH_START;

    stats.nr_failed = 0;
    assert_int_equal(mm_paging_get_stats(&rig.m.kernel, &tables), MM_OK);
    assert_int_equal(mm_pool_get_stats(&rig.m.pool, &pool), MM_OK);
    hash = t_hash_more(hash, &stats, sizeof(stats));
    hash = t_hash_more(hash, &tables, sizeof(tables));
    hash = t_hash_u64(hash, rig_free_frames(&rig));
    for (const struct mmi_range *r = mmi_ranges_first(&rig.kva.ranges); r != NULL;
         r = mmi_range_next(r)) {
        hash = t_hash_u64(t_hash_u64(hash, r->node.start), r->len);
    }
    return hash;
}

static mm_status_t take(unsigned what, mm_vaddr_t *at)
{
    struct mm_kva_request request = {.len = (what & 1) != 0 ? 600 * PAGE : 3 * PAGE,
                                     .flags = (what & 2) != 0 ? MM_KVA_ATOMIC : 0};
    struct mm_page_source source = mm_page_source_kva(&rig.kva);
    struct mm_vrange stack;
    void *pages = NULL;
    mm_status_t status;

    switch (what >> 2) {
    case 0:
        return mm_kva_alloc(&rig.kva, &request, at);
    case 1:
        status = source.ops->alloc(source.ctx, request.len / PAGE, 1,
                                   (what & 2) != 0 ? MM_PAGES_ATOMIC : 0, &pages);
        if (status == MM_OK) {
            at->raw = (uint64_t)(uintptr_t)pages;
        }
        return status;
    case 2:
        status = mm_kva_stack_alloc(&rig.kva, request.len, request.flags, &stack);
        if (status == MM_OK) {
            *at = stack.start;
        }
        return status;
    default:
        return mm_kva_map(&rig.kva, mm_prange(mm_paddr(0xfedff001), request.len), MM_PROT_RW,
                          MM_MEMTYPE_UC, request.flags, at);
    }
}

static void drop(unsigned what, mm_vaddr_t at)
{
    struct mm_page_source source = mm_page_source_kva(&rig.kva);

    switch (what >> 2) {
    case 1:
        source.ops->free(source.ctx, (void *)(uintptr_t)at.raw, (what & 1) != 0 ? 600 : 3);
        break;
    case 2:
        mm_kva_stack_free(&rig.kva, at);
        break;
    default:
        mm_kva_free(&rig.kva, at);
        break;
    }
    assert_true(mm_kva_purge(&rig.kva) != 0);
}

static void nothing_happened(mm_status_t status, uint64_t before, mm_vaddr_t at)
{
    assert_int_equal(status, MM_ERR_NO_MEMORY);
    assert_int_equal(at.raw, 99);
    assert_int_equal(state_hash(), before);
    assert_int_equal(mm_kva_check(&rig.kva), MM_OK);
    assert_int_equal(mm_paging_check(&rig.m.kernel), MM_OK);
}

/* With so many frames and not one more; from none to as many as it takes. */
static void test_frames_run_out(void **state)
{
    (void)state;
    for (unsigned what = 0; what < 16; what++) {
        mm_status_t status = MM_ERR_NO_MEMORY;

        start_with_reserve(what % 3);
        rig_scatter(&rig);
        for (uint64_t nr = 0; status != MM_OK; nr += nr > 8 && nr < 590 ? 97 : 1) {
            mm_vaddr_t at = {99};
            uint64_t before;

            t_machine_leave_frames(&rig.m, nr);
            before = state_hash();
            status = take(what, &at);
            if (status == MM_OK) {
                drop(what, at);
            } else {
                nothing_happened(status, before, at);
            }
            t_machine_leave_frames(&rig.m, UINT64_MAX);
            assert_true(nr < 700);
        }
        rig_stop(&rig);
    }
}

/* Each time that the pool asks for pages: once, and from then on. */
static void test_the_pool_runs_out(void **state)
{
    (void)state;
    for (unsigned what = 0; what < 32; what++) {
        bool onward = what >= 16;

        for (uint64_t n = 1;; n++) {
            mm_vaddr_t at = {99};
            mm_status_t status;
            bool fired;

            start_with_reserve(3); /* a pool that has nothing yet */
            if (onward) {
                t_inject_from(&rig.m.pool_inject, n);
            } else {
                t_inject_nth(&rig.m.pool_inject, n);
            }
            status = take(what % 16, &at);
            fired = rig.m.pool_inject.fired != 0;
            t_inject_never(&rig.m.pool_inject);
            if (status == MM_OK) {
                drop(what % 16, at);
            } else {
                assert_true(fired);
                assert_int_equal(status, MM_ERR_NO_MEMORY);
                assert_int_equal(at.raw, 99);
                assert_int_equal(rig.kva.ranges.nr, 0);
                assert_int_equal(mm_kva_check(&rig.kva), MM_OK);
            }
            rig_stop(&rig);
            if (!fired) {
                assert_true(n > 1);
                break;
            }
        }
    }
}

/* --- the lock of the root --------------------------------------------------------------------- */

struct root_lock {
    int held;
    bool taken_by_others;
    unsigned nr;
};

static void root_lock(void *ctx)
{
    struct root_lock *lock = ctx;

    assert_int_equal(lock->held++, 0);
    lock->nr++;
}

static bool root_try_lock(void *ctx)
{
    struct root_lock *lock = ctx;

    if (lock->taken_by_others) {
        return false;
    }
    root_lock(ctx);
    return true;
}

static void root_unlock(void *ctx)
{
    struct root_lock *lock = ctx;

    assert_int_equal(lock->held--, 1);
}

static void test_the_lock_of_the_root(void **state)
{
    static const struct mm_kva_ops ops = {root_lock, root_try_lock, root_unlock};
    struct mm_kva_request request = {.len = PAGE, .flags = MM_KVA_ATOMIC};
    struct root_lock lock = {0, false, 0};
    mm_vaddr_t at;
    unsigned nr;

    (void)state;
    rig_machine(&rig, NULL);
    rig.config.ops = &ops;
    rig.config.ctx = &lock;
    rig_up(&rig);
    lock.taken_by_others = true;
    assert_int_equal(mm_kva_alloc(&rig.kva, &request, &at), MM_ERR_BUSY);
    assert_int_equal(rig.kva.lock, 0);
    lock.taken_by_others = false;
    assert_int_equal(mm_kva_alloc(&rig.kva, &request, &at), MM_OK);
    assert_int_equal(lock.held, 0);
    nr = lock.nr;
    mm_kva_free(&rig.kva, at);
    assert_int_equal(lock.nr, nr);
    assert_int_equal(mm_kva_purge(&rig.kva), 1);
    assert_true(lock.nr > nr);
    assert_int_equal(lock.held, 0);
    rig_stop(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_init),
        cmocka_unit_test(test_destroy),
        cmocka_unit_test(test_a_reserve_for_tables),
        cmocka_unit_test(test_a_reserve_that_is_too_small),
        cmocka_unit_test(test_a_device_from_the_reserve),
        cmocka_unit_test(test_frames_run_out),
        cmocka_unit_test(test_the_pool_runs_out),
        cmocka_unit_test(test_the_lock_of_the_root),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
