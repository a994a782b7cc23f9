// SPDX-License-Identifier: MIT
/**
 * A stream of operations on the heap and an object cache against the model of blocks: contents are
 * compared, nothing overlaps, statistics agree. The first byte chooses the page source (a range, or
 * frames), how much of it there is, whether there is a large pool over another, and the tier: what
 * is recorded, sampled and set aside, and whether misuse is a report or a panic. What a hardened
 * heap must tell is done to it, and told once. At the end all is freed, and every page is back.
 */
#include "fuzz.h"

#include "heap_world.h"

#include "guard_pages.h"

#define MAX_OPS  400u
#define MAX_LIVE 200u
#define OBJECT   200u
#define BULK     80u
#define LARGE    (16 * KiB)

#define SAMPLES 6u
#define ASIDE   (2 * MM_PAGE_SIZE)

/** By the upper half of the first byte. */
static const struct tier {
    enum mm_heap_tier tier;
    uint32_t flags;
    uint32_t quarantine;
    uint32_t sample_every;
    uint32_t nr_reserve;
    bool reports;
} tiers[16] = {
    {MM_HEAP_CHECKED, 0, 0, 0, 0, false},
    {MM_HEAP_CHECKED, 0, 0, 0, 0, false},
    {MM_HEAP_CHECKED, 0, 0, 0, 0, true},
    {MM_HEAP_FAST, 0, 0, 0, 0, false},
    {MM_HEAP_CHECKED, 0, 0, 0, 3, false},
    {MM_HEAP_CHECKED, MM_HEAP_CALLERS, 0, 0, 0, false},
    {MM_HEAP_CHECKED, MM_HEAP_CALLERS, 0, 0, 1, true},
    {MM_HEAP_HARDENED, 0, 0, 0, 0, true},
    {MM_HEAP_HARDENED, 0, 7, 0, 0, true},
    {MM_HEAP_HARDENED, MM_HEAP_CALLERS, 64, 0, 2, false},
    {MM_HEAP_CHECKED, 0, 0, 1, 0, true},
    {MM_HEAP_CHECKED, 0, 0, 5, 0, false},
    {MM_HEAP_FAST, MM_HEAP_CALLERS, 0, 3, 0, true},
    {MM_HEAP_HARDENED, 0, 3, 2, 0, true},
    {MM_HEAP_HARDENED, MM_HEAP_CALLERS, 0, 11, 1, false},
    {MM_HEAP_HARDENED, 0, 1, 0, 0, true},
};

struct run {
    struct world *world;
    const struct tier *tier;
    struct world *large; /* of the large pool, or null */
    struct mm_cache cache;
    struct t_mheap blocks;
    struct t_mheap objects; /* of the cache */
    uint64_t nr_refused;
    uint64_t aside; /* pages of the reserve */
    uint64_t nr_told;
    struct mm_heap_report last;
};

static struct world *worlds[4];
static struct t_guards guards;
static struct mm_heap_guards window;
static struct run r;

static uint64_t choose_size(void)
{
    unsigned how = fz_u8();

    switch (how % 8) {
    case 0:
        return UINT64_C(1) << (how / 8 % 14);
    case 1:
        return fz_below(65536);
    case 2:
        return (UINT64_C(1) << (how / 8 % 14)) + 1;
    case 3:
        return fz_magnitude(64);
    default:
        return fz_below(1024);
    }
}

static void *choose_block(const struct t_mheap *model)
{
    return (void *)(uintptr_t)model->blocks[fz_below(model->nr)].address;
}

static uint64_t natural(uint64_t size)
{
    return size >= 16 && (size & (size - 1)) == 0 ? (size > 4096 ? 4096 : size) : 16;
}

static bool is_sample(const void *block)
{
    return (uint64_t)(uintptr_t)block - window.base < window.len;
}

static void hear(void *ctx, const struct mm_heap_report *report)
{
    (void)ctx;
    r.nr_told++;
    r.last = *report;
}

/* --- operations ---------------------------------------------------------------------------------
 */

