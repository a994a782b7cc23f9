// SPDX-License-Identifier: MIT
/**
 * Where two calls meet whose rules held for each alone: gathers that overlap, pairs of roots and
 * global leaves, a cursor over what is another's. Hazards 13, 14, 16, 17, 20.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "t_tlb.h"
#include "trap_mm.h"

#include <mm/paging_audit.h>

#define LEAF  (T_LEAVES * P4K)
#define KPAGE T_KERNEL_LOW
#define MANY  64u /* pages: more than are flushed one by one */
#define RWG   (MM_PROT_RW | MM_PROT_GLOBAL)

static struct t_tlb *new_tlb(void)
{
    struct t_tlb *t = calloc(1, sizeof(*t));

    assert_non_null(t);
    t->m = t_paging_new_cpus(2);
    t_tlb_start(t, 0);
    return t;
}

static struct t_paging *new_machine(uint32_t flags)
{
    struct t_paging *m = t_paging_new();
    struct mm_paging_config config;

    t_paging_arch(m);
    config = t_config(m);
    config.flags = flags;
    assert_int_equal(mm_paging_init_kernel(&m->kernel, &config), MM_OK);
    return m;
}

/* --- global leaves and gathers that are still open --------------------------------------------- */

/* The first takes MM_PROT_GLOBAL away, the second gives the frames back before the first has ended:
 * the source looks whether a CPU still holds them. */
static void overlap(struct t_paging *m)
{
    struct mm_gather first;
    struct mm_gather second;

    assert_int_equal(t_map(&m->kernel, KPAGE, LEAF, MANY * P4K, RWG), MM_OK);
    assert_int_equal(t_cpu_access(m->cpu, KPAGE, T_MMU_WRITE, NULL), T_CPU_DONE);
    assert_int_equal(mm_gather_begin(&first, &m->kernel), MM_OK);
    assert_int_equal(
        mm_paging_protect(&m->kernel, t_range(KPAGE, MANY * P4K), MM_PROT_RW, 0, &first), MM_OK);
    m->cpus.now = m->cpus.nr - 1;
    assert_int_equal(mm_gather_begin(&second, &m->kernel), MM_OK);
    assert_int_equal(
        mm_paging_unmap(&m->kernel, t_range(KPAGE, MANY * P4K), MM_PAGING_RELEASE, &second), MM_OK);
    mm_gather_end(&second);
    assert_int_equal(m->nr_released, MANY);
    t_nothing_stale(m);
    m->cpus.now = 0;
    mm_gather_end(&first);
    t_nothing_stale(m);
}

static void test_overlap(void **state)
{
    struct t_tlb *t = new_tlb();
    struct t_paging *m = t_paging_new();

    (void)state;
    overlap(t->m);
    t_tlb_delete(t);
    free(t);
    t_paging_start(m);
    overlap(m);
    t_paging_delete(m);
}

/* Merging and set_type break before they make: pages that were global a call ago are gone too. */
static void test_not_global_any_more(void **state)
{
    struct t_paging *m = t_paging_new();
    struct mm_gather gather;

    (void)state;
    t_paging_start(m);
    assert_int_equal(mm_paging_map(&m->kernel, t_range(KPAGE, P2M), mm_paddr(LEAF), RWG,
                                   MM_MEMTYPE_WB, MM_PAGING_ONLY_4K),
                     MM_OK);
    assert_int_equal(t_cpu_access(m->cpu, KPAGE + P4K, T_MMU_WRITE, NULL), T_CPU_DONE);
    assert_int_equal(mm_gather_begin(&gather, &m->kernel), MM_OK);
    assert_int_equal(
        mm_paging_protect(&m->kernel, t_range(KPAGE, P2M), MM_PROT_RW, MM_PAGING_MERGE, &gather),
        MM_OK);
    assert_int_equal(t_leaf(&m->kernel, KPAGE).page.len, P2M);
    t_nothing_stale(m); /* never two sizes */
    mm_gather_end(&gather);
    assert_int_equal(t_unmap(&m->kernel, KPAGE, P2M, 0), MM_OK);

    assert_int_equal(t_map(&m->kernel, KPAGE, LEAF, MANY * P4K, RWG), MM_OK);
    assert_int_equal(t_cpu_access(m->cpu, KPAGE, T_MMU_WRITE, NULL), T_CPU_DONE);
    assert_int_equal(mm_gather_begin(&gather, &m->kernel), MM_OK);
    assert_int_equal(
        mm_paging_protect(&m->kernel, t_range(KPAGE, MANY * P4K), MM_PROT_RW, 0, &gather), MM_OK);
    assert_int_equal(mm_paging_set_type(&m->kernel, t_range(KPAGE, MANY * P4K), MM_MEMTYPE_UC, 0),
                     MM_OK);
    t_nothing_stale(m); /* never two types */
    mm_gather_end(&gather);
    t_paging_delete(m);
}

