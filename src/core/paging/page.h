// SPDX-License-Identifier: MIT
/**
 * One page of 4 KiB at a time, for faults that share the owner's lock.
 *
 * Under a shared lock entries only come, or are exchanged: no table goes, none is merged, no leaf is
 * split. So each step is one walk and one compare-and-exchange, and two CPUs that want one page find
 * out there which was first. Leaves are not counted here, because the count lies on a line that all
 * CPUs would write: who shares the lock keeps a count of his own, and adds it when he has the lock
 * alone.
 *
 * Arguments are not checked: `at` lies in what the page table declares, addresses are aligned, and
 * a protection is one that mm_paging_map() takes for this page table. Memory is write-back. User
 * roots that a direct map shows are walked fast, all others in the general way.
 */
#ifndef MMI_PAGING_PAGE_H
#define MMI_PAGING_PAGE_H

#include "internal.h"

enum mmi_page_kind {
    MMI_PAGE_HOLE,  /**< no table, or an empty slot */
    MMI_PAGE_LEAF,  /**< a leaf of 4 KiB */
    MMI_PAGE_LARGE, /**< part of a larger leaf */
    MMI_PAGE_SOFT   /**< the kernel's own word or a guard, of any size */
};

/** What a page's slot holds. All but `kind`, `shift` and `raw` is 0 where there is no leaf. */
struct mmi_page {
    uint64_t raw;     /**< the slot itself: what mmi_page_swap() compares */
    mm_paddr_t paddr; /**< of this page, also within a larger leaf */
    enum mmi_page_kind kind;
    mm_prot_t prot; /**< what is effective */
    uint8_t shift;  /**< log2 of the bytes that the slot covers */
    bool accessed;
    bool dirty;
};

/**
 * What is at a page.
 *
 * Locks:  the owner's, shared. Sleeps: never. Cost: one walk.
 */
static inline void mmi_page_look(const struct mm_pagetable *pt, uint64_t at, struct mmi_page *out)
{
    pt->backend.ops->page_look(pt, at, out);
}

/**
 * Install a leaf where nothing is, and make the tables that are missing. The leaf is not counted:
 * see mmi_page_count().
 *
 * @return MM_OK | MM_ERR_BUSY (something is there) | MM_ERR_PERMISSION_DENIED (adopted kernel root:
 *         as for mm_paging_map()) | MM_ERR_FAULT (as for mm_paging_init_kernel()) | what the source
 *         answers
 * Locks:  the owner's, shared. Sleeps: never.
 * Cost:   one walk and one atomic; a frame for each table that is missing.
 */
MM_MUST_CHECK
static inline mm_status_t mmi_page_fill(struct mm_pagetable *pt, uint64_t at, mm_paddr_t paddr,
                                        mm_prot_t prot)
{
    return pt->backend.ops->page_fill(pt, at, paddr, prot);
}

/**
 * Exchange a leaf of 4 KiB, as it was seen, for one with this frame and protection. Type, software
 * bits, key and dirty stay; with the same frame accessed too, else the new leaf was not. Nothing is flushed: mmi_page_flush() before the old frame or right is given up.
 *
 * @param seen  of kind MMI_PAGE_LEAF. On MM_ERR_BUSY: what is there now
 * @return MM_OK | MM_ERR_BUSY (it is another leaf, or none, or was used or written to since)
 *         | MM_ERR_PERMISSION_DENIED (adopted kernel root: as for mm_paging_map())
 * Locks:  the owner's, shared. Sleeps: never. Cost: one walk and one atomic.
 */
MM_MUST_CHECK
static inline mm_status_t mmi_page_swap(struct mm_pagetable *pt, uint64_t at, struct mmi_page *seen,
                                        mm_paddr_t paddr, mm_prot_t prot)
{
    return pt->backend.ops->page_swap(pt, at, seen, paddr, prot);
}

/**
 * Before it returns, every CPU has dropped what it knew of one page of 4 KiB.
 *
 * Locks:  none, or the owner's, shared or not; none that is ever taken with interrupts off.
 * Sleeps: never. Cost: as mm_gather_end() of one page.
 */
static inline void mmi_page_flush(struct mm_pagetable *pt, uint64_t at)
{
    mmi_paging_flush_now(pt, mm_vrange(mm_vaddr(at), MM_PAGE_SIZE), MM_PAGE_SHIFT);
}

/**
 * Add leaves that mmi_page_fill() installed to the count.
 *
 * Locks:  the owner's, exclusive.
 */
static inline void mmi_page_count(struct mm_pagetable *pt, uint64_t nr)
{
    pt->nr_leaves[0] += nr;
}

#endif
