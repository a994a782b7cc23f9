// SPDX-License-Identifier: MIT
/**
 * The radix engine: page tables of any geometry, written over a codec and compiled into a backend.
 *
 * A backend defines the codec (static inline functions, listed below) and includes this file once;
 * it finds a static function for each page-table operation of struct mm_paging_ops, and exports
 * their table. Calls through that table are whole ranges; inside, nothing is indirect.
 *
 *     level 4        root (57 bits)         A level's number is that of its tables; level 0 holds
 *     level 3        root (48 bits)         the smallest leaves. A slot of level n covers
 *     level 2   1 GiB leaves or tables      2^(CODEC_SHIFT + n * CODEC_BITS) bytes.
 *     level 1   2 MiB leaves or tables
 *     level 0   4 KiB leaves
 *
 * How a call is all or nothing: it *prepares* (looks at every slot it will touch and takes every
 * table it will need, which no root points to yet), then *commits*, which cannot fail.
 *
 * How the hardware may walk along at any moment:
 *   - A table is linked by one release store when all its slots are written: the source zeroes it,
 *     or, where the call writes all 512, hands it out as it is.
 *   - A leaf is split by writing all slots of a table and exchanging leaf for table in one step, so
 *     the address is never without translation. For a moment the TLB may hold the old large leaf
 *     beside new small ones: they agree in everything, and the whole leaf goes to the gather, so
 *     that the end of the gather leaves one size (SDM vol. 3A, 4.10.2.3; a CPU that must never see
 *     both needs break before make, which unmapping the leaf first gives).
 *   - Slots of a table that is live (radix_is_live) are read and changed in one step, so accessed
 *     and dirty bits that the hardware sets between are kept. Others are plainly stored, and so is
 *     what has both bits already, or whose bits nobody will ask for: that is what most pages of a
 *     process are, and a plain store costs a third.
 *   - An empty table is unlinked first, and then chained to the gather through its slot 0, in a
 *     form that the hardware takes for not present; paging-structure caches may still lead there.
 *     Only of a root that the hardware never walked may the other slots keep what they hold.
 *
 * Tables carry the widest rights, leaves decide. Tables that hang in the tree are ours if their
 * entry is marked so (codec_is_owned); others belong to whoever built an adopted root, stay linked
 * when empty and are never freed. The tables behind the kernel's root entries stay until the end,
 * because user roots hold copies of these entries.
 *
 * Nothing recurses: a walk keeps the frame numbers of its path, and one table mapped. At most
 * three tables are mapped at once.
 *
 * The codec: CODEC_SHIFT, CODEC_BITS, CODEC_MAX_LEVELS, CODEC_LEAF_LEVELS; codec_t; codec_of,
 * codec_levels, codec_canonical, codec_max_leaf, codec_paddr_bits, codec_is_table, codec_table,
 * codec_table_pfn, codec_table_mask, codec_is_user_table, codec_is_owned, codec_disown,
 * codec_chain, codec_chain_pfn, codec_is_chained, codec_rights_all, codec_rights_below,
 * codec_rights_allow, codec_has_type, codec_prot, codec_leaf, codec_step, codec_next, codec_paddr,
 * codec_type, codec_is_global, codec_is_writable, codec_without_write, codec_reprotect,
 * codec_reprotect_present, codec_reprotect_changes, codec_write_protect, codec_split, codec_join,
 * codec_decode, codec_malformed, codec_is_leaf, codec_is_present, codec_used, codec_retype,
 * codec_break, codec_is_broken, codec_mend, codec_names_memory, codec_named, codec_same_table,
 * codec_kernel_side; codec_is_soft, codec_soft, codec_soft_kind, codec_soft_payload;
 * codec_accessed, codec_dirty, codec_used_bits, codec_set_used, codec_is_settled, codec_software,
 * codec_set_software, codec_key, codec_set_key, codec_has_keys; codec_page_mask. A slot of all
 * zeroes is empty.
 */
