// SPDX-License-Identifier: MIT
/**
 * Giving frames back: blocks, runs and lists.
 *
 * Freeing sets bits. The old value of the row tells, in the same atomic step, whether one of them
 * was set already: so a double free is found whoever freed first, and nothing is changed by it. A
 * frame that has no slot, or whose line is absent, is reserved or foreign. Both are corruption and
 * panic. Records of a frame belong to who holds it: they are looked at, and cleared, before the bit
 * is set.
 */
#include "state.h"

/* --- one row ---------------------------------------------------------------------------------- */

/* A frame that has a bit already: one of `slot`'s row, which holds `pfn`. */
static _Noreturn MMI_NOINLINE void panic_double(const struct mm_frames *f, uint64_t pfn,
                                                uint64_t slot, uint64_t bits,
                                                struct mmi_claim claim)
{
    mmi_frame_panic(f, "double free of a frame", pfn - slot % MMI_ROW_FRAMES + mmi_ctz(bits),
                    claim);
}

/* How far the first free frame of the line of `slot` is from its start. */
static uint64_t first_free(const struct mm_frames *f, uint64_t slot)
{
    uint64_t row = slot / MMI_ROW_FRAMES;

    for (unsigned i = 0; i < MMI_LINE_ROWS; i++) {
        uint64_t bits = mmi_row_free(f, row + i);

        if (bits != 0) {
            return i * (uint64_t)MMI_ROW_FRAMES + mmi_ctz(bits);
        }
    }
    return 0; /* who freed it has taken it back, and panics too */
}

/* What flags switch on, for frames that are allocated, have been checked, and lie in one line. */
static void let_go(struct mm_frames *f, uint64_t pfn, uint64_t slot, uint64_t nr)
{
    uint64_t line = slot / MMI_LINE_FRAMES;
    uint32_t flags = mmi_load(&f->flags);

    mmi_owners_clear(f, slot, nr);
    if ((flags & MM_FRAMES_POISON) != 0) {
        mmi_poison_fill(f, pfn, slot, nr);
    }
    if ((flags & MM_FRAMES_KNOWN_ZERO) != 0 && mmi_line_bit(f, line, MMI_ZERO)) {
        /* Before the bits are set: whoever claims the whole line afterwards must not believe it. */
        (void)mmi_fetch_and_seq(mmi_word(f, line, MMI_ZERO), ~mmi_line_mask(line));
    }
}

/* Set the bits of `mask` in the row of `slot`, which is the slot of `pfn`. */
static inline void set_row(struct mm_frames *f, uint64_t pfn, uint64_t slot, uint64_t mask,
                           struct mmi_claim claim)
{
    uint64_t row = slot / MMI_ROW_FRAMES;
    uint64_t old = mmi_load(&f->rows[row]);

    do {
        if (MMI_UNLIKELY((old & mask) != 0)) {
            panic_double(f, pfn, slot, old & mask, claim);
        }
    } while (MMI_UNLIKELY(!mmi_cas_seq(&f->rows[row], &old, old | mask)));
    if (MMI_UNLIKELY(!mmi_row_freed(f, row, old, mask))) {
        panic_double(f, pfn, slot, mask, claim);
    }
    if (MMI_UNLIKELY((mmi_load_seq(&f->flags) & MMI_FRAMES_PRESSED) != 0)) {
        mmi_pressure_freed(f, row / MMI_LINE_ROWS, mmi_popcount(mask));
    }
}

/* Free the line of `slot`, which is the slot of `pfn`, its first frame. */
static void set_line(struct mm_frames *f, uint64_t pfn, uint64_t slot, struct mmi_claim claim)
{
    if (MMI_UNLIKELY(!mmi_line_free(f, slot / MMI_LINE_FRAMES))) {
        mmi_frame_panic(f, "double free of a frame", pfn + first_free(f, slot), claim);
    }
    if (MMI_UNLIKELY((mmi_load_seq(&f->flags) & MMI_FRAMES_PRESSED) != 0)) {
        mmi_pressure_freed(f, slot / MMI_LINE_FRAMES, MMI_LINE_FRAMES);
    }
}

