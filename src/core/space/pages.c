// SPDX-License-Identifier: MIT
/**
 * Pages of a space: put there, dropped; and frames that are put aside, so that a later step cannot
 * fail.
 *
 * What must be there at once is had first: a chain of frames for the pages and one for the tables.
 * Frames that nobody sees yet hold their own chain, in their first word.
 */
#include "internal.h"

#include "core/frame/state.h"

struct mm_gather *mmi_space_gather(struct mm_space *space)
{
    mmi_space_must(space, mm_gather_begin(&space->gather, space->table), "no page table",
                   space->id);
    return &space->gather;
}

/* --- frames put aside ------------------------------------------------------------------------- */

static uint64_t *link_of(const struct mmi_space_spare *spare, uint64_t frame)
{
    return mm_physmap_ptr(&spare->spaces->physmap, mm_pfn_addr(mm_pfn(frame)));
}

static void push(struct mmi_space_spare *spare, mm_pfn_t frame)
{
    *link_of(spare, frame.raw) = spare->head;
    spare->head = frame.raw;
    spare->nr++;
}

/** One of them, zeroed; there is one. */
static mm_pfn_t take_spare(struct mmi_space_spare *spare)
{
    uint64_t frame = spare->head;
    uint64_t *link = link_of(spare, frame);

    spare->head = *link;
    spare->nr--;
    *link = 0;
    return mm_pfn(frame);
}

static mm_status_t source_alloc(void *ctx, enum mm_frame_owner owner, bool zeroed, mm_pfn_t *out)
{
    struct mmi_space_spare *spare = ctx;

    (void)owner;
    (void)zeroed; /* they always are */
    if (spare->nr == 0) {
        return MM_ERR_NO_MEMORY;
    }
    *out = take_spare(spare);
    return MM_OK;
}

/* A call that fails gives back what it took; what it wrote there is no matter. */
static void source_free(void *ctx, mm_pfn_t frame)
{
    struct mmi_space_spare *spare = ctx;

    memset(link_of(spare, frame.raw), 0, MM_PAGE_SIZE);
    push(spare, frame);
}

static const struct mm_frame_source_ops source_ops = {.alloc = source_alloc, .free = source_free};

void mmi_space_spare_init(struct mm_space *space, struct mmi_space_spare *spare)
{
    *spare = (struct mmi_space_spare){.spaces = space->spaces,
                                      .source = {.ops = &source_ops, .ctx = spare}};
}

mm_status_t mmi_space_spare_fill(struct mmi_space_spare *spare, enum mm_frame_owner owner,
                                 uint64_t nr)
{
    const struct mm_frame_request request = {.flags = MM_FRAME_ZERO, .owner = (uint32_t)owner};
    struct mm_frames *frames = spare->spaces->frames;

    if (nr > frames->nr_frames) {
        return MM_ERR_NO_MEMORY; /* or all memory would be taken, only to be given back */
    }
    for (uint64_t i = 0; i < nr; i++) {
        mm_pfn_t frame;
        mm_status_t status = mm_frame_alloc(frames, &request, &frame);

        if (status != MM_OK) {
            mmi_space_spare_drop(spare);
            return status;
        }
        push(spare, frame);
        if (owner == MM_OWNER_PAGE_TABLE &&
            !mm_physmap_covers(&spare->spaces->kernel_table->physmap,
                               mm_prange(mm_pfn_addr(frame), MM_PAGE_SIZE))) {
            mmi_space_spare_drop(spare);
            return MM_ERR_FAULT; /* no table can lie there */
        }
    }
    return MM_OK;
}

void mmi_space_spare_drop(struct mmi_space_spare *spare)
{
    while (spare->nr != 0) {
        (void)mm_frame_put(spare->spaces->frames, take_spare(spare));
    }
}

/* --- tables for large leaves that are cut ----------------------------------------------------- */

/** A table of 4 KiB leaves and one of 2 MiB leaves: what one cut takes at most. */
#define TABLES_OF_A_CUT 2u

/** Bits of an address that a table takes. */
#define LEVEL_SHIFT 9u

static bool cuts_leaf(const struct mm_space *space, uint64_t at)
{
    struct mm_mapping leaf;

    return !mm_is_aligned(at, MM_SIZE_1G) &&
           mm_paging_translate(space->table, mm_vaddr(at), &leaf) == MM_OK &&
           leaf.page.start.raw != at;
}

uint64_t mmi_space_need_tables(const struct mm_space *space, uint64_t start, uint64_t len)
{
    uint64_t need = 0;

    /* Without large leaves there is nothing to look at. */
    if ((space->table->nr_leaves[1] | space->table->nr_leaves[2]) == 0) {
        return 0;
    }
    need += cuts_leaf(space, start) ? TABLES_OF_A_CUT : 0;
    need += cuts_leaf(space, start + len) ? TABLES_OF_A_CUT : 0;
    return need;
}

