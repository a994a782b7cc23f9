// SPDX-License-Identifier: MIT
/**
 * How a race of spaces is set up, run, and judged at its end.
 */
#ifndef SPACE_SCENE_H
#define SPACE_SCENE_H

#include "space_steps.h"

/* ---- the end of a run -------------------------------------------------------------------------- */

struct counting {
    unsigned refs[RAM_FRAMES];
    uint64_t bytes;
};

static inline bool count_leaf(void *ctx, const struct mm_mapping *leaf)
{
    struct counting *counting = ctx;
    uint64_t frame = (leaf->paddr.raw - RAM_START) / PAGE;

    counting->bytes += leaf->page.len;
    if (frame < RAM_FRAMES) {
        counting->refs[frame]++;
    }
    return true;
}

static inline unsigned state_of(unsigned space, unsigned page)
{
    struct mm_region_info info;

    if (mm_space_find(w->of[space], mm_vaddr(place(page)), &info) != MM_OK) {
        return NONE | GROW;
    }
    return info.prot == RW ? WR : info.prot == RO ? RD : NO;
}

static inline const char *look_at_pages(unsigned space)
{
    static char text[120];

    for (unsigned page = 0; page < PAGES; page++) {
        uint64_t value = peek(space, page);
        const struct cell *c = cell_of(space, page);

        if (!has_value(c, value)) {
            (void)snprintf(text, sizeof(text), "space %u has 0x%llx in its page %u", space,
                           (unsigned long long)value, page);
            return text;
        }
        if ((state_of(space, page) & c->states) == 0) {
            (void)snprintf(text, sizeof(text), "page %u of space %u is %u and not %u", page, space,
                           state_of(space, page), c->states);
            return text;
        }
    }
    return NULL;
}

static inline const char *look_at_counts(unsigned space, uint64_t bytes)
{
    struct mm_space_stats stats;
    uint64_t nr = 0;

    must(mm_space_get_stats(w->of[space], &stats));
    for (unsigned i = 0; i < MM_FAULT_COUNT; i++) {
        nr += stats.nr_faults[i];
    }
    if (stats.resident_bytes != bytes) {
        return "the resident bytes are not those of the leaves";
    }
    return nr != w->nr_faults[space] ? "faults were counted twice, or not at all" : NULL;
}

static inline const char *look_at_frames(const struct counting *counting)
{
    for (unsigned i = 0; i < RAM_FRAMES; i++) {
        mm_pfn_t frame = mm_pfn(RAM_START / PAGE + i);

        if (counting->refs[i] != 0 && frame.raw != w->spaces.zero_page.raw &&
            mm_frame_refs(&w->frames, frame) != counting->refs[i]) {
            return "the count of a frame is not the number of its mappings";
        }
    }
    return NULL;
}

static inline const char *look_at_spaces(void)
{
    static struct counting counting;
    const char *wrong = NULL;
    uint64_t mapped = 0;

    counting = (struct counting){.bytes = 0};
    for (unsigned i = 0; i < SPACES && wrong == NULL; i++) {
        uint64_t before = counting.bytes;

        if (w->puts[i] == 0) {
            continue;
        }
        if (mm_space_check(w->of[i]) != MM_OK) {
            return "the check of a space";
        }
        must(mm_paging_walk(mm_space_table(w->of[i]), mm_space_range(w->of[i]), count_leaf,
                            &counting));
        wrong = look_at_pages(i);
        wrong = wrong == NULL ? look_at_counts(i, counting.bytes - before) : wrong;
    }
    if (wrong == NULL && w->group.magic != 0) {
        struct mm_space_group_stats stats;

        must(mm_space_group_get_stats(&w->group, &stats));
        for (unsigned i = 0; i < SPACES; i++) {
            struct mm_space_stats of = {.mapped_bytes = 0};

            if (w->puts[i] != 0) {
                must(mm_space_get_stats(w->of[i], &of));
            }
            mapped += of.mapped_bytes;
        }
        if (stats.resident_bytes != counting.bytes || stats.mapped_bytes != mapped) {
            return "the group's sums are not those of its spaces";
        }
    }
    return wrong == NULL ? look_at_frames(&counting) : wrong;
}

