// SPDX-License-Identifier: MIT
/**
 * Whether the world is as it was, and if not, where it differs.
 *
 * Two ways. Byte by byte, for a call that refused its arguments: it has touched nothing. And by
 * state, for a call that took what it needed, failed and gave all back: then bytes of free memory
 * differ, and those of hints and statistics, which the masks below name one by one. What a mask
 * hides is seen in another way by the *view*: who holds which frame, which objects are allocated and
 * what is in them, which regions there are, what the maps say.
 */
#include "hash.h"
#include "kept.h"
#include "ledger_mm.h"
#include "world.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGE      UINT64_C(4096)
#define NR_FRAMES ((T_RAM_LEN + T_RAM2_LEN) / PAGE)

struct mask {
    size_t offset, len;
    const char *why;
};

#define MASK(field, why)                                                                           \
    {                                                                                              \
        offsetof(struct t_world, field), sizeof(((struct t_world *)0)->field), why                 \
    }
#define MASK_CACHE(field)                                                                          \
    MASK(field.objects, "lists, hints and counts of slabs"), MASK(field.nr_failed, "statistic"),   \
        MASK(field.hints_inline, "hints")
#define MASK_HEAP(field)                                                                           \
    MASK(field.nr_failed, "statistic"), MASK(field.classes, "lists, hints and counts of slabs"),   \
        MASK(field.runs, "lists of runs"), MASK(field.large, "lists of large runs"),               \
        MASK(field.hints_inline, "hints")
#define MASK_POOL(field)                                                                           \
    MASK(field.slabs, "descriptors kept for reuse"),                                               \
        MASK(field.slab_pages, "pages of descriptors kept for reuse"),                             \
        MASK(field.nr_meta_pages, "the same, counted"),                                            \
        MASK(field.nr_watched, "numbers are never used twice, also that of a heap that failed"),   \
        MASK(field.nr_given, "statistic of what went back to the source"),                         \
        MASK(field.root_inline, "nodes of the table, kept for reuse")
#define MASK_KVA(field)                                                                            \
    MASK(field.nr_failed, "statistic"), MASK_CACHE(field.nodes),                                   \
        MASK(field.gather, "of no use between two calls"),                                         \
        MASK(field.unused, "of no use between two calls")
#define MASK_FRAMES(field)                                                                         \
    MASK(field.nr_failed_by, "statistic"), MASK(field.unsettled, "statistic of corrections"),      \
        MASK(field.strayed, "hint of hints"), MASK(field.fresh, "hint")
#define MASK_SPACES(field)                                                                         \
    MASK_CACHE(field.space_cache), MASK_CACHE(field.region_cache), MASK_CACHE(field.bucket_cache), \
        MASK_CACHE(field.claim_cache),                                                             \
        MASK(field.next_id, "numbers are never used twice, also that of a space that failed")

/* In the order of struct t_world. */
static const struct mask masks[] = {
    MASK(pool_buffer, "free objects and metadata: the view tells what is allocated"),
    MASK(range_buffer, "free pages: the view tells"),
    MASK(region_buffer, "free pages: the heap over it is compared"),
    MASK(metadata, "bitmap, summaries and hints: the view tells"),
    MASK(metadata2, "free"),
    MASK(entries, "order, and entries out of use: the view tells"),
    MASK(raw_entries, "order, and entries out of use: the view tells"),
    MASK(sys_entries, "order, and entries out of use: the view tells"),
    MASK(spare_entries, "order, and entries out of use: the view tells"),
    MASK(many_entries, "order, and entries out of use: the view tells"),
    MASK(fresh_entries, "entries out of use"),
    MASK(map, "order: the view tells"),
    MASK(raw, "order: the view tells"),
    MASK(sys_map, "order: the view tells"),
    MASK(spare_map, "order: the view tells"),
    MASK(empty_map, "order: the view tells"),
    MASK(numa_ranges, "written into before it is seen that there is no room: not in use"),
    MASK(numa_cpus, "written into before it is seen that there is no room: not in use"),
    MASK_FRAMES(frames),
    MASK(tlb.next_id, "an id that a root had is never used again"),
    MASK(tlb_cpus, "what a CPU counted, and what it once saw"),
    MASK(range.nr_free, "pages of the pool: the view tells"),
    MASK(range.unsettled, "statistics"),
    MASK(range.nr_given, "statistics"),
    MASK_POOL(pool),
    MASK_CACHE(cache),
    MASK_HEAP(heap),
    MASK_POOL(cold_pool),
    MASK_CACHE(cold_cache),
    MASK_HEAP(cold_heap),
    MASK_HEAP(large_heap),
    MASK_HEAP(watched_heap),
    MASK_CACHE(watched_cache),
    MASK_KVA(kva),
    MASK_SPACES(spaces),
    MASK_FRAMES(spare.frames),
    MASK(spare.range.unsettled, "statistics"),
    MASK(spare.range.nr_given, "statistics"),
    MASK_POOL(spare.pool),
    MASK_CACHE(spare.cache),
    MASK_HEAP(spare.heap),
    MASK_KVA(spare.kva),
    MASK_SPACES(spare.spaces),
    MASK(spare.system.spaces, "a manager over the pool: its objects are gone, or told by the view"),
};

