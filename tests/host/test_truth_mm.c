// SPDX-License-Identifier: MIT
/**
 * The library's own reading of page tables against the permission truth table: what it says of a
 * leaf's protection, what it takes for malformed, and what it makes of an error code, for every
 * table and access of the enumeration; and that it writes no bit that a CPU has reserved. Hazards
 * 8, 10, 11, 26.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <sched.h>

#include "t_paging.h"
#include "truth.h"

#define AT    UINT64_C(0x0000100040200000) /* in no table at index 0 but the last */
#define PADDR UINT64_C(0x0000000140200000)

struct world {
    struct t_paging *m;
    struct t_mmu mmu;
    struct t_truth truth;
};

static uint64_t *entry_of(void *ctx, uint64_t paddr)
{
    struct world *w = ctx;

    return paddr < T_TABLES * UINT64_C(4096) ? t_ram_ptr(w->m->ram, paddr) : NULL;
}

static void world_start(struct world *w, bool nx, bool la57, bool has_1g)
{
    w->m = t_paging_new();
    w->m->cpus.has.nx = nx;
    w->m->cpus.has.page_1g = has_1g;
    if (la57) {
        w->m->cpu->mmu.cr4 |= T_MMU_CR4_LA57;
    }
    t_paging_start(w->m);
    t_truth_init(&w->truth, la57 ? 5 : 4, w->m->arch.features.paddr_bits,
                 w->m->arch.features.page_1g, T_TRUTH_ALL);
    w->mmu = (struct t_mmu){
        .cr0 = T_MMU_CR0_PG | T_MMU_CR0_WP,
        .cr3 = w->m->user.root.raw,
        .cr4 = T_MMU_CR4_PAE | (la57 ? T_MMU_CR4_LA57 : 0),
        .efer = nx ? T_MMU_EFER_NXE : 0,
        .paddr_bits = w->m->arch.features.paddr_bits,
        .has_1g = w->m->arch.features.page_1g,
        .ctx = w,
        .entry = entry_of,
    };
}

static unsigned rights_of(mm_prot_t prot)
{
    return ((prot & MM_PROT_WRITE) != 0 ? T_MMU_MAY_WRITE : 0) |
           ((prot & MM_PROT_USER) != 0 ? T_MMU_MAY_USER : 0) |
           ((prot & MM_PROT_EXEC) != 0 ? T_MMU_MAY_EXEC : 0);
}

static void print_walk(const struct t_mmu_walk *walk)
{
    for (unsigned level = walk->first + 1; level-- > walk->last;) {
        print_error("    entry of level %u: %#llx\n", level,
                    (unsigned long long)walk->step[level].entry);
    }
}

/* Each access with each setting of the registers is allowed as the protection says. */
static void must_agree(struct world *w, const struct mm_pagetable *pt, uint64_t at)
{
    struct t_mmu mmu = w->mmu;
    struct t_mmu_walk walk;
    mm_prot_t prot = t_leaf(pt, at).prot;

    mmu.cr3 = pt->root.raw;
    t_mmu_walk(&mmu, at, &walk);
    for (unsigned setting = 0; setting < 8; setting++) {
        t_truth_set_regs(&mmu, setting | (w->m->arch.enabled.nx ? T_TRUTH_NXE : 0));
        for (unsigned i = 0; i < T_TRUTH_ACCESSES; i++) {
            unsigned access = t_truth_access(i);
            bool sim = !t_truth_judge(&mmu, &walk, access).fault;
            bool library = prot != MM_PROT_NONE && t_mmu_allows(&mmu, rights_of(prot), access);

            if (sim != library) {
                print_walk(&walk);
                fail_msg("at %#llx, registers %#x, access %#x: the simulated MMU says %s, the "
                         "library's protection %#x %s",
                         (unsigned long long)at, setting, access, sim ? "pass" : "fault", prot,
                         library ? "pass" : "fault");
            }
        }
    }
    assert_int_equal(walk.end == T_MMU_LEAF, prot != MM_PROT_NONE);
    if (prot != MM_PROT_NONE) {
        assert_int_equal(walk.rights, rights_of(prot));
        assert_int_equal(prot & MM_PROT_READ, MM_PROT_READ);
        assert_int_equal(walk.global, (prot & MM_PROT_GLOBAL) != 0);
    }
}

/* --- what the library writes ------------------------------------------------------------------ */

/* Each protection that a caller may ask for is, for the CPU, what it means: to the right asked for
 * that the CPU can withhold nothing is added. */
static void must_mean(struct world *w, const struct mm_pagetable *pt, uint64_t at, mm_prot_t asked)
{
    bool nothing = (asked & (MM_PROT_READ | MM_PROT_WRITE | MM_PROT_EXEC)) == 0;
    struct t_mmu mmu = w->mmu;
    struct t_mmu_walk walk;

    mmu.cr3 = pt->root.raw;
    t_mmu_walk(&mmu, at, &walk);
    assert_int_equal(walk.end, nothing ? T_MMU_ABSENT : T_MMU_LEAF);
    if (!nothing) {
        unsigned rights = rights_of(asked) | (w->m->arch.enabled.nx ? 0 : T_MMU_MAY_EXEC);

        assert_int_equal(walk.rights, rights);
    }
    must_agree(w, pt, at);
}

