// SPDX-License-Identifier: MIT
/**
 * What the files of the space room share: the space itself, and the steps that more than one of
 * them takes. Nothing here is for other rooms.
 *
 *     manager.c  the manager            pages.c    pages put there and dropped, frames put aside
 *     space.c    life, looking          map.c      map, unmap
 *     limits.c   limits, charges        protect.c  protect, copy-on-write on demand
 *     place.c    where a region goes    remap.c advise.c wire.c brk.c device.c
 *     fault.c    faults                 clone.c    fork, with clone_pinned.c
 *     access.c   from outside           list.c check.c
 *     region_tree.c region_place.c region_edit.c   regions in buckets (region.h)
 */
#ifndef MMI_SPACE_INTERNAL_H
#define MMI_SPACE_INTERNAL_H

#include "region.h"
#include "shared_lock.h"

#include "core/base/mem.h"
#include "core/base/range.h"
#include "core/base/report.h"

#define MMI_SPACES_MAGIC UINT32_C(0x6d6d5370) /* "mmSp" */
#define MMI_SPACE_MAGIC  UINT32_C(0x6d6d7370) /* "mmsp" */
#define MMI_SPACE_DEAD   UINT32_C(0x6d6d7378) /* freed, and its memory not used again yet */
#define MMI_GROUP_MAGIC  UINT32_C(0x6d6d4770) /* "mmGp" */

/** Rights that a region has; the rest of mm_prot_t is the library's. */
#define MMI_SPACE_PROT (MM_PROT_READ | MM_PROT_WRITE | MM_PROT_EXEC)

/* Flags of a region, beside MM_SPACE_REGION_FLAGS: its kind, a device's memory type, and whether
 * its pages are promised (commit charge). MMI_REGION_OFFSET is the tree's. */
#define MMI_REGION_KIND_SHIFT 8u
#define MMI_REGION_TYPE_SHIFT 12u
#define MMI_REGION_COMMITTED  (1u << 16)

/** Software bit of a leaf: MM_ADVICE_FREE gave its page up. If it is dirty, it was written since. */
#define MMI_SOFTWARE_GIVEN_UP 1u

static inline enum mm_region_kind mmi_region_kind(const struct mmi_region *region)
{
    return (enum mm_region_kind)((region->attr.flags >> MMI_REGION_KIND_SHIFT) & 7u);
}

static inline mm_memtype_t mmi_region_type(const struct mmi_region *region)
{
    return (mm_memtype_t)((region->attr.flags >> MMI_REGION_TYPE_SHIFT) & 7u);
}

static inline bool mmi_region_is_device(const struct mmi_region *region)
{
    return mmi_region_kind(region) == MM_REGION_DEVICE;
}

/** The last byte of a region's part of a range that ends with `last`. */
static inline uint64_t mmi_region_part_end(const struct mmi_region *region, uint64_t last)
{
    return mmi_region_last(region) < last ? mmi_region_last(region) : last;
}

/** `c` = constant after it was made, `a` = atomic, `l` = under the lock, alone. */
struct mm_space {
    uint32_t magic;                /* c */
    uint32_t refs;                 /* a */
    uint32_t is_kernel;            /* c */
    uint32_t is_limited;           /* l, read by sharers: `nr_resident` is kept */
    uint64_t id;                   /* c */
    struct mm_spaces *spaces;      /* c */
    struct mm_pagetable *table;    /* c: own_table, or the kernel's */
    struct mm_space_group *group;  /* c: NULL: none */
    struct mm_space_layout layout; /* c */
    struct mm_space_limits limits; /* l, read by sharers */
    struct mmi_regions regions;    /* l, read by sharers */
    uint64_t nr_resident;          /* a: pages charged, if the space is limited */
    uint64_t charged_bytes;        /* l: of regions, as charged to the group */
    uint64_t nr_committed;         /* l: pages promised */
    uint64_t device_bytes;         /* l: in regions of devices */
    uint64_t nr_folded;            /* l: pages of all slots that the table has counted */
    uint64_t nr_given_up;          /* a: not 0: pages may be given up (MM_ADVICE_FREE) */
    uint64_t brk_start;            /* l: 0: not told */
    uint64_t brk;                  /* l: first byte behind the heap */
    uint64_t nr_stack_growths;     /* l */
    struct mm_pagetable own_table; /* l; slots are sharers' too */
    struct mm_gather gather;       /* l: here, because it is too large for a kernel's stack */
    struct mmi_space_lock lock;    /* a */
};

