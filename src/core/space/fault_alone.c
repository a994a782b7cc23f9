// SPDX-License-Identifier: MIT
/**
 * Faults that change more than a slot: a stack grows, 2 MiB come at once, or a leaf of 2 MiB is
 * broken up. The lock is held alone.
 */
#include "fault.h"

/* --- stacks ----------------------------------------------------------------------------------- */

/** Whether what lies below leaves a stack its gap. A guard may touch it: it is one. */
static bool has_gap(const struct mm_space *space, const struct mmi_region *stack, uint64_t start)
{
    const struct mmi_region *below = mmi_region_prev(stack);

    return below == NULL || mmi_region_is_guard(below) ||
           start - (below->start + below->len) >= space->layout.stack_gap;
}

/** The stack above a page, if it may grow down to it. */
static struct mmi_region *growing(const struct mm_space *space, uint64_t page)
{
    struct mmi_region *n = mmi_regions_from(&space->regions, page);

    if (n == NULL || n->start <= page || (n->attr.flags & MM_SPACE_STACK) == 0) {
        return NULL;
    }
    if (page < space->layout.lowest || n->start + n->len - page > space->layout.stack_max ||
        !has_gap(space, n, page)) {
        return NULL;
    }
    return n;
}

/** MM_FAULT_MINOR: it has grown; MM_FAULT_ZERO: and has its pages. */
static enum mm_fault_result grow(struct mm_space *space, struct mmi_region *stack, uint64_t page)
{
    bool is_wired = (stack->attr.flags & MM_SPACE_WIRED) != 0;
    uint64_t more = stack->start - page;
    uint64_t nr_committed = mmi_space_promise(space, &stack->attr, more);
    mm_status_t status = mmi_space_charge(space, more, nr_committed);

    if (status != MM_OK) {
        return status == MM_ERR_LIMIT ? MM_FAULT_LIMIT : MM_FAULT_NO_MEMORY;
    }
    if (is_wired) {
        status = mmi_space_populate(space, page, more, stack->attr.prot, stack->attr.flags);
        if (status != MM_OK) {
            mmi_space_uncharge(space, more, nr_committed);
            return status == MM_ERR_LIMIT ? MM_FAULT_LIMIT : MM_FAULT_NO_MEMORY;
        }
    }
    mmi_regions_resize(&space->regions, stack, page, stack->len + more);
    space->nr_stack_growths++;
    return is_wired ? MM_FAULT_ZERO : MM_FAULT_MINOR;
}

/** The page for which it grew could not be had, so it has not grown. */
static void shrink_back(struct mm_space *space, struct mmi_region *stack, uint64_t start)
{
    uint64_t more = start - stack->start;

    mmi_regions_resize(&space->regions, stack, start, stack->len - more);
    mmi_space_uncharge(space, more, mmi_space_promise(space, &stack->attr, more));
    space->nr_stack_growths--;
}

/* --- leaves of 2 MiB -------------------------------------------------------------------------- */

/** MM_FAULT_MINOR: it cannot be had, and smaller leaves serve. */
static enum mm_fault_result try_huge(struct mm_space *space, const struct mmi_region *region,
                                     uint64_t page)
{
    uint64_t nr = MM_SIZE_2M / MM_PAGE_SIZE;

    if (!mmi_space_charge_pages(space, nr)) {
        return MM_FAULT_MINOR;
    }
    if (mmi_space_put_huge(space, mm_align_down(page, MM_SIZE_2M), region->attr.prot) != MM_OK) {
        mmi_space_refund_pages(space, nr);
        return MM_FAULT_MINOR;
    }
    return MM_FAULT_HUGE;
}

static bool all_private(const struct mm_space *space, mm_pfn_t first)
{
    for (uint64_t i = 0; i < MM_SIZE_2M / MM_PAGE_SIZE; i++) {
        if (mm_frame_refs(space->spaces->frames, mm_pfn(first.raw + i)) != 1) {
            return false;
        }
    }
    return true;
}

/** Take one page out of a large leaf that is shared, and put a copy there. */
static mm_status_t copy_out_of_leaf(struct mm_space *space, uint64_t page, mm_paddr_t old,
                                    mm_prot_t prot)
{
    const struct mm_physmap *physmap = &space->spaces->physmap;
    struct mm_frames *frames = space->spaces->frames;
    struct mmi_space_edit edit;
    struct mm_gather *gather;
    mm_pfn_t copy = {0};
    mm_status_t status =
        mmi_space_edit_begin(space, &edit, page, MM_PAGE_SIZE, (struct mmi_space_need){0}, 0);

    if (status != MM_OK) {
        return status;
    }
    status = mmi_space_alloc_page(space, page, false, &copy);
    if (status == MM_OK) {
        gather = mmi_space_gather(space);
        mmi_space_must(space,
                       mm_paging_unmap(space->table, mm_vrange(mm_vaddr(page), MM_PAGE_SIZE),
                                       MM_PAGING_SPLIT, gather),
                       "a large leaf cannot be split", page);
        mm_gather_end(gather);
        memcpy(mm_physmap_ptr(physmap, mm_pfn_addr(copy)), mm_physmap_ptr(physmap, old),
               MM_PAGE_SIZE);
        mmi_space_must(space,
                       mm_paging_map(space->table, mm_vrange(mm_vaddr(page), MM_PAGE_SIZE),
                                     mm_pfn_addr(copy), mmi_space_leaf_prot(space, prot),
                                     MM_MEMTYPE_WB, MM_PAGING_ONLY_4K),
                       "a page of a split leaf cannot be put back", page);
        (void)mm_frame_put(frames, mm_pfn_of(old));
    }
    mmi_space_edit_end(space, &edit);
    return status;
}

