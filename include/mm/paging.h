// SPDX-License-Identifier: MIT
/**
 * Page tables: map, unmap, protect, translate, walk and clone over whole ranges, for any
 * architecture. One slot or leaf at a time, and cursors: paging_slots.h.
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
 * Pairs (kernel page-table isolation): with MM_PAGING_PAIRS each user root is two, over the same
 * tables of the user half. In kernel mode the CPU walks the one that has all of the kernel's, and
 * where nothing of the user's can be executed; in user mode the other, which has of the kernel only
 * what a third root holds, the entry root: what is needed to come in (mm_paging_init_entry()).
 * mm_paging_activate() loads the first; the kernel's exit path loads mm_paging_user_root().
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
 * must have room for three tables at a time (6 frames serve every call of the library): a map op
 * that has not is a panic.
 *
 * Locking: calls on one page table are serialised by its owner (a space does it with its lock); the
 * hardware may walk the tables all the while. Different page tables do not need each other's lock.
 * Whoever removes or narrows a translation passes a gather (tlb.h) and ends it before the memory is
 * used for anything else. Any call may run with interrupts on or off, if the owner's lock allows
 * it; where that is not so, it says.
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
struct mm_tlb; /* tlb.h */

/* --- what a slot holds ------------------------------------------------------------------------ */

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
    uint8_t software; /**< what the kernel says of the page: bits of MM_SOFTWARE_ALL */
    uint8_t key;      /**< protection key, 0 to 15 */
};

/** Software bits of a leaf: the hardware ignores them. */
#define MM_SOFTWARE_ALL 7u

/** A soft slot holds one of these many kinds, from 0 on, and so many bits of payload. */
#define MM_SOFT_KINDS        10u
#define MM_SOFT_PAYLOAD_BITS 50u

/** The kind of a guard, which is the library's own: mm_paging_guard(). Its payload is 0. */
#define MM_SOFT_GUARD 10u

/* --- flags ------------------------------------------------------------------------------------ */

/** unmap, protect: a large leaf that sticks out of the range is split; without: MM_ERR_HUGE_PAGE */
#define MM_PAGING_SPLIT 1u
/** unmap, protect: pages that are not mapped are passed over; without: MM_ERR_NOT_MAPPED */
#define MM_PAGING_SKIP_HOLES 2u
/** unmap, replace: frames go to the gather, which gives them to the source of frames, one by one */
#define MM_PAGING_RELEASE 4u
#define MM_PAGING_ONLY_4K 8u  /**< map: no leaf above 4 KiB */
#define MM_PAGING_MAX_2M  16u /**< map: no leaf above 2 MiB */
/** map, protect: then merge as mm_paging_merge() does, which see for what may be held and touched;
 * not above the size that ONLY_4K and MAX_2M allow */
#define MM_PAGING_MERGE     32u
#define MM_PAGING_FLAGS_ALL 63u

/* --- backend ---------------------------------------------------------------------------------- */

struct mm_paging_ops; /* paging_ops.h: what a backend implements */

/** An architecture: its operations and its instance. Passed by value. */
struct mm_paging_backend {
    const struct mm_paging_ops *ops;
    void *ctx;
};

/* --- page table ------------------------------------------------------------------------------- */

struct mm_paging_config {
    struct mm_paging_backend backend;
    const struct mm_physmap *physmap; /**< copied: where the tables are written */
    /** Of table frames, and of the leaves that MM_PAGING_RELEASE frees. */
    struct mm_frame_source source;
    struct mm_platform platform;
    /** Copied: page-aligned, disjoint, canonical, outside `user`. */
    const struct mm_vrange *kernel_ranges;
    uint32_t nr_kernel_ranges; /**< 1 to MM_PAGING_MAX_KERNEL_RANGES */
    /** Where user roots map; page-aligned, lower half; length 0: no user roots. */
    struct mm_vrange user;
    /** The CPUs that walk these roots, and how to reach them: made by mm_tlb_init() for the same
     * backend, and of one kernel root at a time. NULL: one CPU, no ASIDs. User roots inherit it. */
    struct mm_tlb *tlb;
    uint32_t flags; /**< MM_PAGING_PAIRS */
};

/** Of the configuration: user roots are pairs, and no leaf of the kernel's root is global, so that
 * none outlives the way out to user mode. Only those of the entry root may be. */
#define MM_PAGING_PAIRS 1u

/** A set of CPUs: CPU n is bit n % 64 of word n / 64. */
struct mm_cpu_mask {
    uint64_t bits[MM_MAX_CPUS / 64];
};

/** Generations of flushes that a page table remembers: a CPU that is further behind drops all. */
#define MM_TLB_RING 16u

/** What one generation flushed (tlb.h). Each word is written and read atomically. */
struct mm_tlb_record {
    uint64_t seq;   /**< twice its generation; and 1: it is being written */
    uint64_t first; /**< first byte, and last */
    uint64_t last;
    uint64_t shift; /**< log2 of the smallest leaf that went */
};

