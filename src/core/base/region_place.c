// SPDX-License-Identifier: MIT
/**
 * Room in the region tree.
 *
 * Each node knows the gap before it, and the largest gap in each of its two subtrees:
 *
 *        window                                              window's end
 *          |....[ A ]..[ B ][ C ]........[ D ]..................|
 *           gap A   gap B  gap C = 0  gap D      tail (no node's: looked at by itself)
 *
 * The lowest gap of a size is then one descent: left if the left subtree has one, else here, else
 * right; the tail is the last to be looked at. The highest is the same from the other side, the
 * tail first. An edit changes the gap of one node or two, and what their ancestors know of it.
 */
#include "region.h"

/** The first node in the subtree of `n` whose gap is `len` or more; there is one. */
static struct mmi_region *gap_below(struct mmi_region *n, uint64_t len)
{
    for (;;) {
        if (n->left_gap >= len) {
            n = n->left;
        } else if (n->gap >= len) {
            return n;
        } else {
            n = n->right;
        }
    }
}

/** The next node in order after `n` whose gap is `len` or more. */
static struct mmi_region *gap_after(struct mmi_region *n, uint64_t len)
{
    if (n->right_gap >= len) {
        return gap_below(n->right, len);
    }
    for (; n->parent != NULL; n = n->parent) {
        struct mmi_region *up = n->parent;

        if (up->left != n) {
            continue;
        }
        if (up->gap >= len) {
            return up;
        }
        if (up->right_gap >= len) {
            return gap_below(up->right, len);
        }
    }
    return NULL;
}

/** The last node in the subtree of `n` whose gap is `len` or more; there is one. */
static struct mmi_region *gap_above(struct mmi_region *n, uint64_t len)
{
    for (;;) {
        if (n->right_gap >= len) {
            n = n->right;
        } else if (n->gap >= len) {
            return n;
        } else {
            n = n->left;
        }
    }
}

/** The last node in order before `n` whose gap is `len` or more. */
static struct mmi_region *gap_before(struct mmi_region *n, uint64_t len)
{
    if (n->left_gap >= len) {
        return gap_above(n->left, len);
    }
    for (; n->parent != NULL; n = n->parent) {
        struct mmi_region *up = n->parent;

        if (up->right != n) {
            continue;
        }
        if (up->gap >= len) {
            return up;
        }
        if (up->left_gap >= len) {
            return gap_above(up->left, len);
        }
    }
    return NULL;
}

/** The bytes behind the last region. */
static uint64_t tail_of(const struct mm_regions *tree, uint64_t *start)
{
    const struct mmi_region *n = mmi_regions_last(tree);
    uint64_t used = n == NULL ? 0 : n->start - tree->window.start.raw + n->len;

    *start = tree->window.start.raw + used;
    return tree->window.len - used;
}

/** The lowest such place in the gap of `gap` bytes from `start`. */
static bool fits(uint64_t start, uint64_t gap, const struct mmi_regions_place *place, uint64_t *out)
{
    uint64_t at = start > place->lowest ? start : place->lowest;
    uint64_t last = start + (gap - 1);
    uint64_t up;

    last = place->highest < last ? place->highest : last;
    if (gap == 0 || at > last) {
        return false;
    }
    up = (place->residue - at) & (place->align - 1);
    if (up > last - at || last - at - up < place->len - 1) {
        return false;
    }
    *out = at + up;
    return true;
}

bool mmi_regions_find_place(const struct mm_regions *tree, const struct mmi_regions_place *place,
                            uint64_t *out)
{
    struct mmi_region *n = mmi_regions_from(tree, place->lowest);
    uint64_t start;
    uint64_t tail;

    if (n != NULL && n->gap < place->len) {
        n = gap_after(n, place->len);
    }
    for (; n != NULL && n->start - n->gap <= place->highest; n = gap_after(n, place->len)) {
        if (fits(n->start - n->gap, n->gap, place, out)) {
            return true;
        }
    }
    tail = tail_of(tree, &start);
    return fits(start, tail, place, out);
}

/** The highest such place in the gap of `gap` bytes from `start`. */
static bool fits_high(uint64_t start, uint64_t gap, const struct mmi_regions_place *place,
                      uint64_t *out)
{
    uint64_t low = start > place->lowest ? start : place->lowest;
    uint64_t last = start + (gap - 1);
    uint64_t at;
    uint64_t down;

    last = place->highest < last ? place->highest : last;
    if (gap == 0 || low > last || last - low < place->len - 1) {
        return false;
    }
    at = last - (place->len - 1);
    down = (at - place->residue) & (place->align - 1);
    if (down > at - low) {
        return false;
    }
    *out = at - down;
    return true;
}

bool mmi_regions_find_place_high(const struct mm_regions *tree,
                                 const struct mmi_regions_place *place, uint64_t *out)
{
    struct mmi_region *n = mmi_regions_from(tree, place->highest);
    uint64_t start;
    uint64_t tail = tail_of(tree, &start);

    if (fits_high(start, tail, place, out)) {
        return true;
    }
    /* Gaps behind the region that holds `highest`, or follows it, begin above `highest`. */
    n = n == NULL ? mmi_regions_last(tree) : n;
    if (n != NULL && n->gap < place->len) {
        n = gap_before(n, place->len);
    }
    for (; n != NULL && n->start > place->lowest; n = gap_before(n, place->len)) {
        if (fits_high(n->start - n->gap, n->gap, place, out)) {
            return true;
        }
    }
    return false;
}

bool mmi_regions_room(const struct mm_regions *tree, uint64_t len, uint64_t align, uint64_t *out)
{
    const struct mmi_regions_place place = {
        .len = len, .align = align, .lowest = 0, .highest = UINT64_MAX};

    return mmi_regions_find_place(tree, &place, out);
}
