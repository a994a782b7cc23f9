// SPDX-License-Identifier: MIT
/**
 * What the races of the shootdown share: simulated CPUs with TLBs and PCIDs (tests/support/
 * sim_cpu.h) on the CPUs of the scheduler, page tables that they load, change and leave, and
 * interrupts that come when a CPU lets them. All of it is put back before each run.
 *
 * What is looked for: a frame that goes back to its source while a CPU could still use a translation
 * of it (the simulated CPU says so at that moment), a CPU that reaches a frame which was given back,
 * a CPU that waits for ever.
 */
#ifndef TLB_RACE_H
#define TLB_RACE_H

#include "check.h"
#include "events.h"
#include "schedule.h"
#include "schedule_mm.h"
#include "sim_cpu_mm.h"

#include <mm/tlb.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGE    UINT64_C(4096)
#define FRAMES  40u  /* of RAM, for tables */
#define LEAVES  512u /* first frame of leaves: root r, page p is LEAVES + 16 * r + p */
#define USERS   2u
#define KERNEL  USERS /* as the number of a root */
#define PAGES   4u
#define STEPS   8u
#define USER_AT UINT64_C(0x10000000)
#define FAR_AT  UINT64_C(0x20000000)
#define KERN_AT UINT64_C(0xffff800000000000)

enum what {
    DONE,
    ENTER,   /* root `root` is loaded; the kernel's by leaving */
    LOAD,    /* from `page` of `root`: of a user's only while it is loaded */
    UNMAP,   /* `nr` pages of `root` from `page` on; the gather ends with the lock held */
    RELEASE, /* the same, the gather ends after the lock */
    DESTROY, /* user root `root`, once nobody has it loaded */
    GO,      /* offline, on another root */
    COME,    /* online again, on the kernel's root */
    SPARSE,  /* as RELEASE of one page, with it `nr` far ranges: a generation each */
    FLUSH,   /* without the lock: of a page that nobody has unmapped */
    SERVE,   /* once, as a loop does that spins */
    BUSY,    /* does not serve, until CPU `root` has done its script */
    STAY,    /* user code: takes interrupts, until the others have done their scripts */
};

struct step {
    enum what what;
    unsigned root, page, nr;
};

struct tlb_race {
    struct t_ram *ram;
    struct mm_x86_64 arch;
    struct mm_tlb tlb;
    struct mm_tlb_cpu cpu[T_SCHEDULE_CPUS];
    struct mm_pagetable root[USERS + 1];
    uint32_t lock[USERS + 1];
    bool used[FRAMES], gone[16 * (USERS + 1)], touched[USERS + 1][PAGES];
    unsigned loaded[T_SCHEDULE_CPUS];
    unsigned off[T_SCHEDULE_CPUS]; /* interrupts: how often they were forbidden */
    bool pending[T_SCHEDULE_CPUS];
    bool racing, nested, in_handler[T_SCHEDULE_CPUS];
    bool done[T_SCHEDULE_CPUS];
    bool delayed;                 /* stores are seen late: delay.h */
    bool slow;                    /* the interrupt is an NMI, in the midst of an instruction */
    bool closed[T_SCHEDULE_CPUS]; /* the CPU's whole script runs with interrupts off */
    struct step steps[T_SCHEDULE_CPUS][STEPS], handler[T_SCHEDULE_CPUS];
    void *at_start, *ram_at_start;
    unsigned nr_cpus;
    unsigned drawn;     /* times as many by chance: what is looked for needs more switches */
    struct t_cpus cpus; /* the last: only as many as there are are put back */
};

static struct tlb_race *w;

static inline size_t world_size(void)
{
    return offsetof(struct tlb_race, cpus) + offsetof(struct t_cpus, cpu) +
           w->nr_cpus * sizeof(struct t_cpu);
}

/* ---- the hardware ------------------------------------------------------------------------------ */

