// SPDX-License-Identifier: MIT
/**
 * Memory types changed in place: every type into every other on every size, what stays, what the
 * CPUs see meanwhile, and what a call that fails leaves. Hazards 8, 9, 15, 16, 17, 18, 19.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "paging_break.h"

static const uint64_t sizes[] = {P4K, P2M, P1G};

static mm_status_t set_type(struct mm_pagetable *pt, uint64_t at, uint64_t len, mm_memtype_t type,
                            uint32_t flags)
{
    mm_status_t status = mm_paging_set_type(pt, t_range(at, len), type, flags);

    assert_int_equal(mm_paging_check(pt), MM_OK);
    return status;
}

/* The type that the hardware finds, as an encoding of SDM vol. 3A, table 12-10. */
static unsigned type_of_cpu(struct t_paging *m, const struct mm_pagetable *pt, uint64_t at)
{
    struct t_mmu_walk walk;
    struct t_mmu mmu = m->cpu->mmu;

    mmu.cr3 = pt->root.raw;
    t_mmu_walk(&mmu, at, &walk);
    assert_int_equal(walk.end, T_MMU_LEAF);
    return walk.type;
}

/* --- every type into every other --------------------------------------------------------------- */

static const unsigned encoding[MM_MEMTYPE_COUNT] = {6, 4, 1, 7, 0, 5};

static void every_type(bool la57, unsigned which, unsigned size)
{
    struct t_paging *m = break_machine(la57, true);
    static struct flat flat;
    uint64_t len = sizes[size];
    uint64_t at;
    mm_prot_t prot;
    struct mm_pagetable *pt = break_root(m, which, &at, &prot);
    /* Bits of the frame beside those that are PAT's. */
    uint64_t paddr = 3 * P1G + (size == 0 ? 3 * P4K : size == 1 ? 5 * P2M : 0);

    for (unsigned from = 0; from < MM_MEMTYPE_COUNT; from++) {
        for (unsigned to = 0; to < MM_MEMTYPE_COUNT; to++) {
            mm_memtype_t type = (mm_memtype_t)to;
            uint64_t hash;

            assert_int_equal(
                mm_paging_map(pt, t_range(at, len), mm_paddr(paddr), prot, (mm_memtype_t)from, 0),
                MM_OK);
            hash = t_state(m, NULL);
            if (which != IDLE) {
                all_access(m, pt, at, to % 2 != 0 ? T_MMU_WRITE : 0);
                hash = t_state(m, NULL);
                break_arm(pt, at, len);
            }
            flat_take(pt, at, 1, &flat);
            assert_int_equal(set_type(pt, at, len, type, 0), MM_OK);
            /* A leaf that has the type already is not touched. */
            assert_int_equal(break_disarm(), which != IDLE && from != to ? 1 : 0);
            assert_int_equal(t_leaf(pt, at).page.len, len);
            flat_same(pt, &flat, &type);
            assert_int_equal(type_of_cpu(m, pt, at), encoding[to]);
            one_size(m, pt, at, len);
            assert_int_equal(set_type(pt, at, len, (mm_memtype_t)from, 0), MM_OK);
            assert_true(hash == t_state(m, NULL));
            assert_int_equal(t_unmap(pt, at, len, 0), MM_OK);
        }
    }
    t_paging_delete(m);
}

static void test_every_type(void **state)
{
    (void)state;
    for (unsigned which = 0; which < NR_ROOTS; which++) {
        for (unsigned size = 0; size < 3; size++) {
            every_type(size == 1, which, size);
        }
    }
}

