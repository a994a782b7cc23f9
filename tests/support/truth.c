// SPDX-License-Identifier: MIT
/**
 * The enumeration of the permission truth table: see the header.
 */
#include "truth.h"

#include <stddef.h>

#define NR_GOOD          8u
#define NR_ABSENT        32u
#define SPAN_BITS(level) (12 + 9 * (level))

/* What may stand below an entry that ends the walk. */
#define BELOW_VARIANTS 3u

static uint64_t rights(unsigned i)
{
    return ((i & 1) != 0 ? T_MMU_RW : 0) | ((i & 2) != 0 ? T_MMU_US : 0) |
           ((i & 4) != 0 ? T_MMU_NX : 0);
}

static bool may_be_large(const struct t_truth *truth, unsigned level)
{
    return level == 1 || (level == 2 && truth->has_1g);
}

/* The reserved bits of an address: none if MAXPHYADDR is 52. */
static unsigned nr_high_bits(const struct t_truth *truth)
{
    return truth->paddr_bits >= 52 ? 0 : truth->paddr_bits == 51 ? 1 : 2;
}

static unsigned nr_table_kinds(const struct t_truth *truth, unsigned level)
{
    return nr_high_bits(truth) + (level != 0 && !may_be_large(truth, level) ? 1 : 0);
}

static unsigned nr_large_kinds(const struct t_truth *truth, unsigned level)
{
    return nr_high_bits(truth) + SPAN_BITS(level) - 13;
}

static uint64_t reserved_bit(const struct t_truth *truth, unsigned kind, bool large)
{
    if (kind < nr_high_bits(truth)) {
        return UINT64_C(1) << (kind == 0 ? truth->paddr_bits : 51);
    }
    return large ? UINT64_C(1) << (13 + kind - nr_high_bits(truth)) : T_MMU_PS;
}

unsigned t_truth_nr_letters(const struct t_truth *truth, unsigned level)
{
    unsigned nr = NR_GOOD + NR_ABSENT + 8 * nr_table_kinds(truth, level);

    return may_be_large(truth, level) ? nr + NR_GOOD + 8 * nr_large_kinds(truth, level) : nr;
}

/* Good letters of tables and 4 KiB leaves, absent, reserved; then large leaves, good and reserved.
 */
uint64_t t_truth_letter(const struct t_truth *truth, unsigned level, unsigned letter)
{
    unsigned nr_reserved = 8 * nr_table_kinds(truth, level);

    if (letter < NR_GOOD) {
        return T_MMU_P | rights(letter);
    }
    letter -= NR_GOOD;
    if (letter < NR_ABSENT) {
        return rights(letter & 7) | ((letter & 8) != 0 ? T_MMU_PS : 0) |
               ((letter & 16) != 0 ? UINT64_C(1) << 51 : 0);
    }
    letter -= NR_ABSENT;
    if (letter < nr_reserved) {
        return T_MMU_P | rights(letter & 7) | reserved_bit(truth, letter / 8, false);
    }
    letter -= nr_reserved;
    if (letter < NR_GOOD) {
        return T_MMU_P | T_MMU_PS | rights(letter);
    }
    letter -= NR_GOOD;
    return T_MMU_P | T_MMU_PS | rights(letter & 7) | reserved_bit(truth, letter / 8, true);
}

static void add_family(struct t_truth *truth, unsigned leaf, unsigned stop, unsigned first,
                       unsigned count)
{
    struct t_truth_family *f = &truth->family[truth->nr_families];

    if (count == 0) {
        return;
    }
    truth->nr_families++;
    f->leaf = leaf;
    f->stop = stop;
    f->first = first;
    f->count = count;
    f->below = stop > leaf ? BELOW_VARIANTS : 1;
    f->nr_tables = (uint64_t)count * f->below;
    for (unsigned level = stop + 1; level < truth->levels; level++) {
        f->nr_tables *= NR_GOOD;
    }
    truth->nr_tables += f->nr_tables;
}

void t_truth_init(struct t_truth *truth, unsigned levels, unsigned paddr_bits, bool has_1g,
                  unsigned regs)
{
    truth->levels = levels;
    truth->paddr_bits = paddr_bits;
    truth->has_1g = has_1g;
    truth->nr_families = 0;
    truth->nr_tables = 0;
    truth->nr_regs = 0;
    for (unsigned setting = 0; setting < 16; setting++) {
        if ((setting & ~regs) == 0) {
            truth->regs[truth->nr_regs++] = setting;
        }
    }
    for (unsigned leaf = 0; leaf <= 2; leaf++) {
        if (leaf == 0 || may_be_large(truth, leaf)) {
            unsigned large = NR_GOOD + NR_ABSENT + 8 * nr_table_kinds(truth, leaf);

            add_family(truth, leaf, leaf, leaf == 0 ? 0 : large, NR_GOOD);
        }
    }
    truth->nr_good = truth->nr_tables;
    for (unsigned stop = 0; stop < levels; stop++) {
        add_family(truth, 0, stop, NR_GOOD, NR_ABSENT + 8 * nr_table_kinds(truth, stop));
        if (may_be_large(truth, stop)) {
            unsigned large = NR_GOOD + NR_ABSENT + 8 * nr_table_kinds(truth, stop);

            add_family(truth, stop, stop, large + NR_GOOD, 8 * nr_large_kinds(truth, stop));
        }
    }
    truth->nr_cases = truth->nr_regs * truth->nr_tables * T_TRUTH_ACCESSES;
}

