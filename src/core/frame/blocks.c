// SPDX-License-Identifier: MIT
/**
 * Blocks of whole lines: order 9 (2 MiB) to 18 (1 GiB).
 *
 * A line that is freed as a whole is closed: 8 bits, set and cleared by one exchange each way, stand for
 * its 512 frames, and its rows stay 0. A line that became whole frame by frame is claimed by
 * exchanging its rows from all ones to zero, two rows at a time where the CPU can; if a frame of it
 * is taken meanwhile, what was claimed is given back. The summary of whole lines is left as it is:
 * who finds that a line is not whole corrects it. So a block that is freed soon costs the two
 * exchanges and nothing else.
 *
 * What a caller does wrong must be seen though the rows do not tell. Frames of a closed line that are
 * freed one by one are a double free; so is a line that is freed as a whole after a frame of it.
 *
 *     free of a frame                       free of the line
 *       row |= bit                            any row, or closed & line: double free
 *       if !(has_free & line)                 closed |= line
 *           has_free |= line                  if (has_free & line)
 *           if (closed & line)                    has_free &= ~line
 *               row & bit still: double free      any row still: double free
 *
 * At least one of the two sees what the other wrote. Yet who sees both a bit of a row and the mark of
 * a closed row may have seen two states of an innocent line. So he takes the bit out of the row, and
 * looks again: nobody can close a row of which he holds a frame, so if it is closed still, it was so
 * before, and the frame was free twice. If not, the bit goes back. The same is done by whoever tells
 * `has_free` of a line and finds it closed: a double free may have gone the short way meanwhile.
 */
#include "state.h"

/* --- one line --------------------------------------------------------------------------------- */

/* So many rows are exchanged at once. */
#ifdef __GCC_HAVE_SYNC_COMPARE_AND_SWAP_16
#define ROWS_AT_ONCE 2u
__extension__ typedef unsigned __int128 rows_t;
#define ALL_ONES (~(rows_t)0)

static inline bool exchange_rows(uint64_t *rows, rows_t from, rows_t to)
{
    /* Not the __atomic builtin, which calls a library. Full barrier (GCC manual, 6.54). */
    return __sync_bool_compare_and_swap((rows_t *)(void *)rows, from, to);
}
#else
#define ROWS_AT_ONCE 1u
typedef uint64_t rows_t;
#define ALL_ONES     UINT64_MAX

static inline bool exchange_rows(uint64_t *rows, rows_t from, rows_t to)
{
    return mmi_cas_seq(rows, &from, to);
}
#endif

/* Half-way, a frame was found to be taken: what was claimed before it goes back. */
MMI_NOINLINE static bool give_up(struct mm_frames *f, uint64_t line, uint64_t nr_rows)
{
    mmi_run_unclaim(f, line * MMI_LINE_FRAMES, nr_rows * MMI_ROW_FRAMES);
    return false;
}

MMI_INLINE bool claim_rows(struct mm_frames *f, uint64_t line)
{
    uint64_t *rows = &f->rows[line * MMI_LINE_ROWS];

#pragma GCC unroll 8
    for (unsigned i = 0; i < MMI_LINE_ROWS; i += ROWS_AT_ONCE) {
        if (MMI_UNLIKELY(!exchange_rows(&rows[i], ALL_ONES, 0))) {
            return give_up(f, line, i);
        }
    }
    return true;
}

/* Exchange the marks of closed rows of a line, if they are `from`. */
MMI_INLINE bool exchange_closed(struct mm_frames *f, uint64_t line, uint64_t from, uint64_t to)
{
    uint64_t *word = &f->closed[line / 8];
    unsigned shift = (unsigned)(line % 8 * 8);
    uint64_t old = mmi_load(word);

    while ((old >> shift & MMI_CLOSED) == from) {
        if (MMI_LIKELY(mmi_cas_seq(word, &old, old ^ (from ^ to) << shift))) {
            return true;
        }
    }
    return false;
}

bool mmi_line_claim(struct mm_frames *f, uint64_t line)
{
    return exchange_closed(f, line, MMI_CLOSED, 0) || claim_rows(f, line);
}

