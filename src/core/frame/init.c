// SPDX-License-Identifier: MIT
/**
 * Bringing an allocator up: spans, areas and their orders, the first state of all bits, what is
 * withheld; and taking it down.
 */
#include "layout.h"

#include "core/base/mem.h"

/* --- the first state -------------------------------------------------------------------------- */

/* All bits of [first, first + nr), which is not empty. */
static void set_bits(uint64_t *bits, uint64_t first, uint64_t nr)
{
    unsigned part = 0;

    if (first % 64 != 0) {
        bits[first / 64] |= mmi_row_part(first, nr, &part);
    }
    first += part;
    nr -= part;
    memset(&bits[first / 64], 0xff, (size_t)(nr / 64 * sizeof(uint64_t)));
    if (nr % 64 != 0) {
        bits[(first + nr) / 64] |= mmi_mask(0, (unsigned)(nr % 64));
    }
}

/* The same in one word of the groups, a bit a line. */
static void set_lines(struct mm_frames *f, unsigned word, uint64_t first, uint64_t end)
{
    while (first < end) {
        uint64_t in_group = MMI_GROUP_LINES - first % MMI_GROUP_LINES;
        uint64_t nr = end - first < in_group ? end - first : in_group;

        *mmi_word(f, first, word) |= mmi_mask((unsigned)(first % MMI_GROUP_LINES), (unsigned)nr);
        first += nr;
    }
}

/* Frames at an end of a span, in lines that are not all of the span's. */
static void fill_lines(struct mm_frames *f, uint64_t slot, uint64_t nr)
{
    if (nr != 0) {
        set_bits(f->rows, slot, nr);
        set_lines(f, MMI_HAS_FREE, slot / MMI_LINE_FRAMES, (slot + nr - 1) / MMI_LINE_FRAMES + 1);
    }
}

/* Lines that are free as a whole are closed: their rows, nearly all of the metadata, stay 0. */
static void fill_span(struct mm_frames *f, const struct mm_frame_span *span)
{
    uint64_t slot = span->first - span->bias;
    uint64_t whole_first = (slot + MMI_LINE_FRAMES - 1) / MMI_LINE_FRAMES;
    uint64_t whole_end = (slot + span->nr) / MMI_LINE_FRAMES;

    set_lines(f, MMI_CALM, span->first_line, span->first_line + span->nr_lines);
    if (span->later != 0) {
        set_lines(f, MMI_ABSENT, span->first_line, span->first_line + span->nr_lines);
        f->flags |= MMI_FRAMES_ABSENT;
        return;
    }
    if (whole_first >= whole_end) {
        fill_lines(f, slot, span->nr);
        return;
    }
    fill_lines(f, slot, whole_first * MMI_LINE_FRAMES - slot);
    fill_lines(f, whole_end * MMI_LINE_FRAMES, slot + span->nr - whole_end * MMI_LINE_FRAMES);
    set_bits(f->closed, whole_first * MMI_LINE_ROWS, (whole_end - whole_first) * MMI_LINE_ROWS);
    set_lines(f, MMI_WHOLE, whole_first, whole_end);
}

/* The tops, from the words below them; the line of frame 0 may have a group of its own. */
static void fill_tops(struct mm_frames *f)
{
    for (uint64_t group = 0; group * MMI_GROUP_LINES <= f->nr_lines; group++) {
        const uint64_t *words = &f->groups[group * MMI_GROUP_WORDS];
        uint64_t mask = UINT64_C(1) << (group % 64);

        *mmi_top(f, MMI_TOP_HAS_FREE, group) |= words[MMI_HAS_FREE] != 0 ? mask : 0;
        *mmi_top(f, MMI_TOP_WHOLE, group) |= words[MMI_WHOLE] != 0 ? mask : 0;
    }
}

