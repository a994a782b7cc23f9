// SPDX-License-Identifier: MIT
/**
 * The way out when nothing can be trusted any more.
 */
#ifndef MINIKERNEL_PANIC_H
#define MINIKERNEL_PANIC_H

#include <stdint.h>

struct trap_frame;

/** The machine is not one this kernel can run on: say why, leave with a failing exit status. */
_Noreturn void give_up(const char *format, ...) __attribute__((format(printf, 1, 2)));

/** Something is broken: print the message, leave with a failing exit status. */
_Noreturn void panic(const char *format, ...) __attribute__((format(printf, 1, 2)));

/** Print the exception and its registers, leave with a failing exit status. */
_Noreturn void panic_trap(const struct trap_frame *frame, uint64_t address);

#endif
