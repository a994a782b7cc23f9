// SPDX-License-Identifier: MIT
/**
 * Pressure: which zone is short of memory, and who hears of it.
 *
 * No frame is counted on its way. A zone has two budgets: frames that may be taken (`down`) and
 * frames that may be freed (`up`) before it can have crossed a watermark, by what its last count
 * found. Whoever takes a line, a block, a run or a bulk pays from `down`; a CPU that settles in a
 * line pays for all that is free in it, and takes those frames without a word afterwards. Frees pay
 * from `up`, and only while a zone is pressed: MMI_FRAMES_PRESSED sends them the long way. Who pays
 * the last frame of a budget has the zone counted.
 *
 *     NONE ──── below `low` ───> LOW ──── below `min` ───> MIN
 *       ^                         │ ^                       │
 *       └───── at `high` ─────────┘ └────── at `min` ───────┘      (from MIN to `high` at once, too)
 *
 * One CPU counts a zone at a time. `looks` is the try-lock: the first to raise it from 0 counts, who
 * comes later leaves a call there, and whoever counts does so again until no call is left. So the
 * op, which is called from there, is not called by two for one zone, and what changes while it runs
 * is told by the same CPU afterwards.
 *
 * No payment is lost: both budgets are set to NEVER before the rows are read, and what they are to
 * be is added afterwards, so what was paid meanwhile is paid from the new ones, even if the count
 * has seen those frames go. What is freed between a count and the moment when frees begin to pay is
 * in no budget: so a zone that becomes pressed is counted once more. Frees set the bit first, then
 * read `flags`; here `flags` are set first, then the bits are read.
 */
#include "state.h"

/* A budget that nobody uses up: 2^62 frames, where no machine has 2^40. */
#define NEVER (INT64_MAX / 2)

/* --- counting --------------------------------------------------------------------------------- */

struct tally {
    uint64_t nr_free; /* but for lines that a CPU keeps a hint to */
    uint64_t nr_all;  /* free frames */
    uint64_t nr_absent;
};

static void count_group(const struct mm_frames *f, uint64_t first, uint64_t mask, struct tally *t)
{
    uint64_t lines = (mmi_load_seq(mmi_word(f, first, MMI_HAS_FREE)) |
                      mmi_load_seq(mmi_word(f, first, MMI_WHOLE))) &
                     mask;
    uint64_t hinted = mmi_load_seq(mmi_word(f, first, MMI_HINTED));
    uint64_t absent = mmi_load(mmi_word(f, first, MMI_ABSENT)) & mask;

    for (; lines != 0; lines &= lines - 1) {
        uint64_t nr = mmi_line_count(f, first + mmi_ctz(lines));

        t->nr_all += nr;
        t->nr_free += (hinted & lines & (0 - lines)) == 0 ? nr : 0;
    }
    for (; absent != 0; absent &= absent - 1) {
        uint64_t line = first + mmi_ctz(absent);
        const struct mm_frame_span *span = mmi_span_of_line(f, line);

        t->nr_absent += mmi_line_end(span, line) - mmi_line_first(span, line);
    }
}

static struct tally count_zone(const struct mm_frames *f, uint32_t node, uint32_t zone)
{
    const struct mm_frame_span *zero = &f->spans[0];
    struct tally t = {0};

    for (uint32_t i = 0; i < f->nr_areas; i++) {
        const struct mmi_frame_area *area = &f->areas[i];
        uint64_t nr;

        for (uint64_t line = area->first_line;
             area->node == node && area->zone == zone && line < area->end_line; line += nr) {
            unsigned from = (unsigned)(line % MMI_GROUP_LINES);

            nr = MMI_GROUP_LINES - from;
            nr = area->end_line - line < nr ? area->end_line - line : nr;
            count_group(f, line - from, mmi_mask(from, (unsigned)nr), &t);
        }
    }
    if (zero->first == 0 && zero->node == node && zone == MM_ZONE_DMA) {
        t.nr_all += mmi_line_count(f, zero->first_line); /* of no area: frame 0 */
    }
    return t;
}

/* --- levels ----------------------------------------------------------------------------------- */

static struct mm_frame_watermarks marks_of(const struct mmi_frame_zone *z)
{
    return (struct mm_frame_watermarks){
        .min = mmi_load(&z->marks.min),
        .low = mmi_load(&z->marks.low),
        .high = mmi_load(&z->marks.high),
    };
}

