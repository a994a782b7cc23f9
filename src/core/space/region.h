// SPDX-License-Identifier: MIT
/**
 * The regions of a space, by address: finding them, room between them, edits of ranges. Internal to
 * the room; no lock, no page table and no allocation in it.
 *
 * Regions do not overlap, and neighbours that touch differ in something (else they are one). They
 * lie in buckets, and a bucket is a node of a balanced tree (core/base/avl.h), whose value is the
 * largest gap before one of its regions:
 *
 *     tree      bucket                            regions, anywhere in memory
 *               start  [ 0x1000 | 0x8000 | ..     where each begins: what finding reads
 *      O ────>  gap    [ 0x1000 | 0x5000 | ..     free bytes from the region before, or the
 *     / \       region [    *   |    *   | ..     window's start
 *    O   O                  └──> [ start, len, attributes ]
 *
 * Among many regions misses are what an edit costs: so the way to one reads a fraction of what all
 * regions have, and a neighbour itself only if it touches (decision 0004).
 *
 * Nodes come from and go to a list that the caller fills before: what needs a node says so first,
 * and then cannot fail. Each node that is linked may need a bucket, which the tree keeps to spare.
 */
#ifndef MMI_SPACE_REGION_H
#define MMI_SPACE_REGION_H

#include "core/base/avl.h"
#include "core/base/place.h"

#include <mm/addr.h>
#include <mm/platform.h>

/** A flag of regions whose `offset` counts. No caller gives it or sees it. */
#define MMI_REGION_OFFSET (UINT32_C(1) << 31)

/** What two neighbours must agree in to be one region. */
struct mmi_region_attr {
    uint32_t flags;
    uint16_t prot; /* mm_prot_t */
    uint64_t tag;
    uint64_t object; /* what backs it, an address or an id that means nothing here; 0: nothing */
    uint64_t offset; /* bytes: where in `object`, or in physical memory, the region's first byte is;
                        without MMI_REGION_OFFSET it is 0 and stays so */
};

struct mmi_region {
    union {
        struct mmi_bucket *bucket; /* linked */
        struct mmi_region *next;   /* in a list */
    };
    uint64_t start;
    uint64_t len;
    struct mmi_region_attr attr;
};

/** Regions in a bucket at most. With more, an edit moves more; with fewer, more buckets are missed on
 * the way, and a region's part of what a bucket costs by itself grows. */
#define MMI_BUCKET_MAX 23u

struct mmi_bucket {
    struct mmi_avl node; /* start: of the first region; value: the largest gap */
    uint32_t nr;
    uint64_t start[MMI_BUCKET_MAX];
    uint64_t gap[MMI_BUCKET_MAX];
    struct mmi_region *region[MMI_BUCKET_MAX];
};

/** The bucket whose node it is, or NULL for NULL. */
static inline struct mmi_bucket *mmi_bucket_of(struct mmi_avl *node)
{
    return (struct mmi_bucket *)(void *)node;
}

struct mmi_regions {
    struct mmi_avl *root;
    struct mm_vrange window; /* all of them lie in it */
    uint64_t nr;
    uint64_t bytes; /* of all of them */
    uint64_t nr_buckets;
    struct mmi_bucket *spare; /* chained by `node.child[MMI_LEFT]` */
    uint64_t nr_spare;
};

/** Last byte. */
static inline uint64_t mmi_region_last(const struct mmi_region *region)
{
    return region->start + (region->len - 1);
}

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

static inline void mmi_region_push(struct mmi_region_list *list, struct mmi_region *node)
{
    node->next = list->head;
    list->head = node;
    list->nr++;
}

/** NULL: the list is empty. */
static inline struct mmi_region *mmi_region_pop(struct mmi_region_list *list)
{
    struct mmi_region *node = list->head;

    if (node != NULL) {
        list->head = node->next;
        list->nr--;
    }
    return node;
}

/* --- finding: region_tree.c. O(log n), but where it says otherwise ---------------------------- */

void mmi_regions_init(struct mmi_regions *tree, struct mm_vrange window);

/** The first region whose last byte is at or above `at`, or NULL. */
struct mmi_region *mmi_regions_from(const struct mmi_regions *tree, uint64_t at);
/** The region that holds `at`, or NULL. */
struct mmi_region *mmi_regions_find(const struct mmi_regions *tree, uint64_t at);
/** The last region that begins below `at`, or NULL. */
struct mmi_region *mmi_regions_before(const struct mmi_regions *tree, uint64_t at);
struct mmi_region *mmi_regions_first(const struct mmi_regions *tree);
struct mmi_region *mmi_regions_last(const struct mmi_regions *tree);
/** O(1) for all but the last and the first of a bucket. */
struct mmi_region *mmi_region_next(const struct mmi_region *region);
struct mmi_region *mmi_region_prev(const struct mmi_region *region);

/** A place between two regions, before or behind all. Good until the tree changes. */
struct mmi_region_spot {
    struct mmi_bucket *bucket; /* NULL: before all */
    unsigned index; /* so many of its regions come before: 1 to its `nr`, or 0 without one */
};

/** Behind all regions that begin at or below `at`: what a look finds out once, and an edit is handed.
 */
struct mmi_region_spot mmi_regions_spot(const struct mmi_regions *tree, uint64_t at);
/** Right behind a region. O(1). */
struct mmi_region_spot mmi_region_behind(const struct mmi_region *region);
/** Whether no region has a byte in the range. `spot`: of its start. O(1), but at the end of a bucket.
 */