static inline uint64_t free_frames(void)
{
    struct mm_frame_stats stats = {0};

    must(mm_frame_get_stats(&w->frames, &stats));
    return stats.nr_free;
}

static inline const char *take_down(void)
{
    for (unsigned i = 0; i < SPACES; i++) {
        while (w->puts[i] > 0) {
            put(i);
        }
        if (w->of[i] != NULL && w->freed[i] != 1) {
            return "a space was not freed once, with its last reference";
        }
    }
    if (free_frames() != w->nr_free_at_start) {
        return "all spaces are gone, and a frame is not free";
    }
    if (mm_frame_check(&w->frames) != MM_OK || mm_spaces_check(&w->spaces) != MM_OK) {
        return "the check of the frames, or of the manager";
    }
    if (w->group.magic != 0 && (w->group.resident_bytes != 0 || w->group.mapped_bytes != 0 ||
                                mm_space_group_destroy(&w->group) != MM_OK)) {
        return "all spaces are gone, and the group has charges";
    }
    return mm_spaces_destroy(&w->spaces) != MM_OK ? "the manager cannot go" : NULL;
}

static inline const char *scene_finish(void *ctx)
{
    const char *wrong = t_cpus_sweep(&w->cpus, T_SWEEP_SAFE);

    (void)ctx;
    w->racing = false;
    w->cpus.now = 0;
    if (wrong == NULL && w->any_len[0] != 0 && w->any_len[1] != 0 &&
        w->any[0] < w->any[1] + w->any_len[1] && w->any[1] < w->any[0] + w->any_len[0]) {
        wrong = "one place was given to two";
    }
    unpin();
    wrong = wrong == NULL ? look_at_spaces() : wrong;
    return wrong == NULL ? take_down() : wrong;
}

/* ---- a run ------------------------------------------------------------------------------------- */

static inline void scene_run(void *ctx, unsigned cpu)
{
    (void)ctx;
    for (unsigned i = 0; i < STEPS && w->steps[cpu][i].what != DONE; i++) {
        if (w->pending[cpu]) {
            take_interrupt(cpu);
        }
        do_step(cpu, &w->steps[cpu][i]);
        check_always();
    }
    t_schedule_point();
    go(cpu);
}

static inline void scene_interrupt(void *ctx, unsigned cpu)
{
    (void)ctx;
    take_interrupt(cpu);
}

static inline void scene_start(void *ctx)
{
    (void)ctx;
    memcpy(t_ram_ptr(w->ram, RAM_START), w->ram_at_start, RAM_FRAMES * PAGE);
    memcpy(w, w->at_start, world_size());
    for (uint64_t i = 0; w->with_block && i < BLOCK_FRAMES; i++) {
        *(uint64_t *)t_ram_ptr(w->ram, BLOCK_AT + i * PAGE) = w->in_block[i];
    }
}

/* ---- before ------------------------------------------------------------------------------------ */

static inline void prepare_frames(const struct mm_physmap *physmap)
{
    struct mm_frames_config config = {.map = &w->map,
                                      .physmap = physmap,
                                      .platform = world_platform(),
                                      .nr_cpus = T_SCHEDULE_CPUS,
                                      .flags = MM_FRAMES_REFCOUNTS,
                                      .metadata = w->metadata,
                                      .metadata_len = sizeof(w->metadata)};
    uint64_t start = w->with_block ? BLOCK_AT : RAM_START;

    must(mm_bootmap_init(&w->map, w->entries, 16));
    must(mm_bootmap_add(&w->map, mm_prange(mm_paddr(start), RAM_END - start), MM_BOOT_USABLE));
    must(mm_frame_init(&w->frames, &config));
    /* Nothing else shall lie in the block. */
    if (w->with_block) {
        const struct mm_frame_request request = {.order = 9};

        must(mm_frame_alloc(&w->frames, &request, &w->block));
    }
}

