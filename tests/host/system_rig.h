// SPDX-License-Identifier: MIT
/**
 * A machine on which mm_system_init() is called, and what its tests ask again and again. Include
 * after <cmocka.h>, in one file of a program.
 */
#ifndef SYSTEM_RIG_H
#define SYSTEM_RIG_H

#include "check.h"
#include "hash.h"
#include "ledger_mm.h"
#include "sim_cpu_mm.h"
#include "sim_ram.h"
#include "trap_mm.h"

#include <mm/system.h>

#include <string.h>

#define MIB      UINT64_C(0x100000)
#define RAM      (160 * MIB)
#define MAPPED   (8 * MIB)
#define ARENA    UINT64_C(0xffffc00000000000)
#define IMAGE    UINT64_C(0xffffffff80000000)
#define OLD_ROOT UINT64_C(0x3000)

/* A machine whose memory above MAPPED can be reached only through the kernel's own root. */
struct machine {
    struct t_ram *ram;
    struct t_cpus cpus;
    struct t_cpu *cpu;
    struct mm_x86_64_cpu_ops ops;
    struct mm_x86_64 arch;
    struct mm_boot_entry entries[MM_BOOTMAP_CAPACITY(8)];
    struct mm_bootmap map;
    struct mm_physmap physmap;
    struct mm_vrange ranges[3];
    struct mm_boot_section sections[2];
    struct mm_system_device device;
    struct mm_system_config config;
    struct mm_system system;
};

static struct machine *the_machine; /* for the op, whose context is the CPUs */

static inline void write_cr(void *ctx, unsigned cr, uint64_t value)
{
    t_cpu_ops.write_cr(ctx, cr, value);
    if (cr == 3 && value != OLD_ROOT) {
        t_ram_back(the_machine->ram, MAPPED, RAM - MAPPED);
    }
}

static inline uint64_t map_hash(struct machine *m)
{
    assert_int_equal(mm_bootmap_normalize(&m->map), MM_OK);
    return t_hash(m->entries, m->map.nr * sizeof(m->entries[0]));
}

static inline int start(void **state)
{
    static struct machine m;

    memset(&m, 0, sizeof(m));
    the_machine = &m;
    m.ram = t_ram_new(0, RAM);
    assert_non_null(m.ram);
    t_ram_back(m.ram, 0, MAPPED);
    t_ram_junk(m.ram, 0, MAPPED, 1);
    t_cpus_init(&m.cpus, 1, m.ram, NULL);
    m.cpu = &m.cpus.cpu[0];
    m.ops = t_cpu_ops;
    m.ops.write_cr = write_cr;
    m.cpu->mmu.cr3 = OLD_ROOT;
    assert_int_equal(mm_x86_64_init(&m.arch, &m.ops, &m.cpus), MM_OK);
    assert_int_equal(mm_x86_64_enable(&m.arch), MM_OK);
    assert_int_equal(mm_bootmap_init(&m.map, m.entries, MM_BOOTMAP_CAPACITY(8)), MM_OK);
    assert_int_equal(mm_bootmap_add(&m.map, mm_prange(mm_paddr(0), RAM), MM_BOOT_USABLE), MM_OK);
    assert_int_equal(mm_bootmap_add(&m.map, mm_prange(mm_paddr(2 * MIB), MIB), MM_BOOT_KERNEL),
                     MM_OK);
    assert_int_equal(mm_bootmap_add(&m.map, mm_prange(mm_paddr(OLD_ROOT), 4096), MM_BOOT_RESERVED),
                     MM_OK);
    m.physmap = mm_physmap_direct(t_ram_base(m.ram));
    m.ranges[0] = mm_vrange(mm_vaddr(t_ram_base(m.ram)), RAM);
    m.ranges[1] = mm_vrange(mm_vaddr(ARENA), UINT64_C(1) << 30);
    m.ranges[2] = mm_vrange(mm_vaddr(IMAGE), UINT64_C(1) << 31);
    m.sections[0] = (struct mm_boot_section){
        .range = mm_vrange(mm_vaddr(IMAGE), 8192), .paddr = mm_paddr(2 * MIB), .prot = MM_PROT_RX};
    m.sections[1] = (struct mm_boot_section){.range = mm_vrange(mm_vaddr(IMAGE + 8192), 100),
                                             .paddr = mm_paddr(2 * MIB + 8192),
                                             .prot = MM_PROT_RW};
    m.device =
        (struct mm_system_device){.range = mm_vrange(mm_vaddr(ARENA + (UINT64_C(1) << 29)), 4096),
                                  .paddr = mm_paddr(0xfee00000),
                                  .type = MM_MEMTYPE_UC};
    m.config = (struct mm_system_config){
        .map = &m.map,
        .physmap = &m.physmap,
        .mapped = mm_prange(mm_paddr(0), MAPPED),
        .platform = t_platform(),
        .backend = mm_x86_64_backend(&m.arch),
        .sections = m.sections,
        .devices = &m.device,
        .kernel_ranges = m.ranges,
        .nr_sections = 2,
        .nr_devices = 1,
        .nr_kernel_ranges = 3,
        .nr_cpus = 2,
        .user = mm_vrange(mm_vaddr(0), UINT64_C(1) << 46),
        .kernel_space = mm_vrange(mm_vaddr(ARENA), UINT64_C(1) << 28),
        .user_ops = &mm_x86_64_user_ops,
    };
    (void)map_hash(&m);
    *state = &m;
    return 0;
}

static inline int stop(void **state)
{
    struct machine *m = *state;

    t_ram_delete(m->ram);
    return 0;
}

/* Taking it down is refused, and every room is still up. */
static inline void expect_busy(struct mm_system *s)
{
    struct mm_dma_stats dma;
    struct mm_spaces_stats spaces;
    struct mm_heap_stats heap;
    struct mm_pool_stats pool;

    assert_int_equal(mm_system_destroy(s), MM_ERR_BUSY);
    assert_int_equal(mm_dma_get_stats(&s->dma, &dma), MM_OK);
    assert_int_equal(mm_spaces_get_stats(&s->spaces, &spaces), MM_OK);
    assert_int_equal(mm_heap_get_stats(&s->heap, &heap), MM_OK);
    assert_int_equal(mm_pool_get_stats(&s->pool, &pool), MM_OK);
    assert_int_equal(mm_system_check(s), MM_OK);
}

/* Fails with this status, and the map, the root and the storage are as before. */
static inline void expect_failure(struct machine *m, mm_status_t status)
{
    static const struct mm_system zero;
    uint64_t before = map_hash(m);

    assert_int_equal(mm_system_init(&m->system, &m->config), status);
    assert_true(map_hash(m) == before);
    assert_int_equal(m->cpu->mmu.cr3, OLD_ROOT);
    assert_memory_equal(&m->system, &zero, sizeof(zero));
}

#endif
