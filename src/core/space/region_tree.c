// SPDX-License-Identifier: MIT
/**
 * Regions in buckets, buckets in a tree.
 *
 * A bucket that is full shares with a neighbour, or gives its upper half to a new one; one that has
 * few becomes one with a neighbour, or gets some from one. So an edit needs one bucket at most for
 * each region that it links: the tree of buckets needs no memory to balance itself.
 */
#include "region.h"

#include "core/base/mem.h"
#include "core/base/report.h"

/* Nodes, and their part of a bucket: here of one with 16 regions. By maps few buckets have fewer
 * (`space.region_bytes`); after unmaps they may (decision 0004). */
_Static_assert(sizeof(struct mmi_region) + sizeof(struct mmi_bucket) / 16 <= 96,
               "a region has 96 bytes at most, where buckets have 16");

/** With no more than this, a bucket has room for what comes: two become one if they have no more
 * together, and a full one shares with such a neighbour. Then there is room where the new one goes. */
#define ROOMY (MMI_BUCKET_MAX - 2)

/** With fewer than FEW, a bucket looks for a neighbour: to become one with it, or to get some from it
 * if it has MANY. So none keeps fewer than ROOMY - MANY + 2, but the only one and what is appended. */
#define FEW  (MMI_BUCKET_MAX / 2)
#define MANY (MMI_BUCKET_MAX * 2 / 3)

void mmi_regions_init(struct mmi_regions *tree, struct mm_vrange window)
{
    *tree = (struct mmi_regions){.window = window};
}

/* --- finding ---------------------------------------------------------------------------------- */

/** How many of a bucket's regions begin at or below `at`. */
static unsigned nr_upto(const struct mmi_bucket *bucket, uint64_t at)
{
    unsigned nr = 0;

    for (unsigned i = 0; i < bucket->nr; i++) {
        nr += bucket->start[i] <= at ? 1u : 0u;
    }
    return nr;
}

/** Behind all regions that begin at or below `at`. Which child is next is a number here and no
 * branch: at each step both are as likely, and who guesses wrongly waits longer than it takes. */
struct mmi_region_spot mmi_regions_spot(const struct mmi_regions *tree, uint64_t at)
{
    struct mmi_avl *n = tree->root;
    struct mmi_avl *below = NULL;

    while (n != NULL) {
        bool right = n->start <= at;

        below = right ? n : below;
        n = n->child[right ? MMI_RIGHT : MMI_LEFT];
    }
    if (below == NULL) {
        return (struct mmi_region_spot){NULL, 0};
    }
    return (struct mmi_region_spot){mmi_bucket_of(below), nr_upto(mmi_bucket_of(below), at)};
}

/** The region behind a spot: the index is its own, and 0 if it is a bucket's first. */
static struct mmi_region_spot behind(const struct mmi_regions *tree, struct mmi_region_spot spot)
{
    if (spot.bucket == NULL) {
        return (struct mmi_region_spot){mmi_bucket_of(mmi_avl_first(tree->root)), 0};
    }
    if (spot.index < spot.bucket->nr) {
        return spot;
    }
    return (struct mmi_region_spot){mmi_bucket_of(mmi_avl_next(&spot.bucket->node)), 0};
}

/** The last byte of the region before a spot, if one is. What lies behind in the same bucket tells
 * it, so that the region itself is seldom read. */
static uint64_t last_before(struct mmi_region_spot spot)
{
    const struct mmi_bucket *b = spot.bucket;

    return spot.index < b->nr ? b->start[spot.index] - b->gap[spot.index] - 1
                              : mmi_region_last(b->region[spot.index - 1]);
}

struct mmi_region *mmi_regions_from(const struct mmi_regions *tree, uint64_t at)
{
    struct mmi_region_spot spot = mmi_regions_spot(tree, at);

    if (spot.bucket != NULL && last_before(spot) >= at) {
        return spot.bucket->region[spot.index - 1];
    }
    spot = behind(tree, spot);
    return spot.bucket == NULL ? NULL : spot.bucket->region[spot.index];
}

struct mmi_region *mmi_regions_find(const struct mmi_regions *tree, uint64_t at)
{
    const struct mmi_region_spot spot = mmi_regions_spot(tree, at);

    return spot.bucket != NULL && last_before(spot) >= at ? spot.bucket->region[spot.index - 1]
                                                          : NULL;
}

struct mmi_region *mmi_regions_before(const struct mmi_regions *tree, uint64_t at)
{
    const struct mmi_region_spot spot =
        at == 0 ? (struct mmi_region_spot){NULL, 0} : mmi_regions_spot(tree, at - 1);