static inline unsigned this_cpu(void)
{
    if (w->racing) {
        w->cpus.now = t_schedule_cpu();
    }
    return w->cpus.now;
}

static inline void *on_this_cpu(void)
{
    t_schedule_point();
    if (w->slow && w->pending[this_cpu()]) {
        w->pending[this_cpu()] = false;
        mm_tlb_service(&w->tlb); /* an NMI: nobody has it off */
    }
    (void)this_cpu();
    return &w->cpus;
}

static inline struct mm_x86_64_cpuid race_cpuid(void *ctx, uint32_t leaf, uint32_t subleaf)
{
    (void)ctx;
    return t_cpu_ops.cpuid(on_this_cpu(), leaf, subleaf);
}

static inline uint64_t race_read_msr(void *ctx, uint32_t msr)
{
    (void)ctx;
    return t_cpu_ops.read_msr(on_this_cpu(), msr);
}

static inline void race_write_msr(void *ctx, uint32_t msr, uint64_t value)
{
    (void)ctx;
    t_cpu_ops.write_msr(on_this_cpu(), msr, value);
}

static inline uint64_t race_read_cr(void *ctx, unsigned cr)
{
    (void)ctx;
    (void)this_cpu(); /* what others do meanwhile makes no difference */
    return t_cpu_ops.read_cr(&w->cpus, cr);
}

static inline void race_write_cr(void *ctx, unsigned cr, uint64_t value)
{
    (void)ctx;
    t_cpu_ops.write_cr(on_this_cpu(), cr, value);
}

static inline void race_invlpg(void *ctx, uint64_t at)
{
    (void)ctx;
    t_cpu_ops.invlpg(on_this_cpu(), at);
}

static inline void race_invpcid(void *ctx, uint64_t type, uint64_t pcid, uint64_t at)
{
    (void)ctx;
    t_cpu_ops.invpcid(on_this_cpu(), type, pcid, at);
}

static const struct mm_x86_64_cpu_ops race_cpu_ops = {race_cpuid,   race_read_msr, race_write_msr,
                                                      race_read_cr, race_write_cr, race_invlpg,
                                                      race_invpcid};

static inline bool race_is_free(void *ctx, uint64_t paddr)
{
    uint64_t frame = paddr / PAGE;

    (void)ctx;
    if (frame >= LEAVES && frame < LEAVES + sizeof(w->gone)) {
        return w->gone[frame - LEAVES];
    }
    return frame != 0 && frame < FRAMES && !w->used[frame];
}

/* ---- frames ------------------------------------------------------------------------------------ */

static inline mm_status_t race_alloc(void *ctx, enum mm_frame_owner owner, bool zeroed,
                                     mm_pfn_t *out)
{
    (void)ctx;
    (void)owner;
    for (unsigned frame = 1; frame < FRAMES; frame++) {
        if (!w->used[frame]) {
            w->used[frame] = true;
            memset(t_ram_ptr(w->ram, frame * PAGE), zeroed ? 0 : 0xee, PAGE);
            *out = mm_pfn(frame);
            return MM_OK;
        }
    }
    return MM_ERR_NO_MEMORY;
}

static inline void race_free(void *ctx, mm_pfn_t frame)
{
    const char *wrong = t_cpus_freed(&w->cpus, frame.raw * PAGE);
    bool *gone = frame.raw >= LEAVES ? &w->gone[frame.raw - LEAVES] : &w->used[frame.raw];

    (void)ctx;
    if (wrong != NULL) {
        t_schedule_fail("frame %llu is freed, but %s", (unsigned long long)frame.raw, wrong);
    }
    if (*gone == (frame.raw >= LEAVES)) {
        t_schedule_fail("frame %llu is freed twice", (unsigned long long)frame.raw);
    }
    *gone = frame.raw >= LEAVES;
    if (frame.raw < FRAMES) {
        memset(t_ram_ptr(w->ram, frame.raw * PAGE), 0xff, PAGE); /* reserved bits, for who looks */
    }
    t_schedule_point();
}

