// SPDX-License-Identifier: MIT
/**
 * Page faults: one look at the regions, one at the tables, and what follows from both.
 *
 *     no region                          signal: not mapped
 *     region forbids the access          signal: forbidden
 *     region allows it, and the leaf is
 *         absent                         a zeroed frame              (lazy memory)
 *         good enough                    nothing: stale, or another CPU was faster
 *         read-only, access a write      the frame if it is ours alone, else a copy
 *
 * The error code says what the access was; what was there is read from the tables, because they may
 * have changed since the access. So the answer "go on" always means that the access can succeed
 * now.
 *
 * Who else may change a frame's count meanwhile: relatives that share it may drop theirs at any
 * time, which makes a copy unnecessary and never wrong. A count of 1 cannot rise, because to share
 * the frame again this space must be cloned, and its lock is held here.
 */
#include "internal.h"

#define FAULT_FLAGS_ALL                                                                            \
    (MM_FAULT_PRESENT | MM_FAULT_WRITE | MM_FAULT_EXEC | MM_FAULT_USER | MM_FAULT_RESERVED |       \
     MM_FAULT_PKEY | MM_FAULT_OTHER)

mm_status_t mmi_space_put_zeroed(struct mm_space *space, uint64_t at, mm_prot_t prot)
{
    const struct mm_frame_request request = {.flags = MM_FRAME_ZERO,
                                             .owner = space->is_kernel != 0 ? MM_OWNER_KERNEL
                                                                            : MM_OWNER_ANONYMOUS};
    struct mm_frames *frames = space->spaces->frames;
    mm_pfn_t frame = {0};
    mm_status_t status = mm_frame_alloc(frames, &request, &frame);

    if (status != MM_OK) {
        return status;
    }
    status = mm_paging_map(space->table, mm_vrange(mm_vaddr(at), MM_PAGE_SIZE), mm_pfn_addr(frame),
                           mmi_space_leaf_prot(space, prot), MM_MEMTYPE_WB, MM_PAGING_ONLY_4K);
    if (status != MM_OK) {
        (void)mm_frame_put(frames, frame);
    }
    return status;
}

/** The rights that an access needs. */
static mm_prot_t needs(uint32_t flags)
{
    mm_prot_t need = (flags & MM_FAULT_WRITE) != 0 ? MM_PROT_WRITE : MM_PROT_NONE;

    need |= (flags & MM_FAULT_EXEC) != 0 ? MM_PROT_EXEC : MM_PROT_NONE;
    return need == MM_PROT_NONE ? MM_PROT_READ : need;
}

/** Whether a region allows an access at all. */
static bool allowed(const struct mm_space *space, const struct mmi_region *region, uint32_t flags)
{
    mm_prot_t need = needs(flags);

    if ((flags & (MM_FAULT_PKEY | MM_FAULT_OTHER)) != 0) {
        return false;
    }
    /* A user reaches nothing of the kernel; the kernel may load and store in user memory (user.h),
     * and never execute there. */
    if (space->is_kernel != 0 ? (flags & MM_FAULT_USER) != 0
                              : (flags & (MM_FAULT_USER | MM_FAULT_EXEC)) == MM_FAULT_EXEC) {
        return false;
    }
    return (mmi_space_leaf_prot(space, region->attr.prot) & need) == need;
}

/** Whether the leaf allows it as it is. */
static bool leaf_allows(const struct mm_mapping *leaf, uint32_t flags)
{
    return (leaf->prot & needs(flags)) == needs(flags);
}

/** Copy the frame of a leaf and put the copy there. */
static mm_status_t copy_page(struct mm_space *space, const struct mm_mapping *leaf, mm_prot_t prot)
{
    const struct mm_frame_request request = {.owner = MM_OWNER_ANONYMOUS};
    const struct mm_physmap *physmap = &space->spaces->physmap;
    struct mm_frames *frames = space->spaces->frames;
    struct mm_gather *gather;
    mm_pfn_t copy = {0};
    mm_status_t status = mm_frame_alloc(frames, &request, &copy);

    if (status != MM_OK) {
        return status;
    }
    memcpy(mm_physmap_ptr(physmap, mm_pfn_addr(copy)), mm_physmap_ptr(physmap, leaf->paddr),
           MM_PAGE_SIZE);
    gather = mmi_space_gather(space);
    mmi_space_must(space,
                   mm_paging_replace(space->table, leaf->page.start, mm_pfn_addr(copy),
                                     mmi_space_leaf_prot(space, prot), MM_PAGING_RELEASE, gather),
                   "a shared page cannot be replaced", leaf->page.start.raw);
    mm_gather_end(gather);
    return MM_OK;
}

/** A leaf is there, and forbids what its region allows: it is shared, or was until lately. */
static mm_status_t unshare(struct mm_space *space, const struct mm_mapping *leaf, mm_prot_t prot)
{
    struct mm_gather *gather;

    if (mm_frame_refs(space->spaces->frames, mm_pfn_of(leaf->paddr)) != 1) {
        return copy_page(space, leaf, prot);
    }
    gather = mmi_space_gather(space);
    mmi_space_must(
        space,
        mm_paging_protect(space->table, leaf->page, mmi_space_leaf_prot(space, prot), 0, gather),
        "a page cannot be made writable", leaf->page.start.raw);
    mm_gather_end(gather);
    return MM_OK;
}

static enum mm_fault_result resolve(struct mm_space *space, const struct mm_fault *fault)
{
    const struct mmi_region *region;
    struct mm_mapping leaf;
    mm_status_t status;
    uint64_t page = mm_align_down(fault->at.raw, MM_PAGE_SIZE);

    if ((fault->flags & MM_FAULT_RESERVED) != 0) {
        return MM_FAULT_CORRUPT;
    }
    region = mmi_regions_find(&space->regions, fault->at.raw);
    if (region == NULL) {
        return MM_FAULT_SIGNAL_MAP;
    }
    if (!allowed(space, region, fault->flags)) {
        return MM_FAULT_SIGNAL_ACCESS;
    }
    status = mm_paging_translate(space->table, mm_vaddr(page), &leaf);
    if (status == MM_ERR_NOT_MAPPED) {
        status = mmi_space_put_zeroed(space, page, region->attr.prot);
        return status == MM_OK ? MM_FAULT_ZERO : MM_FAULT_NO_MEMORY;
    }
    mmi_space_must(space, status, "no page table", page);
    if (leaf_allows(&leaf, fault->flags)) {
        return MM_FAULT_MINOR;
    }
    status = unshare(space, &leaf, region->attr.prot);
    return status == MM_OK ? MM_FAULT_COW : MM_FAULT_NO_MEMORY;
}

mm_status_t mm_space_fault(struct mm_space *space, const struct mm_fault *fault,
                           enum mm_fault_result *out)
{
    enum mm_fault_result result;

    if (space == NULL || fault == NULL || out == NULL || (fault->flags & ~FAULT_FLAGS_ALL) != 0) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    mmi_space_lock(space);
    result = resolve(space, fault);
    space->nr_faults[result]++;
    mmi_space_unlock(space);
    mmi_event(&space->spaces->platform, MM_EVENT_SPACE_FAULT, space, fault->at.raw,
              (uint64_t)result);
    *out = result;
    return MM_OK;
}
