// SPDX-License-Identifier: MIT
/**
 * From a boot map to an allocator: spans, the layout of the metadata, the first state of all bits.
 *
 *     | spans | CPUs' hints | rows | has_free | has_line | whole | reserved | owners | refs |
 *     `- allocation state: 0.13 bytes a frame -------------------------------'
 *
 * Metadata is in proportion to the memory that is there: a hole costs nothing, a range costs what
 * its lines cost. Frame 0 gets a line of its own behind those that are searched, so that it can be
 * asked for, freed and counted like any other, and no search ever finds it.
 */
#include "state.h"

#include "core/base/mem.h"

/* First frames of the zones, which are used from the last to the first. */
#define PFN_16M (UINT64_C(16) << (20 - MM_PAGE_SHIFT))
#define PFN_4G  (UINT64_C(4) << (30 - MM_PAGE_SHIFT))

/* --- the layout ------------------------------------------------------------------------------- */

struct layout {
    uint64_t nr_ranges; /* usable ranges of the map */
    uint64_t nr_spans;  /* the same, with one more if frame 0 was cut off from a longer range */
    uint64_t nr_lines;
    uint64_t nr_frames;
    uint64_t cpus, rows, has_free, has_line, whole, reserved, owners, refs; /* offsets */
    uint64_t state_len;
    uint64_t len;
};

/* A range of the map as one span, or two: frame 0 apart. */
static unsigned split_range(struct mm_prange range, struct mm_frame_span out[2])
{
    uint64_t first = range.start.raw >> MM_PAGE_SHIFT;
    uint64_t nr = range.len >> MM_PAGE_SHIFT;
    unsigned n = 0;

    if (first == 0) {
        out[n++] = (struct mm_frame_span){.nr = 1};
        first++;
        nr--;
    }
    if (nr != 0) {
        uint64_t base = mm_align_down(first, MMI_LINE_FRAMES);

        out[n++] = (struct mm_frame_span){
            .first = first,
            .nr = nr,
            .nr_lines = (first + nr - base + MMI_LINE_FRAMES - 1) / MMI_LINE_FRAMES,
        };
    }
    return n;
}

static uint64_t place(uint64_t *end, uint64_t bytes)
{
    uint64_t at = *end;

    *end = mm_align_down(at + bytes + MM_CACHE_LINE - 1, MM_CACHE_LINE);
    return at;
}

static void lay_out(struct layout *l, uint32_t nr_cpus, uint32_t flags)
{
    uint64_t lines = l->nr_lines + 1; /* frame 0 */
    uint64_t words = (lines + 63) / 64;
    uint64_t end = 0;

    (void)place(&end, l->nr_spans * sizeof(struct mm_frame_span));
    l->cpus = place(&end, nr_cpus * sizeof(struct mmi_frame_cpu));
    l->rows = place(&end, (lines + 1) * MMI_LINE_ROWS * sizeof(uint64_t)); /* and nowhere */
    l->has_free = place(&end, words * sizeof(uint64_t));
    l->has_line = place(&end, (words + 63) / 64 * sizeof(uint64_t));
    l->whole = place(&end, words * sizeof(uint64_t));
    l->reserved = place(&end, words * sizeof(uint64_t));
    l->state_len = end;
    l->owners = end;
    if ((flags & MM_FRAMES_OWNERS) != 0) {
        (void)place(&end, lines * MMI_LINE_FRAMES * sizeof(uint8_t));
    }
    l->refs = end;
    if ((flags & MM_FRAMES_REFCOUNTS) != 0) {
        (void)place(&end, lines * MMI_LINE_FRAMES * sizeof(uint32_t));
    }
    l->len = end;
}

