// SPDX-License-Identifier: MIT
/**
 * Page tables that four CPUs walk, by hand: where the random test would need luck. Each flush is
 * broadcast, and after each step nothing in any cache disagrees with the tables. Hazards 7, 8, 10,
 * 13, 14, 17, 18.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "prng.h"
#include "t_paging.h"

#define NR_CPUS 4u

static int setup(void **state)
{
    struct t_paging *m = t_paging_new_cpus(NR_CPUS);

    t_paging_start(m);
    *state = m;
    return 0;
}

static int teardown(void **state)
{
    t_paging_delete(*state);
    return 0;
}

static void all_enter(struct t_paging *m, struct mm_pagetable *pt)
{
    for (m->cpus.now = NR_CPUS; m->cpus.now-- > 0;) {
        assert_int_equal(mm_paging_activate(pt), MM_OK);
    }
    m->cpus.now = 0;
}

/* Each CPU makes the access. */
static void all_access(struct t_paging *m, uint64_t at, unsigned access, uint32_t answer)
{
    for (unsigned i = 0; i < NR_CPUS; i++) {
        assert_int_equal(t_cpu_access(&m->cpus.cpu[i], at, access, NULL), answer);
    }
}

/* Global translations are kept over changes of the user root, and still go with their page. */
static void test_global_pages_outlive_root_changes(void **state)
{
    struct t_paging *m = *state;
    struct mm_pagetable other = {0};
    uint64_t at = T_KERNEL_LOW + 5 * P2M;

    assert_int_equal(mm_paging_init_user(&other, &m->kernel), MM_OK);
    assert_int_equal(t_map(&m->kernel, at, P1G, P4K, MM_PROT_RW | MM_PROT_GLOBAL), MM_OK);
    assert_int_equal(t_map(&m->kernel, at + P4K, P1G + P4K, P4K, MM_PROT_RW), MM_OK);
    all_enter(m, &m->user);
    all_access(m, at, 0, T_CPU_DONE);
    all_access(m, at + P4K, 0, T_CPU_DONE);
    for (unsigned i = 0; i < NR_CPUS; i++) {
        struct t_cpu *cpu = &m->cpus.cpu[i];
        uint64_t nr_walks;

        m->cpus.now = i;
        assert_int_equal(mm_paging_activate(&other), MM_OK);
        nr_walks = cpu->nr_walks;
        assert_int_equal(t_cpu_access(cpu, at, 0, NULL), T_CPU_DONE);
        assert_int_equal(cpu->nr_walks, nr_walks);
        assert_int_equal(t_cpu_access(cpu, at + P4K, 0, NULL), T_CPU_DONE);
        assert_int_equal(cpu->nr_walks, nr_walks + 1);
    }
    t_nothing_stale(m);
    assert_int_equal(t_unmap(&m->kernel, at, 2 * P4K, 0), MM_OK);
    t_nothing_stale(m);
    all_access(m, at, 0, 0);
    all_enter(m, &m->kernel);
    assert_int_equal(mm_paging_destroy(&other), MM_OK);
}

/* A kernel root whose CPUs left it by an instruction of their own: its global translations are
 * still there, and go with it. */
static void test_destroyed_kernel_leaves_nothing(void **state)
{
    struct t_paging *m = *state;
    struct mm_pagetable other = {0};
    struct mm_paging_config config = t_config(m);

    assert_int_equal(mm_paging_init_kernel(&other, &config), MM_OK);
    all_enter(m, &other);
    assert_int_equal(
        t_map(&other, T_KERNEL_LOW, (T_LEAVES + 5) * P4K, P4K, MM_PROT_RW | MM_PROT_GLOBAL), MM_OK);
    all_access(m, T_KERNEL_LOW, T_MMU_WRITE, T_CPU_DONE);
    for (unsigned i = 0; i < NR_CPUS; i++) {
        t_cpu_write_cr(&m->cpus.cpu[i], 3, m->kernel.root.raw);
    }
    assert_non_null(t_cpus_holds(&m->cpus, (T_LEAVES + 5) * P4K, P4K));
    assert_int_equal(mm_paging_destroy(&other), MM_OK);
    assert_null(t_cpus_holds(&m->cpus, (T_LEAVES + 5) * P4K, P4K));
    t_nothing_stale(m);
}

