// SPDX-License-Identifier: MIT
/**
 * Two or three CPUs that exchange slots of one page table at once, as faults of one space do, under
 * every schedule of few switches and many others: one table for both, no frame lost, each leaf
 * there, and of two who want one slot one is told. Hazards 12, 16.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "schedule.h"
#include "schedule_mm.h"

#include <mm/arch/x86_64.h>
#include <mm/paging_slots.h>
#include <mm/tlb.h>

#include <stdlib.h>
#include <string.h>

#define PAGE   UINT64_C(4096)
#define FRAMES 24u
#define AT     UINT64_C(0x40000000)
#define URW    (MM_PROT_RW | MM_PROT_USER)
#define STEPS  4u

#define FAR_PAGE (1u << 27) /* behind the next entry of the root */

enum what { DONE, FAULT, SOFTEN, DROP };

struct step {
    enum what what;
    unsigned page;
};

struct world {
    struct mm_x86_64 arch;
    struct mm_pagetable kernel;
    struct mm_pagetable entry; /* only with pairs of roots */
    struct mm_pagetable user;
    bool used[FRAMES];
    unsigned nr_used;
    unsigned limit;
    struct step steps[T_SCHEDULE_CPUS][STEPS];
    _Alignas(4096) unsigned char ram[FRAMES * 4096];
};

static _Alignas(4096) struct world now;
static _Alignas(4096) struct world at_start;

/* --- the machine ------------------------------------------------------------------------------ */

static struct mm_x86_64_cpuid cpu_cpuid(void *ctx, uint32_t leaf, uint32_t subleaf)
{
    struct mm_x86_64_cpuid r = {0, 0, 0, 0};

    (void)ctx;
    (void)subleaf;
    r.eax = leaf == 0                      ? 7
            : leaf == UINT32_C(0x80000000) ? UINT32_C(0x80000008)
            : leaf == UINT32_C(0x80000008) ? 48u << 8 | 46u
                                           : 0;
    r.edx = leaf == UINT32_C(0x80000001) ? 1u << 20 : 0;
    return r;
}

static uint64_t cpu_read_msr(void *ctx, uint32_t msr)
{
    (void)ctx;
    (void)msr;
    return 0;
}

static void cpu_write_msr(void *ctx, uint32_t msr, uint64_t value)
{
    (void)ctx;
    (void)msr;
    (void)value;
}

static uint64_t cpu_read_cr(void *ctx, unsigned cr)
{
    (void)ctx;
    (void)cr;
    return 0;
}

static void cpu_write_cr(void *ctx, unsigned cr, uint64_t value)
{
    (void)ctx;
    (void)cr;
    (void)value;
}

static void cpu_invlpg(void *ctx, uint64_t at)
{
    (void)ctx;
    (void)at;
}

static void cpu_invpcid(void *ctx, uint64_t type, uint64_t pcid, uint64_t at)
{
    (void)ctx;
    (void)type;
    (void)pcid;
    (void)at;
}

static const struct mm_x86_64_cpu_ops cpu_ops = {
    cpu_cpuid, cpu_read_msr, cpu_write_msr, cpu_read_cr, cpu_write_cr, cpu_invlpg, cpu_invpcid};

static mm_status_t source_alloc(void *ctx, enum mm_frame_owner owner, bool zeroed, mm_pfn_t *out)
{
    (void)ctx;
    (void)owner;
    t_schedule_point();
    if (now.nr_used == now.limit) {
        return MM_ERR_NO_MEMORY;
    }
    for (unsigned frame = 1; frame < FRAMES; frame++) {
        if (!now.used[frame]) {
            now.used[frame] = true;
            now.nr_used++;
            memset(&now.ram[frame * PAGE], zeroed ? 0 : 0x5a, PAGE);
            *out = mm_pfn(frame);
            return MM_OK;
        }
    }
    return MM_ERR_NO_MEMORY;
}

static void source_free(void *ctx, mm_pfn_t frame)
{
    (void)ctx;
    t_schedule_point();
    if (frame.raw >= FRAMES || !now.used[frame.raw]) {
        t_schedule_fail("frame %llu is freed, and is free", (unsigned long long)frame.raw);
    }
    now.used[frame.raw] = false;
    now.nr_used--;
    memset(&now.ram[frame.raw * PAGE], 0x5a, PAGE);
}

