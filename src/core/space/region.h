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

/** Order, balance, gaps, parents, sums, merged neighbours; each contradiction is logged. */
static inline bool mmi_regions_check(const struct mm_regions *tree,
                                     const struct mm_platform *platform)
{
    return mmi_regions_check_tree(tree, platform, "space", true);
}

/* --- edits of ranges: region_edit.c ----------------------------------------------------------- */

/** Nodes that the edit of the same name may take from the list. */
uint64_t mmi_regions_need_insert(const struct mm_regions *tree, uint64_t start, uint64_t len,
                                 const struct mmi_region_attr *attr);
uint64_t mmi_regions_need_remove(const struct mm_regions *tree, uint64_t start, uint64_t len);
uint64_t mmi_regions_need_protect(const struct mm_regions *tree, uint64_t start, uint64_t len,
                                  mm_prot_t prot);

/** Make a free range a region, or part of its neighbours. */
void mmi_regions_insert(struct mm_regions *tree, uint64_t start, uint64_t len,
                        const struct mmi_region_attr *attr, struct mmi_region_list *nodes);
/** Make a range free; nodes that are left over go to the list. */
void mmi_regions_remove(struct mm_regions *tree, uint64_t start, uint64_t len,
                        struct mmi_region_list *nodes);
/** Give a range without holes this protection. */
void mmi_regions_protect(struct mm_regions *tree, uint64_t start, uint64_t len, mm_prot_t prot,
                         struct mmi_region_list *nodes);

#endif
