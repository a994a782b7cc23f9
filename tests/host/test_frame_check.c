// SPDX-License-Identifier: MIT
/**
 * The check of the frame allocator: each contradiction that it looks for is made, and the check must
 * name it. The state is internal, so its header is included from the sources.
 */
#define _GNU_SOURCE /* memmem() */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/frame/state.h"

#include "frame_rig.h"

/* Frame 0, a span that begins with frame 1, and one above 4 GiB of several lines. */
static const uint64_t machine[] = {0, 8 * MIB, 4 * GIB, 8 * MIB, 0, 0};

/* Spans as init.c cuts the machine. */
enum { SPAN_ZERO, SPAN_LOW, SPAN_HIGH, NR_SPANS };

/* A record as it is kept. */
#define RECORD(owner, tag) ((uint64_t)(owner) << 60 | (tag))

struct damaged {
    struct rig rig;
    struct mm_frames frames; /**< undamaged */
    unsigned char *metadata;
    struct mm_frame_span *spans;
    struct mmi_frame_cpu *cpus;
    mm_pfn_t frame; /**< allocated, of the heap */
    uint64_t slot;
    bool named;
    const char *sentence;
};

static void listen(void *ctx, const char *line, size_t len)
{
    struct damaged *d = ctx;

    d->named |= memmem(line, len, d->sentence, strlen(d->sentence)) != NULL;
}

static const struct mm_platform_ops ops = {.panic = t_platform_panic, .log = listen};

static void start(struct damaged *d)
{
    struct mm_frame_request request = {.owner = MM_OWNER_HEAP};

    rig_map(&d->rig, machine);
    rig_config(&d->rig, 2, RIG_RECORDS);
    d->rig.config.platform = (struct mm_platform){&ops, d};
    assert_int_equal(mm_frame_init(&d->rig.frames, &d->rig.config), MM_OK);
    assert_int_equal(d->rig.frames.nr_spans, NR_SPANS);
    assert_int_equal(mm_frame_alloc(&d->rig.frames, &request, &d->frame), MM_OK);
    d->slot = mmi_frame_slot(&d->rig.frames, d->frame.raw);
    d->frames = d->rig.frames;
    d->spans = (struct mm_frame_span *)d->frames.spans;
    d->cpus = (struct mmi_frame_cpu *)d->frames.cpus;
    d->metadata = malloc(d->rig.config.metadata_len);
    assert_non_null(d->metadata);
    memcpy(d->metadata, d->rig.config.metadata, d->rig.config.metadata_len);
}

static void stop(struct damaged *d)
{
    free(d->metadata);
    rig_stop(&d->rig);
}

static void repair(struct damaged *d)
{
    d->rig.frames = d->frames;
    memcpy(d->rig.config.metadata, d->metadata, d->rig.config.metadata_len);
    assert_int_equal(mm_frame_check(&d->rig.frames), MM_OK);
}

/* The damage, and what the check says of it. */
#define NAMES(d, words, damage)                                                                    \
    do {                                                                                           \
        (void)(damage);                                                                            \
        (d)->named = false;                                                                        \
        (d)->sentence = (words);                                                                   \
        assert_int_equal(mm_frame_check(&(d)->rig.frames), MM_ERR_CORRUPTED);                      \
        assert_true((d)->named);                                                                   \
        repair(d);                                                                                 \
    } while (0)

static void spans(void **state)
{
    struct damaged d;

    (void)state;
    start(&d);
    NAMES(&d, "spans overlap", d.spans[SPAN_LOW].nr = 0);
    NAMES(&d, "spans overlap", d.spans[SPAN_ZERO].nr = 0);
    NAMES(&d, "spans overlap", d.spans[SPAN_LOW].nr = 5 * GIB / 4096);
    NAMES(&d, "a span has the wrong lines", d.spans[SPAN_HIGH].first_line++);
    NAMES(&d, "a span has the wrong lines", d.spans[SPAN_ZERO].first_line = 0);
    NAMES(&d, "a span has frames outside of its lines", d.spans[SPAN_HIGH].bias -= 512);
    NAMES(&d, "a span has frames outside of its lines", d.spans[SPAN_HIGH].nr -= 512);
    NAMES(&d, "lines without a span", d.spans[SPAN_HIGH].nr_lines--);
    stop(&d);
}

