// SPDX-License-Identifier: MIT
/**
 * Address spaces: what a process, or the kernel itself, sees of memory.
 *
 * A space is a root of page tables and a tree of *regions*; a region is a range of pages with one
 * protection. Mapping makes a region and no pages; the first touch faults, and mm_space_fault()
 * puts a zeroed frame there. A clone shares all frames with its parent, read-only in both, until
 * one of them writes. For private memory the page tables are the truth: what is not in them has not
 * been touched.
 *
 *     space ──> regions (tree by address: who may do what where)
 *       └─────> page table (which frame is where now)
 *
 * Spaces are reference-counted handles, made by a *manager* (struct mm_spaces), which knows where
 * frames, tables and nodes come from. The last put of a space returns every frame, table and root.
 *
 * What a space may hold is mm_space_range(): for a user space the user range of the kernel's root,
 * but for page 0 (so that null faults) and the last page (a SYSCALL that ends there would return to
 * an address that is not canonical, and SYSRET faults on it in ring 0 on Intel: SDM vol. 2B).
 * The kernel's own space has no lazy pages: its regions are populated when they are mapped, because
 * a kernel that faults in its own fault handler has no way out.
 *
 * Locking: each space has one spin lock, taken by every call on it but get, put, range and id;
 * clone holds the parent's, and the child is nobody else's yet. The kernel's root is edited under
 * the kernel space's lock alone as long as that space exists. Calls may be made on any CPU, not
 * from interrupt handlers that may interrupt a call on the same space. None sleeps.
 */
#ifndef MM_SPACE_H
#define MM_SPACE_H

#include <mm/cache.h>
#include <mm/paging.h>
#include <mm/tlb.h>

MM_BEGIN_DECLS

struct mm_space;

/* --- the manager ------------------------------------------------------------------------------ */

struct mm_spaces_config {
    struct mm_frames *frames;         /**< user frames; needs MM_FRAMES_REFCOUNTS */
    const struct mm_physmap *physmap; /**< copied: a direct map of all that `frames` manages */
    struct mm_pagetable *kernel; /**< the kernel's root, with a user range; outlives the manager */
    struct mm_pool *pool;        /**< nodes of regions and spaces; outlives the manager */
    struct mm_platform platform;
    /**
     * Where the kernel's own space maps: page-aligned, inside one declared kernel range, and used
     * by nobody else. Length 0: there is no kernel space.
     */
    struct mm_vrange kernel_range;
};

/** Makes spaces. Storage is the caller's; fields are the library's. */
struct mm_spaces {
    uint32_t magic;
    uint32_t nr_spaces; /**< atomic: user spaces alive */
    struct mm_frames *frames;
    struct mm_physmap physmap;
    struct mm_pagetable *kernel_table;
    struct mm_platform platform;
    struct mm_cache space_cache;
    struct mm_cache region_cache;
    struct mm_space *kernel_space;
    struct mm_vrange user_range; /**< what a user space may hold; length 0: no user spaces */
    uint64_t next_id;            /**< atomic */
};

/**
 * Make a manager, and the kernel's own space if there is a range for it.
 *
 * @param spaces  zeroed storage
 * @param config  the source of the kernel's root must take its frames from `frames`, and give them
 *                back there
 * @return MM_OK | MM_ERR_ALREADY_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null; a user root as
 *         `kernel`; a physmap that exceeds 2^64) | MM_ERR_NOT_INITIALIZED (frames, kernel, pool)
 *         | MM_ERR_UNSUPPORTED (frames without counts or without a physmap; physmap with ops)
 *         | MM_ERR_NOT_ALIGNED (kernel_range) | MM_ERR_INVALID_ADDRESS (kernel_range: not in one
 *         kernel range; physmap: does not reach all frames) | MM_ERR_NO_MEMORY
 * Owner:  frames, kernel and pool outlive the manager.
 * Locks:  none; one CPU. Sleeps: never.
 * Cost:   O(1).
 */
MM_MUST_CHECK
mm_status_t mm_spaces_init(struct mm_spaces *spaces, const struct mm_spaces_config *config);

/**
 * Take the manager down, the kernel's space included: all of its regions are unmapped.
 *
 * @return MM_OK | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null) | MM_ERR_BUSY (a user
 *         space is alive, or a reference to the kernel's: nothing was done)
 * Locks:  none; no other CPU uses the manager. Sleeps: never.
 * Cost:   O(regions and pages of the kernel's space).
 */
MM_MUST_CHECK
mm_status_t mm_spaces_destroy(struct mm_spaces *spaces);

