// SPDX-License-Identifier: MIT
/**
 * Break before make, seen from the CPUs: a hook before the first instruction of a flush, when the
 * tables are broken and the caches still hold the old translations, and one after the flush, when
 * nothing may be left of them. Four CPUs; each flush is broadcast. Include after <cmocka.h>.
 */
#ifndef PAGING_BREAK_H
#define PAGING_BREAK_H

#include "t_paging.h"

#define NR_CPUS 4u

/* What to do at the next flush; of one machine at a time. */
struct breaking {
    struct t_paging *m;
    uint64_t first; /* what must be gone after it */
    uint64_t last;
    bool armed;
    bool user;
    void (*before)(struct breaking *b);
    uint64_t about; /* for `before` */
    uint32_t answer;
    unsigned nr_before;
    unsigned nr_flushes;
};

static struct breaking now_breaking;

static inline void break_before(void)
{
    struct breaking *b = &now_breaking;

    if (b->armed && b->before != NULL && b->nr_before == b->nr_flushes) {
        b->nr_before++;
        b->before(b);
    }
}

static inline void break_write_cr(void *ctx, unsigned cr, uint64_t value)
{
    break_before();
    t_cpu_broadcast_ops.write_cr(ctx, cr, value);
}

static inline void break_invlpg(void *ctx, uint64_t at)
{
    break_before();
    t_cpu_broadcast_ops.invlpg(ctx, at);
}

static inline void break_invpcid(void *ctx, uint64_t type, uint64_t pcid, uint64_t at)
{
    break_before();
    t_cpu_broadcast_ops.invpcid(ctx, type, pcid, at);
}

/* After the flush no CPU has a translation in the range, and none gets one. */
static inline void break_after(void *ctx, const struct mm_event *event)
{
    struct breaking *b = &now_breaking;

    (void)ctx;
    if (!b->armed || event->kind != MM_EVENT_TLB_FLUSH) {
        return;
    }
    b->nr_flushes++;
    for (unsigned c = 0; c < b->m->cpus.nr; c++) {
        struct t_cpu *cpu = &b->m->cpus.cpu[c];

        for (unsigned i = 0; i < T_TLB_ENTRIES; i++) {
            if (((cpu->tlb_used >> i) & 1) != 0 && cpu->tlb[i].start <= b->last &&
                cpu->tlb[i].start + (cpu->tlb[i].size - 1) >= b->first) {
                fail_msg("CPU %u has a translation of %#llx between break and make", c,
                         (unsigned long long)cpu->tlb[i].start);
            }
        }
        assert_int_equal(t_cpu_access(cpu, b->first, b->user ? T_MMU_USER : 0, NULL) & T_MMU_ERR_P,
                         0);
        assert_int_equal(t_cpu_access(cpu, b->last, b->user ? T_MMU_USER : 0, NULL) & T_MMU_ERR_P,
                         0);
    }
}

static inline void break_panic(void *ctx, const struct mm_panic_info *panic)
{
    t_platform_panic(ctx, panic);
}

/** Put the hooks into a machine that is up. */
static inline void break_hooks(struct t_paging *m)
{
    static const struct mm_platform_ops platform = {.panic = break_panic, .event = break_after};
    static struct mm_x86_64_cpu_ops ops;

    ops = t_cpu_broadcast_ops;
    ops.write_cr = break_write_cr;
    ops.invlpg = break_invlpg;
    ops.invpcid = break_invpcid;
    m->arch.ops = &ops;
    m->kernel.platform.ops = &platform;
    m->user.platform.ops = &platform;
    memset(&now_breaking, 0, sizeof(now_breaking));
    now_breaking.m = m;
}

/** The next call breaks `range` and nothing else. */
static inline void break_arm(const struct mm_pagetable *pt, uint64_t at, uint64_t len)
{
    now_breaking.first = at;
    now_breaking.last = at + (len - 1);
    now_breaking.user = pt->is_user != 0;
    now_breaking.nr_before = 0;
    now_breaking.nr_flushes = 0;
    now_breaking.armed = true;
}

/** @return how many flushes there were */
static inline unsigned break_disarm(void)
{
    now_breaking.armed = false;
    now_breaking.before = NULL;
    return now_breaking.nr_flushes;
}

static inline void all_enter(struct t_paging *m, struct mm_pagetable *pt)
{
    for (m->cpus.now = m->cpus.nr; m->cpus.now-- > 0;) {
        assert_int_equal(mm_paging_activate(pt), MM_OK);
    }
    m->cpus.now = 0;
}

