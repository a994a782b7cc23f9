// SPDX-License-Identifier: MIT
/**
 * The one thing that this kernel wants from ACPI: which processors there are.
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