struct mm_spaces_stats {
    uint32_t nr_spaces;      /**< user spaces alive */
    uint32_t nr_kernel_refs; /**< references to the kernel's space that are not the manager's own */
    uint32_t nr_caches;      /**< object caches that the manager has in its pool */
};

/**
 * Counts of what is alive.
 *
 * @param[out] out  untouched on error
 * @return MM_OK | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null)
 * Locks:  none; any context. Cost: O(1).
 */
MM_MUST_CHECK
mm_status_t mm_spaces_get_stats(const struct mm_spaces *spaces, struct mm_spaces_stats *out);

/* --- spaces ----------------------------------------------------------------------------------- */

/**
 * A user space with no region and a reference count of 1.
 *
 * @param[out] out  untouched on error
 * @return MM_OK | MM_ERR_NO_MEMORY | MM_ERR_NOT_INITIALIZED | MM_ERR_INVALID_ARGUMENT (null)
 *         | MM_ERR_UNSUPPORTED (the kernel's root has no user range, or one of less than four
 *         pages) | MM_ERR_FAULT (a frame that cannot be a root) | what the source of the kernel's
 *         root answers
 * Owner:  the caller, of one reference: mm_space_put().
 * Locks:  none. Sleeps: never.
 * Cost:   one frame for the root.
 */
MM_MUST_CHECK
mm_status_t mm_space_create(struct mm_spaces *spaces, struct mm_space **out);

/**
 * The kernel's own space. Lives as long as the manager, which holds a reference.
 *
 * @return NULL if there is none, or the manager is null or not initialised
 * Owner:  the manager; mm_space_get() for a reference of one's own.
 * Locks:  none; any context. Cost: O(1).
 */
struct mm_space *mm_space_kernel(struct mm_spaces *spaces);

/**
 * One more reference; the count saturates, and then the space lives for ever. Panics if the space
 * has none; null is an illegal instruction.
 *
 * Locks:  none; any context. Cost: O(1).
 */
void mm_space_get(struct mm_space *space);

/**
 * One reference less; the last one unmaps everything and returns every frame, table and root.
 * The space must then not be active on any CPU. Panics if the space has no reference, if it is
 * active on this CPU, or with a tlb on any, or if the reference to the kernel's space is the
 * manager's; null is an illegal instruction.
 *
 * @return true if this was the last
 * Locks:  none; the space's not held. Sleeps: never.
 * Cost:   O(1); the last one O(regions + touched pages).
 */
bool mm_space_put(struct mm_space *space);

/**
 * Make it the space that this CPU runs in. To leave it for none: mm_paging_leave() of the kernel's
 * root.
 *
 * @return MM_OK | MM_ERR_INVALID_ARGUMENT (null) | MM_ERR_NOT_INITIALIZED (this CPU is not online in
 *         the tlb of the kernel's root)
 * Owner:  the caller keeps a reference as long as the space is active.
 * Locks:  the space's; none if the kernel's root has a tlb, and then as mm_paging_activate().
 * Cost:   one load of the root register.
 */
MM_MUST_CHECK
mm_status_t mm_space_activate(struct mm_space *space);

/**
 * The space's page table, to look at; whoever edits it holds no region there.
 *
 * @return NULL for no space
 * Owner:  the space.
 * Locks:  none; any context. Cost: O(1).
 */
struct mm_pagetable *mm_space_table(struct mm_space *space);

/**
 * What the space may hold; regions lie in it.
 *
 * @return an empty range for no space
 * Locks:  none; any context. Cost: O(1).
 */
struct mm_vrange mm_space_range(const struct mm_space *space);

/**
 * A number that no other space of this manager ever has; the kernel's space has 0.
 *
 * @return UINT64_MAX for no space
 * Locks:  none; any context. Cost: O(1).
 */
uint64_t mm_space_id(const struct mm_space *space);

/* --- regions ---------------------------------------------------------------------------------- */

/** Flags of mm_space_map(). */
#define MM_SPACE_FIXED    1u /**< exactly at `at`; MM_ERR_ALREADY_MAPPED if a region is there */
#define MM_SPACE_POPULATE 2u /**< fault every page in now; implied in the kernel's space */
/** No access and no page, ever: faults are MM_FAULT_SIGNAL_ACCESS; prot must be MM_PROT_NONE. */
#define MM_SPACE_GUARD     4u
#define MM_SPACE_FLAGS_ALL 7u

