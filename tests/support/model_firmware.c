// SPDX-License-Identifier: MIT
/**
 * The second reader of firmware's memory maps. See the header.
 */
#include "model_firmware.h"

#include <stdlib.h>

__extension__ typedef unsigned __int128 wide;

uint64_t t_fw_get(const uint8_t *at, unsigned bytes)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < bytes; i++) {
        value |= (uint64_t)at[i] << (8 * i);
    }
    return value;
}

void t_fw_set(uint8_t *at, unsigned bytes, uint64_t value)
{
    for (unsigned i = 0; i < bytes; i++) {
        at[i] = (uint8_t)(value >> (8 * i));
    }
}

static bool could_be_used(enum mm_boot_kind kind)
{
    return kind == MM_BOOT_USABLE || kind == MM_BOOT_BOOTLOADER || kind == MM_BOOT_ACPI_RECLAIM;
}

static struct t_fw_memory made(uint64_t start, wide len, enum mm_boot_kind kind)
{
    struct t_fw_memory m = {.start = start, .len = (uint64_t)len, .kind = kind};
    wide room = ((wide)1 << 64) - start;

    m.empty = len == 0;
    if (len <= room && len >> 64 == 0) {
        return m;
    }
    if (kind == MM_BOOT_USABLE) {
        m.ignored = true;
        m.len = 0;
    } else {
        m.cut = true;
        m.kind = could_be_used(kind) ? MM_BOOT_RESERVED : kind;
        m.len = room >> 64 != 0 ? UINT64_MAX : (uint64_t)room; /* no range holds all 2^64 bytes */
    }
    return m;
}

struct t_fw_memory t_fw_uefi(const uint8_t *at)
{
    uint64_t attributes = t_fw_get(at + 32, 8);
    enum mm_boot_kind kind = MM_BOOT_RESERVED;

    switch (t_fw_get(at, 4)) {
    case 1: /* EfiLoaderCode */
    case 2: /* EfiLoaderData */
    case 3: /* EfiBootServicesCode */
    case 4: /* EfiBootServicesData */
        kind = MM_BOOT_BOOTLOADER;
        break;
    case 5: /* EfiRuntimeServicesCode */
    case 6: /* EfiRuntimeServicesData */
        kind = MM_BOOT_RUNTIME;
        break;
    case 7: /* EfiConventionalMemory */
        kind = MM_BOOT_USABLE;
        break;
    case 8: /* EfiUnusableMemory */
        kind = MM_BOOT_BAD;
        break;
    case 9: /* EfiACPIReclaimMemory */
        kind = MM_BOOT_ACPI_RECLAIM;
        break;
    case 10: /* EfiACPIMemoryNVS */
        kind = MM_BOOT_ACPI_NVS;
        break;
    case 11: /* EfiMemoryMappedIO */
    case 12: /* EfiMemoryMappedIOPortSpace */
        kind = MM_BOOT_MMIO;
        break;
    case 14: /* EfiPersistentMemory */
        kind = MM_BOOT_PERSISTENT;
        break;
    default: /* 0 reserved, 13 PAL code, 15 unaccepted, of OEMs, of loaders */
        break;
    }
    if (could_be_used(kind)) {
        kind =
            (attributes & UINT64_C(1) << 63) != 0 ? MM_BOOT_RUNTIME : kind; /* EFI_MEMORY_RUNTIME */
        kind = (attributes & 0x8000) != 0 ? MM_BOOT_PERSISTENT : kind;      /* EFI_MEMORY_NV */
        kind = (attributes & 0x40000) != 0 ? MM_BOOT_RESERVED : kind;       /* EFI_MEMORY_SP */
    }
    return made(t_fw_get(at + 8, 8), (wide)t_fw_get(at + 24, 8) * 4096, kind);
}

struct t_fw_memory t_fw_e820(const uint8_t *at)
{
    enum mm_boot_kind kind = MM_BOOT_RESERVED;

    switch (t_fw_get(at + 16, 4)) {
    case 1: /* AddressRangeMemory */
        kind = MM_BOOT_USABLE;
        break;
    case 3: /* AddressRangeACPI */
        kind = MM_BOOT_ACPI_RECLAIM;
        break;
    case 4: /* AddressRangeNVS */
        kind = MM_BOOT_ACPI_NVS;
        break;
    case 5: /* AddressRangeUnusable */
        kind = MM_BOOT_BAD;
        break;
    case 7: /* AddressRangePersistentMemory */
        kind = MM_BOOT_PERSISTENT;
        break;
    default: /* 2 reserved, 6 disabled, not defined, of OEMs */
        break;
    }
    return made(t_fw_get(at, 8), t_fw_get(at + 8, 8), kind);
}

struct t_fw_memory t_fw_e820_attributes(const uint8_t *at)
{
    struct t_fw_memory m = t_fw_e820(at);
    uint64_t attributes = t_fw_get(at + 20, 4);
    uint64_t type = t_fw_get(at + 16, 4);

    if ((attributes & 1) == 0) {
        return (struct t_fw_memory){.kind = MM_BOOT_RESERVED, .ignored = true};
    }
    if (type == 1 || type == 3) {
        enum mm_boot_kind kind = (attributes & 8) != 0   ? MM_BOOT_RESERVED
                                 : (attributes & 2) != 0 ? MM_BOOT_PERSISTENT
                                 : type == 1             ? MM_BOOT_USABLE
                                                         : MM_BOOT_ACPI_RECLAIM;

        m = made(t_fw_get(at, 8), t_fw_get(at + 8, 8), kind);
    }
    return m;
}

struct t_fw_memory t_fw_limine(const uint8_t *at)
{
    enum mm_boot_kind kind = MM_BOOT_RESERVED;

    switch (t_fw_get(at + 16, 8)) {
    case 0:
        kind = MM_BOOT_USABLE;
        break;
    case 2:
        kind = MM_BOOT_ACPI_RECLAIM;
        break;
    case 3:
        kind = MM_BOOT_ACPI_NVS;
        break;
    case 4:
        kind = MM_BOOT_BAD;
        break;
    case 5:
        kind = MM_BOOT_BOOTLOADER;
        break;
    case 6:
        kind = MM_BOOT_KERNEL;
        break;
    case 7:
        kind = MM_BOOT_FRAMEBUFFER;
        break;
    default: /* 1 reserved, 8 reserved and mapped, not defined */
        break;
    }
    return made(t_fw_get(at, 8), t_fw_get(at + 8, 8), kind);
}

void t_fw_add(struct mm_bootmap *map, struct mm_boot_report *report, struct t_fw_memory memory)
{
    report->nr_entries++;
    report->nr_empty += memory.empty;
    report->nr_ignored += memory.ignored;
    report->nr_cut += memory.cut;
    if (mm_bootmap_add(map, mm_prange(mm_paddr(memory.start), memory.len), memory.kind) != MM_OK) {
        abort();
    }
}