/* Lines of a span belong to the area before if node and zone are the same, else to new ones. */
static void add_areas(struct mm_frames *f, const struct mm_frame_span *span)
{
    struct mmi_frame_area *areas = (struct mmi_frame_area *)f->areas;
    uint64_t base = mm_align_down(span->first, MMI_LINE_FRAMES);

    for (uint64_t i = 0; i < span->nr_lines; i++) {
        uint64_t line = span->first_line + i;
        uint32_t zone = mmi_zone_of(base + i * MMI_LINE_FRAMES);
        uint64_t last =
            zone == MM_ZONE_NORMAL
                ? span->nr_lines
                : ((zone == MM_ZONE_DMA ? MMI_PFN_16M : MMI_PFN_4G) - base) / MMI_LINE_FRAMES;
        struct mmi_frame_area *before = f->nr_areas == 0 ? NULL : &areas[f->nr_areas - 1];

        last = last < span->nr_lines ? last : span->nr_lines;
        if (before != NULL && before->node == span->node && before->zone == zone) {
            before->end_line = span->first_line + last;
        } else {
            /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): init has looked at the metadata */
            areas[f->nr_areas++] = (struct mmi_frame_area){
                .first_line = line,
                .end_line = span->first_line + last,
                .node = span->node,
                .zone = zone,
            };
        }
        i = last - 1;
    }
}

static void add_span(struct mm_frames *f, struct mm_frame_span *at, struct mm_frame_span span)
{
    uint64_t base = mm_align_down(span.first, MMI_LINE_FRAMES);

    span.first_line = f->nr_lines;
    if (span.first == 0) {
        span.bias = 0; /* its line is known at the end */
    } else {
        span.bias = base - span.first_line * MMI_LINE_FRAMES;
        f->nr_lines += span.nr_lines;
        add_areas(f, &span);
    }
    if (span.nr > f->main_nr && span.first != 0) {
        f->main_first = span.first;
        f->main_nr = span.nr;
        f->main_bias = span.bias;
    }
    *at = span;
    f->nr_frames += span.nr;
    f->nr_spans++;
}

static void fill(struct mm_frames *f, const struct mm_frames_config *config)
{
    struct mm_frame_span *spans = (struct mm_frame_span *)f->spans;
    struct mmi_survey s = {.config = config};
    struct mm_frame_span span;

    while (mmi_next_span(&s, &span)) {
        add_span(f, &spans[f->nr_spans], span);
    }
    if (spans[0].first == 0) {
        spans[0].first_line = f->nr_lines;
        spans[0].nr_lines = 1;
        spans[0].bias = 0 - f->nr_lines * MMI_LINE_FRAMES;
    }
    for (uint32_t i = 0; i < f->nr_spans; i++) {
        fill_span(f, &spans[i]);
    }
    /* The bias may be negative, and is a multiple of a row. */
    f->main_rows = (uint64_t)(uintptr_t)f->rows -
                   (uint64_t)((int64_t)f->main_bias / (int64_t)MMI_ROW_FRAMES) * sizeof(uint64_t);
    fill_tops(f);
}

static void place_arrays(struct mm_frames *f, const struct mmi_layout *l, void *metadata)
{
    uint8_t *base = metadata;
    struct mmi_frame_cpu *cpus = (void *)(base + l->cpus);

    f->spans = metadata;
    f->cpus = cpus;
    f->areas = (void *)(base + l->areas);
    f->order = (void *)(base + l->order);
    f->zones = (void *)(base + l->zones);
    f->rows = (void *)(base + l->rows);
    f->closed = (void *)(base + l->closed);
    f->groups = (void *)(base + l->groups);
    f->tops = (void *)(base + l->tops);
    f->poisoned = (f->flags & MM_FRAMES_POISON) != 0 ? (void *)(base + l->poisoned) : NULL;
    f->tags = (f->flags & MM_FRAMES_OWNERS) != 0 ? (void *)(base + l->tags) : NULL;
    f->refs = (f->flags & MM_FRAMES_REFCOUNTS) != 0 ? (void *)(base + l->refs) : NULL;
    f->top_words = l->top_words;
    f->metadata_len = l->len;
    f->state_len = l->state_len;
    f->nr_nodes = (uint32_t)l->nr_nodes;
}

