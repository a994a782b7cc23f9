// SPDX-License-Identifier: MIT
/**
 * Allocating what fits in a line: single frames, blocks of order 1 to 8, and single frames in bulk.
 *
 * The hot path is one load of the CPU's hint, one load and one compare-and-exchange of the row that
 * it names. When the row is used up, the other rows of the line follow; when the line is, the next
 * one is searched through the summaries:
 *
 *   1. lines that no other CPU keeps a hint to, from high memory to low, onwards from where this
 *      CPU was (so that lines have time to fill again);
 *   2. any line: a hint of another CPU is no claim;
 *   3. any row, whatever the summaries say.
 *
 * Only then is it true that there is no memory.
 *
 * Two CPUs that use one CPU number at a time are slower, and right: a hint is replaced by exchange,
 * so each line's mark in `reserved` is taken back once, by who replaced the hint that owned it.
 */
#include "state.h"

/* --- within a row, within a line -------------------------------------------------------------- */

/* The bits of a row at which an aligned block of free frames begins; order 0 to 6. */
static inline uint64_t fits(uint64_t row, unsigned order)
{
    static const uint64_t starts[] = {
        UINT64_MAX,
        UINT64_C(0x5555555555555555),
        UINT64_C(0x1111111111111111),
        UINT64_C(0x0101010101010101),
        UINT64_C(0x0001000100010001),
        UINT64_C(0x0000000100000001),
        UINT64_C(0x0000000000000001),
    };

    for (unsigned i = 0; i < order; i++) {
        row &= row >> (1u << i);
    }
    return row & starts[order];
}

static bool claim_in_row(struct mm_frames *f, uint64_t row, unsigned order, uint64_t *slot)
{
    uint64_t old = mmi_load(&f->rows[row]);
    uint64_t at;

    while ((at = fits(old, order)) != 0) {
        unsigned bit = mmi_ctz(at);

        if (mmi_cas(&f->rows[row], &old, old & ~mmi_mask(bit, 1u << order))) {
            *slot = row * MMI_ROW_FRAMES + bit;
            return true;
        }
    }
    return false;
}

/* The same for order 7 and 8: rows that are free as a whole. */
static bool claim_rows(struct mm_frames *f, uint64_t row, unsigned order, uint64_t *slot)
{
    uint64_t nr = UINT64_C(1) << order;

    *slot = row * MMI_ROW_FRAMES / nr * nr;
    return mmi_run_free(f, *slot, nr) && mmi_run_claim(f, *slot, nr);
}

/* A block of `order` in the line of `row`, that row first. */
static bool claim_in_line(struct mm_frames *f, uint64_t row, unsigned order, uint64_t *slot)
{
    uint64_t first = row / MMI_LINE_ROWS * MMI_LINE_ROWS;
    unsigned step = order <= 6 ? 1 : 1u << (order - 6);

    for (unsigned i = 0; i < MMI_LINE_ROWS; i += step) {
        uint64_t at = first + (row + i) % MMI_LINE_ROWS;

        if (order <= 6 ? claim_in_row(f, at, order, slot) : claim_rows(f, at, order, slot)) {
            return true;
        }
    }
    return false;
}

/* --- hints ------------------------------------------------------------------------------------ */

static const struct mm_frame_span *span_of_line(const struct mm_frames *f, uint64_t line)
{
    uint32_t low = 0;
    uint32_t nr = f->nr_spans;

    if (f->spans[0].first == 0) {
        low = 1; /* the line of frame 0 comes last */
        nr--;
    }
    while (nr > 1) {
        uint32_t half = nr / 2;

        low += f->spans[low + half].first_line <= line ? half : 0;
        nr -= half;
    }
    return &f->spans[low];
}

/* Point a hint to the row that was allocated from; `reserve` the line if nobody has. */
static void move_hint(struct mm_frames *f, uint64_t *hint, const struct mm_frame_span *span,
                      uint64_t row, bool reserve)
{
    uint64_t line = row / MMI_LINE_ROWS;
    uint64_t bit = UINT64_C(1) << (line % 64);
    uint64_t index = (uint64_t)(span - f->spans);
    uint64_t new = row | index << MMI_HINT_SPAN_SHIFT;
    uint64_t old;

    if (reserve && (mmi_fetch_or(&f->reserved[line / 64], bit) & bit) == 0) {
        new |= MMI_HINT_OWNED;
    }
    old = mmi_exchange(hint, new);
    if ((old & MMI_HINT_OWNED) != 0) {
        line = mmi_hint_row(old) / MMI_LINE_ROWS;
        (void)mmi_fetch_and(&f->reserved[line / 64], ~(UINT64_C(1) << (line % 64)));
    }
}

/* --- the search for a line -------------------------------------------------------------------- */

/* The state of a walk over all lines that may have free frames, in the order told above. */
struct walk {
    uint64_t start; /* the line where the walk begins */
    uint64_t low, high;
    unsigned pass; /* 0: unreserved, 1: any, 2: all rows */
    unsigned zone; /* 2 down to 0 */
    bool second;   /* the part of the zone above the start */
};