/* --- the lock --------------------------------------------------------------------------------- */

/** Share the lock. The slot is what leaves it. */
static inline struct mmi_space_slot *mmi_space_share(struct mm_space *space)
{
    const struct mm_platform *platform = &space->spaces->platform;
    struct mmi_space_slot *slot = mmi_space_slot_of(&space->lock, platform);

    mmi_space_lock_share(&space->lock, slot, platform);
    return slot;
}

static inline void mmi_space_unshare(struct mmi_space_slot *slot)
{
    mmi_space_lock_unshare(slot, 0);
}

/** Have it alone. */
static inline void mmi_space_lock(struct mm_space *space)
{
    mmi_space_lock_alone(&space->lock, &space->spaces->platform);
}

/** What was charged becomes what is there (limits.c). Lock held alone, or nobody else knows the
 * space. */
void mmi_space_settle(struct mm_space *space);

/** Bring charges up to date, and leave. */
void mmi_space_unlock(struct mm_space *space);

/** Count in the table what sharers put there. Lock held alone. */
void mmi_space_fold(struct mm_space *space);

/* --- rights ----------------------------------------------------------------------------------- */

/** What a leaf in a region of these rights gets: x86 has no leaf that is writable or executable and
 * not readable. */
static inline mm_prot_t mmi_space_leaf_prot(const struct mm_space *space, mm_prot_t prot)
{
    if ((prot & (MM_PROT_WRITE | MM_PROT_EXEC)) != 0) {
        prot |= MM_PROT_READ;
    }
    return prot | (space->is_kernel != 0 ? MM_PROT_GLOBAL : MM_PROT_USER);
}

static inline bool mmi_space_rights_only(mm_prot_t prot)
{
    return (prot & ~(mm_prot_t)MMI_SPACE_PROT) == 0;
}

/** Whether a region's pages are there to be touched at all. */
static inline bool mmi_region_is_guard(const struct mmi_region *region)
{
    return (region->attr.flags & MM_SPACE_GUARD) != 0;
}

/** Whether a device may use a frame. One that was pinned too often is immortal, and may be in use
 * for ever; the zero page is immortal, and nobody writes to it. */
static inline bool mmi_space_is_pinned(const struct mm_spaces *spaces, mm_pfn_t frame)
{
    return mm_frame_pins(spaces->frames, frame) != 0 && frame.raw != spaces->zero_page.raw;
}

/* --- space.c ---------------------------------------------------------------------------------- */

/** A new space with no region, not yet counted or announced. NULL: no memory. */
struct mm_space *mmi_space_new(struct mm_spaces *spaces, bool is_kernel, mm_status_t *status);
/** Unmap everything and free all of it. Nobody else knows the space. */
void mmi_space_free(struct mm_space *space);
/** Be one of a group (NULL: of none), before anything is charged. */
void mmi_space_join(struct mm_space *space, struct mm_space_group *group);
/** Count it and tell of it. */
void mmi_space_announce(struct mm_space *space);

/** Claims of devices in nobody's tree, chained by `node.child[MMI_LEFT]`. */
struct mmi_claim_list {
    struct mmi_range *head;
    uint64_t nr;
};

static inline void mmi_claim_push(struct mmi_claim_list *list, struct mmi_range *claim)
{
    claim->node.child[MMI_LEFT] = list->head == NULL ? NULL : &list->head->node;
    list->head = claim;
    list->nr++;
}

/** NULL: the list is empty. */
static inline struct mmi_range *mmi_claim_pop(struct mmi_claim_list *list)
{
    struct mmi_range *claim = list->head;

    if (claim != NULL) {
        list->head = mmi_range_of(claim->node.child[MMI_LEFT]);
        list->nr--;
    }
    return claim;
}

/** Nodes that an edit takes from, and gives to. Its buckets are in the tree, to spare. */
struct mmi_space_nodes {
    struct mmi_region_list regions;
    struct mmi_claim_list claims;
    uint64_t nr_spare; /* buckets that were to spare before these were taken */
};

/** How many nodes an edit may take. */
struct mmi_space_need {
    uint64_t regions;
    uint64_t claims;
};

/* What follows: lock held alone, or nobody else knows the space. */

/** Have so many nodes, and buckets for these regions: all or none. */
bool mmi_space_take_nodes(struct mm_space *space, struct mmi_space_nodes *nodes,
                          struct mmi_space_need need);
