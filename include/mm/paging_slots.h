// SPDX-License-Identifier: MIT
/**
 * Page tables one slot or one leaf at a time: slots read and exchanged, what leaves say besides
 * frame and protection, and cursors. Whole ranges are in paging.h.
 *
 *   - A slot is read with mm_paging_slot_get() and written with mm_paging_slot_cas(), if it still
 *     holds what was seen. CPUs that share the owner's lock may do so at once: faults of different
 *     pages run in parallel.
 *   - Leaves carry software bits and a protection key, and the hardware's accessed and dirty, which
 *     are harvested.
 *   - A cursor keeps its place, so that work on page after page walks once in 512 pages.
 */
#ifndef MM_PAGING_SLOTS_H
#define MM_PAGING_SLOTS_H

#include <mm/paging.h>

MM_BEGIN_DECLS

/* --- slots ------------------------------------------------------------------------------------ */

/**
 * One slot, whatever it holds. To write a leaf, all from `paddr` to `dirty` counts; to write a soft
 * slot, `soft_kind` and `payload`.
 */
struct mm_slot {
    struct mm_vrange page; /**< what the slot covers */
    enum mm_slot_kind kind;
    mm_prot_t prot;    /**< of a leaf: what is effective, as in struct mm_mapping */
    mm_paddr_t paddr;  /**< of a leaf's first byte */
    mm_memtype_t type; /**< of a leaf */
    uint8_t software;  /**< of a leaf */
    uint8_t key;       /**< of a leaf */
    bool accessed;     /**< of a leaf */
    bool dirty;        /**< of a leaf */
    uint8_t soft_kind; /**< of a soft slot: below MM_SOFT_KINDS, or MM_SOFT_GUARD */
    uint64_t payload;  /**< of a soft slot: below 2^MM_SOFT_PAYLOAD_BITS */
    uint64_t raw;      /**< as the hardware reads it: what mm_paging_slot_cas() compares */
};

static inline struct mm_slot mm_slot_empty(void)
{
    struct mm_slot slot = {
        {{0}, 0}, MM_SLOT_EMPTY, MM_PROT_NONE, {0}, MM_MEMTYPE_WB, 0, 0, false, false, 0, 0, 0};

    return slot;
}

static inline struct mm_slot mm_slot_soft(uint8_t soft_kind, uint64_t payload)
{
    struct mm_slot slot = mm_slot_empty();

    slot.kind = MM_SLOT_SOFT;
    slot.soft_kind = soft_kind;
    slot.payload = payload;
    return slot;
}

/** A leaf that was not yet accessed, without software bits and under key 0. */
static inline struct mm_slot mm_slot_leaf(mm_paddr_t paddr, mm_prot_t prot, mm_memtype_t type)
{
    struct mm_slot slot = mm_slot_empty();

    slot.kind = MM_SLOT_LEAF;
    slot.paddr = paddr;
    slot.prot = prot;
    slot.type = type;
    return slot;
}

/**
 * What the slot of an address holds, in either half; a hole above the smallest slots is reported as
 * a whole.
 *
 * @param[out] out  untouched on error
 * @return MM_OK | MM_ERR_INVALID_ADDRESS (not canonical) | MM_ERR_INVALID_ARGUMENT (null)
 *         | MM_ERR_NOT_INITIALIZED
 * Locks:  the owner's, which others that only get and exchange slots may share. Sleeps: never.
 * Cost:   one load a level.
 */
MM_MUST_CHECK
mm_status_t mm_paging_slot_get(const struct mm_pagetable *pt, mm_vaddr_t at, struct mm_slot *out);