bool mmi_line_free(struct mm_frames *f, uint64_t line)
{
    const uint64_t *group = mmi_word(f, line, 0);
    uint64_t fine;

    /* Of a double free nobody may see the rest of the line free, not for a moment. */
    if (MMI_UNLIKELY(!mmi_line_empty(f, line) || !exchange_closed(f, line, 0, MMI_CLOSED))) {
        return false;
    }
    fine = mmi_load_seq(&group[MMI_WHOLE]) & ~mmi_load_seq(&group[MMI_HAS_FREE]);
    if (MMI_UNLIKELY((fine & mmi_line_mask(line)) == 0)) {
        mmi_line_closed_slow(f, line);
    }
    return true;
}

_Noreturn void mmi_panic_in_closed(const struct mm_frames *f, uint64_t row, uint64_t found)
{
    uint64_t slot = row * MMI_ROW_FRAMES + mmi_ctz(found);
    struct mmi_claim claim = {"freed, beside the block that it is a part of, in row", row};

    mmi_frame_panic(f, "double free of a frame",
                    slot + mmi_span_of_line(f, row / MMI_LINE_ROWS)->bias, claim);
}

static void open_row(struct mm_frames *f, uint64_t row)
{
    uint64_t bit = UINT64_C(1) << (row % 64);
    uint64_t *word = &f->closed[row / 64];
    uint64_t old = mmi_load(word);
    uint64_t found;

    do {
        if ((old & bit) == 0) {
            return; /* somebody else does it, or has claimed the line */
        }
    } while (!mmi_cas_seq(word, &old, old & ~bit));
    found = mmi_exchange(&f->rows[row], UINT64_MAX);
    if (MMI_UNLIKELY(found != 0)) {
        mmi_panic_in_closed(f, row, found);
    }
    if (MMI_UNLIKELY(mmi_row_take_back(f, row, UINT64_MAX))) {
        mmi_panic_in_closed(f, row,
                            UINT64_MAX); /* closed while neither mark nor row had its frames */
    }
}

MMI_NOINLINE static void open_closed(struct mm_frames *f, uint64_t line)
{
    mmi_unsettled_begin(f);
    /* Again, if it was claimed and closed meanwhile: a line is never left half open. */
    while (mmi_closed_rows(f, line) != 0) {
        for (unsigned i = 0; i < MMI_LINE_ROWS; i++) {
            open_row(f, line * MMI_LINE_ROWS + i);
        }
    }
    mmi_line_opened(f, line);
    mmi_unsettled_end(f);
    if (MMI_UNLIKELY((mmi_load_seq(&f->flags) & MMI_FRAMES_PRESSED) != 0)) {
        /* Whoever counted meanwhile has missed them. */
        mmi_pressure_freed(f, line, MMI_LINE_FRAMES);
    }
}

void mmi_line_open(struct mm_frames *f, uint64_t line)
{
    if (MMI_UNLIKELY(mmi_closed_rows(f, line) != 0)) {
        open_closed(f, line);
    }
}

/* --- several lines ---------------------------------------------------------------------------- */

/* The highest of the lines that is not whole or is withheld, and corrects the summary; else
 * MMI_NO_SLOT. */
static uint64_t obstacle(struct mmi_ask *ask, uint64_t line, uint64_t nr)
{
    for (uint64_t i = nr; i-- > 0;) {
        if (mmi_line_withheld(ask, line + i)) {
            return line + i;
        }
        if (!mmi_line_whole(ask->f, line + i)) {
            if (mmi_line_bit(ask->f, line + i, MMI_WHOLE)) {
                mmi_line_unwhole(ask, line + i);
            }
            return line + i;
        }
    }
    return MMI_NO_SLOT;
}

/* An aligned block of `nr` lines that has `line` for one of its own, or is below; the walk goes on
 * below what was seen. */
static bool block_around(struct mmi_ask *ask, struct mmi_walk *w, uint64_t line, uint64_t nr,
                         uint64_t *pfn)
{
    const struct mm_frame_span *span = mmi_span_of_line(ask->f, line);
    uint64_t bias = span->bias / MMI_LINE_FRAMES; /* modulo 2^55: differences are right */
    uint64_t place = mm_align_down(line + bias, nr);
    uint64_t first = place - bias;
    uint64_t at;

    if (first < span->first_line || first >= span->first_line + span->nr_lines) {
        w->high = span->first_line; /* it would begin below the span */
        return false;
    }
    if (first + nr > span->first_line + span->nr_lines) {
        w->high = first;
        return false;
    }
    at = obstacle(ask, first, nr);
    if (at == MMI_NO_SLOT && mmi_run_claim(ask->f, first * MMI_LINE_FRAMES, nr * MMI_LINE_FRAMES)) {
        *pfn = place * MMI_LINE_FRAMES;
        return true;
    }
    /* No block has this place; the next one below may end where it began. */
    w->high = at == MMI_NO_SLOT ? line : first;
    return false;
}