/* --- pairs ------------------------------------------------------------------------------------- */

static uint64_t *slot_of(const struct t_paging *m, uint64_t root, uint64_t at)
{
    uint64_t table = root;

    for (unsigned shift = 39; shift > 12; shift -= 9) {
        table = t_table(m, table / P4K)[(at >> shift) & 511] & ~(P4K - 1) & ~T_MMU_NX;
    }
    return &t_table(m, table / P4K)[(at >> 12) & 511];
}

static void test_pairs_are_not_global(void **state)
{
    struct t_paging *m = new_machine(MM_PAGING_PAIRS);
    struct mm_slot now = mm_slot_leaf(mm_paddr(LEAF), RWG, MM_MEMTYPE_WB);
    struct mm_slot seen = mm_slot_empty();
    struct mm_paging_cursor c;
    struct mm_gather gather;

    (void)state;
    assert_int_equal(mm_gather_begin(&gather, &m->kernel), MM_OK);
    assert_int_equal(mm_paging_cursor_begin(&c, &m->kernel, t_range(KPAGE, P2M)), MM_OK);
    assert_int_equal(mm_paging_cursor_map(&c, mm_paddr(LEAF), P4K, RWG, MM_MEMTYPE_WB), MM_OK);
    assert_int_equal(mm_paging_cursor_map(&c, mm_paddr(LEAF), P4K, MM_PROT_RW, MM_MEMTYPE_WB),
                     MM_OK);
    assert_int_equal(mm_paging_cursor_seek(&c, mm_vaddr(KPAGE + P4K)), MM_OK);
    assert_int_equal(mm_paging_cursor_protect(&c, MM_PROT_READ | MM_PROT_GLOBAL, &gather), MM_OK);
    assert_int_equal(
        mm_paging_slot_cas(&m->kernel, mm_vaddr(KPAGE + 2 * P4K), P4K, &seen, &now, &gather),
        MM_OK);
    mm_gather_end(&gather);
    for (unsigned i = 0; i < 3; i++) {
        uint64_t *slot = slot_of(m, m->kernel.root.raw, KPAGE + i * P4K);

        assert_int_equal(t_leaf(&m->kernel, KPAGE + i * P4K).prot,
                         i == 1 ? MM_PROT_READ : MM_PROT_RW);
        assert_int_equal(*slot & T_MMU_G, 0);
        assert_int_equal(mm_paging_check(&m->kernel), MM_OK);
        *slot |= T_MMU_G;
        assert_int_equal(mm_paging_check(&m->kernel), MM_ERR_CORRUPTED);
        *slot &= ~T_MMU_G;
    }
    t_paging_delete(m);
}

static void test_pairs_are_not_adopted(void **state)
{
    static const struct mm_pagetable zero;
    struct t_paging *m = new_machine(0);
    struct mm_paging_config config = t_config(m);
    struct mm_pagetable pt = {0};

    (void)state;
    config.flags = MM_PAGING_PAIRS;
    assert_int_equal(mm_paging_adopt(&pt, &config, m->kernel.root), MM_ERR_INVALID_FLAGS);
    assert_memory_equal(&pt, &zero, sizeof(zero));
    t_paging_delete(m);
}

/* --- a gather and its page table --------------------------------------------------------------- */

