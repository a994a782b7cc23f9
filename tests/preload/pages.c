// SPDX-License-Identifier: MIT
/**
 * A page source on mmap: a large reservation, cut into windows that are made usable when those
 * before them are full. Each window is a struct mm_page_range, whose bitmap is as long as the window
 * is; so a small program pays for a small one.
 *
 *     | 1 GiB | 15 GiB        | 240 GiB                                              |
 *
 * Pages that come back are given to the kernel before the window hears of them: so what a window
 * hands out is always zero, and what is resident is what is out. But a program that frees and
 * allocates by turns would fault in the same pages again and again: so runs that are not long go by way
 * of a stash, from which a request of the same length takes them as they are, and which pushes out
 * the oldest when it is full.
 *
 * No lock: a fork() in the middle of a call of another thread loses what that call had in its
 * hands, and nothing else.
 */
#define _GNU_SOURCE

#include "preload.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>

#define GIB UINT64_C(0x40000000)

/** The least that is worth a try, if the limits of the process do not allow all. */
#define ARENA_LEN_MIN (GIB / 16)

#define NR_WINDOWS 3
static const uint64_t window_ends[NR_WINDOWS] = {GIB, 16 * GIB, PRELOAD_ARENA_LEN};

/** Runs in a stash, and for the stashes: pages of the longest run, and of all (one run more in
 * passing). Slabs are up to 16 pages long; there are many of them, and they must not push out the
 * few that are longer. */
#define STASH_RUNS  64u
#define NR_STASHES  2u
#define LONGEST_RUN 256u

enum { CLOSED, OPENING, OPEN, BROKEN };

static struct window {
    uint8_t *base;
    uint64_t len;
    struct mm_page_range range;
    struct mm_page_source source;
    atomic_uint state;
} windows[NR_WINDOWS];

static struct stash {
    uint32_t longest;
    uint32_t most;
    _Atomic uint64_t nr_pages;
    _Atomic uint32_t next;
    /** Address and pages of a run: page-aligned, and less than a page. 0: none. */
    _Atomic uint64_t runs[STASH_RUNS];
} stashes[NR_STASHES] = {{.longest = 16, .most = 1024}, {.longest = LONGEST_RUN, .most = 2048}};

static uint64_t limit_pages;
static _Atomic uint64_t nr_held;
static _Atomic uint64_t nr_peak;
static _Atomic uint64_t nr_taken;
static PRELOAD_THREAD void *fresh;

/* --- windows ---------------------------------------------------------------------------------- */

/**
 * Whether the window is usable. Who finds another thread opening it goes on to the next one: a
 * thread that waited here in a child of fork() would wait for ever.
 */
static bool is_open(struct window *window)
{
    unsigned state = atomic_load_explicit(&window->state, memory_order_acquire);
    bool well;

    if (PRELOAD_LIKELY(state == OPEN)) {
        return true;
    }
    if (state != CLOSED || window->len == 0 ||
        !atomic_compare_exchange_strong(&window->state, &state, OPENING)) {
        return false;
    }
    well = mprotect(window->base, window->len, PROT_READ | PROT_WRITE) == 0 &&
           mm_page_range_init(&window->range, window->base, window->len) == MM_OK;
    if (well) {
        window->source = mm_page_source_range(&window->range);
    }
    atomic_store_explicit(&window->state, well ? OPEN : BROKEN, memory_order_release);
    return well;
}

static struct window *window_of(const void *pages)
{
    struct window *window = windows;

    while ((uint64_t)((const uint8_t *)pages - window->base) >= window->len) {
        window++; /* it is in one of them: the pool has asked for it here */
    }
    return window;
}

/* --- counts ----------------------------------------------------------------------------------- */

/** Count pages that are to go out; false: they are too many. */
static bool count_out(uint64_t nr)
{
    uint64_t held = atomic_fetch_add_explicit(&nr_held, nr, memory_order_relaxed) + nr;
    uint64_t peak = atomic_load_explicit(&nr_peak, memory_order_relaxed);

    if (held > limit_pages || nr > limit_pages) {
        atomic_fetch_sub_explicit(&nr_held, nr, memory_order_relaxed);
        return false;
    }
    while (peak < held && !atomic_compare_exchange_weak(&nr_peak, &peak, held)) {
    }
    return true;
}

static void count_back(uint64_t nr)
{
    atomic_fetch_sub_explicit(&nr_held, nr, memory_order_relaxed);
}

struct preload_pages preload_pages_count(void)
{
    return (struct preload_pages){.held = atomic_load(&nr_held),
                                  .peak = atomic_load(&nr_peak),
                                  .taken = atomic_load(&nr_taken)};
}

void *preload_pages_fresh(void)
{
    void *was = fresh;

    fresh = NULL;
    return was;
}

/* --- the stash -------------------------------------------------------------------------------- */

static void give_back(void *pages, uint64_t nr_pages)
{
    struct window *window = window_of(pages);
    int error = errno;

    if (madvise(pages, nr_pages * MM_PAGE_SIZE, MADV_DONTNEED) != 0) {
        memset(pages, 0, nr_pages * MM_PAGE_SIZE); /* locked by mlockall() */
        errno = error;
    }
    count_back(nr_pages);
    window->source.ops->free(window->source.ctx, pages, nr_pages);
}

static void *stash_run(uint64_t entry)
{
    return (void *)(uintptr_t)(entry & ~(uint64_t)MM_PAGE_MASK);
}

