// SPDX-License-Identifier: MIT
/**
 * What user code sees of a space, and the kernel of its own.
 */
#include "space_fixture.h"

/* --- what user code sees ------------------------------------------------------------------------
 */

/* Hazard 29: a frame is zeroed before anybody sees it; all of RAM holds junk. */
static void test_lazy_and_zeroed(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    uint64_t *p = NULL;

    (void)state;
    assert_int_equal(map_at(s, 64 * PAGE, 32 * PAGE, RW, 0), MM_OK);
    assert_int_equal(resident(s), 0);
    for (unsigned round = 0; round < 3; round++) {
        for (uint64_t i = 0; i < 32; i++) {
            unsigned access = T_MMU_USER | (i % 2 == 0 ? T_MMU_WRITE : 0);

            assert_true(touch(f, s, (64 + i) * PAGE, access, &p));
            assert_int_equal(f->nr_faults, 1);
            assert_int_equal(f->last, MM_FAULT_ZERO);
            for (unsigned w = 0; w < 512; w++) {
                assert_int_equal(p[w], 0);
            }
            if ((access & T_MMU_WRITE) != 0) {
                memset(p, 0xdb, PAGE); /* what is only read may be the zero page */
            }
        }
        assert_int_equal(resident(s), 32 * PAGE);
        assert_int_equal(unmap(s, 64 * PAGE, 32 * PAGE), MM_OK);
        assert_int_equal(resident(s), 0);
        assert_int_equal(map_at(s, 64 * PAGE, 32 * PAGE, RW, 0), MM_OK);
    }
    put_last(f, s);
    fixture_stop(f);
}

static void test_populate(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);

    (void)state;
    assert_int_equal(map_at(s, 64 * PAGE, 600 * PAGE, RW, MM_SPACE_POPULATE), MM_OK);
    assert_int_equal(resident(s), 600 * PAGE);
    assert_true(store(f, s, 64 * PAGE, 5));
    assert_int_equal(f->nr_faults, 0);
    assert_int_equal(loaded(f, s, 600 * PAGE), 0);
    assert_int_equal(f->nr_faults, 0);
    assert_int_equal(map_at(s, 10 * PAGE, PAGE, MM_PROT_NONE, MM_SPACE_POPULATE), MM_OK);
    assert_int_equal(map_at(s, 11 * PAGE, PAGE, MM_PROT_NONE, MM_SPACE_GUARD | MM_SPACE_POPULATE),
                     MM_OK);
    assert_int_equal(resident(s), 600 * PAGE);
    assert_int_equal(mm_space_check(s), MM_OK);
    put_last(f, s);
    fixture_stop(f);
}

/* What rights mean, seen by a CPU that keeps translations until they are flushed. */
static void test_rights(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *s = new_space(f);
    const uint64_t at = 100 * PAGE;
    uint64_t value;

    (void)state;
    assert_int_equal(map_at(s, at, PAGE, RW, 0), MM_OK);
    assert_true(store(f, s, at, 77));
    assert_false(fetch(f, s, at));
    assert_int_equal(f->last, MM_FAULT_SIGNAL_ACCESS);
    assert_int_equal(loaded(f, s, at), 77);
    assert_int_equal(protect(s, at, PAGE, RX), MM_OK);
    assert_false(store(f, s, at, 78));
    assert_int_equal(f->last, MM_FAULT_SIGNAL_ACCESS);
    assert_true(fetch(f, s, at));
    assert_int_equal(protect(s, at, PAGE, MM_PROT_NONE), MM_OK);
    assert_false(load(f, s, at, &value));
    assert_int_equal(f->last, MM_FAULT_SIGNAL_ACCESS);
    assert_false(fetch(f, s, at));
    assert_int_equal(resident(s), PAGE); /* and what it held is not lost */
    assert_int_equal(protect(s, at, PAGE, MM_PROT_WRITE), MM_OK);
    assert_int_equal(loaded(f, s, at), 77); /* writable is readable */
    assert_true(store(f, s, at, 79));
    assert_int_equal(f->nr_faults, 0);
    assert_int_equal(protect(s, at, PAGE, MM_PROT_EXEC), MM_OK);
    assert_int_equal(loaded(f, s, at), 79);
    assert_false(store(f, s, at, 80));
    assert_int_equal(unmap(s, at, PAGE), MM_OK);
    assert_false(load(f, s, at, &value));
    assert_int_equal(f->last, MM_FAULT_SIGNAL_MAP);
    assert_int_equal(map_at(s, at, PAGE, MM_PROT_NONE, MM_SPACE_GUARD), MM_OK);
    assert_false(load(f, s, at, &value));
    assert_int_equal(f->last, MM_FAULT_SIGNAL_ACCESS);
    assert_int_equal(mm_space_check(s), MM_OK);
    put_last(f, s);
    fixture_stop(f);
}

