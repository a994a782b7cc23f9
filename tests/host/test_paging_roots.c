// SPDX-License-Identifier: MIT
/**
 * Roots: adopting the boot loader's, activating and destroying, tables through a physmap of ops,
 * the kernel's image and direct map, the printed layout, and the check that finds what is wrong.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "t_paging.h"

static int setup(void **state)
{
    struct t_paging *m = t_paging_new();

    t_paging_start(m);
    *state = m;
    return 0;
}

static int teardown(void **state)
{
    t_paging_delete(*state);
    return 0;
}

/* --- adopt
 * ------------------------------------------------------------------------------------------ */

/* What a boot loader leaves: 2 MiB leaves over the first GiB, at 0 and at the kernel's low range,
 * through tables of its own, which carry a bit that means something to us. */
struct loader {
    uint64_t frames[6]; /* root, two of 512 GiB, two of 1 GiB, one that is empty */
};

static void loader_build(struct t_paging *m, struct loader *l)
{
    for (unsigned i = 0; i < 6; i++) {
        mm_pfn_t frame = {0};

        assert_int_equal(t_source_alloc(m, MM_OWNER_KERNEL, true, &frame), MM_OK);
        l->frames[i] = frame.raw;
    }
    t_table(m, l->frames[0])[0] = l->frames[1] * P4K | 0x203;
    t_table(m, l->frames[0])[256] = l->frames[2] * P4K | 0x3;
    t_table(m, l->frames[1])[0] = l->frames[3] * P4K | 0x3;
    t_table(m, l->frames[2])[0] = l->frames[4] * P4K | 0x203;
    t_table(m, l->frames[2])[1] = l->frames[5] * P4K | 0x1; /* read-only */
    for (unsigned i = 0; i < 512; i++) {
        t_table(m, l->frames[3])[i] = (i * P2M) | 0x83;
        t_table(m, l->frames[4])[i] = (i * P2M) | 0x83;
    }
}

static void loader_free(struct t_paging *m, struct loader *l)
{
    for (unsigned i = 0; i < 6; i++) {
        t_source_free(m, mm_pfn(l->frames[i]));
    }
}

static mm_status_t adopt(struct t_paging *m, const struct loader *l, struct mm_pagetable *pt)
{
    static const struct mm_vrange ranges[] = {
        {{0}, P1G}, {{T_KERNEL_LOW}, 4 * P1G}, {{T_KERNEL_TOP}, P1G}};
    struct mm_paging_config config = t_config(m);

    config.kernel_ranges = ranges;
    config.nr_kernel_ranges = 3;
    config.user = t_range(UINT64_C(1) << 39, P1G);
    return mm_paging_adopt(pt, &config, mm_paddr(l->frames[0] * P4K));
}

