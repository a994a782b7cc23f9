// SPDX-License-Identifier: MIT
/**
 * What the adapters for memory maps of firmware report: <mm/boot/uefi.h>, <mm/boot/e820.h>,
 * <mm/boot/limine.h>. Included by them.
 *
 * All of them distrust each entry in the same way, and what cannot be meant errs towards less
 * memory:
 *
 *     an entry that               is usable     may become usable: the loader's,   is anything else
 *                                               ACPI tables
 *     is empty                    counts, adds nothing
 *     ends above 2^64             is ignored    is reserved up to 2^64             is cut at 2^64
 *     is unaligned                is added byte for byte: the map yields whole frames
 *     contradicts another         is added: where they overlap, the least usable wins
 *     is of an unknown type                                                        is reserved
 *
 * As a map has no lock, its adapters have none: one CPU reads at boot. No op is called, nothing is
 * allocated, and the entries need not stay.
 */
#ifndef MM_BOOT_REPORT_H
#define MM_BOOT_REPORT_H

#include <mm/bootmap.h>

MM_BEGIN_DECLS

/** What became of the entries. */
struct mm_boot_report {
    uint64_t nr_entries; /**< read, whatever became of them */
    uint64_t nr_empty;   /**< of length 0 */
    uint64_t nr_ignored; /**< left out: usable and past 2^64, or disabled by the firmware */
    uint64_t nr_cut;     /**< not usable, and cut at 2^64 */
};

/** Which entry is malformed. */
struct mm_boot_error {
    uint64_t entry;   /**< counted from 0 */
    const char *what; /**< one sentence, lives for ever */
};

MM_END_DECLS

#endif