static uint32_t level_of(const struct mm_frame_watermarks *marks, uint32_t before, uint64_t nr_free)
{
    if (nr_free < marks->min) {
        return MM_PRESSURE_MIN;
    }
    if (nr_free >= marks->high || (nr_free >= marks->low && before == MM_PRESSURE_NONE)) {
        return MM_PRESSURE_NONE;
    }
    return MM_PRESSURE_LOW;
}

/* A distance as a budget: never so small that each line has the zone counted. */
static int64_t budget_of(const struct mmi_frame_zone *z, uint64_t distance)
{
    uint64_t least = z->nr_frames / 256 + 1;

    if (distance >= (uint64_t)NEVER) {
        return NEVER;
    }
    return (int64_t)(distance > least ? distance : least);
}

/* Frames that may go until the level falls, and come until it rises. */
static int64_t budget_down(const struct mmi_frame_zone *z, const struct mm_frame_watermarks *marks,
                           uint32_t level, uint64_t nr_free)
{
    uint64_t mark = level == MM_PRESSURE_NONE ? marks->low : marks->min;

    if (level == MM_PRESSURE_MIN) {
        return NEVER;
    }
    /* Watermarks that are being set may not be in order for a moment. */
    return budget_of(z, nr_free > mark ? nr_free - mark + 1 : 1);
}

static int64_t budget_up(const struct mmi_frame_zone *z, const struct mm_frame_watermarks *marks,
                         uint32_t level, uint64_t nr_free)
{
    if (level == MM_PRESSURE_NONE) {
        return NEVER;
    }
    return budget_of(z, (level == MM_PRESSURE_MIN ? marks->min : marks->high) - nr_free);
}

/* A budget that was NEVER becomes `nr`, less what was paid since; true: that was more. */
static bool renew(int64_t *budget, int64_t nr)
{
    return mmi_fetch_add(budget, nr - NEVER) + (nr - NEVER) <= 0;
}

/* The zone's level changes; only who counts it does that. */
static void change_level(struct mm_frames *f, struct mmi_frame_zone *z, uint32_t from, uint32_t to)
{
    uint32_t old = from;

    (void)mmi_cas_seq(&z->level, &old, to);
    if (from == MM_PRESSURE_NONE) {
        (void)mmi_fetch_add_seq(&f->flags, MMI_FRAMES_ONE_PRESSED);
    } else if (to == MM_PRESSURE_NONE) {
        (void)mmi_fetch_sub(&f->flags, MMI_FRAMES_ONE_PRESSED);
    }
}

/* --- looking ---------------------------------------------------------------------------------- */

/* Count the zone and tell of what has changed; true: it must be counted again. */
static bool look_once(struct mm_frames *f, uint32_t node, uint32_t zone)
{
    struct mmi_frame_zone *z = mmi_zone(f, node, zone);
    struct mm_frame_watermarks marks;
    uint32_t before = mmi_load(&z->level);
    uint32_t level;
    struct tally t;
    bool again;

    (void)mmi_exchange(&z->down, NEVER);
    (void)mmi_exchange(&z->up, NEVER);
    marks = marks_of(z);
    t = count_zone(f, node, zone);
    if (t.nr_absent + t.nr_all <= z->nr_frames) { /* not so while memory is being added */
        (void)mmi_raise_peak(&z->nr_peak, z->nr_frames - t.nr_absent - t.nr_all);
    }
    level = level_of(&marks, before, t.nr_free);
    if (level != before) {
        change_level(f, z, before, level);
    }
    again = renew(&z->down, budget_down(z, &marks, level, t.nr_free));
    again = renew(&z->up, budget_up(z, &marks, level, t.nr_free)) || again;
    if (level != before && f->ops.pressure != NULL) {
        f->ops.pressure(f->ops_ctx, node, (enum mm_zone)zone, (enum mm_pressure)level, t.nr_free);
    }
    return again || (before == MM_PRESSURE_NONE && level != before);
}

static void look(struct mm_frames *f, uint32_t node, uint32_t zone)
{
    struct mmi_frame_zone *z = mmi_zone(f, node, zone);
    uint32_t answered = 1;

    if (mmi_fetch_add(&z->looks, 1) != 0) {
        return; /* who counts now will do so again */
    }
    /* Where more have called than were answered, the exchange fails and says how many. */
    while (look_once(f, node, zone) || !mmi_cas(&z->looks, &answered, 0)) {
    }
}

