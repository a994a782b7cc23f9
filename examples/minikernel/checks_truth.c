// SPDX-License-Identifier: MIT
//
// The permission truth table against this CPU: each case's entries are written, the access is made
// in the right mode, and what comes of it is held against the simulated MMU, which walks the very
// same entries. docs/testing/truth-table.md says more.

#include <stddef.h>

#include "check.h"
#include "checks.h"
#include "lab.h"
#include "log.h"
#include "trap.h"

#define PRINTED_MAX 5u

// The one place where the CPU may deviate from the manual. A case is first held against the manual;
// only one that fails is held against these, exactly, and counted.
//
// QEMU's emulated CPU, 7.2 and later (target/i386/tcg/sysemu/excp_helper.c, mmu_translate()):
//   - at do_fault_rsvd the error code of a reserved bit is made without P. SDM vol. 3A, 4.7: RSVD
//     can be set only if P is also set.
//   - a PDPTE with PS is a leaf of 1 GiB even if CPUID.80000001H:EDX.Page1GB is 0. SDM vol. 3A,
//     4.5.4: then bit 7 is reserved.
enum deviation { NONE, RSVD_WITHOUT_P, ALWAYS_1G, NR_DEVIATIONS };

struct run {
    struct lab lab;
    struct t_truth truth;
    struct t_mmu_walk walk[NR_DEVIATIONS]; // of the tables that are built
    uint64_t nr_cases;
    uint64_t nr_passes; // accesses that were let through
    uint64_t nr_deviates[NR_DEVIATIONS];
    uint64_t nr_wrong;
};

static unsigned regs_of(const struct memory *m)
{
    return T_TRUTH_WP | (m->arch.features.smep ? T_TRUTH_SMEP : 0) |
           (m->arch.features.smap ? T_TRUTH_SMAP : 0) | (m->arch.features.nx ? T_TRUTH_NXE : 0);
}

static void write_entries(const struct run *r, const struct t_truth_table *t)
{
    for (unsigned level = 0; level < r->lab.levels; level++) {
        *r->lab.slot[level] =
            level < t->leaf ? 0 : t_truth_entry(&r->lab.site, level, t->bits[level]);
    }
}

// Tables and what the simulated MMU makes of them; the registers are set.
static void build(struct run *r, const struct t_truth_table *t)
{
    struct t_mmu always_1g = r->lab.mmu;

    write_entries(r, t);
    t_mmu_walk(&r->lab.mmu, r->lab.window, &r->walk[NONE]);
    r->walk[RSVD_WITHOUT_P] = r->walk[NONE];
    r->walk[ALWAYS_1G] = r->walk[NONE];
    if (!r->lab.mmu.has_1g) {
        always_1g.has_1g = true;
        t_mmu_walk(&always_1g, r->lab.window, &r->walk[ALWAYS_1G]);
    }
}

// What the entries must be after an access that ended at level `last`. Whether a walk that faults
// marks what it has passed is up to the CPU (SDM vol. 3A, 4.8).
static bool entries_right(const struct run *r, const struct t_truth_table *t, bool passed,
                          unsigned last, bool store)
{
    for (unsigned level = t->leaf; level < r->lab.levels; level++) {
        uint64_t was = t_truth_entry(&r->lab.site, level, t->bits[level]);
        uint64_t marks = level < last ? 0 : T_MMU_A | (level == last && store ? T_MMU_D : 0);
        uint64_t now = *(volatile uint64_t *)r->lab.slot[level];

        if (passed ? now != (was | marks) : (now & ~T_MMU_A) != was) {
            return false;
        }
    }
    return true;
}

static bool passed_right(const struct run *r, unsigned access, const struct t_access_result *seen)
{
    if (seen->vector != T_ACCESS_END) {
        return false;
    }
    if ((access & T_MMU_WRITE) != 0) {
        return *r->lab.page == T_ACCESS_STORED;
    }
    return (access & T_MMU_FETCH) != 0 ? seen->rip == r->lab.window + 1
                                       : (uint8_t)seen->value == T_ACCESS_OPCODE;
}

// Whether what was seen is what the simulated MMU expects, but for one deviation.
static bool agrees(const struct run *r, const struct t_truth_case *c, enum deviation deviation,
                   const struct t_access_result *seen)
{
    const struct t_mmu_walk *walk = &r->walk[deviation];
    struct t_truth_outcome wanted = t_truth_judge(&r->lab.mmu, walk, c->access);

    if (deviation == RSVD_WITHOUT_P && (wanted.error & T_MMU_ERR_RSVD) != 0) {
        wanted.error &= ~T_MMU_ERR_P;
    }
    if (!entries_right(r, &c->table, !wanted.fault, walk->last, (c->access & T_MMU_WRITE) != 0)) {
        return false;
    }
    if (wanted.fault) {
        return seen->vector == TRAP_PAGE_FAULT && seen->error == wanted.error &&
               seen->address == r->lab.window && *r->lab.page == T_ACCESS_OPCODE;
    }
    return passed_right(r, c->access, seen);
}

