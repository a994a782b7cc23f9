// SPDX-License-Identifier: MIT
/**
 * What the races of spaces share: a small machine, whose RAM, pool and structures lie in one block
 * of memory that is put back before each run; scripts for the CPUs; and user code that stores
 * through the tables as the hardware would walk them at that moment.
 *
 * Every store is a stamp that names its space, its page and its number. So whoever reads knows
 * whose value it is: a page that two spaces believe to be private shows the other's stamp.
 */
#ifndef SPACE_RACE_H
#define SPACE_RACE_H

#include "check.h"
#include "events.h"
#include "schedule.h"
#include "schedule_mm.h"

#include <mm/arch/x86_64.h>
#include <mm/space.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGE       UINT64_C(4096)
#define RAM_START  UINT64_C(0x100000)
#define RAM_FRAMES 48u
#define POOL_PAGES 24u
#define ARENA      UINT64_C(0xffffc00000000000)
#define USER       UINT64_C(0x10000000) /* page 0 of the scripts */
#define PAGES      8u
#define SPACES     4u
#define STEPS      6u
#define RO         MM_PROT_READ
#define RW         (MM_PROT_READ | MM_PROT_WRITE)

enum what {
    DONE,
    STORE,   /* user code stores to `page` of `space`, through faults */
    LOAD,    /* the same, a load */
    MAP,     /* `nr` pages at `page`, read and write */
    MAP_ANY, /* `nr` pages anywhere */
    UNMAP,   /* `nr` pages from `page` on */
    PROTECT, /* the same, to `prot` */
    CLONE,   /* into space number `page` */
    CREATE,  /* space number `space` */
    HOLD,    /* a reference to `space` more */
    PUT,     /* one less */
    ASK,     /* for the region at `page`, and for the next one */
    COUNT,   /* the statistics */
    CHECK,   /* the space's own check */
    LOOK,    /* activate: the table must be whole then */
};

struct step {
    enum what what;
    unsigned space;
    unsigned page;
    unsigned nr;
    mm_prot_t prot;
};

/** The privileged registers. There is no TLB: each access walks the tables. */
struct registers {
    uint64_t cr[5];
    uint64_t efer;
    uint64_t pat;
};

struct space_race {
    struct registers registers;
    struct mm_boot_entry entries[16];
    struct mm_bootmap map;
    struct mm_frames frames;
    struct mm_x86_64 arch;
    struct mm_pagetable kernel;
    struct mm_page_range range;
    struct mm_pool pool;
    struct mm_spaces spaces;
    uint64_t nr_free_at_start;
    struct mm_space *of[SPACES];
    struct mm_pagetable *table[SPACES]; /* theirs */
    unsigned puts[SPACES]; /* references that the end of the run has to drop; 0: gone */
    /* The last stamp that a space itself stored to a page; 0: none since it was mapped. */
    uint64_t stored[SPACES][PAGES];
    uint64_t nr_stores;
    bool edited[PAGES]; /* by unmap or map in a script: what was stored may be gone */
    unsigned freed[SPACES];
    uint64_t any[T_SCHEDULE_CPUS]; /* where MAP_ANY put them */
    uint64_t any_len[T_SCHEDULE_CPUS];
    struct step steps[T_SCHEDULE_CPUS][STEPS];
    void *at_start;
    _Alignas(4096) unsigned char metadata[8 * 4096];
    _Alignas(4096) unsigned char pages[POOL_PAGES * 4096];
    _Alignas(4096) unsigned char ram[RAM_FRAMES * 4096];
};

static struct space_race *w;

/* ---- the hardware ------------------------------------------------------------------------------ */

static inline struct mm_x86_64_cpuid cpu_cpuid(void *ctx, uint32_t leaf, uint32_t subleaf)
{
    struct mm_x86_64_cpuid r = {0, 0, 0, 0};

    (void)ctx;
    (void)subleaf;
    r.eax = leaf == 0                      ? 7
            : leaf == UINT32_C(0x80000000) ? UINT32_C(0x80000008)
            : leaf == UINT32_C(0x80000008) ? 48u << 8 | 46u
                                           : 0;
    r.edx = leaf == 1 ? 1u << 13 | 1u << 16 : leaf == UINT32_C(0x80000001) ? 1u << 20 : 0;
    return r;
}

static inline uint64_t cpu_read_msr(void *ctx, uint32_t msr)
{
    (void)ctx;
    return msr == UINT32_C(0xc0000080) ? w->registers.efer : w->registers.pat;
}