/**
 * One root and its tables. Storage is the caller's; fields are the library's: `c` = constant after
 * init, `o` = the owner's lock, `a` = atomic.
 */
struct mm_pagetable {
    uint32_t magic;            /**< c */
    uint32_t is_user;          /**< c */
    uint32_t nr_kernel_ranges; /**< c */
    uint32_t adopted;          /**< c: root was built by someone else */
    uint32_t active;           /**< a: it has been activated: the hardware may walk it */
    uint32_t pairs;            /**< c: 1: made with MM_PAGING_PAIRS; 2: the entry root */
    mm_paddr_t root;           /**< c: of a pair the one for user mode */
    mm_paddr_t kernel_root;    /**< c: what the kernel runs on: `root`, unless it is a pair */
    /** With pairs: the entry root, of a kernel root (NULL: not yet made) and of its user roots; the
     * kernel root, of an entry root. */
    struct mm_pagetable *peer;
    uint64_t paddr_end; /**< c: no leaf has an address from here on */
    /** c: the backend's, by protection: a page of write-back memory of this user root, all but its
     * address. 0: such a page is mapped as ranges are. */
    uint64_t page_bits[MM_PROT_GLOBAL];
    uint64_t page_root; /**< c: with `page_bits`: what an entry that led to the root would be */
    uint64_t page_base; /**< c: with `page_bits`: from such an entry to where the table is seen */
    struct mm_paging_backend backend; /**< c */
    struct mm_physmap physmap;        /**< c */
    struct mm_frame_source source;    /**< c */
    /** o: where frames for tables come from when `source` has none. A call that fails gives back to
     * it what it took, from either; tables that were used go back to `source`. Set around a call by
     * who put frames aside for it (kva.h); NULL: nowhere. */
    const struct mm_frame_source *spare;
    struct mm_platform platform;                                 /**< c */
    struct mm_vrange kernel_ranges[MM_PAGING_MAX_KERNEL_RANGES]; /**< c */
    struct mm_vrange user;                                       /**< c */
    uint64_t nr_tables;    /**< o: tables owned, root included */
    uint64_t nr_leaves[3]; /**< o: leaves of 4 KiB, 2 MiB, 1 GiB behind its own root entries */
    struct mm_tlb *tlb;    /**< c: NULL: one CPU */
    uint64_t id;           /**< c: of all roots that its tlb ever had */
    uint64_t gen;          /**< a: flushes so far; counts on from any value, and wraps */
    struct mm_tlb_record ring[MM_TLB_RING]; /**< a: by generation */
    struct mm_cpu_mask cpus; /**< a: of a user root: the CPUs that have it loaded, or may have */
    uint64_t nr_soft;        /**< o: soft slots of any size, likewise */
    uint64_t nr_unlinked;    /**< o: tables unlinked so far: a cursor that remembers one notices */
    /** a: by declared range (of a user root bit 0): mm_paging_slot_cas() may have left an empty
     * table there, since mm_paging_reclaim() last went over the whole of it. */
    uint32_t sparse;
};

struct mm_paging_stats {
    uint64_t nr_tables;    /**< owned, root included */
    uint64_t nr_leaves[3]; /**< 4 KiB, 2 MiB, 1 GiB */
    uint64_t mapped_bytes; /**< by all leaves, those that allow nothing among them */
    uint64_t nr_soft;      /**< soft slots, whatever they cover */
};

/**
 * Make the kernel's root: empty but for the tables behind the root entries of the declared ranges.
 *
 * @param pt  zeroed storage
 * @return MM_OK | MM_ERR_ALREADY_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null; no backend or source,
 *         an op is missing, no kernel range, a physmap that wraps; `tlb` was made for another
 *         backend) | MM_ERR_NOT_INITIALIZED (`tlb`) | MM_ERR_BUSY (`tlb` has a kernel root)
 *         | MM_ERR_INVALID_ADDRESS (a range wraps, is not canonical, overlaps another, or shares a
 *         root entry with `user`; `user` is not in the lower half)
 *         | MM_ERR_INVALID_SIZE (a kernel range is empty) | MM_ERR_NOT_ALIGNED (a range, or
 *         the physmap's base) | MM_ERR_LIMIT (too many ranges) | MM_ERR_INVALID_FLAGS (flags)
 *         | MM_ERR_FAULT (a frame
 *         of the source that the physmap or the CPU does not reach) | what the source answers, e.g.
 *         MM_ERR_NO_MEMORY
 * Owner:  the caller keeps `pt`; what stands behind backend, physmap and source outlives it.
 * Locks:  none; one CPU. Sleeps: never.
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
 *         | MM_ERR_INVALID_ARGUMENT (null; a user or entry root as `kernel`; its configuration has
 *         no user range; it is for pairs and has no entry root yet) | MM_ERR_FAULT (as for
 *         mm_paging_init_kernel()) | what the source answers
 * Locks:  none; nobody else knows `pt`, and of `kernel` only what never changes is read.
 *         Sleeps: never.
 * Cost:   one frame, and one copy for each root entry of the kernel's ranges; a pair: two frames.
 */
