// SPDX-License-Identifier: MIT
/**
 * The state of the frame allocator: what its files share. Internal to the room.
 *
 * Every frame of a span has a *slot*, its index in all arrays. 64 slots are a row (one word of the
 * bitmap), 8 rows a line (512 frames, one cache line, 2 MiB). The lines of all spans stand one
 * after the other, so one search goes over all memory; a line never holds frames of two spans.
 * A line begins at a multiple of 2 MiB of physical address. Frames of a line that are not in its
 * span have no bit: it is 0, "allocated", for ever.
 *
 *     memory    ....[ span 0 )........[ span 1         )......   bias = frame number - slot
 *                 |       |       |       |       |       |      multiples of 2 MiB
 *     lines       [ 0     | 1     )       [ 2     | 3   ) [4] [5]
 *                                                          |   never a free bit: where hints
 *                                                          |   point that point nowhere
 *                                                          frame 0: a span of its own, which
 *                                                          no search looks at
 *
 * Invariants, when no call is in progress:
 *  - a bit of `rows` is 1 exactly if the frame is free;
 *  - a line with a free frame has its bit in `has_free`, a word of `has_free` that is not 0 has its
 *    bit in `has_line`, a line that is free as a whole has its bit in `whole`. The converse need
 *    not hold: a summary may promise too much, and who finds that corrects it.
 */
#ifndef MMI_FRAME_STATE_H
#define MMI_FRAME_STATE_H

#include "core/base/atomic.h"
#include "core/base/bits.h"
#include "core/base/compiler.h"
#include "core/base/report.h"
#include <mm/frame.h>

#define MMI_FRAME_MAGIC UINT32_C(0x6d6d6672) /* "mmfr" */

#define MMI_ROW_FRAMES  64u
#define MMI_LINE_ROWS   8u
#define MMI_LINE_FRAMES 512u
#define MMI_LINE_ORDER  9u
#define MMI_NO_SLOT     UINT64_MAX

/* Turns of a search when frames came back meanwhile, behind where it looked. */
#define MMI_TRIES_MAX 16

/* A reference count is kept as its excess over 1, so that allocating need not write it. */
#define MMI_REFS_IMMORTAL (MM_FRAME_REF_IMMORTAL - 1)

struct mm_frame_span {
    uint64_t first; /* lowest frame */
    uint64_t nr;    /* frames */
    uint64_t bias;  /* frame number - slot, modulo 2^64; a multiple of 512 */
    uint64_t first_line;
    uint64_t nr_lines;
};

/*
 * A hint names a row and the span that it lies in, in one word, so that it is read and replaced as
 * one: bits 0 to 39 the row, 40 to 62 the index of the span, 63 whether this CPU has set the line's
 * bit in `reserved`. Whatever it names, allocating there is correct.
 */
#define MMI_HINT_OWNED      (UINT64_C(1) << 63)
#define MMI_HINT_SPAN_SHIFT 40
#define MMI_HINT_ROW_MASK   ((UINT64_C(1) << MMI_HINT_SPAN_SHIFT) - 1)

/* Single frames and blocks come from different lines, so that they do not cut each other up. */
#define MMI_HINT_FRAMES 0
#define MMI_HINT_BLOCKS 1
#define MMI_NR_HINTS    2

struct mmi_frame_cpu {
    _Alignas(MM_CACHE_LINE) uint64_t hints[MMI_NR_HINTS]; /* atomic */
};

static inline uint64_t mmi_hint_row(uint64_t hint)
{
    return hint & MMI_HINT_ROW_MASK;
}

static inline const struct mm_frame_span *mmi_hint_span(const struct mm_frames *f, uint64_t hint)
{
    return &f->spans[(hint & ~MMI_HINT_OWNED) >> MMI_HINT_SPAN_SHIFT];
}

/* The line without memory, where hints point at first. */
static inline uint64_t mmi_nowhere_line(const struct mm_frames *f)
{
    return f->nr_lines + 1;
}

static inline struct mmi_frame_cpu *mmi_frame_cpu(const struct mm_frames *f, uint32_t cpu)
{
    if (MMI_UNLIKELY(cpu >= f->nr_cpus)) {
        cpu %= f->nr_cpus;
    }
    return (struct mmi_frame_cpu *)f->cpus + cpu;
}

/* The span that holds a frame, or NULL. */
static inline const struct mm_frame_span *mmi_frame_span(const struct mm_frames *f, uint64_t pfn)
{
    uint32_t low = 0;
    uint32_t nr = f->nr_spans;

    /* The last span that begins at or below the frame lies in [low, low + nr). */
    while (nr > 1) {
        uint32_t half = nr / 2;

        low += f->spans[low + half].first <= pfn ? half : 0;
        nr -= half;
    }
    return nr == 1 && pfn - f->spans[low].first < f->spans[low].nr ? &f->spans[low] : NULL;
}

/* The slot of a frame, or MMI_NO_SLOT if it is not managed. */
static inline uint64_t mmi_frame_slot(const struct mm_frames *f, uint64_t pfn)
{
    const struct mm_frame_span *span;

    if (MMI_LIKELY(pfn - f->main_first < f->main_nr)) {
        return pfn - f->main_bias;
    }
    span = mmi_frame_span(f, pfn);
    return span == NULL ? MMI_NO_SLOT : pfn - span->bias;
}

/* A run as parts that each lie in one span: how many of its frames from `pfn` on lie in the span of
 * that one, and its slot. 0 if it is not managed. */
static inline uint64_t mmi_frame_part(const struct mm_frames *f, uint64_t pfn, uint64_t nr,
                                      uint64_t *slot)
{
    const struct mm_frame_span *span = mmi_frame_span(f, pfn);
    uint64_t left;

    if (span == NULL) {
        return 0;
    }
    *slot = pfn - span->bias;
    left = span->first + span->nr - pfn;
    return nr < left ? nr : left;
}

