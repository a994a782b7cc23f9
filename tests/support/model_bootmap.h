// SPDX-License-Identifier: MIT
/**
 * The oracle of the boot map: which frames may an allocator own, whatever the firmware said?
 *
 * A byte is usable when at least one entry covers it and every entry that covers it is usable. A
 * frame is usable when all of its bytes are, whichever entries they come from. The oracle cuts the
 * address space at every start and end, and asks every entry about every piece: quadratic, and
 * plainly right. Entries may be in any order, overlap, repeat, be empty, or run past 2^64: such a
 * one is cut there.
 */
#ifndef T_MODEL_BOOTMAP_H
#define T_MODEL_BOOTMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct t_memory {
    uint64_t start;
    uint64_t len;
    bool usable;
    char type[32]; /**< the firmware's word; the oracle does not read it */
};

/** Frames [first, first + nr). */
struct t_mboot_run {
    uint64_t first;
    uint64_t nr;
};

struct t_mboot {
    struct t_mboot_run *runs; /**< usable frames: sorted, not empty, not touching */
    size_t nr;
};

/**
 * Compute all usable frames below `limit` (bytes; 0: 2^64).
 * `frame` is the size that runs are made of: 4096; with 1 the runs are bytes.
 */
void t_mboot_init(struct t_mboot *model, const struct t_memory *entries, size_t nr, uint64_t limit,
                  uint64_t frame);
void t_mboot_destroy(struct t_mboot *model);

/** How many frames are usable. */
uint64_t t_mboot_count(const struct t_mboot *model);

/** Is every frame of [first, first + nr) usable? True when nr is 0. */
bool t_mboot_covers(const struct t_mboot *model, uint64_t first, uint64_t nr);

/** The longest run, the lowest of them when several are; {0, 0} when there is none. */
struct t_mboot_run t_mboot_largest(const struct t_mboot *model);

/** The question itself, for one byte: the definition, written down a second time. */
bool t_mboot_byte_is_usable(const struct t_memory *entries, size_t nr, uint64_t byte);

#endif
