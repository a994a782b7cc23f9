// SPDX-License-Identifier: MIT
/**
 * Two CPUs in an arena, and interrupt handlers, under every schedule of few switches and many others:
 * of two who free one range one is told; what is freed in parts while others purge comes back once;
 * a handler frees and allocates at every point of every call; no page of a device is used with two
 * memory types.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "check.h"
#include "schedule.h"
#include "schedule_mm.h"

#include "heap/kva.h"

#include <mm/arch/x86_64.h>
#include <mm/kva.h>

#include <string.h>

#define PAGE   UINT64_C(4096)
#define FRAMES 96u
#define POOL   24u
#define ARENA  UINT64_C(0xffffc00000000000)
#define DEVICE UINT64_C(0xfed00000)

enum what { DONE, FREE, FREE_PART, PURGE, TAKE, TAKE_ATOMIC, MAP, MAP_ATOMIC, CLAIM, SETTLE };

struct step {
    enum what what;
    unsigned which, first, nr;
};

struct world {
    struct mm_boot_entry entries[8];
    struct mm_bootmap map;
    struct mm_frames frames;
    struct mm_x86_64 arch;
    struct mm_pagetable kernel;
    struct mm_page_range range;
    struct mm_pool pool;
    struct mm_kva kva;
    mm_vaddr_t at[4];
    uint64_t nr_free; /* frames, when nothing is out */
    unsigned nr_told, nr_passed;
    bool gone[4];                   /* pages of the source's run */
    unsigned nr_mapped, nr_claimed; /* users of the device, uncached and write-combining */
    struct step steps[2][4];
    struct step handler[2];
    _Alignas(4096) unsigned char pages[POOL * 4096];
    _Alignas(4096) unsigned char ram[FRAMES * 4096];
};

static _Alignas(4096) struct world now;
static _Alignas(4096) struct world at_start;

static struct mm_x86_64_cpuid no_cpuid(void *ctx, uint32_t leaf, uint32_t subleaf)
{
    struct mm_x86_64_cpuid r = {0, 0, 0, 0};

    (void)ctx, (void)leaf, (void)subleaf;
    return r;
}

static uint64_t read_nothing(void *ctx, uint32_t n)
{
    (void)ctx, (void)n;
    return 0;
}

static void write_nothing(void *ctx, uint32_t n, uint64_t value)
{
    (void)ctx, (void)n, (void)value;
}

static void no_invlpg(void *ctx, uint64_t at)
{
    (void)ctx, (void)at;
}

static void no_invpcid(void *ctx, uint64_t type, uint64_t pcid, uint64_t at)
{
    (void)ctx, (void)type, (void)pcid, (void)at;
}

static uint64_t nr_free(void)
{
    struct mm_frame_stats stats;

    assert_int_equal(mm_frame_get_stats(&now.frames, &stats), MM_OK);
    return stats.nr_free;
}

#define MUST(call) assert_int_equal((call), MM_OK)

/* An arena over the memory of the world, and three ranges of two pages; the last is a source's. */
static void prepare(void)
{
    static const struct mm_x86_64_cpu_ops ops = {
        no_cpuid, read_nothing, write_nothing, read_nothing, write_nothing, no_invlpg, no_invpcid};
    static const struct mm_vrange range = {{ARENA}, UINT64_C(64) << 20};
    struct mm_physmap physmap = mm_physmap_direct((uint64_t)(uintptr_t)now.ram - PAGE);
    struct mm_prange all = mm_prange(mm_paddr(PAGE), FRAMES * PAGE);
    struct mm_frames_config frames = {.map = &now.map, .physmap = &physmap, .nr_cpus = 2};
    struct mm_paging_config paging = {
        .physmap = &physmap, .kernel_ranges = &range, .nr_kernel_ranges = 1};
    struct mm_pool_config pool = {.nr_cpus = 2};
    struct mm_kva_config config = {.kernel = &now.kernel,
                                   .frames = &now.frames,
                                   .physmap = &physmap,
                                   .pool = &now.pool,
                                   .platform = t_race_platform(),
                                   .range = range};
    struct mm_kva_request request = {.len = 2 * PAGE};
    struct mm_page_source source;
    void *run = NULL;

    memset(&now, 0, sizeof(now));
    MUST(mm_bootmap_init(&now.map, now.entries, 8));
    MUST(mm_bootmap_add(&now.map, all, MM_BOOT_USABLE));
    MUST(mm_frame_init_from_map(&now.frames, &frames, all));
    MUST(mm_x86_64_init(&now.arch, &ops, NULL));
    MUST(mm_x86_64_enable(&now.arch));
    paging.backend = mm_x86_64_backend(&now.arch);
    paging.source = mm_frame_source_of(&now.frames);
    MUST(mm_paging_init_kernel(&now.kernel, &paging));
    MUST(mm_page_range_init(&now.range, now.pages, sizeof(now.pages)));
    pool.source = mm_page_source_range(&now.range);
    MUST(mm_pool_init(&now.pool, &pool));
    MUST(mm_kva_init(&now.kva, &config));
    now.nr_free = nr_free();
    MUST(mm_kva_alloc(&now.kva, &request, &now.at[0]));
    MUST(mm_kva_alloc(&now.kva, &request, &now.at[1]));
    source = mm_page_source_kva(&now.kva);
    MUST(source.ops->alloc(source.ctx, 4, 1, 0, &run));
    now.at[2] = mm_vaddr_of(run);
}