/* For messages: which member of the world a byte lies in. */
#define MEMBER(field)                                                                              \
    {                                                                                              \
        offsetof(struct t_world, field), sizeof(((struct t_world *)0)->field), #field              \
    }

static const struct mask members[] = {
    MEMBER(pool_buffer),  MEMBER(range_buffer),
    MEMBER(metadata),     MEMBER(metadata2),
    MEMBER(multiboot2),   MEMBER(cpu),
    MEMBER(entries),      MEMBER(raw_entries),
    MEMBER(sys_entries),  MEMBER(spare_entries),
    MEMBER(many_entries), MEMBER(fresh_entries),
    MEMBER(map),          MEMBER(raw),
    MEMBER(sys_map),      MEMBER(spare_map),
    MEMBER(empty_map),    MEMBER(numa_tables),
    MEMBER(numa),         MEMBER(numa_srat),
    MEMBER(numa_unread),  MEMBER(numa_small),
    MEMBER(numa_ranges),  MEMBER(numa_cpus),
    MEMBER(frames),       MEMBER(window),
    MEMBER(arch),         MEMBER(kernel),
    MEMBER(user),         MEMBER(user2),
    MEMBER(gather),       MEMBER(gather_kernel),
    MEMBER(tlb),          MEMBER(tlb_cpus),
    MEMBER(range),        MEMBER(pages),
    MEMBER(pool),         MEMBER(cache),
    MEMBER(heap),         MEMBER(cold_pool),
    MEMBER(cold_cache),   MEMBER(cold_heap),
    MEMBER(large_heap),   MEMBER(region_buffer),
    MEMBER(watched_heap), MEMBER(watched_cache),
    MEMBER(kva),          MEMBER(percpu),
    MEMBER(spaces),       MEMBER(dma),
    MEMBER(region),       MEMBER(uaccess),
    MEMBER(spare),        MEMBER(fresh),
    MEMBER(never),        MEMBER(gone),
    MEMBER(user_memory),  MEMBER(in),
    MEMBER(out),          MEMBER(out2),
    MEMBER(sections),     MEMBER(device),
    MEMBER(sys_ranges),   MEMBER(physmap),
    MEMBER(list),         MEMBER(efi_map),
    MEMBER(e820_map),     MEMBER(limine_map),
    MEMBER(limine_list),  MEMBER(slice),
    MEMBER(slice_in),     MEMBER(slice_out),
};

/* --- the view ---------------------------------------------------------------------------------- */

#define NR_CACHES 15
#define NR_HEAPS  5
#define NR_SPACES 4
#define NR_MAPS   5

struct t_view {
    uint32_t refs[NR_FRAMES];
    uint64_t caches[NR_CACHES]; /* objects allocated */
    uint64_t heaps[NR_HEAPS];   /* a hash of what is allocated */
    uint64_t contents;          /* of the objects that the world holds */
    uint64_t spaces[NR_SPACES]; /* a hash of regions and sizes */
    uint64_t maps[NR_MAPS];
    uint64_t range_out; /* pages of the spare range */
    uint64_t pool_users;
    uint64_t arenas; /* a hash of what they hold */
};

