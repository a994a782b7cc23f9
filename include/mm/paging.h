// SPDX-License-Identifier: MIT
/**
 * Page tables: map, unmap, protect, translate, walk and clone over whole ranges, for any
 * architecture.
 *
 * A page table (struct mm_pagetable) is one root and all that hangs from it. What the hardware
 * wants is the business of a backend (struct mm_paging_backend, e.g. mm_x86_64_backend()); calls
 * through it are whole ranges, so the loops inside are direct.
 *
 * Two sorts of root:
 *   - The kernel's: one a kernel. Its ranges (direct map, image, arena, devices) are declared at
 *     the start and their root entries are filled then, once; mapping outside them is
 *     MM_ERR_INVALID_ADDRESS.
 *   - A user's: one a space. It copies the kernel's root entries when it is made, which never
 *     change after, so nothing has to be synchronised. It maps only in the user range, and only
 *     with MM_PROT_USER.
 *
 * User and kernel never share a table below the root.
 *
 * Protection: a leaf that allows anything may be read; a CPU without no-execute (or with it
 * switched off) executes what it may read; MM_PROT_GLOBAL is a hint that a CPU may lack, and only
 * for kernel roots. What translate and walk report is what the hardware enforces. A leaf that
 * allows nothing (MM_PROT_NONE) is not present for the hardware but keeps its frame and type:
 * protecting it otherwise brings it back.
 *
 * Every call is all or nothing: tables that are needed are reserved first, and what follows cannot
 * fail. A call that fails has changed nothing. A frame that the source hands out must be one that
 * the physmap reaches, or it is given back and the call answers MM_ERR_FAULT. A physmap with ops
 * must have room for three tables at a time: a map op that has not is a panic.
 *
 * Locking: calls on one page table are serialised by its owner (a space does it with its lock); the
 * hardware may walk the tables all the while. Different page tables do not need each other's lock.
 * Whoever removes or narrows a translation passes a gather (tlb.h) and ends it before the memory is
 * used for anything else.
 */
#ifndef MM_PAGING_H
#define MM_PAGING_H

#include <mm/bootmap.h>
#include <mm/frame.h>
#include <mm/physmap.h>
#include <mm/platform.h>

MM_BEGIN_DECLS

struct mm_gather;
struct mm_pagetable;

/* --- what a slot holds ----------------------------------------------------------------------- */

enum mm_slot_kind {
    MM_SLOT_EMPTY = 0,
    MM_SLOT_LEAF = 1,
    MM_SLOT_SOFT = 2, /**< not present for the hardware; kind and payload for the kernel */
};

/** One leaf, or the hole around an address, as translate and walk report it. */
struct mm_mapping {
    struct mm_vrange page; /**< the leaf's whole page; for a hole the slot's range */
    mm_paddr_t paddr;      /**< of the page's first byte; 0 for a hole */
    mm_prot_t prot;        /**< what is effective: the AND over all levels; NONE: no access */
    mm_memtype_t type;
    enum mm_slot_kind kind;
    bool accessed;
    bool dirty;
};

/* --- flags ----------------------------------------------------------------------------------- */

/** unmap, protect: a large leaf that sticks out of the range is split; without: MM_ERR_HUGE_PAGE */
#define MM_PAGING_SPLIT 1u
/** unmap, protect: pages that are not mapped are passed over; without: MM_ERR_NOT_MAPPED */
#define MM_PAGING_SKIP_HOLES 2u
/** unmap, replace: frames go to the gather, which gives them to the source of frames, one by one */
#define MM_PAGING_RELEASE   4u
#define MM_PAGING_ONLY_4K   8u  /**< map: no leaf above 4 KiB */
#define MM_PAGING_MAX_2M    16u /**< map: no leaf above 2 MiB */
#define MM_PAGING_FLAGS_ALL 31u

/* --- backend --------------------------------------------------------------------------------- */

struct mm_paging_ops; /* paging_ops.h: what a backend implements */

/** An architecture: its operations and its instance. Passed by value. */
struct mm_paging_backend {
    const struct mm_paging_ops *ops;
    void *ctx;
};

/* --- page table ------------------------------------------------------------------------------ */