/* ---- interrupts -------------------------------------------------------------------------------- */

static inline void do_step(unsigned cpu, const struct step *step);

/* The handler, if the CPU lets it. */
static inline void take_interrupt(unsigned cpu)
{
    if (w->off[cpu] == 0) {
        w->off[cpu]++;
        w->pending[cpu] = false;
        mm_tlb_service(&w->tlb);
        if (w->nested && w->racing && !w->in_handler[cpu] && w->handler[cpu].what != DONE) {
            struct step step = w->handler[cpu];

            w->handler[cpu].what = DONE;
            w->in_handler[cpu] = true;
            do_step(cpu, &step);
            w->in_handler[cpu] = false;
            t_schedule_point(); /* its turns were none of the wait that it has interrupted */
        }
        w->off[cpu]--;
    }
}

/* A turn of the library's wait, which serves by itself. */
static inline void race_relax(void *ctx)
{
    unsigned cpu = this_cpu();

    (void)ctx;
    if (w->pending[cpu]) {
        take_interrupt(cpu);
    }
    t_schedule_turn();
}

/* A turn of a wait of the kernel's: who spins with interrupts off serves. */
static inline void spin(void)
{
    if (w->off[this_cpu()] != 0) {
        mm_tlb_service(&w->tlb);
    }
    race_relax(NULL);
}

static inline uint32_t race_this_cpu(void *ctx)
{
    (void)ctx;
    return this_cpu();
}

static inline void race_interrupt(void *ctx, const struct mm_cpu_mask *cpus)
{
    (void)ctx;
    for (unsigned i = 0; i < w->nr_cpus; i++) {
        if (((cpus->bits[0] >> i) & 1) != 0) {
            w->pending[i] = true;
        }
    }
    t_schedule_point();
}

static inline uintptr_t race_interrupt_save(void *ctx)
{
    (void)ctx;
    return (uintptr_t)w->off[this_cpu()]++;
}

static inline void race_interrupt_restore(void *ctx, uintptr_t saved)
{
    unsigned cpu = this_cpu();

    (void)ctx;
    w->off[cpu]--;
    if (w->off[cpu] != saved) {
        t_schedule_fail("interrupts are not as they were");
    }
}

static inline struct mm_platform race_platform(void)
{
    static const struct mm_platform_ops ops = {.panic = t_race_panic,
                                               .log = t_race_log,
                                               .relax = race_relax,
                                               .interrupt_save = race_interrupt_save,
                                               .interrupt_restore = race_interrupt_restore};
    struct mm_platform platform = {&ops, NULL};

    return platform;
}

/* ---- the owner's lock: events of the library's sort, so that it orders what it guards ----------- */

uint32_t __tsan_atomic32_exchange(volatile uint32_t *at, uint32_t v, int order);
void __tsan_atomic32_store(volatile uint32_t *at, uint32_t v, int order);

static inline void take_lock(unsigned root)
{
    while (__tsan_atomic32_exchange(&w->lock[root], 1, __ATOMIC_ACQUIRE) != 0) {
        spin();
    }
}

static inline void drop_lock(unsigned root)
{
    __tsan_atomic32_store(&w->lock[root], 0, __ATOMIC_RELEASE);
}

/* ---- steps ------------------------------------------------------------------------------------- */

static inline void must(mm_status_t status)
{
    if (status != MM_OK) {
        t_schedule_fail("status %s", mm_status_str(status));
    }
}

static inline uint64_t address_of(unsigned root, unsigned page)
{
    return (root == KERNEL ? KERN_AT : USER_AT) + page * PAGE;
}

static inline void enter(unsigned cpu, unsigned root)
{
    w->loaded[cpu] = root;
    must(root == KERNEL ? mm_paging_leave(&w->root[root]) : mm_paging_activate(&w->root[root]));
}