/** The same, for regions that are appended to a space that has none. */
bool mmi_space_take_nodes_to_append(struct mm_space *space, struct mmi_space_nodes *nodes,
                                    struct mmi_space_need need);
/** The edit is done: give back what nodes are left, and the buckets that a space need not keep. */
void mmi_space_give_nodes(struct mm_space *space, struct mmi_space_nodes *nodes);
/** Nothing was done: give back all that was taken, by a call that failed too. Twice does no harm. */
void mmi_space_return_nodes(struct mm_space *space, struct mmi_space_nodes *nodes);

/** A page-table call that cannot fail on tables that are whole: if it did, they are not. */
void mmi_space_must(const struct mm_space *space, mm_status_t status, const char *what,
                    uint64_t at);

/** A range of whole pages inside the space: MM_OK and its length, or what is wrong with it. */
mm_status_t mmi_space_whole_pages(const struct mm_space *space, struct mm_vrange range,
                                  uint64_t *len);

/** Whether regions cover a range without a hole; else where the first hole is. */
bool mmi_space_covered(const struct mm_space *space, uint64_t start, uint64_t len, uint64_t *hole);

/* --- limits.c: lock held alone, but where it says otherwise ----------------------------------- */

/** Whether so many more bytes of regions and pages of promises are allowed; they are charged. What
 * does not come to be is refunded by mmi_space_uncharge(), what goes later by mmi_space_unlock()
 * (bytes) and mmi_space_uncommit() (pages). MM_OK | MM_ERR_LIMIT | MM_ERR_NO_MEMORY */
mm_status_t mmi_space_charge(struct mm_space *space, uint64_t bytes, uint64_t nr_committed);
void mmi_space_uncharge(struct mm_space *space, uint64_t bytes, uint64_t nr_committed);

/** Pages promised are promised no more. */
void mmi_space_uncommit(struct mm_space *space, uint64_t nr_pages);

/** Pages promised in a part of the space. */
uint64_t mmi_space_committed_in(const struct mm_space *space, uint64_t start, uint64_t len);

/** Whether a region of these rights and flags promises its pages. */
static inline bool mmi_space_commits(const struct mm_space *space, mm_prot_t prot, uint32_t flags)
{
    return space->spaces->commit != MM_COMMIT_ALWAYS && space->is_kernel == 0 &&
           ((flags >> MMI_REGION_KIND_SHIFT) & 7u) != MM_REGION_DEVICE &&
           ((prot & MM_PROT_WRITE) != 0 || (flags & MMI_REGION_COMMITTED) != 0);
}

/** The flag that such a region has: only where promises are counted, because it keeps neighbours
 * apart. */
static inline uint32_t mmi_space_commit_flag(const struct mm_space *space, mm_prot_t prot,
                                             uint32_t flags)
{
    return space->spaces->commit == MM_COMMIT_NEVER && mmi_space_commits(space, prot, flags)
               ? MMI_REGION_COMMITTED
               : 0;
}

/** Pages that so many bytes of such a region promise. */
static inline uint64_t mmi_space_promise(const struct mm_space *space,
                                         const struct mmi_region_attr *attr, uint64_t len)
{
    return mmi_space_commits(space, attr->prot, attr->flags) ? len >> MM_PAGE_SHIFT : 0;
}

/** Whether so many more pages may be there; charged if the space is limited. Lock held, shared or
 * alone. What does not come to be is refunded; what goes later is by mmi_space_unlock(). */
bool mmi_space_charge_pages(struct mm_space *space, uint64_t nr_pages);
void mmi_space_refund_pages(struct mm_space *space, uint64_t nr_pages);

/** Be of the parent's group and limits, and charge what the parent has. The parent held alone;
 * nobody else knows the child, which has no region. MM_OK | MM_ERR_LIMIT | MM_ERR_NO_MEMORY */
mm_status_t mmi_space_charge_copy(struct mm_space *parent, struct mm_space *child);

/** Pages that are there now, but a device's. */
uint64_t mmi_space_nr_resident(struct mm_space *space);

/* --- place.c ---------------------------------------------------------------------------------- */

/** Where a new region may lie. */
struct mmi_space_place {
    uint64_t hint;    /* tried first; 0: none */
    uint64_t len;     /* whole pages */
    uint64_t align;   /* a power of two */
    uint64_t residue; /* below `align`: the start is this much above a multiple */
};

