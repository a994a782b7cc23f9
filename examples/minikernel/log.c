// SPDX-License-Identifier: MIT
//
// A small printf without a buffer: each byte goes straight to the serial port, so that the log is
// complete up to the instruction that brings the kernel down. One processor prints at a time.

#include "log.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cpu.h"
#include "percpu.h"
#include "serial.h"

// Who prints: the number of the processor, and 1; 0: nobody. An exception in the middle of a line
// prints through its own processor's lock. Who waits only spins, so that the log works everywhere:
// the printer must not wait for others (lock.h).
static atomic_uint printer;
static unsigned depth; // of the printer

void log_begin(void)
{
    unsigned self = percpu_self()->number + 1;
    unsigned nobody = 0;

    if (atomic_load(&printer) != self) {
        while (!atomic_compare_exchange_weak(&printer, &nobody, self)) {
            nobody = 0;
            cpu_relax();
        }
    }
    percpu_self()->nr_deaf_locks++;
    depth++;
}

void log_end(void)
{
    percpu_self()->nr_deaf_locks--;
    if (--depth == 0) {
        atomic_store(&printer, 0);
    }
}

struct conversion {
    bool left;
    bool zero;
    unsigned width;
    bool wide; // 64-bit argument
};

static void pad(char with, unsigned length, unsigned width)
{
    for (; length < width; length++) {
        serial_put(with);
    }
}

static void put_text(const struct conversion *c, const char *text)
{
    unsigned length = 0;
    while (text[length] != '\0') {
        length++;
    }
    if (!c->left) {
        pad(' ', length, c->width);
    }
    for (unsigned i = 0; i < length; i++) {
        serial_put(text[i]);
    }
    if (c->left) {
        pad(' ', length, c->width);
    }
}

static void put_number(const struct conversion *c, uint64_t value, unsigned base,
                       const char *prefix)
{
    char digits[24];
    unsigned length = 0;
    do {
        digits[length++] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value != 0);

    unsigned total = length;
    for (const char *p = prefix; *p != '\0'; p++) {
        total++;
    }
    if (!c->left && !c->zero) {
        pad(' ', total, c->width);
    }
    for (const char *p = prefix; *p != '\0'; p++) {
        serial_put(*p);
    }
    if (!c->left && c->zero) {
        pad('0', total, c->width);
    }
    while (length > 0) {
        serial_put(digits[--length]);
    }
    if (c->left) {
        pad(' ', total, c->width);
    }
}

static const char *parse_conversion(const char *format, struct conversion *c)
{
    *c = (struct conversion){0};
    for (; *format == '-' || *format == '0'; format++) {
        c->left |= *format == '-';
        c->zero |= *format == '0';
    }
    for (; *format >= '0' && *format <= '9'; format++) {
        c->width = c->width * 10 + (unsigned)(*format - '0');
    }
    for (; *format == 'l' || *format == 'z'; format++) {
        c->wide = true;
    }
    return format;
}

static void print(const char *format, va_list args)
{
    for (; *format != '\0'; format++) {
        if (*format != '%') {
            serial_put(*format);
            continue;
        }
        struct conversion c;
        format = parse_conversion(format + 1, &c);
        switch (*format) {
        case 's': {
            const char *text = va_arg(args, const char *);
            put_text(&c, text != NULL ? text : "(null)");
            break;
        }
        case 'c':
            serial_put((char)va_arg(args, int));
            break;
        case 'd': {
            int64_t value = c.wide ? va_arg(args, int64_t) : va_arg(args, int);
            uint64_t magnitude = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
            put_number(&c, magnitude, 10, value < 0 ? "-" : "");
            break;
        }
        case 'u':
            put_number(&c, c.wide ? va_arg(args, uint64_t) : va_arg(args, unsigned), 10, "");
            break;
        case 'x':
            put_number(&c, c.wide ? va_arg(args, uint64_t) : va_arg(args, unsigned), 16, "");
            break;
        case 'p':
            put_number(&c, (uintptr_t)va_arg(args, void *), 16, "0x");
            break;
        case '%':
            serial_put('%');
            break;
        case '\0':
            return;
        default:
            serial_put('%');
            serial_put(*format);
            break;
        }
    }
}

void log_vprint(const char *format, va_list args)
{
    log_begin();
    print(format, args);
    log_end();
}

void log_print(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    log_vprint(format, args);
    va_end(args);
}
