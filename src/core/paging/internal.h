// SPDX-License-Identifier: MIT
/**
 * What the files of the paging room know of each other.
 */
#ifndef MMI_PAGING_INTERNAL_H
#define MMI_PAGING_INTERNAL_H

#include <mm/paging_ops.h>

#define MMI_PAGETABLE_MAGIC 0x7462504du /* "MPbt" */
#define MMI_GATHER_MAGIC    0x6874474du /* "MGth" */

/* What mm_pagetable.pairs says. */
#define MMI_PAIRS      1u
#define MMI_ENTRY_ROOT 2u

/** Whether it is a user root with a second root for the kernel. */
static inline bool mmi_is_pair(const struct mm_pagetable *pt)
{
    return pt->kernel_root.raw != pt->root.raw;
}

/** A protection as it is mapped: with pairs, nothing of the kernel's is global. */
static inline mm_prot_t mmi_paging_prot(const struct mm_pagetable *pt, mm_prot_t prot)
{
    return pt->pairs == MMI_PAIRS ? prot & ~MM_PROT_GLOBAL : prot;
}

_Static_assert(MM_PAGING_MAX_KERNEL_RANGES <= 32, "mm_pagetable.sparse has a bit for each");

/** The bits of mm_pagetable.sparse of the declared ranges that overlap [first, last]. */
static inline uint32_t mmi_paging_sparse_bits(const struct mm_pagetable *pt, uint64_t first,
                                              uint64_t last)
{
    uint32_t bits = 0;

    if (pt->is_user != 0) {
        return 1;
    }
    for (uint32_t i = 0; i < pt->nr_kernel_ranges; i++) {
        if (first <= mm_vrange_last(pt->kernel_ranges[i]).raw &&
            last >= pt->kernel_ranges[i].start.raw) {
            bits |= 1u << i;
        }
    }
    return bits;
}

/** MM_OK | MM_ERR_INVALID_ARGUMENT (null) | MM_ERR_NOT_INITIALIZED */
static inline mm_status_t mmi_pagetable_check(const struct mm_pagetable *pt)
{
    if (pt == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    return pt->magic == MMI_PAGETABLE_MAGIC ? MM_OK : MM_ERR_NOT_INITIALIZED;
}

/** In place of the log2 of a leaf's size: nothing has gone yet. It is above all of them. */
#define MMI_GATHER_NO_LEAF 63u

/** As mm_gather_add_range(), of which the smallest leaf is known: 1 << shift bytes. */
void mmi_gather_add(struct mm_gather *gather, struct mm_vrange range, unsigned shift);

/** A leaf of 1 << shift bytes goes, or a table that covers as much, in a range that was added with
 * MMI_GATHER_NO_LEAF. To be told before its frames are passed on. */
void mmi_gather_leaf(struct mm_gather *gather, uint64_t at, unsigned shift);

/** Whether the gather was begun for this page table. */
static inline bool mmi_gather_is_for(const struct mm_gather *gather, const struct mm_pagetable *pt)
{
    return gather != NULL && gather->magic == MMI_GATHER_MAGIC && gather->pt == pt;
}

/**
 * Before it returns, every CPU has dropped what it knows of the range: translations, of which the
 * smallest leaf had 1 << shift bytes, and ways through tables that were unlinked. For calls that
 * break before they make; no lock that is ever taken with interrupts off may be held.
 */
void mmi_paging_flush_now(struct mm_pagetable *pt, struct mm_vrange range, unsigned shift);

/** What a walk of a range answers before it begins. */
mm_status_t mmi_paging_check_walk(const struct mm_pagetable *pt, struct mm_vrange range);

struct mmi_line;

/** Rights as letters: "rw-u-". */
void mmi_line_prot(struct mmi_line *line, mm_prot_t prot);
/* --- arguments, as most calls check them ------------------------------------------------------ */

/** The range that was declared for this page table and in which `range` lies; NULL: none. */
const struct mm_vrange *mmi_paging_declared(const struct mm_pagetable *pt, struct mm_vrange range);

/** Aligned, neither empty nor wrapping, declared. */
mm_status_t mmi_paging_check_range(const struct mm_pagetable *pt, struct mm_vrange range);

mm_status_t mmi_paging_check_prot(const struct mm_pagetable *pt, mm_prot_t prot);

mm_status_t mmi_paging_check_paddr(const struct mm_pagetable *pt, mm_paddr_t paddr, uint64_t len);

/** What edits of a range have in common: page table, gather, flags, range. */
mm_status_t mmi_paging_check_edit(const struct mm_pagetable *pt, struct mm_vrange range,
                                  uint32_t flags, uint32_t known, const struct mm_gather *gather);

#endif
