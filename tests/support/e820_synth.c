// SPDX-License-Identifier: MIT
/**
 * Random memory maps: a plain, sorted one first, which is then spoilt in every way asked for.
 */
#include "e820_synth.h"

#include <string.h>

static const char *const unusable[] = {"reserved", "ACPI data",           "ACPI NVS",
                                       "unusable", "persistent (type 7)", "type 20"};

static void set_type(struct t_prng *prng, struct t_memory *entry)
{
    const char *type = "usable";

    entry->usable = t_prng_chance(prng, 3, 5);
    if (!entry->usable) {
        type = unusable[t_prng_below(prng, sizeof(unusable) / sizeof(unusable[0]))];
    }
    memset(entry->type, 0, sizeof(entry->type));
    memcpy(entry->type, type, strlen(type));
}

static uint64_t rounded(uint64_t value, unsigned flags)
{
    return (flags & T_SYNTH_UNALIGNED) != 0 ? value : value & ~UINT64_C(4095);
}

/* Entries one after another, each in its own slot of the span. */
static void sorted(struct t_prng *prng, unsigned flags, uint64_t span, struct t_memory *entries,
                   size_t nr)
{
    uint64_t slot = rounded(span / nr, flags);
    uint64_t cut = 0; /* where the one before ends */

    for (size_t i = 0; i < nr; i++) {
        uint64_t low = slot * i;
        uint64_t high = low + slot;
        uint64_t start = rounded(t_prng_range(prng, low, high - slot / 2), flags);
        uint64_t end = rounded(t_prng_range(prng, high - slot / 3, high), flags);

        if ((flags & T_SYNTH_TOUCHING) != 0 && t_prng_chance(prng, 2, 3)) {
            start = cut;
        }
        entries[i].start = start;
        entries[i].len = end > start ? end - start : 0;
        cut = start + entries[i].len;
        set_type(prng, &entries[i]);
    }
}

static void overlap(struct t_prng *prng, unsigned flags, uint64_t span, struct t_memory *entry)
{
    uint64_t start = rounded(t_prng_range(prng, 0, span - 4096), flags);
    uint64_t len = rounded(t_prng_magnitude(prng, 63), flags);
    uint64_t most = rounded((span - start) / 4, flags);

    entry->start = start;
    entry->len = len > most ? most : len;
    entry->len = entry->len == 0 ? 4096 : entry->len;
}

static void wrap(struct t_prng *prng, unsigned flags, struct t_memory *entry)
{
    uint64_t below = rounded(t_prng_magnitude(prng, 40), flags) + 4096;

    switch (t_prng_below(prng, 4)) {
    case 0: /* ends at 2^64 */
        entry->start = 0 - below;
        entry->len = below;
        break;
    case 1: /* runs past it */
        entry->start = 0 - below;
        entry->len = below + rounded(t_prng_magnitude(prng, 40), flags) + 4096;
        break;
    case 2: /* as long as a length can be, from somewhere high */
        entry->start = rounded(t_prng_u64(prng) | UINT64_C(1) << 62, flags);
        entry->len = UINT64_MAX;
        break;
    default: /* the last frame */
        entry->start = UINT64_MAX - 4095;
        entry->len = 4096;
        break;
    }
}

static void huge(struct t_prng *prng, unsigned flags, struct t_memory *entry)
{
    if (t_prng_chance(prng, 1, 2)) {
        entry->start = rounded((UINT64_C(1) << 52) - t_prng_magnitude(prng, 44), flags);
        entry->len = rounded(t_prng_magnitude(prng, 46), flags) + 4096;
    } else {
        entry->start = rounded(t_prng_magnitude(prng, 56), flags);
        entry->len = rounded(t_prng_magnitude(prng, 44), flags) + 4096;
    }
}

void t_synth(struct t_prng *prng, unsigned flags, uint64_t span, struct t_memory *entries,
             size_t nr)
{
    sorted(prng, flags, span, entries, nr);
    for (size_t i = 0; i < nr; i++) {
        struct t_memory *entry = &entries[i];

        if ((flags & T_SYNTH_OVERLAP) != 0 && t_prng_chance(prng, 1, 4)) {
            overlap(prng, flags, span, entry);
        }
        if ((flags & T_SYNTH_HUGE) != 0 && t_prng_chance(prng, 1, 12)) {
            huge(prng, flags, entry);
        }
        if ((flags & T_SYNTH_WRAP) != 0 && t_prng_chance(prng, 1, 12)) {
            wrap(prng, flags, entry);
        }
        if ((flags & T_SYNTH_EMPTY) != 0 && t_prng_chance(prng, 1, 12)) {
            entry->len = 0;
        }
        if ((flags & T_SYNTH_DUPLICATE) != 0 && i > 0 && t_prng_chance(prng, 1, 12)) {
            *entry = entries[t_prng_below(prng, i)];
            if (t_prng_chance(prng, 1, 2)) {
                set_type(prng, entry);
            }
        }
    }
    if ((flags & T_SYNTH_UNSORTED) != 0) {
        t_prng_shuffle(prng, entries, nr, sizeof(*entries));
    }
}
