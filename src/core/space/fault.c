// SPDX-License-Identifier: MIT
/**
 * Page faults: one look at the regions, one at the tables, and what follows from both.
 *
 *     no region                          signal: not mapped (below a stack: it may grow)
 *     region forbids the access          signal: forbidden
 *     region allows it, and the page is
 *         absent, access a read          the zero page
 *         absent, access a write         a zeroed frame              (lazy memory)
 *         good enough                    nothing: stale, or another CPU was faster
 *         read-only, access a write      the frame if it is ours alone, else a copy
 *
 * The error code says what the access was; what was there is read from the tables, because they may
 * have changed since the access. So the answer "go on" always means that the access can succeed
 * now.
 *
 * The lock is shared: a page is put there, or exchanged, by one compare-and-exchange of its slot.
 * Of two CPUs that want one page one is told that it is taken, gives its frame back and looks again.
 * What changes more than a slot (a stack that grows, a leaf of 2 MiB) is done alone, in
 * fault_alone.c.
 *
 * Who else may change a frame's count meanwhile: relatives that share it may drop theirs at any
 * time, which makes a copy unnecessary and never wrong. A count of 1 cannot rise, because to share
 * the frame again this space must be cloned, which needs the lock alone.
 */
#include "fault.h"

#include "core/base/compiler.h"

#define FAULT_FLAGS_ALL                                                                            \
    (MM_FAULT_PRESENT | MM_FAULT_WRITE | MM_FAULT_EXEC | MM_FAULT_USER | MM_FAULT_RESERVED |       \
     MM_FAULT_PKEY | MM_FAULT_OTHER)

/* --- rights ----------------------------------------------------------------------------------- */

/** The rights that an access needs. */
static mm_prot_t needs(uint32_t flags)
{
    mm_prot_t need = (flags & MM_FAULT_WRITE) != 0 ? MM_PROT_WRITE : MM_PROT_NONE;

    need |= (flags & MM_FAULT_EXEC) != 0 ? MM_PROT_EXEC : MM_PROT_NONE;
    return need == MM_PROT_NONE ? MM_PROT_READ : need;
}

bool mmi_space_allows(const struct mm_space *space, const struct mmi_region *region, uint32_t flags)
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

static bool is_private(const struct mm_space *space, mm_paddr_t paddr)
{
    return mm_frame_refs(space->spaces->frames, mm_pfn_of(paddr)) == 1;
}

bool mmi_space_serves(const struct mmi_space_fault *fault, mm_prot_t prot, mm_paddr_t paddr)
{
    if ((prot & needs(fault->flags)) == needs(fault->flags)) {
        return true;
    }
    return fault->force &&
           ((fault->flags & MM_FAULT_WRITE) == 0 || is_private(fault->space, paddr));
}

/* --- a page that is not there ----------------------------------------------------------------- */

static enum mm_fault_result result_of(mm_status_t status)
{
    return status == MM_OK ? MM_FAULT_ZERO : MM_FAULT_NO_MEMORY;
}

/** MM_ERR_BUSY: another CPU was faster. */
static mm_status_t fill_with_zero_page(struct mmi_space_fault *fault,
                                       const struct mmi_region *region)
{
    struct mm_space *space = fault->space;
    mm_prot_t prot = region->attr.prot & ~(mm_prot_t)MM_PROT_WRITE;

    /* What may be written may be read. */
    prot |= (region->attr.prot & MM_PROT_WRITE) != 0 ? MM_PROT_READ : MM_PROT_NONE;
    fault->used_zero = true;
    return mmi_page_fill(space->table, fault->page, mm_pfn_addr(space->spaces->zero_page),
                         mmi_space_leaf_prot(space, prot));
}

static mm_status_t fill_with_frame(struct mmi_space_fault *fault, const struct mmi_region *region)
{
    struct mm_space *space = fault->space;
    mm_pfn_t frame = {0};
    mm_status_t status = mmi_space_alloc_page(space, fault->page, true, &frame);

    if (status != MM_OK) {
        return status;
    }
    status = mmi_page_fill(space->table, fault->page, mm_pfn_addr(frame),
                           mmi_space_leaf_prot(space, region->attr.prot));
    if (status != MM_OK) {
        (void)mm_frame_put(space->spaces->frames, frame);
    }
    return status;
}