#ifndef MMI_PAGING_RADIX_H
#define MMI_PAGING_RADIX_H

#include "core/base/atomic.h"
#include "core/base/compiler.h"
#include "core/base/mem.h"
#include "core/base/report.h"
#include "internal.h"
#include "page.h"

#define RADIX_SLOTS  (1u << CODEC_BITS)
#define RADIX_INLINE static inline __attribute__((always_inline))
/* A sweep is inlined with its callbacks; two in one function would add up on the stack. */
#define RADIX_APART static __attribute__((noinline))

/* --- geometry --------------------------------------------------------------------------------- */

/** log2 of the bytes that a slot of a level covers. */
static inline unsigned level_shift(unsigned level)
{
    return CODEC_SHIFT + CODEC_BITS * level;
}

static inline uint64_t level_size(unsigned level)
{
    return UINT64_C(1) << level_shift(level);
}

/** Keep the shift of the smallest leaf that was seen: what a flush goes by. */
static inline void see_leaf(unsigned *smallest, unsigned level)
{
    *smallest = level_shift(level) < *smallest ? level_shift(level) : *smallest;
}

static inline unsigned slot_index(uint64_t at, unsigned level)
{
    return (unsigned)(at >> level_shift(level)) & (RADIX_SLOTS - 1);
}

/** First and last byte of the slot of a level that holds an address. */
static inline uint64_t slot_first(uint64_t at, unsigned level)
{
    return at & ~(level_size(level) - 1);
}

static inline uint64_t slot_last(uint64_t at, unsigned level)
{
    return at | (level_size(level) - 1);
}

static inline unsigned root_level(const codec_t *cx)
{
    return codec_levels(cx) - 1;
}

/** First address of a slot of the root; the upper half is canonical (bits above are copies). */
static inline uint64_t root_slot_first(const codec_t *cx, unsigned index)
{
    unsigned level = root_level(cx);
    uint64_t at = (uint64_t)index << level_shift(level);

    return index < RADIX_SLOTS / 2 ? at : at | ~(level_size(level + 1) - 1);
}

static inline bool root_slot_is_user(const struct mm_pagetable *pt, const codec_t *cx,
                                     unsigned index)
{
    return mm_range_overlaps(root_slot_first(cx, index), level_size(root_level(cx)),
                             pt->user.start.raw, pt->user.len);
}

static inline bool root_slot_is_kernel(const struct mm_pagetable *pt, const codec_t *cx,
                                       unsigned index)
{
    for (uint32_t i = 0; i < pt->nr_kernel_ranges; i++) {
        if (mm_range_overlaps(root_slot_first(cx, index), level_size(root_level(cx)),
                              pt->kernel_ranges[i].start.raw, pt->kernel_ranges[i].len)) {
            return true;
        }
    }
    return false;
}

/** Whether this page table's own leaves hang from the slot. */
static inline bool root_slot_is_own(const struct mm_pagetable *pt, const codec_t *cx,
                                    unsigned index)
{
    return pt->is_user != 0 ? root_slot_is_user(pt, cx, index) : root_slot_is_kernel(pt, cx, index);
}

/** Whether the hardware may walk it: a kernel root at any time, through the user roots. */
static inline bool radix_is_live(const struct mm_pagetable *pt)
{
    return pt->is_user == 0 || pt->active != 0;
}

/* --- tables ----------------------------------------------------------------------------------- */

_Noreturn static void no_room(const struct mm_pagetable *pt, mm_pfn_t table)
{
    struct mm_panic_info info = {
        .room = "paging",
        .what = "the physmap op maps no table",
        .address = mm_pfn_addr(table).raw,
        .recorded = "tables that one call may map at once",
        .recorded_value = 3,
        .claimed = "no room",
    };

    mmi_panic(&pt->platform, &info);
}

static inline uint64_t *table_get(const struct mm_pagetable *pt, mm_pfn_t table)
{
    void *slots = mm_physmap_get(&pt->physmap, table);

    if (pt->physmap.ops != NULL && slots == NULL) {
        no_room(pt, table);
    }
    return slots;
}