static void test_adopt(void **state)
{
    struct t_paging *m = *state;
    struct mm_pagetable pt = {0};
    struct mm_pagetable user = {0};
    struct loader l;
    uint64_t before;

    loader_build(m, &l);
    before = m->nr_used;
    assert_int_equal(adopt(m, &l, &pt), MM_OK);
    assert_int_equal(mm_paging_check(&pt), MM_OK);
    assert_int_equal(pt.nr_tables, 1); /* behind the root entry of the top range */
    assert_int_equal(m->nr_used, before + 1);
    assert_int_equal(pt.nr_leaves[1], 1024);
    assert_int_equal(t_leaf(&pt, 5 * P2M).page.len, P2M);
    assert_int_equal(t_paddr(&pt, T_KERNEL_LOW + 5 * P2M + 7), 5 * P2M + 7);

    /* The identity map goes; its tables stay, empty and linked. */
    assert_int_equal(t_unmap(&pt, 0, P1G, 0), MM_OK);
    assert_true(t_is_hole(&pt, 0));
    assert_int_equal(t_table(m, l.frames[1])[0] & T_MMU_ADDRESS, l.frames[3] * P4K);
    /* Mapping there again: a table of ours inside one of theirs, which is ours to free. */
    assert_int_equal(t_map(&pt, P4K, P1G, P4K, MM_PROT_RW), MM_OK);
    assert_int_equal(pt.nr_tables, 2);
    assert_int_equal(t_map(&pt, P2M, P1G, 5 * P2M, MM_PROT_RW), MM_OK);
    assert_int_equal(t_leaf(&pt, P2M).page.len, P2M);
    assert_int_equal(t_unmap(&pt, P4K, P4K, 0), MM_OK);
    assert_int_equal(pt.nr_tables, 1);
    assert_int_equal(mm_paging_check(&pt), MM_OK);
    /* A leaf of theirs is split. */
    assert_int_equal(
        t_protect(&pt, T_KERNEL_LOW + 9 * P2M + P4K, P4K, MM_PROT_READ, MM_PAGING_SPLIT), MM_OK);
    assert_int_equal(t_paddr(&pt, T_KERNEL_LOW + 9 * P2M + P4K), 9 * P2M + P4K);
    assert_int_equal(pt.nr_tables, 2);
    assert_int_equal(mm_paging_check(&pt), MM_OK);

    /* A user root beside it shares what it has. */
    assert_int_equal(mm_paging_init_user(&user, &pt), MM_OK);
    assert_int_equal(t_paddr(&user, T_KERNEL_LOW + P2M), P2M);
    assert_int_equal(t_map(&user, UINT64_C(1) << 39, P1G, P4K, T_URW), MM_OK);
    assert_int_equal(mm_paging_check(&user), MM_OK);
    assert_int_equal(mm_paging_destroy(&user), MM_OK);

    assert_int_equal(mm_paging_destroy(&pt), MM_OK);
    assert_int_equal(m->nr_used, before);
    assert_int_equal(t_table(m, l.frames[0])[511], 0);
    assert_int_equal(t_table(m, l.frames[4])[9], 0);
    loader_free(m, &l);
}

/* A table of theirs that narrows what is asked for is an error, not a surprise. */
static void test_adopted_tables_that_narrow(void **state)
{
    struct t_paging *m = *state;
    uint64_t at = T_KERNEL_LOW + P1G;
    struct mm_pagetable pt = {0};
    struct mm_gather gather;
    struct loader l;
    uint64_t before;

    loader_build(m, &l);
    assert_int_equal(adopt(m, &l, &pt), MM_OK);
    before = t_state(m, NULL);
    assert_int_equal(t_map(&pt, at, P1G, P2M, MM_PROT_RW), MM_ERR_PERMISSION_DENIED);
    assert_int_equal(t_map(&pt, at - P2M, P1G, 2 * P2M, MM_PROT_RW), MM_ERR_ALREADY_MAPPED);
    assert_int_equal(before, t_state(m, NULL));
    assert_int_equal(t_map(&pt, at, P1G, P2M + P4K, MM_PROT_READ), MM_OK);
    before = t_state(m, NULL);
    assert_int_equal(mm_gather_begin(&gather, &pt), MM_OK);
    assert_int_equal(mm_paging_protect(&pt, t_range(at, P2M), MM_PROT_RW, 0, &gather),
                     MM_ERR_PERMISSION_DENIED);
    assert_int_equal(
        mm_paging_protect(&pt, t_range(at, P1G), MM_PROT_RW, MM_PAGING_SKIP_HOLES, &gather),
        MM_ERR_PERMISSION_DENIED);
    assert_int_equal(
        mm_paging_replace(&pt, mm_vaddr(at + P2M), mm_paddr(0), MM_PROT_RW, 0, &gather),
        MM_ERR_PERMISSION_DENIED);
    assert_int_equal(before, t_state(m, NULL));
    assert_int_equal(mm_paging_protect(&pt, t_range(at, P2M), MM_PROT_RX, 0, &gather), MM_OK);
    assert_int_equal(
        mm_paging_replace(&pt, mm_vaddr(at + P2M), mm_paddr(0), MM_PROT_READ, 0, &gather), MM_OK);
    mm_gather_end(&gather);
    assert_int_equal(t_unmap(&pt, at, P2M + P4K, 0), MM_OK);
    assert_int_equal(mm_paging_destroy(&pt), MM_OK);
    loader_free(m, &l);
}

/* --- activate
 * ----------------------------------------------------------------------------------------- */

