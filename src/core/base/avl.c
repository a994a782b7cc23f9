// SPDX-License-Identifier: MIT
/**
 * The balanced tree.
 *
 * An AVL tree (Adelson-Velsky and Landis, 1962): the heights of two siblings differ by one at most,
 * so a path has at most 1.44 log2 n nodes. Nodes know their parent, so nothing recurses.
 */
#include "avl.h"

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
    return (struct summary){(uint8_t)(1 + higher(n->left_height, n->right_height)),
                            larger(n->value, larger(n->left_max, n->right_max))};
}

static struct summary left_of(const struct mmi_avl *n)
{
    return (struct summary){n->left_height, n->left_max};
}

static struct summary right_of(const struct mmi_avl *n)
{
    return (struct summary){n->right_height, n->right_max};
}

static void set_left(struct mmi_avl *n, struct summary s)
{
    n->left_height = s.height;
    n->left_max = s.max;
}

static void set_right(struct mmi_avl *n, struct summary s)
{
    n->right_height = s.height;
    n->right_max = s.max;
}

static bool same(struct summary a, struct summary b)
{
    return a.height == b.height && a.max == b.max;
}

/** Tell the parent what is on its left or right now. True if it did not know. */
static bool tell(struct mmi_avl *parent, bool is_left, struct summary s)
{
    struct summary known = is_left ? left_of(parent) : right_of(parent);

    if (is_left) {
        set_left(parent, s);
    } else {
        set_right(parent, s);
    }
    return !same(known, s);
}

/** Where the tree holds `child`: its parent's field, or the root. */
static struct mmi_avl **slot_of(struct mmi_avl **root, struct mmi_avl *child)
{
    struct mmi_avl *parent = child->parent;

    if (parent == NULL) {
        return root;
    }
    return parent->left == child ? &parent->left : &parent->right;
}

static void set_parent(struct mmi_avl *child, struct mmi_avl *parent)
{
    if (child != NULL) {
        child->parent = parent;
    }
}

/** Lift the right child above `n`. Returns it; who is above is told by the caller. */
static struct mmi_avl *rotate_left(struct mmi_avl **root, struct mmi_avl *n)
{
    struct mmi_avl *up = n->right;

    *slot_of(root, n) = up;
    up->parent = n->parent;
    n->right = up->left;
    set_right(n, left_of(up));
    set_parent(n->right, n);
    up->left = n;
    set_left(up, summary_of(n));
    n->parent = up;
    return up;
}

static struct mmi_avl *rotate_right(struct mmi_avl **root, struct mmi_avl *n)
{
    struct mmi_avl *up = n->left;

    *slot_of(root, n) = up;
    up->parent = n->parent;
    n->left = up->right;
    set_left(n, right_of(up));
    set_parent(n->left, n);
    up->right = n;
    set_right(up, summary_of(n));
    n->parent = up;
    return up;
}

/** Balance `n`, whose subtrees are balanced. Returns who stands in its place. */
static struct mmi_avl *balance(struct mmi_avl **root, struct mmi_avl *n)
{
    if (n->left_height > n->right_height + 1) {
        if (n->left->left_height < n->left->right_height) {
            (void)rotate_left(root, n->left);
        }
        return rotate_right(root, n);
    }
    if (n->right_height > n->left_height + 1) {
        if (n->right->right_height < n->right->left_height) {
            (void)rotate_right(root, n->right);
        }
        return rotate_left(root, n);
    }
    return n;
}

/** Restore balance and knowledge from `n`, which knows its subtrees, up to who knows already. */
static void repair(struct mmi_avl **root, struct mmi_avl *n)
{
    while (n != NULL) {
        struct mmi_avl *parent;

        n = balance(root, n);
        parent = n->parent;
        if (parent == NULL || !tell(parent, parent->left == n, summary_of(n))) {
            return;
        }
        n = parent;
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
            spot.slot = &spot.parent->left;
        } else {
            spot.before = spot.parent;
            spot.slot = &spot.parent->right;
        }
    }
    return spot;
}

struct mmi_avl *mmi_avl_first(struct mmi_avl *root)
{
    struct mmi_avl *n = root;

    while (n != NULL && n->left != NULL) {
        n = n->left;
    }
    return n;
}

struct mmi_avl *mmi_avl_last(struct mmi_avl *root)
{
    struct mmi_avl *n = root;

    while (n != NULL && n->right != NULL) {
        n = n->right;
    }
    return n;
}

struct mmi_avl *mmi_avl_next(const struct mmi_avl *node)
{
    if (node->right != NULL) {
        return mmi_avl_first(node->right);
    }
    while (node->parent != NULL && node->parent->right == node) {
        node = node->parent;
    }
    return node->parent;
}

