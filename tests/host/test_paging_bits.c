// SPDX-License-Identifier: MIT
/**
 * What entries say, for every size of leaf: memory types and where their PAT bit is, permissions
 * over all levels, NX, and every operation on every size in every state. The judge of permissions
 * is the simulated CPU's own walk. Hazards 9, 10, 11, 12, 15, 17.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <sched.h>

#include "t_paging.h"

static const uint64_t sizes[] = {P4K, P2M, P1G};

static int setup(void **state)
{
    struct t_paging *m = t_paging_new();

    t_paging_start(m);
    assert_int_equal(mm_paging_activate(&m->user), MM_OK);
    *state = m;
    return 0;
}

static int teardown(void **state)
{
    t_paging_delete(*state);
    return 0;
}

/* The entry that translates an address, and its level. */
static uint64_t entry_at(const struct t_paging *m, uint64_t root, uint64_t at, unsigned *shift)
{
    for (*shift = 39;; *shift -= 9) {
        uint64_t entry = t_table(m, root / P4K)[(at >> *shift) & 511];

        if (*shift == 12 || (entry & 1) == 0 || (entry & 0x80) != 0) {
            return entry;
        }
        root = entry & T_MMU_ADDRESS;
    }
}

/* The type that an address selects from the PAT: SDM vol. 3A, 12.12.3, table 12-11. */
static unsigned pat_of(const struct t_paging *m, uint64_t at)
{
    unsigned shift;
    uint64_t entry = entry_at(m, m->user.root.raw, at, &shift);
    unsigned pat = (unsigned)(entry >> (shift == 12 ? 7 : 12)) & 1;
    unsigned index = pat * 4 + (unsigned)((entry >> 3) & 3);

    return (unsigned)(m->cpu->mmu.pat >> (8 * index)) & 0xff;
}

/* --- memory types
 * --------------------------------------------------------------------------------- */

static void test_types_on_every_size(void **state)
{
    /* By mm_memtype_t, the encodings of table 12-10. */
    static const unsigned encoding[MM_MEMTYPE_COUNT] = {6, 4, 1, 7, 0, 5};
    struct t_paging *m = *state;

    for (unsigned size = 0; size < 3; size++) {
        for (unsigned type = 0; type < MM_MEMTYPE_COUNT; type++) {
            uint64_t at = 64 * P1G;
            /* Physical bits 12 and 13 set where they can be: they must not be taken for PAT. */
            uint64_t paddr = 3 * P1G + (size == 0 ? 3 * P4K : size == 1 ? P2M : 0);

            assert_int_equal(mm_paging_map(&m->user, t_range(at, sizes[size]), mm_paddr(paddr),
                                           T_URW, (mm_memtype_t)type, 0),
                             MM_OK);
            assert_int_equal(t_leaf(&m->user, at).type, type);
            assert_int_equal(pat_of(m, at), encoding[type]);
            assert_int_equal(t_paddr(&m->user, at), paddr);
            /* Through every split, the type and the frame of every page stay. */
            for (uint64_t part = sizes[size] / 512; part >= P4K; part /= 512) {
                assert_int_equal(t_protect(&m->user, at + part, part, T_UR, MM_PAGING_SPLIT),
                                 MM_OK);
                for (unsigned i = 0; i < 512; i += 5) {
                    struct mm_mapping leaf = t_leaf(&m->user, at + i * part);

                    assert_int_equal(leaf.type, type);
                    assert_int_equal(t_paddr(&m->user, at + i * part), paddr + i * part);
                    assert_int_equal(pat_of(m, at + i * part), encoding[type]);
                    assert_int_equal(leaf.prot, i == 1 ? T_UR : T_URW);
                }
                assert_int_equal(t_protect(&m->user, at + part, part, T_URW, 0), MM_OK);
            }
            assert_int_equal(mm_paging_check(&m->user), MM_OK);
            assert_int_equal(t_unmap(&m->user, at, sizes[size], 0), MM_OK);
        }
    }
}

/* --- permissions
 * ------------------------------------------------------------------------------------ */