static void op_alloc(unsigned how)
{
    struct mm_heap *heap = &r.world->heap;
    uint64_t size = choose_size();
    uint64_t align = natural(size);
    unsigned more = how % 4 == 3 ? fz_u8() : 0;
    uint32_t flags = more & MM_HEAP_FLAGS_ALL;
    uint64_t asked = 0;
    void *block;

    switch (how % 4) {
    case 0:
        fz_op("alloc zeroed");
        block = mm_heap_alloc_zeroed(heap, size);
        FZ_LEGAL(block == NULL ? NULL : t_mheap_zeroed(block, size));
        break;
    case 1:
        asked = UINT64_C(1) << fz_below(18);
        fz_op("alloc aligned");
        block = mm_heap_alloc_aligned(heap, asked, size);
        break;
    case 2:
        fz_op("alloc on");
        block = mm_heap_alloc_on(heap, fz_u8() % 5, size);
        break;
    default:
        switch (more / 4 % 4) {
        case 0:
            fz_op("alloc");
            flags = 0;
            block = mm_heap_alloc(heap, size);
            break;
        case 1:
            fz_op("alloc array");
            size = size / 3 * 3;
            align = natural(size);
            block = mm_heap_alloc_array(heap, size / 3, 3, flags);
            break;
        default:
            asked = more / 16 == 0 ? 0 : UINT64_C(1) << more / 16;
            fz_op("alloc with");
            block = mm_heap_alloc_with(heap, size, asked, flags);
            break;
        }
        FZ_LEGAL(block == NULL || (flags & MM_HEAP_ZEROED) == 0 ? NULL
                                                                : t_mheap_zeroed(block, size));
        break;
    }
    if (block == NULL) {
        r.nr_refused++;
        return;
    }
    align = asked > align ? asked : align;
    FZ_TRUE(mm_heap_usable_size(heap, block) >= size);
    FZ_LEGAL(t_mheap_add(&r.blocks, block, size, align));
    FZ_LEGAL(t_mheap_tag(&r.blocks, block, asked));
}

static void op_resize(unsigned how)
{
    void *block = choose_block(&r.blocks);
    uint64_t usable = mm_heap_usable_size(&r.world->heap, block);
    uint64_t size = choose_size();
    uint64_t nr_refused = r.world->nr_refused;
    uint64_t asked = t_mheap_find(&r.blocks, block)->tag;
    uint64_t align;
    void *moved;

    if (how % 4 == 0) {
        fz_op("realloc array");
        FZ_TRUE(mm_heap_realloc_array(&r.world->heap, block, UINT64_MAX / 2, 3) == NULL);
        size = size / 5 * 5;
        moved = mm_heap_realloc_array(&r.world->heap, block, 5, size / 5);
    } else {
        fz_op("realloc");
        moved = mm_heap_realloc(&r.world->heap, block, size);
    }
    if (moved == NULL) {
        r.nr_refused++;
        FZ_TRUE(size > usable);
        FZ_LEGAL(t_mheap_verify(&r.blocks, block));
        return;
    }
    /* Who stays for want of memory has what was asked for, and no more. */
    align = moved == block && r.world->nr_refused != nr_refused ? 1 : natural(size);
    align = asked > align ? asked : align;
    FZ_LEGAL(t_mheap_resize(&r.blocks, block, moved, size, align));
}

static void op_free(void *block, unsigned how)
{
    const struct t_mheap_block known = *t_mheap_find(&r.blocks, block);

    fz_op("free");
    FZ_LEGAL(t_mheap_remove(&r.blocks, block));
    if (how % 4 == 0) {
        mm_heap_free(&r.world->heap, block);
    } else if (how % 4 == 2) {
        mm_heap_free_sized(&r.world->heap, block, known.size, known.tag);
    } else {
        mm_heap_free_on(&r.world->heap, how / 2 % 4, block);
    }
}

static void op_bulk(unsigned how)
{
    void *objects[BULK];
    uint64_t nr = fz_below(BULK + 1);

    if (how % 2 == 0) {
        fz_op("cache alloc bulk");
        nr = mm_cache_alloc_bulk(&r.cache, how / 2 % 3, nr, objects);
        for (uint64_t i = 0; i < nr; i++) {
            FZ_LEGAL(t_mheap_add(&r.objects, objects[i], OBJECT, 8));
        }
    } else {
        uint64_t first = fz_below(r.objects.nr + 1);

        fz_op("cache free bulk");
        nr = nr < r.objects.nr - first ? nr : r.objects.nr - first;
        for (uint64_t i = 0; i < nr; i++) {
            objects[i] = (void *)(uintptr_t)r.objects.blocks[first].address;
            FZ_LEGAL(t_mheap_remove(&r.objects, objects[i]));
        }
        mm_cache_free_bulk(&r.cache, nr, objects);
    }
}

static void op_cache(unsigned how)
{
    if (how % 8 >= 6 && (how % 2 == 1 || r.objects.nr < MAX_LIVE)) {
        op_bulk(how);
    } else if (how % 2 == 0 && r.objects.nr > 0) {
        void *object = choose_block(&r.objects);

        fz_op("cache free");
        FZ_LEGAL(t_mheap_remove(&r.objects, object));
        mm_cache_free(&r.cache, object);
    } else if (r.objects.nr < MAX_LIVE) {
        void *object;

        fz_op("cache alloc");
        object = mm_cache_alloc_on(&r.cache, how / 2 % 3);
        FZ_LEGAL(object == NULL ? NULL : t_mheap_add(&r.objects, object, OBJECT, 8));
    }
}

