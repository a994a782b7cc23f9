// SPDX-License-Identifier: MIT
/**
 * What the tests of paging share: a machine of simulated RAM for tables, simulated CPUs, a source
 * of frames that counts, fails on demand and fills what is free with junk, and roots to play with.
 *
 * Tables lie in RAM from 0 up; frames of leaves are numbers from T_LEAVES on and need no memory.
 * Include after <cmocka.h>.
 */
#ifndef T_PAGING_H
#define T_PAGING_H

#include "hash.h"
#include "inject.h"
#include "sim_cpu_mm.h"
#include "trap_mm.h"

#include <mm/paging_slots.h>
#include <mm/tlb.h>

#include <stdlib.h>
#include <string.h>

/* Sizes of leaves. */
#define P4K UINT64_C(0x1000)
#define P2M UINT64_C(0x200000)
#define P1G UINT64_C(0x40000000)

#define T_TABLES    4096u              /* frames of RAM */
#define T_LEAVES    UINT64_C(0x100000) /* first frame that the source counts as a leaf's */
#define T_NR_LEAVES (UINT64_C(1) << 20)

struct t_paging {
    struct t_ram *ram;
    struct t_cpus cpus;
    struct t_cpu *cpu; /* the first */
    struct mm_x86_64 arch;
    struct mm_physmap physmap;
    struct t_inject inject;
    bool used[T_TABLES];
    uint32_t stack[T_TABLES]; /* free frames */
    uint32_t nr_stack;
    uint32_t highest; /* above all frames that were ever used */
    uint64_t nr_used;
    uint8_t *released; /* by frame of a leaf: how often it was given back */
    uint64_t nr_released;
    uint64_t nr_mapped; /* by the physmap's ops, now and at most */
    uint64_t max_mapped;
    struct mm_pagetable kernel;
    struct mm_pagetable user;
    void *tlb; /* of t_tlb.h; NULL: none */
};

/* The kernel's ranges of most tests: the second ends at 2^64. */
#define T_KERNEL_LOW     UINT64_C(0xffff800000000000)
#define T_KERNEL_LOW_LEN (UINT64_C(8) << 30)
#define T_KERNEL_TOP     UINT64_C(0xffffffff00000000)
#define T_KERNEL_TOP_LEN (UINT64_C(1) << 32)

/* --- source of frames ------------------------------------------------------------------------ */

static inline uint64_t t_junk(uint64_t frame, unsigned i)
{
    return (frame * 512 + i) * UINT64_C(0x9e3779b97f4a7c15) + 1;
}

static inline uint64_t *t_table(const struct t_paging *m, uint64_t frame)
{
    return t_ram_ptr(m->ram, frame * 4096);
}

static inline void t_fill_junk(const struct t_paging *m, uint64_t frame)
{
    for (unsigned i = 0; i < 512; i++) {
        t_table(m, frame)[i] = t_junk(frame, i);
    }
}

static inline mm_status_t t_source_alloc(void *ctx, enum mm_frame_owner owner, bool zeroed,
                                         mm_pfn_t *out)
{
    struct t_paging *m = ctx;
    uint32_t frame;

    t_cpus_drift(&m->cpus);
    if (t_inject_fails(&m->inject)) {
        return MM_ERR_NO_MEMORY;
    }
    assert_true(owner == MM_OWNER_PAGE_TABLE || owner == MM_OWNER_KERNEL);
    assert_true(m->nr_stack > 0);
    frame = m->stack[--m->nr_stack];
    for (unsigned i = 0; i < 512; i++) {
        if (t_table(m, frame)[i] != t_junk(frame, i)) {
            fail_msg("frame %u was written while it was free", frame);
        }
    }
    if (zeroed) {
        memset(t_table(m, frame), 0, 4096);
    }
    m->used[frame] = true;
    m->nr_used++;
    m->highest = frame >= m->highest ? frame + 1 : m->highest;
    *out = mm_pfn(frame);
    return MM_OK;
}

/** A frame that comes back is in no cache of any CPU (hazard 13). */
static inline void t_nothing_holds(struct t_paging *m, mm_pfn_t frame)
{
    const char *wrong = t_cpus_freed(&m->cpus, frame.raw * 4096);

    if (wrong != NULL) {
        fail_msg("frame %#llx is freed, but: %s", (unsigned long long)frame.raw, wrong);
    }
}

/** Once each gather has ended, what is cached is what the tables say. */
static inline void t_nothing_stale(struct t_paging *m)
{
    const char *wrong = t_cpus_sweep(&m->cpus, T_SWEEP_SAME);

    if (wrong != NULL) {
        fail_msg("%s", wrong);
    }
}

static inline void t_source_free(void *ctx, mm_pfn_t frame)
{
    struct t_paging *m = ctx;

    t_cpus_drift(&m->cpus);
    if (frame.raw >= T_LEAVES && frame.raw < T_LEAVES + T_NR_LEAVES) {
        t_nothing_holds(m, frame);
        m->released[frame.raw - T_LEAVES]++;
        m->nr_released++;
        return;
    }
    assert_true(frame.raw < T_TABLES && m->used[frame.raw]);
    m->used[frame.raw] = false;
    t_nothing_holds(m, frame);
    m->nr_used--;
    t_fill_junk(m, frame.raw);
    m->stack[m->nr_stack++] = (uint32_t)frame.raw;
}

