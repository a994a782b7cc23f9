// SPDX-License-Identifier: MIT
/**
 * Giving frames back: blocks, runs, lists, and the last reference.
 *
 * Freeing sets bits. The old value of the row tells, in the same atomic step, whether one of them
 * was set already: so a double free is found whoever freed first, and nothing is changed by it. A
 * frame that has no slot is reserved or foreign. Both are corruption and panic.
 *
 * Reference counts are kept as their excess over 1. A free frame has 0, a frame that has just been
 * allocated has 0 too, so neither allocating nor freeing writes the array; freeing reads it if
 * there is one.
 */
#include "state.h"

/* What the caller says, for the panic. */
struct claim {
    const char *text;
    uint64_t value;
};

/* --- corruption ------------------------------------------------------------------------------- */

static bool is_free(const struct mm_frames *f, uint64_t slot)
{
    return mmi_bit(f->rows, slot);
}

/* What is on record about a frame. */
static const char *record_of(const struct mm_frames *f, uint64_t pfn, uint64_t *value)
{
    uint64_t slot = mmi_frame_slot(f, pfn);
    uint32_t refs;

    *value = 0;
    if (slot == MMI_NO_SLOT) {
        const struct mm_frame_span *last = f->nr_spans == 0 ? NULL : &f->spans[f->nr_spans - 1];

        return last == NULL || pfn < f->spans[0].first || pfn >= last->first + last->nr
                   ? "foreign: outside of all memory"
                   : "reserved: not usable memory";
    }
    if (is_free(f, slot)) {
        return "free";
    }
    refs = f->refs == NULL ? 0 : mmi_load(&f->refs[slot]);
    if (refs != 0) {
        *value = refs < MMI_REFS_IMMORTAL ? refs + UINT64_C(1) : MM_FRAME_REF_IMMORTAL;
        return refs < MMI_REFS_IMMORTAL ? "allocated, references" : "allocated, immortal";
    }
    if (f->owners != NULL) {
        *value = mmi_load(&f->owners[slot]);
        return mmi_frame_owner_str((uint32_t)*value);
    }
    *value = 1;
    return "allocated, references";
}

static _Noreturn void panic(const struct mm_frames *f, const char *what, uint64_t pfn,
                            struct claim claim)
{
    struct mm_panic_info info = {
        .room = "frame",
        .what = what,
        .address = pfn << MM_PAGE_SHIFT,
        .claimed = claim.text,
        .claimed_value = claim.value,
    };

    info.recorded = record_of(f, pfn, &info.recorded_value);
    mmi_panic(&f->platform, &info);
}

/* A frame that has a bit already: one of `slot`'s row, which holds `pfn`. */
static _Noreturn MMI_NOINLINE void panic_double(const struct mm_frames *f, uint64_t pfn,
                                                uint64_t slot, uint64_t bits, struct claim claim)
{
    panic(f, "double free of a frame", pfn - slot % MMI_ROW_FRAMES + mmi_ctz(bits), claim);
}

/* --- one row ---------------------------------------------------------------------------------- */

/* Panic if one of the frames has references other than the caller's. */
static void check_refs(const struct mm_frames *f, uint64_t pfn, uint64_t slot, uint64_t nr,
                       struct claim claim)
{
    for (uint64_t i = 0; i < nr && f->refs != NULL; i++) {
        uint32_t refs = mmi_load_acquire(&f->refs[slot + i]);

        if (refs >= MMI_REFS_IMMORTAL) {
            panic(f, "free of an immortal frame", pfn + i, claim);
        }
        if (refs != 0) {
            panic(f, "free of a frame that others refer to", pfn + i, claim);
        }
    }
}

static void clear_owners(struct mm_frames *f, uint64_t slot, uint64_t nr)
{
    for (uint64_t i = 0; i < nr && f->owners != NULL; i++) {
        mmi_store(&f->owners[slot + i], MM_OWNER_NONE);
    }
}

/* Set the bits of `mask` in the row of `slot`, which is the slot of `pfn`. */
static inline void set_row(struct mm_frames *f, uint64_t pfn, uint64_t slot, uint64_t mask,
                           struct claim claim)
{
    uint64_t row = slot / MMI_ROW_FRAMES;
    uint64_t old = mmi_load(&f->rows[row]);

    do {
        if (MMI_UNLIKELY((old & mask) != 0)) {
            panic_double(f, pfn, slot, old & mask, claim);
        }
    } while (MMI_UNLIKELY(!mmi_cas_seq(&f->rows[row], &old, old | mask)));
    mmi_row_freed(f, row, old, mask);
}

/* --- runs ------------------------------------------------------------------------------------- */

/* A null allocator has no frame to take back, and no hook to tell: as a panic without one. */
static inline void not_null(const struct mm_frames *f)
{
    if (MMI_UNLIKELY(f == NULL)) {
        __builtin_trap();
    }
}

/* The span of a frame that is to be freed; panics if it has none. */
static const struct mm_frame_span *span_of(const struct mm_frames *f, uint64_t pfn,
                                           struct claim claim)
{
    const struct mm_frame_span *span;