/* A table goes, whole, and CPUs remember the way to it: what they had not seen there faults from
 * then on, what they had works until the gather ends. */
static void test_nothing_is_found_in_a_table_that_went(void **state)
{
    struct t_paging *m = *state;
    struct mm_gather gather;
    uint64_t at = 7 * P2M;

    assert_int_equal(mm_paging_map(&m->user, t_range(at, P2M), mm_paddr(P1G), T_URW, MM_MEMTYPE_WB,
                                   MM_PAGING_ONLY_4K),
                     MM_OK);
    all_enter(m, &m->user);
    all_access(m, at + 3 * P4K, T_MMU_USER, T_CPU_DONE);
    assert_int_equal(mm_gather_begin(&gather, &m->user), MM_OK);
    assert_int_equal(mm_paging_unmap(&m->user, t_range(at, P2M), 0, &gather), MM_OK);
    all_access(m, at + 4 * P4K, T_MMU_USER, T_MMU_USER);
    all_access(m, at + 3 * P4K, T_MMU_USER, T_CPU_DONE);
    mm_gather_end(&gather);
    all_access(m, at + 3 * P4K, T_MMU_USER, T_MMU_USER);
    t_nothing_stale(m);
    all_enter(m, &m->kernel);
}

/* The last page of all: its flush neither wraps nor stops short, on any CPU. */
static void test_top_of_the_address_space(void **state)
{
    struct t_paging *m = *state;
    uint64_t last = 0 - P4K;

    for (unsigned pages = 1; pages <= 2 * MM_GATHER_FLUSH_PAGES; pages *= 2) {
        uint64_t at = 0 - pages * P4K;

        assert_int_equal(t_map(&m->kernel, at, P1G, pages * P4K, MM_PROT_RW | MM_PROT_GLOBAL),
                         MM_OK);
        all_access(m, at, 0, T_CPU_DONE);
        all_access(m, last + 0xfff, T_MMU_WRITE, T_CPU_DONE);
        assert_int_equal(t_protect(&m->kernel, at, pages * P4K, MM_PROT_READ | MM_PROT_GLOBAL, 0),
                         MM_OK);
        t_nothing_stale(m);
        all_access(m, last, T_MMU_WRITE, T_MMU_ERR_P | T_MMU_ERR_W);
        all_access(m, last, 0, T_CPU_DONE);
        assert_int_equal(t_unmap(&m->kernel, at, pages * P4K, 0), MM_OK);
        t_nothing_stale(m);
        all_access(m, last, 0, 0);
    }
}

/* A large leaf that CPUs have in pieces, of either size, is split: no piece is left of it. */
static void test_split_with_pieces_cached(void **state)
{
    struct t_paging *m = *state;
    struct t_prng prng;
    uint64_t size[] = {P2M, P1G};

    t_prng_start(&prng, "pieces");
    all_enter(m, &m->user);
    t_cpus_noise(&m->cpus, t_prng_u64(&prng), 16);
    for (unsigned round = 0; round < 200; round++) {
        uint64_t len = size[round % 2];
        uint64_t cut = t_prng_below(&prng, len / P4K) * P4K;

        assert_int_equal(t_map(&m->user, P1G, 5 * P1G, len, T_URW), MM_OK);
        for (unsigned i = 0; i < 40; i++) {
            all_access(m, P1G + t_prng_below(&prng, len), T_MMU_USER | T_MMU_WRITE, T_CPU_DONE);
            all_access(m, P1G + cut, T_MMU_USER, T_CPU_DONE);
        }
        assert_int_equal(t_protect(&m->user, P1G + cut, P4K, T_UR, MM_PAGING_SPLIT), MM_OK);
        t_nothing_stale(m);
        all_access(m, P1G + cut, T_MMU_USER | T_MMU_WRITE, T_MMU_ERR_P | T_MMU_ERR_W | T_MMU_ERR_U);
        assert_int_equal(t_unmap(&m->user, P1G, len, 0), MM_OK);
        t_nothing_stale(m);
        assert_int_equal(m->user.nr_tables, 1);
    }
    t_cpus_noise(&m->cpus, 0, 0);
}