/* Every right, accessed and dirty or not, global or not: nothing but the type changes. */
static void test_rights_stay(void **state)
{
    struct t_paging *m = break_machine(false, true);

    (void)state;
    all_enter(m, &m->kernel);
    for (unsigned i = 0; i < 3 * 16 * 3; i++) {
        uint64_t len = sizes[i % 3];
        mm_prot_t prot = (i / 3 % 8) | (i / 24 % 2 != 0 ? MM_PROT_GLOBAL : 0);
        struct mm_mapping was;
        struct mm_mapping is;

        assert_int_equal(t_map(&m->kernel, T_KERNEL_LOW, 3 * P1G, len, prot), MM_OK);
        if (i / 48 != 0) {
            (void)t_cpu_access(m->cpu, T_KERNEL_LOW, i / 48 == 1 ? 0 : T_MMU_WRITE, NULL);
        }
        was = t_leaf(&m->kernel, T_KERNEL_LOW);
        assert_int_equal(set_type(&m->kernel, T_KERNEL_LOW, len, MM_MEMTYPE_WC, 0), MM_OK);
        is = t_leaf(&m->kernel, T_KERNEL_LOW);
        assert_int_equal(is.type, MM_MEMTYPE_WC);
        is.type = was.type;
        assert_memory_equal(&is, &was, sizeof(is));
        assert_int_equal(t_unmap(&m->kernel, T_KERNEL_LOW, len, 0), MM_OK);
    }
    t_paging_delete(m);
}

/* Frames at each bit of a physical address of 52: the broken form keeps them all. */
static void test_every_bit_of_the_frame(void **state)
{
    struct t_paging *m = t_paging_new_cpus(NR_CPUS);
    struct t_cpu_features has = t_cpu_full;

    (void)state;
    has.paddr_bits = 52;
    t_paging_cpus(m, NR_CPUS, &has);
    t_paging_start(m);
    break_hooks(m);
    for (unsigned size = 0; size < 3; size++) {
        for (unsigned bit = size == 0 ? 12 : size == 1 ? 21 : 30; bit < 54; bit++) {
            uint64_t paddr = bit < 52    ? UINT64_C(1) << bit
                             : bit == 52 ? (UINT64_C(1) << 52) - sizes[size]
                                         : UINT64_C(0x9a5a500000000) / sizes[size] * sizes[size];

            assert_int_equal(
                t_map(&m->kernel, T_KERNEL_LOW, paddr, sizes[size], MM_PROT_RW | MM_PROT_GLOBAL),
                MM_OK);
            assert_int_equal(set_type(&m->kernel, T_KERNEL_LOW, sizes[size], MM_MEMTYPE_WP, 0),
                             MM_OK);
            assert_int_equal(t_paddr(&m->kernel, T_KERNEL_LOW), paddr);
            assert_int_equal(t_leaf(&m->kernel, T_KERNEL_LOW).prot, MM_PROT_RW | MM_PROT_GLOBAL);
            assert_int_equal(t_leaf(&m->kernel, T_KERNEL_LOW).type, MM_MEMTYPE_WP);
            assert_int_equal(t_unmap(&m->kernel, T_KERNEL_LOW, sizes[size], 0), MM_OK);
        }
    }
    t_paging_delete(m);
}

/* Pages that allow nothing come back with the type that they were given, and without a flush. */
static void test_forbidden_pages(void **state)
{
    struct t_paging *m = break_machine(false, true);

    (void)state;
    all_enter(m, &m->user);
    for (unsigned size = 0; size < 3; size++) {
        assert_int_equal(t_map(&m->user, P1G, 3 * P1G, sizes[size], T_URW), MM_OK);
        all_access(m, &m->user, P1G, T_MMU_WRITE);
        assert_int_equal(t_protect(&m->user, P1G, sizes[size], MM_PROT_USER, 0), MM_OK);
        break_arm(&m->user, P1G, sizes[size]);
        assert_int_equal(set_type(&m->user, P1G, sizes[size], MM_MEMTYPE_WT, 0), MM_OK);
        assert_int_equal(break_disarm(), 0);
        assert_int_equal(t_leaf(&m->user, P1G).prot, MM_PROT_NONE);
        assert_int_equal(t_leaf(&m->user, P1G).type, MM_MEMTYPE_WT);
        assert_int_equal(t_protect(&m->user, P1G, sizes[size], T_URW, 0), MM_OK);
        assert_int_equal(type_of_cpu(m, &m->user, P1G), encoding[MM_MEMTYPE_WT]);
        assert_true(t_leaf(&m->user, P1G).dirty);
        assert_int_equal(t_unmap(&m->user, P1G, sizes[size], 0), MM_OK);
    }
    t_paging_delete(m);
}

