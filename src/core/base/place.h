// SPDX-License-Identifier: MIT
/**
 * Where in a gap a range may lie that has a length, an alignment, and limits: the lowest such place,
 * or the highest. Which gap it is, is for those to say who know them (range.h, core/space/region.h).
 */
#ifndef MMI_BASE_PLACE_H
#define MMI_BASE_PLACE_H

#include <stdbool.h>
#include <stdint.h>

/** Where a range may lie. */
struct mmi_place {
    uint64_t len;
    uint64_t align;   /* a power of two */
    uint64_t residue; /* below `align`: the start is this much above a multiple of it */
    uint64_t lowest;  /* first byte that may be used, and last */
    uint64_t highest;
};

/** The lowest such place in the gap of `gap` bytes from `start`; false: there is none. */
bool mmi_place_low(const struct mmi_place *place, uint64_t start, uint64_t gap, uint64_t *out);
/** The highest. */
bool mmi_place_high(const struct mmi_place *place, uint64_t start, uint64_t gap, uint64_t *out);

#endif