static void prepare_roots(unsigned limit, uint32_t flags)
{
    static const struct mm_frame_source_ops source = {.alloc = source_alloc, .free = source_free};
    static const struct mm_vrange ranges[] = {{{UINT64_C(0xffff800000000000)}, 1 << 30}};
    struct mm_physmap physmap = mm_physmap_direct((uint64_t)(uintptr_t)now.ram);
    struct mm_paging_config config = {
        .physmap = &physmap,
        .source = {&source, NULL},
        .platform = t_race_platform(),
        .kernel_ranges = ranges,
        .nr_kernel_ranges = 1,
        .user = {{0}, UINT64_C(1) << 47},
        .flags = flags,
    };

    memset(&now, 0, sizeof(now));
    now.limit = FRAMES;
    assert_int_equal(mm_x86_64_init(&now.arch, &cpu_ops, NULL), MM_OK);
    config.backend = mm_x86_64_backend(&now.arch);
    assert_int_equal(mm_paging_init_kernel(&now.kernel, &config), MM_OK);
    if (flags != 0) {
        assert_int_equal(mm_paging_init_entry(&now.entry, &now.kernel, ranges, 1), MM_OK);
    }
    assert_int_equal(mm_paging_init_user(&now.user, &now.kernel), MM_OK);
    now.limit = limit;
}

static void prepare(unsigned limit)
{
    prepare_roots(limit, 0);
}

/* --- what CPUs do ----------------------------------------------------------------------------- */

/* The frame that a CPU gives to a page. */
static mm_paddr_t frame_of(unsigned cpu, unsigned page)
{
    return mm_paddr((UINT64_C(0x1000) + cpu * 0x100 + page) * PAGE);
}

/* Whether the root on which the kernel runs leads anywhere at an address. */
static bool kernel_sees(uint64_t at)
{
    uint64_t entry;

    memcpy(&entry, &now.ram[now.user.kernel_root.raw + (at >> 39) % 512 * 8], sizeof(entry));
    return (entry & 1) != 0;
}

/* As a fault does it: a page that is there by then is somebody else's work. */
static void fault(unsigned cpu, unsigned page)
{
    struct mm_slot leaf = mm_slot_leaf(frame_of(cpu, page), URW, MM_MEMTYPE_WB);
    struct mm_slot seen = mm_slot_empty();
    struct mm_gather gather;

    if (mm_gather_begin(&gather, &now.user) != MM_OK) {
        t_schedule_fail("no gather");
    }
    for (unsigned tries = 0;; tries++) {
        mm_status_t status =
            mm_paging_slot_cas(&now.user, mm_vaddr(AT + page * PAGE), PAGE, &seen, &leaf, &gather);

        if (status == MM_OK) {
            if (!kernel_sees(AT + page * PAGE)) {
                t_schedule_fail("the call is over, and the kernel does not see the page");
            }
            break;
        }
        if (status == MM_ERR_NO_MEMORY && now.limit != FRAMES) {
            break;
        }
        if (status != MM_ERR_BUSY || tries > 6) {
            t_schedule_fail("status %s", mm_status_str(status));
        }
        if (seen.kind == MM_SLOT_LEAF) {
            break;
        }
    }
    mm_gather_end(&gather);
}

/* A leaf becomes soft, or nothing at all. */
static void take_out(unsigned page, const struct mm_slot *to)
{
    struct mm_slot seen;
    struct mm_gather gather;

    if (mm_paging_slot_get(&now.user, mm_vaddr(AT + page * PAGE), &seen) != MM_OK ||
        mm_gather_begin(&gather, &now.user) != MM_OK) {
        t_schedule_fail("no slot");
    }
    while (seen.kind == MM_SLOT_LEAF && mm_paging_slot_cas(&now.user, mm_vaddr(AT + page * PAGE),
                                                           PAGE, &seen, to, &gather) != MM_OK) {
    }
    mm_gather_end(&gather);
}

static void run(void *ctx, unsigned cpu)
{
    struct mm_slot soft = mm_slot_soft(3, 77);
    struct mm_slot empty = mm_slot_empty();

    (void)ctx;
    for (unsigned i = 0; i < STEPS && now.steps[cpu][i].what != DONE; i++) {
        unsigned page = now.steps[cpu][i].page;

        switch (now.steps[cpu][i].what) {
        case FAULT:
            fault(cpu, page);
            break;
        case SOFTEN:
            take_out(page, &soft);
            break;
        default:
            take_out(page, &empty);
            break;
        }
    }
}

static void start(void *ctx)
{
    (void)ctx;
    memcpy(&now, &at_start, sizeof(now));
}