static inline void prepare_tables(const struct mm_physmap *physmap)
{
    static const struct mm_tlb_ops ops = {.this_cpu = world_this_cpu, .interrupt = world_interrupt};
    const struct mm_vrange range = mm_vrange(mm_vaddr(ARENA), UINT64_C(1) << 30);
    struct mm_tlb_config config = {.backend = mm_x86_64_backend(&w->arch),
                                   .cpus = w->tlb_cpu,
                                   .nr_cpus = w->nr_cpus,
                                   .ops = &ops,
                                   .platform = world_platform()};
    struct mm_paging_config paging = {.backend = mm_x86_64_backend(&w->arch),
                                      .physmap = physmap,
                                      .source = mm_frame_source_of(&w->frames),
                                      .platform = world_platform(),
                                      .user = mm_vrange(mm_vaddr(0), UINT64_C(1) << 47),
                                      .kernel_ranges = &range,
                                      .nr_kernel_ranges = 1,
                                      .tlb = &w->tlb};

    must(mm_tlb_init(&w->tlb, &config));
    must(mm_paging_init_kernel(&w->kernel, &paging));
}

static inline void prepare_cpus(bool pcid)
{
    struct t_cpu_features has = t_cpu_full;

    has.pcid = pcid;
    has.invpcid = false;
    t_cpus_init(&w->cpus, w->nr_cpus, w->ram, &has);
    w->cpus.is_free = world_is_free;
    w->cpus.asleep = true;
    must(mm_x86_64_init(&w->arch, &world_cpu_ops, NULL));
    for (w->cpus.now = w->nr_cpus; w->cpus.now-- > 0;) {
        must(mm_x86_64_enable(&w->arch));
    }
    w->cpus.now = 0;
}

static inline void on_cpu(unsigned cpu, struct step step)
{
    w->cpus.now = cpu;
    do_step(cpu, &step);
    w->cpus.now = 0;
}

static inline void set_states(unsigned space, unsigned page, unsigned nr, unsigned states)
{
    for (unsigned i = page; i < page + nr; i++) {
        cell_of(space, i)->states = states;
    }
}

static inline void prepare_spaces(const struct mm_physmap *physmap)
{
    struct mm_pool_config pool = {.platform = world_platform(), .nr_cpus = T_SCHEDULE_CPUS};
    struct mm_spaces_config config = {.frames = &w->frames,
                                      .physmap = physmap,
                                      .kernel = &w->kernel,
                                      .pool = &w->pool,
                                      .platform = world_platform()};

    must(mm_page_range_init(&w->range, w->pages, sizeof(w->pages)));
    pool.source = mm_page_source_range(&w->range);
    must(mm_pool_init(&w->pool, &pool));
    must(mm_spaces_init(&w->spaces, &config));
    w->nr_free_at_start = free_frames() + (w->with_block ? BLOCK_FRAMES : 0);
}

/** A space with no region: number `space`. */
static inline void create(unsigned space)
{
    struct mm_space_config config = {.layout = {.stack_gap = PAGE},
                                     .group = w->group.magic != 0 ? &w->group : NULL};

    must(mm_space_create_with(&w->spaces, &config, &w->of[space]));
    w->table[space] = mm_space_table(w->of[space]);
    w->puts[space] = 1;
    for (unsigned page = 0; page < PAGES; page++) {
        *cell_of(space, page) = (struct cell){.nr = 1, .states = NONE};
    }
}

struct scene {
    unsigned nr_cpus;
    bool pcid;
    bool with_block;      /* 2 MiB for a large leaf */
    unsigned group_pages; /* the spaces are in a group with this limit; 0: in none */
};

