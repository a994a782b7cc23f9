// SPDX-License-Identifier: MIT
/**
 * What the two halves of fault handling share: with the lock shared (fault.c), and alone
 * (fault_alone.c).
 */
#ifndef MMI_SPACE_FAULT_H
#define MMI_SPACE_FAULT_H

#include "internal.h"

#include "core/paging/page.h"

/** A fault on its way. */
struct mmi_space_fault {
    struct mm_space *space;
    uint64_t page;      /* address of the page */
    uint32_t flags;     /* MM_FAULT_... */
    bool force;         /* whatever the region allows, but in a guard; a write makes it private */
    bool small;         /* no leaf of 2 MiB: there was none to be had */
    bool needs_alone;   /* out: this needs the lock alone; nothing was done */
    bool used_zero;     /* out: the zero page was put there */
    bool reused;        /* out: the frame was taken, not copied */
    uint64_t nr_filled; /* out: pages put there that the table has not counted */
};

/** One look and what follows from it. Lock held, shared or alone. */
enum mm_fault_result mmi_space_resolve(struct mmi_space_fault *fault);

/** What only who is alone may do, then as mmi_space_resolve(). Lock held alone. */
enum mm_fault_result mmi_space_resolve_alone(struct mmi_space_fault *fault);

/** Whether a region allows an access at all. */
bool mmi_space_allows(const struct mm_space *space, const struct mmi_region *region,
                      uint32_t flags);

/** Whether a page of these rights serves the access as it is. */
bool mmi_space_serves(const struct mmi_space_fault *fault, mm_prot_t prot, mm_paddr_t paddr);

#endif
