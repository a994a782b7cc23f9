// SPDX-License-Identifier: MIT
/**
 * malloc and its family over a heap of the library, for LD_PRELOAD: any program runs on it.
 *
 * The heap is made by the first call, whoever makes it; that is the dynamic linker or the library
 * itself, before there is a second thread. Nothing is ever taken down. The heap has no lock, and the page source
 * none either, so nothing needs to be done about fork().
 *
 * Variables of the environment (docs/testing/preload.md): MM_PRELOAD_STATS, MM_PRELOAD_TRACE,
 * MM_PRELOAD_TRACE_EVENTS, MM_PRELOAD_LIMIT, MM_PRELOAD_TIER, MM_PRELOAD_SAMPLE.
 */
#define _GNU_SOURCE

#include "preload.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

/** CPU numbers are taken modulo this. */
#define NR_CPUS 64u

/** From this size on calloc() asks whether the pages are zero already; well above the slabs. */
#define FRESH_MIN 16384u

enum { NOT_MADE, MAKING, MADE };

static struct mm_pool pool;
static struct mm_heap heap;
static atomic_uint state;

/** Whether calls are counted or recorded: what the hot paths ask. */
static atomic_bool observed;

/** The heap writes nothing into what it hands out. */
static bool untouched;

/** It records who allocated and who freed, if only of samples. */
static bool recorded;

/** Who called malloc or a friend of it: the heap is to name that one, and not this file. */
#define CALLER() __builtin_return_address(0)

static char stats_file[512]; /* empty: no statistics */
static int stats_fd = -1;    /* a second standard error, since programs close theirs as they end */
static _Atomic uint64_t nr_allocated;
static _Atomic uint64_t nr_freed;
static _Atomic uint64_t nr_resized;

/* --- the first call --------------------------------------------------------------------------- */

static void fail(const char *what)
{
    preload_say("mm_preload: %s", what);
    _exit(127);
}

static void make(void)
{
    struct mm_pool_config config = {.platform = {&preload_platform_ops, NULL}, .nr_cpus = NR_CPUS};
    struct mm_heap_config heap_config = {.name = "malloc"};
    char trace_file[480];

    if (!preload_tier(&heap_config, &heap)) {
        fail("nothing was run");
    }
    untouched = heap_config.tier != MM_HEAP_HARDENED;
    recorded = !untouched || heap_config.sample_every != 0;
    if (!preload_pages_init(&config.source, preload_option_number("MM_PRELOAD_LIMIT") * 1024 / 4)) {
        fail("no address space");
    }
    if (mm_pool_init(&pool, &config) != MM_OK ||
        mm_heap_init(&heap, &pool, &heap_config) != MM_OK) {
        fail("no memory for the heap");
    }
    if (preload_option("MM_PRELOAD_TRACE", trace_file, sizeof(trace_file))) {
        preload_trace_init(trace_file, preload_option_number("MM_PRELOAD_TRACE_EVENTS"));
    }
    if (!preload_option("MM_PRELOAD_STATS", stats_file, sizeof(stats_file))) {
        stats_file[0] = '\0';
    } else if (strcmp(stats_file, "1") == 0) {
        stats_fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 64);
    }
    atomic_store(&observed, stats_file[0] != '\0' || preload_tracing());
}

__attribute__((noinline)) static void first_call(void)
{
    unsigned seen = NOT_MADE;

    if (atomic_compare_exchange_strong(&state, &seen, MAKING)) {
        make();
        atomic_store_explicit(&state, MADE, memory_order_release);
    }
    while (atomic_load_explicit(&state, memory_order_acquire) != MADE) {
        __builtin_ia32_pause();
    }
}

/** At the latest before main(), so that a program finds the handler of faults in its place. */
__attribute__((constructor)) static void begin(void)
{
    if (atomic_load(&state) != MADE) {
        first_call();
    }
}

static inline struct mm_heap *the_heap(void)
{
    if (PRELOAD_UNLIKELY(atomic_load_explicit(&state, memory_order_acquire) != MADE)) {
        first_call();
    }
    return &heap;
}