/** Whether a free that must not be is told: reported once, or a panic. */
static bool told(void *block, uint64_t size)
{
    uint64_t before = r.nr_told;
    struct t_trap_info info;

    if (size != 0) {
        T_CATCH(T_TRAP_PANIC, mm_heap_free_sized(&r.world->heap, block, size, 0), &info);
    } else {
        T_CATCH(T_TRAP_PANIC, mm_heap_free(&r.world->heap, block), &info);
    }
    return r.tier->reports ? r.nr_told == before + 1 : info.kind == T_TRAP_PANIC;
}

/** Bytes at the end of a block are written, or freed ones: told once, of that block. */
static void op_break(unsigned how)
{
    char *block = choose_block(&r.blocks);
    uint64_t size = t_mheap_find(&r.blocks, block)->size;
    uint64_t align = t_mheap_find(&r.blocks, block)->tag;
    uint64_t nr = 1 + fz_below(12); /* within its fence */
    uint64_t before = r.nr_told;
    uint64_t run_bytes = world_stats(r.world).run_bytes;

    if (r.tier->tier != MM_HEAP_HARDENED || !r.tier->reports || is_sample(block)) {
        return;
    }
    size = size == 0 ? 1 : size;
    fz_op("overflow");
    memset(block + size, 0, nr);
    op_free(block, how);
    FZ_EQUAL(r.nr_told, before + 1);
    FZ_EQUAL(r.last.kind, MM_HEAP_OVERFLOW);
    FZ_EQUAL(r.last.object, (uintptr_t)block);
    FZ_EQUAL(r.last.offset, size);
    FZ_EQUAL(r.last.size, size);
    /* In a slab it waits, and is poison. One that became smaller lies in a run still, if there was no
     * memory to move it. */
    if (size <= 4096 && align <= 4096 && world_stats(r.world).run_bytes == run_bytes) {
        fz_op("write after free");
        block[size - 1] = 0;
        mm_heap_reclaim(&r.world->heap);
        FZ_EQUAL(r.nr_told, before + 2);
        FZ_EQUAL(r.last.kind, MM_HEAP_WRITE_AFTER_FREE);
        FZ_EQUAL(r.last.object, (uintptr_t)block);
        FZ_EQUAL(r.last.offset, size - 1);
    }
}

/* What no block begins with must not be freed: it is told, and changes nothing. */
static void op_foreign(unsigned how)
{
    char *block = choose_block(&r.blocks);
    const struct t_mheap_block *found = t_mheap_find(&r.blocks, block);
    uint64_t offset = 1 + fz_below(found->size < 65536 ? found->size + 1 : 65536);

    fz_op("free with a wrong size");
    FZ_TRUE(r.tier->tier == MM_HEAP_FAST ||
            told(block, mm_heap_usable_size(&r.world->heap, block) + offset));
    fz_op("free of the inside");
    if (found->size > 1 && offset < found->size) {
        FZ_TRUE(told(block + offset, 0));
    }
    fz_op("double free");
    if (how % 2 == 0 && r.blocks.nr > 1) {
        op_free(block, 0);
        FZ_TRUE(told(block, 0));
    }
}

static void compare(void)
{
    struct mm_heap_stats stats = world_stats(r.world);

    FZ_EQUAL(mm_heap_check(&r.world->heap), MM_OK);
    FZ_EQUAL(mm_cache_check(&r.cache), MM_OK);
    FZ_EQUAL(stats.nr_objects, r.blocks.nr);
    FZ_EQUAL(stats.nr_failed, r.nr_refused);
    FZ_TRUE(stats.object_bytes >= r.blocks.bytes);
    FZ_TRUE(r.tier->sample_every != 0 || stats.slab_bytes + stats.run_bytes >= stats.object_bytes);
    FZ_LEGAL(t_mheap_verify_all(&r.blocks));
    FZ_LEGAL(t_mheap_verify_all(&r.objects));
}

static bool count_visit(void *ctx, const struct mm_heap_object *object)
{
    *(uint64_t *)ctx += 1;
    FZ_TRUE(t_mheap_find(&r.blocks, object->object) != NULL);
    return true;
}

static void walk(void)
{
    uint64_t nr = 0;

    FZ_EQUAL(mm_heap_walk(&r.world->heap, count_visit, &nr), MM_OK);
    FZ_EQUAL(nr, r.blocks.nr);
}

