// SPDX-License-Identifier: MIT
/**
 * A balanced tree of ranges by address that also answers "where is room": the regions of a space,
 * the ranges of the kernel's arena. Internal to the library; no lock, no page table and no
 * allocation in it. Its head, struct mm_regions, is in addr.h, because others embed it.
 *
 * Regions do not overlap. Nodes come from and go to whoever calls.
 */
#ifndef MMI_BASE_REGION_H
#define MMI_BASE_REGION_H

#include <mm/addr.h>
#include <mm/platform.h>

/** A flag of regions whose `offset` counts. The library's own: no caller gives it or sees it. */
#define MMI_REGION_OFFSET (UINT32_C(1) << 31)

/** What two neighbours must agree in to be one region, where neighbours merge. */
struct mmi_region_attr {
    uint32_t flags;
    uint16_t prot; /* mm_prot_t */
    /* The tree's, of a node that is linked: heights of its subtrees, 0 for none. They stand here so
     * that they share a line with what an edit reads besides. */
    uint8_t left_height;
    uint8_t right_height;
    uint64_t tag;
    uint64_t object; /* what backs it, an address or an id that means nothing here; 0: nothing */
    uint64_t offset; /* bytes: where in `object`, or in physical memory, the region's first byte is;
                        without MMI_REGION_OFFSET it is 0 and stays so */
};

/** The first 64 bytes, to the heights, are all that finding and repairing reads of the nodes on the
 * way: among many regions, misses are what an edit costs. */
struct mmi_region {
    struct mmi_region *left; /* in a list of nodes: the next */
    struct mmi_region *right;
    uint64_t start;
    struct mmi_region *parent;
    uint64_t gap;       /* free bytes from the region before, or the window's start, to `start`; in
                           a tree of ranges that may overlap: the last byte of this one */
    uint64_t left_gap;  /* the largest gap in the left subtree, and in the right one: so that who */
    uint64_t right_gap; /* goes up or down reads no node beside the path */
    struct mmi_region_attr attr;
    uint64_t len;
};

/** The offset of the byte `by` bytes above the one that has these attributes; `by` may be below 0,
 * modulo 2^64. */
static inline uint64_t mmi_region_offset(const struct mmi_region_attr *attr, uint64_t by)
{
    return (attr->flags & MMI_REGION_OFFSET) != 0 ? attr->offset + by : attr->offset;
}

/** Whether a region of `high` that begins where `low_len` bytes of `low` end is one with it. */
static inline bool mmi_region_attr_continues(const struct mmi_region_attr *low, uint64_t low_len,
                                             const struct mmi_region_attr *high)
{
    return low->tag == high->tag && low->object == high->object && low->prot == high->prot &&
           low->flags == high->flags &&
           ((low->flags & MMI_REGION_OFFSET) == 0 || high->offset == low->offset + low_len);
}

/** Nodes in nobody's tree, chained. */
struct mmi_region_list {
    struct mmi_region *head;
    uint64_t nr;
};

void mmi_region_push(struct mmi_region_list *list, struct mmi_region *node);
/** NULL: the list is empty. */
struct mmi_region *mmi_region_pop(struct mmi_region_list *list);

/* --- the tree: region.c ----------------------------------------------------------------------- */

void mmi_regions_init(struct mm_regions *tree, struct mm_vrange window);

/** The first region whose last byte is at or above `at`, or NULL. */
struct mmi_region *mmi_regions_from(const struct mm_regions *tree, uint64_t at);
/** The region that holds `at`, or NULL. */
struct mmi_region *mmi_regions_find(const struct mm_regions *tree, uint64_t at);
/** The last region that begins below `at`, or NULL. */
struct mmi_region *mmi_regions_before(const struct mm_regions *tree, uint64_t at);
struct mmi_region *mmi_regions_first(const struct mm_regions *tree);
struct mmi_region *mmi_regions_last(const struct mm_regions *tree);
struct mmi_region *mmi_region_next(const struct mmi_region *region);
struct mmi_region *mmi_region_prev(const struct mmi_region *region);

/** Whether no region has a byte in the range. */
bool mmi_regions_free(const struct mm_regions *tree, uint64_t start, uint64_t len);

/* --- room: region_place.c --------------------------------------------------------------------- */

/** Where a range may lie. */
struct mmi_regions_place {
    uint64_t len;
    uint64_t align;   /* a power of two */
    uint64_t residue; /* below `align`: the start is this much above a multiple of it */
    uint64_t lowest;  /* first byte that may be used, and last */
    uint64_t highest;
};

/** The lowest such place that is free; false: there is none. O(log n), and one step more for each
 * gap that is large enough and wrongly aligned. */
bool mmi_regions_find_place(const struct mm_regions *tree, const struct mmi_regions_place *place,
                            uint64_t *out);

/** The highest such place, at the same cost. */
bool mmi_regions_find_place_high(const struct mm_regions *tree,
                                 const struct mmi_regions_place *place, uint64_t *out);

/** The lowest one of the whole window, at a multiple of `align`. */
bool mmi_regions_room(const struct mm_regions *tree, uint64_t len, uint64_t align, uint64_t *out);

/* --- changing: region.c ----------------------------------------------------------------------- */

/** Put a node (start, len, attr set) where the tree has room for it. */
void mmi_regions_link(struct mm_regions *tree, struct mmi_region *region);
void mmi_regions_unlink(struct mm_regions *tree, struct mmi_region *region);
/** Move the ends of a region without passing a neighbour. Each byte that stays keeps its offset. */
void mmi_regions_resize(struct mm_regions *tree, struct mmi_region *region, uint64_t start,
                        uint64_t len);

/** Order, balance, gaps, parents, sums; each contradiction is logged for the room. `merged`: and no
 * two neighbours that touch agree. */
bool mmi_regions_check_tree(const struct mm_regions *tree, const struct mm_platform *platform,
                            const char *room, bool merged);

/* --- ranges that may overlap ------------------------------------------------------------------
 * The same tree, ordered by first byte, and no window: `gap` is where a range ends, so `left_gap` is
 * where the last one of a subtree does. */

/** Put a node (start, len set) into a tree that is zeroed, or has others like it. */
void mmi_overlaps_link(struct mm_regions *tree, struct mmi_region *region);
void mmi_overlaps_unlink(struct mm_regions *tree, struct mmi_region *region);

/** A node that has a byte in the range, or NULL. O(log n). */
struct mmi_region *mmi_overlaps_find(const struct mm_regions *tree, uint64_t start, uint64_t len);

/** Order, balance, ends, parents, sums; each contradiction is logged for the room. */
bool mmi_overlaps_check(const struct mm_regions *tree, const struct mm_platform *platform,
                        const char *room);

/** Last byte. */
static inline uint64_t mmi_region_last(const struct mmi_region *region)
{
    return region->start + (region->len - 1);
}

#endif
