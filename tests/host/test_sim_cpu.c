// SPDX-License-Identifier: MIT
/**
 * The simulated CPU's registers and instructions: what each checks (SDM vol. 2 and 3A, 2.5), what
 * a feature that is absent takes away, what an access answers through the caches, cold and warm.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sim_cpu_rig.h"

static int start(void **state)
{
    static struct rig rig;

    rig_start(&rig, 2, NULL);
    *state = &rig;
    return 0;
}

static int stop(void **state)
{
    rig_stop(*state);
    return 0;
}

/* The statement raises what `text` names. */
#define RAISES(statement, text)                                                                    \
    do {                                                                                           \
        struct t_trap_info info_;                                                                  \
        T_EXPECT_PANIC(statement, &info_);                                                         \
        assert_string_equal(info_.room, "cpu");                                                    \
        if (strstr(info_.what, text) == NULL) {                                                    \
            fail_msg("%s: '%s', not '%s'", #statement, info_.what, text);                          \
        }                                                                                          \
    } while (0)

static void test_control_registers(void **state)
{
    struct rig *rig = *state;
    struct t_cpu *cpu = rig->cpu;
    uint64_t cr0 = cpu->mmu.cr0;
    uint64_t cr3 = cpu->mmu.cr3;
    uint64_t cr4 = cpu->mmu.cr4;

    RAISES(t_cpu_write_cr(cpu, 0, cr0 | UINT64_C(1) << 32), "#GP: MOV to CR0");
    RAISES(t_cpu_write_cr(cpu, 0, cr0 & ~T_MMU_CR0_PG), "#GP: MOV to CR0 clears");
    RAISES(t_cpu_write_cr(cpu, 0, cr0 & ~UINT64_C(1)), "#GP: MOV to CR0 clears");
    RAISES(t_cpu_write_cr(cpu, 0, cr0 | UINT64_C(1) << 29), "NW and not CD");
    t_cpu_write_cr(cpu, 0, cr0 & ~T_MMU_CR0_WP & ~UINT64_C(0x10));
    assert_int_equal(t_cpu_read_cr(cpu, 0), cr0 & ~T_MMU_CR0_WP); /* ET is always 1 */
    RAISES(t_cpu_write_cr(cpu, 3, cr3 | UINT64_C(1) << 46), "#GP: MOV to CR3");
    RAISES(t_cpu_write_cr(cpu, 3, cr3 | UINT64_C(1) << 63), "#GP: MOV to CR3");
    t_cpu_write_cr(cpu, 3, UINT64_C(0x3fffffffffff)); /* no PCIDs: the low bits are ignored */
    assert_int_equal(t_cpu_read_cr(cpu, 3), UINT64_C(0x3fffffffffff));
    RAISES(t_cpu_write_cr(cpu, 4, cr4 | T_MMU_CR4_PCIDE), "PCIDE while CR3[11:0]");
    t_cpu_write_cr(cpu, 3, cr3);
    t_cpu_write_cr(cpu, 4, cr4 | T_MMU_CR4_PCIDE);
    t_cpu_write_cr(cpu, 3, cr3 | UINT64_C(1) << 63 | 5);
    assert_int_equal(t_cpu_read_cr(cpu, 3), cr3 | 5); /* bit 63 is not kept */
    assert_int_equal(t_cpu_pcid(cpu), 5);
    t_cpu_write_cr(cpu, 4, cr4); /* PCIDE may go at any time */
    assert_int_equal(t_cpu_pcid(cpu), 0);
    RAISES(t_cpu_write_cr(cpu, 4, cr4 & ~T_MMU_CR4_PAE), "clears PAE or changes LA57");
    RAISES(t_cpu_write_cr(cpu, 4, cr4 | T_MMU_CR4_LA57), "clears PAE or changes LA57");
    RAISES(t_cpu_write_cr(cpu, 4, cr4 | UINT64_C(1) << 40), "a bit that this CPU has not");
    RAISES(t_cpu_write_cr(cpu, 8, 0), "#UD");
    RAISES(t_cpu_read_cr(cpu, 2), "#UD");
    assert_int_equal(t_cpu_read_cr(cpu, 4), cr4);
}

static void test_model_specific_registers(void **state)
{
    struct rig *rig = *state;
    struct t_cpu *cpu = rig->cpu;

    assert_int_equal(t_cpu_rdmsr(cpu, T_MSR_PAT), T_PAT_RESET);
    t_cpu_wrmsr(cpu, T_MSR_PAT, UINT64_C(0x0706050401000001));
    assert_int_equal(t_cpu_rdmsr(cpu, T_MSR_PAT), UINT64_C(0x0706050401000001));
    RAISES(t_cpu_wrmsr(cpu, T_MSR_PAT, 2), "#GP: WRMSR of PAT");
    RAISES(t_cpu_wrmsr(cpu, T_MSR_PAT, 3 << 8), "#GP: WRMSR of PAT");
    RAISES(t_cpu_wrmsr(cpu, T_MSR_PAT, UINT64_C(0x80) << 56), "#GP: WRMSR of PAT");
    assert_int_equal(t_cpu_rdmsr(cpu, T_MSR_EFER), 0xd00);
    RAISES(t_cpu_wrmsr(cpu, T_MSR_EFER, 0xc00), "changes LME");
    RAISES(t_cpu_wrmsr(cpu, T_MSR_EFER, 0xd02), "reserved bit");
    t_cpu_wrmsr(cpu, T_MSR_EFER, 0x101); /* LMA is not software's */
    assert_int_equal(t_cpu_rdmsr(cpu, T_MSR_EFER), 0x501);
    RAISES(t_cpu_rdmsr(cpu, 0x10), "#GP: RDMSR");
    RAISES(t_cpu_wrmsr(cpu, 0x10, 0), "#GP: WRMSR");
}

static void test_invalidation_faults(void **state)
{
    struct rig *rig = *state;
    struct t_cpu *cpu = rig->cpu;

    t_cpu_invlpg(cpu, UINT64_C(1) << 63); /* not canonical: nothing at all */
    RAISES(t_cpu_invpcid(cpu, 4, 0, 0), "#GP: INVPCID of a type");
    RAISES(t_cpu_invpcid(cpu, 1, 4096, 0), "reserved bit in its descriptor");
    RAISES(t_cpu_invpcid(cpu, 1, 1, 0), "while PCIDE is clear");
    RAISES(t_cpu_invpcid(cpu, 0, 0, UINT64_C(1) << 47), "not canonical");
    t_cpu_invpcid(cpu, 2, 0, UINT64_C(1) << 47); /* the address does not matter there */
    t_cpu_invpcid(cpu, 3, 7, 0);
    assert_int_equal(cpu->nr_invlpg, 1);
    assert_int_equal(cpu->nr_invpcid, 6);
}

/* Each feature that is absent: its bit is reserved, its register or instruction is not there. */
static void test_absent_features(void **state)
{
    static const struct {
        size_t has;
        uint64_t cr4;
        uint64_t efer;
    } rows[] = {
        {offsetof(struct t_cpu_features, pge), T_MMU_CR4_PGE, 0},
        {offsetof(struct t_cpu_features, umip), T_MMU_CR4_UMIP, 0},
        {offsetof(struct t_cpu_features, pcid), T_MMU_CR4_PCIDE, 0},
        {offsetof(struct t_cpu_features, smep), T_MMU_CR4_SMEP, 0},
        {offsetof(struct t_cpu_features, smap), T_MMU_CR4_SMAP, 0},
        {offsetof(struct t_cpu_features, nx), 0, T_MMU_EFER_NXE},
    };
    struct t_cpu_features has;
    static struct rig rig;

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        has = t_cpu_full;
        memset((unsigned char *)&has + rows[i].has, 0, sizeof(bool));
        rig_start(&rig, 1, &has);
        if (rows[i].cr4 != 0) {
            RAISES(t_cpu_write_cr(rig.cpu, 4, rig.cpu->mmu.cr4 | rows[i].cr4), "CPU has not");
        } else {
            RAISES(t_cpu_wrmsr(rig.cpu, T_MSR_EFER, rig.cpu->mmu.efer | rows[i].efer), "reserved");
        }
        rig_stop(&rig);
    }
    has = t_cpu_full;
    has.pat = has.invpcid = has.page_1g = false;
    rig_start(&rig, 1, &has);
    RAISES(t_cpu_rdmsr(rig.cpu, T_MSR_PAT), "#GP: RDMSR");
    RAISES(t_cpu_wrmsr(rig.cpu, T_MSR_PAT, T_PAT_RESET), "#GP: WRMSR");
    RAISES(t_cpu_invpcid(rig.cpu, 2, 0, 0), "#UD: INVPCID");
    rig_map(&rig, rig.cpu->mmu.cr3, P1G, P1G, 2, RIG_LEAF);
    assert_int_equal(rig_touch(rig.cpu, P1G, 0), T_MMU_ERR_P | T_MMU_ERR_RSVD);
    rig_stop(&rig);
}

