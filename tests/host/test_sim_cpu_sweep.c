// SPDX-License-Identifier: MIT
/**
 * What the sweep of the simulated CPUs finds: each contradiction that it knows, made by hand; that
 * it misses none which a sweep without memory would find; and what the tables of instructions do on
 * one CPU and on all.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sim_cpu_mm.h"
#include "sim_cpu_rig.h"

static int start(void **state)
{
    static struct rig rig;

    rig_start(&rig, 4, NULL);
    *state = &rig;
    return 0;
}

static int stop(void **state)
{
    rig_stop(*state);
    return 0;
}

/* --- each sentence --------------------------------------------------------------------------- */

enum { FRAME, RIGHT, MORE, TYPE, SIZE, ABSENT, GLOBAL, RESERVED, NR_CHANGES };

static const struct {
    const char *safe; /* what is found while staleness of the harmless kind is allowed; NULL: no */
    const char *same;
} changes[NR_CHANGES] = {
    [FRAME] = {"translates to another frame", "translates to another frame"},
    [RIGHT] = {"gives a right that is gone", "gives a right that is gone"},
    [MORE] = {NULL, "withholds a right"},
    [TYPE] = {"has another memory type", "has another memory type"},
    [SIZE] = {NULL, "holds another size of leaf"},
    [ABSENT] = {"translates what is not mapped", "translates what is not mapped"},
    [GLOBAL] = {NULL, "disagrees about global"},
    [RESERVED] = {"translates what is not mapped", "translates what is not mapped"},
};

static void change(struct rig *rig, uint64_t *leaf, unsigned what)
{
    uint64_t old = *leaf;

    switch (what) {
    case FRAME:
        *leaf += P2M;
        break;
    case RIGHT:
        *leaf &= ~T_MMU_US;
        break;
    case MORE:
        *leaf &= ~T_MMU_NX;
        break;
    case TYPE:
        *leaf |= T_MMU_PCD;
        break;
    case SIZE: /* the same frames, in small */
        *leaf = rig_table(rig) | RIG_TABLE;
        for (uint64_t i = 0; i < 512; i++) {
            rig_word(rig, *leaf & T_MMU_ADDRESS)[i] = (old & ~T_MMU_PS) + i * P4K;
        }
        break;
    case ABSENT:
        *leaf &= ~T_MMU_P;
        break;
    case GLOBAL:
        *leaf |= T_MMU_G;
        break;
    default:
        *leaf |= UINT64_C(1) << 51;
        break;
    }
}

static void test_each_contradiction_of_the_tlb(void **state)
{
    struct rig *rig = *state;
    struct t_cpu *cpu = rig->cpu;

    for (unsigned what = 0; what < NR_CHANGES; what++) {
        uint64_t at = P1G * (what + 1);
        uint64_t *leaf = rig_map(rig, cpu->mmu.cr3, at, P1G, 1, RIG_LEAF | T_MMU_NX);
        uint64_t old;

        assert_int_equal(rig_load(cpu, at), P1G);
        assert_null(t_cpus_sweep(&rig->cpus, T_SWEEP_SAME));
        old = *leaf;
        change(rig, leaf, what);
        assert_null(t_cpus_sweep(&rig->cpus, T_SWEEP_FREED));
        if (changes[what].safe != NULL) {
            rig_wrong(rig, T_SWEEP_SAFE, changes[what].safe);
        } else {
            assert_null(t_cpus_sweep(&rig->cpus, T_SWEEP_SAFE));
        }
        rig_wrong(rig, T_SWEEP_SAME, changes[what].same);
        *leaf = old;
        assert_null(t_cpus_sweep(&rig->cpus, T_SWEEP_SAME));
    }
}

