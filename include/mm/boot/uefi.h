// SPDX-License-Identifier: MIT
/**
 * The memory map of UEFI into a boot map (UEFI Specification 2.10, 7.2.3: GetMemoryMap).
 *
 * Of a descriptor its type, physical start, number of pages and attributes are read, and every one
 * is distrusted: <mm/boot/report.h> says what becomes of what cannot be. By type (7.2.1):
 *
 *     loader code and data, boot services code and data    MM_BOOT_BOOTLOADER
 *     runtime services code and data                       MM_BOOT_RUNTIME
 *     conventional                                         MM_BOOT_USABLE
 *     unusable                                             MM_BOOT_BAD
 *     ACPI reclaim, ACPI NVS                               MM_BOOT_ACPI_RECLAIM, MM_BOOT_ACPI_NVS
 *     memory-mapped I/O, its port space                    MM_BOOT_MMIO
 *     persistent                                           MM_BOOT_PERSISTENT
 *     reserved, PAL code, unaccepted, any other            MM_BOOT_RESERVED
 *
 * What is usable by its type or could become so (conventional, the loader's, boot services', ACPI
 * reclaim) is not, if its attributes say otherwise; of several the least usable counts:
 *
 *     EFI_MEMORY_RUNTIME    MM_BOOT_RUNTIME       firmware still needs it mapped
 *     EFI_MEMORY_NV         MM_BOOT_PERSISTENT    it is not volatile
 *     EFI_MEMORY_SP         MM_BOOT_RESERVED      set aside for a device driver or an application
 *
 * All other attributes say what the memory can do (caching, protection, reliability, hot plug), and
 * change nothing: EFI_MEMORY_MORE_RELIABLE memory is like any other.
 *
 * Memory that the firmware holds back until it is accepted (type 15) is reserved: touching it
 * before that stops a confidential guest. What was accepted is conventional in the next map.
 */
#ifndef MM_BOOT_UEFI_H
#define MM_BOOT_UEFI_H

#include <mm/boot/report.h>

MM_BEGIN_DECLS

/** EFI_MEMORY_DESCRIPTOR_VERSION, and the bytes of a descriptor that it defines. */
#define MM_UEFI_DESCRIPTOR_VERSION  1u
#define MM_UEFI_DESCRIPTOR_SIZE_MIN 40u

/**
 * Read a memory map as the last GetMemoryMap() before ExitBootServices() returned it.
 *
 * The kernel's image and modules are loader data in such a map: reserve them with mm_bootmap_add(),
 * before mm_bootmap_reclaim() makes the rest usable.
 *
 * @param map              initialised; entries are added, not normalised
 * @param descriptors      of any alignment
 * @param len              MemoryMapSize: bytes that may be read there
 * @param descriptor_size  DescriptorSize: from one to the next, 40 or more; what lies behind the
 *                         first 40 bytes of each is not read
 * @param descriptor_version  DescriptorVersion
 * @param[out] out         may be null; untouched on error
 * @param[out] error       may be null; written only when MM_ERR_CORRUPTED is returned
 * @return MM_OK | MM_ERR_CORRUPTED (the map ends inside a descriptor) | MM_ERR_LIMIT (the map has
 *         not room for all) | MM_ERR_INVALID_ARGUMENT (null) | MM_ERR_INVALID_SIZE (len 0, or a
 *         descriptor is too small) | MM_ERR_UNSUPPORTED (version)
 *         | MM_ERR_NOT_INITIALIZED (map). On error the map is as it was.
 * Cost:   O(descriptors), twice.
 */
MM_MUST_CHECK
mm_status_t mm_uefi_read_map(struct mm_bootmap *map, const void *descriptors, size_t len,
                             size_t descriptor_size, uint32_t descriptor_version,
                             struct mm_boot_report *out, struct mm_boot_error *error);

MM_END_DECLS

#endif