/* --- runs ------------------------------------------------------------------------------------- */

/* The span of a frame that is to be freed; panics if it has none. */
static const struct mm_frame_span *span_of(const struct mm_frames *f, uint64_t pfn,
                                           struct mmi_claim claim)
{
    const struct mm_frame_span *span;

    mmi_frames_not_null(f);
    span = mmi_frame_span(f, pfn);
    if (span != NULL) {
        return span;
    }
    mmi_frame_panic(f, "free of a frame that is not managed", pfn, claim);
}

/* The part of a run that lies in the span of its first frame; panics if that has none. */
static uint64_t part_of(const struct mm_frames *f, uint64_t pfn, uint64_t nr,
                        struct mmi_claim claim, uint64_t *slot)
{
    uint64_t part = mmi_frame_part(f, pfn, nr, slot);

    if (part == 0) {
        mmi_frame_panic(f, "free of a frame that is not managed", pfn, claim);
    }
    return part;
}

/* Look at all of the run before any of it is freed. */
static void check_run(const struct mm_frames *f, uint64_t pfn, uint64_t nr, struct mmi_claim claim)
{
    while (nr != 0) {
        uint64_t slot;
        uint64_t in_span = part_of(f, pfn, nr, claim, &slot);
        unsigned part;

        for (uint64_t done = 0; done < in_span; done += part) {
            uint64_t mask = mmi_row_part(slot + done, in_span - done, &part);
            uint64_t bits = mmi_row_free(f, (slot + done) / MMI_ROW_FRAMES) & mask;

            if (bits != 0) {
                panic_double(f, pfn + done, slot + done, bits, claim);
            }
        }
        mmi_refs_check(f, pfn, slot, in_span, claim);
        pfn += in_span;
        nr -= in_span;
    }
}

/* Free a run that has been looked at. */
static void free_checked(struct mm_frames *f, uint64_t pfn, uint64_t nr, struct mmi_claim claim)
{
    while (nr != 0) {
        uint64_t slot;
        uint64_t in_span = part_of(f, pfn, nr, claim, &slot);
        unsigned part;

        for (uint64_t done = 0; done < in_span; done += part) {
            uint64_t mask = mmi_row_part(slot + done, in_span - done, &part);

            if ((slot + done) % MMI_LINE_FRAMES == 0 && in_span - done >= MMI_LINE_FRAMES) {
                part = MMI_LINE_FRAMES;
                let_go(f, pfn + done, slot + done, part);
                set_line(f, pfn + done, slot + done, claim);
            } else {
                let_go(f, pfn + done, slot + done, part);
                set_row(f, pfn + done, slot + done, mask, claim);
            }
        }
        pfn += in_span;
        nr -= in_span;
    }
}

static void free_run(struct mm_frames *f, uint64_t pfn, uint64_t nr, struct mmi_claim claim)
{
    check_run(f, pfn, nr, claim);
    free_checked(f, pfn, nr, claim);
}

/* Frames of one row of the main span, where nothing is to be looked at but the bits. */
static inline bool free_in_main_row(struct mm_frames *f, uint64_t pfn, uint64_t nr,
                                    struct mmi_claim claim)
{
    uint64_t at = pfn - f->main_first;
    uint64_t slot = pfn - f->main_bias;

    if (mmi_load(&f->flags) != 0 || at >= f->main_nr || nr - 1 >= f->main_nr - at ||
        nr > MMI_ROW_FRAMES - slot % MMI_ROW_FRAMES) {
        return false;
    }
    set_row(f, pfn, slot, mmi_mask((unsigned)(slot % MMI_ROW_FRAMES), (unsigned)nr), claim);
    return true;
}

