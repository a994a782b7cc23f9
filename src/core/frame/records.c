// SPDX-License-Identifier: MIT
/**
 * References and pins, the panic that names what is on record, and records that come late.
 *
 * One word a frame counts both, so that one load tells who else holds a frame, and one exchange
 * changes both figures:
 *
 *     31       22 21                              0
 *     [   pins   |   references and pins, less 1   ]      all ones: immortal
 *
 * A frame with one reference and no pin has 0, and that is how it is allocated; a free frame has 0
 * too. So neither allocating nor freeing writes the array; freeing reads it if there is one, and
 * every frame that is not 0 there belongs to somebody else as well.
 *
 * Who drops the last reference finds 0 and frees; the bitmap tells then, in the same step, whether
 * another CPU believes that it was the last, too. Who drops the last pin of a frame without
 * references turns it into that: one reference, its own.
 *
 * The pins of all frames are counted as well: before a word has one more, and after it has one
 * less, so that who reads 0 knows that no frame is pinned.
 */
#include "state.h"

#define PIN_SHIFT 22
#define ONE_PIN   ((UINT32_C(1) << PIN_SHIFT) + 1) /* counted in both fields */
#define HELD_MASK ((UINT32_C(1) << PIN_SHIFT) - 1)

_Static_assert(HELD_MASK == MM_FRAME_REFS_MAX, "a count less 1 that is all ones is immortal");
_Static_assert((UINT32_MAX >> PIN_SHIFT) == MM_FRAME_PINS_MAX, "pins fill the bits above");

static uint32_t pins_of(uint32_t word)
{
    return word >> PIN_SHIFT;
}

/* References and pins. */
static uint32_t held_of(uint32_t word)
{
    return (word & HELD_MASK) + 1;
}

static uint32_t refs_of(uint32_t word)
{
    return held_of(word) - pins_of(word);
}

bool mmi_refs_sound(uint32_t refs)
{
    return refs == MM_FRAME_REF_IMMORTAL ||
           (held_of(refs) <= MM_FRAME_REFS_MAX && pins_of(refs) <= held_of(refs));
}

uint64_t mmi_refs_pins(uint32_t refs)
{
    return refs == MM_FRAME_REF_IMMORTAL ? 0 : pins_of(refs);
}

/* --- corruption ------------------------------------------------------------------------------- */

/* Of a frame that has a word. */
static const char *record_of_word(uint32_t word, uint64_t *value)
{
    if (word == MM_FRAME_REF_IMMORTAL) {
        *value = word;
        return "allocated, immortal";
    }
    *value = pins_of(word) != 0 ? pins_of(word) : refs_of(word);
    return pins_of(word) != 0 ? "allocated, pins" : "allocated, references";
}