static uint64_t frame_of(unsigned i)
{
    return i < T_RAM_LEN / PAGE ? T_RAM_START / PAGE + i
                                : T_RAM2_START / PAGE + (i - T_RAM_LEN / PAGE);
}

static const struct mm_cache *caches[NR_CACHES] = {
    &t_w.cache,
    &t_w.spare.cache,
    &t_w.cold_cache,
    &t_w.fresh.cache,
    &t_w.spaces.space_cache,
    &t_w.spaces.region_cache,
    &t_w.spaces.bucket_cache,
    &t_w.spaces.claim_cache,
    &t_w.spare.spaces.space_cache,
    &t_w.spare.spaces.region_cache,
    &t_w.spare.spaces.bucket_cache,
    &t_w.spare.spaces.claim_cache,
    &t_w.kva.nodes,
    &t_w.spare.kva.nodes,
    &t_w.watched_cache,
};
static const struct mm_heap *heaps[NR_HEAPS] = {&t_w.heap, &t_w.spare.heap, &t_w.cold_heap,
                                                &t_w.large_heap, &t_w.watched_heap};
static const struct mm_bootmap *maps[NR_MAPS] = {&t_w.map, &t_w.raw, &t_w.sys_map, &t_w.spare_map,
                                                 &t_w.empty_map};

static uint64_t map_hash(const struct mm_bootmap *map)
{
    struct mm_boot_entry entries[64];
    struct mm_bootmap copy = *map;

    if (map->magic == 0) {
        return 0;
    }
    if (map->nr > 32) {
        return t_hash(map->entries, map->nr * sizeof(entries[0])); /* it was in order */
    }
    memcpy(entries, map->entries, map->nr * sizeof(entries[0]));
    copy.entries = entries;
    return mm_bootmap_normalize(&copy) == MM_OK ? t_hash(entries, copy.nr * sizeof(entries[0])) : 1;
}

static uint64_t space_hash(struct mm_space *space)
{
    struct mm_region_info info;
    struct mm_space_stats stats;
    uint64_t hash = T_HASH_START;

    if (space == NULL || mm_space_get_stats(space, &stats) != MM_OK) {
        return 0;
    }
    for (mm_vaddr_t at = {0}; mm_space_next(space, at, &info) == MM_OK;
         at = mm_vaddr(info.range.start.raw + info.range.len)) {
        hash = t_hash_u64(hash, info.range.start.raw);
        hash = t_hash_u64(hash, info.range.len);
        hash = t_hash_u64(hash, info.prot | (uint64_t)info.flags << 32);
        hash = t_hash_u64(hash, info.tag);
    }
    hash = t_hash_u64(hash, stats.mapped_bytes);
    hash = t_hash_u64(hash, stats.resident_bytes);
    hash = t_hash_u64(hash, stats.nr_tables);
    return t_hash_finish(t_hash_u64(hash, stats.refs));
}

static uint64_t arena_hash(const struct mm_kva *kva)
{
    struct mm_kva_stats stats;

    if (mm_kva_get_stats(kva, &stats) != MM_OK) {
        return 0;
    }
    stats.nr_failed = 0;
    return t_hash(&stats, sizeof(stats));
}