    return spot.bucket == NULL ? NULL : spot.bucket->region[spot.index - 1];
}

bool mmi_regions_free_at(const struct mmi_regions *tree, struct mmi_region_spot spot,
                         uint64_t start, uint64_t len)
{
    const struct mmi_region_spot next = behind(tree, spot);

    return (spot.bucket == NULL || last_before(spot) < start) &&
           (next.bucket == NULL || next.bucket->start[next.index] > start + (len - 1));
}

bool mmi_regions_free(const struct mmi_regions *tree, uint64_t start, uint64_t len)
{
    return mmi_regions_free_at(tree, mmi_regions_spot(tree, start), start, len);
}

struct mmi_region_pair mmi_regions_beside(const struct mmi_regions *tree,
                                          struct mmi_region_spot spot, uint64_t start, uint64_t len)
{
    const struct mmi_region_spot next = behind(tree, spot);
    struct mmi_region_pair pair = {NULL, NULL};

    if (next.bucket != NULL && next.bucket->start[next.index] == start + len) {
        pair.after = next.bucket->region[next.index];
    }
    if (spot.bucket != NULL && last_before(spot) + 1 == start) {
        pair.before = spot.bucket->region[spot.index - 1];
    }
    return pair;
}

struct mmi_region *mmi_regions_first(const struct mmi_regions *tree)
{
    const struct mmi_bucket *b = mmi_bucket_of(mmi_avl_first(tree->root));

    return b == NULL ? NULL : b->region[0];
}

struct mmi_region *mmi_regions_last(const struct mmi_regions *tree)
{
    const struct mmi_bucket *b = mmi_bucket_of(mmi_avl_last(tree->root));

    return b == NULL ? NULL : b->region[b->nr - 1];
}

static unsigned index_of(const struct mmi_region *region)
{
    return nr_upto(region->bucket, region->start) - 1;
}

struct mmi_region_spot mmi_region_behind(const struct mmi_region *region)
{
    return (struct mmi_region_spot){region->bucket, index_of(region) + 1};
}

struct mmi_region *mmi_region_next(const struct mmi_region *region)
{
    const struct mmi_bucket *b = region->bucket;
    unsigned i = index_of(region) + 1;

    if (i < b->nr) {
        return b->region[i];
    }
    b = mmi_bucket_of(mmi_avl_next(&b->node));
    return b == NULL ? NULL : b->region[0];
}

struct mmi_region *mmi_region_prev(const struct mmi_region *region)
{
    const struct mmi_bucket *b = region->bucket;
    unsigned i = index_of(region);

    if (i != 0) {
        return b->region[i - 1];
    }
    b = mmi_bucket_of(mmi_avl_prev(&b->node));
    return b == NULL ? NULL : b->region[b->nr - 1];
}

/* --- buckets ---------------------------------------------------------------------------------- */

void mmi_regions_push_bucket(struct mmi_regions *tree, struct mmi_bucket *bucket)
{
    bucket->node.child[MMI_LEFT] = tree->spare == NULL ? NULL : &tree->spare->node;
    tree->spare = bucket;
    tree->nr_spare++;
}

struct mmi_bucket *mmi_regions_pop_bucket(struct mmi_regions *tree)
{
    struct mmi_bucket *bucket = tree->spare;

    if (bucket != NULL) {
        tree->spare = mmi_bucket_of(bucket->node.child[MMI_LEFT]);
        tree->nr_spare--;
    }
    return bucket;
}

static struct mmi_bucket *new_bucket(struct mmi_regions *tree)
{
    struct mmi_bucket *bucket = mmi_regions_pop_bucket(tree);

    bucket->nr = 0;
    tree->nr_buckets++;
    return bucket;
}

static void drop_bucket(struct mmi_regions *tree, struct mmi_bucket *bucket)
{
    mmi_avl_unlink(&tree->root, &bucket->node);
    tree->nr_buckets--;
    mmi_regions_push_bucket(tree, bucket);
}

static uint64_t largest_gap(const struct mmi_bucket *bucket)
{
    uint64_t max = 0;

    for (unsigned i = 0; i < bucket->nr; i++) {
        max = bucket->gap[i] > max ? bucket->gap[i] : max;
    }
    return max;
}

/** Put a new bucket, which has regions, into the tree. */
static void put_bucket(struct mmi_regions *tree, struct mmi_bucket *bucket)
{
    const struct mmi_avl_spot spot = mmi_avl_spot(&tree->root, bucket->start[0]);

    bucket->node.start = bucket->start[0];
    bucket->node.value = largest_gap(bucket);
    mmi_avl_link(&tree->root, &bucket->node, &spot);
}

