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
 * It does so around each line that the summaries lead to: a line in which, or beside which, a run of
 * this size was searched in vain is passed over until a frame of it is freed.
 */
#include "state.h"

#define NOTHING UINT64_MAX

/* --- claiming --------------------------------------------------------------------------------- */

bool mmi_run_free(const struct mm_frames *f, uint64_t slot, uint64_t nr)
{
    unsigned part;

    for (uint64_t done = 0; done < nr; done += part) {
        uint64_t mask = mmi_row_part(slot + done, nr - done, &part);

        if ((mmi_row_free(f, (slot + done) / MMI_ROW_FRAMES) & mask) != mask) {
            return false;
        }
    }
    return true;
}

static bool claim_row(uint64_t *row, uint64_t mask)
{
    uint64_t old = mmi_load(row);

    do {
        if ((old & mask) != mask) {
            return false;
        }
    } while (!mmi_cas(row, &old, old & ~mask));
    return true;
}

/* Whether the part of a run from `slot` on begins with a whole line. */
static bool is_line(uint64_t slot, uint64_t nr)
{
    return slot % MMI_LINE_FRAMES == 0 && nr >= MMI_LINE_FRAMES;
}

bool mmi_run_claim(struct mm_frames *f, uint64_t slot, uint64_t nr)
{
    uint64_t done = 0;
    unsigned part;

    for (; done < nr; done += part) {
        uint64_t at = slot + done;
        bool claimed;

        if (is_line(at, nr - done)) {
            part = MMI_LINE_FRAMES;
            claimed = mmi_line_claim(f, at / MMI_LINE_FRAMES);
        } else {
            uint64_t mask = mmi_row_part(at, nr - done, &part);

            mmi_line_open(f, at / MMI_LINE_FRAMES);
            claimed = claim_row(&f->rows[at / MMI_ROW_FRAMES], mask);
        }
        if (!claimed) {
            if (done != 0) {
                mmi_run_unclaim(f, slot, done);
            }
            return false;
        }
    }
    return true;
}

static void unclaim_row(struct mm_frames *f, uint64_t row, uint64_t mask)
{
    (void)mmi_row_freed(f, row, mmi_fetch_or_seq(&f->rows[row], mask), mask);
}

void mmi_run_unclaim(struct mm_frames *f, uint64_t slot, uint64_t nr)
{
    uint64_t done = 0;
    unsigned part;

    mmi_unsettled_begin(f);
    for (; done < nr; done += part) {
        if (is_line(slot + done, nr - done)) {
            part = MMI_LINE_FRAMES;
            (void)mmi_line_free(f, (slot + done) / MMI_LINE_FRAMES);
        } else {
            uint64_t mask = mmi_row_part(slot + done, nr - done, &part);

            unclaim_row(f, (slot + done) / MMI_ROW_FRAMES, mask);
        }
    }
    mmi_unsettled_end(f);
    /* Whoever counted meanwhile has missed them. */
    for (done = 0; done < nr && (mmi_load_seq(&f->flags) & MMI_FRAMES_PRESSED) != 0; done += part) {
        (void)mmi_row_part(slot + done, nr - done, &part);
        mmi_pressure_freed(f, (slot + done) / MMI_LINE_FRAMES, part);
    }
}

/* --- searching -------------------------------------------------------------------------------- */

struct search {
    const struct mm_frames *f;
    bool open_only;    /* nothing in lines that are closed */
    uint64_t bias;     /* frame - slot */
    uint64_t low, end; /* frames [low, end) are left */
    uint64_t nr, align, boundary;
    uint64_t stop; /* a run that ends at or below is for a later search */
};

/* The free frames of a row, of those that are looked for. */
static inline uint64_t row_of(const struct search *s, uint64_t row)
{
    return s->open_only ? mmi_load_seq(&s->f->rows[row]) : mmi_row_free(s->f, row);
}