static void look(struct t_view *view)
{
    struct mm_cache_stats cache;
    struct mm_heap_stats heap;
    struct mm_pool_stats pool;

    memset(view, 0, sizeof(*view));
    for (unsigned i = 0; i < NR_FRAMES; i++) {
        view->refs[i] = mm_frame_refs(&t_w.frames, mm_pfn(frame_of(i)));
    }
    for (unsigned i = 0; i < NR_CACHES; i++) {
        view->caches[i] = mm_cache_get_stats(caches[i], &cache) == MM_OK ? cache.nr_objects + 1 : 0;
    }
    for (unsigned i = 0; i < NR_HEAPS; i++) {
        if (mm_heap_get_stats(heaps[i], &heap) == MM_OK) {
            view->heaps[i] = t_hash_u64(t_hash_u64(heap.nr_objects + 1, heap.object_bytes),
                                        t_hash_u64(heap.nr_runs, heap.run_bytes));
        }
    }
    view->contents = t_hash_more(T_HASH_START, t_w.cache_object, 40);
    view->contents = t_hash_more(view->contents, t_w.heap_object, 200);
    view->contents = t_hash_more(view->contents, t_w.heap_run, 3 * PAGE);
    if (t_w.spaces.magic != 0) {
        struct mm_space *spaces[NR_SPACES] = {t_w.space, t_w.child, t_w.lone,
                                              mm_space_kernel(&t_w.spaces)};

        for (unsigned i = 0; i < NR_SPACES; i++) {
            view->spaces[i] = space_hash(spaces[i]);
        }
    }
    for (unsigned i = 0; i < NR_MAPS; i++) {
        view->maps[i] = map_hash(maps[i]);
    }
    view->range_out = t_w.spare.range.nr_pages - t_w.spare.range.nr_free;
    view->arenas = arena_hash(&t_w.kva) + 3 * arena_hash(&t_w.spare.kva);
    view->pool_users = mm_pool_get_stats(&t_w.pool, &pool) == MM_OK ? pool.nr_users + 1 : 0;
}

static struct t_view kept_view;

void t_world_keep_view(void)
{
    look(&kept_view);
}

/* --- comparing --------------------------------------------------------------------------------- */

static bool differs(const char *what, uint64_t at, uint64_t was, uint64_t is)
{
    (void)snprintf(t_h.why, sizeof(t_h.why), "%s (at %#llx): was %#llx, is %#llx", what,
                   (unsigned long long)at, (unsigned long long)was, (unsigned long long)is);
    return false;
}

static size_t first_difference(const unsigned char *a, const unsigned char *b, size_t len)
{
    size_t at = 0;

    while (at < len && a[at] == b[at]) {
        at++;
    }
    return at;
}

static bool same_bytes(const char *name, const void *is, const void *was, size_t len, uint64_t base)
{
    const unsigned char *a = is;
    const unsigned char *b = was;
    size_t at;

    if (memcmp(is, was, len) == 0) {
        return true;
    }
    at = first_difference(a, b, len);
    return differs(name, base + at, b[at], a[at]);
}

/* The bytes of t_w from `from` up to `to`. */
static bool same_world(size_t from, size_t to)
{
    const unsigned char *is = (const unsigned char *)&t_w;
    const unsigned char *was = (const unsigned char *)t_world_kept();
    size_t at;

    if (to <= from || memcmp(is + from, was + from, to - from) == 0) {
        return true;
    }
    at = from + first_difference(is + from, was + from, to - from);
    for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
        if (at - members[i].offset < members[i].len) {
            return differs(members[i].why, at - members[i].offset, was[at], is[at]);
        }
    }
    return differs("world", at, was[at], is[at]);
}

static bool same_ram_bytes(void)
{
    static const uint64_t ranges[][2] = {
        {T_RAM_START, T_RAM_LEN}, {T_RAM2_START, T_RAM2_LEN}, {T_SYS_START, T_SYS_LEN}};

    for (unsigned i = 0; i < 3; i++) {
        if (!same_bytes("RAM", t_ram_ptr(t_h.ram, ranges[i][0]), t_world_kept_ram(ranges[i][0]),
                        ranges[i][1], ranges[i][0])) {
            return false;
        }
    }
    return true;
}

