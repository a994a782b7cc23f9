// SPDX-License-Identifier: MIT
/**
 * Ranges in the balanced tree.
 *
 *        window                                              window's end
 *          |....[ A ]..[ B ][ C ]........[ D ]..................|
 *           gap A   gap B  gap C = 0  gap D      tail (no node's: looked at by itself)
 *
 * A node's value is the gap before it, so the lowest gap of a size is one descent; the tail is the
 * last to be looked at. An edit changes the gap of one node or two.
 *
 * Of ranges that may overlap it is the last byte. The largest end of a subtree then tells where one
 * overlaps, in one descent (Cormen et al., Introduction to Algorithms, 14.3).
 */
#include "range.h"

#include "report.h"

void mmi_ranges_init(struct mm_ranges *tree, struct mm_vrange window)
{
    *tree = (struct mm_ranges){.window = window};
}

static struct mmi_avl_spot spot_of(const struct mm_ranges *tree, uint64_t at)
{
    /* The slot is for who puts something there. */
    return mmi_avl_spot((struct mmi_avl **)(uintptr_t)&tree->root, at);
}

static void put(struct mm_ranges *tree, struct mmi_range *range, const struct mmi_avl_spot *spot)
{
    mmi_avl_link(&tree->root, &range->node, spot);
    tree->nr++;
    tree->bytes += range->len;
}

static void take_out(struct mm_ranges *tree, struct mmi_range *range)
{
    mmi_avl_unlink(&tree->root, &range->node);
    tree->nr--;
    tree->bytes -= range->len;
}

/* --- ranges that do not overlap --------------------------------------------------------------- */

/** Where a range ends, or the window begins if there is none. */
static uint64_t end_of(const struct mm_ranges *tree, struct mmi_avl *node)
{
    return node == NULL ? tree->window.start.raw : node->start + mmi_range_of(node)->len;
}

/** What lies behind an end that was moved has more room before it, or less. */
static void move_gap(struct mm_ranges *tree, struct mmi_avl *after, uint64_t by)
{
    if (after != NULL) {
        mmi_avl_set_value(&tree->root, after, after->value + by);
    }
}

struct mmi_range *mmi_ranges_find(const struct mm_ranges *tree, uint64_t at)
{
    struct mmi_range *range = mmi_range_of(spot_of(tree, at).before);

    return range != NULL && mmi_range_last(range) >= at ? range : NULL;
}

bool mmi_ranges_free(const struct mm_ranges *tree, uint64_t start, uint64_t len)
{
    const struct mmi_range *range = mmi_range_of(spot_of(tree, start + (len - 1)).before);

    return range == NULL || mmi_range_last(range) < start;
}

bool mmi_ranges_find_place(const struct mm_ranges *tree, const struct mmi_place *place,
                           uint64_t *out)
{
    struct mmi_avl *n = spot_of(tree, place->lowest).after;
    uint64_t tail;

    if (n != NULL && n->value < place->len) {
        n = mmi_avl_next_with(n, place->len);
    }
    for (; n != NULL && n->start - n->value <= place->highest;
         n = mmi_avl_next_with(n, place->len)) {
        if (mmi_place_low(place, n->start - n->value, n->value, out)) {
            return true;
        }
    }
    tail = end_of(tree, mmi_avl_last(tree->root));
    return mmi_place_low(place, tail, tree->window.len - (tail - tree->window.start.raw), out);
}

void mmi_ranges_link(struct mm_ranges *tree, struct mmi_range *range)
{
    const struct mmi_avl_spot spot = spot_of(tree, range->node.start);

    range->node.value = range->node.start - end_of(tree, spot.before);
    put(tree, range, &spot);
    move_gap(tree, spot.after, 0 - range->node.value - range->len);
}

void mmi_ranges_unlink(struct mm_ranges *tree, struct mmi_range *range)
{
    struct mmi_avl *after = mmi_avl_next(&range->node);

    take_out(tree, range);
    move_gap(tree, after, range->node.value + range->len);
}

void mmi_ranges_resize(struct mm_ranges *tree, struct mmi_range *range, uint64_t len)
{
    move_gap(tree, mmi_avl_next(&range->node), range->len - len);
    tree->bytes += len - range->len;
    range->len = len;
}

/* --- ranges that may overlap ------------------------------------------------------------------ */

