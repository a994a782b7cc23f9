// SPDX-License-Identifier: MIT
/**
 * Frames side by side: claiming them row by row, and finding where they are.
 *
 * A run is claimed from its first row to its last, each by one compare-and-exchange; when a row has
 * been taken by another CPU meanwhile, the rows before it are given back. Nobody has seen them
 * then, but others may have missed them: that is counted in `unsettled`.
 *
 * One search serves all: the highest place in a bitmap where `nr` ones stand side by side, aligned,
 * without a multiple of the boundary inside. It goes downwards, so that low memory lasts, and from
 * each zero that is in the way straight to the next one below it:
 *
 *     1 1 1 1 0 1 1 0 0 0 1 1 1 1 1 0 1 1 1    nr 4, align 4
 *                                     |   |    wished here: a 0 is in it
 *                         |       |            next try: ends at the first 1 below, aligned down
 *
 * Blocks below a line search the rows; blocks of whole lines search the summary of whole lines,
 * where one bit stands for 512 frames.
 */
#include "state.h"

#define NOTHING UINT64_MAX

/* --- claiming --------------------------------------------------------------------------------- */

bool mmi_run_free(const struct mm_frames *f, uint64_t slot, uint64_t nr)
{
    unsigned part;

    for (uint64_t done = 0; done < nr; done += part) {
        uint64_t mask = mmi_row_part(slot + done, nr - done, &part);

        if ((mmi_load(&f->rows[(slot + done) / MMI_ROW_FRAMES]) & mask) != mask) {
            return false;
        }
    }
    return true;
}

bool mmi_run_claim(struct mm_frames *f, uint64_t slot, uint64_t nr)
{
    uint64_t done = 0;
    unsigned part;

    for (; done < nr; done += part) {
        uint64_t *row = &f->rows[(slot + done) / MMI_ROW_FRAMES];
        uint64_t mask = mmi_row_part(slot + done, nr - done, &part);
        uint64_t old = mmi_load(row);

        do {
            if ((old & mask) != mask) {
                if (done != 0) {
                    mmi_run_unclaim(f, slot, done);
                }
                return false;
            }
        } while (!mmi_cas(row, &old, old & ~mask));
    }
    return true;
}

void mmi_run_unclaim(struct mm_frames *f, uint64_t slot, uint64_t nr)
{
    uint64_t done = 0;
    unsigned part;

    mmi_unsettled_begin(f);
    for (; done < nr; done += part) {
        uint64_t row = (slot + done) / MMI_ROW_FRAMES;
        uint64_t mask = mmi_row_part(slot + done, nr - done, &part);

        mmi_row_freed(f, row, mmi_fetch_or_seq(&f->rows[row], mask), mask);
    }
    mmi_unsettled_end(f);
}

/* --- searching -------------------------------------------------------------------------------- */

struct search {
    const struct mm_frames *f;
    const uint64_t *bits;
    uint64_t bias;     /* place - index in the bits */
    uint64_t low, end; /* places [low, end) are left */
    uint64_t nr, align, boundary;
    bool exact; /* look at every row, or let the summary skip lines */
};

/* The highest 0 of bits [first, last], or NOTHING. */
static uint64_t last_clear(const uint64_t *bits, uint64_t first, uint64_t last)
{
    uint64_t word = last / 64;
    uint64_t clear = ~mmi_load_seq(&bits[word]) & (UINT64_MAX >> (63 - last % 64));

    while (clear == 0) {
        if (word == first / 64) {
            return NOTHING;
        }
        clear = ~mmi_load_seq(&bits[--word]);
    }
    last = word * 64 + mmi_log2(clear);
    return last < first ? NOTHING : last;
}

/* The highest 1 of bits [first, last], or NOTHING. */
static uint64_t last_set(const struct search *s, uint64_t first, uint64_t last)
{
    uint64_t word = last / 64;
    uint64_t set = mmi_load_seq(&s->bits[word]) & (UINT64_MAX >> (63 - last % 64));

    while (set == 0) {
        uint64_t line = word / MMI_LINE_ROWS;

        if (word == first / 64) {
            return NOTHING;
        }
        word--;
        if (!s->exact && word % MMI_LINE_ROWS == MMI_LINE_ROWS - 1) {
            /* At the end of the line below: the summary knows the next one worth a look. */
            if (!mmi_line_find(s->f, first / MMI_LINE_FRAMES, line, false, &line)) {
                return NOTHING;
            }
            word = line * MMI_LINE_ROWS + MMI_LINE_ROWS - 1;
        }
        set = mmi_load_seq(&s->bits[word]);
    }
    last = word * 64 + mmi_log2(set);
    return last < first ? NOTHING : last;
}