static void test_activate(void **state)
{
    struct t_paging *m = *state;
    struct mm_pagetable other = {0};
    struct mm_paging_config config = t_config(m);
    uint64_t seen;

    assert_int_equal(m->cpu->mmu.cr3, m->kernel.root.raw);
    assert_int_equal(t_map(&m->kernel, T_KERNEL_LOW, P1G, P4K, MM_PROT_RW | MM_PROT_GLOBAL), MM_OK);
    assert_int_equal(t_map(&m->user, P4K, 2 * P1G, P4K, T_URW), MM_OK);
    assert_int_equal(mm_paging_activate(&m->user), MM_OK);
    assert_int_equal(t_cpu_access(m->cpu, T_KERNEL_LOW, T_MMU_WRITE, &seen), T_CPU_DONE);
    assert_int_equal(t_cpu_access(m->cpu, T_KERNEL_LOW, T_MMU_USER, &seen),
                     T_MMU_ERR_P | T_MMU_ERR_U);
    assert_int_equal(t_cpu_access(m->cpu, P4K, T_MMU_USER, &seen), T_CPU_DONE);
    assert_int_equal(seen, 2 * P1G);
    /* What a kernel root changes, its user roots see: at once, and flushed. */
    assert_int_equal(t_unmap(&m->kernel, T_KERNEL_LOW, P4K, 0), MM_OK);
    assert_int_equal(t_cpu_access(m->cpu, T_KERNEL_LOW, 0, &seen), 0);
    t_nothing_stale(m);
    /* Another kernel's root: global translations of this one must go. */
    assert_int_equal(t_map(&m->kernel, T_KERNEL_LOW, P1G, P4K, MM_PROT_RW | MM_PROT_GLOBAL), MM_OK);
    assert_int_equal(t_cpu_access(m->cpu, T_KERNEL_LOW, 0, &seen), T_CPU_DONE);
    assert_int_equal(mm_paging_init_kernel(&other, &config), MM_OK);
    assert_int_equal(mm_paging_activate(&other), MM_OK);
    assert_int_equal(t_cpu_access(m->cpu, T_KERNEL_LOW, 0, &seen), 0);
    assert_int_equal(t_map(&other, T_KERNEL_LOW, 5 * P1G, P4K, MM_PROT_RW | MM_PROT_GLOBAL), MM_OK);
    assert_int_equal(t_cpu_access(m->cpu, T_KERNEL_LOW, 0, &seen), T_CPU_DONE);
    assert_int_equal(mm_paging_load_root(other.backend, m->kernel.root), MM_OK);
    assert_int_equal(t_cpu_access(m->cpu, T_KERNEL_LOW, 0, &seen), T_CPU_DONE);
    assert_int_equal(seen, P1G);
    assert_int_equal(mm_paging_destroy(&other), MM_OK);
    assert_int_equal(t_unmap(&m->kernel, T_KERNEL_LOW, P4K, 0), MM_OK);
}

/* Destroying frees every table, whatever is mapped, and no frame of a leaf. */
static void test_destroy(void **state)
{
    struct t_paging *m = *state;
    struct mm_pagetable pt = {0};
    struct mm_pagetable zero = {0};
    uint64_t before = m->nr_used;

    assert_int_equal(mm_paging_init_user(&pt, &m->kernel), MM_OK);
    assert_int_equal(t_map(&pt, 0, T_LEAVES * P4K, 5 * P2M + P4K, T_URW), MM_OK);
    assert_int_equal(t_map(&pt, (UINT64_C(1) << 47) - P1G - P4K, T_LEAVES * P4K, P1G + P4K, T_URW),
                     MM_OK);
    assert_int_equal(mm_paging_destroy(&pt), MM_OK);
    assert_memory_equal(&pt, &zero, sizeof(pt));
    assert_int_equal(m->nr_used, before);
    assert_int_equal(m->nr_released, 0);
    assert_int_equal(mm_paging_check(&m->kernel), MM_OK); /* its tables are untouched */
}

/* --- a physmap of ops
 * ------------------------------------------------------------------------------------ */

