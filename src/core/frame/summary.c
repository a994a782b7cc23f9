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
 * line with a free frame is in the summary when both have returned. The mark of a closed line, which
 * is true and no summary, stands for bits of rows in this: `whole` is its summary. So searches for
 * frames and runs go to lines in `has_free` or in `whole`.
 *
 * What was searched for in vain is remembered in the same way, with `calm` in the place of the
 * summary: so a free looks at one bit, whatever was searched for. Who marks sets the `vain` bit
 * before it clears `calm`, and who frees sets `calm` before it clears the `vain` bits: were it the
 * other way round, a mark that is set between the two would stay, and the line be calm.
 *
 * Between two steps a summary may say too little. So whoever finds nothing through summaries makes
 * sure that no summary was corrected meanwhile, be it by a clear or by a free: both count
 * themselves in `unsettled` before the first step and after the last one. If one was, it looks
 * again, and at last at the rows themselves. A free that finds all summaries as they should be
 * counts nothing; the line that it belongs to has not been passed by, since who passes a line takes
 * it out of a summary, and if it cannot, because there is something in the line after all, knows that
 * it must look again.
 *
 * Allocating does not touch the summaries at all: a line that is used up is taken out by whom it
 * disappoints, once.
 */
#include "state.h"

/* --- what the rows say ------------------------------------------------------------------------ */

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
    if (mmi_line_closed(f, line)) {
        return true;
    }
    for (unsigned i = 0; i < MMI_LINE_ROWS; i++) {
        if (mmi_row_free(f, line * MMI_LINE_ROWS + i) != UINT64_MAX) {
            return false;
        }
    }
    return true;
}

uint64_t mmi_line_count(const struct mm_frames *f, uint64_t line)
{
    uint64_t nr = 0;

    for (unsigned i = 0; i < MMI_LINE_ROWS; i++) {
        nr += mmi_popcount(mmi_row_free(f, line * MMI_LINE_ROWS + i));
    }
    return nr;
}

bool mmi_block_in_line(const struct mm_frames *f, uint64_t line, unsigned order)
{
    unsigned whole_rows = order <= MMI_ROW_ORDER ? 1 : 1u << (order - MMI_ROW_ORDER);
    unsigned found = 0;

    for (unsigned i = 0; i < MMI_LINE_ROWS; i++) {
        uint64_t row = mmi_load_seq(&f->rows[line * MMI_LINE_ROWS + i]);

        found = i % whole_rows == 0 ? 0 : found;
        found += mmi_row_fits(row, order <= MMI_ROW_ORDER ? order : MMI_ROW_ORDER) != 0 ? 1 : 0;
        if (found == whole_rows) {
            return true;
        }
    }
    return false;
}

/* --- corrections ------------------------------------------------------------------------------ */

void mmi_unsettled_begin(struct mm_frames *f)
{
    (void)__atomic_fetch_add(&f->unsettled, 1, __ATOMIC_SEQ_CST);
}

void mmi_unsettled_end(struct mm_frames *f)
{
    /* One less in the low half, one more in the high half. */
    (void)__atomic_fetch_add(&f->unsettled, (UINT64_C(1) << 32) - 1, __ATOMIC_SEQ_CST);
}

void mmi_turn_begin(struct mmi_ask *ask)
{
    ask->own = 0;
    ask->again = false;
    ask->before = mmi_load_seq(&ask->f->unsettled);
}

bool mmi_settled(const struct mmi_ask *ask)
{
    return !ask->again && (uint32_t)ask->before == 0 &&
           mmi_load_seq(&ask->f->unsettled) == ask->before + (ask->own << 32);
}

static void own_end(struct mmi_ask *ask)
{
    ask->own++;
    mmi_unsettled_end(ask->f);
}

/* --- setting ---------------------------------------------------------------------------------- */

/* A summary word of the line has, or gets, its bit; so has its top. */
static void promise(struct mm_frames *f, uint64_t line, unsigned word, unsigned top)
{
    uint64_t group = line / MMI_GROUP_LINES;
    uint64_t *at = mmi_top(f, top, group);

    (void)mmi_fetch_or_seq(mmi_word(f, line, word), mmi_line_mask(line));
    if ((mmi_load_seq(at) >> (group % 64) & 1) == 0) {
        (void)mmi_fetch_or_seq(at, UINT64_C(1) << (group % 64));
    }
}

