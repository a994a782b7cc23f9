// SPDX-License-Identifier: MIT
/**
 * Room between regions: the gap before each, and the tail behind the last, which is no region's and
 * looked at by itself (drawn in core/base/range.c).
 *
 * The tree names the next bucket with a gap that is large enough, up or down, and in it the gaps are
 * looked at in order. The lowest place begins at the bottom, and the tail is the last to be looked
 * at; the highest begins with the tail.
 */
#include "region.h"

static uint64_t gap_start(const struct mmi_bucket *bucket, unsigned i)
{
    return bucket->start[i] - bucket->gap[i];
}

/** The bytes behind the last region. */
static uint64_t tail_of(const struct mmi_regions *tree, uint64_t *start)
{
    const struct mmi_region *n = mmi_regions_last(tree);
    uint64_t used = n == NULL ? 0 : n->start - tree->window.start.raw + n->len;

    *start = tree->window.start.raw + used;
    return tree->window.len - used;
}

bool mmi_regions_find_place(const struct mmi_regions *tree, const struct mmi_place *place,
                            uint64_t *out)
{
    struct mmi_bucket *b = mmi_regions_spot(tree, place->lowest).bucket;
    uint64_t start;
    uint64_t tail;

    b = b == NULL ? mmi_bucket_of(mmi_avl_first(tree->root)) : b;
    for (; b != NULL && gap_start(b, 0) <= place->highest;
         b = mmi_bucket_of(mmi_avl_next_with(&b->node, place->len))) {
        for (unsigned i = 0; i < b->nr; i++) {
            if (b->gap[i] >= place->len && mmi_place_low(place, gap_start(b, i), b->gap[i], out)) {
                return true;
            }
        }
    }
    tail = tail_of(tree, &start);
    return mmi_place_low(place, start, tail, out);
}

bool mmi_regions_find_place_high(const struct mmi_regions *tree, const struct mmi_place *place,
                                 uint64_t *out)
{
    struct mmi_bucket *b = mmi_regions_spot(tree, place->highest).bucket;
    struct mmi_bucket *next;
    uint64_t start;
    uint64_t tail = tail_of(tree, &start);

    if (mmi_place_high(place, start, tail, out)) {
        return true;
    }
    /* The gap that holds `highest` may be that of the region behind, in the next bucket. */
    next = mmi_bucket_of(b == NULL ? mmi_avl_first(tree->root) : mmi_avl_next(&b->node));
    for (b = next != NULL ? next : b; b != NULL && b->start[b->nr - 1] > place->lowest;
         b = mmi_bucket_of(mmi_avl_prev_with(&b->node, place->len))) {
        for (unsigned i = b->nr; i-- > 0;) {
            if (b->gap[i] >= place->len && mmi_place_high(place, gap_start(b, i), b->gap[i], out)) {
                return true;
            }
        }
    }
    return false;
}