/* Memory is encrypted, what is not memory is not: with the type the bit comes and goes. */
static void test_encryption_mask(void **state)
{
    struct t_paging *m = t_paging_new_cpus(1);
    uint64_t mask = UINT64_C(1) << 45;
    uint64_t hash;

    (void)state;
    t_paging_arch(m);
    m->arch.encryption_mask = mask;
    m->physmap.ops = NULL;
    {
        struct mm_paging_config config = t_config(m);

        assert_int_equal(mm_paging_init_kernel(&m->kernel, &config), MM_OK);
    }
    assert_int_equal(t_map(&m->kernel, T_KERNEL_LOW, 3 * P1G, P2M, MM_PROT_RW), MM_OK);
    hash = t_state(m, NULL);
    for (unsigned type = 0; type < MM_MEMTYPE_COUNT; type++) {
        bool memory = type == MM_MEMTYPE_WB || type == MM_MEMTYPE_WT || type == MM_MEMTYPE_WP;
        uint64_t frame = m->kernel.root.raw / P4K;

        assert_int_equal(set_type(&m->kernel, T_KERNEL_LOW, P2M, (mm_memtype_t)type, 0), MM_OK);
        for (unsigned level = 3; level > 1; level--) {
            frame = (t_table(m, frame)[(T_KERNEL_LOW >> (12 + 9 * level)) & 511] & T_MMU_ADDRESS &
                     ~mask) /
                    P4K;
        }
        assert_int_equal((t_table(m, frame)[0] & mask) != 0, memory);
        assert_int_equal(t_paddr(&m->kernel, T_KERNEL_LOW), 3 * P1G);
    }
    assert_int_equal(set_type(&m->kernel, T_KERNEL_LOW, P2M, MM_MEMTYPE_WB, 0), MM_OK);
    assert_true(hash == t_state(m, NULL));
    assert_int_equal(t_unmap(&m->kernel, T_KERNEL_LOW, P2M, 0), MM_OK);
    t_paging_delete(m);
}

/* --- parts of leaves --------------------------------------------------------------------------- */

static void test_parts(void **state)
{
    (void)state;
    for (unsigned which = 0; which < NR_ROOTS; which++) {
        struct t_paging *m = break_machine(which == 1, true);
        static struct flat flat;
        uint64_t at;
        mm_prot_t prot;
        struct mm_pagetable *pt = break_root(m, which, &at, &prot);
        uint64_t cut = at + P2M - 3 * P4K;
        uint64_t hash;
        uint64_t nr;

        assert_int_equal(t_map(pt, at, 3 * P1G, P1G, prot), MM_OK);
        if (which != IDLE) {
            all_access(m, pt, at, 0);
            all_access(m, pt, cut, 0);
            all_access(m, pt, at + P1G - 1, T_MMU_WRITE);
        }
        hash = t_state(m, NULL);
        assert_int_equal(set_type(pt, cut, 8 * P4K, MM_MEMTYPE_UC, 0), MM_ERR_HUGE_PAGE);
        assert_true(hash == t_state(m, NULL));
        flat_take(pt, at, 1024, &flat);
        if (which != IDLE) {
            break_arm(pt, cut, 8 * P4K);
        }
        assert_int_equal(set_type(pt, cut, 8 * P4K, MM_MEMTYPE_UC, MM_PAGING_SPLIT), MM_OK);
        assert_int_equal(break_disarm(), which != IDLE ? 1 : 0);
        one_size(m, pt, at, P1G);
        for (unsigned i = 0; i < 1024; i++) {
            bool in = i >= 509 && i < 517;

            flat.page[i].type = in ? MM_MEMTYPE_UC : MM_MEMTYPE_WB;
        }
        flat_same(pt, &flat, NULL);
        assert_int_equal(t_leaf(pt, at + 2 * P2M).page.len, P2M);
        assert_int_equal(t_leaf(pt, at + P1G - 1).page.len, P2M);
        /* Back, and whole: as it was. */
        assert_int_equal(set_type(pt, at, P1G, MM_MEMTYPE_WB, 0), MM_OK);
        assert_int_equal(mm_paging_merge(pt, t_range(at, P1G), &nr), MM_OK);
        assert_int_equal(nr, 3);
        one_size(m, pt, at, P1G);
        assert_true(hash == t_state(m, NULL));
        assert_int_equal(t_unmap(pt, at, P1G, 0), MM_OK);
        t_paging_delete(m);
    }
}

/* A split on a live root for a type that is there already: what was cached of the large leaf goes
 * nevertheless. */
