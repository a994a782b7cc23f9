// SPDX-License-Identifier: MIT
/**
 * Allocating what fits in a line: single frames, and blocks of order 1 to 8.
 *
 * The hot path is one load of the CPU's hint, one load and one compare-and-exchange of the row that
 * it names. When the row is used up, the other rows of the line follow; when the line is, the next
 * one is searched through the summaries, as areas.c tells, with a short way to a line that is near.
 * When that finds nothing, and no summary was being corrected meanwhile, there is no memory;
 * otherwise it is tried again, and at last the rows themselves are read.
 *
 * Two CPUs that use one CPU number at a time are slower, and right: a hint is replaced by exchange,
 * so each line's mark in `hinted` is taken back once, by who replaced the hint that owned it.
 */
#include "state.h"

#include "core/base/mem.h"

/* --- within a row, within a line -------------------------------------------------------------- */

static bool claim_in_row(struct mm_frames *f, uint64_t row, unsigned order, uint64_t *slot)
{
    uint64_t old = mmi_load(&f->rows[row]);
    uint64_t at;

    while ((at = mmi_row_fits(old, order)) != 0) {
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
    unsigned step = order <= MMI_ROW_ORDER ? 1 : 1u << (order - MMI_ROW_ORDER);

    for (unsigned i = 0; i < MMI_LINE_ROWS; i += step) {
        uint64_t at = first + (row + i) % MMI_LINE_ROWS;

        if (order <= MMI_ROW_ORDER ? claim_in_row(f, at, order, slot)
                                   : claim_rows(f, at, order, slot)) {
            return true;
        }
    }
    return false;
}

/* --- hints ------------------------------------------------------------------------------------ */

bool mmi_may_hint(const struct mm_frames *f, uint64_t line)
{
    return (mmi_load(&f->flags) & MM_FRAMES_POISON) == 0 &&
           (f->nr_withheld == 0 ||
            (!mmi_line_bit(f, line, MMI_RESERVE) && !mmi_line_bit(f, line, MMI_KERNEL)));
}

/* The lifetime takes the line as its own, if another one or none had it. */
static void open_line(struct mm_frames *f, uint64_t line, uint32_t lifetime)
{
    if ((mmi_load(mmi_word(f, line, MMI_OPENED + lifetime)) & mmi_line_mask(line)) != 0) {
        return;
    }
    for (unsigned i = 0; i < MMI_NR_LIFETIMES; i++) {
        uint64_t *word = mmi_word(f, line, MMI_OPENED + i);
        bool is = (mmi_load(word) & mmi_line_mask(line)) != 0;

        if (i == lifetime && !is) {
            (void)mmi_fetch_or(word, mmi_line_mask(line));
        } else if (i != lifetime && is) {
            (void)mmi_fetch_and(word, ~mmi_line_mask(line));
        }
    }
}

/* Point a hint to the row that was allocated from; `mark` the line as hinted if nobody has. */
static void move_hint(struct mm_frames *f, uint64_t *hint, const struct mm_frame_span *span,
                      uint64_t row, bool mark)
{
    uint64_t line = row / MMI_LINE_ROWS;
    uint64_t bit = mmi_line_mask(line);
    uint64_t new = mmi_hint_to(f, span, row);
    uint64_t old;

    if (mark && (mmi_fetch_or(mmi_word(f, line, MMI_HINTED), bit) & bit) == 0) {
        new |= MMI_HINT_OWNED;
    }
    old = mmi_exchange(hint, new);
    if ((old & MMI_HINT_OWNED) != 0) {
        line = mmi_hint_row(old) / MMI_LINE_ROWS;
        (void)mmi_fetch_and(mmi_word(f, line, MMI_HINTED), ~mmi_line_mask(line));
        if (MMI_UNLIKELY((mmi_load(&f->flags) & MMI_FRAMES_PRESSED) != 0)) {
            mmi_pressure_freed(f, line, mmi_line_count(f, line)); /* they count again */
        }
    }
}

bool mmi_is_strayed(const struct mm_frames *f, uint32_t node, uint64_t line)
{
    const struct mmi_frame_area *area;

    if (line >= f->nr_lines) {
        return false;
    }
    area = mmi_area_of_line(f, line);
    return area->node != node || area->zone == MM_ZONE_DMA;
}

void mmi_hints_return(struct mm_frames *f, uint32_t node)
{
    /* Before the hints are read: one that strays from now on sets the bit again. */
    (void)mmi_fetch_and_seq(&f->strayed, ~(UINT64_C(1) << node));
    for (uint32_t i = 0; i < f->nr_cpus; i++) {
        struct mmi_frame_cpu *cpu = (struct mmi_frame_cpu *)f->cpus + i;

        for (unsigned j = 0; cpu->node == node && j < MMI_NR_HINTS; j++) {
            uint64_t line = mmi_hint_row(mmi_load_seq(&cpu->hints[j])) / MMI_LINE_ROWS;

            if (mmi_is_strayed(f, node, line)) {
                move_hint(f, &cpu->hints[j], f->spans, mmi_nowhere_line(f) * MMI_LINE_ROWS, false);
            }
        }
    }
}

void mmi_settle_in(struct mmi_ask *ask, uint64_t *hint, uint64_t line, uint64_t row,
                   const struct mmi_walk *w)
{
    struct mm_frames *f = ask->f;

    if (w->stage == 0 && !w->others) {
        open_line(f, line, ask->lifetime);
    }
    if (hint != NULL && mmi_may_hint(f, line)) {
        move_hint(f, hint, mmi_span_of_line(f, line), row, w->stage == 0);
        if (MMI_UNLIKELY(mmi_is_strayed(f, ask->cpu->node, line))) {
            (void)mmi_fetch_or_seq(&f->strayed, UINT64_C(1) << ask->cpu->node);
        }
        if (MMI_UNLIKELY(mmi_load(&f->watched) != 0)) {
            /* The rest of the line will be taken without a word. */
            mmi_pressure_taken(f, line * MMI_LINE_FRAMES, mmi_line_count(f, line));
        }
    }
}

void mmi_frames_taken(struct mm_frames *f, uint64_t pfn, uint64_t slot, uint64_t nr)
{
    if (MMI_UNLIKELY((mmi_load(&f->flags) & MM_FRAMES_POISON) != 0)) {
        mmi_poison_verify(f, pfn, slot, nr);
    }
    if (MMI_UNLIKELY(mmi_load(&f->watched) != 0)) {
        mmi_pressure_taken(f, slot, nr);
    }
}

/* --- single frames and small blocks ----------------------------------------------------------- */

/* The word of the lines that a search in vain is remembered by; of single frames, has_free. */
static unsigned word_of(unsigned order)
{
    return order == 0 ? MMI_HAS_FREE : MMI_VAIN_BLOCK + order - 1;
}

/* The line holds no such block. */
static void pass_by(struct mmi_ask *ask, uint64_t line, unsigned order)
{
    bool empty = mmi_line_pass(ask, line);

    if (order == 0) {
        ask->again = ask->again || !empty;
    } else if (!empty) {
        mmi_line_vain(ask, line, word_of(order));
    }
}

/* One turn over all lines. */
static bool search(struct mmi_ask *ask, uint64_t *hint, unsigned order, uint64_t *pfn)
{
    uint64_t start = hint == NULL ? MMI_FROM_TOP : mmi_hint_row(mmi_load(hint)) / MMI_LINE_ROWS;
    struct mmi_walk w;
    uint64_t line;
    uint64_t slot;

    mmi_walk_begin(ask, &w, word_of(order), start);
    while (mmi_walk_next(ask, &w, &line)) {
        mmi_line_open(ask->f, line);
        if (claim_in_line(ask->f, line * MMI_LINE_ROWS, order, &slot)) {
            *pfn = slot + mmi_span_of_line(ask->f, line)->bias;
            mmi_settle_in(ask, hint, line, slot / MMI_ROW_FRAMES, &w);
            mmi_frames_taken(ask->f, *pfn, slot, UINT64_C(1) << order);
            return true;
        }
        pass_by(ask, line, order);
    }
    return false;
}

/* In the line that the hint names. */
static bool claim_by_hint(struct mmi_ask *ask, uint64_t *hint, unsigned order, uint64_t *pfn)
{
    uint64_t old = mmi_load(hint);
    uint64_t slot;
    uint64_t new;

    if (!claim_in_line(ask->f, mmi_hint_row(old), order, &slot)) {
        pass_by(ask, mmi_hint_row(old) / MMI_LINE_ROWS, order);
        return false;
    }
    new = mmi_hint_at(old, slot / MMI_ROW_FRAMES);
    *pfn = slot + mmi_hint_span(ask->f, old)->bias;
    if (new != old) {
        (void)mmi_cas(hint, &old, new); /* or the hint is on another line by now */
    }
    return true;
}

bool mmi_frame_alloc_order(struct mmi_ask *ask, unsigned order, uint64_t *pfn)
{
    uint64_t size = UINT64_C(1) << order;
    struct mmi_run_wish wish = {.nr = size, .align = size, .high = MMI_PFN_END};
    uint64_t *hint = mmi_is_local(ask) ? mmi_hint_of(ask->cpu, ask->lifetime, order) : NULL;

    if (hint != NULL && claim_by_hint(ask, hint, order, pfn)) {
        return true;
    }
    for (unsigned tries = 0; tries < MMI_TRIES_MAX; tries++) {
        mmi_turn_begin(ask);
        if (search(ask, hint, order, pfn)) {
            return true;
        }
        if (mmi_settled(ask)) {
            return false;
        }
    }
    if (!mmi_run_alloc_exact(ask, &wish, pfn)) {
        return false;
    }
    mmi_frames_taken(ask->f, *pfn, mmi_frame_slot(ask->f, *pfn), size);
    return true;
}

mm_status_t mmi_frame_failed(struct mm_frames *f, enum mm_frame_cause cause, uint64_t nr_frames)
{
    (void)mmi_fetch_add(&f->nr_failed_by[cause], 1);
    mmi_event(&f->platform, MM_EVENT_FRAME_EXHAUSTED, f, 0, nr_frames * MM_PAGE_SIZE);
    return MM_ERR_NO_MEMORY;
}

/* --- single frames: where the hot path ends ---------------------------------------------------- */

/*
 * Where memory is nearly full, a line has some ten free frames in six of its rows. Then it pays to
 * know which rows those are, and to leave the hint on a row that is used up, so that each frame goes
 * the same way. So a CPU keeps in `left`, beside its hint for single frames, which rows of a line
 * may have frames that the hot path does not come to: bit n of the low byte says so of row n, what
 * is above names the line. It is believed where it says that there is something: the row is read,
 * and claimed from by exchange. Where it says "nothing", or speaks of another line than the hint,
 * the rows are read again.
 */
static inline uint64_t row_left(const uint64_t *row, unsigned i)
{
    return (uint64_t)(mmi_load(&row[i]) != 0) << i;
}

/* The rows of a line that have free frames, a bit each. */
static inline uint64_t rows_left(const struct mm_frames *f, uint64_t line)
{
    const uint64_t *row = &f->rows[line * MMI_LINE_ROWS];

    /* Not a loop, nor a branch: which rows those are cannot be predicted. */
    return row_left(row, 0) | row_left(row, 1) | row_left(row, 2) | row_left(row, 3) |
           row_left(row, 4) | row_left(row, 5) | row_left(row, 6) | row_left(row, 7);
}

/* One frame from the rows of the line that `*left` names. The row goes from there if it has no more,
 * or if the hint should move to it, which is for the caller to do: it is rich, with two more. */
static inline bool claim_left(struct mm_frames *f, uint64_t line, uint64_t *left, uint64_t *slot,
                              bool *rich)
{
    while (MMI_LIKELY(*left != 0)) {
        uint64_t row = line * MMI_LINE_ROWS + mmi_ctz_word(*left);
        uint64_t bits = mmi_load(&f->rows[row]);
        uint64_t more = bits & (bits - 1);

        if (MMI_UNLIKELY(bits == 0)) {
            *left &= *left - 1;
            continue;
        }
        *slot = row * MMI_ROW_FRAMES + mmi_ctz_word(bits);
        if (MMI_LIKELY(mmi_cas(&f->rows[row], &bits, more))) {
            *rich = (more & (more - 1)) != 0;
            *left &= *left - ((more == 0) | *rich);
            return true;
        }
    }
    return false;
}

/* One frame from the line that the hint names. */
static inline bool alloc_in_line(struct mm_frames *f, struct mmi_frame_cpu *cpu, uint64_t *pfn)
{
    uint64_t *hint = mmi_hint_of(cpu, MM_LIFETIME_ANY, 0);
    uint64_t old = mmi_load(hint);
    uint64_t line = mmi_hint_row(old) / MMI_LINE_ROWS;
    uint64_t left = mmi_load(&cpu->left) ^ line << MMI_LINE_ROWS;
    uint64_t slot;
    bool rich;

    if (MMI_UNLIKELY(left - 1 >= UINT8_MAX)) {
        left = rows_left(f, line); /* it said "nothing", or spoke of another line */
    }
    if (!claim_left(f, line, &left, &slot, &rich)) {
        return false;
    }
    mmi_store(&cpu->left, left | line << MMI_LINE_ROWS);
    *pfn = slot + mmi_hint_span(f, old)->bias;
    if (rich) {
        (void)mmi_cas(hint, &old, mmi_hint_at(old, slot / MMI_ROW_FRAMES)); /* or it moved on */
    }
    return true;
}

/* The next line of this one's group, if a walk that begins at this one has it as its next, and there
 * is nothing but the hint to be told of it. */
static inline bool next_in_group(const struct mm_frames *f, const struct mmi_frame_cpu *cpu,
                                 uint64_t hint, uint64_t *line)
{
    uint64_t this_line = mmi_hint_row(hint) / MMI_LINE_ROWS;
    const uint64_t *group = mmi_word(f, this_line, 0);
    const struct mmi_frame_area *area;
    uint64_t lines;

    if (this_line >= f->nr_lines || f->nr_withheld != 0 || mmi_load(&f->watched) != 0) {
        return false;
    }
    area = &f->areas[f->order[(uint64_t)cpu->node * f->nr_areas]]; /* the nearest */
    if (this_line >= area->end_line || area->node != cpu->node || area->zone == MM_ZONE_DMA) {
        return false;
    }
    lines = mmi_load(&group[MMI_OPENED + MM_LIFETIME_ANY]) & mmi_load_seq(&group[MMI_HAS_FREE]);
    lines = (lines | mmi_load_seq(&group[MMI_WHOLE])) & ~mmi_load(&group[MMI_HINTED]);
    lines &= mmi_line_mask(this_line) - 1; /* downwards */
    if (lines == 0) {
        return false;
    }
    *line = this_line / MMI_GROUP_LINES * MMI_GROUP_LINES + mmi_log2(lines);
    return *line >= area->first_line && *line >= mmi_hint_span(f, hint)->first_line;
}

/* The line, which the hint names and which is empty, goes out of the summary; false: it was not. */
static inline bool retire(struct mmi_ask *ask, uint64_t line)
{
    return !mmi_line_bit(ask->f, line, MMI_HAS_FREE) || mmi_line_retire_empty(ask, line);
}

/* One frame from the line after the one that the hint names, which is used up: what a search would
 * do if that line is near and nothing is in the way. Else false, and a search does it. */
static inline bool alloc_in_next(struct mmi_ask *ask, uint64_t *pfn)
{
    struct mm_frames *f = ask->f;
    uint64_t *hint = mmi_hint_of(ask->cpu, MM_LIFETIME_ANY, 0);
    uint64_t old = mmi_load(hint);
    const struct mm_frame_span *span = mmi_hint_span(f, old);
    uint64_t line;
    uint64_t left;
    uint64_t slot;
    uint64_t row;
    bool rich;

    if (!next_in_group(f, ask->cpu, old, &line) ||
        !retire(ask, mmi_hint_row(old) / MMI_LINE_ROWS)) {
        return false;
    }
    mmi_line_open(f, line);
    left = rows_left(f, line);
    if (!claim_left(f, line, &left, &slot, &rich)) {
        return false;
    }
    row = slot / MMI_ROW_FRAMES;
    if (!rich && left != UINT8_MAX) {
        row = line * MMI_LINE_ROWS + mmi_ctz_word(~left); /* one that is used up */
    }
    *pfn = slot + span->bias;
    open_line(f, line, MM_LIFETIME_ANY);
    move_hint(f, hint, span, row, true);
    mmi_store(&ask->cpu->left, left | line << MMI_LINE_ROWS);
    return true;
}

/* The line of the hint is used up. Apart, so that what comes before saves no registers for it. */
MMI_NOINLINE static mm_status_t alloc_elsewhere(struct mm_frames *f, uint32_t cpu, mm_pfn_t *out)
{
    struct mmi_ask ask = mmi_ask(f, cpu);

    if (alloc_in_next(&ask, &out->raw)) {
        return MM_OK;
    }
    return mmi_frame_alloc_order(&ask, 0, &out->raw)
               ? MM_OK
               : mmi_frame_failed(f, mmi_frame_cause(&ask, false, 1), 1);
}

/* Apart, so that the hot path saves no register for it. */
MMI_NOINLINE static mm_status_t alloc_slow(struct mm_frames *f, uint32_t cpu, mm_pfn_t *out)
{
    return MMI_LIKELY(alloc_in_line(f, mmi_frame_cpu(f, cpu), &out->raw))
               ? MM_OK
               : alloc_elsewhere(f, cpu, out);
}

/* One frame from the row that the hint names; false: look elsewhere. */
static inline bool claim_hot(struct mm_frames *f, uint32_t cpu, uint64_t *pfn)
{
    uint64_t hint = mmi_load(mmi_hint_of(mmi_frame_cpu(f, cpu), MM_LIFETIME_ANY, 0));
    uint64_t *row = &f->rows[mmi_hint_row(hint)];
    uint64_t base = mmi_hint_row(hint) * MMI_ROW_FRAMES + mmi_hint_span(f, hint)->bias;
    uint64_t old = mmi_load(row);
    uint64_t found = old;
    uint64_t frame;

    if (MMI_UNLIKELY(old == 0)) {
        return false;
    }
    /* From what was read, not from what the exchange found, which is the same and comes later. */
    frame = base + mmi_ctz_word(old);
    if (MMI_UNLIKELY(!mmi_cas(row, &found, old & (old - 1)))) {
        return false;
    }
    *pfn = frame;
    return true;
}

MMI_HOT mm_status_t mm_frame_alloc_on(struct mm_frames *frames, uint32_t cpu, mm_pfn_t *out)
{
    return MMI_LIKELY(claim_hot(frames, cpu, &out->raw)) ? MM_OK : alloc_slow(frames, cpu, out);
}

/* --- single frames: for a page ----------------------------------------------------------------- */

/* The row of the hint has none. Withheld lines have no hints, so only what is searched for must know
 * who asks. */
MMI_NOINLINE static mm_status_t page_slow(struct mm_frames *f, uint32_t cpu, uint32_t owner,
                                          mm_pfn_t *out)
{
    const struct mm_frame_request request = {.owner = owner};

    if (MMI_LIKELY(alloc_in_line(f, mmi_frame_cpu(f, cpu), &out->raw))) {
        return MM_OK;
    }
    return f->nr_withheld == 0 ? alloc_elsewhere(f, cpu, out) : mm_frame_alloc(f, &request, out);
}

/* Not every frame can be zeroed here. */
MMI_NOINLINE static mm_status_t page_asked(struct mm_frames *f, uint32_t owner, uint64_t tag,
                                           mm_pfn_t *out)
{
    const struct mm_frame_request request = {.flags = MM_FRAME_ZERO, .owner = owner, .tag = tag};

    return mm_frame_alloc(f, &request, out);
}

mm_status_t mmi_frame_alloc_page(struct mm_frames *f, uint32_t cpu, uint32_t owner, uint64_t tag,
                                 bool zero, mm_pfn_t *out)
{
    mm_status_t status = MM_OK;
    mm_pfn_t frame;

    if (MMI_UNLIKELY(zero && f->physmap_reaches == 0)) {
        return page_asked(f, owner, tag, out);
    }
    if (MMI_UNLIKELY(!claim_hot(f, cpu, &frame.raw))) {
        status = page_slow(f, cpu, owner, &frame);
    }
    if (MMI_UNLIKELY(status != MM_OK)) {
        return status;
    }
    if (zero) {
        memset(mm_physmap_ptr(&f->physmap, mm_pfn_addr(frame)), 0, MM_PAGE_SIZE);
    }
    if (MMI_UNLIKELY(f->tags != NULL)) {
        mmi_owners_set(f, mmi_frame_slot(f, frame.raw), 1, owner, tag);
    }
    *out = frame;
    return MM_OK;
}