static void start(void *ctx)
{
    (void)ctx;
    now = at_start;
}

static void free_it(void *arg)
{
    mm_kva_free(&now.kva, *(mm_vaddr_t *)arg);
}

static void use(unsigned *mine, const unsigned *others)
{
    *mine += 1;
    if (*others != 0) {
        t_schedule_fail("a page is used with two memory types");
    }
}

static void map_device(uint32_t flags)
{
    mm_vaddr_t at;
    mm_status_t status =
        mm_kva_map(&now.kva, mm_prange(mm_paddr(DEVICE), 1), MM_PROT_RW, MM_MEMTYPE_UC, flags, &at);

    if (status == MM_OK) {
        use(&now.nr_mapped, &now.nr_claimed);
        now.nr_mapped--;
        mm_kva_free(&now.kva, at);
    } else if (status != MM_ERR_ALREADY_MAPPED && (status != MM_ERR_BUSY || flags == 0)) {
        t_schedule_fail("a device: %s", mm_status_str(status));
    }
}

/* As a space does; `settle`: and what was freed in the arena is no hindrance. */
static void claim_device(bool settle)
{
    struct mmi_range node = {.node = {.start = DEVICE}, .len = PAGE, .tag = 1};
    mm_status_t status = mmi_device_claim(mmi_devices_of(&now.kva), &node, MM_MEMTYPE_WC);

    if (status != MM_OK && settle &&
        mmi_device_settle(&now.kva, DEVICE, PAGE, MM_MEMTYPE_WC) == MM_OK) {
        status = mmi_device_claim(mmi_devices_of(&now.kva), &node, MM_MEMTYPE_WC);
    }
    if (status == MM_OK) {
        use(&now.nr_claimed, &now.nr_mapped);
        now.nr_claimed--;
        mmi_device_release(mmi_devices_of(&now.kva), &node, MM_MEMTYPE_WC);
    } else if (status != MM_ERR_ALREADY_MAPPED) {
        t_schedule_fail("a claim: %s", mm_status_str(status));
    }
}

static void do_step(const struct step *s)
{
    struct mm_page_source source = mm_page_source_kva(&now.kva);
    struct mm_kva_request request = {.len = PAGE,
                                     .flags = s->what == TAKE_ATOMIC ? MM_KVA_ATOMIC : 0};
    mm_vaddr_t at;
    mm_status_t status;

    switch (s->what) {
    case FREE:
        if (t_schedule_catch(free_it, &now.at[s->which])) {
            now.nr_told++;
        } else {
            now.nr_passed++;
        }
        break;
    case FREE_PART:
        for (unsigned i = s->first; i < s->first + s->nr; i++) {
            now.gone[i] = true;
        }
        source.ops->free(source.ctx, (void *)(uintptr_t)(now.at[2].raw + s->first * PAGE), s->nr);
        break;
    case PURGE:
        (void)mm_kva_purge(&now.kva);
        break;
    case TAKE:
    case TAKE_ATOMIC:
        status = mm_kva_alloc(&now.kva, &request, &at);
        if (status == MM_OK) {
            mm_kva_free(&now.kva, at);
        } else if (status != MM_ERR_BUSY || s->what == TAKE) {
            t_schedule_fail("an allocation answers %s", mm_status_str(status));
        }
        break;
    case MAP:
    case MAP_ATOMIC:
        map_device(s->what == MAP_ATOMIC ? MM_KVA_ATOMIC : 0);
        break;
    case CLAIM:
    case SETTLE:
        claim_device(s->what == SETTLE);
        break;
    case DONE:
        break;
    }
}

static void run_steps(void *ctx, unsigned cpu)
{
    (void)ctx;
    for (unsigned i = 0; i < 4; i++) {
        do_step(&now.steps[cpu][i]);
    }
}

static void handle(void *ctx, unsigned cpu)
{
    (void)ctx, (void)cpu;
    for (unsigned i = 0; i < 2; i++) {
        do_step(&now.handler[i]);
    }
}

static bool frees(unsigned which)
{
    for (unsigned i = 0; i < 8; i++) {
        if (now.steps[i / 4][i % 4].what == FREE && now.steps[i / 4][i % 4].which == which) {
            return true;
        }
    }
    return false;
}

