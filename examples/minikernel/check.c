// SPDX-License-Identifier: MIT
//
// Counts and names. Scripts read the last line; people read the ones above.

#include "check.h"

#include "log.h"
#include "panic.h"

#define SKIPPED_MAX 24

static unsigned nr_passed;
static unsigned nr_failed;
static unsigned nr_skipped;
static struct {
    const char *name;
    const char *why;
} skipped[SKIPPED_MAX];

void check_theme(const char *theme)
{
    log_print("\nchecks  %s\n", theme);
}

bool check_report(const char *name, bool passed, const char *condition, const char *file, int line)
{
    if (passed) {
        nr_passed++;
        log_print("  ok    %s\n", name);
    } else {
        nr_failed++;
        log_print("  FAIL  %s: %s (%s:%d)\n", name, condition, file, line);
    }
    return passed;
}

void check_skip(const char *name, const char *why)
{
    if (nr_skipped == SKIPPED_MAX) {
        panic("more than %u skipped checks", SKIPPED_MAX);
    }
    skipped[nr_skipped].name = name;
    skipped[nr_skipped].why = why;
    nr_skipped++;
    log_print("  skip  %s (%s)\n", name, why);
}

bool check_summary(void)
{
    log_print("\nminikernel: %u checks skipped\n", nr_skipped);
    for (unsigned i = 0; i < nr_skipped; i++) {
        log_print("  skip  %s (%s)\n", skipped[i].name, skipped[i].why);
    }
    log_print("minikernel: %u checks passed, %u failed\n", nr_passed, nr_failed);
    return nr_passed > 0 && nr_failed == 0;
}