/* A page of a space may lie in any frame, so a direct map that misses one is refused. */
static void test_short_direct_map(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_spaces_config config = fixture_config(f);
    struct mm_physmap physmap = f->m.physmap;
    struct mm_spaces refused = {0};

    (void)state;
    config.physmap = &physmap;
    physmap.len = 5 << 20;
    assert_int_equal(mm_spaces_init(&refused, &config), MM_ERR_INVALID_ADDRESS);
    physmap = (struct mm_physmap){.first = {2 * PAGE}, .len = UINT64_MAX};
    assert_int_equal(mm_spaces_init(&refused, &config), MM_ERR_INVALID_ARGUMENT);
    fixture_stop(f);
}

/* Two spaces, one address. */
static void test_two_spaces(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *a = new_space(f);
    struct mm_space *b = new_space(f);

    (void)state;
    assert_int_equal(map_at(a, 16 * PAGE, PAGE, RW, 0), MM_OK);
    assert_int_equal(map_at(b, 16 * PAGE, PAGE, RW, 0), MM_OK);
    assert_true(store(f, a, 16 * PAGE, 1));
    assert_true(store(f, b, 16 * PAGE, 2));
    assert_int_equal(loaded(f, a, 16 * PAGE), 1);
    assert_int_equal(loaded(f, b, 16 * PAGE), 2);
    put_last(f, a);
    assert_int_equal(loaded(f, b, 16 * PAGE), 2);
    put_last(f, b);
    fixture_stop(f);
}

/* Where the CPU cannot forbid execution, everything else holds. */
static void test_without_nx(void **state)
{
    struct t_machine_config config = {.no_nx = true};
    struct fixture *f = fixture_start(&config);
    struct mm_space *s = new_space(f);

    (void)state;
    assert_int_equal(map_at(s, 16 * PAGE, 2 * PAGE, RW, 0), MM_OK);
    assert_true(store(f, s, 16 * PAGE, 1));
    assert_true(fetch(f, s, 16 * PAGE));
    assert_int_equal(protect(s, 16 * PAGE, PAGE, MM_PROT_READ), MM_OK);
    assert_false(store(f, s, 16 * PAGE, 1));
    assert_int_equal(mm_space_check(s), MM_OK);
    put_last(f, s);
    fixture_stop(f);
}

/* --- the kernel's space -------------------------------------------------------------------------
 */