static void walk_part(const struct mm_frames *f, struct walk *w)
{
    uint64_t low = f->zones[w->zone];
    uint64_t high = f->zones[w->zone + 1];
    bool inside = w->start >= low && w->start < high;

    w->low = w->second ? w->start + 1 : low;
    w->high = inside && !w->second ? w->start + 1 : high;
    if (w->second && !inside) {
        w->low = w->high; /* it had one part only */
    }
}

static void walk_begin(const struct mm_frames *f, struct walk *w, uint64_t hint)
{
    *w = (struct walk){.start = mmi_hint_row(hint) / MMI_LINE_ROWS, .zone = 2};
    walk_part(f, w);
}

/* The highest line of the part that has a free frame, whatever the summary says. */
static bool walk_rows(struct mm_frames *f, const struct walk *w, uint64_t *line)
{
    for (uint64_t at = w->high; at-- > w->low;) {
        mmi_line_retire(f, at);
        if (!mmi_line_empty(f, at)) {
            *line = at;
            return true;
        }
    }
    return false;
}

static bool walk_next(struct mm_frames *f, struct walk *w, uint64_t *line)
{
    for (;;) {
        if (w->pass < 2 ? mmi_line_find(f, w->low, w->high, w->pass == 0, line)
                        : walk_rows(f, w, line)) {
            w->high = *line;
            return true;
        }
        if (!w->second) {
            w->second = true;
        } else if (w->zone > 0) {
            w->second = false;
            w->zone--;
        } else if (w->pass < 2) {
            w->second = false;
            w->zone = 2;
            if (++w->pass == 2) {
                mmi_seek_begin(f);
            }
        } else {
            return false;
        }
        walk_part(f, w);
    }
}

/* Whether all was seen, and frames may have come back unseen: then it is worth another turn. */
static bool walk_end(struct mm_frames *f, const struct walk *w, uint64_t before)
{
    bool again = false;

    if (w->pass == 2) {
        again = !mmi_frame_settled(f, before, 0);
        mmi_seek_end(f);
    }
    return again;
}

/* --- single frames and small blocks ----------------------------------------------------------- */

/* One turn; `*again` tells whether another one makes sense after a failure. */
static bool search(struct mm_frames *f, uint64_t *hint, unsigned order, uint64_t *pfn, bool *again)
{
    uint64_t before = mmi_load_seq(&f->unsettled);
    bool found = false;
    struct walk w;
    uint64_t line;
    uint64_t slot;

    walk_begin(f, &w, mmi_load(hint));
    while (!found && walk_next(f, &w, &line)) {
        found = claim_in_line(f, line * MMI_LINE_ROWS, order, &slot);
        if (found) {
            const struct mm_frame_span *span = span_of_line(f, line);

            move_hint(f, hint, span, slot / MMI_ROW_FRAMES, w.pass == 0);
            *pfn = slot + span->bias;
        } else {
            mmi_line_retire(f, line);
        }
    }
    *again = walk_end(f, &w, before);
    return found;
}

bool mmi_frame_alloc_order(struct mm_frames *f, uint32_t cpu, unsigned order, uint64_t *pfn)
{
    uint64_t *hint = &mmi_frame_cpu(f, cpu)->hints[order == 0 ? MMI_HINT_FRAMES : MMI_HINT_BLOCKS];
    uint64_t old = mmi_load(hint);
    bool again = true;
    uint64_t slot;

    if (claim_in_line(f, mmi_hint_row(old), order, &slot)) {
        uint64_t new = (old & ~MMI_HINT_ROW_MASK) | slot / MMI_ROW_FRAMES;

        *pfn = slot + mmi_hint_span(f, old)->bias;
        if (new != old) {
            (void)mmi_cas(hint, &old, new); /* or the hint is on another line by now */
        }
        return true;
    }
    mmi_line_retire(f, mmi_hint_row(old) / MMI_LINE_ROWS);
    for (unsigned tries = 0; tries < MMI_TRIES_MAX && again; tries++) {
        if (search(f, hint, order, pfn, &again)) {
            return true;
        }
    }
    return false;
}

mm_status_t mmi_frame_exhausted(struct mm_frames *f, uint64_t nr_frames)
{
    (void)mmi_fetch_add(&f->nr_failed, 1);
    mmi_event(&f->platform, MM_EVENT_FRAME_EXHAUSTED, f, 0, nr_frames * MM_PAGE_SIZE);
    return MM_ERR_NO_MEMORY;
}

/* Apart, so that the hot path saves no register for it. */
MMI_NOINLINE static mm_status_t alloc_slow(struct mm_frames *f, uint32_t cpu, mm_pfn_t *out)
{
    return mmi_frame_alloc_order(f, cpu, 0, &out->raw) ? MM_OK : mmi_frame_exhausted(f, 1);
}