struct mm_paging_config {
    struct mm_paging_backend backend;
    const struct mm_physmap *physmap; /**< copied: where the tables are written */
    struct mm_frame_source
        source; /**< of table frames, and of the leaves that MM_PAGING_RELEASE frees */
    struct mm_platform platform;
    const struct mm_vrange *kernel_ranges; /**< copied: 1 to MM_PAGING_MAX_KERNEL_RANGES, aligned to
                                              pages, disjoint, canonical, outside `user` */
    uint32_t nr_kernel_ranges;
    struct mm_vrange
        user; /**< where user roots map; page-aligned, lower half; length 0: no user roots */
};

/** One root and its tables. Storage is the caller's; fields are the library's, `c` = constant after
 * init, `o` = the owner's lock. */
struct mm_pagetable {
    uint32_t magic;
    uint32_t is_user;          /**< c */
    uint32_t nr_kernel_ranges; /**< c */
    uint32_t adopted;          /**< c: root was built by someone else */
    uint32_t active;           /**< o: it has been activated: the hardware may walk it */
    uint32_t zero;
    mm_paddr_t root;                                             /**< c */
    struct mm_paging_backend backend;                            /**< c */
    struct mm_physmap physmap;                                   /**< c */
    struct mm_frame_source source;                               /**< c */
    struct mm_platform platform;                                 /**< c */
    struct mm_vrange kernel_ranges[MM_PAGING_MAX_KERNEL_RANGES]; /**< c */
    struct mm_vrange user;                                       /**< c */
    uint64_t nr_tables;    /**< o: tables owned, root included */
    uint64_t nr_leaves[3]; /**< o: leaves of 4 KiB, 2 MiB, 1 GiB behind its own root entries */
    uint64_t spare[4];
};

struct mm_paging_stats {
    uint64_t nr_tables;    /**< owned, root included */
    uint64_t nr_leaves[3]; /**< 4 KiB, 2 MiB, 1 GiB */
    uint64_t mapped_bytes;
};

/**
 * Make the kernel's root: empty but for the tables behind the root entries of the declared ranges.
 *
 * @param pt  zeroed storage
 * @return MM_OK | MM_ERR_ALREADY_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null, no backend or source,
 *         an op is missing, no kernel range, a physmap that wraps) | MM_ERR_INVALID_ADDRESS (a
 *         range wraps, is not canonical, overlaps another, or shares a root entry with `user`;
 *         `user` is not in the lower half) | MM_ERR_INVALID_SIZE (a kernel range is empty)
 *         | MM_ERR_NOT_ALIGNED (a range) | MM_ERR_LIMIT (too many ranges) | MM_ERR_FAULT
 *         | what the source answers, e.g. MM_ERR_NO_MEMORY
 * Cost:   one frame for each root entry that the ranges touch, and one for the root.
 */
MM_MUST_CHECK
mm_status_t mm_paging_init_kernel(struct mm_pagetable *pt, const struct mm_paging_config *config);

/**
 * Make a user root beside a kernel root.
 *
 * @param pt      zeroed storage
 * @param kernel  made by mm_paging_init_kernel() or mm_paging_adopt(), and outlives `pt`
 * @return MM_OK | MM_ERR_ALREADY_INITIALIZED | MM_ERR_NOT_INITIALIZED (kernel)
 *         | MM_ERR_INVALID_ARGUMENT (null, a user root as `kernel`, or its configuration has no
 * user range) | MM_ERR_FAULT | what the source answers Cost:   one frame.
 */
MM_MUST_CHECK
mm_status_t mm_paging_init_user(struct mm_pagetable *pt, const struct mm_pagetable *kernel);

/**
 * Take over a root that someone else built (the boot loader): its mappings are seen, may be changed
 * and removed; its tables are never given to the source of frames, and stay linked when empty.
 * Root entries of the declared ranges that it lacks are filled.
 *
 * The tree is trusted to be a tree: a range that holds a recursive entry must not be declared.
 *
 * @param root  page-aligned physical address; `config` as for mm_paging_init_kernel()
 * @return as mm_paging_init_kernel(), and MM_ERR_NOT_ALIGNED (root), MM_ERR_INVALID_ADDRESS (root:
 *         beyond the CPU's or the physmap's addresses) or MM_ERR_CORRUPTED (an entry in the
 * declared ranges is malformed, or leads to a table that the physmap does not reach) Cost:   one
 * load for each slot of each table behind the declared root entries.
 */
MM_MUST_CHECK
mm_status_t mm_paging_adopt(struct mm_pagetable *pt, const struct mm_paging_config *config,
                            mm_paddr_t root);

