// SPDX-License-Identifier: MIT
/**
 * malloc and friends over a heap of the library, for code that is written for them.
 *
 * Add malloc.c to the kernel, compiled with -fno-builtin (or gcc makes a call of calloc out of what
 * is calloc), and tell it the heap once that is made:
 *
 *     malloc_heap = &my_heap;
 *
 * Until then every allocation is NULL. All calls may be made in any context, as those of the heap.
 * Reports and statistics name who called them.
 */
#ifndef ADAPTER_MALLOC_H
#define ADAPTER_MALLOC_H

#include <mm/heap.h>

#ifdef __cplusplus
extern "C" {
#endif

extern struct mm_heap *malloc_heap;

/**
 * Called when there is no memory for `size` bytes. True: something was given back, try again.
 * False: the answer is NULL. NULL: as if it said false.
 */
extern bool (*malloc_out_of_memory)(size_t size);

void *malloc(size_t size);
void *calloc(size_t nr, size_t size);
/** With size 0 the object is freed, and the result NULL. */
void *realloc(void *object, size_t size);
void *reallocarray(void *object, size_t nr, size_t size);
/** NULL also for an alignment that is no power of two, or above MM_HEAP_MAX_ALIGN. */
void *aligned_alloc(size_t align, size_t size);
/** 0, EINVAL (22) or ENOMEM (12); *out only changes with 0. */
int posix_memalign(void **out, size_t align, size_t size);
size_t malloc_usable_size(void *object);

/** Each panics at what is no object of the heap; the last two also at a wrong size (C23). */
void free(void *object);
void free_sized(void *object, size_t size);
void free_aligned_sized(void *object, size_t align, size_t size);

#ifdef __cplusplus
}
#endif

#endif