/* The highest place below s->end where the wish is met; s->end becomes its end. */
static bool find(struct search *s, uint64_t *place)
{
    for (;;) {
        uint64_t at;
        uint64_t clear;
        uint64_t set;

        if (s->end < s->low || s->end - s->low < s->nr) {
            return false;
        }
        at = mm_align_down(s->end - s->nr, s->align);
        if (s->boundary != 0 && ((at ^ (at + s->nr - 1)) & ~(s->boundary - 1)) != 0) {
            /* It would cross: let it end there. The next multiple below is too far to be crossed,
             * since nr <= boundary, and both alignments are powers of two. */
            at = mm_align_down(mm_align_down(at + s->nr - 1, s->boundary) - s->nr, s->align);
        }
        if (at < s->low) {
            return false;
        }
        clear = last_clear(s->bits, at - s->bias, at - s->bias + s->nr - 1);
        if (clear == NOTHING) {
            *place = at;
            s->end = at + s->nr;
            return true;
        }
        if (clear == s->low - s->bias) {
            return false;
        }
        set = last_set(s, s->low - s->bias, clear - 1);
        if (set == NOTHING) {
            return false;
        }
        s->end = set + s->bias + 1;
    }
}

/* --- runs of frames --------------------------------------------------------------------------- */

static bool alloc_in_span(struct mm_frames *f, const struct mm_frame_span *span,
                          const struct mmi_run_wish *wish, bool exact, uint64_t *pfn)
{
    struct search s = {
        .f = f,
        .bits = f->rows,
        .bias = span->bias,
        .low = span->first > wish->low ? span->first : wish->low,
        .end = span->first + span->nr < wish->high ? span->first + span->nr : wish->high,
        .nr = wish->nr,
        .align = wish->align,
        .boundary = wish->boundary,
        .exact = exact,
    };

    while (find(&s, pfn)) {
        if (mmi_run_claim(f, *pfn - span->bias, wish->nr)) {
            return true;
        }
        s.end--; /* another CPU was faster */
    }
    return false;
}

bool mmi_run_alloc(struct mm_frames *f, const struct mmi_run_wish *wish, uint64_t *pfn)
{
    for (int exact = 0; exact <= 1; exact++) {
        for (uint32_t i = f->nr_spans; i-- > 0 && f->spans[i].first != 0;) {
            if (alloc_in_span(f, &f->spans[i], wish, exact != 0, pfn)) {
                return true;
            }
        }
    }
    return false;
}

/* --- blocks of whole lines -------------------------------------------------------------------- */

/* Claim the lines that were found if they are whole, as the summary says they are; else correct the
 * summary, and s->end becomes the place above which there is no use in looking again. */
static bool claim_lines(struct mm_frames *f, struct search *s, uint64_t line, uint64_t *corrected)
{
    for (uint64_t i = s->nr; i-- > 0;) {
        if (!mmi_line_whole(f, line + i)) {
            mmi_line_unwhole(f, line + i);
            *corrected += 1;
            s->end -= s->nr - i;
            return false;
        }
    }
    if (!mmi_run_claim(f, line * MMI_LINE_FRAMES, s->nr * MMI_LINE_FRAMES)) {
        s->end--; /* another CPU was faster */
        return false;
    }
    return true;
}

static bool alloc_lines_in_span(struct mm_frames *f, const struct mm_frame_span *span, uint64_t nr,
                                uint64_t *corrected, uint64_t *pfn)
{
    uint64_t first = (span->first_line * MMI_LINE_FRAMES + span->bias) / MMI_LINE_FRAMES;
    struct search s = {
        .f = f,
        .bits = f->whole,
        .bias = first - span->first_line,
        .low = first,
        .end = first + span->nr_lines,
        .nr = nr,
        .align = nr,
        .exact = true,
    };
    uint64_t place;

    while (find(&s, &place)) {
        if (claim_lines(f, &s, place - s.bias, corrected)) {
            *pfn = place * MMI_LINE_FRAMES;
            return true;
        }
    }
    return false;
}

/* One turn; `*again` tells whether lines came back meanwhile, behind where it looked. */
static bool search_lines(struct mm_frames *f, uint64_t nr, bool *again, uint64_t *pfn)
{
    uint64_t before = mmi_load_seq(&f->unsettled);
    uint64_t corrected = 0;

    for (uint32_t i = f->nr_spans; i-- > 0 && f->spans[i].first != 0;) {
        if (alloc_lines_in_span(f, &f->spans[i], nr / MMI_LINE_FRAMES, &corrected, pfn)) {
            return true;
        }
    }
    *again = !mmi_frame_settled(f, before, corrected);
    return false;
}

bool mmi_run_alloc_lines(struct mm_frames *f, unsigned order, uint64_t *pfn)
{
    uint64_t nr = UINT64_C(1) << order;
    struct mmi_run_wish wish = {.nr = nr, .align = nr, .high = UINT64_MAX};
    bool again = true;
    bool found = search_lines(f, nr, &again, pfn);

    if (found) {
        return true;
    }
    /* A line that was passed because it was not whole may have come back before the one ahead was
     * taken. The turn above has taken it out of the summary; a seeker hears when it is put back. */
    mmi_seek_begin(f);
    again = true;
    for (unsigned tries = 0; tries < MMI_TRIES_MAX && again && !found; tries++) {
        found = search_lines(f, nr, &again, pfn);
    }
    mmi_seek_end(f);
    /* The summary of whole lines told the truth, unless others were correcting it all the time. */
    return found || (again && mmi_run_alloc(f, &wish, pfn));
}
