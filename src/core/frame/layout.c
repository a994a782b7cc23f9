// SPDX-License-Identifier: MIT
/**
 * From a boot map to the layout of the metadata.
 *
 *     | spans | CPUs | areas | orders | zones | rows | closed | groups | tops | poisoned | refs | owners |
 *     `- allocation state: 0.14 bytes a frame -----------------------'
 *
 * Metadata is in proportion to the memory that is there: a hole costs nothing, a range costs what
 * its lines cost. Frame 0 gets a line of its own behind those that are searched, so that it can be
 * asked for, freed and counted like any other, and no search ever finds it.
 */
#include "layout.h"

uint32_t mmi_zone_of(uint64_t pfn)
{
    return pfn < MMI_PFN_16M ? MM_ZONE_DMA : pfn < MMI_PFN_4G ? MM_ZONE_DMA32 : MM_ZONE_NORMAL;
}

/* The next range of any kind that counts. */
static bool next_range(struct mmi_survey *s)
{
    struct mm_bootmap *map = s->config->map;
    struct mm_prange best = {0};
    bool found = false;

    for (uint32_t kind = 0; kind < MM_BOOT_KIND_COUNT; kind++) {
        struct mm_prange range;

        if ((kind == MM_BOOT_USABLE || (s->config->later_kinds & MM_BOOT_BIT(kind)) != 0) &&
            mm_bootmap_next(map, (enum mm_boot_kind)kind, s->at, &range) == MM_OK &&
            (!found || range.start.raw < best.start.raw)) {
            best = range;
            s->later = kind != MM_BOOT_USABLE ? 1 : 0;
            found = true;
        }
    }
    if (found) {
        s->range = best;
        s->at = mm_paddr(best.start.raw + best.len);
        s->nr_ranges++;
    }
    return found;
}

/* The node of an address, and how many of `len` bytes from there on lie in the same. */
static uint32_t node_at(const struct mm_numa *numa, uint64_t address, uint64_t *len)
{
    struct mm_numa_range range;

    if (numa != NULL && mm_numa_next_range(numa, mm_paddr(address), &range) == MM_OK) {
        *len = range.range.len < *len ? range.range.len : *len;
    }
    return numa == NULL ? 0 : mm_numa_node_near(numa, mm_paddr(address));
}

/* The next piece, as a span without a place. */
bool mmi_next_span(struct mmi_survey *s, struct mm_frame_span *out)
{
    uint64_t first;
    uint64_t nr;
    uint64_t base;
    uint64_t len;

    if (s->range.len == 0 && !next_range(s)) {
        return false;
    }
    first = s->range.start.raw >> MM_PAGE_SHIFT;
    len = first == 0 ? MM_PAGE_SIZE : s->range.len;
    *out = (struct mm_frame_span){.first = first, .later = s->later};
    out->node = node_at(s->config->numa, s->range.start.raw, &len);
    /* Ranges of one node that differ in their flags, and holes beside it, part no memory. */
    while (first != 0 && len < s->range.len) {
        uint64_t more = s->range.len - len;

        if (node_at(s->config->numa, s->range.start.raw + len, &more) != out->node) {
            break;
        }
        len += more;
    }
    /* A frame that two nodes share belongs to that of its first byte. */
    nr = (len + MM_PAGE_MASK) >> MM_PAGE_SHIFT;
    out->nr = nr;
    base = mm_align_down(first, MMI_LINE_FRAMES);
    out->nr_lines = first == 0 ? 0 : (first + nr - base + MMI_LINE_FRAMES - 1) / MMI_LINE_FRAMES;
    s->range.start.raw += nr << MM_PAGE_SHIFT;
    s->range.len -= nr << MM_PAGE_SHIFT;
    return true;
}

static uint64_t place(uint64_t *end, uint64_t bytes)
{
    uint64_t at = *end;

    *end = mm_align_down(at + bytes + MM_CACHE_LINE - 1, MM_CACHE_LINE);
    return at;
}