/** Whether a range is free, in the layout, and leaves stacks their gaps. `stack`: it is one. */
bool mmi_space_is_free(const struct mm_space *space, uint64_t start, uint64_t len, bool stack);

/** Find a place by the layout's rules. */
bool mmi_space_find_place(const struct mm_space *space, const struct mmi_space_place *place,
                          bool stack, uint64_t *out);

/** A layout with nothing left open, or what is wrong with it. */
mm_status_t mmi_space_lay_out(const struct mm_spaces *spaces, const struct mm_space_layout *asked,
                              struct mm_space_layout *out);

/* --- pages.c: lock held alone ----------------------------------------------------------------- */

/** Begin the space's own gather. */
struct mm_gather *mmi_space_gather(struct mm_space *space);

/**
 * Frames put aside: for page tables, so that what follows cannot fail (`source` is what a page
 * table's `spare` points to), and for pages. They hold their own list in their first word.
 */
struct mmi_space_spare {
    struct mm_spaces *spaces;
    struct mm_frame_source source;
    uint64_t head; /* frame; 0: none */
    uint64_t nr;
};

/** Begin with none. */
void mmi_space_spare_init(struct mm_space *space, struct mmi_space_spare *spare);
/** Put so many frames aside, all or none. */
mm_status_t mmi_space_spare_fill(struct mmi_space_spare *spare, enum mm_frame_owner owner,
                                 uint64_t nr);
/** Give back what is left. */
void mmi_space_spare_drop(struct mmi_space_spare *spare);

/** Tables that a call needs at most to split the large leaves that the ends of a range cut; 0: there
 * are none. */
uint64_t mmi_space_need_tables(const struct mm_space *space, uint64_t start, uint64_t len);

/** Tables that mapping a range takes at most, where nothing is; `large`: with leaves of 2 MiB where
 * they fit. */
uint64_t mmi_space_tables_to_map(uint64_t start, uint64_t len, bool large);

/** Split the large leaves that the ends of a range cut, where regions are cut: no leaf lies in two of
 * them. Tables for it were put aside. */
void mmi_space_cut_leaves(struct mm_space *space, uint64_t start, uint64_t len,
                          struct mm_gather *gather);

/** A frame for a page of the space, zeroed if asked, tagged with it. */
mm_status_t mmi_space_alloc_page(struct mm_space *space, uint64_t at, bool zero, mm_pfn_t *out);

/** Record that a frame is this page's alone. Lock held, shared or alone. */
void mmi_space_tag_page(struct mm_space *space, uint64_t at, mm_pfn_t frame);

/** Put zeroed frames everywhere in a range that has none, 2 MiB at a time where `flags` of the
 * region allow it; all or none, and charged. */
mm_status_t mmi_space_populate(struct mm_space *space, uint64_t start, uint64_t len, mm_prot_t prot,
                               uint32_t flags);

/** Put pages that were put aside from `start` on, until there are none left; tables too were. */
void mmi_space_put_spares(struct mm_space *space, uint64_t start, mm_prot_t prot,
                          struct mmi_space_spare *pages);

/** Whether the 2 MiB around a page of a region may be one leaf. */
bool mmi_space_may_be_huge(const struct mm_space *space, const struct mmi_region *region,
                           uint64_t at);
/** Put 2 MiB of zeroed frames there. MM_OK | MM_ERR_ALREADY_MAPPED (something is) | MM_ERR_NO_MEMORY
 * | ... */
mm_status_t mmi_space_put_huge(struct mm_space *space, uint64_t at, mm_prot_t prot);

/**
 * Unmap what is there, in the regions that are still there: private frames are released after the
 * flush, a device's are not. Tables for what the ends cut were put aside
 * (mmi_space_need_tables()).
 */
void mmi_space_drop_pages(struct mm_space *space, uint64_t start, uint64_t len);

/* --- map.c: lock held alone ------------------------------------------------------------------- */

/** A request of mm_space_map(), and its length in whole pages. */
mm_status_t mmi_space_check_request(const struct mm_space *space,
                                    const struct mm_space_request *request, uint64_t *len);
/** Bytes of regions in a range. */
uint64_t mmi_space_bytes_in(const struct mm_space *space, uint64_t start, uint64_t len);

/** What an edit that removes or cuts regions needs: nodes and tables, had before it begins. */
struct mmi_space_edit {
    struct mmi_space_nodes nodes;
    struct mmi_space_spare spare;
};