static inline void load(unsigned cpu, unsigned root, unsigned page)
{
    uint64_t paddr = 0;
    uint32_t answer;

    t_schedule_point();
    answer = t_cpu_access(&w->cpus.cpu[cpu], address_of(root, page),
                          root == KERNEL ? 0 : T_MMU_USER, &paddr);
    if (answer == T_CPU_DONE && race_is_free(NULL, paddr)) {
        t_schedule_fail("CPU %u reaches frame %llu, which was given back", cpu,
                        (unsigned long long)(paddr / PAGE));
    }
    if (answer != T_CPU_DONE && !w->touched[root][page]) {
        t_schedule_fail("CPU %u: a fault at page %u of root %u, which nobody unmapped", cpu, page,
                        root);
    }
}

static inline void unmap(const struct step *step)
{
    struct mm_pagetable *pt = &w->root[step->root];
    unsigned nr = step->what == SPARSE ? 1 : step->nr;
    struct mm_vrange range = mm_vrange(mm_vaddr(address_of(step->root, step->page)), nr * PAGE);
    struct mm_gather gather;

    take_lock(step->root);
    for (unsigned page = step->page; page < step->page + nr; page++) {
        w->touched[step->root][page] = true;
    }
    must(mm_gather_begin(&gather, pt));
    for (unsigned i = 0; step->what == SPARSE && i < step->nr; i++) {
        mm_gather_add_range(&gather, mm_vrange(mm_vaddr(FAR_AT + i * 2 * PAGE), PAGE));
    }
    must(mm_paging_unmap(pt, range, MM_PAGING_RELEASE | MM_PAGING_SKIP_HOLES, &gather));
    if (step->what == UNMAP) {
        mm_gather_end(&gather);
        drop_lock(step->root);
    } else {
        drop_lock(step->root);
        mm_gather_end(&gather);
    }
}

static inline void flush(unsigned root)
{
    struct mm_gather gather;

    must(mm_gather_begin(&gather, &w->root[root]));
    mm_gather_add_range(&gather, mm_vrange(mm_vaddr(address_of(root, PAGES)), PAGE));
    mm_gather_end(&gather);
}

static inline void destroy(unsigned root)
{
    struct mm_cpu_mask cpus;

    for (;;) {
        must(mm_tlb_cpus(&w->root[root], &cpus));
        if (cpus.bits[0] == 0) {
            break;
        }
        spin();
    }
    take_lock(root);
    must(mm_paging_destroy(&w->root[root]));
    drop_lock(root);
}

/* Without interrupts, as the contract wants it. */
static inline void go(unsigned cpu)
{
    w->off[cpu]++;
    enter(cpu, KERNEL);
    must(mm_paging_load_root(w->tlb.backend, mm_paddr(FRAMES * PAGE)));
    must(mm_tlb_offline(&w->tlb));
    w->off[cpu]--;
}

static inline void come(unsigned cpu)
{
    w->off[cpu]++;
    must(mm_tlb_online(&w->tlb));
    enter(cpu, KERNEL);
    w->off[cpu]--;
}

static inline void stay(unsigned cpu)
{
    bool all = false;

    while (!all) {
        all = true;
        for (unsigned i = 0; i < w->nr_cpus; i++) {
            all = all && (i == cpu || w->done[i]);
        }
        if (!all) {
            race_relax(NULL);
        }
    }
}

static inline void do_step(unsigned cpu, const struct step *step)
{
    switch (step->what) {
    case ENTER:
        enter(cpu, step->root);
        break;
    case LOAD:
        load(cpu, step->root, step->page);
        break;
    case UNMAP:
    case RELEASE:
    case SPARSE:
        unmap(step);
        break;
    case FLUSH:
        flush(step->root);
        break;
    case SERVE:
        mm_tlb_service(&w->tlb);
        break;
    case BUSY:
        while (!w->done[step->root]) {
            t_schedule_turn();
        }
        break;
    case DESTROY:
        destroy(step->root);
        break;
    case GO:
        go(cpu);
        break;
    case COME:
        come(cpu);
        break;
    case STAY:
        stay(cpu);
        break;
    default:
        break;
    }
}