void mmi_lay_out(struct mmi_layout *l, uint32_t nr_cpus, uint32_t flags)
{
    uint64_t lines = l->nr_lines + 2; /* frame 0, and nowhere */
    uint64_t groups = (lines + MMI_GROUP_LINES - 1) / MMI_GROUP_LINES;
    uint64_t end = 0;

    l->top_words = (groups + 63) / 64;
    (void)place(&end, l->nr_spans * sizeof(struct mm_frame_span));
    l->cpus = place(&end, nr_cpus * sizeof(struct mmi_frame_cpu));
    l->areas = place(&end, l->nr_areas * sizeof(struct mmi_frame_area));
    l->order = place(&end, l->nr_nodes * l->nr_areas * sizeof(uint16_t));
    l->zones = place(&end, (l->nr_nodes + 1) * (MM_ZONE_COUNT + 1) * sizeof(struct mmi_frame_zone));
    l->rows = place(&end, lines * MMI_LINE_ROWS * sizeof(uint64_t));
    l->closed = place(&end, (lines + 7) / 8 * sizeof(uint64_t));
    l->groups = place(&end, groups * MMI_GROUP_WORDS * sizeof(uint64_t));
    l->tops = place(&end, l->top_words * MMI_NR_TOPS * sizeof(uint64_t));
    l->state_len = end;
    l->poisoned = end;
    if ((flags & MM_FRAMES_POISON) != 0) {
        (void)place(&end, lines * MMI_LINE_ROWS * sizeof(uint64_t));
    }
    l->refs = end;
    if ((flags & MM_FRAMES_REFCOUNTS) != 0) {
        (void)place(&end, lines * MMI_LINE_FRAMES * sizeof(uint32_t));
    }
    l->tags = end;
    if ((flags & MM_FRAMES_OWNERS) != 0) {
        (void)place(&end, lines * MMI_LINE_FRAMES * sizeof(uint64_t));
    }
    l->len = end;
}

/* Count what the map holds. */
static mm_status_t survey(const struct mm_frames_config *config, struct mmi_layout *l)
{
    mm_status_t status = mm_bootmap_normalize(config->map);
    struct mmi_survey s = {.config = config};
    struct mm_frame_span span;
    uint32_t last_node = UINT32_MAX;
    uint32_t last_zone = UINT32_MAX;

    *l = (struct mmi_layout){.nr_nodes = config->numa == NULL ? 1 : config->numa->nr_nodes};
    if (status != MM_OK) {
        return status;
    }
    if (l->nr_nodes == 0) {
        return MM_ERR_NOT_INITIALIZED;
    }
    while (mmi_next_span(&s, &span)) {
        uint64_t last = span.first + span.nr - 1;

        l->nr_spans++;
        l->nr_lines += span.nr_lines;
        l->nr_frames += span.nr;
        l->nr_usable += span.later != 0 ? 0 : span.nr;
        if (span.first != 0) {
            bool same = span.node == last_node && mmi_zone_of(span.first) == last_zone;

            l->nr_areas += mmi_zone_of(last) - mmi_zone_of(span.first) + (same ? 0 : 1);
            last_node = span.node;
            last_zone = mmi_zone_of(last);
        }
    }
    l->nr_ranges = s.nr_ranges;
    if (l->nr_usable == 0) {
        return MM_ERR_NO_MEMORY;
    }
    return l->nr_spans > MM_FRAME_MAX_SPANS + 1 || l->nr_ranges > MM_FRAME_MAX_SPANS ? MM_ERR_LIMIT
                                                                                     : MM_OK;
}

mm_status_t mmi_plan(const struct mm_frames_config *config, struct mmi_layout *l)
{
    mm_status_t status;

    if (config->map == NULL || config->nr_cpus == 0 || config->nr_cpus > MM_MAX_CPUS ||
        (config->later_kinds >> MM_BOOT_KIND_COUNT) != 0 ||
        (config->later_kinds & (MM_BOOT_BIT(MM_BOOT_USABLE) | MM_BOOT_BIT(MM_BOOT_METADATA))) !=
            0) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if ((config->flags & ~MM_FRAMES_FLAGS_ALL) != 0) {
        return MM_ERR_INVALID_FLAGS;
    }
    status = survey(config, l);
    for (uint32_t i = 0; status == MM_OK && config->cpu_nodes != NULL && i < config->nr_cpus; i++) {
        status = config->cpu_nodes[i] < l->nr_nodes ? MM_OK : MM_ERR_INVALID_ARGUMENT;
    }
    if (status == MM_OK) {
        mmi_lay_out(l, config->nr_cpus, config->flags);
    }
    return status;
}

mm_status_t mm_frame_metadata_size(const struct mm_frames_config *config, uint64_t *out)
{
    struct mmi_layout l;
    mm_status_t status;

    if (config == NULL || out == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    status = mmi_plan(config, &l);
    if (status == MM_OK) {
        *out = l.len;
    }
    return status;
}