static void test_gather_of_the_destroyed(void **state)
{
    struct t_paging *m = new_machine(0);
    struct mm_gather gather;
    struct t_trap_info info;

    (void)state;
    for (unsigned what = 0; what < 2; what++) {
        assert_int_equal(mm_paging_init_user(&m->user, &m->kernel), MM_OK);
        assert_int_equal(t_map(&m->user, P1G, LEAF, P4K, T_URW), MM_OK);
        assert_int_equal(mm_gather_begin(&gather, &m->user), MM_OK);
        if (what == 0) {
            mm_gather_add_range(&gather, t_range(P1G, P4K));
        } else {
            mm_gather_add_frames(&gather, mm_pfn(T_LEAVES), 1);
        }
        assert_int_equal(mm_paging_destroy(&m->user), MM_OK);
        T_EXPECT_PANIC(mm_gather_end(&gather), &info);
        assert_string_equal(info.room, "paging");
        assert_string_equal(info.what, "a gather of a page table that was destroyed is not empty");
        assert_int_equal(info.address, (uintptr_t)&m->user);
    }
    assert_int_equal(mm_paging_init_user(&m->user, &m->kernel), MM_OK);
    assert_int_equal(mm_gather_begin(&gather, &m->user), MM_OK);
    assert_int_equal(mm_paging_destroy(&m->user), MM_OK);
    mm_gather_end(&gather); /* it holds nothing */
    t_paging_delete(m);
}

/* --- the entry root ---------------------------------------------------------------------------- */

#define ENTRY T_KERNEL_TOP

struct entry_rig {
    struct t_tlb t;
    struct mm_pagetable entry;
};

static struct entry_rig *new_entry(void)
{
    struct entry_rig *r = calloc(1, sizeof(*r));
    struct mm_vrange range = {{ENTRY}, P2M};
    struct mm_paging_config paging;
    struct mm_tlb_config config;
    struct t_paging *m;

    assert_non_null(r);
    r->t.m = m = t_paging_new_cpus(2);
    m->cpus.has.pcid = false;
    t_tlb_cpus(&r->t);
    config = t_tlb_config(&r->t);
    assert_int_equal(mm_tlb_init(&r->t.tlb, &config), MM_OK);
    paging = t_config(m);
    paging.tlb = &r->t.tlb;
    paging.platform = t_tlb_platform(&r->t);
    paging.flags = MM_PAGING_PAIRS;
    assert_int_equal(mm_paging_init_kernel(&m->kernel, &paging), MM_OK);
    assert_int_equal(mm_paging_init_entry(&r->entry, &m->kernel, &range, 1), MM_OK);
    assert_int_equal(mm_paging_init_user(&m->user, &m->kernel), MM_OK);
    for (m->cpus.now = 2; m->cpus.now-- > 0;) {
        assert_int_equal(mm_tlb_online(&r->t.tlb), MM_OK);
        assert_int_equal(mm_paging_activate(&m->user), MM_OK);
    }
    m->cpus.now = 0;
    return r;
}

static void delete_entry(struct entry_rig *r)
{
    struct t_paging *m = r->t.m;

    for (m->cpus.now = 2; m->cpus.now-- > 0;) {
        assert_int_equal(mm_paging_leave(&m->kernel), MM_OK);
        assert_int_equal(mm_paging_load_root(mm_x86_64_backend(&m->arch), mm_paddr(T_TABLES * P4K)),
                         MM_OK);
        assert_int_equal(mm_tlb_offline(&r->t.tlb), MM_OK);
    }
    m->cpus.now = 0;
    assert_int_equal(mm_paging_destroy(&m->user), MM_OK);
    assert_int_equal(mm_paging_destroy(&r->entry), MM_OK);
    assert_int_equal(mm_paging_destroy(&m->kernel), MM_OK);
    assert_int_equal(mm_tlb_destroy(&r->t.tlb), MM_OK);
    t_paging_delete(m);
    free(r);
}