/**
 * Write a slot, if it still holds what was seen: empty, leaf or soft may become empty, leaf or
 * soft. Missing tables are made. Two CPUs may do so at once, on the same slot too: one of them is
 * told MM_ERR_BUSY. What the hardware sets meanwhile (accessed, dirty) is a change like any other,
 * so none is lost.
 *
 * A leaf may become one of another frame and protection, as with mm_paging_replace(); never one of
 * another size or memory type, which a CPU must not see side by side (SDM vol. 3A, 4.10.2.3 and
 * 12.12.4): write an empty or soft slot, end the gather, write the leaf. Tables that become empty
 * stay, until mm_paging_reclaim() or mm_paging_unmap() passes over them.
 *
 * @param at      aligned to `len`, in the declared ranges
 * @param len     of the slot: 4 KiB, 2 MiB or 1 GiB
 * @param seen    what mm_paging_slot_get() told, or mm_slot_empty(); only `raw` is compared.
 *                Written on MM_ERR_BUSY alone: what is there now
 * @param now     by mm_slot_empty(), mm_slot_soft() (also a guard: MM_SOFT_GUARD with payload 0) or
 *                mm_slot_leaf()
 * @param gather  begun for `pt`; a leaf that was seen goes to it. NULL: only if none was
 * @return MM_OK | MM_ERR_BUSY (the slot holds something else) | MM_ERR_HUGE_PAGE (it is as seen,
 *         and larger than `len`) | MM_ERR_ALREADY_MAPPED (a table of smaller slots is there)
 *         | MM_ERR_NOT_ALIGNED (at, paddr) | MM_ERR_INVALID_SIZE (len; paddr wraps)
 *         | MM_ERR_INVALID_ADDRESS (at: outside the declared ranges; paddr: beyond the CPU's)
 *         | MM_ERR_INVALID_ARGUMENT (null; kind, payload, type, software bits or key are none;
 *         gather of another page table, or none for a leaf) | MM_ERR_INVALID_FLAGS (prot)
 *         | MM_ERR_UNSUPPORTED (a size, type or key that the CPU lacks; a leaf of another type)
 *         | MM_ERR_PERMISSION_DENIED (as for mm_paging_map()) | MM_ERR_NOT_INITIALIZED
 *         | MM_ERR_FAULT (as for mm_paging_init_kernel()) | what the source answers
 * Owner:  frames stay the caller's; an old one is not to be used again before the gather has ended.
 * Locks:  the owner's, which others that only get and exchange slots may share; then source and
 *         physmap are called by several at once. Sleeps: never.
 * Cost:   one walk, one compare-and-exchange; one frame for each table that is missing.
 */
MM_MUST_CHECK
mm_status_t mm_paging_slot_cas(struct mm_pagetable *pt, mm_vaddr_t at, uint64_t len,
                               struct mm_slot *seen, const struct mm_slot *now,
                               struct mm_gather *gather);

/* --- what leaves say besides ------------------------------------------------------------------ */

/* What mm_paging_harvest() clears. */
#define MM_PAGING_ACCESSED 1u
#define MM_PAGING_DIRTY    2u

/**
 * Set and clear software bits of every leaf of the range. No translation changes.
 *
 * @param set, clear  bits of MM_SOFTWARE_ALL, none in both
 * @param flags       MM_PAGING_SKIP_HOLES
 * @return MM_OK | MM_ERR_NOT_MAPPED | MM_ERR_HUGE_PAGE (a large leaf sticks out: nothing is split)
 *         | MM_ERR_NOT_ALIGNED | MM_ERR_INVALID_SIZE (length 0, wraps) | MM_ERR_INVALID_ADDRESS
 *         (outside the declared ranges) | MM_ERR_INVALID_ARGUMENT (null; set, clear)
 *         | MM_ERR_INVALID_FLAGS | MM_ERR_NOT_INITIALIZED
 * Locks:  the owner's. Sleeps: never.
 * Cost:   one load a slot, one compare-and-exchange a leaf that changes (on a root that no CPU was
 *         ever in, one store).
 */
MM_MUST_CHECK
mm_status_t mm_paging_set_software(struct mm_pagetable *pt, struct mm_vrange range, uint32_t set,
                                   uint32_t clear, uint32_t flags);

