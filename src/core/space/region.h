// SPDX-License-Identifier: MIT
/**
 * The regions of a space: edits of ranges over the tree of core/base/region.h. Internal to the room;
 * no lock, no page table and no allocation in it.
 *
 * Regions do not overlap, and neighbours that touch differ in something (else they are one). Nodes
 * come from and go to a list that the caller fills before: what needs a node says so first, and
 * then cannot fail.
 */
#ifndef MMI_SPACE_REGION_H
#define MMI_SPACE_REGION_H

#include "../base/region.h"

/* Nodes are the only memory that grows with the regions of a space. */
_Static_assert(sizeof(struct mmi_region) <= 96, "a node of the region tree has 96 bytes at most");

/** Order, balance, gaps, parents, sums, merged neighbours; each contradiction is logged. */
static inline bool mmi_regions_check(const struct mm_regions *tree,
                                     const struct mm_platform *platform)
{
    return mmi_regions_check_tree(tree, platform, "space", true);
}

/* --- edits of ranges: region_edit.c ----------------------------------------------------------- */

/** What an edit changes in each region of a range. */
struct mmi_region_change {
    bool sets_prot;
    mm_prot_t prot; /* only counts with sets_prot */
    uint32_t set;   /* flags; no flag is in both, and MMI_REGION_OFFSET in none */
    uint32_t clear;
};

/** Nodes that the edit of the same name may take from the list. */
uint64_t mmi_regions_need_insert(const struct mm_regions *tree, uint64_t start, uint64_t len,
                                 const struct mmi_region_attr *attr);
uint64_t mmi_regions_need_remove(const struct mm_regions *tree, uint64_t start, uint64_t len);
uint64_t mmi_regions_need_take(const struct mm_regions *tree, uint64_t start, uint64_t len);
uint64_t mmi_regions_need_change(const struct mm_regions *tree, uint64_t start, uint64_t len,
                                 const struct mmi_region_change *change);

/** Make a free range a region, or part of its neighbours. */
void mmi_regions_insert(struct mm_regions *tree, uint64_t start, uint64_t len,
                        const struct mmi_region_attr *attr, struct mmi_region_list *nodes);
/** Make a range free; nodes that are left over go to the list. */
void mmi_regions_remove(struct mm_regions *tree, uint64_t start, uint64_t len,
                        struct mmi_region_list *nodes);
/** As remove, but what was removed goes to the end of `out` in ascending order, with start, len and
 * attributes: a node for each region, cut to the range. */
void mmi_regions_take(struct mm_regions *tree, uint64_t start, uint64_t len,
                      struct mmi_region_list *out, struct mmi_region_list *nodes);
/** Change what is mapped of a range; holes are passed over and stay. */
void mmi_regions_change(struct mm_regions *tree, uint64_t start, uint64_t len,
                        const struct mmi_region_change *change, struct mmi_region_list *nodes);

#endif