static void test_split_alone(void **state)
{
    struct t_paging *m = break_machine(false, true);
    uint64_t at = T_KERNEL_LOW + 5 * P2M; /* not where a larger leaf begins */

    (void)state;
    assert_int_equal(t_map(&m->kernel, at, 3 * P1G, P2M, MM_PROT_RW | MM_PROT_GLOBAL), MM_OK);
    all_access(m, &m->kernel, at, 0);
    assert_int_equal(set_type(&m->kernel, at + 9 * P4K, P4K, MM_MEMTYPE_WB, MM_PAGING_SPLIT),
                     MM_OK);
    all_access(m, &m->kernel, at + 9 * P4K, 0);
    one_size(m, &m->kernel, at, P2M);
    assert_int_equal(t_unmap(&m->kernel, at, P2M, 0), MM_OK);
    t_paging_delete(m);
}

/* More pages than are flushed one by one, global ones. */
static void test_many_global_pages(void **state)
{
    struct t_paging *m = break_machine(false, true);

    (void)state;
    assert_int_equal(mm_paging_map(&m->kernel, t_range(T_KERNEL_LOW, P2M), mm_paddr(3 * P1G),
                                   MM_PROT_RW | MM_PROT_GLOBAL, MM_MEMTYPE_WB, MM_PAGING_ONLY_4K),
                     MM_OK);
    for (unsigned i = 0; i < 512; i += 64) {
        all_access(m, &m->kernel, T_KERNEL_LOW + i * P4K, 0);
    }
    break_arm(&m->kernel, T_KERNEL_LOW, P2M);
    assert_int_equal(set_type(&m->kernel, T_KERNEL_LOW, P2M, MM_MEMTYPE_UC, 0), MM_OK);
    assert_int_equal(break_disarm(), 1);
    t_nothing_stale(m);
    assert_int_equal(t_unmap(&m->kernel, T_KERNEL_LOW, P2M, 0), MM_OK);
    t_paging_delete(m);
}

static void test_holes(void **state)
{
    struct t_paging *m = break_machine(false, true);
    static struct flat flat;
    uint64_t hash;

    (void)state;
    all_enter(m, &m->user);
    for (unsigned i = 0; i < 600; i += 3) {
        assert_int_equal(t_map(&m->user, P1G + i * P4K, 3 * P1G + i * P4K, P4K, T_URW), MM_OK);
    }
    hash = t_state(m, NULL);
    assert_int_equal(set_type(&m->user, P1G, 600 * P4K, MM_MEMTYPE_WC, 0), MM_ERR_NOT_MAPPED);
    assert_int_equal(set_type(&m->user, P1G + P4K, P4K, MM_MEMTYPE_WC, 0), MM_ERR_NOT_MAPPED);
    assert_true(hash == t_state(m, NULL));
    all_access(m, &m->user, P1G, 0);
    flat_take(&m->user, P1G, 600, &flat);
    for (unsigned i = 0; i < 600; i += 3) {
        flat.page[i].type = MM_MEMTYPE_WC;
    }
    break_arm(&m->user, P1G, 598 * P4K);
    assert_int_equal(set_type(&m->user, P1G, 600 * P4K, MM_MEMTYPE_WC, MM_PAGING_SKIP_HOLES),
                     MM_OK);
    assert_int_equal(break_disarm(), 1);
    flat_same(&m->user, &flat, NULL);
    t_nothing_stale(m);
    assert_int_equal(set_type(&m->user, 0, UINT64_C(1) << 47, MM_MEMTYPE_WB, MM_PAGING_SKIP_HOLES),
                     MM_OK);
    assert_int_equal(t_leaf(&m->user, P1G).type, MM_MEMTYPE_WB);
    assert_int_equal(t_unmap(&m->user, P1G, P1G, MM_PAGING_SKIP_HOLES), MM_OK);
    t_paging_delete(m);
}

/* --- while CPUs look on ------------------------------------------------------------------------ */

static void write_through_a_clean_entry(struct breaking *b)
{
    b->answer =
        t_cpu_access(&b->m->cpus.cpu[2], b->about, T_MMU_WRITE | (b->user ? T_MMU_USER : 0), NULL);
}