/** Multiples of a power of two that a range touches. */
static uint64_t touched(uint64_t start, uint64_t len, unsigned shift)
{
    return ((start + (len - 1)) >> shift) - (start >> shift) + 1;
}

uint64_t mmi_space_tables_to_map(uint64_t start, uint64_t len, bool large)
{
    uint64_t lowest = touched(start, len, LEVEL_SHIFT + MM_PAGE_SHIFT);
    uint64_t nr = large && lowest > 2 ? 2 : lowest; /* only the ends have leaves of 4 KiB */

    for (unsigned shift = 2 * LEVEL_SHIFT + MM_PAGE_SHIFT; shift < 64 - LEVEL_SHIFT;
         shift += LEVEL_SHIFT) {
        nr += touched(start, len, shift);
    }
    return nr;
}

/** Cut the large leaf at `at` if it is not all in the range. */
static void cut_leaf(struct mm_space *space, uint64_t at, uint64_t first, uint64_t last,
                     struct mm_gather *gather)
{
    struct mm_mapping leaf;
    uint64_t end;

    if (mm_paging_translate(space->table, mm_vaddr(at), &leaf) != MM_OK ||
        (leaf.page.start.raw >= first && mm_vrange_last(leaf.page).raw <= last)) {
        return;
    }
    first = leaf.page.start.raw > first ? leaf.page.start.raw : first;
    end = mm_vrange_last(leaf.page).raw;
    last = end < last ? end : last;
    mmi_space_must(space,
                   mm_paging_protect(space->table, mm_vrange(mm_vaddr(first), last - first + 1),
                                     leaf.prot, MM_PAGING_SPLIT, gather),
                   "a large leaf cannot be split", at);
}

void mmi_space_cut_leaves(struct mm_space *space, uint64_t start, uint64_t len,
                          struct mm_gather *gather)
{
    uint64_t last = start + (len - 1);

    cut_leaf(space, start, start, last, gather);
    cut_leaf(space, last, start, last, gather);
}

/* --- pages put there -------------------------------------------------------------------------- */

static struct mm_frame_request request_for(const struct mm_space *space, uint64_t at, bool zero)
{
    return (struct mm_frame_request){
        .flags = zero ? MM_FRAME_ZERO : 0,
        .owner = space->is_kernel != 0 ? MM_OWNER_KERNEL : MM_OWNER_ANONYMOUS,
        .tag = space->is_kernel != 0 ? 0 : mm_frame_tag_anonymous(space->id, at >> MM_PAGE_SHIFT),
    };
}

mm_status_t mmi_space_alloc_page(struct mm_space *space, uint64_t at, bool zero, mm_pfn_t *out)
{
    struct mm_frames *frames = space->spaces->frames;
    const struct mm_frame_request request = request_for(space, at, zero);

    return mmi_frame_alloc_page(frames, mmi_cpu_number(&frames->platform), request.owner,
                                request.tag, zero, out);
}

void mmi_space_tag_page(struct mm_space *space, uint64_t at, mm_pfn_t frame)
{
    struct mm_frames *frames = space->spaces->frames;

    if ((frames->flags & MM_FRAMES_OWNERS) != 0) {
        mmi_space_must(space,
                       mm_frame_set_owner(frames, frame, 1, MM_OWNER_ANONYMOUS,
                                          mm_frame_tag_anonymous(space->id, at >> MM_PAGE_SHIFT)),
                       "a frame of the space is not allocated", at);
    }
}

static mm_status_t put_frame(struct mm_space *space, uint64_t at, mm_pfn_t frame, mm_prot_t prot)
{
    return mm_paging_map(space->table, mm_vrange(mm_vaddr(at), MM_PAGE_SIZE), mm_pfn_addr(frame),
                         mmi_space_leaf_prot(space, prot), MM_MEMTYPE_WB, MM_PAGING_ONLY_4K);
}

/** Put a zeroed frame at a page that has none. MM_OK, or what ran out. */
static mm_status_t put_zeroed(struct mm_space *space, uint64_t at, mm_prot_t prot)
{
    mm_pfn_t frame = {0};
    mm_status_t status = mmi_space_alloc_page(space, at, true, &frame);

    if (status != MM_OK) {
        return status;
    }
    status = put_frame(space, at, frame, prot);
    if (status != MM_OK) {
        (void)mm_frame_put(space->spaces->frames, frame);
    }
    return status;
}

void mmi_space_put_spares(struct mm_space *space, uint64_t start, mm_prot_t prot,
                          struct mmi_space_spare *pages)
{
    for (uint64_t at = start; pages->nr != 0; at += MM_PAGE_SIZE) {
        mm_pfn_t frame = take_spare(pages);

        mmi_space_tag_page(space, at, frame);
        mmi_space_must(space, put_frame(space, at, frame, prot), "a page cannot be put there", at);
    }
}

