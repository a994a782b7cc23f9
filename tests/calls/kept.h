// SPDX-License-Identifier: MIT
/**
 * Between world.c, which keeps a copy of the world, and compare.c, which compares with it.
 */
#ifndef T_KEPT_H
#define T_KEPT_H

#include <stdint.h>

struct t_world;

/** The world that was kept last. */
const struct t_world *t_world_kept(void);

/** What was kept of the RAM from a physical address on. */
const void *t_world_kept_ram(uint64_t paddr);

/** Note what cannot be seen in a copy: called when the world is kept. */
void t_world_keep_view(void);

#endif
