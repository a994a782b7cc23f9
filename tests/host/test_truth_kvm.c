// SPDX-License-Identifier: MIT
/**
 * The permission truth table against the walker behind /dev/kvm: an independent implementation of
 * the manual, not necessarily silicon. Hazards 10, 11.
 *
 * The tables of all cases stand at once: each level has one table, in which slot n holds letter n,
 * and an address is the letters of its case. Nothing is changed while the machine runs, so the host
 * needs no way to tell KVM that it has changed a guest's tables.
 *
 * Where there is no KVM the test says so and is skipped.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kvm_vm.h"
#include "truth.h"

#define LEVELS 4u
#define TABLES T_KVM_FREE
#define PAGE   (T_KVM_FREE + 0x10000)
#define ROOT   (TABLES + 0x1000 * (LEVELS - 1))

#define PF_FAULT    14u
#define PRINTED_MAX 5u

struct world {
    struct t_kvm vm;
    struct t_truth truth;
    struct t_truth_site site;
    struct t_mmu mmu;
    uint64_t nr_cases;
    uint64_t nr_passes;
    uint64_t nr_wrong;
    bool seen[8 * 8 * 8 * 8 + 8 * 8 * 8 + 8 * 8]; /* good tables */
};

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

    return paddr < T_KVM_MEMORY ? (uint64_t *)(void *)(w->vm.memory + paddr) : NULL;
}

static void build(struct world *w)
{
    w->site.page = PAGE;
    for (unsigned level = 0; level < LEVELS; level++) {
        w->site.table[level] = TABLES + 0x1000 * (uint64_t)level;
    }
    for (unsigned level = 0; level < LEVELS; level++) {
        unsigned nr = t_truth_nr_letters(&w->truth, level);

        assert_true(nr < 256); /* one canonical half */
        for (unsigned letter = 0; letter < nr; letter++) {
            *entry_of(w, w->site.table[level] + 8 * letter) =
                t_truth_entry(&w->site, level, t_truth_letter(&w->truth, level, letter));
        }
    }
    w->vm.memory[PAGE] = T_KVM_HALT;
}

static uint64_t address_of(const struct t_truth_table *t)
{
    uint64_t at = PAGE & (t_mmu_span(t->leaf) - 1);

    for (unsigned level = t->leaf; level < t->levels; level++) {
        at |= t->letter[level] * t_mmu_span(level);
    }
    return at;
}

static bool agrees(struct world *w, const struct t_truth_case *c, uint64_t at,
                   struct t_truth_outcome wanted, const struct t_access_result *seen)
{
    uint8_t now = w->vm.memory[PAGE];

    w->vm.memory[PAGE] = T_KVM_HALT;
    if (wanted.fault) {
        return seen->vector == PF_FAULT && seen->error == wanted.error && seen->address == at &&
               now == T_KVM_HALT;
    }
    w->nr_passes++;
    if (seen->vector != T_ACCESS_END) {
        return false;
    }
    if ((c->access & T_MMU_WRITE) != 0) {
        return now == T_ACCESS_STORED;
    }
    return (c->access & T_MMU_FETCH) != 0 || (uint8_t)seen->value == T_KVM_HALT;
}

static void try_case(struct world *w, const struct t_truth_case *c)
{
    uint64_t at = address_of(&c->table);
    struct t_mmu_walk walk;
    struct t_truth_outcome wanted;
    struct t_access_result seen;
    const char *died = t_kvm_access(&w->vm, at, c->access, &seen);

    if (died != NULL) {
        t_truth_print(&w->truth, c, print);
        fail_msg("after %llu cases: %s", (unsigned long long)w->nr_cases, died);
    }
    w->nr_cases++;
    t_mmu_walk(&w->mmu, at, &walk);
    wanted = t_truth_judge(&w->mmu, &walk, c->access);
    if (!agrees(w, c, at, wanted, &seen) && w->nr_wrong++ < PRINTED_MAX) {
        t_truth_print(&w->truth, c, print);
        print("    simulated MMU: %s, error %#x\n", wanted.fault ? "page fault" : "no fault",
              wanted.error);
        print("    KVM: vector %llu, error %#llx, CR2 %#llx, rip %#llx, loaded %#llx; at %#llx\n",
              (unsigned long long)seen.vector, (unsigned long long)seen.error,
              (unsigned long long)seen.address, (unsigned long long)seen.rip,
              (unsigned long long)(seen.value & 0xff), (unsigned long long)at);
    }
}

static void set_regs(struct world *w, unsigned regs)
{
    t_truth_set_regs(&w->mmu, regs);
    t_kvm_set_regs(&w->vm, (regs & T_TRUTH_WP) != 0, (regs & T_TRUTH_SMEP) != 0,
                   (regs & T_TRUTH_SMAP) != 0, (regs & T_TRUTH_NXE) != 0);
}

