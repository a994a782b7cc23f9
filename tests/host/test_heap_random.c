// SPDX-License-Identifier: MIT
/**
 * The heap against its model: random calls of all kinds, more than a million, on both page sources,
 * in every tier, with and without a large pool, in plenty and in want. Contents are compared, misuse
 * is told, and the structure is checked along the way.
 */
#include "guard_pages.h"
#include "heap_world.h"
#include "ledger_mm.h"

#define NR_LIVE_MAX 600
#define OBJECT      200u
#define LARGE       (24 * KiB)
#define BULK_MAX    150u

struct campaign {
    const char *name;
    struct world *world;
    struct world *large; /**< of the large pool; NULL: there is none */
    struct mm_heap_config config;
    struct t_guards guards; /**< of samples, if the configuration wants any */
    uint64_t nr_ops;
    struct mm_cache cache;
    struct t_mheap model;
    struct t_mheap objects; /**< of the cache */
    struct t_prng prng;
    uint64_t nr_refused;
    uint64_t nr_told;
};

static struct campaign c;

/** Operations of all campaigns of this process. */
static uint64_t nr_done;

static uint64_t below(uint64_t n)
{
    return t_prng_below(&c.prng, n);
}

static bool one_in(uint64_t n)
{
    return t_prng_chance(&c.prng, 1, n);
}

static uint64_t random_size(void)
{
    switch (below(8)) {
    case 0:
        return one_in(20) ? t_prng_range(&c.prng, 8193, 50000) : 0;
    case 1:
        return UINT64_C(1) << below(14);
    case 2:
        return t_prng_magnitude(&c.prng, 13);
    default:
        return t_prng_magnitude(&c.prng, 10);
    }
}

/** Most often one that is there; it may be any number. */
static uint32_t random_cpu(void)
{
    return one_in(10) ? (uint32_t)t_prng_magnitude(&c.prng, 32) : (uint32_t)below(3);
}

static void *random_block(const struct t_mheap *model)
{
    return (void *)(uintptr_t)model->blocks[t_prng_below(&c.prng, model->nr)].address;
}

/** Whom a wrapper names: any address will do. */
static const void *const block_caller = &block_caller;

static uint64_t natural(uint64_t size)
{
    return size >= 16 && (size & (size - 1)) == 0 ? (size > 4096 ? 4096 : size) : 16;
}

/* --- calls that succeed, or are short of memory -------------------------------------------------*/

static void *allocate_with(uint64_t *size, uint64_t *align)
{
    uint32_t flags = (uint32_t)below(MM_HEAP_FLAGS_ALL + 1);
    uint64_t nr = 1 + below(8);
    void *block;

    if (one_in(2)) {
        *align = one_in(3) ? 0 : UINT64_C(1) << below(one_in(20) ? 17 : 13);
        block = one_in(2) ? mm_heap_alloc_with(&c.world->heap, *size, *align, flags)
                          : mm_heap_alloc_from(&c.world->heap, *size, *align, flags, block_caller);
    } else {
        *size = (*size + nr - 1) / nr * nr;
        block = mm_heap_alloc_array(&c.world->heap, nr, *size / nr, flags);
    }
    if (block != NULL && (flags & MM_HEAP_ZEROED) != 0) {
        T_LEGAL(t_mheap_zeroed(block, *size));
    }
    if (block != NULL && (flags & MM_HEAP_ATOMIC) != 0 && c.large != NULL) {
        assert_true((uintptr_t)block - c.large->inner.base >= c.large->inner.len);
    }
    return block;
}

