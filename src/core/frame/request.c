// SPDX-License-Identifier: MIT
/**
 * Requests: what a caller may ask for, checked and brought to the one of three ways that serves it:
 * a block within a line, a block of whole lines, or a run that is searched for. Zeroing, asking for
 * known frames, and the frame source are here too.
 */
#include "state.h"

#include "core/base/mem.h"

const char *mmi_frame_owner_str(uint32_t owner)
{
    static const char *const names[MM_OWNER_COUNT] = {
        "allocated, no owner",  "allocated, kernel", "allocated, page table", "allocated, heap",
        "allocated, anonymous", "allocated, object", "allocated, dma",
    };

    return owner < MM_OWNER_COUNT ? names[owner] : "allocated, unknown owner";
}

/* --- what is asked ---------------------------------------------------------------------------- */

static bool fields_known(const struct mm_frame_request *r)
{
    return r->order <= MM_FRAME_MAX_ORDER && (r->order == 0 || r->nr_frames == 0) &&
           r->owner < MM_OWNER_COUNT && r->node_policy <= MM_NODE_INTERLEAVE &&
           r->lifetime <= MM_LIFETIME_SHORT && r->tag <= MM_FRAME_TAG_MAX;
}

/* All nodes as a mask; of 64 nodes, the shift would be undefined. */
static uint64_t all_nodes(const struct mm_frames *f)
{
    return f->nr_nodes >= 64 ? UINT64_MAX : (UINT64_C(1) << f->nr_nodes) - 1;
}

static mm_status_t check_nodes(const struct mm_frames *f, const struct mm_frame_request *r)
{
    bool one = r->node_policy == MM_NODE_PREFERRED || r->node_policy == MM_NODE_REQUIRED;
    bool several = r->node_policy == MM_NODE_BIND || r->node_policy == MM_NODE_INTERLEAVE;

    if ((r->node != 0 && !one) || (r->nodes != 0 && !several) ||
        (r->nodes == 0 && r->node_policy == MM_NODE_BIND)) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    return r->node >= f->nr_nodes || (r->nodes & ~all_nodes(f)) != 0 ? MM_ERR_NODE_NOT_FOUND
                                                                     : MM_OK;
}

static mm_status_t check_fields(const struct mm_frames *f, const struct mm_frame_request *r)
{
    mm_status_t status = fields_known(r) ? check_nodes(f, r) : MM_ERR_INVALID_ARGUMENT;

    if (status != MM_OK) {
        return status;
    }
    if ((r->flags & ~MM_FRAME_FLAGS_ALL) != 0) {
        return MM_ERR_INVALID_FLAGS;
    }
    if (r->nr_frames > MMI_PFN_END) {
        return MM_ERR_INVALID_SIZE;
    }
    if (r->highest.raw != 0 && r->highest.raw < r->lowest.raw) {
        return MM_ERR_INVALID_ADDRESS;
    }
    if ((r->align != 0 && (!mm_is_pow2(r->align) || r->align < MM_PAGE_SIZE)) ||
        (r->boundary != 0 && (!mm_is_pow2(r->boundary) || r->boundary < MM_PAGE_SIZE))) {
        return MM_ERR_NOT_ALIGNED;
    }
    return (r->flags & MM_FRAME_ZERO) != 0 && !f->has_physmap ? MM_ERR_UNSUPPORTED : MM_OK;
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
    wish->high = high >= MMI_PFN_END * MM_PAGE_SIZE - 1 ? MMI_PFN_END : (high + 1) >> MM_PAGE_SHIFT;
    return wish->boundary != 0 && wish->boundary < wish->nr ? MM_ERR_NOT_ALIGNED : MM_OK;
}

/* Frames that are to be zeroed must lie in the direct map, which does not reach all. */
static void narrow_to_physmap(const struct mm_physmap *m, struct mmi_run_wish *wish)
{
    uint64_t low = m->first.raw >> MM_PAGE_SHIFT;
    uint64_t high;

    low += (m->first.raw & MM_PAGE_MASK) != 0 ? 1 : 0;
    /* The last byte fits 64 bits, the end might not. */
    high = (m->first.raw + (m->len - 1)) >> MM_PAGE_SHIFT;
    high += ((m->first.raw + (m->len - 1)) & MM_PAGE_MASK) == MM_PAGE_MASK ? 1 : 0;
    wish->low = wish->low > low ? wish->low : low;
    wish->high = wish->high < high ? wish->high : high;
}

/* --- serving it ------------------------------------------------------------------------------- */

/* The first node of the mask after `last`, round and round. */
static uint32_t node_after(uint64_t nodes, uint32_t last)
{
    uint64_t above = last >= 63 ? 0 : nodes & (UINT64_MAX << (last + 1));

    return mmi_ctz(above != 0 ? above : nodes);
}

/* The node whose turn it is on this CPU. */
static uint32_t take_turn(struct mmi_frame_cpu *cpu, uint64_t nodes)
{
    uint64_t old = mmi_load(&cpu->turn);
    uint32_t node;

    do {
        node = node_after(nodes, (uint32_t)old);
    } while (!mmi_cas(&cpu->turn, &old, (uint64_t)node));
    return node;
}