/* Every `stride`th pair of table and access; the registers share the remainders of `stride`. */
static void try_range(struct world *w, unsigned setting, uint64_t first, uint64_t end,
                      uint64_t stride)
{
    struct t_truth_case c = {.regs = w->truth.regs[setting]};
    uint64_t shift = setting * stride / w->truth.nr_regs;

    for (uint64_t i = first * T_TRUTH_ACCESSES + shift; i < end * T_TRUTH_ACCESSES; i += stride) {
        t_truth_table(&w->truth, i / T_TRUTH_ACCESSES, &c.table);
        c.access = t_truth_access((unsigned)(i % T_TRUTH_ACCESSES));
        c.number = t_truth_number(&w->truth, setting, i / T_TRUTH_ACCESSES,
                                  (unsigned)(i % T_TRUTH_ACCESSES));
        try_case(w, &c);
        if (i / T_TRUTH_ACCESSES < w->truth.nr_good) {
            w->seen[i / T_TRUTH_ACCESSES] = true;
        }
    }
}

/* Every combination of permissions has been tried at least once. */
static void all_permissions_seen(const struct world *w)
{
    for (uint64_t i = 0; i < w->truth.nr_good; i++) {
        if (!w->seen[i]) {
            fail_msg("table %llu has not been tried", (unsigned long long)i);
        }
    }
}

/* KVM has changed nothing in the tables but accessed and dirty, and nothing at all in entries that
 * end a walk. */
static void tables_untouched(struct world *w)
{
    for (unsigned level = 0; level < LEVELS; level++) {
        for (unsigned letter = 0; letter < t_truth_nr_letters(&w->truth, level); letter++) {
            uint64_t was = t_truth_entry(&w->site, level, t_truth_letter(&w->truth, level, letter));
            uint64_t now = *entry_of(w, w->site.table[level] + 8 * letter);
            bool leads_on = (was & T_MMU_P) != 0 && t_mmu_reserved(&w->mmu, was, level) == 0;
            bool leaf = level == 0 || (was & T_MMU_PS) != 0;
            uint64_t may = !leads_on ? 0 : leaf ? T_MMU_A | T_MMU_D : T_MMU_A;

            if (((now ^ was) & ~may) != 0) {
                fail_msg("entry %#llx of level %u has become %#llx", (unsigned long long)was, level,
                         (unsigned long long)now);
            }
        }
    }
}

static unsigned regs_of(const struct t_kvm *vm)
{
    return T_TRUTH_WP | (vm->has_nx ? T_TRUTH_NXE : 0) | (vm->has_smep ? T_TRUTH_SMEP : 0) |
           (vm->has_smap ? T_TRUTH_SMAP : 0);
}

static void test_kvm_walker(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    bool full = getenv("MM_TEST_FULL") != NULL;
    const char *why;

    (void)state;
    assert_non_null(w);
    why = t_kvm_open(&w->vm, ROOT);
    if (why != NULL) {
        print_message("KVM walker: not available: %s\n", why);
        free(w);
        skip();
    }
    t_truth_init(&w->truth, LEVELS, w->vm.paddr_bits, w->vm.has_1g, regs_of(&w->vm));
    build(w);
    w->mmu = (struct t_mmu){
        .cr0 = T_MMU_CR0_PG,
        .cr3 = ROOT,
        .cr4 = T_MMU_CR4_PAE,
        .paddr_bits = w->vm.paddr_bits,
        .has_1g = w->vm.has_1g,
        .ctx = w,
        .entry = entry_of,
    };
    assert_true(w->truth.nr_good <= sizeof(w->seen));
    for (unsigned setting = 0; setting < w->truth.nr_regs; setting++) {
        set_regs(w, w->truth.regs[setting]);
        try_range(w, setting, 0, w->truth.nr_good, full ? 1 : 31);
        try_range(w, setting, w->truth.nr_good, w->truth.nr_tables, full ? 31 : 1009);
    }
    print_message("KVM walker: %llu of %llu cases, %llu let through, %llu otherwise; registers "
                  "varied: WP%s%s%s; MAXPHYADDR %u, %s1 GiB pages\n",
                  (unsigned long long)w->nr_cases, (unsigned long long)w->truth.nr_cases,
                  (unsigned long long)w->nr_passes, (unsigned long long)w->nr_wrong,
                  w->vm.has_nx ? " NXE" : "", w->vm.has_smep ? " SMEP" : "",
                  w->vm.has_smap ? " SMAP" : "", w->vm.paddr_bits, w->vm.has_1g ? "" : "no ");
    assert_int_equal(w->nr_wrong, 0);
    all_permissions_seen(w);
    set_regs(w, regs_of(&w->vm)); /* NX counts as reserved no more */
    tables_untouched(w);
    t_kvm_close(&w->vm);
    free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kvm_walker),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