static void allocate(void)
{
    struct mm_heap *heap = &c.world->heap;
    uint64_t size = random_size();
    uint64_t align = 0;
    void *block;

    switch (below(6)) {
    case 0:
        block = mm_heap_alloc_zeroed(heap, size);
        T_LEGAL(block == NULL ? NULL : t_mheap_zeroed(block, size));
        break;
    case 1:
        align = UINT64_C(1) << below(one_in(20) ? 17 : 13);
        block = mm_heap_alloc_aligned(heap, align, size);
        break;
    case 2:
    case 3:
        block = allocate_with(&size, &align);
        break;
    case 4:
        block = mm_heap_alloc_on(heap, random_cpu(), size);
        break;
    default:
        block = one_in(4) ? mm_heap_realloc(heap, NULL, size) : mm_heap_alloc(heap, size);
        break;
    }
    if (block == NULL) {
        c.nr_refused++;
        return;
    }
    assert_true(mm_heap_usable_size(heap, block) >= size);
    T_LEGAL(t_mheap_add(&c.model, block, size, align > natural(size) ? align : natural(size)));
    T_LEGAL(t_mheap_tag(&c.model, block, align));
}

static void resize(void)
{
    void *block = random_block(&c.model);
    uint64_t usable = mm_heap_usable_size(&c.world->heap, block);
    uint64_t asked = t_mheap_find(&c.model, block)->tag;
    uint64_t size = random_size();
    uint64_t align = natural(size);
    uint64_t nr = one_in(3) ? 1 + below(5) : 0;
    uint64_t nr_refused = c.world->nr_refused;
    void *moved;

    if (nr != 0) {
        size = size / nr * nr;
        align = natural(size);
        moved = mm_heap_realloc_array(&c.world->heap, block, size / nr, nr);
    } else {
        moved = one_in(2) ? mm_heap_realloc(&c.world->heap, block, size)
                          : mm_heap_realloc_from(&c.world->heap, block, size, block_caller);
    }
    if (moved == NULL) {
        c.nr_refused++;
        assert_true(size > usable);
        T_LEGAL(t_mheap_verify(&c.model, block));
        return;
    }
    if (moved == block && c.world->nr_refused != nr_refused) {
        align = 1; /* there was no better place */
    }
    align = asked > align ? asked : align;
    T_LEGAL(t_mheap_resize(&c.model, block, moved, size, align));
}

static void release(void)
{
    void *block = random_block(&c.model);
    const struct t_mheap_block *known = t_mheap_find(&c.model, block);
    uint64_t size = known->size;
    uint64_t align = known->tag;

    T_LEGAL(t_mheap_remove(&c.model, block));
    switch (below(5)) {
    case 0:
        mm_heap_free(&c.world->heap, block);
        break;
    case 1:
        mm_heap_free_on(&c.world->heap, random_cpu(), block);
        break;
    case 2:
        mm_heap_free_from(&c.world->heap, block, block_caller);
        break;
    case 3:
        mm_heap_free_sized_from(&c.world->heap, block, size, align, block_caller);
        break;
    default:
        mm_heap_free_sized(&c.world->heap, block, size, align);
        break;
    }
}

/* --- calls that must not be ---------------------------------------------------------------------*/

static bool told(void *block, uint64_t size)
{
    struct t_trap_info info;
    bool sized = size != 0;

    if (sized) {
        T_CATCH(T_TRAP_PANIC, mm_heap_free_sized(&c.world->heap, block, size, 0), &info);
    } else if (one_in(2)) {
        T_CATCH(T_TRAP_PANIC, mm_heap_free(&c.world->heap, block), &info);
    } else {
        T_CATCH(T_TRAP_PANIC, mm_heap_free_on(&c.world->heap, random_cpu(), block), &info);
    }
    c.nr_told++;
    return info.kind == T_TRAP_PANIC && info.address == (uintptr_t)block;
}

