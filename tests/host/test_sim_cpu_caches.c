// SPDX-License-Identifier: MIT
/**
 * What a simulated CPU keeps, what drops it, and what the sweep says of it. SDM vol. 3A, 4.10.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "hash.h"
#include "sim_cpu_rig.h"

/* --- instruction by kind of entry ------------------------------------------------------------ */

/*
 * Four translations: the page and another one under the current PCID, the page under another PCID,
 * a global one; and ways into walks of both PCIDs, to the page and elsewhere.
 */
enum kind {
    OWN = 1,       /* the page, PCID 1 */
    NEIGHBOUR = 2, /* another page, PCID 1 */
    OTHER = 4,     /* the page, PCID 2 */
    GLOBAL = 8,    /* global, filled under PCID 2 */
    WAYS = 16,     /* of PCID 1, to the page */
    WAYS_FAR = 32, /* of PCID 1, to the neighbour */
    WAYS_OTHER = 64,
    ALL = 127,
};

#define PAGE_AT      P2M
#define NEIGHBOUR_AT (P1G * 600)
#define GLOBAL_AT    (UINT64_C(0xffff800000000000) + 3 * P2M)

struct scene {
    struct rig rig;
    struct t_cpu *cpu;
    uint64_t root[3]; /* by PCID */
};

static bool tlb_has(const struct t_cpu *cpu, uint64_t at, unsigned pcid)
{
    for (unsigned n = 0; n < T_TLB_ENTRIES; n++) {
        if ((cpu->tlb_used >> n & 1) != 0 && at - cpu->tlb[n].start < cpu->tlb[n].size &&
            cpu->tlb[n].pcid == pcid) {
            return true;
        }
    }
    return false;
}

static bool psc_has(const struct t_cpu *cpu, uint64_t at, unsigned pcid)
{
    for (unsigned n = 0; n < T_PSC_ENTRIES; n++) {
        uint64_t span = t_mmu_span(n / T_PSC_WAYS + 1);

        if ((cpu->psc_used >> n & 1) != 0 && at - cpu->psc[n].start < span &&
            cpu->psc[n].pcid == pcid) {
            return true;
        }
    }
    return false;
}

static unsigned present(const struct scene *s)
{
    return (tlb_has(s->cpu, PAGE_AT, 1) ? OWN : 0u) |
           (tlb_has(s->cpu, NEIGHBOUR_AT, 1) ? NEIGHBOUR : 0u) |
           (tlb_has(s->cpu, PAGE_AT, 2) ? OTHER : 0u) |
           (tlb_has(s->cpu, GLOBAL_AT, 2) ? GLOBAL : 0u) |
           (psc_has(s->cpu, PAGE_AT, 1) ? WAYS : 0u) |
           (psc_has(s->cpu, NEIGHBOUR_AT, 1) ? WAYS_FAR : 0u) |
           (psc_has(s->cpu, PAGE_AT, 2) ? WAYS_OTHER : 0u);
}

/* PCID 1 is in use at the end, with all of it cached. */
static void scene_start(struct scene *s, unsigned level)
{
    rig_start(&s->rig, 1, NULL);
    s->cpu = s->rig.cpu;
    s->cpu->mmu.cr4 |= T_MMU_CR4_PCIDE;
    for (unsigned pcid = 1; pcid < 3; pcid++) {
        s->root[pcid] = rig_table(&s->rig);
        rig_map(&s->rig, s->root[pcid], level == 2 ? 0 : PAGE_AT, P1G * pcid, level, RIG_LEAF);
        rig_map(&s->rig, s->root[pcid], GLOBAL_AT, 5 * P1G, 0, RIG_LEAF | T_MMU_G);
    }
    rig_map(&s->rig, s->root[1], NEIGHBOUR_AT, 3 * P1G, 0, RIG_LEAF);
    t_cpu_write_cr(s->cpu, 3, s->root[2] | 2);
    (void)rig_load(s->cpu, PAGE_AT);
    (void)rig_load(s->cpu, GLOBAL_AT);
    t_cpu_write_cr(s->cpu, 3, s->root[1] | 1);
    (void)rig_load(s->cpu, PAGE_AT);
    (void)rig_load(s->cpu, NEIGHBOUR_AT);
    assert_int_equal(present(s), ALL);
}

