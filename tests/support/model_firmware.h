// SPDX-License-Identifier: MIT
/**
 * A second reader of what firmware says of memory: one entry of UEFI, E820 or Limine, from the
 * specifications, a line a rule, in numbers that cannot overflow. What the adapters make of a map
 * must be what adding these one by one gives.
 */
#ifndef T_MODEL_FIRMWARE_H
#define T_MODEL_FIRMWARE_H

#include <mm/boot/report.h>

#include <stdbool.h>

struct t_fw_memory {
    uint64_t start;
    uint64_t len; /**< 0: adds nothing */
    enum mm_boot_kind kind;
    bool empty, ignored, cut;
};

/** UEFI Specification 2.10, 7.2.1 and 7.2.3: the first 40 bytes of a descriptor. */
struct t_fw_memory t_fw_uefi(const uint8_t *at);

/** ACPI Specification 6.5, 15.1: 20 bytes, and 24 with extended attributes. */
struct t_fw_memory t_fw_e820(const uint8_t *at);
struct t_fw_memory t_fw_e820_attributes(const uint8_t *at);

/** Limine Boot Protocol, "Memory Map Feature": 24 bytes. */
struct t_fw_memory t_fw_limine(const uint8_t *at);

/** Little-endian, of any alignment. */
uint64_t t_fw_get(const uint8_t *at, unsigned bytes);
void t_fw_set(uint8_t *at, unsigned bytes, uint64_t value);

/** Count an entry, and add it to a map that has room. */
void t_fw_add(struct mm_bootmap *map, struct mm_boot_report *report, struct t_fw_memory memory);

#endif