static void compare_rights(struct t_paging *m, const struct mm_pagetable *pt, uint64_t at)
{
    static const uint32_t kinds[] = {0, T_MMU_WRITE, T_MMU_FETCH};
    mm_prot_t prot = t_leaf(pt, at).prot;
    uint64_t seen;

    for (uint32_t i = 0; i < 6; i++) {
        uint32_t kind = kinds[i % 3] | (i < 3 ? 0 : T_MMU_USER);
        bool allowed = (prot & MM_PROT_READ) != 0 &&
                       ((kind & T_MMU_WRITE) == 0 || (prot & MM_PROT_WRITE) != 0) &&
                       ((kind & T_MMU_FETCH) == 0 || (prot & MM_PROT_EXEC) != 0) &&
                       ((kind & T_MMU_USER) == 0 || (prot & MM_PROT_USER) != 0);

        t_cpu_drop_all(m->cpu);
        assert_int_equal(t_cpu_access(m->cpu, at, kind, &seen) == T_CPU_DONE, allowed);
    }
}

/* What is mapped is what the CPU lets through, for every protection, size, and kind of root. */
static void test_every_protection(void **state)
{
    struct t_paging *m = *state;

    m->cpu->mmu.cr4 &=
        ~UINT64_C(0x300000); /* SMEP and SMAP off: kernel accesses to user pages pass */
    for (unsigned size = 0; size < 3; size++) {
        for (mm_prot_t prot = 0; prot < 8; prot++) {
            mm_prot_t reported = prot == 0 ? 0 : prot | MM_PROT_READ;

            assert_int_equal(t_map(&m->user, P1G, P1G, sizes[size], prot | MM_PROT_USER), MM_OK);
            assert_int_equal(t_leaf(&m->user, P1G).prot, reported | (prot != 0 ? MM_PROT_USER : 0));
            compare_rights(m, &m->user, P1G);
            assert_int_equal(t_map(&m->kernel, T_KERNEL_LOW, P1G, sizes[size], prot), MM_OK);
            assert_int_equal(t_leaf(&m->kernel, T_KERNEL_LOW).prot, reported);
            compare_rights(m, &m->user, T_KERNEL_LOW);
            for (mm_prot_t next = 0; next < 8; next++) {
                assert_int_equal(t_protect(&m->user, P1G, sizes[size], next | MM_PROT_USER, 0),
                                 MM_OK);
                assert_int_equal(t_leaf(&m->user, P1G).prot,
                                 next == 0 ? 0 : next | MM_PROT_READ | MM_PROT_USER);
                compare_rights(m, &m->user, P1G);
                assert_int_equal(t_protect(&m->user, P1G, sizes[size], prot | MM_PROT_USER, 0),
                                 MM_OK);
            }
            assert_int_equal(t_unmap(&m->user, P1G, sizes[size], 0), MM_OK);
            assert_int_equal(t_unmap(&m->kernel, T_KERNEL_LOW, sizes[size], 0), MM_OK);
        }
    }
}

/* Rights of tables, which only others narrow: RW and US by AND, NX by OR, over all four levels. */
static void test_rights_over_levels(void **state)
{
    static const uint64_t bits[] = {0, 2, 4, 6, T_MMU_NX, T_MMU_NX | 2, T_MMU_NX | 4, T_MMU_NX | 6};
    struct t_paging *m = *state;
    uint64_t tables[4];

    m->cpu->mmu.cr4 &= ~UINT64_C(0x300000);
    assert_int_equal(t_map(&m->user, 0, P1G, P4K, T_URX | MM_PROT_WRITE), MM_OK);
    tables[0] = m->user.root.raw;
    for (unsigned i = 1; i < 4; i++) {
        tables[i] = t_table(m, tables[i - 1] / P4K)[0] & T_MMU_ADDRESS;
    }
    for (unsigned combination = 0; combination < 8 * 8 * 8 * 8; combination++) {
        for (unsigned i = 0; i < 4; i++) {
            uint64_t *slot = t_table(m, tables[i] / P4K);

            *slot = (*slot & ~(UINT64_C(6) | T_MMU_NX)) | bits[(combination >> (3 * i)) & 7];
        }
        compare_rights(m, &m->user, 0);
    }
    for (unsigned i = 0; i < 4; i++) {
        uint64_t *slot = t_table(m, tables[i] / P4K);

        *slot = (*slot & ~T_MMU_NX) | 6;
    }
    t_cpu_drop_all(m->cpu);
    assert_int_equal(t_unmap(&m->user, 0, P4K, 0), MM_OK);
}