static void free_block(struct mm_frames *f, uint64_t pfn, struct mmi_claim claim)
{
    uint64_t order = claim.value;

    if (order > MM_FRAME_MAX_ORDER) {
        mmi_frame_panic(f, "free of a block of an order that does not exist", pfn, claim);
    }
    if (!mm_is_aligned(pfn, UINT64_C(1) << order)) {
        mmi_frame_panic(f, "free of a block that is not aligned to its size", pfn, claim);
    }
    free_run(f, pfn, UINT64_C(1) << order, claim);
}

/* Look at a frame that is to be freed. */
static void check_one(const struct mm_frames *f, uint64_t pfn, uint64_t slot,
                      struct mmi_claim claim)
{
    if (!mmi_slot_present(f, slot)) {
        mmi_frame_panic(f, "free of a frame that is not managed", pfn, claim);
    }
    if (mmi_slot_free(f, slot)) {
        mmi_frame_panic(f, "double free of a frame", pfn, claim);
    }
    mmi_refs_check(f, pfn, slot, 1, claim);
}

void mmi_frame_free_one(struct mm_frames *f, uint64_t pfn, uint64_t slot, struct mmi_claim claim)
{
    if (mmi_load(&f->flags) != 0) {
        check_one(f, pfn, slot, claim);
        let_go(f, pfn, slot, 1);
    }
    set_row(f, pfn, slot, UINT64_C(1) << (slot % MMI_ROW_FRAMES), claim);
}

/* A block of a whole line of the main span, where nothing is to be looked at but the bits. */
static inline bool free_main_line(struct mm_frames *f, uint64_t pfn, struct mmi_claim claim)
{
    uint64_t at = pfn - f->main_first;

    if (mmi_load(&f->flags) != 0 || pfn % MMI_LINE_FRAMES != 0 || at >= f->main_nr ||
        f->main_nr - at < MMI_LINE_FRAMES) {
        return false;
    }
    set_line(f, pfn, pfn - f->main_bias, claim);
    return true;
}

/* Whatever there is no short way for. */
MMI_NOINLINE static void free_any(struct mm_frames *f, uint64_t pfn, uint32_t order,
                                  struct mmi_claim claim)
{
    uint64_t slot;

    if (order != 0) {
        free_block(f, pfn, claim);
        return;
    }
    slot = mmi_frame_slot(f, pfn);
    if (slot == MMI_NO_SLOT) {
        mmi_frame_panic(f, "free of a frame that is not managed", pfn, claim);
    }
    mmi_frame_free_one(f, pfn, slot, claim);
}

/* Whatever is not the hot path: blocks that have a short way, and the rest. */
MMI_NOINLINE static void free_slow(struct mm_frames *f, uint64_t pfn, uint32_t order)
{
    struct mmi_claim claim = {"allocated, a block of order", order};

    if (order == MMI_LINE_ORDER && free_main_line(f, pfn, claim)) {
        return;
    }
    if (order - 1 < MMI_ROW_ORDER && mm_is_aligned(pfn, UINT64_C(1) << order) &&
        free_in_main_row(f, pfn, UINT64_C(1) << order, claim)) {
        return;
    }
    free_any(f, pfn, order, claim);
}

/* The last part of freeing a frame, when a summary does not know yet that its row is `now`. */
MMI_NOINLINE static void freed_slow(struct mm_frames *f, uint64_t pfn, uint64_t now)
{
    uint64_t row = (pfn - f->main_bias) / MMI_ROW_FRAMES;

    if (!mmi_row_freed_slow(f, row, now, UINT64_C(1) << (pfn % MMI_ROW_FRAMES))) {
        mmi_frame_panic(f, "double free of a frame", pfn,
                        (struct mmi_claim){"allocated, a block of order", 0});
    }
}

/* Whether a frame of the main span can be freed by its bit alone, though there are flags. */
static inline bool free_is_plain(const struct mm_frames *f, uint64_t pfn, uint32_t order)
{
    return order == 0 && mmi_load(&f->flags) == MM_FRAMES_REFCOUNTS &&
           mmi_load_acquire(&f->refs[pfn - f->main_bias]) == 0;
}