/**
 * Give every leaf of the range this protection key. The hardware asks it for pages of the user, if
 * CR4.PKE is set (SDM vol. 3A, 4.6.2).
 *
 * @param key     0 to 15
 * @param flags   MM_PAGING_SPLIT | MM_PAGING_SKIP_HOLES
 * @param gather  begun for `pt`; the range is added to it if a leaf changes
 * @return MM_OK | MM_ERR_NOT_MAPPED | MM_ERR_HUGE_PAGE | MM_ERR_NOT_ALIGNED
 *         | MM_ERR_INVALID_SIZE (length 0, wraps) | MM_ERR_INVALID_ADDRESS (outside the declared
 *         ranges) | MM_ERR_INVALID_ARGUMENT (null; key; the gather belongs to another page table)
 *         | MM_ERR_INVALID_FLAGS | MM_ERR_UNSUPPORTED (a key but 0, and the CPU has none)
 *         | MM_ERR_NOT_INITIALIZED | MM_ERR_FAULT (as for mm_paging_init_kernel())
 *         | what the source answers
 * Locks:  the owner's. Sleeps: never.
 * Cost:   as mm_paging_set_software().
 */
MM_MUST_CHECK
mm_status_t mm_paging_set_key(struct mm_pagetable *pt, struct mm_vrange range, uint32_t key,
                              uint32_t flags, struct mm_gather *gather);

/**
 * Clear accessed or dirty of every leaf that overlaps the range, and report each as it was, in
 * ascending order. Reading and clearing is one step, so what the hardware sets meanwhile is either
 * reported or still there. A bit is set again once the gather has ended and the page is used.
 *
 * @param what    MM_PAGING_ACCESSED | MM_PAGING_DIRTY
 * @param fn      false ends the harvest after this leaf; must not change the page table. NULL:
 *                nobody is told
 * @param gather  begun for `pt`; leaves that had such a bit are added to it
 * @return MM_OK (also if `fn` ended it) | MM_ERR_NOT_ALIGNED | MM_ERR_INVALID_SIZE (length 0,
 *         wraps) | MM_ERR_INVALID_ADDRESS (outside the declared ranges)
 *         | MM_ERR_INVALID_ARGUMENT (null; the gather belongs to another page table)
 *         | MM_ERR_INVALID_FLAGS (what) | MM_ERR_NOT_INITIALIZED
 * Locks:  the owner's. Sleeps: never.
 * Cost:   one load for each slot of each table in the range, one compare-and-exchange a leaf that
 *         had a bit.
 */
MM_MUST_CHECK
mm_status_t mm_paging_harvest(struct mm_pagetable *pt, struct mm_vrange range, uint32_t what,
                              mm_paging_visit_fn fn, void *ctx, struct mm_gather *gather);

/** Told of each leaf that went, in ascending order, as it was at that moment. Must not change the
 * page table. */
typedef void (*mm_paging_taken_fn)(void *ctx, const struct mm_mapping *was);

/**
 * mm_paging_unmap() that tells of each leaf that it removes, with its last accessed and dirty: what
 * the hardware set up to the moment at which the leaf went is told, and after it the hardware sets
 * nothing there. So a kernel that writes back what is dirty loses no write between a harvest and
 * the end of the mapping. Parts of a leaf that is split are told one by one, each with what the
 * whole had; soft slots go untold.
 *
 * A CPU may go on writing to a leaf that was dirty until the gather has ended: read what is to be
 * written back after that. With MM_PAGING_RELEASE its frame may be someone else's by then, and as
 * soon as `fn` has returned, unless `fn` takes a reference.
 *
 * @param flags   MM_PAGING_SPLIT | MM_PAGING_SKIP_HOLES | MM_PAGING_RELEASE
 * @param fn      called only when all that can fail is done
 * @param gather  begun for `pt`; the range is added to it
 * @return as mm_paging_unmap(); MM_ERR_INVALID_ARGUMENT also for `fn` (null)
 * Owner:  as mm_paging_unmap().
 * Locks:  as mm_paging_unmap(). Sleeps: never.
 * Cost:   one exchange and one call of `fn` a leaf; a table that is left half full is read once.
 */
MM_MUST_CHECK
mm_status_t mm_paging_take(struct mm_pagetable *pt, struct mm_vrange range, uint32_t flags,
                           mm_paging_taken_fn fn, void *ctx, struct mm_gather *gather);

/* --- cursors ---------------------------------------------------------------------------------- */

/**
 * A place in a range that remembers the table it stands in, so that going on is one step and the
 * root is walked once in 512 pages (with a physmap that has ops: each time). Storage is the
 * caller's, fields are the library's, all under the owner's lock. Other calls on the page table
 * may come between: a cursor notices that tables were unlinked, and walks anew. It must not outlive
 * the page table. There is nothing to end.
 */