static inline void table_put(const struct mm_pagetable *pt, uint64_t *slots)
{
    mm_physmap_put(&pt->physmap, slots);
}

static inline mm_pfn_t root_pfn(const struct mm_pagetable *pt)
{
    return mm_pfn_of(pt->root);
}

/** From a table to one below it. */
static inline uint64_t *table_down(const struct mm_pagetable *pt, uint64_t *slots, mm_pfn_t child)
{
    table_put(pt, slots);
    return table_get(pt, child);
}

/** A frame that can be a table here, zeroed unless all of it will be written before it is linked;
 * MM_ERR_FAULT if it cannot. */
static mm_status_t table_alloc(const struct mm_pagetable *pt, bool zeroed, mm_pfn_t *out)
{
    struct mm_prange bytes;
    mm_pfn_t table = {0};
    mm_status_t status = pt->source.ops->alloc(pt->source.ctx, MM_OWNER_PAGE_TABLE, zeroed, &table);

    if (status != MM_OK && pt->spare != NULL) {
        status = pt->spare->ops->alloc(pt->spare->ctx, MM_OWNER_PAGE_TABLE, zeroed, &table);
    }
    if (status != MM_OK) {
        return status;
    }
    bytes = mm_prange(mm_pfn_addr(table), MM_PAGE_SIZE);
    if (table.raw == 0 || table.raw >> (codec_paddr_bits(codec_of(pt)) - CODEC_SHIFT) != 0 ||
        (pt->physmap.ops == NULL && !mm_physmap_covers(&pt->physmap, bytes))) {
        pt->source.ops->free(pt->source.ctx, table);
        return MM_ERR_FAULT;
    }
    *out = table;
    return MM_OK;
}

/** A frame that was to be a table, and was never linked. */
static inline void table_free(const struct mm_pagetable *pt, mm_pfn_t table)
{
    if (pt->spare != NULL) {
        pt->spare->ops->free(pt->spare->ctx, table);
        return;
    }
    pt->source.ops->free(pt->source.ctx, table);
}

/** Make a table, all of whose slots are written, visible. */
static inline void table_link(const codec_t *cx, struct mm_pagetable *pt, uint64_t *slot,
                              mm_pfn_t table)
{
    mmi_store_release(slot, codec_table(cx, table, pt->is_user != 0));
    pt->nr_tables++;
}

static inline bool table_is_empty(const uint64_t *slots)
{
    for (unsigned i = 0; i < RADIX_SLOTS; i++) {
        if (mmi_load(&slots[i]) != 0) {
            return false;
        }
    }
    return true;
}

#include "radix_pair.h"

/* --- what a call has reserved ----------------------------------------------------------------- */

/** Tables that no root points to, chained through their slot 0. */
struct plan {
    uint64_t nr_spare; /**< empty but for the chain; last in, first out */
    mm_pfn_t spare;
    bool whole;         /**< spare tables will be written whole, so they are not zeroed first */
    uint64_t nr_filled; /**< of level 0, leaves written (slot 0 at the end); first in, first out */
    mm_pfn_t filled_first;
    mm_pfn_t filled_last;
    uint64_t every; /**< bits that all slots of the range have, if they are of level 0 and were */
    uint64_t any;   /**< looked at, else 0; and those that any has */
    uint64_t counted[CODEC_MAX_LEVELS]; /**< by level: the last span for which a table was taken */
    bool soft_stays; /**< a soft slot is a hole to this call: it is neither cut nor split */
};

static void plan_begin(struct plan *plan)
{
    memset(plan, 0, sizeof(*plan));
    for (unsigned i = 0; i < CODEC_MAX_LEVELS; i++) {
        plan->counted[i] = UINT64_MAX; /* no span begins there */
    }
}

static mm_pfn_t chain_next(const struct mm_pagetable *pt, mm_pfn_t table)
{
    uint64_t *slots = table_get(pt, table);
    mm_pfn_t next = codec_chain_pfn(slots[0]);

    table_put(pt, slots);
    return next;
}

