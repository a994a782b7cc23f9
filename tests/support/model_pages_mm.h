// SPDX-License-Identifier: MIT
/**
 * The bridge from the flat model of page tables to the library's words: what a status of the model
 * is in the library, a flag of a call in the model, and a protection that was asked for in a leaf.
 */
#ifndef T_MODEL_PAGES_MM_H
#define T_MODEL_PAGES_MM_H

#include "model_pages.h"

#include <mm/paging.h>

MM_BEGIN_DECLS

static inline mm_status_t t_mpages_status_mm(enum t_mpages_status status)
{
    switch (status) {
    case T_MPAGES_OK:
        return MM_OK;
    case T_MPAGES_ALREADY_MAPPED:
        return MM_ERR_ALREADY_MAPPED;
    case T_MPAGES_NOT_MAPPED:
        return MM_ERR_NOT_MAPPED;
    case T_MPAGES_HUGE:
        return MM_ERR_HUGE_PAGE;
    default:
        return MM_ERR_INVALID_ADDRESS;
    }
}

static inline unsigned t_mpages_flags_mm(uint32_t flags)
{
    return ((flags & MM_PAGING_SPLIT) != 0 ? (unsigned)T_MPAGES_SPLIT : 0) |
           ((flags & MM_PAGING_SKIP_HOLES) != 0 ? (unsigned)T_MPAGES_HOLES : 0);
}

/** What a leaf made with `prot` reports: any right is a right to read, and none is none at all. */
static inline mm_prot_t t_mpages_reported(mm_prot_t prot)
{
    if ((prot & (MM_PROT_READ | MM_PROT_WRITE | MM_PROT_EXEC)) == 0) {
        return MM_PROT_NONE;
    }
    return prot | MM_PROT_READ;
}

MM_END_DECLS

#endif
