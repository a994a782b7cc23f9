// SPDX-License-Identifier: MIT
/**
 * Per-CPU areas: one template, one copy of it for each CPU, in the kernel's arena (kva.h).
 *
 *     template (a linker section)          the areas, one range of the arena
 *     ┌──────────────────┐            ┌───────────┬ ─ ─ ┬───────────┬ ─ ─ ┬───────────┐
 *     │ counter │ queue  │   copied   │ CPU 0's   guard │ CPU 1's   guard │ CPU 2's   │
 *     └──────────────────┘    ────>   └───────────┴ ─ ─ ┴───────────┴ ─ ─ ┴───────────┘
 *          &counter                    + 0 * stride       + 1 * stride      + 2 * stride
 *
 * Each area lies on frames of its CPU's node, in pages of its own: no two CPUs share a line, and
 * who writes beyond his area faults. The address of a CPU's copy is one multiplication and two
 * additions away.
 *
 *     extern char percpu_start[], percpu_end[];        // from the linker script
 *     static uint64_t counter __attribute__((section(".percpu")));
 *     ...
 *     uint64_t *mine = mm_percpu_ptr(&areas, cpu, &counter);
 */
#ifndef MM_PERCPU_H
#define MM_PERCPU_H

#include <mm/kva.h>

MM_BEGIN_DECLS

struct mm_percpu_config {
    struct mm_kva *kva;
    const void *start; /**< of the template: page offsets are kept, so any alignment up to a page */
    uint64_t len;      /**< bytes */
    uint32_t nr_cpus;  /**< 1 to MM_MAX_CPUS */
    /** Node of each CPU, `nr_cpus` of them; NULL: node 0. */
    const uint32_t *cpu_nodes;
};

/** The areas of all CPUs. Storage is the caller's; constant after init. */
struct mm_percpu {
    uint32_t magic;
    uint32_t nr_cpus;
    struct mm_kva *kva;
    uint64_t start;  /**< of the template */
    uint64_t len;    /**< of the template */
    uint64_t base;   /**< of CPU 0's copy: where the byte at `start` is */
    uint64_t stride; /**< from one copy to the next */
};

/**
 * Make the areas, each a copy of the template as it is now; what is left of the last page is zero.
 * The copies are written through the physmap of the arena.
 *
 * @param areas  zeroed storage
 * @return MM_OK | MM_ERR_ALREADY_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null; nr_cpus)
 *         | MM_ERR_INVALID_SIZE (length 0, or wraps; the areas are longer than the arena)
 *         | MM_ERR_NOT_INITIALIZED (kva) | MM_ERR_NO_MEMORY | MM_ERR_REGION_NOT_FOUND (no room in the
 *         arena) | MM_ERR_NODE_NOT_FOUND (a CPU's node) | MM_ERR_FAULT (as for mm_paging_map())
 *         | what the source of the kernel's root answers
 * Owner:  the caller keeps `areas`; the arena outlives it.
 * Locks:  as mm_kva_alloc(). Sleeps: never.
 * Cost:   O(CPUs * length).
 */
MM_MUST_CHECK
mm_status_t mm_percpu_init(struct mm_percpu *areas, const struct mm_percpu_config *config);

/**
 * Take the areas down, as mm_kva_free() does; the storage is zeroed.
 *
 * @return MM_OK | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null)
 * Locks:  none; nobody uses the areas. Cost: O(1).
 */
MM_MUST_CHECK
mm_status_t mm_percpu_destroy(struct mm_percpu *areas);

/**
 * Where a CPU's copy of a byte of the template is.
 *
 * @param areas  initialised; nothing is checked
 * @param cpu    below nr_cpus
 * @param at     in the template
 * Locks:  none; any context. Cost: one multiplication, two additions.
 */
static inline void *mm_percpu_ptr(const struct mm_percpu *areas, uint32_t cpu, const void *at)
{
    return (void *)(uintptr_t)(areas->base + cpu * areas->stride +
                               ((uint64_t)(uintptr_t)at - areas->start));
}

MM_END_DECLS

#endif