static void pay(struct mm_frames *f, const struct mmi_frame_area *area, bool freed, uint64_t nr)
{
    struct mmi_frame_zone *z = mmi_zone(f, area->node, area->zone);
    int64_t had;

    if (mmi_load(&z->marks.high) == 0 || (freed && mmi_load_seq(&z->level) == MM_PRESSURE_NONE)) {
        return;
    }
    had = mmi_fetch_sub(freed ? &z->up : &z->down, (int64_t)nr);
    if (had > 0 && had <= (int64_t)nr) {
        look(f, area->node, area->zone);
    }
}

void mmi_pressure_taken(struct mm_frames *f, uint64_t slot, uint64_t nr)
{
    while (nr != 0 && slot / MMI_LINE_FRAMES < f->nr_lines) {
        const struct mmi_frame_area *area = mmi_area_of_line(f, slot / MMI_LINE_FRAMES);
        uint64_t left = area->end_line * MMI_LINE_FRAMES - slot;
        uint64_t part = nr < left ? nr : left;

        pay(f, area, false, part);
        slot += part;
        nr -= part;
    }
}

void mmi_pressure_freed(struct mm_frames *f, uint64_t line, uint64_t nr)
{
    if (nr != 0 && line < f->nr_lines) {
        pay(f, mmi_area_of_line(f, line), true, nr);
    }
}

/* --- watermarks ------------------------------------------------------------------------------- */

static void set_marks(struct mm_frames *f, uint32_t node, uint32_t zone,
                      const struct mm_frame_watermarks *marks)
{
    struct mmi_frame_zone *z = mmi_zone(f, node, zone);
    bool had = mmi_load(&z->marks.high) != 0;

    if (z->nr_frames == 0) {
        return;
    }
    if (!had && marks->high != 0) {
        (void)mmi_fetch_add_seq(&f->watched, 1);
    }
    mmi_store(&z->marks.min, marks->min);
    mmi_store(&z->marks.low, marks->low);
    mmi_store(&z->marks.high, marks->high);
    look(f, node, zone);
    if (had && marks->high == 0) {
        (void)mmi_fetch_sub(&f->watched, 1);
    }
}

mm_status_t mm_frame_set_watermarks(struct mm_frames *frames, uint32_t node, uint32_t zone,
                                    const struct mm_frame_watermarks *watermarks)
{
    struct mm_frame_watermarks marks;

    if (frames == NULL || watermarks == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (frames->magic != MMI_FRAME_MAGIC) {
        return MM_ERR_NOT_INITIALIZED;
    }
    marks = *watermarks;
    if ((zone != MM_ZONE_ALL && zone >= MM_ZONE_COUNT) || marks.min > marks.low ||
        marks.low > marks.high) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (node != MM_NODE_ALL && node >= frames->nr_nodes) {
        return MM_ERR_NODE_NOT_FOUND;
    }
    for (uint32_t n = 0; n < frames->nr_nodes; n++) {
        for (uint32_t z = 0; z < MM_ZONE_COUNT; z++) {
            if ((node == MM_NODE_ALL || node == n) && (zone == MM_ZONE_ALL || zone == z)) {
                set_marks(frames, n, z, &marks);
            }
        }
    }
    return MM_OK;
}

enum mm_pressure mm_frame_pressure(const struct mm_frames *frames, uint32_t node, uint32_t zone)
{
    uint32_t first_zone = zone == MM_ZONE_ALL ? 0 : zone;
    uint32_t last_zone = zone == MM_ZONE_ALL ? MM_ZONE_COUNT - 1 : zone;
    uint32_t highest = MM_PRESSURE_NONE;
    uint32_t last;

    if (frames == NULL || frames->magic != MMI_FRAME_MAGIC) {
        return MM_PRESSURE_NONE;
    }
    last = node == MM_NODE_ALL ? frames->nr_nodes - 1 : node;
    if (last >= frames->nr_nodes || last_zone >= MM_ZONE_COUNT) {
        return MM_PRESSURE_NONE;
    }
    for (uint32_t n = node == MM_NODE_ALL ? 0 : node; n <= last; n++) {
        for (uint32_t z = first_zone; z <= last_zone; z++) {
            uint32_t level = mmi_load(&mmi_zone(frames, n, z)->level);

            highest = level > highest ? level : highest;
        }
    }
    return (enum mm_pressure)highest;
}