/** A machine with one space, number 0, of 4 pages from page 0 on. */
static inline void prepare(const struct scene *scene)
{
    struct mm_physmap physmap;

    w = aligned_alloc(4096, (sizeof(*w) + 4095) & ~UINT64_C(4095));
    assert_non_null(w);
    memset(w, 0, sizeof(*w));
    w->nr_cpus = scene->nr_cpus;
    w->with_block = scene->with_block;
    w->ram = t_ram_new(BLOCK_AT, RAM_END);
    assert_non_null(w->ram);
    t_ram_back(w->ram, BLOCK_AT, RAM_END - BLOCK_AT);
    for (unsigned cpu = 0; cpu < T_SCHEDULE_CPUS; cpu++) {
        w->loaded[cpu] = SPACES;
    }
    physmap = mm_physmap_direct(t_ram_base(w->ram));
    prepare_frames(&physmap);
    prepare_cpus(scene->pcid);
    prepare_tables(&physmap);
    prepare_spaces(&physmap);
    if (scene->group_pages != 0) {
        const struct mm_space_limits limits = {.resident_bytes = scene->group_pages * PAGE};

        must(mm_space_group_init(&w->group, &limits));
        w->group_pages = scene->group_pages;
        w->limited = true;
    }
    for (unsigned cpu = 0; cpu < w->nr_cpus; cpu++) {
        w->cpus.now = cpu;
        w->off[cpu]++;
        must(mm_tlb_online(&w->tlb));
        w->off[cpu]--;
        enter(cpu, SPACES);
        w->loaded[cpu] = SPACES;
    }
    w->cpus.now = 0;
    create(0);
    on_cpu(0, (struct step){MAP, 0, 0, 4, 0});
}

static inline void prepare_for(unsigned nr_cpus)
{
    prepare(&(struct scene){.nr_cpus = nr_cpus, .pcid = true});
}

/** A CPU runs in a space and has stored to the first pages of it. */
static inline void warm(unsigned cpu, unsigned space, unsigned nr)
{
    on_cpu(cpu, (struct step){ENTER, space, 0, 0, 0});
    for (unsigned page = 0; page < nr; page++) {
        on_cpu(cpu, (struct step){STORE, space, page, 0, 0});
    }
}

/** Another one runs in it, and has read them. */
static inline void watch(unsigned cpu, unsigned space, unsigned nr)
{
    on_cpu(cpu, (struct step){ENTER, space, 0, 0, 0});
    for (unsigned page = 0; page < nr; page++) {
        on_cpu(cpu, (struct step){LOAD, space, page, 0, 0});
    }
}

#define SCRIPT(cpu, ...)                                                                           \
    memcpy(w->steps[cpu], ((const struct step[]){__VA_ARGS__}),                                    \
           sizeof((const struct step[]){__VA_ARGS__}))

/** Schedules of each race: 1,000, and 10,000 with MM_TEST_FULL. */
static inline void race(const char *name)
{
    struct t_race race = {.name = name,
                          .nr_cpus = w->nr_cpus,
                          .start = scene_start,
                          .run = scene_run,
                          .interrupt = w->interrupted ? scene_interrupt : NULL,
                          .nr_interrupts = w->interrupted ? 2 : 0,
                          .finish = scene_finish,
                          .sparse = !w->plainly,
                          .plain = w->plainly,
                          .ordered = !w->delayed && !w->with_block, /* it has too many words */
                          .delayed = w->delayed};
    uint64_t factor = t_race_factor();
    uint64_t nr = factor == 1 ? 1000 : (10000 + factor - 1) / factor;
    const struct t_race_plan plan = {.nr_random = nr * 3 / 10,
                                     .nr_pct = nr * 3 / 10,
                                     .nr_search = nr * 4 / 10,
                                     .preemptions = 2};

    t_cpus_noise(&w->cpus, 7, 16);
    w->racing = true;
    w->at_start = malloc(world_size());
    w->ram_at_start = malloc(RAM_FRAMES * PAGE);
    assert_non_null(w->at_start);
    assert_non_null(w->ram_at_start);
    memcpy(w->ram_at_start, t_ram_ptr(w->ram, RAM_START), RAM_FRAMES * PAGE);
    for (uint64_t i = 0; w->with_block && i < BLOCK_FRAMES; i++) {
        w->in_block[i] = *(uint64_t *)t_ram_ptr(w->ram, BLOCK_AT + i * PAGE);
    }
    memcpy(w->at_start, w, world_size());
    T_LEGAL(t_race_explore(&race, &plan));
    t_ram_delete(w->ram);
    free(w->at_start);
    free(w->ram_at_start);
    free(w);
}

#endif