/**
 * Free all tables. Leaves are not released: unmap with MM_PAGING_RELEASE first if they are to be.
 * An adopted root keeps the tables that it came with; those that were put below them go. The
 * storage is zeroed.
 *
 * @return MM_OK | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null)
 *         | MM_ERR_BUSY (it is the root in use on this CPU)
 * Context: no CPU uses the root, and no user root of a kernel root that is destroyed exists.
 */
MM_MUST_CHECK
mm_status_t mm_paging_destroy(struct mm_pagetable *pt);

/**
 * Map `range` to the physical range of the same length at `paddr`, with the largest leaves that
 * alignment, length and the CPU allow. Nothing may be mapped there yet.
 *
 * @param range  in the user range, or in one of the kernel's declared ranges
 * @param prot   for a user root with MM_PROT_USER, for a kernel root without
 * @param flags  MM_PAGING_ONLY_4K | MM_PAGING_MAX_2M (the smaller counts)
 * @return MM_OK | MM_ERR_ALREADY_MAPPED | MM_ERR_NOT_ALIGNED (range or paddr)
 *         | MM_ERR_INVALID_SIZE (length 0, range or paddr wraps) | MM_ERR_INVALID_ADDRESS (outside
 *         the declared ranges, which are canonical; beyond the CPU's physical addresses)
 *         | MM_ERR_INVALID_ARGUMENT (null, type) | MM_ERR_INVALID_FLAGS (flags, prot)
 *         | MM_ERR_UNSUPPORTED (memory type the CPU lacks) | MM_ERR_PERMISSION_DENIED (adopted
 * root: a table that is not ours would narrow the protection) | MM_ERR_NOT_INITIALIZED |
 * MM_ERR_FAULT | what the source answers Locks:  the owner's. Sleeps: never. Cost:   one store a
 * leaf, one frame a table; one walk for 512 leaves.
 */
MM_MUST_CHECK
mm_status_t mm_paging_map(struct mm_pagetable *pt, struct mm_vrange range, mm_paddr_t paddr,
                          mm_prot_t prot, mm_memtype_t type, uint32_t flags);

/**
 * Remove translations. Tables that become empty go to the gather.
 *
 * @param flags   MM_PAGING_SPLIT | MM_PAGING_SKIP_HOLES | MM_PAGING_RELEASE
 * @param gather  begun for `pt`; the range is added to it
 * @return MM_OK | MM_ERR_NOT_MAPPED | MM_ERR_HUGE_PAGE | MM_ERR_NOT_ALIGNED | MM_ERR_INVALID_SIZE
 *         (length 0, wraps) | MM_ERR_INVALID_ADDRESS (outside the declared ranges)
 *         | MM_ERR_INVALID_ARGUMENT (null; the gather belongs to another page table)
 *         | MM_ERR_INVALID_FLAGS | MM_ERR_NOT_INITIALIZED | MM_ERR_FAULT | what the source answers
 *         (splits need at most two tables of 4 KiB leaves and two of 2 MiB leaves)
 * Locks:  the owner's. The gather may flush in between when it is full.
 * Cost:   one exchange a leaf; a table that is left half full is read once.
 */
MM_MUST_CHECK
mm_status_t mm_paging_unmap(struct mm_pagetable *pt, struct mm_vrange range, uint32_t flags,
                            struct mm_gather *gather);

/**
 * Give every page of the range this protection. Memory type, accessed and dirty stay.
 *
 * @param prot   as for mm_paging_map()
 * @param flags  MM_PAGING_SPLIT | MM_PAGING_SKIP_HOLES
 * @return as mm_paging_unmap(), and MM_ERR_INVALID_FLAGS (prot) or MM_ERR_PERMISSION_DENIED
 * (adopted root: as for mm_paging_map()) Cost:   one compare-and-exchange a leaf that changes.
 */
MM_MUST_CHECK
mm_status_t mm_paging_protect(struct mm_pagetable *pt, struct mm_vrange range, mm_prot_t prot,
                              uint32_t flags, struct mm_gather *gather);

/**
 * What is at an address, in either half. A leaf that allows nothing is reported as a leaf with
 * MM_PROT_NONE.
 *
 * @param[out] out  untouched on error but MM_ERR_NOT_MAPPED, where it describes the hole
 * @return MM_OK | MM_ERR_NOT_MAPPED | MM_ERR_INVALID_ADDRESS (not canonical)
 *         | MM_ERR_INVALID_ARGUMENT (null) | MM_ERR_NOT_INITIALIZED
 * Cost:   one load a level.
 */
