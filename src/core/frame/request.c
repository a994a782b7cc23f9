// SPDX-License-Identifier: MIT
/**
 * Requests: what a caller may ask for, checked and brought to the one of three ways that serves it:
 * a block within a line, a block of whole lines, or a run that is searched for. Zeroing, asking for
 * known frames, and the frame source are here too.
 */
#include "state.h"

#include "core/base/mem.h"

#define PFN_END (UINT64_C(1) << (MM_PADDR_BITS_MAX - MM_PAGE_SHIFT))

const char *mmi_frame_owner_str(uint32_t owner)
{
    static const char *const names[MM_OWNER_COUNT] = {
        "allocated, no owner",  "allocated, kernel", "allocated, page table", "allocated, heap",
        "allocated, anonymous", "allocated, object", "allocated, dma",
    };

    return owner < MM_OWNER_COUNT ? names[owner] : "allocated, unknown owner";
}

/* --- what is asked ---------------------------------------------------------------------------- */

static mm_status_t check_fields(const struct mm_frames *f, const struct mm_frame_request *r)
{
    if (r->order > MM_FRAME_MAX_ORDER || (r->order != 0 && r->nr_frames != 0) ||
        r->owner >= MM_OWNER_COUNT || r->node_policy > MM_NODE_REQUIRED ||
        r->lifetime > MM_LIFETIME_SHORT || (r->node_policy == MM_NODE_ANY && r->node != 0)) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if ((r->flags & ~MM_FRAME_FLAGS_ALL) != 0) {
        return MM_ERR_INVALID_FLAGS;
    }
    if (r->nr_frames > PFN_END) {
        return MM_ERR_INVALID_SIZE;
    }
    if (r->highest.raw != 0 && r->highest.raw < r->lowest.raw) {
        return MM_ERR_INVALID_ADDRESS;
    }
    if ((r->align != 0 && (!mm_is_pow2(r->align) || r->align < MM_PAGE_SIZE)) ||
        (r->boundary != 0 && (!mm_is_pow2(r->boundary) || r->boundary < MM_PAGE_SIZE))) {
        return MM_ERR_NOT_ALIGNED;
    }
    if (r->node_policy != MM_NODE_ANY || r->lifetime != MM_LIFETIME_ANY || r->tag != 0 ||
        (r->flags & MM_FRAME_ATOMIC) != 0 || ((r->flags & MM_FRAME_ZERO) != 0 && !f->has_physmap)) {
        return MM_ERR_UNSUPPORTED;
    }
    return MM_OK;
}

/* The request in frames. */
static mm_status_t read_request(const struct mm_frames *f, const struct mm_frame_request *r,
                                struct mmi_run_wish *wish)
{
    mm_status_t status = check_fields(f, r);
    uint64_t high = r->highest.raw == 0 ? UINT64_MAX : r->highest.raw;

    if (status != MM_OK) {
        return status;
    }
    wish->nr = r->nr_frames != 0 ? r->nr_frames : UINT64_C(1) << r->order;
    wish->align = r->align != 0 ? r->align >> MM_PAGE_SHIFT : r->nr_frames != 0 ? 1 : wish->nr;
    wish->boundary = r->boundary >> MM_PAGE_SHIFT;
    wish->low = (r->lowest.raw >> MM_PAGE_SHIFT) + ((r->lowest.raw & MM_PAGE_MASK) != 0 ? 1 : 0);
    wish->high = high >= PFN_END * MM_PAGE_SIZE - 1 ? PFN_END : (high + 1) >> MM_PAGE_SHIFT;
    return wish->boundary != 0 && wish->boundary < wish->nr ? MM_ERR_NOT_ALIGNED : MM_OK;
}

/* Frames that are to be zeroed must lie in the direct map. */
static void narrow_to_physmap(const struct mm_physmap *m, struct mmi_run_wish *wish)
{
    uint64_t low = m->first.raw >> MM_PAGE_SHIFT;
    uint64_t high;

    if (m->ops != NULL || m->len == 0) {
        return;
    }
    low += (m->first.raw & MM_PAGE_MASK) != 0 ? 1 : 0;
    /* The last byte fits 64 bits, the end might not. */
    high = (m->first.raw + (m->len - 1)) >> MM_PAGE_SHIFT;
    high += ((m->first.raw + (m->len - 1)) & MM_PAGE_MASK) == MM_PAGE_MASK ? 1 : 0;
    wish->low = wish->low > low ? wish->low : low;
    wish->high = wish->high < high ? wish->high : high;
}

/* --- serving it ------------------------------------------------------------------------------- */

static bool alloc_wish(struct mm_frames *f, const struct mmi_run_wish *wish, uint64_t *pfn)
{
    unsigned order = mmi_log2(wish->nr);
    bool block = wish->nr == UINT64_C(1) << order && order <= MM_FRAME_MAX_ORDER;
    bool anywhere = wish->low == 0 && wish->high == PFN_END;

    /* A block that is aligned to its size crosses no boundary that is at least as large. */
    if (!block || !anywhere || wish->align != wish->nr) {
        return mmi_run_alloc(f, wish, pfn);
    }
    return order < MMI_LINE_ORDER
               ? mmi_frame_alloc_order(f, mmi_cpu_number(&f->platform), order, pfn)
               : mmi_run_alloc_lines(f, order, pfn);
}

