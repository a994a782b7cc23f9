// SPDX-License-Identifier: MIT
/**
 * The boot memory map: adding, normalising, asking. Adapters for what loaders deliver are in files
 * of their own; nothing here knows where an entry came from.
 *
 * Normalising is a sweep over the entries sorted by start. The state of the sweep is, for each of
 * the few kinds, the last byte that any entry seen so far reaches; the highest kind that still
 * reaches the current byte is what the byte is. So the piece that begins here ends where that kind
 * ends, or just before the next entry begins, whichever is first:
 *
 *     kind 1   ######################
 *     kind 2        ######    ###########
 *     pieces   11111222222....          each "|" of the input is looked at once
 *
 * The sweep needs no second array. The sorted entries are moved to the end of the array, and pieces
 * are written from its front:
 *
 *     | pieces written ...>      | entries to read ...>            |
 *     0                          capacity - unread        capacity
 *
 * The writer cannot catch up with the reader. Pieces written are at most the addresses passed at
 * which a range begins or ends, less one. Each unread entry will still add one such address of its
 * own to the count that mm_bootmap_add() keeps within capacity + 1: an entry that was added counts
 * two, and entries of an earlier normalising are disjoint, so that no two end together. Hence
 * written + unread <= boundaries - 1 <= capacity.
 *
 * Ends are kept as last bytes: the end of a range at 2^64 fits no word.
 */
#include "core/base/bits.h"
#include "core/base/mem.h"
#include <mm/bootmap.h>

#define BOOTMAP_MAGIC UINT32_C(0x6d6d624d)
#define KINDS_ALL     (MM_BOOT_BIT(MM_BOOT_KIND_COUNT) - 1)
/* The first byte that no CPU can address. */
#define MEMORY_END (UINT64_C(1) << MM_PADDR_BITS_MAX)