static void clear_if_set(uint64_t *word, uint64_t mask)
{
    if ((mmi_load_seq(word) & mask) != 0) {
        (void)mmi_fetch_and_seq(word, ~mask);
    }
}

/* Groups that had nothing left to be searched may have something again. */
static void unbarren(struct mm_frames *f, uint64_t group)
{
    uint64_t mask = UINT64_C(1) << (group % 64);

    if ((mmi_load_seq(mmi_top(f, MMI_TOP_ANY_BARREN, group)) & mask) == 0) {
        return;
    }
    (void)mmi_fetch_and_seq(mmi_top(f, MMI_TOP_ANY_BARREN, group), ~mask);
    for (unsigned i = 0; i < MMI_NR_VAIN; i++) {
        clear_if_set(mmi_top(f, MMI_TOP_BARREN + i, group), mask);
    }
}

/* The bit of the line goes, and with the last one that of the group; whoever set another one
 * meanwhile, and saw the group's, is not forgotten. */
static void withdraw(struct mm_frames *f, uint64_t line, unsigned word, unsigned top)
{
    uint64_t mask = mmi_line_mask(line);
    uint64_t group = line / MMI_GROUP_LINES;

    if (mmi_fetch_and_seq(mmi_word(f, line, word), ~mask) == mask) {
        (void)mmi_fetch_and_seq(mmi_top(f, top, group), ~(UINT64_C(1) << (group % 64)));
        if (mmi_load_seq(mmi_word(f, line, word)) != 0) {
            (void)mmi_fetch_or_seq(mmi_top(f, top, group), UINT64_C(1) << (group % 64));
        }
    }
}

/* The rows of the line have free frames. If it has been closed meanwhile, it stays out, until it is
 * opened: false. */
static bool promise_free(struct mm_frames *f, uint64_t line)
{
    do {
        promise(f, line, MMI_HAS_FREE, MMI_TOP_HAS_FREE);
        unbarren(f, line / MMI_GROUP_LINES);
        if (MMI_LIKELY(!mmi_line_closed(f, line))) {
            return true;
        }
        withdraw(f, line, MMI_HAS_FREE, MMI_TOP_HAS_FREE);
    } while (!mmi_line_closed(f, line));
    return false;
}

/* Take back what was found in vain about a line: of runs, or of blocks too. */
static void unvain(struct mm_frames *f, uint64_t line, bool blocks_too)
{
    for (unsigned i = blocks_too ? MMI_VAIN_BLOCK : MMI_VAIN_RUN; i < MMI_GROUP_WORDS; i++) {
        clear_if_set(mmi_word(f, line, i), mmi_line_mask(line));
    }
    unbarren(f, line / MMI_GROUP_LINES);
}

/* Something was freed in a line that is not calm: searches may come again, here and for runs that
 * reach into it from beside. First it is calm, then the marks go; see above. */
static void calm_down(struct mm_frames *f, uint64_t line)
{
    (void)mmi_fetch_or_seq(mmi_word(f, line, MMI_CALM), mmi_line_mask(line));
    unvain(f, line, true);
    if (line > 0) {
        unvain(f, line - 1, false);
    }
    if (line + 1 < f->nr_lines) {
        unvain(f, line + 1, false);
    }
}

/* A row of the line has free frames, and is `now`. False: the line has been closed meanwhile. */
static bool tell(struct mm_frames *f, uint64_t line, uint64_t now)
{
    bool open = mmi_line_bit(f, line, MMI_HAS_FREE) || promise_free(f, line);

    if (!mmi_line_bit(f, line, MMI_CALM)) {
        calm_down(f, line);
    }
    if (now == UINT64_MAX && !mmi_line_bit(f, line, MMI_WHOLE) && mmi_line_whole(f, line)) {
        promise(f, line, MMI_WHOLE, MMI_TOP_WHOLE);
    }
    return open;
}

bool mmi_row_take_back(struct mm_frames *f, uint64_t row, uint64_t mask)
{
    uint64_t *at = &f->rows[row];
    uint64_t old = mmi_load_seq(at);
    bool proven = false;

    mmi_unsettled_begin(f);
    while (!proven && (old & mask) != 0 && mmi_row_closed(f, row)) {
        uint64_t held = old & mask;

        if (!mmi_cas_seq(at, &old, old & ~mask)) {
            continue;
        }
        proven = mmi_row_closed(f, row);
        if (!proven) {
            /* As any frame that comes back: others may have missed it in the meantime. */
            old = mmi_fetch_or_seq(at, held) | held;
            (void)tell(f, row / MMI_LINE_ROWS, old);
        }
    }
    mmi_unsettled_end(f);
    return proven;
}