/* What is on record about a frame. */
static const char *record_of(const struct mm_frames *f, uint64_t pfn, uint64_t *value)
{
    uint64_t slot = mmi_frame_slot(f, pfn);
    uint32_t word;

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
    if (mmi_slot_free(f, slot)) {
        return "free";
    }
    word = f->refs == NULL ? 0 : mmi_load(&f->refs[slot]);
    if (word == 0 && f->tags != NULL) {
        *value = mmi_load(&f->tags[slot]) & MM_FRAME_TAG_MAX;
        return mmi_frame_owner_str(mmi_owner_of(mmi_load(&f->tags[slot])));
    }
    return record_of_word(word, value);
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

void mmi_refs_check(const struct mm_frames *f, uint64_t pfn, uint64_t slot, uint64_t nr,
                    struct mmi_claim claim)
{
    for (uint64_t i = 0; i < nr && f->refs != NULL; i++) {
        uint32_t word = mmi_load_acquire(&f->refs[slot + i]);

        if (MMI_LIKELY(word == 0)) {
            continue;
        }
        mmi_frame_panic(f,
                        word == MM_FRAME_REF_IMMORTAL ? "free of an immortal frame"
                        : pins_of(word) != 0          ? "free of a frame that is pinned"
                                                      : "free of a frame that others refer to",
                        pfn + i, claim);
    }
}

/* --- references and pins ---------------------------------------------------------------------- */

/* The slot of a frame that the caller holds. */
static uint64_t held(const struct mm_frames *f, uint64_t pfn, const char *claimed)
{
    struct mmi_claim claim = {claimed, 0};
    uint64_t slot;

    mmi_frames_not_null(f);
    slot = mmi_present_slot(f, pfn);
    if (f->refs == NULL) {
        mmi_frame_panic(f, "reference counts are asked of an allocator that has none", pfn, claim);
    }
    if (slot == MMI_NO_SLOT) {
        mmi_frame_panic(f, "reference to a frame that is not managed", pfn, claim);
    }
    if (mmi_slot_free(f, slot)) {
        mmi_frame_panic(f, "reference to a free frame", pfn, claim);
    }
    return slot;
}

/* One more, or immortal if a field is full: never a carry from one into the other. */
static uint32_t one_more(uint32_t word, uint32_t what)
{
    bool full = held_of(word) >= MM_FRAME_REFS_MAX ||
                (what == ONE_PIN && pins_of(word) == MM_FRAME_PINS_MAX);

    return full ? MM_FRAME_REF_IMMORTAL : word + what;
}

static void pins_gone(struct mm_frames *f, uint64_t nr)
{
    if (nr != 0) {
        (void)mmi_fetch_sub(&f->nr_pins, nr);
    }
}

static void add(struct mm_frames *f, uint64_t slot, uint32_t what)
{
    uint32_t word = mmi_load(&f->refs[slot]);
    uint32_t now;

    do {
        now = word == MM_FRAME_REF_IMMORTAL ? word : one_more(word, what);
    } while (now != word && !mmi_cas(&f->refs[slot], &word, now));
    if (MMI_UNLIKELY(now == MM_FRAME_REF_IMMORTAL)) {
        uint64_t lost = mmi_refs_pins(word) + (what == ONE_PIN ? 1 : 0);

        if (lost != 0 && word != MM_FRAME_REF_IMMORTAL) {
            (void)mmi_fetch_or(&f->nr_pins, MMI_PINS_LOST); /* before they are counted no more */
        }
        pins_gone(f, lost); /* it counts none */
    }
}

#define ONE_REF_MORE "allocated, one reference more"

void mm_frame_get(struct mm_frames *frames, mm_pfn_t frame)
{
    uint64_t slot = held(frames, frame.raw, ONE_REF_MORE);

    add(frames, slot, 1);
}

/* As mmi_frame_part(); the longest span, if all of it is there, without a search. */
static uint64_t held_part(const struct mm_frames *f, uint64_t pfn, uint64_t nr, uint64_t *slot)
{
    uint64_t at = pfn - f->main_first;

    if (MMI_LIKELY(at < f->main_nr && (mmi_load(&f->flags) & MMI_FRAMES_ABSENT) == 0)) {
        *slot = pfn - f->main_bias;
        return nr < f->main_nr - at ? nr : f->main_nr - at;
    }
    return mmi_frame_part(f, pfn, nr, slot);
}

void mmi_frame_share(struct mm_frames *f, mm_pfn_t first, uint64_t nr)
{
    uint64_t pfn = first.raw;

    mmi_frames_not_null(f);
    while (nr != 0) {
        uint64_t slot;
        uint64_t part = held_part(f, pfn, nr, &slot);
        unsigned taken;

        if (MMI_UNLIKELY(part == 0 || f->refs == NULL)) {
            (void)held(f, pfn, ONE_REF_MORE); /* panics */
        }
        for (uint64_t done = 0; done < part; done += taken) {
            uint64_t mask = mmi_row_part(slot + done, part - done, &taken);
            uint64_t bits = mmi_row_free(f, (slot + done) / MMI_ROW_FRAMES) & mask;

            if (MMI_UNLIKELY(bits != 0)) {
                uint64_t from = (slot + done) % MMI_ROW_FRAMES;

                (void)held(f, pfn + done + (mmi_ctz(bits) - from), ONE_REF_MORE); /* panics */
            }
            for (unsigned i = 0; i < taken; i++) {
                add(f, slot + done + i, 1);
            }
        }
        pfn += part;
        nr -= part;
    }
}

uint64_t mmi_frame_nr_pins(const struct mm_frames *f)
{
    return mmi_load_acquire(&f->nr_pins) & ~MMI_PINS_LOST;
}

bool mmi_frame_any_pinned(const struct mm_frames *f)
{
    return mmi_load_acquire(&f->nr_pins) != 0;
}

void mm_frame_pin(struct mm_frames *frames, mm_pfn_t frame)
{
    uint64_t slot = held(frames, frame.raw, "allocated, one pin more");

    (void)mmi_fetch_add(&frames->nr_pins, 1);
    add(frames, slot, ONE_PIN);
}

bool mmi_refs_drop(struct mm_frames *f, uint64_t pfn, uint64_t slot, struct mmi_claim claim)
{
    uint32_t word;

    if (f->refs == NULL) {
        return true;
    }
    word = mmi_load_acquire(&f->refs[slot]);
    while (word != 0) {
        if (word == MM_FRAME_REF_IMMORTAL) {
            return false;
        }
        if (refs_of(word) == 0) {
            mmi_frame_panic(f, "put of a frame that only pins keep", pfn, claim);
        }
        if (mmi_cas(&f->refs[slot], &word, word - 1)) {
            return false;
        }
    }
    return true;
}

bool mm_frame_put(struct mm_frames *frames, mm_pfn_t frame)
{
    struct mmi_claim claim = {"allocated, one reference less", 0};
    uint64_t slot;

    mmi_frames_not_null(frames);
    slot = mmi_present_slot(frames, frame.raw);
    if (slot == MMI_NO_SLOT) {
        mmi_frame_panic(frames, "free of a frame that is not managed", frame.raw, claim);
    }
    if (!mmi_refs_drop(frames, frame.raw, slot, claim)) {
        return false;
    }
    mmi_frame_free_one(frames, frame.raw, slot, claim);
    return true;
}

bool mm_frame_unpin(struct mm_frames *frames, mm_pfn_t frame)
{
    struct mmi_claim claim = {"allocated, one pin less", 0};
    uint64_t slot = held(frames, frame.raw, claim.text);
    uint32_t word = mmi_load_acquire(&frames->refs[slot]);
    bool last;

    do {
        if (word == MM_FRAME_REF_IMMORTAL) {
            return false;
        }
        if (pins_of(word) == 0) {
            mmi_frame_panic(frames, "unpin of a frame that is not pinned", frame.raw, claim);
        }
        last = held_of(word) == 1;
        /* The last pin becomes the reference that is freed: nobody else can drop it. */
    } while (!mmi_cas(&frames->refs[slot], &word, last ? 0 : word - ONE_PIN));
    pins_gone(frames, 1);
    if (last) {
        mmi_frame_free_one(frames, frame.raw, slot, claim);
    }
    return last;
}

void mm_frame_make_immortal(struct mm_frames *frames, mm_pfn_t frame)
{
    uint64_t slot = held(frames, frame.raw, "allocated, for ever");

    pins_gone(frames, mmi_refs_pins(mmi_exchange(&frames->refs[slot], MM_FRAME_REF_IMMORTAL)));
}

void mm_frame_make_mortal(struct mm_frames *frames, mm_pfn_t frame)
{
    struct mmi_claim claim = {"allocated, immortal until now", 0};
    uint64_t slot = held(frames, frame.raw, claim.text);
    uint32_t word = MM_FRAME_REF_IMMORTAL;

    if (!mmi_cas(&frames->refs[slot], &word, 0)) {
        mmi_frame_panic(frames, "a frame that is not immortal is made mortal", frame.raw, claim);
    }
}

uint32_t mm_frame_refs(const struct mm_frames *frames, mm_pfn_t frame)
{
    uint64_t slot = frames == NULL ? MMI_NO_SLOT : mmi_present_slot(frames, frame.raw);
    uint32_t word;

    if (slot == MMI_NO_SLOT || mmi_slot_free(frames, slot)) {
        return 0;
    }
    /* Acquire: who finds itself alone may write to the frame, after all that others did to it. */
    word = frames->refs == NULL ? 0 : mmi_load_acquire(&frames->refs[slot]);
    return word == MM_FRAME_REF_IMMORTAL ? MM_FRAME_REF_IMMORTAL : refs_of(word);
}

uint32_t mm_frame_pins(const struct mm_frames *frames, mm_pfn_t frame)
{
    uint64_t slot = frames == NULL ? MMI_NO_SLOT : mmi_present_slot(frames, frame.raw);
    uint32_t word;

    if (slot == MMI_NO_SLOT || mmi_slot_free(frames, slot) || frames->refs == NULL) {
        return 0;
    }
    word = mmi_load_acquire(&frames->refs[slot]);
    return word == MM_FRAME_REF_IMMORTAL ? MM_FRAME_REF_IMMORTAL : pins_of(word);
}

/* --- records that come late ------------------------------------------------------------------- */

/* The counts come first in their metadata, then the owners; both end at a cache line. */
static uint64_t refs_len(const struct mm_frames *f, uint32_t flags)
{
    uint64_t slots = (f->nr_lines + 2) * MMI_LINE_FRAMES; /* frame 0's line, and nowhere */

    return (flags & MM_FRAMES_REFCOUNTS) != 0 ? slots * sizeof(uint32_t) : 0;
}

static uint64_t records_len(const struct mm_frames *f, uint32_t flags)
{
    uint64_t slots = (f->nr_lines + 2) * MMI_LINE_FRAMES;

    return refs_len(f, flags) + ((flags & MM_FRAMES_OWNERS) != 0 ? slots * sizeof(uint64_t) : 0);
}

static mm_status_t check_late(const struct mm_frames *f, uint32_t flags, bool given)
{
    if (f == NULL || !given) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (f->magic != MMI_FRAME_MAGIC) {
        return MM_ERR_NOT_INITIALIZED;
    }
    if (flags == 0 || (flags & ~(MM_FRAMES_REFCOUNTS | MM_FRAMES_OWNERS)) != 0) {
        return MM_ERR_INVALID_FLAGS;
    }
    return (f->flags & flags) != 0 ? MM_ERR_ALREADY_INITIALIZED : MM_OK;
}

mm_status_t mm_frame_records_size(const struct mm_frames *frames, uint32_t flags, uint64_t *out)
{
    mm_status_t status = check_late(frames, flags, out != NULL);

    if (status == MM_OK) {
        *out = records_len(frames, flags);
    }
    return status;
}

/* A look at both ends of each array: memory that was never zeroed does not pass. */
static bool looks_zeroed(const uint64_t *words, uint64_t middle, uint64_t len)
{
    uint64_t found = words[0] | words[len / 8 - 1];

    if (middle != 0 && middle != len) {
        found |= words[middle / 8 - 1] | words[middle / 8];
    }
    return found == 0;
}

mm_status_t mm_frame_add_records(struct mm_frames *frames, uint32_t flags, void *metadata,
                                 uint64_t len)
{
    mm_status_t status = check_late(frames, flags, metadata != NULL);
    uint64_t counts;
    uint64_t need;

    if (status != MM_OK) {
        return status;
    }
    counts = refs_len(frames, flags);
    need = records_len(frames, flags);
    if (len < need) {
        return MM_ERR_INVALID_SIZE;
    }
    if (!mm_is_aligned((uint64_t)(uintptr_t)metadata, MM_CACHE_LINE)) {
        return MM_ERR_NOT_ALIGNED;
    }
    if (!looks_zeroed(metadata, counts, need)) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if ((flags & MM_FRAMES_REFCOUNTS) != 0) {
        frames->refs = metadata;
    }
    if ((flags & MM_FRAMES_OWNERS) != 0) {
        frames->tags = (void *)((uint8_t *)metadata + counts);
    }
    frames->flags |= flags;
    frames->metadata_len += need;
    return MM_OK;
}