/** Nodes that mmi_space_remove() may take. */
struct mmi_space_need mmi_space_nodes_to_remove(const struct mm_space *space, uint64_t start,
                                                uint64_t len);

/** Have so many nodes, and tables for what the ends of the range cut and `nr_tables` more. */
mm_status_t mmi_space_edit_begin(struct mm_space *space, struct mmi_space_edit *edit,
                                 uint64_t start, uint64_t len, struct mmi_space_need need,
                                 uint64_t nr_tables);
/** Give back what was not needed. */
void mmi_space_edit_end(struct mm_space *space, struct mmi_space_edit *edit);
/** Nothing was done, and what was had is given back. */
void mmi_space_edit_cancel(struct mm_space *space, struct mmi_space_edit *edit);

/** Remove regions and pages of a range, for which an edit was begun; charges go. */
void mmi_space_remove(struct mm_space *space, uint64_t start, uint64_t len,
                      struct mmi_space_edit *edit);
/** The same, with an edit of its own. MM_OK, or what ran out: nothing was done. */
mm_status_t mmi_space_remove_range(struct mm_space *space, uint64_t start, uint64_t len);

/** Make a free range, of whose start this is the spot, a region, populated or not: charges, nodes and
 * pages, all or nothing. */
mm_status_t mmi_space_add_region(struct mm_space *space, struct mmi_region_spot spot, uint64_t at,
                                 uint64_t len, const struct mmi_region_attr *attr, bool populate);

/* --- device.c: lock held alone ---------------------------------------------------------------- */

/** Claims that mmi_space_devices_settle() may take after an edit of this range. */
uint64_t mmi_space_devices_need(const struct mm_space *space, uint64_t start, uint64_t len);
/**
 * Claims follow the pieces: those of regions that were cut are made anew, those of regions that
 * went (`gone`: chained, nodes go to `nodes` after) are released, and counted no more. After the
 * flush.
 */
void mmi_space_devices_settle(struct mm_space *space, uint64_t start, uint64_t len,
                              struct mmi_region_list *gone, struct mmi_space_nodes *nodes);
/**
 * `region` names the claim of another region, which holds all of its memory: it gets one of its own,
 * taken from `claims`, and the other keeps its. So it is with a region that was copied (fork), and
 * with a part that was put elsewhere, before its old place is settled. device_bytes is the caller's
 * to count.
 */
void mmi_space_devices_claim_again(struct mm_space *space, struct mmi_region *region,
                                   struct mmi_claim_list *claims);
/** Whether every device of the space is claimed, mapped and counted as its region says; each
 * contradiction is logged. */
bool mmi_space_devices_check(struct mm_space *space);
/** Whether the claims of all spaces, of which `nr` are allocated, are in order; with an arena, which may
 * have those of other managers and checks them, whether it has so many. Locks: the devices'. */
bool mmi_spaces_devices_check(struct mm_spaces *spaces, uint64_t nr);

/* --- advise.c: lock held alone ---------------------------------------------------------------- */

/** Pages of a range that were given up are so no more: for who writes them by another way than the
 * space's addresses, or makes them stay. */
void mmi_space_keep(struct mm_space *space, uint64_t start, uint64_t len);

/* --- wire.c: lock held alone ------------------------------------------------------------------ */

/** Change flags of all regions of a range but guards and devices; holes are passed over. MM_OK,
 * or what ran out for a region that must be split: nothing was done. */
mm_status_t mmi_space_change_flags(struct mm_space *space, uint64_t start, uint64_t len,
                                   const struct mmi_region_change *change);

/** Fault in each page of one region's part, [first, last], up to the first that cannot be had.
 * MM_OK | MM_ERR_NO_MEMORY | MM_ERR_LIMIT | MM_ERR_PERMISSION_DENIED */
mm_status_t mmi_space_fault_pages(struct mm_space *space, uint64_t first, uint64_t last,
                                  uint32_t flags);

/* --- fault.c ---------------------------------------------------------------------------------- */

/** Make a page such as an access needs it (MM_FAULT_...), as mm_space_fault(), but uncounted. Lock
 * not held; `force`: whatever the region allows, but in a guard. */
enum mm_fault_result mmi_space_fault_in(struct mm_space *space, uint64_t at, uint32_t flags,
                                        bool force);
/** The same, with the lock held alone. */
enum mm_fault_result mmi_space_fault_in_alone(struct mm_space *space, uint64_t at, uint32_t flags,
                                              bool force);

#endif
