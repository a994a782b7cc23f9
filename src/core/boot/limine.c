// SPDX-License-Identifier: MIT
/**
 * The memory map of Limine into a boot map (Limine Boot Protocol, "Memory Map Feature"). The entries
 * that the two passes go over are the pointers; what they point to:
 *
 *     base | length | type
 *     0    8        16     24
 */
#include "core/boot/entries.h"
#include <mm/boot/limine.h>

static enum mm_boot_kind kind_by_type(uint64_t type)
{
    static const uint8_t kinds[] = {
        MM_BOOT_USABLE,       MM_BOOT_RESERVED, /* usable, reserved */
        MM_BOOT_ACPI_RECLAIM, MM_BOOT_ACPI_NVS, /* ACPI */
        MM_BOOT_BAD,                            /* bad */
        MM_BOOT_BOOTLOADER,                     /* the loader's, reclaimable */
        MM_BOOT_KERNEL,                         /* the executable and its modules */
        MM_BOOT_FRAMEBUFFER,                    /* framebuffer; reserved but mapped: reserved */
    };

    return type < sizeof(kinds) ? (enum mm_boot_kind)kinds[type] : MM_BOOT_RESERVED;
}

static const uint8_t *pointer(const uint8_t *at)
{
    const uint8_t *entry;

    memcpy(&entry, at, sizeof(entry));
    return entry;
}

static struct mmi_memory entry(const uint8_t *at)
{
    const uint8_t *to = pointer(at);

    return mmi_memory(mmi_get64(to), mmi_get64(to + 8), true, kind_by_type(mmi_get64(to + 16)));
}

mm_status_t mm_limine_read_map(struct mm_bootmap *map, const void *entries, uint64_t nr,
                               struct mm_boot_report *out, struct mm_boot_error *error)
{
    struct mmi_entries list = {
        .data = entries, .stride = sizeof(const uint8_t *), .nr = nr, .read = entry};
    mm_status_t status = mmi_map_check(map);

    if (status != MM_OK) {
        return status;
    }
    if (entries == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (nr == 0 || nr > UINT64_MAX / sizeof(const uint8_t *)) {
        return MM_ERR_INVALID_SIZE;
    }
    for (uint64_t i = 0; i < nr; i++) {
        if (pointer(list.data + i * list.stride) != NULL) {
            continue;
        }
        if (error != NULL) {
            *error = (struct mm_boot_error){i, "the entry's pointer is null"};
        }
        return MM_ERR_CORRUPTED;
    }
    return mmi_entries_read(&list, map, out);
}
