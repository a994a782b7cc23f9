// SPDX-License-Identifier: MIT
/**
 * Several CPUs: what tlb.c, switch.c and gather.c know of each other. The theory is in mm/tlb.h.
 */
#ifndef MMI_PAGING_SHOOTDOWN_H
#define MMI_PAGING_SHOOTDOWN_H

#include "core/base/atomic.h"
#include "internal.h"

#define MMI_TLB_MAGIC 0x626c744du /* "Mtlb" */

/** In mm_tlb_cpu.loaded: the root is being loaded. */
#define MMI_TLB_LOADING ((uintptr_t)1)

/** No CPU: the one that runs is not online. */
#define MMI_TLB_NOBODY UINT32_MAX

/** MM_OK | MM_ERR_INVALID_ARGUMENT (null) | MM_ERR_NOT_INITIALIZED */
static inline mm_status_t mmi_tlb_check(const struct mm_tlb *tlb)
{
    if (tlb == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    return tlb->magic == MMI_TLB_MAGIC ? MM_OK : MM_ERR_NOT_INITIALIZED;
}

/** Whether generation `a` is `b` or newer, across the end of the numbers. */
static inline bool mmi_gen_reached(uint64_t a, uint64_t b)
{
    return a - b < UINT64_C(1) << 63;
}

static inline bool mmi_cpu_is_in(const struct mm_cpu_mask *mask, uint32_t cpu)
{
    return ((mmi_load_seq(&mask->bits[cpu / 64]) >> (cpu % 64)) & 1) != 0;
}

static inline void mmi_cpu_enter(struct mm_cpu_mask *mask, uint32_t cpu)
{
    (void)mmi_fetch_or_seq(&mask->bits[cpu / 64], UINT64_C(1) << (cpu % 64));
}

static inline void mmi_cpu_leave(struct mm_cpu_mask *mask, uint32_t cpu)
{
    (void)mmi_fetch_and_seq(&mask->bits[cpu / 64], ~(UINT64_C(1) << (cpu % 64)));
}

/** Words of a mask that can hold a CPU. */
static inline uint32_t mmi_tlb_words(const struct mm_tlb *tlb)
{
    return (tlb->nr_cpus + 63) / 64;
}

/** Interrupts off, if the platform can; where it cannot, the caller has seen to it. */
static inline uintptr_t mmi_interrupts_off(const struct mm_platform *platform)
{
    return platform->ops != NULL && platform->ops->interrupt_save != NULL
               ? platform->ops->interrupt_save(platform->ctx)
               : 0;
}

static inline void mmi_interrupts_restore(const struct mm_platform *platform, uintptr_t saved)
{
    if (platform->ops != NULL && platform->ops->interrupt_restore != NULL) {
        platform->ops->interrupt_restore(platform->ctx, saved);
    }
}

/** Count for the CPU that runs. An interrupt in between may lose one count: these are statistics. */
static inline void mmi_tlb_count(uint64_t *counter, uint64_t n)
{
    mmi_store(counter, mmi_load(counter) + n);
}

/** Leaves of 1 << shift bytes, at most, in [first, last]. */
static inline uint64_t mmi_nr_leaves(uint64_t first, uint64_t last, unsigned shift)
{
    return (last >> shift) - (first >> shift) + 1;
}

/** The number of the CPU that runs; MMI_TLB_NOBODY if it is not online. */
uint32_t mmi_tlb_this_cpu(const struct mm_tlb *tlb);

/** The CPUs that may hold translations of a page table which are in use. */
const struct mm_cpu_mask *mmi_tlb_mask(const struct mm_pagetable *pt);

/** Whether a CPU is among them. */
bool mmi_tlb_in_use(const struct mm_pagetable *pt);

/** Begin the generations of a page table whose `tlb` is set. */
void mmi_tlb_begin(struct mm_pagetable *pt);

/**
 * Make every CPU drop translations that the tables do not give any more, and wait until it is done.
 *
 * @param shifts  by range: log2 of the smallest leaf
 * @param nr      of ranges; 0: everything
 */
void mmi_tlb_flush(struct mm_pagetable *pt, const struct mm_vrange *ranges, const uint8_t *shifts,
                   uint32_t nr);

/** Load a root on this CPU; `fresh`: and drop everything. MM_OK | MM_ERR_NOT_INITIALIZED */
mm_status_t mmi_tlb_switch(struct mm_pagetable *pt, bool fresh);

#endif