static void every_protection(bool nx, bool la57)
{
    struct world w;
    static const uint64_t kernel_at = T_KERNEL_LOW + (UINT64_C(1) << 30);

    world_start(&w, nx, la57, true);
    w.mmu.cr4 |= T_MMU_CR4_PGE;
    for (unsigned level = 0; level < 3; level++) {
        uint64_t size = t_mmu_span(level);
        uint64_t at = AT & ~(size - 1);
        uint64_t paddr = PADDR & ~(size - 1);

        for (mm_prot_t prot = 0; prot < 8; prot++) {
            mm_prot_t user = prot | MM_PROT_USER;
            mm_prot_t global = prot | MM_PROT_GLOBAL;

            assert_int_equal(t_map(&w.m->user, at, paddr, size, user), MM_OK);
            must_mean(&w, &w.m->user, at, user);
            assert_int_equal(t_map(&w.m->kernel, kernel_at, paddr, size, global), MM_OK);
            must_mean(&w, &w.m->kernel, kernel_at, global);
            for (mm_prot_t next = 0; next < 8; next++) {
                assert_int_equal(t_protect(&w.m->user, at, size, next | MM_PROT_USER, 0), MM_OK);
                must_mean(&w, &w.m->user, at, next | MM_PROT_USER);
                assert_int_equal(t_protect(&w.m->user, at, size, user, 0), MM_OK);
                must_mean(&w, &w.m->user, at, user);
            }
            assert_int_equal(t_unmap(&w.m->user, at, size, 0), MM_OK);
            assert_int_equal(t_unmap(&w.m->kernel, kernel_at, size, 0), MM_OK);
        }
    }
    t_paging_delete(w.m);
}

static void test_every_protection(void **state)
{
    (void)state;
    every_protection(true, false);
}

/* The CPU reserves bit 63: a table or a leaf that had it would fault as malformed. */
static void test_every_protection_without_nx(void **state)
{
    (void)state;
    every_protection(false, false);
}

static void test_every_protection_of_5_levels(void **state)
{
    (void)state;
    every_protection(true, true);
}

/* --- what the library reads ------------------------------------------------------------------- */

/* Every table of the enumeration that translates, put where the library has mapped a leaf. */
static void rights_over_levels(bool la57)
{
    struct world w;

    world_start(&w, true, la57, true);
    for (unsigned leaf = 0; leaf < 3; leaf++) {
        uint64_t size = t_mmu_span(leaf);
        uint64_t at = AT & ~(size - 1);
        uint64_t kept[T_MMU_LEVELS];
        struct t_mmu_walk walk;
        uint64_t nr = 0;

        assert_int_equal(t_map(&w.m->user, at, PADDR & ~(size - 1), size, T_URX | MM_PROT_WRITE),
                         MM_OK);
        t_mmu_walk(&w.mmu, at, &walk);
        assert_int_equal(walk.last, leaf);
        for (uint64_t i = 0; i < w.truth.nr_good; i++) {
            struct t_truth_table t;

            t_truth_table(&w.truth, i, &t);
            if (t.leaf != leaf) {
                continue;
            }
            for (unsigned level = leaf; level < t.levels; level++) {
                uint64_t *slot = entry_of(&w, walk.step[level].paddr);
                const uint64_t bits = T_MMU_RW | T_MMU_US | T_MMU_NX;

                kept[level] = walk.step[level].entry;
                *slot = (kept[level] & ~bits) | (t.bits[level] & bits);
            }
            must_agree(&w, &w.m->user, at);
            nr++;
        }
        assert_int_equal(nr, UINT64_C(1) << (3 * (w.truth.levels - leaf)));
        for (unsigned level = leaf; level < w.truth.levels; level++) {
            *entry_of(&w, walk.step[level].paddr) = kept[level];
        }
        t_cpu_drop_all(w.m->cpu);
        assert_int_equal(t_unmap(&w.m->user, at, size, 0), MM_OK);
    }
    t_paging_delete(w.m);
}

static void test_rights_over_4_levels(void **state)
{
    (void)state;
    rights_over_levels(false);
}

static void test_rights_over_5_levels(void **state)
{
    (void)state;
    rights_over_levels(true);
}

/* A root with one present letter at one level, to be taken over: refused if, and only if, a CPU
 * would fault on a reserved bit. */