MM_MUST_CHECK
mm_status_t mm_paging_translate(const struct mm_pagetable *pt, mm_vaddr_t at,
                                struct mm_mapping *out);

/** Called for each leaf in ascending order; false ends the walk. Must not change the page table. */
typedef bool (*mm_paging_visit_fn)(void *ctx, const struct mm_mapping *mapping);

/**
 * Visit every leaf that overlaps `range`, whole; holes are not visited. Any range in one canonical
 * half is allowed, aligned or not, declared or not.
 *
 * @return MM_OK (also if the visitor ended it) | MM_ERR_INVALID_SIZE (length 0)
 *         | MM_ERR_INVALID_ADDRESS (not canonical, wraps) | MM_ERR_INVALID_ARGUMENT (null)
 *         | MM_ERR_NOT_INITIALIZED
 * Cost:   one load for each slot of each table that exists in the range.
 */
MM_MUST_CHECK
mm_status_t mm_paging_walk(const struct mm_pagetable *pt, struct mm_vrange range,
                           mm_paging_visit_fn visit, void *ctx);

/** Told of each run of frames that a clone makes shared: `nr` frames from `first`. */
typedef void (*mm_paging_share_fn)(void *ctx, mm_pfn_t first, uint64_t nr);

/**
 * Copy-on-write copy between two user roots: every leaf of `range` in `from` appears in `to` with
 * the same frame, type, accessed and dirty, without the right to write in both. `to` must hold
 * nothing there.
 *
 * @param share   called once for each run of frames, after all that can fail; it takes the
 *                references. NULL: nobody counts.
 * @param gather  begun for `from`: its translations are narrowed
 * @return MM_OK | MM_ERR_ALREADY_MAPPED (`to`) | MM_ERR_HUGE_PAGE (a leaf of `from` sticks out of
 * the range) | MM_ERR_NOT_ALIGNED | MM_ERR_INVALID_SIZE | MM_ERR_INVALID_ADDRESS |
 * MM_ERR_INVALID_ARGUMENT (null; gather of another page table; `from` and `to` are one, of
 *         different backends, or not both user roots) | MM_ERR_NOT_INITIALIZED | MM_ERR_FAULT
 *         | what the source answers
 * Locks:  both owners'.
 * Cost:   one exchange and one store a leaf, one frame for each table below.
 */
MM_MUST_CHECK
mm_status_t mm_paging_clone(struct mm_pagetable *from, struct mm_pagetable *to,
                            struct mm_vrange range, mm_paging_share_fn share, void *ctx,
                            struct mm_gather *gather);

/**
 * Replace the frame and protection of one mapped 4 KiB page (copy-on-write break); the memory type
 * stays, accessed and dirty begin anew. The old translation goes to the gather, and with
 * MM_PAGING_RELEASE the old frame too.
 *
 * @param flags  MM_PAGING_RELEASE
 * @return MM_OK | MM_ERR_NOT_MAPPED | MM_ERR_HUGE_PAGE | MM_ERR_NOT_ALIGNED (at, paddr)
 *         | MM_ERR_INVALID_ADDRESS (at: outside the declared ranges; paddr: beyond the CPU's)
 *         | MM_ERR_INVALID_FLAGS (flags, prot) | MM_ERR_INVALID_ARGUMENT (null; gather of another
 *         page table) | MM_ERR_PERMISSION_DENIED (as for mm_paging_map())
 *         | MM_ERR_NOT_INITIALIZED
 * Cost:   one exchange.
 */
MM_MUST_CHECK
mm_status_t mm_paging_replace(struct mm_pagetable *pt, mm_vaddr_t at, mm_paddr_t paddr,
                              mm_prot_t prot, uint32_t flags, struct mm_gather *gather);

/** Physical address of the root: what the hardware's root register wants. {0} if not initialised.
 */
mm_paddr_t mm_paging_root(const struct mm_pagetable *pt);

/**
 * Make this the root that this CPU walks.
 *
 * @return MM_OK | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null)
 * Context: the code that runs, its stack and `pt` must be mapped in it. Interrupts as the caller
 * likes.
 */
