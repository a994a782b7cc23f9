// SPDX-License-Identifier: MIT
/**
 * The permission truth table: every combination of what page-table entries may say, of an access,
 * and of the registers that decide, numbered, so that different walkers can be asked the same
 * questions. Freestanding: the host tests and the minikernel count alike.
 *
 *     case = ((registers * tables) + table) * accesses + access
 *
 * A level has an alphabet of entries, its letters, and a table of the enumeration is one letter for
 * each level down to the leaf:
 *
 *     good      present; RW, US, NX in each combination                     8 letters
 *     absent    not present; RW, US, NX, PS and an address bit in each     32 letters
 *     reserved  good, with one reserved bit: of the address above MAXPHYADDR the lowest and the
 *               highest; PS where no leaf may be; below the address of a large leaf each
 *
 * A walk ends at the first entry that is absent or malformed, so a table is either good letters
 * down to a leaf of some size, or good letters down to a level that stops the walk with any letter
 * that does; below that stand good, absent or malformed entries, which must not be seen. NX is a
 * reserved bit itself in all cases without NXE.
 */
#ifndef T_TRUTH_H
#define T_TRUTH_H

#include "sim_mmu.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Registers of a case. */
#define T_TRUTH_WP   1u
#define T_TRUTH_SMEP 2u
#define T_TRUTH_SMAP 4u
#define T_TRUTH_NXE  8u
#define T_TRUTH_ALL  15u

/** Load, store and fetch; by the user, the supervisor, the supervisor with EFLAGS.AC. */
#define T_TRUTH_ACCESSES 9u

#define T_TRUTH_FAMILIES 32u

/** One way in which walks end: `count` letters from `first` on at level `stop`. */
struct t_truth_family {
    unsigned leaf;  /**< level of the leaf if nothing stops the walk */
    unsigned stop;  /**< level that takes the letters; == leaf for good ones */
    unsigned first; /**< letter */
    unsigned count;
    unsigned below; /**< what stands below `stop`: so many variants */
    uint64_t nr_tables;
};

/** An enumeration for a kind of CPU. */
struct t_truth {
    unsigned levels; /**< 4 or 5 */
    unsigned paddr_bits;
    bool has_1g;
    unsigned regs[16]; /**< T_TRUTH_...: settings that this CPU has */
    unsigned nr_regs;
    struct t_truth_family family[T_TRUTH_FAMILIES];
    unsigned nr_families;
    uint64_t nr_good;   /**< tables without anything that stops the walk: they come first */
    uint64_t nr_tables; /**< in all */
    uint64_t nr_cases;
};

struct t_truth_table {
    unsigned levels;
    unsigned leaf; /**< entries of lower levels are not used */
    unsigned letter[T_MMU_LEVELS];
    uint64_t bits[T_MMU_LEVELS]; /**< of the entries, without address */
};

struct t_truth_case {
    uint64_t number;
    struct t_truth_table table;
    unsigned regs;   /**< T_TRUTH_... */
    unsigned access; /**< T_MMU_WRITE, T_MMU_FETCH, T_MMU_USER, T_MMU_AC */
};

/** Where the tables of a case stand. */
struct t_truth_site {
    uint64_t page;                /**< physical address of the page that leaves contain */
    uint64_t table[T_MMU_LEVELS]; /**< physical address of the table that holds a level's entries */
};

/** What an access comes to. */
struct t_truth_outcome {
    bool fault;
    uint32_t error; /**< 0 without a fault */
};

/** What the CPU has: `regs` are those of T_TRUTH_... that it can set. */
void t_truth_init(struct t_truth *truth, unsigned levels, unsigned paddr_bits, bool has_1g,
                  unsigned regs);

/** Table `i` of nr_tables. */
void t_truth_table(const struct t_truth *truth, uint64_t i, struct t_truth_table *out);

/** Access `i` of T_TRUTH_ACCESSES: T_MMU_.... */
unsigned t_truth_access(unsigned i);

/** Case `i` of nr_cases. */
void t_truth_case(const struct t_truth *truth, uint64_t i, struct t_truth_case *out);

/** Number of a case. */
uint64_t t_truth_number(const struct t_truth *truth, unsigned regs_index, uint64_t table,
                        unsigned access_index);

/** A letter of a level, and how many there are. */
uint64_t t_truth_letter(const struct t_truth *truth, unsigned level, unsigned letter);
unsigned t_truth_nr_letters(const struct t_truth *truth, unsigned level);

/** An entry of a level at a site: bits of a letter, with the address that belongs to them. */
uint64_t t_truth_entry(const struct t_truth_site *site, unsigned level, uint64_t bits);

/** Set the registers of `mmu`, other bits of them aside. */
void t_truth_set_regs(struct t_mmu *mmu, unsigned regs);

/** The simulated MMU's answer, after t_mmu_walk(). */
struct t_truth_outcome t_truth_judge(const struct t_mmu *mmu, const struct t_mmu_walk *walk,
                                     unsigned access);

/** The second opinion: sections 4.6.1 and 4.7 as a table of rows, without a walk. */
struct t_truth_outcome t_truth_by_rows(const struct t_truth *truth, const struct t_truth_case *c);

/** As printf, of which it needs %s %u %x %lx %lu. */
typedef void (*t_truth_print_fn)(const char *format, ...);

/** Print a case: number, registers, access, entries from the root down. */
void t_truth_print(const struct t_truth *truth, const struct t_truth_case *c,
                   t_truth_print_fn print);

#ifdef __cplusplus
}
#endif

#endif