/*
 * The hot path is one frame of the main span, in an allocator without owners, that no summary needs
 * to hear of. Everything else is called last, so that it needs no stack frame. The
 * row is found from the frame number without the detour over the slot: where the frame has just
 * been allocated, the CPU waits for exactly this.
 */
MMI_HOT void mm_frame_free(struct mm_frames *frames, mm_pfn_t first, uint32_t order)
{
    uint64_t bit = UINT64_C(1) << (first.raw % MMI_ROW_FRAMES);
    uint64_t *rows;
    uint64_t old;
    uint64_t found;

    mmi_frames_not_null(frames);
    if (MMI_UNLIKELY(first.raw - frames->main_first >= frames->main_nr) ||
        ((order | mmi_load(&frames->flags)) != 0 && !free_is_plain(frames, first.raw, order))) {
        free_slow(frames, first.raw, order);
        return;
    }
    /* Read twice, so that the load need not wait for the address of the exchange. */
    rows = (uint64_t *)(uintptr_t)mmi_load(&frames->main_rows);
    old = mmi_load(&rows[first.raw / MMI_ROW_FRAMES]);
    found = old;
    rows = (uint64_t *)(uintptr_t)mmi_load(&frames->main_rows);
    if (MMI_UNLIKELY((old & bit) != 0 ||
                     !mmi_cas_seq(&rows[first.raw / MMI_ROW_FRAMES], &found, old | bit))) {
        free_slow(frames, first.raw, 0);
        return;
    }
    if (MMI_UNLIKELY(
            !mmi_row_fine(frames, (first.raw - frames->main_bias) / MMI_ROW_FRAMES, old | bit))) {
        freed_slow(frames, first.raw, old | bit);
    }
}

void mm_frame_free_run(struct mm_frames *frames, mm_pfn_t first, uint64_t nr_frames)
{
    struct mmi_claim claim = {"allocated, a run of frames", nr_frames};

    mmi_frames_not_null(frames);
    if (!free_in_main_row(frames, first.raw, nr_frames, claim)) {
        free_run(frames, first.raw, nr_frames, claim);
    }
}

void mm_frame_free_owned(struct mm_frames *frames, mm_pfn_t first, uint64_t nr_frames,
                         enum mm_frame_owner owner, uint64_t tag)
{
    struct mmi_claim claim = {mmi_frame_owner_str((uint32_t)owner), tag};
    uint64_t part;

    mmi_frames_not_null(frames);
    check_run(frames, first.raw, nr_frames, claim);
    for (uint64_t done = 0; done < nr_frames; done += part) {
        uint64_t slot;

        part = part_of(frames, first.raw + done, nr_frames - done, claim, &slot);
        mmi_owners_check(frames, first.raw + done, slot, part, (uint32_t)owner, claim);
    }
    free_checked(frames, first.raw, nr_frames, claim);
}

/* --- lists ------------------------------------------------------------------------------------ */

/* Whether the list begins with all frames of a row in their order, as bulk allocation gives them. */
static inline bool is_row(const mm_pfn_t *list, size_t count, uint64_t first)
{
    uint64_t other = 0;

    if (count < MMI_ROW_FRAMES || list[0].raw != first ||
        list[MMI_ROW_FRAMES - 1].raw != first + MMI_ROW_FRAMES - 1) {
        return false;
    }
#pragma GCC unroll 8
    for (uint64_t i = 0; i < MMI_ROW_FRAMES; i++) {
        other |= (list[i].raw - i) ^ first;
    }
    return other == 0;
}