    not_null(f);
    span = mmi_frame_span(f, pfn);
    if (span != NULL) {
        return span;
    }
    panic(f, "free of a frame that is not managed", pfn, claim);
}

/* The part of a run that lies in the span of its first frame; panics if that has none. */
static uint64_t part_of(const struct mm_frames *f, uint64_t pfn, uint64_t nr, struct claim claim,
                        uint64_t *slot)
{
    uint64_t part = mmi_frame_part(f, pfn, nr, slot);

    if (part == 0) {
        panic(f, "free of a frame that is not managed", pfn, claim);
    }
    return part;
}

/* Look at all of the run before any of it is freed. */
static void check_run(const struct mm_frames *f, uint64_t pfn, uint64_t nr, struct claim claim)
{
    while (nr != 0) {
        uint64_t slot;
        uint64_t in_span = part_of(f, pfn, nr, claim, &slot);
        unsigned part;

        for (uint64_t done = 0; done < in_span; done += part) {
            uint64_t mask = mmi_row_part(slot + done, in_span - done, &part);
            uint64_t bits = mmi_load(&f->rows[(slot + done) / MMI_ROW_FRAMES]) & mask;

            if (bits != 0) {
                panic_double(f, pfn + done, slot + done, bits, claim);
            }
        }
        check_refs(f, pfn, slot, in_span, claim);
        pfn += in_span;
        nr -= in_span;
    }
}

static void free_run(struct mm_frames *f, uint64_t pfn, uint64_t nr, struct claim claim)
{
    check_run(f, pfn, nr, claim);
    while (nr != 0) {
        uint64_t slot;
        uint64_t in_span = part_of(f, pfn, nr, claim, &slot);
        unsigned part;

        clear_owners(f, slot, in_span);
        for (uint64_t done = 0; done < in_span; done += part) {
            uint64_t mask = mmi_row_part(slot + done, in_span - done, &part);

            set_row(f, pfn + done, slot + done, mask, claim);
        }
        pfn += in_span;
        nr -= in_span;
    }
}

static void free_block(struct mm_frames *f, uint64_t pfn, struct claim claim)
{
    uint64_t order = claim.value;

    if (order > MM_FRAME_MAX_ORDER) {
        panic(f, "free of a block of an order that does not exist", pfn, claim);
    }
    if (!mm_is_aligned(pfn, UINT64_C(1) << order)) {
        panic(f, "free of a block that is not aligned to its size", pfn, claim);
    }
    free_run(f, pfn, UINT64_C(1) << order, claim);
}

/* Look at the count of a frame that is to be freed. Records belong to who holds it: those of a free
 * frame are not written to, and those of others not before the last panic that could name them. */
static void check_records(const struct mm_frames *f, uint64_t pfn, uint64_t slot,
                          struct claim claim)
{
    if (is_free(f, slot)) {
        panic(f, "double free of a frame", pfn, claim);
    }
    check_refs(f, pfn, slot, 1, claim);
}

/* One frame that has a slot. */
static void free_one(struct mm_frames *f, uint64_t pfn, uint64_t slot, struct claim claim)
{
    if (f->flags != 0) {
        check_records(f, pfn, slot, claim);
        clear_owners(f, slot, 1);
    }
    set_row(f, pfn, slot, UINT64_C(1) << (slot % MMI_ROW_FRAMES), claim);
}

/* Whatever is not the hot path: it looks at everything again, from the start. */
MMI_NOINLINE static void free_slow(struct mm_frames *f, uint64_t pfn, uint32_t order)
{
    struct claim claim = {"allocated, a block of order", order};
    uint64_t slot;

    if (order != 0) {
        free_block(f, pfn, claim);
        return;
    }
    slot = mmi_frame_slot(f, pfn);
    if (slot == MMI_NO_SLOT) {
        panic(f, "free of a frame that is not managed", pfn, claim);
    }
    free_one(f, pfn, slot, claim);
}

/*
 * The hot path is one frame of the main span, in an allocator without owners, that no summary needs
 * to hear of. Everything else is called last, so that it needs no stack frame. The
 * row is found from the frame number without the detour over the slot: where the frame has just
 * been allocated, the CPU waits for exactly this.
 */