static void test_entry_root_is_not_loaded(void **state)
{
    struct entry_rig *r = new_entry();
    struct t_paging *m = r->t.m;
    struct mm_paging_backend backend = mm_x86_64_backend(&m->arch);
    uint64_t root = mm_paging_root(&m->user).raw;
    const struct mm_pagetable *roots[] = {&r->entry};
    struct mm_paging_audit audit = {.roots = roots, .nr_roots = 1};
    struct mm_cpu_mask cpus;
    uint64_t size;

    (void)state;
    assert_int_equal(mm_paging_audit_memory_size(&audit, &size), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_paging_activate(&r->entry), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_paging_leave(&r->entry), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_paging_load_root(backend, mm_paddr(UINT64_C(1) << 52)),
                     MM_ERR_INVALID_ADDRESS);
    assert_int_equal(
        mm_paging_load_root(backend, mm_paddr(UINT64_C(1) << m->arch.features.paddr_bits)),
        MM_ERR_INVALID_ADDRESS);
    assert_int_equal(mm_paging_current_root(backend).raw, root);
    assert_int_equal(mm_tlb_cpus(&m->user, &cpus), MM_OK);
    assert_int_equal(cpus.bits[0], 3);
    delete_entry(r);
}

/* What user mode's way in left in the CPUs is global: another root does not drop it. */
static void test_merge_on_the_entry_root(void **state)
{
    struct entry_rig *r = new_entry();
    struct t_paging *m = r->t.m;
    uint64_t nr = 0;

    (void)state;
    assert_int_equal(mm_paging_map(&r->entry, t_range(ENTRY, P2M), mm_paddr(LEAF), RWG,
                                   MM_MEMTYPE_WB, MM_PAGING_ONLY_4K),
                     MM_OK);
    for (unsigned i = 0; i < 2; i++) {
        struct t_cpu *cpu = &m->cpus.cpu[i];

        t_cpu_write_cr(cpu, 3, mm_paging_user_root(&m->user).raw);
        assert_int_equal(t_cpu_access(cpu, ENTRY + P4K, T_MMU_WRITE, NULL), T_CPU_DONE);
        t_cpu_write_cr(cpu, 3, mm_paging_root(&m->user).raw);
        assert_int_equal(cpu->tlb_nr[0], 1);
    }
    r->t.nr_sent = 0;
    assert_int_equal(mm_paging_merge(&r->entry, t_range(ENTRY, P2M), &nr), MM_OK);
    assert_int_equal(nr, 1);
    assert_int_equal(r->t.nr_sent, 1);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(m->cpus.cpu[i].tlb_nr[0], 0);
    }
    delete_entry(r);
}

/* --- cursors ----------------------------------------------------------------------------------- */

/* The kernel's tables go without a word to a user root. */
static void test_cursor_over_the_kernels(void **state)
{
    struct t_paging *m = t_paging_new();
    struct mm_paging_cursor c;
    struct mm_mapping leaf;

    (void)state;
    t_paging_start(m);
    assert_int_equal(t_map(&m->kernel, KPAGE, LEAF, P4K, MM_PROT_RW), MM_OK);
    assert_int_equal(mm_paging_cursor_begin(&c, &m->user, t_range(KPAGE, P2M)), MM_OK);
    assert_int_equal(mm_paging_cursor_translate(&c, mm_vaddr(KPAGE), &leaf), MM_OK);
    assert_int_equal(leaf.paddr.raw, LEAF);
    assert_int_equal(t_unmap(&m->kernel, KPAGE, P4K, 0), MM_OK);
    /* The freed table is some other's now. */
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(t_map(&m->user, (i + 1) * P1G, LEAF + (7 + i) * P4K, P4K, T_URW), MM_OK);
    }
    for (unsigned i = 0; i < 512; i++) {
        assert_int_equal(mm_paging_cursor_translate(&c, mm_vaddr(KPAGE + i * P4K), &leaf),
                         MM_ERR_NOT_MAPPED);
    }
    t_paging_delete(m);
}

