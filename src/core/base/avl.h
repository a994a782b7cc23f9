// SPDX-License-Identifier: MIT
/**
 * A balanced tree, ordered by `start`, in which each node has a value and knows the largest one on
 * either side below it. Internal to the library; no lock and no allocation in it. Ranges by address
 * lie in it with the gap before them for value (range.h), ranges that may overlap with their last
 * byte, and the regions of a space bucket by bucket (core/space/region.h).
 *
 * A node comes from and goes to whoever calls, who embeds it first in what it stands for. A tree is
 * its root; NULL is an empty one.
 */
#ifndef MMI_BASE_AVL_H
#define MMI_BASE_AVL_H

#include <stdbool.h>
#include <stdint.h>

/** Sides of a node. */
enum { MMI_LEFT = 0, MMI_RIGHT = 1 };

/** 64 bytes: in a line, if it begins with one. What a node knows of the subtrees below is here, so
 * that who goes up or down reads no node beside the path. */
struct mmi_avl {
    struct mmi_avl *child[2]; /* by side */
    uint64_t start;
    struct mmi_avl *parent;
    uint64_t value;
    uint64_t max[2];   /* the largest value in the subtree of each side, 0 for none */
    uint8_t height[2]; /* of that subtree, 0 for none */
};

/** Where a node belongs, and its neighbours. */
struct mmi_avl_spot {
    struct mmi_avl **slot;
    struct mmi_avl *parent;
    struct mmi_avl *before; /* the last whose start is not above, or NULL */
    struct mmi_avl *after;  /* the first whose start is */
};

/** Behind all whose start is not above `start`. Good until the tree changes. O(log n), as is all that
 * follows. */
struct mmi_avl_spot mmi_avl_spot(struct mmi_avl **root, uint64_t start);

/** Link a node (start, value set) where it belongs. */
void mmi_avl_link(struct mmi_avl **root, struct mmi_avl *node, const struct mmi_avl_spot *spot);
void mmi_avl_unlink(struct mmi_avl **root, struct mmi_avl *node);
/** Give a node that is linked another value. */
void mmi_avl_set_value(struct mmi_avl **root, struct mmi_avl *node, uint64_t value);

/** NULL: the tree is empty. */
struct mmi_avl *mmi_avl_first(struct mmi_avl *root);
struct mmi_avl *mmi_avl_last(struct mmi_avl *root);
/** NULL: it is the last, or the first. */
struct mmi_avl *mmi_avl_next(const struct mmi_avl *node);
struct mmi_avl *mmi_avl_prev(const struct mmi_avl *node);

/** The next node in order whose value is `least` or more, or NULL. */
struct mmi_avl *mmi_avl_next_with(const struct mmi_avl *node, uint64_t least);
/** The last one before it. */
struct mmi_avl *mmi_avl_prev_with(const struct mmi_avl *node, uint64_t least);

/** What is wrong with how nodes hang together, at most `nr` of them, or NULL: then who follows their
 * pointers comes to an end. To be asked before anything else is. O(n). */
const char *mmi_avl_broken(const struct mmi_avl *root, uint64_t nr);
/** What is wrong with a node's balance and knowledge of its subtrees, or NULL. O(1). */
const char *mmi_avl_wrong(const struct mmi_avl *node);

#endif
