// SPDX-License-Identifier: MIT
/**
 * Zeroing frames, knowing that they are zero, and poison: all that reads or writes the memory
 * itself, through the physmap.
 *
 * Known zero. A line's bit in `zero` says: when the line is whole, its frames are zero. It is set by
 * who holds all of them and has zeroed them, before they are free again; a free of any frame takes
 * it away before the bit of that frame is set (free.c):
 *
 *     prezero                    free of a frame             allocation of the line
 *       claim all of the line      zero &= ~line               claim all of the line
 *       zero the frames            row |= bit                  is zero & line set?
 *       zero |= line
 *       rows = all ones
 *
 * Who claims all of a line has read every bit as 1, and so sees what each free did before. If he
 * finds the mark, no frame was freed since it was set, so none was in anybody's hands. What is
 * claimed and given back unseen (mmi_run_unclaim) was not written, but with zeroes, and leaves the
 * mark alone.
 *
 * Poison. A frame that is freed is filled before its bit is set, and marked in `poisoned`: it stays
 * unmarked where the physmap cannot reach it. Who has claimed it looks whether the fill is still
 * there, and takes the mark away before anybody else sees the frame. A claim that is given back
 * unseen has looked at nothing and taken no mark away.
 */
#include "state.h"

#include "core/base/mem.h"

#define WORDS (MM_PAGE_SIZE / sizeof(uint64_t))

/* --- zeroing ---------------------------------------------------------------------------------- */

static void zero_at(const struct mm_frames *f, void *at, uint64_t len, bool past_cache)
{
    if (past_cache) {
        f->ops.zero(f->ops_ctx, at, len);
    } else {
        memset(at, 0, (size_t)len);
    }
}

bool mmi_frames_zero(struct mm_frames *f, uint64_t pfn, uint64_t nr)
{
    const struct mm_physmap *m = &f->physmap;
    uint64_t len = nr << MM_PAGE_SHIFT;
    bool past_cache = len >= MM_FRAME_ZERO_PAST_CACHE && f->ops.zero != NULL;

    if (m->ops == NULL) {
        zero_at(f, mm_physmap_ptr(m, mm_pfn_addr(mm_pfn(pfn))), len, past_cache);
        return true;
    }
    for (uint64_t i = 0; i < nr; i++) {
        void *page = mm_physmap_get(m, mm_pfn(pfn + i));

        if (page == NULL) {
            return false;
        }
        zero_at(f, page, MM_PAGE_SIZE, past_cache);
        mm_physmap_put(m, page);
    }
    return true;
}

/* --- known zero ------------------------------------------------------------------------------- */

/* Whether the physmap, if it is a direct map, reaches all of a line. */
static bool reaches_line(const struct mm_frames *f, uint64_t pfn)
{
    return f->physmap.ops != NULL || f->physmap_reaches != 0 ||
           mm_physmap_covers(&f->physmap,
                             mm_prange(mm_pfn_addr(mm_pfn(pfn)), MMI_LINE_FRAMES * MM_PAGE_SIZE));
}

/* Zero a line that is free as a whole; MM_ERR_BUSY: it is not, or no longer. */
static mm_status_t prezero_line(struct mmi_ask *ask, uint64_t line)
{
    struct mm_frames *f = ask->f;
    uint64_t slot = line * MMI_LINE_FRAMES;
    uint64_t pfn = slot + mmi_span_of_line(f, line)->bias;
    bool zeroed;

    if (!mmi_line_whole(f, line)) {
        mmi_line_unwhole(ask, line);
        return MM_ERR_BUSY;
    }
    if (!reaches_line(f, pfn) || !mmi_line_claim(f, line)) {
        return MM_ERR_BUSY;
    }
    if ((mmi_load(&f->flags) & MM_FRAMES_POISON) != 0) {
        mmi_poison_verify(f, pfn, slot, MMI_LINE_FRAMES);
    }
    zeroed = mmi_frames_zero(f, pfn, MMI_LINE_FRAMES);
    if (zeroed) {
        (void)mmi_fetch_or_seq(mmi_word(f, line, MMI_ZERO), mmi_line_mask(line));
    }
    mmi_run_unclaim(f, slot, MMI_LINE_FRAMES);
    return zeroed ? MM_OK : MM_ERR_FAULT;
}