static inline struct mm_frame_source t_source(struct t_paging *m)
{
    static const struct mm_frame_source_ops ops = {.alloc = t_source_alloc, .free = t_source_free};
    struct mm_frame_source source = {&ops, m};

    return source;
}

/* --- a physmap of ops: at most 3 tables at a time -------------------------------------------- */

static inline void *t_map_frame(void *ctx, mm_pfn_t frame)
{
    struct t_paging *m = ctx;

    m->nr_mapped++;
    m->max_mapped = m->nr_mapped > m->max_mapped ? m->nr_mapped : m->max_mapped;
    return m->nr_mapped > 3 ? NULL : t_table(m, frame.raw);
}

static inline void t_unmap_frame(void *ctx, void *mapped)
{
    struct t_paging *m = ctx;

    (void)mapped;
    assert_true(m->nr_mapped > 0);
    m->nr_mapped--;
}

static inline struct mm_physmap t_physmap_ops(struct t_paging *m)
{
    static const struct mm_physmap_ops ops = {.map = t_map_frame, .unmap = t_unmap_frame};
    struct mm_physmap physmap = {.ops = &ops, .ctx = m};

    return physmap;
}

/* --- the machine ----------------------------------------------------------------------------- */

static inline bool t_is_free(void *ctx, uint64_t paddr)
{
    const struct t_paging *m = ctx;
    uint64_t frame = paddr / 4096;

    return frame != 0 && frame < T_TABLES && !m->used[frame];
}

/** CPUs as a boot loader leaves them, over the machine's RAM and its source of frames. */
static inline void t_paging_cpus(struct t_paging *m, unsigned nr, const struct t_cpu_features *has)
{
    t_cpus_init(&m->cpus, nr, m->ram, has);
    m->cpu = &m->cpus.cpu[0];
    m->cpus.is_free = t_is_free;
    m->cpus.ctx = m;
    m->cpus.told = true;
}

/** Simulated RAM and CPUs that the test may still change; t_paging_start() comes next. With more
 * than one CPU, what invalidates is broadcast. */
static inline struct t_paging *t_paging_new_cpus(unsigned nr)
{
    struct t_paging *m = calloc(1, sizeof(*m));

    assert_non_null(m);
    m->ram = t_ram_new(0, T_TABLES * 4096u);
    assert_non_null(m->ram);
    t_ram_back(m->ram, 0, T_TABLES * 4096u);
    t_paging_cpus(m, nr, NULL);
    m->physmap = mm_physmap_direct(t_ram_base(m->ram));
    m->released = calloc(T_NR_LEAVES, 1);
    assert_non_null(m->released);
    for (uint32_t frame = T_TABLES; --frame > 0;) { /* frame 0 is left out */
        m->stack[m->nr_stack++] = frame;
    }
    for (uint64_t frame = 0; frame < T_TABLES; frame++) {
        t_fill_junk(m, frame);
    }
    return m;
}

static inline struct t_paging *t_paging_new(void)
{
    return t_paging_new_cpus(1);
}

static inline struct mm_paging_config t_config(struct t_paging *m)
{
    static const struct mm_vrange ranges[] = {
        {{T_KERNEL_LOW}, T_KERNEL_LOW_LEN},
        {{T_KERNEL_TOP}, T_KERNEL_TOP_LEN},
    };
    struct mm_paging_config config = {
        .backend = mm_x86_64_backend(&m->arch),
        .physmap = &m->physmap,
        .source = t_source(m),
        .platform = t_platform(),
        .kernel_ranges = ranges,
        .nr_kernel_ranges = 2,
        .user = {{0}, UINT64_C(1) << 47},
    };

    return config;
}

static inline void t_paging_arch(struct t_paging *m)
{
    t_cpus_configure(&m->cpus, NULL);
    assert_int_equal(
        mm_x86_64_init(&m->arch, m->cpus.nr > 1 ? &t_cpu_broadcast_ops : &t_cpu_ops, &m->cpus),
        MM_OK);
    for (m->cpus.now = m->cpus.nr; m->cpus.now-- > 0;) {
        assert_int_equal(mm_x86_64_enable(&m->arch), MM_OK);
    }
    m->cpus.now = 0;
}

/** Features on, a kernel root in use on each CPU, a user root beside it. */
static inline void t_paging_start(struct t_paging *m)
{
    struct mm_paging_config config;

    t_paging_arch(m);
    config = t_config(m);
    assert_int_equal(mm_paging_init_kernel(&m->kernel, &config), MM_OK);
    assert_int_equal(mm_paging_init_user(&m->user, &m->kernel), MM_OK);
    for (m->cpus.now = m->cpus.nr; m->cpus.now-- > 0;) {
        assert_int_equal(mm_paging_activate(&m->kernel), MM_OK);
    }
    m->cpus.now = 0;
}