static mm_status_t plan_spare(const struct mm_pagetable *pt, struct plan *plan)
{
    mm_pfn_t table;
    uint64_t *slots;
    mm_status_t status = table_alloc(pt, !plan->whole, &table);

    if (status == MM_OK) {
        slots = table_get(pt, table);
        slots[0] = codec_chain(plan->spare);
        table_put(pt, slots);
        plan->spare = table;
        plan->nr_spare++;
    }
    return status;
}

/**
 * Reserve the tables of `lowest` and above that are missing under an empty slot of `level` on the
 * way to `at`. Called with ascending addresses, it takes each once.
 */
static mm_status_t plan_path(const struct mm_pagetable *pt, struct plan *plan, uint64_t at,
                             unsigned level, unsigned lowest)
{
    mm_status_t status = MM_OK;

    for (unsigned child = level; child-- > lowest && status == MM_OK;) {
        uint64_t span = slot_first(at, child + 1);

        if (plan->counted[child] != span) {
            plan->counted[child] = span;
            status = plan_spare(pt, plan);
        }
    }
    return status;
}

/** An empty table out of the plan, mapped. */
static uint64_t *plan_take(const struct mm_pagetable *pt, struct plan *plan, mm_pfn_t *table)
{
    uint64_t *slots = table_get(pt, plan->spare);

    *table = plan->spare;
    plan->spare = codec_chain_pfn(slots[0]);
    plan->nr_spare--;
    slots[0] = 0;
    return slots;
}

/** Give back all that is left. */
static void plan_abandon(const struct mm_pagetable *pt, struct plan *plan)
{
    mm_pfn_t next;

    for (; plan->nr_spare > 0; plan->nr_spare--, plan->spare = next) {
        next = chain_next(pt, plan->spare);
        table_free(pt, plan->spare);
    }
    for (; plan->nr_filled > 0; plan->nr_filled--, plan->filled_first = next) {
        next = chain_next(pt, plan->filled_first);
        table_free(pt, plan->filled_first);
    }
}

/* --- one address ------------------------------------------------------------------------------ */

/** Where the tables on the way to an address end. */
struct probe {
    uint64_t *slots; /**< the table, mapped: the caller puts it */
    uint64_t slot;   /**< what its slot for the address holds: no table */
    uint64_t rights; /**< of the tables above */
    unsigned level;
    unsigned index;
};

RADIX_INLINE void probe_to(const struct mm_pagetable *pt, const codec_t *cx, uint64_t at,
                           struct probe *p)
{
    unsigned level = root_level(cx);
    uint64_t *slots = table_get(pt, root_pfn(pt));
    uint64_t rights = codec_rights_all();

    for (;;) {
        unsigned index = slot_index(at, level);
        uint64_t slot = mmi_load_acquire(&slots[index]);

        if (!codec_is_table(slot, level)) {
            p->slots = slots;
            p->slot = slot;
            p->rights = rights;
            p->level = level;
            p->index = index;
            return;
        }
        rights = codec_rights_below(rights, slot);
        slots = table_down(pt, slots, codec_table_pfn(cx, slot));
        level--;
    }
}

RADIX_INLINE mm_status_t translate_end(const codec_t *cx, uint64_t at, uint64_t slot,
                                       unsigned level, uint64_t rights, struct mm_mapping *out)
{
    out->page = mm_vrange(mm_vaddr(slot_first(at, level)), level_size(level));
    if (codec_is_leaf(slot)) {
        codec_decode(cx, slot, level, rights, out);
        return MM_OK;
    }
    out->paddr = mm_paddr(0);
    out->prot = MM_PROT_NONE;
    out->type = MM_MEMTYPE_WB;
    out->kind = slot == 0 ? MM_SLOT_EMPTY : MM_SLOT_SOFT;
    out->accessed = false;
    out->dirty = false;
    out->software = 0;
    out->key = 0;
    return MM_ERR_NOT_MAPPED;
}