static inline void cpu_write_msr(void *ctx, uint32_t msr, uint64_t value)
{
    (void)ctx;
    *(msr == UINT32_C(0xc0000080) ? &w->registers.efer : &w->registers.pat) = value;
}

static inline uint64_t cpu_read_cr(void *ctx, unsigned cr)
{
    (void)ctx;
    t_schedule_point();
    return w->registers.cr[cr];
}

static inline void cpu_write_cr(void *ctx, unsigned cr, uint64_t value)
{
    (void)ctx;
    t_schedule_point();
    w->registers.cr[cr] = value;
}

static inline void cpu_invlpg(void *ctx, uint64_t vaddr)
{
    (void)ctx;
    (void)vaddr;
    t_schedule_point();
}

static inline void cpu_invpcid(void *ctx, uint64_t type, uint64_t pcid, uint64_t vaddr)
{
    (void)ctx;
    (void)type;
    (void)pcid;
    (void)vaddr;
    t_schedule_fail("INVPCID, which this CPU has not");
}

static const struct mm_x86_64_cpu_ops cpu_ops = {
    cpu_cpuid, cpu_read_msr, cpu_write_msr, cpu_read_cr, cpu_write_cr, cpu_invlpg, cpu_invpcid};

static inline uint64_t *ram_at(uint64_t paddr)
{
    if (paddr - RAM_START >= sizeof(w->ram)) {
        t_schedule_fail("an entry points to 0x%llx, where no RAM is", (unsigned long long)paddr);
    }
    return (uint64_t *)(void *)&w->ram[paddr - RAM_START];
}

/* The byte that user code reaches (SDM vol. 3A, 4.5: present, writable, user in every entry, bits
 * 51:12 the next table); NULL: a page fault. */
static inline uint64_t *walk(unsigned space, uint64_t at, bool write)
{
    uint64_t table = mm_paging_root(w->table[space]).raw;

    for (unsigned shift = 39;; shift -= 9) {
        uint64_t entry = ram_at(table)[(at >> shift) & 511];

        if ((entry & 5) != 5 || (write && (entry & 2) == 0)) {
            return NULL;
        }
        table = entry & UINT64_C(0x000ffffffffff000);
        if (shift == 12) {
            return ram_at(table);
        }
    }
}

/* ---- user code --------------------------------------------------------------------------------- */

static inline uint64_t stamp(unsigned space, unsigned page)
{
    return UINT64_C(0x5e00000000000000) | (uint64_t)space << 32 | page << 16 | ++w->nr_stores;
}

/* A value that a space may find in its page: nothing, its own, or its parent's (space 0). */
static inline bool may_find(unsigned space, unsigned page, uint64_t value)
{
    unsigned owner = (unsigned)(value >> 32) & 0xff;

    return value == 0 || (value >> 56 == 0x5e && ((value >> 16) & 0xffff) == page &&
                          (owner == space || owner == 0));
}

static inline void access_page(const struct step *step)
{
    struct mm_space *space = w->of[step->space];
    uint64_t at = USER + step->page * PAGE;
    bool write = step->what == STORE;
    struct mm_fault fault = {mm_vaddr(at), MM_FAULT_USER | (write ? MM_FAULT_WRITE : 0u)};
    enum mm_fault_result result = MM_FAULT_MINOR;
    unsigned tries = 0;
    uint64_t *value;

    while ((value = walk(step->space, at, write)) == NULL) {
        if (mm_space_fault(space, &fault, &result) != MM_OK) {
            t_schedule_fail("a fault has a status");
        }
        if (result == MM_FAULT_SIGNAL_MAP || result == MM_FAULT_SIGNAL_ACCESS) {
            return; /* another CPU has taken the page, or its rights */
        }
        if (result > MM_FAULT_COW || ++tries > 4) {
            t_schedule_fail("fault %u at page %u: result %d", tries, step->page, (int)result);
        }
    }
    if (!may_find(step->space, step->page, *value)) {
        t_schedule_fail("space %u finds 0x%llx in its page %u", step->space,
                        (unsigned long long)*value, step->page);
    }
    if (write) {
        *value = stamp(step->space, step->page);
        w->stored[step->space][step->page] = *value;
    }
}

/* ---- a step ------------------------------------------------------------------------------------ */

static inline void expect(mm_status_t status, mm_status_t allowed)
{
    if (status != MM_OK && status != allowed) {
        t_schedule_fail("status %s", mm_status_str(status));
    }
}