/* Count what the map holds. */
static mm_status_t survey(struct mm_bootmap *map, struct layout *l)
{
    mm_status_t status = mm_bootmap_normalize(map);
    mm_paddr_t at = mm_paddr(0);
    struct mm_prange range;

    *l = (struct layout){0};
    if (status != MM_OK) {
        return status;
    }
    while (mm_bootmap_next(map, MM_BOOT_USABLE, at, &range) == MM_OK) {
        struct mm_frame_span spans[2];
        unsigned n = split_range(range, spans);

        l->nr_ranges++;
        l->nr_spans += n;
        for (unsigned i = 0; i < n; i++) {
            l->nr_lines += spans[i].nr_lines;
            l->nr_frames += spans[i].nr;
        }
        at = mm_paddr(range.start.raw + range.len);
    }
    if (l->nr_frames == 0) {
        return MM_ERR_NO_MEMORY;
    }
    return l->nr_ranges > MM_FRAME_MAX_SPANS ? MM_ERR_LIMIT : MM_OK;
}

static mm_status_t plan(struct mm_bootmap *map, uint32_t nr_cpus, uint32_t flags, struct layout *l)
{
    mm_status_t status;

    if (map == NULL || nr_cpus == 0 || nr_cpus > MM_MAX_CPUS) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if ((flags & ~MM_FRAMES_FLAGS_ALL) != 0) {
        return MM_ERR_INVALID_FLAGS;
    }
    status = survey(map, l);
    if (status == MM_OK) {
        lay_out(l, nr_cpus, flags);
    }
    return status;
}