MM_MUST_CHECK
mm_status_t mm_paging_init_user(struct mm_pagetable *pt, const struct mm_pagetable *kernel);

/**
 * Make the entry root of a kernel root with pairs: what user mode keeps of the kernel. It has
 * tables of its own behind `ranges`, and is empty: the kernel maps there, with mm_paging_map(),
 * what a CPU touches on its way in before it has loaded another root, and on its way out after (the
 * trampoline's text and its stacks, IDT, GDT, TSS), at the addresses, frames and rights that these
 * have in the kernel root. All user roots made after have it, also what is mapped in it later.
 *
 * It is no root to run on: map for good. What is unmapped from it is flushed on this CPU, with a
 * tlb on every CPU that is online, and what user mode's PCIDs hold of it goes on the next way out
 * to user mode.
 *
 * @param entry   zeroed storage
 * @param kernel  made with MM_PAGING_PAIRS
 * @param ranges  as kernel ranges, each within one of the kernel's
 * @return MM_OK | MM_ERR_ALREADY_INITIALIZED | MM_ERR_NOT_INITIALIZED (kernel)
 *         | MM_ERR_INVALID_ARGUMENT (null; no range; `kernel` is a user or entry root, or not for
 *         pairs) | MM_ERR_BUSY (it has an entry root) | MM_ERR_LIMIT (too many ranges)
 *         | MM_ERR_INVALID_ADDRESS (a range wraps, is not the kernel's, or overlaps another)
 *         | MM_ERR_INVALID_SIZE (a range is empty) | MM_ERR_NOT_ALIGNED (a range) | MM_ERR_FAULT
 *         (as for mm_paging_init_kernel()) | what the source answers
 * Owner:  the caller keeps `entry`; it outlives all user roots, and goes before `kernel`.
 * Locks:  none; one CPU. Sleeps: never.
 * Cost:   as mm_paging_init_kernel().
 */
MM_MUST_CHECK
mm_status_t mm_paging_init_entry(struct mm_pagetable *entry, struct mm_pagetable *kernel,
                                 const struct mm_vrange *ranges, uint32_t nr_ranges);

/**
 * Take over a root that someone else built (the boot loader): its mappings are seen, may be changed
 * and removed; its tables are never given to the source of frames, and stay linked when empty.
 * Root entries of the declared ranges that it lacks are filled. The tree is trusted to be a tree: a
 * range that holds a recursive entry must not be declared. What hangs from root entries that are
 * not declared is not looked at: whoever translates or walks there answers for it that the physmap
 * reaches its tables.
 *
 * @param pt      zeroed storage
 * @param config  as for mm_paging_init_kernel()
 * @param root    page-aligned physical address
 * @return as mm_paging_init_kernel(), and MM_ERR_NOT_ALIGNED (root) | MM_ERR_INVALID_ADDRESS (root:
 *         beyond the CPU's or the physmap's addresses) | MM_ERR_INVALID_FLAGS (MM_PAGING_PAIRS,
 *         too) | MM_ERR_CORRUPTED (an entry in the declared ranges is malformed, is not present and
 *         neither 0 nor a soft slot or a leaf as this library writes them, or leads to a table that
 *         the physmap does not reach)
 * Owner:  as mm_paging_init_kernel(); the root and its tables stay with who built them.
 * Locks:  none; one CPU. Sleeps: never.
 * Cost:   two loads for each slot of each table behind the declared root entries, and one frame for
 *         each root entry that was empty.
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
 *         | MM_ERR_BUSY (it is the root in use on this CPU; with a tlb: a CPU has it loaded; a
 *         kernel root: a CPU is online, or it has an entry root)
 * Locks:  none; no CPU uses the root, and no user root of a kernel root that is destroyed exists.
 *         Sleeps: never. It waits for nobody: translations of a root that no CPU has loaded cannot
 *         be used.
 * Cost:   one load for each slot of each table; for a kernel root one flush of everything.
 */
MM_MUST_CHECK
mm_status_t mm_paging_destroy(struct mm_pagetable *pt);

/**
 * Map `range` to the physical range of the same length at `paddr`, with the largest leaves that
 * alignment, length and the CPU allow. Nothing may be mapped there yet, and no soft slot be there.
 * A gather that holds what was there before has ended: until then a CPU may use the old leaf.
 *
 * @param range  in the user range, or in one of the kernel's declared ranges
 * @param prot   for a user root with MM_PROT_USER, for a kernel root without. Without READ, WRITE
 *               and EXEC it is MM_PROT_NONE: the leaf is kept, and no access passes
 * @param flags  MM_PAGING_ONLY_4K | MM_PAGING_MAX_2M (the smaller counts) | MM_PAGING_MERGE (also
 *               with what was mapped beside the range before)
 * @return MM_OK | MM_ERR_ALREADY_MAPPED | MM_ERR_NOT_ALIGNED (range, paddr)
 *         | MM_ERR_INVALID_SIZE (length 0, range or paddr wraps) | MM_ERR_INVALID_ADDRESS (range:
 *         outside the declared ranges; paddr: beyond the CPU's) | MM_ERR_INVALID_ARGUMENT (null,
 *         type) | MM_ERR_INVALID_FLAGS (flags, prot) | MM_ERR_UNSUPPORTED (a memory type that the
 *         CPU lacks) | MM_ERR_PERMISSION_DENIED (adopted root: a table that is not ours would
 *         narrow the protection) | MM_ERR_NOT_INITIALIZED | MM_ERR_FAULT (as for
 *         mm_paging_init_kernel()) | what the source answers
 * Owner:  the frames mapped stay the caller's; tables are the page table's.
 * Locks:  the owner's; with MM_PAGING_MERGE as mm_paging_merge(). Sleeps: never.
 * Cost:   one store a leaf, one frame a table; one walk for 512 leaves. With MM_PAGING_MERGE that
 *         of mm_paging_merge().
 */