/** What is rarer than a page: a large leaf, or a hole above. */
RADIX_APART mm_status_t translate_above(const codec_t *cx, uint64_t at, uint64_t slot,
                                        unsigned level, uint64_t rights, struct mm_mapping *out)
{
    return translate_end(cx, at, slot, level, rights, out);
}

RADIX_APART mm_status_t translate_by_ops(const struct mm_pagetable *pt, uint64_t at,
                                         struct mm_mapping *out)
{
    struct probe p;

    probe_to(pt, codec_of(pt), at, &p);
    table_put(pt, p.slots);
    return translate_end(codec_of(pt), at, p.slot, p.level, p.rights, out);
}

/** The slot for an address in a table of a level that lies in a direct map. */
RADIX_INLINE uint64_t *slot_at(uint64_t base, uint64_t table, uint64_t at, unsigned level)
{
    uint64_t offset = (at >> (level_shift(level) - 3)) & (UINT64_C(8) * (RADIX_SLOTS - 1));

    return (uint64_t *)(uintptr_t)(base + (table + offset));
}

/** One level of a walk through a direct map; what is loaded depends on where it was found, so the
 * hardware keeps the order. */
#define TRANSLATE_LEVEL(n)                                                                         \
    if ((n) <= top) {                                                                              \
        slot = mmi_load(slot_at(base, table, at, (n)));                                            \
        if (!codec_is_table(slot, (n))) {                                                          \
            return translate_above(cx, at, slot, (n), rights, out);                                \
        }                                                                                          \
        rights = codec_rights_below(rights, slot);                                                 \
        table = slot & mask;                                                                       \
    }

static mm_status_t radix_translate(const struct mm_pagetable *pt, mm_vaddr_t address,
                                   struct mm_mapping *out)
{
    const codec_t *cx = codec_of(pt);
    uint64_t at = address.raw;
    uint64_t base = pt->physmap.base;
    uint64_t table = pt->root.raw;
    uint64_t rights = codec_rights_all();
    uint64_t mask = codec_table_mask(cx);
    unsigned top = root_level(cx);
    uint64_t slot;

    if (!codec_canonical(cx, at)) {
        return MM_ERR_INVALID_ADDRESS;
    }
    if (pt->physmap.ops != NULL) {
        return translate_by_ops(pt, at, out);
    }
    _Static_assert(CODEC_MAX_LEVELS == 5, "one line a level");
    TRANSLATE_LEVEL(4u)
    TRANSLATE_LEVEL(3u)
    TRANSLATE_LEVEL(2u)
    TRANSLATE_LEVEL(1u)
    slot = mmi_load(slot_at(base, table, at, 0));
    return translate_end(cx, at, slot, 0, rights, out);
}

#undef TRANSLATE_LEVEL

/* --- a range ---------------------------------------------------------------------------------- */

/** Where a sweep stands. */
struct sweep {
    const struct mm_pagetable *pt;
    const codec_t *cx;
    uint64_t first;                    /**< of the range */
    uint64_t last;                     /**< last byte of the range */
    uint64_t at;                       /**< an address in the slot that is looked at */
    uint64_t *slots;                   /**< the current table, mapped */
    unsigned level;                    /**< its level */
    bool stop;                         /**< set by a callback: enough */
    uint64_t rights[CODEC_MAX_LEVELS]; /**< by level: what the tables above allow */
    mm_pfn_t tables[CODEC_MAX_LEVELS]; /**< by level: the path */
};

/** What a sweep does; those that are NULL are left out. */
struct sweep_hooks {
    /** Slot `i` holds no table. Handle it, and any that follow up to `end` that hold none, and say
     * how many those are (at least 1). */
    mm_status_t (*slots)(struct sweep *s, unsigned i, unsigned end, unsigned *nr, void *arg);
    /** Slot holds a table: false to pass it over. */
    bool (*enter)(struct sweep *s, uint64_t slot, void *arg);
    /** All of the range in the current table is done: true to unlink it, if it is ours. */
    bool (*leave)(struct sweep *s, void *arg);
    /** A table was unlinked. */
    void (*unlinked)(struct sweep *s, mm_pfn_t table, void *arg);
};

