// SPDX-License-Identifier: MIT
/**
 * malloc and friends over a heap of the library: malloc.h says how to use it.
 */
#include "malloc.h"

struct mm_heap *malloc_heap;
bool (*malloc_out_of_memory)(size_t size);

static bool try_again(size_t size)
{
    return malloc_heap != NULL && malloc_out_of_memory != NULL && malloc_out_of_memory(size);
}

static void *allocate(size_t size, size_t align, uint32_t flags)
{
    void *object;

    do {
        object = mm_heap_alloc_with(malloc_heap, size, align, flags);
    } while (object == NULL && try_again(size));
    return object;
}

void *malloc(size_t size)
{
    return allocate(size, 0, 0);
}

void *calloc(size_t nr, size_t size)
{
    size_t bytes;

    return __builtin_mul_overflow(nr, size, &bytes) ? NULL : allocate(bytes, 0, MM_HEAP_ZEROED);
}

void *realloc(void *object, size_t size)
{
    void *moved;

    if (object != NULL && size == 0) {
        free(object);
        return NULL;
    }
    do {
        moved = mm_heap_realloc(malloc_heap, object, size);
    } while (moved == NULL && try_again(size));
    return moved;
}

void *reallocarray(void *object, size_t nr, size_t size)
{
    size_t bytes;

    return __builtin_mul_overflow(nr, size, &bytes) ? NULL : realloc(object, bytes);
}

void *aligned_alloc(size_t align, size_t size)
{
    return mm_is_pow2(align) && align <= MM_HEAP_MAX_ALIGN ? allocate(size, align, 0) : NULL;
}

int posix_memalign(void **out, size_t align, size_t size)
{
    void *object;

    if (align % sizeof(void *) != 0 || !mm_is_pow2(align)) {
        return 22;
    }
    object = aligned_alloc(align, size);
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
    mm_heap_free(malloc_heap, object);
}

void free_sized(void *object, size_t size)
{
    mm_heap_free_sized(malloc_heap, object, size, 0);
}

void free_aligned_sized(void *object, size_t align, size_t size)
{
    mm_heap_free_sized(malloc_heap, object, size, align);
}