bool mmi_regions_free_at(const struct mmi_regions *tree, struct mmi_region_spot spot,
                         uint64_t start, uint64_t len);
/** The same, with a look of its own. */
bool mmi_regions_free(const struct mmi_regions *tree, uint64_t start, uint64_t len);

/** Those that touch a free range, each or NULL. `spot`: of its start. O(1), but at the end of a bucket.
 */
struct mmi_region_pair {
    struct mmi_region *before;
    struct mmi_region *after;
};
struct mmi_region_pair mmi_regions_beside(const struct mmi_regions *tree,
                                          struct mmi_region_spot spot, uint64_t start,
                                          uint64_t len);

/* --- room: region_place.c --------------------------------------------------------------------- */

/** The lowest place that is free and as asked; false: there is none. O(log n), and a bucket more for
 * each one whose gaps are large enough and wrongly aligned. */
bool mmi_regions_find_place(const struct mmi_regions *tree, const struct mmi_place *place,
                            uint64_t *out);

/** The highest, at the same cost. */
bool mmi_regions_find_place_high(const struct mmi_regions *tree, const struct mmi_place *place,
                                 uint64_t *out);

/* --- changing: region_tree.c ------------------------------------------------------------------ */

/** Buckets that the tree must have to spare before so many nodes are linked, in whatever order: by
 * link, and by the edits below, as many as they may take from the list. Without them the machine
 * faults. */
static inline uint64_t mmi_regions_need_buckets(const struct mmi_regions *tree, uint64_t nr)
{
    if (tree->nr_buckets <= 1 && tree->nr + nr <= MMI_BUCKET_MAX) {
        return tree->nr_buckets == 0 && nr != 0 ? 1 : 0;
    }
    return nr;
}

/** Buckets to spare before so many nodes are appended to a tree that has none. */
static inline uint64_t mmi_regions_need_buckets_to_append(uint64_t nr)
{
    return nr / MMI_BUCKET_MAX + (nr % MMI_BUCKET_MAX != 0 ? 1 : 0);
}

/** Have one more to spare. */
void mmi_regions_push_bucket(struct mmi_regions *tree, struct mmi_bucket *bucket);
/** Take one. NULL: there is none. */
struct mmi_bucket *mmi_regions_pop_bucket(struct mmi_regions *tree);

/** Put a node (start, len, attr set) where the tree has room for it: at the spot of its start. */
void mmi_regions_link(struct mmi_regions *tree, struct mmi_region_spot spot,
                      struct mmi_region *region);
/** Put a node (start, len, attr set), which begins behind the last byte of all others, behind them.
 * Buckets become full. */
void mmi_regions_append(struct mmi_regions *tree, struct mmi_region *region);
void mmi_regions_unlink(struct mmi_regions *tree, struct mmi_region *region);
/** Move the ends of a region without passing a neighbour. Each byte that stays keeps its offset. */
void mmi_regions_resize(struct mmi_regions *tree, struct mmi_region *region, uint64_t start,
                        uint64_t len);

/** Order, balance, gaps, parents, sums, merged neighbours, and what buckets tell of their regions;
 * each contradiction is logged. */
bool mmi_regions_check(const struct mmi_regions *tree, const struct mm_platform *platform);

/* --- edits of ranges: region_edit.c ----------------------------------------------------------- */

/** What an edit changes in each region of a range. */
struct mmi_region_change {
    bool sets_prot;
    mm_prot_t prot; /* only counts with sets_prot */
    uint32_t set;   /* flags; no flag is in both, and MMI_REGION_OFFSET in none */
    uint32_t clear;
};

/** Nodes that the edit of the same name may take from the list. `spot`: of the start; `first`: the
 * first region whose last byte is at or above it, or NULL. */
uint64_t mmi_regions_need_insert(const struct mmi_regions *tree, struct mmi_region_spot spot,
                                 uint64_t start, uint64_t len, const struct mmi_region_attr *attr);
uint64_t mmi_regions_need_remove(const struct mmi_region *first, uint64_t start, uint64_t len);
uint64_t mmi_regions_need_take(const struct mmi_regions *tree, uint64_t start, uint64_t len);
uint64_t mmi_regions_need_change(const struct mmi_regions *tree, uint64_t start, uint64_t len,
                                 const struct mmi_region_change *change);

/** Make a free range a region, or part of its neighbours. */
void mmi_regions_insert(struct mmi_regions *tree, struct mmi_region_spot spot, uint64_t start,
                        uint64_t len, const struct mmi_region_attr *attr,
                        struct mmi_region_list *nodes);
/** Make a range free; nodes that are left over go to the list. */
void mmi_regions_remove(struct mmi_regions *tree, struct mmi_region *first, uint64_t start,
                        uint64_t len, struct mmi_region_list *nodes);
/** As remove, but what was removed goes to the end of `out` in ascending order, with start, len and
 * attributes: a node for each region, cut to the range. */
void mmi_regions_take(struct mmi_regions *tree, uint64_t start, uint64_t len,
                      struct mmi_region_list *out, struct mmi_region_list *nodes);
/** Change what is mapped of a range; holes are passed over and stay. */
void mmi_regions_change(struct mmi_regions *tree, uint64_t start, uint64_t len,
                        const struct mmi_region_change *change, struct mmi_region_list *nodes);

#endif