static inline uint32_t cpu(void)
{
    return preload_cpu() % NR_CPUS;
}

/* --- what is seen of it ----------------------------------------------------------------------- */

static inline bool is_observed(void)
{
    return PRELOAD_UNLIKELY(atomic_load_explicit(&observed, memory_order_relaxed));
}

/**
 * Whether nothing needs to be done after the heap's call: that is then the last thing, a jump, so
 * that the heap sees who called. If it fails, the page source has set errno, for it alone lacks
 * memory.
 */
static inline bool is_plain(size_t size)
{
    return PRELOAD_LIKELY(size <= PRELOAD_ARENA_LEN) && !is_observed();
}

/** An allocation was done, or failed. */
static void *allocated(enum preload_op op, void *object, size_t size, size_t align)
{
    if (PRELOAD_UNLIKELY(object == NULL)) {
        errno = ENOMEM;
    } else if (is_observed()) {
        atomic_fetch_add(&nr_allocated, 1);
        preload_trace(op, object, size, align);
    }
    return object;
}

static void release(void *object, const void *caller)
{
    if (is_observed() && object != NULL) {
        atomic_fetch_add(&nr_freed, 1);
        preload_trace(PRELOAD_FREE, object, 0, 0);
    }
    mm_heap_free_from(the_heap(), object, caller);
}