static void records(void **state)
{
    struct damaged d;
    struct mm_frame_stats stats;

    (void)state;
    start(&d);
    NAMES(&d, "an owner that does not exist",
          d.rig.frames.tags[d.slot] = RECORD(MM_OWNER_COUNT, 0));
    NAMES(&d, "a count beyond all counts", d.rig.frames.refs[d.slot] = MM_FRAME_REFS_MAX);
    NAMES(&d, "a free frame has references", d.rig.frames.refs[d.slot + 64] = 1);
    NAMES(&d, "a free frame has an owner",
          d.rig.frames.tags[d.slot + 64] = RECORD(MM_OWNER_HEAP, 0));

    /* An owner that does not exist is counted as none. */
    stats = rig_stats(&d.rig);
    assert_int_equal(stats.nr_by_owner[MM_OWNER_HEAP], 1);
    assert_int_equal(stats.nr_by_owner[MM_OWNER_NONE], 0);
    d.rig.frames.tags[d.slot] = RECORD(MM_OWNER_COUNT, 0);
    stats = rig_stats(&d.rig);
    assert_int_equal(stats.nr_by_owner[MM_OWNER_HEAP], 0);
    assert_int_equal(stats.nr_by_owner[MM_OWNER_NONE], 1);
    repair(&d);
    stop(&d);
}

/* Frame 0 is a span of its own; it counts as one only if it is one in the map too. */
static void nr_spans(void **state)
{
    static const uint64_t alone[] = {0, 4 * KIB, 16 * MIB, 8 * MIB, 0, 0};
    static const uint64_t only[] = {0, 4 * KIB, 0, 0};
    static const uint64_t low[] = {0, 8 * MIB, 0, 0};
    static const uint64_t high[] = {16 * MIB, 8 * MIB, 64 * MIB, 8 * MIB, 0, 0};
    struct rig rig;

    (void)state;
    rig_start(&rig, alone, 1, 0);
    assert_int_equal(rig_stats(&rig).nr_spans, 2);
    rig_stop(&rig);
    rig_start(&rig, only, 1, 0);
    assert_int_equal(rig_stats(&rig).nr_spans, 1);
    rig_stop(&rig);
    rig_start(&rig, low, 1, 0);
    assert_int_equal(rig_stats(&rig).nr_spans, 1);
    rig_stop(&rig);
    rig_start(&rig, high, 1, 0);
    assert_int_equal(rig_stats(&rig).nr_spans, 2);
    rig_stop(&rig);
}

/* A panic says of such an owner that it is unknown. */
static void panic_of_an_unknown_owner(void **state)
{
    struct damaged d;
    struct t_trap_info trap;

    (void)state;
    start(&d);
    d.rig.frames.tags[d.slot] = RECORD(15, 200);
    T_EXPECT_PANIC(mm_frame_free(&d.rig.frames, mm_pfn(d.frame.raw), 10), &trap);
    assert_string_equal(trap.recorded, "allocated, unknown owner");
    assert_int_equal(trap.recorded_value, 200);
    repair(&d);
    stop(&d);
}

/* A hint of this row in the line, with the index of a span. */
static uint64_t hint_of(uint64_t span, uint64_t line, bool owned)
{
    return (owned ? MMI_HINT_OWNED : 0) |
           mmi_hint_at(span * sizeof(struct mm_frame_span), line * MMI_LINE_ROWS);
}

