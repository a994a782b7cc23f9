// SPDX-License-Identifier: MIT
/**
 * Bringing the machine up and down: see the header.
 */
#include "machine_mm.h"

#include "ledger_mm.h"
#include "trap_mm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MIB UINT64_C(0x100000)

/* Setting up is no test: what fails here ends the program. */
static void must(bool good, const char *what)
{
    if (!good) {
        fprintf(stderr, "machine: %s\n", what);
        abort();
    }
}

static mm_status_t pool_alloc(void *ctx, uint64_t nr_pages, uint64_t align, uint32_t flags,
                              void **out)
{
    struct t_machine *m = ctx;
    struct mm_page_source source = mm_page_source_range(&m->pool_range);

    if (t_inject_fails(&m->pool_inject)) {
        return MM_ERR_NO_MEMORY;
    }
    return source.ops->alloc(source.ctx, nr_pages, align, flags, out);
}

static void pool_free(void *ctx, void *pages, uint64_t nr_pages)
{
    struct t_machine *m = ctx;
    struct mm_page_source source = mm_page_source_range(&m->pool_range);

    source.ops->free(source.ctx, pages, nr_pages);
}

static const struct mm_page_source_ops pool_ops = {.alloc = pool_alloc, .free = pool_free};

static void start_frames(struct t_machine *m, const struct t_machine_config *config)
{
    uint64_t len = config->ram_len == 0 ? 8 * MIB : config->ram_len;
    struct mm_frames_config frames = {.map = &m->map,
                                      .physmap = &m->physmap,
                                      .platform = m->platform,
                                      .nr_cpus = config->tlb ? config->nr_cpus : 1,
                                      .flags = (config->no_counts ? 0 : MM_FRAMES_REFCOUNTS) |
                                               (config->owners ? MM_FRAMES_OWNERS : 0)};

    m->ram = t_ram_new(0, MIB + len);
    must(m->ram != NULL, "no room for its RAM");
    t_ram_back(m->ram, MIB, len);
    t_ram_junk(m->ram, MIB, len, 1);
    m->physmap = mm_physmap_direct(t_ram_base(m->ram));
    must(mm_bootmap_init(&m->map, m->entries, 16) == MM_OK, "boot map");
    must(mm_bootmap_add(&m->map, mm_prange(mm_paddr(MIB), len), MM_BOOT_USABLE) == MM_OK,
         "boot map: RAM");
    must(mm_frame_init_from_map(&m->frames, &frames, mm_prange(mm_paddr(0), MIB + len)) == MM_OK,
         "frames");
}

/* --- frames for tables and user pages: watched where they come back ---------------------------- */

static mm_status_t source_alloc(void *ctx, enum mm_frame_owner owner, bool zeroed, mm_pfn_t *out)
{
    struct t_machine *m = ctx;
    struct mm_frame_source source = mm_frame_source_of(&m->frames);

    t_cpus_drift(&m->cpus);
    return source.ops->alloc(source.ctx, owner, zeroed, out);
}

/* A frame is junk before it is free, and no cache of any CPU may lead to it any more. */
static void source_free(void *ctx, mm_pfn_t frame)
{
    struct t_machine *m = ctx;
    const char *wrong;

    t_cpus_drift(&m->cpus);
    if (mm_frame_refs(&m->frames, frame) > 1 || mm_frame_pins(&m->frames, frame) != 0) {
        (void)mm_frame_put(&m->frames, frame);
        return;
    }
    wrong = t_cpus_freed(&m->cpus, mm_pfn_addr(frame).raw);
    if (wrong != NULL) {
        struct t_trap_info info = {.kind = T_TRAP_PANIC, .room = "cpu"};

        fprintf(stderr, "frame 0x%llx is freed, but: %s\n", (unsigned long long)frame.raw, wrong);
        (void)snprintf(info.what, sizeof(info.what), "a frame is freed that a CPU still reaches");
        info.claimed_value = frame.raw;
        t_trap_panic(&info);
    }
    memset(t_ram_ptr(m->ram, mm_pfn_addr(frame).raw), 0xdb, MM_PAGE_SIZE);
    (void)mm_frame_put(&m->frames, frame);
}

static const struct mm_frame_source_ops source_ops = {.alloc = source_alloc, .free = source_free};

/* --- shootdown: interrupts run the library's handler at once --------------------------------- */

static uint32_t tlb_this_cpu(void *ctx)
{
    const struct t_machine *m = ctx;

    return m->cpus.now;
}

static void tlb_interrupt(void *ctx, const struct mm_cpu_mask *cpus)
{
    struct t_machine *m = ctx;
    unsigned now = m->cpus.now;

    must(m->nr_off == 0, "interrupts are off, and others are waited for");
    for (unsigned i = 0; i < m->cpus.nr; i++) {
        if ((cpus->bits[0] >> i & 1) != 0) {
            m->cpus.now = i;
            mm_tlb_service(&m->tlb);
        }
    }
    m->cpus.now = now;
}

