// SPDX-License-Identifier: MIT
/**
 * Atomic stores that other CPUs see late, as far as C17 (5.1.2.4, 7.17.3) lets them: what is stored
 * waits in a buffer of its CPU, in order, while the CPU goes on. So "I write here, then read there"
 * against "you write there, then read here" may fail for both, unless both say that it must not.
 *
 * A store (or the store of an exchange, fetch-and-op or compare-and-exchange) lands, and those of
 * its CPU before it:
 *
 *   - at a sequentially consistent load of its CPU, if it is sequentially consistent itself or one
 *     after it is; at such a fence
 *   - when another CPU stores to the same bytes, or updates them: updates stay atomic
 *   - when anybody makes a plain access to them: who does so is ordered after it by other means
 *   - at an op of its CPU (those are slow, or serialise), when it waits, and at its end
 *
 * Its own CPU reads what it has stored. Plain stores are never late. So this is less than what a
 * weakly ordered CPU may do (loads are made in order), and more than x86 does (there an update is
 * never late), which is the point: the orders in the sources are tried, not the host's.
 */
#ifndef T_DELAY_H
#define T_DELAY_H

#include "events.h"

/** Forget what was late: the world is made anew. */
void t_delay_start(void);

/** Before and after an access of a CPU. True: stores have landed. */
bool t_delay_before(unsigned cpu, const struct t_event *event);
bool t_delay_after(unsigned cpu, const struct t_event *event);

/** All stores of a CPU land. True: there were some. */
bool t_delay_end(unsigned cpu);

#endif