static bool same_view(void)
{
    struct t_view view;

    look(&view);
    for (unsigned i = 0; i < NR_FRAMES; i++) {
        uint64_t paddr = frame_of(i) * PAGE;

        if (view.refs[i] != kept_view.refs[i]) {
            return differs("references of a frame", paddr, kept_view.refs[i], view.refs[i]);
        }
        if (view.refs[i] != 0 && !same_bytes("an allocated frame", t_ram_ptr(t_h.ram, paddr),
                                             t_world_kept_ram(paddr), PAGE, paddr)) {
            return false;
        }
    }
    for (unsigned i = 0; i < NR_CACHES; i++) {
        if (view.caches[i] != kept_view.caches[i]) {
            return differs("objects of a cache, plus 1", i, kept_view.caches[i], view.caches[i]);
        }
    }
    for (unsigned i = 0; i < NR_HEAPS; i++) {
        if (view.heaps[i] != kept_view.heaps[i]) {
            return differs("hash of a heap's objects", i, kept_view.heaps[i], view.heaps[i]);
        }
    }
    for (unsigned i = 0; i < NR_SPACES; i++) {
        if (view.spaces[i] != kept_view.spaces[i]) {
            return differs("hash of a space's regions", i, kept_view.spaces[i], view.spaces[i]);
        }
    }
    for (unsigned i = 0; i < NR_MAPS; i++) {
        if (view.maps[i] != kept_view.maps[i]) {
            return differs("hash of a boot map", i, kept_view.maps[i], view.maps[i]);
        }
    }
    return (view.contents == kept_view.contents ||
            differs("contents of objects", 0, kept_view.contents, view.contents)) &&
           (view.arenas == kept_view.arenas ||
            differs("hash of the arenas", 0, kept_view.arenas, view.arenas)) &&
           (view.range_out == kept_view.range_out ||
            differs("pages of a range", 0, kept_view.range_out, view.range_out)) &&
           (view.pool_users == kept_view.pool_users ||
            differs("users of the pool, plus 1", 0, kept_view.pool_users, view.pool_users));
}

bool t_world_same(enum t_compare how)
{
    size_t at = 0;

    if (how == T_SAME_BYTES) {
        return same_world(0, sizeof(t_w)) && same_ram_bytes();
    }
    for (size_t i = 0; i < sizeof(masks) / sizeof(masks[0]); i++) {
        if (masks[i].offset < at) {
            fprintf(stderr, "compare: the masks are not in the order of the world\n");
            abort();
        }
        if (!same_world(at, masks[i].offset)) {
            return false;
        }
        at = masks[i].offset + masks[i].len;
    }
    return same_world(at, sizeof(t_w)) && same_view();
}

/* --- sound ------------------------------------------------------------------------------------- */

/* Pages of the pool: each is metadata, a slab's, or a run's. */
static bool pages_balance(void)
{
    uint64_t out = t_w.range.nr_pages - t_w.range.nr_bitmap_pages - t_w.range.nr_free;
    const struct mm_pool *pools[] = {&t_w.pool, &t_w.spare.pool, &t_w.fresh.pool, &t_w.cold_pool};
    const struct mm_heap *all[] = {&t_w.heap,      &t_w.spare.heap, &t_w.fresh.heap,
                                   &t_w.cold_heap, &t_w.large_heap, &t_w.watched_heap};
    const struct mm_cache *more[] = {&t_w.fresh.spaces.space_cache, &t_w.fresh.spaces.region_cache,
                                     &t_w.fresh.spaces.bucket_cache, &t_w.fresh.spaces.claim_cache,
                                     &t_w.fresh.kva.nodes};
    struct mm_cache_stats cache;
    struct mm_heap_stats heap;
    struct mm_pool_stats pool;
    uint64_t known = t_h.nr_pages_held;

    for (unsigned i = 0; i < 4; i++) {
        known += mm_pool_get_stats(pools[i], &pool) == MM_OK ? pool.nr_meta_pages : 0;
    }
    for (unsigned i = 0; i < 6; i++) {
        known += mm_heap_get_stats(all[i], &heap) == MM_OK
                     ? (heap.slab_bytes + heap.run_bytes + heap.kept_bytes) / PAGE
                     : 0;
    }
    for (unsigned i = 0; i < NR_CACHES; i++) {
        known += mm_cache_get_stats(caches[i], &cache) == MM_OK ? cache.slab_bytes / PAGE : 0;
    }
    for (unsigned i = 0; i < sizeof(more) / sizeof(more[0]); i++) {
        known += mm_cache_get_stats(more[i], &cache) == MM_OK ? cache.slab_bytes / PAGE : 0;
    }
    return known == out ||
           differs("pages that the pool has out, and those with an owner", 0, known, out);
}