/** Give a part of large leaves, whose frames are nobody else's, the right to write. */
static void take_frames(struct mmi_space_fault *fault, uint64_t start, uint64_t len, mm_prot_t prot)
{
    struct mm_space *space = fault->space;
    struct mm_gather *gather = mmi_space_gather(space);

    mmi_space_must(space,
                   mm_paging_protect(space->table, mm_vrange(mm_vaddr(start), len),
                                     mmi_space_leaf_prot(space, prot), MM_PAGING_SPLIT, gather),
                   "a large leaf cannot be made writable", start);
    mm_gather_end(gather);
    fault->reused = true;
}

/** The page alone becomes writable, with the frame that it has. */
static mm_status_t take_out_of_leaf(struct mmi_space_fault *fault, mm_paddr_t frame, mm_prot_t prot)
{
    struct mm_space *space = fault->space;
    struct mmi_space_edit edit;
    mm_status_t status = mmi_space_edit_begin(space, &edit, fault->page, MM_PAGE_SIZE,
                                              (struct mmi_space_need){0}, 0);

    if (status == MM_OK) {
        take_frames(fault, fault->page, MM_PAGE_SIZE, prot);
        mmi_space_tag_page(space, fault->page, mm_pfn_of(frame));
        mmi_space_edit_end(space, &edit);
    }
    return status;
}

/** A write to a leaf of 2 MiB that may not be written. */
static enum mm_fault_result break_large(struct mmi_space_fault *fault,
                                        const struct mmi_region *region,
                                        const struct mmi_page *seen)
{
    struct mm_space *space = fault->space;
    uint64_t start = mm_align_down(fault->page, MM_SIZE_2M);
    uint64_t first = mm_pfn_of(seen->paddr).raw - ((fault->page - start) >> MM_PAGE_SHIFT);
    mm_status_t status;

    if (mm_frame_refs(space->spaces->frames, mm_pfn_of(seen->paddr)) != 1) {
        status = copy_out_of_leaf(space, fault->page, seen->paddr, region->attr.prot);
    } else if (all_private(space, mm_pfn(first))) {
        take_frames(fault, start, MM_SIZE_2M, region->attr.prot);
        status = MM_OK;
    } else {
        status = take_out_of_leaf(fault, seen->paddr, region->attr.prot);
    }
    return status == MM_OK ? MM_FAULT_COW : MM_FAULT_NO_MEMORY;
}

/* --- alone ------------------------------------------------------------------------------------ */

/** What the tables say that only who is alone can mend. MM_FAULT_MINOR: nothing, or it was not to
 * be had. */
static enum mm_fault_result mend_large(struct mmi_space_fault *fault,
                                       const struct mmi_region *region)
{
    struct mmi_page seen;

    mmi_page_look(fault->space->table, fault->page, &seen);
    if (seen.kind == MMI_PAGE_HOLE && seen.shift > MM_PAGE_SHIFT && !fault->force &&
        mmi_space_may_be_huge(fault->space, region, fault->page)) {
        return try_huge(fault->space, region, fault->page);
    }
    if (seen.kind == MMI_PAGE_LARGE && !mmi_space_serves(fault, seen.prot, seen.paddr)) {
        return break_large(fault, region, &seen);
    }
    return MM_FAULT_MINOR;
}

/** What a region allows is known, and large leaves are mended. */
static enum mm_fault_result resolve_in(struct mmi_space_fault *fault,
                                       const struct mmi_region *region)
{
    enum mm_fault_result result = MM_FAULT_MINOR;

    if (!mmi_region_is_guard(region) && !mmi_region_is_device(region) &&
        (fault->force || mmi_space_allows(fault->space, region, fault->flags))) {
        result = mend_large(fault, region);
    }
    if (result != MM_FAULT_MINOR) {
        return result;
    }
    fault->small = true;
    return mmi_space_resolve(fault);
}

enum mm_fault_result mmi_space_resolve_alone(struct mmi_space_fault *fault)
{
    struct mm_space *space = fault->space;
    struct mmi_region *stack = growing(space, fault->page);
    enum mm_fault_result grown = MM_FAULT_SIGNAL_MAP;
    enum mm_fault_result result;
    const struct mmi_region *region;
    uint64_t start = 0;

    /* The access is asked of the stack first: what it forbids does not make it grow. */
    if (stack != NULL && mmi_space_allows(space, stack, fault->flags)) {
        start = stack->start;
        grown = grow(space, stack, fault->page);
    }
    region = mmi_regions_find(&space->regions, fault->page);
    if (region == NULL) {
        return grown;
    }
    result = resolve_in(fault, region);
    if (start != 0 && !mm_fault_resolved(result)) {
        shrink_back(space, stack, start);
    }
    return result == MM_FAULT_MINOR && grown == MM_FAULT_ZERO ? MM_FAULT_ZERO : result;
}