/* A closed line was in the summary for a moment: whoever freed a frame of it just then has not seen
 * that it was free. */
static void look_into_closed(struct mm_frames *f, uint64_t line)
{
    for (uint64_t row = line * MMI_LINE_ROWS; row < (line + 1) * MMI_LINE_ROWS; row++) {
        uint64_t found = mmi_load_seq(&f->rows[row]);

        if (MMI_UNLIKELY(found != 0 && mmi_row_take_back(f, row, found))) {
            mmi_panic_in_closed(f, row, found);
        }
    }
}

/* A line that searches had given up has free frames: CPUs that went elsewhere should know. */
static void come_back(struct mm_frames *f, uint64_t line)
{
    uint64_t strayed = mmi_load_seq(&f->strayed);
    const struct mmi_frame_area *area;

    if (MMI_LIKELY(strayed == 0) || line >= f->nr_lines) {
        return;
    }
    area = mmi_area_of_line(f, line);
    if (area->zone != MM_ZONE_DMA && (strayed >> area->node & 1) != 0) {
        mmi_hints_return(f, area->node);
    }
}

bool mmi_row_freed_slow(struct mm_frames *f, uint64_t row, uint64_t now, uint64_t mask)
{
    uint64_t line = row / MMI_LINE_ROWS;
    bool given_up = !mmi_line_bit(f, line, MMI_HAS_FREE);
    bool open;

    mmi_unsettled_begin(f);
    open = tell(f, line, now);
    mmi_store(&f->fresh, line);
    mmi_unsettled_end(f);
    if (MMI_UNLIKELY(!open)) {
        if (mmi_row_take_back(f, row, mask)) {
            return false;
        }
        look_into_closed(f, line);
    }
    if (given_up) {
        come_back(f, line); /* this may call the pressure op: not while others wait for the end */
    }
    return true;
}

void mmi_line_closed_slow(struct mm_frames *f, uint64_t line)
{
    bool had_free = mmi_line_bit(f, line, MMI_HAS_FREE);
    bool given_up = !mmi_line_bit(f, line, MMI_WHOLE);

    mmi_unsettled_begin(f);
    if (had_free) {
        withdraw(f, line, MMI_HAS_FREE, MMI_TOP_HAS_FREE);
        if (!mmi_line_closed(f, line)) {
            (void)promise_free(f, line); /* it was opened meanwhile */
        }
    }
    if (given_up) {
        promise(f, line, MMI_WHOLE, MMI_TOP_WHOLE);
    }
    mmi_unsettled_end(f);
    if (had_free) {
        look_into_closed(f, line);
    }
    if (given_up) {
        come_back(f, line);
    }
}

void mmi_line_opened(struct mm_frames *f, uint64_t line)
{
    if (MMI_UNLIKELY(!tell(f, line, 0))) {
        look_into_closed(f, line);
    }
}

/* --- clearing --------------------------------------------------------------------------------- */

bool mmi_line_retire_empty(struct mmi_ask *ask, uint64_t line)
{
    struct mm_frames *f = ask->f;
    bool empty;

    mmi_unsettled_begin(f);
    withdraw(f, line, MMI_HAS_FREE, MMI_TOP_HAS_FREE);
    empty = mmi_line_empty(f, line);
    if (MMI_UNLIKELY(!empty && !promise_free(f, line))) {
        look_into_closed(f, line);
    }
    own_end(ask);
    return empty;
}

bool mmi_line_retire(struct mmi_ask *ask, uint64_t line)
{
    const struct mm_frames *f = ask->f;

    if (line >= f->nr_lines || !mmi_line_bit(f, line, MMI_HAS_FREE)) {
        return true; /* who frees a frame in it now counts that */
    }
    return mmi_line_empty(f, line) && mmi_line_retire_empty(ask, line);
}

bool mmi_line_pass(struct mmi_ask *ask, uint64_t line)
{
    bool empty = mmi_line_retire(ask, line);

    if (line < ask->f->nr_lines && mmi_line_bit(ask->f, line, MMI_WHOLE)) {
        if (mmi_line_whole(ask->f, line)) {
            ask->again = true; /* it has just come back */
            return false;
        }
        mmi_line_unwhole(ask, line);
    }
    return empty;
}