/* How many frames of the list, from its start, lie among the 64 from `first` on; `*mask`: which. */
static inline size_t gather(const mm_pfn_t *list, size_t count, uint64_t first, uint64_t *mask)
{
    size_t i;

    if (is_row(list, count, first)) {
        *mask = UINT64_MAX;
        return MMI_ROW_FRAMES;
    }
    *mask = 0;
    for (i = 0; i < count && list[i].raw - first < MMI_ROW_FRAMES; i++) {
        *mask |= UINT64_C(1) << (list[i].raw - first);
    }
    return i;
}

/* Free what of the list, from its start, lies in the row of its first frame; how many those are. */
static size_t free_in_row(struct mm_frames *f, const mm_pfn_t *list, size_t count,
                          struct mmi_claim claim)
{
    uint64_t pfn = list[0].raw;
    const struct mm_frame_span *span = span_of(f, pfn, claim);
    uint64_t first = mm_align_down(pfn, MMI_ROW_FRAMES);
    uint64_t slot = first - span->bias;
    uint64_t possible = mmi_row_of_span(span, slot / MMI_ROW_FRAMES);
    uint32_t flags = mmi_load(&f->flags);
    uint64_t mask;
    size_t i = gather(list, count, first, &mask);

    if (MMI_LIKELY(flags == 0 && (mask & ~possible) == 0 && mmi_popcount(mask) == i)) {
        set_row(f, first, slot, mask, claim);
        return i;
    }
    /* There is more to look at, or something is wrong: one by one. */
    mask = 0;
    for (i = 0; i < count && list[i].raw - first < MMI_ROW_FRAMES; i++) {
        uint64_t bit = UINT64_C(1) << (list[i].raw - first);

        if ((possible & bit) == 0) {
            break; /* of another span, or of none */
        }
        if ((mask & bit) != 0) {
            mmi_frame_panic(f, "a frame twice in the list to be freed", list[i].raw, claim);
        }
        if (flags != 0) {
            check_one(f, list[i].raw, slot + (list[i].raw - first), claim);
        }
        mask |= bit;
    }
    for (uint64_t left = flags == 0 ? 0 : mask; left != 0; left &= left - 1) {
        let_go(f, first + mmi_ctz(left), slot + mmi_ctz(left), 1);
    }
    set_row(f, first, slot, mask, claim);
    return i;
}

void mm_frame_free_bulk(struct mm_frames *frames, const mm_pfn_t *list, size_t count)
{
    struct mmi_claim claim = {"allocated, in a list of frames", count};

    if (MMI_UNLIKELY(list == NULL && count != 0)) {
        mmi_frames_not_null(frames);
        mmi_frame_panic(frames, "free of a list of frames that is not there", 0, claim);
    }
    for (size_t done = 0; done < count;) {
        done += free_in_row(frames, list + done, count - done, claim);
    }
}

/* Drop a reference to what of the list, from its start, lies in the row of its first frame; how many
 * those are. */
static size_t put_in_row(struct mm_frames *f, const mm_pfn_t *list, size_t count,
                         struct mmi_claim claim, size_t *nr_freed)
{
    uint64_t pfn = list[0].raw;
    const struct mm_frame_span *span = span_of(f, pfn, claim);
    uint64_t first = mm_align_down(pfn, MMI_ROW_FRAMES);
    uint64_t slot = first - span->bias;
    uint64_t possible = mmi_row_of_span(span, slot / MMI_ROW_FRAMES);
    uint64_t mask = 0;
    size_t i;

    for (i = 0; i < count && list[i].raw - first < MMI_ROW_FRAMES; i++) {
        unsigned at = (unsigned)(list[i].raw - first);
        uint64_t bit = UINT64_C(1) << at;

        if ((possible & bit) == 0) {
            break; /* of another span, or of none */
        }
        if ((mask & bit) != 0) {
            mmi_frame_panic(f, "a frame more often in the list than it has references", list[i].raw,
                            claim);
        }
        if (mmi_refs_drop(f, list[i].raw, slot + at, claim)) {
            check_one(f, list[i].raw, slot + at, claim);
            mask |= bit;
        }
    }
    for (uint64_t left = mmi_load(&f->flags) == 0 ? 0 : mask; left != 0; left &= left - 1) {
        let_go(f, first + mmi_ctz(left), slot + mmi_ctz(left), 1);
    }
    if (mask != 0) {
        set_row(f, first, slot, mask, claim);
    }
    *nr_freed += mmi_popcount(mask);
    return i;
}