MM_MUST_CHECK
mm_status_t mm_paging_map(struct mm_pagetable *pt, struct mm_vrange range, mm_paddr_t paddr,
                          mm_prot_t prot, mm_memtype_t type, uint32_t flags);

/**
 * Make every page of `range`, where nothing may be mapped nor any soft slot be, a guard: a soft
 * slot of kind MM_SOFT_GUARD, of the largest leaf's size that alignment, length and the CPU allow,
 * so that wide guards cost few tables. An access faults as in a hole; but who handles the fault
 * finds out with mm_paging_slot_get() that nothing ever belongs there (below a stack, between
 * buffers), and mm_paging_map() refuses to map there until mm_paging_unmap() has removed it.
 * Nothing is flushed: no CPU knows anything of a page that is not mapped.
 *
 * @param range  in the user range, or in one of the kernel's declared ranges
 * @return MM_OK | MM_ERR_ALREADY_MAPPED | MM_ERR_NOT_ALIGNED
 *         | MM_ERR_INVALID_SIZE (length 0, wraps) | MM_ERR_INVALID_ADDRESS (outside the declared
 *         ranges) | MM_ERR_INVALID_ARGUMENT (null) | MM_ERR_NOT_INITIALIZED | MM_ERR_FAULT (as for
 *         mm_paging_init_kernel()) | what the source answers
 * Owner:  tables are the page table's.
 * Locks:  the owner's. Sleeps: never.
 * Cost:   as mm_paging_map().
 */
MM_MUST_CHECK
mm_status_t mm_paging_guard(struct mm_pagetable *pt, struct mm_vrange range);

/**
 * Remove translations, and soft slots. What they say of accessed and dirty is lost: mm_paging_take()
 * tells of it. Tables that become empty go to the gather. A large soft slot
 * of which part goes is split like a leaf; its parts say the same.
 *
 * A page that a CPU has not cached by then faults there at once; one that it has, it may use until
 * the gather has ended.
 *
 * @param flags   MM_PAGING_SPLIT | MM_PAGING_SKIP_HOLES | MM_PAGING_RELEASE
 * @param gather  begun for `pt`; the range is added to it
 * @return MM_OK | MM_ERR_NOT_MAPPED | MM_ERR_HUGE_PAGE | MM_ERR_NOT_ALIGNED
 *         | MM_ERR_INVALID_SIZE (length 0, wraps) | MM_ERR_INVALID_ADDRESS (outside the declared
 *         ranges) | MM_ERR_INVALID_ARGUMENT (null; the gather belongs to another page table)
 *         | MM_ERR_INVALID_FLAGS | MM_ERR_NOT_INITIALIZED | MM_ERR_FAULT (as for
 *         mm_paging_init_kernel()) | what the source answers; the last two only where a leaf is
 *         split, for which two tables of 4 KiB leaves and two of 2 MiB leaves are enough
 * Owner:  without MM_PAGING_RELEASE the frames stay the caller's, not to be used again before the
 *         gather has ended.
 * Locks:  the owner's. With MM_PAGING_RELEASE a gather that is full is ended in between: then none
 *         that is ever taken with interrupts off, as for mm_gather_end(). Sleeps: never.
 * Cost:   one load and one store a leaf; a table that is left half full is read once. Where there
 *         was nothing, the gather disturbs no CPU.
 */
MM_MUST_CHECK
mm_status_t mm_paging_unmap(struct mm_pagetable *pt, struct mm_vrange range, uint32_t flags,
                            struct mm_gather *gather);

/**
 * Give every page of the range this protection. Memory type, accessed, dirty, software bits and key
 * stay. A soft slot is a hole.
 *
 * @param prot    as for mm_paging_map()
 * @param flags   MM_PAGING_SPLIT | MM_PAGING_SKIP_HOLES | MM_PAGING_MERGE
 * @param gather  begun for `pt`; the range is added to it if a leaf changes
 * @return as mm_paging_unmap(), and MM_ERR_INVALID_FLAGS (prot) | MM_ERR_PERMISSION_DENIED (as for
 *         mm_paging_map())
 * Locks:  the owner's; with MM_PAGING_MERGE as mm_paging_merge(). Sleeps: never.
 * Cost:   one load a slot; a leaf that changes one store, or, where the hardware may still set
 *         accessed or dirty in it, one compare-and-exchange. With MM_PAGING_MERGE that of
 *         mm_paging_merge().
 */