void mm_frame_free(struct mm_frames *frames, mm_pfn_t first, uint32_t order)
{
    uint64_t bit = UINT64_C(1) << (first.raw % MMI_ROW_FRAMES);
    uint64_t *rows;
    uint64_t old;
    uint64_t found;

    not_null(frames);
    if (MMI_UNLIKELY((order | (frames->flags & ~MM_FRAMES_REFCOUNTS)) != 0 ||
                     first.raw - frames->main_first >= frames->main_nr)) {
        free_slow(frames, first.raw, order);
        return;
    }
    if (frames->flags != 0 &&
        MMI_UNLIKELY(mmi_load_acquire(&frames->refs[first.raw - frames->main_bias]) != 0)) {
        free_slow(frames, first.raw, 0);
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
    mmi_row_freed(frames, (first.raw - frames->main_bias) / MMI_ROW_FRAMES, old, bit);
}

void mm_frame_free_run(struct mm_frames *frames, mm_pfn_t first, uint64_t nr_frames)
{
    not_null(frames);
    free_run(frames, first.raw, nr_frames, (struct claim){"allocated, a run of frames", nr_frames});
}

/* Free what of the list, from its start, lies in the row of its first frame; how many those are. */
static size_t free_in_row(struct mm_frames *f, const mm_pfn_t *list, size_t count,
                          struct claim claim)
{
    uint64_t pfn = list[0].raw;
    const struct mm_frame_span *span = span_of(f, pfn, claim);
    uint64_t first = mm_align_down(pfn, MMI_ROW_FRAMES);
    uint64_t slot = first - span->bias;
    uint64_t possible = mmi_row_of_span(span, slot / MMI_ROW_FRAMES);
    uint64_t mask = 0;
    size_t i;

    for (i = 0; i < count && list[i].raw - first < MMI_ROW_FRAMES; i++) {
        uint64_t bit = UINT64_C(1) << (list[i].raw - first);

        if ((possible & bit) == 0) {
            break; /* of another span, or of none */
        }
        if ((mask & bit) != 0) {
            panic(f, "a frame twice in the list to be freed", list[i].raw, claim);
        }
        if (f->flags != 0) {
            check_records(f, list[i].raw, slot + (list[i].raw - first), claim);
        }
        mask |= bit;
    }
    for (uint64_t left = f->owners == NULL ? 0 : mask; left != 0; left &= left - 1) {
        clear_owners(f, slot + mmi_ctz(left), 1);
    }
    set_row(f, first, slot, mask, claim);
    return i;
}

void mm_frame_free_bulk(struct mm_frames *frames, const mm_pfn_t *list, size_t count)
{
    struct claim claim = {"allocated, in a list of frames", count};

    if (MMI_UNLIKELY(list == NULL && count != 0)) {
        not_null(frames);
        panic(frames, "free of a list of frames that is not there", 0, claim);
    }
    for (size_t done = 0; done < count;) {
        done += free_in_row(frames, list + done, count - done, claim);
    }
}

/* --- references ------------------------------------------------------------------------------- */

/* The slot of a frame of which the caller holds a reference. */
static uint64_t held(const struct mm_frames *f, uint64_t pfn, struct claim claim)
{
    uint64_t slot;

    not_null(f);
    slot = mmi_frame_slot(f, pfn);
    if (f->refs == NULL) {
        panic(f, "reference counts are asked of an allocator that has none", pfn, claim);
    }
    if (slot == MMI_NO_SLOT) {
        panic(f, "reference to a frame that is not managed", pfn, claim);
    }
    if (is_free(f, slot)) {
        panic(f, "reference to a free frame", pfn, claim);
    }
    return slot;
}

void mm_frame_get(struct mm_frames *frames, mm_pfn_t frame)
{
    uint64_t slot = held(frames, frame.raw, (struct claim){"allocated, one reference more", 0});
    uint32_t refs = mmi_load(&frames->refs[slot]);

    while (refs < MMI_REFS_IMMORTAL && !mmi_cas(&frames->refs[slot], &refs, refs + 1)) {
    }
}

bool mm_frame_put(struct mm_frames *frames, mm_pfn_t frame)
{
    struct claim claim = {"allocated, one reference less", 0};
    uint64_t slot;

    not_null(frames);
    slot = mmi_frame_slot(frames, frame.raw);
    if (slot == MMI_NO_SLOT) {
        panic(frames, "free of a frame that is not managed", frame.raw, claim);
    }
    if (frames->refs != NULL) {
        uint32_t refs = mmi_load_acquire(&frames->refs[slot]);

        while (refs != 0) {
            if (refs >= MMI_REFS_IMMORTAL || mmi_cas(&frames->refs[slot], &refs, refs - 1)) {
                return false;
            }
        }
    }
    free_one(frames, frame.raw, slot, claim);
    return true;
}

void mm_frame_make_immortal(struct mm_frames *frames, mm_pfn_t frame)
{
    uint64_t slot = held(frames, frame.raw, (struct claim){"allocated, for ever", 0});

    (void)mmi_exchange(&frames->refs[slot], MMI_REFS_IMMORTAL);
}

uint32_t mm_frame_refs(const struct mm_frames *frames, mm_pfn_t frame)
{
    uint64_t slot = frames == NULL ? MMI_NO_SLOT : mmi_frame_slot(frames, frame.raw);
    uint32_t refs;

    if (slot == MMI_NO_SLOT || is_free(frames, slot)) {
        return 0;
    }
    /* Acquire: who finds itself alone may write to the frame, after all that others did to it. */
    refs = frames->refs == NULL ? 0 : mmi_load_acquire(&frames->refs[slot]);
    return refs < MMI_REFS_IMMORTAL ? refs + 1 : MM_FRAME_REF_IMMORTAL;
}