static void hints(void **state)
{
    struct damaged d;
    uint64_t *hint;
    uint64_t line;
    uint64_t span;

    (void)state;
    start(&d);
    hint = mmi_hint_of(&d.cpus[0], MM_LIFETIME_ANY, 0);
    line = mmi_hint_row(*hint) / MMI_LINE_ROWS;
    span = (uint64_t)(mmi_hint_span(&d.rig.frames, *hint) - d.rig.frames.spans);
    assert_true((*hint & MMI_HINT_OWNED) != 0);
    assert_true(mmi_line_bit(&d.rig.frames, line, MMI_HINTED));

    NAMES(&d, "a hint points outside of memory", *hint = hint_of(NR_SPANS, line, true));
    NAMES(&d, "a hint points outside of memory",
          *hint = hint_of(span == SPAN_LOW ? SPAN_HIGH : SPAN_LOW, line, true));
    /* Frame 0's line is no search's. */
    NAMES(&d, "a hint points outside of memory",
          *hint = hint_of(SPAN_ZERO, d.rig.frames.nr_lines, true));
    NAMES(&d, "lines are marked for nobody's hint", *hint = hint_of(span, line, false));
    NAMES(&d, "lines are marked for nobody's hint",
          *mmi_hint_of(&d.cpus[1], MM_LIFETIME_SHORT, 3) = hint_of(span, line, true));
    NAMES(&d, "a hint owns a line that is not marked", d.rig.frames.groups[MMI_HINTED] = 0);

    /* Not owned, it may point to any line of memory. */
    *mmi_hint_of(&d.cpus[1], MM_LIFETIME_SHORT, 3) =
        hint_of(SPAN_LOW, d.spans[SPAN_LOW].first_line, false);
    assert_int_equal(mm_frame_check(&d.rig.frames), MM_OK);
    repair(&d);
    stop(&d);
}

static void areas(void **state)
{
    struct damaged d;
    struct mmi_frame_area *areas;

    (void)state;
    start(&d);
    areas = (struct mmi_frame_area *)d.rig.frames.areas;
    assert_int_equal(d.rig.frames.nr_areas, 2);
    NAMES(&d, "an area does not follow the one before", areas[1].first_line++);
    NAMES(&d, "an area does not follow the one before", areas[0].end_line = 0);
    NAMES(&d, "an area does not follow the one before", areas[1].node = 1);
    NAMES(&d, "an area does not follow the one before", areas[1].zone = MM_ZONE_COUNT);
    NAMES(&d, "lines without an area", areas[1].end_line--);
    NAMES(&d, "an order of areas leaves one out", ((uint16_t *)d.rig.frames.order)[0] = 2);
    stop(&d);
}

/* Lines that are absent, closed, or withheld. */
static void lines(void **state)
{
    struct damaged d;
    uint64_t line;
    uint64_t closed;

    (void)state;
    start(&d);
    line = mmi_hint_row(*mmi_hint_of(&d.cpus[0], MM_LIFETIME_ANY, 0)) / MMI_LINE_ROWS;
    closed = d.spans[SPAN_HIGH].first_line;
    assert_true(mmi_line_closed(&d.rig.frames, closed));
    NAMES(&d, "memory is absent, and nobody looks for that",
          d.rig.frames.groups[MMI_ABSENT] |= mmi_line_mask(closed));
    d.rig.frames.flags |= MMI_FRAMES_ABSENT;
    NAMES(&d, "absent memory is free", d.rig.frames.groups[MMI_ABSENT] |= mmi_line_mask(closed));
    NAMES(&d, "a line is half closed",
          d.rig.frames.closed[closed / 8] ^= UINT64_C(1) << (closed % 8 * 8));
    NAMES(&d, "a frame of a free block is free a second time",
          d.rig.frames.rows[closed * MMI_LINE_ROWS] = 1);
    NAMES(&d, "a double free of a frame of a block would not be seen",
          d.rig.frames.groups[MMI_HAS_FREE] |= mmi_line_mask(closed));
    NAMES(&d, "a hint points to memory that is withheld",
          d.rig.frames.groups[MMI_RESERVE] |= mmi_line_mask(line));
    NAMES(&d, "a hint points to memory that is withheld",
          d.rig.frames.groups[MMI_KERNEL] |= mmi_line_mask(line));
    stop(&d);
}

/* Whoever opens a line finds what the check would have found. */
static void open_finds_a_second_free(void **state)
{
    struct damaged d;
    struct t_trap_info trap;
    uint64_t closed;
    mm_pfn_t pfn;

    (void)state;
    start(&d);
    closed = d.spans[SPAN_HIGH].first_line;
    pfn = mm_pfn(closed * MMI_LINE_FRAMES + d.spans[SPAN_HIGH].bias);
    d.rig.frames.rows[closed * MMI_LINE_ROWS + 1] = 1u << 7;
    T_EXPECT_PANIC(assert_int_equal(mm_frame_alloc_at(&d.rig.frames, pfn, 1), MM_OK), &trap);
    assert_string_equal(trap.what, "double free of a frame");
    assert_int_equal(trap.address, (pfn.raw + 64 + 7) * 4096);
    assert_string_equal(trap.claimed, "freed, beside the block that it is a part of, in row");
    repair(&d);
    stop(&d);
}