static void test_cpuid(void **state)
{
    struct rig *rig = *state;
    struct t_cpu_features has = {.max_basic = 1, .max_extended = 0, .paddr_bits = 40, .pge = true};

    assert_int_equal(t_cpu_cpuid(rig->cpu, 0, 0).eax, 7);
    assert_int_equal(t_cpu_cpuid(rig->cpu, 1, 0).edx, 1u << 13 | 1u << 16);
    assert_int_equal(t_cpu_cpuid(rig->cpu, 1, 0).ecx, 1u << 17);
    assert_int_equal(t_cpu_cpuid(rig->cpu, 7, 0).ebx, 1u << 7 | 1u << 10 | 1u << 20);
    assert_int_equal(t_cpu_cpuid(rig->cpu, 7, 1).ebx, 0);
    assert_int_equal(t_cpu_cpuid(rig->cpu, 0x80000001, 0).edx, 1u << 20 | 1u << 26 | 1u << 29);
    assert_int_equal(t_cpu_cpuid(rig->cpu, 0x80000008, 0).eax & 0xff, 46);
    t_cpus_configure(&rig->cpus, &has);
    /* Beyond what there is: the highest basic leaf, whatever it says. */
    assert_int_equal(t_cpu_cpuid(rig->cpu, 7, 0).edx, 1u << 13);
    assert_int_equal(t_cpu_cpuid(rig->cpu, 0x80000000, 0).edx, 1u << 13);
    assert_int_equal(t_cpu_cpuid(rig->cpu, 0x80000008, 0).edx, 1u << 13);
}