static void place_cpus(struct mm_frames *f, const struct mm_frames_config *config)
{
    struct mmi_frame_cpu *cpus = f->cpus;

    for (uint32_t i = 0; i < f->nr_cpus; i++) {
        for (unsigned j = 0; j < MMI_NR_HINTS; j++) {
            cpus[i].hints[j] = mmi_hint_at(0, mmi_nowhere_line(f) * MMI_LINE_ROWS);
        }
        cpus[i].line = cpus[i].hints[0];
        cpus[i].node = config->cpu_nodes == NULL ? 0 : config->cpu_nodes[i];
        cpus[i].turn = 63; /* after the highest node comes the lowest */
    }
}

/* --- nodes ------------------------------------------------------------------------------------ */

/* All nodes from near to far, seen from one of them. */
static void order_nodes(const struct mm_frames *f, const struct mm_numa *numa, uint32_t from,
                        uint8_t nodes[MM_MAX_NODES])
{
    for (uint32_t node = 0; node < f->nr_nodes; node++) {
        uint32_t to = node == from ? 0 : mm_numa_distance(numa, from, node);
        uint32_t at = node;

        for (; at > 0; at--) {
            uint32_t before = nodes[at - 1];

            if ((before == from ? 0 : mm_numa_distance(numa, from, before)) <= to) {
                break;
            }
            nodes[at] = nodes[at - 1];
        }
        nodes[at] = (uint8_t)node;
    }
}

/* Each area goes behind those of nearer nodes, and of its own those that lie higher; areas below
 * 16 MiB go behind all others. */
static void order_areas_of(struct mm_frames *f, const uint8_t nodes[MM_MAX_NODES], uint16_t *order)
{
    uint16_t next[2][MM_MAX_NODES] = {{0}};
    uint32_t place = 0;

    for (uint32_t i = 0; i < f->nr_areas; i++) {
        next[f->areas[i].zone == MM_ZONE_DMA ? 1 : 0][f->areas[i].node]++;
    }
    for (unsigned low = 0; low < 2; low++) {
        for (uint32_t i = 0; i < f->nr_nodes; i++) {
            uint16_t nr = next[low][nodes[i]];

            next[low][nodes[i]] = (uint16_t)place;
            place += nr;
        }
    }
    for (uint32_t i = f->nr_areas; i-- > 0;) {
        order[next[f->areas[i].zone == MM_ZONE_DMA ? 1 : 0][f->areas[i].node]++] = (uint16_t)i;
    }
}

MMI_NOINLINE static void order_areas(struct mm_frames *f, const struct mm_numa *numa)
{
    uint16_t *order = (uint16_t *)f->order;
    uint8_t nodes[MM_MAX_NODES];

    for (uint32_t node = 0; node < f->nr_nodes; node++) {
        order_nodes(f, numa, node, nodes);
        order_areas_of(f, nodes, order);
        order += f->nr_areas;
    }
}

static void fill_zones(struct mm_frames *f)
{
    for (uint32_t i = 0; i < f->nr_spans; i++) {
        const struct mm_frame_span *span = &f->spans[i];
        uint64_t end = span->first + span->nr;

        for (uint64_t at = span->first; at < end;) {
            uint32_t zone = mmi_zone_of(at);
            uint64_t to = zone == MM_ZONE_DMA     ? MMI_PFN_16M
                          : zone == MM_ZONE_DMA32 ? MMI_PFN_4G
                                                  : end;

            to = to < end ? to : end;
            mmi_zone(f, span->node, zone)->nr_frames += to - at;
            at = to;
        }
    }
}

/* --- what is withheld ------------------------------------------------------------------------- */

/* Withhold lines of an area, from the lowest on, until they hold `nr` free frames; how many of those
 * are left to be withheld. */
static uint64_t withhold_in(struct mm_frames *f, const struct mmi_frame_area *area,
                            enum mmi_word word, uint64_t nr)
{
    for (uint64_t line = area->first_line; nr != 0 && line < area->end_line; line++) {
        uint64_t has = mmi_line_count(f, line);

        if (has != 0 && !mmi_line_bit(f, line, MMI_RESERVE)) {
            *mmi_word(f, line, word) |= mmi_line_mask(line);
            f->nr_withheld += has;
            nr -= has < nr ? has : nr;
        }
    }
    return nr;
}

/* Withhold so many frames where a CPU of node 0 would take them last; but not below 16 MiB, which
 * is for devices, as long as there is anything else. */