static void test_each_contradiction_of_the_other_caches(void **state)
{
    struct rig *rig = *state;
    struct t_cpu *cpu = rig->cpu;
    uint64_t spare = rig_table(rig);

    for (unsigned level = 1; level < 4; level++) {
        uint64_t *entry;
        uint64_t old;

        t_cpu_drop_all(cpu);
        assert_int_equal(rig_touch(cpu, 0, 0), 0);
        rig_map(rig, cpu->mmu.cr3, 0, P1G, 0, RIG_LEAF);
        assert_int_equal(rig_load(cpu, 0), P1G);
        cpu->tlb_used = 0; /* only the ways are left */
        memset(cpu->tlb_nr, 0, sizeof(cpu->tlb_nr));
        entry = rig_entry(rig, cpu->mmu.cr3, 0, level);
        old = *entry;
        *entry = spare | RIG_TABLE;
        rig_wrong(rig, T_SWEEP_SAFE, "leads to a");
        *entry = old & ~T_MMU_RW;
        rig_wrong(rig, T_SWEEP_SAFE, "gives a right that is gone");
        *entry = 0;
        rig_wrong(rig, T_SWEEP_SAFE, "leads to a table that is gone");
        *entry = old;
        assert_null(t_cpus_sweep(&rig->cpus, T_SWEEP_SAME));
        rig->freed[(old & T_MMU_ADDRESS) / P4K] = true;
        assert_non_null(t_cpus_freed(&rig->cpus, old & T_MMU_ADDRESS));
        rig_wrong(rig, T_SWEEP_FREED, "a table that is free");
        rig->freed[(old & T_MMU_ADDRESS) / P4K] = false;
        rig_map(rig, cpu->mmu.cr3, 0, P1G, 0, 0);
    }
    assert_non_null(t_cpus_freed(&rig->cpus, cpu->mmu.cr3)); /* its root */
    rig->freed[cpu->mmu.cr3 / P4K] = true;
    rig_wrong(rig, T_SWEEP_FREED, "its root");
}

/* A frame that is freed while it is cached; and one that is reached after it was. */
static void test_freed_frames(void **state)
{
    struct rig *rig = *state;
    uint64_t frame = rig_table(rig);
    uint64_t other = rig_table(rig);
    const char *wrong;

    rig_map(rig, rig->cpu->mmu.cr3, P2M, frame, 0, RIG_LEAF);
    rig_map(rig, rig->cpu->mmu.cr3, P2M + P4K, other, 0, RIG_LEAF);
    (void)rig_load(rig->cpu, P2M);
    assert_null(t_cpus_freed(&rig->cpus, other));
    wrong = t_cpus_freed(&rig->cpus, frame);
    assert_non_null(wrong);
    assert_non_null(strstr(wrong, "CPU 0, PCID 0: the TLB translates 0x200000"));
    rig->freed[frame / P4K] = true;
    rig_wrong(rig, T_SWEEP_FREED, "leads to what is free");
    t_cpu_invlpg(rig->cpu, P2M);
    assert_null(t_cpus_sweep(&rig->cpus, T_SWEEP_SAME));
    (void)rig_load(rig->cpu, P2M); /* the tables lead there, but that is no better */
    rig_wrong(rig, T_SWEEP_FREED, "which is free");
    t_cpu_invlpg(rig->cpu, P2M);
    assert_null(t_cpus_sweep(&rig->cpus, T_SWEEP_SAME));
}

/* Entries of other PCIDs belong to the roots that were loaded with them. */
static void test_roots_of_other_pcids(void **state)
{
    struct rig *rig = *state;
    struct t_cpu *cpu = rig->cpu;
    uint64_t root[2] = {rig_table(rig), rig_table(rig)};
    uint64_t *leaf = rig_map(rig, root[0], P2M, P1G, 0, RIG_LEAF);

    rig_map(rig, root[1], P2M, 2 * P1G, 0, RIG_LEAF);
    t_cpu_write_cr(cpu, 4, cpu->mmu.cr4 | T_MMU_CR4_PCIDE);
    t_cpu_write_cr(cpu, 3, root[0] | 1);
    assert_int_equal(rig_load(cpu, P2M), P1G);
    t_cpu_write_cr(cpu, 3, root[1] | 2);
    assert_int_equal(rig_load(cpu, P2M), 2 * P1G);
    assert_null(t_cpus_sweep(&rig->cpus, T_SWEEP_SAME));
    *leaf ^= T_MMU_NX;
    rig_wrong(rig, T_SWEEP_SAME, "PCID 1");
    /* Given up: not compared, until it is loaded again without a flush. */
    t_cpus_retire_pcid(&rig->cpus, 1);
    assert_null(t_cpus_sweep(&rig->cpus, T_SWEEP_SAME));
    assert_null(t_cpus_holds(&rig->cpus, P1G, P4K));
    t_cpu_write_cr(cpu, 3, root[0] | 1 | UINT64_C(1) << 63);
    rig_wrong(rig, T_SWEEP_SAME, "PCID 1");
    t_cpu_write_cr(cpu, 3, root[1] | 1 | UINT64_C(1) << 63); /* reused for another root */
    rig_wrong(rig, T_SWEEP_SAME, "translates to another frame");
    t_cpu_write_cr(cpu, 3, root[1] | 1);
    assert_null(t_cpus_sweep(&rig->cpus, T_SWEEP_SAME));
}