static void test_no_nx_bit_while_it_is_off(void **state)
{
    struct t_paging *m = t_paging_new();
    unsigned shift;

    (void)state;
    m->cpus.has.nx = false;
    t_paging_start(m);
    assert_int_equal(t_map(&m->user, 0, P1G, P4K, T_URW), MM_OK);
    assert_int_equal(entry_at(m, m->user.root.raw, 0, &shift) & T_MMU_NX, 0);
    assert_int_equal(t_leaf(&m->user, 0).prot, T_URW | MM_PROT_EXEC); /* the truth */
    assert_int_equal(t_protect(&m->user, 0, P4K, T_UR, 0), MM_OK);
    assert_int_equal(entry_at(m, m->user.root.raw, 0, &shift) & T_MMU_NX, 0);
    assert_int_equal(mm_paging_activate(&m->user), MM_OK);
    assert_int_equal(t_cpu_access(m->cpu, 0, T_MMU_USER, NULL), T_CPU_DONE);
    t_paging_delete(m);
}

static void test_no_global_bit_where_there_is_none(void **state)
{
    struct t_paging *m = t_paging_new();
    unsigned shift;

    (void)state;
    m->cpus.has.pge = false;
    t_paging_start(m);
    assert_int_equal(t_map(&m->kernel, T_KERNEL_LOW, P1G, P2M, MM_PROT_RW | MM_PROT_GLOBAL), MM_OK);
    assert_int_equal(entry_at(m, m->kernel.root.raw, T_KERNEL_LOW, &shift) & 0x100, 0);
    assert_int_equal(t_leaf(&m->kernel, T_KERNEL_LOW).prot, MM_PROT_RW);
    t_paging_delete(m);
}

/* CR3 of a CPU that takes the mask there. */
static uint64_t cr3_of_encrypted;

static uint64_t read_cr(void *ctx, unsigned cr)
{
    (void)ctx;
    return cr == 3 ? cr3_of_encrypted : 0;
}

static void write_cr(void *ctx, unsigned cr, uint64_t value)
{
    (void)ctx;
    if (cr == 3) {
        cr3_of_encrypted = value;
    }
}

/* The root is encrypted memory too: CR3 carries the mask, and who asks for the root is not told. */
static void test_encryption_mask_in_cr3(void **state)
{
    struct t_paging *m = t_paging_new();
    uint64_t mask = UINT64_C(1) << 47;
    struct mm_x86_64_cpu_ops ops;
    struct mm_paging_config config;

    (void)state;
    m->cpus.has.paddr_bits = 47;
    t_paging_arch(m);
    m->arch.encryption_mask = mask;
    ops = *m->arch.ops;
    ops.read_cr = read_cr;
    ops.write_cr = write_cr;
    m->arch.ops = &ops;
    config = t_config(m);
    assert_int_equal(mm_paging_init_kernel(&m->kernel, &config), MM_OK);
    assert_int_equal(mm_paging_init_user(&m->user, &m->kernel), MM_OK);
    assert_int_equal(mm_paging_activate(&m->user), MM_OK);
    assert_int_equal(cr3_of_encrypted, m->user.root.raw | mask);
    assert_int_equal(mm_paging_current_root(config.backend).raw, m->user.root.raw);
    assert_int_equal(mm_paging_destroy(&m->user), MM_ERR_BUSY);
    assert_int_equal(mm_paging_load_root(config.backend, m->kernel.root), MM_OK);
    assert_int_equal(cr3_of_encrypted, m->kernel.root.raw | mask);
    cr3_of_encrypted |= 0x18; /* PWT and PCD of the root: no address */
    assert_int_equal(mm_paging_current_root(config.backend).raw, m->kernel.root.raw);
    cr3_of_encrypted = 0;
    t_paging_delete(m);
}