mm_status_t mm_frame_metadata_size(struct mm_bootmap *map, uint32_t nr_cpus, uint32_t flags,
                                   uint64_t *out)
{
    struct layout l;
    mm_status_t status;

    if (out == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    status = plan(map, nr_cpus, flags, &l);
    if (status == MM_OK) {
        *out = l.len;
    }
    return status;
}

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

/* Frames of a span that lies at its place: all free. */
static void free_span(struct mm_frames *f, const struct mm_frame_span *span)
{
    uint64_t slot = span->first - span->bias;
    uint64_t whole_first = (slot + MMI_LINE_FRAMES - 1) / MMI_LINE_FRAMES;
    uint64_t whole_end = (slot + span->nr) / MMI_LINE_FRAMES;

    set_bits(f->rows, slot, span->nr);
    if (whole_end > whole_first) {
        set_bits(f->whole, whole_first, whole_end - whole_first);
    }
}

static void add_span(struct mm_frames *f, struct mm_frame_span *at, struct mm_frame_span span)
{
    uint64_t base = mm_align_down(span.first, MMI_LINE_FRAMES);
    uint64_t zone_lines[2] = {PFN_16M, PFN_4G};

    span.first_line = f->nr_lines;
    if (span.first == 0) {
        span.bias = 0; /* its line is known at the end */
    } else {
        span.bias = base - span.first_line * MMI_LINE_FRAMES;
        f->nr_lines += span.nr_lines;
    }
    for (unsigned i = 0; i < 2; i++) {
        uint64_t below = zone_lines[i] <= base ? 0 : (zone_lines[i] - base) / MMI_LINE_FRAMES;

        if (below != 0) {
            f->zones[i + 1] = span.first_line + (below < span.nr_lines ? below : span.nr_lines);
        }
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

static void fill(struct mm_frames *f, struct mm_bootmap *map)
{
    struct mm_frame_span *spans = (struct mm_frame_span *)f->spans;
    mm_paddr_t at = mm_paddr(0);
    struct mm_prange range;

    while (mm_bootmap_next(map, MM_BOOT_USABLE, at, &range) == MM_OK) {
        struct mm_frame_span parts[2];
        unsigned n = split_range(range, parts);

        for (unsigned i = 0; i < n; i++) {
            add_span(f, &spans[f->nr_spans], parts[i]);
        }
        at = mm_paddr(range.start.raw + range.len);
    }
    f->zones[3] = f->nr_lines;
    if (spans[0].first == 0) {
        spans[0].first_line = f->nr_lines;
        spans[0].nr_lines = 1;
        spans[0].bias = 0 - f->nr_lines * MMI_LINE_FRAMES;
        set_bits(f->has_free, f->nr_lines, 1);
    }
    for (uint32_t i = 0; i < f->nr_spans; i++) {
        free_span(f, &spans[i]);
    }
    /* The bias may be negative, and is a multiple of a row. */
    f->main_rows = (uint64_t)(uintptr_t)f->rows -
                   (uint64_t)((int64_t)f->main_bias / (int64_t)MMI_ROW_FRAMES) * sizeof(uint64_t);
    set_bits(f->has_free, 0, f->nr_lines);
    set_bits(f->has_line, 0, (f->nr_lines + 64) / 64);
}

static void place_arrays(struct mm_frames *f, const struct layout *l, void *metadata)
{
    uint8_t *base = metadata;
    struct mmi_frame_cpu *cpus = (void *)(base + l->cpus);

    f->spans = metadata;
    f->cpus = cpus;
    f->rows = (void *)(base + l->rows);
    f->has_free = (void *)(base + l->has_free);
    f->has_line = (void *)(base + l->has_line);
    f->whole = (void *)(base + l->whole);
    f->reserved = (void *)(base + l->reserved);
    f->owners = (f->flags & MM_FRAMES_OWNERS) != 0 ? base + l->owners : NULL;
    f->refs = (f->flags & MM_FRAMES_REFCOUNTS) != 0 ? (void *)(base + l->refs) : NULL;
    f->metadata_len = l->len;
    f->state_len = l->state_len;
    for (uint32_t i = 0; i < f->nr_cpus; i++) {
        for (unsigned j = 0; j < MMI_NR_HINTS; j++) {
            cpus[i].hints[j] = (l->nr_lines + 1) * MMI_LINE_ROWS; /* nowhere */
        }
    }
}

/* A look at both ends of each array: memory that was never zeroed does not pass. */
static bool looks_zeroed(const struct layout *l, const void *metadata)
{
    const uint64_t ends[] = {l->cpus,     l->rows,   l->has_free, l->has_line, l->whole,
                             l->reserved, l->owners, l->refs,     l->len};
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
                                const struct mm_frames_config *config, struct layout *l)
{
    if (frames == NULL || config == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (frames->magic == MMI_FRAME_MAGIC) {
        return MM_ERR_ALREADY_INITIALIZED;
    }
    if (config->physmap != NULL && !physmap_usable(config->physmap)) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    return plan(config->map, config->nr_cpus, config->flags, l);
}

mm_status_t mm_frame_init(struct mm_frames *frames, const struct mm_frames_config *config)
{
    struct layout l;
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
    /* In place: a whole struct mm_frames is too much for a kernel's stack. */
    memset(frames, 0, sizeof(*frames));
    frames->nr_cpus = config->nr_cpus;
    frames->flags = config->flags;
    frames->platform = config->platform;
    if (config->physmap != NULL) {
        frames->has_physmap = 1;
        frames->physmap = *config->physmap;
    }
    place_arrays(frames, &l, config->metadata);
    fill(frames, config->map);
    frames->magic = MMI_FRAME_MAGIC;
    return MM_OK;
}

mm_status_t mm_frame_init_from_map(struct mm_frames *frames, const struct mm_frames_config *config,
                                   struct mm_prange mapped)
{
    struct mm_frames_config carved;
    struct mm_prange at;
    struct layout l;
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
    lay_out(&l, config->nr_cpus, config->flags);
    /* All that can fail is looked at before the map is touched. */
    if (l.nr_ranges + 1 > MM_FRAME_MAX_SPANS) {
        return MM_ERR_LIMIT;
    }
    if (!mmi_physmap_reachable(config->physmap, mapped, &mapped) ||
        (l.nr_frames << MM_PAGE_SHIFT) <= l.len + MM_PAGE_MASK) {
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
