// SPDX-License-Identifier: MIT
/**
 * examples/adapters/malloc.c: the whole program is on it, the libc included.
 */
#include "malloc.h"

#include "adapter_test.h"

static void *hoard[64];
static unsigned nr_asked;

static bool give_back(size_t size)
{
    nr_asked++;
    for (unsigned i = 0; i < sizeof(hoard) / sizeof(hoard[0]); i++) {
        if (hoard[i] != NULL) {
            free(hoard[i]);
            hoard[i] = NULL;
            return true;
        }
    }
    (void)size;
    return false;
}

static void test_objects(void)
{
    void *out = NULL;
    char *text;
    char *zeroes;

    text = malloc(100);
    CHECK(is_ours(text, 100, 16));
    memcpy(text, "kept", 5);
    text = realloc(text, 100000);
    CHECK(is_ours(text, 100000, 16) && strcmp(text, "kept") == 0);
    text = reallocarray(text, 10, 10);
    CHECK(is_ours(text, 100, 16) && strcmp(text, "kept") == 0);
    CHECK(malloc_usable_size(text) >= 100 && malloc_usable_size(NULL) == 0);
    CHECK(reallocarray(text, SIZE_MAX / 2 + 2, 2) == NULL && realloc(text, SIZE_MAX) == NULL);
    CHECK(strcmp(text, "kept") == 0);
    memset(text, 1, 100);
    CHECK(realloc(text, 0) == NULL);

    zeroes = calloc(25, 4);
    CHECK(is_ours(zeroes, 100, 16));
    for (unsigned i = 0; i < 100; i++) {
        CHECK(zeroes[i] == 0);
    }
    free_sized(zeroes, 100);
    CHECK(calloc(SIZE_MAX / 2 + 2, 2) == NULL && malloc(SIZE_MAX) == NULL);

    for (size_t align = 8; align <= MM_HEAP_MAX_ALIGN; align *= 2) {
        void *aligned = aligned_alloc(align, 100);

        CHECK(is_ours(aligned, 100, align));
        free_aligned_sized(aligned, align, 100);
        CHECK(posix_memalign(&out, align, 5000) == 0 && is_ours(out, 5000, align));
        free(out);
    }
    CHECK(aligned_alloc(24, 100) == NULL && aligned_alloc(MM_HEAP_MAX_ALIGN * 2, 1) == NULL);
    out = NULL;
    CHECK(posix_memalign(&out, 24, 100) == 22 && posix_memalign(&out, 4, 100) == 22);
    CHECK(posix_memalign(&out, 16, SIZE_MAX) == 12 && out == NULL);
    free(NULL);
}

static void test_out_of_memory(void)
{
    const size_t size = TEST_HEAP_LEN / 2;
    unsigned asked;

    for (unsigned i = 0; i < sizeof(hoard) / sizeof(hoard[0]); i++) {
        hoard[i] = malloc(TEST_HEAP_LEN / 128);
        CHECK(hoard[i] != NULL);
    }
    CHECK(malloc(size) == NULL);
    malloc_out_of_memory = give_back;
    hoard[0] = realloc(NULL, size); /* asks until there is room */
    CHECK(is_ours(hoard[0], size, 16) && nr_asked > 1);
    asked = nr_asked;
    CHECK(malloc(TEST_HEAP_LEN) == NULL && nr_asked > asked + 1); /* and while there is hope */
    CHECK(hoard[0] == NULL);
    malloc_out_of_memory = NULL;
}

enum form { MALLOC, CALLOC, REALLOC, REALLOCARRAY, ALIGNED_ALLOC, POSIX_MEMALIGN, MOVED, NR_FORMS };

static MADE_HERE void *made_here(enum form form, void *object)
{
    void *out = NULL;

    switch (form) {
    case MALLOC:
        out = malloc(100);
        break;
    case CALLOC:
        out = calloc(10, 10);
        break;
    case REALLOC:
        out = realloc(NULL, 100);
        break;
    case REALLOCARRAY:
        out = reallocarray(NULL, 10, 10);
        break;
    case ALIGNED_ALLOC:
        out = aligned_alloc(64, 100);
        break;
    case POSIX_MEMALIGN:
        CHECK(posix_memalign(&out, 64, 100) == 0);
        break;
    default:
        out = realloc(object, 20000);
        break;
    }
    __asm__ volatile("" : "+r"(out));
    return out;
}

enum end { FREE, REALLOC_TO_0, FREE_SIZED, FREE_ALIGNED_SIZED, NR_ENDS };

static FREED_HERE void freed_here(enum end end, void *object)
{
    switch (end) {
    case FREE:
        free(object);
        break;
    case REALLOC_TO_0:
        CHECK(realloc(object, 0) == NULL);
        break;
    case FREE_SIZED:
        free_sized(object, 100);
        break;
    default:
        free_aligned_sized(object, 16, 100);
        break;
    }
    __asm__ volatile("");
}

/* The heap names who called the adapter, whatever the call. */
static void test_callers(void)
{
    static struct told told;
    struct mm_heap *before = malloc_heap;
    struct mm_heap *heap = recording_heap(&told);

    malloc_heap = heap;
    for (enum form form = MALLOC; form < NR_FORMS; form++) {
        void *object = made_here(form, form == MOVED ? malloc(10) : NULL);

        CHECK(object != NULL);
        CHECK(LIES_IN(only_caller(heap), made_here));
        free(object);
    }
    for (enum end end = FREE; end < NR_ENDS; end++) {
        void *object = malloc(100);

        told.nr = 0;
        freed_here(end, object);
        CHECK(told.nr == 0);
        freed_here(end, object);
        CHECK(told.nr == 1 && told.kind == MM_HEAP_DOUBLE_FREE);
        CHECK(LIES_IN(told.freed_by, freed_here));
        CHECK(LIES_IN(told.caller, freed_here));
    }
    malloc_heap = before;
    CHECK(mm_heap_check(heap) == MM_OK && mm_heap_destroy(heap) == MM_OK);
}

int main(void)
{
    uint64_t before;

    CHECK(malloc(1) == NULL && calloc(1, 1) == NULL && realloc(NULL, 1) == NULL); /* no heap yet */
    free(NULL);
    malloc_heap = test_heap();
    before = nr_objects();
    test_objects();
    CHECK(nr_objects() == before);
    test_out_of_memory();
    CHECK(nr_objects() == before);
    test_callers();
    CHECK(mm_heap_check(malloc_heap) == MM_OK);
    return 0;
}
