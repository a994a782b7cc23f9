// SPDX-License-Identifier: MIT
/**
 * What the files of the paging room know of each other.
 */
#ifndef MMI_PAGING_INTERNAL_H
#define MMI_PAGING_INTERNAL_H

#include <mm/paging_ops.h>

#define MMI_PAGETABLE_MAGIC 0x7462504du /* "MPbt" */
#define MMI_GATHER_MAGIC    0x6874474du /* "MGth" */

/** MM_OK | MM_ERR_INVALID_ARGUMENT (null) | MM_ERR_NOT_INITIALIZED */
static inline mm_status_t mmi_pagetable_check(const struct mm_pagetable *pt)
{
    if (pt == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    return pt->magic == MMI_PAGETABLE_MAGIC ? MM_OK : MM_ERR_NOT_INITIALIZED;
}

/** Whether the gather was begun for this page table. */
static inline bool mmi_gather_is_for(const struct mm_gather *gather, const struct mm_pagetable *pt)
{
    return gather != NULL && gather->magic == MMI_GATHER_MAGIC && gather->pt == pt;
}

#endif