MM_MUST_CHECK
mm_status_t mm_paging_protect(struct mm_pagetable *pt, struct mm_vrange range, mm_prot_t prot,
                              uint32_t flags, struct mm_gather *gather);

/**
 * Give every page of the range this memory type. All else stays: frame, protection, accessed,
 * dirty. A page that allows nothing changes the type that it will come back with; a leaf that has
 * the type already is left alone, but for a large one that the range cuts, which is split.
 *
 * Two types of one page must never be in use at once. So on a root that the hardware may walk, the
 * leaves are first made not present, then every CPU drops their translations, then they come back
 * with the new type (SDM vol. 3A, 12.12.4; APM vol. 2, 7.8.7). Meanwhile who touches the range
 * takes a fault, the kernel too: the code that runs, its stack, what an interrupt handler needs,
 * and the tables as the physmap shows them must not lie in it.
 *
 * What the caches hold of the memory is the caller's to write back and drop, on every CPU that may
 * have used it, after the call and before the first use under the new type (the same sections; a
 * CPU with self-snooping, CPUID.1:EDX[27], needs it not). So are other mappings of the same frames,
 * e.g. in the direct map: each gets the new type with a call of its own.
 *
 * @param flags  MM_PAGING_SPLIT | MM_PAGING_SKIP_HOLES
 * @return MM_OK | MM_ERR_NOT_MAPPED | MM_ERR_HUGE_PAGE | MM_ERR_NOT_ALIGNED
 *         | MM_ERR_INVALID_SIZE (length 0, wraps) | MM_ERR_INVALID_ADDRESS (outside the declared
 *         ranges) | MM_ERR_INVALID_ARGUMENT (null, type) | MM_ERR_INVALID_FLAGS
 *         | MM_ERR_UNSUPPORTED (a type that the CPU lacks) | MM_ERR_NOT_INITIALIZED | MM_ERR_FAULT
 *         (as for mm_paging_init_kernel()) | what the source answers; the last two only where a
 *         leaf is split, as for mm_paging_unmap()
 * Locks:  the owner's; none that is ever taken with interrupts off; not preempted to another CPU.
 *         It spins until the other CPUs have flushed. Sleeps: never.
 * Cost:   one load a slot; on a live root one compare-and-exchange and one store a leaf that
 *         changes, and one flush on every CPU; else one store a leaf.
 */
MM_MUST_CHECK
mm_status_t mm_paging_set_type(struct mm_pagetable *pt, struct mm_vrange range, mm_memtype_t type,
                               uint32_t flags);

/**
 * Put one larger leaf in the place of each table whose 512 leaves agree: they follow each other in
 * memory from an address that the larger size allows, and are alike in all but accessed and dirty,
 * of which the larger leaf has what any of them had. 4 KiB leaves become leaves of 2 MiB, and these
 * leaves of 1 GiB where the CPU has them; pages that allow nothing merge among each other. Tried is
 * every table that the range touches, also with its leaves beside the range; a larger leaf reaches
 * into one declared range only. Tables that are not ours (adopted roots) stay.
 *
 * On a root that the hardware may walk, no address ever has translations of two sizes (SDM vol. 3A,
 * 4.10.2.3): the tables that merge are unlinked, every CPU drops what it knows of them, then comes
 * the larger leaf. Meanwhile who touches what they map takes a fault: the code that runs, its
 * stack, what an interrupt handler needs, and the tables as the physmap shows them must not lie
 * there.
 *
 * The call needs no memory: with good arguments it cannot fail. The tables go back to the source
 * before it returns. Frames and what they hold are left alone.
 *
 * @param[out] nr_merged  larger leaves made, of both sizes; NULL: nobody is told; untouched on error
 * @return MM_OK | MM_ERR_NOT_ALIGNED | MM_ERR_INVALID_SIZE (length 0, wraps)
 *         | MM_ERR_INVALID_ADDRESS (outside the declared ranges) | MM_ERR_INVALID_ARGUMENT (null)
 *         | MM_ERR_NOT_INITIALIZED
 * Locks:  the owner's; none that is ever taken with interrupts off; not preempted to another CPU.
 *         It spins until the other CPUs have flushed. Sleeps: never.
 * Cost:   a few loads for a table whose leaves disagree early, two a leaf for one that merges, and
 *         one free; at most one flush on every CPU for each of the two sizes, none if nothing
 *         merges or nobody walks the root.
 */
MM_MUST_CHECK
mm_status_t mm_paging_merge(struct mm_pagetable *pt, struct mm_vrange range, uint64_t *nr_merged);

