// SPDX-License-Identifier: MIT
/**
 * The x86-64 backend beside its page tables: what a CPU has, switching it on, page-fault codes.
 * CPUs are simulated; no privileged instruction is linked.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "hash.h"
#include "sim_cpu_mm.h"

/* SDM vol. 3A, table 12-10: WB, WT, UC-, UC, WC, WP, UC-, UC from the lowest byte up. */
#define PAT UINT64_C(0x0007010500070406)

static struct t_cpus cpus;
static struct t_cpu *const cpu = &cpus.cpu[0];
static struct mm_x86_64 arch;

static int setup(void **state)
{
    (void)state;
    t_cpus_init(&cpus, 1, NULL, NULL);
    memset(&arch, 0, sizeof(arch));
    return 0;
}

static void init(void)
{
    assert_int_equal(mm_x86_64_init(&arch, &t_cpu_ops, &cpus), MM_OK);
}

static void test_statuses(void **state)
{
    static const struct mm_x86_64 zero;
    struct mm_x86_64_cpu_ops ops = t_cpu_ops;
    struct mm_paging_backend backend;

    (void)state;
    assert_int_equal(mm_x86_64_init(NULL, &ops, &cpus), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_x86_64_init(&arch, NULL, &cpus), MM_ERR_INVALID_ARGUMENT);
    for (unsigned i = 0; i < sizeof(ops) / sizeof(void (*)(void)); i++) {
        ops = t_cpu_ops;
        memset((unsigned char *)&ops + i * sizeof(void (*)(void)), 0, sizeof(void (*)(void)));
        assert_int_equal(mm_x86_64_init(&arch, &ops, &cpus), MM_ERR_INVALID_ARGUMENT);
    }
    assert_memory_equal(&arch, &zero, sizeof(arch));
    assert_int_equal(mm_x86_64_enable(NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_x86_64_enable(&arch), MM_ERR_NOT_INITIALIZED);
    assert_null(mm_x86_64_backend(&arch).ops);
    assert_null(mm_x86_64_backend(NULL).ops);
    init();
    assert_int_equal(mm_x86_64_init(&arch, &t_cpu_ops, &cpus), MM_ERR_ALREADY_INITIALIZED);
    backend = mm_x86_64_backend(&arch);
    assert_non_null(backend.ops);
    assert_ptr_equal(backend.ctx, &arch);
}

static void test_features_of_a_full_cpu(void **state)
{
    const struct mm_x86_64_features *f = &arch.features;

    (void)state;
    init();
    assert_true(f->nx && f->page_1g && f->global_pages && f->pat && f->pcid && f->invpcid);
    assert_true(f->smep && f->smap && f->umip && f->la57 && f->pku);
    assert_int_equal(f->paddr_bits, 46);
    assert_int_equal(f->vaddr_bits, 48);
    /* Looking changes nothing. */
    assert_int_equal(cpu->nr_cr3 + cpu->nr_cr4 + cpu->nr_msr, 0);
    assert_false(arch.enabled.nx || arch.enabled.write_protect || arch.enabled.global_pages ||
                 arch.enabled.pat || arch.enabled.smep || arch.enabled.smap || arch.enabled.umip);
}

/* Each bit of CPUID alone turns on its feature and no other. */
static void test_each_feature_alone(void **state)
{
    static const struct {
        size_t has;     /* in struct t_cpu_features */
        size_t feature; /* in struct mm_x86_64_features */
    } rows[] = {
        {offsetof(struct t_cpu_features, nx), offsetof(struct mm_x86_64_features, nx)},
        {offsetof(struct t_cpu_features, page_1g), offsetof(struct mm_x86_64_features, page_1g)},
        {offsetof(struct t_cpu_features, pge), offsetof(struct mm_x86_64_features, global_pages)},
        {offsetof(struct t_cpu_features, pat), offsetof(struct mm_x86_64_features, pat)},
        {offsetof(struct t_cpu_features, pcid), offsetof(struct mm_x86_64_features, pcid)},
        {offsetof(struct t_cpu_features, invpcid), offsetof(struct mm_x86_64_features, invpcid)},
        {offsetof(struct t_cpu_features, smep), offsetof(struct mm_x86_64_features, smep)},
        {offsetof(struct t_cpu_features, smap), offsetof(struct mm_x86_64_features, smap)},
        {offsetof(struct t_cpu_features, umip), offsetof(struct mm_x86_64_features, umip)},
        {offsetof(struct t_cpu_features, la57), offsetof(struct mm_x86_64_features, la57)},
        {offsetof(struct t_cpu_features, pku), offsetof(struct mm_x86_64_features, pku)},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct t_cpu_features has = {.max_basic = 7, .max_extended = 0x80000008, .paddr_bits = 46};
        bool on = true;

        setup(state);
        memcpy((unsigned char *)&has + rows[i].has, &on, sizeof(on));
        t_cpus_configure(&cpus, &has);
        init();
        for (size_t j = 0; j < sizeof(rows) / sizeof(rows[0]); j++) {
            memcpy(&on, (unsigned char *)&arch.features + rows[j].feature, sizeof(on));
            assert_int_equal(on, i == j);
        }
        assert_int_equal(mm_x86_64_enable(&arch), MM_OK);
        assert_int_equal(arch.enabled.nx, arch.features.nx);
        assert_int_equal(arch.enabled.pat, arch.features.pat);
        assert_int_equal(arch.enabled.global_pages, arch.features.global_pages);
        assert_int_equal(arch.enabled.smep, arch.features.smep);
        assert_int_equal(arch.enabled.smap, arch.features.smap);
        assert_int_equal(arch.enabled.umip, arch.features.umip);
        assert_true(arch.enabled.write_protect);
    }
}

/* Leaves beyond the highest one answer anything; they are not asked. */
static void test_old_cpus(void **state)
{
    (void)state;
    cpus.has.max_basic = 1;
    cpus.has.max_extended = 0x80000001;
    init();
    assert_false(arch.features.smep || arch.features.smap || arch.features.umip ||
                 arch.features.invpcid || arch.features.la57 || arch.features.pku);
    assert_true(arch.features.nx && arch.features.pat);
    assert_int_equal(arch.features.paddr_bits, 36);
    setup(state);
    cpus.has.max_extended = 4; /* as CPUs answer that have no such leaves */
    init();
    assert_false(arch.features.nx || arch.features.page_1g);
    assert_int_equal(arch.features.paddr_bits, 36);
    setup(state);
    cpus.has.paddr_bits = 64; /* no CPU: entries have room for 52 */
    init();
    assert_int_equal(arch.features.paddr_bits, 52);
    for (uint32_t bits = 0; bits <= 33; bits++) { /* less than 32: no CPU, but a hypervisor */
        setup(state);
        cpus.has.paddr_bits = bits;
        init();
        assert_int_equal(arch.features.paddr_bits, bits < 32 ? 36 : bits);
    }
    setup(state);
    cpu->mmu.cr4 |= T_MMU_CR4_LA57;
    init();
    assert_int_equal(arch.features.vaddr_bits, 57);
}

/* The boot loader's leaves mean what they meant: after the power-on table, whose upper half nobody
 * can use to say anything new, and after that of the Limine protocol. */
static void test_types_of_the_boot_loader(void **state)
{
    static const uint64_t tables[] = {UINT64_C(0x0007040600070406), UINT64_C(0x0000010500070406)};

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        memset(&arch, 0, sizeof(arch));
        cpu->mmu.pat = tables[i];
        init();
        assert_int_equal(mm_x86_64_enable(&arch), MM_OK);
        for (unsigned entry = 0; entry < (i == 0 ? 4 : 6); entry++) {
            assert_int_equal((cpu->mmu.pat >> 8 * entry) & 7, (tables[i] >> 8 * entry) & 7);
        }
    }
}