static inline void all_access(struct t_paging *m, const struct mm_pagetable *pt, uint64_t at,
                              unsigned access)
{
    for (unsigned i = 0; i < m->cpus.nr; i++) {
        assert_int_equal(
            t_cpu_access(&m->cpus.cpu[i], at, access | (pt->is_user != 0 ? T_MMU_USER : 0), NULL),
            T_CPU_DONE);
    }
}

/** A machine: 57 bits or 48, with 1 GiB leaves or without. */
static inline struct t_paging *break_machine(bool la57, bool page_1g)
{
    struct t_paging *m = t_paging_new_cpus(NR_CPUS);
    struct t_cpu_features has = t_cpu_full;

    has.page_1g = page_1g;
    t_paging_cpus(m, NR_CPUS, &has);
    for (unsigned i = 0; i < NR_CPUS && la57; i++) {
        m->cpus.cpu[i].mmu.cr4 |= T_MMU_CR4_LA57;
    }
    t_paging_start(m);
    break_hooks(m);
    return m;
}

/* --- what is mapped, page by page -------------------------------------------------------------- */

#define FLAT_PAGES 1536u

struct flat {
    uint64_t at;
    uint64_t nr;
    struct mm_mapping page[FLAT_PAGES];
};

static inline void flat_take(const struct mm_pagetable *pt, uint64_t at, uint64_t nr,
                             struct flat *f)
{
    assert_true(nr <= FLAT_PAGES);
    memset(f, 0, sizeof(*f));
    f->at = at;
    f->nr = nr;
    for (uint64_t i = 0; i < nr; i++) {
        (void)!mm_paging_translate(pt, mm_vaddr(at + i * P4K), &f->page[i]);
        if (f->page[i].kind == MM_SLOT_LEAF) {
            f->page[i].paddr.raw += at + i * P4K - f->page[i].page.start.raw;
        }
    }
}

/** The same frames, protections and types as then; `type` NULL: the same types. */
static inline void flat_same(const struct mm_pagetable *pt, const struct flat *f,
                             const mm_memtype_t *type)
{
    static struct flat now;

    flat_take(pt, f->at, f->nr, &now);
    for (uint64_t i = 0; i < f->nr; i++) {
        const struct mm_mapping *was = &f->page[i];
        const struct mm_mapping *is = &now.page[i];

        assert_int_equal(is->kind, was->kind);
        assert_int_equal(is->paddr.raw, was->paddr.raw);
        assert_int_equal(is->prot, was->prot);
        assert_int_equal(is->type, type != NULL && was->kind == MM_SLOT_LEAF ? *type : was->type);
        assert_true(is->accessed || !was->accessed);
        assert_true(is->dirty || !was->dirty);
    }
}

/** No CPU has a translation of another size than the tables give. */
static inline void one_size(struct t_paging *m, const struct mm_pagetable *pt, uint64_t at,
                            uint64_t len)
{
    for (unsigned c = 0; c < m->cpus.nr; c++) {
        const struct t_cpu *cpu = &m->cpus.cpu[c];

        for (unsigned i = 0; i < T_TLB_ENTRIES; i++) {
            struct mm_mapping leaf;

            if (((cpu->tlb_used >> i) & 1) != 0 && cpu->tlb[i].start - at < len) {
                leaf = t_leaf(pt, cpu->tlb[i].start);
                assert_int_equal(leaf.page.len, P4K << (9 * cpu->tlb[i].level));
            }
        }
    }
    t_nothing_stale(m);
}

/** The root of an operation: the kernel's, a user's that CPUs are in, a user's that none ever was.
 */
enum break_root { KERNEL, USER, IDLE, NR_ROOTS };

static inline struct mm_pagetable *break_root(struct t_paging *m, unsigned which, uint64_t *at,
                                              mm_prot_t *prot)
{
    if (which == KERNEL) {
        all_enter(m, &m->kernel);
        *at = T_KERNEL_LOW;
        *prot = MM_PROT_RW | MM_PROT_GLOBAL;
        return &m->kernel;
    }
    if (which == USER) {
        all_enter(m, &m->user);
    }
    *at = 64 * P1G;
    *prot = T_URW;
    return &m->user;
}

/** Pages, whatever larger leaves the range would allow. */
static inline void map_4k(struct mm_pagetable *pt, uint64_t at, uint64_t paddr, uint64_t len,
                          mm_prot_t prot, mm_memtype_t type)
{
    assert_int_equal(
        mm_paging_map(pt, t_range(at, len), mm_paddr(paddr), prot, type, MM_PAGING_ONLY_4K), MM_OK);
}

#endif