static struct mmi_ask ask_of(struct mm_frames *f, const struct mm_frame_request *r)
{
    struct mmi_ask ask = mmi_ask(f, mmi_cpu_number(&f->platform));
    bool user = r->owner == MM_OWNER_ANONYMOUS || r->owner == MM_OWNER_OBJECT;

    ask.lifetime = r->lifetime;
    if (f->nr_withheld != 0) {
        ask.avoid = user ? MMI_NOT_RESERVE | MMI_NOT_KERNEL
                         : ((r->flags & MM_FRAME_ATOMIC) != 0 ? 0 : MMI_NOT_RESERVE);
    }
    if (r->node_policy == MM_NODE_PREFERRED || r->node_policy == MM_NODE_REQUIRED) {
        ask.from = r->node;
    }
    if (r->node_policy == MM_NODE_REQUIRED) {
        ask.nodes = UINT64_C(1) << r->node;
    } else if (r->nodes != 0) {
        ask.nodes = r->nodes;
    }
    if (r->node_policy == MM_NODE_INTERLEAVE) {
        ask.from = take_turn(ask.cpu, r->nodes != 0 ? r->nodes : all_nodes(f));
    }
    if (ask.nodes == all_nodes(f)) {
        ask.nodes = UINT64_MAX; /* that is no constraint */
    }
    return ask;
}

/* The tiers, for frames of which alloc.c has not told them already. */
static void tiers_look(struct mm_frames *f, uint64_t pfn, uint64_t nr, bool told)
{
    if (!told &&
        MMI_UNLIKELY((mmi_load(&f->flags) & MM_FRAMES_POISON) != 0 || mmi_load(&f->watched) != 0)) {
        mmi_frames_taken(f, pfn, mmi_frame_slot(f, pfn), nr);
    }
}

static bool alloc_wish(struct mmi_ask *ask, const struct mmi_run_wish *wish, bool to_zero,
                       uint64_t *pfn)
{
    unsigned order = mmi_log2(wish->nr);
    bool block = wish->nr == UINT64_C(1) << order && order <= MM_FRAME_MAX_ORDER;
    bool anywhere = wish->low == 0 && wish->high == MMI_PFN_END;
    bool found;

    /* A block that is aligned to its size crosses no boundary that is at least as large. */
    if (block && anywhere && wish->align == wish->nr && order < MMI_LINE_ORDER) {
        return mmi_frame_alloc_order(ask, order, pfn);
    }
    found = block && anywhere && wish->align == wish->nr ? mmi_lines_alloc(ask, order, to_zero, pfn)
                                                         : mmi_run_alloc(ask, wish, pfn);
    if (found) {
        tiers_look(ask->f, *pfn, wish->nr, false);
    }
    return found;
}

enum mm_frame_cause mmi_frame_cause(const struct mmi_ask *ask, bool constrained, uint64_t nr)
{
    if (constrained || ask->nodes != UINT64_MAX) {
        return MM_FAILED_CONSTRAINED;
    }
    if (mmi_any_withheld(ask)) {
        return MM_FAILED_WITHHELD;
    }
    return nr > 1 ? MM_FAILED_FRAGMENTED : MM_FAILED_EXHAUSTED;
}

/* Whether not every place would do that is large enough. */
static bool is_constrained(const struct mmi_run_wish *wish)
{
    return wish->low != 0 || wish->high != MMI_PFN_END || wish->boundary != 0 ||
           wish->align > wish->nr;
}

/* Zero what was found, but for whole lines that are known to be zero. */
static bool zero_found(struct mm_frames *f, uint64_t pfn, uint64_t slot, uint64_t nr)
{
    uint64_t part;

    if ((mmi_load(&f->flags) & MM_FRAMES_KNOWN_ZERO) == 0 || nr < MMI_LINE_FRAMES) {
        return mmi_frames_zero(f, pfn, nr);
    }
    for (uint64_t done = 0; done < nr; done += part) {
        uint64_t to_end = MMI_LINE_FRAMES - (slot + done) % MMI_LINE_FRAMES;

        part = nr - done < to_end ? nr - done : to_end;
        if (part == MMI_LINE_FRAMES && mmi_line_bit(f, (slot + done) / MMI_LINE_FRAMES, MMI_ZERO)) {
            continue; /* the first free of a frame of it takes the mark away */
        }
        if (!mmi_frames_zero(f, pfn + done, part)) {
            return false;
        }
    }
    return true;
}

/* Nothing is asked for but a number of frames. */
static bool is_plain(const struct mm_frame_request *r)
{
    return (r->flags | r->node | r->node_policy | r->lifetime | r->owner) == 0 &&
           (r->align | r->lowest.raw | r->highest.raw | r->boundary | r->nodes | r->tag) == 0 &&
           r->order <= MM_FRAME_MAX_ORDER && r->nr_frames <= MMI_LINE_FRAMES &&
           (r->order == 0 || r->nr_frames == 0);
}