/* A CPU that has the page cached as clean, and writes before the flush, must walk and finds it not
 * present: no dirty bit gets lost. One that wrote before is remembered. */
static void test_a_write_before_the_flush(void **state)
{
    (void)state;
    for (unsigned size = 0; size < 3; size++) {
        struct t_paging *m = break_machine(false, true);

        all_enter(m, &m->user);
        assert_int_equal(t_map(&m->user, P1G, 3 * P1G, sizes[size], T_URW), MM_OK);
        all_access(m, &m->user, P1G, 0);
        now_breaking.before = write_through_a_clean_entry;
        now_breaking.about = P1G;
        break_arm(&m->user, P1G, sizes[size]);
        assert_int_equal(set_type(&m->user, P1G, sizes[size], MM_MEMTYPE_WC, 0), MM_OK);
        assert_int_equal(break_disarm(), 1);
        assert_int_equal(now_breaking.answer & (T_CPU_DONE | T_MMU_ERR_P), 0);
        assert_true(t_leaf(&m->user, P1G).accessed && !t_leaf(&m->user, P1G).dirty);
        all_access(m, &m->user, P1G, T_MMU_WRITE);
        assert_int_equal(set_type(&m->user, P1G, sizes[size], MM_MEMTYPE_WB, 0), MM_OK);
        assert_true(t_leaf(&m->user, P1G).dirty);
        assert_int_equal(t_unmap(&m->user, P1G, sizes[size], 0), MM_OK);
        t_paging_delete(m);
    }
}

/* What is not present names no memory (L1TF), at the moment when it is not: neither to a CPU that
 * looks at all bits of the address, nor to one that looks at 44 of them. */
static void names_no_memory(struct breaking *b)
{
    for (uint64_t frame = 0; frame < b->m->highest; frame++) {
        for (unsigned i = 0; i < 512 && b->m->used[frame]; i++) {
            uint64_t slot = t_table(b->m, frame)[i];

            if (slot != 0 && (slot & 1) == 0) {
                assert_int_equal(slot >> 44 & 0xff, 0xff);
                assert_true((slot >> 12 << 32) >= UINT64_C(1) << 62);
            }
        }
    }
}

static void test_broken_slots_name_no_memory(void **state)
{
    struct t_paging *m = break_machine(false, true);
    uint64_t nr;

    (void)state;
    assert_int_equal(t_map(&m->kernel, T_KERNEL_LOW, P1G, P2M, MM_PROT_RW), MM_OK);
    assert_int_equal(t_map(&m->kernel, T_KERNEL_LOW + P2M, P4K, P2M, MM_PROT_RW), MM_OK);
    now_breaking.before = names_no_memory;
    break_arm(&m->kernel, T_KERNEL_LOW, 2 * P2M);
    assert_int_equal(set_type(&m->kernel, T_KERNEL_LOW, 2 * P2M, MM_MEMTYPE_UC, 0), MM_OK);
    assert_int_equal(break_disarm(), 1);
    assert_int_equal(now_breaking.nr_before, 1);
    assert_int_equal(t_protect(&m->kernel, T_KERNEL_LOW, P4K, MM_PROT_READ, MM_PAGING_SPLIT),
                     MM_OK);
    assert_int_equal(t_protect(&m->kernel, T_KERNEL_LOW, P4K, MM_PROT_RW, 0), MM_OK);
    now_breaking.before = names_no_memory;
    break_arm(&m->kernel, T_KERNEL_LOW, P2M);
    assert_int_equal(mm_paging_merge(&m->kernel, t_range(T_KERNEL_LOW, P2M), &nr), MM_OK);
    assert_int_equal(nr, 1);
    assert_int_equal(break_disarm(), 1);
    assert_int_equal(now_breaking.nr_before, 1);
    assert_int_equal(t_unmap(&m->kernel, T_KERNEL_LOW, 2 * P2M, 0), MM_OK);
    t_paging_delete(m);
}

/* --- what fails -------------------------------------------------------------------------------- */

