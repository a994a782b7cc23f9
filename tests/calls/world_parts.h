// SPDX-License-Identifier: MIT
/**
 * Between the files that make the world.
 */
#ifndef T_WORLD_PARTS_H
#define T_WORLD_PARTS_H

#include <stdbool.h>

/** Setting up is no test: what fails here ends the program. */
void t_world_must(bool good, const char *what);

#define MUST(call) t_world_must((call) == MM_OK, #call)

/** What firmware and boot loaders leave in memory: world_firmware.c. */
void t_world_start_firmware(void);

#endif