/* --- rights, against sentences of the manual in another shape -------------------------------- */

/* 4.6.1 as a list of refusals: one for each way in which the manual says that an access fails. */
static bool refused(const struct t_mmu *mmu, bool w, bool u, bool x, unsigned access)
{
    bool by_user = (access & T_MMU_USER) != 0;
    bool write = (access & T_MMU_WRITE) != 0;
    bool fetch = (access & T_MMU_FETCH) != 0;
    bool smap = (mmu->cr4 & T_MMU_CR4_SMAP) != 0;

    return (by_user && !u) ||                                             /* a supervisor page */
           (by_user && write && !w) ||                                    /* read-only */
           (!by_user && write && !w && (mmu->cr0 & T_MMU_CR0_WP) != 0) || /* read-only, WP */
           (fetch && !x) ||                                               /* XD */
           (!by_user && fetch && u && (mmu->cr4 & T_MMU_CR4_SMEP) != 0) ||
           (!by_user && !fetch && u && smap && (access & T_MMU_AC) == 0);
}

/* Every pair of rights of a table and of its leaf, every access, every setting; first without, then
 * through what is cached. The second is made as a load that is allowed fills the TLB. */
static void test_rights_cold_and_warm(void **state)
{
    struct rig *rig = *state;
    struct t_cpu *cpu = rig->cpu;
    uint64_t *table = rig_entry(rig, cpu->mmu.cr3, 0, 1);
    uint64_t *leaf = rig_map(rig, cpu->mmu.cr3, 0, P2M, 0, RIG_LEAF);
    static const unsigned accesses[] = {0, T_MMU_WRITE, T_MMU_FETCH};
    unsigned nr_warm = 0;

    for (unsigned n = 0; n < 64 * 8 * 3 * 4; n++) {
        unsigned access = accesses[n / 8 % 3] | ((n / 24 % 4 & 1) != 0 ? T_MMU_USER : 0) |
                          ((n / 24 % 4 & 2) != 0 ? T_MMU_AC : 0);
        unsigned both = n / 96;
        uint64_t t = ((both & 7) & 3) * 2 | ((both & 4) != 0 ? T_MMU_NX : 0);
        uint64_t l = ((both >> 3) & 3) * 2 | ((both & 32) != 0 ? T_MMU_NX : 0);
        uint32_t error;
        bool no;

        cpu->mmu.cr0 = (cpu->mmu.cr0 & ~T_MMU_CR0_WP) | ((n & 1) != 0 ? T_MMU_CR0_WP : 0);
        cpu->mmu.cr4 = (cpu->mmu.cr4 & ~(T_MMU_CR4_SMEP | T_MMU_CR4_SMAP)) |
                       ((n & 2) != 0 ? T_MMU_CR4_SMEP : 0) | ((n & 4) != 0 ? T_MMU_CR4_SMAP : 0);
        *table = (*table & ~(RIG_TABLE | T_MMU_NX)) | T_MMU_P | t;
        *leaf = P2M | T_MMU_P | l;
        no = refused(&cpu->mmu, (t & l & T_MMU_RW) != 0, (t & l & T_MMU_US) != 0,
                     ((t | l) & T_MMU_NX) == 0, access);
        error = T_MMU_ERR_P | ((access & T_MMU_WRITE) != 0 ? T_MMU_ERR_W : 0) |
                ((access & T_MMU_USER) != 0 ? T_MMU_ERR_U : 0) |
                ((access & T_MMU_FETCH) != 0 ? T_MMU_ERR_I : 0);
        for (unsigned warm = 0; warm < 2; warm++) {
            t_cpu_drop_all(cpu);
            if (warm != 0) {
                nr_warm += rig_touch(cpu, 0, T_MMU_AC) == T_CPU_DONE ? 1u : 0u;
            }
            assert_int_equal(rig_touch(cpu, 5, access), no ? error : T_CPU_DONE);
        }
    }
    assert_true(nr_warm > 1000);
}