static mm_status_t fill(struct mmi_space_fault *fault, const struct mmi_region *region)
{
    struct mm_space *space = fault->space;
    bool read = (fault->flags & MM_FAULT_WRITE) == 0 && (region->attr.flags & MM_SPACE_WIRED) == 0;
    mm_status_t status;

    if (!mmi_space_charge_pages(space, 1)) {
        return MM_ERR_LIMIT;
    }
    status = read ? fill_with_zero_page(fault, region) : fill_with_frame(fault, region);
    if (status != MM_OK) {
        fault->used_zero = false;
        mmi_space_refund_pages(space, 1);
    }
    return status;
}

/* --- a page that forbids what its region allows ----------------------------------------------- */

/*
 * A CPU that knows the old frame must not read there what another has written to the new one. So a
 * copy can be written to only after no CPU knows the frame before it:
 *
 *     copy       nobody of this space can write to the old frame: it is read-only in all CPUs
 *     exchange   the copy is there, and read-only: what CPUs read is the same in both
 *     flush      no CPU knows the old frame any more
 *     give up    the reference to it: a relative may find itself alone, and write there
 *     allow      the copy may be written
 *
 * A CPU that finds the copy before it may be written takes it for a frame that is its own, and
 * cannot know that the flush has not been. So who takes a frame flushes first, too: before anything
 * is written, again no CPU knows what was there before. A right too few that is cached after that is
 * a spurious fault at most. Who writes behind a leaf that forbids it (access.c) has the lock alone:
 * no copy is half made then.
 *
 * Who loses the race for a page may have read an old frame that was given up meanwhile; it throws
 * the copy away.
 */

static bool is_zero_page(const struct mm_space *space, mm_paddr_t paddr)
{
    return mm_pfn_of(paddr).raw == space->spaces->zero_page.raw;
}

/**
 * Copy a page that another CPU may be writing to: whoever asks for it throws the copy away, unless it
 * finds out afterwards that nobody could have been. The thread sanitizer cannot know that, and sees
 * no such copy.
 */
MMI_UNWATCHED static void copy_on_trial(void *to, const void *from)
{
    if (MMI_TSAN) {
        volatile uint64_t *words = to; /* or it would be a call of memcpy, which is watched */

        for (size_t i = 0; i < MM_PAGE_SIZE / sizeof(*words); i++) {
            words[i] = ((const volatile uint64_t *)from)[i];
        }
    } else {
        memcpy(to, from, MM_PAGE_SIZE);
    }
}

/** A copy of a page's frame; of the zero page a zeroed frame. No reference is taken for it: another
 * CPU may have been faster, and the frame be another's by now. Then the leaf is another as well, and
 * stays so while the lock is shared. */
static mm_status_t copy_of(struct mm_space *space, uint64_t page, mm_paddr_t from, mm_pfn_t *out)
{
    const struct mm_physmap *physmap = &space->spaces->physmap;
    bool zero = is_zero_page(space, from);
    mm_status_t status = mmi_space_alloc_page(space, page, zero, out);

    if (status == MM_OK && !zero) {
        copy_on_trial(mm_physmap_ptr(physmap, mm_pfn_addr(*out)), mm_physmap_ptr(physmap, from));
    }
    return status;
}

/** Let a page that is this space's alone be written, if its region lets it; nothing is stale. */
static mm_status_t allow(struct mmi_space_fault *fault, struct mmi_page *seen, mm_prot_t prot)
{
    mm_status_t status = MM_ERR_BUSY;

    prot = mmi_space_leaf_prot(fault->space, prot);
    while (status == MM_ERR_BUSY && seen->prot != prot) {
        /* Busy: the hardware has used it, or another CPU was faster. */
        status = mmi_page_swap(fault->space->table, fault->page, seen, seen->paddr, prot);
    }
    return status == MM_ERR_BUSY ? MM_OK : status;
}

