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
 * A line that is free as a whole can be *closed*: then 8 bits, one a row, say that all its frames are
 * free, and the rows are 0, so that a block of 2 MiB is claimed and freed by one exchange. Who wants
 * less of it opens it first, row by row: the bit goes, and the row becomes all ones. Whoever is
 * stopped half-way keeps one row from others, who open the rest.
 *
 * Summaries over the lines stand in groups of 64 lines, a word each:
 *
 *     has_free    the rows of the line may hold a free frame
 *     whole       all 512 frames of the line may be free, closed or not
 *     vain        a search for a block (a run) of this size found none in (touching) the line
 *     calm        a free in the line has no `vain` bits to take back, there or beside it
 *     hinted      a CPU keeps a hint to the line: others go elsewhere as long as they can
 *     opened      which lifetime took frames of the line when it was whole last
 *     reserve     withheld from all but MM_FRAME_ATOMIC
 *     kernel      withheld from user memory
 *     absent      not there yet, or removed: none of its frames is free or allocated
 *     zero        when the line is whole, its frames are zero
 *
 * Invariants, when no call is in progress:
 *  - a frame is free exactly if its bit of `rows` is 1 or its row is closed, never both; of a line
 *    all rows are closed, or none;
 *  - a closed line has no bit in `has_free`, so that who frees a frame of it, which is a double free,
 *    goes the long way and sees that;
 *  - a line with a bit in its rows has its bit in `has_free`; a line that is free as a whole has its
 *    bit in `whole`; a group with one of either has its bit in the top of that class. The converse
 *    need not hold: a summary may promise too much, and who finds that corrects it;
 *  - a line with a bit in `vain` has no such block in its rows, and it has no bit in `calm`. For a run
 *    its neighbours have none either. What a closed line has to do with a run is found by who comes
 *    to that line.
 * How they stay true while calls are in progress is told in summary.c.
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
#define MMI_ROW_ORDER   6u
#define MMI_LINE_ROWS   8u
#define MMI_LINE_FRAMES 512u
#define MMI_LINE_ORDER  9u
#define MMI_CLOSED      0xffu /* rows of a line, one bit each */
#define MMI_NO_SLOT     UINT64_MAX
#define MMI_PFN_END     (UINT64_C(1) << (MM_PADDR_BITS_MAX - MM_PAGE_SHIFT))

/* Turns of a search when frames came back meanwhile, behind where it looked. */
#define MMI_TRIES_MAX 16

/* In mm_frames.nr_pins, above the count: pins have made a frame immortal. */
#define MMI_PINS_LOST (UINT64_C(1) << 63)

/* In mm_frames.flags beside the public ones: each of them sends frees the long way. */
#define MMI_FRAMES_ABSENT      (UINT32_C(1) << 16)  /* some lines are absent */
#define MMI_FRAMES_PRESSED     UINT32_C(0xfffe0000) /* so many zones are below a watermark, */
#define MMI_FRAMES_ONE_PRESSED (UINT32_C(1) << 17)  /* one of them */

struct mm_frame_span {
    uint64_t first; /* lowest frame */
    uint64_t nr;    /* frames */
    uint64_t bias;  /* frame number - slot, modulo 2^64; a multiple of 512 */
    uint64_t first_line;
    uint64_t nr_lines;
    uint32_t node;
    uint32_t later;   /* 1: absent at first */
    uint64_t away[2]; /* 64 bytes: see hints */
};

_Static_assert(sizeof(struct mm_frame_span) == 64 && MM_FRAME_MAX_SPANS < (1u << 24),
               "a hint names a span by its place in bytes");
_Static_assert(MM_FRAME_MAX_SPANS + MM_ZONE_COUNT <= UINT16_MAX,
               "the order of areas: 16 bits each");
_Static_assert(MM_MAX_NODES <= 64, "a set of nodes is one word");

/* Lines of one node and zone, without a gap. */
struct mmi_frame_area {
    uint64_t first_line;
    uint64_t end_line;
    uint32_t node;
    uint32_t zone; /* enum mm_zone */
};

