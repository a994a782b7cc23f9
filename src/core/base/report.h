// SPDX-License-Identifier: MIT
/**
 * How rooms speak: panics, events, and lines of text through the log op. Internal to the library.
 */
#ifndef MMI_BASE_REPORT_H
#define MMI_BASE_REPORT_H

#include <mm/platform.h>

/** Report corruption; never returns. */
_Noreturn void mmi_panic(const struct mm_platform *platform, const struct mm_panic_info *info);

/** Tell the event op, if there is one. */
void mmi_event(const struct mm_platform *platform, enum mm_event_kind kind, const void *who,
               uint64_t address, uint64_t len);

/** The number of this CPU, by the op; 0 without one. */
static inline uint32_t mmi_cpu_number(const struct mm_platform *platform)
{
    const struct mm_platform_ops *ops = platform->ops;

    return ops != NULL && ops->cpu_number != NULL ? ops->cpu_number(platform->ctx) : 0;
}

/** One line of text while it is made. What does not fit is cut off. */
struct mmi_line {
    size_t len;
    char text[160];
};

void mmi_line_begin(struct mmi_line *line);
void mmi_line_str(struct mmi_line *line, const char *s);
/** Decimal. */
void mmi_line_u64(struct mmi_line *line, uint64_t v);
/** Hexadecimal with 0x, at least `digits` digits. */
void mmi_line_hex(struct mmi_line *line, uint64_t v, unsigned digits);
/** Hexadecimal without it. */
void mmi_line_digits(struct mmi_line *line, uint64_t v, unsigned digits);
/** Spaces up to a column. */
void mmi_line_pad(struct mmi_line *line, size_t column);
/** Bytes as people read them: "4 KiB", "2 MiB", "17 GiB"; exact, in the largest unit that divides.
 */
void mmi_line_size(struct mmi_line *line, uint64_t bytes);
/** Hand the line to the log op, if there is one. */
void mmi_line_log(const struct mmi_line *line, const struct mm_platform *platform);

/** A line of a check: "room: what (0xvalue)". */
void mmi_complain(const struct mm_platform *platform, const char *room, const char *what,
                  uint64_t value);

#endif
