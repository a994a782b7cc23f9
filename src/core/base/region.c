// SPDX-License-Identifier: MIT
/**
 * The region tree.
 *
 * An AVL tree (Adelson-Velsky and Landis, 1962): the heights of two siblings differ by one at most,
 * so a path has at most 1.44 log2 n nodes. Nodes know their parent, so nothing recurses.
 *
 * Each node knows the gap before it, and the largest gap in its subtree: region_place.c finds room
 * by that.
 *
 * Ranges that may overlap lie in the same tree with their ends for gaps. The largest end of a
 * subtree then tells where one overlaps, in one descent (Cormen et al., Introduction to Algorithms,
 * 14.3).
 */
#include "region.h"

#include "core/base/report.h"

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
    uint64_t gap;
};

static struct summary summary_of(const struct mmi_region *n)
{
    if (n == NULL) {
        return (struct summary){0, 0};
    }
    return (struct summary){(uint8_t)(1 + higher(n->attr.left_height, n->attr.right_height)),
                            larger(n->gap, larger(n->left_gap, n->right_gap))};
}

static struct summary left_of(const struct mmi_region *n)
{
    return (struct summary){n->attr.left_height, n->left_gap};
}

static struct summary right_of(const struct mmi_region *n)
{
    return (struct summary){n->attr.right_height, n->right_gap};
}

static void set_left(struct mmi_region *n, struct summary s)
{
    n->attr.left_height = s.height;
    n->left_gap = s.gap;
}

static void set_right(struct mmi_region *n, struct summary s)
{
    n->attr.right_height = s.height;
    n->right_gap = s.gap;
}

/** Tell the parent of `child`'s place what is there now. True if it did not know. */
static bool tell(struct mmi_region *parent, bool is_left, struct summary s)
{
    struct summary known = is_left ? left_of(parent) : right_of(parent);

    if (is_left) {
        set_left(parent, s);
    } else {
        set_right(parent, s);
    }
    return known.height != s.height || known.gap != s.gap;
}

/** Where the tree holds `child`: its parent's field, or the root. */
static struct mmi_region **slot_of(struct mm_regions *tree, struct mmi_region *child)
{
    struct mmi_region *parent = child->parent;

    if (parent == NULL) {
        return &tree->root;
    }
    return parent->left == child ? &parent->left : &parent->right;
}

static void set_parent(struct mmi_region *child, struct mmi_region *parent)
{
    if (child != NULL) {
        child->parent = parent;
    }
}

/** Lift the right child above `n`. Returns it; who is above is told by the caller. */
static struct mmi_region *rotate_left(struct mm_regions *tree, struct mmi_region *n)
{
    struct mmi_region *up = n->right;

    *slot_of(tree, n) = up;
    up->parent = n->parent;
    n->right = up->left;
    set_right(n, left_of(up));
    set_parent(n->right, n);
    up->left = n;
    set_left(up, summary_of(n));
    n->parent = up;
    return up;
}

static struct mmi_region *rotate_right(struct mm_regions *tree, struct mmi_region *n)
{
    struct mmi_region *up = n->left;

    *slot_of(tree, n) = up;
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
static struct mmi_region *balance(struct mm_regions *tree, struct mmi_region *n)
{
    if (n->attr.left_height > n->attr.right_height + 1) {
        if (n->left->attr.left_height < n->left->attr.right_height) {
            (void)rotate_left(tree, n->left);
        }
        return rotate_right(tree, n);
    }
    if (n->attr.right_height > n->attr.left_height + 1) {
        if (n->right->attr.right_height < n->right->attr.left_height) {
            (void)rotate_right(tree, n->right);
        }
        return rotate_left(tree, n);
    }
    return n;
}

/** Restore balance and knowledge from `n`, which knows its subtrees, up to who knows already. */
static void repair(struct mm_regions *tree, struct mmi_region *n)
{
    while (n != NULL) {
        struct mmi_region *parent;

        n = balance(tree, n);
        parent = n->parent;
        if (parent == NULL || !tell(parent, parent->left == n, summary_of(n))) {
            return;
        }
        n = parent;
    }
}

void mmi_regions_init(struct mm_regions *tree, struct mm_vrange window)
{
    tree->root = NULL;
    tree->window = window;
    tree->nr = 0;
    tree->bytes = 0;
}

void mmi_region_push(struct mmi_region_list *list, struct mmi_region *node)
{
    node->left = list->head;
    list->head = node;
    list->nr++;
}

struct mmi_region *mmi_region_pop(struct mmi_region_list *list)
{
    struct mmi_region *node = list->head;

    if (node != NULL) {
        list->head = node->left;
        list->nr--;
    }
    return node;
}

/* --- finding ---------------------------------------------------------------------------------- */

struct mmi_region *mmi_regions_from(const struct mm_regions *tree, uint64_t at)
{
    struct mmi_region *n = tree->root;
    struct mmi_region *below = NULL; /* the last that begins at `at` or below, and the next */
    struct mmi_region *above = NULL;

