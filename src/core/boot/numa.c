// SPDX-License-Identifier: MIT
/**
 * The topology of a machine with several memory nodes: what it holds, and answers from it. References
 * are to the ACPI Specification 6.5.
 *
 * numa_srat.c and numa_slit.c read the two tables that it comes from. Both tables begin with a
 * header of 36 bytes (5.2.6), of which this matters, and which is checked here:
 *
 *     signature | length | revision | checksum | ...
 *     0           4        8          9          36
 *
 * Ranges and processors are sorted arrays in the caller's storage, searched by halves. Ends are kept
 * as last bytes where they are compared: the end of a range at 2^64 fits no word.
 */
#include "core/boot/numa.h"

#define MEMORY_END (UINT64_C(1) << MM_PADDR_BITS_MAX)

/* 5.2.6: the fields of the header that matter. */
#define TABLE_LEN      4u
#define TABLE_REVISION 8u

static bool alive(const struct mm_numa *numa)
{
    return mmi_numa_check(numa) == MM_OK;
}

mm_status_t mm_numa_init(struct mm_numa *numa, struct mm_numa_range *ranges,
                         uint32_t ranges_capacity, struct mm_numa_cpu *cpus, uint32_t cpus_capacity)
{
    if (numa == NULL || ranges == NULL || cpus == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (ranges_capacity == 0 || cpus_capacity == 0) {
        return MM_ERR_INVALID_SIZE;
    }
    if (numa->magic == MMI_NUMA_MAGIC) {
        return MM_ERR_ALREADY_INITIALIZED;
    }
    memset(numa, 0, sizeof(*numa));
    numa->ranges = ranges;
    numa->cpus = cpus;
    numa->ranges_capacity = ranges_capacity;
    numa->cpus_capacity = cpus_capacity;
    numa->nr_nodes = 1;
    numa->magic = MMI_NUMA_MAGIC;
    return MM_OK;
}

/* --- both tables: the header ------------------------------------------------------------------ */

const char *mmi_numa_check_table(struct mmi_numa_table *t, const char *signature, size_t len,
                                 uint32_t len_min, uint32_t *at)
{
    uint8_t sum = 0;

    *at = 0;
    if (memcmp(t->data, signature, 4) != 0) {
        return "the signature is another table's";
    }
    *at = TABLE_LEN;
    t->len = mmi_get32(t->data + TABLE_LEN);
    if (t->len > len) {
        return "the table is longer than the memory it was given in";
    }
    if (t->len < len_min) {
        return "the table is shorter than its header";
    }
    /* 5.2.6: a larger revision is compatible with the smaller ones; there is none before 1. */
    *at = TABLE_REVISION;
    t->revision = t->data[TABLE_REVISION];
    if (t->revision == 0) {
        return "the table has no revision";
    }
    *at = 0;
    for (uint32_t i = 0; i < t->len; i++) {
        sum = (uint8_t)(sum + t->data[i]);
    }
    return sum == 0 ? NULL : "the bytes do not add up to 0";
}

/* --- looking things up ------------------------------------------------------------------------ */

uint32_t mmi_numa_range_at(const struct mm_numa *numa, uint64_t at)
{
    uint32_t low = 0;
    uint32_t high = numa->nr_ranges;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (mm_prange_last(numa->ranges[middle].range).raw < at) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

uint32_t mmi_numa_cpu_at(const struct mm_numa *numa, uint32_t apic_id)
{
    uint32_t low = 0;
    uint32_t high = numa->nr_cpus;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (numa->cpus[middle].apic_id < apic_id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* --- questions -------------------------------------------------------------------------------- */

uint32_t mm_numa_node_of(const struct mm_numa *numa, mm_paddr_t paddr)
{
    uint32_t i;

    if (!alive(numa)) {
        return MM_NUMA_NO_NODE;
    }
    i = mmi_numa_range_at(numa, paddr.raw);
    if (i == numa->nr_ranges || numa->ranges[i].range.start.raw > paddr.raw) {
        return MM_NUMA_NO_NODE;
    }
    return numa->ranges[i].node;
}

uint32_t mm_numa_node_near(const struct mm_numa *numa, mm_paddr_t paddr)
{
    uint32_t i;

    if (!alive(numa)) {
        return 0;
    }
    i = mmi_numa_range_at(numa, paddr.raw);
    if (i < numa->nr_ranges && numa->ranges[i].range.start.raw <= paddr.raw) {
        return numa->ranges[i].node;
    }
    return i == 0 ? 0 : numa->ranges[i - 1].node;
}

uint32_t mm_numa_node_of_apic(const struct mm_numa *numa, uint32_t apic_id)
{
    uint32_t i;

    if (!alive(numa)) {
        return MM_NUMA_NO_NODE;
    }
    i = mmi_numa_cpu_at(numa, apic_id);
    if (i == numa->nr_cpus || numa->cpus[i].apic_id != apic_id) {
        return MM_NUMA_NO_NODE;
    }
    return numa->cpus[i].node;
}

uint32_t mm_numa_node_of_domain(const struct mm_numa *numa, uint32_t domain)
{
    if (!alive(numa)) {
        return MM_NUMA_NO_NODE;
    }
    for (uint32_t node = 0; node < numa->nr_nodes; node++) {
        if (numa->domains[node] == domain) {
            return node;
        }
    }
    return MM_NUMA_NO_NODE;
}

mm_status_t mm_numa_domain_of(const struct mm_numa *numa, uint32_t node, uint32_t *out)
{
    mm_status_t status = mmi_numa_check(numa);

    if (status != MM_OK || out == NULL) {
        return status != MM_OK ? status : MM_ERR_INVALID_ARGUMENT;
    }
    if (node >= numa->nr_nodes) {
        return MM_ERR_NODE_NOT_FOUND;
    }
    *out = numa->domains[node];
    return MM_OK;
}

uint32_t mm_numa_distance(const struct mm_numa *numa, uint32_t from, uint32_t to)
{
    if (!alive(numa) || from >= numa->nr_nodes || to >= numa->nr_nodes) {
        return MM_NUMA_UNREACHABLE;
    }
    return numa->has_slit != 0 ? numa->distances[from][to] : mmi_numa_far(from, to);
}

mm_status_t mm_numa_next_range(const struct mm_numa *numa, mm_paddr_t from,
                               struct mm_numa_range *out)
{
    mm_status_t status = mmi_numa_check(numa);
    struct mm_numa_range r = {.node = MM_NUMA_NO_NODE};
    uint64_t last = MEMORY_END - 1;
    uint32_t i;

    if (status != MM_OK || out == NULL) {
        return status != MM_OK ? status : MM_ERR_INVALID_ARGUMENT;
    }
    if (from.raw >= MEMORY_END) {
        return MM_ERR_REGION_NOT_FOUND;
    }
    i = mmi_numa_range_at(numa, from.raw);
    if (i < numa->nr_ranges) {
        const struct mm_numa_range *next = &numa->ranges[i];
        uint64_t end = mm_prange_last(next->range).raw;

        if (next->range.start.raw > from.raw) {
            end = next->range.start.raw - 1;
        } else {
            r.node = next->node;
            r.flags = next->flags;
            if (i + 1 < numa->nr_ranges && mmi_numa_alike(next, next + 1)) {
                end = UINT64_MAX;
            }
        }
        last = end < last ? end : last;
    }
    r.range = mm_prange(from, last - from.raw + 1);
    *out = r;
    return MM_OK;
}