static void try_to_adopt(struct world *w, unsigned level, uint64_t bits)
{
    struct mm_paging_config config = t_config(w->m);
    static struct mm_pagetable adopted;
    struct t_truth_site site = {.page = PADDR};
    struct mm_vrange range = t_range(T_KERNEL_LOW, T_KERNEL_LOW_LEN);
    mm_pfn_t frames[T_MMU_LEVELS];
    bool malformed = t_mmu_reserved(&w->mmu, bits, level) != 0;
    mm_status_t status;

    for (unsigned i = 0; i < w->truth.levels; i++) {
        struct mm_frame_source source = t_source(w->m);

        assert_int_equal(source.ops->alloc(source.ctx, MM_OWNER_PAGE_TABLE, true, &frames[i]),
                         MM_OK);
        site.table[i] = frames[i].raw * 4096;
    }
    for (unsigned i = w->truth.levels; i-- > level;) {
        uint64_t letter = i == level ? bits : T_MMU_P | T_MMU_RW | T_MMU_A;

        t_table(w->m, frames[i].raw)[(T_KERNEL_LOW >> (12 + 9 * i)) & 511] =
            t_truth_entry(&site, i, letter);
    }
    config.kernel_ranges = &range;
    config.nr_kernel_ranges = 1;
    memset(&adopted, 0, sizeof(adopted));
    status = mm_paging_adopt(&adopted, &config, mm_paddr(site.table[w->truth.levels - 1]));
    if (status != (malformed ? MM_ERR_CORRUPTED : MM_OK)) {
        fail_msg("an entry %#llx at level %u: adoption answers %s", (unsigned long long)bits, level,
                 mm_status_str(status));
    }
    if (status == MM_OK) {
        assert_int_equal(mm_paging_destroy(&adopted), MM_OK);
    }
    for (unsigned i = 0; i < w->truth.levels; i++) {
        t_source_free(w->m, frames[i]);
    }
}

static void malformed_entries(bool nx, bool la57, bool has_1g)
{
    struct world w;
    unsigned nr = 0;

    world_start(&w, nx, la57, has_1g);
    for (unsigned level = 0; level < w.truth.levels; level++) {
        for (unsigned i = 0; i < t_truth_nr_letters(&w.truth, level); i++) {
            uint64_t bits = t_truth_letter(&w.truth, level, i);

            if ((bits & T_MMU_P) != 0) {
                try_to_adopt(&w, level, bits);
                nr++;
            }
        }
    }
    assert_true(nr > 100);
    t_paging_delete(w.m);
}

static void test_malformed_entries(void **state)
{
    (void)state;
    malformed_entries(true, false, true);
    malformed_entries(true, true, true);
}

static void test_malformed_entries_without_nx(void **state)
{
    (void)state;
    malformed_entries(false, false, true);
}

static void test_malformed_entries_without_1g_pages(void **state)
{
    (void)state;
    malformed_entries(true, false, false);
}

/* --- error codes ------------------------------------------------------------------------------ */

/* The library's flags say of each fault of the table what its case is. */
static void test_error_codes(void **state)
{
    struct t_truth truth;
    uint64_t nr = 0;

    (void)state;
    t_truth_init(&truth, 4, 46, true, T_TRUTH_ALL);
    for (uint64_t i = 0; i < truth.nr_cases; i += 7) {
        struct t_truth_case c;
        struct t_truth_outcome outcome;
        struct mm_fault fault;
        uint32_t wanted = 0;

        t_truth_case(&truth, i, &c);
        outcome = t_truth_by_rows(&truth, &c);
        if (!outcome.fault) {
            continue;
        }
        for (unsigned level = truth.levels; level-- > c.table.leaf;) {
            struct t_mmu mmu = {.paddr_bits = 46, .has_1g = true};

            t_truth_set_regs(&mmu, c.regs);
            if ((c.table.bits[level] & T_MMU_P) == 0) {
                break;
            }
            if (t_mmu_reserved(&mmu, c.table.bits[level], level) != 0) {
                wanted |= MM_FAULT_PRESENT | MM_FAULT_RESERVED;
                break;
            }
            wanted |= level == c.table.leaf ? MM_FAULT_PRESENT : 0;
        }
        wanted |= (c.access & T_MMU_WRITE) != 0 ? MM_FAULT_WRITE : 0;
        wanted |= (c.access & T_MMU_USER) != 0 ? MM_FAULT_USER : 0;
        /* A CPU with neither NXE nor SMEP does not tell a fetch from a load. */
        wanted |= (c.access & T_MMU_FETCH) != 0 && (c.regs & (T_TRUTH_NXE | T_TRUTH_SMEP)) != 0
                      ? MM_FAULT_EXEC
                      : 0;
        fault = mm_x86_64_fault(outcome.error, i);
        if (fault.flags != wanted || fault.at.raw != i) {
            t_truth_print(&truth, &c, (t_truth_print_fn)print_error);
            fail_msg("error code %#x is %#x to the library, and not %#x", outcome.error,
                     fault.flags, wanted);
        }
        nr++;
    }
    assert_true(nr > 100000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_protection),
        cmocka_unit_test(test_every_protection_without_nx),
        cmocka_unit_test(test_every_protection_of_5_levels),
        cmocka_unit_test(test_rights_over_4_levels),
        cmocka_unit_test(test_rights_over_5_levels),
        cmocka_unit_test(test_malformed_entries),
        cmocka_unit_test(test_malformed_entries_without_nx),
        cmocka_unit_test(test_malformed_entries_without_1g_pages),
        cmocka_unit_test(test_error_codes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
