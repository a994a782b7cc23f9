// SPDX-License-Identifier: MIT
/**
 * What the files of the NUMA topology share: the header of both tables, and looking things up in
 * what was read.
 */
#ifndef MMI_BOOT_NUMA_H
#define MMI_BOOT_NUMA_H

#include "core/base/bytes.h"
#include <mm/numa.h>

#define MMI_NUMA_MAGIC    UINT32_C(0x6d6d6e75) /* "mmnu" */
#define MMI_NUMA_NO_ENTRY UINT32_MAX

/** A table; length and revision are known when its header has been checked. */
struct mmi_numa_table {
    const uint8_t *data;
    uint32_t len;
    uint32_t revision;
};

static inline mm_status_t mmi_numa_check(const struct mm_numa *numa)
{
    if (numa == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    return numa->magic == MMI_NUMA_MAGIC ? MM_OK : MM_ERR_NOT_INITIALIZED;
}

static inline void mmi_numa_tell(struct mm_numa_error *error, uint32_t entry_type, uint32_t offset,
                                 const char *what)
{
    if (error != NULL) {
        *error = (struct mm_numa_error){entry_type, offset, what};
    }
}

/** Where no SLIT tells. */
static inline uint8_t mmi_numa_far(uint32_t from, uint32_t to)
{
    return from == to ? MM_NUMA_LOCAL : MM_NUMA_REMOTE;
}

/**
 * The header of a table of which `len` bytes may be read, `len_min` or more: NULL if all is well,
 * else what is wrong, and *at says where. The length is then at least `len_min`, and at most `len`.
 */
const char *mmi_numa_check_table(struct mmi_numa_table *t, const char *signature, size_t len,
                                 uint32_t len_min, uint32_t *at);

/**
 * May two neighbours be one range? All 2^64 bytes stay two even then, for no range can hold them:
 * what asks about a place in them has to look at both.
 */
static inline bool mmi_numa_alike(const struct mm_numa_range *left,
                                  const struct mm_numa_range *right)
{
    return mm_prange_last(left->range).raw + 1 == right->range.start.raw &&
           left->node == right->node && left->flags == right->flags;
}

/** Index of the first range that ends at `at` or above: it covers `at`, or is the next above. */
uint32_t mmi_numa_range_at(const struct mm_numa *numa, uint64_t at);

/** Index of the first processor whose number is `apic_id` or above. */
uint32_t mmi_numa_cpu_at(const struct mm_numa *numa, uint32_t apic_id);

#endif