mm_status_t mm_frame_prezero(struct mm_frames *frames, uint64_t nr_blocks, uint64_t *nr_done)
{
    mm_status_t status = MM_OK;
    struct mmi_ask ask;
    struct mmi_walk w;
    uint64_t done = 0;
    uint64_t line;

    if (frames == NULL || nr_done == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (frames->magic != MMI_FRAME_MAGIC) {
        return MM_ERR_NOT_INITIALIZED;
    }
    if ((mmi_load(&frames->flags) & MM_FRAMES_KNOWN_ZERO) == 0) {
        return MM_ERR_UNSUPPORTED;
    }
    /* From near to far, as they will be asked for; the reserve is to be there at every moment. */
    ask = mmi_ask(frames, mmi_cpu_number(&frames->platform));
    ask.avoid |= MMI_NOT_ZEROED;
    mmi_walk_begin(&ask, &w, MMI_WHOLE, MMI_FROM_TOP);
    while (done < nr_blocks && status != MM_ERR_FAULT && mmi_walk_next(&ask, &w, &line)) {
        status = prezero_line(&ask, line);
        done += status == MM_OK ? 1 : 0;
    }
    if (status == MM_ERR_FAULT) {
        return status;
    }
    *nr_done = done;
    return MM_OK;
}

/* --- poison ----------------------------------------------------------------------------------- */

/* Where a frame is mapped, or NULL: the physmap does not reach it, or has no room. */
static uint64_t *map(const struct mm_frames *f, uint64_t pfn)
{
    const struct mm_physmap *m = &f->physmap;

    if (m->ops == NULL && f->physmap_reaches == 0 &&
        !mm_physmap_covers(m, mm_prange(mm_pfn_addr(mm_pfn(pfn)), MM_PAGE_SIZE))) {
        return NULL;
    }
    return mm_physmap_get(m, mm_pfn(pfn));
}

/* The frame was claimed by who calls, and freed before; `at` is the word that has changed. */
static _Noreturn MMI_NOINLINE void panic_written(const struct mm_frames *f, uint64_t pfn,
                                                 uint64_t at, uint64_t found)
{
    struct mm_panic_info info = {
        .room = "frame",
        .what = "written to after it was freed",
        .address = (pfn << MM_PAGE_SHIFT) + at * sizeof(uint64_t),
        .recorded = "free, filled with",
        .recorded_value = MM_FRAME_POISON,
        .claimed = "found there",
        .claimed_value = found,
    };

    mmi_panic(&f->platform, &info);
}

static void verify(struct mm_frames *f, uint64_t pfn)
{
    uint64_t *words = map(f, pfn);

    if (words == NULL) {
        return; /* there is no looking at it */
    }
    for (uint64_t i = 0; i < WORDS; i++) {
        uint64_t found = mmi_load(&words[i]);

        if (MMI_UNLIKELY(found != MM_FRAME_POISON)) {
            panic_written(f, pfn, i, found);
        }
    }
    mm_physmap_put(&f->physmap, words);
}

void mmi_poison_verify(struct mm_frames *f, uint64_t pfn, uint64_t slot, uint64_t nr)
{
    unsigned part;

    for (uint64_t done = 0; done < nr; done += part) {
        uint64_t mask = mmi_row_part(slot + done, nr - done, &part);
        uint64_t *word = &f->poisoned[(slot + done) / MMI_ROW_FRAMES];
        uint64_t row = slot + done - (slot + done) % MMI_ROW_FRAMES;
        uint64_t marked = mmi_load(word) & mask;

        for (uint64_t left = marked; left != 0; left &= left - 1) {
            verify(f, row + mmi_ctz(left) - slot + pfn);
        }
        if (marked != 0) {
            (void)mmi_fetch_and(word, ~marked);
        }
    }
}

void mmi_poison_fill(struct mm_frames *f, uint64_t pfn, uint64_t slot, uint64_t nr)
{
    for (uint64_t i = 0; i < nr; i++) {
        uint64_t *words = map(f, pfn + i);

        if (words == NULL) {
            continue;
        }
        for (uint64_t j = 0; j < WORDS; j++) {
            mmi_store(&words[j], MM_FRAME_POISON);
        }
        mm_physmap_put(&f->physmap, words);
        (void)mmi_fetch_or(&f->poisoned[(slot + i) / MMI_ROW_FRAMES],
                           UINT64_C(1) << ((slot + i) % MMI_ROW_FRAMES));
    }
}