static inline void sweep_begin(struct sweep *s, const struct mm_pagetable *pt, uint64_t first,
                               uint64_t last)
{
    s->pt = pt;
    s->cx = codec_of(pt);
    s->first = first;
    s->last = last;
    s->at = first;
    s->stop = false;
    s->level = root_level(s->cx);
    s->rights[s->level] = codec_rights_all();
    s->tables[s->level] = root_pfn(pt);
    s->slots = table_get(pt, root_pfn(pt));
}

static inline void sweep_down(struct sweep *s, uint64_t slot)
{
    mm_pfn_t child = codec_table_pfn(s->cx, slot);

    s->slots = table_down(s->pt, s->slots, child);
    s->level--;
    s->tables[s->level] = child;
    s->rights[s->level] = codec_rights_below(s->rights[s->level + 1], slot);
}

RADIX_INLINE void sweep_up(struct sweep *s, const struct sweep_hooks hooks, void *arg)
{
    mm_pfn_t child = s->tables[s->level];
    bool unlink = hooks.leave != NULL && hooks.leave(s, arg);
    uint64_t *slot;

    s->slots = table_down(s->pt, s->slots, s->tables[s->level + 1]);
    s->level++;
    slot = &s->slots[slot_index(s->at, s->level)];
    if (unlink && codec_is_owned(mmi_load(slot))) {
        if (s->level == root_level(s->cx) && mmi_is_pair(s->pt)) {
            pair_unlink(s->pt, slot_index(s->at, s->level));
        }
        mmi_store_release(slot, 0);
        hooks.unlinked(s, child, arg);
    }
}

/** Visit every slot of every table in [first, last], in ascending order. */
RADIX_INLINE mm_status_t sweep_run(struct sweep *s, const struct sweep_hooks hooks, void *arg)
{
    unsigned top = root_level(s->cx);

    for (;;) {
        unsigned i = slot_index(s->at, s->level);
        uint64_t slot = mmi_load_acquire(&s->slots[i]);
        unsigned nr = 1;

        if (codec_is_table(slot, s->level)) {
            if (hooks.enter == NULL || hooks.enter(s, slot, arg)) {
                sweep_down(s, slot);
                continue;
            }
        } else {
            unsigned end = slot_last(s->at, s->level + 1) >= s->last ? slot_index(s->last, s->level)
                                                                     : RADIX_SLOTS - 1;
            mm_status_t status = hooks.slots(s, i, end, &nr, arg);

            if (status != MM_OK || s->stop) {
                table_put(s->pt, s->slots);
                return status;
            }
        }
        /* The last byte that is done; then up, while the table or the range ends with it. */
        s->at = slot_last(s->at + (nr - 1) * level_size(s->level), s->level);
        while (s->level < top &&
               (s->at >= s->last || slot_index(s->at, s->level) == RADIX_SLOTS - 1)) {
            sweep_up(s, hooks, arg);
        }
        if (s->at >= s->last) {
            table_put(s->pt, s->slots);
            return MM_OK;
        }
        s->at++;
    }
}

/** Address of slot `i` of the current table. */
static inline uint64_t sweep_address(const struct sweep *s, unsigned i)
{
    return slot_first(s->at, s->level) + (i - slot_index(s->at, s->level)) * level_size(s->level);
}

#include "radix_map.h"

#include "radix_pages.h"

#include "radix_edit.h"

#include "radix_take.h"

#include "radix_clone.h"

#include "radix_root.h"

#include "radix_type.h"

#include "radix_merge.h"

#include "radix_audit.h"
#include "radix_slot.h"

#include "radix_page.h"

#include "radix_harvest.h"

#include "radix_cursor.h"

#endif
