// SPDX-License-Identifier: MIT
/**
 * Single frames in bulk: whole rows at a time, from the line that the CPU's hint names and then from
 * whatever the summaries lead to.
 */
#include "state.h"

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

/* The same tiers as for others: the frames are no run, but lie in one line. */
static void taken_in_line(struct mm_frames *f, uint64_t bias, const mm_pfn_t *out, size_t nr)
{
    bool poison = (mmi_load(&f->flags) & MM_FRAMES_POISON) != 0;

    for (size_t i = 0; i < nr && poison; i++) {
        mmi_poison_verify(f, out[i].raw, out[i].raw - bias, 1);
    }
    if (MMI_UNLIKELY(nr != 0 && mmi_load(&f->watched) != 0)) {
        mmi_pressure_taken(f, mm_align_down(out[0].raw - bias, MMI_LINE_FRAMES), nr);
    }
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
    taken_in_line(f, span->bias, out, done);
    return done;
}

/* One turn over all lines. */
static size_t take_search(struct mmi_ask *ask, uint64_t *hint, mm_pfn_t *out, size_t count)
{
    size_t done = 0;
    struct mmi_walk w;
    uint64_t line;

    mmi_walk_begin(ask, &w, MMI_HAS_FREE, mmi_hint_row(mmi_load(hint)) / MMI_LINE_ROWS);
    while (done < count && mmi_walk_next(ask, &w, &line)) {
        uint64_t row = line * MMI_LINE_ROWS;

        mmi_line_open(ask->f, line);
        done += take_line(ask->f, mmi_span_of_line(ask->f, line), &row, out + done, count - done);
        if (done == count) {
            mmi_settle_in(ask, hint, line, row, &w);
        } else if (!mmi_line_pass(ask, line)) {
            ask->again = true;
        }
    }
    return done;
}

/* The last look, when others corrected summaries all the time. */
static size_t take_exact(struct mmi_ask *ask, mm_pfn_t *out, size_t count)
{
    struct mmi_run_wish wish = {.nr = 1, .align = 1, .high = MMI_PFN_END};
    size_t done = 0;

    while (done < count && mmi_run_alloc_exact(ask, &wish, &out[done].raw)) {
        mmi_frames_taken(ask->f, out[done].raw, mmi_frame_slot(ask->f, out[done].raw), 1);
        done++;
    }
    return done;
}

static size_t take_all(struct mmi_ask *ask, mm_pfn_t *out, size_t count)
{
    uint64_t *hint = mmi_hint_of(ask->cpu, MM_LIFETIME_ANY, 0);
    uint64_t old = mmi_load(hint);
    uint64_t row = mmi_hint_row(old);
    size_t done = take_line(ask->f, mmi_hint_span(ask->f, old), &row, out, count);

    if (done == count) {
        (void)mmi_cas(hint, &old, mmi_hint_at(old, row));
        return done;
    }
    (void)mmi_line_retire(ask, row / MMI_LINE_ROWS);
    for (unsigned tries = 0; tries < MMI_TRIES_MAX; tries++) {
        mmi_turn_begin(ask);
        done += take_search(ask, hint, out + done, count - done);
        if (done == count || mmi_settled(ask)) {
            return done;
        }
    }
    return done + take_exact(ask, out + done, count - done);
}

mm_status_t mm_frame_alloc_bulk(struct mm_frames *frames, uint32_t cpu, mm_pfn_t *out, size_t count,
                                size_t *nr_done)
{
    struct mmi_ask ask;

    if (frames == NULL || nr_done == NULL || (out == NULL && count != 0)) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (frames->magic != MMI_FRAME_MAGIC) {
        return MM_ERR_NOT_INITIALIZED;
    }
    ask = mmi_ask(frames, cpu);
    *nr_done = take_all(&ask, out, count);
    if (*nr_done == count) {
        return MM_OK;
    }
    return mmi_frame_failed(frames, mmi_frame_cause(&ask, false, 1), count - *nr_done);
}