struct mmi_avl *mmi_avl_prev(const struct mmi_avl *node)
{
    if (node->left != NULL) {
        return mmi_avl_last(node->left);
    }
    while (node->parent != NULL && node->parent->left == node) {
        node = node->parent;
    }
    return node->parent;
}

/* --- values ----------------------------------------------------------------------------------- */

/** The first node in the subtree of `n` whose value is `least` or more; there is one. */
static struct mmi_avl *first_with(struct mmi_avl *n, uint64_t least)
{
    for (;;) {
        if (n->left_max >= least && n->left != NULL) {
            n = n->left;
        } else if (n->value >= least) {
            return n;
        } else {
            n = n->right;
        }
    }
}

/** The last one. */
static struct mmi_avl *last_with(struct mmi_avl *n, uint64_t least)
{
    for (;;) {
        if (n->right_max >= least && n->right != NULL) {
            n = n->right;
        } else if (n->value >= least) {
            return n;
        } else {
            n = n->left;
        }
    }
}

struct mmi_avl *mmi_avl_next_with(const struct mmi_avl *node, uint64_t least)
{
    if (node->right != NULL && node->right_max >= least) {
        return first_with(node->right, least);
    }
    for (; node->parent != NULL; node = node->parent) {
        struct mmi_avl *up = node->parent;

        if (up->left != node) {
            continue;
        }
        if (up->value >= least) {
            return up;
        }
        if (up->right != NULL && up->right_max >= least) {
            return first_with(up->right, least);
        }
    }
    return NULL;
}

struct mmi_avl *mmi_avl_prev_with(const struct mmi_avl *node, uint64_t least)
{
    if (node->left != NULL && node->left_max >= least) {
        return last_with(node->left, least);
    }
    for (; node->parent != NULL; node = node->parent) {
        struct mmi_avl *up = node->parent;

        if (up->right != node) {
            continue;
        }
        if (up->value >= least) {
            return up;
        }
        if (up->left != NULL && up->left_max >= least) {
            return last_with(up->left, least);
        }
    }
    return NULL;
}

/* --- changing --------------------------------------------------------------------------------- */

void mmi_avl_link(struct mmi_avl **root, struct mmi_avl *node, const struct mmi_avl_spot *spot)
{
    node->parent = spot->parent;
    node->left = NULL;
    node->right = NULL;
    set_left(node, summary_of(NULL));
    set_right(node, summary_of(NULL));
    *spot->slot = node;
    repair(root, node);
}

/** The next node, `after`, which has no left child, takes the place of `node`, which has two. Returns
 * the lowest node whose subtree has changed. */
static struct mmi_avl *replace_by_next(struct mmi_avl **root, struct mmi_avl *node,
                                       struct mmi_avl *after)
{
    struct mmi_avl **slot = slot_of(root, node);
    struct mmi_avl *parent = after->parent;
    struct mmi_avl *from = after;

    if (parent != node) {
        from = parent;
        parent->left = after->right;
        set_left(parent, right_of(after));
        set_parent(after->right, parent);
        after->right = node->right;
        set_right(after, right_of(node));
        set_parent(after->right, after);
    }
    after->left = node->left;
    set_left(after, left_of(node));
    set_parent(after->left, after);
    after->parent = node->parent;
    *slot = after;
    return from;
}

void mmi_avl_unlink(struct mmi_avl **root, struct mmi_avl *node)
{
    struct mmi_avl *parent = node->parent;

    if (node->left != NULL && node->right != NULL) {
        struct mmi_avl *after = mmi_avl_first(node->right);

        repair(root, replace_by_next(root, node, after));
        /* The repair from below ends where nothing changes any more, which may be below `after`. Its
         * parent is still to learn that it has another value than the one that was there. */
        repair(root, after);
    } else {
        bool has_left = node->left != NULL;
        struct mmi_avl *child = has_left ? node->left : node->right;

        if (parent != NULL) {
            (void)tell(parent, parent->left == node, has_left ? left_of(node) : right_of(node));
        }
        *slot_of(root, node) = child;
        set_parent(child, parent);
        repair(root, parent);
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
    if (node->left_height > node->right_height + 1 || node->right_height > node->left_height + 1) {
        return "tree out of balance";
    }
    if (!same(left_of(node), summary_of(node->left)) ||
        !same(right_of(node), summary_of(node->right))) {
        return "node knows its subtree wrongly";
    }
    if (node->left != NULL && node->left->parent != node) {
        return "left child has another parent";
    }
    if (node->right != NULL && node->right->parent != node) {
        return "right child has another parent";
    }
    return NULL;
}