/* What most requests are: the same as below, without looking at what is not there. */
MMI_NOINLINE static mm_status_t alloc_number(struct mm_frames *f, uint32_t cpu,
                                             const struct mm_frame_request *r, mm_pfn_t *out)
{
    struct mmi_run_wish wish = {.nr = r->nr_frames, .align = 1, .high = MMI_PFN_END};
    bool told = r->nr_frames == 0 && r->order < MMI_LINE_ORDER;
    struct mmi_ask ask = mmi_ask(f, cpu);
    bool found;

    if (r->nr_frames != 0) {
        found = mmi_run_alloc(&ask, &wish, &out->raw);
    } else {
        wish.nr = UINT64_C(1) << r->order;
        found = told ? mmi_frame_alloc_order(&ask, r->order, &out->raw)
                     : mmi_lines_alloc(&ask, r->order, false, &out->raw);
    }
    if (found) {
        tiers_look(f, out->raw, wish.nr, told);
        return MM_OK;
    }
    return mmi_frame_failed(f, mmi_frame_cause(&ask, false, wish.nr), wish.nr);
}

MMI_NOINLINE static mm_status_t alloc_plain(struct mm_frames *f, const struct mm_frame_request *r,
                                            mm_pfn_t *out)
{
    uint32_t cpu = mmi_cpu_number(&f->platform);

    return r->order == MMI_LINE_ORDER && mmi_load(&f->watched) == 0 &&
                   mmi_line_alloc_by_hint(f, mmi_frame_cpu(f, cpu), &out->raw)
               ? MM_OK
               : alloc_number(f, cpu, r, out);
}

/* Everything that may be asked. */
MMI_NOINLINE static mm_status_t alloc_request(struct mm_frames *f, const struct mm_frame_request *r,
                                              mm_pfn_t *out)
{
    struct mmi_run_wish wish;
    struct mmi_ask ask;
    mm_status_t status;
    uint64_t slot;
    uint64_t pfn;
    bool zero;

    status = read_request(f, r, &wish);
    if (status != MM_OK) {
        return status;
    }
    zero = (r->flags & MM_FRAME_ZERO) != 0;
    if (zero && f->physmap_reaches == 0) {
        narrow_to_physmap(&f->physmap, &wish);
    }
    ask = ask_of(f, r);
    if (!alloc_wish(&ask, &wish, zero, &pfn)) {
        return mmi_frame_failed(f, mmi_frame_cause(&ask, is_constrained(&wish), wish.nr), wish.nr);
    }
    slot = mmi_frame_slot(f, pfn);
    if (zero && !zero_found(f, pfn, slot, wish.nr)) {
        mmi_run_unclaim(f, slot, wish.nr);
        return MM_ERR_FAULT;
    }
    if (f->tags != NULL) {
        mmi_owners_set(f, slot, wish.nr, r->owner, r->tag);
    }
    out->raw = pfn;
    return MM_OK;
}

mm_status_t mm_frame_alloc(struct mm_frames *frames, const struct mm_frame_request *request,
                           mm_pfn_t *out)
{
    if (frames == NULL || out == NULL) {
        return MM_ERR_INVALID_ARGUMENT;
    }
    if (frames->magic != MMI_FRAME_MAGIC) {
        return MM_ERR_NOT_INITIALIZED;
    }
    if (request == NULL) {
        return mm_frame_alloc_on(frames, mmi_cpu_number(&frames->platform), out);
    }
    return is_plain(request) ? alloc_plain(frames, request, out)
                             : alloc_request(frames, request, out);
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
    if (nr_frames == 0 || !mm_range_covers(0, MMI_PFN_END, first.raw, nr_frames)) {
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
        if (part == 0 || !mmi_run_free(frames, slot, part) || !mmi_run_claim(frames, slot, part)) {
            break; /* in use, or just removed */
        }
    }
    if (done == nr_frames) {
        for (done = 0; done < nr_frames; done += part) {
            part = mmi_frame_part(frames, first.raw + done, nr_frames - done, &slot);
            mmi_frames_taken(frames, first.raw + done, slot, part);
        }
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

static void source_free_run(void *ctx, mm_pfn_t first, uint64_t nr_frames)
{
    (void)mm_frame_put_run(ctx, first, nr_frames);
}

struct mm_frame_source mm_frame_source_of(struct mm_frames *frames)
{
    static const struct mm_frame_source_ops ops = {
        .alloc = source_alloc, .free = source_free, .free_run = source_free_run};

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

static void window_free_run(void *ctx, mm_pfn_t first, uint64_t nr_frames)
{
    const struct mm_frame_window *window = ctx;

    (void)mm_frame_put_run(window->frames, first, nr_frames);
}

struct mm_frame_source mm_frame_source_within(struct mm_frame_window *window)
{
    static const struct mm_frame_source_ops ops = {
        .alloc = window_alloc, .free = window_free, .free_run = window_free_run};

    return (struct mm_frame_source){.ops = &ops, .ctx = window};
}