void mmi_line_unwhole(struct mmi_ask *ask, uint64_t line)
{
    struct mm_frames *f = ask->f;

    mmi_unsettled_begin(f);
    withdraw(f, line, MMI_WHOLE, MMI_TOP_WHOLE);
    if (mmi_line_whole(f, line)) {
        promise(f, line, MMI_WHOLE, MMI_TOP_WHOLE);
        ask->again = true;
    }
    own_end(ask);
}

/* Whether a run that touches the line may lie in what is withheld: then it is no news. */
static bool withheld_near(const struct mmi_ask *ask, uint64_t line)
{
    return ask->avoid != 0 &&
           ((line > 0 && mmi_line_withheld(ask, line - 1)) || mmi_line_withheld(ask, line + 1));
}

void mmi_line_vain(struct mmi_ask *ask, uint64_t line, unsigned word)
{
    struct mm_frames *f = ask->f;
    bool run = word >= MMI_VAIN_RUN;

    if (!mmi_line_bit(f, line, MMI_HAS_FREE) || mmi_line_bit(f, line, word)) {
        return; /* searches pass it by already */
    }
    mmi_unsettled_begin(f);
    (void)mmi_fetch_or_seq(mmi_word(f, line, word), mmi_line_mask(line));
    (void)mmi_fetch_and_seq(mmi_word(f, line, MMI_CALM), ~mmi_line_mask(line));
    if (run && line > 0) {
        (void)mmi_fetch_and_seq(mmi_word(f, line - 1, MMI_CALM), ~mmi_line_mask(line - 1));
    }
    if (run && line + 1 < f->nr_lines) {
        (void)mmi_fetch_and_seq(mmi_word(f, line + 1, MMI_CALM), ~mmi_line_mask(line + 1));
    }
    if (run ? mmi_run_near(f, line, UINT64_C(2) << (word - MMI_VAIN_RUN))
            : mmi_block_in_line(f, line, word - MMI_VAIN_BLOCK + 1)) {
        clear_if_set(mmi_word(f, line, word), mmi_line_mask(line));
        unbarren(f, line / MMI_GROUP_LINES);
        ask->again = ask->again || !run || !withheld_near(ask, line);
    }
    own_end(ask);
}

/* Lines of a group that are worth a search for what the `vain` word speaks of. */
static uint64_t hopeful(const uint64_t *group, unsigned word)
{
    return mmi_load_seq(&group[MMI_HAS_FREE]) & ~mmi_load_seq(&group[word]);
}

/* No line of the group is: let searches pass it by. */
MMI_NOINLINE static void barren(struct mmi_ask *ask, uint64_t group, unsigned word)
{
    struct mm_frames *f = ask->f;
    uint64_t mask = UINT64_C(1) << (group % 64);
    uint64_t *top = mmi_top(f, MMI_TOP_BARREN + (word - MMI_VAIN_BLOCK), group);

    mmi_unsettled_begin(f);
    (void)mmi_fetch_or_seq(top, mask);
    (void)mmi_fetch_or_seq(mmi_top(f, MMI_TOP_ANY_BARREN, group), mask);
    if (hopeful(&f->groups[group * MMI_GROUP_WORDS], word) != 0) {
        (void)mmi_fetch_and_seq(top, ~mask);
    }
    own_end(ask);
}

/* --- finding ---------------------------------------------------------------------------------- */

bool mmi_line_withheld(const struct mmi_ask *ask, uint64_t line)
{
    return ((ask->avoid & MMI_NOT_RESERVE) != 0 && mmi_line_bit(ask->f, line, MMI_RESERVE)) ||
           ((ask->avoid & MMI_NOT_KERNEL) != 0 && mmi_line_bit(ask->f, line, MMI_KERNEL));
}

/* Lines of a group that are withheld from who asks. */
static uint64_t withheld(const struct mmi_ask *ask, const uint64_t *group)
{
    return ((ask->avoid & MMI_NOT_RESERVE) != 0 ? group[MMI_RESERVE] : 0) |
           ((ask->avoid & MMI_NOT_KERNEL) != 0 ? group[MMI_KERNEL] : 0);
}

/* Lines of a group that may be had: not withheld, and zeroed ones or others if that was said. */
static uint64_t allowed(const struct mmi_ask *ask, const uint64_t *group)
{
    uint64_t lines = ~withheld(ask, group);

    if ((ask->avoid & MMI_ONLY_ZEROED) != 0) {
        lines &= mmi_load(&group[MMI_ZERO]);
    }
    if ((ask->avoid & MMI_NOT_ZEROED) != 0) {
        lines &= ~mmi_load(&group[MMI_ZERO]);
    }
    return lines;
}

