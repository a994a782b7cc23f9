// SPDX-License-Identifier: MIT
/**
 * Which lines a search looks at, and in which order.
 *
 * An area is a stretch of lines of one node and zone. For each node there is an order of all areas:
 * from the node itself to the farthest, in each node from high memory to low, and what lies below
 * 16 MiB at the very end, so that it lasts. A walk goes twice through those of one node, and then on
 * to the next: that a line of the nearest is another CPU's is no reason to go far away.
 *
 *   stage 0   in each area, lines that no CPU keeps a hint to: first those that are whole or that
 *             this lifetime has opened, then those of other lifetimes. The summary may say of a line
 *             that it is whole, and another lifetime has it by now: that is looked at
 *   stage 1   all lines: a hint of another CPU is no claim
 *
 * In the area of the CPU's hint the walk goes on downwards from there, and comes back to the part
 * above last, so that lines have time to fill again.
 */
#include "state.h"

struct mmi_ask mmi_ask(struct mm_frames *f, uint32_t cpu)
{
    struct mmi_frame_cpu *mine = mmi_frame_cpu(f, cpu);

    return (struct mmi_ask){
        .f = f,
        .cpu = mine,
        .nodes = UINT64_MAX,
        .from = mine->node,
        .avoid = f->nr_withheld != 0 ? MMI_NOT_RESERVE : 0,
    };
}

const struct mm_frame_span *mmi_span_of_line(const struct mm_frames *f, uint64_t line)
{
    uint32_t low = 0;
    uint32_t nr = f->nr_spans;

    if (f->spans[0].first == 0) {
        low = 1; /* the line of frame 0 comes last */
        nr--;
    }
    while (nr > 1) {
        uint32_t half = nr / 2;

        low += f->spans[low + half].first_line <= line ? half : 0;
        nr -= half;
    }
    return &f->spans[low];
}

const struct mmi_frame_area *mmi_area_of_line(const struct mm_frames *f, uint64_t line)
{
    uint32_t low = 0;
    uint32_t nr = f->nr_areas;

    while (nr > 1) {
        uint32_t half = nr / 2;

        low += f->areas[low + half].first_line <= line ? half : 0;
        nr -= half;
    }
    return &f->areas[low];
}

bool mmi_slot_present(const struct mm_frames *f, uint64_t slot)
{
    return (mmi_load(&f->flags) & MMI_FRAMES_ABSENT) == 0 ||
           !mmi_line_bit(f, slot / MMI_LINE_FRAMES, MMI_ABSENT);
}

uint64_t mmi_frame_part(const struct mm_frames *f, uint64_t pfn, uint64_t nr, uint64_t *slot)
{
    const struct mm_frame_span *span = mmi_frame_span(f, pfn);
    uint64_t left;
    uint64_t part = 0;

    if (span == NULL) {
        return 0;
    }
    *slot = pfn - span->bias;
    left = span->first + span->nr - pfn;
    left = nr < left ? nr : left;
    if ((mmi_load(&f->flags) & MMI_FRAMES_ABSENT) == 0) {
        return left;
    }
    while (part < left && mmi_slot_present(f, *slot + part)) {
        part += MMI_LINE_FRAMES - (*slot + part) % MMI_LINE_FRAMES;
    }
    return part < left ? part : left;
}

static const struct mmi_frame_area *area_at(const struct mmi_ask *ask, uint32_t index)
{
    const struct mm_frames *f = ask->f;

    return &f->areas[f->order[(uint64_t)ask->from * f->nr_areas + index]];
}

static uint64_t at_most(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t at_least(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* The lines that are left to be looked at: the part of the area that the walk stands in. */
static void enter_part(const struct mmi_ask *ask, struct mmi_walk *w)
{
    const struct mmi_frame_area *area = area_at(ask, w->area);
    uint64_t low = at_least(area->first_line, w->first);
    uint64_t high = at_most(area->end_line, w->end);

    w->split = w->start >= low && w->start < high;
    w->low = w->above ? w->start + 1 : low;
    w->high = w->split && !w->above ? w->start + 1 : high;
    if ((ask->nodes >> area->node & 1) == 0) {
        w->high = w->low; /* nothing of it */
    }
}

void mmi_walk_within(const struct mmi_ask *ask, struct mmi_walk *w, unsigned word, uint64_t first,
                     uint64_t end)
{
    *w = (struct mmi_walk){.word = word, .start = MMI_FROM_TOP, .first = first, .end = end};
    if (ask->f->nr_areas != 0) {
        enter_part(ask, w);
    }
}

void mmi_walk_begin(const struct mmi_ask *ask, struct mmi_walk *w, unsigned word, uint64_t start)
{
    mmi_walk_within(ask, w, word, 0, UINT64_MAX);
    w->start = start;
    if (ask->f->nr_areas != 0) {
        enter_part(ask, w);
    }
}

/* Whether neighbours in the order are of one node, and both above 16 MiB or both below. */
static bool are_together(const struct mmi_ask *ask, uint32_t one, uint32_t other)
{
    const struct mmi_frame_area *a = area_at(ask, one);
    const struct mmi_frame_area *b = area_at(ask, other);

    return a->node == b->node && (a->zone == MM_ZONE_DMA) == (b->zone == MM_ZONE_DMA);
}

/* The part after this one; false: that was the last. */
static bool next_part(const struct mmi_ask *ask, struct mmi_walk *w)
{
    if (w->split && !w->above) {
        w->above = true;
        return true;
    }
    w->above = false;
    if (w->stage == 0 && !w->others && w->word != MMI_WHOLE) {
        w->others = true;
        return true;
    }
    w->others = false;
    if (w->area + 1 < ask->f->nr_areas && are_together(ask, w->area, w->area + 1)) {
        w->area++;
        return true;
    }
    if (w->stage++ == 0) {
        w->area = w->first_area;
        return true;
    }
    w->stage = 0;
    w->first_area = ++w->area;
    return w->area < ask->f->nr_areas;
}

/* The line is to be one that is whole or that the lifetime has opened, and is neither: it was whole
 * once, and another lifetime has taken it. */
static bool is_foreign(struct mmi_ask *ask, uint64_t line)
{
    bool taken = false;

    for (uint32_t i = 0; i < MMI_NR_LIFETIMES; i++) {
        taken = taken || (i != ask->lifetime && mmi_line_bit(ask->f, line, MMI_OPENED + i));
    }
    if (!taken || mmi_line_whole(ask->f, line)) {
        return false;
    }
    mmi_line_unwhole(ask, line);
    return true;
}

bool mmi_walk_next(struct mmi_ask *ask, struct mmi_walk *w, uint64_t *line)
{
    struct mmi_pick pick;

    if (ask->f->nr_areas == 0) {
        return false; /* frame 0 is all there is */
    }
    for (;;) {
        pick = (struct mmi_pick){
            .word = w->word,
            .unhinted = w->stage == 0,
            .mine = w->stage == 0 && !w->others,
        };
        if (mmi_line_find(ask, &pick, w->low, w->high, line)) {
            w->high = *line;
            if (MMI_UNLIKELY(pick.mine && w->word != MMI_WHOLE && is_foreign(ask, *line))) {
                continue;
            }
            return true;
        }
        if (!next_part(ask, w)) {
            return false;
        }
        enter_part(ask, w);
    }
}