static void test_kernel_space(void **state)
{
    struct fixture *f = fixture_start(NULL);
    struct mm_space *k = mm_space_kernel(&f->spaces);
    struct mm_space *user = new_space(f);
    struct mm_space_request r = {.len = 5 * PAGE, .prot = RW};
    struct mm_mapping mapping;
    mm_vaddr_t at;
    uint64_t paddr;

    (void)state;
    assert_int_equal(mm_space_id(k), 0);
    assert_int_equal(mm_space_range(k).start.raw, T_ARENA);
    assert_int_equal(mm_space_map(k, &r, &at), MM_OK);
    assert_int_equal(at.raw, T_ARENA);
    assert_int_equal(resident(k), 5 * PAGE); /* nothing is lazy here */
    assert_int_equal(mm_paging_translate(mm_space_table(k), at, &mapping), MM_OK);
    assert_int_equal(mapping.prot & (MM_PROT_USER | MM_PROT_GLOBAL), MM_PROT_GLOBAL);
    assert_int_equal(map_at(k, T_ARENA + 5 * PAGE, PAGE, MM_PROT_NONE, MM_SPACE_GUARD), MM_OK);
    assert_int_equal(map_at(k, T_ARENA + 6 * PAGE, PAGE, MM_PROT_NONE, 0), MM_OK);
    assert_int_equal(resident(k), 6 * PAGE);
    assert_int_equal(map_at(k, T_ARENA + T_ARENA_LEN / 2, PAGE, RW, 0), MM_ERR_INVALID_ADDRESS);
    assert_int_equal(map_at(k, 16 * PAGE, PAGE, RW, 0), MM_ERR_INVALID_ADDRESS);

    /* The kernel sees it in every space, user code never does. */
    assert_int_equal(mm_space_activate(user), MM_OK);
    assert_int_equal(t_cpu_access(f->m.cpu, T_ARENA, T_MMU_WRITE, &paddr), T_CPU_DONE);
    assert_int_equal(*(uint64_t *)t_machine_ptr(&f->m, paddr), 0);
    assert_int_equal(t_cpu_access(f->m.cpu, T_ARENA, T_MMU_USER, &paddr),
                     T_MMU_ERR_P | T_MMU_ERR_U);
    assert_false(touch(f, k, T_ARENA, T_MMU_USER, &(uint64_t *){NULL}));
    assert_int_equal(f->last, MM_FAULT_SIGNAL_ACCESS);
    assert_false(touch(f, user, T_ARENA, T_MMU_USER, &(uint64_t *){NULL}));
    assert_int_equal(f->last, MM_FAULT_SIGNAL_MAP);

    /* Rights change without memory, and the flush reaches global translations. */
    assert_int_equal(protect(k, T_ARENA + 6 * PAGE, PAGE, RW), MM_OK);
    assert_int_equal(t_cpu_access(f->m.cpu, T_ARENA + 6 * PAGE, T_MMU_WRITE, &paddr), T_CPU_DONE);
    assert_int_equal(protect(k, T_ARENA + 6 * PAGE, PAGE, MM_PROT_READ), MM_OK);
    assert_int_equal(t_cpu_access(f->m.cpu, T_ARENA + 6 * PAGE, T_MMU_WRITE, &paddr),
                     T_MMU_ERR_P | T_MMU_ERR_W);
    assert_int_equal(t_cpu_access(f->m.cpu, T_ARENA + 6 * PAGE, 0, &paddr), T_CPU_DONE);
    assert_int_equal(mm_space_check(k), MM_OK);
    assert_int_equal(unmap(k, T_ARENA, 7 * PAGE), MM_OK);
    assert_int_equal(t_cpu_access(f->m.cpu, T_ARENA + 6 * PAGE, 0, &paddr), 0);
    assert_int_equal(t_cpu_access(f->m.cpu, T_ARENA, 0, &paddr), 0);
    assert_int_equal(nr_regions(k), 0);

    /* What is left is unmapped with the manager. */
    assert_int_equal(map_at(k, T_ARENA + 9 * PAGE, 3 * PAGE, RW, 0), MM_OK);
    put_last(f, user);
    fixture_stop(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lazy_and_zeroed),  cmocka_unit_test(test_populate),
        cmocka_unit_test(test_rights),           cmocka_unit_test(test_two_spaces),
        cmocka_unit_test(test_without_nx),       cmocka_unit_test(test_kernel_space),
        cmocka_unit_test(test_short_direct_map),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
