// SPDX-License-Identifier: MIT
/**
 * The permission truth table over tables that the library built: for each protection, memory type,
 * size of leaf and way to come to it, in user and kernel roots of 4 and 5 levels, on CPUs with and
 * without NX, PAT, 1 GiB leaves, global pages, SMEP and SMAP, and under each setting of CR0.WP,
 * CR4.SMEP and CR4.SMAP, every access comes to what the protection says. Three must agree: the
 * simulated CPU (out of the tables, and once more out of its TLB), what mm_paging_translate()
 * reports, and truth_built.h. Hazards 8 to 11, 15.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "t_paging.h"
#include "truth.h"
#include "truth_built.h"

#define USER_AT   UINT64_C(0x0000100040200000)
#define KERNEL_AT (T_KERNEL_LOW + P1G + P2M)
#define PADDR     UINT64_C(0x0000000140200000)

/* As bytes of the PAT: SDM vol. 3A, 12.12.2, table 12-10. */
static const uint8_t pat_types[MM_MEMTYPE_COUNT] = {6, 4, 1, 7, 0, 5};

struct world {
    struct t_paging *m;
    bool nx; /* the library withholds the right to execute */
    bool pat;
    bool has_1g;
    uint64_t nr_accesses;
    uint64_t nr_pages;
};

static uint64_t all_accesses;
static uint64_t all_pages;

/* --- one page --------------------------------------------------------------------------------- */

static void say(const struct built_page *p, unsigned regs, unsigned access)
{
    print_error("%s, %#llx, %llu KiB, protection %#x, type %s; registers %#x, access %#x\n",
                built_names[p->how], (unsigned long long)p->range.start.raw,
                (unsigned long long)p->range.len >> 10, p->prot, mm_memtype_str(p->type), regs,
                access);
}

/* One access, twice: by a walk, and by what the walk has left. Between two accesses nobody looks at
 * the tables, so the second says what is cached. */
static void must_come_to(struct world *w, const struct built_page *p, unsigned regs,
                         unsigned access, uint64_t at)
{
    struct t_truth_outcome wanted = built_wanted(p->prot, regs, access);
    uint32_t answer = wanted.fault ? wanted.error : T_CPU_DONE;

    for (unsigned twice = 0; twice < 2; twice++) {
        uint64_t paddr = 0;
        uint32_t seen = t_cpu_access(w->m->cpu, at, access, &paddr);

        if (seen != answer) {
            say(p, regs, access);
            fail_msg("the CPU says %#x, and the protection %#x", seen, answer);
        }
        if (!wanted.fault) {
            assert_int_equal(paddr, p->paddr + (at - p->range.start.raw));
        }
    }
    w->nr_accesses += 2;
}

/* What the library says of the page. */
static void must_be_told(const struct world *w, const struct mm_pagetable *pt,
                         const struct built_page *p, bool accessed, bool dirty)
{
    bool any = (p->prot & (MM_PROT_READ | MM_PROT_WRITE | MM_PROT_EXEC)) != 0;
    struct mm_mapping leaf = t_leaf(pt, p->range.start.raw);
    mm_prot_t prot =
        !any ? MM_PROT_NONE : p->prot | MM_PROT_READ | (w->nx ? 0 : (mm_prot_t)MM_PROT_EXEC);

    if (!w->m->arch.enabled.global_pages) {
        prot &= ~(mm_prot_t)MM_PROT_GLOBAL;
    }
    if (leaf.prot != prot || leaf.type != p->type || leaf.paddr.raw != p->paddr ||
        leaf.page.start.raw != p->range.start.raw || leaf.page.len != p->range.len ||
        (any && (leaf.accessed != accessed || leaf.dirty != dirty))) {
        say(p, 0, 0);
        fail_msg("translate: %#llx, %llu KiB, protection %#x, type %s, %saccessed, %sdirty",
                 (unsigned long long)leaf.paddr.raw, (unsigned long long)leaf.page.len >> 10,
                 leaf.prot, mm_memtype_str(leaf.type), leaf.accessed ? "" : "not ",
                 leaf.dirty ? "" : "not ");
    }
}

/* The memory type that the CPU takes out of entry and PAT. */
static void must_have_type(const struct world *w, const struct built_page *p)
{
    struct t_mmu_walk walk;

    t_mmu_walk(&w->m->cpu->mmu, p->range.start.raw, &walk);
    if (walk.end == T_MMU_LEAF) {
        assert_int_equal(walk.type, pat_types[p->type]);
        assert_int_equal(walk.size, p->range.len);
        assert_int_equal(walk.paddr, p->paddr);
    }
}

