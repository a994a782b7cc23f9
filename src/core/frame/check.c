// SPDX-License-Identifier: MIT
/**
 * Asking: is this frame managed, does the state agree with itself.
 */
#include "state.h"

bool mm_frame_managed(const struct mm_frames *frames, mm_pfn_t frame)
{
    return frames != NULL && mmi_present_slot(frames, frame.raw) != MMI_NO_SLOT;
}

bool mm_frame_allocated(const struct mm_frames *frames, mm_pfn_t frame)
{
    uint64_t slot = frames == NULL ? MMI_NO_SLOT : mmi_present_slot(frames, frame.raw);

    return slot != MMI_NO_SLOT && !mmi_slot_free(frames, slot);
}

/* --- the check -------------------------------------------------------------------------------- */

/* Says what is wrong, if it is, and counts it. */
static void expect(const struct mm_frames *f, bool right, const char *wrong, uint64_t value,
                   uint64_t *nr_wrong)
{
    if (!right) {
        mmi_complain(&f->platform, "frame", wrong, value);
        (*nr_wrong)++;
    }
}

static void check_spans(const struct mm_frames *f, uint64_t *wrong)
{
    uint64_t line = 0;
    uint64_t end = 0;

    for (uint32_t i = 0; i < f->nr_spans; i++) {
        const struct mm_frame_span *span = &f->spans[i];
        uint64_t slot = span->first - span->bias;

        expect(f, span->nr != 0 && (i == 0 || span->first >= end), "spans overlap", span->first,
               wrong);
        expect(f, span->first_line == (span->first == 0 ? f->nr_lines : line),
               "a span has the wrong lines", span->first, wrong);
        expect(f,
               slot / MMI_LINE_FRAMES == span->first_line &&
                   (slot + span->nr - 1) / MMI_LINE_FRAMES == span->first_line + span->nr_lines - 1,
               "a span has frames outside of its lines", span->first, wrong);
        expect(f, span->node < f->nr_nodes, "a span is of a node that does not exist", span->first,
               wrong);
        line += span->first == 0 ? 0 : span->nr_lines;
        end = span->first + span->nr;
    }
    expect(f, line == f->nr_lines, "lines without a span", line, wrong);
}

/* A record of a frame of a row: of one that is free there is nothing. */
static void check_row_records(const struct mm_frames *f, const struct mm_frame_span *span,
                              uint64_t row, uint64_t *wrong)
{
    uint64_t used = mmi_row_of_span(span, row) & ~mmi_row_free(f, row);

    for (unsigned i = 0; i < MMI_ROW_FRAMES; i++) {
        uint64_t slot = row * MMI_ROW_FRAMES + i;
        uint64_t address = (slot + span->bias) << MM_PAGE_SHIFT;

        if ((used >> i & 1) != 0 && mmi_slot_present(f, slot)) {
            expect(f, f->tags == NULL || mmi_owner_of(f->tags[slot]) < MM_OWNER_COUNT,
                   "a frame has an owner that does not exist", address, wrong);
            expect(f, f->refs == NULL || mmi_refs_sound(f->refs[slot]),
                   "a frame has a count beyond all counts", address, wrong);
            continue;
        }
        expect(f, f->refs == NULL || f->refs[slot] == 0, "a free frame has references", address,
               wrong);
        expect(f, f->tags == NULL || f->tags[slot] == 0, "a free frame has an owner", address,
               wrong);
    }
}

/* Pins are counted twice: of each frame, and of all. */
static void check_pins(const struct mm_frames *f, uint64_t *wrong)
{
    uint64_t pins = 0;

    for (uint32_t i = 0; i < f->nr_spans && f->refs != NULL; i++) {
        const struct mm_frame_span *span = &f->spans[i];

        for (uint64_t n = 0; n < span->nr; n++) {
            pins += mmi_refs_pins(f->refs[span->first - span->bias + n]);
        }
    }
    expect(f, mmi_frame_nr_pins(f) == pins, "the pins of all frames are miscounted", pins, wrong);
}

/* A search that was in vain must be in vain still. */
static void check_vain(const struct mm_frames *f, uint64_t line, uint64_t address, uint64_t *wrong)
{
    uint64_t last = line + 1 < f->nr_lines ? line + 1 : line;

    for (unsigned i = MMI_VAIN_BLOCK; i < MMI_GROUP_WORDS; i++) {
        bool run = i >= MMI_VAIN_RUN;

        if (!mmi_line_bit(f, line, i)) {
            continue;
        }
        expect(f,
               run ? !mmi_run_near(f, line, UINT64_C(2) << (i - MMI_VAIN_RUN))
                   : !mmi_block_in_line(f, line, i - MMI_VAIN_BLOCK + 1),
               run ? "a line has a run that searches pass by"
                   : "a line has a block that searches pass by",
               address, wrong);
        for (uint64_t at = run && line > 0 ? line - 1 : line; at <= (run ? last : line); at++) {
            expect(f, !mmi_line_bit(f, at, MMI_CALM), "a free would not end a search in vain",
                   address, wrong);
        }
    }
}