/* Good with all rights; absent; the last of the malformed, or with no right but to be walked. */
static unsigned letter_below(const struct t_truth *truth, unsigned level, unsigned variant)
{
    unsigned nr_reserved = 8 * nr_table_kinds(truth, level);

    if (variant == 0) {
        return 3;
    }
    return variant == 1 ? NR_GOOD : nr_reserved == 0 ? 4 : NR_GOOD + NR_ABSENT + nr_reserved - 1;
}

void t_truth_table(const struct t_truth *truth, uint64_t i, struct t_truth_table *out)
{
    const struct t_truth_family *f = truth->family;
    unsigned variant;

    for (; i >= f->nr_tables; f++) {
        i -= f->nr_tables;
    }
    out->levels = truth->levels;
    out->leaf = f->leaf;
    out->letter[f->stop] = f->first + (unsigned)(i % f->count);
    i /= f->count;
    variant = (unsigned)(i % f->below);
    i /= f->below;
    for (unsigned level = f->leaf; level < truth->levels; level++) {
        if (level < f->stop) {
            out->letter[level] = letter_below(truth, level, variant);
        } else if (level > f->stop) {
            out->letter[level] = (unsigned)(i % NR_GOOD);
            i /= NR_GOOD;
        }
        out->bits[level] = t_truth_letter(truth, level, out->letter[level]);
    }
}

unsigned t_truth_access(unsigned i)
{
    static const unsigned kind[] = {0, T_MMU_WRITE, T_MMU_FETCH};
    static const unsigned who[] = {T_MMU_USER, 0, T_MMU_AC};

    return kind[i % 3] | who[i / 3];
}

void t_truth_case(const struct t_truth *truth, uint64_t i, struct t_truth_case *out)
{
    out->number = i;
    out->access = t_truth_access((unsigned)(i % T_TRUTH_ACCESSES));
    i /= T_TRUTH_ACCESSES;
    t_truth_table(truth, i % truth->nr_tables, &out->table);
    out->regs = truth->regs[i / truth->nr_tables];
}

uint64_t t_truth_number(const struct t_truth *truth, unsigned regs_index, uint64_t table,
                        unsigned access_index)
{
    return (regs_index * truth->nr_tables + table) * T_TRUTH_ACCESSES + access_index;
}

uint64_t t_truth_entry(const struct t_truth_site *site, unsigned level, uint64_t bits)
{
    if (level == 0 || ((bits & T_MMU_PS) != 0 && level <= 2)) {
        return bits | (site->page & ~((UINT64_C(1) << SPAN_BITS(level)) - 1));
    }
    return bits | site->table[level - 1];
}

void t_truth_set_regs(struct t_mmu *mmu, unsigned regs)
{
    mmu->cr0 &= ~T_MMU_CR0_WP;
    mmu->cr4 &= ~(T_MMU_CR4_SMEP | T_MMU_CR4_SMAP);
    mmu->efer &= ~T_MMU_EFER_NXE;
    mmu->cr0 |= (regs & T_TRUTH_WP) != 0 ? T_MMU_CR0_WP : 0;
    mmu->cr4 |= (regs & T_TRUTH_SMEP) != 0 ? T_MMU_CR4_SMEP : 0;
    mmu->cr4 |= (regs & T_TRUTH_SMAP) != 0 ? T_MMU_CR4_SMAP : 0;
    mmu->efer |= (regs & T_TRUTH_NXE) != 0 ? T_MMU_EFER_NXE : 0;
}

struct t_truth_outcome t_truth_judge(const struct t_mmu *mmu, const struct t_mmu_walk *walk,
                                     unsigned access)
{
    struct t_truth_outcome out = {false, 0};

    if (walk->end != T_MMU_LEAF || !t_mmu_allows(mmu, walk->rights, access)) {
        out.fault = true;
        out.error = t_mmu_error(mmu, walk->end, access);
    }
    return out;
}

void t_truth_print(const struct t_truth *truth, const struct t_truth_case *c,
                   t_truth_print_fn print)
{
    print("case %lu of %lu:%s%s%s%s; %s by the %s%s; entries from the root, addresses aside:",
          (unsigned long)c->number, (unsigned long)truth->nr_cases,
          (c->regs & T_TRUTH_WP) != 0 ? " WP" : "", (c->regs & T_TRUTH_SMEP) != 0 ? " SMEP" : "",
          (c->regs & T_TRUTH_SMAP) != 0 ? " SMAP" : "", (c->regs & T_TRUTH_NXE) != 0 ? " NXE" : "",
          (c->access & T_MMU_WRITE) != 0   ? "store"
          : (c->access & T_MMU_FETCH) != 0 ? "fetch"
                                           : "load",
          (c->access & T_MMU_USER) != 0 ? "user" : "supervisor",
          (c->access & T_MMU_AC) != 0 ? " with AC" : "");
    for (unsigned level = c->table.levels; level-- > c->table.leaf;) {
        print(" 0x%lx", (unsigned long)c->table.bits[level]);
    }
    print("; leaf of level %u\n", c->table.leaf);
}
