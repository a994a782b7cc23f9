// SPDX-License-Identifier: MIT
/**
 * The permission truth table on the host: the simulated MMU walks the tables of every case and must
 * answer as the manual's rows do, in outcome, error code, accessed and dirty bits. Hazards 10, 11.
 *
 * The enumeration is checked too: it must hold what it claims, or agreement says little.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "truth.h"

/* Tables lie at TABLE(level), the page at PAGE: bits 12 to 29 of its address are set, so that a
 * leaf that leaves them out cannot be told from one that has them by accident. */
#define TABLE(level) (UINT64_C(0x100000) + UINT64_C(0x1000) * (level))
#define PAGE         UINT64_C(0x7ffff000)
#define AT           (UINT64_C(0x123) << 30 | (PAGE & 0x3fffffff))

struct world {
    struct t_mmu mmu;
    struct t_truth_site site;
    bool noise; /* bits that no rule asks for are set in all entries */
    uint64_t table[T_MMU_LEVELS][512];
};

/* Memory type, accessed, dirty, global, bits 9 to 11 and 52 to 62; and PAT, where a leaf has it. */
static uint64_t noise_of(unsigned level, uint64_t bits)
{
    uint64_t pat = level == 0 ? T_MMU_PS : level <= 2 && (bits & T_MMU_PS) != 0 ? T_MMU_PAT : 0;

    return T_MMU_PWT | T_MMU_PCD | T_MMU_A | T_MMU_D | T_MMU_G | UINT64_C(7) << 9 |
           UINT64_C(0x7ff) << 52 | pat;
}