/* Every access under every setting of the registers, through the root in use. */
static void every_access(struct world *w, const struct built_page *p)
{
    struct t_mmu *mmu = &w->m->cpu->mmu;
    struct t_mmu kept = *mmu;

    for (unsigned setting = 0; setting < 8; setting++) {
        unsigned regs = setting | (w->nx ? T_TRUTH_NXE : 0);

        t_truth_set_regs(mmu, regs);
        for (unsigned i = 0; i < T_TRUTH_ACCESSES; i++) {
            unsigned access = t_truth_access(i);
            uint64_t into = (i & 1) != 0 ? p->range.len - 1 : 0;

            t_cpu_invlpg(w->m->cpu, p->range.start.raw);
            must_come_to(w, p, regs, access, p->range.start.raw + into);
        }
    }
    must_have_type(w, p);
    mmu->cr0 = kept.cr0;
    mmu->cr4 = kept.cr4;
    mmu->efer = kept.efer;
}

/* With any right at all some setting lets a load and a store through: WP off, the supervisor's. */
static bool any_right(mm_prot_t prot)
{
    return (prot & (MM_PROT_READ | MM_PROT_WRITE | MM_PROT_EXEC)) != 0;
}

static void one_page(struct world *w, struct mm_pagetable *pt, const struct built_page *p)
{
    uint64_t around = p->how == BUILT_SPLIT ? p->range.len * 512 : p->range.len;
    uint64_t first = p->range.start.raw & ~(around - 1);
    bool lacks_type = !w->pat && (p->type == MM_MEMTYPE_WC || p->type == MM_MEMTYPE_WP);
    mm_status_t status = built_build(pt, p);

    if (lacks_type) {
        assert_int_equal(status, MM_ERR_UNSUPPORTED);
        return;
    }
    assert_int_equal(status, MM_OK);
    must_be_told(w, pt, p, false, false);
    for (unsigned root = 0; root < 2; root++) {
        struct mm_pagetable *in = root == 0 ? pt : &w->m->user;

        assert_int_equal(mm_paging_activate(in), MM_OK);
        every_access(w, p);
    }
    must_be_told(w, pt, p, any_right(p->prot), any_right(p->prot));
    t_nothing_stale(w->m);
    assert_int_equal(t_unmap(pt, first, around, 0), MM_OK);
    t_nothing_stale(w->m);
    assert_int_equal(t_cpu_access(w->m->cpu, p->range.start.raw, 0, NULL), 0);
    w->nr_pages++;
}

/* --- all pages on one machine ----------------------------------------------------------------- */

static void every_page(struct world *w, struct mm_pagetable *pt, uint64_t at, mm_prot_t always)
{
    for (unsigned i = 0; i < 3u * 8 * MM_MEMTYPE_COUNT * NR_BUILT; i++) {
        uint64_t len = t_mmu_span(i % 3);
        struct built_page p = {
            .how = (enum built)(i / 3 % NR_BUILT),
            .range = t_range(at & ~(len - 1), len),
            .paddr = PADDR & ~(len - 1),
            .prot = (mm_prot_t)(i / 3 / NR_BUILT % 8) | always,
            .type = (mm_memtype_t)(i / 3 / NR_BUILT / 8),
        };

        if (built_possible(p.how, len, w->has_1g)) {
            one_page(w, pt, &p);
        }
    }
}

static void on_cpu(bool nx, bool pat, bool has_1g, bool la57, bool others)
{
    struct world w = {.m = t_paging_new(), .nx = nx, .pat = pat, .has_1g = has_1g};
    struct t_cpu_features *has = &w.m->cpus.has;

    has->nx = nx;
    has->pat = pat;
    has->page_1g = has_1g;
    has->pge = has->smep = has->smap = has->umip = others;
    w.m->cpu->mmu.cr4 |= la57 ? T_MMU_CR4_LA57 : 0;
    t_paging_start(w.m);
    assert_int_equal(w.m->arch.enabled.nx, nx);
    assert_int_equal(w.m->arch.enabled.global_pages, others);
    every_page(&w, &w.m->user, USER_AT, MM_PROT_USER);
    every_page(&w, &w.m->kernel, KERNEL_AT, 0);
    every_page(&w, &w.m->kernel, KERNEL_AT, MM_PROT_GLOBAL);
    assert_int_equal(mm_paging_activate(&w.m->kernel), MM_OK);
    all_accesses += w.nr_accesses;
    all_pages += w.nr_pages;
    t_paging_delete(w.m);
}

static void test_built(void **state)
{
    for (unsigned i = 0; i < 32; i++) {
        on_cpu((i & 1) != 0, (i & 2) != 0, (i & 4) != 0, (i & 8) != 0, (i & 16) != 0);
    }
    (void)state;
    print_message("truth of what was built: %llu accesses to %llu pages on 32 CPUs\n",
                  (unsigned long long)all_accesses, (unsigned long long)all_pages);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_built),
    };

    return cmocka_run_group_tests_name("truth_built", tests, NULL, NULL);
}