MM_MUST_CHECK
mm_status_t mm_paging_activate(struct mm_pagetable *pt);

/** The root that this CPU walks now, whoever made it. {0} for a backend without ops. Any context.
 */
mm_paddr_t mm_paging_current_root(struct mm_paging_backend backend);

/**
 * Walk a root that is no page table of the library: to go back to the boot loader's. All
 * translations of this CPU are dropped, global ones too.
 *
 * @param root  what mm_paging_current_root() told earlier
 * @return MM_OK | MM_ERR_INVALID_ARGUMENT (a backend without ops) | MM_ERR_NOT_ALIGNED (root)
 * Context: as mm_paging_activate().
 */
MM_MUST_CHECK
mm_status_t mm_paging_load_root(struct mm_paging_backend backend, mm_paddr_t root);

/* --- kernel bring-up ------------------------------------------------------------------------- */

/**
 * Map the kernel's image section by section, each with its own protection, global where the CPU
 * can. Edges are rounded to pages; a page that sections of one protection share is mapped once;
 * sections of length 0 take no page.
 *
 * @return as mm_paging_map(), and MM_ERR_INVALID_ARGUMENT (no sections), MM_ERR_NOT_ALIGNED (linked
 *         and physical address lie differently in their pages), MM_ERR_ALREADY_MAPPED (sections
 * that share a page lie apart), MM_ERR_PERMISSION_DENIED (two sections of different protection
 *         share a page, or one is both writable and executable). All are mapped, or none.
 * Cost:   as mm_paging_map(), O(sections^2) comparisons, and one frame for the time of the call.
 */
MM_MUST_CHECK
mm_status_t mm_paging_map_sections(struct mm_pagetable *pt, const struct mm_boot_section *sections,
                                   uint32_t nr_sections);

/**
 * Map all of RAM and ACPI memory that `physmap` reaches at its base, readable and writable, never
 * executable, global where the CPU can, with the largest leaves. Firmware runtime, devices and
 * holes are left out; frames are those of mm_bootmap_next_frames().
 *
 * @return as mm_paging_map(), MM_ERR_NOT_INITIALIZED also for the map, MM_ERR_NOT_ALIGNED and
 *         MM_ERR_INVALID_SIZE also for what the physmap reaches, and MM_ERR_UNSUPPORTED if it is
 * not a direct map. On error nothing is mapped. Cost:   as mm_paging_map(), and one frame for the
 * time of the call.
 */
MM_MUST_CHECK
mm_status_t mm_paging_map_direct(struct mm_pagetable *pt, struct mm_bootmap *map,
                                 const struct mm_physmap *physmap);

/* --- asking ---------------------------------------------------------------------------------- */

/** @return MM_OK | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null) */
MM_MUST_CHECK
mm_status_t mm_paging_get_stats(const struct mm_pagetable *pt, struct mm_paging_stats *out);

/**
 * Walk all tables of its own: every entry is well formed, no leaf of the kernel is open to the user
 * and no user leaf the kernel's, no table of ours is empty, and there are as many tables and leaves
 * as were counted (so none is shared). Each contradiction is one line to the log op.
 *
 * @return MM_OK | MM_ERR_CORRUPTED | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null)
 */
MM_MUST_CHECK
mm_status_t mm_paging_check(const struct mm_pagetable *pt);

/**
 * Print the layout through the log op: one line for each run of equal attributes (range, size of
 * leaf, permissions, type, what physical address).
 *
 * @return as mm_paging_walk()
 */
MM_MUST_CHECK
mm_status_t mm_paging_dump(const struct mm_pagetable *pt, struct mm_vrange range);

/* --- page faults, for every architecture ----------------------------------------------------- */

/** What the access was and what the hardware found. */
#define MM_FAULT_PRESENT  1u /**< a translation was there and forbade the access */
#define MM_FAULT_WRITE    2u
#define MM_FAULT_EXEC     4u  /**< an instruction fetch */
#define MM_FAULT_USER     8u  /**< from user mode */
#define MM_FAULT_RESERVED 16u /**< a table entry is malformed: corruption */
#define MM_FAULT_PKEY     32u /**< a protection key forbade it */
#define MM_FAULT_OTHER    64u /**< a cause this version does not know (shadow stack, SGX, ...) */

struct mm_fault {
    mm_vaddr_t at;
    uint32_t flags; /**< MM_FAULT_... */
};

MM_END_DECLS

#endif
