// SPDX-License-Identifier: MIT
/**
 * Asking: is this frame managed, what are the figures, does the state agree with itself.
 */
#include "state.h"

bool mm_frame_managed(const struct mm_frames *frames, mm_pfn_t frame)
{
    return frames != NULL && mmi_frame_slot(frames, frame.raw) != MMI_NO_SLOT;
}

bool mm_frame_allocated(const struct mm_frames *frames, mm_pfn_t frame)
{
    uint64_t slot = frames == NULL ? MMI_NO_SLOT : mmi_frame_slot(frames, frame.raw);

    return slot != MMI_NO_SLOT && !mmi_bit(frames->rows, slot);
}

static mm_status_t live(const struct mm_frames *f)
{
    if (f == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    return f->magic == MMI_FRAME_MAGIC ? MM_OK : MM_ERR_NOT_INITIALIZED;
}

/* --- statistics ------------------------------------------------------------------------------- */

static void count_owners(const struct mm_frames *f, const struct mm_frame_span *span,
                         struct mm_frame_stats *out)
{
    for (uint64_t i = 0; i < span->nr; i++) {
        uint64_t slot = span->first - span->bias + i;

        if (!mmi_bit(f->rows, slot)) {
            uint8_t owner = mmi_load(&f->owners[slot]);

            out->nr_by_owner[owner < MM_OWNER_COUNT ? owner : MM_OWNER_NONE]++;
        }
    }
}

mm_status_t mm_frame_get_stats(const struct mm_frames *frames, struct mm_frame_stats *out)
{
    mm_status_t status = out == NULL ? MM_ERR_INVALID_ARGUMENT : live(frames);
    const struct mm_frame_span *last;

    if (status != MM_OK) {
        return status;
    }
    last = &frames->spans[frames->nr_spans - 1];
    *out = (struct mm_frame_stats){
        .nr_frames = frames->nr_frames,
        .nr_reserved = last->first + last->nr - frames->spans[0].first - frames->nr_frames,
        .nr_failed = mmi_load(&frames->nr_failed),
        .metadata_bytes = frames->metadata_len,
        .state_bytes = frames->state_len,
        .nr_spans = frames->nr_spans,
        .nr_cpus = frames->nr_cpus,
    };
    if (frames->nr_spans > 1 && frames->spans[0].first == 0 && frames->spans[1].first == 1) {
        out->nr_spans--; /* frame 0 was cut off from this one */
    }
    for (uint64_t line = 0; line <= frames->nr_lines; line++) {
        for (unsigned i = 0; i < MMI_LINE_ROWS; i++) {
            out->nr_free += mmi_popcount(mmi_load(&frames->rows[line * MMI_LINE_ROWS + i]));
        }
        out->nr_free_2m += mmi_line_whole(frames, line) ? 1 : 0;
    }
    out->nr_allocated = out->nr_frames - out->nr_free;
    for (uint32_t i = 0; i < frames->nr_spans && frames->owners != NULL; i++) {
        count_owners(frames, &frames->spans[i], out);
    }
    return MM_OK;
}

/* --- the check -------------------------------------------------------------------------------- */

/* Says what is wrong, if it is, and counts it. */
static void expect(const struct mm_frames *f, bool right, const char *wrong, uint64_t value,
                   uint64_t *nr_wrong)
{
    if (!right) {
        mmi_complain(&f->platform, "frame", wrong, value);
        (*nr_wrong)++;
    }
}

static void check_spans(const struct mm_frames *f, uint64_t *wrong)
{
    uint64_t line = 0;
    uint64_t end = 0;

    for (uint32_t i = 0; i < f->nr_spans; i++) {
        const struct mm_frame_span *span = &f->spans[i];
        uint64_t slot = span->first - span->bias;

        expect(f, span->nr != 0 && (i == 0 || span->first >= end), "spans overlap", span->first,
               wrong);
        expect(f, span->first_line == (span->first == 0 ? f->nr_lines : line),
               "a span has the wrong lines", span->first, wrong);
        expect(f,
               slot / MMI_LINE_FRAMES == span->first_line &&
                   (slot + span->nr - 1) / MMI_LINE_FRAMES == span->first_line + span->nr_lines - 1,
               "a span has frames outside of its lines", span->first, wrong);
        line += span->first == 0 ? 0 : span->nr_lines;
        end = span->first + span->nr;
    }
    expect(f, line == f->nr_lines, "lines without a span", line, wrong);
}

static void check_row_records(const struct mm_frames *f, const struct mm_frame_span *span,
                              uint64_t row, uint64_t *wrong)
{
    uint64_t used = mmi_row_of_span(span, row) & ~mmi_load(&f->rows[row]);

    for (unsigned i = 0; i < MMI_ROW_FRAMES; i++) {
        uint64_t slot = row * MMI_ROW_FRAMES + i;
        uint64_t address = (slot + span->bias) << MM_PAGE_SHIFT;

        if ((used >> i & 1) != 0) {
            expect(f, f->owners == NULL || f->owners[slot] < MM_OWNER_COUNT,
                   "a frame has an owner that does not exist", address, wrong);
            expect(f, f->refs == NULL || f->refs[slot] <= MMI_REFS_IMMORTAL,
                   "a frame has a count beyond all counts", address, wrong);
            continue;
        }
        expect(f, f->refs == NULL || f->refs[slot] == 0, "a free frame has references", address,
               wrong);
        expect(f, f->owners == NULL || f->owners[slot] == MM_OWNER_NONE,
               "a free frame has an owner", address, wrong);
    }
}

static void check_line(const struct mm_frames *f, const struct mm_frame_span *span, uint64_t line,
                       uint64_t *wrong)
{
    uint64_t address = (line * MMI_LINE_FRAMES + span->bias) << MM_PAGE_SHIFT;

    for (unsigned i = 0; i < MMI_LINE_ROWS; i++) {
        uint64_t row = line * MMI_LINE_ROWS + i;

        expect(f, (mmi_load(&f->rows[row]) & ~mmi_row_of_span(span, row)) == 0,
               "a frame is free that is not managed", address, wrong);
        if (f->refs != NULL || f->owners != NULL) {
            check_row_records(f, span, row, wrong);
        }
    }
    expect(f, mmi_line_empty(f, line) || mmi_bit(f->has_free, line),
           "a line has a free frame that the summary does not know", address, wrong);
    expect(f, !mmi_line_whole(f, line) || mmi_bit(f->whole, line),
           "a line is free as a whole and the summary does not know", address, wrong);
}

static void check_summaries(const struct mm_frames *f, uint64_t *wrong)
{
    uint64_t nr_bits = f->nr_lines + 1;

    for (uint64_t word = 0; word < (nr_bits + 63) / 64; word++) {
        unsigned nr = nr_bits - word * 64 < 64 ? (unsigned)(nr_bits - word * 64) : 64;
        uint64_t outside = ~mmi_mask(0, nr);

        expect(f, mmi_load(&f->has_free[word]) == 0 || mmi_bit(f->has_line, word),
               "a summary has lines that the one above does not know", word, wrong);
        expect(f,
               ((mmi_load(&f->has_free[word]) | mmi_load(&f->whole[word]) |
                 mmi_load(&f->reserved[word])) &
                outside) == 0,
               "a summary speaks of lines that do not exist", word, wrong);
    }
    expect(f, (uint32_t)mmi_load(&f->unsettled) == 0, "a correction has not ended",
           mmi_load(&f->unsettled), wrong);
    expect(f, mmi_load(&f->seekers) == 0, "a search has not ended", mmi_load(&f->seekers), wrong);
    expect(f, mmi_line_empty(f, mmi_nowhere_line(f)), "frames are free nowhere", 0, wrong);
}

/* Every mark of a reserved line is owned by one hint. */
static void check_hints(const struct mm_frames *f, uint64_t *wrong)
{
    uint64_t owned = 0;
    uint64_t marked = 0;

    for (uint32_t i = 0; i < f->nr_cpus * MMI_NR_HINTS; i++) {
        const struct mmi_frame_cpu *cpu = (struct mmi_frame_cpu *)f->cpus + i / MMI_NR_HINTS;
        uint64_t hint = mmi_load(&cpu->hints[i % MMI_NR_HINTS]);
        uint64_t line = mmi_hint_row(hint) / MMI_LINE_ROWS;
        const struct mm_frame_span *span = mmi_hint_span(f, hint);

        if (line == mmi_nowhere_line(f)) {
            continue;
        }
        expect(f,
               (uint64_t)(span - f->spans) < f->nr_spans && line < f->nr_lines &&
                   line - span->first_line < span->nr_lines,
               "a hint points outside of memory", hint, wrong);
        if ((hint & MMI_HINT_OWNED) != 0 && line < f->nr_lines) {
            owned++;
            expect(f, mmi_bit(f->reserved, line), "a hint owns a line that is not reserved", hint,
                   wrong);
        }
    }
    for (uint64_t word = 0; word <= f->nr_lines / 64; word++) {
        marked += mmi_popcount(mmi_load(&f->reserved[word]));
    }
    expect(f, owned == marked, "lines are reserved for nobody", marked - owned, wrong);
}

mm_status_t mm_frame_check(const struct mm_frames *frames)
{
    mm_status_t status = live(frames);
    uint64_t wrong = 0;

    if (status != MM_OK) {
        return status;
    }
    check_spans(frames, &wrong);
    if (wrong != 0) {
        return MM_ERR_CORRUPTED; /* nothing else can be read */
    }
    for (uint32_t i = 0; i < frames->nr_spans; i++) {
        const struct mm_frame_span *span = &frames->spans[i];

        for (uint64_t n = 0; n < span->nr_lines; n++) {
            check_line(frames, span, span->first_line + n, &wrong);
        }
    }
    check_summaries(frames, &wrong);
    check_hints(frames, &wrong);
    return wrong == 0 ? MM_OK : MM_ERR_CORRUPTED;
}