/* What is left is freed here: every frame is back then, and no range is out. */
static const char *finish(void *ctx)
{
    (void)ctx;
    if (now.nr_passed != (unsigned)frees(0) + (unsigned)frees(1)) {
        return "a range was freed twice, or not at all";
    }
    for (unsigned i = 0; i < 2; i++) {
        if (!frees(i)) {
            mm_kva_free(&now.kva, now.at[i]);
        }
    }
    for (unsigned i = 0; i < 4; i++) {
        if (!now.gone[i]) {
            do_step(&(struct step){.what = FREE_PART, .first = i, .nr = 1});
        }
    }
    if (mm_kva_check(&now.kva) != MM_OK) {
        return "the check of the arena";
    }
    (void)mm_kva_purge(&now.kva);
    if (now.kva.devices.nr_foreign != 0) {
        return "a claim is out";
    }
    if (mm_kva_check(&now.kva) != MM_OK || now.kva.ranges.nr != 0 || now.kva.nr_lazy_pages != 0) {
        return "a range is out";
    }
    return nr_free() == now.nr_free ? NULL : "a frame is lost";
}

static void race(const char *name, bool interrupts)
{
    const struct t_race r = {.name = name,
                             .nr_cpus = 2,
                             .start = start,
                             .run = run_steps,
                             .interrupt = interrupts ? handle : NULL,
                             .nr_interrupts = interrupts ? 1 : 0,
                             .finish = finish,
                             .sparse = true,
                             .ordered = !interrupts};
    const struct t_race_plan plan = {.nr_random = 300 * t_race_factor(),
                                     .nr_pct = 150 * t_race_factor(),
                                     .nr_search = 1500 * t_race_factor(),
                                     .preemptions = 2};

    at_start = now;
    T_LEGAL(t_race_explore(&r, &plan));
}

static void test_two_free_one(void **state)
{
    (void)state;
    prepare();
    now.steps[0][0] = (struct step){.what = FREE, .which = 0};
    now.steps[0][1] = (struct step){.what = FREE, .which = 1};
    now.steps[1][0] = (struct step){.what = FREE, .which = 0};
    now.steps[1][1] = (struct step){.what = FREE, .which = 1};
    now.steps[0][2] = now.steps[1][2] = (struct step){.what = FREE_PART, .first = 0, .nr = 1};
    now.steps[0][2].first = 2;
    now.steps[0][3] = now.steps[1][3] = (struct step){.what = FREE_PART, .first = 1, .nr = 1};
    now.steps[0][3].first = 3;
    race("kva.two-free-one", false);
}

static void test_parts_against_a_purge(void **state)
{
    (void)state;
    prepare();
    now.steps[0][0] = (struct step){.what = FREE, .which = 0};
    now.steps[0][1] = (struct step){.what = FREE_PART, .first = 0, .nr = 1};
    now.steps[0][2] = (struct step){.what = FREE_PART, .first = 2, .nr = 2};
    now.steps[1][0] = (struct step){.what = PURGE};
    now.steps[1][1] = (struct step){.what = FREE_PART, .first = 1, .nr = 1};
    now.steps[1][2] = (struct step){.what = PURGE};
    race("kva.parts-purged", false);
}

static void test_interrupted(void **state)
{
    (void)state;
    prepare();
    now.steps[0][0] = (struct step){.what = FREE, .which = 0};
    now.steps[0][1] = (struct step){.what = TAKE};
    now.steps[0][2] = (struct step){.what = PURGE};
    now.steps[1][0] = (struct step){.what = FREE, .which = 1};
    now.steps[1][1] = (struct step){.what = FREE_PART, .first = 0, .nr = 2};
    now.handler[0] = (struct step){.what = TAKE_ATOMIC};
    now.handler[1] = (struct step){.what = FREE_PART, .first = 2, .nr = 2};
    race("kva.interrupted", true);
}

static void test_two_types(void **state)
{
    (void)state;
    prepare();
    now.steps[0][0] = (struct step){.what = MAP};
    now.steps[0][1] = (struct step){.what = MAP};
    now.steps[1][0] = (struct step){.what = CLAIM};
    now.steps[1][1] = (struct step){.what = SETTLE};
    race("kva.two-types", false);
}

static void test_two_types_interrupted(void **state)
{
    (void)state;
    prepare();
    now.steps[0][0] = (struct step){.what = CLAIM};
    now.steps[0][1] = (struct step){.what = MAP};
    now.steps[1][0] = (struct step){.what = SETTLE};
    now.handler[0] = (struct step){.what = MAP_ATOMIC};
    race("kva.two-types-interrupted", true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_two_types),    cmocka_unit_test(test_two_types_interrupted),
        cmocka_unit_test(test_two_free_one), cmocka_unit_test(test_parts_against_a_purge),
        cmocka_unit_test(test_interrupted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