static inline bool mmi_bit(const uint64_t *bits, uint64_t at)
{
    return (mmi_load_seq(&bits[at / 64]) >> (at % 64) & 1) != 0;
}

/* The part of [slot, slot + nr) that lies in the row of `slot`, as a mask; `*taken` says how many.
 */
static inline uint64_t mmi_row_part(uint64_t slot, uint64_t nr, unsigned *taken)
{
    unsigned from = (unsigned)(slot % MMI_ROW_FRAMES);
    unsigned left = MMI_ROW_FRAMES - from;

    *taken = nr < left ? (unsigned)nr : left;
    return mmi_mask(from, *taken);
}

/* The bits that a row can have: those of frames of the span that it lies in. */
static inline uint64_t mmi_row_of_span(const struct mm_frame_span *span, uint64_t row)
{
    uint64_t first = span->first - span->bias;
    uint64_t end = first + span->nr;
    uint64_t slot = row * MMI_ROW_FRAMES;
    uint64_t from = slot > first ? slot : first;
    uint64_t to = slot + MMI_ROW_FRAMES < end ? slot + MMI_ROW_FRAMES : end;

    return from < to ? mmi_mask((unsigned)(from - slot), (unsigned)(to - from)) : 0;
}

/* --- summary.c: the summaries over the bitmap ------------------------------------------------- */

/* If the line has no free frame, take it out of the summary. */
void mmi_line_retire(struct mm_frames *f, uint64_t line);
/* The line was found not to be whole: take it out of the summary. */
void mmi_line_unwhole(struct mm_frames *f, uint64_t line);
bool mmi_line_empty(const struct mm_frames *f, uint64_t line);
bool mmi_line_whole(const struct mm_frames *f, uint64_t line);
/* The highest line of [low, high) that the summary says has a free frame; if `unreserved`, one that
 * no CPU keeps a hint to. */
bool mmi_line_find(const struct mm_frames *f, uint64_t low, uint64_t high, bool unreserved,
                   uint64_t *line);

/* This CPU looks at all rows. */
void mmi_seek_begin(struct mm_frames *f);
void mmi_seek_end(struct mm_frames *f);
/* Corrections that others may be misled by while they last; see mmi_frame_settled(). */
void mmi_unsettled_begin(struct mm_frames *f);
void mmi_unsettled_end(struct mm_frames *f);
/* Whether nothing was corrected since `f->unsettled` was `before`, but for `own` corrections. */
bool mmi_frame_settled(const struct mm_frames *f, uint64_t before, uint64_t own);

/* A row has got free frames and is `now`: bring the summaries up to it. */
void mmi_row_freed_slow(struct mm_frames *f, uint64_t row, uint64_t now);

/* The bits of `mask` are set in a row that was `old`: keep the summaries true. */
static inline void mmi_row_freed(struct mm_frames *f, uint64_t row, uint64_t old, uint64_t mask)
{
    uint64_t line = row / MMI_LINE_ROWS;
    uint64_t now = old | mask;

    if (MMI_UNLIKELY(!mmi_bit(f->has_free, line)) ||
        (now == UINT64_MAX && !mmi_bit(f->whole, line))) {
        mmi_row_freed_slow(f, row, now);
    }
}

/* --- runs.c: frames side by side -------------------------------------------------------------- */

/* Whether all of [slot, slot + nr) is free. */
bool mmi_run_free(const struct mm_frames *f, uint64_t slot, uint64_t nr);
/* Claim all of [slot, slot + nr), or none. */
bool mmi_run_claim(struct mm_frames *f, uint64_t slot, uint64_t nr);
/* Give back what mmi_run_claim() took and nobody has seen. */
void mmi_run_unclaim(struct mm_frames *f, uint64_t slot, uint64_t nr);

/* What to look for, all in frames. */
struct mmi_run_wish {
    uint64_t nr;
    uint64_t align;
    uint64_t low;      /* lowest frame that may be used */
    uint64_t high;     /* first frame that may not */
    uint64_t boundary; /* no multiple of it lies inside; 0: none */
};

/* The highest run that fits, claimed: its first frame. */
bool mmi_run_alloc(struct mm_frames *f, const struct mmi_run_wish *wish, uint64_t *pfn);
/* An aligned block of order 9 or more. */
bool mmi_run_alloc_lines(struct mm_frames *f, unsigned order, uint64_t *pfn);

/* --- alloc.c: what fits in a line ------------------------------------------------------------- */

/* An aligned block of order 0 to 8. */
bool mmi_frame_alloc_order(struct mm_frames *f, uint32_t cpu, unsigned order, uint64_t *pfn);
/* A request has failed: count it and say so. */
mm_status_t mmi_frame_exhausted(struct mm_frames *f, uint64_t nr_frames);

/* --- request.c -------------------------------------------------------------------------------- */

/* "page table", ...: names of enum mm_frame_owner. */
const char *mmi_frame_owner_str(uint32_t owner);

/* --- physmap.c -------------------------------------------------------------------------------- */

/* What of `within` has an address in the direct map, frame 0 left out; false if nothing has. */
bool mmi_physmap_reachable(const struct mm_physmap *physmap, struct mm_prange within,
                           struct mm_prange *out);
/* From the lowest byte that the allocator manages to the highest. */
struct mm_prange mmi_frames_extent(const struct mm_frames *f);
/* Whether a direct map gives every frame an address. */
bool mmi_physmap_reaches(const struct mm_physmap *physmap, const struct mm_frames *f);

#endif
