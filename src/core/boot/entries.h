// SPDX-License-Identifier: MIT
/**
 * What the adapters share: entries of a memory map, one a stride, each read by one function, and
 * the two passes over them. The first counts what the map must have room for and changes nothing,
 * the second cannot fail.
 */
#ifndef MMI_BOOT_ENTRIES_H
#define MMI_BOOT_ENTRIES_H

#include "core/base/bytes.h"
#include <mm/boot/report.h>

/* Hidden: the address of a reader is taken in another file. */
MM_BEGIN_DECLS

enum mmi_fate {
    MMI_TAKEN,
    MMI_EMPTY,
    MMI_IGNORED, /* the range is empty, too */
    MMI_CUT,
};

/* One entry of any source, made fit: the range is valid. */
struct mmi_memory {
    struct mm_prange range;
    enum mm_boot_kind kind;
    enum mmi_fate fate;
};

typedef struct mmi_memory mmi_entry_reader(const uint8_t *at);

struct mmi_entries {
    const uint8_t *data;
    uint64_t stride;
    uint64_t nr;
    mmi_entry_reader *read;
};

/* Kinds that are usable, or that mm_bootmap_reclaim() makes so. */
static inline bool mmi_may_be_usable(enum mm_boot_kind kind)
{
    return kind == MM_BOOT_USABLE || kind == MM_BOOT_BOOTLOADER || kind == MM_BOOT_ACPI_RECLAIM;
}

/* What an entry says, made fit. `len_fits` is false if the length did not fit 64 bits. */
struct mmi_memory mmi_memory(uint64_t start, uint64_t len, bool len_fits, enum mm_boot_kind kind);

/* MM_ERR_INVALID_ARGUMENT, MM_ERR_NOT_INITIALIZED or MM_OK. */
mm_status_t mmi_map_check(struct mm_bootmap *map);

/* Cut `len` bytes into entries; `error` may be null. */
mm_status_t mmi_entries_cut(struct mmi_entries *entries, size_t len, size_t min,
                            struct mm_boot_error *error);

/* The first pass: how many adds. */
uint64_t mmi_entries_count(const struct mmi_entries *entries);

/* The second pass, into a map with room: what became of the entries is counted on top of what
 * `report` says. */
void mmi_entries_add(const struct mmi_entries *entries, struct mm_bootmap *map,
                     struct mm_boot_report *report);

/* Both: MM_OK or MM_ERR_LIMIT. `out` may be null. */
mm_status_t mmi_entries_read(const struct mmi_entries *entries, struct mm_bootmap *map,
                             struct mm_boot_report *out);

/* UEFI Specification 2.10, 7.2.3: a descriptor, of 40 bytes or more. */
struct mmi_memory mmi_uefi_entry(const uint8_t *at);

/* ACPI Specification 6.5, 15.1: a type of E820. */
enum mm_boot_kind mmi_e820_kind(uint32_t type);

MM_END_DECLS

#endif