/* Sections that fail are undone, and with them goes a table that was there before, empty. */
static void test_cursor_over_what_is_undone(void **state)
{
    struct t_paging *m = t_paging_new();
    struct mm_slot seen = mm_slot_empty();
    struct mm_slot now = mm_slot_leaf(mm_paddr(LEAF), MM_PROT_RW, MM_MEMTYPE_WB);
    struct mm_boot_section sections[2];
    struct mm_paging_cursor c;
    struct mm_gather gather;
    struct mm_mapping leaf;

    (void)state;
    t_paging_start(m);
    memset(sections, 0, sizeof(sections));
    assert_int_equal(mm_gather_begin(&gather, &m->kernel), MM_OK);
    assert_int_equal(mm_paging_slot_cas(&m->kernel, mm_vaddr(KPAGE), P4K, &seen, &now, &gather),
                     MM_OK);
    assert_int_equal(mm_paging_slot_get(&m->kernel, mm_vaddr(KPAGE), &seen), MM_OK);
    assert_int_equal(mm_paging_cursor_begin(&c, &m->kernel, t_range(KPAGE, P2M)), MM_OK);
    assert_int_equal(mm_paging_cursor_translate(&c, mm_vaddr(KPAGE), &leaf), MM_OK);
    now = mm_slot_empty();
    assert_int_equal(mm_paging_slot_cas(&m->kernel, mm_vaddr(KPAGE), P4K, &seen, &now, &gather),
                     MM_OK);
    mm_gather_end(&gather);
    assert_int_equal(t_map(&m->kernel, KPAGE + P1G, LEAF, P4K, MM_PROT_RW), MM_OK);
    sections[0].range = t_range(KPAGE, P4K);
    sections[0].paddr = mm_paddr(LEAF);
    sections[0].prot = MM_PROT_RX;
    sections[1].range = t_range(KPAGE + P1G, P4K); /* there is one */
    sections[1].paddr = mm_paddr(LEAF + P4K);
    sections[1].prot = MM_PROT_RW;
    assert_int_equal(mm_paging_map_sections(&m->kernel, sections, 2), MM_ERR_ALREADY_MAPPED);
    assert_int_equal(mm_paging_cursor_translate(&c, mm_vaddr(KPAGE + 5 * P4K), &leaf),
                     MM_ERR_NOT_MAPPED);
    assert_int_equal(mm_paging_cursor_seek(&c, mm_vaddr(KPAGE)), MM_OK);
    assert_int_equal(mm_paging_cursor_map(&c, mm_paddr(LEAF), P4K, MM_PROT_RW, MM_MEMTYPE_WB),
                     MM_OK);
    assert_int_equal(t_paddr(&m->kernel, KPAGE), LEAF);
    t_paging_delete(m);
}

/* --- a source that hands out frame 0 ----------------------------------------------------------- */

struct zero_source {
    struct t_paging *m;
    unsigned nr;   /* frames handed out */
    unsigned at;   /* the one that is frame 0 */
    unsigned held; /* frame 0 is out */
};

static mm_status_t zero_alloc(void *ctx, enum mm_frame_owner owner, bool zeroed, mm_pfn_t *out)
{
    struct zero_source *z = ctx;

    if (++z->nr != z->at) {
        return t_source_alloc(z->m, owner, zeroed, out);
    }
    z->held++;
    *out = mm_pfn(0);
    return MM_OK;
}

static void zero_free(void *ctx, mm_pfn_t frame)
{
    struct zero_source *z = ctx;

    if (frame.raw != 0) {
        t_source_free(z->m, frame);
        return;
    }
    assert_int_equal(z->held, 1);
    z->held--;
}

#define TAKES_NO_ZERO(z, call)                                                                     \
    do {                                                                                           \
        unsigned points_ = 0;                                                                      \
        for (z.at = 1;; z.at++) {                                                                  \
            uint64_t used_ = z.m->nr_used;                                                         \
            mm_status_t status_;                                                                   \
            z.nr = 0;                                                                              \
            status_ = (call);                                                                      \
            assert_int_equal(z.held, 0);                                                           \
            if (z.nr < z.at) {                                                                     \
                assert_int_equal(status_, MM_OK);                                                  \
                break;                                                                             \
            }                                                                                      \
            assert_int_equal(status_, MM_ERR_FAULT);                                               \
            assert_int_equal(z.m->nr_used, used_);                                                 \
            points_++;                                                                             \
        }                                                                                          \
        assert_true(points_ > 0);                                                                  \
        z.at = 0;                                                                                  \
    } while (0)

