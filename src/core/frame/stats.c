// SPDX-License-Identifier: MIT
/**
 * Figures: of all memory, of a node, of a zone. All is counted when it is asked for.
 */
#include "state.h"

/* What is asked for. */
struct scope {
    uint32_t node;
    uint32_t zone;
};

static bool in_scope(const struct scope *scope, const struct mmi_frame_area *area)
{
    return (scope->node == MM_NODE_ALL || scope->node == area->node) &&
           (scope->zone == MM_ZONE_ALL || scope->zone == area->zone);
}

static void count_owners(const struct mm_frames *f, uint64_t row, uint64_t used,
                         struct mm_frame_stats *out)
{
    for (; used != 0; used &= used - 1) {
        uint32_t owner = mmi_owner_of(mmi_load(&f->tags[row * MMI_ROW_FRAMES + mmi_ctz(used)]));

        out->nr_by_owner[owner < MM_OWNER_COUNT ? owner : MM_OWNER_NONE]++;
    }
}

static void count_line(const struct mm_frames *f, const struct mm_frame_span *span, uint64_t line,
                       struct mm_frame_stats *out)
{
    bool withheld = mmi_line_bit(f, line, MMI_RESERVE) || mmi_line_bit(f, line, MMI_KERNEL);
    bool absent = mmi_line_bit(f, line, MMI_ABSENT);
    bool whole = true;

    for (unsigned i = 0; i < MMI_LINE_ROWS; i++) {
        uint64_t row = line * MMI_LINE_ROWS + i;
        uint64_t has = mmi_row_of_span(span, row);
        uint64_t is_free = mmi_row_free(f, row) & has;

        if (absent) {
            out->nr_absent += mmi_popcount(has);
            continue;
        }
        out->nr_frames += mmi_popcount(has);
        out->nr_free += mmi_popcount(is_free);
        out->nr_withheld += withheld ? mmi_popcount(is_free) : 0;
        whole = whole && is_free == UINT64_MAX;
        if (f->tags != NULL) {
            count_owners(f, row, has & ~is_free, out);
        }
    }
    out->nr_free_2m += whole && !absent ? 1 : 0;
}

uint64_t mmi_raise_peak(uint64_t *peak, uint64_t now)
{
    uint64_t old = mmi_load(peak);

    while (old < now && !mmi_cas(peak, &old, now)) {
    }
    return old < now ? now : old;
}

/* Frames of [low, end) that lie in a span, of whatever node and zone, present or absent. */
static uint64_t spanned(const struct mm_frames *f, uint64_t low, uint64_t end)
{
    uint64_t nr = 0;

    for (uint32_t i = 0; i < f->nr_spans; i++) {
        const struct mm_frame_span *span = &f->spans[i];
        uint64_t from = span->first > low ? span->first : low;
        uint64_t to = span->first + span->nr < end ? span->first + span->nr : end;

        nr += from < to ? to - from : 0;
    }
    return nr;
}

static void count(const struct mm_frames *f, const struct scope *scope, struct mm_frame_stats *out)
{
    uint64_t lowest = UINT64_MAX;
    uint64_t end = 0;

    for (uint32_t i = 0; i < f->nr_spans; i++) {
        const struct mm_frame_span *span = &f->spans[i];
        struct mmi_frame_area low = {.node = span->node, .zone = MM_ZONE_DMA};

        for (uint64_t n = 0; n < span->nr_lines; n++) {
            uint64_t line = span->first_line + n;

            /* Frame 0 is in no area: it lies below 16 MiB. */
            if (in_scope(scope, span->first == 0 ? &low : mmi_area_of_line(f, line))) {
                uint64_t first = mmi_line_first(span, line);

                count_line(f, span, line, out);
                lowest = first < lowest ? first : lowest;
                end = mmi_line_end(span, line);
            }
        }
    }
    out->nr_allocated = out->nr_frames - out->nr_free;
    out->nr_reserved = end < lowest ? 0 : end - lowest - spanned(f, lowest, end) + out->nr_absent;
}

static void count_all(const struct mm_frames *f, struct mm_frame_stats *out)
{
    const struct mm_frame_span *spans = f->spans;

    for (unsigned i = 0; i < MM_FAILED_COUNT; i++) {
        out->nr_failed_by[i] = mmi_load(&f->nr_failed_by[i]);
        out->nr_failed += out->nr_failed_by[i];
    }
    out->metadata_bytes = f->metadata_len;
    out->state_bytes = f->state_len;
    out->nr_cpus = f->nr_cpus;
    out->nr_nodes = f->nr_nodes;
    out->nr_spans = f->nr_spans;
    for (uint32_t i = 1; i < f->nr_spans; i++) {
        /* Cut off from the one before: frame 0, or another node's. */
        out->nr_spans -= spans[i].later == spans[i - 1].later &&
                                 spans[i].first == spans[i - 1].first + spans[i - 1].nr
                             ? 1
                             : 0;
    }
}

static mm_status_t live(const struct mm_frames *f, const struct mm_frame_stats *out)
{
    if (f == NULL || out == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    return f->magic == MMI_FRAME_MAGIC ? MM_OK : MM_ERR_NOT_INITIALIZED;
}

mm_status_t mm_frame_get_stats(const struct mm_frames *frames, struct mm_frame_stats *out)
{
    return mm_frame_get_stats_of(frames, MM_NODE_ALL, MM_ZONE_ALL, out);
}

mm_status_t mm_frame_get_stats_of(const struct mm_frames *frames, uint32_t node, uint32_t zone,
                                  struct mm_frame_stats *out)
{
    mm_status_t status = live(frames, out);
    struct scope scope = {node, zone};

    if (status != MM_OK) {
        return status;
    }
    if (zone != MM_ZONE_ALL && zone >= MM_ZONE_COUNT) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (node != MM_NODE_ALL && node >= frames->nr_nodes) {
        return MM_ERR_NODE_NOT_FOUND;
    }
    *out = (struct mm_frame_stats){0};
    count(frames, &scope, out);
    count_all(frames, out);
    out->nr_peak = mmi_raise_peak(&mmi_zone(frames, node, zone)->nr_peak, out->nr_allocated);
    return MM_OK;
}