enum instruction {
    NOTHING,
    CR0_WP,
    CR3_OWN,
    CR3_OTHER,
    CR3_OWN_NOFLUSH,
    CR4_PGE,
    CR4_PCIDE,
    CR4_SMEP_ON,
    CR4_SMEP_OFF,
    CR4_SMAP,
    INVLPG_PAGE,
    INVLPG_GLOBAL,
    INVLPG_BESIDE,
    INVPCID_PAGE,
    INVPCID_PAGE_OTHER,
    INVPCID_GLOBAL_PAGE,
    INVPCID_CONTEXT,
    INVPCID_CONTEXT_OTHER,
    INVPCID_ALL,
    INVPCID_ALL_NOT_GLOBAL,
    WRMSR_PAT,
    WRMSR_EFER,
    PAGE_FAULT,
    NR_INSTRUCTIONS,
};

static void execute(struct scene *s, enum instruction what)
{
    struct t_cpu *cpu = s->cpu;
    uint64_t cr4 = cpu->mmu.cr4;

    switch (what) {
    case CR0_WP:
        t_cpu_write_cr(cpu, 0, cpu->mmu.cr0 ^ T_MMU_CR0_WP);
        break;
    case CR3_OWN:
        t_cpu_write_cr(cpu, 3, s->root[1] | 1);
        break;
    case CR3_OTHER:
        t_cpu_write_cr(cpu, 3, s->root[2] | 2);
        break;
    case CR3_OWN_NOFLUSH:
        t_cpu_write_cr(cpu, 3, s->root[1] | 1 | UINT64_C(1) << 63);
        break;
    case CR4_PGE:
        t_cpu_write_cr(cpu, 4, cr4 & ~T_MMU_CR4_PGE);
        break;
    case CR4_PCIDE:
        t_cpu_write_cr(cpu, 4, cr4 & ~T_MMU_CR4_PCIDE);
        break;
    case CR4_SMEP_ON:
        t_cpu_write_cr(cpu, 4, cr4 | T_MMU_CR4_SMEP);
        break;
    case CR4_SMEP_OFF:
        cpu->mmu.cr4 |= T_MMU_CR4_SMEP;
        t_cpu_write_cr(cpu, 4, cr4);
        break;
    case CR4_SMAP:
        t_cpu_write_cr(cpu, 4, cr4 ^ T_MMU_CR4_SMAP);
        break;
    case INVLPG_PAGE:
        t_cpu_invlpg(cpu, PAGE_AT + 77);
        break;
    case INVLPG_GLOBAL:
        t_cpu_invlpg(cpu, GLOBAL_AT + P4K - 1);
        break;
    case INVLPG_BESIDE:
        t_cpu_invlpg(cpu, GLOBAL_AT + P4K);
        break;
    case INVPCID_PAGE:
    case INVPCID_PAGE_OTHER:
        t_cpu_invpcid(cpu, 0, what == INVPCID_PAGE ? 1 : 2, PAGE_AT);
        break;
    case INVPCID_GLOBAL_PAGE:
        t_cpu_invpcid(cpu, 0, 2, GLOBAL_AT);
        break;
    case INVPCID_CONTEXT:
    case INVPCID_CONTEXT_OTHER:
        t_cpu_invpcid(cpu, 1, what == INVPCID_CONTEXT ? 1 : 2, 0);
        break;
    case INVPCID_ALL:
        t_cpu_invpcid(cpu, 2, 0, 0);
        break;
    case INVPCID_ALL_NOT_GLOBAL:
        t_cpu_invpcid(cpu, 3, 0, 0);
        break;
    case WRMSR_PAT:
        t_cpu_wrmsr(cpu, T_MSR_PAT, UINT64_C(0x0007040600070401));
        break;
    case WRMSR_EFER:
        t_cpu_wrmsr(cpu, T_MSR_EFER, cpu->mmu.efer & ~T_MMU_EFER_NXE);
        break;
    case PAGE_FAULT:
        cpu->mmu.cr4 |= T_MMU_CR4_SMAP;
        assert_int_equal(rig_touch(cpu, PAGE_AT + 5, 0), T_MMU_ERR_P);
        break;
    default:
        break;
    }
}

