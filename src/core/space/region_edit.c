// SPDX-License-Identifier: MIT
/**
 * Edits of ranges: regions are split and merged as the range demands.
 *
 * Each edit has a twin that says how many nodes it may take. Nodes are had before anything changes;
 * then the edit cannot fail. No node is taken where a neighbour can grow instead.
 */
#include "region.h"

/** Those that touch a free range and agree with it, each or NULL. */
static struct mmi_region_pair agree_beside(const struct mmi_regions *tree,
                                           struct mmi_region_spot spot, uint64_t start,
                                           uint64_t len, const struct mmi_region_attr *attr)
{
    struct mmi_region_pair pair = mmi_regions_beside(tree, spot, start, len);

    if (pair.before != NULL &&
        !mmi_region_attr_continues(&pair.before->attr, pair.before->len, attr)) {
        pair.before = NULL;
    }
    if (pair.after != NULL && !mmi_region_attr_continues(attr, len, &pair.after->attr)) {
        pair.after = NULL;
    }
    return pair;
}

uint64_t mmi_regions_need_insert(const struct mmi_regions *tree, struct mmi_region_spot spot,
                                 uint64_t start, uint64_t len, const struct mmi_region_attr *attr)
{
    const struct mmi_region_pair pair = agree_beside(tree, spot, start, len, attr);

    return pair.before == NULL && pair.after == NULL ? 1 : 0;
}

void mmi_regions_insert(struct mmi_regions *tree, struct mmi_region_spot spot, uint64_t start,
                        uint64_t len, const struct mmi_region_attr *attr,
                        struct mmi_region_list *nodes)
{
    const struct mmi_region_pair pair = agree_beside(tree, spot, start, len, attr);
    struct mmi_region *n;

    if (pair.before != NULL) {
        len += pair.before->len;
        if (pair.after != NULL) {
            len += pair.after->len;
            mmi_regions_unlink(tree, pair.after);
            mmi_region_push(nodes, pair.after);
        }
        mmi_regions_resize(tree, pair.before, pair.before->start, len);
    } else if (pair.after != NULL) {
        mmi_regions_resize(tree, pair.after, start, len + pair.after->len);
    } else {
        n = mmi_region_pop(nodes);
        n->start = start;
        n->len = len;
        n->attr = *attr;
        n->attr.offset = (attr->flags & MMI_REGION_OFFSET) != 0 ? attr->offset : 0;
        mmi_regions_link(tree, spot, n);
    }
}

uint64_t mmi_regions_need_remove(const struct mmi_region *first, uint64_t start, uint64_t len)
{
    return first != NULL && first->start < start && mmi_region_last(first) > start + (len - 1) ? 1
                                                                                               : 0;
}

/** Make [at, ...) of the region that holds `at` a region of its own. */
static void split(struct mmi_regions *tree, struct mmi_region *n, uint64_t at,
                  struct mmi_region_list *nodes)
{
    struct mmi_region *high = mmi_region_pop(nodes);

    high->start = at;
    high->len = n->start + n->len - at;
    high->attr = n->attr;
    high->attr.offset = mmi_region_offset(&n->attr, at - n->start);
    mmi_regions_resize(tree, n, n->start, at - n->start);
    mmi_regions_link(tree, mmi_region_behind(n), high);
}

void mmi_regions_remove(struct mmi_regions *tree, struct mmi_region *first, uint64_t start,
                        uint64_t len, struct mmi_region_list *nodes)
{
    uint64_t last = start + (len - 1);
    struct mmi_region *n = first;
    struct mmi_region *next;

    if (n != NULL && n->start < start) {
        next = mmi_region_next(n);
        if (mmi_region_last(n) > last) {
            split(tree, n, last + 1, nodes);
        }
        mmi_regions_resize(tree, n, n->start, start - n->start);
        n = next;
    }
    while (n != NULL && n->start <= last) {
        if (mmi_region_last(n) > last) {
            mmi_regions_resize(tree, n, last + 1, mmi_region_last(n) - last);
            return;
        }
        next = mmi_region_last(n) == last ? NULL : mmi_region_next(n);
        mmi_regions_unlink(tree, n);
        mmi_region_push(nodes, n);
        n = next;
    }
}