/* Leaves and tables of encrypted memory carry the mask; devices do not; translate is without. */
static void test_encryption_mask(void **state)
{
    struct t_paging *m = t_paging_new();
    uint64_t mask = UINT64_C(1) << 47;
    struct mm_paging_config config;

    (void)state;
    m->cpus.has.paddr_bits = 47;
    t_paging_arch(m);
    m->arch.encryption_mask = mask;
    config = t_config(m);
    assert_int_equal(mm_paging_init_kernel(&m->kernel, &config), MM_OK);
    assert_int_equal(mm_paging_init_user(&m->user, &m->kernel), MM_OK);
    assert_int_equal(t_map(&m->user, 0, P1G, P2M + P4K, T_URW), MM_OK);
    assert_int_equal(
        mm_paging_map(&m->user, t_range(P1G, P4K), mm_paddr(P1G), T_URW, MM_MEMTYPE_UC, 0), MM_OK);
    assert_int_equal(t_table(m, m->user.root.raw / P4K)[0] & mask, mask);
    assert_int_equal(t_paddr(&m->user, P2M), P1G + P2M);
    assert_int_equal(t_paddr(&m->user, P1G), P1G);
    assert_int_equal(t_protect(&m->user, P4K, P4K, MM_PROT_USER, MM_PAGING_SPLIT), MM_OK);
    assert_int_equal(t_protect(&m->user, P4K, P4K, T_URW, 0), MM_OK);
    assert_int_equal(t_paddr(&m->user, P4K), P1G + P4K);
    {
        uint64_t root = t_table(m, m->user.root.raw / P4K)[0] & T_MMU_ADDRESS & ~mask;
        uint64_t gigabyte = t_table(m, root / P4K)[0] & T_MMU_ADDRESS & ~mask;
        uint64_t device = t_table(m, root / P4K)[1] & T_MMU_ADDRESS & ~mask;

        assert_int_equal(t_table(m, gigabyte / P4K)[0] & mask, mask);
        device = t_table(m, device / P4K)[0] & T_MMU_ADDRESS & ~mask;
        assert_int_equal(t_table(m, device / P4K)[0] & mask, 0);
    }
    assert_int_equal(mm_paging_check(&m->user), MM_OK);
    t_paging_delete(m);
}

/* CPUID may still count the bit of the mask: memory whose address holds it would be another's. */
static void test_encryption_mask_is_no_address(void **state)
{
    struct t_paging *m = t_paging_new();
    uint64_t mask = UINT64_C(1) << 47;
    struct mm_paging_config config;

    (void)state;
    m->cpus.has.paddr_bits = 48;
    t_paging_arch(m);
    m->arch.encryption_mask = mask;
    config = t_config(m);
    assert_int_equal(mm_paging_init_kernel(&m->kernel, &config), MM_OK);
    assert_int_equal(mm_paging_init_user(&m->user, &m->kernel), MM_OK);
    assert_int_equal(t_map(&m->user, 0, mask, P4K, T_URW), MM_ERR_INVALID_ADDRESS);
    assert_int_equal(t_map(&m->user, 0, mask - P4K, 2 * P4K, T_URW), MM_ERR_INVALID_ADDRESS);
    assert_int_equal(
        mm_paging_map(&m->user, t_range(0, P4K), mm_paddr(mask + P1G), T_URW, MM_MEMTYPE_UC, 0),
        MM_ERR_INVALID_ADDRESS);
    assert_int_equal(t_map(&m->user, 0, mask - P4K, P4K, T_URW), MM_OK);
    assert_int_equal(t_paddr(&m->user, 0), mask - P4K);
    assert_int_equal(mm_paging_check(&m->user), MM_OK);
    t_paging_delete(m);
}

/* --- every operation on every size in every state
 * ---------------------------------------------------- */

static const uint64_t where = 70 * P1G;

/* States of an address: nothing, or a leaf of each size, allowed or forbidden; bare or in use. */
static void make_state(struct t_paging *m, unsigned which)
{
    if (which == 0) {
        return;
    }
    assert_int_equal(t_map(&m->user, where, P1G, sizes[(which - 1) % 3],
                           which <= 3 ? (mm_prot_t)T_URW : (mm_prot_t)MM_PROT_USER),
                     MM_OK);
}

