// SPDX-License-Identifier: MIT
/**
 * What is on record about a frame: references, pins and its owner, and the panic that names them.
 *
 * Reference counts are kept as their excess over 1. A free frame has 0, a frame that has just been
 * allocated has 0 too, so neither allocating nor freeing writes the array; freeing reads it if
 * there is one.
 */
#include "state.h"

#define REFS_IMMORTAL (MM_FRAME_REF_IMMORTAL - 1)

bool mmi_refs_sound(uint32_t refs)
{
    return refs <= REFS_IMMORTAL;
}

static bool is_free(const struct mm_frames *f, uint64_t slot)
{
    return mmi_bit(f->rows, slot);
}

/* The slot of a frame that is there, or MMI_NO_SLOT. */
static uint64_t slot_of(const struct mm_frames *f, uint64_t pfn)
{
    uint64_t slot = mmi_frame_slot(f, pfn);

    return slot != MMI_NO_SLOT && mmi_slot_present(f, slot) ? slot : MMI_NO_SLOT;
}

/* --- corruption ------------------------------------------------------------------------------- */

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
    if (!mmi_slot_present(f, slot)) {
        return "reserved: absent memory";
    }
    if (is_free(f, slot)) {
        return "free";
    }
    refs = f->refs == NULL ? 0 : mmi_load(&f->refs[slot]);
    if (refs != 0) {
        *value = refs < REFS_IMMORTAL ? refs + UINT64_C(1) : MM_FRAME_REF_IMMORTAL;
        return refs < REFS_IMMORTAL ? "allocated, references" : "allocated, immortal";
    }
    if (f->tags != NULL) {
        *value = mmi_load(&f->tags[slot]) & MM_FRAME_TAG_MAX;
        return mmi_frame_owner_str((uint32_t)(mmi_load(&f->tags[slot]) >> 60));
    }
    *value = 1;
    return "allocated, references";
}

_Noreturn void mmi_frame_panic(const struct mm_frames *f, const char *what, uint64_t pfn,
                               struct mmi_claim claim)
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

void mmi_records_check(const struct mm_frames *f, uint64_t pfn, uint64_t slot, uint64_t nr,
                       struct mmi_claim claim)
{
    for (uint64_t i = 0; i < nr && f->refs != NULL; i++) {
        uint32_t refs = mmi_load_acquire(&f->refs[slot + i]);

        if (refs >= REFS_IMMORTAL) {
            mmi_frame_panic(f, "free of an immortal frame", pfn + i, claim);
        }
        if (refs != 0) {
            mmi_frame_panic(f, "free of a frame that others refer to", pfn + i, claim);
        }
    }
}

/* --- owners ----------------------------------------------------------------------------------- */

void mmi_records_clear(struct mm_frames *f, uint64_t slot, uint64_t nr)
{
    for (uint64_t i = 0; i < nr && f->tags != NULL; i++) {
        mmi_store(&f->tags[slot + i], 0);
    }
}

void mmi_records_set(struct mm_frames *f, uint64_t slot, uint64_t nr, uint32_t owner, uint64_t tag)
{
    for (uint64_t i = 0; i < nr && f->tags != NULL; i++) {
        mmi_store(&f->tags[slot + i], (uint64_t)owner << 60 | tag);
    }
}

/* --- references ------------------------------------------------------------------------------- */

/* The slot of a frame of which the caller holds a reference. */
static uint64_t held(const struct mm_frames *f, uint64_t pfn, struct mmi_claim claim)
{
    uint64_t slot;

    mmi_frames_not_null(f);
    slot = slot_of(f, pfn);
    if (f->refs == NULL) {
        mmi_frame_panic(f, "reference counts are asked of an allocator that has none", pfn, claim);
    }
    if (slot == MMI_NO_SLOT) {
        mmi_frame_panic(f, "reference to a frame that is not managed", pfn, claim);
    }
    if (is_free(f, slot)) {
        mmi_frame_panic(f, "reference to a free frame", pfn, claim);
    }
    return slot;
}

void mm_frame_get(struct mm_frames *frames, mm_pfn_t frame)
{
    uint64_t slot = held(frames, frame.raw, (struct mmi_claim){"allocated, one reference more", 0});
    uint32_t refs = mmi_load(&frames->refs[slot]);

    while (refs < REFS_IMMORTAL && !mmi_cas(&frames->refs[slot], &refs, refs + 1)) {
    }
}

bool mm_frame_put(struct mm_frames *frames, mm_pfn_t frame)
{
    struct mmi_claim claim = {"allocated, one reference less", 0};
    uint64_t slot;

    mmi_frames_not_null(frames);
    slot = slot_of(frames, frame.raw);
    if (slot == MMI_NO_SLOT) {
        mmi_frame_panic(frames, "free of a frame that is not managed", frame.raw, claim);
    }
    if (frames->refs != NULL) {
        uint32_t refs = mmi_load_acquire(&frames->refs[slot]);

        while (refs != 0) {
            if (refs >= REFS_IMMORTAL || mmi_cas(&frames->refs[slot], &refs, refs - 1)) {
                return false;
            }
        }
    }
    mmi_frame_free_one(frames, frame.raw, slot, claim);
    return true;
}

void mm_frame_make_immortal(struct mm_frames *frames, mm_pfn_t frame)
{
    uint64_t slot = held(frames, frame.raw, (struct mmi_claim){"allocated, for ever", 0});

    (void)mmi_exchange(&frames->refs[slot], REFS_IMMORTAL);
}

uint32_t mm_frame_refs(const struct mm_frames *frames, mm_pfn_t frame)
{
    uint64_t slot = frames == NULL ? MMI_NO_SLOT : slot_of(frames, frame.raw);
    uint32_t refs;

    if (slot == MMI_NO_SLOT || is_free(frames, slot)) {
        return 0;
    }
    /* Acquire: who finds itself alone may write to the frame, after all that others did to it. */
    refs = frames->refs == NULL ? 0 : mmi_load_acquire(&frames->refs[slot]);
    return refs < REFS_IMMORTAL ? refs + 1 : MM_FRAME_REF_IMMORTAL;
}