static void misuse(void)
{
    char *block = random_block(&c.model);
    uint64_t usable = mm_heap_usable_size(&c.world->heap, block);

    switch (below(5)) {
    case 0: /* twice */
        T_LEGAL(t_mheap_remove(&c.model, block));
        mm_heap_free(&c.world->heap, block);
        assert_true(told(block, 0));
        break;
    case 1: /* the inside */
        if (usable < 2) {
            break;
        }
        block += 1 + below(usable - 1);
        assert_int_equal(mm_heap_usable_size(&c.world->heap, block), 0);
        assert_true(told(block, 0));
        break;
    case 2: /* a size that it cannot have */
        if (c.config.tier != MM_HEAP_FAST) {
            assert_true(told(block, usable + 1 + below(50000)));
        }
        break;
    case 3: /* of the cache */
        if (c.objects.nr != 0) {
            block = random_block(&c.objects);
            assert_int_equal(mm_heap_usable_size(&c.world->heap, block), 0);
            assert_true(told(block, below(2) * OBJECT));
        }
        break;
    default: /* nothing that can be had */
        assert_null(mm_heap_alloc_with(&c.world->heap, 100, 48 + 64 * below(9), 0));
        assert_null(mm_heap_alloc_with(&c.world->heap, 100, 0, 8u << below(29)));
        assert_null(mm_heap_alloc_array(&c.world->heap, UINT64_MAX / 8, 9 + below(99), 0));
        assert_null(mm_heap_realloc_array(&c.world->heap, block, UINT64_MAX / 8, 9 + below(99)));
        break;
    }
}

/* --- the cache ----------------------------------------------------------------------------------*/

static void use_bulk(void)
{
    void *objects[BULK_MAX];
    uint64_t nr = below(BULK_MAX + 1);

    if (c.objects.nr > BULK_MAX) {
        for (uint64_t i = 0; i < nr; i++) {
            objects[i] = one_in(20) ? NULL : random_block(&c.objects);
            if (objects[i] != NULL) {
                T_LEGAL(t_mheap_remove(&c.objects, objects[i]));
            }
        }
        mm_cache_free_bulk(&c.cache, nr, objects);
    } else {
        uint64_t got = mm_cache_alloc_bulk(&c.cache, random_cpu(), nr, objects);

        assert_true(got <= nr);
        for (uint64_t i = 0; i < got; i++) {
            T_LEGAL(t_mheap_add(&c.objects, objects[i], OBJECT, 8));
        }
    }
}

static void use_cache(void)
{
    if (one_in(4)) {
        use_bulk();
    } else if (c.objects.nr > 0 && one_in(2)) {
        void *object = random_block(&c.objects);

        T_LEGAL(t_mheap_remove(&c.objects, object));
        if (one_in(2)) {
            mm_cache_free(&c.cache, object);
        } else {
            mm_cache_free_from(&c.cache, object, block_caller);
        }
    } else {
        void *object = one_in(2)   ? mm_cache_alloc_on(&c.cache, random_cpu())
                       : one_in(2) ? mm_cache_alloc_from(&c.cache, block_caller)
                                   : mm_cache_alloc(&c.cache);

        if (object != NULL) {
            T_LEGAL(t_mheap_add(&c.objects, object, OBJECT, 8));
        }
    }
}

/* --- along the way ------------------------------------------------------------------------------*/

/* Whose each page is the heap knows; frames that nobody has are as many as it has out. */
static void audit(struct world *world)
{
    struct t_ram_range window;

    if (world == NULL || world->ram == NULL) {
        return;
    }
    window = t_ram_window(world->ram);
    T_LEGAL(t_ledger_close(t_ledger_open(&world->frames, t_ram_base(world->ram),
                                         (window.start + window.len) / MM_PAGE_SIZE),
                           world->nr_out));
}

static uint64_t pages_held(void)
{
    uint64_t nr = c.world->nr_out - world_meta(c.world);

    return nr + (c.large != NULL ? c.large->nr_out - world_meta(c.large) : 0);
}

