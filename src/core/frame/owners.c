// SPDX-License-Identifier: MIT
/**
 * Whose a frame is: a word a frame, the kind above and the tag below. 0, no owner and no tag, is
 * what a free frame has, and one that was allocated by a call that names none.
 *
 * A record belongs to who holds the frame: only that one changes it, so it is stored plainly.
 */
#include "state.h"

_Static_assert(MM_FRAME_TAG_MAX >> MMI_OWNER_SHIFT == 0, "a tag leaves room for the kind");

static uint64_t record(uint32_t owner, uint64_t tag)
{
    return (uint64_t)owner << MMI_OWNER_SHIFT | tag;
}

void mmi_owners_clear(struct mm_frames *f, uint64_t slot, uint64_t nr)
{
    for (uint64_t i = 0; i < nr && f->tags != NULL; i++) {
        mmi_store(&f->tags[slot + i], 0);
    }
}

void mmi_owners_set(struct mm_frames *f, uint64_t slot, uint64_t nr, uint32_t owner, uint64_t tag)
{
    for (uint64_t i = 0; i < nr; i++) {
        mmi_store(&f->tags[slot + i], record(owner, tag));
    }
}

void mmi_owners_check(const struct mm_frames *f, uint64_t pfn, uint64_t slot, uint64_t nr,
                      uint32_t owner, struct mmi_claim claim)
{
    for (uint64_t i = 0; i < nr && f->tags != NULL; i++) {
        uint64_t is = mmi_load(&f->tags[slot + i]);

        /* Apart: what the caller claims may not fit its field. */
        if (mmi_owner_of(is) != owner || (is & MM_FRAME_TAG_MAX) != claim.value) {
            mmi_frame_panic(f, "free of a frame by who does not own it", pfn + i, claim);
        }
    }
}

static mm_status_t check_asked(const struct mm_frames *f)
{
    if (f->magic != MMI_FRAME_MAGIC) {
        return MM_ERR_NOT_INITIALIZED;
    }
    return f->tags == NULL ? MM_ERR_UNSUPPORTED : MM_OK;
}

mm_status_t mm_frame_owner(const struct mm_frames *frames, mm_pfn_t frame,
                           struct mm_frame_record *out)
{
    mm_status_t status;
    uint64_t slot;
    uint64_t is;

    if (frames == NULL || out == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    status = check_asked(frames);
    if (status != MM_OK) {
        return status;
    }
    slot = mmi_present_slot(frames, frame.raw);
    if (slot == MMI_NO_SLOT || mmi_slot_free(frames, slot)) {
        return MM_ERR_INVALID_ADDRESS;
    }
    is = mmi_load(&frames->tags[slot]);
    *out = (struct mm_frame_record){
        .owner = (enum mm_frame_owner)mmi_owner_of(is),
        .tag = is & MM_FRAME_TAG_MAX,
    };
    if (out->owner == MM_OWNER_ANONYMOUS) {
        out->number = out->tag >> 44;
        out->index = out->tag & ((UINT64_C(1) << 44) - 1);
    } else if (out->owner == MM_OWNER_OBJECT) {
        out->number = out->tag >> 32;
        out->index = out->tag & UINT32_MAX;
    }
    return MM_OK;
}

/* Whether no frame of a part is free. */
static bool all_allocated(const struct mm_frames *f, uint64_t slot, uint64_t nr)
{
    unsigned part;

    for (uint64_t done = 0; done < nr; done += part) {
        uint64_t mask = mmi_row_part(slot + done, nr - done, &part);

        if ((mmi_row_free(f, (slot + done) / MMI_ROW_FRAMES) & mask) != 0) {
            return false;
        }
    }
    return true;
}

mm_status_t mm_frame_set_owner(struct mm_frames *frames, mm_pfn_t first, uint64_t nr_frames,
                               enum mm_frame_owner owner, uint64_t tag)
{
    mm_status_t status;
    uint64_t slot;
    uint64_t part;

    if (frames == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    status = check_asked(frames);
    if (status == MM_ERR_NOT_INITIALIZED) {
        return status;
    }
    if ((uint32_t)owner >= MM_OWNER_COUNT || tag > MM_FRAME_TAG_MAX) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (status != MM_OK) {
        return status;
    }
    if (nr_frames == 0 || !mm_range_covers(0, MMI_PFN_END, first.raw, nr_frames)) {
        return MM_ERR_INVALID_SIZE;
    }
    for (uint64_t done = 0; done < nr_frames; done += part) {
        part = mmi_frame_part(frames, first.raw + done, nr_frames - done, &slot);
        if (part == 0 || !all_allocated(frames, slot, part)) {
            return MM_ERR_INVALID_ADDRESS;
        }
    }
    for (uint64_t done = 0; done < nr_frames; done += part) {
        part = mmi_frame_part(frames, first.raw + done, nr_frames - done, &slot);
        if (part == 0) {
            return MM_ERR_INVALID_ADDRESS; /* it was not the caller's, and has just been removed */
        }
        mmi_owners_set(frames, slot, part, (uint32_t)owner, tag);
    }
    return MM_OK;
}