static void test_operations_on_every_size(void **state)
{
    struct t_paging *m = *state;

    for (unsigned which = 0; which < 7; which++) {
        uint64_t leaf = which == 0 ? 0 : sizes[(which - 1) % 3];

        for (unsigned size = 0; size < 3; size++) {
            for (uint32_t flags = 0; flags < 4; flags++) {
                uint64_t len = sizes[size];
                bool split = (flags & MM_PAGING_SPLIT) != 0;
                bool holes = (flags & MM_PAGING_SKIP_HOLES) != 0;
                mm_status_t wanted = leaf < len && !holes   ? MM_ERR_NOT_MAPPED
                                     : leaf > len && !split ? MM_ERR_HUGE_PAGE
                                                            : MM_OK;
                uint64_t before;

                for (unsigned op = 0; op < 2; op++) {
                    mm_status_t status;

                    make_state(m, which);
                    before = t_state(m, NULL);
                    status = op == 0 ? t_unmap(&m->user, where, len, flags)
                                     : t_protect(&m->user, where, len, T_UR, flags);
                    assert_int_equal(status, wanted);
                    assert_true(status == MM_OK || before == t_state(m, NULL));
                    if (status == MM_OK && op == 0) {
                        for (uint64_t off = 0; off < len; off += len / 16) {
                            assert_true(t_is_hole(&m->user, where + off));
                        }
                    }
                    if (status == MM_OK && op == 1 && leaf != 0) {
                        assert_int_equal(t_leaf(&m->user, where).prot, T_UR);
                    }
                    if (status == MM_OK && leaf > len) {
                        assert_int_equal(t_leaf(&m->user, where + len).page.len, len);
                        assert_int_equal(t_paddr(&m->user, where + leaf - 1), P1G + leaf - 1);
                    }
                    assert_int_equal(mm_paging_check(&m->user), MM_OK);
                    assert_int_equal(t_unmap(&m->user, where, P1G, MM_PAGING_SKIP_HOLES), MM_OK);
                    assert_int_equal(m->user.nr_tables, 1);
                }
                make_state(m, which);
                before = t_state(m, NULL);
                assert_int_equal(t_map(&m->user, where, P1G, len, T_URW),
                                 leaf == 0 ? MM_OK : MM_ERR_ALREADY_MAPPED);
                assert_true(leaf == 0 || before == t_state(m, NULL));
                assert_int_equal(t_unmap(&m->user, where, P1G, MM_PAGING_SKIP_HOLES), MM_OK);
            }
        }
    }
}

/* --- the hardware sets bits between our load and our store
 * ---------------------------------------------- */

#if MM_TEST_SANITIZED
#define ROUNDS 500u
#else
#define ROUNDS 2000u
#endif

#define RACE_PAGES 16u

struct race {
    uint64_t *slots;
    unsigned round; /* atomic: the walker sets dirty once for each, in each page */
    unsigned done;  /* atomic */
    unsigned set;   /* bit by page: it was found present and writable */
};

