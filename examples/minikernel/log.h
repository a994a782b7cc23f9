// SPDX-License-Identifier: MIT
/**
 * Text to the console.
 */
#ifndef MINIKERNEL_LOG_H
#define MINIKERNEL_LOG_H

#include <stdarg.h>

/**
 * Print as printf does, with a subset of its conversions:
 *   %s %c %d %u %x %p %%, lengths l ll z, a width, and the flags - and 0.
 * Anything else prints as it stands.
 */
void log_print(const char *format, ...) __attribute__((format(printf, 1, 2)));

/** The same with the arguments in a list. */
void log_vprint(const char *format, va_list args) __attribute__((format(printf, 1, 0)));

/** Between these, no other processor prints: what comes in several calls stays together. They nest. */
void log_begin(void);
void log_end(void);

#endif
