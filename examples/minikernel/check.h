// SPDX-License-Identifier: MIT
/**
 * The checks' bookkeeping: one line each, a summary at the end.
 */
#ifndef MINIKERNEL_CHECK_H
#define MINIKERNEL_CHECK_H

#include <stdbool.h>

/** What the checks that follow are about: a heading in the log. */
void check_theme(const char *theme);

/** One check: counted, printed, and true if it passed. */
#define CHECK(name, condition) check_report((name), (condition), #condition, __FILE__, __LINE__)

bool check_report(const char *name, bool passed, const char *condition, const char *file, int line);

/** A check that this machine cannot run: counted apart and named again in the summary. */
void check_skip(const char *name, const char *why);

/**
 * Print the summary.
 * @return true if checks ran and none failed.
 */
bool check_summary(void);

#endif