bool mmi_space_may_be_huge(const struct mm_space *space, const struct mmi_region *region,
                           uint64_t at)
{
    uint64_t start = mm_align_down(at, MM_SIZE_2M);

    return space->is_kernel == 0 && (region->attr.flags & MM_SPACE_HUGE) != 0 &&
           mm_range_covers(region->start, region->len, start, MM_SIZE_2M);
}

mm_status_t mmi_space_put_huge(struct mm_space *space, uint64_t at, mm_prot_t prot)
{
    struct mm_frame_request request = request_for(space, at, true);
    mm_pfn_t frame = {0};
    mm_status_t status;

    request.order = MM_ORDER_2M;
    request.tag = 0; /* it is one tag for all of them, and they lie at different pages */
    request.lifetime = MM_LIFETIME_MOVABLE;
    status = mm_frame_alloc(space->spaces->frames, &request, &frame);
    if (status != MM_OK) {
        return status;
    }
    status = mm_paging_map(space->table, mm_vrange(mm_vaddr(at), MM_SIZE_2M), mm_pfn_addr(frame),
                           mmi_space_leaf_prot(space, prot), MM_MEMTYPE_WB, MM_PAGING_MAX_2M);
    if (status != MM_OK) {
        mm_frame_free(space->spaces->frames, frame, MM_ORDER_2M);
    }
    return status;
}

/** The next leaf of a populated range, and its length. */
static mm_status_t populate_one(struct mm_space *space, uint64_t at, uint64_t left, mm_prot_t prot,
                                uint32_t flags, uint64_t *len)
{
    if ((flags & MM_SPACE_HUGE) != 0 && mm_is_aligned(at, MM_SIZE_2M) && left >= MM_SIZE_2M &&
        mmi_space_put_huge(space, at, prot) == MM_OK) {
        *len = MM_SIZE_2M;
        return MM_OK;
    }
    *len = MM_PAGE_SIZE;
    return put_zeroed(space, at, prot);
}

mm_status_t mmi_space_populate(struct mm_space *space, uint64_t start, uint64_t len, mm_prot_t prot,
                               uint32_t flags)
{
    mm_status_t status = MM_OK;
    uint64_t done = 0;
    uint64_t step;

    if (len >> MM_PAGE_SHIFT > space->spaces->frames->nr_frames) {
        return MM_ERR_NO_MEMORY; /* or all memory would be taken, only to be given back */
    }
    if (!mmi_space_charge_pages(space, len >> MM_PAGE_SHIFT)) {
        return MM_ERR_LIMIT;
    }
    while (done < len && status == MM_OK) {
        status = populate_one(space, start + done, len - done, prot, flags, &step);
        done += status == MM_OK ? step : 0;
    }
    if (status != MM_OK) {
        mmi_space_refund_pages(space, len >> MM_PAGE_SHIFT);
        if (done != 0) {
            mmi_space_drop_pages(space, start, done);
        }
    }
    return status;
}

/* --- pages dropped ---------------------------------------------------------------------------- */

static void unmap_part(struct mm_space *space, uint64_t start, uint64_t len, uint32_t release,
                       struct mm_gather *gather)
{
    mmi_space_must(space,
                   mm_paging_unmap(space->table, mm_vrange(mm_vaddr(start), len),
                                   MM_PAGING_SKIP_HOLES | MM_PAGING_SPLIT | release, gather),
                   "pages of a region cannot be unmapped", start);
}

static void unmap_pages(struct mm_space *space, uint64_t start, uint64_t len,
                        struct mm_gather *gather)
{
    uint64_t last = start + (len - 1);
    uint64_t from = start;

    /* Devices are few: all between two of them goes at once. */
    if (space->device_bytes != 0) {
        const struct mmi_region *n = mmi_regions_from(&space->regions, start);

        for (; n != NULL && n->start <= last; n = mmi_region_next(n)) {
            uint64_t first = n->start > start ? n->start : start;
            uint64_t end = mmi_region_last(n) < last ? mmi_region_last(n) : last;

            if (!mmi_region_is_device(n)) {
                continue;
            }
            if (first > from) {
                unmap_part(space, from, first - from, MM_PAGING_RELEASE, gather);
            }
            unmap_part(space, first, end - first + 1, 0, gather);
            from = end + 1;
        }
    }
    if (from <= last && from >= start) {
        unmap_part(space, from, last - from + 1, MM_PAGING_RELEASE, gather);
    }
}

void mmi_space_drop_pages(struct mm_space *space, uint64_t start, uint64_t len)
{
    struct mm_gather *gather = mmi_space_gather(space);

    unmap_pages(space, start, len, gather);
    mm_gather_end(gather);
}