    while (n != NULL) {
        __builtin_prefetch(&n->attr); /* an edit that follows goes up by what lies there */
        if (n->start > at) {
            above = n;
            n = n->left;
        } else {
            below = n;
            n = n->right;
        }
    }
    return below != NULL && mmi_region_last(below) >= at ? below : above;
}

struct mmi_region *mmi_regions_find(const struct mm_regions *tree, uint64_t at)
{
    struct mmi_region *n = mmi_regions_from(tree, at);

    return n != NULL && n->start <= at ? n : NULL;
}

static struct mmi_region *leftmost(struct mmi_region *n)
{
    while (n != NULL && n->left != NULL) {
        n = n->left;
    }
    return n;
}

static struct mmi_region *rightmost(struct mmi_region *n)
{
    while (n != NULL && n->right != NULL) {
        n = n->right;
    }
    return n;
}

struct mmi_region *mmi_regions_before(const struct mm_regions *tree, uint64_t at)
{
    struct mmi_region *n = tree->root;
    struct mmi_region *found = NULL;

    while (n != NULL) {
        if (n->start < at) {
            found = n;
            n = n->right;
        } else {
            n = n->left;
        }
    }
    return found;
}

struct mmi_region *mmi_regions_last(const struct mm_regions *tree)
{
    return rightmost(tree->root);
}

struct mmi_region *mmi_regions_first(const struct mm_regions *tree)
{
    return leftmost(tree->root);
}

struct mmi_region *mmi_region_next(const struct mmi_region *region)
{
    if (region->right != NULL) {
        return leftmost(region->right);
    }
    while (region->parent != NULL && region->parent->right == region) {
        region = region->parent;
    }
    return region->parent;
}

struct mmi_region *mmi_region_prev(const struct mmi_region *region)
{
    if (region->left != NULL) {
        return rightmost(region->left);
    }
    while (region->parent != NULL && region->parent->left == region) {
        region = region->parent;
    }
    return region->parent;
}

bool mmi_regions_free(const struct mm_regions *tree, uint64_t start, uint64_t len)
{
    const struct mmi_region *n = mmi_regions_from(tree, start);

    return n == NULL || n->start > start + (len - 1);
}

/* --- changing --------------------------------------------------------------------------------- */

static void set_gap(struct mm_regions *tree, struct mmi_region *n, uint64_t gap)
{
    if (n->gap != gap) {
        n->gap = gap;
        repair(tree, n);
    }
}

/** Where a node belongs. */
struct spot {
    struct mmi_region **slot;
    struct mmi_region *parent;
    struct mmi_region *before; /* the neighbours */
    struct mmi_region *after;
};

static struct spot spot_of(struct mm_regions *tree, uint64_t start)
{
    struct spot spot = {.slot = &tree->root};

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

/** Put a node there, whose gap is known. */
static void put(struct mm_regions *tree, struct mmi_region *region, const struct spot *spot)
{
    region->parent = spot->parent;
    region->left = NULL;
    region->right = NULL;
    set_left(region, summary_of(NULL));
    set_right(region, summary_of(NULL));
    *spot->slot = region;
    tree->nr++;
    tree->bytes += region->len;
    repair(tree, region);
}

void mmi_regions_link(struct mm_regions *tree, struct mmi_region *region)
{
    const struct spot spot = spot_of(tree, region->start);

    region->gap = region->start - (spot.before == NULL ? tree->window.start.raw
                                                       : spot.before->start + spot.before->len);
    put(tree, region, &spot);
    if (spot.after != NULL) {
        set_gap(tree, spot.after, spot.after->gap - region->gap - region->len);
    }
}

/** Take a node out; what the others know of their gaps stays. `after` may stand in its place then,
 * with another gap: the caller repairs from there. */
static void take_out(struct mm_regions *tree, struct mmi_region *region, struct mmi_region *after)
{
    struct mmi_region **slot = slot_of(tree, region);
    struct mmi_region *from = region->parent;

    if (region->left != NULL && region->right != NULL) {
        /* The next region, which has no left child, takes this one's place. */
        struct mmi_region *parent = after->parent;

        if (parent == region) {
            from = after;
        } else {
            from = parent;
            parent->left = after->right;
            set_left(parent, right_of(after));
            set_parent(after->right, parent);
            after->right = region->right;
            set_right(after, right_of(region));
            set_parent(after->right, after);
        }
        after->left = region->left;
        set_left(after, left_of(region));
        set_parent(after->left, after);
        after->parent = region->parent;
        *slot = after;
    } else {
        bool has_left = region->left != NULL;
        struct mmi_region *child = has_left ? region->left : region->right;

        if (from != NULL) {
            (void)tell(from, from->left == region, has_left ? left_of(region) : right_of(region));
        }
        *slot = child;
        set_parent(child, from);
    }
    tree->nr--;
    tree->bytes -= region->len;
    repair(tree, from);
}

void mmi_regions_unlink(struct mm_regions *tree, struct mmi_region *region)
{
    struct mmi_region *after = mmi_region_next(region);

    take_out(tree, region, after);
    if (after != NULL) {
        after->gap += region->gap + region->len;
        repair(tree, after);
    }
}

void mmi_regions_resize(struct mm_regions *tree, struct mmi_region *region, uint64_t start,
                        uint64_t len)
{
    struct mmi_region *after = mmi_region_next(region);
    uint64_t old_end = region->start + region->len;

    set_gap(tree, region, region->gap + (start - region->start));
    tree->bytes += len - region->len;
    region->attr.offset = mmi_region_offset(&region->attr, start - region->start);
    region->start = start;
    region->len = len;
    if (after != NULL) {
        set_gap(tree, after, after->gap + (old_end - (start + len)));
    }
}

/* --- ranges that may overlap ------------------------------------------------------------------ */

void mmi_overlaps_link(struct mm_regions *tree, struct mmi_region *region)
{
    const struct spot spot = spot_of(tree, region->start);

    region->gap = mmi_region_last(region);
    put(tree, region, &spot);
}

void mmi_overlaps_unlink(struct mm_regions *tree, struct mmi_region *region)
{
    struct mmi_region *after = mmi_region_next(region);

    take_out(tree, region, after);
    /* It may stand where the region stood, and ends elsewhere; repairs from below may have ended
     * before they came to it. */
    repair(tree, after);
}

struct mmi_region *mmi_overlaps_find(const struct mm_regions *tree, uint64_t start, uint64_t len)
{
    uint64_t last = start + (len - 1);
    struct mmi_region *n = tree->root;