/* 4.10.4.1, row by row: what stays. */
static const unsigned stays[NR_INSTRUCTIONS] = {
    [NOTHING] = ALL,
    [CR0_WP] = ALL,
    [CR3_OWN] = OTHER | GLOBAL | WAYS_OTHER,
    [CR3_OTHER] = OWN | NEIGHBOUR | GLOBAL | WAYS | WAYS_FAR,
    [CR3_OWN_NOFLUSH] = ALL,
    [CR4_PGE] = 0,
    [CR4_PCIDE] = 0,
    [CR4_SMEP_ON] = OTHER | GLOBAL | WAYS_OTHER,
    [CR4_SMEP_OFF] = ALL,
    [CR4_SMAP] = ALL,
    [INVLPG_PAGE] = NEIGHBOUR | OTHER | GLOBAL | WAYS_OTHER,
    [INVLPG_GLOBAL] = OWN | NEIGHBOUR | OTHER | WAYS_OTHER,
    [INVLPG_BESIDE] = OWN | NEIGHBOUR | OTHER | GLOBAL | WAYS_OTHER,
    [INVPCID_PAGE] = NEIGHBOUR | OTHER | GLOBAL | WAYS_FAR | WAYS_OTHER,
    [INVPCID_PAGE_OTHER] = OWN | NEIGHBOUR | GLOBAL | WAYS | WAYS_FAR,
    [INVPCID_GLOBAL_PAGE] = ALL,
    [INVPCID_CONTEXT] = OTHER | GLOBAL | WAYS_OTHER,
    [INVPCID_CONTEXT_OTHER] = OWN | NEIGHBOUR | GLOBAL | WAYS | WAYS_FAR,
    [INVPCID_ALL] = 0,
    [INVPCID_ALL_NOT_GLOBAL] = GLOBAL,
    [WRMSR_PAT] = ALL,
    [WRMSR_EFER] = ALL,
    [PAGE_FAULT] = NEIGHBOUR | OTHER | GLOBAL | WAYS_FAR | WAYS_OTHER,
};

static void test_what_each_instruction_drops(void **state)
{
    static struct scene s;

    (void)state;
    for (unsigned i = 0; i < NR_INSTRUCTIONS; i++) {
        for (unsigned level = 0; level < 3; level++) {
            /* The two far ways share the PML4E with the near ones: look below it. */
            scene_start(&s, level);
            execute(&s, (enum instruction)i);
            if (present(&s) != stays[i]) {
                fail_msg("instruction %u, leaf of level %u: %#x is left, not %#x", i, level,
                         present(&s), stays[i]);
            }
            rig_stop(&s.rig);
        }
    }
}

/* --- used as they are ------------------------------------------------------------------------ */

static void test_stale_until_dropped(void **state)
{
    static struct rig rig;
    uint64_t root;
    uint64_t *leaf;
    uint64_t *upper;

    (void)state;
    rig_start(&rig, 1, NULL);
    root = rig.cpu->mmu.cr3;
    leaf = rig_map(&rig, root, P2M, P1G, 0, RIG_LEAF);
    upper = rig_entry(&rig, root, P2M, 2);
    assert_int_equal(rig_load(rig.cpu, P2M), P1G);
    assert_null(t_cpus_sweep(&rig.cpus, T_SWEEP_SAME));
    *leaf = (2 * P1G) | RIG_LEAF;
    assert_int_equal(rig_load(rig.cpu, P2M), P1G);
    rig_wrong(&rig, T_SWEEP_SAFE, "another frame");
    *upper = 0; /* what leads there is cached: another page behind it is found */
    rig_map(&rig, rig.cpu->mmu.cr3, 0, 0, 3, 0);
    *rig_word(&rig, (uint64_t)((uintptr_t)leaf - t_ram_base(rig.ram)) + 8) = (3 * P1G) | RIG_LEAF;
    assert_int_equal(rig_load(rig.cpu, P2M + P4K), 3 * P1G);
    t_cpu_invlpg(rig.cpu, 77 * P1G);
    assert_int_equal(rig_load(rig.cpu, P2M + P4K), 3 * P1G); /* the translation is cached by now */
    assert_int_equal(rig_touch(rig.cpu, P2M + 2 * P4K, 0), 0); /* the ways are gone */
    t_cpu_invlpg(rig.cpu, P2M + P4K);
    assert_int_equal(rig_touch(rig.cpu, P2M + P4K, 0), 0);
    rig_stop(&rig);
}

