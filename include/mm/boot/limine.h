// SPDX-License-Identifier: MIT
/**
 * The memory map of Limine into a boot map (Limine Boot Protocol, "Memory Map Feature").
 *
 * The response is a number of entries and an array of pointers to them; an entry is a base, a
 * length and a type, of 64 bits each. Each is distrusted: <mm/boot/report.h> says what becomes of
 * what cannot be. By type:
 *
 *     0  LIMINE_MEMMAP_USABLE                    MM_BOOT_USABLE
 *     1  LIMINE_MEMMAP_RESERVED                  MM_BOOT_RESERVED
 *     2  LIMINE_MEMMAP_ACPI_RECLAIMABLE          MM_BOOT_ACPI_RECLAIM
 *     3  LIMINE_MEMMAP_ACPI_NVS                  MM_BOOT_ACPI_NVS
 *     4  LIMINE_MEMMAP_BAD_MEMORY                MM_BOOT_BAD
 *     5  LIMINE_MEMMAP_BOOTLOADER_RECLAIMABLE    MM_BOOT_BOOTLOADER
 *     6  LIMINE_MEMMAP_EXECUTABLE_AND_MODULES    MM_BOOT_KERNEL
 *     7  LIMINE_MEMMAP_FRAMEBUFFER               MM_BOOT_FRAMEBUFFER
 *     8  LIMINE_MEMMAP_RESERVED_MAPPED           MM_BOOT_RESERVED (base revision 4 and later)
 *     any other                                  MM_BOOT_RESERVED
 */
#ifndef MM_BOOT_LIMINE_H
#define MM_BOOT_LIMINE_H

#include <mm/boot/report.h>

MM_BEGIN_DECLS

/** Bytes of an entry. */
#define MM_LIMINE_ENTRY_SIZE 24u

/**
 * Read the memory map of a response: `response->entries`, `response->entry_count`.
 *
 * The entries themselves, the page tables, the stack and every other response lie in memory that
 * becomes MM_BOOT_BOOTLOADER: mm_bootmap_reclaim() only when none of them is needed any more.
 * Kernel and modules are one type; who wants to tell them apart adds the modules as MM_BOOT_MODULE.
 *
 * @param map      initialised; entries are added, not normalised
 * @param entries  an array of `nr` pointers, each to 24 bytes that may be read, of any alignment
 * @param nr       pointers in it
 * @param[out] out    may be null; untouched on error
 * @param[out] error  may be null; written only when MM_ERR_CORRUPTED is returned
 * @return MM_OK | MM_ERR_CORRUPTED (an entry's pointer is null) | MM_ERR_LIMIT (the map has not room
 *         for all) | MM_ERR_INVALID_ARGUMENT (null) | MM_ERR_INVALID_SIZE (nr 0, or so many that
 *         their array exceeds 2^64) | MM_ERR_NOT_INITIALIZED (map). On error the map is as it was.
 * Cost:   O(entries), three times.
 */
MM_MUST_CHECK
mm_status_t mm_limine_read_map(struct mm_bootmap *map, const void *entries, uint64_t nr,
                               struct mm_boot_report *out, struct mm_boot_error *error);

MM_END_DECLS

#endif
