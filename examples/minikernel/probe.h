// SPDX-License-Identifier: MIT
/**
 * Accesses that may fault: what the checks do to memory to see what the hardware makes of it.
 */
#ifndef MINIKERNEL_PROBE_H
#define MINIKERNEL_PROBE_H

#include <mm/addr.h>

#include "trap.h"

/** Each returns true if the access faulted, and then fills the report. */
bool probe_load(mm_vaddr_t at, struct trap_report *report);
bool probe_store(mm_vaddr_t at, struct trap_report *report);
bool probe_call(mm_vaddr_t at, struct trap_report *report);

/** Whether the report is a page fault of this error code at this address. */
bool probe_is(const struct trap_report *report, mm_vaddr_t at, uint64_t error);

/** Whether a load faults because nothing is mapped there. */
bool probe_unmapped(mm_vaddr_t at);

/** Eight bytes at an address that is known to be good. */
uint64_t probe_get(mm_vaddr_t at);
void probe_set(mm_vaddr_t at, uint64_t value);

#endif