/**
 * Unlink every table of ours that holds nothing and that the range touches, and hand it to the
 * gather; then those above that hold nothing any more. Unmapping leaves none behind; slots that
 * are emptied one by one can. Tables behind the kernel's root entries stay. After the whole of a
 * declared range was reclaimed, mm_paging_check() tolerates no empty table there any more, until
 * mm_paging_slot_cas() empties a slot again.
 *
 * @param range   any inside the user range, or inside one of the kernel's declared ranges, aligned
 *                or not
 * @param gather  begun for `pt`; a page of each table that goes is added to it
 * @return MM_OK | MM_ERR_INVALID_SIZE (length 0, wraps) | MM_ERR_INVALID_ADDRESS (outside the
 *         declared ranges) | MM_ERR_INVALID_ARGUMENT (null; the gather belongs to another page
 *         table) | MM_ERR_NOT_INITIALIZED
 * Locks:  the owner's. Sleeps: never.
 * Cost:   one load for each slot of each table above the lowest; of others up to the first slot
 *         that holds something.
 */
MM_MUST_CHECK
mm_status_t mm_paging_reclaim(struct mm_pagetable *pt, struct mm_vrange range,
                              struct mm_gather *gather);

/**
 * What is at an address, in either half. A leaf that allows nothing is reported as a leaf with
 * MM_PROT_NONE; a soft slot is a hole of kind MM_SLOT_SOFT.
 *
 * @param[out] out  untouched on error but MM_ERR_NOT_MAPPED, where it describes the hole
 * @return MM_OK | MM_ERR_NOT_MAPPED | MM_ERR_INVALID_ADDRESS (not canonical)
 *         | MM_ERR_INVALID_ARGUMENT (null) | MM_ERR_NOT_INITIALIZED
 * Locks:  the owner's. Sleeps: never.
 * Cost:   one load a level.
 */
MM_MUST_CHECK
mm_status_t mm_paging_translate(const struct mm_pagetable *pt, mm_vaddr_t at,
                                struct mm_mapping *out);

/** Called for each leaf in ascending order; false ends the walk. Must not change the page table. */
typedef bool (*mm_paging_visit_fn)(void *ctx, const struct mm_mapping *mapping);

/**
 * Visit every leaf that overlaps `range`, whole; holes and soft slots are not visited. Any range in
 * one canonical half is allowed, aligned or not, declared or not.
 *
 * @return MM_OK (also if the visitor ended it) | MM_ERR_INVALID_SIZE (length 0)
 *         | MM_ERR_INVALID_ADDRESS (not canonical, wraps) | MM_ERR_INVALID_ARGUMENT (null)
 *         | MM_ERR_NOT_INITIALIZED
 * Locks:  the owner's. Sleeps: never.
 * Cost:   one load for each slot of each table that exists in the range.
 */
MM_MUST_CHECK
mm_status_t mm_paging_walk(const struct mm_pagetable *pt, struct mm_vrange range,
                           mm_paging_visit_fn visit, void *ctx);

/** Told of each run of frames that a clone makes shared: `nr` frames from `first`. */
typedef void (*mm_paging_share_fn)(void *ctx, mm_pfn_t first, uint64_t nr);

/**
 * Copy-on-write copy between two user roots: every leaf of `range` in `from` appears in `to` with
 * the same frame, type, accessed, dirty, software bits and key, without the right to write in both.
 * Soft slots are copied as they are, and `share` is not told of them. `to` must hold nothing there.
 *
 * @param share   called once for each run of frames, after all that can fail; it takes the
 *                references. NULL: nobody counts.
 * @param gather  begun for `from`: its translations are narrowed
 * @return MM_OK | MM_ERR_ALREADY_MAPPED (to; an empty table in the place of a large leaf, too)
 *         | MM_ERR_HUGE_PAGE (a leaf or soft slot of `from` sticks out of the range)
 *         | MM_ERR_NOT_ALIGNED | MM_ERR_INVALID_SIZE (length 0, wraps)
 *         | MM_ERR_INVALID_ADDRESS (outside the user range) | MM_ERR_INVALID_ARGUMENT (null; gather
 *         of another page table; `from` and `to` are one, of different backends, or not both user
 *         roots) | MM_ERR_NOT_INITIALIZED | MM_ERR_FAULT (as for mm_paging_init_kernel())
 *         | what the source answers
 * Owner:  the frames are shared from here on. CPUs that have `from` loaded may still write to them
 *         until the gather has ended: before that `to` is not run, nor a frame's content trusted.
 * Locks:  both owners'. Sleeps: never.
 * Cost:   two stores a leaf; of leaves in which the hardware may still set accessed or dirty one
 *         exchange for two and a store each. One frame for each table below.
 */
MM_MUST_CHECK
mm_status_t mm_paging_clone(struct mm_pagetable *from, struct mm_pagetable *to,
                            struct mm_vrange range, mm_paging_share_fn share, void *ctx,
                            struct mm_gather *gather);

