// SPDX-License-Identifier: MIT
/**
 * Pressure: which zone is short of memory, and who hears of it.
 */
#include "state.h"

void mmi_pressure_taken(struct mm_frames *f, uint64_t line, uint64_t nr)
{
    (void)f, (void)line, (void)nr;
}

void mmi_pressure_freed(struct mm_frames *f, uint64_t line, uint64_t nr)
{
    (void)f, (void)line, (void)nr;
}