static void test_frame_0(void **state)
{
    static const struct mm_frame_source_ops ops = {.alloc = zero_alloc, .free = zero_free};
    struct t_paging *m = t_paging_new();
    struct zero_source z = {.m = m};
    struct mm_pagetable entry = {0};
    struct mm_vrange range = {{T_KERNEL_TOP}, P4K};
    struct mm_paging_config config;

    (void)state;
    t_paging_arch(m);
    config = t_config(m);
    config.source.ops = &ops;
    config.source.ctx = &z;
    config.flags = MM_PAGING_PAIRS;
    TAKES_NO_ZERO(z, mm_paging_init_kernel(&m->kernel, &config));
    TAKES_NO_ZERO(z, mm_paging_init_entry(&entry, &m->kernel, &range, 1));
    TAKES_NO_ZERO(z, mm_paging_init_user(&m->user, &m->kernel));
    TAKES_NO_ZERO(z, t_map(&m->user, P1G, LEAF, P4K, T_URW));
    assert_int_equal(mm_paging_destroy(&m->user), MM_OK);
    assert_int_equal(mm_paging_destroy(&entry), MM_OK);
    t_paging_delete(m);
}

/* An adopted root may hold a leaf that sticks out of what was declared: no edit takes it whole. */
static void test_leaf_that_sticks_out(void **state)
{
    const struct mm_vrange declared = {{T_KERNEL_LOW}, P4K};
    struct t_paging *m = t_paging_new();
    struct mm_paging_config config;
    struct mm_paging_cursor cursor;
    struct mm_gather gather;
    uint64_t table[3];

    (void)state;
    t_paging_arch(m);
    config = t_config(m);
    config.kernel_ranges = &declared;
    config.nr_kernel_ranges = 1;
    for (unsigned i = 0; i < 3; i++) {
        mm_pfn_t frame;

        assert_int_equal(t_source_alloc(m, MM_OWNER_KERNEL, true, &frame), MM_OK);
        table[i] = frame.raw;
    }
    t_table(m, table[0])[256] = table[1] * P4K | 3;
    t_table(m, table[1])[0] = table[2] * P4K | 3;
    t_table(m, table[2])[0] = T_LEAVES * P4K | 0x83;
    assert_int_equal(mm_paging_adopt(&m->kernel, &config, mm_paddr(table[0] * P4K)), MM_OK);
    assert_int_equal(mm_gather_begin(&gather, &m->kernel), MM_OK);
    assert_int_equal(mm_paging_cursor_begin(&cursor, &m->kernel, t_range(T_KERNEL_LOW, P2M)),
                     MM_OK);
    assert_int_equal(mm_paging_cursor_protect(&cursor, MM_PROT_READ, &gather),
                     MM_ERR_INVALID_ADDRESS);
    assert_int_equal(mm_paging_cursor_unmap(&cursor, 0, &gather), MM_ERR_INVALID_ADDRESS);
    assert_int_equal(t_table(m, table[2])[0], T_LEAVES * P4K | 0x83);
    mm_gather_end(&gather);
    assert_int_equal(mm_paging_destroy(&m->kernel), MM_OK);
    for (unsigned i = 0; i < 3; i++) {
        t_source_free(m, mm_pfn(table[i]));
    }
    t_paging_delete(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_leaf_that_sticks_out),
        cmocka_unit_test(test_gather_of_the_destroyed),
        cmocka_unit_test(test_overlap),
        cmocka_unit_test(test_not_global_any_more),
        cmocka_unit_test(test_pairs_are_not_global),
        cmocka_unit_test(test_pairs_are_not_adopted),
        cmocka_unit_test(test_entry_root_is_not_loaded),
        cmocka_unit_test(test_merge_on_the_entry_root),
        cmocka_unit_test(test_cursor_over_the_kernels),
        cmocka_unit_test(test_cursor_over_what_is_undone),
        cmocka_unit_test(test_frame_0),
    };

    return cmocka_run_group_tests_name("paging_mended", tests, NULL, NULL);
}