void mmi_overlaps_link(struct mm_ranges *tree, struct mmi_range *range)
{
    const struct mmi_avl_spot spot = spot_of(tree, range->node.start);

    range->node.value = mmi_range_last(range);
    put(tree, range, &spot);
}

void mmi_overlaps_unlink(struct mm_ranges *tree, struct mmi_range *range)
{
    take_out(tree, range);
}

struct mmi_range *mmi_overlaps_find(const struct mm_ranges *tree, uint64_t start, uint64_t len)
{
    uint64_t last = start + (len - 1);
    struct mmi_avl *n = tree->root;

    /* If one on the left ends at `start` or behind, then it overlaps, or it begins behind `last`:
     * and so do all on the right. */
    while (n != NULL && (n->start > last || n->value < start)) {
        bool left = n->max[MMI_LEFT] >= start && n->child[MMI_LEFT] != NULL;

        n = n->child[left ? MMI_LEFT : MMI_RIGHT];
    }
    return mmi_range_of(n);
}

bool mmi_overlaps_has(const struct mm_ranges *tree, const struct mmi_range *range)
{
    uint64_t start = range->node.start;
    struct mmi_avl *first = start == 0 ? mmi_avl_first(tree->root) : spot_of(tree, start - 1).after;

    while (first != NULL && first != &range->node && first->start == start) {
        first = mmi_avl_next(first);
    }
    return first == &range->node;
}

/* --- checking --------------------------------------------------------------------------------- */

struct checking {
    const struct mm_platform *platform;
    const char *room;
    uint64_t nr;
    uint64_t bytes;
    bool good;
};

static void expect(struct checking *c, bool condition, const char *what,
                   const struct mmi_range *range)
{
    if (!condition) {
        c->good = false;
        mmi_complain(c->platform, c->room, what, range->node.start);
    }
}

static void check_node(struct checking *c, const struct mmi_range *range)
{
    const char *wrong = mmi_avl_wrong(&range->node);

    expect(c, wrong == NULL, wrong, range);
    expect(c, range->len != 0 && mm_is_aligned(range->node.start | range->len, MM_PAGE_SIZE),
           "range not of whole pages", range);
    c->nr++;
    c->bytes += range->len;
}

/** Nothing of a tree that is broken can be looked at. */
static bool hangs_together(const struct mm_ranges *tree, const struct mm_platform *platform,
                           const char *room)
{
    const char *broken = mmi_avl_broken(tree->root, tree->nr);

    if (broken != NULL) {
        mmi_complain(platform, room, broken, tree->nr);
    }
    return broken == NULL;
}

static bool check_sums(struct checking *c, const struct mm_ranges *tree)
{
    if (c->good && (c->nr != tree->nr || c->bytes != tree->bytes)) {
        c->good = false;
        mmi_complain(c->platform, c->room, "ranges counted wrongly", c->nr);
    }
    return c->good;
}

bool mmi_ranges_check(const struct mm_ranges *tree, const struct mm_platform *platform,
                      const char *room)
{
    struct checking c = {.platform = platform, .room = room, .good = true};
    uint64_t from = tree->window.start.raw;
    bool full = false; /* a range ends with the last byte there is */

    if (!hangs_together(tree, platform, room)) {
        return false;
    }
    for (const struct mmi_range *n = mmi_ranges_first(tree); n != NULL && c.good;
         n = mmi_range_next(n)) {
        expect(&c,
               mm_range_covers(tree->window.start.raw, tree->window.len, n->node.start, n->len) &&
                   !full && from <= n->node.start,
               "range out of order, or outside of the window", n);
        expect(&c, n->node.value == n->node.start - from, "range knows its gap wrongly", n);
        check_node(&c, n);
        from = n->node.start + n->len;
        full = from == 0;
    }
    return check_sums(&c, tree);
}

bool mmi_overlaps_check(const struct mm_ranges *tree, const struct mm_platform *platform,
                        const char *room)
{
    struct checking c = {.platform = platform, .room = room, .good = true};
    uint64_t from = 0;

    if (!hangs_together(tree, platform, room)) {
        return false;
    }
    for (const struct mmi_range *n = mmi_ranges_first(tree); n != NULL && c.good;
         n = mmi_range_next(n)) {
        expect(&c, n->node.start >= from, "range out of order", n);
        expect(&c, n->node.value == mmi_range_last(n), "range knows its end wrongly", n);
        check_node(&c, n);
        from = n->node.start;
    }
    return check_sums(&c, tree);
}