static void test_physmap_ops(void **state)
{
    struct t_paging *m = t_paging_new();
    struct mm_pagetable copy = {0};
    struct mm_gather gather;
    struct mm_boot_section section = {t_range(T_KERNEL_TOP, 5 * P4K), mm_paddr(P1G), MM_PROT_RX, 0};
    struct mm_mapping hole;

    (void)state;
    m->physmap = t_physmap_ops(m);
    t_paging_start(m);
    assert_int_equal(t_map(&m->user, P1G - P4K, 5 * P1G - P4K, P1G + 2 * P4K, T_URW), MM_OK);
    assert_int_equal(t_protect(&m->user, P1G + 5 * P4K, P2M, T_UR, MM_PAGING_SPLIT), MM_OK);
    assert_int_equal(t_paddr(&m->user, P1G + P2M), 5 * P1G + P2M);
    assert_int_equal(mm_paging_translate(&m->user, mm_vaddr(0), &hole), MM_ERR_NOT_MAPPED);
    assert_int_equal(mm_paging_init_user(&copy, &m->kernel), MM_OK);
    assert_int_equal(mm_gather_begin(&gather, &m->user), MM_OK);
    assert_int_equal(
        mm_paging_clone(&m->user, &copy, t_range(0, UINT64_C(1) << 47), NULL, NULL, &gather),
        MM_OK);
    assert_int_equal(
        mm_paging_replace(&m->user, mm_vaddr(P1G + 5 * P4K), mm_paddr(0), T_UR, 0, &gather), MM_OK);
    mm_gather_end(&gather);
    assert_int_equal(t_leaf(&copy, P1G + P2M).prot, T_UR);
    assert_int_equal(mm_paging_check(&copy), MM_OK);
    assert_int_equal(t_unmap(&copy, P1G, P2M, MM_PAGING_SPLIT), MM_OK);
    assert_int_equal(mm_paging_destroy(&copy), MM_OK);
    assert_int_equal(mm_paging_map_sections(&m->kernel, &section, 1), MM_OK);
    assert_int_equal(mm_paging_map_sections(&m->kernel, &section, 1), MM_ERR_ALREADY_MAPPED);
    assert_int_equal(t_unmap(&m->user, P1G - P4K, P1G + 2 * P4K, 0), MM_OK);
    assert_int_equal(m->nr_mapped, 0);
    assert_in_range(m->max_mapped, 2, 3);
    t_paging_delete(m);
}

static void *map_no_frame(void *ctx, mm_pfn_t frame)
{
    (void)ctx;
    (void)frame;
    return NULL;
}

static void test_physmap_without_room(void **state)
{
    struct t_paging *m = *state;
    struct mm_physmap_ops ops = {.map = map_no_frame, .unmap = t_unmap_frame};
    struct mm_physmap physmap = {.ops = &ops, .ctx = m};
    struct mm_pagetable pt = {0};
    struct mm_paging_config config = t_config(m);
    struct t_trap_info info;
    struct mm_mapping leaf;
    volatile mm_status_t status = MM_OK;
    uint32_t left;

    config.physmap = &physmap;
    left = m->stack[m->nr_stack - 1];
    T_EXPECT_PANIC(status = mm_paging_init_kernel(&pt, &config), &info);
    assert_string_equal(info.room, "paging");
    pt = m->kernel;
    pt.physmap = physmap;
    T_EXPECT_PANIC(status = mm_paging_translate(&pt, mm_vaddr(T_KERNEL_LOW), &leaf), &info);
    assert_int_equal(status, MM_OK); /* no call came back */
    assert_int_equal(info.address, m->kernel.root.raw);
    t_source_free(m, mm_pfn(left)); /* what the first panic had in hand */
}

/* --- the kernel's image
 * ------------------------------------------------------------------------------------ */

static struct mm_boot_section section(uint64_t at, uint64_t len, uint64_t paddr, mm_prot_t prot)
{
    struct mm_boot_section s = {t_range(at, len), mm_paddr(paddr), prot, 0};

    return s;
}

