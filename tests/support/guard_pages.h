// SPDX-License-Identifier: MIT
/**
 * Guarded pages for sampled objects, by the host's own page tables: a window of address space in
 * which nothing may be accessed until a page is opened.
 */
#ifndef T_GUARD_PAGES_H
#define T_GUARD_PAGES_H

#include <mm/heap_report.h>

#include <stdlib.h>
#include <sys/mman.h>

#define T_GUARD_PAGE UINT64_C(4096)

struct t_guards {
    void *window;
    uint64_t len;
    uint64_t nr_opened; /**< atomic, as what follows */
    uint64_t nr_closed;
    bool refuse; /**< open() fails */
};

static inline mm_status_t t_guards_open(void *ctx, void *page)
{
    struct t_guards *guards = ctx;

    if (__atomic_load_n(&guards->refuse, __ATOMIC_RELAXED)) {
        return MM_ERR_NO_MEMORY;
    }
    if (mprotect(page, T_GUARD_PAGE, PROT_READ | PROT_WRITE) != 0) {
        return MM_ERR_NO_MEMORY;
    }
    __atomic_fetch_add(&guards->nr_opened, UINT64_C(1), __ATOMIC_RELAXED);
    return MM_OK;
}

static inline void t_guards_close(void *ctx, void *page)
{
    struct t_guards *guards = ctx;

    if (mprotect(page, T_GUARD_PAGE, PROT_NONE) != 0) {
        abort();
    }
    __atomic_fetch_add(&guards->nr_closed, UINT64_C(1), __ATOMIC_RELAXED);
}

static const struct mm_heap_guard_ops t_guards_ops = {.open = t_guards_open,
                                                      .close = t_guards_close};

/** A window for so many objects. */
static inline struct mm_heap_guards t_guards_new(struct t_guards *guards, uint64_t nr)
{
    *guards = (struct t_guards){.len = (2 * nr + 1) * T_GUARD_PAGE};
    guards->window =
        mmap(NULL, guards->len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (guards->window == MAP_FAILED) {
        abort();
    }
    return (struct mm_heap_guards){&t_guards_ops, guards, (uint64_t)(uintptr_t)guards->window,
                                   guards->len};
}

static inline void t_guards_delete(struct t_guards *guards)
{
    munmap(guards->window, guards->len);
}

#endif
