// SPDX-License-Identifier: MIT
/**
 * More and less memory: lines that come and go while others allocate and free.
 *
 * A line is absent or present as a whole. An absent line has no free frame, so no search and no
 * hint finds anything in it, and nobody who allocates needs to know; a hint that points there, its
 * mark in `hinted`, and summaries that promise too much are as harmless as those of a line that
 * is used up. Only who frees must look, and is sent there by MMI_FRAMES_ABSENT in `flags`:
 *
 *     add                                remove
 *       absent &= ~line                    flags |= MMI_FRAMES_ABSENT
 *       free the line                      claim all frames of all lines, or none
 *       if no line is absent:              absent |= lines
 *           flags &= ~MMI_FRAMES_ABSENT
 *
 * Who frees a frame that he has been given may have read `flags` before: such a frame is allocated
 * until its bit is set, and a line that has one cannot be removed. Who frees what is absent (which
 * is a panic) sees the flag, unless he does so while it is being removed.
 *
 * One call at a time adds or removes: it takes `changing`, and another one is told that it is busy.
 */
#include "state.h"

/* What of a range is to be changed: lines of one span, [first, end). */
struct stretch {
    const struct mm_frame_span *span;
    uint64_t first;
    uint64_t end;
};

static mm_status_t check_arguments(const struct mm_frames *f, struct mm_prange range)
{
    if (f == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (f->magic != MMI_FRAME_MAGIC) {
        return MM_ERR_NOT_INITIALIZED;
    }
    if (range.len == 0 || !mm_prange_valid(range)) {
        return MM_ERR_INVALID_SIZE;
    }
    return mm_is_aligned(range.start.raw, MM_PAGE_SIZE) && mm_is_aligned(range.len, MM_PAGE_SIZE)
               ? MM_OK
               : MM_ERR_NOT_ALIGNED;
}

static bool try_begin(struct mm_frames *f)
{
    uint64_t idle = 0;

    return mmi_cas(&f->changing, &idle, UINT64_C(1));
}

static mm_status_t end_with(struct mm_frames *f, mm_status_t status)
{
    mmi_store_release(&f->changing, UINT64_C(0));
    return status;
}

/* Frees need no longer look, if nothing is absent. */
static void recount_absent(struct mm_frames *f)
{
    for (uint64_t line = 0; line <= f->nr_lines; line += MMI_GROUP_LINES) {
        if (mmi_load_seq(mmi_word(f, line, MMI_ABSENT)) != 0) {
            return;
        }
    }
    (void)mmi_fetch_and_seq(&f->flags, ~MMI_FRAMES_ABSENT);
}

/* The lines of a span that have frames of [low, high); false if none has. */
static bool stretch_of(const struct mm_frame_span *span, uint64_t low, uint64_t high,
                       struct stretch *out)
{
    uint64_t from = span->first > low ? span->first : low;
    uint64_t to = span->first + span->nr < high ? span->first + span->nr : high;

    if (from >= to) {
        return false;
    }
    *out = (struct stretch){
        .span = span,
        .first = (from - span->bias) / MMI_LINE_FRAMES,
        .end = (to - 1 - span->bias) / MMI_LINE_FRAMES + 1,
    };
    return true;
}

static bool line_inside(const struct mm_frame_span *span, uint64_t line, uint64_t low,
                        uint64_t high)
{
    return mmi_line_first(span, line) >= low && mmi_line_end(span, line) <= high;
}

static uint64_t frames_of_line(const struct mm_frame_span *span, uint64_t line)
{
    return mmi_line_end(span, line) - mmi_line_first(span, line);
}

/* --- adding ----------------------------------------------------------------------------------- */

/* The absent frames of a range. */
static mm_status_t count_absent(const struct mm_frames *f, uint64_t low, uint64_t high,
                                uint64_t *out)
{
    struct stretch s;
    uint64_t nr = 0;

    for (uint32_t i = 0; i < f->nr_spans; i++) {
        if (!stretch_of(&f->spans[i], low, high, &s)) {
            continue;
        }
        for (uint64_t line = s.first; line < s.end; line++) {
            if (!mmi_line_bit(f, line, MMI_ABSENT)) {
                continue;
            }
            if (!line_inside(s.span, line, low, high)) {
                return MM_ERR_NOT_ALIGNED;
            }
            nr += frames_of_line(s.span, line);
        }
    }
    *out = nr;
    return nr == 0 ? MM_ERR_INVALID_ADDRESS : MM_OK;
}

static void add_rows(struct mm_frames *f, const struct mm_frame_span *span, uint64_t line)
{
    for (uint64_t row = line * MMI_LINE_ROWS; row < (line + 1) * MMI_LINE_ROWS; row++) {
        uint64_t mask = mmi_row_of_span(span, row);

        if (mask != 0) {
            (void)mmi_row_freed(f, row, mmi_fetch_or_seq(&f->rows[row], mask), mask);
        }
    }
}

/* Its frames are free from here on. First the line is present: whoever gets a frame of it may free
 * it at once. */
static void add_line(struct mm_frames *f, const struct mm_frame_span *span, uint64_t line)
{
    (void)mmi_fetch_and_seq(mmi_word(f, line, MMI_ABSENT), ~mmi_line_mask(line));
    if (frames_of_line(span, line) == MMI_LINE_FRAMES) {
        (void)mmi_line_free(f, line);
    } else {
        add_rows(f, span, line);
    }
    if ((mmi_load(&f->flags) & MMI_FRAMES_PRESSED) != 0) {
        mmi_pressure_freed(f, line, frames_of_line(span, line));
    }
}

mm_status_t mm_frame_add(struct mm_frames *frames, struct mm_prange range, uint64_t *nr_added)
{
    mm_status_t status = check_arguments(frames, range);
    uint64_t low = range.start.raw >> MM_PAGE_SHIFT;
    uint64_t high = low + (range.len >> MM_PAGE_SHIFT);
    struct stretch s;
    uint64_t nr;

    if (status != MM_OK) {
        return status;
    }
    if (!try_begin(frames)) {
        return MM_ERR_BUSY;
    }
    status = count_absent(frames, low, high, &nr);
    if (status != MM_OK) {
        return end_with(frames, status);
    }
    for (uint32_t i = 0; i < frames->nr_spans; i++) {
        if (!stretch_of(&frames->spans[i], low, high, &s)) {
            continue;
        }
        for (uint64_t line = s.first; line < s.end; line++) {
            if (mmi_line_bit(frames, line, MMI_ABSENT)) {
                add_line(frames, s.span, line);
            }
        }
    }
    recount_absent(frames);
    if (nr_added != NULL) {
        *nr_added = nr;
    }
    return end_with(frames, MM_OK);
}

/* --- removing --------------------------------------------------------------------------------- */

/* Whether a range is made of whole lines that are present. */
static mm_status_t check_present(const struct mm_frames *f, uint64_t low, uint64_t high)
{
    struct stretch s = {0};

    for (uint64_t at = low; at < high;) {
        const struct mm_frame_span *span = at == 0 ? NULL : mmi_frame_span(f, at);

        if (span == NULL) {
            return MM_ERR_INVALID_ADDRESS;
        }
        (void)stretch_of(span, at, high, &s); /* it holds a frame of the range at least */
        for (uint64_t line = s.first; line < s.end; line++) {
            if (mmi_line_bit(f, line, MMI_ABSENT)) {
                return MM_ERR_INVALID_ADDRESS;
            }
            if (!line_inside(span, line, low, high)) {
                return MM_ERR_NOT_ALIGNED;
            }
        }
        at = mmi_line_end(span, s.end - 1);
    }
    return MM_OK;
}

static bool claim_all_of(struct mm_frames *f, uint64_t low, uint64_t high)
{
    uint64_t slot;
    uint64_t part;
    uint64_t at;

    for (at = low; at < high; at += part) {
        part = mmi_frame_part(f, at, high - at, &slot);
        if (!mmi_run_free(f, slot, part) || !mmi_run_claim(f, slot, part)) {
            break;
        }
    }
    if (at >= high) {
        return true;
    }
    for (uint64_t back = low; back < at; back += part) {
        part = mmi_frame_part(f, back, at - back, &slot);
        mmi_run_unclaim(f, slot, part);
    }
    return false;
}

/* Its frames have been claimed: nobody else has them. */
static void remove_line(struct mm_frames *f, const struct mm_frame_span *span, uint64_t line)
{
    uint64_t first = mmi_line_first(span, line);

    if ((mmi_load(&f->flags) & MM_FRAMES_POISON) != 0) {
        mmi_poison_verify(f, first, first - span->bias, frames_of_line(span, line));
    }
    /* What comes back in its place is other memory. */
    (void)mmi_fetch_and_seq(mmi_word(f, line, MMI_ZERO), ~mmi_line_mask(line));
    (void)mmi_fetch_or_seq(mmi_word(f, line, MMI_ABSENT), mmi_line_mask(line));
}

/* Zones have less now. */
static void pay_for(struct mm_frames *f, uint64_t low, uint64_t high)
{
    struct stretch s;

    for (uint32_t i = 0; mmi_load(&f->watched) != 0 && i < f->nr_spans; i++) {
        if (stretch_of(&f->spans[i], low, high, &s)) {
            mmi_pressure_taken(f, s.first * MMI_LINE_FRAMES, (s.end - s.first) * MMI_LINE_FRAMES);
        }
    }
}

mm_status_t mm_frame_remove(struct mm_frames *frames, struct mm_prange range)
{
    mm_status_t status = check_arguments(frames, range);
    uint64_t low = range.start.raw >> MM_PAGE_SHIFT;
    uint64_t high = low + (range.len >> MM_PAGE_SHIFT);
    struct stretch s;

    if (status != MM_OK) {
        return status;
    }
    if (!try_begin(frames)) {
        return MM_ERR_BUSY;
    }
    status = check_present(frames, low, high);
    if (status != MM_OK) {
        return end_with(frames, status);
    }
    (void)mmi_fetch_or_seq(&frames->flags, MMI_FRAMES_ABSENT);
    if (!claim_all_of(frames, low, high)) {
        recount_absent(frames);
        return end_with(frames, MM_ERR_BUSY);
    }
    for (uint32_t i = 0; i < frames->nr_spans; i++) {
        if (!stretch_of(&frames->spans[i], low, high, &s)) {
            continue;
        }
        for (uint64_t line = s.first; line < s.end; line++) {
            remove_line(frames, s.span, line);
        }
    }
    /* Only now, when all of it is absent: a count before would find it allocated. */
    pay_for(frames, low, high);
    return end_with(frames, MM_OK);
}