/* The bit of a fetch is told only if NXE or SMEP is on (4.7). */
static void test_error_of_a_fetch(void **state)
{
    struct rig *rig = *state;
    struct t_cpu *cpu = rig->cpu;

    assert_int_equal(rig_touch(cpu, 0, T_MMU_FETCH), T_MMU_ERR_I);
    cpu->mmu.efer &= ~T_MMU_EFER_NXE;
    assert_int_equal(rig_touch(cpu, 0, T_MMU_FETCH), 0);
    cpu->mmu.cr4 |= T_MMU_CR4_SMEP;
    assert_int_equal(rig_touch(cpu, 0, T_MMU_FETCH | T_MMU_USER), T_MMU_ERR_I | T_MMU_ERR_U);
    assert_int_equal(rig_touch(cpu, UINT64_C(1) << 47, 0), T_CPU_GP);
    assert_int_equal(rig_touch(cpu, -(UINT64_C(1) << 47), 0), 0);
    rig_map(rig, cpu->mmu.cr3, 0, P2M, 0, RIG_LEAF | T_MMU_NX); /* NXE is off: reserved */
    assert_int_equal(rig_touch(cpu, 0, T_MMU_WRITE), T_MMU_ERR_P | T_MMU_ERR_RSVD | T_MMU_ERR_W);
}

/* A table where no memory is: no answer is right, so the test ends. */
static void test_walk_out_of_memory(void **state)
{
    struct rig *rig = *state;

    *rig_entry(rig, rig->cpu->mmu.cr3, 0, 2) = (UINT64_C(1) << 40) | RIG_TABLE;
    RAISES(rig_touch(rig->cpu, 0, 0), "where no memory is");
}

/* --- accessed and dirty (4.8) ---------------------------------------------------------------- */