static void withhold(struct mm_frames *f, enum mmi_word word, uint64_t nr)
{
    for (unsigned dma = 0; dma <= 1; dma++) {
        for (uint32_t i = f->nr_areas; nr != 0 && i-- > 0;) {
            const struct mmi_frame_area *area = &f->areas[f->order[i]];

            if ((area->zone == MM_ZONE_DMA) == (dma == 1)) {
                nr = withhold_in(f, area, word, nr);
            }
        }
    }
}

/* What only some may have, and that something is left for everybody. */
static mm_status_t withhold_all(struct mm_frames *f, const struct mm_frames_config *config,
                                const struct mmi_layout *l)
{
    uint64_t nr_zero = f->spans[0].first == 0 && f->spans[0].later == 0 ? 1 : 0;

    withhold(f, MMI_RESERVE, config->nr_reserve);
    withhold(f, MMI_KERNEL, config->nr_kernel);
    return f->nr_withheld == 0 || f->nr_withheld + nr_zero < l->nr_usable ? MM_OK
                                                                          : MM_ERR_INVALID_SIZE;
}

/* The most that this can come to, wherever lines begin and end: it is known before the map is
 * touched. */
static uint64_t withheld_at_most(const struct mm_frames_config *config)
{
    return (config->nr_reserve == 0 ? 0 : config->nr_reserve + MMI_LINE_FRAMES - 1) +
           (config->nr_kernel == 0 ? 0 : config->nr_kernel + MMI_LINE_FRAMES - 1);
}

/* A look at both ends of each array: memory that was never zeroed does not pass. */
static bool looks_zeroed(const struct mmi_layout *l, const void *metadata)
{
    const uint64_t ends[] = {l->cpus,   l->areas, l->order,    l->zones, l->rows, l->closed,
                             l->groups, l->tops,  l->poisoned, l->refs,  l->tags, l->len};
    const uint64_t *words = metadata;
    uint64_t found = words[0];

    for (unsigned i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        found |= words[ends[i] / 8 - 1] | (ends[i] < l->len ? words[ends[i] / 8] : 0);
    }
    return found == 0;
}

/* --- init and destroy ------------------------------------------------------------------------- */

static bool physmap_usable(const struct mm_physmap *physmap)
{
    return mm_range_fits(physmap->first.raw, physmap->len) &&
           (physmap->ops == NULL || (physmap->ops->map != NULL && physmap->ops->unmap != NULL));
}

