// SPDX-License-Identifier: MIT
/**
 * The balanced tree.
 *
 * An AVL tree (Adelson-Velsky and Landis, 1962): the heights of two siblings differ by one at most,
 * so a path has at most 1.44 log2 n nodes. Nodes know their parent, so nothing recurses.
 *
 * What holds for one side holds for the other, so it is said once, for `side`. The steps of a search
 * are inlined, so that the side is a constant there.
 */
#include "avl.h"

#include "compiler.h"

#include <stddef.h>

static uint8_t higher(uint8_t a, uint8_t b)
{
    return a > b ? a : b;
}

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/** What a parent knows of a subtree. */
struct summary {
    uint8_t height;
    uint64_t max;
};

static struct summary summary_of(const struct mmi_avl *n)
{
    if (n == NULL) {
        return (struct summary){0, 0};
    }
    return (struct summary){(uint8_t)(1 + higher(n->height[MMI_LEFT], n->height[MMI_RIGHT])),
                            larger(n->value, larger(n->max[MMI_LEFT], n->max[MMI_RIGHT]))};
}

static struct summary known_of(const struct mmi_avl *n, unsigned side)
{
    return (struct summary){n->height[side], n->max[side]};
}

static bool same(struct summary a, struct summary b)
{
    return a.height == b.height && a.max == b.max;
}

/** Tell `n` what is on that side now. True if it did not know. */
static bool tell(struct mmi_avl *n, unsigned side, struct summary s)
{
    struct summary known = known_of(n, side);

    n->height[side] = s.height;
    n->max[side] = s.max;
    return !same(known, s);
}

/** Hang `child`, or nothing, on that side of `n`, who knows that subtree as `s`. */
static void hang(struct mmi_avl *n, unsigned side, struct mmi_avl *child, struct summary s)
{
    n->child[side] = child;
    if (child != NULL) {
        child->parent = n;
    }
    (void)tell(n, side, s);
}

/** The side of its parent that `n` is on. */
static unsigned side_of(const struct mmi_avl *n)
{
    return n->parent->child[MMI_LEFT] == n ? MMI_LEFT : MMI_RIGHT;
}

/** The tree holds `by`, or nothing, where it held `n`; who is above is told by the caller. */
static void replace(struct mmi_avl **root, const struct mmi_avl *n, struct mmi_avl *by)
{
    if (n->parent == NULL) {
        *root = by;
    } else {
        n->parent->child[side_of(n)] = by;
    }
    if (by != NULL) {
        by->parent = n->parent;
    }
}

/** Lift the child on that side above `n`. Returns it; who is above is told by the caller. */
static struct mmi_avl *lift(struct mmi_avl **root, struct mmi_avl *n, unsigned side)
{
    struct mmi_avl *up = n->child[side];

    replace(root, n, up);
    hang(n, side, up->child[!side], known_of(up, !side));
    hang(up, !side, n, summary_of(n));
    return up;
}

/** Balance `n`, whose subtrees are balanced. Returns who stands in its place. */
static struct mmi_avl *balance(struct mmi_avl **root, struct mmi_avl *n)
{
    for (unsigned side = MMI_LEFT; side <= MMI_RIGHT; side++) {
        struct mmi_avl *child = n->child[side];

        if (n->height[side] > n->height[!side] + 1) {
            if (child->height[side] < child->height[!side]) {
                (void)lift(root, child, !side);
            }
            return lift(root, n, side);
        }
    }
    return n;
}

/** Restore balance and knowledge from `n`, which knows its subtrees, up to who knows already. */
static void repair(struct mmi_avl **root, struct mmi_avl *n)
{
    while (n != NULL) {
        n = balance(root, n);
        if (n->parent == NULL || !tell(n->parent, side_of(n), summary_of(n))) {
            return;
        }
        n = n->parent;
    }
}

/* --- finding ---------------------------------------------------------------------------------- */

struct mmi_avl_spot mmi_avl_spot(struct mmi_avl **root, uint64_t start)
{
    struct mmi_avl_spot spot = {.slot = root};

    while (*spot.slot != NULL) {
        spot.parent = *spot.slot;
        if (start < spot.parent->start) {
            spot.after = spot.parent;
            spot.slot = &spot.parent->child[MMI_LEFT];
        } else {
            spot.before = spot.parent;
            spot.slot = &spot.parent->child[MMI_RIGHT];
        }
    }
    return spot;
}

/** The outermost node on that side, or NULL. */
MMI_INLINE struct mmi_avl *outermost(struct mmi_avl *n, unsigned side)
{
    while (n != NULL && n->child[side] != NULL) {
        n = n->child[side];
    }
    return n;
}

/** The neighbour on that side in the order of all, or NULL. */
MMI_INLINE struct mmi_avl *neighbour(const struct mmi_avl *node, unsigned side)
{
    if (node->child[side] != NULL) {
        return outermost(node->child[side], !side);
    }
    while (node->parent != NULL && node->parent->child[side] == node) {
        node = node->parent;
    }
    return node->parent;
}

struct mmi_avl *mmi_avl_first(struct mmi_avl *root)
{
    return outermost(root, MMI_LEFT);
}

struct mmi_avl *mmi_avl_last(struct mmi_avl *root)
{
    return outermost(root, MMI_RIGHT);
}

struct mmi_avl *mmi_avl_next(const struct mmi_avl *node)
{
    return neighbour(node, MMI_RIGHT);
}

struct mmi_avl *mmi_avl_prev(const struct mmi_avl *node)
{
    return neighbour(node, MMI_LEFT);
}