bool mmi_line_alloc_by_hint(struct mm_frames *f, struct mmi_frame_cpu *cpu, uint64_t *pfn)
{
    uint64_t hint = mmi_load(&cpu->line);
    uint64_t line = mmi_hint_row(hint) / MMI_LINE_ROWS;

    if (!exchange_closed(f, line, MMI_CLOSED, 0) &&
        (!mmi_line_bit(f, line, MMI_WHOLE) || !claim_rows(f, line))) {
        return false;
    }
    *pfn = line * MMI_LINE_FRAMES + mmi_hint_span(f, hint)->bias;
    return true;
}

/* Not if the line is one that the CPU should come back from: nobody would take this hint back. */
static void keep_hint(struct mmi_ask *ask, const struct mm_frame_span *span, uint64_t line)
{
    if (mmi_is_local(ask) && mmi_may_hint(ask->f, line) &&
        !mmi_is_strayed(ask->f, ask->cpu->node, line)) {
        mmi_store(&ask->cpu->line, mmi_hint_to(ask->f, span, line * MMI_LINE_ROWS));
    }
}

/* One turn over the lines that the walk goes to. */
static bool search(struct mmi_ask *ask, struct mmi_walk *w, uint64_t nr, uint64_t *pfn)
{
    uint64_t line;

    while (mmi_walk_next(ask, w, &line)) {
        if (!mmi_line_whole(ask->f, line)) {
            mmi_line_unwhole(ask, line); /* or each search for a larger block would come here */
        } else if (nr != 1) {
            if (block_around(ask, w, line, nr, pfn)) {
                return true;
            }
        } else if (mmi_line_claim(ask->f, line)) {
            const struct mm_frame_span *span = mmi_span_of_line(ask->f, line);

            keep_hint(ask, span, line);
            *pfn = line * MMI_LINE_FRAMES + span->bias;
            return true;
        }
    }
    return false;
}

/* A line that is known to be zero, of the nearest area alone: not to zero a block is no reason to
 * take it from another node, or from what devices need. */
static bool search_zeroed(struct mmi_ask *ask, uint64_t *pfn)
{
    const struct mm_frames *f = ask->f;
    const struct mmi_frame_area *nearest;
    struct mmi_walk w;
    bool found;

    if (f->nr_areas == 0) {
        return false;
    }
    nearest = &f->areas[f->order[(uint64_t)ask->from * f->nr_areas]];
    ask->avoid |= MMI_ONLY_ZEROED;
    mmi_walk_within(ask, &w, MMI_WHOLE, nearest->first_line, nearest->end_line);
    found = search(ask, &w, 1, pfn);
    ask->avoid &= ~MMI_ONLY_ZEROED;
    return found;
}

bool mmi_lines_alloc(struct mmi_ask *ask, unsigned order, bool to_zero, uint64_t *pfn)
{
    uint64_t size = UINT64_C(1) << order;
    struct mmi_run_wish wish = {.nr = size, .align = size, .high = MMI_PFN_END};

    if (to_zero && order == MMI_LINE_ORDER &&
        (mmi_load(&ask->f->flags) & MM_FRAMES_KNOWN_ZERO) != 0 && search_zeroed(ask, pfn)) {
        return true;
    }
    if (order == MMI_LINE_ORDER && mmi_is_local(ask) &&
        mmi_line_alloc_by_hint(ask->f, ask->cpu, pfn)) {
        return true;
    }
    for (unsigned tries = 0; tries < MMI_TRIES_MAX; tries++) {
        struct mmi_walk w;

        mmi_turn_begin(ask);
        mmi_walk_begin(ask, &w, MMI_WHOLE, MMI_FROM_TOP);
        if (search(ask, &w, size / MMI_LINE_FRAMES, pfn)) {
            return true;
        }
        if (mmi_settled(ask)) {
            return false;
        }
    }
    return mmi_run_alloc_exact(ask, &wish, pfn);
}