static uintptr_t interrupts_off(void *ctx)
{
    struct t_machine *m = ctx;

    return (uintptr_t)m->nr_off++;
}

static void interrupts_back(void *ctx, uintptr_t saved)
{
    struct t_machine *m = ctx;

    m->nr_off--;
    must(m->nr_off == saved, "interrupts are restored in another order");
}

static struct mm_platform platform_of_cpus(struct t_machine *m)
{
    static const struct mm_platform_ops ops = {.panic = t_platform_panic,
                                               .cpu_number = tlb_this_cpu,
                                               .interrupt_save = interrupts_off,
                                               .interrupt_restore = interrupts_back};

    return (struct mm_platform){&ops, m};
}

static void start_tlb(struct t_machine *m)
{
    static const struct mm_tlb_ops ops = {.this_cpu = tlb_this_cpu, .interrupt = tlb_interrupt};
    const struct mm_tlb_config tlb = {.backend = mm_x86_64_backend(&m->arch),
                                      .cpus = m->tlb_cpu,
                                      .nr_cpus = m->cpus.nr,
                                      .ops = &ops,
                                      .ctx = m,
                                      .platform = m->platform,
                                      .first_generation = UINT64_MAX - 100};

    m->cpus.asleep = true;
    must(mm_tlb_init(&m->tlb, &tlb) == MM_OK, "tlb");
}

static void stop_tlb(struct t_machine *m)
{
    for (m->cpus.now = m->cpus.nr; m->cpus.now-- > 0;) {
        must(mm_paging_leave(&m->kernel) == MM_OK, "kernel root: leave");
        must(mm_paging_load_root(mm_x86_64_backend(&m->arch), mm_paging_root(&m->kernel)) == MM_OK,
             "a root of the boot loader");
        must(mm_tlb_offline(&m->tlb) == MM_OK, "tlb: offline");
    }
    m->cpus.now = 0;
}

/* --- bringing up ------------------------------------------------------------------------------- */

static bool is_free(void *ctx, uint64_t paddr)
{
    const struct t_machine *m = ctx;
    mm_pfn_t frame = mm_pfn(paddr >> MM_PAGE_SHIFT);

    return mm_frame_managed(&m->frames, frame) && !mm_frame_allocated(&m->frames, frame);
}

static void start_cpus(struct t_machine *m, const struct t_machine_config *config)
{
    struct t_cpu_features has = t_cpu_full;
    unsigned nr = config->nr_cpus == 0 ? 1 : config->nr_cpus;
    bool broadcasts = nr > 1 && !config->tlb;

    has.nx = !config->no_nx;
    has.pat = !config->no_pat;
    t_cpus_init(&m->cpus, nr, m->ram, &has);
    m->cpu = &m->cpus.cpu[0];
    for (unsigned i = 0; i < nr; i++) {
        m->cpus.cpu[i].mmu.cr4 |= config->la57 ? T_MMU_CR4_LA57 : 0;
    }
    m->cpus.is_free = is_free;
    m->cpus.ctx = m;
    must(mm_x86_64_init(&m->arch, broadcasts ? &t_cpu_broadcast_ops : &t_cpu_ops, &m->cpus) ==
             MM_OK,
         "CPU");
    for (m->cpus.now = nr; m->cpus.now-- > 0;) {
        must(mm_x86_64_enable(&m->arch) == MM_OK, "CPU features");
    }
    m->cpus.now = 0;
}

static void start_tables(struct t_machine *m, const struct t_machine_config *config)
{
    const struct mm_vrange ranges[] = {mm_vrange(mm_vaddr(T_ARENA), T_ARENA_LEN)};
    struct mm_paging_config paging = {.physmap = &m->physmap,
                                      .source = {&source_ops, m},
                                      .platform = m->platform,
                                      .kernel_ranges = ranges,
                                      .nr_kernel_ranges = 1};

    if (config->threads) {
        paging.source = mm_frame_source_of(&m->frames);
    }
    start_cpus(m, config);
    paging.backend = mm_x86_64_backend(&m->arch);
    if (!config->no_user) {
        paging.user = mm_vrange(mm_vaddr(0), config->user_len == 0 ? T_USER_LEN : config->user_len);
    }
    if (config->tlb) {
        start_tlb(m);
        paging.tlb = &m->tlb;
    }
    must(mm_paging_init_kernel(&m->kernel, &paging) == MM_OK, "kernel root");
    for (m->cpus.now = m->cpus.nr; m->cpus.now-- > 0;) {
        must(!config->tlb || mm_tlb_online(&m->tlb) == MM_OK, "tlb: online");
        must(mm_paging_activate(&m->kernel) == MM_OK, "kernel root: activate");
    }
    m->cpus.now = 0;
}

