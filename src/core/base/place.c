// SPDX-License-Identifier: MIT
#include "place.h"

/** The part of a gap that may be used: false if that has not `len` bytes. */
static bool clip(const struct mmi_place *place, uint64_t start, uint64_t gap, uint64_t *first,
                 uint64_t *last)
{
    *first = start > place->lowest ? start : place->lowest;
    *last = start + (gap - 1);
    *last = place->highest < *last ? place->highest : *last;
    return gap != 0 && *first <= *last && *last - *first >= place->len - 1;
}

bool mmi_place_low(const struct mmi_place *place, uint64_t start, uint64_t gap, uint64_t *out)
{
    uint64_t first;
    uint64_t last;
    uint64_t up;

    if (!clip(place, start, gap, &first, &last)) {
        return false;
    }
    up = (place->residue - first) & (place->align - 1);
    if (up > last - first || last - first - up < place->len - 1) {
        return false;
    }
    *out = first + up;
    return true;
}

bool mmi_place_high(const struct mmi_place *place, uint64_t start, uint64_t gap, uint64_t *out)
{
    uint64_t first;
    uint64_t last;
    uint64_t at;
    uint64_t down;

    if (!clip(place, start, gap, &first, &last)) {
        return false;
    }
    at = last - (place->len - 1);
    down = (at - place->residue) & (place->align - 1);
    if (down > at - first) {
        return false;
    }
    *out = at - down;
    return true;
}
