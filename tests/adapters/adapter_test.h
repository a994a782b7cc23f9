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