static void check(void)
{
    struct mm_heap_stats stats = world_stats(c.world);
    struct mm_cache_stats cache;
    uint64_t bytes = stats.slab_bytes + stats.run_bytes + stats.kept_bytes;

    assert_int_equal(mm_heap_check(&c.world->heap), MM_OK);
    assert_int_equal(mm_cache_check(&c.cache), MM_OK);
    assert_int_equal(mm_cache_get_stats(&c.cache, &cache), MM_OK);
    assert_int_equal(stats.nr_objects, c.model.nr);
    assert_int_equal(stats.nr_failed, c.nr_refused);
    assert_int_equal(cache.nr_objects, c.objects.nr);
    assert_true(stats.object_bytes >= c.model.bytes);
    assert_true(bytes >= stats.object_bytes || c.config.sample_every != 0);
    assert_int_equal(pages_held() * MM_PAGE_SIZE, bytes + cache.slab_bytes);
    T_LEGAL(t_mheap_verify_all(&c.model));
    T_LEGAL(t_mheap_verify_all(&c.objects));
}

static void step(uint64_t bias)
{
    uint64_t what = below(100);

    c.world->log.cpu = random_cpu();
    if (what < 5) {
        use_cache();
    } else if (what < 6) {
        if (one_in(10)) {
            mm_heap_reclaim(&c.world->heap);
            mm_cache_reclaim(&c.cache);
        } else if (c.model.nr > 0) {
            misuse();
        }
    } else if (what < 25 && c.model.nr > 0) {
        resize();
    } else if (what < 25 + bias || c.model.nr == 0) {
        if (c.model.nr < NR_LIVE_MAX) {
            allocate();
        }
    } else {
        release();
    }
}

/* --- a campaign ---------------------------------------------------------------------------------*/

/** The one place where the heap of a campaign is configured. */
static void start(void)
{
    struct mm_cache_config config = {
        .name = "random", .size = OBJECT, .tier = c.config.tier, .flags = c.config.flags};

    if (c.config.sample_every != 0) {
        c.config.guards = t_guards_new(&c.guards, 40);
    }
    if (c.large != NULL) {
        world_start(c.large, 2);
        c.config.large = &c.large->pool;
        c.config.large_size = LARGE;
    }
    world_start_as(c.world, 2, &c.config);
    assert_int_equal(mm_cache_init(&c.cache, &c.world->pool, &config), MM_OK);
    t_mheap_init(&c.model, 0, 0);
    t_mheap_init(&c.objects, c.world->inner.base, c.world->inner.base + c.world->inner.len);
}

static void stop(void)
{
    while (c.model.nr > 0) {
        release();
    }
    while (c.objects.nr > 0) {
        void *object = random_block(&c.objects);

        T_LEGAL(t_mheap_remove(&c.objects, object));
        mm_cache_free(&c.cache, object);
    }
    check();
    mm_heap_reclaim(&c.world->heap);
    mm_cache_reclaim(&c.cache);
    assert_int_equal(c.world->nr_out, world_meta(c.world));
    audit(c.world);
    assert_int_equal(mm_cache_destroy(&c.cache), MM_OK);
    t_mheap_destroy(&c.model);
    t_mheap_destroy(&c.objects);
    if (c.config.sample_every != 0) {
        assert_true(c.guards.nr_opened > c.nr_ops / 200);
        t_guards_delete(&c.guards);
    }
    world_stop(c.world);
    world_delete(c.world);
    if (c.large != NULL) {
        assert_int_equal(c.large->nr_out, world_meta(c.large));
        audit(c.large);
        world_stop(c.large);
        world_delete(c.large);
    }
}

static void run(struct campaign campaign)
{
    c = campaign;
    c.nr_ops /= MM_TEST_SANITIZED ? 10 : 1;
    c.nr_ops *= getenv("MM_TEST_FULL") != NULL ? 20 : 1;
    t_prng_start(&c.prng, c.name);
    start();
    for (uint64_t op = 0; op < c.nr_ops; op++) {
        /* Times of plenty and of want. */
        step(op / 2000 % 2 == 0 ? 45 : 25);
        if (op % 2000 == 0) {
            audit(c.world);
            audit(c.large);
        }
        if (op % 2500 == 0) {
            check();
        }
    }
    check();
    assert_true(c.nr_told > c.nr_ops / 300);
    nr_done += c.nr_ops;
    stop();
}