    /* If one on the left ends at `start` or behind, then it overlaps, or it begins behind `last`:
     * and so do all on the right. */
    while (n != NULL && (n->start > last || n->gap < start)) {
        n = n->left_gap >= start && n->left != NULL ? n->left : n->right;
    }
    return n;
}

/* --- checking --------------------------------------------------------------------------------- */

struct checking {
    const struct mm_platform *platform;
    const char *room;
    bool good;
};

static void expect(struct checking *c, bool condition, const char *what, const struct mmi_region *n)
{
    if (!condition) {
        c->good = false;
        mmi_complain(c->platform, c->room, what, n->start);
    }
}

static bool knows(struct summary known, const struct mmi_region *child)
{
    struct summary s = summary_of(child);

    return known.height == s.height && known.gap == s.gap;
}

static void check_node(struct checking *c, const struct mmi_region *n)
{
    expect(c,
           n->attr.left_height <= n->attr.right_height + 1 &&
               n->attr.right_height <= n->attr.left_height + 1,
           "region tree out of balance", n);
    expect(c, knows(left_of(n), n->left) && knows(right_of(n), n->right),
           "region knows its subtree wrongly", n);
    expect(c, n->left == NULL || n->left->parent == n, "left child has another parent", n);
    expect(c, n->right == NULL || n->right->parent == n, "right child has another parent", n);
    expect(c, n->len != 0 && mm_is_aligned(n->start | n->len, MM_PAGE_SIZE),
           "region not of whole pages", n);
}

bool mmi_regions_check_tree(const struct mm_regions *tree, const struct mm_platform *platform,
                            const char *room, bool merged)
{
    struct checking c = {platform, room, true};
    const struct mmi_region *before = NULL;
    const struct mmi_region *n;
    uint64_t nr = 0;
    uint64_t bytes = 0;

    for (n = mmi_regions_first(tree); n != NULL && c.good; n = mmi_region_next(n)) {
        uint64_t from = before == NULL ? tree->window.start.raw : before->start + before->len;

        expect(&c,
               mm_range_covers(tree->window.start.raw, tree->window.len, n->start, n->len) &&
                   (before == NULL || mmi_region_last(before) < n->start),
               "region out of order, or outside of the window", n);
        expect(&c, n->gap == n->start - from, "region knows its gap wrongly", n);
        expect(&c,
               !merged || before == NULL || n->gap != 0 ||
                   !mmi_region_attr_continues(&before->attr, before->len, &n->attr),
               "equal neighbours are not one region", n);
        expect(&c, !merged || (n->attr.flags & MMI_REGION_OFFSET) != 0 || n->attr.offset == 0,
               "region has an offset that does not count", n);
        check_node(&c, n);
        nr++;
        bytes += n->len;
        before = n;
    }
    if (c.good && (nr != tree->nr || bytes != tree->bytes)) {
        c.good = false;
        mmi_complain(platform, room, "regions counted wrongly", nr);
    }
    return c.good;
}

bool mmi_overlaps_check(const struct mm_regions *tree, const struct mm_platform *platform,
                        const char *room)
{
    struct checking c = {platform, room, true};
    uint64_t from = 0;
    uint64_t nr = 0;
    uint64_t bytes = 0;

    for (const struct mmi_region *n = mmi_regions_first(tree); n != NULL && c.good;
         n = mmi_region_next(n)) {
        expect(&c, n->start >= from, "region out of order", n);
        expect(&c, n->gap == mmi_region_last(n), "region knows its end wrongly", n);
        check_node(&c, n);
        nr++;
        bytes += n->len;
        from = n->start;
    }
    if (c.good && (nr != tree->nr || bytes != tree->bytes)) {
        c.good = false;
        mmi_complain(platform, room, "regions counted wrongly", nr);
    }
    return c.good;
}