/** The tree learns what a bucket has now. */
static void tell(struct mmi_regions *tree, struct mmi_bucket *bucket)
{
    bucket->node.start = bucket->start[0];
    mmi_avl_set_value(&tree->root, &bucket->node, largest_gap(bucket));
}

/** A gap of the bucket was `was` and is `now`; 0: it was, or is, no gap of the bucket's. */
static void tell_gap(struct mmi_regions *tree, struct mmi_bucket *bucket, uint64_t was,
                     uint64_t now)
{
    if (now >= bucket->node.value) {
        mmi_avl_set_value(&tree->root, &bucket->node, now);
    } else if (was == bucket->node.value) {
        mmi_avl_set_value(&tree->root, &bucket->node, largest_gap(bucket));
    }
}

/** What lies behind an end that was moved has so much more room before it, or less. */
static void move_gap(struct mmi_regions *tree, struct mmi_region_spot next, uint64_t by)
{
    if (next.bucket != NULL && by != 0) {
        uint64_t was = next.bucket->gap[next.index];

        next.bucket->gap[next.index] = was + by;
        tell_gap(tree, next.bucket, was, was + by);
    }
}

/** The regions of a bucket from `from` on lie from `to` on. */
static void shift(struct mmi_bucket *bucket, unsigned from, unsigned to)
{
    size_t nr = bucket->nr - from;

    memmove(&bucket->start[to], &bucket->start[from], nr * sizeof(bucket->start[0]));
    memmove(&bucket->gap[to], &bucket->gap[from], nr * sizeof(bucket->gap[0]));
    memmove(&bucket->region[to], &bucket->region[from], nr * sizeof(void *));
    bucket->nr += to - from;
}

/** Regions of one bucket are in another, at `at`. */
static void copy(struct mmi_bucket *to, unsigned at, const struct mmi_bucket *from, unsigned first,
                 unsigned nr)
{
    for (unsigned i = 0; i < nr; i++) {
        to->start[at + i] = from->start[first + i];
        to->gap[at + i] = from->gap[first + i];
        to->region[at + i] = from->region[first + i];
        to->region[at + i]->bucket = to;
    }
}

/** Of two buckets side by side, the lower one has so many; the upper one the rest, which may be
 * none. */
static void divide(struct mmi_bucket *low, struct mmi_bucket *high, unsigned nr_low)
{
    unsigned nr;

    if (low->nr > nr_low) {
        nr = low->nr - nr_low;
        shift(high, 0, nr);
        copy(high, 0, low, nr_low, nr);
    } else {
        nr = nr_low - low->nr;
        copy(low, low->nr, high, 0, nr);
        shift(high, nr, 0);
    }
    low->nr = nr_low;
}

/** Put a region into a bucket that has room. */
static void enter(struct mmi_regions *tree, struct mmi_region_spot spot, struct mmi_region *region,
                  uint64_t gap)
{
    struct mmi_bucket *b = spot.bucket;

    shift(b, spot.index, spot.index + 1);
    b->start[spot.index] = region->start;
    b->gap[spot.index] = gap;
    b->region[spot.index] = region;
    region->bucket = b;
    if (b->nr == 1) {
        put_bucket(tree, b);
    } else {
        b->node.start = b->start[0];
        tell_gap(tree, b, 0, gap);
    }
}

/** Of two buckets side by side, the lower one has so many. `index` is that of a spot, counted from the
 * first region of `low`; the result is the same spot after. */
static struct mmi_region_spot share(struct mmi_regions *tree, struct mmi_bucket *low,
                                    struct mmi_bucket *high, unsigned nr_low, unsigned index)
{
    divide(low, high, nr_low);
    tell(tree, low);
    tell(tree, high);
    return index <= nr_low && nr_low != MMI_BUCKET_MAX
               ? (struct mmi_region_spot){low, index}
               : (struct mmi_region_spot){high, index - nr_low};
}

/**
 * Where a region goes that belongs into a full bucket: a neighbour takes half of what it can, so that
 * by maps buckets are seldom less than two thirds full. Only where no neighbour has room for two,
 * the bucket is cut in half. At its ends the neighbour takes all that it can: who comes in order, up
 * or down, leaves full buckets.
 */
static struct mmi_region_spot make_room(struct mmi_regions *tree, struct mmi_region_spot spot)
{
    struct mmi_bucket *full = spot.bucket;
    struct mmi_bucket *prev = mmi_bucket_of(mmi_avl_prev(&full->node));
    struct mmi_bucket *next = mmi_bucket_of(mmi_avl_next(&full->node));
    struct mmi_bucket *high;