static void test_range(void **state)
{
    (void)state;
    run((struct campaign){
        .name = "heap range", .world = world_of_range(64 * MiB), .nr_ops = 400000});
}

static void test_frames(void **state)
{
    (void)state;
    run((struct campaign){
        .name = "heap frames", .world = world_of_frames(32 * MiB), .nr_ops = 400000});
}

/* The tiers that are not the default; the hardened one looks at every byte. */
static void test_tiers(void **state)
{
    (void)state;
    for (unsigned source = 0; source < 2; source++) {
        struct campaign fast = {.name = "heap, fast", .nr_ops = 200000};
        struct campaign callers = {.name = "heap, callers", .nr_ops = 100000};
        struct campaign hardened = {.name = "heap, hardened", .nr_ops = 60000};
        struct campaign sampled = {.name = "heap, sampled", .nr_ops = 60000};

        fast.config.tier = MM_HEAP_FAST;
        callers.config.flags = MM_HEAP_CALLERS;
        hardened.config.tier = MM_HEAP_HARDENED;
        hardened.config.quarantine = source == 0 ? 0 : 100;
        sampled.config.sample_every = 20;
        sampled.config.tier = source == 0 ? MM_HEAP_CHECKED : MM_HEAP_HARDENED;
        fast.world = source == 0 ? world_of_range(64 * MiB) : world_of_frames(32 * MiB);
        run(fast);
        callers.world = source == 0 ? world_of_range(64 * MiB) : world_of_frames(32 * MiB);
        run(callers);
        hardened.world = source == 0 ? world_of_range(64 * MiB) : world_of_frames(32 * MiB);
        run(hardened);
        sampled.world = source == 0 ? world_of_range(64 * MiB) : world_of_frames(32 * MiB);
        run(sampled);
    }
}

static void test_large(void **state)
{
    (void)state;
    run((struct campaign){.name = "heap range, large frames, hardened",
                          .config = {.tier = MM_HEAP_HARDENED},
                          .world = world_of_range(64 * MiB),
                          .large = world_of_frames(32 * MiB),
                          .nr_ops = 40000});
    run((struct campaign){.name = "heap range, large frames",
                          .world = world_of_range(64 * MiB),
                          .large = world_of_frames(32 * MiB),
                          .nr_ops = 200000});
    run((struct campaign){.name = "heap frames, large range",
                          .world = world_of_frames(32 * MiB),
                          .large = world_of_range(64 * MiB),
                          .nr_ops = 200000});
}

/* So little memory that many calls are refused. */
static void test_want(void **state)
{
    (void)state;
    run((struct campaign){
        .name = "heap range, want", .world = world_of_range(256 * KiB), .nr_ops = 100000});
    assert_true(c.nr_refused > c.nr_ops / 1000);
    run((struct campaign){
        .name = "heap frames, want", .world = world_of_frames(128 * KiB), .nr_ops = 100000});
    assert_true(c.nr_refused > c.nr_ops / 1000);
    run((struct campaign){.name = "heap range, large frames, want",
                          .world = world_of_range(256 * KiB),
                          .large = world_of_frames(64 * KiB),
                          .nr_ops = 100000});
    assert_true(c.nr_refused > c.nr_ops / 1000);
    run((struct campaign){.name = "heap range, hardened, want",
                          .config = {.tier = MM_HEAP_HARDENED},
                          .world = world_of_range(512 * KiB),
                          .nr_ops = 40000});
    assert_true(c.nr_refused > c.nr_ops / 1000);
}

/* What was promised. */
static void test_number(void **state)
{
    (void)state;
    print_message("%llu operations\n", (unsigned long long)nr_done);
    assert_true(MM_TEST_SANITIZED || nr_done >= 1000000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_range), cmocka_unit_test(test_frames), cmocka_unit_test(test_tiers),
        cmocka_unit_test(test_large), cmocka_unit_test(test_want),   cmocka_unit_test(test_number),
    };

    return cmocka_run_group_tests_name("heap_random", tests, NULL, NULL);
}