struct mm_space_request {
    mm_vaddr_t at; /**< page-aligned; where to map, or to look first; 0 without FIXED: anywhere */
    uint64_t len;  /**< bytes; rounded up to pages */
    /**
     * READ, WRITE, EXEC in any combination, or NONE; USER and GLOBAL are the library's business.
     * What may be written or executed may be read.
     */
    mm_prot_t prot;
    uint32_t flags; /**< MM_SPACE_... */
    uint64_t align; /**< bytes, a power of two >= 4096: the address is a multiple; 0: 4096 */
    uint64_t tag;   /**< kept with the region; regions with different tags do not merge */
};

/** A region as it is reported. */
struct mm_region_info {
    struct mm_vrange range;
    mm_prot_t prot; /**< READ, WRITE, EXEC */
    uint32_t flags; /**< MM_SPACE_GUARD or 0 */
    uint64_t tag;
};

/**
 * Map private anonymous memory, all of it or none, POPULATE included.
 *
 * Without FIXED the hint `at` is taken if the range is free there, else the lowest gap that fits.
 * Neighbours that agree in everything merge. POPULATE has no effect without READ, WRITE or EXEC.
 *
 * @param[out] out  first address; untouched on error
 * @return MM_OK | MM_ERR_ALREADY_MAPPED (FIXED; in the kernel's space also if somebody else mapped
 *         a page there) | MM_ERR_REGION_NOT_FOUND (no gap is large enough) | MM_ERR_INVALID_SIZE
 *         (len 0, or it rounds past 2^64) | MM_ERR_INVALID_ADDRESS (FIXED: outside the space's
 *         range, e.g. page 0 of a user space) | MM_ERR_NOT_ALIGNED (at, align)
 *         | MM_ERR_INVALID_FLAGS (flags, prot) | MM_ERR_INVALID_ARGUMENT (null) | MM_ERR_NO_MEMORY;
 *         where pages are put there at once, also MM_ERR_FAULT (a frame that cannot be a table, or
 *         cannot be zeroed) | MM_ERR_PERMISSION_DENIED (as for mm_paging_map()) | what the source
 *         of the kernel's root answers
 * Owner:  the space, until mm_space_unmap(). Contents: zero.
 * Locks:  the space's. Sleeps: never.
 * Cost:   O(log regions), and with a larger `align` a step for each gap that is large enough and
 *         wrongly aligned; with POPULATE a fault for each page.
 */
MM_MUST_CHECK
mm_status_t mm_space_map(struct mm_space *space, const struct mm_space_request *request,
                         mm_vaddr_t *out);

/**
 * Remove all regions, and parts of regions, in the range; holes are passed over. Frames are
 * released after the flush.
 *
 * @param range  page-aligned start; length rounded up to pages
 * @return MM_OK | MM_ERR_NOT_ALIGNED | MM_ERR_INVALID_SIZE (0, or wraps) | MM_ERR_INVALID_ADDRESS
 *         (outside the space's range) | MM_ERR_INVALID_ARGUMENT (null) | MM_ERR_NO_MEMORY (a region
 *         must be split and there is no node)
 * Locks:  the space's. Sleeps: never.
 * Cost:   O(log regions + regions removed + touched pages), one flush.
 */
MM_MUST_CHECK
mm_status_t mm_space_unmap(struct mm_space *space, struct mm_vrange range);

/**
 * Give every page of the range this protection. Pages shared by copy-on-write stay read-only until
 * they are written.
 *
 * @param range  as for mm_space_unmap()
 * @return as mm_space_unmap(), and MM_ERR_NOT_MAPPED (a hole in the range)
 *         | MM_ERR_PERMISSION_DENIED (a guard region; if there are both a hole and a guard, what
 *         comes first) | MM_ERR_INVALID_FLAGS (prot)
 * Locks:  the space's. Sleeps: never.
 * Cost:   O(log regions + regions and touched pages in the range), one flush.
 */
MM_MUST_CHECK
mm_status_t mm_space_protect(struct mm_space *space, struct mm_vrange range, mm_prot_t prot);

/**
 * The region that contains an address.
 *
 * @param[out] out  untouched on error
 * @return MM_OK | MM_ERR_REGION_NOT_FOUND | MM_ERR_INVALID_ARGUMENT (null)
 * Locks:  the space's. Sleeps: never.
 * Cost:   O(log regions).
 */
MM_MUST_CHECK
mm_status_t mm_space_find(struct mm_space *space, mm_vaddr_t at, struct mm_region_info *out);

/**
 * The first region that ends above an address: iteration, as with mm_bootmap_next().
 *
 * @param[out] out  untouched on error
 * @return MM_OK | MM_ERR_REGION_NOT_FOUND (no more) | MM_ERR_INVALID_ARGUMENT (null)
 * Locks:  the space's. Sleeps: never.
 * Cost:   O(log regions).
 */
