// SPDX-License-Identifier: MIT
/**
 * Seeing it: how fragmented free memory is, a drawing of it, and the walk over its pieces. All is
 * read from the rows as they are; nothing is kept for it.
 */
#include "layout.h"

static mm_status_t live(const struct mm_frames *f)
{
    if (f == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    return f->magic == MMI_FRAME_MAGIC ? MM_OK : MM_ERR_NOT_INITIALIZED;
}

/* --- fragmentation ---------------------------------------------------------------------------- */

/* What was seen of free memory, in frames. */
struct tally {
    uint64_t nr_free;
    uint64_t nr_in_blocks; /* in free aligned blocks of the order */
};

/*
 * Count a span. No block lies in two: none that does can be had. Absent lines need no look, since
 * none of their frames is free. Each row is read once, so that blocks are never more than what is
 * free, whatever others do meanwhile.
 */
static void tally_span(const struct mm_frames *f, const struct mm_frame_span *span, unsigned order,
                       struct tally *tally)
{
    uint64_t size = UINT64_C(1) << order;
    uint64_t row = span->first_line * MMI_LINE_ROWS;
    uint64_t end = row + span->nr_lines * MMI_LINE_ROWS;
    uint64_t full = 0; /* frames of full rows in the block that is being read */

    for (; row < end; row++) {
        uint64_t is_free = mmi_row_free(f, row);

        tally->nr_free += mmi_popcount(is_free);
        if (size <= MMI_ROW_FRAMES) {
            tally->nr_in_blocks += mmi_popcount(mmi_row_fits(is_free, order)) * size;
            continue;
        }
        if (((row * MMI_ROW_FRAMES + span->bias) & (size - 1)) == 0) {
            full = 0;
        }
        full += is_free == UINT64_MAX ? MMI_ROW_FRAMES : 0;
        if (full == size) {
            tally->nr_in_blocks += size;
            full = 0;
        }
    }
}

mm_status_t mm_frame_fragmentation(const struct mm_frames *frames, uint32_t order, uint32_t *out)
{
    mm_status_t status = live(frames);
    struct tally tally = {0};

    if (status != MM_OK) {
        return status;
    }
    if (out == NULL || order > MM_FRAME_MAX_ORDER) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    for (uint32_t i = 0; i < frames->nr_spans; i++) {
        tally_span(frames, &frames->spans[i], order, &tally);
    }
    *out = tally.nr_free == 0
               ? 0
               : (uint32_t)((tally.nr_free - tally.nr_in_blocks) * 1000 / tally.nr_free);
    return MM_OK;
}

/* --- drawing ---------------------------------------------------------------------------------- */

/* The first span that ends above a frame: nr_spans if there is none. */
static uint32_t span_from(const struct mm_frames *f, uint64_t pfn)
{
    uint32_t low = 0;
    uint32_t high = f->nr_spans;

    while (low < high) {
        uint32_t mid = low + (high - low) / 2;

        if (f->spans[mid].first + f->spans[mid].nr > pfn) {
            high = mid;
        } else {
            low = mid + 1;
        }
    }
    return low;
}

/* Of [from, to), which lies in the span: frames that are present, and free ones. */
static void count_part(const struct mm_frames *f, const struct mm_frame_span *span, uint64_t from,
                       uint64_t to, uint64_t *present, uint64_t *nr_free)
{
    uint64_t slot = from - span->bias;
    uint64_t end = to - span->bias;
    unsigned taken;

    for (; slot < end; slot += taken) {
        uint64_t mask = mmi_row_part(slot, end - slot, &taken);

        if (mmi_slot_present(f, slot)) {
            *present += taken;
            *nr_free += mmi_popcount(mmi_row_free(f, slot / MMI_ROW_FRAMES) & mask);
        }
    }
}

static char character_of(uint64_t present, uint64_t nr_free)
{
    uint64_t tenths;

    if (present == 0) {
        return MM_FRAME_DRAW_ABSENT;
    }
    if (nr_free == 0 || nr_free == present) {
        return nr_free == 0 ? MM_FRAME_DRAW_FULL : MM_FRAME_DRAW_FREE;
    }
    tenths = (present - nr_free) * 10 / present;
    return (char)('0' + (tenths == 0 ? 1 : tenths));
}

mm_status_t mm_frame_draw(const struct mm_frames *frames, mm_pfn_t first, uint32_t order, char *out,
                          size_t len)
{
    mm_status_t status = live(frames);
    uint64_t start = first.raw;
    uint32_t index;

    if (status != MM_OK) {
        return status;
    }
    if (out == NULL || order > MM_FRAME_MAX_ORDER) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if ((start & mmi_mask(0, order)) != 0) {
        return MM_ERR_NOT_ALIGNED;
    }
    if (start > MMI_PFN_END || len > (MMI_PFN_END - start) >> order) {
        return MM_ERR_INVALID_SIZE;
    }
    index = span_from(frames, start);
    for (size_t i = 0; i < len; i++) {
        uint64_t end = start + (UINT64_C(1) << order);
        uint64_t present = 0;
        uint64_t nr_free = 0;

        for (; index < frames->nr_spans && frames->spans[index].first < end; index++) {
            const struct mm_frame_span *span = &frames->spans[index];
            uint64_t span_end = span->first + span->nr;

            count_part(frames, span, span->first > start ? span->first : start,
                       span_end < end ? span_end : end, &present, &nr_free);
            if (span_end > end) {
                break; /* the next block has a part of it too */
            }
        }
        out[i] = character_of(present, nr_free);
        start = end;
    }
    return MM_OK;
}

/* --- pieces ----------------------------------------------------------------------------------- */

mm_status_t mm_frame_next_memory(const struct mm_frames *frames, mm_pfn_t from,
                                 struct mm_prange *out, uint32_t *out_node, enum mm_zone *out_zone)
{
    mm_status_t status = live(frames);
    const struct mm_frame_span *span;
    uint64_t start;
    uint64_t end;
    uint32_t zone;

    if (status != MM_OK) {
        return status;
    }
    span = &frames->spans[span_from(frames, from.raw)];
    if (span == &frames->spans[frames->nr_spans]) {
        return MM_ERR_REGION_NOT_FOUND;
    }
    start = span->first > from.raw ? span->first : from.raw;
    end = span->first + span->nr;
    zone = mmi_zone_of(start);
    /* Spans also end where memory is absent at first, and behind frame 0: no end of a piece. */
    for (const struct mm_frame_span *next = span + 1;
         next < &frames->spans[frames->nr_spans] && next->first == end && next->node == span->node;
         next++) {
        end += next->nr;
    }
    if (zone != mmi_zone_of(end - 1)) {
        end = zone == MM_ZONE_DMA ? MMI_PFN_16M : MMI_PFN_4G;
    }
    if (out != NULL) {
        *out = mm_prange(mm_pfn_addr(mm_pfn(start)), (end - start) << MM_PAGE_SHIFT);
    }
    if (out_node != NULL) {
        *out_node = span->node;
    }
    if (out_zone != NULL) {
        *out_zone = (enum mm_zone)zone;
    }
    return MM_OK;
}