/* A register changes what cached types and rights mean: the memory of the sweep counts no more. */
static void test_registers_are_part_of_it(void **state)
{
    struct rig *rig = *state;

    rig_map(rig, rig->cpu->mmu.cr3, P2M, P1G, 0, RIG_LEAF | T_MMU_PCD);
    (void)rig_load(rig->cpu, P2M);
    assert_null(t_cpus_sweep(&rig->cpus, T_SWEEP_SAME));
    t_cpu_wrmsr(rig->cpu, T_MSR_PAT, UINT64_C(0x0007040600010406));
    rig_wrong(rig, T_SWEEP_SAME, "has another memory type");
    t_cpu_write_cr(rig->cpu, 3, rig->cpu->mmu.cr3);
    (void)rig_load(rig->cpu, P2M);
    assert_null(t_cpus_sweep(&rig->cpus, T_SWEEP_SAME));
}

/* --- with memory and without ----------------------------------------------------------------- */

/* Random bits of random entries change and change back; the sweep that remembers agrees with one
 * that has forgotten all. */
static void test_memory_misses_nothing(void **state)
{
    struct rig *rig = *state;
    struct t_prng prng;
    unsigned nr_wrong = 0;

    t_prng_start(&prng, "sweep");
    rig->cpus.told = true;
    for (unsigned i = 0; i < 4; i++) {
        rig->cpus.cpu[i].mmu.cr3 = rig->cpu->mmu.cr3;
    }
    for (uint64_t i = 0; i < 40; i++) {
        rig_map(rig, rig->cpu->mmu.cr3, i * 5 * P2M, i * P1G, i % 5 == 0 ? 1 : 0, RIG_LEAF);
    }
    t_cpus_noise(&rig->cpus, 5, 6);
    for (unsigned i = 0; i < 20000; i++) {
        uint64_t at = t_prng_below(&prng, 40) * 5 * P2M;
        unsigned level = (unsigned)t_prng_range(&prng, at % (25 * P2M) == 0 ? 1 : 0, 3);
        uint64_t *entry = rig_entry(rig, rig->cpu->mmu.cr3, at, level);
        uint64_t old = *entry;
        bool remembered;

        (void)rig_load(&rig->cpus.cpu[t_prng_below(&prng, 4)], at);
        (void)rig_touch(&rig->cpus.cpu[t_prng_below(&prng, 4)], at, T_MMU_USER | T_MMU_WRITE);
        assert_null(t_cpus_sweep(&rig->cpus, T_SWEEP_SAME));
        *entry ^= UINT64_C(1) << t_prng_below(&prng, 64);
        if ((*entry & T_MMU_PS) != 0 && level == 1 && (old & T_MMU_PS) == 0) {
            *entry = old;
        }
        remembered = t_cpus_sweep(&rig->cpus, T_SWEEP_SAME) != NULL;
        for (unsigned n = 0; n < 4; n++) {
            rig->cpus.cpu[n].epoch += 1000;
        }
        assert_int_equal(t_cpus_sweep(&rig->cpus, T_SWEEP_SAME) != NULL, remembered);
        nr_wrong += remembered ? 1 : 0;
        *entry = old | (*entry & T_MMU_A) | T_MMU_A; /* a walk may have set it meanwhile */
        if (level == 0 || (old & T_MMU_PS) != 0) {
            *entry |= T_MMU_D;
        }
    }
    assert_true(nr_wrong > 5000 && nr_wrong < 20000);
}