static bool zero_frames(const struct mm_physmap *m, uint64_t pfn, uint64_t nr)
{
    if (m->ops == NULL) {
        memset(mm_physmap_ptr(m, mm_pfn_addr(mm_pfn(pfn))), 0, (size_t)(nr << MM_PAGE_SHIFT));
        return true;
    }
    for (uint64_t i = 0; i < nr; i++) {
        void *page = mm_physmap_get(m, mm_pfn(pfn + i));

        if (page == NULL) {
            return false;
        }
        memset(page, 0, MM_PAGE_SIZE);
        mm_physmap_put(m, page);
    }
    return true;
}

/* Frames that come from one span, as all do that a search found. */
static void set_owner(struct mm_frames *f, uint64_t pfn, uint64_t nr, uint32_t owner)
{
    if (f->owners != NULL && owner != MM_OWNER_NONE) {
        uint8_t *owners = &f->owners[mmi_frame_slot(f, pfn)];

        for (uint64_t i = 0; i < nr; i++) {
            mmi_store(&owners[i], (uint8_t)owner);
        }
    }
}

mm_status_t mm_frame_alloc(struct mm_frames *frames, const struct mm_frame_request *request,
                           mm_pfn_t *out)
{
    struct mmi_run_wish wish;
    mm_status_t status;
    uint64_t pfn;

    if (frames == NULL || out == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (frames->magic != MMI_FRAME_MAGIC) {
        return MM_ERR_NOT_INITIALIZED;
    }
    if (request == NULL) {
        return mm_frame_alloc_on(frames, mmi_cpu_number(&frames->platform), out);
    }
    status = read_request(frames, request, &wish);
    if (status != MM_OK) {
        return status;
    }
    if ((request->flags & MM_FRAME_ZERO) != 0) {
        narrow_to_physmap(&frames->physmap, &wish);
    }
    if (!alloc_wish(frames, &wish, &pfn)) {
        return mmi_frame_exhausted(frames, wish.nr);
    }
    if ((request->flags & MM_FRAME_ZERO) != 0 && !zero_frames(&frames->physmap, pfn, wish.nr)) {
        mmi_run_unclaim(frames, mmi_frame_slot(frames, pfn), wish.nr);
        return MM_ERR_FAULT;
    }
    set_owner(frames, pfn, wish.nr, request->owner);
    out->raw = pfn;
    return MM_OK;
}

/* --- known frames ----------------------------------------------------------------------------- */

mm_status_t mm_frame_alloc_at(struct mm_frames *frames, mm_pfn_t first, uint64_t nr_frames)
{
    uint64_t slot;
    uint64_t done;
    uint64_t part;

    if (frames == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (frames->magic != MMI_FRAME_MAGIC) {
        return MM_ERR_NOT_INITIALIZED;
    }
    if (nr_frames == 0 || !mm_range_covers(0, PFN_END, first.raw, nr_frames)) {
        return MM_ERR_INVALID_SIZE;
    }
    for (done = 0; done < nr_frames; done += part) {
        part = mmi_frame_part(frames, first.raw + done, nr_frames - done, &slot);
        if (part == 0) {
            return MM_ERR_INVALID_ADDRESS;
        }
    }
    for (done = 0; done < nr_frames; done += part) {
        part = mmi_frame_part(frames, first.raw + done, nr_frames - done, &slot);
        if (!mmi_run_free(frames, slot, part) || !mmi_run_claim(frames, slot, part)) {
            break;
        }
    }
    if (done == nr_frames) {
        return MM_OK;
    }
    for (uint64_t back = 0; back < done; back += part) {
        part = mmi_frame_part(frames, first.raw + back, done - back, &slot);
        mmi_run_unclaim(frames, slot, part);
    }
    return MM_ERR_BUSY;
}

/* --- the frame source ------------------------------------------------------------------------- */

static mm_status_t source_alloc(void *ctx, enum mm_frame_owner owner, bool zeroed, mm_pfn_t *out)
{
    struct mm_frame_request request = {
        .flags = zeroed ? MM_FRAME_ZERO : 0,
        .owner = (uint32_t)owner,
    };

    return mm_frame_alloc(ctx, &request, out);
}

static void source_free(void *ctx, mm_pfn_t frame)
{
    (void)mm_frame_put(ctx, frame);
}

struct mm_frame_source mm_frame_source_of(struct mm_frames *frames)
{
    static const struct mm_frame_source_ops ops = {.alloc = source_alloc, .free = source_free};

    return (struct mm_frame_source){.ops = &ops, .ctx = frames};
}

static mm_status_t window_alloc(void *ctx, enum mm_frame_owner owner, bool zeroed, mm_pfn_t *out)
{
    const struct mm_frame_window *window = ctx;
    struct mm_frame_request request = {
        .flags = zeroed ? MM_FRAME_ZERO : 0,
        .lowest = window->lowest,
        .highest = window->highest,
        .owner = (uint32_t)owner,
    };

    return mm_frame_alloc(window->frames, &request, out);
}

static void window_free(void *ctx, mm_pfn_t frame)
{
    const struct mm_frame_window *window = ctx;

    (void)mm_frame_put(window->frames, frame);
}

struct mm_frame_source mm_frame_source_within(struct mm_frame_window *window)
{
    static const struct mm_frame_source_ops ops = {.alloc = window_alloc, .free = window_free};

    return (struct mm_frame_source){.ops = &ops, .ctx = window};
}