static inline void tlb_race_run(void *ctx, unsigned cpu)
{
    (void)ctx;
    w->off[cpu] += w->closed[cpu] ? 1 : 0;
    for (unsigned i = 0; i < STEPS && w->steps[cpu][i].what != DONE; i++) {
        if (w->pending[cpu] && !w->slow) {
            take_interrupt(cpu);
        }
        do_step(cpu, &w->steps[cpu][i]);
    }
    w->done[cpu] = true;
    t_schedule_point();
    go(cpu);
    w->off[cpu] -= w->closed[cpu] ? 1 : 0;
}

static inline void tlb_race_interrupt(void *ctx, unsigned cpu)
{
    (void)ctx;
    take_interrupt(cpu);
}

/* ---- before and after -------------------------------------------------------------------------- */

static inline void tlb_race_start(void *ctx)
{
    (void)ctx;
    memcpy(t_ram_ptr(w->ram, 0), w->ram_at_start, FRAMES * PAGE);
    memcpy(w, w->at_start, world_size());
}

static inline const char *tlb_race_finish(void *ctx)
{
    const char *wrong = t_cpus_sweep(&w->cpus, T_SWEEP_SAFE);

    (void)ctx;
    w->racing = false;
    w->cpus.now = 0;
    for (unsigned root = 0; root <= USERS && wrong == NULL; root++) {
        if (w->root[root].magic != 0 && (mm_paging_check(&w->root[root]) != MM_OK ||
                                         mm_paging_destroy(&w->root[root]) != MM_OK)) {
            wrong = "a root cannot go, or contradicts itself";
        }
    }
    if (wrong == NULL && mm_tlb_destroy(&w->tlb) != MM_OK) {
        wrong = "the tlb cannot go";
    }
    for (unsigned frame = 0; frame < FRAMES && wrong == NULL; frame++) {
        wrong = w->used[frame] ? "a table is lost" : NULL;
    }
    return wrong;
}

static inline void prepare_roots(uint64_t first_generation)
{
    static const struct mm_tlb_ops ops = {.this_cpu = race_this_cpu, .interrupt = race_interrupt};
    static const struct mm_frame_source_ops source = {.alloc = race_alloc, .free = race_free};
    const struct mm_vrange range = mm_vrange(mm_vaddr(KERN_AT), UINT64_C(1) << 30);
    struct mm_physmap physmap = mm_physmap_direct(t_ram_base(w->ram));
    struct mm_tlb_config config = {.cpus = w->cpu,
                                   .nr_cpus = w->nr_cpus,
                                   .ops = &ops,
                                   .platform = race_platform(),
                                   .first_generation = first_generation};
    struct mm_paging_config paging = {.physmap = &physmap,
                                      .source = {&source, NULL},
                                      .platform = race_platform(),
                                      .kernel_ranges = &range,
                                      .nr_kernel_ranges = 1,
                                      .user = mm_vrange(mm_vaddr(0), UINT64_C(1) << 47),
                                      .tlb = &w->tlb};

    config.backend = mm_x86_64_backend(&w->arch);
    paging.backend = config.backend;
    must(mm_tlb_init(&w->tlb, &config));
    must(mm_paging_init_kernel(&w->root[KERNEL], &paging));
    for (unsigned root = 0; root <= USERS; root++) {
        if (root != KERNEL) {
            must(mm_paging_init_user(&w->root[root], &w->root[KERNEL]));
        }
        must(mm_paging_map(&w->root[root], mm_vrange(mm_vaddr(address_of(root, 0)), PAGES * PAGE),
                           mm_paddr((LEAVES + 16 * root) * PAGE),
                           root == KERNEL ? MM_PROT_RW : MM_PROT_RW | MM_PROT_USER, MM_MEMTYPE_WB,
                           0));
    }
}