/* --- values ----------------------------------------------------------------------------------- */

/** The outermost node on that side of the subtree of `n` whose value is `least` or more; there is
 * one. */
MMI_INLINE struct mmi_avl *outermost_with(struct mmi_avl *n, unsigned side, uint64_t least)
{
    for (;;) {
        if (n->max[side] >= least && n->child[side] != NULL) {
            n = n->child[side];
        } else if (n->value >= least) {
            return n;
        } else {
            n = n->child[!side];
        }
    }
}

/** The nearest node on that side of `node` whose value is `least` or more, or NULL. */
MMI_INLINE struct mmi_avl *nearest_with(const struct mmi_avl *node, unsigned side, uint64_t least)
{
    if (node->child[side] != NULL && node->max[side] >= least) {
        return outermost_with(node->child[side], !side, least);
    }
    for (; node->parent != NULL; node = node->parent) {
        struct mmi_avl *up = node->parent;

        if (up->child[side] == node) {
            continue;
        }
        if (up->value >= least) {
            return up;
        }
        if (up->child[side] != NULL && up->max[side] >= least) {
            return outermost_with(up->child[side], !side, least);
        }
    }
    return NULL;
}

struct mmi_avl *mmi_avl_next_with(const struct mmi_avl *node, uint64_t least)
{
    return nearest_with(node, MMI_RIGHT, least);
}

struct mmi_avl *mmi_avl_prev_with(const struct mmi_avl *node, uint64_t least)
{
    return nearest_with(node, MMI_LEFT, least);
}

/* --- changing --------------------------------------------------------------------------------- */

void mmi_avl_link(struct mmi_avl **root, struct mmi_avl *node, const struct mmi_avl_spot *spot)
{
    node->parent = spot->parent;
    hang(node, MMI_LEFT, NULL, summary_of(NULL));
    hang(node, MMI_RIGHT, NULL, summary_of(NULL));
    *spot->slot = node;
    repair(root, node);
}

/** The next node, `after`, which has no left child, takes the place of `node`, which has two. Returns
 * the lowest node whose subtree has changed. */
static struct mmi_avl *replace_by_next(struct mmi_avl **root, struct mmi_avl *node,
                                       struct mmi_avl *after)
{
    struct mmi_avl *parent = after->parent;
    struct mmi_avl *from = after;

    if (parent != node) {
        from = parent;
        hang(parent, MMI_LEFT, after->child[MMI_RIGHT], known_of(after, MMI_RIGHT));
        hang(after, MMI_RIGHT, node->child[MMI_RIGHT], known_of(node, MMI_RIGHT));
    }
    hang(after, MMI_LEFT, node->child[MMI_LEFT], known_of(node, MMI_LEFT));
    replace(root, node, after);
    return from;
}

void mmi_avl_unlink(struct mmi_avl **root, struct mmi_avl *node)
{
    if (node->child[MMI_LEFT] != NULL && node->child[MMI_RIGHT] != NULL) {
        struct mmi_avl *after = mmi_avl_first(node->child[MMI_RIGHT]);

        repair(root, replace_by_next(root, node, after));
        /* The repair from below ends where nothing changes any more, which may be below `after`. Its
         * parent is still to learn that it has another value than the one that was there. */
        repair(root, after);
    } else {
        unsigned side = node->child[MMI_LEFT] != NULL ? MMI_LEFT : MMI_RIGHT;

        if (node->parent != NULL) {
            (void)tell(node->parent, side_of(node), known_of(node, side));
        }
        replace(root, node, node->child[side]);
        repair(root, node->parent);
    }
}

void mmi_avl_set_value(struct mmi_avl **root, struct mmi_avl *node, uint64_t value)
{
    if (node->value != value) {
        node->value = value;
        repair(root, node);
    }
}

/* --- checking --------------------------------------------------------------------------------- */

const char *mmi_avl_wrong(const struct mmi_avl *node)
{
    for (unsigned side = MMI_LEFT; side <= MMI_RIGHT; side++) {
        if (node->height[side] > node->height[!side] + 1) {
            return "tree out of balance";
        }
        if (!same(known_of(node, side), summary_of(node->child[side]))) {
            return "node knows its subtree wrongly";
        }
    }
    return NULL;
}

/** The side of `n` to go on at, for who came from `from`; behind MMI_RIGHT: up. */
static unsigned next_side(const struct mmi_avl *n, const struct mmi_avl *from)
{
    unsigned side = from == n->parent ? MMI_LEFT : from == n->child[MMI_LEFT] ? MMI_RIGHT : 2;

    while (side <= MMI_RIGHT && n->child[side] == NULL) {
        side++;
    }
    return side;
}

/* Each node is come to from its parent alone, so none but a child on both sides is come to twice, and
 * the count ends that. */
const char *mmi_avl_broken(const struct mmi_avl *root, uint64_t nr)
{
    const struct mmi_avl *from = NULL;
    const struct mmi_avl *n = root;
    uint64_t seen = 0;

    if (root != NULL && root->parent != NULL) {
        return "root has a parent";
    }
    while (n != NULL) {
        const struct mmi_avl *here = n;
        unsigned side = next_side(n, from);

        if (from == n->parent && ++seen > nr) {
            return "tree has more nodes than are counted";
        }
        if (side > MMI_RIGHT) {
            n = n->parent;
        } else {
            n = n->child[side];
            if (n->parent != here) {
                return side == MMI_LEFT ? "left child has another parent"
                                        : "right child has another parent";
            }
        }
        from = here;
    }
    return NULL;
}