struct mm_paging_cursor {
    uint32_t magic;
    uint32_t at_end; /**< the place is the end of the range */
    struct mm_pagetable *pt;
    struct mm_vrange range;
    mm_vaddr_t place;
    /* The table that is remembered, of the smallest slots. */
    uint64_t first;       /**< the addresses that it covers, and `range` */
    uint64_t len;         /**< 0: none is remembered */
    uint64_t *slots;      /**< the table */
    uint64_t nr_unlinked; /**< of `pt`, when it was found */
    uint64_t rights;      /**< the backend's: of the tables above */
    /* The leaf that was decoded last: one that is alike but in its address says the same. */
    uint64_t address;        /**< bits of a slot that are address */
    uint64_t alike;          /**< the others; `address` itself: nothing is decoded */
    struct mm_mapping known; /**< `page` and `paddr` do not count */
};

#define MM_PAGING_CURSOR_MAGIC 0x7243504du /* "MPCr" */

/**
 * Begin at the start of a range, in one canonical half, declared or not.
 *
 * @param cursor  storage of any content
 * @return MM_OK | MM_ERR_NOT_ALIGNED | MM_ERR_INVALID_SIZE (length 0) | MM_ERR_INVALID_ADDRESS (not
 *         canonical, wraps) | MM_ERR_INVALID_ARGUMENT (null) | MM_ERR_NOT_INITIALIZED (pt)
 * Owner:  the caller keeps the storage, and `pt` alive while it is used.
 * Locks:  the owner's. Sleeps: never. Cost: O(1).
 */
MM_MUST_CHECK
mm_status_t mm_paging_cursor_begin(struct mm_paging_cursor *cursor, struct mm_pagetable *pt,
                                   struct mm_vrange range);

/**
 * Put the place elsewhere in the range.
 *
 * @return MM_OK | MM_ERR_NOT_ALIGNED | MM_ERR_INVALID_ADDRESS (outside of the range)
 *         | MM_ERR_INVALID_ARGUMENT (null) | MM_ERR_NOT_INITIALIZED
 * Locks:  the owner's. Sleeps: never. Cost: O(1).
 */
MM_MUST_CHECK
mm_status_t mm_paging_cursor_seek(struct mm_paging_cursor *cursor, mm_vaddr_t at);

/**
 * The leaf or soft slot at the place, or else the next one in the range, whole. The place moves to
 * its end.
 *
 * @param[out] out  untouched on error
 * @return MM_OK | MM_ERR_NOT_MAPPED (there is none; the place is the end of the range)
 *         | MM_ERR_INVALID_ARGUMENT (null) | MM_ERR_NOT_INITIALIZED
 * Locks:  the owner's. Sleeps: never.
 * Cost:   one load for each slot of 4 KiB that is passed over, one walk for each larger one and for
 *         each table.
 */
MM_MUST_CHECK
mm_status_t mm_paging_cursor_next(struct mm_paging_cursor *cursor, struct mm_slot *out);

/**
 * mm_paging_translate() with the cursor's memory, for any address of the range; the place stays.
 * This is what mm_paging_cursor_translate() calls when it does not know the answer.
 *
 * @param[out] out  as for mm_paging_translate()
 * @return MM_OK | MM_ERR_NOT_MAPPED | MM_ERR_INVALID_ADDRESS (outside of the range)
 *         | MM_ERR_INVALID_ARGUMENT (null) | MM_ERR_NOT_INITIALIZED
 * Locks:  the owner's. Sleeps: never.
 * Cost:   one load in a table that is remembered, else one a level.
 */
MM_MUST_CHECK
mm_status_t mm_paging_cursor_find(struct mm_paging_cursor *cursor, mm_vaddr_t at,
                                  struct mm_mapping *out);

/**
 * mm_paging_translate() with the cursor's memory, for any address of the range; the place stays.
 *
 * @param[out] out  as for mm_paging_translate()
 * @return as mm_paging_cursor_find()
 * Locks:  the owner's. Sleeps: never.
 * Cost:   one load, if the leaf before was in the same table and differed in its frame alone.
 */