static void test_sections(void **state)
{
    struct t_paging *m = *state;
    uint64_t at = T_KERNEL_TOP + P1G;
    struct mm_boot_section sections[] = {
        section(at + 8 * P2M + 0x10, 0, 5, MM_PROT_RW), /* empty: no page, whatever it says */
        section(at + 0x40, 2 * P2M, 4 * P2M + 0x40, MM_PROT_RX),
        section(at + 3 * P2M, 0x1234, 7 * P2M, MM_PROT_READ),
        section(at + 3 * P2M + 0x2008, 0x800, 7 * P2M + 0x2008, MM_PROT_RW),  /* data ... */
        section(at + 3 * P2M + 0x2900, 0x5000, 7 * P2M + 0x2900, MM_PROT_RW), /* ... then bss */
        section(at + 3 * P2M + 0x2000, 0x9000, 7 * P2M + 0x2000, MM_PROT_RW), /* around both */
    };

    assert_int_equal(mm_paging_map_sections(&m->kernel, sections, 6), MM_OK);
    assert_int_equal(t_leaf(&m->kernel, at).prot, MM_PROT_RX | MM_PROT_GLOBAL);
    assert_int_equal(t_leaf(&m->kernel, at).page.len, P2M);
    assert_int_equal(t_paddr(&m->kernel, at + 2 * P2M + 0x39),
                     6 * P2M + 0x39); /* the tail's page */
    assert_true(t_is_hole(&m->kernel, at + 2 * P2M + P4K));
    assert_int_equal(t_leaf(&m->kernel, at + 3 * P2M).prot, MM_PROT_READ | MM_PROT_GLOBAL);
    for (uint64_t off = 0x2000; off < 0xb000; off += P4K) {
        assert_int_equal(t_leaf(&m->kernel, at + 3 * P2M + off).prot, MM_PROT_RW | MM_PROT_GLOBAL);
        assert_int_equal(t_paddr(&m->kernel, at + 3 * P2M + off), 7 * P2M + off);
    }
    assert_true(t_is_hole(&m->kernel, at + 3 * P2M + 0xb000));
    assert_int_equal(m->kernel.nr_leaves[0], 1 + 2 + 9);
    assert_int_equal(m->nr_used, m->kernel.nr_tables + m->user.nr_tables);
}

/* The last page of the address space belongs to an image, too. */
static void test_section_at_the_top(void **state)
{
    struct t_paging *m = *state;
    struct mm_boot_section sections[] = {
        section(0 - P4K, P4K - 1, P1G, MM_PROT_RW),
        section(0 - 3 * P4K, 3 * P4K, P1G - 2 * P4K, MM_PROT_RW),
    };

    assert_int_equal(mm_paging_map_sections(&m->kernel, sections, 2), MM_OK);
    assert_int_equal(t_paddr(&m->kernel, UINT64_MAX), P1G + P4K - 1);
    assert_int_equal(t_paddr(&m->kernel, 0 - 3 * P4K), P1G - 2 * P4K);
    assert_int_equal(m->kernel.nr_leaves[0], 3);
}

static void sections_fail(struct t_paging *m, const struct mm_boot_section *sections, uint32_t nr,
                          mm_status_t wanted)
{
    uint64_t before = t_state(m, NULL);
    mm_status_t status = mm_paging_map_sections(&m->kernel, sections, nr);

    if (status != wanted) {
        fail_msg("%s, not %s", mm_status_str(status), mm_status_str(wanted));
    }
    assert_int_equal(before, t_state(m, NULL));
}

static void test_bad_sections(void **state)
{
    struct t_paging *m = *state;
    uint64_t at = T_KERNEL_TOP;
    struct mm_pagetable none = {0};
    struct mm_boot_section s[3];

    s[0] = section(at, P4K, P1G, MM_PROT_RX);
    assert_int_equal(mm_paging_map_sections(NULL, s, 1), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_paging_map_sections(&none, s, 1), MM_ERR_NOT_INITIALIZED);
    sections_fail(m, NULL, 1, MM_ERR_INVALID_ARGUMENT);
    sections_fail(m, s, 0, MM_ERR_INVALID_ARGUMENT);
    s[1] = section(at + P4K, P4K, P1G, MM_PROT_RW | MM_PROT_EXEC);
    sections_fail(m, s, 2, MM_ERR_PERMISSION_DENIED);
    s[1] = section(at + P4K - 1, P4K, P1G + P4K - 1, MM_PROT_RW);
    sections_fail(m, s, 2, MM_ERR_PERMISSION_DENIED); /* shares the first one's page */
    s[1] = section(at + P4K - 1, P4K, P1G + P2M + P4K - 1, MM_PROT_RX);
    sections_fail(m, s, 2, MM_ERR_ALREADY_MAPPED); /* one page, two frames */
    s[1] = section(at + P4K, P4K, P1G + 8, MM_PROT_RW);
    sections_fail(m, s, 2, MM_ERR_NOT_ALIGNED);
    s[1] = section(0 - P4K, 2 * P4K, P1G, MM_PROT_RW);
    sections_fail(m, s, 2, MM_ERR_INVALID_SIZE);
    s[1] = section(at + P4K, 2 * P4K, 0 - P4K, MM_PROT_RW);
    sections_fail(m, s, 2, MM_ERR_INVALID_SIZE);
    /* What is found only when the ones before it are mapped. */
    s[1] = section(at + P2M, 3 * P2M, P2M, MM_PROT_RW);
    s[2] = section(0, P4K, P1G, MM_PROT_RW);
    sections_fail(m, s, 3, MM_ERR_INVALID_ADDRESS);
    s[2] = section(at + P1G, P4K, UINT64_C(1) << 46, MM_PROT_RW);
    sections_fail(m, s, 3, MM_ERR_INVALID_ADDRESS);
    s[2] = section(at + P1G, P4K, P1G, MM_PROT_READ | MM_PROT_USER);
    sections_fail(m, s, 3, MM_ERR_INVALID_FLAGS);
    assert_int_equal(t_map(&m->kernel, at + 3 * P2M + 9 * P4K, P1G, P4K, MM_PROT_RW), MM_OK);
    sections_fail(m, s, 2, MM_ERR_ALREADY_MAPPED);
}