static mm_status_t take_copy(struct mmi_space_fault *fault, struct mmi_page *seen, mm_prot_t prot)
{
    struct mm_space *space = fault->space;
    mm_prot_t until = (prot & ~(mm_prot_t)MM_PROT_WRITE) | (seen->prot & MM_PROT_READ);
    mm_paddr_t old = seen->paddr;
    mm_pfn_t copy = {0};
    mm_status_t status = copy_of(space, fault->page, old, &copy);

    if (status != MM_OK) {
        return status;
    }
    status = mmi_page_swap(space->table, fault->page, seen, mm_pfn_addr(copy),
                           mmi_space_leaf_prot(space, until));
    if (status != MM_OK) {
        (void)mm_frame_put(space->spaces->frames, copy);
        return status;
    }
    mmi_page_flush(space->table, fault->page);
    if (!is_zero_page(space, old)) {
        (void)mm_frame_put(space->spaces->frames, mm_pfn_of(old));
    }
    mmi_page_look(space->table, fault->page, seen);
    return allow(fault, seen, prot);
}

/** MM_ERR_BUSY: the page has changed since it was looked at. */
static mm_status_t unshare(struct mmi_space_fault *fault, struct mmi_page *seen, mm_prot_t prot)
{
    struct mm_space *space = fault->space;
    mm_status_t status;

    if (!is_private(space, seen->paddr)) {
        return take_copy(fault, seen, prot);
    }
    mmi_page_flush(space->table, fault->page);
    status = mmi_page_swap(space->table, fault->page, seen, seen->paddr,
                           mmi_space_leaf_prot(space, prot));
    if (status == MM_OK) {
        mmi_space_tag_page(space, fault->page, mm_pfn_of(seen->paddr));
        fault->reused = true;
    }
    return status;
}

/* --- a look ----------------------------------------------------------------------------------- */

static enum mm_fault_result alone(struct mmi_space_fault *fault)
{
    fault->needs_alone = true;
    return MM_FAULT_MINOR;
}

static enum mm_fault_result fill_hole(struct mmi_space_fault *fault,
                                      const struct mmi_region *region, bool *again)
{
    mm_status_t status = fill(fault, region);

    if (status == MM_ERR_BUSY) {
        *again = true;
        return MM_FAULT_MINOR;
    }
    if (status == MM_ERR_LIMIT) {
        return MM_FAULT_LIMIT;
    }
    fault->nr_filled = status == MM_OK ? 1 : 0;
    return result_of(status);
}

/** Whatever is there is a leaf of 4 KiB. */
static enum mm_fault_result use_leaf(struct mmi_space_fault *fault, struct mmi_page *seen,
                                     const struct mmi_region *region, bool *again)
{
    /* What is wired has a frame of its own, so that no later access needs one. */
    bool wired_zero =
        (region->attr.flags & MM_SPACE_WIRED) != 0 && is_zero_page(fault->space, seen->paddr);
    mm_status_t status;

    if (!wired_zero && mmi_space_serves(fault, seen->prot, seen->paddr)) {
        return MM_FAULT_MINOR;
    }
    if (mmi_region_is_device(region)) {
        return MM_FAULT_SIGNAL_ACCESS;
    }
    status = unshare(fault, seen, region->attr.prot);
    *again = status == MM_ERR_BUSY;
    return status == MM_OK || *again ? MM_FAULT_COW : MM_FAULT_NO_MEMORY;
}

/** One look at the tables. */
static enum mm_fault_result look(struct mmi_space_fault *fault, const struct mmi_region *region,
                                 bool *again)
{
    struct mmi_page seen;

    mmi_page_look(fault->space->table, fault->page, &seen);
    switch (seen.kind) {
    case MMI_PAGE_HOLE:
        if (mmi_region_is_device(region)) {
            return MM_FAULT_SIGNAL_BUS;
        }
        /* A table where 2 MiB could be means that they cannot. */
        if (seen.shift > MM_PAGE_SHIFT && !fault->force && !fault->small &&
            mmi_space_may_be_huge(fault->space, region, fault->page)) {
            return alone(fault);
        }
        return fill_hole(fault, region, again);
    case MMI_PAGE_LEAF:
        return use_leaf(fault, &seen, region, again);
    case MMI_PAGE_LARGE:
        if (mmi_space_serves(fault, seen.prot, seen.paddr)) {
            return MM_FAULT_MINOR;
        }
        return mmi_region_is_device(region) ? MM_FAULT_SIGNAL_ACCESS : alone(fault);
    case MMI_PAGE_SOFT:
    default:
        return MM_FAULT_SIGNAL_ACCESS;
    }
}

enum mm_fault_result mmi_space_resolve(struct mmi_space_fault *fault)
{
    struct mm_space *space = fault->space;
    const struct mmi_region *region = mmi_regions_from(&space->regions, fault->page);
    enum mm_fault_result result;
    bool again;