static void report(struct run *r, const struct t_truth_case *c, const struct t_access_result *seen)
{
    struct t_truth_outcome wanted = t_truth_judge(&r->lab.mmu, &r->walk[NONE], c->access);

    r->nr_wrong++;
    if (r->nr_wrong > PRINTED_MAX) {
        return;
    }
    t_truth_print(&r->truth, c, log_print);
    log_print("    simulated MMU: %s, error 0x%x\n", wanted.fault ? "page fault" : "no fault",
              wanted.error);
    log_print("    CPU: vector %lu, error 0x%lx, CR2 0x%lx, rip 0x%lx, loaded 0x%lx\n",
              seen->vector, seen->error, seen->address, seen->rip, seen->value & 0xff);
    log_print("    entries after:");
    for (unsigned level = r->lab.levels; level-- > c->table.leaf;) {
        log_print(" 0x%lx", *r->lab.slot[level]);
    }
    log_print("; replay with the option truth%s=%lu\n", r->lab.levels == 5 ? "5" : "", c->number);
}

// One case; its tables and registers are set.
static void try_access(struct run *r, const struct t_truth_case *c)
{
    struct t_access_result seen;
    enum deviation deviation = NONE;

    lab_access(&r->lab, c->access, &seen);
    while (deviation < NR_DEVIATIONS && !agrees(r, c, deviation, &seen)) {
        deviation++;
    }
    r->nr_cases++;
    r->nr_passes += seen.vector == T_ACCESS_END;
    if (deviation < NR_DEVIATIONS) {
        r->nr_deviates[deviation]++;
    } else {
        report(r, c, &seen);
    }
    write_entries(r, &c->table);
    *r->lab.page = T_ACCESS_OPCODE;
}

static void try_table(struct run *r, unsigned setting, uint64_t table)
{
    struct t_truth_case c = {.regs = r->truth.regs[setting]};

    t_truth_table(&r->truth, table, &c.table);
    build(r, &c.table);
    for (unsigned access = 0; access < T_TRUTH_ACCESSES; access++) {
        c.access = t_truth_access(access);
        c.number = t_truth_number(&r->truth, setting, table, access);
        try_access(r, &c);
    }
}

// Every `good`th table of those without a stop, every `stops`th of the others, shifted with the
// registers so that all tables have their turn.
static void try_tables(struct run *r, uint64_t good, uint64_t stops)
{
    for (unsigned setting = 0; setting < r->truth.nr_regs; setting++) {
        lab_set_regs(&r->lab, r->truth.regs[setting]);
        for (uint64_t i = setting % good; i < r->truth.nr_good; i += good) {
            try_table(r, setting, i);
        }
        for (uint64_t i = r->truth.nr_good + setting % stops; i < r->truth.nr_tables; i += stops) {
            try_table(r, setting, i);
        }
    }
}

static void try_one(struct run *r, uint64_t number)
{
    struct t_truth_case c;

    t_truth_case(&r->truth, number, &c);
    lab_set_regs(&r->lab, c.regs);
    build(r, &c.table);
    try_access(r, &c);
}

static void try_as_asked(struct run *r, enum options_truth what, uint64_t number)
{
    const unsigned tables = r->lab.levels == 5 ? 8 : 1; // so many times as many

    switch (what) {
    case OPTIONS_TRUTH_SAMPLE:
        try_tables(r, 13 * tables, 211 * tables);
        break;
    case OPTIONS_TRUTH_ALL:
        try_tables(r, 1, 1);
        break;
    case OPTIONS_TRUTH_ONE:
        if (number < r->truth.nr_cases) {
            try_one(r, number);
        }
        break;
    }
}

static void print_summary(const struct run *r)
{
    log_print("truth   %u levels: %lu of %lu cases, %lu let through\n", r->lab.levels, r->nr_cases,
              r->truth.nr_cases, r->nr_passes);
    log_print("truth   known deviations: %lu RSVD without P, %lu 1 GiB leaf without the feature\n",
              r->nr_deviates[RSVD_WITHOUT_P], r->nr_deviates[ALWAYS_1G]);
}

// All frames come back, and each case is as the simulated MMU says.
static bool try_levels(struct memory *m, unsigned levels, enum options_truth what, uint64_t number)
{
    static struct run r;

    r = (struct run){0};
    t_truth_init(&r.truth, levels, m->arch.features.paddr_bits, m->arch.features.page_1g,
                 regs_of(m));
    lab_init(&r.lab, m, levels);
    lab_enter(&r.lab);
    try_as_asked(&r, what, number);
    lab_leave(&r.lab);
    lab_destroy(&r.lab);
    print_summary(&r);
    return r.nr_cases > 0 && r.nr_wrong == 0;
}

static void print_lacks(struct memory *m)
{
    const struct mm_x86_64_features *has = &m->arch.features;
    bool all = has->smep && has->smap && has->nx && has->page_1g && has->la57;

    log_print("truth   left out, for the CPU lacks it:%s%s%s%s%s%s\n", has->smep ? "" : " SMEP",
              has->smap ? "" : " SMAP", has->nx ? "" : " NXE", has->page_1g ? "" : " 1 GiB pages",
              has->la57 ? "" : " 5 levels", all ? " nothing" : "");
}

void checks_truth(struct memory *m, const struct options *options)
{
    uint64_t before = memory_nr_free(m);
    bool five = options->truth_5_levels;

    check_theme("the permission truth table");
    CHECK("CPU and simulated MMU agree in each case of the truth table",
          try_levels(m, 4, five ? OPTIONS_TRUTH_SAMPLE : options->truth, options->truth_case));
    if (m->arch.features.la57) {
        CHECK("and with 5 levels of tables",
              try_levels(m, 5, five ? options->truth : OPTIONS_TRUTH_SAMPLE, options->truth_case));
    }
    print_lacks(m);
    CHECK("the truth table returns its frames", memory_nr_free(m) == before);
}
