// SPDX-License-Identifier: MIT
/**
 * How the library reaches physical memory: through a direct map (an inlined add), or, where there
 * is none, through ops that map a frame for a moment.
 *
 * A direct map is data: physical address p is at `base` + p (modulo 2^64), for p from `first` on, `len`
 * bytes. With ops, `base` is not used, and each mm_physmap_get() is paired with one
 * mm_physmap_put().
 */
#ifndef MM_PHYSMAP_H
#define MM_PHYSMAP_H

#include <mm/addr.h>

MM_BEGIN_DECLS

struct mm_physmap_ops {
    /**
     * Map a frame; NULL if there is no room. Zeroing a frame then answers an error; a walk of page
     * tables, which cannot stop half-way, panics. Room for 6 frames is room enough: no call of the
     * library has more mapped at once.
     * Must be usable in every context in which the kernel calls the library.
     */
    void *(*map)(void *ctx, mm_pfn_t frame);
    /** End the mapping that map() returned. */
    void (*unmap)(void *ctx, void *mapped);
};

struct mm_physmap {
    uint64_t base;    /**< virtual address of physical address 0 (modulo 2^64); direct map only */
    mm_paddr_t first; /**< lowest physical address that is reachable */
    uint64_t len;     /**< bytes reachable from there; 0: all */
    const struct mm_physmap_ops *ops; /**< NULL: direct map */
    void *ctx;
};

/** A direct map of everything: the usual case. `base` is where physical address 0 is. */
static inline struct mm_physmap mm_physmap_direct(uint64_t base)
{
    struct mm_physmap m = {base, {0}, 0, NULL, NULL};
    return m;
}

/** Whether the bytes can be reached. */
static inline bool mm_physmap_covers(const struct mm_physmap *m, struct mm_prange r)
{
    return m->len == 0 ? mm_prange_valid(r)
                       : mm_range_covers(m->first.raw, m->len, r.start.raw, r.len);
}

/** Pointer to a byte of memory; direct map only (`ops` is NULL) and reachable. No check is made. */
static inline void *mm_physmap_ptr(const struct mm_physmap *m, mm_paddr_t a)
{
    return (void *)(uintptr_t)(m->base + a.raw);
}

/** Physical address behind a pointer into the direct map. No check is made. */
static inline mm_paddr_t mm_physmap_paddr(const struct mm_physmap *m, const volatile void *p)
{
    return mm_paddr((uint64_t)(uintptr_t)p - m->base);
}

/** Pointer to the start of a frame, to be given back with mm_physmap_put(); NULL only with ops. */
static inline void *mm_physmap_get(const struct mm_physmap *m, mm_pfn_t frame)
{
    return m->ops == NULL ? mm_physmap_ptr(m, mm_pfn_addr(frame)) : m->ops->map(m->ctx, frame);
}

static inline void mm_physmap_put(const struct mm_physmap *m, void *mapped)
{
    if (m->ops != NULL) {
        m->ops->unmap(m->ctx, mapped);
    }
}

MM_END_DECLS

#endif