/* One zone of one node. Atomic but for nr_frames and the watermarks, which change seldom. */
struct mmi_frame_zone {
    _Alignas(MM_CACHE_LINE) uint64_t nr_frames; /* present or not */
    struct mm_frame_watermarks marks;
    uint32_t level; /* enum mm_pressure */
    uint32_t looks; /* calls for a count, until they are answered; 0: nobody counts or tells */
    int64_t down;   /* frames that may be taken before the zone must be counted again, */
    int64_t up;     /* and that may be freed */
    uint64_t nr_peak;
};

/*
 * A hint names a row and the span that it lies in, in one word, so that it is read and replaced as
 * one, and so that both are found by one instruction each: bit 0 whether this CPU has set the line's
 * bit in `hinted`, bits 6 to 29 where the span is in the table, in bytes, bits 30 to 63 the row.
 * Whatever it names, allocating there is correct; so it never names a line that is withheld from
 * anybody, nor any line at all where each frame is looked at (MM_FRAMES_POISON).
 */
#define MMI_HINT_OWNED     UINT64_C(1)
#define MMI_HINT_SPAN_MASK UINT64_C(0x3fffffc0)
#define MMI_HINT_ROW_SHIFT 30

/* Single frames and blocks come from different lines, so that they do not cut each other up, and
 * so do lifetimes. */
#define MMI_NR_LIFETIMES 4
#define MMI_NR_HINTS     8

struct mmi_frame_cpu {
    _Alignas(MM_CACHE_LINE) uint64_t hints[MMI_NR_HINTS]; /* atomic; see mmi_hint_of() */
    _Alignas(MM_CACHE_LINE) uint64_t line; /* atomic: a hint to the whole line that was used last */
    uint64_t turn;                         /* atomic: the node that MM_NODE_INTERLEAVE used last */
    uint64_t left;                         /* atomic: rows with free frames; see alloc.c */
    uint32_t node;
};

/* Of one node or all, one zone or all. */
static inline struct mmi_frame_zone *mmi_zone(const struct mm_frames *f, uint32_t node,
                                              uint32_t zone)
{
    node = node == MM_NODE_ALL ? f->nr_nodes : node;
    zone = zone == MM_ZONE_ALL ? MM_ZONE_COUNT : zone;
    return &f->zones[node * (MM_ZONE_COUNT + UINT64_C(1)) + zone];
}

static inline uint64_t *mmi_hint_of(struct mmi_frame_cpu *cpu, uint32_t lifetime, unsigned order)
{
    return &cpu->hints[lifetime * 2 + (order == 0 ? 0 : 1)];
}

static inline uint64_t mmi_hint_row(uint64_t hint)
{
    return hint >> MMI_HINT_ROW_SHIFT;
}

static inline const struct mm_frame_span *mmi_hint_span(const struct mm_frames *f, uint64_t hint)
{
    return (const void *)((const uint8_t *)f->spans + (hint & MMI_HINT_SPAN_MASK));
}

/* A hint to a row of a span. */
static inline uint64_t mmi_hint_to(const struct mm_frames *f, const struct mm_frame_span *span,
                                   uint64_t row)
{
    uint64_t place = (uint64_t)((const uint8_t *)span - (const uint8_t *)f->spans);

    return place | row << MMI_HINT_ROW_SHIFT;
}