static void test_bad_input(void **state)
{
    struct t_paging *m = break_machine(false, true);
    struct mm_pagetable none = {0};
    static const struct {
        uint64_t at, len;
        uint32_t type, flags;
        mm_status_t status;
    } cases[] = {
        {P1G, P4K, MM_MEMTYPE_COUNT, 0, MM_ERR_INVALID_ARGUMENT},
        {P1G, P4K, UINT32_MAX, 0, MM_ERR_INVALID_ARGUMENT},
        {P1G, P4K, MM_MEMTYPE_UC, MM_PAGING_RELEASE, MM_ERR_INVALID_FLAGS},
        {P1G, P4K, MM_MEMTYPE_UC, MM_PAGING_ONLY_4K, MM_ERR_INVALID_FLAGS},
        {P1G, P4K, MM_MEMTYPE_UC, MM_PAGING_MERGE, MM_ERR_INVALID_FLAGS},
        {P1G, P4K, MM_MEMTYPE_UC, UINT32_MAX, MM_ERR_INVALID_FLAGS},
        {P1G + 1, P4K, MM_MEMTYPE_UC, 0, MM_ERR_NOT_ALIGNED},
        {P1G, P4K - 1, MM_MEMTYPE_UC, 0, MM_ERR_NOT_ALIGNED},
        {P1G, 0, MM_MEMTYPE_UC, 0, MM_ERR_INVALID_SIZE},
        {0 - P4K, 2 * P4K, MM_MEMTYPE_UC, 0, MM_ERR_INVALID_SIZE},
        {T_KERNEL_LOW, P4K, MM_MEMTYPE_UC, 0, MM_ERR_INVALID_ADDRESS},
        {UINT64_C(1) << 47, P4K, MM_MEMTYPE_UC, 0, MM_ERR_INVALID_ADDRESS},
        {UINT64_C(1) << 56, P4K, MM_MEMTYPE_UC, 0, MM_ERR_INVALID_ADDRESS},
        {P1G, P4K, MM_MEMTYPE_UC, 0, MM_ERR_HUGE_PAGE},
        {P1G, P4K, MM_MEMTYPE_WB, 0, MM_ERR_HUGE_PAGE},
        {P1G, P2M + P4K, MM_MEMTYPE_UC, MM_PAGING_SPLIT, MM_ERR_NOT_MAPPED},
        {P1G - P4K, P2M, MM_MEMTYPE_UC, MM_PAGING_SPLIT, MM_ERR_NOT_MAPPED},
    };
    uint64_t hash;

    (void)state;
    all_enter(m, &m->user);
    assert_int_equal(t_map(&m->user, P1G, 3 * P1G, P2M, T_URW), MM_OK);
    hash = t_state(m, NULL);
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(set_type(&m->user, cases[i].at, cases[i].len, (mm_memtype_t)cases[i].type,
                                  cases[i].flags),
                         cases[i].status);
        assert_true(hash == t_state(m, NULL));
    }
    assert_int_equal(mm_paging_set_type(NULL, t_range(P1G, P2M), MM_MEMTYPE_UC, 0),
                     MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_paging_set_type(&none, t_range(P1G, P2M), MM_MEMTYPE_UC, 0),
                     MM_ERR_NOT_INITIALIZED);
    m->arch.enabled.pat = false;
    hash = t_state(m, NULL);
    assert_int_equal(set_type(&m->user, P1G, P2M, MM_MEMTYPE_WC, 0), MM_ERR_UNSUPPORTED);
    assert_int_equal(set_type(&m->user, P1G, P2M, MM_MEMTYPE_WP, 0), MM_ERR_UNSUPPORTED);
    assert_true(hash == t_state(m, NULL));
    assert_int_equal(set_type(&m->user, P1G, P2M, MM_MEMTYPE_UC, 0), MM_OK);
    assert_int_equal(t_unmap(&m->user, P1G, P2M, 0), MM_OK);
    t_paging_delete(m);
}

