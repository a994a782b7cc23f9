// SPDX-License-Identifier: MIT
/**
 * Unmapping that tells what went: a part of radix.h, which includes it.
 *
 * It is the unmap of radix_edit.h with a loop over slots of its own, so that the loops there need
 * not ask whether anybody is told. What is told is what the exchange took out of the slot: what the
 * hardware set up to that moment is in it, and after it the hardware sets nothing any more, because
 * the slot is not present (SDM vol. 3A, 4.8: the flags are set in the entry, while it translates).
 */
#ifndef MMI_PAGING_RADIX_TAKE_H
#define MMI_PAGING_RADIX_TAKE_H

#include "radix.h"

struct take {
    struct unmap u; /**< first: hooks of unmap get it as theirs */
    mm_paging_taken_fn fn;
    void *ctx;
};

/** Tell of a leaf, and only then pass its frames on, which the gather may give away at once. */
static void take_leaf(struct sweep *s, struct take *t, uint64_t at, uint64_t slot)
{
    struct mm_mapping leaf;

    leaf.page = mm_vrange(mm_vaddr(at), level_size(s->level));
    codec_decode(s->cx, slot, s->level, s->rights[s->level], &leaf);
    t->fn(t->ctx, &leaf);
    if (t->u.release) {
        unmap_frames(&t->u, mm_pfn_of(leaf.paddr), leaf.page.len >> CODEC_SHIFT);
    }
}

static mm_status_t take_slots(struct sweep *s, unsigned i, unsigned end, unsigned *nr, void *arg)
{
    struct take *t = arg;
    uint64_t first = sweep_address(s, i);
    uint64_t leaves = 0;
    unsigned n = 0;

    for (; i + n <= end; n++) {
        uint64_t *at = &s->slots[i + n];
        uint64_t slot = mmi_load(at);

        if (slot == 0) {
            continue;
        }
        if (codec_is_table(slot, s->level)) {
            break;
        }
        if (t->u.live) {
            slot = mmi_exchange(at, 0);
        } else {
            mmi_store(at, 0);
        }
        if (codec_is_soft(slot)) {
            t->u.pt->nr_soft--;
            continue;
        }
        if (leaves++ == 0) {
            unmap_told(s, &t->u, i + n);
        }
        take_leaf(s, t, first + n * level_size(s->level), slot);
    }
    if (leaves != 0) {
        leaves_gone(t->u.pt, s->level, leaves);
    }
    *nr = n;
    return MM_OK;
}

RADIX_APART mm_status_t take_sweep(struct take *t, struct mm_vrange range)
{
    const struct sweep_hooks hooks = {
        .slots = take_slots, .leave = unmap_leave, .unlinked = unmap_unlinked};
    struct sweep s;

    sweep_begin(&s, t->u.pt, range.start.raw, mm_vrange_last(range).raw);
    return sweep_run(&s, hooks, t);
}

static mm_status_t radix_take(struct mm_pagetable *pt, struct mm_vrange range, uint32_t flags,
                              mm_paging_taken_fn fn, void *ctx, struct mm_gather *gather)
{
    const codec_t *cx = codec_of(pt);
    struct take t = {
        .u = {.pt = pt,
              .gather = gather,
              .live = radix_is_live(pt),
              .release = (flags & MM_PAGING_RELEASE) != 0},
        .fn = fn,
        .ctx = ctx,
    };
    struct plan plan;
    mm_status_t status = edit_prepare(pt, cx, range, flags, 0, &plan);

    if (status != MM_OK) {
        return status;
    }
    mmi_gather_add(gather, range, MMI_GATHER_NO_LEAF);
    split_ends(pt, cx, range, &plan, gather);
    status = take_sweep(&t, range);
    unmap_pass_on(&t.u);
    return status;
}

#endif