/** Where runs of this length are kept; NULL: nowhere. */
static struct stash *stash_of(uint64_t nr_pages)
{
    return nr_pages <= stashes[0].longest ? &stashes[0]
           : nr_pages <= LONGEST_RUN      ? &stashes[1]
                                          : NULL;
}

static bool stash_take(uint64_t nr_pages, uint64_t align, void **out)
{
    struct stash *stash = stash_of(nr_pages);

    for (unsigned i = 0; stash != NULL && i < STASH_RUNS; i++) {
        uint64_t entry = atomic_load_explicit(&stash->runs[i], memory_order_relaxed);

        if ((entry & MM_PAGE_MASK) == nr_pages && ((entry >> MM_PAGE_SHIFT) & (align - 1)) == 0 &&
            atomic_compare_exchange_strong(&stash->runs[i], &entry, 0)) {
            atomic_fetch_sub_explicit(&stash->nr_pages, nr_pages, memory_order_relaxed);
            *out = stash_run(entry);
            return true;
        }
    }
    return false;
}

/** Put an entry into the next place of a stash, or nothing, and give back what was there. */
static void stash_next(struct stash *stash, uint64_t entry)
{
    unsigned at = atomic_fetch_add_explicit(&stash->next, 1, memory_order_relaxed) % STASH_RUNS;

    entry = atomic_exchange(&stash->runs[at], entry);
    if (entry != 0) {
        atomic_fetch_sub_explicit(&stash->nr_pages, entry & MM_PAGE_MASK, memory_order_relaxed);
        give_back(stash_run(entry), entry & MM_PAGE_MASK);
    }
}

static void stash_put(struct stash *stash, void *pages, uint64_t nr_pages)
{
    atomic_fetch_add_explicit(&stash->nr_pages, nr_pages, memory_order_relaxed);
    stash_next(stash, (uint64_t)(uintptr_t)pages | nr_pages);
    for (unsigned i = 1; i < STASH_RUNS; i++) {
        if (atomic_load_explicit(&stash->nr_pages, memory_order_relaxed) <= stash->most) {
            return;
        }
        stash_next(stash, 0); /* the oldest go first */
    }
}

void preload_pages_trim(void)
{
    for (unsigned i = 0; i < NR_STASHES * STASH_RUNS; i++) {
        stash_next(&stashes[i % NR_STASHES], 0);
    }
}

/* --- the source ------------------------------------------------------------------------------- */

static bool window_alloc(uint64_t nr_pages, uint64_t align, uint32_t flags, void **out)
{
    if (!count_out(nr_pages)) {
        return false;
    }
    for (struct window *window = windows; window < windows + NR_WINDOWS; window++) {
        if (is_open(window) &&
            window->source.ops->alloc(window->source.ctx, nr_pages, align, flags, out) == MM_OK) {
            return true;
        }
    }
    count_back(nr_pages);
    return false;
}

static mm_status_t pages_alloc(void *ctx, uint64_t nr_pages, uint64_t align, uint32_t flags,
                               void **out)
{
    (void)ctx;
    atomic_fetch_add_explicit(&nr_taken, 1, memory_order_relaxed);
    if (stash_take(nr_pages, align, out)) {
        return MM_OK;
    }
    if (!window_alloc(nr_pages, align, flags, out)) {
        preload_pages_trim();
        if (!window_alloc(nr_pages, align, flags, out)) {
            errno = ENOMEM;
            return MM_ERR_NO_MEMORY;
        }
    }
    fresh = *out;
    return MM_OK;
}

static void pages_free(void *ctx, void *pages, uint64_t nr_pages)
{
    struct stash *stash = stash_of(nr_pages);

    (void)ctx;
    if (stash != NULL) {
        stash_put(stash, pages, nr_pages);
    } else {
        give_back(pages, nr_pages);
    }
}

static mm_status_t pages_extend(void *ctx, void *pages, uint64_t nr_pages, uint64_t more,
                                uint32_t flags)
{
    const struct mm_page_source *source = &window_of(pages)->source;

    (void)ctx;
    if (source->ops->extend == NULL || !count_out(more)) {
        return MM_ERR_NO_MEMORY;
    }
    if (source->ops->extend(source->ctx, pages, nr_pages, more, flags) != MM_OK) {
        count_back(more);
        return MM_ERR_NO_MEMORY;
    }
    return MM_OK;
}

static const struct mm_page_source_ops pages_ops = {
    .alloc = pages_alloc, .free = pages_free, .extend = pages_extend};

bool preload_pages_init(struct mm_page_source *out, uint64_t limit)
{
    struct sysinfo machine;
    uint64_t begin = 0;
    uint64_t len = PRELOAD_ARENA_LEN;
    void *arena;

    while ((arena = mmap(NULL, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
                         0)) == MAP_FAILED) {
        len /= 2;
        if (len < ARENA_LEN_MIN) {
            return false;
        }
    }
    for (unsigned i = 0; i < NR_WINDOWS && begin < len; i++) {
        uint64_t end = window_ends[i] < len ? window_ends[i] : len;

        windows[i].base = (uint8_t *)arena + begin;
        windows[i].len = end - begin;
        begin = end;
    }
    limit_pages = limit;
    if (limit == 0 && sysinfo(&machine) == 0) {
        limit_pages = (machine.totalram + machine.totalswap) * machine.mem_unit / MM_PAGE_SIZE;
    }
    *out = (struct mm_page_source){&pages_ops, NULL, (uint64_t)(uintptr_t)arena, len};
    return true;
}
