// SPDX-License-Identifier: MIT
/**
 * A stream of operations on the heap and an object cache against the model of blocks: contents are
 * compared, nothing overlaps, statistics agree. The first byte chooses the page source (a range, or
 * frames), how much of it there is, and whether there is a large pool over another. At the end all
 * is freed, and every page is back.
 */
#include "fuzz.h"

#include "heap_world.h"

#define MAX_OPS  400u
#define MAX_LIVE 200u
#define OBJECT   200u
#define BULK     80u
#define LARGE    (16 * KiB)

struct run {
    struct world *world;
    struct world *large; /* of the large pool, or null */
    struct mm_cache cache;
    struct t_mheap blocks;
    struct t_mheap objects; /* of the cache */
    uint64_t nr_refused;
};

static struct world *worlds[4];
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
    uint64_t align = usable & (0 - usable);
    uint64_t asked = t_mheap_find(&r.blocks, block)->tag;
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
        FZ_LEGAL(t_mheap_verify(&r.blocks, block));
        return;
    }
    align = align > 4096 ? 4096 : align;
    align = natural(size) > align ? natural(size) : align;
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

static bool panics_sized(void *block, uint64_t size)
{
    struct t_trap_info info;

    T_CATCH(T_TRAP_PANIC, mm_heap_free_sized(&r.world->heap, block, size, 0), &info);
    return info.kind == T_TRAP_PANIC;
}

static bool panics(void *block)
{
    struct t_trap_info info;

    T_CATCH(T_TRAP_PANIC, mm_heap_free(&r.world->heap, block), &info);
    return info.kind == T_TRAP_PANIC;
}

/* What no block begins with must not be freed: it is a panic, and changes nothing. */
static void op_foreign(unsigned how)
{
    char *block = choose_block(&r.blocks);
    const struct t_mheap_block *found = t_mheap_find(&r.blocks, block);
    uint64_t offset = 1 + fz_below(found->size < 65536 ? found->size + 1 : 65536);

    fz_op("free with a wrong size");
    FZ_TRUE(panics_sized(block, mm_heap_usable_size(&r.world->heap, block) + offset));
    fz_op("free of the inside");
    if (found->size > 1 && offset < found->size) {
        FZ_TRUE(panics(block + offset));
    }
    fz_op("double free");
    if (how % 2 == 0 && r.blocks.nr > 1) {
        op_free(block, 0);
        FZ_TRUE(panics(block));
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
    FZ_TRUE(stats.slab_bytes + stats.run_bytes >= stats.object_bytes);
    FZ_LEGAL(t_mheap_verify_all(&r.blocks));
    FZ_LEGAL(t_mheap_verify_all(&r.objects));
}

static void step(void)
{
    unsigned op = fz_u8();
    unsigned how = op / 16;

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
        break;
    case 4: /* the page source fails for a while */
        t_inject_nth(&r.world->inject, 1 + how);
        break;
    case 5:
        if (r.blocks.nr > 0) {
            op_foreign(how);
        }
        break;
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
}

/* --- one input ----------------------------------------------------------------------------------
 */

static void stop(void)
{
    fz_op("the end");
    compare();
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
    FZ_EQUAL(r.world->nr_out, world_meta(r.world));
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
    r = (struct run){.world = world};
    clean(world);
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
