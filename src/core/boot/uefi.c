// SPDX-License-Identifier: MIT
/**
 * The memory map of UEFI into a boot map. A descriptor (UEFI Specification 2.10, 7.2.3):
 *
 *     type | pad | physical start | virtual start | pages of 4 KiB | attributes | later versions
 *     0    4     8                16              24               32           40 ... size
 */
#include "core/boot/entries.h"
#include <mm/boot/uefi.h>

/* Attributes that make memory less usable than its type says (7.2.3). */
#define EFI_MEMORY_NV      (UINT64_C(1) << 15)
#define EFI_MEMORY_SP      (UINT64_C(1) << 18)
#define EFI_MEMORY_RUNTIME (UINT64_C(1) << 63)

/* The types of 7.2.1, EFI_MEMORY_TYPE. */
static enum mm_boot_kind kind_by_type(uint32_t type)
{
    static const uint8_t kinds[] = {
        MM_BOOT_RESERVED,                         /* reserved */
        MM_BOOT_BOOTLOADER,   MM_BOOT_BOOTLOADER, /* loader code, data */
        MM_BOOT_BOOTLOADER,   MM_BOOT_BOOTLOADER, /* boot services code, data */
        MM_BOOT_RUNTIME,      MM_BOOT_RUNTIME,    /* runtime services code, data */
        MM_BOOT_USABLE,                           /* conventional */
        MM_BOOT_BAD,                              /* unusable */
        MM_BOOT_ACPI_RECLAIM, MM_BOOT_ACPI_NVS,   /* ACPI */
        MM_BOOT_MMIO,         MM_BOOT_MMIO,       /* memory-mapped I/O, its port space */
        MM_BOOT_RESERVED,                         /* PAL code */
        MM_BOOT_PERSISTENT,                       /* persistent; unaccepted and later: reserved */
    };

    return type < sizeof(kinds) ? (enum mm_boot_kind)kinds[type] : MM_BOOT_RESERVED;
}

/* From the least usable kind upwards: the first that holds counts. */
static enum mm_boot_kind kind_by_attributes(enum mm_boot_kind kind, uint64_t attributes)
{
    if (!mmi_may_be_usable(kind)) {
        return kind;
    }
    if ((attributes & EFI_MEMORY_SP) != 0) {
        return MM_BOOT_RESERVED;
    }
    if ((attributes & EFI_MEMORY_NV) != 0) {
        return MM_BOOT_PERSISTENT;
    }
    return (attributes & EFI_MEMORY_RUNTIME) != 0 ? MM_BOOT_RUNTIME : kind;
}

struct mmi_memory mmi_uefi_entry(const uint8_t *at)
{
    enum mm_boot_kind kind = kind_by_attributes(kind_by_type(mmi_get32(at)), mmi_get64(at + 32));
    uint64_t len = 0;
    bool fits = mm_mul(mmi_get64(at + 24), MM_PAGE_SIZE, &len);

    return mmi_memory(mmi_get64(at + 8), len, fits, kind);
}

mm_status_t mm_uefi_read_map(struct mm_bootmap *map, const void *descriptors, size_t len,
                             size_t descriptor_size, uint32_t descriptor_version,
                             struct mm_boot_report *out, struct mm_boot_error *error)
{
    struct mmi_entries entries = {
        .data = descriptors, .stride = descriptor_size, .read = mmi_uefi_entry};
    mm_status_t status = mmi_map_check(map);

    if (status != MM_OK) {
        return status;
    }
    if (descriptors == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (descriptor_version != MM_UEFI_DESCRIPTOR_VERSION) {
        return MM_ERR_UNSUPPORTED;
    }
    status = mmi_entries_cut(&entries, len, MM_UEFI_DESCRIPTOR_SIZE_MIN, error);
    return status != MM_OK ? status : mmi_entries_read(&entries, map, out);
}