MM_MUST_CHECK
static inline mm_status_t mm_paging_cursor_translate(struct mm_paging_cursor *cursor, mm_vaddr_t at,
                                                     struct mm_mapping *out)
{
    if (cursor != NULL && out != NULL && cursor->magic == MM_PAGING_CURSOR_MAGIC &&
        at.raw - cursor->first < cursor->len && cursor->nr_unlinked == cursor->pt->nr_unlinked) {
        uint64_t slot =
            __atomic_load_n(&cursor->slots[(at.raw >> MM_PAGE_SHIFT) & 511], __ATOMIC_RELAXED);

        if ((slot & ~cursor->address) == cursor->alike) {
            *out = cursor->known;
            out->page.start.raw = at.raw & ~MM_PAGE_MASK;
            out->paddr.raw = slot & cursor->address;
            return MM_OK;
        }
    }
    return mm_paging_cursor_find(cursor, at, out);
}

/**
 * Map one leaf at the place, and go on behind it. Where an empty table of smaller leaves was left,
 * it is filled with such.
 *
 * @param len  of the leaf: 4 KiB, 2 MiB or 1 GiB
 * @return MM_OK | MM_ERR_ALREADY_MAPPED | MM_ERR_NOT_ALIGNED (the place or paddr, to `len`)
 *         | MM_ERR_INVALID_SIZE (len is none of a leaf, or runs out of the range; paddr wraps)
 *         | MM_ERR_INVALID_ADDRESS (the place is the end, or outside the declared ranges; paddr:
 *         beyond the CPU's) | MM_ERR_INVALID_ARGUMENT (null, type) | MM_ERR_INVALID_FLAGS (prot)
 *         | MM_ERR_UNSUPPORTED (a size or type that the CPU lacks) | MM_ERR_PERMISSION_DENIED (as
 *         for mm_paging_map()) | MM_ERR_NOT_INITIALIZED | MM_ERR_FAULT (as for
 *         mm_paging_init_kernel()) | what the source answers
 * Owner:  as mm_paging_map().
 * Locks:  the owner's. Sleeps: never.
 * Cost:   one store; once in 512 pages a walk, and a frame for each table that is missing.
 */
MM_MUST_CHECK
mm_status_t mm_paging_cursor_map(struct mm_paging_cursor *cursor, mm_paddr_t paddr, uint64_t len,
                                 mm_prot_t prot, mm_memtype_t type);

/**
 * Remove the leaf or soft slot at the place, whole, and go on behind it.
 *
 * @param flags   MM_PAGING_RELEASE
 * @param gather  begun for the cursor's page table; the leaf is added to it
 * @return MM_OK | MM_ERR_NOT_MAPPED | MM_ERR_HUGE_PAGE (it begins before the place, or sticks out
 *         of the range) | MM_ERR_INVALID_ADDRESS (the place is the end, or outside the declared
 *         ranges; adopted root: the leaf sticks out of them) | MM_ERR_INVALID_ARGUMENT (null; the
 *         gather belongs to another page table) | MM_ERR_INVALID_FLAGS | MM_ERR_NOT_INITIALIZED
 * Owner:  as mm_paging_unmap().
 * Locks:  as mm_paging_unmap(). Sleeps: never.
 * Cost:   one store, and the loads that tell whether the table has others: one where work ascends,
 *         up to 511 where it descends. When it was the last, as mm_paging_unmap().
 */
MM_MUST_CHECK
mm_status_t mm_paging_cursor_unmap(struct mm_paging_cursor *cursor, uint32_t flags,
                                   struct mm_gather *gather);

/**
 * Give the leaf at the place, whole, this protection, and go on behind it.
 *
 * @param gather  begun for the cursor's page table; the leaf is added to it if it changes
 * @return as mm_paging_cursor_unmap() | MM_ERR_INVALID_FLAGS (prot) | MM_ERR_PERMISSION_DENIED (as
 *         for mm_paging_map())
 * Locks:  the owner's. Sleeps: never.
 * Cost:   one compare-and-exchange.
 */
MM_MUST_CHECK
mm_status_t mm_paging_cursor_protect(struct mm_paging_cursor *cursor, mm_prot_t prot,
                                     struct mm_gather *gather);

MM_END_DECLS

#endif
