// SPDX-License-Identifier: MIT
/**
 * Page sources: frames through the direct map, and what a pool does with the address windows of
 * all sources.
 */
#include "heap_world.h"

static mm_status_t take(struct mm_page_source source, uint64_t nr, uint64_t align, void **out)
{
    return source.ops->alloc(source.ctx, nr, align, 0, out);
}

static void give(struct mm_page_source source, void *pages, uint64_t nr)
{
    source.ops->free(source.ctx, pages, nr);
}

static mm_status_t extend(struct mm_page_source source, void *pages, uint64_t nr, uint64_t more)
{
    return source.ops->extend(source.ctx, pages, nr, more, 0);
}

static void test_frames_extend(void **state)
{
    struct world *world = world_of_frames(8 * MiB);
    struct mm_page_source source = world->inner;
    struct mm_frame_stats stats;
    char *pages = NULL;
    void *behind;

    (void)state;
    assert_int_equal(take(source, 100, 1, (void **)&pages), MM_OK);
    give(source, pages + 40 * 4096, 60);
    assert_int_equal(world->pages.nr_pages_out, 40);
    assert_int_equal(extend(source, pages, 0, 1), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(extend(source, pages, 40, 0), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(extend(source, pages, UINT64_MAX, 1), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(extend(source, pages, 40, UINT64_MAX), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(extend(source, pages, 39, 1), MM_ERR_NO_MEMORY); /* its own */
    assert_int_equal(extend(source, pages, 40, 8 * MiB / 4096), MM_ERR_NO_MEMORY);
    for (uint64_t nr = 40; nr < 100; nr += 15) {
        assert_int_equal(extend(source, pages, nr, 15), MM_OK);
        assert_int_equal(world->pages.nr_pages_out, nr + 15);
    }
    assert_int_equal(mm_frame_get_stats(&world->frames, &stats), MM_OK);
    assert_int_equal(stats.nr_free, world->nr_free_frames - 100);
    /* Somebody else's page, right behind. */
    give(source, pages + 50 * 4096, 50);
    assert_int_equal(
        mm_frame_alloc_at(&world->frames,
                          mm_pfn_of(mm_paddr(t_ram_paddr(world->ram, pages + 60 * 4096))), 1),
        MM_OK);
    assert_int_equal(extend(source, pages, 50, 11), MM_ERR_NO_MEMORY);
    assert_int_equal(extend(source, pages, 50, 10), MM_OK);
    behind = pages + 60 * 4096;
    mm_frame_free(&world->frames, mm_pfn_of(mm_paddr(t_ram_paddr(world->ram, behind))), 0);
    give(source, pages, 60);
    assert_int_equal(world->pages.nr_pages_out, 0);
    assert_int_equal(mm_frame_check(&world->frames), MM_OK);
    world_delete(world);
}

static void test_frames_statuses(void **state)
{
    static struct mm_page_frames none;
    static struct mm_frames no_frames;
    static const struct mm_physmap_ops ops;
    struct world *world = world_of_frames(8 * MiB);
    struct mm_physmap direct = mm_physmap_direct(t_ram_base(world->ram));
    struct mm_physmap map = direct;
    void *pages = NULL;

    (void)state;
    assert_int_equal(mm_page_frames_init(NULL, &world->frames, &map), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_page_frames_init(&none, NULL, &map), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_page_frames_init(&none, &world->frames, NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_page_frames_init(&none, &no_frames, &map), MM_ERR_NOT_INITIALIZED);
    assert_int_equal(mm_page_frames_init(&world->pages, &world->frames, &map),
                     MM_ERR_ALREADY_INITIALIZED);
    map.ops = &ops;
    assert_int_equal(mm_page_frames_init(&none, &world->frames, &map), MM_ERR_UNSUPPORTED);
    map = direct;
    map.first = mm_paddr(16 * MiB);
    map.len = 32 * MiB - 4096; /* one frame short */
    assert_int_equal(mm_page_frames_init(&none, &world->frames, &map), MM_ERR_INVALID_ADDRESS);
    map = direct;
    map.base = UINT64_MAX - 20 * MiB + 1; /* wraps between the lowest and the highest */
    assert_int_equal(mm_page_frames_init(&none, &world->frames, &map), MM_ERR_INVALID_ADDRESS);
    assert_int_equal(mm_page_frames_destroy(NULL), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(mm_page_frames_destroy(&none), MM_ERR_NOT_INITIALIZED);
    assert_null(mm_page_source_frames(NULL).ops);
    assert_null(mm_page_source_frames(&none).ops);

    assert_int_equal(take(world->inner, 0, 1, &pages), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(take(world->inner, 1, 3, &pages), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(take(world->inner, UINT64_MAX, 1, &pages), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(take(world->inner, 100000, 1, &pages), MM_ERR_NO_MEMORY);
    assert_null(pages);
    for (uint64_t nr = 1; nr < 1000; nr = nr * 2 + nr % 3) {
        assert_int_equal(take(world->inner, nr, 8, &pages), MM_OK);
        assert_int_equal((uintptr_t)pages % (8 * 4096), 0);
        assert_true(t_ram_is_backed(world->ram, t_ram_paddr(world->ram, pages), nr * 4096));
        memset(pages, 1, nr * 4096);
        assert_int_equal(mm_page_frames_destroy(&world->pages), MM_ERR_BUSY);
        give(world->inner, (char *)pages + (nr - 1) * 4096, 1);
        if (nr > 1) {
            give(world->inner, pages, nr - 1);
        }
    }
    world_delete(world);
}

/* Windows of all sizes: the table costs nothing for what is not touched. */
static void test_windows(void **state)
{
    static const uint64_t lens[] = {128 * KiB,
                                    132 * KiB,
                                    64 * MiB,
                                    66 * MiB,
                                    6 * 1024 * MiB,
                                    8 * 1024 * MiB,
                                    8 * 1024 * MiB + 4096,
                                    UINT64_C(1) << 42,
                                    UINT64_C(1) << 46,
                                    UINT64_C(1) << 47};
    struct world *world = world_of_range(128 * KiB);

    (void)state;
    for (unsigned i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
        /* The buffer lies at the end of its window, so all levels have large indices. */
        uint64_t end = world->range.base + world->range.nr_pages * 4096;

        for (unsigned at_end = 0; at_end < 2; at_end++) {
            uint64_t base = at_end == 0 ? world->range.base : end - lens[i];
            void *objects[8];

            if (at_end == 1 && lens[i] > end) {
                continue;
            }
            world->inner.base = base;
            world->inner.len = lens[i];
            world_start(world, 1);
            for (unsigned k = 0; k < 8; k++) {
                objects[k] = mm_heap_alloc(&world->heap, 16u << k);
                assert_non_null(objects[k]);
            }
            /* The root's pages at most, a node a level, the descriptors. */
            assert_true(world_meta(world) <= 8 + 4 + 1);
            assert_int_equal(mm_heap_check(&world->heap), MM_OK);
            for (unsigned k = 0; k < 8; k++) {
                mm_heap_free(&world->heap, objects[k]);
            }
            world_stop(world);
        }
    }
    world->inner = mm_page_source_range(&world->range);
    world_delete(world);
}

/* A source that hands out pages outside its window, or unaligned ones, is not believed. */
static mm_status_t lie_alloc(void *ctx, uint64_t nr, uint64_t align, uint32_t flags, void **out)
{
    (void)align;
    (void)flags;
    ((uint64_t *)ctx)[1] += nr;
    *out = (void *)(uintptr_t)((uint64_t *)ctx)[0];
    return MM_OK;
}

static void lie_free(void *ctx, void *pages, uint64_t nr)
{
    assert_int_equal((uintptr_t)pages, ((uint64_t *)ctx)[0]);
    ((uint64_t *)ctx)[1] -= nr;
}

static void test_lying_source(void **state)
{
    static struct mm_pool pool;
    static struct mm_heap heap;
    static const struct mm_page_source_ops ops = {.alloc = lie_alloc, .free = lie_free};
    uint64_t lie[2] = {0};
    struct mm_pool_config config = {.source = {&ops, lie, 0x100000, 0x100000}, .nr_cpus = 1};
    const uint64_t lies[] = {0xff000, 0x200000, 0x100010, 0, UINT64_MAX - 4095};

    (void)state;
    assert_int_equal(mm_pool_init(&pool, &config), MM_OK);
    assert_int_equal(mm_heap_init(&heap, &pool, NULL), MM_OK);
    for (unsigned i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
        lie[0] = lies[i];
        assert_null(mm_heap_alloc(&heap, 64));
        assert_null(mm_heap_alloc(&heap, 64000));
        assert_int_equal(lie[1], 0);
    }
    assert_int_equal(mm_heap_destroy(&heap), MM_OK);
    assert_int_equal(mm_pool_destroy(&pool), MM_OK);
}

/* Frames come back in parts as well: also those whose number is a power of two and whose place is
 * not, and more than a block has. */
static void test_frames_in_parts(void **state)
{
    const uint64_t most = UINT64_C(1) << MM_FRAME_MAX_ORDER;
    struct world *world = world_of_frames(2 * most * MM_PAGE_SIZE);
    struct mm_page_source source = world->inner;
    void *pages = NULL;

    (void)state;
    for (uint64_t i = 0; i < 4; i++) {
        char *at;

        assert_int_equal(take(source, 6, 1, &pages), MM_OK);
        at = pages;
        if (i != 0) {
            give(source, at, i);
        }
        give(source, at + (i + 2) * MM_PAGE_SIZE, 4 - i);
        give(source, at + i * MM_PAGE_SIZE, 2);
    }
    assert_int_equal(take(source, 2 * most, 1, &pages), MM_OK);
    give(source, pages, 2 * most);
    assert_int_equal(take(source, UINT64_MAX / MM_PAGE_SIZE + 1, 1, &pages),
                     MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(take(source, 1, UINT64_C(1) << 60, &pages), MM_ERR_INVALID_ARGUMENT);
    assert_int_equal(world->pages.nr_pages_out, 0);
    assert_int_equal(mm_frame_check(&world->frames), MM_OK);
    world_delete(world);
}

/* Two nodes of the table, and a slab that lies across their border. */
#define ACROSS 511u

struct border {
    char *memory;
    unsigned nr_single; /* pages that it still has, beside the two at the border */
    unsigned nr_given;
    bool out; /* the two */
};

static mm_status_t border_alloc(void *ctx, uint64_t nr, uint64_t align, uint32_t flags, void **out)
{
    struct border *b = ctx;

    (void)align;
    (void)flags;
    if (nr == 2 && !b->out) {
        b->out = true;
        *out = b->memory + ACROSS * MM_PAGE_SIZE;
        return MM_OK;
    }
    if (nr != 1 || b->nr_single == 0) {
        return MM_ERR_NO_MEMORY;
    }
    b->nr_single--;
    *out = b->memory + b->nr_given++ * MM_PAGE_SIZE;
    return MM_OK;
}

static void border_free(void *ctx, void *pages, uint64_t nr)
{
    struct border *b = ctx;

    if (nr == 2) {
        assert_ptr_equal(pages, b->memory + ACROSS * MM_PAGE_SIZE);
        b->out = false;
    }
}

/* The first node is there, the second finds no memory: no object, and the pages go back. */
static void test_slab_across_a_border(void **state)
{
    static const struct mm_page_source_ops ops = {.alloc = border_alloc, .free = border_free};
    static struct mm_pool pool;
    static struct mm_cache cache;
    const struct mm_cache_config config = {.name = "large", .size = 2 * MM_PAGE_SIZE};
    struct border b = {.memory = mmap(NULL, 4 * MiB, PROT_READ | PROT_WRITE,
                                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)};
    struct mm_pool_config pool_config = {
        .source = {&ops, &b, (uint64_t)(uintptr_t)b.memory, 4 * MiB}, .nr_cpus = 1};
    void *object;

    (void)state;
    assert_int_equal(mm_pool_init(&pool, &pool_config), MM_OK);
    assert_int_equal(mm_cache_init(&cache, &pool, &config), MM_OK);
    b.nr_single = 2; /* descriptors, and a node */
    assert_null(mm_cache_alloc_on(&cache, 0));
    assert_int_equal(b.nr_single, 0);
    assert_false(b.out);
    assert_null(mm_cache_alloc_on(&cache, 0));
    b.nr_single = 1;
    object = mm_cache_alloc_on(&cache, 0);
    assert_ptr_equal(object, b.memory + ACROSS * MM_PAGE_SIZE);
    assert_int_equal(mm_cache_check(&cache), MM_OK);
    mm_cache_free(&cache, object);
    assert_int_equal(mm_cache_destroy(&cache), MM_OK);
    assert_false(b.out);
    assert_int_equal(mm_pool_destroy(&pool), MM_OK);
    munmap(b.memory, 4 * MiB);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frames_statuses), cmocka_unit_test(test_frames_extend),
        cmocka_unit_test(test_windows),         cmocka_unit_test(test_lying_source),
        cmocka_unit_test(test_frames_in_parts), cmocka_unit_test(test_slab_across_a_border),
    };

    return cmocka_run_group_tests_name("heap_pages", tests, NULL, NULL);
}