#define SOUND(alive, call)                                                                         \
    do {                                                                                           \
        if ((alive) && (call) != MM_OK) {                                                          \
            (void)snprintf(t_h.why, sizeof(t_h.why), "%s", #call);                                 \
            return false;                                                                          \
        }                                                                                          \
    } while (0)

bool t_world_sound(void)
{
    SOUND(t_w.frames.magic != 0, mm_frame_check(&t_w.frames));
    SOUND(t_w.kernel.magic != 0, mm_paging_check(&t_w.kernel));
    SOUND(t_w.user.magic != 0, mm_paging_check(&t_w.user));
    SOUND(t_w.user2.magic != 0, mm_paging_check(&t_w.user2));
    SOUND(t_w.cache.magic != 0, mm_cache_check(&t_w.cache));
    SOUND(t_w.heap.magic != 0, mm_heap_check(&t_w.heap));
    SOUND(t_w.large_heap.magic != 0, mm_heap_check(&t_w.large_heap));
    SOUND(t_w.watched_heap.magic != 0, mm_heap_check(&t_w.watched_heap));
    SOUND(t_w.watched_cache.magic != 0, mm_cache_check(&t_w.watched_cache));
    SOUND(t_w.kva.magic != 0, mm_kva_check(&t_w.kva));
    SOUND(t_w.spare.kva.magic != 0, mm_kva_check(&t_w.spare.kva));
    SOUND(t_w.fresh.kva.magic != 0, mm_kva_check(&t_w.fresh.kva));
    if (t_h.nr_mapped != 0) {
        return differs("frames that the physmap's ops have mapped", 0, 0, t_h.nr_mapped);
    }
    if (t_w.range.magic != 0 && !pages_balance()) {
        return false;
    }
    return true;
}

bool t_world_balanced(void)
{
    struct t_ledger *ledger = t_ledger_open(&t_w.frames, t_w.physmap.base, T_RAM_END / PAGE);
    const struct mm_pagetable *users[] = {&t_w.user, &t_w.user2};
    struct mm_vrange none = {{0}, 0};
    struct mm_space *spaces[] = {t_w.space, t_w.child, t_w.lone};
    const char *wrong;

    t_ledger_root(ledger, &t_w.kernel, NULL, mm_vrange(mm_vaddr(T_ARENA), T_ARENA_LEN));
    t_ledger_root(ledger, &t_w.spare.pt, NULL, none);
    for (unsigned i = 0; i < 2; i++) {
        t_ledger_root(ledger, users[i], &t_w.kernel, none);
    }
    for (unsigned i = 0; i < 3; i++) {
        t_ledger_space(ledger, spaces[i], &t_w.kernel);
    }
    t_ledger_hold(ledger, t_w.block.raw, 4);
    t_ledger_hold(ledger, t_w.frame.raw, 1);
    t_ledger_hold(ledger, t_w.frame_shared.raw, 1);
    t_ledger_hold(ledger, t_w.frame_shared.raw, 1);
    for (unsigned i = 0; i < 8; i++) {
        t_ledger_hold(ledger, t_w.list[i].raw, t_w.list[i].raw == 0 ? 0 : 1);
    }
    for (uint32_t i = 0; i < t_h.nr_held; i++) {
        t_ledger_hold(ledger, t_h.held[i].raw, 1);
    }
    t_ledger_hold(ledger, t_w.region.range.start.raw / PAGE, t_w.region.nr_frames);
    for (unsigned i = 0; i < t_w.kva_nr_frames; i++) {
        t_ledger_hold(ledger, t_w.kva_frames[i], 1);
    }
    wrong = t_ledger_close(ledger,
                           t_w.pages.nr_pages_out + t_w.kva.nr_reserve + t_w.spare.kva.nr_reserve);
    if (wrong != NULL) {
        (void)snprintf(t_h.why, sizeof(t_h.why), "%s", wrong);
    }
    return wrong == NULL;
}