/* --- the tables of instructions -------------------------------------------------------------- */

static void all_load(struct rig *rig, uint64_t at)
{
    for (unsigned i = 0; i < 4; i++) {
        rig->cpus.cpu[i].mmu.cr3 = rig->cpu->mmu.cr3;
        (void)rig_load(&rig->cpus.cpu[i], at);
    }
}

/* Which CPUs still have translations. */
static unsigned who(const struct rig *rig)
{
    unsigned mask = 0;

    for (unsigned i = 0; i < 4; i++) {
        mask |= rig->cpus.cpu[i].tlb_used != 0 ? 1u << i : 0;
    }
    return mask;
}

static void invalidate(struct rig *rig, const struct mm_x86_64_cpu_ops *ops, unsigned how)
{
    uint64_t cr4 = ops->read_cr(&rig->cpus, 4);

    switch (how) {
    case 0:
        ops->invlpg(&rig->cpus, P2M);
        break;
    case 1:
        ops->invpcid(&rig->cpus, 2, 0, 0);
        break;
    case 2:
        ops->write_cr(&rig->cpus, 3, ops->read_cr(&rig->cpus, 3));
        break;
    default:
        ops->write_cr(&rig->cpus, 4, cr4 & ~T_MMU_CR4_PGE);
        ops->write_cr(&rig->cpus, 4, cr4);
        break;
    }
}

static void test_one_cpu_and_all(void **state)
{
    struct rig *rig = *state;
    uint64_t cr4 = rig->cpu->mmu.cr4;
    uint64_t other = rig_table(rig);

    rig_map(rig, rig->cpu->mmu.cr3, P2M, P1G, 0, RIG_LEAF);
    rig->cpus.now = 2;
    for (unsigned how = 0; how < 4; how++) {
        all_load(rig, P2M);
        invalidate(rig, &t_cpu_ops, how);
        assert_int_equal(who(rig), 0xb);
        all_load(rig, P2M);
        invalidate(rig, &t_cpu_broadcast_ops, how);
        assert_int_equal(who(rig), 0);
        for (unsigned i = 0; i < 4; i++) { /* nobody else's registers change */
            assert_int_equal(rig->cpus.cpu[i].mmu.cr3, rig->cpu->mmu.cr3);
            assert_int_equal(rig->cpus.cpu[i].mmu.cr4, cr4);
        }
    }
    assert_int_equal(rig->cpus.cpu[2].nr_invlpg, 2);
    assert_int_equal(rig->cpus.cpu[3].nr_invlpg, 1);
    /* Another root is loaded by one CPU alone, and only that one forgets. */
    all_load(rig, P2M);
    t_cpu_broadcast_ops.write_cr(&rig->cpus, 3, other);
    assert_int_equal(who(rig), 0xb);
    assert_int_equal(rig->cpus.cpu[2].mmu.cr3, other);
    assert_int_not_equal(rig->cpus.cpu[3].mmu.cr3, other);
    assert_int_equal(t_cpu_broadcast_ops.cpuid(&rig->cpus, 0, 0).eax, 7);
    t_cpu_broadcast_ops.write_msr(&rig->cpus, T_MSR_PAT, 0);
    assert_int_equal(t_cpu_ops.read_msr(&rig->cpus, T_MSR_PAT), 0);
    assert_int_equal(rig->cpu->mmu.pat, T_PAT_RESET);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_each_contradiction_of_the_tlb, start, stop),
        cmocka_unit_test_setup_teardown(test_each_contradiction_of_the_other_caches, start, stop),
        cmocka_unit_test_setup_teardown(test_freed_frames, start, stop),
        cmocka_unit_test_setup_teardown(test_roots_of_other_pcids, start, stop),
        cmocka_unit_test_setup_teardown(test_registers_are_part_of_it, start, stop),
        cmocka_unit_test_setup_teardown(test_memory_misses_nothing, start, stop),
        cmocka_unit_test_setup_teardown(test_one_cpu_and_all, start, stop),
    };

    return cmocka_run_group_tests_name("sim_cpu_sweep", tests, NULL, NULL);
}
