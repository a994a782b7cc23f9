// SPDX-License-Identifier: MIT
/**
 * A second reader of SRAT and SLIT, from the ACPI Specification 6.5 (5.2.16, 5.2.17), that answers
 * every question by looking at every entry in the order of the table: the first that knows wins.
 *
 * It keeps what the table says, sorts nothing and joins nothing. Only t_mnuma_compare() knows the
 * library.
 */
#ifndef T_MODEL_NUMA_H
#define T_MODEL_NUMA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define T_MNUMA_MAX  8192u
#define T_MNUMA_NONE UINT32_MAX

struct mm_numa;

struct t_mnuma {
    struct {
        uint64_t start, last;
        uint32_t domain, flags; /**< flags: 1 hot-plug, 2 non-volatile */
    } memory[T_MNUMA_MAX];
    struct {
        uint32_t id, domain;
    } cpus[T_MNUMA_MAX];
    uint32_t domains[T_MNUMA_MAX]; /**< in the order of first sight */
    uint32_t nr_memory, nr_cpus, nr_domains;
    uint32_t nr_disabled, nr_skipped;
    const uint8_t *matrix; /**< in the SLIT's bytes; null: none was read */
    uint64_t rows;
};

/** Read an SRAT; false: the table is bad. `len` bytes are there. */
bool t_mnuma_srat(struct t_mnuma *m, const uint8_t *bytes, size_t len);

/** Read a SLIT after it, and keep the pointer. */
bool t_mnuma_slit(struct t_mnuma *m, const uint8_t *bytes, size_t len);

/** Entry of `memory` that decides about a byte; T_MNUMA_NONE. */
uint32_t t_mnuma_entry(const struct t_mnuma *m, uint64_t at);

uint32_t t_mnuma_node_of_domain(const struct t_mnuma *m, uint32_t domain);
uint32_t t_mnuma_node_of(const struct t_mnuma *m, uint64_t at);
uint32_t t_mnuma_node_near(const struct t_mnuma *m, uint64_t at);
uint32_t t_mnuma_node_of_apic(const struct t_mnuma *m, uint32_t id);
uint32_t t_mnuma_distance(const struct t_mnuma *m, uint32_t from, uint32_t to);

/** Ask the library everything at every edge; NULL, or what differs. */
const char *t_mnuma_compare(const struct t_mnuma *m, const struct mm_numa *numa);

#endif