/* The highest slot of [first, last] that is not free, or NOTHING. */
static uint64_t last_clear(const struct search *s, uint64_t first, uint64_t last)
{
    uint64_t word = last / 64;
    uint64_t clear = ~row_of(s, word) & (UINT64_MAX >> (63 - last % 64));

    while (clear == 0) {
        if (word == first / 64) {
            return NOTHING;
        }
        clear = ~row_of(s, --word);
    }
    last = word * 64 + mmi_log2(clear);
    return last < first ? NOTHING : last;
}

/* The highest that is, or NOTHING. */
static uint64_t last_set(const struct search *s, uint64_t first, uint64_t last)
{
    uint64_t word = last / 64;
    uint64_t set = row_of(s, word) & (UINT64_MAX >> (63 - last % 64));

    while (set == 0) {
        if (word == first / 64) {
            return NOTHING;
        }
        set = row_of(s, --word);
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
        if (at + s->nr <= s->stop) {
            s->end = at + s->nr;
            return false;
        }
        clear = last_clear(s, at - s->bias, at - s->bias + s->nr - 1);
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

/* The frames [low, high) as far as they lie in a span. */
static struct search search_span(const struct mm_frames *f, const struct mm_frame_span *span,
                                 uint64_t low, uint64_t high)
{
    return (struct search){
        .f = f,
        .bias = span->bias,
        .low = span->first > low ? span->first : low,
        .end = span->first + span->nr < high ? span->first + span->nr : high,
        .align = 1,
    };
}

bool mmi_run_near(const struct mm_frames *f, uint64_t line, uint64_t nr)
{
    const struct mm_frame_span *span = mmi_span_of_line(f, line);
    uint64_t first = line * MMI_LINE_FRAMES + span->bias;
    struct search s = search_span(f, span, first < nr - 1 ? 0 : first - (nr - 1),
                                  first + MMI_LINE_FRAMES + (nr - 1));
    uint64_t place;

    s.nr = nr;
    s.open_only = true;
    return find(&s, &place);
}

/* The lowest line of a run that is withheld, or MMI_NO_SLOT. */
static uint64_t withheld_line(const struct mmi_ask *ask, uint64_t slot, uint64_t nr)
{
    uint64_t last = (slot + nr - 1) / MMI_LINE_FRAMES;

    for (uint64_t line = slot / MMI_LINE_FRAMES; line <= last && ask->avoid != 0; line++) {
        if (mmi_line_withheld(ask, line)) {
            return line;
        }
    }
    return MMI_NO_SLOT;
}

/* Claim the highest run of the search that may be had. */
static bool claim_found(struct mmi_ask *ask, struct search *s, uint64_t *pfn)
{
    while (find(s, pfn)) {
        uint64_t line = withheld_line(ask, *pfn - s->bias, s->nr);

        if (line != MMI_NO_SLOT) {
            /* Any place that ends above the start of this line touches it. */
            s->end = line * MMI_LINE_FRAMES + s->bias;
        } else if (mmi_run_claim(ask->f, *pfn - s->bias, s->nr)) {
            return true;
        } else {
            s->end--; /* another CPU was faster; it may give back what it took */
            ask->again = true;
        }
    }
    return false;
}

/* --- runs of frames --------------------------------------------------------------------------- */

bool mmi_run_alloc_exact(struct mmi_ask *ask, const struct mmi_run_wish *wish, uint64_t *pfn)
{
    const struct mm_frames *f = ask->f;

    for (uint32_t i = f->nr_spans; i-- > 0 && f->spans[i].first != 0;) {
        struct search s = search_span(f, &f->spans[i], wish->low, wish->high);

        s.nr = wish->nr;
        s.align = wish->align;
        s.boundary = wish->boundary;
        if ((ask->nodes >> f->spans[i].node & 1) != 0 && claim_found(ask, &s, pfn)) {
            return true;
        }
    }
    return false;
}

/* The bits of a row at which a run of `nr` <= 64 free frames begins. */
static inline uint64_t run_fits(uint64_t row, uint64_t nr)
{
    uint64_t has = 1;

    for (; has * 2 <= nr && row != 0; has *= 2) {
        row &= row >> has;
    }
    return has < nr ? row & row >> (nr - has) : row;
}

/* What became of a line. A run was claimed, and free frames are left, or none; or no row has such a
 * run; or no free frame. The order matters: above CLAIMED_LAST nothing was claimed. */
enum outcome { CLAIMED, CLAIMED_LAST, NOT_IN_ROWS, LINE_EMPTY };

/* The run lies within one row of the line, as most short ones can. */
static enum outcome claim_in_rows(struct mm_frames *f, uint64_t nr, uint64_t line, uint64_t *slot)
{
    uint64_t *rows = &f->rows[line * MMI_LINE_ROWS];
    uint64_t seen = 0;

    for (uint64_t i = MMI_LINE_ROWS; i-- > 0;) {
        uint64_t old = mmi_load(&rows[i]);
        uint64_t fits;

        while ((fits = run_fits(old, nr)) != 0) {
            unsigned bit = mmi_log2(fits);
            uint64_t mask = mmi_mask(bit, (unsigned)nr);

            if (mmi_cas(&rows[i], &old, old & ~mask)) {
                *slot = line * MMI_LINE_FRAMES + i * MMI_ROW_FRAMES + bit;
                seen |= old & ~mask;
                while (seen == 0 && i-- > 0) {
                    seen = mmi_load(&rows[i]);
                }
                return seen != 0 ? CLAIMED : CLAIMED_LAST;
            }
        }
        seen |= old;
    }
    return seen == 0 ? LINE_EMPTY : NOT_IN_ROWS;
}

/* The run touches `line`, which is one that the walk has found. */
static bool claim_near(struct mmi_ask *ask, const struct mmi_run_wish *wish, uint64_t line,
                       uint64_t *pfn)
{
    const struct mm_frame_span *span = mmi_span_of_line(ask->f, line);
    uint64_t first = line * MMI_LINE_FRAMES + span->bias;
    uint64_t low = first < wish->nr - 1 ? 0 : first - (wish->nr - 1);
    uint64_t high = first + MMI_LINE_FRAMES + (wish->nr - 1);
    struct search s = search_span(ask->f, span, wish->low > low ? wish->low : low,
                                  wish->high < high ? wish->high : high);

    s.nr = wish->nr;
    s.align = wish->align;
    s.boundary = wish->boundary;
    return claim_found(ask, &s, pfn);
}

/* What a turn knows of a span when no line remembers anything: no run of it ends above. */
struct seen {
    const struct mm_frame_span *span;
    uint64_t line;
    uint64_t end;
};

/* The same for runs that no mark is kept of. The walk comes to many lines of one long hole, or near
 * each other: what has been read for one is not read again for the next one below. */
static bool claim_below(struct mmi_ask *ask, const struct mmi_run_wish *wish, uint64_t line,
                        struct seen *seen, uint64_t *pfn)
{
    const struct mm_frame_span *span = mmi_span_of_line(ask->f, line);
    uint64_t first = line * MMI_LINE_FRAMES + span->bias;
    uint64_t high = first + MMI_LINE_FRAMES + (wish->nr - 1);
    struct search s = search_span(ask->f, span, wish->low, wish->high < high ? wish->high : high);

    if (span == seen->span && line < seen->line) {
        s.end = s.end < seen->end ? s.end : seen->end;
    }
    s.nr = wish->nr;
    s.align = wish->align;
    s.boundary = wish->boundary;
    s.stop = first;
    if (s.end > first && claim_found(ask, &s, pfn)) {
        return true;
    }
    *seen = (struct seen){.span = span, .line = line, .end = s.end};
    return false;
}

/* Lines [first, end) that hold frames of the window. */
static void lines_of(const struct mm_frames *f, const struct mmi_run_wish *wish, uint64_t *first,
                     uint64_t *end)
{
    *first = UINT64_MAX;
    *end = 0;
    for (uint32_t i = 0; i < f->nr_spans; i++) {
        struct search s = search_span(f, &f->spans[i], wish->low, wish->high);

        if (s.low < s.end && f->spans[i].first != 0) {
            uint64_t low = (s.low - s.bias) / MMI_LINE_FRAMES;
            uint64_t last = (s.end - 1 - s.bias) / MMI_LINE_FRAMES;

            *first = low < *first ? low : *first;
            *end = last + 1; /* spans and their lines are in one order */
        }
    }
}

/* A short run that may lie anywhere, in the line that the CPU's hint names. */
static bool claim_by_hint(struct mmi_ask *ask, const uint64_t *hint, uint64_t nr, uint64_t *pfn)
{
    uint64_t old = mmi_load(hint);
    uint64_t line = mmi_hint_row(old) / MMI_LINE_ROWS;
    enum outcome outcome;
    uint64_t slot;

    if (!mmi_line_bit(ask->f, line, MMI_HAS_FREE)) {
        return false;
    }
    outcome = claim_in_rows(ask->f, nr, line, &slot);
    if (outcome == CLAIMED_LAST || outcome == LINE_EMPTY) {
        (void)mmi_line_retire_empty(ask, line);
    }
    if (outcome > CLAIMED_LAST) {
        return false;
    }
    *pfn = slot + mmi_hint_span(ask->f, old)->bias;
    return true;
}

/* A short run that may lie anywhere, in a line that the walk has found. A line whose last hole this
 * was is taken out of the summary at once, and is no place to stay. */
static bool claim_short(struct mmi_ask *ask, const struct mmi_walk *w, uint64_t nr, uint64_t line,
                        uint64_t *pfn)
{
    uint64_t slot;
    enum outcome outcome = claim_in_rows(ask->f, nr, line, &slot);

    if (outcome > CLAIMED_LAST) {
        return false;
    }
    *pfn = slot + mmi_span_of_line(ask->f, line)->bias;
    if (outcome == CLAIMED_LAST) {
        (void)mmi_line_retire_empty(ask, line);
    } else {
        mmi_settle_in(ask, mmi_is_local(ask) ? mmi_hint_of(ask->cpu, ask->lifetime, 1) : NULL, line,
                      slot / MMI_ROW_FRAMES, w);
    }
    return true;
}

/* Remember that there is none; the run of the request may be shorter than what is remembered, and so
 * may have come back unseen before the mark was there. */
static bool mark_line(struct mmi_ask *ask, const struct mmi_run_wish *wish, uint64_t line,
                      unsigned mark, bool was_marked, uint64_t *pfn)
{
    mmi_line_vain(ask, line, mark);
    return !was_marked && !mm_is_pow2(wish->nr) && claim_near(ask, wish, line, pfn);
}

/* In the line where frames were freed last, if this CPU would look there without a search: when
 * memory is nearly full, that is where there is room, and any search ends there. */
static bool claim_fresh(struct mmi_ask *ask, uint64_t nr, uint64_t *pfn)
{
    struct mm_frames *f = ask->f;
    uint64_t line = mmi_load(&f->fresh);
    const struct mmi_frame_area *area = mmi_area_of_line(f, line);
    const uint64_t *group = mmi_word(f, line, 0);
    uint64_t lines = mmi_load_seq(&group[MMI_HAS_FREE]) & ~mmi_load(&group[MMI_HINTED]) &
                     mmi_load(&group[MMI_OPENED + ask->lifetime]);
    enum outcome outcome;
    uint64_t slot;

    /* No lifetime opens the line of frame 0, which has no area. */
    if ((lines & mmi_line_mask(line)) == 0 || area->node != ask->cpu->node ||
        area->zone == MM_ZONE_DMA || mmi_line_withheld(ask, line)) {
        return false;
    }
    outcome = claim_in_rows(f, nr, line, &slot);
    if (outcome > CLAIMED_LAST) {
        return false;
    }
    if (outcome == CLAIMED_LAST) {
        (void)mmi_line_retire_empty(ask, line);
    }
    *pfn = slot + mmi_span_of_line(f, line)->bias;
    return true;
}

/* One turn over the lines that the walk goes to. */
static bool search_lines(struct mmi_ask *ask, struct mmi_walk *w, const struct mmi_run_wish *wish,
                         unsigned mark, uint64_t *pfn)
{
    bool is_short = mark != 0 && wish->nr <= MMI_ROW_FRAMES;
    struct seen seen = {0};
    uint64_t line;

    while (mmi_walk_next(ask, w, &line)) {
        bool was_marked = mark != 0 && mmi_line_bit(ask->f, line, mark);

        if (is_short) {
            mmi_line_open(ask->f, line);
        }
        if (is_short && claim_short(ask, w, wish->nr, line, pfn)) {
            return true;
        }
        if (mark != 0 ? claim_near(ask, wish, line, pfn)
                      : claim_below(ask, wish, line, &seen, pfn)) {
            mmi_settle_in(ask, NULL, line, 0, w);
            return true;
        }
        if (mark != 0) {
            (void)mmi_line_pass(ask, line);
            if (mark_line(ask, wish, line, mark, was_marked, pfn)) {
                return true;
            }
            continue;
        }
        (void)mmi_line_retire(ask, line);
        if (mmi_line_bit(ask->f, line, MMI_WHOLE) && !mmi_line_whole(ask->f, line)) {
            mmi_line_unwhole(ask, line); /* else the run does not fit there */
        }
    }
    return false;
}

/* The word that tells of lines where the run may be: a run of n frames touches a line only if one of
 * 2^k <= n does, and one of 1023 or more holds a line that is whole. */
static unsigned word_to_read(uint64_t nr)
{
    if (nr >= 2 * MMI_LINE_FRAMES - 1) {
        return MMI_WHOLE;
    }
    if (nr == 1) {
        return MMI_HAS_FREE;
    }
    return MMI_VAIN_RUN + mmi_log2(nr > MMI_VAIN_RUN_MAX ? MMI_VAIN_RUN_MAX : nr) - 1;
}

/* The word that remembers that there is none, for lines where the whole line was looked at: where
 * there is no run of n frames, there is none of 2^k >= n. */
static unsigned word_to_mark(const struct mmi_run_wish *wish)
{
    bool anywhere = wish->low == 0 && wish->high == MMI_PFN_END;

    if (!anywhere || wish->align != 1 || wish->boundary != 0 || wish->nr < 2 ||
        wish->nr > MMI_VAIN_RUN_MAX) {
        return 0;
    }
    return MMI_VAIN_RUN + mmi_log2_up(wish->nr) - 1;
}

bool mmi_run_alloc(struct mmi_ask *ask, const struct mmi_run_wish *wish, uint64_t *pfn)
{
    unsigned mark = word_to_mark(wish);
    uint64_t first = 0;
    uint64_t end = UINT64_MAX;

    if (mark != 0 && wish->nr <= MMI_ROW_FRAMES && mmi_is_local(ask) &&
        (claim_by_hint(ask, mmi_hint_of(ask->cpu, ask->lifetime, 1), wish->nr, pfn) ||
         claim_fresh(ask, wish->nr, pfn))) {
        return true;
    }
    if (wish->low != 0 || wish->high != MMI_PFN_END) {
        lines_of(ask->f, wish, &first, &end);
    }
    for (unsigned tries = 0; tries < MMI_TRIES_MAX; tries++) {
        struct mmi_walk w;

        mmi_turn_begin(ask);
        mmi_walk_within(ask, &w, word_to_read(wish->nr), first, end);
        if (search_lines(ask, &w, wish, mark, pfn)) {
            return true;
        }
        if (mmi_settled(ask)) {
            return false;
        }
    }
    return mmi_run_alloc_exact(ask, wish, pfn);
}