/* A closed line has all its frames in the span, and nothing in its rows; all of it is closed. */
static void check_closed(const struct mm_frames *f, const struct mm_frame_span *span, uint64_t line,
                         uint64_t address, uint64_t *wrong)
{
    if (mmi_closed_rows(f, line) == 0) {
        return;
    }
    expect(f, mmi_line_closed(f, line), "a line is half closed", address, wrong);
    expect(f, mmi_line_end(span, line) - mmi_line_first(span, line) == MMI_LINE_FRAMES,
           "a block is free of which not all frames are managed", address, wrong);
    expect(f, mmi_line_empty(f, line), "a frame of a free block is free a second time", address,
           wrong);
    expect(f, !mmi_line_bit(f, line, MMI_HAS_FREE),
           "a double free of a frame of a block would not be seen", address, wrong);
}

static void check_line(const struct mm_frames *f, const struct mm_frame_span *span, uint64_t line,
                       uint64_t *wrong)
{
    uint64_t address = (line * MMI_LINE_FRAMES + span->bias) << MM_PAGE_SHIFT;
    bool absent = mmi_line_bit(f, line, MMI_ABSENT);

    for (unsigned i = 0; i < MMI_LINE_ROWS; i++) {
        uint64_t row = line * MMI_LINE_ROWS + i;

        expect(f, (mmi_load(&f->rows[row]) & ~mmi_row_of_span(span, row)) == 0,
               "a frame is free that is not managed", address, wrong);
        if (f->refs != NULL || f->tags != NULL) {
            check_row_records(f, span, row, wrong);
        }
        expect(f, f->poisoned == NULL || (mmi_load(&f->poisoned[row]) & ~mmi_row_free(f, row)) == 0,
               "a frame in use is marked as poisoned", address, wrong);
    }
    expect(f, !absent || (mmi_load(&f->flags) & MMI_FRAMES_ABSENT) != 0,
           "memory is absent, and nobody looks for that", address, wrong);
    expect(f, !absent || mmi_line_count(f, line) == 0, "absent memory is free", address, wrong);
    check_closed(f, span, line, address, wrong);
    expect(f, mmi_line_empty(f, line) || mmi_line_bit(f, line, MMI_HAS_FREE),
           "a line has a free frame that the summary does not know", address, wrong);
    expect(f, !mmi_line_whole(f, line) || mmi_line_bit(f, line, MMI_WHOLE),
           "a line is free as a whole and the summary does not know", address, wrong);
    if (line < f->nr_lines) {
        check_vain(f, line, address, wrong);
    }
}

static bool top_bit(const struct mm_frames *f, unsigned top, uint64_t group)
{
    return (mmi_load_seq(mmi_top(f, top, group)) >> (group % 64) & 1) != 0;
}

static void check_group(const struct mm_frames *f, uint64_t group, uint64_t *wrong)
{
    const uint64_t *words = &f->groups[group * MMI_GROUP_WORDS];
    uint64_t first = group * MMI_GROUP_LINES;
    uint64_t nr = f->nr_lines + 1 - first;
    uint64_t outside = nr < MMI_GROUP_LINES ? ~mmi_mask(0, (unsigned)nr) : 0;
    uint64_t barren = 0;
    uint64_t spoken = 0;

    expect(f, words[MMI_HAS_FREE] == 0 || top_bit(f, MMI_TOP_HAS_FREE, group),
           "a summary has lines that the one above does not know", group, wrong);
    expect(f, words[MMI_WHOLE] == 0 || top_bit(f, MMI_TOP_WHOLE, group),
           "a summary has whole lines that the one above does not know", group, wrong);
    for (unsigned i = 0; i < MMI_GROUP_WORDS; i++) {
        spoken |= words[i];
    }
    expect(f, (spoken & outside) == 0, "a summary speaks of lines that do not exist", group, wrong);
    for (unsigned i = 0; i < MMI_NR_VAIN; i++) {
        if (top_bit(f, MMI_TOP_BARREN + i, group)) {
            barren++;
            expect(f, (words[MMI_HAS_FREE] & ~words[MMI_VAIN_BLOCK + i]) == 0,
                   "searches pass by a group that has lines left", group, wrong);
        }
    }
    expect(f, barren == 0 || top_bit(f, MMI_TOP_ANY_BARREN, group),
           "a free would not bring searches back to a group", group, wrong);
}

static void check_summaries(const struct mm_frames *f, uint64_t *wrong)
{
    for (uint64_t group = 0; group * MMI_GROUP_LINES < f->nr_lines + 1; group++) {
        check_group(f, group, wrong);
    }
    expect(f, (uint32_t)mmi_load(&f->unsettled) == 0, "a correction has not ended",
           mmi_load(&f->unsettled), wrong);
    expect(f, mmi_line_empty(f, mmi_nowhere_line(f)), "frames are free nowhere", 0, wrong);
}