/**
 * Replace the frame and protection of one mapped 4 KiB page (copy-on-write break); memory type,
 * software bits and key stay, accessed and dirty begin anew. The old translation goes to the
 * gather, and with MM_PAGING_RELEASE the old frame too.
 *
 * @param flags   MM_PAGING_RELEASE
 * @param gather  begun for `pt`
 * @return MM_OK | MM_ERR_NOT_MAPPED | MM_ERR_HUGE_PAGE | MM_ERR_NOT_ALIGNED (at, paddr)
 *         | MM_ERR_INVALID_ADDRESS (at: outside the declared ranges; paddr: beyond the CPU's)
 *         | MM_ERR_INVALID_FLAGS (flags, prot) | MM_ERR_INVALID_ARGUMENT (null; gather of another
 *         page table) | MM_ERR_PERMISSION_DENIED (as for mm_paging_map()) | MM_ERR_NOT_INITIALIZED
 * Owner:  without MM_PAGING_RELEASE the old frame stays the caller's.
 * Locks:  as mm_paging_unmap(). Sleeps: never.
 * Cost:   one walk, one store.
 */
MM_MUST_CHECK
mm_status_t mm_paging_replace(struct mm_pagetable *pt, mm_vaddr_t at, mm_paddr_t paddr,
                              mm_prot_t prot, uint32_t flags, struct mm_gather *gather);

/* --- the root in use -------------------------------------------------------------------------- */

/**
 * Physical address of the root that the kernel runs on. The hardware's root register may want bits
 * beside it (on x86-64 the encryption mask, a PCID): mm_paging_activate() knows them.
 *
 * @return {0} if `pt` is null or not initialised
 * Locks:  none; any context. Cost: O(1).
 */
mm_paddr_t mm_paging_root(const struct mm_pagetable *pt);

/**
 * Physical address of the root for user mode: of a pair the one that the kernel's exit path loads
 * last; else mm_paging_root().
 *
 * @return {0} if `pt` is null or not initialised
 * Locks:  none; any context. Cost: O(1).
 */
mm_paddr_t mm_paging_user_root(const struct mm_pagetable *pt);

/**
 * Make this the root that this CPU walks. The code that runs, its stack and `pt` must be mapped in
 * it.
 *
 * With a tlb, the CPU is one of the page table's from here until it loads another: it is
 * interrupted when translations go. With ASIDs (PCIDs), translations of its last stay are kept if
 * they are still good. A user root that is already loaded is not loaded again.
 *
 * @return MM_OK | MM_ERR_NOT_INITIALIZED (also: this CPU is not online in the tlb)
 *         | MM_ERR_INVALID_ARGUMENT (null; an entry root)
 * Locks:  without a tlb the owner's; with one none, and the page table is not destroyed meanwhile.
 *         Not preempted to another CPU, and with a tlb with interrupts off, or with the platform's
 *         op interrupt_save, so that no handler ends a gather or switches roots in the midst.
 *         Sleeps: never, and waits for nobody.
 * Cost:   one load of the root register; for a kernel root one flush of everything.
 */
MM_MUST_CHECK
mm_status_t mm_paging_activate(struct mm_pagetable *pt);

/**
 * Go to the kernel's root, from a user's or from any: what a CPU does that has nothing to do in a
 * space, so that flushes of that space leave it alone, and before the space goes. As
 * mm_paging_activate() of that root, but kernel translations that are good are kept.
 *
 * @param kernel  a kernel root
 * @return MM_OK | MM_ERR_NOT_INITIALIZED (also: this CPU is not online in the tlb)
 *         | MM_ERR_INVALID_ARGUMENT (null; a user root; an entry root)
 * Locks:  as mm_paging_activate().
 * Cost:   one load of the root register.
 */
MM_MUST_CHECK
mm_status_t mm_paging_leave(struct mm_pagetable *kernel);

/**
 * The root that this CPU walks now, whoever made it: its address, with no bit that the register
 * holds beside.
 *
 * @return {0} for a backend without ops
 * Locks:  none; any context. Cost: O(1).
 */
mm_paddr_t mm_paging_current_root(struct mm_paging_backend backend);

/**
 * Walk a root that is no page table of the library: to go back to the boot loader's. All
 * translations of this CPU are dropped, global ones too. The code that runs and its stack must be
 * mapped in it. A CPU that is online in a tlb leaves to the kernel's root first
 * (mm_paging_leave()), and is taken offline after (mm_tlb_offline()) unless it comes back.
 *
 * @param root  what mm_paging_current_root() told earlier
 * @return MM_OK | MM_ERR_INVALID_ARGUMENT (a backend without ops) | MM_ERR_NOT_ALIGNED (root)
 *         | MM_ERR_INVALID_ADDRESS (root: beyond the CPU's)
 * Locks:  none; not preempted to another CPU. Sleeps: never.
 * Cost:   one load of the root register, one flush of everything.
 */
MM_MUST_CHECK
mm_status_t mm_paging_load_root(struct mm_paging_backend backend, mm_paddr_t root);

/* --- kernel bring-up -------------------------------------------------------------------------- */