static void *walker(void *arg)
{
    struct race *r = arg;

    for (unsigned round = 1; round <= ROUNDS; round++) {
        unsigned set = 0;

        while (__atomic_load_n(&r->round, __ATOMIC_ACQUIRE) < round) {
            sched_yield();
        }
        for (unsigned page = 0; page < RACE_PAGES; page++) {
            uint64_t entry = __atomic_load_n(&r->slots[page], __ATOMIC_ACQUIRE);
            bool done = false;

            while (!done && (entry & 3) == 3) {
                done = __atomic_compare_exchange_n(&r->slots[page], &entry, entry | 0x60, false,
                                                   __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
            }
            set |= done ? 1u << page : 0;
            for (unsigned spin = 0; spin < round % 8; spin++) {
                __asm__ volatile("pause");
            }
        }
        r->set = set;
        __atomic_store_n(&r->done, round, __ATOMIC_RELEASE);
    }
    return NULL;
}

/* A dirty bit that a walk sets while the page is being protected is found afterwards. */
static void test_dirty_is_never_lost(void **state)
{
    struct t_paging *m = *state;
    struct race r = {0};
    pthread_t thread;
    uint64_t table = m->user.root.raw;
    uint64_t len = RACE_PAGES * P4K;

    assert_int_equal(t_map(&m->user, 0, P1G, len, T_URW), MM_OK);
    for (unsigned i = 0; i < 3; i++) {
        table = t_table(m, table / P4K)[0] & T_MMU_ADDRESS;
    }
    r.slots = t_table(m, table / P4K);
    assert_int_equal(pthread_create(&thread, NULL, walker, &r), 0);
    for (unsigned round = 1; round <= ROUNDS; round++) {
        __atomic_store_n(&r.round, round, __ATOMIC_RELEASE);
        do { /* for as long as the walker is at it */
            assert_int_equal(t_protect(&m->user, 0, len, T_UR, 0), MM_OK);
            assert_int_equal(t_protect(&m->user, 0, len, T_URW, 0), MM_OK);
        } while (__atomic_load_n(&r.done, __ATOMIC_ACQUIRE) < round);
        for (unsigned page = 0; page < RACE_PAGES; page++) {
            assert_int_equal(t_leaf(&m->user, page * P4K).dirty, (r.set >> page) & 1);
            __atomic_fetch_and(&r.slots[page], ~UINT64_C(0x60), __ATOMIC_ACQ_REL);
        }
    }
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(t_unmap(&m->user, 0, len, 0), MM_OK);
}

/* --- what another CPU sees while a leaf is split
 * ------------------------------------------------------- */

struct observer {
    struct t_mmu mmu;
    uint64_t seen_missing; /* atomic */
    unsigned stop;         /* atomic */
    unsigned ready;        /* atomic */
};

static uint64_t *entry_for_observer(void *ctx, uint64_t paddr)
{
    const struct t_paging *m = ctx;

    return paddr / P4K < T_TABLES ? t_table(m, paddr / P4K) + paddr % P4K / 8 : NULL;
}

/* Walk again and again with no cache: no moment without translation, no other frame. */
static void *observe(void *arg)
{
    struct observer *o = arg;
    uint64_t n = 0;

    while (__atomic_load_n(&o->stop, __ATOMIC_ACQUIRE) == 0) {
        uint64_t at = P1G + (n++ * 0x3f7f000) % P1G;
        struct t_mmu_walk walk;

        t_mmu_walk(&o->mmu, at, &walk);
        if (walk.end != T_MMU_LEAF || walk.paddr != walk.start + 4 * P1G) {
            __atomic_fetch_add(&o->seen_missing, 1, __ATOMIC_ACQ_REL);
        }
        __atomic_store_n(&o->ready, 1, __ATOMIC_RELEASE);
    }
    return NULL;
}

static void test_split_has_no_gap(void **state)
{
    struct t_paging *m = *state;
    struct observer o = {.mmu = m->cpu->mmu};
    pthread_t thread;

    assert_int_equal(t_map(&m->user, P1G, 5 * P1G, P1G, T_URW), MM_OK);
    o.mmu.cr3 = m->user.root.raw;
    o.mmu.ctx = m;
    o.mmu.entry = entry_for_observer;
    assert_int_equal(pthread_create(&thread, NULL, observe, &o), 0);
    while (__atomic_load_n(&o.ready, __ATOMIC_ACQUIRE) == 0) {
        sched_yield();
    }
    for (unsigned i = 0; i < 512; i++) {
        assert_int_equal(t_protect(&m->user, P1G + i * P2M + i * P4K, P4K, T_UR, MM_PAGING_SPLIT),
                         MM_OK);
    }
    __atomic_store_n(&o.stop, 1, __ATOMIC_RELEASE);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(o.seen_missing, 0);
    assert_int_equal(m->user.nr_leaves[0], 512 * 512);
    assert_int_equal(t_unmap(&m->user, P1G, P1G, 0), MM_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_types_on_every_size, setup, teardown),
        cmocka_unit_test_setup_teardown(test_every_protection, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rights_over_levels, setup, teardown),
        cmocka_unit_test(test_no_nx_bit_while_it_is_off),
        cmocka_unit_test(test_no_global_bit_where_there_is_none),
        cmocka_unit_test(test_encryption_mask),
        cmocka_unit_test(test_encryption_mask_is_no_address),
        cmocka_unit_test(test_encryption_mask_in_cr3),
        cmocka_unit_test_setup_teardown(test_operations_on_every_size, setup, teardown),
        cmocka_unit_test_setup_teardown(test_dirty_is_never_lost, setup, teardown),
        cmocka_unit_test_setup_teardown(test_split_has_no_gap, setup, teardown),
    };

    return cmocka_run_group_tests_name("paging_bits", tests, NULL, NULL);
}