static void check_hint(const struct mm_frames *f, uint64_t hint, uint64_t *owned, uint64_t *wrong)
{
    uint64_t line = mmi_hint_row(hint) / MMI_LINE_ROWS;
    const struct mm_frame_span *span = mmi_hint_span(f, hint);

    if (line == mmi_nowhere_line(f)) {
        return;
    }
    expect(f,
           (uint64_t)(span - f->spans) < f->nr_spans && line < f->nr_lines &&
               line - span->first_line < span->nr_lines,
           "a hint points outside of memory", hint, wrong);
    if (line >= f->nr_lines) {
        return;
    }
    expect(f, !mmi_line_bit(f, line, MMI_RESERVE) && !mmi_line_bit(f, line, MMI_KERNEL),
           "a hint points to memory that is withheld", hint, wrong);
    if ((hint & MMI_HINT_OWNED) != 0) {
        (*owned)++;
        expect(f, mmi_line_bit(f, line, MMI_HINTED), "a hint owns a line that is not marked", hint,
               wrong);
    }
}

/* Every mark in `hinted` is owned by one hint. */
static void check_hints(const struct mm_frames *f, uint64_t *wrong)
{
    uint64_t owned = 0;
    uint64_t marked = 0;

    for (uint32_t i = 0; i < f->nr_cpus; i++) {
        const struct mmi_frame_cpu *cpu = (const struct mmi_frame_cpu *)f->cpus + i;

        for (unsigned j = 0; j < MMI_NR_HINTS; j++) {
            check_hint(f, mmi_load(&cpu->hints[j]), &owned, wrong);
        }
        check_hint(f, mmi_load(&cpu->line), &owned, wrong);
        expect(f, cpu->node < f->nr_nodes, "a CPU is on a node that does not exist", i, wrong);
    }
    for (uint64_t group = 0; group * MMI_GROUP_LINES < f->nr_lines; group++) {
        marked += mmi_popcount(mmi_load(&f->groups[group * MMI_GROUP_WORDS + MMI_HINTED]));
    }
    expect(f, owned == marked, "lines are marked for nobody's hint", marked - owned, wrong);
}

/* Areas follow each other, and the order of each node names each area once. */
static void check_areas(const struct mm_frames *f, uint64_t *wrong)
{
    uint64_t line = 0;

    for (uint32_t i = 0; i < f->nr_areas; i++) {
        const struct mmi_frame_area *area = &f->areas[i];

        expect(f,
               area->first_line == line && area->end_line > line && area->node < f->nr_nodes &&
                   area->zone < MM_ZONE_COUNT,
               "an area does not follow the one before", area->first_line, wrong);
        line = area->end_line;
    }
    expect(f, line == f->nr_lines, "lines without an area", line, wrong);
    for (uint32_t node = 0; node < f->nr_nodes; node++) {
        const uint16_t *order = &f->order[(uint64_t)node * f->nr_areas];
        uint64_t sum = 0;

        for (uint32_t i = 0; i < f->nr_areas; i++) {
            sum += order[i] < f->nr_areas ? UINT64_C(1) + order[i] : 0;
        }
        expect(f, sum == (uint64_t)f->nr_areas * (f->nr_areas + UINT64_C(1)) / 2,
               "an order of areas leaves one out", node, wrong);
    }
}

/* Levels, and who is told of them. */
static void check_zones(const struct mm_frames *f, uint64_t *wrong)
{
    uint64_t pressed = 0;
    uint64_t watched = 0;

    for (uint32_t node = 0; node < f->nr_nodes; node++) {
        for (uint32_t zone = 0; zone < MM_ZONE_COUNT; zone++) {
            const struct mmi_frame_zone *z = mmi_zone(f, node, zone);

            pressed += mmi_load(&z->level) != MM_PRESSURE_NONE ? 1 : 0;
            watched += mmi_load(&z->marks.high) != 0 ? 1 : 0;
            expect(f, mmi_load(&z->looks) == 0, "a zone is being counted", zone, wrong);
            expect(f, mmi_load(&z->nr_peak) <= z->nr_frames, "more was allocated than there is",
                   zone, wrong);
        }
    }
    expect(f, mmi_load(&f->flags) / MMI_FRAMES_ONE_PRESSED == pressed,
           "frees do not know which zones are short of memory", pressed, wrong);
    expect(f, mmi_load(&f->watched) == watched, "watermarks are miscounted", watched, wrong);
}

mm_status_t mm_frame_check(const struct mm_frames *frames)
{
    uint64_t wrong = 0;

    if (frames == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (frames->magic != MMI_FRAME_MAGIC) {
        return MM_ERR_NOT_INITIALIZED;
    }
    check_spans(frames, &wrong);
    check_areas(frames, &wrong);
    if (wrong != 0) {
        return MM_ERR_CORRUPTED; /* nothing else can be read */
    }
    for (uint32_t i = 0; i < frames->nr_spans; i++) {
        const struct mm_frame_span *span = &frames->spans[i];

        for (uint64_t n = 0; n < span->nr_lines; n++) {
            check_line(frames, span, span->first_line + n, &wrong);
        }
    }
    check_summaries(frames, &wrong);
    check_hints(frames, &wrong);
    check_zones(frames, &wrong);
    check_pins(frames, &wrong);
    return wrong == 0 ? MM_OK : MM_ERR_CORRUPTED;
}