static void test_accessed_and_dirty(void **state)
{
    struct rig *rig = *state;
    struct t_cpu *cpu = rig->cpu;

    for (unsigned level = 0; level < 3; level++) {
        uint64_t at = P1G * (level + 1);
        uint64_t *leaf = rig_map(rig, cpu->mmu.cr3, at, P1G, level, RIG_LEAF);

        assert_int_equal(rig_touch(cpu, at, T_MMU_USER), T_CPU_DONE);
        assert_int_equal(*leaf & (T_MMU_A | T_MMU_D), T_MMU_A);
        for (unsigned l = 3; l > level; l--) {
            assert_int_equal(*rig_entry(rig, cpu->mmu.cr3, at, l) & (T_MMU_A | T_MMU_D), T_MMU_A);
        }
        assert_int_equal(rig_touch(cpu, at, T_MMU_USER | T_MMU_WRITE), T_CPU_DONE);
        assert_int_equal(*leaf & (T_MMU_A | T_MMU_D), T_MMU_A | T_MMU_D);
        /* Cached as dirty: nothing is written again, though the flag is gone. */
        *leaf &= ~T_MMU_D;
        assert_int_equal(rig_touch(cpu, at, T_MMU_USER | T_MMU_WRITE), T_CPU_DONE);
        assert_int_equal(*leaf & T_MMU_D, 0);
        rig_wrong(rig, T_SWEEP_SAFE, "without setting dirty");
        t_cpu_invlpg(cpu, at);
        assert_int_equal(rig_touch(cpu, at, T_MMU_USER | T_MMU_WRITE), T_CPU_DONE);
        assert_int_equal(*leaf & T_MMU_D, T_MMU_D);
        assert_null(t_cpus_sweep(&rig->cpus, T_SWEEP_SAME));
    }
}

/* A store through a clean translation walks, and finds what is there now: another frame, fewer
 * rights, or nothing. A load through the same one does not. */
static void test_clean_store_walks_again(void **state)
{
    struct rig *rig = *state;
    struct t_cpu *cpu = rig->cpu;
    uint64_t *leaf = rig_map(rig, cpu->mmu.cr3, P2M, P1G, 0, RIG_LEAF);
    uint64_t paddr = 0;

    assert_int_equal(rig_load(cpu, P2M), P1G);
    *leaf = 0;
    assert_int_equal(rig_load(cpu, P2M + 7), P1G + 7);
    assert_int_equal(rig_touch(cpu, P2M, T_MMU_USER | T_MMU_WRITE), T_MMU_ERR_U | T_MMU_ERR_W);
    assert_int_equal(rig_touch(cpu, P2M, T_MMU_USER), T_MMU_ERR_U); /* the fault dropped it */
    *leaf = P1G | RIG_LEAF;
    assert_int_equal(rig_load(cpu, P2M), P1G);
    *leaf = (2 * P1G) | RIG_LEAF;
    assert_int_equal(t_cpu_access(cpu, P2M, T_MMU_USER | T_MMU_WRITE, &paddr), T_CPU_DONE);
    assert_int_equal(paddr, 2 * P1G);
    *leaf &= ~T_MMU_RW;
    assert_int_equal(t_cpu_access(cpu, P2M, T_MMU_USER | T_MMU_WRITE, &paddr), T_CPU_DONE);
    assert_int_equal(*leaf & T_MMU_RW, 0); /* dirty, and so never looked at */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_control_registers, start, stop),
        cmocka_unit_test_setup_teardown(test_model_specific_registers, start, stop),
        cmocka_unit_test_setup_teardown(test_invalidation_faults, start, stop),
        cmocka_unit_test(test_absent_features),
        cmocka_unit_test_setup_teardown(test_cpuid, start, stop),
        cmocka_unit_test_setup_teardown(test_rights_cold_and_warm, start, stop),
        cmocka_unit_test_setup_teardown(test_error_of_a_fetch, start, stop),
        cmocka_unit_test_setup_teardown(test_walk_out_of_memory, start, stop),
        cmocka_unit_test_setup_teardown(test_accessed_and_dirty, start, stop),
        cmocka_unit_test_setup_teardown(test_clean_store_walks_again, start, stop),
    };

    return cmocka_run_group_tests_name("sim_cpu", tests, NULL, NULL);
}