/* Lines of a group that qualify. */
MMI_INLINE uint64_t candidates(struct mmi_ask *ask, const struct mmi_pick *pick, uint64_t at)
{
    const uint64_t *group = &ask->f->groups[at * MMI_GROUP_WORDS];
    uint64_t lines = pick->word == MMI_WHOLE ? 0 : mmi_load_seq(&group[MMI_HAS_FREE]);

    if (pick->word >= MMI_VAIN_BLOCK && lines != 0) {
        lines &= ~mmi_load_seq(&group[pick->word]);
        if (lines == 0 && hopeful(group, pick->word) == 0) {
            barren(ask, at, pick->word);
        }
    }
    lines |= mmi_load_seq(&group[MMI_WHOLE]);
    if (lines == 0) {
        return 0;
    }
    if (pick->unhinted) {
        lines &= ~mmi_load(&group[MMI_HINTED]);
    }
    if (pick->mine) {
        lines &= mmi_load(&group[MMI_OPENED + ask->lifetime]) | mmi_load_seq(&group[MMI_WHOLE]);
    }
    return ask->avoid == 0 ? lines : lines & allowed(ask, group);
}

/* Groups of one word of the tops that may hold candidates. */
MMI_INLINE uint64_t promising(const struct mm_frames *f, unsigned word, uint64_t at)
{
    uint64_t whole = mmi_load_seq(&f->tops[MMI_TOP_WHOLE * f->top_words + at]);
    uint64_t others = 0;

    if (word != MMI_WHOLE) {
        others = mmi_load_seq(&f->tops[MMI_TOP_HAS_FREE * f->top_words + at]);
    }
    if (word >= MMI_VAIN_BLOCK) {
        others &=
            ~mmi_load_seq(&f->tops[(MMI_TOP_BARREN + word - MMI_VAIN_BLOCK) * f->top_words + at]);
    }
    return whole | others;
}

/* The highest group at or below `group`, and not below `lowest`, that may hold candidates. */
MMI_INLINE bool next_group(const struct mm_frames *f, unsigned word, uint64_t lowest,
                           uint64_t *group)
{
    uint64_t at = *group / 64;
    uint64_t groups = promising(f, word, at) & (UINT64_MAX >> (63 - *group % 64));

    while (groups == 0) {
        if (at <= lowest / 64) {
            return false;
        }
        groups = promising(f, word, --at);
    }
    *group = at * 64 + mmi_log2(groups);
    return *group >= lowest;
}

bool mmi_any_withheld(const struct mmi_ask *ask)
{
    const struct mm_frames *f = ask->f;
    uint64_t at = f->nr_lines / MMI_GROUP_LINES + 1;

    if (ask->avoid == 0) {
        return false;
    }
    while (at-- > 0 && next_group(f, MMI_HAS_FREE, 0, &at)) {
        const uint64_t *group = &f->groups[at * MMI_GROUP_WORDS];
        uint64_t lines = (mmi_load_seq(&group[MMI_HAS_FREE]) | mmi_load_seq(&group[MMI_WHOLE])) &
                         withheld(ask, group);

        for (; lines != 0; lines &= lines - 1) {
            if (mmi_line_count(f, at * MMI_GROUP_LINES + mmi_ctz(lines)) != 0) {
                return true;
            }
        }
    }
    return false;
}

bool mmi_line_find(struct mmi_ask *ask, const struct mmi_pick *pick, uint64_t low, uint64_t high,
                   uint64_t *line)
{
    uint64_t lowest = low / MMI_GROUP_LINES;
    uint64_t group;
    uint64_t lines;

    if (low >= high) {
        return false;
    }
    group = (high - 1) / MMI_GROUP_LINES;
    lines = candidates(ask, pick, group) & (UINT64_MAX >> (63 - (high - 1) % MMI_GROUP_LINES));
    while (lines == 0) {
        if (group <= lowest) {
            return false;
        }
        group--;
        if (!next_group(ask->f, pick->word, lowest, &group)) {
            return false;
        }
        lines = candidates(ask, pick, group);
    }
    *line = group * MMI_GROUP_LINES + mmi_log2(lines);
    return *line >= low;
}