static void test_enable(void **state)
{
    (void)state;
    cpu->mmu.cr3 = 0x5018; /* PCD and PWT of the root go: the CPU would not set PCIDE (SDM 3A,
                              4.10.1) */
    init();
    assert_int_equal(mm_x86_64_enable(&arch), MM_OK);
    assert_true(arch.enabled.nx && arch.enabled.write_protect && arch.enabled.global_pages &&
                arch.enabled.pat && arch.enabled.smep && arch.enabled.smap && arch.enabled.umip &&
                arch.enabled.pcid);
    assert_int_equal(cpu->mmu.efer, 0x500 | T_MMU_EFER_NXE);
    assert_int_equal(cpu->mmu.pat, PAT);
    assert_int_equal(cpu->mmu.cr0, 0x80000011 | T_MMU_CR0_WP);
    assert_int_equal(cpu->mmu.cr4, 0x20 | T_MMU_CR4_PGE | T_MMU_CR4_UMIP | T_MMU_CR4_SMEP |
                                       T_MMU_CR4_SMAP | T_MMU_CR4_PCIDE);
    assert_int_equal(cpu->mmu.cr3, 0x5000);
    assert_true(cpu->nr_cr3 > 0); /* types of the old PAT are out of the TLB */
    /* Again, as on each CPU: nothing is left to write. */
    cpu->nr_msr = cpu->nr_cr3 = cpu->nr_cr4 = 0;
    assert_int_equal(mm_x86_64_enable(&arch), MM_OK);
    assert_int_equal(cpu->nr_msr + cpu->nr_cr3 + cpu->nr_cr4, 0);
}

