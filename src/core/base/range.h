// SPDX-License-Identifier: MIT
/**
 * Ranges by address in a balanced tree (avl.h): those of the kernel's arena, which do not overlap,
 * with gap search; and claims of physical memory, which may overlap. Internal to the library; no
 * lock, no page table and no allocation in it. The head of a tree, struct mm_ranges, is in addr.h,
 * because public objects embed it.
 *
 * Nodes come from and go to whoever calls.
 */
#ifndef MMI_BASE_RANGE_H
#define MMI_BASE_RANGE_H

#include "avl.h"
#include "place.h"

#include <mm/addr.h>
#include <mm/platform.h>

/** The node's `start` is the range's. Its `value` is what is free before it, from the range before or
 * the window's start, in bytes; of ranges that may overlap, the last byte. */
struct mmi_range {
    struct mmi_avl node;
    uint64_t len;
    uint64_t tag; /* the owner's */
};

static inline struct mmi_range *mmi_range_of(struct mmi_avl *node)
{
    return (struct mmi_range *)(void *)node;
}

/** Last byte. */
static inline uint64_t mmi_range_last(const struct mmi_range *range)
{
    return range->node.start + (range->len - 1);
}

/** In order; NULL: there is none. */
static inline struct mmi_range *mmi_ranges_first(const struct mm_ranges *tree)
{
    return mmi_range_of(mmi_avl_first(tree->root));
}

static inline struct mmi_range *mmi_range_next(const struct mmi_range *range)
{
    return mmi_range_of(mmi_avl_next(&range->node));
}

/* --- ranges that do not overlap, in a window -------------------------------------------------- */

void mmi_ranges_init(struct mm_ranges *tree, struct mm_vrange window);

/** The range that holds `at`, or NULL. O(log n), as is all that follows. */
struct mmi_range *mmi_ranges_find(const struct mm_ranges *tree, uint64_t at);

/** Whether no range has a byte there. */
bool mmi_ranges_free(const struct mm_ranges *tree, uint64_t start, uint64_t len);

/** The lowest place that is free and as asked; false: there is none. One step more for each gap that
 * is large enough and wrongly aligned. */
bool mmi_ranges_find_place(const struct mm_ranges *tree, const struct mmi_place *place,
                           uint64_t *out);

/** Put a node (start, len set) where the tree has room for it. */
void mmi_ranges_link(struct mm_ranges *tree, struct mmi_range *range);
void mmi_ranges_unlink(struct mm_ranges *tree, struct mmi_range *range);
/** Move the end of a range, not past its neighbour. */
void mmi_ranges_resize(struct mm_ranges *tree, struct mmi_range *range, uint64_t len);

/** Order, balance, gaps, parents, sums; each contradiction is logged for the room. */
bool mmi_ranges_check(const struct mm_ranges *tree, const struct mm_platform *platform,
                      const char *room);

/* --- ranges that may overlap; no window ------------------------------------------------------- */

/** Put a node (start, len set) into a tree that is zeroed, or has others like it. */
void mmi_overlaps_link(struct mm_ranges *tree, struct mmi_range *range);
void mmi_overlaps_unlink(struct mm_ranges *tree, struct mmi_range *range);

/** One that has a byte there, or NULL. */
struct mmi_range *mmi_overlaps_find(const struct mm_ranges *tree, uint64_t start, uint64_t len);

/** Whether the tree has this very node. */
bool mmi_overlaps_has(const struct mm_ranges *tree, const struct mmi_range *range);

/** Order, balance, ends, parents, sums; each contradiction is logged for the room. */
bool mmi_overlaps_check(const struct mm_ranges *tree, const struct mm_platform *platform,
                        const char *room);

#endif