/* A right that came is not seen: the fault is spurious, and true the second time (4.10.4.3). */
static void test_spurious_fault(void **state)
{
    static struct rig rig;
    uint64_t *leaf;
    uint32_t code = T_MMU_ERR_P | T_MMU_ERR_W | T_MMU_ERR_U;

    (void)state;
    rig_start(&rig, 1, NULL);
    leaf = rig_map(&rig, rig.cpu->mmu.cr3, P2M, P1G, 0, T_MMU_P | T_MMU_US);
    assert_int_equal(rig_load(rig.cpu, P2M), P1G);
    *leaf |= T_MMU_RW;
    assert_null(t_cpus_sweep(&rig.cpus, T_SWEEP_SAFE));
    rig_wrong(&rig, T_SWEEP_SAME, "withholds a right");
    assert_int_equal(rig_touch(rig.cpu, P2M, T_MMU_USER | T_MMU_WRITE), code);
    assert_int_equal(rig_touch(rig.cpu, P2M, T_MMU_USER | T_MMU_WRITE), T_CPU_DONE);
    assert_null(t_cpus_sweep(&rig.cpus, T_SWEEP_SAME));
    rig_stop(&rig);
}

/* Not-present entries and reserved bits are never cached. */
static void test_nothing_is_cached_of_a_fault(void **state)
{
    static struct rig rig;
    uint64_t *leaf;

    (void)state;
    rig_start(&rig, 1, NULL);
    leaf = rig_map(&rig, rig.cpu->mmu.cr3, P2M, P1G, 0, 0);
    assert_int_equal(rig_touch(rig.cpu, P2M, 0), 0);
    *leaf = P1G | RIG_LEAF | UINT64_C(1) << 50;
    assert_int_equal(rig_touch(rig.cpu, P2M, 0), T_MMU_ERR_P | T_MMU_ERR_RSVD);
    *leaf = P1G | RIG_LEAF;
    assert_int_equal(rig_load(rig.cpu, P2M), P1G);
    rig_stop(&rig);
}

/* A large leaf cached in small pieces (4.10.2.3) goes with one INVLPG anywhere in the leaf. */
static void test_pieces_of_a_large_leaf(void **state)
{
    static struct rig rig;
    unsigned nr_pieces = 0;
    struct t_prng prng;

    (void)state;
    rig_start(&rig, 1, NULL);
    rig_map(&rig, rig.cpu->mmu.cr3, P1G, P1G, 2, RIG_LEAF);
    t_cpus_noise(&rig.cpus, 3, 1000000); /* pieces, and hardly anything else */
    t_prng_seed(&prng, 4);
    for (unsigned i = 0; i < 1000; i++) {
        uint64_t at = P1G + t_prng_below(&prng, P1G);

        assert_int_equal(rig_load(rig.cpu, at), at);
        assert_null(t_cpus_sweep(&rig.cpus, T_SWEEP_SAME));
        for (uint64_t left = rig.cpu->tlb_used; left != 0; left &= left - 1) {
            nr_pieces += rig.cpu->tlb[__builtin_ctzll(left)].size != P1G ? 1u : 0u;
        }
        if (i % 7 == 0) {
            t_cpu_invlpg(rig.cpu, P1G + t_prng_below(&prng, P1G));
            assert_int_equal(rig.cpu->tlb_used, 0);
        }
    }
    assert_true(nr_pieces > 100);
    rig_stop(&rig);
}

