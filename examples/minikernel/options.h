// SPDX-License-Identifier: MIT
/**
 * The command line: words by which a test makes the kernel meet what a healthy machine never shows.
 *
 *     limit=SIZE   use no memory from this physical address on; SIZE in bytes, K or M
 *     test=nomap   the boot information holds no memory map
 *     test=fail    one check fails
 *     test=panic   the kernel reads an address that is not mapped
 *     test=panic-on-1  the same, on processor 1
 *     test=overflow  the stack runs over into its guard page
 *     test=corrupt the kernel frees a frame twice
 *     test=deaf    it waits for other processors with a lock held for which they may only spin
 *     test=threshold  measure from how many pages on a flush should drop everything
 *     truth=all    the whole permission truth table; without the word a small part of it
 *     truth=NUMBER one case of it
 *     truth5=...   the same of the table with 5 levels
 *     stress=STEPS of each processor when all of them unmap; without the word a few
 *
 * QEMU passes a word on with -smbios type=1,version=WORD (grub.cfg picks it up).
 */
#ifndef MINIKERNEL_OPTIONS_H
#define MINIKERNEL_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

enum options_truth {
    OPTIONS_TRUTH_SAMPLE,
    OPTIONS_TRUTH_ALL,
    OPTIONS_TRUTH_ONE,
};

struct options {
    uint64_t limit; /**< 0: none */
    bool no_map;
    bool fail;
    bool panic;
    bool panic_on_1;
    bool overflow;
    bool corrupt;
    bool deaf;
    bool threshold;
    enum options_truth truth;
    bool truth_5_levels;
    uint64_t stress;     /**< 0: as many as a usual run has */
    uint64_t truth_case; /**< for OPTIONS_TRUTH_ONE */
};

/** Read a command line; words that are not in the list above are the end. */
void options_parse(const char *line, struct options *out);

#endif
