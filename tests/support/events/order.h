// SPDX-License-Identifier: MIT
/**
 * Whether accesses of two CPUs are ordered: the happens-before relation of C17 (5.1.2.4), by vector
 * clocks. The host's CPU and the scheduler show every access in one order; this looks for pairs
 * that another compiler or CPU may show otherwise.
 *
 * Two accesses of the same bytes by two CPUs, one of them a store and one of them plain, must have
 * a release and an acquire between them: the unlock and the lock of one lock, the store that
 * publishes and the load that finds. A lock left out is found in every schedule in which both CPUs
 * come by, not only in the one that breaks something; so is an order that is too weak.
 *
 * Two atomic accesses are never a race: what they must agree on, the schedules try.
 */
#ifndef T_ORDER_H
#define T_ORDER_H

#include "events.h"

/** Forget everything: what was done until now is before all that comes. */
void t_order_start(void);

/** A plain access, or an atomic one that was made. NULL, or what it is not ordered with. */
const char *t_order_access(unsigned cpu, const struct t_event *event);

#endif