/** One line to the file, in one write, so that processes do not mix theirs. */
static void __attribute__((destructor)) report(void)
{
    struct preload_pages pages = preload_pages_count();
    struct mm_heap_stats stats;
    char line[512];
    bool sound;
    int file;
    int len;

    if (stats_file[0] == '\0' || mm_heap_get_stats(&heap, &stats) != MM_OK) {
        return;
    }
    sound = mm_heap_check(&heap) == MM_OK;
    len = snprintf(line, sizeof(line),
                   "%s: %llu allocated, %llu freed, %llu resized, %llu live, %llu pages at the "
                   "peak, %llu held, %llu page requests, %s\n",
                   program_invocation_short_name, (unsigned long long)nr_allocated,
                   (unsigned long long)nr_freed, (unsigned long long)nr_resized,
                   (unsigned long long)stats.nr_objects, (unsigned long long)pages.peak,
                   (unsigned long long)pages.held, (unsigned long long)pages.taken,
                   sound ? "sound" : "UNSOUND");
    file = stats_fd >= 0 ? stats_fd
                         : open(stats_file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    if (file < 0 || write(file, line, (size_t)len) != len) {
        preload_say("mm_preload: %s cannot be written", stats_file);
    }
    if (file >= 0) {
        close(file);
    }
}

/** For a test that must know whether it runs on this malloc: pages that are held. */
EXPORT uint64_t mm_preload_held(void);
uint64_t mm_preload_held(void)
{
    return preload_pages_count().held;
}

/* --- the family ------------------------------------------------------------------------------- */

__attribute__((noinline)) static void *malloc_observed(size_t size, const void *caller)
{
    return allocated(PRELOAD_ALLOC, mm_heap_alloc_from(the_heap(), size, 0, 0, caller), size, 0);
}

EXPORT void *malloc(size_t size)
{
    if (is_plain(size)) {
        return mm_heap_alloc_on(the_heap(), cpu(), size);
    }
    return malloc_observed(size, CALLER());
}

EXPORT void free(void *object)
{
    if (is_observed()) {
        release(object, CALLER());
    } else {
        mm_heap_free_on(the_heap(), cpu(), object);
    }
}

/* As in C23. */
EXPORT void free_sized(void *object, size_t size);
void free_sized(void *object, size_t size)
{
    if (is_observed()) {
        release(object, CALLER());
    } else {
        mm_heap_free_sized_from(the_heap(), object, size, 0, CALLER());
    }
}

EXPORT void free_aligned_sized(void *object, size_t align, size_t size);
void free_aligned_sized(void *object, size_t align, size_t size)
{
    if (is_observed()) {
        release(object, CALLER());
    } else {
        mm_heap_free_sized_from(the_heap(), object, size, align, CALLER());
    }
}

EXPORT void *calloc(size_t nr, size_t size)
{
    size_t bytes;
    void *object;

    if (__builtin_mul_overflow(nr, size, &bytes)) {
        errno = ENOMEM;
        return NULL;
    }
    if (PRELOAD_UNLIKELY(recorded) && (!untouched || bytes < FRESH_MIN)) {
        object = mm_heap_alloc_from(the_heap(), bytes, 0, MM_HEAP_ZEROED, CALLER());
    } else if (bytes < FRESH_MIN) {
        object = mm_heap_alloc_on(the_heap(), cpu(), bytes);
        if (PRELOAD_LIKELY(object != NULL)) {
            memset(object, 0, bytes);
        }
    } else {
        (void)preload_pages_fresh();
        object = mm_heap_alloc_on(the_heap(), cpu(), bytes);
        if (object != NULL && preload_pages_fresh() != object) {
            memset(object, 0, bytes);
        }
    }
    return allocated(PRELOAD_ZEROED, object, bytes, 0);
}

static void *resize(void *object, size_t size, const void *caller)
{
    void *moved;

    if (object == NULL) {
        return malloc_observed(size, caller);
    }
    if (size == 0) { /* as glibc does */
        release(object, caller);
        return NULL;
    }
    if (is_plain(size)) {
        return mm_heap_realloc_from(the_heap(), object, size, caller);
    }
    if (is_observed()) {
        atomic_fetch_add(&nr_resized, 1);
        preload_trace(PRELOAD_REALLOC_BEGIN, object, 0, 0);
    }
    moved = mm_heap_realloc_from(the_heap(), object, size, caller);
    if (is_observed()) {
        preload_trace(PRELOAD_REALLOC_END, moved, size, 0);
    }
    if (moved == NULL) {
        errno = ENOMEM;
    }
    return moved;
}

EXPORT void *realloc(void *object, size_t size)
{
    return resize(object, size, CALLER());
}

EXPORT void *reallocarray(void *object, size_t nr, size_t size)
{
    size_t bytes;

    if (__builtin_mul_overflow(nr, size, &bytes)) {
        errno = ENOMEM;
        return NULL;
    }
    return resize(object, bytes, CALLER());
}

static inline void *aligned(size_t align, size_t size, const void *caller)
{
    return allocated(PRELOAD_ALIGNED, mm_heap_alloc_from(the_heap(), size, align, 0, caller), size,
                     align);
}

EXPORT int posix_memalign(void **out, size_t align, size_t size)
{
    int error = errno;
    void *object;

    if (align % sizeof(void *) != 0 || !mm_is_pow2(align)) {
        return EINVAL;
    }
    object = aligned(align, size, CALLER());
    errno = error;
    if (object == NULL) {
        return ENOMEM;
    }
    *out = object;
    return 0;
}

EXPORT void *aligned_alloc(size_t align, size_t size)
{
    if (!mm_is_pow2(align)) {
        errno = EINVAL;
        return NULL;
    }
    return aligned(align, size, CALLER());
}

/** An alignment that is no power of two is rounded up to one, as glibc does. */
EXPORT void *memalign(size_t align, size_t size)
{
    size_t power = 1;

    if (align > MM_HEAP_MAX_ALIGN) {
        errno = ENOMEM;
        return NULL;
    }
    while (power < align) {
        power *= 2;
    }
    return aligned(power, size, CALLER());
}

EXPORT void *valloc(size_t size)
{
    return aligned(MM_PAGE_SIZE, size, CALLER());
}

EXPORT void *pvalloc(size_t size)
{
    if (size > SIZE_MAX - MM_PAGE_MASK) {
        errno = ENOMEM;
        return NULL;
    }
    return aligned(MM_PAGE_SIZE, (size + MM_PAGE_MASK) & ~(size_t)MM_PAGE_MASK, CALLER());
}

EXPORT size_t malloc_usable_size(void *object)
{
    return mm_heap_usable_size(the_heap(), object);
}

EXPORT int malloc_trim(size_t pad)
{
    bool any = mm_heap_reclaim(the_heap()) != 0;

    (void)pad;
    preload_pages_trim();
    return any;
}