    fault->needs_alone = false;
    if (region == NULL || region->start > fault->page) {
        return region != NULL && (region->attr.flags & MM_SPACE_STACK) != 0 ? alone(fault)
                                                                            : MM_FAULT_SIGNAL_MAP;
    }
    if (mmi_region_is_guard(region) ||
        !(fault->force || mmi_space_allows(space, region, fault->flags))) {
        return MM_FAULT_SIGNAL_ACCESS;
    }
    /* Each turn is one that another CPU, or the hardware, was faster than. */
    do {
        again = false;
        result = look(fault, region, &again);
    } while (again);
    return result;
}

/* --- the calls -------------------------------------------------------------------------------- */

/** What is filled counts as MM_FAULT_ZERO by itself, so it is taken off where nothing counts. */
static void count(struct mmi_space_slot *slot, const struct mmi_space_fault *fault,
                  enum mm_fault_result result, bool counts)
{
    if (MMI_UNLIKELY(!counts)) {
        (void)mmi_fetch_sub(&slot->nr_faults[MM_FAULT_ZERO], fault->nr_filled);
        return;
    }
    if (fault->nr_filled == 0 || result != MM_FAULT_ZERO) {
        (void)mmi_fetch_add(&slot->nr_faults[result], 1);
    }
    if (fault->used_zero) {
        (void)mmi_fetch_add(&slot->nr_zero_page, 1);
    }
    if (fault->reused) {
        (void)mmi_fetch_add(&slot->nr_reused, 1);
    }
}

static enum mm_fault_result handle(struct mmi_space_fault *fault, bool counts)
{
    struct mm_space *space = fault->space;
    struct mmi_space_slot *slot = mmi_space_share(space);
    enum mm_fault_result result = mmi_space_resolve(fault);

    if (!fault->needs_alone) {
        count(slot, fault, result, counts);
        mmi_space_lock_unshare(slot, fault->nr_filled);
        return result;
    }
    mmi_space_unshare(slot);
    mmi_space_lock(space);
    result = mmi_space_resolve_alone(fault);
    count(slot, fault, result, counts);
    (void)mmi_fetch_add(&slot->word, fault->nr_filled << MMI_SPACE_FILLED_SHIFT);
    mmi_space_unlock(space);
    return result;
}

enum mm_fault_result mmi_space_fault_in(struct mm_space *space, uint64_t at, uint32_t flags,
                                        bool force)
{
    struct mmi_space_fault fault = {
        .space = space, .page = mm_align_down(at, MM_PAGE_SIZE), .flags = flags, .force = force};

    return handle(&fault, false);
}

enum mm_fault_result mmi_space_fault_in_alone(struct mm_space *space, uint64_t at, uint32_t flags,
                                              bool force)
{
    struct mmi_space_fault fault = {
        .space = space, .page = mm_align_down(at, MM_PAGE_SIZE), .flags = flags, .force = force};
    enum mm_fault_result result = mmi_space_resolve_alone(&fault);

    mmi_page_count(space->table, fault.nr_filled);
    return result;
}

static enum mm_fault_result tell_corrupt(struct mm_space *space)
{
    struct mmi_space_slot *slot = mmi_space_slot_of(&space->lock, &space->spaces->platform);

    (void)mmi_fetch_add(&slot->nr_faults[MM_FAULT_CORRUPT], 1);
    return MM_FAULT_CORRUPT;
}

static enum mm_fault_result answer(struct mm_space *space, const struct mm_fault *fault)
{
    struct mmi_space_fault f = {
        .space = space, .page = mm_align_down(fault->at.raw, MM_PAGE_SIZE), .flags = fault->flags};

    return handle(&f, true);
}

mm_status_t mm_space_fault(struct mm_space *space, const struct mm_fault *fault,
                           enum mm_fault_result *out)
{
    enum mm_fault_result result;

    if (space == NULL || fault == NULL || out == NULL || (fault->flags & ~FAULT_FLAGS_ALL) != 0) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    result = (fault->flags & MM_FAULT_RESERVED) != 0 ? tell_corrupt(space) : answer(space, fault);
    mmi_event(&space->spaces->platform, MM_EVENT_SPACE_FAULT, space, fault->at.raw,
              (uint64_t)result);
    *out = result;
    return MM_OK;
}