/* --- a CPU that stands still in the middle of a correction -------------------------------------- */

/* As mmi_line_unwhole() leaves it half-way: the summary of whole lines says less than is true, and
 * that it is being corrected. */
static void stand_still(struct mm_frames *frames)
{
    frames->unsettled += 1;
    frames->groups[MMI_WHOLE] = 0;
}

/* Searches that find nothing look again, but not for ever. */
static void searches_end(void **state)
{
    struct damaged d;
    struct mm_frames *f = &d.rig.frames;
    const struct mm_frame_request line = {.order = MMI_LINE_ORDER};
    mm_pfn_t pfn[3];
    size_t nr_done = 77;
    uint64_t nr_free;

    (void)state;
    start(&d);
    nr_free = rig_stats(&d.rig).nr_free;
    for (uint64_t i = 0; i < nr_free - 1; i++) { /* all but frame 0, which no search finds */
        (void)rig_alloc(&d.rig, 0);
    }
    stand_still(f);
    assert_int_equal(mm_frame_alloc(f, NULL, &pfn[0]), MM_ERR_NO_MEMORY);
    assert_int_equal(mm_frame_alloc(f, &line, &pfn[0]), MM_ERR_NO_MEMORY);
    assert_int_equal(mm_frame_alloc_bulk(f, 0, pfn, 3, &nr_done), MM_ERR_NO_MEMORY);
    assert_int_equal(nr_done, 0);
    repair(&d);
    stop(&d);
}

/* A line that is whole is found, though its summary does not say so now. */
static void whole_line_is_found(void **state)
{
    struct damaged d;
    struct mm_frames *f = &d.rig.frames;
    const struct mm_frame_request line = {.order = MMI_LINE_ORDER};
    mm_pfn_t pfn;

    (void)state;
    start(&d);
    stand_still(f);
    assert_int_equal(mm_frame_alloc(f, &line, &pfn), MM_OK);
    assert_int_equal(pfn.raw % MMI_LINE_FRAMES, 0);
    mm_frame_free(f, pfn, MMI_LINE_ORDER);
    repair(&d);
    stop(&d);
}

/* One whole row makes no whole line, and seven make none: the summary waits for the eighth. */
static void promises_nothing_too_early(void **state)
{
    static const uint64_t memory[] = {2 * MIB, 2 * MIB, 0, 0};
    const struct mm_frame_request line = {.order = MMI_LINE_ORDER};
    struct rig rig;
    mm_pfn_t pfn;

    (void)state;
    rig_start(&rig, memory, 1, 0);
    assert_int_equal(mm_frame_alloc(&rig.frames, &line, &pfn), MM_OK);
    assert_int_equal(mm_frame_alloc(&rig.frames, &line, &pfn), MM_ERR_NO_MEMORY);
    assert_false(mmi_line_bit(&rig.frames, 0, MMI_WHOLE));
    for (unsigned row = 0; row < MMI_LINE_ROWS; row++) {
        assert_false(mmi_line_bit(&rig.frames, 0, MMI_WHOLE));
        mm_frame_free(&rig.frames, mm_pfn(pfn.raw + row * 64), 6);
    }
    assert_true(mmi_line_bit(&rig.frames, 0, MMI_WHOLE));
    rig_stop(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(spans),
        cmocka_unit_test(records),
        cmocka_unit_test(nr_spans),
        cmocka_unit_test(panic_of_an_unknown_owner),
        cmocka_unit_test(hints),
        cmocka_unit_test(areas),
        cmocka_unit_test(lines),
        cmocka_unit_test(open_finds_a_second_free),
        cmocka_unit_test(searches_end),
        cmocka_unit_test(whole_line_is_found),
        cmocka_unit_test(promises_nothing_too_early),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