/* Without memory for a split, at each point: nothing has changed. */
static void test_injection(void **state)
{
    struct t_paging *m = break_machine(false, true);
    uint64_t cut = P1G + 7 * P4K;
    uint64_t hash;
    unsigned n = 1;
    mm_status_t status;

    (void)state;
    all_enter(m, &m->user);
    assert_int_equal(t_map(&m->user, P1G, 3 * P1G, 2 * P1G, T_URW), MM_OK);
    all_access(m, &m->user, cut, 0);
    hash = t_state(m, NULL);
    for (;; n++) {
        t_inject_nth(&m->inject, n);
        status = set_type(&m->user, cut, P1G, MM_MEMTYPE_UC, MM_PAGING_SPLIT);
        t_inject_never(&m->inject);
        if (status == MM_OK) {
            break;
        }
        assert_int_equal(status, MM_ERR_NO_MEMORY);
        assert_true(hash == t_state(m, NULL));
        t_nothing_stale(m);
    }
    assert_int_equal(n, 5); /* two tables at each end */
    assert_int_equal(t_leaf(&m->user, cut).type, MM_MEMTYPE_UC);
    one_size(m, &m->user, P1G, 2 * P1G);
    assert_int_equal(t_unmap(&m->user, P1G, 2 * P1G, 0), MM_OK);
    t_paging_delete(m);
}

/* --- two splits in one call --------------------------------------------------------------------- */

static struct {
    struct t_paging *m;
    uint64_t at;
    unsigned nr_splits;
} now_splitting;

/* Each CPU forgets what it had, and finds what is there between one split and the next. */
static void look_between_splits(void *ctx, const struct mm_event *event)
{
    struct t_paging *m = now_splitting.m;

    (void)ctx;
    if (event->kind == MM_EVENT_LEAF_SPLIT) {
        now_splitting.nr_splits++;
        for (unsigned i = 0; i < m->cpus.nr; i++) {
            t_cpu_drop_all(&m->cpus.cpu[i]);
            assert_int_equal(t_cpu_access(&m->cpus.cpu[i], now_splitting.at, 0, NULL), T_CPU_DONE);
        }
    }
}

/* A page, and a range that spans two leaves, are cut out of 1 GiB that has the type already; and out
 * of that and a neighbour that has another. No address is left with two sizes. */
static void test_found_between_two_splits(void **state)
{
    static const struct mm_platform_ops ops = {.panic = t_platform_panic,
                                               .event = look_between_splits};
    static const uint64_t lengths[] = {P4K, P2M + P4K, 2 * P1G - 5 * P2M - 7 * P4K};
    uint64_t cut = T_KERNEL_LOW + 5 * P2M + 7 * P4K;

    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        struct t_paging *m = t_paging_new_cpus(NR_CPUS);
        struct mm_paging_config config;

        t_paging_arch(m);
        config = t_config(m);
        config.platform.ops = &ops;
        assert_int_equal(mm_paging_init_kernel(&m->kernel, &config), MM_OK);
        for (m->cpus.now = m->cpus.nr; m->cpus.now-- > 0;) {
            assert_int_equal(mm_paging_activate(&m->kernel), MM_OK);
        }
        m->cpus.now = 0;
        assert_int_equal(t_map(&m->kernel, T_KERNEL_LOW, 2 * P1G, P1G, MM_PROT_RW), MM_OK);
        assert_int_equal(mm_paging_map(&m->kernel, t_range(T_KERNEL_LOW + P1G, P1G),
                                       mm_paddr(3 * P1G), MM_PROT_RW, MM_MEMTYPE_UC, 0),
                         MM_OK);
        now_splitting.m = m;
        now_splitting.at = T_KERNEL_LOW + 5 * P2M + 9 * P4K;
        now_splitting.nr_splits = 0;
        assert_int_equal(set_type(&m->kernel, cut, lengths[i], MM_MEMTYPE_WB, MM_PAGING_SPLIT),
                         MM_OK);
        assert_true(now_splitting.nr_splits >= 2);
        t_nothing_stale(m);
        assert_null(t_cpus_sweep(&m->cpus, T_SWEEP_SAME));
        t_paging_delete(m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_type),
        cmocka_unit_test(test_rights_stay),
        cmocka_unit_test(test_every_bit_of_the_frame),
        cmocka_unit_test(test_forbidden_pages),
        cmocka_unit_test(test_encryption_mask),
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_split_alone),
        cmocka_unit_test(test_many_global_pages),
        cmocka_unit_test(test_holes),
        cmocka_unit_test(test_a_write_before_the_flush),
        cmocka_unit_test(test_found_between_two_splits),
        cmocka_unit_test(test_broken_slots_name_no_memory),
        cmocka_unit_test(test_bad_input),
        cmocka_unit_test(test_injection),
    };

    return cmocka_run_group_tests_name("paging type", tests, NULL, NULL);
}