/* --- the direct map
 * ------------------------------------------------------------------------------------------ */

static void add(struct mm_bootmap *map, uint64_t start, uint64_t len, enum mm_boot_kind kind)
{
    assert_int_equal(mm_bootmap_add(map, mm_prange(mm_paddr(start), len), kind), MM_OK);
}

static void test_direct_map(void **state)
{
    struct t_paging *m = *state;
    struct mm_boot_entry entries[32];
    struct mm_bootmap map = {0};
    struct mm_physmap direct = mm_physmap_direct(T_KERNEL_LOW);
    uint64_t base = T_KERNEL_LOW;

    assert_int_equal(mm_bootmap_init(&map, entries, 32), MM_OK);
    add(&map, 0, 0x9fc00, MM_BOOT_USABLE);
    add(&map, 0x9fc00, 0x400, MM_BOOT_RESERVED);
    add(&map, 0x100000, 5 * P1G - 0x100000, MM_BOOT_USABLE);
    add(&map, 0x200000, 0x123456, MM_BOOT_KERNEL);
    add(&map, 0x400000, 0x777, MM_BOOT_MODULE);
    add(&map, 3 * P1G, P1G, MM_BOOT_MMIO);
    add(&map, 5 * P1G + 0x800, 0x900, MM_BOOT_ACPI_RECLAIM);
    add(&map, 6 * P1G, P2M, MM_BOOT_RUNTIME);
    add(&map, 6 * P1G + P2M, P2M, MM_BOOT_ACPI_NVS);
    assert_int_equal(mm_paging_map_direct(&m->kernel, &map, &direct, NULL, 0), MM_OK);
    assert_int_equal(t_leaf(&m->kernel, base + 0x9e000).prot, MM_PROT_RW | MM_PROT_GLOBAL);
    assert_true(t_is_hole(&m->kernel, base + 0x9f000)); /* partly reserved */
    assert_true(t_is_hole(&m->kernel, base + 0xa0000));
    assert_int_equal(t_leaf(&m->kernel, base + 0x100000).page.len, P4K);
    assert_int_equal(t_leaf(&m->kernel, base + 0x200000).page.len, P2M); /* the image is RAM */
    assert_int_equal(t_leaf(&m->kernel, base + P1G).page.len, P1G);
    assert_int_equal(t_leaf(&m->kernel, base + 2 * P1G + 9).page.len, P1G);
    assert_true(t_is_hole(&m->kernel, base + 3 * P1G));
    assert_int_equal(t_leaf(&m->kernel, base + 4 * P1G).page.len, P1G);
    assert_int_equal(t_paddr(&m->kernel, base + 5 * P1G + 0x10ff), 5 * P1G + 0x10ff); /* ACPI */
    assert_true(t_is_hole(&m->kernel, base + 6 * P1G));
    assert_int_equal(t_paddr(&m->kernel, base + 6 * P1G + P2M), 6 * P1G + P2M);
    assert_int_equal(m->kernel.nr_leaves[2], 3);
    assert_int_equal(m->nr_used, m->kernel.nr_tables + m->user.nr_tables);
    assert_int_equal(mm_paging_check(&m->kernel), MM_OK);
}