/**
 * Map the kernel's image section by section, each with its own protection, global where the CPU
 * can. Edges are rounded to pages; a page that sections of one protection share is mapped once;
 * sections of length 0 take no page. All are mapped, or none.
 *
 * @return as mm_paging_map(), and MM_ERR_INVALID_ARGUMENT (no sections) | MM_ERR_NOT_ALIGNED
 *         (linked and physical address lie differently in their pages) | MM_ERR_ALREADY_MAPPED
 *         (sections that share a page lie apart) | MM_ERR_PERMISSION_DENIED (two sections of
 *         different protection share a page, or one is both writable and executable)
 *         | MM_ERR_NO_MEMORY (also: the physmap's op maps no frame)
 * Owner:  the image's frames stay the caller's.
 * Locks:  the owner's. Where it fails half-way, what was mapped is unmapped and flushed: as for
 *         mm_gather_end(), none that is ever taken with interrupts off, and not preempted to
 *         another CPU. Sleeps: never.
 * Cost:   as mm_paging_map(), O(sections^2) comparisons, and one frame for the time of the call.
 */
MM_MUST_CHECK
mm_status_t mm_paging_map_sections(struct mm_pagetable *pt, const struct mm_boot_section *sections,
                                   uint32_t nr_sections);

/**
 * Map all of RAM and ACPI memory that `physmap` reaches at its base, never executable, global where
 * the CPU can, with the largest leaves. Firmware runtime, devices and holes are left out; frames
 * are those of mm_bootmap_next_frames(). All is mapped, or nothing.
 *
 * `physmap` is how the kernel will see memory, with a base in a declared range; what the page table
 * was made with, through which the library writes tables now, may be another, as while booting.
 *
 * It is readable and writable, but where the image has sections that are not writable: there it is
 * read-only, so that text which cannot be written where it is linked cannot be written here. A
 * kernel that patches its text does so through a mapping of its own.
 *
 * @param sections  those of mm_paging_map_sections(), before or after it; NULL with nr_sections 0:
 *                  no image lies in memory
 * @return as mm_paging_map(), and MM_ERR_NOT_INITIALIZED (map) | MM_ERR_NOT_ALIGNED and
 *         MM_ERR_INVALID_SIZE (what `physmap` reaches) | MM_ERR_UNSUPPORTED (`physmap` has ops)
 *         | MM_ERR_INVALID_ARGUMENT, MM_ERR_INVALID_SIZE, MM_ERR_NOT_ALIGNED,
 *         MM_ERR_ALREADY_MAPPED and MM_ERR_PERMISSION_DENIED (sections, as for
 *         mm_paging_map_sections()) | MM_ERR_NO_MEMORY (also: the op of the page table's physmap
 *         maps no frame)
 * Owner:  memory that is mapped stays whose it is.
 * Locks:  the owner's; nobody else uses `map`. Where it fails half-way, as for
 *         mm_paging_map_sections(). Sleeps: never.
 * Cost:   as mm_paging_map(), O(sections^2) comparisons, and one frame for the time of the call.
 */
MM_MUST_CHECK
mm_status_t mm_paging_map_direct(struct mm_pagetable *pt, struct mm_bootmap *map,
                                 const struct mm_physmap *physmap,
                                 const struct mm_boot_section *sections, uint32_t nr_sections);

/* --- asking ----------------------------------------------------------------------------------- */

/**
 * Counts of tables and leaves.
 *
 * @param[out] out  untouched on error
 * @return MM_OK | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null)
 * Locks:  the owner's. Cost: O(1).
 */
MM_MUST_CHECK
mm_status_t mm_paging_get_stats(const struct mm_pagetable *pt, struct mm_paging_stats *out);

/**
 * Walk all tables of its own: every entry is well formed, no leaf of the kernel is open to the user
 * and no user leaf the kernel's, no table of ours is empty (but in a declared range where
 * mm_paging_slot_cas() emptied slots since it was last reclaimed), and there are as many tables,
 * leaves and soft slots as were counted (so none is shared). A user root has the kernel's entries,
 * and nothing hangs in a root where nothing was declared. The two roots of a pair say the same, and
 * a kernel root with pairs has no global leaf. Each contradiction is one line to the log op.
 *
 * @return MM_OK | MM_ERR_CORRUPTED | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null)
 * Locks:  the owner's. Sleeps: never.
 * Cost:   one load for each slot of each table.
 */
MM_MUST_CHECK
mm_status_t mm_paging_check(const struct mm_pagetable *pt);

/** dump: what is not mapped in the declared ranges is shown as well */
#define MM_PAGING_DUMP_HOLES 1u

/**
 * Print the layout through the log op: which root, one line for each run of equal attributes
 * (range, its size, size of its leaves, permissions, type, what physical memory; of soft slots:
 * guard, or the kind; permissions are r read, w write, x execute, u user, g global), and a line of
 * totals. Leaves are whole, also where they stick out of the range.
 *
 * @param flags  MM_PAGING_DUMP_HOLES
 * @return as mm_paging_walk(), and MM_ERR_INVALID_FLAGS
 * Locks:  the owner's. Sleeps: never.
 * Cost:   as mm_paging_walk(), and a line a run.
 */
MM_MUST_CHECK
mm_status_t mm_paging_dump(const struct mm_pagetable *pt, struct mm_vrange range, uint32_t flags);

/* --- page faults, for every architecture ------------------------------------------------------ */

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