/** A machine whose CPUs have seen every page of every root, and have the kernel's loaded now. */
static inline void prepare(unsigned nr_cpus, bool pcid, uint64_t first_generation)
{
    struct t_cpu_features has = t_cpu_full;

    w = calloc(1, sizeof(*w));
    assert_non_null(w);
    w->nr_cpus = nr_cpus;
    w->ram = t_ram_new(0, FRAMES * PAGE);
    assert_non_null(w->ram);
    t_ram_back(w->ram, 0, FRAMES * PAGE);
    has.pcid = pcid;
    has.invpcid = false;
    t_cpus_init(&w->cpus, nr_cpus, w->ram, &has);
    w->cpus.is_free = race_is_free;
    w->cpus.told = true;
    w->cpus.asleep = true;
    must(mm_x86_64_init(&w->arch, &race_cpu_ops, NULL));
    for (w->cpus.now = nr_cpus; w->cpus.now-- > 0;) {
        must(mm_x86_64_enable(&w->arch));
    }
    prepare_roots(first_generation);
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++) {
        w->cpus.now = cpu;
        must(mm_tlb_online(&w->tlb));
        for (unsigned root = 0; root <= USERS; root++) {
            enter(cpu, root);
            for (unsigned page = 0; page < PAGES; page++) {
                load(cpu, root, page);
                load(cpu, KERNEL, page);
            }
        }
    }
}

/** The root that a CPU has loaded when the race begins. */
static inline void begin_in(unsigned cpu, unsigned root)
{
    w->cpus.now = cpu;
    enter(cpu, root);
    load(cpu, root, 0);
    load(cpu, root, 1);
}

/** Let a root that this CPU alone has loaded have many generations, all of which it has seen. */
static inline void flush_alone(unsigned cpu, unsigned root)
{
    struct mm_gather gather;

    w->cpus.now = cpu;
    for (unsigned i = 0; i < 9; i++) {
        must(mm_gather_begin(&gather, &w->root[root]));
        mm_gather_add_range(&gather, mm_vrange(mm_vaddr(USER_AT), PAGE));
        mm_gather_end(&gather);
    }
}

#define SCRIPT(cpu, ...)                                                                           \
    memcpy(w->steps[cpu], ((const struct step[]){__VA_ARGS__}),                                    \
           sizeof((const struct step[]){__VA_ARGS__}))

/** So many interrupts come unasked as well. */
static inline uint64_t race(const char *name, unsigned nr_interrupts)
{
    struct t_race race = {.name = name,
                          .nr_cpus = w->nr_cpus,
                          .start = tlb_race_start,
                          .run = tlb_race_run,
                          .interrupt = nr_interrupts != 0 ? tlb_race_interrupt : NULL,
                          .nr_interrupts = nr_interrupts,
                          .finish = tlb_race_finish,
                          .sparse = true,
                          .ordered = !w->delayed,
                          .delayed = w->delayed};
    const uint64_t drawn = w->drawn != 0 ? 200u * w->drawn : 200;
    const struct t_race_plan plan = {
        .nr_random = drawn, .nr_pct = drawn, .nr_search = 600, .preemptions = 2};

    w->racing = true;
    w->at_start = malloc(world_size());
    w->ram_at_start = malloc(FRAMES * PAGE);
    assert_non_null(w->at_start);
    assert_non_null(w->ram_at_start);
    memcpy(w->ram_at_start, t_ram_ptr(w->ram, 0), FRAMES * PAGE);
    memcpy(w->at_start, w, world_size());
    T_LEGAL(t_race_explore(&race, &plan));
    t_ram_delete(w->ram);
    free(w->at_start);
    free(w->ram_at_start);
    free(w);
    return t_race_last()->nr_schedules;
}

#endif