static void direct_fails(struct t_paging *m, struct mm_bootmap *map,
                         const struct mm_physmap *physmap, mm_status_t wanted)
{
    uint64_t before = t_state(m, NULL);
    mm_status_t status = mm_paging_map_direct(&m->kernel, map, physmap, NULL, 0);

    if (status != wanted) {
        fail_msg("%s, not %s", mm_status_str(status), mm_status_str(wanted));
    }
    assert_int_equal(before, t_state(m, NULL));
}

static void test_bad_direct_map(void **state)
{
    struct t_paging *m = *state;
    struct mm_boot_entry entries[8];
    struct mm_bootmap map = {0};
    struct mm_bootmap none = {0};
    struct mm_pagetable no_table = {0};
    struct mm_physmap direct = mm_physmap_direct(T_KERNEL_LOW);
    struct mm_physmap by_ops = t_physmap_ops(m);
    struct mm_physmap odd = direct;

    assert_int_equal(mm_bootmap_init(&map, entries, 8), MM_OK);
    add(&map, 0, 0x9f000, MM_BOOT_USABLE);
    add(&map, P1G, 4 * P1G, MM_BOOT_USABLE);
    assert_int_equal(mm_paging_map_direct(NULL, &map, &direct, NULL, 0), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_paging_map_direct(&no_table, &map, &direct, NULL, 0),
                     MM_ERR_NOT_INITIALIZED);
    direct_fails(m, NULL, &direct, MM_ERR_INVALID_ARGUMENT);
    direct_fails(m, &map, NULL, MM_ERR_INVALID_ARGUMENT);
    direct_fails(m, &none, &direct, MM_ERR_NOT_INITIALIZED);
    direct_fails(m, &map, &by_ops, MM_ERR_UNSUPPORTED);
    odd.base += 8;
    direct_fails(m, &map, &odd, MM_ERR_NOT_ALIGNED);
    odd = direct;
    odd.first = mm_paddr(8);
    odd.len = P4K;
    direct_fails(m, &map, &odd, MM_ERR_NOT_ALIGNED);
    odd.first = mm_paddr(2 * P4K);
    odd.len = 0 - P4K;
    direct_fails(m, &map, &odd, MM_ERR_INVALID_SIZE);
    /* Only what the window reaches: the low piece is cut at both ends, the high one is out. */
    odd.first = mm_paddr(2 * P4K);
    odd.len = 5 * P4K;
    assert_int_equal(mm_paging_map_direct(&m->kernel, &map, &odd, NULL, 0), MM_OK);
    assert_int_equal(m->kernel.nr_leaves[0], 5);
    assert_int_equal(t_paddr(&m->kernel, T_KERNEL_LOW + 2 * P4K), 2 * P4K);
    assert_int_equal(t_unmap(&m->kernel, T_KERNEL_LOW, P2M, MM_PAGING_SKIP_HOLES), MM_OK);
    /* More memory than the declared range holds; then a mapping in the way. */
    add(&map, 7 * P1G, 2 * P1G, MM_BOOT_USABLE);
    direct_fails(m, &map, &direct, MM_ERR_INVALID_ADDRESS);
    assert_int_equal(t_map(&m->kernel, T_KERNEL_LOW + 4 * P1G, 0, P4K, MM_PROT_READ), MM_OK);
    direct_fails(m, &map, &direct, MM_ERR_ALREADY_MAPPED);
}

/* --- layout and check
 * --------------------------------------------------------------------------------------- */

struct lines {
    unsigned nr;
    char text[16][161];
};

static void take_line(void *ctx, const char *line, size_t len)
{
    struct lines *lines = ctx;

    assert_true(lines->nr < 16 && len <= 160);
    memcpy(lines->text[lines->nr], line, len);
    lines->text[lines->nr++][len] = '\0';
}

static const struct mm_platform_ops line_ops = {.panic = t_platform_panic, .log = take_line};