    if (prev != NULL && prev->nr <= ROOMY) {
        return share(tree, prev, full,
                     spot.index == MMI_BUCKET_MAX ? MMI_BUCKET_MAX
                                                  : (prev->nr + MMI_BUCKET_MAX) / 2,
                     prev->nr + spot.index);
    }
    if (next != NULL && next->nr <= ROOMY) {
        return share(tree, full, next, spot.index == 0 ? next->nr : (MMI_BUCKET_MAX + next->nr) / 2,
                     spot.index);
    }
    high = new_bucket(tree);
    divide(full, high, MMI_BUCKET_MAX / 2);
    tell(tree, full);
    put_bucket(tree, high);
    return spot.index <= full->nr ? spot : (struct mmi_region_spot){high, spot.index - full->nr};
}

/** Put a region between those before and behind the spot. */
static void put(struct mmi_regions *tree, struct mmi_region_spot spot, struct mmi_region_spot next,
                struct mmi_region *region, uint64_t gap)
{
    /* At the end of a full bucket, or before all, the one behind may have room. */
    if (spot.bucket == NULL || (spot.index == MMI_BUCKET_MAX && next.bucket != NULL &&
                                next.bucket->nr != MMI_BUCKET_MAX)) {
        spot = next;
    }
    if (spot.bucket == NULL) {
        spot.bucket = new_bucket(tree);
    } else if (spot.bucket->nr == MMI_BUCKET_MAX) {
        spot = make_room(tree, spot);
    }
    enter(tree, spot, region, gap);
}

/** Whether two buckets side by side have become one. */
static bool merge(struct mmi_regions *tree, struct mmi_bucket *low, struct mmi_bucket *high)
{
    if (low == NULL || high == NULL || low->nr + high->nr > ROOMY) {
        return false;
    }
    divide(low, high, low->nr + high->nr);
    drop_bucket(tree, high);
    tell(tree, low);
    return true;
}

/** A bucket that has few becomes one with a neighbour, or gets some from one. */
static void fill_up(struct mmi_regions *tree, struct mmi_bucket *few)
{
    struct mmi_bucket *prev = mmi_bucket_of(mmi_avl_prev(&few->node));
    struct mmi_bucket *next = mmi_bucket_of(mmi_avl_next(&few->node));

    if (merge(tree, few, next) || merge(tree, prev, few)) {
        return;
    }
    if (next != NULL && next->nr >= MANY) {
        (void)share(tree, few, next, (few->nr + next->nr) / 2, 0);
    } else if (prev != NULL && prev->nr >= MANY) {
        (void)share(tree, prev, few, (prev->nr + few->nr) / 2, 0);
    }
}

/* --- changing --------------------------------------------------------------------------------- */

void mmi_regions_link(struct mmi_regions *tree, struct mmi_region_spot spot,
                      struct mmi_region *region)
{
    const struct mmi_region_spot next = behind(tree, spot);
    uint64_t from = tree->window.start.raw;
    uint64_t gap;

    if (next.bucket != NULL) {
        from = next.bucket->start[next.index] - next.bucket->gap[next.index];
    } else if (spot.bucket != NULL) {
        from = last_before(spot) + 1;
    }
    gap = region->start - from;
    move_gap(tree, next, 0 - gap - region->len);
    put(tree, spot, next, region, gap);
    tree->nr++;
    tree->bytes += region->len;
}

void mmi_regions_append(struct mmi_regions *tree, struct mmi_region *region)
{
    struct mmi_bucket *last = mmi_bucket_of(mmi_avl_last(tree->root));
    struct mmi_region_spot spot = {last, last == NULL ? 0 : last->nr};
    uint64_t from = last == NULL ? tree->window.start.raw : last_before(spot) + 1;

    if (last == NULL || last->nr == MMI_BUCKET_MAX) {
        spot = (struct mmi_region_spot){new_bucket(tree), 0};
    }
    enter(tree, spot, region, region->start - from);
    tree->nr++;
    tree->bytes += region->len;
}

void mmi_regions_unlink(struct mmi_regions *tree, struct mmi_region *region)
{
    struct mmi_bucket *b = region->bucket;
    unsigned i = index_of(region);
    uint64_t gap = b->gap[i];

    move_gap(tree, behind(tree, (struct mmi_region_spot){b, i + 1}), gap + region->len);
    tree->nr--;
    tree->bytes -= region->len;
    shift(b, i + 1, i);
    if (b->nr == 0) {
        drop_bucket(tree, b);
        return;
    }
    b->node.start = b->start[0];
    tell_gap(tree, b, gap, 0);
    if (b->nr < FEW) {
        fill_up(tree, b);
    }
}