static mm_status_t check(const struct mm_bootmap *map)
{
    if (map == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    return map->magic == BOOTMAP_MAGIC ? MM_OK : MM_ERR_NOT_INITIALIZED;
}

mm_status_t mm_bootmap_init(struct mm_bootmap *map, struct mm_boot_entry *entries,
                            uint32_t capacity)
{
    if (map == NULL || entries == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (capacity == 0 || capacity > UINT32_C(1) << 31) {
        return MM_ERR_INVALID_SIZE;
    }
    if (map->magic == BOOTMAP_MAGIC) {
        return MM_ERR_ALREADY_INITIALIZED;
    }
    *map = (struct mm_bootmap){
        .entries = entries,
        .capacity = capacity,
        .normalized = 1,
        .magic = BOOTMAP_MAGIC,
    };
    return MM_OK;
}

uint32_t mm_bootmap_room(const struct mm_bootmap *map)
{
    return check(map) == MM_OK ? (map->capacity + 1 - map->boundaries) / 2 : 0;
}

mm_status_t mm_bootmap_add(struct mm_bootmap *map, struct mm_prange range, enum mm_boot_kind kind)
{
    mm_status_t status = check(map);

    if (status != MM_OK) {
        return status;
    }
    if ((uint32_t)kind >= MM_BOOT_KIND_COUNT) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (!mm_prange_valid(range)) {
        return MM_ERR_INVALID_SIZE;
    }
    if (range.len == 0) {
        return MM_OK;
    }
    if (mm_bootmap_room(map) == 0) {
        return MM_ERR_LIMIT;
    }
    map->entries[map->nr++] = (struct mm_boot_entry){.range = range, .kind = (uint32_t)kind};
    map->boundaries += 2;
    map->normalized = 0;
    return MM_OK;
}

/* --- normalising ------------------------------------------------------------------------------ */

/* Let `entry` sink from the hole at `at` to where no child starts above it. */
static void sift(struct mm_boot_entry *heap, uint32_t nr, uint32_t at, struct mm_boot_entry entry)
{
    for (;;) {
        uint64_t child = 2 * (uint64_t)at + 1;

        if (child >= nr) {
            break;
        }
        if (child + 1 < nr && heap[child + 1].range.start.raw > heap[child].range.start.raw) {
            child++;
        }
        if (heap[child].range.start.raw <= entry.range.start.raw) {
            break;
        }
        heap[at] = heap[child];
        at = (uint32_t)child;
    }
    heap[at] = entry;
}

/* Heapsort by start: in place, O(n log n) whatever the input, no recursion. */
static void sort(struct mm_boot_entry *entries, uint32_t nr)
{
    for (uint32_t i = nr / 2; i > 0; i--) {
        sift(entries, nr, i - 1, entries[i - 1]);
    }
    for (uint32_t left = nr; left > 1; left--) {
        struct mm_boot_entry last = entries[left - 1];

        entries[left - 1] = entries[0];
        sift(entries, left - 1, 0, last);
    }
}

struct sweep {
    struct mm_boot_entry *out;
    uint32_t written;
    uint32_t live; /* kinds that have been seen and may still reach the current byte */
    uint64_t reach[MM_BOOT_KIND_COUNT]; /* last byte, for live kinds */
};

/* What the byte at `at` is: the highest kind that reaches it; MM_BOOT_KIND_COUNT: nothing. */
static uint32_t kind_at(struct sweep *sweep, uint64_t at)
{
    while (sweep->live != 0) {
        uint32_t kind = mmi_log2(sweep->live);

        if (sweep->reach[kind] >= at) {
            return kind;
        }
        sweep->live &= ~MM_BOOT_BIT(kind);
    }
    return MM_BOOT_KIND_COUNT;
}

static void see(struct sweep *sweep, const struct mm_boot_entry *entry)
{
    uint64_t last = mm_prange_last(entry->range).raw;

    if ((sweep->live & MM_BOOT_BIT(entry->kind)) == 0 || sweep->reach[entry->kind] < last) {
        sweep->reach[entry->kind] = last;
    }
    sweep->live |= MM_BOOT_BIT(entry->kind);
}

/* Write the piece [start, last], or lengthen the one before it if it is of the same kind. */
static void emit(struct sweep *sweep, uint64_t start, uint64_t last, uint32_t kind)
{
    if (sweep->written > 0) {
        struct mm_boot_entry *before = &sweep->out[sweep->written - 1];
        uint64_t first = before->range.start.raw;

        if (before->kind == kind && mm_prange_last(before->range).raw + 1 == start) {
            if (last - first != UINT64_MAX) {
                before->range.len = last - first + 1;
                return;
            }
            /* All 2^64 bytes: no range holds them. Two halves do, and cut no frame. */
            start = UINT64_C(1) << 63;
            before->range.len = start;
        }
    }
    sweep->out[sweep->written++] = (struct mm_boot_entry){
        .range = mm_prange(mm_paddr(start), last - start + 1),
        .kind = kind,
    };
}

/* Of one entry or more: a map without any is normalised from the start. */
static uint32_t count_boundaries(const struct mm_boot_entry *entries, uint32_t nr)
{
    uint32_t boundaries = nr + 1; /* each start, and the last end */

    for (uint32_t i = 1; i < nr; i++) {
        if (mm_prange_last(entries[i - 1].range).raw + 1 != entries[i].range.start.raw) {
            boundaries++;
        }
    }
    return boundaries;
}

static void resolve(struct mm_bootmap *map)
{
    struct sweep sweep = {.out = map->entries};
    const struct mm_boot_entry *in = map->entries + (map->capacity - map->nr);
    const struct mm_boot_entry *end = map->entries + map->capacity;
    uint64_t at = 0;

    memmove(map->entries + (map->capacity - map->nr), map->entries,
            (size_t)map->nr * sizeof(*map->entries));
    for (;;) {
        uint32_t kind;
        uint64_t last;

        for (; in != end && in->range.start.raw <= at; in++) {
            see(&sweep, in);
        }
        kind = kind_at(&sweep, at);
        if (kind == MM_BOOT_KIND_COUNT) {
            if (in == end) {
                break;
            }
            at = in->range.start.raw;
            continue;
        }
        last = sweep.reach[kind];
        if (in != end && in->range.start.raw <= last) {
            last = in->range.start.raw - 1; /* it is above `at`, so not 0 */
        }
        emit(&sweep, at, last, kind);
        if (last == UINT64_MAX) {
            break;
        }
        at = last + 1;
    }
    map->nr = sweep.written;
}

mm_status_t mm_bootmap_normalize(struct mm_bootmap *map)
{
    mm_status_t status = check(map);

    if (status != MM_OK || map->normalized != 0) {
        return status;
    }
    sort(map->entries, map->nr);
    resolve(map);
    map->boundaries = count_boundaries(map->entries, map->nr);
    map->normalized = 1;
    return MM_OK;
}

/* --- asking ----------------------------------------------------------------------------------- */

/* Frames as byte addresses [start, end), both aligned; empty if start >= end. */
struct frames {
    uint64_t start;
    uint64_t end;
};

/* Whole frames in the bytes [start, last], below the end of memory. */
static struct frames inwards(uint64_t start, uint64_t last)
{
    struct frames f = {MEMORY_END, MEMORY_END};

    if (last < MEMORY_END - 1) {
        f.end = mm_align_down(last + 1, MM_PAGE_SIZE);
    }
    if (start < MEMORY_END) {
        f.start = mm_align_down(start + MM_PAGE_MASK, MM_PAGE_SIZE);
    }
    return f;
}

/* Index of the first entry that reaches `at` or lies above it. */
static uint32_t find(const struct mm_bootmap *map, uint64_t at)
{
    uint32_t low = 0;
    uint32_t high = map->nr;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (mm_prange_last(map->entries[middle].range).raw < at) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/*
 * The frames of the run of neighbouring entries of wanted kinds that begins at *index, which is
 * left behind the run. All bytes between its ends are wanted, so only the frames at both ends need
 * a look: one that the run fills in part counts if a byte of a touched kind lies in that part.
 */
static struct frames run_at(const struct mm_bootmap *map, uint32_t *index, uint32_t whole,
                            uint32_t touched)
{
    const struct mm_boot_entry *entry = &map->entries[*index];
    uint64_t start = entry->range.start.raw;
    uint64_t last;
    uint64_t touch_first = UINT64_MAX;
    uint64_t touch_last = 0;
    bool any = false;
    struct frames f;

    for (;;) {
        last = mm_prange_last(entry->range).raw;
        if ((touched & MM_BOOT_BIT(entry->kind)) != 0) {
            touch_first = any ? touch_first : entry->range.start.raw;
            touch_last = last;
            any = true;
        }
        ++*index;
        if (*index == map->nr) { /* and so if the entry ends at 2^64: they are sorted */
            break;
        }
        entry = &map->entries[*index];
        if (entry->range.start.raw != last + 1 ||
            ((whole | touched) & MM_BOOT_BIT(entry->kind)) == 0) {
            break;
        }
    }
    f = inwards(start, last);
    if (any && touch_first < f.start) {
        f.start = mm_align_down(start, MM_PAGE_SIZE);
    }
    if (any && touch_last < MEMORY_END && touch_last >= f.end) {
        f.end = mm_align_down(touch_last, MM_PAGE_SIZE) + MM_PAGE_SIZE;
    }
    return f;
}

mm_status_t mm_bootmap_next_frames(struct mm_bootmap *map, uint32_t whole, uint32_t touched,
                                   mm_paddr_t from, struct mm_prange *out)
{
    mm_status_t status = mm_bootmap_normalize(map);
    struct frames got = {0, 0};
    uint64_t at;

    if (status != MM_OK) {
        return status;
    }
    if (out == NULL || (whole | touched) == 0 || ((whole | touched) & ~KINDS_ALL) != 0) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (from.raw >= MEMORY_END) {
        return MM_ERR_REGION_NOT_FOUND;
    }
    at = mm_align_down(from.raw + MM_PAGE_MASK, MM_PAGE_SIZE);
    for (uint32_t i = find(map, at); i < map->nr;) {
        struct frames f;

        if (((whole | touched) & MM_BOOT_BIT(map->entries[i].kind)) == 0) {
            i++;
            continue;
        }
        f = run_at(map, &i, whole, touched);
        f.start = f.start < at ? at : f.start;
        if (f.start >= f.end) {
            continue;
        }
        if (got.end != 0 && f.start > got.end) {
            break;
        }
        got.start = got.end != 0 ? got.start : f.start;
        got.end = f.end;
    }
    if (got.end == 0) {
        return MM_ERR_REGION_NOT_FOUND;
    }
    *out = mm_prange(mm_paddr(got.start), got.end - got.start);
    return MM_OK;
}

mm_status_t mm_bootmap_next(struct mm_bootmap *map, enum mm_boot_kind kind, mm_paddr_t from,
                            struct mm_prange *out)
{
    if ((uint32_t)kind >= MM_BOOT_KIND_COUNT) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    return mm_bootmap_next_frames(map, MM_BOOT_BIT(kind), 0, from, out);
}

/* Whole frames of an entry inside `within`; empty if it is not usable. */
static struct frames usable_frames(const struct mm_boot_entry *entry, struct mm_prange within)
{
    uint64_t start = entry->range.start.raw;
    uint64_t last = mm_prange_last(entry->range).raw;
    struct frames none = {0, 0};

    if (entry->kind != MM_BOOT_USABLE || !mm_prange_overlaps(entry->range, within)) {
        return none;
    }
    if (start < within.start.raw) {
        start = within.start.raw;
    }
    if (last > mm_prange_last(within).raw) {
        last = mm_prange_last(within).raw;
    }
    return inwards(start, last);
}

mm_status_t mm_bootmap_largest(struct mm_bootmap *map, struct mm_prange within,
                               struct mm_prange *out)
{
    mm_status_t status = mm_bootmap_normalize(map);
    struct frames best = {0, 0};

    if (status != MM_OK) {
        return status;
    }
    if (out == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (!mm_prange_valid(within)) {
        return MM_ERR_INVALID_SIZE;
    }
    for (uint32_t i = 0; i < map->nr; i++) {
        struct frames f = usable_frames(&map->entries[i], within);

        if (f.start < f.end && f.end - f.start > best.end - best.start) {
            best = f;
        }
    }
    if (best.end == best.start) {
        return MM_ERR_REGION_NOT_FOUND;
    }
    *out = mm_prange(mm_paddr(best.start), best.end - best.start);
    return MM_OK;
}

/* The highest fit of `len` bytes inside `within`. */
static bool find_top(const struct mm_bootmap *map, uint64_t len, uint64_t align,
                     struct mm_prange within, uint64_t *start)
{
    for (uint32_t i = map->nr; i > 0; i--) {
        struct frames f = usable_frames(&map->entries[i - 1], within);

        if (f.start == 0) {
            f.start = MM_PAGE_SIZE; /* frame 0 is never taken */
        }
        if (f.start < f.end && len <= f.end - f.start) {
            uint64_t at = mm_align_down(f.end - len, align);

            if (at >= f.start) {
                *start = at;
                return true;
            }
        }
    }
    return false;
}

mm_status_t mm_bootmap_take(struct mm_bootmap *map, uint64_t len, uint64_t align,
                            struct mm_prange within, struct mm_prange *out)
{
    mm_status_t status = mm_bootmap_normalize(map);
    struct mm_prange taken;

    if (status != MM_OK) {
        return status;
    }
    if (out == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (len == 0 || !mm_prange_valid(within)) {
        return MM_ERR_INVALID_SIZE;
    }
    if (!mm_is_pow2(align) || align < MM_PAGE_SIZE) {
        return MM_ERR_NOT_ALIGNED;
    }
    if (!mm_align_up(len, MM_PAGE_SIZE, &taken.len) ||
        !find_top(map, taken.len, align, within, &taken.start.raw)) {
        return MM_ERR_NO_MEMORY;
    }
    status = mm_bootmap_add(map, taken, MM_BOOT_METADATA);
    if (status != MM_OK) {
        return status;
    }
    *out = taken;
    return mm_bootmap_normalize(map);
}

mm_status_t mm_bootmap_give(struct mm_bootmap *map, struct mm_prange range)
{
    mm_status_t status = mm_bootmap_normalize(map);
    struct mm_boot_entry *held;
    uint64_t before;
    uint64_t after;
    uint32_t rests;

    if (status != MM_OK) {
        return status;
    }
    if (!mm_is_aligned(range.start.raw | range.len, MM_PAGE_SIZE)) {
        return MM_ERR_NOT_ALIGNED;
    }
    if (range.len == 0 || !mm_prange_valid(range)) {
        return MM_ERR_INVALID_SIZE;
    }
    held = &map->entries[find(map, range.start.raw)];
    if (held == &map->entries[map->nr] || held->kind != MM_BOOT_METADATA ||
        !mm_prange_covers(held->range, range)) {
        return MM_ERR_INVALID_ADDRESS;
    }
    before = range.start.raw - held->range.start.raw;
    after = held->range.len - before - range.len;
    rests = (before != 0 ? 1u : 0u) + (after != 0 ? 1u : 0u);
    /* Each rest is cut off at an address of its own. */
    if (map->capacity + 1 - map->boundaries < rests) {
        return MM_ERR_LIMIT;
    }
    if (before != 0) {
        map->entries[map->nr++] = (struct mm_boot_entry){
            .range = mm_prange(held->range.start, before), .kind = MM_BOOT_METADATA};
    }
    if (after != 0) {
        map->entries[map->nr++] =
            (struct mm_boot_entry){.range = mm_prange(mm_paddr(range.start.raw + range.len), after),
                                   .kind = MM_BOOT_METADATA};
    }
    *held = (struct mm_boot_entry){.range = range, .kind = MM_BOOT_USABLE};
    map->boundaries += rests;
    map->normalized = 0;
    return mm_bootmap_normalize(map);
}

mm_status_t mm_bootmap_reclaim(struct mm_bootmap *map, enum mm_boot_kind kind)
{
    /* Before the change: where kinds overlap, the higher one stays. */
    mm_status_t status = mm_bootmap_normalize(map);

    if (status != MM_OK) {
        return status;
    }
    if (kind != MM_BOOT_BOOTLOADER && kind != MM_BOOT_ACPI_RECLAIM) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    for (uint32_t i = 0; i < map->nr; i++) {
        if (map->entries[i].kind == (uint32_t)kind) {
            map->entries[i].kind = MM_BOOT_USABLE;
            map->normalized = 0; /* it may have a neighbour to merge with */
        }
    }
    return mm_bootmap_normalize(map);
}

uint64_t mm_bootmap_usable_bytes(struct mm_bootmap *map)
{
    uint64_t bytes = 0;

    if (mm_bootmap_normalize(map) != MM_OK) {
        return 0;
    }
    for (uint32_t i = 0; i < map->nr; i++) {
        struct frames f = usable_frames(&map->entries[i], mm_prange(mm_paddr(0), UINT64_MAX));

        bytes += f.start < f.end ? f.end - f.start : 0;
    }
    return bytes;
}

const char *mm_boot_kind_str(enum mm_boot_kind kind)
{
    switch (kind) {
    case MM_BOOT_USABLE:
        return "usable";
    case MM_BOOT_BOOTLOADER:
        return "bootloader";
    case MM_BOOT_ACPI_RECLAIM:
        return "ACPI tables";
    case MM_BOOT_METADATA:
        return "metadata";
    case MM_BOOT_KERNEL:
        return "kernel";
    case MM_BOOT_MODULE:
        return "module";
    case MM_BOOT_RUNTIME:
        return "runtime services";
    case MM_BOOT_ACPI_NVS:
        return "ACPI NVS";
    case MM_BOOT_PERSISTENT:
        return "persistent";
    case MM_BOOT_FRAMEBUFFER:
        return "framebuffer";
    case MM_BOOT_RESERVED:
        return "reserved";
    case MM_BOOT_MMIO:
        return "MMIO";
    case MM_BOOT_BAD:
        return "bad";
    }
    return "?";
}
