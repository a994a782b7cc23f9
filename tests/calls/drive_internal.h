// SPDX-License-Identifier: MIT
/**
 * What the files of the driver share: making a call, the record of answers, and failures.
 */
#ifndef T_DRIVE_INTERNAL_H
#define T_DRIVE_INTERNAL_H

#include "drive.h"

#define T_PANICKED 48 /**< an answer: it panicked in the room that it may panic in */

/** All calls of all rooms, one after the other; NULL past the end. */
const struct t_call *t_drive_call(unsigned i);

/** What the headers say of it; NULL: they do not know it. */
const struct t_documented *t_drive_documented(const char *name);

unsigned t_drive_nr_args(const struct t_call *call);

/** The values worth a try, the good one first. At most T_MAX_VALUES. */
unsigned t_drive_values(const struct t_argument *arg, uint64_t *values);

void t_drive_good(const struct t_call *call, uint64_t *args);

/** Make it. Traps and panics that it must not have are complained about, and *bad is set. */
int t_drive_invoke(const struct t_call *call, const uint64_t *args, const char *what, bool *bad);

/** Whether the headers allow the answer, noted in the record. */
bool t_drive_allowed(const struct t_call *call, int answer);

/** Whether all is as it was after this error, but for what the call may tell with it. */
bool t_drive_unchanged(const struct t_call *call, int answer, enum t_compare how);

const char *t_drive_answer_str(int answer);

/** One thing is wrong: the call with its arguments, and what. */
void t_drive_wrong(const struct t_call *call, const uint64_t *args, const char *what,
                   const char *format, ...) __attribute__((format(printf, 4, 5)));

extern unsigned t_drive_nr_wrong;

#endif