static void start_pool(struct t_machine *m, const struct t_machine_config *config)
{
    uint64_t len = config->pool_len == 0 ? 4 * MIB : config->pool_len;
    struct mm_page_source range;
    struct mm_pool_config pool = {.platform = m->platform,
                                  .nr_cpus = config->tlb ? config->nr_cpus : 1};

    m->pool_buffer = aligned_alloc(4096, len);
    must(m->pool_buffer != NULL, "pool buffer");
    memset(m->pool_buffer, 0x5a, len);
    must(mm_page_range_init(&m->pool_range, m->pool_buffer, len) == MM_OK, "pool range");
    range = mm_page_source_range(&m->pool_range);
    pool.source = range;
    if (!config->threads) { /* the injector counts for one thread */
        pool.source = (struct mm_page_source){&pool_ops, m, range.base, range.len};
    }
    must(mm_pool_init(&m->pool, &pool) == MM_OK, "pool");
}

void t_machine_start(struct t_machine *m, const struct t_machine_config *config)
{
    static const struct t_machine_config defaults;

    if (config == NULL) {
        config = &defaults;
    }
    memset(m, 0, sizeof(*m));
    m->platform = config->tlb ? platform_of_cpus(m) : t_platform();
    start_frames(m, config);
    start_tables(m, config);
    start_pool(m, config);
}

const char *t_machine_audit(const struct t_machine *m, struct mm_space *const *spaces,
                            unsigned nr_spaces, struct mm_space *kernel_space, uint64_t nr_others)
{
    struct t_ram_range window = t_ram_window(m->ram);
    struct t_ledger *ledger =
        t_ledger_open(&m->frames, m->physmap.base, (window.start + window.len) / 4096);

    for (uint64_t i = 0; i < m->nr_held; i++) {
        t_ledger_hold(ledger, m->held[i].raw, 1);
    }
    t_ledger_root(ledger, &m->kernel, NULL,
                  kernel_space == NULL ? mm_vrange(mm_vaddr(0), 0) : mm_space_range(kernel_space));
    for (unsigned i = 0; i < nr_spaces; i++) {
        if (spaces[i] != NULL) {
            t_ledger_space(ledger, spaces[i], &m->kernel);
        }
    }
    return t_ledger_close(ledger, nr_others);
}

void t_machine_stop(struct t_machine *m)
{
    struct mm_frame_stats stats;
    const char *wrong;

    t_machine_leave_frames(m, UINT64_MAX);
    t_inject_never(&m->pool_inject);
    must(mm_pool_destroy(&m->pool) == MM_OK, "an object of the pool is out");
    must(mm_page_range_destroy(&m->pool_range) == MM_OK, "a page of the pool is out");
    wrong = t_machine_audit(m, NULL, 0, NULL, 0);
    must(wrong == NULL, wrong);
    if (m->tlb.magic != 0) {
        stop_tlb(m);
    }
    for (unsigned i = 0; i < m->cpus.nr; i++) {
        m->cpus.cpu[i].mmu.cr3 = 0; /* the boot loader's root, wherever that is */
        t_cpu_drop_all(&m->cpus.cpu[i]);
    }
    must(mm_paging_destroy(&m->kernel) == MM_OK, "kernel root: destroy");
    must(m->tlb.magic == 0 || mm_tlb_destroy(&m->tlb) == MM_OK, "tlb: destroy");
    must(mm_frame_check(&m->frames) == MM_OK, "frames: check");
    must(mm_frame_get_stats(&m->frames, &stats) == MM_OK, "frames: statistics");
    must(stats.nr_allocated == 0, "a frame is out");
    must(mm_frame_destroy(&m->frames) == MM_OK, "frames: destroy");
    free(m->pool_buffer);
    free(m->held);
    t_ram_delete(m->ram);
}

uint64_t t_machine_free_frames(const struct t_machine *m)
{
    struct mm_frame_stats stats;

    must(mm_frame_get_stats(&m->frames, &stats) == MM_OK, "frames: statistics");
    return stats.nr_free;
}

void t_machine_leave_frames(struct t_machine *m, uint64_t nr)
{
    uint64_t nr_free = t_machine_free_frames(m);

    if (m->held == NULL) {
        m->held = calloc(m->frames.nr_frames, sizeof(*m->held));
        must(m->held != NULL, "no room for a list of frames");
    }
    while (m->nr_held > 0 && nr_free < nr) {
        mm_frame_free(&m->frames, m->held[--m->nr_held], 0);
        nr_free++;
    }
    while (nr_free > nr && nr != UINT64_MAX) {
        must(mm_frame_alloc(&m->frames, NULL, &m->held[m->nr_held]) == MM_OK, "a frame");
        m->nr_held++;
        nr_free--;
    }
}

void *t_machine_ptr(const struct t_machine *m, uint64_t paddr)
{
    return t_ram_ptr(m->ram, paddr);
}
