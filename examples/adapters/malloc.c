// SPDX-License-Identifier: MIT
/**
 * malloc and friends over a heap of the library: malloc.h says how to use it.
 */
#include "malloc.h"

/** Who called malloc or a friend of it: the heap names that one, and not this file. */
#define CALLER() __builtin_return_address(0)

struct mm_heap *malloc_heap;
bool (*malloc_out_of_memory)(size_t size);

static bool try_again(size_t size)
{
    return malloc_heap != NULL && malloc_out_of_memory != NULL && malloc_out_of_memory(size);
}

static void *allocate(size_t size, size_t align, uint32_t flags, const void *caller)
{
    void *object;

    do {
        object = mm_heap_alloc_from(malloc_heap, size, align, flags, caller);
    } while (object == NULL && try_again(size));
    return object;
}

static void *resize(void *object, size_t size, const void *caller)
{
    void *moved;

    if (object != NULL && size == 0) {
        mm_heap_free_from(malloc_heap, object, caller);
        return NULL;
    }
    do {
        moved = mm_heap_realloc_from(malloc_heap, object, size, caller);
    } while (moved == NULL && try_again(size));
    return moved;
}

static void *allocate_aligned(size_t align, size_t size, const void *caller)
{
    return mm_is_pow2(align) && align <= MM_HEAP_MAX_ALIGN ? allocate(size, align, 0, caller)
                                                           : NULL;
}

void *malloc(size_t size)
{
    return allocate(size, 0, 0, CALLER());
}

void *calloc(size_t nr, size_t size)
{
    size_t bytes;

    return __builtin_mul_overflow(nr, size, &bytes) ? NULL
                                                    : allocate(bytes, 0, MM_HEAP_ZEROED, CALLER());
}

void *realloc(void *object, size_t size)
{
    return resize(object, size, CALLER());
}

void *reallocarray(void *object, size_t nr, size_t size)
{
    size_t bytes;

    return __builtin_mul_overflow(nr, size, &bytes) ? NULL : resize(object, bytes, CALLER());
}

void *aligned_alloc(size_t align, size_t size)
{
    return allocate_aligned(align, size, CALLER());
}

int posix_memalign(void **out, size_t align, size_t size)
{
    void *object;

    if (align % sizeof(void *) != 0 || !mm_is_pow2(align)) {
        return 22;
    }
    object = allocate_aligned(align, size, CALLER());
    if (object == NULL) {
        return 12;
    }
    *out = object;
    return 0;
}

size_t malloc_usable_size(void *object)
{
    return mm_heap_usable_size(malloc_heap, object);
}

void free(void *object)
{
    mm_heap_free_from(malloc_heap, object, CALLER());
}

void free_sized(void *object, size_t size)
{
    mm_heap_free_sized_from(malloc_heap, object, size, 0, CALLER());
}

void free_aligned_sized(void *object, size_t align, size_t size)
{
    mm_heap_free_sized_from(malloc_heap, object, size, align, CALLER());
}
