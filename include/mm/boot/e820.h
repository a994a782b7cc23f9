// SPDX-License-Identifier: MIT
/**
 * The memory map of a PC BIOS into a boot map (ACPI Specification 6.5, 15.1: INT 15H, E820H).
 *
 * An entry is a base, a length and a type, 20 bytes in all, and 24 with the extended attributes of
 * ACPI 3.0. Each is distrusted: <mm/boot/report.h> says what becomes of what cannot be. By type:
 *
 *     1  AddressRangeMemory              MM_BOOT_USABLE
 *     2  AddressRangeReserved            MM_BOOT_RESERVED
 *     3  AddressRangeACPI                MM_BOOT_ACPI_RECLAIM
 *     4  AddressRangeNVS                 MM_BOOT_ACPI_NVS
 *     5  AddressRangeUnusable            MM_BOOT_BAD
 *     6  AddressRangeDisabled            MM_BOOT_RESERVED
 *     7  AddressRangePersistentMemory    MM_BOOT_PERSISTENT
 *     any other                          MM_BOOT_RESERVED
 *
 * By extended attributes, when there are such:
 *
 *     bit 0 clear                   the entry is ignored, whatever its type
 *     bit 1 set, not volatile       MM_BOOT_PERSISTENT instead of usable or ACPI reclaim
 *     bit 3 set, log of errors      MM_BOOT_RESERVED instead of usable or ACPI reclaim
 *     bit 2 (slow), any other       changes nothing
 *
 * The length of an entry does not tell whether it has attributes: many a loader stores entries of
 * 20 bytes 24 bytes apart, and many a BIOS returns 20 where 24 were asked for. Where nobody wrote
 * them, attributes of 0 would make the whole map disappear. So the caller says it, who asked.
 */
#ifndef MM_BOOT_E820_H
#define MM_BOOT_E820_H

#include <mm/boot/report.h>

MM_BEGIN_DECLS

/** Bytes of an entry, without and with extended attributes. */
#define MM_E820_ENTRY_SIZE_MIN        20u
#define MM_E820_ENTRY_SIZE_ATTRIBUTES 24u

/** Every entry has extended attributes, at offset 20 (bit 0 was set before the BIOS was asked). */
#define MM_E820_ATTRIBUTES 1u
#define MM_E820_FLAGS_ALL  1u

/**
 * Read a memory map as it was gathered from the BIOS, or as a loader passes it on.
 *
 * @param map         initialised; entries are added, not normalised
 * @param entries     of any alignment
 * @param len         bytes that may be read there
 * @param entry_size  from one to the next, 20 or more, 24 or more with MM_E820_ATTRIBUTES; what
 *                    lies behind is not read
 * @param flags       0 or MM_E820_ATTRIBUTES
 * @param[out] out    may be null; untouched on error
 * @param[out] error  may be null; written only when MM_ERR_CORRUPTED is returned
 * @return MM_OK | MM_ERR_CORRUPTED (the map ends inside an entry) | MM_ERR_LIMIT (the map has not
 *         room for all) | MM_ERR_INVALID_ARGUMENT (null) | MM_ERR_INVALID_FLAGS
 *         | MM_ERR_INVALID_SIZE (len 0, or an entry is too small)
 *         | MM_ERR_NOT_INITIALIZED (map). On error the map is as it was.
 * Cost:   O(entries), twice.
 */
MM_MUST_CHECK
mm_status_t mm_e820_read_map(struct mm_bootmap *map, const void *entries, size_t len,
                             size_t entry_size, uint32_t flags, struct mm_boot_report *out,
                             struct mm_boot_error *error);

MM_END_DECLS

#endif