void mmi_regions_resize(struct mmi_regions *tree, struct mmi_region *region, uint64_t start,
                        uint64_t len)
{
    struct mmi_bucket *b = region->bucket;
    unsigned i = index_of(region);

    move_gap(tree, behind(tree, (struct mmi_region_spot){b, i + 1}),
             region->start + region->len - (start + len));
    move_gap(tree, (struct mmi_region_spot){b, i}, start - region->start);
    b->start[i] = start;
    b->node.start = b->start[0];
    tree->bytes += len - region->len;
    region->attr.offset = mmi_region_offset(&region->attr, start - region->start);
    region->start = start;
    region->len = len;
}

/* --- checking --------------------------------------------------------------------------------- */

struct checking {
    const struct mm_platform *platform;
    const struct mmi_regions *tree;
    const struct mmi_region *before;
    uint64_t nr;
    uint64_t bytes;
    bool good;
};

static void expect(struct checking *c, bool condition, const char *what, uint64_t at)
{
    if (!condition) {
        c->good = false;
        mmi_complain(c->platform, "space", what, at);
    }
}

static void check_region(struct checking *c, const struct mmi_bucket *bucket, unsigned i)
{
    const struct mm_vrange window = c->tree->window;
    const struct mmi_region *before = c->before;
    const struct mmi_region *n = bucket->region[i];
    uint64_t from = before == NULL ? window.start.raw : before->start + before->len;

    expect(c, n->bucket == bucket && n->start == bucket->start[i],
           "a bucket does not have the region that it tells of", n->start);
    expect(c,
           mm_range_covers(window.start.raw, window.len, n->start, n->len) &&
               (before == NULL || mmi_region_last(before) < n->start),
           "region out of order, or outside of the window", n->start);
    expect(c, bucket->gap[i] == n->start - from, "region knows its gap wrongly", n->start);
    expect(c,
           before == NULL || bucket->gap[i] != 0 ||
               !mmi_region_attr_continues(&before->attr, before->len, &n->attr),
           "equal neighbours are not one region", n->start);
    expect(c, (n->attr.flags & MMI_REGION_OFFSET) != 0 || n->attr.offset == 0,
           "region has an offset that does not count", n->start);
    expect(c, n->len != 0 && mm_is_aligned(n->start | n->len, MM_PAGE_SIZE),
           "region not of whole pages", n->start);
    c->nr++;
    c->bytes += n->len;
    c->before = n;
}

static void check_bucket(struct checking *c, const struct mmi_bucket *bucket)
{
    const char *wrong = mmi_avl_wrong(&bucket->node);

    expect(c, wrong == NULL, wrong, bucket->node.start);
    expect(c, bucket->nr != 0 && bucket->nr <= MMI_BUCKET_MAX, "bucket has no region, or too many",
           bucket->node.start);
    for (unsigned i = 0; c->good && i < bucket->nr; i++) {
        check_region(c, bucket, i);
    }
    expect(c,
           !c->good || (bucket->node.start == bucket->start[0] &&
                        bucket->node.value == largest_gap(bucket)),
           "bucket knows its regions wrongly", bucket->node.start);
}

bool mmi_regions_check(const struct mmi_regions *tree, const struct mm_platform *platform)
{
    struct checking c = {.platform = platform, .tree = tree, .good = true};
    const char *broken = mmi_avl_broken(tree->root, tree->nr_buckets);
    uint64_t nr_buckets = 0;
    uint64_t nr_spare = 0;

    if (broken != NULL) {
        mmi_complain(platform, "space", broken, tree->nr_buckets);
        return false;
    }
    for (const struct mmi_bucket *b = tree->spare; b != NULL && nr_spare <= tree->nr_spare;
         b = mmi_bucket_of(b->node.child[MMI_LEFT])) {
        nr_spare++;
    }
    for (struct mmi_avl *n = mmi_avl_first(tree->root); n != NULL && c.good; n = mmi_avl_next(n)) {
        check_bucket(&c, mmi_bucket_of(n));
        nr_buckets++;
    }
    expect(&c,
           !c.good ||
               (c.nr == tree->nr && c.bytes == tree->bytes && nr_buckets == tree->nr_buckets),
           "regions counted wrongly", c.nr);
    expect(&c, nr_spare == tree->nr_spare, "buckets to spare counted wrongly", nr_spare);
    return c.good;
}