static inline void map_pages(unsigned cpu, const struct step *step)
{
    struct mm_space_request request = {.len = step->nr * PAGE, .prot = RW};
    mm_vaddr_t at = {0};
    mm_status_t status;

    if (step->what == MAP) {
        request.at = mm_vaddr(USER + step->page * PAGE);
        request.flags = MM_SPACE_FIXED;
    }
    status = mm_space_map(w->of[step->space], &request, &at);
    expect(status, step->what == MAP ? MM_ERR_ALREADY_MAPPED : MM_OK);
    if (status == MM_OK && step->what == MAP_ANY) {
        w->any[cpu] = at.raw;
        w->any_len[cpu] = request.len;
    }
}

/* A region that is one: whole pages, none of them zero, with rights that a script gave. */
static inline void expect_region(mm_status_t status, const struct mm_region_info *info)
{
    expect(status, MM_ERR_REGION_NOT_FOUND);
    if (status == MM_OK &&
        (info->range.start.raw < USER || info->range.len == 0 || info->range.len > PAGES * PAGE ||
         info->range.len % PAGE != 0 || (info->prot != RO && info->prot != RW))) {
        t_schedule_fail("a region at 0x%llx", (unsigned long long)info->range.start.raw);
    }
}

static inline void ask(struct mm_space *space, mm_vaddr_t at)
{
    struct mm_region_info info;
    mm_status_t status = mm_space_find(space, at, &info);

    expect_region(status, &info);
    if (status == MM_OK && at.raw - info.range.start.raw >= info.range.len) {
        t_schedule_fail("the region that was found is elsewhere");
    }
    expect_region(mm_space_next(space, at, &info), &info);
}

/* Every page that is there lies in a region, and every region has a page of bytes. */
static inline void count(struct mm_space *space)
{
    struct mm_space_stats stats;

    expect(mm_space_get_stats(space, &stats), MM_OK);
    if (stats.resident_bytes > stats.mapped_bytes || stats.nr_regions * PAGE > stats.mapped_bytes) {
        t_schedule_fail("%llu bytes resident of %llu mapped",
                        (unsigned long long)stats.resident_bytes,
                        (unsigned long long)stats.mapped_bytes);
    }
}

static inline void do_step(unsigned cpu, const struct step *step)
{
    struct mm_space *space = w->of[step->space];
    struct mm_vrange range = mm_vrange(mm_vaddr(USER + step->page * PAGE), step->nr * PAGE);

    switch (step->what) {
    case STORE:
    case LOAD:
        access_page(step);
        break;
    case MAP:
    case MAP_ANY:
        map_pages(cpu, step);
        break;
    case UNMAP:
        expect(mm_space_unmap(space, range), MM_OK);
        break;
    case PROTECT:
        expect(mm_space_protect(space, range, step->prot), MM_ERR_NOT_MAPPED);
        break;
    case CLONE:
        expect(mm_space_clone(space, &w->of[step->page]), MM_OK);
        w->puts[step->page] = 1;
        w->table[step->page] = mm_space_table(w->of[step->page]);
        break;
    case CREATE:
        expect(mm_space_create(&w->spaces, &w->of[step->space]), MM_OK);
        w->puts[step->space] = 1;
        w->table[step->space] = mm_space_table(w->of[step->space]);
        break;
    case HOLD:
        mm_space_get(space);
        w->puts[step->space]++;
        break;
    case PUT:
        w->puts[step->space]--;
        w->freed[step->space] += mm_space_put(space) ? 1 : 0;
        break;
    case ASK:
        ask(space, range.start);
        break;
    case COUNT:
        count(space);
        break;
    case CHECK:
        if (mm_space_check(space) != MM_OK) {
            t_schedule_fail("the check of a space, while another CPU works on it");
        }
        break;
    case LOOK:
        expect(mm_space_activate(space), MM_OK);
        break;
    case DONE:
        break;
    }
}

static inline void space_race_run(void *ctx, unsigned cpu)
{
    (void)ctx;
    for (unsigned i = 0; i < STEPS && w->steps[cpu][i].what != DONE; i++) {
        do_step(cpu, &w->steps[cpu][i]);
    }
}

/* ---- before and after -------------------------------------------------------------------------- */

static inline void space_race_start(void *ctx)
{
    (void)ctx;
    memcpy(w, w->at_start, sizeof(*w));
}

static inline uint64_t free_frames(void)
{
    struct mm_frame_stats stats = {0};

    return mm_frame_get_stats(&w->frames, &stats) == MM_OK ? stats.nr_free : 0;
}