/** Take both roots down, if they are up; every frame must be back. */
static inline void t_paging_delete(struct t_paging *m)
{
    t_cpus_noise(&m->cpus, 0, 0);
    m->cpus.now = 0;
    for (unsigned i = 0; i < m->cpus.nr; i++) {
        m->cpus.cpu[i].mmu.cr3 = T_TABLES * 4096u; /* some root elsewhere */
        t_cpu_drop_all(&m->cpus.cpu[i]);
    }
    if (m->user.magic != 0) {
        assert_int_equal(mm_paging_check(&m->user), MM_OK);
        assert_int_equal(mm_paging_destroy(&m->user), MM_OK);
    }
    if (m->kernel.magic != 0) {
        assert_int_equal(mm_paging_check(&m->kernel), MM_OK);
        assert_int_equal(mm_paging_destroy(&m->kernel), MM_OK);
    }
    assert_int_equal(m->nr_used, 0);
    assert_int_equal(m->nr_mapped, 0);
    t_ram_delete(m->ram);
    free(m->released);
    free(m);
}

/** A page table but for the count of all tables that it ever unlinked. */
static inline uint64_t t_hash_pagetable(uint64_t hash, const struct mm_pagetable *pt)
{
    uint64_t before = offsetof(struct mm_pagetable, nr_unlinked);
    uint64_t after = before + sizeof(pt->nr_unlinked);

    hash = t_hash_more(hash, pt, before);
    return t_hash_more(hash, (const unsigned char *)pt + after, sizeof(*pt) - after);
}

/** All state of the library: tables, objects. Not the gather's unused room. */
static inline uint64_t t_state(const struct t_paging *m, const struct mm_gather *gather)
{
    uint64_t hash = T_HASH_START;

    for (uint64_t frame = 0; frame < m->highest; frame++) {
        if (m->used[frame]) {
            hash = t_hash_more(t_hash_u64(hash, frame), t_table(m, frame), 4096);
        }
    }
    hash = t_hash_pagetable(hash, &m->kernel);
    hash = t_hash_pagetable(hash, &m->user);
    hash = t_hash_more(hash, &m->arch, sizeof(m->arch));
    hash = t_hash_u64(hash, m->nr_released);
    if (gather != NULL) {
        hash = t_hash_more(hash, gather, sizeof(*gather));
    }
    return t_hash_finish(hash);
}

/* --- short forms ----------------------------------------------------------------------------- */

static inline struct mm_vrange t_range(uint64_t start, uint64_t len)
{
    return mm_vrange(mm_vaddr(start), len);
}

static inline mm_status_t t_map(struct mm_pagetable *pt, uint64_t at, uint64_t paddr, uint64_t len,
                                mm_prot_t prot)
{
    return mm_paging_map(pt, t_range(at, len), mm_paddr(paddr), prot, MM_MEMTYPE_WB, 0);
}

/** Unmap in a gather of its own. */
static inline mm_status_t t_unmap(struct mm_pagetable *pt, uint64_t at, uint64_t len,
                                  uint32_t flags)
{
    struct mm_gather gather;
    mm_status_t status;

    assert_int_equal(mm_gather_begin(&gather, pt), MM_OK);
    status = mm_paging_unmap(pt, t_range(at, len), flags, &gather);
    mm_gather_end(&gather);
    return status;
}

static inline mm_status_t t_protect(struct mm_pagetable *pt, uint64_t at, uint64_t len,
                                    mm_prot_t prot, uint32_t flags)
{
    struct mm_gather gather;
    mm_status_t status;

    assert_int_equal(mm_gather_begin(&gather, pt), MM_OK);
    status = mm_paging_protect(pt, t_range(at, len), prot, flags, &gather);
    mm_gather_end(&gather);
    return status;
}

/** The leaf at an address; the test fails if there is none. */
static inline struct mm_mapping t_leaf(const struct mm_pagetable *pt, uint64_t at)
{
    struct mm_mapping leaf;

    memset(&leaf, 0, sizeof(leaf));
    assert_int_equal(mm_paging_translate(pt, mm_vaddr(at), &leaf), MM_OK);
    assert_int_equal(leaf.kind, MM_SLOT_LEAF);
    assert_true(at - leaf.page.start.raw < leaf.page.len);
    return leaf;
}

/** Physical address of a byte, as translate says. */
static inline uint64_t t_paddr(const struct mm_pagetable *pt, uint64_t at)
{
    struct mm_mapping leaf = t_leaf(pt, at);

    return leaf.paddr.raw + (at - leaf.page.start.raw);
}

static inline bool t_is_hole(const struct mm_pagetable *pt, uint64_t at)
{
    struct mm_mapping hole;

    return mm_paging_translate(pt, mm_vaddr(at), &hole) == MM_ERR_NOT_MAPPED;
}

#define T_URW (MM_PROT_RW | MM_PROT_USER)
#define T_URX (MM_PROT_RX | MM_PROT_USER)
#define T_UR  (MM_PROT_READ | MM_PROT_USER)

#endif