/* Each line damages a tree, and the check must say so; then the damage is undone. */
#define CAUGHT(pt, place, value, sentence)                                                         \
    do {                                                                                           \
        uint64_t kept_ = (place);                                                                  \
        lines.nr = 0;                                                                              \
        (place) = (value);                                                                         \
        assert_int_equal(mm_paging_check(pt), MM_ERR_CORRUPTED);                                   \
        assert_non_null(strstr(lines.text[0], sentence));                                          \
        (place) = kept_;                                                                           \
        lines.nr = 0;                                                                              \
        assert_int_equal(mm_paging_check(pt), MM_OK);                                              \
    } while (0)

static void test_check_finds(void **state)
{
    struct t_paging *m = *state;
    struct lines lines = {0};
    uint64_t *root = t_table(m, m->user.root.raw / P4K);
    uint64_t *top; /* 1 GiB slots */
    uint64_t *middle;
    uint64_t *bottom;
    uint64_t *kernel;
    uint64_t *slot;

    m->user.platform = m->kernel.platform = (struct mm_platform){&line_ops, &lines};
    assert_int_equal(t_map(&m->user, 0, 0, P4K, T_URW), MM_OK);
    assert_int_equal(t_map(&m->user, P2M, P2M, P2M, T_URW), MM_OK);
    assert_int_equal(t_map(&m->kernel, T_KERNEL_LOW, P1G, P1G, MM_PROT_RW), MM_OK);
    top = t_table(m, (root[0] & T_MMU_ADDRESS) / P4K);
    middle = t_table(m, (top[0] & T_MMU_ADDRESS) / P4K);
    bottom = t_table(m, (middle[0] & T_MMU_ADDRESS) / P4K);
    slot = &t_table(m, m->kernel.root.raw / P4K)[256];
    kernel = t_table(m, (*slot & T_MMU_ADDRESS) / P4K);

    CAUGHT(&m->user, bottom[0], bottom[0] & ~UINT64_C(4), "the kernel's");
    *slot |= 4;
    CAUGHT(&m->kernel, kernel[0], kernel[0] | 4, "open to the user");
    *slot &= ~UINT64_C(4);
    CAUGHT(&m->user, bottom[0], bottom[0] | (UINT64_C(1) << 46), "physical address");
    CAUGHT(&m->user, bottom[5], 0x1000, "may name memory");
    CAUGHT(&m->user, bottom[5], UINT64_C(0x000ff8000000001e), "belongs in no tree");
    CAUGHT(&m->user, bottom[5], bottom[0], "leaves mapped");
    CAUGHT(&m->user, bottom[0], 0, "an empty table");
    CAUGHT(&m->user, middle[1], middle[1] | 0x2000, "reserved bits");
    CAUGHT(&m->user, middle[2], middle[0], "tables linked"); /* one table, linked twice */
    CAUGHT(&m->user, top[0], top[0] | (UINT64_C(1) << 46), "physical address");
    CAUGHT(&m->user, root[0], root[0] | 0x80, "has not");
    CAUGHT(&m->user, root[300], root[256], "never declared");
    CAUGHT(&m->user, root[256], 0, "is missing");
    CAUGHT(&m->user, m->user.nr_tables, 17, "tables linked");
    CAUGHT(&m->user, m->user.nr_leaves[1], 17, "leaves mapped");
    m->arch.enabled.nx = false;
    lines.nr = 0;
    assert_int_equal(mm_paging_check(&m->user), MM_ERR_CORRUPTED);
    assert_non_null(strstr(lines.text[0], "NX"));
    m->arch.enabled.nx = true;
    m->user.platform = m->kernel.platform = t_platform();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_adopt, setup, teardown),
        cmocka_unit_test_setup_teardown(test_adopted_tables_that_narrow, setup, teardown),
        cmocka_unit_test_setup_teardown(test_activate, setup, teardown),
        cmocka_unit_test_setup_teardown(test_destroy, setup, teardown),
        cmocka_unit_test(test_physmap_ops),
        cmocka_unit_test_setup_teardown(test_physmap_without_room, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sections, setup, teardown),
        cmocka_unit_test_setup_teardown(test_section_at_the_top, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_sections, setup, teardown),
        cmocka_unit_test_setup_teardown(test_direct_map, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_direct_map, setup, teardown),
        cmocka_unit_test_setup_teardown(test_check_finds, setup, teardown),
    };

    return cmocka_run_group_tests_name("paging_roots", tests, NULL, NULL);
}
