// SPDX-License-Identifier: MIT
/**
 * The local interrupt controller, through its registers at LAYOUT_APIC: what it takes to start
 * another processor, and to interrupt it.
 */
#ifndef MINIKERNEL_APIC_H
#define MINIKERNEL_APIC_H

#include <stdint.h>

/** Identifier of the calling processor. */
uint32_t apic_id(void);

/**
 * Reset a processor and have it run real-mode code, as the manual asks for: INIT, and twice the
 * start-up interrupt. The code must take the second for nothing new.
 *
 * @param page  number of the page below 1 MiB that the code begins
 */
void apic_start(uint32_t id, uint8_t page);

/**
 * Let the controller of the calling processor take interrupts from other processors, and no others.
 *
 * @param spurious  vector of interrupts that turn out to be none
 */
void apic_enable(uint8_t spurious);

/** Interrupt another processor. May be interrupted itself. */
void apic_interrupt(uint32_t id, uint8_t vector);

/** The interrupt that is being handled here has been taken: the next may come. */
void apic_taken(void);

/** Pass some time, by the interval timer. At most 50000. */
void apic_wait_us(uint32_t microseconds);

#endif