static mm_status_t check_config(const struct mm_frames *frames,
                                const struct mm_frames_config *config, struct mmi_layout *l)
{
    mm_status_t status;

    if (frames == NULL || config == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (frames->magic == MMI_FRAME_MAGIC) {
        return MM_ERR_ALREADY_INITIALIZED;
    }
    if ((config->physmap != NULL && !physmap_usable(config->physmap)) ||
        (config->physmap == NULL &&
         (config->flags & (MM_FRAMES_POISON | MM_FRAMES_KNOWN_ZERO)) != 0)) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    status = mmi_plan(config, l);
    if (status == MM_OK && (config->nr_reserve >= l->nr_usable ||
                            config->nr_kernel >= l->nr_usable - config->nr_reserve)) {
        return MM_ERR_INVALID_SIZE;
    }
    return status;
}

/* The configuration is right, and its metadata is zeroed; on error both are zeroed again. */
static mm_status_t bring_up(struct mm_frames *frames, const struct mm_frames_config *config,
                            const struct mmi_layout *l)
{
    mm_status_t status;

    /* In place: a whole struct mm_frames is too much for a kernel's stack. */
    memset(frames, 0, sizeof(*frames));
    frames->nr_cpus = config->nr_cpus;
    frames->flags = config->flags;
    frames->platform = config->platform;
    place_arrays(frames, l, config->metadata);
    fill(frames, config);
    place_cpus(frames, config);
    order_areas(frames, config->numa);
    fill_zones(frames);
    status = withhold_all(frames, config, l);
    if (status != MM_OK) {
        memset(config->metadata, 0, (size_t)l->state_len);
        memset(frames, 0, sizeof(*frames));
        return status;
    }
    if (config->physmap != NULL) {
        frames->has_physmap = 1;
        frames->physmap = *config->physmap;
        frames->physmap_reaches = frames->physmap.ops == NULL && frames->physmap.len != 0 &&
                                          !mmi_physmap_reaches(&frames->physmap, frames)
                                      ? 0
                                      : 1;
    }
    if (config->ops != NULL) {
        frames->ops = *config->ops;
        frames->ops_ctx = config->ops_ctx;
    }
    frames->magic = MMI_FRAME_MAGIC;
    return MM_OK;
}

mm_status_t mm_frame_init(struct mm_frames *frames, const struct mm_frames_config *config)
{
    struct mmi_layout l;
    mm_status_t status = check_config(frames, config, &l);

    if (status != MM_OK) {
        return status;
    }
    if (config->metadata == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (!mm_is_aligned((uint64_t)(uintptr_t)config->metadata, MM_CACHE_LINE)) {
        return MM_ERR_NOT_ALIGNED;
    }
    if (config->metadata_len < l.len) {
        return MM_ERR_INVALID_SIZE;
    }
    if (!looks_zeroed(&l, config->metadata)) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    return bring_up(frames, config, &l);
}

mm_status_t mm_frame_init_from_map(struct mm_frames *frames, const struct mm_frames_config *config,
                                   struct mm_prange mapped)
{
    struct mm_frames_config carved;
    struct mm_prange at;
    struct mmi_layout l;
    mm_status_t status = check_config(frames, config, &l);

    if (status != MM_OK) {
        return status;
    }
    if (config->metadata != NULL || config->metadata_len != 0 || config->physmap == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (config->physmap->ops != NULL) {
        return MM_ERR_UNSUPPORTED;
    }
    if (!mm_is_aligned(config->physmap->base, MM_CACHE_LINE)) {
        return MM_ERR_NOT_ALIGNED;
    }
    if (!mm_prange_valid(mapped)) {
        return MM_ERR_INVALID_SIZE;
    }
    /* Taking may cut one range in two, and then both parts may have frames of one line. */
    l.nr_spans++;
    l.nr_lines++;
    l.nr_areas++;
    mmi_lay_out(&l, config->nr_cpus, config->flags);
    /* All that can fail is looked at before the map is touched. */
    if (l.nr_ranges + 1 > MM_FRAME_MAX_SPANS || l.nr_spans > MM_FRAME_MAX_SPANS + 1) {
        return MM_ERR_LIMIT;
    }
    /* Two more: the metadata is rounded up to frames, and frame 0 is nobody's. */
    if (withheld_at_most(config) != 0 &&
        withheld_at_most(config) + (l.len >> MM_PAGE_SHIFT) + 2 >= l.nr_usable) {
        return MM_ERR_INVALID_SIZE;
    }
    if (!mmi_physmap_reachable(config->physmap, mapped, &mapped) ||
        (l.nr_usable << MM_PAGE_SHIFT) <= l.len + MM_PAGE_MASK) {
        return MM_ERR_NO_MEMORY;
    }
    status = mm_bootmap_take(config->map, l.len, MM_PAGE_SIZE, mapped, &at);
    if (status != MM_OK) {
        return status;
    }
    carved = *config;
    carved.metadata = mm_physmap_ptr(config->physmap, at.start);
    carved.metadata_len = at.len;
    memset(carved.metadata, 0, (size_t)at.len);
    status = mm_frame_init(frames, &carved);
    if (status == MM_OK) {
        frames->carved = at;
    }
    return status;
}

mm_status_t mm_frame_destroy(struct mm_frames *frames)
{
    if (frames == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (frames->magic != MMI_FRAME_MAGIC) {
        return MM_ERR_NOT_INITIALIZED;
    }
    memset(frames, 0, sizeof(*frames));
    return MM_OK;
}

mm_status_t mm_frame_destroy_to_map(struct mm_frames *frames, struct mm_bootmap *map)
{
    mm_status_t status;

    if (frames == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (frames->magic != MMI_FRAME_MAGIC) {
        return MM_ERR_NOT_INITIALIZED;
    }
    if (frames->carved.len == 0) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    status = mm_bootmap_give(map, frames->carved);
    return status == MM_OK ? mm_frame_destroy(frames) : status;
}