/* Tables come and go below one address while CPUs look ahead: none of their ways leads astray. */
static void test_tables_come_and_go(void **state)
{
    struct t_paging *m = *state;
    struct t_prng prng;

    t_prng_start(&prng, "tables");
    all_enter(m, &m->user);
    t_cpus_noise(&m->cpus, t_prng_u64(&prng), 2);
    for (unsigned round = 0; round < 2000; round++) {
        bool large = t_prng_chance(&prng, 1, 2);
        uint64_t at = P1G * t_prng_below(&prng, 3) + (large ? 0 : P4K * t_prng_below(&prng, 512));
        uint64_t len = large ? P2M : P4K;

        assert_int_equal(t_map(&m->user, at, 7 * P1G + at, len, T_URW), MM_OK);
        all_access(m, at, T_MMU_USER | (large ? T_MMU_WRITE : 0), T_CPU_DONE);
        t_nothing_stale(m);
        m->cpus.now = (unsigned)t_prng_below(&prng, NR_CPUS);
        assert_int_equal(t_unmap(&m->user, at, len, 0), MM_OK);
        t_nothing_stale(m);
        all_access(m, at, T_MMU_USER, T_MMU_ERR_U);
    }
    t_cpus_noise(&m->cpus, 0, 0);
    m->cpus.now = 0;
}

/* The highest frame that the CPU has is reached; one bit more is reserved, and NX without NXE, and
 * a 1 GiB leaf that the CPU lacks: the library writes none of these. */
static void test_reserved_bits(void **state)
{
    static const struct {
        uint32_t paddr_bits;
        bool nx, page_1g;
    } rows[] = {{36, true, true}, {40, false, true}, {46, true, false}, {52, false, false}};

    (void)state;
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct t_paging *m = t_paging_new_cpus(NR_CPUS);
        uint64_t top = UINT64_C(1) << rows[i].paddr_bits;
        uint32_t fetch = rows[i].nx ? T_MMU_ERR_P | T_MMU_ERR_U | T_MMU_ERR_I : T_CPU_DONE;
        uint64_t *slot;

        m->cpus.has.paddr_bits = rows[i].paddr_bits;
        m->cpus.has.nx = rows[i].nx;
        m->cpus.has.page_1g = rows[i].page_1g;
        t_paging_start(m);
        all_enter(m, &m->user);
        assert_int_equal(t_map(&m->user, P1G, top - P4K, P4K, T_URW), MM_OK);
        assert_int_equal(t_map(&m->user, 2 * P1G, top - P1G, P1G, T_URW), MM_OK);
        assert_int_equal(t_map(&m->user, 0, top, P4K, T_URW), MM_ERR_INVALID_ADDRESS);
        all_access(m, P1G, T_MMU_USER | T_MMU_WRITE, T_CPU_DONE);
        all_access(m, 2 * P1G, T_MMU_USER | T_MMU_WRITE, T_CPU_DONE);
        all_access(m, 2 * P1G, T_MMU_USER | T_MMU_FETCH, fetch);
        t_nothing_stale(m);
        assert_int_equal(m->user.nr_leaves[2], rows[i].page_1g ? 1 : 0);
        /* Such an entry, were it there. */
        slot = t_table(m, m->user.root.raw / P4K);
        *slot |= rows[i].nx ? UINT64_C(1) << 51 : T_MMU_NX;
        for (unsigned cpu = 0; cpu < NR_CPUS; cpu++) {
            t_cpu_drop_all(&m->cpus.cpu[cpu]);
        }
        all_access(m, P1G, T_MMU_USER, T_MMU_ERR_P | T_MMU_ERR_RSVD | T_MMU_ERR_U);
        *slot &= ~(rows[i].nx ? UINT64_C(1) << 51 : T_MMU_NX);
        all_access(m, P1G, T_MMU_USER, T_CPU_DONE);
        t_paging_delete(m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_global_pages_outlive_root_changes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_destroyed_kernel_leaves_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nothing_is_found_in_a_table_that_went, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_top_of_the_address_space, setup, teardown),
        cmocka_unit_test_setup_teardown(test_split_with_pieces_cached, setup, teardown),
        cmocka_unit_test_setup_teardown(test_tables_come_and_go, setup, teardown),
        cmocka_unit_test(test_reserved_bits),
    };

    return cmocka_run_group_tests_name("paging_cpus", tests, NULL, NULL);
}
