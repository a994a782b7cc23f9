// SPDX-License-Identifier: MIT
//
// A heap and a cache over one buffer: what a kernel has that wants nothing else of the library.

#include "both.h"

#include <mm/heap.h>

#define SLOTS  256
#define STEPS  20000
#define OBJECT 48 // of the cache
#define SEED   UINT64_C(0x68656170)

struct slot {
    uint8_t *object;
    uint64_t size;
    uint8_t byte;
};

static struct mm_page_range range;
static struct mm_pool pool;
static struct mm_heap heap;
static struct mm_cache cache;
static struct slot slots[SLOTS];

static bool holds(const uint8_t *bytes, uint64_t len, uint8_t byte)
{
    for (uint64_t i = 0; i < len; i++) {
        if (bytes[i] != byte) {
            return false;
        }
    }
    return true;
}

// One change of one slot; false if a byte was lost.
static bool step(uint64_t *random, uint64_t *nr_refused)
{
    struct slot *slot = &slots[both_random(random) % SLOTS];
    uint64_t size = both_random(random) % (UINT64_C(1) << both_random(random) % 13) + 1;
    uint64_t kept = size < slot->size ? size : slot->size;
    bool good = slot->object == NULL || holds(slot->object, slot->size, slot->byte);

    if (slot->object != NULL && both_random(random) % 2 == 0) {
        mm_heap_free(&heap, slot->object);
        *slot = (struct slot){0};
        return good;
    }
    uint8_t *object = mm_heap_realloc(&heap, slot->object, size);
    if (object == NULL) {
        ++*nr_refused;
        return good;
    }
    good = good && holds(object, kept, slot->byte) && mm_heap_usable_size(&heap, object) >= size;
    *slot = (struct slot){object, size, (uint8_t)both_random(random)};
    memset(object, slot->byte, size);
    return good;
}

static void check_soak(void)
{
    uint64_t random = SEED;
    uint64_t nr_refused = 0;
    bool good = true;

    for (unsigned i = 0; i < STEPS; i++) {
        good = step(&random, &nr_refused) && good;
    }
    BOTH_CHECK("objects keep their bytes while others come, move and go", good);
    BOTH_CHECK("the buffer is large enough for all of them", nr_refused == 0);
    BOTH_CHECK("the heap agrees with itself", mm_heap_check(&heap) == MM_OK);
    for (unsigned i = 0; i < SLOTS; i++) {
        mm_heap_free(&heap, slots[i].object); // NULL is allowed
        slots[i] = (struct slot){0};
    }
}

static void check_shapes(void)
{
    bool aligned = true;

    for (size_t align = 1; align <= MM_SIZE_4K * 16; align *= 2) {
        void *object = mm_heap_alloc_aligned(&heap, align, 100);
        aligned = aligned && object != NULL && mm_is_aligned((uintptr_t)object, align);
        mm_heap_free(&heap, object);
    }
    BOTH_CHECK("objects are aligned as asked", aligned);

    uint8_t *object = mm_heap_alloc_zeroed(&heap, 3000);
    BOTH_CHECK("a zeroed object is zero", object != NULL && holds(object, 3000, 0));
    mm_heap_free(&heap, object);
    BOTH_CHECK("more than there is is refused",
               mm_heap_alloc(&heap, BOTH_MEMORY) == NULL && mm_heap_alloc(&heap, SIZE_MAX) == NULL);
}

static void construct(void *ctx, void *object)
{
    ++*(uint64_t *)ctx;
    memset(object, 0x5c, OBJECT);
}

// To the last object that fits, and back.
static void check_cache(void)
{
    static uint64_t nr_constructed;
    const struct mm_cache_config config = {
        .name = "both", .size = OBJECT, .construct = construct, .ctx = &nr_constructed};
    void **list = NULL; // each object points to the one before
    uint64_t nr = 0;
    bool constructed = true;

    nr_constructed = 0;
    BOTH_MUST(mm_cache_init(&cache, &pool, &config));
    for (void **object; (object = mm_cache_alloc(&cache)) != NULL; nr++) {
        constructed = constructed && holds((const uint8_t *)object, OBJECT, 0x5c);
        *object = list;
        list = object;
    }
    BOTH_CHECK("a cache fills the buffer to the last object",
               nr * OBJECT > BOTH_MEMORY / 100 * 90 && nr <= nr_constructed);
    BOTH_CHECK("every object was constructed before it was handed out", constructed);
    while (list != NULL) {
        void **next = *list;
        memset(list, 0x5c, sizeof(*list));
        mm_cache_free(&cache, list);
        list = next;
        nr--;
    }
    BOTH_CHECK("every object is back", nr == 0 && mm_cache_check(&cache) == MM_OK);
    BOTH_CHECK("the cache goes", mm_cache_destroy(&cache) == MM_OK);
}

void both_heap(const struct both_world *world)
{
    void *base = mm_physmap_ptr(&world->physmap, world->memory.start);

    BOTH_MUST(mm_page_range_init(&range, base, world->memory.len));
    struct mm_pool_config config = {.source = mm_page_source_range(&range), .nr_cpus = 1};
    BOTH_MUST(mm_pool_init(&pool, &config));
    BOTH_MUST(mm_heap_init(&heap, &pool, NULL));
    check_soak();
    check_shapes();
    BOTH_CHECK("nothing goes while something stands on it",
               mm_pool_destroy(&pool) == MM_ERR_BUSY &&
                   mm_page_range_destroy(&range) == MM_ERR_BUSY);
    BOTH_CHECK("the heap goes", mm_heap_destroy(&heap) == MM_OK);
    check_cache();
    BOTH_CHECK("pool and buffer go, with every page back",
               mm_pool_destroy(&pool) == MM_OK && mm_page_range_destroy(&range) == MM_OK);
}
