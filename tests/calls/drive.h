// SPDX-License-Identifier: MIT
/**
 * Driving the list of calls: each with failures at every point, each with bad arguments; and what
 * was answered, beside what the headers say can be.
 */
#ifndef T_DRIVE_H
#define T_DRIVE_H

#include "calls.h"

/** What a header says of a public function: written by documented.py. */
struct t_documented {
    const char *name, *header, *returns;
    bool source; /**< it also answers whatever its source of frames does */
    uint32_t statuses;
};

/** Inject failures into every call, print a table; the number of things that are wrong. */
unsigned t_drive_injection(bool print);

/** Call everything with bad arguments; the number of things that are wrong. */
unsigned t_drive_bad_input(bool print);

/** Public calls that are in no list, and listed ones that no header declares. */
unsigned t_drive_missing(void);

/** Documented statuses that no call has answered so far, and for which no reason is listed. */
unsigned t_drive_unanswered(void);

#endif