/* Without global pages, not all PCIDs could be dropped at once: they stay off. And where somebody
 * has switched them on, they stay on. */
static void test_enable_pcids(void **state)
{
    (void)state;
    cpus.has.pge = false;
    init();
    assert_int_equal(mm_x86_64_enable(&arch), MM_OK);
    assert_false(arch.enabled.pcid);
    assert_int_equal(cpu->mmu.cr4 & T_MMU_CR4_PCIDE, 0);
    setup(state);
    cpus.has.pcid = false;
    init();
    assert_int_equal(mm_x86_64_enable(&arch), MM_OK);
    assert_false(arch.enabled.pcid);
    setup(state);
    cpu->mmu.cr4 |= T_MMU_CR4_PCIDE | T_MMU_CR4_PGE;
    cpu->mmu.cr3 = 0x5007;
    init();
    assert_true(arch.enabled.pcid);
    assert_int_equal(mm_x86_64_enable(&arch), MM_OK);
    assert_int_equal(cpu->mmu.cr3, 0x5007);
    assert_int_equal(mm_paging_current_root(mm_x86_64_backend(&arch)).raw, 0x5000);
}

/* With global pages on already, a new PAT drops global translations as well: they hold types of
 * the old one. */
static void test_enable_after_others(void **state)
{
    struct t_ram *ram = t_ram_new(0, 8 * T_RAM_FRAME);

    (void)state;
    assert_non_null(ram);
    t_ram_back(ram, 0, 8 * T_RAM_FRAME);
    t_cpus_init(&cpus, 1, ram, NULL);
    for (uint64_t table = 0x1000; table < 0x4000; table += 0x1000) {
        *(uint64_t *)t_ram_ptr(ram, table) = (table + 0x1000) | T_MMU_P | T_MMU_RW;
    }
    *(uint64_t *)t_ram_ptr(ram, 0x4000) = 0x5000 | T_MMU_P | T_MMU_G | T_MMU_PS; /* PAT: 4 */
    cpu->mmu.cr3 = 0x1000;
    cpu->mmu.cr4 |= T_MMU_CR4_PGE;
    cpu->mmu.efer |= T_MMU_EFER_NXE;
    assert_int_equal(t_cpu_access(cpu, 0x123, 0, NULL), T_CPU_DONE);
    assert_int_equal(cpu->tlb_nr[0], 1);
    init();
    assert_true(arch.enabled.nx && arch.enabled.global_pages && !arch.enabled.pat);
    assert_int_equal(mm_x86_64_enable(&arch), MM_OK);
    assert_int_equal(cpu->tlb_nr[0], 0);
    assert_int_equal(t_cpu_access(cpu, 0x123, 0, NULL), T_CPU_DONE);
    assert_null(t_cpus_sweep(&cpus, T_SWEEP_SAME));
    assert_true((cpu->mmu.cr4 & T_MMU_CR4_PGE) != 0);
    assert_true(arch.enabled.pat);
    t_ram_delete(ram);
}

static void test_fault_codes(void **state)
{
    static const struct {
        uint64_t code;
        uint32_t flags;
    } rows[] = {
        {0, 0},
        {1, MM_FAULT_PRESENT},
        {2, MM_FAULT_WRITE},
        {4, MM_FAULT_USER},
        {8, MM_FAULT_RESERVED},
        {16, MM_FAULT_EXEC},
        {32, MM_FAULT_PKEY},
        {64, MM_FAULT_OTHER},
        {UINT64_C(1) << 15, MM_FAULT_OTHER},
        {UINT64_C(1) << 31, MM_FAULT_OTHER},
        {UINT64_C(1) << 63, MM_FAULT_OTHER},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        for (size_t j = 0; j < sizeof(rows) / sizeof(rows[0]); j++) {
            struct mm_fault fault =
                mm_x86_64_fault(rows[i].code | rows[j].code, UINT64_C(0xfffffffffffff123));

            assert_int_equal(fault.flags, rows[i].flags | rows[j].flags);
            assert_int_equal(fault.at.raw, UINT64_C(0xfffffffffffff123));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_statuses, setup),
        cmocka_unit_test_setup(test_features_of_a_full_cpu, setup),
        cmocka_unit_test_setup(test_each_feature_alone, setup),
        cmocka_unit_test_setup(test_old_cpus, setup),
        cmocka_unit_test_setup(test_types_of_the_boot_loader, setup),
        cmocka_unit_test_setup(test_enable, setup),
        cmocka_unit_test_setup(test_enable_pcids, setup),
        cmocka_unit_test_setup(test_enable_after_others, setup),
        cmocka_unit_test_setup(test_fault_codes, setup),
    };

    return cmocka_run_group_tests_name("x86_64", tests, NULL, NULL);
}