static const char *finish(void *ctx)
{
    struct mm_gather gather;

    (void)ctx;
    if (mm_paging_check(&now.user) != MM_OK) {
        return "the check of the page table";
    }
    for (unsigned cpu = 0; cpu < T_SCHEDULE_CPUS; cpu++) {
        for (unsigned i = 0; i < STEPS && now.steps[cpu][i].what == FAULT; i++) {
            struct mm_slot slot;

            if (mm_paging_slot_get(&now.user, mm_vaddr(AT + now.steps[cpu][i].page * PAGE),
                                   &slot) != MM_OK ||
                (slot.kind != MM_SLOT_LEAF && now.limit == FRAMES &&
                 now.steps[0][1].what <= FAULT && now.steps[1][1].what <= FAULT)) {
                return "a leaf is lost";
            }
        }
    }
    if (mm_gather_begin(&gather, &now.user) != MM_OK ||
        mm_paging_unmap(&now.user, now.user.user, MM_PAGING_SKIP_HOLES, &gather) != MM_OK) {
        return "the page table cannot be unmapped";
    }
    mm_gather_end(&gather);
    if (mm_paging_destroy(&now.user) != MM_OK ||
        (now.entry.magic != 0 && mm_paging_destroy(&now.entry) != MM_OK) ||
        mm_paging_destroy(&now.kernel) != MM_OK) {
        return "the page table cannot be destroyed";
    }
    return now.nr_used != 0 ? "a frame is lost" : NULL;
}

static void race(const char *name, unsigned nr_cpus)
{
    const struct t_race race = {
        .name = name, .nr_cpus = nr_cpus, .start = start, .run = run, .finish = finish};
    uint64_t factor = t_race_factor();

    memcpy(&at_start, &now, sizeof(now));
    assert_null(t_race_explore(&race, &(struct t_race_plan){.nr_random = 400 * factor,
                                                            .nr_pct = 400 * factor,
                                                            .nr_search = 3000 * factor,
                                                            .preemptions = 2}));
}

#define SCRIPT(cpu, ...)                                                                           \
    do {                                                                                           \
        const struct step script[] = {__VA_ARGS__};                                                \
        memcpy(now.steps[cpu], script, sizeof(script));                                            \
    } while (0)

static void test_same_page(void **state)
{
    (void)state;
    prepare(FRAMES);
    SCRIPT(0, {FAULT, 0});
    SCRIPT(1, {FAULT, 0});
    race("slots.same-page", 2);
}

static void test_neighbours(void **state)
{
    (void)state;
    prepare(FRAMES);
    SCRIPT(0, {FAULT, 0});
    SCRIPT(1, {FAULT, 1});
    race("slots.neighbours", 2);
    prepare(FRAMES); /* of two tables below one that both lack */
    SCRIPT(0, {FAULT, 511});
    SCRIPT(1, {FAULT, 512});
    SCRIPT(2, {FAULT, 513});
    race("slots.two-tables", 3);
}

/* Who gets no memory leaves nothing behind. */
static void test_scarce(void **state)
{
    (void)state;
    for (unsigned left = 2; left < 6; left++) {
        prepare(3 + left); /* the roots and the kernel's table are there */
        SCRIPT(0, {FAULT, 0});
        SCRIPT(1, {FAULT, 1});
        race("slots.scarce", 2);
    }
}

static void test_in_and_out(void **state)
{
    (void)state;
    prepare(FRAMES);
    SCRIPT(0, {FAULT, 0}, {SOFTEN, 0});
    SCRIPT(1, {FAULT, 0}, {FAULT, 1});
    race("slots.softened", 2);
    prepare(FRAMES);
    SCRIPT(0, {FAULT, 0}, {DROP, 0});
    SCRIPT(1, {FAULT, 1}, {DROP, 1}, {FAULT, 0});
    race("slots.dropped", 2);
}

/* Two that want the same entry of a pair of roots: who is told that its slot is written may use it
 * in kernel mode too, whoever linked the entry. */
static void test_pair(void **state)
{
    (void)state;
    prepare_roots(FRAMES, MM_PAGING_PAIRS);
    SCRIPT(0, {FAULT, 0});
    SCRIPT(1, {FAULT, 1});
    race("slots.pair", 2);
    prepare_roots(FRAMES, MM_PAGING_PAIRS); /* another entry of the root, beside it */
    SCRIPT(0, {FAULT, 0});
    SCRIPT(1, {FAULT, FAR_PAGE});
    race("slots.pair-apart", 2);
    prepare_roots(FRAMES, MM_PAGING_PAIRS);
    SCRIPT(0, {FAULT, 0}, {DROP, 0});
    SCRIPT(1, {FAULT, 1}, {SOFTEN, 1});
    race("slots.pair-dropped", 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_page), cmocka_unit_test(test_neighbours),
        cmocka_unit_test(test_scarce),    cmocka_unit_test(test_in_and_out),
        cmocka_unit_test(test_pair),
    };

    return cmocka_run_group_tests_name("schedule_slots", tests, NULL, NULL);
}