uint64_t mmi_regions_need_take(const struct mmi_regions *tree, uint64_t start, uint64_t len)
{
    uint64_t last = start + (len - 1);
    const struct mmi_region *low = mmi_regions_find(tree, start);
    const struct mmi_region *high = mmi_regions_find(tree, last);
    uint64_t need = 0;

    need += low != NULL && low->start < start ? 1 : 0;
    need += high != NULL && mmi_region_last(high) > last ? 1 : 0;
    return need;
}

void mmi_regions_take(struct mmi_regions *tree, uint64_t start, uint64_t len,
                      struct mmi_region_list *out, struct mmi_region_list *nodes)
{
    uint64_t last = start + (len - 1);
    struct mmi_region *n = mmi_regions_from(tree, start);
    struct mmi_region **end = &out->head;
    struct mmi_region *next;

    while (*end != NULL) {
        end = &(*end)->next;
    }
    if (n != NULL && n->start < start) {
        split(tree, n, start, nodes);
        n = mmi_region_next(n);
    }
    for (; n != NULL && n->start <= last; n = next) {
        if (mmi_region_last(n) > last) {
            split(tree, n, last + 1, nodes);
        }
        next = mmi_region_next(n);
        mmi_regions_unlink(tree, n);
        n->next = NULL;
        *end = n;
        end = &n->next;
        out->nr++;
    }
}

/** The flags that a region has after a change. */
static uint32_t flags_after(const struct mmi_region *n, const struct mmi_region_change *change)
{
    return (n->attr.flags & ~change->clear) | change->set;
}

/** Whether a change leaves a region another than it was. */
static bool changes(const struct mmi_region *n, const struct mmi_region_change *change)
{
    return (change->sets_prot && n->attr.prot != change->prot) ||
           flags_after(n, change) != n->attr.flags;
}

uint64_t mmi_regions_need_change(const struct mmi_regions *tree, uint64_t start, uint64_t len,
                                 const struct mmi_region_change *change)
{
    uint64_t last = start + (len - 1);
    const struct mmi_region *low = mmi_regions_find(tree, start);
    const struct mmi_region *high = mmi_regions_find(tree, last);
    uint64_t need = 0;

    need += low != NULL && low->start < start && changes(low, change) ? 1 : 0;
    need += high != NULL && mmi_region_last(high) > last && changes(high, change) ? 1 : 0;
    return need;
}

/** Join `n` to the region before it if they touch and agree. */
static void join_before(struct mmi_regions *tree, struct mmi_region *n,
                        struct mmi_region_list *nodes)
{
    struct mmi_region *before = mmi_region_prev(n);
    uint64_t start;
    uint64_t len;

    if (before != NULL && before->start + before->len == n->start &&
        mmi_region_attr_continues(&before->attr, before->len, &n->attr)) {
        start = before->start;
        len = before->len + n->len;
        mmi_regions_unlink(tree, before);
        mmi_region_push(nodes, before);
        mmi_regions_resize(tree, n, start, len);
    }
}

void mmi_regions_change(struct mmi_regions *tree, uint64_t start, uint64_t len,
                        const struct mmi_region_change *change, struct mmi_region_list *nodes)
{
    uint64_t last = start + (len - 1);
    struct mmi_region *n = mmi_regions_from(tree, start);

    if (n != NULL && n->start < start && changes(n, change)) {
        split(tree, n, start, nodes);
        n = mmi_region_next(n);
    }
    for (; n != NULL && n->start <= last; n = mmi_region_next(n)) {
        if (changes(n, change)) {
            if (mmi_region_last(n) > last) {
                split(tree, n, last + 1, nodes);
            }
            n->attr.prot = change->sets_prot ? (uint16_t)change->prot : n->attr.prot;
            n->attr.flags = flags_after(n, change);
        }
        join_before(tree, n, nodes);
    }
    /* `n` begins behind the range, and may agree now with what lies in it. */
    if (n != NULL) {
        join_before(tree, n, nodes);
    }
}