mm_status_t mm_frame_alloc_on(struct mm_frames *frames, uint32_t cpu, mm_pfn_t *out)
{
    uint64_t hint = mmi_load(&mmi_frame_cpu(frames, cpu)->hints[MMI_HINT_FRAMES]);
    uint64_t *row = &frames->rows[mmi_hint_row(hint)];
    uint64_t base = mmi_hint_row(hint) * MMI_ROW_FRAMES + mmi_hint_span(frames, hint)->bias;
    uint64_t old = mmi_load(row);
    uint64_t found = old;
    uint64_t frame;

    if (MMI_UNLIKELY(old == 0)) {
        return alloc_slow(frames, cpu, out);
    }
    /* From what was read, not from what the exchange found, which is the same and comes later. */
    frame = base + mmi_ctz_word(old);
    if (MMI_UNLIKELY(!mmi_cas(row, &found, old & (old - 1)))) {
        return alloc_slow(frames, cpu, out);
    }
    out->raw = frame;
    return MM_OK;
}

/* --- bulk ------------------------------------------------------------------------------------- */

/* Take up to `nr` frames of a row, all of it at once if they are wanted. */
static uint64_t take_row(uint64_t *row, size_t nr)
{
    uint64_t old = mmi_load(row);
    uint64_t take;

    if (old == 0) {
        return 0;
    }
    if (nr >= MMI_ROW_FRAMES) {
        return mmi_exchange(row, 0);
    }
    do {
        uint64_t left = old;

        for (size_t i = 0; i < nr && left != 0; i++) {
            left &= left - 1;
        }
        take = old & ~left;
    } while (!mmi_cas(row, &old, old & ~take));
    return take;
}

static size_t list_row(uint64_t taken, uint64_t pfn, mm_pfn_t *out)
{
    size_t nr = 0;

    if (taken == UINT64_MAX) {
        for (; nr < MMI_ROW_FRAMES; nr++) {
            out[nr].raw = pfn + nr;
        }
        return nr;
    }
    for (; taken != 0; taken &= taken - 1) {
        out[nr++].raw = pfn + mmi_ctz(taken);
    }
    return nr;
}

/* Fill out[] from one line; the row of the last frame taken is left in `*row`. */
static size_t take_line(struct mm_frames *f, const struct mm_frame_span *span, uint64_t *row,
                        mm_pfn_t *out, size_t count)
{
    uint64_t first = *row;
    size_t done = 0;

    for (unsigned i = 0; i < MMI_LINE_ROWS && done < count; i++) {
        uint64_t at = (first & ~(uint64_t)(MMI_LINE_ROWS - 1)) | (first + i) % MMI_LINE_ROWS;
        uint64_t taken = take_row(&f->rows[at], count - done);

        if (taken != 0) {
            done += list_row(taken, at * MMI_ROW_FRAMES + span->bias, out + done);
            *row = at;
        }
    }
    return done;
}

static size_t take_search(struct mm_frames *f, uint64_t *hint, mm_pfn_t *out, size_t count,
                          bool *again)
{
    uint64_t before = mmi_load_seq(&f->unsettled);
    size_t done = 0;
    struct walk w;
    uint64_t line;

    walk_begin(f, &w, mmi_load(hint));
    while (done < count && walk_next(f, &w, &line)) {
        const struct mm_frame_span *span = span_of_line(f, line);
        uint64_t row = line * MMI_LINE_ROWS;

        done += take_line(f, span, &row, out + done, count - done);
        if (done == count) {
            move_hint(f, hint, span, row, w.pass == 0);
        } else {
            mmi_line_retire(f, line);
        }
    }
    *again = walk_end(f, &w, before);
    return done;
}

mm_status_t mm_frame_alloc_bulk(struct mm_frames *frames, uint32_t cpu, mm_pfn_t *out, size_t count,
                                size_t *nr_done)
{
    uint64_t *hint;
    uint64_t old;
    uint64_t row;
    size_t done;
    bool again = true;

    if (frames == NULL || nr_done == NULL || (out == NULL && count != 0)) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (frames->magic != MMI_FRAME_MAGIC) {
        return MM_ERR_NOT_INITIALIZED;
    }
    hint = &mmi_frame_cpu(frames, cpu)->hints[MMI_HINT_FRAMES];
    old = mmi_load(hint);
    row = mmi_hint_row(old);
    done = take_line(frames, mmi_hint_span(frames, old), &row, out, count);
    if (done == count) {
        (void)mmi_cas(hint, &old, (old & ~MMI_HINT_ROW_MASK) | row);
        *nr_done = done;
        return MM_OK;
    }
    mmi_line_retire(frames, row / MMI_LINE_ROWS);
    for (unsigned tries = 0; tries < MMI_TRIES_MAX && done < count && again; tries++) {
        done += take_search(frames, hint, out + done, count - done, &again);
    }
    *nr_done = done;
    return done == count ? MM_OK : mmi_frame_exhausted(frames, count - done);
}
