// SPDX-License-Identifier: MIT
/**
 * The walk of the audit: every entry of a whole root that is not empty, whoever made it. A part of
 * radix.h, which includes it.
 */
#ifndef MMI_PAGING_RADIX_AUDIT_H
#define MMI_PAGING_RADIX_AUDIT_H

#include "radix.h"

struct view {
    mm_paging_entry_fn tell;
    void *ctx;
    const uint64_t *beside; /**< a root whose entries are passed over; NULL: none */
};

/** Whether an entry of the root is the other root's as well; A is the hardware's. */
static bool view_is_shared(const struct view *v, const struct sweep *s, uint64_t slot)
{
    return v->beside != NULL && s->level == root_level(s->cx) &&
           codec_same_table(slot, mmi_load(&v->beside[slot_index(s->at, s->level)]));
}

static bool view_enter(struct sweep *s, uint64_t slot, void *arg)
{
    const struct view *v = arg;
    mm_pfn_t table = codec_table_pfn(s->cx, slot);
    struct mm_mapping none = {
        .page = mm_vrange(mm_vaddr(slot_first(s->at, s->level)), level_size(s->level)),
        .paddr = mm_pfn_addr(table),
        .kind = MM_SLOT_EMPTY,
    };

    if (s->stop || view_is_shared(v, s, slot)) {
        return false;
    }
    if (s->pt->physmap.ops == NULL &&
        !mm_physmap_covers(&s->pt->physmap, mm_prange(none.paddr, MM_PAGE_SIZE))) {
        s->stop = !v->tell(v->ctx, &none, slot, MM_PAGING_ENTRY_UNSEEN);
        return false;
    }
    return true;
}

static void view_slot(struct sweep *s, const struct view *v, uint64_t slot, uint64_t at)
{
    struct mm_mapping mapping = {.page = mm_vrange(mm_vaddr(at), level_size(s->level))};
    enum mm_paging_entry what = MM_PAGING_ENTRY_LEAF;

    if (codec_names_memory(slot)) {
        mapping.paddr = codec_named(s->cx, slot);
        what = MM_PAGING_ENTRY_NAMES_MEMORY;
    } else if (s->level > codec_max_leaf(s->cx)) {
        return; /* malformed: every access faults, and the check tells */
    } else {
        codec_decode(s->cx, slot, s->level, s->rights[s->level], &mapping);
        if (mapping.prot == MM_PROT_NONE) {
            return; /* nobody gets there */
        }
    }
    s->stop = !v->tell(v->ctx, &mapping, slot, what);
}

static mm_status_t view_slots(struct sweep *s, unsigned i, unsigned end, unsigned *nr, void *arg)
{
    unsigned n = 0;

    for (; i + n <= end && !s->stop; n++) {
        uint64_t slot = mmi_load(&s->slots[i + n]);

        if (slot == 0) {
            continue;
        }
        if (codec_is_table(slot, s->level)) {
            break;
        }
        view_slot(s, arg, slot, sweep_address(s, i + n));
    }
    *nr = n;
    return MM_OK;
}

/** All of one half of the address space; false if the visitor had enough. */
RADIX_APART bool view_half(const struct mm_pagetable *pt, struct view *v, unsigned index)
{
    const struct sweep_hooks hooks = {.slots = view_slots, .enter = view_enter};
    const codec_t *cx = codec_of(pt);
    uint64_t first = root_slot_first(cx, index);
    struct sweep s;

    sweep_begin(&s, pt, first,
                slot_last(root_slot_first(cx, index + RADIX_SLOTS / 2 - 1), root_level(cx)));
    (void)sweep_run(&s, hooks, v);
    return !s.stop;
}

static void radix_view(const struct mm_pagetable *pt, const struct mm_pagetable *beside,
                       mm_paging_entry_fn tell, void *ctx)
{
    struct view v = {.tell = tell, .ctx = ctx};
    uint64_t *root = beside != NULL ? table_get(beside, root_pfn(beside)) : NULL;

    v.beside = root;
    if (view_half(pt, &v, 0)) {
        (void)view_half(pt, &v, RADIX_SLOTS / 2);
    }
    if (root != NULL) {
        table_put(beside, root);
    }
}

#endif
