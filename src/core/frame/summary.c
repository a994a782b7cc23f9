// SPDX-License-Identifier: MIT
/**
 * The summaries over the bitmap, and how they stay true without a lock.
 *
 * Who frees sets the bit of the frame, then looks at the summary. Who clears a summary clears it,
 * then looks at the bits again:
 *
 *     free                              clear
 *       row |= bit                        summary &= ~line
 *       if !(summary & line)              if (any row)
 *           summary |= line                   summary |= line
 *
 * All four are sequentially consistent, so at least one of the two sees what the other wrote; a
 * line with a free frame is in the summary when both have returned. Between the two steps of a
 * clear the summary may say too little. So who finds nothing through a summary is not done: it
 * looks at the rows themselves, or, where that would be long, makes sure that no clear was in
 * progress meanwhile (`unsettled`).
 *
 * Who looks at all rows sees them at different times, and a frame may be freed behind its back. It
 * announces itself in `seekers` and retires every line that it passes: so a free behind it finds
 * the line retired, puts it back into the summary, and, since there is a seeker, counts that as a
 * correction. The seeker sees the count and looks again. The same goes for whole lines, in `whole`.
 *
 * Allocating does not touch the summaries at all: a line that is used up is taken out by whom it
 * disappoints, once.
 */
#include "state.h"

bool mmi_line_empty(const struct mm_frames *f, uint64_t line)
{
    for (unsigned i = 0; i < MMI_LINE_ROWS; i++) {
        if (mmi_load_seq(&f->rows[line * MMI_LINE_ROWS + i]) != 0) {
            return false;
        }
    }
    return true;
}

bool mmi_line_whole(const struct mm_frames *f, uint64_t line)
{
    for (unsigned i = 0; i < MMI_LINE_ROWS; i++) {
        if (mmi_load_seq(&f->rows[line * MMI_LINE_ROWS + i]) != UINT64_MAX) {
            return false;
        }
    }
    return true;
}

/* A summary that somebody cleared has been set again. */
static void tell_seekers(struct mm_frames *f)
{
    if (mmi_load_seq(&f->seekers) != 0) {
        mmi_unsettled_begin(f);
        mmi_unsettled_end(f);
    }
}

/* The line has a free frame: say so. */
static void has_free(struct mm_frames *f, uint64_t line)
{
    uint64_t word = line / 64;

    (void)mmi_fetch_or_seq(&f->has_free[word], UINT64_C(1) << (line % 64));
    if (!mmi_bit(f->has_line, word)) {
        (void)mmi_fetch_or_seq(&f->has_line[word / 64], UINT64_C(1) << (word % 64));
    }
    tell_seekers(f);
}

void mmi_row_freed_slow(struct mm_frames *f, uint64_t row, uint64_t now)
{
    uint64_t line = row / MMI_LINE_ROWS;

    if (!mmi_bit(f->has_free, line)) {
        has_free(f, line);
    }
    if (now == UINT64_MAX && !mmi_bit(f->whole, line) && mmi_line_whole(f, line)) {
        (void)mmi_fetch_or_seq(&f->whole[line / 64], UINT64_C(1) << (line % 64));
        tell_seekers(f);
    }
}

void mmi_line_retire(struct mm_frames *f, uint64_t line)
{
    uint64_t word = line / 64;
    uint64_t bit = UINT64_C(1) << (line % 64);
    uint64_t old;

    if (line >= f->nr_lines || !mmi_bit(f->has_free, line) || !mmi_line_empty(f, line)) {
        return;
    }
    old = mmi_fetch_and_seq(&f->has_free[word], ~bit);
    if (old == bit) {
        (void)mmi_fetch_and_seq(&f->has_line[word / 64], ~(UINT64_C(1) << (word % 64)));
        if (mmi_load_seq(&f->has_free[word]) != 0) {
            (void)mmi_fetch_or_seq(&f->has_line[word / 64], UINT64_C(1) << (word % 64));
        }
    }
    if (!mmi_line_empty(f, line)) {
        has_free(f, line);
    }
}

void mmi_line_unwhole(struct mm_frames *f, uint64_t line)
{
    uint64_t bit = UINT64_C(1) << (line % 64);

    mmi_unsettled_begin(f);
    (void)mmi_fetch_and_seq(&f->whole[line / 64], ~bit);
    if (mmi_line_whole(f, line)) {
        (void)mmi_fetch_or_seq(&f->whole[line / 64], bit);
    }
    mmi_unsettled_end(f);
}

void mmi_seek_begin(struct mm_frames *f)
{
    (void)__atomic_fetch_add(&f->seekers, 1, __ATOMIC_SEQ_CST);
}

void mmi_seek_end(struct mm_frames *f)
{
    (void)__atomic_fetch_sub(&f->seekers, 1, __ATOMIC_SEQ_CST);
}

void mmi_unsettled_begin(struct mm_frames *f)
{
    (void)__atomic_fetch_add(&f->unsettled, 1, __ATOMIC_SEQ_CST);
}

void mmi_unsettled_end(struct mm_frames *f)
{
    /* One less in the low half, one more in the high half. */
    (void)__atomic_fetch_add(&f->unsettled, (UINT64_C(1) << 32) - 1, __ATOMIC_SEQ_CST);
}

bool mmi_frame_settled(const struct mm_frames *f, uint64_t before, uint64_t own)
{
    return (uint32_t)before == 0 && mmi_load_seq(&f->unsettled) == before + (own << 32);
}

/* Lines of one word of has_free that qualify. */
static uint64_t candidates(const struct mm_frames *f, uint64_t word, bool unreserved)
{
    uint64_t lines = mmi_load_seq(&f->has_free[word]);

    return unreserved && lines != 0 ? lines & ~mmi_load(&f->reserved[word]) : lines;
}

bool mmi_line_find(const struct mm_frames *f, uint64_t low, uint64_t high, bool unreserved,
                   uint64_t *line)
{
    uint64_t word;
    uint64_t lines;

    if (low >= high) {
        return false;
    }
    word = (high - 1) / 64;
    lines = candidates(f, word, unreserved) & (UINT64_MAX >> (63 - (high - 1) % 64));
    while (lines == 0) {
        uint64_t group;
        uint64_t words;

        /* The next word below that is not 0, by the summary of the summary. */
        if (word <= low / 64) {
            return false;
        }
        word--;
        group = word / 64;
        words = mmi_load_seq(&f->has_line[group]) & (UINT64_MAX >> (63 - word % 64));
        while (words == 0) {
            if (group <= low / 64 / 64) {
                return false;
            }
            words = mmi_load_seq(&f->has_line[--group]);
        }
        word = group * 64 + mmi_log2(words);
        if (word < low / 64) {
            return false;
        }
        lines = candidates(f, word, unreserved);
    }
    *line = word * 64 + mmi_log2(lines);
    return *line >= low;
}
