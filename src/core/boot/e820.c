// SPDX-License-Identifier: MIT
/**
 * The memory map of a PC BIOS into a boot map. An entry (ACPI Specification 6.5, 15.1):
 *
 *     base | length | type | extended attributes
 *     0    8        16     20                    24
 */
#include "core/boot/entries.h"
#include <mm/boot/e820.h>

/* Extended attributes. Bit 0 is "enabled" in ACPI 3.0, and must be set ever since. */
#define ENABLED      1u
#define NON_VOLATILE 2u
#define ERROR_LOG    8u

enum mm_boot_kind mmi_e820_kind(uint32_t type)
{
    static const uint8_t kinds[] = {
        MM_BOOT_RESERVED,     MM_BOOT_USABLE,   /* none, memory */
        MM_BOOT_RESERVED,                       /* reserved */
        MM_BOOT_ACPI_RECLAIM, MM_BOOT_ACPI_NVS, /* ACPI */
        MM_BOOT_BAD,                            /* unusable: errors have been found in it */
        MM_BOOT_RESERVED,                       /* disabled */
        MM_BOOT_PERSISTENT,                     /* persistent; any other: reserved */
    };

    return type < sizeof(kinds) ? (enum mm_boot_kind)kinds[type] : MM_BOOT_RESERVED;
}

static struct mmi_memory entry(const uint8_t *at)
{
    return mmi_memory(mmi_get64(at), mmi_get64(at + 8), true, mmi_e820_kind(mmi_get32(at + 16)));
}

static struct mmi_memory entry_with_attributes(const uint8_t *at)
{
    uint32_t attributes = mmi_get32(at + 20);
    enum mm_boot_kind kind = mmi_e820_kind(mmi_get32(at + 16));

    if ((attributes & ENABLED) == 0) {
        return (struct mmi_memory){mm_prange(mm_paddr(0), 0), kind, MMI_IGNORED};
    }
    if (mmi_may_be_usable(kind)) {
        kind = (attributes & ERROR_LOG) != 0      ? MM_BOOT_RESERVED
               : (attributes & NON_VOLATILE) != 0 ? MM_BOOT_PERSISTENT
                                                  : kind;
    }
    return mmi_memory(mmi_get64(at), mmi_get64(at + 8), true, kind);
}

mm_status_t mm_e820_read_map(struct mm_bootmap *map, const void *entries, size_t len,
                             size_t entry_size, uint32_t flags, struct mm_boot_report *out,
                             struct mm_boot_error *error)
{
    bool attributes = (flags & MM_E820_ATTRIBUTES) != 0;
    struct mmi_entries list = {
        .data = entries, .stride = entry_size, .read = attributes ? entry_with_attributes : entry};
    mm_status_t status = mmi_map_check(map);

    if (status != MM_OK) {
        return status;
    }
    if (entries == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if ((flags & ~MM_E820_FLAGS_ALL) != 0) {
        return MM_ERR_INVALID_FLAGS;
    }
    status = mmi_entries_cut(
        &list, len, attributes ? MM_E820_ENTRY_SIZE_ATTRIBUTES : MM_E820_ENTRY_SIZE_MIN, error);
    return status != MM_OK ? status : mmi_entries_read(&list, map, out);
}