/* The hint on another row of its line or of another line of its span. */
static inline uint64_t mmi_hint_at(uint64_t hint, uint64_t row)
{
    return (hint & ((UINT64_C(1) << MMI_HINT_ROW_SHIFT) - 1)) | row << MMI_HINT_ROW_SHIFT;
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

/* Whether the memory of a slot is there; where there is doubt only, so that it costs a flag. */
bool mmi_slot_present(const struct mm_frames *f, uint64_t slot);
/* The slot of a frame that is managed and present, or MMI_NO_SLOT. */
static inline uint64_t mmi_present_slot(const struct mm_frames *f, uint64_t pfn)
{
    uint64_t slot = mmi_frame_slot(f, pfn);

    return slot != MMI_NO_SLOT && mmi_slot_present(f, slot) ? slot : MMI_NO_SLOT;
}

/* A run as parts that each lie in one span and are present: how many of its frames from `pfn` on lie
 * in the same part as that one, and its slot. 0 if it is not managed. */
uint64_t mmi_frame_part(const struct mm_frames *f, uint64_t pfn, uint64_t nr, uint64_t *slot);

/* The bits of a row at which an aligned block of free frames begins; order 0 to 6. */
static inline uint64_t mmi_row_fits(uint64_t row, unsigned order)
{
    static const uint64_t starts[] = {
        UINT64_MAX,
        UINT64_C(0x5555555555555555),
        UINT64_C(0x1111111111111111),
        UINT64_C(0x0101010101010101),
        UINT64_C(0x0001000100010001),
        UINT64_C(0x0000000100000001),
        UINT64_C(0x0000000000000001),
    };

    for (unsigned i = 0; i < order; i++) {
        row &= row >> (1u << i);
    }
    return row & starts[order];
}

static inline bool mmi_bit(const uint64_t *bits, uint64_t at)
{
    return (mmi_load_seq(&bits[at / 64]) >> (at % 64) & 1) != 0;
}

/* The part of [slot, slot + nr) that lies in the row of `slot`, as a mask; `*taken` says how many.
 */
static inline uint64_t mmi_row_part(uint64_t slot, uint64_t nr, unsigned *taken)
{
    unsigned from = (unsigned)(slot & (MMI_ROW_FRAMES - 1));
    unsigned left = MMI_ROW_FRAMES - from;

    *taken = nr < MMI_ROW_FRAMES && nr < left ? (unsigned)nr : left;
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

/* The lowest managed frame of a line, and the one behind the highest. */
static inline uint64_t mmi_line_first(const struct mm_frame_span *span, uint64_t line)
{
    uint64_t first = line * MMI_LINE_FRAMES + span->bias;

    return line == span->first_line ? span->first : first;
}

static inline uint64_t mmi_line_end(const struct mm_frame_span *span, uint64_t line)
{
    uint64_t end = (line + 1) * MMI_LINE_FRAMES + span->bias;

    return line + 1 == span->first_line + span->nr_lines ? span->first + span->nr : end;
}

/* --- groups and tops -------------------------------------------------------------------------- */

#define MMI_GROUP_LINES 64u
#define MMI_GROUP_WORDS 32u

/* The words of a group. */
enum mmi_word {
    MMI_HAS_FREE = 0,
    MMI_WHOLE = 1,
    MMI_CALM = 2,
    MMI_HINTED = 3,
    MMI_OPENED = 4, /* to 7, by lifetime */
    MMI_RESERVE = 8,
    MMI_KERNEL = 9,
    MMI_ABSENT = 10,
    MMI_ZERO = 11,
    MMI_VAIN_BLOCK = 16, /* order 1 to 8: 16 to 23 */
    MMI_VAIN_RUN = 24,   /* 2 to 256 frames: 24 to 31 */
};

/* The longest run that is remembered. */
#define MMI_VAIN_RUN_MAX 256u

/* The tops, a bit a group: of has_free and whole whether a line of the group may have it; of each of
 * the 16 `vain` words whether the group is *barren*, that is: each line that has free frames has
 * that bit; and whether the group is barren in any of the 16 ways, so that frees need not look at
 * all of them. */
#define MMI_TOP_HAS_FREE   0u
#define MMI_TOP_WHOLE      1u
#define MMI_TOP_BARREN     2u /* to 17 */
#define MMI_TOP_ANY_BARREN 18u
#define MMI_NR_TOPS        19u
#define MMI_NR_VAIN        16u

static inline uint64_t *mmi_word(const struct mm_frames *f, uint64_t line, unsigned word)
{
    return &f->groups[line / MMI_GROUP_LINES * MMI_GROUP_WORDS + word];
}

static inline bool mmi_line_bit(const struct mm_frames *f, uint64_t line, unsigned word)
{
    return (mmi_load_seq(mmi_word(f, line, word)) >> (line % MMI_GROUP_LINES) & 1) != 0;
}

static inline uint64_t mmi_line_mask(uint64_t line)
{
    return UINT64_C(1) << (line % MMI_GROUP_LINES);
}

static inline uint64_t *mmi_top(const struct mm_frames *f, unsigned top, uint64_t group)
{
    return &f->tops[top * f->top_words + group / 64];
}

/* The rows of a line that are closed, as 8 bits. */
static inline unsigned mmi_closed_rows(const struct mm_frames *f, uint64_t line)
{
    return (unsigned)(mmi_load_seq(&f->closed[line / 8]) >> (line % 8 * 8)) & MMI_CLOSED;
}

/* Whether all are. */
static inline bool mmi_line_closed(const struct mm_frames *f, uint64_t line)
{
    return mmi_closed_rows(f, line) == MMI_CLOSED;
}

static inline bool mmi_row_closed(const struct mm_frames *f, uint64_t row)
{
    return mmi_bit(f->closed, row);
}

/* The free frames of a row, for who only looks. */
static inline uint64_t mmi_row_free(const struct mm_frames *f, uint64_t row)
{
    return mmi_row_closed(f, row) ? UINT64_MAX : mmi_load_seq(&f->rows[row]);
}

static inline bool mmi_slot_free(const struct mm_frames *f, uint64_t slot)
{
    return (mmi_row_free(f, slot / MMI_ROW_FRAMES) >> (slot % MMI_ROW_FRAMES) & 1) != 0;
}

/* --- summary.c: the summaries over the bitmap ------------------------------------------------- */

/* Who asks, and what that is about: the searches hand it on to each other. */
struct mmi_ask {
    struct mm_frames *f;
    struct mmi_frame_cpu *cpu;
    uint64_t nodes;    /* bit n: node n will do */
    uint32_t from;     /* the node to begin with */
    uint32_t lifetime; /* enum mm_lifetime */
    uint32_t avoid;    /* MMI_NOT_..., MMI_ONLY_...: lines that will not do; 0: all will */
    /* Of the turn over the summaries that is going on: */
    uint64_t before; /* `unsettled` when it began */
    uint64_t own;    /* corrections that it made itself */
    bool again;      /* something came back where it had looked already */
};

/* What `avoid` is made of: lines that are withheld from who asks (mmi_line_withheld() heeds these
 * two alone), and lines that this search leaves to another one, by what is known of their contents. */
#define MMI_NOT_RESERVE 1u /* no line of the reserve */
#define MMI_NOT_KERNEL  2u /* none of what user memory never gets */
#define MMI_ONLY_ZEROED 4u /* lines with a bit in `zero` */
#define MMI_NOT_ZEROED  8u /* lines without */

/* Which lines a search wants to see. */
struct mmi_pick {
    unsigned
        word; /* MMI_WHOLE; MMI_HAS_FREE: or has_free; a `vain` word: or has_free, and not that */
    bool unhinted; /* no line that a CPU keeps a hint to */
    bool mine;     /* only whole ones, and those that this lifetime opened */
};

/* If the line has no free frame, take it out of the summary: false, it has one. */
bool mmi_line_retire(struct mmi_ask *ask, uint64_t line);
/* The same for a line that searches know of, and that was empty a moment ago. */
bool mmi_line_retire_empty(struct mmi_ask *ask, uint64_t line);
/* Nothing of the line could be had: take it out of the summaries that promise too much. False: its rows
 * have free frames, or it is whole. */
bool mmi_line_pass(struct mmi_ask *ask, uint64_t line);
/* The line was found not to be whole: take it out of the summary. */
void mmi_line_unwhole(struct mmi_ask *ask, uint64_t line);
/* No block, or no run that touches the line, was found in it: remember that. */
void mmi_line_vain(struct mmi_ask *ask, uint64_t line, unsigned word);
bool mmi_line_empty(const struct mm_frames *f, uint64_t line);
bool mmi_line_whole(const struct mm_frames *f, uint64_t line);
/* Its free frames. */
uint64_t mmi_line_count(const struct mm_frames *f, uint64_t line);
/* Whether the line holds a free aligned block of order 1 to 8. */
bool mmi_block_in_line(const struct mm_frames *f, uint64_t line, unsigned order);
/* The highest line of [low, high) that qualifies. */
bool mmi_line_find(struct mmi_ask *ask, const struct mmi_pick *pick, uint64_t low, uint64_t high,
                   uint64_t *line);
/* Whether a line is withheld from who asks. */
bool mmi_line_withheld(const struct mmi_ask *ask, uint64_t line);
/* Whether a free frame is. */
bool mmi_any_withheld(const struct mmi_ask *ask);

/* Corrections that others may be misled by while they last; see mmi_settled(). */
void mmi_unsettled_begin(struct mm_frames *f);
void mmi_unsettled_end(struct mm_frames *f);
/* A turn over the summaries begins. */
void mmi_turn_begin(struct mmi_ask *ask);
/* It has found nothing: whether that is the truth, since nothing came back that it passed by, and no
 * summary was corrected meanwhile but by itself. */
bool mmi_settled(const struct mmi_ask *ask);

/* The bits of `mask` have been set in a row, which has become `now`: bring the summaries up to it.
 * False: the line is closed, so that these frames were free before. Their bits are taken back. */
bool mmi_row_freed_slow(struct mm_frames *f, uint64_t row, uint64_t now, uint64_t mask);
/* The bits of `mask` may be set in a row that is closed. True, and they are gone: they were when both
 * were so at one time, which is a double free. See blocks.c. */
bool mmi_row_take_back(struct mm_frames *f, uint64_t row, uint64_t mask);
/* A line has been closed, and is in `has_free` or not in `whole`: bring the summaries up to it. Panics
 * if a frame of it was freed beside. */
void mmi_line_closed_slow(struct mm_frames *f, uint64_t line);
/* The rows of a line tell what is free of it again. */
void mmi_line_opened(struct mm_frames *f, uint64_t line);

/* Whether the summaries need not hear of that. */
static inline bool mmi_row_fine(const struct mm_frames *f, uint64_t row, uint64_t now)
{
    uint64_t line = row / MMI_LINE_ROWS;
    const uint64_t *group = mmi_word(f, line, 0);
    uint64_t fine = mmi_load_seq(&group[MMI_HAS_FREE]) & mmi_load_seq(&group[MMI_CALM]);

    if (MMI_UNLIKELY(now == UINT64_MAX)) {
        fine &= mmi_load_seq(&group[MMI_WHOLE]);
    }
    return (fine >> (line % MMI_GROUP_LINES) & 1) != 0;
}

/* The bits of `mask` are set in a row that was `old`: keep the summaries true. False as above. */
static inline bool mmi_row_freed(struct mm_frames *f, uint64_t row, uint64_t old, uint64_t mask)
{
    return MMI_LIKELY(mmi_row_fine(f, row, old | mask)) ||
           mmi_row_freed_slow(f, row, old | mask, mask);
}

/* --- areas.c: which lines are looked at, and in which order ------------------------------------ */

/* An ask of a request for this CPU: any node from its own on, any lifetime, nothing withheld. */
struct mmi_ask mmi_ask(struct mm_frames *f, uint32_t cpu);
const struct mm_frame_span *mmi_span_of_line(const struct mm_frames *f, uint64_t line);
const struct mmi_frame_area *mmi_area_of_line(const struct mm_frames *f, uint64_t line);

/* Asks for memory near the CPU, which a hint is for; others leave hints alone. */
static inline bool mmi_is_local(const struct mmi_ask *ask)
{
    return ask->nodes == UINT64_MAX && ask->from == ask->cpu->node;
}

/* No line: each area is begun at its end. One is added to it, so it is not the highest number. */
#define MMI_FROM_TOP (UINT64_MAX - 1)

/* A walk over the lines of a word in all areas that will do, from near to far: those that nobody
 * else uses first. */
struct mmi_walk {
    unsigned word;       /* as in struct mmi_pick */
    uint64_t start;      /* the line where its area is begun, or MMI_FROM_TOP */
    uint64_t first;      /* no line below, */
    uint64_t end;        /* none from here on */
    uint32_t area;       /* index in the order */
    uint32_t first_area; /* the first of this node */
    uint32_t stage;      /* 0: unhinted, in each area those of the lifetime first; 1: all */
    bool others;         /* stage 0: those of other lifetimes too */
    bool split;          /* the start lies in this area */
    bool above;          /* then: the part of the area above the start */
    uint64_t low, high;
};

void mmi_walk_begin(const struct mmi_ask *ask, struct mmi_walk *w, unsigned word, uint64_t start);
/* The same for lines [first, end) only. */
void mmi_walk_within(const struct mmi_ask *ask, struct mmi_walk *w, unsigned word, uint64_t first,
                     uint64_t end);
bool mmi_walk_next(struct mmi_ask *ask, struct mmi_walk *w, uint64_t *line);

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

/* Whether, in rows of lines that are not closed, a free run of so many frames touches the line, within
 * its span; nr <= 512. */
bool mmi_run_near(const struct mm_frames *f, uint64_t line, uint64_t nr);
/* The highest run of the nearest area that fits, claimed: its first frame. */
bool mmi_run_alloc(struct mmi_ask *ask, const struct mmi_run_wish *wish, uint64_t *pfn);
/* The same without any summary: the last look, for who was misled by others too often. */
bool mmi_run_alloc_exact(struct mmi_ask *ask, const struct mmi_run_wish *wish, uint64_t *pfn);

/* --- blocks.c: blocks of whole lines ---------------------------------------------------------- */

/* Claim a line if it is whole. */
bool mmi_line_claim(struct mm_frames *f, uint64_t line);
/* Free a line of 512 frames, if none of them is free: false, and nothing is changed. Panics if one is
 * freed by somebody else at the same moment. */
bool mmi_line_free(struct mm_frames *f, uint64_t line);
/* Frames of a closed row, `found`, were freed by one who did not see that the row was closed. */
_Noreturn void mmi_panic_in_closed(const struct mm_frames *f, uint64_t row, uint64_t found);
/* The rows of a line are to tell: open it, if it is closed. */
void mmi_line_open(struct mm_frames *f, uint64_t line);
/* The line that this CPU claimed last, if it is whole again: for blocks that come and go. */
bool mmi_line_alloc_by_hint(struct mm_frames *f, struct mmi_frame_cpu *cpu, uint64_t *pfn);
/* An aligned block of order 9 or more; `to_zero`: rather one that is known to be zero. */
bool mmi_lines_alloc(struct mmi_ask *ask, unsigned order, bool to_zero, uint64_t *pfn);

/* --- alloc.c: what fits in a line ------------------------------------------------------------- */

/* An aligned block of order 0 to 8. */
bool mmi_frame_alloc_order(struct mmi_ask *ask, unsigned order, uint64_t *pfn);
/* Whether a hint may name the line. */
bool mmi_may_hint(const struct mm_frames *f, uint64_t line);
/* Whether a CPU of the node would rather have its hint elsewhere: to its own memory, above 16 MiB. */
bool mmi_is_strayed(const struct mm_frames *f, uint32_t node, uint64_t line);
/* A line was found by the walk, and frames of it have been claimed, the last in `row`: let the hint,
 * if there is one, name it from now on. */
void mmi_settle_in(struct mmi_ask *ask, uint64_t *hint, uint64_t line, uint64_t row,
                   const struct mmi_walk *w);
/* There is memory of the node again: take back the hints of its CPUs that point elsewhere, or to
 * memory below 16 MiB. */
void mmi_hints_return(struct mm_frames *f, uint32_t node);
/* A request has failed: count it and say so. */
mm_status_t mmi_frame_failed(struct mm_frames *f, enum mm_frame_cause cause, uint64_t nr_frames);

/* One frame for a page, near this CPU: as mm_frame_alloc() of a request with this owner and tag, and
 * MM_FRAME_ZERO or not, which wants a physmap. */
MM_MUST_CHECK
mm_status_t mmi_frame_alloc_page(struct mm_frames *f, uint32_t cpu, uint32_t owner, uint64_t tag,
                                 bool zero, mm_pfn_t *out);
/* Frames have been claimed for a caller, not by the hot path: the tiers look at them. */
void mmi_frames_taken(struct mm_frames *f, uint64_t pfn, uint64_t slot, uint64_t nr);

/* --- pressure.c ------------------------------------------------------------------------------- */

/* Frames side by side have been taken, or put aside for a CPU: maybe zones must be counted. Only
 * where `watched` says so. It may call the pressure op, so nothing may be half done. */
void mmi_pressure_taken(struct mm_frames *f, uint64_t slot, uint64_t nr);
/* Frames of the line have been freed, or are no CPU's own any more, while there is pressure. */
void mmi_pressure_freed(struct mm_frames *f, uint64_t line, uint64_t nr);

/* --- stats.c ---------------------------------------------------------------------------------- */

/* Raise a figure to `now`; the highest so far. */
uint64_t mmi_raise_peak(uint64_t *peak, uint64_t now);

/* --- zero.c: zeroing and poison --------------------------------------------------------------- */

/* Zero frames; false: the physmap's op could not map one. */
bool mmi_frames_zero(struct mm_frames *f, uint64_t pfn, uint64_t nr);
/* Look whether frames that were handed out still hold poison; panics if not. */
void mmi_poison_verify(struct mm_frames *f, uint64_t pfn, uint64_t slot, uint64_t nr);
/* Fill frames that are being freed. */
void mmi_poison_fill(struct mm_frames *f, uint64_t pfn, uint64_t slot, uint64_t nr);

/* A null allocator has no frame to take back, and no hook to tell: as a panic without one. */
static inline void mmi_frames_not_null(const struct mm_frames *f)
{
    if (MMI_UNLIKELY(f == NULL)) {
        __builtin_trap();
    }
}

/* --- records.c: references and pins ----------------------------------------------------------- */

/* Whether a word of `refs` is one that a frame in use can have. */
bool mmi_refs_sound(uint32_t refs);
/* The pins in it; of an immortal frame none are counted. */
uint64_t mmi_refs_pins(uint32_t refs);
/* mm_frame_get() of each frame of a run, which one look finds. Those before one that makes it panic
 * may have got their reference. */
void mmi_frame_share(struct mm_frames *f, mm_pfn_t first, uint64_t nr);
/* Pins of all frames now, but of those that are immortal. */
uint64_t mmi_frame_nr_pins(const struct mm_frames *f);
/* Whether a frame may be pinned now; who begins to at this moment may be missed. From when pins have
 * made a frame immortal it is so for ever, because nobody knows when the last of them goes. */
bool mmi_frame_any_pinned(const struct mm_frames *f);

/* What the caller of a free says, for the panic. */
struct mmi_claim {
    const char *text;
    uint64_t value;
};

/* Panic if one of the frames, which are allocated, has references or pins other than the caller's,
 * or is immortal. */
void mmi_refs_check(const struct mm_frames *f, uint64_t pfn, uint64_t slot, uint64_t nr,
                    struct mmi_claim claim);
/* Drop a reference; true: it was the last, no pin is left, and the caller must free the frame. A
 * frame that is free or absent has one too; whoever frees it finds that. */
bool mmi_refs_drop(struct mm_frames *f, uint64_t pfn, uint64_t slot, struct mmi_claim claim);
_Noreturn void mmi_frame_panic(const struct mm_frames *f, const char *what, uint64_t pfn,
                               struct mmi_claim claim);

/* --- owners.c --------------------------------------------------------------------------------- */

/* A word of `tags` has the owner above the tag. */
#define MMI_OWNER_SHIFT 60

/* The owner that a word of `tags` names; whether there is such a one is for the caller to see. */
static inline uint32_t mmi_owner_of(uint64_t record)
{
    return (uint32_t)(record >> MMI_OWNER_SHIFT);
}

/* The frames are being freed: forget their owners. */
void mmi_owners_clear(struct mm_frames *f, uint64_t slot, uint64_t nr);
/* The frames are the owner's; only where owners are kept. */
void mmi_owners_set(struct mm_frames *f, uint64_t slot, uint64_t nr, uint32_t owner, uint64_t tag);
/* Panic if one of the frames is not `owner`'s, with the tag that the claim's value is. */
void mmi_owners_check(const struct mm_frames *f, uint64_t pfn, uint64_t slot, uint64_t nr,
                      uint32_t owner, struct mmi_claim claim);

/* --- free.c ----------------------------------------------------------------------------------- */

/* Free one frame that has a slot, and no references but the caller's. */
void mmi_frame_free_one(struct mm_frames *f, uint64_t pfn, uint64_t slot, struct mmi_claim claim);

/* --- request.c -------------------------------------------------------------------------------- */

/* Why there was no memory; `constrained`: it was to lie in some place. */
enum mm_frame_cause mmi_frame_cause(const struct mmi_ask *ask, bool constrained, uint64_t nr);

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
