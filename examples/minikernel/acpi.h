// SPDX-License-Identifier: MIT
/**
 * What this kernel wants from ACPI: which processors there are, and the tables that tell which memory
 * is near them, for libmm to read.
 */
#ifndef MINIKERNEL_ACPI_H
#define MINIKERNEL_ACPI_H

#include <stdint.h>

#include <mm/boot/multiboot2.h>
#include <mm/physmap.h>

#include "percpu.h"

struct acpi_processors {
    uint32_t nr_listed;  /**< enabled ones in the table */
    uint32_t nr_dormant; /**< that may be switched on later; not started */
    uint32_t nr;         /**< entries of apic_ids[]: those that this kernel has room for */
    uint32_t apic_ids[PERCPU_MAX];
};

/** A table that is whole: all of it can be read, and its bytes add up to 0. */
struct acpi_table {
    const uint8_t *at; /**< at any alignment */
    uint32_t len;
};

/**
 * Find the first table with a signature of four characters, such as "SRAT". It is read where the
 * physmap reaches it, as below.
 *
 * @param[out] out  untouched if the answer is not NULL
 * @return NULL, or the sentence that says why there is none
 */
const char *acpi_find_table(const struct mm_multiboot2_info *boot, const struct mm_physmap *physmap,
                            const char *signature, struct acpi_table *out);

/**
 * Find the processors in the MADT. The tables are read where the physmap reaches them, so this is
 * called while memory is mapped as boot.S left it.
 *
 * @param[out] out  of no processor if the answer is not NULL
 * @return NULL, or the sentence that says why the tables tell nothing
 */
const char *acpi_find_processors(const struct mm_multiboot2_info *boot,
                                 const struct mm_physmap *physmap, struct acpi_processors *out);

#endif
