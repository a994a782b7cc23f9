// SPDX-License-Identifier: MIT
/**
 * Panics, events and lines of text. Nothing here allocates, locks or keeps state.
 */
#include "report.h"

_Noreturn void mmi_panic(const struct mm_platform *platform, const struct mm_panic_info *info)
{
    if (platform->ops != NULL && platform->ops->panic != NULL) {
        platform->ops->panic(platform->ctx, info);
    }
    /* No hook, or one that came back: going on would spread the corruption. */
    __builtin_trap();
}

void mmi_event(const struct mm_platform *platform, enum mm_event_kind kind, const void *who,
               uint64_t address, uint64_t len)
{
    if (platform->ops != NULL && platform->ops->event != NULL) {
        struct mm_event event = {.kind = kind, .who = who, .address = address, .len = len};

        platform->ops->event(platform->ctx, &event);
    }
}

static void put(struct mmi_line *line, char c)
{
    if (line->len < sizeof(line->text)) {
        line->text[line->len++] = c;
    }
}

void mmi_line_begin(struct mmi_line *line)
{
    line->len = 0;
}

void mmi_line_str(struct mmi_line *line, const char *s)
{
    while (*s != '\0') {
        put(line, *s++);
    }
}

static void put_number(struct mmi_line *line, uint64_t v, unsigned base, unsigned digits)
{
    char reversed[20]; /* 2^64 has 20 decimal digits */
    unsigned n = 0;

    do {
        reversed[n++] = "0123456789abcdef"[v % base];
        v /= base;
    } while (v != 0);
    for (; digits > n; digits--) {
        put(line, '0');
    }
    while (n > 0) {
        put(line, reversed[--n]);
    }
}

void mmi_line_u64(struct mmi_line *line, uint64_t v)
{
    put_number(line, v, 10, 1);
}

void mmi_line_hex(struct mmi_line *line, uint64_t v, unsigned digits)
{
    mmi_line_str(line, "0x");
    put_number(line, v, 16, digits);
}

void mmi_line_digits(struct mmi_line *line, uint64_t v, unsigned digits)
{
    put_number(line, v, 16, digits);
}

void mmi_line_pad(struct mmi_line *line, size_t column)
{
    while (line->len < column && line->len < sizeof(line->text)) {
        put(line, ' ');
    }
}

void mmi_line_size(struct mmi_line *line, uint64_t bytes)
{
    static const char *const units[] = {" B", " KiB", " MiB", " GiB", " TiB", " PiB", " EiB"};
    unsigned unit = 0;

    while (bytes != 0 && bytes % 1024 == 0) { /* six times at most: 2^60 divides no more */
        bytes /= 1024;
        unit++;
    }
    mmi_line_u64(line, bytes);
    mmi_line_str(line, units[unit]);
}

void mmi_line_log(const struct mmi_line *line, const struct mm_platform *platform)
{
    if (platform->ops != NULL && platform->ops->log != NULL) {
        platform->ops->log(platform->ctx, line->text, line->len);
    }
}

void mmi_complain(const struct mm_platform *platform, const char *room, const char *what,
                  uint64_t value)
{
    struct mmi_line line;

    mmi_line_begin(&line);
    mmi_line_str(&line, room);
    mmi_line_str(&line, ": ");
    mmi_line_str(&line, what);
    mmi_line_str(&line, " (");
    mmi_line_hex(&line, value, 1);
    mmi_line_str(&line, ")");
    mmi_line_log(&line, platform);
}
