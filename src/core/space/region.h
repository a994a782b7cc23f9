// SPDX-License-Identifier: MIT
/**
 * The regions of a space: a balanced tree by address that also answers "where is room". Internal to
 * the room; no lock, no page table and no allocation in it.
 *
 * Regions do not overlap, and neighbours that touch differ in something (else they are one). Nodes
 * come from and go to a list that the caller fills before: what needs a node says so first, and
 * then cannot fail.
 */
#ifndef MMI_SPACE_REGION_H
#define MMI_SPACE_REGION_H

#include <mm/addr.h>
#include <mm/platform.h>

/** What must be equal for two neighbours to be one region. */
struct mmi_region_attr {
    uint64_t tag;
    mm_prot_t prot;
    uint32_t flags;
};

struct mmi_region {
    struct mmi_region *parent;
    struct mmi_region *left; /* in a list of nodes: the next */
    struct mmi_region *right;
    uint64_t start;
    uint64_t len;
    uint64_t gap;     /* free bytes from the region before, or the window's start, to `start` */
    uint64_t max_gap; /* the largest gap in this subtree */
    struct mmi_region_attr attr;
    uint32_t height; /* of this subtree; a leaf has 1 */
};

struct mmi_regions {
    struct mmi_region *root;
    struct mm_vrange window;
    uint64_t nr;
    uint64_t bytes;
};

static inline bool mmi_region_attr_equal(const struct mmi_region_attr *a,
                                         const struct mmi_region_attr *b)
{
    return a->tag == b->tag && a->prot == b->prot && a->flags == b->flags;
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

void mmi_regions_init(struct mmi_regions *tree, struct mm_vrange window);

/** The first region whose last byte is at or above `at`, or NULL. */
struct mmi_region *mmi_regions_from(const struct mmi_regions *tree, uint64_t at);
/** The region that holds `at`, or NULL. */
struct mmi_region *mmi_regions_find(const struct mmi_regions *tree, uint64_t at);
struct mmi_region *mmi_regions_first(const struct mmi_regions *tree);
struct mmi_region *mmi_region_next(const struct mmi_region *region);

/** Whether no region has a byte in the range. */
bool mmi_regions_free(const struct mmi_regions *tree, uint64_t start, uint64_t len);

/** The lowest aligned place of `len` bytes that is free; false: there is none. O(log n), and one
 * step more for each gap that is large enough and wrongly aligned. */
bool mmi_regions_room(const struct mmi_regions *tree, uint64_t len, uint64_t align, uint64_t *out);

/** Put a node (start, len, attr set) where the tree has room for it. */
void mmi_regions_link(struct mmi_regions *tree, struct mmi_region *region);
void mmi_regions_unlink(struct mmi_regions *tree, struct mmi_region *region);
/** Move the ends of a region without passing a neighbour. */
void mmi_regions_resize(struct mmi_regions *tree, struct mmi_region *region, uint64_t start,
                        uint64_t len);

/** Order, balance, gaps, parents, sums, merged neighbours; each contradiction is logged. */
bool mmi_regions_check(const struct mmi_regions *tree, const struct mm_platform *platform);

/* --- edits of ranges: region_edit.c ----------------------------------------------------------- */

/** Nodes that the edit of the same name may take from the list. */
uint64_t mmi_regions_need_insert(const struct mmi_regions *tree, uint64_t start, uint64_t len,
                                 const struct mmi_region_attr *attr);
uint64_t mmi_regions_need_remove(const struct mmi_regions *tree, uint64_t start, uint64_t len);
uint64_t mmi_regions_need_protect(const struct mmi_regions *tree, uint64_t start, uint64_t len,
                                  mm_prot_t prot);

/** Make a free range a region, or part of its neighbours. */
void mmi_regions_insert(struct mmi_regions *tree, uint64_t start, uint64_t len,
                        const struct mmi_region_attr *attr, struct mmi_region_list *nodes);
/** Make a range free; nodes that are left over go to the list. */
void mmi_regions_remove(struct mmi_regions *tree, uint64_t start, uint64_t len,
                        struct mmi_region_list *nodes);
/** Give a range without holes this protection. */
void mmi_regions_protect(struct mmi_regions *tree, uint64_t start, uint64_t len, mm_prot_t prot,
                         struct mmi_region_list *nodes);

/** Last byte. */
static inline uint64_t mmi_region_last(const struct mmi_region *region)
{
    return region->start + (region->len - 1);
}

#endif