struct counting {
    unsigned refs[RAM_FRAMES];
    const char *wrong;
};

static inline bool count_leaf(void *ctx, const struct mm_mapping *leaf)
{
    struct counting *counting = ctx;
    uint64_t frame = (leaf->paddr.raw - RAM_START) / PAGE;

    if (frame >= RAM_FRAMES) {
        counting->wrong = "a leaf names no RAM";
        return false;
    }
    counting->refs[frame]++;
    return true;
}

/* What each space finds in its pages. */
static inline const char *look_at_pages(unsigned space)
{
    static char text[120];

    for (unsigned page = 0; page < PAGES; page++) {
        uint64_t *value = walk(space, USER + page * PAGE, false);
        uint64_t stored = w->stored[space][page];

        if (value != NULL && !may_find(space, page, *value)) {
            (void)snprintf(text, sizeof(text), "space %u has 0x%llx in its page %u", space,
                           (unsigned long long)*value, page);
            return text;
        }
        if (stored != 0 && !w->edited[page] && (value == NULL || *value != stored)) {
            (void)snprintf(text, sizeof(text), "space %u has lost what it stored to page %u", space,
                           page);
            return text;
        }
    }
    return NULL;
}

static inline const char *check_spaces(void)
{
    struct counting counting = {.wrong = NULL};

    for (unsigned i = 0; i < SPACES; i++) {
        const char *wrong;

        if (w->puts[i] == 0) {
            continue;
        }
        if (mm_space_check(w->of[i]) != MM_OK) {
            return "the check of a space";
        }
        if (mm_paging_walk(mm_space_table(w->of[i]), mm_space_range(w->of[i]), count_leaf,
                           &counting) != MM_OK) {
            return "a table cannot be walked";
        }
        wrong = counting.wrong != NULL ? counting.wrong : look_at_pages(i);
        if (wrong != NULL) {
            return wrong;
        }
    }
    for (unsigned i = 0; i < RAM_FRAMES; i++) {
        if (counting.refs[i] != 0 && RAM_START / PAGE + i != w->spaces.zero_page.raw &&
            mm_frame_refs(&w->frames, mm_pfn(RAM_START / PAGE + i)) != counting.refs[i]) {
            return "the count of a frame is not the number of its mappings";
        }
    }
    return NULL;
}

static inline const char *space_race_finish(void *ctx)
{
    const char *wrong = check_spaces();
    struct mm_spaces_stats stats;

    (void)ctx;
    if (wrong != NULL) {
        return wrong;
    }
    if (mm_paging_activate(&w->kernel) != MM_OK) {
        return "the kernel's table";
    }
    if (w->any_len[0] != 0 && w->any_len[1] != 0 && w->any[0] < w->any[1] + w->any_len[1] &&
        w->any[1] < w->any[0] + w->any_len[0]) {
        return "one place was given to two";
    }
    for (unsigned i = 0; i < SPACES; i++) {
        for (; w->puts[i] > 0; w->puts[i]--) {
            w->freed[i] += mm_space_put(w->of[i]) ? 1 : 0;
        }
        if (w->of[i] != NULL && w->freed[i] != 1) {
            return "a space was not freed once, with its last reference";
        }
        for (unsigned j = 0; j < i; j++) {
            if (w->of[i] != NULL && w->of[j] == w->of[i] && w->puts[j] != 0) {
                return "two spaces are one";
            }
        }
    }
    if (free_frames() != w->nr_free_at_start) {
        return "all spaces are gone, and a frame is not free";
    }
    if (mm_frame_check(&w->frames) != MM_OK || mm_spaces_check(&w->spaces) != MM_OK) {
        return "the check of the frames, or of the manager";
    }
    if (mm_spaces_get_stats(&w->spaces, &stats) != MM_OK || stats.nr_spaces != 0 ||
        mm_spaces_destroy(&w->spaces) != MM_OK) {
        return "all spaces are gone, and the manager does not know it";
    }
    return NULL;
}

/* ---- a race ------------------------------------------------------------------------------------ */

static inline void prepare_frames(const struct mm_physmap *physmap)
{
    struct mm_frames_config config = {.map = &w->map,
                                      .physmap = physmap,
                                      .platform = t_race_platform(),
                                      .nr_cpus = 2,
                                      .flags = MM_FRAMES_REFCOUNTS,
                                      .metadata = w->metadata,
                                      .metadata_len = sizeof(w->metadata)};

    assert_int_equal(mm_bootmap_init(&w->map, w->entries, 16), MM_OK);
    assert_int_equal(
        mm_bootmap_add(&w->map, mm_prange(mm_paddr(RAM_START), sizeof(w->ram)), MM_BOOT_USABLE),
        MM_OK);
    assert_int_equal(mm_frame_init(&w->frames, &config), MM_OK);
}