size_t mm_frame_put_bulk(struct mm_frames *frames, const mm_pfn_t *list, size_t count)
{
    struct mmi_claim claim = {"allocated, references less by a list", count};
    size_t nr_freed = 0;

    if (MMI_UNLIKELY(list == NULL && count != 0)) {
        mmi_frames_not_null(frames);
        mmi_frame_panic(frames, "put of a list of frames that is not there", 0, claim);
    }
    for (size_t done = 0; done < count;) {
        done += put_in_row(frames, list + done, count - done, claim, &nr_freed);
    }
    return nr_freed;
}

/* --- references of a run ---------------------------------------------------------------------- */

/* Which of the frames `mask` of the row of `slot` this was the last reference to. */
static uint64_t drop_in_row(struct mm_frames *f, uint64_t pfn, uint64_t slot, uint64_t mask,
                            struct mmi_claim claim)
{
    uint64_t row_pfn = pfn - slot % MMI_ROW_FRAMES;
    uint64_t row_slot = mm_align_down(slot, MMI_ROW_FRAMES);
    uint64_t freed = 0;

    for (uint64_t left = mask; left != 0; left &= left - 1) {
        unsigned i = mmi_ctz(left);

        freed |= mmi_refs_drop(f, row_pfn + i, row_slot + i, claim) ? UINT64_C(1) << i : 0;
    }
    return freed;
}

/* Nobody else holds any of the frames, and nobody who does not may touch a count. */
static bool all_last(const struct mm_frames *f, uint64_t slot, unsigned nr)
{
    uint32_t others = 0;

    if (f->refs == NULL) {
        return true;
    }
    for (unsigned i = 0; i < nr; i++) {
        others |= mmi_load_acquire(&f->refs[slot + i]);
    }
    return others == 0;
}

/* Drop a reference to each of `nr` frames of one row; how many were freed. */
static unsigned put_row(struct mm_frames *f, uint64_t pfn, uint64_t slot, unsigned nr,
                        struct mmi_claim claim)
{
    uint64_t mask = mmi_mask((unsigned)(slot % MMI_ROW_FRAMES), nr);

    if (MMI_LIKELY(all_last(f, slot, nr))) {
        if (mmi_load(&f->flags) != 0) {
            let_go(f, pfn, slot, nr);
        }
    } else {
        mask = drop_in_row(f, pfn, slot, mask, claim);
        for (uint64_t left = mask; left != 0; left &= left - 1) {
            uint64_t at = mmi_ctz(left) - slot % MMI_ROW_FRAMES;

            let_go(f, pfn + at, slot + at, 1);
        }
    }
    if (mask != 0) {
        set_row(f, pfn, slot, mask, claim);
    }
    return mmi_popcount(mask);
}

uint64_t mm_frame_put_run(struct mm_frames *frames, mm_pfn_t first, uint64_t nr_frames)
{
    struct mmi_claim claim = {"allocated, references less by a run", nr_frames};
    uint64_t pfn = first.raw;
    uint64_t freed = 0;

    mmi_frames_not_null(frames);
    while (nr_frames != 0) {
        uint64_t slot;
        uint64_t in_span = part_of(frames, pfn, nr_frames, claim, &slot);
        unsigned part;

        for (uint64_t done = 0; done < in_span; done += part) {
            (void)mmi_row_part(slot + done, in_span - done, &part);
            freed += put_row(frames, pfn + done, slot + done, part, claim);
        }
        pfn += in_span;
        nr_frames -= in_span;
    }
    return freed;
}