static void step(void)
{
    unsigned op = fz_u8();
    unsigned how = op / 16;
    uint64_t nr_told = r.nr_told;

    r.world->log.cpu = how % 3;
    switch (op % 16) {
    case 0:
    case 1:
        op_cache(how);
        break;
    case 2:
        fz_op("reclaim");
        mm_heap_reclaim(&r.world->heap);
        mm_cache_reclaim(&r.cache);
        break;
    case 3:
        fz_op("check");
        compare();
        walk();
        break;
    case 4: /* the page source fails for a while */
        t_inject_nth(&r.world->inject, 1 + how);
        break;
    case 5:
        if (r.blocks.nr > 0 && how >= 12) {
            op_break(how);
        } else if (r.blocks.nr > 0) {
            op_foreign(how);
        }
        return;
    case 6:
    case 7:
        if (r.blocks.nr > 0) {
            op_resize(how);
        }
        break;
    case 8:
    case 9:
    case 10:
        if (r.blocks.nr > 0) {
            op_free(choose_block(&r.blocks), how);
        }
        break;
    default:
        if (r.blocks.nr < MAX_LIVE) {
            op_alloc(how);
        }
        break;
    }
    FZ_EQUAL(r.nr_told, nr_told);
}

/* --- one input ----------------------------------------------------------------------------------
 */

static void stop(void)
{
    fz_op("the end");
    compare();
    walk();
    while (r.blocks.nr > 0) {
        op_free((void *)(uintptr_t)r.blocks.blocks[r.blocks.nr - 1].address, 0);
    }
    while (r.objects.nr > 0) {
        void *object = (void *)(uintptr_t)r.objects.blocks[r.objects.nr - 1].address;

        FZ_LEGAL(t_mheap_remove(&r.objects, object));
        mm_cache_free(&r.cache, object);
    }
    compare();
    mm_heap_reclaim(&r.world->heap);
    mm_cache_reclaim(&r.cache);
    FZ_EQUAL(r.world->nr_out, world_meta(r.world) + r.aside);
    FZ_EQUAL(world_stats(r.world).kept_bytes, r.aside * MM_PAGE_SIZE);
    FZ_EQUAL(guards.nr_opened, guards.nr_closed);
    FZ_TRUE(r.large == NULL || r.large->nr_out == world_meta(r.large));
    FZ_EQUAL(mm_cache_destroy(&r.cache), MM_OK);
    t_mheap_destroy(&r.blocks);
    t_mheap_destroy(&r.objects);
    world_stop(r.world);
    if (r.large != NULL) {
        world_stop(r.large);
    }
}

static void clean(struct world *world)
{
    memset(&world->pool, 0, sizeof(world->pool));
    memset(&world->heap, 0, sizeof(world->heap));
    memset(&world->log, 0, sizeof(world->log));
    t_inject_never(&world->inject);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    worlds[0] = world_of_range(16 * MiB);
    worlds[1] = world_of_range(256 * KiB);
    worlds[2] = world_of_frames(4 * MiB);
    worlds[3] = world_of_frames(256 * KiB);
    window = t_guards_new(&guards, SAMPLES);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mm_cache_config config = {.name = "fuzz", .size = OBJECT};
    struct mm_heap_config heap = {.name = "fuzz"};
    struct world *world;
    unsigned which;

    fz_begin(data, size);
    which = fz_u8();
    world = worlds[which % 4];
    r = (struct run){.world = world, .tier = &tiers[which / 16]};
    clean(world);
    heap.tier = r.tier->tier;
    heap.flags = r.tier->flags;
    heap.quarantine = r.tier->quarantine;
    heap.sample_every = r.tier->sample_every;
    heap.guards = window;
    heap.report = r.tier->reports ? hear : NULL;
    heap.nr_reserve = r.tier->nr_reserve;
    heap.reserve_size = r.tier->nr_reserve != 0 ? ASIDE - 16 : 0; /* with a canary as well */
    r.aside = r.tier->nr_reserve * ASIDE / MM_PAGE_SIZE;
    if (which / 4 % 4 == 1) {
        r.large = worlds[(which + 2) % 4]; /* as large, of the other kind */
        clean(r.large);
        world_start(r.large, 2);
        heap.large = &r.large->pool;
        heap.large_size = LARGE;
    }
    world_start_as(world, 2, &heap);
    t_mheap_init(&r.blocks, 0, 0);
    t_mheap_init(&r.objects, world->inner.base, world->inner.base + world->inner.len);
    FZ_EQUAL(mm_cache_init(&r.cache, &world->pool, &config), MM_OK);
    while (fz_more() && fz.nr_ops < MAX_OPS) {
        step();
    }
    t_inject_never(&world->inject);
    stop();
    return 0;
}