MM_MUST_CHECK
mm_status_t mm_space_next(struct mm_space *space, mm_vaddr_t from, struct mm_region_info *out);

/* --- faults ----------------------------------------------------------------------------------- */

/** What became of a fault. */
enum mm_fault_result {
    MM_FAULT_MINOR = 0,   /**< nothing was to do: a stale or spurious fault; go on */
    MM_FAULT_ZERO = 1,    /**< a zeroed frame was put there; go on */
    MM_FAULT_COW = 2,     /**< a private copy was made, or the last sharer took the frame; go on */
    MM_FAULT_PENDING = 3, /**< a pager works on it (not in this version) */
    MM_FAULT_SIGNAL_MAP = 4,    /**< no region there: a Unix would send SIGSEGV, SEGV_MAPERR */
    MM_FAULT_SIGNAL_ACCESS = 5, /**< the region forbids it: SIGSEGV, SEGV_ACCERR */
    MM_FAULT_SIGNAL_BUS = 6,    /**< the object ends before it: SIGBUS (not in this version) */
    MM_FAULT_NO_MEMORY = 7,     /**< no frame: reclaim or kill, then retry */
    MM_FAULT_CORRUPT = 8,       /**< a reserved bit was set in a table */
};

#define MM_FAULT_COUNT 9

/**
 * Handle a page fault. Progress is guaranteed: a fault answered "go on" does not come again for the
 * same reason.
 *
 * One sort of fault is not for this call, because no table tells of it: with SMAP, an access of the
 * kernel to user memory while EFLAGS.AC is clear. The kernel's handler knows (mode, AC), and treats
 * it as a fault of the kernel. An instruction fetch by the kernel from a user page is
 * MM_FAULT_SIGNAL_ACCESS here, with SMEP or without.
 *
 * @param[out] out  what became of it; untouched on error
 * @return MM_OK | MM_ERR_INVALID_ARGUMENT (null, unknown flags)
 * Locks:  the space's. Interrupts as the caller likes. Sleeps: never.
 * Cost:   O(log regions), one walk, and the zeroing or copying of a page.
 */
MM_MUST_CHECK
mm_status_t mm_space_fault(struct mm_space *space, const struct mm_fault *fault,
                           enum mm_fault_result *out);

/* --- clone ------------------------------------------------------------------------------------ */

/**
 * A copy-on-write copy of a user space: what fork() needs. One flush of the parent. On error the
 * parent is as it was, its page table included.
 *
 * @param[out] out  the child, reference count 1; untouched on error
 * @return MM_OK | MM_ERR_NO_MEMORY | MM_ERR_INVALID_ARGUMENT (null, or the kernel's space)
 *         | MM_ERR_FAULT (a frame that cannot be a table) | what the source of the kernel's root
 *         answers
 * Owner:  the caller, of one reference to the child.
 * Locks:  the parent's. Sleeps: never.
 * Cost:   O(regions + touched pages).
 */
MM_MUST_CHECK
mm_status_t mm_space_clone(struct mm_space *space, struct mm_space **out);

/* --- asking ----------------------------------------------------------------------------------- */

struct mm_space_stats {
    uint64_t id;
    uint64_t mapped_bytes;   /**< in regions */
    uint64_t resident_bytes; /**< in frames */
    uint64_t nr_regions;
    uint64_t nr_tables; /**< of the page table; for the kernel's space, of the kernel's root */
    uint64_t nr_faults[MM_FAULT_COUNT]; /**< by enum mm_fault_result */
    uint32_t refs;
};

/**
 * Sizes and counts, of one moment.
 *
 * @param[out] out  untouched on error
 * @return MM_OK | MM_ERR_INVALID_ARGUMENT (null)
 * Locks:  the space's. Cost: O(1); for the kernel's space O(regions).
 */
MM_MUST_CHECK
mm_status_t mm_space_get_stats(struct mm_space *space, struct mm_space_stats *out);

/**
 * Walk tree and tables: order, balance, gaps, no page outside a region, no right that its region
 * lacks, every frame allocated and counted. Each contradiction is one line to the log op.
 *
 * @return MM_OK | MM_ERR_CORRUPTED | MM_ERR_INVALID_ARGUMENT (null)
 * Locks:  the space's. Sleeps: never.
 * Cost:   O(regions + slots of all tables).
 */
MM_MUST_CHECK
mm_status_t mm_space_check(struct mm_space *space);

MM_END_DECLS

#endif