static void print(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void print(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vprint_error(format, args);
    va_end(args);
}

static uint64_t *entry_of(void *ctx, uint64_t paddr)
{
    struct world *w = ctx;
    uint64_t offset = paddr - TABLE(0);

    return offset < sizeof(w->table) ? &w->table[0][0] + offset / 8 : NULL;
}

static struct world *world_new(const struct t_truth *truth)
{
    struct world *w = calloc(1, sizeof(*w));

    assert_non_null(w);
    w->mmu.cr0 = T_MMU_CR0_PG;
    w->mmu.cr3 = TABLE(truth->levels - 1);
    w->mmu.cr4 = T_MMU_CR4_PAE | (truth->levels == 5 ? T_MMU_CR4_LA57 : 0);
    w->mmu.paddr_bits = truth->paddr_bits;
    w->mmu.has_1g = truth->has_1g;
    w->mmu.ctx = w;
    w->mmu.entry = entry_of;
    w->site.page = PAGE;
    for (unsigned level = 0; level < T_MMU_LEVELS; level++) {
        w->site.table[level] = TABLE(level);
    }
    return w;
}

static uint64_t *slot_of(struct world *w, unsigned level)
{
    return &w->table[level][(AT >> (12 + 9 * level)) & 511];
}

static uint64_t entry_for(const struct world *w, const struct t_truth_table *t, unsigned level)
{
    return t_truth_entry(&w->site, level, t->bits[level]) |
           (w->noise ? noise_of(level, t->bits[level]) : 0);
}

static void build(struct world *w, const struct t_truth_table *t)
{
    for (unsigned level = t->leaf; level < t->levels; level++) {
        *slot_of(w, level) = entry_for(w, t, level);
    }
}

/* After an access that passed: A in every entry of the path, D in the leaf for a store alone. */
static bool marked_right(struct world *w, const struct t_truth_table *t, unsigned access)
{
    for (unsigned level = t->leaf; level < t->levels; level++) {
        uint64_t marks = T_MMU_A | (level == t->leaf && (access & T_MMU_WRITE) != 0 ? T_MMU_D : 0);

        if (*slot_of(w, level) != (entry_for(w, t, level) | marks)) {
            return false;
        }
    }
    return true;
}

static void must_agree(struct world *w, const struct t_truth *truth, const struct t_truth_case *c,
                       const struct t_mmu_walk *walk)
{
    struct t_truth_outcome sim = t_truth_judge(&w->mmu, walk, c->access);
    struct t_truth_outcome rows = t_truth_by_rows(truth, c);

    if (sim.fault != rows.fault || sim.error != rows.error) {
        t_truth_print(truth, c, print);
        fail_msg("the manual says %s %#x, the simulated MMU %s %#x", rows.fault ? "fault" : "pass",
                 rows.error, sim.fault ? "fault" : "pass", sim.error);
    }
    if (!sim.fault) {
        uint64_t paddr = walk->paddr + (AT - walk->start);

        if (paddr != (PAGE | (AT & 0xfff)) || walk->size != t_mmu_span(c->table.leaf)) {
            t_truth_print(truth, c, print);
            fail_msg("the leaf is %#llx, of %#llx bytes", (unsigned long long)walk->paddr,
                     (unsigned long long)walk->size);
        }
        if (!t_mmu_mark(&w->mmu, walk, (c->access & T_MMU_WRITE) != 0) ||
            !marked_right(w, &c->table, c->access)) {
            t_truth_print(truth, c, print);
            fail_msg("accessed or dirty is not as it must be");
        }
        build(w, &c->table);
    }
}

/* Every case of one kind of CPU. */
static void all_cases(unsigned levels, unsigned paddr_bits, bool has_1g, unsigned regs, bool noise)
{
    struct t_truth truth;
    struct t_truth_case c;
    struct world *w;
    uint64_t done = 0;
    uint64_t errors = 0; /* bit by error code; bit 32: none */

    t_truth_init(&truth, levels, paddr_bits, has_1g, regs);
    w = world_new(&truth);
    w->noise = noise;
    for (uint64_t table = 0; table < truth.nr_tables; table++) {
        t_truth_table(&truth, table, &c.table);
        build(w, &c.table);
        for (unsigned setting = 0; setting < truth.nr_regs; setting++) {
            struct t_mmu_walk walk;

            c.regs = truth.regs[setting];
            t_truth_set_regs(&w->mmu, c.regs);
            t_mmu_walk(&w->mmu, AT, &walk);
            for (unsigned access = 0; access < T_TRUTH_ACCESSES; access++) {
                struct t_truth_outcome seen;

                c.number = t_truth_number(&truth, setting, table, access);
                c.access = t_truth_access(access);
                must_agree(w, &truth, &c, &walk);
                seen = t_truth_judge(&w->mmu, &walk, c.access);
                errors |= UINT64_C(1) << (seen.fault ? seen.error : 32);
                done++;
            }
        }
    }
    free(w);
    print_message("%u levels, MAXPHYADDR %u%s: %llu cases, error codes seen %#llx\n", levels,
                  paddr_bits, has_1g ? ", 1 GiB pages" : "", (unsigned long long)done,
                  (unsigned long long)errors);
    assert_int_equal(done, truth.nr_cases);
    /* Each of absent (0), present (1) and reserved (9), by each kind of access and privilege. */
    if (regs == T_TRUTH_ALL) {
        static const unsigned kinds[] = {0, 2, 4, 6, 16, 20};
        uint64_t wanted = UINT64_C(1) << 32;

        for (unsigned i = 0; i < 6; i++) {
            wanted |= UINT64_C(1) << kinds[i] | UINT64_C(1) << (kinds[i] + 1) |
                      UINT64_C(1) << (kinds[i] + 9);
        }
        assert_int_equal(errors, wanted);
    }
}

static void test_4_levels(void **state)
{
    (void)state;
    all_cases(4, 48, true, T_TRUTH_ALL, false);
}

static void test_5_levels(void **state)
{
    (void)state;
    all_cases(5, 51, true, T_TRUTH_ALL, false);
}

static void test_no_1g_pages(void **state)
{
    (void)state;
    all_cases(4, 36, false, T_TRUTH_ALL, false);
}

/* No address bit is reserved. */
static void test_52_bits(void **state)
{
    (void)state;
    all_cases(4, 52, true, T_TRUTH_ALL, false);
}

/* A CPU without NX, SMEP and SMAP: bit 63 is reserved in every case. */
static void test_plain_cpu(void **state)
{
    (void)state;
    all_cases(4, 40, false, T_TRUTH_WP, false);
}

/* What the rules do not ask for decides nothing. */
static void test_other_bits_do_not_matter(void **state)
{
    (void)state;
    all_cases(4, 48, true, T_TRUTH_ALL, true);
    all_cases(4, 40, false, T_TRUTH_WP | T_TRUTH_NXE, true);
}

/* --- the enumeration itself ------------------------------------------------------------------- */

static uint64_t key_of(const struct t_truth_table *t)
{
    uint64_t key = t->leaf;

    for (unsigned level = t->leaf; level < t->levels; level++) {
        key = key * 1024 + t->letter[level];
    }
    return key;
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static void test_tables_are_distinct_and_complete(void **state)
{
    static bool seen[T_MMU_LEVELS][512];
    struct t_truth truth;
    struct t_truth_table t;
    uint64_t *keys;

    (void)state;
    t_truth_init(&truth, 4, 48, true, T_TRUTH_ALL);
    keys = calloc(truth.nr_tables, sizeof(*keys));
    assert_non_null(keys);
    for (uint64_t i = 0; i < truth.nr_tables; i++) {
        t_truth_table(&truth, i, &t);
        keys[i] = key_of(&t);
        for (unsigned level = t.leaf; level < t.levels; level++) {
            assert_true(t.letter[level] < t_truth_nr_letters(&truth, level));
            seen[level][t.letter[level]] = true;
        }
    }
    qsort(keys, truth.nr_tables, sizeof(*keys), compare);
    for (uint64_t i = 1; i < truth.nr_tables; i++) {
        assert_true(keys[i - 1] != keys[i]);
    }
    free(keys);
    /* Permissions of a leaf at each size: all of them. */
    assert_int_equal(truth.nr_good, 8 * 8 * 8 * 8 + 8 * 8 * 8 + 8 * 8);
    for (unsigned level = 0; level < 4; level++) {
        unsigned nr = t_truth_nr_letters(&truth, level);

        assert_true(nr < 256); /* a table has room for all, in one canonical half */
        for (unsigned letter = 0; letter < nr; letter++) {
            assert_true(seen[level][letter]);
            for (unsigned other = 0; other < letter; other++) {
                assert_true(t_truth_letter(&truth, level, letter) !=
                            t_truth_letter(&truth, level, other));
            }
        }
    }
}

static void test_numbers_lead_back(void **state)
{
    struct t_truth truth;

    (void)state;
    t_truth_init(&truth, 5, 46, true, T_TRUTH_ALL);
    for (uint64_t i = 0; i < truth.nr_cases; i += 9973) {
        struct t_truth_case c;
        uint64_t rest = i / T_TRUTH_ACCESSES;

        t_truth_case(&truth, i, &c);
        assert_int_equal(c.number, i);
        assert_int_equal(c.access, t_truth_access((unsigned)(i % T_TRUTH_ACCESSES)));
        assert_int_equal(t_truth_number(&truth, (unsigned)(rest / truth.nr_tables),
                                        rest % truth.nr_tables, (unsigned)(i % T_TRUTH_ACCESSES)),
                         i);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tables_are_distinct_and_complete),
        cmocka_unit_test(test_numbers_lead_back),
        cmocka_unit_test(test_4_levels),
        cmocka_unit_test(test_5_levels),
        cmocka_unit_test(test_no_1g_pages),
        cmocka_unit_test(test_52_bits),
        cmocka_unit_test(test_plain_cpu),
        cmocka_unit_test(test_other_bits_do_not_matter),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
