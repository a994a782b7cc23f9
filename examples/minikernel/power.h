// SPDX-License-Identifier: MIT
/**
 * The end of a run.
 */
#ifndef MINIKERNEL_POWER_H
#define MINIKERNEL_POWER_H

#include <stdbool.h>

/** Leave QEMU with exit status 33 for success, 35 for failure; without isa-debug-exit, halt. */
_Noreturn void power_exit(bool success);

#endif
