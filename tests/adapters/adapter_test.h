// SPDX-License-Identifier: MIT
/**
 * What the programs that test the adapters share: a heap over a buffer, and a check that says where
 * it failed without allocating anything.
 */
#ifndef ADAPTER_TEST_H
#define ADAPTER_TEST_H

#include <mm/heap.h>

#include <string.h>
#include <unistd.h>

#define TEXT_OF(x) #x
#define TEXT(x)    TEXT_OF(x)

/** Ends the program if it does not hold. */
#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            static const char said[] = __FILE__ ":" TEXT(__LINE__) ": " #condition "\n";           \
                                                                                                   \
            _exit(write(STDERR_FILENO, said, sizeof(said) - 1) < 0 ? 2 : 1);                       \
        }                                                                                          \
    } while (0)

#define TEST_HEAP_LEN ((size_t)16 << 20)

static inline struct mm_heap *test_heap(void)
{
    static char memory[TEST_HEAP_LEN];
    static struct mm_heap_region region;

    if (region.heap.magic == 0) {
        CHECK(mm_heap_region_init(&region, memory, sizeof(memory)) == MM_OK);
    }
    return &region.heap;
}

/** Another, which records callers, and whose report op remembers the last one. */
struct told {
    int kind;
    unsigned nr;
    uint64_t allocated_by;
    uint64_t freed_by;
    uint64_t caller;
};

static inline void hear(void *ctx, const struct mm_heap_report *report)
{
    struct told *told = (struct told *)ctx;

    told->kind = report->kind;
    told->nr++;
    told->allocated_by = report->allocated_by;
    told->freed_by = report->freed_by;
    told->caller = report->caller;
}

static inline struct mm_heap *recording_heap(struct told *told)
{
    static char memory[TEST_HEAP_LEN];
    static struct mm_page_range range;
    static struct mm_pool pool;
    static struct mm_heap heap;
    struct mm_pool_config pool_config;
    struct mm_heap_config config;

    memset(&pool_config, 0, sizeof(pool_config));
    memset(&config, 0, sizeof(config));
    config.flags = MM_HEAP_CALLERS;
    config.report = hear;
    config.report_ctx = told;
    CHECK(mm_page_range_init(&range, memory, sizeof(memory)) == MM_OK);
    pool_config.source = mm_page_source_range(&range);
    pool_config.nr_cpus = 1;
    CHECK(mm_pool_init(&pool, &pool_config) == MM_OK);
    CHECK(mm_heap_init(&heap, &pool, &config) == MM_OK);
    return &heap;
}

/**
 * Two places in the code that make calls, each a section, whose ends the linker names. They are not
 * inlined, and must not be left by a jump.
 */
#define MADE_HERE  __attribute__((noinline, section("place_made")))
#define FREED_HERE __attribute__((noinline, section("place_freed")))
extern const char made_here_begin[] __asm__("__start_place_made");
extern const char made_here_end[] __asm__("__stop_place_made");
extern const char freed_here_begin[] __asm__("__start_place_freed");
extern const char freed_here_end[] __asm__("__stop_place_freed");

#define LIES_IN(address, place)                                                                    \
    ((address) > (uint64_t)(uintptr_t)place##_begin && (address) < (uint64_t)(uintptr_t)place##_end)

/** Who allocated what is alive: one caller alone. */
static inline uint64_t only_caller(const struct mm_heap *heap)
{
    struct mm_heap_caller callers[2];
    uint32_t nr = 0;

    CHECK(mm_heap_callers(heap, 0, callers, 2, &nr) == MM_OK && nr == 1);
    return callers[0].allocated_by;
}

static inline uint64_t nr_objects(void)
{
    struct mm_heap_stats stats;

    CHECK(mm_heap_get_stats(test_heap(), &stats) == MM_OK);
    return stats.nr_objects;
}

static inline bool is_ours(const void *object, size_t size, size_t align)
{
    return object != NULL && (uintptr_t)object % align == 0 &&
           mm_heap_usable_size(test_heap(), object) >= size;
}

#endif