static inline void prepare_tables(const struct mm_physmap *physmap)
{
    const struct mm_vrange ranges[] = {mm_vrange(mm_vaddr(ARENA), UINT64_C(1) << 30)};
    struct mm_paging_config config = {.physmap = physmap,
                                      .source = mm_frame_source_of(&w->frames),
                                      .platform = t_race_platform(),
                                      .user = mm_vrange(mm_vaddr(0), UINT64_C(1) << 47),
                                      .kernel_ranges = ranges,
                                      .nr_kernel_ranges = 1};

    w->registers.cr[0] = UINT64_C(0x80000001); /* PG, PE */
    w->registers.cr[4] = 1u << 5;              /* PAE */
    assert_int_equal(mm_x86_64_init(&w->arch, &cpu_ops, NULL), MM_OK);
    assert_int_equal(mm_x86_64_enable(&w->arch), MM_OK);
    config.backend = mm_x86_64_backend(&w->arch);
    assert_int_equal(mm_paging_init_kernel(&w->kernel, &config), MM_OK);
    assert_int_equal(mm_paging_activate(&w->kernel), MM_OK);
}

/* A machine with one space, number 0, of `nr` pages from page 0 on; the first `touched` hold what
 * it stored. */
static inline void prepare(unsigned nr, unsigned touched)
{
    struct mm_pool_config pool = {.platform = t_race_platform(), .nr_cpus = 2};
    struct mm_physmap physmap;
    struct mm_spaces_config config = {.physmap = &physmap, .platform = t_race_platform()};

    w = aligned_alloc(4096, sizeof(*w));
    assert_non_null(w);
    memset(w, 0, sizeof(*w));
    physmap = mm_physmap_direct((uint64_t)(uintptr_t)w->ram - RAM_START);
    prepare_frames(&physmap);
    prepare_tables(&physmap);
    assert_int_equal(mm_page_range_init(&w->range, w->pages, sizeof(w->pages)), MM_OK);
    pool.source = mm_page_source_range(&w->range);
    assert_int_equal(mm_pool_init(&w->pool, &pool), MM_OK);
    config.frames = &w->frames;
    config.kernel = &w->kernel;
    config.pool = &w->pool;
    assert_int_equal(mm_spaces_init(&w->spaces, &config), MM_OK);
    w->nr_free_at_start = free_frames();
    do_step(0, &(struct step){.what = CREATE, .space = 0});
    do_step(0, &(struct step){.what = MAP, .nr = nr});
    for (unsigned page = 0; page < touched; page++) {
        do_step(0, &(struct step){.what = STORE, .page = page});
    }
}

#define SCRIPT(cpu, ...)                                                                           \
    memcpy(w->steps[cpu], ((const struct step[]){__VA_ARGS__}),                                    \
           sizeof((const struct step[]){__VA_ARGS__}))

/* `plainly`: plain accesses are points as well, those of the tree of regions among them. */
static inline void race_of(const char *name, unsigned nr_cpus, bool plainly)
{
    struct t_race race = {.name = name,
                          .nr_cpus = nr_cpus,
                          .start = space_race_start,
                          .run = space_race_run,
                          .finish = space_race_finish,
                          .sparse = true,
                          .plain = plainly,
                          .ordered = true};
    const struct t_race_plan plan = {
        .nr_random = 200, .nr_pct = 200, .nr_search = 800, .preemptions = 2};

    for (unsigned cpu = 0; cpu < nr_cpus; cpu++) {
        for (unsigned i = 0; i < STEPS; i++) {
            const struct step *step = &w->steps[cpu][i];

            for (unsigned page = 0; page < step->nr && step->page + page < PAGES; page++) {
                w->edited[step->page + page] = true;
            }
        }
    }
    w->at_start = malloc(sizeof(*w));
    assert_non_null(w->at_start);
    memcpy(w->at_start, w, sizeof(*w));
    T_LEGAL(t_race_explore(&race, &plan));
    free(w->at_start);
    free(w);
}

static inline void race(const char *name, unsigned nr_cpus)
{
    race_of(name, nr_cpus, false);
}

#endif