/* Each CPU has its own caches, and each instruction is one CPU's. */
static void test_cpus_are_apart(void **state)
{
    static struct rig rig;
    uint64_t *leaf;

    (void)state;
    rig_start(&rig, T_CPUS_MAX, NULL);
    leaf = rig_map(&rig, rig.cpu->mmu.cr3, P2M, P1G, 0, RIG_LEAF);
    for (unsigned i = 0; i < T_CPUS_MAX; i++) {
        rig.cpus.cpu[i].mmu.cr3 = rig.cpu->mmu.cr3;
        assert_int_equal(rig_load(&rig.cpus.cpu[i], P2M), P1G);
    }
    *leaf = 0;
    for (unsigned i = 0; i < T_CPUS_MAX; i++) {
        char who[16];

        (void)snprintf(who, sizeof(who), "CPU %u,", i);
        rig_wrong(&rig, T_SWEEP_SAFE, who);
        assert_non_null(t_cpus_holds(&rig.cpus, P1G, P4K));
        t_cpu_invlpg(&rig.cpus.cpu[i], P2M);
    }
    assert_null(t_cpus_sweep(&rig.cpus, T_SWEEP_SAME));
    assert_null(t_cpus_holds(&rig.cpus, P1G, P4K));
    rig_stop(&rig);
}

/* --- chance ---------------------------------------------------------------------------------- */

/* What a CPU does in a run of accesses under noise, as one number. */
static uint64_t noisy_run(uint64_t seed, uint64_t *nr_speculated, uint64_t *nr_evicted)
{
    static struct rig rig;
    struct t_prng prng;
    uint64_t hash = T_HASH_START;

    rig_start(&rig, 3, NULL);
    for (unsigned i = 0; i < 3; i++) {
        rig.cpus.cpu[i].mmu.cr3 = rig.cpu->mmu.cr3;
    }
    for (uint64_t i = 0; i < 300; i++) {
        rig_map(&rig, rig.cpu->mmu.cr3, i * P4K, P1G + i * P4K, 0, RIG_LEAF);
    }
    t_cpus_noise(&rig.cpus, seed, 4);
    t_prng_seed(&prng, 9);
    for (unsigned i = 0; i < 3000; i++) {
        struct t_cpu *cpu = &rig.cpus.cpu[t_prng_below(&prng, 3)];
        uint64_t at = t_prng_below(&prng, 40) * P4K;

        assert_int_equal(rig_load(cpu, at), P1G + at);
        hash = t_hash_u64(hash, cpu->tlb_used);
        hash = t_hash_u64(hash, cpu->psc_used);
    }
    assert_null(t_cpus_sweep(&rig.cpus, T_SWEEP_SAME));
    /* Pages that nobody used were looked at ahead; that sets accessed, never dirty. */
    *nr_speculated = 0;
    *nr_evicted = 0;
    for (uint64_t i = 40; i < 300; i++) {
        uint64_t entry = *rig_entry(&rig, rig.cpu->mmu.cr3, i * P4K, 0);

        *nr_speculated += (entry & T_MMU_A) != 0 ? 1u : 0u;
        assert_int_equal(entry & T_MMU_D, 0);
    }
    for (unsigned i = 0; i < 3; i++) {
        *nr_evicted += rig.cpus.cpu[i].nr_evicted;
    }
    rig_stop(&rig);
    return t_hash_finish(hash);
}

static void test_chance_can_be_repeated(void **state)
{
    uint64_t nr_speculated;
    uint64_t nr_evicted;
    uint64_t first = noisy_run(1, &nr_speculated, &nr_evicted);

    (void)state;
    assert_true(nr_speculated > 10);
    assert_true(nr_evicted > 10);
    assert_int_equal(noisy_run(1, &nr_speculated, &nr_evicted), first);
    assert_int_not_equal(noisy_run(2, &nr_speculated, &nr_evicted), first);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_each_instruction_drops),
        cmocka_unit_test(test_stale_until_dropped),
        cmocka_unit_test(test_spurious_fault),
        cmocka_unit_test(test_nothing_is_cached_of_a_fault),
        cmocka_unit_test(test_pieces_of_a_large_leaf),
        cmocka_unit_test(test_cpus_are_apart),
        cmocka_unit_test(test_chance_can_be_repeated),
    };

    return cmocka_run_group_tests_name("sim_cpu_caches", tests, NULL, NULL);
}
